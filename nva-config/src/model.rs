//! The checked form of the configuration: references resolved, values in their legal ranges. Whoever holds a [`Config`] need not
//! check it again. The meaning of each key is that of the configuration contract, quoted in the documentation of each field.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// `name`: names this instance in logs, metrics and flow logs.
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
    /// `gateway`.
    pub gateway: Option<Gateway>,
    /// `protection`, with the defaults of an absent section.
    pub protection: Protection,
    /// `management`.
    pub management: Option<Management>,
    /// `logs`.
    pub logs: Logs,
    /// Where each section and named object stands: key path (`gateway`, `load_balancers[0].outbound[0]`, …) to place.
    pub places: Places,
}

/// From a key path to its place in the files.
#[derive(Clone, Debug, Default)]
pub struct Places(pub std::collections::BTreeMap<String, Location>);

impl Places {
    /// The place of a key path such as `gateway` or `load_balancers[0].rules[1].syn_proxy`, if the files have it.
    pub fn get(&self, path: &str) -> Option<&Location> {
        self.0.get(path)
    }
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

/// An IP prefix with its host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The first address.
    address: IpAddr,
    /// 0..=32 or 0..=128.
    len: u8,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// `dataplane`.
#[derive(Clone, Debug)]
pub struct Dataplane {
    /// `workers`: the core of each worker; never empty, no core twice. Default `[1]`.
    pub workers: Vec<usize>,
    /// `flow_capacity`: flow records over all workers. Default 1 000 000.
    pub flow_capacity: usize,
    /// `flow_idle_timeout`.
    pub flow_idle_timeout: FlowTimeouts,
}

/// `dataplane.flow_idle_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// Established TCP. Default 4 min.
    pub tcp: Duration,
    /// TCP before the handshake is complete. Default 10 s.
    pub tcp_half_open: Duration,
    /// TCP after a FIN from both sides, or a RST. Default 10 s.
    pub tcp_closing: Duration,
    /// UDP. Default 60 s.
    pub udp: Duration,
    /// ICMP queries. Default 10 s.
    pub icmp: Duration,
    /// Other protocols. Default 60 s.
    pub other: Duration,
}

/// One of `ports`.
#[derive(Clone, Debug)]
pub struct Port {
    /// `name`.
    pub name: String,
    /// `driver`.
    pub driver: Driver,
    /// `device`: a kernel interface; for DPDK a PCI address or a `--vdev` string.
    pub device: String,
    /// `mtu` in bytes of IP packet, 1280..=9216 Default 1500.
    pub mtu: u16,
    /// `addresses`: owned by the appliance; each with the prefix that is connected through it.
    pub addresses: Vec<InterfaceAddress>,
    /// `trust`.
    pub trust: Trust,
}

/// An address with the prefix that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address itself.
    pub address: IpAddr,
    /// The connected prefix.
    pub prefix: Prefix,
}

/// `ports[].driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `af_packet`.
    AfPacket,
    /// `af_xdp`.
    AfXdp,
    /// `dpdk`.
    Dpdk,
}

/// `ports[].trust` and `gateway.tunnels[].trust`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// `untrusted`.
    Untrusted,
    /// `trusted`.
    Trusted,
}

/// One of `routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// `to`.
    pub to: Prefix,
    /// `via`: in a connected prefix, same family as `to`.
    pub via: IpAddr,
    /// The port whose connected prefix holds `via`.
    pub port: PortIndex,
}

/// One of `neighbors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// `address`: in a connected prefix.
    pub address: IpAddr,
    /// `mac`: unicast.
    pub mac: MacAddress,
    /// The port whose connected prefix holds `address`.
    pub port: PortIndex,
}

/// `virtual_network`; absent: all empty.
#[derive(Clone, Debug, Default)]
pub struct VirtualNetwork {
    /// `address_space`: what the tag VirtualNetwork stands for, with 168.63.129.16.
    pub address_space: Vec<Prefix>,
    /// `subnets`; no two overlap.
    pub subnets: Vec<Subnet>,
    /// `interfaces`; no address twice.
    pub interfaces: Vec<Interface>,
    /// Names of all application security groups, declared by use in `interfaces`; an index points into it.
    pub application_security_groups: Vec<String>,
}

/// One of `virtual_network.subnets`.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// `name`.
    pub name: String,
    /// `prefixes`.
    pub prefixes: Vec<Prefix>,
    /// `security_group`; `None`: that level lets everything through.
    pub security_group: Option<GroupIndex>,
}

/// One of `virtual_network.interfaces`.
#[derive(Clone, Debug)]
pub struct Interface {
    /// `address`.
    pub address: IpAddr,
    /// `security_group`.
    pub security_group: Option<GroupIndex>,
    /// `application_security_groups`, as indices into [`VirtualNetwork::application_security_groups`].
    pub application_security_groups: Vec<usize>,
}

/// A service tag and what it stands for.
#[derive(Clone, Debug)]
pub struct ServiceTag {
    /// The name as written.
    pub name: String,
    /// Its prefixes.
    pub prefixes: Vec<Prefix>,
}

/// One of `security_groups`.
#[derive(Clone, Debug)]
pub struct SecurityGroup {
    /// `name`.
    pub name: String,
    /// `flush_connections`.
    pub flush_connections: bool,
    /// `rules`, in the order of the file; default rules are not in it.
    pub rules: Vec<SecurityRule>,
}

