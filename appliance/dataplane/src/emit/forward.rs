//! What every forwarded packet has done to it: its translation, and one hop less to live.
//!
//! Nearly all packets are TCP or UDP over plain IPv4 with one end to translate; these take a way of their own, in which each field is
//! touched once. Everything else goes through the general functions, and both ways give the same bytes.

use super::checksum::ChecksumDelta;
use super::rewrite::{Endpoint, Translation, decrement_ttl, translate};
use crate::addr::Family;
use crate::wire::{Packet, Transport};

const IP_LEN: usize = 20;
const SRC: usize = 12;
const DST: usize = 16;

/// Translates the packet and takes one from its time to live, which is at least 1. The packet is as [`parse`](crate::wire::parse)
/// gave it for these bytes.
#[inline(always)]
pub fn forward(bytes: &mut [u8], packet: &Packet, translation: &Translation) {
    let done = match (translation.src, translation.dst) {
        (Some(source), None) => plain(bytes, packet, source, SRC, 0),
        (None, Some(destination)) => plain(bytes, packet, destination, DST, 2),
        _ => None,
    };
    if done.is_none() {
        translate(bytes, packet, translation);
        decrement_ttl(bytes, packet);
    }
}

/// One end of a whole TCP or UDP packet over IPv4 without options. `None`: the packet is of another kind, and unchanged.
#[inline(always)]
fn plain(bytes: &mut [u8], packet: &Packet, end: Endpoint, addr_at: usize, port_at: usize) -> Option<()> {
    let checksum_at = match packet.transport {
        Transport::Tcp(_) => 16,
        Transport::Udp => 6,
        _ => return None,
    };
    let l3 = usize::from(packet.l3);
    if packet.family != Family::V4 || usize::from(packet.l4) != l3 + IP_LEN || packet.fragment.is_some() {
        return None;
    }
    let (new_addr, new_port) = (end.addr.as_v4()?, end.port?);
    let (ip, transport) = bytes.get_mut(l3..)?.split_first_chunk_mut::<IP_LEN>()?;
    let transport = transport.get_mut(..checksum_at + 2)?;

    let old_addr = ip.get_mut(addr_at..addr_at + 4)?.first_chunk_mut::<4>()?;
    let addr = ChecksumDelta::new().replace_u32(u32::from_be_bytes(*old_addr), u32::from_be_bytes(new_addr));
    *old_addr = new_addr;
    let old_port = transport.get_mut(port_at..port_at + 2)?.first_chunk_mut::<2>()?;
    let ends = addr.replace_u16(u16::from_be_bytes(*old_port), new_port);
    *old_port = new_port.to_be_bytes();

    let hops = u16::from_be_bytes([ip[8], ip[9]]);
    ip[8] = ip[8].saturating_sub(1);
    let header = addr.replace_u16(hops, u16::from_be_bytes([ip[8], ip[9]]));
    let sum = header.apply(u16::from_be_bytes([ip[10], ip[11]])).to_be_bytes();
    [ip[10], ip[11]] = sum;

    let checksum = transport.get_mut(checksum_at..)?.first_chunk_mut::<2>()?;
    let old = u16::from_be_bytes(*checksum);
    let new = if checksum_at == 16 { ends.apply(old) } else { ends.apply_udp(old) };
    *checksum = new.to_be_bytes();
    Some(())
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
