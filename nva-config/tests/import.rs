//! Imports: every spelling of one group gives one text, and what comes out is a configuration.

use std::collections::BTreeSet;
use std::path::Path;

use nva_config::import::{Import, Input, Options, Role, azure};
use nva_config::{Source, load};

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn input(role: Role, path: &str, text: impl Into<Vec<u8>>) -> Input {
    Input { role, source: Source { path: path.into(), text: text.into() } }
}

fn import(inputs: &[Input]) -> Import {
    azure(inputs, Options::default())
}

fn problems(import: &Import) -> String {
    import.account.lines().iter().map(|line| format!("{line}\n")).collect()
}

/// The text, which is a good configuration; a bad import shows why.
fn text(import: &Import) -> &str {
    let Some(text) = &import.text else { panic!("{}", problems(import)) };
    if let Err(problems) =
        load(&[Source { path: "imported.yaml".into(), text: text.as_bytes().into() }], None)
    {
        panic!("{problems:#?}\n{text}");
    }
    text
}

/// The group of one spelling, with the members and tags that its rules name. All have one file name, as comments say it.
fn web(spelling: &str) -> Import {
    import(&[
        input(Role::Groups, "web.json", file(&format!("web.{spelling}.json"))),
        input(Role::Members, "members.json", file("members.json")),
        input(Role::Tags, "tags.json", file("tags.json")),
    ])
}

const SPELLINGS: [&str; 10] =
    ["arm", "list", "cli", "rules", "pascal", "tfstate", "show", "plan", "plan-inline", "template"];

#[test]
fn every_spelling_gives_the_same_text() {
    let expected = String::from_utf8(file("web.yaml")).expect("UTF-8");
    for spelling in SPELLINGS {
        let import = web(spelling);
        assert_eq!(text(&import), expected, "{spelling}");
        assert_eq!(web(spelling).account, import.account, "{spelling}");
    }
}

/// Effective rules have addresses in place of application security groups, and no `*`: what is let in is never more than in the cloud.
#[test]
fn effective_rules_are_imported_with_their_expansions() {
    let effective = file("web.effective.json");
    let import = import(&[input(Role::Groups, "web.json", effective)]);
    let expected = String::from_utf8(file("web.effective.yaml")).expect("UTF-8");
    assert_eq!(text(&import), expected);
    let differs: Vec<&str> = import.account.differs.iter().map(|note| note.path.as_str()).collect();
    let rule = |index: usize, key: &str| format!("value[0].effectiveSecurityRules[{index}].{key}[0]");
    for path in [
        rule(2, "destinationAddressPrefixes"),
        rule(3, "sourceAddressPrefixes"),
        rule(3, "destinationAddressPrefixes"),
        rule(4, "sourceAddressPrefixes"),
    ] {
        assert!(differs.contains(&path.as_str()), "{path} in {differs:#?}");
    }
}

#[test]
fn interfaces_say_the_members_as_well_as_a_list_does() {
    let group = || input(Role::Groups, "web.json", file("web.arm.json"));
    let tags = || input(Role::Tags, "tags.json", file("tags.json"));
    let by_list = import(&[group(), input(Role::Members, "members.json", file("members.json")), tags()]);
    let by_interfaces =
        import(&[group(), input(Role::Members, "members.json", file("interfaces.json")), tags()]);
    assert_eq!(text(&by_list), text(&by_interfaces));
}

