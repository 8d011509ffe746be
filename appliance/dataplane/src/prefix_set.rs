//! A set of addresses as sorted, disjoint ranges: one binary search a question, whatever it was made of.
//!
//! A prefix holds addresses of its own family only. [`Addr`] keeps IPv4 in the mapped block of IPv6, so that block is cut out of
//! every IPv6 prefix: `::/0` has no IPv4 address in it.

use crate::addr::Addr;
use nva_config::Prefix;
use std::net::IpAddr;

/// First and last address of `::ffff:0:0/96`, where [`Addr`] keeps IPv4.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// A set of addresses of both families. *Invariant:* ranges are sorted, do not overlap and do not touch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct PrefixSet {
    /// The lowest address of each range; apart from the highest, so that the search touches half the memory.
    first: Box<[u128]>,
    /// The highest address of each range.
    last: Box<[u128]>,
}

impl PrefixSet {
    /// Every address of both families.
    pub fn any() -> Self {
        Self::from_ranges(vec![(0, u128::MAX)])
    }

    /// The addresses of these prefixes.
    pub fn from_prefixes<'a>(prefixes: impl IntoIterator<Item = &'a Prefix>) -> Self {
        Self::from_ranges(prefixes.into_iter().flat_map(prefix_ranges).collect())
    }

    /// The addresses that are in any of these sets.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::from_ranges(sets.into_iter().flat_map(Self::ranges).collect())
    }

    /// The addresses that are not in this set.
    pub fn complement(&self) -> Self {
        let mut gaps = Vec::with_capacity(self.first.len() + 1);
        let mut next = Some(0);
        for (first, last) in self.ranges() {
            if let Some(start) = next.filter(|start| *start < first) {
                gaps.push((start, first - 1));
            }
            next = last.checked_add(1);
        }
        gaps.extend(next.map(|start| (start, u128::MAX)));
        Self::from_ranges(gaps)
    }

    /// The addresses that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        Self::union([&self.complement(), &other.complement()]).complement()
    }

    /// Whether the address is in the set.
    #[inline]
    pub fn contains(&self, address: Addr) -> bool {
        let bits = address.bits();
        let behind = self.first.partition_point(|first| *first <= bits);
        behind.checked_sub(1).and_then(|i| self.last.get(i)).is_some_and(|last| bits <= *last)
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Whether addresses of IPv4 and of IPv6 are in the set.
    pub fn families(&self) -> [bool; 2] {
        let has_v4 = self.ranges().any(|(first, last)| within(first, last, MAPPED).is_some());
        let has_v6 = self.ranges().any(|(first, last)| first < MAPPED.0 || last > MAPPED.1);
        [has_v4, has_v6]
    }

    /// The ranges, both ends included, in ascending order.
    pub fn ranges(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.first.iter().copied().zip(self.last.iter().copied())
    }

    /// The set as the fewest prefixes, IPv4 first, in ascending order.
    pub fn prefixes(&self) -> Vec<Prefix> {
        let mut prefixes = Vec::new();
        for (first, last) in self.ranges().filter_map(|(first, last)| within(first, last, MAPPED)) {
            split(first, last, &mut prefixes);
        }
        // The mapped block is in no prefix of IPv6, so that one may reach over it.
        let (below, above) = ((0, MAPPED.0 - 1), (MAPPED.1 + 1, u128::MAX));
        let parts =
            self.ranges().flat_map(|(first, last)| [within(first, last, below), within(first, last, above)]);
        let mut open: Option<(u128, u128)> = None;
        for (first, last) in parts.flatten() {
            match &mut open {
                Some((_, end)) if *end == below.1 && first == above.0 => *end = last,
                _ => {
                    if let Some((first, last)) = open.replace((first, last)) {
                        split(first, last, &mut prefixes);
                    }
                }
            }
        }
        if let Some((first, last)) = open {
            split(first, last, &mut prefixes);
        }
        prefixes
    }

    fn from_ranges(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        let (first, last): (Vec<_>, Vec<_>) = merged.into_iter().unzip();
        Self { first: first.into(), last: last.into() }
    }
}

/// The addresses of a prefix as [`Addr::bits`], both ends included: one range, or for a short IPv6 prefix the two beside the
/// mapped block, or none for a prefix inside it, which no packet can have.
pub fn prefix_ranges(prefix: &Prefix) -> impl Iterator<Item = (u128, u128)> + use<> {
    let first = Addr::from(prefix.address()).bits();
    let host_bits = match prefix.address() {
        IpAddr::V4(_) => 32 - u32::from(prefix.len().min(32)),
        IpAddr::V6(_) => 128 - u32::from(prefix.len().min(128)),
    };
    let last = first | u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
    let (below, above) = if prefix.address().is_ipv4() || first > MAPPED.1 || last < MAPPED.0 {
        (Some((first, last)), None)
    } else {
        (
            (first < MAPPED.0).then_some((first, MAPPED.0 - 1)),
            (last > MAPPED.1).then_some((MAPPED.1 + 1, last)),
        )
    };
    below.into_iter().chain(above)
}

/// What two ranges share.
fn within(first: u128, last: u128, bounds: (u128, u128)) -> Option<(u128, u128)> {
    let (first, last) = (first.max(bounds.0), last.min(bounds.1));
    (first <= last).then_some((first, last))
}

