//! What both ends were told and said, and what may leave after that.

use super::wire::{self, ACK, RST, SYN, Segment, number};
use super::{BACKENDS, PAIRS, Step};
use crate::packet::{Packet, tcp};
use crate::ports::Port;
use std::net::SocketAddr;

/// The options that the proxy itself writes.
const OWN: [u8; 4] = [2, 3, 4, 8];
/// Options of who signs: such a SYN goes past the proxy.
const SIGNED: [u8; 2] = [19, 29];

/// A frame that came in, and led to what left.
pub(super) struct Received {
    pub(super) port: Port,
    pub(super) pair: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) is_broken: bool,
}

/// All connections.
pub(super) struct Model {
    pub(super) talks: [Talk; PAIRS.len()],
    /// Flows that may have begun without a proof.
    pub(super) unproved: u64,
    /// Segments that were carried from end to end.
    pub(super) carried: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self { talks: [0, 1, 2, 3].map(Talk::new), unproved: 0, carried: 0 }
    }
}

/// A cookie that was given out: for which SYN.
struct Issued {
    syn: Segment,
    cookie: u32,
}

/// One pair of ends.
pub(super) struct Talk {
    /// What the client sends next, and what it expects.
    client: (u32, u32),
    /// The same of the backend.
    backend: (u32, u32),
    issued: Vec<Issued>,
    /// The first numbers of connections that were proved, and the timestamps that the proofs echoed.
    proved: Vec<(u32, u32)>,
    /// The numbers and timestamps of the backend's SYN-ACKs.
    answers: Vec<(u32, u32)>,
    /// What the backend acknowledged.
    acknowledged: Vec<u32>,
    /// How far the client's numbers are from the backend's where that refused.
    refused: Vec<u32>,
    /// A SYN went past the proxy.
    is_direct: bool,
    /// The IP packets that they were sent last.
    pub(super) to_client: Option<Vec<u8>>,
    pub(super) to_backend: Option<Vec<u8>>,
    timestamp: u32,
}

impl Talk {
    fn new(pair: u32) -> Self {
        Self {
            client: (0xffff_ff00 + pair, 0),
            backend: (0x7fff_ff00 + pair, 0),
            issued: Vec::new(),
            proved: Vec::new(),
            answers: Vec::new(),
            acknowledged: Vec::new(),
            refused: Vec::new(),
            is_direct: false,
            to_client: None,
            to_backend: None,
            timestamp: 0,
        }
    }

    pub(super) fn client_next(&self) -> (u32, u32) {
        self.client
    }

    pub(super) fn backend_next(&self) -> (u32, u32) {
        self.backend
    }

    /// A SYN with the usual options first, then what acknowledges all that came.
    pub(super) fn well_client(&mut self, client: &str, vip: &str, step: &Step<'_>) -> Packet {
        self.timestamp = self.timestamp.wrapping_add(1000);
        let (seq, ack) = self.client;
        if self.issued.is_empty() {
            let options =
                [&[2, 4, 5, 180, 4, 2, 8, 10][..], &self.timestamp.to_be_bytes(), &[0; 4], &[1, 3, 3, 7]];
            return tcp(client, vip).syn(seq).window(64_000).tcp_options(&options.concat());
        }
        let echo = self.last_of(&self.to_client);
        let options = [&[1, 1, 8, 10][..], &self.timestamp.to_be_bytes(), &echo.to_be_bytes()].concat();
        tcp(client, vip).ack(seq, ack).window(500).tcp_options(&options).data(step.data)
    }

    /// A SYN-ACK first, then what acknowledges all that came.
    pub(super) fn well_backend(&mut self, backend: &str, client: &str, step: &Step<'_>) -> Packet {
        self.timestamp = self.timestamp.wrapping_add(7);
        let (seq, ack) = self.backend;
        let echo = self.last_of(&self.to_backend).to_be_bytes();
        let own = self.timestamp.wrapping_mul(99).to_be_bytes();
        if self.answers.is_empty() {
            let options = [&[2, 4, 5, 180, 4, 2, 8, 10][..], &own, &echo, &[1, 3, 3, 9]].concat();
            return tcp(backend, client).ack(seq, ack).syn(seq).window(65_000).tcp_options(&options);
        }
        let options = [&[1, 1, 8, 10][..], &own, &echo].concat();
        tcp(backend, client).ack(seq, ack).window(500).tcp_options(&options).data(step.data)
    }

