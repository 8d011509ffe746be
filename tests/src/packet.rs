//! Packets as tests write them down: an honest one from the builder, then what differs.

use crate::ports::{Mac, Port};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header,
    Ipv4Options, Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, SlicedPacket, TcpHeader, UdpHeader,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

/// Length of an Ethernet header in bytes.
pub const ETHERNET_LEN: usize = 14;

/// A change to the bytes.
type Edit = Rc<dyn Fn(&mut Vec<u8>)>;

/// An IP packet to be. Lengths and checksums are right unless an edit says otherwise.
#[derive(Clone)]
pub struct Packet {
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    id: u32,
    traffic_class: u8,
    dont_fragment: bool,
    fragment: Option<(usize, bool)>,
    options: Vec<u8>,
    /// Extension headers behind the fixed one: kind, content from the third byte on.
    extensions: Vec<(u8, Vec<u8>)>,
    transport: Transport,
    payload: Vec<u8>,
    link: Option<(Mac, Mac)>,
    segment_edits: Vec<Edit>,
    header_edits: Vec<Edit>,
    frame_edits: Vec<Edit>,
    padding: usize,
}

#[derive(Clone)]
enum Transport {
    Tcp(TcpHeader),
    Udp {
        src_port: u16,
        dst_port: u16,
        checksum: bool,
    },
    Icmp([u8; 8]),
    /// Another protocol, or a fragment's part of any.
    Raw(u8),
}

/// What can be put on a wire.
pub trait OnWire {
    /// As the port receives it.
    fn received(&self, port: Port) -> Vec<u8>;
    /// As the port sends it.
    fn sent(&self, port: Port) -> Vec<u8>;
}

impl OnWire for Vec<u8> {
    fn received(&self, _: Port) -> Vec<u8> {
        self.clone()
    }

    fn sent(&self, _: Port) -> Vec<u8> {
        self.clone()
    }
}

impl OnWire for Packet {
    fn received(&self, port: Port) -> Vec<u8> {
        let (dst, src) = self.link.unwrap_or((port.station(), port.neighbor(self.src)));
        self.frame(dst, src)
    }

    fn sent(&self, port: Port) -> Vec<u8> {
        let (dst, src) = self.link.unwrap_or((port.neighbor(self.dst), port.station()));
        self.frame(dst, src)
    }
}

fn ends(from: &str, to: &str) -> (SocketAddr, SocketAddr) {
    let end = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text} is no ADDRESS:PORT"));
    (end(from), end(to))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

/// A TCP segment without flags.
///
/// # Panics
/// When an end is not `ADDRESS:PORT`; so do all of these.
pub fn tcp(from: &str, to: &str) -> Packet {
    let (from, to) = ends(from, to);
    let header = TcpHeader::new(from.port(), to.port(), 0, 64_000);
    Packet::new(from.ip(), to.ip(), Transport::Tcp(header))
}

/// A UDP datagram with eight bytes.
pub fn udp(from: &str, to: &str) -> Packet {
    let (from, to) = ends(from, to);
    let transport = Transport::Udp { src_port: from.port(), dst_port: to.port(), checksum: true };
    Packet::new(from.ip(), to.ip(), transport).data(b"datagram")
}

/// An ICMP or ICMPv6 message with the last four bytes of its header.
pub fn icmp(from: &str, to: &str, kind: u8, code: u8, rest: u32) -> Packet {
    let [a, b, c, d] = rest.to_be_bytes();
    Packet::new(address(from), address(to), Transport::Icmp([kind, code, 0, 0, a, b, c, d]))
}

/// An echo request.
pub fn echo(from: &str, to: &str, id: u16) -> Packet {
    let kind = if address(from).is_ipv4() { 8 } else { 128 };
    icmp(from, to, kind, 0, u32::from(id) << 16 | 1).data(b"ping")
}

/// The reply to [`echo`].
pub fn echo_reply(from: &str, to: &str, id: u16) -> Packet {
    let kind = if address(from).is_ipv4() { 0 } else { 129 };
    icmp(from, to, kind, 0, u32::from(id) << 16 | 1).data(b"ping")
}

/// Sixteen bytes of another protocol.
pub fn other(from: &str, to: &str, protocol: u8) -> Packet {
    Packet::new(address(from), address(to), Transport::Raw(protocol)).data(b"sixteen bytes...")
}

