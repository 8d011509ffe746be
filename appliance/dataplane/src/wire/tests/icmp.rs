use super::*;
use crate::wire::icmp::kind as v4_kind;
use crate::wire::icmpv6::kind as v6_kind;

#[track_caller]
fn class(frame: &[u8]) -> IcmpClass {
    match packet(frame).transport {
        Transport::Icmp(icmp) => icmp.class,
        other => panic!("ICMP, not {other:?}"),
    }
}

#[test]
fn echo_has_its_identifier_in_both_ports() {
    for (builder, l4) in both() {
        let request = builder.clone().echo_request(0x1234, 7).payload(b"data").build();
        assert_eq!(class(&request), IcmpClass::EchoRequest);
        let read = packet(&request);
        assert_eq!((read.key.src_port, read.key.dst_port), (0x1234, 0x1234));
        assert_eq!((usize::from(read.payload), read.payload_len()), (l4 + 8, 4));
        assert_eq!(class(&builder.clone().echo_reply(1, 2).build()), IcmpClass::EchoReply);
    }
    let odd = v4().icmp(v4_kind::ECHO_REQUEST, 1, [1; 4]).build();
    assert_eq!((class(&odd), packet(&odd).key.src_port), (IcmpClass::Other, 0));
}

#[test]
fn h_20_checksum_and_length() {
    for (builder, l4) in both() {
        let frame = builder.echo_request(1, 2).payload(b"odd").build();
        refused_after(&frame, DropReason::BadChecksum, |frame| frame[l4 + 2] ^= 1);
        refused_after(&frame, DropReason::BadChecksum, |frame| *frame.last_mut().unwrap() ^= 1);
    }
    let frame = v4().echo_request(1, 2).build();
    refused_after(&frame, DropReason::Malformed, set_ipv4(16, &27u16.to_be_bytes()));
    let frame = v6().echo_request(1, 2).build();
    refused_after(&frame, DropReason::Malformed, set(18, &7u16.to_be_bytes()));
    // The pseudo header counts for ICMPv6 only.
    refused_after(&frame, DropReason::BadChecksum, |frame| frame[L3 + 23] ^= 4);
    passes_after(&v4().echo_request(1, 2).build(), set_ipv4(L3 + 15, &[9]));
}

#[test]
fn classes_of_icmp() {
    let of = |kind| class(&v4().icmp(kind, 0, [0; 4]).build());
    for kind in [v4_kind::UNREACHABLE, v4_kind::TIME_EXCEEDED, v4_kind::PARAMETER_PROBLEM] {
        assert_eq!(of(kind), IcmpClass::Error);
    }
    for kind in [v4_kind::REDIRECT, v4_kind::ROUTER_ADVERTISEMENT, v4_kind::ROUTER_SOLICITATION] {
        assert_eq!(of(kind), IcmpClass::LinkLocal);
    }
    for kind in [13, 14, 17, 18, 42, 255] {
        assert_eq!(of(kind), IcmpClass::Other);
    }
    let quench = v4().icmp(v4_kind::SOURCE_QUENCH, 0, [0; 4]).build();
    assert_eq!(parse_plain(&quench), Err(DropReason::Unsupported));
}

#[test]
fn classes_of_icmpv6() {
    let of = |kind| class(&v6().icmp(kind, 0, [0; 4]).build());
    for kind in [1, 2, 3, 4, 100, 127] {
        assert_eq!(of(kind), IcmpClass::Error);
    }
    for kind in [130, 131, 132, 143, 151, 152, 153] {
        assert_eq!(of(kind), IcmpClass::LinkLocal);
    }
    for kind in [138, 139, 144, 160, 255] {
        assert_eq!(of(kind), IcmpClass::Other);
    }
    // A multicast router solicitation has four bytes (RFC 4286).
    let mut frame = v6().protocol(protocol::ICMPV6).payload(&[152, 0, 0, 0]).build();
    fix_transport_checksum(&mut frame, protocol::ICMPV6, L4_V6..L4_V6 + 4);
    assert_eq!((class(&frame), packet(&frame).payload), (IcmpClass::LinkLocal, 58));
    let mut echo = v6().protocol(protocol::ICMPV6).payload(&[128, 0, 0, 0]).build();
    fix_transport_checksum(&mut echo, protocol::ICMPV6, L4_V6..L4_V6 + 4);
    assert_eq!(parse_plain(&echo), Err(DropReason::Malformed));
}

#[test]
fn an_error_quotes_from_its_payload_on() {
    for (builder, l4) in both() {
        let quote = builder.clone().udp(1, 2).build_ip();
        let frame = builder.icmp(3, 1, [0; 4]).payload(&quote).build();
        let read = packet(&frame);
        assert_eq!(class(&frame), IcmpClass::Error);
        assert_eq!(usize::from(read.payload), l4 + 8);
        assert_eq!(&frame[usize::from(read.payload)..usize::from(read.payload_end)], quote);
    }
}

