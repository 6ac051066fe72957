// SPDX-License-Identifier: GPL-2.0
/*
 * Two refusals in a row: an endpoint cannot get where it is to go, and then cannot go
 * back. Where the device has it in the end is for the device to say, and for the driver
 * to report: never in a domain that lacks a part of its mappings, if that can be helped.
 */
#include <linux/completion.h>
#include <linux/irq_work.h>
#include <linux/sizes.h>
#include <linux/workqueue.h>

#include "tests.h"

#define LOST_MAPPINGS	5

/* Requests of this type are refused after @_skip of them: @_times, or all if that is 0. */
#define REFUSE(_type, _skip, _times) {					\
		FAKE_RULE(_type), .skip = (_skip), .times = (_times),	\
		.no_effect = true, .status = VIRTIO_IOMMU_S_NOMEM }

struct lost_case {
	const char *name;
	struct fake_rule rules[2];
	unsigned int nr_rules;
	const char *place;	/* where the endpoint, or its first id, is in the end */
	const char *says[2];
};

struct lost_run {
	struct fake_test *t;
	struct test_domain *former;
	struct test_domain *other;
	u32 former_id;
};

/* Where the device has an id. A domain without mappings is as good as none. */
static const char *lost_place(struct lost_run *run, unsigned int id)
{
	struct fake_viommu *fake = run->t->fake;
	struct model_domain *domain;
	const char *place;
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	domain = model_endpoint(&fake->model,
				run->t->endpoints[0].fake.ids[id])->domain;
	if (!domain)
		place = fake->model.bypass ? "nowhere, and open" : "nowhere";
	else if (domain->bypass)
		place = "bypass";
	else if (domain->id == run->former_id)
		place = "the former domain";
	else
		place = list_empty(&domain->mappings) ? "blocked" : "the other domain";
	spin_unlock_irqrestore(&fake->lock, flags);
	return place;
}

/* Endpoint 0 with its ids is in a domain; there is another one. Both have mappings. */
static void lost_start(struct lost_run *run, struct fake_test *t,
		       unsigned int nr_ids)
{
	struct model_endpoint *endpoint;

	run->t = t;
	test_set_endpoint(t, 0, nr_ids);
	run->former = test_start_domain(t, NULL, 1);
	run->other = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(t->test, run->other);
	test_map_each(t, run->former, LOST_MAPPINGS, 2, 1);
	test_map_each(t, run->other, LOST_MAPPINGS, 3, 2);
	KUNIT_ASSERT_EQ(t->test, test_attach(t, 0, run->former), 0);
	test_expect_agree(t, "before");
	endpoint = model_endpoint(&t->fake->model, t->endpoints[0].fake.ids[0]);
	KUNIT_ASSERT_NOT_NULL(t->test, endpoint->domain);
	run->former_id = endpoint->domain->id;
}

/* The endpoint is to go to the other domain. Both that and the way back are refused. */
static void lost_replace(struct lost_run *run)
{
	const struct lost_case *param = run->t->test->param_value;
	struct fake_test *t = run->t;
	unsigned int i;

	for (i = 0; i < param->nr_rules; i++)
		test_rule(t, &param->rules[i]);
	test_log_mark(t);
	KUNIT_EXPECT_LT(t->test, test_replace(t, 0, run->other), 0);
	test_clear_rules(t);
	KUNIT_EXPECT_STREQ(t->test, lost_place(run, 0), param->place);
	for (i = 0; i < ARRAY_SIZE(param->says); i++)
		KUNIT_EXPECT_TRUE_MSG(t->test,
				      test_log_has(t, "fake-endpoint",
						   param->says[i]),
				      "nothing is said of \"%s\"",
				      param->says[i]);
}

/* What was lost is found: both domains are as the test knows them. */
static void lost_heal(struct lost_run *run)
{
	struct fake_test *t = run->t;

	KUNIT_ASSERT_EQ(t->test, test_replace(t, 0, run->other), 0);
	test_expect_agree(t, "in the other domain");
	KUNIT_ASSERT_EQ(t->test, test_replace(t, 0, run->former), 0);
	test_expect_agree(t, "in the former domain");
}

static const struct lost_case replay_cases[] = {
	{ "the way back",
	  { REFUSE(VIRTIO_IOMMU_T_MAP, 3, 1),
	    REFUSE(VIRTIO_IOMMU_T_ATTACH, 1, 1) }, 2,
	  "blocked", { "former domain", "DMA is blocked" } },
	{ "the mappings of both",
	  { REFUSE(VIRTIO_IOMMU_T_MAP, 3, 0) }, 1,
	  "blocked", { "former domain", "DMA is blocked" } },
	{ "the way back, and blocking",
	  { REFUSE(VIRTIO_IOMMU_T_MAP, 3, 1),
	    REFUSE(VIRTIO_IOMMU_T_ATTACH, 1, 0) }, 2,
	  "the other domain", { "former domain", "cannot be blocked" } },
};

KUNIT_ARRAY_PARAM_DESC(replay, replay_cases, name);

/*
 * The new domain cannot get its mappings, and the old one cannot be had back: DMA is
 * blocked, or it is reported that it is not.
 */
