//! The next-generation format: blocks in sections (draft-ietf-opsawg-pcapng).

use super::bytes::{Cursor, Endian, Source};
use super::{PACKET_LEN_MAX, PcapError, PcapErrorKind, Record};
use std::io::Read;

/// Block type of a section header; the same in both byte orders.
pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
/// The obsolete packet block (appendix A).
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const OPTION_END: u16 = 0;
const OPTION_TIME_RESOLUTION: u16 = 9;
const OPTION_TIME_OFFSET: u16 = 14;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Type, length in front and length behind.
const BLOCK_OVERHEAD: u32 = 12;
/// A block that is read into memory: the longest packet, and room for its options.
const BLOCK_LEN_MAX: u32 = PACKET_LEN_MAX + 65_536;
/// Interfaces kept of one section.
pub(super) const INTERFACES_MAX: usize = 65_536;
const NS_PER_S: u128 = 1_000_000_000;

/// What is known of an interface of the section.
#[derive(Clone, Copy)]
struct Interface {
    link_type: u32,
    /// Longest capture of a packet; 0 is no limit.
    snap_len: u32,
    /// Time units of a second.
    units_per_s: u128,
    /// Seconds to be added to every time.
    offset_s: i64,
}

impl Interface {
    /// A time in the interface's unit, as nanoseconds since 1970.
    fn time_ns(&self, high: u32, low: u32) -> Option<u64> {
        let units = u128::from(high) << 32 | u128::from(low);
        // `units` has 64 bits, so the product has 94.
        let since_offset = i128::try_from(units * NS_PER_S / self.units_per_s).ok()?;
        u64::try_from(since_offset + i128::from(self.offset_s) * NS_PER_S as i128).ok()
    }
}

/// A pcapng file after its first block header.
pub(super) struct Ng {
    endian: Endian,
    interfaces: Vec<Interface>,
}

impl Ng {
    /// Reads the first section header behind its block type.
    pub(super) fn open<R: Read>(source: &mut Source<R>) -> Result<Self, PcapError> {
        let mut file = Self { endian: Endian::Little, interfaces: Vec::new() };
        file.section(source, 0)?;
        Ok(file)
    }

