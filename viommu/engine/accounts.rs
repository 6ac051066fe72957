// SPDX-License-Identifier: GPL-2.0

//! What the device has refused of its domains, and nobody has come for yet.
//!
//! MAP and UNMAP are staged in one call of the IOMMU API and answered in a later one, or in another
//! thread's. So there is an account of each domain that the device has, from its first endpoint
//! until it has lost its last:
//!
//! - A refused MAP fails the `iotlb_sync_map` that covers it. If nobody asks, the next MAP there
//!   outdates it.
//! - A refused UNMAP bars its range: every later MAP there fails, as the old translation may stand.
//! - The device forgets a domain a moment before the driver is told. That it denies the domain
//!   while the last endpoint leaves is no refusal: there is nothing to unmap any more, and the next
//!   endpoint brings what was mapped.

use kernel::{
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

use super::super::spans::Spans;
use crate::uapi::Span;

/// How many ranges of each kind an account tells apart. It takes 2 KiB with so many.
const MAX_RANGES: usize = 60;

/// What was refused of one domain.
struct Account {
    /// What is not mapped, although it was to be, and nobody has been told so.
    ///
    /// If these are too many ranges, what lies between counts as refused, too. Who maps there then
    /// may fail without need, but not for ever: each sync takes its range out, and so does each MAP
    /// before it is staged.
    missing: Spans<MAX_RANGES>,
    /// Why the last of it was refused.
    error: Error,
    /// What may still be mapped, although it was to be unmapped; with what lies between, if these
    /// are too many ranges.
    barred: Spans<MAX_RANGES>,
    /// Whether the last endpoint is being detached.
    is_leaving: bool,
    /// Whether the device has denied the domain meanwhile.
    denied: bool,
}

impl Account {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.barred.is_empty()
    }
}

/// Memory for the account of a domain.
pub(crate) struct AccountMemory(RBTreeNodeReservation<u32, Account>);

impl AccountMemory {
    /// May sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL)?))
    }
}

/// The accounts of a device's domains, by number. Nothing here allocates.
///
/// What is said of a domain that has no account is forgotten.
pub(super) struct Accounts {
    by_domain: RBTree<u32, Account>,
    /// How many of them are not empty.
    in_use: usize,
}

impl Accounts {
    pub(super) fn new() -> Self {
        Accounts {
            by_domain: RBTree::new(),
            in_use: 0,
        }
    }

    /// Whether nothing was refused.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.in_use == 0
    }

    /// Opens the account of a domain, which the device has from now on. An older one is closed.
    pub(super) fn open(&mut self, domain: u32, memory: AccountMemory) {
        let _ = self.close(domain);
        let account = Account {
            missing: Spans::new(),
            error: EIO,
            barred: Spans::new(),
            is_leaving: false,
            denied: false,
        };
        self.by_domain.insert(memory.0.into_node(domain, account));
    }

    /// Closes the account of a domain that the device has forgotten, if there is one. All of its
    /// requests are answered.
    pub(super) fn close(&mut self, domain: u32) -> Option<AccountMemory> {
        let _ = self.update(domain, |account| {
            account.missing.clear();
            account.barred.clear();
        });
        let node = self.by_domain.remove_node(&domain)?;
        Some(AccountMemory(node.into_reservation()))
    }

    /// Calls `f` with the account of a domain, if there is one.
    fn update<T>(&mut self, domain: u32, f: impl FnOnce(&mut Account) -> T) -> Option<T> {
        let account = self.by_domain.get_mut(&domain)?;
        let was_in_use = !account.is_empty();
        let value = f(account);
        self.in_use += usize::from(!account.is_empty());
        self.in_use -= usize::from(was_in_use);
        Some(value)
    }

    /// Notes that the mapping of `span` does not exist in the device, and why.
    pub(super) fn miss(&mut self, domain: u32, span: Span, error: Error) {
        let _ = self.update(domain, |account| {
            account.missing.add_or_cover(span);
            account.error = error;
        });
    }

    /// Collects the refused MAPs that touch `span`; fails if there are some.
    #[cold]
    pub(super) fn collect(&mut self, domain: u32, span: Span) -> Result {
        let refused = self.update(domain, |account| {
            account.missing.remove(span).then_some(account.error)
        });
        refused.flatten().map_or(Ok(()), Err)
    }

    /// Notes that `span`, in which nothing is mapped any more, may still be translated.
    pub(super) fn bar(&mut self, domain: u32, span: Span) {
        let _ = self.update(domain, |account| account.barred.add_or_cover(span));
    }

    /// Whether `span`, in which nothing is mapped any more, cannot be mapped again.
    ///
    /// Forgets what was refused to a caller who gave up before the sync, and has unmapped it.
    #[cold]
    pub(super) fn is_barred(&mut self, domain: u32, span: Span) -> bool {
        let barred = self.update(domain, |account| {
            account.missing.remove(span);
            account.barred.overlaps(span)
        });
        barred == Some(true)
    }

    /// The last endpoint of a domain is about to be detached. [`Self::close`] or [`Self::stays`]
    /// follows.
    pub(super) fn is_leaving(&mut self, domain: u32) {
        let _ = self.update(domain, |account| account.is_leaving = true);
    }

    /// The device says that it does not have a domain. Returns whether that is as it should be.
    pub(super) fn deny(&mut self, domain: u32) -> bool {
        let denied = self.update(domain, |account| {
            account.denied = account.is_leaving;
            account.denied
        });
        denied == Some(true)
    }

    /// The endpoint could not be detached. What the device denied meanwhile, be it MAP or UNMAP, is
    /// not done in a domain that is there after all: all is missing and barred then, and the return
    /// value says so.
    pub(super) fn stays(&mut self, domain: u32) -> bool {
        let denied = self.update(domain, |account| {
            account.is_leaving = false;
            let denied = core::mem::take(&mut account.denied);
            if denied {
                account.missing.add_or_cover(Span::ALL);
                account.error = EIO;
                account.barred.add_or_cover(Span::ALL);
            }
            denied
        });
        denied == Some(true)
    }
}

