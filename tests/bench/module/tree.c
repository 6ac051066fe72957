// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a domain without endpoints costs, with many mappings.
 */
#include <linux/gfp.h>
#include <linux/iommu.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/vmstat.h>

#include "iommu_cost.h"

#define TREE_REPETITIONS	4

static unsigned long slab_bytes(void)
{
	return global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B) * PAGE_SIZE;
}

/* The next of the numbers below @mappings, in some order; to begin with, @at is -1. */
static unsigned long next_in_order(enum order order, unsigned long at, unsigned long mappings)
{
	if (order == UP)
		return at + 1;
	if (order == DOWN)
		return (at == -1UL ? mappings : at) - 1;
	do {
		/* Comes along at each number below the power of two once */
		at = (at * 1664525 + 1013904223) & (roundup_pow_of_two(mappings) - 1);
	} while (at >= mappings);
	return at;
}

/* Insert, or remove one by one. */
static int fill(struct iommu_domain *domain, unsigned long mappings, enum order order, bool remove)
{
	/* Nothing is attached to the domain, so any address will do; it is that of no RAM. */
	phys_addr_t phys = 1ULL << 40;
	unsigned long i = -1UL;
	int err = 0;

	for (unsigned long count = 0; count < mappings && !err; count++) {
		i = next_in_order(order, i, mappings);
		/* Not one after the other, so that no two can be one mapping */
		if (!remove)
			err = iommu_map(domain, i * PAGE_SIZE, phys - 2 * i * PAGE_SIZE, PAGE_SIZE,
					IOMMU_READ | IOMMU_WRITE, GFP_KERNEL);
		else if (iommu_unmap(domain, i * PAGE_SIZE, PAGE_SIZE) != PAGE_SIZE)
			err = -EIO;
		cond_resched();
	}
	return err;
}

static int look_up(struct iommu_domain *domain, unsigned long mappings, u64 *cost)
{
	unsigned long flags, at = 0;
	u64 start;

	*cost = 0;
	for (int i = 0; i < ROUNDS; i++) {
		phys_addr_t expected = (1ULL << 40) - 2 * at * PAGE_SIZE, found;

		local_irq_save(flags);
		start = rdtsc_ordered();
		found = iommu_iova_to_phys(domain, at * PAGE_SIZE);
		*cost += rdtsc_ordered() - start;
		local_irq_restore(flags);
		if (found != expected)
			return -EIO;
		at = (at + 7919) % mappings;
	}
	return 0;
}

struct tree_cost {
	u64 filled;
	u64 found;
	u64 removed;
	unsigned long bytes;
};

static int fill_and_empty(struct iommu_domain *domain, unsigned long mappings,
			  enum order order, bool one_by_one, struct tree_cost *cost)
{
	unsigned long before;
	u64 start;
	int err;

	before = slab_bytes();
	start = rdtsc_ordered();
	err = fill(domain, mappings, order, false);
	cost->filled = rdtsc_ordered() - start;
	cost->bytes = slab_bytes() - before;
	if (err)
		return err;
	err = look_up(domain, mappings, &cost->found);
	if (err)
		return err;
	start = rdtsc_ordered();
	if (one_by_one)
		err = fill(domain, mappings, order, true);
	else if (iommu_unmap(domain, 0, mappings * PAGE_SIZE) != mappings * PAGE_SIZE)
		err = -EIO;
	cost->removed = rdtsc_ordered() - start;
	return err;
}

static int measure_tree(struct iommu_domain *domain, unsigned long mappings, enum order order,
			bool one_by_one)
{
	struct tree_cost least, cost;
	int err;

	err = fill_and_empty(domain, mappings, order, one_by_one, &least);
	/* If it is short, the least counts: the others have an interrupt of the timer in them. */
	for (int i = 0; !err && mappings <= 1000 && i < TREE_REPETITIONS; i++) {
		err = fill_and_empty(domain, mappings, order, one_by_one, &cost);
		least.filled = min(least.filled, cost.filled);
		least.found = min(least.found, cost.found);
		least.removed = min(least.removed, cost.removed);
	}
	if (err)
		return err;
	snprintf(outcome, sizeof(outcome),
		 "mappings=%lu insert=%llu remove=%llu lookup=%llu lookups=%d bytes=%lu",
		 mappings, least.filled, least.removed, least.found, ROUNDS, least.bytes);
	return 0;
}

int run_tree(unsigned long mappings, enum order order, bool one_by_one)
{
	struct iommu_domain *domain = iommu_paging_domain_alloc(&device->dev);
	int err;

	if (IS_ERR(domain))
		return PTR_ERR(domain);
	mark(1);
	err = measure_tree(domain, mappings, order, one_by_one);
	mark(0);
	iommu_domain_free(domain);
	return err;
}
