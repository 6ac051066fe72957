// SPDX-License-Identifier: GPL-2.0

//! Initialisation in place, which on the host is a move.

use core::convert::Infallible;

/// Makes a `T`.
pub trait PinInit<T, E = Infallible>: Sized {
    /// Makes it.
    fn make(self) -> Result<T, E>;
}

impl<T> PinInit<T> for T {
    fn make(self) -> Result<T, Infallible> {
        Ok(self)
    }
}

impl<T, E> PinInit<T, E> for Result<T, E> {
    fn make(self) -> Result<T, E> {
        self
    }
}

/// `pin_init!`
#[macro_export]
macro_rules! pin_init {
    ($Type:ident { $($fields:tt)* }) => {
        Ok::<$Type, ::core::convert::Infallible>($crate::__make!($Type {} $($fields)*))
    };
}

/// `try_pin_init!`
#[macro_export]
macro_rules! try_pin_init {
    ($Type:ident { $($fields:tt)* } ? $Error:ty) => {
        Ok::<$Type, $Error>($crate::__make!($Type {} $($fields)*))
    };
    ($Type:ident { $($fields:tt)* }) => {
        Ok::<$Type, $crate::error::Error>($crate::__make!($Type {} $($fields)*))
    };
}

/// Turns `a, b: x, c <- init` into the fields of a structure.
#[doc(hidden)]
#[macro_export]
macro_rules! __make {
    ($Type:ident { $($done:tt)* }) => {
        $Type { $($done)* }
    };
    ($Type:ident { $($done:tt)* } $field:ident <- $value:expr $(, $($rest:tt)*)?) => {
        $crate::__make!($Type { $($done)* $field: $value, } $($($rest)*)?)
    };
    ($Type:ident { $($done:tt)* } $field:ident : $value:expr $(, $($rest:tt)*)?) => {
        $crate::__make!($Type { $($done)* $field: $value, } $($($rest)*)?)
    };
    ($Type:ident { $($done:tt)* } $field:ident $(, $($rest:tt)*)?) => {
        $crate::__make!($Type { $($done)* $field, } $($($rest)*)?)
    };
}
