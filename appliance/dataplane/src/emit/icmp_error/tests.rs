//! Golden errors, and every packet about which there must be none, each a twin of one that is answered.

use super::*;
use crate::testing::VecFrame;
use crate::wire::testing::{FrameBuilder, NEIGHBOR, STATION};
use crate::wire::{Parsed, parse};
use pmd_shim::RxOffload;
use proptest::prelude::*;
use std::net::IpAddr;

const OUR_V4: &str = "192.0.2.1";
const OUR_V6: &str = "2001:db8::1";

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn packet_in(bytes: &[u8], station: Mac) -> Packet {
    match parse(bytes, RxOffload::default(), station) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

fn ours(packet: &Packet) -> Addr {
    addr(if packet.family == Family::V4 { OUR_V4 } else { OUR_V6 })
}

fn udp(v6: bool) -> FrameBuilder {
    let (src, dst) = if v6 { ("2001:db8::2", "2001:db8:1::1") } else { ("192.0.2.2", "198.51.100.1") };
    FrameBuilder::new(src, dst).udp(1000, 2000)
}

/// The error about the packet in `bytes`.
fn error_about(bytes: &[u8], error: IcmpError) -> Result<VecFrame, NotAnswerable> {
    let mut frame = VecFrame::new(bytes);
    let packet = packet_in(bytes, STATION);
    let before = VecFrame::new(bytes);
    let result = build(&mut frame, &packet, error, ours(&packet), STATION);
    if result.is_err() {
        assert_eq!(frame, before, "a frame that is not answered stays as it is");
        assert!(!is_answerable(&frame, &packet));
    }
    result.map(|()| frame)
}

#[test]
fn golden_time_exceeded_v4() {
    let bytes = udp(false).ttl(1).payload(b"hi").padding(16).build();
    let frame = error_about(&bytes, IcmpError::TimeExceeded).unwrap();
    #[rustfmt::skip]
    let golden = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
        0x45, 0xc0, 0, 58, 0, 0, 0x40, 0, 64, 1, 0xb5, 0xff, 192, 0, 2, 1, 192, 0, 2, 2,
        11, 0, 0xe1, 0x52, 0, 0, 0, 0,
    ];
    assert_eq!(frame.bytes()[..42], golden);
    assert_eq!(frame.bytes()[42..], bytes[14..44]);
}

#[test]
fn golden_packet_too_big_v6() {
    let bytes = udp(true).payload(&[7; 1400]).build();
    let frame = error_about(&bytes, IcmpError::FragmentationNeeded { mtu: 1300 }).unwrap();
    let (header, message) = frame.bytes().split_at(54);
    #[rustfmt::skip]
    let golden = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
        0x60, 0, 0, 0, 0x04, 0xd8, 58, 64,
        0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
    ];
    assert_eq!(header, golden);
    assert_eq!(message[..2], [2, 0]);
    assert_eq!(message[4..8], [0, 0, 0x05, 0x14]);
    assert_eq!(message[8..], bytes[14..14 + 1232]);
}

#[test]
fn each_error_has_its_type_and_code() {
    for (error, v4, v6) in [
        (IcmpError::TimeExceeded, [11, 0, 0, 0], [3, 0, 0, 0]),
        (IcmpError::ReassemblyTimeExceeded, [11, 1, 0, 0], [3, 1, 0, 0]),
        (IcmpError::FragmentationNeeded { mtu: 0x1234 }, [3, 4, 0x12, 0x34], [2, 0, 0x12, 0x34]),
        (IcmpError::NetUnreachable, [3, 0, 0, 0], [1, 0, 0, 0]),
        (IcmpError::HostUnreachable, [3, 1, 0, 0], [1, 3, 0, 0]),
    ] {
        for (is_v6, at, [kind, code, high, low]) in [(false, 34, v4), (true, 54, v6)] {
            let frame = error_about(&udp(is_v6).build(), error).unwrap();
            let message = &frame.bytes()[at..];
            assert_eq!([message[0], message[1]], [kind, code], "{error:?}");
            assert_eq!(message[4..8], [0, 0, high, low], "{error:?}");
        }
    }
}

proptest! {
    /// Both parsers read the error back, checksums included, and it quotes the packet as it came, as far as fits.
    #[test]
    fn an_error_quotes_what_it_is_about(v6: bool, len in 0usize..1460, padding in 0usize..20, mtu: u16) {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let bytes = udp(v6).payload(&data).padding(padding).build();
        let about = packet_in(&bytes, STATION);
        let frame = error_about(&bytes, IcmpError::FragmentationNeeded { mtu }).unwrap();
        let packet = packet_in(frame.bytes(), NEIGHBOR);
        prop_assert_eq!((packet.key.src, packet.key.dst), (ours(&about), about.key.src));
        prop_assert_eq!(packet.ttl, 64);
        let is_error = matches!(packet.transport, Transport::Icmp(Icmp { class: IcmpClass::Error, .. }));
        prop_assert!(is_error);
        let limit = if v6 { 1280 } else { 576 };
        let headers = if v6 { 48 } else { 28 };
        prop_assert_eq!(packet.ip_len(), limit.min(headers + about.ip_len()));
        prop_assert_eq!(usize::from(packet.end), frame.bytes().len());
        let quote = &frame.bytes()[usize::from(packet.payload)..];
        prop_assert_eq!(quote, &bytes[14..14 + quote.len()]);
        etherparse::SlicedPacket::from_ethernet(frame.bytes()).unwrap();
    }
}

