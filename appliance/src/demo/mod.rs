//! `nva demo`: the appliance between a client and two backends, with real traffic through the kernel's own TCP, each step said.
//!
//! Everything is in namespaces of its own and goes away at the end: by itself, on Ctrl-C, on failure and on panic.

mod appliance;
mod config;
mod lab;
mod peer;

use crate::cli::{DemoArgs, DemoPeer};
use crate::output::{Failure, Style, complain, conclude, print};
use crate::run::{counted, summary};
use appliance::Appliance;
use config::{BACKENDS, CLIENT, CLOSED, CLOSED_BEHIND, OPEN, OPEN_BEHIND, VIP, VIP6};
use lab::{APPLIANCE_SPACE, Lab, Plan};
use nva_dataplane::verdict::DropReason;
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Child, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Requests in a step that counts who answered. That all of them reach one of two equal backends by chance happens once in 2⁵⁹.
const REQUESTS: u32 = 60;
/// Requests on their way while the configuration changes.
const REQUESTS_MEANWHILE: u32 = 400;

/// Runs the command.
pub(crate) fn demo(args: &DemoArgs) -> ExitCode {
    conclude(try_demo(args))
}

/// Runs the demo's own server or client.
pub(crate) fn peer(peer: &DemoPeer) -> ExitCode {
    conclude(match peer {
        DemoPeer::Serve { name, ports } => peer::serve(name, ports),
        DemoPeer::Get { to, count, timeout } => peer::get(*to, *count, *timeout),
    })
}

fn try_demo(args: &DemoArgs) -> Result<(), Failure> {
    if !is_root() {
        return Err(Failure::failed("the demo makes network namespaces; run it as root, as with sudo"));
    }
    let plan = Arc::new(Plan::new());
    let interrupted = clean_up_whatever_happens(&plan)?;
    lab::sweep();
    let begun = Instant::now();
    let mut story = Story { style: Style::stdout(), interrupted, failed: 0, told: 0 };
    let outcome = play(&mut story, &plan, args);
    // The lab is gone with the scene, unless something could not be removed.
    let remains = plan.remains();
    story.tell(
        remains.is_empty(),
        &match remains.as_slice() {
            [] => "cleaned up: no namespace, process or file is left".to_string(),
            some => format!("cleaning up left {}", some.join(", ")),
        },
    )?;
    outcome?;
    let seconds = begun.elapsed().as_secs_f64();
    if story.failed > 0 {
        return Err(Failure::failed(format!(
            "{} of {} did not go as said",
            story.failed,
            counted(story.told, "step")
        )));
    }
    print(&format!("\n{} in {seconds:.1} s, all as said\n", counted(story.told, "step")))
}

fn is_root() -> bool {
    // Real, effective, saved and file-system user.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    ids.split_whitespace().nth(1) == Some("0")
}

/// Ctrl-C sets the flag that is given back; a panic removes everything before the process ends.
fn clean_up_whatever_happens(plan: &Arc<Plan>) -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| Failure::failed(format!("signal handlers: {error}")))?;
    }
    let plan = Arc::clone(plan);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        plan.remove();
    }));
    Ok(interrupted)
}

/// Tells the steps, and keeps count of what did not go as said.
struct Story {
    style: Style,
    interrupted: Arc<AtomicBool>,
    failed: usize,
    told: usize,
}

impl Story {
    fn tell(&mut self, good: bool, what: &str) -> Result<(), Failure> {
        self.told += 1;
        self.failed += usize::from(!good);
        let sign = if good { self.style.good("✓") } else { self.style.bad("✗") };
        print(&format!("{sign} {what}\n"))
    }

    /// Ends the story where the user has had enough of it.
    fn go_on(&self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::failed("interrupted"));
        }
        Ok(())
    }
}

/// All steps; whatever they made is gone on return.
fn play(story: &mut Story, plan: &Arc<Plan>, args: &DemoArgs) -> Result<(), Failure> {
    let mut lab = Lab::build(plan)?;
    serve(&mut lab)?;
    story.tell(
        true,
        &format!(
            "network up: client {CLIENT}, appliance, {} and {} on a switch",
            BACKENDS[0].name, BACKENDS[1].name
        ),
    )?;
    story.go_on()?;
    let mut appliance = Appliance::start(&lab, plan)?;
    let ready = appliance.output("out");
    story.tell(true, ready.lines().next().unwrap_or_default())?;

    balanced(story, &lab, &format!("{VIP}:{OPEN}"))?;
    balanced(story, &lab, &format!("[{VIP6}]:{OPEN}"))?;
    denied(story, &lab, &appliance)?;
    taken_away_and_back(story, &lab, &mut appliance)?;
    figures(story, &appliance)?;
    kernel_kept_out(story, &lab)?;
    if args.keep {
        linger(story, plan, &appliance)?;
    }
    let clean = appliance.stop()?;
    story.tell(clean, "the appliance ended on SIGTERM, with its summary")?;
    drop(appliance);
    drop(lab);
    Ok(())
}

