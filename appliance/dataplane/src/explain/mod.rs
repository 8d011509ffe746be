//! Why a packet would pass or not: one new flow walked through the stages, on the same tables that the path uses, without sending
//! anything. Allocates and formats freely; never called by the path.

mod group;

pub use group::{Missed, Terms};

use crate::addr::{Addr, Mac};
use crate::host::Local;
use crate::lb::{Selection, ServiceKind, Target};
use crate::policy::{Context, Expansions};
use crate::route::NextHop;
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, PortId};
use crate::wire::{Cast, FlowKey, IcmpClass, Packet, Transport, protocol};
use nva_config::{Access, AntiSpoofing, Config, Direction, Prefix, SynProxyMode, Trust};

/// A walk through the stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the packet would pass.
    pub access: Access,
    /// Why not, in the words of the drop reasons.
    pub reason: Option<DropReason>,
    /// The deciding rule as `GROUP/RULE`.
    pub rule: Option<String>,
    /// The backend that would take the flow.
    pub backend: Option<String>,
    /// What each stage said, in order.
    pub steps: Vec<Step>,
}

/// What one stage said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// `protection`, `local`, `frontends`, `load_balancer`, `interface_group`, `subnet_group`, `syn_proxy` or `route`.
    pub stage: &'static str,
    /// For people, one thought each: what it decides first.
    pub lines: Vec<String>,
    /// Which of a group's rules were asked.
    pub direction: Option<Direction>,
    /// For whose sake they were.
    pub address: Option<Addr>,
    /// The group that was asked.
    pub group: Option<String>,
    /// Its deciding rule.
    pub rule: Option<String>,
    /// The rule's priority.
    pub priority: Option<u16>,
    /// What the stage decides.
    pub access: Option<Access>,
    /// What the deciding rule matches.
    pub matches: Option<Terms>,
    /// The rules before it that fail in one field only.
    pub near_misses: Vec<Missed>,
    /// The tags and application security groups among these, and what they stand for.
    pub expanded: Vec<(String, Vec<Prefix>)>,
    /// What the load balancer does to the destination: before and after.
    pub translation: Option<[String; 2]>,
    /// Where the packet goes next, how that station is known, and out of which port.
    pub next_hop: Option<Hop>,
}

/// The next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its address.
    pub address: Addr,
    /// The port towards it.
    pub port: String,
    /// Its Ethernet address, where that is configured; else it is asked for.
    pub mac: Option<Mac>,
}

/// Walks the first packet of a flow, received on `port`, through the stages. `config` is what the snapshot was made of.
pub fn explain(config: &Config, snapshot: &Snapshot, port: PortId, key: &FlowKey) -> Explanation {
    let expansions = Expansions::new(config);
    let mut walk = Walk { config, snapshot, expansions, steps: Vec::new(), rule: None, backend: None };
    let reason = walk.stages(port, key).err();
    Explanation {
        access: if reason.is_some() { Access::Deny } else { Access::Allow },
        reason,
        rule: walk.rule,
        backend: walk.backend,
        steps: walk.steps,
    }
}

struct Walk<'a> {
    config: &'a Config,
    snapshot: &'a Snapshot,
    expansions: Expansions<'a>,
    steps: Vec<Step>,
    rule: Option<String>,
    backend: Option<String>,
}

