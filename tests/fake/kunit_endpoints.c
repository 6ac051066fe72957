// SPDX-License-Identifier: GPL-2.0
/*
 * Endpoints that the device does not know, or does not take: they cost the others
 * nothing, and do no DMA.
 */
#include <linux/ioport.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/sizes.h>

#include "tests.h"

#define F(bit)		BIT_ULL(bit)
#define NR_ENDPOINTS	3
/* Endpoint 1 has these ids, and is the one that the cases are about. */
#define FIRST_ID	4711
#define NR_IDS		3

struct unknown_case {
	const char *name;
	unsigned int index;	/* of the id that the device does not know */
	u8 denies;
	u64 without;		/* features */
};

static const struct unknown_case unknown_cases[] = {
	{ "the first", 0, FAKE_DENIES },
	{ "the second", 1, FAKE_DENIES },
	{ "the last", 2, FAKE_DENIES },
	{ "the first, says PROBE", 0, FAKE_DENIES_PROBE },
	{ "the first, says ATTACH", 0, FAKE_DENIES_ATTACH },
	{ "the last, says ATTACH", 2, FAKE_DENIES_ATTACH },
	{ "the first, without PROBE", 0, FAKE_DENIES, F(VIRTIO_IOMMU_F_PROBE) },
};

KUNIT_ARRAY_PARAM_DESC(unknown, unknown_cases, name);

static const char * const when_names[] = { "at boot", "plugged in later" };

static void endpoints_set_ids(struct fake_test *t, unsigned int index)
{
	u32 ids[NR_IDS];
	unsigned int i;

	for (i = 0; i < NR_IDS; i++)
		ids[i] = FIRST_ID + i;
	test_set_ids(t, index, NR_IDS, ids);
}

