//! Fragments and IPv6 extension headers.

use super::*;

const HOP: u8 = protocol::HOP_BY_HOP;
const DEST: u8 = protocol::DESTINATION_OPTIONS;
const ROUTING: u8 = protocol::ROUTING;
/// An options header of eight bytes behind its next-header byte: padding only.
const PAD: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// An options header of this many bytes, padding only.
fn padding_header(len: usize) -> Vec<u8> {
    let mut header = vec![0; len - 1];
    header[0] = u8::try_from(len / 8 - 1).unwrap();
    header
}

#[test]
fn f_01_f_09_fragments_are_read() {
    for (builder, l4) in both() {
        let frames = builder.id(0x1234).udp(7, 53).payload(&[1; 41]).build_fragments(24);
        let l4 = if l4 == L4_V6 { l4 + 8 } else { l4 };
        let [first, second, third] = [0, 1, 2].map(|i: usize| packet(&frames[i]));
        let info = |offset, len, more| Some(FragmentInfo { id: 0x1234, offset, len, more });
        assert_eq!((first.fragment, first.transport), (info(0, 24, true), Transport::Udp));
        assert_eq!((first.key.src_port, first.key.dst_port), (7, 53));
        assert_eq!(
            (usize::from(first.l4), usize::from(first.payload), first.payload_len()),
            (l4, l4 + 8, 16)
        );
        assert_eq!((second.fragment, second.transport), (info(24, 24, true), Transport::LaterFragment));
        assert_eq!((second.key.src_port, second.key.dst_port, second.key.protocol), (0, 0, protocol::UDP));
        assert_eq!((usize::from(second.l4), second.payload, second.payload_len()), (l4, second.end, 0));
        assert_eq!(third.fragment, info(48, 1, false));
    }
}

#[test]
fn checksums_of_fragments_are_not_verified() {
    for (builder, _) in both() {
        let frame = builder.udp(7, 53).payload(&[1; 40]).build_fragment(0..24);
        passes_after(&frame, |frame| *frame.last_mut().unwrap() ^= 1);
    }
    // But a checksum that must not be missing is.
    let frame = v6().udp(7, 53).payload(&[1; 40]).build_fragment(0..24);
    refused_after(&frame, DropReason::BadChecksum, set(L4_V6 + 8 + 6, &[0, 0]));
}

#[test]
fn dont_fragment_on_a_fragment_is_legal() {
    let frame = v4().udp(7, 53).payload(&[1; 40]).build_fragment(0..24);
    assert!(passes_after(&frame, set_ipv4(20, &[0x60])).dont_fragment);
}

#[test]
fn only_the_last_fragment_may_end_anywhere() {
    let frame = v4().udp(7, 53).payload(&[1; 40]).build_fragment(24..41);
    let middle = v4().udp(7, 53).payload(&[1; 40]).build_fragment(24..40);
    assert!(parse_plain(&frame) == Err(DropReason::Malformed) && parse_plain(&middle).is_ok());
    refused_after(&middle, DropReason::Malformed, set_ipv4(16, &35u16.to_be_bytes()));
    let middle = v6().udp(7, 53).payload(&[1; 40]).build_fragment(24..40);
    refused_after(&middle, DropReason::Malformed, set(18, &23u16.to_be_bytes()));
    passes_after(&middle, set(18, &16u16.to_be_bytes()));
}

#[test]
fn a_fragment_has_data() {
    let last = v4().udp(7, 53).payload(&[1; 40]).build_fragment(40..48);
    refused_after(&last, DropReason::Fragment, set_ipv4(16, &20u16.to_be_bytes()));
    passes_after(&last, set_ipv4(16, &21u16.to_be_bytes()));
    let last = v6().udp(7, 53).payload(&[1; 40]).build_fragment(40..48);
    refused_after(&last, DropReason::Fragment, set(18, &8u16.to_be_bytes()));
    passes_after(&last, set(18, &9u16.to_be_bytes()));
}

#[test]
fn f_04_tiny_first_fragments() {
    for (builder, _) in both() {
        let tcp = builder.clone().tcp(1, 2).tcp_options(&[1; 4]).payload(&[0; 16]);
        assert_eq!(parse_plain(&tcp.build_fragment(0..8)), Err(DropReason::Fragment));
        assert_eq!(parse_plain(&tcp.build_fragment(0..16)), Err(DropReason::Fragment));
        assert!(parse_plain(&tcp.build_fragment(0..24)).is_ok());
        let longer = builder.clone().tcp(1, 2).tcp_options(&[1; 8]).payload(&[0; 16]);
        assert_eq!(
            parse_plain(&longer.build_fragment(0..24)),
            Err(DropReason::Fragment),
            "options are header too"
        );
        assert!(parse_plain(&longer.build_fragment(0..32)).is_ok());
        for whole in [builder.clone().udp(1, 2), builder.clone().echo_request(1, 2)] {
            assert!(parse_plain(&whole.payload(&[0; 8]).build_fragment(0..8)).is_ok());
        }
    }
}

