//! What passes between workers: frames for another one's flows, and news that all are to hear. Bounded queues, never a lock.
//! A worker that sleeps is woken by its [`Bell`].

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

/// What wakes a thread that sleeps in the kernel until others have something for it: a byte, written at most once for each sleep. While the
/// thread is awake, telling it costs no system call.
pub(crate) struct Bell {
    /// The thread sleeps, or is about to look at its queues for the last time before.
    asleep: CachePadded<AtomicBool>,
    /// Neither end blocks.
    heard: UnixStream,
    rung: UnixStream,
}

impl Bell {
    /// The bell of a thread that is awake.
    ///
    /// # Errors
    /// What the kernel says when there are no descriptors left.
    pub(crate) fn new() -> io::Result<Self> {
        let (heard, rung) = UnixStream::pair()?;
        heard.set_nonblocking(true)?;
        rung.set_nonblocking(true)?;
        Ok(Self { asleep: CachePadded::default(), heard, rung })
    }

    /// The thread: what becomes readable when it is rung.
    pub(crate) fn wait_handle(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }

    /// The thread: is about to sleep. `false`: it had better not, as its queues are not `quiet`.
    pub(crate) fn lie_down(&self, quiet: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        // Either this sees what another thread pushed, or that one sees that this sleeps.
        fence(Ordering::SeqCst);
        let quiet = quiet();
        if !quiet {
            self.asleep.store(false, Ordering::Relaxed);
        }
        quiet
    }

    /// The thread: is awake again.
    pub(crate) fn get_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        // Without a byte there is nothing to be taken; one that comes late ends the next sleep early.
        let _ = (&self.heard).read(&mut [0; 64]);
    }

    /// Another thread, behind what it pushed: wakes this one if it sleeps.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed) {
            // Only a bell with bytes in it can be full.
            let _ = (&self.rung).write(&[1]);
        }
    }
}

/// What the others have for one worker.
pub(crate) struct Inbox<F> {
    frames: ArrayQueue<F>,
    news: ArrayQueue<News>,
    /// `None`: there is nobody else to wake it.
    bell: Option<Bell>,
}

