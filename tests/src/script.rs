//! Scripts: packets in, and for each what becomes of it, what leaves for it, and what is counted. Nothing is left unsaid: a script
//! compares every verdict line, every byte of every frame that leaves with its time, and every counter of every port.

use crate::binary;
use crate::capture::{self, Timed};
use crate::folder::Folder;
use crate::packet::{OnWire, describe};
use crate::ports::Port;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// When scripts begin, in nanoseconds since 1970: at a whole second, so that timers end when people expect it.
const START: u64 = 1_700_000_000_000_000_000;
/// From one packet to the next, unless the script says otherwise: a tick of the appliance's timers.
const STEP: Duration = Duration::from_millis(10);
const SEED: &str = "000102030405060708090a0b0c0d0e0f";
const OTHER_SEED: &str = "f00dfacef00dfacef00dfacef00dface";

/// What is to become of a frame.
#[derive(Clone, Debug)]
pub struct Expect {
    verdict: &'static str,
    reason: Option<&'static str>,
    rule: Option<String>,
    backend: Option<String>,
    out: Vec<Port>,
    counted: Counted,
    leaves: Vec<(Port, Leaving)>,
    /// The segment that it leaves by, as the verdict says.
    into: Option<&'static str>,
    /// The segment that it came by, which counts it.
    from: Option<&'static str>,
}

/// A frame to leave: made when the port is known.
#[derive(Clone, Debug)]
struct Leaving(Vec<u8>);

/// How a frame is counted at the end of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    Forwarded,
    Replied,
    Consumed,
    Held,
    Dropped(&'static str),
}

impl Expect {
    fn new(verdict: &'static str, reason: Option<&'static str>, counted: Counted) -> Self {
        Self {
            verdict,
            reason,
            rule: None,
            backend: None,
            out: Vec::new(),
            counted,
            leaves: Vec::new(),
            into: None,
            from: None,
        }
    }

    /// Decided by this rule.
    pub fn rule(mut self, rule: &str) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// To or from this backend.
    pub fn backend(mut self, backend: &str) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// This leaves by `port` too.
    pub fn and(mut self, port: Port, frame: &impl OnWire) -> Self {
        self.leaves.push((port, Leaving(frame.sent(port))));
        self
    }

    /// It leaves by this segment, whose frames the port carries.
    pub fn into(self, segment: &'static str) -> Self {
        Self { into: Some(segment), ..self }
    }

    /// It came by this segment, which counts it.
    pub fn of(self, segment: &'static str) -> Self {
        Self { from: Some(segment), ..self }
    }

    /// What was held is forwarded later.
    pub fn forwarded_later(self) -> Self {
        self.later(Counted::Forwarded)
    }

    /// What was held is answered later.
    pub fn answered_later(self) -> Self {
        self.later(Counted::Replied)
    }

    /// What was held is taken in later.
    pub fn consumed_later(self) -> Self {
        self.later(Counted::Consumed)
    }

    /// What was held is dropped later.
    pub fn dropped_later(self, reason: &'static str) -> Self {
        self.later(Counted::Dropped(reason))
    }

    fn later(mut self, counted: Counted) -> Self {
        assert_eq!(self.counted, Counted::Held, "only what is held becomes something later");
        self.counted = counted;
        self
    }
}

/// It leaves by `port` like this.
pub fn forwards(port: Port, frame: &impl OnWire) -> Expect {
    let mut expect = Expect::new("forward", None, Counted::Forwarded).and(port, frame);
    expect.out = vec![port];
    expect
}

/// The appliance answers it with this.
pub fn replies(port: Port, frame: &impl OnWire) -> Expect {
    let mut expect = Expect::new("reply", None, Counted::Replied).and(port, frame);
    expect.out = vec![port];
    expect
}

/// The appliance answers it with this ICMP error, whose cause is `reason`.
pub fn refuses(reason: &'static str, port: Port, frame: &impl OnWire) -> Expect {
    Expect { reason: Some(reason), ..replies(port, frame) }
}

/// It is dropped without a word.
pub fn drops(reason: &'static str) -> Expect {
    Expect::new("drop", Some(reason), Counted::Dropped(reason))
}

/// It is taken in.
pub fn consumes() -> Expect {
    Expect::new("consume", None, Counted::Consumed)
}

/// It waits, to the script's end unless it says what becomes of it later.
pub fn holds() -> Expect {
    Expect::new("hold", None, Counted::Held)
}

struct Step {
    time: u64,
    port: Port,
    frame: Vec<u8>,
    expect: Expect,
}

/// Frames in, in order, and all that is to come of them.
pub struct Script {
    says: String,
    config: String,
    arguments: Vec<String>,
    now: u64,
    waited: bool,
    linger: Duration,
    missing: u32,
    steps: Vec<Step>,
    /// What is to leave, by port, in order.
    leaves: BTreeMap<Port, Vec<Timed>>,
    /// Its frames carry what only one seed gives.
    has_one_seed: bool,
    ran: bool,
}

