//! The owned handle to one of DPDK's packet buffers.

use super::ffi::{self, rte_mbuf};
use super::pool::HEADROOM;
use crate::prefetch::prefetch_to_write;
use crate::{ChecksumStatus, Frame, NoHeadroom, NoTailroom, RxOffload, TooShort};
use core::mem::offset_of;
use core::ptr::NonNull;
use core::{fmt, slice};

/// A frame in a buffer of an [`MbufPool`](super::MbufPool): eight bytes to hand around, free again when dropped, on any thread.
#[repr(transparent)]
pub struct Mbuf {
    /// Invariants: this is the only handle to the buffer, which has one reference and one segment; `data_off + data_len <= buf_len`
    /// and `pkt_len == data_len`; the word pair where drivers leave the receive hash is a [`Note`].
    raw: NonNull<rte_mbuf>,
}

// SAFETY: the handle is the only way to its buffer, and pools of DPDK's may be given buffers back on any thread.
unsafe impl Send for Mbuf {}

/// What a frame carries along, in the place of the receive hash: it is the driver's until a frame is received and nobody's after.
#[repr(C)]
#[derive(Clone, Copy)]
struct Note {
    mark: u32,
    offload: u32,
}

// Bursts are arrays of handles here and of pointers there.
const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut rte_mbuf>());
// The hash is 8 bytes long, aligned like a Note, and all that is touched for each frame is on the buffer's first line.
const _: () = assert!(size_of::<Note>() == 8 && align_of::<Note>() == 4);
const _: () = assert!(offset_of!(rte_mbuf, vlan_tci_outer) - offset_of!(rte_mbuf, __bindgen_anon_2) == 8);
const _: () = assert!(offset_of!(rte_mbuf, __bindgen_anon_2) % align_of::<Note>() == 0);
const _: () = assert!(offset_of!(rte_mbuf, next) == 64 && align_of::<rte_mbuf>() == 64);

const VERIFIED: u32 = 1;
const HAS_VLAN: u32 = 2;
const TRUNCATED: u32 = 4;
const VLAN_SHIFT: u32 = 16;

impl Mbuf {
    /// The frame in a buffer that was just allocated.
    ///
    /// # Safety
    /// `raw` came from DPDK's allocator, which has reset it, and this is the only handle made from it.
    #[inline]
    pub(super) unsafe fn from_new(raw: NonNull<rte_mbuf>) -> Self {
        let mut frame = Self { raw };
        frame.set_note(Note { mark: 0, offload: 0 });
        frame
    }

    /// Makes a frame of what a driver has just received, and returns its length in bytes.
    ///
    /// A frame in several segments is longer than a buffer; it keeps its first segment and is marked as truncated.
    ///
    /// # Safety
    /// `raw` came from a receive burst, and is not touched but through the one handle that is made of it.
    #[inline(always)]
    pub(super) unsafe fn receive(raw: *mut rte_mbuf) -> u64 {
        // SAFETY: the buffer is live and the caller's alone.
        let fields = unsafe { &mut *raw };
        let flags = fields.ol_flags;
        let is_verified = flags & ffi::SHIM_RX_L4_MASK == ffi::SHIM_RX_L4_GOOD;
        let mut offload = if is_verified { VERIFIED } else { 0 };
        if flags & ffi::SHIM_RX_VLAN_STRIPPED != 0 {
            offload |= HAS_VLAN | u32::from(fields.vlan_tci) << VLAN_SHIFT;
        }
        if fields.nb_segs != 1 {
            cut(fields);
            offload |= TRUNCATED;
        }
        let len = fields.data_len;
        // SAFETY: within the buffer's first line, and aligned: see the assertions above.
        unsafe { (&raw mut fields.__bindgen_anon_2).cast::<Note>().write(Note { mark: 0, offload }) };
        // The whole burst's bytes are on their way before the first are read.
        prefetch_to_write(fields.buf_addr.cast::<u8>().wrapping_add(usize::from(fields.data_off)));
        u64::from(len)
    }

    #[inline(always)]
    fn fields(&self) -> &rte_mbuf {
        // SAFETY: points to an initialised buffer that only this handle reaches.
        unsafe { self.raw.as_ref() }
    }

