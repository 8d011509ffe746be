//! Which bytes of a datagram its fragments have covered.

use super::FRAGMENTS_MAX;
use crate::wire::FragmentInfo;
use arrayvec::ArrayVec;

/// The fragments seen of a datagram. *Invariant:* sorted, no two overlap, none lies behind the last one.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    spans: ArrayVec<Span, FRAGMENTS_MAX>,
    /// The datagram's length, known once its last fragment was seen.
    total: Option<u32>,
    /// Bytes in `spans`.
    covered: u32,
}

/// Bytes from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

/// How a fragment fits those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It covers what none has covered.
    New,
    /// It is one of them once more.
    Duplicate,
    /// It overlaps one of them, contradicts the datagram's length, is empty, or is one too many.
    Conflict,
}

impl Spans {
    pub(super) fn place(&mut self, info: &FragmentInfo) -> Placed {
        let start = u32::from(info.offset);
        let span = Span { start, end: start + u32::from(info.len) };
        let is_last = !info.more;
        let at = self.spans.partition_point(|before| before.start < span.start);
        if self.spans.get(at) == Some(&span) && is_last == (self.total == Some(span.end)) {
            return Placed::Duplicate;
        }
        let before = at.checked_sub(1).and_then(|i| self.spans.get(i));
        let overlaps = before.is_some_and(|b| b.end > span.start)
            || self.spans.get(at).is_some_and(|behind| behind.start < span.end);
        let contradicts = match self.total {
            Some(total) => is_last || span.end >= total,
            None => is_last && self.spans.last().is_some_and(|last| last.end > span.end),
        };
        if info.len == 0 || overlaps || contradicts || self.spans.try_insert(at, span).is_err() {
            return Placed::Conflict;
        }
        self.covered += u32::from(info.len);
        if is_last {
            self.total = Some(span.end);
        }
        Placed::New
    }

    /// Whether nothing of the datagram is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.total == Some(self.covered)
    }
}
