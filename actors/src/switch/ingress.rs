//! One connection's reading side: bytes are cut into chunks, and each leaves towards the other leg with a fresh head, a
//! fresh transaction id and its body as it came (RFC 4975; `fast-path.md` §3).
//!
//! Cut-through: a chunk leaves before its end has come. One that is under way when the turn ends stays open on its lane;
//! whoever must write there meanwhile ends it with `+`, and it goes on with a new head (decisions D10). No body can make us
//! emit a frame that we did not cut: ids are unpredictable, and while a chunk is open its body is searched for our id too
//! (D11).

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use base::limits::MSRP_STALL_MAX;
use bytes::Bytes;
use msrp::{FailureReport, Flag, Head, Kind, Meaning, Method, ParseError, Resume, Scanner, Step, Tid};

use super::turn::{Read, Turn};
use super::{Opened, Pair, Route, Switch, Unfit};
use crate::message::{SessionInput, Side, SwitchEvent};
use crate::outbox::{Msrp, Outbox, Waiting};
use crate::turn;

/// The reading side of one connection. Knows no socket.
pub struct Ingress {
    own: Arc<Outbox>,
    scanner: Scanner,
    route: Option<Route>,
    open: Open,
    bound: Vec<(Arc<Pair>, Side)>,
    /// The body of the open chunk has come to our own id: it must be cut there.
    clashed: bool,
    /// When the chunk under way began, or last went on.
    moved: Instant,
}

/// The chunk that is being read.
enum Open {
    /// None.
    None,
    /// It is forwarded; its end has not come.
    Onward(Box<Onward>),
    /// Its body goes nowhere; this answer is due at its end.
    Swallowed(Vec<u8>),
}

struct Onward {
    route: Route,
    tid: Tid,
    resume: Resume,
    /// Octets of its body that have left.
    sent: u64,
    /// What the sender is answered at its end; empty: nothing.
    answer: Vec<u8>,
    due: Option<Waiting>,
}

/// A connection that must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// What comes over it is no MSRP, or its place is lost.
    #[error("framing is lost: {0}")]
    Framing(ParseError),
    /// Its peer begins and does not go on, or never says anything.
    #[error("its peer is too slow")]
    Slow,
    /// We failed over it.
    #[error("a fault of ours")]
    Panic,
}

impl Ingress {
    /// For a connection with this way back.
    pub fn new(own: Arc<Outbox>, now: Instant) -> Self {
        Self {
            own,
            scanner: Scanner::default(),
            route: None,
            open: Open::None,
            bound: Vec::new(),
            clashed: false,
            moved: now,
        }
    }

    /// A leg that this connection was opened for.
    pub fn carry(&mut self, pair: Arc<Pair>, side: Side) {
        tell(&pair, SwitchEvent::Bound(side));
        self.bound.push((pair, side));
    }

    /// As [`Ingress::carry`], for a connection that never came to be.
    #[must_use]
    pub fn carrying(mut self, opened: Opened) -> Self {
        self.bound.push((opened.pair, opened.side));
        self
    }

    /// Whether a chunk has begun whose end has not come.
    pub fn is_within_chunk(&self) -> bool {
        self.scanner.is_within_chunk()
    }

    /// Whether any session is on it.
    pub fn is_used(&self) -> bool {
        !self.bound.is_empty()
    }

    /// Whether a chunk has begun and does not go on for too long.
    pub fn is_stalled(&self, now: Instant) -> bool {
        self.scanner.is_within_chunk() && now.saturating_duration_since(self.moved) > MSRP_STALL_MAX
    }

    /// Cuts what was read and writes it on. How many octets at the end must be given again, with more behind them.
    ///
    /// # Errors
    /// The connection must be closed.
    pub fn read(&mut self, switch: &Switch, turn: &mut Turn, read: &mut Read, now: Instant) -> Result<usize, Cut> {
        self.moved = now;
        let mut at = 0;
        let outcome = loop {
            let step = if matches!(self.open, Open::None) {
                self.begin(switch, turn, read, &mut at, now)
            } else {
                self.go_on(switch, turn, read, &mut at)
            };
            match step {
                Ok(true) => {}
                Ok(false) => break Ok(read.bytes().len() - at),
                Err(error) => break Err(Cut::Framing(error)),
            }
        };
        turn.flush(read);
        self.report_lost(switch, turn, read);
        outcome
    }

