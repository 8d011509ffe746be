//! Writing nanosecond pcap files that exist whole or not at all.

use super::{LINK_TYPE_ETHERNET, PACKET_LEN_MAX};
use core::fmt;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const NS_PER_S: u64 = 1_000_000_000;

/// A capture file could not be written.
#[derive(Debug)]
pub struct PcapWriteError {
    /// The file's final name.
    pub path: PathBuf,
    /// What was tried.
    pub doing: &'static str,
    /// What went wrong.
    pub error: io::Error,
}

impl fmt::Display for PcapWriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} failed: {}", self.path.display(), self.doing, self.error)
    }
}

impl core::error::Error for PcapWriteError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Writes Ethernet frames to a classic pcap file with nanoseconds, little-endian.
///
/// The file appears under its name only with [`finish`](Self::finish), whole and on disk; a writer that is dropped without it
/// leaves nothing behind.
#[derive(Debug)]
pub struct PcapWriter {
    path: PathBuf,
    /// Where it is written until it is whole; `None` once renamed.
    temporary: Option<PathBuf>,
    file: BufWriter<File>,
}

impl PcapWriter {
    /// Starts a file that will be called `path`, in place of one that has the name now.
    ///
    /// # Errors
    /// [`PcapWriteError`] when its directory does not exist or cannot be written to.
    pub fn create(path: &Path) -> Result<Self, PcapWriteError> {
        let fail = |doing, error| PcapWriteError { path: path.to_owned(), doing, error };
        let name = path
            .file_name()
            .ok_or_else(|| fail("taking the file name", io::Error::from(io::ErrorKind::InvalidInput)))?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(|error| fail("creating a temporary file", error))?;
        let mut writer =
            Self { path: path.to_owned(), temporary: Some(temporary), file: BufWriter::new(file) };
        writer.file.write_all(&file_header()).map_err(|error| fail("writing", error))?;
        Ok(writer)
    }

    /// Appends a frame with the time at which it was seen, in nanoseconds since the Unix epoch. What is behind
    /// [`PACKET_LEN_MAX`] bytes is cut off.
    ///
    /// # Errors
    /// [`PcapWriteError`], a time after the year 2106 included: the format has 32 bits of seconds.
    pub fn write(&mut self, time_ns: u64, frame: &[u8]) -> Result<(), PcapWriteError> {
        self.append(time_ns, frame).map_err(|error| self.fail("writing", error))
    }

    fn append(&mut self, time_ns: u64, frame: &[u8]) -> io::Result<()> {
        let seconds = u32::try_from(time_ns / NS_PER_S)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the time is after the year 2106"))?;
        let nanoseconds = (time_ns % NS_PER_S) as u32;
        let original = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let captured = original.min(PACKET_LEN_MAX);
        for word in [seconds, nanoseconds, captured, original] {
            self.file.write_all(&word.to_le_bytes())?;
        }
        self.file.write_all(frame.get(..captured as usize).unwrap_or(frame))
    }

    /// Brings everything written so far to disk, still without the final name: whoever writes several files learns of a full disk
    /// before the first of them appears.
    ///
    /// # Errors
    /// [`PcapWriteError`] when the disk does not take it.
    pub fn sync(&mut self) -> Result<(), PcapWriteError> {
        self.file.flush().map_err(|error| self.fail("writing", error))?;
        self.file.get_ref().sync_all().map_err(|error| self.fail("bringing the file to disk", error))
    }

    /// Brings everything to disk and gives the file its name.
    ///
    /// # Errors
    /// [`PcapWriteError`]; then nothing new is under the name.
    pub fn finish(mut self) -> Result<(), PcapWriteError> {
        self.sync()?;
        if let Some(temporary) = self.temporary.take()
            && let Err(error) = fs::rename(&temporary, &self.path)
        {
            self.temporary = Some(temporary);
            return Err(self.fail("renaming the finished file", error));
        }
        // The name is in the directory, which has to reach the disk too.
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))
            .and_then(|directory| directory.sync_all())
            .map_err(|error| self.fail("bringing the directory to disk", error))
    }

    fn fail(&self, doing: &'static str, error: io::Error) -> PcapWriteError {
        PcapWriteError { path: self.path.clone(), doing, error }
    }
}

impl Drop for PcapWriter {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Nobody is left to tell; at worst a hidden file stays.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// The file header: magic of nanoseconds, version 2.4, two reserved words, snap length, link type.
fn file_header() -> [u8; 24] {
    let words = [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, PACKET_LEN_MAX, LINK_TYPE_ETHERNET];
    let mut header = [0; 24];
    for (to, word) in header.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    header
}
