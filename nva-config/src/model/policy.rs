//! Security groups and what their rules name.

use std::fmt;

use super::{Prefix, words};

/// A service tag and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTag {
    /// The name as written.
    pub name: String,
    /// Its prefixes.
    pub prefixes: Vec<Prefix>,
}

/// One of `security_groups`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// `name`.
    pub name: String,
    /// `flush_connections`.
    pub flush_connections: bool,
    /// `rules`, in the order of the file; default rules are not in it.
    pub rules: Vec<SecurityRule>,
}

/// One of `security_groups[].rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityRule {
    /// `name`, unique in the group.
    pub name: String,
    /// `priority`: 100..=4096, unique per direction; the lowest that matches decides.
    pub priority: u16,
    /// `direction`.
    pub direction: Direction,
    /// `access`.
    pub access: Access,
    /// `protocol`.
    pub protocol: RuleProtocol,
    /// `source`: matches when any entry does; never empty.
    pub source: Vec<Endpoint>,
    /// `source_ports`; never empty, no overlaps.
    pub source_ports: Vec<PortRange>,
    /// `destination`.
    pub destination: Vec<Endpoint>,
    /// `destination_ports`.
    pub destination_ports: Vec<PortRange>,
}

/// `direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `inbound`: to a subnet or interface.
    Inbound,
    /// `outbound`: from a subnet or interface.
    Outbound,
}

/// `access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `allow`.
    Allow,
    /// `deny`: silent.
    Deny,
}

/// `protocol` of a security rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleProtocol {
    /// `tcp`.
    Tcp,
    /// `udp`.
    Udp,
    /// `icmp`: ICMP, and ICMPv6 in an IPv6 packet.
    Icmp,
    /// `esp`.
    Esp,
    /// `ah`.
    Ah,
    /// `any`: every IP protocol.
    Any,
}

/// An entry of `source` or `destination`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `"*"`: any address of both families.
    Any,
    /// A prefix.
    Prefix(Prefix),
    /// The tag `VirtualNetwork`: the address space, the route prefixes and 168.63.129.16.
    VirtualNetwork,
    /// The tag `AzureLoadBalancer`: 168.63.129.16.
    AzureLoadBalancer,
    /// The tag `Internet`: everything outside VirtualNetwork.
    Internet,
    /// Another service tag, as an index into [`Config::service_tags`](crate::Config::service_tags).
    ServiceTag(usize),
    /// `asg:NAME`, as an index into [`VirtualNetwork::application_security_groups`](crate::VirtualNetwork::application_security_groups).
    ApplicationSecurityGroup(usize),
}

/// An inclusive range of ports; `"*"` is 0..=65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    /// Lowest.
    pub first: u16,
    /// Highest, at least `first`.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// Whether `port` is in it.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    /// As the configuration spells it: `*`, `443` or `9000-9100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("*"),
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

words!(Direction { Inbound = "inbound", Outbound = "outbound" });
words!(Access { Allow = "allow", Deny = "deny" });
words!(RuleProtocol { Tcp = "tcp", Udp = "udp", Icmp = "icmp", Esp = "esp", Ah = "ah", Any = "any" });
