//! The house rules as tests: what a reviewer would otherwise have to remember.
//!
//! Each module is one rule or a few of a kind: a function that lists the faults of the tree, a test that wants none, and
//! tests that the rule sees a fault where there is one. `cargo test -p tidy` runs them all in seconds.

pub mod arrows;
pub mod dependencies;
pub mod documents;
pub mod heads;
pub mod limits;
pub mod manifests;
pub mod purity;
pub mod source;
pub mod tree;
