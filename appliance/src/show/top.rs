//! `nva top`: the counters of a running appliance as rates, once a second.

use super::{Client, stats, tables};
use crate::cli::TopArgs;
use crate::output::{Align, Failure, Style, Table, conclude, print};
use crate::run::protocol::{Stats, Traffic};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{self, IsTerminal, Read};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);
/// Home, and clear from there on.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Runs the command.
pub(crate) fn top(args: &TopArgs) -> ExitCode {
    conclude(try_top(args))
}

fn try_top(args: &TopArgs) -> Result<(), Failure> {
    let mut client = Client::find(&args.instance)?;
    let (send, end) = unbounded();
    on_signals(send.clone())?;
    let screen = Screen::open(send);
    let style = Style::stdout();
    let mut last: Option<(Instant, Stats)> = None;
    let mut due = Instant::now();
    let mut shown = 0;
    loop {
        let now = Instant::now();
        let current = stats(&mut client)?;
        let before = last.as_ref().map(|(at, stats)| (now.saturating_duration_since(*at), stats));
        let text = render(&current, before, style);
        print(&if screen.is_live { format!("{CLEAR}{text}") } else { text })?;
        last = Some((now, current));
        shown += 1;
        if args.count.is_some_and(|count| shown >= count) {
            return Ok(());
        }
        due += EVERY;
        if wait(&end, due) {
            return Ok(());
        }
    }
}

/// Waits for the next table; whether it is time to end instead.
fn wait(end: &Receiver<()>, due: Instant) -> bool {
    !matches!(end.recv_deadline(due), Err(RecvTimeoutError::Timeout))
}

fn on_signals(end: Sender<()>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::failed(format!("signal handlers: {error}"));
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(failed)?;
    let forward = move || {
        for _ in signals.forever() {
            let _ = end.send(());
        }
    };
    std::thread::Builder::new().name("nva-signals".into()).spawn(forward).map_err(failed)?;
    Ok(())
}

/// One screen: what happens a second, and what happened in all.
fn render(stats: &Stats, before: Option<(Duration, &Stats)>, style: Style) -> String {
    let mut text = tables::headline(stats, style);
    let mut table = Table::new(&[
        ("port", Align::Left),
        ("rx/s", Align::Right),
        ("tx/s", Align::Right),
        ("rx Mbit/s", Align::Right),
        ("tx Mbit/s", Align::Right),
        ("dropped/s", Align::Right),
        ("missed/s", Align::Right),
        ("received", Align::Right),
        ("dropped", Align::Right),
    ]);
    let old = |name: &str| before.and_then(|(_, old)| old.ports.iter().find(|port| port.port == name));
    for port in &stats.ports {
        let then = before.map(|(time, _)| time).zip(old(&port.port).map(|port| &port.traffic));
        table.row(row(&port.port, &port.traffic, then));
    }
    table.row(row("total", &stats.total, before.map(|(time, old)| (time, &old.total))));
    text.push('\n');
    text.push_str(&table.render(style, 0));
    let mut drops =
        Table::new(&[("dropped/s", Align::Right), ("dropped", Align::Right), ("reason", Align::Left)]);
    let nothing = Traffic::default();
    let (time, then) = before.map_or((Duration::ZERO, &nothing), |(time, old)| (time, &old.total));
    for ((reason, count), (_, old)) in stats.total.dropped.iter().zip(then.dropped.iter()) {
        if count > 0 {
            let rate = if before.is_some() { rate(count, old, time) } else { "-".into() };
            drops.row([rate, count.to_string(), reason.name().to_string()]);
        }
    }
    if !drops.is_empty() {
        text.push('\n');
        text.push_str(&drops.render(style, 0));
    }
    text
}

fn row(name: &str, now: &Traffic, then: Option<(Duration, &Traffic)>) -> Vec<String> {
    let mut cells = vec![name.to_string()];
    cells.extend(match then {
        Some((time, then)) => [
            rate(now.received, then.received, time),
            rate(now.transmitted, then.transmitted, time),
            megabits(now.rx_bytes, then.rx_bytes, time),
            megabits(now.tx_bytes, then.tx_bytes, time),
            rate(now.dropped.total(), then.dropped.total(), time),
            rate(now.rx_missed, then.rx_missed, time),
        ],
        None => std::array::from_fn(|_| "-".to_string()),
    });
    cells.extend([now.received.to_string(), now.dropped.total().to_string()]);
    cells
}

