//! A worker: one thread on one core that takes bursts from the ports, through the path, and out.
//!
//! One turn of the loop reads the clock once. Between two bursts it takes up a new configuration, answers a question, shows its
//! counters. It never waits for another thread, never allocates, and makes no system call but those of the queues; only when
//! nothing has come for [`SPIN`] does it sleep in the kernel until something does, and not at all where it is to poll always.

use super::board::Board;
use super::mailbox::{Edition, FlowPage, FlowQuestion, Mailbox};
use super::outbox::Outbox;
use super::rest::rest;
use nva_config::IdlePolicy;
use nva_dataplane::pipeline::{Handed, Pipeline};
use nva_dataplane::route::News;
use nva_dataplane::time::Time;
use nva_dataplane::verdict::PortId;
use pmd_shim::exchange::Inbox;
use pmd_shim::{BURST, Burst, FrameSource, RxQueue, TxQueue};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long it polls in vain before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// The longest sleep, which bounds how late a reload, a question or a stop is noticed.
const SLEEP_MAX_MS: u32 = 10;
/// How often the counters are shown while there is traffic.
const SHOW_EVERY: Duration = Duration::from_millis(5);
/// How long it stays awake for the question that follows one.
const NEXT_QUESTION: Duration = Duration::from_millis(1);

/// A worker with everything that it owns.
pub(crate) struct Worker<R: RxQueue, T: TxQueue<Frame = R::Frame>, S> {
    /// The path with its flows.
    pub(crate) pipeline: Pipeline<R::Frame>,
    /// Receive queues in the order of the ports.
    pub(crate) rx: Vec<R>,
    /// What the other workers have for this one.
    pub(crate) inbox: Inbox<Handed<R::Frame>, News>,
    /// Transmit queues, and what is for the other workers.
    pub(crate) outbox: Outbox<T, S>,
    /// What the control threads want.
    pub(crate) mailbox: Arc<Mailbox>,
    /// Where the counters are shown.
    pub(crate) board: Arc<Board>,
    /// The generation in use.
    pub(crate) generation: u32,
    /// The zero of the clock, the same for all workers.
    pub(crate) epoch: Instant,
    /// What it was told of Unix time at that moment.
    pub(crate) unix_ms: u64,
    /// What it does when there is nothing to do.
    pub(crate) idle: IdlePolicy,
}

impl<R, T, S> Worker<R, T, S>
where
    R: RxQueue,
    T: TxQueue<Frame = R::Frame>,
    S: FrameSource<Frame = R::Frame>,
{
    /// Works until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut burst = Burst::new();
        let (mut busy_until, mut show_at) = (Time::default(), Time::default());
        let mut unseen = true;
        while !self.mailbox.is_stopping() {
            let now = now(self.epoch);
            self.mailbox.beat();
            self.take_up(now);
            let received = self.turn(now, &mut burst);
            if received > 0 {
                busy_until = now + SPIN;
                unseen = true;
            }
            let idle = now >= busy_until;
            if now >= show_at || idle && unseen {
                self.show(now);
                show_at = now + SHOW_EVERY;
                unseen = false;
            }
            if let Some(question) = self.mailbox.question() {
                self.answer(question);
                busy_until = busy_until.max(now + NEXT_QUESTION);
            }
            if idle && self.idle == IdlePolicy::Adaptive {
                self.sleep(now);
            }
        }
        self.show(now(self.epoch));
    }

    /// A burst from each port, from the other workers and from the kernel through the path, what time has brought about, and one burst out of each port.
    fn turn(&mut self, now: Time, burst: &mut Burst<R::Frame>) -> usize {
        let Self { pipeline, rx, inbox, outbox, .. } = self;
        let mut received = 0;
        for (queue, port) in rx.iter_mut().zip(0..) {
            received += queue.receive(burst);
            if !burst.is_empty() {
                pipeline.process(now, PortId(port), burst, outbox, &mut ());
                outbox.send_many(|port, frame| pipeline.refused(port, frame));
            }
        }
        let mut handed = Burst::new();
        received += inbox.take(&mut handed);
        pipeline.accept(now, &mut handed, outbox);
        for news in (0..BURST).map_while(|_| inbox.news()) {
            pipeline.hear(now, news, outbox);
        }
        for _ in 0..BURST {
            let Some(slot) = outbox.take_from_kernel() else { break };
            received += 1;
            let port = slot.port();
            match outbox.frame_from_kernel(slot) {
                Some(frame) => pipeline.take_from_kernel(now, port, frame, outbox),
                None => pipeline.lost_from_kernel(port),
            }
        }
        pipeline.advance(now, outbox);
        outbox.flush(|port, frame| pipeline.refused(port, frame));
        received
    }

    /// Takes up the newest configuration and the time, if it has not already.
    fn take_up(&mut self, now: Time) {
        let unix_ms = self.mailbox.unix_time();
        if unix_ms != self.unix_ms {
            self.unix_ms = unix_ms;
            self.pipeline.set_unix_time(unix_ms, now);
        }
        if self.mailbox.wanted() == self.generation {
            return;
        }
        let Some(Edition { snapshot, board }) = self.mailbox.take_edition() else { return };
        self.generation = snapshot.generation();
        let snapshot = self.pipeline.adopt(snapshot, now);
        let board = std::mem::replace(&mut self.board, board);
        self.mailbox.retire(Edition { snapshot, board });
        self.show(now);
    }

    /// Shows what was counted up to this time.
    fn show(&mut self, now: Time) {
        let Self { pipeline, rx, outbox, board, .. } = self;
        let queues =
            rx.iter_mut().enumerate().map(|(index, queue)| (queue.counters(), outbox.counters(index)));
        let is_flooded = |watched| pipeline.is_flooded(watched, now);
        board.write(
            pipeline.counters(),
            pipeline.tunnel_counters(),
            pipeline.flow_count(),
            queues,
            is_flooded,
        );
    }

    fn answer(&self, question: FlowQuestion) {
        let FlowQuestion { cursor, mut page, answer } = question;
        let room = page.capacity();
        let next = self.pipeline.flows(cursor, room, &mut |flow| {
            if page.len() < room {
                page.push(flow);
            }
        });
        // Whoever asked may have given up meanwhile.
        let _ = answer.try_send(FlowPage { flows: page, next });
    }

    /// Sleeps until something comes, the next timer is due, or it is time to look at the mailbox.
    fn sleep(&self, now: Time) {
        let due = self.pipeline.next_timer().map_or(u128::MAX, |time| time.since(now).as_millis());
        let due_ms = u32::try_from(due).unwrap_or(u32::MAX);
        rest(&self.rx, &self.inbox, || self.outbox.kernel_is_quiet(), due_ms.min(SLEEP_MAX_MS));
    }
}

/// The time since `epoch`.
pub(crate) fn now(epoch: Instant) -> Time {
    Time::default() + epoch.elapsed()
}
