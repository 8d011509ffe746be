//! What DPDK says when something fails, as one sentence.

use super::ffi;
use super::log;
use crate::kernel::DeviceError;
use core::ffi::CStr;
use core::fmt;
use std::borrow::Cow;
use std::io;

/// Why DPDK cannot be used, apart from any device. Its text is one sentence: what failed, how, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalError {
    what: String,
    remedy: Cow<'static, str>,
}

impl EalError {
    /// A failed call of DPDK's.
    pub(super) fn call(call: &str, error: String, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { what: format!("{call} failed: {error}"), remedy: remedy.into() }
    }

    /// A failed check.
    pub(super) fn check(what: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for EalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DPDK: {}; {}", self.what, self.remedy)
    }
}

impl core::error::Error for EalError {}

/// DPDK's name for an error number, negative or not, and what its log said meanwhile.
pub(super) fn name(code: i32) -> String {
    // SAFETY: returns a string that lives in the calling thread until the next call.
    let text = unsafe { CStr::from_ptr(ffi::rte_strerror(code.wrapping_abs())) };
    let text = text.to_string_lossy().into_owned();
    match log::complaint() {
        Some(complaint) => format!("{text} ({complaint})"),
        None => text,
    }
}

/// The same for the last failure of the calling thread.
pub(super) fn last() -> String {
    // SAFETY: reads a variable of the calling thread.
    name(unsafe { ffi::shim_errno() })
}

/// A failed call about a device.
pub(super) fn failed(
    device: &str,
    call: &'static str,
    code: i32,
    remedy: impl Into<Cow<'static, str>>,
) -> DeviceError {
    DeviceError {
        device: device.to_owned(),
        call,
        errno: Some(io::Error::other(name(code))),
        remedy: remedy.into(),
    }
}
