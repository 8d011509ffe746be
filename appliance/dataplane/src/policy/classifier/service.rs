//! Protocol and ports together as one small number: packets whose number is equal match the same *services*, which is what rules
//! name of protocol and ports.

use super::intervals::Intervals;
use super::memory::at;
use super::pattern::{Pattern, PortScope, Ports, Protocols};
use crate::addr::Family;
use crate::wire::FlowKey;
use hashbrown::HashMap;

/// Ports that share an entry in the upper table, as a power of two.
const PAGE_BITS: u32 = 6;

/// From protocol and ports to their class.
#[derive(Debug)]
pub(super) struct ServiceIndex {
    /// By protocol, those of IPv6 behind those of IPv4: where its plane of `plane` begins.
    protocol: Box<[u32; 512]>,
    source: PortIndex,
    destination: PortIndex,
    /// One plane for each class of protocols: the service class by the classes of both ports.
    pub(super) planes: Vec<u32>,
}

/// From a port to its class, times a factor.
#[derive(Debug)]
struct PortIndex {
    pages: Box<[u32; 1 << (16 - PAGE_BITS)]>,
    classes: Vec<u32>,
}

/// What rules name, and which classes of packets it has.
pub(super) struct Services {
    /// By rule: its service.
    pub(super) of_rule: Vec<u32>,
    /// By service: the classes whose packets match, as a bit string of `words` words.
    pub(super) classes: Vec<Vec<u64>>,
    pub(super) words: usize,
    /// How many classes there are.
    pub(super) count: usize,
}

impl ServiceIndex {
    /// Where in `planes` the class of a packet of this family stands.
    #[inline(always)]
    pub(super) fn place(&self, key: &FlowKey, family: Family) -> u32 {
        let v6 = usize::from(family == Family::V6);
        let plane = self.protocol[(v6 << 8 | usize::from(key.protocol)) % 512];
        plane + self.source.find(key.src_port) + self.destination.find(key.dst_port)
    }

    /// `None`: protocol and ports of these rules cannot be told apart with at most `most` entries and
    /// classes of ports that are in at most `memberships` sets.
    pub(super) fn build(
        patterns: &[&Pattern],
        scope: PortScope,
        most: usize,
        memberships: usize,
    ) -> Option<(Self, Services)> {
        let (protocols, of_protocol) = distinct(patterns.iter().map(|p| p.protocol));
        let (sources, of_source) = distinct(patterns.iter().map(|p| &p.source_ports));
        let (destinations, of_destination) = distinct(patterns.iter().map(|p| &p.destination_ports));
        let parts = of_protocol.iter().zip(&of_source).zip(&of_destination);
        let (services, of_rule) = distinct(parts.map(|((p, s), d)| (*p, *s, *d)));

        let source_cut = cut_ports(&sources, memberships)?;
        let destination_cut = cut_ports(&destinations, memberships)?;
        let groups = protocol_groups(&protocols, scope);
        let plane = source_cut.len() * destination_cut.len();
        let words = services.len().div_ceil(64);
        if plane.saturating_mul(groups.len()).saturating_mul(1 + words / 4) > most {
            return None;
        }
        // For each class of each part, the services that it can belong to: a packet's services are those in all three.
        let by_source = holders(&source_cut.members, services.iter().map(|s| s.1), words);
        let by_destination = holders(&destination_cut.members, services.iter().map(|s| s.2), words);
        let mut known: HashMap<Vec<u64>, u32> = HashMap::new();
        let mut planes = Vec::with_capacity(plane * groups.len());
        let mut protocol = Box::new([0; 512]);
        for group in &groups {
            for label in &group.labels {
                protocol[*label] = planes.len() as u32;
            }
            let allowed =
                &holders(core::slice::from_ref(&group.members), services.iter().map(|s| s.0), words)[0];
            for source in &by_source {
                for destination in &by_destination {
                    let both = source.iter().zip(destination).zip(allowed);
                    let found: Vec<u64> =
                        both.map(|((s, d), p)| if group.ports { p & s & d } else { *p }).collect();
                    let next = known.len() as u32;
                    planes.push(*known.entry(found).or_insert(next));
                }
            }
        }
        let count = known.len();
        let mut classes = vec![vec![0; count.div_ceil(64)]; services.len()];
        for (found, class) in known {
            for service in ones(&found) {
                classes[service][class as usize / 64] |= 1 << (class % 64);
            }
        }
        let index = Self {
            protocol,
            source: PortIndex::build(&source_cut, destination_cut.len() as u32),
            destination: PortIndex::build(&destination_cut, 1),
            planes,
        };
        Some((index, Services { of_rule, classes, words: count.div_ceil(64), count }))
    }