#[test]
fn f_05_f_06_later_tcp_fragments_within_the_header() {
    for (builder, _) in both() {
        let tcp = builder.clone().tcp(1, 2).payload(&[0; 80]);
        for offset in [8, 16, 24, 56] {
            assert_eq!(parse_plain(&tcp.build_fragment(offset..96)), Err(DropReason::Fragment), "{offset}");
        }
        assert!(parse_plain(&tcp.build_fragment(64..96)).is_ok());
        let udp = builder.udp(1, 2).payload(&[0; 80]);
        assert!(parse_plain(&udp.build_fragment(8..88)).is_ok());
    }
}

#[test]
fn f_08_offsets_beyond_the_largest_datagram() {
    let field = |offset: usize, more: u16| u16::try_from(offset / 8).unwrap() | more << 13;
    let frame = v4().protocol(47).payload(&[0; 24]).build_fragment(8..16);
    // 20 bytes of header: offset + 8 may be 65515 at most.
    passes_after(&frame, set_ipv4(20, &field(65_504, 0).to_be_bytes()));
    refused_after(&frame, DropReason::Fragment, set_ipv4(20, &field(65_512, 0).to_be_bytes()));
    refused_after(&frame, DropReason::Fragment, set_ipv4(20, &field(65_528, 0).to_be_bytes()));
    let frame = v6().protocol(47).payload(&[0; 24]).build_fragment(8..16);
    passes_after(&frame, set(56, &65_520u16.to_be_bytes()));
    refused_after(&frame, DropReason::Fragment, set(56, &65_528u16.to_be_bytes()));
    // Headers in front of the fragment header count, too.
    let frame = v6().extension(DEST, &PAD).protocol(47).payload(&[0; 24]).build_fragment(8..16);
    passes_after(&frame, set(64, &65_512u16.to_be_bytes()));
    refused_after(&frame, DropReason::Fragment, set(64, &65_520u16.to_be_bytes()));
}

#[test]
fn f_10_atomic_fragments_are_whole_packets() {
    let frame = v6().id(9).udp(1, 2).payload(b"x").build_fragment(0..9);
    let read = packet(&frame);
    assert_eq!((read.fragment, read.l4, read.transport), (None, 62, Transport::Udp));
    refused_after(&frame, DropReason::BadChecksum, |frame| *frame.last_mut().unwrap() ^= 1);
    passes_after(&frame, set(55, &[0xff, 0, 6]));
    assert_eq!(packet(&v4().id(9).udp(1, 2).payload(b"x").build_fragment(0..9)).fragment, None);
}

#[test]
fn f_11_the_first_fragment_has_the_whole_chain() {
    let options = [&[DEST][..], &padding_header(16)].concat();
    let datagram = v6().protocol(DEST).payload(&[&[protocol::UDP][..], &options[1..], &[0; 24]].concat());
    assert_eq!(parse_plain(&datagram.build_fragment(0..8)), Err(DropReason::Fragment));
    assert_eq!(parse_plain(&datagram.build_fragment(0..16)), Err(DropReason::Fragment));
    // With ports and a checksum in the transport header, it passes.
    let mut payload = [&[protocol::UDP][..], &options[1..], &[0, 1, 0, 2, 0, 16, 1, 1], &[0; 8]].concat();
    let whole = v6().protocol(DEST).payload(&payload);
    let read = packet(&whole.build_fragment(0..24));
    assert_eq!((read.transport, read.key.dst_port, read.key.protocol), (Transport::Udp, 2, protocol::UDP));
    // A later fragment only knows what the fragment header says.
    let later = packet(&whole.build_fragment(24..32));
    assert_eq!((later.transport, later.key.protocol), (Transport::LaterFragment, DEST));
    // The same chain cut short without fragmentation is just malformed.
    payload.truncate(12);
    assert_eq!(parse_plain(&v6().protocol(DEST).payload(&payload).build()), Err(DropReason::Malformed));
}

#[test]
fn a_fragment_within_a_fragment() {
    let once = v6().extension(protocol::FRAGMENT, &[0; 7]).udp(1, 2).build();
    assert!(parse_plain(&once).is_ok());
    let twice =
        v6().extension(protocol::FRAGMENT, &[0; 7]).extension(protocol::FRAGMENT, &[0; 7]).udp(1, 2).build();
    assert_eq!(parse_plain(&twice), Err(DropReason::Fragment));
}

#[test]
fn f_12_routing_headers() {
    let frame = v6().extension(ROUTING, &[0, 4, 0, 0, 0, 0, 0]).udp(1, 2).build();
    assert_eq!(packet(&frame).l4, 62);
    refused_after(&frame, DropReason::Unsupported, set(57, &[1]));
    refused_after(&frame, DropReason::Unsupported, set(56, &[0]));
}

