// SPDX-License-Identifier: GPL-2.0
/* Assignment through VFIO's type 1 container and the device's group. */
#include <fcntl.h>
#include <libgen.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "assigned.h"

static int group_open(const char *bdf)
{
	char link[128], target[256], path[300];
	ssize_t len;
	int fd;

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	len = readlink(link, target, sizeof(target) - 1);
	if (len < 0) {
		perror(link);
		return -1;
	}
	target[len] = '\0';

	snprintf(path, sizeof(path), "/dev/vfio/%s", basename(target));
	fd = open(path, O_RDWR);
	if (fd < 0)
		perror(path);
	return fd;
}

static int type1_open(struct assigned *assigned, const char *bdf)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };

	assigned->mapper = open("/dev/vfio/vfio", O_RDWR);
	if (assigned->mapper < 0) {
		perror("/dev/vfio/vfio");
		return -1;
	}
	assigned->group = group_open(bdf);
	if (assigned->group < 0)
		return -1;

	if (ioctl(assigned->group, VFIO_GROUP_GET_STATUS, &status)) {
		perror("VFIO_GROUP_GET_STATUS");
		return -1;
	}
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		fprintf(stderr, "the group of %s is not viable\n", bdf);
		return -1;
	}
	if (ioctl(assigned->group, VFIO_GROUP_SET_CONTAINER, &assigned->mapper)) {
		perror("VFIO_GROUP_SET_CONTAINER");
		return -1;
	}
	if (ioctl(assigned->mapper, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) {
		perror("VFIO_SET_IOMMU");
		return -1;
	}
	assigned->device = ioctl(assigned->group, VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (assigned->device < 0) {
		perror("VFIO_GROUP_GET_DEVICE_FD");
		return -1;
	}
	return 0;
}

static int type1_map(struct assigned *assigned, uint64_t iova, void *memory, size_t len,
		     enum assigned_access access)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ,
		.vaddr = (uintptr_t)memory,
		.iova = iova,
		.size = len,
	};

	if (access == ASSIGNED_READ_WRITE)
		map.flags |= VFIO_DMA_MAP_FLAG_WRITE;
	if (ioctl(assigned->mapper, VFIO_IOMMU_MAP_DMA, &map)) {
		perror("VFIO_IOMMU_MAP_DMA");
		return -1;
	}
	return 0;
}

static int type1_unmap(struct assigned *assigned, uint64_t iova, size_t len)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = len,
	};

	if (ioctl(assigned->mapper, VFIO_IOMMU_UNMAP_DMA, &unmap)) {
		perror("VFIO_IOMMU_UNMAP_DMA");
		return -1;
	}
	if (unmap.size != len) {
		fprintf(stderr, "VFIO_IOMMU_UNMAP_DMA unmapped %llu bytes of %zu\n",
			(unsigned long long)unmap.size, len);
		return -1;
	}
	return 0;
}

const struct assigned_ops assigned_type1 = {
	.name = "type1",
	.open = type1_open,
	.map = type1_map,
	.unmap = type1_unmap,
};
