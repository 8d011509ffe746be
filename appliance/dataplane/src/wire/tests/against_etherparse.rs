//! The parser against etherparse: on frames that etherparse built, and on damaged ones.

use super::*;
use crate::wire::arbitrary::{self, Body, Plan};
use crate::wire::plain::plain;
use crate::wire::testing::sum;
use etherparse::{Ethernet2Slice, Ipv4Slice, Ipv6Slice, TcpSlice, UdpSlice};
use proptest::prelude::*;

/// Where a part of the frame is in it.
fn range(frame: &[u8], part: &[u8]) -> (u16, u16) {
    let start = part.as_ptr() as usize - frame.as_ptr() as usize;
    (u16::try_from(start).unwrap(), u16::try_from(start + part.len()).unwrap())
}

/// Recomputes a transport checksum in the obvious way: 0 if it is right.
fn transport_residue(packet: &Packet, frame: &[u8]) -> u16 {
    let covered = &frame[usize::from(packet.l4)..usize::from(packet.payload_end)];
    let (src, dst) = (packet.key.src, packet.key.dst);
    let len = u32::try_from(covered.len()).unwrap().to_be_bytes();
    let tail = [0, packet.key.protocol];
    let pseudo_header = match (packet.key.protocol, src.as_v4(), dst.as_v4()) {
        (protocol::ICMP, ..) => vec![],
        (_, Some(src), Some(dst)) => [&src[..], &dst, &len, &tail].concat(),
        _ => [&src.octets()[..], dst.octets(), &len, &tail].concat(),
    };
    !sum(&[&pseudo_header, covered])
}

/// etherparse, asked about what the parser accepted, agrees on everything both speak of.
fn check(frame: &[u8], packet: &Packet, verified: bool) -> Result<(), TestCaseError> {
    let link = Ethernet2Slice::from_slice_without_fcs(frame).unwrap();
    prop_assert_eq!(link.destination(), STATION.0);
    let ip = &frame[usize::from(packet.l3)..];
    // To etherparse, the authentication header is an extension header; so is whatever a later fragment starts
    // with.
    let walks_on = packet.key.protocol == protocol::AH || packet.transport == Transport::LaterFragment;
    let payload = match packet.family {
        Family::V4 => {
            let Ok(slice) = Ipv4Slice::from_slice(ip) else {
                prop_assert!(walks_on);
                return Ok(());
            };
            let header = slice.header();
            prop_assert_eq!(Addr::v4(header.source()), packet.key.src);
            prop_assert_eq!(Addr::v4(header.destination()), packet.key.dst);
            prop_assert_eq!(header.ttl(), packet.ttl);
            prop_assert_eq!(header.dont_fragment(), packet.dont_fragment);
            prop_assert_eq!(header.is_fragmenting_payload(), packet.fragment.is_some());
            prop_assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            prop_assert_eq!(packet.ip_len(), usize::from(header.total_len()));
            if let Some(fragment) = packet.fragment {
                prop_assert_eq!(header.fragments_offset().value() * 8, fragment.offset);
                prop_assert_eq!(header.more_fragments(), fragment.more);
                prop_assert_eq!(u32::from(header.identification()), fragment.id);
            }
            slice.payload().clone()
        }
        Family::V6 => {
            let Ok(slice) = Ipv6Slice::from_slice(ip) else {
                prop_assert!(walks_on);
                return Ok(());
            };
            let header = slice.header();
            prop_assert_eq!(Addr::v6(header.source()), packet.key.src);
            prop_assert_eq!(Addr::v6(header.destination()), packet.key.dst);
            prop_assert_eq!(header.hop_limit(), packet.ttl);
            prop_assert_eq!(packet.ip_len(), 40 + usize::from(header.payload_length()));
            // Behind an authentication header etherparse may find a fragment header; here that is its payload.
            if packet.key.protocol != protocol::AH {
                prop_assert_eq!(slice.is_payload_fragmented(), packet.fragment.is_some());
            }
            // With a payload length of 0, etherparse takes all there is for a jumbogram.
            if walks_on || header.payload_length() == 0 {
                return Ok(());
            }
            slice.payload().clone()
        }
    };
    if packet.key.protocol == protocol::AH {
        // To etherparse the payload is what follows that header, also in a fragment; here it is a transport of its own.
        if let Some(fragment) = packet.fragment {
            prop_assert_eq!(fragment.len, packet.end - packet.l4);
        }
        return check_transport(frame, packet, &frame[packet.l4.into()..packet.end.into()]);
    }
    prop_assert_eq!(payload.ip_number.0, packet.key.protocol);
    prop_assert_eq!(range(frame, payload.payload), (packet.l4, packet.end));
    if let Some(fragment) = packet.fragment {
        prop_assert_eq!(usize::from(fragment.len), payload.payload.len());
    } else if verified
        && !(packet.transport == Transport::Udp && frame[usize::from(packet.l4) + 6..][..2] == [0, 0])
        && !matches!(packet.transport, Transport::Other)
    {
        prop_assert_eq!(transport_residue(packet, frame), 0);
    }
    check_transport(frame, packet, payload.payload)
}

