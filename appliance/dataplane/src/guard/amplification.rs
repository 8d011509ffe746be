//! Traffic of known amplification attacks over UDP: a small request in another's name, a large answer to the victim.

use crate::wire::{Packet, Transport};
use nva_config::Amplification;

/// NTP (RFC 5905).
const NTP: u16 = 123;
/// NTP mode 6, control messages, and mode 7, private ones, of which monlist is one (CVE-2013-5211). Time itself is kept in
/// modes 1 to 5.
const NTP_MANAGEMENT_MODES: [u8; 2] = [6, 7];
/// memcached, which should never be heard from outside (CVE-2018-1000115).
const MEMCACHED: u16 = 11_211;

/// Whether datagrams to or from this port are looked at at all.
#[inline]
pub const fn is_watched(port: u16) -> bool {
    port == NTP || port == MEMCACHED
}

/// Whether the packet is a request or an answer of a blocked kind.
#[inline]
pub(super) fn matches(blocked: &Amplification, packet: &Packet, payload: &[u8]) -> bool {
    let Transport::Udp = packet.transport else { return false };
    let either_port = |port| packet.key.src_port == port || packet.key.dst_port == port;
    if blocked.block_memcached && either_port(MEMCACHED) {
        return true;
    }
    blocked.block_ntp_monlist
        && either_port(NTP)
        && payload.first().is_some_and(|first| NTP_MANAGEMENT_MODES.contains(&(first & 7)))
}
