//! TCP connections as a firewall must follow them, both families alike.

use crate::ends::{BOTH, Ends, Talk, V4, WEB, goes_in, goes_out, web};
use nva_tests::packet::tcp;
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::{changed, network};
use nva_tests::script::{Script, drops};
use std::time::Duration;

/// Longer than a closed connection is kept, shorter than an open one.
const LINGER: Duration = Duration::from_secs(11);

fn scripted(says: &str, play: impl Fn(&Talk, &mut Script)) {
    for ends in BOTH {
        let mut script = Script::new(says, &web());
        play(&Talk::new(ends), &mut script);
        script.run();
    }
}

/// The connection is known: only then a segment without a SYN passes.
fn is_open(talk: &Talk, script: &mut Script) {
    script.wait(LINGER);
    talk.goes(script, &talk.c(0, 0));
}

/// Nothing of the connection is left.
fn is_gone(talk: &Talk, script: &mut Script) {
    script.wait(LINGER);
    script.send(Untrusted, &talk.c(0, 0), drops("invalid_state"));
    script.send(Trusted, &talk.s(0, 0), drops("invalid_state"));
}

#[test]
fn resets_far_outside_the_window() {
    scripted("T-01", |talk, script| {
        talk.open(script);
        talk.refused(script, &talk.c(0, 0).rst(1001 + 1_000_000));
        talk.refused(script, &talk.c(0, 0).rst(1001_u32.wrapping_sub(1_000_000)));
        talk.refused_back(script, &talk.s(0, 0).rst(5001 + 1_000_000));
        is_open(talk, script);
    });
}

#[test]
fn a_reset_in_the_window_is_for_the_receiver_to_challenge() {
    scripted("T-02", |talk, script| {
        talk.open(script);
        talk.goes(script, &talk.c(0, 0).rst(1001 + 100));
        talk.comes(script, &talk.s(0, 0));
        is_open(talk, script);
    });
}

#[test]
fn an_exact_reset_ends_the_connection() {
    scripted("T-03: of the client", |talk, script| {
        talk.open(script);
        talk.goes(script, &talk.c(0, 0).rst(1001));
        is_gone(talk, script);
    });
    scripted("T-03: of the server", |talk, script| {
        talk.open(script);
        talk.comes(script, &talk.s(0, 0).rst(5001));
        is_gone(talk, script);
    });
}

#[test]
fn a_reset_after_a_fin() {
    scripted("T-04: CLOSE-WAIT", |talk, script| {
        talk.open(script);
        talk.comes(script, &talk.s(0, 0).fin());
        talk.goes(script, &talk.c(0, 1));
        talk.goes(script, &talk.c(0, 0).data(b"late"));
        talk.comes(script, &tcp(&talk.server, &talk.client).rst(5001 + 1));
        is_gone(talk, script);
    });
}

#[test]
fn a_syn_in_the_midst_of_a_connection() {
    scripted("T-05: challenged, cleared, opened anew", |talk, script| {
        talk.open(script);
        let syn = tcp(&talk.client, &talk.server).syn(900_000);
        talk.goes(script, &syn);
        talk.comes(script, &talk.s(0, 0));
        talk.goes(script, &tcp(&talk.client, &talk.server).rst(1001));
        talk.goes(script, &syn);
        let again = Talk { isn: [900_000, 700_000], ..Talk::new(V4) };
        let again = Talk { client: talk.client.clone(), server: talk.server.clone(), ..again };
        again.comes(script, &again.syn_ack());
        again.goes(script, &again.c(0, 0));
        is_open(&again, script);
    });
    scripted("T-05: old data still flows without a reset", |talk, script| {
        talk.open(script);
        talk.goes(script, &tcp(&talk.client, &talk.server).syn(900_000));
        talk.comes(script, &talk.s(0, 0));
        talk.goes(script, &talk.c(0, 0).data(b"old"));
        talk.comes(script, &talk.s(0, 3).data(b"answer"));
        is_open(talk, script);
    });
    scripted("T-05: three that wait for an answer, no more", |talk, script| {
        talk.open(script);
        for seq in [900_000, 900_000, 910_000] {
            talk.goes(script, &tcp(&talk.client, &talk.server).syn(seq));
        }
        talk.refused(script, &tcp(&talk.client, &talk.server).syn(950_000));
        is_open(talk, script);
    });
}

