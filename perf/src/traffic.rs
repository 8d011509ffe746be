//! The packets that are measured: flows with addresses and ports of their own, frames of a given size.

use etherparse::PacketBuilder;

/// The Ethernet address of both of the appliance's ports.
pub(crate) const STATION: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
/// The router on the untrusted side.
pub(crate) const ROUTER: [u8; 6] = [0x02, 0, 0, 0, 0x71, 0xfe];
/// The virtual address.
pub(crate) const FRONTEND: [u8; 4] = [203, 0, 113, 10];
/// The port that listens on it.
pub(crate) const SERVICE: u16 = 443;
/// The initial sequence numbers of client and server.
const CLIENT_ISN: u32 = 1_000_000;
const SERVER_ISN: u32 = 2_000_000;

/// Flows that have the same client.
pub(crate) const FLOWS_A_CLIENT: usize = 60_000;

/// A client's end of flow `index`.
pub(crate) fn client(index: usize) -> ([u8; 4], u16) {
    let host = (index / FLOWS_A_CLIENT) as u32 + 1;
    let [_, b, c, d] = host.to_be_bytes();
    ([198, 51 + b, 100 + c, d], (index % FLOWS_A_CLIENT) as u16 + 1_024)
}

/// What a TCP segment does in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Opens.
    Syn,
    /// Answers the opening.
    SynAck,
    /// Carries data, or acknowledges.
    Data,
}

/// A TCP frame of `size` bytes (without the frame check sequence) from the client of flow `index` to the virtual address.
pub(crate) fn from_client(index: usize, segment: Segment, size: usize) -> Vec<u8> {
    if segment != Segment::Syn {
        return acknowledging(index, SERVER_ISN + 1, if segment == Segment::Data { size } else { 0 });
    }
    let (address, port) = client(index);
    let builder = PacketBuilder::ethernet2(ROUTER, STATION).ipv4(address, FRONTEND, 64);
    finish(builder.tcp(port, SERVICE, CLIENT_ISN, 64_000).syn(), 0)
}

/// Data of the same client, who acknowledges up to this number.
pub(crate) fn acknowledging(index: usize, ack: u32, size: usize) -> Vec<u8> {
    let (address, port) = client(index);
    let builder = PacketBuilder::ethernet2(ROUTER, STATION).ipv4(address, FRONTEND, 64);
    finish(builder.tcp(port, SERVICE, CLIENT_ISN + 1, 64_000).ack(ack), size)
}

/// The same from a backend (address and port as the appliance translated to) back to the client.
pub(crate) fn from_backend(
    index: usize,
    backend: ([u8; 4], u16),
    mac: [u8; 6],
    segment: Segment,
    size: usize,
) -> Vec<u8> {
    let (address, port) = client(index);
    let builder = PacketBuilder::ethernet2(mac, STATION).ipv4(backend.0, address, 64);
    let builder = match segment {
        Segment::SynAck => builder.tcp(backend.1, port, SERVER_ISN, 64_000).syn().ack(CLIENT_ISN + 1),
        _ => builder.tcp(backend.1, port, SERVER_ISN + 1, 64_000).ack(CLIENT_ISN + 1),
    };
    finish(builder, if segment == Segment::Data { size } else { 0 })
}

/// A UDP frame of `size` bytes (without the frame check sequence) of flow `index`, between its client and one of 16 hosts on the
/// inside: to the host, or back.
pub(crate) fn datagram(index: usize, inward: bool, size: usize) -> Vec<u8> {
    datagram_of(index, 4_500, inward, size)
}

/// The first datagram of a flow to a service that no rule allows.
pub(crate) fn unwanted(index: usize, size: usize) -> Vec<u8> {
    datagram_of(index, 4_501, true, size)
}

