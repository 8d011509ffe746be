//! Real handshakes, one after the other at given times, whatever became of those before.
//!
//! A handshake is over when the server's echo of the client's first byte is there: client, proxy and server have agreed by then.

use super::ends::thread;
use super::hosts::frontend;
use crate::compare::space;
use crate::traffic::SERVICE;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Handshakes that can be on their way at once, and connections that the server can have.
const AT_ONCE: usize = 48;
/// A handshake that takes longer has failed: it is shorter than the time after which a lost SYN is sent again (RFC 6298).
const FAILED_AFTER: Duration = Duration::from_millis(900);
/// Some handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    /// How many.
    pub(super) count: u64,
    /// From the time at which one is due to the next.
    pub(super) interval: Duration,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// How long each took that did not fail, in microseconds from when it was due, the shortest first.
    took_us: Vec<f64>,
    /// How many failed.
    pub(super) failed: u64,
    /// Why one of them did.
    pub(super) why: Option<String>,
}

impl Outcome {
    /// Of a thousand, so many failed.
    pub(super) fn failed_per_thousand(&self) -> f64 {
        let all = self.took_us.len() as u64 + self.failed;
        self.failed as f64 * 1e3 / all.max(1) as f64
    }

    /// This share of all took no longer, in microseconds; what failed took as long as it was waited for.
    pub(super) fn quantile_us(&self, share: f64) -> f64 {
        let all = self.took_us.len() + self.failed as usize;
        let rank = ((all as f64 * share).ceil() as usize).max(1);
        let failed = FAILED_AFTER.as_secs_f64() * 1e6;
        self.took_us.get(rank - 1).copied().unwrap_or(failed)
    }
}

/// Echoes one byte of each connection, on threads that end with the process.
pub(super) fn serve(space: &str) -> Result<(), String> {
    let space = space.to_owned();
    let (tell, told) = channel();
    let bind = move || {
        let bound = space::enter(&space).and_then(|()| {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, SERVICE)).map_err(|error| format!("bind: {error}"))
        });
        // Whoever waits for it says so.
        let _ = tell.send(bound);
    };
    thread(bind)?;
    let listener = told.recv().map_err(|_| "no thread enters the server's namespace".to_owned())??;
    let listener = Arc::new(listener);
    for _ in 0..AT_ONCE {
        let listener = Arc::clone(&listener);
        thread(move || {
            while let Ok((stream, _)) = listener.accept() {
                // A client that goes away is its own affair.
                let _ = echo(stream);
            }
        })?;
    }
    Ok(())
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(FAILED_AFTER))?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    stream.write_all(&byte)?;
    // The client closes first, so that the port is its own to keep.
    while stream.read(&mut byte)? > 0 {}
    Ok(())
}

/// Handshakes that are being made, which the threads share.
pub(super) struct Round {
    order: Order,
    /// When the first is due.
    begin: Instant,
    /// The number of the next.
    next: AtomicU64,
    outcome: Mutex<Outcome>,
    /// Each thread says here that it is done.
    done: Sender<()>,
}

/// Threads in a namespace, which take part in each round that they are sent.
pub(super) fn clients(space: &str) -> Result<Vec<Sender<Arc<Round>>>, String> {
    let (tell, told) = channel();
    let client = |_| {
        let (rounds, mine) = channel::<Arc<Round>>();
        let (space, tell) = (space.to_owned(), tell.clone());
        thread(move || {
            // Whoever waits for it says so.
            let _ = tell.send(space::enter(&space));
            for round in mine {
                take_part(&round);
                // Whoever waits counts them.
                let _ = round.done.send(());
            }
        })?;
        told.recv().map_err(|_| "a client's thread ended".to_owned())??;
        Ok(rounds)
    };
    (0..AT_ONCE).map(client).collect()
}

/// Makes the next handshake that is due, as long as there is one.
fn take_part(round: &Round) {
    loop {
        let number = round.next.fetch_add(1, Ordering::Relaxed);
        if number >= round.order.count {
            return;
        }
        let due = round.begin + round.order.interval * u32::try_from(number).unwrap_or(u32::MAX);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let outcome = handshake();
        let took = due.elapsed();
        let mut all = round.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) if took < FAILED_AFTER => all.took_us.push(took.as_secs_f64() * 1e6),
            Ok(()) => all.failed += 1,
            Err(error) => {
                all.failed += 1;
                all.why.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Has the clients make handshakes.
pub(super) fn make(order: Order, clients: &[Sender<Arc<Round>>]) -> Result<Outcome, String> {
    let (done, told) = channel();
    let begin = Instant::now() + Duration::from_millis(10);
    let outcome = Mutex::new(Outcome::default());
    let round = Arc::new(Round { order, begin, next: AtomicU64::new(0), outcome, done });
    for client in clients {
        client.send(Arc::clone(&round)).map_err(|_| "a client's thread ended".to_owned())?;
    }
    for _ in clients {
        told.recv().map_err(|_| "a client's thread ended".to_owned())?;
    }
    let mut all = std::mem::take(&mut *round.outcome.lock().unwrap_or_else(PoisonError::into_inner));
    all.took_us.sort_by(f64::total_cmp);
    Ok(all)
}

fn handshake() -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&frontend(SERVICE), FAILED_AFTER)?;
    stream.set_read_timeout(Some(FAILED_AFTER))?;
    stream.write_all(&[7])?;
    stream.read_exact(&mut [0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_counts_as_long_as_it_was_waited_for() {
        let took_us: Vec<f64> = (1..=990).map(f64::from).collect();
        let outcome = Outcome { took_us, failed: 10, why: None };
        assert_eq!(outcome.quantile_us(0.5), 500.0);
        assert_eq!(outcome.quantile_us(0.99), 990.0);
        assert_eq!(outcome.quantile_us(0.995), 900_000.0);
        assert!((outcome.failed_per_thousand() - 10.0).abs() < 1e-9);
        assert_eq!(Outcome::default().failed_per_thousand(), 0.0);
    }
}
