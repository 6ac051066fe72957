// SPDX-License-Identifier: GPL-2.0-only
/*
 * What single calls of the DMA API and of the IOMMU API cost.
 *
 * The kernel's dma_map_benchmark measures in units of 100 ns; this counts with
 * the time stamp counter, which counts instructions in a guest of QEMU's with
 * -icount shift=0. Write one of these to the parameter `run`, and read it for
 * the outcome:
 *
 *   dma PAGES		map and unmap that many contiguous pages
 *   sg PAGES		the same, with pages of which no two are neighbours
 *   tree MAPPINGS	a domain with that many mappings: to insert one, to look
 *			one up, to remove all in one call, and its memory
 *
 * Writing to the parameter `irqs_off` starts to watch for how long interrupts
 * are disabled; reading it stops that, and tells the longest time.
 *
 * The device is the first one of QEMU's "edu". Marks in QEMU's trace are those
 * of mark.h.
 */
#include <linux/dma-mapping.h>
#include <linux/gfp.h>
#include <linux/hrtimer.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/vmstat.h>

/* A multiple of what the flush queue of lazy invalidation holds */
#define ROUNDS		1024
#define WARM_UP		256
#define TREE_REPETITIONS	4

#define EDU_VENDOR	0x1234
#define EDU_DEVICE	0x11e8

/* A watching timer fires that often, in nanoseconds. */
#define WATCH_PERIOD	20000

static struct pci_dev *device, *bridge;
static char outcome[256];

struct cost {
	u64 map;
	u64 unmap;
};

static void mark(u8 value)
{
	pci_write_config_byte(bridge, PCI_INTERRUPT_LINE, value);
}

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

static int run_dma(unsigned long pages)
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

static int run_sg(unsigned long pages)
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

static unsigned long slab_bytes(void)
{
	return global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B) * PAGE_SIZE;
}

static int fill(struct iommu_domain *domain, unsigned long mappings)
{
	/* Nothing is attached to the domain, so any address will do; it is that of no RAM. */
	phys_addr_t phys = 1ULL << 40;
	int err = 0;

	for (unsigned long i = 0; i < mappings && !err; i++) {
		/* Not one after the other, so that no two can be one mapping */
		err = iommu_map(domain, i * PAGE_SIZE, phys - 2 * i * PAGE_SIZE, PAGE_SIZE,
				IOMMU_READ | IOMMU_WRITE, GFP_KERNEL);
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
			  struct tree_cost *cost)
{
	unsigned long before;
	u64 start;
	int err;

	before = slab_bytes();
	start = rdtsc_ordered();
	err = fill(domain, mappings);
	cost->filled = rdtsc_ordered() - start;
	cost->bytes = slab_bytes() - before;
	if (err)
		return err;
	err = look_up(domain, mappings, &cost->found);
	if (err)
		return err;
	start = rdtsc_ordered();
	if (iommu_unmap(domain, 0, mappings * PAGE_SIZE) != mappings * PAGE_SIZE)
		return -EIO;
	cost->removed = rdtsc_ordered() - start;
	return 0;
}

static int measure_tree(struct iommu_domain *domain, unsigned long mappings)
{
	struct tree_cost least, cost;
	int err;

	err = fill_and_empty(domain, mappings, &least);
	/* If it is short, the least counts: the others have an interrupt of the timer in them. */
	for (int i = 0; !err && mappings <= 1000 && i < TREE_REPETITIONS; i++) {
		err = fill_and_empty(domain, mappings, &cost);
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

static int run_tree(unsigned long mappings)
{
	struct iommu_domain *domain = iommu_paging_domain_alloc(&device->dev);
	int err;

	if (IS_ERR(domain))
		return PTR_ERR(domain);
	mark(1);
	err = measure_tree(domain, mappings);
	mark(0);
	iommu_domain_free(domain);
	return err;
}

static struct hrtimer watch;
static u64 last_tick, longest;

static enum hrtimer_restart watch_tick(struct hrtimer *timer)
{
	u64 now = rdtsc_ordered();

	longest = max(longest, now - last_tick);
	last_tick = now;
	hrtimer_forward_now(timer, ns_to_ktime(WATCH_PERIOD));
	return HRTIMER_RESTART;
}

static int irqs_off_set(const char *value, const struct kernel_param *unused)
{
	hrtimer_cancel(&watch);
	longest = 0;
	last_tick = rdtsc_ordered();
	hrtimer_start(&watch, ns_to_ktime(WATCH_PERIOD), HRTIMER_MODE_REL_PINNED_HARD);
	return 0;
}

static int irqs_off_get(char *buffer, const struct kernel_param *unused)
{
	hrtimer_cancel(&watch);
	return sysfs_emit(buffer, "%llu\n", longest - min(longest, WATCH_PERIOD));
}

static const struct kernel_param_ops irqs_off_ops = {
	.set = irqs_off_set,
	.get = irqs_off_get,
};

module_param_cb(irqs_off, &irqs_off_ops, NULL, 0600);
MODULE_PARM_DESC(irqs_off, "Begin to watch; then, the longest time with interrupts off");

static int run_set(const char *value, const struct kernel_param *unused)
{
	unsigned long number;
	char what[8];

	if (!device)
		return -ENODEV;
	if (sscanf(value, "%7s %lu", what, &number) != 2 || !number)
		return -EINVAL;
	if (!strcmp(what, "dma"))
		return run_dma(number);
	if (!strcmp(what, "sg"))
		return run_sg(number);
	if (!strcmp(what, "tree"))
		return run_tree(number);
	return -EINVAL;
}

static int run_get(char *buffer, const struct kernel_param *unused)
{
	return sysfs_emit(buffer, "%s\n", outcome);
}

static const struct kernel_param_ops run_ops = {
	.set = run_set,
	.get = run_get,
};

module_param_cb(run, &run_ops, NULL, 0600);
MODULE_PARM_DESC(run, "What to measure; then, the outcome");

static int __init iommu_cost_init(void)
{
	hrtimer_setup(&watch, watch_tick, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	device = pci_get_device(EDU_VENDOR, EDU_DEVICE, NULL);
	bridge = pci_get_domain_bus_and_slot(0, 0, PCI_DEVFN(0, 0));
	if (!device || !bridge) {
		pci_dev_put(device);
		pci_dev_put(bridge);
		return -ENODEV;
	}
	return 0;
}

static void __exit iommu_cost_exit(void)
{
	hrtimer_cancel(&watch);
	pci_dev_put(device);
	pci_dev_put(bridge);
}

module_init(iommu_cost_init);
module_exit(iommu_cost_exit);

MODULE_DESCRIPTION("Cost of single DMA and IOMMU API calls");
MODULE_LICENSE("GPL");
