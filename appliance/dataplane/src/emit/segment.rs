//! TCP segments without data that the appliance writes by itself: those of handshakes, and resets in them (RFC 9293, 3.1).
//!
//! No other options are ever written than those of [`Options`].

use super::checksum::{Sum, pseudo_header};
use super::headers::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, NotWritten, TTL, ethernet, ipv4_plain, ipv6};
use crate::addr::Mac;
use crate::synproxy::options::kind;
use crate::wire::{FlowKey, TCP_HEADER_LEN, Tcp, TcpFlags, ethertype, protocol};
use pmd_shim::Frame;

/// The longest list of options that is written.
const OPTIONS_MAX: usize = 20;

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// From whom to whom.
    pub key: FlowKey,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The control bits.
    pub flags: u8,
    /// The window as it stands in the header.
    pub window: u16,
    /// The options.
    pub options: Options,
}

impl Segment {
    /// What one who knows no connection of these ends answers to a segment with an acknowledgement (RFC 9293, 3.10.7.1).
    pub fn reset_for(key: &FlowKey, tcp: &Tcp) -> Self {
        Self {
            key: key.reversed(),
            seq: tcp.ack,
            ack: 0,
            flags: TcpFlags::RST,
            window: 0,
            options: Options::default(),
        }
    }
}

/// The options of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The largest segment that its sender takes.
    pub mss: Option<u16>,
    /// The shift of its sender's windows.
    pub window_scale: Option<u8>,
    /// Its sender understands selective acknowledgements.
    pub sack_permitted: bool,
    /// Its sender's timestamp, and the one that it echoes.
    pub timestamps: Option<(u32, u32)>,
}

impl Options {
    /// In the order and with the padding that Linux uses; whole words.
    #[inline(always)]
    fn write(&self) -> ([u8; OPTIONS_MAX], usize) {
        let (mut bytes, mut len) = ([0; OPTIONS_MAX], 0);
        let mut put = |option: &[u8]| {
            if let Some(place) = bytes.get_mut(len..len + option.len()) {
                place.copy_from_slice(option);
                len += option.len();
            }
        };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            put(&[kind::MSS, 4, high, low]);
        }
        let sack = if self.sack_permitted { [kind::SACK_PERMITTED, 2] } else { [kind::NOP; 2] };
        if let Some((value, echo)) = self.timestamps {
            put(&sack);
            put(&[kind::TIMESTAMPS, 10]);
            put(&value.to_be_bytes());
            put(&echo.to_be_bytes());
        } else if self.sack_permitted {
            put(&[kind::NOP; 2]);
            put(&sack);
        }
        if let Some(shift) = self.window_scale {
            put(&[kind::NOP, kind::WINDOW_SCALE, 3, shift]);
        }
        (bytes, len)
    }
}

/// Makes the frame this segment, whatever was in it, from one station to another.
///
/// # Errors
/// [`NotWritten`] when the frame's buffer is too small, or the addresses are of two families.
#[inline(always)]
pub fn write<F: Frame>(frame: &mut F, segment: &Segment, from: Mac, to: Mac) -> Result<(), NotWritten> {
    let (options, options_len) = segment.options.write();
    let tcp_len = TCP_HEADER_LEN + options_len;
    let FlowKey { src, dst, .. } = segment.key;
    let l4 = match (src.as_v4(), dst.as_v4()) {
        (Some(src), Some(dst)) => {
            let l4 = ETHERNET_LEN + IPV4_LEN;
            frame.set_len(l4 + tcp_len).map_err(|_| NotWritten)?;
            let bytes = frame.bytes_mut();
            let (link, rest) = bytes.split_first_chunk_mut::<ETHERNET_LEN>().ok_or(NotWritten)?;
            *link = ethernet(to, from, ethertype::IPV4);
            *rest.first_chunk_mut().ok_or(NotWritten)? = ipv4_plain(src, dst, protocol::TCP, tcp_len as u16);
            l4
        }
        (None, None) => {
            let l4 = ETHERNET_LEN + IPV6_LEN;
            frame.set_len(l4 + tcp_len).map_err(|_| NotWritten)?;
            let bytes = frame.bytes_mut();
            let (link, rest) = bytes.split_first_chunk_mut::<ETHERNET_LEN>().ok_or(NotWritten)?;
            *link = ethernet(to, from, ethertype::IPV6);
            *rest.first_chunk_mut().ok_or(NotWritten)? = ipv6(&src, &dst, protocol::TCP, TTL, tcp_len as u16);
            l4
        }
        _ => return Err(NotWritten),
    };
    let mut header = header(segment, tcp_len);
    let options = options.get(..options_len).ok_or(NotWritten)?;
    let sum = pseudo_header(&src, &dst, protocol::TCP, tcp_len);
    let checksum = add(add(sum, &header), options).checksum();
    header[16..18].copy_from_slice(&checksum.to_be_bytes());
    let place = frame.bytes_mut().get_mut(l4..).ok_or(NotWritten)?;
    let (place, behind) = place.split_first_chunk_mut().ok_or(NotWritten)?;
    *place = header;
    behind.copy_from_slice(options);
    Ok(())
}

