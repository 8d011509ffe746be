//! From the configuration's gateways to tables.

use super::decap::Pairs;
use super::gate::{Gates, NO_PAIR};
use super::pmtu::Learnt;
use super::vni::{Row, VniTable};
use super::{End, Ends, Frontends, Gate, LastOctets, Path, Remote, Segment, Tunnel, Tunnels, vxlan};
use crate::addr::{Addr, MacWord};
use crate::emit::encap::Outer;
use crate::names::{Names, TunnelName};
use crate::route::{NextHop, RouteTable};
use crate::snapshot::{PortFacts, port_id, route_table};
use crate::synproxy::{Demand, Watched};
use crate::verdict::PortId;
use hashbrown::HashMap;
use nva_config::{Config, Encapsulation, Gateway, SynProxyMode, Trust};
use smallvec::SmallVec;
use std::net::IpAddr;
use std::sync::Arc;

/// No port: where what is closed leads to.
const NOWHERE: PortId = PortId(u16::MAX);

struct Build<'a> {
    config: &'a Config,
    ports: &'a [PortFacts],
    /// For each port those that lead out of it.
    routes: Vec<RouteTable>,
    ends: Vec<Ends>,
    end_count: u16,
    rows: Vec<Row>,
    paths: Vec<Path>,
    path_numbers: HashMap<PathKey, u32>,
    open: HashMap<PortId, Tunnel>,
    demands: HashMap<PortId, Demand>,
    lines: u32,
}

/// Tunnels whose packets have the same outer ends go one way.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PathKey {
    carrier: PortId,
    address: Addr,
    peer: Addr,
    dscp: Option<u8>,
    is_summed: bool,
    is_geneve: bool,
}

impl Tunnels {
    /// Compiles the gateways and the segments of a configuration. `ports` are those that carry tunnels. What `before` learnt holds on where
    /// nothing changed.
    pub(crate) fn build(
        before: Option<&Self>,
        config: &Config,
        ports: &[PortFacts],
        names: &mut Names,
    ) -> Self {
        let mut build = Build {
            config,
            ports,
            routes: routes(config),
            ends: vec![Ends::default(); ports.len()],
            end_count: 0,
            rows: Vec::new(),
            paths: Vec::new(),
            path_numbers: HashMap::new(),
            open: HashMap::new(),
            demands: HashMap::new(),
            lines: 0,
        };
        for gateway in &config.gateways {
            build.gateway(gateway, names);
        }
        let segments = (0..config.ports.len()).map(|index| build.segment(before, index)).collect();
        let (tunnels, facts) = build.numbered(names.tunnels());
        let demands = (0..tunnels.len()).map(|number| {
            let id = u16::try_from(number).map_or(NOWHERE, PortId::tunnel);
            build.demands.get(&id).copied()
        });
        let stations = stations(ports);
        let mut numbers = 0..NO_PAIR;
        for ends in &mut build.ends {
            ends.pairs = Pairs::build(&ends.all, &mut numbers);
        }
        let gate = |tunnel| Gate::new(tunnel, &build.paths, &build.ends);
        Self {
            vnis: VniTable::build(&build.rows),
            gates: Gates::new(tunnels.iter().map(gate).collect()),
            ends: build.ends.into(),
            fronts: build.paths.iter().map(Path::front).collect(),
            tunnels,
            facts,
            learnt: Arc::new(Learnt::new(build.paths.len())),
            demands: demands.collect(),
            paths: build.paths.into(),
            segments,
            last_octets: LastOctets::of(&stations),
            stations,
            frontends: Frontends::build(config),
        }
    }
}

fn stations(ports: &[PortFacts]) -> SmallVec<[u64; 4]> {
    let mut stations: SmallVec<[u64; 4]> = ports.iter().map(|port| MacWord::from(port.mac).word()).collect();
    stations.sort_unstable();
    stations.dedup();
    stations
}

/// For each port the routes that lead out of it: what leaves by a tunnel leaves by the tunnel's port, wherever the others would send
/// it.
fn routes(config: &Config) -> Vec<RouteTable> {
    if config.gateways.is_empty() && config.ports.iter().all(|port| port.vxlan.is_none()) {
        return Vec::new();
    }
    (0..config.ports.len()).map(|index| route_table(config, |next| next.port == port_id(index))).collect()
}

