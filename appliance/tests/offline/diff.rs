//! `nva diff`.

use crate::capture::{STATION, arp_request, pcap, udp, vxlan};
use crate::{CONFIG, Folder, Ran};

const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 4000);
const VIP: ([u8; 4], u16) = ([192, 0, 2, 10], 53);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 4], 53);

/// Compares [`CONFIG`] with what `edit` makes of it, over questions from outside and one answer.
fn compare(test: &str, edit: impl Fn(&str) -> String, options: &str) -> (Folder, Ran) {
    let folder = Folder::new(test);
    folder.write("new.yaml", edit(CONFIG));
    let other = (CLIENT.0, 4001);
    let outside = [
        (1, udp(CLIENT, VIP)),
        (3, udp(CLIENT, VIP)),
        (4, udp(other, VIP)),
        (5, udp(CLIENT, ([192, 0, 2, 10], 54))),
    ];
    folder.write("o.pcap", pcap(1, &outside));
    folder.write("i.pcap", pcap(1, &[(2, udp(SERVER, CLIENT))]));
    let ran = folder.nva(&format!(
        "diff --config nva.yaml --new new.yaml --in outside=o.pcap --in inside=i.pcap \
         --seed 000102030405060708090a0b0c0d0e0f {options}"
    ));
    (folder, ran)
}

#[test]
fn the_same_rules_change_no_flow() {
    for options in ["", "--json"] {
        let (_folder, ran) =
            compare("diff-same", |config| config.replace("name: allow-web, ", "name: allow-web,  "), options);
        assert_eq!(ran.code(), Some(0), "{}", ran.err());
        assert_eq!(ran.err(), "");
        match options {
            "" => assert_eq!(
                ran.out(),
                "no flow changes: 5 packets, the same verdict, rule and backend under both\n"
            ),
            _ => {
                let json = ran.json();
                assert_eq!((&json["packets"], &json["changed_packets"]), (&5.into(), &0.into()), "{json}");
                assert_eq!(json["flows"].as_array().map(Vec::len), Some(0), "{json}");
            }
        }
    }
}

#[test]
fn each_flow_that_changes_is_one_with_its_answers() {
    let deny = |config: &str| config.replace("access: allow", "access: deny");
    let (_folder, ran) = compare("diff-deny", deny, "--json");
    assert_eq!((ran.code(), ran.err().as_str()), (Some(1), ""));
    let json = ran.json();
    assert_eq!((&json["packets"], &json["changed_packets"]), (&5.into(), &4.into()), "{json}");
    let flows = json["flows"].as_array().expect("a list");
    let ports: Vec<&serde_json::Value> = flows.iter().map(|flow| &flow["from"]["port"]).collect();
    assert_eq!(ports, [4000, 4001], "{json}");
    let flow = &flows[0];
    assert_eq!((&flow["port"], &flow["protocol"]), (&"outside".into(), &"udp".into()), "{json}");
    assert_eq!((&flow["to"]["address"], &flow["to"]["port"]), (&"192.0.2.10".into(), &53.into()), "{json}");
    assert_eq!((&flow["packets"], &flow["first_frame"]), (&3.into(), &1.into()), "{json}");
    // Two questions are denied now. The answer went back through the load balancer, and is a packet of its own now.
    let before = serde_json::json!({"verdict": "forward", "reason": null, "rule": "web-nsg/allow-web", "backend": "web-1"});
    let after = serde_json::json!({"verdict": "drop", "reason": "denied_by_rule", "rule": "web-nsg/allow-web", "backend": "web-1"});
    let asked = serde_json::json!({"packets": 2, "before": before, "after": after});
    let alone = serde_json::json!({"verdict": "forward", "reason": null, "rule": "web-nsg/AllowInternetOutBound", "backend": null});
    let answered = serde_json::json!({"packets": 1, "before": before, "after": alone});
    assert_eq!(flow["changes"], serde_json::json!([asked, answered]), "{json}");
}

#[test]
fn people_get_a_table_and_what_it_comes_to() {
    let (_folder, ran) =
        compare("diff-text", |config| config.replace("name: allow-web, ", "name: allow-dns, "), "");
    assert_eq!(ran.code(), Some(1));
    let wanted = "\
port     flow                                      packets  before                                      after
outside  udp 198.51.100.7:4000 -> 192.0.2.10:53          3  forward by web-nsg/allow-web to web-1  forward by web-nsg/allow-dns to web-1
outside  udp 198.51.100.7:4001 -> 192.0.2.10:53          1  forward by web-nsg/allow-web to web-1  forward by web-nsg/allow-dns to web-1

2 flows change: 4 of 5 packets

flows  packets  before   after
    2        4  forward  forward
";
    let squeezed = |text: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(words).collect::<Vec<_>>()
    };
    assert_eq!(squeezed(&ran.out()), squeezed(wanted), "{}", ran.out());
}

#[test]
fn another_backend_or_reason_is_a_change() {
    let (_folder, ran) =
        compare("diff-backend", |config| config.replace("name: web-1", "name: web-2"), "--json");
    assert_eq!(ran.code(), Some(1));
    assert_eq!(ran.json()["flows"][0]["changes"][0]["after"]["backend"], "web-2");
    let (_folder, ran) = compare("diff-down", ToString::to_string, "--down web-1");
    assert_eq!(ran.code(), Some(0), "down under both: {}", ran.out());
    let (_folder, ran) = compare(
        "diff-reason",
        |config| {
            config.replace(
                "  - {to: 0.0.0.0/0, via: 192.0.2.254}",
                "  - {to: 203.0.113.0/24, via: 192.0.2.254}",
            )
        },
        "--json",
    );
    assert_eq!(ran.code(), Some(1));
    let changes = &ran.json()["flows"][0]["changes"][0]["after"];
    assert_eq!((&changes["verdict"], &changes["reason"]), (&"drop".into(), &"spoofed".into()));
}

