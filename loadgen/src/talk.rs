//! MSRP endpoints by the thousand in one thread: both ends of every session are ours, so that each SEND is followed from
//! the one to the other, every octet of it checked, and its end known.
//!
//! ```text
//! Script ──octets──> Leg A ══ socket ══> the server ══ socket ══> Leg B ──checked against──> Script
//!    A.under_way: a SEND is over when B has heard it and, where one is due, its response has come
//! ```
//!
//! Non-blocking sockets under one epoll, one write a connection and turn.

pub mod auth;
mod leg;
mod script;
pub mod tally;

use std::io::{self, Read as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use msrp::{FailureReport, Flag, Head, Kind, Method, Step};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::crowd::Dice;
use crate::sizes::Sizes;
use crate::talk::leg::{Asked, Failed, Leg};
use crate::talk::script::Script;
use crate::wire::timespec;

pub use leg::Speech;
pub use tally::Tally;

/// Octets of one read.
const READ_BYTES: usize = 128 * 1024;
/// What may stand before them from the read before: a whole head.
const REST_BYTES: usize = 32 * 1024;
const EVENTS: usize = 256;
/// With a receiver who reads slowly no wait is longer.
const SLOW_TURN: Duration = Duration::from_millis(5);

/// One end of a session to come.
pub struct End<'a> {
    /// Its connection.
    pub socket: TcpStream,
    /// Its URI.
    pub own: &'a [u8],
    /// The path to the other end.
    pub to: &'a [u8],
    /// SENDs that it may have under way at once.
    pub window: usize,
    /// Whether it connected, and says who it is by an empty SEND.
    pub hello: bool,
}

/// A SEND that is over.
#[derive(Debug, Clone, Copy)]
pub struct Over {
    /// From its writing to its end.
    pub latency_ns: u64,
    /// Octets of its body.
    pub octets: u32,
}

/// All sessions of this process.
pub struct Talk {
    legs: Vec<Leg>,
    /// Pairs that have ended: their places.
    free: Vec<usize>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    dirty: Vec<usize>,
    slow: Vec<usize>,
    script: Script,
    speech: Speech,
    sizes: Sizes,
    dice: Dice,
    begun: Instant,
    is_speaking: bool,
    is_ending: bool,
    over: Vec<Over>,
    tally: Tally,
}

