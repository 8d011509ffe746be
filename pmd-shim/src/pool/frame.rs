//! The owned handle to a chunk in use.

use super::chunk::{HEADER, HEADROOM, Header};
use super::lists::Shared;
use crate::prefetch::prefetch_to_write;
use crate::{BURST, Burst, Frame, NoHeadroom, NoTailroom, RxOffload, TooShort};
use arrayvec::ArrayVec;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::{fmt, slice};

/// A frame in a chunk of a [`Pool`](super::Pool): eight bytes to hand around, free again when dropped, on any thread.
pub struct PoolFrame {
    /// Invariants: the chunk is in no free list and no other handle points to it; `HEADER <= data`, `data + len <= end`.
    header: NonNull<Header>,
}

// SAFETY: the handle is the only way to its chunk, and giving the chunk back is synchronised by the pool.
unsafe impl Send for PoolFrame {}

impl PoolFrame {
    /// The empty frame in a chunk.
    ///
    /// # Safety
    /// The chunk is of a live pool, was just taken out of a free list, and this is the only handle made from it.
    #[inline]
    pub(super) unsafe fn from_chunk(header: NonNull<Header>) -> Self {
        let mut frame = Self { header };
        let fields = frame.header_mut();
        fields.data = (HEADER + HEADROOM) as u32;
        fields.len = 0;
        fields.mark = 0;
        fields.offload = RxOffload::default();
        frame
    }

    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: points to an initialised header that only this handle reaches.
        unsafe { self.header.as_ref() }
    }

    #[inline(always)]
    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as in `header`; the borrow covers the header line only, not the frame's bytes.
        unsafe { self.header.as_mut() }
    }

    /// How many more bytes fit behind the frame.
    #[inline]
    pub fn tailroom(&self) -> usize {
        let header = self.header();
        (header.end - header.data - header.len) as usize
    }

    /// Appends a copy of `bytes`.
    ///
    /// # Errors
    /// [`NoTailroom`] when they do not fit; the frame is unchanged.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), NoTailroom> {
        if bytes.len() > self.tailroom() {
            return Err(NoTailroom);
        }
        let header = self.header();
        let (start, len) = (header.data as usize + header.len as usize, bytes.len());
        // SAFETY: `start + len <= end`, so the target lies in the chunk, which only this handle reaches; a shared slice elsewhere
        // cannot overlap it, since one into this frame would borrow it.
        unsafe {
            self.header.cast::<u8>().add(start).copy_from_nonoverlapping(NonNull::from(bytes).cast(), len)
        };
        self.header_mut().len += len as u32;
        Ok(())
    }
}

/// What the kernel reads and writes by the place in the pool's memory.
#[cfg(feature = "af_xdp")]
impl PoolFrame {
    /// The frame of `len` bytes that somebody else wrote to a chunk, `data` bytes behind its header.
    ///
    /// # Safety
    /// As for [`from_chunk`](Self::from_chunk); and `HEADER <= data`, and `data + len` is within the chunk.
    #[inline]
    pub(super) unsafe fn written(header: NonNull<Header>, data: usize, len: usize) -> Self {
        // SAFETY: the caller's promise is handed on.
        let mut frame = unsafe { Self::from_chunk(header) };
        let fields = frame.header_mut();
        debug_assert!(HEADER <= data && data + len <= fields.end as usize);
        fields.data = data as u32;
        fields.len = len as u32;
        frame
    }

    /// The pool that the chunk belongs to.
    #[inline]
    pub(super) fn home(&self) -> NonNull<Shared> {
        self.header().shared
    }

    /// Which chunk it is, where in it the frame starts, counted from the header, and how long it is.
    #[inline]
    pub(super) fn place(&self) -> (u32, usize, usize) {
        let Header { index, data, len, .. } = *self.header();
        (index, data as usize, len as usize)
    }
}

impl Frame for PoolFrame {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let header = self.header();
        // SAFETY: `data + len <= end` lies in the chunk, whose bytes are initialised (zeroed when mapped); only this handle
        // reaches them, and it stays borrowed.
        unsafe {
            slice::from_raw_parts(
                self.header.cast::<u8>().add(header.data as usize).as_ptr(),
                header.len as usize,
            )
        }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let header = self.header();
        let (data, len) = (header.data as usize, header.len as usize);
        // SAFETY: as in `bytes`; the handle stays borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.header.cast::<u8>().add(data).as_ptr(), len) }
    }

    #[inline]
    fn push_front(&mut self, count: usize) -> Result<(), NoHeadroom> {
        let header = self.header_mut();
        if count > header.data as usize - HEADER {
            return Err(NoHeadroom);
        }
        header.data -= count as u32;
        header.len += count as u32;
        Ok(())
    }

    #[inline]
    fn pop_front(&mut self, count: usize) -> Result<(), TooShort> {
        let header = self.header_mut();
        if count > header.len as usize {
            return Err(TooShort);
        }
        header.data += count as u32;
        header.len -= count as u32;
        Ok(())
    }

    #[inline]
    fn set_len(&mut self, len: usize) -> Result<(), NoTailroom> {
        let header = self.header_mut();
        if len > (header.end - header.data) as usize {
            return Err(NoTailroom);
        }
        header.len = len as u32;
        Ok(())
    }

    #[inline]
    fn offload(&self) -> RxOffload {
        self.header().offload
    }

    #[inline]
    fn set_offload(&mut self, offload: RxOffload) {
        self.header_mut().offload = offload;
    }

    #[inline]
    fn mark(&self) -> u32 {
        self.header().mark
    }

    #[inline]
    fn set_mark(&mut self, mark: u32) {
        self.header_mut().mark = mark;
    }

    #[inline]
    fn free_all(burst: &mut Burst<Self>) {
        let headers = burst.drain(..).map(|frame| ManuallyDrop::new(frame).header);
        let headers: ArrayVec<_, BURST> = headers.collect();
        // SAFETY: the handles held the chunks, and are gone without having given them back.
        unsafe { Shared::give_all(&headers) }
    }

    #[inline]
    fn prefetch(&self) {
        // The header is at hand: whoever made the frame has just written it.
        let data = self.header().data as usize;
        prefetch_to_write(self.header.as_ptr().cast_const().cast::<u8>().wrapping_add(data));
    }

    #[inline]
    fn prefetch_header(&self) {
        prefetch_to_write(self.header.as_ptr().cast_const().cast());
    }
}

impl Drop for PoolFrame {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle holds the chunk until here, and nobody uses a dropped handle.
        unsafe { Shared::give(self.header) }
    }
}

impl fmt::Debug for PoolFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolFrame").field("bytes", &self.bytes()).field("offload", &self.offload()).finish()
    }
}
