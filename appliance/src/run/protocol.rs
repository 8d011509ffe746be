//! What a running appliance and `nva show` say to each other: one JSON object a line, a request and its response.
//!
//! The reports are also what `nva show --json` prints, so their keys are a promise.

use nva_dataplane::counters::{HostCounters, PortCounters, SynCounters};
use nva_dataplane::verdict::DropReason;
use pmd_shim::QueueCounters;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The longest request in bytes, line end included.
pub(crate) const REQUEST_MAX: u64 = 4096;
/// The longest response that a client takes, in bytes.
pub(crate) const RESPONSE_MAX: u64 = 64 << 20;
/// The most flows in one response.
pub(crate) const FLOWS_MAX: usize = 65_536;

/// A question to the appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "show", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Counters of ports and workers: [`Stats`].
    Stats {},
    /// Open flows: [`Flows`].
    Flows {
        /// How many at most.
        limit: usize,
        /// Only those with this address at either end, before or after translation.
        #[serde(default)]
        address: Option<IpAddr>,
    },
    /// Security rules with their hits: [`Rules`].
    Rules {},
    /// Backends: [`Backends`].
    Backends {},
    /// What protects: [`Protection`].
    Protection {},
}

/// What the appliance answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response<T> {
    /// The report asked for.
    Ok(T),
    /// Why there is none.
    Error(String),
}

/// `nva show stats`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Name of the instance.
    pub(crate) name: String,
    /// Its process.
    pub(crate) pid: u32,
    /// Which configuration is published, counted from 1.
    pub(crate) generation: u32,
    /// Since the first frame could be forwarded.
    pub(crate) uptime_seconds: f64,
    /// Open flows.
    pub(crate) flows: u64,
    /// How many there can be.
    pub(crate) flow_capacity: u64,
    /// Flow records made.
    pub(crate) flows_created: u64,
    /// Flow records that an idle timeout ended.
    pub(crate) flows_expired: u64,
    /// Frames that the appliance sent by itself: requests for addresses, resets, and what the kernel's sockets sent.
    pub(crate) originated: u64,
    /// By port.
    pub(crate) ports: Vec<Port>,
    /// By tunnel of a gateway and its peer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tunnels: Vec<Tunnel>,
    /// All ports together.
    pub(crate) total: Traffic,
    /// By worker.
    pub(crate) workers: Vec<Worker>,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Port {
    /// Its name.
    pub(crate) port: String,
    /// The device behind it.
    pub(crate) device: String,
    /// How it is driven, in words.
    pub(crate) driver: String,
    /// Whether frames can pass the device's link; absent where the port has no device of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) link_up: Option<bool>,
    /// Its counters.
    #[serde(flatten)]
    pub(crate) traffic: Traffic,
    /// Its host interface, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<HostTraffic>,
}

/// One tunnel, to one of its peers. Its packets are counted at the port that carries it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tunnel {
    /// Its name.
    pub(crate) tunnel: String,
    /// The side that it leads to.
    pub(crate) trust: String,
    /// The network.
    pub(crate) vni: u32,
    /// The UDP port.
    pub(crate) udp_port: u16,
    /// This end.
    pub(crate) address: IpAddr,
    /// The other end.
    pub(crate) peer: IpAddr,
    /// Packets that came in by it.
    pub(crate) received: u64,
    /// Of these, dropped.
    pub(crate) dropped: u64,
    /// Packets that left by it.
    pub(crate) transmitted: u64,
}

/// What passed between a port and the kernel's sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostTraffic {
    /// The host interface.
    pub(crate) interface: String,
    /// Frames given to the kernel.
    pub(crate) to_kernel: u64,
    /// Dropped as `tx_queue_full`, since too many waited for the kernel.
    pub(crate) to_kernel_full: u64,
    /// Sent by the kernel and passed on.
    pub(crate) from_kernel: u64,
    /// Sent by the kernel and dropped, since no buffer was free.
    pub(crate) from_kernel_full: u64,
    /// Sent by the kernel and dropped, since it must not or cannot leave.
    pub(crate) refused: u64,
}

