//! What the fast lane needs of a flow: whether a packet is one of those that change nothing but numbers, and these numbers.
//!
//! Everything here is what the general functions do with the same packet, for a packet of which it is known that they take their
//! shortest way. What is not known to be that, is left to them.

use super::hash::FlowHash;
use super::record::{ALIVE, DIFFERENCES, ENTROPY, Flow, KINDS, LIVE, Side, V6, Way, ends};
use super::table::{FlowTable, referee};
use super::timeout::{Class, TICKS_PER_SECOND, Timeouts, tick_from};
use crate::emit::forward::Edits;
use crate::synproxy::Splice;
use crate::time::Time;
use crate::verdict::PortId;
use crate::wire::plain::{KeyV4, KeyV6};
use core::num::NonZeroU32;

/// The deadlines of flows whose packet comes now.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    tick: u32,
    tcp: u32,
    udp: u32,
}

/// What is rare as a flow's numbers change, and is left to be [done](FlowTable::catch_up).
#[derive(Clone, Copy, Debug)]
pub struct Rare {
    /// The packet is not counted, as that carries over.
    is_carried: bool,
    /// The deadline is earlier than it was.
    is_earlier: bool,
}

impl Rare {
    /// There is something to be done.
    #[inline(always)]
    pub fn is_any(self) -> bool {
        self.is_carried | self.is_earlier
    }
}

impl FlowTable {
    /// As [`hash`](Self::hash), of a key in words.
    #[inline(always)]
    pub fn hash_v4(&self, key: &KeyV4) -> FlowHash {
        self.secret.hash_v4(key)
    }

    /// As [`hash`](Self::hash), of a key in words.
    #[inline(always)]
    pub fn hash_v6(&self, key: &KeyV6) -> FlowHash {
        self.secret.hash_v6(key)
    }

    /// The record that a hash probably leads to, whether a flow lives in it or not, and whose key that would be.
    #[inline(always)]
    pub fn guessed(&mut self, hash: FlowHash) -> Option<(&mut Flow, Side)> {
        let (index, side) = referee(hash.guess);
        Some((self.flows.get_mut(index as usize)?, side))
    }

    /// The same, to be read.
    #[inline(always)]
    pub fn guess(&self, hash: FlowHash) -> Option<&Flow> {
        self.flows.get(referee(hash.guess).0 as usize)
    }

    /// What stands between the two connections of the guessed flow, if it is [spliced](Flow::is_spliced).
    #[inline(always)]
    pub fn guessed_splice(&self, hash: FlowHash) -> Option<Splice> {
        self.splices.get(referee(hash.guess).0 as usize).copied()
    }

    /// Does for the guessed flow what [`Flow::count`] left to be done.
    #[cold]
    #[inline(never)]
    pub fn catch_up(&mut self, hash: FlowHash, rare: Rare, bytes: usize) {
        let (index, side) = referee(hash.guess);
        let Some(flow) = self.flows.get_mut(index as usize) else { return };
        if rare.is_carried {
            let (packets, bytes) = flow.tallies[side.index()].add(bytes as u32);
            self.cold[index as usize].carry(side, packets, bytes);
        }
        if rare.is_earlier {
            let deadline = flow.deadline;
            self.advance_deadline(index, deadline);
        }
    }

    /// The deadlines of flows whose packet comes at this time.
    #[inline]
    pub fn deadlines(&self, now: Time) -> Deadlines {
        Deadlines::new(&self.timeouts, now)
    }
}

impl Deadlines {
    fn new(timeouts: &Timeouts, now: Time) -> Self {
        let tick = tick_from(now) as u32;
        let of = |class| tick.wrapping_add(timeouts.ticks(class));
        Self { tick, tcp: of(Class::TcpEstablished), udp: of(Class::Udp) }
    }
}

impl Flow {
    /// By which port packets of `side` are expected: the one that those of the other side leave by.
    #[inline(always)]
    pub fn expected_port(&self, side: Side) -> PortId {
        PortId(self.way_ports[side.index() ^ 1])
    }

    /// The port and neighbour by which the packets of `side` leave, if the flow was decided under this configuration, and packets of
    /// `side` come in through `port` as is expected of them.
    #[inline(always)]
    pub fn settled_way(&self, side: Side, port: PortId, generation: u32) -> Option<Way> {
        // A side without a way leaves by no port.
        let is_settled = (self.generation == generation) & (self.expected_port(side) == port);
        let neighbor = NonZeroU32::new(self.neighbors[side.index()])?;
        is_settled.then_some(Way { port: PortId(self.way_ports[side.index()]), neighbor })
    }

