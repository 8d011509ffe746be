//! The Geneve header (RFC 8926, 3.4), with the options of a gateway load balancer, and IP inside.
//!
//! ```text
//!  0                   1                   2                   3
//! +---+-----------+-+-+-----------+-------------------------------+
//! |Ver| Opt Len   |O|C|   Rsvd.   |         protocol type         |
//! +---+-----------+-+-+-----------+---------------+---------------+
//! |          network identifier (VNI)             |   reserved    |
//! +-----------------------------------------------+---------------+
//! | each option: class (16), C and type (8), 3 reserved, length (5) in words, data |
//! ```
//!
//! Such a load balancer has one tunnel for both sides. It knows a packet again by three options and the UDP source port, so all of that
//! goes back with the packet: its [`Envelope`], which travels behind the packet like an Ethernet frame's padding.

use crate::addr::Family;
use crate::verdict::DropReason;
use crate::wire::{ETHERNET_HEADER_LEN, ethertype};
use pmd_shim::Frame;

/// Length of the header in bytes, without options.
pub const HEADER_LEN: usize = 8;

/// Length of the load balancer's three options: the endpoint's and the attachment's number, 8 bytes each, and the flow's, 4 bytes.
pub const OPTIONS_LEN: usize = 12 + 12 + 8;

/// As many bytes of options are taken: twice the load balancer's.
pub const OPTIONS_MAX: usize = 2 * OPTIONS_LEN;

/// The load balancer's class of options.
const CLASS: u16 = 0x0108;
/// The length of the data of its options, in words, by their type, from 1.
const WORDS: [u8; 3] = [2, 2, 1];

const CRITICAL: u8 = 0x80;
/// A control packet: there is no packet inside.
const FLAG_O: u8 = 0x80;
/// Some option is critical.
const FLAG_C: u8 = 0x40;

/// What stands in front of the inner packet, as far as the sender of an answer needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The family of the inner packet, as the protocol type says.
    pub family: Family,
    /// How long header and options are together, in bytes.
    pub len: usize,
}

/// The network that a header names.
#[inline]
pub const fn vni(header: [u8; HEADER_LEN]) -> u32 {
    let [_, _, _, _, a, b, c, _] = header;
    u32::from_be_bytes([0, a, b, c])
}

/// Reads header and options at the start of a datagram's payload. Reserved bits are ignored, and so are options that nobody here knows,
/// unless they are critical.
///
/// # Errors
/// - [`DropReason::Malformed`]: it ends too early, options do not fill their room exactly, or one of the load balancer's is missing, there
///   twice, or of another length;
/// - [`DropReason::Unsupported`]: another version, a control packet, no IP inside, an unknown critical option, or more options than
///   [`OPTIONS_MAX`].
pub fn parse(payload: &[u8]) -> Result<Header, DropReason> {
    let header: [u8; HEADER_LEN] = *payload.first_chunk().ok_or(DropReason::Malformed)?;
    let [first, flags, kind @ ..] = header;
    if first >> 6 != 0 || flags & FLAG_O != 0 {
        return Err(DropReason::Unsupported);
    }
    let len = HEADER_LEN + usize::from(first & 0x3f) * 4;
    let options = payload.get(HEADER_LEN..len).ok_or(DropReason::Malformed)?;
    if options.len() > OPTIONS_MAX {
        return Err(DropReason::Unsupported);
    }
    check_options(options)?;
    let family = match u16::from_be_bytes([kind[0], kind[1]]) {
        ethertype::IPV4 => Family::V4,
        ethertype::IPV6 => Family::V6,
        _ => return Err(DropReason::Unsupported),
    };
    Ok(Header { family, len })
}

/// Each option is four bytes long at least, so the walk ends.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    let mut seen = [false; WORDS.len()];
    while let Some(([c0, c1, kind, words], rest)) = options.split_first_chunk() {
        let words = words & 0x1f;
        options = rest.get(usize::from(words) * 4..).ok_or(DropReason::Malformed)?;
        let place = usize::from(kind & !CRITICAL).wrapping_sub(1);
        match (u16::from_be_bytes([*c0, *c1]), WORDS.get(place), seen.get_mut(place)) {
            (CLASS, Some(right), Some(seen)) => {
                if words != *right || *seen {
                    return Err(DropReason::Malformed);
                }
                *seen = true;
            }
            _ if kind & CRITICAL != 0 => return Err(DropReason::Unsupported),
            _ => {}
        }
    }
    if seen == [true; WORDS.len()] { Ok(()) } else { Err(DropReason::Malformed) }
}

