// SPDX-License-Identifier: GPL-2.0

//! Stands in for the kernel's `kernel` crate, so that the driver's sources compile for the host,
//! unchanged.
//!
//! It imitates the interface of that crate, never the driver: a source file that uses more of the
//! interface than there is here does not compile, and the remedy is to add it here.
//!
//! What needs the kernel's tree (the environment variable `KERNEL_TREE`) comes from there: the
//! bindings of the uapi header, `impl_flags!`, alignments, the red-black tree.
//!
//! With the feature `model`, [`sync`], [`time`] and [`virtio`] are not just replacements, but a
//! model in which every order of events can happen; see [`model`].

#![allow(clippy::new_ret_no_self, clippy::should_implement_trait)]

pub extern crate macros;
extern crate self as kernel;

pub mod alloc;
pub mod bindings;
pub mod error;
mod init;

#[cfg(feature = "model")]
pub mod device;
#[cfg(feature = "model")]
pub mod model;
#[cfg(feature = "model")]
pub mod nmi;
#[cfg(feature = "model")]
pub mod print_deferred;
#[cfg(feature = "model")]
pub mod processor;
#[cfg(feature = "model")]
pub mod ratelimit;
#[cfg(feature = "model")]
pub mod sync;
#[cfg(feature = "model")]
pub mod time;
#[cfg(feature = "model")]
pub mod virtio;

/// The kernel's own sources.
#[allow(warnings)]
mod from_kernel {
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use from_kernel::ptr;
#[cfg(feature = "rbtree")]
pub use from_kernel::rbtree;

/// Formatting.
pub mod fmt {
    pub use core::fmt::{
        Arguments,
        Debug,
        Display,
        Error,
        Formatter,
        Result,
        Write, //
    };
}

/// `container_of()`
#[macro_export]
macro_rules! container_of {
    ($field_ptr:expr, $Container:ty, $field:ident) => {{
        let offset = ::core::mem::offset_of!($Container, $field);
        ($field_ptr).cast::<u8>().sub(offset).cast::<$Container>()
    }};
}

/// `static_assert!`
#[macro_export]
macro_rules! static_assert {
    ($($arg:tt)*) => {
        const _: () = ::core::assert!($($arg)*);
    };
}

/// `const_assert!`
#[macro_export]
macro_rules! const_assert {
    ($($arg:tt)*) => {
        const { ::core::assert!($($arg)*) }
    };
}

/// What almost every source file uses.
pub mod prelude {
    pub use core::{
        format_args as fmt,
        mem::{
            align_of,
            size_of, //
        },
        pin::Pin, //
    };

    pub use macros::{
        kunit_tests,
        pin_data, //
    };
    pub use zerocopy::{
        FromBytes,
        IntoBytes, //
    };

    pub use crate::{
        alloc::{
            flags::*,
            Flags,
            KBox,
            KVec, //
        },
        const_assert,
        error::{
            code::*,
            Error,
            Result, //
        },
        init::PinInit,
        pin_init,
        static_assert,
        try_pin_init, //
    };

    #[cfg(feature = "model")]
    pub use crate::dev_err;
}
