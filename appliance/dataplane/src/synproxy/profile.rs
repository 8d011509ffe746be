//! What backends agree to, learnt from their handshakes, so that clients are offered what they will get.
//!
//! Backends of load balancers have a number each, and a place. Other servers are known by their addresses, as well as a fixed memory can:
//! one that takes the place of another is asked for anew, and what it then agrees to otherwise is translated.

use crate::addr::Addr;
use crate::hash::{fold, halves};
use crate::verdict::BackendId;

/// What a backend is known to do. What it was never asked for is taken as granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The largest segment that it takes; 0: it was never heard, or names none.
    pub mss: u16,
    /// The shift of its windows.
    pub window_scale: Option<Scale>,
    /// Whether it understands selective acknowledgements.
    pub sack: Option<bool>,
    /// Whether it sends timestamps.
    pub timestamps: Option<bool>,
    /// Whether it notifies congestion.
    pub ecn: Option<bool>,
}

/// What a backend says to a client's window scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// It has none.
    None,
    /// Its own is this.
    Of(u8),
}

/// What a client may be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The largest segment that the backend takes.
    pub mss: u16,
    /// The shift of the backend's windows; `None`: it has none.
    pub window_scale: Option<u8>,
    /// The backend understands selective acknowledgements.
    pub sack: bool,
    /// The backend sends timestamps.
    pub timestamps: bool,
    /// The backend notifies congestion.
    pub ecn: bool,
}

/// The scale that a backend of which nothing is known is said to have: that of Linux with its usual buffers.
const USUAL_SCALE: u8 = 7;

/// What clients of a backend of which nothing is known are offered, on links that any segment fits.
const UNKNOWN_OFFER: Offer =
    Offer { mss: u16::MAX, window_scale: Some(USUAL_SCALE), sack: true, timestamps: true, ecn: true };

impl Profile {
    /// What to offer to a client of this backend; `mss_max` fits the links.
    #[inline(always)]
    pub fn offer(&self, mss_max: u16) -> Offer {
        Offer {
            mss: if self.mss == 0 { mss_max } else { self.mss.min(mss_max) },
            window_scale: match self.window_scale {
                None => Some(USUAL_SCALE),
                Some(Scale::Of(shift)) => Some(shift.min(14)),
                Some(Scale::None) => None,
            },
            sack: self.sack != Some(false),
            timestamps: self.timestamps != Some(false),
            ecn: self.ecn != Some(false),
        }
    }

    /// This one with what was heard after it. What was not asked for then is as it was.
    fn after(self, heard: Self) -> Self {
        Self {
            mss: heard.mss,
            window_scale: heard.window_scale.or(self.window_scale),
            sack: heard.sack.or(self.sack),
            timestamps: heard.timestamps.or(self.timestamps),
            ecn: heard.ecn.or(self.ecn),
        }
    }

    /// As one word, for counters that are read by others.
    pub fn to_bits(self) -> u64 {
        let flag = |flag: Option<bool>| match flag {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        };
        let scale = match self.window_scale {
            None => 0,
            Some(Scale::None) => 1,
            Some(Scale::Of(shift)) => 2 + u64::from(shift.min(14)),
        };
        u64::from(self.mss)
            | scale << 16
            | flag(self.sack) << 24
            | flag(self.timestamps) << 26
            | flag(self.ecn) << 28
    }

    /// From the word.
    pub fn from_bits(bits: u64) -> Self {
        let flag = |shift: u32| match bits >> shift & 3 {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        };
        Self {
            mss: bits as u16,
            window_scale: match bits >> 16 & 0x1f {
                0 => None,
                1 => Some(Scale::None),
                shift => Some(Scale::Of((shift - 2).min(14) as u8)),
            },
            sack: flag(24),
            timestamps: flag(26),
            ecn: flag(28),
        }
    }
}

/// Servers that are known by their addresses.
const SERVERS: usize = 4096;

/// The profiles of all backends, and of the last other servers.
#[derive(Clone, Debug)]
pub struct Profiles {
    /// By [`BackendId`].
    backends: Vec<Profile>,
    /// What to offer to clients of each, on links that any segment fits.
    offers: Vec<Offer>,
    servers: Box<[(Addr, Profile)]>,
}

impl Default for Profiles {
    fn default() -> Self {
        let nobody = (Addr::UNSPECIFIED, Profile::default());
        Self { backends: Vec::new(), offers: Vec::new(), servers: vec![nobody; SERVERS].into_boxed_slice() }
    }
}

impl Profiles {
    /// Room for so many backends; what is known stays.
    pub fn fit(&mut self, backends: usize) {
        let backends = backends.max(self.backends.len());
        self.backends.resize(backends, Profile::default());
        self.offers.resize(backends, UNKNOWN_OFFER);
    }

