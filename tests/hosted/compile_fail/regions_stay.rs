// SPDX-License-Identifier: GPL-2.0

//! The list of reserved regions is the core's again when the callback returns.

// Error: E0521

use kernel::iommu::driver::ResvRegions;

fn keep(out: &mut ResvRegions<'static>) {
    out.add_firmware_regions();
}

fn callback(out: &mut ResvRegions<'_>) {
    out.add_firmware_regions();
    #[cfg(wrong)]
    keep(out);
}
