//! Rules of a configuration that can never decide, for a check to warn of.

use super::classifier::{Pattern, PortScope, shadowed};
use super::compiled::{PLATFORM, default_rules, in_order, pattern};
use super::endpoints::Endpoints;
use crate::prefix_set::PrefixSet;
use nva_config::{Access, Config, Direction, GroupIndex, Prefix, SecurityRule};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rule that never decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenRule {
    /// Its group.
    pub group: GroupIndex,
    /// Its place among the group's rules.
    pub rule: usize,
    /// Why it does not.
    pub why: Cause,
}

/// Why a rule never decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The first rule before it that alone matches all that it matches, by its name.
    Rule(String),
    /// Several rules before it match all that it matches together, or no packet matches it at all.
    Several,
    /// No packet matches it: all its sources are of one IP version, all its destinations of the other.
    Families,
    /// It denies what goes to the platform's own services, which the tags of these services alone can.
    Platform,
}

/// The rules that can never decide. Default rules, which are there in every group, are not among them.
pub fn hidden_rules(config: &Config) -> Vec<HiddenRule> {
    let mut endpoints = Endpoints::new(config);
    let mut hidden = Vec::new();
    for (group, place) in config.security_groups.iter().zip(0..) {
        for direction in [Direction::Inbound, Direction::Outbound] {
            let defaults = default_rules(direction);
            let sorted = in_order(group, direction, &defaults);
            let patterns: Vec<_> = sorted.iter().map(|rule| pattern(rule, &mut endpoints)).collect();
            let everywhere: Vec<usize> = (0..sorted.len()).collect();
            let mut causes = causes(&sorted, &patterns, &everywhere);
            let mixed = everywhere.iter().filter(|place| is_of_two_families(&patterns[**place]));
            causes.extend(mixed.map(|place| (*place, Cause::Families)));
            if direction == Direction::Outbound {
                ask_for_platform(&sorted, &patterns, &endpoints, &mut causes);
            }
            let number = |rule: &SecurityRule| group.rules.iter().position(|own| std::ptr::eq(own, rule));
            for (place_in_order, why) in causes {
                let Some(rule) = sorted.get(place_in_order).and_then(|rule| number(rule)) else { continue };
                hidden.push(HiddenRule { group: GroupIndex(place), rule, why });
            }
        }
    }
    hidden.sort_by_key(|hidden| (hidden.group.0, hidden.rule));
    hidden
}

/// There are sources and destinations, of which no two are of one IP version.
fn is_of_two_families(pattern: &Pattern) -> bool {
    let ends = [&pattern.source, &pattern.destination];
    let [[v4, v6], [to_v4, to_v6]] = ends.map(|set| set.families());
    ends.iter().all(|set| !set.is_empty()) && !(v4 && to_v4) && !(v6 && to_v6)
}

/// Why those of these rules never decide that do not, if they alone are asked: by their places in `sorted`, as `places` has them for `patterns`.
fn causes(sorted: &[&SecurityRule], patterns: &[Pattern], places: &[usize]) -> BTreeMap<usize, Cause> {
    let name = |by: usize| Some(sorted.get(*places.get(by)?)?.name.clone());
    let cause = |by: Option<usize>| by.and_then(name).map_or(Cause::Several, Cause::Rule);
    let shadows = shadowed(patterns, PortScope::TcpAndUdp).into_iter();
    shadows.filter_map(|shadow| Some((*places.get(shadow.place)?, cause(shadow.by)))).collect()
}

