//! A device that cannot be used, and what to do about it.

use core::fmt;
use std::borrow::Cow;
use std::io;

/// Why a device cannot be used. Its text is one sentence: the device, what failed, how, and what to do.
#[derive(Debug)]
pub struct DeviceError {
    /// The interface's name.
    pub device: String,
    /// The system call or check that failed.
    pub call: &'static str,
    /// What the kernel said; `None` where a check of our own failed.
    pub errno: Option<io::Error>,
    /// What the operator can do.
    pub remedy: Cow<'static, str>,
}

impl DeviceError {
    /// A failed system call. `remedy` is for causes other than the usual ones: no privilege, no such device, no memory.
    pub(crate) fn call(device: &str, call: &'static str, error: io::Error, remedy: &'static str) -> Self {
        let remedy = match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => "needs CAP_NET_RAW and CAP_NET_ADMIN; run as root",
            Some(libc::ENODEV | libc::ENXIO) => "check the name with `ip link`",
            Some(libc::ENOMEM | libc::ENOBUFS) => "free memory or configure smaller rings",
            _ => remedy,
        };
        Self { device: device.to_owned(), call, errno: Some(error), remedy: remedy.into() }
    }

    /// A failed check.
    pub(crate) fn check(device: &str, check: &'static str, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { device: device.to_owned(), call: check, errno: None, remedy: remedy.into() }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, call, errno, remedy } = self;
        match errno {
            Some(errno) => write!(f, "device {device}: {call} failed: {errno}; {remedy}"),
            None => write!(f, "device {device}: {call}; {remedy}"),
        }
    }
}

impl core::error::Error for DeviceError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.errno.as_ref().map(|error| error as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_one_sentence_that_says_what_to_do() {
        let errno = io::Error::from_raw_os_error(libc::EPERM);
        let error = DeviceError::call("eth1", "socket(AF_PACKET)", errno, "");
        assert_eq!(
            error.to_string(),
            "device eth1: socket(AF_PACKET) failed: Operation not permitted (os error 1); \
             needs CAP_NET_RAW and CAP_NET_ADMIN; run as root"
        );
        let error =
            DeviceError::check("eth1", "the device is in use by another instance", "stop that one first");
        assert_eq!(
            error.to_string(),
            "device eth1: the device is in use by another instance; stop that one first"
        );
    }
}
