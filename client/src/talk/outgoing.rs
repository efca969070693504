//! What goes out: messages in chunks, taking turns, and what became of each (RFC 4975 §7.1.1, §7.3.2).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use base::limits::{MSRP_RESPONSE_TIME_MAX, MSRP_UNCUT_BYTES_MAX};
use bytes::Bytes;
use msrp::{
    Awaited, ByteRange, Coverage, FailureReport, Flag, Meaning, Outgoing, Piece, Tid, TidMaker, meaning_of,
    write_chunk, write_hello,
};
use tokio::sync::oneshot;

use super::{AT_ONCE, CHUNK, Terms, WINDOW};
use crate::session::Delivery;

/// A message to be sent, and who waits to hear what became of it.
pub(crate) struct Parcel {
    pub content_type: String,
    pub body: Bytes,
    /// Further header lines, each with its CRLF.
    pub lines: String,
    pub outcome: oneshot::Sender<Delivery>,
}

/// A message on its way.
struct Sending {
    parcel: Parcel,
    id: Tid,
    /// Octets that have been written.
    sent: usize,
    is_all_sent: bool,
    /// Chunks without a response.
    open: usize,
    confirmed: Coverage,
    /// When a success report that does not come is given up: all chunks are answered.
    until: Option<Instant>,
}

/// All messages on their way.
pub(super) struct Outbox {
    terms: Arc<Terms>,
    sending: BTreeMap<u64, Sending>,
    next: u64,
    /// Those that have something left to send, in turn.
    turns: VecDeque<u64>,
    awaited: Awaited<Option<u64>>,
    is_bound: bool,
    is_gone: bool,
}

impl Outbox {
    pub(super) fn new(terms: Arc<Terms>) -> Self {
        Self {
            terms,
            sending: BTreeMap::new(),
            next: 0,
            turns: VecDeque::new(),
            awaited: Awaited::default(),
            is_bound: false,
            is_gone: false,
        }
    }

    /// The session goes on over another connection: what was not answered for is sent there from its beginning.
    pub(super) fn moved(&mut self, terms: Arc<Terms>) {
        (self.terms, self.awaited) = (terms, Awaited::default());
        (self.is_bound, self.is_gone) = (false, false);
        self.turns.clear();
        // Of those that wait for nothing but a report, the next hop has everything.
        for (number, sending) in self.sending.iter_mut().filter(|(_, sending)| sending.until.is_none()) {
            (sending.sent, sending.open, sending.is_all_sent) = (0, 0, false);
            self.turns.push_back(*number);
        }
    }

    /// Whether it is known that the connection is of this session: both may send.
    pub(super) fn is_bound(&self) -> bool {
        self.is_bound
    }

    pub(super) fn bind(&mut self) {
        self.is_bound = true;
    }

