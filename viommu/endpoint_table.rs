// SPDX-License-Identifier: GPL-2.0

//! The endpoints of an IOMMU, by id: a fault, or a message, can name the device.

use kernel::{
    device,
    iommu::driver::FaultSink,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        new_spinlock_irq,
        Arc,
        SpinLockIrq, //
    }, //
};

/// An id, and the address of a device that has it, to tell those apart that share one.
type Key = (u32, usize);

/// What is known by an id.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) dev: ARef<device::Device>,
    /// Who hears of faults.
    pub(super) faults: Arc<FaultSink>,
}

impl Entry {
    fn key(&self, id: u32) -> Key {
        (id, core::ptr::from_ref(&*self.dev).addr())
    }
}

/// The endpoints of one IOMMU. Looked up in interrupt context.
#[pin_data]
pub(crate) struct EndpointTable {
    #[pin]
    entries: SpinLockIrq<RBTree<Key, Entry>>,
}

impl EndpointTable {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(EndpointTable {
            entries <- new_spinlock_irq!(RBTree::new()),
        })
    }

    /// Enters an endpoint under each of its ids. May sleep.
    pub(super) fn insert(&self, ids: &[u32], entry: &Entry) -> Result {
        for &id in ids {
            let node = RBTreeNode::new(entry.key(id), entry.clone(), GFP_KERNEL)?;
            // Nothing is replaced: an endpoint has each of its ids once.
            let _ = self.entries.lock().insert(node);
        }
        Ok(())
    }

    /// Removes an endpoint from each of its ids. May sleep.
    pub(super) fn remove(&self, ids: &[u32], entry: &Entry) {
        for &id in ids {
            let removed = self.entries.lock().remove_node(&entry.key(id));
            // What this frees is freed without the lock.
            drop(removed);
        }
    }

    /// Runs `f` on an endpoint that has an id. Any context.
    pub(super) fn with<R>(&self, id: u32, f: impl FnOnce(Option<&Entry>) -> R) -> R {
        let entries = self.entries.lock();
        let cursor = entries.cursor_lower_bound(&(id, 0));
        let found = cursor.as_ref().map(|cursor| cursor.current());
        f(found.filter(|(key, _)| key.0 == id).map(|(_, entry)| entry))
    }

    /// Whether `f` is true of an endpoint's device. Any context, in which `f` is called, too.
    pub(super) fn any(&self, f: impl Fn(&device::Device) -> bool) -> bool {
        self.entries.lock().values().any(|entry| f(&entry.dev))
    }

    /// The device of an endpoint that has an id. May sleep: the caller may drop the last reference.
    pub(super) fn device(&self, id: u32) -> Option<ARef<device::Device>> {
        self.with(id, |entry| Some(entry?.dev.clone()))
    }
}
