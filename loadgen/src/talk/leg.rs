//! One end of a session: what it has under way, what it has heard, and what it still owes its socket.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write as _};
use std::net::TcpStream;

use msrp::{ByteRange, FailureReport, Flag, Scanner, Send, Tid};

use crate::talk::script::Script;

/// No more than this waits in an end's own buffer: what is to come is written when this has left.
pub(super) const OUT_BYTES: usize = 256 * 1024;

/// A SEND under way: one chunk.
pub(super) struct Chunk {
    /// Its message.
    pub number: u64,
    /// Where in the message it ends.
    pub end: u64,
    pub octets: u32,
    /// It is the last of its message.
    pub is_last: bool,
    /// Its response has come, or none is due.
    pub is_answered: bool,
    /// It has been refused, or its message has been reported failed.
    pub has_failed: bool,
    pub begun_ns: u64,
}

/// The request that is coming in.
pub(super) struct Asked {
    pub tid: Tid,
    /// To whom a 200 goes; empty when none is wished.
    pub answer_to: Vec<u8>,
    /// Whether it continues what we have heard.
    pub is_next: bool,
    /// The octets that its message has in all.
    pub total: Option<u64>,
}

/// What a message was when it failed.
pub(super) enum Failed {
    /// Chunks of it are under way: with the last of them it is over.
    UnderWay,
    /// Some were, and some were to come: it is over now.
    BetweenChunks,
    /// It was over before.
    Over,
}

/// What one end of a session says.
#[derive(Debug, Clone, Copy)]
pub struct Speech {
    /// Octets of body in one SEND.
    pub chunk_bytes: usize,
    /// What it wants to hear of failure; without `yes` no response is awaited.
    pub failure_report: FailureReport,
}

pub(super) struct Leg {
    pub socket: Option<TcpStream>,
    /// Our URI.
    pub own: Box<[u8]>,
    /// The path to the other end.
    pub to: Box<[u8]>,
    pub scanner: Scanner,
    /// A head or a mark that has not come whole.
    pub rest: Vec<u8>,
    pub out: Vec<u8>,
    /// Octets of `out` that have left.
    pub sent: usize,
    pub is_blocked: bool,
    pub is_dirty: bool,
    /// The other side knows whose this connection is.
    pub is_ready: bool,
    /// SENDs that may be under way at once.
    pub window: usize,
    /// Messages still to be begun; nothing: no end.
    pub quota: Option<u64>,
    pub under_way: VecDeque<Chunk>,
    /// The number of the first of them; that of the hello is 0.
    pub front: u64,
    /// The message that is being said, or the next one.
    pub number: u64,
    /// Octets of it that are said, and that it has; both 0 between two messages.
    pub at: u64,
    pub size: u64,
    /// Messages begun and not ended.
    pub open: u64,
    pub failed: BTreeSet<u64>,
    pub skipped: BTreeSet<u64>,
    pub asked: Option<Asked>,
    /// What has been heard of the other end: whole messages, and octets of the one that is coming.
    pub heard: u64,
    pub heard_at: u64,
    /// At most so many octets a second are read, from this moment on, and so many have been.
    pub slow: Option<(f64, u64, u64)>,
    /// Its session is about to end: the other side may close it.
    pub is_ending: bool,
}

impl Leg {
    pub fn new(socket: TcpStream, own: &[u8], to: &[u8], window: usize) -> Self {
        Self {
            socket: Some(socket),
            own: own.into(),
            to: to.into(),
            scanner: Scanner::default(),
            rest: Vec::new(),
            out: Vec::new(),
            sent: 0,
            is_blocked: false,
            is_dirty: false,
            is_ready: true,
            window,
            quota: None,
            under_way: VecDeque::new(),
            front: 1,
            number: 0,
            at: 0,
            size: 0,
            open: 0,
            failed: BTreeSet::new(),
            skipped: BTreeSet::new(),
            asked: None,
            heard: 0,
            heard_at: 0,
            slow: None,
            is_ending: false,
        }
    }

