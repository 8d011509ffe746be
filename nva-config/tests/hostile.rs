//! Whatever the bytes are: an answer, in bounded time and memory, with places inside the file.

use nva_config::{Problem, Source, load};
use proptest::prelude::*;

const CONTRACT: &str = include_str!("contract.yaml");

fn read(text: &[u8]) -> Result<(), Vec<Problem>> {
    load(&[Source { path: "F".into(), text: text.to_vec() }], None).map(|_| ())
}

fn first(text: &[u8]) -> String {
    read(text).expect_err("bad")[0].to_string()
}

/// Each problem's place is a character of the text, or just behind the last one of its line.
fn check_places(text: &str, problems: &[Problem]) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let lines: Vec<&str> = text.split(['\n', '\r']).collect();
    for problem in problems {
        let at = &problem.location;
        let columns = lines.get(at.line - 1).map(|line| line.chars().count() + 1);
        assert!(columns.is_some_and(|n| (1..=n).contains(&at.column)), "{problem}\nin\n{text}");
        assert!(!problem.message.is_empty() && problem.message.chars().all(|c| !c.is_control()), "{problem}");
    }
    assert!(problems.is_sorted_by_key(|problem| (problem.location.line, problem.location.column)));
}

#[test]
fn nesting() {
    let deep = "a: ".to_owned() + &"[".repeat(100_000);
    assert_eq!(
        first(deep.as_bytes()),
        "F:1:259: values are nested too deep; at most 32 mappings and lists stand in each other"
    );
    let maps = "{a: ".repeat(100_000);
    assert!(first(maps.as_bytes()).contains("nested too deep"));
    let dashes = "- ".repeat(100_000);
    assert!(first(dashes.as_bytes()).contains("nested too deep"));
    let questions = "? ".repeat(100_000);
    assert!(first(questions.as_bytes()).contains("nested too deep"));
    let steps: String = (0..2000).map(|i| " ".repeat(i) + "a:\n").collect();
    assert!(first(steps.as_bytes()).contains("nested too deep"));
}

#[test]
fn alias_bomb() {
    let mut bomb = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..30 {
        let alias = format!("*a{}, ", i - 1).repeat(9);
        bomb += &format!("a{i}: &a{i} [{alias}]\n");
    }
    let problems = read(bomb.as_bytes()).unwrap_err();
    assert!(problems.iter().any(|p| p.message.starts_with("aliases are not used here")), "{problems:?}");
    check_places(&bomb, &problems);
}

#[test]
fn sizes() {
    let huge = vec![b'#'; 100 << 20];
    assert_eq!(first(&huge), "F:1:1: the file has 104857600 bytes; at most 16777216 are read");
    let comment = b"# nothing\n".repeat((16 << 20) / 10);
    assert!(read(&comment).is_ok());
    let many = "version: 1\nroutes: [".to_owned() + &"a,".repeat(500_001) + "]\n";
    assert!(first(many.as_bytes()).contains("too many values; at most 500000 are read"));
    let pairs = "[".to_owned() + &"a: ".repeat(1_000_001);
    assert_eq!(
        first(pairs.as_bytes()),
        "F:1:1: the file has too many values; at most 1000000 brackets, commas and colons are read"
    );
}

#[test]
fn many_problems_are_counted() {
    let many = "version: 1\nroutes: [".to_owned() + &"a,".repeat(5000) + "]\n";
    let problems = read(many.as_bytes()).unwrap_err();
    assert_eq!(problems.len(), 1001);
    assert_eq!(problems[1000].message, "4000 more problems are not listed; mend these first");
    check_places(&many, &problems);
}

