//! Packet by packet.

use super::*;

const ISN: u32 = 0xffff_fff0;
const BACKEND_ISN: u32 = 77_000;
const CLIENT_TS: u32 = 1_000;
const BACKEND_TS: u32 = 0xffff_ff00;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// One frame that left by this port.
fn only(port: PortId, left: &[(PortId, Vec<u8>)]) -> Heard {
    assert_eq!(left.len(), 1, "{left:x?}");
    assert_eq!(left[0].0, port);
    heard(&left[0].1)
}

/// A connection on its way: what the client knows, and the backend.
struct Talk {
    ends: Ends,
    /// The cookie's number, and its timestamp.
    cookie: u32,
    stamp: u32,
    has_timestamps: bool,
}

impl Talk {
    /// The client's acknowledgement of the cookie.
    fn ack(&self) -> FrameBuilder {
        let builder = from_client(self.ends).seq(ISN + 1, self.cookie.wrapping_add(1)).window(500);
        if self.has_timestamps {
            builder.tcp_options(&timestamps(CLIENT_TS + 5, self.stamp))
        } else {
            builder
        }
    }

    fn syn_ack(&self) -> FrameBuilder {
        let builder = from_backend(self.ends).flags(SYN_ACK).seq(BACKEND_ISN, ISN + 1).window(65_160);
        if !self.has_timestamps {
            return builder.tcp_options(&[2, 4, 5, 0xb4]);
        }
        let mut options = linux_options(1460, BACKEND_TS);
        options[12..16].copy_from_slice(&(CLIENT_TS + 5).to_be_bytes());
        options[19] = 7;
        builder.tcp_options(&options)
    }

    /// What the client calls this number of the backend's.
    fn client_name(&self, seq: u32) -> u32 {
        seq.wrapping_sub(BACKEND_ISN).wrapping_add(self.cookie)
    }
}

/// SYN and cookie.
fn ask(rig: &mut Rig, ends: Ends, options: &[u8]) -> Talk {
    let syn = from_client(ends).flags(TcpFlags::SYN).seq(ISN, 0).tcp_options(options).build();
    let (verdict, left) = rig.send(OUT, &syn);
    assert_eq!(verdict, Verdict::Reply(None));
    let answer = only(OUT, &left);
    assert_eq!((answer.tcp.flags.0 & SYN_ACK, answer.tcp.ack, answer.tcp.window), (SYN_ACK, ISN + 1, 0));
    assert_eq!(answer.packet.key.reversed(), heard(&syn).packet.key);
    assert!(answer.packet.dont_fragment && answer.payload.is_empty());
    let stamp = answer.options.timestamps.map(|(ours, theirs)| {
        assert_eq!(theirs, CLIENT_TS);
        ours
    });
    Talk { ends, cookie: answer.tcp.seq, stamp: stamp.unwrap_or(0), has_timestamps: stamp.is_some() }
}

/// The same, with the proof: the backend's SYN.
fn prove(rig: &mut Rig, ends: Ends, options: &[u8]) -> (Talk, Heard) {
    let talk = ask(rig, ends, options);
    let (verdict, left) = rig.send(OUT, &talk.ack().build());
    assert_eq!(verdict, Verdict::Hold);
    let syn = only(IN, &left);
    assert_eq!((syn.tcp.flags.0 & !(ECE | CWR), syn.tcp.seq), (TcpFlags::SYN, ISN));
    (talk, syn)
}

/// The same, spliced.
fn splice(rig: &mut Rig, ends: Ends, options: &[u8]) -> Talk {
    let (talk, _) = prove(rig, ends, options);
    let (verdict, left) = rig.send(IN, &talk.syn_ack().build());
    assert_eq!(verdict, Verdict::Forward(OUT));
    let [(IN, ack), (OUT, window)] = &left[..] else { panic!("{left:x?}") };
    let (ack, window) = (heard(ack), heard(window));
    assert_eq!((ack.tcp.flags.0, ack.tcp.seq, ack.tcp.ack), (TcpFlags::ACK, ISN + 1, BACKEND_ISN + 1));
    assert_eq!((window.tcp.flags.0, window.tcp.ack), (TcpFlags::ACK, ISN + 1));
    assert_eq!(window.tcp.seq, talk.cookie.wrapping_add(1));
    if talk.has_timestamps {
        assert_eq!(ack.options.timestamps, Some((CLIENT_TS + 5, BACKEND_TS)));
        assert_eq!(window.options.timestamps, Some((talk.stamp, CLIENT_TS + 5)));
        assert_eq!(window.tcp.window, 65_160 >> 7);
    } else {
        assert_eq!((ack.raw_options.len(), window.raw_options.len(), window.tcp.window), (0, 0, 65_160));
    }
    assert_eq!(rig.balance(), (0, 0));
    talk
}

fn linux() -> Vec<u8> {
    linux_options(1460, CLIENT_TS)
}

#[test]
fn s01_a_syn_is_answered_and_leaves_nothing() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let talk = ask(&mut rig, ends, &linux());
        assert_eq!(rig.pipeline.flow_count(), 0);
        assert!(rig.pipeline.proxy().half_opens.is_empty());
        assert_eq!(rig.pipeline.counters().syn.cookies_sent, 1);
        // S-08: the same SYN again gets the same answer, and nothing comes by itself.
        assert!(rig.pass(Duration::from_secs(1)).is_empty());
        assert_eq!(ask(&mut rig, ends, &linux()).cookie, talk.cookie);
        assert!(rig.pass(Duration::from_secs(30)).is_empty());
    }
}

