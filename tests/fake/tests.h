/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the KUnit suites share: a device with endpoints, paging domains of which
 * the test knows what should be mapped, and the comparison of this, of what the
 * driver says and of the device's model.
 */
#ifndef _VIRTIO_IOMMU_FAKE_TESTS_H
#define _VIRTIO_IOMMU_FAKE_TESTS_H

#include <kunit/test.h>
#include <linux/iommu.h>
#include <linux/prandom.h>

#include "fake.h"

#define TEST_MAX_ENDPOINTS	8
#define TEST_MAX_DOMAINS	8
#define TEST_SLOTS		640
#define TEST_BASE		0x40000000ULL
#define TEST_PHYS		0x100000000ULL
#define TEST_RW			(IOMMU_READ | IOMMU_WRITE)
/*
 * How long a request may take if the device answers, or is known to be gone. It is to
 * tell from a wait of ten seconds for an answer, on a busy host, too.
 */
#define TEST_PROMPT_MS		8000
/* How long, in guest time, if it does not answer */
#define TEST_BOUND_MS		30000

/* One granule of IO addresses. */
struct test_slot {
	unsigned int chunk;	/* of the same iommu_map(); 0: not mapped */
	int prot;
	u64 phys;
};

struct test_domain {
	struct iommu_domain *domain;
	u64 base;		/* IO address of the first slot */
	struct test_slot slots[TEST_SLOTS];
	struct model_domain *model;	/* while comparing */
};

struct test_endpoint {
	struct fake_endpoint fake;
	struct test_domain *domain;	/* NULL: the default domain */
	bool claimed;			/* by iommu_device_claim_dma_owner() */
	bool uses_dma_api;
	bool refused;			/* by the device: who knows where it is */
	struct iommu_attach_handle handle;	/* used by test_replace() */
};

struct fake_test {
	struct kunit *test;
	struct fake_viommu *fake;
	struct fake_config config;
	struct test_endpoint endpoints[TEST_MAX_ENDPOINTS];
	struct test_domain *domains[TEST_MAX_DOMAINS];
	u64 granule;
	unsigned int last_chunk;
	u64 log_seq;
	struct test_slot *scratch;
	char difference[256];
	u8 bypass;		/* the global one, once there is a driver */
	bool violations_expected;
	bool stays_attached;	/* an endpoint that has gone, in the device */
	bool refuses_nothing;	/* the device, while it is honest */
};

/* harness.c: setting up and tearing down */
int fake_test_init(struct kunit *test);
void fake_test_exit(struct kunit *test);
void test_create(struct fake_test *t, const struct fake_config *config);
bool test_register(struct fake_test *t);
void test_start(struct fake_test *t, const struct fake_config *config,
		unsigned int nr_endpoints);
struct test_domain *test_start_domain(struct fake_test *t,
				      const struct fake_config *config,
				      unsigned int nr_endpoints);
void test_stop(struct fake_test *t);
void test_forget_endpoints(struct fake_test *t);
void test_preload(struct fake_test *t, u32 domain, bool bypass, u32 endpoint);
void test_set_endpoint(struct fake_test *t, unsigned int index,
		       unsigned int nr_ids);
void test_set_ids(struct fake_test *t, unsigned int index, unsigned int nr_ids,
		  const u32 *ids);
bool test_plug(struct fake_test *t, unsigned int index);
void test_unplug(struct fake_test *t, unsigned int index);
bool test_keeps_bypass(void);
bool test_is_unsafe(void);
void test_needs_unsafe(struct fake_test *t, const char *why);
void test_is_slow(struct fake_test *t);
void test_rule(struct fake_test *t, const struct fake_rule *rule);
void test_clear_rules(struct fake_test *t);
bool test_log_has(struct fake_test *t, const char *one, const char *two);
bool test_log_says(struct fake_test *t, const char *word);
void test_log_mark(struct fake_test *t);

/* domains.c: the IOMMU API, with a record of what should be mapped */
struct test_domain *test_alloc(struct fake_test *t, unsigned int endpoint);
void test_free(struct fake_test *t, struct test_domain *domain);
int test_attach(struct fake_test *t, unsigned int endpoint,
		struct test_domain *domain);
int test_replace(struct fake_test *t, unsigned int endpoint,
		 struct test_domain *domain);
void test_detach(struct fake_test *t, unsigned int endpoint);
int test_map(struct fake_test *t, struct test_domain *domain, unsigned int slot,
	     unsigned int nr, u64 phys, int prot);
void test_map_each(struct fake_test *t, struct test_domain *domain,
		   unsigned int nr, unsigned int stride, unsigned int len);
int test_map_sg(struct fake_test *t, struct test_domain *domain,
		unsigned int slot, struct scatterlist *sg, unsigned int nents,
		int prot);
size_t test_unmap(struct fake_test *t, struct test_domain *domain,
		  unsigned int slot, unsigned int nr);
void test_forget(struct test_domain *domain, unsigned int slot,
		 unsigned int nr);
struct device *test_dev(struct fake_test *t, unsigned int endpoint);

/* operations.c: what makes a driver send each kind of request */
enum operation {
	OP_PROBE,
	OP_ATTACH,
	OP_MAP,
	OP_UNMAP,
	OP_DETACH,
	NR_OPERATIONS,
};

struct operation_run {
	struct fake_test *t;
	struct test_domain *domain;
	unsigned int slot;	/* the next to map */
	s64 longest_ms;
};

extern const char * const operation_names[];
extern const u8 operation_types[];

void operation_start(struct operation_run *run, struct fake_test *t);
int operation_run(struct operation_run *run, enum operation operation);
bool operation_tells(enum operation operation);
bool operation_reported(struct fake_test *t, enum operation operation);

/* How a driver's use of the device ends */
enum ending {
	END_SHUTDOWN,
	END_REMOVAL,
#ifdef CONFIG_PM_SLEEP
	END_SUSPEND,
#endif
	NR_ENDINGS,
};

extern const char * const ending_names[];

void ending_run(struct fake_test *t, enum ending ending);

/* agree.c: do the test, the driver and the device agree? */
bool test_agree(struct fake_test *t);
void test_expect_agree(struct fake_test *t, const char *when);
void test_expect_no_violation(struct fake_test *t);

#endif
