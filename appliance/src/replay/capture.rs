//! Input captures: what replay must know of one before it starts, and its frames one by one. A capture is read twice and never
//! held in memory.

use super::order::Frames;
use super::station::Election;
use crate::output::Failure;
use pmd_shim::pcap::{LINK_TYPE_ETHERNET, PcapReader, Record};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 256 * 1024;

/// A frame from a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Captured {
    /// Nanoseconds on the captures' clock.
    pub(super) time: u64,
    /// From the Ethernet header on.
    pub(super) bytes: Vec<u8>,
    /// The capture does not have all of it.
    pub(super) truncated: bool,
}

/// A capture that is being read.
pub(super) struct Capture {
    reader: PcapReader<BufReader<File>>,
    path: PathBuf,
}

impl Capture {
    /// # Errors
    /// A [`Failure`] that names the file: of exit code 1 when it cannot be read or is no capture.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |what: &dyn std::fmt::Display| Failure::failed(format!("{}: {what}", path.display()));
        let file = File::open(path).map_err(|error| failed(&error))?;
        if !file.metadata().map_err(|error| failed(&error))?.is_file() {
            return Err(failed(
                &"is no regular file; replay reads each capture twice, so write it to a file first",
            ));
        }
        let reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let reader = PcapReader::new(reader).map_err(|error| failed(&error))?;
        let capture = Self { reader, path: path.to_path_buf() };
        match capture.reader.link_type() {
            Some(link_type) => capture.must_be_ethernet(link_type).map(|()| capture),
            None => Ok(capture),
        }
    }

    fn must_be_ethernet(&self, link_type: u32) -> Result<(), Failure> {
        if link_type == LINK_TYPE_ETHERNET {
            return Ok(());
        }
        let name = match link_type {
            0 => " (BSD loopback)",
            101 => " (raw IP)",
            105 | 127 => " (IEEE 802.11)",
            113 | 276 => " (Linux cooked, as of `-i any`)",
            _ => "",
        };
        Err(Failure::usage(format!(
            "{}: its link type is {link_type}{name}; only Ethernet ({LINK_TYPE_ETHERNET}) can be replayed",
            self.path.display()
        )))
    }
}

impl Frames for Capture {
    fn next(&mut self) -> Result<Option<Captured>, Failure> {
        let Some(record) = self.reader.next() else { return Ok(None) };
        let Record { time_ns, data, original_len, link_type } =
            record.map_err(|error| Failure::failed(format!("{}: {error}", self.path.display())))?;
        self.must_be_ethernet(link_type)?;
        let truncated = (original_len as usize) > data.len();
        Ok(Some(Captured { time: time_ns, bytes: data, truncated }))
    }
}

/// What the first reading of a capture tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survey {
    /// How many frames it has.
    pub(super) frames: u64,
    /// The time of its earliest frame.
    pub(super) earliest: Option<u64>,
    /// The length of its longest frame.
    pub(super) longest: usize,
    /// The most by which a frame is earlier than one before it, in nanoseconds.
    pub(super) disorder_ns: u64,
}

impl Survey {
    /// Reads all frames and lets them vote for the address of their port.
    ///
    /// # Errors
    /// Those of the frames.
    pub(super) fn of(frames: &mut impl Frames, election: &mut Election) -> Result<Self, Failure> {
        let mut survey = Self::default();
        let mut latest = 0;
        while let Some(frame) = frames.next()? {
            election.vote(&frame.bytes);
            latest = frame.time.max(latest);
            survey.frames += 1;
            survey.earliest = Some(survey.earliest.map_or(frame.time, |earliest| earliest.min(frame.time)));
            survey.longest = survey.longest.max(frame.bytes.len());
            survey.disorder_ns = survey.disorder_ns.max(latest - frame.time);
        }
        Ok(survey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Listed(std::vec::IntoIter<(u64, usize)>);

    impl Frames for Listed {
        fn next(&mut self) -> Result<Option<Captured>, Failure> {
            let next = self.0.next();
            Ok(next.map(|(time, len)| Captured { time, bytes: vec![2; len], truncated: false }))
        }
    }

    #[test]
    fn a_survey_tells_what_replay_needs_before_it_starts() {
        let mut election = Election::default();
        let frames = vec![(100, 60), (300, 1500), (90, 9), (250, 60)];
        let survey = Survey::of(&mut Listed(frames.into_iter()), &mut election);
        let wanted = Survey { frames: 4, earliest: Some(90), longest: 1500, disorder_ns: 210 };
        assert_eq!(survey, Ok(wanted));
        assert_eq!(election.winner().map(|mac| mac.0), Some([2; 6]));
        assert_eq!(Survey::of(&mut Listed(vec![].into_iter()), &mut election), Ok(Survey::default()));
    }
}
