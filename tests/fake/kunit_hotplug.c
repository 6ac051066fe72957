// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is plugged in and out, under an identity domain that is made of it. A
 * DIMM of the guest's is there, and nobody has put it online.
 */
#include <linux/kernfs.h>
#include <linux/kobject.h>
#include <linux/memory.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>
#include <linux/sysfs.h>

#include "tests.h"

#define NR_BLOCKS	1024

/* A block of the DIMM */
static unsigned int hotplug_block;

/*
 * Reads /sys/devices/system/memory/memoryN/state or, with @set, writes it. What is
 * read has a newline at its end.
 */
static int hotplug_state(unsigned int block, char *show, const char *set)
{
	struct kset *devices = platform_bus.kobj.kset;
	struct kernfs_node *attr;
	struct kobject *kobj;
	char name[16];
	int ret = -ENOENT;

	scnprintf(name, sizeof(name), "memory%u", block);
	kobj = kset_find_obj(devices, name);
	if (!kobj)
		return ret;
	attr = kernfs_find_and_get(kobj->sd, "state");
	if (attr) {
		if (set)
			ret = kobj->ktype->sysfs_ops->store(kobj, attr->priv,
							    set, strlen(set));
		else
			ret = kobj->ktype->sysfs_ops->show(kobj, attr->priv,
							   show);
		kernfs_put(attr);
	}
	kobject_put(kobj);
	return min(ret, 0);
}

static int hotplug_set(const char *state)
{
	return hotplug_state(hotplug_block, NULL, state);
}

static bool hotplug_is_offline(unsigned int block)
{
	char *state = (char *)get_zeroed_page(GFP_KERNEL);
	bool offline;

	offline = state && !hotplug_state(block, state, NULL) &&
		  !strcmp(state, "offline\n");
	free_page((unsigned long)state);
	return offline;
}

/* How much of the block an endpoint reaches, in pages of 64 KiB. */
static unsigned int hotplug_reached(struct fake_test *t, unsigned int index)
{
	u32 id = t->endpoints[index].fake.ids[0];
	struct model_domain *domain = model_endpoint(&t->fake->model, id)->domain;
	u64 size = memory_block_size_bytes(), first = hotplug_block * size;
	struct model_mapping *mapping;
	unsigned int reached = 0;
	u64 address;

	if (!domain)
		return 0;
	list_for_each_entry(mapping, &domain->mappings, node) {
		for (address = first; address < first + size; address += SZ_64K)
			reached += address >= mapping->first &&
				   address <= mapping->last;
	}
	return reached;
}

static void hotplug_expect(struct fake_test *t, unsigned int index, bool all,
			   const char *when)
{
	unsigned int pages = memory_block_size_bytes() / SZ_64K;

	KUNIT_EXPECT_EQ_MSG(t->test, hotplug_reached(t, index), all ? pages : 0,
			    "endpoint %u, %s", index, when);
	test_expect_agree(t, when);
}

/* A device without bypass domains. Its first endpoint is in an identity domain. */
static void hotplug_start(struct fake_test *t, u32 quirks)
{
	struct fake_config config = fake_default_config;

	test_needs_unsafe(t, "is blocked on such a device");
	config.features &= ~BIT_ULL(VIRTIO_IOMMU_F_BYPASS_CONFIG);
	config.quirks |= quirks;
	test_start(t, &config, 2);
	KUNIT_ASSERT_EQ(t->test,
			fake_group_type(&t->endpoints[0].fake, "identity"), 0);
}

/* On a device that maps RAM alone, an identity domain has what is online, and no more. */
static void fake_hotplug_follows(struct kunit *test)
{
	struct fake_test *t = test->priv;

	hotplug_start(t, FAKE_RAM_ONLY);
	hotplug_expect(t, 0, false, "before");
	KUNIT_ASSERT_EQ(test, hotplug_set("online_movable"), 0);
	hotplug_expect(t, 0, true, "online");
	KUNIT_ASSERT_EQ(test,
			fake_group_type(&t->endpoints[1].fake, "identity"), 0);
	hotplug_expect(t, 1, true, "online before there was a domain");

	KUNIT_ASSERT_EQ(test, hotplug_set("offline"), 0);
	hotplug_expect(t, 0, false, "offline");
	hotplug_expect(t, 1, false, "offline");
	KUNIT_ASSERT_EQ(test, hotplug_set("online_movable"), 0);
	hotplug_expect(t, 0, true, "online again");
	hotplug_expect(t, 1, true, "online again");
}

