// SPDX-License-Identifier: GPL-2.0
/*
 * The IOMMU goes away: unbound, unplugged by surprise, shut down, suspended; idle
 * and in the middle of a request.
 */
#include <linux/delay.h>
#include <linux/kthread.h>

#include "tests.h"

/* Unbound while nothing happens. */
static void fake_gone_idle(struct kunit *test)
{
	struct fake_test *t = test->priv;
	int warnings = 0;

	test_needs_unsafe(t, "follows a null pointer");
	test_start(t, NULL, 2);
	kunit_warning_suppress(test) {
		fake_unregister(t->fake);
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	KUNIT_EXPECT_EQ(test, warnings, 0);
	test_forget_endpoints(t);
	KUNIT_EXPECT_EQ(test, t->fake->status, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	test_stop(t);

	/* Nothing is left that would be in the way of the next. */
	test_start(t, NULL, 2);
}

/* Unplugged without notice. */
static void fake_gone_by_surprise(struct kunit *test)
{
	struct fake_test *t = test->priv;
	int warnings = 0;

	test_needs_unsafe(t, "follows a null pointer");
	test_start(t, NULL, 2);
	fake_end(t->fake, FAKE_BREAKS);
	kunit_warning_suppress(test) {
		fake_unregister(t->fake);
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	KUNIT_EXPECT_EQ(test, warnings, 0);
	test_forget_endpoints(t);
	test_stop(t);
	test_start(t, NULL, 2);
}

/* The queue breaks while nobody has a request: the next one fails, and that is reported. */
static void fake_gone_unnoticed(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain;

	domain = test_start_domain(t, NULL, 1);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	fake_end(t->fake, FAKE_BREAKS);
	test_log_mark(t);
	KUNIT_EXPECT_LT(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_TRUE_MSG(test,
			      test_log_has(t, fake_name(t->fake), "broken") ||
			      test_log_has(t, fake_name(t->fake), "cannot"),
			      "nothing is reported");
	KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(domain->domain, domain->base),
			0);
	kunit_warning_suppress(test) {
		test_stop(t);
	}
}

/* Domains that outlive their IOMMU are of no use, and do no harm. */
static void fake_gone_domains(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain, *attached;
	unsigned int i, requests;

	test_needs_unsafe(t, "uses memory after it is freed");
	test_start(t, NULL, 2);
	domain = test_alloc(t, 0);
	attached = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(test, domain);
	KUNIT_ASSERT_NOT_NULL(test, attached);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 1, TEST_PHYS, TEST_RW),
			0);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, attached), 0);
	KUNIT_EXPECT_EQ(test, test_map(t, attached, 0, 1, TEST_PHYS, TEST_RW),
			0);
	kunit_warning_suppress(test) {
		/* The core warns about the domain that is still attached. */
		fake_unregister(t->fake);
	}
	test_forget_endpoints(t);
	/* No endpoint is attached any more: what the driver keeps is all there is. */
	requests = fake_requests(t->fake, FAKE_ANY);
	for (i = 0; i < 2; i++) {
		struct iommu_domain *each = t->domains[i]->domain;

		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(each, TEST_BASE),
				TEST_PHYS);
		KUNIT_EXPECT_EQ(test, iommu_map(each, TEST_BASE + SZ_1M, 0,
						t->granule, TEST_RW,
						GFP_KERNEL), 0);
		KUNIT_EXPECT_EQ(test, iommu_unmap(each, TEST_BASE, t->granule),
				t->granule);
		KUNIT_EXPECT_EQ(test, iommu_iova_to_phys(each, TEST_BASE), 0);
	}
	KUNIT_EXPECT_EQ(test, fake_requests(t->fake, FAKE_ANY), requests);
	test_stop(t);
	test_start(t, NULL, 2);
}

struct gone_worker {
	struct fake_test *t;
	struct test_domain *domain;
	unsigned int operations;
	unsigned int failures;
};

