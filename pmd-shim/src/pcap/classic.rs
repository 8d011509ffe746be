//! The classic format: one header, then records (draft-ietf-opsawg-pcap).

use super::bytes::{Cursor, Endian, Source};
use super::{PACKET_LEN_MAX, PcapError, PcapErrorKind, Record};
use std::io::Read;

const NS_PER_S: u64 = 1_000_000_000;
/// Upper bits of the link type field: the length of the frame check sequence and reserved bits (section 4).
const LINK_TYPE_MASK: u32 = 0xffff;

/// A classic capture after its header.
pub(super) struct Classic {
    endian: Endian,
    /// Nanoseconds of one unit of the fraction of a second: 1 or 1000.
    unit_ns: u64,
    link_type: u32,
}

impl Classic {
    /// Reads the header behind the magic number.
    pub(super) fn open<R: Read>(
        source: &mut Source<R>,
        endian: Endian,
        unit_ns: u64,
    ) -> Result<Self, PcapError> {
        let header: [u8; 20] = source.array("the file header")?;
        let mut fields = Cursor { rest: &header, endian };
        let truncated =
            || PcapError { offset: 0, kind: PcapErrorKind::Truncated { what: "the file header" } };
        let major = fields.u16().ok_or_else(truncated)?;
        let minor = fields.u16().ok_or_else(truncated)?;
        if (major, minor) != (2, 4) {
            return Err(PcapError { offset: 4, kind: PcapErrorKind::Version { major, minor } });
        }
        // Two reserved fields and the snap length, which many writers get wrong and which each record's own length bounds better.
        fields.take(12).ok_or_else(truncated)?;
        let link_type = fields.u32().ok_or_else(truncated)? & LINK_TYPE_MASK;
        Ok(Self { endian, unit_ns, link_type })
    }

    pub(super) fn link_type(&self) -> u32 {
        self.link_type
    }

    /// Reads the next record; `None` at the end of the file.
    pub(super) fn next<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<Record>, PcapError> {
        let offset = source.offset();
        let error = |kind| PcapError { offset, kind };
        let Some(header): Option<[u8; 16]> = source.array_or_end("a record header")? else {
            return Ok(None);
        };
        let [seconds, fraction, captured, original] = {
            let [a, b, c, d] = split_words(&header);
            [self.endian.u32(a), self.endian.u32(b), self.endian.u32(c), self.endian.u32(d)]
        };
        let fraction_ns = u64::from(fraction) * self.unit_ns;
        if fraction_ns >= NS_PER_S {
            return Err(error(PcapErrorKind::Fraction(fraction)));
        }
        if captured > PACKET_LEN_MAX {
            return Err(error(PcapErrorKind::PacketTooLong(captured)));
        }
        if captured > original {
            return Err(error(PcapErrorKind::LongerThanOriginal { captured, original }));
        }
        let data = source.vec(captured, "a packet")?;
        let time_ns = u64::from(seconds) * NS_PER_S + fraction_ns;
        Ok(Some(Record { time_ns, data, original_len: original, link_type: self.link_type }))
    }
}

/// Four words of a record header.
fn split_words(bytes: &[u8; 16]) -> [[u8; 4]; 4] {
    let word = |at: usize| core::array::from_fn(|byte| bytes[at * 4 + byte]);
    [word(0), word(1), word(2), word(3)]
}
