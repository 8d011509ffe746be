//! What every forwarded packet has done to it: its translation, and one hop less to live.
//!
//! Nearly all packets are TCP or UDP over plain IPv4 with one end to translate; these take a way of their own, in which each field is
//! touched once. Everything else goes through the general functions, and both ways give the same bytes.

use super::checksum::ChecksumDelta;
use super::rewrite::{Endpoint, Translation, decrement_ttl, translate};
use crate::addr::Family;
use crate::wire::{Packet, Transport};

const IP_LEN: usize = 20;
/// Both headers, up to the end of the transport's checksum, behind which nothing is changed.
const TCP_LEN: usize = IP_LEN + 18;
const UDP_LEN: usize = IP_LEN + 8;

/// Offsets of an end's address and port from the IP header.
type Places = (usize, usize);
const SOURCE: Places = (12, IP_LEN);
const DESTINATION: Places = (16, IP_LEN + 2);

/// Translates the packet and takes one from its time to live, which is at least 1. The packet is as [`parse`](crate::wire::parse)
/// gave it for these bytes.
#[inline(always)]
pub fn forward(bytes: &mut [u8], packet: &Packet, translation: &Translation) {
    let done = match (translation.src, translation.dst) {
        (Some(source), None) => plain(bytes, packet, source, SOURCE),
        (None, Some(destination)) => plain(bytes, packet, destination, DESTINATION),
        _ => None,
    };
    if done.is_none() {
        translate(bytes, packet, translation);
        decrement_ttl(bytes, packet);
    }
}

/// One end of a whole TCP or UDP packet over IPv4 without options. `None`: the packet is of another kind, and unchanged.
#[inline(always)]
fn plain(bytes: &mut [u8], packet: &Packet, end: Endpoint, places: Places) -> Option<()> {
    if packet.family != Family::V4 || packet.l4 != packet.l3 + IP_LEN as u16 || packet.fragment.is_some() {
        return None;
    }
    let (addr, port) = (end.addr.as_v4()?, end.port?);
    let bytes = bytes.get_mut(usize::from(packet.l3)..)?;
    match packet.transport {
        Transport::Tcp(_) => {
            let headers = bytes.first_chunk_mut::<TCP_LEN>()?;
            replace(headers, places, addr, port, ChecksumDelta::apply);
        }
        Transport::Udp => {
            let headers = bytes.first_chunk_mut::<UDP_LEN>()?;
            replace(headers, places, addr, port, ChecksumDelta::apply_udp);
        }
        _ => return None,
    }
    Some(())
}

/// Replaces one end in headers that end with the transport's checksum, and takes one from the time to live. All places are known
/// when this is compiled, and within the headers.
#[inline(always)]
fn replace<const LEN: usize>(
    headers: &mut [u8; LEN],
    (addr_at, port_at): Places,
    addr: [u8; 4],
    port: u16,
    apply: impl Fn(ChecksumDelta, u16) -> u16,
) {
    let u16_at = |headers: &[u8; LEN], at: usize| u16::from_be_bytes([headers[at], headers[at + 1]]);
    let old_addr = [headers[addr_at], headers[addr_at + 1], headers[addr_at + 2], headers[addr_at + 3]];
    let old_port = u16_at(headers, port_at);
    headers[addr_at..addr_at + 4].copy_from_slice(&addr);
    headers[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
    let moved = ChecksumDelta::new().replace_u32(u32::from_be_bytes(old_addr), u32::from_be_bytes(addr));

    let hops = u16_at(headers, 8);
    headers[8] = headers[8].saturating_sub(1);
    let header = moved.replace_u16(hops, u16_at(headers, 8)).apply(u16_at(headers, 10));
    headers[10..12].copy_from_slice(&header.to_be_bytes());

    let transport = apply(moved.replace_u16(old_port, port), u16_at(headers, LEN - 2));
    headers[LEN - 2..].copy_from_slice(&transport.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Addr, Mac};
    use crate::wire::{Parsed, parse};
    use etherparse::PacketBuilder;
    use pmd_shim::RxOffload;
    use proptest::prelude::*;

    const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn both_ways(frame: &[u8], translation: &Translation) -> (Vec<u8>, Vec<u8>) {
        let Ok(Parsed::Ip(packet)) = parse(frame, RxOffload::default(), Mac(STATION)) else {
            panic!("the frame must parse");
        };
        let (mut short, mut long) = (frame.to_vec(), frame.to_vec());
        forward(&mut short, &packet, translation);
        translate(&mut long, &packet, translation);
        decrement_ttl(&mut long, &packet);
        (short, long)
    }

    fn write<T>(builder: etherparse::PacketBuilderStep<T>, payload: &[u8]) -> Vec<u8>
    where
        etherparse::PacketBuilderStep<T>: Written,
    {
        builder.written(payload)
    }

    trait Written {
        fn written(self, payload: &[u8]) -> Vec<u8>;
    }

    impl Written for etherparse::PacketBuilderStep<etherparse::TcpHeader> {
        fn written(self, payload: &[u8]) -> Vec<u8> {
            let mut frame = Vec::new();
            self.write(&mut frame, payload).expect("a vector takes every frame");
            frame
        }
    }

    impl Written for etherparse::PacketBuilderStep<etherparse::UdpHeader> {
        fn written(self, payload: &[u8]) -> Vec<u8> {
            let mut frame = Vec::new();
            self.write(&mut frame, payload).expect("a vector takes every frame");
            frame
        }
    }

    proptest! {
        #[test]
        fn the_short_way_gives_the_same_bytes(
            src in any::<[u8; 4]>(), dst in any::<[u8; 4]>(), ttl in 1u8.., ports in any::<(u16, u16)>(),
            new in any::<([u8; 4], u16)>(), to_destination in any::<bool>(), tcp in any::<bool>(),
            payload in proptest::collection::vec(any::<u8>(), 0..64), unsummed in any::<bool>(),
        ) {
            let ports = (ports.0.max(1), ports.1.max(1));
            let ip = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], STATION).ipv4(src, dst, ttl);
            let mut frame = if tcp {
                write(ip.tcp(ports.0, ports.1, 7, 1000).ack(9), &payload)
            } else {
                write(ip.udp(ports.0, ports.1), &payload)
            };
            if unsummed && !tcp {
                frame[40..42].fill(0);
            }
            let end = Some(Endpoint { addr: Addr::v4(new.0), port: Some(new.1) });
            let translation = match to_destination {
                true => Translation { src: None, dst: end },
                false => Translation { src: end, dst: None },
            };
            let (short, long) = both_ways(&frame, &translation);
            prop_assert_eq!(&short, &long);
            prop_assert_ne!(short, frame);
        }
    }
}
