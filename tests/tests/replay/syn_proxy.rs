//! The SYN proxy, byte by byte. A cookie is what the appliance made it: each script is replayed first as far as that.

use crate::ends::{BOTH, Ends, at, group, rule};
use nva_tests::packet::{OnWire, Packet, tcp};
use nva_tests::ports::Port::{self, Trusted, Untrusted};
use nva_tests::ports::{changed, network};
use nva_tests::script::{Expect, Script, drops, forwards, holds, replies};
use nva_tests::tunnel::{Tunnel, back, inner};
use std::time::Duration;

const RULE: &str = "web-nsg/allow";
const CLIENT_TS: u32 = 5_000;
const SERVER_TS: u32 = 9_000_000;
const ISN: u32 = 1_000;
const SERVER_ISN: u32 = 77_000;

const INTERNAL: Tunnel = Tunnel { own: "10.2.0.1", peer: "10.2.0.5", vni: 800, udp_port: 10_800 };
const EXTERNAL: Tunnel = Tunnel { vni: 801, udp_port: 10_801, ..INTERNAL };

/// How connections come to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    /// A load-balancing rule.
    Rule,
    /// An inbound NAT entry.
    Nat,
    /// A route to the server's own address.
    Subnet,
    /// The tunnels of a gateway.
    Gateway,
}

const ROADS: [Road; 4] = [Road::Rule, Road::Nat, Road::Subnet, Road::Gateway];

