//! A client and a backend on both sides of the SYN proxy that send whatever an input says, at whatever time, and what may come out.
//!
//! An input is a list of steps. The numbers in them are relative to what the connection is at, so that an input reaches deep into it; what
//! leaves is held against what came in and against what was answered before, by other code than the proxy's.

mod model;
mod wire;

use super::Seed;
use crate::packet::{OnWire, Packet, error, tcp};
use crate::ports::{Port, network};
use crate::rig::{self, Rig};
use model::{Model, Received};
use nva_dataplane::snapshot::Snapshot;
use pmd_shim::{Burst, Frame, Pool};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Steps taken from one input.
const STEPS_MAX: usize = 96;
/// Bytes of a step in front of its options and data.
const STEP: usize = 12;

/// Clients with the frontends that they speak to.
pub(super) const PAIRS: [(&str, &str); 4] = [
    ("198.51.100.9:40000", "203.0.113.10:443"),
    ("198.51.100.9:40001", "203.0.113.10:443"),
    ("[2001:db8:9::9]:40000", "[2001:db8:113::10]:443"),
    ("[2001:db8:9::9]:40001", "[2001:db8:113::10]:443"),
];
/// The backend of each.
pub(super) const BACKENDS: [&str; 4] =
    ["10.2.0.4:8443", "10.2.0.4:8443", "[fd00:2::4]:8443", "[fd00:2::4]:8443"];

const SECTIONS: &str = r#"
virtual_network:
  address_space: [10.0.0.0/8, "fd00::/8"]
  subnets:
    - {name: web, prefixes: [10.2.0.0/24, "fd00:2::/64"], security_group: web-nsg}
security_groups:
  - name: web-nsg
    rules:
      - {name: web, priority: 100, direction: inbound, access: allow, protocol: tcp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: [8443]}
load_balancers:
  - name: public
    frontends: [{name: vip, address: 203.0.113.10}, {name: vip6, address: "2001:db8:113::10"}]
    pools:
      - {name: four, backends: [{name: a, address: 10.2.0.4}]}
      - {name: six, backends: [{name: c, address: "fd00:2::4"}]}
    rules:
      - {name: w, frontend: vip, protocol: tcp, port: 443, pool: four, backend_port: 8443, tcp_reset: true, syn_proxy: always}
      - {name: w6, frontend: vip6, protocol: tcp, port: 443, pool: six, backend_port: 8443, syn_proxy: always}
"#;

/// What a step does.
mod action {
    pub(super) const CLIENT: u8 = 0;
    pub(super) const BACKEND: u8 = 1;
    /// An ICMP error about what the client was sent last.
    pub(super) const ERROR_TO_BACKEND: u8 = 2;
    /// An ICMP error about what the backend was sent last.
    pub(super) const ERROR_TO_CLIENT: u8 = 3;
    pub(super) const TIME: u8 = 4;
    /// What a well-behaved client would send next.
    pub(super) const CLIENT_WELL: u8 = 5;
    /// What a well-behaved backend would.
    pub(super) const BACKEND_WELL: u8 = 6;
    /// As [`CLIENT`], with a byte of the segment broken.
    pub(super) const BROKEN: u8 = 7;
}

/// One step of an input.
pub(super) struct Step<'a> {
    action: u8,
    pair: usize,
    flags: u8,
    seq: i16,
    ack: i16,
    window: u16,
    arg: u16,
    options: &'a [u8],
    data: &'a [u8],
}

impl<'a> Step<'a> {
    /// Reads a step; the last one may be shorter than it says.
    fn read(input: &mut &'a [u8]) -> Option<Self> {
        let (&[what, flags, s1, s2, a1, a2, w1, w2, x1, x2, options, data], rest) =
            input.split_first_chunk::<STEP>()?;
        let (options, rest) = rest.split_at(usize::from(options % 41).min(rest.len()));
        let (data, rest) = rest.split_at(usize::from(data).min(rest.len()));
        *input = rest;
        Some(Self {
            action: what & 7,
            pair: usize::from(what >> 3 & 3),
            flags,
            seq: i16::from_le_bytes([s1, s2]),
            ack: i16::from_le_bytes([a1, a2]),
            window: u16::from_le_bytes([w1, w2]),
            arg: u16::from_le_bytes([x1, x2]),
            options,
            data,
        })
    }

    /// The segment that a side sends: numbers relative to what it would send next.
    fn segment(&self, ends: (&str, &str), (seq, ack): (u32, u32)) -> Packet {
        let seq = seq.wrapping_add_signed(self.seq.into());
        let ack = ack.wrapping_add_signed(self.ack.into());
        let packet = tcp(ends.0, ends.1).ack(seq, ack).window(self.window).tcp_options(self.options);
        let flags = self.flags;
        packet.data(self.data).traffic_class(self.arg as u8 & 3).segment(move |bytes| bytes[13] = flags)
    }
}

