// SPDX-License-Identifier: GPL-2.0

//! The wire ABI of the virtio-iommu device, as plain values.
//!
//! Everything that crosses the border to the device is encoded and parsed here: requests and their
//! statuses ([`Request`], [`Probe`], [`Status`]), the properties of an endpoint ([`ProbeReply`],
//! [`Property`]), events ([`Fault`]) and the device configuration ([`RawConfig`], [`Config`]).
//! Addresses travel as [`Span`], a range that cannot be empty or reversed.
//!
//! The device is not trusted. A parser reads nothing but the slice that it is given, which must
//! hold no more than what the device wrote; it accepts any bytes, ends after a number of steps
//! bounded by their number, and answers a malformed one with an error that says what was wrong and
//! where. Layouts are asserted, at compile time, against the C header.
//!
//! Functions here are pure: no lock, no allocation, no panic, any context. Of the kernel they need
//! errors, formatting, `impl_flags!` and the bindings of the C header, besides zerocopy, so that
//! the same files can be built for the host, to be fuzzed.
//!
//! C header: [`include/uapi/linux/virtio_iommu.h`](srctree/include/uapi/linux/virtio_iommu.h)
//!
//! Reference: Virtual I/O Device (VIRTIO) Version 1.3, section 5.13, "IOMMU device".

mod config;
mod event;
mod property;
mod request;
mod span;
mod status;

pub(crate) use config::{
    Config,
    DomainRange,
    RawConfig, //
};
pub(crate) use event::{
    Fault,
    EVENT_SIZE, //
};
pub(crate) use property::{
    ProbeReply,
    Property,
    ResvKind, //
};
pub(crate) use request::{
    MapFlag,
    MapFlags,
    Probe,
    Request,
    HOT_READABLE,
    PROBE_READABLE,
    TAIL, //
};
pub(crate) use span::{
    Granule,
    Span, //
};
pub(crate) use status::{
    Status,
    UNANSWERED, //
};
