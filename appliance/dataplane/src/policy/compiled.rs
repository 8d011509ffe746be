//! A security group as arrays: for each direction its rules in the order of their priority, default rules last.

use super::Decision;
use super::classifier::{Classifier, Classify, Edit, Pattern, PortScope, Ports, Protocols, Revision};
use super::endpoints::Endpoints;
use super::trace::RuleField;
use crate::addr::Addr;
use crate::names::Names;
use crate::verdict::RuleId;
use crate::wire::{FlowKey, protocol};
use nva_config::{Access, Direction, Endpoint, PortRange, RuleProtocol, SecurityGroup, SecurityRule};
use std::sync::Arc;

/// A compiled security group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    name: String,
    flush: bool,
    inbound: Rules,
    outbound: Rules,
    /// The outbound rules for tags of the platform's own services, where there are any.
    to_platform: Option<Rules>,
}

/// The rules of one direction, and how one is found. Tables are shared by the generations that have the same rules, or nearly.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// By number in the classifier: as packets need them, and as people do.
    words: Box<[Word]>,
    rules: Arc<[Rule]>,
    classifier: Revision,
}

/// What a rule says, in so few bytes that those of many rules stay in the caches: its number, and the lowest bit says whether it allows.
#[derive(Clone, Copy, Debug)]
struct Word(u32);

/// So many changes are made to tables that are there; for more, and beside as many that were made before, the rules are built anew.
const CHANGES: usize = 64;

/// The platform's addresses.
pub(super) const PLATFORM: [Addr; 2] = [Addr::PLATFORM, Addr::METADATA];

/// Packets whose rules are looked up together.
const TOGETHER: usize = 32;

/// A compiled rule; what it matches is in the classifier under the same number.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    pub(super) name: String,
    pub(super) priority: u16,
    pub(super) access: Access,
}

impl From<&Rule> for Word {
    fn from(rule: &Rule) -> Self {
        Self(rule.id.0 << 1 | u32::from(rule.access == Access::Allow))
    }
}

impl Word {
    #[inline(always)]
    fn decision(self) -> Decision {
        let access = if self.0 & 1 == 0 { Access::Deny } else { Access::Allow };
        Decision { access, rule: Some(RuleId(self.0 >> 1)) }
    }
}

impl Group {
    /// Compiles a group, which takes over from what it was before as much as has not changed.
    pub(super) fn build(
        group: &SecurityGroup,
        endpoints: &mut Endpoints<'_>,
        names: &mut Names,
        before: Option<&Self>,
    ) -> Self {
        let defaults = [Direction::Inbound, Direction::Outbound].map(default_rules);
        let [inbound, outbound] = [
            in_order(group, Direction::Inbound, &defaults[0]),
            in_order(group, Direction::Outbound, &defaults[1]),
        ];
        let is_service = |rule: &&&SecurityRule| endpoints.names_platform_service(&rule.destination);
        let services: Vec<&SecurityRule> = outbound.iter().filter(is_service).copied().collect();
        let mut compile = |sorted: Vec<&SecurityRule>, before: Option<&Rules>| {
            let rules: Vec<Rule> = sorted
                .iter()
                .map(|rule| Rule {
                    id: names.rule(&group.name, &rule.name),
                    name: rule.name.clone(),
                    priority: rule.priority,
                    access: rule.access,
                })
                .collect();
            let patterns: Vec<Pattern> = sorted.iter().map(|rule| pattern(rule, endpoints)).collect();
            let changed = before.and_then(|before| before.changed(&rules, &patterns));
            changed.unwrap_or_else(|| Rules::build(rules, patterns))
        };
        let services_before = before.and_then(|before| before.to_platform.as_ref());
        Self {
            inbound: compile(inbound, before.map(|before| &before.inbound)),
            to_platform: (!services.is_empty()).then(|| compile(services, services_before)),
            outbound: compile(outbound, before.map(|before| &before.outbound)),
            name: group.name.clone(),
            flush: group.flush_connections,
        }
    }

    /// What finding its rules takes, in bytes: the tables and what rules match.
    pub(super) fn bytes(&self) -> usize {
        [Some(&self.inbound), Some(&self.outbound), self.to_platform.as_ref()]
            .into_iter()
            .flatten()
            .map(Rules::bytes)
            .sum()
    }

    /// What its rules match, of both directions.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        let rules = [Some(&self.inbound), Some(&self.outbound), self.to_platform.as_ref()];
        rules.into_iter().flatten().flat_map(|rules| rules.iter().map(|(_, _, pattern)| pattern))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether established flows are judged again when the rules change.
    pub(super) fn flush(&self) -> bool {
        self.flush
    }

