//! The arithmetic between a client's connection and its backend's.
//!
//! Sequence numbers of the backend, timestamps of the backend, and windows where the two ends were told other scales. Both directions
//! undo each other. Nothing is decided here.

/// What stands between the two connections of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Splice {
    /// What is added to the backend's sequence numbers for the client. While the handshake is on its way: our own initial sequence number.
    pub seq: u32,
    /// What is added to the backend's timestamps for the client. While the handshake is on its way: our own timestamp.
    pub timestamp: u32,
    /// The largest segment that the backend takes. While the handshake is on its way: its place in the [list](super::HalfOpens) of those.
    pub mss: u16,
    /// What both ends were told.
    pub terms: Terms,
}

const _: () = assert!(size_of::<Splice>() == 12);

/// What the ends were told of each other: shifts of windows, four bits each (how far the client's are shifted up for the backend, what the
/// client was promised, the backend's own), and what the backend did not agree to, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms(u16);

/// What the backend did not agree to though the client was told so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// It sends and expects no timestamps.
    pub timestamps: bool,
    /// It understands no selective acknowledgements.
    pub sack: bool,
    /// It notifies no congestion.
    pub ecn: bool,
}

impl Terms {
    /// The handshake is on its way: nothing is agreed yet.
    pub const HALF_OPEN: Self = Self(1 << 15);

    /// `client`: its own shift and the one that it was promised, or `None`. `backend`: its own, or `None`.
    pub fn new(client: Option<(u8, u8)>, backend: Option<u8>, lacks: Lacks) -> Self {
        let (own, promised) = client.unwrap_or((0, 0));
        // Scales count where both ends have them (RFC 7323, 2.2); the backend was offered none if the client had none.
        let (up, of_backend) = match (client, backend) {
            (Some(_), Some(backend)) => (0, backend),
            _ => (own, 0),
        };
        let nibble = |shift: u8, at: u16| u16::from(shift.min(14)) << at;
        let bit = |lacks: bool, at: u16| u16::from(lacks) << at;
        let shifts = nibble(up, 0) | nibble(promised, 4) | nibble(of_backend, 8);
        Self(shifts | bit(lacks.timestamps, 12) | bit(lacks.sack, 13) | bit(lacks.ecn, 14))
    }

    /// The handshake is on its way.
    #[inline(always)]
    pub fn is_half_open(self) -> bool {
        self == Self::HALF_OPEN
    }

    /// Both ends agreed to the same options, so that a segment changes nothing but its numbers.
    #[inline(always)]
    pub fn is_plain(self) -> bool {
        self.0 >> 12 == 0
    }

    /// What the backend did not agree to.
    #[inline(always)]
    pub fn lacks(self) -> Lacks {
        let bit = |at: u16| self.0 >> at & 1 != 0;
        Lacks { timestamps: bit(12), sack: bit(13), ecn: bit(14) }
    }

    /// A window that the client names, as the backend understands it: never larger.
    #[inline(always)]
    pub fn to_backend(self, window: u16) -> u16 {
        rescale(window, self.nibble(0), 0)
    }

    /// A window that the backend names, as the client understands it: never larger.
    #[inline(always)]
    pub fn to_client(self, window: u16) -> u16 {
        rescale(window, self.nibble(8), self.nibble(4))
    }

    /// The window of the backend's SYN-ACK, which no scale applies to, as the client understands it.
    #[inline]
    pub fn first_to_client(self, window: u16) -> u16 {
        rescale(window, 0, self.nibble(4))
    }

    #[inline(always)]
    fn nibble(self, at: u16) -> u16 {
        self.0 >> at & 15
    }
}

/// The same window counted in other units, rounded down, cut at the largest that there is.
#[inline(always)]
fn rescale(window: u16, from: u16, to: u16) -> u16 {
    let window = u32::from(window) << from >> to;
    window.min(u32::from(u16::MAX)) as u16
}

impl Splice {
    /// Of the backend's sequence space, as the client knows it.
    #[inline(always)]
    pub fn to_client(&self, seq: u32) -> u32 {
        seq.wrapping_add(self.seq)
    }

    /// Of the backend's sequence space, from what the client knows.
    #[inline(always)]
    pub fn to_backend(&self, seq: u32) -> u32 {
        seq.wrapping_sub(self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_directions_undo_each_other(seq: u32, delta: u32) {
            let splice = Splice { seq: delta, ..Splice::default() };
            prop_assert_eq!(splice.to_backend(splice.to_client(seq)), seq);
        }

        #[test]
        fn a_window_is_never_larger_and_loses_less_than_a_unit(
            window: u16, own in 0u8..=14, promised in 0u8..=14, backend in prop::option::of(0u8..=14), lacks: [bool; 3],
        ) {
            let lacks = Lacks { timestamps: lacks[0], sack: lacks[1], ecn: lacks[2] };
            let terms = Terms::new(Some((own, promised)), backend, lacks);
            prop_assert_eq!(terms.lacks(), lacks);
            prop_assert!(!terms.is_half_open());
            prop_assert_eq!(terms.is_plain(), lacks == Lacks::default());
            // In bytes, as each end understands it.
            let meant = u64::from(window) << backend.unwrap_or(0);
            let understood = u64::from(terms.to_client(window)) << promised;
            prop_assert!(understood <= meant);
            prop_assert!(meant - understood < 1 << promised || terms.to_client(window) == u16::MAX);
            let meant = u64::from(window) << own;
            let shift = if backend.is_some() { own } else { 0 };
            let understood = u64::from(terms.to_backend(window)) << shift;
            prop_assert!(understood <= meant);
            prop_assert!(understood == meant || terms.to_backend(window) == u16::MAX && backend.is_none());
        }
    }

    #[test]
    fn nothing_is_plain_while_the_handshake_is_on_its_way() {
        assert!(!Terms::HALF_OPEN.is_plain());
    }

    #[test]
    fn without_scales_windows_stay() {
        for backend in [None, Some(7)] {
            let terms = Terms::new(None, backend, Lacks::default());
            for window in [0, 1, 64_000, u16::MAX] {
                assert_eq!((terms.to_client(window), terms.to_backend(window)), (window, window));
                assert_eq!(terms.first_to_client(window), window);
            }
        }
    }
}
