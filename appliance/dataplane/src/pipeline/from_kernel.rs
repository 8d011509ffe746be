//! The kernel's sockets behind the appliance's own addresses: what they send.
//!
//! A frame from a port's host interface leaves by the appliance's routes and neighbours, and by the port that these say. It is
//! parsed like any other, must come from one of that port's own addresses, and is neither judged by security groups nor translated
//! nor balanced: it is the appliance's own. Its time to live stays as it is. What the kernel begins is recorded, so that the
//! answers are let in; what a listed service sends is not, since it needs no record.

use super::{Mark, Origin, Pipeline, Transmit};
use crate::addr::Addr;
use crate::flow::{FlowTable, NewFlow, Side, TcpState};
use crate::host::Local;
use crate::placement::Placement;
use crate::snapshot::Snapshot;
use crate::time::Time;
use crate::verdict::{PortId, Verdict};
use crate::wire::{
    self, Cast, ETHERNET_HEADER_LEN, FlowKey, Icmp, IcmpClass, Packet, Parsed, TcpFlags, Transport,
    ethertype, protocol,
};
use pmd_shim::Frame;

/// Exchanges that the kernel may have begun and that still go on, for each worker.
const ASKED_MAX: usize = 4096;

/// Records ended in one call.
const BUDGET: usize = 64;

/// The records of what the kernel began: none where no port has a host interface.
pub(super) fn asked(snapshot: &Snapshot, seed: [u8; 16], now: Time) -> FlowTable {
    let capacity = if snapshot.services.any_interface() { ASKED_MAX } else { 1 };
    FlowTable::new(capacity, seed, snapshot.timeouts, now)
}

/// The worker that is to take a frame of the kernel: that of the address it goes to, so that its answers' record is there.
pub fn worker_for(placement: &Placement, frame: &[u8]) -> usize {
    const DESTINATION_V4: usize = ETHERNET_HEADER_LEN + 16;
    const DESTINATION_V6: usize = ETHERNET_HEADER_LEN + 24;
    let destination = match wire::chunk(frame, ETHERNET_HEADER_LEN - 2).copied().map(u16::from_be_bytes) {
        Some(ethertype::IPV4) => wire::chunk(frame, DESTINATION_V4).copied().map(Addr::v4),
        Some(ethertype::IPV6) => wire::chunk(frame, DESTINATION_V6).copied().map(Addr::v6),
        _ => None,
    };
    destination.map_or(0, |destination| placement.worker_of(destination))
}

impl<F: Frame> Pipeline<F> {
    /// Takes a frame that the kernel sent through the host interface of `port`, in the worker that [`worker_for`] names.
    pub fn take_from_kernel<T: Transmit<F>>(&mut self, now: Time, port: PortId, frame: F, tx: &mut T) {
        let sent = self.leave(now, port, frame, tx).is_some();
        if let Some(counters) = self.counters.port(port) {
            match sent {
                true => counters.host.from_kernel += 1,
                false => counters.host.refused += 1,
            }
        }
    }

    /// Counts a frame of the kernel for which no buffer was free.
    pub fn lost_from_kernel(&mut self, port: PortId) {
        if let Some(counters) = self.counters.port(port) {
            counters.host.from_kernel_full += 1;
        }
    }

    /// Sends the frame, or lets it wait for its neighbour; `None`: it must not or cannot leave.
    fn leave<T: Transmit<F>>(&mut self, now: Time, port: PortId, mut frame: F, tx: &mut T) -> Option<()> {
        let station = self.snapshot.ports.get(port.index())?.mac;
        let Ok(Parsed::Ip(packet)) = wire::parse(frame.bytes(), frame.offload(), station) else {
            return None;
        };
        if !self.may_leave(port, &packet) {
            return None;
        }
        let departure = self.way_to(packet.key.dst, now)?;
        let is_long = packet.ip_len() > usize::from(self.facts(departure.port).mtu);
        if is_long && packet.dont_fragment || !self.expect_answers(port, &packet, now) {
            return None;
        }
        frame.set_mark(Mark { port, origin: Origin::Own }.to_bits());
        match self.send(frame, departure, now, tx) {
            Verdict::Drop(_) => None,
            _ => {
                self.counters.originated += 1;
                Some(())
            }
        }
    }

