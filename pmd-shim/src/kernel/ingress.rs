//! Keeping the kernel from answering or forwarding what a port received.
//!
//! A packet socket sees a copy; the kernel goes on with the packet. What stops it is a filter at the interface's ingress, which
//! comes after the packet taps and before everything else: a classic BPF program of two instructions, in the `clsact`
//! queueing discipline, that drops whatever it gets. It belongs to the interface, not to the process, so it stays when the
//! process ends, in whatever way, until [`release`] takes it away. IPv6 is switched off on the interface as long.
//!
//! The program's first instruction loads a constant that nothing uses: it marks the filter as ours and remembers what
//! [`release`] has to restore.

use super::link::Link;
use super::netlink::{Message, Netlink, attribute};
use super::{DeviceError, ipv6};
use std::io;

/// Handle of the `clsact` queueing discipline; its parent, and the parents of ingress and egress filters (`linux/pkt_sched.h`).
const CLSACT_HANDLE: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// First in line, for all protocols (`ETH_P_ALL` in network byte order).
const PRIORITY_AND_PROTOCOL: u32 = 1 << 16 | (libc::ETH_P_ALL as u16).to_be() as u32;
/// The handle of our filter; any number that others are unlikely to choose.
const FILTER_HANDLE: u32 = 0x6e76_6101;

/// Attributes of a BPF filter (`linux/pkt_cls.h`).
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAGS_GEN: u16 = 9;
/// The program's result is the verdict.
const ACT_DIRECT: u32 = 1;
/// Not to be handed to hardware, where taps would see nothing.
const SKIP_HW: u32 = 1;
const TC_ACT_SHOT: u32 = 2;
/// Classic BPF: load a constant, return a constant.
const LOAD_IMMEDIATE: u16 = 0x00;
const RETURN: u16 = 0x06;

/// Upper bits of the constant that marks the filter as ours.
const MAGIC: u32 = 0x6e76_6100;
const MAGIC_MASK: u32 = 0xffff_ff00;
/// IPv6 was on before the filter was put there.
const RESTORE_IPV6: u32 = 1;
/// The queueing discipline was not there before.
const REMOVE_CLSACT: u32 = 2;

const REMEDY: &str = "the kernel needs CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF and CONFIG_NET_CLS_ACT";

/// Puts the drop at the interface's ingress and switches IPv6 off on it. Does nothing twice.
///
/// # Errors
/// [`DeviceError`] when there is no such interface or the kernel refuses.
pub fn hold(device: &str) -> Result<(), DeviceError> {
    let tc = Tc::open(device)?;
    if tc.find()?.is_none() {
        let mut remembered = 0;
        if !ipv6::is_disabled(device).map_err(|error| tc.sysctl(error))? {
            remembered |= RESTORE_IPV6;
        }
        if tc.add_clsact()? {
            remembered |= REMOVE_CLSACT;
        }
        tc.add_filter(remembered)?;
    }
    ipv6::set_disabled(device, true).map_err(|error| tc.sysctl(error))
}

/// Takes the drop away and restores what [`hold`] changed; nothing else at the interface is touched. Does nothing where nothing is held.
///
/// # Errors
/// [`DeviceError`] when there is no such interface or the kernel refuses.
pub fn release(device: &str) -> Result<(), DeviceError> {
    let tc = Tc::open(device)?;
    let Some(remembered) = tc.find()? else { return Ok(()) };
    tc.remove_filter()?;
    if remembered & REMOVE_CLSACT != 0 && tc.is_unused()? {
        tc.remove_clsact()?;
    }
    if remembered & RESTORE_IPV6 != 0 {
        ipv6::set_disabled(device, false).map_err(|error| tc.sysctl(error))?;
    }
    Ok(())
}

/// Whether the drop is at the interface's ingress.
///
/// # Errors
/// [`DeviceError`] when there is no such interface or the kernel does not answer.
pub fn is_held(device: &str) -> Result<bool, DeviceError> {
    Ok(Tc::open(device)?.find()?.is_some())
}

/// Traffic control of one interface.
struct Tc<'a> {
    device: &'a str,
    ifindex: i32,
    netlink: Netlink,
}

impl<'a> Tc<'a> {
    fn open(device: &'a str) -> Result<Self, DeviceError> {
        let ifindex = Link::open(device)?.ifindex();
        let netlink = Netlink::open().map_err(|error| {
            DeviceError::call(device, "socket(AF_NETLINK)", error, "raise the limit of open files")
        })?;
        Ok(Self { device, ifindex, netlink })
    }

    fn error(&self, call: &'static str) -> impl FnOnce(io::Error) -> DeviceError {
        move |error| DeviceError::call(self.device, call, error, REMEDY)
    }

    fn sysctl(&self, error: io::Error) -> DeviceError {
        DeviceError::call(self.device, "writing disable_ipv6", error, "/proc/sys must be writable")
    }

    /// The fixed part of every message (`struct tcmsg`).
    fn message(&self, parent: u32, handle: u32, info: u32) -> Message {
        let mut fixed = [0; 20];
        let words = [0, self.ifindex.cast_unsigned(), handle, parent, info];
        for (to, word) in fixed.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        Message::new(&fixed)
    }