impl Script {
    /// A script under a configuration; `says` is what it shows.
    pub fn new(says: &str, config: &str) -> Self {
        Self {
            says: says.into(),
            config: config.into(),
            arguments: Vec::new(),
            now: START,
            waited: true,
            linger: Duration::ZERO,
            missing: 0,
            steps: Vec::new(),
            leaves: BTreeMap::new(),
            has_one_seed: false,
            ran: false,
        }
    }

    /// With this backend down.
    pub fn down(&mut self, backend: &str) -> &mut Self {
        self.arguments.extend(["--down".into(), backend.into()]);
        self
    }

    /// Of each frame the last bytes were not captured.
    pub fn cut(&mut self, missing: u32) -> &mut Self {
        self.missing = missing;
        self
    }

    /// Its frames carry what the appliance said under the first seed, such as a cookie: it is not tried with another one.
    pub fn of_one_seed(&mut self) -> &mut Self {
        self.has_one_seed = true;
        self
    }

    /// Replays the script once and gives the frames that left by a port, whatever it expects.
    ///
    /// # Panics
    /// When the replay fails.
    pub fn sent(&mut self, port: Port) -> Vec<Vec<u8>> {
        self.ran = true;
        let replayed = self.replay(&Folder::new(), "sent", SEED);
        let files = Port::ALL.into_iter().zip(&replayed.frames);
        let of_port = files.filter(|(of, _)| *of == port).flat_map(|(_, file)| capture::read(file));
        of_port.map(|(_, frame)| frame).collect()
    }

    /// A frame comes in by `port`.
    pub fn send(&mut self, port: Port, frame: &impl OnWire, expect: Expect) -> &mut Self {
        if !self.waited {
            self.now += STEP.as_nanos() as u64;
        }
        self.waited = false;
        for (port, leaving) in &expect.leaves {
            self.leaves.entry(*port).or_default().push((self.now, leaving.0.clone()));
        }
        self.steps.push(Step { time: self.now, port, frame: frame.received(port), expect });
        self
    }

