//! What the kernel knows of an interface, and what it must not do with it.

use super::DeviceError;
use super::netlink::{Message, Netlink, attribute};
use std::ffi::CString;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Hardware type of Ethernet (`ARPHRD_ETHER`).
const HARDWARE_ETHERNET: u16 = 1;

/// Whether frames can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// The operator has switched the interface on.
    pub up: bool,
    /// The interface has a carrier.
    pub running: bool,
}

/// An Ethernet interface of the calling thread's network namespace, by name.
#[derive(Debug)]
pub struct Link {
    device: String,
    name: [libc::c_char; libc::IFNAMSIZ],
    ifindex: i32,
    /// Any socket will do to ask with.
    socket: OwnedFd,
}

impl Link {
    /// Finds an interface.
    ///
    /// # Errors
    /// [`DeviceError`] when there is none of this name or it is not an Ethernet interface.
    pub fn open(device: &str) -> Result<Self, DeviceError> {
        let no_such =
            || DeviceError::check(device, "there is no such interface", "check the name with `ip link`");
        let name = CString::new(device).map_err(|_| no_such())?;
        // SAFETY: a zero-terminated string that outlives the call.
        let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let bytes = name.as_bytes_with_nul();
        if ifindex == 0 || bytes.len() > libc::IFNAMSIZ {
            return Err(no_such());
        }
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(bytes) {
            *to = from.cast_signed();
        }
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(DeviceError::call(
                device,
                "socket(AF_UNIX)",
                io::Error::last_os_error(),
                "raise the limit of open files",
            ));
        }
        // SAFETY: a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let link = Self { device: device.to_owned(), name, ifindex: ifindex.cast_signed(), socket };
        link.mac()?;
        Ok(link)
    }

    /// The interface's name.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The interface's number in its network namespace.
    pub fn ifindex(&self) -> i32 {
        self.ifindex
    }

    /// A request about this interface, with everything else zero.
    pub(super) fn request(&self) -> libc::ifreq {
        // SAFETY: a structure of integers, for which zero is a value.
        let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
        request.ifr_name = self.name;
        request
    }

    /// Any socket to ask about the interface with.
    #[cfg(feature = "af_xdp")]
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    fn ioctl(
        &self,
        call: &'static str,
        number: libc::c_ulong,
        request: &mut libc::ifreq,
    ) -> Result<(), DeviceError> {
        // SAFETY: every number used here reads and writes one `ifreq`, which is borrowed for the call.
        let outcome = unsafe { libc::ioctl(self.socket.as_raw_fd(), number as libc::Ioctl, request) };
        if outcome < 0 {
            let error = io::Error::last_os_error();
            return Err(DeviceError::call(&self.device, call, error, "check the interface with `ip link`"));
        }
        Ok(())
    }

    /// The interface's hardware address.
    ///
    /// # Errors
    /// [`DeviceError`], also when the interface is not Ethernet.
    pub fn mac(&self) -> Result<[u8; 6], DeviceError> {
        let mut request = self.request();
        self.ioctl("ioctl(SIOCGIFHWADDR)", libc::SIOCGIFHWADDR, &mut request)?;
        // SAFETY: this request fills in the hardware address.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        if address.sa_family != HARDWARE_ETHERNET {
            return Err(DeviceError::check(
                &self.device,
                "the interface is not Ethernet",
                "name an Ethernet interface",
            ));
        }
        let [a, b, c, d, e, f, ..] = address.sa_data.map(i8::cast_unsigned);
        Ok([a, b, c, d, e, f])
    }

    /// The longest network packet that the kernel lets through the interface, in bytes.
    ///
    /// # Errors
    /// [`DeviceError`] when the interface is gone.
    pub fn mtu(&self) -> Result<u32, DeviceError> {
        let mut request = self.request();
        self.ioctl("ioctl(SIOCGIFMTU)", libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: this request fills in the MTU.
        Ok(unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned())
    }

    /// The MTU to work with: the wanted one if the interface has as much, or else the interface's.
    pub(crate) fn usable_mtu(&self, wanted: Option<u32>) -> Result<u32, DeviceError> {
        let (device, kernel) = (&self.device, self.mtu()?);
        match wanted {
            Some(wanted) if wanted > kernel => Err(DeviceError::check(
                device,
                "the interface's MTU is smaller than the configured one",
                format!("configure at most {kernel} or run `ip link set dev {device} mtu {wanted}`"),
            )),
            Some(wanted) => Ok(wanted),
            None => Ok(kernel),
        }
    }

    fn flags(&self) -> Result<libc::c_int, DeviceError> {
        let mut request = self.request();
        self.ioctl("ioctl(SIOCGIFFLAGS)", libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: this request fills in the flags.
        Ok(libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
    }

    /// Whether frames can pass now.
    ///
    /// # Errors
    /// [`DeviceError`] when the interface is gone, also where another one has its name now.
    pub fn state(&self) -> Result<LinkState, DeviceError> {
        let mut request = self.request();
        self.ioctl("ioctl(SIOCGIFINDEX)", libc::SIOCGIFINDEX, &mut request)?;
        // SAFETY: this request fills in the number.
        if unsafe { request.ifr_ifru.ifru_ifindex } != self.ifindex {
            return Err(DeviceError::check(
                &self.device,
                "another interface has its name now",
                "open it anew",
            ));
        }
        let flags = self.flags()?;
        Ok(LinkState { up: flags & libc::IFF_UP != 0, running: flags & libc::IFF_RUNNING != 0 })
    }

    /// Switches the interface on.
    ///
    /// # Errors
    /// [`DeviceError`] when the kernel does not let us.
    pub fn set_up(&self) -> Result<(), DeviceError> {
        let flags = self.flags()?;
        if flags & libc::IFF_UP != 0 {
            return Ok(());
        }
        let mut request = self.request();
        request.ifr_ifru.ifru_flags = (flags | libc::IFF_UP) as libc::c_short;
        self.ioctl("ioctl(SIOCSIFFLAGS)", libc::SIOCSIFFLAGS, &mut request)
    }
}

/// Every address of the interface by which the kernel could be reached or would route: all but IPv6 link-local ones.
///
/// # Errors
/// [`DeviceError`] when there is no such interface or the kernel does not answer.
pub fn routable_addresses(device: &str) -> Result<Vec<IpAddr>, DeviceError> {
    const FIXED: usize = 8;
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    let ifindex = Link::open(device)?.ifindex.cast_unsigned();
    let mut addresses = Vec::new();
    let mut collect = |entry: &[u8]| {
        let Some((fixed, attributes)) = entry.split_first_chunk::<FIXED>() else { return };
        let [.., index0, index1, index2, index3] = *fixed;
        if u32::from_ne_bytes([index0, index1, index2, index3]) != ifindex {
            return;
        }
        // On a point-to-point interface the first is the other end's.
        let value =
            attribute(attributes, LOCAL).or_else(|| attribute(attributes, ADDRESS)).unwrap_or_default();
        let address = match (<[u8; 4]>::try_from(value), <[u8; 16]>::try_from(value)) {
            (Ok(bytes), _) => IpAddr::from(Ipv4Addr::from(bytes)),
            (_, Ok(bytes)) => IpAddr::from(Ipv6Addr::from(bytes)),
            _ => return,
        };
        if !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
            addresses.push(address);
        }
    };
    Netlink::open()
        .and_then(|netlink| netlink.dump(libc::RTM_GETADDR, &Message::new(&[0; FIXED]), &mut collect))
        .map_err(|error| DeviceError::call(device, "netlink(RTM_GETADDR)", error, "try again"))?;
    Ok(addresses)
}

/// An interface that the kernel is reached by is not ours to take: holding it would cut the machine off.
pub(crate) fn refuse_addresses(device: &str) -> Result<(), DeviceError> {
    let addresses = routable_addresses(device)?;
    if addresses.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Err(DeviceError::check(
        device,
        "the kernel has addresses on the interface",
        format!(
            "remove {} with `ip addr flush dev {device}` if the interface is meant for the appliance",
            list.join(", ")
        ),
    ))
}

/// The settings by which the kernel forwards packets between interfaces of this network namespace, as `sysctl` names them; empty when
/// it does not forward.
pub fn kernel_forwards() -> Vec<&'static str> {
    const SETTINGS: [(&str, &str); 2] = [
        ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        ("net.ipv6.conf.all.forwarding", "/proc/sys/net/ipv6/conf/all/forwarding"),
    ];
    let is_on = |path: &str| fs::read_to_string(path).is_ok_and(|value| value.trim() != "0");
    SETTINGS.into_iter().filter(|(_, path)| is_on(path)).map(|(name, _)| name).collect()
}
