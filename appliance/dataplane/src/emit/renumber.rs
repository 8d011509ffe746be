//! What a plain segment of a spliced connection has changed: its numbers. The general function of [`splice`](super::splice) gives the same
//! bytes.

use super::checksum::Sum;
use super::splice::Edits;
use crate::synproxy::options::kind;
use crate::wire::plain::{quarter_word, word};
use crate::wire::{TCP_HEADER_LEN, TIMESTAMP_AND_PADDING, TIMESTAMP_AND_PADDING_LEN};

/// What a plain segment's header is made of: a timestamp or none, then blocks of selective acknowledgements or none, both padded as all
/// do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    options_len: u8,
    edges: u8,
    has_timestamps: bool,
}

impl Layout {
    /// Of options that are so; `None` for all others.
    #[inline(always)]
    pub fn of(options: &[u8]) -> Option<Self> {
        let stamped =
            options.starts_with(&TIMESTAMP_AND_PADDING) && options.len() >= TIMESTAMP_AND_PADDING_LEN;
        let rest = if stamped { options.get(TIMESTAMP_AND_PADDING_LEN..)? } else { options };
        let edges = if rest.is_empty() { 0 } else { edges(rest)? };
        Some(Self { options_len: options.len() as u8, edges, has_timestamps: stamped })
    }

    /// Length of the header, in bytes.
    #[inline(always)]
    pub fn header_len(self) -> usize {
        TCP_HEADER_LEN + usize::from(self.options_len)
    }
}

/// How many numbers a padded list of blocks has.
#[inline]
fn edges(options: &[u8]) -> Option<u8> {
    let &[kind::NOP, kind::NOP, kind::SACK, len, ref edges @ ..] = options else { return None };
    let is_whole = usize::from(len) == edges.len() + 2 && !edges.is_empty() && edges.len().is_multiple_of(8);
    is_whole.then_some((edges.len() / 4) as u8)
}

/// Changes a segment's numbers and brings its checksum up to date. It is an acknowledgement without SYN; its header begins at `l4`, which is
/// even and within `head`, and `rest`, which follows, begins with options that are laid out so.
#[inline(always)]
pub fn renumber<const N: usize>(
    head: &mut [u8; N],
    rest: &mut [u8],
    l4: usize,
    layout: Layout,
    edits: &Edits,
) {
    let numbers = word(head, l4 + 4);
    let [seq, ack] = [numbers as u32, (numbers >> 32) as u32];
    let [seq, ack] = [added(seq, edits.seq), added(ack, edits.ack)];
    let moved = u64::from(seq) | u64::from(ack) << 32;
    head[l4 + 4..l4 + 12].copy_from_slice(&moved.to_le_bytes());
    let mut replaced = Sum::new().add_word(!numbers).add_word(moved);
    if let Some(window) = edits.window {
        let (old, new) = (quarter_word(head, l4 + 14), window.swap_bytes());
        head[l4 + 14..l4 + 16].copy_from_slice(&new.to_le_bytes());
        replaced = replaced.add_word(u64::from(!old) + u64::from(new));
    }
    let mut at = 4;
    if layout.has_timestamps {
        replaced = add_at(rest, at, edits.timestamp, replaced);
        replaced = add_at(rest, at + 4, edits.echo, replaced);
        at += TIMESTAMP_AND_PADDING_LEN;
    }
    for _ in 0..layout.edges {
        replaced = add_at(rest, at, edits.sack, replaced);
        at += 4;
    }
    let checksum = replaced.update([head[l4 + 16], head[l4 + 17]]);
    head[l4 + 16..l4 + 18].copy_from_slice(&checksum);
}

/// Adds to a field, both as it stands in the segment.
#[inline(always)]
const fn added(field: u32, add: u32) -> u32 {
    field.swap_bytes().wrapping_add(add).swap_bytes()
}

