//! The answer to a SYN, written over it: its addresses, ports and number are turned round where they stand.
//!
//! It has one of three lists of options, each in the order and with the padding that Linux uses. Everything else of it is the same in
//! every answer, so that its checksums are over words that are at hand.

use super::checksum::Sum;
use super::headers::{NotWritten, TTL};
use crate::addr::MacWord;
use crate::synproxy::options::kind;
use crate::wire::plain::{self, L3, L4_OVER_V4, L4_OVER_V6};
use crate::wire::{TCP_HEADER_LEN, TcpFlags, protocol};
use pmd_shim::Frame;

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynAck {
    /// Its sequence number.
    pub seq: u32,
    /// Control bits beside SYN and ACK.
    pub flags: u8,
    /// The largest segment that is taken.
    pub mss: u16,
    /// What only an answer with timestamps has room for.
    pub more: Option<More>,
}

/// The options of an answer with timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct More {
    /// The timestamp, and the one that is echoed.
    pub timestamps: (u32, u32),
    /// The shift of windows.
    pub window_scale: Option<u8>,
    /// Selective acknowledgements are understood.
    pub sack_permitted: bool,
}

/// Lengths of the three lists.
const BARE: usize = 4;
const STAMPED: usize = 16;
const FULL: usize = 20;

/// Ends of the frames with these, over IPv4 and over IPv6.
const HEADERS_V4: usize = L4_OVER_V4 + TCP_HEADER_LEN;
const HEADERS_V6: usize = L4_OVER_V6 + TCP_HEADER_LEN;

/// Makes a frame that holds a plain SYN over IPv4 its answer, from this station.
///
/// # Errors
/// [`NotWritten`] when the frame is shorter than a SYN, or its buffer too small.
#[inline(always)]
pub fn answer_v4<F: Frame>(frame: &mut F, answer: &SynAck, station: MacWord) -> Result<(), NotWritten> {
    match answer.more {
        Some(More { window_scale: Some(_), .. }) => {
            write::<F, HEADERS_V4, { HEADERS_V4 + FULL }, FULL>(frame, answer, station)
        }
        Some(_) => write::<F, HEADERS_V4, { HEADERS_V4 + STAMPED }, STAMPED>(frame, answer, station),
        None => write::<F, HEADERS_V4, { HEADERS_V4 + BARE }, BARE>(frame, answer, station),
    }
}

/// The same over IPv6.
///
/// # Errors
/// As [`answer_v4`].
#[inline(always)]
pub fn answer_v6<F: Frame>(frame: &mut F, answer: &SynAck, station: MacWord) -> Result<(), NotWritten> {
    match answer.more {
        Some(More { window_scale: Some(_), .. }) => {
            write::<F, HEADERS_V6, { HEADERS_V6 + FULL }, FULL>(frame, answer, station)
        }
        Some(_) => write::<F, HEADERS_V6, { HEADERS_V6 + STAMPED }, STAMPED>(frame, answer, station),
        None => write::<F, HEADERS_V6, { HEADERS_V6 + BARE }, BARE>(frame, answer, station),
    }
}

/// `H` is the length of the headers, which tells the family, `O` that of the options, `N` both.
#[inline(always)]
fn write<F: Frame, const H: usize, const N: usize, const O: usize>(
    frame: &mut F,
    answer: &SynAck,
    station: MacWord,
) -> Result<(), NotWritten> {
    let is_v6 = H == HEADERS_V6;
    let l4 = H - TCP_HEADER_LEN;
    frame.set_len(frame.bytes().len().max(N)).map_err(|_| NotWritten)?;
    let bytes: &mut [u8; N] = frame.bytes_mut().first_chunk_mut().ok_or(NotWritten)?;
    let asker = MacWord::of_source(bytes);
    let (link, link_end) = MacWord::link(asker, station);
    put(bytes, 0, link);
    put(bytes, 8, link_end);
    let addresses = if is_v6 {
        let (a, b) = (plain::word(bytes, L3 + 8), plain::word(bytes, L3 + 16));
        let (c, d) = (plain::word(bytes, L3 + 24), plain::word(bytes, L3 + 32));
        put(bytes, L3, 0x60u32.to_le_bytes());
        put(bytes, L3 + 4, ((N - l4) as u16).to_be_bytes());
        put(bytes, L3 + 6, [protocol::TCP, TTL]);
        put(bytes, L3 + 8, c.to_le_bytes());
        put(bytes, L3 + 16, d.to_le_bytes());
        put(bytes, L3 + 24, a.to_le_bytes());
        put(bytes, L3 + 32, b.to_le_bytes());
        Sum::new().add_word(a).add_word(b).add_word(c).add_word(d)
    } else {
        const DONT_FRAGMENT: u8 = 0x40;
        let [high, low] = ((N - L3) as u16).to_be_bytes();
        let first = [0x45, 0, high, low, 0, 0, DONT_FRAGMENT, 0];
        let addresses = plain::word(bytes, L3 + 12);
        let sum = Sum::new().add_word(addresses);
        let header = sum.add_word(u64::from_le_bytes(first)).add_word(u64::from_le_bytes([
            TTL,
            protocol::TCP,
            0,
            0,
            0,
            0,
            0,
            0,
        ]));
        let [a, b] = header.checksum().to_be_bytes();
        put(bytes, L3, first);
        put(bytes, L3 + 8, [TTL, protocol::TCP, a, b]);
        put(bytes, L3 + 12, addresses.rotate_left(32).to_le_bytes());
        sum
    };
    // Ports and sequence number; acknowledgement, offset, flags and a closed window; checksum and urgent pointer are 0.
    let ports = plain::half_word(bytes, l4).rotate_left(16);
    let isn = plain::half_word(bytes, l4 + 4).swap_bytes();
    let begin = u64::from(ports) | u64::from(answer.seq.swap_bytes()) << 32;
    let flags = TcpFlags::SYN | TcpFlags::ACK | answer.flags;
    let offset = ((N - l4) as u8 / 4) << 4;
    let middle =
        u64::from(isn.wrapping_add(1).swap_bytes()) | u64::from(offset) << 32 | u64::from(flags) << 40;
    let pseudo = u64::from(((N - l4) as u16).swap_bytes()) + (u64::from(protocol::TCP) << 8);
    let (mut options, mut sum) = ([0; 3], addresses.add_word(pseudo).add_word(begin).add_word(middle));
    list(answer, &mut options);
    for word in options.iter().take(O.div_ceil(8)) {
        sum = sum.add_word(*word);
    }
    put(bytes, l4, begin.to_le_bytes());
    put(bytes, l4 + 8, middle.to_le_bytes());
    let [a, b] = sum.checksum().to_be_bytes();
    put(bytes, l4 + 16, [a, b, 0, 0]);
    for (at, word) in options.iter().take(O / 8).enumerate() {
        put(bytes, H + 8 * at, word.to_le_bytes());
    }
    if O % 8 == 4 {
        put(bytes, N - 4, (options[O / 8] as u32).to_le_bytes());
    }
    frame.set_len(N).map_err(|_| NotWritten)
}

