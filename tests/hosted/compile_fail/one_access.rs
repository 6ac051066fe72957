// SPDX-License-Identifier: GPL-2.0

//! There is one access to a queue at a time.

// Error: E0499

use kernel::virtio::{
    Buffer,
    Virtqueue, //
};

fn two<B: Buffer>(queue: &mut Virtqueue<B>) -> Option<()> {
    let mut first = queue.access()?;
    #[cfg(not(wrong))]
    first.pop();
    let mut second = queue.access()?;
    #[cfg(wrong)]
    first.pop();
    second.pop();
    Some(())
}
