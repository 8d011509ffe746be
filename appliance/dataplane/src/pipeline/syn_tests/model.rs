//! Two hosts that speak TCP through the proxy, over wires that lose, double and reorder: every byte arrives once and in order, and the
//! connection ends.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// As much of TCP as two hosts need to move bytes and to close (RFC 9293), with the checks that a strict one makes.
#[derive(Debug)]
struct Host {
    is_client: bool,
    ends: Ends,
    state: State,
    iss: u32,
    una: u32,
    nxt: u32,
    /// The highest number that was ever sent.
    max: u32,
    rcv: u32,
    out: Vec<u8>,
    input: Vec<u8>,
    peer_closed: bool,
    /// What the peer lets it send, in bytes.
    window: u32,
    traits: Traits,
    /// Both have window scales, and the peer's.
    peer_scale: Option<u8>,
    has_timestamps: bool,
    clock_offset: u32,
    recent: u32,
    mss: usize,
    timer_ms: u64,
    tries: u32,
    is_reset: bool,
    sending: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Listen,
    SynSent,
    SynReceived,
    Established,
}

/// What a host offers.
#[derive(Clone, Copy, Debug)]
struct Traits {
    scale: Option<u8>,
    timestamps: bool,
    sack: bool,
    mss: u16,
    window: u16,
}

impl Host {
    fn new(is_client: bool, ends: Ends, traits: Traits, iss: u32, clock_offset: u32, out: Vec<u8>) -> Self {
        Self {
            is_client,
            ends,
            state: State::Listen,
            iss,
            una: iss,
            nxt: iss,
            max: iss,
            rcv: 0,
            out,
            input: Vec::new(),
            peer_closed: false,
            window: 0,
            traits,
            peer_scale: None,
            has_timestamps: traits.timestamps,
            clock_offset,
            recent: 0,
            mss: 536,
            timer_ms: 0,
            tries: 0,
            is_reset: false,
            sending: Vec::new(),
        }
    }

    /// The number of the FIN.
    fn fin(&self) -> u32 {
        self.iss.wrapping_add(1 + self.out.len() as u32)
    }

    fn is_done(&self) -> bool {
        self.peer_closed && self.state == State::Established && self.una == self.fin().wrapping_add(1)
    }

    fn clock(&self, now_ms: u64) -> u32 {
        (now_ms as u32).wrapping_add(self.clock_offset)
    }

    fn send(&mut self, now_ms: u64, seq: u32, flags: u8, payload: &[u8]) {
        let builder = if self.is_client { from_client(self.ends) } else { from_backend(self.ends) };
        let is_syn = flags & TcpFlags::SYN != 0;
        let mut options = Vec::new();
        if is_syn {
            options.extend([2, 4]);
            options.extend(self.traits.mss.to_be_bytes());
            // A server agrees to what was offered, no more.
            if let Some(scale) = self.traits.scale.filter(|_| self.is_client || self.peer_scale.is_some()) {
                options.extend([1, 3, 3, scale]);
            }
            if self.traits.sack {
                options.extend([1, 1, 4, 2]);
            }
        }
        if self.has_timestamps {
            options.extend(timestamps(self.clock(now_ms), self.recent));
        }
        // Windows of SYNs are in bytes.
        let shift = if is_syn { 0 } else { self.peer_scale.and(self.traits.scale).unwrap_or(0) };
        let window = (u32::from(self.traits.window) >> shift) as u16;
        let frame = builder.flags(flags).seq(seq, self.rcv).window(window).tcp_options(&options);
        self.sending.push(frame.payload(payload).build());
        let len = payload.len() as u32 + u32::from(flags & (TcpFlags::SYN | TcpFlags::FIN) != 0);
        let end = seq.wrapping_add(len);
        if (end.wrapping_sub(self.max) as i32) > 0 {
            self.max = end;
        }
    }

    fn connect(&mut self, now_ms: u64) {
        self.state = State::SynSent;
        self.nxt = self.iss.wrapping_add(1);
        self.send(now_ms, self.iss, TcpFlags::SYN, &[]);
        self.timer_ms = now_ms + 1_000;
    }

