//! Cookies that were redeemed: each opens one connection.
//!
//! A cookie is good for up to two minutes, and who saw an acknowledgement could send it again when its connection is over. So the last
//! ones are remembered, as well as a fixed memory can: a newer one in the same place pushes an older one out.

/// Places: more than are redeemed in two minutes at 500 a second.
const PLACES: usize = 1 << 16;

/// The last redeemed cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent(Box<[u32]>);

impl Default for Spent {
    fn default() -> Self {
        Self(vec![0; PLACES].into_boxed_slice())
    }
}

impl Spent {
    /// Notes a cookie, by its number and its [name](super::Proof::name). `false`: it was noted before.
    #[inline]
    pub fn spend(&mut self, cookie: u32, name: u32) -> bool {
        // The number's lower bits are not of the hash. The mark is never that of an empty place.
        let Some(place) = self.0.get_mut((cookie >> 4) as usize % PLACES) else { return true };
        let mark = name | 1;
        core::mem::replace(place, mark) != mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_good_once() {
        let mut spent = Spent::default();
        assert!(spent.spend(0x1230, 7 << 1) && spent.spend(0x4560, 7 << 1));
        assert!(!spent.spend(0x1230, 7 << 1) && !spent.spend(0x4560, 7 << 1));
        // Another one in the same place.
        assert!(spent.spend(0x1230, 8 << 1) && spent.spend(0x1230, 7 << 1));
    }
}
