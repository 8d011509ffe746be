//! What the fast lane needs of tunnels, in as few words as that takes: with thousands of them, packets in a row read that of different ones.

use super::{Ends, Path, Tunnel, vxlan};
use crate::emit::encap::{Front, LEN_V4};
use crate::verdict::PortId;
use crate::wire::ETHERNET_HEADER_LEN;
use crate::wire::plain::{L4_OVER_V4, half_word};

/// A tunnel, as packets come in and leave by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Gate {
    /// The second half of the VXLAN header, which is the network, as it stands in a packet.
    pub network: u32,
    /// The UDP port at both ends, as it stands in a packet behind the source port.
    pub udp_port: u32,
    /// The port that carries the tunnel.
    pub carrier: PortId,
    /// The longest inner frame that fits, in bytes, with as much in front of it as outer headers over IPv4 take; 0: none does, as the tunnel
    /// is closed or has other headers.
    pub frame_max: u16,
    /// Its [`Front`], by number.
    pub(super) front: u16,
    /// Between which outer ends packets come, by number.
    pair: u16,
}

/// No pair of outer ends over IPv4.
pub const NO_PAIR: u16 = u16::MAX;

/// What the outer headers of a packet say of the gate that it came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    /// Between which outer ends it came, by number: a pair that there is.
    pair: u16,
    /// As in a [`Gate`].
    network: u32,
    /// Source and destination port, as they stand there.
    ports: u32,
}

/// All gates, and which one a packet comes by: a hash table of their numbers, in which thousands take a few cache lines.
/// *Invariant:* at least half of its places are vacant, so that every search ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates {
    /// By [`PortId::tunnel_index`].
    all: Box<[Gate]>,
    places: Box<[u16]>,
    /// 64 less the logarithm of their number.
    shift: u32,
}

/// No gate has this number.
const VACANT: u16 = u16::MAX;

/// How long a frame is that has an IP packet of `mtu` bytes and room for outer headers over IPv4 in front, in bytes.
pub const fn frame_max(mtu: u16) -> u16 {
    mtu.saturating_add((ETHERNET_HEADER_LEN + LEN_V4) as u16)
}

impl Gate {
    pub(super) fn new(tunnel: &Tunnel, paths: &[Path], ends: &[Ends]) -> Self {
        let front = u16::try_from(tunnel.path).ok();
        let path = |place: u16| paths.get(usize::from(place)).filter(|path| !path.is_geneve);
        let front = front.filter(|place| tunnel.is_open && path(*place).is_some());
        let pair = front.and_then(path).and_then(|path| {
            let (own, peer) = (path.outer.source(), path.outer.destination());
            ends.get(tunnel.carrier.index())?.pairs.number(peer, own)
        });
        Self {
            network: half_word(&vxlan::header(tunnel.vni), 4),
            udp_port: u32::from(tunnel.udp_port.swap_bytes()) << 16,
            carrier: tunnel.carrier,
            frame_max: front.map_or(0, |_| frame_max(tunnel.mtu)),
            front: front.unwrap_or(u16::MAX),
            pair: pair.unwrap_or(NO_PAIR),
        }
    }

    /// A packet with these outer headers came by this gate.
    #[inline(always)]
    pub fn admits(&self, sign: &Sign) -> bool {
        (self.network ^ sign.network) | u32::from(self.pair ^ sign.pair) | (self.udp_port ^ sign.ports) >> 16
            == 0
    }

    /// The same, where it does not count at which UDP port.
    #[inline(always)]
    fn is_of(&self, sign: &Sign) -> bool {
        (self.network ^ sign.network) | u32::from(self.pair ^ sign.pair) == 0
    }
}

impl Sign {
    /// Of plain outer headers between the ends of this pair.
    #[inline(always)]
    pub fn read(pair: u16, head: &[u8; LEN_V4]) -> Self {
        const UDP: usize = L4_OVER_V4;
        let network = half_word(head, LEN_V4 - 4) & vxlan::NETWORK;
        Self { pair, network, ports: half_word(head, UDP) }
    }
}