#[test]
fn s02_data_goes_both_ways_and_both_ends_close() {
    for ends in BOTH {
        for options in [linux(), vec![2, 4, 5, 0xb4]] {
            let mut rig = Rig::new();
            let talk = splice(&mut rig, ends, &options);
            let (back, forth) = (BACKEND_ISN + 1, talk.cookie.wrapping_add(1));
            let with = |builder: FrameBuilder, value, echo| {
                if talk.has_timestamps { builder.tcp_options(&timestamps(value, echo)) } else { builder }
            };
            let request = with(from_client(ends).seq(ISN + 1, forth).window(501), CLIENT_TS + 9, talk.stamp);
            let (verdict, left) = rig.send(OUT, &request.payload(b"request").build());
            assert_eq!(verdict, Verdict::Forward(IN));
            let request = only(IN, &left);
            assert_eq!((request.tcp.seq, request.tcp.ack, request.tcp.window), (ISN + 1, back, 501));
            assert_eq!(request.payload, b"request");
            let answer = with(
                from_backend(ends).seq(back, ISN + 8).window(509),
                BACKEND_TS.wrapping_add(300),
                CLIENT_TS + 9,
            );
            let (verdict, left) = rig.send(IN, &answer.payload(b"answer").build());
            assert_eq!(verdict, Verdict::Forward(OUT));
            let answer = only(OUT, &left);
            assert_eq!((answer.tcp.seq, answer.tcp.ack, answer.tcp.window), (forth, ISN + 8, 509));
            if talk.has_timestamps {
                assert_eq!(request.options.timestamps, Some((CLIENT_TS + 9, BACKEND_TS)));
                assert_eq!(answer.options.timestamps, Some((talk.stamp.wrapping_add(300), CLIENT_TS + 9)));
            }
            let fin = TcpFlags::FIN | TcpFlags::ACK;
            let close = with(
                from_client(ends).flags(fin).seq(ISN + 8, forth.wrapping_add(6)),
                CLIENT_TS + 10,
                talk.stamp,
            );
            assert_eq!(only(IN, &rig.send(OUT, &close.build()).1).tcp.ack, back + 6);
            let close = with(
                from_backend(ends).flags(fin).seq(back + 6, ISN + 9),
                BACKEND_TS.wrapping_add(301),
                CLIENT_TS + 10,
            );
            assert_eq!(only(OUT, &rig.send(IN, &close.build()).1).tcp.seq, forth.wrapping_add(6));
            let last =
                with(from_client(ends).seq(ISN + 9, forth.wrapping_add(7)), CLIENT_TS + 11, talk.stamp);
            assert_eq!(only(IN, &rig.send(OUT, &last.build()).1).tcp.ack, back + 7);
            rig.pass(Duration::from_secs(11));
            assert_eq!((rig.pipeline.flow_count(), rig.balance()), (0, (0, 0)));
        }
    }
}

#[test]
fn s03_and_s04_only_a_right_cookie_is_believed_and_only_once() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let talk = ask(&mut rig, ends, &linux());
        let invalid = Verdict::Drop(DropReason::InvalidCookie);
        for (seq, ack) in [(1, 2), (1, 17), (2, 1), (100, 1)] {
            let wrong = from_client(ends).seq(ISN.wrapping_add(seq), talk.cookie.wrapping_add(ack));
            let wrong = wrong.tcp_options(&timestamps(CLIENT_TS, talk.stamp));
            // Another class of segment sizes is told by nothing; what differs beyond that is.
            if ack != 2 {
                assert_eq!(rig.send(OUT, &wrong.build()), (invalid, vec![]), "{seq} {ack}");
            }
        }
        let stale = talk.ack().tcp_options(&timestamps(CLIENT_TS, talk.stamp.wrapping_sub(1 << 20)));
        assert_eq!(rig.send(OUT, &stale.build()), (invalid, vec![]));
        let other =
            FrameBuilder::new(ends.client, ends.frontend).link(PEER_MAC, MACS[0]).tcp(CLIENT_PORT + 1, 443);
        let other =
            other.seq(ISN + 1, talk.cookie.wrapping_add(1)).tcp_options(&timestamps(CLIENT_TS, talk.stamp));
        assert_eq!(rig.send(OUT, &other.build()), (invalid, vec![]));
        assert_eq!(rig.pipeline.flow_count(), 0);
        // The right one still works; when its connection is over it does not work again.
        assert_eq!(rig.send(OUT, &talk.ack().build()).0, Verdict::Hold);
        assert_eq!(rig.send(IN, &talk.syn_ack().build()).0, Verdict::Forward(OUT));
        let reset = from_client(ends).flags(TcpFlags::RST).seq(ISN + 1, 0).build();
        assert_eq!(rig.send(OUT, &reset).0, Verdict::Forward(IN));
        rig.pass(Duration::from_secs(11));
        assert_eq!(rig.pipeline.flow_count(), 0);
        assert_eq!(rig.send(OUT, &talk.ack().build()), (invalid, vec![]));
        // One that is too old neither.
        let late = ask(&mut rig, ends, &linux_options(1400, CLIENT_TS));
        rig.pass(Duration::from_secs(121));
        assert_eq!(rig.send(OUT, &late.ack().build()), (invalid, vec![]));
        assert_eq!(rig.balance(), (0, 0));
    }
}

#[test]
fn s05_unknown_options_are_never_reflected() {
    let unknown: [&[u8]; 4] =
        [&[30, 4, 0, 1], &[34, 2, 1, 1], &[253, 4, 0xf9, 0x89], &[254, 6, 1, 2, 3, 4, 1, 1]];
    for ends in BOTH {
        for more in unknown {
            let mut options = linux();
            options.extend(more);
            let mut rig = Rig::new();
            let syn = from_client(ends)
                .flags(TcpFlags::SYN)
                .seq(ISN, 0)
                .tcp_options(&options)
                .payload(b"early")
                .build();
            let answer = only(OUT, &rig.send(OUT, &syn).1);
            // S-09: the data is not acknowledged.
            assert_eq!(answer.tcp.ack, ISN + 1);
            assert_eq!(answer.raw_options.len(), 20);
            assert_eq!((answer.raw_options[0], &answer.raw_options[4..8]), (2, &[4, 2, 8, 10][..]));
            assert_eq!(&answer.raw_options[16..], [1, 3, 3, 7]);
        }
    }
}

#[test]
fn s06_the_segment_size_stays_close() {
    for (ends, named, told, rough) in [
        (V4, 9000, 8960, 1460),
        (V4, 1460, 1460, 1460),
        (V4, 536, 536, 536),
        (V4, 1000, 1000, 1000),
        (V4, 1452, 1449, 1360),
        (V6, 1440, 1440, 1440),
        (V6, 1400, 1400, 1380),
        (V6, 1350, 1350, 1280),
    ] {
        let [high, low] = u16::to_be_bytes(named);
        let (_, syn) = prove(&mut Rig::new(), ends, &linux_options(named, CLIENT_TS));
        assert_eq!(syn.options.mss, Some(told), "{named}");
        let (_, syn) = prove(&mut Rig::new(), ends, &[2, 4, high, low]);
        assert_eq!(syn.options.mss, Some(rough), "{named}");
    }
    for (ends, least) in [(V4, 536), (V6, 1220)] {
        let (_, syn) = prove(&mut Rig::new(), ends, &[]);
        assert_eq!(syn.options.mss, Some(least));
        // A size that only attackers name.
        assert_eq!(prove(&mut Rig::new(), ends, &[2, 4, 0, 48]).1.options.mss, Some(least));
    }
}

