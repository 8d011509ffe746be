//! Load balancers: frontends with their addresses, and pools with their backends from wherever they stand.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::Role;
use super::draft::{Backend, Balancer, Pool};
use super::find::{Kind, Resource};
use super::journal::{Journal, Spot};
use super::listeners;
use super::names::Names;
use super::rules::word_in;
use super::site::{Site, address};
use super::view::{Object, last_segment};
use crate::model::AdminState;
use crate::report::quote;

/// The pools that interfaces say they are in: by balancer and pool, in lower case.
type Joined = HashMap<(String, String), Vec<Station>>;
/// The inbound NAT rules that lead to interfaces: by balancer, by rule, in lower case.
type JoinedNat = HashMap<String, HashMap<String, Station>>;

/// A backend as an interface or a list names it.
#[derive(Clone, Debug)]
pub(super) struct Station {
    pub(super) name: String,
    pub(super) address: IpAddr,
}

/// One balancer while it is put together.
pub(super) struct Scope<'s> {
    pub(super) site: &'s Site,
    pub(super) draft: Balancer,
    /// From the cloud's name in lower case to the one here.
    pub(super) frontends: HashMap<String, String>,
    /// Frontends whose address is public.
    pub(super) public: HashSet<String>,
    /// From the cloud's name in lower case to the place in the draft.
    pub(super) pools: HashMap<String, usize>,
    pub(super) probes: HashMap<String, listeners::KnownProbe>,
    /// What the first rule of each pool has for pools without a healthy backend.
    pub(super) up_when_down: HashMap<usize, bool>,
    backend_names: Names,
    /// The first backend of each address, by name.
    stations: HashMap<IpAddr, String>,
    /// The pool of stations that only inbound NAT leads to.
    nat_pool: Option<usize>,
    pub(super) pool_names: Names,
    /// Ports that a pool's members have through an inbound NAT rule: rule in lower case, backend, frontend port, backend port.
    pub(super) mapped_ports: HashMap<String, Vec<(Station, u64, u64)>>,
    /// By rule in lower case.
    joined_nat: HashMap<String, Station>,
    /// Where each address of each pool is in it.
    places: HashMap<(usize, IpAddr), usize>,
}

