//! MSRP framing (RFC 4975 §9) over borrowed bytes: what one read gave goes in, ranges of it come out.
//!
//! ```text
//!        ┌──────── End ────────┐
//!        v                     │
//!      Head ── no body ──────> End-line
//!        └── empty line ─> Body ──^      Body: pieces leave as they come, at most 43 octets are held back
//! ```
//!
//! Nothing is copied and nothing allocated: between two reads only the ids of the open chunk and the places in an
//! unfinished head are kept. Bodies leave as slices of what was read: a film costs no more memory than a greeting.

use std::sync::LazyLock;

use base::limits::{MSRP_HEAD_BYTES_MAX, MSRP_HELD_BACK_BYTES_MAX, MSRP_REQUEST_BODY_BYTES_MAX};
use memchr::memmem::Finder;

use crate::error::ParseError;
use crate::head::{Flag, HeadSpans};
use crate::tid::Tid;

const START: &[u8] = b"MSRP ";
const HYPHENS: &[u8] = b"-------";
const MARK: &[u8] = b"\r\n-------";
static MARKS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));

/// What the wire said. Every step uses the first octets of what was given; give the rest to the next call.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::large_enum_variant)] // taken apart at once, never stored: a box would cost an allocation a chunk
pub enum Step {
    /// Nothing can be said yet. Keep all that was given, and give it again with more behind it: at most
    /// [`MSRP_HEAD_BYTES_MAX`] octets of a head, [`MSRP_HELD_BACK_BYTES_MAX`] of a body.
    More,
    /// A whole head: [`HeadSpans::used`] octets.
    Head(HeadSpans),
    /// The next octets of the body, in order: many pieces a chunk, or none.
    Body {
        /// How many; never 0.
        used: usize,
    },
    /// Uses nothing. What follows is body, but would read as the end of the chunk that is going out with the guarded
    /// id: end that chunk with `+`, begin another with a new id, [`Scanner::guard`] that one and go on (RFC 4975 §7.1).
    Clash,
    /// The end-line.
    End {
        /// Its octets, and those of the CRLF that separates it from a body.
        used: usize,
        /// How the chunk ends.
        flag: Flag,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// A head, or the beginning of one.
    #[default]
    Head,
    /// A body of which nothing has been seen.
    BodyStart,
    /// Within a body.
    Body,
    /// The end-line has been found: it is next.
    End { used: usize, flag: Flag },
}

/// What stands behind seven hyphens.
enum Behind {
    End(usize, Flag),
    Clash,
    /// It may become one of the two.
    Unknown,
    Data,
}

/// The state of one connection's reading side.
#[derive(Debug, Default)]
pub struct Scanner {
    state: State,
    /// As much of an unfinished head as has been read.
    head: HeadSpans,
    /// Where its next line begins; 0 before the start line.
    line: usize,
    /// The id of the open chunk.
    tid: Option<Tid>,
    /// The id under which the open chunk goes out.
    guard: Option<Tid>,
    /// Octets of body that the open request may still have, if it is no SEND.
    body_left: Option<usize>,
}

impl Scanner {
    /// The next step. After [`Step::More`]: the same octets and more; after any other: from where that step ended.
    ///
    /// An error means that the place of the next frame is not known any more: the connection is to be closed.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Step, ParseError> {
        match self.state {
            State::Head => self.scan_head(bytes),
            State::BodyStart => self.scan_body_start(bytes),
            State::Body => self.scan_body(bytes),
            State::End { used, flag } => {
                *self = Self::default();
                Ok(Step::End { used, flag })
            }
        }
    }

    /// Names the id under which the open chunk goes out: the body must not hold its end-line either (decisions D11).
    /// To be called behind [`Step::Head`] or [`Step::Clash`]; holds until the chunk ends.
    pub fn guard(&mut self, ours: &Tid) {
        if self.is_within_chunk() {
            self.guard = Some(*ours);
        }
    }

    /// Whether a head has been handed out whose end-line has not.
    pub fn is_within_chunk(&self) -> bool {
        self.state != State::Head
    }

    /// The id of the open chunk.
    pub fn open_tid(&self) -> Option<&Tid> {
        self.tid.as_ref().filter(|_| self.is_within_chunk())
    }

    fn scan_head(&mut self, bytes: &[u8]) -> Result<Step, ParseError> {
        let known = bytes.len().min(START.len());
        if bytes[..known] != START[..known] {
            return Err(ParseError::NotMsrp);
        }
        loop {
            let start = self.line;
            let Some(end) = line_end(bytes, start)? else {
                return if bytes.len() < MSRP_HEAD_BYTES_MAX { Ok(Step::More) } else { Err(too_long()) };
            };
            let next = end + 2;
            if next > MSRP_HEAD_BYTES_MAX {
                return Err(too_long());
            }
            if start == 0 {
                self.tid = Some(self.head.read_start(bytes, end)?);
            } else if start == end {
                return self.hand_out(next, State::BodyStart);
            } else if bytes[start..end].starts_with(HYPHENS) {
                // RFC 4975 §7.1: without a body the end-line follows the last header at once.
                if let Behind::End(used, flag) = self.behind(&bytes[start + HYPHENS.len()..next]) {
                    return self.hand_out(start, State::End { used: HYPHENS.len() + used, flag });
                }
                self.head.read_line(bytes, start, end)?;
            } else {
                self.head.read_line(bytes, start, end)?;
            }
            self.line = next;
        }
    }

