// SPDX-License-Identifier: GPL-2.0
/*
 * The configuration of the fake device, and what the driver does with it.
 */
#include "fake.h"

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
	if (bypass)
		fake_note(fake, &fake->stats.opened);
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
