//! Writes neighbour discovery messages (RFC 4861, 4.3 and 4.4).

use super::checksum::pseudo_header;
use super::headers::{ETHERNET_LEN, IPV6_LEN, NotWritten, concat, ethernet, ipv6, put};
use crate::addr::{Addr, Mac};
use crate::wire::icmpv6::kind;
use crate::wire::{ethertype, protocol};
use pmd_shim::Frame;

/// Both messages end with one option of eight bytes.
const MESSAGE_LEN: usize = 32;
const LEN: usize = ETHERNET_LEN + IPV6_LEN + MESSAGE_LEN;
/// What shows that no router has forwarded a message (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// `ff02::1`, every node on the link.
const ALL_NODES: Addr = Addr::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// The group in which the station that has `address` listens for questions about it (RFC 4291, 2.7.1).
pub fn solicited_node(address: Addr) -> Addr {
    let [.., a, b, c] = *address.octets();
    Addr::v6([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The Ethernet address of an IPv6 group (RFC 2464, 7).
pub fn group_mac(group: Addr) -> Mac {
    let [.., a, b, c, d] = *group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// Makes the frame a solicitation for the station that has `target`, asked by `station` with its address `source`: to the
/// target's group, or to where the station was last (RFC 4861, 7.2.2 and 7.3.3).
///
/// # Errors
/// [`NotWritten`] when the frame's buffer is too small.
pub fn solicitation<F: Frame>(
    frame: &mut F,
    station: Mac,
    source: Addr,
    target: Addr,
    known_mac: Option<Mac>,
) -> Result<(), NotWritten> {
    let (mac, dst) = match known_mac {
        Some(mac) => (mac, target),
        None => (group_mac(solicited_node(target)), solicited_node(target)),
    };
    let message =
        Message { kind: kind::NEIGHBOR_SOLICITATION, flags: 0, target, option: SOURCE_LINK_ADDRESS };
    message.write(frame, station, mac, source, dst)
}

/// Makes the frame an advertisement that `station` has `target`, for who asked: its Ethernet and IP address. One that asks without an
/// address of its own, to see whether `target` is taken, is answered where every node hears it (RFC 4861, 7.2.4).
///
/// # Errors
/// [`NotWritten`] when the frame's buffer is too small.
pub fn advertisement<F: Frame>(
    frame: &mut F,
    station: Mac,
    target: Addr,
    asker: Mac,
    asker_address: Addr,
) -> Result<(), NotWritten> {
    let (mac, dst, solicited) = match asker_address {
        Addr::UNSPECIFIED => (group_mac(ALL_NODES), ALL_NODES, 0),
        address => (asker, address, SOLICITED),
    };
    let flags = ROUTER | solicited | OVERRIDE;
    let message = Message { kind: kind::NEIGHBOR_ADVERTISEMENT, flags, target, option: TARGET_LINK_ADDRESS };
    message.write(frame, station, mac, target, dst)
}

struct Message {
    kind: u8,
    flags: u8,
    target: Addr,
    option: u8,
}

impl Message {
    fn write<F: Frame>(
        &self,
        frame: &mut F,
        station: Mac,
        mac: Mac,
        src: Addr,
        dst: Addr,
    ) -> Result<(), NotWritten> {
        let message = |checksum: u16| {
            concat(&[
                &[self.kind, 0],
                &checksum.to_be_bytes(),
                &[self.flags, 0, 0, 0],
                self.target.octets(),
                &[self.option, 1],
                &station.0,
            ])
        };
        let unsummed: [u8; MESSAGE_LEN] = message(0);
        let checksum =
            pseudo_header(&src, &dst, protocol::ICMPV6, MESSAGE_LEN).add_bytes(&unsummed).checksum();
        let summed: [u8; MESSAGE_LEN] = message(checksum);
        let packet: [u8; LEN] = concat(&[
            &ethernet(mac, station, ethertype::IPV6),
            &ipv6(&src, &dst, protocol::ICMPV6, HOP_LIMIT, MESSAGE_LEN as u16),
            &summed,
        ]);
        put(frame, &packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::VecFrame;
    use crate::wire::{Icmp, IcmpClass, Parsed, Transport, parse};
    use pmd_shim::RxOffload;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn address(last: u8) -> Addr {
        Addr::v6([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
    }

    /// What an independent parser and our own make of a frame: source, destination, and the class of the message.
    fn check(frame: &VecFrame, station: Mac, class: IcmpClass) -> (Addr, Addr) {
        let sliced = etherparse::SlicedPacket::from_ethernet(frame.bytes()).unwrap();
        let Some(etherparse::NetSlice::Ipv6(ip)) = sliced.net else { panic!("not IPv6") };
        let Some(etherparse::TransportSlice::Icmpv6(icmp)) = sliced.transport else { panic!("not ICMPv6") };
        let header = ip.header();
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        assert_eq!(header.hop_limit(), 255);
        let Ok(Parsed::Ip(packet)) = parse(frame.bytes(), RxOffload::default(), station) else {
            panic!("not read back")
        };
        assert!(matches!(packet.transport, Transport::Icmp(Icmp { class: c, .. }) if c == class));
        (packet.key.src, packet.key.dst)
    }

    #[test]
    fn a_solicitation_goes_to_the_targets_group() {
        let mut frame = VecFrame::new(&[]);
        solicitation(&mut frame, OURS, address(1), address(2), None).unwrap();
        #[rustfmt::skip]
        let golden = [
            0x33, 0x33, 0xff, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 32, 58, 255,
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2,
            135, 0, 0x1c, 0x27, 0, 0, 0, 0,
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
            1, 1, 2, 0, 0, 0, 0, 1,
        ];
        assert_eq!(frame.bytes(), golden);
        assert_eq!(
            check(&frame, THEIRS, IcmpClass::NeighborSolicitation),
            (address(1), solicited_node(address(2)))
        );
    }

    #[test]
    fn a_probe_goes_to_the_station_itself() {
        let mut frame = VecFrame::new(&[]);
        solicitation(&mut frame, OURS, address(1), address(2), Some(THEIRS)).unwrap();
        assert_eq!(frame.bytes()[..6], THEIRS.0);
        assert_eq!(check(&frame, THEIRS, IcmpClass::NeighborSolicitation), (address(1), address(2)));
    }

    #[test]
    fn an_advertisement_answers_who_asked() {
        let mut frame = VecFrame::new(&[0; 78]);
        advertisement(&mut frame, OURS, address(1), THEIRS, address(2)).unwrap();
        #[rustfmt::skip]
        let golden = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
            0x60, 0, 0, 0, 0, 32, 58, 255,
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
            136, 0, 0x0a, 0x73, 0xe0, 0, 0, 0,
            0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
            2, 1, 2, 0, 0, 0, 0, 1,
        ];
        assert_eq!(frame.bytes(), golden);
        assert_eq!(check(&frame, THEIRS, IcmpClass::NeighborAdvertisement), (address(1), address(2)));
    }

    #[test]
    fn a_duplicate_address_probe_is_answered_to_everybody_unsolicited() {
        let mut frame = VecFrame::new(&[0; 78]);
        advertisement(&mut frame, OURS, address(1), THEIRS, Addr::UNSPECIFIED).unwrap();
        assert_eq!(frame.bytes()[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(frame.bytes()[58], ROUTER | OVERRIDE);
        assert_eq!(check(&frame, THEIRS, IcmpClass::NeighborAdvertisement), (address(1), ALL_NODES));
    }
}
