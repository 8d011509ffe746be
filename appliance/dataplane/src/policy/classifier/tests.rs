use super::classbench::{self, Random, Style};
use super::*;
use crate::addr::Addr;
use crate::prefix_set::PrefixSet;
use nva_config::{PortRange, Prefix};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::sync::Arc;

/// Limits that force each form: one matrix, and rules divided over several.
const FORMS: [Limits; 2] = [
    Limits { single_bytes: (1 << 40, 0), single_work: (1 << 40, 0), ..Limits::DEFAULT },
    Limits { single_work: (0, 0), ..Limits::DEFAULT },
];

/// With AVX-512 where the processor has it; `check` tries the same without.
fn compiled(patterns: &[Pattern], scope: PortScope, limits: Limits) -> Classifier {
    let tables = Tables::build(&patterns.iter().collect::<Vec<_>>(), scope, limits);
    assert!(tables.is_some(), "no tables for {} rules", patterns.len());
    Classifier::new(patterns.to_vec(), scope, tables)
}

/// Every answer, one at a time and in bursts of any length, with and without AVX-512, must be the linear search's. How many rules were hit, and how
/// many packets hit none.
fn check(classifier: &mut Classifier, keys: &[FlowKey]) -> Result<(usize, usize), TestCaseError> {
    let expected: Vec<Option<usize>> = keys.iter().map(|key| classifier.linear().classify(key)).collect();
    for (key, expected) in keys.iter().zip(&expected) {
        prop_assert_eq!(classifier.classify(key), *expected, "{:?}", key);
    }
    for cpu in [None, Avx512::detect()] {
        classifier.cpu = cpu;
        for len in [keys.len(), 1, WIDE + 1, 31] {
            let mut places = vec![Some(u32::MAX); keys.len()];
            for (keys, places) in keys.chunks(len).zip(places.chunks_mut(len)) {
                classifier.classify_burst(keys, places);
            }
            for ((key, place), expected) in keys.iter().zip(places).zip(&expected) {
                let place = place.map(|place| place as usize);
                prop_assert_eq!(place, *expected, "{:?} in a burst of {}, {:?}", key, len, cpu);
            }
        }
    }
    let hit: std::collections::BTreeSet<usize> = expected.iter().flatten().copied().collect();
    Ok((hit.len(), expected.iter().filter(|place| place.is_none()).count()))
}

// ---- adversarial rules -------------------------------------------------------------------------------------------

/// Few borders, so that prefixes are nested, equal and side by side; both families, /0, hosts, first and last addresses.
fn any_prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (
        prop::sample::select(vec![0u32, 0x0a00_0000, 0x0a00_0100, 0x7fff_ffff, 0x8000_0000, u32::MAX]),
        0u32..4,
        prop::sample::select(vec![0u8, 1, 7, 8, 15, 16, 17, 22, 24, 27, 30, 31, 32, 32]),
    )
        .prop_map(|(base, low, len)| {
            Prefix::containing(std::net::Ipv4Addr::from(base ^ low).into(), len).unwrap()
        });
    let v6 = (
        prop::sample::select(vec![0u128, 0xfd00 << 112, 0xfffe_ffff_ffff, 1 << 48, u128::MAX]),
        0u128..4,
        prop::sample::select(vec![0u8, 1, 8, 64, 80, 112, 127, 128]),
    )
        .prop_map(|(base, low, len)| {
            Prefix::containing(std::net::Ipv6Addr::from(base ^ low).into(), len).unwrap()
        });
    prop_oneof![4 => v4, 1 => v6]
}

fn any_set() -> impl Strategy<Value = Arc<PrefixSet>> {
    let some = || prop::collection::vec(any_prefix(), 1..6);
    prop_oneof![
        2 => Just(Arc::new(PrefixSet::any())),
        6 => any_prefix().prop_map(|prefix| Arc::new(PrefixSet::from_prefixes([&prefix]))),
        2 => some().prop_map(|prefixes| Arc::new(PrefixSet::from_prefixes(&prefixes))),
        1 => some().prop_map(|prefixes| Arc::new(PrefixSet::from_prefixes(&prefixes).complement())),
        1 => Just(Arc::new(PrefixSet::default())),
    ]
}

const PORTS: [u16; 10] = [0, 1, 63, 64, 80, 443, 1023, 1024, 65_534, 65_535];

fn any_ports() -> impl Strategy<Value = Ports> {
    let port = || prop::sample::select(&PORTS[..]);
    let range = (port(), port()).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) });
    prop_oneof![
        1 => Just(Ports::new(&[PortRange::ALL])),
        // They may overlap and touch.
        2 => prop::collection::vec(range, 1..4).prop_map(|ranges| Ports::new(&ranges)),
    ]
}

fn any_protocol() -> impl Strategy<Value = Protocols> {
    prop::sample::select(vec![
        Protocols::Any,
        Protocols::Any,
        Protocols::One(6),
        Protocols::One(17),
        Protocols::One(255),
        Protocols::One(0),
        Protocols::PerFamily { v4: 1, v6: 58 },
    ])
}

