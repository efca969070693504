//! (soon)
fn main() {}