const TARGET: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const SOURCE_LINK_ADDRESS: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 2];

fn discovery(src: &str, dst: &str, kind: u8, flags: u8, payload: &[u8]) -> FrameBuilder {
    FrameBuilder::new(src, dst).ttl(255).icmp(kind, 0, [flags, 0, 0, 0]).payload(payload)
}

fn set_icmpv6(at: usize, bytes: &[u8]) -> impl FnOnce(&mut Vec<u8>) {
    set_transport(protocol::ICMPV6, L4_V6, L4_V6 + at, bytes)
}

#[test]
fn neighbour_discovery_is_of_the_link() {
    let with_option =
        [TARGET, [[1, 1, 2, 0, 0, 0, 0, 2], [14, 1, 0, 0, 0, 0, 0, 0]].concat().try_into().unwrap()].concat();
    let messages = [
        discovery("fe80::1", "ff02::1:ff00:2", v6_kind::NEIGHBOR_SOLICITATION, 0, &with_option),
        discovery("fe80::1", "fe80::2", v6_kind::NEIGHBOR_ADVERTISEMENT, 0x60, &with_option),
        discovery(
            "fe80::1",
            "ff02::1",
            v6_kind::ROUTER_ADVERTISEMENT,
            0,
            &[&[0; 8][..], &SOURCE_LINK_ADDRESS].concat(),
        ),
        discovery("fe80::1", "ff02::2", v6_kind::ROUTER_SOLICITATION, 0, &SOURCE_LINK_ADDRESS),
        discovery("fe80::1", "fe80::2", v6_kind::REDIRECT, 0, &[TARGET, TARGET].concat()),
    ];
    let classes = [
        IcmpClass::NeighborSolicitation,
        IcmpClass::NeighborAdvertisement,
        IcmpClass::LinkLocal,
        IcmpClass::LinkLocal,
        IcmpClass::LinkLocal,
    ];
    for (message, expected) in messages.iter().zip(classes) {
        let frame = message.build();
        assert_eq!(class(&frame), expected);
        refused_after(&frame, DropReason::Malformed, set(L3 + 7, &[254]));
        refused_after(&frame, DropReason::Malformed, set_icmpv6(1, &[1]));
    }
    for message in &messages[..4] {
        let frame = message.build();
        let last_option = frame.len() - L4_V6 - 8;
        refused_after(&frame, DropReason::Malformed, set_icmpv6(last_option + 1, &[0]));
        refused_after(&frame, DropReason::Malformed, set_icmpv6(last_option + 1, &[2]));
    }
}

#[test]
fn neighbour_discovery_has_its_length() {
    for (kind, len) in [(133, 8), (134, 16), (135, 24), (136, 24), (137, 40)] {
        let message = |len: usize| discovery("fe80::1", "fe80::2", kind, 0, &vec![0; len - 8]).build();
        assert!(parse_plain(&message(len)).is_ok());
        if len > 8 {
            assert_eq!(parse_plain(&message(len - 8)), Err(DropReason::Malformed));
        }
        assert_eq!(parse_plain(&message(len + 1)), Err(DropReason::Malformed), "half an option");
        assert_eq!(parse_plain(&message(len + 8)), Err(DropReason::Malformed), "an option of length 0");
    }
}

#[test]
fn neighbour_discovery_addresses() {
    let solicit = |src, dst, payload: &[u8]| {
        parse_plain(&discovery(src, dst, v6_kind::NEIGHBOR_SOLICITATION, 0, payload).build())
    };
    let with_option = [&TARGET[..], &SOURCE_LINK_ADDRESS].concat();
    assert!(solicit("::", "ff02::1:ff00:2", &TARGET).is_ok());
    assert_eq!(solicit("::", "ff02::1:ff00:2", &with_option), Err(DropReason::Malformed));
    assert_eq!(solicit("::", "fe80::2", &TARGET), Err(DropReason::Malformed));
    assert!(solicit("fe80::1", "fe80::2", &with_option).is_ok());
    let group = [&[0xff, 2][..], &[0; 14]].concat();
    assert_eq!(solicit("fe80::1", "fe80::2", &group), Err(DropReason::Malformed));
    let advertise = |dst, flags, target: &[u8]| {
        parse_plain(&discovery("fe80::2", dst, v6_kind::NEIGHBOR_ADVERTISEMENT, flags, target).build())
    };
    assert!(advertise("ff02::1", 0x20, &TARGET).is_ok());
    assert_eq!(advertise("ff02::1", 0x60, &TARGET), Err(DropReason::Malformed));
    assert!(advertise("fe80::1", 0x60, &TARGET).is_ok());
    assert_eq!(advertise("fe80::1", 0x60, &group), Err(DropReason::Malformed));
}
