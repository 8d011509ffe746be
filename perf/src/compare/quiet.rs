//! Whether a shot was disturbed: who else ran on the cores, and whether the machine itself changed meanwhile.
//!
//! Never judges a figure by its size: a shot is void for what happened around it, never for what it shows.

use super::proc::{self, CoreTicks, Schedule};
use crate::measure::thread_cpu_ns;
use crate::traffic::Random;
use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A watched thread may wait this share of the time for its core.
const WAITED_MAX: f64 = 0.03;
/// The hypervisor may take this share, or one tick where that is more.
const STOLEN_MAX: f64 = 0.005;
/// What is not watched may run this share of the time on the cores, and two ticks: the clock ticks are that coarse.
const OTHERS_MAX: f64 = 0.05;
/// The machine's speed may differ by this share from one shot of a pair to the other, by the canary.
const CANARY_MAX: f64 = 0.10;

/// Why a shot does not count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Disturbance {
    /// A watched thread waited this share of the time for a core.
    Waited(f64),
    /// The hypervisor took this share of a core.
    Stolen(f64),
    /// Other tasks ran this share of the time on the cores.
    Others(f64),
    /// Additions that depend on each other took so much longer, or less long, around the second shot of a pair than around the first.
    Clock(f64),
    /// So did reads from memory.
    Memory(f64),
    /// A worker had nothing to do so often.
    Idle(f64),
    /// The generator sent so much less than it was to.
    Offered(f64),
    /// At every rate more than this was lost, or the trials were disturbed.
    Lossy(f64),
}

impl Disturbance {
    fn parts(self) -> (&'static str, f64) {
        match self {
            Self::Waited(share) => ("waited for a core", share),
            Self::Stolen(share) => ("stolen by the hypervisor", share),
            Self::Others(share) => ("other tasks on the cores", share),
            Self::Clock(share) => ("the core's speed changed", share),
            Self::Memory(share) => ("the memory's speed changed", share),
            Self::Idle(share) => ("a worker had nothing to do", share),
            Self::Lossy(share) => ("no rate loses less than", share),
            Self::Offered(share) => ("the generator was short of its rate by", share),
        }
    }

    /// How much of the time, or of the speed.
    pub(crate) fn share(self) -> f64 {
        self.parts().1
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, share) = self.parts();
        write!(f, "{what} {:.1} %", share * 100.0)
    }
}

/// A thread that belongs to the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Its process.
    pub(crate) pid: u32,
    /// Itself.
    pub(crate) tid: u32,
    /// The core that it is pinned to.
    pub(crate) core: usize,
    /// Whether it is no disturbance that it waits for its core.
    pub(crate) may_wait: bool,
}

impl Watched {
    /// A thread of a process, pinned to `core`.
    pub(crate) fn new(pid: u32, tid: u32, core: usize) -> Self {
        Self { pid, tid, core, may_wait: false }
    }

    /// The calling thread, which is pinned to `core`.
    pub(crate) fn this_thread(core: usize) -> Self {
        let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        Self::new(std::process::id(), tid, core)
    }

    /// The kernel's own thread for soft interrupts that are too many, on this core. It waits for whoever has priority, mostly in vain:
    /// the next interrupt does its work.
    pub(crate) fn soft_interrupts(core: usize) -> Vec<Self> {
        let found = proc::processes(&format!("ksoftirqd/{core}")).into_iter().take(1);
        found.map(|pid| Self { may_wait: true, ..Self::new(pid, pid, core) }).collect()
    }
}

/// What is being watched, since when.
#[derive(Debug)]
pub(crate) struct Watch {
    threads: Vec<Watched>,
    cores: Vec<usize>,
    begin: Instant,
    schedules: Vec<Schedule>,
    ticks: Vec<CoreTicks>,
}

/// What happened while it was watched.
#[derive(Clone, Debug)]
pub(crate) struct Interval {
    /// Its length.
    pub(crate) wall: Duration,
    /// What each thread did, in the order given.
    pub(crate) threads: Vec<Schedule>,
    /// What each core did.
    pub(crate) cores: Vec<CoreTicks>,
    /// Their numbers.
    pub(crate) numbers: Vec<usize>,
    /// The core of each thread.
    pub(crate) placed: Vec<usize>,
    /// Of each, whether it is no disturbance that it waits.
    pub(crate) may_wait: Vec<bool>,
}

