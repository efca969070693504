//! What an actor holds of a request until it is answered.

use std::sync::Arc;

use base::Now;
use sip::{Delta, Message, Reply, View};

use super::{Slot, Transactions};
use crate::hop::Hop;
use crate::metrics::Count;
use crate::turn::{self, Turn};

/// A request that somebody waits for the answer of, and the way to answer it. Dropped unsent it becomes 503: who waited
/// for a dead actor's answer gets one (decisions D20).
pub struct Answer(Option<Box<Owed>>);

/// What an [`Answer`] is made of; without a drop of its own, so that nothing goes round when a thread ends.
pub(crate) struct Owed {
    slot: Slot,
    caller: Hop,
    request: Message,
    /// Whether `received` and `rport` stand in its Via already.
    via_filled: bool,
    came_unix_ms: u64,
    transactions: Arc<Transactions>,
}

impl Answer {
    /// For a request that has just come, and whose record is `slot`.
    pub fn new(slot: Slot, caller: Hop, request: Message, now: Now, transactions: Arc<Transactions>) -> Self {
        Self::of(slot, caller, request, false, now.unix_ms, transactions)
    }

    pub(super) fn of(
        slot: Slot,
        caller: Hop,
        request: Message,
        via_filled: bool,
        came_unix_ms: u64,
        transactions: Arc<Transactions>,
    ) -> Self {
        Self(Some(Box::new(Owed { slot, caller, request, via_filled, came_unix_ms, transactions })))
    }

    /// One that was dropped unsent.
    pub(crate) fn again(owed: Box<Owed>) -> Self {
        Self(Some(owed))
    }

    fn owed(&self) -> &Owed {
        // The box is taken only by what consumes the answer.
        self.0.as_deref().expect("an answer is owed until it is sent")
    }

    /// The request.
    pub fn request(&self) -> View<'_> {
        self.owed().request.view()
    }

    /// Now, with the time of day when the request came: what is reckoned from its receipt is reckoned from that
    /// (RFC 3428 §7), however long it waited for somebody to look at it.
    pub fn came(&self, now: Now) -> Now {
        Now { unix_ms: self.owed().came_unix_ms, ..now }
    }

    /// Who waits.
    pub fn caller(&self) -> Hop {
        self.owed().caller
    }

    /// The record.
    pub fn slot(&self) -> Slot {
        self.owed().slot
    }

    /// Answers with a reply of ours, by the standard phrase.
    pub fn send(self, turn: &mut Turn, now: Now, status: u16, lines: &[u8]) {
        self.send_as(turn, now, status, "", lines);
    }

    /// Answers with a reply of ours, whose phrase names the fault.
    pub fn send_as(self, turn: &mut Turn, now: Now, status: u16, reason: &str, lines: &[u8]) {
        self.send_with(turn, now, status, reason, lines, b"");
    }

    /// The same with a body, whose type is one of the lines.
    pub fn send_with(mut self, turn: &mut Turn, now: Now, status: u16, reason: &str, lines: &[u8], body: &[u8]) {
        if let Some(owed) = self.0.take() {
            let request = owed.request.view();
            let tag = owed.transactions.tag(owed.transactions.key(request));
            let source = (!owed.via_filled).then(|| owed.caller.peer());
            let reply = Reply { status, reason, to_tag: &tag, source, lines, body };
            owed.transactions.answer(turn, owed.slot, owed.caller, request, &reply, now);
        }
    }

    /// Answers with a response that a contact gave to a copy of this request, our Via on top of it.
    pub fn forward(mut self, turn: &mut Turn, now: Now, response: View<'_>) {
        if let Some(owed) = self.0.take() {
            let delta = Delta::of(response);
            turn.counts.add(Count::Answered);
            owed.transactions
                .finish(turn, owed.slot, owed.caller, delta, now, |out| sip::forward_response(out, response));
        }
    }

    /// 503: something is full or broken (RFC 3261 §21.5.4).
    pub fn overloaded(self, turn: &mut Turn, now: Now) {
        turn.counts.add(Count::Overloaded);
        self.send(turn, now, 503, b"Retry-After: 5\r\n");
    }

    /// Nobody sent it: 503, so that nobody waits for the dead (decisions D20).
    pub(crate) fn lost(self, turn: &mut Turn) {
        let now = (self.owed().transactions.clock)();
        self.overloaded(turn, now);
    }

    /// The router sees the request again: the record stays, this answer is spent.
    pub(crate) fn take_back(mut self) -> Option<(Slot, Hop, Message)> {
        self.0.take().map(|owed| (owed.slot, owed.caller, owed.request))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(owed) = self.0.take() {
            turn::dropped(owed);
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({:?})", self.0.as_ref().map(|owed| owed.slot))
    }
}
