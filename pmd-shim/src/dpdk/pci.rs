//! Whether a PCI device is one that DPDK can drive as it is now.

use crate::kernel::DeviceError;
use std::fs;
use std::path::Path;

/// Drivers of the kernel that give a device to user space.
const FOR_USER_SPACE: [&str; 4] = ["vfio-pci", "uio_pci_generic", "igb_uio", "uio_hv_generic"];
/// Drivers of the kernel beside which DPDK's work: the device stays bound to them.
const SHARED: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

/// Whether a device string is a PCI address, with its domain (`0000:3b:00.0`) or without (`3b:00.0`), arguments or not.
pub fn is_pci_address(device: &str) -> bool {
    let (name, _) = super::interfaces::split(device);
    let is_hex = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let Some((rest, function)) = name.rsplit_once('.') else { return false };
    let mut parts = rest.rsplit(':');
    let slot = parts.next().is_some_and(|part| is_hex(part, 2));
    let bus = parts.next().is_some_and(|part| is_hex(part, 2));
    let domain = parts.next().is_none_or(|part| is_hex(part, 8));
    slot && bus && domain && parts.next().is_none() && matches!(function.as_bytes(), [b'0'..=b'7'])
}

/// Class of a network controller (PCI Code and ID Assignment, 1.3).
const NETWORK_CLASS: &str = "0x02";

/// Refuses an address where there is nothing, what is no network device, and a device that the kernel drives by itself.
pub(super) fn check(device: &str) -> Result<(), DeviceError> {
    check_in(Path::new("/sys/bus/pci/devices"), device)
}

fn check_in(devices: &Path, device: &str) -> Result<(), DeviceError> {
    let (name, _) = super::interfaces::split(device);
    let address =
        if name.matches(':').count() == 1 { format!("0000:{name}") } else { name.to_ascii_lowercase() };
    let folder = devices.join(&address);
    if !folder.exists() {
        return Err(DeviceError::check(
            device,
            "there is no PCI device at this address",
            "list them with `dpdk-devbind.py --status-dev net`",
        ));
    }
    let class = fs::read_to_string(folder.join("class"));
    if class.is_ok_and(|class| !class.starts_with(NETWORK_CLASS)) {
        return Err(DeviceError::check(
            device,
            "the device at this address is no network device",
            "list those with `dpdk-devbind.py --status-dev net`",
        ));
    }
    let driver = fs::read_link(folder.join("driver")).ok();
    let driver = driver.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    match driver {
        Some(driver) if FOR_USER_SPACE.contains(&driver) || SHARED.contains(&driver) => Ok(()),
        Some(driver) => Err(DeviceError::check(
            device,
            "the device is bound to a driver of the kernel",
            format!(
                "take it from {driver} with `dpdk-devbind.py --bind=vfio-pci {address}`, or for good with `driverctl set-override {address} vfio-pci`"
            ),
        )),
        None => Err(DeviceError::check(
            device,
            "the device is bound to no driver",
            format!("load vfio-pci and bind it with `dpdk-devbind.py --bind=vfio-pci {address}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn knows_an_address() {
        for address in ["0000:3b:00.0", "3b:00.1", "10001:00:02.7", "0000:AF:1f.0,class=eth"] {
            assert!(is_pci_address(address), "{address}");
        }
        for other in ["net_null0", "eth0", "00.0", "0000:3b:00.8", "0000:3b:00", "a:b:c:d.0", "", ".0", ":.1"]
        {
            assert!(!is_pci_address(other), "{other}");
        }
    }

    #[test]
    fn a_device_of_the_kernels_is_refused_with_the_way_to_take_it() {
        let devices = std::env::temp_dir().join(format!("pmd-shim-pci-{}", std::process::id()));
        let _ = fs::remove_dir_all(&devices);
        for (address, driver) in
            [("0000:00:05.0", "virtio-pci"), ("0000:00:06.0", "vfio-pci"), ("0000:00:07.0", "mlx5_core")]
        {
            fs::create_dir_all(devices.join(address)).unwrap();
            symlink(format!("../../drivers/{driver}"), devices.join(address).join("driver")).unwrap();
        }
        for (address, class) in [("0000:00:05.0", "0x020000\n"), ("0000:00:0a.0", "0x060000\n")] {
            fs::create_dir_all(devices.join(address)).unwrap();
            fs::write(devices.join(address).join("class"), class).unwrap();
        }
        fs::create_dir_all(devices.join("0000:00:08.0")).unwrap();
        let check = |device: &str| check_in(&devices, device).map_err(|error| error.to_string());
        assert_eq!(check("00:06.0"), Ok(()));
        assert_eq!(check("0000:00:07.0"), Ok(()));
        assert_eq!(
            check("00:05.0").unwrap_err(),
            "device 00:05.0: the device is bound to a driver of the kernel; take it from virtio-pci with \
             `dpdk-devbind.py --bind=vfio-pci 0000:00:05.0`, or for good with `driverctl set-override 0000:00:05.0 vfio-pci`"
        );
        assert_eq!(
            check("0000:00:08.0").unwrap_err(),
            "device 0000:00:08.0: the device is bound to no driver; load vfio-pci and bind it with \
             `dpdk-devbind.py --bind=vfio-pci 0000:00:08.0`"
        );
        assert_eq!(
            check("0000:00:09.0").unwrap_err(),
            "device 0000:00:09.0: there is no PCI device at this address; list them with `dpdk-devbind.py --status-dev net`"
        );
        assert_eq!(
            check("0000:00:0a.0").unwrap_err(),
            "device 0000:00:0a.0: the device at this address is no network device; list those with `dpdk-devbind.py --status-dev net`"
        );
        fs::remove_dir_all(devices).unwrap();
    }
}
