// SPDX-License-Identifier: GPL-2.0
/*
 * The model: domains, endpoints and mappings as virtio 1.3, 5.13.6 defines them.
 *
 * A domain exists while an endpoint is attached to it, and its mappings with it.
 * Everything is protected by the lock of the device that it belongs to, and
 * nothing is allocated after model_init().
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "fake.h"

int model_init(struct model *model)
{
	unsigned int i;

	model->pool = kvcalloc(FAKE_MAX_MAPPINGS, sizeof(*model->pool),
			       GFP_KERNEL);
	if (!model->pool)
		return -ENOMEM;
	INIT_LIST_HEAD(&model->free);
	for (i = 0; i < FAKE_MAX_MAPPINGS; i++)
		list_add_tail(&model->pool[i].node, &model->free);
	for (i = 0; i < FAKE_MAX_DOMAINS; i++)
		INIT_LIST_HEAD(&model->domains[i].mappings);
	return 0;
}

void model_destroy(struct model *model)
{
	kvfree(model->pool);
}

struct model_endpoint *model_endpoint(struct model *model, u32 id)
{
	struct model_endpoint *endpoint;

	for (endpoint = model->endpoints;
	     endpoint < model->endpoints + FAKE_MAX_ENDPOINTS; endpoint++) {
		if (endpoint->present && endpoint->id == id)
			return endpoint;
	}
	return NULL;
}

/* Makes the device know an endpoint, if it does not already. */
struct model_endpoint *model_add_endpoint(struct model *model, u32 id)
{
	struct model_endpoint *endpoint = model_endpoint(model, id);

	if (endpoint)
		return endpoint;
	for (endpoint = model->endpoints;
	     endpoint < model->endpoints + FAKE_MAX_ENDPOINTS; endpoint++) {
		if (!endpoint->present) {
			memset(endpoint, 0, sizeof(*endpoint));
			endpoint->present = true;
			endpoint->id = id;
			return endpoint;
		}
	}
	return NULL;
}

/* Whether a range has an address that is reserved for an endpoint. */
bool model_is_reserved(const struct model_endpoint *endpoint, u64 first,
		       u64 last)
{
	const struct fake_region *region;

	for (region = endpoint->regions;
	     region < endpoint->regions + endpoint->nr_regions; region++) {
		if (region->first <= last && region->last >= first)
			return true;
	}
	return false;
}

struct model_domain *model_domain(struct model *model, u32 id)
{
	struct model_domain *domain;

	for (domain = model->domains;
	     domain < model->domains + FAKE_MAX_DOMAINS; domain++) {
		if (domain->endpoints && domain->id == id)
			return domain;
	}
	return NULL;
}

static void model_free(struct model *model, struct model_mapping *mapping)
{
	list_move(&mapping->node, &model->free);
	model->nr_mappings--;
}

static void model_leave(struct model *model, struct model_endpoint *endpoint)
{
	struct model_domain *domain = endpoint->domain;
	struct model_mapping *mapping, *next;

	endpoint->domain = NULL;
	if (!domain || --domain->endpoints)
		return;
	list_for_each_entry_safe(mapping, next, &domain->mappings, node)
		model_free(model, mapping);
}

/* All attachments are gone. */
void model_forget(struct model *model)
{
	unsigned int i;

	for (i = 0; i < FAKE_MAX_ENDPOINTS; i++)
		model_leave(model, &model->endpoints[i]);
}

/* A driver's reset: attachments are gone, the global bypass stays. */
void model_reset(struct model *model)
{
	struct model_domain *domain;
	struct model_mapping *mapping;
	unsigned int i;

	for (i = 0; i < FAKE_MAX_ENDPOINTS; i++)
		model->endpoints[i].touched = false;
	if (!(model->quirks & FAKE_RESET_KEEPS)) {
		model_forget(model);
		return;
	}
	for (domain = model->domains;
	     domain < model->domains + FAKE_MAX_DOMAINS; domain++) {
		domain->old = domain->endpoints;
		list_for_each_entry(mapping, &domain->mappings, node)
			mapping->old = true;
	}
}

static struct model_domain *model_new_domain(struct model *model, u32 id,
					     bool bypass)
{
	struct model_domain *domain;

	for (domain = model->domains;
	     domain < model->domains + FAKE_MAX_DOMAINS; domain++) {
		if (!domain->endpoints) {
			domain->id = id;
			domain->bypass = bypass;
			domain->old = false;
			return domain;
		}
	}
	return NULL;
}

/* Finds an endpoint for ATTACH or DETACH. */
static struct model_endpoint *model_known(struct model *model, u32 id)
{
	struct model_endpoint *endpoint = model_endpoint(model, id);

	if (!endpoint && model->quirks & FAKE_ANY_ID)
		endpoint = model_add_endpoint(model, id);
	if (endpoint && endpoint->denies & FAKE_DENIES_ATTACH &&
	    !(model->quirks & FAKE_ANY_ID))
		return NULL;
	return endpoint;
}

