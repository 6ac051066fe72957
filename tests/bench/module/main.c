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
 *   coherent KIB	allocate and free so much memory for DMA
 *   link PIECES	link that many pages, which are neighbours, one by one;
 *			unlink the first, then the others
 *   tree MAPPINGS	a domain with that many mappings: to insert one, to look
 *			one up, to remove all in one call, and its memory
 *   up MAPPINGS	the same, but removed one by one, as they were inserted:
 *			from the lowest to the highest
 *   down MAPPINGS	from the highest to the lowest
 *   random MAPPINGS	in disorder
 *   fragment ORDER	no cost: leave memory free in pieces of that order, until
 *			the module is removed
 *
 * Writing to the parameter `irqs_off` starts to watch for how long interrupts
 * are disabled; reading it stops that, and tells the longest time.
 *
 * The device is the first one of QEMU's "edu". Marks in QEMU's trace are those
 * of mark.h.
 */
#include <linux/gfp.h>
#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "iommu_cost.h"

#define EDU_VENDOR	0x1234
#define EDU_DEVICE	0x11e8

/* A watching timer fires that often, in nanoseconds. */
#define WATCH_PERIOD	20000

struct pci_dev *device;
char outcome[256];

static struct pci_dev *bridge;

void mark(u8 value)
{
	pci_write_config_byte(bridge, PCI_INTERRUPT_LINE, value);
}

static LIST_HEAD(fragments);
static unsigned int fragments_order;

static void free_fragments(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &fragments, lru)
		__free_pages(page, fragments_order);
	INIT_LIST_HEAD(&fragments);
}

/* Take all memory in pieces, and give back one of two neighbours. */
static int fragment(unsigned long order)
{
	struct page *page, *next;

	if (order > MAX_PAGE_ORDER || !list_empty(&fragments))
		return -EINVAL;
	fragments_order = order;
	while ((page = alloc_pages(GFP_NOWAIT | __GFP_NOWARN, order)))
		list_add(&page->lru, &fragments);
	list_for_each_entry_safe(page, next, &fragments, lru) {
		if (page_to_pfn(page) >> order & 1)
			continue;
		list_del(&page->lru);
		__free_pages(page, order);
	}
	return 0;
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
	char what[12];

	if (!device)
		return -ENODEV;
	if (sscanf(value, "%11s %lu", what, &number) != 2 || !number)
		return -EINVAL;
	if (!strcmp(what, "dma"))
		return run_dma(number);
	if (!strcmp(what, "sg"))
		return run_sg(number);
	if (!strcmp(what, "coherent"))
		return run_coherent(number);
	if (!strcmp(what, "link"))
		return run_link(number);
	if (!strcmp(what, "tree"))
		return run_tree(number, UP, false);
	if (!strcmp(what, "up"))
		return run_tree(number, UP, true);
	if (!strcmp(what, "down"))
		return run_tree(number, DOWN, true);
	if (!strcmp(what, "random"))
		return run_tree(number, RANDOM, true);
	if (!strcmp(what, "fragment"))
		return fragment(number);
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
	free_fragments();
	pci_dev_put(device);
	pci_dev_put(bridge);
}

module_init(iommu_cost_init);
module_exit(iommu_cost_exit);

MODULE_DESCRIPTION("Cost of single DMA and IOMMU API calls");
MODULE_LICENSE("GPL");
