//! The program at the interface, in the kernel's words: it gives each queue's frames to its socket, and drops those of a queue without one.

use crate::bpf::{Assembler, Helper, Instruction, Kind, Program, Register, Sockets, Width};
use std::io;

/// The name by which the program is known again: `bpftool prog show` and `ip -d link show` print it.
pub(super) const PROGRAM_NAME: &str = "nva_xdp";
/// The name of the map.
pub(super) const MAP_NAME: &str = "nva_sockets";

const XDP_DROP: i32 = 1;
/// Where `struct xdp_md` has the receive queue.
const RX_QUEUE_INDEX: i16 = 16;

/// Loads the program, which finds the sockets in `map`.
pub(super) fn program(map: &Sockets) -> io::Result<Program> {
    let broken = || io::Error::from(io::ErrorKind::InvalidInput);
    Program::load(Kind::Xdp, PROGRAM_NAME, &instructions(map).ok_or_else(broken)?)
}

/// `return bpf_redirect_map(map, context->rx_queue_index, XDP_DROP)`: to the queue's socket, or nowhere.
fn instructions(map: &Sockets) -> Option<Vec<Instruction>> {
    let mut program = Assembler::new();
    program.load(Width::Word, Register::R2, Register::R1, RX_QUEUE_INDEX);
    program.map(Register::R1, map);
    program.set(Register::R3, XDP_DROP);
    program.call(Helper::RedirectMap);
    program.exit();
    program.finish()
}