    pub(super) fn bytes(&self) -> usize {
        let ports =
            [&self.source, &self.destination].map(|p| size_of_val(&*p.pages) + size_of_val(&*p.classes));
        size_of_val(&*self.protocol) + size_of_val(&*self.planes) + ports.iter().sum::<usize>()
    }
}

impl PortIndex {
    fn build(cut: &Intervals, factor: u32) -> Self {
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut index = Self { pages: Box::new([0; 1 << (16 - PAGE_BITS)]), classes: Vec::new() };
        let mut place = 0;
        for page in 0..index.pages.len() as u32 {
            let classes: Vec<u32> = (page << PAGE_BITS..(page + 1) << PAGE_BITS)
                .map(|port| {
                    while cut.starts.get(place + 1).is_some_and(|next| *next <= u128::from(port)) {
                        place += 1;
                    }
                    cut.class[place] * factor
                })
                .collect();
            let start = *known.entry(classes).or_insert_with_key(|classes| {
                index.classes.extend_from_slice(classes);
                (index.classes.len() - classes.len()) as u32
            });
            index.pages[page as usize] = start;
        }
        index
    }

    #[inline(always)]
    fn find(&self, port: u16) -> u32 {
        let page = self.pages[usize::from(port >> PAGE_BITS)];
        at(&self.classes, page + u32::from(port & ((1 << PAGE_BITS) - 1)))
    }
}

/// Protocols that the same rules match.
struct ProtocolGroup {
    /// Which of the rules' protocols hold them, in ascending order.
    members: Vec<u32>,
    ports: bool,
    /// Protocol numbers, 256 more in IPv6.
    labels: Vec<usize>,
}

fn protocol_groups(protocols: &[Protocols], scope: PortScope) -> Vec<ProtocolGroup> {
    let mut groups: Vec<ProtocolGroup> = Vec::new();
    for label in 0..512 {
        let family = if label < 256 { Family::V4 } else { Family::V6 };
        let number = label as u8;
        let holds = |(_, protocol): &(u32, &Protocols)| protocol.contains(number, family);
        let members: Vec<u32> = (0..).zip(protocols).filter(holds).map(|(place, _)| place).collect();
        let ports = scope.compares(number);
        match groups.iter_mut().find(|group| group.members == members && group.ports == ports) {
            Some(group) => group.labels.push(label),
            None => groups.push(ProtocolGroup { members, ports, labels: vec![label] }),
        }
    }
    groups
}

fn cut_ports(sets: &[&Ports], memberships: usize) -> Option<Intervals> {
    let ranges = |ports: &&Ports| {
        let ranges: Vec<(u128, u128)> = ports.ranges().map(|(a, b)| (a.into(), b.into())).collect();
        ranges.into_iter()
    };
    Intervals::cut(sets.iter().map(ranges), u16::MAX.into(), memberships)
}

/// For each class, the services one part of which is among its sets, as bits.
fn holders(members: &[Vec<u32>], parts: impl Iterator<Item = u32> + Clone, words: usize) -> Vec<Vec<u64>> {
    let class = |sets: &Vec<u32>| {
        let mut bits = vec![0; words];
        for (service, part) in parts.clone().enumerate() {
            if sets.binary_search(&part).is_ok() {
                bits[service / 64] |= 1 << (service % 64);
            }
        }
        bits
    };
    members.iter().map(class).collect()
}

/// The places of the bits that are set.
pub(super) fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(place, word)| {
        let mut rest = *word;
        core::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(place * 64 + bit)
        })
    })
}

/// The distinct values in the order in which they first come, and for each value the place of its equal there.
pub(super) fn distinct<T: Copy + Eq + core::hash::Hash>(
    values: impl Iterator<Item = T>,
) -> (Vec<T>, Vec<u32>) {
    let mut known = HashMap::new();
    let mut list = Vec::new();
    let places = values
        .map(|value| {
            *known.entry(value).or_insert_with(|| {
                list.push(value);
                list.len() as u32 - 1
            })
        })
        .collect();
    (list, places)
}
