// SPDX-License-Identifier: GPL-2.0

//! The endpoints of an IOMMU, by id: a fault can name the device.

use kernel::{
    device,
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

use super::endpoint::Endpoint;

/// An id, and the address of an endpoint that has it, to tell those apart that share one.
type Key = (u32, usize);

fn key(id: u32, endpoint: &Endpoint) -> Key {
    (id, core::ptr::from_ref(endpoint).addr())
}

/// The endpoints of one IOMMU. Looked up in interrupt context.
#[pin_data]
pub(crate) struct EndpointTable {
    #[pin]
    endpoints: SpinLockIrq<RBTree<Key, Arc<Endpoint>>>,
}

impl EndpointTable {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(EndpointTable {
            endpoints <- new_spinlock_irq!(RBTree::new()),
        })
    }

    /// Enters an endpoint under each of its ids. May sleep.
    pub(super) fn insert(&self, endpoint: &Arc<Endpoint>) -> Result {
        for &id in endpoint.ids() {
            let node = RBTreeNode::new(key(id, endpoint), endpoint.clone(), GFP_KERNEL)?;
            // Nothing is replaced: an endpoint has each of its ids once.
            let _ = self.endpoints.lock().insert(node);
        }
        Ok(())
    }

    /// Removes an endpoint from each of its ids. May sleep.
    pub(super) fn remove(&self, endpoint: &Endpoint) {
        for &id in endpoint.ids() {
            let removed = self.endpoints.lock().remove_node(&key(id, endpoint));
            // What this frees is freed without the lock.
            drop(removed);
        }
    }

    /// Runs `f` on an endpoint that has an id. Any context.
    pub(super) fn with<R>(&self, id: u32, f: impl FnOnce(Option<&Endpoint>) -> R) -> R {
        let endpoints = self.endpoints.lock();
        let cursor = endpoints.cursor_lower_bound(&(id, 0));
        let found = cursor.as_ref().map(|cursor| cursor.current());
        f(found
            .filter(|(key, _)| key.0 == id)
            .map(|(_, endpoint)| &**endpoint))
    }

    /// The device of an endpoint that has an id. May sleep: the caller may drop the last reference.
    pub(super) fn device(&self, id: u32) -> Option<ARef<device::Device>> {
        self.with(id, |endpoint| Some(endpoint?.dev().into()))
    }
}
