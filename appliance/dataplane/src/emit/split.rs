//! IPv4 fragmentation on the way out (RFC 791, 3.2), for packets that may be fragmented and do not fit.

use super::checksum::Sum;
use super::headers::{ETHERNET_LEN, IPV4_LEN};
use arrayvec::ArrayVec;
use pmd_shim::Frame;

/// Fragments that one packet may become: enough for the longest frame over the smallest link.
pub const MAX_PIECES: usize = 32;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// A packet could not be cut: it is not one that may be, no buffer was free, or it would take too many pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CannotSplit;

/// Cuts the IPv4 packet in `frame` to `mtu` bytes; the fragments behind the first go to `rest`, in order. Each is a copy of the
/// Ethernet and IP headers with its part of the data. A fragment is cut into further fragments of the same datagram.
///
/// # Errors
/// [`CannotSplit`]; `frame` is unchanged then.
pub fn split<F: Frame>(
    frame: &mut F,
    mtu: u16,
    mut allocate: impl FnMut() -> Option<F>,
    rest: &mut ArrayVec<F, MAX_PIECES>,
) -> Result<(), CannotSplit> {
    let bytes = frame.bytes();
    let first_byte = *bytes.get(ETHERNET_LEN).ok_or(CannotSplit)?;
    let header_len = usize::from(first_byte & 0x0f) * 4;
    if first_byte >> 4 != 4 || header_len < IPV4_LEN {
        return Err(CannotSplit);
    }
    let headers = bytes.get(..ETHERNET_LEN + header_len).ok_or(CannotSplit)?;
    let field = u16::from_be_bytes([headers[ETHERNET_LEN + 6], headers[ETHERNET_LEN + 7]]);
    if field & DONT_FRAGMENT != 0 {
        return Err(CannotSplit);
    }
    let (offset, more) = (field & OFFSET_MASK, field & MORE_FRAGMENTS != 0);
    let room = usize::from(mtu).saturating_sub(header_len) & !7;
    let data = &bytes[headers.len()..];
    if room == 0 || data.len().div_ceil(room) > MAX_PIECES {
        return Err(CannotSplit);
    }
    rest.clear();
    let first_len = data.len().min(room);
    for (index, part) in data[first_len..].chunks(room).enumerate() {
        let start = first_len + index * room;
        let last = start + part.len() == data.len();
        let mut piece = allocate().ok_or(CannotSplit)?;
        piece.set_len(headers.len() + part.len()).map_err(|_| CannotSplit)?;
        let (piece_headers, piece_data) = piece.bytes_mut().split_at_mut(headers.len());
        piece_headers.copy_from_slice(headers);
        piece_data.copy_from_slice(part);
        set_place(piece_headers, part.len(), offset + (start / 8) as u16, more || !last);
        rest.try_push(piece).map_err(|_| CannotSplit)?;
    }
    let headers_len = headers.len();
    frame.set_len(headers_len + first_len).map_err(|_| CannotSplit)?;
    set_place(&mut frame.bytes_mut()[..headers_len], first_len, offset, more || !rest.is_empty());
    Ok(())
}

/// Writes a fragment's length, place and header checksum.
fn set_place(headers: &mut [u8], data_len: usize, offset: u16, more: bool) {
    let ip = &mut headers[ETHERNET_LEN..];
    let total = (ip.len() + data_len) as u16;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let field = offset & OFFSET_MASK | if more { MORE_FRAGMENTS } else { 0 };
    ip[6..8].copy_from_slice(&field.to_be_bytes());
    ip[10..12].fill(0);
    let checksum = Sum::new().add_bytes(ip).checksum();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::VecFrame;
    use crate::wire::testing::FrameBuilder;
    use crate::wire::{Parsed, parse, testing::STATION};
    use pmd_shim::RxOffload;

    fn udp(v4: bool) -> FrameBuilder {
        let (src, dst) = if v4 { ("192.0.2.1", "192.0.2.2") } else { ("2001:db8::1", "2001:db8::2") };
        FrameBuilder::new(src, dst).udp(7, 9).payload(&[0x5a; 1400])
    }

    fn cut(frame: &[u8]) -> (VecFrame, Result<Vec<VecFrame>, CannotSplit>) {
        let mut first = VecFrame::new(frame);
        let mut rest = ArrayVec::new();
        let result = split(&mut first, 600, || Some(VecFrame::new(&[])), &mut rest);
        (first, result.map(|()| rest.into_iter().collect()))
    }

    #[test]
    fn the_pieces_are_fragments_of_the_packet() {
        let whole = udp(true).build();
        let (first, rest) = cut(&whole);
        let mut data = Vec::new();
        for piece in std::iter::once(first).chain(rest.unwrap()) {
            let Ok(Parsed::Ip(packet)) = parse(piece.bytes(), RxOffload::default(), STATION) else {
                panic!("a piece does not parse")
            };
            let place = packet.fragment.unwrap();
            assert!(packet.ip_len() <= 600);
            assert_eq!(usize::from(place.offset), data.len());
            data.extend_from_slice(&piece.bytes()[packet.l4.into()..packet.end.into()]);
            assert_eq!(place.more, data.len() < whole.len() - ETHERNET_LEN - IPV4_LEN);
        }
        assert_eq!(data, whole[ETHERNET_LEN + IPV4_LEN..]);
    }

    #[test]
    fn what_must_not_be_cut_stays_whole() {
        for frame in [udp(true).dont_fragment().build(), udp(false).build(), vec![0; ETHERNET_LEN]] {
            let (first, rest) = cut(&frame);
            assert_eq!((first.bytes(), rest), (&frame[..], Err(CannotSplit)));
        }
    }
}
