// SPDX-License-Identifier: GPL-2.0
/*
 * Do the test, the driver and the device agree about what is attached and mapped?
 *
 * The test knows what it asked for and was granted. The driver is asked with
 * iommu_iova_to_phys(). The device's part is its model. What the device has attached
 * beyond this is a disagreement, and so is a global bypass that has changed.
 */
#include "tests.h"

__printf(2, 3) static bool test_differs(struct fake_test *t, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vscnprintf(t->difference, sizeof(t->difference), fmt, args);
	va_end(args);
	return false;
}

static u32 test_map_flags(int prot)
{
	return (prot & IOMMU_READ ? VIRTIO_IOMMU_MAP_F_READ : 0) |
	       (prot & IOMMU_WRITE ? VIRTIO_IOMMU_MAP_F_WRITE : 0) |
	       (prot & IOMMU_MMIO ? VIRTIO_IOMMU_MAP_F_MMIO : 0);
}

/* Finds the domain of all ids of an endpoint. Returns false if they differ. */
static bool test_model_of(struct fake_test *t, unsigned int index,
			  struct model_domain **domain)
{
	struct fake_endpoint *endpoint = &t->endpoints[index].fake;
	bool found = false;
	unsigned int i;

	for (i = 0; i < endpoint->nr_ids; i++) {
		struct model_endpoint *model =
			model_endpoint(&t->fake->model, endpoint->ids[i]);

		if (!model)
			return test_differs(t, "the device has no endpoint %u",
					    endpoint->ids[i]);
		if (endpoint->denies[i])
			continue;
		if (found && *domain != model->domain)
			return test_differs(t, "ids of endpoint %u are in different domains",
					    index);
		*domain = model->domain;
		found = true;
	}
	return true;
}

/* An endpoint in its default domain, or in none of the test's. */
static bool test_agree_default(struct fake_test *t, unsigned int index,
			       unsigned int type, struct model_domain *domain)
{
	struct model_mapping *mapping;

	if (type == IOMMU_DOMAIN_IDENTITY) {
		if (!domain)
			return test_differs(t, "endpoint %u: identity, but detached",
					    index);
		if (domain->bypass)
			return true;
		list_for_each_entry(mapping, &domain->mappings, node) {
			if (mapping->phys != mapping->first)
				return test_differs(t, "identity of %u: %#llx is at %#llx",
						    index, mapping->first,
						    mapping->phys);
		}
		if (list_empty(&domain->mappings))
			return test_differs(t, "endpoint %u: identity, but blocked",
					    index);
		return true;
	}
	if (!domain) {
		if (type == IOMMU_DOMAIN_BLOCKED && !fake_bypasses(t->fake))
			return true;
		return test_differs(t, "endpoint %u is detached", index);
	}
	if (domain->bypass)
		return test_differs(t, "endpoint %u bypasses the IOMMU", index);
	if (!list_empty(&domain->mappings) &&
	    !t->endpoints[index].uses_dma_api)
		return test_differs(t, "endpoint %u: stray mapping at %#llx",
				    index,
				    list_first_entry(&domain->mappings,
						     struct model_mapping,
						     node)->first);
	return true;
}

static bool test_agree_endpoint(struct fake_test *t, unsigned int index,
				unsigned int type)
{
	struct test_domain *expected = t->endpoints[index].domain;
	struct model_domain *domain = NULL;
	unsigned int i;

	if (!test_model_of(t, index, &domain))
		return false;
	if (!expected)
		return test_agree_default(t, index, type, domain);
	if (!domain)
		return test_differs(t, "endpoint %u is detached", index);
	if (domain->bypass)
		return test_differs(t, "endpoint %u bypasses the IOMMU", index);
	if (expected->model && expected->model != domain)
		return test_differs(t, "endpoint %u is in domain %u, not in %u",
				    index, domain->id, expected->model->id);
	for (i = 0; i < TEST_MAX_DOMAINS; i++) {
		struct test_domain *other = t->domains[i];

		if (other && other != expected && other->model == domain)
			return test_differs(t, "endpoint %u is in another domain's %u",
					    index, domain->id);
	}
	expected->model = domain;
	return true;
}

