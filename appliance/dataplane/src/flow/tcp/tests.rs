//! Scripts: each segment with what is to become of it. Numbers count from each side's initial sequence number, and every script runs
//! with several of those, so that each of them wraps somewhere.

use super::*;
use Outcome::{Closed, Drop, Established, Pass, Reopen};
use Side::{Initiator as A, Responder as B};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pass,
    Established,
    Closed,
    Reopen,
    Drop,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    side: Side,
    flags: &'static str,
    seq: u32,
    ack: u32,
    len: usize,
    window: u16,
    scale: Option<u8>,
    outcome: Outcome,
}

/// `side` sends flags, `seq` from its own initial number, `ack` from the other's.
fn seg(side: Side, flags: &'static str, seq: u32, ack: u32) -> Line {
    Line { side, flags, seq, ack, len: 0, window: 60_000, scale: None, outcome: Pass }
}

impl Line {
    fn len(self, len: usize) -> Self {
        Self { len, ..self }
    }

    fn win(self, window: u16) -> Self {
        Self { window, ..self }
    }

    fn scale(self, scale: u8) -> Self {
        Self { scale: Some(scale), ..self }
    }

    fn is(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }
}

/// Both initial sequence numbers.
const BASES: [[u32; 2]; 6] = [
    [0, 0],
    [1_000, 5_000_000],
    [u32::MAX, u32::MAX],
    [u32::MAX - 40_000, 7],
    [9, u32::MAX - 100],
    [0x7fff_fff0, 0x8000_0000],
];

fn header(line: Line, bases: [u32; 2]) -> Tcp {
    let bits = line.flags.bytes().map(|flag| match flag {
        b'S' => TcpFlags::SYN,
        b'A' => TcpFlags::ACK,
        b'F' => TcpFlags::FIN,
        b'R' => TcpFlags::RST,
        b'P' => TcpFlags::PSH,
        other => panic!("no flag {other}"),
    });
    let flags = TcpFlags(bits.fold(0, |all, bit| all | bit));
    Tcp {
        seq: bases[line.side.index()].wrapping_add(line.seq),
        ack: if flags.any(TcpFlags::ACK) {
            bases[line.side.other().index()].wrapping_add(line.ack)
        } else {
            0
        },
        flags,
        window: line.window,
        window_scale: line.scale,
    }
}

fn step(state: &mut TcpState, line: Line, bases: [u32; 2]) -> Outcome {
    let before = *state;
    match state.segment(line.side, &header(line, bases), line.len) {
        Ok(TcpEvent::Continue) => Pass,
        Ok(TcpEvent::Established) => Established,
        Ok(TcpEvent::Closed) => Closed,
        Ok(TcpEvent::Reopen) => {
            assert_eq!(*state, before, "the caller decides");
            Reopen
        }
        Err(reason) => {
            assert_eq!(reason, DropReason::InvalidState);
            assert_eq!(*state, before, "a dropped segment changed the state");
            Drop
        }
    }
}

/// Runs a script, whose first line opens the connection, with every base; returns the state after it for the first one.
#[track_caller]
fn play(script: &[Line]) -> TcpState {
    let states = BASES.map(|bases| {
        let first = script[0];
        let mut state = TcpState::open(&header(first, bases), first.len).expect("opens");
        for (number, line) in script.iter().enumerate().skip(1) {
            assert_eq!(
                step(&mut state, *line, bases),
                line.outcome,
                "line {number}: {line:?} of {bases:?}: {state:?}"
            );
        }
        state
    });
    assert!(states.iter().all(|state| state.details == states[0].details));
    states[0]
}

fn handshake() -> Vec<Line> {
    vec![seg(A, "S", 0, 0), seg(B, "SA", 0, 1), seg(A, "A", 1, 1).is(Established)]
}

fn scaled(initiator: u8, responder: u8) -> Vec<Line> {
    vec![
        seg(A, "S", 0, 0).scale(initiator),
        seg(B, "SA", 0, 1).scale(responder),
        seg(A, "A", 1, 1).is(Established),
        seg(B, "A", 1, 1),
    ]
}

