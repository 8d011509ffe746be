//! A generator, a contender and a sink in network namespaces, in a row:
//!
//! ```text
//! source near ──── left  contender  right ──── far sink
//! ```
//!
//! The generator is on one core, the contender on the other. What the contender sends is counted by the kernel at `far`, or, where it
//! answers, at `near`, and dropped.

use super::Cores;
use super::contender::Contender;
use super::interrupt::Interrupt;
use super::proc;
use super::quiet::{Disturbance, Interval, Watch, Watched};
use super::search::{Search, Trial};
use super::space::{Space, cable};
use super::traffic::{self, Kind};
use core_affinity::CoreId;
use pmd_shim::flood::{Arrivals, Flood, Histogram};
use pmd_shim::kernel::ingress;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// The contender's interfaces.
pub(crate) const LEFT: &str = "left";
pub(crate) const RIGHT: &str = "right";
/// The source's and the sink's.
pub(crate) const NEAR: &str = "near";
pub(crate) const FAR: &str = "far";

/// Not measured, before each window.
const WARM_UP: Duration = Duration::from_millis(100);
/// A trial of the search for the loss-free rate.
const TRIAL: Duration = Duration::from_millis(150);
/// What is still on its way after a trial has so long to arrive.
const DRAIN: Duration = Duration::from_millis(15);
/// A generator that sent less than this share of what it was to send was held up itself.
const OFFERED_MIN: f64 = 0.97;
/// Share of the frames that may be lost at a loss-free rate: a stall of the machine is nobody's fault.
pub(crate) const LOSS_MAX: f64 = 1e-3;
/// Frames that are looked at before a contender is measured.
const SAMPLE: u64 = 200;
/// How long a contender may take to forward the first frame.
const FIRST_FRAME: Duration = Duration::from_secs(10);

/// Frames a second while flows are opened that are to be answered.
const OPENING_RATE: f64 = 10_000.0;
/// So often the answers are sent, until all of them arrive.
const ANSWERS: usize = 5;
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// So many frames a second.
    Rate(f64),
    /// As fast as it goes.
    Full,
    /// None; the generator's core is kept busy all the same.
    Nothing,
}

/// Where what a contender makes of the frames arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// At the sink, which drops it before anything else.
    Far,
    /// Back at the source, whose kernel drops what is not for its own Ethernet address.
    Near,
}

/// What goes down a road.
#[derive(Clone, Debug)]
pub(crate) struct Freight {
    /// Sent in turn, all of one length.
    pub(crate) packets: Vec<Vec<u8>>,
    /// Filled up with zeros to this length.
    pub(crate) frame_len: usize,
    /// Where frames are stamped with their time.
    pub(crate) stamp_at: Option<usize>,
    /// Where it arrives.
    pub(crate) exit: Exit,
    /// What the sink sends back before anything is measured, one for each packet, so that flows are known both ways.
    pub(crate) replies: Vec<Vec<u8>>,
    /// Whether a frame that arrives is what the contender should have made of one.
    pub(crate) check: fn(&[u8], Kind) -> Result<(), String>,
}

impl Freight {
    /// Datagrams to a host behind the contender.
    pub(crate) fn datagrams() -> Self {
        Self {
            packets: traffic::packets(),
            frame_len: traffic::FRAME_LEN,
            stamp_at: Some(traffic::STAMP_AT),
            exit: Exit::Far,
            replies: Vec::new(),
            check: traffic::check,
        }
    }
}

/// The road, and who is on it. It is gone when this is dropped, the contender first.
pub(crate) struct Road {
    contender: Contender,
    flood: Flood,
    freight: Freight,
    source: Space,
    sink: Space,
    _middle: Space,
    cores: Cores,
    interrupt: Interrupt,
    /// The kernel's own thread for soft interrupts that are too many, on the generator's core.
    soft: Vec<Watched>,
}

