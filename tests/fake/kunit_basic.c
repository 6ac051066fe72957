// SPDX-License-Identifier: GPL-2.0
/*
 * Conformance, case by case: what the driver asks of an honest device.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>

#include "tests.h"

#define F(bit) BIT_ULL(bit)

struct features_case {
	const char *name;
	u64 without;
	u64 with;
	u32 quirks;
};

static const struct features_case features_cases[] = {
	{ "all" },
	{ "no INDIRECT_DESC", F(VIRTIO_RING_F_INDIRECT_DESC) },
	{ "no EVENT_IDX", F(VIRTIO_RING_F_EVENT_IDX) },
	{ "ACCESS_PLATFORM", 0, F(VIRTIO_F_ACCESS_PLATFORM) },
	{ "no INPUT_RANGE", F(VIRTIO_IOMMU_F_INPUT_RANGE) },
	{ "no DOMAIN_RANGE", F(VIRTIO_IOMMU_F_DOMAIN_RANGE) },
	{ "no PROBE", F(VIRTIO_IOMMU_F_PROBE) },
	{ "no MMIO", F(VIRTIO_IOMMU_F_MMIO) },
	{ "no BYPASS_CONFIG", F(VIRTIO_IOMMU_F_BYPASS_CONFIG) },
	{ "the old BYPASS", F(VIRTIO_IOMMU_F_BYPASS_CONFIG),
	  F(VIRTIO_IOMMU_F_BYPASS) },
	{ "reserved bytes that are not 0", .quirks = FAKE_FILLS_RESERVED },
	{ "as little as possible",
	  F(VIRTIO_RING_F_INDIRECT_DESC) | F(VIRTIO_RING_F_EVENT_IDX) |
	  F(VIRTIO_IOMMU_F_INPUT_RANGE) | F(VIRTIO_IOMMU_F_DOMAIN_RANGE) |
	  F(VIRTIO_IOMMU_F_PROBE) | F(VIRTIO_IOMMU_F_MMIO) |
	  F(VIRTIO_IOMMU_F_BYPASS_CONFIG) },
};

KUNIT_ARRAY_PARAM_DESC(features, features_cases, name);

/* Each request type at least once, whatever the device offers. */
static void fake_basic_features(struct kunit *test)
{
	static const u8 types[] = {
		VIRTIO_IOMMU_T_ATTACH, VIRTIO_IOMMU_T_DETACH,
		VIRTIO_IOMMU_T_MAP, VIRTIO_IOMMU_T_UNMAP, VIRTIO_IOMMU_T_PROBE,
	};
	const struct features_case *param = test->param_value;
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct test_domain *one, *two;
	unsigned int i;
	int mmio;

	config.features = (config.features & ~param->without) | param->with;
	config.quirks |= param->quirks;
	test_start(t, &config, 2);
	one = test_alloc(t, 0);
	two = test_alloc(t, 1);
	KUNIT_ASSERT_NOT_NULL(test, one);
	KUNIT_ASSERT_NOT_NULL(test, two);

	KUNIT_EXPECT_EQ(test, test_attach(t, 0, one), 0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 1, two), 0);
	test_expect_agree(t, "after attaching");
	KUNIT_EXPECT_EQ(test, test_map(t, one, 0, 3, TEST_PHYS, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, one, 8, 1, 0, IOMMU_READ), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, two, 0, 1, TEST_PHYS, IOMMU_WRITE),
			0);
	mmio = test_map(t, two, 4, 1, TEST_PHYS, TEST_RW | IOMMU_MMIO);
	if (config.features & F(VIRTIO_IOMMU_F_MMIO))
		KUNIT_EXPECT_EQ(test, mmio, 0);
	else
		KUNIT_EXPECT_LT(test, mmio, 0);
	test_expect_agree(t, "after mapping");
	KUNIT_EXPECT_EQ(test, test_unmap(t, one, 0, 3), 3);
	test_expect_agree(t, "after unmapping");
	test_detach(t, 0);
	test_expect_agree(t, "after detaching");
	test_unplug(t, 0);
	test_expect_agree(t, "after unplugging");

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		if (types[i] != VIRTIO_IOMMU_T_PROBE ||
		    config.features & F(VIRTIO_IOMMU_F_PROBE))
			KUNIT_EXPECT_GT_MSG(test,
					    fake_requests(t->fake, types[i]), 0,
					    "no request of type %u", types[i]);
	}
	KUNIT_EXPECT_EQ(test, fake_requests(t->fake, VIRTIO_IOMMU_T_DETACH), 1);
}

