//! What segments of a spliced connection have changed on their way: numbers that the two ends count differently, and options that one
//! of them does not know.

use super::checksum::{ChecksumDelta, Sum};
use super::rewrite::{exchange, read_u16, write};
use crate::addr::Family;
use crate::synproxy::options::kind;
use crate::wire::{Packet, Quoted, TCP_HEADER_LEN, TcpFlags, Transport, chunk};

/// The changes to a segment. What is added is 0 where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Added to the sequence number.
    pub seq: u32,
    /// Added to the acknowledgement number, where there is one.
    pub ack: u32,
    /// Added to both edges of each block that is selectively acknowledged.
    pub sack: u32,
    /// Added to the timestamp.
    pub timestamp: u32,
    /// Added to the echoed timestamp, where an acknowledgement makes it count.
    pub echo: u32,
    /// The window instead of the segment's own.
    pub window: Option<u16>,
    /// Timestamps are padded over.
    pub without_timestamps: bool,
    /// Selective acknowledgements are padded over.
    pub without_sack: bool,
    /// It is sent as by a transport that takes no notice of congestion (RFC 3168, 5).
    pub without_ecn: bool,
}

impl Edits {
    /// What undoes the additions.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            seq: self.seq.wrapping_neg(),
            ack: self.ack.wrapping_neg(),
            sack: self.sack.wrapping_neg(),
            timestamp: self.timestamp.wrapping_neg(),
            echo: self.echo.wrapping_neg(),
            ..Self::default()
        }
    }
}

/// Changes a TCP segment in place; `packet` is what parsing gave for its bytes.
pub fn splice(bytes: &mut [u8], packet: &Packet, edits: &Edits) {
    let Transport::Tcp(tcp) = packet.transport else { return };
    let l4 = usize::from(packet.l4);
    let has_ack = tcp.flags.any(TcpFlags::ACK);
    let mut delta = add_u32(bytes, l4 + 4, edits.seq);
    if has_ack {
        delta = delta.and(add_u32(bytes, l4 + 8, edits.ack));
    }
    if let Some(window) = edits.window
        && let Some(old) = exchange(bytes, l4 + 14, window.to_be_bytes())
    {
        delta = delta.and(ChecksumDelta::new().replace_u16(u16::from_be_bytes(old), window));
    }
    let options = bytes.get_mut(l4 + TCP_HEADER_LEN..usize::from(packet.payload));
    if let Some(options) = options.filter(|options| !options.is_empty()) {
        // An option may begin anywhere: the difference is that of all of them, which begin at an even offset.
        let old = Sum::new().add_bytes(options).fold();
        edit_options(options, edits, has_ack);
        delta = delta.and(ChecksumDelta::new().replace_u16(old, Sum::new().add_bytes(options).fold()));
    }
    if let Some(old) = read_u16(bytes, l4 + 16) {
        write(bytes, l4 + 16, delta.apply(old).to_be_bytes());
    }
    if edits.without_ecn {
        clear_ecn(bytes, packet);
    }
}

/// Adds to the numbers of the segment that an ICMP error quotes, as far as they are there, and brings both checksums up to date.
/// `quoted` is what [`quoted`](crate::wire::quoted) gave for the payload of `packet`.
pub fn splice_quoted(bytes: &mut [u8], packet: &Packet, quoted: &Quoted, seq: u32, ack: u32) {
    let l3 = usize::from(packet.payload);
    let l4 = l3 + usize::from(quoted.l4);
    let end = usize::from(packet.end).min(l3 + usize::from(quoted.len));
    if quoted.tcp_seq.is_none() || l4 + 8 > end {
        return;
    }
    let mut inner = add_u32(bytes, l4 + 4, seq);
    let has_ack = bytes.get(l4 + 13).is_some_and(|flags| flags & TcpFlags::ACK != 0);
    if l4 + 14 <= end && has_ack {
        inner = inner.and(add_u32(bytes, l4 + 8, ack));
    }
    let mut outer = inner;
    if l4 + 18 <= end
        && let Some(old) = read_u16(bytes, l4 + 16)
    {
        let new = inner.apply(old);
        write(bytes, l4 + 16, new.to_be_bytes());
        outer = outer.and(ChecksumDelta::new().replace_u16(old, new));
    }
    let at = usize::from(packet.l4) + 2;
    if let (Some(old), None) = (read_u16(bytes, at), packet.fragment) {
        write(bytes, at, outer.apply(old).to_be_bytes());
    }
}

/// Adds to a field at an even offset.
#[inline]
fn add_u32(bytes: &mut [u8], at: usize, add: u32) -> ChecksumDelta {
    let Some(old) = chunk::<4>(bytes, at).map(|field| u32::from_be_bytes(*field)) else {
        return ChecksumDelta::new();
    };
    let new = old.wrapping_add(add);
    write(bytes, at, new.to_be_bytes());
    ChecksumDelta::new().replace_u32(old, new)
}

/// Changes options in place. Those of a wrong length stay as they are: nobody reads them.
fn edit_options(options: &mut [u8], edits: &Edits, has_ack: bool) {
    let mut at = 0;
    while let Some(&[first, second]) = chunk::<2>(options, at) {
        if first == kind::END {
            return;
        }
        if first == kind::NOP {
            at += 1;
            continue;
        }
        let len = usize::from(second);
        let Some(option) = options.get_mut(at..at + len).filter(|option| option.len() >= 2) else { return };
        match (first, len) {
            (kind::TIMESTAMPS, _) if edits.without_timestamps => option.fill(kind::NOP),
            (kind::SACK | kind::SACK_PERMITTED, _) if edits.without_sack => option.fill(kind::NOP),
            (kind::TIMESTAMPS, 10) => {
                add_at(option, 2, edits.timestamp);
                if has_ack {
                    add_at(option, 6, edits.echo);
                }
            }
            (kind::SACK, _) => {
                (2..len.saturating_sub(3)).step_by(4).for_each(|edge| add_at(option, edge, edits.sack))
            }
            _ => {}
        }
        at += len;
    }
}

fn add_at(option: &mut [u8], at: usize, add: u32) {
    if let Some(field) = chunk::<4>(option, at) {
        let new = u32::from_be_bytes(*field).wrapping_add(add);
        write(option, at, new.to_be_bytes());
    }
}

/// Clears the bits of the IP header that notify congestion.
fn clear_ecn(bytes: &mut [u8], packet: &Packet) {
    let l3 = usize::from(packet.l3);
    let Some(old) = read_u16(bytes, l3) else { return };
    match packet.family {
        Family::V4 => {
            let new = old & !0x0003;
            write(bytes, l3, new.to_be_bytes());
            if let Some(checksum) = read_u16(bytes, l3 + 10) {
                let delta = ChecksumDelta::new().replace_u16(old, new);
                write(bytes, l3 + 10, delta.apply(checksum).to_be_bytes());
            }
        }
        Family::V6 => write(bytes, l3, (old & !0x0030).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests;