#[test]
fn s07_what_the_client_did_not_offer_is_not_offered_for_it() {
    let without = |what: &[(usize, usize)]| {
        let mut options = linux();
        what.iter().for_each(|&(from, to)| options[from..to].fill(1));
        options
    };
    for ends in BOTH {
        let (_, syn) = prove(&mut Rig::new(), ends, &linux());
        assert_eq!((syn.options.window_scale, syn.options.sack_permitted), (Some(9), true));
        assert_eq!((syn.options.timestamps, syn.tcp.window), (Some((CLIENT_TS + 5, 0)), u16::MAX));
        let (_, syn) = prove(&mut Rig::new(), ends, &without(&[(4, 6)]));
        assert_eq!((syn.options.window_scale, syn.options.sack_permitted), (Some(9), false));
        let (_, syn) = prove(&mut Rig::new(), ends, &without(&[(17, 20)]));
        assert_eq!((syn.options.window_scale, syn.options.sack_permitted), (None, true));
        assert_eq!(syn.tcp.window, 500);
        // Without timestamps nothing but the segment size can be remembered.
        let (_, syn) = prove(&mut Rig::new(), ends, &without(&[(6, 16)]));
        assert_eq!(syn.options, SynOptions { mss: Some(syn.options.mss.unwrap()), ..SynOptions::default() });
    }
}

#[test]
fn s09_what_the_client_sends_early_waits() {
    for ends in BOTH {
        let mut rig = Rig::new();
        // The acknowledgement is lost; the first segment has data.
        let talk = ask(&mut rig, ends, &linux());
        let (verdict, left) = rig.send(OUT, &talk.ack().payload(b"data").build());
        assert_eq!((verdict, left.len()), (Verdict::Hold, 1));
        for _ in 0..3 {
            assert_eq!(rig.send(OUT, &talk.ack().payload(b"data").build()), (Verdict::Hold, vec![]));
        }
        assert_eq!(rig.balance(), (0, 4));
        assert_eq!(rig.send(IN, &talk.syn_ack().build()).0, Verdict::Forward(OUT));
        assert_eq!(rig.balance(), (0, 0));
        assert_eq!(rig.send(OUT, &talk.ack().payload(b"data").build()).0, Verdict::Forward(IN));
        // A probe of the closed window proves as much.
        let mut rig = Rig::new();
        let talk = ask(&mut rig, ends, &linux());
        let probe = talk.ack().seq(ISN, talk.cookie.wrapping_add(1)).build();
        assert_eq!(rig.send(OUT, &probe).0, Verdict::Hold);
        assert_eq!(rig.send(IN, &talk.syn_ack().build()).0, Verdict::Forward(OUT));
        // S-19: later ones pass.
        let left = rig.send(OUT, &probe).1;
        assert_eq!((only(IN, &left).tcp.seq, only(IN, &left).tcp.ack), (ISN, BACKEND_ISN + 1));
    }
}

#[test]
fn s10_the_client_gives_up() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let talk = ask(&mut rig, ends, &linux());
        let reset = from_client(ends).flags(RST_ACK).seq(ISN + 1, talk.cookie.wrapping_add(1)).build();
        assert_eq!(rig.send(OUT, &reset), (Verdict::Drop(DropReason::InvalidState), vec![]));
        rig.send(OUT, &talk.ack().build());
        // One that does not fit changes nothing.
        let forged = from_client(ends).flags(TcpFlags::RST).seq(ISN + 2, 0).build();
        assert_eq!(rig.send(OUT, &forged).0, Verdict::Drop(DropReason::InvalidState));
        let (verdict, left) = rig.send(OUT, &reset);
        assert_eq!(verdict, Verdict::Forward(IN));
        let reset = only(IN, &left);
        assert_eq!((reset.tcp.flags.0, reset.tcp.seq, reset.tcp.ack), (TcpFlags::RST, ISN + 1, 0));
        assert_eq!(rig.balance(), (0, 0));
        assert!(rig.pass(Duration::from_secs(20)).is_empty());
        assert_eq!(rig.pipeline.flow_count(), 0);
    }
}

#[test]
fn s11_the_backend_refuses() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let (talk, syn) = prove(&mut rig, ends, &linux());
        // Not an answer to this SYN.
        let stray = from_backend(ends).flags(RST_ACK).seq(0, ISN + 9).build();
        assert_eq!(rig.send(IN, &stray).0, Verdict::Drop(DropReason::InvalidState));
        for seq in [0, 12_345] {
            let refusal = from_backend(ends).flags(RST_ACK).seq(seq, ISN + 1).window(0).build();
            let (verdict, left) = rig.send(IN, &refusal);
            assert_eq!(verdict, Verdict::Forward(OUT));
            let reset = only(OUT, &left);
            assert_eq!((reset.tcp.flags.0, reset.tcp.ack), (RST_ACK, ISN + 1));
            if seq == 0 {
                assert_eq!(reset.tcp.seq, talk.cookie.wrapping_add(1));
            }
        }
        assert_eq!((rig.balance(), rig.pipeline.counters().syn.refused), ((0, 0), 1));
        rig.pass(Duration::from_secs(11));
        assert_eq!(rig.pipeline.flow_count(), 0);
        // A client that did not get the reset is not left alone.
        let (verdict, left) = rig.send(OUT, &talk.ack().build());
        assert_eq!((verdict, only(IN, &left)), (Verdict::Hold, syn));
    }
}

