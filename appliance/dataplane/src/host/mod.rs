//! Stage 3, host: what is said to the appliance itself, on its links.
//!
//! Decides who is answered: ARP and neighbour discovery for the ports' own addresses and for frontends that lie in a port's
//! prefix, echo for the ports' own addresses; and whose word about a neighbour counts. Never forwards anything, never
//! makes a neighbour of a station that nobody asked for and that did not ask for us, never lets one claim an address of
//! ours, and answers to nobody but the station that asked.

mod arp;
mod echo;
mod limiter;
mod local;
mod nd;
mod service;
#[cfg(test)]
mod tests;

pub use arp::arp;
pub use echo::echo;
pub use limiter::Limiter;
pub use local::{Local, LocalTable, PortAddresses, PortFacts, link_local};
pub use nd::nd;
pub use service::Services;

use crate::route::NeighborId;
use crate::verdict::DropReason;

/// What became of a frame that was for the appliance itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostOutcome {
    /// The frame is the reply now, to be sent out of the port that it came from. The neighbour, where one was learnt from the
    /// question: frames may wait for it.
    Reply(Option<NeighborId>),
    /// Taken in.
    Consume,
    /// Taken in; the neighbour's address is known now, and frames may wait for it.
    Learned(NeighborId),
    /// Dropped.
    Drop(DropReason),
}
