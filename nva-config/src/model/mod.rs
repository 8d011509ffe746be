//! The checked form of the configuration: references resolved, values in their legal ranges. Whoever holds a [`Config`] need not
//! check it again. The meaning of each key is that of the configuration contract, quoted in the documentation of each field.

mod balancing;
mod dataplane;
mod guard;
mod mac;
mod network;
mod policy;
mod prefix;
mod records;
mod words;

pub use balancing::*;
pub use dataplane::*;
pub use guard::*;
pub use mac::*;
pub use network::*;
pub use policy::*;
pub use prefix::{Prefix, PrefixError};
pub use records::*;

pub(crate) use prefix::parse_address_and_len;
pub(crate) use words::{Word, words};

use std::fmt;
use std::path::PathBuf;

/// A place in a configuration file, both numbers counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file as the user named it.
    pub file: PathBuf,
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One thing that is wrong: printed as `FILE:LINE:COLUMN: what is wrong; what would be right`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub location: Location,
    /// What is wrong, and behind `; ` what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

/// The whole checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `name`: names this instance in logs, metrics and flow logs. Default `nva-1`.
    pub name: String,
    /// `dataplane`.
    pub dataplane: Dataplane,
    /// `ports`, in the order of the file; a [`PortIndex`] points into it.
    pub ports: Vec<Port>,
    /// `routes`, without the connected prefixes.
    pub routes: Vec<Route>,
    /// `neighbors`: static entries.
    pub neighbors: Vec<Neighbor>,
    /// `virtual_network`.
    pub virtual_network: VirtualNetwork,
    /// Service tags, inline and from the published file, by name as written; built-in tags are not in it.
    pub service_tags: Vec<ServiceTag>,
    /// `security_groups`; a [`GroupIndex`] points into it.
    pub security_groups: Vec<SecurityGroup>,
    /// `load_balancers`.
    pub load_balancers: Vec<LoadBalancer>,
    /// `gateway`: every one.
    pub gateways: Vec<Gateway>,
    /// `protection`, with the defaults of an absent section.
    pub protection: Protection,
    /// `management`.
    pub management: Option<Management>,
    /// `logs`.
    pub logs: Logs,
    /// Where each key and list element stands: key path (`gateway`, `load_balancers[0].outbound[0]`, …) to place.
    pub places: Places,
    /// What is legal but hardly meant, sorted by place. Never a reason to refuse the configuration.
    pub warnings: Vec<Problem>,
}

impl Default for Config {
    /// What an empty file says: one worker, no port, nothing forwarded.
    fn default() -> Self {
        Self {
            name: "nva-1".to_owned(),
            dataplane: Dataplane::default(),
            ports: Vec::new(),
            routes: Vec::new(),
            neighbors: Vec::new(),
            virtual_network: VirtualNetwork::default(),
            service_tags: Vec::new(),
            security_groups: Vec::new(),
            load_balancers: Vec::new(),
            gateways: Vec::new(),
            protection: Protection::default(),
            management: None,
            logs: Logs::default(),
            places: Places::default(),
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// `management.metrics.listen`: where metrics are read, if anywhere.
    pub fn metrics(&self) -> Option<std::net::SocketAddr> {
        self.management.as_ref()?.metrics
    }
}

/// From a key path to its place in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// By [`Place::file`](crate::report::Place::file).
    pub(crate) files: Vec<std::path::PathBuf>,
    /// The tree of keys and elements, without what they say: a path for each of them would take longer to write down than the files to read.
    pub(crate) root: Option<std::sync::Arc<crate::tree::Node>>,
}

/// Index into [`Config::ports`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub usize);

/// Index into [`Config::security_groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupIndex(pub usize);

/// Index into [`LoadBalancer::frontends`] of the same load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendIndex(pub usize);

/// Index into [`LoadBalancer::pools`] of the same load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolIndex(pub usize);

/// Index into [`LoadBalancer::probes`] of the same load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeIndex(pub usize);
