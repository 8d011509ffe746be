//! How many SYNs come: to each frontend, subnet and gateway, from each source, and at all.
//!
//! All of it is counted in windows of a second that begin with their first SYN. A frontend that gets more than the threshold in one is
//! flooded from that moment, until it got less than half of it for ten seconds. Where many frontends get a little each, they are
//! flooded together once those of them that are not yet, got more than the threshold. A subnet and a gateway count as a frontend does.

use super::Watched;
use crate::addr::{Addr, Family};
use crate::hash::fold;
use crate::time::Time;
use core::time::Duration;
use hashbrown::HashMap;
use nva_config::SynFlood;

/// The window.
const WINDOW: Duration = Duration::from_secs(1);
/// How long a flood must have been over.
const CALM: Duration = Duration::from_secs(10);
/// How long an answer to a SYN may still be shown after a flood: cookies are good no longer.
const SHOWN: Duration = Duration::from_secs(120);
/// Sources counted at once.
const PLACES: usize = 1 << 14;

/// A count of the window that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Meter {
    start: Time,
    count: u64,
}

impl Meter {
    /// Counts one; how many there are in the window that runs.
    #[inline]
    fn count(&mut self, now: Time) -> u64 {
        if now.since(self.start) >= WINDOW {
            *self = Self { start: now, count: 0 };
        }
        self.count += 1;
        self.count
    }
}

/// A frontend, a subnet or a gateway, or all that are not flooded by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Watch {
    meter: Meter,
    /// When it was last flooded, or got as much as keeps it so.
    hot: Option<Time>,
}

impl Watch {
    /// Counts a SYN; whether it is flooded.
    #[inline]
    fn see(&mut self, threshold: u64, now: Time) -> bool {
        let count = self.meter.count(now);
        let limit = if self.is_flooded(now) { threshold.div_ceil(2) } else { threshold + 1 };
        if count >= limit {
            self.hot = Some(now);
        }
        self.is_flooded(now)
    }

    fn is_flooded(&self, now: Time) -> bool {
        self.hot.is_some_and(|hot| now.since(hot) < CALM)
    }

    /// It is flooded, or was until a moment ago.
    fn was_flooded(&self, now: Time) -> bool {
        self.hot.is_some_and(|hot| now.since(hot) < CALM + SHOWN)
    }
}

/// The SYNs of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floods {
    /// SYNs a second, of this worker's part; 0: no limit.
    limits: SynFlood,
    all: Meter,
    watched: HashMap<Watched, Watch>,
    others: Watch,
    /// When any of them was last flooded.
    latest: Option<Time>,
    sources: Box<[Source]>,
    secret: [u64; 2],
}

/// A source: whose place it is, and how many it sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Source {
    owner: u64,
    meter: Meter,
}

const NO_LIMITS: SynFlood = SynFlood { per_source_rate: 0, global_rate: 0, proxy_threshold: 0 };

impl Floods {
    /// Nothing counted yet, and no limits. The secret keeps senders from choosing addresses that share a place.
    pub fn new(secret: [u8; 16]) -> Self {
        let secret = u128::from_le_bytes(secret);
        Self {
            limits: NO_LIMITS,
            all: Meter::default(),
            watched: HashMap::new(),
            others: Watch::default(),
            latest: None,
            sources: vec![Source::default(); PLACES].into_boxed_slice(),
            secret: [secret as u64 | 1, (secret >> 64) as u64],
        }
    }

    /// Takes up a configuration. The limits are shared by so many workers, save that of a source, who belongs to one. What stays to be
    /// watched keeps what was counted.
    pub fn adopt(
        &mut self,
        limits: Option<SynFlood>,
        workers: usize,
        watched: impl Iterator<Item = Watched>,
    ) {
        let limits = limits.unwrap_or(NO_LIMITS);
        let part = |limit: u64| limit.div_ceil(workers.max(1) as u64);
        self.limits = SynFlood {
            per_source_rate: limits.per_source_rate,
            global_rate: part(limits.global_rate),
            proxy_threshold: part(limits.proxy_threshold),
        };
        let known = core::mem::take(&mut self.watched);
        self.watched = watched.map(|it| (it, known.get(&it).copied().unwrap_or_default())).collect();
    }

    /// Whether one more SYN may come from a source; counts it.
    #[inline]
    pub fn allow(&mut self, source: Addr, now: Time) -> bool {
        let SynFlood { per_source_rate, global_rate, .. } = self.limits;
        if per_source_rate != 0 && self.of_source(source, now) > per_source_rate {
            return false;
        }
        global_rate == 0 || self.all.count(now) <= global_rate
    }

    /// How many came from a source in its window, as far as it has a place. One that has none passes, and wears the owner of the place down.
    fn of_source(&mut self, source: Addr, now: Time) -> u64 {
        let bits = source.bits();
        // A host of IPv6 has a network full of addresses.
        let low = if source.family() == Family::V4 { bits as u64 } else { 0 };
        let hash = fold(low ^ self.secret[0], (bits >> 64) as u64 ^ self.secret[1]);
        let owner = fold(hash, self.secret[0] ^ 0xa076_1d64_78bd_642f) | 1;
        let place = &mut self.sources[owner as usize / 2 % PLACES];
        if place.owner == owner {
            return place.meter.count(now);
        }
        let is_over = now.since(place.meter.start) >= WINDOW;
        place.meter.count = place.meter.count.saturating_sub(1);
        if is_over || place.meter.count == 0 {
            *place = Source { owner, meter: Meter { start: now, count: 1 } };
        }
        1
    }

