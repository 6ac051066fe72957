// SPDX-License-Identifier: GPL-2.0

//! The rooms behind the front door, `virtio_iommu.rs`.
//!
//! ```text
//!   device      a virtio-iommu device, as the IOMMU core sees it
//!   ├─ request      the request engine: stage, notify, wait
//!   │  ├─ patience      for how long
//!   │  └─ queue         slots, and the ring that they go through
//!   │     ├─ slot           memory of one request
//!   │     ├─ window         which requests are answered
//!   │     └─ refusals       requests that were refused, and
//!   │        └─ failures        those that somebody has to know of
//!   ├─ endpoint     devices behind the IOMMU, and
//!   │  └─ regions       what they reserve
//!   ├─ places       where the device has the endpoint ids
//!   │  └─ place         one of them, and
//!   │     └─ attachment    what it can be attached to
//!   ├─ domain_handle  what the core asks of a domain
//!   ├─ domain       paging and identity-mapped domains
//!   │  ├─ mappings      the tree of mappings
//!   │  ├─ pending       what was unmapped for a later flush
//!   │  └─ ids           domain numbers
//!   ├─ events       faults, named after their device with the help of
//!   │  └─ table         endpoints by id
//!   ├─ config       the device configuration, and its
//!   ├─ bypass           global bypass field
//!   ├─ outside      who depends on that field
//!   └─ debugfs      counters
//! ```
//!
//! Locks are taken in this order: group (the core's), [`device::Viommu`]'s places, the engine's
//! for who collects an answer, a domain's state, the engine's state. The last two are spinlocks
//! with interrupts disabled, and nothing waits for the device under them. No other lock is taken
//! under the domain numbers', the table's and the event queue's.

mod attachment;
pub(crate) mod bypass;
pub(crate) mod config;
pub(crate) mod debugfs;
pub(crate) mod device;
mod domain;
mod domain_handle;
mod endpoint;
pub(crate) mod events;
mod failures;
mod ids;
mod mappings;
mod outside;
mod patience;
mod pending;
mod place;
mod places;
mod queue;
mod refusals;
mod regions;
mod request;
mod slot;
pub(crate) mod table;
mod window;
