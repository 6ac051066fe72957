// SPDX-License-Identifier: GPL-2.0
/*
 * A request that the device keeps: for good, until it is unplugged, or until it
 * completes it unanswered, in the place of another.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/workqueue.h>

#include "tests.h"

struct held_run {
	struct operation_run run;
	enum operation operation;
	struct work_struct work;
	struct completion seen;
	unsigned int nr_heads;
	u16 heads[2];		/* of the requests that the device was told to keep */
	int ret;
};

static void held_operate(struct work_struct *work)
{
	struct held_run *held = container_of(work, struct held_run, work);

	held->ret = operation_run(&held->run, held->operation);
}

static void held_seen(struct fake_viommu *fake, struct fake_request *request,
		      void *arg)
{
	struct held_run *held = arg;

	if (held->nr_heads < ARRAY_SIZE(held->heads))
		held->heads[held->nr_heads] = request->head;
	held->nr_heads++;
	complete(&held->seen);
}

/* Starts an operation on its own. A request of it gets to the device, which keeps it. */
static void held_begin(struct held_run *held, struct fake_test *t,
		       enum operation operation, u8 type,
		       const struct fake_rule *rule)
{
	struct fake_rule keep = *rule;

	held->operation = operation;
	held->nr_heads = 0;
	init_completion(&held->seen);
	keep.type = type;
	keep.hook = held_seen;
	keep.arg = held;
	test_rule(t, &keep);
	test_log_mark(t);

	INIT_WORK_ONSTACK(&held->work, held_operate);
	queue_work(system_dfl_wq, &held->work);
	KUNIT_EXPECT_TRUE(t->test, wait_for_completion_timeout(&held->seen,
							       10 * HZ));
}

static void held_start(struct held_run *held, struct fake_test *t,
		       enum operation operation, const struct fake_rule *rule)
{
	operation_start(&held->run, t);
	held_begin(held, t, operation, operation_types[operation], rule);
}

/* Waits for the end of the operation. */
static void held_join(struct held_run *held)
{
	flush_work(&held->work);
	destroy_work_on_stack(&held->work);
}

/* Waits for the end of the operation, which fails. */
static void held_end(struct held_run *held)
{
	struct kunit *test = held->run.t->test;

	held_join(held);
	KUNIT_EXPECT_LE(test, held->run.longest_ms, TEST_PROMPT_MS);
	if (operation_tells(held->operation))
		KUNIT_EXPECT_LT(test, held->ret, 0);
}

/* The operations up to @last, one after the other */
static const void *held_next(const void *prev, char *desc, enum operation last)
{
	static enum operation operation;

	operation = prev ? operation + 1 : OP_PROBE;
	if (operation > last)
		return NULL;
	scnprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s",
		  operation_names[operation]);
	return &operation;
}

static const void *unplugged_gen_params(struct kunit *test, const void *prev,
					char *desc)
{
	return held_next(prev, desc, OP_DETACH);
}

/*
 * The device is unplugged while a request is with it that it will never answer:
 * its caller is told, and nothing is left that would be in the way of the next.
 */
static void fake_held_unplugged(struct kunit *test)
{
	const enum operation *operation = test->param_value;
	struct fake_rule never = { FAKE_RULE(0), .completion = FAKE_NEVER };
	struct fake_test *t = test->priv;
	struct held_run held;
	unsigned int i;

	test_needs_unsafe(t, "spins for ever");
	held_start(&held, t, *operation, &never);
	kunit_warning_suppress(test) {
		fake_end(t->fake, FAKE_BREAKS);
		fake_unregister(t->fake);
		/* The core warns about the domain that is still attached. */
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	held_end(&held);

	for (i = 0; i < TEST_MAX_ENDPOINTS; i++)
		t->endpoints[i].domain = NULL;
	kunit_warning_suppress(test) {
		test_stop(t);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 0);
	}
	test_start(t, NULL, 2);
}

/* Those whose callers are told: the others are of the same kinds for a driver. */
static const void *another_gen_params(struct kunit *test, const void *prev,
				      char *desc)
{
	return held_next(prev, desc, OP_MAP);
}

/* A request that is completed when the device has not written a byte of its answer */
static const struct fake_rule held_unanswered = {
	FAKE_RULE(0), .no_effect = true, .write = 0, .used = U32_MAX,
};