pub(super) fn any_pattern() -> impl Strategy<Value = Pattern> {
    (any_protocol(), any_set(), any_ports(), any_set(), any_ports()).prop_map(
        |(protocol, source, source_ports, destination, destination_ports)| Pattern {
            protocol,
            source,
            source_ports,
            destination,
            destination_ports,
        },
    )
}

/// Rules, some of them twice, so that the later one is shadowed.
pub(super) fn any_rules(most: usize) -> impl Strategy<Value = Vec<Pattern>> {
    let again = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    (prop::collection::vec(any_pattern(), 1..most), again).prop_map(|(mut rules, again)| {
        for index in again {
            rules.push(index.get(&rules).clone());
        }
        rules
    })
}

/// At or beside the ends of a rule's ranges; else from anywhere.
pub(super) fn key_near(rules: &[Pattern], random: &mut Random) -> FlowKey {
    let mut near = |ranges: Vec<(u128, u128)>| {
        let (first, last) = *ranges.get(random.below(ranges.len().max(1) as u64) as usize)?;
        let ends = [first, last, first.wrapping_sub(1), last.wrapping_add(1), first.midpoint(last)];
        Some(ends[random.below(5) as usize])
    };
    let mut side = |set: &PrefixSet| near(set.ranges().collect()).unwrap_or(0xffff_0a00_0001);
    let rule = &rules[0];
    let (src, dst) = (Addr::from_bits(side(&rule.source)), Addr::from_bits(side(&rule.destination)));
    let mut port =
        |ports: &Ports| near(ports.ranges().map(|(a, b)| (a.into(), b.into())).collect()).unwrap_or(0) as u16;
    let (src_port, dst_port) = (port(&rule.source_ports), port(&rule.destination_ports));
    let protocol = match rule.protocol {
        Protocols::One(one) if random.below(8) != 0 => one,
        _ => [6, 17, 1, 58, 0, 255, 47][random.below(7) as usize],
    };
    FlowKey { src, dst, src_port, dst_port, protocol }
}

fn keys_near(rules: &[Pattern], count: usize, seed: u64) -> Vec<FlowKey> {
    let mut random = Random(seed);
    (0..count)
        .map(|_| {
            let place = random.below(rules.len() as u64) as usize;
            key_near(&rules[place..], &mut random)
        })
        .collect()
}

#[test]
fn tables_answer_like_the_linear_search() {
    let (hits, misses, cases) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let scope = prop::sample::select(vec![PortScope::TcpAndUdp, PortScope::AllProtocols]);
    let strategy = (any_rules(40), scope, any::<u64>());
    TestRunner::new(ProptestConfig::with_cases(300))
        .run(&strategy, |(rules, scope, seed)| {
            let keys = keys_near(&rules, 100, seed);
            for limits in FORMS {
                let (hit, missed) = check(&mut compiled(&rules, scope, limits), &keys)?;
                hits.set(hits.get() + hit);
                misses.set(misses.get() + missed);
                cases.set(cases.get() + 1);
            }
            Ok(())
        })
        .unwrap();
    // Neither does one rule take everything, nor does nothing match.
    assert!(
        hits.get() >= 3 * cases.get() && misses.get() >= 2 * cases.get(),
        "inert: {hits:?} {misses:?} {cases:?}"
    );
}

#[test]
fn sets_in_three_styles_answer_like_the_linear_search() {
    for style in Style::ALL {
        for (count, seed) in [(25, 1), (300, 2), (2000, 3)] {
            let rules = classbench::generate(style, count, seed);
            assert_eq!(rules.len(), count);
            let mut random = Random(seed);
            let keys: Vec<FlowKey> = (0..2000).map(|_| classbench::header(&rules, &mut random)).collect();
            for limits in FORMS {
                let (hit, _) = check(&mut compiled(&rules, classbench::SCOPE, limits), &keys).unwrap();
                assert!(hit * 4 >= count.min(1000), "{style:?} {count}: only {hit} rules were hit");
            }
            let classifier = Classifier::build(rules, classbench::SCOPE);
            assert!(!classifier.is_linear() && classifier.table_bytes() > 0);
        }
    }
}

/// A rule for each of `count` ports, from any to any.
fn rules_by_port(count: u16) -> Vec<Pattern> {
    let any = Arc::new(PrefixSet::any());
    let rule = |port| Pattern {
        protocol: Protocols::One(6),
        source: any.clone(),
        source_ports: Ports::new(&[PortRange::ALL]),
        destination: any.clone(),
        destination_ports: Ports::new(&[PortRange { first: port, last: port }]),
    };
    (0..count).map(rule).collect()
}

#[test]
fn a_stack_may_have_thousands_of_rules() {
    for count in [255, 256, 257, 3000] {
        let rules = rules_by_port(count);
        let keys = keys_near(&rules, 500, 7);
        let (hit, missed) =
            check(&mut compiled(&rules, PortScope::TcpAndUdp, Limits::DEFAULT), &keys).unwrap();
        assert!(hit > 100 && missed > 0, "{hit} {missed}");
    }
}

