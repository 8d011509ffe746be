//! `perf classify`: filter sets through the classifier, every answer verified, beside the linear search and `rte_acl`.

mod bench;
#[cfg(feature = "dpdk")]
mod peer;
mod report;
mod sets;
mod updates;
mod verify;

use crate::compare::{Interrupt, progress};
use bench::{Cost, HOT, Plan};
use clap::{Args, ValueEnum};
use nva_dataplane::policy::classifier::classbench::{self, Random, Style};
use nva_dataplane::policy::classifier::{Classifier, Pattern};
use nva_dataplane::wire::FlowKey;
use serde::Serialize;
use sets::{FilterSet, Origin};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use updates::Updates;
use verify::Verified;

/// Classifies filter sets: verifies the answers, measures look-ups, memory and building, beside rte_acl.
///
/// A folder's ClassBench sets are looked up by their traces, whose answers are verified; sets without a trace, and sets of the generator,
/// by headers drawn from the rules and verified by the linear search. Figures are ns of CPU time a look-up in bursts of 32: `hot` is up to 10 000
/// headers of the trace over and over, `cold` is a million different headers. With the feature `dpdk`, `rte_acl` has the same rules in the same process and is
/// measured in turn, A B B A, by its fastest method on this processor; `rate` is how many times its rate ours is. `in force` is the CPU time from
/// the wish to change one rule to its publication, all but a hundredth of the changes; `x` is how many times as long a look-up takes while a rule changes every
/// millisecond and the rules are built anew in the background. Exits with 1 if an answer differs.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo build --release -p perf --features dpdk
  target/release/perf classify ../shared/data/classbench       every set of a folder
  target/release/perf classify sets/fw1_10k.rules              one set, with the trace beside it
  target/release/perf classify                                 sets of 1 000, 10 000 and 100 000 rules in three styles
  target/release/perf classify --rules 5000 --style fw         one set of a size of your own
  target/release/perf classify sets --only 1k --json >out.json for programs; progress stays on the terminal")]
pub(crate) struct ClassifyArgs {
    /// A folder with files NAME.rules and NAME.trace, packed with gzip or not, or one file of rules; the generator when it is not named.
    dir: Option<PathBuf>,
    /// Only sets whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Rules of a generated set.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000], conflicts_with = "dir",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rules: Vec<u32>,
    /// Styles of the generated sets; all when none is named.
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "dir")]
    style: Vec<StyleName>,
    /// Fixes the generated sets and headers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Different headers of the cold figure.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    cold: u32,
    /// Pairs of shots.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pairs: u16,
    /// Measures and verifies without rte_acl.
    #[arg(long)]
    alone: bool,
    /// Ordinary memory that DPDK is given, in MiB.
    #[arg(long, default_value_t = 6_144)]
    dpdk_memory: u32,
    /// Prints JSON in place of the table.
    #[arg(long)]
    json: bool,
}

/// The rules of one file.
pub(crate) fn rules_of(file: &Path) -> Result<Vec<Pattern>, String> {
    Origin::Files(file.to_owned(), None).load().map(|set| set.rules)
}

/// A style of the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StyleName {
    /// Access lists.
    Acl,
    /// Firewalls.
    Fw,
    /// IP chains.
    Ipc,
}

impl From<StyleName> for Style {
    fn from(name: StyleName) -> Self {
        match name {
            StyleName::Acl => Self::Acl,
            StyleName::Fw => Self::Firewall,
            StyleName::Ipc => Self::Chain,
        }
    }
}

/// What one set showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    set: String,
    rules: usize,
    /// The rules are searched from the first to the last.
    linear: bool,
    hot: Cost,
    cold: Cost,
    /// What the tables take.
    bytes: usize,
    build_ms: f64,
    /// What changes of its rules cost; `None` for one that is searched linearly.
    updates: Option<Updates>,
    rte_acl: Option<PeerRow>,
    /// Why `rte_acl` was not asked.
    alone_because: Option<String>,
    verified: Verified,
}