impl HostTraffic {
    /// From what the path counted.
    pub(crate) fn new(interface: String, counters: &HostCounters) -> Self {
        let HostCounters { to_kernel, to_kernel_full, from_kernel, from_kernel_full, refused } = *counters;
        Self { interface, to_kernel, to_kernel_full, from_kernel, from_kernel_full, refused }
    }
}

/// Frames. received = forwarded + replied + consumed + held + dropped, summed over reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// Frames received.
    pub(crate) received: u64,
    /// Left through some port.
    pub(crate) forwarded: u64,
    /// Answered by the appliance.
    pub(crate) replied: u64,
    /// Taken in, and nothing sent for them.
    pub(crate) consumed: u64,
    /// Waiting now.
    pub(crate) held: u64,
    /// Dropped, by reason.
    pub(crate) dropped: Dropped,
    /// Sent out of this port, of whatever origin.
    pub(crate) transmitted: u64,
    /// Bytes received.
    pub(crate) rx_bytes: u64,
    /// Lost before the appliance saw them: the receive ring was full.
    pub(crate) rx_missed: u64,
    /// Lost because no frame was free to receive into.
    pub(crate) rx_no_buffer: u64,
    /// Failures that the device reported while receiving.
    pub(crate) rx_errors: u64,
    /// Bytes sent.
    pub(crate) tx_bytes: u64,
    /// Refused by a full transmit queue.
    pub(crate) tx_refused: u64,
    /// Failures that the device reported while sending.
    pub(crate) tx_errors: u64,
}

impl Traffic {
    /// From what path and queues counted.
    pub(crate) fn new(port: &PortCounters, rx: &QueueCounters, tx: &QueueCounters) -> Self {
        Self {
            received: port.received,
            forwarded: port.forwarded,
            replied: port.replied,
            consumed: port.consumed,
            held: port.held,
            dropped: Dropped(port.dropped),
            transmitted: port.transmitted,
            rx_bytes: rx.bytes,
            rx_missed: rx.missed,
            rx_no_buffer: rx.no_buffer,
            rx_errors: rx.errors,
            tx_bytes: tx.bytes,
            tx_refused: tx.missed,
            tx_errors: tx.errors,
        }
    }

    /// Adds another port's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.forwarded += other.forwarded;
        self.replied += other.replied;
        self.consumed += other.consumed;
        self.held += other.held;
        self.dropped.0.iter_mut().zip(other.dropped.0).for_each(|(sum, n)| *sum += n);
        self.transmitted += other.transmitted;
        self.rx_bytes += other.rx_bytes;
        self.rx_missed += other.rx_missed;
        self.rx_no_buffer += other.rx_no_buffer;
        self.rx_errors += other.rx_errors;
        self.tx_bytes += other.tx_bytes;
        self.tx_refused += other.tx_refused;
        self.tx_errors += other.tx_errors;
    }

    /// All verdicts together.
    pub(crate) fn verdicts(&self) -> u64 {
        self.forwarded + self.replied + self.consumed + self.held + self.dropped.total()
    }
}

/// Drops by reason; in JSON an object with every reason's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropped(pub(crate) [u64; DropReason::COUNT]);

impl Dropped {
    /// Over all reasons.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Reasons with their counts, in the order of reports.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().copied().zip(self.0)
    }
}

impl Default for Dropped {
    fn default() -> Self {
        Self([0; DropReason::COUNT])
    }
}

impl Serialize for Dropped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (reason, count) in self.iter() {
            map.serialize_entry(reason.name(), &count)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Dropped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reasons;
        impl<'de> Visitor<'de> for Reasons {
            type Value = Dropped;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of drop reasons")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Dropped, A::Error> {
                let mut dropped = Dropped::default();
                while let Some((name, count)) = map.next_entry::<String, u64>()? {
                    let place = DropReason::ALL.iter().position(|reason| reason.name() == name);
                    let cell = place.and_then(|place| dropped.0.get_mut(place));
                    *cell.ok_or_else(|| de::Error::custom(format_args!("{name} is no drop reason")))? = count;
                }
                Ok(dropped)
            }
        }
        deserializer.deserialize_map(Reasons)
    }
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Worker {
    /// Its number.
    pub(crate) worker: usize,
    /// The core that it is pinned to.
    pub(crate) core: usize,
    /// Open flows that it owns.
    pub(crate) flows: u64,
    /// For how long it has not turned; null when it does.
    pub(crate) stalled_seconds: Option<f64>,
}

