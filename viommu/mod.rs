// SPDX-License-Identifier: GPL-2.0

//! The rooms behind the front door, `virtio_iommu.rs`.
//!
//! ```text
//!   device        a virtio-iommu device, as the IOMMU core sees it
//!   ├─ engine/        requests: stage, notify, wait
//!   ├─ domain_ids     domain numbers
//!   ├─ domain/        paging and identity-mapped domains, and their mappings
//!   │  └─ domain_handle  what the core asks of one
//!   ├─ endpoint       devices behind the IOMMU, and
//!   │  └─ reserved       what they reserve
//!   ├─ attached/      where the device has the endpoint ids
//!   ├─ events         faults, named after their device with the help of
//!   │  └─ table          endpoints by id
//!   ├─ config         the device configuration, and its
//!   ├─ bypass            global bypass field
//!   ├─ outside        who depends on that field
//!   └─ debugfs        counters
//! ```
//!
//! Locks are taken in this order: group (the core's), [`device::Viommu`]'s places, the engine's
//! for who collects an answer, a domain's state, the engine's state. The last two are spinlocks
//! with interrupts disabled, and nothing waits for the device under them. No other lock is taken
//! under the domain numbers', the table's and the event queue's.

mod attached;
pub(crate) mod bypass;
pub(crate) mod config;
pub(crate) mod debugfs;
pub(crate) mod device;
mod domain;
mod domain_handle;
mod domain_ids;
mod endpoint;
mod engine;
pub(crate) mod events;
mod outside;
mod reserved;
pub(crate) mod table;