/// The options, as words; those that an answer has not are behind its end.
#[inline(always)]
fn list(answer: &SynAck, words: &mut [u64; 3]) {
    let [high, low] = answer.mss.to_be_bytes();
    let mss = u32::from_le_bytes([kind::MSS, 4, high, low]);
    words[0] = u64::from(mss);
    let Some(more) = answer.more else { return };
    let [a, b] = if more.sack_permitted { [kind::SACK_PERMITTED, 2] } else { [kind::NOP; 2] };
    words[0] |= u64::from(u32::from_le_bytes([a, b, kind::TIMESTAMPS, 10])) << 32;
    let (ours, theirs) = more.timestamps;
    words[1] = u64::from(ours.swap_bytes()) | u64::from(theirs.swap_bytes()) << 32;
    if let Some(shift) = more.window_scale {
        words[2] = u64::from(u32::from_le_bytes([kind::NOP, kind::WINDOW_SCALE, 3, shift]));
    }
}

/// Bytes at an offset that is known when this is compiled: one store.
#[inline(always)]
fn put<const LEN: usize, const N: usize>(bytes: &mut [u8; N], at: usize, octets: [u8; LEN]) {
    bytes[at..at + LEN].copy_from_slice(&octets);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Addr, Mac};
    use crate::emit::segment::{self, Options, Segment};
    use crate::testing::VecFrame;
    use crate::wire::FlowKey;
    use crate::wire::testing::FrameBuilder;
    use proptest::prelude::*;
    use std::net::IpAddr;

    proptest! {
        #[test]
        fn is_what_a_segment_would_be(
            ends: [[u8; 16]; 2], v6: bool, ports: [u16; 2], isn: u32, seq: u32, ece: bool, mss: u16,
            more in prop::option::of((any::<(u32, u32)>(), prop::option::of(0u8..=14), any::<bool>())),
            asked in prop::collection::vec(Just(1u8), 0..11), len in 0usize..80,
        ) {
            let [src, dst] = ends.map(|octets| match v6 {
                true => Addr::v6({ let mut octets = octets; octets[0] = 0x20; octets }),
                false => Addr::v4([10, octets[1], octets[2], octets[3]]),
            });
            let [src_port, dst_port] = ports;
            let (asker, station) = (Mac([2, 0, 0, 0, 0, 9]), Mac([2, 0, 0, 0, 1, 1]));
            let asked: Vec<u8> = asked.iter().flat_map(|nop| [*nop; 4]).collect();
            let syn = FrameBuilder::between(IpAddr::from(src), IpAddr::from(dst))
                .link(asker, station).tcp(src_port, dst_port).seq(isn, 0).flags(TcpFlags::SYN)
                .tcp_options(&asked).payload(&vec![7; len]).build();
            let flags = if ece { 0x40 } else { 0 };
            let more = more.map(|(timestamps, window_scale, sack_permitted)| More { timestamps, window_scale, sack_permitted });
            let answer = SynAck { seq, flags, mss, more };
            let mut written = VecFrame::new(&syn);
            let done = if v6 { answer_v6(&mut written, &answer, station.into()) } else { answer_v4(&mut written, &answer, station.into()) };
            prop_assert_eq!(done, Ok(()));
            let key = FlowKey { src, dst, src_port, dst_port, protocol: protocol::TCP };
            let segment = Segment {
                key: key.reversed(),
                seq,
                ack: isn.wrapping_add(1),
                flags: TcpFlags::SYN | TcpFlags::ACK | flags,
                window: 0,
                options: Options {
                    mss: Some(mss),
                    window_scale: more.and_then(|more| more.window_scale),
                    sack_permitted: more.is_some_and(|more| more.sack_permitted),
                    timestamps: more.map(|more| more.timestamps),
                },
            };
            let mut expected = VecFrame::new(&syn);
            prop_assert_eq!(segment::write(&mut expected, &segment, station, asker), Ok(()));
            prop_assert_eq!(written.bytes(), expected.bytes());
        }
    }
}
