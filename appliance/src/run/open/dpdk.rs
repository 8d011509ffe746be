//! Ports by DPDK.

use super::{FRAMES, Opened, data_room, failed, on_devices, shut_out};
use crate::output::Failure;
use crate::run::cores::on_core;
use core_affinity::CoreId;
use nva_config::{Config, Hugepages, Port, Trust};
use nva_dataplane::placement::Placement;
use nva_dataplane::toeplitz::Toeplitz;
use pmd_shim::PoolOptions;
use pmd_shim::dpdk::{
    self, DpdkOptions, DpdkRx, DpdkTx, Eal, EalOptions, End, KEY_BYTES, MbufPool, Spread, is_pci_address,
    kernel_interfaces,
};
use pmd_shim::kernel::DeviceError;

/// Frames in each receive and each transmit ring; a device may round them.
const RING_FRAMES: u16 = 1024;

type Dpdk = Opened<DpdkRx, DpdkTx, MbufPool>;

/// Starts DPDK and opens every port of the configuration, with a queue for each worker.
///
/// # Errors
/// A [`Failure`] of exit code 1 that says what to do. Interfaces from which the kernel was shut out until then stay so.
pub(in crate::run) fn open(config: &Config, cores: &[CoreId], seed: [u8; 16]) -> Result<Dpdk, Failure> {
    let interfaces: Vec<(&str, String)> = on_devices(config)
        .flat_map(|port| kernel_interfaces(&port.device).into_iter().map(|name| (port.name.as_str(), name)))
        .collect();
    shut_out(&interfaces)?;
    let eal = Eal::start(&eal_options(config)).map_err(Failure::failed)?;
    let rings = on_devices(config).count() * 2 * usize::from(RING_FRAMES);
    let options = PoolOptions { frames: FRAMES + rings, data_room: data_room(config) };
    let pool = |core: &CoreId| on_core(*core, || MbufPool::new(eal, options))?.map_err(Failure::failed);
    let pools: Vec<MbufPool> = cores.iter().map(pool).collect::<Result<_, _>>()?;
    let mut opened = Opened::of(&pools, interfaces.into_iter().map(|(_, name)| name).collect(), seed);
    let key = key(seed);
    let mut tables = Vec::new();
    for port in on_devices(config) {
        let entries = open_one(eal, port, key, &pools, &mut opened);
        tables.push(entries.map_err(|error| failed(&port.name, &error))?);
    }
    // Where all devices spread alike, whoever a device gives a flow to is its home.
    if let Some(entries) = common(&tables) {
        let toeplitz = Toeplitz::forever(&key);
        let workers = cores.len();
        opened.placements =
            (0..workers).map(|index| Placement::steered(index, workers, toeplitz, entries)).collect();
    }
    Ok(opened)
}

/// The entries of every device's table, if all have one and of the same length.
fn common(tables: &[Option<u16>]) -> Option<u16> {
    let (first, others) = tables.split_first()?;
    first.filter(|_| others.iter().all(|other| other == first))
}

fn eal_options(config: &Config) -> EalOptions {
    let asked = &config.dataplane.dpdk;
    let devices = config.ports.iter().map(|port| port.device.as_str());
    EalOptions {
        hugepages: match asked.hugepages {
            Hugepages::TwoMebibytes => dpdk::Hugepages::Size2M,
            Hugepages::OneGibibyte => dpdk::Hugepages::Size1G,
            Hugepages::None => dpdk::Hugepages::None,
        },
        memory_mib: asked.memory_mib,
        pci: devices.filter(|device| is_pci_address(device)).map(str::to_owned).collect(),
        arguments: asked.eal.clone(),
    }
}

/// Opens a port; how many entries the table has by which its device spreads frames.
fn open_one(
    eal: Eal,
    port: &Port,
    key: [u8; KEY_BYTES],
    pools: &[MbufPool],
    opened: &mut Dpdk,
) -> Result<Option<u16>, DeviceError> {
    // The end that translation leaves alone.
    let end = match port.trust {
        Trust::Untrusted => End::Source,
        Trust::Trusted => End::Destination,
    };
    let options = DpdkOptions {
        mtu: Some(port.mtu),
        rx_frames: RING_FRAMES,
        tx_frames: RING_FRAMES,
        spread: Spread { end, key },
    };
    let taken = dpdk::open(eal, &port.device, &options, pools)?;
    opened.describe(taken.mac, taken.mtu.into(), format!("{}: {}", eal.version(), taken.description));
    opened.guards.push(Box::new(taken.locks));
    opened.carriers.push(Box::new(taken.link));
    opened.add(taken.rx, taken.tx);
    Ok(taken.spread_entries)
}

/// The secret by which devices spread addresses, from the seed of this run.
fn key(seed: [u8; 16]) -> [u8; KEY_BYTES] {
    // The pieces of the seed, each time rotated by another number of bits: what matters is that nobody outside knows it.
    let word = u128::from_le_bytes(seed);
    let mut key = [0; KEY_BYTES];
    for (place, piece) in (1..).zip(key.chunks_mut(16)) {
        let bytes = word.rotate_left(place * 37).to_le_bytes();
        piece.copy_from_slice(&bytes[..piece.len()]);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_common_only_if_every_device_has_it() {
        assert_eq!(common(&[Some(128), Some(128)]), Some(128));
        assert_eq!(common(&[Some(128), Some(512)]), None);
        assert_eq!(common(&[Some(128), None]), None);
        assert_eq!(common(&[None, Some(128)]), None);
        assert_eq!(common(&[]), None);
    }

    #[test]
    fn the_key_depends_on_the_whole_seed_everywhere() {
        let mut seed = [7; 16];
        let before = key(seed);
        seed[3] ^= 1;
        let after = key(seed);
        for (before, after) in before.chunks_exact(16).zip(after.chunks_exact(16)) {
            assert_ne!(before, after);
        }
    }
}
