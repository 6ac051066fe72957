// SPDX-License-Identifier: GPL-2.0
/*
 * Conformance, by random sequences. After each step the test, the driver and the
 * device have to agree. A failure names the seed and the step; seed= repeats it.
 */
#include <linux/dma-mapping.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "tests.h"

static unsigned int seed;
module_param(seed, uint, 0644);
MODULE_PARM_DESC(seed, "Seed of the first random sequence; 0: a random one");

static unsigned int sequences = 60;
module_param(sequences, uint, 0644);
MODULE_PARM_DESC(sequences, "Number of random sequences");

static unsigned int steps = 60;
module_param(steps, uint, 0644);
MODULE_PARM_DESC(steps, "Steps of each random sequence");

#define NR_ENDPOINTS	4
#define NR_DOMAINS	4
#define NR_PAGES	64
#define NR_ELEMENTS	12

struct random_run {
	struct fake_test *t;
	struct rnd_state rnd;
	struct page **pages;
	char last[128];		/* the last step */
	unsigned int refused;	/* steps */
};

static unsigned int pick(struct random_run *run, unsigned int below)
{
	return prandom_u32_state(&run->rnd) % below;
}

static void random_config(struct random_run *run, struct fake_config *config)
{
	static const unsigned int optional[] = {
		VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX,
		VIRTIO_IOMMU_F_INPUT_RANGE, VIRTIO_IOMMU_F_DOMAIN_RANGE,
		VIRTIO_IOMMU_F_PROBE, VIRTIO_IOMMU_F_MMIO,
		VIRTIO_IOMMU_F_BYPASS_CONFIG,
	};
	static const u64 masks[] = {
		~0xfffULL, SZ_4K, SZ_4K | SZ_2M | SZ_1G, SZ_1K | SZ_4K,
		~0x1ffULL,
	};
	unsigned int i;

	*config = fake_default_config;
	/* A real device is what it is. */
	if (config->quirks)
		return;
	for (i = 0; i < ARRAY_SIZE(optional); i++) {
		if (!pick(run, 4))
			config->features &= ~BIT_ULL(optional[i]);
	}
	config->page_size_mask = masks[pick(run, ARRAY_SIZE(masks))];
	config->ring_size = 4U << pick(run, 6);
	config->bypass = pick(run, 2);
	config->domain_start = pick(run, 3);
	if (!pick(run, 4))
		config->input_end = U64_MAX;
}

static struct test_domain *random_domain(struct random_run *run)
{
	struct test_domain **domains = run->t->domains;

	return domains[pick(run, NR_DOMAINS)];
}

static bool random_attached(struct random_run *run, struct test_domain *domain)
{
	unsigned int i;

	for (i = 0; i < NR_ENDPOINTS; i++) {
		if (run->t->endpoints[i].domain == domain)
			return true;
	}
	return false;
}

/* Finds up to @max slots in a row that are not mapped. */
static unsigned int random_hole(struct random_run *run,
				struct test_domain *domain, unsigned int max,
				unsigned int *first)
{
	unsigned int nr = 0, wanted = 1 + pick(run, max);

	*first = pick(run, TEST_SLOTS);
	while (nr < wanted && *first + nr < TEST_SLOTS &&
	       !domain->slots[*first + nr].chunk)
		nr++;
	return nr;
}

static int random_prot(struct random_run *run)
{
	static const int prots[] = {
		IOMMU_READ, IOMMU_WRITE, TEST_RW, TEST_RW | IOMMU_CACHE,
	};

	return prots[pick(run, ARRAY_SIZE(prots))];
}

static bool random_alloc(struct random_run *run)
{
	unsigned int i, endpoint = pick(run, NR_ENDPOINTS);
	struct test_domain *domain;

	for (i = 0; i < NR_DOMAINS && run->t->domains[i]; i++)
		;
	if (i == NR_DOMAINS ||
	    !fake_endpoint_translated(&run->t->endpoints[endpoint].fake))
		return true;
	scnprintf(run->last, sizeof(run->last), "alloc for %u", endpoint);
	domain = test_alloc(run->t, endpoint);
	if (!domain)
		return false;
	if (!pick(run, 4) && !(run->t->config.quirks & FAKE_TOP_RANGE))
		domain->base = domain->domain->geometry.aperture_end + 1 -
			       TEST_SLOTS * run->t->granule;
	return true;
}

