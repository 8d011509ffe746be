//! Writes ARP packets (RFC 826).

use super::headers::{ETHERNET_LEN, concat, ethernet};
use crate::addr::Mac;
use crate::wire::{Arp, ethertype};
use pmd_shim::{Frame, NoTailroom};

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
/// [`NoTailroom`] when the frame's buffer is too small.
pub fn request<F: Frame>(
    frame: &mut F,
    station: Mac,
    source: [u8; 4],
    target: [u8; 4],
    known_mac: Option<Mac>,
) -> Result<(), NoTailroom> {
    let dst = known_mac.unwrap_or(Mac::BROADCAST);
    let asked = Party { mac: Mac::default(), address: target };
    write(frame, dst, REQUEST, Party { mac: station, address: source }, asked)
}

/// Turns a request into the reply that `station` has the address asked for.
///
/// # Errors
/// [`NoTailroom`] when the frame's buffer is too small, which it cannot be for a request that was received in it.
pub fn reply<F: Frame>(frame: &mut F, request: &Arp, station: Mac) -> Result<(), NoTailroom> {
    let (Some(asked), Some(asker)) = (request.target.as_v4(), request.sender.as_v4()) else {
        return Err(NoTailroom);
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
) -> Result<(), NoTailroom> {
    let packet: [u8; LEN] = concat(&[
        &ethernet(dst, sender.mac, ethertype::ARP),
        &[0, 1, 8, 0, 6, 4],
        &operation.to_be_bytes(),
        &sender.mac.0,
        &sender.address,
        &target.mac.0,
        &target.address,
    ]);
    frame.set_len(LEN)?;
    frame.bytes_mut().copy_from_slice(&packet);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Addr;
    use crate::testing::VecFrame;
    use crate::wire::{ArpOperation, Cast, Parsed, parse};
    use pmd_shim::RxOffload;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_request_asks_everybody() {
        let mut frame = VecFrame::new(&[]);
        request(&mut frame, OURS, [10, 0, 0, 1], [10, 0, 0, 2], None).unwrap();
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
    fn a_poll_asks_the_station_itself() {
        let mut frame = VecFrame::new(&[]);
        request(&mut frame, OURS, [10, 0, 0, 1], [10, 0, 0, 2], Some(THEIRS)).unwrap();
        assert_eq!(frame.bytes()[..6], THEIRS.0);
        let Ok(Parsed::Arp(arp)) = parse(frame.bytes(), RxOffload::default(), THEIRS) else {
            panic!("not read back as ARP")
        };
        let asked = Arp {
            operation: ArpOperation::Request,
            sender_mac: OURS,
            sender: Addr::v4([10, 0, 0, 1]),
            target: Addr::v4([10, 0, 0, 2]),
            cast: Cast::Unicast,
        };
        assert_eq!(arp, asked);
    }

    #[test]
    fn a_padded_request_becomes_a_reply_without_the_padding() {
        let mut frame = VecFrame::new(&[]);
        request(&mut frame, THEIRS, [10, 0, 0, 2], [10, 0, 0, 1], None).unwrap();
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