#[test]
fn f_13_extension_headers_lead_to_the_transport() {
    let frame =
        v6().extension(HOP, &PAD).extension(DEST, &padding_header(24)).udp(1, 53).payload(b"x").build();
    let read = packet(&frame);
    assert_eq!((read.l3, read.l4, read.payload), (14, 86, 94));
    assert_eq!((read.key.dst_port, read.key.protocol), (53, protocol::UDP));
    refused_after(&frame, DropReason::BadChecksum, |frame| *frame.last_mut().unwrap() ^= 1);
    let tcp = v6().extension(HOP, &PAD).extension(DEST, &PAD).tcp(1, 22).build();
    assert_eq!((packet(&tcp).key.dst_port, packet(&tcp).key.protocol), (22, protocol::TCP));
    // Nothing may follow.
    let nothing = v6().extension(DEST, &PAD).protocol(protocol::NO_NEXT_HEADER).build();
    assert_eq!(packet(&nothing).transport, Transport::Other);
}

#[test]
fn hop_by_hop_comes_first() {
    let first = v6().extension(HOP, &PAD).extension(DEST, &PAD).udp(1, 2).build();
    let second = v6().extension(DEST, &PAD).extension(HOP, &PAD).udp(1, 2).build();
    assert!(parse_plain(&first).is_ok());
    assert_eq!(parse_plain(&second), Err(DropReason::Malformed));
}

#[test]
fn f_14_limits_of_the_chain() {
    let chain = |count| (0..count).fold(v6(), |builder, _| builder.extension(DEST, &PAD)).udp(1, 2).build();
    assert_eq!(usize::from(packet(&chain(MAX_EXTENSION_HEADERS)).l4), L4_V6 + 8 * MAX_EXTENSION_HEADERS);
    assert_eq!(parse_plain(&chain(MAX_EXTENSION_HEADERS + 1)), Err(DropReason::Unsupported));
    assert_eq!(parse_plain(&chain(130)), Err(DropReason::Unsupported));
    let long = |len| v6().extension(DEST, &padding_header(len)).udp(1, 2).build();
    assert_eq!(usize::from(packet(&long(MAX_EXTENSION_BYTES)).l4), L4_V6 + MAX_EXTENSION_BYTES);
    assert_eq!(parse_plain(&long(MAX_EXTENSION_BYTES + 8)), Err(DropReason::Unsupported));
    assert_eq!(parse_plain(&long(2048)), Err(DropReason::Unsupported));
}

#[test]
fn options_of_extension_headers() {
    for kind in [HOP, DEST] {
        let frame = v6().extension(kind, &PAD).udp(1, 2).build();
        // Router alert, and an option that may be skipped.
        for good in [[5, 2, 0, 0, 1, 0], [0x3f, 4, 1, 2, 3, 4], [0, 0, 0, 0, 1, 0], [0; 6]] {
            passes_after(&frame, set(56, &good));
        }
        // Jumbo payload, home address, an unknown one to be refused.
        for kind in [0xc2, 0xc9, 0x40, 0x80] {
            refused_after(&frame, DropReason::Unsupported, set(56, &[kind, 4, 0, 0, 0, 0]));
        }
        for bad in [[1, 5, 0, 0, 0, 0], [5, 255, 0, 0, 0, 0], [0, 0, 0, 0, 0, 5], [1, 2, 0, 0, 1, 1]] {
            refused_after(&frame, DropReason::Malformed, set(56, &bad));
        }
    }
}

#[test]
fn a_jumbogram_is_refused() {
    let frame = v6().extension(HOP, &[0, 0xc2, 4, 0, 1, 0, 0]).udp(1, 2).build();
    assert_eq!(parse_plain(&frame), Err(DropReason::Unsupported));
    let mut jumbo = frame;
    jumbo[18..20].fill(0);
    assert_eq!(parse_plain(&jumbo), Err(DropReason::Unsupported));
}

#[test]
fn f_19_fragmented_neighbour_discovery() {
    let solicitation = FrameBuilder::new("fe80::1", "fe80::2")
        .ttl(255)
        .icmp(icmpv6::kind::NEIGHBOR_SOLICITATION, 0, [0; 4])
        .payload(&[0; 24]);
    let mut payload = [0; 24];
    payload[16..18].copy_from_slice(&[1, 1]);
    let solicitation = solicitation.payload(&payload);
    assert!(parse_plain(&solicitation.build()).is_ok());
    assert_eq!(parse_plain(&solicitation.build_fragment(0..24)), Err(DropReason::Malformed));
    assert_eq!(parse_plain(&solicitation.build_fragment(0..32)), Err(DropReason::Malformed), "atomic");
}