    /// A new message. `Ok(false)`: more is needed.
    fn begin(
        &mut self,
        switch: &Switch,
        turn: &mut Turn,
        read: &mut Read,
        at: &mut usize,
        now: Instant,
    ) -> Result<bool, ParseError> {
        let bytes = &read.bytes()[*at..];
        if bytes.is_empty() {
            return Ok(false);
        }
        let spans = match self.scanner.scan(bytes)? {
            Step::Head(spans) => spans,
            Step::More => return Ok(false),
            // Between messages the scanner says nothing else.
            Step::Body { .. } | Step::Clash | Step::End { .. } => return Ok(false),
        };
        let head = spans.view(bytes);
        let head_at = *at;
        *at += spans.used();
        if let Some(fault) = spans.fault() {
            return self.swallow(turn, head, msrp_status(&fault));
        }
        match head.kind() {
            Kind::Response(status) => {
                self.answered(switch, turn, head.tid(), status, now);
                self.open = Open::Swallowed(Vec::new());
                Ok(true)
            }
            Kind::Request(Method::Send | Method::Report) => match self.find(switch, head) {
                Ok(route) => {
                    route.pair.hear(now);
                    self.forward(switch, turn, read, route, head_at, at, spans)
                }
                Err(status) => {
                    let head = spans.view(&read.bytes()[head_at..]);
                    self.swallow(turn, head, status)
                }
            },
            Kind::Request(_) => self.swallow(turn, head, 501),
        }
    }

    /// Its body goes nowhere; it is answered at its end. 200 for what only binds.
    fn swallow(&mut self, _turn: &mut Turn, head: Head<'_>, status: u16) -> Result<bool, ParseError> {
        let mut answer = Vec::new();
        if let Some(status) = msrp::response_owed(head, status) {
            msrp::respond(&mut answer, head, status, head.to_first());
        }
        self.open = Open::Swallowed(answer);
        Ok(true)
    }

    /// The leg that a request is for, if it may use it and there is something to forward; else the status that it is
    /// answered with.
    fn find(&mut self, switch: &Switch, head: Head<'_>) -> Result<Route, u16> {
        let uri = head.to_uri().map_err(|_| 400u16)?;
        // An endpoint's To-Path has exactly one URI (RFC 4975 §7.3).
        if head.to_path().len() != head.to_first().len() {
            return Err(481);
        }
        if let Some(route) = &self.route
            && route.pair.id(route.side) == uri.session_id
            && route.epoch == route.pair.epoch()
        {
            return Ok(route.clone());
        }
        let (pair, side) = switch.find(uri.session_id).ok_or(481u16)?;
        match pair.bind(side, &self.own, head.from_path()) {
            Ok(true) => self.carry(pair.clone(), side),
            Ok(false) => {}
            Err(Unfit::Elsewhere) => return Err(506),
            Err(Unfit::Stranger) => return Err(481),
        }
        // Whoever is called may connect as soon as his 200 has left: what only binds is fit before that 200 is read here.
        let only_binds = head.method() == Some(Method::Send) && !head.has_body();
        let route = pair.route(side).ok_or(if only_binds { 200u16 } else { 481 })?;
        self.route = Some(route.clone());
        Ok(route)
    }

