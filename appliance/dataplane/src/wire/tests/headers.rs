//! IPv4, IPv6, TCP and UDP headers.

use super::*;

#[test]
fn a_udp_packet_is_read() {
    for (builder, l4) in both() {
        let frame = builder.ttl(9).udp(1000, 53).payload(b"hello").padding(13).build();
        let packet = packet(&frame);
        let at = |offset| u16::try_from(offset).unwrap();
        assert_eq!(
            (packet.key.src_port, packet.key.dst_port, packet.key.protocol),
            (1000, 53, protocol::UDP)
        );
        assert_eq!((packet.l3, packet.l4, packet.payload), (at(L3), at(l4), at(l4 + 8)));
        assert_eq!((packet.payload_end, packet.end), (at(l4 + 13), at(l4 + 13)));
        assert_eq!((packet.ttl, packet.fragment, packet.transport), (9, None, Transport::Udp));
        assert_eq!((packet.ip_len(), packet.payload_len()), (l4 - L3 + 13, 5));
    }
    let v4 = packet(&v4().udp(1, 2).build());
    assert_eq!((v4.key.src, v4.key.dst), (Addr::v4([10, 0, 0, 1]), Addr::v4([10, 0, 0, 2])));
    assert_eq!((v4.family, v4.dont_fragment), (Family::V4, false));
    assert!(packet(&super::v4().dont_fragment().udp(1, 2).build()).dont_fragment);
    let v6 = packet(&v6().udp(1, 2).build());
    assert_eq!((v6.family, v6.dont_fragment), (Family::V6, true));
    assert_eq!(v6.key.reversed().src, v6.key.dst);
}

#[test]
fn a_tcp_segment_is_read() {
    for (builder, l4) in both() {
        let frame = builder
            .tcp(1000, 443)
            .flags(TcpFlags::SYN)
            .seq(0x0102_0304, 0x0506_0708)
            .window(512)
            .tcp_options(&[2, 4, 5, 0xb4, 1, 3, 3, 7])
            .payload(b"hi")
            .build();
        let packet = packet(&frame);
        let tcp = Tcp {
            seq: 0x0102_0304,
            ack: 0x0506_0708,
            flags: TcpFlags(TcpFlags::SYN),
            window: 512,
            window_scale: Some(7),
        };
        assert_eq!(packet.transport, Transport::Tcp(tcp));
        assert!(tcp.flags.is_initial_syn());
        assert_eq!((packet.key.src_port, packet.key.dst_port), (1000, 443));
        assert_eq!((usize::from(packet.payload), packet.payload_len()), (l4 + 28, 2));
    }
}

#[test]
fn h_01_ipv4_header_checksum() {
    let frame = v4().udp(1, 2).build();
    refused_after(&frame, DropReason::BadChecksum, |frame| frame[24] ^= 1);
    refused_after(&frame, DropReason::BadChecksum, |frame| frame[15] ^= 1);
    let vouched = RxOffload { checksum: ChecksumStatus::Verified, ..RxOffload::default() };
    let mut bad = frame;
    bad[24] ^= 1;
    assert_eq!(
        parse(&bad, vouched, STATION),
        Err(DropReason::BadChecksum),
        "only the transport's is vouched for"
    );
}

#[test]
fn h_02_version_and_header_length() {
    let frame = v4().udp(1, 2).build();
    for first in [0x44, 0x40, 0x35, 0x55, 0x65] {
        refused_after(&frame, DropReason::Malformed, |frame| frame[14] = first);
    }
    refused_after(&frame, DropReason::Malformed, |frame| frame[14] = 0x4f);
    let frame = v6().udp(1, 2).build();
    for first in [0x40, 0x50, 0x70, 0x00] {
        refused_after(&frame, DropReason::Malformed, |frame| frame[14] = first);
    }
}

#[test]
fn h_03_h_21_length_of_the_packet() {
    let frame = v4().protocol(47).payload(&[0; 8]).build();
    for total in [0u16, 19, 29, 65_535] {
        refused_after(&frame, DropReason::Malformed, set_ipv4(16, &total.to_be_bytes()));
    }
    assert_eq!(passes_after(&frame, set_ipv4(16, &27u16.to_be_bytes())).end, 41);
    assert_eq!(passes_after(&frame, set_ipv4(16, &20u16.to_be_bytes())).end, 34);
    let frame = v6().protocol(47).payload(&[0; 8]).build();
    for payload in [9u16, 65_535] {
        refused_after(&frame, DropReason::Malformed, set(18, &payload.to_be_bytes()));
    }
    assert_eq!(passes_after(&frame, set(18, &[0, 7])).end, 61);
    assert_eq!(passes_after(&frame, set(18, &[0, 0])).end, 54);
}

#[test]
fn h_04_padding_is_not_the_packets() {
    for (builder, l4) in both() {
        let padded = packet(&builder.clone().udp(1, 2).padding(18).build());
        assert_eq!(usize::from(padded.end), l4 + 8);
        assert_eq!(padded, packet(&builder.udp(1, 2).build()));
    }
}

#[test]
fn reserved_fragment_bit() {
    refused_after(&v4().udp(1, 2).build(), DropReason::Malformed, set_ipv4(20, &[0x80]));
}

