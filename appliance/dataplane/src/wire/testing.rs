//! Frames for tests and measurements, built by etherparse: a second opinion on what a right packet looks
//! like.
//!
//! ```
//! # use nva_dataplane::wire::{TcpFlags, testing::FrameBuilder};
//! let syn = FrameBuilder::new("10.0.0.1", "10.0.0.2").tcp(40_000, 80).flags(TcpFlags::SYN).build();
//! let ping = FrameBuilder::new("2001:db8::1", "2001:db8::2").echo_request(7, 1).payload(b"hello").build();
//! # assert!(syn.len() == 54 && ping.len() == 67);
//! ```
//!
//! What cannot be built panics: this is for tests only.

use super::{ETHERNET_HEADER_LEN, TcpFlags, ethertype, protocol};
use crate::addr::Mac;
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader,
};
use std::net::IpAddr;
use std::ops::Range;

/// The station that frames are for unless told otherwise.
pub const STATION: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// The station that frames are from unless told otherwise.
pub const NEIGHBOR: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Builds one frame: an IP packet with right lengths and checksums.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    source: Mac,
    destination: Mac,
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    id: u32,
    dont_fragment: bool,
    ip_options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    body: Body,
    payload: Vec<u8>,
    padding: usize,
}

#[derive(Clone, Debug)]
enum Body {
    Other(u8),
    Tcp(Box<TcpHeader>),
    Udp { src_port: u16, dst_port: u16, checksum: bool },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
}

impl FrameBuilder {
    /// A packet between two addresses of one family, of protocol 253 (RFC 3692) and empty until told
    /// otherwise.
    pub fn new(src: &str, dst: &str) -> Self {
        let parse = |text: &str| text.parse().expect("an IP address");
        Self::between(parse(src), parse(dst))
    }

    /// The same, for addresses that are not text.
    pub fn between(src: IpAddr, dst: IpAddr) -> Self {
        assert_eq!(src.is_ipv4(), dst.is_ipv4(), "one family");
        Self {
            source: NEIGHBOR,
            destination: STATION,
            src,
            dst,
            ttl: 64,
            id: 0,
            dont_fragment: false,
            ip_options: Vec::new(),
            extensions: Vec::new(),
            body: Body::Other(253),
            payload: Vec::new(),
            padding: 0,
        }
    }

    /// The Ethernet addresses.
    pub fn link(self, source: Mac, destination: Mac) -> Self {
        Self { source, destination, ..self }
    }

    /// Time to live or hop limit.
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// The datagram's identification.
    pub fn id(self, id: u32) -> Self {
        Self { id, ..self }
    }

    /// The IPv4 don't-fragment bit.
    pub fn dont_fragment(self) -> Self {
        Self { dont_fragment: true, ..self }
    }

    /// IPv4 options, whole words.
    pub fn ip_options(self, options: &[u8]) -> Self {
        Self { ip_options: options.to_vec(), ..self }
    }

    /// Appends an IPv6 extension header: its protocol number, and all of it behind the next-header byte. In
    /// fragments, all of them are repeated in front of the fragment header.
    pub fn extension(mut self, kind: u8, header: &[u8]) -> Self {
        self.extensions.push((kind, header.to_vec()));
        self
    }

    /// Makes it TCP: an acknowledgement with sequence numbers 0.
    pub fn tcp(self, src_port: u16, dst_port: u16) -> Self {
        let mut header = TcpHeader::new(src_port, dst_port, 0, 65_535);
        header.ack = true;
        Self { body: Body::Tcp(Box::new(header)), ..self }
    }

    /// The TCP control bits, all of them.
    pub fn flags(self, bits: u8) -> Self {
        let flags = TcpFlags(bits);
        self.tcp_header(|header| {
            header.fin = flags.any(TcpFlags::FIN);
            header.syn = flags.any(TcpFlags::SYN);
            header.rst = flags.any(TcpFlags::RST);
            header.psh = flags.any(TcpFlags::PSH);
            header.ack = flags.any(TcpFlags::ACK);
            header.urg = flags.any(TcpFlags::URG);
            header.ece = flags.any(0x40);
            header.cwr = flags.any(0x80);
        })
    }

    /// The TCP sequence and acknowledgement numbers.
    pub fn seq(self, seq: u32, ack: u32) -> Self {
        self.tcp_header(|header| {
            header.sequence_number = seq;
            header.acknowledgment_number = ack;
        })
    }

    /// The TCP window.
    pub fn window(self, window: u16) -> Self {
        self.tcp_header(|header| header.window_size = window)
    }

    /// TCP options, padded with zeros to whole words.
    pub fn tcp_options(self, options: &[u8]) -> Self {
        self.tcp_header(|header| header.set_options_raw(options).expect("at most 40 bytes"))
    }

