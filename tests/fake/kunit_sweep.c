// SPDX-License-Identifier: GPL-2.0
/*
 * Each request of a driver's life, one after the other, is the last one, or the last
 * before the device forgets everything.
 */
#include <linux/ktime.h>
#include <linux/scatterlist.h>

#include "tests.h"

/* More requests than there are */
#define SWEEP_MAX	500

struct sweep_case {
	const char *name;
	struct fake_rule rule;
	unsigned int step;	/* from one request to the next that is tried */
};

static const struct sweep_case sweep_cases[] = {
	{ "breaks before",
	  { FAKE_RULE(FAKE_ANY), .before = FAKE_BREAKS }, 1 },
	{ "breaks after",
	  { FAKE_RULE(FAKE_ANY), .after = FAKE_BREAKS }, 1 },
	{ "resets itself before",
	  { FAKE_RULE(FAKE_ANY), .before = FAKE_RESETS }, 1 },
	{ "resets itself after",
	  { FAKE_RULE(FAKE_ANY), .after = FAKE_RESETS }, 1 },
	{ "stops before",
	  { FAKE_RULE(FAKE_ANY), .before = FAKE_STOPS }, 16 },
};

KUNIT_ARRAY_PARAM_DESC(sweep, sweep_cases, name);

struct sweep_run {
	struct fake_test *t;
	struct test_domain *one;
	struct test_domain *two;
	struct scatterlist sg[4];
	unsigned int failed;	/* operations whose caller was told */
	bool resumed;		/* or tried to */
};

static void sweep_result(struct sweep_run *run, int ret)
{
	run->failed += ret < 0;
}

static bool sweep_has(struct sweep_run *run, unsigned int endpoint)
{
	return fake_endpoint_translated(&run->t->endpoints[endpoint].fake);
}

static void sweep_register(struct sweep_run *run)
{
	sweep_result(run, test_register(run->t) ? 0 : -ENODEV);
}

static void sweep_plug(struct sweep_run *run)
{
	sweep_result(run, test_plug(run->t, 2) ? 0 : -ENODEV);
}

static void sweep_attach(struct sweep_run *run)
{
	struct fake_test *t = run->t;
	unsigned int i;

	if (!sweep_has(run, 1))
		return;
	run->one = test_alloc(t, 1);
	run->two = test_alloc(t, 1);
	KUNIT_ASSERT_NOT_NULL(t->test, run->one);
	KUNIT_ASSERT_NOT_NULL(t->test, run->two);
	for (i = 0; i < 5; i++) {
		sweep_result(run, test_map(t, run->one, 2 * i, 1, 0, TEST_RW));
		sweep_result(run, test_map(t, run->two, 3 * i, 2, 0, TEST_RW));
	}
	sweep_result(run, test_attach(t, 1, run->one));
}

static void sweep_replace(struct sweep_run *run)
{
	if (!run->t->endpoints[1].domain)
		return;
	sweep_result(run, test_replace(run->t, 1, run->two));
	sweep_result(run, test_replace(run->t, 1, run->one));
}

static void sweep_attach_second(struct sweep_run *run)
{
	if (run->one && sweep_has(run, 0))
		sweep_result(run, test_attach(run->t, 0, run->one));
}

static void sweep_map(struct sweep_run *run)
{
	if (!run->one)
		return;
	sweep_result(run, test_map(run->t, run->one, 20, 4, 0, TEST_RW));
	sweep_result(run, test_map_sg(run->t, run->one, 30, run->sg,
				      ARRAY_SIZE(run->sg), TEST_RW));
}

/* Several mappings at once, and then all others of a domain. */
static void sweep_unmap(struct sweep_run *run)
{
	if (!run->one)
		return;
	test_unmap(run->t, run->one, 30, ARRAY_SIZE(run->sg));
	test_unmap(run->t, run->one, 0, 1);
	test_unmap(run->t, run->one, 20, 4);
}

static void sweep_detach(struct sweep_run *run)
{
	if (run->t->endpoints[0].domain)
		test_detach(run->t, 0);
}

static void sweep_type(struct sweep_run *run)
{
	struct fake_endpoint *endpoint = &run->t->endpoints[2].fake;

	if (!sweep_has(run, 2))
		return;
	sweep_result(run, fake_group_type(endpoint, "identity"));
	sweep_result(run, fake_group_type(endpoint, "DMA"));
}

static void sweep_claim(struct sweep_run *run)
{
	int ret;

	if (!sweep_has(run, 2))
		return;
	ret = iommu_device_claim_dma_owner(test_dev(run->t, 2), run);
	sweep_result(run, ret);
	if (!ret)
		iommu_device_release_dma_owner(test_dev(run->t, 2));
}

static void sweep_unplug(struct sweep_run *run)
{
	test_unplug(run->t, 2);
}

/* Resets the device, which ends all its troubles. */
static void sweep_suspend(struct sweep_run *run)
{
#ifdef CONFIG_PM_SLEEP
	struct virtio_device *vdev = &run->t->fake->vdev;
	int ret;

	if (!fake_bound(run->t->fake))
		return;
	ret = virtio_device_freeze(vdev);
	if (!ret)
		ret = virtio_device_restore(vdev);
	sweep_result(run, ret);
	run->resumed = true;
#endif
}

static void sweep_plug_again(struct sweep_run *run)
{
	sweep_plug(run);
	sweep_unplug(run);
}

static void sweep_unregister(struct sweep_run *run)
{
	struct fake_test *t = run->t;
	unsigned int i;

	/* Domains that are still attached then are another case's. */
	if (t->endpoints[1].domain)
		test_detach(t, 1);
	sweep_detach(run);
	fake_unregister(t->fake);
	for (i = 0; i < TEST_MAX_ENDPOINTS; i++)
		t->endpoints[i].domain = NULL;
}

