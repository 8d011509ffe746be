//! All problems in one run, several files as one, and the files that a configuration names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use nva_config::{Config, Files, Source, load};

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

fn said(result: Result<Config, Vec<nva_config::Problem>>) -> Vec<String> {
    result.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn every_problem_in_one_run() {
    let text = r#"version: 1
name: "bad name"
dataplane: {workers: [1, 1], flow_capacity: none}
ports:
  - {name: out, device: eth1, mtu: 1, addresses: [203.0.113.1/24]}
  - {name: out, device: eth1, addresses: [10.2.0.1/33], colour: red}
routes:
  - {to: 10.3.0.1/24, via: 10.3.0.1}
  - {to: 10.3.0.0/24, via: 203.0.113.1}
security_groups:
  - name: web
    rules:
      - {name: a, priority: 99, direction: inbound, access: allow, protocol: tcp, source: [10.0.0.1/8], source_ports: ["*"], destination: [Storage], destination_ports: [80, 80]}
      - {name: a, priority: 100, direction: sideways, access: allow, protocol: tcp, source: ["asg:x"], source_ports: [9-8], destination: ["*"], destination_ports: [70000]}
load_balancers:
  - name: public
    frontends: [{name: vip, address: 203.0.113.1}]
    pools: [{name: web, drain_period: soon}]
    rules: [{name: r, frontend: vap, protocol: tcp, port: 80, pool: web, probe: ready}]
gatway: {}
"#;
    let expected = [
        "2:7: `bad name` is no name; a name has letters, digits, `.`, `-` and `_`",
        "3:26: core 1 has a worker already; give each worker its own",
        "3:45: `none` is no number; write a whole number from 1 to 1073741824",
        "5:36: `1` is out of range; write a number from 576 to 9216",
        "6:12: the port name `out` is taken at nva.yaml:5:12; give each port its own (case does not count)",
        "6:25: the device `eth1` is that of the port at nva.yaml:5:25; give each port its own",
        "6:43: `10.2.0.1/33` has no good prefix length; it is a number from 0 to 32",
        "6:57: the key `colour` is unknown; here stand `name`, `driver`, `device`, `mtu`, `addresses` and `trust`",
        "8:10: `10.3.0.1/24` has bits set behind its length; the prefix is 10.3.0.0/24",
        "9:28: 203.0.113.1 is the appliance's own address, given at nva.yaml:5:51; name another station",
        "13:29: `99` is out of range; write a number from 100 to 4096",
        "13:92: `10.0.0.1/8` has bits set behind its length; the prefix is 10.0.0.0/8",
        "13:140: there is no service tag `Storage`; give it under `service_tags`, or use VirtualNetwork, AzureLoadBalancer or Internet",
        "13:174: the ports 80 overlap 80 in the same list; list each port once",
        "14:16: the rule name `a` is taken at nva.yaml:13:16; give each rule its own (case does not count)",
        "14:45: `sideways` is not known here; write `inbound` or `outbound`",
        "14:94: no interface is a member of the application security group `x`; make an interface of `virtual_network` a member",
        "14:119: `9-8` runs backwards; write 8-9",
        "14:165: `70000` is out of range; write ports from 0 to 65535",
        "17:38: 203.0.113.1 is a port's own address, given at nva.yaml:5:51; give the frontend another",
        "18:39: `soon` is no time; write a number with a unit, such as 500ms, 5s, 4m or 2h",
        "19:33: there is no frontend `vap`; did you mean `vip`?",
        "19:81: there is no probe `ready`; no probe is declared here",
        "20:1: the key `gatway` is unknown; did you mean `gateway`?",
    ];
    // Whether 10.3.0.1 is connected waits for the address that could not be read.
    assert_eq!(
        said(load(&[source("nva.yaml", text)], None)),
        expected.map(|line| format!("nva.yaml:{line}"))
    );
}

#[test]
fn one_mistake_is_one_problem() {
    // What rests on something bad is not blamed for it.
    let cases = [
        ("pool with a bad drain period", "pools: [{name: web, drain_period: soon}]", 1),
        ("pool with a bad name", "pools: [{name: 'w eb'}]", 1),
        ("pool without a name", "pools: [{drain_period: 1s}]", 1),
        ("pool that is a word", "pools: [web]", 1),
        ("pools that are a word", "pools: web", 1),
        ("pools misspelt", "pool: [{name: web}]", 1),
        ("no pool at all", "pools: []", 1),
        ("a good pool", "pools: [{name: web}]", 0),
    ];
    for (says, pools, count) in cases {
        let text = format!(
            "version: 1\nload_balancers:\n  - name: a\n    frontends: [{{name: vip, address: 10.0.0.1}}]\n    {pools}\n    rules: [{{name: r, frontend: vip, protocol: tcp, port: 80, pool: web}}]\n"
        );
        let said = said(load(&[source("F", &text)], None));
        assert_eq!(said.len(), count, "{says}: {said:#?}");
    }
}

#[test]
fn files_are_taken_together() {
    let a = "version: 1\nname: a\nports: [{name: out, device: eth1, addresses: [203.0.113.1/24]}]\nvirtual_network: {subnets: [{name: web, prefixes: [10.2.0.0/24], security_group: web}]}\n";
    let b = "version: 1\nports: [{name: in, device: eth2, addresses: [10.2.0.1/24]}]\nsecurity_groups: [{name: web}]\nvirtual_network: {address_space: [10.0.0.0/8]}\n";
    let config = load(&[source("a.yaml", a), source("", ""), source("b.yaml", b)], None).unwrap();
    let names: Vec<&str> = config.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["out", "in"]);
    assert_eq!((config.virtual_network.subnets.len(), config.virtual_network.address_space.len()), (1, 1));
    assert_eq!(config.places.get("ports[1].name").unwrap().to_string(), "b.yaml:2:10");
}

