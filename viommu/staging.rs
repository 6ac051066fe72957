// SPDX-License-Identifier: GPL-2.0

//! The pool of request slots, and the requests that are staged: complete, in order, and not yet
//! shown to the device.

use kernel::prelude::*;

use super::{
    slot::{
        Command,
        Slot, //
    },
    window::Window, //
};
use crate::uapi::{
    Request,
    Span, //
};

/// Upper bound for the number of slots.
pub(super) const MAX_SLOTS: usize = 512;

/// How many staged requests an UNMAP looks back for a neighbour to join.
const MERGE_DEPTH: usize = 8;

/// How far the newest request may be ahead of the oldest unanswered one, in units of 64.
const WINDOW_WORDS: usize = 2 * MAX_SLOTS / 64;

/// All slots are in use, or an old request is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Slots that are with nobody, and slots that wait to be published. Allocates nothing after
/// [`Staging::new`].
pub(super) struct Staging {
    idle: KVec<KBox<Slot>>,
    /// Oldest first.
    staged: KVec<KBox<Slot>>,
    /// Room for `staged` while it is gone through; empty otherwise.
    spare: KVec<KBox<Slot>>,
    /// Which requests are answered.
    pub(super) window: Window<WINDOW_WORDS>,
    /// Requests with a smaller sequence number travelled in slots of the pool before this one.
    first: u64,
}

impl Staging {
    /// Allocates `slots` slots. May sleep.
    pub(super) fn new(slots: usize) -> Result<Self> {
        let mut idle = KVec::with_capacity(slots, GFP_KERNEL)?;
        for _ in 0..slots {
            idle.push_within_capacity(Slot::new()?)?;
        }
        Ok(Staging {
            idle,
            staged: KVec::with_capacity(slots, GFP_KERNEL)?,
            spare: KVec::with_capacity(slots, GFP_KERNEL)?,
            window: Window::new(WINDOW_WORDS * 64),
            first: 0,
        })
    }

    /// Takes over from another pool, of which `first` is the next sequence number: numbers go on
    /// from there, and count as answered below.
    pub(super) fn continue_from(&mut self, first: u64) {
        self.window.skip_to(first);
        self.first = first;
    }

    /// Stages a request, or joins an UNMAP with one that is staged already.
    #[inline]
    pub(super) fn stage(&mut self, request: Request) -> Result<(), Full> {
        if let Request::Unmap { domain, span } = request {
            if self.join_unmap(domain, span) {
                return Ok(());
            }
        }
        self.push(&mut Some(Command::Plain(request)), false)
            .map(|_| ())
    }

    /// Appends a command to the staged ones; returns its sequence number. Takes it on success only.
    #[inline]
    pub(super) fn push(
        &mut self,
        command: &mut Option<Command>,
        collected: bool,
    ) -> Result<u64, Full> {
        let mut slot = self.idle.pop().ok_or(Full)?;
        let Some(seq) = self.window.issue() else {
            self.put_idle(slot);
            return Err(Full);
        };
        if let Some(command) = command.take() {
            slot.command = command;
        }
        slot.seq = seq;
        slot.collected = collected;
        // Each list has the capacity of the pool, so there is room in it.
        let _ = self.staged.push_within_capacity(slot);
        Ok(seq)
    }

    /// Joins an UNMAP with a staged one of the same domain that it touches.
    ///
    /// This moves the UNMAP before the requests staged since, so the search ends at any that it
    /// must not overtake: a MAP of the domain (it may map the same range), ATTACH and DETACH (the
    /// domain may not exist before or after), PROBE. The joined span covers whole mappings, as each
    /// part does, so the device never has to split one (virtio 1.3, 5.13.6.6).
    #[inline]
    fn join_unmap(&mut self, domain: u32, span: Span) -> bool {
        for slot in self.staged.iter_mut().rev().take(MERGE_DEPTH) {
            match &mut slot.command {
                Command::Plain(Request::Unmap {
                    domain: staged_domain,
                    span: staged,
                }) => {
                    if *staged_domain == domain {
                        if let Some(joined) = staged.join(span) {
                            *staged = joined;
                            return true;
                        }
                    }
                }
                Command::Plain(Request::Map {
                    domain: staged_domain,
                    ..
                }) if *staged_domain != domain => (),
                _ => return false,
            }
        }
        false
    }

