//! Programs of classic BPF, the language in which an unprivileged process may ask the kernel to look at the packets of
//! its own sockets (socket(7) `SO_ATTACH_FILTER`, `SO_ATTACH_REUSEPORT_CBPF`).
//!
//! | file | what |
//! | --- | --- |
//! | `drop` | a filter that discards packets by their source address |
//! | `steer` | a program that chooses a socket of a group by source address and port |
//! | `search` | the balanced search tree that both are made of |
//! | `writer` | writes a program from its end, so that every jump knows how far it goes |
//! | `check` | whether the kernel would take a program, and what it charges for it |
//! | `interpret` | runs a program on a packet by the kernel's rules, for tests |
//!
//! Pure functions from lists to programs: no sockets, no clock. Who is discarded or preferred is decided elsewhere.

use std::net::IpAddr;

pub mod check;
pub mod drop;
#[cfg(any(test, feature = "testing"))]
pub mod interpret;
mod search;
pub mod steer;
#[cfg(test)]
mod tests;
mod writer;

/// One instruction, laid out as `struct sock_filter` of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does: one of [`op`].
    pub code: u16,
    /// Instructions to skip when a conditional jump's condition holds.
    pub jt: u8,
    /// ... and when it does not.
    pub jf: u8,
    /// Constant, offset or distance.
    pub k: u32,
}

impl Instruction {
    /// One that is no conditional jump.
    pub(crate) const fn of(code: u16, k: u32) -> Self {
        Self {
            code,
            jt: 0,
            jf: 0,
            k,
        }
    }
}

/// The opcodes that our programs use. A is the accumulator, X the index register, M sixteen words of scratch memory.
pub mod op {
    /// A = the word at k, of the packet or one of the kernel's own values ([`super::SKF_AD_RANDOM`]).
    pub const LOAD_WORD: u16 = 0x20;
    /// A = the half-word at k.
    pub const LOAD_HALF: u16 = 0x28;
    /// A = the byte at k.
    pub const LOAD_BYTE: u16 = 0x30;
    /// A = the half-word at X + k.
    pub const LOAD_HALF_INDEXED: u16 = 0x48;
    /// X = 4 · (the byte at k & 15): the length of an IPv4 header.
    pub const LOAD_X_HEADER_LENGTH: u16 = 0xb1;
    /// A = k.
    pub const LOAD_CONSTANT: u16 = 0x00;
    /// X = A.
    pub const COPY_TO_X: u16 = 0x07;
    /// `A = M[k]`
    pub const LOAD_MEMORY: u16 = 0x60;
    /// `M[k] = A`
    pub const STORE: u16 = 0x02;
    /// A = A & k.
    pub const AND: u16 = 0x54;
    /// Skip k instructions.
    pub const JUMP: u16 = 0x05;
    /// A == k?
    pub const JUMP_EQUAL: u16 = 0x15;
    /// A == X?
    pub const JUMP_EQUAL_X: u16 = 0x1d;
    /// A > k, unsigned?
    pub const JUMP_GREATER: u16 = 0x25;
    /// A >= k, unsigned?
    pub const JUMP_NOT_LESS: u16 = 0x35;
    /// A & k != 0?
    pub const JUMP_ANY_BIT: u16 = 0x45;
    /// The result is k.
    pub const RETURN: u16 = 0x06;
}

/// Offsets from here on count from the beginning of the IP header.
pub const SKF_NET_OFF: u32 = (-0x10_0000_i32) as u32;
/// Loads a random word.
pub const SKF_AD_RANDOM: u32 = (-0x1000_i32 + 56) as u32;
/// Instructions that the kernel takes at most, whatever its memory (`BPF_MAXINSNS`).
pub const INSTRUCTIONS_MAX: usize = 4_096;
/// Words of scratch memory.
const MEMORY_WORDS: usize = 16;

/// The result of a filter that accepts a packet whole.
pub const ACCEPT: u32 = u32::MAX;
/// The result of a filter that discards a packet; also what the kernel takes when a load lies outside of the packet.
pub const DISCARD: u32 = 0;

/// Which IP header a program reads. A socket has one of them: those of IPv6 take no IPv4 (`IPV6_V6ONLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

impl Family {
    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Where the source address lies in the IP header (RFC 791 §3.1, RFC 8200 §3).
    const fn source_offset(self) -> u32 {
        match self {
            Self::V4 => 12,
            Self::V6 => 8,
        }
    }

    /// Words of 32 bits in an address.
    const fn words(self) -> u32 {
        match self {
            Self::V4 => 1,
            Self::V6 => 4,
        }
    }

    /// The bits of an address, those of IPv4 in the upper 32.
    fn bits(self, address: IpAddr) -> Option<u128> {
        match (self, address) {
            (Self::V4, IpAddr::V4(v4)) => Some(u128::from(v4.to_bits()) << 96),
            (Self::V6, IpAddr::V6(v6)) => Some(v6.to_bits()),
            _ => None,
        }
    }
}

/// Word number `at` of an address as [`Family::bits`] gives it.
const fn word(bits: u128, at: u32) -> u32 {
    (bits >> (96 - 32 * at)) as u32
}

/// A program and how much of the list it was made from is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The program; [`check::check`] finds nothing wrong with it.
    pub program: Vec<Instruction>,
    /// So many entries from the beginning of the list are in it.
    pub entries: usize,
}

/// The longest beginning of a list of `count` entries whose program `room` holds, approximately: at least 7 of 8 that
/// could be. `None`: there is no room for any program at all.
///
/// `build` gives the program of the first so many entries. `room` counts as [`check::charge`] does.
fn fit(
    count: usize,
    room: usize,
    mut build: impl FnMut(usize) -> Vec<Instruction>,
) -> Option<Fitted> {
    let mut entries = count;
    loop {
        let program = build(entries);
        let (length, charge) = (program.len(), check::charge(&program));
        if length <= INSTRUCTIONS_MAX && charge <= room {
            return Some(Fitted { program, entries });
        }
        // So many would fit if all of them took the same room; at least one less, so that it ends.
        let share = |room: usize, taken: usize| entries as u64 * room as u64 / taken.max(1) as u64;
        let proportion = share(room, charge).min(share(INSTRUCTIONS_MAX, length));
        entries = usize::try_from(proportion)
            .unwrap_or(usize::MAX)
            .min(entries.checked_sub(1)?);
    }
}
