// SPDX-License-Identifier: GPL-2.0

//! Asynchronous requests that the device refused.
//!
//! MAP and UNMAP are staged in one call of the IOMMU API and answered in a later one, or in another
//! thread's. A refusal is kept here until whoever it concerns comes for it, so that none is lost:
//! a refused MAP fails the `iotlb_sync_map` that covers it, and a refused UNMAP makes every later
//! map of the range fail while the old translation may stand.

use kernel::prelude::*;

use crate::uapi::Span;

/// How many uncollected refusals make a device unusable.
const MAX_FAILURES: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Map(Error),
    Unmap,
}

struct Failure {
    domain: u32,
    span: Span,
    kind: Kind,
}

/// The refusals that nobody has collected yet. It never allocates after [`Failures::new`].
pub(super) struct Failures {
    list: KVec<Failure>,
}

/// The device refuses more than can be remembered.
pub(super) struct TooMany;

impl Failures {
    pub(super) fn new() -> Result<Self> {
        Ok(Failures {
            list: KVec::with_capacity(MAX_FAILURES, GFP_KERNEL)?,
        })
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn record(&mut self, domain: u32, span: Span, kind: Kind) -> Result<(), TooMany> {
        self.list
            .push_within_capacity(Failure { domain, span, kind })
            .map_err(|_| TooMany)
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
        self.list.retain(|failure| match failure.kind {
            Kind::Map(error) if failure.domain == domain && failure.span.overlaps(span) => {
                first.get_or_insert(error);
                false
            }
            _ => true,
        });
        first
    }

    /// Whether the device may still translate a part of `span` that was unmapped.
    pub(super) fn may_be_stale(&self, domain: u32, span: Span) -> bool {
        self.list.iter().any(|failure| {
            failure.kind == Kind::Unmap && failure.domain == domain && failure.span.overlaps(span)
        })
    }

    /// Forgets a domain: the device has dropped all its mappings.
    pub(super) fn forget_domain(&mut self, domain: u32) {
        self.list.retain(|failure| failure.domain != domain);
    }

    /// Forgets everything: the device has been reset.
    pub(super) fn clear(&mut self) {
        self.list.clear();
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
    fn too_many_are_refused_and_none_is_lost() -> Result {
        let mut failures = Failures::new()?;
        for domain in 0..MAX_FAILURES as u32 {
            assert!(failures.record_unmap(domain, span(0, 9)).is_ok());
        }
        assert!(failures.record_unmap(0, span(10, 19)).is_err());
        for domain in 0..MAX_FAILURES as u32 {
            assert!(failures.may_be_stale(domain, span(0, 9)));
        }
        Ok(())
    }
}
