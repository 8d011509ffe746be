//! The interface itself: its making, settings and addresses.

use super::TapOptions;
use crate::kernel::DeviceError;
use crate::kernel::link::Link;
use crate::kernel::netlink::{Message, Netlink};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

const DEVICE: &str = "/dev/net/tun";
const REMEDY: &str = "the kernel needs CONFIG_TUN and CONFIG_IP_MULTIPLE_TABLES";
/// Prefix routes are ours to make; nobody else is asked whether an address is free, since the data plane answers for it
/// (`linux/if_addr.h`).
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
/// Attributes of an address.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Attributes of an interface (`linux/if_link.h`).
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;

/// Settings below `/proc/sys/net`, with `NAME` for the interface. Whether a packet's source can be where it came from has been
/// checked before the kernel gets it; and the kernel is to be a host on this interface, never a router.
const SETTINGS: [(&str, &str); 11] = [
    ("ipv4/conf/NAME/rp_filter", "0"),
    ("ipv4/conf/NAME/forwarding", "0"),
    ("ipv4/conf/NAME/accept_redirects", "0"),
    ("ipv4/conf/NAME/send_redirects", "0"),
    ("ipv6/conf/NAME/forwarding", "0"),
    ("ipv6/conf/NAME/accept_redirects", "0"),
    ("ipv6/conf/NAME/accept_ra", "0"),
    ("ipv6/conf/NAME/autoconf", "0"),
    ("ipv6/conf/NAME/router_solicitations", "0"),
    ("ipv6/conf/NAME/accept_dad", "0"),
    // No link-local address.
    ("ipv6/conf/NAME/addr_gen_mode", "1"),
];

/// Makes an interface that goes with the file.
pub(super) fn make(name: &str) -> Result<File, DeviceError> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DEVICE)
        .map_err(|error| {
            let remedy = "load the module `tun`, and give a container the device /dev/net/tun";
            DeviceError {
                remedy: remedy.into(),
                ..DeviceError::call(name, "open(/dev/net/tun)", error, remedy)
            }
        })?;
    // SAFETY: a structure of integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // An interface of this name that is there already is somebody else's.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    request.ifr_ifru.ifru_flags = (flags as u16).cast_signed();
    // SAFETY: the request reads and writes one `ifreq`, which is borrowed for the call.
    let outcome = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &mut request) };
    if outcome < 0 {
        let error = io::Error::last_os_error();
        let remedy = "an interface of this name may be there already: rename the port, or see `ip link`";
        return Err(DeviceError::call(name, "ioctl(TUNSETIFF)", error, remedy));
    }
    Ok(file)
}

/// Gives the interface everything but routes, and switches it on; its number.
pub(super) fn set_up(name: &str, netlink: &Netlink, options: &TapOptions<'_>) -> Result<u32, DeviceError> {
    let index = Link::open(name)?.ifindex().cast_unsigned();
    for (setting, value) in SETTINGS {
        set(name, setting, value)?;
    }
    let has_v6 = options.addresses.iter().any(|(address, _)| address.is_ipv6());
    set(name, "ipv6/conf/NAME/disable_ipv6", if has_v6 { "0" } else { "1" })?;
    let noarp = libc::IFF_NOARP as u32;
    let message = link(index, noarp, noarp | libc::IFF_MULTICAST as u32)
        .attribute(IFLA_ADDRESS, &options.mac)
        .attribute(IFLA_MTU, &u32::from(options.mtu).to_ne_bytes());
    let failed = |call| move |error| DeviceError::call(name, call, error, REMEDY);
    let set_link = failed("netlink(RTM_NEWLINK)");
    netlink.change(libc::RTM_NEWLINK, 0, &message).map_err(set_link)?;
    let up = libc::IFF_UP as u32;
    netlink.change(libc::RTM_NEWLINK, 0, &link(index, up, up)).map_err(set_link)?;
    for &(address, prefix_len) in options.addresses {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        netlink
            .change(libc::RTM_NEWADDR, flags, &self::address(index, address, prefix_len))
            .map_err(failed("netlink(RTM_NEWADDR)"))?;
    }
    Ok(index)
}

/// The fixed part of a request about an interface (`struct ifinfomsg`): flags, and which of them to change.
fn link(index: u32, flags: u32, change: u32) -> Message {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..].copy_from_slice(&change.to_ne_bytes());
    Message::new(&fixed)
}

/// A request about an address (`struct ifaddrmsg`).
fn address(index: u32, address: IpAddr, prefix_len: u8) -> Message {
    let (family, bytes) = family_and_bytes(address);
    let [index0, index1, index2, index3] = index.to_ne_bytes();
    Message::new(&[family, prefix_len, 0, libc::RT_SCOPE_UNIVERSE, index0, index1, index2, index3])
        .attribute(IFA_LOCAL, &bytes)
        .attribute(IFA_ADDRESS, &bytes)
        .attribute(IFA_FLAGS, &(IFA_F_NODAD | IFA_F_NOPREFIXROUTE).to_ne_bytes())
}

/// The number of an address's family, and its bytes.
pub(super) fn family_and_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}

/// Writes a setting, where this kernel has it.
fn set(name: &str, setting: &str, value: &str) -> Result<(), DeviceError> {
    let mut path = PathBuf::from("/proc/sys/net");
    path.extend(setting.split('/').map(|part| if part == "NAME" { name } else { part }));
    let unset = fs::read_to_string(&path).is_ok_and(|present| present.trim() != value);
    if !unset {
        return Ok(());
    }
    fs::write(path, value).map_err(|error| {
        let remedy = "/proc/sys must be writable";
        DeviceError {
            remedy: remedy.into(),
            ..DeviceError::call(name, "writing /proc/sys/net", error, remedy)
        }
    })
}