    fn tcp_header(mut self, change: impl FnOnce(&mut TcpHeader)) -> Self {
        match &mut self.body {
            Body::Tcp(header) => change(header),
            other => panic!("only TCP has this, not {other:?}"),
        }
        self
    }

    /// Makes it UDP.
    pub fn udp(self, src_port: u16, dst_port: u16) -> Self {
        Self { body: Body::Udp { src_port, dst_port, checksum: true }, ..self }
    }

    /// Makes it UDP with a checksum of 0, that is none.
    pub fn udp_without_checksum(self, src_port: u16, dst_port: u16) -> Self {
        Self { body: Body::Udp { src_port, dst_port, checksum: false }, ..self }
    }

    /// Makes it ICMP or ICMPv6, after the family; `rest` is the second word of the header.
    pub fn icmp(self, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        Self { body: Body::Icmp { kind, code, rest }, ..self }
    }

    /// Makes it an echo request.
    pub fn echo_request(self, id: u16, seq: u16) -> Self {
        let kind = if self.src.is_ipv4() {
            super::icmp::kind::ECHO_REQUEST
        } else {
            super::icmpv6::kind::ECHO_REQUEST
        };
        self.echo(kind, id, seq)
    }

    /// Makes it an echo reply.
    pub fn echo_reply(self, id: u16, seq: u16) -> Self {
        let kind =
            if self.src.is_ipv4() { super::icmp::kind::ECHO_REPLY } else { super::icmpv6::kind::ECHO_REPLY };
        self.echo(kind, id, seq)
    }

    fn echo(self, kind: u8, id: u16, seq: u16) -> Self {
        let ([a, b], [c, d]) = (id.to_be_bytes(), seq.to_be_bytes());
        self.icmp(kind, 0, [a, b, c, d])
    }

    /// Makes it of another protocol, whose header is part of the payload.
    pub fn protocol(self, number: u8) -> Self {
        Self { body: Body::Other(number), ..self }
    }