#[test]
fn the_same_in_two_files_names_both() {
    let a = source(
        "a.yaml",
        "version: 1\nname: a\nports: [{name: out, device: eth1}]\nlogs: {audit: {path: a}}\n",
    );
    let b = source("b.yaml", "version: 1\nname: a\nports: [{name: out, device: eth2}]\nlogs: {audit: [b]}\n");
    assert_eq!(
        said(load(&[a, b], None)),
        [
            "b.yaml:2:7: `name` is given twice, first at a.yaml:2:7; keep one",
            "b.yaml:3:16: the port name `out` is taken at a.yaml:3:16; give each port its own (case does not count)",
            "b.yaml:4:15: `audit` is a list here and a mapping at a.yaml:4:15; write it the same way",
        ]
    );
}

#[test]
fn problems_are_sorted_over_all_files() {
    let bad = "version: 1\nname: '-'\nprotection: {anti_spoofing: maybe}\n";
    let said = said(load(&[source("a.yaml", "{"), source("b.yaml", bad), source("c.yaml", "[]")], None));
    // With an unreadable file, only what makes files unreadable is told.
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].starts_with("a.yaml:1:2: ") && said[1].starts_with("c.yaml:1:1: "), "{said:#?}");
}

/// Files by path.
struct Disk(BTreeMap<PathBuf, Vec<u8>>);

impl Disk {
    fn new(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (path.into(), text.as_bytes().to_vec())).collect())
    }
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

const TLS: &str = "version: 1\nmanagement:\n  listen: 127.0.0.1:9443\n  tls: {certificate: cert.pem, key: /keys/a.key, client_ca: ca.pem}\n  roles: [{subject: a, role: reader}]\n";

#[test]
fn tls_files_are_read_from_the_folder_of_the_configuration() {
    let pem = "x\n-----BEGIN CERTIFICATE-----\n";
    let disk = Disk::new(&[("etc/cert.pem", pem), ("/keys/a.key", pem), ("etc/ca.pem", pem)]);
    let config = load(&[source("etc/nva.yaml", TLS)], Some(&disk)).unwrap();
    assert_eq!(config.management.unwrap().tls.unwrap().certificate, Path::new("etc/cert.pem"));
    let disk = Disk::new(&[("etc/cert.pem", pem), ("/keys/a.key", "binary")]);
    assert_eq!(
        said(load(&[source("etc/nva.yaml", TLS)], Some(&disk))),
        [
            "etc/nva.yaml:4:37: the file `/keys/a.key` is not PEM; it has no line `-----BEGIN …`",
            "etc/nva.yaml:4:61: the file `etc/ca.pem` cannot be read: no such file; name a readable file",
        ]
    );
    assert!(load(&[source("etc/nva.yaml", TLS)], None).is_ok());
}

/// A configuration with a rule on each of these tags.
fn tagged(tags: &str) -> Source {
    let rule = "{name: r, priority: 100, direction: inbound, access: allow, protocol: tcp, source_ports: [\"*\"], destination: [\"*\"], destination_ports: [\"*\"]";
    let text = format!(
        "version: 1\nservice_tags: {{inline: {{Local: [10.0.0.0/8]}}, file: tags.json}}\nsecurity_groups: [{{name: g, rules: [{rule}, source: [{tags}]}}]}}]\n"
    );
    source("nva.yaml", &text)
}

const PUBLISHED: &str = r#"{"changeNumber": 329, "cloud": "Public", "values": [
  {"name": "Storage", "id": "Storage", "properties": {"region": "", "platform": "Azure", "addressPrefixes": ["4.145.74.52/30", "2603:1050:403::10c/126"]}},
  {"name": "Sql.WestUS", "properties": {"addressPrefixes": []}}]}"#;