/// Starts the backends' servers and waits until they listen.
fn serve(lab: &mut Lab) -> Result<(), Failure> {
    let (open, closed) = (OPEN_BEHIND.to_string(), CLOSED_BEHIND.to_string());
    for host in BACKENDS {
        let args = ["demo-peer", "serve", "--name", host.name, "--port", &open, "--port", &closed];
        let failed = |what: String| Failure::failed(format!("{}: {what}", host.name));
        let mut command = lab.program(host.name, &args)?;
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let mut said = [0; 8];
        let listens = child.stdout.as_mut().is_some_and(|stdout| stdout.read_exact(&mut said).is_ok());
        lab.keep(child);
        if !listens {
            return Err(failed("its server did not start".into()));
        }
    }
    Ok(())
}

/// Who answered how many requests; failures are counted under what the client said.
fn ask(lab: &Lab, to: &str, requests: u32, timeout: &str) -> Result<BTreeMap<String, u32>, Failure> {
    let count = requests.to_string();
    Ok(tally(&lab.client(&["demo-peer", "get", "--to", to, "--count", &count, "--timeout", timeout])?))
}

fn tally(said: &str) -> BTreeMap<String, u32> {
    let mut tally = BTreeMap::new();
    for line in said.lines() {
        *tally.entry(line.to_owned()).or_insert(0) += 1;
    }
    tally
}

fn failures(tally: &BTreeMap<String, u32>) -> u32 {
    tally.iter().filter(|(who, _)| who.starts_with(peer::FAILED)).map(|(_, count)| count).sum()
}

fn answered(tally: &BTreeMap<String, u32>, who: &str) -> u32 {
    tally.get(who).copied().unwrap_or(0)
}

fn listed(tally: &BTreeMap<String, u32>) -> String {
    let parts: Vec<String> = tally.iter().map(|(who, count)| format!("{who} {count}")).collect();
    if parts.is_empty() { "nobody".into() } else { parts.join(", ") }
}

/// Requests to the virtual address reach both backends, and none fails.
fn balanced(story: &mut Story, lab: &Lab, to: &str) -> Result<(), Failure> {
    story.go_on()?;
    let tally = ask(lab, to, REQUESTS, "2s")?;
    let both = BACKENDS.iter().all(|host| answered(&tally, host.name) > 0);
    let total: u32 = tally.values().sum();
    story.tell(
        both && failures(&tally) == 0 && total == REQUESTS,
        &format!("{REQUESTS} requests to http://{to} answered by both backends: {}", listed(&tally)),
    )
}

/// A port that no rule allows: the client hears nothing, the appliance counts it, `nva explain` names the rule.
fn denied(story: &mut Story, lab: &Lab, appliance: &Appliance) -> Result<(), Failure> {
    story.go_on()?;
    let reason = DropReason::DeniedByRule;
    let count = |stats: &crate::run::protocol::Stats| stats.total.dropped.0[reason.index()];
    let before = count(&appliance.stats()?);
    let tally = ask(lab, &format!("{VIP}:{CLOSED}"), 1, "1s")?;
    let after = count(&appliance.stats_when(|stats| count(stats) > before)?);
    let silent = answered(&tally, peer::SILENCE) == 1;
    story.tell(
        silent && after > before,
        &format!(
            "port {CLOSED} is denied: the client hears {}; {} counts {} more",
            if silent { "nothing".into() } else { listed(&tally) },
            reason.name(),
            after.saturating_sub(before)
        ),
    )?;
    let config = appliance.config();
    let (from, to) = (format!("{CLIENT}:40000"), format!("{VIP}:{CLOSED}"));
    let config = config.to_string_lossy();
    let explained = lab.client(&[
        "explain",
        "--config",
        &config,
        "--port",
        "untrusted",
        "--proto",
        "tcp",
        "--from",
        &from,
        "--to",
        &to,
        "--json",
    ])?;
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap_or_default();
    let rule = explained.get("rule").and_then(|rule| rule.as_str()).unwrap_or("nothing");
    story.tell(rule == "web-nsg/DenyAllInBound", &format!("`nva explain` names the rule: {rule}"))
}

/// A backend is set down under load and up again: nothing fails, and it gets new connections only while it is up.
fn taken_away_and_back(story: &mut Story, lab: &Lab, appliance: &mut Appliance) -> Result<(), Failure> {
    let to = format!("{VIP}:{OPEN}");
    let [stays, leaves] = BACKENDS;
    story.go_on()?;
    let meanwhile = under_load(lab, &to)?;
    let generation = appliance.reload(&[leaves.name])?;
    let during = finish(meanwhile)?;
    story.tell(
        failures(&during) == 0 && during.values().sum::<u32>() == REQUESTS_MEANWHILE,
        &format!(
            "{} set down by SIGHUP (configuration {generation}) while {REQUESTS_MEANWHILE} requests ran: {} failed",
            leaves.name,
            failures(&during)
        ),
    )?;
    let tally = ask(lab, &to, REQUESTS, "2s")?;
    let states = appliance.backends()?;
    let is_out = states.iter().any(|backend| backend.backend == leaves.name && !backend.eligible);
    story.tell(
        answered(&tally, stays.name) == REQUESTS && is_out,
        &format!("{REQUESTS} new requests all answered by the other: {}", listed(&tally)),
    )?;
    story.go_on()?;
    let meanwhile = under_load(lab, &to)?;
    let generation = appliance.reload(&[])?;
    let during = finish(meanwhile)?;
    let tally = ask(lab, &to, REQUESTS, "2s")?;
    story.tell(
        failures(&during) + failures(&tally) == 0 && answered(&tally, leaves.name) > 0,
        &format!("{} back (configuration {generation}): {}", leaves.name, listed(&tally)),
    )
}

