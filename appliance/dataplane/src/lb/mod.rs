//! Stage 6, balance: which frontend a packet is for, which rule of it, and which backend takes the flow.
//!
//! Decides for the first packet of a flow only; the flow record keeps the answer. Never looks at load, time or earlier flows:
//! the answer depends on the configuration, the health of the backends and the packet alone, so that several appliances with
//! the same configuration agree without talking. Never changes a packet.

mod balancer;
mod build;
mod hash;
mod maglev;

#[cfg(test)]
mod tests;

pub use balancer::{Asking, Balancer, Selection, Service, ServiceId, ServiceKind, Share, Target};
pub use hash::flow_hash;
pub use maglev::{Member, SLOTS, Table};
