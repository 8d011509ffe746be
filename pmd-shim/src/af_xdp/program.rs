//! The XDP program at an interface: what is attached, putting ours there without a gap, and taking it away.
//!
//! It is attached by netlink, so it belongs to the interface and not to the process: when the process ends without a clean stop, it goes
//! on dropping what the interface receives. The next start replaces it in one step.

use super::redirect::PROGRAM_NAME;
use super::unbound::explained;
use crate::bpf::Program;
use crate::kernel::DeviceError;
use crate::kernel::link::Link;
use crate::kernel::netlink::{self, Message, Netlink, attribute};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Attributes of an interface (`linux/if_link.h`).
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_EXPECTED_FD: u16 = 8;
/// Only if nothing is attached; or only in place of the expected program.
const FLAG_IF_NONE: u32 = 1;
const FLAG_REPLACE: u32 = 1 << 4;

const NEEDS: &str = "needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, and CAP_SYS_ADMIN to take over from a program that is there; run as root";

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the kernel makes anything of a frame.
    Driver,
    /// In the kernel's generic path, for drivers that cannot do it: slower.
    Generic,
    /// On the network card.
    Hardware,
}

impl XdpMode {
    fn from_attribute(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Driver),
            2 => Some(Self::Generic),
            3 => Some(Self::Hardware),
            _ => None,
        }
    }

    fn flag(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Driver => 1 << 2,
            Self::Hardware => 1 << 3,
        }
    }
}

/// A program that is attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// Its number, as `bpftool prog show` has it.
    pub id: u32,
    /// Its name; empty if it has none, `None` if this process may not ask (which takes `CAP_SYS_ADMIN`).
    pub name: Option<String>,
    /// Where it runs.
    pub mode: XdpMode,
}

impl AttachedProgram {
    /// The program is one that a port put there.
    pub fn is_ours(&self) -> bool {
        self.name.as_deref() == Some(PROGRAM_NAME)
    }
}

/// The XDP program at the interface, if there is one.
///
/// # Errors
/// [`DeviceError`] when there is no such interface, the kernel does not answer, or several programs are attached in different places.
pub fn attached(device: &str) -> Result<Option<AttachedProgram>, DeviceError> {
    Slot::open(&Link::open(device)?)?.attached()
}

/// Takes away a program that a port left behind. Returns whether there was one; another's program is left alone.
///
/// # Errors
/// [`DeviceError`] when there is no such interface or the kernel refuses.
pub fn detach(device: &str) -> Result<bool, DeviceError> {
    let slot = Slot::open(&Link::open(device)?)?;
    let Some(program) = slot.attached()?.filter(AttachedProgram::is_ours) else { return Ok(false) };
    let fd = slot.program(program.id)?;
    slot.set(None, program.mode.flag() | FLAG_REPLACE, Some(fd.as_fd()))
        .map_err(|error| slot.refused(error, "detach it with `ip link set dev DEVICE xdp off`"))?;
    Ok(true)
}

/// Our program at an interface, taken away on drop.
#[derive(Debug)]
pub struct XdpGuard {
    slot: Slot,
    program: Program,
    mode: XdpMode,
}

impl XdpGuard {
    pub(super) fn mode(&self) -> XdpMode {
        self.mode
    }
}

impl Drop for XdpGuard {
    fn drop(&mut self) {
        // Fails if the interface is gone, or another program has taken its place.
        let _ = self.slot.set(None, self.mode.flag() | FLAG_REPLACE, Some(self.program.as_fd()));
    }
}

/// Attaches the program: in the driver if it can, or in place of the one that an earlier instance left behind, in one step. The second
/// result is why the driver could not.
pub(super) fn attach(link: &Link, program: Program) -> Result<(XdpGuard, Option<io::Error>), DeviceError> {
    let slot = Slot::open(link)?;
    let guard = |slot, program, mode| XdpGuard { slot, program, mode };
    if let Some(there) = slot.attached()? {
        if !there.is_ours() {
            return Err(slot.foreign(&there));
        }
        let expected = slot.program(there.id)?;
        let flags = there.mode.flag() | FLAG_REPLACE;
        slot.set(Some(program.as_fd()), flags, Some(expected.as_fd()))
            .map_err(|error| slot.refused(error, "another program was attached meanwhile: try again"))?;
        return Ok((guard(slot, program, there.mode), None));
    }
    let driver = XdpMode::Driver;
    let Err(error) = slot.set(Some(program.as_fd()), driver.flag() | FLAG_IF_NONE, None) else {
        return Ok((guard(slot, program, driver), None));
    };
    let fatal = [libc::EPERM, libc::EACCES, libc::EEXIST, libc::EBUSY, libc::ENODEV];
    if netlink::errno(&error).is_none_or(|errno| fatal.contains(&errno)) {
        return Err(slot.refused(error, "another program was attached meanwhile: try again"));
    }
    let generic = XdpMode::Generic;
    slot.set(Some(program.as_fd()), generic.flag() | FLAG_IF_NONE, None)
        .map_err(|error| slot.refused(error, "use the af_packet driver on this device"))?;
    Ok((guard(slot, program, generic), Some(error)))
}

