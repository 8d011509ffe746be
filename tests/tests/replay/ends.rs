//! Who speaks in the scripts, and under which rules.

use nva_tests::packet::{Packet, tcp};
use nva_tests::ports::{Port, network};
use nva_tests::script::{Expect, Script, drops, forwards};

/// A client outside and a server inside, of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// In the Internet.
    pub(crate) client: &'static str,
    /// In the virtual network.
    pub(crate) server: &'static str,
    /// Another server there.
    pub(crate) second: &'static str,
    /// The appliance's own address on the untrusted port.
    pub(crate) outside: &'static str,
    /// The appliance's own address on the trusted port.
    pub(crate) inside: &'static str,
    /// A router behind the trusted port.
    pub(crate) inner_router: &'static str,
    /// A frontend.
    pub(crate) frontend: &'static str,
    pub(crate) v4: bool,
}

pub(crate) const V4: Ends = Ends {
    client: "198.51.100.9",
    server: "10.2.0.4",
    second: "10.2.0.5",
    outside: "203.0.113.1",
    inside: "10.2.0.1",
    inner_router: "10.2.0.254",
    frontend: "203.0.113.10",
    v4: true,
};
pub(crate) const V6: Ends = Ends {
    client: "2001:db8:9::9",
    server: "fd00:2::4",
    second: "fd00:2::5",
    outside: "2001:db8:113::1",
    inside: "fd00:2::1",
    inner_router: "fd00:2::fe",
    frontend: "2001:db8:113::10",
    v4: false,
};
pub(crate) const BOTH: [Ends; 2] = [V4, V6];

/// `ADDRESS:PORT`.
pub(crate) fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

impl Ends {
    pub(crate) fn client(&self, port: u16) -> String {
        at(self.client, port)
    }

    pub(crate) fn server(&self, port: u16) -> String {
        at(self.server, port)
    }

    /// The family's of two values.
    pub(crate) fn either<T>(&self, v4: T, v6: T) -> T {
        if self.v4 { v4 } else { v6 }
    }
}

