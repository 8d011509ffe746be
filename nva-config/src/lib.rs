//! The appliance's configuration: read, checked, every problem with its place.
#![forbid(unsafe_code)]

mod model;

pub use model::*;
