//! A stream: it reads the same however the wire cuts it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::sip_stream::run(bytes));