#[test]
fn the_first_fragment_is_answered_and_a_later_one_is_not() {
    for v6 in [false, true] {
        let fragments = udp(v6).id(7).payload(&[1; 40]).build_fragments(24);
        assert!(error_about(&fragments[0], IcmpError::TimeExceeded).is_ok());
        assert!(error_about(&fragments[1], IcmpError::TimeExceeded).is_err());
    }
}

#[test]
fn queries_are_answered_and_errors_are_not() {
    for (v6, kind, answered) in [
        (false, 8, true),
        (false, 0, true),
        (false, 13, true),
        (false, 3, false),
        (false, 5, false),
        (false, 11, false),
        (false, 12, false),
        (true, 128, true),
        (true, 129, true),
        (true, 200, true),
        (true, 1, false),
        (true, 2, false),
        (true, 3, false),
        (true, 4, false),
        (true, 100, false),
        (true, 130, false),
    ] {
        // Long enough to be read as an error's quote of such a packet.
        let bytes = udp(v6).icmp(kind, 0, [0; 4]).payload(&udp(v6).build_ip()).build();
        assert_eq!(error_about(&bytes, IcmpError::TimeExceeded).is_ok(), answered, "v6: {v6}, type {kind}");
    }
}

#[test]
fn discovery_is_not_answered() {
    let station = Mac([2, 0, 0, 0, 0, 9]);
    let mut frame = VecFrame::new(&[]);
    crate::emit::nd::solicitation(&mut frame, station, addr("2001:db8::2"), addr(OUR_V6), Some(STATION))
        .unwrap();
    assert!(error_about(frame.bytes(), IcmpError::TimeExceeded).is_err());
}

/// A good packet with one thing changed behind the parser's back, which refuses most of these before.
fn twin(v6: bool, change: impl FnOnce(&mut VecFrame, &mut Packet)) -> bool {
    let mut frame = VecFrame::new(&udp(v6).build());
    let mut packet = packet_in(frame.bytes(), STATION);
    change(&mut frame, &mut packet);
    build(&mut frame, &packet, IcmpError::TimeExceeded, ours(&packet), STATION).is_ok()
}

#[test]
fn what_more_than_one_station_got_is_not_answered() {
    for v6 in [false, true] {
        assert!(twin(v6, |_, _| ()));
        assert!(!twin(v6, |_, packet| packet.cast = Cast::Broadcast));
        assert!(!twin(v6, |_, packet| packet.cast = Cast::Multicast));
        assert!(!twin(v6, |frame, _| frame.bytes_mut()[6] |= 1));
    }
    for (v6, dst, answered) in [
        (false, "223.255.255.255", true),
        (false, "224.0.0.1", false),
        (false, "240.0.0.1", false),
        (false, "255.255.255.255", false),
        (true, "fe00::1", true),
        (true, "ff02::1", false),
    ] {
        assert_eq!(twin(v6, |_, packet| packet.key.dst = addr(dst)), answered, "{dst}");
    }
}

#[test]
fn what_no_single_host_sent_is_not_answered() {
    for (v6, src, answered) in [
        (false, "1.0.0.0", true),
        (false, "0.0.0.0", false),
        (false, "0.1.2.3", false),
        (false, "126.0.0.1", true),
        (false, "127.0.0.1", false),
        (false, "224.0.0.1", false),
        (false, "255.255.255.255", false),
        (true, "::2", true),
        (true, "::", false),
        (true, "::1", false),
        (true, "ff02::1", false),
    ] {
        assert_eq!(twin(v6, |_, packet| packet.key.src = addr(src)), answered, "{src}");
    }
}

#[test]
fn what_cannot_be_written_is_refused_unchanged() {
    let bytes = udp(false).build();
    let packet = packet_in(&bytes, STATION);
    let error = IcmpError::TimeExceeded;
    for (headroom, from, fits) in [(28, OUR_V4, true), (27, OUR_V4, false), (128, OUR_V6, false)] {
        let mut frame = VecFrame::with_headroom(&bytes, headroom);
        assert_eq!(build(&mut frame, &packet, error, addr(from), STATION).is_ok(), fits, "{headroom} {from}");
        assert_eq!(frame.bytes() == bytes, !fits);
    }
    let mut short = VecFrame::new(&bytes[..40]);
    assert!(build(&mut short, &packet, error, addr(OUR_V4), STATION).is_err());
}
