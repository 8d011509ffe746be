//! Routes and rules: what the kernel's sockets say from a port's address leaves by its host interface, and the machine's own
//! routes stay what they are.
//!
//! Each interface has a routing table of its own, with a way to everywhere by the interface. Rules lead there what has one of its
//! addresses as source, or what a socket is bound to the interface for. Beside these, the main table gets the networks of
//! the port, behind whatever else leads there. The rules carry a protocol number of ours, and the number of their table says which
//! interface it is for.

use super::TapOptions;
use super::interface::family_and_bytes;
use crate::kernel::DeviceError;
use crate::kernel::netlink::{Message, Netlink, attribute};
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

/// Whose routes and rules these are (`ip rule` shows it as `proto 110`).
const PROTOCOL: u8 = 110;
/// Before the main table, behind the local one.
const PRIORITY: u32 = 5110;
/// Tables are numbered from here, by the interface.
const TABLES: u32 = 0x6e00_0000;
const INDEX_MASK: u32 = 0x00ff_ffff;
/// Behind the routes that the kernel (0, or 256 for IPv6) and most people make.
const METRIC: u32 = 1100;

/// Attributes and actions of rules (`linux/fib_rules.h`).
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const FRA_OIFNAME: u16 = 17;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
const RULE_HEADER: usize = 12;
/// Attributes of routes (`linux/rtnetlink.h`).
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;

const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];
const REMEDY: &str = "the kernel needs CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES";

/// Rules that lead to one table; dropping this removes them.
#[derive(Debug)]
pub(super) struct Rules {
    netlink: Netlink,
    table: u32,
}

impl Drop for Rules {
    fn drop(&mut self) {
        // What cannot be removed leads to a table that is empty soon, and the next start removes it.
        let _ = remove_rules(&self.netlink, self.table);
    }
}

/// Routes to everywhere by the interface, and rules that lead there what is its own.
pub(super) fn lead(
    name: &str,
    netlink: Netlink,
    index: u32,
    options: &TapOptions<'_>,
) -> Result<Rules, DeviceError> {
    let table = TABLES | index & INDEX_MASK;
    let rules = Rules { netlink, table };
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let add = |kind, call, message: &Message| match rules.netlink.change(kind, flags, message) {
        // Two addresses of one network.
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
            Err(DeviceError::call(name, call, error, REMEDY))
        }
        _ => Ok(()),
    };
    let add_route = |message: &Message| add(libc::RTM_NEWROUTE, "netlink(RTM_NEWROUTE)", message);
    let add_rule = |message: &Message| add(libc::RTM_NEWRULE, "netlink(RTM_NEWRULE)", message);
    for &(address, prefix_len) in options.addresses {
        let (family, bytes) = family_and_bytes(address);
        let network = network(&bytes, prefix_len);
        if usize::from(prefix_len) < 8 * bytes.len() {
            let on_link = |table| route(family, table, index, Some((&network, prefix_len)));
            let main = on_link(libc::RT_TABLE_MAIN.into())
                .attribute(RTA_PRIORITY, &METRIC.to_ne_bytes())
                .attribute(RTA_PREFSRC, &bytes);
            add_route(&main)?;
            add_route(&on_link(table))?;
        }
        let metrics = Message::default().attribute(RTAX_MTU, &u32::from(options.far_mtu).to_ne_bytes());
        add_route(&route(family, table, index, None).nested(RTA_METRICS, metrics))?;
        add_rule(&rule(family, table, bytes.len() as u8 * 8).attribute(FRA_SRC, &bytes))?;
    }
    for family in FAMILIES {
        if options.addresses.iter().any(|(address, _)| family_of(*address) == family) {
            let bound = [name.as_bytes(), b"\0"].concat();
            add_rule(&rule(family, table, 0).attribute(FRA_OIFNAME, &bound))?;
        }
    }
    Ok(rules)
}

fn family_of(address: IpAddr) -> u8 {
    family_and_bytes(address).0
}

/// The prefix's first address.
fn network(address: &[u8], prefix_len: u8) -> Vec<u8> {
    let mut bits = u32::from(prefix_len);
    let mask = |byte: &u8| {
        let here = bits.min(8);
        bits -= here;
        byte & !(0xff_u32 >> here) as u8
    };
    address.iter().map(mask).collect()
}

