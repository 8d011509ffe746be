//! The TCP options that a handshake is about. Others are walked over, and never come out again.

/// Kinds of options (IANA, TCP Option Kind Numbers).
pub mod kind {
    /// End of the list (RFC 9293, 3.2).
    pub const END: u8 = 0;
    /// No operation (RFC 9293, 3.2).
    pub const NOP: u8 = 1;
    /// Maximum segment size (RFC 9293, 3.7.1).
    pub const MSS: u8 = 2;
    /// Window scale (RFC 7323, 2).
    pub const WINDOW_SCALE: u8 = 3;
    /// SACK permitted (RFC 2018, 2).
    pub const SACK_PERMITTED: u8 = 4;
    /// Selective acknowledgement (RFC 2018, 3).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323, 3).
    pub const TIMESTAMPS: u8 = 8;
    /// MD5 signature (RFC 2385).
    pub const MD5: u8 = 19;
    /// Authentication (RFC 5925).
    pub const AUTHENTICATION: u8 = 29;
}

/// The largest shift; a larger one counts as this (RFC 7323, 2.3).
pub const SCALE_MAX: u8 = 14;

/// What the options of a SYN, or of an acknowledgement, say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// The largest segment that the sender takes.
    pub mss: Option<u16>,
    /// The shift of the sender's windows, at most 14.
    pub window_scale: Option<u8>,
    /// It understands selective acknowledgements.
    pub sack_permitted: bool,
    /// The value and the echo of its timestamps.
    pub timestamps: Option<(u32, u32)>,
    /// It signs its segments: nobody else can speak for it.
    pub is_signed: bool,
}

impl SynOptions {
    /// There are none.
    pub const NONE: Self =
        Self { mss: None, window_scale: None, sack_permitted: false, timestamps: None, is_signed: false };

    /// Reads the options of a header. Of an option that occurs twice, the last one counts; one of a wrong length counts as absent; what
    /// follows a length that leads nowhere is not read.
    #[inline]
    pub fn read(options: &[u8]) -> Self {
        let mut found = Self::default();
        for option in walk(options) {
            match *option {
                [kind::MSS, _, a, b] => found.mss = Some(u16::from_be_bytes([a, b])),
                [kind::WINDOW_SCALE, _, shift] => found.window_scale = Some(shift.min(SCALE_MAX)),
                [kind::SACK_PERMITTED, _] => found.sack_permitted = true,
                [kind::TIMESTAMPS, _, a, b, c, d, e, f, g, h] => {
                    let (value, echo) = ([a, b, c, d], [e, f, g, h]);
                    found.timestamps = Some((u32::from_be_bytes(value), u32::from_be_bytes(echo)));
                }
                [kind::MD5 | kind::AUTHENTICATION, ..] => found.is_signed = true,
                _ => {}
            }
        }
        found
    }
}

/// The options of a header one by one, kind and length included, without padding.
pub fn walk(options: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = options;
    core::iter::from_fn(move || {
        loop {
            match *rest {
                [kind::NOP, ref behind @ ..] => rest = behind,
                [_, len, ..] if rest[0] != kind::END && len >= 2 => {
                    let (option, behind) = rest.split_at_checked(len.into())?;
                    rest = behind;
                    return Some(option);
                }
                _ => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_a_client_offers() {
        let syn = [
            2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 9, 34, 2, 253, 4, 1, 2, 30, 4, 0,
            0,
        ];
        let expected = SynOptions {
            mss: Some(1460),
            window_scale: Some(9),
            sack_permitted: true,
            timestamps: Some((7, 0)),
            is_signed: false,
        };
        assert_eq!(SynOptions::read(&syn), expected);
        assert!(SynOptions::read(&[19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_signed);
        assert!(SynOptions::read(&[1, 1, 29, 4, 0, 0]).is_signed);
        assert_eq!(SynOptions::read(&[3, 3, 255]).window_scale, Some(14));
    }

    #[test]
    fn what_leads_nowhere_says_nothing() {
        for options in [&[][..], &[0, 2, 4, 5, 6], &[2], &[2, 0, 1, 1], &[2, 1], &[8, 40, 1, 2], &[2, 3, 1]] {
            assert_eq!(SynOptions::read(options), SynOptions::default(), "{options:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_their_end(options in prop::collection::vec(any::<u8>(), 0..60)) {
            let len: usize = walk(&options).map(<[u8]>::len).sum();
            prop_assert!(len <= options.len());
            SynOptions::read(&options);
        }
    }
}