    /// The empty SEND that says whose this connection is (RFC 4975 §5.4).
    pub fn hello(&mut self, id: &[u8]) {
        self.is_ready = false;
        self.send(0, id, ByteRange::of(1, 0, 0), FailureReport::Yes, None);
        let tid = tid(0);
        msrp::end_line(&mut self.out, &tid, Flag::Complete, false);
    }

    fn send(&mut self, chunk: u64, id: &[u8], byte_range: ByteRange, wish: FailureReport, kind: Option<&[u8]>) {
        let send = Send {
            tid: &tid(chunk),
            to_path: &self.to,
            from_path: &self.own,
            message_id: id,
            byte_range,
            success_report: false,
            failure_report: wish,
            lines: &[],
            content_type: kind,
        };
        msrp::send_head(&mut self.out, &send);
    }

    /// Whether another SEND may be written now.
    pub fn may_say(&self) -> bool {
        self.is_ready
            && self.socket.is_some()
            && self.under_way.len() < self.window
            && self.out.len() - self.sent < OUT_BYTES
            && (self.size > 0 || self.quota != Some(0))
    }

    /// Writes the next chunk of the message that is being said.
    pub fn say(&mut self, script: &Script, at: usize, speech: &Speech, now_ns: u64) {
        let left = self.size - self.at;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(speech.chunk_bytes);
        let end = self.at + length as u64;
        let mut range = ByteRange::of(self.at + 1, length as u64, self.size);
        if length > 2_048 {
            // RFC 4975 §7.1.1: what may be interrupted does not say where it ends.
            range.end = None;
        }
        let chunk = self.front + self.under_way.len() as u64;
        let id = script.id(at, self.number);
        self.send(chunk, &id, range, speech.failure_report, Some(b"text/plain"));
        script.write(&mut self.out, self.number, self.at, length);
        let is_last = end == self.size;
        msrp::end_line(&mut self.out, &tid(chunk), if is_last { Flag::Complete } else { Flag::More }, true);
        self.under_way.push_back(Chunk {
            number: self.number,
            end,
            octets: u32::try_from(length).unwrap_or(u32::MAX),
            is_last,
            is_answered: speech.failure_report != FailureReport::Yes,
            has_failed: false,
            begun_ns: now_ns,
        });
        self.at = end;
        if is_last {
            self.next_message();
        }
    }

    /// No more is said of this message.
    pub fn next_message(&mut self) {
        (self.at, self.size) = (0, 0);
        self.number += 1;
    }

    /// Marks a message failed: what is under way of it is not awaited, the rest of it not said.
    pub fn fail(&mut self, number: u64) -> Failed {
        let mut is_under_way = false;
        for chunk in self.under_way.iter_mut().filter(|chunk| chunk.number == number) {
            (chunk.has_failed, chunk.is_answered, is_under_way) = (true, true, true);
        }
        let is_being_said = number == self.number && self.size > 0;
        if is_being_said {
            self.next_message();
        }
        if is_under_way {
            self.failed.insert(number);
            Failed::UnderWay
        } else if is_being_said {
            Failed::BetweenChunks
        } else {
            Failed::Over
        }
    }

    /// Writes what the socket takes; whether it lives.
    pub fn write(&mut self) -> bool {
        let Some(socket) = self.socket.as_mut() else { return true };
        while self.sent < self.out.len() {
            match socket.write(&self.out[self.sent..]) {
                Ok(taken) => self.sent += taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    if self.sent >= OUT_BYTES {
                        self.out.drain(..self.sent);
                        self.sent = 0;
                    }
                    return true;
                }
                Err(_) => return false,
            }
        }
        self.out.clear();
        self.sent = 0;
        true
    }
}

/// The transaction id of a chunk.
fn tid(chunk: u64) -> Tid {
    Tid::parse(&Script::tid(chunk)).expect("a letter and 16 hexadecimal digits are an ident")
}
