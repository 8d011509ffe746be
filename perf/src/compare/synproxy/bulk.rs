//! Bulk transfers between the ends of a road: from the server to the client, through whoever is on it.

use super::hosts::frontend;
use crate::compare::pairs::Bench;
use crate::compare::road::Road;
use crate::traffic::Random;
use core_affinity::CoreId;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Not measured, before each transfer.
const WARM_UP: Duration = Duration::from_millis(150);
/// Bytes at a time.
const CHUNK: usize = 1 << 16;
/// No byte for so long ends a transfer.
const SILENCE: Duration = Duration::from_secs(5);

/// What went over in a transfer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Transfer {
    /// Bytes that arrived while it was measured.
    pub(super) bytes: u64,
    /// How long that took.
    pub(super) time: Duration,
}

impl Transfer {
    /// Millions of bytes a second.
    pub(super) fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64() / 1e6
    }
}

/// Sends from a port of the frontend for a while.
pub(super) fn timed(road: &Road, port: u16, core: usize, time: Duration) -> Result<Transfer, String> {
    let send = |mut stream: TcpStream| {
        let chunk = vec![0x5a; CHUNK];
        while stream.write_all(&chunk).is_ok() {}
        Ok(())
    };
    over(road, port, core, send, |mut stream| {
        let mut chunk = vec![0; CHUNK];
        let (begin, mut counted) = (Instant::now(), None::<(Instant, u64)>);
        loop {
            let some = stream.read(&mut chunk).map_err(|error| format!("read: {error}"))?;
            if some == 0 {
                return Err("the transfer ended before its time".into());
            }
            match &mut counted {
                None if begin.elapsed() >= WARM_UP => counted = Some((Instant::now(), 0)),
                None => {}
                Some((since, bytes)) => {
                    *bytes += some as u64;
                    if since.elapsed() >= time {
                        return Ok(Transfer { bytes: *bytes, time: since.elapsed() });
                    }
                }
            }
        }
    })
}

/// Sends so many bytes from a port of the frontend, and compares each that arrives with the one that was sent.
pub(super) fn whole(
    road: &Road,
    port: u16,
    core: usize,
    bytes: u64,
    bench: &Bench,
) -> Result<Transfer, String> {
    let seed = bench.seed;
    let send = move |mut stream: TcpStream| {
        let mut content = Content::new(seed);
        let mut left = bytes;
        while left > 0 {
            let chunk = content.next();
            let some = chunk.len().min(usize::try_from(left).unwrap_or(CHUNK));
            stream.write_all(&chunk[..some]).map_err(|error| format!("write: {error}"))?;
            left -= some as u64;
        }
        Ok(())
    };
    over(road, port, core, send, |mut stream| {
        let mut content = Content::new(seed);
        let mut chunk = vec![0; CHUNK];
        let (begin, mut arrived) = (Instant::now(), 0);
        while arrived < bytes {
            bench.interrupt.check()?;
            let some = chunk.len().min(usize::try_from(bytes - arrived).unwrap_or(CHUNK));
            stream
                .read_exact(&mut chunk[..some])
                .map_err(|error| format!("read, after {arrived} of {bytes} bytes: {error}"))?;
            if chunk[..some] != content.next()[..some] {
                return Err(format!("what arrives differs from what was sent, after {arrived} bytes"));
            }
            arrived += some as u64;
        }
        match stream.read(&mut chunk) {
            Ok(0) => Ok(Transfer { bytes, time: begin.elapsed() }),
            Ok(more) => Err(format!("{more} bytes too many arrive")),
            Err(error) => Err(format!("the end of the transfer: {error}")),
        }
    })
}

/// A connection, with both ends on the generator's core.
fn over(
    road: &Road,
    port: u16,
    core: usize,
    send: impl FnOnce(TcpStream) -> Result<(), String> + Send,
    receive: impl FnOnce(TcpStream) -> Result<Transfer, String> + Send,
) -> Result<Transfer, String> {
    let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let listener = road.sink().run(bind)?.map_err(|error| format!("bind: {error}"))?;
    let pin = move || {
        if core_affinity::set_for_current(CoreId { id: core }) {
            Ok(())
        } else {
            Err(format!("nothing can be pinned to core {core}"))
        }
    };
    let patient = |stream: TcpStream| {
        let set =
            stream.set_read_timeout(Some(SILENCE)).and_then(|()| stream.set_write_timeout(Some(SILENCE)));
        set.map_err(|error| format!("setsockopt: {error}"))?;
        Ok::<_, String>(stream)
    };
    std::thread::scope(|scope| {
        let client = scope.spawn(move || {
            pin()?;
            road.source().enter()?;
            let stream = TcpStream::connect_timeout(&frontend(port), SILENCE);
            receive(patient(stream.map_err(|error| format!("connect to port {port}: {error}"))?)?)
        });
        // Nobody comes where the client could not connect.
        listener.set_nonblocking(true).map_err(|error| format!("fcntl: {error}"))?;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break Some(stream),
                Err(_) if client.is_finished() => break None,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let sent = stream.map(|stream| {
            stream.set_nonblocking(false).map_err(|error| format!("fcntl: {error}"))?;
            let stream = patient(stream)?;
            let sender = scope.spawn(move || pin().and_then(|()| send(stream)));
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let transfer = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        transfer.and_then(|transfer| sent.unwrap_or(Ok(())).map(|()| transfer))
    })
}

/// Bytes that no other place of the transfer has.
struct Content {
    random: Random,
    chunk: Vec<u8>,
}

impl Content {
    fn new(seed: u64) -> Self {
        Self { random: Random(seed), chunk: vec![0; CHUNK] }
    }

    /// The next chunk.
    fn next(&mut self) -> &[u8] {
        for word in self.chunk.chunks_exact_mut(8) {
            word.copy_from_slice(&self.random.next().to_ne_bytes());
        }
        &self.chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_what_was_measured() {
        let transfer = Transfer { bytes: 50_000_000, time: Duration::from_millis(500) };
        assert_eq!(transfer.rate(), 100.0);
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_no_chunk_is_like_the_one_before() {
        let (mut one, mut other) = (Content::new(5), Content::new(5));
        let first = one.next().to_vec();
        assert_eq!(first, other.next());
        assert_ne!(first, one.next());
        assert_ne!(first, Content::new(6).next());
    }
}
