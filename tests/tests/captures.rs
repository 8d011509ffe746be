//! Captures of real and hostile traffic, as they are and damaged: no panic, every frame one verdict, sums that hold, the same output twice.
//! `NVA_DATA` names the folder whose `pcaps` are read.
#![forbid(unsafe_code)]

use nva_tests::binary;
use nva_tests::capture::{self, Content, Timed};
use nva_tests::folder::Folder;
use nva_tests::ports::{Port, network};
use nva_tests::random::Random;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

const SEED: &str = "000102030405060708090a0b0c0d0e0f";
/// Damaged copies of each frame.
const MUTATIONS: usize = 8;

/// The configurations, by name: nothing is judged; everything is; everything that can be is balanced.
fn configurations() -> [(&'static str, String); 3] {
    let open = network(
        "protection:\n  anti_spoofing: off\n  amplification: {block_ntp_monlist: false, block_memcached: false}\n",
    );
    let groups = "virtual_network:\n  address_space: [10.0.0.0/8, \"fd00::/8\"]\n  subnets:\n    \
                  - {name: all, prefixes: [0.0.0.0/0, \"::/0\"], security_group: all}\nsecurity_groups:\n  - name: all\n    rules:\n      \
                  - {name: some, priority: 100, direction: inbound, access: allow, protocol: any, source: [\"*\"], source_ports: [\"*\"], \
                  destination: [\"*\"], destination_ports: [1-1023]}\n";
    let judged =
        network(&format!("{groups}protection: {{anti_spoofing: loose, blocklist: [192.168.0.0/17]}}\n"));
    let balanced = format!(
        "{}load_balancers:\n  - name: public\n    frontends: [{{name: vip, address: 72.14.213.138}}, {{name: vip6, address: \"2001:db8:113::10\"}}]\n    \
         pools:\n      - {{name: four, backends: [{{name: a, address: 10.2.0.4}}, {{name: b, address: 10.2.0.9}}]}}\n      \
         - {{name: six, backends: [{{name: c, address: \"fd00:2::9\"}}]}}\n    rules:\n      \
         - {{name: ha, frontend: vip, protocol: all, port: 0, pool: four, backend_port: 0, syn_proxy: off}}\n      \
         - {{name: ha6, frontend: vip6, protocol: all, port: 0, pool: six, backend_port: 0, syn_proxy: off}}\n",
        network(groups)
    );
    [("open", open), ("judged", judged), ("balanced", balanced)]
}

/// The captures, or why there is none.
fn captures() -> Result<Vec<PathBuf>, String> {
    let data = std::env::var_os("NVA_DATA").filter(|data| !data.is_empty());
    let data = data.ok_or("NVA_DATA names no folder; set it to one that has pcaps/")?;
    let folder = Path::new(&data).join("pcaps");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| {
        path.extension().is_some_and(|kind| kind == "pcap" || kind == "cap" || kind == "pcapng")
    });
    paths.sort();
    if paths.is_empty() { Err(format!("{} has no captures", folder.display())) } else { Ok(paths) }
}

/// Runs the test for every capture, or says why it cannot.
fn for_each_capture(name: &str, test: impl Fn(&Path, &[u8])) {
    match captures() {
        Err(reason) => println!("skipped: {name}: {reason}"),
        Ok(paths) => {
            for path in paths {
                let file = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                test(&path, &file);
            }
        }
    }
}

/// All that a replay left.
#[derive(PartialEq)]
struct Left {
    summary: Value,
    verdicts: Vec<u8>,
    frames: [Vec<u8>; 2],
}

/// One configuration in a folder of its own.
struct Bench {
    folder: Folder,
    config: PathBuf,
}

impl Bench {
    fn new(config: &str) -> Self {
        let folder = Folder::new();
        let config = folder.write("nva.yaml", config);
        Self { folder, config }
    }

    fn replay(&self, name: &str, inputs: &[(Port, &Path)], station: Option<&str>) -> Output {
        let mut arguments: Vec<String> =
            ["replay", "--json", "--seed", SEED, "--linger", "5m"].map(String::from).to_vec();
        let mut option = |name: &str, value: String| arguments.extend([name.to_string(), value]);
        option("--config", self.config.display().to_string());
        option("--out", self.folder.join(name).display().to_string());
        option("--verdicts", self.folder.join("verdicts").display().to_string());
        for (port, path) in inputs {
            option("--in", format!("{}={}", port.name(), path.display()));
        }
        if let Some(station) = station {
            option("--mac", format!("untrusted={station}"));
        }
        binary::run(arguments)
    }

    /// What a replay that succeeded left, its sums checked for so many frames.
    fn left(&self, says: &str, name: &str, output: &Output, frames: usize) -> Left {
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{says}: {err}");
        let summary: Value = serde_json::from_slice(&output.stdout).expect("a summary in JSON");
        let verdicts = self.folder.read("verdicts");
        let sent = Port::ALL.map(|port| self.folder.read(&format!("{name}/{}.pcap", port.name())));
        check_sums(says, &summary);
        assert_eq!(summary["total"]["received"], frames, "{says}: frames received");
        let lines = verdicts.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, frames, "{says}: verdict lines");
        for (port, file) in Port::ALL.into_iter().zip(&sent) {
            let counted = summary["ports"].as_array().into_iter().flatten();
            let counted = counted.into_iter().find(|counts| counts["name"] == port.name());
            let transmitted = counted.map(|counts| &counts["transmitted"]);
            assert_eq!(
                transmitted,
                Some(&capture::read(file).len().into()),
                "{says}: sent by {}",
                port.name()
            );
        }
        Left { summary, verdicts, frames: sent }
    }
}