    pub(super) fn rules(&self, direction: Direction) -> &Rules {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }

    /// The first matching rule decides. The last default rule matches everything, so there always is one. `None`: the group has
    /// no say.
    pub(super) fn decide(&self, direction: Direction, key: &FlowKey) -> (Access, Option<RuleId>) {
        if direction == Direction::Outbound && is_platform(key.dst) {
            let deciding = self.decide_for_platform(key).map(|(rules, place)| rules.rules.get(place));
            return deciding.flatten().map_or((Access::Allow, None), |rule| (rule.access, Some(rule.id)));
        }
        let rules = self.rules(direction);
        let Decision { access, rule } = rules.decision(rules.classify(key));
        (access, rule)
    }

    /// The same for many packets, none of which is to the platform.
    pub(super) fn decide_all(&self, direction: Direction, keys: &[FlowKey], decisions: &mut [Decision]) {
        let rules = self.rules(direction);
        for (keys, decisions) in keys.chunks(TOGETHER).zip(decisions.chunks_mut(TOGETHER)) {
            let mut places = [None; TOGETHER];
            rules.classify_burst(keys, &mut places);
            for (decision, place) in decisions.iter_mut().zip(places) {
                *decision = rules.decision(place.map(|place| place as usize));
            }
        }
    }

    /// What is sent to the platform's own services is for groups to deny by these services' tags alone: the rules in question and
    /// the place of the one that decides; `None` where the group denies otherwise, which does not count.
    #[cold]
    pub(super) fn decide_for_platform(&self, key: &FlowKey) -> Option<(&Rules, usize)> {
        if let Some(rules) = &self.to_platform
            && let Some(place) = rules.classify(key)
        {
            return Some((rules, place));
        }
        let place = self.outbound.classify(key)?;
        let deciding = self.outbound.rules.get(place)?;
        (deciding.access == Access::Allow).then_some((&self.outbound, place))
    }
}

impl Rules {
    fn build(rules: Vec<Rule>, patterns: Vec<Pattern>) -> Self {
        let classifier = Classifier::build(patterns, PortScope::TcpAndUdp);
        Self::new(rules, Arc::new(classifier).into())
    }

    fn new(rules: Vec<Rule>, classifier: Revision) -> Self {
        Self { words: rules.iter().map(Word::from).collect(), rules: rules.into(), classifier }
    }

    /// What the rule of this number says.
    #[inline(always)]
    fn decision(&self, number: Option<usize>) -> Decision {
        let word = number.and_then(|number| self.words.get(number));
        word.map_or(Decision { access: Access::Deny, rule: None }, |word| word.decision())
    }

    /// These rules, found by the same tables with the few changes that lead there. `None`: they are better built anew.
    fn changed(&self, rules: &[Rule], patterns: &[Pattern]) -> Option<Self> {
        let (mut edits, mut numbers) = (Vec::new(), Vec::with_capacity(rules.len()));
        let mut next = self.rules.len() as u32;
        let mut old = self.iter().peekable();
        for (rule, pattern) in rules.iter().zip(patterns) {
            // Priorities are distinct: what has another one, or matches something else, is another rule.
            let is_gone = |other: &(u32, &Rule, &Pattern)| {
                other.1.priority < rule.priority || (other.1.priority == rule.priority && other.2 != pattern)
            };
            while let Some((number, ..)) = old.next_if(is_gone) {
                edits.push(Edit::Remove { number });
            }
            match old.next_if(|other| other.1.priority == rule.priority) {
                Some((number, ..)) => numbers.push(number),
                None => {
                    let before = old.peek().map(|(number, ..)| *number);
                    edits.push(Edit::Add { pattern: pattern.clone(), before });
                    numbers.push(next);
                    next += 1;
                }
            }
            if edits.len() > CHANGES {
                return None;
            }
        }
        edits.extend(old.map(|(number, ..)| Edit::Remove { number }));
        let is_worth_it = edits.is_empty()
            || (edits.len() + self.classifier.changes() <= CHANGES && !self.classifier.base().is_linear());
        let classifier = if is_worth_it { self.classifier.revised(&edits)? } else { return None };
        // A number that no rule has any more keeps the rule that had it.
        let mut all = self.rules.to_vec();
        for (number, rule) in numbers.into_iter().zip(rules) {
            match all.get_mut(number as usize) {
                Some(slot) => *slot = rule.clone(),
                None => all.push(rule.clone()),
            }
        }
        Some(Self::new(all, classifier))
    }

