// SPDX-License-Identifier: GPL-2.0

#include <linux/iommu.h>

#if IS_ENABLED(CONFIG_IOMMU_API)

/*
 * iommu_dma_get_resv_regions() is an exported function, or an empty inline one
 * without CONFIG_IOMMU_DMA, but its declaration is private to the C drivers in
 * drivers/iommu/.
 */
#include "../../drivers/iommu/dma-iommu.h"

__rust_helper void
rust_helper_iommu_dma_get_resv_regions(struct device *dev,
				       struct list_head *list)
{
	iommu_dma_get_resv_regions(dev, list);
}

__rust_helper bool rust_helper_device_is_registered(struct device *dev)
{
	/* Who adds or removes the device writes to the bit field. */
	return data_race(device_is_registered(dev));
}

#endif