#[track_caller]
fn after_handshake(more: &[Line]) -> TcpState {
    play(&[handshake(), more.to_vec()].concat())
}

/// Both sides closed, the initiator first.
fn closed() -> Vec<Line> {
    let mut script = handshake();
    script.extend([seg(A, "FA", 1, 1), seg(B, "A", 1, 2), seg(B, "FA", 1, 2), seg(A, "A", 2, 2).is(Closed)]);
    script
}

#[test]
fn only_an_initial_syn_opens() {
    for flags in ["A", "SA", "R", "RA", "FA", "F", "SF", "SR", "PA", ""] {
        assert_eq!(TcpState::open(&header(seg(A, flags, 0, 0), [0; 2]), 0), Err(INVALID), "{flags}");
    }
    let state = TcpState::open(&header(seg(A, "S", 0, 0), [0; 2]), 0).expect("opens");
    assert_eq!(state.class(), Class::TcpHalfOpen);
}

#[test]
fn impossible_flags_are_dropped_in_every_phase() {
    let phases = [vec![seg(A, "S", 0, 0)], handshake()[..2].to_vec(), handshake(), closed()];
    for script in phases {
        for flags in ["", "F", "P", "SF", "SR", "SFA", "SRA", "SFRA"] {
            for side in [A, B] {
                play(&[script.clone(), vec![seg(side, flags, 1, 1).is(Drop)]].concat());
            }
        }
    }
}

#[test]
fn handshake_data_and_classes() {
    assert_eq!(play(&handshake()[..2]).class(), Class::TcpHalfOpen);
    let state = after_handshake(&[
        seg(A, "PA", 1, 1).len(100),
        seg(B, "A", 1, 101),
        seg(B, "PA", 1, 101).len(1_000),
        seg(A, "A", 101, 1_001),
    ]);
    assert_eq!(state.class(), Class::TcpEstablished);
    assert!(state.is_established());
    assert_eq!((state.reset_toward(A), state.reset_toward(B)), ((1_001, 101), (101, 1_001)));
    let on_its_way = after_handshake(&[seg(A, "PA", 1, 1).len(100)]);
    assert_eq!(on_its_way.reset_toward(A), (1, 101));
    let (seq, ack, window) = on_its_way.last_word_toward(A);
    assert_eq!((seq, ack), (1, 1), "what nobody acknowledged is not acknowledged");
    assert_ne!(window, 0);
    assert_eq!(play(&closed()).class(), Class::TcpClosing);
}

#[test]
fn data_may_complete_the_handshake() {
    // The bare acknowledgement was lost before us.
    play(&[seg(A, "S", 0, 0), seg(B, "SA", 0, 1), seg(A, "PA", 1, 1).len(10).is(Established)]);
    // Fast open (RFC 7413): data on the SYN, answered before the last acknowledgement.
    play(&[
        seg(A, "S", 0, 0).len(300),
        seg(B, "SA", 0, 301),
        seg(B, "PA", 1, 301).len(500),
        seg(A, "A", 301, 501).is(Established),
    ]);
    // Its data refused: acknowledged up to the SYN, sent again.
    play(&[
        seg(A, "S", 0, 0).len(300),
        seg(B, "SA", 0, 1),
        seg(A, "PA", 1, 1).len(300).is(Established),
        seg(B, "A", 1, 301),
    ]);
}

#[test]
fn syns_are_repeated() {
    play(&[
        seg(A, "S", 0, 0).scale(7),
        seg(A, "S", 0, 0).scale(7),
        seg(B, "SA", 0, 1).scale(7),
        seg(A, "S", 0, 0).scale(7),
        seg(B, "SA", 0, 1).scale(7),
        seg(A, "A", 1, 1).is(Established),
        seg(B, "SA", 0, 1).scale(7),
        seg(A, "A", 1, 1),
    ]);
    // With another number: the last attempt counts.
    play(&[
        seg(A, "S", 0, 0),
        seg(A, "S", 70_000, 0),
        seg(B, "SA", 0, 1).is(Drop),
        seg(B, "SA", 0, 70_001),
        seg(A, "A", 70_001, 1).is(Established),
    ]);
}

