//! `nva replay`.

use crate::capture::{STATION, arp_reply, arp_request, frames, pcap, udp};
use crate::{CONFIG, Folder};

const SEED: &str = "--seed 000102030405060708090a0b0c0d0e0f";
const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 7], 4000);
const VIP: ([u8; 4], u16) = ([192, 0, 2, 10], 53);
/// Today's nanoseconds: more digits than a floating-point number holds.
const START: u64 = 1_700_000_000_123_456_789;

fn verdicts(folder: &Folder, name: &str) -> Vec<serde_json::Value> {
    let text = String::from_utf8(folder.read(name)).expect("JSON is UTF-8");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect()
}

#[test]
fn frames_go_through_and_each_has_a_verdict() {
    let folder = Folder::new("replay");
    let frames_in = [
        (START, udp(CLIENT, VIP)),
        (START + 1, arp_request([192, 0, 2, 254], [192, 0, 2, 1])),
        (START + 2, vec![0; 9]),
    ];
    folder.write("in.pcap", pcap(1, &frames_in));
    let ran = folder.nva(&format!(
        "replay --config nva.yaml --in outside=in.pcap --out out/new --verdicts v {SEED} --json"
    ));
    ran.succeeds();
    let text = String::from_utf8(folder.read("v")).expect("JSON is UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"frame": 1, "time": 1700000000.123456789, "port": "outside", "verdict": "forward", "reason": null, "rule": "web-nsg/allow-web", "backend": "web-1", "out": ["inside"]}"#,
            r#"{"frame": 2, "time": 1700000000.123456790, "port": "outside", "verdict": "reply", "reason": null, "rule": null, "backend": null, "out": ["outside"]}"#,
            r#"{"frame": 3, "time": 1700000000.123456791, "port": "outside", "verdict": "drop", "reason": "malformed", "rule": null, "backend": null, "out": []}"#,
        ]
    );
    assert_eq!(folder.names("out/new"), ["inside.pcap", "outside.pcap"]);
    let inside = frames(&folder.read("out/new/inside.pcap"));
    assert_eq!(inside.len(), 1);
    assert_eq!(
        (inside[0].0, &inside[0].1[..6], &inside[0].1[30..34]),
        (START, &[2, 0, 0, 0, 2, 4][..], &[10, 0, 0, 4][..])
    );
    let outside = frames(&folder.read("out/new/outside.pcap"));
    assert_eq!((outside.len(), outside[0].0, &outside[0].1[6..12]), (1, START + 1, &STATION[..]));
    let json = ran.json();
    assert_eq!(json["total"]["received"], 3);
    assert_eq!(json["total"]["dropped_for"]["malformed"], 1);
    assert_eq!(json["ports"][0]["mac"], "02:00:00:00:0a:01");
    assert_eq!(json["seed"], "000102030405060708090a0b0c0d0e0f");
}

#[test]
fn the_same_seed_and_inputs_give_the_same_bytes() {
    let folder = Folder::new("replay-twice");
    let many: Vec<(u64, Vec<u8>)> =
        (0..200).map(|n: u16| (START + u64::from(n), udp((CLIENT.0, 1024 + n), VIP))).collect();
    folder.write("in.pcap", pcap(1, &many));
    for out in ["one", "two"] {
        folder
            .nva(&format!(
                "replay --config nva.yaml --in outside=in.pcap --out {out} --verdicts {out}/v {SEED}"
            ))
            .succeeds();
    }
    for name in ["v", "inside.pcap", "outside.pcap"] {
        assert_eq!(folder.read(&format!("one/{name}")), folder.read(&format!("two/{name}")), "{name}");
    }
    assert_eq!(verdicts(&folder, "one/v").len(), 200);
}

#[test]
fn without_a_seed_one_is_chosen_and_said() {
    let folder = Folder::new("replay-seed");
    folder.write("in.pcap", pcap(1, &[]));
    let ran = folder.nva("replay --config nva.yaml --in outside=in.pcap --out out --json");
    ran.succeeds();
    let seed = ran.json()["seed"].as_str().unwrap_or_default().to_string();
    assert_eq!((seed.len(), ran.err()), (32, format!("--seed {seed} repeats this replay\n")));
    assert_eq!(folder.names("out"), ["inside.pcap", "outside.pcap"]);
    assert!(frames(&folder.read("out/inside.pcap")).is_empty());
}

