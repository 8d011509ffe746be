//! The host thread: between the queues of the workers and the host interfaces. It alone makes system calls for packets.

use super::Tap;
use super::slot::{Desk, Lane, SLOTS};
use crate::output::complain;
use nva_dataplane::pipeline::worker_for;
use nva_dataplane::placement::Placement;
use nva_dataplane::verdict::PortId;
use pmd_shim::exchange::Bell;
use pmd_shim::idle::{self, WaitHandles};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The longest sleep while everything that wakes it can be waited for, in milliseconds.
const SLEEP_MS: u32 = 1000;
/// And while something cannot: frames wait in the kernel that there is no slot for.
const NAP_MS: u32 = 1;

/// A host interface, and what became of it.
pub(super) struct Wicket {
    port: PortId,
    tap: Tap,
    /// It is gone, or switched off: said once.
    refuses: bool,
    /// The kernel has frames for which there is no slot.
    is_stuck: bool,
    /// Somebody removed it.
    is_gone: bool,
}

impl Wicket {
    pub(super) fn new(port: PortId, tap: Tap) -> Self {
        Self { port, tap, refuses: false, is_stuck: false, is_gone: false }
    }

    pub(super) fn port(&self) -> PortId {
        self.port
    }

    /// Gives the kernel what waits for it; whether there was something.
    fn write(&mut self, lane: &Lane) -> bool {
        let mut any = false;
        for slot in (0..SLOTS).map_while(|_| lane.to_kernel.pop()) {
            any = true;
            let refused = self.tap.write(slot.bytes()).err();
            let _ = lane.to_kernel_empty.push(slot);
            let before = std::mem::replace(&mut self.refuses, refused.is_some());
            if let Some(error) = refused.filter(|_| !before) {
                self.complain("takes nothing", &error);
            }
        }
        any
    }

    /// Takes what the kernel sent, as far as there are slots; `deliver` puts it into a worker's inbox. Whether there was something.
    fn read(&mut self, lane: &Lane, mut deliver: impl FnMut(super::Slot)) -> bool {
        let mut any = false;
        self.is_stuck = false;
        for _ in 0..SLOTS {
            if self.is_gone {
                break;
            }
            let Some(mut slot) = lane.from_kernel_empty.pop() else {
                self.is_stuck = true;
                break;
            };
            match slot.read(|room| self.tap.read(room)) {
                Ok(true) => {
                    any = true;
                    deliver(slot);
                    continue;
                }
                Ok(false) => {}
                Err(error) => {
                    self.is_gone = true;
                    self.complain("is gone", &error);
                }
            }
            let _ = lane.from_kernel_empty.push(slot);
            break;
        }
        any
    }

    fn complain(&self, what: &str, error: &io::Error) {
        let name = self.tap.name();
        complain(format_args!(
            "host interface {name} {what}: {error}; switch it on with `ip link set {name} up`, or restart the appliance"
        ));
    }
}

/// Everything that the thread has.
pub(super) struct HostThread {
    pub(super) wickets: Vec<Wicket>,
    pub(super) desk: Arc<Desk>,
    /// The workers', by their numbers.
    pub(super) bells: Vec<Arc<Bell>>,
    /// Any worker's: where frames of the kernel belong.
    pub(super) placement: Placement,
}

impl HostThread {
    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut due = vec![false; self.bells.len()];
        while !self.desk.is_stopping() {
            if !self.turn(&mut due) && self.desk.bell.lie_down(|| self.desk.is_quiet()) {
                self.sleep();
                self.desk.bell.get_up();
            }
        }
    }

    /// Everything that waits, in both directions; whether there was something.
    fn turn(&mut self, due: &mut [bool]) -> bool {
        let Self { wickets, desk, bells, placement } = self;
        let mut any = false;
        for wicket in wickets {
            let Some(lane) = desk.lane(wicket.port) else { continue };
            any |= wicket.write(lane);
            any |= wicket.read(lane, |slot| {
                let worker = worker_for(placement, slot.bytes());
                match (desk.deliver(worker, slot), due.get_mut(worker)) {
                    (Ok(()), Some(due)) => *due = true,
                    (Ok(()), None) => {}
                    (Err(slot), _) => drop(lane.from_kernel_empty.push(slot)),
                }
            });
        }
        for (bell, due) in bells.iter().zip(due) {
            if std::mem::take(due) {
                bell.ring();
            }
        }
        any
    }

    /// Sleeps until the kernel or a worker has something.
    fn sleep(&self) {
        let mut handles = WaitHandles::new();
        handles.push(self.desk.bell.wait_handle());
        let mut timeout_ms = SLEEP_MS;
        for wicket in self.wickets.iter().filter(|wicket| !wicket.is_gone) {
            if wicket.is_stuck || handles.try_push(wicket.tap.as_fd()).is_err() {
                timeout_ms = NAP_MS;
            }
        }
        // A failure means no more than another look.
        let _ = idle::wait(&handles, timeout_ms);
    }
}