#[test]
fn s11_a_backend_behind_a_filter_that_says_so() {
    for ends in BOTH {
        let error = |rig: &mut Rig, code: u8, syn: &[u8]| {
            let builder = FrameBuilder::new(ends.backend, ends.client).link(PEER_MAC, MACS[1]);
            let builder = builder.icmp(if ends.v6 { 1 } else { 3 }, code, [0; 4]);
            rig.send(IN, &builder.payload(&syn[14..]).build())
        };
        let (port_unreachable, host_unreachable) = if ends.v6 { (4, 3) } else { (3, 1) };
        let mut rig = Rig::new();
        let talk = ask(&mut rig, ends, &linux());
        for refused in 1..3 {
            let syn = rig.send(OUT, &talk.ack().build()).1.remove(0).1;
            // What may pass is passed on; what quotes another number is about nothing.
            let (verdict, left) = error(&mut rig, host_unreachable, &syn);
            assert_eq!((verdict, left.len()), (Verdict::Forward(OUT), 1));
            assert_eq!(rig.pipeline.flow_count(), 1);
            let mut other = syn.clone();
            let seq_at = if ends.v6 { 58 } else { 38 };
            other[seq_at] ^= 0x10;
            assert_eq!(error(&mut rig, port_unreachable, &other).0, Verdict::Drop(DropReason::InvalidState));
            let (verdict, left) = error(&mut rig, port_unreachable, &syn);
            assert_eq!(verdict, Verdict::Forward(OUT));
            let reset = only(OUT, &left);
            assert_eq!(reset.tcp.flags.0, RST_ACK);
            assert_eq!((reset.tcp.seq, reset.tcp.ack), (talk.cookie.wrapping_add(1), ISN + 1));
            assert_eq!((rig.pipeline.flow_count(), rig.balance()), (0, (0, 0)));
            // Once more, as if the reset had been lost.
            assert_eq!(rig.pipeline.counters().syn.refused, refused);
        }
    }
}

#[test]
fn s12_the_backend_is_silent() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let (talk, syn) = prove(&mut rig, ends, &linux());
        for wait in [1, 2, 4] {
            assert!(rig.pass(Duration::from_secs(wait) - Duration::from_millis(1)).is_empty());
            assert_eq!(only(IN, &rig.pass(Duration::from_millis(1))), syn);
        }
        assert!(rig.pass(Duration::from_millis(7_999)).is_empty());
        let reset = only(OUT, &rig.pass(Duration::from_millis(1)));
        assert_eq!((reset.tcp.flags.0, reset.tcp.seq), (RST_ACK, talk.cookie.wrapping_add(1)));
        assert_eq!(reset.tcp.ack, ISN + 1);
        assert_eq!((rig.pipeline.flow_count(), rig.balance()), (0, (0, 0)));
        assert_eq!(rig.send(IN, &talk.syn_ack().build()), (Verdict::Drop(DropReason::InvalidState), vec![]));
        // A client that did not get the reset is not left alone.
        let (verdict, left) = rig.send(OUT, &talk.ack().build());
        assert_eq!((verdict, only(IN, &left)), (Verdict::Hold, syn));
        // One that answers late, but not too late, is as good as any.
        let mut rig = Rig::new();
        let (talk, _) = prove(&mut rig, ends, &linux());
        rig.pass(Duration::from_secs(14));
        assert_eq!(rig.send(IN, &talk.syn_ack().build()).0, Verdict::Forward(OUT));
    }
}

#[test]
fn s12_a_flow_that_times_out_first_resets_its_client() {
    let mut rig = Rig::new();
    rig.reload(&CONFIG.replace("tcp_half_open: 20s", "tcp_half_open: 3s"));
    let (talk, _) = prove(&mut rig, V4, &linux());
    let left = rig.pass(Duration::from_secs(30));
    let resets: Vec<Heard> =
        left.iter().filter(|(port, _)| *port == OUT).map(|(_, frame)| heard(frame)).collect();
    assert_eq!(resets.len(), 1);
    assert_eq!((resets[0].tcp.seq, resets[0].tcp.ack), (talk.cookie.wrapping_add(1), ISN + 1));
    assert_eq!((rig.pipeline.flow_count(), rig.balance()), (0, (0, 0)));
    assert!(rig.pipeline.proxy().half_opens.is_empty());
}

#[test]
fn s13_selective_acknowledgements_name_what_was_sent() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let talk = splice(&mut rig, ends, &linux());
        let (back, forth) = (BACKEND_ISN + 1, talk.cookie.wrapping_add(1));
        let sack = |value, echo, edges: [u32; 2]| {
            let mut options = timestamps(value, echo);
            options.extend([1, 1, 5, 10]);
            options.extend(edges.iter().flat_map(|edge| edge.to_be_bytes()));
            options
        };
        let edges = |heard: &Heard| {
            let option = &heard.raw_options[16..];
            [0, 4].map(|at| u32::from_be_bytes(*option[at..].first_chunk().unwrap()))
        };
        let data =
            from_backend(ends).seq(back + 1000, ISN + 1).tcp_options(&timestamps(BACKEND_TS, CLIENT_TS + 5));
        assert_eq!(rig.send(IN, &data.payload(&[7; 500]).build()).0, Verdict::Forward(OUT));
        let of_client = [1000, 1500].map(|n| forth.wrapping_add(n));
        let ack =
            from_client(ends).seq(ISN + 1, forth).tcp_options(&sack(CLIENT_TS + 7, talk.stamp, of_client));
        assert_eq!(edges(&only(IN, &rig.send(OUT, &ack.build()).1)), [back + 1000, back + 1500]);
        // What the backend acknowledges are the client's own numbers.
        let of_backend = [ISN + 2, ISN + 9];
        let ack =
            from_backend(ends).seq(back, ISN + 1).tcp_options(&sack(BACKEND_TS, CLIENT_TS + 5, of_backend));
        assert_eq!(edges(&only(OUT, &rig.send(IN, &ack.build()).1)), of_backend);
    }
}

