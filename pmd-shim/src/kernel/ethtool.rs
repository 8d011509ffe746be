//! What an interface's driver says of itself (`linux/ethtool.h`).

use super::DeviceError;
use super::link::Link;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GET_DRIVER: u32 = 0x03;
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const GET_CHANNELS: u32 = 0x3c;
/// Tags are taken off received frames (`ETH_FLAG_RXVLAN`).
const FLAG_RX_VLAN: u32 = 1 << 8;

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    rx_max: u32,
    tx_max: u32,
    other_max: u32,
    combined_max: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// How many queues an interface uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueCounts {
    /// To receive from.
    pub(crate) rx: u32,
    /// To send to.
    pub(crate) tx: u32,
    /// How many of each it could have.
    pub(crate) max: u32,
    /// The driver sets both together.
    are_combined: bool,
}

impl QueueCounts {
    /// The command that makes it so many of each.
    pub(crate) fn command(&self, device: &str, count: u32) -> String {
        if self.are_combined {
            format!("ethtool -L {device} combined {count}")
        } else {
            format!("ethtool -L {device} rx {count} tx {count}")
        }
    }
}

impl Link {
    /// Sends one command and its answer back. `T` is the structure that the command takes; its first word is the command.
    fn ethtool<T>(&self, command: &mut T) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_data = core::ptr::from_mut(command).cast();
        // SAFETY: the request and what it points to are borrowed for the call, and the kernel reads and writes no more of the latter
        // than the command's structure, which is what every caller passes: integers only.
        let outcome =
            unsafe { libc::ioctl(self.socket().as_raw_fd(), SIOCETHTOOL as libc::Ioctl, &mut request) };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The name of the interface's driver; `None` if it does not tell.
    pub(crate) fn driver(&self) -> Option<String> {
        let mut info = DriverInfo { command: GET_DRIVER, driver: [0; 32], rest: [0; 160] };
        self.ethtool(&mut info).ok()?;
        let name = info.driver.split(|&byte| byte == 0).next()?;
        str::from_utf8(name).ok().map(str::to_owned)
    }

    /// How many queues the interface uses.
    ///
    /// # Errors
    /// [`DeviceError`] when neither the driver nor sysfs tells.
    pub(crate) fn queue_counts(&self) -> Result<QueueCounts, DeviceError> {
        let mut channels = Channels { command: GET_CHANNELS, ..Channels::default() };
        if self.ethtool(&mut channels).is_ok() {
            let Channels { rx_max, tx_max, combined_max, rx, tx, combined, .. } = channels;
            let are_combined = combined_max > 0;
            let max = if are_combined { combined_max } else { rx_max.min(tx_max) };
            return Ok(QueueCounts { rx: rx + combined, tx: tx + combined, max, are_combined });
        }
        self.listed_queues().ok_or_else(|| {
            DeviceError::check(
                self.device(),
                "neither ETHTOOL_GCHANNELS nor /sys/class/net tells how many queues the interface has",
                "mount sysfs in this network namespace",
            )
        })
    }

    /// As many queues as sysfs lists, if it is about this network namespace at all.
    fn listed_queues(&self) -> Option<QueueCounts> {
        let folder = format!("/sys/class/net/{}", self.device());
        let number = fs::read_to_string(format!("{folder}/ifindex")).ok()?;
        if number.trim() != self.ifindex().to_string() {
            return None;
        }
        let (mut rx, mut tx) = (0, 0);
        for entry in fs::read_dir(format!("{folder}/queues")).ok()?.flatten() {
            let name = entry.file_name();
            let is = |kind: &str| name.to_str().is_some_and(|name| name.starts_with(kind));
            rx += u32::from(is("rx-"));
            tx += u32::from(is("tx-"));
        }
        let max = rx.min(tx);
        (max > 0).then_some(QueueCounts { rx, tx, max, are_combined: false })
    }

    /// Has VLAN tags left in the frames that are received. Returns whether they are now.
    pub(crate) fn keep_vlan_tags(&self) -> bool {
        let mut flags = Value { command: GET_FLAGS, data: 0 };
        if self.ethtool(&mut flags).is_err() || flags.data & FLAG_RX_VLAN == 0 {
            // A driver without such flags takes none off.
            return true;
        }
        let mut wanted = Value { command: SET_FLAGS, data: flags.data & !FLAG_RX_VLAN };
        let mut after = Value { command: GET_FLAGS, data: FLAG_RX_VLAN };
        self.ethtool(&mut wanted).is_ok()
            && self.ethtool(&mut after).is_ok()
            && after.data & FLAG_RX_VLAN == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_as_long_as_the_kernels() {
        assert_eq!((size_of::<DriverInfo>(), size_of::<Channels>(), size_of::<Value>()), (196, 36, 8));
    }
}
