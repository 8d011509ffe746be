//! Sets of ours in the style of ClassBench's seeds, and headers for any set.

use super::Sets;
use crate::addr::Addr;
use crate::policy::classifier::{Pattern, Ports, Protocols};
use crate::wire::FlowKey;
use nva_config::{PortRange, Prefix};
use std::net::{IpAddr, Ipv4Addr};

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
