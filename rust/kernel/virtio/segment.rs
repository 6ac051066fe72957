// SPDX-License-Identifier: GPL-2.0

//! The parts of a buffer, described as the C side wants them.

use crate::{
    bindings,
    prelude::*, //
};
use core::mem::size_of;

/// Whether `bytes` lies in the kernel's linear mapping, where neighbouring addresses are
/// neighbours in physical memory, too. `bytes` must not be empty.
fn is_linear(bytes: *const u8, len: usize) -> bool {
    // A slice lies in one allocation, and each allocation is in the linear mapping with all of it
    // or not at all. Both ends are looked at in spite of that, so that this does not depend on it.
    let last = bytes.wrapping_add(len - 1);
    // SAFETY: The function takes any address.
    unsafe { bindings::virt_addr_valid(bytes.cast()) && bindings::virt_addr_valid(last.cast()) }
}

/// A part of a buffer.
///
/// # Invariants
///
/// If `room` is not 0, `list` is a scatterlist with one entry, which has its end mark and describes
/// memory at the address `start`; and the `room` bytes there are in the linear mapping.
struct Segment {
    list: bindings::scatterlist,
    start: usize,
    room: usize,
}

impl Segment {
    const fn new() -> Self {
        // INVARIANT: There is no room.
        Self {
            list: pin_init::zeroed(),
            start: 0,
            room: 0,
        }
    }

    /// Returns a scatterlist of the `len` bytes at `bytes`. There has to be one at least.
    ///
    /// Fails with `EINVAL` if they are too many, or not in the linear mapping.
    ///
    /// # Safety
    ///
    /// As for [`Segments::describe`].
    #[inline]
    unsafe fn describe<B>(
        &mut self,
        object: *const B,
        bytes: *const u8,
        len: usize,
    ) -> Result<*mut bindings::scatterlist> {
        if bytes.addr() == self.start && len <= self.room {
            // CAST: `room` is not more than `u32::MAX`.
            self.list.length = len as u32;
            return Ok(&mut self.list);
        }
        // SAFETY: By the safety requirements.
        unsafe { self.describe_anew(object, bytes, len) }
    }

    /// # Safety
    ///
    /// As for [`Segments::describe`].
    unsafe fn describe_anew<B>(
        &mut self,
        object: *const B,
        bytes: *const u8,
        len: usize,
    ) -> Result<*mut bindings::scatterlist> {
        // INVARIANT: There is no room. `list` may change.
        self.room = 0;
        let c_len = u32::try_from(len).map_err(|_| EINVAL)?;

        // Part of the object is memory from `kmalloc()`, by the safety requirements, and that is
        // always in the linear mapping.
        let offset = bytes.addr().wrapping_sub(object.addr());
        let room = size_of::<B>().saturating_sub(offset);
        let is_part = len <= room;
        if !is_part && !is_linear(bytes, len) {
            return Err(EINVAL);
        }
        // SAFETY: `list` is valid for writes. The bytes are in the linear mapping, as the function
        // needs it, since it stores the page of the first of them, and the length.
        unsafe { bindings::sg_init_one(&mut self.list, bytes.cast(), c_len) };
        if is_part {
            self.start = bytes.addr();
            // INVARIANT: `list` was made for `start` just now. All of the object is in the linear
            // mapping, hence all from `start` to its end, which is `room` bytes.
            self.room = room.min(u32::MAX as usize);
        }
        Ok(&mut self.list)
    }
}

/// Where the parts of a buffer lie in physical memory.
///
/// Finding that out costs some fifty instructions for each part. A [`Buffer`](super::Buffer) that
/// is used again and again had better have one of these in it, which remembers.
///
/// It is no more than a cache: what is in it is never used for memory that it was not made for, so
/// that it may be moved, swapped, and shared between buffers.
pub struct Segments {
    readable: Segment,
    writable: Segment,
}

impl Segments {
    /// Knows of nothing.
    pub const fn new() -> Self {
        Self {
            readable: Segment::new(),
            writable: Segment::new(),
        }
    }