    fn acknowledge(&mut self, now_ms: u64) {
        self.send(now_ms, self.nxt, TcpFlags::ACK, &[]);
    }

    /// Sends what the window lets it.
    fn push(&mut self, now_ms: u64) {
        let room = self.mss - if self.has_timestamps { 12 } else { 0 };
        loop {
            let left = self.una.wrapping_add(self.window).wrapping_sub(self.nxt) as i32;
            let at = self.nxt.wrapping_sub(self.iss.wrapping_add(1)) as usize;
            if self.state != State::Established || left <= 0 || at > self.out.len() {
                return;
            }
            let len = (self.out.len() - at).min(room).min(left as usize);
            let closes = at + len == self.out.len() && len < left as usize;
            if len == 0 && !closes {
                return;
            }
            let payload = self.out[at..at + len].to_vec();
            let flags = TcpFlags::ACK | if closes { TcpFlags::FIN } else { 0 };
            let seq = self.nxt;
            self.nxt = self.nxt.wrapping_add(len as u32 + u32::from(closes));
            self.send(now_ms, seq, flags, &payload);
        }
    }

    fn tick(&mut self, now_ms: u64) {
        if now_ms < self.timer_ms || self.is_reset {
            return;
        }
        self.tries += 1;
        self.timer_ms = now_ms + (200 << self.tries.min(3));
        match self.state {
            State::Listen => {}
            State::SynSent => self.send(now_ms, self.iss, TcpFlags::SYN, &[]),
            State::SynReceived => self.send(now_ms, self.iss, SYN_ACK, &[]),
            State::Established if self.una == self.fin().wrapping_add(1) => {}
            // A probe of a closed window, as Linux sends it.
            State::Established if self.window == 0 => {
                self.send(now_ms, self.una.wrapping_sub(1), TcpFlags::ACK, &[])
            }
            State::Established => {
                self.nxt = self.una;
                self.push(now_ms);
            }
        }
    }

    fn receive(&mut self, now_ms: u64, frame: &[u8]) {
        let [protocol_at, message_at] = if self.ends.v6 { [20, 54] } else { [23, 34] };
        let is_tcp = frame[protocol_at] == 6;
        if !is_tcp {
            // The way is narrower than it knew.
            let mtu =
                u32::from_be_bytes(*frame[message_at + 4..].first_chunk().expect("an error has eight bytes"));
            self.mss = mtu as usize - if self.ends.v6 { 60 } else { 40 };
            self.nxt = self.una;
            self.push(now_ms);
            return;
        }
        let heard = heard(frame);
        let Heard { tcp, options, payload, .. } = &heard;
        if self.is_reset {
            return;
        }
        if tcp.flags.any(TcpFlags::RST) {
            let fits = match self.state {
                State::SynSent => tcp.ack == self.iss.wrapping_add(1),
                _ => tcp.seq == self.rcv,
            };
            self.is_reset |= fits;
            return;
        }
        if let Some((_, echo)) = options.timestamps.filter(|_| tcp.flags.any(TcpFlags::ACK)) {
            // Only what it sent itself can come back (RFC 7323, 4.1).
            let age = self.clock(now_ms).wrapping_sub(echo);
            assert!(self.has_timestamps && age < 400_000, "{heard:?} echoes what was never sent");
        }
        match self.state {
            State::Listen | State::SynReceived if tcp.flags.is_initial_syn() && !self.is_client => {
                self.begin(tcp, options);
                self.state = State::SynReceived;
                self.nxt = self.iss.wrapping_add(1);
                self.send(now_ms, self.iss, SYN_ACK, &[]);
                self.timer_ms = now_ms + 1_000;
                return;
            }
            State::Listen => return,
            State::SynSent => {
                if tcp.flags.0 & SYN_ACK != SYN_ACK || tcp.ack != self.iss.wrapping_add(1) {
                    return;
                }
                self.begin(tcp, options);
                self.state = State::Established;
                self.una = tcp.ack;
                self.acknowledge(now_ms);
                self.push(now_ms);
                return;
            }
            State::SynReceived if tcp.ack == self.iss.wrapping_add(1) && !tcp.flags.any(TcpFlags::SYN) => {
                self.state = State::Established;
                self.una = tcp.ack;
                self.window = self.in_bytes(tcp.window);
            }
            State::SynReceived => return,
            State::Established if tcp.flags.any(TcpFlags::SYN) => {
                // A challenge (RFC 5961, 4.2).
                self.acknowledge(now_ms);
                return;
            }
            State::Established => {}
        }
        self.take(now_ms, tcp, options, payload);
    }

