// SPDX-License-Identifier: GPL-2.0
/*
 * The transport of the fake device: configuration, features, status, queues.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/property.h>
#include <linux/slab.h>
#include <linux/virtio_ids.h>

#include "fake.h"

/* Records what the specification forbids a driver to do. Any context. */
void fake_violation(struct fake_viommu *fake, const char *fmt, ...)
{
	unsigned int nr = fake->nr_violations++;
	va_list args;

	if (nr >= FAKE_MAX_VIOLATIONS)
		return;
	va_start(args, fmt);
	vscnprintf(fake->violations[nr], sizeof(fake->violations[nr]), fmt,
		   args);
	va_end(args);
}

static u8 fake_get_status(struct virtio_device *vdev)
{
	return to_fake(vdev)->status;
}

static void fake_set_status(struct virtio_device *vdev, u8 status)
{
	struct fake_viommu *fake = to_fake(vdev);

	if (!status || (fake->status & ~status & ~VIRTIO_CONFIG_S_NEEDS_RESET))
		fake_violation(fake, "status %#x after %#x", status,
			       fake->status);
	if (status & VIRTIO_CONFIG_S_DRIVER)
		fake->saw_driver = true;
	if (status & ~fake->status & VIRTIO_CONFIG_S_FEATURES_OK)
		fake_check_features(fake);
	if (fake->refuse_features)
		status &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	fake->status = status | (fake->status & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void fake_reset(struct virtio_device *vdev)
{
	struct fake_viommu *fake = to_fake(vdev);
	unsigned long flags;
	unsigned int i, cpu;

	spin_lock_irqsave(&fake->lock, flags);
	if (fake->status & VIRTIO_CONFIG_S_DRIVER_OK) {
		fake_note(fake, &fake->stats.reset);
		fake->dead |= !!(fake->config.quirks & FAKE_RESET_KILLS);
	}
	fake->status = 0;
	fake->stats.resets++;
	fake->stopped = fake->dead;
	for (i = 0; i < FAKE_NR_VQS; i++)
		fake->vqs[i].ready = false;
	for (i = 0; i < FAKE_MAX_RING; i++) {
		list_del_init(&fake->requests[i].node);
		fake->requests[i].outstanding = false;
	}
	model_reset(&fake->model);
	spin_unlock_irqrestore(&fake->lock, flags);
	cancel_delayed_work_sync(&fake->unplug);
	wake_up_all(&fake->pace);
	for_each_possible_cpu(cpu)
		cancel_work_sync(&per_cpu_ptr(fake->workers, cpu)->work);
}

/* What the machine's reset does to the device; the driver's comes later, and by itself. */
void fake_machine_reset(struct fake_viommu *fake)
{
	unsigned long flags;

	spin_lock_irqsave(&fake->lock, flags);
	model_forget(&fake->model);
	spin_unlock_irqrestore(&fake->lock, flags);
	fake_set_config(fake, &fake->config);
}

/* Under the device's lock, no driver is bound or unbound at the same time. */
static void fake_expect_locked(struct virtio_device *vdev)
{
	if (!mutex_is_locked(&vdev->dev.mutex))
		fake_violation(to_fake(vdev),
			       "queues made or deleted with the device unlocked");
}

static void fake_del_vqs(struct virtio_device *vdev)
{
	struct fake_viommu *fake = to_fake(vdev);
	unsigned int i;

	fake_expect_locked(vdev);
	if (fake->status & VIRTIO_CONFIG_S_DRIVER_OK)
		fake_violation(fake, "queues deleted while the device runs");
	for (i = 0; i < FAKE_NR_VQS; i++)
		fake_vq_destroy(&fake->vqs[i]);
}

static int fake_find_vqs(struct virtio_device *vdev, unsigned int nvqs,
			 struct virtqueue *vqs[],
			 struct virtqueue_info vqs_info[],
			 struct irq_affinity *desc)
{
	struct fake_viommu *fake = to_fake(vdev);
	unsigned int i, index = 0;
	int ret;

	fake_expect_locked(vdev);
	if (fake->status & VIRTIO_CONFIG_S_DRIVER_OK)
		fake_violation(fake, "queues made while the device runs");
	for (i = 0; i < nvqs; i++) {
		vqs[i] = NULL;
		if (!vqs_info[i].name)
			continue;
		ret = -ENOENT;
		if (index < FAKE_NR_VQS && !fake->refuse_vqs)
			ret = fake_vq_create(fake, index++, &vqs_info[i],
					     &vqs[i]);
		if (ret) {
			fake_del_vqs(vdev);
			return ret;
		}
	}
	return 0;
}

static void fake_synchronize_cbs(struct virtio_device *vdev)
{
	fake_vq_sync(to_fake(vdev));
}

static u64 fake_get_features(struct virtio_device *vdev)
{
	return to_fake(vdev)->config.features;
}

static int fake_finalize_features(struct virtio_device *vdev)
{
	struct fake_viommu *fake = to_fake(vdev);

	vring_transport_features(vdev);
	fake->driver_features = vdev->features;
	return 0;
}

static const char *fake_bus_name(struct virtio_device *vdev)
{
	return dev_name(vdev->dev.parent);
}

static const struct virtio_config_ops fake_config_ops = {
	.get			= fake_get,
	.set			= fake_set,
	.generation		= fake_generation,
	.get_status		= fake_get_status,
	.set_status		= fake_set_status,
	.reset			= fake_reset,
	.find_vqs		= fake_find_vqs,
	.del_vqs		= fake_del_vqs,
	.synchronize_cbs	= fake_synchronize_cbs,
	.get_features		= fake_get_features,
	.finalize_features	= fake_finalize_features,
	.bus_name		= fake_bus_name,
};

static void fake_work(struct work_struct *work)
{
	struct fake_worker *worker = container_of(work, struct fake_worker,
						  work);
	struct fake_viommu *fake = worker->fake;

	if (fake->async_delay_us)
		udelay(fake->async_delay_us);
	if (!fake->async_pace_ms)
		fake_answer_available(fake, UINT_MAX);
	else
		while (fake_answer_available(fake, 1))
			wait_event_timeout(fake->pace,
					   !READ_ONCE(fake->vqs[FAKE_REQUEST_VQ].ready),
					   msecs_to_jiffies(fake->async_pace_ms));
}

static void fake_vdev_release(struct device *dev)
{
	complete(&to_fake(dev_to_virtio(dev))->released);
}

static int fake_alloc(struct fake_viommu *fake)
{
	unsigned int i, cpu;
	int ret;

	fake->workers = alloc_percpu(struct fake_worker);
	if (!fake->workers)
		return -ENOMEM;
	for_each_possible_cpu(cpu) {
		struct fake_worker *worker = per_cpu_ptr(fake->workers, cpu);

		worker->fake = fake;
		INIT_WORK(&worker->work, fake_work);
	}

	/* The whole address space takes two ranges. */
	fake->iotlb = vhost_iotlb_alloc(2, 0);
	if (!fake->iotlb)
		return -ENOMEM;
	ret = vhost_iotlb_add_range(fake->iotlb, 0, ULONG_MAX, 0, VHOST_MAP_RW);
	if (ret)
		return ret;
	fake->requests = kvcalloc(FAKE_MAX_RING, sizeof(*fake->requests),
				  GFP_KERNEL);
	if (!fake->requests)
		return -ENOMEM;
	for (i = 0; i < FAKE_MAX_RING; i++)
		INIT_LIST_HEAD(&fake->requests[i].node);
	return model_init(&fake->model);
}

static void fake_free(struct fake_viommu *fake)
{
	if (fake->parent)
		platform_device_unregister(fake->parent);
	if (!IS_ERR_OR_NULL(fake->fwnode))
		fwnode_remove_software_node(fake->fwnode);
	model_destroy(&fake->model);
	kvfree(fake->requests);
	if (fake->iotlb)
		vhost_iotlb_free(fake->iotlb);
	free_percpu(fake->workers);
	kfree(fake);
}

/* Makes a device that no driver knows yet. */
struct fake_viommu *fake_create(const struct fake_config *config)
{
	struct platform_device_info info = {
		.name = "fake-viommu",
		.id = PLATFORM_DEVID_AUTO,
	};
	struct fake_viommu *fake;
	unsigned int i;
	int ret;

	fake = kzalloc_obj(*fake);
	if (!fake)
		return ERR_PTR(-ENOMEM);
	init_completion(&fake->released);
	spin_lock_init(&fake->lock);
	spin_lock_init(&fake->iotlb_lock);
	INIT_LIST_HEAD(&fake->done);
	INIT_LIST_HEAD(&fake->held);
	init_irq_work(&fake->config_irq, fake_config_interrupt);
	init_waitqueue_head(&fake->pace);
	INIT_DELAYED_WORK(&fake->unplug, fake_unplug_late);
	fake->unplugged_after_ms = FAKE_SILENCE_MS;
	INIT_DELAYED_WORK(&fake->dma_works, fake_dma_works);
	fake_find_ram(fake);
	for (i = 0; i < FAKE_NR_VQS; i++) {
		fake->vqs[i].fake = fake;
		fake->vqs[i].index = i;
	}
	ret = fake_alloc(fake);
	if (ret)
		goto err_free;

	/* What the endpoints name as their IOMMU */
	fake->fwnode = fwnode_create_software_node(NULL, NULL);
	if (IS_ERR(fake->fwnode)) {
		ret = PTR_ERR(fake->fwnode);
		goto err_free;
	}
	info.fwnode = fake->fwnode;
	fake->parent = platform_device_register_full(&info);
	if (IS_ERR(fake->parent)) {
		ret = PTR_ERR(fake->parent);
		fake->parent = NULL;
		goto err_free;
	}
	fake_set_config(fake, config);
	return fake;

err_free:
	fake_free(fake);
	return ERR_PTR(ret);
}

/* Shows the device to its driver, which probes it. */
int fake_register(struct fake_viommu *fake)
{
	int ret;

	fake->vdev.dev.parent = &fake->parent->dev;
	fake->vdev.dev.release = fake_vdev_release;
	fake->vdev.config = &fake_config_ops;
	/* Used only with VIRTIO_F_ACCESS_PLATFORM */
	platform_set_drvdata(fake->parent, fake);
	fake->vdev.map = &fake_map_ops;
	fake->vdev.id.device = VIRTIO_ID_IOMMU;
	ret = register_virtio_device(&fake->vdev);
	if (ret) {
		put_device(&fake->vdev.dev);
		wait_for_completion(&fake->released);
		return ret;
	}
	strscpy(fake->name, dev_name(&fake->vdev.dev));
	fake->registered = true;
	fake->was_registered = true;
	return 0;
}

/* Takes the device away from its driver. */
void fake_unregister(struct fake_viommu *fake)
{
	if (!fake->registered)
		return;
	fake->registered = false;
	unregister_virtio_device(&fake->vdev);
	irq_work_sync(&fake->config_irq);
	cancel_delayed_work_sync(&fake->unplug);
	cancel_delayed_work_sync(&fake->dma_works);
}

/*
 * Frees the device. Returns false if the driver, or a domain of it, still holds
 * it; the memory is then left to whoever that is.
 */
bool fake_destroy(struct fake_viommu *fake)
{
	fake_unregister(fake);
	if (fake->was_registered &&
	    !wait_for_completion_timeout(&fake->released, 5 * HZ))
		return false;
	fake_free(fake);
	return true;
}

/* Whether a driver is bound. */
bool fake_bound(struct fake_viommu *fake)
{
	return fake->registered && fake->vdev.dev.driver;
}

const char *fake_name(struct fake_viommu *fake)
{
	return fake->name;
}

MODULE_IMPORT_NS("IOMMUFD_INTERNAL");
MODULE_DESCRIPTION("Fake virtio-iommu device for KUnit tests");
MODULE_LICENSE("GPL");
