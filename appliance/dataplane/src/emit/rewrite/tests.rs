//! Rewritten packets against the same packets built anew by etherparse.

use super::*;
use crate::testing::VecFrame;
use crate::wire::arbitrary::{self, Body, Plan};
use crate::wire::testing::{FrameBuilder, STATION, fix_ipv4_checksum};
use crate::wire::{Parsed, parse, quoted};
use pmd_shim::RxOffload;
use proptest::prelude::*;

#[track_caller]
fn packet(frame: &[u8]) -> Packet {
    match parse(frame, RxOffload::default(), STATION) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("an IP packet, not {other:?}"),
    }
}

/// The plan with the translation's endpoints, built from scratch by the tests below.
fn translated(plan: &Plan, translation: &Translation) -> Plan {
    let mut plan = plan.clone();
    if let Some(Endpoint { addr, port }) = translation.src {
        plan.src = addr;
        plan.src_port = port.unwrap_or(plan.src_port);
    }
    if let Some(Endpoint { addr, port }) = translation.dst {
        plan.dst = addr;
        plan.dst_port = port.unwrap_or(plan.dst_port);
    }
    plan
}

/// What undoes a translation of this packet.
fn inverse(packet: &Packet, translation: &Translation) -> Translation {
    let back =
        |addr, port, there: Option<Endpoint>| there.map(|e| Endpoint { addr, port: e.port.map(|_| port) });
    Translation {
        src: back(packet.key.src, packet.key.src_port, translation.src),
        dst: back(packet.key.dst, packet.key.dst_port, translation.dst),
    }
}

fn endpoint(v4: bool) -> impl Strategy<Value = Option<Endpoint>> {
    let addr = any::<[u8; 16]>().prop_map(move |octets| match (v4, octets) {
        (true, [a, b, c, d, ..]) => Addr::v4([a, b, c, d]),
        (false, [_, rest @ ..]) => Addr::v6([&[0xfd][..], &rest].concat().try_into().unwrap()),
    });
    prop::option::weighted(
        0.8,
        (addr, prop::option::of(1u16..)).prop_map(|(addr, port)| Endpoint { addr, port }),
    )
}

fn translation(v4: bool) -> impl Strategy<Value = Translation> {
    (endpoint(v4), endpoint(v4)).prop_map(|(src, dst)| Translation { src, dst })
}

fn plan_and_translation() -> impl Strategy<Value = (Plan, Translation)> {
    arbitrary::plan().prop_flat_map(|plan| {
        let translation = translation(plan.is_v4());
        (Just(plan), translation)
    })
}

/// An ICMP error of the plan's family about its packet, cut after this many bytes.
fn error_about(plan: &Plan, from: Addr, to: Addr, len: usize) -> FrameBuilder {
    let mut quote = plan.builder().build_ip();
    quote.truncate(len);
    FrameBuilder::between(from.into(), to.into()).icmp(3, 1, [0, 0, 5, 0]).payload(&quote)
}

/// The shortest quote that says what flow it is about.
fn shortest_quote(plan: &Plan) -> usize {
    usize::from(packet(&plan.builder().build()).l4) - 14 + 8
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn translation_equals_building_anew((plan, translation) in plan_and_translation()) {
        let mut frame = plan.builder().build();
        let before = frame.clone();
        let parsed = packet(&frame);
        translate(&mut frame, &parsed, &translation);
        prop_assert_eq!(&frame, &translated(&plan, &translation).builder().build());
        translate(&mut frame, &parsed, &inverse(&parsed, &translation));
        prop_assert_eq!(frame, before);
    }

    #[test]
    fn fragments_are_translated_alike((plan, translation) in plan_and_translation(), units in 8usize..20) {
        let frames = plan.builder().build_fragments(8 * units);
        let anew = translated(&plan, &translation).builder().build_fragments(8 * units);
        for (mut frame, anew) in frames.into_iter().zip(anew) {
            let parsed = packet(&frame);
            translate(&mut frame, &parsed, &translation);
            prop_assert_eq!(frame, anew);
        }
    }

    #[test]
    fn quotes_are_translated_with_the_error(
        (plan, inner) in plan_and_translation(),
        from: [u8; 16],
        outer: [u8; 16],
        cut in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!matches!(plan.body, Body::Other(_)) || plan.payload.len() >= 8);
        let plan = Plan { padding: 0, ..plan };
        let shortest = shortest_quote(&plan);
        let len = shortest + cut.index(plan.builder().build_ip().len() - shortest + 1);
        // Half a checksum is left as it is.
        let tcp_checksum_cut = matches!(plan.body, Body::Tcp { .. }) && len == shortest - 8 + 17;
        let addr = |octets: [u8; 16]| match plan.is_v4() {
            true => Addr::v4([octets[0], octets[1], octets[2], octets[3]]),
            false => Addr::v6([&[0x20][..], &octets[1..]].concat().try_into().unwrap()),
        };
        let mut frame = error_about(&plan, addr(from), plan.src, len).build();
        let parsed = packet(&frame);
        let quote = quoted(&frame[parsed.payload.into()..parsed.payload_end.into()], parsed.family).unwrap();
        let to = Translation { src: None, dst: Some(Endpoint { addr: addr(outer), port: Some(9) }) };
        translate_quoted(&mut frame, &parsed, &quote, &inner);
        translate(&mut frame, &parsed, &to);
        let anew = error_about(&translated(&plan, &inner), addr(from), addr(outer), len).build();
        prop_assert!(parse(&frame, RxOffload::default(), STATION).is_ok());
        prop_assert!(tcp_checksum_cut || frame == anew, "{frame:x?} and {anew:x?}");
    }

    #[test]
    fn ttl_counts_down_like_a_packet_sent_with_less(plan in arbitrary::plan(), ttl in 1u8..) {
        let mut frame = Plan { ttl, ..plan.clone() }.builder().build();
        let parsed = packet(&frame);
        decrement_ttl(&mut frame, &parsed);
        prop_assert_eq!(frame, Plan { ttl: ttl - 1, ..plan }.builder().build());
    }

    #[test]
    fn another_frame_than_the_parsed_one_is_survived(
        (plan, translation) in plan_and_translation(),
        mut bytes in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let frame = error_about(&plan, plan.dst, plan.src, 128).build();
        let parsed = packet(&frame);
        translate(&mut bytes, &parsed, &translation);
        decrement_ttl(&mut bytes, &parsed);
        if let Some(quote) = quoted(&frame[parsed.payload.into()..], parsed.family) {
            translate_quoted(&mut bytes, &parsed, &quote, &translation);
        }
    }
}

