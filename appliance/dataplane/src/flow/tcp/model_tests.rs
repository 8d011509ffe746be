//! Two model ends talk over links that lose, duplicate and reorder, before the middle and behind it. Whatever a legal end sends must
//! pass; what nobody could have sent must not.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// xorshift64*: the whole run follows from the seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound.max(1))) as u32
    }

    fn percent(&mut self, chance: u32) -> bool {
        self.below(100) < chance
    }
}

type Segment = (Tcp, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Listen,
    SynSent,
    SynReceived,
    Open,
    /// It forgot the connection.
    Gone,
}

/// A legal end: sends a stream and a FIN, receives the other's. The state variables of RFC 9293, 3.3.1.
struct End {
    mode: Mode,
    initial: u32,
    unacknowledged: u32,
    next: u32,
    /// One past the highest number sent.
    sent: u32,
    send_edge: u32,
    stream: u32,
    received: u32,
    /// Received beyond a gap: start and end.
    beyond: BTreeMap<u32, u32>,
    peer_fin: Option<u32>,
    /// The farthest edge ever offered.
    offered: u32,
    buffer: u32,
    /// Its option, and the shift of the windows that it receives.
    scale: Option<u8>,
    peer_scale: Option<u8>,
    answer: bool,
    keep_alive: bool,
}

impl End {
    fn new(mode: Mode, random: &mut Random) -> Self {
        let initial = match random.below(3) {
            0 => 0u32.wrapping_sub(random.below(100_000)),
            1 => 0x8000_0000u32.wrapping_sub(random.below(100_000)),
            _ => random.next() as u32,
        };
        let scale = (random.percent(70)).then(|| random.below(15) as u8);
        Self {
            mode,
            initial,
            unacknowledged: initial,
            next: initial,
            sent: initial,
            send_edge: initial.wrapping_add(1),
            stream: random.below(300_000),
            received: 0,
            beyond: BTreeMap::new(),
            peer_fin: None,
            offered: 0,
            buffer: 1 + random.below(if scale.is_some() { 1 << 20 } else { 1 << 16 }),
            scale,
            peer_scale: None,
            answer: false,
            keep_alive: true,
        }
    }

    fn fin(&self) -> u32 {
        self.initial.wrapping_add(1).wrapping_add(self.stream)
    }

    fn done(&self) -> bool {
        self.unacknowledged == self.fin().wrapping_add(1)
            && self.peer_fin.is_some_and(|fin| after(self.received, fin))
    }

    /// The shift of its own windows, once both SYNs are known.
    fn shift(&self) -> u8 {
        self.scale.filter(|_| self.peer_scale.is_some()).unwrap_or(0)
    }

    fn header(&mut self, flags: u8, seq: u32, random: &mut Random) -> Tcp {
        let syn = flags & TcpFlags::SYN != 0;
        let acks = flags & TcpFlags::ACK != 0;
        // Now and then it takes an offer back, as it should not.
        let room = if random.percent(10) { random.below(self.buffer) } else { self.buffer };
        let edge = self.received.wrapping_add(room);
        let edge = if before(edge, self.offered) && random.percent(90) { self.offered } else { edge };
        let shift = if syn { 0 } else { self.shift() };
        let window = (edge.wrapping_sub(self.received) >> shift).min(65_535) as u16;
        let edge = self.received.wrapping_add(u32::from(window) << shift);
        if acks && after(edge, self.offered) {
            self.offered = edge;
        }
        Tcp {
            seq,
            ack: if acks { self.received } else { 0 },
            flags: TcpFlags(flags),
            window,
            window_scale: if syn { self.scale.filter(|_| !acks || self.peer_scale.is_some()) } else { None },
        }
    }

    /// What it sends of its own accord.
    fn speak(&mut self, random: &mut Random, out: &mut Vec<Segment>) {
        let timeout = random.percent(10);
        match self.mode {
            Mode::SynSent if timeout => {
                self.sent = self.initial.wrapping_add(1);
                self.next = self.sent;
                let syn = self.header(TcpFlags::SYN, self.initial, random);
                out.push((syn, 0));
            }
            Mode::SynReceived if timeout || self.answer => {
                self.answer = false;
                self.sent = self.initial.wrapping_add(1);
                self.next = self.sent;
                let syn = self.header(TcpFlags::SYN | TcpFlags::ACK, self.initial, random);
                out.push((syn, 0));
            }
            Mode::Open => self.speak_open(timeout, random, out),
            _ => {}
        }
    }

