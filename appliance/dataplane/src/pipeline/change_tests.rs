//! What a change of rules does to flows that are open: nothing, unless their group says so, and then on the next forward packet.

use super::{Observer, Options, Outcome, Pipeline, Transmit};
use crate::addr::Mac;
use crate::names::Names;
use crate::placement::Placement;
use crate::snapshot::{BuildOptions, Link, Snapshot};
use crate::testing::VecFrame;
use crate::time::Time;
use crate::verdict::{DropReason, PortId, Verdict};
use crate::wire::testing::{FrameBuilder, STATION};
use core::time::Duration;
use nva_config::{Config, Source};
use pmd_shim::Burst;
use std::sync::Arc;

const OUTSIDE: PortId = PortId(0);
const INSIDE: PortId = PortId(1);
const CLIENT: &str = "198.51.100.7";
const SERVER: &str = "10.2.0.4";
const PASSES_IN: Verdict = Verdict::Forward(INSIDE);
const PASSES_OUT: Verdict = Verdict::Forward(OUTSIDE);
const DENIED: Verdict = Verdict::Drop(DropReason::DeniedByRule);

/// Whether the group flushes, and the access of its one rule, which lets datagrams to port 53 in, or does not.
fn config(flush: bool, access: &str) -> Config {
    load(text(flush, access))
}

fn load(text: String) -> Config {
    let source = Source { path: "change.yaml".into(), text: text.into_bytes() };
    nva_config::load(&[source], None).expect("a good configuration")
}

fn text(flush: bool, access: &str) -> String {
    format!(
        r#"
version: 1
ports:
- {{name: outside, device: e0, trust: untrusted, addresses: [203.0.113.1/24]}}
- {{name: inside, device: e1, trust: trusted, addresses: [10.2.0.1/24]}}
routes: [{{to: 0.0.0.0/0, via: 203.0.113.254}}]
neighbors:
- {{address: 203.0.113.254, mac: "02:00:00:00:71:fe"}}
- {{address: {SERVER}, mac: "02:00:00:00:02:04"}}
virtual_network:
  address_space: [10.0.0.0/8]
  subnets: [{{name: web, prefixes: [10.2.0.0/24], security_group: web}}]
security_groups:
- name: web
  flush_connections: {flush}
  rules:
  - {{name: dns, priority: 100, direction: inbound, access: {access}, protocol: udp, source: ["*"], source_ports: ["*"], destination: ["*"], destination_ports: [53]}}
"#
    )
}

fn snapshot(
    before: Option<(&Snapshot, &Config)>,
    config: &Config,
    generation: u32,
    names: &mut Names,
) -> Arc<Snapshot> {
    let links = [Link { mac: STATION, mtu: 1500 }, Link { mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1500 }];
    let options = BuildOptions { links: &links, down: &|_, _| false, names, generation };
    Arc::new(Snapshot::build_after(before, config, options))
}

/// Nobody looks at what leaves.
struct Nowhere;

impl Transmit<VecFrame> for Nowhere {
    fn transmit(&mut self, _: PortId, _: VecFrame) {}

    fn allocate(&mut self) -> Option<VecFrame> {
        None
    }
}

struct Last(Option<Outcome>);

impl Observer for Last {
    fn decided(&mut self, _: usize, outcome: &Outcome) {
        self.0 = Some(*outcome);
    }
}

struct Rig {
    pipeline: Pipeline<VecFrame>,
    names: Names,
    config: Config,
    generation: u32,
    now: Time,
}

impl Rig {
    fn new(flush: bool) -> Self {
        let (mut names, now) = (Names::default(), Time::from_millis(5_000));
        let options = Options { flow_capacity: 100, seed: [7; 16], placement: Placement::ALONE };
        let config = config(flush, "allow");
        let pipeline = Pipeline::new(snapshot(None, &config, 1, &mut names), &options, now);
        Self { pipeline, names, config, generation: 1, now }
    }

    fn change(&mut self, flush: bool, access: &str) {
        self.take_up(config(flush, access));
    }