    /// Time goes by; what the appliance sends or the next frame comes at its end.
    pub fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time.as_nanos() as u64;
        self.waited = true;
        self
    }

    /// The appliance sends this by itself.
    pub fn sends(&mut self, port: Port, frame: &impl OnWire) -> &mut Self {
        self.leaves.entry(port).or_default().push((self.now, frame.sent(port)));
        self.linger = Duration::from_nanos(self.now - self.steps.last().map_or(START, |step| step.time));
        self
    }

    /// Runs to the end of what was waited for.
    pub fn to_the_end(&mut self) -> &mut Self {
        self.linger = Duration::from_nanos(self.now - self.steps.last().map_or(START, |step| step.time));
        self
    }

    /// Replays the script three times (twice with one seed, once with another) and compares.
    ///
    /// # Panics
    /// When anything is not as the script says.
    pub fn run(&mut self) {
        self.ran = true;
        let folder = Folder::new();
        let first = self.replay(&folder, "first", SEED);
        let differences = self.compare(&first);
        assert!(differences.is_empty(), "{}\n{differences}{}", self.says, self.config);
        let again = self.replay(&folder, "again", SEED);
        assert!(first == again, "{}: the same seed gave another output", self.says);
        if self.has_one_seed {
            return;
        }
        let other = self.replay(&folder, "other", OTHER_SEED);
        assert!(first.verdicts == other.verdicts, "{}: another seed gave other verdicts", self.says);
    }

    /// Replays the script once and gives its verdict lines, whatever it expects.
    ///
    /// # Panics
    /// When the replay fails.
    pub fn observe(&mut self) -> Vec<Value> {
        self.ran = true;
        lines(&self.replay(&Folder::new(), "observed", SEED).verdicts)
    }

    fn replay(&self, folder: &Folder, name: &str, seed: &str) -> Replayed {
        let config = folder.write("nva.yaml", &self.config);
        let out = folder.join(name);
        let verdicts = folder.join("verdicts");
        let mut arguments: Vec<String> = ["replay", "--json", "--seed", seed].map(String::from).to_vec();
        let mut option = |name: &str, value: String| arguments.extend([name.to_string(), value]);
        option("--config", config.display().to_string());
        option("--out", out.display().to_string());
        option("--verdicts", verdicts.display().to_string());
        option("--linger", format!("{}ms", self.linger.as_millis()));
        for port in Port::ALL {
            let frames: Vec<Timed> =
                self.steps.iter().filter(|s| s.port == port).map(|s| (s.time, s.frame.clone())).collect();
            let path =
                folder.write(&format!("{}.in", port.name()), capture::write_cut(&frames, self.missing));
            option("--in", format!("{}={}", port.name(), path.display()));
            let mac: Vec<String> = port.station().iter().map(|byte| format!("{byte:02x}")).collect();
            option("--mac", format!("{}={}", port.name(), mac.join(":")));
        }
        arguments.extend(self.arguments.iter().cloned());
        let output = binary::run(&arguments);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}\n{err}\n{}", self.says, self.config);
        let frames = Port::ALL.map(|port| folder.read(&format!("{name}/{}.pcap", port.name())));
        let mut summary: Value = serde_json::from_slice(&output.stdout).expect("a summary in JSON");
        summary.as_object_mut().expect("an object").remove("seed");
        Replayed { verdicts: folder.read("verdicts"), frames, summary }
    }

    /// What differs from the script, one line each; empty where nothing does.
    fn compare(&self, replayed: &Replayed) -> String {
        let mut differences = String::new();
        self.compare_verdicts(&replayed.verdicts, &mut differences);
        for (port, file) in Port::ALL.into_iter().zip(&replayed.frames) {
            let expected = self.leaves.get(&port).map_or(&[][..], Vec::as_slice);
            compare_frames(port, expected, &capture::read(file), &mut differences);
        }
        self.compare_counters(&replayed.summary, &mut differences);
        differences
    }

    fn compare_verdicts(&self, written: &[u8], differences: &mut String) {
        let lines = lines(written);
        if lines.len() != self.steps.len() {
            let _ = writeln!(differences, "{} verdict lines for {} frames", lines.len(), self.steps.len());
        }
        for (index, (step, line)) in self.steps.iter().zip(&lines).enumerate() {
            let expect = &step.expect;
            let of_ports = expect.out.iter().map(|port| port.name());
            let names: Vec<&str> = match expect.into {
                Some(segment) => vec![segment],
                None => of_ports.collect(),
            };
            let expected = json!({
                "frame": index + 1, "time": line["time"], "port": step.port.name(), "verdict": expect.verdict,
                "reason": expect.reason, "rule": expect.rule, "backend": expect.backend, "out": names,
            });
            if *line != expected {
                let frame = describe(&step.frame);
                let _ = writeln!(
                    differences,
                    "frame {}: {frame}\n  said     {line}\n  expected {expected}",
                    index + 1
                );
            }
        }
    }

    fn compare_counters(&self, summary: &Value, differences: &mut String) {
        for counted in summary["ports"].as_array().into_iter().flatten() {
            let port = Port::ALL.into_iter().find(|port| counted["name"] == port.name());
            let expected = self.counters(port, counted);
            if *counted != expected {
                let _ = writeln!(differences, "counters\n  counted  {counted}\n  expected {expected}");
            }
        }
    }

    /// Every counter of a port, or of the segment that was counted; the names of the drop reasons are those that were counted.
    fn counters(&self, port: Option<Port>, counted: &Value) -> Value {
        let is_here = |step: &&Step| match (port, step.expect.from) {
            (Some(port), None) => step.port == port,
            (None, Some(segment)) => counted["name"] == segment,
            _ => false,
        };
        let ends: Vec<Counted> = self.steps.iter().filter(is_here).map(|step| step.expect.counted).collect();
        let count = |what: Counted| ends.iter().filter(|end| **end == what).count();
        let reasons = counted["dropped_for"].as_object().into_iter().flatten();
        let mut dropped_for: serde_json::Map<String, Value> =
            reasons.map(|(name, _)| (name.clone(), 0.into())).collect();
        for end in &ends {
            if let Counted::Dropped(reason) = end {
                dropped_for.insert((*reason).into(), count(*end).into());
            }
        }
        let dropped = ends.iter().filter(|end| matches!(end, Counted::Dropped(_))).count();
        json!({
            "name": counted["name"],
            "mac": counted["mac"],
            "received": ends.len(),
            "forwarded": count(Counted::Forwarded),
            "replied": count(Counted::Replied),
            "consumed": count(Counted::Consumed),
            "held": count(Counted::Held),
            "dropped": dropped,
            "dropped_for": dropped_for,
            // What a segment sent, its port sent too.
            "transmitted": match port {
                Some(port) => json!(self.leaves.get(&port).map_or(0, Vec::len)),
                None => counted["transmitted"].clone(),
            },
        })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        assert!(self.ran || std::thread::panicking(), "{}: the script was not run", self.says);
    }
}

/// All that a replay wrote, but for the seed.
#[derive(PartialEq)]
struct Replayed {
    verdicts: Vec<u8>,
    frames: [Vec<u8>; 2],
    summary: Value,
}

/// The verdict lines.
fn lines(written: &[u8]) -> Vec<Value> {
    let lines = written.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a verdict line in JSON")).collect()
}

fn compare_frames(port: Port, expected: &[Timed], sent: &[Timed], differences: &mut String) {
    let seconds = |time: u64| time.wrapping_sub(START) as i64 as f64 / 1e9;
    for place in 0..expected.len().max(sent.len()) {
        let (expected, sent) = (expected.get(place), sent.get(place));
        if expected == sent {
            continue;
        }
        let _ = writeln!(differences, "{} sends, frame {}:", port.name(), place + 1);
        for (word, frame) in [("sent", sent), ("expected", expected)] {
            let _ = match frame {
                Some((time, frame)) => {
                    writeln!(differences, "  {word:8} at {:.9}: {}", seconds(*time), describe(frame))
                }
                None => writeln!(differences, "  {word:8} nothing"),
            };
        }
    }
}