    /// Each rule's number, itself and what it matches, in the order in which they are tried.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Rule, &Pattern)> {
        let numbered = self.classifier.rules();
        numbered.filter_map(|(number, pattern)| Some((number, self.rules.get(number as usize)?, pattern)))
    }

    /// How many changes were made to its tables since they were built.
    #[cfg(test)]
    pub(super) fn changes(&self) -> usize {
        self.classifier.changes()
    }

    /// Whether it has the very tables of another.
    #[cfg(test)]
    pub(super) fn shares_tables(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.classifier.base(), other.classifier.base())
    }

    fn bytes(&self) -> usize {
        self.classifier.bytes() + self.rules.len() * size_of::<Pattern>()
    }
}

impl Classify for Rules {
    #[inline]
    fn classify(&self, key: &FlowKey) -> Option<usize> {
        self.classifier.classify(key)
    }

    fn classify_burst(&self, keys: &[FlowKey], places: &mut [Option<u32>]) {
        self.classifier.classify_burst(keys, places);
    }
}

/// Whether the address is one of the platform's, which groups do not guard.
pub(super) fn is_platform(address: Addr) -> bool {
    PLATFORM.contains(&address)
}

/// The rules of one direction in the order in which they are tried.
pub(super) fn in_order<'a>(
    group: &'a SecurityGroup,
    direction: Direction,
    defaults: &'a [SecurityRule],
) -> Vec<&'a SecurityRule> {
    let own = group.rules.iter().filter(|rule| rule.direction == direction);
    let mut sorted: Vec<&SecurityRule> = own.chain(defaults).collect();
    sorted.sort_by_key(|rule| rule.priority);
    sorted
}

/// What a rule matches.
pub(super) fn pattern(rule: &SecurityRule, endpoints: &mut Endpoints<'_>) -> Pattern {
    Pattern {
        protocol: match rule.protocol {
            RuleProtocol::Any => Protocols::Any,
            RuleProtocol::Tcp => Protocols::One(protocol::TCP),
            RuleProtocol::Udp => Protocols::One(protocol::UDP),
            RuleProtocol::Esp => Protocols::One(protocol::ESP),
            RuleProtocol::Ah => Protocols::One(protocol::AH),
            RuleProtocol::Icmp => Protocols::PerFamily { v4: protocol::ICMP, v6: protocol::ICMPV6 },
        },
        source: endpoints.resolve(&rule.source),
        source_ports: Ports::new(&rule.source_ports),
        destination: endpoints.resolve(&rule.destination),
        destination_ports: Ports::new(&rule.destination_ports),
    }
}

/// The fields that keep a rule from matching.
pub(super) fn failing(pattern: &Pattern, key: &FlowKey) -> impl Iterator<Item = RuleField> {
    let ports = PortScope::TcpAndUdp.compares(key.protocol);
    [
        (RuleField::Protocol, pattern.protocol.contains(key.protocol, key.src.family())),
        (RuleField::Source, pattern.source.contains(key.src)),
        (RuleField::SourcePorts, !ports || pattern.source_ports.contains(key.src_port)),
        (RuleField::Destination, pattern.destination.contains(key.dst)),
        (RuleField::DestinationPorts, !ports || pattern.destination_ports.contains(key.dst_port)),
    ]
    .into_iter()
    .filter_map(|(field, matches)| (!matches).then_some(field))
}

/// The cloud's default rules, which no group can take away, only override.
pub fn default_rules(direction: Direction) -> [SecurityRule; 3] {
    use Access::{Allow, Deny};
    use Endpoint::{Any, AzureLoadBalancer, Internet, VirtualNetwork};
    let rule = |name: &str, priority, access, source, destination| SecurityRule {
        name: name.to_owned(),
        priority,
        direction,
        access,
        protocol: RuleProtocol::Any,
        source: vec![source],
        source_ports: vec![PortRange { first: 0, last: u16::MAX }],
        destination: vec![destination],
        destination_ports: vec![PortRange { first: 0, last: u16::MAX }],
    };
    match direction {
        Direction::Inbound => [
            rule("AllowVnetInBound", 65_000, Allow, VirtualNetwork, VirtualNetwork),
            rule("AllowAzureLoadBalancerInBound", 65_001, Allow, AzureLoadBalancer, Any),
            rule("DenyAllInBound", 65_500, Deny, Any, Any),
        ],
        Direction::Outbound => [
            rule("AllowVnetOutBound", 65_000, Allow, VirtualNetwork, VirtualNetwork),
            rule("AllowInternetOutBound", 65_001, Allow, Any, Internet),
            rule("DenyAllOutBound", 65_500, Deny, Any, Any),
        ],
    }
}
