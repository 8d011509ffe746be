//! Rules of a configuration that can never decide, for a check to warn of.

use super::classifier::{PortScope, shadowed};
use super::compiled::{default_rules, in_order, pattern};
use super::endpoints::Endpoints;
use nva_config::{Config, Direction, GroupIndex, SecurityRule};

/// A rule that never decides, as rules before it take every packet that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenRule {
    /// Its group.
    pub group: GroupIndex,
    /// Its place among the group's rules.
    pub rule: usize,
    /// The name of the first rule that alone hides it; `None`: several together do, or no packet matches it at all.
    pub by: Option<String>,
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
            let number = |rule: &SecurityRule| group.rules.iter().position(|own| std::ptr::eq(own, rule));
            for shadow in shadowed(&patterns, PortScope::TcpAndUdp) {
                let Some(rule) = sorted.get(shadow.place).and_then(|rule| number(rule)) else { continue };
                let by = shadow.by.and_then(|by| sorted.get(by)).map(|rule| rule.name.clone());
                hidden.push(HiddenRule { group: GroupIndex(place), rule, by });
            }
        }
    }
    hidden.sort_by_key(|hidden| (hidden.group.0, hidden.rule));
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_config::Source;

    /// What is hidden among these inbound rules: each a name, a priority, sources and ports.
    fn hidden(rules: &[(&str, u16, &str, &str)]) -> Vec<(usize, Option<String>)> {
        let mut text = String::from("version: 1\nsecurity_groups:\n  - name: g\n    rules:\n");
        for (name, priority, source, ports) in rules {
            text.push_str(&format!(
                "      - {{name: {name}, priority: {priority}, direction: inbound, access: allow, protocol: tcp, source: [{source}], \
                 source_ports: [\"*\"], destination: [\"*\"], destination_ports: [{ports}]}}\n"
            ));
        }
        let source = Source { path: "test.yaml".into(), text: text.into() };
        let config = nva_config::load(&[source], None).expect("a good configuration");
        hidden_rules(&config).into_iter().map(|hidden| (hidden.rule, hidden.by)).collect()
    }

    #[test]
    fn a_rule_behind_a_wider_one_is_hidden_by_it() {
        let wide = ("wide", 100, "10.0.0.0/8", "80-90");
        assert_eq!(hidden(&[("narrow", 200, "10.1.0.0/16", "85"), wide]), [(0, Some("wide".into()))]);
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
        assert_eq!(hidden(&[halves[0], halves[1], ("both", 102, "10.0.0.0/8", "80")]), [(2, None)]);
        assert_eq!(hidden(&[halves[0], ("both", 102, "10.0.0.0/8", "80")]), []);
    }
}