/* The domain that an endpoint is in, by the first id that the device knows. */
static struct model_domain *test_model_first(struct fake_test *t,
					     unsigned int index)
{
	struct fake_endpoint *endpoint = &t->endpoints[index].fake;
	unsigned int i = 0;

	while (i + 1 < endpoint->nr_ids && endpoint->denies[i])
		i++;
	return model_endpoint(&t->fake->model, endpoint->ids[i])->domain;
}

/* A paging domain has a number of its own. */
static bool test_agree_numbers(struct fake_test *t,
			       struct iommu_domain * const domains[])
{
	unsigned int i, j;

	for (i = 0; i < TEST_MAX_ENDPOINTS; i++) {
		if (!domains[i] || !(domains[i]->type & __IOMMU_DOMAIN_PAGING))
			continue;
		for (j = 0; j < TEST_MAX_ENDPOINTS; j++) {
			if (domains[j] && domains[j] != domains[i] &&
			    test_model_first(t, i) == test_model_first(t, j))
				return test_differs(t, "endpoints %u and %u are both in domain %u",
						    i, j,
						    test_model_first(t, i)->id);
		}
	}
	return true;
}

/* Whether an endpoint that the IOMMU core has accepted has this id. */
static bool test_has_id(struct fake_test *t, u32 id)
{
	struct fake_endpoint *endpoint;
	unsigned int i, j;

	for (i = 0; i < TEST_MAX_ENDPOINTS; i++) {
		endpoint = &t->endpoints[i].fake;
		for (j = 0; j < endpoint->nr_ids; j++) {
			if (endpoint->ids[j] == id &&
			    fake_endpoint_translated(endpoint))
				return true;
		}
	}
	return false;
}

/* Nothing else is attached. Domains are there with their endpoints, and mappings with both. */
static bool test_agree_rest(struct fake_test *t)
{
	struct model *model = &t->fake->model;
	unsigned int i;

	if (model->bypass != t->bypass)
		return test_differs(t, "the global bypass is %u", model->bypass);
	for (i = 0; i < FAKE_MAX_ENDPOINTS; i++) {
		struct model_endpoint *endpoint = &model->endpoints[i];

		if (endpoint->present && endpoint->domain &&
		    !t->stays_attached && !test_has_id(t, endpoint->id))
			return test_differs(t, "%u is in domain %u, but is no endpoint",
					    endpoint->id, endpoint->domain->id);
	}
	return true;
}

/* What the device has mapped in the slots of a domain. */
static bool test_read_model(struct fake_test *t, struct test_domain *domain)
{
	u64 end = domain->base + TEST_SLOTS * t->granule - 1;
	struct model_mapping *mapping;
	struct test_slot *slot;
	u64 offset;

	memset(t->scratch, 0, TEST_SLOTS * sizeof(*t->scratch));
	list_for_each_entry(mapping, &domain->model->mappings, node) {
		if (mapping->first < domain->base || mapping->last > end)
			return test_differs(t, "stray mapping %#llx-%#llx",
					    mapping->first, mapping->last);
		for (offset = 0; offset <= mapping->last - mapping->first;
		     offset += t->granule) {
			slot = t->scratch + (mapping->first + offset -
					     domain->base) / t->granule;
			slot->chunk = 1;
			slot->prot = mapping->flags;
			slot->phys = mapping->phys + offset;
		}
	}
	return true;
}