    fn speak_open(&mut self, timeout: bool, random: &mut Random, out: &mut Vec<Segment>) {
        for _ in 0..random.below(5) {
            if !self.send_at(self.next, random, out) {
                break;
            }
        }
        if timeout && self.unacknowledged != self.sent {
            if random.percent(50) {
                // From there on everything again.
                self.next = self.unacknowledged;
            }
            self.send_at(self.unacknowledged, random, out);
        } else if timeout && self.keep_alive && after(self.unacknowledged, self.initial.wrapping_add(1)) {
            let seq = self.unacknowledged.wrapping_sub(1);
            let keep_alive = self.header(TcpFlags::ACK, seq, random);
            out.push((keep_alive, random.below(2) as usize));
        }
        // A window that is closed, or was, is probed beyond its edge.
        if timeout && self.next == self.send_edge && before(self.next, self.fin()) {
            self.send(self.next, 1, random, out);
        }
        if core::mem::take(&mut self.answer) {
            let ack = self.header(TcpFlags::ACK, self.sent, random);
            out.push((ack, 0));
        }
    }

    fn send_at(&mut self, seq: u32, random: &mut Random, out: &mut Vec<Segment>) -> bool {
        let end = if before(self.send_edge, self.fin()) { self.send_edge } else { self.fin() };
        if before(seq, end) {
            let len = end.wrapping_sub(seq).min(1 + random.below(1_460));
            self.send(seq, len, random, out);
            return true;
        }
        if seq == self.fin() && after(self.send_edge, seq) {
            self.send(seq, 0, random, out);
            return true;
        }
        false
    }

    /// Sends data, with the FIN when it reaches it.
    fn send(&mut self, seq: u32, len: u32, random: &mut Random, out: &mut Vec<Segment>) {
        let mut end = seq.wrapping_add(len);
        let mut flags = TcpFlags::ACK;
        if end == self.fin() && (len == 0 || random.percent(50)) {
            flags |= TcpFlags::FIN;
            end = end.wrapping_add(1);
        }
        let header = self.header(flags, seq, random);
        out.push((header, len as usize));
        if after(end, self.sent) {
            self.sent = end;
        }
        if after(end, self.next) {
            self.next = end;
        }
    }

    /// Forgets the connection, with a RST.
    fn abort(&mut self, random: &mut Random, out: &mut Vec<Segment>) {
        let flags = if random.percent(50) { TcpFlags::RST | TcpFlags::ACK } else { TcpFlags::RST };
        let reset = self.header(flags, self.sent, random);
        out.push((reset, 0));
        self.mode = Mode::Gone;
    }

    fn hear(&mut self, (tcp, len): Segment, random: &mut Random, out: &mut Vec<Segment>) {
        let (syn, ack) = (tcp.flags.any(TcpFlags::SYN), tcp.flags.any(TcpFlags::ACK));
        if tcp.flags.any(TcpFlags::RST) {
            let exact = tcp.seq == self.received;
            self.answer |= !exact && self.mode == Mode::Open;
            if exact && matches!(self.mode, Mode::Open | Mode::SynReceived) {
                self.mode = Mode::Gone;
            }
            return;
        }
        match self.mode {
            Mode::Gone => {
                if ack {
                    let reset = Tcp {
                        seq: tcp.ack,
                        ack: 0,
                        flags: TcpFlags(TcpFlags::RST),
                        window: 0,
                        window_scale: None,
                    };
                    out.push((reset, 0));
                }
                return;
            }
            Mode::Listen | Mode::SynReceived if syn && !ack => {
                self.take_syn(&tcp);
                self.mode = Mode::SynReceived;
                return;
            }
            Mode::SynSent if syn && ack && tcp.ack == self.initial.wrapping_add(1) => {
                self.take_syn(&tcp);
                self.unacknowledged = tcp.ack;
                self.mode = Mode::Open;
                return;
            }
            Mode::SynReceived if ack && !syn && tcp.ack == self.initial.wrapping_add(1) => {
                self.mode = Mode::Open;
            }
            Mode::Open => {}
            _ => return,
        }
        self.take_data(&tcp, len as u32, random);
    }

