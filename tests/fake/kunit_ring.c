// SPDX-License-Identifier: GPL-2.0
/*
 * The smallest ring, in which one request is in the way of all others.
 */
#include <linux/completion.h>
#include <linux/irq_work.h>
#include <linux/ktime.h>
#include <linux/smp.h>
#include <linux/workqueue.h>

#include "tests.h"

/* How long a request may take when the device answers. */
#define PROMPT_MS	2000

static void ring_seen(struct fake_viommu *fake, struct fake_request *request,
		      void *arg)
{
	complete(arg);
}

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
		.hook = ring_seen, .arg = &run.seen,
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
	KUNIT_EXPECT_LE(test, run.ms, PROMPT_MS);
	test_expect_agree(t, "afterwards");
}

static struct kunit_case fake_ring_cases[] = {
	KUNIT_CASE(fake_ring_interrupted),
	{}
};

static struct kunit_suite fake_ring_suite = {
	.name = "viommu_fake_ring",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_ring_cases,
};

kunit_test_suite(fake_ring_suite);