    #[inline(always)]
    fn fields_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: as in `fields`; the borrow covers the buffer's description only, not the frame's bytes.
        unsafe { self.raw.as_mut() }
    }

    #[inline(always)]
    fn note(&self) -> Note {
        // SAFETY: the invariant says that a Note is there.
        unsafe { (&raw const self.fields().__bindgen_anon_2).cast::<Note>().read() }
    }

    #[inline(always)]
    fn set_note(&mut self, note: Note) {
        // SAFETY: 8 bytes within the buffer's description, aligned: see the assertions above.
        unsafe { (&raw mut self.fields_mut().__bindgen_anon_2).cast::<Note>().write(note) }
    }

    /// Length in bytes.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        usize::from(self.fields().data_len)
    }

    /// How many more bytes fit behind the frame.
    #[inline]
    pub fn tailroom(&self) -> usize {
        let fields = self.fields();
        usize::from(fields.buf_len) - usize::from(fields.data_off) - usize::from(fields.data_len)
    }

    /// Appends a copy of `bytes`.
    ///
    /// # Errors
    /// [`NoTailroom`] when they do not fit; the frame is unchanged.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), NoTailroom> {
        let len = self.len();
        self.set_len(len + bytes.len())?;
        if let Some(end) = self.bytes_mut().get_mut(len..) {
            end.copy_from_slice(bytes);
        }
        Ok(())
    }
}

/// Gives back all segments but the first.
#[cold]
fn cut(first: &mut rte_mbuf) {
    let rest = core::mem::replace(&mut first.next, core::ptr::null_mut());
    first.nb_segs = 1;
    first.pkt_len = first.data_len.into();
    if !rest.is_null() {
        // SAFETY: the segments belonged to the frame, whose description no longer names them.
        unsafe { ffi::shim_free(rest) }
    }
}

