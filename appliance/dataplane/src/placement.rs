//! Which worker a flow belongs to, where there is more than one.
//!
//! Decides by addresses alone, so that every packet of a flow, either direction and each fragment, is decided by one worker. Never
//! looks at ports, since later fragments have none, and never at what a worker knows.
//!
//! Queues are steered by the address of the *outer* end: the source on untrusted ports, the destination on trusted ones. A flow's
//! home is chosen so that this steering already leads there for all that passes between the sides:
//!
//! 1. to a frontend: the sender's address, which translation leaves alone; from one (direct server return): the receiver's;
//! 2. between a backend and somebody else: that other one, who may be the client that a frontend was asked by;
//! 3. between the sides: the address on the untrusted one;
//! 4. on one side: the smaller address.
//!
//! *Invariant:* a flow is at the worker of one of the two addresses that any of its packets has, whatever the configuration was when
//! it began: translation changes a flow's target only, and a flow that is translated is at its initiator's worker. So a flow that is at
//! neither worker is nowhere. Under one configuration it can be at its home only, save where a backend or a frontend may be answering
//! another one that asked a frontend.
//!
//! What this does not see: a backend that is balanced to another one while it also speaks with that one directly, from the same port to
//! the same port. One worker would refuse the second of these flows, as their answers are alike; two may each take one.

use crate::addr::Addr;
use crate::addr_map::AddrMap;
use crate::snapshot::port_id;
use crate::toeplitz::Toeplitz;
use crate::verdict::PortId;
use nva_config::{Config, Prefix, Trust};

/// First multiplier of the hash: each word of the address is mixed in by it (Weyl's constant in 32 bits, made a prime).
pub const WORD_MULTIPLIER: u32 = 0x9e37_79b1;
/// By how much the state is then shifted onto itself.
pub const WORD_SHIFT: u32 = 15;
/// Last multiplier (of MurmurHash3's finaliser).
pub const LAST_MULTIPLIER: u32 = 0x85eb_ca6b;
/// By how much the result is shifted onto itself.
pub const LAST_SHIFT: u32 = 13;

/// A worker's place among all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    index: u16,
    count: u16,
    /// 2^64 by `count`, rounded up: what makes a remainder of two multiplications.
    inverse: u64,
    by: By,
}

/// How an address leads to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// By a hash of our own, which begins with this.
    Secret(u32),
    /// As network cards choose a queue: by the low bits of a Toeplitz hash (`mask`) through a table whose entries are the workers in
    /// turn.
    Queue { toeplitz: &'static Toeplitz, mask: u16 },
}

impl Placement {
    /// The only worker.
    pub const ALONE: Self = Self { index: 0, count: 1, inverse: 0, by: By::Secret(0) };

    /// Worker `index` of `count`. All workers must be given the same seed; it keeps senders from choosing addresses that meet.
    pub fn new(index: usize, count: usize, seed: [u8; 16]) -> Self {
        let words = seed.as_chunks::<4>().0;
        let secret = words.iter().fold(0, |secret: u32, word| {
            (secret ^ u32::from_le_bytes(*word)).wrapping_mul(WORD_MULTIPLIER).rotate_left(WORD_SHIFT)
        });
        Self::with(index, count, By::Secret(secret))
    }

    /// Worker `index` of `count`, where network cards steer by this hash of the outer address through a table of `entries` entries, a
    /// power of two, of which entry *i* is queue *i* modulo `count`: an address's worker is then the one whose queue its packets come in
    /// at.
    pub fn steered(index: usize, count: usize, toeplitz: &'static Toeplitz, entries: u16) -> Self {
        Self::with(index, count, By::Queue { toeplitz, mask: entries.wrapping_sub(1) })
    }

    fn with(index: usize, count: usize, by: By) -> Self {
        let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let count = small(count).max(1);
        let inverse = (u64::MAX / u64::from(count)).wrapping_add(1);
        Self { index: small(index), count, inverse, by }
    }

    /// Which worker this is, counted from 0.
    pub const fn index(&self) -> usize {
        self.index as usize
    }

    /// How many workers there are.
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// There is one worker only.
    #[inline(always)]
    pub const fn is_alone(&self) -> bool {
        self.count == 1
    }

    /// What the hash of our own begins with; 0 where cards choose.
    pub const fn secret(&self) -> u32 {
        match self.by {
            By::Secret(secret) => secret,
            By::Queue { .. } => 0,
        }
    }

