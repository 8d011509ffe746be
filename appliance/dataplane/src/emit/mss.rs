//! The maximum segment size that a SYN announces (RFC 9293, 3.7.1), made smaller where a tunnel takes room from every segment.

use super::checksum::ChecksumDelta;
use crate::addr::Family;
use crate::wire::{Packet, TCP_HEADER_LEN, Transport};

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const MSS_LEN: usize = 4;

/// Lowers what a SYN announces to what fits IP packets of `mtu` bytes. What announces nothing, or no more than that, stays as it is.
#[inline]
pub fn clamp(bytes: &mut [u8], packet: &Packet, mtu: u16) {
    if let Transport::Tcp(tcp) = packet.transport
        && tcp.flags.any(crate::wire::TcpFlags::SYN)
        && packet.fragment.is_none()
    {
        clamp_syn(bytes, packet, mtu);
    }
}

#[cold]
fn clamp_syn(bytes: &mut [u8], packet: &Packet, mtu: u16) {
    let headers = match packet.family {
        Family::V4 => 40,
        Family::V6 => 60,
    };
    let most = mtu.saturating_sub(headers);
    let Some(header) = bytes.get_mut(packet.l4.into()..packet.payload.into()) else { return };
    let Some(at) = find(header.get(TCP_HEADER_LEN..).unwrap_or_default()) else { return };
    let at = TCP_HEADER_LEN + at;
    let Some(&[high, low]) = header.get(at..).and_then(|field| field.first_chunk()) else { return };
    if u16::from_be_bytes([high, low]) <= most {
        return;
    }
    // A field at an odd place is two halves of words: the sum is of the words as they stand.
    let even = at & !1;
    let before = words(header, even);
    header[at..at + 2].copy_from_slice(&most.to_be_bytes());
    let after = words(header, even);
    let delta =
        before.iter().zip(after).fold(ChecksumDelta::new(), |delta, (old, new)| delta.replace_u16(*old, new));
    if let Some(checksum) = header.get_mut(16..18).and_then(|field| field.first_chunk_mut::<2>()) {
        *checksum = delta.apply(u16::from_be_bytes(*checksum)).to_be_bytes();
    }
}

/// Two words from an even place on; beyond the header's end there are zeros.
fn words(header: &[u8], at: usize) -> [u16; 2] {
    let byte = |at: usize| header.get(at).copied().unwrap_or(0);
    [u16::from_be_bytes([byte(at), byte(at + 1)]), u16::from_be_bytes([byte(at + 2), byte(at + 3)])]
}

/// Where the announced size is among the options.
fn find(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *options.get(at..)? {
            [] | [OPTION_END, ..] => return None,
            [OPTION_NOP, ..] => at += 1,
            [OPTION_MSS, 4, _, _, ..] => return Some(at + MSS_LEN - 2),
            [_, len, ..] if len >= 2 => at += usize::from(len),
            _ => return None,
        }
    }
}
