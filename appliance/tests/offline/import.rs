//! `nva import azure`.

use crate::{CONFIG, Folder};

/// A group as `az network nsg show` prints it, with one rule.
fn group(access: &str, source: &str) -> String {
    format!(
        r#"{{"name": "db-nsg", "etag": "x", "securityRules": [{{"name": "sql", "protocol": "Tcp", "sourcePortRange": "*",
  "destinationPortRange": "1433", "sourceAddressPrefix": "{source}", "destinationAddressPrefix": "*",
  "access": "{access}", "priority": 100, "direction": "Inbound"}}]}}"#
    )
}

#[test]
fn what_comes_out_goes_with_the_users_own_files() {
    let folder = Folder::new("import");
    folder.write("db.json", group("Allow", "10.0.0.0/24"));
    let ran = folder.nva("import azure --nsg db.json --out policy.yaml --report report.json");
    ran.succeeds();
    assert!(ran.out().is_empty(), "{}", ran.out());
    assert!(
        ran.err().starts_with("imported: 2 taken, 0 different, 0 left out, 1 kinds of values ignored"),
        "{}",
        ran.err()
    );
    folder.nva("check --config policy.yaml").succeeds();
    let checked = folder.nva("check --config nva.yaml --config policy.yaml --json").json();
    assert_eq!(checked["security_groups"][1]["name"], "db-nsg");
    let report: serde_json::Value = serde_json::from_slice(&folder.read("report.json")).expect("JSON");
    assert_eq!(report["ok"], true);
    let taken = serde_json::json!({"file": "db.json", "line": 1, "column": 51, "path": "securityRules[0]", "as": "security_groups.db-nsg.rules.sql"});
    assert_eq!(report["taken"][1], taken);
    assert_eq!(report["ignored"][0]["path"], "etag");
    // Again, and to standard output: the same.
    let again = folder.nva("import azure --nsg db.json");
    again.succeeds();
    assert_eq!(again.out().as_bytes(), folder.read("policy.yaml"));
    assert_eq!(folder.nva("import azure --nsg db.json --out -").out(), again.out());
    assert_eq!(folder.names("."), ["db.json", "nva.yaml", "policy.yaml", "report.json"]);
}

#[test]
fn a_denial_that_cannot_be_written_stops_the_import() {
    let folder = Folder::new("import-deny");
    folder.write("db.json", group("Deny", "Storage"));
    folder.write("policy.yaml", "as it was");
    let ran = folder.nva("import azure --nsg db.json --out policy.yaml --report report.json");
    ran.fails(1, "db.json:1:51: securityRules[0]: the rule `sql` denies, and cannot be written: the service tag `Storage` is not known; ");
    assert_eq!(folder.read("policy.yaml"), b"as it was");
    let report: serde_json::Value = serde_json::from_slice(&folder.read("report.json")).expect("JSON");
    assert_eq!((&report["ok"], &report["problems"][0]["path"]), (&false.into(), &"securityRules[0]".into()));
    // The same rule as an Allow is left out, loudly.
    folder.write("db.json", group("Allow", "Storage"));
    let ran = folder.nva("import azure --nsg db.json --out policy.yaml");
    ran.succeeds();
    assert!(
        ran.err().contains("left out: db.json:1:51: securityRules[0]: the rule `sql` is left out"),
        "{}",
        ran.err()
    );
    // The configuration's own tags.
    folder.write("db.json", group("Deny", "Storage"));
    folder.nva("import azure --nsg db.json --keep-tags --out policy.yaml").succeeds();
    folder.write("tags.yaml", "service_tags: {inline: {Storage: [192.0.2.0/24]}}\nversion: 1\n");
    folder.nva("check --config policy.yaml --config tags.yaml").succeeds();
}

#[test]
fn every_problem_is_told_in_one_run() {
    let folder = Folder::new("import-bad");
    folder.write("one.json", group("[parameters('a')]", "300.0.0.0/8").replace("100", "99"));
    folder.write("two.json", "{");
    let ran = folder.nva("import azure --nsg one.json --lb two.json");
    assert_eq!(ran.code(), Some(1));
    let err = ran.err();
    let starts = ["one.json:2:", "one.json:3:", "two.json:1:2: this is no good JSON"];
    for start in starts {
        assert!(err.lines().any(|line| line.starts_with(start)), "{start}: {err}");
    }
    assert!(ran.out().is_empty());
}

#[test]
fn a_file_that_is_not_there_is_bad_usage() {
    let folder = Folder::new("import-missing");
    let ran = folder.nva("import azure --nsg missing.json --asg gone.json");
    ran.fails(2, "missing.json cannot be read");
    assert!(ran.err().contains("gone.json cannot be read"), "{}", ran.err());
}

#[test]
fn routes_go_with_the_ports_they_lead_to() {
    let folder = Folder::new("import-routes");
    let table = r#"{"name": "rt", "routes": [{"name": "db", "addressPrefix": "10.3.0.0/24", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.0.0.254"}]}"#;
    folder.write("routes.json", table);
    folder.nva("import azure --routes routes.json --out routes.yaml").succeeds();
    let checked = folder.nva("check --config nva.yaml --config routes.yaml --json").json();
    assert_eq!(checked["routes"], 2);
    assert!(CONFIG.contains("10.0.0.1/24"), "the next hop is on the link of a port");
    folder.write("routes.json", table.replace("VirtualAppliance", "None"));
    folder
        .nva("import azure --routes routes.json")
        .fails(1, "routes[0].nextHopType: the route `db` drops its packets");
}