/* Endpoints and the driver meet, in either order. Nothing warns. */
static void endpoints_meet(struct fake_test *t, bool later)
{
	unsigned int i;
	int warnings;

	test_log_mark(t);
	kunit_warning_suppress(t->test) {
		if (later)
			KUNIT_ASSERT_TRUE(t->test, test_register(t));
		for (i = 0; i < NR_ENDPOINTS; i++)
			test_plug(t, i);
		if (!later)
			KUNIT_ASSERT_TRUE_MSG(t->test, test_register(t),
					      "the driver refuses the device");
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	KUNIT_EXPECT_EQ_MSG(t->test, warnings, 0, "%s", when_names[later]);
}

/* Each endpoint but one can be used. */
static void endpoints_work(struct fake_test *t, unsigned int but)
{
	struct test_domain *domain;
	unsigned int i;

	for (i = 0; i < NR_ENDPOINTS; i++) {
		if (i == but)
			continue;
		if (!fake_endpoint_translated(&t->endpoints[i].fake)) {
			KUNIT_FAIL(t->test, "endpoint %u is not accepted", i);
			continue;
		}
		domain = test_alloc(t, i);
		KUNIT_ASSERT_NOT_NULL(t->test, domain);
		test_map_each(t, domain, 3, 2, 1);
		KUNIT_EXPECT_EQ(t->test, test_attach(t, i, domain), 0);
		test_expect_agree(t, "after attaching");
		if (t->endpoints[i].domain)
			test_detach(t, i);
		test_free(t, domain);
	}
	test_expect_agree(t, "after detaching");
}

/* An id that the device does not know is left out, and the endpoint works without. */
static void fake_endpoints_unknown_id(struct kunit *test)
{
	const struct unknown_case *param = test->param_value;
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	unsigned int later;
	char id[16];

	test_needs_unsafe(t, "unregisters an IOMMU twice");
	scnprintf(id, sizeof(id), "%u", FIRST_ID + param->index);
	config.features &= ~param->without;
	for (later = 0; later < 2; later++) {
		test_create(t, &config);
		endpoints_set_ids(t, 1);
		t->endpoints[1].fake.denies[param->index] = param->denies;
		endpoints_meet(t, later);
		KUNIT_EXPECT_TRUE_MSG(test,
				      test_log_has(t, dev_name(test_dev(t, 1)),
						   id),
				      "%s: nothing is said of id %s",
				      when_names[later], id);
		test_expect_agree(t, when_names[later]);
		endpoints_work(t, NR_ENDPOINTS);
		test_stop(t);
	}
}

/* An endpoint of which the device knows no id has no group, and that is said. */
static void fake_endpoints_unknown(struct kunit *test)
{
	struct fake_test *t = test->priv;
	unsigned int later;

	test_needs_unsafe(t, "unregisters an IOMMU twice");
	for (later = 0; later < 2; later++) {
		test_create(t, &fake_default_config);
		endpoints_set_ids(t, 1);
		memset(t->endpoints[1].fake.denies, FAKE_DENIES, NR_IDS);
		endpoints_meet(t, later);
		KUNIT_EXPECT_FALSE(test,
				   fake_endpoint_translated(&t->endpoints[1].fake));
		KUNIT_EXPECT_TRUE_MSG(test,
				      test_log_has(t, dev_name(test_dev(t, 1)),
						   ""),
				      "%s: nothing is reported",
				      when_names[later]);
		endpoints_work(t, 1);
		test_stop(t);
	}
}

struct refused_case {
	const char *name;
	u8 type;
	unsigned int endpoint;
};

static const struct refused_case refused_cases[] = {
	{ "PROBE, the first", VIRTIO_IOMMU_T_PROBE, 0 },
	{ "PROBE, the second", VIRTIO_IOMMU_T_PROBE, 1 },
	{ "PROBE, the last", VIRTIO_IOMMU_T_PROBE, 2 },
	{ "ATTACH, the first", VIRTIO_IOMMU_T_ATTACH, 0 },
	{ "ATTACH, the second", VIRTIO_IOMMU_T_ATTACH, 1 },
	{ "ATTACH, the last", VIRTIO_IOMMU_T_ATTACH, 2 },
	{ "MAP, the first", VIRTIO_IOMMU_T_MAP, 0 },
	{ "MAP, the second", VIRTIO_IOMMU_T_MAP, 1 },
	{ "MAP, the last", VIRTIO_IOMMU_T_MAP, 2 },
};

KUNIT_ARRAY_PARAM_DESC(refused, refused_cases, name);

static const u8 statuses[] = {
	VIRTIO_IOMMU_S_IOERR, VIRTIO_IOMMU_S_UNSUPP, VIRTIO_IOMMU_S_DEVERR,
	VIRTIO_IOMMU_S_INVAL, VIRTIO_IOMMU_S_RANGE, VIRTIO_IOMMU_S_NOENT,
	VIRTIO_IOMMU_S_FAULT, VIRTIO_IOMMU_S_NOMEM, 9,
};

/* Whether endpoints get an identity domain by themselves. */
static bool endpoints_are_identity(struct fake_test *t)
{
	bool identity;

	test_start(t, NULL, 1);
	identity = iommu_get_domain_for_dev(test_dev(t, 0))->type ==
		   IOMMU_DOMAIN_IDENTITY;
	test_stop(t);
	return identity;
}

/* Where the device has an endpoint, by its first id */
static struct model_domain *endpoints_domain(struct fake_test *t,
					     unsigned int index)
{
	return model_endpoint(&t->fake->model,
			      t->endpoints[index].fake.ids[0])->domain;
}

/* Whether the DMA of an endpoint reaches all memory. */
static bool endpoints_open(struct fake_test *t, unsigned int index)
{
	struct model_domain *domain = endpoints_domain(t, index);

	return domain ? domain->bypass : fake_bypasses(t->fake);
}

static void endpoints_refuse(struct fake_test *t,
			     const struct fake_config *config, u8 status,
			     bool later)
{
	const struct refused_case *param = t->test->param_value;
	struct test_endpoint *refused = &t->endpoints[param->endpoint];

	test_create(t, config);
	test_set_endpoint(t, param->endpoint, 1);
	test_rule(t, &(struct fake_rule) {
		FAKE_RULE(param->type), .endpoint = refused->fake.ids[0],
		.times = 0, .no_effect = true, .status = status });
	endpoints_meet(t, later);
	refused->refused = true;
	KUNIT_EXPECT_TRUE_MSG(t->test,
			      test_log_has(t, dev_name(test_dev(t, param->endpoint)),
					   ""),
			      "status %u, %s: nothing is reported", status,
			      when_names[later]);
	/* A driver may leave the bypass open for it, but says so. */
	if (endpoints_open(t, param->endpoint))
		KUNIT_EXPECT_TRUE_MSG(t->test,
				      test_log_says(t, "global bypass"),
				      "status %u, %s: is open in silence",
				      status, when_names[later]);
	endpoints_work(t, param->endpoint);

	/* The device mends its ways. */
	test_clear_rules(t);
	test_unplug(t, param->endpoint);
	t->bypass = t->fake->model.bypass;
	KUNIT_EXPECT_TRUE(t->test, test_plug(t, param->endpoint));
	endpoints_work(t, NR_ENDPOINTS);
	test_stop(t);
}

/* One endpoint is refused, with any status. The others have their IOMMU all the same. */
static void fake_endpoints_refused(struct kunit *test)
{
	const struct refused_case *param = test->param_value;
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	unsigned int i;

	test_needs_unsafe(t, "unregisters an IOMMU twice");
	if (param->type == VIRTIO_IOMMU_T_MAP) {
		if (!endpoints_are_identity(t))
			kunit_skip(test, "needs iommu.passthrough=1");
		config.features &= ~F(VIRTIO_IOMMU_F_BYPASS_CONFIG);
	}
	for (i = 0; i < 2 * ARRAY_SIZE(statuses); i++)
		endpoints_refuse(t, &config, statuses[i / 2], i % 2);
}

/* The device does not say what endpoints are, from the second on, that are there at boot. */
static void endpoints_start_refused(struct fake_test *t, unsigned int nr)
{
	unsigned int i;

	test_needs_unsafe(t, "unregisters an IOMMU twice");
	test_create(t, &fake_default_config);
	for (i = 1; i <= nr; i++) {
		test_set_endpoint(t, i, 1);
		test_rule(t, &(struct fake_rule) {
			FAKE_RULE(VIRTIO_IOMMU_T_PROBE), .times = 0,
			.endpoint = t->endpoints[i].fake.ids[0],
			.status = VIRTIO_IOMMU_S_DEVERR });
	}
	endpoints_meet(t, false);
	KUNIT_EXPECT_EQ(t->test, t->fake->model.bypass, 1);
	test_expect_agree(t, "with the bypass open");
}

static void endpoints_closed(struct fake_test *t)
{
	KUNIT_EXPECT_EQ(t->test, t->fake->model.bypass, 0);
	t->bypass = 0;
	endpoints_work(t, NR_ENDPOINTS);
}

/* The bypass that stays open for endpoints that are refused is closed after the last. */
static void fake_endpoints_refused_gone(struct kunit *test)
{
	struct fake_test *t = test->priv;

	endpoints_start_refused(t, 2);
	test_clear_rules(t);
	test_unplug(t, 1);
	KUNIT_EXPECT_EQ(test, t->fake->model.bypass, 1);
	test_unplug(t, 2);
	test_plug(t, 1);
	test_plug(t, 2);
	endpoints_closed(t);
}

static int endpoints_driver_probe(struct platform_device *pdev)
{
	return 0;
}

/* The same, if it is taken over when its driver lets it go. */
static void fake_endpoints_refused_taken(struct kunit *test)
{
	struct platform_driver driver = {
		.probe = endpoints_driver_probe,
		.driver.name = "fake-endpoint",
	};
	struct fake_test *t = test->priv;

	endpoints_start_refused(t, 1);
	test_clear_rules(t);
	KUNIT_ASSERT_EQ(test, fake_name_iommu(t->fake, &t->endpoints[1].fake), 0);
	KUNIT_ASSERT_EQ(test, platform_driver_register(&driver), 0);
	KUNIT_EXPECT_EQ(test, t->fake->model.bypass, 1);
	platform_driver_unregister(&driver);
	KUNIT_EXPECT_TRUE(test, fake_endpoint_translated(&t->endpoints[1].fake));
	endpoints_closed(t);
}

/*
 * The IOMMU goes, while an endpoint has a driver that may go on, and the bypass is open for
 * another one: it is closed before anything is detached.
 */
static void fake_endpoints_deserted(struct kunit *test)
{
	struct platform_driver driver = {
		.probe = endpoints_driver_probe,
		.driver.name = "fake-endpoint",
	};
	struct fake_test *t = test->priv;

	endpoints_start_refused(t, 1);
	KUNIT_ASSERT_EQ(test, platform_driver_register(&driver), 0);
	KUNIT_EXPECT_EQ(test, t->fake->model.bypass, 1);
	test_log_mark(t);
	/* The core warns of a group whose DMA a driver has claimed. */
	kunit_warning_suppress(test) {
		ending_run(t, END_REMOVAL);
	}
	KUNIT_EXPECT_TRUE_MSG(test,
			      test_log_has(t, dev_name(test_dev(t, 0)),
					   "loses its IOMMU"),
			      "nothing is said of the endpoint");
	KUNIT_EXPECT_EQ(test, t->fake->stats.closed.times, 1);
	KUNIT_EXPECT_GE_MSG(test, t->fake->stats.closed.attached, 1,
			    "it is closed when all is detached");
	KUNIT_EXPECT_EQ(test, t->fake->stats.reset.bypass, 0);
	platform_driver_unregister(&driver);
	kunit_warning_suppress(test) {
		test_stop(t);
	}
}

static bool endpoints_map(struct fake_test *t, u64 address)
{
	struct model_domain *domain = endpoints_domain(t, 0);
	struct model_mapping *mapping;

	if (!domain)
		return false;
	list_for_each_entry(mapping, &domain->mappings, node) {
		if (mapping->first <= address && mapping->last >= address)
			return true;
	}
	return false;
}

/* A device that maps RAM alone: an identity domain is made of that, and is all of it. */
static void fake_endpoints_ram(struct kunit *test)
{
	struct fake_test *t = test->priv;
	unsigned int missing = 0;
	u64 address, end;

	test_needs_unsafe(t, "unregisters an IOMMU twice");
	test_start(t, fake_personality("crosvm"), 2);
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[0].fake, "identity"),
			0);
	test_expect_agree(t, "with an identity domain");
	KUNIT_ASSERT_GT(test, t->fake->nr_ram, 0);
	end = t->fake->ram[t->fake->nr_ram - 1].last;
	for (address = 0; address < end; address += SZ_64K) {
		if (page_is_ram(PHYS_PFN(address)) &&
		    pfn_to_online_page(PHYS_PFN(address)) &&
		    !endpoints_map(t, address))
			missing++;
	}
	KUNIT_EXPECT_EQ_MSG(test, missing, 0, "of %llu pages up to %#llx",
			    end / SZ_64K, end);
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[0].fake, "DMA"), 0);
	test_expect_agree(t, "with a translated one");
}

