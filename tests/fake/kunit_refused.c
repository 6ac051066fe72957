// SPDX-License-Identifier: GPL-2.0
/*
 * Refusals that are many, that nobody comes for, or that outlive what they are
 * about: they stay with the domain that they concern.
 */
#include <linux/scatterlist.h>
#include <linux/sizes.h>

#include "tests.h"

/* More than a driver is likely to remember one by one */
#define MANY		300

struct refused_ring {
	const char *name;
	unsigned int size;
};

static const struct refused_ring refused_rings[] = {
	{ "a few at a time", 64 },
	{ "all at once", FAKE_MAX_RING },
};

KUNIT_ARRAY_PARAM_DESC(ring, refused_rings, name);

/* Requests of this type are refused: @_times of them, or all if that is 0. */
#define REFUSE(_type, _times) (&(struct fake_rule) {			\
		FAKE_RULE(_type), .times = (_times), .no_effect = true,	\
		.status = VIRTIO_IOMMU_S_NOMEM })

struct refused_run {
	struct test_domain *domain;
	struct test_domain *other;	/* of endpoint 1 */
};

static void refused_start(struct refused_run *run, struct fake_test *t)
{
	const struct refused_ring *ring = t->test->param_value;
	struct fake_config config = fake_default_config;

	if (ring)
		config.ring_size = ring->size;
	run->domain = test_start_domain(t, &config, 2);
	run->other = test_alloc(t, 1);
	KUNIT_ASSERT_NOT_NULL(t->test, run->other);
	KUNIT_ASSERT_EQ(t->test, test_attach(t, 1, run->other), 0);
}

/* What does not concern another domain does not harm it. */
static void refused_elsewhere(struct refused_run *run, struct fake_test *t)
{
	KUNIT_EXPECT_EQ(t->test, test_map(t, run->other, 0, 2, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(t->test, test_unmap(t, run->other, 0, 2), 2);
	KUNIT_EXPECT_EQ(t->test, test_map(t, run->other, 1, 3, 0, TEST_RW), 0);
}

/* All of 300 mappings are refused to a domain that gets its first endpoint. */
static void fake_refused_replay(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct refused_run run;

	refused_start(&run, t);
	test_map_each(t, run.domain, MANY, 2, 1);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_MAP, 0));
	KUNIT_EXPECT_LT(test, test_attach(t, 0, run.domain), 0);
	test_clear_rules(t);
	test_expect_agree(t, "after the failure");
	refused_elsewhere(&run, t);
	test_expect_agree(t, "after mapping elsewhere");
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, run.domain), 0);
	test_expect_agree(t, "after the second try");
}

/*
 * 300 UNMAPs of ranges that do not touch are refused. Nothing is mapped over any of
 * them while the domain has its endpoint; other domains do not care.
 */
static void fake_refused_unmaps(struct kunit *test)
{
	struct fake_test *t = test->priv;
	unsigned int i, granted = 0;
	struct refused_run run;

	refused_start(&run, t);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, run.domain), 0);
	test_map_each(t, run.domain, MANY, 2, 1);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_UNMAP, 0));
	for (i = 0; i < MANY; i++)
		test_unmap(t, run.domain, 2 * i, 1);
	test_clear_rules(t);
	refused_elsewhere(&run, t);
	for (i = 0; i < MANY; i++)
		granted += !test_map(t, run.domain, 2 * i, 1, 0, TEST_RW);
	KUNIT_EXPECT_EQ(test, granted, 0);

	/* With its last endpoint, the domain's translations are gone. */
	test_forget(run.domain, 0, TEST_SLOTS);
	test_detach(t, 0);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, run.domain), 0);
	test_map_each(t, run.domain, MANY, 2, 1);
	test_expect_agree(t, "after attaching again");
}

/* All of 300 mappings of one call are refused: it fails, and leaves nothing behind. */
static void fake_refused_sg(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct refused_run run;
	struct scatterlist *sg;
	unsigned int i;
	void *pages;

	pages = kunit_kmalloc(test, 2 * PAGE_SIZE, GFP_KERNEL);
	sg = kunit_kcalloc(test, MANY, sizeof(*sg), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	KUNIT_ASSERT_NOT_NULL(test, sg);
	/* Always the same page, so that no two become one mapping */
	sg_init_table(sg, MANY);
	for (i = 0; i < MANY; i++)
		sg_set_buf(&sg[i], PTR_ALIGN(pages, PAGE_SIZE), PAGE_SIZE);

	refused_start(&run, t);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, run.domain), 0);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_MAP, 0));
	KUNIT_EXPECT_LT(test, test_map_sg(t, run.domain, 0, sg, MANY, TEST_RW),
			0);
	test_clear_rules(t);
	test_expect_agree(t, "after the failure");
	refused_elsewhere(&run, t);
	KUNIT_EXPECT_EQ(test, test_map_sg(t, run.domain, 0, sg, MANY, TEST_RW),
			0);
	test_expect_agree(t, "after the second try");
}

