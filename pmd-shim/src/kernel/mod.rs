//! What every driver on an interface of the kernel needs of it, and what it must not do with what the interface receives.
//!
//! A driver takes an interface in this order: [`lock`] keeps other instances away, [`ingress::hold`] keeps the kernel from answering or
//! forwarding, and only then are queues opened. Nothing here configures addresses or routes.

mod error;
#[cfg(feature = "af_xdp")]
mod ethtool;
pub mod ingress;
mod ipv6;
pub mod link;
mod lock;
pub(crate) mod netlink;

pub use error::DeviceError;
pub use lock::{DeviceLock, lock};