    /// A SEND or REPORT goes on to the other leg.
    fn forward(
        &mut self,
        switch: &Switch,
        turn: &mut Turn,
        read: &Read,
        route: Route,
        head_at: usize,
        at: &mut usize,
        spans: msrp::HeadSpans,
    ) -> Result<bool, ParseError> {
        let bytes = read.bytes();
        let head = spans.view(&bytes[head_at..]);
        let is_send = head.method() == Some(Method::Send);
        if is_send && !head.has_body() {
            // It only binds (RFC 4975 §5.4): the other leg has a binding of its own.
            return self.swallow(turn, head, 200);
        }
        let tid = switch.tids.next();
        self.scanner.guard(&tid);
        let body_at = *at;
        let end = loop {
            match self.scanner.scan(&bytes[*at..])? {
                Step::Body { used } => *at += used,
                Step::End { used, flag } => {
                    *at += used;
                    break Some((*at - used, flag));
                }
                Step::Clash => {
                    self.clashed = true;
                    break None;
                }
                Step::More | Step::Head(_) => break None,
            }
            if *at == bytes.len() {
                break None;
            }
        };
        let answer = is_send.then(|| msrp::response_owed(head, 200)).flatten();
        let wish = head.failure_report();
        let due = (is_send && wish != FailureReport::No).then(|| waiting(&self.own, &route, head, wish));
        let lane = turn.lane(&route.peer);
        match end {
            Some((body_end, flag)) => {
                msrp::forward_head(&mut lane.new, head, &tid, &route.peer_path, &route.peer_own, msrp::Range::Kept);
                lane.body(bytes, body_at..body_end);
                msrp::end_line(&mut lane.new, &tid, flag, head.has_body());
                if let Some(due) = due {
                    lane.expect(tid, due);
                }
                if let Some(status) = answer {
                    msrp::respond(&mut turn.lane(&self.own).new, head, status, &route.own);
                }
                Ok(true)
            }
            None => {
                msrp::forward_head(&mut lane.new, head, &tid, &route.peer_path, &route.peer_own, msrp::Range::Open);
                lane.body(bytes, body_at..*at);
                lane.stays_open(tid, due.clone());
                let mut written = Vec::new();
                if let Some(status) = answer {
                    msrp::respond(&mut written, head, status, &route.own);
                }
                let resume = Resume::of(head, &route.peer_path, &route.peer_own);
                let sent = (*at - body_at) as u64;
                self.open = Open::Onward(Box::new(Onward { route, tid, resume, sent, answer: written, due }));
                Ok(self.clashed)
            }
        }
    }

    /// The chunk under way goes on. `Ok(false)`: more is needed.
    fn go_on(&mut self, switch: &Switch, turn: &mut Turn, read: &mut Read, at: &mut usize) -> Result<bool, ParseError> {
        let from = *at;
        // A clash that was found where the chunk began is dealt with first: nothing more is read before.
        let mut clash = std::mem::take(&mut self.clashed);
        let end = loop {
            if clash {
                break None;
            }
            let bytes = &read.bytes()[*at..];
            if bytes.is_empty() {
                break None;
            }
            match self.scanner.scan(bytes)? {
                Step::Body { used } => *at += used,
                Step::End { used, flag } => {
                    *at += used;
                    break Some((*at - used, flag));
                }
                Step::Clash => clash = true,
                Step::More | Step::Head(_) => break None,
            }
        };
        let body = from..end.map_or(*at, |(body_end, _)| body_end);
        match &mut self.open {
            Open::None => {}
            Open::Swallowed(answer) => {
                if end.is_some() {
                    if !answer.is_empty() {
                        turn.lane(&self.own).new.extend_from_slice(answer);
                    }
                    self.open = Open::None;
                }
            }
            Open::Onward(onward) => {
                onward.route.pair.hear(self.moved);
                turn.flush(read);
                let is_blocked = onward.write(switch, read, body, end.map(|(_, flag)| flag), clash, &mut self.scanner);
                if is_blocked {
                    turn.blocked.push(onward.route.peer.clone());
                }
                if end.is_some() {
                    if !onward.answer.is_empty() {
                        turn.lane(&self.own).new.extend_from_slice(&onward.answer);
                    }
                    self.open = Open::None;
                }
            }
        }
        Ok(end.is_some() || clash)
    }

    /// A response came to something that we forwarded over this connection.
    fn answered(&mut self, switch: &Switch, turn: &mut Turn, tid: &[u8], status: u16, _now: Instant) {
        let settled = self.own.hold().msrp().due.settle(tid);
        let Some(settled) = settled else { return };
        match msrp::meaning_of(status) {
            Meaning::Taken => {}
            _ => fail(switch, turn, settled.what, status),
        }
    }

    /// SENDs whose responses did not come in time (RFC 4975 §7.3: 408), and those whose connection was gone.
    pub fn overdue(&mut self, switch: &Switch, turn: &mut Turn, read: &mut Read, now: Instant) {
        loop {
            let late = self.own.hold().msrp().due.overdue(now);
            match late {
                Some(waiting) => fail(switch, turn, waiting, 408),
                None => break,
            }
        }
        turn.flush(read);
    }