#[test]
fn everything_is_accounted_for() {
    let account = web("arm").account;
    let taken: BTreeSet<&str> = account.taken.iter().map(|note| note.message.as_str()).collect();
    for wanted in [
        "security_groups.web-nsg",
        "security_groups.web-nsg.rules.allow-https",
        "security_groups.web-nsg.rules.deny-ipsec",
        "service_tags.inline.AzureCloud.westeurope",
        "virtual_network.interfaces, members of asg-web",
    ] {
        assert!(taken.contains(wanted), "{wanted} in {taken:#?}");
    }
    let rule = account.taken.iter().find(|note| note.message.ends_with(".allow-admin")).expect("taken");
    assert_eq!(rule.path, "properties.securityRules[1]");
    let ignored: BTreeSet<(&str, usize)> =
        account.ignored.iter().map(|i| (i.path.as_str(), i.count)).collect();
    for wanted in [
        ("etag", 1),
        ("tags", 1),
        ("properties.provisioningState", 1),
        ("properties.securityRules[].properties.provisioningState", 6),
        ("properties.defaultSecurityRules[]", 6),
    ] {
        assert!(ignored.contains(&wanted), "{wanted:?} in {ignored:#?}");
    }
    assert_eq!(account.left_out.len(), 1, "{:#?}", account.left_out);
    assert_eq!(account.left_out[0].path, "properties.subnets[0].id");
}

/// A group with one rule, which `change` alters, as the text of an export.
fn one_rule(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut group = serde_json::json!({"name": "g", "properties": {"securityRules": [{"name": "r", "properties": {
        "protocol": "Tcp", "sourcePortRange": "*", "destinationPortRange": "443", "sourceAddressPrefix": "*",
        "destinationAddressPrefix": "*", "access": "Allow", "priority": 100, "direction": "Inbound"}}]}});
    change(&mut group["properties"]["securityRules"][0]);
    group.to_string()
}

fn said_of(change: impl FnOnce(&mut serde_json::Value)) -> (bool, String) {
    let import = import(&[input(Role::Groups, "g.json", one_rule(change))]);
    let line = |note: &nva_config::import::Note| format!("{}: {}\n", note.path, note.message);
    let problems: String = import.account.problems.iter().map(line).collect();
    let others: String = import.account.left_out.iter().chain(&import.account.differs).map(line).collect();
    if import.text.is_some() {
        text(&import);
    }
    (import.text.is_some(), problems + &others)
}

/// A change of one value of the rule.
fn with(key: &'static str, value: serde_json::Value) -> impl FnOnce(&mut serde_json::Value) {
    move |rule| rule["properties"][key] = value
}

#[test]
fn what_cannot_be_known_is_refused_with_its_path() {
    let path = |key: &str| format!("properties.securityRules[0].properties.{key}: ");
    for (key, value, why) in [
        ("priority", serde_json::json!("[parameters('p')]"), "is a template expression"),
        ("access", serde_json::json!("[variables('a')]"), "is a template expression"),
        ("sourceAddressPrefix", serde_json::json!("${var.office}"), "is a template expression"),
        ("destinationPortRange", serde_json::json!("[if(true(), '80', '81')]"), "is a template expression"),
        ("priority", serde_json::json!(99), "99 is out of range; a priority from 100 to 4096"),
        ("priority", serde_json::json!(4097), "out of range"),
        ("priority", serde_json::json!(1e9), "is out of range; a whole number from 0 to 65535"),
        ("priority", serde_json::json!([100]), "a list stands here; a number is needed"),
        ("access", serde_json::json!("Permit"), "`allow` or `deny` is needed"),
        ("direction", serde_json::json!(true), "`true` stands here"),
        ("protocol", serde_json::json!("Gre"), "Tcp, Udp, Icmp, Esp, Ah or * is needed"),
        ("destinationPortRange", serde_json::json!("80-70"), "is no port"),
        ("destinationPortRange", serde_json::json!("65536"), "is no port"),
        ("destinationPortRange", serde_json::json!("80,443"), "is no port"),
        ("sourceAddressPrefix", serde_json::json!("10.0.0.1-10.0.0.9"), "is no prefix"),
        ("sourceAddressPrefix", serde_json::json!("10.0.0.0/33"), "is no prefix"),
        ("destinationAddressPrefix", serde_json::json!("[variables('x')]"), "is a template expression"),
        ("sourcePortRange", serde_json::json!(true), "a text is needed"),
        ("newKey", serde_json::json!("x"), "is not known here"),
        ("sourceApplicationSecurityGroups", serde_json::json!("System.Collections.Generic.List`1[x]"), ""),
    ] {
        let (good, said) = said_of(with(key, value.clone()));
        assert!(!good && said.contains(why), "{key} {value}: {said}");
        assert!(!said.contains("is missing"), "it is there: {said}");
        if !why.is_empty() {
            assert!(said.contains(&path(key)), "{key} {value}: {said}");
        }
    }
    let (good, said) = said_of(|_| {});
    assert!(good && said.is_empty(), "{said}");
}

