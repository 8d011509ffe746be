//! The appliance's configuration: read, checked, every problem with its place.
mod model;
pub use model::*;
