//! The network of a test: a client, the appliance's namespace, and two backends, each behind a port of the appliance of its own.
//!
//! ```text
//! client eth0 ──── eth1 ┐              ┌ eth2 ──── eth0 web-1
//!                       └─ appliance ──┤
//!                                      └ eth3 ──── eth0 web-2
//! ```

use super::config::Driver;
use super::offload;
use super::space::{Space, ip};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The client's addresses, and those of the appliance's port towards it.
pub(crate) const CLIENT: &str = "203.0.113.254";
pub(crate) const CLIENT6: &str = "2001:db8:113::fe";
pub(crate) const OWN: &str = "203.0.113.1";
pub(crate) const OWN6: &str = "2001:db8:113::1";
/// The virtual addresses.
pub(crate) const VIP: &str = "203.0.113.10";
pub(crate) const VIP6: &str = "2001:db8:113::10";
/// The backends' addresses.
pub(crate) const WEB: [&str; 2] = ["10.2.0.4", "10.3.0.4"];
pub(crate) const WEB6: [&str; 2] = ["fd00:2::4", "fd00:3::4"];
/// The appliance's interfaces: towards the client, and towards each backend.
pub(crate) const DEVICES: [&str; 3] = ["eth1", "eth2", "eth3"];

/// The network, which goes away when it is dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) client: Space,
    pub(crate) appliance: Space,
    pub(crate) web: [Space; 2],
    /// A namespace in the middle of the client's cable, with the ends `near` and `far`; there only where asked for.
    pub(crate) wire: Option<Space>,
    /// Files of this test: configuration, control socket, output.
    pub(crate) folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

