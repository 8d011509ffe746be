//! Imports of generated groups and of any JSON: rules come through unchanged, and whatever the input is, the import ends well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nva_config::import::{Import, Input, Options, Role, azure};
use nva_config::{
    Access, Config, Direction, Endpoint, PortRange, Prefix, RuleProtocol, SecurityRule, Source, load,
};
use proptest::prelude::*;

fn import(role: Role, json: &serde_json::Value) -> Import {
    let source = Source { path: "x.json".into(), text: json.to_string().into() };
    azure(&[Input { role, source }], Options::default())
}

fn checked(text: &str) -> Config {
    load(&[Source { path: "imported.yaml".into(), text: text.into() }], None)
        .unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"))
}

/// A generated rule: what it must come to, and the values that say it.
#[derive(Clone, Debug)]
struct Made {
    rule: SecurityRule,
    sides: [Vec<String>; 2],
    ports: [Vec<String>; 2],
}

fn side() -> impl Strategy<Value = (Vec<Endpoint>, Vec<String>)> {
    let prefix = prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(a, len)| (IpAddr::from(Ipv4Addr::from(a)), len)),
        (any::<u128>(), 0u8..=128).prop_map(|(a, len)| (IpAddr::from(Ipv6Addr::from(a)), len)),
    ]
    .prop_map(|(address, len)| Prefix::containing(address, len).expect("a length that fits"));
    let one = |endpoint: Endpoint, text: &str| Just((vec![endpoint], vec![text.to_owned()]));
    prop_oneof![
        one(Endpoint::Any, "*"),
        one(Endpoint::VirtualNetwork, "VirtualNetwork"),
        one(Endpoint::AzureLoadBalancer, "AZURELOADBALANCER"),
        one(Endpoint::Internet, "internet"),
        proptest::collection::btree_set(prefix, 1..4).prop_map(|prefixes| {
            let texts = prefixes.iter().map(ToString::to_string).collect();
            (prefixes.into_iter().map(Endpoint::Prefix).collect(), texts)
        }),
    ]
}

fn ports() -> impl Strategy<Value = (Vec<PortRange>, Vec<String>)> {
    let ranges = proptest::collection::btree_set(any::<u16>(), 1..7).prop_map(|bounds| {
        let bounds: Vec<u16> = bounds.into_iter().collect();
        let ranges: Vec<PortRange> =
            bounds.chunks(2).map(|pair| PortRange { first: pair[0], last: pair[pair.len() - 1] }).collect();
        let texts = ranges.iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
        (ranges, texts)
    });
    prop_oneof![Just((vec![PortRange::ALL], vec!["*".to_owned()])), ranges]
}

fn made() -> impl Strategy<Value = Made> {
    let protocol = prop_oneof![
        Just(RuleProtocol::Tcp),
        Just(RuleProtocol::Udp),
        Just(RuleProtocol::Icmp),
        Just(RuleProtocol::Esp),
        Just(RuleProtocol::Ah),
        Just(RuleProtocol::Any)
    ];
    (100u16..=4096, any::<bool>(), any::<bool>(), protocol, side(), ports(), side(), ports()).prop_map(
        |(priority, inbound, allow, protocol, source, source_ports, destination, destination_ports)| {
            let portless = matches!(protocol, RuleProtocol::Icmp | RuleProtocol::Esp | RuleProtocol::Ah);
            let kept = |ports: Vec<PortRange>| if portless { vec![PortRange::ALL] } else { ports };
            Made {
                rule: SecurityRule {
                    name: format!("r{priority}{}", if inbound { "i" } else { "o" }),
                    priority,
                    direction: if inbound { Direction::Inbound } else { Direction::Outbound },
                    access: if allow { Access::Allow } else { Access::Deny },
                    protocol,
                    source: source.0,
                    source_ports: kept(source_ports.0),
                    destination: destination.0,
                    destination_ports: kept(destination_ports.0),
                },
                sides: [source.1, destination.1],
                ports: [source_ports.1, destination_ports.1],
            }
        },
    )
}

/// The rule as one of the tools writes it.
fn spell(made: &Made, spelling: usize) -> serde_json::Value {
    let protocol = match made.rule.protocol {
        RuleProtocol::Any => ["*", "Asterisk", "All"][spelling % 3],
        other => other.as_str(),
    };
    let mut fields = serde_json::json!({"protocol": protocol, "access": made.rule.access.as_str(), "priority": made.rule.priority,
        "direction": made.rule.direction.as_str().to_uppercase()});
    for (index, side) in ["source", "destination"].into_iter().enumerate() {
        for (key, many, values) in
            [("AddressPrefix", "es", &made.sides[index]), ("PortRange", "s", &made.ports[index])]
        {
            let single = values.len() == 1 && spelling.is_multiple_of(2);
            fields[format!("{side}{key}")] =
                if single { values[0].clone().into() } else { serde_json::Value::Null };
            fields[format!("{side}{key}{many}")] =
                if single { serde_json::json!([]) } else { values.clone().into() };
        }
    }
    if spelling < 2 {
        return serde_json::json!({"name": made.rule.name, "properties": fields});
    }
    fields["name"] = made.rule.name.clone().into();
    let rename = |key: &str| match spelling {
        2 | 3 => key[..1].to_uppercase() + &key[1..],
        4 | 5 => key
            .chars()
            .flat_map(|c| c.is_uppercase().then_some('_').into_iter().chain(c.to_lowercase()))
            .collect(),
        _ => key.to_owned(),
    };
    let fields = fields.as_object().expect("an object").iter();
    serde_json::Value::Object(fields.map(|(key, value)| (rename(key), value.clone())).collect())
}

