//! Turns a packet that cannot be passed on into the ICMP error about it (RFC 792 and RFC 1812 4.3, RFC 4443 3).

use super::checksum::{Sum, pseudo_header};
use super::headers::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, TTL, ethernet, ipv4, ipv6};
use crate::addr::{Addr, Family, Mac};
use crate::wire::{Cast, Icmp, IcmpClass, Packet, Transport, ethertype, icmp, icmpv6, protocol};
use pmd_shim::Frame;

/// What is wrong, alike for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// The time to live or hop limit ran out.
    TimeExceeded,
    /// Not all fragments came in time.
    ReassemblyTimeExceeded,
    /// The packet is larger than the way out, which carries so many bytes: fragmentation needed, or packet too big.
    FragmentationNeeded {
        /// The longest IP packet that fits.
        mtu: u16,
    },
    /// No route leads to the destination.
    NetUnreachable,
    /// The destination, or the next hop to it, does not answer.
    HostUnreachable,
}

/// No error may be sent about this packet, or it could not be written; the frame is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnswerable;

/// Length of an ICMP error's own header in bytes; the quote follows.
const ICMP_LEN: usize = 8;
/// How long an error is at most: RFC 1812, 4.3.2.3 and the least MTU of IPv6 (RFC 4443, 2.4 (c)).
const MAX_LEN_V4: usize = 576;
const MAX_LEN_V6: usize = 1280;

impl IcmpError {
    /// Type, code, and the header's last four bytes.
    const fn parts(self, family: Family) -> (u8, u8, u32) {
        match (self, family) {
            (Self::TimeExceeded, Family::V4) => (icmp::kind::TIME_EXCEEDED, 0, 0),
            (Self::TimeExceeded, Family::V6) => (icmpv6::kind::TIME_EXCEEDED, 0, 0),
            (Self::ReassemblyTimeExceeded, Family::V4) => (icmp::kind::TIME_EXCEEDED, 1, 0),
            (Self::ReassemblyTimeExceeded, Family::V6) => (icmpv6::kind::TIME_EXCEEDED, 1, 0),
            // RFC 1191, 4: the MTU is in the lower half.
            (Self::FragmentationNeeded { mtu }, Family::V4) => (icmp::kind::UNREACHABLE, 4, mtu as u32),
            (Self::FragmentationNeeded { mtu }, Family::V6) => (icmpv6::kind::PACKET_TOO_BIG, 0, mtu as u32),
            (Self::NetUnreachable, Family::V4) => (icmp::kind::UNREACHABLE, 0, 0),
            (Self::NetUnreachable, Family::V6) => (icmpv6::kind::UNREACHABLE, 0, 0),
            (Self::HostUnreachable, Family::V4) => (icmp::kind::UNREACHABLE, 1, 0),
            (Self::HostUnreachable, Family::V6) => (icmpv6::kind::UNREACHABLE, 3, 0),
        }
    }
}

/// Whether an error may be sent about the packet (RFC 1122 3.2.2, RFC 1812 4.3.2.7, RFC 4443 2.4 (e)): never about an error or a
/// message that stays on the link, a fragment that is not the first, a packet to more than one station, or one whose source
/// is not a single host. Broadcast addresses that only a prefix tells are for the caller to know.
pub fn is_answerable<F: Frame>(frame: &F, packet: &Packet) -> bool {
    let about_message = match packet.transport {
        Transport::Icmp(Icmp { class, .. }) => {
            matches!(class, IcmpClass::EchoRequest | IcmpClass::EchoReply | IcmpClass::Other)
        }
        _ => true,
    };
    about_message
        && packet.fragment.is_none_or(|fragment| fragment.offset == 0)
        && packet.cast == Cast::Unicast
        && sender(frame.bytes()).is_some_and(|mac| !mac.is_group())
        && !is_group(packet.key.dst)
        && is_single_host(packet.key.src)
}

