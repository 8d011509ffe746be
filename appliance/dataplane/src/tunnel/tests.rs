//! What is taken out of a tunnel held against what was put in, and against a slow reading of the same headers.

use super::{Arrival, Found, NO_PAIR, Sign, Tunnels, entropy};
use crate::addr::{Addr, Mac};
use crate::emit::encap::{Difference, Front, LEN_V4, Label, Outer, encapsulate};
use crate::names::Names;
use crate::snapshot::{BuildOptions, Link, Snapshot};
use crate::testing::VecFrame;
use crate::verdict::{DropReason, PortId};
use crate::wire::plain::Station;
use crate::wire::testing::{NEIGHBOR, STATION, fix_ipv4_checksum};
use crate::wire::{self, Parsed, Transport};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nva_config::{Config, Source, Trust};
use pmd_shim::{Frame, RxOffload};
use proptest::prelude::*;
use std::net::IpAddr;

const PORT: PortId = PortId(0);

/// Two gateways over IPv4 at one address, one over IPv6 that takes datagrams without checksum, one that does not.
const CONFIG: &str = r#"
version: 1
ports:
- {name: p, device: e0, trust: trusted, addresses: [10.2.0.1/24, "fd00:2::1/64", "fd00:2::2/64"]}
gateway:
- port: p
  address: 10.2.0.1
  peers: [10.2.0.200, 10.2.0.201]
  tunnels:
  - {name: in, trust: trusted, vni: 800, udp_port: 10800}
  - {name: out, trust: untrusted, vni: 801, udp_port: 10801}
- port: p
  address: 10.2.0.1
  peers: [10.2.0.201]
  mtu: 1400
  dscp: 46
  tunnels:
  - {name: in2, trust: trusted, vni: 900, udp_port: 10800}
  - {name: out2, trust: untrusted, vni: 901, udp_port: 10901}
- port: p
  address: "fd00:2::1"
  peers: ["fd00:2::c8"]
  zero_checksum_ipv6: true
  tunnels:
  - {name: in6, trust: trusted, vni: 800, udp_port: 10800}
  - {name: out6, trust: untrusted, vni: 801, udp_port: 10801}
- port: p
  address: "fd00:2::2"
  peers: ["fd00:2::c8"]
  tunnels:
  - {name: in62, trust: trusted, vni: 800, udp_port: 10800}
  - {name: out62, trust: untrusted, vni: 801, udp_port: 10801}
"#;

fn config(text: &str) -> Config {
    let source = Source { path: "tunnels.yaml".into(), text: text.into() };
    nva_config::load(&[source], None).expect("a good configuration")
}

fn compile(text: &str, names: &mut Names) -> Snapshot {
    let links = [Link { mac: STATION, mtu: 1500 }];
    Snapshot::build(&config(text), BuildOptions { links: &links, down: &|_, _| false, names, generation: 1 })
}

fn tunnels() -> Tunnels {
    compile(CONFIG, &mut Names::default()).tunnels.clone()
}

/// What is found at once.
fn plain(tunnels: &Tunnels, bytes: &[u8]) -> Option<Arrival> {
    let mut finder = tunnels.finder(PORT, &Station::new(STATION))?;
    let pair = finder.pair(bytes);
    let port = (pair != NO_PAIR).then(|| tunnels.of_pair(pair, bytes))??;
    let sign = Sign::read(pair, bytes.first_chunk()?);
    for number in 0..tunnels.count() as u16 {
        let gate = PortId::tunnel(number);
        assert_eq!(tunnels.admits(gate, &sign), gate == port, "one gate admits it, {number}");
    }
    Some(Arrival::plain(port, bytes))
}

