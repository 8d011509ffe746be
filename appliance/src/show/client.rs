//! The asking end of the control socket.

use crate::cli::InstanceArgs;
use crate::files::{self, Depth};
use crate::output::Failure;
use crate::run::protocol::{RESPONSE_MAX, Request, Response};
use crate::run::socket;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the appliance may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a running appliance.
#[derive(Debug)]
pub(crate) struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the appliance that the command line means: the one at `--socket`, that of `--config`, or the only one there is.
    ///
    /// # Errors
    /// A [`Failure`] that says what to do.
    pub(crate) fn find(args: &InstanceArgs) -> Result<Self, Failure> {
        if let Some(path) = &args.socket {
            return Self::connect(path);
        }
        if args.config.is_empty() {
            return Self::connect(&only_socket(Path::new(socket::DIRECTORY))?);
        }
        let config = files::load(&args.config, Depth::Alone).map_err(|all| Failure::configuration(&all))?;
        Self::connect(&socket::default_path(&config.name))
    }

    /// Connects to the appliance behind a socket.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1 that says what to do.
    pub(crate) fn connect(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            let shown = path.display();
            Failure::failed(match error.kind() {
                io::ErrorKind::NotFound => format!(
                    "no appliance has its control socket at {shown}; start one with `nva run`, or name its socket with --socket"
                ),
                io::ErrorKind::ConnectionRefused => {
                    format!("the appliance of {shown} is gone; start it again with `nva run`")
                }
                io::ErrorKind::PermissionDenied => {
                    format!("{shown}: only the user who runs the appliance may ask it; become that user")
                }
                _ => format!("{shown}: {error}"),
            })
        };
        let stream = UnixStream::connect(path).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the report.
    ///
    /// # Errors
    /// A [`Failure`] of exit code 1: the appliance is gone or slow, or says why it has no answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        let line = self.exchange(request);
        let shown = self.path.display();
        let line = line.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Failure::failed(format!("{shown}: no answer within {} s", PATIENCE.as_secs()))
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Failure::failed(format!("{shown}: the appliance has ended"))
            }
            _ => Failure::failed(format!("{shown}: {error}")),
        })?;
        match serde_json::from_slice(&line) {
            Ok(Response::Ok(report)) => Ok(report),
            Ok(Response::Error(what)) => Err(Failure::failed(format!("{shown}: {what}"))),
            Err(error) => Err(Failure::failed(format!(
                "{shown}: an answer that this version does not understand ({error}); ask with the `nva` that runs there"
            ))),
        }
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let mut answer = Vec::new();
        (&mut self.stream).take(RESPONSE_MAX).read_until(b'\n', &mut answer)?;
        match answer.last() {
            Some(b'\n') => Ok(answer),
            _ if answer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no end")),
        }
    }
}

/// The one socket in the directory on which an appliance answers.
fn only_socket(directory: &Path) -> Result<PathBuf, Failure> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Failure::failed(format!(
                "{}: only the user who runs the appliance may ask it; become that user",
                directory.display()
            )));
        }
        entries => entries.into_iter().flatten().flatten(),
    };
    let is_live = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "sock") && UnixStream::connect(path).is_ok()
    };
    let mut live: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_live).collect();
    live.sort();
    match live.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::failed(format!(
            "no appliance runs here that has its control socket under {}; start one with `nva run`, or name its socket with --socket",
            directory.display()
        ))),
        several => {
            let list: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            Err(Failure::usage(format!(
                "several appliances run here; choose one with --socket: {}",
                list.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::protocol::Rules;
    use std::os::unix::net::UnixListener;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("nva-show-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a folder in the temporary folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_only_live_socket_is_found_and_the_dead_are_passed_over() {
        let folder = Folder::new("only");
        let none = only_socket(&folder.0).expect_err("an empty folder");
        assert_eq!(none.code, 1);
        drop(UnixListener::bind(folder.0.join("dead.sock")).expect("a free path"));
        assert!(only_socket(&folder.0).is_err());
        let _one = UnixListener::bind(folder.0.join("a.sock")).expect("a free path");
        assert_eq!(only_socket(&folder.0), Ok(folder.0.join("a.sock")));
        let _two = UnixListener::bind(folder.0.join("b.sock")).expect("a free path");
        let several = only_socket(&folder.0).expect_err("two of them");
        assert!(several.code == 2 && several.lines[0].contains("b.sock"), "{several:?}");
    }

    /// Serves one connection with fixed answers.
    fn answering(
        folder: &Folder,
        answers: &'static [&'static str],
    ) -> (PathBuf, std::thread::JoinHandle<()>) {
        let path = folder.0.join("fixed.sock");
        let listener = UnixListener::bind(&path).expect("a free path");
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut lines = BufReader::new(&stream);
            for answer in answers {
                let mut line = String::new();
                lines.read_line(&mut line).expect("a request");
                (&stream).write_all(answer.as_bytes()).expect("the client listens");
            }
        });
        (path, server)
    }

    #[test]
    fn answers_errors_and_ends_are_told_apart() {
        let folder = Folder::new("answers");
        let answers = ["{\"ok\":{\"rules\":[]}}\n", "{\"error\":\"not now\"}\n", "{\"ok\":7}\n", "{\"ok\":"];
        let (path, server) = answering(&folder, Box::leak(Box::new(answers)));
        let mut client = Client::connect(&path).expect("a live socket");
        let mut ask = || client.ask::<Rules>(&Request::Rules {});
        assert_eq!(ask(), Ok(Rules { rules: Vec::new() }));
        for wanted in ["not now", "does not understand", "no end", "ended"] {
            let failure = ask().expect_err(wanted);
            assert!(failure.lines[0].contains(wanted), "{failure:?}");
        }
        server.join().expect("all requests came");
        let gone = Client::connect(&path).expect_err("nobody listens");
        assert!(gone.lines[0].contains("is gone"), "{gone:?}");
        let absent = Client::connect(&folder.0.join("absent")).expect_err("nothing there");
        assert!(absent.lines[0].contains("nva run"), "{absent:?}");
    }
}
