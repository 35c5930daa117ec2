#![no_main]

#[path = "../bodies/machine.rs"]
mod body;
#[path = "../bodies/server.rs"]
mod server;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::check(data));
