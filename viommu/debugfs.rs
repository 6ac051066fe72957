// SPDX-License-Identifier: GPL-2.0

//! What the driver does, in debugfs: `virtio_iommu-<bus name>/`.

use kernel::{
    debugfs::{
        Dir,
        File, //
    },
    device::Bound,
    fmt,
    prelude::*,
    str::CString,
    sync::Arc,
    virtio, //
};

use super::iommu::Viommu;

/// The debugfs directory of one device. Removed when it is dropped.
#[pin_data]
pub(crate) struct DebugFs {
    _dir: Dir,
    #[pin]
    _stats: File<Arc<Viommu>>,
    #[pin]
    _endpoints: File<Arc<Viommu>>,
    #[pin]
    _domains: File<Arc<Viommu>>,
}

impl DebugFs {
    /// Creates the directory. May sleep.
    pub(crate) fn new(
        vdev: &virtio::Device<Bound>,
        viommu: Arc<Viommu>,
    ) -> Result<impl PinInit<Self, Error>> {
        let name = CString::try_from_fmt(fmt!("virtio_iommu-{}", vdev.bus_name()))?;
        let dir = Dir::new(&name);
        Ok(try_pin_init!(DebugFs {
            _stats <- dir.read_callback_file(c"stats", viommu.clone(), &show_stats),
            _endpoints <- dir.read_callback_file(c"endpoints", viommu.clone(), &show_endpoints),
            _domains <- dir.read_callback_file(c"domains", viommu, &show_domains),
            _dir: dir,
        }))
    }
}

fn show_stats(viommu: &Arc<Viommu>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let stats = viommu.device.engine.stats();
    writeln!(f, "requests {}", stats.requests)?;
    writeln!(f, "notifications {}", stats.notifications)?;
    writeln!(f, "refused {}", stats.refused)
}

fn show_endpoints(viommu: &Arc<Viommu>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    viommu.attached().show_ids(f)
}

fn show_domains(viommu: &Arc<Viommu>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // Counted without the lock: there may be many mappings.
    let domains = viommu.attached().domains().map_err(|_| fmt::Error)?;
    f.write_str("domain kind ids mappings bytes\n")?;
    for (domain, ids) in domains.iter() {
        let (mappings, bytes) = domain.usage();
        let (number, kind) = (domain.number.get(), domain.kind);
        f.write_fmt(fmt!("{number} {kind} {ids} {mappings} {bytes}\n"))?;
    }
    Ok(())
}