impl Watch {
    /// Begins to watch threads, which are pinned to `cores`.
    pub(crate) fn begin(threads: &[Watched], cores: &[usize]) -> Result<Self, String> {
        let schedules = schedules(threads)?;
        let ticks = proc::core_ticks(cores)?;
        let (threads, cores) = (threads.to_vec(), cores.to_vec());
        Ok(Self { threads, cores, begin: Instant::now(), schedules, ticks })
    }

    /// What happened since.
    pub(crate) fn end(&self) -> Result<Interval, String> {
        let wall = self.begin.elapsed();
        let now = schedules(&self.threads)?;
        let threads = now.iter().zip(&self.schedules).map(|(now, before)| Schedule {
            ran_ns: now.ran_ns.saturating_sub(before.ran_ns),
            waited_ns: now.waited_ns.saturating_sub(before.waited_ns),
        });
        let ticks = proc::core_ticks(&self.cores)?;
        let cores = ticks.iter().zip(&self.ticks).map(|(now, before)| now.since(before));
        let placed = self.threads.iter().map(|thread| thread.core).collect();
        let may_wait = self.threads.iter().map(|thread| thread.may_wait).collect();
        let (threads, cores, numbers) = (threads.collect(), cores.collect(), self.cores.clone());
        Ok(Interval { wall, threads, cores, numbers, placed, may_wait })
    }
}

fn schedules(threads: &[Watched]) -> Result<Vec<Schedule>, String> {
    threads.iter().map(|thread| proc::schedule(thread.pid, thread.tid)).collect()
}

impl Interval {
    /// How long a thread waited for others than those that are watched with it on its core. Its time of waiting is told when it ends, all of
    /// it at once: what is longer than the interval began before. And it is told of a thread that is woken until it runs, also where the core
    /// has nothing else to do and is only slow to wake up, as a core of a virtual machine is: no longer than others ran did it wait for them.
    fn waited_ns(&self, index: usize) -> u64 {
        if self.may_wait[index] {
            return 0;
        }
        let core = self.placed[index];
        let beside = |other: &usize| *other != index && self.placed[*other] == core;
        let ran: u64 = (0..self.threads.len()).filter(beside).map(|other| self.threads[other].ran_ns).sum();
        let waited = self.threads[index].waited_ns.min(self.wall_ns()).saturating_sub(ran);
        waited.min(self.others_ns(core, ran + self.threads[index].ran_ns))
    }

    /// How long anything else ran on a core than what is watched there, which ran so long; at most, as the clock ticks are coarse.
    fn others_ns(&self, core: usize, ran: u64) -> u64 {
        let Some(place) = self.numbers.iter().position(|number| *number == core) else { return u64::MAX };
        let time = |ticks| u64::try_from(proc::ticks(ticks).as_nanos()).unwrap_or(u64::MAX);
        (self.wall_ns() + time(1)).saturating_sub(time(self.cores[place].idle)).saturating_sub(ran)
    }

    fn wall_ns(&self) -> u64 {
        u64::try_from(self.wall.as_nanos()).unwrap_or(u64::MAX)
    }

    /// What disturbed it. Interrupts and soft interrupts are not others: packets are received in them.
    pub(crate) fn disturbances(&self) -> Vec<Disturbance> {
        let wall = self.wall.as_secs_f64();
        let tick = proc::ticks(1).as_secs_f64();
        let mut found = Vec::new();
        let waited =
            (0..self.threads.len()).map(|index| self.waited_ns(index)).max().unwrap_or(0) as f64 / 1e9;
        if waited > WAITED_MAX * wall {
            found.push(Disturbance::Waited(waited / wall));
        }
        let stolen = self.cores.iter().map(|core| core.stolen).max().unwrap_or(0);
        let stolen = proc::ticks(stolen).as_secs_f64();
        if stolen > (STOLEN_MAX * wall).max(tick) {
            found.push(Disturbance::Stolen(stolen / wall));
        }
        let ran: u64 = self.threads.iter().map(|thread| thread.ran_ns).sum();
        let tasks: u64 = self.cores.iter().map(|core| core.tasks).sum();
        let others = proc::ticks(tasks).as_secs_f64() - ran as f64 / 1e9;
        let allowed = OTHERS_MAX * wall + 2.0 * tick * self.cores.len() as f64;
        if others > allowed {
            found.push(Disturbance::Others(others / wall));
        }
        found
    }
}