    /// Whether this is what the kernel's sockets may send: of their own address, to somebody else, of a kind that has answers.
    fn may_leave(&self, port: PortId, packet: &Packet) -> bool {
        let FlowKey { src, dst, protocol, .. } = packet.key;
        let is_ours = self.snapshot.local.kind(port, src) == Some(Local::PortAddress(port));
        let is_of_a_socket = match packet.transport {
            Transport::Tcp(_) | Transport::Udp => true,
            Transport::Icmp(Icmp { class, .. }) => {
                matches!(class, IcmpClass::EchoRequest | IcmpClass::Error)
            }
            Transport::LaterFragment => is_of_sockets(protocol),
            Transport::Other => false,
        };
        let goes_out = packet.cast == Cast::Unicast && self.snapshot.guard.is_somebody_else(dst);
        self.snapshot.services.has_interface(port)
            && is_ours
            && !src.is_v6_link_local()
            && is_of_a_socket
            && goes_out
    }

    /// Records what has answers that nothing else lets in. `false`: there is no room for that.
    fn expect_answers(&mut self, port: PortId, packet: &Packet, now: Time) -> bool {
        let key = &packet.key;
        let needs_record = match packet.transport {
            Transport::Tcp(_) | Transport::Udp => {
                !self.snapshot.services.listens(port, key.protocol, key.src_port)
            }
            Transport::Icmp(Icmp { class: IcmpClass::EchoRequest, .. }) => true,
            _ => false,
        };
        !needs_record || self.record(packet, now)
    }

    fn record(&mut self, packet: &Packet, now: Time) -> bool {
        let (key, len) = (packet.key, packet.payload_len());
        let tcp = match &packet.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        };
        if let Some((id, side)) = self.asked.find(&key, self.asked.hash(&key)) {
            let fits = match tcp {
                Some(tcp) if tcp.flags.is_initial_syn() && self.asked.flow(id).tcp.reopens(side, tcp) => {
                    false
                }
                Some(tcp) => self.is_believed(id) || self.asked.segment(id, side, tcp, len).is_ok(),
                None => true,
            };
            if fits {
                self.asked.account(id, side, packet.ip_len(), now);
                return true;
            }
            // The kernel knows best which connections it has.
            self.asked.remove(id);
        }
        let tcp = match tcp {
            // It ends what is not known here, and has no answer.
            Some(tcp) if tcp.flags.any(TcpFlags::RST) => return true,
            Some(tcp) => Some(TcpState::open(tcp, len).unwrap_or_else(|_| TcpState::one_sided())),
            None => None,
        };
        let new = NewFlow {
            key,
            translated: key.dst,
            translated_port: key.dst_port,
            tcp,
            rule: None,
            backend: None,
            generation: self.snapshot.decided,
            idle_timeout_ms: None,
            tcp_reset: false,
        };
        let Ok(id) = self.asked.insert(new, now) else { return false };
        self.asked.account(id, Side::Initiator, packet.ip_len(), now);
        true
    }

    /// Forgets what the kernel began and nobody went on with.
    pub(super) fn expire_asked(&mut self, now: Time) {
        self.asked.expire(now, &mut { BUDGET }, |_| {});
    }

    /// A frame of the kernel waited for a neighbour in vain.
    pub(super) fn unanswered_own(&mut self, port: PortId) {
        if let Some(counters) = self.counters.port(port) {
            counters.host.from_kernel = counters.host.from_kernel.saturating_sub(1);
            counters.host.refused += 1;
        }
    }
}

/// Protocols that sockets speak through a host interface.
fn is_of_sockets(number: u8) -> bool {
    matches!(number, protocol::TCP | protocol::UDP | protocol::ICMP | protocol::ICMPV6)
}
