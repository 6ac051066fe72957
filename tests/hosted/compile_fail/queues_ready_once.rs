// SPDX-License-Identifier: GPL-2.0

//! Nothing is taken out or set any more when the device uses the queues.

// Error: E0382

use kernel::{
    prelude::*,
    sync::Arc,
    virtio::{
        Callback,
        Virtqueues, //
    }, //
};

fn finish(mut queues: Virtqueues<'_>, callback: Arc<dyn Callback>) -> Result {
    #[cfg(not(wrong))]
    queues.set_callback(0, callback)?;
    queues.ready();
    #[cfg(wrong)]
    queues.set_callback(0, callback)?;
    Ok(())
}
