// SPDX-License-Identifier: GPL-2.0

//! Counters in debugfs: `virtio_iommu-<bus name>/stats`.

use kernel::{
    debugfs::{
        Dir,
        File, //
    },
    device::Bound,
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
            _stats <- dir.read_callback_file(c"stats", viommu, &|viommu, f| {
                let stats = viommu.stats();
                writeln!(f, "requests {}", stats.requests)?;
                writeln!(f, "notifications {}", stats.notifications)?;
                writeln!(f, "refused {}", stats.refused)
            }),
            _dir: dir,
        }))
    }
}
