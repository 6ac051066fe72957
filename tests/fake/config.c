// SPDX-License-Identifier: GPL-2.0
/*
 * The configuration of the fake device, and what the driver does with it.
 */
#include "fake.h"

/* Whether there is a field: it may belong to a feature that is not offered. */
static bool fake_has_field(const struct fake_viommu *fake, unsigned int offset)
{
	u64 features = fake->config.features;

	if (offset >= offsetof(struct virtio_iommu_config, bypass))
		return features & BIT_ULL(VIRTIO_IOMMU_F_BYPASS_CONFIG);
	if (offset >= offsetof(struct virtio_iommu_config, probe_size))
		return features & BIT_ULL(VIRTIO_IOMMU_F_PROBE);
	if (offset >= offsetof(struct virtio_iommu_config, domain_range))
		return features & BIT_ULL(VIRTIO_IOMMU_F_DOMAIN_RANGE);
	if (offset >= offsetof(struct virtio_iommu_config, input_range))
		return features & BIT_ULL(VIRTIO_IOMMU_F_INPUT_RANGE);
	return true;
}

/* What the driver has chosen. "The driver SHOULD accept any of" these. */
void fake_check_features(struct fake_viommu *fake)
{
	u64 useful = BIT_ULL(VIRTIO_IOMMU_F_INPUT_RANGE) |
		     BIT_ULL(VIRTIO_IOMMU_F_DOMAIN_RANGE) |
		     BIT_ULL(VIRTIO_IOMMU_F_PROBE);
	u64 declined = fake->config.features & useful & ~fake->driver_features;

	if (declined)
		fake_violation(fake, "features %#llx were not accepted", declined);
	if (fake->driver_features & ~fake->config.features)
		fake_violation(fake, "features %#llx were not offered",
			       fake->driver_features & ~fake->config.features);
}

void fake_get(struct virtio_device *vdev, unsigned int offset, void *buf,
	      unsigned int len)
{
	struct fake_viommu *fake = to_fake(vdev);

	fake->stats.config_reads++;
	if (offset + len > sizeof(fake->space)) {
		fake_violation(fake, "configuration read at %u+%u", offset, len);
		memset(buf, 0xff, len);
		return;
	}
	if (!fake_has_field(fake, offset) ||
	    !fake_has_field(fake, offset + len - 1))
		fake_violation(fake, "configuration read at %u+%u, which is not offered",
			       offset, len);
	if (fake->config_hook)
		fake->config_hook(fake, offset);
	memcpy(buf, (u8 *)&fake->space + offset, len);
}

void fake_set(struct virtio_device *vdev, unsigned int offset, const void *buf,
	      unsigned int len)
{
	struct fake_viommu *fake = to_fake(vdev);
	u8 bypass = *(const u8 *)buf;
	unsigned long flags;

	fake->stats.config_writes++;
	if (!(fake->status & VIRTIO_CONFIG_S_FEATURES_OK))
		fake_violation(fake, "configuration write at status %#x",
			       fake->status);
	if (offset != offsetof(struct virtio_iommu_config, bypass) || len != 1) {
		fake_violation(fake, "configuration write at %u+%u", offset,
			       len);
		return;
	}
	if (!fake_negotiated(fake, VIRTIO_IOMMU_F_BYPASS_CONFIG)) {
		fake_violation(fake, "bypass written but not negotiated");
		return;
	}
	if (bypass > 1) {
		fake_violation(fake, "%u written to bypass", bypass);
		return;
	}
	spin_lock_irqsave(&fake->lock, flags);
	fake_note(fake, bypass ? &fake->stats.opened : &fake->stats.closed);
	fake->model.bypass = bypass;
	fake->space.bypass = bypass;
	spin_unlock_irqrestore(&fake->lock, flags);
}

/* Remembers a moment, before it changes anything. The device is locked. */
void fake_note(struct fake_viommu *fake, struct fake_moment *moment)
{
	struct model_endpoint *endpoint = fake->model.endpoints;
	unsigned int i;

	moment->times++;
	moment->bypass = fake->model.bypass;
	moment->attached = 0;
	for (i = 0; i < FAKE_MAX_ENDPOINTS; i++, endpoint++)
		moment->attached += endpoint->domain && endpoint->touched;
}

u32 fake_generation(struct virtio_device *vdev)
{
	return atomic_read(&to_fake(vdev)->generation);
}

/* Changes the configuration. Fields that are not offered become garbage. */
void fake_set_config(struct fake_viommu *fake, const struct fake_config *config)
{
	struct virtio_iommu_config space;
	unsigned long flags;

	memset(&space, 0xa5, sizeof(space));
	memset(space.reserved, 0, sizeof(space.reserved));
	space.page_size_mask = cpu_to_le64(config->page_size_mask);
	if (config->features & BIT_ULL(VIRTIO_IOMMU_F_INPUT_RANGE)) {
		space.input_range.start = cpu_to_le64(config->input_start);
		space.input_range.end = cpu_to_le64(config->input_end);
	}
	if (config->features & BIT_ULL(VIRTIO_IOMMU_F_DOMAIN_RANGE)) {
		space.domain_range.start = cpu_to_le32(config->domain_start);
		space.domain_range.end = cpu_to_le32(config->domain_end);
	}
	if (config->features & BIT_ULL(VIRTIO_IOMMU_F_PROBE))
		space.probe_size = cpu_to_le32(config->probe_size);
	if (config->features & BIT_ULL(VIRTIO_IOMMU_F_BYPASS_CONFIG))
		space.bypass = config->quirks & FAKE_BYPASS_READS_0 ?
			       0 : config->bypass;

	spin_lock_irqsave(&fake->lock, flags);
	fake->config = *config;
	fake->space = space;
	fake->model.bypass = config->bypass;
	fake->model.quirks = config->quirks;
	spin_unlock_irqrestore(&fake->lock, flags);
	atomic_inc(&fake->generation);
}

void fake_config_interrupt(struct irq_work *work)
{
	struct fake_viommu *fake = container_of(work, struct fake_viommu,
						config_irq);

	virtio_config_changed(&fake->vdev);
}

/* Interrupts the driver because of the configuration, and waits for the interrupt. */
void fake_config_changed(struct fake_viommu *fake)
{
	irq_work_queue(&fake->config_irq);
	irq_work_sync(&fake->config_irq);
}