    /// Returns false if one was there already.
    fn add_clsact(&self) -> Result<bool, DeviceError> {
        let message = self.message(CLSACT_PARENT, CLSACT_HANDLE, 0).attribute(libc::TCA_KIND, b"clsact\0");
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        match self.netlink.change(libc::RTM_NEWQDISC, flags, &message) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(self.error("netlink(RTM_NEWQDISC clsact)")(error)),
        }
    }

    fn remove_clsact(&self) -> Result<(), DeviceError> {
        let message = self.message(CLSACT_PARENT, CLSACT_HANDLE, 0);
        self.netlink
            .change(libc::RTM_DELQDISC, 0, &message)
            .map_err(self.error("netlink(RTM_DELQDISC clsact)"))
    }

    fn add_filter(&self, remembered: u32) -> Result<(), DeviceError> {
        let program = program(MAGIC | remembered);
        let options = Message::default()
            .attribute(TCA_BPF_OPS_LEN, &2u16.to_ne_bytes())
            .attribute(TCA_BPF_OPS, &program)
            .attribute(TCA_BPF_FLAGS, &ACT_DIRECT.to_ne_bytes())
            .attribute(TCA_BPF_FLAGS_GEN, &SKIP_HW.to_ne_bytes());
        let message = self
            .message(INGRESS, FILTER_HANDLE, PRIORITY_AND_PROTOCOL)
            .attribute(libc::TCA_KIND, b"bpf\0")
            .nested(libc::TCA_OPTIONS, options);
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.netlink.change(libc::RTM_NEWTFILTER, flags, &message).map_err(|error| {
            match error.raw_os_error() {
                // Another kind of filter has our place, or another filter our number.
                Some(libc::EINVAL | libc::EEXIST) => DeviceError::call(
                    self.device,
                    "netlink(RTM_NEWTFILTER)",
                    error,
                    "remove the ingress filter of priority 1 that `tc filter show dev DEVICE ingress` lists",
                ),
                _ => self.error("netlink(RTM_NEWTFILTER)")(error),
            }
        })
    }

    fn remove_filter(&self) -> Result<(), DeviceError> {
        let message =
            self.message(INGRESS, FILTER_HANDLE, PRIORITY_AND_PROTOCOL).attribute(libc::TCA_KIND, b"bpf\0");
        self.netlink.change(libc::RTM_DELTFILTER, 0, &message).map_err(self.error("netlink(RTM_DELTFILTER)"))
    }

    /// Calls `each` for every filter of a parent, with its handle, its priority and protocol, and its attributes.
    fn filters(&self, parent: u32, mut each: impl FnMut(u32, u32, &[u8])) -> Result<(), DeviceError> {
        let outcome = self.netlink.dump(libc::RTM_GETTFILTER, &self.message(parent, 0, 0), |entry| {
            let Some((fixed, attributes)) = entry.split_first_chunk::<20>() else { return };
            let word = |at: usize| {
                fixed
                    .get(at..)
                    .and_then(|rest| rest.first_chunk())
                    .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
            };
            // The kernel lists every priority once on its own, with handle 0.
            if word(8) != 0 {
                each(word(8), word(16), attributes);
            }
        });
        match outcome {
            // There is no queueing discipline that could have filters.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            outcome => outcome.map_err(self.error("netlink(RTM_GETTFILTER)")),
        }
    }

    /// Looks for our filter; returns what it remembers.
    fn find(&self) -> Result<Option<u32>, DeviceError> {
        let mut found = None;
        self.filters(INGRESS, |handle, info, attributes| {
            let options = attribute(attributes, libc::TCA_OPTIONS).unwrap_or_default();
            let constant = attribute(options, TCA_BPF_OPS).and_then(constant_of);
            if handle == FILTER_HANDLE && info == PRIORITY_AND_PROTOCOL {
                found = found.or(constant);
            }
        })?;
        Ok(found.map(|constant| constant & !MAGIC_MASK))
    }

    /// No filter uses the queueing discipline.
    fn is_unused(&self) -> Result<bool, DeviceError> {
        let mut count = 0;
        self.filters(INGRESS, |_, _, _| count += 1)?;
        self.filters(EGRESS, |_, _, _| count += 1)?;
        Ok(count == 0)
    }
}

/// Two instructions (`struct sock_filter`): load the constant, drop the packet.
fn program(constant: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    let instructions = [(LOAD_IMMEDIATE, constant), (RETURN, TC_ACT_SHOT)];
    for (to, (code, operand)) in bytes.chunks_exact_mut(8).zip(instructions) {
        let (head, tail) = to.split_at_mut(4);
        head.copy_from_slice(&[code.to_ne_bytes(), [0, 0]].concat());
        tail.copy_from_slice(&operand.to_ne_bytes());
    }
    bytes
}

/// The constant of a program, if it is one of ours.
fn constant_of(bytes: &[u8]) -> Option<u32> {
    let constant = u32::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    (constant & MAGIC_MASK == MAGIC && bytes == program(constant)).then_some(constant)
}
