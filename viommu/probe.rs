// SPDX-License-Identifier: GPL-2.0

//! What the device says of an endpoint, when it is asked with PROBE.

use kernel::{
    device,
    fmt,
    prelude::*, //
};

use super::{
    device::Device,
    reserved::{
        Region,
        Regions, //
    }, //
};
use crate::uapi::{
    ProbeReply,
    Property,
    ResvKind,
    Status, //
};

/// How many granules of an endpoint's reserved regions may be for MSIs. The core keeps a record of
/// each, which is not to use up the guest's memory. x86 has 1 MiB, an ITS 64 KiB.
const MAX_MSI_GRANULES: u64 = 4096;

/// Asks the device for the reserved regions of all ids of an endpoint.
///
/// An id that the device does not know is taken out of `ids`: a PCI device behind a conventional
/// bridge, say, has two, of which some devices see the bridge's alone. Fails with `ENODEV` if it
/// knows none.
pub(super) fn regions(
    iommu: &Device,
    dev: &device::Device,
    ids: &mut KVec<u32>,
) -> Result<Regions> {
    let mut regions = Regions::new();
    let mut result = Ok(());
    let all = ids.len();
    ids.retain(|id| {
        if result.is_err() {
            return true;
        }
        let read = iommu.probe(*id, |reply| {
            add_regions(&mut regions, iommu, dev, *id, reply)
        });
        let known = read.and_then(|added| added.unwrap_or(Ok(())));
        if known == Err(ENOENT) {
            if all > 1 {
                dev_info!(dev, "IOMMU does not know endpoint id {}: left out\n", *id);
            }
            return false;
        }
        result = known;
        true
    });
    result?;
    if ids.is_empty() {
        dev_warn!(
            dev,
            "cannot be probed: IOMMU knows none of its endpoint ids, so it does not translate\n"
        );
        return Err(ENODEV);
    }
    Ok(regions)
}

/// Adds what the device says of one id.
///
/// Fails with `ENOENT`, and without a message, if the device does not know the id.
fn add_regions(
    regions: &mut Regions,
    iommu: &Device,
    dev: &device::Device,
    id: u32,
    mut reply: ProbeReply<'_>,
) -> Result {
    match reply.status {
        Status::Ok => (),
        Status::NoEnt => return Err(ENOENT),
        status => {
            dev_err!(dev, "cannot probe endpoint id {}: {}\n", id, status);
            return Err(EIO);
        }
    }

    let report = |why: fmt::Arguments<'_>| {
        if iommu.may_complain() {
            dev_err!(dev, "malformed {}\n", why);
        }
    };
    while let Some(property) = reply.properties.next(report)? {
        match property {
            Property::ResvMem { kind, span } => {
                if let ResvKind::Unknown(subtype) = kind {
                    if iommu.may_complain() {
                        dev_warn!(
                            dev,
                            "region {} is unknown ({:#x}), taken as reserved\n",
                            span,
                            subtype
                        );
                    }
                }
                let mut region = Region { span, kind };
                if msi_granules(regions, &region, iommu) > MAX_MSI_GRANULES {
                    if iommu.may_complain() {
                        dev_warn!(dev, "MSI region {} is too large, taken as reserved\n", span);
                    }
                    region.kind = ResvKind::Reserved;
                }
                // Several ids of an endpoint usually have the same regions.
                if !regions.as_slice().contains(&region) {
                    regions.push(region, GFP_KERNEL)?;
                }
            }
            Property::Unknown { type_ } => {
                if iommu.may_complain() {
                    dev_warn!(dev, "unknown property {:#x} is ignored\n", type_);
                }
            }
        }
    }
    Ok(())
}

/// How many granules for MSIs an endpoint with `regions` has with this one, if it is one for MSIs
/// and not among them.
fn msi_granules(regions: &Regions, new: &Region, iommu: &Device) -> u64 {
    let known = regions.as_slice();
    if new.kind != ResvKind::Msi || known.contains(new) {
        return 0;
    }
    let msi = known.iter().filter(|region| region.kind == ResvKind::Msi);
    let bytes = msi.fold(new.span.size_saturating(), |sum, region| {
        sum.saturating_add(region.span.size_saturating())
    });
    bytes >> iommu.config.granule.log2()
}
