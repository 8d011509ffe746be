//! Spreading frames over queues by one address alone, so that both directions of a flow meet the same worker.
//!
//! A device with receive-side scaling hashes parts of a packet (Toeplitz, Microsoft's "Receive Side Scaling" in the Windows driver
//! documentation), and looks the queue up in a table by the low bits of the hash. Many hash all addresses and ports, which
//! differ between the directions of a translated flow; some can be told to take one address only.

use super::ffi;

/// Bytes of the hash's key.
pub const KEY_BYTES: usize = 40;

/// The address by which frames are spread: the one that translation leaves alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where frames come from: on untrusted ports.
    Source,
    /// Where they go: on trusted ones.
    Destination,
}

/// How frames are spread over the queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// By which address.
    pub end: End,
    /// The hash's key; one that is not known outside keeps senders from choosing addresses that meet. Where a device's key
    /// is longer, it begins again.
    pub key: [u8; KEY_BYTES],
}

/// What a device is asked for.
pub(super) struct Plan {
    key: Vec<u8>,
    types: u64,
    /// Entries of its table, where it can spread by one address.
    entries: Option<u16>,
}

impl Plan {
    /// The best that a device can do.
    pub(super) fn new(spread: &Spread, info: &ffi::rte_eth_dev_info, queues: u16) -> Self {
        let bytes = if info.hash_key_size == 0 { KEY_BYTES } else { info.hash_key_size.into() };
        let key = spread.key.iter().copied().cycle().take(bytes).collect();
        if queues < 2 {
            return Self { key, types: 0, entries: None };
        }
        let offered = info.flow_type_rss_offloads;
        let all = ffi::SHIM_RSS_IPV4 | ffi::SHIM_RSS_IPV6 | ffi::SHIM_RSS_L4_IPV4 | ffi::SHIM_RSS_L4_IPV6;
        let one = match spread.end {
            End::Source => ffi::SHIM_RSS_L3_SRC_ONLY,
            End::Destination => ffi::SHIM_RSS_L3_DST_ONLY,
        };
        let is_table = info.reta_size.is_power_of_two() && info.reta_size <= ffi::SHIM_RETA_MAX;
        let can_hash = [ffi::SHIM_RSS_IPV4, ffi::SHIM_RSS_IPV6].iter().all(|family| offered & family != 0);
        if is_table && can_hash && offered & one != 0 {
            Self { key, types: offered & all | one, entries: Some(info.reta_size) }
        } else {
            // Addresses only, so that fragments follow their first; a frame at the wrong worker is handed over.
            Self { key, types: offered & (ffi::SHIM_RSS_IPV4 | ffi::SHIM_RSS_IPV6), entries: None }
        }
    }

    /// The same for the shim; refers to `self`.
    pub(super) fn in_c(&self) -> ffi::shim_rss {
        ffi::shim_rss { types: self.types, key: self.key.as_ptr(), key_len: self.key.len() as u8 }
    }

    /// Fills in the table of a device that runs. Returns its size if the device then says that it does what it was asked for.
    pub(super) fn take_effect(&self, port: u16, queues: u16) -> Option<u16> {
        let entries = self.entries?;
        // SAFETY: plain numbers, and a key that outlives the calls.
        let is_spread = unsafe {
            ffi::shim_spread(port, entries, queues) == 0
                && ffi::shim_is_spread(port, &self.in_c(), entries, queues) == 1
        };
        is_spread.then_some(entries)
    }
}
