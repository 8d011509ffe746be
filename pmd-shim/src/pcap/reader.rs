//! Tells the formats apart and gives their records one shape.

use super::bytes::{Endian, Source};
use super::classic::Classic;
use super::ng::Ng;
use super::{PcapError, PcapErrorKind, Record};
use core::fmt;
use std::io::Read;

enum Format {
    Classic(Classic),
    Ng(Ng),
}

/// The packets of a capture file, in the file's order.
///
/// An iterator that ends at the end of the file or after the first error. Give it a buffered reader.
pub struct PcapReader<R> {
    source: Source<R>,
    format: Format,
    failed: bool,
}

impl<R: Read> PcapReader<R> {
    /// Reads the file's header. Either format and either byte order, microseconds or nanoseconds.
    ///
    /// # Errors
    /// [`PcapError`] when the file is neither pcap nor pcapng, or its header is wrong.
    pub fn new(reader: R) -> Result<Self, PcapError> {
        let mut source = Source::new(reader);
        let magic = source.array("the file's first four bytes")?;
        let format = match u32::from_be_bytes(magic) {
            0xa1b2_c3d4 => Format::Classic(Classic::open(&mut source, Endian::Big, 1_000)?),
            0xa1b2_3c4d => Format::Classic(Classic::open(&mut source, Endian::Big, 1)?),
            0xd4c3_b2a1 => Format::Classic(Classic::open(&mut source, Endian::Little, 1_000)?),
            0x4d3c_b2a1 => Format::Classic(Classic::open(&mut source, Endian::Little, 1)?),
            super::ng::SECTION_HEADER => Format::Ng(Ng::open(&mut source)?),
            other => return Err(PcapError { offset: 0, kind: PcapErrorKind::UnknownFormat(other) }),
        };
        Ok(Self { source, format, failed: false })
    }

    /// The link type of all packets of a classic pcap; `None` for pcapng, where each record has its own.
    pub fn link_type(&self) -> Option<u32> {
        match &self.format {
            Format::Classic(classic) => Some(classic.link_type()),
            Format::Ng(_) => None,
        }
    }
}

impl<R: Read> Iterator for PcapReader<R> {
    type Item = Result<Record, PcapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = match &mut self.format {
            Format::Classic(classic) => classic.next(&mut self.source),
            Format::Ng(ng) => ng.next(&mut self.source),
        };
        self.failed = record.is_err();
        record.transpose()
    }
}

impl<R> fmt::Debug for PcapReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcapReader").field("failed", &self.failed).finish_non_exhaustive()
    }
}
