// SPDX-License-Identifier: GPL-2.0
/*
 * Endings: what comes after this driver may know nothing of the device, and the device
 * may keep over a reset all that is not taken back. So each id is detached while what is
 * detached is blocked, then the bypass field is as it was at boot, then comes the reset.
 */
#include <linux/ktime.h>

#include "tests.h"

#define NR_ENDPOINTS	3
#define F(bit)		BIT_ULL(bit)

struct ending_case {
	const char *name;
	const char *personality;
	u64 without;		/* features */
	u8 bypass;
	const char *type;	/* of the groups */
	bool shares;		/* an id */
	bool claims;		/* an endpoint, which is blocked then */
	bool attaches;		/* endpoints to a domain that has mappings */
	bool refuses;		/* an endpoint, which is attached to nothing then */
	unsigned int left;	/* ids that the device does not let go */
};

static const struct ending_case ending_cases[] = {
	{ "default domains", .bypass = 1 },
	{ "bypass 0 at boot", .bypass = 0 },
	{ "identity", .bypass = 1, .type = "identity" },
	{ "identity-mapped", .bypass = 1, .type = "identity",
	  .without = F(VIRTIO_IOMMU_F_BYPASS_CONFIG) },
	{ "a domain with mappings", .bypass = 1, .attaches = true },
	{ "blocked", .bypass = 1, .claims = true },
	{ "a shared id", .bypass = 1, .shares = true },
	{ "an endpoint without a domain", .bypass = 1, .refuses = true },
	{ "qemu72", "qemu72", .bypass = 1, .attaches = true },
	{ "qemu10", "qemu10", .bypass = 1, .attaches = true },
	{ "cloud-hypervisor", "cloud-hypervisor", .bypass = 1, .attaches = true },
	{ "crosvm", "crosvm", .bypass = 1 },
	{ "crosvm-vfio", "crosvm-vfio", .bypass = 1, .left = NR_ENDPOINTS },
};

KUNIT_ARRAY_PARAM_DESC(ending, ending_cases, name);

static void ending_config(const struct ending_case *param,
			  struct fake_config *config)
{
	*config = fake_default_config;
	config->quirks |= FAKE_RESET_KEEPS;
	if (param->personality)
		*config = *fake_personality(param->personality);
	config->features &= ~param->without;
	config->bypass = param->bypass;
}

static void ending_plug(struct fake_test *t, const struct ending_case *param)
{
	static const u32 shared[] = { 0x208, 0x109 };
	unsigned int i;

	if (!(t->config.quirks & FAKE_DETACH_ALONE))
		test_set_endpoint(t, 1, 3);
	if (param->shares)
		test_set_ids(t, 2, ARRAY_SIZE(shared), shared);
	for (i = 0; i < NR_ENDPOINTS; i++)
		test_plug(t, i);
	KUNIT_ASSERT_TRUE(t->test, test_register(t));
	for (i = 0; i < NR_ENDPOINTS; i++) {
		KUNIT_ASSERT_TRUE(t->test,
				  fake_endpoint_translated(&t->endpoints[i].fake));
		if (param->type)
			KUNIT_ASSERT_EQ(t->test,
					fake_group_type(&t->endpoints[i].fake,
							param->type), 0);
	}
}

/* Endpoints as the case wants them. What holds only while there is an IOMMU is left out. */
static void ending_start(struct fake_test *t, const struct ending_case *param,
			 enum ending ending)
{
	struct test_domain *domain;
	struct fake_config config;

	ending_config(param, &config);
	test_create(t, &config);
	ending_plug(t, param);
	if (param->refuses) {
		test_set_endpoint(t, 3, 1);
		test_rule(t, &(struct fake_rule) {
			FAKE_RULE(VIRTIO_IOMMU_T_PROBE), .no_effect = true,
			.status = VIRTIO_IOMMU_S_DEVERR });
		KUNIT_EXPECT_FALSE(t->test, test_plug(t, 3));
	}
	if (param->claims && ending != END_REMOVAL) {
		KUNIT_ASSERT_EQ(t->test,
				iommu_device_claim_dma_owner(test_dev(t, 2), t),
				0);
		t->endpoints[2].claimed = true;
	}
	if (param->attaches && ending != END_REMOVAL) {
		domain = test_alloc(t, 0);
		KUNIT_ASSERT_NOT_NULL(t->test, domain);
		test_map_each(t, domain, 5, 2, 1);
		KUNIT_ASSERT_EQ(t->test, test_attach(t, 0, domain), 0);
		KUNIT_ASSERT_EQ(t->test, test_attach(t, 1, domain), 0);
	}
	if (!param->shares)
		test_expect_agree(t, "before the end");
	KUNIT_EXPECT_EQ(t->test, t->fake->stats.opened.times, 0);
}

