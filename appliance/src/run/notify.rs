//! Tells the service manager how far it is, where one asked for it (`NOTIFY_SOCKET`, sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state such as `READY=1`. Without a service manager it does nothing.
///
/// # Errors
/// What the socket reports. The appliance forwards whether or not the service manager hears of it.
pub(crate) fn notify(state: &str) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(path) if !path.is_empty() => send(&path, state),
        _ => Ok(()),
    }
}

fn send(path: &OsStr, state: &str) -> io::Result<()> {
    // A leading @ stands for the abstract namespace.
    let address = match path.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_reach_an_abstract_socket() {
        let name = format!("nva-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let manager = UnixDatagram::bind_addr(&address).expect("a name of the test's own");
        send(OsStr::new(&format!("@{name}")), "READY=1").expect("somebody listens");
        let mut buffer = [0; 32];
        let len = manager.recv(&mut buffer).expect("a datagram waits");
        assert_eq!(&buffer[..len], b"READY=1");
    }

    #[test]
    fn a_manager_that_is_gone_is_an_error_and_no_more() {
        assert!(send(OsStr::new("/nonexistent/nva-notify"), "READY=1").is_err());
    }
}