    /// Whether the other side says that there is no such session.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    pub(super) fn has_room(&self) -> bool {
        self.sending.len() < AT_ONCE
    }

    pub(super) fn take(&mut self, parcel: Parcel) {
        let number = self.next;
        self.next += 1;
        let id = self.message_id(number);
        let sending =
            Sending { parcel, id, sent: 0, is_all_sent: false, open: 0, confirmed: Coverage::default(), until: None };
        self.sending.insert(number, sending);
        self.turns.push_back(number);
    }

    /// Nobody guesses it, and it is another for each message of the session.
    fn message_id(&self, number: u64) -> Tid {
        let value = self.terms.hash.of(&[b"message", &self.terms.ours, &number.to_be_bytes()]);
        Tid::parse(format!("m{value:016x}{number:x}").as_bytes()).expect("letters and digits, fewer than 32")
    }

    /// Whether a chunk may be written.
    pub(super) fn may_go_on(&self) -> bool {
        self.is_bound && !self.turns.is_empty() && self.awaited.len() < WINDOW
    }

    pub(super) fn hello(&mut self, out: &mut Vec<u8>, tids: &TidMaker) {
        let tid = write_hello(out, tids, &self.terms.theirs, &self.terms.ours);
        // The first of all: there is room.
        let _ = self.awaited.expect(tid, None, Instant::now());
    }

    pub(super) fn write_chunk(&mut self, out: &mut Vec<u8>, tids: &TidMaker) {
        let Some(number) = self.turns.pop_front() else { return };
        let Some(sending) = self.sending.get_mut(&number) else { return };
        let body = &sending.parcel.body;
        let end = body.len().min(sending.sent + CHUNK);
        let piece = &body[sending.sent..end];
        let mut range = ByteRange::of(sending.sent as u64 + 1, piece.len() as u64, body.len() as u64);
        if piece.len() > MSRP_UNCUT_BYTES_MAX {
            range.end = None; // RFC 4975 §7.1.1: it can be interrupted
        }
        let is_last = end == body.len();
        let outgoing = Outgoing {
            to_path: &self.terms.theirs,
            from_path: &self.terms.ours,
            message_id: sending.id.as_bytes(),
            content_type: sending.parcel.content_type.as_bytes(),
            lines: sending.parcel.lines.as_bytes(),
            success_report: self.terms.reports,
            failure_report: FailureReport::Yes,
        };
        let flag = if is_last { Flag::Complete } else { Flag::More };
        let tid = write_chunk(out, tids, &outgoing, &Piece { range, body: piece, flag });
        // There is room: the window is smaller.
        let _ = self.awaited.expect(tid, Some(number), Instant::now());
        sending.open += 1;
        sending.sent = end;
        sending.is_all_sent = is_last;
        if !is_last {
            self.turns.push_back(number);
        }
    }

    /// A response.
    pub(super) fn answered(&mut self, tid: &[u8], status: u16, now: Instant) {
        let Some(settled) = self.awaited.settle(tid) else { return };
        let meaning = meaning_of(status);
        self.is_gone |= meaning == Meaning::SessionGone;
        let Some(number) = settled.what else {
            // To the empty SEND: whatever is said but "no such session", the connection is known.
            self.is_bound |= !self.is_gone;
            return;
        };
        match meaning {
            Meaning::Taken => {
                let Some(sending) = self.sending.get_mut(&number) else { return };
                sending.open -= 1;
                if sending.is_all_sent && sending.open == 0 {
                    if !self.terms.reports {
                        self.finish(number, Delivery::Taken);
                    } else {
                        sending.until = Some(now + MSRP_RESPONSE_TIME_MAX);
                    }
                }
            }
            Meaning::TimedOut => self.finish(number, Delivery::TimedOut),
            Meaning::StopMessage | Meaning::TypeRefused | Meaning::SessionGone | Meaning::Failed(_) => {
                self.finish(number, Delivery::Refused(status));
            }
        }
    }

    /// A REPORT. One of an unknown message is ignored (RFC 4975 §7.1.3).
    pub(super) fn reported(&mut self, id: &[u8], code: u16, range: ByteRange) {
        let Some((number, sending)) = self.sending.iter_mut().find(|(_, sending)| sending.id.as_bytes() == id) else {
            return;
        };
        let number = *number;
        if code != 200 {
            let delivery = if code == 408 { Delivery::TimedOut } else { Delivery::Refused(code) };
            return self.finish(number, delivery);
        }
        let total = sending.parcel.body.len() as u64;
        // One with too many holes is of no use: the message then counts as taken.
        let _ = sending.confirmed.add(range.start, range.end.unwrap_or(total).min(total));
        if sending.is_all_sent && sending.confirmed.is_whole(total) {
            self.finish(number, Delivery::Delivered);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let reports = self.sending.values().filter_map(|sending| sending.until);
        reports.chain(self.awaited.poll_timeout()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.awaited.poll_timeout().is_some_and(|at| at <= now) {
            match self.awaited.overdue(now) {
                Some(Some(number)) => self.finish(number, Delivery::TimedOut),
                // Nobody answers, not even that the session is there.
                Some(None) => self.is_gone = true,
                None => {}
            }
        }
        let late = |(number, sending): (&u64, &Sending)| sending.until.is_some_and(|at| at <= now).then_some(*number);
        let unreported: Vec<u64> = self.sending.iter().filter_map(late).collect();
        for number in unreported {
            self.finish(number, Delivery::Taken);
        }
    }

    /// The rest of it is not sent any more.
    fn finish(&mut self, number: u64, delivery: Delivery) {
        self.turns.retain(|each| *each != number);
        if let Some(sending) = self.sending.remove(&number) {
            // Who sent it may not wait any more.
            let _ = sending.parcel.outcome.send(delivery);
        }
    }
}
