//! Echo, as an operator's first question (RFC 1122 3.2.2.6, RFC 4443 4.2).

use super::HostOutcome;
use crate::emit;
use crate::emit::icmp_error::is_single_host;
use crate::verdict::DropReason;
use crate::wire::{Cast, Icmp, IcmpClass, Packet, Transport};
use pmd_shim::Frame;

/// Turns an echo request to one of the ports' own addresses, which the caller has made sure of, into its reply. Not when it was
/// sent to more than this station, in fragments, or from an address that is not one host's: nobody is to be flooded through us.
pub fn echo<F: Frame>(frame: &mut F, packet: &Packet) -> HostOutcome {
    let Transport::Icmp(Icmp { class: IcmpClass::EchoRequest, .. }) = packet.transport else {
        return HostOutcome::Drop(DropReason::NotForUs);
    };
    if packet.fragment.is_some() {
        return HostOutcome::Drop(DropReason::Fragment);
    }
    if packet.cast != Cast::Unicast {
        return HostOutcome::Drop(DropReason::NotForUs);
    }
    if !is_single_host(packet.key.src) || packet.key.src == packet.key.dst {
        return HostOutcome::Drop(DropReason::Spoofed);
    }
    match emit::echo::reply(frame, packet) {
        Ok(()) => HostOutcome::Reply(None),
        Err(_) => HostOutcome::Drop(DropReason::Malformed),
    }
}