#[test]
fn s15_a_backend_that_offers_less() {
    for ends in BOTH {
        // Another scale than was promised: windows are told in the other unit.
        let mut rig = Rig::new();
        let (talk, _) = prove(&mut rig, ends, &linux());
        let mut options = linux_options(1200, BACKEND_TS);
        options[19] = 2;
        let syn_ack = talk.syn_ack().tcp_options(&options).build();
        let (_, left) = rig.send(IN, &syn_ack);
        assert_eq!(heard(&left[1].1).tcp.window, 65_160 >> 7);
        let (back, forth) = (BACKEND_ISN + 1, talk.cookie.wrapping_add(1));
        let ack = from_backend(ends)
            .seq(back, ISN + 1)
            .window(16_290)
            .tcp_options(&timestamps(BACKEND_TS, 0))
            .build();
        assert_eq!(only(OUT, &rig.send(IN, &ack).1).tcp.window, ((16_290u32 << 2) >> 7) as u16);
        // Segments that are too large are answered as by a narrow link.
        let segment = |len: usize| {
            let builder =
                from_client(ends).seq(ISN + 1, forth).tcp_options(&timestamps(CLIENT_TS + 9, talk.stamp));
            builder.payload(&vec![1; len]).build()
        };
        let (verdict, left) = rig.send(OUT, &segment(1189));
        let too_small_for_v6 = 1200 + 60 < 1280 && ends.v6;
        if !too_small_for_v6 {
            assert_eq!(verdict, Verdict::Reply(Some(DropReason::TooBig)));
            let mtu = &left[0].1[if ends.v6 { 58..62 } else { 38..42 }];
            assert_eq!(u32::from_be_bytes(*mtu.first_chunk().unwrap()), 1200 + if ends.v6 { 60 } else { 40 });
        }
        assert_eq!(rig.send(OUT, &segment(1188)).0, Verdict::Forward(IN));
        // The next client is told at once.
        let syn =
            from_client(ends).tcp(CLIENT_PORT + 1, 443).flags(TcpFlags::SYN).seq(5, 0).tcp_options(&linux());
        let told = only(OUT, &rig.send(OUT, &syn.build()).1).options;
        assert_eq!((told.mss, told.window_scale), (Some(1200), Some(2)));

        // Nothing but a segment size: what the client sends of the rest is taken out.
        let mut rig = Rig::new();
        let (talk, _) = prove(&mut rig, ends, &linux());
        let syn_ack = talk.syn_ack().tcp_options(&[2, 4, 5, 0xb4]).build();
        let (verdict, left) = rig.send(IN, &syn_ack);
        assert_eq!(verdict, Verdict::Forward(OUT));
        // 500 in units of 2^9 is more than a window without a scale can say.
        assert_eq!((heard(&left[0].1).tcp.window, heard(&left[0].1).raw_options.len()), (u16::MAX, 0));
        let ack = from_client(ends).seq(ISN + 1, talk.cookie.wrapping_add(1)).window(20);
        let ack = ack.tcp_options(&timestamps(CLIENT_TS + 9, talk.stamp)).build();
        let passed = only(IN, &rig.send(OUT, &ack).1);
        assert_eq!((passed.tcp.window, &passed.raw_options[..]), (20 << 9, &[1; 12][..]));
        let syn =
            from_client(ends).tcp(CLIENT_PORT + 1, 443).flags(TcpFlags::SYN).seq(5, 0).tcp_options(&linux());
        assert_eq!(only(OUT, &rig.send(OUT, &syn.build()).1).raw_options.len(), 4);
    }
}

#[test]
fn congestion_notification_is_asked_for_and_agreed_or_not() {
    let syn_flags = TcpFlags::SYN | ECE | CWR;
    for (agrees, codepoint) in [(true, 2), (false, 0)] {
        let mut rig = Rig::new();
        let syn = from_client(V4).flags(syn_flags).seq(ISN, 0).tcp_options(&linux()).build();
        let answer = only(OUT, &rig.send(OUT, &syn).1);
        assert_eq!(answer.tcp.flags.0, SYN_ACK | ECE);
        let talk = Talk {
            ends: V4,
            cookie: answer.tcp.seq,
            stamp: answer.options.timestamps.unwrap().0,
            has_timestamps: true,
        };
        assert_eq!(only(IN, &rig.send(OUT, &talk.ack().build()).1).tcp.flags.0, syn_flags);
        let ece = if agrees { ECE } else { 0 };
        rig.send(IN, &talk.syn_ack().flags(SYN_ACK | ece).build());
        let mut data = talk.ack().payload(b"x").build();
        data[15] = 2;
        let checksum = u16::from_be_bytes([data[24], data[25]]);
        let delta = crate::emit::checksum::ChecksumDelta::new().replace_u16(0x4500, 0x4502);
        data[24..26].copy_from_slice(&delta.apply(checksum).to_be_bytes());
        assert_eq!(rig.send(OUT, &data).1[0].1[15], codepoint);
    }
}

#[test]
fn what_is_no_honest_syn() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let flags = |flags| from_client(ends).flags(flags).seq(ISN, 0).tcp_options(&linux()).build();
        for bits in [TcpFlags::SYN | TcpFlags::FIN, TcpFlags::SYN | TcpFlags::RST] {
            assert_eq!(rig.send(OUT, &flags(bits)), (Verdict::Drop(DropReason::Malformed), vec![]));
        }
        assert_eq!(rig.send(OUT, &flags(SYN_ACK)), (Verdict::Drop(DropReason::InvalidState), vec![]));
        let mut bad = flags(TcpFlags::SYN);
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(rig.send(OUT, &bad), (Verdict::Drop(DropReason::BadChecksum), vec![]));
        // Signed connections go past the proxy.
        let signed = from_client(ends).flags(TcpFlags::SYN).seq(ISN, 0);
        let mut md5 = vec![19, 18];
        md5.extend([7; 16]);
        let (verdict, left) = rig.send(OUT, &signed.tcp_options(&md5).build());
        assert_eq!(verdict, Verdict::Forward(IN));
        assert_eq!(only(IN, &left).raw_options[..18], md5);
        assert_eq!(
            rig.send(IN, &from_backend(ends).flags(SYN_ACK).seq(1, ISN + 1).build()).0,
            Verdict::Forward(OUT)
        );
    }
    // Whom no rule lets in is not answered, nor where nothing is asked.
    let mut rig = Rig::new();
    let denied = FrameBuilder::new("192.0.2.66", V4.frontend).link(PEER_MAC, MACS[0]).tcp(1, 443);
    let (verdict, left) = rig.send(OUT, &denied.flags(TcpFlags::SYN).build());
    assert_eq!((verdict, left), (Verdict::Drop(DropReason::DeniedByRule), vec![]));
    let unproved = from_client(V4).tcp(CLIENT_PORT, 80).flags(TcpFlags::SYN).build();
    assert_eq!(rig.send(OUT, &unproved).0, Verdict::Forward(IN));
    let stray = from_client(V4).tcp(CLIENT_PORT + 9, 80).build();
    assert_eq!(rig.send(OUT, &stray).0, Verdict::Drop(DropReason::InvalidState));
}