/// What the peer takes for it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PeerRow {
    method: &'static str,
    bytes: usize,
    build_ms: f64,
}

#[cfg(feature = "dpdk")]
use peer::Peer;

/// Stands where `rte_acl` would.
#[cfg(not(feature = "dpdk"))]
struct Peer;

/// Runs the command.
pub(crate) fn run(args: &ClassifyArgs) -> Result<(), String> {
    let mut origins = match &args.dir {
        Some(dir) => sets::find(dir)?,
        None => generated(args),
    };
    origins.retain(|origin| origin.name().contains(&args.only));
    if origins.is_empty() {
        return Err(format!("no set's name contains {:?}", args.only));
    }
    let interrupt = Interrupt::catch()?;
    let peer = start(args)?;
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for origin in &origins {
        interrupt.check()?;
        match measure(args, origin, peer.as_ref(), &interrupt) {
            Ok(row) => rows.push(row),
            Err(why) => {
                interrupt.check()?;
                wrong.push(why);
            }
        }
    }
    progress("");
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&report::json(&rows)).map_err(|error| error.to_string())?
        );
    } else {
        print!("{}", report::table(&rows));
    }
    for why in &wrong {
        eprintln!("{why}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{} of {} sets failed", wrong.len(), origins.len())) }
}

fn generated(args: &ClassifyArgs) -> Vec<Origin> {
    let styles: Vec<Style> = match args.style.as_slice() {
        [] => Style::ALL.to_vec(),
        some => some.iter().map(|name| (*name).into()).collect(),
    };
    let sizes = args.rules.iter().map(|rules| *rules as usize);
    sizes
        .flat_map(|rules| styles.iter().map(move |style| Origin::Generated(*style, rules, args.seed)))
        .collect()
}

#[cfg(feature = "dpdk")]
fn start(args: &ClassifyArgs) -> Result<Option<Peer>, String> {
    if args.alone { Ok(None) } else { Peer::start(args.dpdk_memory).map(Some) }
}

#[cfg(not(feature = "dpdk"))]
#[expect(clippy::unnecessary_wraps, reason = "starting DPDK can fail")]
fn start(_: &ClassifyArgs) -> Result<Option<Peer>, String> {
    Ok(None)
}

/// The headers of a set: those that are looked up again and again, and many that are not.
struct Keys {
    hot: Vec<FlowKey>,
    cold: Vec<FlowKey>,
}

impl Keys {
    fn new(set: &FilterSet, args: &ClassifyArgs) -> Self {
        let mut random = Random(args.seed ^ 0xc01d);
        let cold: Vec<FlowKey> =
            (0..args.cold).map(|_| classbench::header(&set.rules, &mut random)).collect();
        let hot = match &set.trace {
            Some((_, trace)) if !trace.is_empty() => {
                trace.iter().take(HOT).map(|header| header.key).collect()
            }
            _ => cold.iter().copied().take(HOT).collect(),
        };
        Self { hot, cold }
    }
}

fn measure(
    args: &ClassifyArgs,
    origin: &Origin,
    peer: Option<&Peer>,
    interrupt: &Interrupt,
) -> Result<Row, String> {
    let name = origin.name();
    progress(&format!("{name}: reads"));
    let set = origin.load()?;
    let keys = Keys::new(&set, args);
    progress(&format!("{name}: builds"));
    let (classifier, build_ns) = bench::timed(|| Classifier::build(set.rules.clone(), classbench::SCOPE));
    progress(&format!("{name}: verifies"));
    let verified = Verified {
        by_trace: verify::by_trace(&set, &classifier)?,
        by_linear: verify::by_linear(&name, &classifier, &keys.cold)?,
        by_rte_acl: 0,
    };
    let plan = Plan { pairs: args.pairs.into(), seed: args.seed, interrupt };
    let classifier = Arc::new(classifier);
    let measured = Measured { set: &set, classifier: &classifier, keys: &keys, plan };
    let mut row = measured.row(peer, verified)?;
    row.build_ms = build_ns / 1e6;
    if !row.linear {
        progress(&format!("{name}: changes rules"));
        let updates = updates::measure(plan, &classifier, &keys.hot);
        row.updates = Some(updates.map_err(|why| format!("{name}: {why}"))?);
    }
    Ok(row)
}