    fn take_syn(&mut self, tcp: &Tcp) {
        self.received = tcp.seq.wrapping_add(1);
        self.offered = self.received;
        self.peer_scale = tcp.window_scale;
        self.send_edge = self.initial.wrapping_add(1).wrapping_add(u32::from(tcp.window));
        self.answer = true;
    }

    fn take_data(&mut self, tcp: &Tcp, len: u32, random: &mut Random) {
        let end = tcp.seq.wrapping_add(len);
        self.answer |= len > 0 || tcp.flags.any(TcpFlags::SYN | TcpFlags::FIN) || tcp.seq != self.received;
        let stale = after(tcp.seq, self.offered) || before(end, self.received.wrapping_sub(1));
        if stale || tcp.flags.any(TcpFlags::SYN) || after(tcp.ack, self.sent) {
            return;
        }
        if after(tcp.ack, self.unacknowledged) {
            self.unacknowledged = tcp.ack;
            if before(self.next, tcp.ack) {
                self.next = tcp.ack;
            }
        }
        if !before(tcp.ack, self.unacknowledged) {
            let shift = self.peer_scale.filter(|_| self.scale.is_some()).unwrap_or(0);
            self.send_edge = tcp.ack.wrapping_add(u32::from(tcp.window) << shift);
        }
        if tcp.flags.any(TcpFlags::FIN) {
            self.peer_fin = Some(end);
        }
        if random.percent(80) || tcp.seq == self.received {
            let known = self.beyond.entry(tcp.seq).or_insert(end);
            if after(end, *known) {
                *known = end;
            }
        }
        while let Some((&start, &end)) = self.beyond.iter().find(|(start, _)| !after(**start, self.received))
        {
            self.beyond.remove(&start);
            if after(end, self.received) {
                self.received = end;
            }
        }
        if self.peer_fin == Some(self.received) {
            self.received = self.received.wrapping_add(1);
        }
    }
}

/// What is on its way.
struct InFlight {
    arrives: u32,
    from: Side,
    before_middle: bool,
    segment: Segment,
}

struct Link {
    loss: u32,
    duplication: u32,
    delay: u32,
}

/// What a run saw.
#[derive(Debug, Default)]
struct Seen {
    passed: u32,
    injected: u32,
    finished: bool,
    aborted: bool,
}

