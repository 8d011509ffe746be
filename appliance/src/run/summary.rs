//! What the appliance says of itself when it ends.

use super::protocol::{HostTraffic, Stats, Traffic};
use crate::output::{Align, Style, Table};

/// The table of ports and, where there are any, of what devices lost and of drops by reason.
pub(crate) fn render(stats: &Stats, style: Style) -> String {
    let mut text = ports(stats).render(style, 2);
    let hosts = hosts(stats);
    if !hosts.is_empty() {
        text.push('\n');
        text.push_str(&hosts.render(style, 2));
    }
    for table in [tunnels(stats), lost(stats), drops(&stats.total)] {
        if !table.is_empty() {
            text.push('\n');
            text.push_str(&table.render(style, 2));
        }
    }
    text
}

/// One row a port, and one for all.
pub(crate) fn ports(stats: &Stats) -> Table {
    const NUMBERS: [&str; 8] =
        ["received", "forwarded", "replied", "consumed", "held", "dropped", "transmitted", "rx missed"];
    let mut columns = vec![("port", Align::Left)];
    columns.extend(NUMBERS.map(|title| (title, Align::Right)));
    let mut table = Table::new(&columns);
    let row = |name: &str, traffic: &Traffic| -> Vec<String> {
        let numbers = [
            traffic.received,
            traffic.forwarded,
            traffic.replied,
            traffic.consumed,
            traffic.held,
            traffic.dropped.total(),
            traffic.transmitted,
            traffic.rx_missed,
        ];
        std::iter::once(name.to_string()).chain(numbers.map(|number| number.to_string())).collect()
    };
    for port in &stats.ports {
        table.row(row(&port.port, &port.traffic));
    }
    table.row(row("total", &stats.total));
    table
}

/// One row for each tunnel and peer.
fn tunnels(stats: &Stats) -> Table {
    let mut table = Table::new(&[
        ("tunnel", Align::Left),
        ("trust", Align::Left),
        ("vni", Align::Right),
        ("udp port", Align::Right),
        ("peer", Align::Left),
        ("received", Align::Right),
        ("dropped", Align::Right),
        ("transmitted", Align::Right),
    ]);
    for tunnel in &stats.tunnels {
        let [vni, udp_port] = [tunnel.vni, tunnel.udp_port.into()].map(|number| number.to_string());
        let peer = tunnel.peer.to_string();
        let numbers = [tunnel.received, tunnel.dropped, tunnel.transmitted].map(|number| number.to_string());
        let names = [tunnel.tunnel.clone(), tunnel.trust.clone(), vni, udp_port, peer];
        table.row(names.into_iter().chain(numbers));
    }
    table
}

/// One row for each port whose device lost something beside what the table of ports shows.
fn lost(stats: &Stats) -> Table {
    let mut table = Table::new(&[
        ("lost at", Align::Left),
        ("rx no buffer", Align::Right),
        ("rx errors", Align::Right),
        ("tx refused", Align::Right),
        ("tx errors", Align::Right),
    ]);
    for port in &stats.ports {
        let traffic = &port.traffic;
        let numbers = [traffic.rx_no_buffer, traffic.rx_errors, traffic.tx_refused, traffic.tx_errors];
        if numbers.iter().any(|number| *number > 0) {
            let numbers = numbers.map(|number| number.to_string());
            table.row(std::iter::once(port.port.clone()).chain(numbers));
        }
    }
    table
}

/// One row for each host interface.
fn hosts(stats: &Stats) -> Table {
    const NUMBERS: [&str; 5] = ["to kernel", "queue full", "from kernel", "no buffer", "refused"];
    let mut columns = vec![("host interface", Align::Left)];
    columns.extend(NUMBERS.map(|title| (title, Align::Right)));
    let mut table = Table::new(&columns);
    for host in stats.ports.iter().filter_map(|port| port.host.as_ref()) {
        let HostTraffic { interface, to_kernel, to_kernel_full, from_kernel, from_kernel_full, refused } =
            host;
        let numbers = [to_kernel, to_kernel_full, from_kernel, from_kernel_full, refused];
        table.row(std::iter::once(interface.clone()).chain(numbers.map(u64::to_string)));
    }
    table
}

/// One row for each reason for which something was dropped.
pub(crate) fn drops(traffic: &Traffic) -> Table {
    let mut table = Table::new(&[("dropped", Align::Right), ("reason", Align::Left), ("", Align::Left)]);
    for (reason, count) in traffic.dropped.iter().filter(|(_, count)| *count > 0) {
        table.row([count.to_string(), reason.name().to_string(), reason.description().to_string()]);
    }
    table
}
