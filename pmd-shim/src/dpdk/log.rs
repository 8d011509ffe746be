//! DPDK's log: warnings and worse go to stderr, or, while something is being set up, wait to be part of an error.

use super::ffi;
use core::ffi::c_char;
use core::slice;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So much is kept for an error; the rest is let go.
const KEPT_MAX: usize = 2048;

/// What is being said while something is set up.
struct Kept {
    /// How many threads are setting something up.
    keepers: u32,
    warnings: String,
    errors: String,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { keepers: 0, warnings: String::new(), errors: String::new() });

fn kept() -> MutexGuard<'static, Kept> {
    // Strings are whole at every point where a panic could be.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends DPDK's log here. Returns false when there is no memory.
pub(super) fn redirect() -> bool {
    // SAFETY: `sink` is a function, which lives as long as the process.
    unsafe { ffi::shim_log_to(Some(sink)) == 0 }
}

/// Keeps what is said while `work` sets something up; what has not become part of an error by its end is printed.
pub(super) fn keeping<T>(work: impl FnOnce() -> T) -> T {
    kept().keepers += 1;
    let outcome = work();
    let mut kept = kept();
    kept.keepers -= 1;
    if kept.keepers == 0 {
        let text = std::mem::take(&mut kept.warnings) + &std::mem::take(&mut kept.errors);
        drop(kept);
        // Nobody is left to tell when this fails.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    outcome
}

/// Takes what has been said in anger, on one line; the last words, if there were many.
pub(super) fn complaint() -> Option<String> {
    let mut kept = kept();
    let errors = std::mem::take(&mut kept.errors);
    let warnings = std::mem::take(&mut kept.warnings);
    let text = if errors.trim().is_empty() { warnings } else { errors };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
    (!last.is_empty()).then(|| last.join("; "))
}

/// Receives one message; called by DPDK on any of its threads.
unsafe extern "C" fn sink(level: u32, text: *const c_char, len: usize) {
    if level > ffi::SHIM_LOG_WARNING || len == 0 {
        return;
    }
    // SAFETY: the caller passes as many bytes as it says.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), len) };
    let mut kept = kept();
    if kept.keepers == 0 {
        drop(kept);
        let _ = std::io::stderr().write_all(bytes);
        return;
    }
    let place = if level <= ffi::SHIM_LOG_ERROR { &mut kept.errors } else { &mut kept.warnings };
    if place.len() + len > KEPT_MAX {
        place.clear();
    }
    let text = String::from_utf8_lossy(bytes.get(..len.min(KEPT_MAX)).unwrap_or_default());
    place.push_str(&text);
}
