//! Turns an echo request into its reply (RFC 792, RFC 4443 4.2).

use super::checksum::ChecksumDelta;
use super::headers::{NotWritten, TTL};
use crate::addr::Family;
use crate::wire::{Packet, icmp, icmpv6};
use pmd_shim::Frame;

/// Turns the request into the reply, in place: addresses and Ethernet addresses change sides, the time to live starts anew, Ethernet
/// padding goes. Identifier, sequence number, data and the type of service are the request's own.
///
/// # Errors
/// [`NotWritten`] when the frame is too short for `packet`; it may be changed in part then.
pub fn reply<F: Frame>(frame: &mut F, packet: &Packet) -> Result<(), NotWritten> {
    frame.set_len(usize::from(packet.end)).map_err(|_| NotWritten)?;
    write(frame.bytes_mut(), packet).ok_or(NotWritten)
}

fn write(bytes: &mut [u8], packet: &Packet) -> Option<()> {
    bytes.first_chunk_mut::<12>()?.rotate_left(6);
    let header_len = packet.l4.checked_sub(packet.l3)?;
    let (header, message) =
        bytes.get_mut(usize::from(packet.l3)..)?.split_at_mut_checked(usize::from(header_len))?;
    let (request, reply) = match packet.family {
        Family::V4 => {
            let header = header.first_chunk_mut::<20>()?;
            let (ttl, protocol) = (header[8], header[9]);
            replace(header, 10, u16::from_be_bytes([ttl, protocol]), u16::from_be_bytes([TTL, protocol]));
            header[8] = TTL;
            header[12..].rotate_left(4);
            (icmp::kind::ECHO_REQUEST, icmp::kind::ECHO_REPLY)
        }
        Family::V6 => {
            let header = header.first_chunk_mut::<40>()?;
            header[7] = TTL;
            header[8..].rotate_left(16);
            (icmpv6::kind::ECHO_REQUEST, icmpv6::kind::ECHO_REPLY)
        }
    };
    // The pseudo header's sum does not change with the order of the addresses.
    let message = message.first_chunk_mut::<4>()?;
    replace(message, 2, u16::from_be_bytes([request, 0]), u16::from_be_bytes([reply, 0]));
    message[0] = reply;
    Some(())
}

/// Puts the checksum at `at` right for a replaced word.
fn replace<const N: usize>(header: &mut [u8; N], at: usize, old: u16, new: u16) {
    if let Some(checksum) = header.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *checksum =
            ChecksumDelta::new().replace_u16(old, new).apply(u16::from_be_bytes(*checksum)).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Addr, Mac};
    use crate::testing::VecFrame;
    use crate::wire::{Icmp, IcmpClass, Parsed, Transport, parse};
    use etherparse::{IcmpEchoHeader, PacketBuilder};
    use pmd_shim::RxOffload;
    use proptest::prelude::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn request(v6: bool, ttl: u8, id: u16, seq: u16, data: &[u8]) -> Vec<u8> {
        let link = PacketBuilder::ethernet2(THEIRS, OURS);
        let mut bytes = Vec::new();
        if v6 {
            let [mut theirs, mut ours] = [[0x20; 16]; 2];
            (theirs[15], ours[15]) = (2, 1);
            let builder = link.ipv6(theirs, ours, ttl).icmpv6_echo_request(id, seq);
            builder.write(&mut bytes, data).unwrap();
        } else {
            let builder = link.ipv4([10, 0, 0, 2], [10, 0, 0, 1], ttl).icmpv4_echo_request(id, seq);
            builder.write(&mut bytes, data).unwrap();
        }
        bytes
    }

    fn parsed(bytes: &[u8], station: [u8; 6]) -> Packet {
        match parse(bytes, RxOffload::default(), Mac(station)) {
            Ok(Parsed::Ip(packet)) => packet,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn the_reply_is_the_request_turned_round(
            v6: bool, ttl in 1u8.., id: u16, seq: u16, data in prop::collection::vec(any::<u8>(), 0..100), padding in 0usize..20,
        ) {
            let bytes = request(v6, ttl, id, seq, &data);
            let mut frame = VecFrame::new(&bytes);
            frame.set_len(bytes.len() + padding).unwrap();
            let asked = parsed(frame.bytes(), OURS);
            reply(&mut frame, &asked).unwrap();
            // Parsing verifies every checksum.
            let answer = parsed(frame.bytes(), THEIRS);
            prop_assert_eq!((answer.key.src, answer.key.dst), (asked.key.dst, asked.key.src));
            prop_assert_eq!(answer.ttl, 64);
            let is_reply = matches!(answer.transport, Transport::Icmp(Icmp { class: IcmpClass::EchoReply, .. }));
            prop_assert!(is_reply);
            prop_assert_eq!(&frame.bytes()[..12], &[THEIRS, OURS].concat()[..]);
            prop_assert_eq!(frame.bytes().len(), bytes.len());
            let sliced = etherparse::SlicedPacket::from_ethernet(frame.bytes()).unwrap();
            let (echo, rest) = match sliced.transport {
                Some(etherparse::TransportSlice::Icmpv4(icmp)) => match icmp.icmp_type() {
                    etherparse::Icmpv4Type::EchoReply(echo) => (echo, icmp.payload()),
                    other => panic!("{other:?}"),
                },
                Some(etherparse::TransportSlice::Icmpv6(icmp)) => match icmp.icmp_type() {
                    etherparse::Icmpv6Type::EchoReply(echo) => (echo, icmp.payload()),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(echo, IcmpEchoHeader { id, seq });
            prop_assert_eq!(rest, &data[..]);
        }
    }

    #[test]
    fn golden_reply() {
        let mut frame = VecFrame::new(&request(false, 3, 0x1234, 1, b"ping"));
        let packet = parsed(frame.bytes(), OURS);
        assert_eq!(packet.key.dst, Addr::v4([10, 0, 0, 1]));
        reply(&mut frame, &packet).unwrap();
        #[rustfmt::skip]
        let golden = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
            0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 1, 0x26, 0xdb, 10, 0, 0, 1, 10, 0, 0, 2,
            0, 0, 0x0e, 0xfa, 0x12, 0x34, 0, 1, b'p', b'i', b'n', b'g',
        ];
        assert_eq!(frame.bytes(), golden);
    }

    #[test]
    fn a_frame_that_is_not_the_packet_is_refused() {
        let packet = parsed(&request(true, 64, 1, 1, b""), OURS);
        for len in [0, 11, 40, 55] {
            let mut frame = VecFrame::new(&[0; 62][..len]);
            assert_eq!(reply(&mut frame, &Packet { end: len as u16, ..packet }), Err(NotWritten), "{len}");
        }
    }
}
