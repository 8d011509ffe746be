//! What the crate's own tests share.

use pmd_shim::{Frame, NoHeadroom, NoTailroom, RxOffload, TooShort};

const HEADROOM: usize = 128;
const CAPACITY: usize = 2048;

/// A frame in a vector, with the room of a driver's frame: 128 bytes in front, 2,048 in all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VecFrame {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
    offload: RxOffload,
    mark: u32,
}

impl VecFrame {
    /// A frame with these bytes. Around them is no zero, so that a test sees what was not written.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self::with_headroom(bytes, HEADROOM)
    }

    /// A frame with these bytes and only so much room in front.
    pub(crate) fn with_headroom(bytes: &[u8], headroom: usize) -> Self {
        let mut buffer = vec![0xa5; CAPACITY];
        buffer[headroom..headroom + bytes.len()].copy_from_slice(bytes);
        Self { buffer, start: headroom, len: bytes.len(), offload: RxOffload::default(), mark: 0 }
    }
}

impl Frame for VecFrame {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len]
    }

    fn push_front(&mut self, count: usize) -> Result<(), NoHeadroom> {
        self.start = self.start.checked_sub(count).ok_or(NoHeadroom)?;
        self.len += count;
        Ok(())
    }

    fn pop_front(&mut self, count: usize) -> Result<(), TooShort> {
        self.len = self.len.checked_sub(count).ok_or(TooShort)?;
        self.start += count;
        Ok(())
    }

    fn set_len(&mut self, len: usize) -> Result<(), NoTailroom> {
        if self.start + len > self.buffer.len() {
            return Err(NoTailroom);
        }
        self.len = len;
        Ok(())
    }

    fn offload(&self) -> RxOffload {
        self.offload
    }

    fn set_offload(&mut self, offload: RxOffload) {
        self.offload = offload;
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn set_mark(&mut self, mark: u32) {
        self.mark = mark;
    }
}
