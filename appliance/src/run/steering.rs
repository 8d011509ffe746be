//! The program by which the kernel spreads a port's frames over the workers, in classic BPF.
//!
//! It computes [`Placement::worker_of`] of the address at the outer end: the source on untrusted ports, the destination on trusted ones.
//! What has no such address, and neighbour discovery with it, goes to the first worker. A frame that comes to another worker than
//! the one it belongs to is handed over there, so that this is for speed and not for correctness.

use nva_config::Trust;
use nva_dataplane::placement::{LAST_MULTIPLIER, LAST_SHIFT, Placement, WORD_MULTIPLIER, WORD_SHIFT};
use pmd_shim::af_packet::{BpfInstruction, Steering};

// linux/bpf_common.h and linux/filter.h.
const LD_W_ABS: u16 = 0x20;
const LD_B_ABS: u16 = 0x30;
const TAX: u16 = 0x07;
const XOR_K: u16 = 0xa4;
const XOR_X: u16 = 0xac;
const MUL_K: u16 = 0x24;
const RSH_K: u16 = 0x74;
const MOD_K: u16 = 0x94;
const JEQ_K: u16 = 0x15;
const JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;
const RET_A: u16 = 0x16;
/// Loads count from the network header, wherever the kernel has the frame begin here.
const NET_OFF: u32 = -0x10_0000_i32 as u32;
/// Loads the EtherType behind any VLAN tag that stands beside the frame.
const PROTOCOL: u32 = -0x1000_i32 as u32;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const ICMPV6: u32 = 58;
/// Router solicitation to redirect (RFC 4861).
const DISCOVERY: std::ops::RangeInclusive<u32> = 133..=137;

/// How a port of this trust is steered. `any` is the placement of any of the workers.
pub(super) fn steering(trust: Trust, any: &Placement) -> Steering {
    Steering::Program(program(trust, any))
}

fn program(trust: Trust, any: &Placement) -> Vec<BpfInstruction> {
    let at_source = trust == Trust::Untrusted;
    let v4 = hash(any, &[if at_source { 12 } else { 16 }]);
    let start = if at_source { 8 } else { 24 };
    let v6 = hash(any, &[start, start + 4, start + 8, start + 12]);
    let mut program = vec![plain(LD_W_ABS, PROTOCOL), jump(JEQ_K, IPV4, 0, v4.len() as u8)];
    program.extend(v4);
    program.extend([
        jump(JEQ_K, IPV6, 1, 0),
        plain(RET_K, 0),
        plain(LD_B_ABS, NET_OFF.wrapping_add(6)),
        jump(JEQ_K, ICMPV6, 0, 4),
        plain(LD_B_ABS, NET_OFF.wrapping_add(40)),
        jump(JGE_K, *DISCOVERY.start(), 0, 2),
        jump(JGE_K, *DISCOVERY.end() + 1, 1, 0),
        plain(RET_K, 0),
    ]);
    program.extend(v6);
    program
}

/// Hashes the words at these offsets from the network header, and returns the worker.
fn hash(any: &Placement, words: &[u32]) -> Vec<BpfInstruction> {
    let mut program = Vec::new();
    for (number, offset) in words.iter().enumerate() {
        let load = plain(LD_W_ABS, NET_OFF.wrapping_add(*offset));
        if number == 0 {
            program.extend([load, plain(XOR_K, any.secret())]);
        } else {
            program.extend([plain(TAX, 0), load, plain(XOR_X, 0)]);
        }
        program.extend(mix(WORD_MULTIPLIER, WORD_SHIFT));
    }
    program.extend(mix(LAST_MULTIPLIER, LAST_SHIFT));
    let workers = u32::try_from(any.count()).unwrap_or(u32::MAX);
    program.extend([plain(MOD_K, workers), plain(RET_A, 0)]);
    program
}

fn mix(multiplier: u32, shift: u32) -> [BpfInstruction; 4] {
    [plain(MUL_K, multiplier), plain(TAX, 0), plain(RSH_K, shift), plain(XOR_X, 0)]
}

fn plain(code: u16, operand: u32) -> BpfInstruction {
    BpfInstruction { code, jump_true: 0, jump_false: 0, operand }
}

