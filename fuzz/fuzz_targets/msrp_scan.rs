//! MSRP framing: a stream says the same however the wire cuts it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::msrp_scan::run(bytes));