/// What went through in a window.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Frames that arrived.
    pub(crate) arrived: u64,
    /// What happened meanwhile.
    pub(crate) interval: Interval,
    /// Share of the frames that were to be sent and were not.
    short: f64,
    /// CPU time of the contender, soft interrupts included, wherever they ran.
    pub(crate) cost: Duration,
}

impl Window {
    /// Frames that arrived, thousands a second.
    pub(crate) fn kpps(&self) -> f64 {
        self.arrived as f64 / self.interval.wall.as_secs_f64() / 1e3
    }

    /// What disturbed it: also the generator, where it did not keep its rate.
    pub(crate) fn disturbances(&self) -> Vec<Disturbance> {
        let mut found = self.interval.disturbances();
        found.extend((self.short > 1.0 - OFFERED_MIN).then_some(Disturbance::Offered(self.short)));
        found
    }

    /// Nanoseconds of CPU time for each frame that arrived.
    pub(crate) fn ns_a_packet(&self) -> f64 {
        self.cost.as_secs_f64() * 1e9 / self.arrived.max(1) as f64
    }
}

impl Road {
    /// Builds the road, with what `join` puts between the interfaces [`LEFT`] and [`RIGHT`] of the namespace that it is given.
    pub(crate) fn build(
        name: &str,
        freight: Freight,
        cores: Cores,
        interrupt: &Interrupt,
        join: impl FnOnce(&Space) -> Result<Contender, String>,
    ) -> Result<Self, String> {
        let space = |role: &str| Space::new(&format!("{name}-{role}"));
        let (source, middle, sink) = (space("source")?, space("middle")?, space("sink")?);
        cable((&source, NEAR), (&middle, LEFT))?;
        cable((&middle, RIGHT), (&sink, FAR))?;
        middle.ip(&format!("link set {LEFT} address 02:00:00:00:00:01"))?;
        middle.ip(&format!("link set {RIGHT} address 02:00:00:00:00:02"))?;
        // A veth takes a flood's frames only where its other end polls.
        middle.feed("ethtool", &["-K", LEFT, "gro", "on"], "")?;
        if freight.exit == Exit::Far {
            sink.run(|| ingress::hold(FAR).map_err(|error| error.to_string()))??;
        }
        let flood = source
            .run(|| Flood::new(NEAR, &freight.packets, freight.frame_len, freight.stamp_at))?
            .map_err(|error| error.to_string())?;
        let contender = join(&middle)?;
        let soft = Watched::soft_interrupts(cores.generator);
        let interrupt = interrupt.clone();
        let road = Self { contender, flood, freight, source, sink, _middle: middle, cores, interrupt, soft };
        road.prove()?;
        road.contender.suspend()?;
        Ok(road)
    }

    /// The source's namespace.
    pub(crate) fn source(&self) -> &Space {
        &self.source
    }

    /// The sink's namespace.
    pub(crate) fn sink(&self) -> &Space {
        &self.sink
    }

    /// Who is on it.
    pub(crate) fn contender(&self) -> &Contender {
        &self.contender
    }

    /// Where what the contender sends arrives.
    fn exit(&self) -> (&Space, &'static str) {
        match self.freight.exit {
            Exit::Far => (&self.sink, FAR),
            Exit::Near => (&self.source, NEAR),
        }
    }

    /// Looks at a sample of what the contender forwards: every frame is to be whole and changed as it should be.
    fn prove(&self) -> Result<(), String> {
        let seen = self.drive(|drive| {
            drive.road.flood.rate(1e3);
            let base = drive.road.arrived()?;
            let came = drive.road.interrupt.wait_until(FIRST_FRAME, || {
                drive.road.arrived().is_ok_and(|arrived| arrived > base + SAMPLE)
            })?;
            if !came {
                let (sent, arrived) = (drive.road.flood.counts().sent, drive.road.arrived()? - base);
                let said = drive.road.contender.last_words();
                let seconds = FIRST_FRAME.as_secs();
                return Err(format!("of {sent} frames {arrived} arrive within {seconds} s; it says: {said}"));
            }
            let (space, device) = self.exit();
            let seen = space.run(|| traffic::sample(device, SAMPLE))??;
            if self.freight.exit == Exit::Near {
                // A packet socket of the appliance's kind leaves its interface closed.
                space.run(|| ingress::release(device).map_err(|error| error.to_string()))??;
            }
            drive.road.answer()?;
            Ok(seen)
        });
        let is_right = |frame: &Vec<u8>| (self.freight.check)(frame, self.contender.kind());
        let checked = seen.and_then(|seen| seen.iter().try_for_each(is_right));
        checked.map_err(|why| format!("{}: {why}", self.contender.name()))
    }

