#![no_main]

libfuzzer_sys::fuzz_target!(init: sipkeep_fuzz::init(), |bytes: &[u8]| {
    sipkeep::testing::fuzz_http::http(bytes);
});