/// The tunnels of a configuration, once for each peer, with their numbers.
pub fn configured(config: &Config, names: &mut Names) -> Vec<(PortId, TunnelName)> {
    let tunnels =
        config.gateways.iter().flat_map(|gateway| gateway.tunnels.iter().map(move |t| (gateway, t)));
    let all = tunnels
        .flat_map(|(gateway, tunnel)| gateway.peers.iter().map(move |peer| name_of(gateway, tunnel, *peer)));
    all.filter_map(|name| Some((names.tunnel(&name)?, name))).collect()
}

fn name_of(gateway: &Gateway, tunnel: &nva_config::Tunnel, peer: IpAddr) -> TunnelName {
    TunnelName {
        name: tunnel.name.clone(),
        is_trusted: tunnel.trust == Trust::Trusted,
        carrier: port_id(tunnel.port.0),
        address: tunnel.address.into(),
        peer: peer.into(),
        vni: tunnel.vni,
        udp_port: tunnel.udp_port,
        is_geneve: is_geneve(gateway),
    }
}

fn is_geneve(gateway: &Gateway) -> bool {
    gateway.encapsulation == Encapsulation::Geneve
}

impl Build<'_> {
    fn gateway(&mut self, gateway: &Gateway, names: &mut Names) {
        let mut rows = Vec::new();
        for tunnel in &gateway.tunnels {
            let peers = gateway
                .peers
                .iter()
                .filter_map(|peer| Some(((*peer).into(), names.tunnel(&name_of(gateway, tunnel, *peer))?)));
            let peers = peers.collect();
            let is_geneve = is_geneve(gateway);
            let end =
                self.end(port_id(tunnel.port.0), tunnel.address, tunnel.udp_port, &gateway.peers, is_geneve);
            rows.push(end.map(|end| Row { end, vni: tunnel.vni, udp_port: tunnel.udp_port, peers }));
        }
        for (place, (tunnel, row)) in gateway.tunnels.iter().zip(&rows).enumerate() {
            let Some(row) = row else { continue };
            let twin =
                rows.iter().enumerate().find(|(other, _)| *other != place).and_then(|(_, row)| row.as_ref());
            let line = self.lines;
            self.lines += 1;
            for &(peer, id) in &row.peers {
                let twin = twin.and_then(|row| row.peers.iter().find(|(other, _)| *other == peer));
                let open = self.tunnel(gateway, tunnel, peer, line);
                self.open.insert(id, Tunnel { twin: twin.map_or(NOWHERE, |(_, id)| *id), ..open });
            }
        }
        let outer = gateway.tunnels.iter().position(|tunnel| tunnel.trust == Trust::Untrusted);
        let outer = outer.and_then(|place| rows.get(place)?.as_ref());
        if let Some(first) = outer.and_then(|row| row.peers.first()) {
            let demand = Demand { mode: gateway.syn_proxy, watched: Watched::Gateway(first.1) };
            let all =
                outer.into_iter().flat_map(|row| &row.peers).filter(|_| demand.mode != SynProxyMode::Off);
            self.demands.extend(all.map(|(_, id)| (*id, demand)));
        }
        // Both directions of a Geneve tunnel are one network.
        let networks = if is_geneve(gateway) { 1 } else { rows.len() };
        self.rows.extend(rows.into_iter().flatten().take(networks));
    }

    /// The segment that the port at this place is.
    fn segment(&mut self, before: Option<&Tunnels>, index: usize) -> Option<Segment> {
        let configured = self.config.ports.get(index)?.vxlan.as_ref()?;
        let carrier = port_id(configured.port.0);
        let own = port_id(index);
        let end = self.end(carrier, configured.local, configured.udp_port, &configured.remotes, false)?;
        let peers = configured.remotes.iter().map(|remote| ((*remote).into(), own)).collect();
        self.rows.push(Row { end, vni: configured.vni, udp_port: configured.udp_port, peers });
        let remote = |address: Addr| Remote {
            address,
            path: self.path(PathKey {
                carrier,
                address: configured.local.into(),
                peer: address,
                dscp: None,
                is_summed: true,
                is_geneve: false,
            }),
        };
        let mut remotes: SmallVec<[Remote; 2]> =
            configured.remotes.iter().map(|one| (*one).into()).map(remote).collect();
        remotes.sort_by_key(|remote| {
            self.paths.get(remote.path as usize).is_none_or(|path| path.next_hop.is_none())
        });
        Some(Segment::new(configured, carrier, remotes, before.and_then(|before| before.segment(own))))
    }

    /// The number of an address, at which tunnels to these peers end; `None` where there is no such port.
    fn end(
        &mut self,
        port: PortId,
        address: IpAddr,
        udp_port: u16,
        peers: &[IpAddr],
        is_geneve: bool,
    ) -> Option<u16> {
        let own = self.config.ports.get(port.index())?;
        let listens = own.host_services.iter().flatten().any(|service| {
            service.protocol == nva_config::HostProtocol::Udp
                && service.ports.contains(vxlan::WELL_KNOWN_PORT)
        });
        let ends = &mut self.ends.get_mut(port.index())?.all;
        let address = address.into();
        let place = ends.iter().position(|end| end.address == address).unwrap_or_else(|| {
            let mut udp_ports: Box<[u64; 1024]> = Box::new([0; 1024]);
            if !listens {
                // Whoever sends to the usual port is told why that is wrong.
                set(&mut udp_ports, vxlan::WELL_KNOWN_PORT);
            }
            let number = self.end_count;
            self.end_count += 1;
            ends.push(End {
                address,
                number,
                udp_ports,
                peers: Default::default(),
                geneve: Default::default(),
            });
            ends.len() - 1
        });
        let end = ends.get_mut(place)?;
        set(&mut end.udp_ports, udp_port);
        if is_geneve && !end.geneve.contains(&udp_port) {
            end.geneve.push(udp_port);
        }
        for peer in peers.iter().map(|peer| Addr::from(*peer)) {
            if !end.peers.contains(&peer) {
                end.peers.push(peer);
            }
        }
        Some(end.number)
    }

    fn tunnel(&mut self, gateway: &Gateway, tunnel: &nva_config::Tunnel, peer: Addr, line: u32) -> Tunnel {
        let carrier = port_id(tunnel.port.0);
        let path = self.path(PathKey {
            carrier,
            address: tunnel.address.into(),
            peer,
            dscp: gateway.dscp,
            is_summed: !gateway.zero_checksum_ipv6,
            is_geneve: is_geneve(gateway),
        });
        let link = self.ports.get(carrier.index()).map_or(0, |port| port.mtu);
        let mtu = gateway.mtu.map_or(link, |mtu| mtu.min(link));
        let overhead = self.paths.get(path as usize).map_or(0, Path::overhead);
        Tunnel {
            vni: tunnel.vni,
            udp_port: tunnel.udp_port,
            twin: NOWHERE,
            carrier,
            mtu: mtu.saturating_sub(overhead as u16),
            line,
            path,
            trust: tunnel.trust,
            is_open: true,
            clamps_mss: gateway.clamp_mss,
            takes_unsummed: gateway.zero_checksum_ipv6,
        }
    }

    fn path(&mut self, key: PathKey) -> u32 {
        let next = self.paths.len() as u32;
        let number = *self.path_numbers.entry(key.clone()).or_insert(next);
        if number == next {
            let PathKey { carrier, address, peer, dscp, is_summed, is_geneve } = key;
            let hop = self.routes.get(carrier.index()).and_then(|routes| routes.lookup(peer));
            let station = self.ports.get(carrier.index()).map(|port| port.mac).unwrap_or_default();
            self.paths.push(Path {
                outer: Outer::new(address, peer, is_summed),
                station: station.into(),
                next_hop: hop.map(|NextHop { gateway, .. }| gateway.unwrap_or(peer)),
                dscp,
                is_geneve,
            });
        }
        number
    }

    /// Every tunnel that has a number, in the order of the numbers: those that the configuration does not have are closed.
    fn numbered(&self, names: &[TunnelName]) -> (Box<[Tunnel]>, Box<[PortFacts]>) {
        let of = |(number, name): (usize, &TunnelName)| {
            let id = u16::try_from(number).map_or(NOWHERE, PortId::tunnel);
            let closed = Tunnel {
                vni: name.vni,
                udp_port: name.udp_port,
                twin: NOWHERE,
                carrier: name.carrier,
                mtu: 0,
                line: u32::MAX,
                path: u32::MAX,
                trust: name.trust(),
                is_open: false,
                clamps_mss: false,
                takes_unsummed: false,
            };
            let tunnel = self.open.get(&id).copied().unwrap_or(closed);
            let mac = self.ports.get(name.carrier.index()).map(|port| port.mac).unwrap_or_default();
            (tunnel, PortFacts { name: name.name.clone(), mac, mtu: tunnel.mtu, trust: tunnel.trust })
        };
        let (tunnels, facts): (Vec<_>, Vec<_>) = names.iter().enumerate().map(of).unzip();
        (tunnels.into(), facts.into())
    }
}

fn set(bits: &mut [u64; 1024], port: u16) {
    bits[usize::from(port >> 6)] |= 1 << (port & 63);
}