#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]
#[kunit_tests(viommu_accounts)]
mod tests {
    use super::*;

    fn span(first: u64, last: u64) -> Span {
        Span::new(first, last).unwrap()
    }

    /// Accounts of the domains 1 and 2.
    fn accounts() -> Result<Accounts> {
        let mut accounts = Accounts::new();
        for domain in [1, 2] {
            accounts.open(domain, AccountMemory::new()?);
        }
        Ok(accounts)
    }

    #[test]
    fn refused_map_is_collected_once_by_whom_it_concerns() -> Result {
        let mut accounts = accounts()?;
        accounts.miss(1, span(10, 19), ENOMEM);

        assert_eq!(accounts.collect(2, span(10, 19)), Ok(()));
        assert_eq!(accounts.collect(1, span(20, 29)), Ok(()));
        assert_eq!(accounts.collect(1, span(0, 19)), Err(ENOMEM));
        assert_eq!(accounts.collect(1, span(0, 19)), Ok(()));
        assert!(accounts.is_empty());
        Ok(())
    }

    #[test]
    fn refused_maps_that_touch_fail_each_caller() -> Result {
        let mut accounts = accounts()?;
        accounts.miss(1, span(0, 9), ENOMEM);
        accounts.miss(1, span(10, 19), ENOMEM);
        accounts.miss(1, span(20, 29), ENOMEM);

        assert_eq!(accounts.collect(1, span(10, 19)), Err(ENOMEM));
        assert_eq!(accounts.collect(1, span(0, 9)), Err(ENOMEM));
        assert_eq!(accounts.collect(1, span(20, 29)), Err(ENOMEM));
        assert!(accounts.is_empty());
        Ok(())
    }

    #[test]
    fn all_refused_maps_of_a_range_are_collected_and_the_last_is_told() -> Result {
        let mut accounts = accounts()?;
        accounts.miss(1, span(0, 9), EINVAL);
        accounts.miss(1, span(10, 19), ENOMEM);

        assert_eq!(accounts.collect(1, Span::ALL), Err(ENOMEM));
        assert!(accounts.is_empty());
        Ok(())
    }

    #[test]
    fn refused_map_is_in_nobodys_way() -> Result {
        let mut accounts = accounts()?;
        accounts.miss(1, span(10, 19), ENOMEM);
        accounts.miss(1, span(30, 39), EINVAL);

        assert!(!accounts.is_barred(1, span(0, 19)));
        assert_eq!(accounts.collect(1, span(0, 19)), Ok(()));
        assert_eq!(accounts.collect(1, Span::ALL), Err(EINVAL));
        assert!(accounts.is_empty());
        Ok(())
    }

