#![no_main]

libfuzzer_sys::fuzz_target!(init: sipkeep_fuzz::init(), |bytes: &[u8]| {
    sipkeep::testing::auth_digest(bytes);
});