/// As the path does it: at once, else quickly, and where that is not enough, on what the general parser says.
fn quick(tunnels: &Tunnels, bytes: &[u8]) -> Result<Option<Arrival>, DropReason> {
    let found = tunnels.find(PORT, bytes, &Station::new(STATION), true);
    if let Some(arrival) = plain(tunnels, bytes) {
        assert_eq!(found, Found::Inside(arrival), "what is found at once is what is found");
    }
    let found = match found {
        Found::Outside => match wire::parse(bytes, RxOffload::default(), STATION)? {
            Parsed::Ip(packet) => tunnels.find_parsed(PORT, bytes, &packet),
            Parsed::Arp(_) => Found::Outside,
        },
        found => found,
    };
    match found {
        Found::Outside => Ok(None),
        Found::Inside(arrival) | Found::Enveloped { arrival, .. } => Ok(Some(arrival)),
        Found::Refused(reason) => Err(reason),
    }
}

/// The same, read off the configuration.
fn slow(config: &Config, tunnels: &Tunnels, bytes: &[u8]) -> Result<Option<Arrival>, DropReason> {
    let zero = bytes.len() >= 62
        && bytes[..6] == STATION.0
        && bytes[12..14] == [0x86, 0xdd]
        && bytes[20] == 17
        && bytes[60..62] == [0, 0];
    let mut summed = bytes.to_vec();
    if zero {
        // What the general parser does not let pass over IPv6, put right for it.
        let end = 54 + usize::from(u16::from_be_bytes([bytes[18], bytes[19]]));
        let Some(datagram) = bytes.get(54..end) else { return Err(DropReason::Malformed) };
        let len = (datagram.len() as u32).to_be_bytes();
        let sum = !wire::testing::sum(&[&bytes[22..54], &len, &[0, 0, 0, 17], datagram]);
        summed[60..62].copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
    }
    let parsed = wire::parse(&summed, RxOffload::default(), STATION);
    let Parsed::Ip(packet) = parsed? else { return Ok(None) };
    let refused = if zero { Err(DropReason::BadChecksum) } else { Ok(None) };
    if packet.transport != Transport::Udp || packet.fragment.is_some() || packet.cast != wire::Cast::Unicast {
        return refused;
    }
    let here = |address: &IpAddr| Addr::from(*address) == packet.key.dst;
    let all: Vec<_> = config.gateways.iter().flat_map(|g| g.tunnels.iter().map(move |t| (g, t))).collect();
    let at: Vec<_> = all.into_iter().filter(|(_, t)| here(&t.address)).collect();
    let port = packet.key.dst_port;
    if at.is_empty() || port != 4789 && at.iter().all(|(_, t)| t.udp_port != port) {
        return refused;
    }
    let is_peer = |peers: &[IpAddr]| peers.iter().any(|peer| Addr::from(*peer) == packet.key.src);
    let from_any = at.iter().any(|(g, _)| is_peer(&g.peers));
    let payload = &bytes[packet.payload.into()..packet.payload_end.into()];
    let known = payload
        .get(..8)
        .filter(|header| header[0] & 8 != 0)
        .map(|h| u32::from_be_bytes([0, h[4], h[5], h[6]]));
    let network = known.and_then(|vni| at.iter().find(|(_, t)| t.vni == vni));
    let Some((gateway, tunnel)) = network else {
        return Err(match (from_any, known) {
            (false, _) => DropReason::TunnelBadPeer,
            (true, None) => DropReason::Malformed,
            (true, Some(_)) => DropReason::TunnelUnknownVni,
        });
    };
    if !is_peer(&gateway.peers) {
        return Err(DropReason::TunnelBadPeer);
    }
    if tunnel.udp_port != port {
        return Err(DropReason::TunnelWrongPort);
    }
    if zero && !gateway.zero_checksum_ipv6 {
        return Err(DropReason::BadChecksum);
    }
    let place = (0..tunnels.count()).map(|n| PortId::tunnel(n as u16)).find(|id| {
        let path = tunnels.open(*id).and_then(|t| tunnels.path(t)).expect("it is open");
        tunnels.facts(*id).name == tunnel.name
            && path.outer == Outer::new(packet.key.dst, packet.key.src, !gateway.zero_checksum_ipv6)
    });
    let first = u16::from_be_bytes([bytes[14], bytes[15]]);
    let service = if packet.key.src.as_v4().is_some() { first as u8 } else { (first >> 4) as u8 };
    Ok(Some(Arrival {
        port: place.expect("it has a number"),
        start: packet.payload + 8,
        end: packet.payload_end,
        service,
    }))
}