    #[test]
    fn refused_unmap_stays_until_the_domain_has_left() -> Result {
        let mut accounts = accounts()?;
        accounts.bar(1, span(10, 19));

        assert_eq!(accounts.collect(1, Span::ALL), Ok(()));
        assert!(accounts.is_barred(1, span(19, 29)));
        assert!(!accounts.is_barred(1, span(20, 29)));
        assert!(!accounts.is_barred(2, span(10, 19)));

        assert!(accounts.close(2).is_some());
        assert!(accounts.is_barred(1, span(10, 19)));
        let memory = accounts.close(1).ok_or(EINVAL)?;
        assert!(accounts.is_empty());
        assert!(accounts.close(1).is_none());
        accounts.open(1, memory);
        assert!(!accounts.is_barred(1, span(10, 19)));
        accounts.bar(1, span(10, 19));
        accounts.open(1, AccountMemory::new()?);
        assert!(!accounts.is_barred(1, span(10, 19)));
        assert!(accounts.is_empty());
        Ok(())
    }

    #[test]
    fn what_has_no_account_is_forgotten() -> Result {
        let mut accounts = accounts()?;
        accounts.bar(3, span(0, 9));
        accounts.miss(3, span(0, 9), ENOMEM);
        assert!(accounts.is_empty());
        accounts.open(3, AccountMemory::new()?);
        assert!(!accounts.is_barred(3, Span::ALL));
        assert_eq!(accounts.collect(3, Span::ALL), Ok(()));
        Ok(())
    }

    #[test]
    fn denied_while_it_leaves_but_there() -> Result {
        let mut accounts = accounts()?;
        assert!(!accounts.deny(1));
        accounts.is_leaving(1);
        assert!(!accounts.deny(2));
        assert!(!accounts.stays(1));
        assert!(!accounts.is_barred(1, Span::ALL));

        accounts.is_leaving(1);
        assert!(accounts.deny(1));
        assert!(accounts.deny(1));
        assert!(accounts.is_empty());
        assert!(accounts.stays(1));
        assert_eq!(accounts.collect(1, span(3, 4)), Err(EIO));
        assert!(accounts.is_barred(1, span(5, 5)));
        assert!(!accounts.deny(1));
        Ok(())
    }

    #[test]
    fn many_refused_unmaps_of_a_domain_are_remembered() -> Result {
        let mut accounts = accounts()?;
        let mapping = |number: u64| span(100 * number, 100 * number + 9);
        for number in 0..5 * MAX_RANGES as u64 {
            accounts.bar(1, mapping(number));
        }
        for number in 0..5 * MAX_RANGES as u64 {
            assert!(accounts.is_barred(1, mapping(number)));
        }
        assert!(!accounts.is_barred(2, mapping(1)));
        // There is room for others, too.
        accounts.miss(1, mapping(1), ENOMEM);
        accounts.bar(2, mapping(1));
        assert_eq!(accounts.collect(1, mapping(1)), Err(ENOMEM));
        assert!(accounts.close(1).is_some());
        assert!(accounts.is_barred(2, mapping(1)));
        assert!(!accounts.is_barred(1, Span::ALL));
        Ok(())
    }

    #[test]
    fn many_refused_maps_of_a_domain_fail_each_caller() -> Result {
        let mut accounts = accounts()?;
        let mapping = |number: u64| span(100 * number, 100 * number + 9);
        let count = 5 * MAX_RANGES as u64;
        for number in 0..count {
            accounts.miss(1, mapping(number), ENOMEM);
        }
        for number in (0..count).map(|number| (number * 7) % count) {
            assert_eq!(accounts.collect(1, mapping(number)), Err(ENOMEM));
            // Who tries again succeeds.
            assert!(!accounts.is_barred(1, mapping(number)));
            assert_eq!(accounts.collect(1, mapping(number)), Ok(()));
        }
        // What lies between may be left.
        let _ = accounts.collect(1, Span::ALL);
        assert!(accounts.is_empty());
        Ok(())
    }
}
