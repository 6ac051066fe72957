// SPDX-License-Identifier: GPL-2.0

//! The rooms behind the front door, `virtio_iommu.rs`.
//!
//! ```text
//!   iommu_ops       what the IOMMU core asks
//!   ├─ endpoint        a device behind the IOMMU
//!   │  └─ probe           what the device says of it:
//!   │     └─ reserved        reserved regions
//!   └─ iommu           the IOMMU as a whole
//!      ├─ attached/       where the device has the endpoint ids
//!      │  └─ domain/         domains, and their mappings
//!      └─ outside         who depends on the global bypass
//!   debugfs         counters, endpoints, domains
//!   events          faults, named with the help of
//!   └─ endpoint_table  endpoints by id
//!   device          how to talk to the device
//!   ├─ engine/         requests: stage, notify, wait
//!   └─ domain_ids      domain numbers
//!   config          the device configuration, and its
//!   └─ bypass          global bypass field
//!   spans           sets of addresses
//! ```
//!
//! Each room imports only from those below it; `make lint` checks that.
//!
//! # The life of a map
//!
//! The core asks `map()` of a domain (`iommu_ops`), once for a contiguous range. The domain puts it
//! into its tree, under its spinlock, and, if the device has the domain, has the engine *stage* a
//! MAP: that takes a slot, writes the request there and adds it to the ring. Then the core calls
//! `sync_map()`. The engine notifies the device, unless another CPU is about to, and waits until
//! everything staged before is answered. A refused MAP is noted in the domain's account
//! (`engine/accounts`); the `sync_map()` of that range collects it and fails, and the core unmaps
//! the range again.
//!
//! # The life of an unmap
//!
//! `unmap()` removes whole mappings from the tree, as the device never splits one. In strict mode
//! the core's gather joins ranges that touch; `sync()` sends one UNMAP for what was gathered and
//! waits for it. In lazy mode the ranges wait with the domain, where they are joined, too, until
//! `flush_all()` sends them and waits. Memory is used again only after that. A refused UNMAP bars
//! its range: every later map there fails, until the domain's last endpoint has left.
//!
//! # The life of an attach
//!
//! The core calls `attach()` for an endpoint (`iommu_ops`, `endpoint`). `attached`, under its lock,
//! moves one id of the endpoint after the other. The first id in a domain gets it a number
//! (`domain_ids`); the engine sends ATTACH, and waits; the domain then *replays* its mappings, in
//! rings-full. If an id cannot be moved, those before it go back to where they were, or are blocked
//! if that fails, too. An endpoint's first attachment does not fail: what cannot be attached is
//! blocked, with a message.
//!
//! # The life of a fault
//!
//! The device writes an event into a buffer of the event queue, and interrupts. `events` parses it,
//! finds the endpoint by its id (`endpoint_table`), tells its fault sink, which is how it reaches
//! `report_iommu_fault()`, and logs it, with the name of the device. Buffers go back to the device
//! once all events that are there have been looked at.
//!
//! # Locks
//!
//! They are taken in this order: group (the core's), `attached`, the engine's for who collects an
//! answer, a domain's state, the engine's state. The last two are spinlocks with interrupts
//! disabled, and nothing waits for the device under them. No other lock is taken under those of
//! `domain_ids`, `endpoint_table` and `events`.

mod attached;
mod bypass;
pub(crate) mod config;
pub(crate) mod debugfs;
mod device;
mod domain;
mod domain_ids;
mod endpoint;
pub(crate) mod endpoint_table;
mod engine;
pub(crate) mod events;
pub(crate) mod iommu;
mod iommu_ops;
mod outside;
mod probe;
mod reserved;
mod spans;
