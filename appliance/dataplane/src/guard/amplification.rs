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

/// Whether datagrams between these ports are looked at at all. Both are in one word as they stand in the header.
#[inline(always)]
pub(super) fn is_watched(ports: u32) -> bool {
    const WATCHED: [u16; 2] = [NTP.swap_bytes(), MEMCACHED.swap_bytes()];
    WATCHED.contains(&(ports as u16)) || WATCHED.contains(&((ports >> 16) as u16))
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
