//! The same rules for the appliance and for `nft`: so many that match nothing, and one behind them that allows the road's traffic.

use super::traffic::SERVICE;
use std::fmt::Write;

/// Denies UDP from a prefix to one port of the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    number: usize,
    /// The destination port.
    pub(crate) port: u16,
}

impl Rule {
    /// The prefix: 24 bits, in the address space of the virtual network, so none of the road's clients.
    pub(crate) fn source(&self) -> String {
        format!("10.{}.{}.0/24", 100 + self.number / 250, self.number % 250)
    }
}

/// So many rules, each with a prefix and a port of its own.
pub(crate) fn rules(count: usize) -> Vec<Rule> {
    (0..count).map(|number| Rule { number, port: 10_000 + number as u16 }).collect()
}

/// How `nft` is to look rules up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One rule after the other.
    Linear,
    /// All of them in one verdict map of prefixes and ports.
    Map,
}

/// A stateful rule set, as a security group is one: what belongs to a known connection passes; what does not is held against the rules.
pub(crate) fn nft(rules: &[Rule], form: Form) -> String {
    let mut text = String::from("table ip perf {\n");
    if form == Form::Map {
        text += "  map rules {\n    type ipv4_addr . inet_service : verdict\n    flags interval\n    elements = {\n";
        for rule in rules {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "      {} . {} : drop,", rule.source(), rule.port);
        }
        text += "    }\n  }\n";
    }
    text += "  chain forward {\n    type filter hook forward priority 0; policy drop;\n    ct state established,related accept\n";
    match form {
        Form::Linear => {
            for rule in rules {
                let _ = writeln!(
                    text,
                    "    ip saddr {} ip daddr 10.2.0.0/24 udp dport {} drop",
                    rule.source(),
                    rule.port
                );
            }
        }
        Form::Map => text += "    ip daddr 10.2.0.0/24 ip saddr . udp dport vmap @rules\n",
    }
    let _ = writeln!(text, "    ip daddr 10.2.0.0/24 udp dport {SERVICE} accept\n  }}\n}}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_every_rule_and_the_one_that_allows() {
        let rules = rules(1000);
        for form in [Form::Linear, Form::Map] {
            let text = nft(&rules, form);
            assert_eq!(text.matches(" drop").count(), 1000 + 1, "the policy drops too");
            assert!(text.contains("10.103.249.0/24"), "{form:?}");
            assert!(text.contains("dport 9000 accept"));
        }
    }
}