/// One of `security_groups[].rules`.
#[derive(Clone, Debug)]
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
    /// The tag `VirtualNetwork`: the address space and 168.63.129.16.
    VirtualNetwork,
    /// The tag `AzureLoadBalancer`: 168.63.129.16.
    AzureLoadBalancer,
    /// The tag `Internet`: everything outside VirtualNetwork.
    Internet,
    /// Another service tag, as an index into [`Config::service_tags`].
    ServiceTag(usize),
    /// `asg:NAME`, as an index into [`VirtualNetwork::application_security_groups`].
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

/// One of `load_balancers`.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub struct Frontend {
    /// `name`.
    pub name: String,
    /// `address`: no port's own, no other frontend's.
    pub address: IpAddr,
}

/// One of `load_balancers[].pools`.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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
    /// `auto`: only while the frontend is flooded. The default.
    Auto,
    /// `always`.
    Always,
}

/// One of `load_balancers[].inbound_nat`.
#[derive(Clone, Debug)]
pub struct InboundNat {
    /// `name`.
    pub name: String,
    /// `frontend`.
    pub frontend: FrontendIndex,
    /// `protocol`: tcp or udp, or all.
    pub protocol: BalancingProtocol,
    /// `port`.
    pub port: u16,
    /// `backend`: pool and place in it.
    pub backend: (PoolIndex, usize),
    /// `backend_port`. Default: `port`.
    pub backend_port: u16,
    /// `idle_timeout`. Default 4 min.
    pub idle_timeout: Duration,
    /// `tcp_reset`. Default as for a balancing rule.
    pub tcp_reset: bool,
    /// `floating_ip`. Default false.
    pub floating_ip: bool,
}

/// One of `load_balancers[].outbound`.
#[derive(Clone, Debug)]
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

/// `gateway`.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// `port`.
    pub port: PortIndex,
    /// `address`: one of the port's own.
    pub address: IpAddr,
    /// `peers`; never empty.
    pub peers: Vec<IpAddr>,
    /// `tunnels`: one trusted and one untrusted.
    pub tunnels: Vec<Tunnel>,
}

/// One of `gateway.tunnels`.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// `name`.
    pub name: String,
    /// `trust`.
    pub trust: Trust,
    /// `vni`: 1..=0xff_ffff.
    pub vni: u32,
    /// `udp_port`: not 0.
    pub udp_port: u16,
}

/// `protection`; [`Default`] is that of an absent section.
#[derive(Clone, Debug)]
pub struct Protection {
    /// `allowlist`.
    pub allowlist: Vec<Prefix>,
    /// `blocklist`.
    pub blocklist: Vec<Prefix>,
    /// `anti_spoofing`. Default strict.
    pub anti_spoofing: AntiSpoofing,
    /// `syn_flood`.
    pub syn_flood: Option<SynFlood>,
    /// `connections`.
    pub connections: Option<ConnectionLimits>,
    /// `amplification`.
    pub amplification: Amplification,
    /// `icmp.rate`, packets a second.
    pub icmp_rate: Option<u64>,
}

/// `protection.anti_spoofing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AntiSpoofing {
    /// `off`: no reverse-path check.
    Off,
    /// `loose`: some route leads to the source.
    Loose,
    /// `strict`: the route to the source leads out of the port it came in on.
    Strict,
}

/// `protection.syn_flood`: SYNs a second; 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynFlood {
    /// `per_source_rate`.
    pub per_source_rate: u64,
    /// `global_rate`.
    pub global_rate: u64,
    /// `proxy_threshold`.
    pub proxy_threshold: u64,
}

/// `protection.connections`; 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// `per_source`.
    pub per_source: u64,
    /// `new_per_source_rate`, a second.
    pub new_per_source_rate: u64,
}

/// `protection.amplification`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amplification {
    /// `block_ntp_monlist`. Default true.
    pub block_ntp_monlist: bool,
    /// `block_memcached`. Default true.
    pub block_memcached: bool,
    /// `dns_responses_per_destination`, a second; `None`: no limit.
    pub dns_responses_per_destination: Option<u64>,
}

/// `management`.
#[derive(Clone, Debug)]
pub struct Management {
    /// `listen`.
    pub listen: Option<std::net::SocketAddr>,
    /// `tls`.
    pub tls: Option<ManagementTls>,
    /// `roles`.
    pub roles: Vec<Role>,
    /// `metrics.listen`.
    pub metrics: Option<std::net::SocketAddr>,
}

/// `management.tls`; paths are relative to the configuration file and resolved here.
#[derive(Clone, Debug)]
pub struct ManagementTls {
    /// `certificate`.
    pub certificate: PathBuf,
    /// `key`.
    pub key: PathBuf,
    /// `client_ca`.
    pub client_ca: PathBuf,
}

/// One of `management.roles`.
#[derive(Clone, Debug)]
pub struct Role {
    /// `subject`: a client certificate's subject common name.
    pub subject: String,
    /// `role`.
    pub role: RoleKind,
}

/// `management.roles[].role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// `operator`.
    Operator,
    /// `reader`.
    Reader,
}

/// `logs`.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// `flow`.
    pub flow: Option<FlowLog>,
    /// `audit.path`.
    pub audit: Option<PathBuf>,
}

/// `logs.flow`.
#[derive(Clone, Debug)]
pub struct FlowLog {
    /// `path`.
    pub path: PathBuf,
    /// `interval`. Default 60 s.
    pub interval: Duration,
    /// `format`: `vnet_flow_log`.
    pub format: FlowLogFormat,
}

/// `logs.flow.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowLogFormat {
    /// `vnet_flow_log`: virtual-network flow log version 4.
    VnetFlowLog,
}