/* The head is that of a mapping now, which the device has not looked at either. */
static void another_reused(struct held_run *held)
{
	struct fake_rule second = held_unanswered;
	struct fake_test *t = held->run.t;
	struct kunit *test = t->test;
	struct scatterlist sg[2];
	void *pages;

	pages = kunit_kmalloc(test, 4 * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	pages = PTR_ALIGN(pages, PAGE_SIZE);
	sg_init_table(sg, ARRAY_SIZE(sg));
	sg_set_buf(&sg[0], pages + 2 * PAGE_SIZE, PAGE_SIZE);
	sg_set_buf(&sg[1], pages, PAGE_SIZE);

	/* The first gets the head of the request that was answered. */
	second.type = VIRTIO_IOMMU_T_MAP;
	second.skip = 1;
	second.hook = held_seen;
	second.arg = held;
	test_rule(t, &second);
	KUNIT_EXPECT_LT(test, test_map_sg(t, held->run.domain, 200, sg,
					  ARRAY_SIZE(sg), TEST_RW), 0);
	test_clear_rules(t);
	KUNIT_EXPECT_EQ(test, held->nr_heads, 2);
	KUNIT_EXPECT_EQ_MSG(test, held->heads[0], held->heads[1],
			    "the head was not reused");
	test_expect_agree(t, "when it was reused");
	KUNIT_EXPECT_EQ(test, operation_run(&held->run, OP_MAP), 0);
}

/*
 * A request is completed that the device has not answered, in the place of another,
 * and once more when a new request has its head: each caller is told.
 */
static void fake_held_another(struct kunit *test)
{
	const enum operation *operation = test->param_value;
	struct fake_rule keep = held_unanswered;
	struct fake_test *t = test->priv;
	struct held_run held;

	test_needs_unsafe(t, "spins for ever");
	keep.completion = FAKE_HELD;
	held_start(&held, t, *operation, &keep);
	test_rule(t, &(struct fake_rule) {
		FAKE_RULE(VIRTIO_IOMMU_T_MAP), .completion = FAKE_ANOTHER });
	KUNIT_EXPECT_EQ(test, test_map(t, held.run.domain, 100, 1, 0, TEST_RW),
			0);
	held_end(&held);
	KUNIT_EXPECT_TRUE_MSG(test, operation_reported(t, *operation),
			      "nothing is reported");
	test_expect_agree(t, "when another was completed");
	another_reused(&held);
	KUNIT_EXPECT_LE(test, held.run.longest_ms, TEST_PROMPT_MS);
}

/*
 * A request is never answered while interrupts are off: the wait ends in time for the
 * watchdogs, too.
 */
static void fake_held_atomic(struct kunit *test)
{
	static DEFINE_SPINLOCK(lock);
	static const char * const splats[] = {
		"LOCKUP", "lockup", "stall", "BUG: ", "WARNING: ",
	};
	struct fake_rule never = {
		FAKE_RULE(VIRTIO_IOMMU_T_MAP), .completion = FAKE_NEVER,
	};
	struct fake_test *t = test->priv;
	struct operation_run run;
	unsigned long flags;
	ktime_t start;
	unsigned int i;
	int ret;

	test_needs_unsafe(t, "spins for ever, with interrupts off");
	operation_start(&run, t);
	test_rule(t, &never);
	test_log_mark(t);
	start = ktime_get();
	spin_lock_irqsave(&lock, flags);
	ret = iommu_map(run.domain->domain, run.domain->base + SZ_1M, TEST_PHYS,
			t->granule, TEST_RW, GFP_ATOMIC);
	spin_unlock_irqrestore(&lock, flags);
	run.longest_ms = ktime_ms_delta(ktime_get(), start);
	KUNIT_EXPECT_LT(test, ret, 0);
	kunit_info(test, "ended after %lld ms", run.longest_ms);
	KUNIT_EXPECT_LE(test, run.longest_ms, TEST_BOUND_MS);
	KUNIT_EXPECT_TRUE_MSG(test, test_log_has(t, fake_name(t->fake),
						 "no answer"),
			      "nothing is reported");
	/* Who watches this CPU gets to look at it. */
	msleep(100);
	for (i = 0; i < ARRAY_SIZE(splats); i++)
		KUNIT_EXPECT_FALSE_MSG(test, test_log_has(t, splats[i], ""),
				       "the kernel says \"%s\"", splats[i]);
	kunit_warning_suppress(test) {
		test_stop(t);
	}
}

struct slow_case {
	const char *name;
	enum operation operation;
	u8 type;		/* of the request that the device takes its time for */
	const char *names;	/* what the message has to name */
	bool slow;
};

static const struct slow_case slow_cases[] = {
	{ "PROBE", OP_PROBE, VIRTIO_IOMMU_T_PROBE, "PROBE", .slow = true },
	{ "ATTACH", OP_ATTACH, VIRTIO_IOMMU_T_ATTACH, "ATTACH" },
	{ "replay", OP_ATTACH, VIRTIO_IOMMU_T_MAP, "mappings", .slow = true },
	{ "DETACH", OP_DETACH, VIRTIO_IOMMU_T_DETACH, "DETACH", .slow = true },
};

KUNIT_ARRAY_PARAM_DESC(slow, slow_cases, name);

/* Waits until a message says what is waited for. */
static bool held_named(struct fake_test *t, const char *what)
{
	unsigned int i;

	for (i = 0; i < 600; i++) {
		if (test_log_has(t, "waiting", what))
			return true;
		msleep(50);
	}
	return false;
}

/*
 * A device takes longer for a request than anybody waits who cannot sleep. Who can,
 * waits, and that is said; in the end it works.
 */
static void fake_held_slow(struct kunit *test)
{
	const struct slow_case *param = test->param_value;
	struct fake_rule keep = { FAKE_RULE(0), .completion = FAKE_HELD };
	struct fake_test *t = test->priv;
	struct held_run held;

	if (param->slow)
		test_is_slow(t);
	test_needs_unsafe(t, "spins for ever, with interrupts off");
	operation_start(&held.run, t);
	if (param->type == VIRTIO_IOMMU_T_MAP) {
		held.run.domain = test_alloc(t, 1);
		KUNIT_ASSERT_NOT_NULL(test, held.run.domain);
		test_map_each(t, held.run.domain, 3, 2, 1);
	}
	held_begin(&held, t, param->operation, param->type, &keep);
	KUNIT_EXPECT_TRUE_MSG(test, held_named(t, param->names),
			      "nothing is said of \"%s\"", param->names);
	test_clear_rules(t);
	fake_release_held(t->fake, false);
	held_join(&held);
	kunit_info(test, "done after %lld ms", held.run.longest_ms);
	KUNIT_EXPECT_GT(test, held.run.longest_ms, TEST_PROMPT_MS);
	KUNIT_EXPECT_EQ(test, held.ret, 0);
	test_expect_agree(t, "in the end");
}

struct identity_case {
	const char *name;
	bool suspended;
};

static const struct identity_case identity_cases[] = {
	{ "it goes on" },
	{ "it is suspended", .suspended = true },
};

KUNIT_ARRAY_PARAM_DESC(identity, identity_cases, name);

static unsigned int held_nr_mappings(struct fake_test *t, unsigned int index)
{
	struct model_endpoint *endpoint;

	endpoint = model_endpoint(&t->fake->model,
				  t->endpoints[index].fake.ids[0]);
	return endpoint->domain ? list_count_nodes(&endpoint->domain->mappings) : 0;
}

/* What becomes of the device that does not answer */
static void held_resolve(struct work_struct *work)
{
	struct held_run *held = container_of(work, struct held_run, work);
	const struct identity_case *param = held->run.t->test->param_value;
	struct fake_test *t = held->run.t;

	held->ret = -ETIMEDOUT;
	if (!wait_for_completion_timeout(&held->seen, 10 * HZ))
		return;
#ifdef CONFIG_PM_SLEEP
	if (param->suspended) {
		held->ret = virtio_device_freeze(&t->fake->vdev) ?:
			    virtio_device_restore(&t->fake->vdev);
		return;
	}
#endif
	held->ret = held_named(t, "memory") ? 0 : -ETIMEDOUT;
	test_clear_rules(t);
	fake_release_held(t->fake, false);
}

/*
 * A device that is found to map RAM alone does not answer for long while an identity
 * domain is made of it: sooner or later that has all of it.
 */
static void fake_held_identity(struct kunit *test)
{
	const struct identity_case *param = test->param_value;
	struct fake_config config = fake_default_config;
	struct fake_rule keep = {
		FAKE_RULE(VIRTIO_IOMMU_T_MAP), .hook = held_seen,
		.completion = param->suspended ? FAKE_NEVER : FAKE_HELD,
	};
	struct fake_test *t = test->priv;
	struct held_run held = { .run.t = t };
	struct test_domain *domain;

	if (param->suspended && !IS_ENABLED(CONFIG_PM_SLEEP))
		kunit_skip(test, "needs CONFIG_PM_SLEEP");
	test_needs_unsafe(t, "spins for ever, with interrupts off");
	config.features &= ~BIT_ULL(VIRTIO_IOMMU_F_BYPASS_CONFIG);
	config.ring_size = 2;
	domain = test_start_domain(t, &config, 2);
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[0].fake, "identity"),
			0);
	keep.skip = held_nr_mappings(t, 0);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);

	t->fake->config.quirks |= FAKE_RAM_ONLY;
	t->fake->unplugged_after_ms = 0;
	init_completion(&held.seen);
	keep.arg = &held;
	test_rule(t, &keep);
	test_log_mark(t);
	INIT_WORK_ONSTACK(&held.work, held_resolve);
	queue_work(system_dfl_wq, &held.work);
	/* The core warns if it fails. */
	kunit_warning_suppress(test) {
		test_detach(t, 0);
	}
	held_join(&held);
	KUNIT_EXPECT_EQ(test, held.ret, 0);
	if (param->suspended) {
		test_clear_rules(t);
		KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
		test_detach(t, 0);
	}
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[1].fake, "identity"),
			0);
	KUNIT_EXPECT_GT(test, held_nr_mappings(t, 1), 1);
	KUNIT_EXPECT_EQ(test, held_nr_mappings(t, 0), held_nr_mappings(t, 1));
	test_expect_agree(t, "in the end");
}

