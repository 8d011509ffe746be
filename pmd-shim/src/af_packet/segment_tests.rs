use super::*;
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

const PORTS: (u16, u16) = (4000, 80);

/// A TCP frame that is too long, with all checksums as a stack leaves them (wrong).
fn tcp(ipv6: bool, vlans: usize, payload: &[u8], flags: (bool, bool, bool), sequence: u32) -> Vec<u8> {
    let (fin, psh, cwr) = flags;
    let frame = build(ipv6, vlans, |builder| {
        let mut builder = builder.tcp(PORTS.0, PORTS.1, sequence, 1000).ack(77);
        if fin {
            builder = builder.fin();
        }
        if psh {
            builder = builder.psh();
        }
        if cwr {
            builder = builder.cwr();
        }
        let builder = builder.options(&[etherparse::TcpOptionElement::Timestamp(1, 2)]).unwrap();
        let mut frame = Vec::new();
        builder.write(&mut frame, &payload[..payload.len().min(100)]).unwrap();
        frame
    });
    whole(frame, payload)
}

fn udp(ipv6: bool, vlans: usize, payload: &[u8]) -> Vec<u8> {
    let frame = build(ipv6, vlans, |builder| {
        let mut frame = Vec::new();
        builder.udp(PORTS.0, PORTS.1).write(&mut frame, &payload[..payload.len().min(100)]).unwrap();
        frame
    });
    whole(frame, payload)
}

fn build(
    ipv6: bool,
    vlans: usize,
    finish: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8>,
) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let vid = |id: u16| id.try_into().unwrap();
    match (vlans, ipv6) {
        (0, false) => finish(ethernet.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)),
        (0, true) => finish(ethernet.ipv6([1; 16], [2; 16], 64)),
        (1, false) => finish(ethernet.single_vlan(vid(5)).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)),
        (1, true) => finish(ethernet.single_vlan(vid(5)).ipv6([1; 16], [2; 16], 64)),
        (_, false) => finish(ethernet.double_vlan(vid(5), vid(6)).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)),
        (_, true) => finish(ethernet.double_vlan(vid(5), vid(6)).ipv6([1; 16], [2; 16], 64)),
    }
}

/// The frame with the rest of its payload, which its lengths know nothing of.
fn whole(mut frame: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    frame.extend_from_slice(&payload[payload.len().min(100)..]);
    frame
}

fn segments(frame: &[u8], gso: Gso, size: usize, transport: Option<usize>) -> Option<Vec<Vec<u8>>> {
    let cut = Segmentation::new(frame, gso, size, transport)?;
    (0..cut.count())
        .map(|index| {
            let mut out = vec![0xee; cut.len(index)];
            cut.write(frame, index, &mut out).then_some(out)
        })
        .collect()
}

/// Checks what every segment must be, and returns its payload.
fn payload_of(segment: &[u8], index: usize, first_id: u16) -> Vec<u8> {
    let packet = SlicedPacket::from_ethernet(segment).unwrap();
    let network_len = segment.len() - 14 - 4 * packet.link_exts.len();
    match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            assert_eq!(usize::from(header.total_len()), network_len);
            assert_eq!(header.identification(), first_id.wrapping_add(index as u16));
        }
        NetSlice::Ipv6(ip) => assert_eq!(usize::from(ip.header().payload_length()), network_len - 40),
        NetSlice::Arp(_) => panic!("not an IP packet"),
    }
    match packet.transport.as_ref().unwrap() {
        TransportSlice::Tcp(tcp) => {
            let want = match packet.net.as_ref().unwrap() {
                NetSlice::Ipv4(ip) => tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()),
                NetSlice::Ipv6(ip) => tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()),
                NetSlice::Arp(_) => panic!("not an IP packet"),
            };
            assert_eq!(
                tcp.checksum(),
                match want.unwrap() {
                    0 => 0xffff,
                    sum => sum,
                }
            );
            tcp.payload().to_vec()
        }
        TransportSlice::Udp(udp) => {
            assert_eq!(usize::from(udp.length()), udp.payload().len() + 8);
            let header = udp.to_header();
            let want = match packet.net.as_ref().unwrap() {
                NetSlice::Ipv4(ip) => header.calc_checksum_ipv4_raw(
                    ip.header().source(),
                    ip.header().destination(),
                    udp.payload(),
                ),
                NetSlice::Ipv6(ip) => header.calc_checksum_ipv6_raw(
                    ip.header().source(),
                    ip.header().destination(),
                    udp.payload(),
                ),
                NetSlice::Arp(_) => panic!("not an IP packet"),
            };
            assert_eq!(udp.checksum(), want.unwrap());
            udp.payload().to_vec()
        }
        other => panic!("unexpected transport {other:?}"),
    }
}