    fn take_up(&mut self, config: Config) {
        self.generation += 1;
        let before = (&*self.pipeline.snapshot, &self.config);
        let new = snapshot(Some(before), &config, self.generation, &mut self.names);
        self.pipeline.adopt(new, self.now);
        self.config = config;
    }

    /// Under which generation an open flow has to be decided so as not to be looked at again.
    fn decided(&self) -> u32 {
        self.pipeline.snapshot.decided
    }

    fn receive(&mut self, port: PortId, frame: Vec<u8>) -> Verdict {
        self.now = self.now + Duration::from_millis(10);
        let mut burst = Burst::new();
        burst.push(VecFrame::new(&frame));
        let mut last = Last(None);
        self.pipeline.process(self.now, port, &mut burst, &mut Nowhere, &mut last);
        last.0.expect("every frame has a verdict").verdict
    }

    fn asks(&mut self, from: u16) -> Verdict {
        self.receive(OUTSIDE, FrameBuilder::new(CLIENT, SERVER).udp(from, 53).build())
    }

    fn answers(&mut self, to: u16) -> Verdict {
        self.receive(INSIDE, FrameBuilder::new(SERVER, CLIENT).udp(53, to).build())
    }

    fn opens(&mut self, from: u16) {
        assert_eq!((self.asks(from), self.answers(from)), (PASSES_IN, PASSES_OUT), "an allowed flow");
    }
}

#[test]
fn established_flows_go_on_and_new_ones_meet_the_new_rules() {
    let mut rig = Rig::new(false);
    rig.opens(1000);
    rig.change(false, "deny");
    for _ in 0..3 {
        assert_eq!((rig.answers(1000), rig.asks(1000)), (PASSES_OUT, PASSES_IN), "what has begun goes on");
        assert_eq!(rig.asks(1001), DENIED, "what begins does not");
    }
    rig.change(false, "allow");
    assert_eq!(rig.asks(1001), PASSES_IN);
}

#[test]
fn open_flows_are_not_looked_at_again_for_rules_that_concern_new_ones_alone() {
    let mut rig = Rig::new(false);
    rig.opens(1000);
    rig.change(false, "deny");
    rig.change(false, "allow");
    assert_eq!((rig.generation, rig.decided()), (3, 1));
    // What they depend on, one after the other.
    rig.change(true, "allow");
    assert_eq!(rig.decided(), 4, "a group that flushes from now on");
    rig.change(true, "deny");
    assert_eq!(rig.decided(), 5, "a rule of one that flushes");
    rig.change(true, "deny");
    assert_eq!(rig.decided(), 5, "nothing");
    rig.change(false, "deny");
    assert_eq!(rig.decided(), 7, "a group that flushes no more");
    let mut rerouted = rig.config.clone();
    rerouted.routes.clear();
    rig.take_up(rerouted);
    assert_eq!(rig.decided(), 8, "a route");
    assert_ne!(rig.answers(1000), PASSES_OUT);
    let mut space = rig.config.clone();
    space.virtual_network.address_space.clear();
    rig.take_up(space);
    assert_eq!(rig.decided(), 9, "what a tag stands for");
    rig.change(false, "deny");
    assert_eq!(rig.decided(), 10, "the route back");
    assert_eq!((rig.answers(1000), rig.asks(1000)), (PASSES_OUT, PASSES_IN));
}

#[test]
fn what_rules_do_not_change_is_shared() {
    let (mut names, old) = (Names::default(), config(false, "allow"));
    let first = snapshot(None, &old, 1, &mut names);
    let mut is_shared = |change: fn(&mut Config)| {
        let mut new = old.clone();
        change(&mut new);
        snapshot(Some((&first, &old)), &new, 2, &mut names).differs_in_rules_alone(&first)
    };
    assert!(is_shared(|_| {}));
    assert!(is_shared(|config| config.security_groups[0].rules.clear()));
    assert!(is_shared(|config| config.security_groups[0].flush_connections = true));
    assert!(
        !is_shared(|config| config.security_groups[0].name = "other".to_owned()),
        "another group is there"
    );
    assert!(!is_shared(|config| config.virtual_network.subnets[0].security_group = None), "none is");
    assert!(!is_shared(|config| config.routes.clear()));
    assert!(!is_shared(|config| config.neighbors.clear()));
    assert!(!is_shared(|config| config.protection.blocklist.push("192.0.2.0/24".parse().expect("a prefix"))));
    assert!(!is_shared(|config| config.ports[0].mtu -= 1));
}

