//! The outer source port: what tells the flows in a tunnel apart for who spreads them by outer addresses and ports (RFC 7348, 5).
//!
//! The same for both directions of a flow, and for all fragments of a datagram, which have no ports. It depends on nothing but the
//! packet: whoever spreads by it need not know who sent it.

use crate::wire::plain::KeyV4;
use crate::wire::{ETHERNET_HEADER_LEN, chunk, ethertype, protocol};

/// The first of the ports: what IANA leaves to everybody (RFC 6335, 6). All ports with its bits are.
const FIRST: u16 = 49_152;
/// Kept by the cloud for itself.
const KEPT: u16 = 65_330;

/// The port for a packet over IPv4 between these ends.
#[inline(always)]
pub fn of_v4(key: &KeyV4) -> u16 {
    port(key.addresses.wrapping_add(key.addresses.rotate_left(32)), key.ports, key.protocol)
}

/// The port for a packet over IPv6 between these ends: source and destination address as two words each, ports as they stand in the packet.
#[inline(always)]
pub fn of_v6(addresses: [u64; 4], ports: u32, protocol: u8) -> u16 {
    let [a, b, c, d] = addresses;
    let sum = a.wrapping_add(c) ^ b.wrapping_add(d).rotate_left(23);
    port(sum, ports, protocol)
}

/// The port for an inner Ethernet frame, whatever is in it. What cannot be read counts as zero.
pub fn of_frame(inner: &[u8]) -> u16 {
    let kind = chunk(inner, ETHERNET_HEADER_LEN - 2).copied().map(u16::from_be_bytes);
    let packet = inner.get(ETHERNET_HEADER_LEN..).unwrap_or_default();
    let found = match kind {
        Some(ethertype::IPV4) => packet_v4(packet),
        Some(ethertype::IPV6) => packet_v6(packet),
        _ => None,
    };
    found.unwrap_or_else(|| port(stations(inner), 0, 0))
}

fn packet_v4(packet: &[u8]) -> Option<u16> {
    let header: &[u8; 20] = chunk(packet, 0)?;
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let l4 = usize::from(header[0] & 0x0f) * 4;
    let ports = if is_fragment { 0 } else { ports(packet, l4, header[9]) };
    let addresses = u64::from_le_bytes(*chunk(packet, 12)?);
    Some(of_v4(&KeyV4 { addresses, ports, protocol: header[9] }))
}

fn packet_v6(packet: &[u8]) -> Option<u16> {
    let next = *packet.get(6)?;
    let mut addresses = [0; 4];
    for (word, at) in addresses.iter_mut().zip([8, 16, 24, 32]) {
        *word = u64::from_le_bytes(*chunk(packet, at)?);
    }
    // Behind extension headers nothing is read. An atomic fragment and its like are all told apart by their addresses.
    Some(of_v6(addresses, ports(packet, 40, next), next))
}

fn ports(packet: &[u8], l4: usize, number: u8) -> u32 {
    match number {
        protocol::TCP | protocol::UDP => chunk(packet, l4).map_or(0, |ports| u32::from_le_bytes(*ports)),
        _ => 0,
    }
}

/// Both Ethernet addresses, in either order.
fn stations(inner: &[u8]) -> u64 {
    let at = |at| {
        chunk::<6>(inner, at).map_or(0, |&[a, b, c, d, e, f]| u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    };
    at(0) + at(6)
}

/// `addresses` is the same in either order of the ends; `ports` are as they stand in the packet.
#[inline(always)]
fn port(addresses: u64, ports: u32, protocol: u8) -> u16 {
    // Two words, each blurred by a constant (those of SplitMix64), multiplied: in the product's halves, laid over each other, every bit of
    // the upper fourteen depends on all.
    let rest = u64::from(ports.wrapping_add(ports.rotate_left(16))) | u64::from(protocol) << 32;
    let product = u128::from(addresses ^ 0xbf58_476d_1ce4_e5b9) * u128::from(rest ^ 0x94d0_49bb_1331_11eb);
    let mixed = product as u64 ^ (product >> 64) as u64;
    let port = FIRST | (mixed >> 50) as u16;
    port ^ u16::from(port == KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::FrameBuilder;
    use proptest::prelude::*;

    fn frame_of(v6: bool, udp: bool, ends: [u8; 2], ports: [u16; 2]) -> Vec<u8> {
        let ip = |last: u8| if v6 { format!("2001:db8::{last:x}") } else { format!("198.51.100.{last}") };
        let builder = FrameBuilder::new(&ip(ends[0]), &ip(ends[1]));
        match udp {
            true => builder.udp(ports[0], ports[1]).payload(b"data").build(),
            false => builder.tcp(ports[0], ports[1]).payload(b"data").build(),
        }
    }

    proptest! {
        #[test]
        fn both_directions_have_one_port_in_the_range(v6: bool, udp: bool, ends: [u8; 2], ports in [1u16.., 1u16..]) {
            let there = of_frame(&frame_of(v6, udp, ends, ports));
            let back = of_frame(&frame_of(v6, udp, [ends[1], ends[0]], [ports[1], ports[0]]));
            prop_assert_eq!(there, back);
            prop_assert!(there >= FIRST && there != KEPT);
        }

        #[test]
        fn any_bytes_have_one(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let port = of_frame(&bytes);
            prop_assert!(port >= FIRST && port != KEPT);
        }
    }

    #[test]
    fn flows_are_spread_over_the_whole_range() {
        let mut cells = [0u32; 64];
        let mut highest = 0;
        for n in 0..65_536u32 {
            let addresses = u64::from_le_bytes([198, 51, 100, (n >> 10) as u8, 203, 0, 113, 10]);
            let ports =
                u32::from(443u16.swap_bytes()) << 16 | u32::from((1_024 + (n & 0x3ff) as u16).swap_bytes());
            let port = of_v4(&KeyV4 { addresses, ports, protocol: protocol::TCP });
            cells[usize::from(port - FIRST) / 256] += 1;
            highest = highest.max(port);
        }
        assert!(cells.iter().all(|&count| (850..1_200).contains(&count)), "{cells:?}");
        assert!(highest > 65_330);
    }
}
