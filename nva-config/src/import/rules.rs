//! One security rule, in any spelling, as a rule of this configuration.

use super::draft::{Endpoint, Rule};
use super::journal::{Journal, Spot};
use super::view::{Item, Object, fold};
use crate::model::{Access, Direction, PortRange, Prefix, PrefixError, RuleProtocol, Word};
use crate::raw::{looks_like_address, name_mistake};
use crate::report::{list, quote};

/// Keys of a rule that no packet meets.
const MEANINGLESS: [&str; 17] = [
    "id",
    "etag",
    "type",
    "provisioningstate",
    "resourcegroup",
    "resourcegroupname",
    "resourceguid",
    "networksecuritygroupname",
    "timeouts",
    "additionalproperties",
    "location",
    "tags",
    "apiversion",
    "dependson",
    "comments",
    "sourceapplicationsecuritygroupstext",
    "destinationapplicationsecuritygroupstext",
];

/// Where a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A group's own rules.
    Rules,
    /// The list of default rules.
    Defaults,
    /// The effective rules of an interface, default rules among them.
    Effective,
}

/// What a tag of an effective rule was expanded to.
pub(super) type Expansion = (String, Vec<Prefix>, Spot);

/// Reads rules, and collects what the expansions of effective rules say.
#[derive(Debug, Default)]
pub(super) struct RuleReader {
    pub(super) expansions: Vec<Expansion>,
}

/// One side of a rule: its keys, folded and as written.
struct Side {
    prefix: &'static str,
    prefixes: &'static str,
    groups: &'static [&'static str],
    expanded: &'static str,
    port: &'static str,
    ports: &'static str,
    written: [&'static str; 2],
}

const SOURCE: Side = Side {
    prefix: "sourceaddressprefix",
    prefixes: "sourceaddressprefixes",
    groups: &["sourceapplicationsecuritygroups", "sourceapplicationsecuritygroupids"],
    expanded: "expandedsourceaddressprefix",
    port: "sourceportrange",
    ports: "sourceportranges",
    written: ["sourceAddressPrefix", "sourcePortRange"],
};

const DESTINATION: Side = Side {
    prefix: "destinationaddressprefix",
    prefixes: "destinationaddressprefixes",
    groups: &["destinationapplicationsecuritygroups", "destinationapplicationsecuritygroupids"],
    expanded: "expandeddestinationaddressprefix",
    port: "destinationportrange",
    ports: "destinationportranges",
    written: ["destinationAddressPrefix", "destinationPortRange"],
};

impl RuleReader {
    /// The rule, unless it is one of the default rules that are always there, or bad.
    pub(super) fn read(&mut self, object: &Object<'_>, from: From, journal: &mut Journal) -> Option<Rule> {
        let name =
            object.need(&["name"], "name", journal).and_then(|item| Some((item.text(journal)?, item.spot)));
        let access = word::<Access>(object, "access", journal);
        let direction = word::<Direction>(object, "direction", journal);
        let protocol = protocol(object, journal);
        let priority = object
            .need(&["priority"], "priority", journal)
            .and_then(|item| Some((u16::try_from(item.number(0, 65_535, journal)?).ok()?, item.spot)));
        let description = object.peek(&["description"]).and_then(|item| item.text(journal));
        let own = from == From::Effective
            && priority.as_ref().is_some_and(|(number, _)| *number < DEFAULT_PRIORITY_MIN);
        let effective = own.then_some(access == Some(Access::Deny));
        let source = self.endpoints(object, &SOURCE, effective, journal);
        let destination = self.endpoints(object, &DESTINATION, effective, journal);
        let source_ports = ports(object, &SOURCE, protocol, journal);
        let destination_ports = ports(object, &DESTINATION, protocol, journal);
        object.ignore(&MEANINGLESS, journal);
        for spot in object.unasked() {
            journal.problem(&spot, "this key of a rule is not known here, so what it means is not either; remove it where it means nothing");
        }
        let ((name, name_spot), (priority, priority_spot)) = (name?, priority?);
        let rule = Rule {
            spot: object.spot.clone(),
            name: plain_name(name).to_owned(),
            priority,
            direction: direction?,
            access: access?,
            protocol: protocol?,
            source: source?,
            source_ports: source_ports?,
            destination: destination?,
            destination_ports: destination_ports?,
            description: description.map(str::to_owned),
        };
        if from == From::Defaults || priority >= DEFAULT_PRIORITY_MIN {
            if is_default(&rule) {
                journal.ignored_as(&rule.spot, "default rule");
            } else {
                let message = format!(
                    "{} is none of the cloud's default rules, which are always there; give a rule of one's own a priority from 100 to 4096",
                    quote(name)
                );
                journal.problem(&name_spot, message);
            }
            return None;
        }
        if !(100..=4096).contains(&priority) {
            journal.problem(
                &priority_spot,
                format!("{priority} is out of range; a priority from 100 to 4096 is needed"),
            );
            return None;
        }
        Some(rule)
    }