    /// Takes over the peer's SYN.
    fn begin(&mut self, tcp: &Tcp, options: &SynOptions) {
        self.rcv = tcp.seq.wrapping_add(1);
        self.window = tcp.window.into();
        self.peer_scale = options.window_scale.filter(|_| self.traits.scale.is_some());
        self.has_timestamps = self.traits.timestamps && options.timestamps.is_some();
        self.recent = options.timestamps.map_or(0, |(value, _)| value);
        self.mss = options.mss.unwrap_or(536).into();
        self.tries = 0;
    }

    fn in_bytes(&self, window: u16) -> u32 {
        u32::from(window) << self.peer_scale.unwrap_or(0)
    }

    fn take(&mut self, now_ms: u64, tcp: &Tcp, options: &SynOptions, payload: &[u8]) {
        assert!(payload.len() <= usize::from(self.traits.mss), "a segment is larger than was agreed");
        if let (true, Some((value, _))) = (self.has_timestamps, options.timestamps) {
            if (value.wrapping_sub(self.recent) as i32) < 0 {
                // Older than what came before (RFC 7323, 5.3).
                self.acknowledge(now_ms);
                return;
            }
            if (tcp.seq.wrapping_sub(self.rcv) as i32) <= 0 {
                self.recent = value;
            }
        }
        let ahead = self.max.wrapping_sub(tcp.ack) as i32;
        assert!(ahead >= 0, "{tcp:?} acknowledges what was never sent, beyond {}", self.max);
        if (tcp.ack.wrapping_sub(self.una) as i32) >= 0 {
            if tcp.ack != self.una {
                self.una = tcp.ack;
                self.tries = 0;
                self.timer_ms = now_ms + 200;
            }
            if (self.nxt.wrapping_sub(self.una) as i32) < 0 {
                self.nxt = self.una;
            }
            self.window = self.in_bytes(tcp.window);
        }
        let has_fin = tcp.flags.any(TcpFlags::FIN);
        let offset = self.rcv.wrapping_sub(tcp.seq) as i32;
        let wants_answer = !payload.is_empty() || has_fin || offset != 0;
        if offset >= 0 && offset as usize <= payload.len() && !self.peer_closed {
            self.input.extend(&payload[offset as usize..]);
            self.rcv = tcp.seq.wrapping_add(payload.len() as u32);
            if has_fin {
                self.rcv = self.rcv.wrapping_add(1);
                self.peer_closed = true;
            }
        }
        let before = self.sending.len();
        self.push(now_ms);
        if wants_answer && self.sending.len() == before {
            self.acknowledge(now_ms);
        }
    }
}