#[test]
fn a_flushing_group_judges_again_on_the_next_forward_packet_only() {
    let mut rig = Rig::new(true);
    rig.opens(1000);
    rig.opens(1001);
    rig.change(true, "deny");
    for _ in 0..3 {
        assert_eq!(
            rig.answers(1000),
            PASSES_OUT,
            "answers have rules of their own direction: they start nothing"
        );
    }
    assert_eq!(rig.asks(1000), DENIED);
    assert_eq!(rig.pipeline.flow_count(), 1, "the flow ends; the other one was not heard of yet");
    // What was an answer opens a flow of its own now, by the outbound rules.
    assert_eq!(rig.answers(1000), PASSES_OUT);
    assert_eq!(rig.asks(1001), DENIED);
    let mut allowed = Rig::new(true);
    allowed.opens(1000);
    allowed.change(true, "allow");
    assert_eq!((allowed.asks(1000), allowed.answers(1000)), (PASSES_IN, PASSES_OUT), "still allowed");
    assert_eq!(allowed.pipeline.counters().flows_created, 1);
}

#[test]
fn enabling_it_judges_again_what_began_before() {
    let mut rig = Rig::new(false);
    rig.opens(1000);
    rig.change(false, "deny");
    assert_eq!(rig.asks(1000), PASSES_IN, "not while it is off");
    rig.change(true, "deny");
    assert_eq!(
        (rig.answers(1000), rig.asks(1000)),
        (PASSES_OUT, DENIED),
        "the rules are the same, the key is new"
    );
}

#[test]
fn hits_say_when_the_last_one_was() {
    let mut rig = Rig::new(false);
    let dns = rig.names.rule("web", "dns").0 as usize;
    assert_eq!(rig.pipeline.counters().rule_hits[dns].count, 0);
    rig.opens(1000);
    let first = rig.pipeline.counters().rule_hits[dns];
    rig.asks(1000);
    assert_eq!(rig.pipeline.counters().rule_hits[dns], first, "packets of a known flow are no hits");
    rig.asks(1001);
    let second = rig.pipeline.counters().rule_hits[dns];
    assert_eq!((first.count, second.count, second.last), (1, 2, rig.now));
    assert!(second.last > first.last);
}

#[test]
fn of_each_level_the_rule_that_lets_a_flow_pass_is_hit() {
    let interface = "  interfaces: [{address: 10.2.0.4, security_group: nic}]\nsecurity_groups:\n- name: nic\n  rules:\n  \
                     - {name: odd, priority: 100, direction: inbound, access: deny, protocol: udp, source: [\"*\"], source_ports: [1001], \
                     destination: [\"*\"], destination_ports: [\"*\"]}\n  \
                     - {name: rest, priority: 200, direction: inbound, access: allow, protocol: any, source: [\"*\"], source_ports: [\"*\"], \
                     destination: [\"*\"], destination_ports: [\"*\"]}\n";
    let mut rig = Rig::new(false);
    rig.take_up(load(text(false, "allow").replace("security_groups:\n", interface)));
    let hits = |rig: &mut Rig| {
        [("web", "dns"), ("nic", "odd"), ("nic", "rest")].map(|(group, rule)| {
            let place = rig.names.rule(group, rule).0 as usize;
            rig.pipeline.counters().rule_hits[place].count
        })
    };
    assert_eq!(rig.asks(1000), PASSES_IN);
    assert_eq!(hits(&mut rig), [1, 0, 1], "both levels let it pass");
    assert_eq!(rig.asks(1001), DENIED);
    assert_eq!(hits(&mut rig), [1, 1, 1], "nothing let it pass");
}
