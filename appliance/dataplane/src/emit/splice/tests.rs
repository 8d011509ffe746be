use super::*;
use crate::wire::testing::{FrameBuilder, STATION};
use crate::wire::{self, Parsed, parse};
use pmd_shim::RxOffload;
use proptest::prelude::*;

fn packet(frame: &[u8]) -> Packet {
    match parse(frame, RxOffload::default(), STATION) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("not a good packet: {other:?}"),
    }
}

fn builder(v6: bool) -> FrameBuilder {
    if v6 {
        FrameBuilder::new("2001:db8::1", "2001:db8::2")
    } else {
        FrameBuilder::new("10.0.0.1", "10.0.0.2")
    }
}

/// Timestamps and two blocks, each behind so many bytes of padding.
fn options(pads: [usize; 2], timestamps: (u32, u32), blocks: [u32; 4]) -> Vec<u8> {
    let mut options = vec![kind::NOP; pads[0]];
    options.extend([kind::TIMESTAMPS, 10]);
    options.extend(timestamps.0.to_be_bytes());
    options.extend(timestamps.1.to_be_bytes());
    options.extend(vec![kind::NOP; pads[1]]);
    options.extend([kind::SACK, 18]);
    options.extend(blocks.iter().flat_map(|edge| edge.to_be_bytes()));
    options.resize(options.len().next_multiple_of(4), kind::END);
    options
}