static bool random_free(struct random_run *run)
{
	struct test_domain *domain = random_domain(run);

	if (!domain || random_attached(run, domain))
		return true;
	scnprintf(run->last, sizeof(run->last), "free");
	test_free(run->t, domain);
	return true;
}

static bool random_attach(struct random_run *run)
{
	unsigned int endpoint = pick(run, NR_ENDPOINTS);
	struct test_domain *domain = random_domain(run);

	if (!domain || run->t->endpoints[endpoint].domain ||
	    !fake_endpoint_translated(&run->t->endpoints[endpoint].fake))
		return true;
	scnprintf(run->last, sizeof(run->last), "attach %u", endpoint);
	return !test_attach(run->t, endpoint, domain);
}

static bool random_replace(struct random_run *run)
{
	unsigned int endpoint = pick(run, NR_ENDPOINTS);
	struct test_domain *domain = random_domain(run);

	if (!domain || !run->t->endpoints[endpoint].domain)
		return true;
	scnprintf(run->last, sizeof(run->last), "replace %u's", endpoint);
	return !test_replace(run->t, endpoint, domain);
}

static bool random_detach(struct random_run *run)
{
	unsigned int endpoint = pick(run, NR_ENDPOINTS);

	if (!run->t->endpoints[endpoint].domain)
		return true;
	scnprintf(run->last, sizeof(run->last), "detach %u", endpoint);
	test_detach(run->t, endpoint);
	return true;
}

static bool random_map(struct random_run *run)
{
	struct test_domain *domain = random_domain(run);
	unsigned int slot, nr;
	u64 phys;

	if (!domain)
		return true;
	nr = random_hole(run, domain, 40, &slot);
	if (!nr)
		return true;
	/* Sometimes of an alignment that allows large pages */
	phys = (u64)pick(run, SZ_1M) * run->t->granule;
	if (!pick(run, 3))
		phys = round_down(phys, SZ_2M) +
		       slot * run->t->granule % SZ_2M;
	scnprintf(run->last, sizeof(run->last), "map %u+%u to %#llx", slot, nr,
		  phys);
	return !test_map(run->t, domain, slot, nr, phys, random_prot(run));
}

static bool random_map_sg(struct random_run *run)
{
	unsigned int per_page = PAGE_SIZE / run->t->granule;
	struct test_domain *domain = random_domain(run);
	struct scatterlist sg[NR_ELEMENTS];
	unsigned int i, slot, nr;

	if (!domain)
		return true;
	nr = random_hole(run, domain, NR_ELEMENTS * per_page, &slot) / per_page;
	if (!nr)
		return true;
	sg_init_table(sg, nr);
	for (i = 0; i < nr; i++)
		sg_set_page(&sg[i], run->pages[pick(run, NR_PAGES)], PAGE_SIZE,
			    0);
	scnprintf(run->last, sizeof(run->last), "map_sg %u, %u pages", slot,
		  nr);
	return !test_map_sg(run->t, domain, slot, sg, nr, random_prot(run));
}

/* Unmaps whole mappings in a row; with some luck, a single one, or none. */
static bool random_unmap(struct random_run *run)
{
	struct test_domain *domain = random_domain(run);
	unsigned int slot, end, chunks = 1 + pick(run, 4);
	struct test_slot *slots;

	if (!domain)
		return true;
	slots = domain->slots;
	slot = pick(run, TEST_SLOTS);
	if (!slots[slot].chunk) {
		scnprintf(run->last, sizeof(run->last), "unmap nothing at %u",
			  slot);
		return !test_unmap(run->t, domain, slot, 1);
	}
	while (slot && slots[slot - 1].chunk == slots[slot].chunk)
		slot--;
	for (end = slot; end < TEST_SLOTS && slots[end].chunk && chunks;
	     end++) {
		if (end + 1 == TEST_SLOTS ||
		    slots[end + 1].chunk != slots[end].chunk)
			chunks--;
	}
	scnprintf(run->last, sizeof(run->last), "unmap %u+%u", slot,
		  end - slot);
	return test_unmap(run->t, domain, slot, end - slot) == end - slot;
}

/* What is mapped over something else is refused. */
static bool random_overlap(struct random_run *run)
{
	struct test_domain *domain = random_domain(run);
	unsigned int slot, nr;

	if (!domain)
		return true;
	slot = pick(run, TEST_SLOTS);
	nr = min(1 + pick(run, 4), TEST_SLOTS - slot);
	if (!domain->slots[slot].chunk && !domain->slots[slot + nr - 1].chunk)
		return true;
	scnprintf(run->last, sizeof(run->last), "map over %u+%u", slot, nr);
	return test_map(run->t, domain, slot, nr, 0, TEST_RW) < 0;
}

