//! What passes between workers: frames for another one's flows, and news that all are to hear. Bounded queues, never a lock.
//!
//! A worker that sleeps in the kernel is woken by a byte, written at most once for each sleep: what keeps the others from system calls
//! while it is awake.

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use nva_dataplane::route::News;
use pmd_shim::Burst;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Frames that may wait for one worker.
const FRAMES: usize = 1024;
/// News that may wait for one worker, and as many more at each of the others.
const NEWS: usize = 256;

/// What the others have for one worker.
pub(crate) struct Inbox<F> {
    frames: ArrayQueue<F>,
    news: ArrayQueue<News>,
    /// The worker sleeps, or is about to look at its queues for the last time before.
    asleep: CachePadded<AtomicBool>,
    /// `None`: there is nobody else to wake it.
    bell: Option<Bell>,
}

/// What wakes a worker. Neither end blocks.
struct Bell {
    heard: UnixStream,
    rung: UnixStream,
}

impl Bell {
    fn new() -> io::Result<Self> {
        let (heard, rung) = UnixStream::pair()?;
        heard.set_nonblocking(true)?;
        rung.set_nonblocking(true)?;
        Ok(Self { heard, rung })
    }
}

impl<F> Inbox<F> {
    /// The inboxes of all workers.
    ///
    /// # Errors
    /// What the kernel says when there are no descriptors left.
    pub(crate) fn all(workers: usize) -> io::Result<Vec<Arc<Self>>> {
        let inbox = |_| {
            Ok(Arc::new(Self {
                frames: ArrayQueue::new(FRAMES),
                news: ArrayQueue::new(NEWS),
                asleep: CachePadded::default(),
                bell: (workers > 1).then(Bell::new).transpose()?,
            }))
        };
        (0..workers).map(inbox).collect()
    }

    /// Worker: takes frames as far as the burst has room; how many.
    pub(crate) fn take(&self, burst: &mut Burst<F>) -> usize {
        let before = burst.len();
        while !burst.is_full()
            && let Some(frame) = self.frames.pop()
        {
            burst.push(frame);
        }
        burst.len() - before
    }

    /// Worker: the next news.
    pub(crate) fn news(&self) -> Option<News> {
        self.news.pop()
    }

    /// Worker: what becomes readable when somebody has something for it.
    pub(crate) fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(|bell| bell.heard.as_fd())
    }

    /// Worker: is about to sleep. `false`: it had better not, as something came.
    pub(crate) fn lie_down(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        // Either this sees what another worker pushed, or that one sees that this sleeps.
        fence(Ordering::SeqCst);
        let quiet = self.frames.is_empty() && self.news.is_empty();
        if !quiet {
            self.asleep.store(false, Ordering::Relaxed);
        }
        quiet
    }

    /// Worker: is awake again.
    pub(crate) fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        if let Some(bell) = &self.bell {
            // Without a byte there is nothing to be taken; one that comes late ends the next sleep early.
            let _ = (&bell.heard).read(&mut [0; 64]);
        }
    }

    /// Another worker: wakes this one if it sleeps.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed)
            && self.asleep.swap(false, Ordering::Relaxed)
            && let Some(bell) = &self.bell
        {
            // Only a bell with bytes in it can be full.
            let _ = (&bell.rung).write(&[1]);
        }
    }
}

/// The other workers, as one of them sees them.
pub(crate) struct Peers<F> {
    /// By their numbers; `None` is the worker itself.
    peers: Vec<Option<Peer<F>>>,
}

struct Peer<F> {
    inbox: Arc<Inbox<F>>,
    /// News that found no room there yet.
    pending: VecDeque<News>,
    /// Something was pushed since the bell was last rung.
    is_due: bool,
}

impl<F> Peers<F> {
    /// All but worker `own`.
    pub(crate) fn new(own: usize, inboxes: &[Arc<Inbox<F>>]) -> Self {
        let peer = |(index, inbox): (usize, &Arc<Inbox<F>>)| {
            (index != own).then(|| Peer {
                inbox: Arc::clone(inbox),
                pending: VecDeque::with_capacity(NEWS),
                is_due: false,
            })
        };
        Self { peers: inboxes.iter().enumerate().map(peer).collect() }
    }

    /// Gives a frame to another worker.
    ///
    /// # Errors
    /// The frame, when that one has too many waiting.
    pub(crate) fn hand_over(&mut self, worker: usize, frame: F) -> Result<(), F> {
        let Some(Some(peer)) = self.peers.get_mut(worker) else { return Err(frame) };
        peer.inbox.frames.push(frame)?;
        peer.is_due = true;
        Ok(())
    }

    /// Tells all others. News that too many wait before are lost: whoever needs them asks again.
    pub(crate) fn tell(&mut self, news: News) {
        for peer in self.peers.iter_mut().flatten().filter(|peer| peer.pending.len() < NEWS) {
            peer.pending.push_back(news);
        }
    }

    /// Once a turn: passes on what waits, and wakes those that something came for.
    pub(crate) fn flush(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            while let Some(news) = peer.pending.front() {
                if peer.inbox.news.push(*news).is_err() {
                    break;
                }
                peer.pending.pop_front();
                peer.is_due = true;
            }
            if std::mem::take(&mut peer.is_due) {
                peer.inbox.ring();
            }
        }
    }
}
