#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sipkeep::testing::fuzz_target("sdp", bytes));
