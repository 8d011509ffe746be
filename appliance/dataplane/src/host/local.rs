//! Which addresses are the appliance's own, and what is on each link.

use crate::addr::{Addr, Family, Mac};
use crate::addr_map::AddrMap;
use crate::verdict::PortId;

/// What stage 3 knows of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// The port.
    pub id: PortId,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// What an address of the appliance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// The port's own.
    PortAddress(PortId),
    /// A load balancer's frontend.
    Frontend,
}

/// A port with its addresses, each with its prefix and the prefix's length in its family's terms.
pub type PortAddresses = (PortFacts, Vec<(Addr, Addr, u8)>);

/// The appliance's addresses and the prefixes of its links, compiled once from the configuration.
#[derive(Clone, Debug, Default)]
pub struct LocalTable {
    addresses: AddrMap<Local>,
    /// By [`PortId::index`].
    ports: Vec<Link>,
}

#[derive(Clone, Debug, Default)]
struct Link {
    addresses: Vec<OnLink>,
    /// The address that every IPv6 interface has (RFC 4291, 2.8), made from the Ethernet address.
    link_local: Option<Addr>,
}

#[derive(Clone, Copy, Debug)]
struct OnLink {
    own: Addr,
    prefix: Addr,
    /// The bits in which addresses of the prefix may differ.
    host_bits: u128,
}

impl OnLink {
    fn new(own: Addr, prefix: Addr, len: u8) -> Self {
        let width = match prefix.family() {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        let host_bits = u128::MAX.checked_shr(128 - width + u32::from(len)).unwrap_or(0);
        Self { own, prefix, host_bits }
    }

    fn contains(&self, address: Addr) -> bool {
        self.prefix.family() == address.family()
            && (self.prefix.bits() ^ address.bits()) & !self.host_bits == 0
    }

    /// IPv4: the prefix's broadcast address, or the old one with zeros (RFC 1812, 4.2.2.11). A link of two has none (RFC 3021).
    fn is_broadcast(&self, address: Addr) -> bool {
        let host = address.bits() & self.host_bits;
        self.contains(address)
            && self.prefix.family() == Family::V4
            && self.host_bits > 1
            && (host == 0 || host == self.host_bits)
    }
}

impl LocalTable {
    /// From each port's addresses and all frontends. An address that is both stays a port's.
    pub fn build(ports: &[PortAddresses], frontends: &[Addr]) -> Self {
        let mut table = Self::default();
        table.addresses.extend(frontends.iter().map(|&frontend| (frontend, Local::Frontend)));
        for (port, addresses) in ports {
            if table.ports.len() <= port.id.index() {
                table.ports.resize_with(port.id.index() + 1, Link::default);
            }
            let link_local = link_local(port.mac);
            let own = addresses.iter().map(|&(own, ..)| own).chain([link_local]);
            table.addresses.extend(own.map(|own| (own, Local::PortAddress(port.id))));
            table.ports[port.id.index()] = Link {
                addresses: addresses
                    .iter()
                    .map(|&(own, prefix, len)| OnLink::new(own, prefix, len))
                    .collect(),
                link_local: Some(link_local),
            };
        }
        table
    }

    /// What `address` is, when it is the appliance's. A port's own addresses are answered on every port, as a router does, but
    /// a link-local one means nothing beyond its link: it is only looked for on `port`.
    #[inline]
    pub fn kind(&self, port: PortId, address: Addr) -> Option<Local> {
        if address.is_v6_link_local() {
            let mine = self.is_own(port, address);
            return mine.then_some(Local::PortAddress(port));
        }
        self.addresses.get(&address).copied()
    }

    /// Whether a question on this port for who has `target` is ours to answer: the port's own addresses, and frontends that an
    /// on-link router takes for stations there.
    pub fn answers_on(&self, port: PortId, target: Addr) -> bool {
        self.is_own(port, target)
            || self.addresses.get(&target) == Some(&Local::Frontend) && self.connected(port, target)
    }

    /// Whether `address` lies in a prefix of the port's link; every link-local address does.
    pub fn connected(&self, port: PortId, address: Addr) -> bool {
        address.is_v6_link_local() || self.addresses_of(port).iter().any(|on_link| on_link.contains(address))
    }

    /// Whether `address` is an IPv4 broadcast address of a link, of any port: it is nobody's, and no error is sent about what
    /// went there.
    pub fn is_broadcast(&self, address: Addr) -> bool {
        self.ports.iter().any(|link| link.addresses.iter().any(|on_link| on_link.is_broadcast(address)))
    }

    /// The address that the appliance speaks to `near` with on a port: in the same prefix if there is one, else the port's
    /// first of the family, else its link-local one.
    pub fn source_address(&self, port: PortId, family: Family, near: Addr) -> Option<Addr> {
        let link_local = self.ports.get(port.index())?.link_local.filter(|_| family == Family::V6);
        if near.is_v6_link_local() && link_local.is_some() {
            return link_local;
        }
        let of_family = || self.addresses_of(port).iter().filter(|on_link| on_link.own.family() == family);
        let chosen = of_family().find(|on_link| on_link.contains(near)).or_else(|| of_family().next());
        chosen.map(|on_link| on_link.own).or(link_local)
    }

    fn is_own(&self, port: PortId, address: Addr) -> bool {
        let link_local = self.ports.get(port.index()).and_then(|link| link.link_local);
        link_local == Some(address) || self.addresses_of(port).iter().any(|on_link| on_link.own == address)
    }