#[test]
fn answers_to_one_address_are_limited() {
    let mut rig = Rig::new();
    let mut answered = 0;
    for port in 1..2000 {
        let syn = from_client(V4).tcp(port, 443).flags(TcpFlags::SYN).seq(port.into(), 0).build();
        match rig.send(OUT, &syn).0 {
            Verdict::Reply(None) => answered += 1,
            verdict => assert_eq!(verdict, Verdict::Drop(DropReason::SynRate)),
        }
    }
    assert_eq!(answered, 512);
    // Somebody else is not concerned.
    ask(&mut rig, V6, &linux());
}

#[test]
fn a_syn_in_the_midst_is_challenged_and_the_same_ends_come_again() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let talk = splice(&mut rig, ends, &linux());
        let syn = from_client(ends).flags(TcpFlags::SYN).seq(900_000, 0).tcp_options(&linux()).build();
        let (verdict, left) = rig.send(OUT, &syn);
        assert_eq!(verdict, Verdict::Reply(None));
        let challenge = only(OUT, &left);
        assert_eq!((challenge.tcp.flags.0, challenge.tcp.seq), (TcpFlags::ACK, talk.cookie.wrapping_add(1)));
        assert_eq!(challenge.tcp.ack, ISN + 1);
        let reset = from_client(ends).flags(TcpFlags::RST).seq(challenge.tcp.ack, 0).build();
        assert_eq!(only(IN, &rig.send(OUT, &reset).1).tcp.seq, ISN + 1);
        // And again: another cookie, and nothing of the old connection is left in what is translated.
        let (verdict, left) = rig.send(OUT, &syn);
        assert_eq!(verdict, Verdict::Reply(None));
        let cookie = only(OUT, &left);
        let ack = from_client(ends).seq(900_001, cookie.tcp.seq.wrapping_add(1));
        let stamp = cookie.options.timestamps.unwrap().0;
        let (verdict, left) = rig.send(OUT, &ack.tcp_options(&timestamps(CLIENT_TS, stamp)).build());
        assert_eq!(verdict, Verdict::Hold);
        assert_eq!(only(IN, &left).tcp.seq, 900_000);
        let syn_ack = from_backend(ends).flags(SYN_ACK).seq(5, 900_001).tcp_options(&linux()).build();
        let (_, left) = rig.send(IN, &syn_ack);
        assert_eq!(heard(&left[1].1).tcp.seq, cookie.tcp.seq.wrapping_add(1));
        assert_eq!(rig.pipeline.flow_count(), 1);
    }
}

/// One that is late or forged does no harm: the client still knows what the backend has, and what it may send.
#[test]
fn a_challenge_says_nothing_that_the_backend_did_not_say() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let talk = splice(&mut rig, ends, &linux());
        let (back, forth) = (BACKEND_ISN + 1, talk.cookie.wrapping_add(1));
        let stamps = |theirs: u32| timestamps(BACKEND_TS.wrapping_add(1), theirs);
        for (seq, data) in [(ISN + 1, "arrives"), (ISN + 8, "lost")] {
            let segment =
                from_client(ends).seq(seq, forth).tcp_options(&timestamps(CLIENT_TS + 9, talk.stamp));
            assert_eq!(rig.send(OUT, &segment.payload(data.as_bytes()).build()).0, Verdict::Forward(IN));
        }
        let acknowledgement = from_backend(ends).seq(back, ISN + 8).window(300);
        rig.send(IN, &acknowledgement.tcp_options(&stamps(CLIENT_TS + 9)).build());
        let late = from_client(ends).flags(TcpFlags::SYN).seq(ISN, 0).tcp_options(&linux()).build();
        let (verdict, left) = rig.send(OUT, &late);
        assert_eq!(verdict, Verdict::Reply(None));
        let challenge = only(OUT, &left).tcp;
        assert_eq!((challenge.flags.0, challenge.seq, challenge.ack), (TcpFlags::ACK, forth, ISN + 8));
        // The edge that it was given with the handshake has not gone back.
        assert_eq!(challenge.window, (65_160u16 - 7).div_ceil(128));
    }
}

#[test]
fn a_client_that_begins_anew_before_the_backend_answers() {
    let mut rig = Rig::new();
    let (_, _) = prove(&mut rig, V4, &linux());
    let syn = from_client(V4).flags(TcpFlags::SYN).seq(500, 0).tcp_options(&linux()).build();
    let (verdict, left) = rig.send(OUT, &syn);
    assert_eq!(verdict, Verdict::Reply(None));
    let cookie = only(OUT, &left);
    // The first handshake goes on until the second client proves itself.
    assert_eq!(rig.pipeline.proxy().half_opens.len(), 1);
    let stamp = cookie.options.timestamps.unwrap().0;
    let ack =
        from_client(V4).seq(501, cookie.tcp.seq.wrapping_add(1)).tcp_options(&timestamps(9, stamp)).build();
    let (verdict, left) = rig.send(OUT, &ack);
    assert_eq!((verdict, only(IN, &left).tcp.seq), (Verdict::Hold, 500));
    assert_eq!(
        (rig.pipeline.flow_count(), rig.pipeline.proxy().half_opens.len(), rig.balance()),
        (1, 1, (0, 1))
    );
}

#[test]
fn a_backend_with_an_older_connection_is_cleared() {
    let mut rig = Rig::new();
    let (talk, _) = prove(&mut rig, V4, &linux());
    let challenge = from_backend(V4).seq(4_000, 7_000).build();
    let (verdict, left) = rig.send(IN, &challenge);
    assert_eq!(verdict, Verdict::Reply(None));
    let reset = only(IN, &left);
    assert_eq!((reset.tcp.flags.0, reset.tcp.seq), (TcpFlags::RST, 7_000));
    assert_eq!(only(IN, &rig.pass(Duration::from_secs(1))).tcp.flags.0, TcpFlags::SYN);
    assert_eq!(rig.send(IN, &talk.syn_ack().build()).0, Verdict::Forward(OUT));
}

