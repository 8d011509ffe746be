//! The demo's web server and client: as little HTTP as the kernel's TCP needs to show itself.

use crate::output::{Failure, print};
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The longest request or response, in bytes.
const MESSAGE_MAX: usize = 4096;
/// How long a server waits for a request.
const REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// Answers requests on these ports with `name`, until the process is killed.
pub(super) fn serve(name: &str, ports: &[u16]) -> Result<(), Failure> {
    let mut servers = Vec::new();
    for &port in ports {
        // Of both families: IPv4 comes as mapped addresses.
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .map_err(|error| Failure::failed(format!("TCP port {port}: {error}")))?;
        let name = name.to_owned();
        servers.push(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that went away is the client's business.
                let _ = respond(stream, &name);
            }
        }));
    }
    print("serving\n")?;
    servers.into_iter().for_each(|server| drop(server.join()));
    Ok(())
}

fn respond(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_WITHIN))?;
    stream.set_write_timeout(Some(REQUEST_WITHIN))?;
    let mut request: Vec<u8> = Vec::new();
    let mut chunk = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            read => request.extend(chunk.iter().take(read)),
        }
        if request.len() > MESSAGE_MAX {
            return Ok(());
        }
    }
    let length = name.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{name}")
}

/// Sends requests one after the other; prints for each who answered, or how it failed.
pub(super) fn get(to: SocketAddr, count: u32, timeout: Duration) -> Result<(), Failure> {
    let mut failures = 0;
    for _ in 0..count {
        match request(to, timeout) {
            Ok(name) => print(&format!("{name}\n"))?,
            Err(error) => {
                failures += 1;
                let what = match error.kind() {
                    io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => SILENCE.to_string(),
                    _ => format!("{FAILED}{error}"),
                };
                print(&format!("{what}\n"))?;
            }
        }
    }
    if failures == 0 {
        Ok(())
    } else {
        Err(Failure::failed(format!("{failures} of {count} requests had no answer")))
    }
}

/// What the client prints when nobody answers at all.
pub(super) const SILENCE: &str = "! silence";
/// What the client prints in front of any other failure.
pub(super) const FAILED: &str = "! ";

fn request(to: SocketAddr, timeout: Duration) -> io::Result<String> {
    let deadline = Instant::now() + timeout;
    let mut stream = TcpStream::connect_timeout(&to, timeout)?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
    let mut response: Vec<u8> = Vec::new();
    let mut chunk = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => break,
            read => response.extend(chunk.iter().take(read)),
        }
        if response.len() > MESSAGE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the response is too long"));
        }
    }
    body(&response)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response with status 200"))
}

/// The body of a response with status 200, if all of it has come.
fn body(response: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(response).ok()?;
    let (head, body) = text.strip_prefix("HTTP/1.1 200 ")?.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
    (length.parse() == Ok(body.len()) && !body.is_empty()).then(|| body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_counts() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nweb-1";
        assert_eq!(body(whole).as_deref(), Some("web-1"));
        for end in 0..whole.len() {
            assert_eq!(body(&whole[..end]), None, "{end} bytes");
        }
        assert_eq!(body(b"HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\nx"), None);
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff"), None);
    }

    #[test]
    fn client_and_server_understand_each_other() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let to = listener.local_addr().expect("it is bound");
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            respond(stream, "web-2")
        });
        assert_eq!(request(to, Duration::from_secs(60)).expect("an answer"), "web-2");
        server.join().expect("no panic").expect("no error");
        let refused = request(to, Duration::from_secs(60)).expect_err("nobody listens any more");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