fn check_transport(frame: &[u8], packet: &Packet, segment: &[u8]) -> Result<(), TestCaseError> {
    let ports = (packet.key.src_port, packet.key.dst_port);
    match packet.transport {
        Transport::Tcp(tcp) => {
            let slice = TcpSlice::from_slice(segment).unwrap();
            prop_assert_eq!((slice.source_port(), slice.destination_port()), ports);
            prop_assert_eq!(range(frame, slice.payload()), (packet.payload, packet.payload_end));
            prop_assert_eq!((slice.sequence_number(), slice.acknowledgment_number()), (tcp.seq, tcp.ack));
            prop_assert_eq!(slice.window_size(), tcp.window);
            let bits = [
                (slice.fin(), TcpFlags::FIN),
                (slice.syn(), TcpFlags::SYN),
                (slice.rst(), TcpFlags::RST),
                (slice.psh(), TcpFlags::PSH),
                (slice.ack(), TcpFlags::ACK),
                (slice.urg(), TcpFlags::URG),
            ];
            for (set, bit) in bits {
                prop_assert_eq!(set, tcp.flags.any(bit));
            }
        }
        Transport::Udp => {
            let slice = UdpSlice::from_slice_lax(segment).unwrap();
            prop_assert_eq!((slice.source_port(), slice.destination_port()), ports);
            prop_assert_eq!(range(frame, slice.payload()), (packet.payload, packet.payload_end));
        }
        Transport::Icmp(icmp) => {
            prop_assert_eq!((icmp.kind, icmp.code), (segment[0], segment[1]));
            let id = if icmp.class.is_echo() { u16::from_be_bytes([segment[4], segment[5]]) } else { 0 };
            prop_assert_eq!(ports, (id, id));
        }
        Transport::Other | Transport::LaterFragment => prop_assert_eq!(ports, (0, 0)),
    }
    Ok(())
}

/// What the plan says is what the parser must find.
fn expected_transport(plan: &Plan) -> (Option<Tcp>, u8, (u16, u16)) {
    let ports = (plan.src_port, plan.dst_port);
    let (icmp, v4) = (if plan.is_v4() { protocol::ICMP } else { protocol::ICMPV6 }, plan.is_v4());
    assert_eq!(v4, plan.dst.as_v4().is_some());
    match plan.body {
        Body::Tcp { seq, ack, flags, window, ref options } => {
            let shift = options.windows(3).find_map(|o| (o[..2] == [3, 3]).then_some(o[2].min(14)));
            let window_scale = shift.filter(|_| flags & TcpFlags::SYN != 0);
            (Some(Tcp { seq, ack, flags: TcpFlags(flags), window, window_scale }), protocol::TCP, ports)
        }
        Body::Udp { .. } => (None, protocol::UDP, ports),
        Body::EchoRequest { .. } => (None, icmp, (plan.src_port, plan.src_port)),
        Body::EchoReply { .. } => (None, icmp, (plan.dst_port, plan.dst_port)),
        Body::Other(number) => (None, number, (0, 0)),
    }
}

#[derive(Clone, Debug)]
struct Damage {
    changes: Vec<(prop::sample::Index, u8)>,
    cut: Option<prop::sample::Index>,
    fix_header: bool,
    fragment: bool,
    vouched: bool,
}

fn damage() -> impl Strategy<Value = Damage> {
    // Most of what decides stands in the first hundred bytes, much of it in small values.
    let value =
        prop_oneof![any::<u8>(), Just(0), Just(1), Just(0xff), Just(protocol::AH), Just(44), Just(60)];
    let change = (any::<prop::sample::Index>(), value);
    (
        prop::collection::vec(change, 0..4),
        prop::option::weighted(0.2, any::<prop::sample::Index>()),
        any::<[bool; 3]>(),
    )
        .prop_map(|(changes, cut, [fix_header, fragment, vouched])| Damage {
            changes,
            cut,
            fix_header,
            fragment,
            vouched,
        })
}

