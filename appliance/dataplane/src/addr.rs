//! Addresses as the path compares and hashes them: sixteen bytes for both families.

use core::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address of either family, as sixteen bytes in network order. An IPv4 address stands in its mapped form
/// `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2); a mapped address inside an IPv6 header is refused by the parser, so the two never mix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Addr([u8; 16]);

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4 (RFC 791).
    V4,
    /// IPv6 (RFC 8200).
    V6,
}

impl Addr {
    /// `::`, the address of nobody.
    pub const UNSPECIFIED: Self = Self([0; 16]);
    /// The cloud's platform: name service, DHCP, agents; the source of health probes.
    pub const PLATFORM: Self = Self::v4([168, 63, 129, 16]);
    /// The cloud's metadata service.
    pub const METADATA: Self = Self::v4([169, 254, 169, 254]);

    /// An IPv4 address from its four bytes.
    #[inline]
    pub const fn v4(o: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, o[0], o[1], o[2], o[3]])
    }

    /// An IPv6 address from its sixteen bytes.
    #[inline]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// The family.
    #[inline]
    pub fn family(self) -> Family {
        if self.as_v4().is_some() { Family::V4 } else { Family::V6 }
    }

    /// The four bytes of an IPv4 address.
    #[inline]
    pub fn as_v4(self) -> Option<[u8; 4]> {
        let [h0, h1, h2, h3, h4, h5, h6, h7, m0, m1, m2, m3, octets @ ..] = self.0;
        let (high, middle) =
            (u64::from_ne_bytes([h0, h1, h2, h3, h4, h5, h6, h7]), u32::from_ne_bytes([m0, m1, m2, m3]));
        (high == 0 && middle == u32::from_be(0xffff)).then_some(octets)
    }

    /// All sixteen bytes, IPv4 in mapped form.
    #[inline]
    pub const fn octets(&self) -> &[u8; 16] {
        &self.0
    }

    /// The address as a number, most significant byte first: prefixes and ranges are compared on it.
    #[inline]
    pub const fn bits(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The address with these [`bits`](Self::bits).
    #[inline]
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits.to_be_bytes())
    }

    /// IPv6 link-local, `fe80::/10` (RFC 4291, 2.5.6).
    pub const fn is_v6_link_local(&self) -> bool {
        self.0[0] == 0xfe && self.0[1] & 0xc0 == 0x80
    }
}

impl From<IpAddr> for Addr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => Self::v4(a.octets()),
            IpAddr::V6(a) => Self::v6(a.octets()),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(address: Addr) -> Self {
        match address.as_v4() {
            Some(o) => Self::V4(Ipv4Addr::from(o)),
            None => Self::V6(Ipv6Addr::from(address.0)),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ethernet address (IEEE 802).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Every station.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The group bit is set: multicast or broadcast.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// An Ethernet address in the lower six bytes of a word, the first one lowest: two of them make a frame's first twelve bytes by shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacWord(u64);

impl MacWord {
    /// The source of the frame that begins with these bytes.
    #[inline(always)]
    pub fn of_source<const N: usize>(frame: &[u8; N]) -> Self {
        let mut octets = [0; 8];
        octets[..6].copy_from_slice(&frame[6..12]);
        Self(u64::from_le_bytes(octets))
    }

    /// The word.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// A frame's first twelve bytes.
    #[inline(always)]
    pub const fn link(destination: Self, source: Self) -> ([u8; 8], [u8; 4]) {
        ((destination.0 | source.0 << 48).to_le_bytes(), ((source.0 >> 16) as u32).to_le_bytes())
    }
}

impl From<Mac> for MacWord {
    #[inline]
    fn from(Mac([a, b, c, d, e, f]): Mac) -> Self {
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

impl From<MacWord> for Mac {
    #[inline]
    fn from(MacWord(word): MacWord) -> Self {
        let [a, b, c, d, e, f, ..] = word.to_le_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
