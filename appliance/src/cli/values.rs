//! What options take: protocols, endpoints, ports with their files, seeds and durations, read and written.

use nva_dataplane::addr::Mac;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// An IP protocol as the command line names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `icmp`: ICMP between IPv4 addresses, ICMPv6 between IPv6 addresses.
    Icmp,
    /// Another one, by its IANA number.
    Number(u8),
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use nva_dataplane::wire::protocol::{AH, ESP, TCP, UDP};
        match *self {
            Self::Icmp => f.write_str("icmp"),
            Self::Number(TCP) => f.write_str("tcp"),
            Self::Number(UDP) => f.write_str("udp"),
            Self::Number(ESP) => f.write_str("esp"),
            Self::Number(AH) => f.write_str("ah"),
            Self::Number(number) => write!(f, "protocol {number}"),
        }
    }
}

/// An address, and a port where one was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The address.
    pub(crate) address: IpAddr,
    /// The port.
    pub(crate) port: Option<u16>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// `PORT=PCAP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortCapture {
    /// Name of the port.
    pub(crate) port: String,
    /// The capture file.
    pub(crate) path: PathBuf,
}

/// `PORT=MAC`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortMac {
    /// Name of the port.
    pub(crate) port: String,
    /// Its Ethernet address, unicast.
    pub(crate) mac: Mac,
}

/// What fixes every secret and random choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) [u8; 16]);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

pub(super) fn parse_protocol(text: &str) -> Result<Protocol, String> {
    use nva_dataplane::wire::protocol::{AH, ESP, TCP, UDP};
    match text {
        "tcp" => Ok(Protocol::Number(TCP)),
        "udp" => Ok(Protocol::Number(UDP)),
        "icmp" => Ok(Protocol::Icmp),
        "esp" => Ok(Protocol::Number(ESP)),
        "ah" => Ok(Protocol::Number(AH)),
        _ => text
            .parse()
            .map(Protocol::Number)
            .map_err(|_| "expected tcp, udp, icmp, esp, ah, or a number from 0 to 255".into()),
    }
}

pub(super) fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Endpoint { address, port: None });
    }
    let socket: SocketAddr = text.parse().map_err(
        |_| "expected ADDRESS:PORT, an IPv6 address in brackets as [2001:db8::1]:443, or an address alone",
    )?;
    Ok(Endpoint { address: socket.ip(), port: Some(socket.port()) })
}

fn split_port<'a>(text: &'a str, what: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once('=')
        .filter(|(port, value)| !port.is_empty() && !value.is_empty())
        .ok_or_else(|| format!("expected PORT={what}, PORT being a name from the configuration's ports"))
}

pub(super) fn parse_port_capture(text: &str) -> Result<PortCapture, String> {
    let (port, path) = split_port(text, "PCAP")?;
    Ok(PortCapture { port: port.into(), path: path.into() })
}

pub(super) fn parse_port_mac(text: &str) -> Result<PortMac, String> {
    let (port, address) = split_port(text, "MAC")?;
    let wrong = || "expected a unicast Ethernet address such as 02:00:00:00:00:01".to_string();
    let mut octets = [0; 6];
    let mut parts = address.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
        *octet = hex_byte(part).ok_or_else(wrong)?;
    }
    let mac = Mac(octets);
    if parts.next().is_some() || mac.is_group() || octets == [0; 6] {
        return Err(wrong());
    }
    Ok(PortMac { port: port.into(), mac })
}

pub(super) fn parse_seed(text: &str) -> Result<Seed, String> {
    let wrong = || "expected 32 hex digits".to_string();
    if text.len() != 32 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut seed = [0; 16];
    for (place, byte) in seed.iter_mut().enumerate() {
        let digits = text.get(2 * place..2 * place + 2).ok_or_else(wrong)?;
        *byte = hex_byte(digits).ok_or_else(wrong)?;
    }
    Ok(Seed(seed))
}

/// Two hex digits; unlike [`u8::from_str_radix`] it takes no sign.
fn hex_byte(digits: &str) -> Option<u8> {
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// A duration in the form of the configuration: a whole number and its unit.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a whole number with its unit ms, s, m or h, such as 500ms or 5s".to_string();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}
