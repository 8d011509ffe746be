//! The appliance: where its program is, and how it is configured on a road.

use super::contender::Driver;
use super::road::{LEFT, RIGHT};
use super::rules::Rule;
use super::scrap::Folder;
use super::traffic::SERVICE;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program beside this one, if it is not named.
pub(crate) fn program(named: Option<&Path>) -> Result<PathBuf, String> {
    let beside = || -> Option<PathBuf> { Some(std::env::current_exe().ok()?.parent()?.join("nva")) };
    let path =
        named.map(Path::to_owned).or_else(beside).ok_or("the program nva is nowhere; name it with --nva")?;
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "{} is not there: build it with `cargo build --release -p nva`, or name it with --nva",
        path.display()
    ))
}

/// Whether the program can drive ports like this, as it says itself.
pub(crate) fn drives(program: &Path, driver: Driver) -> bool {
    has_drivers_of(program, &config(driver, &[], 0)).unwrap_or(false)
}

/// Whether it can drive devices of DPDK's.
pub(crate) fn drives_dpdk(program: &Path) -> Result<bool, String> {
    let dataplane = "workers: [0], dpdk: {hugepages: none, memory: 64M}";
    has_drivers_of(program, &text(dataplane, "dpdk", ["net_nothing0", "net_nothing1"], &[]))
}

/// Whether it has the drivers of a configuration whose devices do not exist here, so that it never runs: what it refuses first is a
/// driver that it lacks.
fn has_drivers_of(program: &Path, config: &str) -> Result<bool, String> {
    let folder = Folder::new("drives")?;
    let (file, socket) = (folder.file("nva.yaml"), folder.file("nva.sock"));
    std::fs::write(&file, config).map_err(|error| format!("{}: {error}", file.display()))?;
    let said =
        Command::new(program).arg("run").arg("--config").arg(&file).arg("--socket").arg(&socket).output();
    Ok(said.is_ok_and(|output| output.status.code() != Some(2)))
}

/// A configuration with these rules on the road's interfaces, and behind them one that allows the road's traffic.
pub(crate) fn config(driver: Driver, rules: &[Rule], core: usize) -> String {
    config_of(driver.name(), [LEFT, RIGHT], rules, core)
}

/// The same for any devices.
pub(crate) fn config_of(driver: &str, devices: [&str; 2], rules: &[Rule], core: usize) -> String {
    text(&format!("workers: [{core}], flow_capacity: 100_000"), driver, devices, rules)
}

/// The same for devices of DPDK's, with so much memory in huge pages. It polls without a rest, as its peers do.
pub(crate) fn config_over_dpdk(
    devices: &[String; 2],
    rules: &[Rule],
    core: usize,
    memory_mib: u32,
) -> String {
    let dataplane = format!(
        "workers: [{core}], flow_capacity: 100_000, idle: poll, dpdk: {{hugepages: 2M, memory: {memory_mib}M}}"
    );
    let [left, right] = devices;
    text(&dataplane, "dpdk", [left, right], rules)
}

fn text(dataplane: &str, driver: &str, devices: [&str; 2], rules: &[Rule]) -> String {
    let [left, right] = devices;
    let mut text = format!(
        "version: 1\nname: nva-perf\ndataplane: {{{dataplane}}}\nports:\n\
         - {{name: outside, driver: {driver}, device: \"{left}\", trust: untrusted, addresses: [203.0.113.1/24]}}\n\
         - {{name: inside, driver: {driver}, device: \"{right}\", trust: trusted, addresses: [10.2.0.1/24]}}\n\
         routes:\n- {{to: 0.0.0.0/0, via: 203.0.113.254}}\n\
         neighbors:\n- {{address: 203.0.113.254, mac: \"02:00:00:00:71:fe\"}}\n- {{address: 10.2.0.4, mac: \"02:00:00:00:02:04\"}}\n\
         virtual_network:\n  address_space: [10.0.0.0/8]\n  subnets:\n  - {{name: hosts, prefixes: [10.2.0.0/24], security_group: hosts}}\n\
         security_groups:\n- name: hosts\n  rules:\n"
    );
    for (number, rule) in rules.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  - {{name: r{number}, priority: {}, direction: inbound, access: deny, protocol: udp, source: [{}], \
             source_ports: [\"*\"], destination: [10.2.0.0/24], destination_ports: [{}]}}",
            100 + number,
            rule.source(),
            rule.port
        );
    }
    let _ = writeln!(
        text,
        "  - {{name: allow, priority: 4000, direction: inbound, access: allow, protocol: udp, source: [Internet], \
         source_ports: [\"*\"], destination: [10.2.0.0/24], destination_ports: [{SERVICE}]}}"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::rules::rules;
    use nva_config::Source;

    #[test]
    fn the_configurations_are_good() {
        for (driver, count) in [(Driver::AfPacket, 0), (Driver::AfPacket, 1000), (Driver::AfXdp, 10)] {
            let text = config(driver, &rules(count), 1).into_bytes();
            let loaded = nva_config::load(&[Source { path: "perf.yaml".into(), text }], None);
            let config = loaded.unwrap_or_else(|problems| panic!("{problems:?}"));
            assert_eq!(config.security_groups[0].rules.len(), count + 1);
        }
        let devices = ["net_memif0,role=server,socket=/tmp/x".to_owned(), "net_memif1".to_owned()];
        let text = config_over_dpdk(&devices, &rules(10), 1, 256).into_bytes();
        nva_config::load(&[Source { path: "perf.yaml".into(), text }], None).expect("it is good");
    }
}
