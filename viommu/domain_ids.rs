// SPDX-License-Identifier: GPL-2.0

//! Domain numbers, from the range that the device accepts.
//!
//! A device may keep its domains over a reset, and come with those of somebody else: of a kernel
//! that crashed, of another driver, of this driver's last life. Their numbers are not known. So
//! numbers are taken one after the other, from a random one on, and again after each reset; in a
//! range where an old one may be met all the same, it is emptied first (see `attached/`).

use kernel::{
    device,
    new_mutex,
    prelude::*,
    random,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    }, //
};

use crate::uapi::DomainRange;

/// A range with fewer numbers than this may give out one that the device has a domain for.
const WIDE: u64 = 1 << 24;

struct Used {
    ids: RBTree<u32, ()>,
    /// How many these are.
    count: u64,
    /// Where to look for the next free one.
    next: u32,
}

/// The domain numbers of one device.
#[pin_data]
pub(super) struct DomainIds {
    dev: ARef<device::Device>,
    range: DomainRange,
    /// What stands for no number: nobody's.
    none: u32,
    #[pin]
    used: Mutex<Used>,
    /// Numbers are of use until the device is reset; this counts the resets, from 1 on.
    generation: Atomic<u32>,
}

impl DomainIds {
    /// Refuses a range that has no number for a paging domain, besides those for `others`.
    pub(super) fn new(
        dev: ARef<device::Device>,
        range: DomainRange,
        others: u64,
    ) -> Result<impl PinInit<Self>> {
        let (none, usable) = range.spare();
        if usable.count() <= others {
            dev_err!(
                dev,
                "domain range {} leaves no id for a paging domain\n",
                range
            );
            return Err(EINVAL);
        }
        Ok(pin_init!(DomainIds {
            dev,
            range: usable,
            none,
            used <- new_mutex!(Used {
                ids: RBTree::new(),
                count: 0,
                next: usable.pick(random::get_u32()),
            }),
            generation: Atomic::new(1),
        }))
    }

    /// No number, for a domain that has not been used yet.
    pub(super) fn none(&self) -> DomainId {
        DomainId {
            id: Atomic::new(self.none),
            generation: Atomic::new(0),
            taken: Atomic::new(false),
        }
    }

    /// Whether this is no number, but that of a domain which has not been used yet.
    #[inline]
    pub(super) fn is_none(&self, id: u32) -> bool {
        id == self.none
    }

    /// Whether a number may be one that the device has a domain for.
    pub(super) fn is_narrow(&self) -> bool {
        self.range.count() < WIDE
    }

    /// The device was reset. Domains take other numbers when they are used again.
    pub(super) fn start_over(&self) {
        self.generation.store(
            self.generation.load(Relaxed).wrapping_add(1).max(1),
            Relaxed,
        );
    }

    /// Takes the next free number. May sleep.
    ///
    /// Fails with `ENOSPC`, and a message, if all are in use.
    fn alloc(&self) -> Result<u32> {
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let mut used = self.used.lock();
        if used.count >= self.range.count() {
            dev_err!(self.dev, "all {} domain ids are in use\n", used.count);
            return Err(ENOSPC);
        }
        let mut id = used.next;
        while used.ids.get(&id).is_some() {
            id = self.range.after(id);
        }
        used.ids.insert(node.into_node(id, ()));
        used.count += 1;
        used.next = self.range.after(id);
        Ok(id)
    }

    fn free(&self, id: u32) {
        let mut used = self.used.lock();
        if used.ids.remove(&id).is_some() {
            used.count -= 1;
        }
    }
}

/// The number of a domain.
///
/// Changed with the lock of what is attached held, while the device has no endpoint of ours in the
/// domain.
pub(super) struct DomainId {
    id: Atomic<u32>,
    /// [`DomainIds::generation`] when it was taken. 0 for a number that is of no use, or none.
    generation: Atomic<u32>,
    /// Whether there is a number to be given back.
    taken: Atomic<bool>,
}

impl DomainId {
    /// The number. That of a domain that has none yet is nobody else's.
    #[inline]
    pub(super) fn get(&self) -> u32 {
        self.id.load(Relaxed)
    }

    /// Takes another number, if there is none that is of use. Returns whether it did. May sleep.
    ///
    /// An old number has to do if there is no other one.
    pub(super) fn ensure(&self, ids: &DomainIds) -> Result<bool> {
        let generation = ids.generation.load(Relaxed);
        if self.generation.load(Relaxed) == generation {
            return Ok(false);
        }
        match ids.alloc() {
            Ok(id) => {
                self.release(ids);
                self.id.store(id, Relaxed);
                self.taken.store(true, Relaxed);
            }
            Err(_) if self.taken.load(Relaxed) => (),
            Err(error) => return Err(error),
        }
        self.generation.store(generation, Relaxed);
        Ok(true)
    }

    /// The number turned out to be of no use: the next [`Self::ensure`] takes another one.
    pub(super) fn spoil(&self) {
        self.generation.store(0, Relaxed);
    }

    /// The device may keep the domain for good: nobody else gets the number.
    pub(super) fn abandon(&self) {
        self.taken.store(false, Relaxed);
        self.spoil();
    }

    /// Gives the number back, if there is one.
    pub(super) fn release(&self, ids: &DomainIds) {
        if self.taken.load(Relaxed) {
            self.taken.store(false, Relaxed);
            ids.free(self.get());
        }
    }
}
