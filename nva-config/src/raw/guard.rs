//! `gateway` and `protection` as written.

use std::net::IpAddr;

use super::fields::{Fields, List, Opt, fields, placed};
use super::scalar::{address, boolean, count, name, port, prefixes, word};
use crate::model::{Amplification, AntiSpoofing, ConnectionLimits, Protection, SynFlood, Trust};
use crate::report::{At, Report};
use crate::tree::Node;

/// Rates and numbers beyond this are no limit.
const LIMIT_MAX: u64 = 1_000_000_000;

/// `gateway`.
pub(crate) struct Gateway {
    pub(crate) port: Opt<String>,
    pub(crate) address: Opt<IpAddr>,
    pub(crate) peers: List<At<IpAddr>>,
    pub(crate) tunnels: List<Tunnel>,
}

/// One of `gateway.tunnels`.
pub(crate) struct Tunnel {
    pub(crate) name: Opt<String>,
    pub(crate) trust: Opt<Trust>,
    pub(crate) vni: Opt<u32>,
    pub(crate) udp_port: Opt<u16>,
}

pub(super) fn gateway(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Gateway {
    Gateway {
        port: fields.required("port", report, name),
        address: fields.required("address", report, address),
        peers: fields.filled_list("peers", report, placed(address)),
        tunnels: fields.filled_list("tunnels", report, tunnel),
    }
}

fn tunnel(node: &Node, report: &mut Report<'_>) -> Option<Tunnel> {
    let mut fields = fields(node, report)?;
    let tunnel = Tunnel {
        name: fields.required("name", report, name),
        trust: fields.required("trust", report, word),
        vni: fields.required("vni", report, count(1..=0xff_ffff)),
        udp_port: fields.required("udp_port", report, port),
    };
    fields.finish(report);
    Some(tunnel)
}

pub(super) fn protection(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Protection {
    Protection {
        allowlist: fields.list("allowlist", report, prefixes).items.concat(),
        blocklist: fields.list("blocklist", report, prefixes).items.concat(),
        anti_spoofing: fields
            .or("anti_spoofing", AntiSpoofing::Strict, report, word)
            .map_or(AntiSpoofing::Strict, |mode| mode.value),
        syn_flood: fields.section("syn_flood", report, |fields, report| SynFlood {
            per_source_rate: limit(fields, "per_source_rate", report),
            global_rate: limit(fields, "global_rate", report),
            proxy_threshold: limit(fields, "proxy_threshold", report),
        }),
        connections: fields.section("connections", report, |fields, report| ConnectionLimits {
            per_source: limit(fields, "per_source", report),
            new_per_source_rate: limit(fields, "new_per_source_rate", report),
        }),
        amplification: fields.section("amplification", report, amplification).unwrap_or_default(),
        icmp_rate: fields
            .section("icmp", report, |fields, report| limit(fields, "rate", report))
            .filter(|rate| *rate != 0),
    }
}

/// A number of which 0, and its absence, mean that there is no limit.
fn limit(fields: &mut Fields<'_>, key: &'static str, report: &mut Report<'_>) -> u64 {
    fields.or(key, 0, report, count(0..=LIMIT_MAX)).map_or(0, |limit| limit.value)
}

fn amplification(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Amplification {
    let default = Amplification::default();
    let mut block = |key, default| fields.or(key, default, report, boolean).map_or(default, |b| b.value);
    Amplification {
        block_ntp_monlist: block("block_ntp_monlist", default.block_ntp_monlist),
        block_memcached: block("block_memcached", default.block_memcached),
        dns_responses_per_destination: Some(limit(fields, "dns_responses_per_destination", report))
            .filter(|rate| *rate != 0),
    }
}
