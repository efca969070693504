//! Why a command was not done: what, where and what to do, in one or two lines.

use std::fmt;

/// What the caller reads on standard error; the exit status is 1.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// In words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// What a later version does.
    pub fn not_built(what: &str) -> Self {
        Self(format!("{what}: not built into this version ({})", crate::version::VERSION))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
