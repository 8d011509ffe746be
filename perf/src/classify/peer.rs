//! `rte_acl` with the same rules, in the same process.

use super::bench::{self, BURST};
use super::sets::FilterSet;
use nva_dataplane::policy::classifier::{Pattern, Ports, Protocols};
use nva_dataplane::prefix_set::PrefixSet;
use nva_dataplane::wire::FlowKey;
use pmd_shim::dpdk::{Acl, AclKey, AclMethod, AclRule, Eal, EalOptions, Hugepages};

/// DPDK's environment, for as many sets as there are.
pub(crate) struct Peer(Eal);

/// A set's rules in `rte_acl`.
pub(crate) struct PeerSet {
    acl: Acl,
    /// The method that was the fastest.
    pub(crate) method: AclMethod,
    /// CPU time that building took, in ms.
    pub(crate) build_ms: f64,
}

impl Peer {
    /// Starts DPDK with so much ordinary memory.
    pub(crate) fn start(memory_mib: u32) -> Result<Self, String> {
        let options = EalOptions { hugepages: Hugepages::None, memory_mib, ..EalOptions::default() };
        Eal::start(&options).map(Self).map_err(|error| error.to_string())
    }

    /// Builds a set, and chooses the method that is the fastest for these headers.
    pub(crate) fn build(&self, set: &FilterSet, keys: &[AclKey]) -> Result<PeerSet, String> {
        let rules: Option<Vec<AclRule>> = set.rules.iter().map(rule).collect();
        let rules = rules.ok_or("rte_acl is given IPv4 rules of one prefix and one range of ports only")?;
        let (acl, ns) = bench::timed(|| Acl::build(self.0, &rules));
        let mut acl = acl.map_err(|error| error.to_string())?;
        let mut best: Option<(f64, AclMethod)> = None;
        for method in AclMethod::ALL {
            if !acl.set_method(method) {
                continue;
            }
            let times = [(); 3].map(|()| bench::timed(|| look_up(&acl, keys)).1);
            let least = times.into_iter().fold(f64::INFINITY, f64::min);
            if best.is_none_or(|(other, _)| least < other) {
                best = Some((least, method));
            }
        }
        let (_, method) = best.ok_or("rte_acl has no method with AVX2 or AVX-512 on this processor")?;
        acl.set_method(method);
        Ok(PeerSet { acl, method, build_ms: ns / 1e6 })
    }
}

impl PeerSet {
    /// What it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.acl.bytes()
    }

    /// Looks all up in bursts.
    pub(crate) fn look_up(&self, keys: &[AclKey]) {
        look_up(&self.acl, keys);
    }

    /// The place of the deciding rule of each.
    pub(crate) fn answers(&self, keys: &[AclKey]) -> Vec<Option<u32>> {
        let mut found = [0; BURST];
        let mut answers = Vec::with_capacity(keys.len());
        for burst in keys.chunks(BURST) {
            self.acl.classify(burst, &mut found);
            answers.extend(found.iter().take(burst.len()).map(|found| found.checked_sub(1)));
        }
        answers
    }
}

fn look_up(acl: &Acl, keys: &[AclKey]) {
    let mut found = [0; BURST];
    for burst in keys.chunks(BURST) {
        acl.classify(burst, &mut found);
        std::hint::black_box(&found);
    }
}

/// The headers as `rte_acl` reads them; `None` if one is not of IPv4.
pub(crate) fn keys(keys: &[FlowKey]) -> Option<Vec<AclKey>> {
    let key = |key: &FlowKey| {
        let addresses = [key.src.as_v4()?, key.dst.as_v4()?];
        Some(AclKey::new(key.protocol, addresses, [key.src_port, key.dst_port]))
    };
    keys.iter().map(key).collect()
}

fn rule(pattern: &Pattern) -> Option<AclRule> {
    Some(AclRule {
        protocol: match pattern.protocol {
            Protocols::Any => None,
            Protocols::One(one) => Some(one),
            Protocols::PerFamily { .. } => return None,
        },
        source: prefix(&pattern.source)?,
        destination: prefix(&pattern.destination)?,
        source_ports: range(&pattern.source_ports)?,
        destination_ports: range(&pattern.destination_ports)?,
    })
}

/// The one IPv4 prefix that a set is.
fn prefix(set: &PrefixSet) -> Option<(u32, u8)> {
    const MAPPED: u128 = 0xffff_0000_0000;
    let (first, last) = only(set.ranges())?;
    let size = (last - first).checked_add(1)?;
    let is_v4 = first >> 32 == MAPPED >> 32 && last >> 32 == MAPPED >> 32;
    (is_v4 && size.is_power_of_two() && first % size == 0)
        .then(|| (first as u32, 32 - size.trailing_zeros() as u8))
}

fn range(ports: &Ports) -> Option<(u16, u16)> {
    only(ports.ranges())
}

fn only<T>(mut list: impl Iterator<Item = T>) -> Option<T> {
    let one = list.next()?;
    list.next().is_none().then_some(one)
}
