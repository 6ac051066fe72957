// SPDX-License-Identifier: GPL-2.0

//! What firmware says about an endpoint can change after the callback, so it has to be copied.

// Error: lifetime may not live long enough

use kernel::{
    iommu::driver::FwSpec,
    prelude::*, //
};

struct Endpoint {
    #[cfg(not(wrong))]
    id: u32,
    #[cfg(wrong)]
    id: &'static u32,
}

fn probe(fwspec: FwSpec<'_>) -> Result<Endpoint> {
    let id = fwspec.ids().first().ok_or(EINVAL)?;
    #[cfg(not(wrong))]
    let id = *id;
    Ok(Endpoint { id })
}