proptest! {
    /// A changed segment is the one that is built with the changed numbers, checksums included.
    #[test]
    fn as_if_it_had_been_built_so(
        v6: bool, numbers: (u32, u32), timestamps: (u32, u32), blocks: [u32; 4], pads in prop::array::uniform2(0usize..4),
        adds: (u32, u32, u32, u32, u32), windows: (u16, Option<u16>), payload in prop::collection::vec(any::<u8>(), 0..40), has_ack: bool,
    ) {
        let flags = if has_ack { TcpFlags::ACK | TcpFlags::PSH } else { TcpFlags::RST };
        let build = |(seq, ack): (u32, u32), timestamps, blocks, window| {
            builder(v6).tcp(1000, 2000).flags(flags).seq(seq, ack).window(window)
                .tcp_options(&options(pads, timestamps, blocks)).payload(&payload).build()
        };
        let edits = Edits {
            seq: adds.0, ack: adds.1, sack: adds.2, timestamp: adds.3, echo: adds.4, window: windows.1, ..Edits::default()
        };
        let mut frame = build(numbers, timestamps, blocks, windows.0);
        let parsed = packet(&frame);
        splice(&mut frame, &parsed, &edits);
        let if_ack = |number: u32, add: u32| if has_ack { number.wrapping_add(add) } else { number };
        let expected = build(
            (numbers.0.wrapping_add(adds.0), if_ack(numbers.1, adds.1)),
            (timestamps.0.wrapping_add(adds.3), if_ack(timestamps.1, adds.4)),
            blocks.map(|edge| edge.wrapping_add(adds.2)),
            windows.1.unwrap_or(windows.0),
        );
        prop_assert_eq!(&frame, &expected);
        let parsed = packet(&frame);
        splice(&mut frame, &parsed, &Edits { window: Some(windows.0), ..edits.reversed() });
        prop_assert_eq!(frame, build(numbers, timestamps, blocks, windows.0));
    }

    #[test]
    fn what_an_end_does_not_know_is_padded_over(v6: bool, timestamps: (u32, u32), blocks: [u32; 4], pads in prop::array::uniform2(0usize..4)) {
        let options = options(pads, timestamps, blocks);
        let mut frame = builder(v6).tcp(1, 2).seq(5, 6).tcp_options(&options).build();
        let parsed = packet(&frame);
        splice(&mut frame, &parsed, &Edits { without_timestamps: true, without_sack: true, ..Edits::default() });
        let parsed = packet(&frame);
        let left = &frame[parsed.l4 as usize + TCP_HEADER_LEN..parsed.payload as usize];
        prop_assert!(left.iter().all(|byte| [kind::NOP, kind::END].contains(byte)));
    }

    /// Whatever the options are, the checksum stays right and nothing but the header changes.
    #[test]
    fn any_options(options in prop::collection::vec(0u8..12, 0..40), adds: (u32, u32, u32), strip: bool) {
        let mut options = options;
        options.truncate(options.len() / 4 * 4);
        let mut frame = builder(false).tcp(1, 2).seq(5, 6).payload(b"data").build();
        // Built without them, as builders refuse bad ones.
        let at = 14 + 20 + 20;
        frame.splice(at..at, options.iter().copied());
        frame[16..18].copy_from_slice(&(40 + options.len() as u16 + 4).to_be_bytes());
        frame[46] = ((20 + options.len() as u8) / 4) << 4;
        let parsed = {
            let mut parsed = packet(&builder(false).tcp(1, 2).seq(5, 6).payload(b"data").build());
            parsed.payload += options.len() as u16;
            parsed.payload_end += options.len() as u16;
            parsed.end += options.len() as u16;
            parsed
        };
        frame[50..52].fill(0);
        let sum = |frame: &[u8]| Sum::new().add_bytes(&frame[34..]).fold();
        let checksum = !sum(&frame);
        frame[50..52].copy_from_slice(&checksum.to_be_bytes());
        let before = frame.clone();
        let edits = Edits {
            seq: adds.0, sack: adds.1, timestamp: adds.2, without_sack: strip, ..Edits::default()
        };
        splice(&mut frame, &parsed, &edits);
        prop_assert_eq!(sum(&frame) % 0xffff, 0);
        prop_assert_eq!(&frame[..38], &before[..38]);
        prop_assert_eq!(&frame[at + options.len()..], b"data");
    }

    /// An error about the changed segment, changed back, is the error about the segment.
    #[test]
    fn errors_quote_what_the_sender_sent(v6: bool, numbers: (u32, u32), adds: (u32, u32), cut in 0usize..30) {
        let segment = |(seq, ack)| builder(v6).tcp(1000, 2000).seq(seq, ack).payload(b"12345678").build();
        let quote = |numbers| {
            let frame = segment(numbers);
            // Whole fields: up to the flags and further, or without the acknowledgement number, of which one does not see that it counts.
            let cut = match cut {
                11 => 10,
                15.. => 20,
                whole => whole,
            };
            frame[14..frame.len() - cut].to_vec()
        };
        let error = |numbers| {
            let rest = [0; 4];
            let builder = builder(v6);
            if v6 { builder.icmp(1, 0, rest) } else { builder.icmp(3, 1, rest) }.payload(&quote(numbers)).build()
        };
        let mut frame = error((numbers.0.wrapping_add(adds.0), numbers.1.wrapping_add(adds.1)));
        let parsed = packet(&frame);
        let quoted = wire::quoted(&frame[parsed.payload as usize..], parsed.family).expect("it quotes a segment");
        splice_quoted(&mut frame, &parsed, &quoted, adds.0.wrapping_neg(), adds.1.wrapping_neg());
        let expected = error(numbers);
        prop_assert_eq!(frame, expected);
    }
}

#[test]
fn congestion_is_not_notified() {
    for v6 in [false, true] {
        let mut frame = builder(v6).tcp(1, 2).seq(5, 6).build();
        let plain = frame.clone();
        let parsed = packet(&frame);
        // ECT(0), with its checksum.
        if v6 {
            frame[15] |= 0x20;
        } else {
            frame[15] |= 2;
            let checksum = u16::from_be_bytes([frame[24], frame[25]]);
            let new = ChecksumDelta::new().replace_u16(0x4500, 0x4502).apply(checksum);
            frame[24..26].copy_from_slice(&new.to_be_bytes());
        }
        splice(&mut frame, &parsed, &Edits { without_ecn: true, ..Edits::default() });
        assert_eq!(frame, plain);
    }
}