/* Pages of the device are larger than the kernel's: it can bypass, but not translate. */
static void fake_endpoints_granule(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;

	config.page_size_mask = SZ_64K;
	if (PAGE_SIZE >= SZ_64K)
		kunit_skip(test, "needs smaller pages");
	if (!endpoints_are_identity(t)) {
		test_create(t, &config);
		KUNIT_ASSERT_TRUE(test, test_register(t));
		KUNIT_EXPECT_FALSE(test, test_plug(t, 0));
		KUNIT_EXPECT_TRUE_MSG(test, test_log_says(t, "granule"),
				      "refused without a word");
		return;
	}
	test_start(t, &config, 1);
	KUNIT_ASSERT_NOT_NULL(test, endpoints_domain(t, 0));
	KUNIT_EXPECT_TRUE(test, endpoints_domain(t, 0)->bypass);
	test_log_mark(t);
	KUNIT_EXPECT_NULL(test, test_alloc(t, 0));
	KUNIT_EXPECT_TRUE_MSG(test, test_log_says(t, "granule"),
			      "refused without a word");
	test_expect_agree(t, "after a refused domain");
}

/*
 * A device that lets nothing go: what it refuses is told, an endpoint that was unplugged
 * may come back, and an id is not attached to where it is.
 */
static void fake_endpoints_held(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain;
	int warnings;

	test_needs_unsafe(t, "warns");
	t->stays_attached = true;
	test_start(t, fake_personality("crosvm-vfio"), 2);
	domain = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(test, domain);
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_LT(test, test_attach(t, 0, domain), 0);
		test_expect_agree(t, "after a refused ATTACH");
		test_free(t, domain);
		test_log_mark(t);
		test_unplug(t, 0);
		KUNIT_EXPECT_TRUE_MSG(test, test_log_says(t, "detach") ||
				      test_log_says(t, "DETACH"),
				      "nothing is reported");
		/* It is still in a domain that no other may get. */
		test_plug(t, 0);
		t->endpoints[0].refused = true;
		KUNIT_EXPECT_TRUE(test, test_plug(t, 2));
		KUNIT_EXPECT_PTR_NE(test, endpoints_domain(t, 0),
				    endpoints_domain(t, 2));
		test_expect_agree(t, "after plugging in again");
		warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
	KUNIT_EXPECT_EQ(test, warnings, 0);
	KUNIT_EXPECT_EQ(test, t->fake->stats.reattached, 0);
}

