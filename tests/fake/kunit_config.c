// SPDX-License-Identifier: GPL-2.0
/*
 * The device configuration at its extremes, and while it changes.
 */
#include <linux/sizes.h>

#include "tests.h"

#define F(bit) BIT_ULL(bit)

enum verdict {
	WORKS,
	REFUSED,	/* by the driver's probe, or for each endpoint */
	EITHER,
};

struct config_case {
	const char *name;
	enum verdict verdict;
	struct fake_config config;
	const char *says;		/* the driver, when it refuses */
	const char *unsafe_if_present;	/* with an endpoint at probe time */
};

#define OFFERS(...)	{ FAKE_DEFAULTS, __VA_ARGS__ }
#define TWICE		"unregisters an IOMMU twice"

static const struct config_case config_cases[] = {
	{ "page mask 0", REFUSED,
	  OFFERS(.page_size_mask = 0),
	  "page size" },
	{ "granule 64 KiB", REFUSED,
	  OFFERS(.page_size_mask = SZ_64K),
	  "granule", TWICE },
	{ "granule 2^63", REFUSED,
	  OFFERS(.page_size_mask = BIT_ULL(63)),
	  "granule", TWICE },
	{ "granule 1", EITHER,
	  OFFERS(.page_size_mask = U64_MAX),
	  "granule" },
	{ "granule 1 KiB", WORKS,
	  OFFERS(.page_size_mask = SZ_1K) },
	{ "input range reversed", REFUSED,
	  OFFERS(.input_start = SZ_1G, .input_end = SZ_1M),
	  "input range", TWICE },
	{ "input range of a byte", REFUSED,
	  OFFERS(.input_start = SZ_1G, .input_end = SZ_1G),
	  "input range", TWICE },
	{ "input range of a granule", EITHER,
	  OFFERS(.input_start = SZ_1G, .input_end = SZ_1G + SZ_4K - 1),
	  "input range" },
	{ "input range unaligned", WORKS,
	  OFFERS(.input_start = SZ_1M + 1, .input_end = U32_MAX - 1) },
	{ "input range at the top", EITHER,
	  OFFERS(.input_start = U64_MAX - SZ_1G + 1, .input_end = U64_MAX),
	  "input range" },
	{ "input range 2^64-1", REFUSED,
	  OFFERS(.input_start = U64_MAX, .input_end = U64_MAX),
	  "input range", TWICE },
	{ "domain range reversed", REFUSED,
	  OFFERS(.domain_start = 9, .domain_end = 8),
	  "domain range", TWICE },
	{ "domain range of one", EITHER,
	  OFFERS(.domain_start = 7, .domain_end = 7),
	  "domain range", TWICE },
	{ "domain range 2^32-1", EITHER,
	  OFFERS(.domain_start = U32_MAX, .domain_end = U32_MAX),
	  "domain range", TWICE },
	{ "domain range of three", EITHER,
	  OFFERS(.domain_start = 0, .domain_end = 2),
	  "domain id" },
	{ "domain range of four", WORKS,
	  OFFERS(.domain_start = 0, .domain_end = 3) },
	{ "domain range 0 to 2^32-1", WORKS,
	  OFFERS(.domain_start = 0, .domain_end = U32_MAX) },
	{ "domain range above 2^31", WORKS,
	  OFFERS(.domain_start = U32_MAX - 99, .domain_end = U32_MAX),
	  .unsafe_if_present = TWICE },
	{ "probe size 0", WORKS,
	  OFFERS(.probe_size = 0) },
	{ "probe size 1", EITHER,
	  OFFERS(.probe_size = 1),
	  "malformed property" },
	{ "probe size 4", WORKS,
	  OFFERS(.probe_size = 4) },
	{ "probe size 64 KiB", WORKS,
	  OFFERS(.probe_size = SZ_64K) },
	{ "probe size 4 GiB - 1", REFUSED,
	  OFFERS(.probe_size = U32_MAX),
	  "probe size", TWICE },
	{ "probe size 2 GiB", REFUSED,
	  OFFERS(.probe_size = SZ_2G),
	  "probe size", TWICE },
	{ "no VERSION_1", REFUSED,
	  OFFERS(.features = FAKE_FEATURES & ~F(VIRTIO_F_VERSION_1)),
	  "legacy" },
	{ "no MAP_UNMAP", REFUSED,
	  OFFERS(.features = FAKE_FEATURES & ~F(VIRTIO_IOMMU_F_MAP_UNMAP)),
	  "MAP" },
	{ "bypass 2", EITHER,
	  OFFERS(.bypass = 2),
	  "bypass" },
	{ "ring of 1", EITHER,
	  OFFERS(.ring_size = 1),
	  "queue" },
	{ "ring of 2", WORKS,
	  OFFERS(.ring_size = 2) },
	{ "ring of 2, direct", WORKS,
	  OFFERS(.ring_size = 2,
		 .features = FAKE_FEATURES & ~F(VIRTIO_RING_F_INDIRECT_DESC)) },
	{ "ring of 1024", WORKS,
	  OFFERS(.ring_size = 1024, .event_ring_size = 1024) },
	{ "event ring of 1", WORKS,
	  OFFERS(.event_ring_size = 1) },
};

