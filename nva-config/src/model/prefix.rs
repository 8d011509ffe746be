//! IP prefixes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP prefix with its host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The first address.
    address: IpAddr,
    /// 0..=32 or 0..=128.
    len: u8,
}

/// Why something is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// What stands before the `/` is no address.
    Address,
    /// The length is no number, or longer than `max`.
    Length {
        /// 32 or 128.
        max: u8,
    },
    /// Bits behind the length are set; the prefix that the address stands in is `right`.
    HostBits {
        /// The same with the host bits cleared.
        right: Prefix,
    },
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str(
                "is no IP address or prefix; write for example 192.0.2.0/24, 192.0.2.1 or 2001:db8::/32",
            ),
            Self::Length { max } => write!(f, "has no good prefix length; it is a number from 0 to {max}"),
            Self::HostBits { right } => write!(f, "has bits set behind its length; the prefix is {right}"),
        }
    }
}

impl std::error::Error for PrefixError {}

/// Bits of an address of this family.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address as a number, the first bit on the wire being bit 127.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()) << 96,
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The other way around, in the family of `like`.
fn from_bits(bits: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

/// The first `len` of 128 bits set.
fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0)
}

impl Prefix {
    /// Every IPv4 address.
    pub const ANY_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 };
    /// Every IPv6 address.
    pub const ANY_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), len: 0 };

    /// The prefix that starts at `address`.
    ///
    /// # Errors
    /// [`PrefixError::Length`] when `len` is longer than the address, [`PrefixError::HostBits`] when `address` is not the first one.
    pub fn new(address: IpAddr, len: u8) -> Result<Self, PrefixError> {
        let right = Self::containing(address, len)?;
        if right.address == address { Ok(right) } else { Err(PrefixError::HostBits { right }) }
    }

    /// The prefix of length `len` that holds `address`.
    ///
    /// # Errors
    /// [`PrefixError::Length`] when `len` is longer than the address.
    pub fn containing(address: IpAddr, len: u8) -> Result<Self, PrefixError> {
        let max = width(address);
        if len > max {
            return Err(PrefixError::Length { max });
        }
        Ok(Self { address: from_bits(bits(address) & mask(len), address), len })
    }

    /// The prefix of this one address.
    pub const fn host(address: IpAddr) -> Self {
        Self { address, len: width(address) }
    }

    /// Reads `ADDRESS/LENGTH`, or an address alone.
    ///
    /// # Errors
    /// As [`PrefixError`] says.
    pub fn parse(text: &str) -> Result<Self, PrefixError> {
        let (address, len) = parse_address_and_len(text)?;
        Self::new(address, len)
    }

    /// The first address, which names the prefix.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The length in bits: 0..=32 for IPv4, 0..=128 for IPv6.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a prefix is never empty; its length is that of its bits"
    )]
    pub const fn len(&self) -> u8 {
        self.len
    }

    /// The lowest address.
    pub const fn first(&self) -> IpAddr {
        self.address
    }

    /// The highest address: in an IPv4 subnet of up to 30 bits, its broadcast address.
    pub fn last(&self) -> IpAddr {
        from_bits(bits(self.address) | !mask(self.len), self.address)
    }

    /// Whether it is of IPv4.
    pub const fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether `address` is in it. Addresses of the other family never are, IPv4-mapped ones included.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4() && (bits(self.address) ^ bits(address)) & mask(self.len) == 0
    }

    /// Whether some address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (wide, narrow) = if self.len <= other.len { (self, other) } else { (other, self) };
        wide.contains(narrow.address)
    }
}

/// Splits `ADDRESS/LENGTH`; an address alone has the full length. The host bits may be set.
pub(crate) fn parse_address_and_len(text: &str) -> Result<(IpAddr, u8), PrefixError> {
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| PrefixError::Address)?;
    let max = width(address);
    let len = match len {
        None => max,
        // `u8::from_str` would take a sign and leading zeros.
        Some(digits)
            if digits.len() <= 3
                && digits.bytes().all(|b| b.is_ascii_digit())
                && (digits.len() == 1 || !digits.starts_with('0')) =>
        {
            digits.parse().ok().filter(|len| *len <= max).ok_or(PrefixError::Length { max })?
        }
        Some(_) => return Err(PrefixError::Length { max }),
    };
    Ok((address, len))
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        Self::parse(text)
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self::host(address)
    }
}

