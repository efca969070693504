//! message/cpim: reading ends, and what we write is read as it was meant.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::cpim::run(bytes));
