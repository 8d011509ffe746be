//! The appliance's own questions.

use super::{LocalTable, PortFacts};
use crate::addr::{Addr, Mac};
use crate::emit;
use pmd_shim::Frame;

/// Makes the frame the question for who has `address` on the port, ARP or neighbour discovery by its family, to everybody or to
/// where the neighbour was last. `false`: the port has no address of that family to ask with, and the frame is not to be sent.
#[must_use]
pub fn solicit<F: Frame>(
    frame: &mut F,
    port: &PortFacts,
    local: &LocalTable,
    address: Addr,
    known_mac: Option<Mac>,
) -> bool {
    let Some(source) = local.source_address(port.id, address.family(), address) else { return false };
    let written = match (source.as_v4(), address.as_v4()) {
        (Some(source), Some(target)) => emit::arp::request(frame, port.mac, source, target, known_mac),
        _ => emit::nd::solicitation(frame, port.mac, source, address, known_mac),
    };
    written.is_ok()
}
