//! How a worker that has nothing to do sleeps.

use pmd_shim::RxQueue;
use pmd_shim::exchange::Inbox;
use pmd_shim::idle::{self, WaitHandles};
use std::time::Duration;

/// How long a worker naps whose queues cannot all be waited for, as DPDK's. The kernel adds some 50 µs.
const NAP: Duration = Duration::from_micros(50);

/// Sleeps until a frame comes, somebody rings the inbox's bell, or `timeout_ms` milliseconds have passed; not when what else the bell is rung
/// for is not `quiet`. With a queue that cannot be waited for it naps, so that a frame waits no longer than that.
pub(super) fn rest<R: RxQueue, H, N>(
    rx: &[R],
    inbox: &Inbox<H, N>,
    quiet: impl FnOnce() -> bool,
    timeout_ms: u32,
) {
    if timeout_ms == 0 {
        return;
    }
    let mut handles = WaitHandles::new();
    if !rx.iter().all(|queue| queue.wait_handles(&mut handles)) {
        std::thread::sleep(NAP);
        return;
    }
    if !inbox.lie_down() {
        return;
    }
    if !quiet() {
        inbox.get_up();
        return;
    }
    if let Some(bell) = inbox.wait_handle()
        && handles.try_push(bell).is_err()
    {
        // With too much to wait for it polls on.
        inbox.get_up();
        return;
    }
    // A failure means no more than that it polls on.
    let _ = idle::wait(&handles, timeout_ms);
    inbox.get_up();
}
