//! Which Ethernet address a port has in a replay. A capture does not say which station took it, so the frames have to: most of
//! what a station receives by its own address is addressed to it.

use nva_dataplane::addr::Mac;
use std::collections::HashMap;

/// Different addresses that are counted; a capture with more of them is answered by the first ones.
const CANDIDATES_MAX: usize = 4096;

/// Votes for the address of one port.
#[derive(Debug, Default)]
pub(super) struct Election {
    votes: HashMap<[u8; 6], Votes>,
}

#[derive(Debug)]
struct Votes {
    count: u64,
    /// How many candidates were there before.
    place: usize,
}

impl Election {
    /// Counts a frame; one to a group says nothing. All zeros is an address too: that of the loopback interface.
    pub(super) fn vote(&mut self, frame: &[u8]) {
        let Some(&destination) = frame.first_chunk::<6>() else { return };
        if Mac(destination).is_group() {
            return;
        }
        let place = self.votes.len();
        if let Some(votes) = self.votes.get_mut(&destination) {
            votes.count += 1;
        } else if place < CANDIDATES_MAX {
            self.votes.insert(destination, Votes { count: 1, place });
        }
    }

    /// The address that most frames go to, of equals the one seen first.
    pub(super) fn winner(&self) -> Option<Mac> {
        let best = self.votes.iter().max_by_key(|(_, votes)| (votes.count, std::cmp::Reverse(votes.place)));
        best.map(|(&address, _)| Mac(address))
    }
}

/// The address of a port that no frame names: locally administered, its place from 1 in the last two bytes.
pub(super) fn default_address(index: usize) -> Mac {
    let [high, low] = u16::try_from(index + 1).unwrap_or(u16::MAX).to_be_bytes();
    Mac([0x02, 0, 0, 0, high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elect(destinations: &[[u8; 6]]) -> Option<Mac> {
        let mut election = Election::default();
        for destination in destinations {
            election.vote(&[destination.as_slice(), &[0; 8]].concat());
        }
        election.winner()
    }

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

    #[test]
    fn the_most_addressed_station_wins() {
        assert_eq!(elect(&[A, B, B]), Some(Mac(B)));
    }

    #[test]
    fn of_equals_the_first_wins() {
        assert_eq!(elect(&[B, A, A, B]), Some(Mac(B)));
    }

    #[test]
    fn groups_and_runts_have_no_vote() {
        assert_eq!(elect(&[[0xff; 6], [1, 0, 0x5e, 0, 0, 1]]), None);
        let mut election = Election::default();
        election.vote(&A[..5]);
        assert_eq!(election.winner(), None);
    }

    #[test]
    fn candidates_are_bounded_and_known_ones_still_count() {
        let mut election = Election::default();
        for n in 0..10_000_u32 {
            let [a, b, c, d] = n.to_be_bytes();
            election.vote(&[2, 1, a, b, c, d]);
        }
        election.vote(&[2, 1, 0, 0, 0, 7]);
        assert_eq!(election.votes.len(), CANDIDATES_MAX);
        assert_eq!(election.winner(), Some(Mac([2, 1, 0, 0, 0, 7])));
    }

    #[test]
    fn ports_without_a_candidate_are_numbered_from_one() {
        assert_eq!(default_address(0), Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(default_address(256), Mac([2, 0, 0, 0, 1, 1]));
    }
}
