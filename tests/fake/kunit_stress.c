// SPDX-License-Identifier: GPL-2.0
/*
 * Concurrency: several CPUs map, unmap, flush, attach, change types, plug and unplug,
 * and take faults at once. At the end all have to agree.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/kthread.h>
#include <linux/moduleparam.h>

#include "tests.h"

static unsigned int stress_seconds = 3;
module_param(stress_seconds, uint, 0644);
MODULE_PARM_DESC(stress_seconds, "How long the concurrency test runs");

/* Each mapper has its own slots; all but the last share a domain. */
#define MAPPERS		3
#define MAPPER_SLOTS	100
/* What has a flush queue: endpoint 4 */
#define STRESS_LAZY	4
#define LAZY_BUFFERS	16

struct stress {
	struct fake_test *t;
	struct test_domain *shared;	/* has an endpoint all the time */
	struct test_domain *lone;	/* has one now and then, and gets its mappings anew */
	void *memory;		/* for DMA */
	unsigned int operations;
	unsigned int failures;
};

struct stress_mapper {
	struct stress *stress;
	struct test_domain *tested;
	unsigned int first;
	u32 seed;
};

static void stress_count(struct stress *stress, bool done)
{
	/* Approximate: only to be looked at by people. */
	data_race(stress->operations++);
	if (!done)
		WRITE_ONCE(stress->failures, READ_ONCE(stress->failures) + 1);
}

static int stress_map(void *data)
{
	struct stress_mapper *mapper = data;
	struct stress *stress = mapper->stress;
	struct iommu_domain *domain = mapper->tested->domain;
	u64 granule = stress->t->granule;
	struct rnd_state rnd;
	unsigned int i;

	prandom_seed_state(&rnd, mapper->seed);
	while (!kthread_should_stop()) {
		unsigned int nr = 1 + prandom_u32_state(&rnd) % MAPPER_SLOTS;
		u64 base = mapper->tested->base + mapper->first * granule;

		for (i = 0; i < nr; i++)
			stress_count(stress,
				     !iommu_map(domain, base + i * granule,
						i * granule * 2, granule,
						TEST_RW, GFP_KERNEL));
		for (i = 0; i < nr; i++)
			stress_count(stress,
				     iommu_iova_to_phys(domain,
							base + i * granule) ==
				     i * granule * 2);
		stress_count(stress, iommu_unmap(domain, base, nr * granule) ==
				     nr * granule);
		cond_resched();
	}
	return 0;
}

/* A driver that uses the DMA API, with a flush queue */
static int stress_dma(void *data)
{
	struct stress *stress = data;
	struct device *dev = test_dev(stress->t, STRESS_LAZY);
	dma_addr_t addrs[LAZY_BUFFERS];
	struct rnd_state rnd;
	unsigned int i;
	size_t size;

	prandom_seed_state(&rnd, 1);
	while (!kthread_should_stop()) {
		size = (1 + prandom_u32_state(&rnd) % 4) * PAGE_SIZE;
		for (i = 0; i < LAZY_BUFFERS; i++) {
			addrs[i] = dma_map_single(dev, stress->memory, size,
						  DMA_TO_DEVICE);
			stress_count(stress, !dma_mapping_error(dev, addrs[i]));
		}
		for (i = 0; i < LAZY_BUFFERS; i++) {
			if (!dma_mapping_error(dev, addrs[i]))
				dma_unmap_single(dev, addrs[i], size,
						 DMA_TO_DEVICE);
		}
		cond_resched();
	}
	return 0;
}

/* Endpoint 1 comes to one of the domains and leaves it. */
static int stress_attach(void *data)
{
	struct stress *stress = data;
	struct device *dev = test_dev(stress->t, 1);
	unsigned int i = 0;

	while (!kthread_should_stop()) {
		struct iommu_domain *domain = i++ % 2 ? stress->shared->domain :
							stress->lone->domain;

		stress_count(stress, !iommu_attach_device(domain, dev));
		usleep_range(50, 500);
		iommu_detach_device(domain, dev);
		usleep_range(50, 500);
	}
	return 0;
}

/* Endpoint 2 changes its type. */
static int stress_type(void *data)
{
	static const char * const types[] = { "identity", "DMA", "DMA-FQ" };
	struct stress *stress = data;
	unsigned int i = 0;

	while (!kthread_should_stop()) {
		stress_count(stress,
			     !fake_group_type(&stress->t->endpoints[2].fake,
					      types[i++ % 3]));
		usleep_range(50, 500);
	}
	return 0;
}

