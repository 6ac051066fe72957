// SPDX-License-Identifier: GPL-2.0
/*
 * What a device says about an endpoint: properties that are malformed, and
 * reserved regions in any order.
 */
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "tests.h"

#define PROBE_SIZE	512

#define MEM		VIRTIO_IOMMU_PROBE_T_RESV_MEM
#define OTHER		0xabc

/* A property, cut off at the end of the buffer. */
struct probe_item {
	unsigned int at;
	u16 type;
	u16 length;
	u8 subtype;
	u64 start;
	u64 end;
};

enum probe_verdict {
	PROPER,
	MALFORMED,	/* must be reported */
	IGNORED,	/* the endpoint is accepted, and the region does not count */
	USELESS,	/* proper, but the endpoint need not be accepted */
};

struct probe_case {
	const char *name;
	enum probe_verdict verdict;
	struct probe_item items[2];
	unsigned int repeat;	/* the first item, this many bytes apart */
	u8 fill;		/* everything that is not said */
	const char *says;	/* of what is proper, but odd */
};

static const struct probe_case probe_cases[] = {
	{ "nothing", PROPER },
	{ "length 0", MALFORMED, { { 0, MEM, 0, 0, SZ_1M, SZ_2M - 1 } } },
	{ "length too short", MALFORMED,
	  { { 0, MEM, 19, 0, SZ_1M, SZ_2M - 1 } } },
	{ "length longer than known", PROPER,
	  { { 0, MEM, 24, 0, SZ_1M, SZ_2M - 1 },
	    { 28, MEM, 20, 0, SZ_4M, SZ_8M - 1 } } },
	{ "length 65535", MALFORMED,
	  { { 0, MEM, 65535, 0, SZ_1M, SZ_2M - 1 } } },
	{ "one byte more than fits", MALFORMED,
	  { { 0, MEM, PROBE_SIZE - 3, 0, SZ_1M, SZ_2M - 1 } } },
	{ "reversed region", MALFORMED, { { 0, MEM, 20, 0, SZ_2M, SZ_1M } } },
	{ "region whose length wraps to 0", MALFORMED,
	  { { 0, MEM, 20, 0, SZ_4K, SZ_4K - 1 } } },
	{ "everything is reserved", USELESS,
	  { { 0, MEM, 20, 0, 0, U64_MAX } } },
	{ "everything but a byte", USELESS, { { 0, MEM, 20, 0, 1, U64_MAX } } },
	{ "a byte is reserved", PROPER, { { 0, MEM, 20, 0, 5, 5 } } },
	{ "the last byte is for MSIs", PROPER,
	  { { 0, MEM, 20, 1, U64_MAX, U64_MAX } } },
	{ "a huge region for MSIs", PROPER,
	  { { 0, MEM, 20, 1, SZ_4G, SZ_4G + SZ_1G - 1 } }, .says = "MSI" },
	{ "two large regions for MSIs", PROPER,
	  { { 0, MEM, 20, 1, SZ_4G, SZ_4G + SZ_16M - 1 },
	    { 24, MEM, 20, 1, SZ_8G, SZ_8G + SZ_4K - 1 } }, .says = "MSI" },
	{ "unknown subtype", PROPER,
	  { { 0, MEM, 20, 200, SZ_1M, SZ_2M - 1 } }, .says = "unknown" },
	{ "unknown property first", PROPER,
	  { { 0, OTHER, 12 },
	    { 16, MEM, 20, 0, SZ_1M, SZ_2M - 1 } }, .says = "unknown" },
	{ "unknown property, length 0", PROPER,
	  { { 0, OTHER, 0 }, { 4, MEM, 20, 0, SZ_1M, SZ_2M - 1 } } },
	{ "unknown property, length 65535", MALFORMED,
	  { { 0, OTHER, 65535 } } },
	/* "MUST ignore a property whose reserved field is not zero" */
	{ "reserved bits in the type", IGNORED,
	  { { 0, 0xf000 | MEM, 20, 0, SZ_1M, SZ_2M - 1 } } },
	{ "nothing but heads", PROPER, { { 0, OTHER, 0 } }, .repeat = 4 },
	/* 512 = 21 * 24 + 8 */
	{ "no end", PROPER,
	  { { 0, MEM, 20, 0, SZ_1M, SZ_2M - 1 }, { 21 * 24, OTHER, 4 } },
	  .repeat = 24 },
	{ "a head is cut", MALFORMED,
	  { { 0, OTHER, PROBE_SIZE - 6 }, { PROBE_SIZE - 2, OTHER, 0 } } },
	{ "a region is cut", MALFORMED,
	  { { 0, OTHER, PROBE_SIZE - 20 },
	    { PROBE_SIZE - 16, MEM, 20, 0, SZ_1M, SZ_2M - 1 } } },
	{ "a region is cut after its head", MALFORMED,
	  { { 0, OTHER, PROBE_SIZE - 8 },
	    { PROBE_SIZE - 4, MEM, 20, 0, SZ_1M, SZ_2M - 1 } } },
	{ "a good one, then a bad one", MALFORMED,
	  { { 0, MEM, 20, 0, SZ_1M, SZ_2M - 1 },
	    { 24, MEM, 20, 0, SZ_8M, SZ_4M } } },
	{ "a bad one, then a good one", MALFORMED,
	  { { 0, MEM, 20, 0, SZ_8M, SZ_4M },
	    { 24, MEM, 20, 0, SZ_1M, SZ_2M - 1 } } },
	{ "overlapping regions", PROPER,
	  { { 0, MEM, 20, 0, SZ_1M, SZ_8M - 1 },
	    { 24, MEM, 20, 1, SZ_2M, SZ_4M - 1 } } },
	{ "all ones", MALFORMED, .fill = 0xff },
};

