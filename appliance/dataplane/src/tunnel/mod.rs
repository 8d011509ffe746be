//! Stage 2, decap: packets in the tunnels of a gateway load balancer.
//!
//! Decides whether a frame is for one of the tunnels, which one, and whether it may be there: a peer sent it, its network has a tunnel,
//! at this UDP port. Each tunnel to each peer is a port of its own on top of the one that carries it, with its own side; what
//! comes in by it leaves by its twin, the tunnel of the other side to the same peer. Never looks at the inner packet, never
//! judges it, never changes a byte: [`emit::encap`](crate::emit::encap) writes.
//!
//! ```text
//!            external tunnel (untrusted)              internal tunnel (trusted)
//! client -> [peer] ---> port [ guard, flow, policy, … ] port ---> [peer] -> application
//!            answers of the appliance's own go back where the packet came from
//! ```
//!
//! A gateway load balancer that speaks Geneve has one tunnel for both sides. It is two here as well, one for what each side sends: which one
//! a packet came by is told by its inner source, and which one it leaves by, by its inner destination.
//!
//! *Invariant:* the number of a tunnel never changes its side, nor what it leads to, whatever configuration is taken up: frames that
//! wait, flows, and other workers hold numbers. A tunnel that is no longer configured keeps its number and is closed.

mod build;
mod decap;
pub mod ecn;
pub mod entropy;
mod frontends;
pub mod gate;
pub mod geneve;
mod overlay;
mod pmtu;
mod vni;
pub mod vxlan;

#[cfg(test)]
mod tests;

pub use build::configured;
pub use decap::{Arrival, Finder, Found, station};
pub use frontends::Frontends;
pub use gate::{Gate, NO_PAIR, Sign};
pub use overlay::{Remote, Segment};

use crate::addr::{Addr, Family, Mac, MacWord};
use crate::emit::encap::{self, Front, Outer};
use crate::snapshot::PortFacts;
use crate::synproxy::{Demand, Watched};
use crate::verdict::PortId;
use crate::wire::{self, Parsed};
use gate::Gates;
use nva_config::{SynProxyMode, Trust};
use pmd_shim::{ChecksumStatus, RxOffload};
use pmtu::Learnt;
use smallvec::SmallVec;
use std::sync::Arc;
use vni::VniTable;

/// A tunnel to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The network.
    pub vni: u32,
    /// The UDP port at both ends.
    pub udp_port: u16,
    /// Where its packets leave: the tunnel of the other side, to the same peer.
    pub twin: PortId,
    /// The port that carries it.
    pub carrier: PortId,
    /// The longest inner IP packet that fits, in bytes.
    pub mtu: u16,
    /// Which of the configuration's tunnels it is; those to several peers have one number.
    line: u32,
    path: u32,
    /// Which side it leads to.
    pub trust: Trust,
    /// The configuration has it.
    pub is_open: bool,
    /// What SYNs announce is made to fit.
    pub clamps_mss: bool,
    takes_unsummed: bool,
}

/// The way to a peer, from one of the appliance's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The outer ends.
    pub outer: Outer,
    /// The Ethernet address of the carrier.
    pub station: MacWord,
    /// The next hop on the carrier; `None`: no route leads to the peer by that port.
    pub next_hop: Option<Addr>,
    /// The codepoint of outer headers; `None`: the inner packet's.
    pub dscp: Option<u8>,
    /// Packets have Geneve headers, and both sides have one tunnel.
    pub is_geneve: bool,
}

impl Path {
    /// The outer service field of a packet with this inner one: the congestion field is the inner packet's own (RFC 6040, 4.1).
    #[inline(always)]
    pub const fn service(&self, inner: u8) -> u8 {
        match self.dscp {
            Some(dscp) => dscp << 2 | inner & ecn::FIELD,
            None => inner,
        }
    }
}

/// All tunnels of a configuration, compiled.
#[derive(Clone, Debug, Default)]
pub struct Tunnels {
    /// By [`PortId::index`] of the carrier.
    ends: Box<[Ends]>,
    vnis: VniTable,
    /// By [`PortId::tunnel_index`].
    tunnels: Box<[Tunnel]>,
    /// The same.
    facts: Box<[PortFacts]>,
    paths: Box<[Path]>,
    /// What the fast lane reads in place of `tunnels` and `paths`, by the same numbers.
    gates: Gates,
    fronts: Box<[Front]>,
    /// How narrow ways turned out to be.
    learnt: Arc<Learnt>,
    /// By [`PortId::index`]; those of ports on devices are `None`.
    segments: Box<[Option<Segment>]>,
    /// By [`PortId::tunnel_index`]: what is demanded of connections that begin in the tunnel.
    demands: Box<[Option<Demand>]>,
    /// The Ethernet addresses of all ports, each once, in the lower six bytes of a word, the first one lowest.
    stations: SmallVec<[u64; 4]>,
    last_octets: LastOctets,
    /// What inner addresses stand for.
    pub frontends: Frontends,
}

