// SPDX-License-Identifier: GPL-2.0
/*
 * Lazy invalidation: what is unmapped may live on in the device until the core asks for
 * a flush, and nobody waits for the UNMAPs. A refused one is no less a failure.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>

#include "tests.h"

/* How often the DMA API is asked for an address again */
#define LAZY_TRIES	32

struct lazy_case {
	const char *name;
	unsigned int ranges;	/* that do not touch */
	unsigned int skip;	/* UNMAPs that are answered honestly first */
	unsigned int refused;	/* of all others, when it is 0 */
};

static const struct lazy_case lazy_cases[] = {
	{ "one range", 1, 0, 1 },
	{ "one of three ranges", 3, 1, 1 },
	/* More than a driver is likely to let wait */
	{ "100 ranges", 100, 0, 0 },
};

KUNIT_ARRAY_PARAM_DESC(lazy, lazy_cases, name);

/* Unmaps as the DMA API does with a flush queue: the device may be told later. */
static void lazy_unmap(struct fake_test *t, struct test_domain *domain,
		       unsigned int slot, unsigned int nr)
{
	struct iommu_iotlb_gather gather;
	size_t size = nr * t->granule;

	iommu_iotlb_gather_init(&gather);
	gather.queued = true;
	KUNIT_EXPECT_EQ(t->test,
			iommu_unmap_fast(domain->domain,
					 domain->base + slot * t->granule, size,
					 &gather), size);
	test_forget(domain, slot, nr);
}

/* Whether a message about the device or an endpoint has this IO address. */
static bool lazy_reported(struct fake_test *t, u64 iova)
{
	char text[32];

	scnprintf(text, sizeof(text), "%llx", iova);
	return test_log_says(t, text);
}

/* Ranges are named, not each of many. */
static void lazy_expect_reported(struct fake_test *t, struct test_domain *domain,
				 unsigned int ranges)
{
	unsigned int i, named = 0;

	for (i = 0; i < ranges; i++)
		named += lazy_reported(t, domain->base + 2 * i * t->granule);
	kunit_info(t->test, "%u of %u ranges are named", named, ranges);
	/* Messages are limited. */
	KUNIT_EXPECT_GT_MSG(t->test, named, 0, "nothing is reported");
}

/*
 * UNMAPs are refused when they are flushed. That is reported with the range, nothing is
 * mapped over it as if it were gone, and what was not refused can be mapped again.
 */
static void fake_lazy_refused(struct kunit *test)
{
	const struct lazy_case *param = test->param_value;
	unsigned int refused = param->refused ?: param->ranges;
	struct fake_rule rule = {
		FAKE_RULE(VIRTIO_IOMMU_T_UNMAP), .skip = param->skip,
		.times = param->refused, .no_effect = true,
		.status = VIRTIO_IOMMU_S_NOMEM,
	};
	struct fake_test *t = test->priv;
	unsigned int i, granted = 0;
	struct test_domain *domain;

	domain = test_start_domain(t, NULL, 1);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	test_map_each(t, domain, param->ranges, 2, 1);
	test_rule(t, &rule);
	test_log_mark(t);
	for (i = 0; i < param->ranges; i++)
		lazy_unmap(t, domain, 2 * i, 1);
	iommu_flush_iotlb_all(domain->domain);
	test_clear_rules(t);
	lazy_expect_reported(t, domain, param->ranges);

	for (i = 0; i < param->ranges; i++)
		granted += !test_map(t, domain, 2 * i, 1, SZ_1G, TEST_RW);
	KUNIT_EXPECT_EQ(test, granted, param->ranges - refused);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 2 * i, 2, SZ_1G, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, t->fake->model.nr_mappings, param->ranges + 1);

	/* With its last endpoint, the domain's translations are gone. */
	test_detach(t, 0);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after attaching again");
	for (i = 0; i < param->ranges; i++) {
		if (!domain->slots[2 * i].chunk)
			KUNIT_EXPECT_EQ(test, test_map(t, domain, 2 * i, 1,
						       SZ_1G, TEST_RW), 0);
	}
	test_expect_agree(t, "after mapping there again");
}

/*
 * The device is given up before the flush, and may go on translating what was unmapped:
 * that is reported with its range.
 */
static void fake_lazy_gone(struct kunit *test)
{
	struct fake_rule nonsense = {
		FAKE_RULE(VIRTIO_IOMMU_T_MAP), .completion = FAKE_OUT_OF_RANGE,
	};
	struct fake_test *t = test->priv;
	struct test_domain *domain;

	test_needs_unsafe(t, "spins for ever");
	domain = test_start_domain(t, NULL, 1);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_ASSERT_EQ(test, test_map(t, domain, 16, 4, 0, TEST_RW), 0);
	lazy_unmap(t, domain, 16, 4);
	test_rule(t, &nonsense);
	KUNIT_EXPECT_LT(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);

	test_log_mark(t);
	iommu_flush_iotlb_all(domain->domain);
	KUNIT_EXPECT_TRUE_MSG(test,
			      lazy_reported(t, domain->base + 16 * t->granule),
			      "nothing is reported");
	kunit_warning_suppress(test) {
		test_stop(t);
	}
}

