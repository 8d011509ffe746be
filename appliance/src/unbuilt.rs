//! What the configuration can say and this version does not do yet: one row of [`UNBUILT`] for each. `nva run` and `nva replay`
//! refuse such a configuration, `nva check` lists what stands in the way; nothing is skipped silently.

use nva_config::{Config, Driver, Location, Problem};
use std::path::PathBuf;

/// Which command would have to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `nva run`.
    Run,
    /// `nva replay`, where devices, probes, the management interface and logs play no part.
    Replay,
}

/// One thing that is not built.
struct Unbuilt {
    /// What is wrong with it.
    lack: &'static str,
    /// Whether replay would do it too.
    in_replay: bool,
    /// Where the configuration asks for it: key paths.
    asked: fn(&Config) -> Vec<String>,
    /// What the user can do about it.
    advice: &'static str,
}

const NOT_YET: &str = "this version does not run it yet";
const REMOVE_SECTION: &str = "remove the section to run without it";
const REMOVE_KEY: &str = "remove the key to run without it";

/// Everything that is not built. A version that builds something deletes its row.
const UNBUILT: &[Unbuilt] = &[
    Unbuilt {
        lack: "this build has no AF_XDP",
        in_replay: false,
        asked: |c| driven_by(c, Driver::AfXdp, cfg!(feature = "af_xdp")),
        advice: "build it without `--no-default-features`, or use af_packet",
    },
    Unbuilt {
        lack: "this build has no DPDK",
        in_replay: false,
        asked: |c| driven_by(c, Driver::Dpdk, cfg!(feature = "dpdk")),
        advice: "build it with `--features dpdk`, or use af_xdp or af_packet",
    },
    Unbuilt {
        lack: "DPDK's ports are not forwarded to others",
        in_replay: false,
        asked: mixed_drivers,
        advice: "make it one of DPDK's too, with a device such as net_af_packet0,iface=eth1",
    },
    Unbuilt {
        lack: NOT_YET,
        in_replay: false,
        asked: |c| given("management.listen", c.management.as_ref().is_some_and(|m| m.listen.is_some())),
        advice: "remove the key to run without the management interface",
    },
    Unbuilt {
        lack: NOT_YET,
        in_replay: false,
        asked: |c| given("logs.flow", c.logs.flow.is_some()),
        advice: REMOVE_SECTION,
    },
    Unbuilt {
        lack: NOT_YET,
        in_replay: false,
        asked: |c| given("logs.audit", c.logs.audit.is_some()),
        advice: REMOVE_SECTION,
    },
    Unbuilt {
        lack: NOT_YET,
        in_replay: false,
        asked: used_probes,
        advice: "leave `probe` out of the rules to take every backend as healthy",
    },
    Unbuilt { lack: NOT_YET, in_replay: true, asked: outbound_rules, advice: REMOVE_SECTION },
    Unbuilt {
        lack: NOT_YET,
        in_replay: true,
        asked: |c| given("protection.connections", c.protection.connections.is_some()),
        advice: REMOVE_KEY,
    },
    Unbuilt { lack: NOT_YET, in_replay: true, asked: dns_limit, advice: REMOVE_KEY },
    Unbuilt {
        lack: NOT_YET,
        in_replay: true,
        asked: |c| given("protection.icmp", c.protection.icmp_rate.is_some()),
        advice: REMOVE_KEY,
    },
];

/// What this configuration asks for and this version does not do, each with its place; empty when the command can go on.
pub(crate) fn unbuilt(config: &Config, purpose: Purpose) -> Vec<Problem> {
    let rows = UNBUILT.iter().filter(|row| purpose == Purpose::Run || row.in_replay);
    let mut problems: Vec<Problem> = rows
        .flat_map(|row| (row.asked)(config).into_iter().map(|path| problem(config, &path, row)))
        .collect();
    problems.sort();
    problems
}

fn problem(config: &Config, path: &str, row: &Unbuilt) -> Problem {
    let message = format!("{path}: {}; {}", row.lack, row.advice);
    Problem { location: locate(config, path), message }
}

/// The place of a key path or, where only something around it was recorded, of that.
pub(crate) fn locate(config: &Config, path: &str) -> Location {
    let mut around = path;
    loop {
        if let Some(place) = config.places.get(around) {
            return place;
        }
        match around.rfind(['.', '[']) {
            Some(end) => around = &around[..end],
            None => return Location { file: PathBuf::from("configuration"), line: 1, column: 1 },
        }
    }
}

fn given(path: &str, is_given: bool) -> Vec<String> {
    if is_given { vec![path.into()] } else { Vec::new() }
}

/// The ports with this driver, if the build lacks it.
fn driven_by(config: &Config, driver: Driver, is_there: bool) -> Vec<String> {
    if is_there { Vec::new() } else { drivers(config, |of_port| of_port == driver) }
}

/// The ports with other drivers, if some have DPDK's: its frames are of another family.
fn mixed_drivers(config: &Config) -> Vec<String> {
    let others = drivers(config, |driver| !matches!(driver, Driver::Dpdk | Driver::Vxlan));
    let has_dpdk = config.ports.iter().any(|port| port.driver == Driver::Dpdk);
    if has_dpdk { others } else { Vec::new() }
}

