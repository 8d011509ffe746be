//! Switching the kernel's IPv6 off on an interface, so that it has no link-local address to answer with.

use std::fs;
use std::io;
use std::path::PathBuf;

fn setting(device: &str) -> PathBuf {
    ["/proc/sys/net/ipv6/conf", device, "disable_ipv6"].iter().collect()
}

/// Whether IPv6 is off on the interface; also true of a kernel without IPv6.
pub(super) fn is_disabled(device: &str) -> io::Result<bool> {
    match fs::read_to_string(setting(device)) {
        Ok(value) => Ok(value.trim() != "0"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Switches IPv6 off or on. Switching off removes the interface's IPv6 addresses.
pub(super) fn set_disabled(device: &str, disabled: bool) -> io::Result<()> {
    if is_disabled(device)? == disabled {
        return Ok(());
    }
    fs::write(setting(device), if disabled { "1" } else { "0" })
}
