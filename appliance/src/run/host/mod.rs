//! The kernel's sockets behind the data plane: a host interface for each port that has `host_services`, and the one thread that
//! moves frames between these and the workers.
//!
//! Workers and the thread give each other copies of frames, in slots that go round: a worker makes no system call for a packet and
//! allocates nothing, and a frame of the pool never leaves its worker. Each port has slots of its own, so that a flood to a service
//! of one port leaves the others' alone. What there is no slot for, on the way to the kernel, is dropped; on the way out it stays
//! in the kernel's own queue, and the sockets wait.
//!
//! *Invariant:* the kernel gets what a worker gave and nothing else.

mod slot;
mod thread;

pub(crate) use slot::{HostEnd, Slot};

use crate::output::Failure;
use nva_config::Config;
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::Link;
use nva_dataplane::verdict::PortId;
use pmd_shim::exchange::Bell;
use pmd_shim::tap::{self, Tap, TapOptions, interface_name};
use slot::Desk;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use thread::{HostThread, Wicket};

/// The least that IPv6 asks of a link, in bytes.
const IPV6_MTU_MIN: u16 = 1280;

/// The host interfaces, before any worker runs.
pub(super) struct Host {
    wickets: Vec<Wicket>,
    desk: Arc<Desk>,
}

/// The host interfaces at work. Dropping this ends the thread and removes them.
pub(super) struct RunningHost {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Makes the interfaces that the configuration asks for; `None`: none.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that says what to do; no interface stays behind.
    pub(super) fn open(config: &Config, links: &[Link], workers: usize) -> Result<Option<Self>, Failure> {
        let mtus = || config.ports.iter().zip(links).map(|(port, link)| port.mtu.min(link.mtu));
        let mut wickets = Vec::new();
        for (((port, link), mtu), index) in config.ports.iter().zip(links).zip(mtus()).zip(0..) {
            if port.host_services.is_none() {
                continue;
            }
            let addresses: Vec<(IpAddr, u8)> =
                port.addresses.iter().map(|own| (own.address, own.prefix.len())).collect();
            let has_v6 = addresses.iter().any(|(address, _)| address.is_ipv6());
            let least = if has_v6 { IPV6_MTU_MIN } else { 0 };
            let far_mtu = mtus().min().unwrap_or(mtu).max(least);
            let options = TapOptions { mac: link.mac.0, mtu, far_mtu, addresses: &addresses };
            let tap = tap::open(&interface_name(&port.name), &options)
                .map_err(|error| Failure::failed(format!("host interface of port {}: {error}", port.name)))?;
            wickets.push(Wicket::new(PortId(index), tap));
        }
        if wickets.is_empty() {
            return Ok(None);
        }
        let frame_max = mtus().max().unwrap_or(0);
        let failed = |error| Failure::failed(format!("what wakes the host thread: {error}"));
        let ports = wickets.iter().map(Wicket::port);
        let desk = Arc::new(Desk::new(config.ports.len(), ports, frame_max, workers).map_err(failed)?);
        Ok(Some(Self { wickets, desk }))
    }

    /// Starts the thread, which rings these bells of the workers.
    ///
    /// # Errors
    /// A [`Failure`] when there can be no other thread.
    pub(super) fn start(self, bells: Vec<Arc<Bell>>, any: Placement) -> Result<RunningHost, Failure> {
        let Self { wickets, desk } = self;
        let thread = HostThread { wickets, desk: Arc::clone(&desk), bells, placement: any };
        let thread = std::thread::Builder::new()
            .name("nva-host".into())
            .spawn(|| thread.run())
            .map_err(|error| Failure::failed(format!("no thread for the host interfaces: {error}")))?;
        Ok(RunningHost { desk, thread: Some(thread) })
    }
}

impl RunningHost {
    /// What a worker needs.
    pub(super) fn end(&self, worker: usize) -> HostEnd {
        HostEnd::new(Arc::clone(&self.desk), worker)
    }
}

impl Drop for RunningHost {
    fn drop(&mut self) {
        self.desk.stop();
        // A thread that panicked has said so by itself.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// The interface of a port, as reports name it.
pub(crate) fn name_of(port: &nva_config::Port) -> Option<String> {
    port.host_services.as_ref().map(|_| interface_name(&port.name))
}

#[cfg(test)]
mod tests;
