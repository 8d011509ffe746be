//! What a plain packet of a known flow has done to it: its ends exchanged for those that it leaves with, and one hop less to live.
//!
//! All places are known when this is compiled, and each field is touched once. The general functions of [`rewrite`](super::rewrite)
//! give the same bytes.

use super::checksum::{ONE_LESS, Sum};
use crate::wire::plain::{KeyV4, KeyV6, L3, L4_OVER_V4, L4_OVER_V6, half_word, quarter_word, word};

const TTL_OVER_V4: usize = L3 + 8;
const CHECKSUM_OVER_V4: usize = L3 + 10;
const ADDRESSES_OVER_V4: usize = L3 + 12;
const HOPS_OVER_V6: usize = L3 + 7;
const ADDRESSES_OVER_V6: usize = L3 + 8;

/// What a packet over IPv4 has changed as it leaves.
#[derive(Clone, Copy, Debug)]
pub struct Edits {
    /// Source and destination.
    pub addresses: u64,
    /// Source and destination port.
    pub ports: u32,
    /// What that, and one hop, adds to the header's checksum.
    pub header: u16,
    /// What that adds to the transport's checksum.
    pub transport: u16,
}

impl Edits {
    /// What makes one key of the other.
    #[inline]
    pub fn between(from: &KeyV4, to: &KeyV4) -> Self {
        let moved = Sum::new().add_word(!from.addresses).add_word(to.addresses);
        let ports = u64::from(!from.ports) + u64::from(to.ports);
        let (header, transport) = (moved.add_word(ONE_LESS).folded(), moved.add_word(ports).folded());
        Self { addresses: to.addresses, ports: to.ports, header, transport }
    }
}

/// Takes one from the time to live of a packet over IPv4, which is more than 0.
#[inline(always)]
pub fn hop_v4<const N: usize>(head: &mut [u8; N]) {
    finish_v4(head, ONE_LESS as u16);
}

/// The same, with other ends for the packet.
#[inline(always)]
pub fn translate_v4<const TCP: bool, const N: usize>(head: &mut [u8; N], edits: &Edits) {
    put(head, ADDRESSES_OVER_V4, edits.addresses.to_le_bytes());
    put(head, L4_OVER_V4, edits.ports.to_le_bytes());
    finish_v4(head, edits.header);
    finish_transport::<TCP, N>(head, L4_OVER_V4, edits.transport);
}

/// Takes one from the hop limit of a packet over IPv6, which is more than 0.
#[inline(always)]
pub fn hop_v6<const N: usize>(head: &mut [u8; N]) {
    head[HOPS_OVER_V6] = head[HOPS_OVER_V6].wrapping_sub(1);
}

/// The same, with other ends for the packet.
#[inline(always)]
pub fn translate_v6<const TCP: bool, const N: usize>(head: &mut [u8; N], to: &KeyV6) {
    let mut replaced = Sum::new().add_word(u64::from(!half_word(head, L4_OVER_V6)) + u64::from(to.ports));
    for (address, at) in to.addresses.into_iter().zip((ADDRESSES_OVER_V6..).step_by(8)) {
        replaced = replaced.add_word(!word(head, at)).add_word(address);
        put(head, at, address.to_le_bytes());
    }
    put(head, L4_OVER_V6, to.ports.to_le_bytes());
    hop_v6(head);
    finish_transport::<TCP, N>(head, L4_OVER_V6, replaced.folded());
}

/// Takes one from the time to live, and brings the header's checksum up to date with that and all else that was replaced.
#[inline(always)]
fn finish_v4<const N: usize>(head: &mut [u8; N], replaced: u16) {
    head[TTL_OVER_V4] = head[TTL_OVER_V4].wrapping_sub(1);
    update(head, CHECKSUM_OVER_V4, replaced);
}

/// Brings the transport's checksum up to date. A datagram without one stays so, and a computed 0 is sent as `0xffff` (RFC 768).
#[inline(always)]
fn finish_transport<const TCP: bool, const N: usize>(head: &mut [u8; N], l4: usize, replaced: u16) {
    if TCP {
        update(head, l4 + 16, replaced);
    } else if quarter_word(head, l4 + 6) != 0 {
        update(head, l4 + 6, replaced);
        if quarter_word(head, l4 + 6) == 0 {
            put(head, l4 + 6, [0xff; 2]);
        }
    }
}

/// Brings a checksum up to date with what was replaced (RFC 1624, equation 3), a folded sum that is not 0: so the new one is never the
/// 0xffff that no computation over a header gives.
#[inline(always)]
fn update<const N: usize>(head: &mut [u8; N], at: usize, replaced: u16) {
    let old = !u16::from_ne_bytes([head[at], head[at + 1]]);
    let (sum, carry) = old.overflowing_add(replaced);
    put(head, at, (!(sum + u16::from(carry))).to_ne_bytes());
}

