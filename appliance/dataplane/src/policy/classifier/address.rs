//! From an address to its class: for IPv4 a table of the upper 16 bits and nodes below it, for IPv6 a binary search.

use super::intervals::Intervals;
use super::memory::at;
use crate::addr::Addr;
use hashbrown::HashMap;

/// Marks an entry that is a class, not the start of a node.
pub(super) const CLASS: u32 = 1 << 31;
/// What an IPv4 address looks like as a number.
const MAPPED: u128 = 0xffff_0000_0000;
/// How many bits the root decides.
const ROOT_BITS: u32 = 16;
/// The levels below the root: by how much to shift an address to have its bits lowest, and how many there are.
pub(super) const LEVELS: [(u32, u32); 3] = [(10, 6), (5, 5), (0, 5)];

/// The classes of one side's addresses.
#[derive(Debug)]
pub(super) struct AddressIndex {
    /// By the upper half of an IPv4 address: a class, or where in `nodes` the lower bits are told apart.
    root: Box<[u32; 1 << ROOT_BITS]>,
    pub(super) nodes: Vec<u32>,
    /// Where the classes of all addresses, IPv4 mapped, begin.
    starts: Box<[u128]>,
    class: Box<[u32]>,
}

impl AddressIndex {
    /// Leads to the numbers that `values` has for the classes, which are below [`CLASS`].
    pub(super) fn build(intervals: &Intervals, values: &[u32]) -> Self {
        let class: Box<[u32]> = intervals.class.iter().map(|class| values[*class as usize]).collect();
        let (starts, place) = (&intervals.starts[..], intervals.find(MAPPED));
        let mut builder = Builder { starts, class: &class, place, nodes: vec![0], known: HashMap::new() };
        let mut root = Box::new([0; 1 << ROOT_BITS]);
        for (entry, high) in root.iter_mut().zip(0u32..) {
            *entry = builder.entry(high << 16, 16, &LEVELS);
        }
        let nodes = builder.nodes;
        Self { root, nodes, starts: starts.into(), class }
    }

    /// The entry in the root for an IPv4 address.
    #[inline(always)]
    pub(super) fn begin(&self, address: u32) -> u32 {
        self.root[usize::from((address >> 16) as u16)]
    }

    /// The class of an address of either family, as an entry.
    #[cold]
    pub(super) fn find(&self, address: Addr) -> u32 {
        let bits = address.bits();
        let place = self.starts.partition_point(|start| *start <= bits).saturating_sub(1);
        CLASS | at(&self.class, place as u32)
    }

    /// One level down, unless the class is known.
    #[inline(always)]
    pub(super) fn descend(&self, entry: u32, address: u32, (shift, bits): (u32, u32)) -> u32 {
        let known = entry & CLASS != 0;
        let place = if known { 0 } else { entry + (address >> shift & ((1 << bits) - 1)) };
        let below = at(&self.nodes, place);
        if known { entry } else { below }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.root)
            + size_of_val(&*self.nodes)
            + size_of_val(&*self.starts)
            + size_of_val(&*self.class)
    }
}

struct Builder<'a> {
    starts: &'a [u128],
    class: &'a [u32],
    /// The interval in which the part in work begins: parts come in ascending order.
    place: usize,
    nodes: Vec<u32>,
    /// Equal nodes are kept once.
    known: HashMap<Vec<u32>, u32>,
}

impl Builder<'_> {
    /// The entry for the `2^bits` IPv4 addresses from `first` on. As deep as `levels` is long.
    fn entry(&mut self, first: u32, bits: u32, levels: &[(u32, u32)]) -> u32 {
        let starts = self.starts;
        let begins = MAPPED | u128::from(first);
        while starts.get(self.place + 1).is_some_and(|next| *next <= begins) {
            self.place += 1;
        }
        let ends = begins + (1 << bits);
        let (Some(((shift, width), below)), true) =
            (levels.split_first(), starts.get(self.place + 1).is_some_and(|next| *next < ends))
        else {
            return CLASS | self.class.get(self.place).copied().unwrap_or(0);
        };
        let node: Vec<u32> =
            (0..1 << width).map(|part| self.entry(first | part << shift, *shift, below)).collect();
        if let Some(known) = self.known.get(&node) {
            return *known;
        }
        let start = self.nodes.len() as u32;
        self.nodes.extend_from_slice(&node);
        self.known.insert(node, start);
        start
    }
}