    /// What is known of a backend. Of what is no backend, nothing.
    #[inline]
    pub fn of(&self, backend: Option<BackendId>) -> Profile {
        backend.and_then(|BackendId(id)| self.backends.get(id as usize)).copied().unwrap_or_default()
    }

    /// What is known of a server that is no load balancer's.
    #[inline]
    pub fn at(&self, server: Addr) -> Profile {
        let (known, profile) = self.servers[place(server)];
        if known == server { profile } else { Profile::default() }
    }

    /// What to offer to a client of a backend, as its [profile](Profile::offer) says, on links that any segment fits.
    #[inline(always)]
    pub fn offer_of(&self, BackendId(id): BackendId) -> &Offer {
        self.offers.get(id as usize).unwrap_or(&UNKNOWN_OFFER)
    }

    /// Notes what a backend agreed to.
    #[inline]
    pub fn learn(&mut self, backend: Option<BackendId>, profile: Profile) {
        let Some(BackendId(id)) = backend else { return };
        let Self { backends, offers, .. } = self;
        if let (Some(known), Some(offer)) = (backends.get_mut(id as usize), offers.get_mut(id as usize)) {
            *known = known.after(profile);
            *offer = known.offer(u16::MAX);
        }
    }

    /// Notes what another server agreed to.
    #[inline]
    pub fn learn_at(&mut self, server: Addr, profile: Profile) {
        let profile = self.at(server).after(profile);
        self.servers[place(server)] = (server, profile);
    }

    /// All of backends, by [`BackendId`].
    pub fn all(&self) -> &[Profile] {
        &self.backends
    }
}

/// Where a server's profile is kept. No secret: only servers that agreed to a connection are kept.
#[inline]
fn place(server: Addr) -> usize {
    let (high, low) = halves(server);
    fold(low ^ 0x9e37_79b9_7f4a_7c15, high ^ 0xa076_1d64_78bd_642f) as usize % SERVERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_word_tells_all(mss: u16, scale in 0u8..17, flags in prop::array::uniform3(prop::option::of(any::<bool>()))) {
            let window_scale = match scale {
                15 => None,
                16 => Some(Scale::None),
                shift => Some(Scale::Of(shift)),
            };
            let [sack, timestamps, ecn] = flags;
            let profile = Profile { mss, window_scale, sack, timestamps, ecn };
            prop_assert_eq!(Profile::from_bits(profile.to_bits()), profile);
        }

        #[test]
        fn any_word_is_a_profile(bits: u64) {
            let profile = Profile::from_bits(bits);
            prop_assert_eq!(Profile::from_bits(profile.to_bits()), profile);
        }
    }

    #[test]
    fn what_was_not_asked_for_is_not_forgotten() {
        let mut profiles = Profiles::default();
        profiles.fit(1);
        let backend = Some(BackendId(0));
        let heard = Profile { mss: 1400, sack: Some(false), ..Profile::default() };
        profiles.learn(backend, heard);
        profiles.learn(backend, Profile { mss: 1300, timestamps: Some(true), ..Profile::default() });
        let expected = Profile { mss: 1300, sack: Some(false), timestamps: Some(true), ..Profile::default() };
        assert_eq!(profiles.of(backend), expected);
        assert_eq!(profiles.of(Some(BackendId(9))), Profile::default());
        let offer = profiles.of(backend).offer(1460);
        assert_eq!(
            (offer.mss, offer.sack, offer.timestamps, offer.window_scale),
            (1300, false, true, Some(7))
        );
        for backend in [BackendId(0), BackendId(9)] {
            assert_eq!(*profiles.offer_of(backend), profiles.of(Some(backend)).offer(u16::MAX));
        }
    }

    #[test]
    fn servers_are_known_by_their_addresses() {
        let mut profiles = Profiles::default();
        let server = |n: u32| Addr::v4((0x0a02_0000 + n).to_be_bytes());
        let heard = Profile { mss: 1400, window_scale: Some(Scale::Of(9)), ..Profile::default() };
        profiles.learn_at(server(1), heard);
        assert_eq!((profiles.at(server(1)), profiles.at(server(2))), (heard, Profile::default()));
        // More than there is room for: who is not known is not taken for another.
        for n in 0..20_000 {
            profiles.learn_at(server(n), Profile { mss: n as u16, ..Profile::default() });
        }
        let known = (0..20_000).filter(|n| profiles.at(server(*n)).mss == *n as u16 && *n > 0).count();
        let wrong = (1..20_000).any(|n| ![0, n as u16].contains(&profiles.at(server(n)).mss));
        assert!(!wrong && (SERVERS / 2..=SERVERS).contains(&known), "{known}");
    }
}