    /// Who the rule is for. `effective`: it is one of the effective rules, and whether it denies.
    fn endpoints(
        &mut self,
        object: &Object<'_>,
        side: &Side,
        effective: Option<bool>,
        journal: &mut Journal,
    ) -> Option<Vec<Endpoint>> {
        let texts = either(object, side.prefix, side.prefixes, journal)?;
        let groups = object.references(side.groups, journal);
        let expanded = object.peek(&[side.expanded]);
        if texts.is_empty() && groups.is_empty() {
            let mut names = side.groups.iter().chain([&side.prefix, &side.prefixes]);
            // What is there and cannot be read has been said.
            if !names.any(|name| object.is_later(name) || object.is_given(name)) {
                journal.problem(
                    &object.spot,
                    format!("`{}` is missing; is this the whole export?", side.written[0]),
                );
            }
            return None;
        }
        let mut endpoints = Vec::new();
        let mut good = true;
        for (text, spot) in &texts {
            match endpoint(text, spot, journal) {
                Some(endpoint) => endpoints.push(written_effective(endpoint, effective, spot, journal)),
                None => good = false,
            }
        }
        if let Some(item) = expanded {
            self.expand(&endpoints, &item, journal);
        }
        if !groups.is_empty() && !endpoints.is_empty() {
            let message = "addresses and application security groups stand in one field, which the cloud does not take; keep one of them";
            journal.problem(&object.spot, message);
            good = false;
        }
        endpoints.extend(groups.into_iter().map(|(id, _)| Endpoint::MemberGroup(id.to_owned())));
        endpoints.sort();
        endpoints.dedup();
        if endpoints.first() == Some(&Endpoint::Any) {
            endpoints.truncate(1);
        }
        good.then_some(endpoints)
    }

    /// Keeps what the one tag of a field was expanded to.
    fn expand(&mut self, endpoints: &[Endpoint], item: &Item<'_>, journal: &mut Journal) {
        let tags: Vec<String> = endpoints
            .iter()
            .filter_map(|endpoint| match endpoint {
                Endpoint::Tag(name) => Some(name.clone()),
                Endpoint::BuiltIn(name) => Some((*name).to_owned()),
                Endpoint::Any | Endpoint::MemberGroup(_) | Endpoint::Prefix(_) => None,
            })
            .collect();
        let [tag] = tags.as_slice() else { return };
        let prefixes: Option<Vec<Prefix>> = item
            .texts(journal)
            .into_iter()
            .map(|(text, spot)| match endpoint(text, &spot, journal)? {
                Endpoint::Prefix(prefix) => Some(prefix),
                _ => {
                    journal.problem(&spot, format!("{} is no prefix, as an expanded tag has", quote(text)));
                    None
                }
            })
            .collect();
        if let Some(mut prefixes) = prefixes {
            prefixes.sort();
            prefixes.dedup();
            self.expansions.push((tag.clone(), prefixes, item.spot.clone()));
        }
    }
}

/// The cloud's own rules begin here.
const DEFAULT_PRIORITY_MIN: u16 = 65_000;

/// The name without what effective rules put before it.
fn plain_name(name: &str) -> &str {
    ["securityRules/", "defaultSecurityRules/", "UserRule_", "DefaultRule_"]
        .iter()
        .find_map(|start| {
            let (head, rest) = name.split_at_checked(start.len())?;
            head.eq_ignore_ascii_case(start).then_some(rest)
        })
        .filter(|rest| !rest.is_empty())
        .unwrap_or(name)
}

