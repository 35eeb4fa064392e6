//! What the kernel says to a program before it runs it: the rules of its `bpf_check_classic`, for the opcodes that we use,
//! and what it charges a socket for it.

use std::fmt;

use super::{INSTRUCTIONS_MAX, Instruction, MEMORY_WORDS, SKF_AD_RANDOM, SKF_NET_OFF, op};

/// Why the kernel would refuse a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Number of the instruction.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {}: {}", self.at, self.what)
    }
}

/// Checks that every path through a program ends in a result, stays inside it and reads no scratch memory that it has not
/// written.
///
/// # Errors
/// The first fault.
pub fn check(program: &[Instruction]) -> Result<(), Fault> {
    let fault = |at, what| Err(Fault { at, what });
    if program.is_empty() || program.len() > INSTRUCTIONS_MAX {
        return fault(0, "no instruction, or too many");
    }
    // Words of scratch memory that are written on every path to an instruction, one bit each.
    let mut written = vec![u32::MAX; program.len()];
    if let Some(first) = written.first_mut() {
        *first = 0;
    }
    for (at, instruction) in program.iter().enumerate() {
        let k = instruction.k as usize;
        let mut memory = written.get(at).copied().unwrap_or(0);
        let next: [Option<usize>; 2] = match instruction.code {
            op::RETURN => [None, None],
            op::LOAD_WORD if instruction.k == SKF_AD_RANDOM => [Some(0), None],
            op::LOAD_WORD
            | op::LOAD_HALF
            | op::LOAD_BYTE
            | op::LOAD_HALF_INDEXED
            | op::LOAD_X_HEADER_LENGTH => {
                if !is_network_offset(instruction.k) {
                    return fault(at, "loads from elsewhere than the IP header");
                }
                [Some(0), None]
            }
            op::LOAD_MEMORY | op::STORE if k >= MEMORY_WORDS => {
                return fault(at, "no such scratch memory");
            }
            op::LOAD_MEMORY if memory & 1 << k == 0 => {
                return fault(at, "reads scratch memory that is not written");
            }
            op::STORE => {
                memory |= 1 << k;
                [Some(0), None]
            }
            op::LOAD_MEMORY | op::LOAD_CONSTANT | op::COPY_TO_X | op::AND => [Some(0), None],
            op::JUMP => [Some(k), None],
            op::JUMP_EQUAL
            | op::JUMP_EQUAL_X
            | op::JUMP_GREATER
            | op::JUMP_NOT_LESS
            | op::JUMP_ANY_BIT => [
                Some(usize::from(instruction.jt)),
                Some(usize::from(instruction.jf)),
            ],
            _ => return fault(at, "unknown opcode"),
        };
        for skip in next.into_iter().flatten() {
            let target = at.checked_add(1).and_then(|next| next.checked_add(skip));
            let Some(place) = target.and_then(|target| written.get_mut(target)) else {
                return fault(at, "leaves the program");
            };
            *place &= memory;
        }
    }
    Ok(())
}

/// Whether a load's offset counts from the IP header's beginning.
pub(super) fn is_network_offset(k: u32) -> bool {
    (SKF_NET_OFF..SKF_AD_RANDOM & !0xfff).contains(&k)
}

/// What the kernel charges a socket's option memory (`net.core.optmem_max`) for a program, in instructions of its own, 8 bytes
/// each (`bpf_convert_filter`; measured on Linux 6.18): an upper bound.
///
/// A socket is charged for the old and the new filter while one replaces the other.
pub fn charge(program: &[Instruction]) -> usize {
    /// Setting up, and the head of the kernel's own record of a program.
    const PROLOGUE: usize = 24;
    let of = |instruction: &Instruction| {
        match instruction.code {
            op::LOAD_WORD if instruction.k == SKF_AD_RANDOM => 4,
            op::LOAD_WORD | op::LOAD_HALF | op::LOAD_BYTE => 8,
            op::LOAD_HALF_INDEXED => 10,
            op::LOAD_X_HEADER_LENGTH => 14,
            op::RETURN => 2,
            op::JUMP_EQUAL | op::JUMP_GREATER | op::JUMP_NOT_LESS | op::JUMP_ANY_BIT => {
                // Constants are signed there; a jump goes one way or falls through, and only some can be inverted.
                let constant = usize::from(instruction.k >= 1 << 31);
                let both = instruction.jf != 0
                    && (instruction.jt != 0 || instruction.code == op::JUMP_ANY_BIT);
                1 + constant + usize::from(both)
            }
            _ => 1,
        }
    };
    PROLOGUE + program.iter().map(of).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditional(jt: u8, jf: u8) -> Instruction {
        Instruction {
            code: op::JUMP_EQUAL,
            jt,
            jf,
            k: 0,
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let of = Instruction::of;
        let end = of(op::RETURN, 0);
        let faults: [(&[Instruction], usize); 9] = [
            (&[], 0),
            (&[of(op::AND, 1)], 0),
            (&[of(op::JUMP, 1), end], 0),
            (&[conditional(0, 1), end], 0),
            (&[of(op::JUMP, u32::MAX), end], 0),
            (&[of(op::LOAD_MEMORY, 1), end], 0),
            (&[of(op::STORE, 16), end], 0),
            // Written on one path only.
            (
                &[
                    conditional(0, 1),
                    of(op::STORE, 1),
                    of(op::LOAD_MEMORY, 1),
                    end,
                ],
                2,
            ),
            (&[of(op::LOAD_WORD, 0), end], 0),
        ];
        for (program, at) in faults {
            assert_eq!(
                check(program).map_err(|fault| fault.at),
                Err(at),
                "{program:?}"
            );
        }
        assert_eq!(check(&[of(0x16, 0)]).unwrap_err().what, "unknown opcode");
        assert_eq!(check(&[end; INSTRUCTIONS_MAX]), Ok(()));
        assert!(check(&[end; INSTRUCTIONS_MAX + 1]).is_err());
        let loads = [
            of(op::LOAD_WORD, SKF_NET_OFF + 12),
            of(op::LOAD_WORD, SKF_AD_RANDOM),
            of(op::STORE, 15),
            of(op::LOAD_MEMORY, 15),
            conditional(0, 0),
            end,
        ];
        assert_eq!(check(&loads), Ok(()));
    }
}
