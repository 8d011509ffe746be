//! The appliance as a gateway between two tunnels, against the kernel's two vxlan devices joined by a bridge, with the same stateful rules
//! for what is inside.

mod frames;

use super::contender::{Contender, Driver};
use super::goal::Goal;
use super::pairs::{Bench, Relation};
use super::report::{Figure, Row};
use super::road::{LEFT, RIGHT, Road};
use super::rules::{Form, nft, rules};
use super::space::Space;
use super::steady;
use super::{Cores, Environment, nva};
use frames::{EXTERNAL, INTERNAL, PEER, freight};
use std::net::Ipv4Addr;

/// In front of the one that allows.
const RULES: usize = 1000;
/// The drivers, and what each is held to.
const DRIVERS: [(Driver, f64); 2] = [(Driver::AfXdp, 3.0), (Driver::AfPacket, 1.0)];

/// Takes the comparison.
pub(crate) fn vxlan(bench: &mut Bench, environment: &Environment) -> Result<Vec<Row>, String> {
    let cores = environment.cores;
    bench.progress("vxlan: starts the kernel's");
    let peer = Road::build("kernel", freight(), cores, &bench.interrupt, |space| kernel(space, cores))?;
    let mut rows = Vec::new();
    for (driver, goal) in DRIVERS {
        match against(&peer, driver, goal, bench, environment) {
            Ok(more) => rows.extend(more),
            // The other is no worse for it.
            Err(why) => {
                bench.interrupt.check()?;
                rows.push(figure(driver.name().to_owned(), "", None).failed(why));
            }
        }
    }
    Ok(rows)
}

fn figure(what: String, unit: &'static str, goal: Option<Goal>) -> Figure {
    Figure { comparison: "vxlan", what, unit, relation: Relation::Ratio, goal }
}

fn against(
    peer: &Road,
    driver: Driver,
    goal: f64,
    bench: &mut Bench,
    environment: &Environment,
) -> Result<Vec<Row>, String> {
    let what = format!("{} by bridged vxlan devices", driver.name());
    if !nva::drives(&environment.nva, driver) {
        return Ok(vec![figure(what, "", None).skipped(format!("this nva has no driver {}", driver.name()))]);
    }
    let cores = environment.cores;
    bench.progress(&format!("{what}: starts nva"));
    let ours = Road::build("nva", freight(), cores, &bench.interrupt, |space| {
        Contender::nva(Some(space), &environment.nva, &config(driver, cores), cores, &bench.interrupt)
    })?;
    let pairs = steady::pairs(bench, &what, &ours, peer)?;
    let lines =
        [("under full load", "kpps", None), ("system-wide CPU", "kp/CPU-s", Some(Goal::AtLeast(goal)))];
    let row = |(index, (detail, unit, goal)): (usize, (&str, &'static str, Option<Goal>))| {
        figure(format!("{what}: {detail}"), unit, goal).row(&pairs, index, bench.seed)
    };
    Ok(lines.into_iter().enumerate().map(row).collect())
}

/// A gateway whose tunnels end at the road's two ports, with rules for what is inside. Flows live longer than a comparison takes.
fn config(driver: Driver, cores: Cores) -> String {
    let text = nva::config(driver, &rules(RULES), cores.worker);
    let peer = Ipv4Addr::from(PEER);
    // The external tunnel's way is the default route, the only one out of its port.
    let routes = format!("routes:\n- {{to: {peer}/32, via: 10.2.0.4}}\n");
    let text = text.replacen("routes:\n", &routes, 1);
    let text = text.replacen("flow_capacity", "flow_idle_timeout: {udp: 60m}, flow_capacity", 1);
    format!(
        "{text}gateway:\n  port: inside\n  address: {}\n  peers: [{peer}]\n  tunnels:\n  \
         - {{name: internal, trust: trusted, vni: {}, udp_port: {}}}\n  \
         - {{name: external, trust: untrusted, vni: {}, udp_port: {}, port: outside, address: {}}}\n",
        Ipv4Addr::from(INTERNAL.own),
        INTERNAL.vni,
        INTERNAL.udp_port,
        EXTERNAL.vni,
        EXTERNAL.udp_port,
        Ipv4Addr::from(EXTERNAL.own),
    )
}

/// Two vxlan devices joined by a bridge whose packets go through the rules for IPv4, which track connections. The outer packets are not
/// tracked, as nobody would who wants it fast.
fn kernel(space: &Space, cores: Cores) -> Result<Contender, String> {
    Contender::kernel_with(space, cores, || {
        let peer = Ipv4Addr::from(PEER);
        space.ip("link add joined type bridge stp_state 0 ageing_time 360000 mcast_snooping 0")?;
        space.ip("link set joined up")?;
        for (metric, (tunnel, device, via)) in
            [(EXTERNAL, LEFT, "203.0.113.254"), (INTERNAL, RIGHT, "10.2.0.4")].into_iter().enumerate()
        {
            let (vni, port, own) = (tunnel.vni, tunnel.udp_port, Ipv4Addr::from(tunnel.own));
            space.ip(&format!("route add {peer} via {via} dev {device} metric {}", metric + 1))?;
            space.ip(&format!(
                "link add v{vni} type vxlan id {vni} local {own} remote {peer} dstport {port} dev {device} nolearning"
            ))?;
            space.ip(&format!("link set v{vni} master joined"))?;
            space.ip(&format!("link set v{vni} up"))?;
        }
        through_rules(space)?;
        space.nft(&untracked())?;
        space.nft(&nft(&rules(RULES), Form::Map))?;
        // An answered flow lives longer than a comparison takes.
        space.set("netfilter/nf_conntrack_udp_timeout_stream", "3600")
    })
}

/// Has the bridge give its packets to the rules for IPv4.
fn through_rules(space: &Space) -> Result<(), String> {
    const SETTING: &str = "bridge/bridge-nf-call-iptables";
    if space.set(SETTING, "1").is_ok() {
        return Ok(());
    }
    let remedy = "the kernel needs CONFIG_BRIDGE_NETFILTER (module br_netfilter)";
    // A failure shows in the setting.
    let _ = std::process::Command::new("modprobe").arg("br_netfilter").output();
    space.set(SETTING, "1").map_err(|error| format!("{error}; {remedy}"))
}

fn untracked() -> String {
    let outer = format!("udp dport {{ {}, {} }} notrack", EXTERNAL.udp_port, INTERNAL.udp_port);
    format!(
        "table ip outer {{\n  chain in {{\n    type filter hook prerouting priority raw;\n    \
         iifname {{ \"{LEFT}\", \"{RIGHT}\" }} {outer}\n  }}\n  \
         chain out {{\n    type filter hook output priority raw;\n    {outer}\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::load;

    #[test]
    fn the_configurations_are_good() {
        for (driver, _) in DRIVERS {
            let config = load(&config(driver, Cores { worker: 1, generator: 0 })).expect("it is good");
            assert_eq!(config.security_groups[0].rules.len(), RULES + 1);
            assert_eq!(config.gateways.len(), 1);
        }
    }

    #[test]
    fn the_outer_packets_of_both_tunnels_are_not_tracked() {
        let text = untracked();
        assert_eq!(text.matches("{ 10801, 10800 } notrack").count(), 2);
    }
}