fn address(text: &str) -> Addr {
    text.parse::<IpAddr>().expect("an address").into()
}

/// A frame from a peer, or from somebody else.
fn frame(ends: (&str, &str), summed: bool, label: Label, inner: &[u8]) -> VecFrame {
    let mut frame = VecFrame::new(inner);
    let outer = Outer::new(address(ends.1), address(ends.0), summed);
    encapsulate(&mut frame, &outer, &label, (STATION.into(), NEIGHBOR.into())).expect("there is room");
    frame
}

fn ends() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("10.2.0.1", "10.2.0.200"),
        ("10.2.0.1", "10.2.0.201"),
        ("10.2.0.1", "10.2.0.202"),
        ("10.2.0.2", "10.2.0.200"),
        ("fd00:2::1", "fd00:2::c8"),
        ("fd00:2::2", "fd00:2::c8"),
        ("fd00:2::2", "fd00:2::c9"),
    ])
}

fn label() -> impl Strategy<Value = Label> {
    let vni = prop::sample::select(vec![800, 800, 801, 801, 900, 901, 0, 802, 0xff_ffff]);
    let udp_port = prop::sample::select(vec![10800u16, 10800, 10801, 10801, 10901, 4789, 53]);
    (vni, udp_port, 49_152u16.., any::<u8>()).prop_map(|(vni, udp_port, source_port, service)| Label {
        vni,
        udp_port,
        source_port,
        service,
    })
}

proptest! {
    /// The other end reads what was written, with the same inner bytes.
    #[test]
    fn what_is_put_in_comes_out(
        summed: bool, v6: bool, label in label(), inner in prop::collection::vec(any::<u8>(), 0..1400),
    ) {
        let ends = if v6 { ("fd00:2::1", "fd00:2::c8") } else { ("10.2.0.1", "10.2.0.200") };
        let frame = frame(ends, summed, label, &inner);
        let sliced = SlicedPacket::from_ethernet(frame.bytes()).expect("right headers");
        let (service, ttl) = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => {
                prop_assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
                prop_assert!(ip.header().dont_fragment());
                (frame.bytes()[15], ip.header().ttl())
            }
            Some(NetSlice::Ipv6(ip)) => (ip.header().traffic_class(), ip.header().hop_limit()),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!((service, ttl), (label.service, 64));
        let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("no UDP") };
        prop_assert_eq!((udp.source_port(), udp.destination_port()), (label.source_port, label.udp_port));
        prop_assert_eq!(usize::from(udp.length()), inner.len() + 16);
        prop_assert_eq!(udp.checksum() != 0, v6 && summed);
        if v6 && summed {
            // It verifies checksums.
            let parsed = wire::parse(frame.bytes(), RxOffload::default(), STATION);
            prop_assert!(matches!(parsed, Ok(Parsed::Ip(_))), "{:?}", parsed);
        }
        let payload = udp.payload();
        prop_assert_eq!(super::vxlan::vni(*payload.first_chunk().unwrap()), Some(label.vni));
        prop_assert_eq!(&payload[8..], &inner[..]);
    }

    #[test]
    fn a_front_is_what_encapsulation_writes(
        label in label(), inner in prop::collection::vec(any::<u8>(), 14..100), dscp in prop::option::of(0u8..64),
    ) {
        let outer = Outer::new(address("10.2.0.1"), address("10.2.0.200"), false);
        let service = dscp.map_or(label.service, |dscp| dscp << 2 | label.service & 3);
        let mut expected = VecFrame::new(&inner);
        let link = (NEIGHBOR.into(), STATION.into());
        encapsulate(&mut expected, &outer, &Label { service, ..label }, link).expect("there is room");
        let mut frame = VecFrame::new(&inner);
        frame.push_front(LEN_V4).expect("there is room");
        let difference = Difference {
            next_hop: NEIGHBOR.into(),
            ports: u32::from(label.source_port.swap_bytes()) | u32::from(label.udp_port.swap_bytes()) << 16,
            network: (label.vni << 8).swap_bytes(),
            service: label.service,
        };
        let head = frame.bytes_mut().first_chunk_mut().expect("it begins with them");
        Front::new(&outer, STATION.into(), dscp).write(head, &difference, (inner.len() + LEN_V4 - 14) as u16);
        prop_assert_eq!(frame.bytes(), expected.bytes());
    }

    #[test]
    fn the_quick_way_is_the_slow_way(
        ends in ends(), summed: bool, label in label(), inner in prop::collection::vec(any::<u8>(), 0..40),
        edits in prop::collection::vec((0usize..70, any::<u8>()), 0..3), fixed: bool, cut in 0usize..30, grown in 0usize..20,
        options: bool,
    ) {
        let mut bytes = frame(ends, summed, label, &inner).bytes().to_vec();
        if options && bytes[12..14] == [8, 0] {
            bytes[14] = 0x46;
            let total = u16::from_be_bytes([bytes[16], bytes[17]]) + 4;
            bytes[16..18].copy_from_slice(&total.to_be_bytes());
            bytes.splice(34..34, [1, 1, 1, 0]);
            fix_ipv4_checksum(&mut bytes);
        }
        for (at, with) in edits {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
        }
        if fixed && bytes[12..14] == [8, 0] && bytes.len() > 40 && matches!(bytes[14], 0x45 | 0x46) {
            fix_ipv4_checksum(&mut bytes);
        }
        bytes.resize(bytes.len() + grown, 0x33);
        bytes.truncate(bytes.len() - cut.min(bytes.len() / 2) * usize::from(cut % 3 == 0));
        let (config, tunnels) = (config(CONFIG), tunnels());
        prop_assert_eq!(quick(&tunnels, &bytes), slow(&config, &tunnels, &bytes), "{:02x?}", bytes);
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let tunnels = tunnels();
        let mut frame = bytes.clone();
        for head in [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45][..], &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60]] {
            let len = head.len().min(frame.len());
            frame[..len].copy_from_slice(&head[..len]);
            let _ = quick(&tunnels, &frame);
        }
        prop_assert!(entropy::of_frame(&bytes) >= 49_152);
    }
}

