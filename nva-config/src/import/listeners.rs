//! A load balancer's probes, rules, inbound NAT and outbound rules.

use super::balancers::Scope;
use super::draft::{BalancingRule, Flow, InboundNat, Listener, Outbound, Probe};
use super::journal::{Journal, Spot};
use super::names::Names;
use super::rules::word;
use super::view::{Object, last_segment};
use crate::model::{BalancingProtocol, Distribution, ProbeProtocol};
use crate::report::quote;

/// A probe by its name here, and what it says of pools without a healthy backend.
pub(super) struct KnownProbe {
    name: String,
    all_up: bool,
}

/// The cloud's default, in minutes.
const IDLE_TIMEOUT_MIN: u64 = 4;
/// The cloud's default interval of probes, in seconds.
const INTERVAL_S: u64 = 15;

const FRONTEND: [&str; 3] =
    ["frontendipconfiguration", "frontendipconfigurationid", "frontendipconfigurationname"];
const POOLS: [&str; 3] = ["backendaddresspools", "backendaddresspoolids", "backendaddresspool"];
const IDLE: [&str; 1] = ["idletimeoutinminutes"];
const RESET: [&str; 2] = ["enabletcpreset", "tcpresetenabled"];
const FLOATING: [&str; 2] = ["enablefloatingip", "floatingipenabled"];

/// The name of a part of a balancer.
pub(super) fn name_of<'j>(object: &Object<'j>, journal: &mut Journal) -> Option<&'j str> {
    let name = object.need(&["name"], "name", journal)?.text(journal)?;
    Some(last_segment(name))
}

