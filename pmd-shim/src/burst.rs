//! A burst: up to [`BURST`] frames that travel together.

use arrayvec::ArrayVec;

/// Frames in a full burst. Large enough to hide memory latency behind each other's, small enough for the first-level cache.
pub const BURST: usize = 64;

/// Up to [`BURST`] owned frames, in arrival order, on the stack.
pub type Burst<F> = ArrayVec<F, BURST>;