impl Road {
    /// The network, where all clients of this road prove themselves.
    fn config(self) -> String {
        let network = network(&group(&[rule("allow", 100, "inbound", "allow", "any", r#"["*"]"#)]));
        let balancer = |services: &str| {
            format!(
                "{network}load_balancers:\n  - name: public\n    frontends:\n      - {{name: vip, address: 203.0.113.10}}\n      \
                 - {{name: vip6, address: \"2001:db8:113::10\"}}\n    pools:\n      \
                 - {{name: four, backends: [{{name: web-1, address: 10.2.0.4}}]}}\n      \
                 - {{name: six, backends: [{{name: web-6, address: \"fd00:2::4\"}}]}}\n{services}"
            )
        };
        let of = |name: &str, frontend: &str, to: &str| {
            format!(
                "      - {{name: {name}, frontend: {frontend}, protocol: tcp, port: 443, {to}, backend_port: 8443, syn_proxy: always}}\n"
            )
        };
        match self {
            Self::Rule => {
                let rules = [of("r4", "vip", "pool: four"), of("r6", "vip6", "pool: six")].concat();
                balancer(&format!("    rules:\n{rules}"))
            }
            Self::Nat => {
                let entries =
                    [of("n4", "vip", "backend: web-1"), of("n6", "vip6", "backend: web-6")].concat();
                balancer(&format!("    inbound_nat:\n{entries}"))
            }
            Self::Subnet => {
                let group = "security_group: web-nsg}";
                changed(&network, group, "security_group: web-nsg, syn_proxy: always}")
            }
            Self::Gateway => format!(
                "{network}gateway:\n  port: trusted\n  address: 10.2.0.1\n  peers: [10.2.0.5]\n  syn_proxy: always\n  \
                 frontends: {{203.0.113.10: [10.2.0.4], \"2001:db8:113::10\": [\"fd00:2::4\"]}}\n  tunnels:\n    \
                 - {{name: internal, trust: trusted, vni: 800, udp_port: 10800}}\n    \
                 - {{name: external, trust: untrusted, vni: 801, udp_port: 10801}}\n"
            ),
        }
    }

    /// Where clients are.
    fn outside(self) -> Port {
        if self == Self::Gateway { Trusted } else { Untrusted }
    }

    /// A packet of a client's, as it comes.
    fn by_client(self, packet: &Packet) -> Vec<u8> {
        match self {
            Self::Gateway => EXTERNAL.arrives(&inner(packet)).received(Trusted),
            _ => packet.received(Untrusted),
        }
    }

    /// A packet to a client, as it leaves.
    fn to_client(self, packet: &Packet) -> Vec<u8> {
        match self {
            Self::Gateway => EXTERNAL.leaves(&back(packet)).sent(Trusted),
            _ => packet.sent(Untrusted),
        }
    }

    fn by_server(self, packet: &Packet) -> Vec<u8> {
        match self {
            Self::Gateway => INTERNAL.arrives(&back(packet)).received(Trusted),
            _ => packet.received(Trusted),
        }
    }

    fn to_server(self, packet: &Packet) -> Vec<u8> {
        match self {
            Self::Gateway => INTERNAL.leaves(&inner(packet)).sent(Trusted),
            _ => packet.sent(Trusted),
        }
    }

    /// What a packet is after the appliance passed it on.
    fn hop(self, packet: Packet) -> Packet {
        if self == Self::Gateway { packet } else { packet.hop() }
    }
}

/// Client, destination and server of a family, on a road.
struct Talk {
    ends: Ends,
    road: Road,
    client: String,
    vip: String,
    server: String,
}

impl Talk {
    fn all() -> Vec<Self> {
        ROADS.into_iter().flat_map(|road| BOTH.map(|ends| Self::new(ends, road))).collect()
    }

    fn new(ends: Ends, road: Road) -> Self {
        let (vip, server) = (at(ends.frontend, 443), ends.server(8443));
        let (vip, server) = match road {
            Road::Rule | Road::Nat => (vip, server),
            Road::Subnet => (server.clone(), server),
            Road::Gateway => (vip.clone(), vip),
        };
        Self { ends, road, client: ends.client(40_000), vip, server }
    }

    fn script(&self, says: &str) -> Script {
        Script::new(&format!("{says}: {:?}", self.road), &self.road.config())
    }

    /// With what decides: the rule, and the backend where there is one.
    fn decided(&self, expect: Expect) -> Expect {
        let expect = expect.rule(RULE);
        match self.road {
            Road::Rule | Road::Nat => expect.backend(self.ends.either("web-1", "web-6")),
            _ => expect,
        }
    }

    /// What fits the link, for a client.
    fn mss(&self) -> [u8; 2] {
        self.ends.either(1460u16, 1440).to_be_bytes()
    }

    /// What fits the way to the server: 50 bytes less in a tunnel.
    fn offer(&self) -> [u8; 2] {
        let less = if self.road == Road::Gateway { 50 } else { 0 };
        (self.ends.either(1460u16, 1440) - less).to_be_bytes()
    }

    fn syn(&self) -> Packet {
        let [a, b, c, d] = CLIENT_TS.to_be_bytes();
        let [high, low] = self.mss();
        let options = [2, 4, high, low, 4, 2, 8, 10, a, b, c, d, 0, 0, 0, 0, 1, 3, 3, 7, 254, 4, 1, 2];
        tcp(&self.client, &self.vip).syn(ISN).window(64_240).tcp_options(&options)
    }

    /// The SYN of a client that proved itself.
    fn syn_to_server(&self, window: u16) -> Packet {
        let [a, b, c, d] = (CLIENT_TS + 1).to_be_bytes();
        let [high, low] = self.mss();
        let options = [2, 4, high, low, 4, 2, 8, 10, a, b, c, d, 0, 0, 0, 0, 1, 3, 3, 7];
        tcp(&self.client, &self.server).id(0).syn(ISN).window(window).tcp_options(&options)
    }

    fn client_sends(&self, script: &mut Script, packet: &Packet, expect: Expect) {
        script.send(self.road.outside(), &self.road.by_client(packet), expect);
    }

    fn server_sends(&self, script: &mut Script, packet: &Packet, expect: Expect) {
        script.send(Trusted, &self.road.by_server(packet), expect);
    }

    /// What the appliance answers the SYN with, and the two numbers in it: sequence number and timestamp.
    fn cookie(&self) -> (Vec<u8>, u32, u32) {
        let mut script = self.script("the cookie");
        self.client_sends(&mut script, &self.syn(), drops("not compared"));
        let mut sent = script.sent(self.road.outside());
        assert_eq!(sent.len(), 1);
        let frame = sent.remove(0);
        let outer = if self.road == Road::Gateway { 50 } else { 0 };
        let transport = outer + self.ends.either(34, 54);
        let word =
            |at: usize| u32::from_be_bytes(*frame[transport + at..].first_chunk().expect("a whole header"));
        let (seq, stamp) = (word(4), word(28));
        // Nothing but what was understood is in it.
        let [a, b, c, d] = stamp.to_be_bytes();
        let [e, f, g, h] = CLIENT_TS.to_be_bytes();
        let [high, low] = self.offer();
        let options = [2, 4, high, low, 4, 2, 8, 10, a, b, c, d, e, f, g, h, 1, 3, 3, 7];
        let expected =
            tcp(&self.vip, &self.client).id(0).syn(seq).ack(seq, ISN + 1).window(0).tcp_options(&options);
        assert_eq!(frame, self.road.to_client(&expected), "{:?}", self.road);
        (frame, seq, stamp)
    }
}

fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

#[test]
fn a_connection_from_cookie_to_data() {
    for talk in Talk::all() {
        let (road, outside) = (talk.road, talk.road.outside());
        let (answer, cookie, stamp) = talk.cookie();
        let mut script = talk.script("S-01, S-02, S-05, S-14");
        script.of_one_seed();
        talk.client_sends(&mut script, &talk.syn(), talk.decided(replies(outside, &answer)));

        let proof = tcp(&talk.client, &talk.vip).ack(ISN + 1, cookie.wrapping_add(1)).window(502);
        let proof = proof.tcp_options(&timestamps(CLIENT_TS + 1, stamp));
        let syn = road.to_server(&talk.syn_to_server(64_256));
        talk.client_sends(&mut script, &proof, talk.decided(holds()).and(Trusted, &syn).consumed_later());

        let [a, b, c, d] = SERVER_TS.to_be_bytes();
        let [e, f, g, h] = (CLIENT_TS + 1).to_be_bytes();
        let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, a, b, c, d, e, f, g, h, 1, 3, 3, 7];
        let syn_ack = tcp(&talk.server, &talk.client).syn(SERVER_ISN).ack(SERVER_ISN, ISN + 1);
        let syn_ack = syn_ack.window(65_160).tcp_options(&options);
        let ack = tcp(&talk.client, &talk.server).id(0).ack(ISN + 1, SERVER_ISN + 1).window(502);
        let ack = road.to_server(&ack.tcp_options(&timestamps(CLIENT_TS + 1, SERVER_TS)));
        let opening =
            tcp(&talk.vip, &talk.client).id(0).ack(cookie.wrapping_add(1), ISN + 1).window(65_160 >> 7);
        let opening = road.to_client(&opening.tcp_options(&timestamps(stamp, CLIENT_TS + 1)));
        let spliced = match outside {
            Untrusted => forwards(Untrusted, &opening).and(Trusted, &ack),
            Trusted => forwards(Trusted, &ack).and(Trusted, &opening),
        };
        talk.server_sends(&mut script, &syn_ack, talk.decided(spliced));

        // The server speaks first.
        let banner = |from: &str, seq: u32, stamp: u32| {
            let packet = tcp(from, &talk.client).ack(seq, ISN + 1).window(509);
            packet.tcp_options(&timestamps(stamp, CLIENT_TS + 1)).data(b"220 ready")
        };
        let passed = road.hop(banner(&talk.vip, cookie.wrapping_add(1), stamp.wrapping_add(4)));
        let sent = banner(&talk.server, SERVER_ISN + 1, SERVER_TS + 4);
        let passes = forwards(outside, &road.to_client(&passed));
        talk.server_sends(&mut script, &sent, talk.decided(passes));
        let thanks = |to: &str, ack: u32, echo: u32| {
            let packet = tcp(&talk.client, to).ack(ISN + 1, ack).window(501);
            packet.tcp_options(&timestamps(CLIENT_TS + 9, echo)).data(b"HELO")
        };
        let passed = road.hop(thanks(&talk.server, SERVER_ISN + 10, SERVER_TS + 4));
        let sent = thanks(&talk.vip, cookie.wrapping_add(10), stamp.wrapping_add(4));
        let passes = forwards(Trusted, &road.to_server(&passed));
        talk.client_sends(&mut script, &sent, talk.decided(passes));
        script.run();
    }
}

#[test]
fn what_proves_nothing_and_a_backend_that_is_silent() {
    for talk in Talk::all() {
        let (road, outside) = (talk.road, talk.road.outside());
        let (answer, cookie, stamp) = talk.cookie();
        let mut script = talk.script("S-03, S-08, S-12");
        script.of_one_seed();
        for _ in 0..2 {
            talk.client_sends(&mut script, &talk.syn(), talk.decided(replies(outside, &answer)));
        }
        let ack = |ack: u32| {
            tcp(&talk.client, &talk.vip).ack(ISN + 1, ack).tcp_options(&timestamps(CLIENT_TS + 1, stamp))
        };
        let wrong = cookie.wrapping_add(1 << 20);
        talk.client_sends(&mut script, &ack(wrong), drops("invalid_cookie"));
        let syn = road.to_server(&talk.syn_to_server(u16::MAX));
        let held = talk.decided(holds()).and(Trusted, &syn).consumed_later();
        talk.client_sends(&mut script, &ack(cookie.wrapping_add(1)), held);
        for wait in [1, 2, 4] {
            script.wait(Duration::from_secs(wait)).sends(Trusted, &syn);
        }
        let reset = tcp(&talk.vip, &talk.client).id(0).ack(0, ISN + 1).rst(cookie.wrapping_add(1)).window(0);
        script.wait(Duration::from_secs(8)).sends(outside, &road.to_client(&reset));
        script.run();
    }
}

#[test]
fn a_client_that_gives_up_and_a_backend_that_refuses() {
    for talk in Talk::all() {
        let (road, outside) = (talk.road, talk.road.outside());
        let (answer, cookie, stamp) = talk.cookie();
        let syn = road.to_server(&talk.syn_to_server(u16::MAX));
        let proved = |says: &str| {
            let mut script = talk.script(says);
            script.of_one_seed();
            talk.client_sends(&mut script, &talk.syn(), talk.decided(replies(outside, &answer)));
            let proof = tcp(&talk.client, &talk.vip).ack(ISN + 1, cookie.wrapping_add(1));
            let proof = proof.tcp_options(&timestamps(CLIENT_TS + 1, stamp));
            talk.client_sends(&mut script, &proof, talk.decided(holds()).and(Trusted, &syn).consumed_later());
            script
        };
        let mut script = proved("S-10");
        let reset = tcp(&talk.client, &talk.vip).rst(ISN + 1);
        let passed = tcp(&talk.client, &talk.server).id(0).rst(ISN + 1).window(0);
        let passes = forwards(Trusted, &road.to_server(&passed));
        talk.client_sends(&mut script, &reset, talk.decided(passes));
        script.run();

        let mut script = proved("S-11");
        let reset = |from: &str, seq: u32| tcp(from, &talk.client).ack(0, ISN + 1).rst(seq).window(0);
        let passed = road.hop(reset(&talk.vip, cookie.wrapping_add(1)));
        let passes = forwards(outside, &road.to_client(&passed));
        talk.server_sends(&mut script, &reset(&talk.server, 0), talk.decided(passes));
        script.run();
    }
}

#[test]
fn segments_of_connections_that_nobody_knows() {
    for talk in Talk::all() {
        let mut script = talk.script("A-04, D-14");
        let late = tcp(&talk.client, &talk.vip).ack(7_000, 8_000).data(b"late");
        talk.client_sends(&mut script, &late, drops("invalid_cookie"));
        let late = tcp(&talk.server, &talk.client).ack(9_000, 7_000).fin();
        talk.server_sends(&mut script, &late, drops("invalid_state"));
        let reset = tcp(&talk.client, &talk.vip).ack(1, 2).rst(1);
        talk.client_sends(&mut script, &reset, drops("invalid_state"));
        let lone = tcp(&talk.server, &talk.client).ack(3, 4).syn(3);
        talk.server_sends(&mut script, &lone, drops("invalid_state"));
        script.run();
    }
}