#[test]
fn captures_are_merged_by_time_and_ties_go_by_the_order_of_the_ports() {
    let folder = Folder::new("replay-merge");
    let runts = |times: &[u64]| pcap(1, &times.iter().map(|time| (*time, vec![0; 9])).collect::<Vec<_>>());
    folder.write("i.pcap", runts(&[5, 20]));
    folder.write("o1.pcap", runts(&[30, 5, 10]));
    folder.write("o2.pcap", runts(&[5]));
    let inputs = "--in outside=o1.pcap --in inside=i.pcap --in outside=o2.pcap";
    folder.nva(&format!("replay --config nva.yaml {inputs} --out out --verdicts v {SEED}")).succeeds();
    let order: Vec<(String, String)> = verdicts(&folder, "v")
        .iter()
        .map(|line| (line["time"].to_string(), line["port"].to_string()))
        .collect();
    let order: Vec<(&str, &str)> =
        order.iter().map(|(time, port)| (time.as_str(), port.trim_matches('"'))).collect();
    assert_eq!(
        order,
        [
            ("5e-9", "outside"),
            ("5e-9", "outside"),
            ("5e-9", "inside"),
            ("1e-8", "outside"),
            ("2e-8", "inside"),
            ("3e-8", "outside")
        ]
    );
}

#[test]
fn a_backend_that_is_down_gets_nothing() {
    let folder = Folder::new("replay-down");
    folder.write("in.pcap", pcap(1, &[(START, udp(CLIENT, VIP))]));
    folder
        .nva(&format!(
            "replay --config nva.yaml --in outside=in.pcap --out out --verdicts v --down web-1 {SEED}"
        ))
        .succeeds();
    let lines = verdicts(&folder, "v");
    assert_eq!((&lines[0]["verdict"], &lines[0]["reason"]), (&"drop".into(), &"no_healthy_backend".into()));
}

#[test]
fn a_next_hop_is_resolved_in_the_captures_time_as_in_life() {
    let folder = Folder::new("replay-resolve");
    folder.write("nva.yaml", CONFIG.replace("  - {address: 10.0.0.4, mac: \"02:00:00:00:02:04\"}\n", ""));
    folder.write("o.pcap", pcap(1, &[(START, udp(CLIENT, VIP))]));
    folder.write("i.pcap", pcap(1, &[(START + 1000, arp_reply([10, 0, 0, 4], [10, 0, 0, 1]))]));
    let line = format!("replay --config nva.yaml --in outside=o.pcap --out out --verdicts v {SEED}");
    folder.nva(&format!("{line} --in inside=i.pcap")).succeeds();
    let words: Vec<String> = verdicts(&folder, "v").iter().map(|line| line["verdict"].to_string()).collect();
    assert_eq!(words, ["\"hold\"", "\"consume\""]);
    let inside = frames(&folder.read("out/inside.pcap"));
    let seen: Vec<(u64, &[u8])> = inside.iter().map(|(time, frame)| (*time, &frame[12..14])).collect();
    assert_eq!(seen, [(START, &[0x08, 0x06][..]), (START + 1000, &[0x08, 0x00][..])]);
}

#[test]
fn the_clock_runs_on_after_the_last_frame_as_long_as_it_is_told() {
    let folder = Folder::new("replay-linger");
    folder.write("nva.yaml", CONFIG.replace("  - {address: 10.0.0.4, mac: \"02:00:00:00:02:04\"}\n", ""));
    folder.write("in.pcap", pcap(1, &[(START, udp(CLIENT, VIP))]));
    let requests = |linger: &str| {
        folder
            .nva(&format!("replay --config nva.yaml --in outside=in.pcap --out out {linger} {SEED} --json"))
            .succeeds();
        frames(&folder.read("out/inside.pcap")).into_iter().map(|(time, _)| time - START).collect::<Vec<_>>()
    };
    assert_eq!(requests(""), [0]);
    let times = requests("--linger 10s");
    assert!(times.len() > 1 && times.is_sorted(), "{times:?}");
    assert!(times.iter().all(|time| *time <= 10_000_000_000), "{times:?}");
    let ran = folder
        .nva(&format!("replay --config nva.yaml --in outside=in.pcap --out out --linger 10s {SEED} --json"));
    let total = &ran.json()["total"];
    assert_eq!(
        (&total["held"], &total["received"]),
        (&0.into(), &1.into()),
        "nothing waits for ever: {total}"
    );
}

#[test]
fn decades_between_two_frames_are_no_wait() {
    let folder = Folder::new("replay-decades");
    let far = 4_000_000_000 * 1_000_000_000;
    folder.write("in.pcap", pcap(1, &[(1, udp(CLIENT, VIP)), (far, udp(CLIENT, VIP))]));
    folder
        .nva(&format!("replay --config nva.yaml --in outside=in.pcap --out out --verdicts v {SEED}"))
        .succeeds();
    let lines = verdicts(&folder, "v");
    assert!(lines.iter().all(|line| line["verdict"] == "forward"), "{lines:?}");
}