/* Maps and unmaps until it is told to stop. */
static int gone_map(void *data)
{
	struct gone_worker *worker = data;
	struct iommu_domain *domain = worker->domain->domain;
	u64 granule = worker->t->granule;

	while (!kthread_should_stop()) {
		worker->operations++;
		if (iommu_map(domain, TEST_BASE, 0, granule, TEST_RW,
			      GFP_KERNEL)) {
			worker->failures++;
			usleep_range(100, 200);
		} else {
			iommu_unmap(domain, TEST_BASE, granule);
		}
		cond_resched();
	}
	return 0;
}

struct gone_case {
	const char *name;
	void (*end)(struct fake_test *t);
	bool detaches;	/* the endpoint; the domain is then as good as a new one */
};

static void gone_breaks(struct fake_test *t)
{
	fake_end(t->fake, FAKE_BREAKS);
}

static void gone_unplugged(struct fake_test *t)
{
	fake_end(t->fake, FAKE_BREAKS);
	fake_unregister(t->fake);
}

static void gone_stops(struct fake_test *t)
{
	fake_end(t->fake, FAKE_STOPS);
}

static void gone_shut_down(struct fake_test *t)
{
	ending_run(t, END_SHUTDOWN);
}

static void gone_unbound(struct fake_test *t)
{
	fake_unregister(t->fake);
}

#ifdef CONFIG_PM_SLEEP
static void gone_suspended(struct fake_test *t)
{
	KUNIT_EXPECT_EQ(t->test, virtio_device_freeze(&t->fake->vdev), 0);
}
#endif

static const struct gone_case gone_cases[] = {
	{ "breaks", gone_breaks },
	{ "stops", gone_stops },
	{ "is unplugged", gone_unplugged, .detaches = true },
	{ "is unbound", gone_unbound, .detaches = true },
	{ "is shut down", gone_shut_down, .detaches = true },
#ifdef CONFIG_PM_SLEEP
	/* What is mapped meanwhile gets to the device when it is resumed. */
	{ "is suspended", gone_suspended, .detaches = true },
#endif
};

KUNIT_ARRAY_PARAM_DESC(gone, gone_cases, name);

/* Whether the mapper has seen the end. */
static bool gone_noticed(const struct gone_case *param,
			 struct gone_worker *worker, unsigned int operations)
{
	return READ_ONCE(worker->failures) ||
	       (param->detaches &&
		READ_ONCE(worker->operations) - operations > 100);
}

/* While another CPU maps and unmaps, and another CPU answers. */
static void fake_gone_meanwhile(struct kunit *test)
{
	const struct gone_case *param = test->param_value;
	struct gone_worker worker = { .t = test->priv };
	struct fake_test *t = test->priv;
	unsigned int waits, operations;
	struct task_struct *thread;

	test_needs_unsafe(t, "spins for ever");
	worker.domain = test_start_domain(t, NULL, 2);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, worker.domain), 0);
	t->fake->async = num_online_cpus() > 1;

	thread = kthread_run(gone_map, &worker, "viommu-fake");
	KUNIT_ASSERT_FALSE(test, IS_ERR(thread));
	msleep(100);
	kunit_warning_suppress(test) {
		param->end(t);
	}
	operations = READ_ONCE(worker.operations);
	/* A device that only stops is given up after a while. */
	for (waits = 0; waits < 600; waits++) {
		if (gone_noticed(param, &worker, operations))
			break;
		msleep(50);
	}
	KUNIT_EXPECT_TRUE(test, gone_noticed(param, &worker, operations));
	kthread_stop(thread);
	kunit_info(test, "%u operations, %u failed", worker.operations,
		   worker.failures);

	kunit_warning_suppress(test) {
		if (!t->fake->registered)
			test_forget_endpoints(t);
		t->fake->async = false;
		test_stop(t);
	}
}

