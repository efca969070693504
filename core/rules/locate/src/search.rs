//! What every search of the DNS is like from outside: it asks, is answered, and ends.

use std::time::Duration;

use crate::question::{Answer, Question};

/// A machine that looks for something in the DNS.
pub trait Search {
    /// What it looks for.
    type Found;

    /// An answer has come. One that nobody waits for changes nothing.
    fn handle(&mut self, question: &Question, answer: Answer);

    /// What it wants, or has found; the last one is [`Output::Done`]. After nothing more comes, it waits for answers.
    fn poll_output(&mut self) -> Option<Output<Self::Found>>;
}

/// What a search wants, or has found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output<T> {
    /// Answer this, by [`Search::handle`].
    Ask(Question),
    /// The end.
    Done(Outcome<T>),
}

/// What came of a search, and for how long that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<T> {
    /// What was found.
    pub found: Result<T, Failure>,
    /// How long it may be believed: as long as the answer that ends first.
    pub ttl: Duration,
}

/// Why nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no such name or number, or it has no server.
    #[error("no server by this name")]
    Nothing,
    /// Its owner says that it has no such service (RFC 2782: the target is the root).
    #[error("the domain offers no such service")]
    Refused,
    /// It is reached by no transport that we speak, or may speak with it.
    #[error("no transport in common")]
    Unspoken,
    /// The DNS could not say.
    #[error("the name servers do not answer")]
    Unknown,
}
