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

/* Finds the rule for the next request of a type. The device is locked. */
struct fake_rule *fake_match(struct fake_viommu *fake, u8 type)
{
	struct fake_rule *match = NULL, *rule;

	for (rule = fake->rules; rule < fake->rules + fake->nr_rules; rule++) {
		if (rule->type != FAKE_ANY && rule->type != type)
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
