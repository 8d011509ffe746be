//! The reports as tables.

use crate::output::{Align, Style, Table};
use crate::run::protocol::{Asking, Backend, Flows, Protection, Rule, Stats, TcpOptions};
use crate::run::{counted, summary};
use std::fmt::Write;
use std::time::Duration;

/// `nva show stats`.
pub(super) fn stats(stats: &Stats, style: Style) -> String {
    let mut text = headline(stats, style);
    text.push('\n');
    text.push_str(&summary::render(stats, style));
    text
}

/// Who it is, for how long, and what is wrong with it.
pub(super) fn headline(stats: &Stats, style: Style) -> String {
    let mut text = format!(
        "{}  pid {}, up {}, configuration {}, {} of {} flows\n",
        style.bold(&stats.name),
        stats.pid,
        duration(stats.uptime_seconds),
        stats.generation,
        stats.flows,
        stats.flow_capacity
    );
    for port in stats.ports.iter().filter(|port| port.link_up == Some(false)) {
        let line = format!("port {}: nothing passes the link of {}", port.port, port.device);
        let _ = writeln!(text, "{}", style.bad(line));
    }
    for worker in &stats.workers {
        if let Some(seconds) = worker.stalled_seconds {
            let line =
                format!("worker {} on core {} has not turned for {seconds:.1} s", worker.worker, worker.core);
            let _ = writeln!(text, "{}", style.bad(line));
        }
    }
    if stats.total.received != stats.total.verdicts() {
        let line = format!(
            "{} frames received but {} verdicts: this is a bug",
            stats.total.received,
            stats.total.verdicts()
        );
        let _ = writeln!(text, "{}", style.bad(line));
    }
    text
}

/// `nva show rules`.
pub(super) fn rules(rules: &[Rule], style: Style) -> String {
    if rules.is_empty() {
        return "no security groups: everything passes\n".into();
    }
    let mut table = Table::new(&[
        ("group", Align::Left),
        ("direction", Align::Left),
        ("priority", Align::Right),
        ("rule", Align::Left),
        ("access", Align::Left),
        ("hits", Align::Right),
        ("last hit", Align::Right),
    ]);
    for rule in rules {
        table.row([
            rule.group.as_str(),
            &rule.direction,
            &rule.priority.to_string(),
            &rule.rule,
            &rule.access,
            &rule.hits.to_string(),
            &rule.last_hit_seconds.map_or("never".into(), |seconds| format!("{} ago", duration(seconds))),
        ]);
    }
    let never = rules.iter().filter(|rule| rule.hits == 0).count();
    format!("{}{} of {} never hit\n", table.render(style, 0), never, counted(rules.len(), "rule"))
}

/// `nva show backends`.
pub(super) fn backends(backends: &[Backend], style: Style) -> String {
    if backends.is_empty() {
        return "no load balancers\n".into();
    }
    let mut table = Table::new(&[
        ("load balancer", Align::Left),
        ("pool", Align::Left),
        ("backend", Align::Left),
        ("address", Align::Left),
        ("weight", Align::Right),
        ("admin state", Align::Left),
        ("new flows", Align::Left),
        ("flows created", Align::Right),
        ("tcp options", Align::Left),
    ]);
    for backend in backends {
        table.row([
            backend.load_balancer.as_str(),
            &backend.pool,
            &backend.backend,
            &backend.address.to_string(),
            &backend.weight.to_string(),
            &backend.admin_state,
            if backend.eligible { "yes" } else { "no" },
            &backend.flows_created.to_string(),
            &backend.tcp_options.as_ref().map_or("-".into(), options),
        ]);
    }
    table.render(style, 0)
}

/// What a backend agrees to, shortly.
fn options(options: &TcpOptions) -> String {
    let mut text = format!("mss {}", options.mss);
    match options.window_scale {
        Some(-1) => text.push_str(", no window scale"),
        Some(shift) => {
            let _ = write!(text, ", window scale {shift}");
        }
        None => {}
    }
    let named = [("sack", options.sack), ("timestamps", options.timestamps), ("ecn", options.ecn)];
    for (name, agrees) in named {
        match agrees {
            Some(true) => {
                let _ = write!(text, ", {name}");
            }
            Some(false) => {
                let _ = write!(text, ", no {name}");
            }
            None => {}
        }
    }
    text
}

/// `nva show protection`.
pub(super) fn protection(report: &Protection, style: Style) -> String {
    let syn = &report.syn_proxy;
    let mut table = Table::new(&[("SYN proxy", Align::Left), ("", Align::Right)]);
    for (what, number) in [
        ("cookies sent", syn.cookies_sent),
        ("cookies proved", syn.cookies_valid),
        ("acknowledgements without a cookie", syn.cookies_invalid),
        ("handshakes on their way", syn.half_open),
        ("connections spliced", syn.spliced),
        ("refused by the backend", syn.refused),
        ("not answered by the backend", syn.unanswered),
        ("resets for connections not known", syn.resets),
    ] {
        table.row([what, &number.to_string()]);
    }
    let mut text = table.render(style, 0);
    if !report.asking.is_empty() {
        let columns = ["asks for proofs", "when", "now"].map(|column| (column, Align::Left));
        let mut asking = Table::new(&columns);
        for Asking { of, mode, now } in &report.asking {
            asking.row([of.as_str(), mode, if *now { "yes" } else { "no" }]);
        }
        text.push('\n');
        text.push_str(&asking.render(style, 0));
    }
    text
}

