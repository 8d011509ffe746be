//! The SYN proxy, byte by byte. A cookie is what the appliance made it: each script is replayed first as far as that.

use crate::ends::{BOTH, Ends, at, group, rule};
use nva_tests::packet::{Packet, tcp};
use nva_tests::ports::Port::{Trusted, Untrusted};
use nva_tests::ports::network;
use nva_tests::script::{Script, drops, forwards, holds, replies};
use std::time::Duration;

const RULE: &str = "web-nsg/allow";
const CLIENT_TS: u32 = 5_000;
const SERVER_TS: u32 = 9_000_000;
const ISN: u32 = 1_000;
const SERVER_ISN: u32 = 77_000;

fn config() -> String {
    let balancer = "load_balancers:\n  - name: public\n    frontends:\n      - {name: vip, address: 203.0.113.10}\n      \
         - {name: vip6, address: \"2001:db8:113::10\"}\n    pools:\n      \
         - {name: four, backends: [{name: web-1, address: 10.2.0.4}]}\n      \
         - {name: six, backends: [{name: web-6, address: \"fd00:2::4\"}]}\n    rules:\n      \
         - {name: r4, frontend: vip, protocol: tcp, port: 443, pool: four, backend_port: 8443, syn_proxy: always}\n      \
         - {name: r6, frontend: vip6, protocol: tcp, port: 443, pool: six, backend_port: 8443, syn_proxy: always}\n";
    network(&format!("{}{balancer}", group(&[rule("allow", 100, "inbound", "allow", "any", r#"["*"]"#)])))
}

/// Client, frontend and server of a family.
struct Talk {
    ends: Ends,
    client: String,
    vip: String,
    server: String,
}

impl Talk {
    fn new(ends: Ends) -> Self {
        Self { ends, client: ends.client(40_000), vip: at(ends.frontend, 443), server: ends.server(8443) }
    }

    fn backend(&self) -> &'static str {
        self.ends.either("web-1", "web-6")
    }

    /// What fits the link.
    fn mss(&self) -> [u8; 2] {
        self.ends.either(1460u16, 1440).to_be_bytes()
    }

    fn syn(&self) -> Packet {
        let [a, b, c, d] = CLIENT_TS.to_be_bytes();
        let [high, low] = self.mss();
        let options = [2, 4, high, low, 4, 2, 8, 10, a, b, c, d, 0, 0, 0, 0, 1, 3, 3, 7, 254, 4, 1, 2];
        tcp(&self.client, &self.vip).syn(ISN).window(64_240).tcp_options(&options)
    }

    /// What the appliance answers the SYN with, and the two numbers in it: sequence number and timestamp.
    fn cookie(&self) -> (Vec<u8>, u32, u32) {
        let mut script = Script::new("the cookie", &config());
        script.send(Untrusted, &self.syn(), drops("not compared"));
        let mut sent = script.sent(Untrusted);
        assert_eq!(sent.len(), 1);
        let frame = sent.remove(0);
        let transport = self.ends.either(34, 54);
        let word =
            |at: usize| u32::from_be_bytes(*frame[transport + at..].first_chunk().expect("a whole header"));
        let (seq, stamp) = (word(4), word(28));
        // Nothing but what was understood is in it.
        let [a, b, c, d] = stamp.to_be_bytes();
        let [e, f, g, h] = CLIENT_TS.to_be_bytes();
        let [high, low] = self.mss();
        let options = [2, 4, high, low, 4, 2, 8, 10, a, b, c, d, e, f, g, h, 1, 3, 3, 7];
        let expected =
            tcp(&self.vip, &self.client).id(0).syn(seq).ack(seq, ISN + 1).window(0).tcp_options(&options);
        assert_eq!(frame, nva_tests::packet::OnWire::sent(&expected, Untrusted));
        (frame, seq, stamp)
    }
}

fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

#[test]
fn a_connection_from_cookie_to_data() {
    for ends in BOTH {
        let talk = Talk::new(ends);
        let (answer, cookie, stamp) = talk.cookie();
        let mut script = Script::new("S-01, S-02, S-05, S-14", &config());
        script.of_one_seed();
        script.send(Untrusted, &talk.syn(), replies(Untrusted, &answer).rule(RULE).backend(talk.backend()));

        let proof = tcp(&talk.client, &talk.vip).ack(ISN + 1, cookie.wrapping_add(1)).window(502);
        let proof = proof.tcp_options(&timestamps(CLIENT_TS + 1, stamp));
        let [a, b, c, d] = (CLIENT_TS + 1).to_be_bytes();
        let [high, low] = talk.mss();
        let options = [2, 4, high, low, 4, 2, 8, 10, a, b, c, d, 0, 0, 0, 0, 1, 3, 3, 7];
        let syn = tcp(&talk.client, &talk.server).id(0).syn(ISN).window(64_256).tcp_options(&options);
        let held = holds().rule(RULE).backend(talk.backend()).and(Trusted, &syn).consumed_later();
        script.send(Untrusted, &proof, held);

        let [a, b, c, d] = SERVER_TS.to_be_bytes();
        let [e, f, g, h] = (CLIENT_TS + 1).to_be_bytes();
        let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, a, b, c, d, e, f, g, h, 1, 3, 3, 7];
        let syn_ack = tcp(&talk.server, &talk.client).syn(SERVER_ISN).ack(SERVER_ISN, ISN + 1);
        let syn_ack = syn_ack.window(65_160).tcp_options(&options);
        let ack = tcp(&talk.client, &talk.server).id(0).ack(ISN + 1, SERVER_ISN + 1).window(502);
        let ack = ack.tcp_options(&timestamps(CLIENT_TS + 1, SERVER_TS));
        let opening =
            tcp(&talk.vip, &talk.client).id(0).ack(cookie.wrapping_add(1), ISN + 1).window(65_160 >> 7);
        let opening = opening.tcp_options(&timestamps(stamp, CLIENT_TS + 1));
        let spliced = forwards(Untrusted, &opening).rule(RULE).backend(talk.backend()).and(Trusted, &ack);
        script.send(Trusted, &syn_ack, spliced);

        // The server speaks first.
        let banner = |from: &str, seq: u32, stamp: u32| {
            let packet = tcp(from, &talk.client).ack(seq, ISN + 1).window(509);
            packet.tcp_options(&timestamps(stamp, CLIENT_TS + 1)).data(b"220 ready")
        };
        let passed = banner(&talk.vip, cookie.wrapping_add(1), stamp.wrapping_add(4)).hop();
        let sent = banner(&talk.server, SERVER_ISN + 1, SERVER_TS + 4);
        script.send(Trusted, &sent, forwards(Untrusted, &passed).rule(RULE).backend(talk.backend()));
        let thanks = |to: &str, ack: u32, echo: u32| {
            let packet = tcp(&talk.client, to).ack(ISN + 1, ack).window(501);
            packet.tcp_options(&timestamps(CLIENT_TS + 9, echo)).data(b"HELO")
        };
        let passed = thanks(&talk.server, SERVER_ISN + 10, SERVER_TS + 4).hop();
        let sent = thanks(&talk.vip, cookie.wrapping_add(10), stamp.wrapping_add(4));
        script.send(Untrusted, &sent, forwards(Trusted, &passed).rule(RULE).backend(talk.backend()));
        script.run();
    }
}

#[test]
fn what_proves_nothing_and_a_backend_that_is_silent() {
    for ends in BOTH {
        let talk = Talk::new(ends);
        let (answer, cookie, stamp) = talk.cookie();
        let mut script = Script::new("S-03, S-08, S-12", &config());
        script.of_one_seed();
        for _ in 0..2 {
            script.send(
                Untrusted,
                &talk.syn(),
                replies(Untrusted, &answer).rule(RULE).backend(talk.backend()),
            );
        }
        let ack = |ack: u32| {
            tcp(&talk.client, &talk.vip).ack(ISN + 1, ack).tcp_options(&timestamps(CLIENT_TS + 1, stamp))
        };
        script.send(Untrusted, &ack(cookie.wrapping_add(1 << 20)), drops("invalid_cookie"));
        let [a, b, c, d] = (CLIENT_TS + 1).to_be_bytes();
        let [high, low] = talk.mss();
        let options = [2, 4, high, low, 4, 2, 8, 10, a, b, c, d, 0, 0, 0, 0, 1, 3, 3, 7];
        let syn = tcp(&talk.client, &talk.server).id(0).syn(ISN).window(u16::MAX).tcp_options(&options);
        let held = holds().rule(RULE).backend(talk.backend()).and(Trusted, &syn).consumed_later();
        script.send(Untrusted, &ack(cookie.wrapping_add(1)), held);
        for wait in [1, 2, 4] {
            script.wait(Duration::from_secs(wait)).sends(Trusted, &syn);
        }
        let reset = tcp(&talk.vip, &talk.client).id(0).ack(0, ISN + 1).rst(cookie.wrapping_add(1)).window(0);
        script.wait(Duration::from_secs(8)).sends(Untrusted, &reset);
        script.run();
    }
}