/// For each port and all together: received = forwarded + replied + consumed + held + dropped, dropped = the sum over reasons. The clock
/// ran on for long, so nothing waits any more.
fn check_sums(says: &str, summary: &Value) {
    let ports = summary["ports"].as_array().into_iter().flatten();
    for counts in ports.chain([&summary["total"]]) {
        let count =
            |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("{says}: {name} in {counts}"));
        let verdicts: u64 = ["forwarded", "replied", "consumed", "held", "dropped"].map(count).iter().sum();
        assert_eq!(count("received"), verdicts, "{says}: {counts}");
        let reasons = counts["dropped_for"].as_object().into_iter().flatten();
        let dropped: u64 = reasons.filter_map(|(_, count)| count.as_u64()).sum();
        assert_eq!(count("dropped"), dropped, "{says}: {counts}");
        assert_eq!(count("held"), 0, "{says}: nothing waits for ever: {counts}");
    }
}

#[test]
fn replay() {
    let benches = configurations().map(|(name, config)| (name, Bench::new(&config)));
    for_each_capture("captures", |path, file| {
        for (name, bench) in &benches {
            let says = format!("{} under {name}", path.display());
            let inputs = Port::ALL.map(|port| (port, path));
            let output = bench.replay("one", &inputs, None);
            let code = output.status.code();
            let err = String::from_utf8_lossy(&output.stderr);
            match capture::read_any(file) {
                Content::OtherLinkType => assert_eq!(code, Some(2), "{says}: another link type: {err}"),
                Content::Ethernet { whole: false, .. } => assert_eq!(code, Some(1), "{says}: cut off: {err}"),
                Content::Unknown => assert!(matches!(code, Some(0..=2)), "{says}: {code:?}: {err}"),
                Content::Ethernet { whole: true, frames } => {
                    let one = bench.left(&says, "one", &output, 2 * frames.len());
                    let output = bench.replay("two", &inputs, None);
                    let two = bench.left(&says, "two", &output, 2 * frames.len());
                    assert!(one == two, "{says}: the same inputs and seed gave another output");
                }
            }
            assert!(!err.contains("panicked"), "{says}: {err}");
        }
    });
}

#[test]
fn replay_damaged() {
    const STATION: [u8; 6] = [0x02, 0, 0, 0, 0x0a, 0x01];
    let benches = configurations().map(|(name, config)| (name, Bench::new(&config)));
    for_each_capture("damaged captures", |path, file| {
        let Content::Ethernet { frames, .. } = capture::read_any(file) else { return };
        let mut random = Random::new(frames.len() as u64);
        let mut damaged: Vec<Timed> = Vec::new();
        for (time, frame) in &frames {
            for copy in 0..MUTATIONS {
                let mut frame = frame.clone();
                if let Some(destination) = frame.first_chunk_mut() {
                    *destination = STATION;
                }
                if copy > 0 {
                    damage(&mut frame, &mut random);
                }
                damaged.push((*time, frame));
            }
        }
        for (name, bench) in &benches {
            let says = format!("{}, damaged, under {name}", path.display());
            let input = bench.folder.write("damaged.pcap", capture::write(&damaged));
            let output = bench.replay("damaged", &[(Port::Untrusted, &input)], Some("02:00:00:00:0a:01"));
            bench.left(&says, "damaged", &output, damaged.len());
        }
    });
}

/// Values that lengths and types like least.
const NASTY: [u8; 8] = [0, 1, 4, 0x0f, 0x45, 0x7f, 0x80, 0xff];

/// Turns bits over, cuts, repeats, or writes into a header; puts the IPv4 header checksum right half of the time, so that damage gets
/// deeper.
fn damage(frame: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        if frame.is_empty() {
            return;
        }
        match random.below(5) {
            0 => {
                let bit = random.below(frame.len() * 8);
                frame[bit / 8] ^= 1 << (bit % 8);
            }
            1 => {
                let len = random.below(frame.len());
                frame.truncate(len);
            }
            2 | 3 => {
                // Ethernet's type, IP's and the transport's header.
                let at = 12 + random.below(60);
                if let Some(byte) = frame.get_mut(at) {
                    *byte = *random.pick(&NASTY);
                }
            }
            _ => {
                let (from, at) = (random.below(frame.len()), random.below(frame.len()));
                let part: Vec<u8> = frame[from..].iter().take(1 + random.below(32)).copied().collect();
                frame.splice(at..at, part);
            }
        }
    }
    if random.below(2) == 0 && frame.len() >= 34 && frame[12..14] == [0x08, 0x00] {
        let end = (14 + 4 * usize::from(frame[14] & 0x0f)).clamp(34, frame.len());
        frame[24..26].fill(0);
        let sum = nva_tests::packet::checksum(&[&frame[14..end]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
}
