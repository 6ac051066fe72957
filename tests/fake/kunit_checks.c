// SPDX-License-Identifier: GPL-2.0
/*
 * What the fake device says of a driver that does what the specification forbids.
 * There is no driver here: the requests are made by hand.
 */
#include <linux/sizes.h>

#include "tests.h"

#define F(bit) BIT_ULL(bit)

/* Domains, and the endpoints that are in them */
#define PAGING		5
#define BYPASS		6
#define NO_DOMAIN	7
#define OUTSIDE		0x4000000	/* of the domain range */
#define IN_PAGING	8
#define IN_BYPASS	9
/* In no domain; the device was asked about the first and the last */
#define FREE		10
#define NOT_PROBED	11
#define WITH_REGION	12
#define NO_ENDPOINT	99

static const struct fake_region region = { SZ_64K, 2 * SZ_64K - 1 };
static const struct fake_config checks_config = { FAKE_DEFAULTS };

struct check_case {
	const char *name;
	const char *says;	/* NULL: there is nothing wrong */
	u64 without;		/* features that were not negotiated */
	bool early;		/* before DRIVER_OK */
	bool loose;		/* an UNMAP that should cover mappings, and does not */
	u8 type;
	u32 domain;
	u32 endpoint;
	u32 flags;
	u64 first;
	u64 last;
	u64 phys;
	size_t dirty;		/* the offset of a byte that is not 0 */
	int more_readable;
	int more_writable;
};

#define ATTACH(...)							\
	.type = VIRTIO_IOMMU_T_ATTACH, .domain = PAGING,		\
	.endpoint = FREE, __VA_ARGS__
#define DETACH(...)							\
	.type = VIRTIO_IOMMU_T_DETACH, .domain = PAGING,		\
	.endpoint = IN_PAGING, __VA_ARGS__
#define MAP(...)							\
	.type = VIRTIO_IOMMU_T_MAP, .domain = PAGING,			\
	.first = SZ_1M, .last = SZ_1M + SZ_4K - 1, .phys = SZ_1G,	\
	.flags = VIRTIO_IOMMU_MAP_F_READ, __VA_ARGS__
/* Two are mapped there, then comes a hole of a page, and another one. */
#define UNMAP(...)							\
	.type = VIRTIO_IOMMU_T_UNMAP, .domain = PAGING,			\
	.first = 0, .last = SZ_8K - 1, __VA_ARGS__
#define PROBE(...)							\
	.type = VIRTIO_IOMMU_T_PROBE, .endpoint = FREE, __VA_ARGS__
