//! What passes between a worker and the control threads: atomics and bounded queues, never a lock on the worker's side.

use super::board::Board;
use crossbeam::channel::Sender;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use nva_dataplane::pipeline::FlowSummary;
use nva_dataplane::snapshot::Snapshot;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// A generation of the configuration with the board on which it is counted.
pub(crate) struct Edition {
    /// The compiled configuration.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Where the worker shows its counters from then on.
    pub(crate) board: Arc<Board>,
}

/// Asks for a slice of the flow table.
pub(crate) struct FlowQuestion {
    /// Where to go on; 0 at the beginning.
    pub(crate) cursor: usize,
    /// Brought along with its room, so that the worker need not allocate.
    pub(crate) page: Vec<FlowSummary>,
    /// Room for one answer.
    pub(crate) answer: Sender<FlowPage>,
}

/// A slice of the flow table.
pub(crate) struct FlowPage {
    /// Its flows.
    pub(crate) flows: Vec<FlowSummary>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<usize>,
}

/// One worker's mailbox.
pub(crate) struct Mailbox {
    /// Written by the worker on every turn of its loop.
    heartbeat: CachePadded<AtomicU64>,
    /// The generation that the worker is to use.
    wanted: CachePadded<AtomicU32>,
    stopping: AtomicBool,
    unix_ms: AtomicU64,
    edition: ArrayQueue<Edition>,
    retired: ArrayQueue<Edition>,
    questions: ArrayQueue<FlowQuestion>,
}

impl Mailbox {
    /// An empty mailbox of a worker that begins with a generation.
    pub(crate) fn new(generation: u32) -> Self {
        Self {
            heartbeat: CachePadded::default(),
            wanted: CachePadded::new(AtomicU32::new(generation)),
            stopping: AtomicBool::new(false),
            unix_ms: AtomicU64::new(0),
            edition: ArrayQueue::new(1),
            retired: ArrayQueue::new(8),
            questions: ArrayQueue::new(2),
        }
    }

    /// Worker: shows that it is alive.
    pub(crate) fn beat(&self) {
        self.heartbeat.store(self.heartbeat.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// How often the worker has shown that it is alive.
    pub(crate) fn heartbeat(&self) -> u64 {
        self.heartbeat.load(Ordering::Relaxed)
    }

    /// Publishes a generation; gives back the one before when the worker never took it up.
    pub(crate) fn publish(&self, edition: Edition) -> Option<Edition> {
        let generation = edition.snapshot.generation();
        let unused = self.edition.force_push(edition);
        self.wanted.store(generation, Ordering::Release);
        unused
    }

    /// Worker: the generation that it is to use.
    pub(crate) fn wanted(&self) -> u32 {
        self.wanted.load(Ordering::Acquire)
    }

    /// Worker: the generation that waits to be taken up.
    pub(crate) fn take_edition(&self) -> Option<Edition> {
        self.edition.pop()
    }

    /// Worker: gives back what it no longer uses, to be freed by a control thread. Only when that has not come by for eight
    /// generations is the memory freed on the spot.
    pub(crate) fn retire(&self, edition: Edition) {
        drop(self.retired.push(edition));
    }

    /// Frees what the worker gave back.
    pub(crate) fn free_retired(&self) {
        while self.retired.pop().is_some() {}
    }

    /// Asks; gives the question back when too many wait.
    pub(crate) fn ask(&self, question: FlowQuestion) -> Result<(), FlowQuestion> {
        self.questions.push(question)
    }

    /// Worker: the next question.
    pub(crate) fn question(&self) -> Option<FlowQuestion> {
        self.questions.pop()
    }

    /// Tells the worker what Unix time it was at the zero of its clock, in milliseconds.
    pub(crate) fn set_unix_time(&self, unix_ms: u64) {
        self.unix_ms.store(unix_ms, Ordering::Relaxed);
    }

    /// Worker: what Unix time it was at the zero of its clock, in milliseconds; 0: it was never told.
    pub(crate) fn unix_time(&self) -> u64 {
        self.unix_ms.load(Ordering::Relaxed)
    }

    /// Tells the worker to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Worker: whether it is to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
