use super::*;
use crate::testing::VecFrame;
use proptest::prelude::*;

fn option(class: u16, kind: u8, data: &[u8]) -> Vec<u8> {
    [&class.to_be_bytes()[..], &[kind, (data.len() / 4) as u8], data].concat()
}

fn three() -> Vec<u8> {
    [option(CLASS, 1, &[1; 8]), option(CLASS, 2, &[2; 8]), option(CLASS, 3, &[3; 4])].concat()
}

fn payload(options: &[u8], inner: &[u8]) -> Vec<u8> {
    [&[(options.len() / 4) as u8, 0, 8, 0, 0, 0, 7, 0], options, inner].concat()
}

/// The same, said slowly: options one by one into a list, then what is wrong with the list.
fn slow(payload: &[u8]) -> Result<Header, DropReason> {
    let header = payload.get(..8).ok_or(DropReason::Malformed)?;
    if header[0] & 0xc0 != 0 || header[1] & 0x80 != 0 {
        return Err(DropReason::Unsupported);
    }
    let len = usize::from(header[0]) * 4;
    let options = payload.get(8..8 + len).ok_or(DropReason::Malformed)?;
    if len > 64 {
        return Err(DropReason::Unsupported);
    }
    let mut list = Vec::new();
    let mut at = 0;
    while at < len {
        let words = usize::from(options[at + 3] % 32);
        let class = u16::from(options[at]) << 8 | u16::from(options[at + 1]);
        let is_ours = class == 0x108 && [1, 2, 3].contains(&(options[at + 2] % 128));
        if at + 4 + 4 * words > len {
            return Err(DropReason::Malformed);
        }
        if !is_ours && options[at + 2] >= 128 {
            return Err(DropReason::Unsupported);
        }
        if is_ours {
            let one = (options[at + 2] % 128, words);
            if list.contains(&one) || ![(1, 2), (2, 2), (3, 1)].contains(&one) {
                return Err(DropReason::Malformed);
            }
            list.push(one);
        }
        at += 4 + 4 * words;
    }
    if list.len() != 3 {
        return Err(DropReason::Malformed);
    }
    let family = match header[2..4] {
        [8, 0] => Family::V4,
        [0x86, 0xdd] => Family::V6,
        _ => return Err(DropReason::Unsupported),
    };
    Ok(Header { family, len: 8 + len })
}

proptest! {
    #[test]
    fn headers_are_read_as_the_slow_way_reads_them(
        parts in prop::collection::vec((0usize..6, prop::collection::vec(any::<u8>(), 0..3)), 0..5), inner in 0usize..4,
        edits in prop::collection::vec((0usize..80, any::<u8>()), 0..3), cut in 0usize..100,
    ) {
        let mut options = three();
        for (kind, words) in parts {
            let data = words.repeat(4);
            options.extend(match kind {
                0 => option(CLASS, 1, &data),
                1 => option(CLASS, 0, &data),
                2 => option(CLASS, 4, &data),
                3 => option(9, 0x80, &data),
                _ => option(9, 3, &data),
            });
        }
        let mut bytes = payload(&options, &[0x45, 0, 0, 20][..inner]);
        for (at, with) in edits {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
        }
        bytes.truncate(if cut < 60 { bytes.len() } else { bytes.len() - (cut - 60).min(bytes.len()) });
        prop_assert_eq!(parse(&bytes), slow(&bytes), "{:02x?}", bytes);
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..420) {
        prop_assert_eq!(parse(&bytes), slow(&bytes));
        let _ = Envelope::read(&bytes, at);
        let mut frame = VecFrame::new(&bytes);
        if let Some(envelope) = Envelope::take_from(&mut frame) {
            prop_assert_eq!(frame.bytes().len() + AROUND_OPTIONS + envelope.options().len(), bytes.len());
        } else {
            prop_assert_eq!(frame.bytes(), &bytes[..]);
        }
    }

    /// What is taken from behind a packet is what was put there, wherever in its buffer the packet is.
    #[test]
    fn an_envelope_comes_back(
        inner in prop::collection::vec(any::<u8>(), 14..600), words in 0usize..16, port: u16, is_at_the_end: bool,
    ) {
        let options: Vec<u8> = (0..words * 4).map(|n| n as u8).collect();
        let envelope = Envelope::of(port, FLAG_C, &options).expect("they fit");
        let headroom = if is_at_the_end { 2048 - inner.len() } else { 200 };
        let mut frame = VecFrame::with_headroom(&inner, headroom);
        prop_assert_eq!(envelope.put_behind(&mut frame), Some(()));
        prop_assert_eq!(&frame.bytes()[..inner.len()], &inner[..]);
        prop_assert_eq!(Envelope::take_from(&mut frame), Some(envelope));
        prop_assert_eq!(frame.bytes(), &inner[..]);
    }
}

#[test]
fn a_header_and_its_envelope_are_two_views_of_the_same_bytes() {
    let inner = [0x45, 0, 0, 20];
    let datagram = [&[0xc3, 0x50, 0x17, 0xc1, 0, 0, 0, 0][..], &payload(&three(), &inner)].concat();
    let header = parse(&datagram[8..]).expect("a good one");
    assert_eq!((header.family, header.len, &datagram[8 + header.len..]), (Family::V4, 40, &inner[..]));
    let envelope = Envelope::read(&datagram, 8).expect("it is there");
    assert_eq!(envelope.source_port, 50_000);
    assert_eq!([&envelope.header(7, Family::V4)[..], envelope.options(), &inner].concat(), datagram[8..]);
    assert_eq!(vni(*datagram[8..].first_chunk().unwrap()), 7);
}

#[test]
fn what_is_too_long_is_no_envelope() {
    assert_eq!(Envelope::of(1, 0, &[0; OPTIONS_MAX + 1]), None);
    let mut frame = VecFrame::new(&[0; 14 + 3 + 68 + 1]);
    frame.bytes_mut()[85] = 68;
    assert_eq!(Envelope::take_from(&mut frame), None);
}
