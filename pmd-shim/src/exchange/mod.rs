//! What passes between workers: things for one other, as frames of its flows, and news that all others are to hear. Bounded queues, never
//! a lock. A worker that sleeps is woken by its [`Bell`].
//!
//! Each worker has a queue to each other one, so that no two write to the same memory, and what one gives another keeps its order.

mod bell;
mod ring;

pub use bell::Bell;
pub use ring::{Consumer, Producer, ring};

use arrayvec::ArrayVec;
use core::fmt;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Things on their way from one worker to another, at most.
pub const ROOM_MAX: usize = 1024;
/// Things of one worker on their way, at most, among many workers.
const ROOM_ALL: usize = 8192;
/// Where there are very many workers, there is still room for this many for each.
const ROOM_MIN: usize = 128;
/// News on their way to one worker, and as many more that wait at their sender.
const NEWS: usize = 256;

/// A worker's place among the others: what they have for it, and how it reaches them.
#[derive(Debug)]
pub struct Post<T, N> {
    /// What the others have for it.
    pub inbox: Inbox<T, N>,
    /// The others.
    pub peers: Peers<T, N>,
}

/// What the others have for one worker.
pub struct Inbox<T, N> {
    /// From each of the others.
    senders: Vec<Sender<T, N>>,
    /// Whose things come first in the next turn.
    first: usize,
    /// `None`: there is nobody else to wake it.
    bell: Option<Arc<Bell>>,
}

struct Sender<T, N> {
    things: Consumer<T>,
    news: Consumer<N>,
}

/// The other workers, as one of them sees them.
pub struct Peers<T, N> {
    /// By their numbers; `None` is the worker itself.
    peers: Vec<Option<Peer<T, N>>>,
}

struct Peer<T, N> {
    things: Producer<T>,
    news: Producer<N>,
    /// News that found no room there yet.
    pending: VecDeque<N>,
    bell: Option<Arc<Bell>>,
}

/// The posts of so many workers. `others_ring`: not only workers wake them.
///
/// # Errors
/// What the kernel says when there are no descriptors left.
pub fn posts<T, N>(workers: usize, others_ring: bool) -> io::Result<Vec<Post<T, N>>> {
    let room = (ROOM_ALL / workers.max(1)).clamp(ROOM_MIN, ROOM_MAX);
    let mut posts = Vec::with_capacity(workers);
    for _ in 0..workers {
        let bell = if workers > 1 || others_ring { Some(Arc::new(Bell::new()?)) } else { None };
        let inbox = Inbox { senders: Vec::new(), first: 0, bell };
        posts.push(Post { inbox, peers: Peers { peers: Vec::new() } });
    }
    for from in 0..workers {
        for to in 0..workers {
            let peer = (from != to).then(|| {
                let ((things, taken), (news, heard)) = (ring(room), ring(NEWS));
                let inbox = &mut posts[to].inbox;
                inbox.senders.push(Sender { things: taken, news: heard });
                Peer { things, news, pending: VecDeque::with_capacity(NEWS), bell: inbox.bell.clone() }
            });
            posts[from].peers.peers.push(peer);
        }
    }
    Ok(posts)
}

impl<T, N> Inbox<T, N> {
    /// Takes things as far as the burst has room, from each of the others in turn; how many.
    pub fn take<const ROOM: usize>(&mut self, burst: &mut ArrayVec<T, ROOM>) -> usize {
        let count = self.senders.len();
        let mut taken = 0;
        for step in 0..count {
            let at = self.first + step;
            taken += self.senders[if at < count { at } else { at - count }].things.take(burst);
        }
        self.first = if self.first + 1 < count { self.first + 1 } else { 0 };
        taken
    }

    /// The next news.
    pub fn news(&mut self) -> Option<N> {
        self.senders.iter_mut().find_map(|sender| sender.news.pop())
    }

    /// What wakes the worker; `None`: nobody else is there to.
    pub fn bell(&self) -> Option<&Arc<Bell>> {
        self.bell.as_ref()
    }

    /// What becomes readable when somebody has something for the worker.
    pub fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_deref().map(Bell::wait_handle)
    }

    /// The worker is about to sleep. `false`: it had better not, as something came.
    pub fn lie_down(&self) -> bool {
        let quiet = || self.senders.iter().all(|from| from.things.is_empty() && from.news.is_empty());
        self.bell.as_deref().map_or_else(quiet, |bell| bell.lie_down(quiet))
    }

    /// The worker is awake again.
    pub fn get_up(&self) {
        self.bell.iter().for_each(|bell| bell.get_up());
    }
}

impl<T, N: Copy> Peers<T, N> {
    /// Gives a thing to another worker, which sees it at the next [flush](Self::flush), behind all that it was given before.
    ///
    /// # Errors
    /// The thing, when too many are on their way there.
    #[inline]
    pub fn hand_over(&mut self, worker: usize, thing: T) -> Result<(), T> {
        let Some(Some(peer)) = self.peers.get_mut(worker) else { return Err(thing) };
        peer.things.push(thing)
    }

    /// Tells all others. News that too many wait before are lost: whoever needs them asks again.
    pub fn tell(&mut self, news: N) {
        for peer in self.peers.iter_mut().flatten().filter(|peer| peer.pending.len() < NEWS) {
            peer.pending.push_back(news);
        }
    }

    /// Once a turn: passes on what waits, and wakes those that something came for.
    pub fn flush(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            while let Some(news) = peer.pending.front() {
                if peer.news.push(*news).is_err() {
                    break;
                }
                peer.pending.pop_front();
            }
            let is_due = peer.things.publish() | peer.news.publish();
            if is_due {
                peer.bell.iter().for_each(|bell| bell.ring());
            }
        }
    }
}

impl<T, N> fmt::Debug for Inbox<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("senders", &self.senders.len()).finish_non_exhaustive()
    }
}

impl<T, N> fmt::Debug for Peers<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("workers", &self.peers.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
