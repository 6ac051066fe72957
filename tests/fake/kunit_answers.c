// SPDX-License-Identifier: GPL-2.0
/*
 * Hostile answers, each to each kind of request: lengths that are wrong,
 * completions that nobody asked for, that come twice, late or never, and a
 * device that breaks, stops or wants to be reset.
 */
#include <linux/ktime.h>

#include "tests.h"

enum outcome {
	MUST_WORK,	/* and the device goes on */
	MUST_FAIL,	/* and the device goes on */
	EITHER,		/* and the device goes on */
	MAY_BREAK,	/* works or fails; later requests do, too, and end */
	BREAKS,		/* fails, and so do all later ones */
};

struct answer_case {
	const char *name;
	struct fake_rule rule;
	enum outcome outcome;
	unsigned int bound_ms;
	const char *unsafe;
};

static const struct answer_case answer_cases[] = {
	{ "writes nothing, says 0",
	  { FAKE_RULE(0), .no_effect = true, .write = 0 }, MUST_FAIL },
	{ "says 0",
	  { FAKE_RULE(0), .no_effect = true, .used = 0 }, MUST_FAIL },
	{ "writes and says 1",
	  { FAKE_RULE(0), .no_effect = true, .write = 1 }, MUST_FAIL },
	{ "says 3",
	  { FAKE_RULE(0), .no_effect = true, .used = 3 }, MUST_FAIL },
	{ "writes nothing, says 4 GiB - 1",
	  { FAKE_RULE(0), .no_effect = true, .write = 0, .used = U32_MAX },
	  MUST_FAIL },
	{ "says 1000 more",
	  { FAKE_RULE(0), .used = 1000 }, EITHER },
	{ "says 4 GiB - 1",
	  { FAKE_RULE(0), .used = U32_MAX }, EITHER },
	{ "completes twice",
	  { FAKE_RULE(0), .completion = FAKE_TWICE }, MAY_BREAK,
	  .unsafe = "later requests spin for ever" },
	{ "completes what was not asked",
	  { FAKE_RULE(0), .completion = FAKE_NOT_ASKED }, BREAKS,
	  .unsafe = "spins for ever" },
	{ "completes what cannot be",
	  { FAKE_RULE(0), .completion = FAKE_OUT_OF_RANGE }, BREAKS,
	  .unsafe = "spins for ever" },
	{ "breaks before",
	  { FAKE_RULE(0), .before = FAKE_BREAKS }, BREAKS,
	  .unsafe = "spins for ever" },
	{ "breaks after",
	  { FAKE_RULE(0), .after = FAKE_BREAKS }, BREAKS,
	  .unsafe = "spins for ever" },
	{ "wants a reset before",
	  { FAKE_RULE(0), .before = FAKE_NEEDS_RESET }, BREAKS,
	  .bound_ms = TEST_BOUND_MS, .unsafe = "spins for ever" },
	{ "wants a reset after",
	  { FAKE_RULE(0), .after = FAKE_NEEDS_RESET }, MAY_BREAK,
	  .bound_ms = TEST_BOUND_MS,
	  .unsafe = "later requests spin for ever" },
	{ "never completes",
	  { FAKE_RULE(0), .times = 0, .completion = FAKE_NEVER }, BREAKS,
	  .bound_ms = TEST_BOUND_MS, .unsafe = "spins for ever" },
	{ "never completes one",
	  { FAKE_RULE(0), .completion = FAKE_NEVER }, BREAKS,
	  .bound_ms = TEST_BOUND_MS, .unsafe = "spins for ever" },
};

struct answer_param {
	enum operation operation;
	const struct answer_case *answer;
};

static const void *answer_gen_params(struct kunit *test, const void *prev,
				     char *desc)
{
	static struct answer_param param;
	unsigned int next = 0;

	if (prev)
		next = param.operation * ARRAY_SIZE(answer_cases) +
		       (param.answer - answer_cases) + 1;
	if (next >= NR_OPERATIONS * ARRAY_SIZE(answer_cases))
		return NULL;
	param.operation = next / ARRAY_SIZE(answer_cases);
	param.answer = &answer_cases[next % ARRAY_SIZE(answer_cases)];
	scnprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s: %s",
		  operation_names[param.operation], param.answer->name);
	return &param;
}

/* A failure that its caller is not told of, and the end of a device, are reported. */
static bool answer_reported(struct fake_test *t, enum operation operation,
			    enum outcome outcome)
{
	if (test_log_says(t, "broken") || test_log_says(t, "no answer"))
		return true;
	if (outcome == BREAKS)
		return false;
	return operation_reported(t, operation);
}

/* Whatever comes after, ends, and a device that is gone for good stays gone. */
static void answer_go_on(struct operation_run *run, const struct answer_case *answer)
{
	struct kunit *test = run->t->test;
	int ret;

	run->longest_ms = 0;
	ret = operation_run(run, OP_MAP);
	if (answer->outcome == BREAKS)
		KUNIT_EXPECT_LT(test, ret, 0);
	else if (answer->outcome != MAY_BREAK)
		KUNIT_EXPECT_EQ(test, ret, 0);
	if (answer->outcome == MAY_BREAK)
		KUNIT_EXPECT_LE(test, run->longest_ms,
				answer->bound_ms ?: TEST_PROMPT_MS);
	run->longest_ms = answer->outcome == MAY_BREAK ? 0 : run->longest_ms;
	if (run->t->endpoints[1].fake.pdev && !run->t->endpoints[1].domain)
		operation_run(run, OP_ATTACH);
	operation_run(run, OP_UNMAP);
	test_unplug(run->t, 2);
	operation_run(run, OP_PROBE);
	KUNIT_EXPECT_LE(test, run->longest_ms, TEST_PROMPT_MS);
}

