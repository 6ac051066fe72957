// SPDX-License-Identifier: GPL-2.0
/*
 * Events: faults that are reported, and events that are none.
 */
#include <linux/delay.h>

#include "tests.h"

static struct virtio_iommu_fault events_fault(u32 endpoint)
{
	return (struct virtio_iommu_fault) {
		.reason = VIRTIO_IOMMU_FAULT_R_MAPPING,
		.flags = cpu_to_le32(VIRTIO_IOMMU_FAULT_F_WRITE |
				     VIRTIO_IOMMU_FAULT_F_ADDRESS),
		.endpoint = cpu_to_le32(endpoint),
		.address = cpu_to_le64(0xabcd5000),
	};
}

/* Sends a fault, several times. */
static void events_send(struct fake_test *t,
			const struct virtio_iommu_fault *fault, unsigned int nr)
{
	while (nr--)
		KUNIT_EXPECT_EQ(t->test, fake_event(t->fake, fault,
						    sizeof(*fault),
						    sizeof(*fault)), 0);
}

/* A fault names the device that did it, its reason and its address. */
static void fake_events_fault(struct kunit *test)
{
	static const u8 reasons[] = {
		VIRTIO_IOMMU_FAULT_R_UNKNOWN, VIRTIO_IOMMU_FAULT_R_DOMAIN,
		VIRTIO_IOMMU_FAULT_R_MAPPING, 77,
	};
	struct virtio_iommu_fault fault;
	struct fake_test *t = test->priv;
	unsigned int i;

	test_start(t, NULL, 2);
	for (i = 0; i < ARRAY_SIZE(reasons); i++) {
		fault = events_fault(t->endpoints[1].fake.ids[0]);
		fault.reason = reasons[i];
		/* What has no meaning yet does not matter. */
		fault.flags |= cpu_to_le32(0xfffffe00);
		memset(fault.reserved2, 0xff, sizeof(fault.reserved2));
		test_log_mark(t);
		events_send(t, &fault, 1);
		KUNIT_EXPECT_TRUE_MSG(test,
				      test_log_has(t, dev_name(test_dev(t, 1)),
						   "abcd5000"),
				      "a fault does not name the device");
	}
	fault = events_fault(t->endpoints[1].fake.ids[0]);
	fault.flags = 0;
	test_log_mark(t);
	events_send(t, &fault, 1);
	KUNIT_EXPECT_FALSE(test, test_log_has(t, "", "abcd5000"));
}

struct handler_case {
	const char *name;
	u32 flags;
	int access;
};

static const struct handler_case handler_cases[] = {
	{ "read", VIRTIO_IOMMU_FAULT_F_READ, IOMMU_FAULT_READ },
	{ "write", VIRTIO_IOMMU_FAULT_F_WRITE, IOMMU_FAULT_WRITE },
};

KUNIT_ARRAY_PARAM_DESC(handler, handler_cases, name);

struct handler_seen {
	unsigned int times;
	struct iommu_domain *domain;
	struct device *dev;
	unsigned long iova;
	int access;
};

static int events_handler(struct iommu_domain *domain, struct device *dev,
			  unsigned long iova, int access, void *token)
{
	struct handler_seen *seen = token;

	*seen = (struct handler_seen) {
		.times = seen->times + 1, .domain = domain, .dev = dev,
		.iova = iova, .access = access,
	};
	return 0;
}

/* Who has set a handler for the domain's faults gets them, and nobody else's. */
static void fake_events_handler(struct kunit *test)
{
	const struct handler_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct test_domain *domain = test_start_domain(t, NULL, 2);
	struct virtio_iommu_fault fault;
	struct handler_seen seen = {};

	iommu_set_fault_handler(domain->domain, events_handler, &seen);
	KUNIT_ASSERT_EQ(test, test_attach(t, 1, domain), 0);
	fault = events_fault(t->endpoints[0].fake.ids[0]);
	events_send(t, &fault, 1);
	KUNIT_EXPECT_EQ(test, seen.times, 0);

	fault.endpoint = cpu_to_le32(t->endpoints[1].fake.ids[0]);
	fault.flags = cpu_to_le32(param->flags | VIRTIO_IOMMU_FAULT_F_ADDRESS);
	events_send(t, &fault, 2);
	KUNIT_EXPECT_EQ(test, seen.times, 2);
	KUNIT_EXPECT_PTR_EQ(test, seen.domain, domain->domain);
	KUNIT_EXPECT_PTR_EQ(test, seen.dev, test_dev(t, 1));
	KUNIT_EXPECT_EQ(test, seen.iova, 0xabcd5000);
	KUNIT_EXPECT_EQ(test, seen.access, param->access);

	/* Out of the domain, out of its handler's sight */
	test_detach(t, 1);
	events_send(t, &fault, 1);
	KUNIT_EXPECT_EQ(test, seen.times, 2);
}