/* Whether the device does not let an endpoint go. */
static bool model_holds(struct model *model, struct model_endpoint *endpoint)
{
	if (!endpoint->domain)
		return false;
	return model->quirks & FAKE_DETACH_NEVER ||
	       (model->quirks & FAKE_DETACH_ALONE &&
		endpoint->domain->endpoints > 1);
}

u8 model_attach(struct model *model, u32 id, u32 endpoint_id, bool bypass)
{
	struct model_endpoint *endpoint = model_known(model, endpoint_id);
	struct model_domain *domain;

	if (!endpoint)
		return VIRTIO_IOMMU_S_NOENT;
	if (model_holds(model, endpoint))
		return VIRTIO_IOMMU_S_UNSUPP;

	if (model->quirks & FAKE_KIND_LEAVES)
		model_leave(model, endpoint);
	domain = model_domain(model, id);
	if (domain && domain->bypass != bypass &&
	    !(model->quirks & FAKE_KIND_JOINS))
		return VIRTIO_IOMMU_S_INVAL;
	if (domain && domain == endpoint->domain &&
	    model->quirks & FAKE_REATTACH_KEEPS)
		return VIRTIO_IOMMU_S_OK;

	/*
	 * "The device SHOULD behave as if the driver issued a DETACH request
	 * with this endpoint, followed by the ATTACH request." Also with the
	 * domain that the endpoint is in.
	 */
	model_leave(model, endpoint);
	domain = model_domain(model, id);
	if (!domain)
		domain = model_new_domain(model, id, bypass);
	if (!domain)
		return VIRTIO_IOMMU_S_NOMEM;
	domain->endpoints++;
	endpoint->domain = domain;
	return VIRTIO_IOMMU_S_OK;
}

u8 model_detach(struct model *model, u32 id, u32 endpoint_id)
{
	struct model_endpoint *endpoint = model_known(model, endpoint_id);
	bool lenient = model->quirks & FAKE_DETACH_LENIENT;

	if (!endpoint)
		return VIRTIO_IOMMU_S_NOENT;
	if (!endpoint->domain && !lenient)
		return model->quirks & FAKE_DETACH_NOENT ?
		       VIRTIO_IOMMU_S_NOENT : VIRTIO_IOMMU_S_INVAL;
	if (endpoint->domain && endpoint->domain->id != id && !lenient)
		return VIRTIO_IOMMU_S_INVAL;
	if (model_holds(model, endpoint))
		return VIRTIO_IOMMU_S_UNSUPP;
	model_leave(model, endpoint);
	return VIRTIO_IOMMU_S_OK;
}

u8 model_map(struct model *model, u32 id, u64 first, u64 last, u64 phys,
	     u32 flags)
{
	struct model_domain *domain = model_domain(model, id);
	struct model_mapping *mapping, *new;
	struct list_head *after;

	if (!domain)
		return VIRTIO_IOMMU_S_NOENT;
	if (domain->bypass)
		return VIRTIO_IOMMU_S_INVAL;
	if (last == U64_MAX && model->quirks & FAKE_TOP_RANGE)
		return VIRTIO_IOMMU_S_RANGE;

	/* Mappings mostly come in ascending order. */
	after = &domain->mappings;
	list_for_each_entry_reverse(mapping, &domain->mappings, node) {
		if (mapping->first <= last) {
			if (mapping->last >= first)
				return VIRTIO_IOMMU_S_INVAL;
			after = &mapping->node;
			break;
		}
	}

	new = list_first_entry_or_null(&model->free, struct model_mapping,
				       node);
	if (!new)
		return VIRTIO_IOMMU_S_NOMEM;
	new->first = first;
	new->last = last;
	new->phys = phys;
	new->flags = flags;
	new->old = false;
	list_move(&new->node, after);
	model->nr_mappings++;
	return VIRTIO_IOMMU_S_OK;
}

u8 model_unmap(struct model *model, u32 id, u64 first, u64 last)
{
	struct model_domain *domain = model_domain(model, id);
	struct model_mapping *mapping, *next;

	if (!domain)
		return VIRTIO_IOMMU_S_NOENT;
	if (domain->bypass)
		return VIRTIO_IOMMU_S_INVAL;
	if (!first && last == U64_MAX && model->quirks & FAKE_TOP_RANGE)
		return VIRTIO_IOMMU_S_RANGE;

	/* "it MUST NOT remove any mapping" if it would have to split one. */
	list_for_each_entry(mapping, &domain->mappings, node) {
		if (mapping->last < first || mapping->first > last)
			continue;
		if (mapping->first < first || mapping->last > last)
			return VIRTIO_IOMMU_S_RANGE;
	}
	list_for_each_entry_safe(mapping, next, &domain->mappings, node) {
		if (mapping->last >= first && mapping->first <= last)
			model_free(model, mapping);
	}
	return VIRTIO_IOMMU_S_OK;
}
