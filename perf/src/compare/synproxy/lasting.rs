//! Connections that last, each with data at a given rate from the server to the client: what of it arrives, whatever else goes on.

use super::ends::thread;
use super::hosts::{LASTING, frontend};
use crate::compare::space;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Data is due so often, and so much of it: 10 MB a second.
const TURN: Duration = Duration::from_millis(1);
const BYTES_A_TURN: usize = 10_000;
/// With so many bytes it flows.
const FLOWING: u64 = 50 * BYTES_A_TURN as u64;
/// No byte for so long ends a connection.
const SILENCE: Duration = Duration::from_secs(5);

/// A connection; dropping it ends it.
pub(super) struct Lasting {
    stream: TcpStream,
    arrived: Arc<AtomicU64>,
}

impl Drop for Lasting {
    fn drop(&mut self) {
        // One that is over already is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Sends to whoever comes, one after the other on each port, on threads that end with the process.
pub(super) fn serve(space: &str) -> Result<(), String> {
    for port in LASTING {
        let space = space.to_owned();
        let (tell, told) = channel();
        thread(move || {
            let bound = space::enter(&space).and_then(|()| {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|error| format!("bind: {error}"))
            });
            let listener = match bound {
                Ok(listener) => listener,
                Err(why) => {
                    // Whoever waits for it says so.
                    let _ = tell.send(Err(why));
                    return;
                }
            };
            let _ = tell.send(Ok(()));
            while let Ok((stream, _)) = listener.accept() {
                // A client that goes away is its own affair.
                let _ = send(stream);
            }
        })?;
        told.recv().map_err(|_| "no thread enters the server's namespace".to_owned())??;
    }
    Ok(())
}

/// Sends what is due, and later what was due when the connection did not take it, until the client goes away.
fn send(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(SILENCE))?;
    let data = vec![0x5a; BYTES_A_TURN];
    let mut due = Instant::now();
    loop {
        stream.write_all(&data)?;
        due += TURN;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Opens one to each of the ports, and waits until data flows by both: there are proxies through which that takes a second.
pub(super) fn open(space: &str) -> Result<Vec<Lasting>, String> {
    let opened: Result<Vec<Lasting>, String> =
        LASTING.into_iter().map(|port| open_one(space.to_owned(), port)).collect();
    let (opened, until) = (opened?, Instant::now() + SILENCE);
    let flows = |connection: &Lasting| connection.arrived.load(Ordering::Relaxed) >= FLOWING;
    while !opened.iter().all(flows) {
        if Instant::now() >= until {
            return Err("no data arrives by a connection that was opened".into());
        }
        std::thread::sleep(TURN);
    }
    Ok(opened)
}

fn open_one(space: String, port: u16) -> Result<Lasting, String> {
    let arrived = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&arrived);
    let (tell, told) = channel();
    thread(move || {
        let connected = space::enter(&space).and_then(|()| {
            let stream = TcpStream::connect_timeout(&frontend(port), SILENCE)
                .map_err(|error| format!("connect to port {port}: {error}"))?;
            let mine = stream.try_clone().map_err(|error| format!("dup: {error}"))?;
            Ok((stream, mine))
        });
        let mut stream = match connected {
            Ok((stream, mine)) => {
                // Whoever waits for it keeps it.
                let _ = tell.send(Ok(stream));
                mine
            }
            Err(why) => {
                let _ = tell.send(Err(why));
                return;
            }
        };
        let mut data = vec![0; 1 << 16];
        while let Ok(some) = stream.read(&mut data)
            && some > 0
        {
            counter.fetch_add(some as u64, Ordering::Relaxed);
        }
    })?;
    let stream = told.recv().map_err(|_| "a client's thread ended".to_owned())??;
    Ok(Lasting { stream, arrived })
}

/// What arrives in this time by each, in bytes a second.
pub(super) fn watch(connections: &[Lasting], time: Duration) -> Vec<f64> {
    let counts = || -> Vec<u64> {
        connections.iter().map(|connection| connection.arrived.load(Ordering::Relaxed)).collect()
    };
    let (begin, before) = (Instant::now(), counts());
    std::thread::sleep(time);
    let (took, after) = (begin.elapsed().as_secs_f64(), counts());
    after.into_iter().zip(before).map(|(after, before)| (after - before) as f64 / took).collect()
}