struct segment_case {
	const char *name;
	u32 id;
};

/* Of the same requester id in another PCI segment, as VIOT and devicetree number them */
static const struct segment_case segment_cases[] = {
	{ "segment 1", 0x10000 | 8 },
	{ "segment 0xfffe", 0xfffe0000 | 8 },
	{ "the last id", U32_MAX },
};

KUNIT_ARRAY_PARAM_DESC(segment, segment_cases, name);

/* Counts the requests that are for an endpoint. */
static void endpoints_count(struct fake_viommu *fake,
			    struct fake_request *request, void *arg)
{
	(*(unsigned int *)arg)++;
}

/* An id of more than 16 bits is that of one endpoint, from its PROBE to its DETACH. */
static void fake_endpoints_segment(struct kunit *test)
{
	static const u8 types[] = {
		VIRTIO_IOMMU_T_PROBE, VIRTIO_IOMMU_T_ATTACH,
		VIRTIO_IOMMU_T_DETACH,
	};
	const struct segment_case *param = test->param_value;
	struct virtio_iommu_fault fault = {
		.reason = VIRTIO_IOMMU_FAULT_R_MAPPING,
		.flags = cpu_to_le32(VIRTIO_IOMMU_FAULT_F_ADDRESS),
		.endpoint = cpu_to_le32(param->id),
		.address = cpu_to_le64(0xabcd5000),
	};
	unsigned int counts[ARRAY_SIZE(types)] = {};
	struct fake_test *t = test->priv;
	char name[32];
	unsigned int i;

	test_needs_unsafe(t, "does not name the device in a fault");
	test_create(t, &fake_default_config);
	/* The others have it, too, as far as 16 bits go. */
	test_set_ids(t, 0, 1, (u32[]) { param->id & 0xffff });
	test_set_ids(t, 1, 1, &param->id);
	test_set_ids(t, 2, 1, (u32[]) { (param->id & 0xffff) | 0x20000 });
	for (i = 0; i < ARRAY_SIZE(types); i++)
		test_rule(t, &(struct fake_rule) {
			FAKE_RULE(types[i]), .times = 0, .endpoint = param->id,
			.hook = endpoints_count, .arg = &counts[i] });
	endpoints_meet(t, false);
	endpoints_work(t, NR_ENDPOINTS);
	KUNIT_EXPECT_EQ(test, counts[0], 1);
	KUNIT_EXPECT_GT(test, counts[1], 1);

	strscpy(name, dev_name(test_dev(t, 1)), sizeof(name));
	test_log_mark(t);
	KUNIT_EXPECT_EQ(test, fake_event(t->fake, &fault, sizeof(fault),
					 sizeof(fault)), 0);
	KUNIT_EXPECT_TRUE_MSG(test, test_log_has(t, name, "abcd5000"),
			      "a fault does not name the device");
	test_unplug(t, 1);
	KUNIT_EXPECT_EQ(test, counts[2], 1);
	test_expect_agree(t, "without it");
	test_log_mark(t);
	KUNIT_EXPECT_EQ(test, fake_event(t->fake, &fault, sizeof(fault),
					 sizeof(fault)), 0);
	KUNIT_EXPECT_FALSE(test, test_log_has(t, name, "abcd5000"));
	scnprintf(name, sizeof(name), "%u", param->id);
	KUNIT_EXPECT_TRUE_MSG(test, test_log_has(t, name, "abcd5000"),
			      "a fault does not name the id");

	test_plug(t, 1);
	endpoints_work(t, NR_ENDPOINTS);
}

static struct kunit_case fake_endpoints_cases[] = {
	KUNIT_CASE_PARAM(fake_endpoints_unknown_id, unknown_gen_params),
	KUNIT_CASE(fake_endpoints_unknown),
	KUNIT_CASE_PARAM(fake_endpoints_refused, refused_gen_params),
	KUNIT_CASE(fake_endpoints_refused_gone),
	KUNIT_CASE(fake_endpoints_refused_taken),
	KUNIT_CASE(fake_endpoints_deserted),
	KUNIT_CASE(fake_endpoints_ram),
	KUNIT_CASE(fake_endpoints_granule),
	KUNIT_CASE(fake_endpoints_held),
	KUNIT_CASE_PARAM(fake_endpoints_segment, segment_gen_params),
	{}
};

static struct kunit_suite fake_endpoints_suite = {
	.name = "viommu_fake_endpoints",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_endpoints_cases,
};

kunit_test_suite(fake_endpoints_suite);
