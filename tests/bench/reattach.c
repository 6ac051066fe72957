// SPDX-License-Identifier: GPL-2.0
/*
 * reattach BDF MAPPINGS...
 *
 * Attach a device to an address space that has so many mappings already, for
 * each of these numbers. It must be 1, 1,000 or a multiple of it.
 *
 * With WATCH=1 in the environment, and iommu_cost.ko loaded, tell for how long
 * interrupts were disabled in one go.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mark.h"
#include "memory.h"

/* Pages of an area: each is a mapping, as no two are neighbours. */
#define AREA_PAGES	1000
#define IOVA		(1UL << 36)

#define REPETITIONS	4

static int iommufd, device;
static uint32_t device_id;

static void check(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

static int open_device(const char *bdf)
{
	char directory[128], path[300] = "";
	struct dirent *entry;
	DIR *dir;

	snprintf(directory, sizeof(directory), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	dir = opendir(directory);
	check(dir ? 0 : -1, directory);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
	}
	closedir(dir);
	return open(path, O_RDWR);
}

static void assign(const char *bdf)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };

	iommufd = open("/dev/iommu", O_RDWR);
	check(iommufd, "/dev/iommu");
	device = open_device(bdf);
	check(device, bdf);
	bind.iommufd = iommufd;
	check(ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind), "VFIO_DEVICE_BIND_IOMMUFD");
	device_id = bind.out_devid;
}

/* An address space with that many areas, and a domain that has its mappings. */
static uint32_t make_domain(char *memory, unsigned int areas, size_t len)
{
	struct iommu_hwpt_alloc domain = { .size = sizeof(domain), .dev_id = device_id };
	struct iommu_ioas_alloc space = { .size = sizeof(space) };

	check(ioctl(iommufd, IOMMU_IOAS_ALLOC, &space), "IOMMU_IOAS_ALLOC");
	for (unsigned int i = 0; i < areas; i++) {
		struct iommu_ioas_map map = {
			.size = sizeof(map),
			.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
				 IOMMU_IOAS_MAP_WRITEABLE,
			.ioas_id = space.out_ioas_id,
			.user_va = (uintptr_t)memory,
			.length = len,
			/* An empty page between any two areas */
			.iova = IOVA + i * (len + getpagesize()),
		};

		check(ioctl(iommufd, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP");
	}
	domain.pt_id = space.out_ioas_id;
	check(ioctl(iommufd, IOMMU_HWPT_ALLOC, &domain), "IOMMU_HWPT_ALLOC");
	return domain.out_hwpt_id;
}

static FILE *open_watch(const char *mode)
{
	FILE *watch = fopen("/sys/module/iommu_cost/parameters/irqs_off", mode);

	check(watch ? 0 : -1, "iommu_cost.ko");
	return watch;
}

static void start_watch(void)
{
	FILE *watch = open_watch("w");

	fputs("1", watch);
	check(fclose(watch), "irqs_off");
}

static unsigned long long stop_watch(void)
{
	FILE *watch = open_watch("r");
	unsigned long long longest;

	check(fscanf(watch, "%llu", &longest) == 1 ? 0 : -1, "irqs_off");
	fclose(watch);
	return longest;
}

static uint64_t attach(uint32_t domain)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = domain,
	};
	uint64_t before = counter();

	check(ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach), "ATTACH_IOMMUFD_PT");
	return counter() - before;
}

static void detach(void)
{
	struct vfio_device_detach_iommufd_pt detach = { .argsz = sizeof(detach) };

	check(ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach), "DETACH_IOMMUFD_PT");
}

static void measure(unsigned long mappings, uint32_t domain)
{
	bool is_watched = getenv("WATCH");
	uint64_t least = UINT64_MAX, cost;

	/* The least counts: the others have an interrupt of the timer in them. */
	for (int i = 0; mappings <= AREA_PAGES && i < REPETITIONS; i++) {
		cost = attach(domain);
		detach();
		least = cost < least ? cost : least;
	}
	if (is_watched)
		start_watch();
	mark_begin();
	cost = attach(domain);
	mark_end();
	printf("bench: reattach-%lu", mappings);
	if (is_watched)
		printf("-watched irqs_off=%llu", stop_watch());
	printf(" total=%llu\n", (unsigned long long)(cost < least ? cost : least));
	detach();
}

int main(int argc, char **argv)
{
	size_t page = getpagesize();
	char *memory;

	if (argc < 3) {
		fprintf(stderr, "usage: reattach BDF MAPPINGS...\n");
		return 2;
	}
	assign(argv[1]);
	memory = memory_scattered(AREA_PAGES * page);
	if (!memory)
		return 1;
	for (int i = 2; i < argc; i++) {
		unsigned long mappings = strtoul(argv[i], NULL, 10);
		unsigned long pages = mappings < AREA_PAGES ? mappings : AREA_PAGES;

		measure(mappings, make_domain(memory, mappings / pages, pages * page));
	}
	return 0;
}