#define BYTE(_type, _field)						\
	.dirty = offsetof(struct virtio_iommu_req_##_type, _field)

static const struct check_case check_cases[] = {
	{ "ATTACH", NULL, ATTACH() },
	{ "ATTACH to a new domain", NULL, ATTACH(.domain = NO_DOMAIN) },
	{ "ATTACH to a new bypass domain", NULL,
	  ATTACH(.domain = NO_DOMAIN, .flags = 1) },
	{ "ATTACH to a bypass domain", NULL,
	  ATTACH(.domain = BYPASS, .flags = 1) },
	{ "ATTACH before DRIVER_OK", "before DRIVER_OK",
	  ATTACH(.early = true) },
	{ "ATTACH, head", "reserved bytes", ATTACH(BYTE(head, reserved)) },
	{ "ATTACH, reserved", "reserved bytes",
	  ATTACH(BYTE(attach, reserved[3])) },
	{ "ATTACH, too short", "bytes to read", ATTACH(.more_readable = -1) },
	{ "ATTACH, too long", "bytes to read", ATTACH(.more_readable = 1) },
	{ "ATTACH, no room for a tail", "bytes to write",
	  ATTACH(.more_writable = -1) },
	{ "ATTACH, domain", "domain", ATTACH(.domain = OUTSIDE) },
	{ "ATTACH, any domain", NULL,
	  ATTACH(.domain = OUTSIDE,
		 .without = F(VIRTIO_IOMMU_F_DOMAIN_RANGE)) },
	{ "ATTACH, endpoint", "no endpoint", ATTACH(.endpoint = NO_ENDPOINT) },
	{ "ATTACH, flags", "flags", ATTACH(.flags = 2) },
	{ "ATTACH, flag without the feature", "not negotiated",
	  ATTACH(.domain = NO_DOMAIN, .flags = 1,
		 .without = F(VIRTIO_IOMMU_F_BYPASS_CONFIG)) },
	{ "ATTACH to a bypass domain, no flag", "other kind",
	  ATTACH(.domain = BYPASS) },
	{ "ATTACH to a paging domain, flag", "other kind", ATTACH(.flags = 1) },
	{ "ATTACH without PROBE", "no PROBE", ATTACH(.endpoint = NOT_PROBED) },
	{ "ATTACH, no PROBE to be had", NULL,
	  ATTACH(.endpoint = NOT_PROBED, .without = F(VIRTIO_IOMMU_F_PROBE)) },
	{ "ATTACH over a reserved region", "reserved addresses",
	  ATTACH(.endpoint = WITH_REGION) },

	{ "DETACH", NULL, DETACH() },
	{ "DETACH, reserved", "reserved bytes",
	  DETACH(BYTE(detach, reserved[7])) },
	{ "DETACH, too short", "bytes to read", DETACH(.more_readable = -1) },
	{ "DETACH, domain", "domain", DETACH(.domain = 0) },
	{ "DETACH from another domain", "is not in domain",
	  DETACH(.domain = BYPASS) },

	{ "MAP", NULL, MAP() },
	{ "MAP, any flag", NULL, MAP(.flags = 7) },
	{ "MAP without the feature", "not negotiated",
	  MAP(.without = F(VIRTIO_IOMMU_F_MAP_UNMAP)) },
	{ "MAP, head", "reserved bytes", MAP(BYTE(head, reserved[2])) },
	{ "MAP, too short", "bytes to read", MAP(.more_readable = -4) },
	{ "MAP, domain", "domain", MAP(.domain = OUTSIDE) },
	{ "MAP in a bypass domain", "bypass domain", MAP(.domain = BYPASS) },
	{ "MAP, flags", "flags", MAP(.flags = 8) },
	{ "MAP, MMIO without the feature", "flags",
	  MAP(.flags = 5, .without = F(VIRTIO_IOMMU_F_MMIO)) },
	{ "MAP, reversed", "reversed", MAP(.last = SZ_1M - 1) },
	{ "MAP of one address", "alone", MAP(.last = SZ_1M) },
	{ "MAP, unaligned", "granules", MAP(.last = SZ_1M + 1) },
	{ "MAP, unaligned physical address", "physical",
	  MAP(.phys = SZ_1G + 1) },
	{ "MAP, above the input range", "is not in",
	  MAP(.last = BIT_ULL(48) + SZ_4K - 1) },
	{ "MAP of any address", NULL,
	  MAP(.last = BIT_ULL(48) + SZ_4K - 1,
	      .without = F(VIRTIO_IOMMU_F_INPUT_RANGE)) },
	{ "MAP of a reserved region", "reserved addresses",
	  MAP(.first = 0x90000, .last = SZ_1M - 1) },

	{ "UNMAP", NULL, UNMAP() },
	{ "UNMAP beyond mappings", NULL,
	  UNMAP(.first = SZ_4K, .last = SZ_8K + SZ_4K - 1) },
	{ "UNMAP without the feature", "not negotiated",
	  UNMAP(.without = F(VIRTIO_IOMMU_F_MAP_UNMAP)) },
	{ "UNMAP, reserved", "reserved bytes", UNMAP(BYTE(unmap, reserved)) },
	{ "UNMAP, too long", "bytes to read", UNMAP(.more_readable = 4) },
	{ "UNMAP, domain", "domain", UNMAP(.domain = OUTSIDE) },
	{ "UNMAP in a bypass domain", "bypass domain", UNMAP(.domain = BYPASS) },
	{ "UNMAP, above the input range", "is not in", UNMAP(.last = U64_MAX) },
	{ "UNMAP of a part", "splits",
	  UNMAP(.first = SZ_64K, .last = SZ_64K + SZ_4K - 1) },
	{ "UNMAP of nothing", NULL,
	  UNMAP(.first = SZ_1G, .last = SZ_2G - 1, .loose = true) },
	{ "UNMAP over a hole", NULL,
	  UNMAP(.last = SZ_16K - 1, .loose = true) },

	{ "PROBE", NULL, PROBE() },
	{ "PROBE without the feature", "not negotiated",
	  PROBE(.without = F(VIRTIO_IOMMU_F_PROBE)) },
	{ "PROBE, reserved", "reserved bytes", PROBE(BYTE(probe, reserved[63])) },
	{ "PROBE, less room than probe_size", "bytes to write",
	  PROBE(.more_writable = -1) },
	{ "PROBE, more room than probe_size", "bytes to write",
	  PROBE(.more_writable = 1) },
	{ "PROBE, endpoint", "no endpoint", PROBE(.endpoint = NO_ENDPOINT) },

	{ "unknown type", "unknown type", .type = 6 },
};

KUNIT_ARRAY_PARAM_DESC(check, check_cases, name);

static void checks_map(struct fake_test *t, u64 first, u64 last)
{
	KUNIT_ASSERT_EQ(t->test, model_map(&t->fake->model, PAGING, first, last,
					   SZ_1G, VIRTIO_IOMMU_MAP_F_READ),
			VIRTIO_IOMMU_S_OK);
}

/* A device that no driver has found, but that is in the middle of its work. */
static void checks_start(struct fake_test *t)
{
	static const u32 ids[] = {
		IN_PAGING, IN_BYPASS, FREE, NOT_PROBED, WITH_REGION,
	};
	struct model_endpoint *endpoint;
	struct model *model;
	unsigned int i;

	test_create(t, &checks_config);
	t->violations_expected = true;
	model = &t->fake->model;
	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		endpoint = model_add_endpoint(model, ids[i]);
		KUNIT_ASSERT_NOT_NULL(t->test, endpoint);
		endpoint->probed = ids[i] != NOT_PROBED;
		endpoint->touched = true;
		if (ids[i] == WITH_REGION) {
			endpoint->regions[0] = region;
			endpoint->nr_regions = 1;
		} else if (ids[i] == IN_PAGING) {
			endpoint->regions[0].first = 0x98000;
			endpoint->regions[0].last = 0x98000;
			endpoint->nr_regions = 1;
		}
	}
	KUNIT_ASSERT_EQ(t->test, model_attach(model, PAGING, IN_PAGING, false),
			VIRTIO_IOMMU_S_OK);
	KUNIT_ASSERT_EQ(t->test, model_attach(model, BYPASS, IN_BYPASS, true),
			VIRTIO_IOMMU_S_OK);
	checks_map(t, 0, SZ_4K - 1);
	checks_map(t, SZ_4K, SZ_8K - 1);
	checks_map(t, SZ_8K + SZ_4K, SZ_16K - 1);
	checks_map(t, SZ_64K, SZ_64K + SZ_8K - 1);

	t->fake->driver_features = t->fake->config.features;
	t->fake->status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
			  VIRTIO_CONFIG_S_FEATURES_OK |
			  VIRTIO_CONFIG_S_DRIVER_OK;
}