impl fmt::Display for Prefix {
    /// Always with its length: `10.0.0.0/8`, `192.0.2.1/32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The address as a list of bits, the obvious way.
    fn bit_list(address: IpAddr) -> Vec<bool> {
        let bytes = match address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        bytes.iter().flat_map(|byte| (0..8).map(move |i| byte & (0x80 >> i) != 0)).collect()
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|b| Ipv4Addr::from_bits(b).into()),
            any::<u128>().prop_map(|b| Ipv6Addr::from_bits(b).into())
        ]
    }

    fn address_and_len() -> impl Strategy<Value = (IpAddr, u8)> {
        address().prop_flat_map(|a| (Just(a), 0..=width(a)))
    }

    /// `a` with the bits behind `keep` taken from `noise`: near misses are as likely as hits.
    fn near(a: IpAddr, keep: u8, noise: u128) -> IpAddr {
        from_bits((bits(a) & mask(keep)) | (noise & !mask(keep)), a)
    }

    proptest! {
        #[test]
        fn contains_as_bit_by_bit((a, len) in address_and_len(), keep in 0u8..=128, noise: u128) {
            let prefix = Prefix::containing(a, len).unwrap();
            let b = near(a, keep.min(width(a)), noise);
            let expected = bit_list(a)[..usize::from(len)] == bit_list(b)[..usize::from(len)];
            prop_assert_eq!(prefix.contains(b), expected);
        }

        #[test]
        fn other_family_is_never_in((a, len) in address_and_len(), b in address()) {
            let prefix = Prefix::containing(a, len).unwrap();
            prop_assume!(a.is_ipv4() != b.is_ipv4());
            prop_assert!(!prefix.contains(b));
            prop_assert!(!prefix.overlaps(&Prefix::host(b)));
        }

        #[test]
        fn first_and_last_are_the_ends((a, len) in address_and_len()) {
            let prefix = Prefix::containing(a, len).unwrap();
            let mut first = bit_list(a);
            let mut last = bit_list(a);
            first[usize::from(len)..].fill(false);
            last[usize::from(len)..].fill(true);
            prop_assert_eq!(bit_list(prefix.first()), first);
            prop_assert_eq!(bit_list(prefix.last()), last);
            prop_assert_eq!(prefix.address(), prefix.first());
        }

        #[test]
        fn overlaps_when_an_end_is_shared((a, len) in address_and_len(), keep in 0u8..=128, noise: u128, other_len in 0u8..=128) {
            let p = Prefix::containing(a, len).unwrap();
            let q = Prefix::containing(near(a, keep.min(width(a)), noise), other_len.min(width(a))).unwrap();
            let expected = p.first() <= q.last() && q.first() <= p.last();
            prop_assert_eq!(p.overlaps(&q), expected);
            prop_assert_eq!(q.overlaps(&p), expected);
        }

        #[test]
        fn text_comes_back((a, len) in address_and_len()) {
            let prefix = Prefix::containing(a, len).unwrap();
            prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            prop_assert_eq!(Prefix::parse(&a.to_string()), Ok(Prefix::host(a)));
        }

        #[test]
        fn host_bits_name_the_right_prefix((a, len) in address_and_len()) {
            let right = Prefix::containing(a, len).unwrap();
            match Prefix::new(a, len) {
                Ok(p) => prop_assert!(p == right && a == right.first()),
                Err(e) => {
                    prop_assert_eq!(e, PrefixError::HostBits { right });
                    prop_assert_ne!(a, right.first());
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-f:./+ ]{0,20}") {
            if let Ok(prefix) = Prefix::parse(&text) {
                prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            }
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "/8",
            "10.0.0/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "::/129",
            "::/256",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "010.0.0.0/8",
            "fe80::1%eth0",
        ] {
            assert!(Prefix::parse(text).is_err(), "{text:?}");
        }
        let right = Prefix::parse("10.2.0.0/16").unwrap();
        assert_eq!(Prefix::parse("10.2.3.4/16"), Err(PrefixError::HostBits { right }));
    }
}
