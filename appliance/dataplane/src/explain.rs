//! Why a packet would pass or not: one new flow walked through the stages, on the same tables that the path uses, without sending
//! anything. Allocates and formats freely; never called by the path.

use crate::addr::Addr;
use crate::host::Local;
use crate::lb::{Selection, ServiceKind, Target};
use crate::policy::{Context, Judgement, LevelTrace};
use crate::route::NextHop;
use crate::snapshot::Snapshot;
use crate::verdict::{DropReason, PortId};
use crate::wire::{Cast, FlowKey, IcmpClass, Packet, Transport, protocol};
use nva_config::{Access, Direction};

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
    /// `protection`, `local`, `load_balancer`, `interface_group`, `subnet_group` or `route`.
    pub stage: &'static str,
    /// One line for people.
    pub detail: String,
    /// The group that was asked.
    pub group: Option<String>,
    /// Its deciding rule.
    pub rule: Option<String>,
    /// The rule's priority.
    pub priority: Option<u16>,
    /// What the stage decides.
    pub access: Option<Access>,
}

/// Walks the first packet of a flow, received on `port`, through the stages.
pub fn explain(snapshot: &Snapshot, port: PortId, key: &FlowKey) -> Explanation {
    let mut walk = Walk { snapshot, steps: Vec::new(), rule: None, backend: None };
    let reason = walk.stages(port, key).err();
    Explanation {
        access: if reason.is_some() { Access::Deny } else { Access::Allow },
        reason,
        rule: walk.rule,
        backend: walk.backend,
        steps: walk.steps,
    }
}

const CLOSED_BY_DEFAULT: &str = "closed by default; a flow from outside the virtual network to a frontend needs a security group, \
                                 on the backend's subnet or interface, that allows it";

struct Walk<'a> {
    snapshot: &'a Snapshot,
    steps: Vec<Step>,
    rule: Option<String>,
    backend: Option<String>,
}

impl Walk<'_> {
    fn stages(&mut self, port: PortId, key: &FlowKey) -> Result<(), DropReason> {
        self.protection(port, key)?;
        if self.local(port, key)? {
            return Ok(());
        }
        let target = self.load_balancer(key)?;
        let translated = target.map_or(*key, |target| target.translated_key(key));
        let location = target.map_or(key.dst, |target| target.address);
        self.groups(&translated, location, target.is_some())?;
        self.route(location)
    }

    fn say(&mut self, stage: &'static str, detail: String) {
        self.steps.push(Step { stage, detail, ..Step::default() });
    }

    fn protection(&mut self, port: PortId, key: &FlowKey) -> Result<(), DropReason> {
        let Some(facts) = self.snapshot.ports.get(port.index()) else { return Err(DropReason::NotForUs) };
        let source_route = self.snapshot.routes.lookup(key.src);
        match self.snapshot.guard.check(&specimen(key), &[], port, facts.trust, source_route) {
            Ok(()) => {
                let detail = format!("{} may come in on port {}", key.src, facts.name);
                self.say("protection", detail);
                Ok(())
            }
            Err(reason) => {
                let detail = format!("dropped as {reason}: {}", reason.description());
                self.say("protection", detail);
                Err(reason)
            }
        }
    }

    /// Whether the packet ends here, answered.
    fn local(&mut self, port: PortId, key: &FlowKey) -> Result<bool, DropReason> {
        let Some(Local::PortAddress(owner)) = self.snapshot.local.kind(port, key.dst) else {
            return Ok(false);
        };
        if matches!(key.protocol, protocol::ICMP | protocol::ICMPV6) {
            self.say("local", format!("{} is the appliance's own address: it answers echo", key.dst));
            return Ok(true);
        }
        let listens =
            !key.dst.is_v6_link_local() && self.snapshot.services.listens(owner, key.protocol, key.dst_port);
        let port_name =
            |id: PortId| self.snapshot.ports.get(id.index()).map_or("?", |facts| facts.name.as_str());
        let what = match (listens, port == owner) {
            (true, true) => "a service of the host: it goes to the kernel's sockets".to_owned(),
            (true, false) => {
                format!("a service of the host, which is reached by port {} only", port_name(owner))
            }
            (false, _) => "and nothing listens there".to_owned(),
        };
        self.say("local", format!("{} is the appliance's own address, {what}", key.dst));
        if listens && port == owner {
            return Ok(true);
        }
        Err(DropReason::DeniedByRule)
    }

    fn load_balancer(&mut self, key: &FlowKey) -> Result<Option<Target>, DropReason> {
        match self.snapshot.balancer.select(key) {
            Selection::NotAFrontend => Ok(None),
            Selection::NoRule => {
                self.say("load_balancer", format!("{} is a frontend, and no rule listens here", key.dst));
                Err(DropReason::DeniedByRule)
            }
            Selection::NoHealthyBackend => {
                self.say("load_balancer", "the pool has no backend that may take the flow".to_owned());
                Err(DropReason::NoHealthyBackend)
            }
            Selection::Backend(target) => {
                let backend = self.snapshot.names().backend_name(target.backend).to_owned();
                let detail = self.describe(&target, key, &backend);
                self.backend = Some(backend);
                self.say("load_balancer", detail);
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
            self.level(&trace, key, location);
        }
        let decision = self.snapshot.policy.decide_at(key, context, location);
        self.rule = decision.rule.map(|id| self.snapshot.names().rule_name(id).to_owned());
        match decision.access {
            Access::Allow => Ok(()),
            Access::Deny => Err(DropReason::DeniedByRule),
        }
    }

    fn level(&mut self, trace: &LevelTrace, key: &FlowKey, location: Addr) {
        let stage = trace.level.name();
        let (direction, whose) = match trace.level.direction() {
            Direction::Outbound => ("outbound", key.src),
            Direction::Inbound => ("inbound", location),
        };
        let Some(judgement) = &trace.judgement else {
            let why = if trace.closed_by_default { CLOSED_BY_DEFAULT } else { "no group at this level" };
            self.say(stage, format!("{direction}, {whose}: {why}"));
            return;
        };
        let detail = format!("{direction}, {whose}: {}", in_words(judgement));
        self.steps.push(Step {
            stage,
            detail,
            group: Some(judgement.group.clone()),
            rule: Some(judgement.rule.clone()),
            priority: Some(judgement.priority),
            access: Some(judgement.access),
        });
    }

    fn route(&mut self, destination: Addr) -> Result<(), DropReason> {
        let Some(NextHop { port, gateway }) = self.snapshot.routes.lookup(destination) else {
            self.say("route", format!("no route to {destination}"));
            return Err(DropReason::NoRoute);
        };
        let name = self.snapshot.ports.get(port.index()).map_or("?", |facts| facts.name.as_str());
        let detail = match gateway {
            Some(gateway) => format!("{destination} via {gateway}, out of port {name}"),
            None => format!("{destination} is on the link of port {name}"),
        };
        self.say("route", detail);
        Ok(())
    }
}

/// What a group decides, and which of the rules before nearly would have.
fn in_words(judgement: &Judgement) -> String {
    let does = match judgement.access {
        Access::Allow => "allows",
        Access::Deny => "denies",
    };
    let mut words =
        format!("{} rule {} (priority {}) {does}", judgement.group, judgement.rule, judgement.priority);
    for miss in &judgement.near_misses {
        let would = match miss.access {
            Access::Allow => "allow",
            Access::Deny => "deny",
        };
        words += &format!(
            "; {} (priority {}) would {would} but for its {}",
            miss.rule,
            miss.priority,
            miss.failed.name()
        );
    }
    words
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
