//! What the tests share: the binary under test, captures, packets to write and to compare with, and scripts of them.
//!
//! *Invariant:* nothing but [`rig`] and [`hostile`], which drive the path under test, uses the appliance's own code. Packets are made and read with etherparse,
//! captures byte by byte, so that a mistake of the appliance is not repeated by what tests it.
#![forbid(unsafe_code)]

pub mod binary;
pub mod capture;
pub mod folder;
pub mod geneve;
pub mod hostile;
pub mod packet;
pub mod ports;
pub mod random;
pub mod rig;
pub mod script;
pub mod tunnel;
