//! Packets in tunnels: the outer headers around an inner frame, as a gateway load balancer writes them and as the appliance does.

use crate::packet::{Packet, udp};
use crate::ports::Mac;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// The stations between which inner frames go: whoever stands behind the peer.
pub const INNER: (Mac, Mac) = ([0x06, 0, 0, 0, 0, 0x0b], [0x06, 0, 0, 0, 0, 0x0a]);

/// One tunnel, from one end's view.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// The appliance's address.
    pub own: &'static str,
    /// The gateway load balancer's.
    pub peer: &'static str,
    /// The network.
    pub vni: u32,
    /// The UDP port.
    pub udp_port: u16,
}

impl Tunnel {
    /// From the peer, as it arrives.
    pub fn arrives(&self, inner: &[u8]) -> Packet {
        let data = self.payload(inner);
        sum_over_v6(udp(&end(self.peer, 50_000), &end(self.own, self.udp_port)), self.own).data(&data)
    }

    /// To the peer, as the appliance sends it.
    pub fn leaves(&self, inner: &[u8]) -> Packet {
        let port = source_port(inner);
        let packet = sum_over_v6(udp(&end(self.own, port), &end(self.peer, self.udp_port)), self.own)
            .data(&self.payload(inner))
            .id(0)
            .traffic_class(service(inner));
        if self.own.contains(':') { packet.header(move |ip| label(ip, port)) } else { packet }
    }

    /// To another network.
    pub fn vni(self, vni: u32) -> Self {
        Self { vni, ..self }
    }

    /// To another UDP port.
    pub fn udp_port(self, udp_port: u16) -> Self {
        Self { udp_port, ..self }
    }

    /// With another peer.
    pub fn peer(self, peer: &'static str) -> Self {
        Self { peer, ..self }
    }

    fn payload(&self, inner: &[u8]) -> Vec<u8> {
        let vni = (self.vni << 8).to_be_bytes();
        [&[8, 0, 0, 0], &vni[..], inner].concat()
    }
}

/// A packet as an inner frame, the way that most go.
pub fn inner(packet: &Packet) -> Vec<u8> {
    packet.frame(INNER.0, INNER.1)
}

/// The other way.
pub fn back(packet: &Packet) -> Vec<u8> {
    packet.frame(INNER.1, INNER.0)
}

/// Without a checksum where tunnels over IPv4 have none.
fn sum_over_v6(packet: Packet, own: &str) -> Packet {
    if own.contains(':') { packet } else { packet.without_checksum() }
}

fn end(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The flow label is the source port.
fn label(ip: &mut [u8], port: u16) {
    ip[2..4].copy_from_slice(&port.to_be_bytes());
}

/// The service field of an inner packet; of what is no IP packet, none.
fn service(inner: &[u8]) -> u8 {
    if inner[12..14] == [8, 6] {
        return 0;
    }
    let first = u16::from_be_bytes([inner[14], inner[15]]);
    if inner[12..14] == [0x86, 0xdd] { (first >> 4) as u8 } else { first as u8 }
}

/// The outer source port for an inner frame: addresses as little-endian words and ports as they stand, added up so that both directions
/// are alike, spread by a multiplication over the range without the cloud's own port.
///
/// # Panics
/// When the frame is neither an IP packet nor address resolution, of which the two stations count.
pub fn source_port(inner: &[u8]) -> u16 {
    if inner[12..14] == [8, 6] {
        let station =
            |at: usize| inner[at..at + 6].iter().fold(0u64, |word, octet| word << 8 | u64::from(*octet));
        return spread(station(0) + station(6), 0, 0);
    }
    let packet = SlicedPacket::from_ethernet(inner).expect("an inner frame");
    let half = |octets: &[u8]| octets.iter().rev().fold(0u64, |word, octet| word << 8 | u64::from(*octet));
    let (addresses, protocol, is_fragment) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let sum = half(&header.source()) + half(&header.destination());
            let twice = sum.wrapping_mul(0x1_0000_0001);
            (twice, header.protocol().0, header.more_fragments() || header.fragments_offset().value() > 0)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let (src, dst) = (ip.header().source(), ip.header().destination());
            let low = half(&src[..8]).wrapping_add(half(&dst[..8]));
            let high = half(&src[8..]).wrapping_add(half(&dst[8..]));
            (low ^ high.rotate_left(23), ip.header().next_header().0, false)
        }
        other => panic!("no IP packet: {other:?}"),
    };
    let ports = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) if !is_fragment => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) if !is_fragment => (udp.source_port(), udp.destination_port()),
        _ => (0, 0),
    };
    let has_ports = matches!(protocol, 6 | 17);
    let ports = if has_ports { u64::from(ports.0.swap_bytes()) + u64::from(ports.1.swap_bytes()) } else { 0 };
    spread(addresses, ports, protocol)
}

fn spread(addresses: u64, ports: u64, protocol: u8) -> u16 {
    let ports = ports * 0x1_0001 % (1 << 32);
    let (one, other) =
        (addresses ^ 0xbf58_476d_1ce4_e5b9, (ports | u64::from(protocol) << 32) ^ 0x94d0_49bb_1331_11eb);
    let product = u128::from(one) * u128::from(other);
    let upper = ((product ^ (product >> 64)) % (1 << 64)) >> 50;
    let port = 49_152 + upper as u16;
    if port == 65_330 { port + 1 } else { port }
}
