//! Packets in a Geneve tunnel, as a gateway load balancer writes them and as the appliance gives them back.

use crate::packet::{Packet, udp};

/// The tunnel, from one end's view.
#[derive(Clone, Copy, Debug)]
pub struct Geneve {
    /// The appliance's address.
    pub own: &'static str,
    /// The load balancer's.
    pub peer: &'static str,
    /// The network.
    pub vni: u32,
}

/// What the load balancer knows a packet again by.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// The UDP source port.
    pub port: u16,
    /// The options, as they stand in the header.
    pub options: Vec<u8>,
    /// Flags, of which only the one that tells of critical options comes back.
    pub flags: u8,
}

/// An option: class, type, data.
pub fn option(class: u16, kind: u8, data: &[u8]) -> Vec<u8> {
    [&class.to_be_bytes()[..], &[kind, (data.len() / 4) as u8], data].concat()
}

impl Envelope {
    /// The load balancer's three options, those of flow number `cookie`.
    pub fn of(cookie: u32) -> Self {
        let options = [
            option(0x108, 1, &0x0102_0304_0506_0708_u64.to_be_bytes()),
            option(0x108, 2, &0xa1a2_a3a4_a5a6_a7a8_u64.to_be_bytes()),
            option(0x108, 3, &cookie.to_be_bytes()),
        ];
        Self { port: 50_000 + cookie as u16, options: options.concat(), flags: 0 }
    }

    /// With these options instead.
    pub fn options(self, options: &[Vec<u8>]) -> Self {
        Self { options: options.concat(), ..self }
    }
}

impl Geneve {
    /// From the peer, as it arrives.
    pub fn arrives(&self, envelope: &Envelope, packet: &Packet) -> Packet {
        self.around(self.peer, self.own, envelope, packet)
    }

    /// To the peer: addresses exchanged, ports and options kept.
    pub fn leaves(&self, envelope: &Envelope, packet: &Packet) -> Packet {
        let port = envelope.port;
        let back = self.around(self.own, self.peer, envelope, packet).id(0);
        if self.own.contains(':') {
            // The flow label is the source port.
            back.header(move |ip| ip[2..4].copy_from_slice(&port.to_be_bytes()))
        } else {
            back
        }
    }

    fn around(&self, from: &str, to: &str, envelope: &Envelope, packet: &Packet) -> Packet {
        let data = self.payload(envelope, packet);
        let datagram =
            udp(&end(from, envelope.port), &end(to, 6081)).data(&data).traffic_class(service(packet));
        if self.own.contains(':') { datagram } else { datagram.without_checksum() }
    }

    /// Header, options, and the packet.
    pub fn payload(&self, envelope: &Envelope, packet: &Packet) -> Vec<u8> {
        let inner = packet.ip_bytes();
        let kind: [u8; 2] = if inner[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        let vni = (self.vni << 8).to_be_bytes();
        let words = (envelope.options.len() / 4) as u8;
        [&[words, envelope.flags], &kind[..], &vni, &envelope.options, &inner].concat()
    }
}

fn end(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The service field.
fn service(packet: &Packet) -> u8 {
    let inner = packet.ip_bytes();
    let first = u16::from_be_bytes([inner[0], inner[1]]);
    if inner[0] >> 4 == 4 { first as u8 } else { (first >> 4) as u8 }
}
