// SPDX-License-Identifier: GPL-2.0
/*
 * The global bypass: what becomes of an endpoint that is attached to no domain.
 *
 * The C driver leaves the field alone. These cases are what a driver does that
 * protects such endpoints, and restores the machine for the next kernel.
 */
#include "tests.h"

/* Whether the DMA of an endpoint goes through untranslated. */
static bool bypass_is_open(struct fake_test *t, unsigned int endpoint)
{
	struct model_endpoint *model;
	unsigned long flags;
	bool open;

	spin_lock_irqsave(&t->fake->lock, flags);
	model = model_endpoint(&t->fake->model,
			       t->endpoints[endpoint].fake.ids[0]);
	open = model->domain ? model->domain->bypass : fake_bypasses(t->fake);
	spin_unlock_irqrestore(&t->fake->lock, flags);
	return open;
}

/* Whether it is meant to, as long as it is attached. */
static bool bypass_is_meant(struct fake_test *t, unsigned int endpoint)
{
	return iommu_get_domain_for_dev(test_dev(t, endpoint))->type ==
	       IOMMU_DOMAIN_IDENTITY;
}

static void bypass_start(struct fake_test *t, u8 boot)
{
	struct fake_config config = fake_default_config;

	config.bypass = boot;
	test_start(t, &config, 1);
}

/* An endpoint that is released is blocked. */
static void fake_bypass_released(struct kunit *test)
{
	struct fake_test *t = test->priv;

	bypass_start(t, 1);
	KUNIT_EXPECT_EQ(test, bypass_is_open(t, 0), bypass_is_meant(t, 0));
	test_unplug(t, 0);
	KUNIT_EXPECT_EQ(test, fake_requests(t->fake, VIRTIO_IOMMU_T_DETACH), 1);
	KUNIT_EXPECT_FALSE(test, bypass_is_open(t, 0));
}

/* No driver may do without its IOMMU because the IOMMU had a bad moment. */
static void fake_bypass_not_accepted(struct kunit *test)
{
	struct fake_test *t = test->priv;

	bypass_start(t, 1);
	test_rule(t, &(struct fake_rule) {
		FAKE_RULE(VIRTIO_IOMMU_T_ATTACH), .times = 0,
		.no_effect = true, .status = VIRTIO_IOMMU_S_NOMEM });
	kunit_warning_suppress(test) {
		test_plug(t, 1);
		/* "Drivers are not allowed to fail the first domain attach." */
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 0);
	}
	KUNIT_EXPECT_FALSE(test, bypass_is_open(t, 1));
	test_clear_rules(t);
	kunit_warning_suppress(test) {
		test_unplug(t, 1);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 0);
	}
	KUNIT_EXPECT_FALSE(test, bypass_is_open(t, 1));
}

/* The field is clear while there is a driver, and as it was when it has gone. */
static void fake_bypass_unbind(struct kunit *test)
{
	struct fake_test *t = test->priv;
	u8 boot;

	for (boot = 0; boot <= 1; boot++) {
		bypass_start(t, boot);
		KUNIT_EXPECT_EQ(test, t->fake->model.bypass, 0);
		/* With endpoints the C driver would follow a null pointer. */
		test_unplug(t, 0);
		fake_unregister(t->fake);
		KUNIT_EXPECT_EQ(test, t->fake->model.bypass, boot);
		test_stop(t);
	}
}

/* The field is as it was when the next kernel comes. */
static void fake_bypass_shutdown(struct kunit *test)
{
	struct fake_test *t = test->priv;
	u8 boot;

	test_needs_unsafe(t, "spins for ever when endpoints are released");
	for (boot = 0; boot <= 1; boot++) {
		bypass_start(t, boot);
		KUNIT_EXPECT_EQ(test, t->fake->model.bypass, 0);
		ending_run(t, END_SHUTDOWN);
		KUNIT_EXPECT_EQ(test, t->fake->model.bypass, boot);
		KUNIT_EXPECT_EQ(test, t->fake->status, 0);
		kunit_warning_suppress(test) {
			test_stop(t);
			KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 0);
		}
	}
}

/* A probe that fails leaves the field as it found it. */
static void fake_bypass_failed_probe(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;

	config.page_size_mask = 0;
	test_create(t, &config);
	KUNIT_EXPECT_FALSE(test, test_register(t));
	KUNIT_EXPECT_EQ(test, t->fake->model.bypass, 1);
}

/* Identity and translated, and back, while the field is what it is. */
static void fake_bypass_types(struct kunit *test)
{
	static const char * const types[] = {
		"identity", "DMA", "identity", "DMA-FQ", "identity", "auto",
	};
	struct fake_test *t = test->priv;
	unsigned int i;

	bypass_start(t, 1);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		KUNIT_EXPECT_EQ(test, fake_group_type(&t->endpoints[0].fake,
						      types[i]), 0);
		test_expect_agree(t, types[i]);
		if (!strcmp(types[i], "identity"))
			KUNIT_EXPECT_TRUE(test, bypass_is_open(t, 0));
	}
}

/* Endpoints shut down and suspend before their IOMMU, whatever their slots. */
static void fake_bypass_link(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct device_link *link;
	bool linked = false;

	bypass_start(t, 1);
	list_for_each_entry(link, &test_dev(t, 0)->links.suppliers, c_node) {
		if (link->supplier == &t->fake->vdev.dev ||
		    link->supplier == &t->fake->parent->dev)
			linked = true;
	}
	KUNIT_EXPECT_TRUE(test, linked);
	test_unplug(t, 0);
	KUNIT_EXPECT_TRUE(test, list_empty(&t->fake->vdev.dev.links.consumers));
}

/* A field that reads 0 although the device bypasses is left alone: all is as it was found. */
static void fake_bypass_reads_0(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;

	config.quirks |= FAKE_BYPASS_READS_0;
	test_start(t, &config, 1);
	KUNIT_EXPECT_EQ(test, bypass_is_open(t, 0), bypass_is_meant(t, 0));
	/* With endpoints the C driver would follow a null pointer. */
	test_unplug(t, 0);
	fake_unregister(t->fake);
	KUNIT_EXPECT_EQ(test, t->fake->stats.config_writes, 0);
	KUNIT_EXPECT_EQ(test, t->fake->model.bypass, 1);
}

static struct kunit_case fake_bypass_cases[] = {
	KUNIT_CASE(fake_bypass_released),
	KUNIT_CASE(fake_bypass_not_accepted),
	KUNIT_CASE(fake_bypass_unbind),
	KUNIT_CASE(fake_bypass_shutdown),
	KUNIT_CASE(fake_bypass_failed_probe),
	KUNIT_CASE(fake_bypass_types),
	KUNIT_CASE(fake_bypass_link),
	KUNIT_CASE(fake_bypass_reads_0),
	{}
};

static struct kunit_suite fake_bypass_suite = {
	.name = "viommu_fake_bypass",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_bypass_cases,
};

kunit_test_suite(fake_bypass_suite);