struct World {
    random: Random,
    ends: [End; 2],
    tracker: Option<TcpState>,
    flight: Vec<InFlight>,
    links: [Link; 2],
    now: u32,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed | 1);
        let ends = [End::new(Mode::SynSent, &mut random), End::new(Mode::Listen, &mut random)];
        let mut link = |delay| Link { loss: random.below(15), duplication: random.below(10), delay };
        // What overtakes before the middle does so by less than a window: a segment from long ago may be refused.
        let links = [link(4), link(30)];
        Self { random, ends, tracker: None, flight: Vec::new(), links, now: 0, seen: Seen::default() }
    }

    fn put(&mut self, from: Side, before_middle: bool, segment: Segment) {
        let link = &self.links[usize::from(!before_middle)];
        let copies = 1 + u32::from(self.random.percent(link.duplication));
        for _ in 0..copies {
            if !self.random.percent(link.loss) {
                let arrives = self.now + 1 + self.random.below(link.delay);
                self.flight.push(InFlight { arrives, from, before_middle, segment });
            }
        }
    }

    fn run(mut self, abort: bool) -> Seen {
        let abort_at = if abort { 20 + self.random.below(600) } else { u32::MAX };
        while self.now < 20_000 && !self.seen.finished {
            self.now += 1;
            let mut out = Vec::new();
            for side in [Side::Initiator, Side::Responder] {
                let mut said = Vec::new();
                let end = &mut self.ends[side.index()];
                if self.now == abort_at && end.mode == Mode::Open && side == Side::Initiator {
                    end.abort(&mut self.random, &mut said);
                    self.seen.aborted = true;
                } else {
                    end.speak(&mut self.random, &mut said);
                }
                out.extend(said.into_iter().map(|segment| (side, segment)));
            }
            out.into_iter().for_each(|(side, segment)| self.put(side, true, segment));
            self.move_on();
            self.inject();
            let quiet = self.ends.iter().all(End::done) && self.flight.is_empty();
            let gone = self.ends.iter().all(|end| end.mode == Mode::Gone) && self.flight.is_empty();
            if self.ends.iter().all(End::done) {
                self.ends.iter_mut().for_each(|end| end.keep_alive = false);
            }
            self.seen.finished = quiet || gone;
        }
        if self.seen.finished {
            let class = self.tracker.map(|tracker| tracker.class());
            assert_eq!(class, Some(Class::TcpClosing), "both ends are through: {:?}", self.tracker);
        }
        self.seen
    }

    fn move_on(&mut self) {
        let now = self.now;
        let (due, later) = core::mem::take(&mut self.flight).into_iter().partition(|f| f.arrives <= now);
        self.flight = later;
        let due: Vec<InFlight> = due;
        for InFlight { from, before_middle, segment, .. } in due {
            if before_middle {
                self.judge(from, &segment);
                self.put(from, false, segment);
            } else {
                let to = from.other();
                let mut said = Vec::new();
                self.ends[to.index()].hear(segment, &mut self.random, &mut said);
                said.into_iter().for_each(|answer| self.put(to, true, answer));
            }
        }
    }

    fn judge(&mut self, from: Side, segment: &Segment) {
        let (tcp, len) = segment;
        let Some(tracker) = &mut self.tracker else {
            self.tracker = Some(TcpState::open(tcp, *len).expect("the first segment is a SYN"));
            return;
        };
        let before = *tracker;
        if let Err(reason) = tracker.segment(from, tcp, *len) {
            // The answer of an end that is gone to a segment from long ago: nobody believes it.
            let receiver = &self.ends[from.other().index()];
            if tcp.flags.any(TcpFlags::RST) && super::before(tcp.seq, receiver.received) {
                return;
            }
            panic!("{reason} for {from:?} {tcp:?} {len} in {before:?}");
        }
        assert!(before.details.phase() as u8 <= tracker.details.phase() as u8, "no phase comes back");
        self.seen.passed += 1;
    }

    /// Segments that nobody could have sent, tried on the tracker as it is.
    fn inject(&mut self) {
        let Some(tracker) = self.tracker.filter(TcpState::is_established) else { return };
        for side in [Side::Initiator, Side::Responder] {
            let (sender, receiver) = (&self.ends[side.index()], &self.ends[side.other().index()]);
            // Farther away than any window here, on either side.
            let far = (1 << 23) + self.random.below(u32::MAX - (1 << 24));
            let flags =
                [TcpFlags::ACK, TcpFlags::ACK | TcpFlags::FIN, TcpFlags::RST, TcpFlags::ACK | TcpFlags::PSH];
            let flags = flags[self.random.below(4) as usize];
            let honest = Tcp {
                seq: sender.sent,
                ack: sender.received,
                flags: TcpFlags(flags),
                window: 1_000,
                window_scale: None,
            };
            let wrong_seq = Tcp { seq: sender.sent.wrapping_add(far), ..honest };
            let wrong_ack = Tcp { ack: receiver.sent.wrapping_add(far), ..honest };
            for (forged, counts) in [(wrong_seq, true), (wrong_ack, flags != TcpFlags::RST)] {
                let mut tracker = tracker;
                if counts {
                    let judged = tracker.segment(side, &forged, 1);
                    assert_eq!(judged, Err(INVALID), "{side:?} {forged:?} in {tracker:?}");
                    self.seen.injected += 1;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn legal_ends_are_never_refused(seed in any::<u64>(), abort in prop::bool::weighted(0.3)) {
        World::new(seed).run(abort);
    }
}

#[test]
fn the_model_is_not_idle() {
    let seen: Vec<Seen> = (1..=40u64)
        .map(|seed| World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).run(seed % 4 == 0))
        .collect();
    assert!(seen.iter().filter(|seen| seen.finished).count() >= 35, "{seen:?}");
    assert!(seen.iter().filter(|seen| seen.aborted).count() >= 5);
    assert!(seen.iter().map(|seen| seen.passed).sum::<u32>() > 10_000);
    assert!(seen.iter().map(|seen| seen.injected).sum::<u32>() > 10_000);
}