    /// Reads the next packet, and every other block before it; `None` at the end of the file.
    pub(super) fn next<R: Read>(&mut self, source: &mut Source<R>) -> Result<Option<Record>, PcapError> {
        loop {
            let offset = source.offset();
            let Some(block_type) = source.array_or_end("a block header")? else { return Ok(None) };
            let block_type = self.endian.u32(block_type);
            if block_type == SECTION_HEADER {
                self.section(source, offset)?;
                continue;
            }
            let record = self.block(source, offset, block_type)?;
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// Reads a section header behind its block type: from here on there are other interfaces and perhaps another byte order.
    fn section<R: Read>(&mut self, source: &mut Source<R>, offset: u64) -> Result<(), PcapError> {
        let error = |kind| PcapError { offset, kind };
        let what = "a section header";
        let len: [u8; 4] = source.array(what)?;
        let magic: [u8; 4] = source.array(what)?;
        self.endian = match u32::from_be_bytes(magic) {
            BYTE_ORDER_MAGIC => Endian::Big,
            other if other.swap_bytes() == BYTE_ORDER_MAGIC => Endian::Little,
            other => return Err(error(PcapErrorKind::ByteOrder(other))),
        };
        self.interfaces.clear();
        let len = self.endian.u32(len);
        let wrong_len = || error(PcapErrorKind::BlockLength { block_type: SECTION_HEADER, len });
        if !len.is_multiple_of(4) || len > BLOCK_LEN_MAX {
            return Err(wrong_len());
        }
        // Behind the magic: two version numbers, the section's length (which may be unknown and is not needed), options.
        let options = len.checked_sub(BLOCK_OVERHEAD + 16).ok_or_else(wrong_len)?;
        let major = self.endian.u16(source.array(what)?);
        let minor = self.endian.u16(source.array(what)?);
        if major != 1 || (minor != 0 && minor != 2) {
            return Err(error(PcapErrorKind::Version { major, minor }));
        }
        source.skip(8 + options, what)?;
        self.trailer(source, offset, len)
    }

    /// Reads a block behind its type; a record if it is a packet.
    fn block<R: Read>(
        &mut self,
        source: &mut Source<R>,
        offset: u64,
        block_type: u32,
    ) -> Result<Option<Record>, PcapError> {
        let error = |kind| PcapError { offset, kind };
        let len = self.endian.u32(source.array("a block header")?);
        let wrong_len = || error(PcapErrorKind::BlockLength { block_type, len });
        let body_len =
            len.checked_sub(BLOCK_OVERHEAD).filter(|len| len.is_multiple_of(4)).ok_or_else(wrong_len)?;
        if !matches!(block_type, INTERFACE_DESCRIPTION | PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
            source.skip(body_len, "a block")?;
            self.trailer(source, offset, len)?;
            return Ok(None);
        }
        if len > BLOCK_LEN_MAX {
            return Err(wrong_len());
        }
        let body = source.vec(body_len, "a block")?;
        self.trailer(source, offset, len)?;
        let body = Cursor { rest: &body, endian: self.endian };
        let outcome = match block_type {
            INTERFACE_DESCRIPTION => self.interface(body).map(|()| None),
            SIMPLE_PACKET => self.simple_packet(body).map(Some),
            PACKET => self.packet(body, true).map(Some),
            _ => self.packet(body, false).map(Some),
        };
        outcome.map_err(|wrong| match wrong {
            Wrong::Length => wrong_len(),
            Wrong::Kind(kind) => error(kind),
        })
    }

    /// Reads the length behind a block, which repeats the one in front.
    fn trailer<R: Read>(&self, source: &mut Source<R>, offset: u64, front: u32) -> Result<(), PcapError> {
        let behind = self.endian.u32(source.array("a block")?);
        if behind != front {
            return Err(PcapError { offset, kind: PcapErrorKind::BlockTrailer { front, behind } });
        }
        Ok(())
    }

    /// Section 4.2.
    fn interface(&mut self, mut body: Cursor<'_>) -> Result<(), Wrong> {
        let link_type = body.u16().ok_or(Wrong::Length)?;
        body.u16().ok_or(Wrong::Length)?;
        let snap_len = body.u32().ok_or(Wrong::Length)?;
        let mut interface =
            Interface { link_type: u32::from(link_type), snap_len, units_per_s: 1_000_000, offset_s: 0 };
        while !body.rest.is_empty() {
            let code = body.u16().ok_or(Wrong::Length)?;
            let len = usize::from(body.u16().ok_or(Wrong::Length)?);
            if code == OPTION_END {
                break;
            }
            let wrong = Wrong::Kind(PcapErrorKind::Option(code));
            let Some(value) = body.take(len.next_multiple_of(4)).and_then(|padded| padded.get(..len)) else {
                return Err(wrong);
            };
            match (code, value) {
                (OPTION_TIME_RESOLUTION, [resolution]) => {
                    interface.units_per_s = units_per_s(*resolution).ok_or(wrong)?;
                }
                (OPTION_TIME_OFFSET, value) => {
                    let value: [u8; 8] = value.try_into().map_err(|_| wrong)?;
                    interface.offset_s = body.endian.u64(value).cast_signed();
                }
                (OPTION_TIME_RESOLUTION, _) => return Err(wrong),
                _ => {}
            }
        }
        if self.interfaces.len() == INTERFACES_MAX {
            return Err(Wrong::Kind(PcapErrorKind::TooManyInterfaces));
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// Section 4.3 and, with its narrower interface number, appendix A.
    fn packet(&self, mut body: Cursor<'_>, obsolete: bool) -> Result<Record, Wrong> {
        let id = if obsolete {
            let id = body.u16().ok_or(Wrong::Length)?;
            // A count of drops.
            body.u16().ok_or(Wrong::Length)?;
            u32::from(id)
        } else {
            body.u32().ok_or(Wrong::Length)?
        };
        let high = body.u32().ok_or(Wrong::Length)?;
        let low = body.u32().ok_or(Wrong::Length)?;
        let captured = body.u32().ok_or(Wrong::Length)?;
        let original = body.u32().ok_or(Wrong::Length)?;
        let interface = self.find(id)?;
        let time_ns = interface.time_ns(high, low).ok_or(Wrong::Kind(PcapErrorKind::TimeOutOfRange))?;
        record(body, captured, original, time_ns, interface)
    }

    /// Section 4.4: no time, no captured length, always the first interface.
    fn simple_packet(&self, mut body: Cursor<'_>) -> Result<Record, Wrong> {
        let original = body.u32().ok_or(Wrong::Length)?;
        let interface = self.find(0)?;
        let snap_len = if interface.snap_len == 0 { u32::MAX } else { interface.snap_len };
        record(body, original.min(snap_len), original, 0, interface)
    }

    fn find(&self, id: u32) -> Result<&Interface, Wrong> {
        self.interfaces.get(id as usize).ok_or(Wrong::Kind(PcapErrorKind::UnknownInterface(id)))
    }
}

/// What is wrong with a block's content.
enum Wrong {
    /// The block is too short for what it must hold.
    Length,
    Kind(PcapErrorKind),
}

/// The record whose bytes come next in `body`.
fn record(
    mut body: Cursor<'_>,
    captured: u32,
    original_len: u32,
    time_ns: u64,
    interface: &Interface,
) -> Result<Record, Wrong> {
    if captured > PACKET_LEN_MAX {
        return Err(Wrong::Kind(PcapErrorKind::PacketTooLong(captured)));
    }
    if captured > original_len {
        return Err(Wrong::Kind(PcapErrorKind::LongerThanOriginal { captured, original: original_len }));
    }
    let data = body.take(captured as usize).ok_or(Wrong::Length)?.to_vec();
    Ok(Record { time_ns, data, original_len, link_type: interface.link_type })
}

/// Meaning of `if_tsresol`: the top bit chooses powers of 2 instead of 10 (section 4.2). `None` where the unit is below 2^-63 s
/// or 10^-19 s, of which 64 bits hold no useful time.
fn units_per_s(resolution: u8) -> Option<u128> {
    let exponent = u32::from(resolution & 0x7f);
    if resolution & 0x80 != 0 {
        (exponent < 64).then(|| 1 << exponent)
    } else {
        (exponent < 20).then(|| 10u128.pow(exponent))
    }
}