/*
 * A MAP is refused of a call that fails anyway, before it looks at the answers. The
 * next map of the same addresses is another.
 */
static void fake_refused_uncollected(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct scatterlist sg[2];
	struct refused_run run;
	unsigned int nents = ARRAY_SIZE(sg);
	void *pages;

	pages = kunit_kmalloc(test, 4 * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	pages = PTR_ALIGN(pages, PAGE_SIZE);
	sg_init_table(sg, nents);
	sg_set_buf(&sg[0], pages + 2 * PAGE_SIZE, PAGE_SIZE);
	sg_set_buf(&sg[1], pages, PAGE_SIZE);

	refused_start(&run, t);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, run.domain), 0);
	KUNIT_ASSERT_EQ(test, test_map(t, run.domain, 1, 1, 0, TEST_RW), 0);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_MAP, 1));
	/* The second element is where something is mapped already. */
	KUNIT_EXPECT_LT(test, test_map_sg(t, run.domain, 0, sg, nents, TEST_RW),
			0);
	test_expect_agree(t, "after the failure");
	KUNIT_EXPECT_EQ(test, test_map(t, run.domain, 0, 1, 0, TEST_RW), 0);
	test_expect_agree(t, "after the next map");
}

struct release_case {
	const char *name;
	u8 type;		/* of the requests that are refused */
	unsigned int nr_mappings;	/* that the endpoint keeps */
	const char *says;
};

static const struct release_case release_cases[] = {
	{ "DETACH", VIRTIO_IOMMU_T_DETACH, 0, "DMA is blocked" },
	{ "every request", FAKE_ANY, 4, "cannot be blocked" },
};

KUNIT_ARRAY_PARAM_DESC(release, release_cases, name);

/*
 * The device keeps a released endpoint, hence its domain with what is mapped there,
 * unless it can be blocked. No other domain gets that one's number.
 */
static void fake_refused_release(struct kunit *test)
{
	const struct release_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct test_domain *domain, *fresh;
	unsigned int i;

	domain = test_start_domain(t, NULL, 2);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	test_map_each(t, domain, 4, 2, 1);
	test_rule(t, REFUSE(param->type, 0));
	test_log_mark(t);
	kunit_warning_suppress(test) {
		/* The core warns about the domain that it is attached to. */
		test_unplug(t, 0);
	}
	t->stays_attached = true;
	KUNIT_EXPECT_EQ(test, t->fake->model.nr_mappings, param->nr_mappings);
	KUNIT_EXPECT_TRUE_MSG(test,
			      test_log_has(t, "fake-endpoint", param->says),
			      "nothing is said of \"%s\"", param->says);
	test_free(t, domain);
	test_clear_rules(t);

	for (i = 0; i < 4; i++) {
		fresh = test_alloc(t, 1);
		KUNIT_ASSERT_NOT_NULL(test, fresh);
		if (i)
			test_detach(t, 1);
		KUNIT_EXPECT_EQ(test, test_attach(t, 1, fresh), 0);
		KUNIT_EXPECT_EQ(test, test_map(t, fresh, 0, 4, SZ_1G, TEST_RW),
				0);
		test_expect_agree(t, "in a new domain");
	}
	KUNIT_EXPECT_TRUE(test, test_plug(t, 0));
	t->stays_attached = false;
	test_expect_agree(t, "after plugging in again");
}

static struct kunit_case fake_refused_cases[] = {
	KUNIT_CASE_PARAM(fake_refused_replay, ring_gen_params),
	KUNIT_CASE_PARAM(fake_refused_unmaps, ring_gen_params),
	KUNIT_CASE_PARAM(fake_refused_sg, ring_gen_params),
	KUNIT_CASE(fake_refused_uncollected),
	KUNIT_CASE_PARAM(fake_refused_release, release_gen_params),
	{}
};

static struct kunit_suite fake_refused_suite = {
	.name = "viommu_fake_refused",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_refused_cases,
};

kunit_test_suite(fake_refused_suite);
