// SPDX-License-Identifier: GPL-2.0
/*
 * Every status on every request. Whatever fails leaves all as it was, and no
 * failure is silent.
 */
#include <linux/scatterlist.h>
#include <linux/sizes.h>

#include "tests.h"

struct status_case {
	const char *name;
	int status;
};

static const struct status_case status_cases[] = {
	{ "IOERR", VIRTIO_IOMMU_S_IOERR },
	{ "UNSUPP", VIRTIO_IOMMU_S_UNSUPP },
	{ "DEVERR", VIRTIO_IOMMU_S_DEVERR },
	{ "INVAL", VIRTIO_IOMMU_S_INVAL },
	{ "RANGE", VIRTIO_IOMMU_S_RANGE },
	{ "NOENT", VIRTIO_IOMMU_S_NOENT },
	{ "FAULT", VIRTIO_IOMMU_S_FAULT },
	{ "NOMEM", VIRTIO_IOMMU_S_NOMEM },
	{ "unknown", 9 },
	{ "255", 255 },
};

KUNIT_ARRAY_PARAM_DESC(status, status_cases, name);

/* The next request of this type, after @_skip of them, is refused. */
#define REFUSE(_type, _skip, _status) (&(struct fake_rule) {		\
		FAKE_RULE(_type), .skip = (_skip), .no_effect = true,	\
		.status = (_status) })

/*
 * INVAL may mean that somebody else has a domain of another kind with that number: it is
 * not wrong to try another one, which works.
 */
static bool status_may_work(struct kunit *test, int ret)
{
	const struct status_case *param = test->param_value;

	return !ret && param->status == VIRTIO_IOMMU_S_INVAL;
}

static int status_of(struct kunit *test)
{
	const struct status_case *param = test->param_value;

	return param->status;
}

/* The endpoint is not accepted, and that is reported. A second try works. */
static void fake_status_probe(struct kunit *test)
{
	struct fake_test *t = test->priv;

	test_start(t, NULL, 1);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_PROBE, 0, status_of(test)));
	test_log_mark(t);
	KUNIT_EXPECT_FALSE(test, test_plug(t, 1));
	KUNIT_EXPECT_TRUE_MSG(test,
			      test_log_has(t, "fake-endpoint", "probe") ||
			      test_log_has(t, fake_name(t->fake), "probe"),
			      "nothing is reported");
	test_unplug(t, 1);
	KUNIT_EXPECT_TRUE(test, test_plug(t, 1));
	test_expect_agree(t, "after the second try");
}

/* The endpoint stays where it was, with what was mapped there. */
static void fake_status_attach(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);
	int ret;

	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_ATTACH, 0, status_of(test)));
	ret = test_attach(t, 0, domain);
	if (!status_may_work(test, ret))
		KUNIT_EXPECT_LT(test, ret, 0);
	test_expect_agree(t, "after the failure");
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 1, 1, 0, TEST_RW), 0);
	if (ret)
		KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 2, 1, 0, TEST_RW), 0);
	test_expect_agree(t, "after the second try");
}

/* The old domain's account is as it was: it goes on to reach the device. */
static void fake_status_attach_other(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);
	struct test_domain *other = test_alloc(t, 0);
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, other);
	KUNIT_EXPECT_EQ(test, test_map(t, other, 0, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);

	test_rule(t, REFUSE(VIRTIO_IOMMU_T_ATTACH, 0, status_of(test)));
	ret = test_replace(t, 0, other);
	if (!status_may_work(test, ret))
		KUNIT_EXPECT_LT(test, ret, 0);
	test_expect_agree(t, "after the failure");
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 1, 1, 0, TEST_RW), 0);
	test_expect_agree(t, "after mapping in the old domain");
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, 1), 1);
	test_expect_agree(t, "after unmapping in the old domain");
}

/* The second of three ids cannot be attached: the first goes back. */
static void fake_status_attach_ids(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain;

	test_set_endpoint(t, 0, 3);
	domain = test_start_domain(t, NULL, 1);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_ATTACH, 1, status_of(test)));
	KUNIT_EXPECT_LT(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after the failure");
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after the second try");
}

/* The new domain cannot get its mappings: back to the old one and its own. */
static void fake_status_replay_other(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);
	struct test_domain *other = test_alloc(t, 0);

	KUNIT_ASSERT_NOT_NULL(test, other);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_map_each(t, domain, 5, 2, 1);
	test_map_each(t, other, 5, 3, 2);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_MAP, 3, status_of(test)));
	KUNIT_EXPECT_LT(test, test_replace(t, 0, other), 0);
	test_expect_agree(t, "after the failure");
	KUNIT_EXPECT_EQ(test, test_replace(t, 0, other), 0);
	test_expect_agree(t, "after the second try");
}

/* A domain that cannot get its mappings back is not attached. */
static void fake_status_replay(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);

	test_map_each(t, domain, 5, 2, 1);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_MAP, 2, status_of(test)));
	KUNIT_EXPECT_LT(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after the failure");
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after the second try");
}

/* The map that the caller made fails, and leaves nothing behind. */
static void fake_status_map(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);

	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_MAP, 0, status_of(test)));
	KUNIT_EXPECT_LT(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	test_expect_agree(t, "after the failure");
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	test_expect_agree(t, "after the second try");
}