#[test]
fn tags_come_from_the_published_file() {
    let disk = Disk::new(&[("tags.json", PUBLISHED)]);
    let config = load(&[tagged("Storage, Local, Internet")], Some(&disk)).unwrap();
    let tags: Vec<_> =
        config.service_tags.iter().map(|tag| (tag.name.as_str(), tag.prefixes.len())).collect();
    assert_eq!(tags, [("Local", 1), ("Storage", 2)]);
    // As Windows saves files: with a byte-order mark, or in UTF-16.
    let wide = PUBLISHED.encode_utf16().flat_map(u16::to_le_bytes);
    for saved in
        [[b"\xef\xbb\xbf", PUBLISHED.as_bytes()].concat(), [0xff, 0xfe].into_iter().chain(wide).collect()]
    {
        let disk = Disk(BTreeMap::from([(PathBuf::from("tags.json"), saved)]));
        let config = load(&[tagged("Storage")], Some(&disk)).unwrap();
        assert_eq!(config.service_tags[1].prefixes.len(), 2);
    }
    assert!(said(load(&[tagged("Sql")], Some(&disk)))[0].contains("there is no service tag `Sql`; "));
    let config = load(&[tagged("Sql")], None).unwrap();
    assert_eq!((config.service_tags[1].name.as_str(), config.service_tags[1].prefixes.len()), ("Sql", 0));
}

#[test]
fn a_bad_published_file_is_told_with_the_path_in_it() {
    let cases = [
        (
            PUBLISHED.replace("4.145.74.52/30", "4.145.74.53/30"),
            "in the file `tags.json`, values[0].properties.addressPrefixes[0]: `4.145.74.53/30` has bits set behind its length; the prefix is 4.145.74.52/30",
        ),
        (
            PUBLISHED.replace("Sql.WestUS", "storage"),
            "in the file `tags.json`, values[1].name: `storage` is there twice; keep one",
        ),
        (
            PUBLISHED.replace("\"values\"", "\"tags\""),
            "the file `tags.json` is no list of service tags: missing field `values` at line 3 column 65; it is JSON with values[].name and values[].properties.addressPrefixes",
        ),
        (
            "[".repeat(100_000),
            "the file `tags.json` is no list of service tags: invalid type: sequence, expected a string at line 1 column 3; it is JSON with values[].name and values[].properties.addressPrefixes",
        ),
    ];
    for (text, expected) in cases {
        // The rule's unknown tag may be in a good version of the file, so it is not blamed.
        let said = said(load(&[tagged("Unknown")], Some(&Disk::new(&[("tags.json", &text)]))));
        assert_eq!(said, [format!("nva.yaml:2:53: {expected}")]);
    }
    let missing = said(load(&[tagged("Unknown")], Some(&Disk::new(&[]))));
    assert_eq!(
        missing,
        ["nva.yaml:2:53: the file `tags.json` cannot be read: no such file; name a readable file"]
    );
    let huge = Disk(BTreeMap::from([(PathBuf::from("tags.json"), vec![b' '; (16 << 20) + 1])]));
    assert!(said(load(&[tagged("Storage")], Some(&huge)))[0].contains("at most 16777216 are read"));
    let twice = Disk::new(&[("tags.json", &PUBLISHED.replace("Sql.WestUS", "Local"))]);
    assert_eq!(
        said(load(&[tagged("Storage")], Some(&twice))),
        ["nva.yaml:2:25: the tag `Local` is in the file too; choose another name"]
    );
}

#[test]
fn a_cookie_secret_is_32_hexadecimal_digits_and_is_never_repeated() {
    let text = "version: 1\nprotection: {syn_flood: {cookie_secret_file: cookie.secret}}\n";
    let config = |content: &str| {
        let disk = Disk::new(&[("etc/cookie.secret", content)]);
        load(&[source("etc/nva.yaml", text)], Some(&disk))
    };
    let good = config("000102030405060708090a0B0c0d0e0f\n").unwrap();
    assert_eq!(good.protection.cookie_secret, Some(std::array::from_fn(|at| at as u8)));
    assert!(good.protection.syn_flood.is_some());
    for bad in ["", "00", "000102030405060708090a0b0c0d0e0g", "000102030405060708090a0b0c0d0e0f00", "sesame"]
    {
        let said = said(config(bad));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("etc/nva.yaml:2:") && said[0].contains("32 hexadecimal digits"),
            "{said:?}"
        );
        assert!(bad.is_empty() || bad == "00" || !said[0].contains(bad), "{said:?}");
    }
    let missing = said(load(&[source("etc/nva.yaml", text)], Some(&Disk::new(&[]))));
    assert!(missing[0].contains("cannot be read"), "{missing:?}");
    assert_eq!(load(&[source("etc/nva.yaml", text)], None).unwrap().protection.cookie_secret, None);
}
