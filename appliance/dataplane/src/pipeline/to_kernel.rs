//! The kernel's sockets behind the appliance's own addresses: what comes in for them.
//!
//! Two things are let in: what is for a listed service, which needs no record and so can fill none, and the answers to what the
//! kernel began itself, of which [`from_kernel`](super::from_kernel) keeps a record. These records are not among the
//! forwarded flows: neither kind can take the other's room, and the path of established flows knows nothing of the kernel.
//!
//! The records of what the kernel said to an address are at that address's worker. Services are let in by every worker.

use super::{End, FlowKey, Origin, Passage, Pipeline, Step, Transmit, drop_for};
use crate::addr::Addr;
use crate::emit::rewrite;
use crate::flow::{FlowId, TcpState, query};
use crate::host::Local;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::{Icmp, IcmpClass, Quoted, Transport};
use core::ops::ControlFlow;
use pmd_shim::Frame;

/// Ends a packet's way in the kernel, at the host interface of a port.
fn to_kernel<T>(port: PortId) -> Step<T> {
    ControlFlow::Break(End::ToKernel(port))
}

impl<F: Frame> Pipeline<F> {
    /// Whether a packet of this key, to an address of `owner`, is for the kernel's sockets: ends its way there. Goes on with what
    /// is not.
    pub(super) fn let_in(&mut self, p: &Passage<'_>, owner: PortId, key: &FlowKey) -> Step<()> {
        let is_question =
            matches!(p.packet.transport, Transport::Icmp(Icmp { class: IcmpClass::EchoRequest, .. }));
        if is_question || key.dst.is_v6_link_local() || !self.snapshot.services.has_interface(owner) {
            return ControlFlow::Continue(());
        }
        if p.port == owner && self.snapshot.services.listens(owner, key.protocol, key.dst_port) {
            return to_kernel(owner);
        }
        let Some((id, side)) = self.asked.find(key, self.asked.hash(key)) else {
            return self.seek_asked(p, key.src);
        };
        let fits = match &p.packet.transport {
            Transport::Tcp(tcp) if !self.is_believed(id) => {
                self.asked.segment(id, side, tcp, p.packet.payload_len()).map(|_| ())
            }
            Transport::Icmp(icmp) => query::check(side, icmp.class),
            _ => Ok(()),
        };
        if let Err(reason) = fits {
            return drop_for(reason);
        }
        self.asked.account(id, side, p.packet.ip_len(), p.now);
        to_kernel(owner)
    }

    /// A later fragment for one of our own addresses goes where the first one went.
    pub(super) fn follow_in(&mut self, frame: &F, p: &Passage<'_>, first: &FlowKey) -> Step<()> {
        let Some(owner) = self.owner(p) else { return ControlFlow::Continue(()) };
        self.guard(frame, p)?;
        self.let_in(p, owner, first)
    }

    /// An ICMP error about something that the kernel sent is for the kernel: of an answer of a service, or of what it began itself.
    pub(super) fn error_in(&mut self, frame: &F, p: &Passage<'_>, quoted: &Quoted) -> Step<()> {
        let Some(owner) = self.owner(p) else { return ControlFlow::Continue(()) };
        self.guard(frame, p)?;
        if self.snapshot.services.listens(owner, quoted.key.protocol, quoted.key.src_port) {
            return to_kernel(owner);
        }
        let Some((id, side)) = self.asked.find(&quoted.key, self.asked.hash(&quoted.key)) else {
            return self.seek_asked(p, quoted.key.dst);
        };
        let is_plausible = quoted
            .tcp_seq
            .is_none_or(|seq| self.is_believed(id) || self.asked.flow(id).tcp.quoted_in_window(side, seq));
        if is_plausible { to_kernel(owner) } else { ControlFlow::Continue(()) }
    }

    /// The fragments of a datagram to one of our own addresses meet where the records of its sender are.
    pub(super) fn gather_in(&self, p: &Passage<'_>) -> Step<()> {
        match self.owner(p) {
            Some(_) => self.go_on(self.placement.worker_of(p.packet.key.src), Origin::Gathered),
            None => ControlFlow::Continue(()),
        }
    }

    /// Gives the frame to the kernel.
    #[cold]
    pub(super) fn deliver_in<T: Transmit<F>>(
        &mut self,
        mut frame: F,
        p: &Passage<'_>,
        owner: PortId,
        tx: &mut T,
    ) -> Verdict {
        if owner != p.port {
            let station = self.facts(owner).mac;
            rewrite::set_link(frame.bytes_mut(), self.facts(p.port).mac, station);
        }
        rewrite::trim(&mut frame, p.packet);
        let taken = tx.to_kernel(owner, frame);
        if let Some(counters) = self.counters.port(owner) {
            match taken {
                Ok(()) => counters.host.to_kernel += 1,
                Err(_) => counters.host.to_kernel_full += 1,
            }
        }
        match taken {
            Ok(()) => Verdict::Consume,
            Err(_full) => Verdict::Drop(DropReason::TxQueueFull),
        }
    }

    /// The port whose address the packet is for, where that has a host interface.
    fn owner(&self, p: &Passage<'_>) -> Option<PortId> {
        let dst = p.packet.key.dst;
        match self.snapshot.local.kind(p.port, dst) {
            Some(Local::PortAddress(owner))
                if !p.port.is_tunnel()
                    && !dst.is_v6_link_local()
                    && self.snapshot.services.has_interface(owner) =>
            {
                Some(owner)
            }
            _ => None,
        }
    }

    /// No record here: there may be one at the worker of the other end's address.
    fn seek_asked(&self, p: &Passage<'_>, other_end: Addr) -> Step<()> {
        if self.placement.is_alone() || p.origin != Origin::Received {
            return ControlFlow::Continue(());
        }
        self.go_on(self.placement.worker_of(other_end), Origin::Placed)
    }

    /// A connection that was going on before there was a record of it, so that nothing can be held against it.
    pub(super) fn is_believed(&self, id: FlowId) -> bool {
        self.asked.flow(id).tcp == TcpState::one_sided()
    }
}
