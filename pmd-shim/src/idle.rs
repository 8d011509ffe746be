//! Waiting in the kernel when there has been nothing to do for long.

use arrayvec::ArrayVec;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many handles one call can wait for; a worker has one for each receive queue, or a few.
pub const WAIT_HANDLES_MAX: usize = 64;

/// What a worker waits for.
pub type WaitHandles<'a> = ArrayVec<BorrowedFd<'a>, WAIT_HANDLES_MAX>;

/// Sleeps until one of `handles` is readable, a signal arrives or `timeout_ms` milliseconds have passed.
///
/// Returns whether a handle is ready (an error on it counts as ready: the next receive reports it). A signal is no error.
/// Of more than [`WAIT_HANDLES_MAX`] handles the rest is not looked at before the timeout.
///
/// # Errors
/// What `ppoll` reports.
pub fn wait(handles: &[BorrowedFd<'_>], timeout_ms: u32) -> io::Result<bool> {
    let mut polled = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; WAIT_HANDLES_MAX];
    let count = handles.len().min(WAIT_HANDLES_MAX);
    for (slot, handle) in polled.iter_mut().zip(handles) {
        slot.fd = handle.as_raw_fd();
    }
    let timeout = libc::timespec {
        tv_sec: libc::time_t::from(timeout_ms / 1000),
        tv_nsec: libc::c_long::from(timeout_ms % 1000) * 1_000_000,
    };
    // SAFETY: `polled` has at least `count` elements and outlives the call, and the descriptors are borrowed for as long; a null
    // signal mask leaves the mask alone.
    let ready =
        unsafe { libc::ppoll(polled.as_mut_ptr(), count as libc::nfds_t, &timeout, core::ptr::null()) };
    if ready >= 0 {
        return Ok(ready > 0);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn tells_a_readable_handle_from_a_quiet_one() {
        let (reader, mut writer) = io::pipe().unwrap();
        assert!(!wait(&[reader.as_fd()], 0).unwrap());
        assert!(!wait(&[], 0).unwrap());
        writer.write_all(b"x").unwrap();
        assert!(wait(&[reader.as_fd()], 60_000).unwrap());
        drop(writer);
        assert!(wait(&[reader.as_fd()], 60_000).unwrap());
    }
}