impl Scope<'_> {
    pub(super) fn probe(&mut self, object: &Object<'_>, names: &mut Names, journal: &mut Journal) {
        let name = name_of(object, journal);
        let protocol = word::<ProbeProtocol>(object, "protocol", journal);
        let port = object.need(&["port"], "port", journal).and_then(|item| item.number(1, 65_535, journal));
        let path =
            object.get(&["requestpath"], journal).and_then(|item| Some((item.text(journal)?, item.spot)));
        let interval = object.get(&["intervalinseconds"], journal);
        let interval_s = match &interval {
            Some(item) => item.number(1, 3600, journal),
            None => {
                journal.differs(
                    &object.spot,
                    format!("no interval is given; it is the cloud's default of {INTERVAL_S} s here"),
                );
                Some(INTERVAL_S)
            }
        };
        let threshold = threshold(object, journal);
        let all_up = object.get(&["nohealthybackendsbehavior"], journal).and_then(|item| {
            let text = item.text(journal)?;
            let known =
                text.eq_ignore_ascii_case("AllProbedUp") || text.eq_ignore_ascii_case("AllProbedDown");
            if !known {
                journal.problem(
                    &item.spot,
                    format!("{} is not known here; AllProbedUp or AllProbedDown is needed", quote(text)),
                );
            }
            Some(text.eq_ignore_ascii_case("AllProbedUp"))
        });
        object.ignore_rest(journal);
        let (Some(name), Some(protocol), Some(port), Some(interval_s)) = (name, protocol, port, interval_s)
        else {
            return;
        };
        let path = path.and_then(|(path, spot)| probe_path(protocol, path, &spot, journal));
        let fitted = names.fit(name, &object.spot, journal);
        journal.taken(&object.spot, format!("load_balancers.{}.probes.{fitted}", self.draft.name));
        let known = KnownProbe { name: fitted.clone(), all_up: all_up.unwrap_or(false) };
        self.probes.insert(name.to_ascii_lowercase(), known);
        self.draft.probes.push(Probe { name: fitted, protocol, port, path, interval_s, threshold });
    }

    pub(super) fn rule(&mut self, object: &Object<'_>, names: &mut Names, journal: &mut Journal) {
        let listener = self.listener(object, journal);
        let pools = object.references(&POOLS, journal);
        let probe = object.reference(&["probe", "probeid"], journal);
        let distribution = object.get(&["loaddistribution"], journal).and_then(|item| {
            let text = item.text(journal)?;
            let found = distribution(text);
            if found.is_none() {
                journal.problem(
                    &item.spot,
                    format!(
                        "{} is not known here; Default, SourceIP or SourceIPProtocol is needed",
                        quote(text)
                    ),
                );
            }
            found
        });
        let no_snat = object.boolean(&["disableoutboundsnat"], journal).unwrap_or(false);
        // What the plural key names, the singular one repeats.
        object.peek(&POOLS);
        let name = name_of(object, journal);
        object.ignore_rest(journal);
        let (Some(mut listener), Some(name)) = (listener, name) else { return };
        let mut found: Vec<&str> = pools.iter().map(|(id, _)| last_segment(id)).collect();
        found.sort_by_key(|name| name.to_ascii_lowercase());
        found.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
        let pool = match found.as_slice() {
            [] => {
                return journal.left_out(
                    &object.spot,
                    format!("the rule {} has no pool, so it sends nothing anywhere", quote(name)),
                );
            }
            [pool] => self.pools.get(&pool.to_ascii_lowercase()).copied(),
            _ => return journal.left_out(
                &object.spot,
                format!(
                    "the rule {} has several pools, as a gateway load balancer's; write `gateway` for them",
                    quote(name)
                ),
            ),
        };
        let Some(pool) = pool else {
            return journal.problem(
                &object.spot,
                format!("the pool {} is not in the input; give it too", quote(found[0])),
            );
        };
        let probe = match probe {
            None => None,
            Some((id, spot)) => match self.probes.get(&last_segment(id).to_ascii_lowercase()) {
                Some(known) => Some((known.name.clone(), known.all_up)),
                None => {
                    return journal.problem(
                        &spot,
                        format!("the probe {} is not in the input; give it too", quote(last_segment(id))),
                    );
                }
            },
        };
        if self.public.contains(&listener.frontend) && !no_snat {
            let message = format!(
                "the cloud also translates what the backends of {} open themselves to the frontend's address; here only `outbound` does",
                quote(name)
            );
            journal.differs(&object.spot, message);
        }
        let all_up = probe.as_ref().is_some_and(|(_, all_up)| *all_up);
        let up = *self.up_when_down.entry(pool).or_insert(all_up);
        let Some(pool) = self.draft.pools.get_mut(pool) else { return };
        pool.up_when_down = up && all_up;
        if up != all_up {
            let message = format!(
                "the probes of the rules of the pool {} differ in `noHealthyBackendsBehavior`; with none healthy it refuses new flows here",
                quote(&pool.name)
            );
            journal.differs(&object.spot, message);
        }
        let pool = pool.name.clone();
        listener.flow.name = names.fit(name, &object.spot, journal);
        journal
            .taken(&object.spot, format!("load_balancers.{}.rules.{}", self.draft.name, listener.flow.name));
        self.draft.rules.push(BalancingRule {
            listener,
            pool,
            probe: probe.map(|(name, _)| name),
            distribution: distribution.unwrap_or(Distribution::FiveTuple),
        });
    }

    pub(super) fn nat(&mut self, object: &Object<'_>, names: &mut Names, journal: &mut Journal) {
        let Some(name) = name_of(object, journal) else { return };
        let mapped = self.mapped_ports.remove(&name.to_ascii_lowercase()).unwrap_or_default();
        let is_range = ["frontendportrangestart", "frontendportstart"].iter().any(|key| {
            let start = object.peek(&[key]).and_then(|item| item.number(0, 65_535, journal));
            start.is_some_and(|port| port > 0)
        });
        let behind = object.reference(&["backendipconfiguration", "backendipconfigurationid"], journal);
        let is_behind = behind.is_some();
        let station = match behind {
            Some((id, spot)) => self.station(id, &spot, journal).map(|station| (station, spot)),
            None => self.joined_nat(name).map(|station| (station, object.spot.clone())),
        };
        if is_range {
            object.peek(&[
                "frontendportrangeend",
                "frontendportend",
                "backendaddresspool",
                "backendaddresspoolid",
            ]);
            return self.nat_range(object, name, mapped, names, journal);
        }
        let listener = self.listener(object, journal);
        object.ignore_rest(journal);
        let Some(mut listener) = listener else { return };
        let Some((station, spot)) = station else {
            if !is_behind {
                let message =
                    format!("no backend is behind the inbound NAT rule {} in the input", quote(name));
                journal.left_out(&object.spot, message);
            }
            return;
        };
        let backend = self.backend_of(&station, &spot, journal);
        listener.flow.name = names.fit(name, &object.spot, journal);
        journal.taken(
            &object.spot,
            format!("load_balancers.{}.inbound_nat.{}", self.draft.name, listener.flow.name),
        );
        self.draft.inbound_nat.push(InboundNat { listener, backend });
    }

    /// A rule that gives each member of a pool a port: one rule each, where the ports are known.
    fn nat_range(
        &mut self,
        object: &Object<'_>,
        name: &str,
        mapped: Vec<(super::balancers::Station, u64, u64)>,
        names: &mut Names,
        journal: &mut Journal,
    ) {
        if mapped.is_empty() {
            let message = format!(
                "which port the cloud gave which backend through the rule {} is not in the input; write one `inbound_nat` for each",
                quote(name)
            );
            journal.left_out(&object.spot, message);
        }
        for (station, port, backend_port) in mapped {
            let Some(mut listener) = self.listener_on(object, Some((port, backend_port)), journal) else {
                continue;
            };
            let backend = self.backend_of(&station, &object.spot, journal);
            listener.flow.name = names.fit(&format!("{name}-{backend}"), &object.spot, journal);
            journal.taken(
                &object.spot,
                format!("load_balancers.{}.inbound_nat.{}", self.draft.name, listener.flow.name),
            );
            self.draft.inbound_nat.push(InboundNat { listener, backend });
        }
        object.peek(&["frontendport", "backendport"]);
        object.ignore_rest(journal);
    }

    pub(super) fn outbound(&mut self, object: &Object<'_>, names: &mut Names, journal: &mut Journal) {
        let Some(name) = name_of(object, journal) else { return };
        let flow = flow(object, journal);
        let frontends = object.references(&["frontendipconfigurations", "frontendipconfiguration"], journal);
        let pool = object.reference(&["backendaddresspool", "backendaddresspoolid"], journal);
        let ports = object.get(&["allocatedoutboundports"], journal);
        let ports_per_backend = ports.map_or(Some(0), |item| item.number(0, 64_000, journal));
        object.ignore_rest(journal);
        let mut found = Vec::new();
        for (id, spot) in &frontends {
            found.extend(self.frontend_of(id, spot, journal));
        }
        let Some((pool_id, spot)) = pool else {
            return journal
                .problem(&object.spot, "`backendAddressPool` is missing; is this the whole export?");
        };
        let pool = self
            .pools
            .get(&last_segment(pool_id).to_ascii_lowercase())
            .and_then(|place| self.draft.pools.get(*place));
        let Some(pool) = pool.map(|pool| pool.name.clone()) else {
            return journal.problem(
                &spot,
                format!("the pool {} is not in the input; give it too", quote(last_segment(pool_id))),
            );
        };
        let (Some(mut flow), Some(ports_per_backend)) = (flow, ports_per_backend) else { return };
        if found.is_empty() {
            if frontends.is_empty() {
                journal.problem(
                    &object.spot,
                    "`frontendIPConfigurations` is missing; is this the whole export?",
                );
            }
            return;
        }
        flow.name = names.fit(name, &object.spot, journal);
        journal.taken(&object.spot, format!("load_balancers.{}.outbound.{}", self.draft.name, flow.name));
        self.draft.outbound.push(Outbound { flow, frontends: found, pool, ports_per_backend });
    }

    fn listener(&self, object: &Object<'_>, journal: &mut Journal) -> Option<Listener> {
        self.listener_on(object, None, journal)
    }

    /// What rules and inbound NAT share; its name is given later. `ports` takes the place of the object's.
    fn listener_on(
        &self,
        object: &Object<'_>,
        ports: Option<(u64, u64)>,
        journal: &mut Journal,
    ) -> Option<Listener> {
        let flow = flow(object, journal);
        let frontend = object
            .reference(&FRONTEND, journal)
            .or_else(|| {
                journal
                    .problem(&object.spot, "`frontendIPConfiguration` is missing; is this the whole export?");
                None
            })
            .and_then(|(id, spot)| self.frontend_of(id, &spot, journal));
        object.peek(&FRONTEND);
        let ports = ports.or_else(|| {
            let frontend =
                object.need(&["frontendport"], "frontendPort", journal)?.number(0, 65_535, journal)?;
            let backend = object.get(&["backendport"], journal);
            Some((frontend, backend.map_or(Some(frontend), |item| item.number(0, 65_535, journal))?))
        });
        let floating_ip = object.boolean(&FLOATING, journal).unwrap_or(false);
        object.peek(&FLOATING);
        let (flow, (port, backend_port)) = (flow?, ports?);
        let all = flow.protocol == BalancingProtocol::All;
        if all != (port == 0) || all != (backend_port == 0) {
            let message = format!(
                "it takes port {port} to port {backend_port} with the protocol {}; here port 0, every port, goes with All on both sides and with nothing else",
                flow.protocol
            );
            journal.left_out(&object.spot, message);
            return None;
        }
        Some(Listener { flow, frontend: frontend?, port, backend_port, floating_ip })
    }

    fn frontend_of(&self, id: &str, spot: &Spot, journal: &mut Journal) -> Option<String> {
        let found = self.frontends.get(&last_segment(id).to_ascii_lowercase()).cloned();
        if found.is_none() {
            journal.problem(
                spot,
                format!("the frontend {} is not taken, so this cannot be", quote(last_segment(id))),
            );
        }
        found
    }
}