static const struct {
	const char *name;
	void (*run)(struct sweep_run *run);
} sweep_stages[] = {
	{ "registering", sweep_register },
	{ "plugging in", sweep_plug },
	{ "attaching", sweep_attach },
	{ "replacing", sweep_replace },
	{ "attaching the second", sweep_attach_second },
	{ "mapping", sweep_map },
	{ "unmapping", sweep_unmap },
	{ "detaching", sweep_detach },
	{ "changing types", sweep_type },
	{ "claiming", sweep_claim },
	{ "unplugging", sweep_unplug },
	{ "suspending", sweep_suspend },
	{ "plugging in again", sweep_plug_again },
	{ "unregistering", sweep_unregister },
};

/* What has to hold after a stage that no request of which was the chosen one. */
static void sweep_expect_sane(struct sweep_run *run, const struct fake_rule *rule,
			      unsigned int stage, int warnings)
{
	const char *name = sweep_stages[stage].name;
	struct kunit *test = run->t->test;

	KUNIT_EXPECT_EQ_MSG(test, run->failed, 0, "%u, %s", rule->skip, name);
	KUNIT_EXPECT_EQ_MSG(test, warnings, 0, "%u, %s", rule->skip, name);
	if (run->t->fake->registered)
		test_expect_agree(run->t, name);
}

/* Returns whether there was a chosen request. */
static bool sweep_once(struct sweep_run *run, const struct sweep_case *param,
		       unsigned int nth)
{
	bool stops = param->rule.before == FAKE_STOPS;
	struct fake_rule rule = param->rule, *added;
	struct kunit *test = run->t->test;
	struct fake_test *t = run->t;
	unsigned int stage, refusals;
	bool hit = false, healed = false;

	test_create(t, &fake_default_config);
	test_set_endpoint(t, 1, 3);
	test_set_endpoint(t, 2, 3);
	test_plug(t, 0);
	test_plug(t, 1);
	run->one = NULL;
	run->two = NULL;
	run->failed = 0;
	run->resumed = false;
	rule.skip = nth;
	added = fake_add_rule(t->fake, &rule);
	KUNIT_ASSERT_NOT_NULL(test, added);

	for (stage = 0; stage < ARRAY_SIZE(sweep_stages); stage++) {
		bool hit_before = hit, resumed = run->resumed;
		unsigned int failed = run->failed;
		ktime_t start = ktime_get();
		int warnings = 0;
		s64 ms;

		kunit_warning_suppress(test) {
			sweep_stages[stage].run(run);
			warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
		}
		ms = ktime_ms_delta(ktime_get(), start);
		hit = added->hits;
		KUNIT_EXPECT_LE_MSG(test, ms, stops && hit && !hit_before ?
				    TEST_BOUND_MS : TEST_PROMPT_MS,
				    "request %u, %s", nth,
				    sweep_stages[stage].name);
		if (!hit)
			sweep_expect_sane(run, added, stage, warnings);
		/* All is well again, if it was not this that was in the way. */
		healed |= hit_before && run->resumed && !resumed;
		if (healed)
			KUNIT_EXPECT_EQ_MSG(test, run->failed, failed,
					    "request %u, %s", nth,
					    sweep_stages[stage].name);
	}
	refusals = t->fake->stats.refusals;
	if (refusals)
		KUNIT_EXPECT_TRUE_MSG(test, run->failed ||
				      test_log_says(t, "failed") ||
				      test_log_says(t, "cannot"),
				      "request %u: %u refusals, in silence", nth,
				      refusals);
	if (param->rule.before == FAKE_BREAKS && hit)
		KUNIT_EXPECT_TRUE_MSG(test, test_log_says(t, "broken"),
				      "request %u: nothing is reported", nth);
	fake_clear_rules(t->fake);
	test_stop(t);
	return hit;
}

/*
 * Whichever request it is, nothing hangs or crashes, and what comes after a reset, or
 * from the next device, works.
 */
static void fake_sweep(struct kunit *test)
{
	const struct sweep_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct sweep_run *run;
	unsigned int i, nth;
	void *pages;

	if (param->step > 1)
		test_is_slow(t);
	test_needs_unsafe(t, "spins for ever");
	run = kunit_kzalloc(test, sizeof(*run), GFP_KERNEL);
	pages = kunit_kmalloc(test, 10 * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, run);
	KUNIT_ASSERT_NOT_NULL(test, pages);
	run->t = t;
	sg_init_table(run->sg, ARRAY_SIZE(run->sg));
	for (i = 0; i < ARRAY_SIZE(run->sg); i++)
		sg_set_buf(&run->sg[i], PTR_ALIGN(pages, PAGE_SIZE) +
					2 * i * PAGE_SIZE, PAGE_SIZE);

	/* A device that forgets is asked for what it does not know any more. */
	t->violations_expected = param->rule.before == FAKE_RESETS ||
				 param->rule.after == FAKE_RESETS;
	for (nth = 0; nth < SWEEP_MAX; nth += param->step) {
		if (!sweep_once(run, param, nth))
			break;
	}
	KUNIT_EXPECT_GT(test, nth, 50);
	KUNIT_EXPECT_LT(test, nth, SWEEP_MAX);
	kunit_info(test, "up to %u requests", nth);
}

static struct kunit_case fake_sweep_cases[] = {
	KUNIT_CASE_PARAM(fake_sweep, sweep_gen_params),
	{}
};

static struct kunit_suite fake_sweep_suite = {
	.name = "viommu_fake_sweep",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_sweep_cases,
};

kunit_test_suite(fake_sweep_suite);