/// Adds whole words of four bytes.
#[inline(always)]
fn add(sum: Sum, bytes: &[u8]) -> Sum {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().fold(sum, |sum, word| sum.add_u32(u32::from_be_bytes(*word)))
}

#[inline(always)]
fn header(segment: &Segment, tcp_len: usize) -> [u8; TCP_HEADER_LEN] {
    let mut header = [0; TCP_HEADER_LEN];
    header[..2].copy_from_slice(&segment.key.src_port.to_be_bytes());
    header[2..4].copy_from_slice(&segment.key.dst_port.to_be_bytes());
    header[4..8].copy_from_slice(&segment.seq.to_be_bytes());
    header[8..12].copy_from_slice(&segment.ack.to_be_bytes());
    header[12] = (tcp_len as u8 / 4) << 4;
    header[13] = segment.flags;
    header[14..16].copy_from_slice(&segment.window.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::synproxy::SynOptions;
    use crate::testing::VecFrame;
    use crate::wire::{Parsed, TcpFlags, Transport, parse};
    use etherparse::{SlicedPacket, TransportSlice};
    use pmd_shim::RxOffload;
    use proptest::prelude::*;

    const HERE: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THERE: Mac = Mac([2, 0, 0, 0, 0, 2]);

    proptest! {
        /// Both our own parser and etherparse, which verify all checksums, read what was meant.
        #[test]
        fn what_is_written_is_read(
            ends: [[u8; 16]; 2], v6: bool, ports: [u16; 2], seq: u32, ack: u32, window: u16,
            mss in prop::option::of(any::<u16>()), window_scale in prop::option::of(0u8..=14), sack_permitted: bool,
            timestamps in prop::option::of(any::<(u32, u32)>()), before in 0usize..1500,
        ) {
            let [src, dst] = ends.map(|octets| match v6 {
                true => Addr::v6({ let mut octets = octets; octets[0] = 0x20; octets }),
                false => Addr::v4([10, octets[1], octets[2], octets[3]]),
            });
            let [src_port, dst_port] = ports.map(|port| port.max(1));
            let key = FlowKey { src, dst, src_port, dst_port, protocol: protocol::TCP };
            let options = Options { mss, window_scale, sack_permitted, timestamps };
            let segment = Segment { key, seq, ack, flags: TcpFlags::SYN | TcpFlags::ACK, window, options };
            let mut frame = VecFrame::new(&vec![0x5a; before]);
            prop_assert_eq!(write(&mut frame, &segment, THERE, HERE), Ok(()));
            let Ok(Parsed::Ip(packet)) = parse(frame.bytes(), RxOffload::default(), HERE) else {
                return Err(TestCaseError::fail("it is refused"));
            };
            let Transport::Tcp(tcp) = packet.transport else { return Err(TestCaseError::fail("it is no TCP")) };
            prop_assert_eq!((packet.key, packet.payload_len(), packet.ttl), (key, 0, TTL));
            prop_assert_eq!((tcp.seq, tcp.ack, tcp.window, tcp.window_scale), (seq, ack, window, window_scale));
            let written = &frame.bytes()[packet.l4 as usize + TCP_HEADER_LEN..packet.payload as usize];
            let expected = SynOptions { mss, window_scale, sack_permitted, timestamps, is_signed: false };
            prop_assert_eq!(SynOptions::read(written), expected);
            let sliced = SlicedPacket::from_ethernet(frame.bytes()).expect("etherparse reads it");
            let Some(TransportSlice::Tcp(theirs)) = sliced.transport else {
                return Err(TestCaseError::fail("etherparse reads no TCP"));
            };
            prop_assert_eq!(theirs.sequence_number(), seq);
            prop_assert_eq!(frame.bytes().len(), packet.end as usize);
        }
    }
}
