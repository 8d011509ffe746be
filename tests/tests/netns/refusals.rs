//! What cannot start says why in one sentence, changes nothing, and exits with 1.

use super::appliance::{Appliance, nva, ports, run_command, write_config};
use super::config::{Config, OPEN};
use super::lab::{Lab, OWN, VIP};
use super::peer::{PATIENCE, at, servers, who};
use super::ping::ping;
use nva_tests::binary;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

/// One line of error, exit code 1, and nothing on standard output. Returns the line.
fn sentence(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(output.stdout, b"");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: "), "{said}");
    said
}

fn run(lab: &Lab, command: &mut Command) -> Output {
    lab.appliance.run(|| command.output()).expect("nva can be run")
}

#[test]
fn a_second_instance_is_refused_and_the_first_goes_on() {
    let Some(lab) = Lab::build("a_second_instance_is_refused_and_the_first_goes_on") else { return };
    let _servers = servers(&lab);
    let mut appliance = Appliance::start(&lab, &Config::default());
    // On the same ports, with another control socket.
    let other = lab.folder.join("other");
    std::fs::create_dir(&other).expect("a writable temporary folder");
    write_config(&other, &Config::default().text().replace("name: netns", "name: other"));
    let said = sentence(&run(&lab, &mut run_command(&other)));
    assert!(said.contains("eth1") && said.contains("in use"), "{said}");
    // With the same control socket on the same ports.
    sentence(&run(&lab, &mut run_command(&lab.folder)));
    // Nor is the kernel let in while it runs.
    let released = ports(&lab, "release", &["eth1"]);
    assert!(sentence(&released).contains("in use"));
    assert!(appliance.runs());
    assert!(ping(&lab.client, OWN, 56, PATIENCE));
    who(&lab.client, at(VIP, OPEN)).expect("the first goes on");
    appliance.conserves();
}

#[test]
fn a_port_by_which_the_machine_is_reached_is_refused() {
    let Some(lab) = Lab::build("a_port_by_which_the_machine_is_reached_is_refused") else { return };
    write_config(&lab.folder, &Config::default().text());
    for address in ["192.0.2.1/24", "2001:db8:99::1/64"] {
        lab.appliance.set("ipv6/conf/eth2/disable_ipv6", "0");
        lab.appliance.ip(&format!("address add {address} dev eth2"));
        let said = sentence(&run(&lab, &mut run_command(&lab.folder)));
        let (host, _) = address.split_once('/').expect("a prefix");
        assert!(said.contains("eth2") && said.contains(host), "{said}");
        assert!(sentence(&ports(&lab, "hold", &["eth2"])).contains(host));
        assert!(lab.appliance.ip("address show dev eth2").contains(host), "it is still there");
        let status = String::from_utf8_lossy(&ports(&lab, "status", &["eth1", "eth2"]).stdout).into_owned();
        assert_eq!(status.matches("takes packets").count(), 2, "nothing was touched: {status}");
        lab.appliance.ip(&format!("address del {address} dev eth2"));
    }
    // A link-local address is none of the machine's: it is switched off, not refused.
    lab.appliance.set("ipv6/conf/eth2/disable_ipv6", "0");
    Appliance::restart(&lab).conserves();
    assert!(!lab.appliance.ip("address show dev eth2").contains("inet6"));
}

#[test]
fn a_missing_device_is_named() {
    let Some(lab) = Lab::build("a_missing_device_is_named") else { return };
    write_config(&lab.folder, &Config::default().text().replace("eth3", "eth9"));
    let said = sentence(&run(&lab, &mut run_command(&lab.folder)));
    assert!(said.contains("eth9"), "{said}");
    for what in ["hold", "release"] {
        assert!(sentence(&ports(&lab, what, &["eth9"])).contains("eth9"));
    }
}

#[test]
fn without_privilege_it_says_what_is_needed() {
    let Some(lab) = Lab::build("without_privilege_it_says_what_is_needed") else { return };
    write_config(&lab.folder, &Config::default().text());
    let nobody = 65_534;
    // Where nobody can read it and run it.
    let open = |mode| std::fs::Permissions::from_mode(mode);
    let copy = lab.folder.join("nva");
    std::fs::copy(binary::path(), &copy).expect("a writable temporary folder");
    std::fs::set_permissions(&copy, open(0o755)).expect("our own file");
    std::fs::set_permissions(&lab.folder, open(0o777)).expect("our own folder");
    let mut command = Command::new(&copy);
    command.args(nva().get_args()).args(run_command(&lab.folder).get_args()).uid(nobody).gid(nobody);
    let said = sentence(&run(&lab, &mut command));
    assert!(said.contains("root") || said.contains("CAP_NET"), "{said}");
}

#[test]
fn an_address_that_metrics_cannot_have_is_refused() {
    let Some(lab) = Lab::build("an_address_that_metrics_cannot_have_is_refused") else { return };
    let listen = "management: {metrics: {listen: \"198.51.100.77:9100\"}}\n";
    write_config(&lab.folder, &(Config::default().text() + listen));
    let said = sentence(&run(&lab, &mut run_command(&lab.folder)));
    assert!(said.contains("198.51.100.77:9100") && said.contains("management.metrics.listen"), "{said}");
}