    /// The worker of an address: by a hash of its words (one of IPv4, four of IPv6) that a classic BPF program can compute too, or by the
    /// one that network cards compute.
    #[inline]
    pub fn worker_of(&self, address: Addr) -> usize {
        let secret = match self.by {
            By::Secret(secret) => secret,
            By::Queue { toeplitz, mask } => {
                return self.remainder(toeplitz.hash_address(address) & u32::from(mask));
            }
        };
        let mix = |hash: u32, word: u32| {
            let hash = (hash ^ word).wrapping_mul(WORD_MULTIPLIER);
            hash ^ hash >> WORD_SHIFT
        };
        let hash = match address.as_v4() {
            Some(octets) => mix(secret, u32::from_be_bytes(octets)),
            None => {
                let words = address.octets().as_chunks::<4>().0;
                words.iter().fold(secret, |hash, word| mix(hash, u32::from_be_bytes(*word)))
            }
        };
        let hash = hash.wrapping_mul(LAST_MULTIPLIER);
        self.remainder(hash ^ hash >> LAST_SHIFT)
    }

    /// Modulo the number of workers, without a division (Lemire, Kaser, Kurz, Faster remainder by direct computation, 2019).
    #[inline]
    fn remainder(&self, number: u32) -> usize {
        let fraction = self.inverse.wrapping_mul(u64::from(number));
        ((u128::from(fraction) * u128::from(self.count)) >> 64) as usize
    }
}

/// Whose worker a flow belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    /// One of the two addresses.
    pub(crate) address: Addr,
    /// The other one.
    pub(crate) other: Addr,
    /// No flow with these addresses is at the other one's worker, if this configuration was in use from the start.
    pub(crate) is_certain: bool,
}

/// What a load balancer has an address for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Role {
    is_frontend: bool,
    is_backend: bool,
}

fn roles(frontends: impl Iterator<Item = Addr>, backends: impl Iterator<Item = Addr>) -> AddrMap<Role> {
    let mut roles = AddrMap::default();
    let known = |roles: &AddrMap<Role>, address| roles.get(&address).copied().unwrap_or_default();
    for address in frontends {
        let role = Role { is_frontend: true, ..known(&roles, address) };
        roles.insert(address, role);
    }
    for address in backends {
        let role = Role { is_backend: true, ..known(&roles, address) };
        roles.insert(address, role);
    }
    roles
}

/// What homes are chosen by: equal where every home is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Homes {
    /// Of all load balancers' addresses.
    roles: AddrMap<Role>,
    trust: Vec<Trust>,
    /// What the routing table is made of.
    routes: Vec<(Prefix, PortId)>,
}

impl Homes {
    pub(crate) fn build(config: &Config) -> Self {
        let routes = config.routes.iter().map(|route| (route.to, port_id(route.port.0)));
        let links = config.ports.iter().enumerate().flat_map(|(index, port)| {
            port.addresses.iter().map(move |address| (address.prefix, port_id(index)))
        });
        let balancers = || config.load_balancers.iter();
        let backends = balancers().flat_map(|balancer| &balancer.pools).flat_map(|pool| &pool.backends);
        let frontends = balancers().flat_map(|balancer| &balancer.frontends).map(|f| f.address.into());
        Self {
            roles: roles(frontends, backends.map(|backend| backend.address.into())),
            trust: config.ports.iter().map(|port| port.trust).collect(),
            routes: routes.chain(links).collect(),
        }
    }

