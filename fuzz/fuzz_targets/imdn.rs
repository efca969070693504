//! Documents of delivery and typing notices.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::imdn::run(bytes));