/// All load balancers of the inputs that were given for them.
pub(super) fn collect(resources: &[Resource<'_>], site: &Site, journal: &mut Journal) -> Vec<Balancer> {
    let (pools, mut nats) = joined(site);
    let mut parts: HashMap<(Kind, String), Vec<&Object<'_>>> = HashMap::new();
    for resource in resources {
        let is_part = matches!(
            resource.kind,
            Kind::Pool
                | Kind::PoolAddress
                | Kind::Probe
                | Kind::BalancingRule
                | Kind::InboundNat
                | Kind::OutboundRule
        );
        let parent = match resource.kind {
            Kind::PoolAddress => pool_of(resource, journal).map(|(balancer, _)| balancer),
            _ => resource.parent.clone(),
        };
        match (is_part, resource.role, parent) {
            (false, ..) => {}
            (true, Role::Balancers, Some(parent)) => {
                parts.entry((resource.kind, parent.to_ascii_lowercase())).or_default().push(&resource.object);
            }
            (true, Role::Balancers, None) => {
                journal.problem(
                    &resource.object.spot,
                    "it does not say its load balancer; export the balancer whole",
                );
            }
            (true, ..) => {
                journal.left_out(&resource.object.spot, "give the file with --lb too, and it is taken")
            }
        }
    }
    let mut names = Names::default();
    let mut seen = HashSet::new();
    let mut balancers = Vec::new();
    for resource in resources.iter().filter(|resource| resource.kind == Kind::Balancer) {
        if resource.role != Role::Balancers {
            journal.left_out(&resource.object.spot, "give the file with --lb too, and it is taken");
            continue;
        }
        let Some(name) = &resource.name else {
            journal.problem(&resource.object.spot, "`name` is missing; is this the whole export?");
            continue;
        };
        let key = name.to_ascii_lowercase();
        if !seen.insert(key.clone()) {
            journal.problem(
                &resource.object.spot,
                format!("another load balancer is called {} too; give each once", quote(name)),
            );
            continue;
        }
        let mut part = |kind| parts.remove(&(kind, key.clone())).unwrap_or_default();
        let found = Parts {
            pools: part(Kind::Pool),
            addresses: part(Kind::PoolAddress),
            probes: part(Kind::Probe),
            rules: part(Kind::BalancingRule),
            nat: part(Kind::InboundNat),
            outbound: part(Kind::OutboundRule),
        };
        let fitted = names.fit(name, &resource.object.spot, journal);
        let mut scope = Scope::new(site, fitted, resource.object.spot.at.file);
        scope.joined_nat = nats.remove(&key).unwrap_or_default();
        scope.read(&resource.object, &found, (&key, &pools), journal);
        balancers.push(scope.draft);
    }
    for ((_, parent), objects) in parts {
        for object in objects {
            journal.problem(
                &object.spot,
                format!("its load balancer {} is not in the input; give it too", quote(&parent)),
            );
        }
    }
    balancers
}

/// Parts of one balancer that stand on their own.
struct Parts<'r, 'j> {
    pools: Vec<&'r Object<'j>>,
    addresses: Vec<&'r Object<'j>>,
    probes: Vec<&'r Object<'j>>,
    rules: Vec<&'r Object<'j>>,
    nat: Vec<&'r Object<'j>>,
    outbound: Vec<&'r Object<'j>>,
}

/// `…/loadBalancers/BALANCER/backendAddressPools/POOL`, in lower case.
fn balancer_and_part(id: &str) -> Option<(String, String)> {
    let mut parts = id.trim_end_matches('/').rsplit('/');
    let (part, _, balancer) = (parts.next()?, parts.next()?, parts.next()?);
    Some((balancer.to_ascii_lowercase(), part.to_ascii_lowercase()))
}

fn pool_of(resource: &Resource<'_>, journal: &mut Journal) -> Option<(String, String)> {
    let item = resource.object.need(&["backendaddresspoolid"], "backend_address_pool_id", journal)?;
    balancer_and_part(item.text(journal)?)
}

/// Which pools and inbound NAT rules the interfaces say they are behind.
fn joined(site: &Site) -> (Joined, JoinedNat) {
    let (mut pools, mut nats) = (Joined::new(), JoinedNat::new());
    for interface in &site.interfaces {
        for configuration in &interface.configurations {
            let Some(address) = configuration.address else { continue };
            let station = || Station { name: interface.name.clone(), address };
            for key in configuration.pools.iter().filter_map(|pool| balancer_and_part(&pool.id)) {
                pools.entry(key).or_default().push(station());
            }
            for (balancer, rule) in
                configuration.nat_rules.iter().filter_map(|rule| balancer_and_part(&rule.id))
            {
                nats.entry(balancer).or_default().entry(rule).or_insert_with(station);
            }
        }
    }
    (pools, nats)
}

impl<'s> Scope<'s> {
    fn new(site: &'s Site, name: String, file: u32) -> Self {
        let draft = Balancer {
            name,
            file,
            frontends: Vec::new(),
            pools: Vec::new(),
            probes: Vec::new(),
            rules: Vec::new(),
            inbound_nat: Vec::new(),
            outbound: Vec::new(),
        };
        Self {
            site,
            draft,
            frontends: HashMap::new(),
            public: HashSet::new(),
            pools: HashMap::new(),
            probes: HashMap::new(),
            up_when_down: HashMap::new(),
            backend_names: Names::default(),
            stations: HashMap::new(),
            nat_pool: None,
            pool_names: Names::default(),
            mapped_ports: HashMap::new(),
            joined_nat: HashMap::new(),
            places: HashMap::new(),
        }
    }

    fn read(
        &mut self,
        object: &Object<'_>,
        parts: &Parts<'_, '_>,
        joined: (&str, &Joined),
        journal: &mut Journal,
    ) {
        let name = self.draft.name.clone();
        journal.taken(&object.spot, format!("load_balancers.{name}"));
        object.peek(&["name"]);
        let mut names = Names::default();
        for frontend in object.objects(&["frontendipconfigurations", "frontendipconfiguration"], journal) {
            self.frontend(&frontend, &mut names, journal);
        }
        let inline = object.objects(&["backendaddresspools"], journal);
        for pool in inline.iter().chain(parts.pools.iter().copied()) {
            self.pool(pool, joined, journal);
        }
        for address in &parts.addresses {
            self.single_address(address, journal);
        }
        let mut names = Names::default();
        let inline = object.objects(&["probes"], journal);
        for probe in inline.iter().chain(parts.probes.iter().copied()) {
            self.probe(probe, &mut names, journal);
        }
        let mut names = Names::default();
        let inline = object.objects(&["loadbalancingrules"], journal);
        for rule in inline.iter().chain(parts.rules.iter().copied()) {
            self.rule(rule, &mut names, journal);
        }
        let mut names = Names::default();
        let inline = object.objects(&["inboundnatrules"], journal);
        for rule in inline.iter().chain(parts.nat.iter().copied()) {
            self.nat(rule, &mut names, journal);
        }
        for pool in object.objects(&["inboundnatpools"], journal) {
            let message = "a NAT pool shares ports out over a scale set, which has no equivalent; its inbound NAT rules are taken one by one";
            journal.left_out(&pool.spot, message);
        }
        let mut names = Names::default();
        let inline = object.objects(&["outboundrules"], journal);
        for rule in inline.iter().chain(parts.outbound.iter().copied()) {
            self.outbound(rule, &mut names, journal);
        }
        object.ignore_rest(journal);
    }

    fn frontend(&mut self, object: &Object<'_>, names: &mut Names, journal: &mut Journal) {
        let Some(name) = listeners::name_of(object, journal) else { return };
        let private = object.get(&["privateipaddress"], journal).and_then(|item| address(&item, journal));
        let public = object.peek(&["publicipaddress", "publicipaddressid"]);
        let is_public = public.is_some();
        let public = public.and_then(|item| {
            let inner = item.object_or_texts(journal);
            let given = inner.as_ref().ok().and_then(|inner| inner.get(&["ipaddress"], journal));
            match given {
                Some(given) => address(&given, journal),
                None => self.site.public(item.reference(journal)?.0),
            }
        });
        if let Some(item) =
            object.peek(&["gatewayloadbalancer", "gatewayloadbalancerfrontendipconfigurationid"])
        {
            journal.left_out(&item.spot, "the cloud sends this frontend's packets through a gateway load balancer; here they go straight to the rules");
        }
        object.ignore_rest(journal);
        let Some(address) = private.or(public) else {
            let message = if is_public {
                "the public address is not in the input; give its export (`az network public-ip show`) with --lb too"
            } else if object.has("publicipprefix") || object.has("publicipprefixid") {
                "a frontend of a whole prefix has no equivalent; give it one address"
            } else {
                "the frontend has no address in the input; export it when it has one"
            };
            return journal.problem(&object.spot, message);
        };
        let fitted = names.fit(name, &object.spot, journal);
        if is_public {
            self.public.insert(fitted.clone());
        }
        journal.taken(&object.spot, format!("load_balancers.{}.frontends.{fitted}", self.draft.name));
        self.frontends.insert(name.to_ascii_lowercase(), fitted.clone());
        self.draft.frontends.push((fitted, address));
    }

    fn pool(&mut self, object: &Object<'_>, joined: (&str, &Joined), journal: &mut Journal) {
        let Some(name) = listeners::name_of(object, journal) else { return };
        let key = name.to_ascii_lowercase();
        let place = match self.pools.get(&key) {
            Some(place) => *place,
            None => {
                let fitted = self.pool_names.fit(name, &object.spot, journal);
                journal.taken(&object.spot, format!("load_balancers.{}.pools.{fitted}", self.draft.name));
                self.draft.pools.push(Pool {
                    name: fitted,
                    drain_period_s: 0,
                    up_when_down: false,
                    backends: Vec::new(),
                });
                self.pools.insert(key.clone(), self.draft.pools.len() - 1);
                self.draft.pools.len() - 1
            }
        };
        let drain =
            object.get(&["drainperiodinseconds"], journal).and_then(|item| item.number(0, 86_400, journal));
        if let (Some(drain), Some(pool)) = (drain, self.draft.pools.get_mut(place)) {
            pool.drain_period_s = drain;
        }
        if let Some(item) = object.peek(&["tunnelinterfaces", "tunnelinterface"]) {
            let message = "the pool is behind the tunnels of a gateway load balancer; write them under `gateway`, with `identifier` as `vni` and `port` as `udp_port`";
            journal.left_out(&item.spot, message);
        }
        for backend in object.objects(&["loadbalancerbackendaddresses"], journal) {
            self.backend(&backend, place, journal);
        }
        for (id, spot) in object.references(&["backendipconfigurations"], journal) {
            if let Some(station) = self.station(id, &spot, journal) {
                self.add(place, station, AdminState::None, &spot, journal);
            }
        }
        for station in joined.1.get(&(joined.0.to_owned(), key)).into_iter().flatten() {
            self.add(place, station.clone(), AdminState::None, &object.spot, journal);
        }
        object.ignore_rest(journal);
    }

    /// One of a pool's `loadBalancerBackendAddresses`.
    fn backend(&mut self, object: &Object<'_>, place: usize, journal: &mut Journal) {
        let state = object
            .get(&["adminstate"], journal)
            .and_then(|item| word_in::<AdminState>(&item, journal))
            .unwrap_or(AdminState::None);
        let name = object.text(&["name"], journal).map(str::to_owned);
        let behind = object.reference(&["networkinterfaceipconfiguration"], journal);
        let given = object.get(&["ipaddress"], journal).and_then(|item| address(&item, journal));
        let station = match (given, behind) {
            (Some(address), None) => {
                let name = name.unwrap_or_else(|| address.to_string().replace(['.', ':'], "-"));
                Some(Station { name, address })
            }
            (Some(address), Some((id, _))) => {
                let name = self.site.configuration(id).map(|(interface, _)| interface.name.clone()).or(name);
                Some(Station { name: name.unwrap_or_else(|| interface_of(id)), address })
            }
            (None, Some((id, spot))) => self.station(id, &spot, journal),
            (None, None) => {
                journal.problem(&object.spot, "the backend has neither an address nor an interface in the input; export it when it has one");
                None
            }
        };
        if let Some(station) = station {
            for mapping in object.objects(&["inboundnatrulesportmapping"], journal) {
                self.mapping(&mapping, &station, journal);
            }
            self.add(place, station, state, &object.spot, journal);
        }
        object.ignore_rest(journal);
    }

    /// A port that the cloud gave a member of a pool through an inbound NAT rule.
    fn mapping(&mut self, object: &Object<'_>, station: &Station, journal: &mut Journal) {
        let rule = object
            .need(&["inboundnatrulename"], "inboundNatRuleName", journal)
            .and_then(|item| item.text(journal));
        let mut port =
            |name: &str, written| object.need(&[name], written, journal)?.number(1, 65_535, journal);
        let (frontend, backend) = (port("frontendport", "frontendPort"), port("backendport", "backendPort"));
        if let (Some(rule), Some(frontend), Some(backend)) = (rule, frontend, backend) {
            let ports = self.mapped_ports.entry(rule.to_ascii_lowercase()).or_default();
            ports.push((station.clone(), frontend, backend));
        }
    }

    /// Terraform's address of a pool.
    fn single_address(&mut self, object: &Object<'_>, journal: &mut Journal) {
        let pool = object.peek(&["backendaddresspoolid"]).and_then(|item| item.text(journal));
        let Some(place) = pool.and_then(|id| self.pools.get(&last_segment(id).to_ascii_lowercase()).copied())
        else {
            return journal.problem(&object.spot, "its pool is not in the input; give it too");
        };
        self.backend(object, place, journal);
    }

    /// The station behind an interface's IP configuration.
    pub(super) fn station(&self, id: &str, spot: &Spot, journal: &mut Journal) -> Option<Station> {
        let found = self.site.configuration(id);
        let station = found.and_then(|(interface, configuration)| {
            Some(Station { name: interface.name.clone(), address: configuration.address? })
        });
        if station.is_none() {
            let message = format!(
                "the address of {} is not in the input; give the interface's export with --lb too",
                quote(&interface_of(id))
            );
            journal.problem(spot, message);
        }
        station
    }

    /// The stations whose interfaces say that an inbound NAT rule leads to them.
    pub(super) fn joined_nat(&self, rule: &str) -> Option<Station> {
        self.joined_nat.get(&rule.to_ascii_lowercase()).cloned()
    }

    /// Adds a backend to a pool, once for each address.
    fn add(
        &mut self,
        place: usize,
        station: Station,
        admin_state: AdminState,
        spot: &Spot,
        journal: &mut Journal,
    ) {
        let Some(pool) = self.draft.pools.get_mut(place) else { return };
        let known =
            self.places.get(&(place, station.address)).and_then(|known| pool.backends.get_mut(*known));
        if let Some(known) = known {
            if admin_state != AdminState::None {
                known.admin_state = admin_state;
            }
            return;
        }
        let name = self.backend_names.fit(&station.name, spot, journal);
        self.stations.entry(station.address).or_insert_with(|| name.clone());
        self.places.insert((place, station.address), pool.backends.len());
        pool.backends.push(Backend { name, address: station.address, admin_state });
    }

    /// The backend of this address; one that no pool has gets a pool for those.
    pub(super) fn backend_of(&mut self, station: &Station, spot: &Spot, journal: &mut Journal) -> String {
        if let Some(name) = self.stations.get(&station.address) {
            return name.clone();
        }
        let place = *self.nat_pool.get_or_insert_with(|| {
            let name = self.pool_names.fit("inbound-nat", spot, journal);
            journal.differs(
                spot,
                format!(
                    "the station is in no pool; the pool {} holds it here, and no rule uses it",
                    quote(&name)
                ),
            );
            self.draft.pools.push(Pool {
                name,
                drain_period_s: 0,
                up_when_down: false,
                backends: Vec::new(),
            });
            self.draft.pools.len() - 1
        });
        self.add(place, station.clone(), AdminState::None, spot, journal);
        self.stations.get(&station.address).cloned().unwrap_or_default()
    }
}

/// The interface's name in the id of its IP configuration.
fn interface_of(id: &str) -> String {
    id.trim_end_matches('/').rsplit('/').nth(2).unwrap_or(id).to_owned()
}