    /// Returns the scatterlists of both parts, the readable one first. There is none of a part that
    /// is empty; what stands in its place is not valid.
    ///
    /// The parts are slices that the object at `object` has in it or refers to. Fails with `EINVAL`
    /// if they are too long or not in the linear mapping.
    ///
    /// # Safety
    ///
    /// `object` has to point to a `B` that lies in a [`KBox`]. Each part has to lie in one
    /// allocation, unless it is too long.
    #[inline(always)]
    pub(super) unsafe fn describe<B>(
        &mut self,
        object: *const B,
        readable: *const [u8],
        writable: *const [u8],
    ) -> Result<[*mut bindings::scatterlist; 2]> {
        let mut lists = [core::ptr::null_mut(); 2];
        let mut parts = 0;
        for (segment, bytes) in [
            (&mut self.readable, readable),
            (&mut self.writable, writable),
        ] {
            if !bytes.is_empty() {
                // SAFETY: By the safety requirements.
                lists[parts] = unsafe { segment.describe(object, bytes.cast(), bytes.len()) }?;
                parts += 1;
            }
        }
        Ok(lists)
    }
}

impl Default for Segments {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(CONFIG_RUST_VIRTIO_KUNIT_TEST)]
#[kunit_tests(rust_virtio_segments)]
mod tests {
    use super::*;
    use core::ptr;

    struct Object {
        command: [u8; 40],
        status: [u8; 4],
    }

    impl Object {
        fn new() -> Result<KBox<Self>> {
            let object = Object {
                command: [0; 40],
                status: [0; 4],
            };
            Ok(KBox::new(object, GFP_KERNEL)?)
        }
    }

    fn describe(
        segments: &mut Segments,
        object: &KBox<Object>,
        readable: *const [u8],
        writable: *const [u8],
    ) -> Result<[*mut bindings::scatterlist; 2]> {
        // SAFETY: The object lies in a `KBox`. All callers have parts of one allocation, or one
        // that is too long.
        unsafe { segments.describe(&**object, readable, writable) }
    }

    /// Whether `segments` describes the first `len` bytes of the command, and the status.
    fn is_described(object: &KBox<Object>, segments: &mut Segments, len: usize) -> Result<bool> {
        let (command, status) = (&object.command[..len], &object.status[..]);
        let lists = describe(segments, object, command, status)?;
        Ok(is(lists[0], command) && is(lists[1], status))
    }

    /// Whether `list` is what C makes of `bytes`.
    fn is(list: *const bindings::scatterlist, bytes: &[u8]) -> bool {
        let mut expected = pin_init::zeroed::<bindings::scatterlist>();
        // SAFETY: The structure is valid, and callers pass part of what a `KBox` holds.
        unsafe { bindings::sg_init_one(&mut expected, bytes.as_ptr().cast(), bytes.len() as u32) };
        // SAFETY: `list` comes from `describe`, which was successful.
        let list = unsafe { &*list };
        (list.page_link, list.offset, list.length)
            == (expected.page_link, expected.offset, expected.length)
    }

    #[test]
    fn lengths_change() -> Result {
        let (object, mut segments) = (Object::new()?, Segments::new());
        for len in [28, 40, 1, 36] {
            assert!(is_described(&object, &mut segments, len)?);
        }
        Ok(())
    }

    #[test]
    fn objects_take_turns() -> Result {
        let (one, other, mut segments) = (Object::new()?, Object::new()?, Segments::new());
        for object in [&one, &other, &other, &one] {
            assert!(is_described(object, &mut segments, 40)?);
        }
        Ok(())
    }

    #[test]
    fn outside_of_the_object() -> Result {
        let (object, mut segments) = (Object::new()?, Segments::new());
        let outside = KVec::from_elem(0u8, 64, GFP_KERNEL)?;
        for bytes in [&outside[..], &object.command[..], &outside[1..9]] {
            let lists = describe(&mut segments, &object, bytes, &object.status[..])?;
            assert!(is(lists[0], bytes) && is(lists[1], &object.status));
        }
        Ok(())
    }

    #[test]
    fn a_part_is_empty() -> Result {
        let (object, mut segments) = (Object::new()?, Segments::new());
        let none: &[u8] = &[];
        let lists = describe(&mut segments, &object, none, &object.status[..])?;
        assert!(is(lists[0], &object.status));
        let lists = describe(&mut segments, &object, &object.command[..], none)?;
        assert!(is(lists[0], &object.command));
        Ok(())
    }

    #[test]
    fn refusals() -> Result {
        let (object, mut segments) = (Object::new()?, Segments::new());
        let none: &[u8] = &[];
        let vmalloc = VVec::from_elem(0u8, 64, GFP_KERNEL)?;
        assert!(describe(&mut segments, &object, &vmalloc[..], none).is_err());
        // Also of a place that it knows.
        assert!(is_described(&object, &mut segments, 40)?);
        let too_long = ptr::slice_from_raw_parts(object.command.as_ptr(), 1 << 33);
        assert!(describe(&mut segments, &object, too_long, none).is_err());
        assert!(is_described(&object, &mut segments, 40)?);
        Ok(())
    }
}
