// SPDX-License-Identifier: GPL-2.0

//! Devices.

/// A device.
pub struct Device;

/// `dev_err!`
#[macro_export]
macro_rules! dev_err {
    ($dev:expr, $($message:tt)*) => {{
        let _ = &$dev;
        $crate::model::log(::core::format_args!($($message)*));
    }};
}

/// `dev_err_deferred!`
#[macro_export]
macro_rules! dev_err_deferred {
    ($dev:expr, $($message:tt)*) => {
        $crate::dev_err!($dev, $($message)*)
    };
}