/// Protocol and times; the name is given later.
fn flow(object: &Object<'_>, journal: &mut Journal) -> Option<Flow> {
    let protocol = word::<BalancingProtocol>(object, "protocol", journal);
    let idle = object.get(&IDLE, journal).map_or(Some(IDLE_TIMEOUT_MIN), |item| item.number(1, 120, journal));
    let tcp_reset = object.boolean(&RESET, journal).unwrap_or(false);
    object.peek(&RESET);
    Some(Flow { name: String::new(), protocol: protocol?, idle_timeout_min: idle?, tcp_reset })
}

/// `probeThreshold`, both ways; without it `numberOfProbes`, which the cloud has kept from earlier days.
fn threshold(object: &Object<'_>, journal: &mut Journal) -> u64 {
    let number = |item: super::view::Item<'_>, journal: &mut Journal| item.number(1, 1000, journal);
    let old = object.get(&["numberofprobes"], journal);
    if let Some(item) = object.get(&["probethreshold"], journal) {
        if let Some(old) = &old {
            journal.ignored(&old.spot);
        }
        return number(item, journal).unwrap_or(1);
    }
    let Some(old) = old else { return 1 };
    journal.differs(&old.spot, "the cloud counts these failures to take a backend out; here it is `threshold`, which counts both ways");
    number(old, journal).unwrap_or(1)
}

fn probe_path(protocol: ProbeProtocol, path: &str, spot: &Spot, journal: &mut Journal) -> Option<String> {
    if protocol == ProbeProtocol::Tcp {
        journal.ignored(spot);
        return None;
    }
    if path.starts_with('/') {
        return Some(path.to_owned());
    }
    journal.differs(spot, format!("{} is asked for with a `/` before it here", quote(path)));
    Some(format!("/{path}"))
}

fn distribution(text: &str) -> Option<Distribution> {
    match text.to_ascii_lowercase().as_str() {
        "default" => Some(Distribution::FiveTuple),
        "sourceip" => Some(Distribution::SourceIp),
        "sourceipprotocol" => Some(Distribution::SourceIpProtocol),
        _ => None,
    }
}