/// An ICMP error with this type, code and rest of the header, about `about`, as the appliance writes it: from `from` to who sent it.
/// The quote is as long as the family allows.
pub fn error(from: &str, about: &Packet, kind: u8, code: u8, rest: u32) -> Packet {
    let mut error = icmp(from, &about.src.to_string(), kind, code, rest);
    let quote = if error.is_v4() { 576 - 28 } else { 1280 - 48 };
    error.payload = about.ip_bytes();
    error.payload.truncate(quote);
    if error.is_v4() {
        error = error.id(0).traffic_class(0xc0);
    }
    error
}

impl Packet {
    fn new(src: IpAddr, dst: IpAddr, transport: Transport) -> Self {
        assert_eq!(src.is_ipv4(), dst.is_ipv4(), "{src} and {dst} are of one family");
        Self {
            src,
            dst,
            ttl: 64,
            id: 0x1234,
            traffic_class: 0,
            dont_fragment: true,
            fragment: None,
            options: Vec::new(),
            extensions: Vec::new(),
            transport,
            payload: Vec::new(),
            link: None,
            segment_edits: Vec::new(),
            header_edits: Vec::new(),
            frame_edits: Vec::new(),
            padding: 0,
        }
    }

    fn is_v4(&self) -> bool {
        self.src.is_ipv4()
    }

