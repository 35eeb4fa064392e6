//! Runs a program on a packet by the kernel's rules: loads outside of the packet end it with 0, jumps go forward.

use super::check::is_network_offset;
use super::{Instruction, MEMORY_WORDS, SKF_AD_RANDOM, SKF_NET_OFF, op};

/// The result of `program` for a packet, given from its IP header on, and its steps. `random` is what the kernel's random
/// source says.
///
/// # Panics
/// When the program leaves itself or has an unknown opcode: [`super::check::check`] would have said so.
pub fn run(program: &[Instruction], packet: &[u8], random: u32) -> (u32, usize) {
    let mut a: u32 = 0;
    let mut x: u32 = 0;
    let mut memory = [0_u32; MEMORY_WORDS];
    let mut at = 0;
    let mut steps = 0;
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
        let load = |offset: u32, bytes: usize| -> Option<u32> {
            if !is_network_offset(offset) {
                return None;
            }
            let from = (offset - SKF_NET_OFF) as usize;
            let bytes = packet.get(from..from + bytes)?;
            Some(
                bytes
                    .iter()
                    .fold(0, |word, byte| word << 8 | u32::from(*byte)),
            )
        };
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        let loaded = match code {
            op::RETURN => return (k, steps),
            op::LOAD_WORD if k == SKF_AD_RANDOM => Some(random),
            op::LOAD_WORD => load(k, 4),
            op::LOAD_HALF => load(k, 2),
            op::LOAD_BYTE => load(k, 1),
            op::LOAD_HALF_INDEXED => load(x.wrapping_add(k), 2),
            op::LOAD_MEMORY => Some(memory[k as usize]),
            op::LOAD_CONSTANT => Some(k),
            op::AND => Some(a & k),
            op::LOAD_X_HEADER_LENGTH => {
                let Some(byte) = load(k, 1) else {
                    return (0, steps);
                };
                x = (byte & 15) * 4;
                continue;
            }
            op::COPY_TO_X => {
                x = a;
                continue;
            }
            op::STORE => {
                memory[k as usize] = a;
                continue;
            }
            op::JUMP => {
                at += k as usize;
                continue;
            }
            op::JUMP_EQUAL => {
                jump(a == k);
                continue;
            }
            op::JUMP_EQUAL_X => {
                jump(a == x);
                continue;
            }
            op::JUMP_GREATER => {
                jump(a > k);
                continue;
            }
            op::JUMP_NOT_LESS => {
                jump(a >= k);
                continue;
            }
            op::JUMP_ANY_BIT => {
                jump(a & k != 0);
                continue;
            }
            _ => panic!("unknown opcode {code:#x}"),
        };
        match loaded {
            Some(word) => a = word,
            None => return (0, steps),
        }
    }
}