static void probe_put(u8 *properties, unsigned int at,
		      const struct probe_item *item)
{
	struct virtio_iommu_probe_resv_mem mem = {
		.head.type = cpu_to_le16(item->type),
		.head.length = cpu_to_le16(item->length),
		.subtype = item->subtype,
		.start = cpu_to_le64(item->start),
		.end = cpu_to_le64(item->end),
	};

	if (item->type)
		memcpy(properties + at, &mem,
		       min(sizeof(mem), (size_t)PROBE_SIZE - at));
}

static void probe_write(u8 *properties, const struct probe_case *param)
{
	const struct probe_item *item = param->items;
	unsigned int at;

	memset(properties, param->fill, PROBE_SIZE);
	probe_put(properties, item->at, item);
	for (at = param->repeat; param->repeat && at < PROBE_SIZE;
	     at += param->repeat)
		probe_put(properties, at, item);
	item++;
	if (item->type)
		memset(properties + item->at, 0, PROBE_SIZE - item->at);
	probe_put(properties, item->at, item);
}

KUNIT_ARRAY_PARAM_DESC(probe, probe_cases, name);

/* Whether the core is told that an address is reserved. */
static bool probe_has(struct list_head *regions, u64 address)
{
	struct iommu_resv_region *region;

	list_for_each_entry(region, regions, list) {
		if (address - region->start < region->length)
			return true;
	}
	return false;
}

/* A region that makes no sense, or of which there is a part only. */
static bool probe_is_bad(const struct probe_item *item)
{
	return item->type == MEM &&
	       (item->length < 20 || item->start > item->end ||
		item->at + sizeof(struct virtio_iommu_probe_property) +
		item->length > PROBE_SIZE);
}

/* What the core is told is what the device says, in numbers that it can use. */
static void probe_check_regions(struct fake_test *t, unsigned int endpoint,
				const struct probe_case *param)
{
	struct iommu_resv_region *region;
	size_t msi = 0;
	unsigned int i;
	LIST_HEAD(list);

	iommu_get_resv_regions(test_dev(t, endpoint), &list);
	list_for_each_entry(region, &list, list) {
		u64 end;

		/* The whole address space has no length. */
		KUNIT_EXPECT_FALSE_MSG(t->test,
				       check_add_overflow(region->start,
							  region->length - 1,
							  &end),
				       "region at %#llx of %#zx bytes",
				       region->start, region->length);
		KUNIT_EXPECT_TRUE(t->test, region->length ||
				  region->start == 0);
		if (region->type == IOMMU_RESV_MSI)
			msi += region->length;
	}
	/* The core allocates memory for each granule of these. */
	KUNIT_EXPECT_LE(t->test, msi, (size_t)SZ_16M);
	for (i = 0; i < ARRAY_SIZE(param->items); i++) {
		const struct probe_item *item = &param->items[i];
		bool reserved = probe_has(&list, item->start);

		if (param->verdict == PROPER && item->type == MEM)
			KUNIT_EXPECT_TRUE_MSG(t->test, reserved,
					      "%#llx is not reserved",
					      item->start);
		if ((param->verdict == IGNORED && item->type) ||
		    probe_is_bad(item))
			KUNIT_EXPECT_FALSE_MSG(t->test, reserved,
					       "%#llx is reserved",
					       item->start);
	}
	iommu_put_resv_regions(test_dev(t, endpoint), &list);
}

