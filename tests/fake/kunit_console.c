// SPDX-License-Identifier: GPL-2.0
/*
 * A console whose device is behind the IOMMU, as hvc over a virtio console is: to
 * print is to map. It prints in whatever context printk() was called.
 */
#include <linux/console.h>
#include <linux/delay.h>
#include <linux/irq_work.h>
#include <linux/ktime.h>
#include <linux/smp.h>

#include "tests.h"

/* What the console maps; the case itself maps others. */
#define CONSOLE_SLOT	100
/* Messages may be about what the console itself does, and so on. */
#define CONSOLE_CALLS	64
/* How long it waits for what it maps. */
#define CONSOLE_PATIENCE_MS	2000

struct console_case {
	const char *name;
	struct fake_rule rule;
	bool goes_on;
	const char *unsafe;
};

static const struct console_case console_cases[] = {
	{ "MAP is refused",
	  { FAKE_RULE(VIRTIO_IOMMU_T_MAP), .no_effect = true,
	    .status = VIRTIO_IOMMU_S_NOMEM }, .goes_on = true },
	{ "UNMAP is refused",
	  { FAKE_RULE(VIRTIO_IOMMU_T_UNMAP), .no_effect = true,
	    .status = VIRTIO_IOMMU_S_DEVERR }, .goes_on = true },
	{ "device breaks",
	  { FAKE_RULE(VIRTIO_IOMMU_T_MAP), .before = FAKE_BREAKS },
	  .unsafe = "spins for ever" },
	{ "device writes nonsense",
	  { FAKE_RULE(VIRTIO_IOMMU_T_MAP), .completion = FAKE_OUT_OF_RANGE },
	  .unsafe = "spins for ever" },
};

KUNIT_ARRAY_PARAM_DESC(console, console_cases, name);

struct console_run {
	struct console console;
	struct fake_test *t;
	struct test_domain *domain;
	call_single_data_t csd;
	struct irq_work map;
	bool busy;		/* the other CPU maps */
	unsigned int calls;
	unsigned int written;	/* of what is said about the device */
	unsigned int stuck;	/* for want of what the printing CPU holds */
};

static void console_map(struct irq_work *work)
{
	struct console_run *run = container_of(work, struct console_run, map);
	u64 iova = run->domain->base + CONSOLE_SLOT * run->t->granule;
	struct iommu_domain *domain = run->domain->domain;

	if (!iommu_map(domain, iova, TEST_PHYS, run->t->granule, TEST_RW,
		       GFP_ATOMIC))
		iommu_unmap(domain, iova, run->t->granule);
	/* Done: console_write() may return, and interrupt again. */
	smp_store_release(&run->busy, false);
}

/* Interrupts the other CPU. */
static void console_raise(void *work)
{
	irq_work_queue(work);
}

/*
 * Maps on another CPU, so that a driver that holds a lock while it prints fails the
 * case, instead of taking the guest down with its last words unprinted.
 */
static void console_write(struct console *console, const char *text,
			  unsigned int len)
{
	struct console_run *run = container_of(console, struct console_run,
					       console);
	ktime_t deadline = ktime_add_ms(ktime_get(), CONSOLE_PATIENCE_MS);
	unsigned int cpu = cpumask_any_but(cpu_online_mask,
					   raw_smp_processor_id());

	if (run->busy || run->calls == CONSOLE_CALLS)
		return;
	run->busy = true;
	run->calls++;
	if (smp_call_function_single_async(cpu, &run->csd))
		run->busy = false;
	/* Pairs with console_map(). */
	while (smp_load_acquire(&run->busy) &&
	       ktime_before(ktime_get(), deadline))
		cpu_relax();
	run->stuck += run->busy;
	if (strnstr(text, fake_name(run->t->fake), len))
		WRITE_ONCE(run->written, run->written + 1);
}

/* Whether the console gets to write what is said of the device, if anything is. */
static void console_expect_written(struct console_run *run, bool must_report)
{
	struct fake_test *t = run->t;
	unsigned int waits;
	bool reported;

	for (waits = 0; waits < 100; waits++) {
		if (READ_ONCE(run->written) && !READ_ONCE(run->busy))
			break;
		msleep(20);
	}
	reported = test_log_has(t, fake_name(t->fake), "");
	if (reported)
		KUNIT_EXPECT_GT(t->test, run->written, 0);
	KUNIT_EXPECT_TRUE_MSG(t->test, reported || !must_report,
			      "the failure is not reported");
}

/*
 * A request fails, which the driver reports on a console that has requests for the
 * same device.
 */
static void fake_console(struct kunit *test)
{
	const struct console_case *param = test->param_value;
	struct console_run *run = kunit_kzalloc(test, sizeof(*run), GFP_KERNEL);
	bool unmap = param->rule.type == VIRTIO_IOMMU_T_UNMAP;
	struct fake_test *t = test->priv;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, run);
	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");
	if (param->unsafe)
		test_needs_unsafe(t, param->unsafe);
	run->t = t;
	run->domain = test_start_domain(t, NULL, 1);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, run->domain), 0);
	KUNIT_ASSERT_EQ(test, test_map(t, run->domain, 0, 1, 0, TEST_RW), 0);
	run->console = (struct console) {
		.name = "viommu",
		.write = console_write,
		.flags = CON_ENABLED,
		.index = -1,
	};
	init_irq_work(&run->map, console_map);
	INIT_CSD(&run->csd, console_raise, &run->map);
	register_console(&run->console);
	test_log_mark(t);
	test_rule(t, &param->rule);
	/* Nothing that aborts the case until the console is gone */
	if (unmap) {
		ret = 0;
		test_unmap(t, run->domain, 0, 1);
	} else {
		ret = test_map(t, run->domain, 1, 1, 0, TEST_RW);
	}
	console_expect_written(run, unmap);
	unregister_console(&run->console);
	irq_work_sync(&run->map);

	kunit_info(test, "the console wrote %u times, %u of the device",
		   run->calls, run->written);
	KUNIT_EXPECT_FALSE(test, run->busy);
	KUNIT_EXPECT_EQ(test, run->stuck, 0);
	KUNIT_EXPECT_LT(test, run->calls, CONSOLE_CALLS);
	if (!unmap)
		KUNIT_EXPECT_LT(test, ret, 0);
	if (param->goes_on)
		KUNIT_EXPECT_EQ(test, test_map(t, run->domain, 2, 1, 0, TEST_RW),
				0);
	kunit_warning_suppress(test) {
		test_stop(t);
	}
}

static struct kunit_case fake_console_cases[] = {
	KUNIT_CASE_PARAM(fake_console, console_gen_params),
	{}
};

static struct kunit_suite fake_console_suite = {
	.name = "viommu_fake_console",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_console_cases,
};

kunit_test_suite(fake_console_suite);
