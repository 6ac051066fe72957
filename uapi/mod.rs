// SPDX-License-Identifier: GPL-2.0

//! The wire ABI of the virtio-iommu device, as plain values.
//!
//! Everything that crosses the border to the device is encoded and parsed here: requests and their
//! statuses ([`Request`], [`Status`]), the properties of an endpoint ([`ProbeReply`],
//! [`Property`]), events ([`Fault`]) and the device configuration ([`RawConfig`], [`Config`]).
//! Addresses travel as [`Span`], a range that cannot be empty or reversed.
//!
//! The device is not trusted. A parser reads nothing but the slice that it is given, which must
//! hold no more than what the device wrote; it accepts any bytes, and ends after a number of steps
//! that is bounded by their number. If it refuses them, it passes a text that says what is wrong,
//! and where, to a function of its caller, and fails. Layouts are asserted, at compile time,
//! against the C header.
//!
//! Functions here are pure: no lock, no allocation, no panic, any context. Of the kernel they need
//! errors, formatting, alignments, `impl_flags!` and the bindings of the C header, besides
//! zerocopy, so that the same files can be built for the host, to be fuzzed.
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
mod wire;

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
    Request,
    READABLE, //
};
pub(crate) use span::Span;
pub(crate) use status::{
    Status,
    TAIL,
    UNANSWERED, //
};

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
mod tests {
    use core::cell::Cell;

    use kernel::{
        fmt,
        prelude::*,
        str::CString, //
    };

    /// Whether a parser fails with `error`, and reports `why`.
    pub(super) fn fails<T>(
        error: Error,
        why: fmt::Arguments<'_>,
        parse: impl FnOnce(&dyn Fn(fmt::Arguments<'_>)) -> Result<T>,
    ) -> bool {
        let expected = CString::try_from_fmt(why);
        let same = Cell::new(false);
        let report = |text: fmt::Arguments<'_>| {
            let text = CString::try_from_fmt(text);
            same.set(matches!((&expected, &text), (Ok(a), Ok(b)) if **a == **b));
        };
        parse(&report).err() == Some(error) && same.get()
    }
}
