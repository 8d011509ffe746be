//! Addresses that no forwarded packet has (RFC 1812 5.3.7, RFC 6890, RFC 4291).

use crate::addr::Addr;
use crate::verdict::DropReason;

/// What an address is, as far as forwarding is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of one host, anywhere.
    Unicast,
    /// Of one host, on one link: never forwarded (RFC 3927 7, RFC 4291 2.5.6).
    LinkLocal,
    /// Of a group.
    Multicast,
    /// "This network", loopback, reserved for ever: on no wire.
    Impossible,
}

/// Refuses what cannot be a source or a destination of a forwarded packet, and packets that a host sends to itself.
#[inline]
pub(super) fn check(source: Addr, destination: Addr) -> Result<(), DropReason> {
    match (kind(source), kind(destination)) {
        (Kind::Impossible | Kind::Multicast, _) => Err(DropReason::Spoofed),
        _ if source == destination => Err(DropReason::Spoofed),
        (Kind::Unicast, Kind::Unicast) => Ok(()),
        _ => Err(DropReason::NoRoute),
    }
}

/// Whether the address is of one host, anywhere.
pub(super) fn is_unicast(address: Addr) -> bool {
    kind(address) == Kind::Unicast
}

/// Why the address is never the source of a packet to one host, anywhere.
pub(super) fn refuses(source: Addr) -> Option<DropReason> {
    match kind(source) {
        Kind::Impossible | Kind::Multicast => Some(DropReason::Spoofed),
        Kind::LinkLocal => Some(DropReason::NoRoute),
        Kind::Unicast => None,
    }
}

/// The ranges of addresses, both ends included, outside of which all are of one host, anywhere.
pub(super) fn ranges() -> impl Iterator<Item = (u128, u128)> {
    let of_v4 = |first: [u8; 4], last: [u8; 4]| (Addr::v4(first).bits(), Addr::v4(last).bits());
    let of_v6 = |first: u16, last: u16| (u128::from(first) << 112, u128::from(last) << 112 | u128::MAX >> 16);
    [
        of_v4([0; 4], [0, 255, 255, 255]),
        of_v4([127, 0, 0, 0], [127, 255, 255, 255]),
        of_v4([169, 254, 0, 0], [169, 254, 255, 255]),
        of_v4([224, 0, 0, 0], [239, 255, 255, 255]),
        of_v4([240, 0, 0, 0], [255; 4]),
        (0, 1),
        of_v6(0xfe80, 0xfebf),
        of_v6(0xff00, 0xffff),
    ]
    .into_iter()
}

#[inline]
fn kind(address: Addr) -> Kind {
    if let Some(octets) = address.as_v4() {
        return match octets {
            [0 | 127 | 240..=255, ..] => Kind::Impossible,
            [224..=239, ..] => Kind::Multicast,
            [169, 254, ..] => Kind::LinkLocal,
            _ => Kind::Unicast,
        };
    }
    match address.bits() {
        0 | 1 => Kind::Impossible,
        bits if bits >> 120 == 0xff => Kind::Multicast,
        _ if address.is_v6_link_local() => Kind::LinkLocal,
        _ => Kind::Unicast,
    }
}
