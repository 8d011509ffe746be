//! The parser against hand-made frames: each that is refused has a twin that passes and differs in one field.
//! And against etherparse.

mod against_etherparse;
mod fragments;
mod headers;
mod icmp;
mod link;
mod quotes;

use super::plain::plain;
use super::testing::{FrameBuilder, STATION, fix_ipv4_checksum, fix_transport_checksum};
use super::*;
use crate::addr::Addr;

/// Offsets in frames without options and extension headers.
const L3: usize = 14;
const L4_V4: usize = 34;
const L4_V6: usize = 54;

fn parse_plain(frame: &[u8]) -> Result<Parsed, DropReason> {
    let parsed = parse(frame, RxOffload::default(), STATION);
    if let Some(packet) = plain(frame, RxOffload::default(), STATION) {
        assert_eq!(parsed, Ok(Parsed::Ip(packet)), "the short way gives the same");
    }
    parsed
}

#[track_caller]
fn packet(frame: &[u8]) -> Packet {
    match parse_plain(frame) {
        Ok(Parsed::Ip(packet)) => packet,
        other => panic!("an IP packet, not {other:?}"),
    }
}

/// The frame passes, and with this change it is refused for this reason.
#[track_caller]
fn refused_after(frame: &[u8], reason: DropReason, change: impl FnOnce(&mut Vec<u8>)) {
    assert!(parse_plain(frame).is_ok(), "the twin passes: {:?}", parse_plain(frame));
    let mut changed = frame.to_vec();
    change(&mut changed);
    assert_ne!(changed, frame, "the change changes something");
    assert_eq!(parse_plain(&changed), Err(reason));
}

/// The frame passes, and with this change it still does.
#[track_caller]
fn passes_after(frame: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Packet {
    assert!(parse_plain(frame).is_ok(), "the twin passes: {:?}", parse_plain(frame));
    let mut changed = frame.to_vec();
    change(&mut changed);
    packet(&changed)
}

/// Writes bytes at an offset, and puts the IPv4 header checksum right.
fn set_ipv4(at: usize, bytes: &[u8]) -> impl FnOnce(&mut Vec<u8>) {
    move |frame| {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        fix_ipv4_checksum(frame);
    }
}

/// Writes bytes at an offset.
fn set(at: usize, bytes: &[u8]) -> impl FnOnce(&mut Vec<u8>) {
    move |frame| frame[at..at + bytes.len()].copy_from_slice(bytes)
}

/// Writes bytes at an offset, and puts the checksum of the transport at `l4` right.
fn set_transport(number: u8, l4: usize, at: usize, bytes: &[u8]) -> impl FnOnce(&mut Vec<u8>) {
    move |frame| {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        let end = frame.len();
        fix_transport_checksum(frame, number, l4..end);
    }
}

fn v4() -> FrameBuilder {
    FrameBuilder::new("10.0.0.1", "10.0.0.2")
}

fn v6() -> FrameBuilder {
    FrameBuilder::new("2001:db8::1", "2001:db8::2")
}

/// A builder of each family, with the offset of its transport header.
fn both() -> [(FrameBuilder, usize); 2] {
    [(v4(), L4_V4), (v6(), L4_V6)]
}
