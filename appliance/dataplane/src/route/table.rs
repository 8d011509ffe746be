//! Longest-prefix match: a trie with a stride of eight bits whose nodes hold only what is there.

use crate::addr::{Addr, Family};
use crate::verdict::PortId;

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The port that it leaves through.
    pub port: PortId,
    /// The router that takes it; `None`: the destination itself is on the link.
    pub gateway: Option<Addr>,
}

/// Routes of both families, looked up by longest prefix. Filled while a configuration is compiled, then only read.
///
/// A node decides eight bits. Two bitmaps say which prefixes end in it and which slots lead on, and one short array for
/// each holds the values of the set bits in order, so that a node takes no room for what it does not have. A slot under
/// which there is only one route names that route at once, whatever its length: long lone prefixes cost no chain of nodes.
#[derive(Clone, Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// The roots are at [`ROOT_V4`] and [`ROOT_V6`].
    nodes: Vec<Node>,
}

const ROOT_V4: usize = 0;
const ROOT_V6: usize = 1;

/// One route; `bits` and `len` are left-aligned, so that an IPv4 prefix takes the top 32 bits.
#[derive(Clone, Debug)]
struct Route {
    bits: u128,
    len: u8,
    next: NextHop,
}

impl Route {
    fn covers(&self, bits: u128) -> bool {
        (self.bits ^ bits) & mask(self.len) == 0
    }
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Prefixes that end here with 0 to 7 more bits, numbered as in a binary heap: `1 << len | top bits`.
    ends: Bitmap,
    /// The routes of `ends`, in its order.
    end_routes: Vec<u32>,
    /// Octets for which something longer is there.
    slots: Bitmap,
    /// What is there, in the order of `slots`.
    slot_values: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    /// The only route under this slot.
    Route(u32),
    /// Several routes.
    Node(u32),
}