fn per_second(now: u64, then: u64, time: Duration) -> f64 {
    now.saturating_sub(then) as f64 / time.as_secs_f64().max(1e-3)
}

fn rate(now: u64, then: u64, time: Duration) -> String {
    format!("{:.0}", per_second(now, then, time))
}

fn megabits(now: u64, then: u64, time: Duration) -> String {
    format!("{:.1}", per_second(now, then, time) * 8.0 / 1e6)
}

/// The terminal while it belongs to the command: a screen of its own, keys without Enter. As it was before, afterwards.
struct Screen {
    is_live: bool,
    /// How the keyboard was set, as `stty -g` says it.
    keyboard: Option<String>,
}

impl Screen {
    /// Takes the terminal over, if standard output is one; sends on `end` when q is pressed.
    fn open(end: Sender<()>) -> Self {
        let is_live = io::stdout().is_terminal();
        let keyboard = if is_live && io::stdin().is_terminal() { stty(&["-g"]) } else { None };
        if keyboard.is_some() && stty(&["-icanon", "-echo"]).is_some() {
            // It ends with the process: there is no way to take a read from the terminal back.
            let _ = std::thread::Builder::new().name("nva-keys".into()).spawn(move || {
                let keys = io::stdin().lock().bytes();
                if keys.map_while(Result::ok).any(|key| key == b'q') {
                    let _ = end.send(());
                }
            });
        }
        if is_live {
            // The other screen, without a cursor.
            let _ = print("\x1b[?1049h\x1b[?25l");
        }
        Self { is_live, keyboard }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_live {
            let _ = print("\x1b[?25h\x1b[?1049l");
        }
        if let Some(settings) = &self.keyboard {
            stty(&[settings.trim()]);
        }
    }
}

/// Sets or asks for the keyboard's mode; without the tool, keys need Enter and nothing else changes.
fn stty(args: &[&str]) -> Option<String> {
    let output = Command::new("stty").args(args).stdin(Stdio::inherit()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::protocol::Port;

    fn stats_of(received: u64, rx_bytes: u64) -> Stats {
        let traffic = Traffic { received, forwarded: received, rx_bytes, ..Traffic::default() };
        Stats {
            tunnels: Vec::new(),
            name: "nva-1".into(),
            pid: 1,
            generation: 1,
            uptime_seconds: 1.0,
            flows: 0,
            flow_capacity: 1,
            flows_created: 0,
            flows_expired: 0,
            originated: 0,
            ports: vec![Port {
                port: "p".into(),
                device: "d".into(),
                driver: String::new(),
                link_up: None,
                traffic: traffic.clone(),
                host: None,
            }],
            total: traffic,
            workers: Vec::new(),
        }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let (then, now) = (stats_of(1000, 0), stats_of(3000, 500_000));
        let text = render(&now, Some((Duration::from_secs(2), &then)), Style::PLAIN);
        let row: Vec<&str> = text
            .lines()
            .find(|line| line.starts_with("p "))
            .into_iter()
            .flat_map(str::split_whitespace)
            .collect();
        assert_eq!(row, ["p", "1000", "0", "2.0", "0.0", "0", "0", "3000", "0"]);
    }

    #[test]
    fn the_first_table_has_no_rates() {
        let text = render(&stats_of(7, 0), None, Style::PLAIN);
        let row = text.lines().find(|line| line.starts_with("total")).unwrap_or_default();
        assert_eq!(row.matches(" -").count(), 6, "{row}");
    }

    #[test]
    fn counters_that_went_back_are_no_negative_rate() {
        assert_eq!(rate(5, 9, Duration::from_secs(1)), "0");
        assert_eq!(rate(5, 5, Duration::ZERO), "0");
    }
}
