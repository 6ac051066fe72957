// SPDX-License-Identifier: GPL-2.0

//! What the core collects is on its stack.

// Error: E0521

use kernel::iommu::driver::Gather;

fn keep(gather: &mut Gather<'static>) {
    gather.add_range(0, 0xfff);
}

fn unmap(gather: &mut Gather<'_>) {
    #[cfg(not(wrong))]
    gather.add_range(0, 0xfff);
    #[cfg(wrong)]
    keep(gather);
}
