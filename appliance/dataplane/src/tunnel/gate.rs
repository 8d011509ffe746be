//! What the fast lane needs of tunnels, in as few words as that takes: with thousands of them, packets in a row read that of different ones.

use super::{Path, Tunnel, vxlan};
use crate::emit::encap::{Front, LEN_V4};
use crate::verdict::PortId;
use crate::wire::ETHERNET_HEADER_LEN;
use crate::wire::plain::half_word;

/// A tunnel, as packets leave by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Gate {
    /// The second half of the VXLAN header, which is the network, as it stands in a packet.
    pub network: u32,
    /// The UDP port at both ends, as it stands in a packet behind the source port.
    pub udp_port: u32,
    /// The port that carries the tunnel.
    pub carrier: PortId,
    /// The longest inner frame that fits, in bytes, with as much in front of it as outer headers over IPv4 take; 0: none does, as the tunnel
    /// is closed or has other headers.
    pub frame_max: u16,
    /// Its [`Front`], by number.
    pub(super) front: u16,
}

/// How long a frame is that has an IP packet of `mtu` bytes and room for outer headers over IPv4 in front, in bytes.
pub const fn frame_max(mtu: u16) -> u16 {
    mtu.saturating_add((ETHERNET_HEADER_LEN + LEN_V4) as u16)
}

impl Gate {
    pub(super) fn new(tunnel: &Tunnel, paths: &[Path]) -> Self {
        let front = u16::try_from(tunnel.path).ok();
        let is_usual = |place: &u16| paths.get(usize::from(*place)).is_some_and(|path| !path.is_geneve);
        let front = front.filter(|place| tunnel.is_open && is_usual(place));
        Self {
            network: half_word(&vxlan::header(tunnel.vni), 4),
            udp_port: u32::from(tunnel.udp_port.swap_bytes()) << 16,
            carrier: tunnel.carrier,
            frame_max: front.map_or(0, |_| frame_max(tunnel.mtu)),
            front: front.unwrap_or(u16::MAX),
        }
    }
}

impl Path {
    /// What all packets that go this way begin with.
    pub(super) fn front(&self) -> Front {
        Front::new(&self.outer, self.station, self.dscp)
    }
}
