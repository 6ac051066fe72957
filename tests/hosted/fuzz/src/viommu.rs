// SPDX-License-Identifier: GPL-2.0

//! Pure parts of the driver, and the targets that look at them.

#[allow(dead_code)]
#[path = "../../../../viommu/domain/mappings.rs"]
mod mappings;
#[allow(dead_code)]
#[path = "../../../../viommu/reserved.rs"]
mod reserved;
#[allow(dead_code)]
#[path = "../../../../viommu/spans.rs"]
mod spans;
#[allow(dead_code)]
#[path = "../../../../viommu/engine/window.rs"]
mod window;

#[path = "mappings_target.rs"]
pub mod mappings_target;
#[path = "reserved_target.rs"]
pub mod reserved_target;
#[path = "spans_target.rs"]
pub mod spans_target;
#[path = "window_target.rs"]
pub mod window_target;
