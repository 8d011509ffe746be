use super::*;
use proptest::prelude::*;

fn quote_of(builder: &FrameBuilder, family: Family) -> Option<Quoted> {
    quoted(&builder.build_ip(), family)
}

#[test]
fn eight_bytes_of_transport_are_enough() {
    for (builder, l4) in both() {
        let family = packet(&builder.build()).family;
        let l4 = l4 - L3;
        let bytes = builder.tcp(1000, 443).seq(0xa1b2_c3d4, 5).payload(&[0; 100]).build_ip();
        let read = quoted(&bytes[..l4 + 8], family).unwrap();
        assert_eq!((read.key.src_port, read.key.dst_port, read.key.protocol), (1000, 443, protocol::TCP));
        assert_eq!((read.tcp_seq, read.icmp), (Some(0xa1b2_c3d4), None));
        assert_eq!((usize::from(read.l4), usize::from(read.len)), (l4, l4 + 8));
        assert_eq!(quoted(&bytes[..l4 + 7], family), None);
        assert_eq!(quoted(&bytes, family).map(|q| usize::from(q.len)), Some(l4 + 120));
        let extended = [&bytes[..], &[0x20; 12]].concat();
        assert_eq!(quoted(&extended, family), quoted(&bytes, family), "extensions are not the quote's");
    }
}

#[test]
fn the_key_is_that_of_the_packet_itself() {
    for (builder, _) in both() {
        for whole in [
            builder.clone().tcp(1000, 443),
            builder.clone().udp(1000, 53),
            builder.clone().echo_request(7, 1),
            builder.clone().echo_reply(7, 1),
            builder.clone().icmp(255, 0, [9; 4]),
            builder.clone().protocol(47).payload(&[0; 8]),
        ] {
            let parsed = packet(&whole.build());
            assert_eq!(quote_of(&whole, parsed.family).map(|q| q.key), Some(parsed.key));
            assert_eq!(
                quote_of(&whole, if parsed.family == Family::V4 { Family::V6 } else { Family::V4 }),
                None
            );
        }
    }
}

#[test]
fn errors_about_errors_say_nothing() {
    for kind in [3, 4, 5, 9, 10, 11, 12] {
        assert_eq!(quote_of(&v4().icmp(kind, 0, [0; 4]), Family::V4), None);
    }
    for kind in [1, 2, 3, 4, 127, 133, 135, 137] {
        assert_eq!(quote_of(&v6().icmp(kind, 0, [0; 4]), Family::V6), None);
    }
}

#[test]
fn only_first_fragments_belong_to_a_flow() {
    for (builder, _) in both() {
        let family = packet(&builder.build()).family;
        let frames = builder.udp(7, 53).payload(&[0; 40]).build_fragments(24);
        let read = |i: usize| quoted(&frames[i][L3..], family);
        assert_eq!(read(0).map(|q| q.key), Some(packet(&frames[0]).key));
        assert_eq!(read(1), None);
        // Cut at a length that is no multiple of 8.
        assert!(quoted(&frames[0][L3..frames[0].len() - 5], family).is_some());
    }
}

#[test]
fn checksums_and_lengths_of_quotes_do_not_matter() {
    let mut bytes = v4().tcp(1, 2).build_ip();
    bytes[10..12].fill(0);
    bytes[8] = 0;
    bytes[2..4].copy_from_slice(&[0xff, 0xff]);
    assert!(quoted(&bytes, Family::V4).is_some());
}

#[test]
fn extension_headers_of_quotes_are_walked() {
    let pad = [0, 1, 4, 0, 0, 0, 0];
    let chain =
        |count| (0..count).fold(v6(), |b, _| b.extension(protocol::DESTINATION_OPTIONS, &pad)).udp(1, 2);
    let read = quote_of(&chain(2), Family::V6).unwrap();
    assert_eq!((read.l4, read.key.dst_port), (56, 2));
    assert_eq!(quote_of(&chain(MAX_EXTENSION_HEADERS + 1), Family::V6), None);
}

#[test]
fn mapped_addresses_in_quotes() {
    let mut bytes = v6().udp(1, 2).build_ip();
    bytes[8..24].copy_from_slice(Addr::v4([10, 0, 0, 1]).octets());
    assert_eq!(quoted(&bytes, Family::V6), None);
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..120), first in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()]) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        for family in [Family::V4, Family::V6] {
            if let Some(read) = quoted(&bytes, family) {
                prop_assert!(usize::from(read.l4) + 8 <= usize::from(read.len));
                prop_assert!(usize::from(read.len) <= bytes.len());
            }
        }
    }
}
