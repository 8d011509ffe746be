//! A device of DPDK's from the moment it is found until it is closed.

use super::error::failed;
use super::interfaces::split;
use super::{MbufPool, ffi, pci};
use crate::kernel::DeviceError;
use core::ffi::{CStr, c_char};
use core::mem;
use std::ffi::CString;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How old what a device counted may be: asking some takes as long as a thousand packets.
const LOSSES_EVERY: Duration = Duration::from_millis(50);
/// Bytes of a port's name (`RTE_ETH_NAME_MAX_LEN`).
const NAME_MAX: usize = 64;

/// A device that is ours, closed with the last of its queues.
#[derive(Debug)]
pub(super) struct Device {
    /// What it was opened as.
    name: String,
    port: u16,
    /// It came into being for us and goes with us.
    is_plugged: bool,
    /// Its receive queues hold buffers of these.
    pools: Vec<MbufPool>,
    is_started: bool,
    losses: Mutex<Counted>,
}

/// What a device lost, all queues together, since it was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    pub(super) rx_missed: u64,
    pub(super) rx_no_buffer: u64,
    pub(super) rx_errors: u64,
    pub(super) tx_errors: u64,
}

#[derive(Debug, Default)]
struct Counted {
    /// What the device had counted before.
    before: Losses,
    asked: Option<Instant>,
    since: Losses,
}

/// The ports that are open here. Whoever changes DPDK's lists of devices holds this, as nothing else protects them.
static OPEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());

