//! `nva explain`.

use crate::Folder;

const PACKET: &str = "--proto udp --from 198.51.100.7:4000 --to";

#[test]
fn the_deciding_rule_is_named() {
    let folder = Folder::new("explain");
    let line = format!("explain --config nva.yaml --port outside {PACKET} 192.0.2.10:53");
    let json = folder.nva(&format!("{line} --json")).json();
    assert_eq!(json["verdict"], "allow", "{json}");
    assert_eq!(json["rule"], "web-nsg/allow-web", "{json}");
    assert_eq!(json["backend"], "web-1", "{json}");
    let steps = json["steps"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(steps.iter().all(|step| step["stage"].is_string() && step["detail"].is_string()), "{json}");
    let group = steps.iter().find(|step| step["stage"] == "subnet_group" && step["group"] == "web-nsg");
    let group = group.unwrap_or_else(|| panic!("no step of the group: {json}"));
    assert_eq!(
        (&group["rule"], &group["priority"], &group["access"]),
        (&"allow-web".into(), &100.into(), &"allow".into())
    );
    let text = folder.nva(&line);
    text.succeeds();
    assert!(text.out().starts_with("allow") && text.out().contains("web-nsg/allow-web"), "{}", text.out());
}

#[test]
fn a_denied_packet_is_exit_code_0_too() {
    let folder = Folder::new("explain-deny");
    let ran = folder.nva(&format!("explain --config nva.yaml --port outside {PACKET} 10.0.0.4:54 --json"));
    ran.succeeds();
    assert_eq!(
        (&ran.json()["verdict"], &ran.json()["rule"]),
        (&"deny".into(), &"web-nsg/DenyAllInBound".into())
    );
}

#[test]
fn questions_that_make_no_sense_are_bad_usage() {
    let folder = Folder::new("explain-usage");
    let ask = |rest: &str| folder.nva(&format!("explain --config nva.yaml {rest}"));
    ask(&format!("--port nowhere {PACKET} 10.0.0.4:53")).fails(2, "`outside`, `inside`");
    ask(&format!("--port outside {PACKET} 10.0.0.4")).fails(2, "10.0.0.4:PORT");
    ask(&format!("--port outside {PACKET} [fd00::4]:53")).fails(2, "one family");
    ask("--port outside --proto sctp --from 1.2.3.4 --to 10.0.0.4").fails(2, "tcp, udp, icmp");
}

#[test]
fn rules_that_nearly_decide_tags_and_translation_are_spelled_out() {
    let folder = Folder::new("explain-parts");
    let config = crate::CONFIG.replace(
        "    rules:\n      - {name: allow-web, priority: 100",
        "    rules:\n      - {name: deny-far, priority: 100, direction: inbound, access: deny, protocol: udp, source: [203.0.113.0/24, Far], source_ports: [\"*\"], destination: [\"asg:web\"], destination_ports: [53]}\n      - {name: allow-web, priority: 110",
    );
    let config = config.replace(
        "  subnets:",
        "  interfaces: [{address: 10.0.0.4, application_security_groups: [web]}]\n  subnets:",
    );
    folder.write("nva.yaml", config + "service_tags: {inline: {Far: [203.0.114.0/25, 203.0.114.128/25]}}\n");
    let line = format!("explain --config nva.yaml --port outside {PACKET} 192.0.2.10:53");
    let json = folder.nva(&format!("{line} --json")).json();
    let step = |stage: &str| {
        let found =
            json["steps"].as_array().and_then(|steps| steps.iter().rev().find(|step| step["stage"] == stage));
        found.unwrap_or_else(|| panic!("no {stage}: {json}")).clone()
    };
    let balanced = step("load_balancer");
    assert_eq!(
        balanced["translation"],
        serde_json::json!({"from": "192.0.2.10:53", "to": "10.0.0.4:53"}),
        "{json}"
    );
    let steps = json["steps"].as_array().expect("a list");
    let group = steps.iter().find(|step| step["group"] == "web-nsg").expect("the group was asked");
    assert_eq!((&group["direction"], &group["address"]), (&"inbound".into(), &"10.0.0.4".into()));
    let missed = serde_json::json!([{
        "rule": "deny-far", "priority": 100, "access": "deny", "field": "source",
        "wants": ["203.0.113.0/24", "Far"], "has": "198.51.100.7"
    }]);
    assert_eq!(group["near_misses"], missed, "{json}");
    assert_eq!(group["expanded"]["Far"], serde_json::json!(["203.0.114.0/24"]), "{json}");
    assert_eq!(group["matches"]["source"], serde_json::json!(["Internet"]), "{json}");
    assert!(group["expanded"]["Internet"].as_array().is_some_and(|prefixes| prefixes.len() > 8), "{json}");
    let hop = serde_json::json!({"address": "10.0.0.4", "port": "inside", "mac": "02:00:00:00:02:04"});
    assert_eq!(step("route")["next_hop"], hop, "{json}");
    let text = folder.nva(&line).out();
    for said in [
        "it matches protocol udp, source Internet (all but 10.0.0.0/8, 168.63.129.16/32), destination_ports 53",
        "deny-far (priority 100) would deny but for its source: 203.0.113.0/24 or Far (203.0.114.0/24), not 198.51.100.7",
        "the route to 198.51.100.7 leads out of port outside",
        "next hop 10.0.0.4 is 02:00:00:00:02:04, a static neighbour",
    ] {
        assert!(text.contains(said), "`{said}` is not in:\n{text}");
    }
}

#[test]
fn protocols_without_ports_are_explained_too() {
    let folder = Folder::new("explain-icmp");
    for (proto, says) in [("icmp", "icmp"), ("esp", "esp"), ("ah", "ah"), ("47", "protocol 47")] {
        let ran = folder.nva(&format!(
            "explain --config nva.yaml --port outside --proto {proto} --from 198.51.100.7 --to 10.0.0.4 --json"
        ));
        ran.succeeds();
        let json = ran.json();
        assert_eq!(json["rule"], "web-nsg/DenyAllInBound", "{json}");
        let group = json["steps"].as_array().expect("a list").iter().find(|step| step["group"] == "web-nsg");
        let missed = &group.expect("the group was asked")["near_misses"][0];
        assert_eq!((&missed["field"], &missed["has"]), (&"protocol".into(), &says.into()), "{json}");
    }
}

#[test]
fn ports_that_are_not_compared_are_not_passed_over() {
    let folder = Folder::new("explain-any");
    let any = crate::CONFIG.replace("protocol: udp, source: [Internet]", "protocol: any, source: [\"*\"]");
    folder.write("nva.yaml", any.replace("protocol: udp, port: 53", "protocol: udp, port: 54"));
    let ask = |proto: &str, port: &str| {
        let ends = format!("--from 198.51.100.7{port} --to 10.0.0.4{port}");
        folder.nva(&format!("explain --config nva.yaml --port outside --proto {proto} {ends}")).out()
    };
    let (ping, query) = (ask("icmp", ""), ask("udp", ":53"));
    assert!(ping.contains("it matches everything; its ports are not compared, as icmp has none"), "{ping}");
    assert!(query.contains("it matches destination_ports 53\n"), "{query}");
}

#[test]
fn the_outer_packet_of_a_tunnel_is_no_packet_to_judge() {
    let folder = Folder::new("explain-outer");
    let gateway = "gateway:\n  port: inside\n  address: 10.0.0.1\n  peers: [10.0.0.200]\n  frontends: {203.0.113.9: [10.0.0.4, 10.0.0.5]}\n  \
                   tunnels: [{name: trusted, trust: trusted, vni: 800, udp_port: 10800}, {name: external, trust: untrusted, vni: 801, udp_port: 10801}]\n";
    folder.write("nva.yaml", format!("{}{gateway}", crate::CONFIG));
    let outer = |from: &str, port: u16| {
        let ends = format!("--from {from}:50000 --to 10.0.0.1:{port}");
        folder.nva(&format!("explain --config nva.yaml --port inside --proto udp {ends}")).out()
    };
    let inside = outer("10.0.0.200", 10_801);
    assert!(
        inside.starts_with("allow") && inside.contains("explain that, with --port external\n"),
        "{inside}"
    );
    assert!(outer("10.0.0.201", 10_801).starts_with("deny  (tunnel_bad_peer)"));
    assert!(outer("10.0.0.200", 4789).starts_with("deny  (tunnel_wrong_port)"));
    assert!(outer("10.0.0.200", 10_802).starts_with("deny  (denied_by_rule)"), "no tunnel's");
    let inner = "explain --config nva.yaml --port external --proto icmp --from 198.51.100.7 --to 203.0.113.9";
    let inner = folder.nva(inner).out();
    assert!(inner.contains("rules see a packet from 198.51.100.7 to 10.0.0.4\n"), "{inner}");
}

#[test]
fn a_source_that_cannot_be_is_explained() {
    let folder = Folder::new("explain-spoofed");
    let ask = |port: &str, from: &str| {
        let to = "--proto udp --to 203.0.113.9:53";
        folder.nva(&format!("explain --config nva.yaml --port {port} --from {from} {to}")).out()
    };
    let inside = ask("outside", "10.0.0.4:9");
    assert!(inside.starts_with("deny  (spoofed)"), "{inside}");
    assert!(inside.contains("the route to 10.0.0.4 leads out of port inside"), "{inside}");
    assert!(inside.contains("of the virtual network (10.0.0.0/8)"), "{inside}");
    let platform = ask("inside", "168.63.129.16:9");
    assert!(platform.starts_with("deny  (spoofed)"), "{platform}");
}

#[test]
fn the_platform_is_not_for_groups_to_deny() {
    let folder = Folder::new("explain-platform");
    let deny = "    rules:\n      - {name: none, priority: 100, direction: outbound, access: deny, protocol: any, source: [\"*\"], source_ports: [\"*\"], destination: [\"*\"], destination_ports: [\"*\"]}\n";
    folder.write("nva.yaml", crate::CONFIG.replace("    rules:\n", deny));
    let ask = || {
        folder.nva("explain --config nva.yaml --port inside --proto udp --from 10.0.0.4:9 --to 168.63.129.16:53 --json").json()
    };
    let json = ask();
    assert_eq!((&json["verdict"], &json["rule"]), (&"allow".into(), &serde_json::Value::Null), "{json}");
    assert!(
        json.to_string().contains("groups do not guard the platform's services at 168.63.129.16"),
        "{json}"
    );
    let by_tag = deny.replace("destination: [\"*\"]", "destination: [AzurePlatformDNS]");
    folder.write("nva.yaml", crate::CONFIG.replace("    rules:\n", &by_tag));
    let json = ask();
    assert_eq!((&json["verdict"], &json["rule"]), (&"deny".into(), &"web-nsg/none".into()), "{json}");
}

/// Two groups at one address, with rules of every form.
const TWO_LEVELS: &str = r#"version: 1
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
    - {name: web, prefixes: [10.2.0.0/24], security_group: web-nsg}
  interfaces:
    - {address: 10.2.0.4, security_group: nic-nsg, application_security_groups: [asg-web]}
    - {address: 10.2.0.5, application_security_groups: [asg-web]}
"#;
const RULES: &str = r#"version: 1
service_tags: {inline: {Monitoring: [198.51.100.0/25, 198.51.100.128/25], Other: ["2001:db8:9::/48"]}}
security_groups:
  - name: web-nsg
    rules:
      - {name: to-asg, priority: 100, direction: inbound, access: allow, protocol: tcp, source: [Internet], source_ports: ["*"], destination: ["asg:asg-web"], destination_ports: [8443, 9000-9100]}
      - {name: mixed, priority: 110, direction: inbound, access: deny, protocol: udp, source: [Monitoring, Other, 192.0.2.1], source_ports: [500-600], destination: [0.0.0.0/0], destination_ports: ["*"]}
      - {name: tagged, priority: 120, direction: inbound, access: allow, protocol: esp, source: [Monitoring], source_ports: ["*"], destination: [VirtualNetwork], destination_ports: ["*"]}
      - {name: out, priority: 100, direction: outbound, access: deny, protocol: any, source: ["*"], source_ports: ["*"], destination: ["::/0"], destination_ports: ["*"]}
  - name: nic-nsg
    rules:
      - {name: ping, priority: 4096, direction: inbound, access: allow, protocol: icmp, source: [AzureLoadBalancer], source_ports: ["*"], destination: ["*"], destination_ports: ["*"]}
"#;

#[test]
fn effective_rules_are_shown_level_by_level_and_can_be_imported_again() {
    let folder = Folder::new("effective");
    folder.write("net.yaml", TWO_LEVELS);
    folder.write("rules.yaml", RULES);
    let ran = folder.nva("explain --config net.yaml --config rules.yaml --effective 10.2.0.4 --json");
    ran.succeeds();
    let first = ran.json();
    let groups = first["value"].as_array().expect("a list of groups");
    let ids: Vec<_> = groups.iter().map(|group| &group["networkSecurityGroup"]["id"]).collect();
    assert_eq!(ids, ["web-nsg", "nic-nsg"], "{first}");
    assert_eq!(groups[0]["association"]["subnet"]["id"], "web");
    assert_eq!(groups[1]["association"]["networkInterface"]["id"], "10.2.0.4");
    let rules = groups[0]["effectiveSecurityRules"].as_array().expect("rules");
    let names: Vec<_> = rules.iter().map(|rule| rule["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(
        names,
        [
            "securityRules/to-asg",
            "securityRules/mixed",
            "securityRules/tagged",
            "defaultSecurityRules/AllowVnetInBound",
            "defaultSecurityRules/AllowAzureLoadBalancerInBound",
            "defaultSecurityRules/DenyAllInBound",
            "securityRules/out",
            "defaultSecurityRules/AllowVnetOutBound",
            "defaultSecurityRules/AllowInternetOutBound",
            "defaultSecurityRules/DenyAllOutBound",
        ]
    );
    let asg = &rules[0];
    assert_eq!(asg["destinationAddressPrefixes"], serde_json::json!(["10.2.0.4/32", "10.2.0.5/32"]), "{asg}");
    assert_eq!(asg["destinationPortRanges"], serde_json::json!(["8443-8443", "9000-9100"]), "{asg}");
    assert_eq!(
        (&asg["protocol"], &asg["access"], &asg["direction"]),
        (&"Tcp".into(), &"Allow".into(), &"Inbound".into())
    );
    assert_eq!((&asg["sourceAddressPrefix"], &asg["priority"]), (&"Internet".into(), &100.into()), "{asg}");
    let tagged = &rules[2];
    assert_eq!(tagged["expandedSourceAddressPrefix"], serde_json::json!(["198.51.100.0/24"]), "{tagged}");
    let network = serde_json::json!(["10.0.0.0/8", "168.63.129.16/32", "fd00::/8"]);
    assert_eq!(tagged["expandedDestinationAddressPrefix"], network, "{tagged}");

    // Back through the import, and out again.
    folder.write("effective.json", &ran.0.stdout);
    let import = folder.nva("import azure --nsg effective.json --out back.yaml");
    import.succeeds();
    folder.nva("check --config net.yaml --config back.yaml").succeeds();
    let again = folder.nva("explain --config net.yaml --config back.yaml --effective 10.2.0.4 --json");
    again.succeeds();
    assert_eq!(again.json(), first, "{}", String::from_utf8_lossy(&folder.read("back.yaml")));
}

#[test]
fn effective_rules_as_people_read_them() {
    let folder = Folder::new("effective-text");
    folder.write("net.yaml", TWO_LEVELS);
    folder.write("rules.yaml", RULES);
    let ask = |address: &str| {
        folder.nva(&format!("explain --config net.yaml --config rules.yaml --effective {address}")).out()
    };
    let text = ask("10.2.0.4");
    let heads: Vec<&str> = text.lines().filter(|line| line.contains("_group ")).collect();
    assert_eq!(
        heads,
        [
            "inbound, subnet_group web-nsg",
            "inbound, interface_group nic-nsg",
            "outbound, interface_group nic-nsg",
            "outbound, subnet_group web-nsg"
        ]
    );
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert!(line("asg:asg-web").ends_with("10.2.0.4/32 10.2.0.5/32"), "{text}");
    assert!(line("Monitoring").ends_with("198.51.100.0/24"), "{text}");
    assert!(!ask("10.2.0.5").contains("interface_group"), "the second has its subnet's group alone");
    assert!(ask("10.9.0.1").contains("no group at either level"), "{}", ask("10.9.0.1"));
}
