// SPDX-License-Identifier: GPL-2.0
/*
 * Very many domains for one device, or very many mappings in one domain.
 *
 *   vfio_scale domains BDF COUNT
 *   vfio_scale mappings BDF COUNT     a multiple of 1000
 *
 * BDF is a QEMU edu device, bound to vfio-pci. What takes how long is printed.
 */
#define _GNU_SOURCE
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "assigned.h"
#include "edu.h"
#include "kselftest.h"
#include "physmem.h"

/* Above the memory of the guests that the tests boot */
#define IOVA		0x400000000ULL
#define TRANSFER	256
/* Pages of an area. They are the same page, so that no two make one mapping. */
#define AREA_PAGES	1000
/* Of many domains, DMA is tried in one of so many. */
#define TRIED		100

static struct assigned assigned;
static struct edu edu;
static size_t page_size;
static struct timespec started;

static void start_clock(void)
{
	clock_gettime(CLOCK_MONOTONIC, &started);
}

static void print_clock(const char *what, unsigned long count)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ksft_print_msg("cost: %s: %.3f s for %lu\n", what,
		       now.tv_sec - started.tv_sec + (now.tv_nsec - started.tv_nsec) / 1e9, count);
}

static void must(int result, const char *what)
{
	if (result < 0)
		ksft_exit_fail_perror(what);
}

static uint32_t new_space(void)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	must(ioctl(assigned.mapper, IOMMU_IOAS_ALLOC, &alloc), "IOMMU_IOAS_ALLOC");
	return alloc.out_ioas_id;
}

static uint32_t new_domain(uint32_t space)
{
	struct iommu_hwpt_alloc alloc = {
		.size = sizeof(alloc),
		.dev_id = assigned.device_id,
		.pt_id = space,
	};

	must(ioctl(assigned.mapper, IOMMU_HWPT_ALLOC, &alloc), "IOMMU_HWPT_ALLOC");
	return alloc.out_hwpt_id;
}

static void destroy(uint32_t id)
{
	struct iommu_destroy gone = { .size = sizeof(gone), .id = id };

	must(ioctl(assigned.mapper, IOMMU_DESTROY, &gone), "IOMMU_DESTROY");
}

static void map(uint32_t space, uint64_t iova, void *memory, size_t len)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = space,
		.user_va = (uintptr_t)memory,
		.length = len,
		.iova = iova,
	};

	must(ioctl(assigned.mapper, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP");
}

static void attach(uint32_t domain)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = domain,
	};

	must(ioctl(assigned.device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "attach");
}

static void detach(void)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

	must(ioctl(assigned.device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach), "detach");
}

/* Does the device read and write this memory at this address, right now? */
static bool reaches(uint64_t iova, uint8_t *memory, uint8_t seed)
{
	uint8_t expected[TRANSFER];

	physmem_pattern(expected, TRANSFER, seed);
	memcpy(memory, expected, TRANSFER);
	if (edu_read_memory(&edu, iova, TRANSFER))
		return false;
	memset(memory, 0, TRANSFER);
	return !edu_write_memory(&edu, iova, TRANSFER) && !memcmp(memory, expected, TRANSFER);
}