    /// Whether a request can be staged.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        !self.idle.is_empty() && !self.window.is_full()
    }

    /// Whether there is anything to publish.
    #[inline]
    pub(super) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Hands the staged requests to `f`, oldest first. From the first that it gives back, they stay
    /// staged.
    #[inline]
    pub(super) fn publish(&mut self, mut f: impl FnMut(KBox<Slot>) -> Result<(), KBox<Slot>>) {
        let Staging { staged, spare, .. } = self;
        core::mem::swap(staged, spare);
        for slot in spare.drain_all() {
            let kept = if staged.is_empty() {
                f(slot).err()
            } else {
                Some(slot)
            };
            if let Some(slot) = kept {
                let _ = staged.push_within_capacity(slot);
            }
        }
    }

    /// Drops the staged requests: no answer will come for them.
    pub(super) fn discard(&mut self) {
        let Staging { idle, staged, .. } = self;
        for slot in staged.drain_all() {
            let _ = idle.push_within_capacity(slot);
        }
    }

    /// Returns the slot of an answer that was collected, unless the pool is another one by now: then
    /// the slot is given back to be dropped, best without a lock. One slot too many, and the lists
    /// and the ring would be too short.
    pub(super) fn return_collected(&mut self, slot: KBox<Slot>) -> Option<KBox<Slot>> {
        if slot.seq < self.first {
            return Some(slot);
        }
        self.put_idle(slot);
        None
    }

    /// Returns a slot to the pool.
    #[inline]
    pub(super) fn put_idle(&mut self, slot: KBox<Slot>) {
        let _ = self.idle.push_within_capacity(slot);
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_staging)]
mod tests {
    use super::*;
    use crate::uapi::MapFlag;

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap()
    }

    fn unmap(domain: u32, first: u64, last: u64) -> Request {
        Request::Unmap {
            domain,
            span: span(first, last),
        }
    }

    fn map(domain: u32, first: u64, last: u64) -> Request {
        Request::Map {
            domain,
            span: span(first, last),
            phys: 0,
            flags: MapFlag::Read.into(),
        }
    }

    /// Publishes everything; returns what the device would see.
    fn published(staging: &mut Staging) -> KVec<Request> {
        let mut requests = KVec::new();
        let mut slots = KVec::new();
        staging.publish(|slot| {
            if let Command::Plain(request) = slot.command {
                requests.push(request, GFP_KERNEL).unwrap();
            }
            slots.push(slot, GFP_KERNEL).unwrap();
            Ok(())
        });
        for slot in slots.drain_all() {
            staging.window.complete(slot.seq).unwrap();
            staging.put_idle(slot);
        }
        requests
    }

    #[test]
    fn requests_keep_their_order() -> Result {
        let mut staging = Staging::new(8)?;
        let requests = [map(1, 0, 9), unmap(1, 0, 9), map(1, 0, 9), map(2, 10, 19)];
        for request in requests {
            assert_eq!(staging.stage(request), Ok(()));
        }
        assert_eq!(published(&mut staging).as_slice(), &requests);
        assert!(!staging.has_staged());
        Ok(())
    }

    #[test]
    fn adjacent_unmaps_become_one() -> Result {
        let mut staging = Staging::new(8)?;
        for request in [unmap(1, 10, 19), unmap(1, 20, 29), unmap(1, 0, 9)] {
            assert_eq!(staging.stage(request), Ok(()));
        }
        assert_eq!(published(&mut staging).as_slice(), &[unmap(1, 0, 29)]);
        Ok(())
    }

    #[test]
    fn unmaps_with_a_gap_stay_apart() -> Result {
        let mut staging = Staging::new(8)?;
        let requests = [unmap(1, 0, 9), unmap(1, 11, 19)];
        for request in requests {
            assert_eq!(staging.stage(request), Ok(()));
        }
        assert_eq!(published(&mut staging).as_slice(), &requests);
        Ok(())
    }

    #[test]
    fn unmaps_of_other_domains_do_not_join_and_do_not_hinder() -> Result {
        let mut staging = Staging::new(8)?;
        for request in [
            unmap(1, 0, 9),
            unmap(2, 10, 19),
            map(2, 30, 39),
            unmap(1, 10, 19),
        ] {
            assert_eq!(staging.stage(request), Ok(()));
        }
        assert_eq!(
            published(&mut staging).as_slice(),
            &[unmap(1, 0, 19), unmap(2, 10, 19), map(2, 30, 39)]
        );
        Ok(())
    }

    #[test]
    fn unmap_does_not_overtake_a_map_of_its_domain() -> Result {
        let mut staging = Staging::new(8)?;
        let requests = [unmap(1, 0, 9), map(1, 10, 19), unmap(1, 10, 19)];
        for request in requests {
            assert_eq!(staging.stage(request), Ok(()));
        }
        assert_eq!(published(&mut staging).as_slice(), &requests);
        Ok(())
    }

    #[test]
    fn unmap_does_not_overtake_an_attach() -> Result {
        let mut staging = Staging::new(8)?;
        let attach = Request::Attach {
            domain: 1,
            endpoint: 8,
            bypass: false,
        };
        let requests = [unmap(1, 0, 9), attach, unmap(1, 10, 19)];
        for request in requests {
            assert_eq!(staging.stage(request), Ok(()));
        }
        assert_eq!(published(&mut staging).as_slice(), &requests);
        Ok(())
    }

    #[test]
    fn unmaps_join_at_the_end_of_the_address_space() -> Result {
        let mut staging = Staging::new(8)?;
        let middle = 1 << 63;
        assert_eq!(staging.stage(unmap(1, middle, u64::MAX)), Ok(()));
        assert_eq!(staging.stage(unmap(1, 0, middle - 1)), Ok(()));
        assert_eq!(published(&mut staging).as_slice(), &[unmap(1, 0, u64::MAX)]);
        Ok(())
    }

    #[test]
    fn what_cannot_be_published_stays_staged_in_order() -> Result {
        let mut staging = Staging::new(8)?;
        let requests = [map(1, 0, 9), map(1, 10, 19), map(1, 20, 29)];
        for request in requests {
            assert_eq!(staging.stage(request), Ok(()));
        }
        let mut first = None;
        staging.publish(|slot| {
            if first.is_some() {
                return Err(slot);
            }
            first = Some(slot);
            Ok(())
        });
        assert!(first.is_some());
        assert_eq!(published(&mut staging).as_slice(), &requests[1..]);
        Ok(())
    }

    #[test]
    fn discarded_requests_give_their_slots_back() -> Result {
        let mut staging = Staging::new(1)?;
        assert_eq!(staging.stage(map(1, 0, 9)), Ok(()));
        staging.discard();
        assert!(!staging.has_staged());
        assert_eq!(staging.stage(map(1, 0, 9)), Ok(()));
        Ok(())
    }

    #[test]
    fn pool_runs_out_and_refills() -> Result {
        let mut staging = Staging::new(2)?;
        assert_eq!(staging.stage(map(1, 0, 9)), Ok(()));
        assert_eq!(staging.stage(map(1, 10, 19)), Ok(()));
        assert_eq!(staging.stage(map(1, 20, 29)), Err(Full));
        assert_eq!(published(&mut staging).len(), 2);
        assert_eq!(staging.stage(map(1, 20, 29)), Ok(()));
        Ok(())
    }

    #[test]
    fn slot_of_an_earlier_pool_is_not_taken_back() -> Result {
        let mut old = Staging::new(1)?;
        assert_eq!(
            old.push(&mut Some(Command::Plain(map(1, 0, 9))), true),
            Ok(0)
        );
        let mut collected = None;
        old.publish(|slot| {
            collected = Some(slot);
            Ok(())
        });

        let mut new = Staging::new(1)?;
        new.continue_from(old.window.next());
        assert_eq!(new.stage(map(1, 0, 9)), Ok(()));
        let slot = collected.ok_or(EINVAL)?;
        assert!(new.return_collected(slot).is_some());
        assert!(!new.has_room());
        Ok(())
    }

    #[test]
    fn command_is_kept_when_the_pool_is_empty() -> Result {
        let mut staging = Staging::new(1)?;
        assert_eq!(staging.stage(map(1, 0, 9)), Ok(()));
        let mut command = Some(Command::Plain(unmap(1, 0, 9)));
        assert_eq!(staging.push(&mut command, true), Err(Full));
        assert!(command.is_some());
        Ok(())
    }
}
