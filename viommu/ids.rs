// SPDX-License-Identifier: GPL-2.0

//! Domain numbers, from the range that the device accepts.

use kernel::{
    device,
    id_pool::IdPool,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        Mutex, //
    }, //
};

use crate::uapi::DomainRange;

/// The pool of domain numbers of one device.
///
/// The first numbers of the device's range are reserved: for the bypass domain, if the device has
/// them, and for the empty domain that blocks.
#[pin_data]
pub(super) struct DomainIds {
    dev: ARef<device::Device>,
    bypass: Option<u32>,
    blocked: u32,
    /// The first number of the pool, for a paging domain; bit 0 of `used`.
    first: u32,
    /// How many numbers the pool may give out.
    count: usize,
    #[pin]
    used: Mutex<IdPool>,
}

impl DomainIds {
    /// Divides up the device's range. Refuses one that leaves no number for a paging domain.
    pub(super) fn new(
        dev: ARef<device::Device>,
        range: DomainRange,
        has_bypass: bool,
    ) -> Result<impl PinInit<Self>> {
        let (bypass, rest) = if has_bypass {
            let (bypass, rest) = range.split_first();
            (Some(bypass), rest)
        } else {
            (None, Some(range))
        };
        let split = rest.map(|rest| rest.split_first());
        let Some((blocked, Some(paging))) = split else {
            dev_err!(
                dev,
                "domain range {} leaves no id for a paging domain\n",
                range
            );
            return Err(EINVAL);
        };
        Ok(pin_init!(DomainIds {
            dev,
            bypass,
            blocked,
            first: paging.first(),
            count: (paging.last() - paging.first()) as usize + 1,
            used <- new_mutex!(IdPool::new()),
        }))
    }

    /// The number of the bypass domain, if the device has bypass domains.
    pub(super) fn bypass(&self) -> Option<u32> {
        self.bypass
    }

    /// The number of the domain that never gets a mapping.
    pub(super) fn blocked(&self) -> u32 {
        self.blocked
    }

    /// Allocates the lowest free number. May sleep.
    pub(super) fn alloc(&self) -> Result<u32> {
        let mut used = self.used.lock();
        loop {
            if let Some(id) = used.find_unused_id(0) {
                if id.as_usize() >= self.count {
                    break;
                }
                return Ok(self.first + id.acquire() as u32);
            }
            if used.capacity() >= self.count {
                break;
            }
            let resizer = match used.grow_request() {
                Some(request) => request.realloc(GFP_KERNEL)?,
                None => break,
            };
            used.grow(resizer);
        }
        dev_err!(self.dev, "all {} domain ids are in use\n", self.count);
        Err(ENOSPC)
    }

    /// Returns a number to the pool. May sleep.
    pub(super) fn free(&self, id: u32) {
        if let Some(bit) = id.checked_sub(self.first) {
            self.used.lock().release_id(bit as usize);
        }
    }
}