/* What is suspended does no DMA, and goes on with this driver. */
static bool ending_is_final(enum ending ending)
{
	return ending == END_SHUTDOWN || ending == END_REMOVAL;
}

/* The device is left as the next kernel wants it. */
static void ending_check(struct fake_test *t, const struct ending_case *param,
			 enum ending ending)
{
	const struct fake_stats *stats = &t->fake->stats;
	const char *name = ending_names[ending];
	struct kunit *test = t->test;
	bool writes = t->config.features & F(VIRTIO_IOMMU_F_BYPASS_CONFIG) &&
		      !(t->config.quirks & FAKE_BYPASS_READS_0) &&
		      param->bypass && !test_keeps_bypass() &&
		      ending_is_final(ending);

	KUNIT_EXPECT_EQ_MSG(test, stats->reset.times, 1, "%s", name);
	KUNIT_EXPECT_EQ_MSG(test, stats->reset.attached, param->left,
			    "%s: ids are attached at the reset", name);
	if (ending_is_final(ending))
		KUNIT_EXPECT_EQ_MSG(test, stats->reset.bypass, param->bypass,
				    "%s: the field at the reset", name);
	if (writes)
		KUNIT_EXPECT_GE_MSG(test, stats->opened.times, 1,
				    "%s: the field is not restored", name);
	else if (t->config.quirks & FAKE_BYPASS_READS_0)
		KUNIT_EXPECT_EQ_MSG(test, stats->config_writes, 0, "%s", name);
	if (stats->opened.times)
		KUNIT_EXPECT_EQ_MSG(test, stats->opened.attached, param->left,
				    "%s: ids are attached when it is restored",
				    name);
}

/* Each id is detached, then the bypass field has its boot value, then comes the reset. */
static void fake_endings(struct kunit *test)
{
	const struct ending_case *param = test->param_value;
	struct fake_test *t = test->priv;
	enum ending ending;
	int warnings;

	test_needs_unsafe(t, "spins for ever, or follows a null pointer");
	t->stays_attached = param->left;
	for (ending = 0; ending < NR_ENDINGS; ending++) {
		ending_start(t, param, ending);
		kunit_warning_suppress(test) {
			ending_run(t, ending);
			warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
		}
		KUNIT_EXPECT_EQ_MSG(test, warnings, 0, "%s",
				    ending_names[ending]);
		ending_check(t, param, ending);
		/* The core warns of a domain that is attached to the end. */
		kunit_warning_suppress(test) {
			test_stop(t);
		}
	}
}

/* A refused DETACH is reported with its endpoint, and does not stop the others. */
static void fake_endings_refused(struct kunit *test)
{
	static const struct ending_case base = {
		.bypass = 1, .left = 1, .attaches = true,
	};
	struct fake_test *t = test->priv;
	enum ending ending;
	unsigned int i;

	test_needs_unsafe(t, "spins for ever, or follows a null pointer");
	t->stays_attached = true;
	for (ending = 0; ending < NR_ENDINGS; ending++) {
		for (i = 0; i < NR_ENDPOINTS; i++) {
			ending_start(t, &base, ending);
			test_rule(t, &(struct fake_rule) {
				FAKE_RULE(VIRTIO_IOMMU_T_DETACH),
				.endpoint = t->endpoints[i].fake.ids[0],
				.times = 0, .no_effect = true,
				.status = VIRTIO_IOMMU_S_DEVERR });
			test_log_mark(t);
			ending_run(t, ending);
			ending_check(t, &base, ending);
			KUNIT_EXPECT_TRUE_MSG(test,
					      test_log_has(t, dev_name(test_dev(t, i)),
							   "detach"),
					      "%s: nothing is said of endpoint %u",
					      ending_names[ending], i);
			kunit_warning_suppress(test) {
				test_stop(t);
			}
		}
	}
}

