#![no_main]

#[path = "../bodies/remotes.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
