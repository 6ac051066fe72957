// SPDX-License-Identifier: GPL-2.0

//! What remembers where the parts of a buffer lie is borrowed together with them: nobody has the
//! buffer to himself while the parts are in use.

// Error: E0499

use kernel::virtio::{
    Buffer,
    Segments, //
};

struct Bytes {
    bytes: [u8; 8],
    cache: Segments,
}

impl Bytes {
    #[cfg(wrong)]
    fn cache(&mut self) -> &mut Segments {
        self.bytes = [0; 8];
        &mut self.cache
    }
}

impl Buffer for Bytes {
    fn segments(&mut self) -> (&[u8], &mut [u8]) {
        (&[], &mut self.bytes)
    }

    #[cfg(not(wrong))]
    fn segments_and_cache(&mut self) -> (&[u8], &mut [u8], Option<&mut Segments>) {
        (&[], &mut self.bytes, Some(&mut self.cache))
    }

    #[cfg(wrong)]
    fn segments_and_cache(&mut self) -> (&[u8], &mut [u8], Option<&mut Segments>) {
        let (readable, writable) = self.segments();
        (readable, writable, Some(self.cache()))
    }
}
