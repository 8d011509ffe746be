//! The outer headers of a packet that goes back to a gateway load balancer: Ethernet, IP, UDP, Geneve with options (RFC 8926, 3).
//!
//! ```text
//! before                                           Ethernet | IP, …
//! after  Ethernet, IP, UDP, Geneve, options of the load balancer | IP, …
//! ```

use super::encap::{Label, Outer};
use super::headers::{IPV6_LEN, NotWritten};
use crate::addr::{Family, MacWord};
use crate::tunnel::geneve::{Envelope, HEADER_LEN, OPTIONS_MAX};
use crate::wire::{ETHERNET_HEADER_LEN, UDP_HEADER_LEN};
use arrayvec::ArrayVec;
use pmd_shim::Frame;

/// The longest outer headers.
const LEN_MAX: usize = ETHERNET_HEADER_LEN + IPV6_LEN + UDP_HEADER_LEN + HEADER_LEN + OPTIONS_MAX;

/// By how many bytes the outer IP packet is longer than the inner one, with so many bytes of options.
pub const fn overhead(outer: &Outer, options_len: usize) -> usize {
    outer.ip_len() + UDP_HEADER_LEN + HEADER_LEN + options_len
}

/// Puts the outer headers in the place of a frame's Ethernet header; `link` are the next hop's and the port's own Ethernet address,
/// `family` is the inner packet's. The UDP source port is that of `label`.
///
/// # Errors
/// [`NotWritten`] when there is no room in front, or the packet would be longer than IP can say; the frame is unchanged.
pub fn encapsulate<F: Frame>(
    frame: &mut F,
    outer: &Outer,
    label: &Label,
    (envelope, family): (&Envelope, Family),
    link: (MacWord, MacWord),
) -> Result<(), NotWritten> {
    let options = envelope.options();
    let inner_len = frame.bytes().len().checked_sub(ETHERNET_HEADER_LEN).ok_or(NotWritten)?;
    let datagram_len = UDP_HEADER_LEN + HEADER_LEN + options.len() + inner_len;
    if datagram_len + outer.ip_len() > usize::from(u16::MAX) {
        return Err(NotWritten);
    }
    let mut head: ArrayVec<u8, LEN_MAX> = ArrayVec::new();
    outer.write(&mut head, label, datagram_len as u16, link)?;
    for part in [&envelope.header(label.vni, family)[..], options] {
        head.try_extend_from_slice(part).map_err(|_| NotWritten)?;
    }
    frame.push_front(head.len() - ETHERNET_HEADER_LEN).map_err(|_| NotWritten)?;
    if let Some(place) = frame.bytes_mut().get_mut(..head.len()) {
        place.copy_from_slice(&head);
    }
    outer.sum(frame.bytes_mut(), datagram_len as u16);
    Ok(())
}