#[test]
fn a_stateless_responder_may_choose_another_number() {
    play(&[
        seg(A, "S", 0, 0).scale(7),
        seg(B, "SA", 0, 1).scale(7),
        seg(A, "S", 0, 0).scale(7),
        seg(B, "SA", 1_000_000, 1),
        seg(A, "A", 1, 1).is(Drop),
        seg(A, "A", 1, 1_000_001).is(Established),
    ]);
    // Not once the first one is acknowledged.
    after_handshake(&[seg(B, "SA", 1_000_000, 1).is(Drop)]);
}

#[test]
fn wrong_acknowledgements_do_not_complete_the_handshake() {
    let begun = &handshake()[..2];
    for ack in [0, 2, 0x4000_0000, 0x8000_0000, 0xffff_fff0] {
        play(&[begun, &[seg(A, "A", 1, ack).is(Drop), seg(A, "A", 1, 1).is(Established)]].concat());
    }
    // Nor do data before any answer.
    play(&[seg(A, "S", 0, 0), seg(A, "A", 1, 1).is(Drop), seg(A, "PA", 1, 1).len(5).is(Drop)]);
}

#[test]
fn t01_a_reset_far_outside_the_window_is_dropped() {
    for side in [A, B] {
        let state = after_handshake(&[
            seg(side, "R", 1 + 60_002, 0).is(Drop),
            seg(side, "R", 0x4000_0000, 0).is(Drop),
            seg(side, "R", 0x8000_0000, 0).is(Drop),
            seg(side, "R", 0, 0).is(Drop),
            seg(A, "PA", 1, 1).len(10),
        ]);
        assert_eq!(state.class(), Class::TcpEstablished);
    }
}

#[test]
fn t02_a_reset_in_the_window_passes_and_changes_nothing() {
    for side in [A, B] {
        let before = after_handshake(&[]);
        let state = after_handshake(&[seg(side, "R", 2, 0), seg(side, "RA", 1 + 60_000, 1)]);
        assert_eq!(state, before);
    }
}

#[test]
fn t03_an_exact_reset_ends_the_connection() {
    for side in [A, B] {
        let state = after_handshake(&[
            seg(side, "R", 60_003, 0).is(Drop),
            seg(side, "R", 0xffff_0000, 0).is(Drop),
            seg(side, "R", 0x9000_0000, 0).is(Drop),
            seg(side, "R", 0x7000_0000, 0).is(Drop),
            seg(side, "RA", 1, 1).is(Closed),
            // Again, and what was on its way.
            seg(side, "RA", 1, 1),
            seg(A, "A", 1, 1),
        ]);
        assert_eq!(state.class(), Class::TcpClosing);
    }
    // Exact after data that may have been lost behind us: both what was sent and what was acknowledged.
    for seq in [1, 501] {
        after_handshake(&[seg(A, "PA", 1, 1).len(500), seg(A, "R", seq, 0).is(Closed)]);
    }
    after_handshake(&[seg(A, "PA", 1, 1).len(500), seg(A, "R", 400, 0)]);
}

#[test]
fn a_refused_connection_is_over() {
    let syn = seg(A, "S", 0, 0);
    assert_eq!(play(&[syn, seg(B, "RA", 0, 1).is(Closed)]).class(), Class::TcpClosing);
    play(&[syn, seg(B, "RA", 0, 2).is(Drop), seg(B, "RA", 0, 0).is(Drop), seg(B, "R", 0, 0).is(Drop)]);
    // The initiator takes its SYN back, before and after the answer.
    play(&[syn, seg(A, "R", 1, 0).is(Closed)]);
    play(&[syn, seg(A, "R", 5, 0).is(Drop)]);
    play(&[syn, seg(B, "SA", 0, 1), seg(A, "R", 1, 0).is(Closed)]);
    play(&[syn, seg(B, "SA", 0, 1), seg(B, "R", 1, 0).is(Closed)]);
}

