//! What goes down a road: UDP packets of many flows, stamped, all to one host behind the contender.

use crate::traffic::{FLOWS_A_CLIENT, ROUTER, Random, STATION, client};
use etherparse::{PacketBuilder, SlicedPacket};
use pmd_shim::af_packet::{self, AfPacketOptions};
use pmd_shim::{Burst, Frame, Pool, PoolOptions, RxQueue, TxQueue};
use std::time::{Duration, Instant};

/// Length of a frame, without the frame check sequence: the smallest.
pub(crate) const FRAME_LEN: usize = 60;
/// The stamp's place: at the beginning of the payload.
pub(crate) const STAMP_AT: usize = 42;
/// The host behind the contender, and its port.
pub(crate) const HOST: [u8; 4] = [10, 2, 0, 4];
pub(crate) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 2, 4];
pub(crate) const SERVICE: u16 = 9000;
/// Different clients.
pub(crate) const FLOWS: usize = 1024;
const UDP_CHECKSUM: std::ops::Range<usize> = 40..42;
const TTL: u8 = 64;
/// How long to wait for the frames of a sample.
const SAMPLE_WITHIN: Duration = Duration::from_secs(15);

/// Frames that are sent at a time where nobody is in a hurry.
const SOME: usize = 32;

/// Packets of a capture, and how many flows they are of.
pub(crate) const CAPTURE: usize = 4000;
pub(crate) const CAPTURE_FLOWS: usize = 1000;

/// The packets of a capture, each as often as the others, in random order.
pub(crate) fn capture() -> impl Iterator<Item = Vec<u8>> {
    let mut flows: Vec<usize> = (0..CAPTURE).map(|number| number % CAPTURE_FLOWS).collect();
    Random(3).shuffle(&mut flows);
    flows.into_iter().map(whole_packet)
}

/// A packet of a flow, of which there are a million, without a UDP checksum.
pub(crate) fn whole_packet(flow: usize) -> Vec<u8> {
    // A thousand flows a client: a million of them come from the prefixes that are nobody's.
    let (address, port) = client((flow / 1000) * FLOWS_A_CLIENT + flow % 1000);
    let mut frame = packet_from(address, port);
    frame.resize(FRAME_LEN, 0);
    frame
}

/// One packet of each flow, in random order.
pub(crate) fn packets() -> Vec<Vec<u8>> {
    let mut flows: Vec<usize> = (0..FLOWS).collect();
    Random(1).shuffle(&mut flows);
    flows.into_iter().map(packet).collect()
}

fn packet(flow: usize) -> Vec<u8> {
    let (address, port) = client(flow * FLOWS_A_CLIENT + flow);
    packet_from(address, port)
}

/// As far as the payload.
fn packet_from(address: [u8; 4], port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(ROUTER, STATION).ipv4(address, HOST, TTL).udp(port, SERVICE);
    let payload = [0; FRAME_LEN - STAMP_AT];
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // Writing to a vector cannot fail, and the payload is short.
    if let Err(error) = builder.write(&mut frame, &payload) {
        unreachable!("a vector takes every frame: {error}");
    }
    // The stamp is written later, on the way out: UDP over IPv4 may go without a checksum (RFC 768).
    frame[UDP_CHECKSUM].fill(0);
    frame.truncate(STAMP_AT);
    frame
}

/// What a contender does to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Routes it: to the host's Ethernet address, with a shorter time to live.
    Routes,
    /// Swaps its Ethernet addresses.
    Swaps,
}