static void test_domains(unsigned long count)
{
	uint32_t *spaces = calloc(count, sizeof(*spaces));
	uint32_t *domains = calloc(count, sizeof(*domains));
	uint8_t *pages = mmap(NULL, count * page_size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	unsigned long wrong = 0, tried = 0;

	if (!spaces || !domains || pages == MAP_FAILED)
		ksft_exit_fail_msg("no memory\n");
	ksft_set_plan(2);

	start_clock();
	for (unsigned long i = 0; i < count; i++) {
		spaces[i] = new_space();
		map(spaces[i], IOVA, pages + i * page_size, page_size);
		domains[i] = new_domain(spaces[i]);
	}
	print_clock("make domains", count);

	start_clock();
	for (unsigned long i = 0; i < count; i++)
		attach(domains[i]);
	print_clock("attach to each", count);

	for (unsigned long i = 0; i < count; i += TRIED, tried++) {
		attach(domains[i]);
		wrong += !reaches(IOVA, pages + i * page_size, i);
	}
	ksft_print_msg("DMA was tried in %lu domains\n", tried);
	ksft_test_result(!wrong, "in each domain the device reaches that domain's memory\n");

	detach();
	start_clock();
	for (unsigned long i = 0; i < count; i++) {
		destroy(domains[i]);
		destroy(spaces[i]);
	}
	print_clock("destroy domains", count);

	spaces[0] = new_space();
	map(spaces[0], IOVA, pages, page_size);
	domains[0] = new_domain(spaces[0]);
	attach(domains[0]);
	ksft_test_result(reaches(IOVA, pages, 1), "a new domain works after that\n");
}

/* An area whose pages are all the same page */
static uint8_t *make_area(void)
{
	uint8_t *area = mmap(NULL, AREA_PAGES * page_size, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int file = memfd_create("page", 0);

	if (area == MAP_FAILED || file < 0 || ftruncate(file, page_size))
		ksft_exit_fail_perror("area");
	for (unsigned int i = 0; i < AREA_PAGES; i++) {
		if (mmap(area + i * page_size, page_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0) == MAP_FAILED)
			ksft_exit_fail_perror("mmap");
	}
	return area;
}

static void test_mappings(unsigned long count)
{
	const unsigned long areas = count / AREA_PAGES;
	const uint64_t stride = (AREA_PAGES + 1) * page_size;
	const uint64_t last = IOVA + (areas - 1) * stride + (AREA_PAGES - 1) * page_size;
	const uint64_t gap = IOVA + AREA_PAGES * page_size;
	uint32_t space = new_space();
	uint8_t *area = make_area();
	uint32_t domain;

	if (!areas || count % AREA_PAGES)
		ksft_exit_fail_msg("%lu is not a multiple of %d\n", count, AREA_PAGES);
	ksft_set_plan(5);

	start_clock();
	for (unsigned long i = 0; i < areas; i++)
		map(space, IOVA + i * stride, area, AREA_PAGES * page_size);
	domain = new_domain(space);
	print_clock("map without an endpoint", count);

	for (unsigned int round = 0; round < 2; round++) {
		start_clock();
		attach(domain);
		print_clock(round ? "attach again" : "attach", count);
		ksft_test_result(reaches(IOVA, area, 1) && reaches(last, area, 2),
				 "attached: the first and the last mapping are reached\n");
		ksft_test_result(!reaches(gap, area, 3), "attached: a gap is not\n");
		start_clock();
		detach();
		print_clock("detach", count);
	}

	attach(domain);
	start_clock();
	for (unsigned long i = 0; i < areas; i++) {
		struct iommu_ioas_unmap unmap = {
			.size = sizeof(unmap),
			.ioas_id = space,
			.iova = IOVA + i * stride,
			.length = AREA_PAGES * page_size,
		};

		must(ioctl(assigned.mapper, IOMMU_IOAS_UNMAP, &unmap), "IOMMU_IOAS_UNMAP");
	}
	print_clock("unmap", count);
	ksft_test_result(!reaches(IOVA, area, 4) && !reaches(last, area, 5),
			 "unmapped: neither is reached\n");
}

int main(int argc, char **argv)
{
	bool is_domains = argc > 1 && !strcmp(argv[1], "domains");
	unsigned long count;

	ksft_print_header();
	if (argc != 4 || (!is_domains && strcmp(argv[1], "mappings")))
		ksft_exit_fail_msg("usage: vfio_scale domains|mappings BDF COUNT\n");
	count = strtoul(argv[3], NULL, 0);
	page_size = getpagesize();

	assigned.ops = &assigned_iommufd;
	if (assigned.ops->open(&assigned, argv[2]))
		ksft_exit_fail_msg("%s cannot be assigned\n", argv[2]);
	edu.registers = assigned_start(&assigned);
	if (!edu.registers || edu_check(&edu))
		ksft_exit_fail_msg("%s cannot be used\n", argv[2]);

	if (is_domains)
		test_domains(count);
	else
		test_mappings(count);
	ksft_finished();
}
