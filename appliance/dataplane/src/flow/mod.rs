//! Stage 5, look up: the flows of one worker, with TCP state and timeouts.
//!
//! Decides whether a packet belongs to a flow that is known, in which direction it goes, and whether it fits the state of its
//! connection. Never decides whether a flow may exist (that is policy), never changes a packet, never reads a clock.
//!
//! A worker looks up a whole burst in four steps, so that the waits for memory overlap:
//!
//! 1. [`FlowTable::hash`] and [`FlowTable::prefetch_index`] for every packet;
//! 2. [`FlowTable::prefetch_record`] for every packet, and [`FlowTable::prefetch_elsewhere`] for the few of which that says so;
//! 3. [`FlowTable::find`], packet by packet;
//! 4. the tracker ([`FlowTable::segment`], [`query::check`]), then [`FlowTable::account`], packet by packet.
//!
//! # Invariants
//! * Both keys of a flow, the initiator's and that of the answer, are in the index, or neither is.
//! * A key leads to at most one flow.
//! * Every flow is queued in the timer wheel, at or before its deadline.
//! * A refused packet changes nothing.
//! * All memory is taken and touched at start; afterwards nothing is allocated.

mod fast;
mod hash;
mod index;
pub mod query;
mod record;
mod table;
mod tcp;
mod timeout;
mod timer;

pub use fast::Deadlines;
pub use hash::FlowHash;
pub use record::{Flow, FlowId, FlowView, NewFlow, Side, Tally, Way};
pub use table::{FlowTable, InsertError};
pub use tcp::{TcpEvent, TcpState};
pub use timeout::{Class, Timeouts};