proptest! {
    #[test]
    fn tcp_segments_are_what_a_wire_would_carry(
        ipv6 in any::<bool>(),
        vlans in 0usize..3,
        payload in prop::collection::vec(any::<u8>(), 0..20_000),
        size in 1usize..3000,
        flags in any::<(bool, bool, bool)>(),
        sequence in any::<u32>(),
        id in any::<u16>(),
        says_where in any::<bool>(),
    ) {
        let size = size.max(payload.len() / 200 + 1);
        let mut frame = tcp(ipv6, vlans, &payload, flags, sequence);
        let ip = 14 + 4 * vlans;
        let transport = ip + if ipv6 { 40 } else { 20 };
        if !ipv6 {
            frame[ip + 4..ip + 6].copy_from_slice(&id.to_be_bytes());
        }
        let segments = segments(&frame, Gso::Tcp, size, says_where.then_some(transport)).unwrap();
        let mut joined = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let last = index + 1 == segments.len();
            let header = SlicedPacket::from_ethernet(segment).unwrap();
            let Some(TransportSlice::Tcp(header)) = header.transport else { panic!("not TCP") };
            prop_assert_eq!(header.sequence_number(), sequence.wrapping_add(joined.len() as u32));
            prop_assert_eq!((header.fin(), header.psh()), (flags.0 && last, flags.1 && last));
            prop_assert_eq!(header.cwr(), flags.2 && index == 0);
            prop_assert!(header.ack() && header.acknowledgment_number() == 77);
            prop_assert_eq!(header.options().len(), 12);
            let part = payload_of(segment, index, id);
            prop_assert!(part.len() == size || last && part.len() <= size);
            joined.extend(part);
        }
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn udp_segments_are_datagrams_of_their_own(
        ipv6 in any::<bool>(),
        vlans in 0usize..3,
        payload in prop::collection::vec(any::<u8>(), 1..20_000),
        size in 1usize..3000,
    ) {
        let size = size.max(payload.len() / 200 + 1);
        let frame = udp(ipv6, vlans, &payload);
        let segments = segments(&frame, Gso::Udp, size, None).unwrap();
        let mut joined = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            joined.extend(payload_of(segment, index, 0));
        }
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn no_bytes_make_it_panic(
        start in 0usize..3,
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        size in 0usize..300,
        transport in prop::option::of(0usize..200),
        is_tcp in any::<bool>(),
    ) {
        let mut frame = match start {
            0 => Vec::new(),
            1 => tcp(false, 0, &[], (false, false, false), 0)[..30].to_vec(),
            _ => tcp(true, 1, &[], (false, false, false), 0)[..50].to_vec(),
        };
        frame.extend(bytes);
        let _ = segments(&frame, if is_tcp { Gso::Tcp } else { Gso::Udp }, size, transport);
    }
}

#[test]
fn refuses_what_it_would_corrupt() {
    let frame = tcp(false, 0, &[0; 3000], (false, false, false), 0);
    assert!(Segmentation::new(&frame, Gso::Tcp, 1000, None).is_some());
    assert!(Segmentation::new(&frame, Gso::Tcp, 0, None).is_none(), "segments without payload");
    assert!(Segmentation::new(&frame, Gso::Udp, 1000, None).is_none(), "TCP that is said to be UDP");
    assert!(Segmentation::new(&frame, Gso::Tcp, 1000, Some(84)).is_none(), "an inner transport");
    assert!(Segmentation::new(&frame, Gso::Unknown, 1000, None).is_none());
    let mut arp = frame.clone();
    arp[12..14].copy_from_slice(&[8, 6]);
    assert!(Segmentation::new(&arp, Gso::Tcp, 1000, None).is_none());
    let cut = Segmentation::new(&frame, Gso::Tcp, 1000, None).unwrap();
    assert!(!cut.write(&frame, 0, &mut vec![0; cut.len(0) - 1]), "a buffer of the wrong size");
    let long = tcp(false, 0, &[0; 70_000], (false, false, false), 0);
    let cut = Segmentation::new(&long, Gso::Tcp, 69_000, None).unwrap();
    assert!(!cut.write(&long, 0, &mut vec![0; cut.len(0)]), "a length that does not fit its field");
}
