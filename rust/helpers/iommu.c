// SPDX-License-Identifier: GPL-2.0

#include <linux/iommu.h>
#include <linux/pci.h>

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

__rust_helper int rust_helper_pci_domain_nr(struct pci_bus *bus)
{
	return pci_domain_nr(bus);
}

#endif