static void checks_request(const struct fake_test *t,
			   const struct check_case *param,
			   struct fake_request *request)
{
	request->req.type = param->type;
	request->readable = sizeof(request->req);
	request->writable_len = sizeof(struct virtio_iommu_req_tail);
	switch (param->type) {
	case VIRTIO_IOMMU_T_ATTACH:
		request->attach.domain = cpu_to_le32(param->domain);
		request->attach.endpoint = cpu_to_le32(param->endpoint);
		request->attach.flags = cpu_to_le32(param->flags);
		request->readable = offsetof(typeof(request->attach), tail);
		break;
	case VIRTIO_IOMMU_T_DETACH:
		request->detach.domain = cpu_to_le32(param->domain);
		request->detach.endpoint = cpu_to_le32(param->endpoint);
		request->readable = offsetof(typeof(request->detach), tail);
		break;
	case VIRTIO_IOMMU_T_MAP:
		request->map.domain = cpu_to_le32(param->domain);
		request->map.virt_start = cpu_to_le64(param->first);
		request->map.virt_end = cpu_to_le64(param->last);
		request->map.phys_start = cpu_to_le64(param->phys);
		request->map.flags = cpu_to_le32(param->flags);
		request->readable = offsetof(typeof(request->map), tail);
		break;
	case VIRTIO_IOMMU_T_UNMAP:
		request->unmap.domain = cpu_to_le32(param->domain);
		request->unmap.virt_start = cpu_to_le64(param->first);
		request->unmap.virt_end = cpu_to_le64(param->last);
		request->readable = offsetof(typeof(request->unmap), tail);
		break;
	case VIRTIO_IOMMU_T_PROBE:
		request->probe.endpoint = cpu_to_le32(param->endpoint);
		request->readable = sizeof(request->probe);
		request->writable_len += t->config.probe_size;
		break;
	}
	if (param->dirty)
		request->bytes[param->dirty] = 1;
	request->readable += param->more_readable;
	request->writable_len += param->more_writable;
}

/* One violation has been found, which says what is wrong; or none. */
static void checks_expect(struct fake_test *t, const char *says)
{
	KUNIT_EXPECT_EQ_MSG(t->test, t->fake->nr_violations, says ? 1 : 0,
			    "the first is \"%s\"", t->fake->violations[0]);
	if (says)
		KUNIT_EXPECT_TRUE_MSG(t->test,
				      strstr(t->fake->violations[0], says),
				      "\"%s\" does not say \"%s\"",
				      t->fake->violations[0], says);
}