#[test]
fn t04_a_reset_after_a_fin_need_not_be_exact() {
    let half_closed = [seg(A, "FA", 1, 1), seg(B, "A", 1, 2), seg(B, "PA", 1, 2).len(1_000)];
    let with = |line: Line| after_handshake(&[half_closed.to_vec(), vec![line]].concat());
    // The sequence number from before the FIN; then exact; then in the window.
    assert_eq!(with(seg(A, "R", 1, 0)).class(), Class::TcpEstablished);
    assert_eq!(with(seg(A, "R", 2, 0).is(Closed)).class(), Class::TcpClosing);
    assert_eq!(with(seg(A, "R", 100, 0).is(Closed)).class(), Class::TcpClosing);
    with(seg(A, "R", 0x4000_0000, 0).is(Drop));
    with(seg(A, "R", 0xc000_0000, 0).is(Drop));
    // Without the FIN, the number before is invalid.
    after_handshake(&[seg(A, "PA", 1, 1).len(1), seg(B, "A", 1, 2), seg(A, "R", 1, 0).is(Drop)]);
}

#[test]
fn t05_a_syn_in_a_connection_is_left_to_the_challenge() {
    let data = [seg(A, "PA", 1, 1).len(100), seg(B, "A", 1, 101)];
    // Without a reset, the old connection goes on.
    let state = after_handshake(
        &[
            data.to_vec(),
            vec![
                seg(A, "S", 9_000_000, 0),
                seg(B, "A", 1, 101),
                seg(B, "PA", 1, 101).len(50),
                seg(A, "A", 101, 51),
            ],
        ]
        .concat(),
    );
    assert_eq!(state.class(), Class::TcpEstablished);
    // With the initiator's answer to the challenge, it ends; the next SYN begins another.
    after_handshake(
        &[
            data.to_vec(),
            vec![
                seg(A, "S", 9_000_000, 0),
                seg(B, "A", 1, 101),
                seg(A, "R", 101, 0).is(Closed),
                seg(A, "S", 9_000_000, 0).is(Reopen),
            ],
        ]
        .concat(),
    );
}

#[test]
fn t05_unanswered_syns_are_limited() {
    let syn = seg(A, "S", 9_000_000, 0);
    after_handshake(&[
        syn,
        syn,
        syn,
        syn.is(Drop),
        // An answer allows more.
        seg(B, "A", 1, 1),
        syn,
    ]);
    let syn = seg(B, "S", 9_000_000, 0);
    after_handshake(&[syn, syn.is(Drop), seg(A, "A", 1, 1), syn]);
}

#[test]
fn t05_a_responder_that_lost_the_connection_takes_the_syn() {
    let state = after_handshake(&[
        seg(A, "PA", 1, 1).len(5_000),
        seg(B, "A", 1, 5_001),
        seg(A, "S", 0x5000_0000, 0).scale(7).win(64_000),
        seg(B, "SA", 0x6000_0000, 0x5000_0001).scale(9).win(64_000),
        seg(A, "A", 0x5000_0001, 0x6000_0001).win(500).is(Established),
        // The new scales count: 500 << 7 from the initiator, the SYN's own window is taken for the largest.
        seg(B, "PA", 0x6000_0001, 0x5000_0001).len(1_400).win(1_000),
        seg(B, "PA", 0x6000_0001 + 65_536, 0x5000_0001).len(1).win(1_000),
        seg(B, "PA", 0x6000_0001 + 65_537, 0x5000_0001).len(1).win(1_000).is(Drop),
        seg(A, "A", 5_001, 1).is(Drop),
    ]);
    assert_eq!(state.details.scale(A.index()), 7);
    // Not without a SYN that waits, and never in the other direction.
    after_handshake(&[seg(B, "SA", 0x6000_0000, 0x5000_0001).is(Drop)]);
    after_handshake(&[seg(B, "S", 0x6000_0000, 0), seg(A, "SA", 0x5000_0000, 0x6000_0001).is(Drop)]);
}

