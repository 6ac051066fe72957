// SPDX-License-Identifier: GPL-2.0

//! Features can be taken out during the negotiation, and not after it.

// Error: E0521

use kernel::{
    prelude::*,
    virtio::Features, //
};

fn keep(features: &mut Features<'static>) -> Result {
    features.clear(0)
}

fn validate(features: &mut Features<'_>) -> Result {
    #[cfg(not(wrong))]
    features.clear(0)?;
    #[cfg(wrong)]
    keep(features)?;
    Ok(())
}
