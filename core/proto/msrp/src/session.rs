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
use hashbrown::HashTable;

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
/// overdue; answers mostly come in order, so it is also the first to be found. Behind one that is never answered the
/// others are found by their ids: no peer makes us look at all of them for each of its answers.
#[derive(Debug)]
pub struct Awaited<T> {
    open: Option<(Tid, T)>,
    queue: VecDeque<Waiting<T>>,
    /// The number of the front: they are numbered as they are sent.
    first: u64,
    /// The numbers of those that are not at the front, by their ids. Filled when an answer comes out of order.
    numbers: HashTable<u64>,
    /// All below this number are in `numbers`, but for those that have left.
    noted: u64,
    /// How many of the queue are settled: they wait behind one that is not.
    settled: usize,
}

impl<T> Default for Awaited<T> {
    fn default() -> Self {
        Self { open: None, queue: VecDeque::new(), first: 0, numbers: HashTable::new(), noted: 0, settled: 0 }
    }
}

/// So many settled ones may stand behind one that is never answered, and as many more as wait.
const SETTLED_KEPT: usize = 64;

/// Our ids are unpredictable (decisions D11): their first octets are as good as a hash, and no peer chooses them.
fn hash(tid: &[u8]) -> u64 {
    let mut octets = [0; 8];
    let count = tid.len().min(8);
    octets[..count].copy_from_slice(&tid[..count]);
    // Spread: the ids are written in few of the 256 octets.
    u64::from_le_bytes(octets).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl<T> Awaited<T> {
    /// A chunk begins to go out; its time does not run before [`Awaited::sent`]. There is one open chunk a connection.
    pub fn begin(&mut self, tid: Tid, what: T) -> Result<(), Full> {
        debug_assert!(self.open.is_none(), "a chunk begins within a chunk");
        if self.len() >= MSRP_AWAITED_MAX {
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
        if self.len() >= MSRP_AWAITED_MAX {
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
        let at = self.find(tid)?;
        let what = self.queue[at].what.take()?;
        self.settled += 1;
        self.drop_settled();
        Some(Settled { what, was_open: false })
    }

    fn find(&mut self, tid: &[u8]) -> Option<usize> {
        if self.queue.front()?.tid.as_bytes() == tid {
            return Some(0);
        }
        let (queue, first) = (&self.queue, self.first);
        let tid_of = |number: u64| queue.get((number.checked_sub(first)?) as usize).map(|waiting| &waiting.tid);
        let hash_of = |number: &u64| tid_of(*number).map_or(0, |tid| hash(tid.as_bytes()));
        // Those that have left are forgotten before the table would grow for the new ones.
        let fresh = self.noted.max(first)..first + queue.len() as u64;
        if self.numbers.len() + (fresh.end - fresh.start) as usize > self.numbers.capacity() {
            self.numbers.retain(|number| *number >= first);
        }
        for number in fresh.clone() {
            self.numbers.insert_unique(hash_of(&number), number, hash_of);
        }
        self.noted = fresh.end;
        let entry =
            self.numbers.find_entry(hash(tid), |number| tid_of(*number).is_some_and(|each| each.as_bytes() == tid));
        Some((entry.ok()?.remove().0 - first) as usize)
    }

    /// When the next response is overdue.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|waiting| waiting.until)
    }

    /// The next whose response has not come in time; ask until `None`.
    pub fn overdue(&mut self, now: Instant) -> Option<T> {
        self.drop_settled();
        let late = self.queue.pop_front_if(|waiting| waiting.until <= now)?;
        self.first += 1;
        late.what
    }

    /// The connection is lost, and with it all that waited, the open chunk last (RFC 4975 §5.4).
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let open = self.open.take().map(|(_, what)| what);
        self.take_all().into_iter().filter_map(|waiting| waiting.what).chain(open)
    }

    /// All that wait, with their ids: they go over to the connection that takes this one's place, and their time begins
    /// anew there.
    pub fn hand_over(&mut self) -> impl Iterator<Item = (Tid, T)> + use<T> {
        let open = self.open.take();
        self.take_all().into_iter().filter_map(|waiting| waiting.what.map(|what| (waiting.tid, what))).chain(open)
    }

    /// How many wait, the open chunk not counted.
    pub fn len(&self) -> usize {
        self.queue.len() - self.settled
    }

    /// Whether nothing waits and no chunk is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.open.is_none()
    }

    fn drop_settled(&mut self) {
        while self.queue.pop_front_if(|waiting| waiting.what.is_none()).is_some() {
            (self.first, self.settled) = (self.first + 1, self.settled - 1);
        }
        if self.settled > self.len() + SETTLED_KEPT {
            self.queue.retain(|waiting| waiting.what.is_some());
            // They are numbered anew.
            self.first += self.settled as u64;
            (self.settled, self.noted) = (0, self.first);
            self.numbers = HashTable::new();
        }
        if self.queue.is_empty() && self.numbers.capacity() > 0 {
            self.numbers = HashTable::new();
        }
    }

    fn take_all(&mut self) -> VecDeque<Waiting<T>> {
        let all = std::mem::take(&mut self.queue);
        self.first += all.len() as u64;
        self.settled = 0;
        self.numbers = HashTable::new();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::scan::{Scanner, Step};

    #[test]
    fn responses_follow_the_failure_report_header() {
        // RFC 4975 §7.1.4, §7.2; a row: the header, the answer to success, the answer to a failure.
        for (wish, success, failure) in [
            ("", Some(200), Some(413)),
            ("Failure-Report: yes\r\n", Some(200), Some(413)),
            ("Failure-Report: partial\r\n", None, Some(413)),
            ("Failure-Report: no\r\n", None, None),
        ] {
            assert_eq!(owed("SEND", wish, 200), success, "{wish}");
            assert_eq!(owed("SEND", wish, 413), failure, "{wish}");
        }
    }

    #[test]
    fn a_report_is_never_answered_and_an_unknown_method_is() {
        // RFC 4975 §7.1.2.
        assert_eq!(owed("REPORT", "Status: 000 200 OK\r\n", 481), None);
        assert_eq!(owed("FETCH", "", 501), Some(501));
        assert_eq!(owed("FETCH", "Failure-Report: no\r\n", 501), None);
    }

    #[test]
    fn failures_found_after_the_200_are_reported_to_who_wants_them() {
        // RFC 4975 §7.1.4, RFC 4976 §6.4: a time-out is news only for who runs the timer.
        use FailureReport::{No, Partial, Yes};
        for (wish, on_error, on_silence) in [(Yes, Some(415), Some(408)), (Partial, Some(415), None), (No, None, None)]
        {
            assert_eq!((failure_report_owed(wish, 415), failure_report_owed(wish, 408)), (on_error, on_silence));
            assert_eq!(failure_report_owed(wish, 200), None);
            assert_eq!(is_timed(wish), wish == Yes);
        }
    }

    #[test]
    fn each_status_means_what_section_10_says() {
        let meanings = [200, 408, 413, 415, 481, 506, 400, 599].map(meaning_of);
        use Meaning::{Failed, SessionGone, StopMessage, Taken, TimedOut, TypeRefused};
        let wanted = [Taken, TimedOut, StopMessage, TypeRefused, SessionGone, SessionGone, Failed(400), Failed(599)];
        assert_eq!(meanings, wanted);
    }

    #[test]
    fn thirty_seconds_after_its_last_octet_a_send_is_overdue() {
        // RFC 4975 §7.1.1.
        let start = Instant::now();
        let second = |s| start + Duration::from_secs(s);
        let mut awaited = Awaited::default();
        awaited.expect(tid(1), "first", start).unwrap();
        awaited.begin(tid(2), "slow").unwrap();
        assert_eq!(awaited.poll_timeout(), Some(second(30)));
        awaited.sent(second(60));
        assert_eq!(awaited.overdue(second(29)), None);
        assert_eq!((awaited.overdue(second(30)), awaited.overdue(second(30))), (Some("first"), None));
        assert_eq!(awaited.poll_timeout(), Some(second(90)));
        assert_eq!(awaited.settle(b"tid00001"), None);
        assert_eq!(awaited.settle(b"tid00002").unwrap(), Settled { what: "slow", was_open: false });
        assert!(awaited.is_empty() && awaited.poll_timeout().is_none());
    }

    #[test]
    fn answers_may_come_in_any_order_and_each_counts_once() {
        let now = Instant::now();
        let mut awaited = Awaited::default();
        for n in 0..5 {
            awaited.expect(tid(n), n, now).unwrap();
        }
        for n in [3, 0, 4, 1] {
            assert_eq!(awaited.settle(tid(n).as_bytes()).map(|settled| settled.what), Some(n));
            assert_eq!(awaited.settle(tid(n).as_bytes()), None);
        }
        assert_eq!(awaited.overdue(now + MSRP_RESPONSE_TIME_MAX), Some(2));
        assert_eq!(awaited.overdue(now + MSRP_RESPONSE_TIME_MAX), None);
        assert_eq!(awaited.len(), 0);
    }

    #[test]
    fn behind_one_that_is_never_answered_the_others_are_found_whatever_their_order() {
        let now = Instant::now();
        let mut awaited = Awaited::default();
        awaited.expect(tid(0), 0, now).unwrap();
        let (mut sent, mut settled) = (1, Vec::new());
        for round in 0..200 {
            for _ in 0..1 + round % 7 {
                awaited.expect(tid(sent), sent, now).unwrap();
                sent += 1;
            }
            let newest_first = (sent - 1 - round % 7..sent).rev();
            for n in newest_first {
                settled.push(awaited.settle(tid(n).as_bytes()).unwrap().what);
                assert_eq!(awaited.settle(tid(n).as_bytes()), None);
            }
        }
        settled.sort_unstable();
        assert_eq!(settled, (1..sent).collect::<Vec<_>>());
        assert!(awaited.numbers.capacity() < sent && awaited.queue.len() < 200, "what has left is forgotten");
        for n in sent..sent + 2 * MSRP_AWAITED_MAX {
            assert_eq!(awaited.expect(tid(n), n, now), Ok(()), "the answered ones take no room");
            assert_eq!(awaited.settle(tid(n).as_bytes()).unwrap().what, n);
        }
        sent += 2 * MSRP_AWAITED_MAX;
        assert_eq!(awaited.settle(tid(0).as_bytes()).unwrap().what, 0);
        assert!(awaited.is_empty() && awaited.numbers.capacity() == 0);
        awaited.expect(tid(sent), sent, now).unwrap();
        assert_eq!(awaited.settle(tid(sent).as_bytes()).unwrap().what, sent);
    }

    #[test]
    fn an_error_for_the_chunk_under_way_says_so() {
        // RFC 4975 §7.3.2: it is to be ended with `#`.
        let mut awaited = Awaited::default();
        awaited.begin(tid(7), ()).unwrap();
        assert_eq!(awaited.settle(b"tid00007"), Some(Settled { what: (), was_open: true }));
        awaited.sent(Instant::now());
        assert!(awaited.is_empty());
    }

    #[test]
    fn a_lost_connection_gives_back_all_that_waited() {
        // RFC 4975 §5.4.
        let now = Instant::now();
        let mut awaited = Awaited::default();
        for n in 0..3 {
            awaited.expect(tid(n), n, now).unwrap();
        }
        awaited.settle(tid(1).as_bytes());
        awaited.begin(tid(9), 9).unwrap();
        assert_eq!(awaited.drain().collect::<Vec<_>>(), [0, 2, 9]);
        assert!(awaited.is_empty() && awaited.forget_open().is_none());
    }

    #[test]
    fn what_waits_is_bounded() {
        let now = Instant::now();
        let mut awaited = Awaited::default();
        for n in 0..MSRP_AWAITED_MAX {
            awaited.expect(tid(n), n, now).unwrap();
        }
        assert_eq!((awaited.expect(tid(0), 0, now), awaited.begin(tid(0), 0)), (Err(Full), Err(Full)));
        awaited.settle(tid(0).as_bytes());
        assert_eq!(awaited.expect(tid(0), 0, now), Ok(()));
    }

    fn owed(method: &str, lines: &str, verdict: u16) -> Option<u16> {
        let text = format!(
            "MSRP abcdefgh {method}\r\nTo-Path: msrp://a:1/s;tcp\r\nFrom-Path: msrp://b:1/s;tcp\r\nMessage-ID: 4564dpWd\r\n\
             {lines}-------abcdefgh$\r\n"
        );
        match Scanner::default().scan(text.as_bytes()) {
            Ok(Step::Head(spans)) => response_owed(spans.view(text.as_bytes()), verdict),
            other => panic!("{other:?}"),
        }
    }

    fn tid(n: usize) -> Tid {
        Tid::parse(format!("tid{n:05}").as_bytes()).unwrap()
    }
}