#[test]
fn t06_a_challenge_to_the_first_syn_passes_and_its_reset_too() {
    play(&[
        seg(A, "S", 0, 0),
        seg(B, "A", 70_000, 0x3000_0000),
        seg(A, "R", 0x3000_0001, 0).is(Drop),
        seg(A, "R", 0x3000_0000, 0),
        seg(A, "S", 0, 0),
        seg(B, "SA", 9_000, 1),
        seg(A, "A", 1, 9_001).is(Established),
    ]);
    // Only a bare acknowledgement is a challenge, and only after one is that reset right.
    play(&[
        seg(A, "S", 0, 0),
        seg(B, "PA", 70_000, 0x3000_0000).len(1).is(Drop),
        seg(B, "FA", 70_000, 0x3000_0000).is(Drop),
        seg(A, "R", 0x3000_0000, 0).is(Drop),
    ]);
}

#[test]
fn t07_a_stale_syn_ack_is_dropped_and_the_right_one_passes() {
    for stale in [0, 2, 0x5000_0000, 0xc000_0000] {
        play(&[
            seg(A, "S", 0, 0),
            seg(B, "SA", 0, stale).is(Drop),
            seg(B, "SA", 0, 1),
            seg(A, "A", 1, 1).is(Established),
        ]);
    }
}

#[test]
fn t08_retransmission_of_acknowledged_data_passes() {
    let mut script = handshake();
    for n in 0..60u32 {
        script.push(seg(A, "A", 1 + n * 1_000, 1).len(1_000));
        script.push(seg(B, "A", 1, 1 + (n + 1) * 1_000));
    }
    // All acknowledgements were lost behind us.
    script.push(seg(A, "A", 1, 1).len(1_000));
    script.push(seg(B, "A", 1, 60_001));
    // The twin lies before anything that could still be waited for.
    script.push(seg(A, "A", 0xfff0_0000, 1).len(1_000).is(Drop));
    play(&script);
}

#[test]
fn t09_data_beyond_the_window_and_acknowledgements_of_nothing_are_dropped() {
    after_handshake(&[
        seg(A, "PA", 1 + 60_001, 1).len(10).is(Drop),
        seg(B, "PA", 1 + 60_001, 1).len(10).is(Drop),
        seg(A, "PA", 1 + 60_000, 1).len(1),
        seg(A, "A", 1, 2).is(Drop),
        seg(B, "A", 1, 60_003).is(Drop),
        seg(B, "A", 1, 60_002),
        // Long before anything sent.
        seg(A, "A", 1, 0xfff0_0000).is(Drop),
        seg(B, "PA", 1, 0xfff0_0000).len(10).is(Drop),
        seg(B, "PA", 1, 60_002).len(10),
    ]);
}

#[test]
fn t10_half_closed_for_a_gigabyte() {
    let mut script = handshake();
    script.extend([seg(A, "FA", 1, 1), seg(B, "A", 1, 2)]);
    let mut at = 1u32;
    for _ in 0..20_000 {
        script.push(seg(B, "A", at, 2).len(50_000));
        at = at.wrapping_add(50_000);
        script.push(seg(A, "A", 2, at));
    }
    let state = play(&script);
    assert_eq!(state.class(), Class::TcpEstablished);
    script.extend([seg(B, "FA", at, 2), seg(A, "A", 2, at.wrapping_add(1)).is(Closed)]);
    assert_eq!(play(&script).class(), Class::TcpClosing);
}

#[test]
fn t11_fins_are_repeated_and_close_once() {
    let mut script = handshake();
    script.extend([
        seg(A, "FA", 1, 1),
        seg(A, "FA", 1, 1),
        seg(B, "A", 1, 2),
        seg(B, "FA", 1, 2),
        seg(B, "FA", 1, 2),
        seg(A, "A", 2, 2).is(Closed),
        seg(B, "FA", 1, 2),
        seg(A, "A", 2, 2),
        seg(A, "FA", 1, 2),
        // Nobody sends more than a FIN.
        seg(A, "PA", 2, 2).len(1).is(Drop),
    ]);
    play(&script);
}

