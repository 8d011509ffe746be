//! TCP resets that the appliance sends by itself (RFC 9293, 3.5.2).
//!
//! Only to an end whose next expected sequence number is known, so that it is taken and not challenged (RFC 5961, 3.2).

use super::checksum::pseudo_header;
use super::headers::{ETHERNET_LEN, IPV4_LEN, IPV6_LEN, NotWritten, TTL, concat, ethernet, ipv4, ipv6, put};
use crate::addr::{Addr, Mac};
use crate::wire::{TcpFlags, ethertype, protocol};
use pmd_shim::Frame;

const TCP_LEN: usize = 20;

/// A reset from one end of a connection to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Whom it seems to come from.
    pub src: Addr,
    /// Who is to give the connection up; of the same family.
    pub dst: Addr,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The sequence number that the receiver expects next.
    pub seq: u32,
    /// What the receiver sent last, acknowledged.
    pub ack: u32,
}

/// Writes the reset into a new, empty frame, from the port's own station to the next hop's.
///
/// # Errors
/// [`NotWritten`] when the frame's buffer is too small.
pub fn write<F: Frame>(frame: &mut F, reset: &Reset, station: Mac, neighbor: Mac) -> Result<(), NotWritten> {
    let tcp = tcp(reset);
    match (reset.src.as_v4(), reset.dst.as_v4()) {
        (Some(src), Some(dst)) => {
            let link = ethernet(neighbor, station, ethertype::IPV4);
            let ip = ipv4(src, dst, protocol::TCP, TCP_LEN as u16);
            put(frame, &concat::<{ ETHERNET_LEN + IPV4_LEN + TCP_LEN }>(&[&link, &ip, &tcp]))
        }
        _ => {
            let link = ethernet(neighbor, station, ethertype::IPV6);
            let ip = ipv6(&reset.src, &reset.dst, protocol::TCP, TTL, TCP_LEN as u16);
            put(frame, &concat::<{ ETHERNET_LEN + IPV6_LEN + TCP_LEN }>(&[&link, &ip, &tcp]))
        }
    }
}

fn tcp(reset: &Reset) -> [u8; TCP_LEN] {
    const DATA_OFFSET: u8 = 5 << 4;
    let mut tcp = [0; TCP_LEN];
    tcp[..2].copy_from_slice(&reset.src_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&reset.dst_port.to_be_bytes());
    tcp[4..8].copy_from_slice(&reset.seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&reset.ack.to_be_bytes());
    tcp[12] = DATA_OFFSET;
    tcp[13] = TcpFlags::RST | TcpFlags::ACK;
    let checksum = pseudo_header(&reset.src, &reset.dst, protocol::TCP, TCP_LEN).add_bytes(&tcp).checksum();
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
    tcp
}