#[test]
fn a_server_that_still_has_an_older_connection() {
    scripted("T-06", |talk, script| {
        talk.goes(script, &talk.syn());
        let challenge = tcp(&talk.server, &talk.client).ack(77_000, 88_000);
        talk.comes(script, &challenge);
        talk.goes(script, &tcp(&talk.client, &talk.server).rst(88_000));
        talk.goes(script, &talk.syn());
        talk.comes(script, &talk.syn_ack());
        talk.goes(script, &talk.c(0, 0));
        is_open(talk, script);
    });
}

#[test]
fn a_stale_syn_ack() {
    scripted("T-07", |talk, script| {
        talk.goes(script, &talk.syn());
        talk.refused_back(script, &talk.syn_ack().ack(5000, 999));
        talk.refused_back(script, &talk.syn_ack().ack(5000, 1002));
        talk.comes(script, &talk.syn_ack());
        talk.goes(script, &talk.c(0, 0));
        is_open(talk, script);
    });
}

#[test]
fn retransmission_of_what_was_acknowledged_long_ago() {
    scripted("T-08", |talk, script| {
        talk.open(script);
        let part = [b'd'; 1000];
        for n in 0..60 {
            talk.goes(script, &talk.c(n * 1000, 0).data(&part));
            talk.comes(script, &talk.s(0, (n + 1) * 1000));
        }
        talk.goes(script, &talk.c(0, 0).data(&part));
        talk.comes(script, &talk.s(0, 60_000));
        talk.goes(script, &talk.c(60_000, 0));
    });
}

#[test]
fn data_beyond_the_window_and_acknowledgements_of_the_future() {
    scripted("T-09", |talk, script| {
        talk.open(script);
        talk.refused(script, &talk.c(200_000, 0).data(b"beyond"));
        talk.refused(script, &talk.c(0, 10));
        talk.refused_back(script, &talk.s(0, 10).data(b"what was not sent"));
        talk.refused(script, &talk.c(0u32.wrapping_sub(200_000), 0).data(b"long ago"));
        talk.goes(script, &talk.c(0, 0).data(b"ten bytes!"));
        talk.comes(script, &talk.s(0, 10).data(b"now it was"));
        talk.goes(script, &talk.c(10, 10));
    });
}

#[test]
fn half_closed() {
    scripted("T-10", |talk, script| {
        talk.open(script);
        talk.goes(script, &talk.c(0, 0).fin());
        talk.comes(script, &talk.s(0, 1));
        for n in 0..20 {
            script.wait(LINGER);
            talk.comes(script, &talk.s(n * 1000, 1).data(&[b's'; 1000]));
            talk.goes(script, &talk.c(1, (n + 1) * 1000));
        }
        talk.comes(script, &talk.s(20_000, 1).fin());
        talk.goes(script, &talk.c(1, 20_001));
        is_gone(talk, script);
    });
}

#[test]
fn fins_again() {
    scripted("T-11", |talk, script| {
        talk.open(script);
        for _ in 0..3 {
            talk.goes(script, &talk.c(0, 0).fin());
        }
        for _ in 0..3 {
            talk.comes(script, &talk.s(0, 1).fin());
        }
        for _ in 0..3 {
            talk.goes(script, &talk.c(1, 1));
        }
        talk.comes(script, &talk.s(0, 1).fin());
        talk.goes(script, &talk.c(1, 1));
        is_gone(talk, script);
    });
}

#[test]
fn a_new_connection_over_one_in_time_wait() {
    scripted("T-12", |talk, script| {
        talk.open(script);
        talk.goes(script, &talk.c(0, 0).fin());
        talk.comes(script, &talk.s(0, 1).fin());
        talk.goes(script, &talk.c(1, 1));
        let again =
            Talk { client: talk.client.clone(), server: talk.server.clone(), isn: [200_000, 300_000] };
        again.open(script);
        talk.refused(script, &talk.c(0, 0));
        is_open(&again, script);
    });
}

