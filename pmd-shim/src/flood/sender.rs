//! The sending end.

use super::pace::{FRACTION_BITS, Pace};
use super::{STAMP_BYTES, STAMP_MAGIC};
use crate::bpf::{Alu, Array, Assembler, Compare, Helper, Kind, Program, Register, Width};
use crate::kernel::DeviceError;
use crate::kernel::link::Link;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::io;
use std::time::{Duration, Instant};

// What the program and this process share: words of 8 bytes, then the packets.
const INTERVAL: i16 = 0;
const LAG_MAX: i16 = 8;
const DUE: i16 = 16;
const SENT: i16 = 24;
const LEFT_OUT: i16 = 32;
const TABLE: usize = 64;

/// Longest packet, of which each byte is written by the program.
const PACKET_MAX: usize = 256;
/// Frames that the kernel keeps in flight and sends at once.
const BATCH: u32 = 32;
/// How long a sender may take to notice that it is to stop.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Frames at a given rate, out of one interface.
#[derive(Debug)]
pub struct Flood {
    device: String,
    shared: Array,
    program: Program,
    frame: Vec<u8>,
    stopping: AtomicBool,
    /// The thread that is sending; 0 when none is.
    sender: AtomicI32,
}

/// What a flood did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FloodCounts {
    /// Frames given to the interface.
    pub sent: u64,
    /// Frames not sent because the sender itself was held up for too long.
    pub left_out: u64,
}

impl Flood {
    /// Prepares to send `packets` in turn out of `device`, paused. They are of one length, filled up with zeros to `frame_len`; each has
    /// room for a stamp ([`STAMP_BYTES`]) at `stamp_at`, if one is asked for, which is not covered by a checksum.
    ///
    /// Call it, and [`send`](Self::send), in the interface's network namespace. The other end of a veth needs NAPI: receive offload (GRO)
    /// switched on, or an XDP program.
    ///
    /// # Errors
    /// [`DeviceError`] when there is no such interface, the packets are not such, or the kernel refuses.
    pub fn new(
        device: &str,
        packets: &[Vec<u8>],
        frame_len: usize,
        stamp_at: Option<usize>,
    ) -> Result<Self, DeviceError> {
        let link = Link::open(device)?;
        let unusable = |why| DeviceError::check(device, why, "give other packets");
        let first = packets.first().ok_or_else(|| unusable("there is no packet to send"))?;
        let written = stamp_at.map_or(first.len(), |at| first.len().max(at + STAMP_BYTES));
        let len = written.next_multiple_of(8);
        if packets.iter().any(|packet| packet.len() != first.len()) || len > PACKET_MAX {
            return Err(unusable("packets are of one length, at most 256 bytes"));
        }
        let stride = len.next_power_of_two();
        let count = packets.len().next_power_of_two();
        let failed = |call: &'static str| {
            let remedy = "needs CAP_SYS_ADMIN and Linux 5.18";
            move |error: io::Error| DeviceError::call(device, call, error, remedy)
        };
        let mut shared = Array::new(TABLE + count * stride).map_err(failed("bpf(BPF_MAP_CREATE)"))?;
        let (_, table) = shared.bytes_mut().split_at_mut(TABLE);
        for (slot, packet) in table.chunks_exact_mut(stride).zip(packets.iter().cycle()).take(count) {
            slot[..packet.len()].copy_from_slice(packet);
            if let Some(magic) = stamp_at.and_then(|at| slot.get_mut(at..at + 4)) {
                magic.copy_from_slice(&STAMP_MAGIC.to_ne_bytes());
            }
        }
        let layout = Layout { len, stride, count, stamp_at, ifindex: link.ifindex() };
        let instructions = layout.program(&shared).ok_or_else(|| unusable("the program is too long"))?;
        let program =
            Program::load(Kind::Xdp, "nva_sender", &instructions).map_err(failed("bpf(BPF_PROG_LOAD)"))?;
        Ok(Self {
            device: device.to_owned(),
            shared,
            program,
            frame: vec![0; frame_len.max(len)],
            stopping: AtomicBool::new(false),
            sender: AtomicI32::new(0),
        })
    }

    /// Sends on the calling thread, at whatever rate is set meanwhile, until [`stop`](Self::stop) is called. It spins also while paused.
    ///
    /// # Errors
    /// [`DeviceError`] when the kernel does not run the program.
    pub fn send(&self) -> Result<(), DeviceError> {
        catch_nothing(&self.device)?;
        // SAFETY: takes no arguments.
        self.sender.store(unsafe { libc::gettid() }, Ordering::SeqCst);
        let outcome = loop {
            if self.stopping.load(Ordering::SeqCst) {
                break Ok(());
            }
            match self.program.run_live(&self.frame, u32::MAX, BATCH) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    let remedy = "needs Linux 5.18";
                    break Err(DeviceError::call(&self.device, "bpf(BPF_PROG_TEST_RUN)", error, remedy));
                }
                _ => {}
            }
        };
        self.sender.store(0, Ordering::SeqCst);
        self.stopping.store(false, Ordering::SeqCst);
        outcome
    }

    /// Has [`send`](Self::send) return, and waits for it, at most two seconds; whether it has. A `send` that has not yet begun returns at
    /// once when it does.
    pub fn stop(&self) -> bool {
        self.stopping.store(true, Ordering::SeqCst);
        let end = Instant::now() + STOP_WITHIN;
        while Instant::now() < end {
            let sender = self.sender.load(Ordering::SeqCst);
            if sender == 0 {
                return true;
            }
            // SAFETY: takes no pointers. The thread is one of this process's while `sender` names it, or was a moment ago; the signal is one
            // that `catch_nothing` has given a handler that does nothing.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), sender, WAKE) };
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// Sends nothing from now on.
    pub fn pause(&self) {
        self.pace(Pace::PAUSE);
    }

    /// Sends as fast as it can from now on.
    pub fn full(&self) {
        self.pace(Pace::FULL);
    }

    /// Sends so many frames a second from now on.
    pub fn rate(&self, frames_per_second: f64) {
        self.pace(Pace::per_second(frames_per_second));
    }

    fn pace(&self, pace: Pace) {
        let word = |offset: i16| self.shared.double(offset as usize);
        // Paused while the other words change; the program reads them anew for each frame.
        word(INTERVAL).store(0, Ordering::SeqCst);
        word(LAG_MAX).store(pace.lag_max, Ordering::SeqCst);
        word(DUE).store(monotonic_ns() << FRACTION_BITS, Ordering::SeqCst);
        word(INTERVAL).store(pace.interval, Ordering::SeqCst);
    }

    /// What it did so far.
    pub fn counts(&self) -> FloodCounts {
        let word = |offset: i16| self.shared.double(offset as usize).load(Ordering::Relaxed);
        FloodCounts { sent: word(SENT), left_out: word(LEFT_OUT) }
    }
}

/// The signal that ends the program's run: one that nothing else here uses.
const WAKE: libc::c_int = libc::SIGURG;

/// Has [`WAKE`] interrupt system calls and do nothing else.
fn catch_nothing(device: &str) -> Result<(), DeviceError> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: a structure of integers and an address, for which zero is a value.
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: the handler is a function of the signature that goes without SA_SIGINFO, and does nothing.
    if unsafe { libc::sigaction(WAKE, &action, core::ptr::null_mut()) } < 0 {
        let error = io::Error::last_os_error();
        return Err(DeviceError::call(device, "sigaction(SIGURG)", error, "report this as a bug"));
    }
    Ok(())
}

