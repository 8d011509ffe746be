//! `nva check`.

use crate::{CONFIG, Folder};

#[test]
fn a_good_configuration_is_ok_with_a_summary() {
    let folder = Folder::new("check-good");
    let ran = folder.nva("check --config nva.yaml");
    ran.succeeds();
    assert!(ran.out().starts_with("ok"), "{}", ran.out());
    for word in ["outside", "inside", "web-nsg", "public"] {
        assert!(ran.out().contains(word), "{word}: {}", ran.out());
    }
    let json = folder.nva("check --config nva.yaml --json").json();
    assert_eq!((&json["ok"], &json["ports"][0]["name"]), (&true.into(), &"outside".into()));
    assert_eq!(json["not_built"], serde_json::json!([]));
}

#[test]
fn without_ports_it_says_that_nothing_is_forwarded() {
    let folder = Folder::new("check-empty");
    folder.write("empty.yaml", "version: 1\n");
    let ran = folder.nva("check --config empty.yaml");
    ran.succeeds();
    assert!(ran.out().contains("no ports: forwards nothing"), "{}", ran.out());
}

#[test]
fn every_problem_is_told_in_one_run_with_its_place() {
    let folder = Folder::new("check-bad");
    folder
        .write("bad.yaml", CONFIG.replace("af_packet", "af_pocket").replace("priority: 100", "priority: 99"));
    let ran = folder.nva("check --config bad.yaml");
    assert_eq!(ran.code(), Some(2));
    let err = ran.err();
    let lines: Vec<&str> = err.lines().collect();
    assert!(lines.len() >= 3, "{lines:?}");
    assert!(lines[0].starts_with("bad.yaml:3:"), "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("bad.yaml:") && line.contains("; ")), "{lines:?}");
    let json = folder.nva("check --config bad.yaml --json").json();
    assert_eq!(json["ok"], serde_json::json!(false));
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(lines.len()));
}

#[test]
fn files_that_are_named_are_read_unless_skipped() {
    let folder = Folder::new("check-files");
    folder.write("nva.yaml", format!("{CONFIG}service_tags: {{file: tags.json}}\n"));
    folder.nva("check --config nva.yaml").fails(2, "tags.json");
    folder.nva("check --config nva.yaml --skip-files").succeeds();
}

#[test]
fn what_is_not_built_is_listed_and_is_no_error() {
    let folder = Folder::new("check-unbuilt");
    folder.write("more.yaml", "logs: {audit: {path: audit.jsonl}}\n");
    let ran = folder.nva("check --config nva.yaml --config more.yaml");
    ran.succeeds();
    assert!(ran.out().contains("more.yaml:1:"), "{}", ran.out());
    assert!(ran.out().contains("logs.audit: this version does not run it yet"), "{}", ran.out());
}

#[test]
fn a_file_that_is_not_there_is_a_bad_configuration() {
    let folder = Folder::new("check-missing");
    folder.nva("check --config missing.yaml").fails(2, "missing.yaml:1:1: cannot be read: ");
}

#[test]
fn rules_that_never_decide_are_named_and_no_others() {
    let folder = Folder::new("check-hidden");
    let rule = |name: &str, priority: u16, access: &str, destination: &str| {
        format!(
            "      - {{name: {name}, priority: {priority}, direction: outbound, access: {access}, protocol: any, source: [\"*\"], \
             source_ports: [\"*\"], destination: [{destination}], destination_ports: [\"*\"]}}\n"
        )
    };
    let rules = [
        rule("metadata", 90 + 10, "deny", "169.254.169.254"),
        rule("all", 110, "allow", "\"*\""),
        rule("dns", 120, "deny", "AzurePlatformDNS"),
        rule("host", 130, "deny", "192.0.2.9"),
    ];
    folder.write("nva.yaml", CONFIG.replace("    rules:\n", &format!("    rules:\n{}", rules.concat())));
    let ran = folder.nva("check --config nva.yaml");
    ran.succeeds();
    let said: Vec<String> =
        ran.out().lines().filter(|line| line.contains("never decides")).map(str::to_owned).collect();
    let [metadata, host] = said.as_slice() else { panic!("{said:#?}") };
    assert!(
        metadata.contains("the rule metadata never decides") && metadata.contains("AzurePlatformIMDS"),
        "{metadata}"
    );
    assert!(host.contains("the rule host never decides: the rule all before it"), "{host}");
}
