/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef IOMMU_COST_H
#define IOMMU_COST_H

#include <linux/types.h>

/* A multiple of what the flush queue of lazy invalidation holds */
#define ROUNDS		1024

enum order {
	UP,
	DOWN,
	RANDOM,
};

extern struct pci_dev *device;
/* Of the last run */
extern char outcome[256];

/* Begin (1) or end (0) what QEMU's trace is to count. */
void mark(u8 value);

/* What to measure, and how often, or of what size */
int run_dma(unsigned long pages);
int run_sg(unsigned long pages);
int run_coherent(unsigned long kib);
int run_link(unsigned long pieces);
int run_tree(unsigned long mappings, enum order order, bool one_by_one);

#endif
