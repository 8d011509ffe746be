//! What routers said about the ways to the other ends of tunnels: packets there are too big for some link (RFC 1191, RFC 8201).
//!
//! Somebody who knows the ends of a tunnel can forge such an error. It counts only if it quotes a packet that could be one of ours, and was
//! longer than the link that it names; never makes a way narrower than `FLOOR_V4` or `FLOOR_V6`; and is forgotten after ten minutes.

use super::{Path, Tunnels};
use crate::addr::{Addr, Family};
use crate::emit::geneve;
use crate::time::Time;
use crate::verdict::PortId;
use crate::wire::{Quoted, UDP_HEADER_LEN, chunk, protocol};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// No way over IPv4 becomes narrower, in bytes of outer packet: what every host takes (RFC 791, 3.1), which is the longest of our own errors
/// too, within the longest outer headers.
const FLOOR_V4: u16 = 576 + 68;
/// The same over IPv6 (RFC 8200, 5).
const FLOOR_V6: u16 = 1280;

/// How long it counts, in milliseconds: RFC 1191, 6.3 and RFC 8201, 4.
const AGE_MAX_MS: u64 = 600_000;
/// What links carry, for routers that do not say it (RFC 1191, 7.1).
const PLATEAUS: [u16; 4] = [8166, 4352, 1492, 1006];
/// Where the cloud's ports for flows begin: what outer source ports are taken from.
const SOURCE_PORTS: core::ops::RangeInclusive<u16> = 49_152..=65_535;

/// What is known of all ways, in one place for all workers. Numbers are written and read without order between them: a packet that sees an old
/// one is as one that came a moment earlier.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// By the number of the way.
    ways: Box<[Width]>,
    /// Of the narrowest.
    least: Width,
}

/// In the upper 16 bits how many bytes, in the lower 48 until when, in milliseconds; 0: nothing is known.
#[derive(Debug, Default)]
struct Width(AtomicU64);

impl Width {
    #[inline(always)]
    fn get(&self, now: Time) -> Option<u16> {
        let word = self.0.load(Relaxed);
        (word != 0 && now.millis() < word & ((1 << 48) - 1)).then_some((word >> 48) as u16)
    }

    /// A larger number does not count while a smaller one does.
    fn lower(&self, to: u16, now: Time) {
        let until = (now.millis() + AGE_MAX_MS) & ((1 << 48) - 1);
        if self.get(now).is_none_or(|known| to <= known) {
            self.0.store(u64::from(to) << 48 | until, Relaxed);
        }
    }
}

impl Learnt {
    pub(super) fn new(ways: usize) -> Self {
        Self { ways: (0..ways).map(|_| Width::default()).collect(), least: Width::default() }
    }
}

impl Path {
    /// By how many bytes an outer packet is longer than the inner one.
    pub(super) fn overhead(&self) -> usize {
        match self.is_geneve {
            true => geneve::overhead(&self.outer, super::geneve::OPTIONS_LEN),
            false => self.outer.overhead(),
        }
    }
}

impl Tunnels {
    /// The longest inner packet that surely fits by every way, as far as routers said; all of them, where none did.
    #[inline(always)]
    pub fn least_room(&self, now: Time) -> u16 {
        self.learnt.least.get(now).unwrap_or(u16::MAX)
    }

    /// The longest inner packet that fits by a tunnel or a segment whose link carries one of `mtu` bytes.
    pub fn room(&self, port: PortId, mtu: u16, now: Time) -> u16 {
        let by = |path: u32| self.room_by(path, mtu, now);
        match (self.open(port), self.segment(port)) {
            (Some(tunnel), _) => by(tunnel.path),
            (None, Some(segment)) => segment.remotes.iter().map(|one| by(one.path)).min().unwrap_or(mtu),
            (None, None) => mtu,
        }
    }

    fn room_by(&self, path: u32, mtu: u16, now: Time) -> u16 {
        let known = self.learnt.ways.get(path as usize).and_then(|width| width.get(now));
        let overhead = self.paths.get(path as usize).map_or(0, |path| path.overhead() as u16);
        known.map_or(mtu, |width| mtu.min(width.saturating_sub(overhead)))
    }

    /// Whether some tunnel or segment at this port is between these ends.
    pub fn end_at(&self, port: PortId, own: Addr, other: Addr) -> bool {
        let ends = self.ends.get(port.index()).map_or(&[][..], |ends| &ends.all);
        ends.iter().any(|end| end.address == own && end.peers.contains(&other))
    }

