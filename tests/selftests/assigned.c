// SPDX-License-Identifier: GPL-2.0
/* What a device assigned to this process has in common however it was assigned. */
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "assigned.h"

const struct assigned_ops *assigned_find(const char *name)
{
	if (!strcmp(name, assigned_type1.name))
		return &assigned_type1;
	if (!strcmp(name, assigned_iommufd.name))
		return &assigned_iommufd;
	return NULL;
}

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

void *assigned_start(const struct assigned *assigned)
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

static int set_msi(const struct assigned *assigned, int32_t event)
{
	struct vfio_irq_set *set;
	int ret;

	set = calloc(1, sizeof(*set) + sizeof(event));
	if (!set)
		return -1;
	set->argsz = sizeof(*set) + sizeof(event);
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	set->index = VFIO_PCI_MSI_IRQ_INDEX;
	set->count = 1;
	memcpy(set->data, &event, sizeof(event));

	ret = ioctl(assigned->device, VFIO_DEVICE_SET_IRQS, set);
	if (ret)
		perror("VFIO_DEVICE_SET_IRQS");
	free(set);
	return ret;
}

int assigned_enable_msi(const struct assigned *assigned)
{
	int event;

	event = eventfd(0, EFD_CLOEXEC);
	if (event < 0) {
		perror("eventfd");
		return -1;
	}
	if (!set_msi(assigned, event))
		return event;
	close(event);
	return -1;
}
