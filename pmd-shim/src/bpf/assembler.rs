//! Instructions of the kernel's virtual machine (RFC 9669), with labels in place of distances.

use super::{Array, Sockets};

/// A register: R0 is a call's result, R1 to R5 its arguments and lost by it, R6 to R9 are kept, R10 points behind the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How many bytes are loaded or stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// 4 bytes.
    Word = 0x00,
    /// 8 bytes.
    Double = 0x18,
}

/// Arithmetic on 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Add = 0x00,
    Subtract = 0x10,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Move = 0xb0,
}

/// Comparisons of 64 bits, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal = 0x10,
    Greater = 0x20,
    NotEqual = 0x50,
    LessOrEqual = 0xb0,
}

/// Functions of the kernel (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Helper {
    /// The monotonic clock, in nanoseconds.
    KtimeGetNs = 5,
    /// Sends the frame out of interface R1, with flags R2; gives the verdict to return.
    Redirect = 23,
    /// Copies R4 bytes at offset R2 of the packet to R3; gives 0.
    SkbLoadBytes = 26,
    /// Sends the frame to what is at place R2 of the map R1; gives the verdict to return, which is R3 where nothing is.
    RedirectMap = 51,
}

const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const LOAD_IMMEDIATE: u8 = 0x18;
const ALU64: u8 = 0x07;
const JUMP: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The operand is a register.
const BY_REGISTER: u8 = 0x08;
/// The immediate is the descriptor of a map.
const MAP: u8 = 1;
/// The same, and the address of its value is meant.
const MAP_VALUE: u8 = 2;

/// A place in the program that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// One instruction (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A program in the making.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    instructions: Vec<Instruction>,
    /// Jumps, and where they lead.
    jumps: Vec<(usize, Label)>,
    /// Where the labels are.
    places: Vec<Option<usize>>,
}

impl Assembler {
    /// An empty program.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, code: u8, dst: Register, src: u8, offset: i16, immediate: i32) {
        let registers = dst as u8 | src << 4;
        self.instructions.push(Instruction { code, registers, offset, immediate });
    }

    /// `dst = dst OP src`.
    pub(crate) fn alu(&mut self, alu: Alu, dst: Register, src: Register) {
        self.push(ALU64 | BY_REGISTER | alu as u8, dst, src as u8, 0, 0);
    }

    /// `dst = dst OP value`.
    pub(crate) fn alu_value(&mut self, alu: Alu, dst: Register, value: i32) {
        self.push(ALU64 | alu as u8, dst, 0, 0, value);
    }

    /// `dst = src`.
    pub(crate) fn copy(&mut self, dst: Register, src: Register) {
        self.alu(Alu::Move, dst, src);
    }

    /// `dst = value`.
    pub(crate) fn set(&mut self, dst: Register, value: i32) {
        self.alu_value(Alu::Move, dst, value);
    }

    /// `dst =` the address of the array's memory.
    pub(crate) fn address_of(&mut self, dst: Register, array: &Array) {
        self.load_map(dst, MAP_VALUE, array.descriptor());
    }

    /// `dst =` the map, for a function of the kernel.
    pub(crate) fn map(&mut self, dst: Register, map: &Sockets) {
        self.load_map(dst, MAP, map.descriptor());
    }

    fn load_map(&mut self, dst: Register, what: u8, descriptor: i32) {
        self.push(LOAD_IMMEDIATE, dst, what, 0, descriptor);
        // The second half holds the offset into the value.
        self.push(0, Register::R0, 0, 0, 0);
    }

    /// `dst = *(from + offset)`.
    pub(crate) fn load(&mut self, width: Width, dst: Register, from: Register, offset: i16) {
        self.push(LOAD | width as u8, dst, from as u8, offset, 0);
    }

    /// `*(to + offset) = src`.
    pub(crate) fn store(&mut self, width: Width, to: Register, offset: i16, src: Register) {
        self.push(STORE | width as u8, to, src as u8, offset, 0);
    }

    /// Calls a function of the kernel.
    pub(crate) fn call(&mut self, helper: Helper) {
        self.push(CALL, Register::R0, 0, 0, helper as i32);
    }

    /// Ends the program with R0.
    pub(crate) fn exit(&mut self) {
        self.push(EXIT, Register::R0, 0, 0, 0);
    }

    /// A label, to be placed later.
    pub(crate) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The label stands here.
    pub(crate) fn place(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = Some(self.instructions.len());
        }
    }

    /// Goes on at the label if `left COMPARE right`.
    pub(crate) fn jump_if(&mut self, compare: Compare, left: Register, right: Register, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(JUMP | BY_REGISTER | compare as u8, left, right as u8, 0, 0);
    }

    /// Goes on at the label if `left COMPARE value`.
    pub(crate) fn jump_if_value(&mut self, compare: Compare, left: Register, value: i32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(JUMP | compare as u8, left, 0, 0, value);
    }

    /// The program, every jump with its distance; `None` where a label was not placed or is too far.
    pub(crate) fn finish(mut self) -> Option<Vec<Instruction>> {
        for (from, label) in self.jumps {
            let to = (*self.places.get(label.0)?)?;
            let distance = to as i64 - from as i64 - 1;
            self.instructions.get_mut(from)?.offset = i16::try_from(distance).ok()?;
        }
        Some(self.instructions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel reads it.
    fn bytes(instruction: Instruction) -> [u8; 8] {
        let [o0, o1] = instruction.offset.to_le_bytes();
        let [i0, i1, i2, i3] = instruction.immediate.to_le_bytes();
        [instruction.code, instruction.registers, o0, o1, i0, i1, i2, i3]
    }

    #[test]
    fn instructions_are_as_rfc_9669_has_them() {
        let mut program = Assembler::new();
        let end = program.label();
        program.copy(Register::R6, Register::R1);
        program.set(Register::R0, -1);
        program.load(Width::Double, Register::R2, Register::R6, 8);
        program.store(Width::Word, Register::R10, -4, Register::R2);
        program.alu_value(Alu::ShiftRight, Register::R2, 7);
        program.jump_if_value(Compare::Equal, Register::R2, 0, end);
        program.jump_if(Compare::LessOrEqual, Register::R3, Register::R4, end);
        program.call(Helper::KtimeGetNs);
        program.place(end);
        program.exit();
        let made: Vec<[u8; 8]> = program.finish().unwrap().into_iter().map(bytes).collect();
        let wanted = [
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0xb7, 0x00, 0, 0, 0xff, 0xff, 0xff, 0xff],
            [0x79, 0x62, 8, 0, 0, 0, 0, 0],
            [0x63, 0x2a, 0xfc, 0xff, 0, 0, 0, 0],
            [0x77, 0x02, 0, 0, 7, 0, 0, 0],
            [0x15, 0x02, 2, 0, 0, 0, 0, 0],
            [0xbd, 0x43, 1, 0, 0, 0, 0, 0],
            [0x85, 0x00, 0, 0, 5, 0, 0, 0],
            [0x95, 0x00, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(made, wanted);
    }

    #[test]
    fn a_label_that_stands_nowhere_is_no_program() {
        let mut program = Assembler::new();
        let nowhere = program.label();
        program.jump_if_value(Compare::Equal, Register::R0, 0, nowhere);
        assert_eq!(program.finish(), None);
    }
}
