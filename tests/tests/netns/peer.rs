//! Clients and servers on the kernel's own stacks.
//!
//! A TCP server reads one [`Order`] from each connection and carries it out. Streams are made from a seed, so that either end can
//! compare every byte with what it ought to be.

use super::lab::Lab;
use super::space::Space;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long anything may take at most; only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const CHUNK: usize = 64 * 1024;

/// What a client wants of a TCP server.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// The server's name, and the end.
    Name = 1,
    /// Take so many bytes of the stream of a seed in, and say how many were right until the first that was not.
    Take = 2,
    /// Send so many bytes of the stream of a seed.
    Give = 3,
    /// Send back what comes.
    Echo = 4,
}

/// The bytes of a seed, one after the other.
#[derive(Debug)]
struct Stream {
    state: u64,
    word: [u8; 8],
    at: usize,
}

impl Stream {
    fn new(seed: u64) -> Self {
        Self { state: seed, word: [0; 8], at: 8 }
    }

    /// SplitMix64, byte by byte.
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.at == 8 {
                self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut word = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (self.word, self.at) = ((word ^ (word >> 31)).to_le_bytes(), 0);
            }
            *byte = self.word[self.at];
            self.at += 1;
        }
    }
}

fn give(to: &mut impl Write, seed: u64, len: u64) -> io::Result<()> {
    let (mut stream, mut chunk, mut left) = (Stream::new(seed), vec![0; CHUNK], len);
    while left > 0 {
        let now = left.min(CHUNK as u64) as usize;
        stream.fill(&mut chunk[..now]);
        to.write_all(&chunk[..now])?;
        left -= now as u64;
    }
    Ok(())
}

/// How many bytes were right until the first that was not.
fn take(from: &mut impl Read, seed: u64, len: u64) -> io::Result<u64> {
    let (mut stream, mut chunk, mut wanted, mut done) =
        (Stream::new(seed), vec![0; CHUNK], vec![0; CHUNK], 0);
    while done < len {
        let now = (len - done).min(CHUNK as u64) as usize;
        let read = from.read(&mut chunk[..now])?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        stream.fill(&mut wanted[..read]);
        if chunk[..read] != wanted[..read] {
            let right = chunk.iter().zip(&wanted).take_while(|(is, ought)| is == ought).count();
            return Ok(done + right as u64);
        }
        done += read as u64;
    }
    Ok(done)
}

/// A server that ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    /// Connections accepted, or datagrams received.
    arrived: AtomicU64,
    /// How echo connections ended.
    ends: Mutex<Vec<Option<ErrorKind>>>,
}

impl Server {
    /// Serves TCP orders and echoes datagrams, each answer preceded by `name`, on the ports given, for both families.
    pub(crate) fn start(space: &Space, name: u8, tcp: &[u16], udp: &[u16]) -> Self {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for port in tcp {
            let listener =
                space.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port))).expect("a free port");
            listener.set_nonblocking(true).expect("a setting");
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || accept(&listener, name, &shared)));
        }
        for port in udp {
            let socket = space.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, *port))).expect("a free port");
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || answer(&socket, name, &shared)));
        }
        Self { shared, threads }
    }

    /// How many connections were accepted and datagrams received.
    pub(crate) fn arrived(&self) -> u64 {
        self.shared.arrived.load(Ordering::Relaxed)
    }

    /// How the echo connections ended that have: `None` is the end of the stream.
    pub(crate) fn ends(&self) -> Vec<Option<ErrorKind>> {
        self.shared.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn accept(listener: &TcpListener, name: u8, shared: &Arc<Shared>) {
    while !shared.stopping.load(Ordering::Relaxed) {
        let Ok((connection, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        shared.arrived.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || serve(connection, name, &shared));
    }
}

/// Carries an order out. A client that goes away ends it.
fn serve(mut connection: TcpStream, name: u8, shared: &Shared) {
    let mut work = || -> io::Result<()> {
        connection.set_nonblocking(false)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut order = [0; 17];
        connection.read_exact(&mut order)?;
        let number = |at: usize| u64::from_le_bytes(order[at..at + 8].try_into().unwrap_or_default());
        let (seed, len) = (number(1), number(9));
        match order[0] {
            1 => connection.write_all(&[name]),
            2 => {
                let right = take(&mut connection, seed, len)?;
                connection.write_all(&right.to_le_bytes())
            }
            3 => give(&mut connection, seed, len),
            _ => {
                connection.write_all(&[name])?;
                let end = echo(&mut connection);
                shared.ends.lock().unwrap_or_else(PoisonError::into_inner).push(end);
                Ok(())
            }
        }
    };
    // What went wrong is seen at the client.
    let _ = work();
}

fn echo(connection: &mut TcpStream) -> Option<ErrorKind> {
    let mut chunk = [0; 2048];
    loop {
        match connection.read(&mut chunk) {
            Ok(0) => return None,
            Ok(len) => match connection.write_all(&chunk[..len]) {
                Ok(()) => {}
                Err(error) => return Some(error.kind()),
            },
            Err(error) => return Some(error.kind()),
        }
    }
}

fn answer(socket: &UdpSocket, name: u8, shared: &Shared) {
    let mut datagram = vec![0; 65536];
    while !shared.stopping.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut datagram[1..]) else { continue };
        shared.arrived.fetch_add(1, Ordering::Relaxed);
        datagram[0] = name;
        // A client that has gone does not matter.
        let _ = socket.send_to(&datagram[..=len], from);
    }
}

