//! A script that says something wrong fails: each of its comparisons, one at a time.

use crate::ends::{DNS, V4, goes_in, web};
use nva_tests::packet::{Packet, udp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::script::{Expect, Script, drops, forwards, holds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

fn packet() -> Packet {
    udp(&V4.client(7), &V4.server(53))
}

/// Whether the script holds.
fn holds_true(play: impl Fn(&mut Script)) -> bool {
    let mut script = Script::new("meant to fail", &web());
    play(&mut script);
    catch_unwind(AssertUnwindSafe(|| script.run())).is_ok()
}

/// Whether this is what becomes of one frame.
fn becomes(frame: &Packet, expect: Expect) -> bool {
    holds_true(|script| {
        script.send(Untrusted, frame, expect.clone());
    })
}

#[test]
fn wrong_expectations_fail() {
    let good = || goes_in(&packet(), DNS);
    let bad_sum = packet().flip(24);
    let later = packet().fragments(&[8]).remove(1);
    assert!(becomes(&packet(), good()), "what is right");
    assert!(becomes(&bad_sum, drops("bad_checksum")), "what is right");
    assert!(becomes(&later, holds()), "what is right");
    assert!(!becomes(&packet(), drops("spoofed")), "verdict");
    assert!(!becomes(&bad_sum, drops("malformed")), "reason");
    assert!(!becomes(&packet(), good().rule("web-nsg/other")), "rule");
    assert!(!becomes(&packet(), good().backend("web-1")), "backend");
    assert!(!becomes(&packet(), forwards(Trusted, &packet()).rule(DNS)), "one field of the frame");
    assert!(!becomes(&packet(), good().and(Untrusted, &packet())), "a frame that does not leave");
    assert!(!becomes(&later, holds().dropped_later("fragment")), "the counters at the end");
    let dropped_after = |seconds: u64| {
        holds_true(|script| {
            script.send(Untrusted, &later, holds().dropped_later("fragment"));
            script.wait(Duration::from_secs(seconds)).to_the_end();
        })
    };
    assert!(!dropped_after(29) && dropped_after(31), "the time");
}