#[test]
fn what_is_missing_is_a_problem() {
    for key in ["protocol", "access", "priority", "direction", "sourceAddressPrefix", "destinationPortRange"]
    {
        let (good, said) =
            said_of(|rule| drop(rule["properties"].as_object_mut().and_then(|rule| rule.remove(key))));
        assert!(!good && said.contains(&format!("`{key}` is missing")), "{key}: {said}");
    }
}

#[test]
fn other_spellings_of_values_are_taken() {
    for (key, value, written) in [
        ("protocol", serde_json::json!("TCP"), "protocol: tcp"),
        ("protocol", serde_json::json!("Asterisk"), "protocol: any"),
        ("protocol", serde_json::json!("*"), "protocol: any"),
        ("access", serde_json::json!("DENY"), "access: deny"),
        ("direction", serde_json::json!("outbound"), "direction: outbound"),
        ("priority", serde_json::json!("200"), "priority: 200"),
        ("destinationPortRange", serde_json::json!(443), "destination_ports: [443]"),
        ("destinationPortRange", serde_json::json!("0-65535"), "destination_ports: [\"*\"]"),
        ("sourceAddressPrefix", serde_json::json!("VIRTUAL_NETWORK"), "source: [VirtualNetwork]"),
        ("sourceAddressPrefix", serde_json::json!("internet"), "source: [Internet]"),
        ("sourceAddressPrefix", serde_json::json!("0.0.0.0/0"), "source: [0.0.0.0/0]"),
        ("sourceAddressPrefix", serde_json::json!("::/0"), "source: [\"::/0\"]"),
        ("sourceAddressPrefix", serde_json::json!("10.2.0.4/32"), "source: [10.2.0.4]"),
        ("sourceAddressPrefix", serde_json::json!("10.2.0.4/24"), "source: [10.2.0.0/24]"),
    ] {
        let import = import(&[input(Role::Groups, "g.json", one_rule(with(key, value.clone())))]);
        assert!(text(&import).contains(written), "{key} {value}: {}", text(&import));
    }
}

/// The same obstacle: without an Allow less is let in, without a Deny more.
#[test]
fn an_allow_may_go_and_a_deny_may_not() {
    let group = serde_json::json!([{"id": "/x/applicationSecurityGroups/asg-a"}]);
    for (access, good) in [("Allow", true), ("Deny", false)] {
        for (key, value) in [
            ("sourceAddressPrefix", serde_json::json!("Storage.WestEurope")),
            ("sourceApplicationSecurityGroups", group.clone()),
        ] {
            let (imported, said) = said_of(|rule| {
                rule["properties"]["sourceAddressPrefix"] = "".into();
                rule["properties"][key] = value.clone();
                rule["properties"]["access"] = access.into();
            });
            assert_eq!(imported, good, "{access} {key}: {said}");
            assert!(said.starts_with("properties.securityRules[0]: the rule `r` "), "{said}");
        }
    }
}

