// SPDX-License-Identifier: GPL-2.0

//! The processor.

use crate::model;

/// Lets the others go on.
pub fn cpu_relax() {
    model::assert_no_lock("spinning");
    model::interrupt_point();
    shuttle::thread::yield_now();
}