#[inline(always)]
fn put<const N: usize, const LEN: usize>(head: &mut [u8; N], at: usize, bytes: [u8; LEN]) {
    head[at..at + LEN].copy_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Addr, Mac};
    use crate::emit::rewrite::{Endpoint, Translation, decrement_ttl, translate};
    use crate::wire::{FlowKey, Packet, Parsed, parse};
    use etherparse::PacketBuilder;
    use pmd_shim::RxOffload;
    use proptest::prelude::*;

    const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// What the general functions make of a frame.
    fn long_way(frame: &mut [u8], packet: &Packet, to: &FlowKey) {
        let end = |addr, port| Some(Endpoint { addr, port: Some(port) });
        let translation = Translation { src: end(to.src, to.src_port), dst: end(to.dst, to.dst_port) };
        translate(frame, packet, &translation);
        decrement_ttl(frame, packet);
    }

    fn short_way<const TCP: bool, const N: usize>(frame: &mut [u8], from: &FlowKey, to: &FlowKey) {
        let from = &KeyV4::of(from).unwrap_or_default();
        let head: &mut [u8; N] = frame.first_chunk_mut().expect("the frame has its headers");
        match KeyV4::of(to) {
            Some(to) => translate_v4::<TCP, N>(head, &Edits::between(from, &to)),
            None => translate_v6::<TCP, N>(head, &KeyV6::of(to)),
        }
    }

    fn packet(frame: &[u8]) -> Packet {
        let Ok(Parsed::Ip(packet)) = parse(frame, RxOffload::default(), Mac(STATION)) else {
            panic!("the frame must parse");
        };
        packet
    }

    /// Few values, so that sums are often at their edges.
    fn octets<const N: usize>() -> impl Strategy<Value = [u8; N]> {
        let octet = prop_oneof![Just(0u8), Just(0xff), any::<u8>()];
        proptest::collection::vec(octet, N).prop_map(|octets| octets.try_into().expect("so many"))
    }

    fn port() -> impl Strategy<Value = u16> {
        prop_oneof![Just(0xffff), 1u16..]
    }

    fn frame(
        v6: bool,
        tcp: bool,
        ends: &[[u8; 16]; 2],
        ports: (u16, u16),
        ttl: u8,
        payload: &[u8],
    ) -> Vec<u8> {
        let v4 = |octets: &[u8; 16]| [octets[0], octets[1], octets[2], octets[3]];
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], STATION);
        let ip = match v6 {
            true => link.ipv6(ends[0], ends[1], ttl),
            false => link.ipv4(v4(&ends[0]), v4(&ends[1]), ttl),
        };
        let mut frame = Vec::new();
        match tcp {
            true => ip.tcp(ports.0, ports.1, 7, 1000).ack(9).write(&mut frame, payload),
            false => ip.udp(ports.0, ports.1).write(&mut frame, payload),
        }
        .expect("a vector takes every frame");
        frame
    }

    proptest! {
        #[test]
        fn a_key_that_stays_has_the_same_differences_whatever_it_is(addresses: u64, ports: u32) {
            let of = |key: KeyV4| {
                let Edits { header, transport, .. } = Edits::between(&key, &key);
                (header, transport)
            };
            prop_assert_eq!(of(KeyV4 { addresses, ports, protocol: 6 }), of(KeyV4::default()));
        }

        #[test]
        fn the_short_way_gives_the_same_bytes(
            ends in (octets::<16>(), octets::<16>()), new in (octets::<16>(), octets::<16>()), ttl in 1u8..,
            ports in (port(), port()), new_ports in (port(), port()), v6: bool, tcp: bool, unsummed: bool,
            payload in proptest::collection::vec(any::<u8>(), 12..64), untranslated in 0u8..4,
        ) {
            // Not of the mapped form.
            let global = |mut octets: [u8; 16]| { octets[0] |= 0x20; octets };
            let mut frame = frame(v6, tcp, &[global(ends.0), global(ends.1)], ports, ttl, &payload);
            if unsummed && !tcp && !v6 {
                frame[40..42].fill(0);
            }
            let packet = packet(&frame);
            let addr = |octets: [u8; 16]| match v6 {
                true => Addr::v6(global(octets)),
                false => Addr::v4([octets[0], octets[1], octets[2], octets[3]]),
            };
            let mut to = FlowKey {
                src: addr(new.0), dst: addr(new.1), src_port: new_ports.0, dst_port: new_ports.1, ..packet.key
            };
            // One end, as flows have it.
            match untranslated {
                0 => (to.src, to.src_port) = (packet.key.src, packet.key.src_port),
                1 => (to.dst, to.dst_port) = (packet.key.dst, packet.key.dst_port),
                _ => {}
            }
            let (mut short, mut long) = (frame.clone(), frame);
            long_way(&mut long, &packet, &to);
            match (v6, tcp) {
                (false, true) => short_way::<true, 54>(&mut short, &packet.key, &to),
                (false, false) => short_way::<false, 54>(&mut short, &packet.key, &to),
                (true, true) => short_way::<true, 74>(&mut short, &packet.key, &to),
                (true, false) => short_way::<false, 62>(&mut short, &packet.key, &to),
            }
            prop_assert_eq!(&short, &long);
        }

        #[test]
        fn a_hop_alone_changes_nothing_else(
            ends in (octets::<16>(), octets::<16>()), ttl in 1u8.., v6: bool,
            payload in proptest::collection::vec(any::<u8>(), 12..64),
        ) {
            let global = |mut octets: [u8; 16]| { octets[0] |= 0x20; octets };
            let frame = frame(v6, false, &[global(ends.0), global(ends.1)], (1, 2), ttl, &payload);
            let packet = packet(&frame);
            let (mut short, mut long) = (frame.clone(), frame);
            decrement_ttl(&mut long, &packet);
            let head: &mut [u8; 54] = short.first_chunk_mut().expect("the frame has its headers");
            if v6 { hop_v6(head) } else { hop_v4(head) }
            prop_assert_eq!(&short, &long);
        }
    }
}