    /// When [`Ingress::overdue`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.own.hold().msrp().due.poll_timeout()
    }

    fn report_lost(&mut self, switch: &Switch, turn: &mut Turn, read: &mut Read) {
        let lost = std::mem::take(&mut turn.lost);
        if !lost.is_empty() {
            lost.into_iter().for_each(|waiting| fail(switch, turn, waiting, 481));
            turn.flush(read);
        }
    }

    /// The connection is gone: its sessions' actors learn it, and whoever waits for a response from it.
    pub fn end(mut self, switch: &Switch, turn: &mut Turn, read: &mut Read) {
        if let Open::Onward(onward) = &self.open {
            onward.abandon();
        }
        for (pair, side) in std::mem::take(&mut self.bound) {
            if pair.unbind(side, self.own.id()) {
                tell(&pair, SwitchEvent::Lost(side));
            }
        }
        let due: Vec<Waiting> = self.own.hold().msrp().due.drain().collect();
        due.into_iter().for_each(|waiting| fail(switch, turn, waiting, 481));
        turn.flush(read);
    }
}

impl Onward {
    /// Writes a further part straight to the lane; with a new head where somebody else has written meanwhile. Whether the
    /// socket did not take all.
    fn write(
        &mut self,
        switch: &Switch,
        read: &mut Read,
        body: std::ops::Range<usize>,
        end: Option<Flag>,
        clash: bool,
        scanner: &mut Scanner,
    ) -> bool {
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        let peer = self.route.peer.clone();
        let mut held = peer.hold();
        if !held.msrp().is_open(&self.tid) {
            self.resume(switch, held.msrp(), &mut head);
        }
        self.sent += body.len() as u64;
        match end {
            Some(flag) => held.msrp().end(&mut tail, flag),
            // What follows would end our chunk: it ends by us, and goes on under another id.
            None if clash => self.resume(switch, held.msrp(), &mut tail),
            None => {}
        }
        let mut left: ArrayVec<(usize, usize), 3> = ArrayVec::new();
        {
            let slices = [IoSlice::new(&head), IoSlice::new(&read.bytes()[body.clone()]), IoSlice::new(&tail)];
            let _ = held.try_write(&slices, |number, from| left.push((number, from)));
        }
        for (number, from) in left {
            held.queue(match number {
                0 => Bytes::copy_from_slice(&head[from..]),
                1 => read.share(body.start + from..body.end),
                _ => Bytes::copy_from_slice(&tail[from..]),
            });
        }
        if end.is_none() {
            scanner.guard(&self.tid);
        }
        held.is_waiting()
    }

    /// What is open on the lane is ended with `+`, and it goes on behind that under another id: each part has an answer of
    /// its own.
    fn resume(&mut self, switch: &Switch, lane: &mut Msrp, out: &mut Vec<u8>) {
        lane.end(out, Flag::More);
        self.tid = switch.tids.next();
        self.resume.write(out, &self.tid, self.sent);
        lane.begin(self.tid, self.due.clone());
    }

    /// The sender is gone in the middle of it: what has left is ended as aborted.
    fn abandon(&self) {
        let mut held = self.route.peer.hold();
        if held.msrp().is_open(&self.tid) {
            let mut tail = Vec::new();
            held.msrp().due.forget_open();
            held.msrp().end(&mut tail, Flag::Aborted);
            let mut left = Vec::new();
            let _ = held.try_write(&[IoSlice::new(&tail)], |_, from| left.push(from));
            for from in left {
                held.queue(Bytes::copy_from_slice(&tail[from..]));
            }
        }
    }
}

fn waiting(own: &Arc<Outbox>, route: &Route, head: Head<'_>, wish: FailureReport) -> Waiting {
    Waiting {
        back: own.clone(),
        to_path: route.path.clone(),
        from_path: route.own.clone(),
        message_id: head.message_id().unwrap_or_default().iter().take(32).copied().collect(),
        range: head.range(),
        wish,
    }
}

/// A SEND was refused, or never answered, after we had answered it: its sender gets a failure REPORT, if it is owed one.
fn fail(switch: &Switch, turn: &mut Turn, waiting: Waiting, status: u16) {
    if let Some(status) = msrp::failure_report_owed(waiting.wish, status) {
        let report = msrp::Report {
            tid: &switch.tids.next(),
            to_path: &waiting.to_path,
            from_path: &waiting.from_path,
            message_id: &waiting.message_id,
            byte_range: waiting.range,
            status,
        };
        msrp::report(&mut turn.lane(&waiting.back).new, &report);
    }
}

fn msrp_status(fault: &ParseError) -> u16 {
    match fault.reply() {
        msrp::Reply::Status(status) => status,
        msrp::Reply::Close => 400,
    }
}

fn tell(pair: &Pair, event: SwitchEvent) {
    turn::fill_later(|turn| turn.session(pair.owner, SessionInput::Switch(event)));
}
