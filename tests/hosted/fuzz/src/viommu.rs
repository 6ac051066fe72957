// SPDX-License-Identifier: GPL-2.0

//! Pure parts of the driver, and the targets that look at them.

#[allow(dead_code)]
#[path = "../../../../viommu/mappings.rs"]
mod mappings;
#[allow(dead_code)]
#[path = "../../../../viommu/pending.rs"]
mod pending;
#[allow(dead_code)]
#[path = "../../../../viommu/regions.rs"]
mod regions;
#[allow(dead_code)]
#[path = "../../../../viommu/window.rs"]
mod window;

#[path = "mappings_target.rs"]
pub mod mappings_target;
#[path = "pending_target.rs"]
pub mod pending_target;
#[path = "regions_target.rs"]
pub mod regions_target;
#[path = "window_target.rs"]
pub mod window_target;