struct gone_up_case {
	const char *name;
	struct fake_rule rule;
	bool slow;
};

static const struct gone_up_case gone_up_cases[] = {
	{ "answers nonsense",
	  { FAKE_RULE(VIRTIO_IOMMU_T_MAP), .completion = FAKE_OUT_OF_RANGE } },
	{ "never answers",
	  { FAKE_RULE(VIRTIO_IOMMU_T_MAP), .completion = FAKE_NEVER },
	  .slow = true },
};

KUNIT_ARRAY_PARAM_DESC(gone_up, gone_up_cases, name);

/*
 * The driver has given the device up, which may go on translating: what is unmapped
 * from then on is reported with its range.
 */
static void fake_gone_unmap(struct kunit *test)
{
	const struct gone_up_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct test_domain *domain;
	char iova[32];

	if (param->slow)
		test_is_slow(t);
	test_needs_unsafe(t, "spins for ever");
	domain = test_start_domain(t, NULL, 1);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_ASSERT_EQ(test, test_map(t, domain, 16, 4, 0, TEST_RW), 0);
	test_rule(t, &param->rule);
	KUNIT_EXPECT_LT(test, test_map(t, domain, 0, 1, 0, TEST_RW), 0);

	test_log_mark(t);
	test_unmap(t, domain, 16, 4);
	scnprintf(iova, sizeof(iova), "%llx", domain->base + 16 * t->granule);
	KUNIT_EXPECT_TRUE_MSG(test, test_log_has(t, fake_name(t->fake), iova),
			      "the UNMAP of %s is not reported", iova);
	kunit_warning_suppress(test) {
		test_stop(t);
	}
}

#ifdef CONFIG_PM_SLEEP
/* Everything is as it was after a suspend to RAM, which resets the device. */
static void fake_gone_suspend(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain;
	u32 resets;

	test_needs_unsafe(t, "spins for ever after it resumes");
	test_set_endpoint(t, 1, 2);
	domain = test_start_domain(t, NULL, 4);
	KUNIT_ASSERT_EQ(test, test_map(t, domain, 0, 3, 0, TEST_RW), 0);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_ASSERT_EQ(test, test_attach(t, 1, domain), 0);
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[2].fake,
					      "identity"), 0);
	KUNIT_ASSERT_EQ(test, iommu_device_claim_dma_owner(test_dev(t, 3), t),
			0);
	t->endpoints[3].claimed = true;

	resets = t->fake->stats.resets;
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(&t->fake->vdev), 0);
	/* While suspended nothing reaches the device, and nothing hangs. */
	iommu_map(domain->domain, TEST_BASE + SZ_1M, 0, t->granule, TEST_RW,
		  GFP_KERNEL);
	iommu_unmap(domain->domain, TEST_BASE + SZ_1M, t->granule);
	KUNIT_ASSERT_EQ(test, virtio_device_restore(&t->fake->vdev), 0);
	KUNIT_EXPECT_GT(test, t->fake->stats.resets, resets);
	test_expect_agree(t, "after resuming");
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 5, 1, 0, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, 3), 3);
	test_expect_agree(t, "after mapping");
	KUNIT_EXPECT_GT(test, fake_event_buffers(t->fake), 0);
}
#endif

static struct kunit_case fake_gone_cases[] = {
	KUNIT_CASE(fake_gone_idle),
	KUNIT_CASE(fake_gone_by_surprise),
	KUNIT_CASE(fake_gone_unnoticed),
	KUNIT_CASE(fake_gone_domains),
	KUNIT_CASE_PARAM(fake_gone_meanwhile, gone_gen_params),
	KUNIT_CASE_PARAM(fake_gone_unmap, gone_up_gen_params),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE(fake_gone_suspend),
#endif
	{}
};

static struct kunit_suite fake_gone_suite = {
	.name = "viommu_fake_gone",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_gone_cases,
};

kunit_test_suite(fake_gone_suite);
