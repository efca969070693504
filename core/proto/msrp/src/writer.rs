//! Frames as they leave. Everything appends to a `Vec<u8>`; what is passed on stays octet for octet.

use std::io::Write;

use crate::head::{FailureReport, Flag, Head, Method};
use crate::range::ByteRange;
use crate::tid::Tid;

/// What becomes of Byte-Range when a head is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// It stays as it stands: the whole chunk is at hand and leaves in one piece.
    Kept,
    /// The last octet becomes `*`, for the chunk may be interrupted (RFC 4975 §7.1.1).
    Open,
    /// As [`Range::Open`], and the chunk begins at this octet of the message, counted from 1: the rest of one that was
    /// interrupted.
    From(u64),
}

/// Appends the head of a request that is passed on: new start line, new paths, all else as it came.
pub fn forward_head(out: &mut Vec<u8>, head: Head<'_>, tid: &Tid, to_path: &[u8], from_path: &[u8], range: Range) {
    start(out, tid, head.method_text());
    paths(out, to_path, from_path);
    if range == Range::Kept {
        return out.extend_from_slice(head.kept());
    }
    let (before, behind) = head.kept_around_range();
    out.extend_from_slice(before);
    open_range(out, head.range(), range);
    out.extend_from_slice(behind);
}

fn open_range(out: &mut Vec<u8>, came: ByteRange, range: Range) {
    let start = if let Range::From(start) = range { start } else { came.start };
    range_line(out, ByteRange { start, end: None, total: came.total });
}

/// What is needed to go on with a chunk in a new frame, when its head is not at hand any more.
#[derive(Debug, Clone)]
pub struct Resume {
    /// Method, paths and headers of the frame, without its start line's beginning and without Byte-Range.
    method: Box<[u8]>,
    before: Box<[u8]>,
    behind: Box<[u8]>,
    range: ByteRange,
}

impl Resume {
    /// Of the head that came and the paths with which it is passed on. Copies them: make it only when a chunk stays
    /// open over a turn.
    pub fn of(head: Head<'_>, to_path: &[u8], from_path: &[u8]) -> Self {
        let (kept, behind) = head.kept_around_range();
        let mut before = Vec::with_capacity(32 + to_path.len() + from_path.len() + kept.len());
        paths(&mut before, to_path, from_path);
        before.extend_from_slice(kept);
        Self { method: head.method_text().into(), before: before.into(), behind: behind.into(), range: head.range() }
    }

    /// Appends the head of the next frame. `sent` is how many octets of the incoming chunk's body have left in the
    /// frames before (RFC 4975 §7.1.1: it begins at the first octet after the interruption).
    pub fn write(&self, out: &mut Vec<u8>, tid: &Tid, sent: u64) {
        start(out, tid, &self.method);
        out.extend_from_slice(&self.before);
        open_range(out, self.range, Range::From(self.range.start.saturating_add(sent)));
        out.extend_from_slice(&self.behind);
    }

    /// Octets that it keeps.
    pub fn size(&self) -> usize {
        self.method.len() + self.before.len() + self.behind.len()
    }
}

/// Appends the end of a frame; with a body, the CRLF that is not part of it comes first (RFC 4975 §7.1).
pub fn end_line(out: &mut Vec<u8>, tid: &Tid, flag: Flag, has_body: bool) {
    end_of(out, tid.as_bytes(), flag, has_body);
}

fn end_of(out: &mut Vec<u8>, tid: &[u8], flag: Flag, has_body: bool) {
    if has_body {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"-------");
    out.extend_from_slice(tid);
    out.extend_from_slice(&[flag.octet(), b'\r', b'\n']);
}

/// Appends the response to a request; `own` is the URI under which we were asked. Whether one is due says
/// [`crate::response_owed`].
pub fn respond(out: &mut Vec<u8>, request: Head<'_>, status: u16, own: &[u8]) {
    // RFC 4975 §7.2: the response to a SEND goes to the previous hop only, that to any other method all the way back.
    let to = if request.method() == Some(Method::Send) { request.from_first() } else { request.from_path() };
    response(out, request.tid(), status, to, own);
}

/// Appends a response with the standard comment.
pub fn response(out: &mut Vec<u8>, tid: &[u8], status: u16, to_path: &[u8], from_path: &[u8]) {
    response_with(out, tid, status, to_path, from_path, &[]);
}

/// Appends a response with further header lines, each with its CRLF.
pub fn response_with(out: &mut Vec<u8>, tid: &[u8], status: u16, to_path: &[u8], from_path: &[u8], lines: &[u8]) {
    out.extend_from_slice(b"MSRP ");
    out.extend_from_slice(tid);
    status_words(out, status);
    paths(out, to_path, from_path);
    out.extend_from_slice(lines);
    end_of(out, tid, Flag::Complete, false);
}