    /// A flow lives here, and this is the key of the packets that `side` sends.
    #[inline(always)]
    pub fn is_of_v4(&self, side: Side, key: &KeyV4) -> bool {
        let side = side.index();
        let (addresses, rest) = (self.identity[side], self.identity[KINDS + side]);
        // In a flow over IPv6 these words are its addresses, and could be any.
        (addresses ^ key.addresses) | (rest ^ (key.rest() | ALIVE)) | u64::from(self.traits & V6) == 0
    }

    /// A flow lives here, and this is the key of the packets that `side` sends.
    #[inline(always)]
    pub fn is_of_v6(&self, side: Side, key: &KeyV6) -> bool {
        let (src, dst) = ends(side);
        let [a, b, c, d] = key.addresses;
        let ([e, f], [g, h]) = (self.words(src), self.words(dst));
        let kind =
            u32::from(self.traits & (LIVE | V6) ^ (LIVE | V6)) | u32::from(self.protocol ^ key.protocol);
        let rest = key.ports ^ self.both_ports(src, dst) | kind;
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) | u64::from(rest) == 0
    }

    #[inline(always)]
    fn both_ports(&self, src: usize, dst: usize) -> u32 {
        u32::from(self.ports[src]) | u32::from(self.ports[dst]) << 16
    }

    /// Of a flow over IPv6: the address of an end.
    #[inline(always)]
    pub(super) fn words(&self, end: usize) -> [u64; 2] {
        [self.identity[2 * end], self.identity[2 * end + 1]]
    }

    /// Of a flow over IPv4: the key of the packets that `side` sends.
    #[inline(always)]
    pub(super) fn key_v4(&self, side: Side) -> KeyV4 {
        let side = side.index();
        let (addresses, ports) = (self.identity[side], self.identity[KINDS + side] as u32);
        KeyV4 { addresses, ports, protocol: self.protocol }
    }

    /// Of a flow over IPv4: what the packets that `side` sends have changed as they leave, which is as the other side's come in, turned
    /// round.
    #[inline(always)]
    pub fn edits_v4(&self, side: Side) -> Edits {
        let leaving = self.key_v4(side.other()).reversed();
        let differences = self.identity[DIFFERENCES + side.index()];
        Edits {
            addresses: leaving.addresses,
            ports: leaving.ports,
            header: differences as u16,
            transport: (differences >> 16) as u16,
        }
    }

    /// Of a flow over IPv4 that is not translated: the [source port](crate::tunnel::entropy) of the headers that go around its packets in a
    /// tunnel, as it stands there.
    #[inline(always)]
    pub fn entropy_v4(&self) -> u16 {
        (self.identity[DIFFERENCES] >> ENTROPY) as u16
    }

    /// The key, over IPv6, of the packets that `side` sends, as they leave.
    #[inline(always)]
    pub fn leaving_v6(&self, side: Side) -> KeyV6 {
        let (dst, src) = ends(side.other());
        let ([a, b], [c, d]) = (self.words(src), self.words(dst));
        KeyV6 { addresses: [a, b, c, d], ports: self.both_ports(src, dst), protocol: self.protocol }
    }

    /// When the flow, an established TCP connection, ends after a packet that comes now.
    #[inline(always)]
    fn tcp_deadline(&self, deadlines: &Deadlines) -> u32 {
        let own = deadlines.tick.wrapping_add(u32::from(self.idle_timeout_s) * TICKS_PER_SECOND);
        if self.idle_timeout_s == 0 { deadlines.tcp } else { own }
    }

    /// Counts a packet of `side` and moves the deadline, as far as that concerns the record alone.
    #[inline(always)]
    pub fn count<const TCP: bool>(&mut self, side: Side, bytes: usize, deadlines: &Deadlines) -> Rare {
        let deadline = if TCP { self.tcp_deadline(deadlines) } else { deadlines.udp };
        let is_earlier = (deadline.wrapping_sub(self.deadline) as i32) < 0;
        self.deadline = deadline;
        let tally = &mut self.tallies[side.index()];
        let is_carried = match tally.plus(bytes as u32) {
            Some(sum) => {
                *tally = sum;
                false
            }
            None => true,
        };
        Rare { is_carried, is_earlier }
    }
}
