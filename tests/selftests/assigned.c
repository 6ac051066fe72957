// SPDX-License-Identifier: GPL-2.0
/* What a device assigned to this process has in common however it was assigned. */
#include <linux/vfio.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "assigned.h"

#define PCI_COMMAND		4
#define PCI_COMMAND_MEMORY	(1 << 1)
#define PCI_COMMAND_MASTER	(1 << 2)

static int region_info(const struct assigned *assigned, uint32_t index,
		       struct vfio_region_info *info)
{
	*info = (struct vfio_region_info) {
		.argsz = sizeof(*info),
		.index = index,
	};
	if (ioctl(assigned->device, VFIO_DEVICE_GET_REGION_INFO, info)) {
		perror("VFIO_DEVICE_GET_REGION_INFO");
		return -1;
	}
	return 0;
}

static int enable_dma(const struct assigned *assigned)
{
	struct vfio_region_info config;
	uint16_t command;
	off_t where;

	if (region_info(assigned, VFIO_PCI_CONFIG_REGION_INDEX, &config))
		return -1;
	where = config.offset + PCI_COMMAND;
	if (pread(assigned->device, &command, sizeof(command), where) == sizeof(command)) {
		command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
		if (pwrite(assigned->device, &command, sizeof(command), where) == sizeof(command))
			return 0;
	}
	perror("PCI command register");
	return -1;
}

volatile uint8_t *assigned_start(const struct assigned *assigned)
{
	struct vfio_region_info bar;
	void *mapped;

	if (enable_dma(assigned))
		return NULL;
	if (region_info(assigned, VFIO_PCI_BAR0_REGION_INDEX, &bar))
		return NULL;
	mapped = mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, assigned->device,
		      bar.offset);
	if (mapped == MAP_FAILED) {
		perror("mmap of BAR 0");
		return NULL;
	}
	return mapped;
}
