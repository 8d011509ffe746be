//! Ports by DPDK: physical devices, and everything that DPDK drives besides.
//!
//! [`Eal`] is DPDK's environment, started once in a process. [`MbufPool`] is where frames live ([`Mbuf`]), and [`open`] takes a device
//! over: a PCI address, or a string as for DPDK's option `--vdev`. Each worker has a pair of queues of its own; one call across the
//! language border serves a burst, and everything about a frame is read on the frame itself.
//!
//! Where the kernel keeps an interface to the same device ([`kernel_interfaces`]), the kernel is shut out of it first, as with packet
//! sockets. Segmented frames are never asked for, and one that comes nevertheless is cut and marked as truncated.
//!
//! Built with the feature `dpdk` only.

mod acl;
mod device;
mod eal;
mod error;
mod ffi;
mod interfaces;
mod log;
mod mbuf;
mod memory;
mod pci;
mod pool;
mod rss;
mod rx;
#[cfg(test)]
mod tests;
mod tx;

pub use acl::{Acl, AclKey, AclMethod, AclRule};
pub use eal::{Eal, EalOptions};
pub use error::EalError;
pub use interfaces::kernel_interfaces;
pub use mbuf::Mbuf;
pub use memory::Hugepages;
pub use pci::is_pci_address;
pub use pool::{HEADROOM, MbufOwner, MbufPool};
pub use rss::{End, KEY_BYTES, Spread};
pub use rx::DpdkRx;
pub use tx::DpdkTx;

use crate::ethernet::HEADER_MAX;
use crate::kernel::link::{self, Link, LinkState};
use crate::kernel::{DeviceError, DeviceLock, ingress, lock};
use core::ffi::CStr;
use device::Device;
use std::sync::Arc;

/// How a port is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkOptions {
    /// The longest network packet that will be received or sent, in bytes; `None` takes the device's MTU.
    pub mtu: Option<u16>,
    /// Frames in each receive ring, as near as the device can do. So many may come while a worker is held up.
    pub rx_frames: u16,
    /// Frames in each transmit ring, as near as the device can do.
    pub tx_frames: u16,
    /// How frames are spread over the queues, where there is more than one.
    pub spread: Spread,
}

/// A device that is ours.
#[derive(Debug)]
pub struct DpdkPort {
    /// The device's hardware address.
    pub mac: [u8; 6],
    /// The longest network packet that is sent, in bytes.
    pub mtu: u16,
    /// One receive queue for each pool given.
    pub rx: Vec<DpdkRx>,
    /// As many transmit queues.
    pub tx: Vec<DpdkTx>,
    /// Tells the link's state.
    pub link: DpdkLink,
    /// Entries of the table by which the device spreads frames over the queues as [`Spread`] asks for, entry *i* going to queue
    /// *i* modulo the number of queues. `None` where it does it in another way, or there is one queue.
    pub spread_entries: Option<u16>,
    /// Names of the kernel's interfaces that the kernel was shut out of.
    pub interfaces: Vec<String>,
    /// Keep other instances away from these; to be kept as long as the queues are used.
    pub locks: Vec<DeviceLock>,
    /// The driver, and what it does for us, for people.
    pub description: String,
}

/// Tells the state of a device's link. The device stays open as long as this lives.
#[derive(Debug)]
pub struct DpdkLink {
    device: Arc<Device>,
    /// The kernel's interfaces that a virtual device sends and receives by. Its driver does not look at their links.
    below: Vec<Link>,
}

impl DpdkLink {
    /// Whether frames can pass now.
    ///
    /// # Errors
    /// [`DeviceError`] when the device is gone.
    pub fn state(&self) -> Result<LinkState, DeviceError> {
        // SAFETY: plain numbers.
        let outcome = unsafe { ffi::shim_link(self.device.port()) };
        self.device.check("rte_eth_link_get_nowait", outcome, "the device may have been taken away")?;
        let own = LinkState { up: true, running: outcome == 1 };
        if !own.running {
            return Ok(own);
        }
        // Of several, one that works is enough: a part of a pair may vanish while the device goes on.
        let mut below = self.below.iter().map(Link::state);
        let first = below.next().unwrap_or(Ok(own));
        let works = |state: &Result<LinkState, DeviceError>| matches!(state, Ok(state) if *state == own);
        if works(&first) { Ok(own) } else { below.find(works).unwrap_or(first) }
    }
}

/// Takes a device over, with one pair of queues for each of `pools`: the pools of the workers that will own the queues.
///
/// The order leaves no gap: another instance is excluded first, then the kernel, and no frame is received before everything is set
/// up. The device is closed with the last of its queues and its [`DpdkLink`]; when anything fails, at once. What was done to the kernel's
/// interfaces stays; [`ingress::release`] undoes it.
///
/// # Errors
/// [`DeviceError`] when there is no such device or no driver for it, the kernel drives it, it has fewer queues than there are pools,
/// it does not take the MTU or the pools' frames are too short for it, or DPDK or the kernel refuses.
pub fn open(
    _eal: Eal,
    device: &str,
    options: &DpdkOptions,
    pools: &[MbufPool],
) -> Result<DpdkPort, DeviceError> {
    let interfaces = kernel_interfaces(device);
    let locks = interfaces.iter().map(|name| lock(name)).collect::<Result<Vec<_>, _>>()?;
    for interface in &interfaces {
        link::refuse_addresses(interface)?;
    }
    let mut below = Vec::new();
    for interface in &interfaces {
        ingress::hold(interface)?;
        if !is_pci_address(device) {
            let link = Link::open(interface)?;
            link.set_up()?;
            below.push(link);
        }
    }
    let opened = log::keeping(|| set_up(device, options, pools));
    let (device, Settings { mtu, spread_entries, description }) = opened?;
    let mac = device.mac()?;
    let device = Arc::new(device);
    let queues = 0..pools.len() as u16;
    Ok(DpdkPort {
        mac,
        mtu,
        rx: queues.clone().map(|queue| DpdkRx::new(Arc::clone(&device), queue)).collect(),
        tx: queues.map(|queue| DpdkTx::new(Arc::clone(&device), queue, mtu)).collect(),
        link: DpdkLink { device, below },
        spread_entries,
        interfaces,
        locks,
        description,
    })
}