#[test]
fn fins_cross_and_carry_data() {
    after_handshake(&[
        seg(A, "FPA", 1, 1).len(500),
        seg(B, "FPA", 1, 1).len(700),
        seg(A, "A", 502, 702),
        seg(B, "A", 702, 502).is(Closed),
    ]);
    // One segment that closes and acknowledges.
    after_handshake(&[seg(A, "FA", 1, 1), seg(B, "FA", 1, 2), seg(A, "A", 2, 2).is(Closed)]);
    // A FIN that overtook its data.
    after_handshake(&[
        seg(A, "FA", 1_001, 1),
        seg(A, "PA", 1, 1).len(1_000),
        seg(B, "FA", 1, 1_002),
        seg(A, "A", 1_002, 2).is(Closed),
    ]);
}

#[test]
fn a_forged_fin_does_not_stop_the_connection() {
    let state = after_handshake(&[
        seg(A, "FA", 10_001, 1),
        seg(A, "PA", 1, 1).len(20_000),
        seg(B, "A", 1, 20_001),
        seg(B, "FA", 1, 20_001),
        seg(A, "A", 20_001, 2),
    ]);
    assert_eq!(state.class(), Class::TcpEstablished, "the initiator has not closed");
}

#[test]
fn t12_a_syn_after_the_end_reopens() {
    for side in [A, B] {
        play(&[closed(), vec![seg(side, "S", 1_000_000, 0).is(Reopen)]].concat());
        play(&[closed(), vec![seg(side, "SA", 1_000_000, 2).is(Drop)]].concat());
    }
    let reset = [handshake(), vec![seg(B, "RA", 1, 1).is(Closed)]].concat();
    let state = play(&[reset, vec![seg(A, "S", 500, 0).is(Reopen)]].concat());
    assert!(state.reopens(A, &header(seg(A, "S", 500, 0), [0; 2])));
    assert!(!state.reopens(A, &header(seg(A, "SA", 500, 1), [0; 2])));
    assert!(!after_handshake(&[]).reopens(A, &header(seg(A, "S", 500, 0), [0; 2])));
}

#[test]
fn t13_simultaneous_open() {
    play(&[
        seg(A, "S", 0, 0).scale(2),
        seg(B, "S", 0, 0).scale(3),
        seg(A, "SA", 0, 1).scale(2),
        seg(B, "SA", 0, 1).scale(3).is(Established),
        seg(A, "PA", 1, 1).len(10),
        seg(B, "A", 1, 11),
    ]);
    // Acknowledged without repeating the SYN; a SYN that comes again.
    play(&[
        seg(A, "S", 0, 0),
        seg(B, "S", 0, 0),
        seg(A, "S", 0, 0),
        seg(B, "S", 0, 0),
        seg(B, "A", 1, 1),
        seg(A, "A", 1, 1).is(Established),
    ]);
    play(&[seg(A, "S", 0, 0), seg(B, "S", 0, 0), seg(A, "SA", 0, 2).is(Drop), seg(B, "SA", 0, 2).is(Drop)]);
}

#[test]
fn t14_windows_are_scaled_only_when_both_sides_can() {
    let far = 1 + (60_000 << 7);
    // Both: the responder's segment right at the edge of the initiator's window passes, one beyond does not.
    play(
        &[
            scaled(7, 2),
            vec![
                seg(B, "PA", far, 1).len(1),
                seg(B, "PA", far + 1, 1).len(1).is(Drop),
                seg(A, "PA", 1 + (60_000 << 2), 1).len(1),
                seg(A, "PA", 2 + (60_000 << 2), 1).len(1).is(Drop),
            ],
        ]
        .concat(),
    );
    // One only: neither is scaled.
    for (first, second) in [(Some(7), None), (None, Some(7))] {
        play(&[
            Line { scale: first, ..seg(A, "S", 0, 0) },
            Line { scale: second, ..seg(B, "SA", 0, 1) },
            seg(A, "A", 1, 1).is(Established),
            seg(B, "A", 1, 1),
            seg(B, "PA", 60_002, 1).len(1).is(Drop),
            seg(A, "PA", 60_002, 1).len(1).is(Drop),
            seg(B, "PA", 60_001, 1).len(1),
        ]);
    }
    // The SYNs' own windows never are.
    play(&[
        seg(A, "S", 0, 0).scale(7),
        seg(B, "SA", 0, 1).scale(7),
        seg(A, "PA", 1, 1).len(1_000).is(Established),
        seg(A, "PA", 1 + 60_000 + 128, 1).len(1).is(Drop),
    ]);
    // A repeated SYN may have lost the option.
    play(&[
        seg(A, "S", 0, 0).scale(7),
        seg(A, "S", 0, 0),
        seg(B, "SA", 0, 1).scale(7),
        seg(A, "A", 1, 1).is(Established),
        seg(B, "PA", 60_002, 1).len(1).is(Drop),
    ]);
}

