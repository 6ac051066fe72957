// SPDX-License-Identifier: GPL-2.0

//! Asynchronous requests that the device refused.
//!
//! MAP and UNMAP are staged in one call of the IOMMU API and answered in a later one, or in another
//! thread's. A refusal is kept here until whoever it concerns comes for it, so that none is lost:
//! a refused MAP fails the `iotlb_sync_map` that covers it, and a refused UNMAP makes every later
//! map of the range fail while the old translation may stand.

use kernel::prelude::*;

use crate::uapi::Span;

/// How many uncollected refusals are told apart; of how many domains there may be some before the
/// device is unusable.
const MAX_FAILURES: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Map(Error),
    Unmap,
}

struct Failure {
    domain: u32,
    /// What was refused and, if several refusals were joined, what lies between.
    span: Span,
    kind: Kind,
    joined: bool,
}

impl Failure {
    /// Whether both are of one kind and of one domain.
    fn is_like(&self, other: &Failure) -> bool {
        self.domain == other.domain
            && matches!(self.kind, Kind::Unmap) == matches!(other.kind, Kind::Unmap)
    }

    /// Adds another refusal, and what lies between.
    fn join(&mut self, span: Span) {
        self.span = self.span.hull(span);
        self.joined = true;
    }

    /// Forgets what was refused of `span`. Returns whether something is left.
    fn cut(&mut self, span: Span) -> bool {
        // One that was not joined is a single mapping, which is whole or not there.
        if !self.joined {
            return false;
        }
        let before = span.first().checked_sub(1);
        let before = before.and_then(|last| Span::new(self.span.first(), last));
        let after = span.last().checked_add(1);
        let after = after.and_then(|first| Span::new(first, self.span.last()));
        match (before, after) {
            (None, None) => return false,
            (Some(rest), None) | (None, Some(rest)) => self.span = rest,
            // There may be no memory for a second one. Too much is remembered then, not too little.
            (Some(_), Some(_)) => (),
        }
        true
    }
}

/// The refusals that nobody has collected yet. It never allocates after [`Failures::new`].
///
/// When there are too many, those of one domain are joined: the range between them counts as
/// refused, too. A map there may then fail without need, but no refusal is forgotten.
pub(super) struct Failures {
    list: KVec<Failure>,
    /// Whether a refusal could not be remembered. The list is full then, and stays full.
    overrun: bool,
}

/// The device refuses requests of more domains than can be remembered.
pub(super) struct TooMany;

