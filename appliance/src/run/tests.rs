//! A worker between two memory ports with the control side beside it, everything as in life but the devices.

use super::answer;
use super::control::{Beginning, Control, Machine};
use super::metrics::Metrics;
use super::outbox::Outbox;
use super::protocol::{Flows, Response, Stats};
use super::worker::{self, Worker};
use etherparse::PacketBuilder;
use nva_config::{Config, IdlePolicy, Source};
use nva_dataplane::addr::Mac;
use nva_dataplane::pipeline::{Options, Pipeline};
use nva_dataplane::placement::Placement;
use nva_dataplane::snapshot::{Link, Snapshot};
use nva_dataplane::verdict::DropReason;
use pmd_shim::exchange::{self, Post};
use pmd_shim::memory::{MemoryQueue, MemoryRx, MemoryTx};
use pmd_shim::{Pool, PoolFrame, PoolOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Two ports and one rule, whose name and access are to be filled in.
fn config(rule: &str, access: &str, capacity: usize) -> Config {
    let text = format!(
        r#"version: 1
name: rig
dataplane: {{workers: [0], flow_capacity: {capacity}}}
ports:
  - {{name: outside, driver: af_packet, device: eth1, addresses: [192.0.2.1/24], trust: untrusted}}
  - {{name: inside, driver: af_packet, device: eth2, addresses: [10.0.0.1/24], trust: trusted}}
neighbors:
  - {{address: 192.0.2.254, mac: "02:00:00:00:71:fe"}}
  - {{address: 10.0.0.4, mac: "02:00:00:00:02:04"}}
virtual_network:
  address_space: [10.0.0.0/8]
  subnets:
    - {{name: web, prefixes: [10.0.0.0/24], security_group: web-nsg}}
security_groups:
  - name: web-nsg
    rules:
      - {{name: {rule}, priority: 100, direction: inbound, access: {access}, protocol: udp, source: [Internet], source_ports: ["*"], destination: ["*"], destination_ports: [53]}}
load_balancers:
  - name: public
    frontends: [{{name: vip, address: 192.0.2.10}}]
    pools: [{{name: web, backends: [{{name: web-1, address: 10.0.0.4}}]}}]
    rules: [{{name: dns, frontend: vip, protocol: udp, port: 53, pool: web}}]
"#
    );
    let source = Source { path: "rig.yaml".into(), text: text.into_bytes() };
    nva_config::load(&[source], None).expect("a good configuration")
}

/// A running worker.
struct Rig {
    control: Arc<Control>,
    first: Weak<Snapshot>,
    pool: Pool,
    outside: MemoryQueue<PoolFrame>,
    to_inside: MemoryQueue<PoolFrame>,
    thread: Option<JoinHandle<()>>,
}

impl Rig {
    fn new() -> Self {
        let epoch = Instant::now();
        let link = |last| Link { mac: Mac([2, 0, 0, 0, 0, last]), mtu: 1500 };
        let config = config("allow-dns", "allow", 1000);
        let drivers = vec!["memory".into(), "memory".into()];
        let machine = Machine { links: vec![link(1), link(2)], drivers, cores: vec![0] };
        let Beginning { control, snapshot, boards } = Control::begin(config, machine, epoch);
        let first = Arc::downgrade(&snapshot);
        let pool = Pool::new(PoolOptions { frames: 4096, data_room: 1518 }).expect("a little memory");
        let queue = || MemoryQueue::new(2048);
        let (outside, to_inside) = (queue(), queue());
        let generation = snapshot.generation();
        let options = Options { flow_capacity: 1000, seed: [7; 16], placement: Placement::ALONE };
        let mut posts = exchange::posts(1, false).expect("nothing is needed for one");
        let Post { inbox, peers } = posts.remove(0);
        let tx = vec![MemoryTx::new(queue()), MemoryTx::new(to_inside.clone())];
        let worker = Worker {
            pipeline: Pipeline::new(snapshot, &options, worker::now(epoch)),
            rx: vec![MemoryRx::new(outside.clone()), MemoryRx::new(queue())],
            inbox,
            outbox: Outbox::new(tx, pool.clone(), pool.capacity(), peers),
            mailbox: Arc::clone(&control.mailboxes[0]),
            board: Arc::clone(&boards[0]),
            generation,
            epoch,
            unix_ms: 0,
            idle: IdlePolicy::Adaptive,
        };
        let thread = Some(std::thread::spawn(move || worker.run()));
        Self { control, first, pool, outside, to_inside, thread }
    }

    /// One UDP packet to the virtual address from each of these ports.
    fn receive(&self, from_ports: std::ops::Range<u16>) {
        for port in from_ports {
            let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0x71, 0xfe], [2, 0, 0, 0, 0, 1])
                .ipv4([192, 0, 2, 254], [192, 0, 2, 10], 64)
                .udp(port, 53);
            let mut bytes = Vec::new();
            builder.write(&mut bytes, b"question").expect("a vector takes everything");
            let frame = self.pool.copy_from(&bytes).expect("a free frame");
            assert!(self.outside.push(frame).is_ok(), "room for a frame");
        }
    }

    /// The counters once they fit; the test fails when they do not in a minute.
    fn stats_when(&self, fits: impl Fn(&Stats) -> bool) -> Stats {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let stats = answer::stats(&mut self.control.moment());
            if fits(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "{stats:?}");
            std::thread::yield_now();
        }
    }

    fn received(&self, count: u64) -> Stats {
        self.stats_when(|stats| stats.total.received == count)
    }

    fn hits(&self) -> Vec<(String, u64)> {
        let rules = answer::rules(&mut self.control.moment());
        let up = self.control.epoch.elapsed().as_secs_f64();
        for rule in &rules.rules {
            // Hit ones say when, and it was while this ran.
            let fits = rule.last_hit_seconds.map(|seconds| (0.0..=up).contains(&seconds));
            assert_eq!(fits, (rule.hits > 0).then_some(true), "{rule:?}");
        }
        rules.rules.into_iter().filter(|rule| rule.hits > 0).map(|rule| (rule.rule, rule.hits)).collect()
    }

    fn flows(&self, limit: usize, address: Option<[u8; 4]>) -> Flows {
        match answer::flows(&self.control, limit, address.map(Into::into)) {
            Response::Ok(flows) => flows,
            Response::Error(what) => panic!("{what}"),
        }
    }

    fn replace(&self, config: Config) -> Result<u32, Vec<String>> {
        self.control.replace(config)
    }

    fn stop(&mut self) {
        self.control.mailboxes.iter().for_each(|mailbox| mailbox.stop());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the worker ends without a panic");
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.control.mailboxes.iter().for_each(|mailbox| mailbox.stop());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn frames_go_through_and_every_report_agrees() {
    let rig = Rig::new();
    rig.receive(1000..1100);
    let stats = rig.received(100);
    assert_eq!((stats.total.forwarded, stats.total.verdicts()), (100, 100));
    assert_eq!((stats.ports[0].traffic.received, stats.ports[1].traffic.transmitted), (100, 100));
    assert_eq!((stats.flows, stats.flows_created, stats.generation), (100, 100, 1));
    assert_eq!(rig.to_inside.len(), 100);
    assert_eq!(rig.hits(), [("allow-dns".to_string(), 100)]);
    let backends = answer::backends(&mut rig.control.moment());
    let backends = backends.backends;
    assert_eq!((backends.len(), backends[0].flows_created, backends[0].eligible), (1, 100, true));

    let all = rig.flows(1000, None);
    assert_eq!((all.flows.len(), all.more, all.open), (100, false, 100));
    let one = all.flows.iter().find(|flow| flow.from.port == 1042).expect("each source port has its flow");
    assert_eq!(
        (one.to.to_string(), one.translated.to_string()),
        ("192.0.2.10:53".into(), "10.0.0.4:53".into())
    );
    assert_eq!((one.backend.as_deref(), one.rule.as_deref()), (Some("web-1"), Some("web-nsg/allow-dns")));
    assert_eq!((one.sent.packets, one.answered.packets, one.protocol.as_str()), (1, 0, "udp"));
    let some = rig.flows(10, Some([10, 0, 0, 4]));
    assert_eq!((some.flows.len(), some.more), (10, true));
    let none = rig.flows(10, Some([10, 0, 0, 5]));
    assert_eq!((none.flows.len(), none.more, none.open), (0, false, 100));
}

/// One request and what came back, head and body.
fn exchange(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and closes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

#[test]
fn metrics_say_what_the_reports_say() {
    let rig = Rig::new();
    let metrics = Metrics::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = metrics.listener.local_addr().expect("it is bound");
    let taken = Metrics::bind(address).expect_err("it is taken");
    assert!(taken.lines[0].contains("management.metrics.listen"), "{taken:?}");
    metrics.serve(&rig.control).expect("a thread");
    rig.receive(1000..1100);
    rig.received(100);
    let (head, page) = exchange(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    for line in [
        "nva_rx_packets_total{port=\"outside\"} 100",
        "nva_forwarded_packets_total{port=\"outside\"} 100",
        "nva_tx_packets_total{port=\"inside\"} 100",
        "nva_dropped_packets_total{port=\"outside\",reason=\"denied_by_rule\"} 0",
        "nva_flows 100",
        "nva_flows_created_total 100",
        "nva_syn_cookies_sent_total 0",
        "nva_syn_cookies_valid_total 0",
        "nva_backend_healthy{load_balancer=\"public\",pool=\"web\",backend=\"web-1\"} 1",
        "nva_backend_flows_created_total{load_balancer=\"public\",pool=\"web\",backend=\"web-1\"} 100",
        "nva_frontend_available{load_balancer=\"public\",frontend=\"vip\"} 1",
        "nva_rule_hits_total{group=\"web-nsg\",rule=\"allow-dns\"} 100",
        "nva_rule_hits_total{group=\"web-nsg\",rule=\"DenyAllInBound\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
    }
    // Every drop reason of every port, and no sample twice.
    let samples: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    let drops = samples.iter().filter(|line| line.starts_with("nva_dropped_packets_total{"));
    assert_eq!(drops.count(), 2 * DropReason::COUNT);
    let names: std::collections::HashSet<_> = samples.iter().map(|line| line.rsplit_once(' ')).collect();
    assert_eq!(names.len(), samples.len());
    rig.replace(config("allow-dns", "allow", 1000)).expect("nothing that needs a restart");
    for (request, status) in [
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", "405"),
        ("HEAD /metrics HTTP/1.0\r\n\r\n", "200"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let (head, body) = exchange(address, request);
        assert_eq!(head.split(' ').nth(1), Some(status), "{request}");
        assert!(!request.starts_with("HEAD") || body.is_empty(), "{body}");
    }
}

#[test]
fn a_new_configuration_judges_new_flows_and_old_memory_comes_back() {
    let mut rig = Rig::new();
    rig.receive(1000..1050);
    rig.received(50);
    assert_eq!(rig.replace(config("deny-dns", "deny", 1000)), Ok(2));
    // The old flows go on, new ones are judged anew.
    rig.receive(1000..1100);
    let stats = rig.received(150);
    assert_eq!((stats.generation, stats.total.forwarded), (2, 100));
    assert_eq!(stats.total.dropped.0[DropReason::DeniedByRule.index()], 50);
    assert_eq!(stats.total.dropped.total(), 50);
    assert_eq!(rig.hits(), [("deny-dns".to_string(), 50)]);
    // A rule that comes back has its old count.
    assert_eq!(rig.replace(config("allow-dns", "allow", 1000)), Ok(3));
    rig.receive(1100..1101);
    rig.received(151);
    assert_eq!(rig.hits(), [("allow-dns".to_string(), 51)]);
    rig.control.mailboxes[0].free_retired();
    assert!(rig.first.upgrade().is_none(), "the first generation is freed");
    rig.stop();
}

#[test]
fn many_generations_lose_no_packet() {
    let rig = Rig::new();
    for generation in 2..=500_u32 {
        let wanted = if generation % 2 == 0 { ("a", "allow") } else { ("b", "allow") };
        assert_eq!(rig.replace(config(wanted.0, wanted.1, 1000)), Ok(generation));
        let port = 1000 + u16::try_from(generation).expect("a small number");
        rig.receive(port..port + 1);
        rig.control.mailboxes[0].free_retired();
    }
    let stats = rig.received(499);
    assert_eq!((stats.total.forwarded, stats.total.dropped.total()), (499, 0));
    assert_eq!(rig.to_inside.len(), 499);
}

#[test]
fn what_needs_a_restart_is_refused_and_changes_nothing() {
    let rig = Rig::new();
    let refused = rig.replace(config("deny-dns", "deny", 2000)).expect_err("another capacity");
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("dataplane.flow_capacity "), "{refused:?}");
    let mut behind = config("deny-dns", "deny", 1000);
    behind.ports[1].host_services = Some(Vec::new());
    let refused = rig.replace(behind).expect_err("a host interface");
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("which ports have `host_services`"), "{refused:?}");
    let mut other = config("deny-dns", "deny", 1000);
    other.ports[0].device = "eth9".into();
    other.dataplane.workers = nva_config::Workers::Auto;
    assert_eq!(rig.replace(other).map_err(|differences| differences.len()), Err(2));
    rig.receive(1..2);
    let stats = rig.received(1);
    assert_eq!((stats.generation, stats.total.forwarded), (1, 1));
}

#[test]
fn what_a_full_queue_refuses_is_counted_and_freed() {
    let rig = Rig::new();
    rig.to_inside.set_room(30);
    rig.receive(1000..1100);
    let stats = rig.received(100);
    assert_eq!((stats.total.forwarded, stats.total.verdicts()), (30, 100));
    assert_eq!(stats.total.dropped.0[DropReason::TxQueueFull.index()], 70);
    assert_eq!(stats.ports[1].traffic.transmitted, 30);
    assert_eq!(rig.pool.in_use(), 30);
}