impl Talk {
    /// Nobody speaks yet.
    ///
    /// # Errors
    /// The kernel gave no epoll.
    pub fn new(run: [u8; 8], speech: Speech, sizes: Sizes, seed: u64) -> io::Result<Self> {
        Ok(Self {
            legs: Vec::new(),
            free: Vec::new(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; REST_BYTES + READ_BYTES],
            dirty: Vec::new(),
            slow: Vec::new(),
            script: Script::new(run),
            speech,
            sizes: Sizes { least: sizes.least.max(1), most: sizes.most.max(1) },
            dice: Dice::new(seed),
            begun: Instant::now(),
            is_speaking: false,
            is_ending: false,
            over: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// One more session; its number. Each end may begin `quota` messages, or as many as there is time for.
    ///
    /// # Errors
    /// The sockets are gone.
    pub fn add(&mut self, ends: [End<'_>; 2], quota: Option<u64>) -> io::Result<usize> {
        let pair = self.free.pop().unwrap_or(self.legs.len() / 2);
        for (side, end) in ends.into_iter().enumerate() {
            let at = 2 * pair + side;
            end.socket.set_nonblocking(true)?;
            end.socket.set_nodelay(true)?;
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &end.socket, EventData::new_u64(at as u64), interest)?;
            let mut leg = Leg::new(end.socket, end.own, end.to, end.window);
            leg.quota = quota;
            if end.hello {
                leg.hello(&self.script.id(at, 0));
            }
            // Numbers go on where a place is used again: what is late from before is not taken for ours.
            if let Some(before) = self.legs.get(at) {
                (leg.number, leg.front) = (before.number + 1, before.front + before.under_way.len() as u64);
                leg.heard = self.legs[at ^ 1].number + u64::from(side == 0);
                self.legs[at] = leg;
            } else {
                self.legs.push(leg);
            }
            self.mark(at);
        }
        Ok(pair)
    }

    /// Ends a session: both connections are closed by us.
    pub fn remove(&mut self, pair: usize) {
        for at in [2 * pair, 2 * pair + 1] {
            self.legs[at].socket = None;
            self.tally.lost += std::mem::take(&mut self.legs[at].open);
            self.legs[at].under_way.clear();
        }
        self.free.push(pair);
    }

    /// Whether both connections of a session are known to the other side.
    pub fn is_ready(&self, pair: usize) -> bool {
        self.legs[2 * pair].is_ready && self.legs[2 * pair + 1].is_ready
    }

    /// Whether both ends of a session have said all that they may, and have heard of all of it; or cannot any more.
    pub fn is_done(&self, pair: usize) -> bool {
        let is_done = |leg: &Leg| {
            let is_silent = leg.window == 0 || leg.quota == Some(0);
            leg.socket.is_none() || leg.is_ready && is_silent && leg.open == 0
        };
        is_done(&self.legs[2 * pair]) && is_done(&self.legs[2 * pair + 1])
    }

    /// Lets an end read at most so many octets a second.
    pub fn slow_down(&mut self, pair: usize, side: usize, bytes_per_s: f64) {
        let at = 2 * pair + side;
        self.legs[at].slow = Some((bytes_per_s, self.now_ns(), 0));
        self.slow.push(at);
    }

    /// From now on messages are begun, or no more; those begun are said to their end.
    pub fn speak(&mut self, is_speaking: bool) {
        self.is_speaking = is_speaking;
        (0..self.legs.len()).for_each(|at| self.mark(at));
    }

    /// From now on the other side may close connections.
    pub fn end(&mut self) {
        self.is_ending = true;
    }

    /// From now on the other side may close the connections of one session.
    pub fn expect_end(&mut self, pair: usize) {
        (self.legs[2 * pair].is_ending, self.legs[2 * pair + 1].is_ending) = (true, true);
    }

    /// Messages begun and not over.
    pub fn under_way(&self) -> u64 {
        self.legs.iter().map(|leg| leg.open).sum()
    }

    /// SENDs that ended since the last time.
    pub fn take_over(&mut self) -> std::vec::Drain<'_, Over> {
        self.over.drain(..)
    }

    /// What was counted; what is still under way is missing.
    pub fn tally(&self) -> Tally {
        Tally { missing: self.tally.missing + self.under_way(), ..self.tally.clone() }
    }

    /// Octets of messages heard so far.
    pub fn octets(&self) -> u64 {
        self.tally.octets
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn mark(&mut self, at: usize) {
        if !std::mem::replace(&mut self.legs[at].is_dirty, true) {
            self.dirty.push(at);
        }
    }

    /// One turn: write, wait, hear, write. Sleeps at most `wait`, and only when nothing came.
    ///
    /// # Errors
    /// Those of epoll.
    pub fn turn(&mut self, wait: Duration) -> io::Result<()> {
        self.flush();
        let wait = if self.slow.is_empty() { wait } else { wait.min(SLOW_TURN) };
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&timespec(wait))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            let at = usize::try_from(data).unwrap_or(usize::MAX);
            if flags.contains(EventFlags::OUT) && std::mem::take(&mut self.legs[at].is_blocked) {
                self.mark(at);
            }
            if self.legs[at].slow.is_none() && flags.intersects(!EventFlags::OUT) {
                self.read(at, usize::MAX);
            }
        }
        self.events = events;
        for at in self.slow.clone() {
            let Some((bytes_per_s, since_ns, taken)) = self.legs[at].slow else { continue };
            let due = bytes_per_s * self.now_ns().saturating_sub(since_ns) as f64 / 1e9;
            let may = (due as u64).saturating_sub(taken);
            if may > 0 {
                let read = self.read(at, usize::try_from(may).unwrap_or(usize::MAX));
                self.legs[at].slow = Some((bytes_per_s, since_ns, taken + read as u64));
            }
        }
        self.flush();
        Ok(())
    }

    fn flush(&mut self) {
        while let Some(at) = self.dirty.pop() {
            self.legs[at].is_dirty = false;
            loop {
                let has_said = self.fill(at);
                let leg = &mut self.legs[at];
                if leg.is_blocked {
                    break;
                }
                if !leg.write() {
                    self.close(at);
                    break;
                }
                if !has_said {
                    break;
                }
            }
        }
    }

    /// Writes SENDs into an end's buffer as far as its window and the buffer go; whether there were any.
    fn fill(&mut self, at: usize) -> bool {
        let now_ns = if self.legs[at].may_say() { self.now_ns() } else { return false };
        let mut has_said = false;
        while self.legs[at].may_say() {
            let leg = &mut self.legs[at];
            if leg.size == 0 {
                if !self.is_speaking {
                    break;
                }
                leg.size = self.sizes.draw(&mut self.dice);
                leg.quota = leg.quota.map(|quota| quota - 1);
                leg.open += 1;
                self.tally.sent += 1;
            }
            leg.say(&self.script, at, &self.speech, now_ns);
            self.tally.sends += 1;
            has_said = true;
        }
        has_said
    }

    /// Reads what has come, at most about `most` octets; how many.
    fn read(&mut self, at: usize, most: usize) -> usize {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut all = 0;
        while all < most {
            let leg = &mut self.legs[at];
            let Some(socket) = leg.socket.as_mut() else { break };
            let rest = leg.rest.len();
            let room = READ_BYTES.min(most - all);
            match socket.read(&mut buffer[rest..rest + room]) {
                Ok(0) => {
                    self.close(at);
                    break;
                }
                Ok(taken) => {
                    buffer[..rest].copy_from_slice(&leg.rest);
                    leg.rest.clear();
                    let bytes = &buffer[..rest + taken];
                    let used = self.hear(at, bytes);
                    self.legs[at].rest.extend_from_slice(&bytes[used.min(bytes.len())..]);
                    if self.legs[at].rest.len() > REST_BYTES {
                        self.tally.garbled += 1;
                        self.close(at);
                    }
                    all += taken;
                    if taken < room {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.close(at);
                    break;
                }
            }
        }
        self.buffer = buffer;
        all
    }

    /// Hears frames; how many octets of them are done with.
    fn hear(&mut self, at: usize, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() {
            match self.legs[at].scanner.scan(&bytes[used..]) {
                Ok(Step::More) => break,
                Ok(Step::Head(spans)) => {
                    let head = spans.view(&bytes[used..]);
                    match head.kind() {
                        Kind::Response(status) => self.answered(at, head, status),
                        Kind::Request(Method::Send) => self.asked(at, head),
                        Kind::Request(Method::Report) => self.reported(at, head),
                        Kind::Request(_) => self.tally.foreign += 1,
                    }
                    used += spans.used();
                }
                Ok(Step::Body { used: length }) => {
                    self.body(at, &bytes[used..used + length]);
                    used += length;
                }
                Ok(Step::Clash) => {}
                Ok(Step::End { used: length, flag }) => {
                    self.ended(at, flag);
                    used += length;
                }
                Err(_) => {
                    self.tally.garbled += 1;
                    self.close(at);
                    return bytes.len();
                }
            }
        }
        used
    }

    /// A SEND begins to come: is it the next one of the other end's?
    fn asked(&mut self, at: usize, head: Head<'_>) {
        let range = head.range();
        let leg = &mut self.legs[at];
        let named = head.message_id().filter(|_| head.has_body()).and_then(|id| self.script.of_id(id));
        let mut is_next = false;
        if let Some((from, number)) = named {
            if from == at ^ 1 && number > leg.heard && range.start == 1 {
                let skipped = leg.heard..number;
                (leg.heard, leg.heard_at) = (number, 0);
                for number in skipped {
                    self.legs[at ^ 1].skipped.insert(number);
                }
            }
            let leg = &self.legs[at];
            is_next = from == at ^ 1 && number == leg.heard && range.start == leg.heard_at + 1;
            self.tally.misordered += u64::from(!is_next);
        } else if head.has_body() {
            self.tally.foreign += 1;
        }
        let wishes = head.failure_report() == FailureReport::Yes;
        let answer_to = if wishes { head.from_first().to_vec() } else { Vec::new() };
        self.legs[at].asked = Some(Asked { tid: head.tid_owned(), answer_to, is_next, total: range.total });
    }

    fn body(&mut self, at: usize, octets: &[u8]) {
        let leg = &mut self.legs[at];
        if leg.asked.as_ref().is_some_and(|asked| asked.is_next) {
            if !self.script.is(octets, leg.heard, leg.heard_at) {
                self.tally.corrupt += 1;
            }
            leg.heard_at += octets.len() as u64;
            self.tally.octets += octets.len() as u64;
        }
    }

    /// A request has come whole.
    fn ended(&mut self, at: usize, flag: Flag) {
        let leg = &mut self.legs[at];
        let Some(asked) = leg.asked.take() else { return };
        if !asked.answer_to.is_empty() {
            msrp::response(&mut leg.out, asked.tid.as_bytes(), 200, &asked.answer_to, &leg.own);
            self.mark(at);
        }
        if !asked.is_next {
            return;
        }
        let leg = &mut self.legs[at];
        if flag != Flag::More {
            let is_whole = flag == Flag::Complete && asked.total == Some(leg.heard_at);
            if !is_whole {
                self.tally.cut += 1;
                let number = leg.heard;
                self.legs[at ^ 1].skipped.insert(number);
            }
            let leg = &mut self.legs[at];
            (leg.heard, leg.heard_at) = (leg.heard + 1, 0);
        }
        self.settle(at ^ 1);
    }

    fn answered(&mut self, at: usize, head: Head<'_>, status: u16) {
        *self.tally.responses.entry(status).or_default() += 1;
        let leg = &mut self.legs[at];
        match Script::of_tid(head.tid()) {
            Some(0) => {
                leg.is_ready = status == 200;
                self.tally.refused_hellos += u64::from(status != 200);
                self.mark(at);
            }
            Some(chunk) => {
                let place = chunk.checked_sub(leg.front).and_then(|place| usize::try_from(place).ok());
                let Some(chunk) = place.and_then(|place| leg.under_way.get_mut(place)) else {
                    self.tally.strays += 1;
                    return;
                };
                chunk.is_answered = true;
                let number = chunk.number;
                if status == 200 { self.settle(at) } else { self.fail(at, number) }
            }
            None => self.tally.strays += 1,
        }
    }

    /// A REPORT: of a success nobody asked for, or of a failure.
    fn reported(&mut self, at: usize, head: Head<'_>) {
        let status = head.report_status().map_or(0, |status| status.code);
        *self.tally.reports.entry(status).or_default() += 1;
        match head.message_id().and_then(|id| self.script.of_id(id)) {
            Some((from, number)) if from == at && status != 200 => self.fail(at, number),
            _ => self.tally.strays += 1,
        }
    }

    fn fail(&mut self, at: usize, number: u64) {
        match self.legs[at].fail(number) {
            Failed::UnderWay => self.settle(at),
            Failed::BetweenChunks => {
                self.legs[at].open -= 1;
                self.tally.failed += 1;
                self.mark(at);
            }
            Failed::Over => self.tally.strays += 1,
        }
    }

    /// Takes SENDs of an end that are over off its list, in order.
    fn settle(&mut self, at: usize) {
        let (heard, heard_at) = (self.legs[at ^ 1].heard, self.legs[at ^ 1].heard_at);
        let now_ns = self.now_ns();
        let leg = &mut self.legs[at];
        let mut has_room = false;
        while let Some(chunk) = leg.under_way.front() {
            let is_heard = chunk.number < heard || chunk.number == heard && chunk.end <= heard_at;
            if !chunk.is_answered || !(is_heard || chunk.has_failed) {
                break;
            }
            has_room = true;
            leg.front += 1;
            let Some(chunk) = leg.under_way.pop_front() else { break };
            let is_over = chunk.is_last
                || chunk.has_failed && leg.under_way.front().is_none_or(|next| next.number != chunk.number);
            if !chunk.has_failed {
                self.over.push(Over { latency_ns: now_ns.saturating_sub(chunk.begun_ns), octets: chunk.octets });
            }
            if is_over {
                leg.open = leg.open.saturating_sub(1);
                let is_skipped = leg.skipped.remove(&chunk.number);
                if leg.failed.remove(&chunk.number) {
                    self.tally.failed += 1;
                } else if is_skipped {
                    self.tally.missing += 1;
                } else {
                    self.tally.delivered += 1;
                }
            }
        }
        if has_room {
            self.mark(at);
        }
    }

    /// A connection is gone, and with it what both ends had under way.
    fn close(&mut self, at: usize) {
        if self.legs[at].socket.take().is_none() {
            return;
        }
        self.tally.closed += u64::from(!self.is_ending && !self.legs[at].is_ending);
        for at in [at, at ^ 1] {
            let leg = &mut self.legs[at];
            self.tally.lost += std::mem::take(&mut leg.open);
            leg.under_way.clear();
            leg.window = 0;
        }
    }
}