impl Frame for Mbuf {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        let fields = self.fields();
        // SAFETY: `data_off + data_len <= buf_len` lies in the buffer, whose memory the kernel zeroed before its first use; only
        // this handle reaches it, and it stays borrowed.
        unsafe {
            let start = fields.buf_addr.cast::<u8>().add(usize::from(fields.data_off));
            slice::from_raw_parts(start, usize::from(fields.data_len))
        }
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let fields = self.fields();
        // SAFETY: as in `bytes`; the handle stays borrowed mutably.
        unsafe {
            let start = fields.buf_addr.cast::<u8>().add(usize::from(fields.data_off));
            slice::from_raw_parts_mut(start, usize::from(fields.data_len))
        }
    }

    #[inline]
    fn push_front(&mut self, count: usize) -> Result<(), NoHeadroom> {
        let fields = self.fields_mut();
        if count > usize::from(fields.data_off) {
            return Err(NoHeadroom);
        }
        // Cannot overflow: the sum of the two does not change, and is at most `buf_len`.
        fields.data_off -= count as u16;
        fields.data_len += count as u16;
        fields.pkt_len = fields.data_len.into();
        Ok(())
    }

    #[inline]
    fn pop_front(&mut self, count: usize) -> Result<(), TooShort> {
        let fields = self.fields_mut();
        if count > usize::from(fields.data_len) {
            return Err(TooShort);
        }
        fields.data_off += count as u16;
        fields.data_len -= count as u16;
        fields.pkt_len = fields.data_len.into();
        Ok(())
    }

    #[inline]
    fn set_len(&mut self, len: usize) -> Result<(), NoTailroom> {
        let fields = self.fields_mut();
        if len > usize::from(fields.buf_len - fields.data_off) {
            return Err(NoTailroom);
        }
        fields.data_len = len as u16;
        fields.pkt_len = len as u32;
        Ok(())
    }

    #[inline]
    fn offload(&self) -> RxOffload {
        let word = self.note().offload;
        let is_verified = word & VERIFIED != 0;
        RxOffload {
            checksum: if is_verified { ChecksumStatus::Verified } else { ChecksumStatus::Unverified },
            vlan: (word & HAS_VLAN != 0).then_some((word >> VLAN_SHIFT) as u16),
            truncated: word & TRUNCATED != 0,
        }
    }

    #[inline]
    fn set_offload(&mut self, offload: RxOffload) {
        let mut word = if offload.checksum == ChecksumStatus::Verified { VERIFIED } else { 0 };
        if let Some(tag) = offload.vlan {
            word |= HAS_VLAN | u32::from(tag) << VLAN_SHIFT;
        }
        if offload.truncated {
            word |= TRUNCATED;
        }
        let mark = self.note().mark;
        self.set_note(Note { mark, offload: word });
    }

    #[inline]
    fn mark(&self) -> u32 {
        self.note().mark
    }

    #[inline]
    fn set_mark(&mut self, mark: u32) {
        let offload = self.note().offload;
        self.set_note(Note { mark, offload });
    }

    #[inline]
    fn prefetch(&self) {
        let fields = self.fields();
        prefetch_to_write(
            fields.buf_addr.cast_const().cast::<u8>().wrapping_add(usize::from(fields.data_off)),
        );
    }

    #[inline]
    fn prefetch_header(&self) {
        prefetch_to_write(core::ptr::from_ref(self.fields()).cast());
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the handle holds the buffer until here, and nobody uses a dropped handle. The pool is still there: it is freed
        // only when no buffer is in use.
        unsafe { ffi::shim_free(self.raw.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf").field("bytes", &self.bytes()).field("offload", &self.offload()).finish()
    }
}

const _: () = assert!(HEADROOM >= crate::HEADROOM);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PoolOptions;
    use crate::dpdk::{MbufPool, tests::eal};
    use core::mem;

    fn pool() -> MbufPool {
        MbufPool::new(eal(), PoolOptions { frames: 15, data_room: 1518 }).unwrap()
    }

    /// A buffer as a driver hands it over, with the receive hash in it.
    fn received(pool: &MbufPool, len: usize, flags: u64) -> *mut rte_mbuf {
        let mut frame = pool.frame().unwrap();
        frame.set_len(len).unwrap();
        frame.set_note(Note { mark: 0xdead_beef, offload: 0xffff_ffff });
        frame.fields_mut().ol_flags = flags;
        frame.fields_mut().vlan_tci = 0x6123;
        let raw = frame.raw.as_ptr();
        mem::forget(frame);
        raw
    }

    /// What becomes of it.
    fn frame(raw: *mut rte_mbuf) -> (u64, Mbuf) {
        // SAFETY: made by `received`, and not touched by anybody else.
        let len = unsafe { Mbuf::receive(raw) };
        (len, Mbuf { raw: NonNull::new(raw).unwrap() })
    }

    #[test]
    fn tells_what_the_device_found_out() {
        let pool = pool();
        let bad = ffi::SHIM_RX_L4_MASK & !ffi::SHIM_RX_L4_GOOD;
        for (flags, checksum, vlan) in [
            (0, ChecksumStatus::Unverified, None),
            (ffi::SHIM_RX_L4_GOOD, ChecksumStatus::Verified, None),
            (bad, ChecksumStatus::Unverified, None),
            // Both bits: to be computed yet.
            (ffi::SHIM_RX_L4_MASK, ChecksumStatus::Unverified, None),
            (ffi::SHIM_RX_VLAN_STRIPPED, ChecksumStatus::Unverified, Some(0x6123)),
            (ffi::SHIM_RX_L4_GOOD | ffi::SHIM_RX_VLAN_STRIPPED, ChecksumStatus::Verified, Some(0x6123)),
        ] {
            let (len, frame) = frame(received(&pool, 77, flags));
            assert_eq!((len, frame.bytes().len(), frame.mark()), (77, 77, 0));
            assert_eq!(frame.offload(), RxOffload { checksum, vlan, truncated: false });
        }
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_frame_in_segments_keeps_the_first_and_gives_back_the_others() {
        let pool = pool();
        let [first, second, third] = [500, 500, 500].map(|len| received(&pool, len, 0));
        // SAFETY: three live buffers that nobody else has.
        unsafe {
            (*second).next = third;
            (*first).next = second;
            (*first).nb_segs = 3;
            (*first).pkt_len = 1500;
        }
        let (len, mut frame) = frame(first);
        assert_eq!((len, frame.bytes().len()), (500, 500));
        assert!(frame.offload().truncated);
        assert_eq!(pool.in_use(), 1);
        assert_eq!(frame.set_len(1518), Ok(()));
        drop(frame);
        assert_eq!(pool.in_use(), 0);
        // The buffers that were segments are whole again.
        let all: Vec<Mbuf> = (0..15).map(|_| pool.frame().unwrap()).collect();
        assert!(all.iter().all(|frame| frame.fields().nb_segs == 1 && frame.fields().next.is_null()));
    }
}