    /// The transport's payload.
    pub fn payload(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    /// Ethernet padding behind the packet.
    pub fn padding(self, len: usize) -> Self {
        Self { padding: len, ..self }
    }

    /// The whole packet's frame.
    pub fn build(&self) -> Vec<u8> {
        self.wrap(&self.segment(), None)
    }

    /// The frame of one fragment: this range of the transport header and payload. The last bytes' fragment is
    /// the last one.
    pub fn build_fragment(&self, range: Range<usize>) -> Vec<u8> {
        let segment = self.segment();
        let more = range.end < segment.len();
        self.wrap(&segment[range.clone()], Some((range.start, more)))
    }

    /// The frames of all fragments, each with at most this many bytes of the datagram, a multiple of 8.
    pub fn build_fragments(&self, len: usize) -> Vec<Vec<u8>> {
        let total = self.segment().len();
        (0..total).step_by(len).map(|start| self.build_fragment(start..total.min(start + len))).collect()
    }

    /// The IP packet alone, as an ICMP error quotes it.
    pub fn build_ip(&self) -> Vec<u8> {
        Self { padding: 0, ..self.clone() }.build().split_off(ETHERNET_HEADER_LEN)
    }

    fn protocol_number(&self) -> u8 {
        match (&self.body, self.src) {
            (Body::Other(number), _) => *number,
            (Body::Tcp(_), _) => protocol::TCP,
            (Body::Udp { .. }, _) => protocol::UDP,
            (Body::Icmp { .. }, IpAddr::V4(_)) => protocol::ICMP,
            (Body::Icmp { .. }, IpAddr::V6(_)) => protocol::ICMPV6,
        }
    }

    /// The transport header and its payload.
    fn segment(&self) -> Vec<u8> {
        let payload = &self.payload[..];
        let header = match &self.body {
            Body::Other(_) => Vec::new(),
            Body::Tcp(header) => self.tcp_bytes(header),
            Body::Udp { src_port, dst_port, checksum } => self.udp_bytes(*src_port, *dst_port, *checksum),
            Body::Icmp { kind, code, rest } => self.icmp_bytes(*kind, *code, *rest),
        };
        [&header, payload].concat()
    }

    fn tcp_bytes(&self, header: &TcpHeader) -> Vec<u8> {
        let mut header = header.clone();
        header.checksum = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), &self.payload)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), &self.payload)
            }
            _ => unreachable!("one family"),
        }
        .expect("a payload that fits");
        header.to_bytes().to_vec()
    }

    fn udp_bytes(&self, source_port: u16, destination_port: u16, checksum: bool) -> Vec<u8> {
        let length = u16::try_from(8 + self.payload.len()).expect("a payload that fits");
        let mut header = UdpHeader { source_port, destination_port, length, checksum: 0 };
        if checksum {
            header.checksum = match (self.src, self.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), &self.payload)
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), &self.payload)
                }
                _ => unreachable!("one family"),
            }
            .expect("a payload that fits");
        }
        header.to_bytes().to_vec()
    }

    fn icmp_bytes(&self, kind: u8, code: u8, rest: [u8; 4]) -> Vec<u8> {
        let checksum = match (self.src, self.dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest }
                    .calc_checksum(src.octets(), dst.octets(), &self.payload)
                    .expect("a payload that fits")
            }
            _ => Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest }
                .calc_checksum(&self.payload),
        };
        [&[kind, code], &checksum.to_be_bytes()[..], &rest].concat()
    }

    /// Puts the IP and Ethernet headers in front of a segment or a part of it.
    fn wrap(&self, segment: &[u8], fragment: Option<(usize, bool)>) -> Vec<u8> {
        let mut frame = [self.destination.0, self.source.0].concat();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                frame.extend(ethertype::IPV4.to_be_bytes());
                frame.extend(self.ipv4_bytes(src.octets(), dst.octets(), segment.len(), fragment));
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                frame.extend(ethertype::IPV6.to_be_bytes());
                frame.extend(self.ipv6_bytes(src.octets(), dst.octets(), segment.len(), fragment));
            }
            _ => unreachable!("one family"),
        }
        frame.extend(segment);
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    fn ipv4_bytes(&self, src: [u8; 4], dst: [u8; 4], len: usize, fragment: Option<(usize, bool)>) -> Vec<u8> {
        let number = IpNumber(self.protocol_number());
        let mut header = Ipv4Header::new(0, self.ttl, number, src, dst).expect("an empty payload fits");
        header.options = self.ip_options[..].try_into().expect("whole words, at most 40 bytes");
        header.set_payload_len(len).expect("a payload that fits");
        header.identification = self.id as u16;
        header.dont_fragment = self.dont_fragment;
        let (offset, more) = fragment.unwrap_or((0, false));
        header.fragment_offset = fragment_offset(offset);
        header.more_fragments = more;
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    }

    fn ipv6_bytes(
        &self,
        src: [u8; 16],
        dst: [u8; 16],
        len: usize,
        fragment: Option<(usize, bool)>,
    ) -> Vec<u8> {
        let mut headers = self.extensions.clone();
        if let Some((offset, more)) = fragment {
            let field = fragment_offset(offset).value() << 3 | u16::from(more);
            let header = [&[0], &field.to_be_bytes()[..], &self.id.to_be_bytes()].concat();
            headers.push((protocol::FRAGMENT, header));
        }
        let mut next = self.protocol_number();
        let mut chain = Vec::new();
        for (kind, header) in headers.iter().rev() {
            chain = [&[next], &header[..], &chain].concat();
            next = *kind;
        }
        let header = Ipv6Header {
            payload_length: u16::try_from(chain.len() + len).expect("a payload that fits"),
            next_header: IpNumber(next),
            hop_limit: self.ttl,
            source: src,
            destination: dst,
            ..Ipv6Header::default()
        };
        [&header.to_bytes()[..], &chain].concat()
    }
}

fn fragment_offset(bytes: usize) -> IpFragOffset {
    assert_eq!(bytes % 8, 0, "offsets count units of eight bytes");
    IpFragOffset::try_new(u16::try_from(bytes / 8).expect("an offset")).expect("an offset")
}

/// Puts an IPv4 header checksum right that a test has made wrong by changing the header.
pub fn fix_ipv4_checksum(frame: &mut [u8]) {
    let header = &mut frame[ETHERNET_HEADER_LEN..];
    let len = usize::from(header[0] & 0x0f) * 4;
    header[10..12].fill(0);
    let checksum = !sum(&[&header[..len]]);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Puts a transport checksum right that a test has made wrong by changing the header or the payload;
/// `segment` is where these are in the frame.
pub fn fix_transport_checksum(frame: &mut [u8], number: u8, segment: Range<usize>) {
    let addresses = if frame[12..14] == ethertype::IPV4.to_be_bytes() { 26..34 } else { 22..54 };
    let offset = match number {
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => 2,
    };
    let at = segment.start + offset;
    frame[at..at + 2].fill(0);
    let len = u32::try_from(segment.len()).expect("a frame is small").to_be_bytes();
    let pseudo_header = [&frame[addresses], &len, &[0, number]].concat();
    let covered: &[&[u8]] = if number == protocol::ICMP { &[] } else { &[&pseudo_header] };
    let checksum = !sum(&[covered, &[&frame[segment]]].concat());
    let checksum = if number == protocol::UDP && checksum == 0 { 0xffff } else { checksum };
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The ones' complement sum (RFC 1071) of slices of even length, the last of any: slow and obvious.
pub fn sum(slices: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in slices.concat().chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
