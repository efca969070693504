//! Messages put together from their chunks (RFC 4975 §7.3.1), for endpoints: in any order, overlapping, interleaved.
//!
//! ```text
//! head(..) ── body(..)* ── end(flag) ──> a whole message, or not yet
//! ```
//!
//! The switch does not come here: it passes chunks on. Bounds: octets of one message, octets of all unfinished ones
//! together, messages at once; who exceeds them hears 413, and the message is dropped.
//!
//! A file need not be held here: whoever begins its message with [`Reassembly::head_elsewhere`] puts each piece where
//! [`Reassembly::elsewhere`] says, and hears from [`Reassembly::end`] when nothing is missing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base::limits::{MSRP_FILE_BYTES_MAX, MSRP_MESSAGE_BYTES_MAX, MSRP_MESSAGE_TIME_MAX, MSRP_PARTIALS_MAX};

use crate::head::{FailureReport, Flag, Head};
use crate::range::ByteRange;
use crate::report::{Coverage, TooScattered};

/// Why a chunk cannot be taken. Its message is forgotten; what is left of the chunk is swallowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReassemblyError {
    /// The message is, or says it will be, too long.
    #[error("message of more than {max} bytes")]
    TooLong {
        /// The ceiling, in bytes.
        max: u64,
    },
    /// Unfinished messages hold too much together.
    #[error("unfinished messages of more than {max} bytes together")]
    TooMuch {
        /// The ceiling, in bytes.
        max: u64,
    },
    /// Too many messages have begun.
    #[error("more than {max} unfinished messages")]
    TooMany {
        /// The ceiling.
        max: usize,
    },
    /// Its pieces lie too far apart.
    #[error(transparent)]
    TooScattered(#[from] TooScattered),
}

impl ReassemblyError {
    /// What the sender hears: 413, stop sending this message (RFC 4975 §10.5).
    pub fn status(&self) -> u16 {
        413
    }
}

/// How much an endpoint keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one message.
    pub message_bytes: u64,
    /// Octets of all unfinished messages together.
    pub bytes: u64,
    /// Octets of one message that is kept elsewhere, and of all such unfinished ones together.
    pub elsewhere_bytes: u64,
    /// Unfinished messages at once.
    pub messages: usize,
    /// How long an unfinished message waits for its next piece.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: MSRP_MESSAGE_BYTES_MAX,
            bytes: MSRP_MESSAGE_BYTES_MAX,
            elsewhere_bytes: MSRP_FILE_BYTES_MAX,
            messages: MSRP_PARTIALS_MAX,
            idle: MSRP_MESSAGE_TIME_MAX,
        }
    }
}

/// A message that is all there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Its id.
    pub message_id: Vec<u8>,
    /// Content-Type of the chunk that came first.
    pub content_type: Vec<u8>,
    /// From-Path of that chunk: where reports go.
    pub from_path: Vec<u8>,
    /// The content; empty where it is kept elsewhere.
    pub body: Vec<u8>,
    /// Octets of the content, wherever it is.
    pub octets: u64,
    /// Whether the sender wants to hear of success.
    pub success_report: bool,
    /// What the sender wants to hear of failure.
    pub failure_report: FailureReport,
    /// In how many chunks it came.
    pub chunks: u32,
}

#[derive(Debug)]
struct Partial {
    whole: Whole,
    is_elsewhere: bool,
    have: Coverage,
    /// Known once a chunk has ended with `$`: it defines the length (RFC 4975 §7.3.1).
    total: Option<u64>,
    until: Instant,
}

/// The chunk that is coming in.
#[derive(Debug)]
struct Open {
    message_id: Vec<u8>,
    /// Place of its first octet in the message, from 1.
    start: u64,
    /// Place behind the last octet that has come.
    next: u64,
}

/// The unfinished messages of one session, whose chunks come one behind the other over its connection.
#[derive(Debug, Default)]
pub struct Reassembly {
    limits: Limits,
    partials: HashMap<Vec<u8>, Partial>,
    /// Octets that they hold here.
    bytes: u64,
    /// Octets that they hold elsewhere.
    elsewhere_bytes: u64,
    open: Option<Open>,
}

impl Reassembly {
    /// With limits of the caller's.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// A chunk begins: a SEND with a Message-ID and a body; of others nothing is kept.
    pub fn head(&mut self, head: Head<'_>, now: Instant) -> Result<(), ReassemblyError> {
        self.begin(head, false, now)
    }

    /// As [`Reassembly::head`]; if it is the first of its message, the content is kept elsewhere.
    pub fn head_elsewhere(&mut self, head: Head<'_>, now: Instant) -> Result<(), ReassemblyError> {
        self.begin(head, true, now)
    }

