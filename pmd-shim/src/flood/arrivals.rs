//! The receiving end.

use super::STAMP_MAGIC;
use crate::af_packet::PacketSocket;
use crate::bpf::{Alu, Array, Assembler, Compare, Helper, Kind, Program, Register, Width};
use crate::kernel::DeviceError;
use crate::kernel::link::Link;
use core::sync::atomic::Ordering;
use std::os::fd::{AsFd, AsRawFd};

/// Nanoseconds in a bucket, as a power of two.
const BUCKET_BITS: i32 = 7;
/// Buckets; what takes longer (8.4 ms) is in the last.
const BUCKETS: usize = 1 << 16;

/// Takes the time from every stamped frame that an interface receives, and lets the kernel go on with it.
#[derive(Debug)]
pub struct Arrivals {
    shared: Array,
    _program: Program,
    _socket: PacketSocket,
}

/// How long frames were on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: Vec<u32>,
}

impl Arrivals {
    /// Begins to watch `device`, in the network namespace of the calling thread, for frames with a stamp at `stamp_at`.
    ///
    /// # Errors
    /// [`DeviceError`] when there is no such interface or the kernel refuses.
    pub fn new(device: &str, stamp_at: usize) -> Result<Self, DeviceError> {
        let failed =
            |call| move |error| DeviceError::call(device, call, error, "needs CAP_SYS_ADMIN and Linux 5.5");
        let shared = Array::new(BUCKETS * 4).map_err(failed("bpf(BPF_MAP_CREATE)"))?;
        let instructions = program(&shared, stamp_at).ok_or_else(|| {
            DeviceError::check(device, "the stamp's place is too far behind", "put it into the first 32 KiB")
        })?;
        let program = Program::load(Kind::SocketFilter, "nva_arrivals", &instructions)
            .map_err(failed("bpf(BPF_PROG_LOAD)"))?;
        let socket = PacketSocket::open(&Link::open(device)?)?;
        let descriptor = program.as_fd().as_raw_fd();
        socket.set(libc::SOL_SOCKET, libc::SO_ATTACH_BPF, &descriptor, "setsockopt(SO_ATTACH_BPF)")?;
        socket.bind(libc::ETH_P_ALL as u16)?;
        Ok(Self { shared, _program: program, _socket: socket })
    }

    /// What arrived since it was last asked.
    pub fn take(&self) -> Histogram {
        let take = |bucket| self.shared.word(bucket * 4).swap(0, Ordering::Relaxed);
        Histogram { buckets: (0..BUCKETS).map(take).collect() }
    }
}

impl Histogram {
    /// Frames in it.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|count| u64::from(*count)).sum()
    }

    /// So many nanoseconds, or less, this share of the frames took; `None` when there is none. Right to 64 ns; what took more than
    /// 8.4 ms counts as that.
    pub fn quantile_ns(&self, share: f64) -> Option<f64> {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        Some((bucket as f64 + 0.5) * f64::from(1u32 << BUCKET_BITS))
    }
}

/// Counts the age of a stamped frame, and keeps no byte of it.
fn program(shared: &Array, stamp_at: usize) -> Option<Vec<crate::bpf::Instruction>> {
    use Register::{R0, R1, R2, R3, R4, R6, R8, R10};
    let mut p = Assembler::new();
    let (end, early, within) = (p.label(), p.label(), p.label());
    p.copy(R6, R1);
    p.call(Helper::KtimeGetNs);
    p.copy(R8, R0);
    // The magic goes to 12 bytes below the end of the stack, the time behind it.
    p.copy(R1, R6);
    p.set(R2, i16::try_from(stamp_at).ok()?.into());
    p.copy(R3, R10);
    p.alu_value(Alu::Add, R3, -12);
    p.set(R4, 12);
    p.call(Helper::SkbLoadBytes);
    p.jump_if_value(Compare::NotEqual, R0, 0, end);
    p.load(Width::Word, R1, R10, -12);
    p.jump_if_value(Compare::NotEqual, R1, STAMP_MAGIC.cast_signed(), end);
    p.load(Width::Double, R2, R10, -8);
    p.jump_if(Compare::Greater, R2, R8, early);
    p.alu(Alu::Subtract, R8, R2);
    p.alu_value(Alu::ShiftRight, R8, BUCKET_BITS);
    p.jump_if_value(Compare::LessOrEqual, R8, BUCKETS as i32 - 1, within);
    p.set(R8, BUCKETS as i32 - 1);
    p.place(within);
    p.alu_value(Alu::ShiftLeft, R8, 2);
    p.address_of(R1, shared);
    p.alu(Alu::Add, R1, R8);
    p.load(Width::Word, R2, R1, 0);
    p.alu_value(Alu::Add, R2, 1);
    p.store(Width::Word, R1, 0, R2);
    p.place(early);
    p.place(end);
    p.set(R0, 0);
    p.exit();
    p.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_frames() {
        let mut buckets = vec![0; BUCKETS];
        buckets[10] = 98;
        buckets[100] = 1;
        buckets[BUCKETS - 1] = 1;
        let histogram = Histogram { buckets };
        assert_eq!(histogram.count(), 100);
        assert_eq!(histogram.quantile_ns(0.5), Some(10.5 * 128.0));
        assert_eq!(histogram.quantile_ns(0.98), Some(10.5 * 128.0));
        assert_eq!(histogram.quantile_ns(0.99), Some(100.5 * 128.0));
        assert_eq!(histogram.quantile_ns(1.0), Some((BUCKETS as f64 - 0.5) * 128.0));
        assert_eq!(Histogram { buckets: vec![0; BUCKETS] }.quantile_ns(0.5), None);
    }
}