    /// Has the sink answer each flow, which the flood has opened by then.
    fn answer(&self) -> Result<(), String> {
        let Freight { packets, replies, .. } = &self.freight;
        if replies.is_empty() {
            return Ok(());
        }
        self.flood.rate(OPENING_RATE);
        self.interrupt.sleep(Duration::from_secs_f64(2.0 * packets.len() as f64 / OPENING_RATE))?;
        for _ in 0..ANSWERS {
            let base = self.source.received(NEAR)?;
            self.sink.run(|| traffic::send(FAR, replies))??;
            let is_back = || self.source.received(NEAR).is_ok_and(|now| now >= base + replies.len() as u64);
            if self.interrupt.wait_until(ANSWER_WITHIN, is_back)? {
                return Ok(());
            }
        }
        Err("what the other side answers does not arrive".into())
    }

    fn arrived(&self) -> Result<u64, String> {
        let (space, device) = self.exit();
        space.received(device)
    }

    /// Lets the contender run for as long as `what` takes, with no generator beside it.
    pub(crate) fn rouse<T>(&self, what: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        self.contender.resume()?;
        let outcome = what();
        self.contender.suspend()?;
        outcome
    }

    /// Lets contender and generator run for as long as `what` takes.
    pub(crate) fn drive<T>(&self, what: impl FnOnce(&Drive<'_>) -> Result<T, String>) -> Result<T, String> {
        self.contender.resume()?;
        let (tell, told) = channel();
        let outcome = std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let core = self.cores.generator;
                let is_pinned = core_affinity::set_for_current(CoreId { id: core });
                let begun = if is_pinned { Ok(()) } else { Err("the generator cannot be pinned".to_owned()) };
                let begun = begun.and_then(|()| self.source.enter()).map(|()| Watched::this_thread(core));
                let is_on = begun.is_ok();
                // The other end waits for it.
                let _ = tell.send(begun);
                if is_on { self.flood.send().map_err(|error| error.to_string()) } else { Ok(()) }
            });
            let outcome = told
                .recv()
                .map_err(|_| "the generator ended".to_owned())
                .flatten()
                .and_then(|generator| what(&Drive { road: self, generator }));
            self.flood.pause();
            let stopped = self.flood.stop();
            let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if !stopped {
                return Err("the generator does not stop".to_owned());
            }
            outcome.and_then(|outcome| sent.map(|()| outcome))
        });
        self.contender.suspend()?;
        outcome
    }
}

/// A road with contender and generator running.
pub(crate) struct Drive<'a> {
    road: &'a Road,
    generator: Watched,
}