/* Mappings are kept while a domain is attached to nothing. */
static void fake_basic_replay(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 2);

	/* More than a ring full */
	test_map_each(t, domain, 200, 2, 1);
	KUNIT_EXPECT_EQ(test, fake_requests(t->fake, VIRTIO_IOMMU_T_MAP), 0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after the first attach");
	KUNIT_EXPECT_EQ(test, test_attach(t, 1, domain), 0);
	test_expect_agree(t, "after the second attach");
	test_detach(t, 0);
	test_expect_agree(t, "after the first detach");
	test_detach(t, 1);
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, 1), 1);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 1, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 1, domain), 0);
	test_expect_agree(t, "after attaching again");
}

/* One UNMAP may remove several mappings, and ends where nothing is mapped. */
static void fake_basic_unmap(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);

	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_map_each(t, domain, 12, 1, 1);
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 3, 5), 5);
	test_expect_agree(t, "after unmapping five");
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 4, 2), 0);
	test_expect_agree(t, "after unmapping nothing");
	/* Three are mapped there, then comes the hole. */
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, 6), 3);
	test_expect_agree(t, "after unmapping up to a hole");
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 8, 4), 4);
	test_expect_agree(t, "after unmapping the rest");

	/* A mapping is never split: from its beginning it goes as a whole. */
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 64, 8, TEST_PHYS, TEST_RW),
			0);
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 68, 4), 0);
	test_expect_agree(t, "after unmapping the end of a mapping");
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 66, 2), 0);
	test_expect_agree(t, "after unmapping the middle of a mapping");
	test_unmap(t, domain, 64, 4);
	test_expect_agree(t, "after unmapping the beginning of a mapping");
}

/* A mapping over another one must not look as if it worked. */
static void fake_basic_overlap(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);

	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 4, 4, TEST_PHYS, TEST_RW), 0);
	KUNIT_EXPECT_LT(test, test_map(t, domain, 4, 1, 0, TEST_RW), 0);
	test_expect_agree(t, "after mapping over it");
}

/* Input ranges as wide as machines have them, and some that begin elsewhere */
static const struct {
	u64 start;
	u64 end;
} apertures[] = {
	{ 0, U32_MAX },
	{ 0, BIT_ULL(39) - 1 },
	{ 0, BIT_ULL(48) - 1 },
	{ 0, BIT_ULL(52) - 1 },
	{ 0, BIT_ULL(63) - 1 },
	{ 0, U64_MAX },
	{ SZ_1M, SZ_1G - 1 },
	{ SZ_4G, BIT_ULL(40) - 1 },
	{ BIT_ULL(63), U64_MAX },
};

/* What the DMA API maps lies in the aperture. */
static void basic_aperture_dma_api(struct fake_test *t, u64 start, u64 end)
{
	size_t size = 3 * PAGE_SIZE;
	struct kunit *test = t->test;
	dma_addr_t addr;
	void *memory;

	memory = kunit_kmalloc(test, size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, memory);
	t->endpoints[0].uses_dma_api = true;
	/* The timer of a flush queue might unmap what is detached meanwhile. */
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[0].fake, "DMA"), 0);
	addr = dma_map_single(test_dev(t, 0), memory, size, DMA_TO_DEVICE);
	KUNIT_ASSERT_EQ_MSG(test, dma_mapping_error(test_dev(t, 0), addr), 0,
			    "aperture %#llx-%#llx", start, end);
	KUNIT_EXPECT_GE(test, addr, start);
	KUNIT_EXPECT_LE(test, addr + size - 1, end);
	dma_unmap_single(test_dev(t, 0), addr, size, DMA_TO_DEVICE);
}

