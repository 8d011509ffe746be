//! From a network at an address to its tunnels: a hash table that is built once and has room for any number of networks.

use crate::addr::Addr;
use crate::verdict::PortId;
use smallvec::SmallVec;

/// A network at an address, as it is put into the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The address, by its number.
    pub(super) end: u16,
    pub(super) vni: u32,
    pub(super) udp_port: u16,
    /// Who may send, and which tunnel that is.
    pub(super) peers: SmallVec<[(Addr, PortId); 2]>,
}

/// The table. *Invariant:* at least half of the slots are vacant, so that every search ends.
#[derive(Clone, Debug, Default)]
pub(super) struct VniTable {
    slots: Box<[Slot]>,
    /// 64 less the logarithm of the number of slots.
    shift: u32,
    peers: Box<[(Addr, PortId)]>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The network and the address, and above these the UDP port.
    key: u64,
    peers_at: u16,
    peers_len: u16,
}

/// The part of the key that a network is found by.
const NETWORK: u64 = u64::MAX >> 16;
/// The key of no network.
const VACANT: u64 = u64::MAX;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'a> {
    pub(super) udp_port: u16,
    pub(super) peers: &'a [(Addr, PortId)],
}

#[inline(always)]
fn key(end: u16, vni: u32, udp_port: u16) -> u64 {
    u64::from(vni) | u64::from(end) << 32 | u64::from(udp_port) << 48
}

impl VniTable {
    pub(super) fn build(rows: &[Row]) -> Self {
        let size = (2 * rows.len()).next_power_of_two().max(2);
        let vacant = Slot { key: VACANT, peers_at: 0, peers_len: 0 };
        let shift = u64::BITS - size.trailing_zeros();
        let mut table = Self { slots: vec![vacant; size].into(), shift, peers: Box::default() };
        let mut all = Vec::new();
        for row in rows {
            let key = key(row.end, row.vni, row.udp_port);
            let mut at = table.first(key);
            while table.slots[at].key != VACANT {
                at = (at + 1) & (size - 1);
            }
            // Each is a tunnel, of which there are not as many as these numbers say.
            let (peers_at, peers_len) = (all.len() as u16, row.peers.len() as u16);
            table.slots[at] = Slot { key, peers_at, peers_len };
            all.extend(row.peers.iter().copied());
        }
        table.peers = all.into();
        table
    }

    /// Where a search begins. Networks are numbered one after the other by people: the multiplication spreads them.
    #[inline(always)]
    fn first(&self, key: u64) -> usize {
        ((key << 16).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (self.shift & 63)) as usize
    }

    /// The network of this number at an address.
    #[inline(always)]
    pub(super) fn find(&self, end: u16, vni: u32) -> Option<Network<'_>> {
        let key = key(end, vni, 0);
        let mut at = self.first(key);
        loop {
            let slot = self.slots.get(at)?;
            if slot.key == VACANT {
                return None;
            }
            if slot.key & NETWORK == key {
                let from = usize::from(slot.peers_at);
                let peers = self.peers.get(from..from + usize::from(slot.peers_len))?;
                return Some(Network { udp_port: (slot.key >> 48) as u16, peers });
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn four_thousand_networks_are_told_apart() {
        let row = |end, vni: u32| Row {
            end,
            vni,
            udp_port: 10_800 + (vni & 1) as u16,
            peers: smallvec![(Addr::v4([10, 0, 0, 1]), PortId::tunnel(vni as u16))],
        };
        let rows: Vec<Row> = (0..4_096).map(|n| row(0, n)).chain((0..8).map(|n| row(1, n))).collect();
        let table = VniTable::build(&rows);
        for n in 0..4_096 {
            let network = table.find(0, n).expect("it is there");
            assert_eq!(
                (network.udp_port, network.peers[0].1),
                (10_800 + (n & 1) as u16, PortId::tunnel(n as u16))
            );
        }
        assert!(table.find(1, 7).is_some());
        for (end, vni) in [(0, 4_096), (1, 8), (2, 0), (0, 0xff_ffff), (u16::MAX, u32::MAX)] {
            assert!(table.find(end, vni).is_none(), "{end} {vni}");
        }
    }

    #[test]
    fn an_empty_table_has_nothing() {
        for table in [VniTable::default(), VniTable::build(&[])] {
            assert!((0..100).all(|vni| table.find(0, vni).is_none()));
        }
    }
}
