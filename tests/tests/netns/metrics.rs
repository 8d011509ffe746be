//! Metrics, as a scraper in the appliance's network reads them.

use super::appliance::{Appliance, number, write_config};
use super::config::{Config, OPEN};
use super::lab::{Lab, VIP, VIP6, wait_until};
use super::peer::{at, servers, who_many};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const LISTEN: &str = "127.0.0.1:9100";

fn text(listen: &str) -> String {
    Config::default().text() + &format!("management: {{metrics: {{listen: \"{listen}\"}}}}\n")
}

/// The page.
fn scrape(lab: &Lab) -> String {
    let page = lab.appliance.run(|| {
        let mut stream = TcpStream::connect(LISTEN).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: nva\r\n\r\n").expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("it answers and closes");
        page
    });
    let (head, body) = page.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

/// A sample with these labels.
fn sample(page: &str, name: &str, labels: &[&str]) -> u64 {
    let fits = |line: &&str| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
    };
    let line = page.lines().find(fits).unwrap_or_else(|| panic!("no {name} {labels:?} in {page}"));
    let value = line.rsplit(' ').next().and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no count: {line}"))
}

#[test]
fn a_scraper_reads_what_show_says() {
    let Some(lab) = Lab::build("a_scraper_reads_what_show_says") else { return };
    let _servers = servers(&lab);
    write_config(&lab.folder, &text(LISTEN));
    let mut appliance = Appliance::restart(&lab);
    assert!(appliance.output("out").contains(&format!("metrics at http://{LISTEN}/metrics")));
    who_many(&lab.client, at(VIP, OPEN), 8);
    who_many(&lab.client, at(VIP6, OPEN), 8);
    appliance.conserves();
    let stats = appliance.show("stats");
    let page = scrape(&lab);
    for port in stats["ports"].as_array().expect("a list of ports") {
        let label = format!("port={}", port["port"]);
        let of_port = |name: &str| sample(&page, name, &[&label]);
        let received = of_port("nva_rx_packets_total");
        let verdicts = ["forwarded", "replied", "consumed"].map(|verdict| {
            let count = of_port(&format!("nva_{verdict}_packets_total"));
            assert!(count >= number(&port[verdict]), "{verdict}");
            count
        });
        let dropped = page
            .lines()
            .filter(|line| line.starts_with("nva_dropped_packets_total{") && line.contains(&label));
        let dropped: u64 = dropped.map(|line| sample(line, "nva_dropped_packets_total", &[])).sum();
        assert_eq!(received, verdicts.iter().sum::<u64>() + dropped + of_port("nva_held_packets"));
        assert!(received >= number(&port["received"]) && received > 0);
    }
    let flows = number(&stats["flows_created"]);
    let created = sample(&page, "nva_flows_created_total", &[]);
    assert!(flows >= 16 && created >= flows, "{flows}, {created}");
    for backend in appliance.list("backends") {
        let labels = ["load_balancer", "pool", "backend"].map(|key| format!("{key}={}", backend[key]));
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        assert_eq!(sample(&page, "nva_backend_healthy", &labels), 1);
        let created = sample(&page, "nva_backend_flows_created_total", &labels);
        assert_eq!(Value::from(created), backend["flows_created"]);
    }
    // It cannot move while it runs.
    write_config(&lab.folder, &text("127.0.0.1:9101"));
    appliance.signal(Signal::HUP);
    wait_until("the reload is refused", || appliance.said("not reloaded") == 1);
    assert!(appliance.output("err").contains("management.metrics.listen cannot change"));
    scrape(&lab);
    appliance.conserves();
    assert!(appliance.runs());
}
