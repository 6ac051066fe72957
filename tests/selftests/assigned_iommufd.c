// SPDX-License-Identifier: GPL-2.0
/* Assignment through iommufd and VFIO's device file. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "assigned.h"

static int device_file_open(const char *bdf)
{
	char directory[128], path[300] = "";
	struct dirent *entry;
	DIR *dir;
	int fd;

	snprintf(directory, sizeof(directory), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	dir = opendir(directory);
	if (!dir) {
		perror(directory);
		return -1;
	}
	while ((entry = readdir(dir))) {
		if (!strncmp(entry->d_name, "vfio", 4))
			snprintf(path, sizeof(path), "/dev/vfio/devices/%s", entry->d_name);
	}
	closedir(dir);

	fd = open(path, O_RDWR);
	if (fd < 0)
		perror(path);
	return fd;
}

static int iommufd_open(struct assigned *assigned, const char *bdf)
{
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

	assigned->mapper = open("/dev/iommu", O_RDWR);
	if (assigned->mapper < 0) {
		perror("/dev/iommu");
		return -1;
	}
	assigned->device = device_file_open(bdf);
	if (assigned->device < 0)
		return -1;

	bind.iommufd = assigned->mapper;
	if (ioctl(assigned->device, VFIO_DEVICE_BIND_IOMMUFD, &bind)) {
		perror("VFIO_DEVICE_BIND_IOMMUFD");
		return -1;
	}
	assigned->device_id = bind.out_devid;
	if (ioctl(assigned->mapper, IOMMU_IOAS_ALLOC, &alloc)) {
		perror("IOMMU_IOAS_ALLOC");
		return -1;
	}
	assigned->ioas = alloc.out_ioas_id;

	attach.pt_id = assigned->ioas;
	if (ioctl(assigned->device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach)) {
		perror("VFIO_DEVICE_ATTACH_IOMMUFD_PT");
		return -1;
	}
	return 0;
}

static int iommufd_map(struct assigned *assigned, uint64_t iova, void *memory, size_t len,
		       enum assigned_access access)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
		.ioas_id = assigned->ioas,
		.user_va = (uintptr_t)memory,
		.length = len,
		.iova = iova,
	};

	if (access == ASSIGNED_READ_WRITE)
		map.flags |= IOMMU_IOAS_MAP_WRITEABLE;
	if (ioctl(assigned->mapper, IOMMU_IOAS_MAP, &map)) {
		perror("IOMMU_IOAS_MAP");
		return -1;
	}
	return 0;
}

static int iommufd_unmap(struct assigned *assigned, uint64_t iova, size_t len)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
		.ioas_id = assigned->ioas,
		.iova = iova,
		.length = len,
	};

	if (ioctl(assigned->mapper, IOMMU_IOAS_UNMAP, &unmap)) {
		perror("IOMMU_IOAS_UNMAP");
		return -1;
	}
	if (unmap.length != len) {
		fprintf(stderr, "IOMMU_IOAS_UNMAP unmapped %llu bytes of %zu\n",
			(unsigned long long)unmap.length, len);
		return -1;
	}
	return 0;
}

const struct assigned_ops assigned_iommufd = {
	.name = "iommufd",
	.open = iommufd_open,
	.map = iommufd_map,
	.unmap = iommufd_unmap,
};
