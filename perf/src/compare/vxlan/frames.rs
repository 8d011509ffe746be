//! What a gateway load balancer sends: datagrams of many flows in a tunnel, and what comes of them in the other one.

use crate::compare::road::{Exit, Freight};
use crate::compare::traffic::{self, FRAME_LEN, HOST, HOST_MAC, Kind};
use crate::traffic::{ROUTER, STATION};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

/// A tunnel, from the contender's side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnel {
    /// Its network.
    pub(super) vni: u32,
    /// Its UDP port.
    pub(super) udp_port: u16,
    /// The contender's address.
    pub(super) own: [u8; 4],
}

/// By which the packets come in.
pub(super) const EXTERNAL: Tunnel = Tunnel { vni: 801, udp_port: 10_801, own: [203, 0, 113, 1] };
/// By which they leave.
pub(super) const INTERNAL: Tunnel = Tunnel { vni: 800, udp_port: 10_800, own: [10, 2, 0, 1] };
/// The other end of both.
pub(super) const PEER: [u8; 4] = [192, 0, 2, 200];

/// The contender's port towards the host.
const INSIDE: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Ethernet addresses of the inner frames: of the client's side, and of the host's.
const INNER: [[u8; 6]; 2] = [[6, 0, 0, 0, 0, 0xa], [6, 0, 0, 0, 0, 0xb]];
/// Outer headers: Ethernet, IPv4, UDP, VXLAN (RFC 7348, section 5).
const OUTER_LEN: usize = 14 + 20 + 8 + 8;
const UDP_CHECKSUM: std::ops::Range<usize> = 40..42;
/// Outer source ports begin here.
const PORT_BASE: u16 = 50_000;
const TTL: u8 = 64;

/// Datagrams to the host in the external tunnel, and the host's answers in the internal one.
pub(super) fn freight() -> Freight {
    let inner: Vec<Vec<u8>> = traffic::packets().iter().map(|packet| inner(packet)).collect();
    let outward = (ROUTER, STATION);
    let back = (HOST_MAC, INSIDE);
    let number = |(index, frame): (usize, &Vec<u8>)| (PORT_BASE + index as u16 % 8192, frame.clone());
    let packets = inner.iter().enumerate().map(number);
    let packets = packets.map(|(port, frame)| wrap(outward, EXTERNAL, port, &frame)).collect();
    let replies = inner.iter().enumerate().map(number);
    let replies = replies.map(|(port, frame)| wrap(back, INTERNAL, port, &turned(&frame))).collect();
    Freight { packets, frame_len: OUTER_LEN + FRAME_LEN, stamp_at: None, exit: Exit::Far, replies, check }
}

/// A datagram of the road's as an inner frame: whole, between stations behind the balancer.
fn inner(packet: &[u8]) -> Vec<u8> {
    let mut frame = [&INNER[1][..], &INNER[0], &packet[12..]].concat();
    frame.resize(FRAME_LEN, 0);
    frame
}

/// The answer to it: both ends exchanged.
fn turned(frame: &[u8]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    for (one, other, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        answer[one..one + len].copy_from_slice(&frame[other..other + len]);
        answer[other..other + len].copy_from_slice(&frame[one..one + len]);
    }
    answer
}

/// A frame in a tunnel, from the peer, without a UDP checksum.
fn wrap(stations: ([u8; 6], [u8; 6]), tunnel: Tunnel, port: u16, inner: &[u8]) -> Vec<u8> {
    let vni = (tunnel.vni << 8).to_be_bytes();
    let payload = [&[8, 0, 0, 0], &vni[..], inner].concat();
    let builder = PacketBuilder::ethernet2(stations.0, stations.1).ipv4(PEER, tunnel.own, TTL);
    let builder = builder.udp(port, tunnel.udp_port);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // Writing to a vector cannot fail, and the payload is short.
    if let Err(error) = builder.write(&mut frame, &payload) {
        unreachable!("a vector takes every frame: {error}");
    }
    frame[UDP_CHECKSUM].fill(0);
    frame
}

/// Whether a frame is one of the datagrams, unchanged, in the internal tunnel to the peer.
fn check(frame: &[u8], _: Kind) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("a frame that it forwards has {what}: {frame:02x?}"));
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return wrong("no headers") };
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (&packet.net, &packet.transport) else {
        return wrong("no UDP in IPv4");
    };
    let header = ip.header();
    if header.to_header().calc_header_checksum() != header.header_checksum() {
        return wrong("a wrong header checksum");
    }
    if !frame.starts_with(&HOST_MAC) || header.source() != INTERNAL.own || header.destination() != PEER {
        return wrong("other ends");
    }
    let vni = (INTERNAL.vni << 8).to_be_bytes();
    if udp.destination_port() != INTERNAL.udp_port
        || !udp.payload().starts_with(&[8, 0, 0, 0, vni[0], vni[1], vni[2]])
    {
        return wrong("another tunnel");
    }
    let Some(inner) = udp.payload().get(8..) else { return wrong("nothing inside") };
    match SlicedPacket::from_ethernet(inner).map(|inner| inner.net) {
        Ok(Some(NetSlice::Ipv4(ip)))
            if ip.header().destination() == HOST
                && ip.header().ttl() == TTL
                && ip.header().to_header().calc_header_checksum() == ip.header().header_checksum()
                && inner.starts_with(&[INNER[1], INNER[0]].concat())
                && inner.len() == FRAME_LEN =>
        {
            Ok(())
        }
        _ => wrong("another packet inside"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn datagrams_are_in_the_external_tunnel_and_answers_in_the_internal_one() {
        let freight = freight();
        assert_eq!(freight.packets.len(), traffic::FLOWS);
        assert_eq!(freight.packets.iter().collect::<HashSet<_>>().len(), traffic::FLOWS);
        assert!(freight.packets.iter().all(|packet| packet.len() == freight.frame_len));
        for (packet, reply) in freight.packets.iter().zip(&freight.replies) {
            let inner = |frame: &[u8]| frame[OUTER_LEN..].to_vec();
            assert_eq!(inner(packet), turned(&inner(reply)));
            assert_eq!(
                (&packet[36..38], &reply[36..38]),
                (&10_801_u16.to_be_bytes()[..], &10_800_u16.to_be_bytes()[..])
            );
        }
    }

    #[test]
    fn only_the_same_packet_in_the_other_tunnel_passes() {
        let packet = &freight().packets[0];
        assert!(check(packet, Kind::Routes).is_err());
        let inner = &packet[OUTER_LEN..];
        let leaves = |tunnel: Tunnel, inner: &[u8]| {
            let mut frame = wrap((INSIDE, HOST_MAC), tunnel, 50_000, inner);
            frame[26..30].copy_from_slice(&tunnel.own);
            frame[30..34].copy_from_slice(&PEER);
            // Both addresses have changed places, which the sum does not see.
            frame
        };
        assert_eq!(check(&leaves(INTERNAL, inner), Kind::Routes), Ok(()));
        assert!(check(&leaves(EXTERNAL, inner), Kind::Routes).is_err());
        let mut routed = inner.to_vec();
        routed[22] -= 1;
        assert!(check(&leaves(INTERNAL, &routed), Kind::Routes).is_err());
    }
}