    /// Takes in that a packet was too big for a link of `mtu` bytes, 0 where the router does not say. `quote` is what the error quotes, as far as
    /// it is there, `link` what the port carries. Whether it was one that a tunnel at this port sends.
    pub fn learn_mtu(
        &self,
        port: PortId,
        quoted: &Quoted,
        quote: &[u8],
        mtu: u32,
        link: u16,
        now: Time,
    ) -> bool {
        let Some(len) = total_len(quote, quoted.family) else { return false };
        let ways = self.paths.iter().zip(&self.learnt.ways).enumerate();
        let mut is_ours = false;
        for (number, (path, width)) in ways {
            let is_this = path.outer.is_between(quoted.key.src, quoted.key.dst)
                && self.sends(port, number as u32, path.is_geneve, quoted, quote);
            if !is_this {
                continue;
            }
            let floor = if quoted.family == Family::V4 { FLOOR_V4 } else { FLOOR_V6 };
            let said = match u16::try_from(mtu) {
                Ok(0) if quoted.family == Family::V4 => {
                    PLATEAUS.into_iter().find(|plateau| *plateau < len).unwrap_or(floor)
                }
                Ok(mtu) => mtu,
                Err(_) => u16::MAX,
            };
            // A packet that fits is no reason for such an error; and none of ours was longer than the link.
            if said >= len || len > link {
                return false;
            }
            is_ours = true;
            width.lower(said.max(floor), now);
            self.learnt.least.lower(said.max(floor).saturating_sub(path.overhead() as u16), now);
        }
        is_ours
    }

    /// Whether a tunnel or a segment at this port sends datagrams like the quoted one by this way.
    fn sends(&self, port: PortId, path: u32, is_geneve: bool, quoted: &Quoted, quote: &[u8]) -> bool {
        let key = &quoted.key;
        if key.protocol != protocol::UDP || !is_geneve && !SOURCE_PORTS.contains(&key.src_port) {
            return false;
        }
        // Most routers quote the network too.
        let vni = chunk(quote, usize::from(quoted.l4) + UDP_HEADER_LEN).copied().map(super::geneve::vni);
        let is_it = |network: u32, udp_port: u16| {
            udp_port == key.dst_port && vni.is_none_or(|quoted| quoted == network)
        };
        let mut tunnels = self.tunnels.iter().filter(|tunnel| tunnel.is_open && tunnel.path == path);
        let mut segments = self.segments.iter().flatten().filter(|segment| segment.carrier == port);
        tunnels.any(|tunnel| tunnel.carrier == port && is_it(tunnel.vni, tunnel.udp_port))
            || segments.any(|one| {
                one.remotes.iter().any(|remote| remote.path == path) && is_it(one.vni, one.udp_port)
            })
    }
}

/// The length that a quoted packet had, as its header says.
fn total_len(quote: &[u8], family: Family) -> Option<u16> {
    match family {
        Family::V4 => chunk(quote, 2).copied().map(u16::from_be_bytes),
        Family::V6 => chunk(quote, 4).copied().map(u16::from_be_bytes)?.checked_add(40),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn a_width_is_lowered_and_forgotten() {
        let (width, now) = (Width::default(), Time::from_millis(5_000));
        assert_eq!(width.get(now), None);
        width.lower(1400, now);
        width.lower(1450, now);
        assert_eq!(width.get(now), Some(1400), "a larger one does not count");
        let later = now + Duration::from_secs(400);
        width.lower(1300, later);
        assert_eq!(width.get(now + Duration::from_secs(601)), Some(1300));
        assert_eq!(width.get(later + Duration::from_secs(600)), None);
        width.lower(1450, later + Duration::from_secs(600));
        assert_eq!(width.get(later + Duration::from_secs(601)), Some(1450));
    }

    #[test]
    fn the_length_is_that_of_the_packet() {
        assert_eq!(total_len(&[0x45, 0, 5, 0xdc], Family::V4), Some(1500));
        assert_eq!(total_len(&[0x60, 0, 0, 0, 5, 0xb4], Family::V6), Some(1500));
        assert_eq!(total_len(&[0x60, 0, 0, 0, 0xff, 0xff], Family::V6), None);
        assert_eq!(total_len(&[0x45, 0, 5], Family::V4), None);
    }
}