impl Drive<'_> {
    /// Sends at this load for a while, and measures after it has begun.
    pub(crate) fn window(&self, load: Load, time: Duration) -> Result<Window, String> {
        self.beside(load, &[], || self.road.interrupt.sleep(time)).map(|(window, ())| window)
    }

    /// The same for as long as something else takes, which these threads do.
    pub(crate) fn beside<T>(
        &self,
        load: Load,
        others: &[Watched],
        what: impl FnOnce() -> Result<T, String>,
    ) -> Result<(Window, T), String> {
        let Road { contender, flood, cores, interrupt, soft, .. } = self.road;
        set(flood, load);
        interrupt.sleep(WARM_UP)?;
        let own = contender.threads()?;
        let watched = [&own[..], others, soft, &[self.generator]].concat();
        let watch = Watch::begin(&watched, &[cores.worker, cores.generator])?;
        let (sent, arrived) = (flood.counts().sent, self.road.arrived()?);
        let outcome = what()?;
        let (sent, arrived) = (flood.counts().sent - sent, self.road.arrived()? - arrived);
        let interval = watch.end()?;
        flood.pause();
        let short = match load {
            Load::Rate(rate) => 1.0 - sent as f64 / (rate * interval.wall.as_secs_f64()),
            Load::Full | Load::Nothing => 0.0,
        };
        Ok((Window { short, arrived, cost: cost(&interval, own.len()), interval }, outcome))
    }

    /// The same, with how long the frames were on their way.
    pub(crate) fn delays(&self, load: Load, time: Duration) -> Result<(Window, Histogram), String> {
        let stamp_at = self.road.freight.stamp_at.ok_or("these frames have no stamp")?;
        let (space, device) = self.road.exit();
        let arrivals = space.run(|| Arrivals::new(device, stamp_at))?.map_err(|error| error.to_string())?;
        set(&self.road.flood, load);
        self.road.interrupt.sleep(WARM_UP)?;
        arrivals.take();
        let window = self.window(load, time)?;
        self.road.interrupt.sleep(DRAIN)?;
        Ok((window, arrivals.take()))
    }

    /// The highest rate, in frames a second, at which nothing is lost; 0 when there is none.
    pub(crate) fn loss_free(&self) -> Result<f64, String> {
        let full = self.window(Load::Full, TRIAL)?.kpps() * 1e3;
        if full == 0.0 {
            return Ok(0.0);
        }
        let search = Search { low: full * 0.05, high: full * 1.5, loss_max: LOSS_MAX, width: 0.02 };
        search.run(|rate| self.trial(rate))
    }

    fn trial(&self, rate: f64) -> Result<Trial, String> {
        let Road { flood, interrupt, .. } = self.road;
        let (sent, arrived) = (flood.counts().sent, self.road.arrived()?);
        let begin = Instant::now();
        flood.rate(rate);
        interrupt.sleep(TRIAL)?;
        let time = begin.elapsed();
        flood.pause();
        interrupt.sleep(DRAIN)?;
        let (sent, arrived) = (flood.counts().sent - sent, self.road.arrived()? - arrived);
        if (sent as f64) < OFFERED_MIN * rate * time.as_secs_f64() {
            return Ok(Trial::Void);
        }
        Ok(Trial::Lost(1.0 - (arrived as f64 / sent as f64).min(1.0)))
    }
}

fn set(flood: &Flood, load: Load) {
    match load {
        Load::Rate(rate) => flood.rate(rate),
        Load::Full => flood.full(),
        Load::Nothing => flood.pause(),
    }
}

/// System-wide CPU time without the generator's own: the contender's threads, which are the first `own`, all on its core; and the soft
/// interrupts on the generator's core, which is the last, where frames are delivered that the contender takes from a ring.
fn cost(interval: &Interval, own: usize) -> Duration {
    let ran: u64 = interval.threads.iter().take(own).map(|thread| thread.ran_ns).sum();
    let soft = interval.cores.last().map_or(0, |core| core.soft_interrupts);
    Duration::from_nanos(ran) + proc::ticks(soft)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::proc::{CoreTicks, Schedule};

    #[test]
    fn a_contender_pays_for_its_threads_and_for_delivery_on_the_other_core() {
        let ran = |ran_ns| Schedule { ran_ns, waited_ns: 0 };
        let core = |soft_interrupts| CoreTicks { soft_interrupts, ..CoreTicks::default() };
        let interval = Interval {
            wall: Duration::from_millis(500),
            threads: vec![ran(400_000_000), ran(10_000_000), ran(90_000_000), ran(400_000_000)],
            cores: vec![core(30), core(9)],
            numbers: vec![1, 0],
            placed: vec![1, 1, 0, 0],
            may_wait: vec![false, true, true, false],
        };
        // The soft interrupts' own thread on the other core is among the ticks already.
        assert_eq!(cost(&interval, 2), Duration::from_millis(500));
    }
}
