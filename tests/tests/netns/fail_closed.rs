//! Fail closed: whatever happens to the appliance, the kernel neither forwards nor answers what its ports receive, though it is a
//! router that would.

use super::appliance::{Appliance, number, ports};
use super::config::{CLOSED_DATAGRAM, Config, DATAGRAM};
use super::counters::taken_in;
use super::lab::{DEVICES, Lab, OWN, WEB, WEB6, wait_until};
use super::peer::{Datagrams, PATIENCE, Server, at};
use super::ping::ping;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 100;
/// How long the far side is watched while the appliance is down.
const WATCH: Duration = Duration::from_millis(20);
/// Far more than it takes, as the machine may be busy; what it takes is printed.
const AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// The network with a kernel that would forward, and the servers at which a leak would show.
struct Siege {
    lab: Lab,
    allowed: Server,
    denied: Server,
    /// What the kernel took in before it was shut out.
    taken_in: [u64; 2],
}

impl Siege {
    /// Proves that the kernel forwards and answers without the drop, then shuts it out.
    fn lay(lab: Lab) -> Self {
        lab.make_kernel_a_router();
        let allowed = Server::start(&lab.web[0], 0, &[], &[DATAGRAM]);
        let denied = Server::start(&lab.web[0], 0, &[], &[CLOSED_DATAGRAM]);
        for to in [WEB[0], WEB6[0]] {
            for port in [DATAGRAM, CLOSED_DATAGRAM] {
                let answer = Datagrams::open(&lab.client, at(to, port), PATIENCE).turn(100);
                assert_eq!(answer, Some(0), "the kernel would forward to {to}, port {port}");
            }
        }
        assert!(ping(&lab.client, OWN, 56, PATIENCE), "the kernel would answer");
        let held = ports(&lab, "hold", &DEVICES);
        assert!(held.status.success(), "{}", String::from_utf8_lossy(&held.stderr));
        let taken_in = taken_in(&lab.appliance);
        Self { lab, allowed, denied, taken_in }
    }

    /// Looks at the far side for a while, in which nothing may arrive. There is no appliance now.
    fn nothing_passes(&self) {
        // What the appliance sent last may still be under way.
        let mut before = self.allowed.arrived();
        loop {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.allowed.arrived();
            if now == before {
                break;
            }
            assert!(now - before < 100, "the far side hears more than what was under way");
            before = now;
        }
        std::thread::sleep(WATCH);
        assert_eq!(self.allowed.arrived(), before, "the kernel forwards");
    }

    /// The kernel forwarded and answered nothing, all the time until now.
    fn kernel_stayed_shut_out(&self) {
        assert_eq!(
            taken_in(&self.lab.appliance),
            self.taken_in,
            "IPv4 and IPv6 packets that the kernel took in"
        );
        // Two came in while the kernel was let in, and no other ever.
        assert_eq!(self.denied.arrived(), 2, "datagrams that no rule allows");
    }

    /// Waits until something arrives that had not; after how long.
    fn until_forwarding(&self, since: Instant, before: u64) -> Duration {
        while self.allowed.arrived() == before {
            assert!(since.elapsed() < AGAIN_WITHIN, "it does not forward again");
            std::thread::sleep(Duration::from_micros(200));
        }
        since.elapsed()
    }
}

/// Offers traffic, allowed and denied, of both families, all the time.
fn offer(lab: &Lab, ending: &AtomicBool) -> u64 {
    let open = |(to, port)| Datagrams::open(&lab.client, at(to, port), PATIENCE);
    let clients =
        [(WEB[0], DATAGRAM), (WEB[0], CLOSED_DATAGRAM), (WEB6[0], DATAGRAM), (WEB6[0], CLOSED_DATAGRAM)]
            .map(open);
    let mut offered = 0;
    while !ending.load(Ordering::Relaxed) {
        clients.iter().for_each(|client| client.send(200));
        offered += clients.len() as u64;
        std::thread::sleep(Duration::from_millis(1));
    }
    offered
}

