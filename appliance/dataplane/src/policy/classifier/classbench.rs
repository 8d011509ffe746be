//! Filter sets and traces in ClassBench's text form, and sets of ours in its style, for tests and measurements.
//!
//! A rule is a line `@SRC/len DST/len lo : hi lo : hi 0xPP/0xMM 0xFFFF/0xFFFF`, tab-separated, the first that matches decides;
//! the TCP flags at the end are ignored. A trace has `src dst sport dport proto 0 first_match` in decimal, -1 for no match.

use super::{Pattern, PortScope, Ports, Protocols};
use crate::addr::Addr;
use crate::prefix_set::PrefixSet;
use crate::wire::FlowKey;
use nva_config::{PortRange, Prefix};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// How these sets mean ports.
pub const SCOPE: PortScope = PortScope::AllProtocols;

/// Reads a filter set.
///
/// # Errors
/// A sentence that names the first line that is not a rule.
pub fn parse_rules(text: &str) -> Result<Vec<Pattern>, String> {
    let mut sets = Sets::default();
    let line = |(number, line)| {
        parse_rule(line, &mut sets)
            .ok_or_else(|| format!("line {}: not a ClassBench rule: {line:?}", number + 1))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
}

/// Reads a trace: keys and the places of the rules that match first.
///
/// # Errors
/// A sentence that names the first line that is not one of a trace.
pub fn parse_trace(text: &str) -> Result<Vec<(FlowKey, Option<u32>)>, String> {
    let line = |(number, line): (usize, &str)| {
        parse_packet(line).ok_or_else(|| format!("line {}: not a ClassBench header: {line:?}", number + 1))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect()
}

fn parse_rule(line: &str, sets: &mut Sets) -> Option<Pattern> {
    let mut fields = line.strip_prefix('@')?.split('\t');
    let mut prefix = || {
        let (address, len) = fields.next()?.split_once('/')?;
        Prefix::containing(address.parse::<Ipv4Addr>().ok()?.into(), len.parse().ok()?).ok()
    };
    let (source, destination) = (prefix()?, prefix()?);
    let mut ports = || {
        let (first, last) = fields.next()?.split_once(" : ")?;
        let range = PortRange { first: first.trim().parse().ok()?, last: last.trim().parse().ok()? };
        (range.first <= range.last).then(|| Ports::new(&[range]))
    };
    let (source_ports, destination_ports) = (ports()?, ports()?);
    let (value, mask) = fields.next()?.trim().split_once('/')?;
    let byte = |text: &str| u8::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let protocol = match byte(mask)? {
        0 => Protocols::Any,
        0xff => Protocols::One(byte(value)?),
        _ => return None,
    };
    let [source, destination] = [source, destination].map(|prefix| sets.get(prefix));
    Some(Pattern { protocol, source, source_ports, destination, destination_ports })
}

fn parse_packet(line: &str) -> Option<(FlowKey, Option<u32>)> {
    let fields: Vec<i64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let [src, dst, src_port, dst_port, protocol, _, place] = *fields else { return None };
    let address = |bits: i64| Some(Addr::v4(u32::try_from(bits).ok()?.to_be_bytes()));
    let key = FlowKey {
        src: address(src)?,
        dst: address(dst)?,
        src_port: src_port.try_into().ok()?,
        dst_port: dst_port.try_into().ok()?,
        protocol: protocol.try_into().ok()?,
    };
    Some((key, (place != -1).then(|| u32::try_from(place)).transpose().ok()?))
}

/// Sets of one prefix each, shared by the rules that name it.
#[derive(Default)]
struct Sets(HashMap<Prefix, Arc<PrefixSet>>);

impl Sets {
    fn get(&mut self, prefix: Prefix) -> Arc<PrefixSet> {
        self.0.entry(prefix).or_insert_with(|| Arc::new(PrefixSet::from_prefixes([&prefix]))).clone()
    }
}

/// Repeatable pseudo-random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Often an end, else anywhere between.
    fn between(&mut self, first: u128, last: u128) -> u128 {
        match self.below(4) {
            0 => first,
            1 => last,
            _ => match (last - first).checked_add(1) {
                Some(count) => first + (u128::from(self.draw()) << 64 | u128::from(self.draw())) % count,
                None => u128::from(self.draw()) << 64 | u128::from(self.draw()),
            },
        }
    }
}

/// A header for these rules, as in the traces: of ten, eight are inside a rule, one is so but for a field, and one is from anywhere.
pub fn header(rules: &[Pattern], random: &mut Random) -> FlowKey {
    let anywhere = FlowKey {
        src: Addr::v4((random.draw() as u32).to_be_bytes()),
        dst: Addr::v4((random.draw() as u32).to_be_bytes()),
        src_port: random.draw() as u16,
        dst_port: random.draw() as u16,
        protocol: random.draw() as u8,
    };
    let kind = random.below(10);
    if kind == 9 || rules.is_empty() {
        return anywhere;
    }
    let rule = &rules[random.below(rules.len() as u64) as usize];
    let mut inside = |ranges: Vec<(u128, u128)>| {
        let (first, last) = *ranges.get(random.below(ranges.len().max(1) as u64) as usize)?;
        Some(random.between(first, last))
    };
    let ports = |ports: &Ports| ports.ranges().map(|(a, b)| (a.into(), b.into())).collect();
    let (src, dst) = (inside(rule.source.ranges().collect()), inside(rule.destination.ranges().collect()));
    let (src_port, dst_port) = (inside(ports(&rule.source_ports)), inside(ports(&rule.destination_ports)));
    let mut key = FlowKey {
        src: src.map_or(anywhere.src, Addr::from_bits),
        dst: dst.map_or(anywhere.dst, Addr::from_bits),
        src_port: src_port.map_or(0, |port| port as u16),
        dst_port: dst_port.map_or(0, |port| port as u16),
        protocol: match rule.protocol {
            Protocols::Any => random.pick(&[6, 17, 1, 47]),
            Protocols::One(one) => one,
            Protocols::PerFamily { v4, .. } => v4,
        },
    };
    if kind == 8 {
        match random.below(5) {
            0 => key.src = anywhere.src,
            1 => key.dst = anywhere.dst,
            2 => key.src_port = anywhere.src_port,
            3 => key.dst_port = anywhere.dst_port,
            _ => key.protocol = anywhere.protocol,
        }
    }
    key
}

/// What kind of filter a set of ours is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Access lists: long prefixes on both sides, any source port, many destination ports.
    Acl,
    /// Firewalls: one side often any, ports and port ranges on both sides.
    Firewall,
    /// IP chains: between both.
    Chain,
}

