//! A few requests to the kernel's routing netlink (RFC 3549), each answered before the next.

use core::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// The attribute of an error message that says why (`NLMSGERR_ATTR_MSG`).
const REASON: u16 = 1;
/// Large enough for any part of a dump: the kernel never sends more than 32 KiB at a time.
const REPLY_MAX: usize = 32 * 1024;

/// A request in the making: a fixed part and attributes behind it.
#[derive(Debug, Default)]
pub(crate) struct Message {
    body: Vec<u8>,
}

impl Message {
    /// A message that starts with these bytes of fixed part.
    pub(crate) fn new(fixed: &[u8]) -> Self {
        let mut message = Self::default();
        message.append(fixed);
        message
    }

    fn append(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    /// Adds an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        // Values are a handful of bytes, so the length fits.
        let len = (ATTRIBUTE_HEADER + value.len()) as u16;
        let mut header = [0; ATTRIBUTE_HEADER];
        header[..2].copy_from_slice(&len.to_ne_bytes());
        header[2..].copy_from_slice(&kind.to_ne_bytes());
        self.append(&header);
        self.append(value);
        self
    }

    /// Adds an attribute that consists of attributes.
    pub(crate) fn nested(self, kind: u16, attributes: Self) -> Self {
        self.attribute(kind, &attributes.body)
    }

    fn with_header(&self, message_type: u16, flags: u16) -> Vec<u8> {
        let len = (HEADER + self.body.len()) as u32;
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend_from_slice(&len.to_ne_bytes());
        bytes.extend_from_slice(&message_type.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        // Sequence number and port; with one request at a time the replies need no telling apart.
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// The value of the first attribute of this kind.
pub(crate) fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some([len0, len1, kind0, kind1]) = attributes.first_chunk::<4>().copied() {
        let len = usize::from(u16::from_ne_bytes([len0, len1]));
        let value = attributes.get(ATTRIBUTE_HEADER..len)?;
        // The two top bits are flags.
        if u16::from_ne_bytes([kind0, kind1]) & 0x3fff == kind {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

/// A socket to the kernel's routing subsystem, in the calling thread's network namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    pub(crate) fn open() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Asks for a change and waits for its outcome.
    pub(crate) fn change(&self, message_type: u16, flags: libc::c_int, message: &Message) -> io::Result<()> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        self.exchange(&message.with_header(message_type, flags), |_| {})
    }

    /// Asks for one thing; `each` gets the part of the answer behind the header.
    #[cfg(feature = "af_xdp")]
    pub(crate) fn get(
        &self,
        message_type: u16,
        message: &Message,
        each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        self.exchange(&message.with_header(message_type, flags), each)
    }

    /// From here on refusals come with the kernel's own words, where it has some.
    #[cfg(feature = "af_xdp")]
    pub(crate) fn ask_for_reasons(&self) {
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let on: libc::c_int = 1;
            // SAFETY: pointer and length are of one live integer. Where the kernel does not know the option, refusals stay numbers.
            unsafe {
                libc::setsockopt(
                    self.socket.as_raw_fd(),
                    libc::SOL_NETLINK,
                    option,
                    core::ptr::from_ref(&on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                );
            }
        }
    }

    /// Asks for a list; `each` gets the part of each entry behind the header.
    pub(crate) fn dump(
        &self,
        message_type: u16,
        message: &Message,
        each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        self.exchange(&message.with_header(message_type, flags), each)
    }

    fn exchange(&self, request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        // SAFETY: pointer and length are of one live slice.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut reply = vec![0; REPLY_MAX];
        loop {
            // SAFETY: pointer and length are of one live, writable slice.
            let count =
                unsafe { libc::recv(self.socket.as_raw_fd(), reply.as_mut_ptr().cast(), reply.len(), 0) };
            let Ok(count) = usize::try_from(count) else {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            };
            let mut messages = reply.get(..count).unwrap_or_default();
            if messages.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            while let Some((message_type, body, rest)) = split(messages) {
                messages = rest;
                match libc::c_int::from(message_type) {
                    libc::NLMSG_ERROR => return outcome(body),
                    libc::NLMSG_DONE => return Ok(()),
                    _ => each(body),
                }
            }
        }
    }
}

/// The first message: its type, what is behind its header, and the messages behind it.
fn split(messages: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let [len0, len1, len2, len3, type0, type1] = messages.first_chunk::<6>().copied()?;
    let len = u32::from_ne_bytes([len0, len1, len2, len3]) as usize;
    let body = messages.get(HEADER..len)?;
    let rest = messages.get(len.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes([type0, type1]), body, rest))
}

/// What an error message says; number 0 acknowledges.
fn outcome(body: &[u8]) -> io::Result<()> {
    let Some((number, rest)) = body.split_first_chunk::<4>() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let error = match i32::from_ne_bytes(*number) {
        0 => return Ok(()),
        number => io::Error::from_raw_os_error(-number),
    };
    // Behind the header of the refused message, which is there only if it was asked for.
    let reason = rest.get(HEADER..).and_then(|attributes| attribute(attributes, REASON));
    Err(match reason.and_then(|reason| str::from_utf8(reason.trim_ascii_end()).ok()) {
        Some(reason) => {
            io::Error::new(error.kind(), Refusal { reason: reason.trim_end_matches('\0').into(), error })
        }
        None => error,
    })
}

/// A refusal with the kernel's own words.
#[derive(Debug)]
struct Refusal {
    error: io::Error,
    reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.error, self.reason)
    }
}

impl core::error::Error for Refusal {}

/// The number of an error, also of one that came with a reason.
#[cfg(feature = "af_xdp")]
pub(crate) fn errno(error: &io::Error) -> Option<i32> {
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>());
    refusal.map_or(error, |refusal| &refusal.error).raw_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_again_and_wrong_lengths_are_harmless() {
        let inner = Message::default().attribute(5, b"abc").attribute(6, &[]);
        let message = Message::new(&[1, 2, 3, 4]).attribute(1, b"kind\0").nested(2, inner);
        let attributes = &message.body[4..];
        assert_eq!(attribute(attributes, 1), Some(&b"kind\0"[..]));
        let nested = attribute(attributes, 2).unwrap();
        assert_eq!((attribute(nested, 5), attribute(nested, 6)), (Some(&b"abc"[..]), Some(&b""[..])));
        assert_eq!(attribute(attributes, 3), None);
        for cut in 0..attributes.len() {
            attribute(&attributes[..cut], 9);
        }
        assert_eq!(attribute(&[0; 16], 9), None, "an attribute without length ends the search");
    }
}