/// The addresses of one port at which tunnels end.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    all: SmallVec<[End; 2]>,
    pairs: decap::Pairs,
}

/// The last octets of stations' Ethernet addresses: for each the bit that has the number of its lower six bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastOctets(u64);

/// An address at which tunnels end.
#[derive(Clone, Debug)]
struct End {
    address: Addr,
    number: u16,
    /// The UDP ports of its tunnels, a bit each.
    udp_ports: Box<[u64; 1024]>,
    /// The other ends of all its tunnels.
    peers: SmallVec<[Addr; 4]>,
    /// The UDP ports of those that are Geneve's.
    geneve: SmallVec<[u16; 2]>,
}

/// A tunnel that nobody knows: nothing fits through it.
static NOWHERE: PortFacts =
    PortFacts { name: String::new(), mac: Mac([0; 6]), mtu: 0, trust: Trust::Untrusted };

impl Tunnels {
    /// Tunnels end at this port.
    #[inline(always)]
    pub fn are_at(&self, port: PortId) -> bool {
        self.ends(port).is_some_and(|ends| !ends.all.is_empty())
    }

    /// The addresses of a port at which tunnels end.
    #[inline(always)]
    pub fn ends(&self, port: PortId) -> Option<&Ends> {
        self.ends.get(port.index())
    }

    /// A tunnel that the configuration has.
    #[inline(always)]
    pub fn open(&self, port: PortId) -> Option<&Tunnel> {
        self.known(port).filter(|tunnel| tunnel.is_open)
    }

    /// A tunnel that this configuration has or an earlier one had.
    #[inline(always)]
    pub fn known(&self, port: PortId) -> Option<&Tunnel> {
        if port.is_tunnel() { self.tunnels.get(port.tunnel_index()) } else { None }
    }

    /// The tunnel of the other side to the same peer; of one that is not known, itself.
    pub fn twin(&self, port: PortId) -> PortId {
        self.known(port).map_or(port, |tunnel| tunnel.twin)
    }

    /// A tunnel as packets leave by it, and what they begin with.
    #[inline(always)]
    pub fn gate(&self, port: PortId) -> Option<(&Gate, &Front)> {
        if !port.is_tunnel() {
            return None;
        }
        let gate = self.gates.get(port.tunnel_index())?;
        Some((gate, self.fronts.get(usize::from(gate.front))?))
    }

    /// Whether packets with these outer headers come by this port.
    #[inline(always)]
    pub fn admits(&self, port: PortId, sign: &Sign) -> bool {
        port.is_tunnel() && self.gates.get(port.tunnel_index()).is_some_and(|gate| gate.admits(sign))
    }

    /// The segment that a port is.
    #[inline(always)]
    pub fn segment(&self, port: PortId) -> Option<&Segment> {
        self.segments.get(port.index())?.as_ref()
    }

    /// The way to a remote of a segment.
    #[inline]
    pub fn path_to(&self, remote: &Remote) -> Option<&Path> {
        self.paths.get(remote.path as usize)
    }

    /// An open tunnel, and the way to its peer.
    #[inline(always)]
    pub fn way(&self, port: PortId) -> Option<(&Tunnel, &Path)> {
        let tunnel = self.open(port)?;
        Some((tunnel, self.path(tunnel)?))
    }

    /// The way to the tunnel's peer.
    #[inline(always)]
    pub fn path(&self, tunnel: &Tunnel) -> Option<&Path> {
        self.paths.get(tunnel.path as usize)
    }

    /// What comes by this tunnel, or leaves by it, has Geneve headers.
    #[inline]
    pub fn is_geneve(&self, port: PortId) -> bool {
        self.open(port).and_then(|tunnel| self.path(tunnel)).is_some_and(|path| path.is_geneve)
    }

    /// Of a Geneve tunnel's two directions, the one for packets that an address sends.
    pub fn direction(&self, port: PortId, source: Addr) -> PortId {
        let trust = if self.frontends.are_trusted(source) { Trust::Trusted } else { Trust::Untrusted };
        match self.known(port) {
            Some(tunnel) if tunnel.trust != trust => tunnel.twin,
            _ => port,
        }
    }

    /// The open tunnels and the segments at a port whose datagrams `peer` sends to this address and UDP port.
    pub fn between(&self, port: PortId, peer: Addr, address: Addr, udp_port: u16) -> Vec<PortId> {
        let ends = |path: u32| {
            self.paths.get(path as usize).is_some_and(|path| path.outer.is_between(address, peer))
        };
        let tunnels = self.tunnels.iter().zip(0..).filter(|(tunnel, _)| {
            tunnel.is_open && tunnel.carrier == port && tunnel.udp_port == udp_port && ends(tunnel.path)
        });
        let segments = self.segments.iter().zip(0..).filter(|(segment, _)| {
            segment.as_ref().is_some_and(|segment| {
                segment.carrier == port
                    && segment.udp_port == udp_port
                    && segment.remotes.iter().any(|remote| ends(remote.path))
            })
        });
        tunnels
            .map(|(_, number)| PortId::tunnel(number))
            .chain(segments.map(|(_, number)| PortId(number)))
            .collect()
    }

