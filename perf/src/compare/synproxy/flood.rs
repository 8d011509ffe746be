//! The flood: SYNs from forged sources, and what an answer to one has to be.

use crate::compare::road::{Exit, Freight};
use crate::compare::traffic::Kind;
use crate::traffic::{FRONTEND, ROUTER, Random, SERVICE, forged_syn};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// Different sources: many enough that no one of them is answered too often for a limit.
const SOURCES: usize = 1 << 16;

/// SYNs with the options of Linux, to the frontend; the answers come back.
pub(super) fn freight(seed: u64) -> Freight {
    let mut random = Random(seed);
    let packets: Vec<Vec<u8>> = (0..SOURCES).map(|_| forged_syn(&mut random)).collect();
    let frame_len = packets.first().map_or(0, Vec::len);
    Freight { packets, frame_len, stamp_at: None, exit: Exit::Near, replies: Vec::new(), check }
}

/// Whether a frame is a SYN-ACK of the frontend's, from which nothing may be sent yet.
fn check(frame: &[u8], _: Kind) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("an answer has {what}: {frame:02x?}"));
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return wrong("no headers") };
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&packet.net, &packet.transport) else {
        return wrong("no TCP in IPv4");
    };
    let header = ip.header();
    if !frame.starts_with(&ROUTER) || header.source() != FRONTEND || tcp.source_port() != SERVICE {
        return wrong("other ends");
    }
    if header.to_header().calc_header_checksum() != header.header_checksum() {
        return wrong("a wrong header checksum");
    }
    if tcp.calc_checksum_ipv4(header.source(), header.destination()) != Ok(tcp.checksum()) {
        return wrong("a wrong checksum");
    }
    if !(tcp.syn() && tcp.ack()) || tcp.rst() || tcp.fin() || tcp.window_size() != 0 {
        return wrong("other flags, or an open window");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::STATION;
    use etherparse::PacketBuilder;

    #[test]
    fn a_flood_has_many_sources() {
        let freight = freight(1);
        let sources: std::collections::HashSet<&[u8]> =
            freight.packets.iter().map(|packet| &packet[26..30]).collect();
        assert!(sources.len() > SOURCES * 9 / 10, "{}", sources.len());
        assert!(freight.packets.iter().all(|packet| packet.len() == freight.frame_len));
    }

    #[test]
    fn only_an_answer_with_a_closed_window_passes() {
        let answer = |window, port| {
            let builder = PacketBuilder::ethernet2(STATION, ROUTER).ipv4(FRONTEND, [16, 1, 2, 3], 64);
            let mut frame = Vec::new();
            builder.tcp(port, 4000, 77, window).syn().ack(5).write(&mut frame, &[]).unwrap();
            frame
        };
        assert_eq!(check(&answer(0, SERVICE), Kind::Routes), Ok(()));
        assert!(check(&answer(0, 444), Kind::Routes).is_err());
        assert!(check(&answer(100, SERVICE), Kind::Routes).is_err_and(|why| why.contains("window")));
        let mut frame = answer(0, SERVICE);
        frame[39] ^= 1;
        assert!(check(&frame, Kind::Routes).is_err_and(|why| why.contains("checksum")));
    }
}