/* Each ring full of DETACHes is notified once. */
static void fake_endings_notifications(struct kunit *test)
{
	static const unsigned int rings[] = { 16, 64, 256 };
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	unsigned int i, j, before, rounds, detached;
	enum ending ending;

	test_needs_unsafe(t, "spins for ever when endpoints are released");
	config.features &= ~F(VIRTIO_RING_F_INDIRECT_DESC);
	for (i = 0; i < ARRAY_SIZE(rings) * NR_ENDINGS; i++) {
		ending = i % NR_ENDINGS;
		/* The core releases one endpoint after the other. */
		if (ending == END_REMOVAL)
			continue;
		config.ring_size = rings[i / NR_ENDINGS];
		test_create(t, &config);
		for (j = 0; j < TEST_MAX_ENDPOINTS; j++) {
			test_set_endpoint(t, j, 3);
			test_plug(t, j);
		}
		KUNIT_ASSERT_TRUE(test, test_register(t));
		before = t->fake->stats.notifications;
		detached = fake_requests(t->fake, VIRTIO_IOMMU_T_DETACH);
		ending_run(t, ending);
		detached = fake_requests(t->fake, VIRTIO_IOMMU_T_DETACH) -
			   detached;
		/* A request and its answer take a descriptor each. */
		rounds = DIV_ROUND_UP(3 * TEST_MAX_ENDPOINTS,
				      config.ring_size / 2);
		KUNIT_EXPECT_EQ(test, detached, 3 * TEST_MAX_ENDPOINTS);
		KUNIT_EXPECT_LE_MSG(test, t->fake->stats.notifications - before,
				    rounds, "%s, ring of %u",
				    ending_names[ending], config.ring_size);
		kunit_warning_suppress(test) {
			test_stop(t);
		}
	}
}

struct late_case {
	const char *name;
	enum ending ending;
	unsigned int pace_ms;	/* 0: never answers */
	bool slow;
};

static const struct late_case late_cases[] = {
	{ "shutdown: never answers", END_SHUTDOWN },
	{ "shutdown: answers after 9 s", END_SHUTDOWN, 9000, true },
	{ "removal: never answers", END_REMOVAL, 0, true },
	{ "removal: answers after 9 s", END_REMOVAL, 9000, true },
#ifdef CONFIG_PM_SLEEP
	{ "suspend: never answers", END_SUSPEND, 0, true },
	{ "suspend: answers after 9 s", END_SUSPEND, 9000, true },
#endif
};

KUNIT_ARRAY_PARAM_DESC(late, late_cases, name);

/* A device that takes its time for each DETACH, or does not answer at all, ends in time. */
static void fake_endings_late(struct kunit *test)
{
	static const struct ending_case base = { .bypass = 1 };
	const struct late_case *param = test->param_value;
	struct fake_test *t = test->priv;
	ktime_t start;
	s64 ms;

	if (param->slow)
		test_is_slow(t);
	test_needs_unsafe(t, "spins for ever");
	t->stays_attached = true;
	ending_start(t, &base, param->ending);
	if (param->pace_ms) {
		if (num_online_cpus() < 2)
			kunit_skip(test, "needs a second CPU");
		t->fake->async = true;
		t->fake->async_pace_ms = param->pace_ms;
	} else {
		test_rule(t, &(struct fake_rule) {
			FAKE_RULE(VIRTIO_IOMMU_T_DETACH), .times = 0,
			.completion = FAKE_NEVER });
	}
	start = ktime_get();
	kunit_warning_suppress(test) {
		ending_run(t, param->ending);
	}
	ms = ktime_ms_delta(ktime_get(), start);
	kunit_info(test, "%lld ms, %u ids still attached", ms,
		   t->fake->stats.reset.attached);
	KUNIT_EXPECT_LE(test, ms, TEST_BOUND_MS);
	KUNIT_EXPECT_EQ(test, t->fake->stats.reset.times, 1);
	if (ending_is_final(param->ending))
		KUNIT_EXPECT_EQ(test, t->fake->stats.reset.bypass, base.bypass);
	t->fake->async = false;
	kunit_warning_suppress(test) {
		test_stop(t);
	}
}

static struct kunit_case fake_endings_cases[] = {
	KUNIT_CASE_PARAM(fake_endings, ending_gen_params),
	KUNIT_CASE(fake_endings_refused),
	KUNIT_CASE(fake_endings_notifications),
	KUNIT_CASE_PARAM(fake_endings_late, late_gen_params),
	{}
};

static struct kunit_suite fake_endings_suite = {
	.name = "viommu_fake_endings",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_endings_cases,
};

kunit_test_suite(fake_endings_suite);
