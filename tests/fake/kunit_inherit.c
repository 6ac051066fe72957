// SPDX-License-Identifier: GPL-2.0
/*
 * Inheritances: the device has domains of somebody else, who crashed or did not take them
 * back, and keeps them over the driver's reset. Nothing of them reaches this kernel.
 *
 * The device says so if an endpoint is attached to where old mappings are, and counts
 * what it has to refuse.
 */
#include "tests.h"

/* An id of an endpoint that this kernel does not have */
#define STRANGER	0x9000

/* Domains of somebody else: all numbers of a range */
struct old_domains {
	u32 first;
	u32 last;
	bool bypass;
	bool ours;	/* with the ids of this kernel's endpoints, as far as they go */
};

struct inherit_case {
	const char *name;
	const char *personality;
	u32 start;	/* of the domain range */
	u32 end;
	u8 bypass;
	struct old_domains old[3];
	unsigned int nr_endpoints;
	unsigned int nr_domains;
	bool no_bypass;		/* there may be no number for a bypass domain */
};

#define WIDE	.start = 0, .end = U32_MAX, .nr_endpoints = 3, .nr_domains = 2

static const struct inherit_case inherit_cases[] = {
	{ "endpoints in domains", WIDE, .bypass = 1, .old = { { 1, 6, .ours = true } } },
	{ "the same after a crash", WIDE, .bypass = 0,
	  .old = { { 1, 6, .ours = true } } },
	{ "the first numbers", WIDE, .bypass = 0, .old = { { 0, 15 } } },
	{ "bypass domains", WIDE, .bypass = 0,
	  .old = { { 1, 15, .bypass = true, .ours = true } } },
	{ "both kinds", WIDE, .bypass = 1,
	  .old = { { 0, 0 }, { 1, 1, .bypass = true },
		   { 2, 9, .ours = true } } },
	{ "endpoints in the last numbers", WIDE, .bypass = 1,
	  .old = { { U32_MAX - 9, U32_MAX, .ours = true } } },
	{ "qemu10", "qemu10", WIDE, .bypass = 1,
	  .old = { { 0, 0, .bypass = true }, { 1, 9, .ours = true } } },
	{ "cloud-hypervisor", "cloud-hypervisor", WIDE, .bypass = 1,
	  .old = { { 0, 0, .bypass = true }, { 1, 9, .ours = true } } },
	{ "8 numbers", .start = 1, .end = 8, .bypass = 1,
	  .old = { { 1, 8, .ours = true } }, .nr_endpoints = 3, .nr_domains = 2,
	  .no_bypass = true },
	{ "8 numbers of strangers", .start = 0, .end = 7, .bypass = 0,
	  .old = { { 0, 7 } }, .nr_endpoints = 3, .nr_domains = 2,
	  .no_bypass = true },
	{ "8 numbers of both kinds", .start = 1, .end = 8, .bypass = 1,
	  .old = { { 1, 3 }, { 4, 4, .bypass = true }, { 5, 8, .ours = true } },
	  .nr_endpoints = 3, .nr_domains = 2 },
	{ "4 numbers", .start = 1, .end = 4, .bypass = 1,
	  .old = { { 1, 4 } }, .nr_endpoints = 1, .nr_domains = 1,
	  .no_bypass = true },
	{ "3 numbers", .start = 5, .end = 7, .bypass = 1,
	  .old = { { 5, 7, .ours = true } }, .nr_endpoints = 1,
	  .no_bypass = true },
	{ "3 numbers of strangers", .start = 5, .end = 7, .bypass = 0,
	  .old = { { 5, 7 } }, .nr_endpoints = 1, .no_bypass = true },
};

KUNIT_ARRAY_PARAM_DESC(inherit, inherit_cases, name);

static void inherit_preload(struct fake_test *t,
			    const struct inherit_case *param)
{
	unsigned int i, nr = 0, used = 0;
	u64 domain;

	for (i = 0; i < ARRAY_SIZE(param->old); i++) {
		const struct old_domains *old = &param->old[i];

		if (!old->bypass && !old->ours && !old->last && i)
			break;
		for (domain = old->first; domain <= old->last; domain++) {
			u32 id = STRANGER + nr++;

			if (old->ours && used < param->nr_endpoints)
				id = t->endpoints[used++].fake.ids[0];
			test_preload(t, domain, old->bypass, id);
		}
	}
}

