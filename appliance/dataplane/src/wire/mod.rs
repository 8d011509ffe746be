//! Stage 1, parse: from bytes to offsets and a key, by reference into the frame.
//!
//! Decides whether a frame is what it claims to be: every length, header checksum and (unless the driver vouches for it)
//! transport checksum is verified here, so that no later stage reads a byte that was not checked. Never changes a byte, never looks at
//! configuration beyond the port's own Ethernet address.

use crate::addr::{Addr, Family, Mac};

/// IP protocol numbers (IANA) that the path knows by name.
pub mod protocol {
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// Encapsulating security payload (RFC 4303).
    pub const ESP: u8 = 50;
    /// Authentication header (RFC 4302).
    pub const AH: u8 = 51;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
}

/// What identifies a packet's flow and direction. For ICMP queries both ports are the identifier; for other protocols
/// without ports, and for later fragments, they are 0.
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
    /// The transport: the IP protocol, or the last next header (IANA protocol numbers).
    pub protocol: u8,
}

impl FlowKey {
    /// The key of an answer to this packet.
    #[inline]
    pub const fn reversed(&self) -> Self {
        Self { src: self.dst, dst: self.src, src_port: self.dst_port, dst_port: self.src_port, protocol: self.protocol }
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

/// A parsed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Address resolution (RFC 826).
    Arp(Arp),
    /// An IP packet.
    Ip(Packet),
}

/// An ARP packet for Ethernet and IPv4 (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: ArpOperation,
    /// Who speaks.
    pub sender_mac: Mac,
    /// Who speaks; may be 0.0.0.0 in a probe (RFC 5227).
    pub sender: Addr,
    /// Who is asked for, or who asked.
    pub target: Addr,
    /// How the link layer addressed the frame.
    pub cast: Cast,
}

/// What an ARP packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// Asks.
    Request,
    /// Answers.
    Reply,
}

/// An IP packet: where its parts are in the frame, and the fields that decisions need. Offsets count from the frame's first byte.
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
    /// Offset of the transport's payload; equal to `end` where the transport has none or is not known.
    pub payload: u16,
    /// End of the IP packet; what follows is Ethernet padding.
    pub end: u16,
    /// Set on a fragment; an atomic fragment (RFC 6946) is none.
    pub fragment: Option<FragmentInfo>,
    /// The transport header's fields.
    pub transport: Transport,
}

impl Packet {
    /// The length of the IP packet, header included: what a maximum transmission unit limits.
    #[inline]
    pub const fn ip_len(&self) -> usize {
        (self.end - self.l3) as usize
    }

    /// The length of the transport's payload.
    #[inline]
    pub const fn payload_len(&self) -> usize {
        (self.end - self.payload) as usize
    }
}

/// A fragment's place in its datagram (RFC 791, RFC 8200 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    /// The datagram's identification.
    pub id: u32,
    /// Offset of the fragment's data in the datagram, in bytes. 0 is a first fragment.
    pub offset: u16,
    /// Length of the fragment's data in bytes.
    pub len: u16,
    /// More fragments follow.
    pub more: bool,
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

/// A TCP header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The control bits.
    pub flags: TcpFlags,
    /// The window as it stands in the header, not scaled.
    pub window: u16,
    /// The window scale option's shift, only read on a SYN (RFC 7323), at most 14.
    pub window_scale: Option<u8>,
}

/// TCP control bits, as in byte 13 of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;

    /// Any of these bits is set.
    #[inline]
    pub const fn any(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// A SYN without ACK.
    #[inline]
    pub const fn is_initial_syn(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }
}

/// An ICMP or ICMPv6 header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// The type field.
    pub kind: u8,
    /// The code field.
    pub code: u8,
    /// What the path makes of type and code.
    pub class: IcmpClass,
}

/// What the path makes of an ICMP message, alike for both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpClass {
    /// Echo request.
    EchoRequest,
    /// Echo reply.
    EchoReply,
    /// An error about another packet, which it quotes from offset `payload` on.
    Error,
    /// Router or neighbour discovery (RFC 4861), to be handled on the link and never forwarded. Hop limit 255 is verified.
    NeighborSolicitation,
    /// See [`NeighborSolicitation`](Self::NeighborSolicitation).
    NeighborAdvertisement,
    /// Redirects, router discovery, multicast listener reports: of the link, never forwarded.
    LinkLocal,
    /// Any other query or message.
    Other,
}