impl RouteTable {
    /// A table without routes.
    #[must_use]
    pub fn new() -> Self {
        Self { routes: Vec::new(), nodes: vec![Node::default(), Node::default()] }
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// There is no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Adds a route to `prefix`, an address and a length of 0..=32 or 0..=128 as its family has it; host bits are ignored,
    /// and a greater length means the one address. A route to the same prefix is replaced.
    pub fn insert(&mut self, prefix: (Addr, u8), next: NextHop) {
        let (root, bits, width) = aligned(prefix.0);
        let len = prefix.1.min(width);
        let route = Route { bits: bits & mask(len), len, next };
        if let Some(known) = self.place(root, &route) {
            self.routes[known as usize].next = next;
        } else {
            self.routes.push(route);
        }
    }

    /// The next hop of the longest prefix that `destination` is in.
    #[must_use]
    pub fn lookup(&self, destination: Addr) -> Option<NextHop> {
        let (mut node, bits, _) = aligned(destination);
        let mut best = None;
        for depth in 0..16 {
            let here = &self.nodes[node];
            let octet = octet_at(bits, depth);
            best = here.longest_end(octet).or(best);
            match here.slot(octet) {
                Some(Slot::Node(next)) => node = next as usize,
                Some(Slot::Route(route)) => {
                    if self.routes[route as usize].covers(bits) {
                        best = Some(route);
                    }
                    break;
                }
                None => break,
            }
        }
        best.map(|route| self.routes[route as usize].next)
    }

    /// Finds the place of `route` and enters it there as the route that is pushed next; gives the route that has the
    /// same prefix instead, if there is one.
    fn place(&mut self, root: usize, route: &Route) -> Option<u32> {
        let id = self.routes.len() as u32;
        let mut node = root;
        let mut depth = 0;
        loop {
            let octet = octet_at(route.bits, depth);
            let rest = route.len - 8 * depth;
            if rest < 8 {
                return self.nodes[node].enter_end(end_number(octet, rest), id);
            }
            match self.nodes[node].slot(octet) {
                None => {
                    self.nodes[node].enter_slot(octet, Slot::Route(id));
                    return None;
                }
                Some(Slot::Route(other)) if self.routes[other as usize].same_prefix(route) => {
                    return Some(other);
                }
                Some(Slot::Route(other)) => {
                    let below = self.node_with(other, depth + 1);
                    self.nodes[node].enter_slot(octet, Slot::Node(below));
                    node = below as usize;
                }
                Some(Slot::Node(below)) => node = below as usize,
            }
            depth += 1;
        }
    }

    /// A new node at `depth` with one route in it.
    fn node_with(&mut self, route: u32, depth: u8) -> u32 {
        let Route { bits, len, .. } = self.routes[route as usize];
        let octet = octet_at(bits, depth);
        let rest = len - 8 * depth;
        let mut node = Node::default();
        if rest < 8 {
            node.enter_end(end_number(octet, rest), route);
        } else {
            node.enter_slot(octet, Slot::Route(route));
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }
}

impl Default for RouteTable {
    fn default() -> Self {
        Self::new()
    }
}

impl Route {
    fn same_prefix(&self, other: &Self) -> bool {
        self.len == other.len && self.bits == other.bits
    }
}

impl Node {
    /// The route of the longest prefix that ends in this node and covers `octet`.
    fn longest_end(&self, octet: u8) -> Option<u32> {
        if self.end_routes.is_empty() {
            return None;
        }
        (0..8)
            .rev()
            .map(|rest| end_number(octet, rest))
            .find(|&end| self.ends.has(end))
            .map(|end| self.end_routes[self.ends.rank(end)])
    }

    fn slot(&self, octet: u8) -> Option<Slot> {
        self.slots.has(octet).then(|| self.slot_values[self.slots.rank(octet)])
    }

    /// Enters a route, unless there is one in its place, which is given back.
    fn enter_end(&mut self, end: u8, route: u32) -> Option<u32> {
        let rank = self.ends.rank(end);
        if self.ends.has(end) {
            return Some(self.end_routes[rank]);
        }
        self.ends.set(end);
        self.end_routes.insert(rank, route);
        None
    }

    /// Sets what is under a slot.
    fn enter_slot(&mut self, octet: u8, value: Slot) {
        let rank = self.slots.rank(octet);
        if self.slots.has(octet) {
            self.slot_values[rank] = value;
        } else {
            self.slots.set(octet);
            self.slot_values.insert(rank, value);
        }
    }
}

/// 256 bits.
#[derive(Clone, Copy, Debug, Default)]
struct Bitmap([u64; 4]);

impl Bitmap {
    fn has(&self, bit: u8) -> bool {
        self.0[usize::from(bit >> 6)] >> (bit & 63) & 1 != 0
    }

    fn set(&mut self, bit: u8) {
        self.0[usize::from(bit >> 6)] |= 1 << (bit & 63);
    }

    /// How many bits below `bit` are set.
    fn rank(&self, bit: u8) -> usize {
        let word = usize::from(bit >> 6);
        let below = self.0[word] & ((1 << (bit & 63)) - 1);
        let before: u32 = self.0[..word].iter().map(|w| w.count_ones()).sum();
        (before + below.count_ones()) as usize
    }
}

/// The number of a prefix that ends in a node, `rest` (0..=7) bits into `octet`.
fn end_number(octet: u8, rest: u8) -> u8 {
    (1 << rest) | (u16::from(octet) >> (8 - rest)) as u8
}

/// The root of the address's family, its bits aligned to the left, and the family's longest prefix.
fn aligned(address: Addr) -> (usize, u128, u8) {
    match address.family() {
        Family::V4 => (ROOT_V4, address.bits() << 96, 32),
        Family::V6 => (ROOT_V6, address.bits(), 128),
    }
}

fn octet_at(bits: u128, depth: u8) -> u8 {
    (bits >> (120 - 8 * u32::from(depth))) as u8
}

/// The top `len` (0..=128) bits.
fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// The obvious table: every route is looked at.
    #[derive(Default)]
    struct Linear(Vec<(Addr, u8, NextHop)>);

    impl Linear {
        fn width(address: Addr) -> u32 {
            if address.family() == Family::V4 { 32 } else { 128 }
        }

        fn covers(prefix: (Addr, u8), address: Addr) -> bool {
            let width = Self::width(address);
            prefix.0.family() == address.family()
                && (0..u32::from(prefix.1)).all(|bit| {
                    let shift = width - 1 - bit;
                    (prefix.0.bits() ^ address.bits()) >> shift & 1 == 0
                })
        }

        fn insert(&mut self, prefix: (Addr, u8), next: NextHop) {
            self.0.retain(|&(address, len, _)| !(len == prefix.1 && Self::covers((address, len), prefix.0)));
            self.0.push((prefix.0, prefix.1, next));
        }

        fn lookup(&self, destination: Addr) -> Option<NextHop> {
            self.0
                .iter()
                .filter(|&&(address, len, _)| Self::covers((address, len), destination))
                .max_by_key(|&&(_, len, _)| len)
                .map(|&(_, _, next)| next)
        }
    }

    fn hop(port: u16) -> NextHop {
        NextHop { port: PortId(port), gateway: None }
    }

    /// Addresses from few different octets, so that prefixes nest and meet.
    fn address() -> impl Strategy<Value = Addr> {
        let octet = prop_oneof![Just(0u8), Just(0x80), Just(0xff), Just(0x0a), 0u8..=255];
        prop_oneof![
            proptest::array::uniform4(octet.clone()).prop_map(Addr::v4),
            proptest::array::uniform16(octet).prop_map(Addr::v6),
        ]
    }

    fn prefix() -> impl Strategy<Value = (Addr, u8)> {
        (address(), 0u8..=128, any::<bool>()).prop_map(|(address, len, host)| {
            let width = Linear::width(address) as u8;
            (address, if host { width } else { len % (width + 1) })
        })
    }

    proptest! {
        #[test]
        fn gives_what_a_scan_of_all_routes_gives(
            prefixes in vec(prefix(), 0..60),
            others in vec(address(), 0..20),
            flips in vec((0usize..60, 0u32..128), 0..60),
        ) {
            let mut table = RouteTable::new();
            let mut linear = Linear::default();
            for (i, &prefix) in prefixes.iter().enumerate() {
                table.insert(prefix, hop(i as u16));
                linear.insert(prefix, hop(i as u16));
            }
            prop_assert_eq!(table.len(), linear.0.len());
            let near = flips.iter().filter_map(|&(i, bit)| {
                let (address, _) = *prefixes.get(i)?;
                Some(Addr::from_bits(address.bits() ^ 1 << (bit % Linear::width(address))))
            });
            for address in prefixes.iter().map(|p| p.0).chain(others).chain(near) {
                prop_assert_eq!(table.lookup(address), linear.lookup(address), "{}", address);
            }
        }
    }

    #[test]
    fn an_empty_table_knows_no_way() {
        assert_eq!(RouteTable::new().lookup(Addr::v4([10, 0, 0, 1])), None);
        assert!(RouteTable::new().is_empty());
    }

    #[test]
    fn the_families_do_not_share_a_default_route() {
        let mut table = RouteTable::new();
        table.insert((Addr::v4([0; 4]), 0), hop(4));
        assert_eq!(table.lookup(Addr::v4([192, 0, 2, 1])), Some(hop(4)));
        assert_eq!(table.lookup(Addr::v6([0x20; 16])), None);
        table.insert((Addr::UNSPECIFIED, 0), hop(6));
        assert_eq!(table.lookup(Addr::v6([0x20; 16])), Some(hop(6)));
        assert_eq!(table.lookup(Addr::v4([192, 0, 2, 1])), Some(hop(4)));
    }

    #[test]
    fn every_length_of_nested_prefixes_is_found() {
        for (ones, width) in [(Addr::v4([0xff; 4]), 32), (Addr::v6([0xff; 16]), 128)] {
            let mut table = RouteTable::new();
            for len in 0..=width {
                table.insert((ones, len), hop(u16::from(len)));
            }
            assert_eq!(table.lookup(ones), Some(hop(u16::from(width))));
            // An address whose first zero is bit `len` is in the prefix of that length and in none that is longer.
            for len in 0..width {
                let address = Addr::from_bits(ones.bits() ^ 1 << (width - 1 - len));
                assert_eq!(table.lookup(address), Some(hop(u16::from(len))));
            }
        }
    }

    #[test]
    fn the_last_route_to_a_prefix_counts_whatever_its_host_bits() {
        let mut table = RouteTable::new();
        table.insert((Addr::v4([10, 1, 2, 3]), 8), hop(1));
        table.insert((Addr::v4([10, 0, 0, 0]), 8), hop(2));
        table.insert((Addr::v4([10, 0, 0, 1]), 32), hop(3));
        table.insert((Addr::v4([10, 0, 0, 1]), 255), hop(4));
        assert_eq!(table.len(), 2);
        assert_eq!(table.lookup(Addr::v4([10, 9, 9, 9])), Some(hop(2)));
        assert_eq!(table.lookup(Addr::v4([10, 0, 0, 1])), Some(hop(4)));
    }

    #[test]
    fn a_hundred_thousand_long_routes_stay_small() {
        let mut table = RouteTable::new();
        let mut state = 1u64;
        for _ in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = u128::from(state) << 64 | u128::from(state.rotate_left(29));
            table.insert((Addr::from_bits(bits), 64), hop(1));
            let [a, b, c, d, ..] = bits.to_be_bytes();
            table.insert((Addr::v4([a, b, c, d]), 24), hop(1));
        }
        let held: usize =
            table.nodes.iter().map(|n| 4 * n.end_routes.capacity() + 8 * n.slot_values.capacity()).sum();
        let bytes =
            held + table.nodes.capacity() * size_of::<Node>() + table.routes.capacity() * size_of::<Route>();
        assert!(table.len() > 99_000, "{} routes", table.len());
        assert!(bytes < 40 << 20, "{bytes} bytes");
    }
}