    /// With this payload.
    pub fn data(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// With this time to live or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// One router later.
    pub fn hop(mut self) -> Self {
        self.ttl -= 1;
        self
    }

    /// With this identification.
    pub fn id(mut self, id: u32) -> Self {
        self.id = id;
        self
    }

    /// With this type of service or traffic class.
    pub fn traffic_class(mut self, class: u8) -> Self {
        self.traffic_class = class;
        self
    }

    /// May be fragmented.
    pub fn may_fragment(mut self) -> Self {
        self.dont_fragment = false;
        self
    }

    /// With this source: `ADDRESS:PORT`, or `ADDRESS` without a change of port.
    pub fn from(mut self, from: &str) -> Self {
        let port = match from.parse::<SocketAddr>() {
            Ok(end) => {
                self.src = end.ip();
                Some(end.port())
            }
            Err(_) => {
                self.src = address(from);
                None
            }
        };
        match (&mut self.transport, port) {
            (Transport::Tcp(tcp), Some(port)) => tcp.source_port = port,
            (Transport::Udp { src_port, .. }, Some(port)) => *src_port = port,
            _ => {}
        }
        self
    }

    /// With this destination: `ADDRESS:PORT`, or `ADDRESS` without a change of port.
    pub fn to(mut self, to: &str) -> Self {
        let port = match to.parse::<SocketAddr>() {
            Ok(end) => {
                self.dst = end.ip();
                Some(end.port())
            }
            Err(_) => {
                self.dst = address(to);
                None
            }
        };
        match (&mut self.transport, port) {
            (Transport::Tcp(tcp), Some(port)) => tcp.destination_port = port,
            (Transport::Udp { dst_port, .. }, Some(port)) => *dst_port = port,
            _ => {}
        }
        self
    }

    /// Between these Ethernet stations.
    pub fn link(mut self, dst: Mac, src: Mac) -> Self {
        self.link = Some((dst, src));
        self
    }

    /// With these IPv4 options, padded to a multiple of four bytes.
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// With another IPv6 extension header: its number, and its content from the third byte on, padded to a multiple of eight with the two.
    pub fn extension(mut self, kind: u8, content: &[u8]) -> Self {
        let mut content = content.to_vec();
        content.resize((content.len() + 2).next_multiple_of(8) - 2, 0);
        self.extensions.push((kind, content));
        self
    }

    /// An atomic fragment (RFC 6946): an IPv6 fragment header on a whole packet.
    pub fn atomic(mut self) -> Self {
        self.fragment = Some((0, false));
        self
    }

    fn tcp_header(mut self, change: impl FnOnce(&mut TcpHeader)) -> Self {
        match &mut self.transport {
            Transport::Tcp(header) => change(header),
            _ => panic!("not TCP"),
        }
        self
    }

    /// A SYN with this sequence number.
    pub fn syn(self, seq: u32) -> Self {
        self.tcp_header(|tcp| (tcp.syn, tcp.sequence_number) = (true, seq))
    }

    /// An acknowledgement with these numbers.
    pub fn ack(self, seq: u32, ack: u32) -> Self {
        self.tcp_header(|tcp| (tcp.ack, tcp.sequence_number, tcp.acknowledgment_number) = (true, seq, ack))
    }

    /// A FIN beside what is set.
    pub fn fin(self) -> Self {
        self.tcp_header(|tcp| tcp.fin = true)
    }

    /// A RST beside what is set, with this sequence number.
    pub fn rst(self, seq: u32) -> Self {
        self.tcp_header(|tcp| (tcp.rst, tcp.sequence_number) = (true, seq))
    }

    /// With this window.
    pub fn window(self, window: u16) -> Self {
        self.tcp_header(|tcp| tcp.window_size = window)
    }

    /// With these TCP options.
    pub fn tcp_options(self, options: &[u8]) -> Self {
        self.tcp_header(|tcp| tcp.set_options_raw(options).expect("at most 40 bytes"))
    }

    /// UDP without a checksum.
    pub fn without_checksum(mut self) -> Self {
        match &mut self.transport {
            Transport::Udp { checksum, .. } => *checksum = false,
            _ => panic!("not UDP"),
        }
        self
    }

    /// Changes the transport's bytes before its checksum is made.
    pub fn segment(mut self, edit: impl Fn(&mut Vec<u8>) + 'static) -> Self {
        self.segment_edits.push(Rc::new(edit));
        self
    }

    /// Changes the IP packet's bytes before the IPv4 header checksum is made.
    pub fn header(mut self, edit: impl Fn(&mut Vec<u8>) + 'static) -> Self {
        self.header_edits.push(Rc::new(edit));
        self
    }

    /// Changes the finished frame.
    pub fn edit(mut self, edit: impl Fn(&mut Vec<u8>) + 'static) -> Self {
        self.frame_edits.push(Rc::new(edit));
        self
    }

    /// With one bit of this byte of the finished frame turned over.
    pub fn flip(self, at: usize) -> Self {
        self.edit(move |frame| frame[at] ^= 1)
    }

    /// With so many bytes of Ethernet padding.
    pub fn padded(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// Where the transport header is in the frame.
    pub fn transport_offset(&self) -> usize {
        ETHERNET_LEN + self.header_len()
    }

    fn header_len(&self) -> usize {
        if self.is_v4() {
            return 20 + self.options.len();
        }
        let fragment = if self.fragment.is_some() { 8 } else { 0 };
        40 + fragment + self.extensions.iter().map(|(_, content)| 2 + content.len()).sum::<usize>()
    }

    /// The packet cut into fragments whose data are so long; what is left makes the last one.
    ///
    /// # Panics
    /// When there is no data for one of them.
    pub fn fragments(&self, lens: &[usize]) -> Vec<Self> {
        let whole = self.segment_bytes();
        let mut start = 0_usize;
        let mut fragments = Vec::new();
        for len in lens.iter().copied().chain([usize::MAX]) {
            let end = whole.len().min(start.saturating_add(len));
            assert!(start < end, "nothing is left at {start} of {}", whole.len());
            fragments.push(self.piece(start, &whole[start..end], end < whole.len()));
            if end == whole.len() {
                break;
            }
            start = end;
        }
        fragments
    }

    /// A fragment of the packet's datagram with any place and data.
    pub fn piece(&self, offset: usize, data: &[u8], more: bool) -> Self {
        let mut piece = Self { transport: Transport::Raw(self.protocol()), ..self.clone() };
        piece.payload = data.to_vec();
        piece.fragment = Some((offset, more));
        piece.dont_fragment = false;
        piece.segment_edits.clear();
        piece
    }

    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp(_) => 6,
            Transport::Udp { .. } => 17,
            Transport::Icmp(_) if self.is_v4() => 1,
            Transport::Icmp(_) => 58,
            Transport::Raw(protocol) => protocol,
        }
    }