/* A fault of an endpoint that nobody knows is reported with its number. */
static void fake_events_unknown_endpoint(struct kunit *test)
{
	struct virtio_iommu_fault fault = events_fault(4242);
	struct fake_test *t = test->priv;

	test_start(t, NULL, 1);
	test_log_mark(t);
	events_send(t, &fault, 1);
	KUNIT_EXPECT_TRUE(test, test_log_has(t, "4242", "abcd5000"));
}

struct event_case {
	const char *name;
	size_t len;
	u32 used;
};

static const struct event_case event_cases[] = {
	{ "nothing", 0, 0 },
	{ "a byte", 1, 1 },
	{ "a byte too short", 23, 23 },
	{ "a byte too long", 24, 25 },
	{ "4 GiB - 1", 24, U32_MAX },
};

KUNIT_ARRAY_PARAM_DESC(event, event_cases, name);

/* An event of a wrong size is no fault; the one before must not show through. */
static void fake_events_size(struct kunit *test)
{
	const struct event_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct virtio_iommu_fault fault;
	unsigned int buffers;

	test_start(t, NULL, 1);
	fault = events_fault(t->endpoints[0].fake.ids[0]);
	buffers = fake_event_buffers(t->fake);
	KUNIT_EXPECT_GE(test, buffers, 1);
	events_send(t, &fault, buffers);
	test_log_mark(t);
	fault.address = cpu_to_le64(0x99887000);
	KUNIT_EXPECT_EQ(test, fake_event(t->fake, &fault, param->len,
					 param->used), 0);
	KUNIT_EXPECT_FALSE(test, test_log_has(t, "", "abcd5000"));
	/* One that claims too much may be taken for what fits. */
	if (param->len < sizeof(fault))
		KUNIT_EXPECT_FALSE(test, test_log_has(t, "", "99887000"));
	KUNIT_EXPECT_TRUE_MSG(test,
			      test_log_has(t, "", "event") ||
			      test_log_has(t, "", "99887000"),
			      "nothing is reported");
	KUNIT_EXPECT_EQ(test, fake_event_buffers(t->fake), buffers);
}

/* The specification reserves the bytes for other kinds of events. */
static void fake_events_reserved(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct virtio_iommu_fault fault;

	test_start(t, NULL, 1);
	fault = events_fault(t->endpoints[0].fake.ids[0]);
	fault.reserved[1] = 1;
	test_log_mark(t);
	events_send(t, &fault, 1);
	KUNIT_EXPECT_FALSE(test, test_log_has(t, "", "abcd5000"));
	KUNIT_EXPECT_TRUE_MSG(test, test_log_says(t, "event"),
			      "nothing is reported");
}

/* Each buffer comes back, however many events there are. */
static void fake_events_flood(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct virtio_iommu_fault fault;
	unsigned int buffers;

	test_start(t, NULL, 1);
	fault = events_fault(t->endpoints[0].fake.ids[0]);
	buffers = fake_event_buffers(t->fake);
	events_send(t, &fault, 1000);
	KUNIT_EXPECT_EQ(test, fake_event_buffers(t->fake), buffers);
	/* More at once than there are buffers: what finds none is lost. */
	KUNIT_EXPECT_EQ(test, fake_event_overrun(t->fake, &fault, sizeof(fault)),
			buffers);
	KUNIT_EXPECT_EQ(test, fake_event_buffers(t->fake), buffers);
	events_send(t, &fault, 1);
	/* Meanwhile nothing else has suffered. */
	KUNIT_EXPECT_TRUE(test, test_plug(t, 1));
	test_expect_agree(t, "after the flood");
}

/*
 * For a while, no buffer can be mapped for DMA: each that comes back stays with the
 * driver, until the device has none. Later it has all of them again.
 */
