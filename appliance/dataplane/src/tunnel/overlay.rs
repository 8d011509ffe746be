//! Segments of an overlay: ports that another port carries in VXLAN, to one or several remotes.
//!
//! To every stage a segment is a port as any. What differs is where its frames come from and go: out of the outer headers of a remote's
//! packets, and into those of packets to the remote behind which the station is. Frames to all stations, and to one that has not been
//! heard of, go to every remote. Who is heard from which remote is kept in a table of fixed size, which all workers share.

use crate::addr::{Addr, Mac};
use crate::time::Time;
use crate::verdict::PortId;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use nva_config::Segment as Configured;
use smallvec::SmallVec;
use std::sync::Arc;

/// How long a station is known that is not heard any more, in seconds: as bridges have it (IEEE 802.1Q, table 8-6).
const AGE_MAX_SECONDS: u32 = 300;
const WAYS: usize = 4;
const BUCKETS: usize = 1024;

/// A segment.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The network.
    pub vni: u32,
    /// The UDP port at both ends.
    pub udp_port: u16,
    /// The port that carries it.
    pub carrier: PortId,
    /// The other ends, those to which a route leads first.
    pub remotes: SmallVec<[Remote; 2]>,
    /// Where stations are; `None`: there is nothing to learn.
    stations: Option<Arc<Stations>>,
    /// To know by whether it is the same as before.
    configured: Configured,
}

/// Another end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its address.
    pub address: Addr,
    /// The way to it, by its number.
    pub path: u32,
}

impl Segment {
    /// Frames go by the same network and UDP port to the same remotes.
    pub(super) fn leads_as(&self, other: &Self) -> bool {
        let key = |segment: &Self| (segment.vni, segment.udp_port, segment.carrier);
        key(self) == key(other) && self.remotes == other.remotes
    }

    /// `before`: the segment of the same port under an earlier configuration. What was learnt holds on if nothing changed.
    pub(super) fn new(
        configured: &Configured,
        carrier: PortId,
        remotes: SmallVec<[Remote; 2]>,
        before: Option<&Self>,
    ) -> Self {
        let same = before.filter(|before| before.configured == *configured && before.remotes == remotes);
        let has_choice = configured.learn && remotes.len() > 1;
        let stations = match same {
            Some(before) => before.stations.clone(),
            None => has_choice.then(Arc::default),
        };
        Self {
            vni: configured.vni,
            udp_port: configured.udp_port,
            carrier,
            remotes,
            stations,
            configured: configured.clone(),
        }
    }

    /// A frame of this station came from a remote.
    #[inline]
    pub fn learn(&self, station: Mac, remote: Addr, now: Time) {
        let Some(stations) = &self.stations else { return };
        if let Some(place) = self.remotes.iter().position(|one| one.address == remote) {
            stations.learn(station, place as u16, now);
        }
    }

    /// The remotes that a frame to this station goes to: that behind which it was heard, else all of them.
    #[inline]
    pub fn toward(&self, station: Mac, now: Time) -> &[Remote] {
        let known = self.stations.as_ref().filter(|_| !station.is_group());
        let place = known.and_then(|stations| stations.find(station, now)).map(usize::from);
        place.and_then(|place| self.remotes.get(place..=place)).unwrap_or(&self.remotes)
    }
}

/// Where stations were heard last. *Invariant:* the size never changes; of more stations than fit the ones that were not heard for longest
/// are forgotten. Entries are written and read without order between them: who reads half of a change sends a frame to a remote that is one of the segment's all
/// the same.
#[derive(Debug)]
struct Stations {
    entries: Box<[Entry]>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The station, and in the upper 16 bits its remote's place plus one; 0: nobody.
    station: AtomicU64,
    /// When it was heard, in seconds.
    heard: AtomicU32,
}

const STATION: u64 = (1 << 48) - 1;

impl Default for Stations {
    fn default() -> Self {
        Self { entries: (0..WAYS * BUCKETS).map(|_| Entry::default()).collect() }
    }
}