KUNIT_ARRAY_PARAM_DESC(config, config_cases, name);

/* Maps the first granules of the aperture. */
static bool config_use(struct fake_test *t)
{
	struct iommu_domain_geometry *geometry;
	struct test_domain *domain;
	unsigned int nr = 4;

	domain = test_alloc(t, 0);
	if (!domain)
		return false;
	geometry = &domain->domain->geometry;
	domain->base = round_up(geometry->aperture_start, t->granule);
	if (geometry->aperture_end - domain->base < nr * t->granule)
		nr = 1;
	if (test_map(t, domain, 0, nr, 0, TEST_RW))
		return false;
	if (test_attach(t, 0, domain))
		return false;
	test_expect_agree(t, "after attaching");
	KUNIT_EXPECT_EQ(t->test, test_unmap(t, domain, 0, nr), nr);
	test_expect_agree(t, "after unmapping");
	return true;
}

static void config_run(struct kunit *test, bool present)
{
	const struct config_case *param = test->param_value;
	struct fake_test *t = test->priv;
	bool works;

	if (present && param->unsafe_if_present)
		test_needs_unsafe(t, param->unsafe_if_present);
	test_create(t, &param->config);
	kunit_warning_suppress(test) {
		if (present)
			test_plug(t, 0);
		works = test_register(t);
		if (works && !present)
			test_plug(t, 0);
		works = works &&
			fake_endpoint_translated(&t->endpoints[0].fake) &&
			config_use(t);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 0);
	}
	if (param->verdict == WORKS)
		KUNIT_EXPECT_TRUE(test, works);
	if (param->verdict == REFUSED)
		KUNIT_EXPECT_FALSE(test, works);
	if (!works)
		KUNIT_EXPECT_TRUE_MSG(test, param->says &&
				      test_log_says(t, param->says),
				      "refused without a word");
	kunit_warning_suppress(test) {
		test_stop(t);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 0);
	}
}

/* An endpoint is plugged in behind a device with an odd configuration. */
static void fake_config_plugged(struct kunit *test)
{
	config_run(test, false);
}

/* The endpoint is there before the driver finds the device. */
static void fake_config_present(struct kunit *test)
{
	config_run(test, true);
}

/* When the domain numbers are used up, that is an error, and passes. */
static void fake_config_domains(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct test_domain *domain;
	unsigned int nr;

	config.domain_start = 100;
	config.domain_end = 105;
	test_start(t, &config, 1);
	/* A domain may get its number when it is attached first. */
	for (nr = 0; nr < 7; nr++) {
		domain = test_alloc(t, 0);
		if (!domain || test_attach(t, 0, domain))
			break;
		test_detach(t, 0);
	}
	test_expect_agree(t, "when numbers are used up");
	KUNIT_EXPECT_GE(test, nr, 3);
	KUNIT_EXPECT_LT(test, nr, 7);
	test_free(t, t->domains[0]);
	domain = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(test, domain);
	KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
	test_expect_agree(t, "after attaching the last");
}

/* The device does not take the features that were chosen. */
static void fake_config_features_ok(struct kunit *test)
{
	struct fake_test *t = test->priv;

	test_create(t, &fake_default_config);
	t->fake->refuse_features = true;
	KUNIT_EXPECT_FALSE(test, test_register(t));
}

static const struct fake_config *config_before(void)
{
	return &fake_default_config;
}

static struct fake_config config_after(void)
{
	struct fake_config config = fake_default_config;

	config.input_start = 0x10000000;
	config.input_end = 0x1fffffff;
	config.page_size_mask = SZ_1K;
	config.domain_start = 1000;
	config.domain_end = 1999;
	config.probe_size = 1024;
	config.bypass = 0;
	return config;
}

static unsigned int config_change_at;

/* Changes everything at once, before one of the reads. */
static void config_change_once(struct fake_viommu *fake, unsigned int offset)
{
	struct fake_config after = config_after();

	if (fake->hook_calls++ == config_change_at)
		fake_set_config(fake, &after);
}

