/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A PCI device assigned to this process, with an address space of its own.
 *
 * The two interfaces that assign a device, VFIO's type 1 container with groups
 * and iommufd with VFIO's device files, look alike behind struct assigned_ops.
 * Each function returns 0, or -1 after it has printed what failed.
 */
#ifndef ASSIGNED_H
#define ASSIGNED_H

#include <stddef.h>
#include <stdint.h>

enum assigned_access {
	ASSIGNED_READ,
	ASSIGNED_READ_WRITE,
};

struct assigned {
	const struct assigned_ops *ops;
	/* A VFIO device file: regions, configuration space */
	int device;
	/* What maps memory: a container, or an iommufd */
	int mapper;
	/* VFIO's group, if there is one */
	int group;
	/* The address space inside an iommufd, and the device as it knows it */
	uint32_t ioas;
	uint32_t device_id;
};

struct assigned_ops {
	const char *name;
	int (*open)(struct assigned *assigned, const char *bdf);
	int (*map)(struct assigned *assigned, uint64_t iova, void *memory, size_t len,
		   enum assigned_access access);
	int (*unmap)(struct assigned *assigned, uint64_t iova, size_t len);
};

extern const struct assigned_ops assigned_type1;
extern const struct assigned_ops assigned_iommufd;

/* The interface of that name, or NULL */
const struct assigned_ops *assigned_find(const char *name);

/* Let the device do DMA, and map its BAR 0. NULL after printing what failed. */
void *assigned_start(const struct assigned *assigned);

/* Have the device's interrupts signalled by messages. An eventfd that counts them, or -1. */
int assigned_enable_msi(const struct assigned *assigned);

#endif
