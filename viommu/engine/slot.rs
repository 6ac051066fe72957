// SPDX-License-Identifier: GPL-2.0

//! A request slot: the memory that one request and its answer travel in.

use kernel::{
    prelude::*,
    virtio::{
        self,
        Segments, //
    }, //
};

use crate::uapi::{
    Request,
    Status,
    READABLE,
    TAIL,
    UNANSWERED, //
};

/// Memory for one request. The engine allocates its slots once and reuses them.
///
/// A slot is owned by one of: the engine's pool, the virtqueue (while the device works on it), or
/// the caller that collects its answer. It is never shared.
pub(crate) struct Slot {
    /// Position in the order in which requests were staged.
    pub(super) seq: u64,
    /// Whether a caller will collect the answer. If not, the engine looks at the status itself.
    pub(super) collected: bool,
    request: Request,
    /// Memory for a long answer, or none: PROBE is rare, and its answer large.
    long: KVec<u8>,
    readable_len: usize,
    readable: [u8; READABLE],
    tail: [u8; TAIL],
    /// How many bytes the device claims to have written.
    written: usize,
    /// Where `readable` and `tail` lie.
    segments: Segments,
}

impl Slot {
    pub(super) fn new() -> Result<KBox<Self>> {
        Ok(KBox::new(
            Slot {
                seq: 0,
                collected: false,
                request: Request::Probe { endpoint: 0 },
                long: KVec::new(),
                readable_len: 0,
                readable: [0; READABLE],
                tail: [0; TAIL],
                written: 0,
                segments: Segments::new(),
            },
            GFP_KERNEL,
        )?)
    }

    /// Loads a request whose answer nobody collects, in the form that the device reads.
    #[inline]
    pub(super) fn load(&mut self, request: Request) {
        self.readable_len = request.encode(&mut self.readable);
        self.tail = [UNANSWERED; TAIL];
        self.written = 0;
        self.collected = false;
        self.request = request;
        if !self.long.is_empty() {
            self.long = KVec::new();
        }
    }

    /// Loads a request whose answer a caller collects: with `long`, if that is longer than a
    /// status.
    pub(super) fn load_collected(&mut self, request: Request, long: KVec<u8>) {
        self.load(request);
        self.long = long;
        self.collected = true;
    }

    /// The request that the slot carries.
    pub(super) fn request(&self) -> Request {
        self.request
    }

    /// Notes how many bytes the device claims to have written, clamped to what it was given.
    #[inline]
    pub(super) fn set_written(&mut self, written: usize) {
        self.written = written;
    }

    /// Returns the status that the device gave to a request without a long answer.
    #[inline]
    pub(super) fn status(&self) -> Status {
        Status::from_tail(&self.tail, self.written)
    }

    /// Takes the memory for a long answer, and how many bytes of it were written.
    pub(super) fn take_long(&mut self) -> (KVec<u8>, usize) {
        (core::mem::take(&mut self.long), self.written)
    }
}

impl virtio::Buffer for Slot {
    #[inline]
    fn segments(&mut self) -> (&[u8], &mut [u8]) {
        let (readable, writable, _) = self.segments_and_cache();
        (readable, writable)
    }

    #[inline]
    fn segments_and_cache(&mut self) -> (&[u8], &mut [u8], Option<&mut Segments>) {
        let writable = if self.long.is_empty() {
            &mut self.tail[..]
        } else {
            &mut self.long[..]
        };
        let readable = &self.readable[..self.readable_len];
        (readable, writable, Some(&mut self.segments))
    }
}