impl<F> Inbox<F> {
    /// The inboxes of all workers. `others_ring`: not only workers wake them.
    ///
    /// # Errors
    /// What the kernel says when there are no descriptors left.
    pub(crate) fn all(workers: usize, others_ring: bool) -> io::Result<Vec<Arc<Self>>> {
        let has_bells = workers > 1 || others_ring;
        let inbox = |_| {
            Ok(Arc::new(Self {
                frames: ArrayQueue::new(FRAMES),
                news: ArrayQueue::new(NEWS),
                bell: has_bells.then(Bell::new).transpose()?,
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
        self.bell.as_ref().map(Bell::wait_handle)
    }

    /// Worker: is about to sleep. `false`: it had better not, as something came.
    pub(crate) fn lie_down(&self) -> bool {
        let quiet = || self.frames.is_empty() && self.news.is_empty();
        self.bell.as_ref().map_or_else(quiet, |bell| bell.lie_down(quiet))
    }

    /// Worker: is awake again.
    pub(crate) fn get_up(&self) {
        self.bell.iter().for_each(Bell::get_up);
    }

    /// Another thread: wakes this one if it sleeps.
    pub(crate) fn ring(&self) {
        self.bell.iter().for_each(Bell::ring);
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

#[cfg(test)]
mod tests {
    use super::*;
    use nva_dataplane::addr::{Addr, Mac};
    use nva_dataplane::route::Learning;
    use nva_dataplane::verdict::PortId;
    use pmd_shim::idle;

    fn news(number: u16) -> News {
        let how = Learning::Request { may_create: true };
        News { port: PortId(number), address: Addr::UNSPECIFIED, mac: Some(Mac::BROADCAST), how }
    }

    fn inboxes(workers: usize) -> Vec<Arc<Inbox<usize>>> {
        Inbox::all(workers, false).expect("some descriptors")
    }

    #[test]
    fn frames_come_in_order_and_what_is_too_many_comes_back() {
        let inboxes = inboxes(3);
        let mut peers = Peers::new(0, &inboxes);
        for frame in 0..FRAMES {
            assert_eq!(peers.hand_over(2, frame), Ok(()));
        }
        assert_eq!(peers.hand_over(2, FRAMES), Err(FRAMES));
        assert_eq!(peers.hand_over(1, 7), Ok(()));
        for nobody in [0, 3] {
            assert_eq!(peers.hand_over(nobody, 7), Err(7));
        }
        let mut next = 0;
        let mut burst = Burst::new();
        while inboxes[2].take(&mut burst) > 0 {
            burst.drain(..).for_each(|frame| {
                assert_eq!(frame, next);
                next += 1;
            });
        }
        assert_eq!((next, inboxes[0].take(&mut burst)), (FRAMES, 0));
    }

    #[test]
    fn news_wait_for_room_and_reach_all_others() {
        let inboxes = inboxes(3);
        let mut peers = Peers::new(1, &inboxes);
        let count = 2 * NEWS as u16;
        for number in 0..count + 5 {
            peers.tell(news(number));
            if number < NEWS as u16 {
                peers.flush();
            }
        }
        for at in [0, 2] {
            let mut heard = Vec::new();
            while let Some(news) = inboxes[at].news() {
                heard.push(news.port.0);
                peers.flush();
            }
            assert_eq!(heard, (0..count).collect::<Vec<_>>(), "worker {at}");
        }
        assert_eq!(inboxes[1].news(), None);
    }

    #[test]
    fn a_sleeper_is_woken_once_and_only_while_it_sleeps() {
        let inboxes = inboxes(2);
        let mut peers = Peers::new(0, &inboxes);
        let sleeper = &inboxes[1];
        let is_woken = || idle::wait(&[sleeper.wait_handle().expect("it has a bell")], 0).expect("a poll");
        let give = |peers: &mut Peers<usize>| {
            assert_eq!(peers.hand_over(1, 1), Ok(()));
            peers.flush();
        };
        let mut burst = Burst::new();

        give(&mut peers);
        assert!(!is_woken(), "it is awake");
        assert!(!sleeper.lie_down(), "there is a frame");
        assert_eq!(sleeper.take(&mut burst), 1);
        assert!(sleeper.lie_down());
        peers.flush();
        assert!(!is_woken(), "nothing was given");
        give(&mut peers);
        give(&mut peers);
        assert!(is_woken());
        sleeper.get_up();
        assert!(!is_woken());
        assert_eq!(sleeper.take(&mut burst), 2);
        assert!(sleeper.lie_down());
        peers.tell(news(1));
        peers.flush();
        assert!(is_woken());
    }

    #[test]
    fn two_threads_never_sleep_on_something() {
        const FRAMES: usize = 20_000;
        let inboxes = inboxes(2);
        std::thread::scope(|scope| {
            for own in 0..2 {
                let inboxes = &inboxes;
                scope.spawn(move || {
                    // One frame goes to and fro: each side sleeps for every one.
                    let mut peers = Peers::new(own, inboxes);
                    let inbox = &inboxes[own];
                    let mut burst = Burst::new();
                    let mut next = own;
                    if own == 0 {
                        assert_eq!(peers.hand_over(1, 1), Ok(()));
                        peers.flush();
                        next = 2;
                    }
                    while next < FRAMES {
                        if inbox.lie_down() {
                            let handle = inbox.wait_handle().expect("it has a bell");
                            assert!(idle::wait(&[handle], 60_000).expect("a poll"), "{own} sleeps on {next}");
                            inbox.get_up();
                        }
                        if inbox.take(&mut burst) > 0 {
                            assert_eq!(burst.drain(..).collect::<Vec<_>>(), [next]);
                            assert_eq!(peers.hand_over(1 - own, next + 1), Ok(()));
                            peers.flush();
                            next += 2;
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn one_alone_has_nobody() {
        let inboxes = inboxes(1);
        let mut peers = Peers::new(0, &inboxes);
        peers.tell(news(1));
        peers.flush();
        assert_eq!(peers.hand_over(0, 5), Err(5));
        assert!(inboxes[0].wait_handle().is_none() && inboxes[0].lie_down());
        assert_eq!(inboxes[0].news(), None);
    }
}