fn open_ports() -> MutexGuard<'static, Vec<u16>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// Finds a device among those that are there, or has DPDK look for it.
    ///
    /// # Errors
    /// [`DeviceError`] when there is none, or no driver takes it.
    pub(super) fn find(name: &str) -> Result<Self, DeviceError> {
        if pci::is_pci_address(name) {
            pci::check(name)?;
        }
        let mut open = open_ports();
        let there = ports();
        let (wanted, _) = split(name);
        let (port, is_plugged) = match there.iter().find(|&&port| is_called(port, wanted)) {
            Some(port) if open.contains(port) => {
                return Err(DeviceError::check(
                    name,
                    "a port has this device already",
                    "give each port a device of its own, such as net_ring0 and net_ring1",
                ));
            }
            Some(&port) => (port, false),
            None => (probe(name, wanted, &there)?, true),
        };
        open.push(port);
        Ok(Self {
            name: name.to_owned(),
            port,
            is_plugged: is_plugged && is_called(port, wanted),
            pools: Vec::new(),
            is_started: false,
            losses: Mutex::default(),
        })
    }

    /// DPDK's number of the port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Turns DPDK's outcome into ours.
    pub(super) fn check(
        &self,
        call: &'static str,
        outcome: i32,
        remedy: &'static str,
    ) -> Result<(), DeviceError> {
        if outcome < 0 { Err(failed(&self.name, call, outcome, remedy)) } else { Ok(()) }
    }

    /// An error of a check of our own.
    pub(super) fn refused(&self, check: &'static str, remedy: impl Into<String>) -> DeviceError {
        DeviceError::check(&self.name, check, remedy.into())
    }

    /// What the device can do.
    pub(super) fn info(&self) -> Result<ffi::rte_eth_dev_info, DeviceError> {
        info(self.port).map_err(|code| {
            failed(&self.name, "rte_eth_dev_info_get", code, "see DPDK's page about the driver")
        })
    }

    /// The port's hardware address.
    pub(super) fn mac(&self) -> Result<[u8; 6], DeviceError> {
        let mut mac = ffi::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: fills in the structure, which is borrowed for the call.
        let outcome = unsafe { ffi::rte_eth_macaddr_get(self.port, &mut mac) };
        self.check("rte_eth_macaddr_get", outcome, "see DPDK's page about the driver")?;
        Ok(mac.addr_bytes)
    }

    /// The longest network packet that the device takes now, in bytes.
    pub(super) fn mtu(&self) -> Result<u16, DeviceError> {
        let mut mtu = 0;
        // SAFETY: fills in the number, which is borrowed for the call.
        let outcome = unsafe { ffi::rte_eth_dev_get_mtu(self.port, &mut mtu) };
        self.check("rte_eth_dev_get_mtu", outcome, "configure the port's MTU")?;
        Ok(mtu)
    }

    /// Sees to it that the device takes network packets of this length. Some can only be told here, others only when configured.
    pub(super) fn set_mtu(&self, mtu: u16) -> Result<(), DeviceError> {
        // SAFETY: plain numbers.
        match unsafe { ffi::rte_eth_dev_set_mtu(self.port, mtu) } {
            code if code == -libc::ENOTSUP && self.mtu()? >= mtu => Ok(()),
            code => self.check(
                "rte_eth_dev_set_mtu",
                code,
                "configure an MTU that the device and its driver can do",
            ),
        }
    }

    /// Gives the queue of this number buffers to receive into.
    pub(super) fn set_up_rx(&mut self, queue: u16, frames: u16, pool: &MbufPool) -> Result<(), DeviceError> {
        self.pools.push(pool.clone());
        // SAFETY: the pool is held by this device until it is closed; the socket's number may be anything.
        let outcome =
            unsafe { ffi::rte_eth_rx_queue_setup(self.port, queue, frames, 0, ptr::null(), pool.raw()) };
        self.check(
            "rte_eth_rx_queue_setup",
            outcome,
            "give DPDK more memory, or see its page about the driver",
        )
    }

    /// Sets a queue to send with up.
    pub(super) fn set_up_tx(&self, queue: u16, frames: u16) -> Result<(), DeviceError> {
        // SAFETY: plain numbers, and the driver's own choice of everything else.
        let outcome = unsafe { ffi::rte_eth_tx_queue_setup(self.port, queue, frames, 0, ptr::null()) };
        self.check(
            "rte_eth_tx_queue_setup",
            outcome,
            "give DPDK more memory, or see its page about the driver",
        )
    }

    /// Lets frames in and out.
    pub(super) fn start(&mut self) -> Result<(), DeviceError> {
        // SAFETY: all queues are set up.
        let outcome = unsafe { ffi::rte_eth_dev_start(self.port) };
        let remedy = if self.name.starts_with("net_memif") {
            "start the other end first where this one is the client, and see that it has the same id and socket"
        } else {
            "see DPDK's page about the driver"
        };
        self.check("rte_eth_dev_start", outcome, remedy)?;
        self.is_started = true;
        let before = self.counted();
        self.losses = Mutex::new(Counted { before, ..Counted::default() });
        Ok(())
    }

    fn counted(&self) -> Losses {
        // SAFETY: a structure of integers, for which zero is a value.
        let mut stats: ffi::rte_eth_stats = unsafe { mem::zeroed() };
        // SAFETY: fills in the structure, which is borrowed for the call. A device that does not count leaves it as it is.
        unsafe { ffi::rte_eth_stats_get(self.port, &mut stats) };
        Losses {
            rx_missed: stats.imissed,
            rx_no_buffer: stats.rx_nombuf,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
        }
    }

    /// What the device lost until a moment ago.
    pub(super) fn losses(&self) -> Losses {
        let mut counted = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if counted.asked.is_none_or(|asked| now.duration_since(asked) >= LOSSES_EVERY) {
            let (all, before) = (self.counted(), counted.before);
            counted.asked = Some(now);
            counted.since = Losses {
                rx_missed: all.rx_missed.saturating_sub(before.rx_missed),
                rx_no_buffer: all.rx_no_buffer.saturating_sub(before.rx_no_buffer),
                rx_errors: all.rx_errors.saturating_sub(before.rx_errors),
                tx_errors: all.tx_errors.saturating_sub(before.tx_errors),
            };
        }
        counted.since
    }

    /// Gives back what has been received and not been taken: some drivers do not when they are closed.
    fn drain(&self) {
        for queue in 0..self.pools.len() as u16 {
            let mut frames = [ptr::null_mut(); crate::BURST];
            for _ in 0..DRAIN_BURSTS_MAX {
                // SAFETY: the queue is set up and started, and nobody else has a handle to the device any more.
                let count =
                    unsafe { ffi::shim_rx_burst(self.port, queue, frames.as_mut_ptr(), crate::BURST as u16) };
                for frame in frames.iter().take(count.into()) {
                    // SAFETY: just received, and not kept.
                    unsafe { ffi::shim_free(*frame) };
                }
                if count == 0 {
                    break;
                }
            }
        }
    }
}

/// As many as a ring of the largest size may hold.
const DRAIN_BURSTS_MAX: usize = 128;

