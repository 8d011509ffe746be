//! A map of a few addresses that is mostly asked for others.

use crate::addr::Addr;
use hashbrown::HashTable;

/// Bits of the filter: some times as many as there are addresses of load balancers in a large configuration.
const BITS: usize = 4096;

/// What some addresses mean. Filled while a configuration is compiled, then only read. Its hash is no secret: nobody but the configuration puts
/// anything into it.
#[derive(Clone, Debug)]
pub(crate) struct AddrMap<V> {
    meanings: HashTable<(Addr, V)>,
    /// A set bit for each address. Of an address whose bit is not set, one word tells that it means nothing.
    filter: Box<[u64; BITS / 64]>,
}

impl<V> AddrMap<V> {
    /// What the address means.
    #[inline]
    pub(crate) fn get(&self, address: &Addr) -> Option<&V> {
        let hash = hash(*address);
        let (word, bit) = place(hash);
        if self.filter[word] >> bit & 1 == 0 {
            return None;
        }
        self.meanings.find(hash, |(known, _)| known == address).map(|(_, meaning)| meaning)
    }

    /// Gives the address a meaning, in place of the one that it had.
    pub(crate) fn insert(&mut self, address: Addr, meaning: V) {
        let hash = hash(address);
        let (word, bit) = place(hash);
        self.filter[word] |= 1 << bit;
        match self.meanings.find_mut(hash, |(known, _)| *known == address) {
            Some((_, old)) => *old = meaning,
            None => {
                self.meanings.insert_unique(hash, (address, meaning), |(known, _)| self::hash(*known));
            }
        }
    }

    /// All addresses with what they mean, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Addr, V)> {
        self.meanings.iter()
    }
}

#[inline]
fn hash(address: Addr) -> u64 {
    let bits = u128::from_ne_bytes(*address.octets());
    let product = u128::from(bits as u64 ^ (bits >> 64) as u64) * 0x9e37_79b9_7f4a_7c15;
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn place(hash: u64) -> (usize, u32) {
    let place = (hash >> 16) as usize % BITS;
    (place / 64, (place % 64) as u32)
}

impl<V> Default for AddrMap<V> {
    fn default() -> Self {
        Self { meanings: HashTable::new(), filter: Box::new([0; BITS / 64]) }
    }
}

impl<V: PartialEq> PartialEq for AddrMap<V> {
    fn eq(&self, other: &Self) -> bool {
        let has = |(address, meaning): &(Addr, V)| other.get(address) == Some(meaning);
        self.meanings.len() == other.meanings.len() && self.iter().all(has)
    }
}

impl<V: Eq> Eq for AddrMap<V> {}

impl<V> Extend<(Addr, V)> for AddrMap<V> {
    fn extend<I: IntoIterator<Item = (Addr, V)>>(&mut self, all: I) {
        all.into_iter().for_each(|(address, meaning)| self.insert(address, meaning));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::HashMap;
    use proptest::prelude::*;

    /// Addresses of both families that are often the same.
    fn addresses() -> impl Strategy<Value = Vec<Addr>> {
        let v4 = any::<[u8; 2]>().prop_map(|[c, d]| Addr::v4([10, 0, c % 4, d]));
        let v6 = any::<u8>().prop_map(|last| Addr::from_bits(0x2001_0db8 << 96 | u128::from(last)));
        proptest::collection::vec(prop_oneof![v4, v6], 0..300)
    }

    proptest! {
        #[test]
        fn says_what_a_plain_map_says(known in addresses(), asked in addresses()) {
            let mut map = AddrMap::default();
            map.extend(known.iter().copied().zip(0..));
            let plain: HashMap<Addr, i32> = known.iter().copied().zip(0..).collect();
            for address in known.iter().chain(&asked) {
                prop_assert_eq!(map.get(address), plain.get(address));
            }
            prop_assert_eq!(map.iter().count(), plain.len());
            let mut other = AddrMap::default();
            other.extend(plain);
            prop_assert_eq!(&map, &other);
            other.insert(Addr::UNSPECIFIED, 0);
            prop_assert_ne!(&map, &other);
        }
    }
}
