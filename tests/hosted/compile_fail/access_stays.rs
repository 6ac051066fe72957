// SPDX-License-Identifier: GPL-2.0

//! An access does not leave its thread, since it is an RCU read section.

// Error: E0277

use kernel::virtio::{
    Access,
    Notifier, //
};

fn send<T: Send>() {}

fn all<B: kernel::virtio::Buffer>() {
    send::<Notifier>();
    #[cfg(wrong)]
    send::<Access<'static, B>>();
}
