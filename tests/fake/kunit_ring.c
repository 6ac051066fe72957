// SPDX-License-Identifier: GPL-2.0
/*
 * Rings that are full: one request is in the way of all others.
 */
#include <linux/completion.h>
#include <linux/irq_work.h>
#include <linux/ktime.h>
#include <linux/sizes.h>
#include <linux/smp.h>
#include <linux/workqueue.h>

#include "tests.h"

struct interrupt_run {
	struct fake_test *t;
	struct test_domain *mapped;	/* by the interrupt */
	struct test_domain *attached;
	struct work_struct attach;
	struct irq_work map;
	struct completion seen;
	struct completion mapped_once;
	int attach_ret;
	int map_ret;
	size_t unmapped;
	s64 ms;
};

static void interrupt_attach(struct work_struct *work)
{
	struct interrupt_run *run = container_of(work, struct interrupt_run, attach);

	run->attach_ret = test_attach(run->t, 1, run->attached);
}

static void interrupt_map(struct irq_work *work)
{
	struct interrupt_run *run = container_of(work, struct interrupt_run, map);
	struct iommu_domain *domain = run->mapped->domain;
	ktime_t start = ktime_get();

	fake_release_held(run->t->fake, false);
	run->map_ret = iommu_map(domain, run->mapped->base, TEST_PHYS,
				 run->t->granule, TEST_RW, GFP_ATOMIC);
	if (!run->map_ret)
		run->unmapped = iommu_unmap(domain, run->mapped->base,
					    run->t->granule);
	run->ms = ktime_ms_delta(ktime_get(), start);
	complete(&run->mapped_once);
}

static void interrupt_raise(void *work)
{
	irq_work_queue(work);
}

/*
 * The ring has room for one request. Before its answer is looked at, the CPU that
 * waits for it is interrupted by somebody who has a request, too.
 */
static void fake_ring_interrupted(struct kunit *test)
{
	static const struct fake_config config = {
		FAKE_DEFAULTS,
		.ring_size = 2,
	};
	struct fake_test *t = test->priv;
	struct interrupt_run run = { .t = t };
	struct fake_rule rule = {
		FAKE_RULE(VIRTIO_IOMMU_T_ATTACH), .completion = FAKE_HELD,
		.hook = fake_seen, .arg = &run.seen,
	};
	unsigned int cpu;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");
	test_needs_unsafe(t, "spins for ever, with interrupts off");
	run.mapped = test_start_domain(t, &config, 2);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, run.mapped), 0);
	run.attached = test_alloc(t, 1);
	KUNIT_ASSERT_NOT_NULL(test, run.attached);
	init_completion(&run.seen);
	init_completion(&run.mapped_once);
	test_rule(t, &rule);

	INIT_WORK_ONSTACK(&run.attach, interrupt_attach);
	init_irq_work(&run.map, interrupt_map);
	cpu = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	queue_work_on(cpu, system_percpu_wq, &run.attach);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&run.seen, 10 * HZ));
	KUNIT_EXPECT_EQ(test, smp_call_function_single(cpu, interrupt_raise,
						       &run.map, true), 0);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&run.mapped_once,
							    30 * HZ));
	irq_work_sync(&run.map);
	flush_work(&run.attach);
	destroy_work_on_stack(&run.attach);

	KUNIT_EXPECT_EQ(test, run.map_ret, 0);
	KUNIT_EXPECT_EQ(test, run.unmapped, t->granule);
	KUNIT_EXPECT_EQ(test, run.attach_ret, 0);
	KUNIT_EXPECT_LE(test, run.ms, TEST_PROMPT_MS);
	test_expect_agree(t, "afterwards");
}

struct replay_run {
	struct fake_test *t;
	struct test_domain *domain;
	struct work_struct attach;
	struct completion seen;
	struct completion stalled;
	bool go_on;
	int ret;
	s64 ms;
};

static void replay_attach(struct work_struct *work)
{
	struct replay_run *run = container_of(work, struct replay_run, attach);
	ktime_t start = ktime_get();

	run->ret = test_attach(run->t, 0, run->domain);
	run->ms = ktime_ms_delta(ktime_get(), start);
}

