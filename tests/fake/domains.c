// SPDX-License-Identifier: GPL-2.0
/*
 * The IOMMU API, with a record of what should be mapped where.
 */
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "../../iommu-priv.h"
#include "tests.h"

struct device *test_dev(struct fake_test *t, unsigned int endpoint)
{
	return fake_endpoint_dev(&t->endpoints[endpoint].fake);
}

/* Allocates a paging domain. Returns NULL if the driver does not. */
struct test_domain *test_alloc(struct fake_test *t, unsigned int endpoint)
{
	struct test_domain *domain;
	unsigned int i;

	for (i = 0; i < TEST_MAX_DOMAINS && t->domains[i]; i++)
		;
	KUNIT_ASSERT_LT(t->test, i, TEST_MAX_DOMAINS);
	domain = kvzalloc_obj(*domain);
	KUNIT_ASSERT_NOT_NULL(t->test, domain);
	domain->base = TEST_BASE;
	domain->domain = iommu_paging_domain_alloc(test_dev(t, endpoint));
	if (IS_ERR(domain->domain)) {
		kvfree(domain);
		return NULL;
	}
	t->domains[i] = domain;
	return domain;
}

void test_free(struct fake_test *t, struct test_domain *domain)
{
	unsigned int i;

	for (i = 0; i < TEST_MAX_DOMAINS; i++) {
		if (t->domains[i] == domain)
			t->domains[i] = NULL;
	}
	iommu_domain_free(domain->domain);
	kvfree(domain);
}

int test_attach(struct fake_test *t, unsigned int endpoint,
		struct test_domain *domain)
{
	int ret = iommu_attach_device(domain->domain, test_dev(t, endpoint));

	if (!ret)
		t->endpoints[endpoint].domain = domain;
	return ret;
}

/* As iommufd does: from one domain to another, without blocking in between. */
int test_replace(struct fake_test *t, unsigned int endpoint,
		 struct test_domain *domain)
{
	struct test_endpoint *tested = &t->endpoints[endpoint];
	int ret;

	ret = iommu_replace_group_handle(test_dev(t, endpoint)->iommu_group,
					 domain->domain, &tested->handle);
	if (!ret)
		tested->domain = domain;
	return ret;
}

void test_detach(struct fake_test *t, unsigned int endpoint)
{
	struct test_endpoint *tested = &t->endpoints[endpoint];

	if (tested->handle.domain)
		iommu_detach_group_handle(tested->domain->domain,
					  test_dev(t, endpoint)->iommu_group);
	else
		iommu_detach_device(tested->domain->domain,
				    test_dev(t, endpoint));
	tested->domain = NULL;
	tested->handle.domain = NULL;
}

static void test_record(struct fake_test *t, struct test_domain *domain,
			unsigned int slot, unsigned int nr, u64 phys, int prot)
{
	unsigned int i;

	t->last_chunk++;
	for (i = 0; i < nr; i++) {
		domain->slots[slot + i] = (struct test_slot) {
			.chunk = t->last_chunk,
			.prot = prot,
			.phys = phys + i * t->granule,
		};
	}
}

int test_map(struct fake_test *t, struct test_domain *domain, unsigned int slot,
	     unsigned int nr, u64 phys, int prot)
{
	int ret = iommu_map(domain->domain, domain->base + slot * t->granule,
			    phys, nr * t->granule, prot, GFP_KERNEL);

	if (!ret)
		test_record(t, domain, slot, nr, phys, prot);
	return ret;
}

/* Maps @nr times @len granules, @stride granules apart. */
void test_map_each(struct fake_test *t, struct test_domain *domain,
		   unsigned int nr, unsigned int stride, unsigned int len)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		KUNIT_ASSERT_EQ(t->test,
				test_map(t, domain, i * stride, len,
					 TEST_PHYS + i * SZ_1M, TEST_RW), 0);
}

/* The elements have to consist of whole granules. */
int test_map_sg(struct fake_test *t, struct test_domain *domain,
		unsigned int slot, struct scatterlist *sg, unsigned int nents,
		int prot)
{
	struct scatterlist *element;
	unsigned int i, first = slot;
	size_t size = 0;
	ssize_t ret;

	for_each_sg(sg, element, nents, i)
		size += element->length;
	ret = iommu_map_sg(domain->domain, domain->base + slot * t->granule, sg,
			   nents, prot, GFP_KERNEL);
	if (ret < 0)
		return ret;
	if (ret != size)
		return -EPROTO;
	for_each_sg(sg, element, nents, i) {
		test_record(t, domain, slot, element->length / t->granule,
			    sg_phys(element), prot);
		slot += element->length / t->granule;
	}
	/* Physically contiguous elements may have become one mapping. */
	for (i = first; i < slot; i++)
		domain->slots[i].chunk = t->last_chunk;
	return 0;
}

/* Records that slots are not mapped any more. */
void test_forget(struct test_domain *domain, unsigned int slot, unsigned int nr)
{
	memset(&domain->slots[slot], 0, nr * sizeof(domain->slots[0]));
}

/* Returns the number of slots that the driver says it has unmapped. */
size_t test_unmap(struct fake_test *t, struct test_domain *domain,
		  unsigned int slot, unsigned int nr)
{
	size_t size = iommu_unmap(domain->domain,
				  domain->base + slot * t->granule,
				  nr * t->granule);

	nr = min_t(size_t, size / t->granule, TEST_SLOTS - slot);
	test_forget(domain, slot, nr);
	return size / t->granule;
}
