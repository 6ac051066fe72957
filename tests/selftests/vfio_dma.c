// SPDX-License-Identifier: GPL-2.0
/*
 * A device assigned to userspace reaches what was mapped for it, nothing else.
 *
 *   vfio_dma type1|iommufd BDF [ADDRESS]
 *
 * BDF is a QEMU edu device, bound to vfio-pci. ADDRESS is the IO address of the
 * page that is mapped for it; physical memory must not lie there. The memory that the device must
 * not reach is addressed by its physical address: the bus address that would
 * reach it if the device were not translated.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assigned.h"
#include "edu.h"
#include "kselftest.h"
#include "physmem.h"

/* Above the memory of the guests that the tests boot. */
#define DEFAULT_IOVA	0x400000000ULL
#define TRANSFER	256
#define UNTOUCHED	0xa5

static struct assigned assigned;
static struct edu edu;
static uint64_t iova = DEFAULT_IOVA;
static size_t page_size;
/* Mapped for the device, and not */
static uint8_t *page, *other;
static uint64_t other_physical;

static bool map(enum assigned_access access)
{
	return !assigned.ops->map(&assigned, iova, page, page_size, access);
}

static bool unmap(void)
{
	return !assigned.ops->unmap(&assigned, iova, page_size);
}

static bool all_bytes_are(const uint8_t *bytes, uint8_t value)
{
	for (size_t i = 0; i < TRANSFER; i++) {
		if (bytes[i] != value) {
			ksft_print_msg("byte %zu is %#x, not %#x\n", i, bytes[i], value);
			return false;
		}
	}
	return true;
}

/* The device copies one half of the mapped page to the other. */
static bool mapped_page_is_read_and_written(void)
{
	uint8_t *source = page, *target = page + page_size / 2;

	physmem_pattern(source, TRANSFER, 1);
	memset(target, 0, TRANSFER);
	return map(ASSIGNED_READ_WRITE) &&
	       !edu_read_memory(&edu, iova, TRANSFER) &&
	       !edu_write_memory(&edu, iova + page_size / 2, TRANSFER) &&
	       !memcmp(source, target, TRANSFER);
}

static bool unmapped_memory_is_not_written(void)
{
	memset(other, UNTOUCHED, TRANSFER);
	return !edu_write_memory(&edu, other_physical, TRANSFER) &&
	       all_bytes_are(other, UNTOUCHED);
}

/* What the device holds after it was told to read a secret goes to the mapped page. */
static bool unmapped_memory_is_not_read(void)
{
	physmem_pattern(other, TRANSFER, 99);
	memset(page, 0, TRANSFER);
	return !edu_read_memory(&edu, other_physical, TRANSFER) &&
	       !edu_write_memory(&edu, iova, TRANSFER) &&
	       memcmp(page, other, TRANSFER);
}

static bool page_is_not_written_after_unmap(void)
{
	memset(page, UNTOUCHED, TRANSFER);
	return unmap() &&
	       !edu_write_memory(&edu, iova, TRANSFER) &&
	       all_bytes_are(page, UNTOUCHED);
}

static bool read_only_page_is_not_written(void)
{
	memset(page, UNTOUCHED, TRANSFER);
	return map(ASSIGNED_READ) &&
	       !edu_write_memory(&edu, iova, TRANSFER) &&
	       all_bytes_are(page, UNTOUCHED) &&
	       unmap();
}

static bool page_is_reached_after_mapping_it_again(void)
{
	return mapped_page_is_read_and_written() && unmap();
}

static void setup(const char *interface, const char *bdf)
{
	assigned.ops = assigned_find(interface);
	if (!assigned.ops)
		ksft_exit_fail_msg("no such interface: %s\n", interface);

	page_size = getpagesize();
	page = physmem_alloc_page();
	other = physmem_alloc_page();
	if (!page || !other)
		ksft_exit_fail_msg("no memory\n");
	other_physical = physmem_address(other);
	if (!other_physical)
		ksft_exit_fail_msg("no physical address\n");

	if (assigned.ops->open(&assigned, bdf))
		ksft_exit_fail_msg("%s cannot be assigned\n", bdf);
	edu.registers = assigned_start(&assigned);
	if (!edu.registers || edu_check(&edu))
		ksft_exit_fail_msg("%s cannot be used\n", bdf);
}

int main(int argc, char **argv)
{
	ksft_print_header();
	if (argc != 3 && argc != 4)
		ksft_exit_fail_msg("usage: vfio_dma type1|iommufd BDF [ADDRESS]\n");
	if (argc == 4)
		iova = strtoull(argv[3], NULL, 0);
	ksft_set_plan(6);
	setup(argv[1], argv[2]);

	ksft_test_result(mapped_page_is_read_and_written(), "a mapped page is read and written\n");
	ksft_test_result(unmapped_memory_is_not_written(), "unmapped memory is not written\n");
	ksft_test_result(unmapped_memory_is_not_read(), "unmapped memory is not read\n");
	ksft_test_result(page_is_not_written_after_unmap(),
			 "a page is not written after it was unmapped\n");
	ksft_test_result(read_only_page_is_not_written(), "a read-only page is not written\n");
	ksft_test_result(page_is_reached_after_mapping_it_again(),
			 "a page mapped again is read and written\n");
	ksft_finished();
}
