//! Descriptions of sessions: what the server writes of them can be read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::sdp::run(bytes));
