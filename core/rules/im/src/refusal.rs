//! Why a request is not done, as its sender hears it.

/// A final answer that is none of success. Every one is the sender's doing, or the state of who was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{status} {reason}")]
pub struct Refusal {
    /// The status of the response.
    pub status: u16,
    /// Its reason phrase, which names the fault.
    pub reason: &'static str,
    /// Seconds for Min-Expires, which a 423 must carry (RFC 3261 §10.3).
    pub min_expires: Option<u32>,
}

impl Refusal {
    /// A status and a phrase.
    pub const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason, min_expires: None }
    }
}