/// ` 200 OK` and the CRLF.
fn status_words(out: &mut Vec<u8>, status: u16) {
    let comment = comment_of(status);
    let space = if comment.is_empty() { "" } else { " " };
    write!(out, " {status:03}{space}{comment}\r\n").unwrap_or_default(); // writing to memory does not fail
}

/// What a status says in words (RFC 4975 §10, RFC 4976 §8, RFC 7701 §10); empty for others.
pub fn comment_of(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Message Too Large",
        415 => "Unsupported Media Type",
        423 => "Interval Out-of-Bounds",
        424 => "Malformed Nickname",
        425 => "Nickname Reserved or Already in Use",
        428 => "Private Messages Not Supported",
        481 => "No Such Session",
        501 => "Not Implemented",
        506 => "Session In Use",
        _ => "",
    }
}

/// A REPORT of our own (RFC 4975 §7.1.2).
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// A new transaction id. There will be no response.
    pub tid: &'a Tid,
    /// From-Path of the SEND, whole.
    pub to_path: &'a [u8],
    /// Our URI of that leg.
    pub from_path: &'a [u8],
    /// The message that is spoken of.
    pub message_id: &'a [u8],
    /// The octets that are spoken of.
    pub byte_range: ByteRange,
    /// 200, or what went wrong.
    pub status: u16,
}

/// Appends a REPORT.
pub fn report(out: &mut Vec<u8>, report: &Report<'_>) {
    start(out, report.tid, b"REPORT");
    paths(out, report.to_path, report.from_path);
    header(out, b"Message-ID: ", report.message_id);
    range_line(out, report.byte_range);
    out.extend_from_slice(b"Status: 000");
    status_words(out, report.status);
    end_of(out, report.tid.as_bytes(), Flag::Complete, false);
}

/// A SEND of our own.
#[derive(Debug, Clone, Copy)]
pub struct Send<'a> {
    /// A new transaction id.
    pub tid: &'a Tid,
    /// The path to the receiver, whole.
    pub to_path: &'a [u8],
    /// Our URI.
    pub from_path: &'a [u8],
    /// The message.
    pub message_id: &'a [u8],
    /// What this chunk carries of it.
    pub byte_range: ByteRange,
    /// Whether we want to hear of success.
    pub success_report: bool,
    /// What we want to hear of failure; `yes` is not written, it holds without the header.
    pub failure_report: FailureReport,
    /// Further header lines, each with its CRLF.
    pub lines: &'a [u8],
    /// The type of the body; nothing for a SEND without one.
    pub content_type: Option<&'a [u8]>,
}

/// Appends the head of a SEND, with the empty line if it has a body. Then come the body and [`end_line`].
pub fn send_head(out: &mut Vec<u8>, send: &Send<'_>) {
    start(out, send.tid, b"SEND");
    paths(out, send.to_path, send.from_path);
    header(out, b"Message-ID: ", send.message_id);
    range_line(out, send.byte_range);
    if send.success_report {
        out.extend_from_slice(b"Success-Report: yes\r\n");
    }
    if send.failure_report != FailureReport::Yes {
        header(out, b"Failure-Report: ", send.failure_report.as_str().as_bytes());
    }
    out.extend_from_slice(send.lines);
    if let Some(content_type) = send.content_type {
        // RFC 4975 §7.1: Content-Type is the last header.
        header(out, b"Content-Type: ", content_type);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the head of a request of any other method, without a body: `lines` each with its CRLF; then [`end_line`].
pub fn request_head(out: &mut Vec<u8>, method: &str, tid: &Tid, to_path: &[u8], from_path: &[u8], lines: &[u8]) {
    start(out, tid, method.as_bytes());
    paths(out, to_path, from_path);
    out.extend_from_slice(lines);
}

fn start(out: &mut Vec<u8>, tid: &Tid, method: &[u8]) {
    out.extend_from_slice(b"MSRP ");
    out.extend_from_slice(tid.as_bytes());
    out.push(b' ');
    out.extend_from_slice(method);
    out.extend_from_slice(b"\r\n");
}

fn paths(out: &mut Vec<u8>, to: &[u8], from: &[u8]) {
    header(out, b"To-Path: ", to);
    header(out, b"From-Path: ", from);
}

fn header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn range_line(out: &mut Vec<u8>, range: ByteRange) {
    out.extend_from_slice(b"Byte-Range: ");
    range.write(out);
    out.extend_from_slice(b"\r\n");
}
