//! `service_tags` and `security_groups` as written.

use std::path::PathBuf;

use super::fields::{Fields, List, Opt, elements, fields, placed};
use super::scalar::{boolean, count, name, name_mistake, port_range, prefixes, text, word};
use crate::model::{Access, Direction, PortRange, Prefix, PrefixError, RuleProtocol};
use crate::report::{At, Place, Report, quote};
use crate::tree::{Node, Value};

/// `service_tags`.
pub(crate) struct ServiceTags {
    pub(crate) inline: Vec<(At<String>, List<Vec<Prefix>>)>,
    pub(crate) file: Opt<PathBuf>,
    /// Nothing was bad: a tag that is not here is not in the files.
    pub(crate) complete: bool,
}

/// One of `security_groups`.
pub(crate) struct SecurityGroup {
    pub(crate) at: Place,
    pub(crate) name: Opt<String>,
    pub(crate) flush_connections: Opt<bool>,
    pub(crate) rules: List<SecurityRule>,
}

/// One of `security_groups[].rules`.
pub(crate) struct SecurityRule {
    pub(crate) name: Opt<String>,
    pub(crate) priority: Opt<u16>,
    pub(crate) direction: Opt<Direction>,
    pub(crate) access: Opt<Access>,
    pub(crate) protocol: Opt<RuleProtocol>,
    pub(crate) source: List<At<Endpoint>>,
    pub(crate) source_ports: List<At<PortRange>>,
    pub(crate) destination: List<At<Endpoint>>,
    pub(crate) destination_ports: List<At<PortRange>>,
}

/// An entry of `source` or `destination`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Any,
    Prefix(Prefix),
    Tag(String),
    ApplicationSecurityGroup(String),
}

pub(super) fn service_tags(fields: &mut Fields<'_>, report: &mut Report<'_>) -> ServiceTags {
    let inline = fields.named("inline", report, |entry, report| {
        if let Some(mistake) = name_mistake(&entry.key) {
            report.problem(entry.at, format!("{} {mistake}", quote(&entry.key)));
        }
        let prefixes = elements(&entry.node, report, prefixes);
        (At { value: entry.key.clone(), at: entry.at }, prefixes)
    });
    let mut complete = inline.is_some() || !fields.is_meant("inline");
    let file = fields
        .optional("file", report, text)
        .map(|At { value, at }| At { value: report.resolve(at, &value), at });
    complete &= file.is_some() || !fields.is_meant("file");
    ServiceTags { inline: inline.unwrap_or_default(), file, complete }
}

pub(super) fn security_group(node: &Node, report: &mut Report<'_>) -> Option<SecurityGroup> {
    let mut fields = fields(node, report)?;
    let group = SecurityGroup {
        at: node.at,
        name: fields.required("name", report, name),
        flush_connections: fields.or("flush_connections", false, report, boolean),
        rules: fields.list("rules", report, security_rule),
    };
    fields.finish(report);
    Some(group)
}

fn security_rule(node: &Node, report: &mut Report<'_>) -> Option<SecurityRule> {
    let mut fields = fields(node, report)?;
    let rule = SecurityRule {
        name: fields.required("name", report, name),
        priority: fields.required("priority", report, count(100..=4096)),
        direction: fields.required("direction", report, word),
        access: fields.required("access", report, word),
        protocol: fields.required("protocol", report, word),
        source: fields.filled_list("source", report, placed(endpoint)),
        source_ports: fields.filled_list("source_ports", report, placed(port_range)),
        destination: fields.filled_list("destination", report, placed(endpoint)),
        destination_ports: fields.filled_list("destination_ports", report, placed(port_range)),
    };
    fields.finish(report);
    Some(rule)
}

/// `*`, a prefix, `asg:NAME` or a service tag: what has a digit in front, a `/` or a `:` was meant as a prefix.
fn endpoint(node: &Node, report: &mut Report<'_>) -> Option<Endpoint> {
    let text = match &node.value {
        Value::Scalar { text, .. } => text.as_str(),
        Value::Bad => return None,
        other => {
            let needed = "a prefix, a service tag, asg:NAME or \"*\" is needed";
            report.problem(node.at, format!("{}; {needed}", other.found()));
            return None;
        }
    };
    if text == "*" {
        return Some(Endpoint::Any);
    }
    if let Some(group) = text.strip_prefix("asg:") {
        return match name_mistake(group) {
            None => Some(Endpoint::ApplicationSecurityGroup(group.to_owned())),
            Some(mistake) => {
                report.problem(node.at, format!("{} behind asg: {mistake}", quote(group)));
                None
            }
        };
    }
    match Prefix::parse(text) {
        Ok(prefix) => Some(Endpoint::Prefix(prefix)),
        Err(PrefixError::Address) if name_mistake(text).is_none() && !looks_like_address(text) => {
            Some(Endpoint::Tag(text.to_owned()))
        }
        Err(PrefixError::Address) => {
            let needed =
                "is no prefix, service tag, asg:NAME or \"*\"; write for example 192.0.2.0/24 or Internet";
            report.problem(node.at, format!("{} {needed}", quote(text)));
            None
        }
        Err(error) => {
            report.problem(node.at, format!("{} {error}", quote(text)));
            None
        }
    }
}

/// Only digits, dots and what else addresses have.
pub(crate) fn looks_like_address(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '_'))
}
