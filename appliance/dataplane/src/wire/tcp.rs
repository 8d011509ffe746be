//! TCP (RFC 9293) and its window scale option (RFC 7323).
//!
//! ```text
//!  0                   1                   2                   3
//! +-------------------------------+-------------------------------+
//! |          source port          |       destination port        |
//! +-------------------------------+-------------------------------+
//! |                        sequence number                        |
//! +---------------------------------------------------------------+
//! |                     acknowledgement number                    |
//! +-------+-------+---------------+-------------------------------+
//! |offset |       |C E U A P R S F|            window             |
//! +-------+-------+---------------+-------------------------------+
//! |           checksum            |        urgent pointer         |
//! +-------------------------------+-------------------------------+
//! ```

use super::segment::{Carried, Segment};
use crate::verdict::DropReason;

/// Length of a header without options in bytes.
pub const HEADER_LEN: usize = 20;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_WINDOW_SCALE: u8 = 3;
/// Padding, then a timestamp: how nearly all segments of a connection start their options (RFC 7323, appendix
/// A).
pub(crate) const TIMESTAMP_AND_PADDING: [u8; 4] = [OPTION_NOP, OPTION_NOP, 8, 10];
/// Length of both with the timestamp itself, in bytes.
pub(crate) const TIMESTAMP_AND_PADDING_LEN: usize = 12;
/// The largest shift; a larger one counts as this (RFC 7323, 2.3).
const MAX_WINDOW_SCALE: u8 = 14;

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

    /// No segment of any state has these: none at all, or a SYN that also ends the connection. Scanners send
    /// them.
    #[inline]
    pub(super) const fn impossible(self) -> bool {
        let known = self.0 & (Self::FIN | Self::SYN | Self::RST | Self::PSH | Self::ACK | Self::URG);
        known == 0 || (self.any(Self::SYN) && self.any(Self::FIN | Self::RST))
    }
}

/// Reads the header and walks its options. Whether the flags fit the connection is for its tracker to say.
#[inline(always)]
pub(super) fn parse(segment: Segment<'_>) -> Result<(Tcp, Carried), DropReason> {
    let header = segment.header::<HEADER_LEN>()?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < HEADER_LEN {
        return Err(DropReason::Malformed);
    }
    let options = segment.bytes.get(HEADER_LEN..header_len).ok_or_else(|| segment.short())?;
    segment.verify_with_pseudo_header(segment.bytes)?;

    let src_port = u16::from_be_bytes([header[0], header[1]]);
    let dst_port = u16::from_be_bytes([header[2], header[3]]);
    let flags = TcpFlags(header[13]);
    if src_port == 0 || dst_port == 0 || flags.impossible() {
        return Err(DropReason::Malformed);
    }
    let only_timestamp =
        options.len() == TIMESTAMP_AND_PADDING_LEN && options.starts_with(&TIMESTAMP_AND_PADDING);
    let window_scale = if options.is_empty() || only_timestamp { None } else { read_options(options)? };
    let tcp = Tcp {
        seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ack: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        flags,
        window: u16::from_be_bytes([header[14], header[15]]),
        window_scale: window_scale.filter(|_| flags.any(TcpFlags::SYN)),
    };
    Ok((tcp, Carried { src_port, dst_port, header_len, payload_end: segment.bytes.len() }))
}

/// Whether each of a header's options has a length that leads to the next or to the end.
pub fn are_well_formed(options: &[u8]) -> bool {
    read_options(options).is_ok()
}

/// Walks the options, refusing lengths that lead nowhere; gives the window scale. What follows the end of the
/// list is padding.
fn read_options(mut options: &[u8]) -> Result<Option<u8>, DropReason> {
    let mut window_scale = None;
    loop {
        match *options {
            [] | [OPTION_END, ..] => return Ok(window_scale),
            [OPTION_NOP, ref rest @ ..] => options = rest,
            [kind, len, ..] if len >= 2 => {
                let (option, rest) =
                    options.split_at_checked(usize::from(len)).ok_or(DropReason::Malformed)?;
                match (kind, option) {
                    (OPTION_WINDOW_SCALE, &[_, _, shift]) => window_scale = Some(shift.min(MAX_WINDOW_SCALE)),
                    (OPTION_WINDOW_SCALE, _) => return Err(DropReason::Malformed),
                    _ => {}
                }
                options = rest;
            }
            _ => return Err(DropReason::Malformed),
        }
    }
}