#[test]
fn errors_about_either_side_are_understood() {
    for ends in BOTH {
        let mut rig = Rig::new();
        let talk = splice(&mut rig, ends, &linux());
        let data = from_backend(ends)
            .seq(BACKEND_ISN + 1, ISN + 1)
            .tcp_options(&timestamps(BACKEND_TS, CLIENT_TS + 5));
        let sent = data.payload(&[7; 100]).build();
        let as_client_sees = rig.send(IN, &sent).1.remove(0).1;
        let quote = |from: &str, to: &str, quoted: &[u8], link: Mac| {
            let rest = [0, 0, 5, 0];
            let builder = FrameBuilder::new(from, to).link(PEER_MAC, link);
            if ends.v6 { builder.icmp(2, 0, rest) } else { builder.icmp(3, 4, rest) }
                .payload(&quoted[14..])
                .build()
        };
        let (verdict, left) = rig.send(OUT, &quote(ends.client, ends.frontend, &as_client_sees, MACS[0]));
        assert_eq!(verdict, Verdict::Forward(IN));
        let ip_len = if ends.v6 { 40 } else { 20 };
        let inner = &left[0].1[14 + ip_len + 8 + ip_len..];
        assert_eq!(u32::from_be_bytes(*inner[4..].first_chunk().unwrap()), BACKEND_ISN + 1);
        // The other way: the client's numbers are its own, and what it acknowledged is as it wrote it.
        let request = talk.ack().payload(b"request").build();
        let as_backend_sees = rig.send(OUT, &request).1.remove(0).1;
        let (verdict, left) = rig.send(IN, &quote(ends.backend, ends.client, &as_backend_sees, MACS[1]));
        assert_eq!(verdict, Verdict::Forward(OUT));
        let inner = &left[0].1[14 + ip_len + 8 + ip_len..];
        assert_eq!(u32::from_be_bytes(*inner[4..].first_chunk().unwrap()), ISN + 1);
        assert_eq!(u32::from_be_bytes(*inner[8..].first_chunk().unwrap()), talk.cookie.wrapping_add(1));
        // An error that quotes the backend's own numbers to the frontend is not about anything that the client was sent.
        let (verdict, _) = rig.send(
            OUT,
            &quote(
                ends.client,
                ends.frontend,
                &{
                    let mut forged = as_client_sees.clone();
                    let at = 14 + ip_len + 4;
                    forged[at..at + 4].copy_from_slice(&(BACKEND_ISN + 1).to_be_bytes());
                    forged
                },
                MACS[0],
            ),
        );
        assert_eq!(verdict, Verdict::Drop(DropReason::InvalidState));
    }
}

#[test]
fn an_idle_connection_is_reset_at_both_ends_in_their_own_numbers() {
    let mut rig = Rig::new();
    let talk = splice(&mut rig, V4, &linux());
    let left = rig.pass(Duration::from_secs(250));
    let [(first, a), (second, b)] = &left[..] else { panic!("{left:x?}") };
    assert_eq!((*first, *second), (IN, OUT));
    let (to_backend, to_client) = (heard(a), heard(b));
    assert_eq!((to_backend.tcp.seq, to_backend.tcp.ack), (ISN + 1, BACKEND_ISN + 1));
    assert_eq!((to_client.tcp.seq, to_client.tcp.ack), (talk.client_name(BACKEND_ISN + 1), ISN + 1));
}

#[test]
fn s20_a_reload_keeps_what_is_spliced_and_what_is_on_its_way() {
    let mut rig = Rig::new();
    let talk = splice(&mut rig, V4, &linux());
    let other = prove(&mut rig, V6, &linux()).0;
    rig.reload(&CONFIG.replace("syn_proxy: always", "syn_proxy: off"));
    let data = talk.ack().payload(b"data").build();
    assert_eq!(only(IN, &rig.send(OUT, &data).1).tcp.ack, BACKEND_ISN + 1);
    assert_eq!(rig.send(IN, &other.syn_ack().build()).0, Verdict::Forward(OUT));
    // New ones are not asked any more.
    let syn = from_client(V4).tcp(9, 443).flags(TcpFlags::SYN).build();
    assert_eq!(rig.send(OUT, &syn).0, Verdict::Forward(IN));
}

#[test]
fn half_open_handshakes_are_bounded() {
    let mut rig = Rig::new();
    let mut full = 0;
    for port in 1..=100u16 {
        let client = || from_client(V4).tcp(port, 443);
        let syn = client().flags(TcpFlags::SYN).seq(5, 0).build();
        let cookie = only(OUT, &rig.send(OUT, &syn).1).tcp.seq;
        let ack = client().seq(6, cookie.wrapping_add(1)).build();
        match rig.send(OUT, &ack).0 {
            Verdict::Hold => {}
            verdict => {
                assert_eq!(verdict, Verdict::Drop(DropReason::FlowTableFull));
                full += 1;
            }
        }
    }
    assert_eq!((full, rig.balance()), (36, (0, 64)));
    rig.pass(Duration::from_secs(16));
    assert_eq!((rig.pipeline.flow_count(), rig.balance()), (0, (0, 0)));
    let counters = rig.pipeline.counters();
    assert_eq!((counters.syn.unanswered, counters.syn.cookies_valid, counters.flows_created), (64, 64, 64));
}

#[test]
fn who_found_no_room_is_let_in_with_the_same_cookie_when_there_is_some() {
    // The list of handshakes is full, or the flow table alone is.
    for is_proving in [true, false] {
        let mut rig = Rig::new();
        let talk = ask(&mut rig, V4, &linux());
        for port in 1..=64u16 {
            let other = || from_client(V4).tcp(port, if is_proving { 443 } else { 80 });
            let (_, left) = rig.send(OUT, &other().flags(TcpFlags::SYN).seq(5, 0).build());
            if is_proving {
                let cookie = only(OUT, &left).tcp.seq;
                assert_eq!(rig.send(OUT, &other().seq(6, cookie.wrapping_add(1)).build()).0, Verdict::Hold);
            }
        }
        for _ in 0..3 {
            let verdict = rig.send(OUT, &talk.ack().build()).0;
            assert_eq!(verdict, Verdict::Drop(DropReason::FlowTableFull));
        }
        rig.pass(Duration::from_secs(21));
        let (verdict, left) = rig.send(OUT, &talk.ack().build());
        assert_eq!(verdict, Verdict::Hold);
        assert_eq!(only(IN, &left).tcp.flags.0, TcpFlags::SYN);
        assert_eq!(rig.send(IN, &talk.syn_ack().build()).0, Verdict::Forward(OUT));
        assert_eq!(rig.pipeline.counters().syn.cookies_invalid, 0);
    }
}