#[test]
fn a_group_that_is_said_to_have_no_member_matches_nothing() {
    let rule = one_rule(|rule| {
        rule["properties"]["sourceAddressPrefix"] = serde_json::Value::Null;
        rule["properties"]["sourceApplicationSecurityGroups"] =
            serde_json::json!([{"id": "/x/applicationSecurityGroups/Asg-A"}]);
        rule["properties"]["access"] = "Deny".into();
    });
    let import =
        import(&[input(Role::Groups, "g.json", rule), input(Role::Members, "m.json", r#"{"asg-a": []}"#)]);
    assert!(text(&import).contains("rules: []"));
    assert!(import.account.left_out[0].message.contains("has no member"), "{:?}", import.account.left_out);
}

#[test]
fn kept_tags_are_neither_copied_nor_looked_up() {
    let rule =
        || input(Role::Groups, "g.json", one_rule(with("sourceAddressPrefix", "Storage.WestEurope".into())));
    let options = Options { keep_tags: true };
    let kept = azure(&[rule()], options);
    let text = kept.text.as_deref().unwrap_or_else(|| panic!("{}", problems(&kept)));
    assert!(text.contains("source: [Storage.WestEurope]") && !text.contains("service_tags"), "{text}");
    let unknown = azure(&[rule(), input(Role::Tags, "tags.json", file("tags.json"))], options);
    assert_eq!(unknown.account.left_out.len(), 1, "the published file does not have it");
}

#[test]
fn rules_that_contradict_each_other_are_problems() {
    let rule = |name: &str, priority: u16, port: &str| {
        serde_json::json!({"name": name, "protocol": "*", "sourcePortRange": "*", "destinationPortRange": port, "sourceAddressPrefix": "*",
            "destinationAddressPrefix": "*", "access": "Deny", "priority": priority, "direction": "Inbound"})
    };
    let group =
        |rules: &[serde_json::Value]| serde_json::json!({"name": "g", "securityRules": rules}).to_string();
    let said =
        |rules: &[serde_json::Value]| problems(&import(&[input(Role::Groups, "g.json", group(rules))]));
    assert_eq!(said(&[rule("a", 100, "1"), rule("b", 101, "1")]), "");
    assert!(
        said(&[rule("a", 100, "1"), rule("b", 100, "2")])
            .contains("the priority 100 is that of the inbound rule `a` too")
    );
    assert!(
        said(&[rule("a", 100, "1"), rule("A", 101, "2")])
            .contains("another rule of the group is called `A` too")
    );
    let twice = |a: &[serde_json::Value], b: &[serde_json::Value]| {
        problems(&import(&[input(Role::Groups, "a.json", group(a)), input(Role::Groups, "b.json", group(b))]))
    };
    assert_eq!(twice(&[rule("a", 100, "1")], &[rule("a", 100, "1")]), "");
    assert!(
        twice(&[rule("a", 100, "1")], &[rule("a", 100, "2")])
            .contains("b.json:1:9: name: the group `g` is in the input twice")
    );
}

#[test]
fn default_rules_are_known_by_what_they_do() {
    let import_default = |source: &str| {
        let group = serde_json::json!({"name": "g", "securityRules": [], "defaultSecurityRules": [{"name": "AllowVNetInBound", "protocol": "*",
            "sourcePortRange": "*", "destinationPortRange": "*", "sourceAddressPrefix": source, "destinationAddressPrefix": "VirtualNetwork",
            "access": "Allow", "priority": 65000, "direction": "Inbound"}]});
        import(&[input(Role::Groups, "g.json", group.to_string())])
    };
    assert!(text(&import_default("VirtualNetwork")).contains("rules: []"));
    assert!(problems(&import_default("Internet")).contains("is none of the cloud's default rules"));
}

#[test]
fn subnets_and_interfaces_come_with_their_groups() {
    let group = |name: &str| serde_json::json!({"name": name, "id": format!("/s/networkSecurityGroups/{name}"), "properties": {"securityRules": []}});
    let network = serde_json::json!({"name": "v", "id": "/s/virtualNetworks/v", "properties": {"addressSpace": {"addressPrefixes": ["10.2.0.0/16", "fd00:2::/48"]},
        "subnets": [{"name": "web", "id": "/s/virtualNetworks/v/subnets/web", "properties": {"addressPrefix": "10.2.0.0/24", "networkSecurityGroup": {"id": "/S/NetworkSecurityGroups/WEB"}}},
                    {"name": "db", "id": "/s/virtualNetworks/v/subnets/db", "properties": {"addressPrefixes": ["10.2.1.0/24", "fd00:2:0:1::/64"]}}]}});
    let interface = serde_json::json!({"name": "n", "id": "/s/networkInterfaces/n", "properties": {"networkSecurityGroup": {"id": "/s/networkSecurityGroups/nic"},
        "ipConfigurations": [{"name": "c", "properties": {"privateIPAddress": "10.2.0.4"}}]}});
    let all = [group("web"), group("nic"), network, interface];
    let list = |all: &[serde_json::Value]| {
        import(&[input(Role::Groups, "all.json", serde_json::json!(all).to_string())])
    };
    let good = list(&all);
    let expected = "\nvirtual_network:\n  address_space: [10.2.0.0/16, \"fd00:2::/48\"]\n  subnets:\n    \
        - {name: web, prefixes: [10.2.0.0/24], security_group: web}\n    - {name: db, prefixes: [10.2.1.0/24, \"fd00:2:0:1::/64\"]}\n  \
        interfaces:\n    - {address: 10.2.0.4, security_group: nic}\n";
    assert!(text(&good).contains(expected), "{}", text(&good));
    let without = list(&all[2..]);
    let said = problems(&without);
    assert!(said.contains("the subnet `web` has the group `WEB`, which is not in the input"), "{said}");
    assert!(said.contains("the interface `n` has the group `nic`, which is not in the input"), "{said}");
}

#[test]
fn peered_networks_are_in_the_tag_virtual_network() {
    let group = serde_json::from_str::<serde_json::Value>(&one_rule(|_| {})).expect("JSON");
    let peering = |name: &str, change: serde_json::Value| {
        let mut inner = serde_json::json!({"peeringState": "Connected", "allowVirtualNetworkAccess": true,
            "remoteAddressSpace": {"addressPrefixes": ["10.7.0.0/16", "fd00:7::/48"]},
            "remoteVirtualNetworkAddressSpace": {"addressPrefixes": ["10.7.0.0/16", "fd00:7::/48"]}});
        for (key, value) in change.as_object().expect("an object") {
            inner[key] = value.clone();
        }
        serde_json::json!({"name": name, "type": "Microsoft.Network/virtualNetworks/virtualNetworkPeerings", "properties": inner})
    };
    let network = |peering: &serde_json::Value| {
        serde_json::json!({"name": "v", "properties": {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}, "subnets": [],
            "virtualNetworkPeerings": [peering]}})
    };
    let ask = |resources: &[serde_json::Value]| {
        import(&[input(Role::Groups, "g.json", serde_json::Value::from(resources.to_vec()).to_string())])
    };
    let space = |import: &Import| {
        let line = text(import).lines().find(|line| line.contains("address_space")).map(str::to_owned);
        line.unwrap_or_default()
    };
    let both = "  address_space: [10.0.0.0/16, 10.7.0.0/16, \"fd00:7::/48\"]";
    let open = peering("hub", serde_json::json!({}));
    assert_eq!(space(&ask(&[group.clone(), network(&open)])), both);
    let alone = ask(&[group.clone(), network(&open), open.clone()]);
    assert_eq!(space(&alone), both, "also on its own, as lists of peerings have it");
    for shut in [
        serde_json::json!({"peeringState": "Initiated"}),
        serde_json::json!({"allowVirtualNetworkAccess": false}),
    ] {
        let import = ask(&[group.clone(), network(&peering("hub", shut))]);
        assert_eq!(
            (space(&import).as_str(), import.account.left_out.len()),
            ("  address_space: [10.0.0.0/16]", 1)
        );
    }
    let unknown = serde_json::json!({"remoteAddressSpace": null, "remoteVirtualNetworkAddressSpace": null});
    let import = ask(&[group, network(&peering("hub", unknown))]);
    assert_eq!(space(&import), "  address_space: [10.0.0.0/16]");
    assert!(import.account.differs.iter().any(|note| note.message.contains("the peered network")), "said");
}

#[test]
fn what_is_no_export_is_refused() {
    for (json, why) in [
        ("", "1:1: this is no good JSON"),
        ("{}", "the object is empty"),
        ("[]", "nothing to import is in it; give an export of network security groups"),
        ("3", "an object is needed"),
        ("{\"name\": \"g\"}", "is no resource that is read here"),
        (
            "{\"name\": \"g\", \"type\": \"Microsoft.Network/networkSecurityGroups\"}",
            "`securityRules` is missing",
        ),
        ("{\"securityRules\": []}", "`name` is missing"),
        ("{\"name\": \"g\", \"name\": \"h\", \"securityRules\": []}", "name: the key stands twice"),
        ("{\"name\": \"g\", \"Name\": \"h\", \"securityRules\": []}", "the key stands twice, also as `name`"),
        (
            "{\"value\": [{\"name\": \"g\", \"securityRules\": []}], \"nextLink\": \"https://x\"}",
            "nextLink: the list goes on",
        ),
        (
            "{\"name\": \"g\", \"SecurityRules\": \"Microsoft.Azure.Commands.Network.Models.PSSecurityRule\"}",
            "ConvertTo-Json -Depth 20",
        ),
        (
            "{\"$schema\": \"s\", \"resources\": [{\"type\": \"Microsoft.Resources/deployments\", \"name\": \"x\"}]}",
            "nested deployment",
        ),
        (
            "{\"$schema\": \"s\", \"resources\": [{\"type\": \"Microsoft.Network/networkSecurityGroups\", \"name\": \"x\", \"condition\": \"[p]\"}]}",
            "`condition` is computed at deployment",
        ),
        (
            "{\"$schema\": \"s\", \"resources\": [{\"type\": \"Microsoft.Network/networkSecurityGroups\", \"name\": \"[parameters('n')]\"}]}",
            "resources[0].name: `[parameters('n')]` is a template expression",
        ),
        ("{\"terraform_version\": \"0.11\", \"version\": 3, \"modules\": [{}]}", "of a version before 4"),
    ] {
        let said = problems(&import(&[input(Role::Groups, "x.json", json)]));
        assert!(said.contains(why), "{json}: {said}");
    }
}

#[test]
fn a_plan_that_does_not_know_is_refused() {
    let mut plan: serde_json::Value = serde_json::from_slice(&file("web.plan.json")).expect("JSON");
    let group =
        |plan: &serde_json::Value| problems(&import(&[input(Role::Groups, "p.json", plan.to_string())]));
    plan["resource_changes"][1]["change"]["after_unknown"]["source_address_prefix"] = true.into();
    plan["planned_values"]["root_module"]["resources"][1]["values"]["source_address_prefix"] =
        serde_json::Value::Null;
    let said = group(&plan);
    assert!(
        said.contains("resources[1].values.source_address_prefix: it is known only after apply"),
        "{said}"
    );
    plan["planned_values"]["root_module"]["resources"].as_array_mut().expect("a list").truncate(1);
    let said = group(&plan);
    assert!(said.contains("the rules are known only after apply"), "{said}");
}

/// The balancer of one spelling; Terraform's state has everything around it, and knows of no admin state, drain or probed-up pools.
fn balancer(spelling: &str) -> Import {
    let mut inputs = vec![input(Role::Balancers, "lb.json", file(&format!("lb.{spelling}.json")))];
    if spelling != "tfstate" {
        inputs.push(input(Role::Balancers, "around.json", file("lb.around.json")));
    }
    import(&inputs)
}

#[test]
fn every_spelling_of_a_balancer_gives_the_same_text() {
    let expected = String::from_utf8(file("lb.yaml")).expect("UTF-8");
    for spelling in ["arm", "cli", "pascal"] {
        assert_eq!(text(&balancer(spelling)), expected, "{spelling}");
    }
    let without = expected
        .replace("# around.json\n", "")
        .replace("drain_period: 60s", "drain_period: 0s")
        .replace(", admin_state: down", "");
    assert_eq!(text(&balancer("tfstate")), without);
    let differs: Vec<String> = balancer("arm").account.differs.iter().map(|note| note.path.clone()).collect();
    assert_eq!(
        differs,
        [
            "properties.loadBalancingRules[1]",
            "properties.inboundNatRules[1].properties.backendIPConfiguration.id"
        ]
    );
}

#[test]
fn a_balancer_without_its_addresses_is_refused() {
    let said = problems(&import(&[input(Role::Balancers, "lb.json", file("lb.arm.json"))]));
    for wanted in [
        "properties.frontendIPConfigurations[0]: the public address is not in the input",
        "the address of `nic-web-1` is not in the input",
        "the address of `nic-jump` is not in the input",
        "properties.outboundRules[0].properties.frontendIPConfigurations[0].id: the frontend `vip` is not taken",
    ] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
}

/// A balancer whose parts, each for itself, are as they should be.
fn balancer_with(part: &str, change: impl FnOnce(&mut serde_json::Value)) -> Import {
    let id = |part: &str| serde_json::json!({"id": format!("/x/loadBalancers/lb/{part}")});
    let frontend = id("frontendIPConfigurations/six");
    let mut balancer = serde_json::json!({"name": "lb", "properties": {
        "frontendIPConfigurations": [{"name": "six", "properties": {"privateIPAddress": "fd00::9"}}],
        "backendAddressPools": [{"name": "web", "properties": {"loadBalancerBackendAddresses": [{"name": "b", "properties": {"ipAddress": "fd00::5"}}]}}],
        "loadBalancingRules": [{"name": "web", "properties": {"frontendIPConfiguration": frontend, "backendAddressPool": id("backendAddressPools/web"),
            "protocol": "Tcp", "frontendPort": 80, "backendPort": 80}}],
        "outboundRules": [{"name": "out", "properties": {"allocatedOutboundPorts": 8, "frontendIPConfigurations": [frontend],
            "backendAddressPool": id("backendAddressPools/web"), "protocol": "All"}}]}});
    change(&mut balancer["properties"][part][0]["properties"]);
    import(&[input(Role::Balancers, "lb.json", serde_json::to_string_pretty(&balancer).expect("JSON"))])
}

#[test]
fn what_the_configuration_refuses_is_said_at_its_place_in_the_input() {
    text(&balancer_with("loadBalancingRules", |_| {}));
    let said = |import: &Import| {
        let place = |note: &nva_config::import::Note| {
            (note.location.line > 1, note.path.clone(), note.message.clone())
        };
        import.account.problems.iter().map(place).collect::<Vec<_>>()
    };
    let ports = said(&balancer_with("outboundRules", |rule| rule["allocatedOutboundPorts"] = 7.into()));
    let [(true, path, message)] = ports.as_slice() else { panic!("{ports:?}") };
    assert!(path == "properties.outboundRules[0]" && message.contains("multiple of 8"), "{ports:?}");
    let families = said(&balancer_with("backendAddressPools", |pool| {
        pool["loadBalancerBackendAddresses"][0]["properties"]["ipAddress"] = "10.2.0.4".into();
    }));
    assert!(!families.is_empty());
    for (has_line, path, message) in families {
        assert!(has_line && path.starts_with("properties."), "{path}: {message}");
    }
}

#[test]
fn a_balancing_rules_name_is_no_value_without_a_meaning() {
    let import = balancer_with("loadBalancingRules", |_| {});
    let ignored: Vec<&str> = import.account.ignored.iter().map(|ignored| ignored.path.as_str()).collect();
    assert_eq!(ignored, [""; 0]);
}

#[test]
fn every_spelling_of_a_route_table_gives_the_same_text() {
    let expected = String::from_utf8(file("routes.yaml")).expect("UTF-8");
    for spelling in ["arm", "cli", "pascal", "tfstate"] {
        let import = import(&[input(Role::Routes, "routes.json", file(&format!("routes.{spelling}.json")))]);
        assert_eq!(import.text.as_deref(), Some(expected.as_str()), "{spelling}");
        assert_eq!((import.account.left_out.len(), import.account.differs.len()), (1, 1), "{spelling}");
    }
}

#[test]
fn routes_to_a_tag_are_one_for_each_prefix_and_contradictions_are_problems() {
    let route = |name: &str, prefix: &str, via: &str| serde_json::json!({"name": name, "addressPrefix": prefix, "nextHopType": "VirtualAppliance", "nextHopIpAddress": via});
    let table = |routes: &[serde_json::Value]| {
        import(&[
            input(Role::Routes, "r.json", serde_json::json!({"name": "t", "routes": routes}).to_string()),
            input(Role::Tags, "tags.json", file("tags.json")),
        ])
    };
    let tag = table(&[route("a", "ActionGroup", "10.2.0.9")]);
    assert!(
        tag.text.as_deref().is_some_and(|text| text.contains("- {to: 4.145.74.52/30, via: 10.2.0.9}  # a"))
    );
    assert_eq!(tag.account.left_out.len(), 1, "its IPv6 prefix has an IPv4 next hop");
    assert!(
        problems(&table(&[route("a", "Storage", "10.2.0.9")]))
            .contains("the service tag `Storage` is not known")
    );
    // A route that is not taken needs no prefixes.
    let own =
        table(&[serde_json::json!({"name": "a", "addressPrefix": "Storage", "nextHopType": "Internet"})]);
    assert!(own.text.is_some() && own.account.left_out.len() == 1, "{}", problems(&own));
    let both = table(&[route("a", "10.0.0.0/8", "10.2.0.9"), route("b", "10.0.0.0/8", "10.2.0.8")]);
    assert!(
        problems(&both).contains("routes[1].nextHopIpAddress: another route sends 10.0.0.0/8 to 10.2.0.9")
    );
}

#[test]
fn tags_of_the_platforms_services_need_no_published_file() {
    let rule = |tag: &str| {
        serde_json::json!({"name": "n", "securityRules": [{"name": "r", "priority": 100, "direction": "Outbound", "access": "Deny",
            "protocol": "*", "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": tag, "destinationPortRange": "*"}]})
        .to_string()
    };
    let taken = import(&[input(Role::Groups, "n.json", rule("azureplatformdns"))]);
    assert!(
        taken.text.as_deref().is_some_and(|text| text.contains("destination: [AzurePlatformDNS]")),
        "{:?}",
        taken.text
    );
    let unknown = import(&[input(Role::Groups, "n.json", rule("AzurePlatformLKM"))]);
    assert!(problems(&unknown).contains("the service tag `AzurePlatformLKM` is not known"));
}

#[test]
fn two_names_of_one_key_must_agree() {
    let state = String::from_utf8(file("lb.tfstate.json")).expect("UTF-8");
    let other = state.replacen("\"tcp_reset_enabled\": true", "\"tcp_reset_enabled\": false", 1);
    assert_ne!(state, other, "the state has both names");
    let import = import(&[
        input(Role::Balancers, "lb.json", other),
        input(Role::Balancers, "around.json", file("lb.around.json")),
    ]);
    assert!(
        problems(&import).contains("tcp_reset_enabled: this says otherwise than"),
        "{}",
        problems(&import)
    );
}