/// The clock that the program reads.
fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: points to one live, writable structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Where things are, for the program.
struct Layout {
    /// Bytes written into each frame, a multiple of 8.
    len: usize,
    /// From one packet of the table to the next, a power of two.
    stride: usize,
    /// Packets in the table, a power of two.
    count: usize,
    stamp_at: Option<usize>,
    ifindex: i32,
}

impl Layout {
    /// Sends the next packet if it is due, and else drops the frame.
    fn program(&self, shared: &Array) -> Option<Vec<crate::bpf::Instruction>> {
        use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9};
        let mut p = Assembler::new();
        let (skip, due) = (p.label(), p.label());
        // R6: the frame's context; R7: the shared memory; R8: the interval; R9: when this frame is due.
        p.copy(R6, R1);
        p.address_of(R7, shared);
        p.load(Width::Double, R8, R7, INTERVAL);
        p.jump_if_value(Compare::Equal, R8, 0, skip);
        p.call(Helper::KtimeGetNs);
        p.alu_value(Alu::ShiftLeft, R0, FRACTION_BITS);
        p.load(Width::Double, R9, R7, DUE);
        p.jump_if(Compare::Greater, R9, R0, skip);
        // Too late to catch up with: what is left out is counted once for each gap, and the next is due now.
        p.copy(R1, R0);
        p.alu(Alu::Subtract, R1, R9);
        p.load(Width::Double, R2, R7, LAG_MAX);
        p.jump_if(Compare::LessOrEqual, R1, R2, due);
        p.copy(R9, R0);
        p.load(Width::Double, R1, R7, LEFT_OUT);
        p.alu_value(Alu::Add, R1, 1);
        p.store(Width::Double, R7, LEFT_OUT, R1);
        p.place(due);
        p.load(Width::Word, R2, R6, 0);
        p.load(Width::Word, R3, R6, 4);
        p.copy(R4, R2);
        p.alu_value(Alu::Add, R4, self.len as i32);
        p.jump_if(Compare::Greater, R4, R3, skip);
        p.alu(Alu::Add, R8, R9);
        p.store(Width::Double, R7, DUE, R8);
        p.load(Width::Double, R5, R7, SENT);
        p.copy(R4, R5);
        p.alu_value(Alu::Add, R4, 1);
        p.store(Width::Double, R7, SENT, R4);
        p.alu_value(Alu::And, R5, i32::try_from(self.count - 1).ok()?);
        p.alu_value(Alu::ShiftLeft, R5, self.stride.trailing_zeros() as i32);
        p.alu(Alu::Add, R7, R5);
        for at in (0..self.len).step_by(8) {
            p.load(Width::Double, R4, R7, (TABLE + at) as i16);
            p.store(Width::Double, R2, at as i16, R4);
        }
        if let Some(at) = self.stamp_at {
            p.alu_value(Alu::ShiftRight, R9, FRACTION_BITS);
            p.store(Width::Double, R2, (at + 4) as i16, R9);
        }
        p.set(R1, self.ifindex);
        p.set(R2, 0);
        p.call(Helper::Redirect);
        p.exit();
        p.place(skip);
        p.set(R0, DROP);
        p.exit();
        p.finish()
    }
}

/// `XDP_DROP`.
const DROP: i32 = 1;