#[test]
fn reserved_bits_are_ignored() {
    let label = Label { vni: 800, udp_port: 10800, source_port: 50_000, service: 0 };
    let mut bytes = frame(("10.2.0.1", "10.2.0.200"), false, label, &[1; 60]).bytes().to_vec();
    bytes[42..46].copy_from_slice(&[0xff; 4]);
    bytes[49] = 0xff;
    let found = quick(&tunnels(), &bytes);
    assert!(matches!(found, Ok(Some(Arrival { start: 50, end: 110, .. }))), "{found:?}");
    bytes[42] = 0xf7;
    assert_eq!(quick(&tunnels(), &bytes), Err(DropReason::Malformed));
}

#[test]
fn plain_headers_of_peers_are_known_at_once() {
    let tunnels = tunnels();
    let at_once = |ends, vni, udp_port, service| {
        let label = Label { vni, udp_port, source_port: 50_000, service };
        plain(&tunnels, frame(ends, false, label, &[1; 60]).bytes()).map(|arrival| arrival.service)
    };
    let [first, second] = ["10.2.0.200", "10.2.0.201"].map(|peer| ("10.2.0.1", peer));
    assert_eq!(at_once(first, 800, 10_800, 0xb8), Some(0xb8));
    assert_eq!(at_once(first, 801, 10_801, 0xba), Some(0xba));
    assert_eq!(at_once(second, 800, 10_800, 0), Some(0));
    assert_eq!(at_once(second, 901, 10_901, 0), Some(0));
    // Marked on the way, by a peer of other networks, to the port of another, of a network that is not there, to nobody, over IPv6.
    assert_eq!(at_once(first, 800, 10_800, 0xbb), None);
    assert_eq!(at_once(first, 901, 10_901, 0), None);
    assert_eq!(at_once(first, 800, 10_801, 0), None);
    assert_eq!(at_once(first, 802, 10_800, 0), None);
    assert_eq!(at_once(("10.2.0.2", "10.2.0.200"), 800, 10_800, 0), None);
    assert_eq!(at_once(("fd00:2::1", "fd00:2::c8"), 800, 10_800, 0), None);
    assert_eq!(at_once(("0.0.0.0", "0.0.0.0"), 800, 10_800, 0), None);
}