/* What cannot be mapped does not get online, and is in no domain; the next try works. */
static void fake_hotplug_refused(struct kunit *test)
{
	struct fake_test *t = test->priv;

	hotplug_start(t, FAKE_RAM_ONLY);
	KUNIT_ASSERT_EQ(test,
			fake_group_type(&t->endpoints[1].fake, "identity"), 0);
	/* One domain has it already then. */
	test_rule(t, &(struct fake_rule) {
		FAKE_RULE(VIRTIO_IOMMU_T_MAP), .skip = 1, .no_effect = true,
		.status = VIRTIO_IOMMU_S_NOMEM });
	test_log_mark(t);
	KUNIT_EXPECT_LT(test, hotplug_set("online_movable"), 0);
	KUNIT_EXPECT_TRUE(test, hotplug_is_offline(hotplug_block));
	KUNIT_EXPECT_TRUE_MSG(test, test_log_says(t, "stays offline"),
			      "refused without a word");
	hotplug_expect(t, 0, false, "refused");
	hotplug_expect(t, 1, false, "refused");

	test_clear_rules(t);
	KUNIT_ASSERT_EQ(test, hotplug_set("online_movable"), 0);
	hotplug_expect(t, 0, true, "mapped at last");
	hotplug_expect(t, 1, true, "mapped at last");
}

/* What came and went while the device did not have the domain is right when it has. */
static void fake_hotplug_absent(struct kunit *test)
{
	struct fake_test *t = test->priv;
	struct test_domain *domain;

	hotplug_start(t, FAKE_RAM_ONLY);
	domain = test_alloc(t, 0);
	KUNIT_ASSERT_NOT_NULL(test, domain);
	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_ASSERT_EQ(test, hotplug_set("online_movable"), 0);
	hotplug_expect(t, 0, false, "in another domain");
	test_detach(t, 0);
	hotplug_expect(t, 0, true, "back");

	KUNIT_ASSERT_EQ(test, test_attach(t, 0, domain), 0);
	KUNIT_ASSERT_EQ(test, hotplug_set("offline"), 0);
	test_detach(t, 0);
	hotplug_expect(t, 0, false, "back again");
#ifdef CONFIG_PM_SLEEP
	KUNIT_ASSERT_EQ(test, hotplug_set("online_movable"), 0);
	KUNIT_ASSERT_EQ(test, virtio_device_freeze(&t->fake->vdev), 0);
	KUNIT_ASSERT_EQ(test, virtio_device_restore(&t->fake->vdev), 0);
	hotplug_expect(t, 0, true, "resumed");
#endif
}

/* Where all of the aperture is mapped, memory makes no difference. */
static void fake_hotplug_all(struct kunit *test)
{
	struct fake_test *t = test->priv;
	unsigned int maps, unmaps;

	hotplug_start(t, 0);
	hotplug_expect(t, 0, true, "before");
	maps = fake_requests(t->fake, VIRTIO_IOMMU_T_MAP);
	unmaps = fake_requests(t->fake, VIRTIO_IOMMU_T_UNMAP);
	KUNIT_ASSERT_EQ(test, hotplug_set("online_movable"), 0);
	hotplug_expect(t, 0, true, "online");
	KUNIT_ASSERT_EQ(test, hotplug_set("offline"), 0);
	hotplug_expect(t, 0, true, "offline");
	KUNIT_EXPECT_EQ(test, fake_requests(t->fake, VIRTIO_IOMMU_T_MAP), maps);
	KUNIT_EXPECT_EQ(test, fake_requests(t->fake, VIRTIO_IOMMU_T_UNMAP),
			unmaps);
}

static int hotplug_init(struct kunit *test)
{
	for (hotplug_block = 0; hotplug_block < NR_BLOCKS; hotplug_block++) {
		if (hotplug_is_offline(hotplug_block))
			return fake_test_init(test);
	}
	kunit_skip(test, "needs memory that is offline");
}

static void hotplug_exit(struct kunit *test)
{
	fake_test_exit(test);
	if (hotplug_block < NR_BLOCKS && !hotplug_is_offline(hotplug_block))
		KUNIT_EXPECT_EQ(test, hotplug_set("offline"), 0);
}

static struct kunit_case fake_hotplug_cases[] = {
	KUNIT_CASE(fake_hotplug_follows),
	KUNIT_CASE(fake_hotplug_refused),
	KUNIT_CASE(fake_hotplug_absent),
	KUNIT_CASE(fake_hotplug_all),
	{}
};

static struct kunit_suite fake_hotplug_suite = {
	.name = "viommu_fake_hotplug",
	.init = hotplug_init,
	.exit = hotplug_exit,
	.test_cases = fake_hotplug_cases,
};

kunit_test_suite(fake_hotplug_suite);
