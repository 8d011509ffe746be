//! From what was written to what is meant: names looked up, and what must agree compared. Reads no text.
//!
//! *Invariant:* a hole in the raw form was reported when it was read; here it is passed over in silence, and so is everything that
//! rests on it.

mod balancing;
mod files;
mod gateway;
mod listeners;
mod names;
mod network;
mod outbound;
mod overlay;
mod policy;
mod tags;
mod virtual_network;

pub(crate) use tags::platform_service;

use std::collections::HashMap;
use std::hash::Hash;

use crate::Files;
use crate::model::Config;
use crate::raw::Raw;
use crate::report::{At, Place, Report};

/// The checked form. Of any worth only while the report is clean.
pub(crate) fn check(raw: &Raw, files: Option<&dyn Files>, report: &mut Report<'_>) -> Config {
    let ports =
        names::Names::collect("port", raw.ports.items.iter().map(|p| &p.name), raw.ports.complete, report);
    let connected = network::Connected::collect(raw, report);
    let groups = policy::group_names(raw, report);
    let (virtual_network, members) = virtual_network::check(raw, &groups, report);
    let mut tags = tags::Tags::collect(raw, files, report);
    let security_groups = policy::check(raw, &members, &mut tags, report);
    let default = Config::default();
    Config {
        name: raw.name.clone().map_or(default.name, |name| name.value),
        dataplane: raw.dataplane.clone().unwrap_or_default(),
        ports: network::ports(raw, &ports, report),
        routes: network::routes(raw, &connected, report),
        neighbors: network::neighbors(raw, &connected, report),
        virtual_network,
        service_tags: tags.finish(),
        security_groups,
        load_balancers: balancing::check(raw, &connected, report),
        gateways: gateway::check(raw, &ports, report),
        protection: raw
            .protection
            .as_ref()
            .map(|raw| files::protection(raw, files, report))
            .unwrap_or_default(),
        management: raw
            .management
            .as_ref()
            .and_then(|management| files::management(management, files, report)),
        logs: raw.logs.clone().unwrap_or_default(),
        places: default.places,
        warnings: default.warnings,
    }
}

/// Values that may stand once, with the place of each.
struct Once<K>(HashMap<K, Place>);

impl<K: Eq + Hash + Clone> Once<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Notes `key`; `message` says what is wrong when it was there before, given its first place.
    fn note(&mut self, key: &At<K>, report: &mut Report<'_>, message: impl FnOnce(String) -> String) -> bool {
        if let Some(first) = self.0.get(&key.value) {
            let first = report.location(*first).to_string();
            report.problem(key.at, message(first));
            return false;
        }
        self.0.insert(key.value.clone(), key.at);
        true
    }
}
