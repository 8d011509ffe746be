//! The small fields of a connection's state, in one word.

use crate::flow::record::Side;

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// No connection.
    None,
    /// The initiator's SYN was seen; nothing of the responder that counts.
    SynSent,
    /// Both SYNs were seen, and not both were acknowledged.
    Handshake,
    /// From then on, until both FINs are acknowledged.
    Established,
    /// Both FINs are acknowledged.
    TimeWait,
    /// A RST ended it.
    Reset,
}

/// What [`Details::scale`] says of a SYN without the option.
pub(super) const NO_SCALE: u8 = 15;

/// No unscaled window is larger.
const LEAST_WINDOW_LOG: u32 = 16;

/// The largest scaled window is just below 2^30 (RFC 7323, 2.3), and twice what this says is 2^30: numbers so far behind still compare.
const MOST_WINDOW_LOG: u32 = 29;

/// Most SYNs of one connection attempt that pass without a sign of the other side.
const CHALLENGES: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Details(u32);

/// A field: how far it is shifted, how many bits it has.
type Field = (u32, u32);

const PHASE: Field = (0, 3);
const SCALE: [Field; 2] = [(3, 4), (12, 4)];
const WINDOW: [Field; 2] = [(7, 5), (16, 5)];
const FIN: [Field; 2] = [(21, 1), (22, 1)];
const ACKED: [Field; 2] = [(23, 1), (24, 1)];
const FIN_FLAGS: Field = (21, 2);
const ACKED_FLAGS: Field = (23, 2);
const CHALLENGE: [Field; 2] = [(25, 2), (27, 1)];
const PENDING_SCALE: Field = (28, 4);

/// How far a side's scale and window stand from those of the other.
const DISTANCE: u32 = SCALE[1].0 - SCALE[0].0;
const _: () = assert!(WINDOW[1].0 - WINDOW[0].0 == DISTANCE);

const fn mask((shift, bits): Field) -> u32 {
    ((1 << bits) - 1) << shift
}

impl Details {
    pub(super) const NONE: Self = Self(0);

    #[inline(always)]
    const fn get(self, (shift, bits): Field) -> u32 {
        self.0 >> shift & ((1 << bits) - 1)
    }

    /// With the scale and the window of side `s` where those of the initiator are: one shift for both.
    #[inline(always)]
    const fn as_first(self, s: usize) -> Self {
        Self(self.0 >> (DISTANCE * s as u32))
    }

    #[inline(always)]
    fn set(&mut self, (shift, bits): Field, value: u32) {
        debug_assert!(value < 1 << bits);
        self.0 = self.0 & !mask((shift, bits)) | value << shift;
    }

    #[inline(always)]
    pub(super) const fn phase(self) -> Phase {
        match self.get(PHASE) {
            1 => Phase::SynSent,
            2 => Phase::Handshake,
            3 => Phase::Established,
            4 => Phase::TimeWait,
            5 => Phase::Reset,
            _ => Phase::None,
        }
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        self.set(PHASE, phase as u32);
    }

    /// Established, no FIN, no SYN that waits for an answer.
    #[inline(always)]
    pub(super) const fn is_plainly_established(self) -> bool {
        const LOOKED_AT: u32 = mask(PHASE) | mask(FIN_FLAGS) | mask(CHALLENGE[0]) | mask(CHALLENGE[1]);
        self.0 & LOOKED_AT == (Phase::Established as u32) << PHASE.0
    }

    /// The shift of the side's windows; of a first SYN, what its option says, or [`NO_SCALE`].
    #[inline(always)]
    pub(super) const fn scale(self, s: usize) -> u8 {
        self.as_first(s).get(SCALE[0]) as u8
    }

    pub(super) fn set_scale(&mut self, side: Side, scale: u8) {
        self.set(SCALE[side.index()], u32::from(scale.min(NO_SCALE)));
    }

    /// The logarithm of the largest window that the side offered, rounded up; from 16 to 29.
    #[inline(always)]
    pub(super) const fn window_log(self, s: usize) -> u32 {
        self.as_first(s).get(WINDOW[0])
    }

    /// Notes the window of the side's SYN, and forgets any before.
    pub(super) fn begin_window(&mut self, side: Side) {
        // The window of a SYN is not scaled, hence below 2^16.
        self.set(WINDOW[side.index()], LEAST_WINDOW_LOG);
    }

    /// Whether a window of the side, in bytes, is larger than what is noted.
    #[inline(always)]
    pub(super) const fn is_larger(self, s: usize, window: u32) -> bool {
        window > 1 << self.window_log(s)
    }

    /// Notes a window that the side offers, in bytes.
    pub(super) fn note_window(&mut self, s: usize, window: u32) {
        if self.is_larger(s, window) {
            let log = u32::BITS - (window - 1).leading_zeros();
            self.set(WINDOW[s], log.clamp(LEAST_WINDOW_LOG, MOST_WINDOW_LOG));
        }
    }

    pub(super) fn set_fin(&mut self, side: Side, fin: bool) {
        self.set(FIN[side.index()], u32::from(fin));
    }

    pub(super) const fn any_fin(self) -> bool {
        self.get(FIN_FLAGS) != 0
    }

    pub(super) const fn both_fins(self) -> bool {
        self.get(FIN_FLAGS) == 0b11
    }

    /// The side acknowledged the other's SYN.
    pub(super) fn set_acked(&mut self, side: Side) {
        self.set(ACKED[side.index()], 1);
    }

    pub(super) const fn acked(self, side: Side) -> bool {
        self.get(ACKED[side.index()]) != 0
    }

    pub(super) const fn both_acked(self) -> bool {
        self.get(ACKED_FLAGS) == 0b11
    }

    /// Notes a SYN that the other side is to challenge. `false`: too many wait for that.
    pub(super) fn challenge(&mut self, side: Side) -> bool {
        let field = CHALLENGE[side.index()];
        let count = self.get(field);
        let most = CHALLENGES.min((1 << field.1) - 1);
        if count < most {
            self.set(field, count + 1);
        }
        count < most
    }

    pub(super) const fn challenged(self, side: Side) -> bool {
        self.get(CHALLENGE[side.index()]) != 0
    }

    #[inline(always)]
    pub(super) fn forget_challenge(&mut self, side: Side) {
        self.set(CHALLENGE[side.index()], 0);
    }

    /// The option of the SYN that waits for its answer: a shift, or [`NO_SCALE`].
    pub(super) const fn pending_scale(self) -> u8 {
        self.get(PENDING_SCALE) as u8
    }

    pub(super) fn set_pending_scale(&mut self, scale: Option<u8>) {
        self.set(PENDING_SCALE, u32::from(scale.unwrap_or(NO_SCALE).min(NO_SCALE)));
    }
}

impl core::fmt::Debug for Details {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Details")
            .field("phase", &self.phase())
            .field("scales", &SCALE.map(|field| self.get(field)))
            .field("window_logs", &WINDOW.map(|field| self.get(field)))
            .field("fins", &FIN.map(|field| self.get(field)))
            .field("acked", &ACKED.map(|field| self.get(field)))
            .field("challenges", &CHALLENGE.map(|field| self.get(field)))
            .field("pending_scale", &self.pending_scale())
            .finish()
    }
}
