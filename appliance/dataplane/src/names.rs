//! Names of rules, backends and tunnels as small numbers that keep their meaning.
//!
//! Flow records, counters, logs and frames on their way carry a [`RuleId`], a [`BackendId`] or the [`PortId`] of a tunnel. They outlive
//! the configuration that made them, so a name gets its number once and keeps it in every later generation. *Invariant:* an entry is
//! never changed or removed.

use crate::addr::Addr;
use crate::verdict::{BackendId, PortId, RuleId};
use nva_config::Trust;
use std::collections::HashMap;

/// The registry, handed from generation to generation. It grows with the number of different names ever configured.
#[derive(Clone, Debug, Default)]
pub struct Names {
    rules: Vec<RuleName>,
    rule_ids: HashMap<(String, String), RuleId>,
    backends: Vec<BackendName>,
    backend_ids: HashMap<BackendName, BackendId>,
    tunnels: Vec<TunnelName>,
    tunnel_ids: HashMap<TunnelName, PortId>,
}

/// A tunnel to one peer: all that makes it another tunnel where it differs, so that a number never changes sides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TunnelName {
    /// Its name.
    pub name: String,
    /// Which side it leads to.
    pub is_trusted: bool,
    /// The port that carries it.
    pub carrier: PortId,
    /// This end.
    pub address: Addr,
    /// The other end.
    pub peer: Addr,
    /// The network.
    pub vni: u32,
    /// The UDP port.
    pub udp_port: u16,
    /// It is one direction of a Geneve tunnel, else a VXLAN tunnel.
    pub is_geneve: bool,
}

impl TunnelName {
    /// Which side it leads to.
    pub fn trust(&self) -> Trust {
        if self.is_trusted { Trust::Trusted } else { Trust::Untrusted }
    }
}

/// `GROUP/RULE`, with the place of the separator.
#[derive(Clone, Debug)]
struct RuleName {
    text: String,
    group_len: usize,
}

/// A backend's name with the parts that make it unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendName {
    /// The load balancer.
    pub load_balancer: String,
    /// The pool, in the load balancer.
    pub pool: String,
    /// The backend, in the pool.
    pub backend: String,
}

impl Names {
    /// The number of a rule of a security group; the same for the same names, for ever.
    pub fn rule(&mut self, group: &str, rule: &str) -> RuleId {
        let next = RuleId(next_id(self.rules.len()));
        let id = *self.rule_ids.entry((group.to_owned(), rule.to_owned())).or_insert(next);
        if id == next {
            self.rules.push(RuleName { text: format!("{group}/{rule}"), group_len: group.len() });
        }
        id
    }

    /// The number of a backend; the same for the same names, for ever.
    pub fn backend(&mut self, load_balancer: &str, pool: &str, backend: &str) -> BackendId {
        let name = BackendName {
            load_balancer: load_balancer.to_owned(),
            pool: pool.to_owned(),
            backend: backend.to_owned(),
        };
        let next = BackendId(next_id(self.backends.len()));
        let id = *self.backend_ids.entry(name.clone()).or_insert(next);
        if id == next {
            self.backends.push(name);
        }
        id
    }

    /// The number of a tunnel to one peer; the same for the same tunnel, for ever. `None`: all numbers are taken.
    pub fn tunnel(&mut self, name: &TunnelName) -> Option<PortId> {
        if let Some(id) = self.tunnel_ids.get(name) {
            return Some(*id);
        }
        let number = u16::try_from(self.tunnels.len()).ok()?;
        if usize::from(number) >= PortId::TUNNELS_MAX {
            return None;
        }
        self.tunnels.push(name.clone());
        self.tunnel_ids.insert(name.clone(), PortId::tunnel(number));
        Some(PortId::tunnel(number))
    }

    /// Every tunnel that has a number, in the order of the numbers.
    pub fn tunnels(&self) -> &[TunnelName] {
        &self.tunnels
    }

    /// `GROUP/RULE`, as verdict lines show it; empty for a number that this registry did not give out.
    pub fn rule_name(&self, id: RuleId) -> &str {
        self.rules.get(id.0 as usize).map_or("", |name| &name.text)
    }

    /// A rule's group and its own name.
    pub fn rule_parts(&self, id: RuleId) -> Option<(&str, &str)> {
        let name = self.rules.get(id.0 as usize)?;
        Some((name.text.get(..name.group_len)?, name.text.get(name.group_len + 1..)?))
    }

    /// The backend's own name, as verdict lines show it; empty for a number that this registry did not give out.
    pub fn backend_name(&self, id: BackendId) -> &str {
        self.backends.get(id.0 as usize).map_or("", |name| &name.backend)
    }

    /// A backend's name with its load balancer and pool.
    pub fn backend_parts(&self, id: BackendId) -> Option<&BackendName> {
        self.backends.get(id.0 as usize)
    }

    /// How many rules have a number: numbers run from 0 to one less.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// How many backends have a number: numbers run from 0 to one less.
    pub fn backend_count(&self) -> usize {
        self.backends.len()
    }
}

/// The number of the entry behind the last. Four thousand million names do not fit any machine's configuration.
fn next_id(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_in_later_generations() {
        let mut first = Names::default();
        let a = first.rule("web-nsg", "allow-https");
        let b = first.rule("web-nsg", "DenyAllInBound");
        let web = first.backend("public", "web", "web-1");
        let mut second = first.clone();
        assert_eq!(second.rule("nic-nsg", "allow-https"), RuleId(2));
        assert_eq!(second.rule("web-nsg", "DenyAllInBound"), b);
        assert_eq!(second.rule("web-nsg", "allow-https"), a);
        assert_eq!(second.backend("public", "web6", "web-1"), BackendId(1));
        assert_eq!(second.backend("public", "web", "web-1"), web);
        assert_eq!((second.rule_count(), second.backend_count()), (3, 2));
        assert_eq!((first.rule_count(), first.backend_count()), (2, 1));
    }

    #[test]
    fn numbers_give_back_their_names() {
        let mut names = Names::default();
        let rule = names.rule("web-nsg", "allow-https");
        let backend = names.backend("public", "web", "web-1");
        assert_eq!(names.rule_name(rule), "web-nsg/allow-https");
        assert_eq!(names.rule_parts(rule), Some(("web-nsg", "allow-https")));
        assert_eq!(names.backend_name(backend), "web-1");
        assert_eq!(
            names.backend_parts(backend).map(|b| (&*b.load_balancer, &*b.pool)),
            Some(("public", "web"))
        );
        assert_eq!((names.rule_name(RuleId(9)), names.backend_name(BackendId(9))), ("", ""));
    }
}