/// Any JSON, with words that an import looks for.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "name",
            "id",
            "type",
            "value",
            "values",
            "properties",
            "resources",
            "securityRules",
            "SecurityRules",
            "security_rule",
            "priority",
            "direction",
            "access",
            "protocol",
            "sourceAddressPrefix",
            "destinationAddressPrefixes",
            "sourcePortRange",
            "destinationPortRanges",
            "sourceApplicationSecurityGroups",
            "effectiveSecurityRules",
            "networkSecurityGroup",
            "association",
            "subnets",
            "ipConfigurations",
            "loadBalancingRules",
            "backendAddressPools",
            "frontendIPConfigurations",
            "probes",
            "inboundNatRules",
            "outboundRules",
            "routes",
            "nextHopType",
            "addressPrefix",
            "addressSpace",
            "terraform_version",
            "format_version",
            "planned_values",
            "root_module",
            "instances",
            "attributes",
            "$schema",
            "Microsoft.Network/networkSecurityGroups",
            "azurerm_network_security_group",
            "azurerm_lb",
            "Tcp",
            "Allow",
            "Deny",
            "Inbound",
            "*",
            "10.0.0.0/8",
            "::/0",
            "443",
            "1-2",
            "/s/networkSecurityGroups/g",
            "[parameters('x')]",
            "VirtualAppliance",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (0u32..70_000).prop_map(Into::into),
        word.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map(word.clone(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

const ROLES: [Role; 5] = [Role::Groups, Role::Balancers, Role::Members, Role::Routes, Role::Tags];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rules go in by any spelling and come out of the checked configuration as they were made.
    #[test]
    fn rules_come_through(all in proptest::collection::vec(made(), 0..12), spelling in 0usize..8) {
        let mut all = all;
        all.sort_by_key(|made| (made.rule.direction == Direction::Outbound, made.rule.priority));
        all.dedup_by_key(|made| made.rule.name.clone());
        let rules: Vec<serde_json::Value> = all.iter().rev().map(|made| spell(made, spelling)).collect();
        let imported = import(Role::Groups, &serde_json::json!({"name": "g", "securityRules": rules}));
        prop_assert_eq!(&imported.account.problems, &[]);
        let config = checked(imported.text.as_deref().expect("no problem"));
        let rules: Vec<String> = config.security_groups[0].rules.iter().map(|rule| format!("{rule:?}")).collect();
        let expected: Vec<String> = all.iter().map(|made| format!("{:?}", made.rule)).collect();
        prop_assert_eq!(rules, expected);
        prop_assert!(imported.account.left_out.is_empty());
    }

    #[test]
    fn any_json_ends_well(json in any_json(), role in 0usize..5) {
        let attempt = || import(ROLES[role], &json);
        let (first, second) = (attempt(), attempt());
        prop_assert_eq!(&first.account, &second.account);
        match &first.text {
            Some(text) if !text.contains("\nroutes:\n") => drop(checked(text)),
            Some(_) => {}
            None => prop_assert!(!first.account.problems.is_empty()),
        }
    }

    /// One value of a good export replaced by any other.
    #[test]
    fn changed_exports_end_well(json in any_json(), which in 0usize..4, place in any::<prop::sample::Index>()) {
        let (name, role) = [
            ("web.arm.json", Role::Groups), ("web.plan.json", Role::Groups), ("lb.tfstate.json", Role::Balancers), ("routes.arm.json", Role::Routes),
        ][which];
        let path = format!("{}/tests/import/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("the fixture is there");
        let mut export: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let count = count(&export);
        replace(&mut export, &mut place.index(count), &json);
        let imported = import(role, &export);
        prop_assert_eq!(imported.text.is_some(), imported.account.problems.is_empty());
        if let Some(text) = imported.text.filter(|text| !text.contains("\nroutes:\n")) {
            checked(&text);
        }
    }
}

fn children(json: &mut serde_json::Value) -> Vec<&mut serde_json::Value> {
    match json {
        serde_json::Value::Array(items) => items.iter_mut().collect(),
        serde_json::Value::Object(map) => map.values_mut().collect(),
        _ => Vec::new(),
    }
}

/// How many values there are.
fn count(json: &serde_json::Value) -> usize {
    1 + children(&mut json.clone()).into_iter().map(|child| count(child)).sum::<usize>()
}

/// Replaces the value that comes `left` places behind this one.
fn replace(json: &mut serde_json::Value, left: &mut usize, with: &serde_json::Value) {
    if *left == 0 {
        *json = with.clone();
    }
    *left = left.wrapping_sub(1);
    if *left < usize::MAX / 2 {
        for child in children(json) {
            replace(child, left, with);
        }
    }
}