/// The fewest prefixes that hold the addresses from `first` to `last`, all of one family.
fn split(mut first: u128, last: u128, prefixes: &mut Vec<Prefix>) {
    loop {
        // The largest block that begins here and does not reach beyond the end.
        let mut host_bits = first.trailing_zeros();
        let fits = |bits: u32| last - first >= u128::MAX.checked_shr(128 - bits).unwrap_or(0);
        while host_bits > 0 && !fits(host_bits) {
            host_bits -= 1;
        }
        let address = IpAddr::from(Addr::from_bits(first));
        let width = if address.is_ipv4() { 32 } else { 128 };
        let len = u8::try_from(width - host_bits.min(width)).unwrap_or(0);
        prefixes.extend(Prefix::new(address, len));
        let end = first | u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        if end >= last {
            return;
        }
        first = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn address(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn set(prefixes: &[&str]) -> PrefixSet {
        let prefixes: Vec<Prefix> = prefixes.iter().map(|p| Prefix::parse(p).unwrap()).collect();
        PrefixSet::from_prefixes(&prefixes)
    }

    #[test]
    fn neighbours_and_overlaps_become_one_range() {
        assert_eq!(set(&["10.0.0.0/25", "10.0.0.128/25", "10.0.0.7"]), set(&["10.0.0.0/24"]));
        assert_eq!(set(&["10.0.0.0/24", "10.0.2.0/24"]).ranges().count(), 2);
        assert_eq!(set(&["0.0.0.0/0", "::/0"]), PrefixSet::any());
        assert!(set(&[]).is_empty() && PrefixSet::any().complement().is_empty());
        assert_eq!(set(&[]).complement(), PrefixSet::any());
    }

    #[test]
    fn ipv6_prefixes_hold_no_ipv4() {
        let all_v6 = set(&["::/0"]);
        assert!(all_v6.contains(address("::")) && all_v6.contains(address("ffff::")));
        assert!(!all_v6.contains(address("0.0.0.0")) && !all_v6.contains(address("255.255.255.255")));
        assert!(set(&["0.0.0.0/0"]).contains(address("255.255.255.255")));
        assert!(!set(&["0.0.0.0/0"]).contains(address("::")));
        assert!(set(&["::ffff:10.0.0.0/104"]).is_empty());
        assert!(!set(&["::/80"]).contains(address("10.0.0.1")));
    }

    #[test]
    fn a_set_is_written_in_the_fewest_prefixes() {
        let written =
            |set: &PrefixSet| set.prefixes().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(written(&PrefixSet::any()), "0.0.0.0/0 ::/0");
        assert_eq!(written(&set(&["::/0"])), "::/0");
        assert_eq!(written(&set(&["0.0.0.0/0"])), "0.0.0.0/0");
        assert_eq!(written(&set(&[])), "");
        assert_eq!(
            written(&set(&["10.0.0.0/9", "10.128.0.0/9", "fd00::/9", "fd80::/9", "192.0.2.7"])),
            "10.0.0.0/8 192.0.2.7/32 fd00::/8"
        );
        assert_eq!(
            written(&set(&["0.0.0.0/1", "ffff::/16"]).complement()),
            "128.0.0.0/1 ::/1 8000::/2 c000::/3 e000::/4 f000::/5 f800::/6 fc00::/7 fe00::/8 ff00::/9 ff80::/10 ffc0::/11 ffe0::/12 fff0::/13 fff8::/14 fffc::/15 fffe::/16"
        );
    }

    fn any_prefix() -> impl Strategy<Value = Prefix> {
        // Few high bits, so that prefixes meet.
        let v4 = (0u32..4, any::<u32>(), 0u8..=32).prop_map(|(high, low, len)| {
            Prefix::containing(Ipv4Addr::from(high << 30 | low >> 12 << 4).into(), len).unwrap()
        });
        let v6 = (0u128..4, 0u128..1 << 20, 0u8..=128).prop_map(|(high, low, len)| {
            Prefix::containing(Ipv6Addr::from(high << 44 | low << 16).into(), len).unwrap()
        });
        prop_oneof![v4, v6]
    }

    /// What a prefix holds, from its definition.
    fn holds(prefix: &Prefix, address: Addr) -> bool {
        match (prefix.address(), IpAddr::from(address)) {
            (IpAddr::V4(p), IpAddr::V4(a)) => {
                let shift = 32 - u32::from(prefix.len());
                u64::from(u32::from(p)) >> shift == u64::from(u32::from(a)) >> shift
            }
            (IpAddr::V6(p), IpAddr::V6(a)) => (0..prefix.len()).all(|bit| {
                let mask = 1 << (127 - bit);
                u128::from(p) & mask == u128::from(a) & mask
            }),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_set_is_a_linear_scan(
            prefixes in prop::collection::vec(any_prefix(), 0..20),
            addresses in prop::collection::vec(any::<u128>(), 8),
        ) {
            let set = PrefixSet::from_prefixes(&prefixes);
            let outside = set.complement();
            prop_assert_eq!(&PrefixSet::from_prefixes(&set.prefixes()), &set);
            prop_assert_eq!(&PrefixSet::from_prefixes(&outside.prefixes()), &outside);
            let parts: Vec<PrefixSet> = prefixes.iter().map(|p| PrefixSet::from_prefixes([p])).collect();
            prop_assert_eq!(&PrefixSet::union(&parts), &set);
            prop_assert_eq!(&outside.complement(), &set);
            // Every border and its neighbours, beside addresses from anywhere.
            let borders = set.ranges().flat_map(|(first, last)| {
                [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
            });
            for bits in borders.chain(addresses) {
                let address = Addr::from_bits(bits);
                let expected = prefixes.iter().any(|prefix| holds(prefix, address));
                prop_assert_eq!(set.contains(address), expected, "{:?}", address);
                prop_assert_eq!(outside.contains(address), !expected, "{:?}", address);
            }
        }
    }
}
