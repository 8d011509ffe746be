//! Capture files, written and read byte by byte.

/// A frame with its time in nanoseconds since 1970.
pub type Timed = (u64, Vec<u8>);

/// Link type of Ethernet.
pub const ETHERNET: u32 = 1;

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const MAGIC_SECTION: u32 = 0x0a0d_0d0a;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// A classic capture of Ethernet frames, little-endian, with nanoseconds.
///
/// # Panics
/// When a time is after the year 2106.
pub fn write(frames: &[Timed]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [MAGIC_NANOSECONDS, 4 << 16 | 2, 0, 0, u32::from(u16::MAX), ETHERNET] {
        file.extend(word.to_le_bytes());
    }
    for (time, frame) in frames {
        let seconds = u32::try_from(time / 1_000_000_000).expect("a time before 2106");
        let len = u32::try_from(frame.len()).expect("a frame that fits a capture");
        for word in [seconds, (time % 1_000_000_000) as u32, len, len] {
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

/// The frames of any capture of Ethernet frames, as far as it has them; `None` for other link types and formats.
pub fn read_any(file: &[u8]) -> Option<Vec<Timed>> {
    if file.first_chunk().is_some_and(|magic| u32::from_le_bytes(*magic) == MAGIC_SECTION) {
        return Some(blocks(file));
    }
    let capture = Classic::new(file)?;
    (capture.link_type() == ETHERNET).then(|| capture.frames())
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

/// The frames of the enhanced and simple packet blocks of a little-endian pcapng file, a microsecond apart.
fn blocks(file: &[u8]) -> Vec<Timed> {
    const SIMPLE: u32 = 3;
    const ENHANCED: u32 = 6;
    let word = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let mut frames: Vec<Timed> = Vec::new();
    let mut at = 0;
    while let (Some(kind), Some(len)) = (word(at), word(at + 4)) {
        let body = match kind {
            ENHANCED => word(at + 20).map(|captured| (at + 28, captured as usize)),
            SIMPLE => word(at + 8).map(|original| (at + 12, original as usize)),
            _ => None,
        };
        if let Some(frame) = body.and_then(|(start, len)| file.get(start..start + len)) {
            frames.push((frames.len() as u64 * 1000, frame.to_vec()));
        }
        if len < 12 {
            break;
        }
        at += len as usize;
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let frames = vec![(1_700_000_000_000_000_001, vec![1, 2, 3]), (5, vec![])];
        let file = write(&frames);
        assert_eq!(read(&file), frames);
        assert_eq!(read_any(&file), Some(frames.clone()));
        assert_eq!(read_any(&file[..file.len() - 1]).map(|frames| frames.len()), Some(1));
    }

    #[test]
    fn other_files_are_none() {
        assert_eq!(read_any(b"text that is long enough for a header"), None);
        let mut raw_ip = write(&[]);
        raw_ip[20] = 101;
        assert_eq!(read_any(&raw_ip), None);
    }
}