    /// Packets go by the same tunnels and segments as under another configuration, to the same ends.
    pub(crate) fn lead_as(&self, other: &Self) -> bool {
        let alike = |(one, other): (&Option<Segment>, &Option<Segment>)| match (one, other) {
            (Some(one), Some(other)) => one.leads_as(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.tunnels == other.tunnels
            && self.paths == other.paths
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(alike)
    }

    /// The tunnel that a frame leaves by which begins with outer headers; `None`: it does not.
    pub(crate) fn left_by(&self, bytes: &[u8]) -> Option<PortId> {
        let written = RxOffload { checksum: ChecksumStatus::Verified, ..RxOffload::default() };
        let Ok(Parsed::Ip(packet)) = wire::parse(bytes, written, station(bytes)) else { return None };
        let mut ends = self.ends.iter().flat_map(|ends| &ends.all);
        let end = ends.find(|end| end.address == packet.key.src)?;
        let payload = bytes.get(packet.payload.into()..packet.payload_end.into())?;
        let is_geneve = end.geneve.contains(&packet.key.dst_port);
        let header = *payload.first_chunk()?;
        let network =
            self.vnis.find(end.number, if is_geneve { geneve::vni(header) } else { vxlan::vni(header)? })?;
        let &(_, port) = network.peers.iter().find(|(peer, _)| *peer == packet.key.dst)?;
        if !is_geneve {
            return Some(port);
        }
        let header = geneve::parse(payload).ok()?;
        let inner = payload.get(header.len..)?;
        let destination = match header.family {
            Family::V4 => Addr::v4(*inner.get(16..)?.first_chunk()?),
            Family::V6 => Addr::v6(*inner.get(24..)?.first_chunk()?),
        };
        Some(self.direction(port, destination))
    }

    /// By which tunnel a packet to `destination` leaves that came by `port`: the twin, or with Geneve the direction of whoever it is for.
    pub fn way_out(&self, port: PortId, destination: Addr) -> Option<PortId> {
        let tunnel = self.open(port)?;
        Some(if self.is_geneve(port) { self.direction(port, destination) } else { tunnel.twin })
    }

    /// What is demanded of connections that begin in an open tunnel; `None`: nothing.
    #[inline]
    pub fn demand(&self, port: PortId) -> Option<Demand> {
        self.demands.get(port.tunnel_index()).copied().flatten()
    }

    /// The gateways whose clients prove themselves while these are flooded.
    pub(crate) fn asking(&self) -> impl Iterator<Item = Watched> + '_ {
        let demands = self.demands.iter().flatten();
        demands.filter(|demand| demand.mode == SynProxyMode::Auto).map(|demand| demand.watched)
    }

    /// A tunnel as a port; of one that is not known, what lets nothing pass.
    pub(crate) fn facts(&self, port: PortId) -> &PortFacts {
        self.facts.get(port.tunnel_index()).unwrap_or(&NOWHERE)
    }

    /// The port that carries a tunnel, or the port itself.
    #[inline(always)]
    pub fn carrier(&self, port: PortId) -> PortId {
        self.known(port).map_or(port, |tunnel| tunnel.carrier)
    }

    /// The open tunnel of this name to its first peer.
    pub fn named(&self, name: &str) -> Option<PortId> {
        let place = self
            .tunnels
            .iter()
            .zip(&self.facts)
            .position(|(tunnel, facts)| tunnel.is_open && facts.name == name);
        place.and_then(|number| u16::try_from(number).ok()).map(PortId::tunnel)
    }

    /// Whether packets of a flow that came in by `before` may come in by `now`, an open tunnel: the same tunnel from another peer, or, where
    /// the configuration has no longer what was, any of that side.
    pub fn continues(&self, before: PortId, now: PortId) -> bool {
        match (self.known(before), self.open(now)) {
            (Some(before), Some(now)) => {
                before.trust == now.trust && (before.line == now.line || !before.is_open)
            }
            _ => false,
        }
    }

    /// How many tunnels there are to be counted, closed ones included.
    pub fn count(&self) -> usize {
        self.tunnels.len()
    }
}

/// By how many bytes an outer VXLAN packet over this family is longer than the inner one.
pub(crate) const fn overhead(is_v4: bool) -> u16 {
    if is_v4 { encap::LEN_V4 as u16 } else { encap::LEN_V6 as u16 }
}