#[test]
fn a_port_takes_the_address_that_it_is_given() {
    let folder = Folder::new("replay-mac");
    folder.write("in.pcap", pcap(1, &[(START, udp(CLIENT, VIP))]));
    let line = format!("replay --config nva.yaml --in outside=in.pcap --out out --verdicts v {SEED}");
    folder.nva(&format!("{line} --mac outside=02:00:00:00:0a:02")).succeeds();
    assert_eq!(verdicts(&folder, "v")[0]["reason"], "not_for_us");
    folder.nva(&format!("{line} --mac outside=02:00:00:00:0a:01")).succeeds();
    assert_eq!(verdicts(&folder, "v")[0]["verdict"], "forward");
}

#[test]
fn names_that_the_configuration_does_not_have_are_bad_usage_all_at_once() {
    let folder = Folder::new("replay-names");
    folder.write("in.pcap", pcap(1, &[]));
    let ran = folder.nva(
        "replay --config nva.yaml --in nowhere=in.pcap --down web-9 --mac x=02:00:00:00:00:01 --out out",
    );
    ran.fails(2, "--in nowhere: the configuration has no port `nowhere`; it has `outside`, `inside`");
    ran.fails(2, "--down web-9: the configuration has no backend `web-9`; its only one is `web-1`");
    ran.fails(2, "--mac x: ");
    assert!(!folder.has("out"));
}

#[test]
fn a_link_type_other_than_ethernet_is_bad_usage() {
    let folder = Folder::new("replay-link");
    folder.write("in.pcap", pcap(101, &[]));
    folder
        .nva("replay --config nva.yaml --in outside=in.pcap --out out")
        .fails(2, "in.pcap: its link type is 101 (raw IP)");
    assert!(!folder.has("out"));
}

#[test]
fn captures_that_cannot_be_read_whole_fail_and_leave_nothing() {
    let folder = Folder::new("replay-corrupt");
    let whole = pcap(1, &[(START, udp(CLIENT, VIP)), (START, udp(CLIENT, VIP))]);
    folder.write("short.pcap", &whole[..whole.len() - 1]);
    folder.write("text.pcap", "this is no capture");
    folder.write("empty.pcap", "");
    for name in ["short.pcap", "text.pcap", "empty.pcap", "missing.pcap", "."] {
        let ran = folder.nva(&format!("replay --config nva.yaml --in outside={name} --out out --verdicts v"));
        ran.fails(1, &format!("{name}: "));
        assert!(!folder.has("out") && !folder.has("v"), "{name}");
    }
}

#[test]
fn outputs_that_cannot_be_written_fail_and_leave_nothing() {
    let folder = Folder::new("replay-unwritable");
    let many: Vec<(u64, Vec<u8>)> = (0..20_000).map(|n| (START + n, udp(CLIENT, VIP))).collect();
    folder.write("in.pcap", pcap(1, &many));
    let line = "replay --config nva.yaml --in outside=in.pcap";
    folder
        .nva(&format!("{line} --out out --verdicts /dev/full {SEED}"))
        .fails(1, "/dev/full: No space left on device");
    assert_eq!(folder.names("out"), [""; 0]);
    folder.nva(&format!("{line} --out in.pcap")).fails(1, "in.pcap: ");
    folder.nva(&format!("{line} --out out --verdicts missing/v")).fails(1, "missing/v: ");
    std::fs::create_dir(folder.0.join("out/inside.pcap")).expect("the test's own folder");
    folder.nva(&format!("{line} --out out --verdicts v")).fails(1, "inside.pcap: is a directory");
    assert_eq!(folder.names("out"), ["inside.pcap"]);
    assert!(!folder.has("v"));
}

#[test]
fn the_verdicts_do_not_take_the_place_of_a_ports_frames() {
    let folder = Folder::new("replay-clash");
    folder.write("in.pcap", pcap(1, &[]));
    folder
        .nva("replay --config nva.yaml --in outside=in.pcap --out out --verdicts out/inside.pcap")
        .fails(2, "another name");
}

#[test]
fn what_is_not_built_stops_it_by_name() {
    let folder = Folder::new("replay-unbuilt");
    folder.write("nva.yaml", format!("{CONFIG}protection: {{icmp: {{rate: 10}}}}\n"));
    folder.write("in.pcap", pcap(1, &[]));
    folder
        .nva("replay --config nva.yaml --in outside=in.pcap --out out")
        .fails(2, "protection.icmp: this version does not run it yet");
    assert!(!folder.has("out"));
}