impl Style {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Acl, Self::Firewall, Self::Chain];

    /// `acl`, `fw` or `ipc`, as ClassBench calls its seeds.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Acl => "acl",
            Self::Firewall => "fw",
            Self::Chain => "ipc",
        }
    }

    /// By prefix length class (any, 1 to 15, 16 to 23, 24 to 31, host), how often the source has it, and the destination.
    const fn lengths(self) -> [[u64; 5]; 2] {
        match self {
            Self::Acl => [[1, 1, 10, 37, 51], [1, 5, 18, 31, 45]],
            Self::Firewall => [[41, 23, 5, 20, 11], [18, 15, 4, 35, 28]],
            Self::Chain => [[8, 7, 26, 42, 17], [6, 7, 18, 46, 23]],
        }
    }
}

/// A set of so many rules in a style; ends in a rule that matches everything.
pub fn generate(style: Style, rules: usize, seed: u64) -> Vec<Pattern> {
    let mut random = Random(seed);
    let mut sets = Sets::default();
    // Addresses come from networks of a site and hosts in them, as many as the set is large.
    let networks: Vec<u32> = (0..rules / 8 + 4).map(|_| random.draw() as u32 & 0xffff_ff00).collect();
    let mut list: Vec<Pattern> = Vec::with_capacity(rules);
    while list.len() + 1 < rules {
        // Wide on both sides at once are few.
        let narrow = random.below(16) != 0;
        let mut wide = false;
        let [source, destination] = style.lengths().map(|weights| {
            let mut class = weighted(&weights, &mut random);
            if wide && narrow && class < 2 {
                class = 3;
            }
            wide = class < 2;
            let len = match class {
                0 => 0,
                1 => 1 + random.below(15) as u8,
                2 => 16 + random.below(8) as u8,
                3 => 24 + random.below(8) as u8,
                _ => 32,
            };
            let address = random.pick(&networks) | random.below(256) as u32;
            sets.get(Prefix::containing(IpAddr::V4(address.into()), len).expect("at most 32 bits"))
        });
        let protocol =
            random.pick(&[Protocols::One(6), Protocols::One(6), Protocols::One(17), Protocols::Any]);
        let source_ports = if style == Style::Acl { (0, u16::MAX) } else { some_ports(4, &mut random) };
        let destination_ports = some_ports(1, &mut random);
        let [source_ports, destination_ports] =
            [source_ports, destination_ports].map(|(first, last)| Ports::new(&[PortRange { first, last }]));
        list.push(Pattern { protocol, source, source_ports, destination, destination_ports });
    }
    let everything = sets.get(Prefix::containing(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).expect("no bits"));
    let all = Ports::new(&[PortRange::ALL]);
    list.push(Pattern {
        protocol: Protocols::Any,
        source: everything.clone(),
        source_ports: all.clone(),
        destination: everything,
        destination_ports: all,
    });
    list
}

/// Any port, one of those that are often named, or a range; any port `wild` times as often as the others.
fn some_ports(wild: u64, random: &mut Random) -> (u16, u16) {
    const NAMED: [u16; 24] = [
        20, 21, 22, 23, 25, 53, 69, 80, 88, 110, 123, 135, 143, 161, 389, 443, 445, 514, 750, 1433, 1521,
        3306, 5555, 8080,
    ];
    match random.below(4 * wild + 4) {
        0..=2 => {
            let port = random.pick(&NAMED);
            (port, port)
        }
        3 => random.pick(&[
            (1024, u16::MAX),
            (0, 1023),
            (6000, 6063),
            (5000, 5999),
            (8000, 8100),
            (33_434, 33_534),
        ]),
        _ => (0, u16::MAX),
    }
}

/// A place, as often as its weight says.
fn weighted(weights: &[u64], random: &mut Random) -> usize {
    let mut left = random.below(weights.iter().sum());
    for (place, weight) in weights.iter().enumerate() {
        match left.checked_sub(*weight) {
            Some(rest) => left = rest,
            None => return place,
        }
    }
    0
}