#[test]
fn frames_of_our_own_ports_are_told_by_the_whole_address() {
    let tunnels = tunnels();
    let mut inner = [0; 60];
    inner[6..12].copy_from_slice(&STATION.0);
    assert!(tunnels.is_ours(&inner) && tunnels.is_ours(&inner[..12]) && !tunnels.is_ours(&inner[..11]));
    for bit in 0..48 {
        let mut other = inner;
        other[6 + bit / 8] ^= 1 << (bit % 8);
        assert!(!tunnels.is_ours(&other), "bit {bit}");
    }
}

#[test]
fn twins_are_of_two_sides_and_one_peer() {
    let tunnels = tunnels();
    let mut seen = 0;
    for number in 0..tunnels.count() as u16 {
        let id = PortId::tunnel(number);
        let tunnel = tunnels.open(id).expect("all are open");
        let twin = tunnels.open(tunnel.twin).expect("each has one");
        assert_eq!(twin.twin, id);
        assert_ne!(twin.trust, tunnel.trust);
        assert_eq!(tunnels.path(twin), tunnels.path(tunnel), "to the same peer");
        assert_eq!(tunnels.carrier(id), PORT);
        seen += 1;
    }
    assert_eq!(seen, 2 * 2 + 2 + 2 + 2);
    let mtu = |name| tunnels.facts(tunnels.named(name).expect("it is there")).mtu;
    assert_eq!((mtu("in"), mtu("in2"), mtu("in6")), (1450, 1350, 1430));
    assert_eq!(tunnels.named("nothing"), None);
}

#[test]
fn a_number_keeps_its_side_over_configurations() {
    let mut names = Names::default();
    let first = compile(CONFIG, &mut names).tunnels.clone();
    let (inside, outside) = (first.named("in").unwrap(), first.named("out").unwrap());
    // The names of both sides are exchanged, and one gateway is gone.
    let text = CONFIG
        .replace("name: in, trust: trusted", "name: in, trust: TRUSTED")
        .replace("name: out, trust: untrusted", "name: out, trust: trusted")
        .replace("TRUSTED", "untrusted");
    let second = compile(&text, &mut names).tunnels.clone();
    for (id, trust) in [(inside, Trust::Trusted), (outside, Trust::Untrusted)] {
        assert_eq!(second.known(id).map(|tunnel| (tunnel.trust, tunnel.is_open)), Some((trust, false)));
        assert_eq!(second.facts(id).mtu, 0);
        assert_eq!(first.open(id).map(|tunnel| tunnel.trust), Some(trust));
    }
    let now = second.named("in").unwrap();
    assert_ne!(now, inside);
    // A flow of the closed tunnel may go on by one of its side only.
    assert!(!second.continues(inside, now) && second.continues(outside, now));
    assert!(!second.continues(now, outside), "nothing comes in by a closed tunnel");
    let third = compile(CONFIG, &mut names).tunnels.clone();
    assert_eq!((third.named("in"), third.named("out")), (Some(inside), Some(outside)));
    assert!(!third.continues(inside, outside));
    // The other peer of the same tunnel.
    let other = third.open(PortId::tunnel(1)).expect("the second peer's");
    assert_eq!((other.vni, third.continues(inside, PortId::tunnel(1))), (800, true));
    // Another gateway.
    assert!(!third.continues(inside, third.named("in2").unwrap()));
    let mac: Mac = third.facts(inside).mac;
    assert_eq!(mac, STATION);
}