    /// Counts a SYN to a frontend, or what else is watched; whether that is flooded, so that it has to be proved.
    #[inline]
    pub fn see(&mut self, watched: impl Into<Watched>, now: Time) -> bool {
        let threshold = self.limits.proxy_threshold;
        let watch = self.watched.get_mut(&watched.into());
        let Some(watch) = watch.filter(|_| threshold != 0) else { return false };
        let was_flooded = watch.is_flooded(now);
        let is_flooded = watch.see(threshold, now);
        self.latest = self.latest.max(watch.hot);
        if is_flooded {
            if !was_flooded {
                // What it got is its own flood, and not that of others.
                let others = &mut self.others.meter;
                others.count = others.count.saturating_sub(watch.meter.count);
            }
            return true;
        }
        let is_flooded = self.others.see(threshold, now);
        self.latest = self.latest.max(self.others.hot);
        is_flooded
    }

    /// Whether there is any frontend of which [`may_show`](Self::may_show) could be true. Of none that is not, is
    /// [`is_flooded`](Self::is_flooded).
    #[inline]
    pub fn may_any_show(&self, now: Time) -> bool {
        self.latest.is_some_and(|hot| now.since(hot) < CALM + SHOWN)
    }

    /// Whether one more SYN to a frontend is surely of a flood, which [`see`](Self::see) will say too at the same time. Counts nothing.
    #[inline]
    pub fn is_flooded(&self, watched: impl Into<Watched>, now: Time) -> bool {
        let watch = self.watched.get(&watched.into());
        self.limits.proxy_threshold != 0
            && watch.is_some_and(|watch| watch.is_flooded(now) || self.others.is_flooded(now))
    }

    /// Whether a client may show a cookie: of what was flooded, a moment ago at most.
    #[inline]
    pub fn may_show(&self, watched: impl Into<Watched>, now: Time) -> bool {
        let watch = self.watched.get(&watched.into());
        self.limits.proxy_threshold != 0
            && watch.is_some_and(|watch| watch.was_flooded(now) || self.others.was_flooded(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_millis(1_000_000);

    fn address(last: u8) -> Addr {
        Addr::v4([203, 0, 113, last])
    }

    fn floods(limits: SynFlood, frontends: u8) -> Floods {
        let mut floods = Floods::new([7; 16]);
        floods.adopt(Some(limits), 1, (0..frontends).map(|last| address(last).into()));
        floods
    }

    fn at(ms: u64) -> Time {
        START + Duration::from_millis(ms)
    }

    #[test]
    fn a_flood_begins_above_the_threshold_and_ends_after_calm() {
        let mut floods = floods(SynFlood { proxy_threshold: 100, ..NO_LIMITS }, 2);
        // 100 a second are none.
        assert!((0..500).all(|n| !floods.see(address(0), at(n * 10))));
        assert!(!floods.may_show(address(0), at(5_000)));
        // 101 in a second are one, from there on.
        let flooded: Vec<bool> = (0..150).map(|n| floods.see(address(0), at(6_000 + n * 5))).collect();
        assert_eq!(flooded.iter().position(|is| *is), Some(100));
        assert!(flooded[100..].iter().all(|is| *is));
        // Another frontend is not concerned.
        assert!(!floods.see(address(1), at(6_800)) && !floods.may_show(address(1), at(6_800)));
        // At half of it and more it goes on, below it ends after ten seconds.
        assert!((0..20_000).step_by(20).all(|ms| floods.see(address(0), at(7_000 + ms))));
        let calm: Vec<bool> =
            (0..15_000).step_by(100).map(|ms| floods.see(address(0), at(27_000 + ms))).collect();
        let end = calm.iter().position(|is| !is).expect("it ends");
        assert!((95..=105).contains(&end), "after {end} tenths of a second");
        // Cookies of its last moments are taken for two minutes.
        assert!(floods.may_show(address(0), at(40_000)) && !floods.may_show(address(0), at(200_000)));
    }

    #[test]
    fn many_frontends_that_get_a_little_are_flooded_together() {
        let mut floods = floods(SynFlood { proxy_threshold: 100, ..NO_LIMITS }, 50);
        let flooded: Vec<bool> = (0..200).map(|n| floods.see(address((n % 50) as u8), at(n))).collect();
        assert_eq!(flooded.iter().position(|is| *is), Some(100));
        // What is no frontend that asks is never flooded.
        assert!(!floods.see(address(99), at(300)));
    }

    #[test]
    fn sources_and_all_together_have_their_limits() {
        let mut floods = floods(SynFlood { per_source_rate: 100, global_rate: 1_000, ..NO_LIMITS }, 0);
        // D-01: one that sends a thousand a second beside fifty that send ten each.
        let (mut passed, mut honest) = (0, 0);
        for ms in 0..5_000u64 {
            passed += u64::from(floods.allow(address(1), at(ms)));
            if ms % 2 == 0 {
                honest += u64::from(floods.allow(Addr::v4([192, 0, 2, (ms / 2 % 50) as u8]), at(ms)));
            }
        }
        assert_eq!((passed, honest), (500, 2_500));
        // Forged sources are held by the limit of all.
        let passed = (0..100_000u32)
            .filter(|n| floods.allow(Addr::v4(n.to_be_bytes()), at(10_000 + u64::from(n / 100))))
            .count();
        assert_eq!(passed, 1_000);
    }
}