    fn addresses_of(&self, port: PortId) -> &[OnLink] {
        self.ports.get(port.index()).map_or(&[], |link| &link.addresses)
    }
}

/// The link-local address of an interface (RFC 4291, 2.5.6 and appendix A).
pub fn link_local(mac: Mac) -> Addr {
    let [a, b, c, d, e, f] = mac.0;
    Addr::v6([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn on_link(own: &str, prefix: &str, len: u8) -> (Addr, Addr, u8) {
        (addr(own), addr(prefix), len)
    }

    const LEFT: PortId = PortId(0);
    const RIGHT: PortId = PortId(1);

    fn table() -> LocalTable {
        let port = |id, last| PortFacts { id, mac: Mac([2, 0, 0, 0, 0, last]) };
        LocalTable::build(
            &[
                (
                    port(LEFT, 1),
                    vec![
                        on_link("192.0.2.1", "192.0.2.0", 24),
                        on_link("198.51.100.1", "198.51.100.0", 31),
                        on_link("2001:db8::1", "2001:db8::", 64),
                    ],
                ),
                (port(RIGHT, 2), vec![on_link("10.0.0.1", "10.0.0.0", 8)]),
            ],
            &[addr("192.0.2.10"), addr("203.0.113.9"), addr("10.0.0.1"), addr("2001:db8::10")],
        )
    }

    #[test]
    fn link_local_addresses_come_from_the_ethernet_address() {
        assert_eq!(link_local(Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde])), addr("fe80::3656:78ff:fe9a:bcde"));
    }

    #[test]
    fn knows_what_its_addresses_are() {
        let table = table();
        assert_eq!(table.kind(LEFT, addr("192.0.2.1")), Some(Local::PortAddress(LEFT)));
        assert_eq!(table.kind(RIGHT, addr("192.0.2.1")), Some(Local::PortAddress(LEFT)));
        assert_eq!(table.kind(LEFT, addr("203.0.113.9")), Some(Local::Frontend));
        assert_eq!(table.kind(LEFT, addr("10.0.0.1")), Some(Local::PortAddress(RIGHT)));
        assert_eq!(table.kind(LEFT, addr("192.0.2.2")), None);
        assert_eq!(table.kind(RIGHT, addr("fe80::ff:fe00:2")), Some(Local::PortAddress(RIGHT)));
        assert_eq!(table.kind(LEFT, addr("fe80::ff:fe00:2")), None);
    }

    #[test]
    fn answers_for_its_own_and_for_frontends_on_the_link() {
        let table = table();
        for (port, address, answers) in [
            (LEFT, "192.0.2.1", true),
            (LEFT, "192.0.2.10", true),
            (LEFT, "2001:db8::10", true),
            (LEFT, "fe80::ff:fe00:1", true),
            (LEFT, "fe80::ff:fe00:2", false),
            (LEFT, "203.0.113.9", false),
            (LEFT, "10.0.0.1", false),
            (LEFT, "192.0.2.2", false),
            (RIGHT, "10.0.0.1", true),
            (RIGHT, "192.0.2.10", false),
            (PortId(7), "192.0.2.1", false),
        ] {
            assert_eq!(table.answers_on(port, addr(address)), answers, "{port:?} {address}");
        }
    }

    #[test]
    fn knows_its_links() {
        let table = table();
        for (port, address, connected) in [
            (LEFT, "192.0.2.255", true),
            (LEFT, "192.0.3.0", false),
            (LEFT, "198.51.100.0", true),
            (LEFT, "198.51.100.2", false),
            (LEFT, "2001:db8::ffff", true),
            (LEFT, "2001:db8:0:1::", false),
            (LEFT, "::c000:201", false),
            (RIGHT, "10.255.0.1", true),
            (RIGHT, "fe80::1", true),
            (PortId(7), "10.0.0.1", false),
        ] {
            assert_eq!(table.connected(port, addr(address)), connected, "{port:?} {address}");
        }
    }

    #[test]
    fn knows_broadcast_addresses() {
        let table = table();
        for (address, is) in [
            ("192.0.2.255", true),
            ("192.0.2.0", true),
            ("192.0.2.254", false),
            ("10.255.255.255", true),
            ("198.51.100.0", false),
            ("198.51.100.1", false),
            ("2001:db8::", false),
        ] {
            assert_eq!(table.is_broadcast(addr(address)), is, "{address}");
        }
    }

    #[test]
    fn speaks_with_the_nearest_address() {
        let table = table();
        for (port, near, source) in [
            (LEFT, "192.0.2.7", Some("192.0.2.1")),
            (LEFT, "198.51.100.0", Some("198.51.100.1")),
            (LEFT, "8.8.8.8", Some("192.0.2.1")),
            (LEFT, "2001:db8::2", Some("2001:db8::1")),
            (LEFT, "2001:db9::2", Some("2001:db8::1")),
            (LEFT, "fe80::9", Some("fe80::ff:fe00:1")),
            (RIGHT, "2001:db9::2", Some("fe80::ff:fe00:2")),
            (PortId(7), "8.8.8.8", None),
        ] {
            let near = addr(near);
            assert_eq!(table.source_address(port, near.family(), near), source.map(addr), "{port:?} {near}");
        }
    }
}
