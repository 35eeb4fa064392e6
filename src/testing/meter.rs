//! How many bytes a parser allocates for its input. Counted by whoever has an allocator that counts: `allocation-counter` in
//! the tests and in `fuzz/`.

use std::sync::OnceLock;

/// Runs what it is given; the bytes that were allocated meanwhile, freed ones too.
pub type Meter = fn(&mut dyn FnMut()) -> u64;

static METER: OnceLock<Meter> = OnceLock::new();

/// Whatever a parser makes of one byte of its input.
const BYTES_PER_BYTE: usize = 4;

/// From now on allocations are counted. Of several the first stays.
pub fn install(meter: Meter) {
    let _ = METER.set(meter);
}

/// What `parse` makes of `length` bytes.
///
/// # Panics
/// When it allocates more than four times as much meanwhile.
pub fn within<T>(length: usize, parse: impl FnOnce() -> T) -> T {
    below(BYTES_PER_BYTE.saturating_mul(length), parse)
}

/// What `parse` makes.
///
/// # Panics
/// When it allocates more than `most` bytes meanwhile.
pub fn below<T>(most: usize, parse: impl FnOnce() -> T) -> T {
    #[cfg(test)]
    install(|run| allocation_counter::measure(run).bytes_total);
    let Some(meter) = METER.get() else {
        return parse();
    };
    let (mut parse, mut result) = (Some(parse), None);
    let allocated = meter(&mut || result = parse.take().map(|parse| parse()));
    assert!(
        allocated <= most as u64,
        "{allocated} bytes were allocated, {most} are the most"
    );
    result.expect("the meter runs it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_four_times_the_input_is_noticed() {
        assert_eq!(within(16, || vec![0_u8; 64].len()), 64);
        assert!(std::panic::catch_unwind(|| within(16, || vec![0_u8; 65])).is_err());
    }
}
