//! A datagram: whatever comes, reading ends, and what we write from it can be read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::sip_datagram::run(bytes));
