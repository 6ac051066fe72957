// SPDX-License-Identifier: GPL-2.0
/*
 * Endpoints that share an id, as PCI functions behind a conventional bridge do: all
 * of their requests have the bridge's.
 *
 * On PCI the core puts such endpoints into the same group, and so always into the
 * same domain. Here each has its own group, and the case takes care of the domain.
 */
#include "tests.h"

struct shared_case {
	const char *name;
	unsigned int nr_ids[2];
	u32 ids[2][2];
};

static const struct shared_case shared_cases[] = {
	{ "a function and its bridge", { 2, 1 }, { { 8, 9 }, { 9 } } },
	{ "a bridge and its function", { 1, 2 }, { { 9 }, { 8, 9 } } },
	{ "two functions of a bridge", { 2, 2 }, { { 8, 10 }, { 9, 10 } } },
	{ "the same id", { 1, 1 }, { { 8 }, { 8 } } },
};

KUNIT_ARRAY_PARAM_DESC(shared, shared_cases, name);

/* Both in one domain, with mappings */
static struct test_domain *shared_start(struct fake_test *t)
{
	const struct shared_case *param = t->test->param_value;
	struct test_domain *domain;
	unsigned int i;

	test_create(t, &fake_default_config);
	KUNIT_ASSERT_TRUE(t->test, test_register(t));
	for (i = 0; i < 2; i++) {
		test_set_ids(t, i, param->nr_ids[i], param->ids[i]);
		KUNIT_ASSERT_TRUE(t->test, test_plug(t, i));
	}
	domain = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(t->test, domain);
	test_map_each(t, domain, 4, 2, 1);
	for (i = 0; i < 2; i++)
		KUNIT_ASSERT_EQ(t->test, test_attach(t, i, domain), 0);
	test_expect_agree(t, "after attaching");
	return domain;
}

/* The domain stays as it is, with the other endpoint. */
static void shared_unplug(struct fake_test *t, unsigned int index)
{
	kunit_warning_suppress(t->test) {
		/* The core warns, as the group still has the case's domain. */
		test_unplug(t, index);
	}
}

/* The second of them to be attached changes nothing for the first. */
static void fake_shared_attach(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = shared_start(t);

	KUNIT_EXPECT_EQ(test, test_map(t, domain, 1, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, 1), 1);
	test_expect_agree(t, "after mapping");
	shared_unplug(t, 0);
	shared_unplug(t, 1);
}

/* One of them is unplugged. The other still has its domain, with all mappings. */
static void fake_shared_unplug(struct kunit *test)
{
	struct fake_test *t = test->priv;
	unsigned int first;

	for (first = 0; first < 2; first++) {
		struct test_domain *domain = shared_start(t);

		shared_unplug(t, first);
		test_expect_agree(t, "after unplugging one");
		KUNIT_EXPECT_EQ(test, test_map(t, domain, 1, 1, 0, TEST_RW), 0);
		test_expect_agree(t, "after mapping");
		shared_unplug(t, !first);
		KUNIT_EXPECT_EQ(test, t->fake->model.nr_mappings, 0);
		test_stop(t);
	}
}

#ifdef CONFIG_PM_SLEEP
/* Both come back, and with them what is mapped. */
static void fake_shared_suspend(struct kunit *test)
{
	struct fake_test *t = test->priv;

	test_needs_unsafe(t, "spins for ever after it resumes");
	shared_start(t);
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(&t->fake->vdev), 0);
	KUNIT_ASSERT_EQ(test, virtio_device_restore(&t->fake->vdev), 0);
	test_expect_agree(t, "after resuming");
	shared_unplug(t, 0);
	shared_unplug(t, 1);
}
#endif

static struct kunit_case fake_shared_cases[] = {
	KUNIT_CASE_PARAM(fake_shared_attach, shared_gen_params),
	KUNIT_CASE_PARAM(fake_shared_unplug, shared_gen_params),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE_PARAM(fake_shared_suspend, shared_gen_params),
#endif
	{}
};

static struct kunit_suite fake_shared_suite = {
	.name = "viommu_fake_shared",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_shared_cases,
};

kunit_test_suite(fake_shared_suite);
