//! Stage 9, emit: the only writer of packet bytes.
//!
//! Carries out what the stages before decided: translated addresses and ports, time to live, link addresses, checksums by difference,
//! and whole packets of the appliance's own. Never decides anything.

pub mod arp;
pub mod checksum;
pub mod echo;
pub mod encap;
pub mod forward;
pub mod geneve;
mod headers;
pub mod icmp_error;
pub mod mss;
pub mod nd;
pub mod renumber;
pub mod reset;
pub mod rewrite;
pub mod segment;
pub mod service;
pub mod splice;
pub mod split;
pub mod syn_ack;

pub use headers::NotWritten;
