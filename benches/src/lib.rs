//! What the benches measure with: messages as clients send them, of the size that the targets are stated for.

pub mod cpu;
pub mod fixtures;