    /// The timestamp in a packet.
    fn last_of(&self, packet: &Option<Vec<u8>>) -> u32 {
        let segment = packet.as_deref().and_then(wire::segment);
        segment.and_then(|segment| segment.timestamps()).map_or(0, |(value, _)| value)
    }

    /// Whether the client's numbers may be so far from the backend's.
    fn may_differ(&self, difference: u32) -> bool {
        let spliced = self
            .issued
            .iter()
            .any(|issued| self.answers.iter().any(|(seq, _)| issued.cookie.wrapping_sub(*seq) == difference));
        spliced || self.refused.contains(&difference) || self.is_direct && difference == 0
    }

    /// The same of timestamps.
    fn may_differ_in_time(&self, difference: u32) -> bool {
        let spliced = self
            .proved
            .iter()
            .any(|(_, ours)| self.answers.iter().any(|(_, theirs)| ours.wrapping_sub(*theirs) == difference));
        spliced || self.is_direct && difference == 0
    }
}

impl Model {
    /// Takes note of what an end sends.
    pub(super) fn sent(&mut self, port: Port, pair: usize, bytes: &[u8], is_broken: bool) {
        if is_broken {
            return;
        }
        let talk = &mut self.talks[pair];
        let Some(segment) = wire::segment(wire::packet(bytes)) else { return };
        let echo = segment.timestamps().map_or(0, |(_, echo)| echo);
        match port {
            Port::Untrusted => {
                let is_proof = |issued: &&Issued| {
                    segment.ack == issued.cookie.wrapping_add(1)
                        && [0, 1].contains(&segment.seq.wrapping_sub(issued.syn.seq))
                };
                if segment.has(ACK)
                    && let Some(issued) = talk.issued.iter().find(is_proof)
                {
                    talk.proved.push((issued.syn.seq, echo));
                }
                if segment.is_first() && segment.walk().iter().any(|(_, kind, _)| SIGNED.contains(kind)) {
                    talk.is_direct = true;
                    self.unproved += 1;
                }
                advance(&mut talk.client.0, &segment);
            }
            Port::Trusted => {
                if segment.has(ACK) {
                    talk.acknowledged.push(segment.ack);
                }
                if segment.has(SYN | ACK) {
                    talk.answers.push((segment.seq, segment.timestamps().map_or(0, |(value, _)| value)));
                } else if segment.is_first() {
                    self.unproved += 1;
                }
                advance(&mut talk.backend.0, &segment);
            }
        }
    }

    /// Holds what left against what came in before it; nothing did where a timer ran.
    ///
    /// # Panics
    /// When it may not leave.
    pub(super) fn left(&mut self, received: Option<&Received>, port: Port, bytes: &[u8]) {
        let packet = wire::packet(bytes);
        wire::check_sums(packet);
        assert!(!received.is_some_and(|received| received.is_broken), "a broken segment leads to nothing");
        let Some(segment) = wire::segment(packet) else {
            return self.error_left(received.expect("no error by itself"), port, packet);
        };
        let Some(pair) = pair_of(port, &segment) else {
            // The backend's own connection to the client.
            let input = received.and_then(|received| wire::segment(wire::packet(&received.bytes)));
            let input = input.expect("nothing is sent for it");
            assert_eq!((input.seq, input.ack, &input.data), (segment.seq, segment.ack, &segment.data));
            return;
        };
        if let Some(received) = received {
            assert_eq!(received.pair, pair, "of another connection");
        }
        let input = received.map(|received| (received.port, wire::segment(wire::packet(&received.bytes))));
        let talk = &mut self.talks[pair];
        match port {
            Port::Untrusted => {
                self.carried += to_client(talk, input, &segment);
                advance(&mut talk.client.1, &segment);
                talk.to_client = Some(packet.to_vec());
            }
            Port::Trusted => {
                self.carried += to_backend(talk, input, &segment);
                advance(&mut talk.backend.1, &segment);
                talk.to_backend = Some(packet.to_vec());
            }
        }
    }

    /// An error goes on in the numbers of the end that it goes to, or is the appliance's own about what came in.
    fn error_left(&mut self, received: &Received, port: Port, packet: &[u8]) {
        let came = wire::packet(&received.bytes);
        if let Some(segment) = wire::segment(came) {
            assert_eq!(port, received.port, "an error about a segment goes back");
            assert_eq!(wire::quoted_seq(packet), segment.seq);
            return;
        }
        assert_ne!(port, received.port);
        let (before, after) = (wire::quoted_seq(came), wire::quoted_seq(packet));
        let talk = &self.talks[received.pair];
        // What the client was sent, the backend sent; what the backend was sent has the client's own numbers.
        let is_right = match port {
            Port::Trusted => talk.may_differ(before.wrapping_sub(after)),
            Port::Untrusted => before == after,
        };
        assert!(is_right, "quoted {before} became {after}");
        self.carried += 1;
    }
}