#[test]
fn h_06_h_07_ipv4_options() {
    let nops = v4().udp(1, 2).ip_options(&[1, 1, 1, 0]).payload(b"x").build();
    let read = packet(&nops);
    assert_eq!((read.l4, read.payload), (38, 46));
    let padded = v4().udp(1, 2).ip_options(&[0, 7, 0, 0xff]).build();
    assert!(parse_plain(&padded).is_ok(), "what follows the end is padding");
    let six = v4().udp(1, 2).ip_options(&[1; 40]).build();
    assert_eq!(packet(&six).l4, 74);
    // Loose and strict source route, record route, router alert, timestamp, security, an unknown one.
    for kind in [131, 137, 7, 148, 68, 130, 30] {
        refused_after(&nops, DropReason::Unsupported, set_ipv4(34, &[kind, 4, 0, 0]));
        refused_after(&nops, DropReason::Malformed, set_ipv4(34, &[kind, 0, 0, 0]));
        refused_after(&nops, DropReason::Malformed, set_ipv4(34, &[kind, 1, 0, 0]));
        refused_after(&nops, DropReason::Malformed, set_ipv4(34, &[kind, 5, 0, 0]));
        refused_after(&nops, DropReason::Malformed, set_ipv4(34, &[1, 1, 1, kind]));
    }
    refused_after(&nops, DropReason::BadChecksum, |frame| frame[37] = 1);
}

#[test]
fn h_10_udp_length_and_checksum() {
    for (builder, l4) in both() {
        let frame = builder.udp(1, 2).payload(b"payload").build();
        for length in [0u8, 7, 16] {
            refused_after(&frame, DropReason::Malformed, set_transport(protocol::UDP, l4, l4 + 5, &[length]));
        }
        refused_after(&frame, DropReason::BadChecksum, |frame| frame[l4 + 7] ^= 1);
        refused_after(&frame, DropReason::BadChecksum, |frame| *frame.last_mut().unwrap() ^= 1);
        refused_after(&frame, DropReason::BadChecksum, |frame| frame[l4 - 1] ^= 4);
    }
}

#[test]
fn a_udp_length_below_the_ip_payload_leaves_a_surplus() {
    for (builder, l4) in both() {
        let mut frame = builder.udp(1, 2).payload(b"payload").build();
        frame[l4 + 5] = 8 + 3;
        fix_transport_checksum(&mut frame, protocol::UDP, l4..l4 + 11);
        // The surplus is not covered by the checksum.
        frame[l4 + 12] ^= 0xff;
        let read = packet(&frame);
        assert_eq!((usize::from(read.payload_end), usize::from(read.end)), (l4 + 11, l4 + 15));
        assert_eq!(read.payload_len(), 3);
    }
}

#[test]
fn h_11_h_12_udp_without_checksum() {
    assert!(parse_plain(&v4().udp_without_checksum(1, 2).payload(b"x").build()).is_ok());
    let frame = v6().udp(1, 2).payload(b"x").build();
    refused_after(&frame, DropReason::BadChecksum, set(L4_V6 + 6, &[0, 0]));
    let mut frame = frame;
    frame[L4_V6 + 6..L4_V6 + 8].fill(0);
    let vouched = RxOffload { checksum: ChecksumStatus::Verified, ..RxOffload::default() };
    assert_eq!(parse(&frame, vouched, STATION), Err(DropReason::BadChecksum));
}

#[test]
fn h_13_empty_udp() {
    for (builder, l4) in both() {
        let read = packet(&builder.udp(1, 2).build());
        assert_eq!((usize::from(read.payload), read.payload_len()), (l4 + 8, 0));
    }
}

#[test]
fn h_14_tcp_checksum() {
    for (builder, l4) in both() {
        for payload in [&b""[..], b"odd", b"even"] {
            let frame = builder.clone().tcp(1, 2).payload(payload).build();
            refused_after(&frame, DropReason::BadChecksum, |frame| frame[l4 + 16] ^= 0x80);
            refused_after(&frame, DropReason::BadChecksum, |frame| *frame.last_mut().unwrap() ^= 1);
            let vouched = RxOffload { checksum: ChecksumStatus::Verified, ..RxOffload::default() };
            let mut bad = frame.clone();
            bad[l4 + 16] ^= 0x80;
            assert_eq!(parse(&bad, vouched, STATION), parse_plain(&frame));
        }
    }
}

#[test]
fn h_15_tcp_data_offset() {
    for (builder, l4) in both() {
        let frame = builder.tcp(1, 2).payload(&[1; 12]).build();
        for offset in [0u8, 4, 9, 15] {
            let offset = [offset << 4];
            refused_after(&frame, DropReason::Malformed, set_transport(protocol::TCP, l4, l4 + 12, &offset));
        }
        let longest = passes_after(&frame, set_transport(protocol::TCP, l4, l4 + 12, &[8 << 4]));
        assert_eq!((usize::from(longest.payload), longest.payload_len()), (l4 + 32, 0));
    }
}