static bool test_agree_model(struct fake_test *t, struct test_domain *domain)
{
	unsigned int i;

	if (!test_read_model(t, domain))
		return false;
	for (i = 0; i < TEST_SLOTS; i++) {
		struct test_slot *slot = &domain->slots[i];
		u64 iova = domain->base + i * t->granule;

		if (!slot->chunk != !t->scratch[i].chunk)
			return test_differs(t, "%#llx is %smapped in the device",
					    iova, slot->chunk ? "not " : "");
		if (!slot->chunk)
			continue;
		if (slot->phys != t->scratch[i].phys)
			return test_differs(t, "%#llx is at %#llx in the device, not at %#llx",
					    iova, t->scratch[i].phys,
					    slot->phys);
		if (test_map_flags(slot->prot) != t->scratch[i].prot)
			return test_differs(t, "%#llx is mapped with flags %#x in the device",
					    iova, t->scratch[i].prot);
	}
	return true;
}

static bool test_agree_driver(struct fake_test *t, struct test_domain *domain)
{
	unsigned int i;

	for (i = 0; i < TEST_SLOTS; i++) {
		struct test_slot *slot = &domain->slots[i];
		u64 offset = t->granule - 1 - i % t->granule;
		u64 iova = domain->base + i * t->granule + offset;
		u64 phys = iommu_iova_to_phys(domain->domain, iova);

		if (phys != (slot->chunk ? slot->phys + offset : 0))
			return test_differs(t, "%#llx is at %#llx, says the driver",
					    iova, phys);
	}
	return true;
}

/* Returns false, and says why in t->difference, if they do not agree. */
bool test_agree(struct fake_test *t)
{
	struct iommu_domain *domains[TEST_MAX_ENDPOINTS] = {};
	unsigned int types[TEST_MAX_ENDPOINTS];
	bool agree = true;
	unsigned long flags;
	unsigned int i;

	for (i = 0; i < TEST_MAX_ENDPOINTS; i++) {
		if (fake_endpoint_translated(&t->endpoints[i].fake))
			domains[i] = iommu_get_domain_for_dev(test_dev(t, i));
		if (t->endpoints[i].refused)
			domains[i] = NULL;
		types[i] = domains[i] ? domains[i]->type : IOMMU_DOMAIN_BLOCKED;
		if (t->endpoints[i].claimed)
			types[i] = IOMMU_DOMAIN_BLOCKED;
	}
	for (i = 0; i < TEST_MAX_DOMAINS && agree; i++) {
		if (t->domains[i]) {
			t->domains[i]->model = NULL;
			agree = test_agree_driver(t, t->domains[i]);
		}
	}

	spin_lock_irqsave(&t->fake->lock, flags);
	for (i = 0; i < TEST_MAX_ENDPOINTS && agree; i++) {
		if (fake_endpoint_translated(&t->endpoints[i].fake) &&
		    !t->endpoints[i].refused)
			agree = test_agree_endpoint(t, i, types[i]);
	}
	for (i = 0; i < TEST_MAX_DOMAINS && agree; i++) {
		if (t->domains[i] && t->domains[i]->model)
			agree = test_agree_model(t, t->domains[i]);
	}
	agree = agree && test_agree_numbers(t, domains) && test_agree_rest(t);
	spin_unlock_irqrestore(&t->fake->lock, flags);
	return agree;
}

void test_expect_agree(struct fake_test *t, const char *when)
{
	if (!test_agree(t))
		KUNIT_FAIL(t->test, "%s: %s", when, t->difference);
	if (!t->violations_expected)
		test_expect_no_violation(t);
}

/* Fails for each violation of the specification, once. */
void test_expect_no_violation(struct fake_test *t)
{
	unsigned int i, nr;

	nr = min_t(unsigned int, t->fake->nr_violations, FAKE_MAX_VIOLATIONS);
	for (i = 0; i < nr; i++)
		KUNIT_FAIL(t->test, "violation: %s", t->fake->violations[i]);
	if (t->fake->nr_violations > nr)
		KUNIT_FAIL(t->test, "and %u violations more",
			   t->fake->nr_violations - nr);
	t->fake->nr_violations = 0;
}
