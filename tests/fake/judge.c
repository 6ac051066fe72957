// SPDX-License-Identifier: GPL-2.0
/*
 * What a driver is to be blamed for where a device may have been somebody else's before.
 */
#include "fake.h"

/* What somebody else mapped is nothing that an endpoint should reach now. */
void fake_check_old(struct fake_viommu *fake,
		    const struct model_endpoint *endpoint)
{
	struct model_mapping *mapping;

	list_for_each_entry(mapping, &endpoint->domain->mappings, node) {
		if (mapping->old) {
			fake_violation(fake, "ATTACH: %u to domain %u, over old mappings",
				       endpoint->id, endpoint->domain->id);
			return;
		}
	}
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