/// The next number after a segment, or the first one of what it begins.
fn advance(next: &mut u32, segment: &Segment) {
    if segment.has(RST) {
        return;
    }
    let end = segment.seq.wrapping_add(segment.len());
    if segment.has(SYN) || *next == 0 || segment.seq == *next {
        *next = end;
    }
}

/// Whose a segment is; `None`: of a connection that the backend made to the client.
fn pair_of(port: Port, segment: &Segment) -> Option<usize> {
    let ends: (SocketAddr, SocketAddr) =
        ((segment.src, segment.ports.0).into(), (segment.dst, segment.ports.1).into());
    let of = |(a, b): (&str, &str)| -> (SocketAddr, SocketAddr) {
        (a.parse().expect("an end"), b.parse().expect("an end"))
    };
    (0..PAIRS.len()).find(|&pair| match port {
        Port::Untrusted => ends == of((PAIRS[pair].1, PAIRS[pair].0)),
        Port::Trusted => ends == of((PAIRS[pair].0, BACKENDS[pair])),
    })
}

/// Checks a segment to the client. Gives how many were carried.
fn to_client(talk: &mut Talk, input: Option<(Port, Option<Segment>)>, out: &Segment) -> u64 {
    match input {
        None => {
            assert!(out.has(RST) && out.data.is_empty() && out.options.is_empty(), "{out:?}");
            0
        }
        Some((Port::Untrusted, input)) => {
            let input = input.expect("an error is not answered by a segment");
            assert!(out.data.is_empty(), "{out:?}");
            assert!(out.only(&OWN), "nothing unknown is reflected: {out:?}");
            if out.has(SYN) {
                assert!(input.is_first() && out.has(SYN | ACK) && !out.has(RST), "{out:?}");
                assert_eq!(out.window, 0, "nobody has agreed to anything");
                assert_eq!(out.ack, input.seq.wrapping_add(1), "its data is not taken");
                let offered = [(3, 3), (4, 2), (8, 10)];
                for (kind, len) in offered {
                    assert!(out.option(kind, len).is_none() || input.option(kind, len).is_some(), "{kind}");
                }
                if let Some((_, echo)) = out.timestamps() {
                    assert_eq!(Some(echo), input.timestamps().map(|(value, _)| value));
                }
                talk.issued.push(Issued { syn: input, cookie: out.seq });
            } else {
                assert!(out.options.is_empty(), "{out:?}");
                // A SYN in the midst of a connection is challenged with what the backend said.
                let is_challenge =
                    out.flags == ACK && input.is_first() && talk.acknowledged.contains(&out.ack);
                let is_reset = out.flags == RST && input.has(ACK) && out.seq == input.ack;
                assert!(is_challenge || is_reset, "{input:?} was answered with {out:?}");
            }
            0
        }
        Some((Port::Trusted, None)) => {
            // Somebody on the way refused for the backend, with an error.
            let expects = |issued: &Issued| {
                (issued.cookie.wrapping_add(1), issued.syn.seq.wrapping_add(1)) == (out.seq, out.ack)
            };
            assert!(out.flags == RST | ACK && out.data.is_empty() && out.options.is_empty(), "{out:?}");
            assert!(talk.issued.iter().any(expects), "{out:?}");
            0
        }
        Some((Port::Trusted, Some(input))) => {
            if input.has(SYN | ACK) && out.flags == ACK {
                // The client's window opens.
                assert!(out.data.is_empty() && out.only(&[8]), "{out:?}");
                assert!(talk.may_differ(out.seq.wrapping_sub(input.seq).wrapping_sub(1)), "{out:?}");
                return 1;
            }
            assert_eq!((out.ack, &out.data, out.flags), (input.ack, &input.data, input.flags));
            let difference = out.seq.wrapping_sub(input.seq);
            // A refusal comes where the backend's first number would.
            let refuses =
                input.has(RST) && talk.issued.iter().any(|issued| issued.cookie.wrapping_add(1) == out.seq);
            assert!(talk.may_differ(difference) || refuses, "{input:?} became {out:?}");
            if refuses {
                talk.refused.push(difference);
            } else {
                same_options(talk, Port::Trusted, &input, out, 0);
            }
            u64::from(!refuses)
        }
    }
}