/* Keeps a CPU from its work for a while. */
static void replay_stall(void *data)
{
	ktime_t deadline = ktime_add_ms(ktime_get(), TEST_PROMPT_MS);
	struct replay_run *run = data;

	complete(&run->stalled);
	while (!READ_ONCE(run->go_on) && ktime_before(ktime_get(), deadline))
		cpu_relax();
}

#define REPLAY_NR	12
#define REPLAY_LEN	4

/*
 * The ring has no room for all mappings of a replay. While that waits, somebody
 * replaces the last mapping that was sent and the next one by one for both: it
 * reaches the device once.
 */
static void fake_ring_replay(struct kunit *test)
{
	static const struct fake_config config = {
		FAKE_DEFAULTS,
		.ring_size = 8,
	};
	struct fake_test *t = test->priv;
	struct replay_run run = { .t = t };
	struct fake_rule rule = {
		FAKE_RULE(VIRTIO_IOMMU_T_MAP), .skip = 3,
		.completion = FAKE_HELD, .hook = fake_seen, .arg = &run.seen,
	};
	unsigned int cpu, sent, slot;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");
	test_needs_unsafe(t, "spins for ever, with interrupts off");
	run.domain = test_start_domain(t, &config, 1);
	test_map_each(t, run.domain, REPLAY_NR, REPLAY_LEN, REPLAY_LEN);
	init_completion(&run.seen);
	init_completion(&run.stalled);
	test_rule(t, &rule);

	INIT_WORK_ONSTACK(&run.attach, replay_attach);
	cpu = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	queue_work_on(cpu, system_percpu_wq, &run.attach);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&run.seen, 10 * HZ));
	KUNIT_EXPECT_EQ(test, smp_call_function_single(cpu, replay_stall, &run,
						       false), 0);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&run.stalled,
							    10 * HZ));
	sent = READ_ONCE(t->fake->model.nr_mappings);
	fake_release_held(t->fake, false);
	if (sent > 0 && sent < REPLAY_NR) {
		slot = (sent - 1) * REPLAY_LEN;
		KUNIT_EXPECT_EQ(test, test_unmap(t, run.domain, slot,
						 2 * REPLAY_LEN),
				2 * REPLAY_LEN);
		KUNIT_EXPECT_EQ(test, test_map(t, run.domain, slot,
					       2 * REPLAY_LEN, SZ_1G, TEST_RW),
				0);
	} else {
		KUNIT_FAIL(test, "%u mappings were sent at once", sent);
	}
	WRITE_ONCE(run.go_on, true);
	flush_work(&run.attach);
	destroy_work_on_stack(&run.attach);

	KUNIT_EXPECT_EQ(test, run.ret, 0);
	test_expect_agree(t, "afterwards");
}

struct pace_case {
	const char *name;
	unsigned int mappings;
	unsigned int pace_ms;
	bool slow;
};

static const struct pace_case pace_cases[] = {
	{ "40 requests, 5 ms apart", 40, 5 },
	{ "400 requests, 30 ms apart", 400, 30, .slow = true },
};

KUNIT_ARRAY_PARAM_DESC(pace, pace_cases, name);

/*
 * The device takes its time for each of many requests. It answers, so it is not given
 * up, however long it takes for all of them.
 */
static void fake_ring_pace(struct kunit *test)
{
	static const struct fake_config config = {
		FAKE_DEFAULTS,
		.ring_size = FAKE_MAX_RING,
	};
	const struct pace_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct replay_run run = { .t = t };
	unsigned int cpu;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");
	if (param->slow)
		test_is_slow(t);
	test_needs_unsafe(t, "spins with interrupts off");
	run.domain = test_start_domain(t, &config, 1);
	test_map_each(t, run.domain, param->mappings, 1, 1);

	/* Who notifies the device stays on one CPU, so that one other answers. */
	t->fake->async_pace_ms = param->pace_ms;
	t->fake->async = true;
	INIT_WORK_ONSTACK(&run.attach, replay_attach);
	cpu = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	queue_work_on(cpu, system_percpu_wq, &run.attach);
	flush_work(&run.attach);
	destroy_work_on_stack(&run.attach);
	t->fake->async = false;

	kunit_info(test, "attached after %lld ms", run.ms);
	KUNIT_EXPECT_EQ(test, run.ret, 0);
	KUNIT_EXPECT_GE(test, run.ms, param->mappings * param->pace_ms);
	test_expect_agree(t, "afterwards");
}

