//! Which queue of a port a frame goes to.

use super::socket::PacketSocket;
use crate::kernel::DeviceError;
use std::os::raw::c_int;

/// One instruction of a classic BPF program (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BpfInstruction {
    /// Operation.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jump_true: u8,
    /// How many instructions to skip if it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// How frames are spread over the queues of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Steering {
    /// By the kernel's hash of addresses and ports: all frames of a connection meet in one queue, in both directions.
    #[default]
    Hash,
    /// By the result of a program, modulo the number of queues. Its plain offsets count from the network header, so that loads
    /// had better be relative to `SKF_NET_OFF` or `SKF_LL_OFF`.
    Program(Vec<BpfInstruction>),
}

/// Joins the sockets of a port, all bound, to one group.
pub(super) fn join(sockets: &[&PacketSocket], steering: &Steering) -> Result<(), DeviceError> {
    let Some((first, others)) = sockets.split_first() else { return Ok(()) };
    if others.is_empty() {
        return Ok(());
    }
    let kind = match steering {
        Steering::Hash => libc::PACKET_FANOUT_HASH,
        Steering::Program(_) => libc::PACKET_FANOUT_CBPF,
    };
    let join = |socket: &PacketSocket, id: u32, flags: u32| {
        let argument = id | (kind | flags) << 16;
        socket.set(libc::SOL_PACKET, libc::PACKET_FANOUT, &argument, "setsockopt(PACKET_FANOUT)")
    };
    // The kernel chooses a number that no other group of the namespace has.
    join(first, 0, libc::PACKET_FANOUT_FLAG_UNIQUEID)?;
    let group: c_int = first.get(libc::SOL_PACKET, libc::PACKET_FANOUT).map_err(|error| {
        DeviceError::call(first.device(), "getsockopt(PACKET_FANOUT)", error, "a newer kernel is needed")
    })?;
    for socket in others {
        join(socket, group.cast_unsigned() & 0xffff, 0)?;
    }
    let Steering::Program(program) = steering else { return Ok(()) };
    let mut program: Vec<libc::sock_filter> = program
        .iter()
        .map(|instruction| libc::sock_filter {
            code: instruction.code,
            jt: instruction.jump_true,
            jf: instruction.jump_false,
            k: instruction.operand,
        })
        .collect();
    let len = u16::try_from(program.len()).map_err(|_| {
        DeviceError::check(first.device(), "the steering program is too long", "report this as a bug")
    })?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    first.set(libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, &program, "setsockopt(PACKET_FANOUT_DATA)")
}