/// Random numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20) % bound
    }

    fn in_hundred(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The four wires: client to appliance, appliance to client, and the same of the backend.
struct World {
    rig: Rig,
    hosts: [Host; 2],
    wires: [VecDeque<Vec<u8>>; 4],
    random: Random,
    trouble: u64,
}

impl World {
    fn now_ms(&self) -> u64 {
        self.rig.now.millis()
    }

    fn put(&mut self, left: Vec<(PortId, Vec<u8>)>) {
        for (port, frame) in left {
            self.wires[1 + 2 * port.index()].push_back(frame);
        }
    }

    fn collect(&mut self) {
        for (host, wire) in [(0, 0), (1, 2)] {
            let frames = core::mem::take(&mut self.hosts[host].sending);
            self.wires[wire].extend(frames);
        }
    }

    /// One frame from some wire to its end, or time goes by.
    fn step(&mut self) {
        let busy: Vec<usize> = (0..4).filter(|wire| !self.wires[*wire].is_empty()).collect();
        if busy.is_empty() || self.random.in_hundred(5) {
            let ms = 1 + self.random.below(if busy.is_empty() { 300 } else { 20 });
            let left = self.rig.pass(Duration::from_millis(ms));
            self.put(left);
            let now = self.now_ms();
            self.hosts.iter_mut().for_each(|host| host.tick(now));
            self.collect();
            return;
        }
        let wire = busy[self.random.below(busy.len() as u64) as usize];
        let reorders = self.random.in_hundred(self.trouble);
        let at = if reorders { self.random.below(self.wires[wire].len() as u64) as usize } else { 0 };
        let Some(frame) = self.wires[wire].remove(at) else { return };
        if self.random.in_hundred(self.trouble) {
            return;
        }
        if self.random.in_hundred(self.trouble) {
            self.wires[wire].push_back(frame.clone());
        }
        let now = self.now_ms();
        match wire {
            0 | 2 => {
                let (_, left) = self.rig.send(PortId(wire as u16 / 2), &frame);
                self.put(left);
            }
            1 | 3 => self.hosts[wire / 2].receive(now, &frame),
            _ => {}
        }
        self.collect();
    }

    fn is_over(&self) -> bool {
        self.hosts.iter().all(Host::is_done) || self.hosts.iter().any(|host| host.is_reset)
    }
}

fn traits() -> impl Strategy<Value = Traits> {
    let scale = prop::option::weighted(0.8, 0u8..10);
    (scale, prop::bool::weighted(0.7), any::<bool>(), 600u16..1460, 2_000u16..)
        .prop_map(|(scale, timestamps, sack, mss, window)| Traits { scale, timestamps, sack, mss, window })
}

proptest! {
    #[test]
    fn every_byte_arrives_once_and_the_connection_ends(
        v6: bool, client in traits(), backend in traits(), numbers: (u32, u32), clocks: (u32, u32), lens in (0usize..6_000, 0usize..6_000),
        seed in 1u64.., trouble in 0u64..15,
    ) {
        let ends = if v6 { V6 } else { V4 };
        // Over IPv6 no segment is smaller than the least link asks for.
        let at_least = |traits: Traits| Traits { mss: if v6 { traits.mss.max(1_240) } else { traits.mss }, ..traits };
        let data = |len: usize, salt: usize| (0..len).map(|n| (n * 31 + salt) as u8).collect::<Vec<u8>>();
        let hosts = [
            Host::new(true, ends, at_least(client), numbers.0, clocks.0, data(lens.0, 1)),
            Host::new(false, ends, at_least(backend), numbers.1, clocks.1, data(lens.1, 2)),
        ];
        let mut world = World { rig: Rig::new(), hosts, wires: Default::default(), random: Random(seed), trouble };
        let now = world.now_ms();
        world.hosts[0].connect(now);
        world.collect();
        let mut steps = 0;
        while !world.is_over() && steps < 60_000 {
            world.step();
            steps += 1;
        }
        prop_assert!(world.is_over(), "it never ends: {:?}", world.hosts.iter().map(|host| (host.state, host.una.wrapping_sub(host.iss), host.out.len(), host.window, host.peer_closed)).collect::<Vec<_>>());
        let [client, backend] = &world.hosts;
        let was_reset = client.is_reset || backend.is_reset;
        // Only a backend that the proxy could not reach is given up.
        prop_assert!(!was_reset || world.rig.pipeline.counters().syn.unanswered > 0 && backend.input.is_empty());
        if !was_reset {
            prop_assert_eq!(&client.input, &backend.out);
            prop_assert_eq!(&backend.input, &client.out);
        }
        // What is still on the wires arrives; then nothing is left.
        world.trouble = 0;
        for _ in 0..500 {
            world.step();
        }
        world.rig.pass(Duration::from_secs(600));
        prop_assert_eq!((world.rig.pipeline.flow_count(), world.rig.balance()), (0, (0, 0)));
    }
}