/* What the driver has read is either the old configuration or the new one. */
static void fake_config_torn(struct kunit *test)
{
	struct fake_config after = config_after();
	struct fake_test *t = test->priv;
	unsigned int at;

	for (at = 0; at < 12; at++) {
		const struct fake_config *seen;
		struct test_domain *domain;
		u64 sizes;

		config_change_at = at;
		test_create(t, config_before());
		t->fake->config_hook = config_change_once;
		t->violations_expected = true;
		KUNIT_ASSERT_TRUE(test, test_register(t));
		t->fake->config_hook = NULL;
		seen = t->fake->hook_calls > at ? &after : config_before();
		KUNIT_ASSERT_TRUE(test, test_plug(t, 0));
		domain = test_alloc(t, 0);
		KUNIT_ASSERT_NOT_NULL(test, domain);
		KUNIT_EXPECT_EQ_MSG(test,
				    domain->domain->geometry.aperture_start,
				    seen->input_start, "before read %u", at);
		KUNIT_EXPECT_EQ_MSG(test, domain->domain->geometry.aperture_end,
				    seen->input_end, "before read %u", at);
		sizes = domain->domain->pgsize_bitmap;
		t->granule = seen->page_size_mask & -seen->page_size_mask;
		KUNIT_EXPECT_EQ_MSG(test, sizes & -sizes, t->granule,
				    "before read %u", at);
		if (seen == &after) {
			domain->base = after.input_start;
			KUNIT_EXPECT_EQ(test, test_attach(t, 0, domain), 0);
			KUNIT_EXPECT_EQ(test, test_map(t, domain, 1, 1, 0,
						       TEST_RW), 0);
			test_expect_agree(t, "after mapping");
			KUNIT_EXPECT_EQ_MSG(test, t->fake->nr_violations, 0,
					    "before read %u: %s", at,
					    t->fake->violations[0]);
			test_detach(t, 0);
		}
		test_unplug(t, 0);
		test_free(t, domain);
		fake_unregister(t->fake);
		KUNIT_EXPECT_EQ_MSG(test, t->fake->model.bypass, seen->bypass,
				    "before read %u", at);
		test_stop(t);
	}
}

/* Never the same twice. */
static void config_never_settles(struct fake_viommu *fake, unsigned int offset)
{
	atomic_inc(&fake->generation);
}

/* A configuration that changes with each look at it is not read for ever. */
static void fake_config_unsettled(struct kunit *test)
{
	struct fake_test *t = test->priv;

	test_needs_unsafe(t, "reads for ever");
	test_create(t, &fake_default_config);
	t->fake->config_hook = config_never_settles;
	KUNIT_EXPECT_FALSE(test, test_register(t));
	t->fake->config_hook = NULL;
	KUNIT_EXPECT_LT(test, t->fake->stats.config_reads, 100000);
	KUNIT_EXPECT_TRUE_MSG(test, test_log_says(t, "configuration"),
			      "nothing is reported");
}

/* A driver that runs does not follow changes, but survives them. */
static void fake_config_changes(struct kunit *test)
{
	struct fake_config after = config_after();
	struct fake_test *t = test->priv;
	unsigned int i;

	test_start(t, NULL, 1);
	for (i = 0; i < 3; i++)
		fake_config_changed(t->fake);
	KUNIT_EXPECT_TRUE(test, test_log_has(t, fake_name(t->fake), "config"));
	after.input_start = 0;
	after.domain_start = fake_default_config.domain_start;
	after.domain_end = fake_default_config.domain_end;
	after.probe_size = fake_default_config.probe_size;
	after.bypass = t->bypass;
	fake_set_config(t->fake, &after);
	fake_config_changed(t->fake);
	KUNIT_EXPECT_TRUE(test, test_plug(t, 1));
	t->violations_expected = true;
	test_expect_agree(t, "afterwards");
}

static struct kunit_case fake_config_cases[] = {
	KUNIT_CASE_PARAM(fake_config_plugged, config_gen_params),
	KUNIT_CASE_PARAM(fake_config_present, config_gen_params),
	KUNIT_CASE(fake_config_domains),
	KUNIT_CASE(fake_config_features_ok),
	KUNIT_CASE(fake_config_torn),
	KUNIT_CASE(fake_config_unsettled),
	KUNIT_CASE(fake_config_changes),
	{}
};

static struct kunit_suite fake_config_suite = {
	.name = "viommu_fake_config",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_config_cases,
};

kunit_test_suite(fake_config_suite);