/*
 * A device does not look at its ring while ranges are unmapped that do not touch, strictly
 * or lazily, and more than wait for a flush: none goes unreported.
 */
static void fake_lazy_late(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct iommu_iotlb_gather gather;
	struct test_domain *domain;
	unsigned int i;

	test_needs_unsafe(t, "spins for ever");
	config.ring_size = FAKE_MAX_RING;
	domain = test_start_domain(t, &config, 1);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	test_map_each(t, domain, 102, 2, 1);
	t->fake->unplugged_after_ms = 0;
	fake_end(t->fake, FAKE_STOPS);

	test_log_mark(t);
	iommu_iotlb_gather_init(&gather);
	for (i = 200; i < 204; i += 2) {
		KUNIT_EXPECT_EQ(test,
				iommu_unmap_fast(domain->domain,
						 domain->base + i * t->granule,
						 t->granule, &gather),
				t->granule);
		test_forget(domain, i, 1);
	}
	iommu_iotlb_sync(domain->domain, &gather);
	for (i = 200; i < 204; i += 2)
		KUNIT_EXPECT_TRUE_MSG(test,
				      lazy_reported(t, domain->base + i * t->granule),
				      "nothing is reported of slot %u", i);

	test_log_mark(t);
	for (i = 0; i < 100; i++)
		lazy_unmap(t, domain, 2 * i, 1);
	iommu_flush_iotlb_all(domain->domain);
	KUNIT_EXPECT_TRUE_MSG(test, lazy_reported(t, domain->base),
			      "nothing is reported of slot 0");
	fake_go_on(t->fake);
	test_expect_agree(t, "when it looks again");
}

/* Tries to get the address again. Returns how often the DMA API gives a working one. */
static unsigned int lazy_map_again(struct fake_test *t, void *memory, u64 stale)
{
	struct device *dev = test_dev(t, 0);
	unsigned int i, granted = 0;
	dma_addr_t addrs[LAZY_TRIES];

	for (i = 0; i < LAZY_TRIES; i++) {
		addrs[i] = dma_map_single(dev, memory, PAGE_SIZE,
					  DMA_TO_DEVICE);
		if (dma_mapping_error(dev, addrs[i]))
			continue;
		granted++;
		KUNIT_EXPECT_NE_MSG(t->test, addrs[i] & PAGE_MASK, stale,
				    "the stale address is given out");
	}
	for (i = 0; i < LAZY_TRIES; i++) {
		if (!dma_mapping_error(dev, addrs[i]))
			dma_unmap_single(dev, addrs[i], PAGE_SIZE,
					 DMA_TO_DEVICE);
	}
	return granted;
}

/*
 * The flush queue of the DMA API flushes a refused UNMAP, which nobody waits for: no
 * later mapping pretends to be where the old translation stands.
 */
static void fake_lazy_dma_api(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct fake_rule *rule;
	unsigned int wait;
	dma_addr_t addr;
	void *memory;

	test_start(t, NULL, 1);
	memory = kunit_kmalloc(test, 2 * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, memory);
	memory = PTR_ALIGN(memory, PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[0].fake, "DMA-FQ"),
			0);
	addr = dma_map_single(test_dev(t, 0), memory, PAGE_SIZE, DMA_TO_DEVICE);
	KUNIT_ASSERT_EQ(test, dma_mapping_error(test_dev(t, 0), addr), 0);
	t->endpoints[0].uses_dma_api = true;

	rule = fake_add_rule(t->fake, &(struct fake_rule) {
		FAKE_RULE(VIRTIO_IOMMU_T_UNMAP), .no_effect = true,
		.status = VIRTIO_IOMMU_S_NOMEM });
	KUNIT_ASSERT_NOT_NULL(test, rule);
	test_log_mark(t);
	dma_unmap_single(test_dev(t, 0), addr, PAGE_SIZE, DMA_TO_DEVICE);
	for (wait = 0; wait < 500 && !lazy_reported(t, addr); wait++)
		msleep(20);
	KUNIT_EXPECT_EQ(test, rule->hits, 1);
	KUNIT_EXPECT_TRUE_MSG(test, lazy_reported(t, addr),
			      "the failed UNMAP of %pad is not reported", &addr);
	test_clear_rules(t);

	kunit_info(test, "%u of %u mappings were granted",
		   lazy_map_again(t, memory, addr), LAZY_TRIES);
	/* A domain of its own forgets it. */
	KUNIT_EXPECT_EQ(test, fake_group_type(&t->endpoints[0].fake, "DMA"), 0);
	KUNIT_EXPECT_EQ(test, lazy_map_again(t, memory, 0), LAZY_TRIES);
	t->endpoints[0].uses_dma_api = false;
	test_expect_agree(t, "in another domain");
}

static struct kunit_case fake_lazy_cases[] = {
	KUNIT_CASE_PARAM(fake_lazy_refused, lazy_gen_params),
	KUNIT_CASE(fake_lazy_gone),
	KUNIT_CASE_SLOW(fake_lazy_late),
	KUNIT_CASE(fake_lazy_dma_api),
	{}
};

static struct kunit_suite fake_lazy_suite = {
	.name = "viommu_fake_lazy",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_lazy_cases,
};

kunit_test_suite(fake_lazy_suite);