impl Stations {
    fn bucket(&self, station: u64) -> &[Entry] {
        let at = (station.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize * WAYS;
        self.entries.get(at..at + WAYS).unwrap_or_default()
    }

    fn learn(&self, station: Mac, place: u16, now: Time) {
        let (station, now) = (bits(station), seconds(now));
        if station == 0 {
            return;
        }
        let bucket = self.bucket(station);
        let known = bucket.iter().find(|entry| entry.station.load(Relaxed) & STATION == station);
        // One that is new takes the place that is free, or that of the one that was not heard for longest.
        let age = |entry: &&Entry| match entry.station.load(Relaxed) {
            0 => u32::MAX,
            _ => now.saturating_sub(entry.heard.load(Relaxed)),
        };
        let Some(entry) = known.or_else(|| bucket.iter().max_by_key(age)) else { return };
        let word = station | (u64::from(place) + 1) << 48;
        // A line that all workers read is written to when something changes, and once a second.
        if entry.station.load(Relaxed) != word {
            entry.station.store(word, Relaxed);
        }
        if entry.heard.load(Relaxed) != now {
            entry.heard.store(now, Relaxed);
        }
    }

    fn find(&self, station: Mac, now: Time) -> Option<u16> {
        let station = bits(station);
        let bucket = self.bucket(station).iter();
        bucket
            .map(|entry| (entry.station.load(Relaxed), entry.heard.load(Relaxed)))
            .find(|(word, _)| word & STATION == station)
            .filter(|(_, heard)| seconds(now).saturating_sub(*heard) < AGE_MAX_SECONDS)
            .and_then(|(word, _)| ((word >> 48) as u16).checked_sub(1))
    }
}

fn bits(Mac([a, b, c, d, e, f]): Mac) -> u64 {
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn seconds(now: Time) -> u32 {
    (now.0 / 1_000_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::collections::HashMap;

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    fn segment(count: u8, learn: bool) -> Segment {
        let addresses: Vec<std::net::IpAddr> = (1..=count).map(|n| [10, 2, 0, n].into()).collect();
        let configured = Configured {
            port: nva_config::PortIndex(0),
            vni: 42,
            local: [10, 2, 0, 254].into(),
            remotes: addresses.clone(),
            udp_port: 4789,
            learn,
        };
        let remotes = addresses.iter().map(|one| Remote { address: (*one).into(), path: 0 }).collect();
        Segment::new(&configured, PortId(0), remotes, None)
    }

    const NOW: Time = Time::from_millis(1_000_000);

    #[test]
    fn a_station_is_where_it_was_heard_last() {
        let segment = segment(3, true);
        let [a, b] = [1, 2].map(|n| Addr::v4([10, 2, 0, n]));
        assert_eq!(segment.toward(mac(1), NOW).len(), 3, "not heard of");
        segment.learn(mac(1), a, NOW);
        segment.learn(mac(2), b, NOW);
        assert_eq!(segment.toward(mac(1), NOW), &segment.remotes[..1]);
        assert_eq!(segment.toward(mac(2), NOW), &segment.remotes[1..2]);
        segment.learn(mac(1), b, NOW);
        assert_eq!(segment.toward(mac(1), NOW), &segment.remotes[1..2], "it moved");
        segment.learn(mac(1), Addr::v4([10, 2, 0, 9]), NOW);
        assert_eq!(segment.toward(mac(1), NOW), &segment.remotes[1..2], "a stranger says nothing");
        assert_eq!(segment.toward(Mac([0xff; 6]), NOW).len(), 3, "for all");
        let heard = NOW + Duration::from_secs(200);
        segment.learn(mac(1), b, heard);
        let later = NOW + Duration::from_secs(300);
        assert_eq!(
            (segment.toward(mac(1), later).len(), segment.toward(mac(2), later).len()),
            (1, 3),
            "aged"
        );
    }

    #[test]
    fn without_a_choice_nothing_is_learnt() {
        for segment in [segment(1, true), segment(3, false)] {
            assert!(segment.stations.is_none());
            segment.learn(mac(1), Addr::v4([10, 2, 0, 1]), NOW);
            assert_eq!(segment.toward(mac(1), NOW).len(), segment.remotes.len());
        }
    }

    #[test]
    fn a_flood_of_stations_takes_no_room_and_those_that_are_heard_stay() {
        let segment = segment(2, true);
        let mut now = NOW;
        let mut said = HashMap::new();
        for n in 0..200_000 {
            now = now + Duration::from_millis(1);
            let place = (n % 2) as u8 + 1;
            segment.learn(mac(n), Addr::v4([10, 2, 0, place]), now);
            said.insert(n, place);
            // One that speaks every second.
            if n % 1000 == 0 {
                segment.learn(mac(u32::MAX), Addr::v4([10, 2, 0, 2]), now);
            }
        }
        let mut known = 0;
        for (n, place) in said {
            if let [one] = segment.toward(mac(n), now) {
                assert_eq!(one.address, Addr::v4([10, 2, 0, place]));
                known += 1;
            }
        }
        assert!((3_000..=4_096).contains(&known), "{known}");
    }

    #[test]
    fn what_was_learnt_holds_under_the_same_configuration_only() {
        let first = segment(2, true);
        first.learn(mac(1), Addr::v4([10, 2, 0, 2]), NOW);
        let again = Segment::new(&first.configured, PortId(0), first.remotes.clone(), Some(&first));
        assert_eq!(again.toward(mac(1), NOW).len(), 1);
        let other = segment(3, true);
        let other = Segment::new(&other.configured, PortId(0), other.remotes.clone(), Some(&first));
        assert_eq!(other.toward(mac(1), NOW).len(), 3);
    }
}
