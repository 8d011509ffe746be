//! Which packets to the ports' own addresses go to the kernel's sockets without having been asked for: the services that the
//! configuration lists. A service is found by protocol and port alone, so a flood to one leaves nothing behind here.

use crate::verdict::PortId;
use crate::wire::protocol;
use nva_config::{Config, HostProtocol, HostService, PortRange};

/// The services of all ports, compiled once from the configuration.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// By [`PortId::index`]; `None`: the port has no host interface.
    ports: Vec<Option<Listening>>,
}

/// First and last port of ranges that neither overlap nor touch, in their order.
type Ranges = Vec<(u16, u16)>;

#[derive(Clone, Debug, Default)]
struct Listening {
    tcp: Ranges,
    udp: Ranges,
}

impl Services {
    /// Compiles the `host_services` of every port.
    pub fn build(config: &Config) -> Self {
        let listening = |services: &Vec<HostService>| Listening {
            tcp: ranges(services, HostProtocol::Tcp),
            udp: ranges(services, HostProtocol::Udp),
        };
        Self { ports: config.ports.iter().map(|port| port.host_services.as_ref().map(listening)).collect() }
    }

    /// Whether any port has a host interface.
    pub fn any_interface(&self) -> bool {
        self.ports.iter().any(Option::is_some)
    }

    /// Whether the port has a host interface.
    #[inline]
    pub fn has_interface(&self, port: PortId) -> bool {
        self.ports.get(port.index()).is_some_and(Option::is_some)
    }

    /// Whether packets of this protocol (IANA) to this port number of the addresses of `port` are let in.
    pub fn listens(&self, port: PortId, protocol: u8, number: u16) -> bool {
        let Some(Some(listening)) = self.ports.get(port.index()) else { return false };
        let ranges = match protocol {
            protocol::TCP => &listening.tcp,
            protocol::UDP => &listening.udp,
            _ => return false,
        };
        let after = ranges.partition_point(|&(first, _)| first <= number);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|&(_, last)| number <= last)
    }
}

/// The port ranges of one protocol, sorted, and joined where they overlap or touch.
fn ranges(services: &[HostService], protocol: HostProtocol) -> Ranges {
    let of_protocol = services.iter().filter(|service| service.protocol == protocol);
    let mut sorted: Ranges =
        of_protocol.map(|HostService { ports: PortRange { first, last }, .. }| (*first, *last)).collect();
    sorted.sort_unstable();
    let mut joined = Ranges::new();
    for (first, last) in sorted {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn service(protocol: HostProtocol, first: u16, last: u16) -> HostService {
        HostService { protocol, ports: PortRange { first, last } }
    }

    fn of(services: Option<Vec<HostService>>) -> Services {
        let listening = |services: Vec<HostService>| Listening {
            tcp: ranges(&services, HostProtocol::Tcp),
            udp: ranges(&services, HostProtocol::Udp),
        };
        Services { ports: vec![None, services.map(listening)] }
    }

    const PORT: PortId = PortId(1);

    proptest! {
        #[test]
        fn listens_where_a_service_is_listed_and_nowhere_else(
            list in prop::collection::vec((any::<bool>(), 1_u16..60, 0_u16..9), 0..12),
            asked in 0_u16..80,
        ) {
            let protocol = |tcp| if tcp { HostProtocol::Tcp } else { HostProtocol::Udp };
            let services: Vec<_> =
                list.iter().map(|&(tcp, first, more)| service(protocol(tcp), first, first + more)).collect();
            let compiled = of(Some(services));
            for (tcp, number) in [(true, protocol::TCP), (false, protocol::UDP)] {
                let listed =
                    list.iter().any(|&(of, first, more)| of == tcp && (first..=first + more).contains(&asked));
                prop_assert_eq!(compiled.listens(PORT, number, asked), listed);
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_of_ports() {
        let services =
            of(Some(vec![service(HostProtocol::Tcp, 1, 65_535), service(HostProtocol::Tcp, 7, 7)]));
        for number in [1, 7, 8, 65_535] {
            assert!(services.listens(PORT, protocol::TCP, number));
            assert!(!services.listens(PORT, protocol::UDP, number));
        }
        assert!(!services.listens(PORT, protocol::TCP, 0));
        assert!(!services.listens(PORT, protocol::ICMP, 7));
    }

    #[test]
    fn an_interface_without_services_is_one() {
        for (services, has) in [(None, false), (Some(Vec::new()), true)] {
            let compiled = of(services);
            assert_eq!((compiled.has_interface(PORT), compiled.any_interface()), (has, has));
            assert!(!compiled.has_interface(PortId(0)) && !compiled.has_interface(PortId(9)));
            assert!(
                !compiled.listens(PORT, protocol::TCP, 22) && !compiled.listens(PortId(9), protocol::TCP, 22)
            );
        }
    }
}