/* Each thing that a request must not have is a violation, and nothing else is. */
static void fake_checks_request(struct kunit *test)
{
	/* There is no ring, hence no memory to write an answer to. */
	const struct fake_rule rule = { FAKE_RULE(FAKE_ANY), .write = 0 };
	const struct check_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct fake_request *request;
	unsigned long flags;

	checks_start(t);
	t->fake->driver_features &= ~param->without;
	if (param->early)
		t->fake->status &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	request = &t->fake->requests[0];
	checks_request(t, param, request);

	spin_lock_irqsave(&t->fake->lock, flags);
	fake_answer(t->fake, request, &rule);
	spin_unlock_irqrestore(&t->fake->lock, flags);
	checks_expect(t, param->says);
	KUNIT_EXPECT_EQ(test, t->fake->stats.loose_unmaps, param->loose);
}

struct field_case {
	const char *name;
	const char *says;
	u64 without;
	u8 not_yet;		/* status bits */
	unsigned int offset;
	unsigned int len;
	bool is_write;
	u8 value;
};

#define FIELD(_field, _len)						\
	.offset = offsetof(struct virtio_iommu_config, _field), .len = (_len)

static const struct field_case field_cases[] = {
	{ "read page_size_mask", NULL, FIELD(page_size_mask, 8) },
	{ "read input_range", NULL, FIELD(input_range.start, 8) },
	{ "read input_range without the feature", "not offered",
	  F(VIRTIO_IOMMU_F_INPUT_RANGE), FIELD(input_range.end, 8) },
	{ "read domain_range without the feature", "not offered",
	  F(VIRTIO_IOMMU_F_DOMAIN_RANGE), FIELD(domain_range.start, 4) },
	{ "read probe_size without the feature", "not offered",
	  F(VIRTIO_IOMMU_F_PROBE), FIELD(probe_size, 4) },
	{ "read bypass without the feature", "not offered",
	  F(VIRTIO_IOMMU_F_BYPASS_CONFIG), FIELD(bypass, 1) },
	{ "read beyond the end", "configuration read", .offset = 37, .len = 8 },
	{ "write 0 to bypass", NULL, FIELD(bypass, 1), .is_write = true },
	{ "write 1 to bypass", NULL, FIELD(bypass, 1), .is_write = true,
	  .value = 1 },
	{ "write 2 to bypass", "written to bypass", FIELD(bypass, 1),
	  .is_write = true, .value = 2 },
	{ "write bypass without the feature", "not negotiated",
	  F(VIRTIO_IOMMU_F_BYPASS_CONFIG), FIELD(bypass, 1), .is_write = true },
	{ "write bypass before FEATURES_OK", "at status",
	  .not_yet = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK,
	  FIELD(bypass, 1), .is_write = true },
	{ "write probe_size", "configuration write", FIELD(probe_size, 4),
	  .is_write = true },
	{ "write what is reserved", "configuration write", FIELD(reserved, 1),
	  .is_write = true },
};

KUNIT_ARRAY_PARAM_DESC(field, field_cases, name);

/* The driver reads what there is, and writes to one field. */
static void fake_checks_field(struct kunit *test)
{
	const struct field_case *param = test->param_value;
	struct fake_test *t = test->priv;
	u8 bytes[8] = { param->value };

	checks_start(t);
	t->fake->config.features &= ~param->without;
	t->fake->driver_features &= ~param->without;
	t->fake->status &= ~param->not_yet;
	if (param->is_write)
		fake_set(&t->fake->vdev, param->offset, bytes, param->len);
	else
		fake_get(&t->fake->vdev, param->offset, bytes, param->len);
	checks_expect(t, param->says);
}

/* Of the features that are offered, the driver has to take some. It takes no others. */
static void fake_checks_features(struct kunit *test)
{
	static const unsigned int useful[] = {
		VIRTIO_IOMMU_F_INPUT_RANGE, VIRTIO_IOMMU_F_DOMAIN_RANGE,
		VIRTIO_IOMMU_F_PROBE,
	};
	struct fake_test *t = test->priv;
	struct fake_viommu *fake;
	unsigned int i;

	checks_start(t);
	fake = t->fake;
	fake->driver_features &= ~F(VIRTIO_IOMMU_F_BYPASS_CONFIG);
	fake_check_features(fake);
	checks_expect(t, NULL);
	for (i = 0; i < ARRAY_SIZE(useful); i++) {
		fake->driver_features = fake->config.features & ~F(useful[i]);
		fake_check_features(fake);
		checks_expect(t, "not accepted");
		fake->nr_violations = 0;
	}
	fake->driver_features = fake->config.features | F(VIRTIO_IOMMU_F_BYPASS);
	fake_check_features(fake);
	checks_expect(t, "not offered");
}

static struct kunit_case fake_checks_cases[] = {
	KUNIT_CASE_PARAM(fake_checks_request, check_gen_params),
	KUNIT_CASE_PARAM(fake_checks_field, field_gen_params),
	KUNIT_CASE(fake_checks_features),
	{}
};

static struct kunit_suite fake_checks_suite = {
	.name = "viommu_fake_checks",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_checks_cases,
};

kunit_test_suite(fake_checks_suite);
