// SPDX-License-Identifier: GPL-2.0
/*
 * The script: which requests are answered otherwise than an honest device would.
 */
#include "fake.h"

/* Adds a rule. Of several that match a request, the oldest answers it. */
struct fake_rule *fake_add_rule(struct fake_viommu *fake,
				const struct fake_rule *rule)
{
	struct fake_rule *new = NULL;
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	if (fake->nr_rules < FAKE_MAX_RULES) {
		new = &fake->rules[fake->nr_rules++];
		*new = *rule;
	}
	spin_unlock_irqrestore(&fake->lock, flags);
	WARN_ON(!new);
	return new;
}

void fake_clear_rules(struct fake_viommu *fake)
{
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	fake->nr_rules = 0;
	spin_unlock_irqrestore(&fake->lock, flags);
}

/* Whether a request is about an endpoint, or a domain that it is in. */
static bool fake_concerns(struct fake_viommu *fake,
			  const struct fake_request *request, u32 id)
{
	struct model_endpoint *endpoint = model_endpoint(&fake->model, id);

	switch (request->req.type) {
	case VIRTIO_IOMMU_T_ATTACH:
		return le32_to_cpu(request->attach.endpoint) == id;
	case VIRTIO_IOMMU_T_DETACH:
		return le32_to_cpu(request->detach.endpoint) == id;
	case VIRTIO_IOMMU_T_PROBE:
		return le32_to_cpu(request->probe.endpoint) == id;
	case VIRTIO_IOMMU_T_MAP:
	case VIRTIO_IOMMU_T_UNMAP:
		return endpoint && endpoint->domain &&
		       endpoint->domain->id == le32_to_cpu(request->map.domain);
	}
	return false;
}

/* Finds the rule for the next request. The device is locked. */
struct fake_rule *fake_match(struct fake_viommu *fake,
			     const struct fake_request *request)
{
	struct fake_rule *match = NULL, *rule;
	u8 type = request->req.type;

	for (rule = fake->rules; rule < fake->rules + fake->nr_rules; rule++) {
		if (rule->type != FAKE_ANY && rule->type != type)
			continue;
		if (rule->endpoint &&
		    !fake_concerns(fake, request, rule->endpoint))
			continue;
		if (rule->seen++ < rule->skip || match)
			continue;
		if (rule->times && rule->hits >= rule->times)
			continue;
		rule->hits++;
		match = rule;
	}
	return match;
}

/* A hook: somebody waits for the request to reach the device, with a completion. */
void fake_seen(struct fake_viommu *fake, struct fake_request *request, void *arg)
{
	complete(arg);
}

/* How many requests of a type there were; FAKE_ANY: of all types. */
unsigned int fake_requests(struct fake_viommu *fake, u8 type)
{
	unsigned int i, sum = 0;
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	for (i = 0; i < ARRAY_SIZE(fake->stats.requests); i++) {
		if (type == FAKE_ANY || type == i)
			sum += fake->stats.requests[i];
	}
	spin_unlock_irqrestore(&fake->lock, flags);
	return sum;
}
