//! Each check with a bad text, the exact words for it, and its twin that differs in that one place and is good.
//!
//! A case is `### what it shows`, the text, and a line `>>> message` for each problem. `«good|bad»` (`«good»` when the bad twin lacks it)
//! holds the two sides; `$word` stands for a piece of text that many cases need.

use nva_config::{Config, Problem, Source, load};

/// The pieces, none of which has a line break.
const PIECES: [(&str, &str); 8] = [
    (
        "$ports_to",
        r#"direction: inbound, access: allow, protocol: tcp, source: ["*"], source_ports: ["*"], destination: ["*"]"#,
    ),
    (
        "$ports",
        r#"ports: [{name: out, device: eth1, addresses: [203.0.113.1/24, "2001:db8:113::1/64"]}, {name: in, device: eth2, addresses: [10.2.0.1/24, "fd00:2::1/64"], trust: trusted}]"#,
    ),
    (
        "$rule",
        r#"direction: inbound, access: allow, protocol: any, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]"#,
    ),
    (
        "$to",
        r#"direction: inbound, access: allow, protocol: any, source_ports: ["*"], destination: ["*"], destination_ports: ["*"]"#,
    ),
    (
        "$frontends",
        r#"frontends: [{name: vip, address: 203.0.113.10}, {name: vip2, address: 203.0.113.11}, {name: vip6, address: "2001:db8:113::10"}]"#,
    ),
    (
        "$pools",
        "pools: [{name: p, backends: [{name: b1, address: 10.2.0.4}, {name: b2, address: 10.2.0.5}]}]",
    ),
    ("$probes", "probes: [{name: ready, protocol: tcp, port: 80}]"),
    (
        "$tunnels",
        r#"tunnels: [{name: internal, trust: trusted, vni: 800, udp_port: 10800}, {name: external, trust: untrusted, vni: 801, udp_port: 10801}]"#,
    ),
];

/// Both sides of a text.
fn twins(text: &str) -> (String, String) {
    let (mut good, mut bad) = (String::new(), String::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('«') {
        let (choice, after) = after.split_once('»').expect("a « without its »");
        let (left, right) = choice.split_once('|').unwrap_or((choice, ""));
        good.extend([before, left]);
        bad.extend([before, right]);
        rest = after;
    }
    good.push_str(rest);
    bad.push_str(rest);
    (good, bad)
}

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    load(&[Source { path: "F".into(), text: text.into() }], None)
}

fn words(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn check_file(name: &str, cases: &str) {
    let mut wrong = String::new();
    let mut count = 0;
    for case in cases.split("### ").skip(1) {
        let (title, body) = case.split_once('\n').expect("a title");
        let (expected, text): (Vec<&str>, Vec<&str>) =
            body.lines().partition(|line| line.starts_with(">>> "));
        let mut text = text.join("\n") + "\n";
        for (piece, meaning) in PIECES {
            text = text.replace(piece, meaning);
        }
        let (good, bad) = twins(&text);
        if let Err(problems) = read(&good) {
            wrong += &format!("\n### {title}: the good twin\n{good}{:#?}\n", words(&problems));
        }
        let said = read(&bad).err().map(|problems| words(&problems)).unwrap_or_default();
        let said: Vec<String> = said.iter().map(|line| format!(">>> {line}")).collect();
        if said != expected || said.is_empty() {
            wrong += &format!("\n### {title}\n{bad}{}\n", said.join("\n"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "in {name}, of {count} cases:\n{wrong}");
    assert!(count > 20, "only {count} cases in {name}");
}

macro_rules! golden {
    ($($name:ident),+) => {
        $(#[test]
        fn $name() {
            check_file(stringify!($name), include_str!(concat!("golden/", stringify!($name), ".txt")));
        })+
    };
}

golden!(syntax, network, policy, balancing, rest);