/// A route on the link, to a prefix or to everywhere (`struct rtmsg`).
fn route(family: u8, table: u32, index: u32, to: Option<(&[u8], u8)>) -> Message {
    let scope = if family == libc::AF_INET as u8 { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    let len = to.map_or(0, |(_, len)| len);
    // Tables beyond 255 are in the attribute.
    let header = [family, len, 0, 0, libc::RT_TABLE_UNSPEC, PROTOCOL, scope, libc::RTN_UNICAST, 0, 0, 0, 0];
    let message = Message::new(&header)
        .attribute(RTA_TABLE, &table.to_ne_bytes())
        .attribute(RTA_OIF, &index.to_ne_bytes());
    match to {
        Some((prefix, _)) => message.attribute(RTA_DST, prefix),
        None => message,
    }
}

/// A rule that leads to a table (`struct fib_rule_hdr`).
fn rule(family: u8, table: u32, src_len: u8) -> Message {
    Message::new(&[family, 0, src_len, 0, libc::RT_TABLE_UNSPEC, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0])
        .attribute(FRA_TABLE, &table.to_ne_bytes())
        .attribute(FRA_PRIORITY, &PRIORITY.to_ne_bytes())
        .attribute(FRA_PROTOCOL, &[PROTOCOL])
}

/// Removes the rules of interfaces that are gone: of a process that was killed.
pub(super) fn remove_left_over(name: &str, netlink: &Netlink) -> Result<(), DeviceError> {
    let failed = |call| move |error| DeviceError::call(name, call, error, REMEDY);
    let present = interfaces(netlink).map_err(failed("netlink(RTM_GETLINK)"))?;
    let mut gone: Vec<u32> = tables(netlink).map_err(failed("netlink(RTM_GETRULE)"))?;
    gone.retain(|table| !present.contains(&(table & INDEX_MASK)));
    gone.into_iter()
        .try_for_each(|table| remove_rules(netlink, table))
        .map_err(failed("netlink(RTM_DELRULE)"))
}

/// The tables that rules of ours lead to.
fn tables(netlink: &Netlink) -> io::Result<Vec<u32>> {
    let mut tables = Vec::new();
    for family in FAMILIES {
        let mut header = [0; RULE_HEADER];
        header[0] = family;
        netlink.dump(libc::RTM_GETRULE, &Message::new(&header), |entry| {
            let attributes = entry.get(RULE_HEADER..).unwrap_or_default();
            let is_ours = attribute(attributes, FRA_PROTOCOL) == Some(&[PROTOCOL]);
            let table = attribute(attributes, FRA_TABLE).and_then(|bytes| bytes.first_chunk::<4>());
            if let Some(table) = table.map(|bytes| u32::from_ne_bytes(*bytes))
                && is_ours
                && table & !INDEX_MASK == TABLES
                && !tables.contains(&table)
            {
                tables.push(table);
            }
        })?;
    }
    Ok(tables)
}

/// The numbers of the interfaces that there are.
fn interfaces(netlink: &Netlink) -> io::Result<HashSet<u32>> {
    let mut indices = HashSet::new();
    netlink.dump(libc::RTM_GETLINK, &Message::new(&[0; 16]), |entry| {
        if let Some(bytes) = entry.get(4..8).and_then(|bytes| bytes.first_chunk::<4>()) {
            indices.insert(u32::from_ne_bytes(*bytes) & INDEX_MASK);
        }
    })?;
    Ok(indices)
}

/// Removes all rules of ours that lead to a table.
fn remove_rules(netlink: &Netlink, table: u32) -> io::Result<()> {
    /// More than a port has addresses.
    const RULES_MAX: usize = 1000;
    for family in FAMILIES {
        for _ in 0..RULES_MAX {
            match netlink.change(libc::RTM_DELRULE, 0, &rule(family, table, 0)) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                // A kernel without IPv6 has no such rules.
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => break,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_cut_at_their_length() {
        for (address, len, expected) in [
            ([10, 1, 2, 3], 24, [10, 1, 2, 0]),
            ([10, 1, 2, 255], 25, [10, 1, 2, 128]),
            ([10, 1, 2, 255], 32, [10, 1, 2, 255]),
            ([203, 1, 2, 255], 0, [0, 0, 0, 0]),
            ([203, 255, 2, 255], 10, [203, 192, 0, 0]),
        ] {
            assert_eq!(network(&address, len), expected);
        }
    }
}