/// References and keys by the hundred thousand: the work grows with the file, not with its square.
#[test]
fn long_lists() {
    let n = 20_000;
    let backends: String = (0..n)
        .map(|i| format!("{{name: b{i}, address: '2001:db8::{:x}:{:x}'}},\n", i >> 16, i & 0xffff))
        .collect();
    let rules: String = (0..n)
        .map(|i| format!("{{name: r{i}, frontend: vip, protocol: tcp, port: {}, pool: p}},\n", i + 1))
        .collect();
    let text = format!(
        "version: 1\nload_balancers: [{{name: a, frontends: [{{name: vip, address: 10.0.0.1}}], pools: [{{name: p, backends: [{backends}]}}], rules: [{rules}]}}]\n"
    );
    assert!(first(text.as_bytes()).contains("of another IP version"));
    let keys: String = (0..200_000).map(|i| format!("k{i}: 1\n")).collect();
    assert!(first(keys.as_bytes()).contains("is missing"));
    let names: String = (0..50_000)
        .map(|i| format!("{{name: s{i}, prefixes: ['fd00:{i:x}::/32'], security_group: g{i}}},\n"))
        .collect();
    assert!(
        first(format!("version: 1\nvirtual_network: {{subnets: [{names}]}}\n").as_bytes())
            .contains("there is no security group `g0`")
    );
}

#[test]
fn not_text() {
    assert_eq!(first(b"version: 1\nname: a\0b\n"), "F:2:8: there is a NUL character; remove it");
    assert_eq!(
        first(b"version: 1\nname: \xc3\xa9\xff\n"),
        "F:2:8: the text is not UTF-8; save the file as UTF-8"
    );
    assert_eq!(first(b"\xff\xfev\0"), "F:1:1: the text is not UTF-8; save the file as UTF-8");
}

/// Pieces that YAML or the configuration gives a meaning to.
const PIECES: [&str; 40] = [
    "\n",
    " ",
    "  ",
    "\t",
    "-",
    "- ",
    ":",
    ": ",
    "?",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "#",
    "&a",
    "*a",
    "!",
    "!!str",
    "|",
    ">",
    "'",
    "\"",
    "%",
    "@",
    "`",
    "---\n",
    "...\n",
    "\r",
    "~",
    "null",
    "<<",
    "é",
    "\u{2028}",
    "\u{feff}",
    "*",
    "0",
    "name",
    "99999999999",
];

/// One edit of the contract: replace some characters by a piece or by another stretch of itself.
fn edit() -> impl Strategy<Value = (usize, usize, Option<usize>, usize)> {
    (0..CONTRACT.len(), 0usize..12, proptest::option::weighted(0.8, 0..PIECES.len()), 0..CONTRACT.len())
}

fn apply(mut text: String, edits: &[(usize, usize, Option<usize>, usize)]) -> String {
    let floor = |text: &str, at: usize| {
        (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
    };
    for (at, cut, piece, from) in edits {
        let start = floor(&text, *at);
        let end = floor(&text, start + cut);
        let copied = CONTRACT.get(*from..(*from + 40).min(CONTRACT.len())).unwrap_or("");
        text.replace_range(start..end.max(start), piece.map_or(copied, |i| PIECES[i]));
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_of_the_contract(edits in proptest::collection::vec(edit(), 1..6)) {
        let text = apply(CONTRACT.to_owned(), &edits);
        if let Err(problems) = read(text.as_bytes()) {
            check_places(&text, &problems);
        }
    }

    /// Values swapped within the contract: good YAML with wrong values reaches the checks.
    #[test]
    fn values_swapped(swaps in proptest::collection::vec((0usize..400, 0usize..400), 1..8)) {
        let mut words: Vec<&str> = CONTRACT.split_inclusive(|c: char| !c.is_alphanumeric()).collect();
        for (a, b) in swaps {
            words.swap(a + 100, b + 500);
        }
        let text = words.concat();
        if let Err(problems) = read(text.as_bytes()) {
            check_places(&text, &problems);
        }
    }

    #[test]
    fn soup(pieces in proptest::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = pieces.iter().map(|i| PIECES[*i]).collect();
        if let Err(problems) = read(text.as_bytes()) {
            check_places(&text, &problems);
        }
    }

    #[test]
    fn bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }
}
