use super::*;
use crate::wire::testing::NEIGHBOR;

const ARP_REQUEST: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 8, 6, // Ethernet
    0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
    2, 0, 0, 0, 0, 2, 10, 0, 0, 2, // sender
    0, 0, 0, 0, 0, 0, 10, 0, 0, 1, // target
];

#[test]
fn frames_are_for_this_station_or_a_group() {
    let frame = v4().udp(1, 2).build();
    assert_eq!(packet(&frame).cast, Cast::Unicast);
    refused_after(&frame, DropReason::NotForUs, set(5, &[0x77]));
    assert_eq!(passes_after(&frame, set(0, &[0xff; 6])).cast, Cast::Broadcast);
    assert_eq!(passes_after(&frame, set(0, &[1, 0, 0x5e, 0, 0, 1])).cast, Cast::Multicast);
}

#[test]
fn a_group_is_no_source() {
    refused_after(&v4().udp(1, 2).build(), DropReason::Malformed, set(6, &[3]));
}

#[test]
fn tags_are_refused_in_the_frame_and_beside_it() {
    for (builder, _) in both() {
        let frame = builder.udp(1, 2).build();
        for tpid in [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]] {
            refused_after(&frame, DropReason::Unsupported, |frame| {
                frame.splice(12..12, [tpid[0], tpid[1], 0, 5]);
            });
            refused_after(&frame, DropReason::Unsupported, |frame| {
                frame.splice(12..12, [tpid[0], tpid[1], 0, 5, 0x81, 0, 0, 6]);
            });
        }
        let tagged = RxOffload { vlan: Some(5), ..RxOffload::default() };
        assert_eq!(parse(&frame, tagged, STATION), Err(DropReason::Unsupported));
        // A priority tag (VLAN 0) is a tag, too.
        let tagged = RxOffload { vlan: Some(0), ..RxOffload::default() };
        assert_eq!(parse(&frame, tagged, STATION), Err(DropReason::Unsupported));
    }
}

#[test]
fn other_ethertypes_and_lengths_are_refused() {
    let frame = v4().udp(1, 2).build();
    for ethertype in [0xaaaa, 46, 0x05dc, 0x0000, 0x86de, 0xffff] {
        refused_after(&frame, DropReason::Unsupported, set(12, &u16::to_be_bytes(ethertype)));
    }
    // IPv6 in a frame that says IPv4, and the other way round.
    refused_after(&frame, DropReason::Malformed, set(12, &[0x86, 0xdd]));
    refused_after(&v6().udp(1, 2).build(), DropReason::Malformed, set(12, &[8, 0]));
}

#[test]
fn every_cut_is_refused() {
    let frames = [
        v4().tcp(1, 2).tcp_options(&[2, 4, 5, 0xb4]).payload(b"x").build(),
        v6().udp(1, 2).payload(b"x").build(),
        v6().extension(protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0]).echo_request(1, 1).build(),
        ARP_REQUEST.to_vec(),
    ];
    for frame in frames {
        assert!(parse_plain(&frame).is_ok());
        for len in 0..frame.len() {
            assert_eq!(parse_plain(&frame[..len]), Err(DropReason::Malformed), "{len} of {}", frame.len());
        }
    }
}

#[test]
fn a_frame_that_lost_its_end_is_refused() {
    let frame = v4().udp(1, 2).build();
    let truncated = RxOffload { truncated: true, ..RxOffload::default() };
    assert!(parse_plain(&frame).is_ok());
    assert_eq!(parse(&frame, truncated, STATION), Err(DropReason::Malformed));
}

#[test]
fn offsets_that_need_more_than_sixteen_bits_are_refused() {
    let fits = v4().udp(1, 2).payload(&vec![0; 65_535 - L4_V4 - 8]).build();
    assert_eq!(packet(&fits).end, 65_535);
    let longer = v4().udp(1, 2).payload(&vec![0; 65_535 - L4_V4 - 7]).build();
    assert_eq!(parse_plain(&longer), Err(DropReason::Unsupported));
}

#[test]
fn arp_requests_and_replies_are_read() {
    let arp = Arp {
        operation: ArpOperation::Request,
        sender_mac: NEIGHBOR,
        sender: Addr::v4([10, 0, 0, 2]),
        target: Addr::v4([10, 0, 0, 1]),
        cast: Cast::Broadcast,
    };
    assert_eq!(parse_plain(&ARP_REQUEST), Ok(Parsed::Arp(arp)));
    let mut reply = ARP_REQUEST;
    reply[..6].copy_from_slice(&STATION.0);
    reply[21] = 2;
    let arp = Arp { operation: ArpOperation::Reply, cast: Cast::Unicast, ..arp };
    assert_eq!(parse_plain(&reply), Ok(Parsed::Arp(arp)));
    let mut padded = ARP_REQUEST.to_vec();
    padded.resize(60, 0);
    assert_eq!(parse_plain(&padded), parse_plain(&ARP_REQUEST));
}

#[test]
fn other_arp_is_refused() {
    for (at, value) in [(15, 6), (16, 0x86), (18, 8), (19, 16), (21, 3), (21, 8), (21, 0)] {
        refused_after(&ARP_REQUEST, DropReason::Unsupported, set(at, &[value]));
    }
    refused_after(&ARP_REQUEST, DropReason::Malformed, set(27, &[3]));
}
