// SPDX-License-Identifier: GPL-2.0
/*
 * Print the ranges of IO addresses that userspace may map for a device.
 *
 *   vfio_ranges type1|iommufd BDF
 *   vfio_ranges page-sizes BDF		the bitmap of page sizes, that of type 1
 *
 * A line for each: the first and the last address. BDF is bound to vfio-pci.
 */
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "assigned.h"

#define MAX_RANGES	64
/* As much as the kernel has to say */
#define INFO_SIZE	4096

static void print_range(uint64_t first, uint64_t last)
{
	printf("%#018llx %#018llx\n", (unsigned long long)first, (unsigned long long)last);
}

static struct vfio_iommu_type1_info *type1_info(const struct assigned *assigned)
{
	struct vfio_iommu_type1_info *info = calloc(1, INFO_SIZE);

	if (!info)
		return NULL;
	info->argsz = INFO_SIZE;
	if (ioctl(assigned->mapper, VFIO_IOMMU_GET_INFO, info)) {
		perror("VFIO_IOMMU_GET_INFO");
		return NULL;
	}
	return info;
}

static int print_page_sizes(const struct assigned *assigned)
{
	struct vfio_iommu_type1_info *info = type1_info(assigned);

	if (!info || !(info->flags & VFIO_IOMMU_INFO_PGSIZES))
		return -1;
	printf("%#llx\n", (unsigned long long)info->iova_pgsizes);
	return 0;
}

static int print_type1(const struct assigned *assigned)
{
	struct vfio_iommu_type1_info *info = type1_info(assigned);
	struct vfio_info_cap_header *cap;
	uint32_t offset;

	if (!info)
		return -1;
	for (offset = info->cap_offset; offset; offset = cap->next) {
		struct vfio_iommu_type1_info_cap_iova_range *ranges;

		cap = (void *)((char *)info + offset);
		if (cap->id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
			continue;
		ranges = (void *)cap;
		for (uint32_t i = 0; i < ranges->nr_iovas; i++)
			print_range(ranges->iova_ranges[i].start, ranges->iova_ranges[i].end);
	}
	return 0;
}

static int print_iommufd(const struct assigned *assigned)
{
	struct iommu_iova_range ranges[MAX_RANGES];
	struct iommu_ioas_iova_ranges query = {
		.size = sizeof(query),
		.ioas_id = assigned->ioas,
		.num_iovas = MAX_RANGES,
		.allowed_iovas = (uintptr_t)ranges,
	};

	if (ioctl(assigned->mapper, IOMMU_IOAS_IOVA_RANGES, &query)) {
		perror("IOMMU_IOAS_IOVA_RANGES");
		return -1;
	}
	for (uint32_t i = 0; i < query.num_iovas; i++)
		print_range(ranges[i].start, ranges[i].last);
	return 0;
}

int main(int argc, char **argv)
{
	struct assigned assigned = { .ops = &assigned_type1 };
	int (*print)(const struct assigned *assigned) = NULL;

	if (argc == 3 && !strcmp(argv[1], assigned_type1.name)) {
		print = print_type1;
	} else if (argc == 3 && !strcmp(argv[1], "page-sizes")) {
		print = print_page_sizes;
	} else if (argc == 3 && !strcmp(argv[1], assigned_iommufd.name)) {
		assigned.ops = &assigned_iommufd;
		print = print_iommufd;
	}
	if (!print) {
		fprintf(stderr, "usage: vfio_ranges type1|iommufd|page-sizes BDF\n");
		return EXIT_FAILURE;
	}
	if (assigned.ops->open(&assigned, argv[2]) || print(&assigned))
		return EXIT_FAILURE;
	return EXIT_SUCCESS;
}