impl Gates {
    pub(super) fn new(all: Box<[Gate]>) -> Self {
        let size = (2 * all.len()).next_power_of_two().max(2);
        let shift = u64::BITS - size.trailing_zeros();
        let mut gates = Self { places: vec![VACANT; size].into(), shift, all };
        for (number, gate) in (0..VACANT).zip(&gates.all) {
            if gate.pair == NO_PAIR {
                continue;
            }
            let mut at = gates.first(gate.pair, gate.network);
            while gates.places[at] != VACANT {
                at = (at + 1) & (size - 1);
            }
            gates.places[at] = number;
        }
        gates
    }

    /// Where a search begins. Networks are numbered one after the other by people: the multiplication spreads them.
    #[inline(always)]
    fn first(&self, pair: u16, network: u32) -> usize {
        let key = u64::from(network) | u64::from(pair) << 32;
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (self.shift & 63)) as usize
    }

    /// The tunnel that a packet with these outer headers came by.
    #[inline(always)]
    pub(super) fn find(&self, sign: &Sign) -> Option<PortId> {
        let at = self.first(sign.pair, sign.network);
        let mut number = *self.places.get(at)?;
        let mut gate = self.all.get(usize::from(number))?;
        if !gate.is_of(sign) {
            (number, gate) = self.find_behind(at, sign)?;
        }
        gate.admits(sign).then_some(PortId::tunnel(number))
    }

    /// Behind the place where a search begins, which few gates are.
    #[inline(never)]
    fn find_behind(&self, mut at: usize, sign: &Sign) -> Option<(u16, &Gate)> {
        loop {
            at = (at + 1) & (self.places.len() - 1);
            let number = *self.places.get(at)?;
            // There is none that is vacant.
            let gate = self.all.get(usize::from(number))?;
            if gate.is_of(sign) {
                return Some((number, gate));
            }
        }
    }

    /// The gate of this number.
    #[inline(always)]
    pub(super) fn get(&self, number: usize) -> Option<&Gate> {
        self.all.get(number)
    }
}

impl Path {
    /// What all packets that go this way begin with.
    pub(super) fn front(&self) -> Front {
        Front::new(&self.outer, self.station, self.dscp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_thousand_networks_are_told_apart() {
        let network = |vni| half_word(&vxlan::header(vni), 4);
        let ports = |port: u16| u32::from(port.swap_bytes()) << 16 | 0xabcd;
        let gate = |pair, vni: u32| Gate {
            network: network(vni),
            udp_port: ports(10_800 + (vni & 1) as u16) & 0xffff_0000,
            carrier: PortId(0),
            frame_max: 0,
            front: 0,
            pair: if vni == 77 { NO_PAIR } else { pair },
        };
        let all: Vec<Gate> =
            (0..4_096).map(|vni| gate(0, vni)).chain((0..8).map(|vni| gate(1, vni))).collect();
        let gates = Gates::new(all.into());
        for vni in 0..4_096 {
            let port = 10_800 + (vni & 1) as u16;
            let found = |pair, port| gates.find(&Sign { pair, network: network(vni), ports: ports(port) });
            assert_eq!(found(0, port), (vni != 77).then_some(PortId::tunnel(vni as u16)));
            assert_eq!(found(1, port), (vni < 8).then_some(PortId::tunnel(4_096 + vni as u16)));
            assert_eq!((found(0, port ^ 1), found(2, port), found(NO_PAIR, port)), (None, None, None));
        }
        for vni in [4_096, 0xff_ffff] {
            assert_eq!(gates.find(&Sign { pair: 0, network: network(vni), ports: ports(10_800) }), None);
        }
    }

    #[test]
    fn where_there_are_none_nothing_is_found() {
        for gates in [Gates::default(), Gates::new(Box::default())] {
            assert!((0..100).all(|pair| gates.find(&Sign { pair, network: 0, ports: 0 }).is_none()));
        }
    }
}
