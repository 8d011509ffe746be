use super::*;
use proptest::prelude::*;

/// Pools as they are: neighbouring addresses of one subnet, of either family.
fn pool(count: u32, first: u32) -> Vec<Member> {
    (first..first + count).map(|n| Member { address: Addr::v4(n.to_be_bytes()), weight: 1 }).collect()
}

fn counts(table: &Table, members: usize) -> Vec<usize> {
    let mut counts = vec![0; members];
    for slot in table.slots() {
        counts[usize::from(*slot)] += 1;
    }
    counts
}

/// The address that each slot leads to, so that tables over different lists can be compared.
fn owners(table: &Table, members: &[Member]) -> Vec<Addr> {
    table.slots().iter().map(|slot| members[usize::from(*slot)].address).collect()
}

/// Slots of the other members that lead elsewhere without the member at `removed`, of all slots.
fn disruption(members: &[Member], removed: usize) -> f64 {
    let mut fewer = members.to_vec();
    let gone = fewer.remove(removed).address;
    let before = owners(&Table::build(members).unwrap(), members);
    let after = owners(&Table::build(&fewer).unwrap(), &fewer);
    let moved = before.iter().zip(&after).filter(|(b, a)| **b != gone && b != a).count();
    moved as f64 / SLOTS as f64
}

#[test]
fn no_members_no_table() {
    assert_eq!(Table::build(&[]), None);
}

#[test]
fn equal_weights_get_equal_shares() {
    for count in [1, 2, 3, 7, 16, 100, 255, 400, 1000] {
        let counts = counts(&Table::build(&pool(count, 0x0a02_0004)).unwrap(), count as usize);
        let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(max - min <= 1, "{count} members: {min}..{max}");
    }
}

#[test]
fn a_member_less_or_more_moves_few_slots_of_the_others() {
    for count in [2, 4, 16, 100, 255, 400] {
        let members = pool(count, 0x0a02_0004);
        for removed in [0, count as usize / 2, count as usize - 1] {
            // Adding is the same two tables, compared the other way round.
            let moved = disruption(&members, removed);
            assert!(moved <= 0.01, "{count} members without number {removed}: {moved}");
        }
    }
}

#[test]
fn every_hash_leads_to_a_member_and_every_member_is_reached() {
    let table = Table::build(&pool(10, 1)).unwrap();
    assert_eq!(table.member(Table::slot(0)), usize::from(table.slots()[0]));
    assert_eq!(table.member(Table::slot(u64::MAX)), usize::from(table.slots()[SLOTS - 1]));
    let reached: std::collections::BTreeSet<_> =
        (0..1000u64).map(|n| table.member(Table::slot(n << 54))).collect();
    assert_eq!(reached.len(), 10);
}

#[test]
fn a_thousand_members_fill_the_table() {
    let members = pool(1000, 0x0a00_0000);
    let table = Table::build(&members).unwrap();
    assert!(table.slots().iter().all(|slot| usize::from(*slot) < members.len()));
}

/// Appliances of different versions must agree while a fleet is upgraded: a change here is a change of contract.
#[test]
fn the_table_does_not_change() {
    let mut members = pool(5, 0x0a02_0004);
    members[3].weight = 3;
    let table = Table::build(&members).unwrap();
    let digest =
        table.slots().iter().fold(0u64, |sum, slot| sum.wrapping_mul(31).wrapping_add(u64::from(*slot)));
    assert_eq!(digest, 10_276_715_868_249_315_933);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn shares_follow_weights(weights in prop::collection::vec(1u16..=1000, 1..300), first in any::<u32>()) {
        let members: Vec<Member> = weights
            .iter()
            .zip(0u32..)
            .map(|(weight, n)| Member { address: Addr::v4(first.wrapping_add(n).to_be_bytes()), weight: *weight })
            .collect();
        let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        for (count, weight) in counts(&Table::build(&members).unwrap(), members.len()).iter().zip(&weights) {
            let fair = f64::from(*weight) / sum as f64 * SLOTS as f64;
            prop_assert!((*count as f64 - fair).abs() <= 1.0, "{count} slots, {fair} is fair");
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        (members, shuffled) in prop::collection::btree_map(any::<u32>(), 1u16..50, 1..60).prop_flat_map(|m| {
            let m: Vec<Member> = m
                .into_iter()
                .map(|(a, weight)| Member { address: Addr::v4(a.to_be_bytes()), weight })
                .collect();
            (Just(m.clone()), Just(m).prop_shuffle())
        })
    ) {
        let one = owners(&Table::build(&members).unwrap(), &members);
        let other = owners(&Table::build(&shuffled).unwrap(), &shuffled);
        prop_assert!(one == other);
    }

    #[test]
    fn removal_moves_few_slots_in_any_pool(count in 2u32..=400, first in any::<u32>(), removed in any::<prop::sample::Index>()) {
        let members = pool(count, first % 0xff00_0000);
        let moved = disruption(&members, removed.index(members.len()));
        prop_assert!(moved <= 0.01, "{count} members: {moved}");
    }
}