#[test]
fn a_port_of_one_configuration_alone_is_said() {
    let renamed = |config: &str| config.replace("name: inside", "name: within");
    let (folder, ran) = compare("diff-port", renamed, "");
    assert_eq!(ran.code(), Some(1));
    assert!(ran.out().starts_with("port inside is in the old configuration only"), "{}", ran.out());
    assert!(ran.out().contains("no such port"), "{}", ran.out());
    let frames = pcap(1, &[(1, arp_request([10, 0, 0, 4], [10, 0, 0, 1]))]);
    folder.write("arp.pcap", frames);
    let ran = folder.nva("diff --config nva.yaml --new new.yaml --in within=arp.pcap --json");
    assert_eq!(ran.code(), Some(1));
    let json = ran.json();
    assert_eq!(
        (&json["ports_only_in_new"], &json["ports_only_in_old"]),
        (&["within"][..].into(), &serde_json::json!([]))
    );
    let flow = &json["flows"][0];
    assert_eq!(
        (&flow["protocol"], &flow["from"], &flow["port"]),
        (&"arp".into(), &serde_json::Value::Null, &"within".into())
    );
    let change = &flow["changes"][0];
    assert_eq!(
        (&change["before"], &change["after"]["verdict"]),
        (&serde_json::Value::Null, &"reply".into()),
        "{json}"
    );
}

#[test]
fn what_cannot_be_compared_is_exit_code_2() {
    let folder = Folder::new("diff-trouble");
    folder.write("in.pcap", pcap(1, &[]));
    folder.write("bad.yaml", "version: 1\nbogus: 1\n");
    folder.write("worse.yaml", "version: 2\n");
    folder.write("gateway.yaml", CONFIG.to_owned() + "gateway:\n  port: inside\n  address: 10.0.0.1\n  peers: [10.0.0.4]\n  encapsulation: geneve\n  tunnels: [{name: a, trust: trusted, vni: 8, udp_port: 10800}, {name: b, trust: untrusted, vni: 9, udp_port: 10801}]\n");
    let ask = |rest: &str| folder.nva(&format!("diff {rest}"));
    let both = ask("--config bad.yaml --new worse.yaml --in outside=in.pcap");
    both.fails(2, "bad.yaml:2:1:");
    both.fails(2, "worse.yaml:1:10:");
    ask("--config nva.yaml --new gateway.yaml --in outside=in.pcap").fails(2, "gateway.yaml:");
    let names = ask("--config nva.yaml --new nva.yaml --in nowhere=in.pcap --down web-9");
    names.fails(
        2,
        "--in nowhere: neither configuration has a port `nowhere`; together they have `outside`, `inside`",
    );
    names.fails(2, "--down web-9: neither configuration has a backend `web-9`");
    ask("--config nva.yaml --new nva.yaml --in outside=missing.pcap").fails(2, "missing.pcap");
    let same = ask("--config nva.yaml --new nva.yaml --in outside=in.pcap");
    assert_eq!(same.code(), Some(0), "{}", same.err());
    assert!(same.err().starts_with("--seed "), "{}", same.err());
}

#[test]
fn what_comes_in_a_tunnel_is_listed_by_what_is_inside() {
    let folder = Folder::new("diff-tunnel");
    let gateway = "gateway:\n  port: inside\n  address: 10.0.0.1\n  peers: [10.0.0.200]\n  frontends: {203.0.113.9: [10.0.0.4]}\n  \
                   tunnels: [{name: trusted, trust: trusted, vni: 800, udp_port: 10800}, {name: external, trust: untrusted, vni: 801, udp_port: 10801}]\n";
    let old = format!("{CONFIG}{gateway}");
    folder.write("new.yaml", old.replace("access: allow", "access: deny"));
    folder.write("nva.yaml", old);
    let frontend = ([203, 0, 113, 9], 53);
    let by = |port, vni, inner: Vec<u8>| vxlan([10, 0, 0, 200], ([10, 0, 0, 1], port), vni, &inner);
    let frames = [
        (1, by(10_801, 801, udp(CLIENT, frontend))),
        (2, by(10_800, 800, udp(frontend, CLIENT))),
        (3, by(10_801, 801, udp((CLIENT.0, 4001), frontend))),
    ];
    folder.write("i.pcap", pcap(1, &frames));
    let [mac @ .., last] = STATION.map(|octet| format!("{octet:02x}"));
    let station = format!("{}:{last}", mac.join(":"));
    let ran = folder.nva(&format!(
        "diff --config nva.yaml --new new.yaml --in inside=i.pcap --mac inside={station} --json"
    ));
    assert_eq!(ran.code(), Some(1), "{}", ran.err());
    let json = ran.json();
    let flows = json["flows"].as_array().expect("a list");
    let told: Vec<_> = flows
        .iter()
        .map(|flow| (&flow["from"]["address"], &flow["from"]["port"], &flow["packets"]))
        .collect();
    let client = &serde_json::json!("198.51.100.7");
    assert_eq!(told, [(client, &4000.into(), &2.into()), (client, &4001.into(), &1.into())], "{json}");
}