#[test]
fn rules_whose_tables_would_be_too_large_are_searched_linearly() {
    // Each names a source port and a destination port of its own: their combinations are as many as the square.
    let mut rules = rules_by_port(6000);
    for (port, rule) in (0..).zip(&mut rules) {
        rule.source_ports = Ports::new(&[PortRange { first: port, last: 60_000 }]);
    }
    let keys = keys_near(&rules, 300, 8);
    let mut classifier = Classifier::build(rules, PortScope::TcpAndUdp);
    assert!(classifier.is_linear());
    let (hit, missed) = check(&mut classifier, &keys).unwrap();
    assert!(hit > 50 && missed > 0, "{hit} {missed}");
}

#[test]
fn few_rules_are_searched_linearly() {
    assert!(Classifier::build(rules_by_port(FEW as u16), PortScope::TcpAndUdp).is_linear());
    assert!(!Classifier::build(rules_by_port(FEW as u16 + 1), PortScope::TcpAndUdp).is_linear());
    let none = Classifier::build(Vec::new(), PortScope::TcpAndUdp);
    let key = key_near(&rules_by_port(1), &mut Random(1));
    assert_eq!(none.classify(&key), None);
}

#[test]
fn rules_hidden_by_one_or_by_several_are_named() {
    let mut rules = rules_by_port(4);
    let halves = ["0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/0", "10.0.0.0/8"];
    let [low, high, all, ten] =
        halves.map(|text| Arc::new(PrefixSet::from_prefixes([&Prefix::parse(text).unwrap()])));
    let from = |source: &Arc<PrefixSet>, rule: &Pattern| Pattern { source: source.clone(), ..rule.clone() };
    let port = rules[3].clone();
    rules.truncate(3);
    // 3 and 4 together hide 5, 3 alone hides 6; 7 is wider than what they hide, 8 is the same as 1.
    rules.extend([from(&low, &port), from(&high, &port), from(&all, &port), from(&ten, &port)]);
    rules.extend([port, rules[1].clone()]);
    let expected = [(5, None), (6, Some(3)), (8, Some(1))].map(|(place, by)| Shadowed { place, by });
    assert_eq!(shadowed(&rules, PortScope::TcpAndUdp), expected);
}

#[test]
fn no_rule_that_is_named_hidden_ever_decides() {
    let (named, alone) = (Cell::new(0), Cell::new(0));
    TestRunner::new(ProptestConfig::with_cases(200))
        .run(&(any_rules(40), any::<u64>()), |(rules, seed)| {
            let hidden = shadowed(&rules, PortScope::TcpAndUdp);
            let linear = Linear { patterns: &rules, scope: PortScope::TcpAndUdp };
            for key in keys_near(&rules, 200, seed) {
                let place = linear.classify(&key);
                prop_assert!(hidden.iter().all(|rule| Some(rule.place) != place), "{:?} {:?}", key, place);
            }
            named.set(named.get() + hidden.len());
            alone.set(alone.get() + hidden.iter().filter(|rule| rule.by.is_some()).count());
            Ok(())
        })
        .unwrap();
    assert!(named.get() > alone.get() && alone.get() >= 100, "inert: {named:?} {alone:?}");
}

#[test]
fn the_filter_sets_of_nva_data_answer_as_their_traces_say() {
    let Some(data) = std::env::var_os("NVA_DATA").filter(|data| !data.is_empty()) else {
        eprintln!("NVA_DATA names no folder with classbench/: its filter sets are not tested");
        return;
    };
    let folder = std::path::Path::new(&data).join("classbench");
    let mut sets = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rules") {
            continue;
        }
        let rules = classbench::parse_rules(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let Some(trace) = read_trace(&path) else { continue };
        let trace = classbench::parse_trace(&trace, rules.len()).unwrap();
        let mut classifier = Classifier::build(rules, classbench::SCOPE);
        assert!(!classifier.is_linear());
        let keys: Vec<FlowKey> = trace.iter().map(|header| header.key).collect();
        for cpu in [None, Avx512::detect()] {
            classifier.cpu = cpu;
            let mut places = vec![None; keys.len()];
            classifier.classify_burst(&keys, &mut places);
            let wrong = places.iter().zip(&trace).filter(|(place, header)| **place != header.place).count();
            assert_eq!(wrong, 0, "{} of {} answers of {} differ", wrong, keys.len(), path.display());
        }
        sets += 1;
    }
    assert!(sets >= 1, "{} has no filter set with a trace", folder.display());
}

/// The trace beside a filter set, packed or not.
fn read_trace(rules: &std::path::Path) -> Option<String> {
    use std::io::Read;
    let plain = std::fs::read_to_string(rules.with_extension("trace")).ok();
    plain.or_else(|| {
        let packed = std::fs::File::open(rules.with_extension("trace.gz")).ok()?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        Some(text)
    })
}