/* Malformed properties are reported, and never believed. */
static void fake_probe_malformed(struct kunit *test)
{
	const struct probe_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct model_endpoint *model;
	u8 *properties;
	bool accepted;

	properties = kunit_kzalloc(test, PROBE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, properties);
	probe_write(properties, param);
	test_start(t, NULL, 1);
	test_set_endpoint(t, 1, 1);
	model = model_add_endpoint(&t->fake->model,
				   t->endpoints[1].fake.ids[0]);
	KUNIT_ASSERT_NOT_NULL(test, model);
	model->properties = properties;
	model->properties_len = PROBE_SIZE;

	test_log_mark(t);
	accepted = test_plug(t, 1);
	if (accepted)
		probe_check_regions(t, 1, param);
	if (param->verdict == MALFORMED)
		KUNIT_EXPECT_TRUE_MSG(test,
				      test_log_has(t, "fake-endpoint",
						   "malformed") ||
				      test_log_has(t, "fake-endpoint",
						   "failed to parse"),
				      "nothing is reported");
	else if (param->verdict != USELESS)
		KUNIT_EXPECT_TRUE(test, accepted);
	if (param->says)
		KUNIT_EXPECT_TRUE_MSG(test,
				      test_log_has(t, "fake-endpoint",
						   param->says),
				      "nothing is said of \"%s\"",
				      param->says);
	test_expect_agree(t, "afterwards");

	/* The same endpoint again, behind a device that mended its ways. */
	test_unplug(t, 1);
	model->properties = NULL;
	KUNIT_EXPECT_TRUE(test, test_plug(t, 1));
	test_expect_agree(t, "after the second try");
}

/* A large region for MSIs, in granules: the core would keep a record of each. */
static void fake_probe_small_granule(struct kunit *test)
{
	static const struct fake_region region = {
		SZ_4G, SZ_4G + SZ_1M - 1, VIRTIO_IOMMU_RESV_MEM_T_MSI,
	};
	struct fake_config config = fake_default_config;
	struct iommu_resv_region *found;
	struct fake_test *t = test->priv;
	struct model_endpoint *model;
	LIST_HEAD(list);

	config.page_size_mask = ~0xfULL;
	test_start(t, &config, 1);
	test_set_endpoint(t, 1, 1);
	model = model_add_endpoint(&t->fake->model,
				   t->endpoints[1].fake.ids[0]);
	KUNIT_ASSERT_NOT_NULL(test, model);
	model->regions[0] = region;
	model->nr_regions = 1;
	test_log_mark(t);
	KUNIT_ASSERT_TRUE(test, test_plug(t, 1));
	KUNIT_EXPECT_TRUE_MSG(test, test_log_has(t, "fake-endpoint", "MSI"),
			      "nothing is said of the region");
	iommu_get_resv_regions(test_dev(t, 1), &list);
	KUNIT_EXPECT_TRUE(test, probe_has(&list, region.first));
	list_for_each_entry(found, &list, list) {
		if (found->type == IOMMU_RESV_MSI)
			KUNIT_EXPECT_LE(test, found->length / t->granule, 4096);
	}
	iommu_put_resv_regions(test_dev(t, 1), &list);
}

/* The firmware names an endpoint without an id: it is not accepted, and that is said. */
static void fake_probe_no_id(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct fake_endpoint *endpoint = &t->endpoints[1].fake;

	test_start(t, NULL, 1);
	test_log_mark(t);
	KUNIT_ASSERT_EQ(test, fake_plug(t->fake, endpoint), 0);
	KUNIT_EXPECT_FALSE(test, fake_endpoint_translated(endpoint));
	KUNIT_EXPECT_TRUE_MSG(test, test_log_has(t, "fake-endpoint", "id"),
			      "nothing is reported");
	test_unplug(t, 1);
	KUNIT_EXPECT_TRUE(test, test_plug(t, 1));
	test_expect_agree(t, "when it has one");
}

struct regions_case {
	const char *name;
	struct fake_region regions[FAKE_MAX_REGIONS];
	unsigned int nr;
};

