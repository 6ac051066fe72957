// SPDX-License-Identifier: GPL-2.0
/*
 * Setting up and tearing down.
 */
#include <linux/kmsg_dump.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "tests.h"

/*
 * drivers/iommu/virtio-iommu.c spins for ever with interrupts off, or crashes,
 * in some cases. With that driver they run only on demand, in a guest that is
 * good for nothing else.
 */
static bool fake_unsafe = !IS_ENABLED(CONFIG_VIRTIO_IOMMU);
module_param_named(unsafe, fake_unsafe, bool, 0644);
MODULE_PARM_DESC(unsafe, "Run the cases that hang or crash the C driver");

static unsigned int unsafe_nth;
module_param(unsafe_nth, uint, 0644);
MODULE_PARM_DESC(unsafe_nth, "Run one of them, counted from 1");

/* A driver may wait for seconds until it gives a device up. */
static bool fake_slow;
module_param_named(slow, fake_slow, bool, 0644);
MODULE_PARM_DESC(slow, "Let each kind of request wait for an answer in vain, not only one");

/* What the driver was loaded with, which does not show in sysfs */
static bool keep_boot_bypass;
module_param(keep_boot_bypass, bool, 0644);
MODULE_PARM_DESC(keep_boot_bypass, "The driver has this parameter: it is not to clear the bypass field");

bool test_keeps_bypass(void)
{
	return keep_boot_bypass;
}

int fake_test_init(struct kunit *test)
{
	struct fake_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	if (!t)
		return -ENOMEM;
	t->scratch = kunit_kcalloc(test, TEST_SLOTS, sizeof(*t->scratch),
				   GFP_KERNEL);
	if (!t->scratch)
		return -ENOMEM;
	t->test = test;
	test->priv = t;
	test_log_mark(t);
	return 0;
}

/* Takes everything down. To be followed by test_create(), or by nothing. */
void test_stop(struct fake_test *t)
{
	unsigned int i;

	if (!t->fake)
		return;
	test_clear_rules(t);
	t->fake->config_hook = NULL;
	for (i = 0; i < TEST_MAX_ENDPOINTS; i++) {
		struct test_endpoint *endpoint = &t->endpoints[i];

		if (fake_endpoint_translated(&endpoint->fake)) {
			if (endpoint->domain)
				test_detach(t, i);
			if (endpoint->claimed)
				iommu_device_release_dma_owner(test_dev(t, i));
		}
		test_unplug(t, i);
	}
	for (i = 0; i < TEST_MAX_DOMAINS; i++) {
		if (t->domains[i])
			test_free(t, t->domains[i]);
	}
	if (!t->violations_expected)
		test_expect_no_violation(t);
	fake_unregister(t->fake);
	if (t->refuses_nothing) {
		KUNIT_EXPECT_EQ_MSG(t->test, t->fake->stats.refusals, 0,
				    "the device refused a request of type %u with %u",
				    t->fake->stats.refused_type,
				    t->fake->stats.refused_status);
		KUNIT_EXPECT_EQ_MSG(t->test, t->fake->stats.loose_unmaps, 0,
				    "an UNMAP of what is not mapped as a whole");
	}
	if (!t->violations_expected)
		test_expect_no_violation(t);
	if (!fake_destroy(t->fake))
		KUNIT_FAIL(t->test, "the virtio device is leaked");
	t->fake = NULL;
	memset(t->endpoints, 0, sizeof(t->endpoints));
}

/* An endpoint whose IOMMU has gone is an ordinary device again. */
void test_forget_endpoints(struct fake_test *t)
{
	unsigned int i;

	for (i = 0; i < TEST_MAX_ENDPOINTS; i++) {
		struct test_endpoint *endpoint = &t->endpoints[i];

		if (endpoint->fake.pdev)
			KUNIT_EXPECT_FALSE(t->test,
					   fake_endpoint_translated(&endpoint->fake));
		endpoint->domain = NULL;
		endpoint->claimed = false;
	}
}

/*
 * Before there is a driver, somebody has attached an endpoint to a domain, and mapped
 * there what any test maps. The device keeps that: see FAKE_RESET_KEEPS.
 */
void test_preload(struct fake_test *t, u32 domain, bool bypass, u32 endpoint)
{
	struct model *model = &t->fake->model;
	u64 size = TEST_SLOTS * t->granule;
	u8 status = VIRTIO_IOMMU_S_OK;

	model_add_endpoint(model, endpoint);
	KUNIT_ASSERT_EQ(t->test, model_attach(model, domain, endpoint, bypass),
			VIRTIO_IOMMU_S_OK);
	if (!bypass)
		status = model_map(model, domain, TEST_BASE,
				   TEST_BASE + size - 1, TEST_PHYS,
				   VIRTIO_IOMMU_MAP_F_READ);
	KUNIT_ASSERT_EQ(t->test, status, VIRTIO_IOMMU_S_OK);
}

void fake_test_exit(struct kunit *test)
{
	if (test->priv)
		test_stop(test->priv);
}

/* Makes a device that is not visible yet. */
void test_create(struct fake_test *t, const struct fake_config *config)
{
	t->config = *config;
	t->granule = config->page_size_mask & -config->page_size_mask;
	t->fake = fake_create(config);
	if (IS_ERR(t->fake)) {
		long error = PTR_ERR(t->fake);

		t->fake = NULL;
		KUNIT_FAIL_AND_ABORT(t->test, "no fake device: %ld", error);
	}
	test_log_mark(t);
}

