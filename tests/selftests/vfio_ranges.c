// SPDX-License-Identifier: GPL-2.0
/*
 * Print the ranges of IO addresses that userspace may map for a device.
 *
 *   vfio_ranges type1|iommufd BDF
 *
 * A line for each: the first and the last address. BDF is bound to vfio-pci.
 */
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <stdbool.h>
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

static int print_type1(const struct assigned *assigned)
{
	struct vfio_iommu_type1_info *info = calloc(1, INFO_SIZE);
	struct vfio_info_cap_header *cap;
	uint32_t offset;

	if (!info)
		return -1;
	info->argsz = INFO_SIZE;
	if (ioctl(assigned->mapper, VFIO_IOMMU_GET_INFO, info)) {
		perror("VFIO_IOMMU_GET_INFO");
		return -1;
	}
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
	bool is_type1 = argc == 3 && !strcmp(argv[1], assigned_type1.name);
	struct assigned assigned = { .ops = is_type1 ? &assigned_type1 : &assigned_iommufd };

	if (argc != 3 || (!is_type1 && strcmp(argv[1], assigned_iommufd.name))) {
		fprintf(stderr, "usage: vfio_ranges type1|iommufd BDF\n");
		return EXIT_FAILURE;
	}
	if (assigned.ops->open(&assigned, argv[2]))
		return EXIT_FAILURE;
	if (is_type1 ? print_type1(&assigned) : print_iommufd(&assigned))
		return EXIT_FAILURE;
	return EXIT_SUCCESS;
}