/* A mapping goes as a whole, or not at all: the driver says which. */
static bool random_unmap_part(struct random_run *run)
{
	struct test_domain *domain = random_domain(run);
	unsigned int slot, nr;

	if (!domain)
		return true;
	slot = pick(run, TEST_SLOTS);
	nr = min(1 + pick(run, 8), TEST_SLOTS - slot);
	scnprintf(run->last, sizeof(run->last), "unmap any %u+%u", slot, nr);
	test_unmap(run->t, domain, slot, nr);
	return true;
}

/*
 * Through the DMA API: what it maps gets to the device. Without a flush queue, the timer
 * of which may unmap what a step has detached meanwhile.
 */
static bool random_dma(struct random_run *run)
{
	unsigned int endpoint = pick(run, NR_ENDPOINTS);
	struct test_endpoint *tested = &run->t->endpoints[endpoint];
	struct model_domain *domain;
	struct model_mapping *mapping;
	struct device *dev;
	unsigned long flags;
	bool found = false;
	dma_addr_t addr;

	if (tested->domain || tested->claimed ||
	    !fake_endpoint_translated(&tested->fake))
		return true;
	scnprintf(run->last, sizeof(run->last), "DMA of %u", endpoint);
	dev = test_dev(run->t, endpoint);
	if (iommu_get_domain_for_dev(dev)->type == IOMMU_DOMAIN_DMA_FQ)
		return true;
	tested->uses_dma_api = true;
	addr = dma_map_page(dev, run->pages[0], 0, PAGE_SIZE, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, addr))
		return false;
	spin_lock_irqsave(&run->t->fake->lock, flags);
	domain = model_endpoint(&run->t->fake->model,
				tested->fake.ids[0])->domain;
	if (domain && domain->bypass)
		found = true;
	else if (domain)
		list_for_each_entry(mapping, &domain->mappings, node)
			found |= mapping->first <= addr && mapping->last >= addr;
	spin_unlock_irqrestore(&run->t->fake->lock, flags);
	dma_unmap_page(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
	return found;
}

/* All is as it was after a suspend, which resets the device. */
static bool random_suspend(struct random_run *run)
{
#ifdef CONFIG_PM_SLEEP
	struct virtio_device *vdev = &run->t->fake->vdev;

	/* The C driver spins for ever after it resumes. */
	if (!test_is_unsafe() || pick(run, 4))
		return true;
	scnprintf(run->last, sizeof(run->last), "suspend");
	return !virtio_device_freeze(vdev) && !virtio_device_restore(vdev);
#else
	return true;
#endif
}

static bool random_plug(struct random_run *run)
{
	unsigned int endpoint = pick(run, NR_ENDPOINTS);

	if (run->t->endpoints[endpoint].fake.pdev) {
		/* Whoever uses a device like VFIO does releases it first. */
		if (run->t->endpoints[endpoint].domain)
			test_detach(run->t, endpoint);
		if (run->t->endpoints[endpoint].claimed)
			iommu_device_release_dma_owner(test_dev(run->t,
								endpoint));
		scnprintf(run->last, sizeof(run->last), "unplug %u", endpoint);
		test_unplug(run->t, endpoint);
		return true;
	}
	scnprintf(run->last, sizeof(run->last), "plug %u", endpoint);
	test_set_endpoint(run->t, endpoint, 1 + pick(run, 3));
	return test_plug(run->t, endpoint);
}

static bool random_type(struct random_run *run)
{
	static const char * const types[] = {
		"identity", "DMA", "DMA", "DMA-FQ", "auto",
	};
	unsigned int endpoint = pick(run, NR_ENDPOINTS);
	const char *type = types[pick(run, ARRAY_SIZE(types))];
	struct test_endpoint *tested = &run->t->endpoints[endpoint];

	if (tested->domain || tested->claimed ||
	    !fake_endpoint_translated(&tested->fake))
		return true;
	scnprintf(run->last, sizeof(run->last), "type of %u: %s", endpoint,
		  type);
	return !fake_group_type(&tested->fake, type);
}

