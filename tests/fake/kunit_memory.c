// SPDX-License-Identifier: GPL-2.0
/*
 * Failing memory: each operation is repeated with its first, second, third, ...
 * allocation failing, until it gets through. Whatever fails leaves all as it was.
 */
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/fault-inject.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>

#include "tests.h"

#if defined(CONFIG_FAILSLAB) && defined(CONFIG_FAULT_INJECTION_DEBUG_FS)

/* More allocations than any operation has */
#define MEMORY_MAX_NTH	1000

/* The variable behind a file of failslab in debugfs. */
static void *memory_setting(const char *name)
{
	struct dentry *dir, *file = NULL;
	void *setting = NULL;

	dir = debugfs_lookup("failslab", NULL);
	if (dir)
		file = debugfs_lookup(name, dir);
	if (file)
		setting = d_inode(file)->i_private;
	dput(file);
	dput(dir);
	return setting;
}

static unsigned long memory_verbose;

/* Allocations that may sleep are to fail as well, and without a backtrace. */
static int memory_init(struct kunit *test)
{
	bool *ignore = memory_setting("ignore-gfp-wait");
	unsigned long *verbose = memory_setting("verbose");

	if (!ignore || !verbose)
		kunit_skip(test, "there is no failslab in debugfs");
	*ignore = false;
	memory_verbose = *verbose;
	*verbose = 0;
	return fake_test_init(test);
}

static void memory_exit(struct kunit *test)
{
	bool *ignore = memory_setting("ignore-gfp-wait");
	unsigned long *verbose = memory_setting("verbose");

	if (!ignore || !verbose)
		return;
	*ignore = true;
	*verbose = memory_verbose;
	fake_test_exit(test);
}

enum memory_operation {
	MEMORY_ALLOC,
	MEMORY_FREE,
	MEMORY_MAP,
	MEMORY_MAP_SG,
	MEMORY_ATTACH,
	MEMORY_REPLACE,
	MEMORY_DETACH,
	MEMORY_UNMAP,
	MEMORY_DMA,
	MEMORY_CLAIM,
	MEMORY_TYPE,
	MEMORY_PLUG,
};

struct memory_case {
	const char *name;
	enum memory_operation operation;
	u64 without;		/* features */
	bool may_do_without;	/* allocations */
};

static const struct memory_case memory_cases[] = {
	{ "alloc", MEMORY_ALLOC },
	{ "free", MEMORY_FREE, .may_do_without = true },
	{ "map", MEMORY_MAP },
	{ "map_sg", MEMORY_MAP_SG },
	{ "attach", MEMORY_ATTACH, .may_do_without = true },
	{ "replace", MEMORY_REPLACE },
	{ "unmap", MEMORY_UNMAP, .may_do_without = true },
	{ "detach", MEMORY_DETACH, .may_do_without = true },
	{ "DMA API", MEMORY_DMA },
	{ "claim", MEMORY_CLAIM, .may_do_without = true },
	{ "type", MEMORY_TYPE },
	{ "type, identity-mapped", MEMORY_TYPE,
	  BIT_ULL(VIRTIO_IOMMU_F_BYPASS_CONFIG) },
	{ "plug", MEMORY_PLUG },
};

KUNIT_ARRAY_PARAM_DESC(memory, memory_cases, name);

struct memory_run {
	struct fake_test *t;
	struct test_domain *attached;
	struct test_domain *other;
	struct iommu_domain *unused;
	struct scatterlist sg[4];
	bool second;		/* of two states that an operation switches */
};