fn drivers(config: &Config, is_meant: impl Fn(Driver) -> bool) -> Vec<String> {
    let ports = config.ports.iter().enumerate();
    ports
        .filter(|(_, port)| is_meant(port.driver))
        .map(|(place, _)| format!("ports[{place}].driver"))
        .collect()
}

fn used_probes(config: &Config) -> Vec<String> {
    let mut paths = Vec::new();
    for (lb, balancer) in config.load_balancers.iter().enumerate() {
        for probe in 0..balancer.probes.len() {
            if balancer.rules.iter().any(|rule| rule.probe.is_some_and(|used| used.0 == probe)) {
                paths.push(format!("load_balancers[{lb}].probes[{probe}]"));
            }
        }
    }
    paths
}

fn outbound_rules(config: &Config) -> Vec<String> {
    let balancers = config.load_balancers.iter().enumerate();
    balancers
        .filter(|(_, balancer)| !balancer.outbound.is_empty())
        .map(|(lb, _)| format!("load_balancers[{lb}].outbound"))
        .collect()
}

fn dns_limit(config: &Config) -> Vec<String> {
    given(
        "protection.amplification.dns_responses_per_destination",
        config.protection.amplification.dns_responses_per_destination.is_some(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_config::Source;

    const PORT: &str =
        "version: 1\nports:\n  - {name: a, driver: af_packet, device: eth1, addresses: [192.0.2.1/24]}\n";

    fn paths(text: &str, purpose: Purpose) -> Vec<String> {
        let source = Source { path: "test.yaml".into(), text: text.into() };
        let config = nva_config::load(&[source], None).expect("a good configuration");
        let problems = unbuilt(&config, purpose);
        assert!(problems.iter().all(|problem| problem.location.file == *"test.yaml"), "{problems:?}");
        let path = |problem: &Problem| problem.message.split(':').next().unwrap_or_default().to_string();
        problems.iter().map(path).collect()
    }

    #[test]
    fn what_is_built_goes_on() {
        for purpose in [Purpose::Run, Purpose::Replay] {
            assert!(paths(PORT, purpose).is_empty());
            let protected =
                format!("{PORT}protection:\n  blocklist: [198.18.0.0/15]\n  anti_spoofing: loose\n");
            assert!(paths(&protected, purpose).is_empty());
        }
    }

    #[test]
    fn devices_are_nothing_to_replay() {
        let mixed = format!("{PORT}  - {{name: b, driver: dpdk, device: net_null0}}\n");
        let lacking = if cfg!(feature = "dpdk") { 0 } else { 1 };
        assert_eq!(paths(&mixed, Purpose::Run).len(), 1 + lacking);
        assert_eq!(paths(&mixed, Purpose::Run)[0], "ports[0].driver");
        assert!(paths(&mixed, Purpose::Replay).is_empty());
    }

    #[test]
    fn metrics_are_built_and_the_management_interface_is_not() {
        let text = format!("{PORT}management:\n  metrics: {{listen: \"127.0.0.1:9100\"}}\n");
        assert!(paths(&text, Purpose::Run).is_empty());
        let tls = "tls: {certificate: a, key: b, client_ca: c}";
        let text = format!("{text}  listen: 127.0.0.1:9443\n  {tls}\n");
        assert_eq!(paths(&text, Purpose::Run), ["management.listen"]);
        assert!(paths(&text, Purpose::Replay).is_empty());
    }

    #[test]
    fn sections_of_later_versions_stop_both() {
        let text = format!(
            "{PORT}protection:\n  connections: {{per_source: 1}}\n  \
             amplification: {{dns_responses_per_destination: 1}}\n  icmp: {{rate: 1}}\nlogs:\n  audit: {{path: a}}\n"
        );
        let wanted = [
            "protection.connections",
            "protection.amplification.dns_responses_per_destination",
            "protection.icmp",
        ];
        assert_eq!(paths(&text, Purpose::Replay), wanted);
        assert_eq!(paths(&text, Purpose::Run), [&wanted[..], &["logs.audit"]].concat());
    }

    #[test]
    fn a_probe_stops_run_only_where_a_rule_uses_it() {
        let balancer = |probe: &str, proxy: &str| {
            format!(
                "{PORT}load_balancers:\n  - name: lb\n    frontends: [{{name: f, address: 192.0.2.10}}]\n    pools: \
                 [{{name: p, backends: [{{name: b, address: 192.0.2.20}}]}}]\n    probes: [{{name: h, protocol: tcp, \
                 port: 80}}]\n    rules: [{{name: r, frontend: f, protocol: tcp, port: 80, pool: p{probe}{proxy}}}]\n"
            )
        };
        assert!(paths(&balancer("", ""), Purpose::Run).is_empty());
        assert_eq!(paths(&balancer(", probe: h", ""), Purpose::Run), ["load_balancers[0].probes[0]"]);
        for proxied in ["off", "auto", "always"] {
            let text = balancer("", &format!(", syn_proxy: {proxied}"));
            assert!(paths(&text, Purpose::Replay).is_empty() && paths(&text, Purpose::Run).is_empty());
        }
    }

    #[test]
    fn a_place_that_was_not_recorded_is_that_of_what_is_around_it() {
        let source = Source { path: "test.yaml".into(), text: PORT.into() };
        let config = nva_config::load(&[source], None).expect("a good configuration");
        assert_eq!(Some(locate(&config, "ports[0].nothing[3].deep")), config.places.get("ports[0]"));
    }
}
