//! Load balancers.

use std::net::IpAddr;
use std::time::Duration;

use super::{FrontendIndex, PoolIndex, ProbeIndex, words};

/// One of `load_balancers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// `name`.
    pub name: String,
    /// `frontends`.
    pub frontends: Vec<Frontend>,
    /// `pools`.
    pub pools: Vec<Pool>,
    /// `probes`.
    pub probes: Vec<Probe>,
    /// `rules`.
    pub rules: Vec<BalancingRule>,
    /// `inbound_nat`.
    pub inbound_nat: Vec<InboundNat>,
    /// `outbound`.
    pub outbound: Vec<OutboundRule>,
}

/// One of `load_balancers[].frontends`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// `name`.
    pub name: String,
    /// `address`: no port's own, no other frontend's.
    pub address: IpAddr,
}

/// One of `load_balancers[].pools`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// `name`.
    pub name: String,
    /// `drain_period`; zero: for ever. Default 30 s.
    pub drain_period: Duration,
    /// `no_healthy_backends`.
    pub no_healthy_backends: NoHealthyBackends,
    /// `backends`.
    pub backends: Vec<Backend>,
}

/// `no_healthy_backends`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHealthyBackends {
    /// `down`: new flows are refused. The default.
    Down,
    /// `up`: every backend is tried.
    Up,
}

/// One of `load_balancers[].pools[].backends`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `name`, unique in the load balancer.
    pub name: String,
    /// `address`.
    pub address: IpAddr,
    /// `weight`: 1..=1000. Default 1.
    pub weight: u16,
    /// `admin_state`.
    pub admin_state: AdminState,
}

/// `admin_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminState {
    /// `none`: the probe decides. The default.
    None,
    /// `up`: eligible, whatever the probe says.
    Up,
    /// `down`: no new flows.
    Down,
}

/// One of `load_balancers[].probes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// `name`.
    pub name: String,
    /// `protocol`.
    pub protocol: ProbeProtocol,
    /// `port`.
    pub port: u16,
    /// `path`, for http and https. Default `/`.
    pub path: String,
    /// `interval`. Default 5 s.
    pub interval: Duration,
    /// `threshold`: so many in a row flip it, either way. Default 2.
    pub threshold: u32,
}

/// `load_balancers[].probes[].protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeProtocol {
    /// `tcp`.
    Tcp,
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// `protocol` of a load-balancing, NAT or outbound rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BalancingProtocol {
    /// `tcp`.
    Tcp,
    /// `udp`.
    Udp,
    /// `all`: every port of TCP and UDP (HA ports).
    All,
}

/// One of `load_balancers[].rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancingRule {
    /// `name`.
    pub name: String,
    /// `frontend`.
    pub frontend: FrontendIndex,
    /// `protocol`.
    pub protocol: BalancingProtocol,
    /// `port`; 0 with `all`.
    pub port: u16,
    /// `pool`.
    pub pool: PoolIndex,
    /// `backend_port`. Default: `port`. 0 with `all`.
    pub backend_port: u16,
    /// `probe`.
    pub probe: Option<ProbeIndex>,
    /// `distribution`.
    pub distribution: Distribution,
    /// `idle_timeout`: 4 min..=120 min in the cloud; here from 1 s. Default 4 min.
    pub idle_timeout: Duration,
    /// `tcp_reset`. Default false (the cloud's default).
    pub tcp_reset: bool,
    /// `floating_ip`. Default false.
    pub floating_ip: bool,
    /// `syn_proxy`. Default auto.
    pub syn_proxy: SynProxyMode,
}

/// `distribution`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// `five_tuple`: addresses, ports, protocol. The default.
    FiveTuple,
    /// `source_ip`: source and destination address.
    SourceIp,
    /// `source_ip_protocol`: both addresses and protocol.
    SourceIpProtocol,
}

/// `syn_proxy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynProxyMode {
    /// `off`.
    Off,
    /// `auto`: only while what the key is given for is flooded.
    Auto,
    /// `always`.
    Always,
}

/// One of `load_balancers[].inbound_nat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundNat {
    /// `name`.
    pub name: String,
    /// `frontend`.
    pub frontend: FrontendIndex,
    /// `protocol`.
    pub protocol: BalancingProtocol,
    /// `port`; 0 with `all`.
    pub port: u16,
    /// `backend`: pool and place in it.
    pub backend: (PoolIndex, usize),
    /// `backend_port`. Default: `port`. 0 with `all`.
    pub backend_port: u16,
    /// `idle_timeout`. Default 4 min.
    pub idle_timeout: Duration,
    /// `tcp_reset`. Default as for a balancing rule.
    pub tcp_reset: bool,
    /// `floating_ip`. Default false.
    pub floating_ip: bool,
    /// `syn_proxy`. Default off.
    pub syn_proxy: SynProxyMode,
}

/// One of `load_balancers[].outbound`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundRule {
    /// `name`.
    pub name: String,
    /// `frontends`; never empty.
    pub frontends: Vec<FrontendIndex>,
    /// `pool`.
    pub pool: PoolIndex,
    /// `protocol`.
    pub protocol: BalancingProtocol,
    /// `ports_per_backend`: a multiple of 8; all backends' together at most 64 000 a frontend; 0: by the size of the pool.
    pub ports_per_backend: u16,
    /// `idle_timeout`. Default 4 min.
    pub idle_timeout: Duration,
    /// `tcp_reset`.
    pub tcp_reset: bool,
}

words!(NoHealthyBackends { Down = "down", Up = "up" });
words!(AdminState { None = "none", Up = "up", Down = "down" });
words!(ProbeProtocol { Tcp = "tcp", Http = "http", Https = "https" });
words!(BalancingProtocol { Tcp = "tcp", Udp = "udp", All = "all" });
words!(Distribution {
    FiveTuple = "five_tuple",
    SourceIp = "source_ip",
    SourceIpProtocol = "source_ip_protocol"
});
words!(SynProxyMode { Off = "off", Auto = "auto", Always = "always" });