/// Two small pieces of work that depend on nothing but the machine.
#[derive(Debug)]
pub(crate) struct Canary {
    /// One line each; a line names the next, in one random circle through all of them.
    lines: Vec<[u32; 16]>,
    at: u32,
}

/// How long the canary's work took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tone {
    add_ns: f64,
    read_ns: f64,
}

impl Canary {
    /// 64 MiB, more than the caches of a core hold.
    const LINES: u32 = 1 << 20;
    const ADDITIONS: u64 = 200_000;
    const READS: u64 = 8_000;
    /// Not counted: the caches, and the tables by which pages are found, hold what ran before.
    const WARM_UP: usize = 5;
    const ROUNDS: usize = 8;
    const LISTENS: Duration = Duration::from_millis(30);

    /// Lays the circle out.
    pub(crate) fn new(seed: u64) -> Self {
        let mut order: Vec<u32> = (0..Self::LINES).collect();
        Random(seed).shuffle(&mut order);
        let mut lines = vec![[0; 16]; order.len()];
        for (place, line) in order.iter().enumerate() {
            lines[*line as usize][0] = order[(place + 1) % order.len()];
        }
        Self { lines, at: 0 }
    }

    /// Whether it gets its core to itself, some thirty milliseconds long.
    pub(crate) fn is_undisturbed(&mut self) -> Result<bool, String> {
        let own = Watched::this_thread(0);
        let before = proc::schedule(own.pid, own.tid)?;
        let begin = Instant::now();
        while begin.elapsed() < Self::LISTENS {
            self.sing();
        }
        let waited = proc::schedule(own.pid, own.tid)?.waited_ns.saturating_sub(before.waited_ns);
        Ok(waited as f64 / 1e9 <= WAITED_MAX * begin.elapsed().as_secs_f64())
    }

    /// Does the work, on the core of the calling thread; some twenty milliseconds. The fastest round tells the machine's speed: whatever
    /// else goes on only makes one slower.
    pub(crate) fn sing(&mut self) -> Tone {
        for _ in 0..Self::WARM_UP {
            self.round();
        }
        let fastest = |tone: Tone, next: Tone| Tone {
            add_ns: tone.add_ns.min(next.add_ns),
            read_ns: tone.read_ns.min(next.read_ns),
        };
        (1..Self::ROUNDS).fold(self.round(), |tone, _| fastest(tone, self.round()))
    }

    fn round(&mut self) -> Tone {
        let start = thread_cpu_ns();
        let mut sum = 0u64;
        for _ in 0..Self::ADDITIONS {
            sum = black_box(sum + 1);
        }
        let middle = thread_cpu_ns();
        for _ in 0..Self::READS {
            self.at = self.lines[self.at as usize][0];
        }
        black_box((sum, self.at));
        let end = thread_cpu_ns();
        Tone {
            add_ns: (middle - start) as f64 / Self::ADDITIONS as f64,
            read_ns: (end - middle) as f64 / Self::READS as f64,
        }
    }
}

impl Tone {
    /// The machine's speed during a shot, from the tones before and after it.
    pub(crate) fn between(self, later: Self) -> Self {
        Self {
            add_ns: f64::midpoint(self.add_ns, later.add_ns),
            read_ns: f64::midpoint(self.read_ns, later.read_ns),
        }
    }

