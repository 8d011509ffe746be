//! Writes ARP packets (RFC 826).

use super::headers::{ETHERNET_LEN, NotWritten, concat, ethernet, put};
use crate::addr::{Addr, Mac};
use crate::wire::{Arp, ethertype};
use pmd_shim::Frame;

const LEN: usize = ETHERNET_LEN + 28;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// An end of the exchange.
#[derive(Clone, Copy)]
struct Party {
    mac: Mac,
    address: [u8; 4],
}

/// Makes the frame a request for the station that has `target`, asked by `station` with its address `source`: to everybody, or
/// to where the station was last (RFC 1122, 2.3.2.1, unicast poll).
///
/// # Errors
/// [`NotWritten`] when the frame's buffer is too small, or an address is not IPv4.
pub fn request<F: Frame>(
    frame: &mut F,
    station: Mac,
    source: Addr,
    target: Addr,
    known_mac: Option<Mac>,
) -> Result<(), NotWritten> {
    let dst = known_mac.unwrap_or(Mac::BROADCAST);
    let (Some(source), Some(target)) = (source.as_v4(), target.as_v4()) else { return Err(NotWritten) };
    let asked = Party { mac: Mac::default(), address: target };
    write(frame, dst, REQUEST, Party { mac: station, address: source }, asked)
}

/// Turns a request into the reply that `station` has the address asked for.
///
/// # Errors
/// [`NotWritten`] when an address is not IPv4, which no parsed request's is.
pub fn reply<F: Frame>(frame: &mut F, request: &Arp, station: Mac) -> Result<(), NotWritten> {
    let (Some(asked), Some(asker)) = (request.target.as_v4(), request.sender.as_v4()) else {
        return Err(NotWritten);
    };
    let asker = Party { mac: request.sender_mac, address: asker };
    write(frame, asker.mac, REPLY, Party { mac: station, address: asked }, asker)
}

fn write<F: Frame>(
    frame: &mut F,
    dst: Mac,
    operation: u16,
    sender: Party,
    target: Party,
) -> Result<(), NotWritten> {
    let packet: [u8; LEN] = concat(&[
        &ethernet(dst, sender.mac, ethertype::ARP),
        &[0, 1, 8, 0, 6, 4],
        &operation.to_be_bytes(),
        &sender.mac.0,
        &sender.address,
        &target.mac.0,
        &target.address,
    ]);
    put(frame, &packet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::VecFrame;
    use crate::wire::{ArpOperation, Cast, Parsed, parse};
    use pmd_shim::RxOffload;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const OUR_ADDRESS: Addr = Addr::v4([10, 0, 0, 1]);
    const THEIR_ADDRESS: Addr = Addr::v4([10, 0, 0, 2]);

    #[test]
    fn a_request_asks_everybody() {
        let mut frame = VecFrame::new(&[]);
        request(&mut frame, OURS, OUR_ADDRESS, THEIR_ADDRESS, None).unwrap();
        #[rustfmt::skip]
        let golden = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06,
            0, 1, 0x08, 0x00, 6, 4, 0, 1,
            2, 0, 0, 0, 0, 1, 10, 0, 0, 1,
            0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
        ];
        assert_eq!(frame.bytes(), golden);
    }

    #[test]
    fn only_ipv4_is_asked_for() {
        let v6 = Addr::v6([0x20; 16]);
        let mut frame = VecFrame::new(&[]);
        assert_eq!(request(&mut frame, OURS, OUR_ADDRESS, v6, None), Err(NotWritten));
        assert_eq!(request(&mut frame, OURS, v6, THEIR_ADDRESS, None), Err(NotWritten));
        assert!(frame.bytes().is_empty());
    }

    #[test]
    fn a_poll_asks_the_station_itself() {
        let mut frame = VecFrame::new(&[]);
        request(&mut frame, OURS, OUR_ADDRESS, THEIR_ADDRESS, Some(THEIRS)).unwrap();
        assert_eq!(frame.bytes()[..6], THEIRS.0);
        let Ok(Parsed::Arp(arp)) = parse(frame.bytes(), RxOffload::default(), THEIRS) else {
            panic!("not read back as ARP")
        };
        let asked = Arp {
            operation: ArpOperation::Request,
            sender_mac: OURS,
            sender: OUR_ADDRESS,
            target: THEIR_ADDRESS,
            cast: Cast::Unicast,
        };
        assert_eq!(arp, asked);
    }

    #[test]
    fn a_padded_request_becomes_a_reply_without_the_padding() {
        let mut frame = VecFrame::new(&[]);
        request(&mut frame, THEIRS, THEIR_ADDRESS, OUR_ADDRESS, None).unwrap();
        frame.set_len(60).unwrap();
        let Ok(Parsed::Arp(arp)) = parse(frame.bytes(), RxOffload::default(), OURS) else {
            panic!("not read back as ARP")
        };
        reply(&mut frame, &arp, OURS).unwrap();
        #[rustfmt::skip]
        let golden = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x06,
            0, 1, 0x08, 0x00, 6, 4, 0, 2,
            2, 0, 0, 0, 0, 1, 10, 0, 0, 1,
            2, 0, 0, 0, 0, 2, 10, 0, 0, 2,
        ];
        assert_eq!(frame.bytes(), golden);
    }
}
