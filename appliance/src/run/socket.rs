//! The control socket: a Unix socket of the appliance's own, on which `nva show` asks.
//!
//! Only its owner may open it (mode 0600, in a directory of mode 0700). Requests are one short line, so many clients and no more,
//! and whoever is slow is cut off: nothing that a client does takes memory or time from the workers.

use super::answer;
use super::control::Control;
use super::protocol::{REQUEST_MAX, Request, Response};
use crate::output::Failure;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where the sockets of all instances are.
pub(crate) const DIRECTORY: &str = "/run/nva";
const CLIENTS_MAX: usize = 16;
/// How long a client may take from one request to the next, and to take in a response.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// The socket's path for an instance of this name.
pub(crate) fn default_path(name: &str) -> PathBuf {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    Path::new(DIRECTORY).join(format!("{}.sock", name.chars().map(safe).collect::<String>()))
}

/// A bound socket; its file goes away with it.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ControlSocket {
    /// Binds the socket. One that a dead process left is replaced, a live one is not.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that says what to do.
    pub(crate) fn bind(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::failed(format!(
                "control socket {}: {error}; name another place with --socket",
                path.display()
            ))
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        make_way(path)?;
        // Bound in a directory that nobody else can enter, so that there is no moment at which others could connect, and renamed:
        // under its name there is the old socket or the new one, never none.
        let private = parent.join(format!(".{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&private).map_err(failed)?;
        let bound = bind_in(&private, path);
        let _ = fs::remove_dir_all(&private);
        Ok(Self { path: path.to_path_buf(), listener: bound.map_err(failed)? })
    }

    /// Answers clients on threads of their own until the process ends.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn serve(&self, control: &Arc<Control>) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let control = Arc::clone(control);
        std::thread::Builder::new()
            .name("nva-control".into())
            .spawn(move || accept(&listener, &control))
            .map(drop)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // It is the next instance's business when this fails.
        let _ = fs::remove_file(&self.path);
    }
}

/// Sees whether the path is free, or held by what a dead process left.
fn make_way(path: &Path) -> Result<(), Failure> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let shown = path.display();
    if !metadata.file_type().is_socket() {
        return Err(Failure::failed(format!(
            "control socket {shown}: there is a file that is no socket; remove it or name another place with --socket"
        )));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Failure::failed(format!(
            "control socket {shown}: another appliance answers there; stop it, give this one another name, or name another place with --socket"
        ))),
        Err(_) => Ok(()),
    }
}

fn bind_in(private: &Path, path: &Path) -> io::Result<UnixListener> {
    let temporary = private.join("s");
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
    fs::rename(&temporary, path)?;
    Ok(listener)
}

fn accept(listener: &UnixListener, control: &Arc<Control>) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            // Out of descriptors, most likely: they come back as clients leave.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let guest = Guest::enter(&clients);
        if guest.number > CLIENTS_MAX {
            let full: Response<()> = Response::Error("too many clients at once; try again".into());
            let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
            let _ = respond(&mut stream, &full);
            continue;
        }
        let control = Arc::clone(control);
        // Without a thread the client sees its connection closed.
        let _ = std::thread::Builder::new().name("nva-client".into()).spawn(move || {
            let _guest = guest;
            // A client that is slow or gone takes its connection with it and nothing else.
            let _ = converse(&mut stream, &control);
        });
    }
}

/// One of the clients that are there now.
struct Guest {
    clients: Arc<AtomicUsize>,
    number: usize,
}

