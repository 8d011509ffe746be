//! What a frame says of itself: its number, and when it was due. At the beginning of the payload, in the machine's byte order.

use crate::compare::traffic::STAMP_AT;

/// By which a stamped frame is known.
const MAGIC: [u8; 2] = *b"nv";
const BYTES: usize = 18;

/// A frame's stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Each frame has the next one.
    pub(super) number: u64,
    /// When it was to leave, in nanoseconds from the beginning of its trial.
    pub(super) due_ns: u64,
}

impl Stamp {
    /// Writes it into a frame, which is long enough.
    #[inline]
    pub(super) fn write(self, frame: &mut [u8]) {
        if let Some(place) = frame.get_mut(STAMP_AT..).and_then(|rest| rest.first_chunk_mut::<BYTES>()) {
            place[..2].copy_from_slice(&MAGIC);
            place[2..10].copy_from_slice(&self.number.to_ne_bytes());
            place[10..].copy_from_slice(&self.due_ns.to_ne_bytes());
        }
    }

    /// The stamp of a frame; `None` where there is none.
    #[inline]
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let (magic, rest) = frame.get(STAMP_AT..)?.split_first_chunk::<2>()?;
        let (number, rest) = rest.split_first_chunk()?;
        let due = rest.first_chunk()?;
        (*magic == MAGIC)
            .then_some(Self { number: u64::from_ne_bytes(*number), due_ns: u64::from_ne_bytes(*due) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::traffic::FRAME_LEN;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let mut frame = [0; FRAME_LEN];
        assert_eq!(Stamp::of(&frame), None);
        let stamp = Stamp { number: 1 << 40, due_ns: 123_456_789 };
        stamp.write(&mut frame);
        assert_eq!(Stamp::of(&frame), Some(stamp));
        assert_eq!(frame[..STAMP_AT], [0; STAMP_AT]);
        assert_eq!(Stamp::of(&frame[..FRAME_LEN - 1]), None);
    }
}