fn under_load(lab: &Lab, to: &str) -> Result<Child, Failure> {
    let count = REQUESTS_MEANWHILE.to_string();
    lab.start_client(&["demo-peer", "get", "--to", to, "--count", &count, "--timeout", "2s"])
}

fn finish(client: Child) -> Result<BTreeMap<String, u32>, Failure> {
    let output = client.wait_with_output();
    let output = output.map_err(|error| Failure::failed(format!("the demo's client: {error}")))?;
    Ok(tally(&String::from_utf8_lossy(&output.stdout)))
}

/// What `nva show stats` shows, and whether its sums hold.
fn figures(story: &mut Story, appliance: &Appliance) -> Result<(), Failure> {
    story.go_on()?;
    let stats = appliance.stats_when(|stats| stats.total.held == 0)?;
    print(&format!("\n{}\n", summary::render(&stats, story.style)))?;
    let hold = stats.ports.iter().all(|port| port.traffic.received == port.traffic.verdicts());
    story.tell(
        hold && stats.total.received > 0,
        &format!(
            "{} frames received = {} verdicts, on each port",
            stats.total.received,
            stats.total.verdicts()
        ),
    )
}

/// The kernel of the appliance's namespace saw no IP packet at all.
fn kernel_kept_out(story: &mut Story, lab: &Lab) -> Result<(), Failure> {
    story.go_on()?;
    let v4 = lab.proc_file(APPLIANCE_SPACE, "/proc/net/snmp")?;
    let v6 = lab.proc_file(APPLIANCE_SPACE, "/proc/net/snmp6")?;
    let (v4, v6) = (snmp(&v4, "Ip:", "InReceives"), snmp6(&v6, "Ip6InReceives"));
    let shown = |count: Option<u64>| count.map_or("?".to_string(), |count| count.to_string());
    story.tell(
        v4 == Some(0) && v6 == Some(0),
        &format!("the kernel was kept out: it took in {} IPv4 and {} IPv6 packets", shown(v4), shown(v6)),
    )
}

/// A counter of `/proc/net/snmp`: a line of names and a line of numbers behind the same word.
fn snmp(text: &str, section: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(section));
    let place = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

/// A counter of `/proc/net/snmp6`: a name and a number on each line.
fn snmp6(text: &str, name: &str) -> Option<u64> {
    let mut words = text
        .lines()
        .map(str::split_whitespace)
        .find_map(|mut words| (words.next()? == name).then_some(words))?;
    words.next()?.parse().ok()
}

/// Leaves everything up until Ctrl-C.
fn linger(story: &Story, plan: &Plan, appliance: &Appliance) -> Result<(), Failure> {
    let socket = appliance.socket();
    let socket = socket.display();
    print(&format!(
        "\nEverything stays up until Ctrl-C. In another terminal:\n  \
         ip netns exec {} curl http://{VIP}/\n  \
         nva show stats --socket {socket}\n  \
         nva top --socket {socket}\n  \
         nva show flows --socket {socket}\n",
        plan.space("client")
    ))?;
    while story.go_on().is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
    complain("");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_who_gave_them() {
        let counted = tally("web-1\nweb-2\nweb-1\n! silence\n! refused\n");
        assert_eq!(
            (answered(&counted, "web-1"), answered(&counted, "web-2"), answered(&counted, "web-3")),
            (2, 1, 0)
        );
        assert_eq!(failures(&counted), 2);
        assert_eq!(listed(&tally("b\na\nb\n")), "a 1, b 2");
        assert_eq!(listed(&tally("")), "nobody");
    }

    #[test]
    fn kernel_counters_are_found_by_name() {
        let snmp_text = "Ip: Forwarding DefaultTTL InReceives\nIp: 2 64 17\nIcmp: InMsgs\nIcmp: 3\n";
        assert_eq!(snmp(snmp_text, "Ip:", "InReceives"), Some(17));
        assert_eq!(snmp(snmp_text, "Icmp:", "InMsgs"), Some(3));
        assert_eq!(snmp(snmp_text, "Ip:", "Absent"), None);
        assert_eq!(snmp6("Ip6InReceives \t 5\nIp6InHdrErrors 0\n", "Ip6InReceives"), Some(5));
        assert_eq!(snmp6("", "Ip6InReceives"), None);
    }
}
