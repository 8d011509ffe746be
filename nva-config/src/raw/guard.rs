//! `gateway` and `protection` as written.

use std::net::IpAddr;
use std::path::PathBuf;

use super::fields::{Fields, List, Opt, elements, fields, placed};
use super::scalar::{address, boolean, count, name, port, prefix, prefixes, text, word};
use crate::model::{
    Amplification, AntiSpoofing, ConnectionLimits, Encapsulation, Prefix, Protection, SynFlood, SynProxyMode,
    Trust,
};
use crate::report::{At, Report, quote};
use crate::tree::{Entry, Node, Value};

/// Rates and numbers beyond this are no limit.
const LIMIT_MAX: u64 = 1_000_000_000;

/// The least MTU of a way to a tunnel's peers: that of every IPv4 host (RFC 791).
const MTU_MIN: u64 = 576;
const MTU_MAX: u64 = 9216;

/// The UDP port that IANA gave to Geneve.
const GENEVE_PORT: u16 = 6081;

/// `gateway`, or one of several.
pub(crate) struct Gateway {
    pub(crate) port: Opt<String>,
    pub(crate) address: Opt<IpAddr>,
    pub(crate) peers: List<At<IpAddr>>,
    pub(crate) tunnels: List<Tunnel>,
    pub(crate) encapsulation: Opt<Encapsulation>,
    pub(crate) frontends: Vec<(At<IpAddr>, List<At<Prefix>>)>,
    pub(crate) mtu: Opt<u16>,
    pub(crate) dscp: Opt<Option<u8>>,
    pub(crate) zero_checksum_ipv6: Opt<bool>,
    pub(crate) clamp_mss: Opt<bool>,
    pub(crate) syn_proxy: Opt<SynProxyMode>,
}

/// One of `gateway.tunnels`.
pub(crate) struct Tunnel {
    pub(crate) name: Opt<String>,
    pub(crate) trust: Opt<Trust>,
    pub(crate) vni: Opt<u32>,
    pub(crate) udp_port: Opt<u16>,
    pub(crate) port: Opt<String>,
    pub(crate) address: Opt<IpAddr>,
}

pub(super) fn gateway(node: &Node, report: &mut Report<'_>) -> Option<Gateway> {
    let mut fields = fields(node, report)?;
    let encapsulation = fields.or("encapsulation", Encapsulation::Vxlan, report, word);
    let is_geneve = encapsulation.is_some_and(|one| one.value == Encapsulation::Geneve);
    let gateway = Gateway {
        port: fields.required("port", report, name),
        address: fields.required("address", report, address),
        peers: fields.filled_list("peers", report, placed(address)),
        tunnels: fields.filled_list("tunnels", report, if is_geneve { direction } else { tunnel }),
        encapsulation,
        frontends: fields.named("frontends", report, frontend).into_iter().flatten().flatten().collect(),
        mtu: fields.optional("mtu", report, count(MTU_MIN..=MTU_MAX)),
        dscp: fields.or("dscp", None, report, dscp),
        zero_checksum_ipv6: fields.or("zero_checksum_ipv6", false, report, boolean),
        clamp_mss: fields.or("clamp_mss", false, report, boolean),
        syn_proxy: fields.or("syn_proxy", SynProxyMode::Off, report, word),
    };
    fields.finish(report);
    Some(gateway)
}

fn tunnel(node: &Node, report: &mut Report<'_>) -> Option<Tunnel> {
    let mut fields = fields(node, report)?;
    let tunnel = Tunnel {
        name: fields.required("name", report, name),
        trust: fields.required("trust", report, word),
        vni: fields.required("vni", report, count(1..=0xff_ffff)),
        udp_port: fields.required("udp_port", report, port),
        port: fields.optional("port", report, name),
        address: fields.optional("address", report, address),
    };
    fields.finish(report);
    Some(tunnel)
}

/// The same with Geneve, where both tunnels of a gateway are one on the wire.
fn direction(node: &Node, report: &mut Report<'_>) -> Option<Tunnel> {
    let mut fields = fields(node, report)?;
    let tunnel = Tunnel {
        name: fields.required("name", report, name),
        trust: fields.required("trust", report, word),
        vni: fields.or("vni", 0, report, count(0..=0xff_ffff)),
        udp_port: fields.or("udp_port", GENEVE_PORT, report, port),
        port: None,
        address: None,
    };
    fields.finish(report);
    Some(tunnel)
}

/// An address as a key, with what stands behind it.
fn frontend(entry: &Entry, report: &mut Report<'_>) -> Option<(At<IpAddr>, List<At<Prefix>>)> {
    let key = Node { at: entry.at, value: Value::Scalar { text: entry.key.clone(), plain: true } };
    let value = address(&key, report);
    let backends = elements(&entry.node, report, placed(prefix));
    if backends.items.is_empty() && backends.complete {
        let message = "has nothing behind it; list the prefixes that security rules are to see";
        report.problem(entry.at, format!("the frontend {} {message}", quote(&entry.key)));
    }
    Some((At { value: value?, at: entry.at }, backends))
}

/// `inherit`, or a codepoint (RFC 2474).
fn dscp(node: &Node, report: &mut Report<'_>) -> Option<Option<u8>> {
    match &node.value {
        Value::Scalar { text, .. } if text == "inherit" => Some(None),
        Value::Scalar { text, .. } if text.starts_with(|c: char| !c.is_ascii_digit()) => {
            let message = "is no codepoint; write `inherit`, or a number from 0 to 63";
            report.problem(node.at, format!("{} {message}", quote(text)));
            None
        }
        _ => count(0..=63)(node, report).map(Some),
    }
}

/// `protection`: all of it, and what is in files beside.
pub(crate) struct ProtectionSection {
    pub(crate) protection: Protection,
    /// `syn_flood.cookie_secret_file`.
    pub(crate) cookie_secret_file: Opt<PathBuf>,
}

pub(super) fn protection(fields: &mut Fields<'_>, report: &mut Report<'_>) -> ProtectionSection {
    let mut cookie_secret_file = None;
    let protection = Protection {
        allowlist: fields.list("allowlist", report, prefixes).items.concat(),
        blocklist: fields.list("blocklist", report, prefixes).items.concat(),
        anti_spoofing: fields
            .or("anti_spoofing", AntiSpoofing::Strict, report, word)
            .map_or(AntiSpoofing::Strict, |mode| mode.value),
        syn_flood: fields.section("syn_flood", report, |fields, report| SynFlood {
            per_source_rate: limit(fields, "per_source_rate", report),
            global_rate: limit(fields, "global_rate", report),
            proxy_threshold: {
                let file = fields.optional("cookie_secret_file", report, text);
                cookie_secret_file =
                    file.map(|At { value, at }| At { value: report.resolve(at, &value), at });
                limit(fields, "proxy_threshold", report)
            },
        }),
        cookie_secret: None,
        connections: fields.section("connections", report, |fields, report| ConnectionLimits {
            per_source: limit(fields, "per_source", report),
            new_per_source_rate: limit(fields, "new_per_source_rate", report),
        }),
        amplification: fields.section("amplification", report, amplification).unwrap_or_default(),
        icmp_rate: fields
            .section("icmp", report, |fields, report| limit(fields, "rate", report))
            .filter(|rate| *rate != 0),
    };
    ProtectionSection { protection, cookie_secret_file }
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