/* The domain has the aperture and the granule of the device. */
static void fake_basic_aperture(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct test_domain *domain;
	u64 start, end, bitmap;
	unsigned int i;

	config.page_size_mask = SZ_4K | SZ_2M;
	for (i = 0; i < ARRAY_SIZE(apertures); i++) {
		start = apertures[i].start;
		end = apertures[i].end;
		if (end == U64_MAX && config.quirks & FAKE_TOP_RANGE)
			continue;
		config.features |= F(VIRTIO_IOMMU_F_INPUT_RANGE);
		config.input_start = start;
		config.input_end = end;
		domain = test_start_domain(t, &config, 1);
		KUNIT_EXPECT_EQ(test, domain->domain->geometry.aperture_start,
				start);
		KUNIT_EXPECT_EQ(test, domain->domain->geometry.aperture_end,
				end);
		KUNIT_EXPECT_TRUE(test,
				  domain->domain->geometry.force_aperture);
		bitmap = domain->domain->pgsize_bitmap;
		KUNIT_EXPECT_EQ(test, bitmap, config.page_size_mask);

		KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
		domain->base = end - TEST_SLOTS * SZ_4K + 1;
		KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, TEST_SLOTS, 0,
					       TEST_RW), 0);
		test_expect_agree(t, "after mapping up to the end");
		KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, TEST_SLOTS),
				TEST_SLOTS);
		domain->base = start;
		KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 2, 0, TEST_RW), 0);
		test_expect_agree(t, "after mapping from the beginning");
		KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, 2), 2);
		test_expect_agree(t, "after unmapping");
		test_detach(t, 0);
		basic_aperture_dma_api(t, start, end);
		test_stop(t);
	}
}

/* The last byte of the address space can be mapped. */
static void fake_basic_top(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct test_domain *domain;

	if (config.quirks & FAKE_TOP_RANGE)
		kunit_skip(test, "the device does not take it");
	config.input_end = U64_MAX;
	domain = test_start_domain(t, &config, 1);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	domain->base = 0 - TEST_SLOTS * t->granule;
	KUNIT_EXPECT_EQ(test, test_map(t, domain, TEST_SLOTS - 4, 4, 0, TEST_RW),
			0);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	test_expect_agree(t, "after mapping");
	test_detach(t, 0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after replaying");
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, TEST_SLOTS - 4, 4), 4);
	test_expect_agree(t, "after unmapping");
}

/* Nothing outside of the input range reaches the device, whoever asks for it. */
static void fake_basic_beyond(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct test_domain *domain;

	config.features |= F(VIRTIO_IOMMU_F_INPUT_RANGE);
	config.input_start = SZ_1M;
	config.input_end = SZ_2G - 1;
	domain = test_start_domain(t, &config, 1);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);

	domain->base = config.input_start - 4 * t->granule;
	KUNIT_EXPECT_LT(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_LT(test, test_map(t, domain, 2, 4, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 4, 2, 0, TEST_RW), 0);
	test_expect_agree(t, "at the beginning");
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 4, 2), 2);

	domain->base = config.input_end + 1 - 4 * t->granule;
	KUNIT_EXPECT_LT(test, test_map(t, domain, 4, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_LT(test, test_map(t, domain, 2, 4, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 2, 2, 0, TEST_RW), 0);
	test_expect_agree(t, "at the end");
}

/* An endpoint with several ids is attached with all of them. */
static void fake_basic_ids(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain;

	test_set_endpoint(t, 0, 3);
	domain = test_start_domain(t, NULL, 1);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after attaching");
	test_detach(t, 0);
	test_expect_agree(t, "after detaching");
	test_unplug(t, 0);
	KUNIT_EXPECT_EQ(test, t->fake->model.nr_mappings, 0);
}

/* As VFIO and iommufd do: blocked first, then a domain, then another. */
static void fake_basic_claim(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain;

	test_start(t, NULL, 2);
	KUNIT_ASSERT_EQ(test, iommu_device_claim_dma_owner(test_dev(t, 0), t),
			0);
	t->endpoints[0].claimed = true;
	test_expect_agree(t, "when blocked");
	KUNIT_ASSERT_EQ(test, iommu_device_claim_dma_owner(test_dev(t, 1), t),
			0);
	t->endpoints[1].claimed = true;
	test_expect_agree(t, "when both are blocked");
	domain = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(test, domain);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 7, 9, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 1, domain), 0);
	test_expect_agree(t, "when shared");
	test_detach(t, 0);
	test_expect_agree(t, "when one is blocked again");
	test_detach(t, 1);
	test_expect_agree(t, "when both are blocked again");
	iommu_device_release_dma_owner(test_dev(t, 0));
	t->endpoints[0].claimed = false;
	test_expect_agree(t, "when one is released");
}