/// A set that is compiled and answers rightly.
struct Measured<'a> {
    set: &'a FilterSet,
    classifier: &'a Classifier,
    keys: &'a Keys,
    plan: Plan<'a>,
}

impl Measured<'_> {
    fn row(&self, peer: Option<&Peer>, verified: Verified) -> Result<Row, String> {
        #[cfg(feature = "dpdk")]
        if let Some(peer) = peer {
            return match self.beside(peer, verified)? {
                Ok(row) => Ok(row),
                Err(because) => self.alone(verified, because),
            };
        }
        let because = if cfg!(feature = "dpdk") {
            "asked for"
        } else {
            "this perf is built without DPDK: cargo build --release -p perf --features dpdk"
        };
        let _ = peer;
        self.alone(verified, because.into())
    }

    fn alone(&self, verified: Verified, because: String) -> Result<Row, String> {
        let cost = |keys: &[FlowKey]| {
            bench::cost(self.plan, keys.len(), || bench::look_up(self.classifier, keys), None::<fn()>)
        };
        progress(&format!("{}: measures", self.set.name));
        let (hot, cold) = (cost(&self.keys.hot)?, cost(&self.keys.cold)?);
        Ok(Row { alone_because: Some(because), ..self.outcome(hot, cold, verified) })
    }

    /// Beside `rte_acl`; why it cannot have these rules, if it cannot.
    #[cfg(feature = "dpdk")]
    fn beside(&self, peer: &Peer, mut verified: Verified) -> Result<Result<Row, String>, String> {
        let name = &self.set.name;
        let (Some(hot), Some(cold)) = (peer::keys(&self.keys.hot), peer::keys(&self.keys.cold)) else {
            return Ok(Err("rte_acl is given IPv4 headers only".into()));
        };
        progress(&format!("{name}: builds rte_acl"));
        let peer = match peer.build(self.set, &hot) {
            Ok(peer) => peer,
            Err(because) => return Ok(Err(because)),
        };
        progress(&format!("{name}: verifies by rte_acl"));
        for (own, other) in [(&self.keys.hot, &hot), (&self.keys.cold, &cold)] {
            let (answers, others) = (verify::answers(self.classifier, own), peer.answers(other));
            if let Some(place) = answers.iter().zip(&others).position(|(a, b)| a != b) {
                return Err(format!(
                    "{name}: to {:?} the tables say {:?}, rte_acl says {:?}",
                    own[place], answers[place], others[place]
                ));
            }
            verified.by_rte_acl += answers.len();
        }
        let cost = |what: &str, own: &[FlowKey], other: &[pmd_shim::dpdk::AclKey]| {
            progress(&format!("{name}: measures {what}"));
            let ours = || bench::look_up(self.classifier, own);
            bench::cost(self.plan, own.len(), ours, Some(|| peer.look_up(other)))
        };
        let hot = cost("hot", &self.keys.hot, &hot)?;
        let cold = cost("cold", &self.keys.cold, &cold)?;
        let rte_acl = PeerRow { method: peer.method.name(), bytes: peer.bytes(), build_ms: peer.build_ms };
        Ok(Ok(Row { rte_acl: Some(rte_acl), ..self.outcome(hot, cold, verified) }))
    }

    fn outcome(&self, hot: Cost, cold: Cost, verified: Verified) -> Row {
        Row {
            set: self.set.name.clone(),
            rules: self.set.rules.len(),
            linear: self.classifier.is_linear(),
            hot,
            cold,
            bytes: self.classifier.table_bytes(),
            build_ms: 0.0,
            updates: None,
            rte_acl: None,
            alone_because: None,
            verified,
        }
    }
}
