//! The program at the interface and the map by which it finds the sockets, made with bpf(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Commands of bpf(2), and types of what they make (`linux/bpf.h`).
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;

/// The name by which the program is known again: `bpftool prog show` and `ip -d link show` print it.
pub(super) const PROGRAM_NAME: &str = "nva_xdp";
const MAP_NAME: &str = "nva_sockets";
const LICENSE: &core::ffi::CStr = c"Dual MIT/GPL";

/// Names are at most 15 bytes and a zero.
type Name = [u8; 16];

/// `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: Name,
}

/// `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: Name,
}

/// `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    flags: u32,
}

/// `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoByFd {
    fd: u32,
    bytes: u32,
    info: u64,
}

/// The first part of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    program_type: u32,
    id: u32,
    before_name: [u64; 7],
    name: Name,
}

fn name(text: &str) -> Name {
    let mut name = Name::default();
    for (to, from) in name.iter_mut().take(15).zip(text.bytes()) {
        *to = from;
    }
    name
}

fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: pointer and length are of one live structure, which is the beginning of the command's; the kernel takes the rest as zero.
    // Every pointer in it is to memory that the caller keeps for the call.
    let outcome = unsafe {
        libc::syscall(libc::SYS_bpf, command, core::ptr::from_mut(attributes), size_of::<T>() as libc::c_long)
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

fn call_for_fd<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// A map from queues to AF_XDP sockets.
pub(super) fn socket_map(queues: u32) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        map_type: MAP_TYPE_XSKMAP,
        key_bytes: 4,
        value_bytes: 4,
        entries_max: queues.max(1),
        name: name(MAP_NAME),
        ..MapCreate::default()
    };
    call_for_fd(MAP_CREATE, &mut attributes)
}

/// Has the frames of a queue go to a socket.
pub(super) fn set_socket(map: BorrowedFd<'_>, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let value = number(socket);
    let mut attributes = MapUpdate {
        map: number(map),
        padding: 0,
        key: (&raw const queue).expose_provenance() as u64,
        value: (&raw const value).expose_provenance() as u64,
        flags: 0,
    };
    call(MAP_UPDATE_ELEM, &mut attributes).map(drop)
}

/// One instruction (`struct bpf_insn`): code, destination and source register, offset, constant.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    constant: i32,
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, constant }
}

/// `return bpf_redirect_map(map, context->rx_queue_index, XDP_DROP)`: to the queue's socket, or nowhere.
fn instructions(map: BorrowedFd<'_>) -> [Instruction; 6] {
    const LOAD_WORD: u8 = 0x61;
    const LOAD_CONSTANT_64: u8 = 0x18;
    const SET: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const MAP_BY_FD: u8 = 1;
    const RX_QUEUE_INDEX: i16 = 16;
    const REDIRECT_MAP: i32 = 51;
    const XDP_DROP: i32 = 1;
    [
        instruction(LOAD_WORD, 2, 1, RX_QUEUE_INDEX, 0),
        instruction(LOAD_CONSTANT_64, 1, MAP_BY_FD, 0, map.as_raw_fd()),
        instruction(0, 0, 0, 0, 0),
        instruction(SET, 3, 0, 0, XDP_DROP),
        instruction(CALL, 0, 0, 0, REDIRECT_MAP),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// The program that gives each queue's frames to its socket in `map`, and drops those of a queue without one.
pub(super) fn program(map: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let instructions = instructions(map);
    let mut attributes = ProgramLoad {
        program_type: PROG_TYPE_XDP,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        name: name(PROGRAM_NAME),
        ..ProgramLoad::default()
    };
    call_for_fd(PROG_LOAD, &mut attributes)
}

/// A loaded program, by its number.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    call_for_fd(PROG_GET_FD_BY_ID, &mut ById { id, next_id: 0, flags: 0 })
}

/// A program's name; empty if it has none.
pub(super) fn program_name(program: BorrowedFd<'_>) -> io::Result<String> {
    let mut info = ProgramInfo::default();
    let mut attributes = InfoByFd {
        fd: number(program),
        bytes: size_of::<ProgramInfo>() as u32,
        info: (&raw mut info).expose_provenance() as u64,
    };
    call(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    let name = info.name.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_structures_are_the_kernels() {
        use core::mem::offset_of;
        assert_eq!((offset_of!(MapCreate, name), offset_of!(ProgramLoad, name)), (28, 48));
        assert_eq!((offset_of!(MapUpdate, key), offset_of!(InfoByFd, info)), (8, 8));
        assert_eq!(offset_of!(ProgramInfo, name), 64);
        assert_eq!(size_of::<Instruction>(), 8);
    }

    #[test]
    fn the_program_asks_for_the_queues_socket() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let [load, map, _, drop, call, exit] = instructions(file.as_fd());
        assert_eq!((load.code, load.registers, load.offset), (0x61, 0x12, 16));
        assert_eq!((map.code, map.registers, map.constant), (0x18, 0x11, file.as_raw_fd()));
        assert_eq!((drop.registers, drop.constant, call.constant, exit.code), (3, 1, 51, 0x95));
    }
}
