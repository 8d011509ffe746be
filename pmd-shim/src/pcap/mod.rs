//! Capture files: classic pcap and pcapng in, nanosecond pcap out.
//!
//! The reader takes whatever a stranger's file claims and believes none of it: every length is bounded before memory is
//! asked for, every inconsistency is an error with its offset. It never guesses where the next record might begin.
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

mod bytes;
mod classic;
mod error;
mod ng;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{PcapError, PcapErrorKind};
pub use reader::PcapReader;
pub use writer::{PcapWriteError, PcapWriter};

/// Link type of Ethernet frames without preamble and frame check sequence (LINKTYPE_ETHERNET).
pub const LINK_TYPE_ETHERNET: u32 = 1;

/// The longest packet that is read, in bytes: what libpcap allows, and more than any link carries.
pub const PACKET_LEN_MAX: u32 = 262_144;

/// One captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was captured, in nanoseconds since the Unix epoch; 0 for the pcapng blocks that carry no time.
    pub time_ns: u64,
    /// What was captured of it.
    pub data: Vec<u8>,
    /// How many bytes it had on the link; more than `data` when the capture cut it off.
    pub original_len: u32,
    /// What kind of link it was captured on; [`LINK_TYPE_ETHERNET`] is the only one that the data plane knows.
    pub link_type: u32,
}
