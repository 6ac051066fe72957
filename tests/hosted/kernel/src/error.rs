// SPDX-License-Identifier: GPL-2.0

//! Kernel errors.

use core::{
    convert::Infallible,
    num::TryFromIntError, //
};

use crate::alloc::{
    AllocError,
    InsertError,
    PushError,
    RemoveError, //
};

/// An error number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(i32);

impl Error {
    /// The error number, which is negative.
    pub fn to_errno(self) -> i32 {
        -self.0
    }
}

impl core::fmt::Debug for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match code::NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// A result of kernel functions.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// Error numbers.
pub mod code {
    use super::Error;

    macro_rules! codes {
        ($($name:ident = $number:literal),* $(,)?) => {
            $(
                #[allow(missing_docs)]
                pub const $name: Error = Error($number);
            )*
            pub(super) const NAMES: &[(i32, &str)] = &[$(($number, stringify!($name))),*];
        };
    }

    codes!(
        ENOENT = 2,
        EIO = 5,
        EAGAIN = 11,
        ENOMEM = 12,
        EFAULT = 14,
        EBUSY = 16,
        EEXIST = 17,
        ENODEV = 19,
        EINVAL = 22,
        ENOSPC = 28,
        ERANGE = 34,
        ENOSYS = 38,
        EOVERFLOW = 75,
        ETIMEDOUT = 110,
    );
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Error {
        code::ENOMEM
    }
}

impl<T> From<PushError<T>> for Error {
    fn from(_: PushError<T>) -> Error {
        code::EINVAL
    }
}

impl<T> From<InsertError<T>> for Error {
    fn from(_: InsertError<T>) -> Error {
        code::EINVAL
    }
}

impl From<RemoveError> for Error {
    fn from(_: RemoveError) -> Error {
        code::EINVAL
    }
}

impl From<TryFromIntError> for Error {
    fn from(_: TryFromIntError) -> Error {
        code::EINVAL
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Error {
        match never {}
    }
}
