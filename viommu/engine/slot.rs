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

/// What a slot carries.
pub(super) enum Command {
    /// A request whose answer is a status.
    Plain(Request),
    /// PROBE. What the device writes is outside the slot: it is rare and large.
    Probe { endpoint: u32, buf: KVec<u8> },
}

/// Memory for one request. The engine allocates its slots once and reuses them.
///
/// A slot is owned by one of: the engine's pool, the virtqueue (while the device works on it), or
/// the caller that collects its answer. It is never shared.
pub(crate) struct Slot {
    /// Position in the order in which requests were staged.
    pub(super) seq: u64,
    /// Whether a caller will collect the answer. If not, the engine looks at the status itself.
    pub(super) collected: bool,
    command: Command,
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
                command: Self::NOTHING,
                readable_len: 0,
                readable: [0; READABLE],
                tail: [0; TAIL],
                written: 0,
                segments: Segments::new(),
            },
            GFP_KERNEL,
        )?)
    }

    /// What stands in a slot that carries nothing.
    const NOTHING: Command = Command::Plain(Request::Detach {
        domain: 0,
        endpoint: 0,
    });

    /// Loads a request whose answer nobody collects, in the form that the device reads.
    #[inline]
    pub(super) fn load(&mut self, request: Request) {
        self.readable_len = request.encode(&mut self.readable);
        self.tail = [UNANSWERED; TAIL];
        self.written = 0;
        self.collected = false;
        self.command = Command::Plain(request);
    }

    /// Loads a command whose answer a caller collects.
    pub(super) fn load_collected(&mut self, command: Command) {
        match command {
            Command::Plain(request) => self.load(request),
            Command::Probe { endpoint, mut buf } => {
                self.load(Request::Probe { endpoint });
                buf.fill(UNANSWERED);
                self.command = Command::Probe { endpoint, buf };
            }
        }
        self.collected = true;
    }

    /// Takes the command back that the slot was loaded with.
    pub(super) fn unload(&mut self) -> Command {
        core::mem::replace(&mut self.command, Self::NOTHING)
    }

    /// The request that the slot carries; [`None`] for a PROBE.
    pub(super) fn request(&self) -> Option<Request> {
        match self.command {
            Command::Plain(request) => Some(request),
            Command::Probe { .. } => None,
        }
    }

    /// Notes how many bytes the device claims to have written, clamped to what it was given.
    #[inline]
    pub(super) fn set_written(&mut self, written: usize) {
        self.written = written;
    }

    /// Returns the status that the device gave to a [`Command::Plain`].
    #[inline]
    pub(super) fn status(&self) -> Status {
        Status::from_tail(&self.tail, self.written)
    }

    /// Takes what the device wrote in reply to a [`Command::Probe`]: the memory, and the number of
    /// bytes written.
    pub(super) fn take_probe(&mut self) -> Option<(KVec<u8>, usize)> {
        match self.unload() {
            Command::Plain(_) => None,
            Command::Probe { buf, .. } => Some((buf, self.written)),
        }
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
        let writable = match &mut self.command {
            Command::Plain(_) => &mut self.tail[..],
            Command::Probe { buf, .. } => buf,
        };
        let readable = &self.readable[..self.readable_len];
        (readable, writable, Some(&mut self.segments))
    }
}