impl Damage {
    fn frame(&self, plan: &Plan) -> Vec<u8> {
        let mut frame = match self.fragment {
            true => plan.builder().build_fragments(64).into_iter().last().unwrap_or_default(),
            false => plan.builder().build(),
        };
        if let (Some(cut), false) = (self.cut, frame.is_empty()) {
            frame.truncate(cut.index(frame.len()));
        }
        for (at, value) in &self.changes {
            let near = frame.len().saturating_sub(12).min(90);
            if near > 0 {
                frame[12 + at.index(near)] = *value;
            }
        }
        if self.fix_header && frame.len() >= L3 + 60 && frame[L3] >> 4 == 4 {
            fix_ipv4_checksum(&mut frame);
        }
        frame
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn frames_that_etherparse_built_are_read_as_planned(plan in arbitrary::plan()) {
        let frame = plan.builder().build();
        let read = packet(&frame);
        let (tcp, number, ports) = expected_transport(&plan);
        prop_assert_eq!((read.key.src, read.key.dst, read.key.protocol), (plan.src, plan.dst, number));
        prop_assert_eq!((read.key.src_port, read.key.dst_port), ports);
        prop_assert_eq!((read.ttl, read.fragment), (plan.ttl, None));
        prop_assert_eq!(usize::from(read.end), frame.len() - plan.padding);
        match (tcp, read.transport) {
            (Some(tcp), transport) => prop_assert_eq!(transport, Transport::Tcp(tcp)),
            (None, transport) => prop_assert!(!matches!(transport, Transport::Tcp(_))),
        }
        if !matches!(plan.body, Body::Other(_)) {
            prop_assert_eq!(&frame[usize::from(read.payload)..usize::from(read.payload_end)], plan.payload);
        }
        check(&frame, &read, true)?;
    }

    #[test]
    fn fragments_that_etherparse_built_are_read(plan in arbitrary::plan(), units in 8usize..20) {
        let frames = plan.builder().build_fragments(8 * units);
        let mut reassembled = 0;
        for frame in &frames {
            let read = packet(frame);
            check(frame, &read, true)?;
            if let Some(fragment) = read.fragment {
                prop_assert_eq!(usize::from(fragment.offset), reassembled);
                prop_assert_eq!(fragment.id, 0x5eed);
                reassembled += usize::from(fragment.len);
            }
        }
    }

    #[test]
    fn damaged_frames_are_refused_or_read_as_etherparse_does(plan in arbitrary::plan(), damage in damage()) {
        let frame = damage.frame(&plan);
        let checksum = if damage.vouched { ChecksumStatus::Verified } else { ChecksumStatus::Unverified };
        let offload = RxOffload { checksum, ..RxOffload::default() };
        if let Ok(Parsed::Ip(read)) = parse(&frame, offload, STATION) {
            let offsets = [read.l3 + 19, read.l4, read.payload, read.payload_end, read.end];
            prop_assert!(offsets.is_sorted() && usize::from(read.end) <= frame.len());
            check(&frame, &read, !damage.vouched)?;
        }
    }

    #[test]
    fn the_short_way_gives_the_same(plan in arbitrary::plan(), damage in damage(), whole in any::<bool>()) {
        let frame = if whole { plan.builder().build() } else { damage.frame(&plan) };
        let checksum = if damage.vouched { ChecksumStatus::Verified } else { ChecksumStatus::Unverified };
        let offload = RxOffload { checksum, ..RxOffload::default() };
        let short = plain(&frame, offload, STATION);
        if let Some(packet) = short {
            prop_assert_eq!(parse(&frame, offload, STATION), Ok(Parsed::Ip(packet)));
        }
        // It is taken by all whom it is for.
        let is_plain = whole
            && plan.is_v4()
            && plan.option_words == 0
            && frame.len() >= L4_V4 + TCP_HEADER_LEN
            && match &plan.body {
                Body::Tcp { options, .. } => matches!(options[..], [] | [1, 1, 8, 10, ..]),
                // Not the very short ones.
                Body::Udp { .. } => frame[L3 + 2..L3 + 4] >= [0, 36][..],
                _ => false,
            };
        prop_assert!(short.is_some() || !is_plain);
        for refused in [RxOffload { truncated: true, ..offload }, RxOffload { vlan: Some(1), ..offload }] {
            prop_assert_eq!(plain(&frame, refused, STATION), None);
        }
    }

    #[test]
    fn noise_is_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        ethertype in prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x0806)],
        first in prop_oneof![Just(0x45u8), Just(0x46), Just(0x60)],
    ) {
        let head = [&STATION.0[..], &[2; 6], &ethertype.to_be_bytes(), &[first]].concat();
        let mut frame = [head, bytes].concat();
        if frame.len() >= L3 + 60 && first < 0x60 {
            let total = u16::try_from(frame.len() - L3).unwrap();
            frame[L3 + 2..L3 + 4].copy_from_slice(&total.to_be_bytes());
            fix_ipv4_checksum(&mut frame);
        } else if frame.len() >= L3 + 40 && first == 0x60 {
            let payload = u16::try_from(frame.len() - L3 - 40).unwrap();
            frame[L3 + 4..L3 + 6].copy_from_slice(&payload.to_be_bytes());
        }
        for checksum in [ChecksumStatus::Verified, ChecksumStatus::Unverified] {
            let offload = RxOffload { checksum, ..RxOffload::default() };
            if let Ok(Parsed::Ip(read)) = parse(&frame, offload, STATION) {
                check(&frame, &read, checksum == ChecksumStatus::Unverified)?;
            }
        }
    }
}
