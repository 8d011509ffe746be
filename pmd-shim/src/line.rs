//! Keeping what one thread writes out of the cache lines that another one reads.

/// Cache lines of its own. Two, as processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);
