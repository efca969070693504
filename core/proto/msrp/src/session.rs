//! Who is owed which answer (RFC 4975 §5.3, §7.1.3, §7.1.4, §7.2), and what an answer means.
//!
//! ```text
//! Failure-Report   200   error response   30 s timer   failure REPORT
//! absent, yes      yes   yes              yes          allowed, when the error is found after the 200
//! partial          no    yes              no           allowed
//! no               no    no               no           no
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use base::limits::{MSRP_AWAITED_MAX, MSRP_RESPONSE_TIME_MAX};

use crate::head::{FailureReport, Head, Method};
use crate::tid::Tid;

/// The status of the response that this request is owed when we found `verdict`, or nothing.
pub fn response_owed(request: Head<'_>, verdict: u16) -> Option<u16> {
    match request.method()? {
        // RFC 4975 §7.1.2: a REPORT is never answered.
        Method::Report => None,
        _ => answer_wished(request.failure_report(), verdict),
    }
}

/// As [`response_owed`], for a SEND whose head is not at hand any more.
pub fn answer_wished(wish: FailureReport, verdict: u16) -> Option<u16> {
    match wish {
        FailureReport::Yes => Some(verdict),
        // RFC 4975 §7.1.4: with partial, no 200.
        FailureReport::Partial => (verdict != 200).then_some(verdict),
        FailureReport::No => None,
    }
}

/// Whether the response to a SEND must be waited for, 30 s (RFC 4975 §7.1.1).
pub fn is_timed(wish: FailureReport) -> bool {
    wish == FailureReport::Yes
}

/// What is to be reported to the sender of a SEND, after it has been answered, when the next hop said `code` (408:
/// said nothing, RFC 4976 §6.4.1): the status of a REPORT, or nothing.
pub fn failure_report_owed(wish: FailureReport, code: u16) -> Option<u16> {
    match wish {
        _ if code == 200 => None,
        FailureReport::Yes => Some(code),
        FailureReport::Partial => (code != 408).then_some(code),
        FailureReport::No => None,
    }
}

/// What a response to a SEND means, or a REPORT with namespace 000, which is to be read in exactly the same way
/// (RFC 4975 §7.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// 200: taken by the next hop; in a REPORT, by the receiver.
    Taken,
    /// 408: as if the 30 s had passed.
    TimedOut,
    /// 413: no more of this message; a chunk under way is to be ended with `#`.
    StopMessage,
    /// 415: no more of this media type in this session.
    TypeRefused,
    /// 481, 506: the session is over.
    SessionGone,
    /// Any other: this message has failed.
    Failed(u16),
}

/// Reads a status (RFC 4975 §10).
pub fn meaning_of(status: u16) -> Meaning {
    match status {
        200 => Meaning::Taken,
        408 => Meaning::TimedOut,
        413 => Meaning::StopMessage,
        415 => Meaning::TypeRefused,
        481 | 506 => Meaning::SessionGone,
        other => Meaning::Failed(other),
    }
}

/// As many SENDs wait for their responses as may: send no more on this connection until some have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MSRP_AWAITED_MAX} responses are due")]
pub struct Full;

/// A SEND whose response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled<T> {
    /// What was noted with it.
    pub what: T,
    /// Its chunk is still going out: an error ends it with `#` (RFC 4975 §7.3.2).
    pub was_open: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    tid: Tid,
    until: Instant,
    /// Nothing once it is settled: it leaves when it comes to the front.
    what: Option<T>,
}

/// The SENDs of one connection whose responses are due. All wait equally long, so the oldest is the first to be
/// overdue; answers mostly come in order, so it is also the first to be found.
#[derive(Debug)]
pub struct Awaited<T> {
    open: Option<(Tid, T)>,
    queue: VecDeque<Waiting<T>>,
}

impl<T> Default for Awaited<T> {
    fn default() -> Self {
        Self { open: None, queue: VecDeque::new() }
    }
}

impl<T> Awaited<T> {
    /// A chunk begins to go out; its time does not run before [`Awaited::sent`]. There is one open chunk a connection.
    pub fn begin(&mut self, tid: Tid, what: T) -> Result<(), Full> {
        debug_assert!(self.open.is_none(), "a chunk begins within a chunk");
        if self.queue.len() >= MSRP_AWAITED_MAX {
            return Err(Full);
        }
        self.open = Some((tid, what));
        Ok(())
    }

    /// The last octet of the open chunk has left: its 30 s begin (RFC 4975 §7.1.1).
    pub fn sent(&mut self, now: Instant) {
        if let Some((tid, what)) = self.open.take() {
            self.queue.push_back(Waiting { tid, until: now + MSRP_RESPONSE_TIME_MAX, what: Some(what) });
        }
    }

    /// The open chunk leaves without an answer being due, or not at all.
    pub fn forget_open(&mut self) -> Option<T> {
        self.open.take().map(|(_, what)| what)
    }

    /// A whole chunk has left.
    pub fn expect(&mut self, tid: Tid, what: T, now: Instant) -> Result<(), Full> {
        if self.queue.len() >= MSRP_AWAITED_MAX {
            return Err(Full);
        }
        self.queue.push_back(Waiting { tid, until: now + MSRP_RESPONSE_TIME_MAX, what: Some(what) });
        Ok(())
    }

    /// A response has come; nothing when nobody waits for it (then it is to be ignored).
    pub fn settle(&mut self, tid: &[u8]) -> Option<Settled<T>> {
        if self.open.as_ref().is_some_and(|(open, _)| open.as_bytes() == tid) {
            return self.open.take().map(|(_, what)| Settled { what, was_open: true });
        }
        let found = self.queue.iter_mut().find(|waiting| waiting.what.is_some() && waiting.tid.as_bytes() == tid)?;
        let what = found.what.take()?;
        self.drop_settled();
        Some(Settled { what, was_open: false })
    }

    /// When the next response is overdue.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|waiting| waiting.until)
    }

    /// The next whose response has not come in time; ask until `None`.
    pub fn overdue(&mut self, now: Instant) -> Option<T> {
        self.drop_settled();
        self.queue.pop_front_if(|waiting| waiting.until <= now)?.what
    }

    /// The connection is lost, and with it all that waited, the open chunk last (RFC 4975 §5.4).
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        let open = self.open.take().map(|(_, what)| what);
        self.queue.drain(..).filter_map(|waiting| waiting.what).chain(open)
    }

    /// How many wait, the open chunk not counted.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits and no chunk is open.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.open.is_none()
    }

    fn drop_settled(&mut self) {
        while self.queue.pop_front_if(|waiting| waiting.what.is_none()).is_some() {}
    }
}