/// What goes back with a packet: the UDP source port that it came with, and its options, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The UDP source port.
    pub source_port: u16,
    flags: u8,
    len: u8,
    options: [u8; OPTIONS_MAX],
}

/// Behind the packet: source port, flags, options, and how long these are.
const AROUND_OPTIONS: usize = 4;

impl Envelope {
    /// Of a packet whose Geneve header, which [`parse`] took, is at `at`. `None`: it is not there.
    pub fn read(bytes: &[u8], at: usize) -> Option<Self> {
        const UDP: usize = crate::wire::UDP_HEADER_LEN;
        let source_port = u16::from_be_bytes(*bytes.get(at.checked_sub(UDP)?..)?.first_chunk()?);
        let [first, flags, ..]: [u8; HEADER_LEN] = *bytes.get(at..)?.first_chunk()?;
        Self::of(
            source_port,
            flags & FLAG_C,
            bytes.get(at + HEADER_LEN..)?.get(..usize::from(first & 0x3f) * 4)?,
        )
    }

    fn of(source_port: u16, flags: u8, bytes: &[u8]) -> Option<Self> {
        let mut options = [0; OPTIONS_MAX];
        options.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { source_port, flags, len: bytes.len() as u8, options })
    }

    /// The options.
    pub fn options(&self) -> &[u8] {
        self.options.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The header of a network with a packet of this family inside; the options follow.
    pub fn header(&self, vni: u32, family: Family) -> [u8; HEADER_LEN] {
        let kind = match family {
            Family::V4 => ethertype::IPV4,
            Family::V6 => ethertype::IPV6,
        };
        let ([_, a, b, c], [k0, k1]) = (vni.to_be_bytes(), kind.to_be_bytes());
        [self.len / 4, self.flags, k0, k1, a, b, c, 0]
    }

    /// Puts it behind the packet in a frame. `None`: there is no room; the frame is as it was.
    pub fn put_behind<F: Frame>(&self, frame: &mut F) -> Option<()> {
        let at = frame.bytes().len();
        let len = AROUND_OPTIONS + self.options().len();
        if frame.set_len(at + len).is_err() {
            make_room(frame, at, len)?;
        }
        let ([p0, p1], options) = (self.source_port.to_be_bytes(), self.options());
        let place = frame.bytes_mut().get_mut(at..)?;
        let (head, rest) = place.split_first_chunk_mut()?;
        *head = [p0, p1, self.flags];
        let (tail, rest) = rest.split_last_mut()?;
        *tail = self.len;
        rest.copy_from_slice(options);
        Some(())
    }

    /// How much longer its options are than those that every packet has, of a packet in a frame that has one behind it.
    pub fn excess(bytes: &[u8]) -> u16 {
        u16::from(bytes.last().copied().unwrap_or_default()).saturating_sub(OPTIONS_LEN as u16)
    }

    /// Takes it from behind the packet in a frame. `None`: there is none; the frame is as it was.
    pub fn take_from<F: Frame>(frame: &mut F) -> Option<Self> {
        let (bytes, len) = frame.bytes().split_last().map(|(len, bytes)| (bytes, usize::from(*len)))?;
        let at = bytes.len().checked_sub(AROUND_OPTIONS - 1 + len)?;
        let (&[p0, p1, flags], options) = bytes.get(at..)?.split_first_chunk()?;
        let envelope = Self::of(u16::from_be_bytes([p0, p1]), flags, options)?;
        (at >= ETHERNET_HEADER_LEN).then_some(())?;
        frame.set_len(at).ok()?;
        Some(envelope)
    }
}

/// Moves a frame of `at` bytes that ends where its buffer ends to the front, so that there is room for `len` more behind it. Cutting the
/// outer headers off has left more than that.
#[cold]
fn make_room<F: Frame>(frame: &mut F, at: usize, len: usize) -> Option<()> {
    frame.push_front(len).ok()?;
    let bytes = frame.bytes_mut();
    if bytes.len() == at + len {
        bytes.copy_within(len.., 0);
    }
    Some(())
}

#[cfg(test)]
mod tests;
