//! Capture files, written and read byte by byte.

/// A frame with its time in nanoseconds since 1970.
pub type Timed = (u64, Vec<u8>);

/// Link type of Ethernet.
pub const ETHERNET: u32 = 1;

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// A classic capture of Ethernet frames, little-endian, with nanoseconds.
///
/// # Panics
/// When a time is after the year 2106.
pub fn write(frames: &[Timed]) -> Vec<u8> {
    write_cut(frames, 0)
}

/// The same of frames of whose ends so many bytes were not captured.
///
/// # Panics
/// When a time is after the year 2106.
pub fn write_cut(frames: &[Timed], missing: u32) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [MAGIC_NANOSECONDS, 4 << 16 | 2, 0, 0, u32::from(u16::MAX), ETHERNET] {
        file.extend(word.to_le_bytes());
    }
    for (time, frame) in frames {
        let seconds = u32::try_from(time / 1_000_000_000).expect("a time before 2106");
        let len = u32::try_from(frame.len()).expect("a frame that fits a capture");
        for word in [seconds, (time % 1_000_000_000) as u32, len, len + missing] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// The frames of a capture as [`write`] makes it, and as replay does.
///
/// # Panics
/// When it is another one, or is cut off.
pub fn read(file: &[u8]) -> Vec<Timed> {
    let capture = Classic::new(file).expect("a classic capture");
    assert_eq!((capture.magic, capture.link_type()), (MAGIC_NANOSECONDS, ETHERNET), "nanosecond Ethernet");
    let frames: Vec<Timed> = capture.frames();
    let bytes: usize = frames.iter().map(|(_, frame)| RECORD_HEADER + frame.len()).sum();
    assert_eq!(FILE_HEADER + bytes, file.len(), "the capture is cut off");
    frames
}

/// What is in a file that should be a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Ethernet frames, all that the file has whole.
    Ethernet {
        /// The frames.
        frames: Vec<Timed>,
        /// The file does not end within a frame.
        whole: bool,
    },
    /// Frames of another link type.
    OtherLinkType,
    /// No classic capture.
    Unknown,
}

/// Reads any classic capture.
pub fn read_any(file: &[u8]) -> Content {
    let Some(capture) = Classic::new(file) else { return Content::Unknown };
    if capture.link_type() != ETHERNET {
        return Content::OtherLinkType;
    }
    let frames = capture.frames();
    let read: usize = frames.iter().map(|(_, frame)| RECORD_HEADER + frame.len()).sum();
    Content::Ethernet { whole: FILE_HEADER + read == file.len(), frames }
}

/// A classic capture of either byte order.
struct Classic<'a> {
    file: &'a [u8],
    magic: u32,
    big_endian: bool,
}

impl<'a> Classic<'a> {
    fn new(file: &'a [u8]) -> Option<Self> {
        let magic = *file.first_chunk()?;
        let known = |magic| matches!(magic, MAGIC_NANOSECONDS | MAGIC_MICROSECONDS);
        let (little, big) = (u32::from_le_bytes(magic), u32::from_be_bytes(magic));
        let magic = if known(little) { little } else { big };
        let capture = Self { file, magic, big_endian: !known(little) };
        (known(magic) && file.len() >= FILE_HEADER).then_some(capture)
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = *self.file.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn link_type(&self) -> u32 {
        self.word(20).map_or(0, |word| word & 0x0fff_ffff)
    }

    fn frames(&self) -> Vec<Timed> {
        let fraction = if self.magic == MAGIC_NANOSECONDS { 1 } else { 1000 };
        let mut frames = Vec::new();
        let mut at = FILE_HEADER;
        while let (Some(seconds), Some(rest), Some(len)) =
            (self.word(at), self.word(at + 4), self.word(at + 8))
        {
            let start = at + RECORD_HEADER;
            let Some(frame) = self.file.get(start..start + len as usize) else { break };
            frames.push((u64::from(seconds) * 1_000_000_000 + u64::from(rest) * fraction, frame.to_vec()));
            at = start + len as usize;
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let frames = vec![(1_700_000_000_000_000_001, vec![1, 2, 3]), (5, vec![])];
        let file = write(&frames);
        assert_eq!(read(&file), frames);
        assert_eq!(read_any(&file), Content::Ethernet { frames: frames.clone(), whole: true });
        let cut = Content::Ethernet { frames: frames[..1].to_vec(), whole: false };
        assert_eq!(read_any(&file[..file.len() - 1]), cut);
    }

    #[test]
    fn other_files_have_no_frames() {
        assert_eq!(read_any(b"text that is long enough for a header"), Content::Unknown);
        let mut raw_ip = write(&[]);
        raw_ip[20] = 101;
        assert_eq!(read_any(&raw_ip), Content::OtherLinkType);
    }
}