/// What came of the options.
struct Settings {
    mtu: u16,
    spread_entries: Option<u16>,
    description: String,
}

fn set_up(name: &str, options: &DpdkOptions, pools: &[MbufPool]) -> Result<(Device, Settings), DeviceError> {
    let mut device = Device::find(name)?;
    let info = device.info()?;
    let queues = enough_queues(&device, &info, pools.len())?;
    let driver = driver_name(&info);
    let mtu = match options.mtu {
        Some(mtu) => mtu,
        None => device.mtu()?,
    };
    refuse_mtu(&device, &info, mtu, pools)?;

    let offloads = checksum_offloads(&driver, info.rx_offload_capa);
    let rss = rss::Plan::new(&options.spread, &info, queues);
    // SAFETY: the key in it outlives the call.
    let outcome = unsafe { ffi::shim_configure(device.port(), queues, mtu.into(), offloads, &rss.in_c()) };
    device.check("rte_eth_dev_configure", outcome, "see DPDK's page about the driver")?;
    device.set_mtu(mtu)?;
    let (mut rx_frames, mut tx_frames) = (options.rx_frames, options.tx_frames);
    // SAFETY: two numbers, which are borrowed for the call.
    let outcome =
        unsafe { ffi::rte_eth_dev_adjust_nb_rx_tx_desc(device.port(), &mut rx_frames, &mut tx_frames) };
    device.check("rte_eth_dev_adjust_nb_rx_tx_desc", outcome, "see DPDK's page about the driver")?;
    for (pool, queue) in pools.iter().zip(0..) {
        device.set_up_rx(queue, rx_frames, pool)?;
        device.set_up_tx(queue, tx_frames)?;
    }
    device.start()?;
    // For neighbour discovery. A device without such a filter takes everything.
    // SAFETY: plain numbers.
    unsafe { ffi::rte_eth_allmulticast_enable(device.port()) };
    let spread_entries = rss.take_effect(device.port(), queues);
    let description = describe(&driver, queues, offloads, spread_entries);
    Ok((device, Settings { mtu, spread_entries, description }))
}

fn enough_queues(device: &Device, info: &ffi::rte_eth_dev_info, wanted: usize) -> Result<u16, DeviceError> {
    let most = info.max_rx_queues.min(info.max_tx_queues);
    match u16::try_from(wanted) {
        Ok(queues) if (1..=most).contains(&queues) => Ok(queues),
        _ => Err(device.refused(
            "the device has fewer queues than there are workers",
            format!(
                "run at most {most} (dataplane.workers; there are {wanted}), or give it more, where it has an argument for that \
                 (net_af_packet: qpairs, net_af_xdp: queue_count)"
            ),
        )),
    }
}

/// Refuses an MTU that the device does not do, or whose frames do not fit into one buffer.
fn refuse_mtu(
    device: &Device,
    info: &ffi::rte_eth_dev_info,
    mtu: u16,
    pools: &[MbufPool],
) -> Result<(), DeviceError> {
    if mtu < info.min_mtu || mtu > info.max_mtu {
        return Err(device.refused(
            "the device does not do the MTU",
            format!("configure one from {} to {} (it is {mtu})", info.min_mtu, info.max_mtu),
        ));
    }
    let frame = usize::from(mtu) + HEADER_MAX;
    if let Some(short) = pools.iter().map(MbufPool::data_room).find(|&room| room < frame) {
        return Err(device.refused(
            "frames would not fit into one buffer",
            format!("configure an MTU of at most {} (it is {mtu})", short - HEADER_MAX),
        ));
    }
    Ok(())
}

/// The checksums that the device is to verify: those that it offers.
///
/// Not on virtio and vhost, where asking means that the other side need not have computed them: to them "good" is a frame that never
/// left the host.
fn checksum_offloads(driver: &str, offered: u64) -> u64 {
    if driver.contains("virtio") || driver.contains("vhost") {
        return 0;
    }
    offered & (ffi::SHIM_OFFLOAD_IPV4 | ffi::SHIM_OFFLOAD_TCP | ffi::SHIM_OFFLOAD_UDP)
}

fn driver_name(info: &ffi::rte_eth_dev_info) -> String {
    if info.driver_name.is_null() {
        return "unknown".into();
    }
    // SAFETY: a string of the driver's, which lives as long as it is loaded.
    unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
}

/// One line about the port.
fn describe(driver: &str, queues: u16, offloads: u64, spread_entries: Option<u16>) -> String {
    let checksums: Vec<&str> = [("TCP", ffi::SHIM_OFFLOAD_TCP), ("UDP", ffi::SHIM_OFFLOAD_UDP)]
        .into_iter()
        .filter(|(_, bit)| offloads & bit != 0)
        .map(|(name, _)| name)
        .collect();
    let checksums = if checksums.is_empty() {
        "no checksums verified".into()
    } else {
        format!("{} checksums verified", checksums.join(" and "))
    };
    let spread = match (queues, spread_entries) {
        (1, _) => String::from("1 queue"),
        (_, Some(entries)) => format!("{queues} queues steered by address over {entries} entries"),
        (_, None) => format!("{queues} queues steered in the device's own way"),
    };
    format!("{driver}, {spread}, {checksums}")
}