/* One of several mappings fails: none is left. */
static void fake_status_map_sg(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);
	struct scatterlist sg[5];
	unsigned int i, nents = ARRAY_SIZE(sg);
	void *pages;

	pages = kunit_kmalloc(test, 10 * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	sg_init_table(sg, nents);
	for (i = 0; i < nents; i++)
		sg_set_buf(&sg[i], PTR_ALIGN(pages, PAGE_SIZE) +
				   (8 - 2 * i) * PAGE_SIZE, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	for (i = 0; i < nents; i++) {
		test_clear_rules(t);
		test_rule(t, REFUSE(VIRTIO_IOMMU_T_MAP, i, status_of(test)));
		KUNIT_EXPECT_LT(test, test_map_sg(t, domain, 0, sg, nents,
						  TEST_RW), 0);
		test_expect_agree(t, "after the failure");
	}
	KUNIT_EXPECT_EQ(test, test_map_sg(t, domain, 0, sg, nents, TEST_RW),
			0);
	test_expect_agree(t, "after the last try");
}

/*
 * The old translation stands. It is reported with its range, and nothing is
 * mapped over it as if it were gone.
 */
static void fake_status_unmap(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);
	char iova[32];

	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 4, TEST_PHYS, TEST_RW), 0);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_UNMAP, 0, status_of(test)));
	test_log_mark(t);
	iommu_unmap(domain->domain, domain->base, 4 * t->granule);
	scnprintf(iova, sizeof(iova), "%llx", domain->base);
	KUNIT_EXPECT_TRUE_MSG(test,
			      test_log_has(t, fake_name(t->fake), iova) ||
			      test_log_has(t, "fake-endpoint", iova),
			      "the failed UNMAP of %s is not reported", iova);
	KUNIT_EXPECT_LT(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 8, 1, 0, TEST_RW), 0);

	/* With its last endpoint, the domain's translations are gone. */
	test_forget(domain, 0, 4);
	test_detach(t, 0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	test_expect_agree(t, "after attaching again");
}

/* An endpoint that cannot be detached is released, with a message and without a splat. */
static void fake_status_detach(struct kunit *test)
{
	struct fake_test *t = test->priv;
	int warnings = 0;

	test_start(t, NULL, 1);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_DETACH, 0, status_of(test)));
	test_log_mark(t);
	kunit_warning_suppress(test) {
		test_unplug(t, 0);
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	KUNIT_EXPECT_EQ(test, warnings, 0);
	KUNIT_EXPECT_TRUE_MSG(test, test_log_says(t, "detach") ||
			      test_log_says(t, "DETACH"),
			      "nothing is reported");
	KUNIT_EXPECT_TRUE(test, test_plug(t, 0));
	test_expect_agree(t, "after plugging in again");
}

/* A device that says yes to a mapping and then forgets it: no crash. */
static void fake_status_unmap_lost(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);

	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_rule(t, REFUSE(VIRTIO_IOMMU_T_MAP, 0, VIRTIO_IOMMU_S_OK));
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, 1), 1);
	test_expect_agree(t, "after unmapping");
}

/* What the IOMMU core is told of a refused endpoint is what it knows: see attach_dev. */
static void fake_status_attach_error(struct kunit *test)
{
	static const int errors[] = { -EINVAL, -ENOMEM, -ENODEV, -ENOSPC, -EBUSY };
	static const u8 types[] = { VIRTIO_IOMMU_T_ATTACH, VIRTIO_IOMMU_T_MAP };
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);
	unsigned int i, j;

	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		int ret;

		test_rule(t, REFUSE(types[i], 0, status_of(test)));
		ret = test_attach(t, 0, domain);
		for (j = 0; j < ARRAY_SIZE(errors) && ret != errors[j]; j++)
			;
		if (types[i] != VIRTIO_IOMMU_T_ATTACH ||
		    !status_may_work(test, ret))
			KUNIT_EXPECT_LT_MSG(test, j, ARRAY_SIZE(errors),
					    "%d for a request of type %u", ret,
					    types[i]);
		if (!ret)
			test_detach(t, 0);
		test_clear_rules(t);
	}
}

/* A device that says nothing of the length, but writes the status: it is in the message. */
static void fake_status_used_0(struct kunit *test)
{
	const struct status_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);
	struct fake_rule rule = *REFUSE(VIRTIO_IOMMU_T_MAP, 0, param->status);
	/* 255 may be what a driver has put there itself. */
	bool known = param->status != U8_MAX;
	const char *says = !known ? "failed" :
			   param->status > VIRTIO_IOMMU_S_NOMEM ?
			   "unknown" : param->name;

	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	rule.used = 0;
	test_rule(t, &rule);
	test_log_mark(t);
	KUNIT_EXPECT_LT(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_TRUE_MSG(test, test_log_says(t, says),
			      "nothing is said of \"%s\"", says);
	if (known)
		KUNIT_EXPECT_FALSE(test, test_log_says(t, "no status"));
	test_expect_agree(t, "after the failure");
}

static struct kunit_case fake_status_cases[] = {
	KUNIT_CASE_PARAM(fake_status_probe, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_attach, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_attach_other, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_attach_ids, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_attach_error, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_used_0, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_replay, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_replay_other, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_map, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_map_sg, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_unmap, status_gen_params),
	KUNIT_CASE_PARAM(fake_status_detach, status_gen_params),
	KUNIT_CASE(fake_status_unmap_lost),
	{}
};

static struct kunit_suite fake_status_suite = {
	.name = "viommu_fake_status",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_status_cases,
};

kunit_test_suite(fake_status_suite);