/// Any steps of clients, backends and routers, through the path.
///
/// # Panics
/// When what leaves is not what may leave.
pub fn splice(mut input: &[u8]) {
    static READY: OnceLock<(Arc<Snapshot>, Pool)> = OnceLock::new();
    let (snapshot, pool) =
        READY.get_or_init(|| (rig::compile(&rig::config(&network(SECTIONS))), rig::pool(512)));
    let mut world = World {
        rig: Rig::on(Arc::clone(snapshot), pool.clone(), 16, [7; 16]).with_orphans(),
        model: Model::default(),
    };
    for _ in 0..STEPS_MAX {
        let Some(step) = Step::read(&mut input) else { break };
        world.take(&step);
    }
    world.rig.settle();
    assert_eq!(world.rig.half_open(), 0, "handshakes that never end");
}

struct World {
    rig: Rig,
    model: Model,
}

impl World {
    fn take(&mut self, step: &Step<'_>) {
        let (client, vip) = PAIRS[step.pair];
        let backend = BACKENDS[step.pair];
        let talk = &mut self.model.talks[step.pair];
        match step.action {
            action::TIME => {
                // From nothing to four minutes, finer where timers are.
                self.rig.run_timers(Duration::from_millis(u64::from(step.flags).pow(3) / 64));
                self.check(None);
            }
            action::CLIENT | action::BROKEN => {
                let packet = step.segment((client, vip), talk.client_next());
                self.send(Port::Untrusted, step.pair, &packet, step.action == action::BROKEN, step.arg);
            }
            action::BACKEND => {
                let packet = step.segment((backend, client), talk.backend_next());
                self.send(Port::Trusted, step.pair, &packet, false, 0);
            }
            action::CLIENT_WELL => {
                let packet = talk.well_client(client, vip, step);
                self.send(Port::Untrusted, step.pair, &packet, false, 0);
            }
            action::BACKEND_WELL => {
                let packet = talk.well_backend(backend, client, step);
                self.send(Port::Trusted, step.pair, &packet, false, 0);
            }
            about => {
                let (port, from, last) = match about {
                    action::ERROR_TO_BACKEND => (Port::Untrusted, client, &talk.to_client),
                    _ => (Port::Trusted, backend, &talk.to_backend),
                };
                let Some(last) = last else { return };
                let mut quoted = last.clone();
                // The quote may be shorter than all of it, but never than eight bytes of the transport.
                let least = if quoted[0] >> 4 == 4 { 28 } else { 48 };
                let len = least + usize::from(step.arg) % (quoted.len() - least + 1);
                if step.flags & 1 != 0 {
                    quoted.truncate(len);
                }
                let source = from.parse::<std::net::SocketAddr>().expect("an end").ip().to_string();
                let about = tcp(BACKENDS[step.pair], PAIRS[step.pair].0);
                let to = wire::ends(last).0.to_string();
                let (kind, code) = match quoted[0] >> 4 {
                    4 => (
                        [3, 11, 12][usize::from(step.flags >> 1) % 3],
                        [4, 0, 0][usize::from(step.flags >> 1) % 3],
                    ),
                    _ => ([1, 2, 3, 4][usize::from(step.flags >> 1) % 4], 0),
                };
                let message = error(&source, &about, kind, code, 1300).to(&to).data(&quoted);
                self.send(port, step.pair, &message, false, 0);
            }
        }
    }

    fn send(&mut self, port: Port, pair: usize, packet: &Packet, is_broken: bool, place: u16) {
        let mut bytes = packet.received(port);
        if is_broken {
            let from = packet.transport_offset();
            let at = from + usize::from(place) % (bytes.len() - from);
            bytes[at] ^= 1 << (place >> 13);
        }
        let Some(frame) = self.rig.pool().clone().copy_from(&bytes) else { panic!("a frame is free") };
        self.model.sent(port, pair, &bytes, is_broken);
        let mut burst = Burst::new();
        burst.push(frame);
        self.rig.receive(port, &mut burst);
        self.check(Some(Received { port, pair, bytes, is_broken }));
    }

    fn check(&mut self, received: Option<Received>) {
        let sent: Vec<(Port, Vec<u8>)> =
            self.rig.take_sent().into_iter().map(|(port, frame)| (port, frame.bytes().to_vec())).collect();
        for (port, bytes) in &sent {
            self.model.left(received.as_ref(), *port, bytes);
        }
        assert!(sent.len() <= 2 || received.is_none(), "{} frames for one", sent.len());
        let most = self.rig.proved() + self.model.unproved;
        assert!(self.rig.flow_count() as u64 <= most, "state without a proof");
        assert!(self.rig.half_open() as u64 <= self.rig.proved(), "a handshake without a proof");
    }
}

