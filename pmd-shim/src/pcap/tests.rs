use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;

/// A directory of the test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pmd-shim-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(bytes: &[u8]) -> Result<Vec<Record>, PcapError> {
    PcapReader::new(bytes)?.collect()
}

/// Builds a file word by word in one byte order.
#[derive(Clone)]
struct Build {
    big: bool,
    bytes: Vec<u8>,
}

impl Build {
    fn new(big: bool) -> Self {
        Self { big, bytes: Vec::new() }
    }
    fn u16(mut self, value: u16) -> Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }
    fn u32(mut self, value: u32) -> Self {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
        self
    }
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }
    fn classic(big: bool, magic: u32, link_type: u32) -> Self {
        Self::new(big).u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65535).u32(link_type)
    }
    /// A pcapng block around `body`, which is padded.
    fn block(self, block_type: u32, body: Build) -> Self {
        let mut body = body.bytes;
        body.resize(body.len().next_multiple_of(4), 0);
        let len = body.len() as u32 + 12;
        self.u32(block_type).u32(len).raw(&body).u32(len)
    }
    fn section(self, big: bool) -> Self {
        let next = Self { big, ..self };
        let body = Self::new(big).u32(0x1a2b3c4d).u16(1).u16(0).u32(u32::MAX).u32(u32::MAX);
        next.block(0x0a0d0d0a, body)
    }
    fn interface(self, link_type: u16, snap_len: u32, options: Build) -> Self {
        let body = Self::new(self.big).u16(link_type).u16(0).u32(snap_len).raw(&options.bytes);
        self.block(1, body)
    }
    fn enhanced(self, interface: u32, time: u64, data: &[u8], original: u32) -> Self {
        let body = Self::new(self.big)
            .u32(interface)
            .u32((time >> 32) as u32)
            .u32(time as u32)
            .u32(data.len() as u32)
            .u32(original)
            .raw(data);
        self.block(6, body)
    }
}

#[test]
fn reads_classic_files_of_both_orders_and_units() {
    for big in [false, true] {
        for (magic, unit_ns) in [(0xa1b2c3d4, 1000), (0xa1b23c4d, 1)] {
            let file = Build::classic(big, magic, 113).u32(7).u32(999_999).u32(3).u32(90).raw(b"abc");
            let want = Record {
                time_ns: 7_000_000_000 + 999_999 * unit_ns,
                data: b"abc".to_vec(),
                original_len: 90,
                link_type: 113,
            };
            assert_eq!(PcapReader::new(&file.bytes[..]).unwrap().link_type(), Some(113));
            assert_eq!(read(&file.bytes).unwrap(), [want]);
        }
    }
}

#[test]
fn says_what_is_wrong_with_a_classic_file_and_where() {
    let file = || Build::classic(false, 0xa1b2c3d4, 1);
    let cases = [
        (
            Build::new(false).raw(b"GIF89a"),
            "at byte 0: neither pcap nor pcapng: the file starts with 0x47494638",
        ),
        (
            Build::new(false).raw(&[1]),
            "at byte 0: the file ends in the middle of the file's first four bytes",
        ),
        (
            Build::new(false).u32(0xa1b2c3d4).u16(2),
            "at byte 4: the file ends in the middle of the file header",
        ),
        (
            Build::new(false).u32(0xa1b2c3d4).u16(2).u16(5).raw(&[0; 16]),
            "at byte 4: unknown format version 2.5",
        ),
        (file().u32(1), "at byte 24: the file ends in the middle of a record header"),
        (
            file().u32(1).u32(0).u32(4).u32(4).raw(b"abc"),
            "at byte 40: the file ends in the middle of a packet",
        ),
        (
            file().u32(1).u32(1_000_000).u32(0).u32(0),
            "at byte 24: a fraction of a second of 1000000, which is a second or more",
        ),
        (
            file().u32(1).u32(0).u32(262_145).u32(262_145),
            "at byte 24: a packet of 262145 bytes; at most 262144 are read",
        ),
        (
            file().u32(1).u32(0).u32(4).u32(3).raw(b"abcd"),
            "at byte 24: 4 bytes captured of a packet that had only 3",
        ),
    ];
    for (file, want) in cases {
        assert_eq!(read(&file.bytes).unwrap_err().to_string(), want);
    }
}

