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
    /// Whether a cookie, by its number and its [name](super::Proof::name), was noted before.
    #[inline]
    pub fn has(&self, cookie: u32, name: u32) -> bool {
        self.0.get(place(cookie)) == Some(&mark(name))
    }

    /// Notes a cookie.
    #[inline]
    pub fn spend(&mut self, cookie: u32, name: u32) {
        if let Some(place) = self.0.get_mut(place(cookie)) {
            *place = mark(name);
        }
    }

    /// Forgets a cookie that opened nothing in the end.
    #[inline]
    pub fn forget(&mut self, cookie: u32) {
        if let Some(place) = self.0.get_mut(place(cookie)) {
            *place = 0;
        }
    }
}

/// The number's lower bits are not of the hash.
fn place(cookie: u32) -> usize {
    (cookie >> 4) as usize % PLACES
}

/// Never that of an empty place.
fn mark(name: u32) -> u32 {
    name | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_good_once() {
        let mut spent = Spent::default();
        for (cookie, name) in [(0x1230, 7 << 1), (0x4560, 7 << 1), (0, 0)] {
            assert!(!spent.has(cookie, name));
            spent.spend(cookie, name);
            assert!(spent.has(cookie, name));
        }
        // Another one in the same place.
        spent.spend(0x1230, 8 << 1);
        assert!(spent.has(0x1230, 8 << 1) && !spent.has(0x1230, 7 << 1) && spent.has(0x4560, 7 << 1));
        spent.forget(0x1230);
        assert!(!spent.has(0x1230, 8 << 1) && spent.has(0x4560, 7 << 1));
    }
}
