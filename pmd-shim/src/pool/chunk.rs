//! What a chunk looks like: its header line, the room in front, and how chunks follow each other in memory.

use super::lists::Shared;
use crate::RxOffload;
use core::ptr::NonNull;

/// Bytes in front of a new frame that it can grow into: a VXLAN tunnel over IPv6 and a VLAN tag (74), rounded up to cache lines.
pub const HEADROOM: usize = 128;
/// One cache line of bookkeeping in front of the headroom.
pub(super) const HEADER: usize = 64;
/// What a chunk spends before its data.
pub(super) const FIXED_ROOM: usize = HEADER + HEADROOM;
/// The sizes that a chunk can have.
pub(super) const SIZES: [usize; 3] = [2048, 4096, 16384];
/// The longest chunk that an AF_XDP socket takes: a page.
const UMEM_CHUNK_MAX: usize = 4096;
/// What an AF_XDP socket leaves free in front of a frame, behind the room that it was told to leave (`XDP_PACKET_HEADROOM`).
const XDP_HEADROOM: usize = 256;
/// More colours than this do not spread a burst any further.
const COLOURS_MAX: usize = 16;

/// The line that describes a chunk, written by the frame's holder.
#[repr(C, align(64))]
pub(super) struct Header {
    /// The pool that the chunk belongs to.
    pub(super) shared: NonNull<Shared>,
    /// Where the chunk is in the pool.
    pub(super) index: u32,
    /// First byte of the frame, counted from this header.
    pub(super) data: u32,
    /// Bytes of the frame.
    pub(super) len: u32,
    /// First byte behind the chunk, counted from this header.
    pub(super) end: u32,
    /// The word that travels with the frame.
    pub(super) mark: u32,
    /// What the driver found out.
    pub(super) offload: RxOffload,
}

const _: () = assert!(size_of::<Header>() == HEADER);

/// How a pool's memory is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes of a chunk; a power of two.
    pub(super) chunk: usize,
    /// How many different shifts there are; a power of two.
    colours: usize,
}

impl Geometry {
    /// The smallest chunk that holds `data_room` bytes, and as many colours as fit in the rest.
    pub(super) fn for_data_room(data_room: usize) -> Option<Self> {
        let uncoloured = |chunk| Self { chunk, colours: 1 };
        let geometry = SIZES.into_iter().map(uncoloured).find(|one| one.data_room() >= data_room)?;
        let spare_lines = (geometry.data_room() - data_room) / HEADER;
        let colours = (1 << (spare_lines + 1).ilog2()).min(COLOURS_MAX);
        Some(Self { colours, ..geometry })
    }

    /// What fits in every chunk, whatever its colour; also behind the longer room that AF_XDP leaves in front, if it takes such chunks.
    pub(super) fn data_room(&self) -> usize {
        let room = self.chunk - FIXED_ROOM - (self.colours - 1) * HEADER;
        if self.chunk <= UMEM_CHUNK_MAX { room.min(self.umem_room()) } else { room }
    }

    /// The chunks that an AF_XDP socket is told of, in bytes. Of a longer chunk it gets the first page, and none of the others.
    pub(super) fn umem_chunk(&self) -> usize {
        self.chunk.min(UMEM_CHUNK_MAX)
    }

    /// The room that an AF_XDP socket is told to leave untouched at a chunk's start: the header is in it, whatever its colour.
    pub(super) fn umem_headroom(&self) -> usize {
        self.colours * HEADER
    }

    /// The longest frame that an AF_XDP socket writes to a chunk.
    pub(super) fn umem_room(&self) -> usize {
        self.umem_chunk() - self.umem_headroom() - XDP_HEADROOM
    }

    /// Which chunk the byte `offset` is in, counted from the start of the memory, and where in it.
    #[cfg(feature = "af_xdp")]
    #[inline]
    pub(super) fn split(&self, offset: usize) -> (usize, usize) {
        // A power of two: a shift, not a division.
        (offset >> self.chunk.trailing_zeros(), offset & (self.chunk - 1))
    }

    /// Where the header of chunk `index` is, from the start of the memory.
    #[inline]
    pub(super) fn header_offset(&self, index: usize) -> usize {
        index * self.chunk + self.colour(index)
    }

    /// How far chunk `index` is shifted, in bytes.
    #[inline]
    pub(super) fn colour(&self, index: usize) -> usize {
        (index & (self.colours - 1)) * HEADER
    }
}