#[test]
fn a_missing_udp_checksum_stays_missing() {
    let mut frame = FrameBuilder::new("10.0.0.1", "10.0.0.2").udp_without_checksum(1, 2).build();
    let parsed = packet(&frame);
    let src = Some(Endpoint { addr: Addr::v4([192, 0, 2, 1]), port: Some(7) });
    translate(&mut frame, &parsed, &Translation { src, dst: None });
    assert_eq!(frame, FrameBuilder::new("192.0.2.1", "10.0.0.2").udp_without_checksum(7, 2).build());
}

#[test]
fn a_quote_with_a_broken_checksum_is_as_broken_after() {
    let (client, vip, backend) = ("10.0.0.1", "192.0.2.1", "10.1.0.1");
    let error = |client: &str, server: &str, from: &str| {
        let mut quote = FrameBuilder::new(server, client).tcp(80, 1000).build();
        // Some stacks quote the time to live as it was after counting down, the checksum from before.
        quote[22] -= 1;
        FrameBuilder::new(from, client).icmp(11, 0, [0; 4]).payload(&quote[14..]).build()
    };
    let mut frame = error(client, vip, "10.9.9.9");
    let parsed = packet(&frame);
    let quote = quoted(&frame[parsed.payload.into()..], parsed.family).unwrap();
    let src = Some(Endpoint { addr: backend.parse::<std::net::IpAddr>().unwrap().into(), port: Some(80) });
    translate_quoted(&mut frame, &parsed, &quote, &Translation { src, dst: None });
    assert_eq!(frame, error(client, backend, "10.9.9.9"));
}

#[test]
fn an_address_of_the_other_family_changes_nothing() {
    let mut frame = FrameBuilder::new("10.0.0.1", "10.0.0.2").udp(1, 2).build();
    let before = frame.clone();
    let parsed = packet(&frame);
    let src = Some(Endpoint { addr: Addr::v6([0x20; 16]), port: None });
    translate(&mut frame, &parsed, &Translation { src, dst: None });
    assert_eq!(frame, before);
}

#[test]
fn only_its_own_side_names_an_echo() {
    let endpoint = |last, port| Some(Endpoint { addr: Addr::v4([10, 0, 0, last]), port: Some(port) });
    let both = Translation { src: endpoint(1, 11), dst: endpoint(2, 22) };
    let builder = FrameBuilder::new("10.0.0.1", "10.0.0.2");
    let mut request = builder.clone().echo_request(5, 1).build();
    let parsed = packet(&request);
    translate(&mut request, &parsed, &both);
    assert_eq!(request, builder.clone().echo_request(11, 1).build());
    let mut reply = builder.clone().echo_reply(5, 1).build();
    let parsed = packet(&reply);
    translate(&mut reply, &parsed, &both);
    assert_eq!(reply, builder.echo_reply(22, 1).build());
}

#[test]
fn ttl_that_borrows_is_right_too() {
    let mut frame = FrameBuilder::new("10.0.0.1", "10.0.0.2").ttl(1).udp(1, 2).build();
    let parsed = packet(&frame);
    decrement_ttl(&mut frame, &parsed);
    let mut fixed = frame.clone();
    fix_ipv4_checksum(&mut fixed);
    assert_eq!((frame[22], &frame), (0, &fixed));
}

#[test]
fn link_addresses_are_written_destination_first() {
    let mut frame = FrameBuilder::new("10.0.0.1", "10.0.0.2").udp(1, 2).build();
    set_link(&mut frame, Mac([2; 6]), Mac([4; 6]));
    assert_eq!(
        frame,
        FrameBuilder::new("10.0.0.1", "10.0.0.2").link(Mac([2; 6]), Mac([4; 6])).udp(1, 2).build()
    );
}

#[test]
fn padding_is_cut_off() {
    let builder = FrameBuilder::new("10.0.0.1", "10.0.0.2").udp(1, 2);
    let plain = builder.build();
    for padding in [0, 18] {
        let padded = builder.clone().padding(padding).build();
        let mut frame = VecFrame::new(&padded);
        trim(&mut frame, &packet(&padded));
        assert_eq!(frame.bytes(), plain);
    }
}