/// Tests that wait for the core have their turn one after the other.
static TURN: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// Builds the network. Without the means to do so it says that the test of this name is skipped, and returns `None`.
    pub(crate) fn build(test: &str) -> Option<Self> {
        Self::build_with(test, false)
    }

    /// As [`Self::build`], with the client's cable cut in the middle: whoever is in the namespace `wire` has to pass frames on.
    pub(crate) fn build_with_wire(test: &str) -> Option<Self> {
        Self::build_with(test, true)
    }

    fn build_with(test: &str, has_wire: bool) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: {test}: needs root");
            return None;
        }
        if Command::new("ip").arg("-V").stdout(Stdio::null()).status().is_err() {
            println!("skipped: {test}: needs iproute2");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("nvat-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&prefix);
        std::fs::create_dir_all(&folder).expect("a writable temporary folder");
        let space = |name: &str| Space::new(format!("{prefix}-{name}"));
        let (client, appliance, web) = (space("client"), space("nva"), [space("web1"), space("web2")]);
        let wire = has_wire.then(|| space("wire"));
        let lab = Self { client, appliance, web, wire, folder, _turn: turn };
        match &lab.wire {
            None => cable(&lab.client, "eth0", &lab.appliance, "eth1"),
            Some(wire) => {
                cable(&lab.client, "eth0", wire, "near");
                cable(wire, "far", &lab.appliance, "eth1");
                wire.ip_all("link set near up\nlink set far up\n");
            }
        }
        cable(&lab.appliance, "eth2", &lab.web[0], "eth0");
        cable(&lab.appliance, "eth3", &lab.web[1], "eth0");
        // The kernel's own chatter on the ports would be none of the test's packets.
        for device in DEVICES {
            lab.appliance.set(&format!("ipv6/conf/{device}/disable_ipv6"), "1");
        }
        lab.appliance.ip_all("link set eth1 up\nlink set eth2 up\nlink set eth3 up\n");
        configure(&lab.client, CLIENT, CLIENT6, OWN, OWN6);
        configure(&lab.web[0], WEB[0], WEB6[0], "10.2.0.1", "fd00:2::1");
        configure(&lab.web[1], WEB[1], WEB6[1], "10.3.0.1", "fd00:3::1");
        if !Driver::of_this_run().finishes_offloads() {
            lab.offloads_off();
        }
        Some(lab)
    }

    /// Switches what the kernel leaves to devices, checksums and segmentation, off at every end of every cable.
    pub(crate) fn offloads_off(&self) {
        for space in [&self.client, &self.web[0], &self.web[1]] {
            space.run(|| offload::switch_off("eth0"));
        }
        self.appliance.run(|| DEVICES.into_iter().for_each(offload::switch_off));
    }

    /// Makes the kernel of the appliance's namespace a router between its interfaces, for as long as it is given their packets: with
    /// forwarding on, routes, and the appliance's addresses on another interface.
    pub(crate) fn make_kernel_a_router(&self) {
        self.appliance.set("ipv4/ip_forward", "1");
        self.appliance.set("ipv6/conf/all/forwarding", "1");
        for device in DEVICES {
            self.appliance.set(&format!("ipv6/conf/{device}/accept_dad"), "0");
            self.appliance.set(&format!("ipv6/conf/{device}/disable_ipv6"), "0");
        }
        self.appliance.ip_all(&format!(
            "address add {OWN}/32 dev lo\naddress add 10.2.0.1/32 dev lo\naddress add 10.3.0.1/32 dev lo\n\
             route add 203.0.113.0/24 dev eth1 src {OWN}\nroute add 10.2.0.0/24 dev eth2 src 10.2.0.1\n\
             route add 10.3.0.0/24 dev eth3 src 10.3.0.1\nroute add 2001:db8:113::/64 dev eth1\n\
             route add fd00:2::/64 dev eth2\nroute add fd00:3::/64 dev eth3\n"
        ));
        // It does not answer neighbour solicitations for an address of another interface; but whoever knows its way needs no answer.
        self.know(&self.client, OWN6, "eth1");
        self.know(&self.web[0], "fd00:2::1", "eth2");
        self.know(&self.web[1], "fd00:3::1", "eth3");
    }

    /// Makes a host know for good at which of the appliance's interfaces an address is.
    pub(crate) fn know(&self, host: &Space, address: &str, device: &str) {
        let mac = mac(&self.appliance, device);
        host.ip(&format!("neighbor replace {address} lladdr {mac} nud permanent dev eth0"));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A cable between two namespaces, its ends still down. Each has a queue for each of two workers, save for DPDK, whose AF_XDP driver
/// uses no more than one of a veth's.
pub(crate) fn cable(near: &Space, near_end: &str, far: &Space, far_end: &str) {
    let queues = if Driver::of_this_run() == Driver::Dpdk { "1" } else { "2" };
    ip(&[
        "link",
        "add",
        near_end,
        "netns",
        near.name(),
        "numrxqueues",
        queues,
        "numtxqueues",
        queues,
        "type",
        "veth",
        "peer",
        "name",
        far_end,
        "netns",
        far.name(),
        "numrxqueues",
        queues,
        "numtxqueues",
        queues,
    ]);
}

/// The hardware address of an interface.
pub(crate) fn mac(space: &Space, device: &str) -> String {
    let shown = space.ip(&format!("-o link show {device}"));
    let mac = shown.split_once("link/ether ").and_then(|(_, rest)| rest.split_whitespace().next());
    mac.expect("an Ethernet interface").to_owned()
}

/// A host's addresses, which without duplicate address detection work at once, and its way out.
fn configure(space: &Space, address: &str, address6: &str, gateway: &str, gateway6: &str) {
    space.set("ipv6/conf/eth0/accept_dad", "0");
    space.set("ipv6/conf/eth0/router_solicitations", "0");
    space.set("ipv4/ping_group_range", "0 0");
    space.ip_all(&format!(
        "link set eth0 up\naddress add {address}/24 dev eth0\naddress add {address6}/64 dev eth0 nodad\n\
         route add default via {gateway}\nroute add default via {gateway6}\n"
    ));
}

/// Waits, for a generous while, until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