/// Turns the frame into an error about the packet in it, from `from`, an address of the appliance, to the packet's source, by way of
/// the station that it came from; `station` is the port's own. The packet must stand in the frame as it was received: its
/// sender has to recognise it.
///
/// # Errors
/// [`NotAnswerable`] when the packet [must not be answered](is_answerable), `from` is of the other family, or the frame has no room.
pub fn build<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    error: IcmpError,
    from: Addr,
    station: Mac,
) -> Result<(), NotAnswerable> {
    let l3 = usize::from(packet.l3);
    let asker = sender(frame.bytes()).ok_or(NotAnswerable)?;
    let whole = l3 <= usize::from(packet.end) && usize::from(packet.end) <= frame.bytes().len();
    if !is_answerable(frame, packet) || from.family() != packet.family || !whole || l3 < ETHERNET_LEN {
        return Err(NotAnswerable);
    }
    let (ip_len, max_len) = match packet.family {
        Family::V4 => (IPV4_LEN, MAX_LEN_V4),
        Family::V6 => (IPV6_LEN, MAX_LEN_V6),
    };
    let quote = packet.ip_len().min(max_len - ip_len - ICMP_LEN);
    let front = ETHERNET_LEN + ip_len + ICMP_LEN;
    if front > l3 {
        frame.push_front(front - l3).map_err(|_| NotAnswerable)?;
    } else {
        frame.pop_front(l3 - front).map_err(|_| NotAnswerable)?;
    }
    // The packet was there: this only cuts.
    frame.set_len(front + quote).map_err(|_| NotAnswerable)?;
    let (header, message) = frame.bytes_mut().split_at_mut(ETHERNET_LEN + ip_len);
    let (link, network) = header.split_at_mut(ETHERNET_LEN);
    write_message(message, error, packet.family, &from, &packet.key.src);
    let len = message.len() as u16;
    match (from.as_v4(), packet.key.src.as_v4()) {
        (Some(src), Some(dst)) => {
            link.copy_from_slice(&ethernet(asker, station, ethertype::IPV4));
            network.copy_from_slice(&ipv4(src, dst, protocol::ICMP, len));
        }
        _ => {
            link.copy_from_slice(&ethernet(asker, station, ethertype::IPV6));
            network.copy_from_slice(&ipv6(&from, &packet.key.src, protocol::ICMPV6, TTL, len));
        }
    }
    Ok(())
}

/// Writes the error's own header in front of the quote.
fn write_message(message: &mut [u8], error: IcmpError, family: Family, src: &Addr, dst: &Addr) {
    let (kind, code, rest) = error.parts(family);
    let [a, b, c, d] = rest.to_be_bytes();
    let sum = match family {
        Family::V4 => Sum::new(),
        Family::V6 => pseudo_header(src, dst, protocol::ICMPV6, message.len()),
    };
    if let Some((header, quote)) = message.split_first_chunk_mut::<ICMP_LEN>() {
        *header = [kind, code, 0, 0, a, b, c, d];
        let checksum = sum.add_bytes(header).add_bytes(quote).checksum();
        let [high, low] = checksum.to_be_bytes();
        *header = [kind, code, high, low, a, b, c, d];
    }
}

/// The Ethernet source.
fn sender(bytes: &[u8]) -> Option<Mac> {
    bytes.get(6..)?.first_chunk().copied().map(Mac)
}

/// Multicast, IPv4's reserved class E, or the limited broadcast.
fn is_group(address: Addr) -> bool {
    match address.as_v4() {
        Some([first, ..]) => first >= 224,
        None => address.octets()[0] == 0xff,
    }
}

/// The address can only be one host's: not a group, not "this network" (RFC 1122, 3.2.1.3), not a loopback.
pub(crate) fn is_single_host(address: Addr) -> bool {
    const LOOPBACK: Addr = Addr::from_bits(1);
    !is_group(address)
        && match address.as_v4() {
            Some([first, ..]) => first != 0 && first != 127,
            None => address != Addr::UNSPECIFIED && address != LOOPBACK,
        }
}

#[cfg(test)]
mod tests;
