//! The four transaction machines under any order of inputs and times.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::sip_transactions::run(bytes));