/// A security rule from everywhere to everywhere.
pub(crate) fn rule(
    name: &str,
    priority: u16,
    direction: &str,
    access: &str,
    protocol: &str,
    ports: &str,
) -> String {
    rule_between(name, priority, direction, access, protocol, r#"["*"]"#, r#"["*"]"#, ports)
}

/// A security rule with all its fields.
#[allow(clippy::too_many_arguments, reason = "a rule has as many fields")]
pub(crate) fn rule_between(
    name: &str,
    priority: u16,
    direction: &str,
    access: &str,
    protocol: &str,
    source: &str,
    destination: &str,
    ports: &str,
) -> String {
    format!(
        "      - {{name: {name}, priority: {priority}, direction: {direction}, access: {access}, protocol: {protocol}, \
         source: {source}, source_ports: [\"*\"], destination: {destination}, destination_ports: {ports}}}\n"
    )
}

/// The servers' subnet with one group of these rules.
pub(crate) fn group(rules: &[String]) -> String {
    format!(
        "virtual_network:\n  address_space: [10.0.0.0/8, \"fd00::/8\"]\n  subnets:\n    \
         - {{name: web, prefixes: [10.2.0.0/24, \"fd00:2::/64\"], security_group: web-nsg}}\n\
         security_groups:\n  - name: web-nsg\n    rules:{}\n{}",
        if rules.is_empty() { " []" } else { "" },
        rules.concat()
    )
}

/// From outside, web and DNS and echo are allowed and nothing else.
pub(crate) fn web_rules() -> Vec<String> {
    vec![
        rule("allow-web", 100, "inbound", "allow", "tcp", "[80, 443]"),
        rule("allow-dns", 110, "inbound", "allow", "udp", "[53]"),
        rule("allow-echo", 120, "inbound", "allow", "icmp", r#"["*"]"#),
    ]
}

/// The scripts' network under [`web_rules`].
pub(crate) fn web() -> String {
    network(&group(&web_rules()))
}

/// [`web`], where the servers may not begin anything.
pub(crate) fn closed_web() -> String {
    let mut rules = web_rules();
    rules.push(rule("deny-out", 100, "outbound", "deny", "any", r#"["*"]"#));
    network(&group(&rules))
}

pub(crate) const WEB: &str = "web-nsg/allow-web";
pub(crate) const DNS: &str = "web-nsg/allow-dns";
pub(crate) const ECHO: &str = "web-nsg/allow-echo";

/// A packet from outside goes in, allowed by this rule.
pub(crate) fn goes_in(packet: &Packet, rule: &str) -> Expect {
    forwards(Port::Trusted, &packet.clone().hop()).rule(rule)
}

/// A packet from inside goes out; its flow was allowed by this rule.
pub(crate) fn goes_out(packet: &Packet, rule: &str) -> Expect {
    forwards(Port::Untrusted, &packet.clone().hop()).rule(rule)
}

/// The second packet from outside is dropped and leaves no trace; the first, sent after it, goes in by the rule.
pub(crate) fn twins(says: &str, config: &str, good: &Packet, rule: &str, bad: &Packet, reason: &'static str) {
    let mut script = Script::new(says, config);
    script.send(Port::Untrusted, bad, drops(reason));
    script.send(Port::Untrusted, good, goes_in(good, rule));
    script.run();
}

/// A TCP connection from a client outside to a server inside, as both see it.
pub(crate) struct Talk {
    pub(crate) client: String,
    pub(crate) server: String,
    /// The numbers of the SYNs.
    pub(crate) isn: [u32; 2],
}

impl Talk {
    pub(crate) fn new(ends: Ends) -> Self {
        Self { client: ends.client(40_000), server: ends.server(443), isn: [1000, 5000] }
    }

    /// A segment of the client, `sent` and `got` counted from behind the SYNs.
    pub(crate) fn c(&self, sent: u32, got: u32) -> Packet {
        let [c, s] = self.isn.map(|isn| isn.wrapping_add(1));
        tcp(&self.client, &self.server).ack(c.wrapping_add(sent), s.wrapping_add(got))
    }

    /// A segment of the server.
    pub(crate) fn s(&self, sent: u32, got: u32) -> Packet {
        let [c, s] = self.isn.map(|isn| isn.wrapping_add(1));
        tcp(&self.server, &self.client).ack(s.wrapping_add(sent), c.wrapping_add(got))
    }

    pub(crate) fn syn(&self) -> Packet {
        tcp(&self.client, &self.server).syn(self.isn[0])
    }

    pub(crate) fn syn_ack(&self) -> Packet {
        let [c, s] = self.isn;
        tcp(&self.server, &self.client).ack(s, c.wrapping_add(1)).syn(s)
    }

    /// The handshake, under [`web`].
    pub(crate) fn open(&self, script: &mut Script) {
        self.goes(script, &self.syn());
        self.comes(script, &self.syn_ack());
        self.goes(script, &self.c(0, 0));
    }

    /// The client sends, and it goes in.
    pub(crate) fn goes(&self, script: &mut Script, packet: &Packet) {
        script.send(Port::Untrusted, packet, goes_in(packet, WEB));
    }

    /// The server sends, and it goes out.
    pub(crate) fn comes(&self, script: &mut Script, packet: &Packet) {
        script.send(Port::Trusted, packet, goes_out(packet, WEB));
    }

    /// The client sends what does not fit the connection.
    pub(crate) fn refused(&self, script: &mut Script, packet: &Packet) {
        script.send(Port::Untrusted, packet, drops("invalid_state").rule(WEB));
    }

    /// The server sends what does not fit the connection.
    pub(crate) fn refused_back(&self, script: &mut Script, packet: &Packet) {
        script.send(Port::Trusted, packet, drops("invalid_state").rule(WEB));
    }
}
