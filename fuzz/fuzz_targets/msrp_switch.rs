//! The switch: whatever comes in at one leg, frames that it has cut come out at the other.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::msrp_switch::run(bytes));
