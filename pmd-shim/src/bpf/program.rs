//! A program that the kernel's verifier accepted.

use super::assembler::Instruction;
use super::call::{self, Attributes, Name, OBJ_GET_INFO_BY_FD, PROG_GET_FD_BY_ID, PROG_LOAD, PROG_TEST_RUN};
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a program is for (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sees the packets of a socket before it queues them.
    SocketFilter = 1,
    /// Sees frames before the kernel makes packets of them.
    Xdp = 6,
}

#[derive(Debug)]
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: Name,
}

// SAFETY: the first members as in the header, without padding; `Program::load` fills in the addresses with their lengths.
unsafe impl Attributes for ProgLoad {
    const COMMAND: libc::c_long = PROG_LOAD;
}

#[derive(Debug)]
#[repr(C)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

// SAFETY: the members as in the header, with its padding; `Program::run_live` fills in the one address with its length.
unsafe impl Attributes for TestRun {
    const COMMAND: libc::c_long = PROG_TEST_RUN;
}

#[derive(Debug)]
#[repr(C)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

// SAFETY: three words as in the header; no addresses.
unsafe impl Attributes for ById {
    const COMMAND: libc::c_long = PROG_GET_FD_BY_ID;
}

#[derive(Debug)]
#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

// SAFETY: the members as in the header, without padding; `Program::name` fills in the address with its length.
unsafe impl Attributes for InfoByFd {
    const COMMAND: libc::c_long = OBJ_GET_INFO_BY_FD;
}

/// The first part of `struct bpf_prog_info`.
#[derive(Debug, Default)]
#[repr(C)]
struct Info {
    program_type: u32,
    id: u32,
    before_name: [u64; 7],
    name: Name,
}

/// Frames that a program redirects are sent.
const LIVE_FRAMES: u32 = 1 << 1;
/// Longest text of the verifier that is kept.
const LOG_BYTES: usize = 64 * 1024;
/// Helpers that need it are used by programs under this licence only.
const LICENSE: &[u8] = b"Dual MIT/GPL\0";

/// A loaded program.
#[derive(Debug)]
pub(crate) struct Program {
    descriptor: OwnedFd,
}

impl Program {
    /// Has the kernel check and load a program, under a name of at most 15 bytes.
    ///
    /// # Errors
    /// What the kernel says, with the verifier's last line when it is its fault.
    pub(crate) fn load(kind: Kind, name: &str, instructions: &[Instruction]) -> io::Result<Self> {
        let mut log = vec![0u8; LOG_BYTES];
        let descriptor = call::open(&mut ProgLoad {
            prog_type: kind as u32,
            insn_cnt: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
            insns: instructions.as_ptr().addr() as u64,
            license: LICENSE.as_ptr().addr() as u64,
            log_level: 1,
            log_size: LOG_BYTES as u32,
            log_buf: log.as_mut_ptr().expose_provenance() as u64,
            kern_version: 0,
            prog_flags: 0,
            prog_name: call::name(name),
        });
        descriptor.map(|descriptor| Self { descriptor }).map_err(|error| {
            let text = String::from_utf8_lossy(&log);
            let said = text.trim_end_matches('\0').lines().rev().find(|line| !line.starts_with("processed"));
            match said {
                Some(said) if !said.is_empty() => io::Error::new(error.kind(), format!("{error}: {said}")),
                _ => error,
            }
        })
    }

    /// The program of this number, which somebody else may have loaded.
    ///
    /// # Errors
    /// What the kernel says: no such program, no privilege.
    pub(crate) fn by_id(id: u32) -> io::Result<Self> {
        let descriptor = call::open(&mut ById { prog_id: id, next_id: 0, open_flags: 0 })?;
        Ok(Self { descriptor })
    }

    /// Its name; empty if it has none.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn name(&self) -> io::Result<String> {
        let mut info = Info::default();
        call::bpf(&mut InfoByFd {
            bpf_fd: self.descriptor.as_raw_fd().cast_unsigned(),
            info_len: size_of::<Info>() as u32,
            info: (&raw mut info).expose_provenance() as u64,
        })?;
        Ok(call::text(&info.name))
    }

    /// Runs an XDP program `repeat` times on copies of `frame`, `batch` of them at once, on the calling thread; what it redirects is sent.
    ///
    /// # Errors
    /// What the kernel says: `EINTR` when a signal came.
    pub(crate) fn run_live(&self, frame: &[u8], repeat: u32, batch: u32) -> io::Result<()> {
        call::bpf(&mut TestRun {
            prog_fd: self.descriptor.as_raw_fd().cast_unsigned(),
            retval: 0,
            data_size_in: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            data_size_out: 0,
            data_in: frame.as_ptr().addr() as u64,
            data_out: 0,
            repeat,
            duration: 0,
            ctx_size_in: 0,
            ctx_size_out: 0,
            ctx_in: 0,
            ctx_out: 0,
            flags: LIVE_FRAMES,
            cpu: 0,
            batch_size: batch,
            padding: 0,
        })
        .map(|_| ())
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_are_the_kernels() {
        use core::mem::offset_of;
        assert_eq!((offset_of!(ProgLoad, prog_name), offset_of!(Info, name)), (48, 64));
        assert_eq!((offset_of!(InfoByFd, info), size_of::<Instruction>()), (8, 8));
    }
}