#[test]
fn both_ends_open_at_once() {
    scripted("T-13", |talk, script| {
        talk.goes(script, &talk.syn());
        talk.comes(script, &tcp(&talk.server, &talk.client).syn(5000));
        talk.goes(script, &talk.syn().ack(1000, 5001));
        talk.comes(script, &talk.syn_ack());
        talk.goes(script, &talk.c(0, 0).data(b"data"));
        talk.comes(script, &talk.s(0, 4));
        is_open(talk, script);
    });
}

#[test]
fn the_window_scale_counts_when_both_have_it() {
    const SCALE_7: [u8; 4] = [1, 3, 3, 7];
    for ends in BOTH {
        for both in [true, false] {
            let mut script = Script::new("T-14", &web());
            let talk = Talk::new(ends);
            let syn_ack = talk.syn_ack().window(1000);
            talk.goes(&mut script, &talk.syn().window(1000).tcp_options(&SCALE_7));
            talk.comes(&mut script, &if both { syn_ack.tcp_options(&SCALE_7) } else { syn_ack });
            talk.goes(&mut script, &talk.c(0, 0).window(1000));
            let far = talk.s(99_000, 0).window(1000).data(&[0; 1000]);
            if both {
                talk.comes(&mut script, &far);
            } else {
                talk.refused_back(&mut script, &far);
                talk.comes(&mut script, &talk.s(0, 0).window(1000).data(&[0; 1000]));
            }
            script.run();
        }
    }
}

#[test]
fn connections_are_reaped() {
    scripted("T-15: a FIN with data", |talk, script| {
        talk.open(script);
        talk.goes(script, &talk.c(0, 0).data(b"bye").fin());
        talk.comes(script, &talk.s(0, 4).data(b"bye").fin());
        talk.goes(script, &talk.c(4, 4));
        is_gone(talk, script);
    });
    let config = changed(&web(), "flow_capacity: 1000", "flow_capacity: 4");
    let mut script = Script::new("T-15: none is left", &config);
    for round in 0..3 {
        for port in 0..4 {
            let ends = Ends { ..V4 };
            let talk = Talk { client: ends.client(1000 + 10 * round + port), ..Talk::new(ends) };
            talk.open(&mut script);
            let reset = if port % 2 == 0 {
                (Untrusted, talk.c(0, 0).rst(1001))
            } else {
                (Trusted, talk.s(0, 0).rst(5001))
            };
            let expect = if reset.0 == Untrusted { goes_in(&reset.1, WEB) } else { goes_out(&reset.1, WEB) };
            script.send(reset.0, &reset.1, expect);
        }
        script.wait(LINGER);
    }
    script.run();
}

#[test]
fn numbers_wrap() {
    for ends in BOTH {
        let mut script = Script::new("T-17", &web());
        let talk = Talk { isn: [u32::MAX - 500, u32::MAX], ..Talk::new(ends) };
        talk.open(&mut script);
        for n in 0..4 {
            talk.goes(&mut script, &talk.c(n * 300, n * 300).data(&[0; 300]));
            talk.comes(&mut script, &talk.s(n * 300, (n + 1) * 300).data(&[0; 300]));
        }
        talk.refused(&mut script, &talk.c(1200, 1300));
        talk.goes(&mut script, &talk.c(1200, 1200));
        script.run();
    }
}

#[test]
fn a_refused_connection() {
    scripted("the server's reset ends the attempt", |talk, script| {
        talk.goes(script, &talk.syn());
        talk.refused_back(script, &tcp(&talk.server, &talk.client).rst(0));
        talk.refused_back(script, &tcp(&talk.server, &talk.client).ack(0, 5).rst(0));
        talk.comes(script, &tcp(&talk.server, &talk.client).ack(0, 1001).rst(0));
        is_gone(talk, script);
    });
}

#[test]
fn a_syn_again() {
    scripted("retransmitted, and given up for another", |talk, script| {
        talk.goes(script, &talk.syn());
        script.wait(Duration::from_secs(3));
        talk.goes(script, &talk.syn());
        talk.comes(script, &talk.syn_ack());
        talk.comes(script, &talk.syn_ack());
        talk.goes(script, &talk.c(0, 0));
    });
    let config = network("");
    let mut script = Script::new("no group: no rule is named", &config);
    let syn = tcp(&V4.server(40_000), &V4.client(443)).syn(1);
    script.send(Trusted, &syn, nva_tests::script::forwards(Untrusted, &syn.clone().hop()));
    script.run();
}