/* Prepares an operation, without failures. */
static void memory_prepare(struct memory_run *run, enum memory_operation operation)
{
	struct fake_test *t = run->t;

	switch (operation) {
	case MEMORY_ATTACH:
		if (t->endpoints[1].domain)
			test_detach(t, 1);
		break;
	case MEMORY_DETACH:
		if (!t->endpoints[1].domain)
			KUNIT_ASSERT_EQ(t->test,
					test_attach(t, 1, run->other), 0);
		break;
	case MEMORY_UNMAP:
		KUNIT_ASSERT_EQ(t->test, test_map(t, run->attached, 40, 2, 0,
						  TEST_RW), 0);
		break;
	case MEMORY_FREE:
		run->unused = iommu_paging_domain_alloc(test_dev(t, 0));
		KUNIT_ASSERT_FALSE(t->test, IS_ERR(run->unused));
		break;
	case MEMORY_DMA:
		/* Without a flush queue, which keeps mappings for a while */
		t->endpoints[3].uses_dma_api = true;
		KUNIT_ASSERT_EQ(t->test,
				fake_group_type(&t->endpoints[3].fake, "DMA"),
				0);
		break;
	case MEMORY_PLUG:
		test_unplug(t, 2);
		break;
	default:
		break;
	}
}

/* Maps and unmaps the pages of a list, one by one, through the DMA API. */
static int memory_dma(struct device *dev, struct scatterlist *sg)
{
	for (; sg; sg = sg_next(sg)) {
		dma_addr_t addr = dma_map_page(dev, sg_page(sg), 0, PAGE_SIZE,
					       DMA_TO_DEVICE);

		if (dma_mapping_error(dev, addr))
			return -ENOMEM;
		dma_unmap_page(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
	}
	return 0;
}

/*
 * Runs an operation. Returns 0 if it works. What cannot fail for its caller, like
 * detaching, works always.
 */
static int memory_operate(struct memory_run *run, enum memory_operation operation)
{
	struct fake_test *t = run->t;
	struct iommu_domain *domain;
	struct test_domain *next;
	struct device *dev;

	switch (operation) {
	case MEMORY_ALLOC:
		domain = iommu_paging_domain_alloc(test_dev(t, 0));
		if (IS_ERR(domain))
			return PTR_ERR(domain);
		iommu_domain_free(domain);
		return 0;
	case MEMORY_FREE:
		iommu_domain_free(run->unused);
		return 0;
	case MEMORY_MAP:
		return test_map(t, run->attached, 20, 3, 0, TEST_RW);
	case MEMORY_MAP_SG:
		return test_map_sg(t, run->attached, 24, run->sg,
				   ARRAY_SIZE(run->sg), TEST_RW);
	case MEMORY_ATTACH:
		return test_attach(t, 1, run->other);
	case MEMORY_REPLACE:
		next = t->endpoints[0].domain == run->attached ?
			run->other : run->attached;
		return test_replace(t, 0, next);
	case MEMORY_UNMAP:
		return test_unmap(t, run->attached, 40, 2) == 2 ? 0 : -ENOMEM;
	case MEMORY_DETACH:
		test_detach(t, 1);
		return 0;
	case MEMORY_DMA:
		return memory_dma(test_dev(t, 3), run->sg);
	case MEMORY_CLAIM:
		dev = test_dev(t, 3);
		if (iommu_device_claim_dma_owner(dev, run))
			return -ENOMEM;
		iommu_device_release_dma_owner(dev);
		return 0;
	case MEMORY_TYPE:
		return fake_group_type(&t->endpoints[3].fake,
				       run->second ? "DMA" : "identity");
	case MEMORY_PLUG:
		if (fake_plug(t->fake, &t->endpoints[2].fake))
			return -ENOMEM;
		if (!fake_endpoint_translated(&t->endpoints[2].fake))
			return -ENODEV;
		return 0;
	}
	return -EINVAL;
}

/*
 * Endpoints of which there is much to keep in mind. For each granule of a region for
 * MSIs the core allocates something.
 */
static void memory_endpoints(struct fake_test *t, unsigned int nr)
{
	static const struct fake_region regions[] = {
		{ SZ_1M, SZ_2M - 1 }, { 0xfee00000, 0xfee01fff, 1 },
	};
	struct model_endpoint *model;
	unsigned int i, j;

	for (i = 0; i < nr; i++) {
		test_set_endpoint(t, i, 3);
		for (j = 0; j < 3; j++) {
			model = model_add_endpoint(&t->fake->model,
						   t->endpoints[i].fake.ids[j]);
			KUNIT_ASSERT_NOT_NULL(t->test, model);
			memcpy(model->regions, regions, sizeof(regions));
			model->nr_regions = ARRAY_SIZE(regions);
		}
		test_plug(t, i);
	}
}

/* So few domain numbers that none may be lost */
static const struct fake_config memory_config = {
	FAKE_DEFAULTS, .domain_end = 12,
};

static void memory_start(struct memory_run *run, u64 without)
{
	struct fake_config config = memory_config;
	struct fake_test *t = run->t;
	void *pages;
	unsigned int i;

	/* All endpoints in the same state, so that one may take another's part */
	config.features &= ~without;
	test_create(t, &config);
	memory_endpoints(t, 4);
	KUNIT_ASSERT_TRUE(t->test, test_register(t));
	test_expect_agree(t, "at the start");
	run->attached = test_alloc(t, 0);
	run->other = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(t->test, run->attached);
	KUNIT_ASSERT_NOT_NULL(t->test, run->other);
	KUNIT_ASSERT_EQ(t->test, test_attach(t, 0, run->attached), 0);
	test_map_each(t, run->attached, 4, 3, 1);
	test_map_each(t, run->other, 4, 2, 1);
	pages = kunit_kmalloc(t->test, 10 * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(t->test, pages);
	sg_init_table(run->sg, ARRAY_SIZE(run->sg));
	for (i = 0; i < ARRAY_SIZE(run->sg); i++)
		sg_set_buf(&run->sg[i], PTR_ALIGN(pages, PAGE_SIZE) +
					2 * i * PAGE_SIZE, PAGE_SIZE);
}

/* Each operation, with each of its allocations failing. */
static void fake_memory(struct kunit *test)
{
	const struct memory_case *param = test->param_value;
	struct memory_run run = { .t = test->priv };
	struct fake_test *t = test->priv;
	unsigned int nth, failed = 0;
	bool injected = true;
	int ret, warnings = 0;

	memory_start(&run, param->without);
	for (nth = 1; nth < MEMORY_MAX_NTH && injected; nth++) {
		memory_prepare(&run, param->operation);
		kunit_warning_suppress(test) {
			current->fail_nth = nth;
			ret = memory_operate(&run, param->operation);
			injected = !current->fail_nth;
			current->fail_nth = 0;
			warnings += KUNIT_SUPPRESSED_WARNING_COUNT();
		}
		failed += injected;
		if (!injected)
			KUNIT_EXPECT_EQ(test, ret, 0);
		if (!test_agree(t)) {
			KUNIT_FAIL(test, "allocation %u failed: %s", nth,
				   t->difference);
			break;
		}
		test_expect_no_violation(t);
		if (ret)
			continue;
		/* It worked all the same. Once more, from the same state. */
		if (param->operation == MEMORY_MAP)
			test_unmap(t, run.attached, 20, 3);
		if (param->operation == MEMORY_MAP_SG)
			test_unmap(t, run.attached, 24, ARRAY_SIZE(run.sg));
		run.second = !run.second;
	}
	KUNIT_EXPECT_LT(test, nth, MEMORY_MAX_NTH);
	if (!param->may_do_without)
		KUNIT_EXPECT_GT_MSG(test, failed, 0, "no allocation failed");
	kunit_info(test, "%u allocations were made to fail, %d warnings", failed,
		   warnings);
	KUNIT_EXPECT_EQ(test, warnings, 0);
}

/* The driver's probe, and all that its device and an endpoint need. */
static void fake_memory_probe(struct kunit *test)
{
	struct fake_test *t = test->priv;
	bool bound, accepted, injected = true;
	unsigned int nth, failed = 0;
	int warnings = 0;

	test_needs_unsafe(t, "unregisters an IOMMU twice");
	for (nth = 1; nth < MEMORY_MAX_NTH && injected; nth++) {
		test_create(t, &memory_config);
		memory_endpoints(t, 1);
		kunit_warning_suppress(test) {
			int ret;

			current->fail_nth = nth;
			ret = fake_register(t->fake);
			injected = !current->fail_nth;
			current->fail_nth = 0;
			bound = !ret && fake_bound(t->fake);
			warnings += KUNIT_SUPPRESSED_WARNING_COUNT();
		}
		failed += injected;
		accepted = fake_endpoint_translated(&t->endpoints[0].fake);
		if (!bound)
			KUNIT_EXPECT_EQ_MSG(test, t->fake->stats.reset.attached, 0,
					    "allocation %u failed: ids are attached at the reset",
					    nth);
		if (!injected)
			KUNIT_EXPECT_TRUE(test, bound && accepted);
		if (bound) {
			t->bypass = t->fake->model.bypass;
			test_expect_agree(t, "after registering");
		}
		if (bound && !accepted) {
			test_unplug(t, 0);
			KUNIT_EXPECT_TRUE(test, test_plug(t, 0));
			test_expect_agree(t, "after plugging in again");
		}
		test_stop(t);
	}
	KUNIT_EXPECT_LT(test, nth, MEMORY_MAX_NTH);
	KUNIT_EXPECT_GT_MSG(test, failed, 0, "no allocation failed");
	kunit_info(test, "%u allocations were made to fail, %d warnings", failed,
		   warnings);
	KUNIT_EXPECT_EQ(test, warnings, 0);
}

#ifdef CONFIG_PM_SLEEP
/* A suspend that fails changes nothing, and a resume that fails can be repeated. */
static void fake_memory_resume(struct kunit *test)
{
	struct memory_run run = { .t = test->priv };
	struct fake_test *t = test->priv;
	unsigned int nth, failed = 0;
	bool injected = true;
	int warnings = 0;

	test_needs_unsafe(t, "spins for ever after it resumes");
	memory_start(&run, 0);
	for (nth = 1; nth < MEMORY_MAX_NTH && injected; nth++) {
		int freeze, restore = 0;

		kunit_warning_suppress(test) {
			current->fail_nth = nth;
			freeze = virtio_device_freeze(&t->fake->vdev);
			if (!freeze)
				restore = virtio_device_restore(&t->fake->vdev);
			injected = !current->fail_nth;
			current->fail_nth = 0;
			warnings += KUNIT_SUPPRESSED_WARNING_COUNT();
		}
		failed += injected;
		if (!injected)
			KUNIT_EXPECT_EQ(test, freeze ?: restore, 0);
		if (restore)
			restore = virtio_device_restore(&t->fake->vdev);
		KUNIT_EXPECT_EQ(test, restore, 0);
		test_expect_no_violation(t);
		if (!test_agree(t)) {
			KUNIT_FAIL(test, "allocation %u failed: %s", nth,
				   t->difference);
			break;
		}
	}
	KUNIT_EXPECT_LT(test, nth, MEMORY_MAX_NTH);
	KUNIT_EXPECT_GT_MSG(test, failed, 0, "no allocation failed");
	kunit_info(test, "%u allocations were made to fail, %d warnings", failed,
		   warnings);
	KUNIT_EXPECT_EQ(test, warnings, 0);
}
#endif

static struct kunit_case fake_memory_cases[] = {
	KUNIT_CASE_PARAM(fake_memory, memory_gen_params),
	KUNIT_CASE_SLOW(fake_memory_probe),
#ifdef CONFIG_PM_SLEEP
	KUNIT_CASE(fake_memory_resume),
#endif
	{}
};

static struct kunit_suite fake_memory_suite = {
	.name = "viommu_fake_memory",
	.init = memory_init,
	.exit = memory_exit,
	.test_cases = fake_memory_cases,
};

kunit_test_suite(fake_memory_suite);

#endif
