//! The appliance's configuration: read, checked, every problem with its place.
//!
//! Three forms, three modules: text becomes a `tree` whose every value knows its line and column, the tree becomes the `raw` form
//! (keys known, values of their type and in their range), and that is `check`ed into a [`Config`] (names looked up, what must agree
//! compared). A mistake found by one is not found again by the next, and keeps none of them from finding others.
//! [`import`] writes the text form from resources that the cloud's tools export.
//!
//! *Invariant:* no file is opened here but through [`Files`], no clock is read, nothing is kept between calls.
#![forbid(unsafe_code)]

mod check;
pub mod import;
mod load;
mod model;
mod raw;
mod report;
mod tree;

pub use load::{Files, Source, load};
pub use model::*;