#[test]
fn reads_pcapng_with_sections_interfaces_and_time_units() {
    for big in [false, true] {
        let none = || Build::new(big);
        let nanoseconds = none().u16(9).u16(1).raw(&[9, 0, 0, 0]).u16(0).u16(0);
        let binary = none().u16(2).u16(3).raw(b"if1\0").u16(9).u16(1).raw(&[0x8a, 0, 0, 0]);
        let offset = if big { 5u64.to_be_bytes() } else { 5u64.to_le_bytes() };
        let shifted = none().u16(14).u16(8).raw(&offset);
        let file = none()
            .section(big)
            .interface(1, 0, none())
            .interface(105, 0, nanoseconds)
            .enhanced(0, 1_500_000, b"micro", 5)
            .block(5, none().u32(1).u32(2))
            .enhanced(1, 1_500_000, b"nano", 100)
            .section(!big)
            .interface(1, 2, Build::new(!big))
            .enhanced(0, 3, b"x", 1)
            .block(3, Build::new(!big).u32(9).raw(b"ab"))
            .section(big)
            .interface(1, 0, binary)
            .interface(1, 0, shifted)
            .enhanced(0, 1536, b"", 0)
            .enhanced(1, 1, b"y", 1)
            .block(2, none().u16(1).u16(0).u32(0).u32(2).u32(1).u32(1).raw(b"z"));
        let got: Vec<(u64, Vec<u8>, u32, u32)> = read(&file.bytes)
            .unwrap()
            .into_iter()
            .map(|record| (record.time_ns, record.data, record.original_len, record.link_type))
            .collect();
        let want = [
            (1_500_000_000, b"micro".to_vec(), 5, 1),
            (1_500_000, b"nano".to_vec(), 100, 105),
            (3_000, b"x".to_vec(), 1, 1),
            (0, b"ab".to_vec(), 9, 1),
            (1_500_000_000, vec![], 0, 1),
            (5_000_001_000, b"y".to_vec(), 1, 1),
            (5_000_002_000, b"z".to_vec(), 1, 1),
        ];
        assert_eq!(got, want, "big endian: {big}");
    }
}

#[test]
fn says_what_is_wrong_with_a_pcapng_file_and_where() {
    let none = || Build::new(false);
    let file = || none().section(false).interface(1, 0, none());
    let bad_offset = none().u16(14).u16(8).raw(&(-1i64).to_le_bytes());
    let cases = [
        (none().u32(0x0a0d0d0a).u32(28).u32(7), "at byte 0: unknown byte-order magic 0x07000000"),
        (
            none().u32(0x0a0d0d0a).u32(24).u32(0x1a2b3c4d),
            "at byte 0: a block of type 0xa0d0d0a cannot have 24 bytes",
        ),
        (file().enhanced(1, 0, b"", 0), "at byte 48: a packet of interface 1, which is not described"),
        (file().u32(6).u32(11), "at byte 48: a block of type 0x6 cannot have 11 bytes"),
        (file().u32(6).u32(0x7fff_fffc), "at byte 48: a block of type 0x6 cannot have 2147483644 bytes"),
        (
            file().u32(99).u32(16).u32(0).u32(20),
            "at byte 48: a block has 16 bytes by its front and 20 by its end",
        ),
        (file().u32(99).u32(0x7fff_fffc), "at byte 56: the file ends in the middle of a block"),
        (
            file().block(6, none().u32(0).u32(0).u32(0).u32(5).u32(5)),
            "at byte 48: a block of type 0x6 cannot have 32 bytes",
        ),
        (file().interface(1, 0, none().u16(9).u16(2).u32(0)), "at byte 48: option 9 has a wrong length"),
        (file().interface(1, 0, none().u16(7).u16(9).u32(0)), "at byte 48: option 7 has a wrong length"),
        (file().interface(1, 0, none().u16(9).u16(1).u32(0xff)), "at byte 48: option 9 has a wrong length"),
        (
            file().interface(1, 0, bad_offset).enhanced(1, 5, b"", 0),
            "at byte 80: a time that is out of range",
        ),
        (file().enhanced(0, 0, b"ab", 1), "at byte 48: 2 bytes captured of a packet that had only 1"),
    ];
    for (file, want) in cases {
        assert_eq!(read(&file.bytes).unwrap_err().to_string(), want);
    }
}

