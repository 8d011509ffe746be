//! Small programs for the kernel, assembled here: no compiler, no object files, no library.
//!
//! [`Assembler`] makes instructions, [`Array`] is memory that a program and this process share, [`Sockets`] where it finds AF_XDP's
//! sockets, [`Program`] is what the kernel's verifier
//! has accepted. It never attaches anything: who loads a program knows where it belongs.

mod array;
mod assembler;
mod call;
mod program;
mod sockets;

pub(crate) use array::Array;
pub(crate) use assembler::{Alu, Assembler, Compare, Helper, Instruction, Register, Width};
pub(crate) use program::{Kind, Program};
pub(crate) use sockets::Sockets;