/* How many endpoints are in a domain of the test. */
static int answer_attached(struct fake_test *t)
{
	unsigned int i;
	int nr = 0;

	for (i = 0; i < TEST_MAX_ENDPOINTS; i++)
		nr += !!t->endpoints[i].domain;
	return nr;
}

/*
 * Each hostile answer to each kind of request ends: what follows works, or fails at
 * once.
 */
static void fake_answers(struct kunit *test)
{
	const struct answer_param *param = test->param_value;
	const struct answer_case *answer = param->answer;
	struct fake_rule rule = answer->rule;
	struct fake_test *t = test->priv;
	struct operation_run run;
	int ret, attached, warnings = 0;
	bool may_warn;

	if (answer->bound_ms && param->operation != OP_MAP)
		test_is_slow(t);
	if (answer->unsafe)
		test_needs_unsafe(t, answer->unsafe);
	operation_start(&run, t);

	rule.type = operation_types[param->operation];
	test_rule(t, &rule);
	test_log_mark(t);
	kunit_warning_suppress(test) {
		ret = operation_run(&run, param->operation);
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	/* The core does not take no for an answer to the first attach, after a PROBE. */
	may_warn = param->operation == OP_PROBE && answer->outcome == MAY_BREAK;
	KUNIT_EXPECT_LE(test, warnings, may_warn);
	KUNIT_EXPECT_LE(test, run.longest_ms, answer->bound_ms ?: TEST_PROMPT_MS);
	if (run.longest_ms > TEST_PROMPT_MS)
		kunit_info(test, "ended after %lld ms", run.longest_ms);

	if (operation_tells(param->operation)) {
		if (answer->outcome == MUST_WORK)
			KUNIT_EXPECT_EQ(test, ret, 0);
		if (answer->outcome == MUST_FAIL || answer->outcome == BREAKS)
			KUNIT_EXPECT_LT(test, ret, 0);
	}
	if (answer->outcome == MUST_FAIL || answer->outcome == BREAKS)
		KUNIT_EXPECT_TRUE_MSG(test,
				      answer_reported(t, param->operation,
						      answer->outcome),
				      "nothing is reported");
	/* What was not unmapped or detached is still there. */
	if (answer->outcome <= MUST_FAIL && operation_tells(param->operation))
		test_expect_agree(t, "afterwards");

	kunit_warning_suppress(test) {
		answer_go_on(&run, answer);
		attached = answer_attached(t);
		test_stop(t);
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	/* The core insists on leaving a domain, which needs the device. */
	KUNIT_EXPECT_LE(test, warnings,
			answer->outcome >= MAY_BREAK ? attached : 0);
}

/* Completions of a batch come backwards. */
static void fake_answers_reverse(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 1);

	test_map_each(t, domain, 50, 2, 1);
	t->fake->reverse = true;
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after replaying");
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, 1), 1);
	KUNIT_EXPECT_EQ(test, test_map(t, domain, 0, 2, 0, TEST_RW), 0);
	test_expect_agree(t, "after mapping");
}

/* Another CPU answers, some milliseconds later. */
static void fake_answers_late(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain;
	unsigned int i;

	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");
	test_needs_unsafe(t, "CPUs may wait for each other");
	domain = test_start_domain(t, NULL, 1);
	t->fake->async_delay_us = 500;
	t->fake->async = true;
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	for (i = 0; i < 10; i++) {
		KUNIT_EXPECT_EQ(test, test_map(t, domain, 2 * i, 1, 0, TEST_RW),
				0);
		test_expect_agree(t, "after mapping");
	}
	KUNIT_EXPECT_EQ(test, test_unmap(t, domain, 0, 1), 1);
	test_expect_agree(t, "after unmapping");
}

/* The queue refuses to be notified. */
static void fake_answers_notify(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct operation_run run;

	test_needs_unsafe(t, "spins for ever");
	operation_start(&run, t);
	t->fake->notify_fails = true;
	KUNIT_EXPECT_LT(test, operation_run(&run, OP_MAP), 0);
	KUNIT_EXPECT_LT(test, operation_run(&run, OP_ATTACH), 0);
	KUNIT_EXPECT_LE(test, run.longest_ms, TEST_PROMPT_MS);
	KUNIT_EXPECT_TRUE(test, test_log_has(t, fake_name(t->fake), "broken"));
	kunit_warning_suppress(test) {
		test_stop(t);
		/* The core insists on leaving a domain, which needs the device. */
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
}

static struct kunit_case fake_answers_cases[] = {
	KUNIT_CASE_PARAM(fake_answers, answer_gen_params),
	KUNIT_CASE(fake_answers_reverse),
	KUNIT_CASE(fake_answers_late),
	KUNIT_CASE(fake_answers_notify),
	{}
};

static struct kunit_suite fake_answers_suite = {
	.name = "viommu_fake_answers",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_answers_cases,
};

kunit_test_suite(fake_answers_suite);