/// The next frames that an interface of this thread's network namespace receives.
pub(crate) fn sample(device: &str, count: u64) -> Result<Vec<Vec<u8>>, String> {
    let pool = Pool::new(PoolOptions { frames: 1024, data_room: 1600 }).map_err(|error| error.to_string())?;
    let options = AfPacketOptions { rx_frames: 1024, tx_frames: 64, ..AfPacketOptions::default() };
    let mut port = af_packet::open(device, &options, &[pool]).map_err(|error| error.to_string())?;
    let (mut frames, mut burst) = (Vec::new(), Burst::new());
    let end = Instant::now() + SAMPLE_WITHIN;
    while (frames.len() as u64) < count {
        if Instant::now() >= end {
            return Err(format!("only {} of {count} frames arrived", frames.len()));
        }
        for rx in &mut port.rx {
            rx.receive(&mut burst);
            frames.extend(burst.drain(..).map(|frame| frame.bytes().to_vec()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(frames)
}

/// Sends frames out of an interface of this thread's network namespace, some at a time.
pub(crate) fn send(device: &str, frames: &[Vec<u8>]) -> Result<(), String> {
    let pool = Pool::new(PoolOptions { frames: 1024, data_room: 1600 }).map_err(|error| error.to_string())?;
    let options = AfPacketOptions { rx_frames: 64, tx_frames: 64, ..AfPacketOptions::default() };
    let mut port =
        af_packet::open(device, &options, std::slice::from_ref(&pool)).map_err(|error| error.to_string())?;
    let tx = port.tx.first_mut().ok_or("the interface has no queue to send to")?;
    for some in frames.chunks(SOME) {
        let mut burst = Burst::new();
        burst.extend(some.iter().filter_map(|frame| pool.copy_from(frame)));
        tx.send(&mut burst);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether a frame is what the contender makes of one of [`packets`].
pub(crate) fn check(frame: &[u8], kind: Kind) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("a frame that it forwards has {what}: {frame:02x?}"));
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return wrong("no headers") };
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { return wrong("no IPv4 header") };
    let header = ip.header();
    if header.destination() != HOST || frame.len() != FRAME_LEN {
        return wrong("another address or length");
    }
    if header.to_header().calc_header_checksum() != header.header_checksum() {
        return wrong("a wrong header checksum");
    }
    let (mac, ttl) = match kind {
        Kind::Routes => (HOST_MAC, TTL - 1),
        Kind::Swaps => (ROUTER, TTL),
    };
    if header.ttl() != ttl {
        return wrong("another time to live");
    }
    if !frame.starts_with(&mac) {
        return wrong("another destination");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn packets_are_of_different_flows_and_one_length() {
        let packets = packets();
        assert_eq!(packets.len(), FLOWS);
        assert_eq!(packets.iter().collect::<HashSet<_>>().len(), FLOWS);
        assert!(packets.iter().all(|packet| packet.len() == STAMP_AT));
    }

    #[test]
    fn a_capture_has_its_flows_and_whole_frames() {
        let packets: Vec<_> = capture().collect();
        assert_eq!(packets.len(), CAPTURE);
        assert_eq!(packets.iter().collect::<HashSet<_>>().len(), CAPTURE_FLOWS);
        assert!(packets.iter().all(|packet| packet.len() == FRAME_LEN));
        let first = whole_packet(0);
        let flows: HashSet<_> =
            (0..1_000_000).step_by(997).map(|flow| whole_packet(flow)[26..36].to_vec()).collect();
        assert_eq!(flows.len(), 1_000_000_usize.div_ceil(997));
        assert_eq!(first[30..34], HOST);
    }

    #[test]
    fn only_what_a_contender_should_make_of_a_packet_passes() {
        let mut frame = packets()[0].clone();
        frame.resize(FRAME_LEN, 0);
        frame[..6].copy_from_slice(&ROUTER);
        assert_eq!(check(&frame, Kind::Swaps), Ok(()));
        assert!(check(&frame, Kind::Routes).is_err());

        frame[..6].copy_from_slice(&HOST_MAC);
        assert!(check(&frame, Kind::Routes).is_err_and(|why| why.contains("time to live")));
        frame[22] = TTL - 1;
        assert!(check(&frame, Kind::Routes).is_err_and(|why| why.contains("checksum")));
        let sum = u16::from_be_bytes([frame[24], frame[25]]) + 0x100;
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(check(&frame, Kind::Routes), Ok(()));
        assert!(check(&frame[..20], Kind::Routes).is_err());
    }
}
