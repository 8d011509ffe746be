//! What the kernel counted in a namespace.

use super::space::Space;

/// A counter of `/proc/net/snmp` or `/proc/net/netstat`, such as `Udp` `InDatagrams`.
pub(crate) fn snmp(space: &Space, group: &str, counter: &str) -> u64 {
    let text = space.proc_net("snmp") + &space.proc_net("netstat");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let value = pairs.find(|(name, _)| *name == counter).and_then(|(_, value)| value.parse().ok());
    value.unwrap_or_else(|| panic!("no counter {group} {counter}"))
}

/// A counter of `/proc/net/snmp6`, such as `Ip6InReceives`.
pub(crate) fn snmp6(space: &Space, counter: &str) -> u64 {
    let text = space.proc_net("snmp6");
    let mut pairs = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let value = pairs.find(|(name, _)| *name == counter).and_then(|(_, value)| value.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no counter {counter}"))
}

/// How many packets an interface received: what a segmentation is to be cut up into counts as one.
pub(crate) fn device_received(space: &Space, device: &str) -> u64 {
    let text = space.proc_net("dev");
    let mut rows = text.lines().filter_map(|line| line.split_once(':'));
    let row = rows.find(|(name, _)| name.trim() == device).map(|(_, row)| row);
    let value = row.and_then(|row| row.split_whitespace().nth(1)?.parse().ok());
    value.unwrap_or_else(|| panic!("no interface {device}"))
}

/// How many IPv4 and IPv6 packets the kernel of a namespace took in.
pub(crate) fn taken_in(space: &Space) -> [u64; 2] {
    [snmp(space, "Ip", "InReceives"), snmp6(space, "Ip6InReceives")]
}