impl Guest {
    fn enter(clients: &Arc<AtomicUsize>) -> Self {
        let number = clients.fetch_add(1, Ordering::Relaxed) + 1;
        Self { clients: Arc::clone(clients), number }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(stream: &mut UnixStream, control: &Control) -> io::Result<()> {
    stream.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let mut unread = Vec::new();
    while let Some(line) = read_line(stream, &mut unread, Instant::now() + CLIENT_PATIENCE)? {
        match serde_json::from_slice::<Request>(&line) {
            Ok(Request::Stats {}) => respond(stream, &Response::Ok(answer::stats(&mut control.moment())))?,
            Ok(Request::Flows { limit, address }) => {
                respond(stream, &answer::flows(control, limit, address))?
            }
            Ok(Request::Rules {}) => respond(stream, &Response::Ok(answer::rules(&mut control.moment())))?,
            Ok(Request::Backends {}) => {
                respond(stream, &Response::Ok(answer::backends(&mut control.moment())))?
            }
            Ok(Request::Protection {}) => {
                respond(stream, &Response::Ok(answer::protection(&control.moment())))?
            }
            Err(error) => respond(stream, &Response::<()>::Error(format!("not a request: {error}")))?,
        }
    }
    Ok(())
}

/// The next line; `None` when the client has closed. What came behind the line waits in `unread`.
fn read_line(
    stream: &mut UnixStream,
    unread: &mut Vec<u8>,
    deadline: Instant,
) -> io::Result<Option<Vec<u8>>> {
    let limit = usize::try_from(REQUEST_MAX).unwrap_or(usize::MAX);
    let mut chunk = [0; 1024];
    loop {
        if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let rest = unread.split_off(end + 1);
            return Ok(Some(std::mem::replace(unread, rest)));
        }
        if unread.len() >= limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the request is too long"));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => return Ok(None),
            read => unread.extend(chunk.iter().take(read)),
        }
    }
}

fn respond<T: serde::Serialize>(stream: &mut UnixStream, response: &Response<T>) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    stream.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of the test's own in a folder that goes away with it.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("nva-sock-{}-{name}", std::process::id())))
        }

        fn socket(&self) -> PathBuf {
            self.0.join("a.sock")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_its_owner_may_open_it_and_it_goes_away() {
        let place = Place::new("mode");
        let socket = ControlSocket::bind(&place.socket()).expect("a free path");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&place.0), mode(&place.socket())), (0o700, 0o600));
        assert_eq!(fs::read_dir(&place.0).expect("a directory").count(), 1);
        drop(socket);
        assert_eq!(fs::read_dir(&place.0).expect("a directory").count(), 0);
    }

    #[test]
    fn a_live_socket_is_refused_and_a_dead_one_replaced() {
        let place = Place::new("stale");
        let socket = ControlSocket::bind(&place.socket()).expect("a free path");
        let refused = ControlSocket::bind(&place.socket()).expect_err("it is taken");
        assert!(refused.lines[0].contains("another appliance answers"), "{refused:?}");
        assert!(UnixStream::connect(place.socket()).is_ok(), "the first one is unharmed");
        // Closed without its file being removed, as when a process is killed.
        let dead = UnixListener::bind(place.0.join("dead.sock")).expect("a free path");
        drop(dead);
        assert!(ControlSocket::bind(&place.0.join("dead.sock")).is_ok());
        drop(socket);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let place = Place::new("file");
        fs::create_dir_all(&place.0).expect("a temporary folder");
        fs::write(place.socket(), "precious").expect("writable");
        let refused = ControlSocket::bind(&place.socket()).expect_err("it is no socket");
        assert_eq!(refused.code, 1);
        assert_eq!(fs::read(place.socket()).expect("still there"), b"precious");
    }

    #[test]
    fn names_make_file_names() {
        assert_eq!(default_path("nva-1"), Path::new("/run/nva/nva-1.sock"));
        assert_eq!(default_path("../a b/ü"), Path::new("/run/nva/.._a_b__.sock"));
    }

    #[test]
    fn lines_are_taken_apart_and_long_ones_refused() {
        let (mut near, mut far) = UnixStream::pair().expect("a pair");
        let mut unread = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        far.write_all(b"one\ntwo\nth").expect("room");
        assert_eq!(read_line(&mut near, &mut unread, deadline).expect("a line"), Some(b"one\n".to_vec()));
        assert_eq!(read_line(&mut near, &mut unread, deadline).expect("a line"), Some(b"two\n".to_vec()));
        far.write_all(&[b'x'; 8192]).expect("room");
        assert!(read_line(&mut near, &mut unread, deadline).is_err());
        let (mut near, far) = UnixStream::pair().expect("a pair");
        drop(far);
        assert_eq!(read_line(&mut near, &mut Vec::new(), deadline).expect("closed"), None);
        let (mut near, _far) = UnixStream::pair().expect("a pair");
        assert!(read_line(&mut near, &mut Vec::new(), Instant::now()).is_err(), "a slow client is cut off");
    }
}
