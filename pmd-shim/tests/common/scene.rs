//! What the tests of the kernel's ports begin with: two namespaces and what passes between them.

use crate::common::Netns;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pmd_shim::idle::{self, WaitHandles};
use pmd_shim::{Burst, Frame, Pool, PoolFrame, RxQueue};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

/// Two namespaces, `peer` with `p0` and `host` with `h0`, which are the ends of one wire.
pub(crate) fn pair() -> (Netns, Netns) {
    let (peer, host) = (Netns::new(), Netns::new());
    Netns::connect((&peer, "p0"), (&host, "h0"));
    (peer, host)
}

/// A kernel behind `h0` that answers: whether it does is what the result tells, each time it is asked.
pub(crate) fn answering(peer: &Netns, host: &Netns) -> impl Fn() -> bool {
    peer.run("ip addr add 10.9.0.2/24 dev p0");
    // An address elsewhere on the machine: the kernel answers for it on every interface.
    host.run("ip addr add 10.9.0.1/32 dev lo");
    host.run("ip route add 10.9.0.0/24 dev h0");
    // A closed port: a kernel that hears of the connection refuses it.
    move || {
        peer.run("ip neigh flush all");
        let address = "10.9.0.1:9".parse().unwrap();
        let outcome = peer.within(|| TcpStream::connect_timeout(&address, Duration::from_millis(500)));
        outcome.unwrap_err().kind() == ErrorKind::ConnectionRefused
    }
}

/// Receives until `enough` is true of what came and is `wanted`, or nothing has come for two seconds.
pub(crate) fn receive_until<R: RxQueue<Frame = PoolFrame>>(
    queues: &mut [R],
    wanted: impl Fn(&PoolFrame) -> bool,
    mut enough: impl FnMut(&[PoolFrame]) -> bool,
) -> Vec<PoolFrame> {
    let (mut frames, mut burst) = (Vec::new(), Burst::new());
    while !enough(&frames) {
        let mut count = 0;
        for rx in queues.iter_mut() {
            count += rx.receive(&mut burst);
            frames.extend(burst.drain(..).filter(&wanted));
        }
        let mut handles = WaitHandles::new();
        assert!(queues.iter().all(|rx| rx.wait_handles(&mut handles)));
        if count == 0 && !idle::wait(&handles, 2000).unwrap() {
            break;
        }
    }
    frames
}

/// A frame of an EtherType for experiments, so that nobody answers: tags, number, padding.
pub(crate) fn frame(pool: &Pool, number: u32, len: usize, tags: &[u8]) -> PoolFrame {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend_from_slice(tags);
    bytes.extend_from_slice(&[0x88, 0xb5]);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend((bytes.len()..len).map(|at| (at as u8) ^ (number as u8)));
    pool.copy_from(&bytes).unwrap()
}

/// One of these among others, such as the kernel's own neighbour discovery.
pub(crate) fn is_ours(frame: &PoolFrame) -> bool {
    frame.bytes().starts_with(&[2, 0, 0, 0, 0, 1])
}

/// The number of one without tags.
pub(crate) fn number(frame: &PoolFrame) -> u32 {
    u32::from_be_bytes(*frame.bytes()[14..].first_chunk().unwrap())
}

/// The kernel asks who has an address.
pub(crate) fn is_arp(frame: &PoolFrame) -> bool {
    frame.bytes().get(12..14) == Some(&[8, 6])
}

/// The payload of a UDP frame, and whether its checksum is right; `None`: it is no UDP frame.
pub(crate) fn udp(frame: &PoolFrame) -> Option<(Vec<u8>, bool)> {
    let packet = SlicedPacket::from_ethernet(frame.bytes()).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else {
        return None;
    };
    let (source, destination) = (ip.header().source(), ip.header().destination());
    let checksum = udp.to_header().calc_checksum_ipv4_raw(source, destination, udp.payload()).unwrap();
    Some((udp.payload().to_vec(), udp.checksum() == checksum))
}