/// `nva show flows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flows {
    /// Open flows in all, whether listed or not.
    pub(crate) open: u64,
    /// Whether there are more that fit the question.
    pub(crate) more: bool,
    /// The flows.
    pub(crate) flows: Vec<Flow>,
}

/// One open flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flow {
    /// `tcp`, `udp`, `icmp`, or the protocol's number.
    pub(crate) protocol: String,
    /// Who sent the first packet.
    pub(crate) from: End,
    /// To whom.
    pub(crate) to: End,
    /// The destination after translation; without one, the same as `to`.
    pub(crate) translated: End,
    /// `half_open`, `established` or `closing` for TCP; `open` for others.
    pub(crate) state: String,
    /// The port towards `from`, once known.
    pub(crate) from_port: Option<String>,
    /// The port towards `to`, once known.
    pub(crate) to_port: Option<String>,
    /// The backend that it was balanced to.
    pub(crate) backend: Option<String>,
    /// The security rule that allowed it, as `GROUP/RULE`.
    pub(crate) rule: Option<String>,
    /// What `from` sent.
    pub(crate) sent: Amount,
    /// What came back.
    pub(crate) answered: Amount,
    /// Since its first packet.
    pub(crate) age_seconds: f64,
    /// Until it ends if no packet comes.
    pub(crate) expires_seconds: f64,
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Its port; for ICMP the identifier.
    pub(crate) port: u16,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

/// How much went in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Amount {
    /// Packets.
    pub(crate) packets: u64,
    /// Bytes of IP packets.
    pub(crate) bytes: u64,
}

impl Flow {
    /// Whether this address is at either end, before or after translation.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        [self.from, self.to, self.translated].iter().any(|end| end.address == address)
    }
}

/// `nva show rules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rules {
    /// By group and direction, in the order in which they are tried.
    pub(crate) rules: Vec<Rule>,
}

/// One of `nva show rules`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// Its group.
    pub(crate) group: String,
    /// Its name.
    pub(crate) rule: String,
    /// `inbound` or `outbound`.
    pub(crate) direction: String,
    /// The lowest that matches decides.
    pub(crate) priority: u32,
    /// `allow` or `deny`.
    pub(crate) access: String,
    /// Whether it is one of the cloud's default rules.
    pub(crate) default: bool,
    /// New flows that it decided.
    pub(crate) hits: u64,
    /// Since the last of them began; null: it was never hit.
    pub(crate) last_hit_seconds: Option<f64>,
}

/// `nva show backends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backends {
    /// In the order of the configuration.
    pub(crate) backends: Vec<Backend>,
}

/// One of `nva show backends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backend {
    /// Its load balancer.
    pub(crate) load_balancer: String,
    /// Its pool.
    pub(crate) pool: String,
    /// Its name.
    pub(crate) backend: String,
    /// Its address.
    pub(crate) address: IpAddr,
    /// Its share against the others'.
    pub(crate) weight: u16,
    /// `none`, `up` or `down`.
    pub(crate) admin_state: String,
    /// Whether it may get new flows.
    pub(crate) eligible: bool,
    /// New flows given to it since the start.
    pub(crate) flows_created: u64,
    /// What it agreed to in handshakes with the SYN proxy; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tcp_options: Option<TcpOptions>,
}

/// What a backend agrees to; a key is absent where it was never asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TcpOptions {
    /// The largest segment that it takes, in bytes.
    pub(crate) mss: u16,
    /// The shift of its windows; -1: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window_scale: Option<i8>,
    /// It understands selective acknowledgements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sack: Option<bool>,
    /// It sends timestamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamps: Option<bool>,
    /// It notifies congestion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ecn: Option<bool>,
}

/// `nva show protection`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Protection {
    /// The SYN proxy.
    pub(crate) syn_proxy: SynProxy,
    /// Whose clients prove themselves.
    pub(crate) asking: Vec<Asking>,
}