#[test]
fn t15_a_reset_of_either_side_ends_it() {
    for side in [A, B] {
        let state = after_handshake(&[
            seg(A, "FPA", 1, 1).len(100),
            seg(B, "A", 1, 102),
            seg(side, "R", if side == A { 102 } else { 1 }, 0).is(Closed),
        ]);
        assert_eq!(state.class(), Class::TcpClosing);
    }
}

#[test]
fn keep_alive_and_window_probes_pass() {
    after_handshake(&[
        seg(A, "PA", 1, 1).len(10),
        seg(B, "A", 1, 11),
        // A keep-alive repeats the last byte or none, one before the next.
        seg(A, "A", 10, 1),
        seg(A, "A", 10, 1).len(1),
        seg(B, "A", 0, 11),
        // A closed window is probed with one byte, and what follows may be told first.
        seg(A, "A", 60_012, 1),
        seg(A, "A", 60_013, 1).is(Drop),
        seg(A, "A", 60_012, 1).len(1).is(Drop),
        seg(A, "A", 60_011, 1).len(1),
        seg(B, "A", 1, 11).win(0),
        seg(B, "A", 1, 12).win(0),
        seg(B, "A", 1, 12).win(60_000),
    ]);
}

#[test]
fn the_edge_does_not_go_back_when_a_window_shrinks() {
    after_handshake(&[
        seg(A, "PA", 1, 1).len(1_000),
        seg(B, "A", 1, 1_001).win(100),
        // On its way before the smaller window arrived.
        seg(A, "PA", 59_001, 1).len(1_000),
        seg(A, "PA", 60_002, 1).len(1).is(Drop),
    ]);
}

#[test]
fn quotes_of_icmp_errors_are_in_the_window() {
    let state = after_handshake(&[seg(A, "PA", 1, 1).len(5_000), seg(B, "A", 1, 1_001)]);
    for seq in [1, 1_001, 5_000, 5_001] {
        assert!(state.quoted_in_window(A, seq), "{seq}");
    }
    for seq in [5_002, 100_000, 0x8000_0000, 0xff00_0000] {
        assert!(!state.quoted_in_window(A, seq), "{seq}");
    }
    assert!(state.quoted_in_window(B, 1) && !state.quoted_in_window(B, 2));
    // About the SYN itself, which nobody has answered.
    let syn = TcpState::open(&header(seg(A, "S", 0, 0), [700, 0]), 0).expect("opens");
    assert!(syn.quoted_in_window(A, 700) && syn.quoted_in_window(A, 701));
    assert!(!syn.quoted_in_window(A, 699) && !syn.quoted_in_window(A, 702) && !syn.quoted_in_window(B, 0));
    assert!(!TcpState::NONE.quoted_in_window(A, 0));
}

#[test]
fn no_connection_takes_no_segment() {
    let mut state = TcpState::NONE;
    for flags in ["S", "A", "R", "SA", "FA"] {
        assert_eq!(step(&mut state, seg(A, flags, 0, 0), [0; 2]), Drop);
    }
}

#[test]
fn a_connection_seen_from_one_side_lives_as_an_established_one() {
    let state = TcpState::one_sided();
    assert!(state.is_established());
    assert_eq!(state.class(), Class::TcpEstablished);
}