    /// Whose worker a new flow with these addresses belongs to. `outside` says whether an address is on the untrusted side.
    pub(crate) fn of(&self, src: Addr, dst: Addr, outside: impl Fn(Addr) -> bool) -> Home {
        let ends = [src, dst];
        let [from, to] = ends.map(|address| self.roles.get(&address).copied().unwrap_or_default());
        let (from_frontend, to_frontend) = (from.is_frontend, to.is_frontend);
        let (from_backend, to_backend) = (from.is_backend, to.is_backend);
        let at_source = if to_frontend {
            true
        } else if from_frontend {
            false
        } else if from_backend != to_backend {
            to_backend
        } else {
            match ends.map(outside) {
                [true, false] => true,
                [false, true] => false,
                _ => src <= dst,
            }
        };
        let (address, other) = if at_source { (src, dst) } else { (dst, src) };
        // What a backend or a frontend sends may be the answer to another one that asked a frontend.
        let may_be_answer = from_backend && to_backend || to_frontend && (from_backend || from_frontend);
        Home { address, other, is_certain: !may_be_answer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two addresses of each kind that rules tell apart.
    fn everybody() -> (Homes, Vec<Addr>) {
        let addr = |kind: u8, last| Addr::v4([10, kind, 0, last]);
        let kinds: Vec<[Addr; 2]> = (0..6).map(|kind| [addr(kind, 1), addr(kind, 2)]).collect();
        let homes = Homes {
            roles: roles(
                kinds[0].into_iter().chain(kinds[5]),
                kinds[1].into_iter().chain(kinds[2]).chain(kinds[5]),
            ),
            ..Homes::default()
        };
        (homes, kinds.concat())
    }

    /// Backends and others are on either side; frontends are nowhere.
    fn outside(address: Addr) -> bool {
        matches!(address.as_v4(), Some([_, 2 | 3, ..]))
    }

    fn is_frontend(homes: &Homes, address: Addr) -> bool {
        homes.roles.get(&address).is_some_and(|role| role.is_frontend)
    }

    /// Of a flow: where it is, and the addresses of both sides' packets.
    fn check(homes: &Homes, at: Addr, packets: [(Addr, Addr); 2]) {
        for (src, dst) in packets {
            let home = homes.of(src, dst, outside);
            assert!([src, dst].contains(&at), "{at} is neither {src} nor {dst}");
            assert!(
                home.address == at || !home.is_certain,
                "{src} to {dst} is sure of {}, not {at}",
                home.address
            );
        }
    }

    #[test]
    fn every_packet_finds_its_flow() {
        let (homes, all) = everybody();
        for (src, dst) in all.iter().flat_map(|src| all.iter().map(|dst| (*src, *dst))) {
            if src == dst {
                continue;
            }
            let at = homes.of(src, dst, outside).address;
            if is_frontend(&homes, dst) {
                assert_eq!(at, src);
                for (backend, role) in homes.roles.iter() {
                    if role.is_backend && *backend != src {
                        check(&homes, at, [(src, dst), (*backend, src)]);
                    }
                }
            }
            // Routed, or returned directly by the backend.
            check(&homes, at, [(src, dst), (dst, src)]);
        }
    }

    #[test]
    fn what_passes_between_the_sides_is_at_the_outer_address() {
        let (homes, all) = everybody();
        let is_plain = |address: &&Addr| !is_frontend(&homes, **address) && !outside(**address);
        for inner in all.iter().filter(is_plain) {
            for outer in all.iter().filter(|address| matches!(address.as_v4(), Some([_, 3, ..]))) {
                for (src, dst) in [(*inner, *outer), (*outer, *inner)] {
                    let home = homes.of(src, dst, outside);
                    assert_eq!((home.address, home.other, home.is_certain), (*outer, *inner, true));
                }
            }
        }
    }

    #[test]
    fn a_steered_address_is_at_the_worker_whose_queue_the_card_chooses() {
        let key = std::array::from_fn(|n| (n as u8).wrapping_mul(157) ^ 0x5a);
        let toeplitz = Toeplitz::forever(&key);
        for (count, entries) in [(2, 128), (3, 128), (3, 512), (5, 64)] {
            // As a card has it.
            let table: Vec<usize> = (0..entries).map(|entry| entry % count).collect();
            let mut parts = vec![0; count];
            for n in 0..4000u32 {
                let v4 = Addr::from_bits(0xffff << 32 | u128::from(n.wrapping_mul(0x9e37_79b1)));
                let v6 = Addr::from_bits(0x2001_0db8 << 96 | u128::from(n));
                for (address, hash) in
                    [(v4, toeplitz.hash(&v4.as_v4().unwrap())), (v6, toeplitz.hash(v6.octets()))]
                {
                    let worker = Placement::steered(1, count, toeplitz, entries as u16).worker_of(address);
                    assert_eq!(worker, table[hash as usize & (entries - 1)]);
                    parts[worker] += 1;
                }
            }
            let fair = 8000 / count;
            assert!(parts.iter().all(|part| (fair * 7 / 10..fair * 13 / 10).contains(part)), "{parts:?}");
        }
    }

    #[test]
    fn the_seed_decides_and_every_worker_has_its_part() {
        let address = |n: u16| {
            [Addr::v4([10, 0, (n >> 8) as u8, n as u8]), Addr::from_bits(0xfd << 120 | u128::from(n))]
        };
        for count in [2, 3, 7] {
            let [one, other] = [[1; 16], [2; 16]].map(|seed| Placement::new(0, count, seed));
            let mut parts = vec![0; count];
            let mut same = 0;
            for address in (0..4000).flat_map(address) {
                parts[one.worker_of(address)] += 1;
                same += usize::from(one.worker_of(address) == other.worker_of(address));
            }
            let fair = 8000 / count;
            assert!(parts.iter().all(|part| (fair * 9 / 10..fair * 11 / 10).contains(part)), "{parts:?}");
            assert!((fair * 8 / 10..fair * 12 / 10).contains(&same), "{same} of 8000 for {count}");
        }
        assert_eq!(Placement::ALONE.worker_of(Addr::UNSPECIFIED), 0);
    }
}