impl Drop for Device {
    fn drop(&mut self) {
        let mut open = open_ports();
        if self.is_started {
            self.drain();
            // SAFETY: nobody has a handle to its queues any more.
            unsafe { ffi::rte_eth_dev_stop(self.port) };
        }
        let device = info(self.port).map_or(ptr::null_mut(), |info| info.device);
        // SAFETY: stopped or never started. Afterwards the pools, which this holds, are no longer used by it.
        unsafe { ffi::rte_eth_dev_close(self.port) };
        if self.is_plugged && !device.is_null() {
            // SAFETY: the device is there until this call, as it came with the port.
            unsafe { ffi::rte_dev_remove(device) };
        }
        open.retain(|&port| port != self.port);
    }
}

/// The numbers of the ports that no other device has for itself.
fn ports() -> Vec<u16> {
    let mut ports = Vec::new();
    let mut next = 0;
    loop {
        // SAFETY: any number may be asked for.
        let port = unsafe { ffi::rte_eth_find_next_owned_by(next, ffi::SHIM_NO_OWNER) };
        match u16::try_from(port) {
            Ok(port) if port < ffi::SHIM_PORTS_MAX => ports.push(port),
            _ => return ports,
        }
        next = port as u16 + 1;
    }
}

/// Whether a port, or the device behind it, has this name.
fn is_called(port: u16, name: &str) -> bool {
    let mut own: [c_char; NAME_MAX] = [0; NAME_MAX];
    // SAFETY: writes a string of at most so many bytes, the zero included.
    if unsafe { ffi::rte_eth_dev_get_name_by_port(port, own.as_mut_ptr()) } == 0 {
        // SAFETY: zero-terminated by the call, or all zero.
        let own = unsafe { CStr::from_ptr(own.as_ptr()) };
        if own.to_bytes() == name.as_bytes() {
            return true;
        }
    }
    let Ok(info) = info(port) else { return false };
    // SAFETY: the structure was filled in for a port that is there.
    let device = unsafe { ffi::shim_device_name(&info) };
    // SAFETY: a string of the device's, which is there.
    !device.is_null() && unsafe { CStr::from_ptr(device) }.to_bytes() == name.as_bytes()
}

/// What a port can do, or the error number.
fn info(port: u16) -> Result<ffi::rte_eth_dev_info, i32> {
    // SAFETY: a structure of integers and pointers, for which zero is a value.
    let mut info: ffi::rte_eth_dev_info = unsafe { mem::zeroed() };
    // SAFETY: fills in the structure, which is borrowed for the call.
    let outcome = unsafe { ffi::rte_eth_dev_info_get(port, &mut info) };
    if outcome < 0 { Err(outcome) } else { Ok(info) }
}

/// Has DPDK look for a device, and returns its port. `there` are the ports from before.
fn probe(name: &str, wanted: &str, there: &[u16]) -> Result<u16, DeviceError> {
    let words = CString::new(name)
        .map_err(|_| DeviceError::check(name, "the device's name contains a zero byte", "remove it"))?;
    // SAFETY: a string that outlives the call.
    let outcome = unsafe { ffi::rte_dev_probe(words.as_ptr()) };
    if outcome < 0 {
        return Err(failed(name, "rte_dev_probe", outcome, remedy(wanted, -outcome)));
    }
    // By its name, or, where a device brings another one forth (net_vdev_netvsc), by being new.
    let now = ports();
    let found = now.iter().find(|&&port| is_called(port, wanted));
    found.or_else(|| now.iter().find(|port| !there.contains(port))).copied().ok_or_else(|| {
        DeviceError::check(name, "the device has no port", "name a network device, not one of another kind")
    })
}

/// What to do about a device that is not there for DPDK.
fn remedy(wanted: &str, code: i32) -> String {
    let driver = wanted.trim_end_matches(|last: char| last.is_ascii_digit());
    match code {
        libc::ENODEV | libc::EINVAL | libc::ENOENT | libc::EFAULT if driver.starts_with("net_") => {
            let package = driver.replacen("net_", "librte-net-", 1).replace('_', "-");
            format!(
                "check its name and arguments, and that its driver is installed (Debian: `apt install {package}23`)"
            )
        }
        libc::EPERM | libc::EACCES => "run as root".into(),
        libc::EEXIST => "give each port a device of its own".into(),
        _ => "check its name and arguments on DPDK's page about the driver".into(),
    }
}