fn datagram_of(index: usize, service: u16, inward: bool, size: usize) -> Vec<u8> {
    /// Blocked from outside: that flow has a port that no other has.
    const MEMCACHED: u16 = 11_211;
    let (client, port) = client(index);
    let port = if port == MEMCACHED { 62_000 } else { port };
    let host = [10, 2, 0, 4 + (index % 16) as u8];
    let builder = if inward {
        PacketBuilder::ethernet2(ROUTER, STATION).ipv4(client, host, 64).udp(port, service)
    } else {
        let mac = [2, 0, 0, 0, 2, host[3]];
        PacketBuilder::ethernet2(mac, STATION).ipv4(host, client, 64).udp(service, port)
    };
    let payload = vec![0x5a; size.saturating_sub(42)];
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // As in `finish`.
    if let Err(error) = builder.write(&mut frame, &payload) {
        unreachable!("a vector takes every frame: {error}");
    }
    frame
}

/// Gateways of the scenarios with tunnels: 4096 networks.
pub(crate) const GATEWAYS: usize = 2048;

/// The network by which the datagrams of flow `index` come in, to the host or back.
pub(crate) fn vni(index: usize, inward: bool) -> u32 {
    2 * (index % GATEWAYS) as u32 + 1 + u32::from(inward)
}

/// [`datagram`] in a tunnel of flow `index`'s gateway, as the peer sends it; `size` is the inner frame's.
pub(crate) fn tunnelled(index: usize, inward: bool, size: usize) -> Vec<u8> {
    const PEER: [u8; 6] = [2, 0, 0, 0, 2, 200];
    const CHECKSUM: core::ops::Range<usize> = 40..42;
    let [_, a, b, c] = vni(index, inward).to_be_bytes();
    let payload = [&[8, 0, 0, 0, a, b, c, 0], &datagram(index, inward, size)[..]].concat();
    let builder = PacketBuilder::ethernet2(PEER, STATION)
        .ipv4([10, 2, 0, 200], [10, 2, 0, 1], 64)
        .udp(50_000, if inward { 10_801 } else { 10_800 });
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // As in `finish`.
    if let Err(error) = builder.write(&mut frame, &payload) {
        unreachable!("a vector takes every frame: {error}");
    }
    if let Some(checksum) = frame.get_mut(CHECKSUM) {
        checksum.fill(0);
    }
    frame
}

/// A forged source: any address outside of those that nobody can have, and any port.
fn forged(random: &mut Random) -> ([u8; 4], u16) {
    let [a, b, c, d, e, f, ..] = random.next().to_le_bytes();
    ([16 + a % 100, b, c, 1 + d % 250], u16::from_le_bytes([e, f]) | 1)
}

/// A SYN from a forged source, with the options of Linux: 74 bytes.
pub(crate) fn forged_syn(random: &mut Random) -> Vec<u8> {
    let (address, port) = forged(random);
    let options = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
    let builder = PacketBuilder::ethernet2(ROUTER, STATION).ipv4(address, FRONTEND, 64);
    let builder = builder.tcp(port, SERVICE, random.next() as u32, 64_240).syn();
    match builder.options_raw(&options) {
        Ok(builder) => finish(builder, 0),
        Err(error) => unreachable!("twenty bytes of options fit: {error:?}"),
    }
}

/// An acknowledgement from a forged source: 60 bytes.
pub(crate) fn forged_ack(random: &mut Random) -> Vec<u8> {
    let (address, port) = forged(random);
    let builder = PacketBuilder::ethernet2(ROUTER, STATION).ipv4(address, FRONTEND, 64);
    let mut frame =
        finish(builder.tcp(port, SERVICE, random.next() as u32, 64_240).ack(random.next() as u32), 0);
    frame.resize(60, 0);
    frame
}

fn finish(builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>, size: usize) -> Vec<u8> {
    let payload = vec![0x5a; size.saturating_sub(54)];
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // Writing to a vector cannot fail, and the payload is far below the limit of an IP packet.
    if let Err(error) = builder.write(&mut frame, &payload) {
        unreachable!("a vector takes every frame: {error}");
    }
    frame
}

/// A small generator of pseudo-random numbers (SplitMix64), so that a seed gives the same packets everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Puts a list in random order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}