#[test]
fn an_unfinished_file_leaves_nothing_behind() {
    let scratch = Scratch::new("unfinished");
    let path = scratch.0.join("out.pcap");
    fs::write(&path, b"the old one").unwrap();
    let mut writer = PcapWriter::create(&path).unwrap();
    writer.write(1, &[0; 100]).unwrap();
    drop(writer);
    assert_eq!(scratch.names(), ["out.pcap"]);
    assert_eq!(fs::read(&path).unwrap(), b"the old one");
}

#[test]
fn an_unwritable_place_is_an_error_that_names_the_file() {
    let scratch = Scratch::new("unwritable");
    let path = scratch.0.join("missing").join("out.pcap");
    let error = PcapWriter::create(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: creating a temporary file failed", path.display())), "{error}");
    let writer = PcapWriter::create(&scratch.0.join("directory")).unwrap();
    fs::create_dir(scratch.0.join("directory")).unwrap();
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.contains("renaming the finished file failed"), "{error}");
    assert_eq!(scratch.names(), ["directory"]);
}

#[test]
fn a_time_that_the_format_cannot_hold_is_an_error() {
    let mut writer = PcapWriter::create(&Scratch::new("late").0.join("x.pcap")).unwrap();
    let error = writer.write(u64::MAX, b"").unwrap_err().to_string();
    assert!(error.ends_with("the time is after the year 2106"), "{error}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        packets in prop::collection::vec((0..u64::from(u32::MAX) * 1_000_000_000, prop::collection::vec(any::<u8>(), 0..300)), 0..20),
        case in any::<u64>(),
    ) {
        let scratch = Scratch::new(&format!("roundtrip-{case}"));
        let path = scratch.0.join("out.pcap");
        let mut writer = PcapWriter::create(&path).unwrap();
        for (time_ns, data) in &packets {
            writer.write(*time_ns, data).unwrap();
        }
        writer.finish().unwrap();
        prop_assert_eq!(scratch.names(), ["out.pcap"]);
        let read = read(&fs::read(&path).unwrap()).unwrap();
        prop_assert!(read.iter().all(|record| record.link_type == LINK_TYPE_ETHERNET && record.original_len as usize == record.data.len()));
        let read: Vec<_> = read.into_iter().map(|record| (record.time_ns, record.data)).collect();
        prop_assert_eq!(read, packets);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_change_of_a_good_file_makes_the_reader_panic_or_keep_much(
        big in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let none = || Build::new(big);
        let ng = none().section(big).interface(1, 64, none().u16(9).u16(1).raw(&[6, 0, 0, 0]))
            .enhanced(0, 77, b"hello", 5).block(3, none().u32(4).raw(b"abcd")).section(!big).interface(1, 0, Build::new(!big));
        let classic = Build::classic(big, 0xa1b2c3d4, 1).u32(7).u32(9).u32(3).u32(90).raw(b"abc");
        for mut bytes in [ng.bytes, classic.bytes] {
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes.truncate(cut.index(bytes.len() * 3).max(1));
            let total: usize = PcapReader::new(&bytes[..]).into_iter().flatten().flatten().map(|record| record.data.len()).sum();
            prop_assert!(total <= bytes.len());
        }
    }
}