static void fake_lost_replay(struct kunit *test)
{
	struct fake_test *t = test->priv;
	unsigned int nr_mappings;
	struct lost_run run;

	lost_start(&run, t, 1);
	lost_replace(&run);
	/* Nobody is in the former domain: what is mapped there is for later. */
	nr_mappings = t->fake->model.nr_mappings;
	KUNIT_EXPECT_EQ(test, test_map(t, run.former, 20, 1, SZ_1G, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, t->fake->model.nr_mappings, nr_mappings);
	lost_heal(&run);
}

static const struct lost_case ids_cases[] = {
	{ "the way back",
	  { REFUSE(VIRTIO_IOMMU_T_ATTACH, 1, 2) }, 1,
	  "blocked", { "former domain", "DMA is blocked" } },
	{ "the way back, and blocking",
	  { REFUSE(VIRTIO_IOMMU_T_ATTACH, 1, 3) }, 1,
	  "the other domain", { "former domain", "cannot be blocked" } },
};

KUNIT_ARRAY_PARAM_DESC(ids, ids_cases, name);

/*
 * The second of three ids cannot be attached, and the first cannot go back. The others
 * still have the former domain, which goes on to reach the device.
 */
static void fake_lost_ids(struct kunit *test)
{
	struct fake_test *t = test->priv;
	unsigned int i, nr_mappings;
	struct lost_run run;

	lost_start(&run, t, 3);
	lost_replace(&run);
	for (i = 1; i < 3; i++)
		KUNIT_EXPECT_STREQ(test, lost_place(&run, i),
				   "the former domain");
	nr_mappings = t->fake->model.nr_mappings;
	KUNIT_EXPECT_EQ(test, test_map(t, run.former, 20, 1, SZ_1G, TEST_RW), 0);
	KUNIT_EXPECT_EQ(test, t->fake->model.nr_mappings, nr_mappings + 1);
	lost_heal(&run);
}

struct denied_run {
	struct lost_run lost;
	struct work_struct replace;
	struct irq_work release;
	struct completion seen;
	int ret;
};

static void denied_replace(struct work_struct *work)
{
	struct denied_run *run = container_of(work, struct denied_run, replace);

	run->ret = test_replace(run->lost.t, 0, run->lost.other);
}

static void denied_unmapped(struct fake_viommu *fake,
			    struct fake_request *request, void *arg)
{
	irq_work_queue(arg);
}

static void denied_release(struct irq_work *work)
{
	struct denied_run *run = container_of(work, struct denied_run, release);

	fake_release_held(run->lost.t->fake, false);
}

/*
 * While the last endpoint of a domain is about to leave it, the device says of an UNMAP
 * that it does not know the domain. Then it refuses to let the endpoint go: what was
 * unmapped may still be there, and nothing is mapped over it.
 */
static void fake_lost_denied(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct denied_run run = {};
	struct fake_rule attach = REFUSE(VIRTIO_IOMMU_T_ATTACH, 0, 1);
	struct fake_rule unmap = REFUSE(VIRTIO_IOMMU_T_UNMAP, 0, 1);

	test_needs_unsafe(t, "spins for ever, with interrupts off");
	lost_start(&run.lost, t, 1);
	attach.completion = FAKE_HELD;
	attach.hook = fake_seen;
	attach.arg = &run.seen;
	unmap.status = VIRTIO_IOMMU_S_NOENT;
	/* What unmaps waits for the ATTACH, too: the device goes on by itself. */
	unmap.hook = denied_unmapped;
	unmap.arg = &run.release;
	init_completion(&run.seen);
	init_irq_work(&run.release, denied_release);
	test_rule(t, &attach);
	test_rule(t, &unmap);
	test_log_mark(t);

	INIT_WORK_ONSTACK(&run.replace, denied_replace);
	queue_work(system_dfl_wq, &run.replace);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&run.seen, 10 * HZ));
	KUNIT_EXPECT_EQ(test, test_unmap(t, run.lost.former, 0, 1), 1);
	irq_work_sync(&run.release);
	flush_work(&run.replace);
	destroy_work_on_stack(&run.replace);
	test_clear_rules(t);

	KUNIT_EXPECT_LT(test, run.ret, 0);
	KUNIT_EXPECT_STREQ(test, lost_place(&run.lost, 0), "the former domain");
	KUNIT_EXPECT_TRUE(test, test_log_has(t, fake_name(t->fake), "denied"));
	KUNIT_EXPECT_LT(test, test_map(t, run.lost.former, 0, 1, SZ_1G, TEST_RW),
			0);
	KUNIT_EXPECT_EQ(test, t->fake->model.nr_mappings, LOST_MAPPINGS);
	lost_heal(&run.lost);
	KUNIT_EXPECT_EQ(test, test_map(t, run.lost.former, 0, 1, SZ_1G, TEST_RW),
			0);
	test_expect_agree(t, "after mapping there again");
}

static struct kunit_case fake_lost_cases[] = {
	KUNIT_CASE_PARAM(fake_lost_replay, replay_gen_params),
	KUNIT_CASE_PARAM(fake_lost_ids, ids_gen_params),
	KUNIT_CASE(fake_lost_denied),
	{}
};

static struct kunit_suite fake_lost_suite = {
	.name = "viommu_fake_lost",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_lost_cases,
};

kunit_test_suite(fake_lost_suite);