impl Failures {
    pub(super) fn new() -> Result<Self> {
        Ok(Failures {
            list: KVec::with_capacity(MAX_FAILURES, GFP_KERNEL)?,
            overrun: false,
        })
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn record(&mut self, domain: u32, span: Span, kind: Kind) -> Result<(), TooMany> {
        let new = Failure {
            domain,
            span,
            kind,
            joined: false,
        };
        if self.list.len() >= MAX_FAILURES {
            if let Some(failure) = self.list.iter_mut().find(|failure| failure.is_like(&new)) {
                failure.join(span);
                return Ok(());
            }
            self.join_all();
        }
        if self.list.len() >= MAX_FAILURES {
            self.overrun = true;
            return Err(TooMany);
        }
        self.list.push_within_capacity(new).map_err(|_| TooMany)
    }

    /// Joins what can be joined, to have room.
    #[cold]
    fn join_all(&mut self) {
        let mut at = 1;
        while at < self.list.len() {
            let (before, rest) = self.list.split_at_mut(at);
            let found = before.iter_mut().find(|failure| failure.is_like(&rest[0]));
            match found {
                Some(failure) => {
                    failure.join(rest[0].span);
                    let _ = self.list.remove(at);
                }
                None => at += 1,
            }
        }
    }

    /// Remembers that the mapping of `span` does not exist in the device.
    pub(super) fn record_map(
        &mut self,
        domain: u32,
        span: Span,
        error: Error,
    ) -> Result<(), TooMany> {
        self.record(domain, span, Kind::Map(error))
    }

    /// Remembers that `span` may still be translated by the device.
    pub(super) fn record_unmap(&mut self, domain: u32, span: Span) -> Result<(), TooMany> {
        self.record(domain, span, Kind::Unmap)
    }

    /// Collects the refused mappings that touch `span`; returns why the oldest was refused.
    pub(super) fn take_map(&mut self, domain: u32, span: Span) -> Option<Error> {
        let mut first = None;
        let overrun = self.overrun;
        self.list.retain(|failure| match failure.kind {
            Kind::Map(error) if failure.domain == domain && failure.span.overlaps(span) => {
                first.get_or_insert(error);
                overrun || failure.cut(span)
            }
            _ => true,
        });
        first
    }

    /// Whether `span`, in which nothing is mapped any more, cannot be mapped again.
    ///
    /// Forgets what was refused to a caller who gave up before the sync, and has unmapped it.
    #[cold]
    pub(super) fn is_in_the_way(&mut self, domain: u32, span: Span) -> bool {
        let _ = self.take_map(domain, span);
        self.may_be_stale(domain, span)
    }

    /// Whether the device may still translate a part of `span` that was unmapped.
    fn may_be_stale(&self, domain: u32, span: Span) -> bool {
        self.list.iter().any(|failure| {
            failure.kind == Kind::Unmap && failure.domain == domain && failure.span.overlaps(span)
        })
    }

    /// Forgets a domain: the device has dropped all its mappings.
    pub(super) fn forget_domain(&mut self, domain: u32) {
        let overrun = self.overrun;
        self.list
            .retain(|failure| overrun || failure.domain != domain);
    }

    /// Forgets everything: the device has been reset.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.overrun = false;
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_failures)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap()
    }

    #[test]
    fn refused_map_is_collected_once_by_whom_it_concerns() -> Result {
        let mut failures = Failures::new()?;
        assert!(failures.record_map(1, span(10, 19), ENOMEM).is_ok());

        assert_eq!(failures.take_map(2, span(10, 19)), None);
        assert_eq!(failures.take_map(1, span(20, 29)), None);
        assert_eq!(failures.take_map(1, span(0, 10)), Some(ENOMEM));
        assert_eq!(failures.take_map(1, span(0, 10)), None);
        assert!(failures.is_empty());
        Ok(())
    }

    #[test]
    fn all_refused_maps_of_a_range_are_collected_and_the_first_is_told() -> Result {
        let mut failures = Failures::new()?;
        assert!(failures.record_map(1, span(0, 9), EINVAL).is_ok());
        assert!(failures.record_map(1, span(10, 19), ENOMEM).is_ok());

        assert_eq!(failures.take_map(1, Span::ALL), Some(EINVAL));
        assert!(failures.is_empty());
        Ok(())
    }

    #[test]
    fn refused_map_is_in_nobodys_way() -> Result {
        let mut failures = Failures::new()?;
        assert!(failures.record_map(1, span(10, 19), ENOMEM).is_ok());
        assert!(failures.record_map(1, span(30, 39), EINVAL).is_ok());

        assert!(!failures.is_in_the_way(1, span(0, 14)));
        assert_eq!(failures.take_map(1, Span::ALL), Some(EINVAL));
        Ok(())
    }

    #[test]
    fn refused_unmap_stays_until_the_domain_is_forgotten() -> Result {
        let mut failures = Failures::new()?;
        assert!(failures.record_unmap(1, span(10, 19)).is_ok());

        assert_eq!(failures.take_map(1, Span::ALL), None);
        assert!(failures.may_be_stale(1, span(19, 29)));
        assert!(!failures.may_be_stale(1, span(20, 29)));
        assert!(!failures.may_be_stale(2, span(10, 19)));

        failures.forget_domain(2);
        assert!(failures.may_be_stale(1, span(10, 19)));
        failures.forget_domain(1);
        assert!(!failures.may_be_stale(1, span(10, 19)));
        Ok(())
    }

    #[test]
    fn refusals_of_too_many_domains_are_too_many_and_none_is_lost() -> Result {
        let mut failures = Failures::new()?;
        for domain in 0..MAX_FAILURES as u32 {
            assert!(failures.record_unmap(domain, span(0, 9)).is_ok());
        }
        assert!(failures
            .record_unmap(MAX_FAILURES as u32, span(0, 9))
            .is_err());
        for domain in 0..MAX_FAILURES as u32 {
            assert!(failures.may_be_stale(domain, span(0, 9)));
            failures.forget_domain(domain);
        }
        // The one that was lost may be anybody's.
        assert!(!failures.is_empty());
        failures.clear();
        assert!(failures.is_empty());
        assert!(failures.record_unmap(1, span(0, 9)).is_ok());
        failures.forget_domain(1);
        assert!(failures.is_empty());
        Ok(())
    }

    #[test]
    fn many_refused_unmaps_of_a_domain_are_remembered() -> Result {
        let mut failures = Failures::new()?;
        let mapping = |number: u64| span(100 * number, 100 * number + 9);
        for number in 0..2 * MAX_FAILURES as u64 {
            assert!(failures.record_unmap(1, mapping(number)).is_ok());
        }
        for number in 0..2 * MAX_FAILURES as u64 {
            assert!(failures.may_be_stale(1, mapping(number)));
        }
        assert!(!failures.may_be_stale(2, mapping(1)));
        // There is room for others, too.
        assert!(failures.record_map(1, mapping(1), ENOMEM).is_ok());
        assert!(failures.record_unmap(2, mapping(1)).is_ok());
        assert_eq!(failures.take_map(1, mapping(1)), Some(ENOMEM));
        failures.forget_domain(1);
        assert!(failures.may_be_stale(2, mapping(1)));
        assert!(!failures.may_be_stale(1, Span::ALL));
        Ok(())
    }

    #[test]
    fn many_refused_maps_of_a_domain_fail_each_caller() -> Result {
        let mut failures = Failures::new()?;
        let mapping = |number: u64| span(100 * number, 100 * number + 9);
        let count = 2 * MAX_FAILURES as u64;
        for number in 0..count {
            assert!(failures.record_map(1, mapping(number), ENOMEM).is_ok());
        }
        for number in (0..count).map(|number| (number * 7) % count) {
            assert_eq!(failures.take_map(1, mapping(number)), Some(ENOMEM));
        }
        // What lies between may be left.
        let _ = failures.take_map(1, Span::ALL);
        assert!(failures.is_empty());
        Ok(())
    }

    #[test]
    fn joined_refusals_are_collected_from_both_ends() -> Result {
        let mut failure = Failure {
            domain: 1,
            span: span(100, 199),
            kind: Kind::Map(ENOMEM),
            joined: true,
        };
        assert!(failure.cut(span(0, 109)));
        assert_eq!(failure.span, span(110, 199));
        assert!(failure.cut(span(190, u64::MAX)));
        assert_eq!(failure.span, span(110, 189));
        // Both sides are left, and there is one place.
        assert!(failure.cut(span(120, 129)));
        assert_eq!(failure.span, span(110, 189));
        assert!(!failure.cut(span(110, 189)));
        Ok(())
    }
}