/* The device with what it has from before, and with its driver */
static void inherit_start(struct fake_test *t,
			  const struct inherit_case *param)
{
	struct fake_config config = fake_default_config;
	unsigned int i;
	int warnings;

	config.quirks |= FAKE_RESET_KEEPS | FAKE_KIND_LEAVES;
	if (param->personality)
		config = *fake_personality(param->personality);
	config.domain_start = param->start;
	config.domain_end = param->end;
	config.bypass = param->bypass;
	t->refuses_nothing = true;
	t->stays_attached = true;
	test_create(t, &config);
	for (i = 0; i < param->nr_endpoints; i++)
		test_plug(t, i);
	inherit_preload(t, param);
	kunit_warning_suppress(t->test) {
		KUNIT_ASSERT_TRUE(t->test, test_register(t));
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	KUNIT_EXPECT_EQ(t->test, warnings, 0);
	for (i = 0; i < param->nr_endpoints; i++)
		KUNIT_ASSERT_TRUE(t->test,
				  fake_endpoint_translated(&t->endpoints[i].fake));
	test_expect_agree(t, "at the start");
}

/* No mapping of before is under an endpoint, or in the way of a new one. */
static void fake_inherit(struct kunit *test)
{
	const struct inherit_case *param = test->param_value;
	struct test_domain *domains[TEST_MAX_DOMAINS];
	struct fake_test *t = test->priv;
	unsigned int i;
	int ret;

	test_needs_unsafe(t, "unregisters an IOMMU twice");
	inherit_start(t, param);
	for (i = 0; i < param->nr_domains; i++) {
		domains[i] = test_alloc(t, i);
		KUNIT_ASSERT_NOT_NULL(test, domains[i]);
		test_map_each(t, domains[i], 5, 2, 1);
		KUNIT_ASSERT_EQ(test, test_attach(t, i, domains[i]), 0);
		test_expect_agree(t, "after attaching");
		KUNIT_EXPECT_EQ(test, test_map(t, domains[i], 20, 8, 0, TEST_RW),
				0);
		test_expect_agree(t, "after mapping");
	}
	for (i = 0; i < param->nr_domains; i++)
		test_detach(t, i);
	KUNIT_ASSERT_EQ(test, iommu_device_claim_dma_owner(test_dev(t, 0), t),
			0);
	t->endpoints[0].claimed = true;
	test_expect_agree(t, "when blocked");
	iommu_device_release_dma_owner(test_dev(t, 0));
	t->endpoints[0].claimed = false;
	ret = fake_group_type(&t->endpoints[0].fake, "identity");
	if (!param->no_bypass)
		KUNIT_EXPECT_EQ(test, ret, 0);
	test_expect_agree(t, "with an identity domain");
}

/* An endpoint is plugged in that somebody else had in a domain. */
static void fake_inherit_plug(struct kunit *test)
{
	static const struct inherit_case param = {
		"plug", WIDE, .bypass = 0,
		.old = { { 3, 9 }, { 10, 20, .bypass = true } },
	};
	struct fake_test *t = test->priv;
	struct test_domain *domain;
	unsigned int i;

	test_needs_unsafe(t, "unregisters an IOMMU twice");
	inherit_start(t, &param);
	for (i = 3; i < 6; i++) {
		u32 id = STRANGER + i;

		test_set_ids(t, i, 1, &id);
		KUNIT_EXPECT_TRUE(test, test_plug(t, i));
		test_expect_agree(t, "after plugging in");
		domain = test_alloc(t, i);
		KUNIT_ASSERT_NOT_NULL(test, domain);
		KUNIT_EXPECT_EQ(test, test_attach(t, i, domain), 0);
		KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 4, 0, TEST_RW), 0);
		test_expect_agree(t, "after mapping");
	}
}

#define NR_NUMBERS	3

/* The numbers of two domains, and of the one that blocks. */
static void inherit_numbers(struct fake_test *t, u32 numbers[NR_NUMBERS])
{
	unsigned int i;

	for (i = 0; i < NR_NUMBERS; i++) {
		KUNIT_ASSERT_TRUE(t->test, test_plug(t, i));
		KUNIT_ASSERT_EQ(t->test, fake_group_type(&t->endpoints[i].fake,
							 "DMA"), 0);
	}
	KUNIT_ASSERT_EQ(t->test, iommu_device_claim_dma_owner(test_dev(t, 2), t),
			0);
	t->endpoints[2].claimed = true;
	test_expect_agree(t, "in a load");
	for (i = 0; i < NR_NUMBERS; i++) {
		struct model_endpoint *endpoint =
			model_endpoint(&t->fake->model,
				       t->endpoints[i].fake.ids[0]);

		KUNIT_ASSERT_NOT_NULL(t->test, endpoint->domain);
		numbers[i] = endpoint->domain->id;
	}
	iommu_device_release_dma_owner(test_dev(t, 2));
	for (i = 0; i < NR_NUMBERS; i++)
		test_unplug(t, i);
}

/* Two loads in a row do not use the same numbers, if there are many. */
static void fake_inherit_twice(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	u32 first[NR_NUMBERS], second[NR_NUMBERS];
	struct fake_test *t = test->priv;
	struct device *dev;
	unsigned int i, j;

	config.quirks |= FAKE_RESET_KEEPS;
	test_start(t, &config, 0);
	dev = &t->fake->vdev.dev;
	inherit_numbers(t, first);
	device_release_driver(dev);
	KUNIT_ASSERT_FALSE(test, fake_bound(t->fake));
	KUNIT_ASSERT_EQ(test, device_attach(dev), 1);
	inherit_numbers(t, second);
	for (i = 0; i < NR_NUMBERS; i++) {
		for (j = 0; j < NR_NUMBERS; j++)
			KUNIT_EXPECT_NE_MSG(test, first[i], second[j],
					    "%u and %u", i, j);
	}
}

static struct kunit_case fake_inherit_cases[] = {
	KUNIT_CASE_PARAM(fake_inherit, inherit_gen_params),
	KUNIT_CASE(fake_inherit_plug),
	KUNIT_CASE(fake_inherit_twice),
	{}
};

static struct kunit_suite fake_inherit_suite = {
	.name = "viommu_fake_inherit",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_inherit_cases,
};

kunit_test_suite(fake_inherit_suite);