/// A step as bytes.
fn step(action: u8, pair: u8, flags: u8, (seq, ack): (i16, i16), options: &[u8], data: &[u8]) -> Vec<u8> {
    let [s, a] = [seq, ack].map(i16::to_le_bytes);
    let head = [action | pair << 3, flags, s[0], s[1], a[0], a[1], 0, 4, 0, 0];
    [&head[..], &[options.len() as u8, data.len() as u8], options, data].concat()
}

/// Conversations to begin with.
pub fn splice_seeds() -> Vec<Seed> {
    let well = |who: u8, pair: u8, data: &[u8]| step(who, pair, 0, (0, 0), &[], data);
    let (client, backend) = (action::CLIENT_WELL, action::BACKEND_WELL);
    let opened = |pair: u8, sack: &[u8]| {
        let handshake = [
            well(client, pair, &[]),
            well(client, pair, &[]),
            well(backend, pair, &[]),
            well(client, pair, b"request"),
            well(backend, pair, b"answer"),
        ];
        let selective = step(action::CLIENT, pair, 0x10, (0, 0), sack, b"");
        [handshake.concat(), selective].concat()
    };
    let sack = [1, 1, 5, 10, 0, 0, 1, 0, 0, 0, 2, 0];
    let ends = [
        step(action::CLIENT, 0, 0x11, (0, 0), &[], b""),
        step(action::BACKEND, 0, 0x11, (0, 0), &[], b""),
        step(action::CLIENT, 0, 0x10, (1, 1), &[], b""),
    ];
    let errors = |pair: u8| {
        [
            step(action::ERROR_TO_BACKEND, pair, 0, (0, 0), &[], b""),
            step(action::ERROR_TO_CLIENT, pair, 1, (0, 0), &[], b""),
        ]
        .concat()
    };
    let silent = [well(client, 0, &[]), well(client, 0, &[]), step(action::TIME, 0, 110, (0, 0), &[], b"")];
    let refused =
        [well(client, 2, &[]), well(client, 2, &[]), step(action::BACKEND, 2, 0x14, (0, 0), &[], b"")];
    let unknown = step(action::CLIENT, 1, 0x02, (0, 0), &[2, 4, 4, 0, 30, 4, 1, 2, 253, 4, 1, 2], b"early");
    vec![
        ("conversation", [opened(0, &sack), errors(0), ends.concat()].concat()),
        (
            "conversation6",
            [opened(2, &sack), errors(2), step(action::CLIENT, 2, 0x02, (0, 0), &[], b"")].concat(),
        ),
        ("silent", [silent.concat(), step(action::TIME, 0, 160, (0, 0), &[], b"")].concat()),
        ("refused", refused.concat()),
        ("unknown-options", [unknown, step(action::CLIENT, 1, 0x10, (1, 1), &[], b"")].concat()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_reach_the_splice() {
        for (name, mut input) in splice_seeds().iter().map(|(name, bytes)| (name, bytes.as_slice())) {
            let snapshot = rig::compile(&rig::config(&network(SECTIONS)));
            let mut world =
                World { rig: Rig::on(snapshot, rig::pool(64), 16, [7; 16]), model: Model::default() };
            while let Some(step) = Step::read(&mut input) {
                world.take(&step);
            }
            let (proved, carried) = (world.rig.proved(), world.model.carried);
            match *name {
                "conversation" | "conversation6" => assert!(proved == 1 && carried > 3, "{name}: {carried}"),
                "silent" | "refused" => assert_eq!((proved, carried), (1, 0), "{name}"),
                _ => assert_eq!(proved, 0, "{name}"),
            }
        }
    }

    #[test]
    fn resets_are_few_whoever_asks_for_them() {
        let snapshot = rig::compile(&rig::config(&network(SECTIONS)));
        let mut rig = Rig::on(snapshot, rig::pool(64), 16, [7; 16]).with_orphans();
        let ask = |rig: &mut Rig, n: u32| {
            let client = format!("198.51.{}.{}:40000", n / 200, 1 + n % 200);
            let packets = [
                (Port::Untrusted, tcp(&client, PAIRS[0].1).ack(n, n)),
                (Port::Trusted, tcp(BACKENDS[0], &client).ack(n, n)),
            ];
            for (port, packet) in packets {
                let mut burst: Burst<_> =
                    rig.pool().clone().copy_from(&packet.received(port)).into_iter().collect();
                rig.receive(port, &mut burst);
                rig.take_sent();
            }
        };
        let answered = |rig: &Rig| {
            let hits = &rig.hits().0;
            ["reply invalid_cookie", "reply invalid_state"].map(|name| hits.get(name).copied().unwrap_or(0))
        };
        (0..400).for_each(|n| ask(&mut rig, n));
        assert_eq!(answered(&rig), [50, 50], "a hundred at once, to whatever end");
        rig.run_timers(Duration::from_millis(20));
        (0..400).for_each(|n| ask(&mut rig, n));
        assert_eq!(answered(&rig), [60, 60], "and a thousand a second");
        assert_eq!(rig.flow_count(), 0);
    }
}
