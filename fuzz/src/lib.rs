//! What the targets share: the bytes that a parser allocates are counted.

/// Before the first input.
pub fn init() {
    sipkeep::testing::meter::install(|run| allocation_counter::measure(run).bytes_total);
}