/* Shows the device to its driver. Returns whether a driver is bound then. */
bool test_register(struct fake_test *t)
{
	KUNIT_ASSERT_EQ(t->test, fake_register(t->fake), 0);
	if (!t->fake->saw_driver)
		kunit_skip(t->test, "there is no driver for virtio-iommu");
	t->bypass = t->fake->model.bypass;
	return fake_bound(t->fake);
}

/* Chooses the ids of an endpoint that is not plugged in yet. */
void test_set_ids(struct fake_test *t, unsigned int index, unsigned int nr_ids,
		  const u32 *ids)
{
	struct fake_endpoint *endpoint = &t->endpoints[index].fake;

	endpoint->nr_ids = nr_ids;
	memcpy(endpoint->ids, ids, nr_ids * sizeof(*ids));
}

/* The same, with ids that no other endpoint has. */
void test_set_endpoint(struct fake_test *t, unsigned int index,
		       unsigned int nr_ids)
{
	u32 ids[FAKE_MAX_IDS];
	unsigned int i;

	for (i = 0; i < nr_ids; i++)
		ids[i] = 0x100 * index + 8 + i;
	test_set_ids(t, index, nr_ids, ids);
}

/* Plugs an endpoint in. Returns whether the IOMMU core has accepted it. */
bool test_plug(struct fake_test *t, unsigned int index)
{
	struct test_endpoint *endpoint = &t->endpoints[index];

	if (!endpoint->fake.nr_ids)
		test_set_endpoint(t, index, 1);
	KUNIT_ASSERT_EQ(t->test, fake_plug(t->fake, &endpoint->fake), 0);
	endpoint->uses_dma_api = false;
	endpoint->refused = false;
	return fake_endpoint_translated(&endpoint->fake);
}

void test_unplug(struct fake_test *t, unsigned int index)
{
	struct test_endpoint *endpoint = &t->endpoints[index];

	fake_unplug(&endpoint->fake);
	endpoint->domain = NULL;
	endpoint->claimed = false;
}

/* An honest device with a driver and endpoints. */
void test_start(struct fake_test *t, const struct fake_config *config,
		unsigned int nr_endpoints)
{
	unsigned int i;

	test_create(t, config ?: &fake_default_config);
	for (i = 0; i < nr_endpoints; i++)
		test_plug(t, i);
	if (!test_register(t))
		KUNIT_FAIL_AND_ABORT(t->test, "the driver refuses the device");
	for (i = 0; i < nr_endpoints; i++) {
		if (!fake_endpoint_translated(&t->endpoints[i].fake))
			KUNIT_FAIL_AND_ABORT(t->test,
					     "endpoint %u is not accepted", i);
	}
	test_expect_agree(t, "at the start");
}

/* The same, with a paging domain that nothing is attached to. */
struct test_domain *test_start_domain(struct fake_test *t,
				      const struct fake_config *config,
				      unsigned int nr_endpoints)
{
	struct test_domain *domain;

	test_start(t, config, nr_endpoints);
	domain = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(t->test, domain);
	return domain;
}

/* Whether what the C driver does not survive is asked for. */
bool test_is_unsafe(void)
{
	return fake_unsafe;
}

/* Skips what the C driver does not survive, unless it is asked for. */
void test_needs_unsafe(struct fake_test *t, const char *why)
{
	static unsigned int count;

	if (!fake_unsafe && ++count != unsafe_nth)
		kunit_skip(t->test, "%s; unsafe=1 runs it", why);
}

/* Skips what waits in vain, unless it is asked for. */
void test_is_slow(struct fake_test *t)
{
	if (!fake_slow)
		kunit_skip(t->test, "waits in vain; slow=1 runs it");
}

void test_rule(struct fake_test *t, const struct fake_rule *rule)
{
	KUNIT_ASSERT_NOT_NULL(t->test, fake_add_rule(t->fake, rule));
}

/* Ends all rules. One that answered no request has shown nothing. */
void test_clear_rules(struct fake_test *t)
{
	unsigned int i;

	for (i = 0; i < t->fake->nr_rules; i++)
		KUNIT_EXPECT_GT_MSG(t->test, t->fake->rules[i].hits, 0,
				    "rule %u, for requests of type %u, was not needed",
				    i, t->fake->rules[i].type);
	fake_clear_rules(t->fake);
}

void test_log_mark(struct fake_test *t)
{
	struct kmsg_dump_iter iter;

	kmsg_dump_rewind(&iter);
	t->log_seq = iter.next_seq;
}

/* What KUnit says about this test, and what the core says whatever the driver does */
static bool test_log_is_noise(const char *line)
{
	return strstr(line, "    # ") || strstr(line, "probe with driver") ||
	       strstr(line, " iommu group ");
}

/* Whether a kernel message since the mark contains both strings. */
bool test_log_has(struct fake_test *t, const char *one, const char *two)
{
	struct kmsg_dump_iter iter;
	char line[256];
	size_t len;

	kmsg_dump_rewind(&iter);
	iter.cur_seq = t->log_seq;
	while (kmsg_dump_get_line(&iter, false, line, sizeof(line) - 1, &len)) {
		line[len] = '\0';
		if (strstr(line, one) && strstr(line, two) &&
		    !test_log_is_noise(line))
			return true;
	}
	return false;
}

/* Whether one about the device or an endpoint contains a word. */
bool test_log_says(struct fake_test *t, const char *word)
{
	return test_log_has(t, fake_name(t->fake), word) ||
	       test_log_has(t, "fake-endpoint", word);
}
