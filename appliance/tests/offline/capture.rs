//! Captures and frames, built byte by byte: independent of the code under test.

/// Where frames for a port are addressed to.
pub(crate) const STATION: [u8; 6] = [0x02, 0, 0, 0, 0x0a, 0x01];
const PEER: [u8; 6] = [0x02, 0, 0, 0, 0x71, 0xfe];

/// A little-endian classic capture with nanoseconds: frames with their times.
pub(crate) fn pcap(link_type: u32, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_3c4d, 4 << 16 | 2, 0, 0, 65_535, link_type] {
        file.extend(word.to_le_bytes());
    }
    for (time_ns, frame) in frames {
        let len = u32::try_from(frame.len()).expect("a short frame");
        let seconds = u32::try_from(time_ns / 1_000_000_000).expect("a time before 2106");
        let nanoseconds = u32::try_from(time_ns % 1_000_000_000).expect("less than a second");
        for word in [seconds, nanoseconds, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// The frames of such a capture.
pub(crate) fn frames(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 1), "nanosecond pcap of Ethernet frames");
    let mut frames = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let len = word(at + 8) as usize;
        let time_ns = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4));
        frames.push((time_ns, file[at + 16..at + 16 + len].to_vec()));
        at += 16 + len;
    }
    frames
}

/// An ARP request for `target`, to everybody.
pub(crate) fn arp_request(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head: [u8; 10] = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
    [&[0xff; 6][..], &PEER, &head, &PEER, &sender, &[0; 6], &target].concat()
}

/// An ARP reply to [`STATION`]: `sender` is at an address of its own.
pub(crate) fn arp_reply(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let backend = [0x02, 0, 0, 0, 0x02, 0x04];
    let head: [u8; 10] = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 2];
    [&STATION[..], &backend, &head, &backend, &sender, &STATION, &target].concat()
}

/// A UDP packet to [`STATION`] with an eight-byte payload.
pub(crate) fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    datagram(from, to, b"nva test")
}

/// A frame in VXLAN to [`STATION`].
pub(crate) fn vxlan(from: [u8; 4], to: ([u8; 4], u16), vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    datagram((from, 50_000), to, &[&[8, 0, 0, 0, a, b, c, 0], inner].concat())
}

fn datagram(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let ((src, src_port), (dst, dst_port)) = (from, to);
    let len = u16::try_from(8 + payload.len()).expect("short");
    let mut datagram = [src_port, dst_port, len, 0].map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    let pseudo = [&src[..], &dst, &[0, 17], &len.to_be_bytes(), &datagram].concat();
    datagram[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let total = (20 + len).to_be_bytes();
    let mut header = [&[0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 17, 0, 0][..], &src, &dst].concat();
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&STATION[..], &PEER, &[0x08, 0x00], &header, &datagram].concat()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}