impl Walk<'_> {
    fn stages(&mut self, port: PortId, key: &FlowKey) -> Result<(), DropReason> {
        if port.is_tunnel() {
            return self.tunnel_stages(port, key);
        }
        if key.dst.is_v6_link_local() {
            // Of the link: for the appliance or for nobody.
            let local = self.local(port, key)?;
            return if local { Ok(()) } else { Err(DropReason::NoRoute) };
        }
        if self.outer(port, key)? {
            return Ok(());
        }
        self.protection(port, key)?;
        if self.local(port, key)? {
            return Ok(());
        }
        let target = self.load_balancer(key)?;
        let translated = target.map_or(*key, |target| target.translated_key(key));
        let location = target.map_or(key.dst, |target| target.address);
        self.groups(&translated, location, target.is_some())?;
        self.syn_proxy(key, self.demand(port, key));
        self.route(location)
    }

    /// What is demanded of the connection, where it has to be proved.
    fn demand(&self, port: PortId, key: &FlowKey) -> Option<(SynProxyMode, String)> {
        let snapshot = self.snapshot;
        if port.is_tunnel() {
            let demand = snapshot.tunnels.demand(port)?;
            return Some((demand.mode, format!("the gateway of tunnel {}", snapshot.facts(port).name)));
        }
        if snapshot.balancer.is_frontend(key.dst) {
            return Some((snapshot.balancer.syn_proxy(key), format!("the frontend {}", key.dst)));
        }
        if snapshot.facts(port).trust == Trust::Trusted {
            return None;
        }
        let demand = snapshot.demands.of_subnet(key.dst)?;
        let subnets = &self.config.virtual_network.subnets;
        let holds = |prefix: &Prefix| prefix.contains(key.dst.into());
        let name = subnets.iter().find(|subnet| subnet.prefixes.iter().any(holds)).map(|s| s.name.as_str());
        Some((demand.mode, format!("the subnet {}", name.unwrap_or("?"))))
    }

    /// What the SYN proxy does with the first packet of a connection. Nothing is said where it never asks.
    fn syn_proxy(&mut self, key: &FlowKey, demand: Option<(SynProxyMode, String)>) {
        let Some((mode, of)) = demand.filter(|_| key.protocol == protocol::TCP) else { return };
        let answered = "a SYN is answered with a cookie, and passes once the client has shown it";
        let threshold = self.snapshot.syn_flood.map_or(0, |limits| limits.proxy_threshold);
        let lines = match mode {
            SynProxyMode::Always => vec![format!("{of} asks every client for a proof: {answered}")],
            SynProxyMode::Auto if threshold != 0 => vec![format!(
                "while {of} gets more than {threshold} SYNs a second it asks for proofs: {answered}"
            )],
            SynProxyMode::Auto | SynProxyMode::Off => return,
        };
        self.say("syn_proxy", lines);
    }

    /// The stages of a packet in a tunnel.
    fn tunnel_stages(&mut self, port: PortId, key: &FlowKey) -> Result<(), DropReason> {
        let snapshot = self.snapshot;
        // With Geneve the source says by which one it comes.
        let port = match snapshot.tunnels.is_geneve(port) {
            true => snapshot.tunnels.direction(port, key.src),
            false => port,
        };
        let (facts, frontends) = (snapshot.facts(port), &snapshot.tunnels.frontends);
        let ways = (snapshot.tunnels.open(port), snapshot.tunnels.way_out(port, key.dst));
        let (Some(tunnel), Some(out)) = ways else { return Err(DropReason::TunnelUnknownVni) };
        let are_trusted = |source| frontends.are_trusted(source);
        if let Err(reason) = snapshot.guard.check_tunnelled(&specimen(key), &[], facts.trust, are_trusted) {
            self.say("protection", vec![format!("dropped as {reason}: {}", reason.description())]);
            return Err(reason);
        }
        self.say("protection", vec![format!("{} may come in by the tunnel {}", key.src, facts.name)]);
        for (src, dst) in frontends.seen(key) {
            let seen = FlowKey { src, dst, ..*key };
            if seen != *key {
                let has_ports = matches!(key.protocol, protocol::TCP | protocol::UDP);
                let end = |address: Addr, port| match has_ports {
                    true => endpoint(address, port),
                    false => address.to_string(),
                };
                let ends = format!("{} to {}", end(src, key.src_port), end(dst, key.dst_port));
                self.say("frontends", vec![format!("rules see a packet from {ends}")]);
            }
            self.groups(&seen, dst, dst != key.dst)?;
        }
        self.syn_proxy(key, self.demand(port, key));
        let (out, peer) = (snapshot.facts(out), snapshot.tunnels.path(tunnel));
        match peer.filter(|path| path.next_hop.is_some()) {
            Some(path) => {
                let detail = format!("unchanged, by the tunnel {} to {}", out.name, path.outer.destination());
                self.say("route", vec![detail]);
                Ok(())
            }
            None => {
                let carrier = snapshot.facts(tunnel.carrier);
                self.say("route", vec![format!("no route to the tunnel's peer by port {}", carrier.name)]);
                Err(DropReason::NoRoute)
            }
        }
    }

    /// Whether the packet is the outer one of tunnels, in which what is inside decides.
    fn outer(&mut self, port: PortId, key: &FlowKey) -> Result<bool, DropReason> {
        let tunnels = &self.snapshot.tunnels;
        if key.protocol != protocol::UDP || !tunnels.take(port, key.dst, key.dst_port) {
            return Ok(false);
        }
        let inside = tunnels.between(port, key.src, key.dst, key.dst_port);
        if inside.is_empty() {
            let is_peer = tunnels.end_at(port, key.dst, key.src);
            let reason = if is_peer { DropReason::TunnelWrongPort } else { DropReason::TunnelBadPeer };
            self.say("tunnel", vec![format!("dropped as {reason}: {}", reason.description())]);
            return Err(reason);
        }
        let names: Vec<&str> =
            inside.into_iter().map(|port| self.snapshot.facts(port).name.as_str()).collect();
        let (names, ports) = (names.join(" or "), names.join(" or --port "));
        let lines = vec![
            format!("the outer packet of the tunnel {names}: what is inside decides"),
            format!("explain that, with --port {ports}"),
        ];
        self.say("tunnel", lines);
        Ok(true)
    }

    fn say(&mut self, stage: &'static str, lines: Vec<String>) {
        self.steps.push(Step { stage, lines, ..Step::default() });
    }

    fn protection(&mut self, port: PortId, key: &FlowKey) -> Result<(), DropReason> {
        let Some(facts) = self.snapshot.ports.get(port.index()) else { return Err(DropReason::NotForUs) };
        let source_route = self.snapshot.routes.lookup(key.src);
        let checked = self.snapshot.guard.check(&specimen(key), &[], port, facts.trust, source_route);
        let way_back = match source_route {
            Some(next) => format!("the route to {} leads out of port {}", key.src, self.port_name(next.port)),
            None => format!("no route leads to {}", key.src),
        };
        let mut lines = match checked {
            Ok(()) => vec![format!("{} may come in on port {}", key.src, facts.name)],
            Err(reason) => vec![format!("dropped as {reason}: {}", reason.description())],
        };
        match checked {
            Ok(()) if self.config.protection.anti_spoofing == AntiSpoofing::Off => {
                lines.push("anti-spoofing is off".into());
            }
            Ok(()) | Err(DropReason::Spoofed) => lines.push(way_back),
            Err(_) => {}
        }
        let space = &self.config.virtual_network.address_space;
        let inside = space.iter().find(|prefix| prefix.contains(key.src.into()));
        if let (Err(DropReason::Spoofed), Trust::Untrusted, Some(prefix)) = (checked, facts.trust, inside) {
            lines.push(format!("it is of the virtual network ({prefix}), which is behind no untrusted port"));
        }
        self.say("protection", lines);
        checked
    }

    fn port_name(&self, id: PortId) -> &str {
        self.snapshot.ports.get(id.index()).map_or("?", |facts| facts.name.as_str())
    }

    /// Whether the packet ends here, answered.
    fn local(&mut self, port: PortId, key: &FlowKey) -> Result<bool, DropReason> {
        let Some(Local::PortAddress(owner)) = self.snapshot.local.kind(port, key.dst) else {
            return Ok(false);
        };
        if matches!(key.protocol, protocol::ICMP | protocol::ICMPV6) {
            self.say("local", vec![format!("{} is the appliance's own address: it answers echo", key.dst)]);
            return Ok(true);
        }
        let listens =
            !key.dst.is_v6_link_local() && self.snapshot.services.listens(owner, key.protocol, key.dst_port);
        let what = match (listens, port == owner) {
            (true, true) => "a service of the host: it goes to the kernel's sockets".to_owned(),
            (true, false) => {
                format!("a service of the host, which is reached by port {} only", self.port_name(owner))
            }
            (false, _) => "and nothing listens there".to_owned(),
        };
        self.say("local", vec![format!("{} is the appliance's own address, {what}", key.dst)]);
        if listens && port == owner {
            return Ok(true);
        }
        Err(DropReason::DeniedByRule)
    }

    fn load_balancer(&mut self, key: &FlowKey) -> Result<Option<Target>, DropReason> {
        match self.snapshot.balancer.select(key) {
            Selection::NotAFrontend => Ok(None),
            Selection::NoRule => {
                let at = endpoint(key.dst, key.dst_port);
                self.say(
                    "load_balancer",
                    vec![format!("{} is a frontend, and no rule listens at {at}", key.dst)],
                );
                Err(DropReason::DeniedByRule)
            }
            Selection::NoHealthyBackend => {
                self.say("load_balancer", vec!["the pool has no backend that may take the flow".to_owned()]);
                Err(DropReason::NoHealthyBackend)
            }
            Selection::Backend(target) => {
                let backend = self.snapshot.names().backend_name(target.backend).to_owned();
                let detail = self.describe(&target, key, &backend);
                let translated = target.translated_key(key);
                self.steps.push(Step {
                    stage: "load_balancer",
                    lines: vec![detail],
                    address: Some(target.address),
                    translation: (translated != *key).then(|| {
                        [(key.dst, key.dst_port), (translated.dst, translated.dst_port)]
                            .map(|(address, port)| endpoint(address, port))
                    }),
                    ..Step::default()
                });
                self.backend = Some(backend);
                Ok(Some(target))
            }
        }
    }

    fn describe(&self, target: &Target, key: &FlowKey, backend: &str) -> String {
        let from = endpoint(key.dst, key.dst_port);
        let translated = target.translated_key(key);
        let to = if target.floating_ip {
            format!("{from} delivered as it is to {}", target.address)
        } else {
            format!("{from} becomes {}", endpoint(translated.dst, translated.dst_port))
        };
        match self.snapshot.balancer.service(target.service) {
            Some(service) => {
                let kind = match service.kind {
                    ServiceKind::Rule => "rule",
                    ServiceKind::InboundNat(_) => "inbound NAT",
                };
                format!("{} {kind} {}: backend {backend}, {to}", service.load_balancer, service.name)
            }
            None => format!("backend {backend}, {to}"),
        }
    }

    fn groups(&mut self, key: &FlowKey, location: Addr, load_balanced: bool) -> Result<(), DropReason> {
        let context = Context { load_balanced };
        for trace in self.snapshot.policy.trace_at(key, context, location) {
            self.steps.push(group::level(&trace, key, location, self.config, &mut self.expansions));
        }
        let decision = self.snapshot.policy.decide_at(key, context, location);
        self.rule = decision.rule.map(|id| self.snapshot.names().rule_name(id).to_owned());
        match decision.access {
            Access::Allow => Ok(()),
            Access::Deny => Err(DropReason::DeniedByRule),
        }
    }

    fn route(&mut self, destination: Addr) -> Result<(), DropReason> {
        let Some(NextHop { port, gateway }) = self.snapshot.routes.lookup(destination) else {
            self.say("route", vec![format!("no route to {destination}")]);
            return Err(DropReason::NoRoute);
        };
        let name = self.port_name(port);
        let way = match gateway {
            Some(gateway) => format!("{destination} via {gateway}, out of port {name}"),
            None => format!("{destination} is on the link of port {name}"),
        };
        let station = gateway.unwrap_or(destination);
        let known = self.snapshot.static_neighbors.iter();
        let mac =
            known.filter(|(p, address, _)| (*p, *address) == (port, station)).map(|(.., mac)| *mac).next();
        let asked = if station.as_v4().is_some() { "ARP" } else { "neighbour discovery" };
        let known = match mac {
            Some(mac) => format!("next hop {station} is {mac}, a static neighbour"),
            None => format!("next hop {station} is found by {asked}"),
        };
        let hop = Hop { address: station, port: name.to_owned(), mac };
        let lines = vec![way, known];
        self.steps.push(Step { stage: "route", lines, next_hop: Some(hop), ..Step::default() });
        Ok(())
    }
}

fn endpoint(address: Addr, port: u16) -> String {
    match address.as_v4() {
        Some(_) => format!("{address}:{port}"),
        None => format!("[{address}]:{port}"),
    }
}

/// A packet with this key and nothing remarkable else.
fn specimen(key: &FlowKey) -> Packet {
    let transport = match key.protocol {
        protocol::UDP => Transport::Udp,
        protocol::ICMP => icmp(8),
        protocol::ICMPV6 => icmp(128),
        _ => Transport::Other,
    };
    Packet {
        key: *key,
        family: key.dst.family(),
        cast: Cast::Unicast,
        ttl: 64,
        dont_fragment: true,
        l3: 14,
        l4: 34,
        payload: 42,
        payload_end: 42,
        end: 42,
        fragment: None,
        transport,
    }
}

fn icmp(kind: u8) -> Transport {
    Transport::Icmp(crate::wire::Icmp { kind, code: 0, class: IcmpClass::EchoRequest })
}