/// `nva show flows`.
pub(super) fn flows(report: &Flows, style: Style) -> String {
    let mut table = Table::new(&[
        ("proto", Align::Left),
        ("from", Align::Left),
        ("to", Align::Left),
        ("delivered to", Align::Left),
        ("state", Align::Left),
        ("sent", Align::Right),
        ("answered", Align::Right),
        ("ends in", Align::Right),
        ("rule", Align::Left),
    ]);
    for flow in &report.flows {
        let delivered = match &flow.backend {
            Some(backend) => format!("{} ({backend})", flow.translated),
            None if flow.translated == flow.to => "-".into(),
            None => flow.translated.to_string(),
        };
        table.row([
            flow.protocol.as_str(),
            &flow.from.to_string(),
            &flow.to.to_string(),
            &delivered,
            &flow.state,
            &flow.sent.packets.to_string(),
            &flow.answered.packets.to_string(),
            &duration(flow.expires_seconds),
            flow.rule.as_deref().unwrap_or("-"),
        ]);
    }
    let mut text = if table.is_empty() { String::new() } else { table.render(style, 0) };
    let listed = if report.more { "; more fit, --limit shows them" } else { "" };
    let _ = writeln!(text, "{} listed of {} open{listed}", counted(report.flows.len(), "flow"), report.open);
    text
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::protocol::{HostTraffic, Port, Traffic, Worker};
    use nva_dataplane::counters::HostCounters;
    use nva_dataplane::verdict::DropReason;

    fn some_stats() -> Stats {
        let mut traffic = Traffic { received: 10, forwarded: 7, replied: 1, ..Traffic::default() };
        traffic.dropped.0[DropReason::DeniedByRule.index()] = 2;
        Stats {
            tunnels: Vec::new(),
            name: "nva-1".into(),
            pid: 42,
            generation: 3,
            uptime_seconds: 3725.0,
            flows: 4,
            flow_capacity: 100,
            flows_created: 9,
            flows_expired: 5,
            originated: 0,
            ports: vec![Port {
                port: "trusted".into(),
                device: "eth2".into(),
                driver: "packet sockets".into(),
                link_up: Some(true),
                traffic: traffic.clone(),
                host: None,
            }],
            total: traffic,
            workers: vec![Worker { worker: 0, core: 1, flows: 4, stalled_seconds: None }],
        }
    }

    #[test]
    fn stats_name_ports_and_reasons_and_nothing_that_is_zero() {
        let text = stats(&some_stats(), Style::PLAIN);
        assert!(text.starts_with("nva-1  pid 42, up 1 h 2 min, configuration 3, 4 of 100 flows\n"), "{text}");
        assert!(text.contains("denied_by_rule") && !text.contains("malformed"), "{text}");
        assert!(text.contains("trusted") && text.contains("total"), "{text}");
        assert!(!text.contains("lost at"), "{text}");
        assert!(
            !text.contains("bug") && !text.contains("nothing passes") && !text.contains("not turned"),
            "{text}"
        );
    }

    #[test]
    fn host_interfaces_have_a_table_where_there_are_any() {
        let mut with_host = some_stats();
        assert!(!stats(&with_host, Style::PLAIN).contains("host interface"));
        let counters = HostCounters::from_numbers([11, 12, 13, 14, 15]);
        with_host.ports[0].host = Some(HostTraffic::new("nva-trusted".into(), &counters));
        let text = stats(&with_host, Style::PLAIN);
        let row = text.lines().skip_while(|line| !line.contains("host interface")).nth(1).unwrap_or_default();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells, ["nva-trusted", "11", "12", "13", "14", "15"], "{text}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut wrong = some_stats();
        wrong.total.received += 1;
        wrong.workers[0].stalled_seconds = Some(2.5);
        wrong.ports[0].link_up = Some(false);
        wrong.ports[0].traffic.rx_no_buffer = 17;
        let text = stats(&wrong, Style::PLAIN);
        assert!(text.contains("worker 0 on core 1 has not turned for 2.5 s"), "{text}");
        assert!(text.contains("port trusted: nothing passes the link of eth2"), "{text}");
        assert!(text.contains("11 frames received but 10 verdicts"), "{text}");
        let lost = text.lines().skip_while(|line| !line.contains("lost at")).nth(1).unwrap_or_default();
        assert_eq!(lost.split_whitespace().collect::<Vec<_>>(), ["trusted", "17", "0", "0", "0"], "{text}");
    }

    #[test]
    fn rules_show_their_hits_and_those_never_hit() {
        let rule = |name: &str, hits| Rule {
            group: "web-nsg".into(),
            rule: name.into(),
            direction: "inbound".into(),
            priority: 100,
            access: "allow".into(),
            default: false,
            hits,
            last_hit_seconds: (hits > 0).then_some(61.5),
        };
        let text = rules(&[rule("allow-https", 5), rule("unused", 0)], Style::PLAIN);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("5  1 min 1 s ago") && lines[2].ends_with("0          never"), "{text}");
        assert_eq!(lines[3..], ["1 of 2 rules never hit"], "{text}");
        assert_eq!(rules(&[], Style::PLAIN), "no security groups: everything passes\n");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let pairs =
            [(7.9, "7 s"), (61.0, "1 min 1 s"), (3600.0, "1 h 0 min"), (90_000.0, "1 d 1 h"), (-1.0, "0 s")];
        for (seconds, wanted) in pairs {
            assert_eq!(duration(seconds), wanted);
        }
    }
}