#[test]
fn a_retransmitted_syn_ack_reaches_the_client_in_its_numbers() {
    let mut rig = Rig::new();
    let talk = splice(&mut rig, V4, &linux());
    let (verdict, left) = rig.send(IN, &talk.syn_ack().build());
    assert_eq!(verdict, Verdict::Forward(OUT));
    let again = only(OUT, &left);
    // The window of a SYN is in no units.
    assert_eq!((again.tcp.seq, again.tcp.ack, again.tcp.window), (talk.cookie, ISN + 1, 65_160));
}

/// The connection's first packet, and whether it is asked for a proof.
fn is_asked(rig: &mut Rig, port: u16) -> bool {
    let syn = from_client(V4).tcp(port, 443).flags(TcpFlags::SYN).seq(port.into(), 0).build();
    match rig.send(OUT, &syn).0 {
        Verdict::Reply(None) => true,
        Verdict::Forward(IN) => false,
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn a_flooded_frontend_asks_until_it_is_calm() {
    let config = CONFIG
        .replace("syn_proxy: always", "syn_proxy: auto")
        .replace("tcp_half_open: 20s", "tcp_half_open: 100ms");
    let mut rig = Rig::new();
    // Without a threshold nothing is a flood.
    rig.reload(&config);
    assert!((1..60).all(|port| !is_asked(&mut rig, port)));
    rig.pass(Duration::from_secs(2));
    rig.reload(&format!("{config}protection: {{syn_flood: {{proxy_threshold: 20}}}}\n"));
    let begun = (100..121).map(|port| is_asked(&mut rig, port)).collect::<Vec<bool>>();
    assert_eq!(begun.iter().position(|asked| *asked), Some(20));
    // Who began before goes on; who comes now proves itself.
    let syn_ack = from_backend(V4).tcp(8443, 100).flags(SYN_ACK).seq(5, 101).build();
    assert_eq!(rig.send(IN, &syn_ack).0, Verdict::Forward(OUT));
    let early = from_client(V4).tcp(100, 443).seq(101, 6).build();
    assert_eq!(rig.send(OUT, &early).0, Verdict::Forward(IN));
    splice(&mut rig, V4, &linux());
    // The other frontend is calm.
    let other = from_client(V6).flags(TcpFlags::SYN).seq(7, 0).build();
    assert_eq!(rig.send(OUT, &other).0, Verdict::Forward(IN));
    rig.pass(Duration::from_secs(11));
    assert!(!is_asked(&mut rig, 200));
    // Cookies of the flood may still come, and are told from what is none.
    let stray = from_client(V4).tcp(201, 443).build();
    assert_eq!(rig.send(OUT, &stray).0, Verdict::Drop(DropReason::InvalidCookie));
    rig.pass(Duration::from_secs(130));
    let stray = from_client(V4).tcp(202, 443).build();
    assert_eq!(rig.send(OUT, &stray).0, Verdict::Drop(DropReason::InvalidState));
    assert_eq!(rig.balance(), (0, 0));
}

#[test]
fn syns_of_a_source_and_of_all_are_limited() {
    let mut rig = Rig::new();
    let flood = "protection: {allowlist: [192.0.2.9/32], syn_flood: {per_source_rate: 5, global_rate: 12}}\n";
    rig.reload(&format!("{CONFIG}{flood}"));
    let mut send = |source: &str, port: u16| {
        let syn = FrameBuilder::new(source, V4.frontend).link(PEER_MAC, MACS[0]).tcp(port, 443);
        rig.send(OUT, &syn.flags(TcpFlags::SYN).build()).0
    };
    let limited = Verdict::Drop(DropReason::SynRate);
    let of_one: Vec<Verdict> = (1..=8).map(|port| send("192.0.2.7", port)).collect();
    assert_eq!(of_one, [[Verdict::Reply(None); 5].as_slice(), &[limited; 3]].concat());
    // Who is on the list is never counted.
    assert!((1..=20).all(|port| send("192.0.2.9", port) == Verdict::Reply(None)));
    let of_all = (10..=30).filter(|last| send(&format!("192.0.2.{last}"), 1) == Verdict::Reply(None)).count();
    assert_eq!(of_all, 7);
    rig.pass(Duration::from_secs(1));
    ask(&mut rig, V4, &linux());
}

#[test]
fn appliances_that_share_a_secret_take_each_others_cookies() {
    let rig_at = |seed: u8, secret: Option<[u8; 16]>, late: Duration| {
        let mut names = Names::default();
        let source = Source { path: "syn.yaml".into(), text: CONFIG.into() };
        let mut config = nva_config::load(&[source], None).expect("a good configuration");
        config.protection.cookie_secret = secret;
        let links = MACS.map(|mac| Link { mac, mtu: 1500 });
        let options = BuildOptions { links: &links, down: &|_, _| false, names: &mut names, generation: 1 };
        let snapshot = Arc::new(Snapshot::build(&config, options));
        let options = Options { flow_capacity: 64, seed: [seed; 16], placement: Placement::ALONE };
        // They have run for different times, and know what time it is.
        let now = START + Duration::from_secs(u64::from(seed));
        let epoch_ms = 1_700_000_000_000 - now.millis() - late.as_millis() as u64;
        let mut pipeline = Pipeline::new(snapshot, &options, now);
        pipeline.set_unix_time(epoch_ms, now);
        Rig { pipeline, wire: Wire::default(), now, names, generation: 1 }
    };
    let rig = |seed, secret| rig_at(seed, secret, Duration::ZERO);
    let talk = ask(&mut rig(1, Some([9; 16])), V4, &linux());
    assert_eq!(rig(2, Some([9; 16])).send(OUT, &talk.ack().build()).0, Verdict::Hold);
    for secret in [None, Some([8; 16])] {
        let verdict = rig(1, secret).send(OUT, &talk.ack().build()).0;
        assert_eq!(verdict, Verdict::Drop(DropReason::InvalidCookie));
    }
    // One that slept for an hour takes them once it knows what time it is.
    let mut late = rig_at(3, Some([9; 16]), Duration::from_secs(3600));
    assert_eq!(late.send(OUT, &talk.ack().build()).0, Verdict::Drop(DropReason::InvalidCookie));
    late.pipeline.set_unix_time(1_700_000_000_000 - late.now.millis(), late.now);
    assert_eq!(late.send(OUT, &talk.ack().build()).0, Verdict::Hold);
}
