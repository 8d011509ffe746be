//! A parsed IP packet: its flow key, and where its parts are.

use super::{FragmentInfo, Icmp, Tcp};
use crate::addr::{Addr, Family};

/// What identifies a packet's flow and direction. For ICMP echo both ports are the identifier; for other
/// messages, for other protocols without ports, and for later fragments, they are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Source address.
    pub src: Addr,
    /// Destination address.
    pub dst: Addr,
    /// Source port, host order.
    pub src_port: u16,
    /// Destination port, host order.
    pub dst_port: u16,
    /// The transport: the IP protocol, or the last next header (IANA protocol numbers). In a later IPv6
    /// fragment it is the fragment header's next header, which need not be the transport of the first (RFC
    /// 8200, 4.5).
    pub protocol: u8,
}

impl FlowKey {
    /// The key of an answer to this packet.
    #[inline]
    pub const fn reversed(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            protocol: self.protocol,
        }
    }
}

/// How the link layer addressed a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// To this station.
    Unicast,
    /// To every station.
    Broadcast,
    /// To a group.
    Multicast,
}

/// An IP packet: where its parts are in the frame, and the fields that decisions need. Offsets count from the
/// frame's first byte, and `l3 < l4 <= payload <= payload_end <= end`, all within the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The flow key.
    pub key: FlowKey,
    /// The family of the IP header.
    pub family: Family,
    /// How the link layer addressed the frame.
    pub cast: Cast,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4: the don't-fragment bit. IPv6: always true.
    pub dont_fragment: bool,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the transport header, behind all options and extension headers.
    pub l4: u16,
    /// Offset of the transport's payload; equal to `end` where the transport has none or is not known, and in
    /// a later fragment.
    pub payload: u16,
    /// End of the transport's payload: `end`, save where a UDP length leaves a surplus (RFC 9868).
    pub payload_end: u16,
    /// End of the IP packet; what follows is Ethernet padding.
    pub end: u16,
    /// Set on a fragment; an atomic fragment (RFC 6946) is none.
    pub fragment: Option<FragmentInfo>,
    /// The transport header's fields.
    pub transport: Transport,
}

impl Packet {
    /// The length of the IP packet in bytes, header included: what a maximum transmission unit limits.
    #[inline]
    pub const fn ip_len(&self) -> usize {
        (self.end - self.l3) as usize
    }

    /// The length of the transport's payload in bytes; of a fragment, as far as this fragment has it.
    #[inline]
    pub const fn payload_len(&self) -> usize {
        (self.payload_end - self.payload) as usize
    }
}

/// The transport's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp(Tcp),
    /// UDP (RFC 768).
    Udp,
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// Another protocol, carried without looking inside.
    Other,
    /// A fragment that is not the first: no transport header.
    LaterFragment,
}
