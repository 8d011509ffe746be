//! Reading numbers of either byte order from a stream whose position is known.

use super::{PcapError, PcapErrorKind};
use std::io::{self, Read};

/// The order of a number's bytes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Endian {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(super) fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }
}

/// A part of a block in memory, taken from the front.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
    pub(super) endian: Endian,
}

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(front)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (front, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(self.endian.u16(*front))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (front, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(self.endian.u32(*front))
    }
}

/// A stream and how far it was read.
pub(super) struct Source<R> {
    reader: R,
    offset: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, offset: 0 }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Fills as much of `buffer` as the stream has left; returns how much.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Reads `N` bytes, or nothing where the stream ends before the first of them.
    pub(super) fn array_or_end<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<Option<[u8; N]>, PcapError> {
        let offset = self.offset;
        let mut bytes = [0; N];
        match self.fill(&mut bytes) {
            Ok(0) => Ok(None),
            Ok(count) if count == N => Ok(Some(bytes)),
            Ok(_) => Err(PcapError { offset, kind: PcapErrorKind::Truncated { what } }),
            Err(error) => Err(PcapError { offset, kind: PcapErrorKind::Io(error) }),
        }
    }

    /// Reads `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], PcapError> {
        let offset = self.offset;
        self.array_or_end(what)?.ok_or(PcapError { offset, kind: PcapErrorKind::Truncated { what } })
    }

    /// Reads `len` bytes into a new vector; the caller has bounded `len`. Memory grows with what is there, not with the claim.
    pub(super) fn vec(&mut self, len: u32, what: &'static str) -> Result<Vec<u8>, PcapError> {
        let offset = self.offset;
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(u64::from(len)).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        match read {
            Ok(count) if count == len as usize => Ok(bytes),
            Ok(_) => Err(PcapError { offset, kind: PcapErrorKind::Truncated { what } }),
            Err(error) => Err(PcapError { offset, kind: PcapErrorKind::Io(error) }),
        }
    }

    /// Reads over `len` bytes.
    pub(super) fn skip(&mut self, len: u32, what: &'static str) -> Result<(), PcapError> {
        let offset = self.offset;
        match io::copy(&mut (&mut self.reader).take(u64::from(len)), &mut io::sink()) {
            Ok(count) if count == u64::from(len) => {
                self.offset += count;
                Ok(())
            }
            Ok(_) => Err(PcapError { offset, kind: PcapErrorKind::Truncated { what } }),
            Err(error) => Err(PcapError { offset, kind: PcapErrorKind::Io(error) }),
        }
    }
}
