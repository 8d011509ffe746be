//! An explanation for programs: the contract's fields, and what people read in the details as fields of their own.

use nva_config::Access;
use nva_dataplane::explain::{Explanation, Hop, Missed, Step, Terms};
use nva_dataplane::verdict::DropReason;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The whole explanation.
#[derive(Serialize)]
pub(super) struct Json<'a> {
    verdict: &'a str,
    reason: Option<&'a str>,
    rule: Option<&'a str>,
    backend: Option<&'a str>,
    steps: Vec<JsonStep<'a>>,
}

#[derive(Serialize)]
struct JsonStep<'a> {
    stage: &'a str,
    /// What people read, behind semicolons.
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<JsonTerms<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    near_misses: Option<Vec<JsonMiss<'a>>>,
    /// What tags and application security groups stand for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    expanded: BTreeMap<&'a str, Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    translation: Option<Translation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_hop: Option<JsonHop<'a>>,
}

#[derive(Serialize)]
struct JsonTerms<'a> {
    protocol: &'a str,
    source: &'a [String],
    source_ports: Vec<String>,
    destination: &'a [String],
    destination_ports: Vec<String>,
}

#[derive(Serialize)]
struct JsonMiss<'a> {
    rule: &'a str,
    priority: u16,
    access: &'a str,
    field: &'a str,
    /// What the rule lists there.
    wants: &'a [String],
    /// What the packet has.
    has: &'a str,
}

#[derive(Serialize)]
struct Translation<'a> {
    from: &'a str,
    to: &'a str,
}

#[derive(Serialize)]
struct JsonHop<'a> {
    address: IpAddr,
    port: &'a str,
    /// Null: it is asked for.
    mac: Option<String>,
}

impl<'a> From<&'a Explanation> for Json<'a> {
    fn from(explanation: &'a Explanation) -> Self {
        Self {
            verdict: explanation.access.as_str(),
            reason: explanation.reason.map(DropReason::name),
            rule: explanation.rule.as_deref(),
            backend: explanation.backend.as_deref(),
            steps: explanation.steps.iter().map(JsonStep::from).collect(),
        }
    }
}

impl<'a> From<&'a Step> for JsonStep<'a> {
    fn from(step: &'a Step) -> Self {
        let translation = step.translation.as_ref();
        let texts = |prefixes: &[nva_config::Prefix]| prefixes.iter().map(ToString::to_string).collect();
        Self {
            stage: step.stage,
            detail: step.lines.join("; "),
            direction: step.direction.map(|direction| direction.as_str()),
            address: step.address.map(IpAddr::from),
            group: step.group.as_deref(),
            rule: step.rule.as_deref(),
            priority: step.priority,
            access: step.access.map(Access::as_str),
            matches: step.matches.as_ref().map(JsonTerms::from),
            near_misses: step.group.as_ref().map(|_| step.near_misses.iter().map(JsonMiss::from).collect()),
            expanded: step.expanded.iter().map(|(name, prefixes)| (name.as_str(), texts(prefixes))).collect(),
            translation: translation.map(|[from, to]| Translation { from, to }),
            next_hop: step.next_hop.as_ref().map(JsonHop::from),
        }
    }
}

impl<'a> From<&'a Terms> for JsonTerms<'a> {
    fn from(terms: &'a Terms) -> Self {
        let ports = |ports: &[nva_config::PortRange]| ports.iter().map(ToString::to_string).collect();
        Self {
            protocol: terms.protocol.as_str(),
            source: &terms.source,
            source_ports: ports(&terms.source_ports),
            destination: &terms.destination,
            destination_ports: ports(&terms.destination_ports),
        }
    }
}

impl<'a> From<&'a Missed> for JsonMiss<'a> {
    fn from(missed: &'a Missed) -> Self {
        Self {
            rule: &missed.rule.rule,
            priority: missed.rule.priority,
            access: missed.rule.access.as_str(),
            field: missed.rule.failed.name(),
            wants: &missed.wants,
            has: &missed.has,
        }
    }
}

impl<'a> From<&'a Hop> for JsonHop<'a> {
    fn from(hop: &'a Hop) -> Self {
        Self { address: hop.address.into(), port: &hop.port, mac: hop.mac.map(|mac| mac.to_string()) }
    }
}