static const unsigned int ring_sizes[] = { 2, 4, 64 };

static void ring_size_desc(const unsigned int *size, char *desc)
{
	scnprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u descriptors", *size);
}

KUNIT_ARRAY_PARAM(ring_size, ring_sizes, ring_size_desc);

/* For a while, no request can be mapped for DMA: it waits until then, in rings of all sizes. */
static void fake_ring_unmappable(struct kunit *test)
{
	const unsigned int *size = test->param_value;
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct operation_run run = { .t = t, .slot = 2 };
	unsigned int i;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");
	test_needs_unsafe(t, "gives up at once");
	config.features |= BIT_ULL(VIRTIO_F_ACCESS_PLATFORM);
	config.ring_size = *size;
	run.domain = test_start_domain(t, &config, 2);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, run.domain), 0);
	KUNIT_ASSERT_EQ(test, test_map(t, run.domain, 0, 1, 0, TEST_RW), 0);
	for (i = OP_PROBE; i <= OP_UNMAP; i++) {
		WRITE_ONCE(t->fake->dma_fails, true);
		queue_delayed_work(system_dfl_wq, &t->fake->dma_works,
				   msecs_to_jiffies(200));
		KUNIT_EXPECT_EQ_MSG(test, operation_run(&run, i), 0, "%s",
				    operation_names[i]);
		flush_delayed_work(&t->fake->dma_works);
	}
	KUNIT_EXPECT_LE(test, run.longest_ms, TEST_PROMPT_MS);
	test_expect_agree(t, "in the end");
}

static void short_from_now(struct fake_viommu *fake, struct fake_request *request,
			   void *arg)
{
	WRITE_ONCE(fake->dma_fails, true);
	fake_seen(fake, request, arg);
}

/*
 * While mappings are about to follow an endpoint, no request can be mapped for DMA any
 * more, and the device is shut down: all that waits for memory ends in time.
 */
static void fake_ring_unmappable_end(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct replay_run run = { .t = t };
	struct fake_rule rule = {
		FAKE_RULE(VIRTIO_IOMMU_T_ATTACH), .hook = short_from_now,
		.arg = &run.seen,
	};
	ktime_t start;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");
	config.features |= BIT_ULL(VIRTIO_F_ACCESS_PLATFORM);
	run.domain = test_start_domain(t, &config, 1);
	test_map_each(t, run.domain, 3, 2, 1);
	init_completion(&run.seen);
	INIT_WORK_ONSTACK(&run.attach, replay_attach);
	test_rule(t, &rule);
	queue_work(system_dfl_wq, &run.attach);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&run.seen, 10 * HZ));
	start = ktime_get();
	ending_run(t, END_SHUTDOWN);
	KUNIT_EXPECT_LE(test, ktime_ms_delta(ktime_get(), start), TEST_BOUND_MS);
	flush_work(&run.attach);
	destroy_work_on_stack(&run.attach);
	KUNIT_EXPECT_LT(test, run.ret, 0);
	KUNIT_EXPECT_EQ(test, t->fake->stats.reset.times, 1);
	kunit_warning_suppress(test) {
		test_stop(t);
	}
}

static struct kunit_case fake_ring_cases[] = {
	KUNIT_CASE(fake_ring_interrupted),
	KUNIT_CASE(fake_ring_replay),
	KUNIT_CASE_PARAM(fake_ring_pace, pace_gen_params),
	KUNIT_CASE_PARAM(fake_ring_unmappable, ring_size_gen_params),
	KUNIT_CASE_SLOW(fake_ring_unmappable_end),
	{}
};

static struct kunit_suite fake_ring_suite = {
	.name = "viommu_fake_ring",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_ring_cases,
};

kunit_test_suite(fake_ring_suite);
