// SPDX-License-Identifier: GPL-2.0
/*
 * Each kind of request, by the operation of the IOMMU core that makes a driver send it,
 * and each way in which a driver's use of the device ends.
 */
#include <linux/ktime.h>

#include "tests.h"

const char * const operation_names[] = {
	"PROBE", "ATTACH", "MAP", "UNMAP", "DETACH",
};

/* As they appear in messages */
static const char * const operation_words[] = {
	"probe", "attach", "map", "unmap", "detach",
};

const u8 operation_types[] = {
	VIRTIO_IOMMU_T_PROBE, VIRTIO_IOMMU_T_ATTACH, VIRTIO_IOMMU_T_MAP,
	VIRTIO_IOMMU_T_UNMAP, VIRTIO_IOMMU_T_DETACH,
};

/*
 * An honest device with what the operations need: endpoint 0 is in a domain where slot 0
 * is mapped, endpoint 1 is in none of the test's, and endpoint 2 is not plugged in yet.
 */
void operation_start(struct operation_run *run, struct fake_test *t)
{
	*run = (struct operation_run) { .t = t, .slot = 2 };
	run->domain = test_start_domain(t, NULL, 2);
	KUNIT_ASSERT_EQ(t->test, test_attach(t, 0, run->domain), 0);
	KUNIT_ASSERT_EQ(t->test, test_map(t, run->domain, 0, 1, 0, TEST_RW), 0);
}

/* Runs an operation. Returns 0 if its caller was told that it worked. */
int operation_run(struct operation_run *run, enum operation operation)
{
	struct fake_test *t = run->t;
	u64 iova = run->domain->base + run->slot * t->granule;
	ktime_t start = ktime_get();
	int ret = 0;

	switch (operation) {
	case OP_PROBE:
		ret = test_plug(t, 2) ? 0 : -ENODEV;
		break;
	case OP_ATTACH:
		ret = test_attach(t, 1, run->domain);
		break;
	case OP_MAP:
		ret = test_map(t, run->domain, run->slot++, 1, 0, TEST_RW);
		break;
	case OP_UNMAP:
		/* Slot 0 was mapped at the start. */
		iova = run->domain->base;
		iommu_unmap(run->domain->domain, iova, t->granule);
		test_forget(run->domain, 0, 1);
		break;
	case OP_DETACH:
		test_unplug(t, 1);
		break;
	case NR_OPERATIONS:
		break;
	}
	run->longest_ms = max(run->longest_ms,
			      ktime_ms_delta(ktime_get(), start));
	return ret;
}

/* Whether its caller is told that it failed. */
bool operation_tells(enum operation operation)
{
	return operation != OP_UNMAP && operation != OP_DETACH;
}

/* Whether a failure that its caller is not told of is reported. */
bool operation_reported(struct fake_test *t, enum operation operation)
{
	return operation == OP_ATTACH || operation == OP_MAP ||
	       test_log_says(t, operation_words[operation]) ||
	       test_log_says(t, operation_names[operation]);
}

const char * const ending_names[] = { "shutdown", "removal", "suspend" };

static void ending_shutdown(struct device *dev)
{
	device_lock(dev);
	dev->bus->shutdown(dev);
	device_unlock(dev);
}

void ending_run(struct fake_test *t, enum ending ending)
{
	switch (ending) {
	case END_SHUTDOWN:
		ending_shutdown(&t->fake->vdev.dev);
		break;
	case END_REMOVAL:
		fake_unregister(t->fake);
		test_forget_endpoints(t);
		break;
#ifdef CONFIG_PM_SLEEP
	case END_SUSPEND:
		KUNIT_EXPECT_EQ(t->test, virtio_device_freeze(&t->fake->vdev),
				0);
		break;
#endif
	case NR_ENDINGS:
		break;
	}
}