/// Runs something while traffic is offered, also when it panics; how much was offered.
fn under_siege(siege: &Siege, what: impl FnOnce(&Siege)) -> u64 {
    let ending = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let offering = scope.spawn(|| offer(&siege.lab, &ending));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| what(siege)));
        ending.store(true, Ordering::Relaxed);
        let offered = offering.join().expect("no panic");
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        offered
    })
}

#[test]
fn killed_and_restarted_a_hundred_times_nothing_leaks() {
    let Some(lab) = Lab::build("killed_and_restarted_a_hundred_times_nothing_leaks") else { return };
    let siege = Siege::lay(lab);
    let mut times = Vec::new();
    let offered = under_siege(&siege, |siege| {
        let before = siege.allowed.arrived();
        let mut appliance = Appliance::start(&siege.lab, &Config::default());
        siege.until_forwarding(Instant::now(), before);
        for _ in 0..ROUNDS {
            appliance.kill();
            siege.nothing_passes();
            let (before, began) = (siege.allowed.arrived(), Instant::now());
            appliance = Appliance::begin(&siege.lab);
            times.push(siege.until_forwarding(began, before));
            siege.kernel_stayed_shut_out();
        }
        appliance.wait_until_it_forwards();
        assert!(appliance.dropped("denied_by_rule") > 0);
    });
    times.sort();
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{ROUNDS} times killed and restarted, {offered} packets offered: forwarding again after {:?} (median), {:?} (99 %), {:?} at most",
        percentile(50),
        percentile(99),
        percentile(100)
    );
}

#[test]
fn nothing_leaks_from_before_the_start_until_after_the_stop() {
    let Some(lab) = Lab::build("nothing_leaks_from_before_the_start_until_after_the_stop") else { return };
    let siege = Siege::lay(lab);
    under_siege(&siege, |siege| {
        let silent = || {
            siege.nothing_passes();
            assert!(!ping(&siege.lab.client, OWN, 56, Duration::from_millis(300)), "nobody answers");
            siege.kernel_stayed_shut_out();
        };
        // Nobody may know the appliance's hardware address from before, so that the kernel is asked for it.
        siege.lab.client.ip("neighbor flush dev eth0");
        silent();
        let before = siege.allowed.arrived();
        let appliance = Appliance::start(&siege.lab, &Config::default());
        siege.until_forwarding(Instant::now(), before);
        // More than once, as the client's queue for an address not yet known is full of other packets.
        wait_until("the appliance answers", || ping(&siege.lab.client, OWN, 56, Duration::from_millis(300)));
        for drain_period in ["10s", "20s", "30s"] {
            appliance.reload(&Config { drain_period, ..Config::default() });
            siege.kernel_stayed_shut_out();
        }
        assert!(
            appliance.output("err").contains("net.ipv4.ip_forward is on"),
            "it says that the kernel forwards"
        );
        let received = number(&appliance.show("stats")["total"]["received"]);
        let (status, said) = appliance.stop();
        assert_eq!(status.code(), Some(0));
        assert!(said.contains("ended after") && said.contains("denied_by_rule"), "its summary: {said}");
        assert!(said.contains("nva ports release eth1 eth2 eth3"), "what stays behind: {said}");
        let total = said.lines().find_map(|line| line.trim().strip_prefix("total")).expect("a row of sums");
        let total: u64 = total.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
        assert!(total >= received, "{total} received in the summary, {received} before");
        silent();
        siege.lab.client.ip("neighbor flush dev eth0");
        silent();
    });
    let released = ports(&siege.lab, "release", &DEVICES);
    assert!(released.status.success(), "{}", String::from_utf8_lossy(&released.stderr));
    siege.lab.client.ip("neighbor flush dev eth0");
    let mut client = Datagrams::open(&siege.lab.client, at(WEB[0], DATAGRAM), PATIENCE);
    assert_eq!(client.turn(100), Some(0), "given back, the kernel forwards again");
}
