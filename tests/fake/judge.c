// SPDX-License-Identifier: GPL-2.0
/*
 * What a driver is to be blamed for where a device may have been somebody else's before.
 */
#include "fake.h"

/*
 * What somebody else mapped is nothing that an endpoint should reach now, and what is
 * reserved for it should not be mapped.
 */
void fake_check_mappings(struct fake_viommu *fake,
			 const struct model_endpoint *endpoint)
{
	struct model_mapping *mapping;
	const char *what = NULL;

	list_for_each_entry(mapping, &endpoint->domain->mappings, node) {
		if (mapping->old)
			what = "old mappings";
		else if (model_is_reserved(endpoint, mapping->first,
					   mapping->last))
			what = "reserved addresses that are mapped";
	}
	if (what)
		fake_violation(fake, "ATTACH: %u to domain %u, over %s",
			       endpoint->id, endpoint->domain->id, what);
}

/*
 * "The range SHOULD cover one or more contiguous mappings." What a rule refused to map is
 * not there, and neither is what went with a domain's last endpoint. So it is counted
 * only until then, and the test knows whether there may be any.
 */
void fake_note_unmap(struct fake_viommu *fake, u32 domain_id, u64 first,
		     u64 last)
{
	struct model_domain *domain = model_domain(&fake->model, domain_id);
	struct model_mapping *mapping, *before = NULL;
	bool hole = false;

	if (!domain || domain->bypass || domain->old || fake->lied)
		return;
	list_for_each_entry(mapping, &domain->mappings, node) {
		if (mapping->last < first || mapping->first > last)
			continue;
		hole |= before && mapping->first != before->last + 1;
		before = mapping;
	}
	fake->stats.loose_unmaps += hole || !before;
}

/* Whether numbers come back soon, so that a driver may empty a domain before it uses one. */
static bool fake_is_narrow(struct fake_viommu *fake)
{
	return fake->config.domain_end - fake->config.domain_start < 16;
}

/*
 * Whether a driver may detach an endpoint from where it is not: it cannot know what was
 * there before it, and does not see into a domain that somebody else has left.
 */
bool fake_may_detach(struct fake_viommu *fake, u32 domain_id, u32 endpoint_id)
{
	struct model_endpoint *endpoint = model_endpoint(&fake->model,
							 endpoint_id);
	struct model_domain *domain = model_domain(&fake->model, domain_id);

	return endpoint && (!endpoint->touched || fake_is_narrow(fake) ||
			    (domain && domain->old));
}

/* Whether a driver may ask for what it gets refused: what was there before it? */
static bool fake_may_ask(struct fake_viommu *fake,
			 const struct fake_request *request, u8 status)
{
	const struct fake_config *config = &fake->config;
	struct model_endpoint *endpoint;
	struct model_domain *domain;
	u64 size;

	switch (request->req.type) {
	case VIRTIO_IOMMU_T_PROBE:
		return status == VIRTIO_IOMMU_S_NOENT;
	case VIRTIO_IOMMU_T_ATTACH:
		endpoint = model_endpoint(&fake->model,
					  le32_to_cpu(request->attach.endpoint));
		domain = model_domain(&fake->model,
				      le32_to_cpu(request->attach.domain));
		return (endpoint && endpoint->denies) || (domain && domain->old);
	case VIRTIO_IOMMU_T_DETACH:
		return fake_may_detach(fake,
				       le32_to_cpu(request->detach.domain),
				       le32_to_cpu(request->detach.endpoint));
	case VIRTIO_IOMMU_T_UNMAP:
		/* Everything of a domain, which turns out not to be one with mappings */
		domain = model_domain(&fake->model,
				      le32_to_cpu(request->unmap.domain));
		size = le64_to_cpu(request->unmap.virt_end) -
		       le64_to_cpu(request->unmap.virt_start);
		return (!domain || domain->old) &&
		       size >= (config->input_end - config->input_start) / 2;
	}
	return false;
}

/* Counts what was refused, although no rule asked for it. */
void fake_refused(struct fake_viommu *fake, const struct fake_request *request,
		  u8 status)
{
	u8 type = request->req.type;

	if (fake_may_ask(fake, request, status))
		return;
	fake->stats.refusals++;
	fake->stats.refused_type = type;
	fake->stats.refused_status = status;
}