/// Each way skips so many instructions; the blocks here are some dozen long.
fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> BpfInstruction {
    BpfInstruction { code, jump_true, jump_false, operand }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nva_dataplane::addr::Addr;

    /// What the kernel makes of a program: `None` where a load is beyond the packet, which the kernel takes as 0.
    fn run(program: &[BpfInstruction], protocol: u32, packet: &[u8]) -> Option<u32> {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0);
        loop {
            let BpfInstruction { code, jump_true, jump_false, operand } = program[at];
            at += 1;
            let place = operand.wrapping_sub(NET_OFF) as usize;
            match code {
                LD_W_ABS if operand == PROTOCOL => a = protocol,
                LD_W_ABS => a = u32::from_be_bytes(packet.get(place..place + 4)?.try_into().ok()?),
                LD_B_ABS => a = (*packet.get(place)?).into(),
                TAX => x = a,
                XOR_K => a ^= operand,
                XOR_X => a ^= x,
                MUL_K => a = a.wrapping_mul(operand),
                RSH_K => a >>= operand,
                MOD_K => a %= operand,
                JEQ_K => at += usize::from(if a == operand { jump_true } else { jump_false }),
                JGE_K => at += usize::from(if a >= operand { jump_true } else { jump_false }),
                RET_K => return Some(operand),
                RET_A => return Some(a),
                _ => panic!("no such instruction: {code:#x}"),
            }
        }
    }

    /// Headers of either family whose addresses are made from a number; the other bytes are nowhere near.
    fn packet(is_v6: bool, number: u8) -> (Vec<u8>, Addr, Addr) {
        let octets = |salt: u8| std::array::from_fn(|at| number.wrapping_mul(41) ^ (at as u8 * 7) ^ salt);
        let (src, dst): ([u8; 16], [u8; 16]) = (octets(0x51), octets(0xa3));
        if is_v6 {
            let packet = [&[0x60, 0, 0, 0, 0, 8, 17, 64], &src[..], &dst[..], &[0; 8]].concat();
            return (packet, Addr::v6(src), Addr::v6(dst));
        }
        let [src, dst] = [src, dst].map(|long| [long[0], long[1], long[2], long[3]]);
        ([&[0x45; 12], &src[..], &dst[..], &[0; 8]].concat(), Addr::v4(src), Addr::v4(dst))
    }

    #[test]
    fn the_program_finds_the_worker_of_the_outer_address() {
        for workers in [2, 3, 8] {
            for seed in [[0; 16], [0xc7; 16]] {
                let any = Placement::new(1, workers, seed);
                let mut used = vec![0; workers];
                for number in 0..=255 {
                    for (is_v6, protocol) in [(false, IPV4), (true, IPV6)] {
                        let (packet, src, dst) = packet(is_v6, number);
                        for (trust, outer) in [(Trust::Untrusted, src), (Trust::Trusted, dst)] {
                            let worker = any.worker_of(outer);
                            let found = run(&program(trust, &any), protocol, &packet);
                            assert_eq!(found, Some(worker as u32), "{outer}");
                            used[worker] += 1;
                        }
                    }
                }
                let fair = 1024 / workers;
                assert!(used.iter().all(|count| (fair / 2..fair * 2).contains(count)), "{used:?}");
            }
        }
    }

    #[test]
    fn address_resolution_goes_to_the_first_worker() {
        let any = Placement::new(0, 2, [3; 16]);
        let other = (0..=255).find(|number| any.worker_of(packet(true, *number).1) == 1);
        let (mut packet, src, _) = packet(true, other.expect("some address is the second worker's"));
        let program = program(Trust::Untrusted, &any);
        assert_eq!(run(&program, 0x0806, &packet), Some(0));
        packet[6] = 58;
        for kind in 0..=255 {
            packet[40] = kind;
            let wanted = if (133..=137).contains(&kind) { 0 } else { any.worker_of(src) };
            assert_eq!(run(&program, IPV6, &packet), Some(wanted as u32), "ICMPv6 {kind}");
        }
        assert_eq!(run(&program, IPV6, &packet[..20]), None);
    }
}