/// Whether it is one of the six default rules. Names differ between exports, and say nothing.
fn is_default(rule: &Rule) -> bool {
    let any =
        |side: &[Endpoint]| matches!(side, [Endpoint::Any]) || *side == [Endpoint::Prefix(Prefix::ANY_V4)];
    let tag = |side: &[Endpoint], name| *side == [Endpoint::BuiltIn(name)];
    let (source, destination) = (rule.source.as_slice(), rule.destination.as_slice());
    let vnet = tag(source, "VirtualNetwork") && tag(destination, "VirtualNetwork");
    let everything = rule.protocol == RuleProtocol::Any
        && rule.source_ports == [PortRange::ALL]
        && rule.destination_ports == [PortRange::ALL];
    let fits = match (rule.direction, rule.priority, rule.access) {
        (_, 65_000, Access::Allow) => vnet,
        (Direction::Inbound, 65_001, Access::Allow) => tag(source, "AzureLoadBalancer") && any(destination),
        (Direction::Outbound, 65_001, Access::Allow) => any(source) && tag(destination, "Internet"),
        (_, 65_500, Access::Deny) => any(source) && any(destination),
        _ => false,
    };
    everything && fits
}

/// The value of a key that must be given: one of a closed list of words, in any case.
pub(super) fn word<T: Word>(object: &Object<'_>, key: &str, journal: &mut Journal) -> Option<T> {
    word_in(&object.need(&[key], key, journal)?, journal)
}

/// One of a closed list of words, in any case.
pub(super) fn word_in<T: Word>(item: &Item<'_>, journal: &mut Journal) -> Option<T> {
    let text = item.text(journal)?;
    let found = T::WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
    if found.is_none() {
        let words = list(T::WORDS.iter().map(|(word, _)| *word), "or");
        journal.problem(&item.spot, format!("{} is not known here; {words} is needed", quote(text)));
    }
    found
}

fn protocol(object: &Object<'_>, journal: &mut Journal) -> Option<RuleProtocol> {
    let item = object.need(&["protocol"], "protocol", journal)?;
    let text = item.text(journal)?;
    let found = match text.to_ascii_lowercase().as_str() {
        "*" | "asterisk" | "any" | "all" => Some(RuleProtocol::Any),
        "tcp" => Some(RuleProtocol::Tcp),
        "udp" => Some(RuleProtocol::Udp),
        "icmp" => Some(RuleProtocol::Icmp),
        "esp" => Some(RuleProtocol::Esp),
        "ah" => Some(RuleProtocol::Ah),
        _ => None,
    };
    if found.is_none() {
        journal.problem(
            &item.spot,
            format!("{} is not known here; Tcp, Udp, Icmp, Esp, Ah or * is needed", quote(text)),
        );
    }
    found
}

/// The texts of a field that has a singular and a plural key. Exports fill one, effective rules both with the same.
fn either<'j>(
    object: &Object<'j>,
    one: &str,
    many: &str,
    journal: &mut Journal,
) -> Option<Vec<(&'j str, Spot)>> {
    let single = object.get(&[one], journal).map(|item| item.texts(journal)).unwrap_or_default();
    let plural = object.get(&[many], journal).map(|item| item.texts(journal)).unwrap_or_default();
    if plural.is_empty() {
        return Some(single);
    }
    for (text, spot) in &single {
        if !plural.iter().any(|(other, _)| other.eq_ignore_ascii_case(text)) {
            let message = format!(
                "{} is not in the list beside it, and which of them counts is not known; keep one",
                quote(text)
            );
            journal.problem(spot, message);
            return None;
        }
    }
    Some(plural)
}

/// The tags that are built in, with their classic spellings.
const BUILT_IN: [(&str, &str); 3] = [
    ("virtualnetwork", "VirtualNetwork"),
    ("azureloadbalancer", "AzureLoadBalancer"),
    ("internet", "Internet"),
];