static void fake_events_refill(struct kunit *test)
{
	struct fake_config config = fake_default_config;
	struct fake_test *t = test->priv;
	struct virtio_iommu_fault fault;
	unsigned int buffers, i;

	config.features |= BIT_ULL(VIRTIO_F_ACCESS_PLATFORM);
	test_start(t, &config, 1);
	fault = events_fault(t->endpoints[0].fake.ids[0]);
	buffers = fake_event_buffers(t->fake);
	KUNIT_EXPECT_GE(test, buffers, 1);
	WRITE_ONCE(t->fake->dma_fails, true);
	events_send(t, &fault, buffers);
	KUNIT_EXPECT_EQ(test, fake_event_buffers(t->fake), 0);

	WRITE_ONCE(t->fake->dma_fails, false);
	for (i = 0; i < 200 && fake_event_buffers(t->fake) < buffers; i++)
		msleep(50);
	KUNIT_EXPECT_EQ(test, fake_event_buffers(t->fake), buffers);
	test_log_mark(t);
	events_send(t, &fault, 1);
	KUNIT_EXPECT_TRUE(test, test_log_has(t, dev_name(test_dev(t, 0)),
					     "abcd5000"));
}

struct hostile_case {
	const char *name;
	enum fake_completion completion;
};

static const struct hostile_case hostile_cases[] = {
	{ "twice", FAKE_TWICE },
	{ "not taken", FAKE_NOT_ASKED },
	{ "out of range", FAKE_OUT_OF_RANGE },
};

KUNIT_ARRAY_PARAM_DESC(hostile, hostile_cases, name);

/* Buffers that are completed as no device does cost events at most. */
static void fake_events_hostile(struct kunit *test)
{
	const struct hostile_case *param = test->param_value;
	struct fake_test *t = test->priv;
	struct virtio_iommu_fault fault;
	unsigned int i;

	test_start(t, NULL, 1);
	fault = events_fault(t->endpoints[0].fake.ids[0]);
	for (i = 0; i < 20; i++) {
		if (fake_event_hostile(t->fake, &fault, sizeof(fault),
				       param->completion))
			break;
	}
	KUNIT_EXPECT_GT(test, i, 0);
	for (i = 0; i < 20; i++) {
		if (fake_event(t->fake, &fault, sizeof(fault), sizeof(fault)))
			break;
	}
	t->violations_expected = true;
	KUNIT_EXPECT_TRUE(test, test_plug(t, 1));
	test_expect_agree(t, "afterwards");
}

/* A fault of an endpoint that is not there is reported with its number, and no name. */
static void events_unknown(struct fake_test *t, unsigned int endpoint)
{
	struct virtio_iommu_fault fault;
	char number[16];

	fault = events_fault(t->endpoints[endpoint].fake.ids[0]);
	scnprintf(number, sizeof(number), " %u",
		  t->endpoints[endpoint].fake.ids[0]);
	test_log_mark(t);
	events_send(t, &fault, 1);
	KUNIT_EXPECT_FALSE_MSG(t->test,
			       test_log_has(t, "fake-endpoint", "abcd5000"),
			       "the endpoint that has gone is still known");
	KUNIT_EXPECT_TRUE_MSG(t->test, test_log_has(t, number, "abcd5000"),
			      "the fault of%s is not reported", number);
}

/* Events while endpoints come and go, and after the last one. */
static void fake_events_unplugged(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct virtio_iommu_fault fault;
	unsigned int i;

	test_start(t, NULL, 2);
	fault = events_fault(t->endpoints[1].fake.ids[0]);
	test_unplug(t, 1);
	events_unknown(t, 1);
	KUNIT_EXPECT_TRUE(test, test_plug(t, 1));
	test_log_mark(t);
	events_send(t, &fault, 1);
	KUNIT_EXPECT_TRUE_MSG(test,
			      test_log_has(t, dev_name(test_dev(t, 1)),
					   "abcd5000"),
			      "the endpoint that is back is not named");
	test_expect_agree(t, "when it is back");

	for (i = 0; i < 2; i++) {
		test_unplug(t, i);
		events_unknown(t, i);
	}
}

static struct kunit_case fake_events_cases[] = {
	KUNIT_CASE(fake_events_fault),
	KUNIT_CASE_PARAM(fake_events_handler, handler_gen_params),
	KUNIT_CASE(fake_events_unknown_endpoint),
	KUNIT_CASE(fake_events_unplugged),
	KUNIT_CASE_PARAM(fake_events_size, event_gen_params),
	KUNIT_CASE(fake_events_reserved),
	KUNIT_CASE(fake_events_flood),
	KUNIT_CASE(fake_events_refill),
	KUNIT_CASE_PARAM(fake_events_hostile, hostile_gen_params),
	{}
};

static struct kunit_suite fake_events_suite = {
	.name = "viommu_fake_events",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_events_cases,
};

kunit_test_suite(fake_events_suite);
