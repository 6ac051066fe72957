// SPDX-License-Identifier: GPL-2.0
/*
 * Resuming, when it fails: what cannot be as it was before does no DMA.
 */
#include "tests.h"

#ifdef CONFIG_PM_SLEEP

/*
 * One of its mappings is refused to a domain. What was attached to it is blocked, and
 * has nothing to do with a domain that is half there; the others are as they were.
 */
static void fake_resume_refused(struct kunit *test)
{
	struct fake_rule third = {
		FAKE_RULE(VIRTIO_IOMMU_T_MAP), .skip = 2, .no_effect = true,
		.status = VIRTIO_IOMMU_S_NOMEM,
	};
	struct fake_test *t = test->priv;
	struct test_domain *domain, *other;

	test_needs_unsafe(t, "spins for ever after it resumes");
	/* Endpoints resume in the order of their ids. */
	domain = test_start_domain(t, NULL, 3);
	other = test_alloc(t, 1);
	KUNIT_ASSERT_NOT_NULL(test, other);
	test_map_each(t, domain, 5, 2, 1);
	test_map_each(t, other, 3, 3, 2);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_ASSERT_EQ(test, test_attach(t, 1, other), 0);

	KUNIT_ASSERT_EQ(test, virtio_device_freeze(&t->fake->vdev), 0);
	test_rule(t, &third);
	test_log_mark(t);
	KUNIT_EXPECT_EQ(test, virtio_device_restore(&t->fake->vdev), 0);
	KUNIT_EXPECT_TRUE(test, test_log_has(t, "fake-endpoint",
					     "return to its domain"));
	KUNIT_EXPECT_TRUE(test, test_log_has(t, "fake-endpoint", "blocked"));

	/* As if it were claimed */
	t->endpoints[0].domain = NULL;
	t->endpoints[0].claimed = true;
	test_expect_agree(t, "after resuming");
	KUNIT_EXPECT_EQ(test, t->fake->model.nr_mappings, 3);
	t->endpoints[0].claimed = false;
	t->endpoints[0].domain = domain;

	/* Attaching again heals it. */
	test_detach(t, 0);
	test_expect_agree(t, "after detaching");
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after attaching again");
}

/*
 * The driver gets no queues after a hibernation, which has put the global bypass back:
 * endpoints are blocked all the same, until a second try works.
 */
static void fake_resume_fails(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain;

	test_needs_unsafe(t, "spins for ever after it resumes");
	domain = test_start_domain(t, NULL, 2);
	test_map_each(t, domain, 5, 2, 1);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(&t->fake->vdev), 0);

	fake_machine_reset(t->fake);
	t->fake->refuse_vqs = true;
	KUNIT_EXPECT_LT(test, virtio_device_restore(&t->fake->vdev), 0);
	KUNIT_EXPECT_EQ(test, t->fake->model.bypass, t->bypass);

	t->fake->refuse_vqs = false;
	KUNIT_EXPECT_EQ(test, virtio_device_restore(&t->fake->vdev), 0);
	test_expect_agree(t, "after the second try");
}

struct keeps_case {
	const char *name;
	const char *personality;
	u32 refused;		/* DETACHes: of the endpoint with this id */
	bool all;
};

static const struct keeps_case keeps_cases[] = {
	{ "plain" },
	{ "a DETACH is refused", .refused = 8 },
	{ "each DETACH is refused", .all = true },
	{ "qemu10", "qemu10" },
	{ "cloud-hypervisor", "cloud-hypervisor" },
};

KUNIT_ARRAY_PARAM_DESC(keeps, keeps_cases, name);

/*
 * A device that keeps everything over a reset, also what it did not let go: nothing of
 * before is in the way, and nothing of it is under an endpoint.
 */
static void fake_resume_keeps(struct kunit *test)
{
	const struct keeps_case *param = test->param_value;
	struct fake_config config = fake_default_config;
	struct test_domain *domain, *other;
	struct fake_test *t = test->priv;
	unsigned int cycle;

	test_needs_unsafe(t, "spins for ever after it resumes");
	config.quirks |= FAKE_RESET_KEEPS | FAKE_KIND_LEAVES;
	if (param->personality)
		config = *fake_personality(param->personality);
	t->refuses_nothing = true;
	test_set_endpoint(t, 1, 2);
	domain = test_start_domain(t, &config, 4);
	other = test_alloc(t, 1);
	KUNIT_ASSERT_NOT_NULL(test, other);
	test_map_each(t, domain, 5, 2, 1);
	test_map_each(t, other, 3, 3, 2);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_ASSERT_EQ(test, test_attach(t, 1, other), 0);
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[2].fake, "identity"),
			0);
	for (cycle = 0; cycle < 3; cycle++) {
		if (param->refused || param->all)
			test_rule(t, &(struct fake_rule) {
				FAKE_RULE(VIRTIO_IOMMU_T_DETACH), .times = 0,
				.endpoint = param->refused, .no_effect = true,
				.status = VIRTIO_IOMMU_S_DEVERR });
		KUNIT_ASSERT_EQ(test, virtio_device_freeze(&t->fake->vdev), 0);
		test_clear_rules(t);
		KUNIT_ASSERT_EQ(test, virtio_device_restore(&t->fake->vdev), 0);
		test_expect_agree(t, "after resuming");
		KUNIT_EXPECT_EQ(test, test_map(t, domain, 20 + cycle, 1, 0,
					       TEST_RW), 0);
		test_expect_agree(t, "after mapping");
	}
}

/* Hibernation: the machine is reset, and another kernel had the device in between. */
static void fake_resume_hibernated(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct test_domain *domain;
	unsigned int i;

	test_needs_unsafe(t, "spins for ever after it resumes");
	config.quirks |= FAKE_RESET_KEEPS | FAKE_KIND_LEAVES;
	t->refuses_nothing = true;
	t->stays_attached = true;
	domain = test_start_domain(t, &config, 3);
	test_map_each(t, domain, 5, 2, 1);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(&t->fake->vdev), 0);
	fake_machine_reset(t->fake);
	KUNIT_EXPECT_EQ(test, t->fake->model.bypass, 1);
	for (i = 1; i < 10; i++)
		test_preload(t, i, i % 4 == 1, i < 3 ? 0x100 * i + 8 : 0x9000 + i);
	KUNIT_ASSERT_EQ(test, virtio_device_restore(&t->fake->vdev), 0);
	test_expect_agree(t, "after resuming");
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 20, 1, 0, TEST_RW), 0);
	test_expect_agree(t, "after mapping");
}

static struct kunit_case fake_resume_cases[] = {
	KUNIT_CASE_PARAM(fake_resume_keeps, keeps_gen_params),
	KUNIT_CASE(fake_resume_hibernated),
	KUNIT_CASE(fake_resume_refused),
	KUNIT_CASE(fake_resume_fails),
	{}
};

static struct kunit_suite fake_resume_suite = {
	.name = "viommu_fake_resume",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_resume_cases,
};

kunit_test_suite(fake_resume_suite);

#endif
