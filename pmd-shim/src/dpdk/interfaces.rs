//! Which interfaces of the kernel are behind a device string, so that the kernel can be shut out of them.
//!
//! Some of DPDK's drivers work on an interface that stays the kernel's: packet sockets, XDP, capture, Azure's synthetic interfaces, and
//! physical devices whose kernel driver keeps the interface beside DPDK (mlx4, mlx5, mana). What the kernel receives there it would
//! answer or forward, past the appliance.

use std::fs;
use std::path::Path;

/// Names of the kernel's interfaces behind a device: a PCI address, a VMBus address, or a string as for DPDK's `--vdev`. Each once.
///
/// A tap device's own interface (`net_tap`, `iface=`) is not among them: it is the other end of the wire.
pub fn kernel_interfaces(device: &str) -> Vec<String> {
    interfaces_in(Path::new("/sys"), device)
}

fn interfaces_in(sys: &Path, device: &str) -> Vec<String> {
    let (name, _) = split(device);
    let mut found = Vec::new();
    for bus in ["pci", "vmbus"] {
        found.extend(names(&sys.join("bus").join(bus).join("devices").join(name).join("net")));
    }
    named(sys, device, &mut found);
    // On Azure an interface is two: the synthetic one, and below it the device function that most packets take.
    let mut related = Vec::new();
    for interface in &found {
        let folder = sys.join("class/net").join(interface);
        if is_synthetic(&folder) {
            related.extend(
                names(&folder).iter().filter_map(|name| name.strip_prefix("lower_")).map(str::to_owned),
            );
        }
        let above = fs::read_link(folder.join("master")).ok();
        let above = above.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        related.extend(
            above.filter(|above| is_synthetic(&sys.join("class/net").join(above))).map(str::to_owned),
        );
    }
    found.extend(related);
    let mut seen = std::collections::HashSet::new();
    found.retain(|interface| seen.insert(interface.clone()));
    found
}

/// The device's name and its arguments.
pub(super) fn split(device: &str) -> (&str, &str) {
    device.split_once(',').unwrap_or((device, ""))
}

/// Adds what the arguments name, those of devices within (`net_failsafe0,dev(net_af_packet0,iface=eth1)`) included.
fn named(sys: &Path, device: &str, found: &mut Vec<String>) {
    let (name, arguments) = split(device);
    for argument in arguments_of(arguments) {
        if let Some(inner) = argument.strip_prefix("dev(").and_then(|rest| rest.strip_suffix(')')) {
            named(sys, inner, found);
        } else if let Some((key, value)) = argument.split_once('=') {
            let is_ours = match key {
                "iface" => ["net_af_packet", "net_af_xdp", "net_vdev_netvsc", "net_pcap"]
                    .iter()
                    .any(|of| name.starts_with(of)),
                "rx_iface" | "rx_iface_in" | "tx_iface" => name.starts_with("net_pcap"),
                "remote" => name.starts_with("net_tap"),
                "mac" if name.starts_with("net_vdev_netvsc") => {
                    found.extend(with_mac(sys, value));
                    false
                }
                _ => false,
            };
            if is_ours {
                found.push(value.to_owned());
            }
        }
    }
}

/// Splits at the commas outside of parentheses.
fn arguments_of(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..));
    parts
}

/// Interfaces with a hardware address. Of Azure's pairs both have it.
fn with_mac(sys: &Path, mac: &str) -> Vec<String> {
    let class = sys.join("class/net");
    let has_it = |name: &String| {
        let address = fs::read_to_string(class.join(name).join("address"));
        address.is_ok_and(|address| address.trim().eq_ignore_ascii_case(mac))
    };
    names(&class).into_iter().filter(has_it).collect()
}

/// Whether the interface is one that Hyper-V provides (`hv_netvsc`).
fn is_synthetic(interface: &Path) -> bool {
    let driver = fs::read_link(interface.join("device/driver"));
    driver.is_ok_and(|driver| driver.file_name().is_some_and(|name| name == "hv_netvsc"))
}

/// The names in a folder, in order; none where there is no folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A tree as sysfs has it on an Azure machine: eth1 over enP2s1, and eth0 in a bridge.
    fn azure() -> PathBuf {
        let sys = std::env::temp_dir().join(format!("pmd-shim-sys-{:?}", std::thread::current().id()));
        let _ = fs::remove_dir_all(&sys);
        for folder in [
            "bus/pci/devices/0002:00:02.0/net/enP2s1",
            "bus/vmbus/devices/7c1e52ab-0000-4000-8000-000000000001/net/eth1",
            "bus/vmbus/drivers/hv_netvsc",
            "class/net/eth1/device",
            "class/net/eth1/lower_enP2s1",
            "class/net/enP2s1",
            "class/net/eth0",
            "class/net/br0",
        ] {
            fs::create_dir_all(sys.join(folder)).unwrap();
        }
        symlink("../../../../bus/vmbus/drivers/hv_netvsc", sys.join("class/net/eth1/device/driver")).unwrap();
        symlink("../eth1", sys.join("class/net/enP2s1/master")).unwrap();
        symlink("../br0", sys.join("class/net/eth0/master")).unwrap();
        for interface in ["eth1", "enP2s1"] {
            fs::write(sys.join("class/net").join(interface).join("address"), "00:0d:3a:01:02:03\n").unwrap();
        }
        fs::write(sys.join("class/net/eth0/address"), "00:0d:3a:0a:0b:0c\n").unwrap();
        sys
    }

    #[test]
    fn finds_what_the_kernel_keeps() {
        let sys = azure();
        let of = |device: &str| interfaces_in(&sys, device).join(" ");
        assert_eq!(of("net_af_packet0,iface=eth0,blocksz=4096"), "eth0");
        assert_eq!(of("net_af_xdp0,queue_count=2,iface=eth0"), "eth0");
        assert_eq!(of("net_tap0,iface=tap7,remote=eth0"), "eth0");
        assert_eq!(of("net_tap0,iface=tap7"), "");
        assert_eq!(of("net_pcap0,rx_iface=eth0,tx_iface=eth0"), "eth0");
        assert_eq!(of("net_vhost0,iface=/run/vhost0"), "");
        assert_eq!(of("net_memif0,role=server,socket=/run/memif"), "");
        assert_eq!(of("net_null0"), "");
        assert_eq!(of("net_failsafe0,dev(net_af_packet1,iface=eth0),dev(net_null0)"), "eth0");
    }

    #[test]
    fn finds_both_halves_of_an_azure_interface() {
        let sys = azure();
        for device in [
            "0002:00:02.0",
            "0002:00:02.0,class=rxq",
            "7c1e52ab-0000-4000-8000-000000000001",
            "net_vdev_netvsc0,iface=eth1",
            "net_vdev_netvsc0,mac=00:0D:3A:01:02:03",
        ] {
            let mut found = interfaces_in(&sys, device);
            found.sort();
            assert_eq!(found, ["enP2s1", "eth1"], "{device}");
        }
        assert!(interfaces_in(&sys, "0003:00:02.0").is_empty());
    }
}
