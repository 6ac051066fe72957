// SPDX-License-Identifier: GPL-2.0

//! Deferred messages. There is no console here that somebody could wait for.

/// What is printed is deferred.
pub struct Section;

impl Section {
    /// Begins one.
    pub fn begin() -> Self {
        Section
    }
}
