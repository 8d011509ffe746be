//! Stage 10, next hop: which port a packet leaves through, and which station on that link takes it.
//!
//! Decides by longest prefix over connected prefixes and routes, and turns the next hop's address into an Ethernet
//! address: at once where it is known, else the packet waits, in bounded room, for an answer. Never judges whether a
//! packet may pass, never writes its bytes, and never learns a neighbour that nobody here has asked for or heard from.

mod neighbors;
mod table;
mod timers;
mod waiting;

pub use neighbors::{Hop, Learning, NeighborAction, NeighborId, NeighborLimits, Neighbors, News};
pub use table::{NextHop, RouteTable};
