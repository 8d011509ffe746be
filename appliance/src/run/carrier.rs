//! Says when the link of a port goes down and when it is up again, and remembers which are.

use super::control::State;
use pmd_shim::kernel::DeviceError;
use pmd_shim::kernel::link::{Link, LinkState};

/// A device whose link can be asked for.
pub(super) trait Carrier {
    /// Whether frames can pass now.
    ///
    /// # Errors
    /// [`DeviceError`] when the device is gone.
    fn state(&self) -> Result<LinkState, DeviceError>;
}

impl Carrier for Link {
    fn state(&self) -> Result<LinkState, DeviceError> {
        Self::state(self)
    }
}

#[cfg(feature = "dpdk")]
impl Carrier for pmd_shim::dpdk::DpdkLink {
    fn state(&self) -> Result<LinkState, DeviceError> {
        Self::state(self)
    }
}

/// Why nothing passes, for people; `None` where frames can pass.
fn trouble(state: &Result<LinkState, DeviceError>) -> Option<&'static str> {
    match state {
        Ok(LinkState { up: true, running: true }) => None,
        Ok(LinkState { up: true, .. }) => Some("its link is down"),
        Ok(_) => Some("it is switched off; switch it on with `ip link set DEVICE up`"),
        Err(_) => Some("it is gone; restart the appliance when it is there again"),
    }
}

/// Looks at the links of all ports with a device, in their order; what changed, each a line.
pub(super) fn look(state: &mut State, carriers: &[Box<dyn Carrier>]) -> Vec<String> {
    let config = &state.config;
    let mut told = Vec::new();
    for ((port, carrier), is_up) in config.ports.iter().zip(carriers).zip(&mut state.links_up) {
        let trouble = trouble(&carrier.state());
        let was_up = is_up.replace(trouble.is_none());
        let what = match (was_up.unwrap_or(true), trouble) {
            (true, Some(trouble)) => trouble.replace("DEVICE", &port.device),
            (false, None) => "its link is up again".into(),
            _ => continue,
        };
        told.push(format!("{}: port {}: {}: {what}", config.name, port.name, port.device));
    }
    told
}
