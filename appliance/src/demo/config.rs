//! The configuration that the demo runs: two backends behind one virtual address of each family, one port open, one closed.

/// The virtual addresses.
pub(super) const VIP: &str = "203.0.113.10";
pub(super) const VIP6: &str = "2001:db8:113::10";
/// The client's addresses, in the prefix of the untrusted port.
pub(super) const CLIENT: &str = "203.0.113.254";
pub(super) const CLIENT6: &str = "2001:db8:113::fe";
/// The appliance's addresses towards the backends.
pub(super) const GATEWAY: &str = "10.2.0.1";
pub(super) const GATEWAY6: &str = "fd00:2::1";
/// The backends with their addresses.
pub(super) const BACKENDS: [Host; 2] = [
    Host { name: "web-1", address: "10.2.0.4", address6: "fd00:2::4" },
    Host { name: "web-2", address: "10.2.0.5", address6: "fd00:2::5" },
];
/// The port that is open, and where the backends serve it.
pub(super) const OPEN: u16 = 80;
pub(super) const OPEN_BEHIND: u16 = 8080;
/// The port that no rule allows, though the backends serve it.
pub(super) const CLOSED: u16 = 81;
pub(super) const CLOSED_BEHIND: u16 = 8081;

/// A backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    /// Its name.
    pub(super) name: &'static str,
    /// Its IPv4 address.
    pub(super) address: &'static str,
    /// Its IPv6 address.
    pub(super) address6: &'static str,
}

/// The configuration for a worker on `core`, with the backends named in `down` taken away.
pub(super) fn text(core: usize, down: &[&str]) -> String {
    // A backend's name is unique in the load balancer: the same host has another one in the pool of the other family.
    let backends = |suffix: &str, address: fn(&Host) -> &'static str| {
        let line = |host: &Host| {
            let state = if down.contains(&host.name) { "down" } else { "none" };
            let (name, address) = (host.name, address(host));
            format!("          - {{name: {name}{suffix}, address: \"{address}\", admin_state: {state}}}\n")
        };
        BACKENDS.iter().map(line).collect::<String>()
    };
    let (web, web6) = (backends("", |host| host.address), backends("-v6", |host| host.address6));
    format!(
        r#"version: 1
name: nva-demo
dataplane:
  workers: [{core}]
  flow_capacity: 10_000
ports:
  - {{name: untrusted, driver: af_packet, device: eth1, addresses: [203.0.113.1/24, "2001:db8:113::1/64"], trust: untrusted}}
  - {{name: trusted, driver: af_packet, device: eth2, addresses: [{GATEWAY}/24, "{GATEWAY6}/64"], trust: trusted}}
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
    - {{name: web, prefixes: [10.2.0.0/24, "fd00:2::/64"], security_group: web-nsg}}
security_groups:
  - name: web-nsg
    rules:
      - {{name: allow-http, priority: 100, direction: inbound, access: allow, protocol: tcp, source: [Internet], source_ports: ["*"], destination: [10.2.0.0/24, "fd00:2::/64"], destination_ports: [{OPEN_BEHIND}]}}
load_balancers:
  - name: public
    frontends:
      - {{name: vip, address: {VIP}}}
      - {{name: vip6, address: "{VIP6}"}}
    pools:
      - name: web
        backends:
{web}      - name: web6
        backends:
{web6}    rules:
      - {{name: http, frontend: vip, protocol: tcp, port: {OPEN}, pool: web, backend_port: {OPEN_BEHIND}}}
      - {{name: http6, frontend: vip6, protocol: tcp, port: {OPEN}, pool: web6, backend_port: {OPEN_BEHIND}}}
      - {{name: admin, frontend: vip, protocol: tcp, port: {CLOSED}, pool: web, backend_port: {CLOSED_BEHIND}}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{self, Depth};
    use crate::unbuilt::{Purpose, unbuilt};
    use nva_config::AdminState;

    #[test]
    fn it_is_a_configuration_that_this_version_runs() {
        let path = std::env::temp_dir().join(format!("nva-demo-config-{}.yaml", std::process::id()));
        std::fs::write(&path, text(0, &["web-2"])).expect("a writable temporary folder");
        let config = files::load(std::slice::from_ref(&path), Depth::WithFiles);
        std::fs::remove_file(&path).expect("it was written");
        let config = config.expect("a good configuration");
        assert_eq!(unbuilt(&config, Purpose::Run), []);
        let pools = &config.load_balancers[0].pools;
        for pool in pools {
            let states: Vec<AdminState> = pool.backends.iter().map(|backend| backend.admin_state).collect();
            assert_eq!(states, [AdminState::None, AdminState::Down]);
        }
    }
}