/// Checks a segment to the backend. Gives how many were carried.
fn to_backend(talk: &Talk, input: Option<(Port, Option<Segment>)>, out: &Segment) -> u64 {
    let proved = |seq: u32| talk.proved.iter().any(|(isn, _)| *isn == seq);
    if out.is_first() && !talk.is_direct {
        assert!(proved(out.seq), "nobody proved {out:?}");
        assert!(out.data.is_empty() && out.only(&OWN), "{out:?}");
        let least = if out.src.is_ipv4() { 536 } else { 1220 };
        let fits = |issued: &Issued| {
            let known = [(3, 3), (4, 2), (8, 10)];
            let mss = issued.syn.mss().unwrap_or(0).max(least);
            issued.syn.seq == out.seq
                && out.mss().is_some_and(|own| own <= mss)
                && known.iter().all(|(kind, len)| {
                    out.option(*kind, *len).is_none() || issued.syn.option(*kind, *len).is_some()
                })
        };
        assert!(talk.issued.iter().any(fits), "more than the client said: {out:?}");
        return 0;
    }
    match input {
        None => {
            assert!(out.has(RST) && out.data.is_empty() && out.options.is_empty(), "{out:?}");
            0
        }
        Some((Port::Trusted, input)) => {
            let input = input.expect("an error is not answered by a segment");
            assert!(out.data.is_empty() && out.only(&[8]), "{out:?}");
            match input.has(SYN) {
                true => assert!(out.flags == ACK && out.ack == input.seq.wrapping_add(1), "{out:?}"),
                false => {
                    assert!(out.flags == RST && out.seq == input.ack && out.options.is_empty(), "{out:?}")
                }
            }
            0
        }
        Some((Port::Untrusted, input)) => {
            let input = input.expect("an error stays one");
            assert!(talk.is_direct || !talk.proved.is_empty(), "nobody proved {out:?}");
            if out.flags == RST && out.options.is_empty() && out.data.is_empty() && input.has(RST) {
                // The backend's number was not known yet.
                assert_eq!(out.seq, input.seq);
                return 0;
            }
            assert_eq!((out.seq, &out.data), (input.seq, &input.data));
            assert_eq!(out.flags, input.flags);
            let difference = input.ack.wrapping_sub(out.ack);
            assert!(!input.has(ACK) || talk.may_differ(difference), "{input:?} became {out:?}");
            same_options(talk, Port::Untrusted, &input, out, if input.has(ACK) { difference } else { 0 });
            1
        }
    }
}

/// Options go on as they are, but for what is translated, and what the backend does not know is padded over. `difference`: what was
/// taken from the acknowledgement.
fn same_options(talk: &Talk, from: Port, input: &Segment, out: &Segment, difference: u32) {
    assert_eq!(input.options.len(), out.options.len());
    let mut expected = input.options.clone();
    for (at, kind, len) in input.walk() {
        let (before, after) = (&input.options[at..at + len], &out.options[at..at + len]);
        let is_padding = after.iter().all(|byte| *byte == 1);
        if matches!(kind, 4 | 5 | 8) && from == Port::Untrusted && is_padding {
            expected[at..at + len].fill(1);
        } else if (kind, len) == (8, 10) {
            let [value, echo] = [2, 6].map(|at| number(after, at).wrapping_sub(number(before, at)));
            let (moved, kept) =
                if from == Port::Trusted { (value, echo) } else { (echo.wrapping_neg(), value) };
            assert_eq!(kept, 0, "only the backend's timestamps are others");
            let is_echo_meant = from == Port::Trusted || input.has(ACK);
            assert!(
                !is_echo_meant && moved == 0 || talk.may_differ_in_time(moved),
                "{input:?} became {out:?}"
            );
            expected[at..at + len].copy_from_slice(after);
        } else if kind == 5 && from == Port::Untrusted {
            for edge in (2..len.saturating_sub(3)).step_by(4) {
                let moved = number(before, edge).wrapping_sub(number(after, edge));
                assert!(moved == difference || talk.may_differ(moved), "{input:?} became {out:?}");
                expected[at + edge..at + edge + 4].copy_from_slice(&after[edge..edge + 4]);
            }
        }
    }
    assert_eq!(expected, out.options, "{input:?} became {out:?}");
}