static bool random_claim(struct random_run *run)
{
	unsigned int endpoint = pick(run, NR_ENDPOINTS);
	struct test_endpoint *tested = &run->t->endpoints[endpoint];

	if (tested->domain || !fake_endpoint_translated(&tested->fake))
		return true;
	scnprintf(run->last, sizeof(run->last), "%s %u",
		  tested->claimed ? "release" : "claim", endpoint);
	if (tested->claimed) {
		iommu_device_release_dma_owner(test_dev(run->t, endpoint));
		tested->claimed = false;
		return true;
	}
	tested->claimed = true;
	return !iommu_device_claim_dma_owner(test_dev(run->t, endpoint), run);
}

static bool (* const random_steps[])(struct random_run *run) = {
	random_alloc, random_alloc, random_free, random_attach, random_attach,
	random_replace, random_replace, random_detach,
	random_map, random_map, random_map, random_map,
	random_map_sg, random_map_sg, random_unmap, random_unmap, random_unmap,
	random_plug, random_type, random_claim,
	random_overlap, random_unmap_part, random_dma, random_suspend,
};

/* A request of a step that may fail. */
static bool random_refused(struct random_run *run,
			   bool (*step)(struct random_run *run))
{
	const struct fake_rule rule = {
		FAKE_RULE(pick(run, 2) ? VIRTIO_IOMMU_T_MAP :
					 VIRTIO_IOMMU_T_ATTACH),
		.skip = pick(run, 2) ? 0 : pick(run, 4), .no_effect = true,
		.status = VIRTIO_IOMMU_S_IOERR + pick(run, 8),
	};
	struct fake_rule *added = fake_add_rule(run->t->fake, &rule);
	bool done, refused;

	done = step(run);
	refused = added->hits;
	fake_clear_rules(run->t->fake);
	if (!refused)
		return done;
	run->refused++;
	strlcat(run->last, ", refused", sizeof(run->last));
	/* INVAL: a driver may have found another number. */
	if (rule.type == VIRTIO_IOMMU_T_ATTACH)
		return !done || rule.status == VIRTIO_IOMMU_S_INVAL;
	/* An identity domain may be made of memory alone. */
	return !done || step == random_type;
}

static bool random_step(struct random_run *run)
{
	bool (*step)(struct random_run *run) =
		random_steps[pick(run, ARRAY_SIZE(random_steps))];
	bool may_fail = step == random_attach || step == random_replace ||
			step == random_map || step == random_map_sg ||
			step == random_type;

	if (may_fail && !pick(run, 4))
		return random_refused(run, step);
	return step(run);
}

/* Returns false, and has reported it, if there is anything wrong. */
static bool random_sequence(struct random_run *run, u32 this_seed)
{
	struct fake_test *t = run->t;
	struct fake_config config;
	unsigned int step;

	prandom_seed_state(&run->rnd, this_seed);
	random_config(run, &config);
	test_start(t, &config, pick(run, NR_ENDPOINTS + 1));
	for (step = 0; step < steps; step++) {
		bool done;

		done = random_step(run);
		if (!done || !test_agree(t) || t->fake->nr_violations ||
		    t->fake->stats.refusals) {
			KUNIT_FAIL(t->test, "seed %u, step %u (%s): %s",
				   this_seed, step, run->last,
				   done ? t->difference : "failed");
			test_expect_no_violation(t);
			return false;
		}
	}
	test_stop(t);
	return true;
}

/* Random sequences of everything, over random devices. */
static void fake_random(struct kunit *test)
{
	u32 first = seed ?: get_random_u32() % 1000000 + 1;
	struct random_run *run;
	unsigned int i;

	run = kunit_kzalloc(test, sizeof(*run), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, run);
	run->t = test->priv;
	run->t->refuses_nothing = true;
	run->pages = kunit_kcalloc(test, NR_PAGES, sizeof(*run->pages),
				   GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, run->pages);
	for (i = 0; i < NR_PAGES; i++) {
		void *page = kunit_kmalloc(test, PAGE_SIZE, GFP_KERNEL);

		KUNIT_ASSERT_NOT_NULL(test, page);
		run->pages[i] = virt_to_page(page);
	}

	kunit_info(test, "seeds %u to %u, %u steps each", first,
		   first + sequences - 1, steps);
	for (i = 0; i < sequences; i++) {
		if (!random_sequence(run, first + i))
			break;
	}
	kunit_info(test, "%u steps were refused", run->refused);
}

static struct kunit_case fake_random_cases[] = {
	KUNIT_CASE_SLOW(fake_random),
	{}
};

static struct kunit_suite fake_random_suite = {
	.name = "viommu_fake_random",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_random_cases,
};

kunit_test_suite(fake_random_suite);