/// Adds to a field at an even offset, and its difference to a sum.
#[inline(always)]
fn add_at(bytes: &mut [u8], at: usize, add: u32, sum: Sum) -> Sum {
    let Some(field) = bytes.get_mut(at..).and_then(|bytes| bytes.first_chunk_mut()) else { return sum };
    let old = u32::from_le_bytes(*field);
    let new = added(old, add);
    *field = new.to_le_bytes();
    sum.add_word(u64::from(!old) + u64::from(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::splice::splice;
    use crate::wire::plain::{L4_OVER_V4, L4_OVER_V6};
    use crate::wire::testing::{FrameBuilder, STATION};
    use crate::wire::{Packet, Parsed, TcpFlags, parse};
    use pmd_shim::RxOffload;
    use proptest::prelude::*;

    fn packet(frame: &[u8]) -> Packet {
        match parse(frame, RxOffload::default(), STATION) {
            Ok(Parsed::Ip(packet)) => packet,
            other => panic!("not a good packet: {other:?}"),
        }
    }

    fn options(timestamps: Option<(u32, u32)>, blocks: &[[u32; 2]]) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some((value, echo)) = timestamps {
            options.extend([1, 1, 8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        if !blocks.is_empty() {
            options.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
            blocks.iter().flatten().for_each(|edge| options.extend(edge.to_be_bytes()));
        }
        options
    }

    /// Few values, so that sums are often at their edges.
    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0u32), Just(u32::MAX), Just(0xffff), Just(0xffff_0000), any::<u32>()]
    }

    fn renumbered<const N: usize>(frame: &[u8], l4: usize, layout: Layout, edits: &Edits) -> Vec<u8> {
        let mut frame = frame.to_vec();
        let (head, rest): (&mut [u8; N], _) = frame.split_first_chunk_mut().expect("it has its headers");
        renumber(head, rest, l4, layout, edits);
        frame
    }

    proptest! {
        #[test]
        fn the_short_way_gives_the_same_bytes(
            v6: bool, numbers in (number(), number()), windows: (u16, u16), timestamps in prop::option::of((number(), number())),
            blocks in prop::collection::vec(prop::array::uniform2(number()), 0..4), add in prop::array::uniform5(number()),
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let options = options(timestamps, &blocks);
            prop_assume!(options.len() <= 40);
            let layout = Layout::of(&options).expect("they are so");
            prop_assert_eq!(layout.header_len(), TCP_HEADER_LEN + options.len());
            let ends = if v6 { ("2001:db8::1", "2001:db8::2") } else { ("10.0.0.1", "10.0.0.2") };
            let frame = FrameBuilder::new(ends.0, ends.1)
                .tcp(1, 2)
                .flags(TcpFlags::ACK)
                .seq(numbers.0, numbers.1)
                .window(windows.0)
                .tcp_options(&options)
                .payload(&payload)
                .build();
            let [seq, ack, sack, timestamp, echo] = add;
            let edits = Edits { seq, ack, sack, timestamp, echo, window: Some(windows.1), ..Edits::default() };
            let mut long = frame.clone();
            splice(&mut long, &packet(&frame), &edits);
            let short = match v6 {
                false => renumbered::<54>(&frame, L4_OVER_V4, layout, &edits),
                true => renumbered::<74>(&frame, L4_OVER_V6, layout, &edits),
            };
            prop_assert_eq!(short, long);
        }
    }

    #[test]
    fn others_are_left_to_the_general_function() {
        assert!(Layout::of(&[]).is_some());
        let others: [&[u8]; 8] = [
            &[1, 1, 1, 1],
            &[1, 1, 5, 10],
            &[1, 1, 5, 2],
            &[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0],
            &[1, 1, 5, 9, 0, 0, 0, 1, 0, 0, 0, 2],
            &[5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1],
            &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1],
            &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1, 1, 1],
        ];
        for options in others {
            assert_eq!(Layout::of(options), None, "{options:?}");
        }
    }
}
