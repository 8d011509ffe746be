//! What the fast lane needs of a flow: whether a packet is one of those that change nothing but numbers, and these numbers.
//!
//! Everything here is what the general functions do with the same packet, for a packet of which it is known that they take their
//! shortest way. What is not known to be that, is left to them.

use super::hash::FlowHash;
use super::record::{Flow, HotTally, LIVE, Side, TARGET, TRANSLATED, V6, Way, ends};
use super::table::{FlowTable, referee};
use super::timeout::{Class, TICKS_PER_SECOND, Timeouts, tick_from};
use crate::addr::Addr;
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

/// What a packet makes of its flow's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    tally: HotTally,
    deadline: u32,
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

/// Source and destination of what `side` sends, as it leaves. Without a branch, as in [`ends`].
#[inline(always)]
fn leaving_ends(side: Side) -> (usize, usize) {
    let side = side.index() & 1;
    (TARGET * side, TRANSLATED - TRANSLATED * side)
}

/// The four bytes of an IPv4 address, the first one lowest.
#[inline(always)]
fn last_word(address: &Addr) -> u32 {
    let [.., a, b, c, d] = *address.octets();
    u32::from_le_bytes([a, b, c, d])
}

/// The bytes of an address in two words, the first one lowest.
#[inline(always)]
fn words(address: &Addr) -> [u64; 2] {
    let bits = u128::from_le_bytes(*address.octets());
    [bits as u64, (bits >> 64) as u64]
}

impl Flow {
    /// The port and neighbour by which the packets of `side` leave, if the flow was decided under this configuration, and packets of
    /// `side` come in through `port` as is expected of them.
    #[inline(always)]
    pub fn settled_way(&self, side: Side, port: PortId, generation: u32) -> Option<Way> {
        // A side without a way leaves by no port.
        let expected = self.way_ports[side.other().index()];
        let is_settled = (self.generation == generation) & (expected == port.0);
        let neighbor = NonZeroU32::new(self.neighbors[side.index()])?;
        is_settled.then_some(Way { port: PortId(self.way_ports[side.index()]), neighbor })
    }

    /// A flow lives here, and this is the key of the packets that `side` sends.
    #[inline(always)]
    pub fn is_of_v4(&self, side: Side, key: &KeyV4) -> bool {
        let (src, dst) = ends(side);
        let addresses = key.addresses as u32 ^ last_word(&self.addresses[src])
            | (key.addresses >> 32) as u32 ^ last_word(&self.addresses[dst]);
        addresses | key.ports ^ self.both_ports(src, dst) | self.kind_differs(LIVE, key.protocol) == 0
    }

    /// A flow lives here, and this is the key of the packets that `side` sends.
    #[inline(always)]
    pub fn is_of_v6(&self, side: Side, key: &KeyV6) -> bool {
        let (src, dst) = ends(side);
        let [a, b, c, d] = key.addresses;
        let ([e, f], [g, h]) = (words(&self.addresses[src]), words(&self.addresses[dst]));
        let addresses = (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h);
        let rest = key.ports ^ self.both_ports(src, dst) | self.kind_differs(LIVE | V6, key.protocol);
        addresses | u64::from(rest) == 0
    }

    #[inline(always)]
    fn kind_differs(&self, traits: u8, protocol: u8) -> u32 {
        u32::from(self.traits & (LIVE | V6) ^ traits) | u32::from(self.protocol ^ protocol)
    }

    #[inline(always)]
    fn both_ports(&self, src: usize, dst: usize) -> u32 {
        u32::from(self.ports[src]) | u32::from(self.ports[dst]) << 16
    }

    /// The key, over IPv4, of the packets that `side` sends, as they leave.
    #[inline(always)]
    pub fn leaving_v4(&self, side: Side) -> KeyV4 {
        let (src, dst) = leaving_ends(side);
        let [low, high] = [src, dst].map(|end| u64::from(last_word(&self.addresses[end])));
        KeyV4 { addresses: low | high << 32, ports: self.both_ports(src, dst), protocol: self.protocol }
    }

    /// The key, over IPv6, of the packets that `side` sends, as they leave.
    #[inline(always)]
    pub fn leaving_v6(&self, side: Side) -> KeyV6 {
        let (src, dst) = leaving_ends(side);
        let ([a, b], [c, d]) = (words(&self.addresses[src]), words(&self.addresses[dst]));
        KeyV6 { addresses: [a, b, c, d], ports: self.both_ports(src, dst), protocol: self.protocol }
    }

    /// What a packet of an established TCP connection makes of the numbers. `None`: more than these changes.
    #[inline(always)]
    pub fn account_tcp(&self, side: Side, bytes: usize, deadlines: &Deadlines) -> Option<Account> {
        let own = deadlines.tick.wrapping_add(u32::from(self.idle_timeout_s) * TICKS_PER_SECOND);
        self.account(side, bytes, if self.idle_timeout_s == 0 { deadlines.tcp } else { own })
    }

    /// What a UDP packet makes of the numbers. `None`: more than these changes.
    #[inline(always)]
    pub fn account_udp(&self, side: Side, bytes: usize, deadlines: &Deadlines) -> Option<Account> {
        self.account(side, bytes, deadlines.udp)
    }

    #[inline(always)]
    fn account(&self, side: Side, bytes: usize, deadline: u32) -> Option<Account> {
        let mut tally = self.tallies[side.index()];
        let (packets, bytes) = tally.add(bytes as u32);
        let is_earlier = (deadline.wrapping_sub(self.deadline) as i32) < 0;
        (!packets & !bytes & !is_earlier).then_some(Account { tally, deadline })
    }

    /// Takes over what a packet makes of the numbers.
    #[inline(always)]
    pub fn take(&mut self, side: Side, account: Account) {
        self.tallies[side.index()] = account.tally;
        self.deadline = account.deadline;
    }
}
