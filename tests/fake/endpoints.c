// SPDX-License-Identifier: GPL-2.0
/*
 * Fake endpoints: platform devices without a driver, on a bus that the IOMMU
 * core watches. Their "firmware" names the fake device as their IOMMU.
 */
#include <linux/dma-mapping.h>
#include <linux/fwnode.h>
#include <linux/iommu.h>
#include <linux/kernfs.h>
#include <linux/kobject.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "fake.h"

struct device *fake_endpoint_dev(struct fake_endpoint *endpoint)
{
	return &endpoint->pdev->dev;
}

/*
 * Has firmware name the IOMMU of an endpoint that is not translated.
 *
 * Does what of_iommu_configure() and viot_iommu_configure() do with
 * iommu_fwspec_init(). That one wants the lock of the IOMMU core, which modules
 * do not have, and an IOMMU that is registered already.
 */
int fake_name_iommu(struct fake_viommu *fake, struct fake_endpoint *endpoint)
{
	struct device *dev = fake_endpoint_dev(endpoint);
	struct iommu_fwspec *fwspec;

	fwspec = kzalloc_flex(*fwspec, ids, endpoint->nr_ids);
	if (!fwspec)
		return -ENOMEM;
	dev->iommu = kzalloc_obj(*dev->iommu);
	if (!dev->iommu) {
		kfree(fwspec);
		return -ENOMEM;
	}
	mutex_init(&dev->iommu->lock);
	fwspec->iommu_fwnode = fwnode_handle_get(fake->fwnode);
	memcpy(fwspec->ids, endpoint->ids, endpoint->nr_ids * sizeof(u32));
	fwspec->num_ids = endpoint->nr_ids;
	dev_iommu_fwspec_set(dev, fwspec);
	return 0;
}

/* Undoes it, if the IOMMU core has not done so. */
static void fake_put_fwspec(struct fake_endpoint *endpoint)
{
	struct device *dev = fake_endpoint_dev(endpoint);

	if (!dev->iommu)
		return;
	fwnode_handle_put(dev->iommu->fwspec->iommu_fwnode);
	kfree(dev->iommu->fwspec);
	kfree(dev->iommu);
	dev->iommu = NULL;
}

/*
 * Plugs an endpoint in. With the IOMMU's driver bound, the IOMMU core probes it
 * here; otherwise, when the driver registers its IOMMU.
 */
int fake_plug(struct fake_viommu *fake, struct fake_endpoint *endpoint)
{
	bool late = fake_bound(fake);
	unsigned long flags;
	unsigned int i;
	int ret = 0;

	spin_lock_irqsave(&fake->lock, flags);
	for (i = 0; i < endpoint->nr_ids; i++) {
		struct model_endpoint *model =
			model_add_endpoint(&fake->model, endpoint->ids[i]);

		if (model) {
			model->denies = endpoint->denies[i];
			/* Another endpoint with the same id may be at work. */
			model->probed = model->probed && model->domain;
		} else {
			ret = -ENOSPC;
		}
	}
	spin_unlock_irqrestore(&fake->lock, flags);
	if (ret)
		return ret;

	endpoint->pdev = platform_device_alloc("fake-endpoint",
					       PLATFORM_DEVID_AUTO);
	if (!endpoint->pdev)
		return -ENOMEM;
	endpoint->pdev->platform_dma_mask = DMA_BIT_MASK(64);
	endpoint->pdev->dev.dma_mask = &endpoint->pdev->platform_dma_mask;
	endpoint->pdev->dev.coherent_dma_mask = DMA_BIT_MASK(64);

	/* While there is no IOMMU, the core drops what it finds here. */
	if (late)
		ret = fake_name_iommu(fake, endpoint);
	if (!ret)
		ret = platform_device_add(endpoint->pdev);
	if (ret) {
		fake_put_fwspec(endpoint);
		platform_device_put(endpoint->pdev);
		endpoint->pdev = NULL;
		return ret;
	}
	if (!late)
		ret = fake_name_iommu(fake, endpoint);
	return ret;
}

void fake_unplug(struct fake_endpoint *endpoint)
{
	if (!endpoint->pdev)
		return;
	platform_device_unregister(endpoint->pdev);
	endpoint->pdev = NULL;
}

/* Whether the IOMMU core has accepted the endpoint. */
bool fake_endpoint_translated(struct fake_endpoint *endpoint)
{
	return endpoint->pdev && endpoint->pdev->dev.iommu_group;
}

/* What `echo $type > /sys/kernel/iommu_groups/N/type` does. */
int fake_group_type(struct fake_endpoint *endpoint, const char *type)
{
	struct device *dev = fake_endpoint_dev(endpoint);
	struct kernfs_node *link, *attr;
	struct kobject *group;
	int ret = -ENOENT;

	link = kernfs_find_and_get(dev->kobj.sd, "iommu_group");
	if (!link)
		return -ENODEV;
	group = link->symlink.target_kn->priv;
	attr = kernfs_find_and_get(group->sd, "type");
	if (attr) {
		ret = group->ktype->sysfs_ops->store(group, attr->priv, type,
						     strlen(type));
		kernfs_put(attr);
	}
	kernfs_put(link);
	return ret < 0 ? ret : 0;
}