#[test]
fn h_16_port_zero() {
    for (builder, l4) in both() {
        let tcp = builder.clone().tcp(1, 2).build();
        refused_after(&tcp, DropReason::Malformed, set_transport(protocol::TCP, l4, l4 + 2, &[0, 0]));
        refused_after(&tcp, DropReason::Malformed, set_transport(protocol::TCP, l4, l4, &[0, 0]));
        let udp = builder.udp(1, 2).build();
        refused_after(&udp, DropReason::Malformed, set_transport(protocol::UDP, l4, l4 + 2, &[0, 0]));
        passes_after(&udp, set_transport(protocol::UDP, l4, l4, &[0, 0]));
    }
}

#[test]
fn impossible_tcp_flags() {
    use TcpFlags as F;
    for (builder, l4) in both() {
        let frame = builder.tcp(1, 2).build();
        let flags =
            |bits: u8| move |frame: &mut Vec<u8>| set_transport(protocol::TCP, l4, l4 + 13, &[bits])(frame);
        for bits in [0, 0x40, 0x80, 0xc0, F::SYN | F::FIN, F::SYN | F::RST, 0x3f, F::SYN | F::FIN | F::ACK] {
            refused_after(&frame, DropReason::Malformed, flags(bits));
        }
        for bits in [F::SYN, F::SYN | 0xc0, F::SYN | F::ACK, F::RST, F::FIN, F::FIN | F::PSH | F::URG] {
            passes_after(&frame, flags(bits));
        }
    }
}

#[test]
fn h_18_tcp_options() {
    for (builder, l4) in both() {
        let frame = builder.clone().tcp(1, 2).flags(TcpFlags::SYN).tcp_options(&[2, 4, 5, 0xb4]).build();
        let options = |bytes: [u8; 4]| {
            move |frame: &mut Vec<u8>| set_transport(protocol::TCP, l4, l4 + 20, &bytes)(frame)
        };
        for bad in [[2, 0, 0, 0], [8, 1, 0, 0], [2, 5, 0, 0], [1, 1, 1, 2], [253, 255, 0, 0], [3, 4, 7, 0]] {
            refused_after(&frame, DropReason::Malformed, options(bad));
        }
        for good in [[1, 1, 1, 1], [0, 2, 0, 0], [4, 2, 0, 0], [1, 253, 3, 9], [253, 4, 0, 0], [1, 1, 1, 0]] {
            passes_after(&frame, options(good));
        }
        let nops = builder.tcp(1, 2).tcp_options(&[1; 40]).build();
        assert_eq!(usize::from(packet(&nops).payload), l4 + 60);
    }
}

#[test]
fn window_scale_is_read_on_a_syn_and_bounded() {
    let scale = |flags, options: &[u8]| {
        let frame = v4().tcp(1, 2).flags(flags).tcp_options(options).build();
        match packet(&frame).transport {
            Transport::Tcp(tcp) => tcp.window_scale,
            other => panic!("TCP, not {other:?}"),
        }
    };
    assert_eq!(scale(TcpFlags::SYN, &[3, 3, 0]), Some(0));
    assert_eq!(scale(TcpFlags::SYN | TcpFlags::ACK, &[1, 3, 3, 14]), Some(14));
    assert_eq!(scale(TcpFlags::SYN, &[3, 3, 255]), Some(14));
    assert_eq!(scale(TcpFlags::SYN, &[0, 3, 3, 5]), None);
    assert_eq!(scale(TcpFlags::ACK, &[3, 3, 5]), None);
    let timestamps = [&[1, 1, 8, 10][..], &[0; 8]].concat();
    assert_eq!(scale(TcpFlags::SYN, &timestamps), None);
    assert_eq!(scale(TcpFlags::SYN, &[&timestamps[..], &[1, 3, 3, 6]].concat()), Some(6));
    assert_eq!(scale(TcpFlags::SYN, &[&[1, 1, 8, 10], &[0; 8][..], &[3, 3, 2]].concat()), Some(2));
}

#[test]
fn other_protocols_are_carried_unread() {
    for (builder, l4) in both() {
        for number in [2, 47, protocol::ESP, protocol::AH, 132, 135, 255, protocol::NO_NEXT_HEADER] {
            let read = packet(&builder.clone().protocol(number).payload(&[9; 10]).build());
            assert_eq!((read.transport, read.key.protocol), (Transport::Other, number));
            assert_eq!((usize::from(read.l4), read.payload, read.payload_len()), (l4, read.end, 0));
            assert_eq!((read.key.src_port, read.key.dst_port), (0, 0));
        }
    }
    // ICMP belongs to one family each.
    assert_eq!(packet(&v4().protocol(protocol::ICMPV6).build()).transport, Transport::Other);
    assert_eq!(packet(&v6().protocol(protocol::ICMP).build()).transport, Transport::Other);
}

#[test]
fn mapped_addresses_in_ipv6_are_spoofed() {
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
    for at in [L3 + 8, L3 + 24] {
        refused_after(&v6().protocol(47).build(), DropReason::Spoofed, set(at, &mapped));
        passes_after(&v6().protocol(47).build(), set(at, &[&mapped[..10], &[0xff, 0xfe]].concat()));
    }
}