/// What is sent to the platform's own services is asked about by itself: a rule for one of their tags decides there although rules for
/// everything stand before it, and any other one that denies does not.
fn ask_for_platform(
    sorted: &[&SecurityRule],
    patterns: &[Pattern],
    endpoints: &Endpoints<'_>,
    causes: &mut BTreeMap<usize, Cause>,
) {
    let platform = PrefixSet::from_prefixes(&PLATFORM.map(|address| Prefix::host(address.into())));
    let numbered = || sorted.iter().zip(patterns).enumerate();
    let is_service = |rule: &SecurityRule| endpoints.names_platform_service(&rule.destination);
    let (mut places, mut services) = (Vec::new(), Vec::new());
    for (place, (_, pattern)) in numbered().filter(|(_, (rule, _))| is_service(rule)) {
        let destination = Arc::new(pattern.destination.intersection(&platform));
        places.push(place);
        services.push(Pattern { destination, ..pattern.clone() });
    }
    let mut there = self::causes(sorted, &services, &places);
    for (place, service) in places.into_iter().zip(&services) {
        match there.remove(&place) {
            None => drop(causes.remove(&place)),
            Some(cause) if !service.destination.is_empty() => {
                causes.entry(place).and_modify(|known| *known = cause);
            }
            Some(_) => {}
        }
    }
    for (place, (rule, pattern)) in numbered() {
        let is_in_vain = rule.access == Access::Deny
            && !is_service(rule)
            && !pattern.destination.is_empty()
            && pattern.destination.intersection(&platform) == *pattern.destination;
        if is_in_vain {
            causes.insert(place, Cause::Platform);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_config::Source;

    /// What is hidden among these inbound rules: each a name, a priority, sources and ports.
    fn hidden(rules: &[(&str, u16, &str, &str)]) -> Vec<(usize, Cause)> {
        let mut text = String::from("version: 1\nsecurity_groups:\n  - name: g\n    rules:\n");
        for (name, priority, source, ports) in rules {
            text.push_str(&format!(
                "      - {{name: {name}, priority: {priority}, direction: inbound, access: allow, protocol: tcp, source: [{source}], \
                 source_ports: [\"*\"], destination: [\"*\"], destination_ports: [{ports}]}}\n"
            ));
        }
        let source = Source { path: "test.yaml".into(), text: text.into() };
        let config = nva_config::load(&[source], None).expect("a good configuration");
        hidden_rules(&config).into_iter().map(|hidden| (hidden.rule, hidden.why)).collect()
    }

    #[test]
    fn a_rule_behind_a_wider_one_is_hidden_by_it() {
        let wide = ("wide", 100, "10.0.0.0/8", "80-90");
        assert_eq!(hidden(&[("narrow", 200, "10.1.0.0/16", "85"), wide]), [(0, Cause::Rule("wide".into()))]);
        // One address more, one port more, or an earlier place, and it decides something.
        assert_eq!(hidden(&[("narrow", 200, "10.1.0.0/16, 11.0.0.1", "85"), wide]), []);
        assert_eq!(hidden(&[("narrow", 200, "10.1.0.0/16", "85-91"), wide]), []);
        assert_eq!(
            hidden(&[("narrow", 99 + 1, "10.1.0.0/16", "85"), ("wide", 101, "10.0.0.0/8", "80-90")]),
            []
        );
    }

    #[test]
    fn several_rules_hide_one_together() {
        let halves = [("low", 100, "10.0.0.0/9", "80"), ("high", 101, "10.128.0.0/9", "80")];
        assert_eq!(hidden(&[halves[0], halves[1], ("both", 102, "10.0.0.0/8", "80")]), [(2, Cause::Several)]);
        assert_eq!(hidden(&[halves[0], ("both", 102, "10.0.0.0/8", "80")]), []);
    }

    #[test]
    fn between_two_ip_versions_there_are_no_packets() {
        let rule = |source: &str, destination: &str| {
            format!(
                "version: 1\nsecurity_groups:\n  - name: g\n    rules:\n      - {{name: r, priority: 100, direction: inbound, access: allow, \
                 protocol: any, source: [{source}], source_ports: [\"*\"], destination: [{destination}], destination_ports: [\"*\"]}}\n"
            )
        };
        let of = |text: String| {
            let source = Source { path: "test.yaml".into(), text: text.into() };
            let config = nva_config::load(&[source], None).expect("a good configuration");
            hidden_rules(&config).into_iter().map(|hidden| hidden.why).collect::<Vec<_>>()
        };
        for (source, destination) in
            [("10.0.0.0/8", "\"2001:db8::/32\""), ("\"::/0\"", "10.1.0.0/16, 10.3.0.1")]
        {
            assert_eq!(of(rule(source, destination)), [Cause::Families], "{source} to {destination}");
        }
        for (source, destination) in [
            ("\"*\"", "\"2001:db8::/32\""),
            ("10.0.0.0/8, \"2001:db8::1\"", "\"2001:db8::/32\""),
            ("Internet", "10.1.0.0/16"),
        ] {
            assert_eq!(of(rule(source, destination)), [], "{source} to {destination}");
        }
    }

    #[test]
    fn rules_for_the_platforms_services_are_asked_by_themselves() {
        let outbound = |name, priority, access, destination: &str, port| {
            format!(
                "      - {{name: {name}, priority: {priority}, direction: outbound, access: {access}, protocol: tcp, source: [\"*\"], \
                 source_ports: [\"*\"], destination: [{destination}], destination_ports: [{port}]}}\n"
            )
        };
        let rules = [
            outbound("all", 100, "allow", "\"*\"", "\"*\""),
            outbound("no-dns", 200, "deny", "AzurePlatformDNS", "53"),
            outbound("no-dns-again", 210, "deny", "AzurePlatformDNS", "50-53"),
            outbound("nor-this", 220, "deny", "AzurePlatformDNS", "51-52"),
            outbound("keys", 230, "deny", "AzurePlatformLKM", "1688"),
        ];
        let text = |rules: &[String]| {
            let tags = "version: 1\nservice_tags: {inline: {AzurePlatformLKM: [192.0.2.9]}}\n";
            format!("{tags}security_groups:\n  - name: g\n    rules:\n{}", rules.concat())
        };
        let of = |text: String| {
            let source = Source { path: "test.yaml".into(), text: text.into() };
            let config = nva_config::load(&[source], None).expect("a good configuration");
            hidden_rules(&config).into_iter().map(|hidden| (hidden.rule, hidden.why)).collect::<Vec<_>>()
        };
        let by = |name: &str| Cause::Rule(name.into());
        assert_eq!(of(text(&rules)), [(3, by("no-dns-again")), (4, by("all"))]);
        // An address says nothing there, be it first.
        let vain = [outbound("vain", 100, "deny", "168.63.129.16, 169.254.169.254", "80"), rules[1].clone()];
        assert_eq!(of(text(&vain)), [(0, Cause::Platform)]);
        let wider = [outbound("wider", 100, "deny", "168.63.129.16/31", "80"), rules[1].clone()];
        assert_eq!(of(text(&wider)), []);
    }
}
