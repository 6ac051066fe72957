// SPDX-License-Identifier: GPL-2.0

//! A notification does not leave its thread, since it is an RCU read section.

// Error: E0277

use kernel::virtio::{
    Notification,
    Notifier, //
};

fn send<T: Send>() {}

fn all() {
    send::<Notifier>();
    #[cfg(wrong)]
    send::<Notification>();
}