static const struct regions_case regions_cases[] = {
	{ "none", {}, 0 },
	{ "one", { { SZ_1M, SZ_2M - 1 } }, 1 },
	{ "MSI", { { 0xfee00000, 0xfeefffff, 1 } }, 1 },
	{ "at both ends", { { 0, SZ_1M - 1 }, { BIT_ULL(47), U64_MAX } }, 2 },
	{ "unsorted", { { SZ_8M, SZ_16M - 1 }, { SZ_1M, SZ_2M - 1 },
			{ SZ_4M, SZ_4M + SZ_1M - 1 } }, 3 },
	{ "adjacent", { { SZ_1M, SZ_2M - 1 }, { SZ_2M, SZ_4M - 1 } }, 2 },
	{ "overlapping", { { SZ_1M, SZ_4M - 1 }, { SZ_2M, SZ_8M - 1 } }, 2 },
	{ "nested", { { SZ_1M, SZ_16M - 1 }, { SZ_2M, SZ_4M - 1 },
		      { SZ_8M, SZ_8M + SZ_4K - 1 } }, 3 },
	{ "nested, unsorted", { { SZ_2M, SZ_4M - 1 }, { SZ_1M, SZ_16M - 1 } },
	  2 },
	{ "within granules", { { SZ_1M + 5, SZ_1M + 9 }, { SZ_2M - 1, SZ_2M },
			       { SZ_4M + 100, SZ_4M + 200 } }, 3 },
	{ "first and last byte", { { 0, 0 }, { BIT_ULL(48) - 1,
					       BIT_ULL(48) - 1 } }, 2 },
	{ "twice", { { SZ_1M, SZ_2M - 1 }, { SZ_1M, SZ_2M - 1 } }, 2 },
	{ "beyond the aperture", { { BIT_ULL(50), BIT_ULL(51) } }, 1 },
};

KUNIT_ARRAY_PARAM_DESC(regions, regions_cases, name);

/* Whether a granule has an address that is reserved. */
static bool regions_have(const struct regions_case *param, u64 granule)
{
	unsigned int i;

	for (i = 0; i < param->nr; i++) {
		if (param->regions[i].first <= granule + SZ_4K - 1 &&
		    param->regions[i].last >= granule)
			return true;
	}
	return false;
}

static bool regions_mapped(struct model_domain *domain, u64 granule)
{
	struct model_mapping *mapping;

	list_for_each_entry(mapping, &domain->mappings, node) {
		if (mapping->first <= granule && mapping->last >= granule)
			return true;
	}
	return false;
}

/*
 * Without bypass domains, the identity domain maps each granule of the aperture
 * but the reserved ones to itself. Looks at the granules where that may change.
 */
static void fake_probe_identity(struct kunit *test)
{
	const struct regions_case *param = test->param_value;
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	u64 edges[2 * FAKE_MAX_REGIONS + 2];
	struct model_endpoint *model;
	unsigned int i, nr = 0;
	int around;

	config.features &= ~BIT_ULL(VIRTIO_IOMMU_F_BYPASS_CONFIG);
	/* Which is none of the driver's business. */
	config.quirks |= FAKE_FILLS_RESERVED;
	test_create(t, &config);
	test_set_endpoint(t, 0, 1);
	model = model_add_endpoint(&t->fake->model,
				   t->endpoints[0].fake.ids[0]);
	KUNIT_ASSERT_NOT_NULL(test, model);
	memcpy(model->regions, param->regions, sizeof(param->regions));
	model->nr_regions = param->nr;
	KUNIT_ASSERT_TRUE(test, test_register(t));
	KUNIT_ASSERT_TRUE(test, test_plug(t, 0));
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[0].fake,
					      "identity"), 0);
	KUNIT_ASSERT_NOT_NULL(test, model->domain);
	test_expect_no_violation(t);

	edges[nr++] = 0;
	edges[nr++] = config.input_end;
	for (i = 0; i < param->nr; i++) {
		edges[nr++] = param->regions[i].first;
		edges[nr++] = param->regions[i].last;
	}
	for (i = 0; i < nr; i++) {
		for (around = -1; around <= 1; around++) {
			u64 granule = ALIGN_DOWN(edges[i], SZ_4K) +
				      around * SZ_4K;

			if (granule > config.input_end)
				continue;
			KUNIT_EXPECT_EQ_MSG(test,
					    regions_mapped(model->domain,
							   granule),
					    !regions_have(param, granule),
					    "at %#llx", granule);
		}
	}
	test_expect_agree(t, "at the end");
}

static struct kunit_case fake_probe_cases[] = {
	KUNIT_CASE_PARAM(fake_probe_malformed, probe_gen_params),
	KUNIT_CASE(fake_probe_small_granule),
	KUNIT_CASE(fake_probe_no_id),
	KUNIT_CASE_PARAM(fake_probe_identity, regions_gen_params),
	{}
};

static struct kunit_suite fake_probe_suite = {
	.name = "viommu_fake_probe",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_probe_cases,
};

kunit_test_suite(fake_probe_suite);
