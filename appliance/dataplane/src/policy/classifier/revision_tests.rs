//! Revisions held to the linear search over a list that is changed in the plain way.

use super::tests::{any_pattern, any_rules, key_near};
use super::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::sync::Arc;

/// A change by places of a list, which are taken modulo its length.
#[derive(Clone, Debug)]
enum Change {
    Add(usize, Pattern),
    /// One that is there already, once more.
    Again(usize, usize),
    Remove(usize),
}

fn any_change() -> impl Strategy<Value = Change> {
    let place = || 0usize..1000;
    prop_oneof![
        4 => (place(), any_pattern()).prop_map(|(place, pattern)| Change::Add(place, pattern)),
        1 => (place(), place()).prop_map(|(place, other)| Change::Again(place, other)),
        5 => place().prop_map(Change::Remove),
    ]
}

/// The change as an edit, made in the list too; `None` where there is nothing to take away.
fn edit(change: &Change, list: &mut Vec<(u32, Pattern)>, next: &mut u32) -> Option<Edit> {
    let pattern = match change {
        Change::Add(_, pattern) => pattern.clone(),
        Change::Again(_, other) => list.get(other % list.len().max(1))?.1.clone(),
        Change::Remove(place) => {
            let place = place % list.len().max(1);
            list.get(place)?;
            return Some(Edit::Remove { number: list.remove(place).0 });
        }
    };
    let (Change::Add(place, _) | Change::Again(place, _)) = change else { return None };
    let place = place % (list.len() + 1);
    let before = list.get(place).map(|(number, _)| *number);
    list.insert(place, (*next, pattern.clone()));
    *next += 1;
    Some(Edit::Add { pattern, before })
}

#[test]
fn any_changes_answer_like_the_linear_search_and_like_tables_of_their_own() {
    let (by_added, by_heirs, misses) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let scope = prop::sample::select(vec![PortScope::TcpAndUdp, PortScope::AllProtocols]);
    let changes = prop::collection::vec(prop::collection::vec(any_change(), 1..4), 1..12);
    TestRunner::new(ProptestConfig::with_cases(200))
        .run(&(any_rules(60), scope, changes, any::<u64>()), |(rules, scope, changes, seed)| {
            let mut list: Vec<(u32, Pattern)> = (0..).zip(rules.iter().cloned()).collect();
            let (built, mut next) = (rules.len() as u32, rules.len() as u32);
            let mut revision = Revision::from(Arc::new(Classifier::build(rules.clone(), scope)));
            let mut random = classbench::Random(seed);
            for changes in changes {
                let edits: Vec<Edit> =
                    changes.iter().filter_map(|change| edit(change, &mut list, &mut next)).collect();
                let before = revision.clone();
                revision = before.revised(&edits).expect("few changes of rules that are there");
                let numbers: Vec<u32> = revision.rules().map(|(number, _)| number).collect();
                prop_assert_eq!(&numbers, &list.iter().map(|(number, _)| *number).collect::<Vec<_>>());
                let patterns: Vec<Pattern> = list.iter().map(|(_, pattern)| pattern.clone()).collect();
                // Near rules that are there, and near those that were.
                let all: Vec<Pattern> = patterns.iter().chain(&rules).cloned().collect();
                let keys: Vec<FlowKey> = (0..40)
                    .map(|_| key_near(&all[random.below(all.len() as u64) as usize..], &mut random))
                    .collect();
                let mut found = vec![Some(0); keys.len()];
                revision.classify_burst(&keys, &mut found);
                let anew = revision.rebuilt();
                let linear = Linear { patterns: &patterns, scope };
                for (key, found) in keys.iter().zip(found) {
                    let place = linear.classify(key);
                    let expected = place.map(|place| list[place].0);
                    prop_assert_eq!(found, expected, "{:?}", key);
                    prop_assert_eq!(revision.classify(key), expected.map(|number| number as usize));
                    prop_assert_eq!(anew.classify(key), place);
                    // The revision before it is as it was: nothing that is shared has changed.
                    let was = before.rules().find(|(_, pattern)| pattern.matches(key, scope));
                    prop_assert_eq!(before.classify(key), was.map(|(number, _)| number as usize));
                    let tables = before.base().classify(key).map(|place| place as u32);
                    by_added.set(by_added.get() + usize::from(expected.is_some_and(|n| n >= built)));
                    let heir = expected.is_some_and(|n| n < built) && expected != tables;
                    by_heirs.set(by_heirs.get() + usize::from(heir));
                    misses.set(misses.get() + usize::from(expected.is_none()));
                }
            }
            Ok(())
        })
        .unwrap();
    let counts = [by_added.get(), by_heirs.get(), misses.get()];
    assert!(counts[0] > 1_000 && counts[1] > 100 && counts[2] > 300, "inert: {counts:?}");
}

#[test]
fn a_revision_takes_so_many_changes_and_none_of_rules_that_are_not_there() {
    let rules = classbench::generate(classbench::Style::Chain, 600, 1);
    let pattern = rules[0].clone();
    let first = Revision::from(Arc::new(Classifier::build(rules.clone(), classbench::SCOPE)));
    let add = |before| Edit::Add { pattern: pattern.clone(), before };
    assert_eq!(first.changes(), 0);
    assert!(
        first.revised(&[add(Some(600))]).is_none()
            && first.revised(&[Edit::Remove { number: 600 }]).is_none()
    );
    let twice = [Edit::Remove { number: 5 }, Edit::Remove { number: 5 }];
    assert!(first.revised(&twice).is_none() && first.revised(&twice[..1]).is_some());
    assert!(first.revised(&[twice[0].clone(), add(Some(5))]).is_none());
    // An added rule has the next number, and may be an added one's neighbour.
    let some = first.revised(&[add(None), add(Some(600)), Edit::Remove { number: 600 }]).unwrap();
    assert_eq!(some.rules().last().map(|(number, _)| number), Some(601));
    assert!(some.revised(&[add(Some(600))]).is_none());
    let adds: Vec<Edit> = (0..Revision::CHANGES).map(|_| add(Some(0))).collect();
    let full = first.revised(&adds).unwrap();
    assert!(full.revised(&[add(None)]).is_none() && full.bytes() > first.bytes());
    let removals: Vec<Edit> = (0..Revision::CHANGES as u32).map(|number| Edit::Remove { number }).collect();
    let empty = full.revised(&removals).unwrap();
    assert!(empty.revised(&[Edit::Remove { number: 599 }]).is_none());
    assert_eq!(empty.rules().count(), 600);
}