/// Refuses an interface at which another's program is.
pub(super) fn refuse_foreign(link: &Link) -> Result<(), DeviceError> {
    let slot = Slot::open(link)?;
    match slot.attached()? {
        Some(there) if !there.is_ours() => Err(slot.foreign(&there)),
        _ => Ok(()),
    }
}

/// A failure of bpf(2).
pub(super) fn bpf_error(device: &str, call: &'static str, error: io::Error) -> DeviceError {
    // By its kind, as the verifier's words may have been added to it.
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => NEEDS,
        io::ErrorKind::Unsupported => "the kernel needs CONFIG_BPF_SYSCALL; use the af_packet driver instead",
        io::ErrorKind::InvalidInput => {
            "the kernel needs CONFIG_XDP_SOCKETS; use the af_packet driver instead"
        }
        _ => "free memory",
    };
    explained(device, call, error, remedy)
}

/// The place of an interface where an XDP program can be.
#[derive(Debug)]
struct Slot {
    device: String,
    ifindex: i32,
    /// In the interface's network namespace, also when the guard is dropped elsewhere.
    netlink: Netlink,
}

impl Slot {
    fn open(link: &Link) -> Result<Self, DeviceError> {
        let netlink = Netlink::open().map_err(|error| {
            DeviceError::call(link.device(), "socket(AF_NETLINK)", error, "raise the limit of open files")
        })?;
        netlink.ask_for_reasons();
        Ok(Self { device: link.device().to_owned(), ifindex: link.ifindex(), netlink })
    }

    /// The fixed part of every message (`struct ifinfomsg`).
    fn message(&self) -> Message {
        let mut fixed = [0; 16];
        fixed[4..8].copy_from_slice(&self.ifindex.to_ne_bytes());
        Message::new(&fixed)
    }

    fn attached(&self) -> Result<Option<AttachedProgram>, DeviceError> {
        let (mut place, mut id) = (0, None);
        let read = |body: &[u8]| {
            let attributes = body.get(16..).unwrap_or_default();
            let xdp = attribute(attributes, IFLA_XDP).unwrap_or_default();
            place = attribute(xdp, IFLA_XDP_ATTACHED).and_then(|value| value.first().copied()).unwrap_or(0);
            let number = attribute(xdp, IFLA_XDP_PROG_ID).and_then(|value| value.first_chunk());
            id = number.map(|bytes| u32::from_ne_bytes(*bytes));
        };
        self.netlink.get(libc::RTM_GETLINK, &self.message(), read).map_err(|error| {
            DeviceError::call(
                &self.device,
                "netlink(RTM_GETLINK)",
                error,
                "check the interface with `ip link`",
            )
        })?;
        if place == 0 {
            return Ok(None);
        }
        let (Some(mode), Some(id)) = (XdpMode::from_attribute(place), id) else {
            return Err(DeviceError::check(
                &self.device,
                "several XDP programs are attached to the interface",
                format!(
                    "detach them with `ip link set dev {0} xdpdrv off` and `ip link set dev {0} xdpgeneric off`",
                    self.device
                ),
            ));
        };
        let name = Program::by_id(id).and_then(|program| program.name()).ok();
        Ok(Some(AttachedProgram { id, name, mode }))
    }

    /// The program of this number.
    fn program(&self, id: u32) -> Result<Program, DeviceError> {
        Program::by_id(id).map_err(|error| bpf_error(&self.device, "bpf(BPF_PROG_GET_FD_BY_ID)", error))
    }

    /// Attaches or, without a program, detaches.
    fn set(
        &self,
        program: Option<BorrowedFd<'_>>,
        flags: u32,
        expected: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let fd = program.map_or(-1, |program| program.as_raw_fd());
        let mut xdp = Message::default()
            .attribute(IFLA_XDP_FD, &fd.to_ne_bytes())
            .attribute(IFLA_XDP_FLAGS, &flags.to_ne_bytes());
        if let Some(expected) = expected {
            xdp = xdp.attribute(IFLA_XDP_EXPECTED_FD, &expected.as_raw_fd().to_ne_bytes());
        }
        const NESTED: u16 = 1 << 15;
        self.netlink.change(libc::RTM_SETLINK, 0, &self.message().nested(IFLA_XDP | NESTED, xdp))
    }

    fn refused(&self, error: io::Error, remedy: &'static str) -> DeviceError {
        let remedy = match netlink::errno(&error) {
            Some(libc::EPERM | libc::EACCES) => NEEDS.to_owned(),
            _ => remedy.replace("DEVICE", &self.device),
        };
        explained(&self.device, "netlink(RTM_SETLINK IFLA_XDP)", error, remedy)
    }

    fn foreign(&self, program: &AttachedProgram) -> DeviceError {
        let name = match program.name.as_deref() {
            None => "only CAP_SYS_ADMIN may ask for its name: grant that if an earlier instance left it"
                .to_owned(),
            Some("") => "without a name".to_owned(),
            Some(name) => format!("`{name}`"),
        };
        DeviceError::check(
            &self.device,
            "another XDP program is attached to the interface",
            format!(
                "stop what attached program {} ({name}), or detach it with `ip link set dev {} xdp off`",
                program.id, self.device
            ),
        )
    }
}