/* The device is shut down while an endpoint waits to be attached: all that ends in time. */
static void fake_held_shutdown(struct kunit *test)
{
	struct fake_rule never = { FAKE_RULE(0), .completion = FAKE_NEVER };
	struct fake_test *t = test->priv;
	struct held_run held;
	ktime_t start;

	test_needs_unsafe(t, "spins for ever");
	operation_start(&held.run, t);
	t->fake->unplugged_after_ms = 0;
	held_begin(&held, t, OP_ATTACH, VIRTIO_IOMMU_T_ATTACH, &never);
	start = ktime_get();
	ending_run(t, END_SHUTDOWN);
	KUNIT_EXPECT_LE(test, ktime_ms_delta(ktime_get(), start), TEST_BOUND_MS);
	held_join(&held);
	KUNIT_EXPECT_LT(test, held.ret, 0);
	KUNIT_EXPECT_EQ(test, t->fake->stats.reset.times, 1);
	kunit_warning_suppress(test) {
		test_stop(t);
	}
}

/*
 * A device does not look at its ring for longer than anybody waits who cannot sleep. What
 * is unmapped meanwhile is reported, and nothing is mapped. When it looks again, all that
 * is done, and everything works.
 */
static void fake_held_late(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct operation_run run;
	unsigned int i;
	ktime_t start;
	char iova[32];
	s64 ms;

	test_needs_unsafe(t, "spins for ever");
	operation_start(&run, t);
	for (i = 1; i < 4; i++)
		KUNIT_ASSERT_EQ(test, test_map(t, run.domain, 10 * i, 4, 0,
					       TEST_RW), 0);
	t->fake->unplugged_after_ms = 0;
	fake_end(t->fake, FAKE_STOPS);
	for (i = 1; i < 4; i++) {
		test_log_mark(t);
		start = ktime_get();
		KUNIT_EXPECT_EQ(test, test_unmap(t, run.domain, 10 * i, 4), 4);
		ms = ktime_ms_delta(ktime_get(), start);
		KUNIT_EXPECT_LE(test, ms, i > 1 ? TEST_PROMPT_MS : TEST_BOUND_MS);
		scnprintf(iova, sizeof(iova), "%llx",
			  run.domain->base + 10 * i * t->granule);
		KUNIT_EXPECT_TRUE_MSG(test,
				      test_log_has(t, fake_name(t->fake), iova),
				      "nothing is said of %s", iova);
		KUNIT_EXPECT_LT(test, test_map(t, run.domain, 100, 1, 0, TEST_RW),
				0);
	}

	test_log_mark(t);
	fake_go_on(t->fake);
	test_expect_agree(t, "when it looks again");
	for (i = 1; i < 4; i++)
		KUNIT_EXPECT_EQ(test, test_map(t, run.domain, 10 * i, 4, SZ_1G,
					       TEST_RW), 0);
	KUNIT_EXPECT_TRUE(test, test_log_has(t, fake_name(t->fake), "again"));
	test_expect_agree(t, "when all is mapped again");
	KUNIT_EXPECT_EQ(test, operation_run(&run, OP_ATTACH), 0);
	KUNIT_EXPECT_EQ(test, operation_run(&run, OP_PROBE), 0);
	test_expect_agree(t, "in the end");
}

static struct kunit_case fake_held_cases[] = {
	KUNIT_CASE_PARAM(fake_held_slow, slow_gen_params),
	KUNIT_CASE_PARAM(fake_held_identity, identity_gen_params),
	KUNIT_CASE_SLOW(fake_held_shutdown),
	KUNIT_CASE_SLOW(fake_held_late),
	KUNIT_CASE_SLOW(fake_held_atomic),
	KUNIT_CASE_PARAM(fake_held_unplugged, unplugged_gen_params),
	KUNIT_CASE_PARAM(fake_held_another, another_gen_params),
	{}
};

static struct kunit_suite fake_held_suite = {
	.name = "viommu_fake_held",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_held_cases,
};

kunit_test_suite(fake_held_suite);
