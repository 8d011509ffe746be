//! The network that the scripts run in: an appliance with two ports, and who is behind them.

use std::net::IpAddr;

/// A port of the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// Towards the Internet: 203.0.113.1/24, 2001:db8:113::1/64; the router behind it is .254 and ::fe.
    Untrusted,
    /// Towards the virtual network: 10.2.0.1/24, fd00:2::1/64; the router behind it is .254 and ::fe.
    Trusted,
}

/// An Ethernet address.
pub type Mac = [u8; 6];

impl Port {
    /// Both, in the order of the configuration.
    pub const ALL: [Self; 2] = [Self::Untrusted, Self::Trusted];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Trusted => "trusted",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Untrusted => Self::Trusted,
            Self::Trusted => Self::Untrusted,
        }
    }

    /// The appliance's Ethernet address there.
    pub fn station(self) -> Mac {
        match self {
            Self::Untrusted => [0x02, 0, 0, 0, 0x0a, 0x01],
            Self::Trusted => [0x02, 0, 0, 0, 0x0a, 0x02],
        }
    }

    /// The Ethernet address of the neighbour that speaks for an address: an on-link host by the last byte of its address, everybody
    /// else the router.
    pub fn neighbor(self, address: IpAddr) -> Mac {
        const ROUTER: u8 = 0xfe;
        let (side, prefix4, prefix6): (u8, [u8; 3], [u8; 8]) = match self {
            Self::Untrusted => (0x71, [203, 0, 113], [0x20, 0x01, 0x0d, 0xb8, 0x01, 0x13, 0, 0]),
            Self::Trusted => (0x02, [10, 2, 0], [0xfd, 0, 0, 2, 0, 0, 0, 0]),
        };
        let last = match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                if [a, b, c] == prefix4 { d } else { ROUTER }
            }
            IpAddr::V6(address) => {
                let octets = address.octets();
                if octets[..8] == prefix6 { octets[15] } else { ROUTER }
            }
        };
        [0x02, 0, 0, 0, side, last]
    }
}

/// The ports, routes and neighbours of the scripts' network, as configuration.
pub const NETWORK: &str = r#"
version: 1
dataplane:
  workers: [1]
  flow_capacity: 1000
ports:
  - {name: untrusted, driver: af_packet, device: eth1, mtu: 1500, addresses: [203.0.113.1/24, "2001:db8:113::1/64"], trust: untrusted}
  - {name: trusted, driver: af_packet, device: eth2, mtu: 1500, addresses: [10.2.0.1/24, "fd00:2::1/64"], trust: trusted}
routes:
  - {to: 0.0.0.0/0, via: 203.0.113.254}
  - {to: "::/0", via: "2001:db8:113::fe"}
  - {to: 10.3.0.0/24, via: 10.2.0.254}
  - {to: "fd00:3::/64", via: "fd00:2::fe"}
neighbors:
  - {address: 203.0.113.254, mac: "02:00:00:00:71:fe"}
  - {address: "2001:db8:113::fe", mac: "02:00:00:00:71:fe"}
  - {address: 10.2.0.254, mac: "02:00:00:00:02:fe"}
  - {address: "fd00:2::fe", mac: "02:00:00:00:02:fe"}
  - {address: 10.2.0.4, mac: "02:00:00:00:02:04"}
  - {address: 10.2.0.5, mac: "02:00:00:00:02:05"}
  - {address: "fd00:2::4", mac: "02:00:00:00:02:04"}
  - {address: "fd00:2::5", mac: "02:00:00:00:02:05"}
"#;

/// The network with these sections behind it.
pub fn network(sections: &str) -> String {
    format!("{NETWORK}{sections}")
}

/// A configuration with one place of it changed.
///
/// # Panics
/// When `from` is not in it exactly once.
pub fn changed(config: &str, from: &str, to: &str) -> String {
    assert_eq!(config.matches(from).count(), 1, "{from:?} in\n{config}");
    config.replacen(from, to, 1)
}