/* The DMA API, strict and with a flush queue: the mapping comes and goes. */
static void fake_basic_dma_api(struct kunit *test)
{
	static const char * const types[] = { "DMA", "DMA-FQ" };
	struct fake_test *t = test->priv;
	struct model_mapping *mapping;
	struct model_domain *domain;
	unsigned int i, wait;
	dma_addr_t addr;
	void *memory;

	test_start(t, NULL, 1);
	memory = kunit_kmalloc(test, 3 * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, memory);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[0].fake,
						      types[i]), 0);
		addr = dma_map_single(test_dev(t, 0), memory, 3 * PAGE_SIZE,
				      DMA_TO_DEVICE);
		KUNIT_ASSERT_EQ(test, dma_mapping_error(test_dev(t, 0), addr),
				0);
		t->endpoints[0].uses_dma_api = true;
		domain = t->fake->model.endpoints[0].domain;
		KUNIT_ASSERT_NOT_NULL(test, domain);
		KUNIT_ASSERT_FALSE(test, list_empty(&domain->mappings));
		mapping = list_first_entry(&domain->mappings,
					   struct model_mapping, node);
		KUNIT_EXPECT_EQ(test, mapping->first, addr & PAGE_MASK);
		KUNIT_EXPECT_EQ(test, mapping->phys,
				virt_to_phys(memory) & PAGE_MASK);
		KUNIT_EXPECT_EQ(test, mapping->flags, VIRTIO_IOMMU_MAP_F_READ);
		dma_unmap_single(test_dev(t, 0), addr, 3 * PAGE_SIZE,
				 DMA_TO_DEVICE);
		/* The flush queue may take a while. */
		for (wait = 0; wait < 100 && !list_empty(&domain->mappings);
		     wait++)
			msleep(20);
		KUNIT_EXPECT_TRUE(test, list_empty(&domain->mappings));
		if (!i)
			KUNIT_EXPECT_EQ(test, wait, 0);
	}
	test_expect_agree(t, "at the end");
}

static int basic_init(struct kunit *test)
{
	int ret = fake_test_init(test);
	struct fake_test *t = test->priv;

	if (!ret)
		t->refuses_nothing = true;
	return ret;
}

static struct kunit_case fake_basic_cases[] = {
	KUNIT_CASE_PARAM(fake_basic_features, features_gen_params),
	KUNIT_CASE(fake_basic_replay),
	KUNIT_CASE(fake_basic_unmap),
	KUNIT_CASE(fake_basic_overlap),
	KUNIT_CASE(fake_basic_aperture),
	KUNIT_CASE(fake_basic_top),
	KUNIT_CASE(fake_basic_beyond),
	KUNIT_CASE(fake_basic_ids),
	KUNIT_CASE(fake_basic_claim),
	KUNIT_CASE(fake_basic_dma_api),
	{}
};

static struct kunit_suite fake_basic_suite = {
	.name = "viommu_fake_basic",
	.init = basic_init,
	.exit = fake_test_exit,
	.test_cases = fake_basic_cases,
};

kunit_test_suite(fake_basic_suite);
