// SPDX-License-Identifier: GPL-2.0

//! The endpoints of an IOMMU, by id: a fault can name the device, and resume finds them all.

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        new_spinlock_irq,
        Arc,
        SpinLockIrq, //
    }, //
};

use super::endpoint::Endpoint;

/// The endpoints of one IOMMU. Looked up in interrupt context.
#[pin_data]
pub(crate) struct EndpointTable {
    #[pin]
    endpoints: SpinLockIrq<RBTree<u32, Arc<Endpoint>>>,
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
            let node = RBTreeNode::new(id, endpoint.clone(), GFP_KERNEL)?;
            let replaced = self.endpoints.lock().insert(node);
            // What it frees is freed without the lock.
            drop(replaced);
        }
        Ok(())
    }

    /// Removes an endpoint from each of its ids, unless another has taken it over. May sleep.
    pub(super) fn remove(&self, endpoint: &Endpoint) {
        for id in endpoint.ids() {
            let removed = {
                let mut endpoints = self.endpoints.lock();
                match endpoints.get(id) {
                    Some(entry) if core::ptr::eq(&**entry, endpoint) => endpoints.remove_node(id),
                    _ => None,
                }
            };
            drop(removed);
        }
    }

    /// Runs `f` on the endpoint that has an id. Any context.
    pub(super) fn with<R>(&self, id: u32, f: impl FnOnce(Option<&Endpoint>) -> R) -> R {
        f(self.endpoints.lock().get(&id).map(|endpoint| &**endpoint))
    }

    /// Returns each endpoint once. May sleep.
    pub(super) fn all(&self) -> Result<KVec<Arc<Endpoint>>> {
        let mut all = KVec::new();
        loop {
            let count = self.endpoints.lock().iter().count();
            all.reserve(count, GFP_KERNEL)?;

            let endpoints = self.endpoints.lock();
            if endpoints.iter().count() > all.capacity() {
                continue;
            }
            for (id, endpoint) in endpoints.iter() {
                if endpoint.ids().first() == Some(id) {
                    let _ = all.push_within_capacity(endpoint.clone());
                }
            }
            return Ok(all);
        }
    }
}