    /// The transport header and its payload.
    pub fn segment_bytes(&self) -> Vec<u8> {
        let mut bytes = match &self.transport {
            Transport::Tcp(header) => header.to_bytes().to_vec(),
            Transport::Udp { src_port, dst_port, .. } => {
                let length = u16::try_from(8 + self.payload.len()).unwrap_or(0);
                UdpHeader { source_port: *src_port, destination_port: *dst_port, length, checksum: 0 }
                    .to_bytes()
                    .to_vec()
            }
            Transport::Icmp(header) => header.to_vec(),
            Transport::Raw(_) => Vec::new(),
        };
        bytes.extend(&self.payload);
        self.segment_edits.iter().for_each(|edit| edit(&mut bytes));
        self.sum_segment(&mut bytes);
        bytes
    }

    fn sum_segment(&self, bytes: &mut [u8]) {
        let pseudo = self.pseudo_header(bytes.len());
        let (at, pseudo) = match &self.transport {
            Transport::Tcp(_) => (16, &pseudo[..]),
            Transport::Udp { checksum: true, .. } => (6, &pseudo[..]),
            Transport::Icmp(_) if self.is_v4() => (2, &[][..]),
            Transport::Icmp(_) => (2, &pseudo[..]),
            Transport::Udp { checksum: false, .. } | Transport::Raw(_) => return,
        };
        if bytes.len() < at + 2 {
            return;
        }
        bytes[at..at + 2].fill(0);
        let mut sum = checksum(&[pseudo, &*bytes]);
        if matches!(self.transport, Transport::Udp { .. }) && sum == 0 {
            sum = 0xffff;
        }
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn pseudo_header(&self, len: usize) -> Vec<u8> {
        let mut bytes = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
            (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
            _ => panic!("{} and {} are of one family", self.src, self.dst),
        };
        bytes.extend((len as u32).to_be_bytes());
        bytes.extend([0, 0, 0, self.protocol()]);
        bytes
    }

    /// From the IP header to the packet's end.
    pub fn ip_bytes(&self) -> Vec<u8> {
        let segment = self.segment_bytes();
        let mut bytes = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4_header(src, dst, segment.len()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6_header(src, dst, segment.len()),
            _ => panic!("{} and {} are of one family", self.src, self.dst),
        };
        bytes.extend(segment);
        self.header_edits.iter().for_each(|edit| edit(&mut bytes));
        if self.is_v4() {
            let end = self.header_len().min(bytes.len());
            bytes[10..12].fill(0);
            let sum = checksum(&[&bytes[..end]]);
            bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    fn ipv4_header(&self, src: Ipv4Addr, dst: Ipv4Addr, len: usize) -> Vec<u8> {
        let (offset, more_fragments) = self.fragment.unwrap_or((0, false));
        let total_len = (self.header_len() + len) as u16;
        let mut options = Ipv4Options::new();
        if !self.options.is_empty() {
            options = self.options.as_slice().try_into().expect("at most 40 bytes");
        }
        let header = Ipv4Header {
            total_len,
            identification: self.id as u16,
            dont_fragment: self.dont_fragment,
            more_fragments,
            fragment_offset: IpFragOffset::try_new((offset / 8) as u16).expect("13 bits"),
            time_to_live: self.ttl,
            protocol: IpNumber(self.protocol()),
            header_checksum: 0,
            source: src.octets(),
            destination: dst.octets(),
            options,
            ..Ipv4Header::default()
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes[1] = self.traffic_class;
        bytes
    }

    fn ipv6_header(&self, src: Ipv6Addr, dst: Ipv6Addr, len: usize) -> Vec<u8> {
        let mut chain: Vec<(u8, Vec<u8>)> = Vec::new();
        for (kind, content) in &self.extensions {
            let words = u8::try_from((content.len() + 2) / 8 - 1).expect("a length of 8 bits");
            chain.push((*kind, [&[0, words], content.as_slice()].concat()));
        }
        if let Some((offset, more)) = self.fragment {
            let offset = IpFragOffset::try_new((offset / 8) as u16).expect("13 bits");
            let header = Ipv6FragmentHeader::new(IpNumber(0), offset, more, self.id);
            chain.push((44, header.to_bytes().to_vec()));
        }
        let mut next = self.protocol();
        for (kind, bytes) in chain.iter_mut().rev() {
            bytes[0] = next;
            next = *kind;
        }
        let header = Ipv6Header {
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: (self.header_len() - 40 + len) as u16,
            next_header: IpNumber(next),
            hop_limit: self.ttl,
            source: src.octets(),
            destination: dst.octets(),
            ..Ipv6Header::default()
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes[0] |= self.traffic_class >> 4;
        bytes[1] |= self.traffic_class << 4;
        bytes.extend(chain.into_iter().flat_map(|(_, bytes)| bytes));
        bytes
    }

    /// The whole frame, between these stations.
    pub fn frame(&self, destination: Mac, source: Mac) -> Vec<u8> {
        let ether_type = if self.is_v4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let mut frame = Ethernet2Header { source, destination, ether_type }.to_bytes().to_vec();
        frame.extend(self.ip_bytes());
        frame.resize(frame.len() + self.padding, 0);
        self.frame_edits.iter().for_each(|edit| edit(&mut frame));
        frame
    }
}

/// An ARP packet of the station `sender_mac`, to the station `to`.
pub fn arp(
    operation: ArpOperation,
    to: Mac,
    sender: (Mac, Ipv4Addr),
    target_mac: Mac,
    target: Ipv4Addr,
) -> Vec<u8> {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: sender.0,
        sender_ipv4: sender.1.octets(),
        target_mac,
        target_ipv4: target.octets(),
    };
    let link = Ethernet2Header { source: sender.0, destination: to, ether_type: EtherType::ARP };
    [&link.to_bytes()[..], &packet.to_bytes()].concat()
}

/// An ARP request to everybody.
pub fn arp_request(mac: Mac, sender: &str, target: &str) -> Vec<u8> {
    arp(ArpOperation::REQUEST, [0xff; 6], (mac, v4(sender)), [0; 6], v4(target))
}

/// An ARP reply to one station.
pub fn arp_reply(mac: Mac, sender: &str, to: Mac, target: &str) -> Vec<u8> {
    arp(ArpOperation::REPLY, to, (mac, v4(sender)), to, v4(target))
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no IPv4 address"))
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no IPv6 address"))
}

/// A neighbour solicitation for `target` to its group (RFC 4861, 4.3).
pub fn solicitation(mac: Mac, sender: &str, target: &str) -> Packet {
    let [.., a, b, c] = v6(target).octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let option = [&[1, 1], &mac[..]].concat();
    let data = [&v6(target).octets()[..], &option].concat();
    icmp(sender, &group.to_string(), 135, 0, 0).data(&data).ttl(255).link([0x33, 0x33, 0xff, a, b, c], mac)
}

/// A neighbour advertisement that `mac` has `target`, with these flags: 0x80 router, 0x40 solicited, 0x20 override.
pub fn advertisement(mac: Mac, target: &str, to_mac: Mac, to: &str, flags: u8) -> Packet {
    let option = [&[2, 1], &mac[..]].concat();
    let data = [&v6(target).octets()[..], &option].concat();
    icmp(target, to, 136, 0, u32::from(flags) << 24).data(&data).ttl(255).link(to_mac, mac)
}

/// RFC 1071, over all parts; each but the last has an even length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
    let mut sum: u32 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame for people: what etherparse reads in it, and its bytes.
pub fn describe(frame: &[u8]) -> String {
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    match SlicedPacket::from_ethernet(frame) {
        Ok(packet) => {
            let net = packet.net.map(|net| match net {
                etherparse::NetSlice::Ipv4(ip) => format!("{:?}", ip.header().to_header()),
                etherparse::NetSlice::Ipv6(ip) => format!("{:?}", ip.header().to_header()),
                etherparse::NetSlice::Arp(arp) => format!("{arp:?}"),
            });
            let transport = packet.transport.map(|transport| match transport {
                etherparse::TransportSlice::Tcp(tcp) => format!("{:?}", tcp.to_header()),
                etherparse::TransportSlice::Udp(udp) => format!("{:?}", udp.to_header()),
                etherparse::TransportSlice::Icmpv4(icmp) => format!("{:?}", icmp.header()),
                etherparse::TransportSlice::Icmpv6(icmp) => format!("{:?}", icmp.header()),
                other => format!("{other:?}"),
            });
            format!("{} | {}\n  {hex}", net.unwrap_or_default(), transport.unwrap_or_default())
        }
        Err(error) => format!("not read: {error}\n  {hex}"),
    }
}
