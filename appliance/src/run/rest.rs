//! How a worker that has nothing to do sleeps.

use super::exchange::Inbox;
use arrayvec::ArrayVec;
use pmd_shim::{RxQueue, idle};
use std::os::fd::BorrowedFd;

/// Sleeps until a frame comes, another worker has something, or `timeout_ms` milliseconds have passed. With a queue that cannot be waited
/// for, or that has frames already, it does not.
pub(super) fn rest<R: RxQueue, F>(rx: &[R], inbox: &Inbox<F>, timeout_ms: u32) {
    let handles: ArrayVec<BorrowedFd<'_>, { idle::WAIT_HANDLES_MAX }> =
        rx.iter().filter_map(RxQueue::wait_handle).take(idle::WAIT_HANDLES_MAX - 1).collect();
    if handles.len() < rx.len() || timeout_ms == 0 || !inbox.lie_down() {
        return;
    }
    let handles: ArrayVec<_, { idle::WAIT_HANDLES_MAX }> =
        handles.into_iter().chain(inbox.wait_handle()).collect();
    // A failure means no more than that it polls on.
    let _ = idle::wait(&handles, timeout_ms);
    inbox.get_up();
}