/// Something whose clients prove themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asking {
    /// What it is: a rule or an inbound NAT entry with its load balancer, a subnet, a gateway's untrusted tunnel.
    pub(crate) of: String,
    /// When: `auto` or `always`.
    pub(crate) mode: String,
    /// They have to now: always, or as it is flooded.
    pub(crate) now: bool,
}

/// The SYN proxy, since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SynProxy {
    /// SYNs answered with a cookie.
    pub(crate) cookies_sent: u64,
    /// Acknowledgements that proved a cookie.
    pub(crate) cookies_valid: u64,
    /// Acknowledgements that should have proved one and did not.
    pub(crate) cookies_invalid: u64,
    /// Connections spliced.
    pub(crate) spliced: u64,
    /// Handshakes that the backend refused.
    pub(crate) refused: u64,
    /// Handshakes that the backend did not answer.
    pub(crate) unanswered: u64,
    /// Resets for segments of connections that were not known.
    pub(crate) resets: u64,
    /// Handshakes on their way now.
    pub(crate) half_open: u64,
}

impl SynProxy {
    /// From what the path counted.
    pub(crate) fn new(counters: &SynCounters) -> Self {
        let SynCounters {
            cookies_sent,
            cookies_valid,
            cookies_invalid,
            spliced,
            refused,
            unanswered,
            resets,
            half_open,
        } = *counters;
        Self { cookies_sent, cookies_valid, cookies_invalid, spliced, refused, unanswered, resets, half_open }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_small_objects() {
        let line = |request: &Request| serde_json::to_string(request).expect("plain data");
        assert_eq!(line(&Request::Stats {}), r#"{"show":"stats"}"#);
        let flows = Request::Flows { limit: 5, address: Some([192, 0, 2, 1].into()) };
        assert_eq!(line(&flows), r#"{"show":"flows","limit":5,"address":"192.0.2.1"}"#);
        let back: Request = serde_json::from_str(&line(&flows)).expect("as written");
        assert_eq!(back, flows);
        for line in
            [r#"{"show":"secrets"}"#, r#"{"show":"flows"}"#, r#"{"show":"flows","limit":-1}"#, "[]", ""]
        {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn drops_are_an_object_with_every_reason_in_order() {
        let mut dropped = Dropped::default();
        dropped.0[DropReason::DeniedByRule.index()] = 3;
        let text = serde_json::to_string(&dropped).expect("plain data");
        assert!(text.starts_with(r#"{"malformed":0,"bad_checksum":0,"#), "{text}");
        assert!(text.contains(r#""denied_by_rule":3"#), "{text}");
        assert_eq!(serde_json::from_str::<Dropped>(&text).expect("as written"), dropped);
        assert_eq!((dropped.total(), dropped.iter().filter(|(_, n)| *n > 0).count()), (3, 1));
        assert!(serde_json::from_str::<Dropped>(r#"{"bad_luck":1}"#).is_err());
    }

    #[test]
    fn a_ports_counters_stand_beside_its_name() {
        let port = PortCounters { received: 3, forwarded: 1, held: 2, ..PortCounters::default() };
        let rx = QueueCounters { packets: 3, bytes: 180, missed: 4, no_buffer: 5, errors: 6 };
        let traffic = Traffic::new(&port, &rx, &QueueCounters { missed: 7, ..QueueCounters::default() });
        assert_eq!(traffic.received, traffic.verdicts());
        let mut port = Port {
            port: "trusted".into(),
            device: "eth2".into(),
            driver: "packet sockets".into(),
            link_up: None,
            traffic,
            host: None,
        };
        let text = serde_json::to_string(&port).expect("plain data");
        assert!(!text.contains("host") && !text.contains("link_up"), "{text}");
        let counters = HostCounters::from_numbers([11, 12, 13, 14, 15]);
        port.host = Some(HostTraffic::new("nva-trusted".into(), &counters));
        let text = serde_json::to_string(&port).expect("plain data");
        assert!(
            text.contains(r#""host":{"interface":"nva-trusted","to_kernel":11,"to_kernel_full":12"#),
            "{text}"
        );
        for part in [r#""port":"trusted""#, r#""received":3"#, r#""rx_missed":4"#, r#""tx_refused":7"#] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(serde_json::from_str::<Port>(&text).expect("as written"), port);
    }
}