    /// How the machine differed from one shot of a pair to the other, where that is too much. A machine that is slow for both leaves
    /// their relation as it is.
    pub(crate) fn disturbances(self, other: Self) -> Vec<Disturbance> {
        let (clock, memory) = (other.add_ns / self.add_ns - 1.0, other.read_ns / self.read_ns - 1.0);
        let clock = (clock.abs() > CANARY_MAX).then_some(Disturbance::Clock(clock));
        let memory = (memory.abs() > CANARY_MAX).then_some(Disturbance::Memory(memory));
        clock.into_iter().chain(memory).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_a_second() -> Interval {
        let schedule = Schedule { ran_ns: 490_000_000, waited_ns: 5_000_000 };
        let core = CoreTicks { tasks: 50, interrupts: 0, soft_interrupts: 20, stolen: 1, idle: 0 };
        Interval {
            wall: Duration::from_millis(500),
            threads: vec![schedule],
            cores: vec![core],
            numbers: vec![1],
            placed: vec![1],
            may_wait: vec![false],
        }
    }

    #[test]
    fn a_quiet_shot_counts_though_it_received_packets() {
        assert_eq!(half_a_second().disturbances(), []);
    }

    #[test]
    fn each_kind_of_disturbance_is_seen() {
        let mut shot = half_a_second();
        shot.threads[0].waited_ns = 20_000_000;
        assert_eq!(shot.disturbances(), [Disturbance::Waited(0.04)]);

        // Two that are watched may wait for each other.
        shot.threads.push(Schedule { ran_ns: 20_000_000, waited_ns: 470_000_000 });
        shot.placed.push(1);
        shot.may_wait.push(false);
        assert_eq!(shot.disturbances(), []);
        shot.placed[1] = 0;
        assert_eq!(shot.disturbances(), [Disturbance::Waited(0.94)]);
        // It waited since before.
        shot.threads[1].waited_ns = 9_000_000_000;
        assert_eq!(shot.disturbances(), [Disturbance::Waited(1.0)]);
        shot.may_wait[1] = true;
        assert_eq!(shot.disturbances(), [Disturbance::Waited(0.04)]);

        let mut shot = half_a_second();
        shot.cores[0].stolen = 2;
        assert_eq!(shot.disturbances(), [Disturbance::Stolen(0.04)]);

        let mut shot = half_a_second();
        shot.threads[0].ran_ns = 400_000_000;
        assert!(
            matches!(shot.disturbances()[..], [Disturbance::Others(share)] if (share - 0.2).abs() < 1e-9)
        );
    }

    #[test]
    fn a_core_that_wakes_up_is_not_waited_for() {
        let mut shot = half_a_second();
        shot.threads[0] = Schedule { ran_ns: 300_000_000, waited_ns: 60_000_000 };
        shot.cores[0].tasks = 30;
        shot.cores[0].idle = 20;
        assert_eq!(shot.disturbances(), []);
        // Something ran for 50 ms there.
        shot.cores[0].idle = 15;
        assert_eq!(shot.disturbances(), [Disturbance::Waited(0.12)]);
        shot.cores[0].idle = 18;
        assert_eq!(shot.disturbances(), [Disturbance::Waited(0.06)]);
    }

    #[test]
    fn a_busy_neighbour_is_waited_for() {
        // Two threads that spin on one core wait for each other half of the time.
        let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.into_iter().next_back()) else {
            return;
        };
        let spin = move || {
            assert!(core_affinity::set_for_current(core));
            let end = Instant::now() + Duration::from_millis(200);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(spin);
            let mine = scope.spawn(move || {
                let own = Watched::this_thread(core.id);
                let watch = Watch::begin(&[own], &[core.id]).expect("schedules can be read");
                spin();
                watch.end().expect("schedules can be read").disturbances()
            });
            let found = mine.join().expect("it ends");
            other.join().expect("it ends");
            assert!(found.iter().any(|what| matches!(what, Disturbance::Waited(_))), "{found:?}");
        });
    }

    #[test]
    fn a_tone_differs_by_more_than_a_tenth() {
        let before = Tone { add_ns: 1.0, read_ns: 100.0 };
        assert_eq!(before.disturbances(Tone { add_ns: 1.05, read_ns: 95.0 }), []);
        let slow = before.disturbances(Tone { add_ns: 1.2, read_ns: 80.0 });
        assert!(matches!(slow[..], [Disturbance::Clock(_), Disturbance::Memory(_)]), "{slow:?}");
    }

    #[test]
    fn a_drift_through_a_pair_counts_by_half() {
        let tone = |read_ns| Tone { add_ns: 1.0, read_ns };
        let shots = |tones: [Tone; 3]| tones[0].between(tones[1]).disturbances(tones[1].between(tones[2]));
        assert_eq!(shots([tone(100.0), tone(109.0), tone(118.0)]), []);
        // Both saw half of a step in their middle, so to speak.
        assert_eq!(shots([tone(100.0), tone(140.0), tone(100.0)]), []);
        let step = shots([tone(100.0), tone(100.0), tone(125.0)]);
        assert!(matches!(step[..], [Disturbance::Memory(share)] if (share - 0.125).abs() < 1e-9), "{step:?}");
    }

    #[test]
    fn the_canary_walks_through_all_of_its_memory() {
        let canary = Canary::new(1);
        let (mut at, mut steps) = (canary.lines[0][0], 1u32);
        while at != 0 {
            at = canary.lines[at as usize][0];
            steps += 1;
        }
        assert_eq!(steps, Canary::LINES);
    }
}