/* Endpoint 3 is unplugged and plugged in again. */
static int stress_plug(void *data)
{
	struct stress *stress = data;
	struct fake_endpoint *endpoint = &stress->t->endpoints[3].fake;

	while (!kthread_should_stop()) {
		fake_unplug(endpoint);
		usleep_range(50, 500);
		stress_count(stress,
			     !fake_plug(stress->t->fake, endpoint) &&
			     fake_endpoint_translated(endpoint));
	}
	return 0;
}

static int stress_events(void *data)
{
	struct virtio_iommu_fault fault = {
		.reason = VIRTIO_IOMMU_FAULT_R_MAPPING,
	};
	struct stress *stress = data;
	unsigned int i = 0;

	while (!kthread_should_stop()) {
		struct test_endpoint *endpoint =
			&stress->t->endpoints[i++ % 4];

		fault.endpoint = cpu_to_le32(endpoint->fake.ids[0]);
		fake_event(stress->t->fake, &fault, sizeof(fault),
			   sizeof(fault));
		usleep_range(1000, 2000);
	}
	return 0;
}

static void stress_run(struct kunit *test, bool async)
{
	struct task_struct *threads[MAPPERS + 5];
	int (*const functions[])(void *) = {
		stress_attach, stress_type, stress_plug, stress_events,
		stress_dma,
	};
	struct stress_mapper mappers[MAPPERS];
	struct fake_test *t = test->priv;
	struct stress stress = { .t = t };
	unsigned int i, buffers, nr_functions = ARRAY_SIZE(functions);

	/* What flushes may wait with interrupts off, on the CPU that is to answer. */
	if (async)
		nr_functions--;
	stress.memory = kunit_kmalloc(test, 4 * PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, stress.memory);
	stress.shared = test_start_domain(t, NULL, STRESS_LAZY + 1);
	KUNIT_ASSERT_EQ(test, fake_group_type(&t->endpoints[STRESS_LAZY].fake,
					      "DMA-FQ"), 0);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, stress.shared), 0);
	stress.lone = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(test, stress.lone);
	buffers = fake_event_buffers(t->fake);
	t->fake->async = async;

	for (i = 0; i < MAPPERS; i++) {
		mappers[i] = (struct stress_mapper) {
			.stress = &stress, .first = i * MAPPER_SLOTS,
			.tested = i < MAPPERS - 1 ? stress.shared : stress.lone,
			.seed = i,
		};
		threads[i] = kthread_run(stress_map, &mappers[i],
					 "viommu-map%u", i);
	}
	for (i = 0; i < nr_functions; i++)
		threads[MAPPERS + i] = kthread_run(functions[i], &stress,
						   "viommu-fake%u", i);
	ssleep(stress_seconds);
	for (i = 0; i < MAPPERS + nr_functions; i++) {
		if (!IS_ERR(threads[i]))
			kthread_stop(threads[i]);
	}

	t->fake->async = false;
	kunit_info(test, "%u operations, %u requests, %u notifications",
		   stress.operations, fake_requests(t->fake, FAKE_ANY),
		   t->fake->stats.notifications);
	KUNIT_EXPECT_EQ(test, stress.failures, 0);
	/* The last of the flush queue goes with its domain. */
	KUNIT_EXPECT_EQ(test, fake_group_type(&t->endpoints[STRESS_LAZY].fake,
					      "DMA"), 0);
	KUNIT_EXPECT_EQ(test, fake_event_buffers(t->fake), buffers);
	test_expect_agree(t, "at the end");
}

/* Everything at once, answered where it is notified. */
static void fake_stress(struct kunit *test)
{
	stress_run(test, false);
}

/* Another CPU answers, which with a driver that spins needs two. */
static void fake_stress_async(struct kunit *test)
{
	if (num_online_cpus() < 2)
		kunit_skip(test, "needs a second CPU");
	test_needs_unsafe(test->priv, "CPUs may wait for each other");
	stress_run(test, true);
}

static struct kunit_case fake_stress_cases[] = {
	KUNIT_CASE_SLOW(fake_stress),
	KUNIT_CASE_SLOW(fake_stress_async),
	{}
};

static struct kunit_suite fake_stress_suite = {
	.name = "viommu_fake_stress",
	.init = fake_test_init,
	.exit = fake_test_exit,
	.test_cases = fake_stress_cases,
};

kunit_test_suite(fake_stress_suite);
