//! Echo requests from the kernel's own ping sockets.

use super::space::Space;
use rustix::net::{AddressFamily, SocketType, ipproto};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

const HEADER: usize = 8;

/// Sends one echo request with so many bytes of data; whether the answer brings them back within `patience`.
pub(crate) fn ping(from: &Space, to: &str, data_len: usize, patience: Duration) -> bool {
    let to: IpAddr = to.parse().expect("an address");
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let open = || rustix::net::socket(family, SocketType::DGRAM, Some(protocol));
    let socket: OwnedFd = from.run(open).expect("root may open a ping socket");
    let socket = UdpSocket::from(socket);
    socket.connect(SocketAddr::new(to, 0)).expect("there is a route");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    // The kernel fills in the checksum and the identifier.
    let mut message = vec![request, 0, 0, 0, 0, 0, 0, 7];
    message.extend((0..data_len).map(|at| (at * 7) as u8));
    // A neighbour that cannot be resolved is reported here as well.
    if socket.send(&message).is_err() {
        return false;
    }
    let mut answer = vec![0; HEADER + data_len + 1];
    let Ok(len) = socket.recv(&mut answer) else { return false };
    assert_eq!(answer.first(), Some(&reply));
    len == message.len() && answer[HEADER..len] == message[HEADER..]
}
