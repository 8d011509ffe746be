//! What can be wrong with a capture file, and where.

use core::fmt;
use std::io;

/// A capture file cannot be read on.
#[derive(Debug)]
pub struct PcapError {
    /// Where the header, block or record starts that is wrong, in bytes from the start of the file.
    pub offset: u64,
    /// What is wrong with it.
    pub kind: PcapErrorKind,
}

/// What is wrong with a capture file.
#[derive(Debug)]
pub enum PcapErrorKind {
    /// Reading failed.
    Io(io::Error),
    /// The file ends in the middle of something.
    Truncated {
        /// What the file ends in.
        what: &'static str,
    },
    /// The first four bytes are of no known format.
    UnknownFormat(u32),
    /// A version that does not exist yet or any more.
    Version {
        /// The part before the point.
        major: u16,
        /// The part after it.
        minor: u16,
    },
    /// A packet claims more than [`PACKET_LEN_MAX`](super::PACKET_LEN_MAX) bytes.
    PacketTooLong(u32),
    /// A packet claims to have been captured longer than it was on the link.
    LongerThanOriginal {
        /// Bytes captured.
        captured: u32,
        /// Bytes on the link.
        original: u32,
    },
    /// The fraction of a second is a second or more.
    Fraction(u32),
    /// A time that does not fit in 64 bits of nanoseconds since 1970.
    TimeOutOfRange,
    /// A pcapng block has a length that no block of its type can have.
    BlockLength {
        /// The block's type.
        block_type: u32,
        /// The length that it claims.
        len: u32,
    },
    /// The two lengths around a pcapng block differ.
    BlockTrailer {
        /// The length in front.
        front: u32,
        /// The length behind.
        behind: u32,
    },
    /// A pcapng section starts with an unknown byte-order magic.
    ByteOrder(u32),
    /// A packet refers to an interface that the section has not described.
    UnknownInterface(u32),
    /// A section describes more interfaces than the reader keeps.
    TooManyInterfaces,
    /// An option of a pcapng block does not fit in the block, or has a length that it cannot have.
    Option(u16),
}

impl fmt::Display for PcapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.kind)
    }
}

impl fmt::Display for PcapErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "reading failed: {error}"),
            Self::Truncated { what } => write!(f, "the file ends in the middle of {what}"),
            Self::UnknownFormat(magic) => {
                write!(f, "neither pcap nor pcapng: the file starts with {:#010x}", magic)
            }
            Self::Version { major, minor } => write!(f, "unknown format version {major}.{minor}"),
            Self::PacketTooLong(len) => {
                write!(f, "a packet of {len} bytes; at most {} are read", super::PACKET_LEN_MAX)
            }
            Self::LongerThanOriginal { captured, original } => {
                write!(f, "{captured} bytes captured of a packet that had only {original}")
            }
            Self::Fraction(value) => {
                write!(f, "a fraction of a second of {value}, which is a second or more")
            }
            Self::TimeOutOfRange => f.write_str("a time that is out of range"),
            Self::BlockLength { block_type, len } => {
                write!(f, "a block of type {block_type:#x} cannot have {len} bytes")
            }
            Self::BlockTrailer { front, behind } => {
                write!(f, "a block has {front} bytes by its front and {behind} by its end")
            }
            Self::ByteOrder(magic) => write!(f, "unknown byte-order magic {magic:#010x}"),
            Self::UnknownInterface(id) => write!(f, "a packet of interface {id}, which is not described"),
            Self::TooManyInterfaces => {
                write!(f, "more than {} interfaces in one section", super::ng::INTERFACES_MAX)
            }
            Self::Option(code) => write!(f, "option {code} has a wrong length"),
        }
    }
}

impl core::error::Error for PcapError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.kind {
            PcapErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}
