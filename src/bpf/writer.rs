//! Writes a program from its end. Jumps of classic BPF only go forward, so what an instruction may jump to is already
//! written, its distance is known, and one that is too far for a conditional jump's 8 bits gets help at once.

use super::{Instruction, op};

/// A place in a program: the instructions from there to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(usize);

/// The longest way that a conditional jump goes.
const CONDITIONAL_MAX: usize = u8::MAX as usize;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Writer {
    reversed: Vec<Instruction>,
}

impl Writer {
    /// What runs after the next instruction that is written.
    pub fn here(&self) -> Place {
        Place(self.reversed.len())
    }

    /// Instructions between the next one that is written and `place`.
    pub fn distance(&self, place: Place) -> usize {
        self.reversed.len() - place.0
    }

    /// Puts an instruction before all that is written; its place.
    pub fn write(&mut self, code: u16, k: u32) -> Place {
        self.reversed.push(Instruction::of(code, k));
        self.here()
    }

    /// Goes to `to`, with no instruction if it comes next anyway.
    pub fn jump(&mut self, to: Place) -> Place {
        match self.distance(to) {
            0 => to,
            distance => self.write(op::JUMP, distance as u32),
        }
    }

    /// Goes to `to` if the condition holds, else on to what is written already.
    pub fn branch(&mut self, condition: u16, k: u32, to: Place) -> Place {
        let (distance, beside) = self.reach(to);
        self.conditional(condition, k, distance, beside)
    }

    /// Goes to `to` unless the condition holds.
    pub fn branch_unless(&mut self, condition: u16, k: u32, to: Place) -> Place {
        let (distance, beside) = self.reach(to);
        self.conditional(condition, k, beside, distance)
    }

    /// Whether a conditional jump goes as far as `place`.
    pub fn reaches(&self, place: Place) -> bool {
        self.distance(place) <= CONDITIONAL_MAX
    }

    /// Goes to `yes` or to `no`, both of which it [`reaches`](Self::reaches). The kernel makes two instructions of its
    /// own of it, unless one of both comes next.
    pub fn choose(&mut self, condition: u16, k: u32, yes: Place, no: Place) -> Place {
        let (yes, no) = (self.distance(yes), self.distance(no));
        self.conditional(condition, k, yes as u8, no as u8)
    }

    /// How far a conditional jump must go to come to `to`, and how far to come to what is written already: past a jump to
    /// `to` that is needed where the way is too long.
    fn reach(&mut self, to: Place) -> (u8, u8) {
        let distance = self.distance(to);
        if distance <= CONDITIONAL_MAX {
            return (distance as u8, 0);
        }
        self.write(op::JUMP, distance as u32);
        (0, 1)
    }

    fn conditional(&mut self, condition: u16, k: u32, jt: u8, jf: u8) -> Place {
        self.reversed.push(Instruction {
            code: condition,
            jt,
            jf,
            k,
        });
        self.here()
    }

    /// The program.
    pub fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }
}

/// A target that many jumps share: near copies of the way there are kept, so that each of them is one instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    far: Place,
    near: Place,
}

impl Shared {
    pub fn new(place: Place) -> Self {
        Self {
            far: place,
            near: place,
        }
    }

    /// The target itself.
    pub fn far(self) -> Place {
        self.far
    }

    /// A place that leads there and that the next instructions (about a hundred) can reach with a conditional jump.
    /// To be called only where the next instruction written is a jump or a result, which nothing falls through.
    pub fn near(&mut self, writer: &mut Writer) -> Place {
        if writer.distance(self.near) > CONDITIONAL_MAX - 100 {
            self.near = writer.write(op::JUMP, writer.distance(self.far) as u32);
        }
        self.near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ways_take_a_jump() {
        for gap in [0, 1, 254, 255, 256, 300, 2000] {
            for unless in [false, true] {
                let mut writer = Writer::default();
                let to = writer.write(op::RETURN, 1);
                for _ in 0..gap {
                    writer.write(op::RETURN, 2);
                }
                let entry = if unless {
                    writer.branch_unless(op::JUMP_EQUAL, 7, to)
                } else {
                    writer.branch(op::JUMP_EQUAL, 7, to)
                };
                assert_eq!(writer.here(), entry);
                let program = writer.finish();
                let first = program[0];
                let (taken, not) = if unless {
                    (first.jf, first.jt)
                } else {
                    (first.jt, first.jf)
                };
                if gap <= 255 {
                    assert_eq!((taken as usize, not), (gap, 0));
                    assert_eq!(program.len(), gap + 2);
                } else {
                    assert_eq!((taken, not), (0, 1));
                    assert_eq!(program[1], Instruction::of(op::JUMP, gap as u32));
                    assert_eq!(program.len(), gap + 3);
                }
            }
        }
    }

    #[test]
    fn jump_to_what_comes_next_is_none() {
        let mut writer = Writer::default();
        let end = writer.write(op::RETURN, 0);
        assert_eq!(writer.jump(end), end);
        writer.write(op::AND, 1);
        writer.jump(end);
        let program = writer.finish();
        assert_eq!(program.len(), 3);
        assert_eq!(program[0], Instruction::of(op::JUMP, 1));
    }
}