    fn begin(&mut self, head: Head<'_>, is_elsewhere: bool, now: Instant) -> Result<(), ReassemblyError> {
        self.open = None;
        let Some(message_id) = head.message_id().filter(|_| head.has_body()) else { return Ok(()) };
        let ByteRange { start, total, .. } = head.range();
        let is_elsewhere = self.partials.get(message_id).map_or(is_elsewhere, |partial| partial.is_elsewhere);
        let max = if is_elsewhere { self.limits.elsewhere_bytes } else { self.limits.message_bytes };
        if start.saturating_sub(1) > max || total.is_some_and(|total| total > max) {
            return Err(self.refuse(message_id, ReassemblyError::TooLong { max }));
        }
        let until = now + self.limits.idle;
        let begun = self.partials.len();
        match self.partials.get_mut(message_id) {
            Some(partial) => {
                partial.until = until;
                partial.whole.chunks += 1;
            }
            None if begun >= self.limits.messages => {
                return Err(ReassemblyError::TooMany { max: self.limits.messages });
            }
            None => {
                let whole = Whole {
                    message_id: message_id.to_vec(),
                    content_type: head.content_type().unwrap_or_default().to_vec(),
                    from_path: head.from_path().to_vec(),
                    body: Vec::new(),
                    octets: 0,
                    success_report: head.success_report(),
                    failure_report: head.failure_report(),
                    chunks: 1,
                };
                let partial = Partial { whole, is_elsewhere, have: Coverage::default(), total: None, until };
                self.partials.insert(message_id.to_vec(), partial);
            }
        }
        self.open = Some(Open { message_id: message_id.to_vec(), start, next: start });
        Ok(())
    }

    /// How many octets of its message stand before the next one of the chunk under way, where that message is kept
    /// elsewhere: what [`Reassembly::body`] takes next belongs there.
    pub fn elsewhere(&self) -> Option<u64> {
        let open = self.open.as_ref()?;
        self.partials.get(&open.message_id).filter(|partial| partial.is_elsewhere).map(|_| open.next - 1)
    }

    /// The next octets of the chunk. What came last takes precedence over what was there (RFC 4975 §7.3.1).
    pub fn body(&mut self, piece: &[u8]) -> Result<(), ReassemblyError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let Some(partial) = self.partials.get_mut(&open.message_id) else { return Ok(()) };
        let from = open.next - 1;
        let behind = from.saturating_add(piece.len() as u64);
        let grown = behind.saturating_sub(partial.whole.octets);
        let (limits, is_elsewhere) = (self.limits, partial.is_elsewhere);
        let (held, max, max_together) = if is_elsewhere {
            (&mut self.elsewhere_bytes, limits.elsewhere_bytes, limits.elsewhere_bytes)
        } else {
            (&mut self.bytes, limits.message_bytes, limits.bytes)
        };
        let fault = if behind > max {
            Some(ReassemblyError::TooLong { max })
        } else if *held + grown > max_together {
            Some(ReassemblyError::TooMuch { max: max_together })
        } else {
            None
        };
        if let Some(fault) = fault {
            let message_id = std::mem::take(&mut open.message_id);
            return Err(self.refuse(&message_id, fault));
        }
        *held += grown;
        partial.whole.octets += grown;
        open.next += piece.len() as u64;
        if is_elsewhere {
            return Ok(());
        }
        let body = &mut partial.whole.body;
        // Both fit in memory, for they are below the limits.
        let (from, behind) = (from as usize, behind as usize);
        if from == body.len() {
            body.extend_from_slice(piece);
        } else {
            body.resize(body.len().max(behind), 0);
            body[from..behind].copy_from_slice(piece);
        }
        Ok(())
    }

    /// The chunk ends; the message, if nothing is missing any more. `#` drops it (RFC 4975 §7.1).
    pub fn end(&mut self, flag: Flag, now: Instant) -> Result<Option<Whole>, ReassemblyError> {
        let Some(open) = self.open.take() else { return Ok(None) };
        let Some(partial) = self.partials.get_mut(&open.message_id) else { return Ok(None) };
        if flag == Flag::Aborted {
            self.forget(&open.message_id);
            return Ok(None);
        }
        partial.until = now + self.limits.idle;
        if let Err(fault) = partial.have.add(open.start, open.next - 1) {
            return Err(self.refuse(&open.message_id, fault.into()));
        }
        if flag == Flag::Complete {
            partial.total = Some(open.next - 1);
        }
        // Chunks with `+` may come behind the one with `$`.
        let Some(total) = partial.total.filter(|total| partial.have.is_whole(*total)) else { return Ok(None) };
        let mut whole = self.forget(&open.message_id);
        if let Some(whole) = &mut whole {
            whole.body.truncate(total as usize);
            whole.octets = total;
        }
        Ok(whole)
    }

    /// The chunk under way will not end: its connection is lost. What it brought counts no more than what it did not.
    pub fn reset(&mut self) {
        self.open = None;
        self.partials.clear();
        (self.bytes, self.elsewhere_bytes) = (0, 0);
    }

    /// When the next unfinished message has waited long enough.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.partials.values().map(|partial| partial.until).min()
    }

    /// Gives up what has waited too long, and returns the ids.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let open = self.open.as_ref().map(|open| &open.message_id);
        let late = |(id, partial): (&Vec<u8>, &Partial)| (partial.until <= now && open != Some(id)).then(|| id.clone());
        let ids: Vec<Vec<u8>> = self.partials.iter().filter_map(late).collect();
        for id in &ids {
            self.forget(id);
        }
        ids
    }

    /// Octets that unfinished messages hold here.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The message is not wanted any more: what has come of it counts for nothing.
    pub fn give_up(&mut self, message_id: &[u8]) {
        self.open = None;
        self.forget(message_id);
    }

    fn refuse(&mut self, message_id: &[u8], fault: ReassemblyError) -> ReassemblyError {
        self.give_up(message_id);
        fault
    }

    fn forget(&mut self, message_id: &[u8]) -> Option<Whole> {
        let partial = self.partials.remove(message_id)?;
        let held = if partial.is_elsewhere { &mut self.elsewhere_bytes } else { &mut self.bytes };
        *held -= partial.whole.octets;
        Some(partial.whole)
    }
}