    fn hand_out(&mut self, used: usize, then: State) -> Result<Step, ParseError> {
        self.head.finish(used, then == State::BodyStart)?;
        let head = std::mem::take(&mut self.head);
        self.line = 0;
        self.state = then;
        self.body_left = (!head.may_have_long_body()).then_some(MSRP_REQUEST_BODY_BYTES_MAX);
        Ok(Step::Head(head))
    }

    /// An empty body should end with a CRLF of its own (RFC 4975 §7.1); many peers let the empty line's serve. No
    /// body may begin with its own end-line, so nothing is misread.
    fn scan_body_start(&mut self, bytes: &[u8]) -> Result<Step, ParseError> {
        let known = bytes.len().min(HYPHENS.len());
        if bytes[..known] == HYPHENS[..known] {
            let behind = if known < HYPHENS.len() { Behind::Unknown } else { self.behind(&bytes[known..]) };
            match behind {
                Behind::End(used, flag) => {
                    self.state = State::End { used: HYPHENS.len() + used, flag };
                    return self.scan(bytes);
                }
                Behind::Clash => return Ok(self.clash()),
                Behind::Unknown => return Ok(Step::More),
                Behind::Data => {}
            }
        }
        self.state = State::Body;
        self.scan_body(bytes)
    }

    fn scan_body(&mut self, bytes: &[u8]) -> Result<Step, ParseError> {
        let mut from = 0;
        while let Some(found) = MARKS.find(&bytes[from..]) {
            let at = from + found;
            match self.behind(&bytes[at + MARK.len()..]) {
                Behind::End(used, flag) => {
                    self.state = State::End { used: MARK.len() + used, flag };
                    return if at == 0 { self.scan(bytes) } else { self.body(at) };
                }
                Behind::Clash if at == 0 => return Ok(self.clash()),
                Behind::Unknown if at == 0 => return Ok(Step::More),
                Behind::Clash | Behind::Unknown => return self.body(at),
                Behind::Data => from = at + MARK.len(),
            }
        }
        match bytes.len() - mark_begun(&bytes[from..]) {
            0 => Ok(Step::More),
            used => self.body(used),
        }
    }

    fn body(&mut self, used: usize) -> Result<Step, ParseError> {
        if let Some(left) = &mut self.body_left {
            let max = MSRP_REQUEST_BODY_BYTES_MAX;
            *left = left.checked_sub(used).ok_or(ParseError::BodyTooLong { max })?;
        }
        Ok(Step::Body { used })
    }

    /// Without the guard the same octets read as data next time, unless a new guard clashes again.
    fn clash(&mut self) -> Step {
        self.guard = None;
        Step::Clash
    }

    /// What stands behind seven hyphens: our end counts only with flag and CRLF, the guarded id already by itself.
    fn behind(&self, rest: &[u8]) -> Behind {
        let ours = self.tid.as_ref().map_or(&[][..], Tid::as_bytes);
        if let Some(tail) = rest.strip_prefix(ours) {
            match tail {
                [flag, b'\r', b'\n', ..] if let Some(flag) = Flag::of(*flag) => {
                    return Behind::End(ours.len() + 3, flag);
                }
                [] => return Behind::Unknown,
                [flag] | [flag, b'\r'] if Flag::of(*flag).is_some() => return Behind::Unknown,
                _ => {}
            }
        }
        let guard = self.guard.as_ref().map_or(&[][..], Tid::as_bytes);
        if !guard.is_empty() && rest.starts_with(guard) {
            Behind::Clash
        } else if ours.starts_with(rest) || guard.starts_with(rest) && !guard.is_empty() {
            Behind::Unknown
        } else {
            Behind::Data
        }
    }
}

fn too_long() -> ParseError {
    ParseError::HeadTooLong { max: MSRP_HEAD_BYTES_MAX }
}

/// Where the CRLF of the line from `start` stands; nothing while it has not come. A lone CR or LF is an error, for who
/// reads it after us might take it for the end of a line; NUL for the end of a text.
fn line_end(bytes: &[u8], start: usize) -> Result<Option<usize>, ParseError> {
    let Some(found) = memchr::memchr3(b'\r', b'\n', 0, bytes.get(start..).unwrap_or(&[])) else {
        return Ok(None);
    };
    match &bytes[start + found..] {
        [b'\r', b'\n', ..] => Ok(Some(start + found)),
        [b'\r'] => Ok(None),
        _ => Err(ParseError::LineEnd),
    }
}

/// How many octets at the end may be the beginning of [`MARK`]; it holds one CR, and begins with it.
fn mark_begun(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(MARK.len() - 1)..];
    match memchr::memrchr(b'\r', tail) {
        Some(at) if MARK.starts_with(&tail[at..]) => tail.len() - at,
        _ => 0,
    }
}

const _: () = assert!(MSRP_HELD_BACK_BYTES_MAX < 44);