/// What a text of a prefix field stands for.
pub(super) fn endpoint(text: &str, spot: &Spot, journal: &mut Journal) -> Option<Endpoint> {
    if text == "*" || text.eq_ignore_ascii_case("any") {
        return Some(Endpoint::Any);
    }
    let folded = fold(text);
    if let Some((_, name)) = BUILT_IN.iter().find(|(known, _)| *known == folded) {
        return Some(Endpoint::BuiltIn(name));
    }
    match Prefix::parse(text) {
        Ok(prefix) => Some(Endpoint::Prefix(prefix)),
        Err(PrefixError::HostBits { right }) => {
            journal
                .differs(spot, format!("{} has bits set behind its length; it is {right} here", quote(text)));
            Some(Endpoint::Prefix(right))
        }
        Err(PrefixError::Address) if name_mistake(text).is_none() && !looks_like_address(text) => {
            Some(Endpoint::Tag(text.to_owned()))
        }
        Err(_) => {
            journal.problem(spot, format!("{} is no prefix, service tag or `*`", quote(text)));
            None
        }
    }
}

/// Effective rules write `*` as 0.0.0.0/0, so that which of the two was meant is lost. What is let in is never more than was meant.
fn written_effective(
    endpoint: Endpoint,
    effective: Option<bool>,
    spot: &Spot,
    journal: &mut Journal,
) -> Endpoint {
    match (effective, &endpoint) {
        (Some(true), Endpoint::Prefix(prefix)) if *prefix == Prefix::ANY_V4 => {
            journal
                .differs(spot, "effective rules write `*` as 0.0.0.0/0; this rule denies, so it is `*` here");
            Endpoint::Any
        }
        (Some(false), Endpoint::Prefix(prefix)) if *prefix == Prefix::ANY_V4 => {
            journal.differs(spot, "effective rules write `*` as 0.0.0.0/0; this rule allows, so it is for IPv4 alone here; write \"*\" where both families are meant");
            endpoint
        }
        _ => endpoint,
    }
}

fn ports(
    object: &Object<'_>,
    side: &Side,
    protocol: Option<RuleProtocol>,
    journal: &mut Journal,
) -> Option<Vec<PortRange>> {
    let portless = matches!(protocol, Some(RuleProtocol::Icmp | RuleProtocol::Esp | RuleProtocol::Ah));
    let texts = either(object, side.port, side.ports, journal)?;
    if texts.is_empty() {
        if portless {
            return Some(vec![PortRange::ALL]);
        }
        if ![side.port, side.ports].iter().any(|name| object.is_later(name) || object.is_given(name)) {
            journal.problem(
                &object.spot,
                format!("`{}` is missing; is this the whole export?", side.written[1]),
            );
        }
        return None;
    }
    let mut ranges = Vec::new();
    for (text, spot) in &texts {
        ranges.push((port_range(text, spot, journal)?, spot.clone()));
    }
    if portless {
        if let Some((range, spot)) = ranges.iter().find(|(range, _)| *range != PortRange::ALL) {
            journal.differs(spot, format!("the protocol has no ports, so {range} is `*` here"));
        }
        return Some(vec![PortRange::ALL]);
    }
    Some(joined(ranges, journal))
}

/// Sorted, overlapping ranges as one: the configuration lists each port once.
fn joined(mut ranges: Vec<(PortRange, Spot)>, journal: &mut Journal) -> Vec<PortRange> {
    ranges.sort();
    let mut whole: Vec<PortRange> = Vec::new();
    for (range, spot) in ranges {
        match whole.last_mut() {
            Some(last) if range.first <= last.last => {
                if range != *last {
                    let both = PortRange { first: last.first, last: last.last.max(range.last) };
                    journal.differs(&spot, format!("{range} and {last} overlap; they are {both} here"));
                    *last = both;
                }
            }
            _ => whole.push(range),
        }
    }
    whole
}

fn port_range(text: &str, spot: &Spot, journal: &mut Journal) -> Option<PortRange> {
    if text == "*" || text.eq_ignore_ascii_case("any") {
        return Some(PortRange::ALL);
    }
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse::<u16>().ok() } else { None }
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(PortRange { first, last }),
        _ => {
            journal.problem(
                spot,
                format!("{} is no port, range of ports or `*`; ports go from 0 to 65535", quote(text)),
            );
            None
        }
    }
}