/// The servers of both backends, on every port that the configurations name.
pub(crate) fn servers(lab: &Lab) -> [Server; 2] {
    use super::config::{DATAGRAM, OPEN_BEHIND, OTHER_BEHIND};
    let server = |at: usize| Server::start(&lab.web[at], at as u8, &[OPEN_BEHIND, OTHER_BEHIND], &[DATAGRAM]);
    [server(0), server(1)]
}

/// An address with a port.
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

fn order(from: &Space, to: SocketAddr, order: Order, seed: u64, len: u64) -> io::Result<TcpStream> {
    let mut connection = from.run(|| TcpStream::connect_timeout(&to, PATIENCE))?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut message = [0; 17];
    message[0] = order as u8;
    message[1..9].copy_from_slice(&seed.to_le_bytes());
    message[9..].copy_from_slice(&len.to_le_bytes());
    connection.write_all(&message)?;
    Ok(connection)
}

/// Sends so many bytes; how many of them arrived as they were sent.
pub(crate) fn upload(from: &Space, to: SocketAddr, seed: u64, len: u64) -> io::Result<u64> {
    let mut connection = order(from, to, Order::Take, seed, len)?;
    give(&mut connection, seed, len)?;
    let mut right = [0; 8];
    connection.read_exact(&mut right)?;
    Ok(u64::from_le_bytes(right))
}

/// Fetches so many bytes; how many of them arrived as they were sent.
pub(crate) fn download(from: &Space, to: SocketAddr, seed: u64, len: u64) -> io::Result<u64> {
    take(&mut order(from, to, Order::Give, seed, len)?, seed, len)
}

/// Asks who answers, on a connection of its own.
pub(crate) fn who(from: &Space, to: SocketAddr) -> io::Result<u8> {
    let mut connection = order(from, to, Order::Name, 0, 0)?;
    let mut name = [0];
    connection.read_exact(&mut name)?;
    // To the end of the stream, so that the server closes first and no address stays taken at the client.
    match connection.read(&mut [0])? {
        0 => Ok(name[0]),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Asks so many times, from several threads; how often each backend answered.
pub(crate) fn who_many(from: &Space, to: SocketAddr, times: usize) -> BTreeMap<u8, usize> {
    const THREADS: usize = 4;
    let ask = || (0..times / THREADS).map(|_| who(from, to).expect("an answer")).collect::<Vec<u8>>();
    let mut count = BTreeMap::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
        for name in threads.into_iter().flat_map(|thread| thread.join().expect("every one is answered")) {
            *count.entry(name).or_default() += 1;
        }
    });
    count
}

/// A connection on which what is sent comes back.
#[derive(Debug)]
pub(crate) struct Echo {
    connection: TcpStream,
    /// Who is at the other end.
    pub(crate) name: u8,
    turn: u64,
}

impl Echo {
    /// Connects.
    pub(crate) fn open(from: &Space, to: SocketAddr) -> io::Result<Self> {
        let mut connection = order(from, to, Order::Echo, 0, 0)?;
        let mut name = [0];
        connection.read_exact(&mut name)?;
        Ok(Self { connection, name: name[0], turn: 0 })
    }

    /// Sends something and waits until it is back.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        self.turn += 1;
        let mut sent = [0; 1200];
        Stream::new(self.turn).fill(&mut sent);
        self.connection.write_all(&sent)?;
        let mut back = [0; 1200];
        self.connection.read_exact(&mut back)?;
        if sent == back { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// Waits for the other end to end it; how it did, or `None` if it sent something instead.
    pub(crate) fn end(&mut self) -> Option<ErrorKind> {
        self.connection.read_exact(&mut [0]).err().map(|error| error.kind())
    }
}

/// A UDP client.
#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: UdpSocket,
    turn: u64,
}

impl Datagrams {
    /// A client with a port of its own.
    pub(crate) fn open(from: &Space, to: SocketAddr, patience: Duration) -> Self {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = from.run(|| UdpSocket::bind(any)).expect("a free port");
        socket.connect(to).expect("there is a route");
        socket.set_read_timeout(Some(patience)).expect("a timeout");
        Self { socket, turn: 0 }
    }

    /// Sends a datagram and waits for its answer; who gave it, or `None` if it does not come.
    pub(crate) fn turn(&mut self, len: usize) -> Option<u8> {
        self.turn += 1;
        let mut sent = vec![0; len.max(8)];
        Stream::new(self.turn).fill(&mut sent);
        // An error that the network reported for an earlier one.
        if self.socket.send(&sent).is_err() {
            self.socket.send(&sent).ok()?;
        }
        let mut back = vec![0; sent.len() + 2];
        loop {
            let len = self.socket.recv(&mut back).ok()?;
            // One that was given up earlier may still come.
            if back[1..len] == sent {
                return Some(back[0]);
            }
        }
    }

    /// Sends a datagram of so many bytes, and waits for nothing.
    pub(crate) fn send(&self, len: usize) {
        // What the network reports for an earlier one is no concern here.
        let _ = self.socket.send(&vec![0x55; len]);
    }
}
