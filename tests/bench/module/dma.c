// SPDX-License-Identifier: GPL-2.0-only
/*
 * What calls of the DMA API cost.
 */
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>

#include "iommu_cost.h"

#define WARM_UP		256
#define COHERENT_ROUNDS	8

struct cost {
	u64 map;
	u64 unmap;
};

/* Interrupts are off, so that the timer's work is not counted. */
static int single_round(struct cost *cost, void *buffer, size_t size)
{
	unsigned long flags;
	u64 start, mapped, resumed, unmapped;
	dma_addr_t addr;

	local_irq_save(flags);
	start = rdtsc_ordered();
	addr = dma_map_single(&device->dev, buffer, size, DMA_BIDIRECTIONAL);
	mapped = rdtsc_ordered();
	if (dma_mapping_error(&device->dev, addr)) {
		local_irq_restore(flags);
		return -ENOMEM;
	}
	resumed = rdtsc_ordered();
	dma_unmap_single(&device->dev, addr, size, DMA_BIDIRECTIONAL);
	unmapped = rdtsc_ordered();
	local_irq_restore(flags);

	cost->map += mapped - start;
	cost->unmap += unmapped - resumed;
	return 0;
}

static int sg_round(struct cost *cost, struct sg_table *table)
{
	unsigned long flags;
	u64 start, mapped, resumed, unmapped;
	int err;

	local_irq_save(flags);
	start = rdtsc_ordered();
	err = dma_map_sgtable(&device->dev, table, DMA_BIDIRECTIONAL, 0);
	mapped = rdtsc_ordered();
	if (err) {
		local_irq_restore(flags);
		return err;
	}
	resumed = rdtsc_ordered();
	dma_unmap_sgtable(&device->dev, table, DMA_BIDIRECTIONAL, 0);
	unmapped = rdtsc_ordered();
	local_irq_restore(flags);

	cost->map += mapped - start;
	cost->unmap += unmapped - resumed;
	return 0;
}

/* @table is NULL for contiguous memory. */
static int rounds(int count, struct cost *cost, void *buffer, size_t size, struct sg_table *table)
{
	int err = 0;

	*cost = (struct cost) {};
	for (int i = 0; i < count && !err; i++) {
		err = table ? sg_round(cost, table) : single_round(cost, buffer, size);
		cond_resched();
	}
	return err;
}

static int measure_dma(void *buffer, size_t size, struct sg_table *table)
{
	struct cost cost;
	int err;

	err = rounds(WARM_UP, &cost, buffer, size, table);
	if (err)
		return err;
	mark(1);
	err = rounds(ROUNDS, &cost, buffer, size, table);
	mark(0);
	if (err)
		return err;
	snprintf(outcome, sizeof(outcome), "map=%llu unmap=%llu operations=%d",
		 cost.map, cost.unmap, ROUNDS);
	return 0;
}

int run_dma(unsigned long pages)
{
	size_t size = pages * PAGE_SIZE;
	void *buffer;
	int err;

	buffer = alloc_pages_exact(size, GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;
	err = measure_dma(buffer, size, NULL);
	free_pages_exact(buffer, size);
	return err;
}

int run_sg(unsigned long pages)
{
	struct scatterlist *sg;
	struct sg_table table;
	int err, i;

	err = sg_alloc_table(&table, pages, GFP_KERNEL);
	if (err)
		return err;
	/* Of each pair of pages, one */
	for_each_sgtable_sg(&table, sg, i) {
		struct page *pair = alloc_pages(GFP_KERNEL, 1);

		if (!pair) {
			err = -ENOMEM;
			break;
		}
		sg_set_page(sg, pair, PAGE_SIZE, 0);
	}
	if (!err)
		err = measure_dma(NULL, 0, &table);
	for_each_sgtable_sg(&table, sg, i) {
		if (sg_page(sg))
			__free_pages(sg_page(sg), 1);
	}
	sg_free_table(&table);
	return err;
}

int run_coherent(unsigned long kib)
{
	struct cost cost = {};
	int err = 0;

	mark(1);
	for (int i = 0; i < COHERENT_ROUNDS && !err; i++) {
		u64 start = rdtsc_ordered(), allocated;
		dma_addr_t addr;
		void *memory;

		memory = dma_alloc_coherent(&device->dev, kib * SZ_1K, &addr, GFP_KERNEL);
		allocated = rdtsc_ordered();
		cost.map += allocated - start;
		if (!memory) {
			err = -ENOMEM;
			break;
		}
		dma_free_coherent(&device->dev, kib * SZ_1K, memory, addr);
		cost.unmap += rdtsc_ordered() - allocated;
		cond_resched();
	}
	mark(0);
	snprintf(outcome, sizeof(outcome), "map=%llu unmap=%llu operations=%d",
		 cost.map, cost.unmap, COHERENT_ROUNDS);
	return err;
}

/* Is a page that was linked still mapped, as the driver says? */
static bool is_linked(struct iommu_domain *domain, struct dma_iova_state *state, size_t offset,
		      phys_addr_t phys)
{
	return iommu_iova_to_phys(domain, state->addr + offset) == phys + offset;
}

static int link_all(struct dma_iova_state *state, phys_addr_t phys, size_t size)
{
	int err;

	for (size_t offset = 0; offset < size; offset += PAGE_SIZE) {
		err = dma_iova_link(&device->dev, state, phys, offset, PAGE_SIZE,
				    DMA_BIDIRECTIONAL, 0);
		if (err)
			return err;
		phys += PAGE_SIZE;
	}
	return dma_iova_sync(&device->dev, state, 0, size);
}

static int link_round(struct cost *cost, phys_addr_t phys, size_t size)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(&device->dev);
	struct dma_iova_state state = {};
	u64 start, linked, resumed;
	int err;

	if (!dma_iova_try_alloc(&device->dev, &state, phys, size))
		return -EOPNOTSUPP;
	start = rdtsc_ordered();
	err = link_all(&state, phys, size);
	linked = rdtsc_ordered();
	if (err)
		goto out_free;
	dma_iova_unlink(&device->dev, &state, 0, PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
	resumed = rdtsc_ordered();
	if (is_linked(domain, &state, 0, phys) || !is_linked(domain, &state, PAGE_SIZE, phys) ||
	    !is_linked(domain, &state, size - PAGE_SIZE, phys))
		err = -EIO;
	cost->map += linked - start;
	cost->unmap += resumed - linked;
	start = rdtsc_ordered();
	dma_iova_unlink(&device->dev, &state, PAGE_SIZE, size - PAGE_SIZE, DMA_BIDIRECTIONAL, 0);
	cost->unmap += rdtsc_ordered() - start;
out_free:
	dma_iova_free(&device->dev, &state);
	return err;
}

int run_link(unsigned long pieces)
{
	size_t size = pieces * PAGE_SIZE;
	struct cost cost = {};
	void *buffer;
	int err = 0;

	if (pieces < 2)
		return -EINVAL;
	buffer = alloc_pages_exact(size, GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;
	/* What others have left to be flushed does not count. */
	iommu_flush_iotlb_all(iommu_get_domain_for_dev(&device->dev));
	mark(1);
	for (int i = 0; i < ROUNDS && !err; i++) {
		unsigned long flags;

		local_irq_save(flags);
		err = link_round(&cost, virt_to_phys(buffer), size);
		local_irq_restore(flags);
		cond_resched();
	}
	mark(0);
	free_pages_exact(buffer, size);
	snprintf(outcome, sizeof(outcome), "map=%llu unmap=%llu operations=%d",
		 cost.map, cost.unmap, ROUNDS);
	return err;
}
