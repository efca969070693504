//! The head of a request or response: where its parts stand ([`HeadSpans`]), and the eyes to read it with ([`Head`]).
//!
//! A head that can be framed and answered is handed out even when a value in it is wrong: [`Head::fault`] then says
//! what, the answer is 400, and its body is swallowed.

use base::limits::MSRP_HEAD_BYTES_MAX;
use base::scan::{decimal, is_blank, trim};

use crate::error::ParseError;
use crate::path::{Uri, first_of, is_token_octet};
use crate::range::ByteRange;
use crate::tid::{Tid, is_ident};

// Places are kept in 16 bits.
const _: () = assert!(MSRP_HEAD_BYTES_MAX <= u16::MAX as usize);

/// A place in a head; an empty one at the very start is "not there".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u16, end: end as u16 }
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.start)..usize::from(self.end)]
    }

    fn is_somewhere(self) -> bool {
        self.end != 0
    }

    fn found(self, bytes: &[u8]) -> Option<&[u8]> {
        self.is_somewhere().then(|| self.of(bytes))
    }
}

/// What a request asks for. Only SEND and REPORT are of RFC 4975.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Carries a message or a piece of one.
    Send,
    /// Tells what became of a message; never answered.
    Report,
    /// Asks a relay for a way through (RFC 4976).
    Auth,
    /// Asks a room for a name (RFC 7701).
    Nickname,
    /// Any other: 501.
    Other,
}

/// A request with its method, or a response with its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Request(Method),
    /// A response; three digits.
    Response(u16),
}

/// How a chunk ends (RFC 4975 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// `$`: the end of the message.
    Complete,
    /// `+`: further chunks follow.
    More,
    /// `#`: the message is given up; what came of it is to be dropped.
    Aborted,
}

impl Flag {
    /// As it is written.
    pub fn octet(self) -> u8 {
        match self {
            Self::Complete => b'$',
            Self::More => b'+',
            Self::Aborted => b'#',
        }
    }

    pub(crate) fn of(octet: u8) -> Option<Self> {
        match octet {
            b'$' => Some(Self::Complete),
            b'+' => Some(Self::More),
            b'#' => Some(Self::Aborted),
            _ => None,
        }
    }
}

/// Which answers a sender wants (RFC 4975 §7.1.1); without the header `yes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FailureReport {
    /// Every SEND is answered.
    #[default]
    Yes,
    /// Only errors are answered.
    Partial,
    /// Nothing is ever answered or reported.
    No,
}

impl FailureReport {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Partial => "partial",
            Self::No => "no",
        }
    }
}

/// The value of Status (RFC 4975 §7.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportStatus {
    /// 0 means that the code is one of a response; others are not known to anybody yet (RFC 4975 §7.1.3).
    pub namespace: u16,
    /// Three digits.
    pub code: u16,
}

/// Where everything stands in one head, and the values that every reader needs.
#[derive(Debug, Clone, Copy)]
pub struct HeadSpans {
    kind: Kind,
    tid: Span,
    /// The method, or the comment of a response.
    word: Span,
    to: Span,
    from: Span,
    message_id: Span,
    content_type: Span,
    /// The whole Byte-Range line with its CRLF.
    range_line: Span,
    /// Behind the CRLF of the second path.
    kept: u16,
    /// Behind the head: the empty line too, if there is one; not the end-line.
    used: u16,
    range: ByteRange,
    status: Option<ReportStatus>,
    failure_report: FailureReport,
    success_report: bool,
    has_body: bool,
    /// Which headers have stood there, a bit each, so that a second one is noticed.
    seen: u8,
    fault: Option<ParseError>,
}

impl Default for HeadSpans {
    fn default() -> Self {
        let nowhere = Span::default();
        Self {
            kind: Kind::Request(Method::Other),
            tid: nowhere,
            word: nowhere,
            to: nowhere,
            from: nowhere,
            message_id: nowhere,
            content_type: nowhere,
            range_line: nowhere,
            kept: 0,
            used: 0,
            range: ByteRange::default(),
            status: None,
            failure_report: FailureReport::Yes,
            success_report: false,
            has_body: false,
            seen: 0,
            fault: None,
        }
    }
}

/// The headers that this crate reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    ToPath,
    FromPath,
    MessageId,
    ByteRange,
    SuccessReport,
    FailureReport,
    Status,
    ContentType,
}

/// Names are compared without case: literals have none (RFC 4234 §2.3). Each length has at most two candidates.
fn name_of(text: &[u8]) -> Option<Name> {
    let (wanted, name): (&[u8], Name) = match (text.len(), text.first()?.to_ascii_lowercase()) {
        (6, _) => (b"Status", Name::Status),
        (7, _) => (b"To-Path", Name::ToPath),
        (9, _) => (b"From-Path", Name::FromPath),
        (10, b'm') => (b"Message-ID", Name::MessageId),
        (10, _) => (b"Byte-Range", Name::ByteRange),
        (12, _) => (b"Content-Type", Name::ContentType),
        (14, b's') => (b"Success-Report", Name::SuccessReport),
        (14, _) => (b"Failure-Report", Name::FailureReport),
        _ => return None,
    };
    text.eq_ignore_ascii_case(wanted).then_some(name)
}

impl HeadSpans {
    /// Octets of the head: start line, headers, and the empty line before a body.
    pub fn used(&self) -> usize {
        usize::from(self.used)
    }

    /// The head itself: `bytes` are those that were scanned, or a copy of them.
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> Head<'a> {
        Head { bytes, spans: self }
    }

    /// What is wrong with it ([`Head::fault`]).
    pub fn fault(&self) -> Option<ParseError> {
        self.fault
    }

    pub(crate) fn may_have_long_body(&self) -> bool {
        self.kind == Kind::Request(Method::Send)
    }

    /// `MSRP SP transact-id SP (method / status-code [SP comment])`; `end` is where the CRLF stands.
    pub(crate) fn read_start(&mut self, bytes: &[u8], end: usize) -> Result<Tid, ParseError> {
        let text = bytes[..end].strip_prefix(b"MSRP ").ok_or(ParseError::NotMsrp)?;
        let length = memchr::memchr(b' ', text).ok_or(ParseError::StartLine)?;
        let tid = Tid::parse(&text[..length]).ok_or(ParseError::TransactionId)?;
        let start = 5 + length + 1;
        self.tid = Span::new(5, 5 + length);
        let rest = &bytes[start..end];
        if rest.first().is_some_and(u8::is_ascii_digit) {
            let (code, comment) = rest.split_at(rest.len().min(3));
            let code = decimal(code).filter(|_| code.len() == 3).ok_or(ParseError::StartLine)?;
            if comment.first().is_some_and(|byte| *byte != b' ') {
                return Err(ParseError::StartLine);
            }
            self.kind = Kind::Response(code as u16);
            self.word = Span::new((start + 4).min(end), end);
        } else {
            self.kind = Kind::Request(method_of(rest).ok_or(ParseError::StartLine)?);
            self.word = Span::new(start, end);
        }
        Ok(tid)
    }

    /// One header line from `start` to its CRLF at `end`.
    pub(crate) fn read_line(&mut self, bytes: &[u8], start: usize, end: usize) -> Result<(), ParseError> {
        let line = &bytes[start..end];
        let colon = memchr::memchr(b':', line).ok_or(ParseError::HeaderLine)?;
        let name = name_of(&line[..colon]);
        if name.is_none() && (colon == 0 || !line[..colon].iter().copied().all(is_token_octet)) {
            return Err(ParseError::HeaderLine);
        }
        let behind = &line[colon + 1..];
        let value = trim(behind);
        let from = start + colon + 1 + behind.iter().take_while(|byte| is_blank(**byte)).count();
        let span = Span::new(from, from + value.len());
        if self.kept == 0 {
            return self.read_path(name, span, end + 2);
        }
        if let Some(name) = name {
            self.read_value(name, value, span, Span::new(start, end + 2));
        }
        Ok(())
    }

    /// RFC 4975 §9: To-Path, then From-Path, before all others. Both there but exchanged can still be answered.
    fn read_path(&mut self, name: Option<Name>, value: Span, next: usize) -> Result<(), ParseError> {
        match name {
            _ if value.start == value.end => return Err(ParseError::NoPaths),
            Some(Name::ToPath) if !self.to.is_somewhere() => self.to = value,
            Some(Name::FromPath) if !self.from.is_somewhere() => {
                self.from = value;
                if !self.to.is_somewhere() {
                    self.blame(ParseError::PathOrder);
                }
            }
            _ => return Err(ParseError::NoPaths),
        }
        if self.to.is_somewhere() && self.from.is_somewhere() {
            self.kept = next as u16;
        }
        Ok(())
    }

    fn read_value(&mut self, name: Name, value: &[u8], span: Span, line: Span) {
        let bit = 1 << name as u8;
        if self.seen & bit != 0 || matches!(name, Name::ToPath | Name::FromPath) {
            return self.blame(ParseError::Repeated);
        }
        self.seen |= bit;
        match name {
            Name::MessageId if is_ident(value) => self.message_id = span,
            Name::MessageId => self.blame(ParseError::MessageId),
            Name::ByteRange => match ByteRange::parse(value) {
                Ok(range) => (self.range, self.range_line) = (range, line),
                Err(error) => self.blame(error),
            },
            Name::SuccessReport => match yes_or_no(value) {
                Some(wanted) => self.success_report = wanted,
                None => self.blame(ParseError::ReportWish),
            },
            Name::FailureReport => match yes_or_no(value) {
                Some(true) => self.failure_report = FailureReport::Yes,
                Some(false) => self.failure_report = FailureReport::No,
                None if value.eq_ignore_ascii_case(b"partial") => self.failure_report = FailureReport::Partial,
                None => self.blame(ParseError::ReportWish),
            },
            Name::Status => match status_of(value) {
                Some(status) => self.status = Some(status),
                None => self.blame(ParseError::Status),
            },
            Name::ContentType if span.start < span.end => self.content_type = span,
            Name::ContentType => self.blame(ParseError::ContentType),
            Name::ToPath | Name::FromPath => {}
        }
    }

    /// The head is whole; `used` octets of it, and a body follows or not.
    pub(crate) fn finish(&mut self, used: usize, has_body: bool) -> Result<(), ParseError> {
        if self.kept == 0 {
            return Err(ParseError::NoPaths);
        }
        (self.used, self.has_body) = (used as u16, has_body);
        let method = if let Kind::Request(method) = self.kind { Some(method) } else { None };
        // RFC 4975 §7.1.1 and §7.1.2: both carry the id of the message.
        if matches!(method, Some(Method::Send | Method::Report)) && !self.message_id.is_somewhere() {
            self.blame(ParseError::MessageId);
        }
        if method == Some(Method::Report) && self.status.is_none() {
            self.blame(ParseError::Status);
        }
        if has_body && !self.content_type.is_somewhere() {
            self.blame(ParseError::ContentType);
        }
        Ok(())
    }

    /// The first fault is the one that is told.
    fn blame(&mut self, fault: ParseError) {
        self.fault.get_or_insert(fault);
    }
}

fn method_of(text: &[u8]) -> Option<Method> {
    Some(match text {
        b"SEND" => Method::Send,
        b"REPORT" => Method::Report,
        b"AUTH" => Method::Auth,
        b"NICKNAME" => Method::Nickname,
        // RFC 4975 §9: 1*UPALPHA.
        other if !other.is_empty() && other.iter().all(u8::is_ascii_uppercase) => Method::Other,
        _ => return None,
    })
}

fn yes_or_no(value: &[u8]) -> Option<bool> {
    if value.eq_ignore_ascii_case(b"yes") { Some(true) } else { value.eq_ignore_ascii_case(b"no").then_some(false) }
}

/// `000 200 OK`
fn status_of(value: &[u8]) -> Option<ReportStatus> {
    let mut words = value.splitn(3, |byte| *byte == b' ');
    let mut three_digits = || {
        let word = words.next().filter(|word| word.len() == 3)?;
        decimal(word).map(|value| value as u16)
    };
    Some(ReportStatus { namespace: three_digits()?, code: three_digits()? })
}

/// A head, borrowed. Small and free to copy.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    bytes: &'a [u8],
    spans: &'a HeadSpans,
}

impl<'a> Head<'a> {
    /// All of it as it came: start line, headers, and the empty line before a body.
    pub fn bytes(self) -> &'a [u8] {
        &self.bytes[..self.spans.used()]
    }

    /// Request or response.
    pub fn kind(self) -> Kind {
        self.spans.kind
    }

    /// The method of a request.
    pub fn method(self) -> Option<Method> {
        if let Kind::Request(method) = self.spans.kind { Some(method) } else { None }
    }

    /// The method as written; empty in a response.
    pub fn method_text(self) -> &'a [u8] {
        if self.method().is_some() { self.spans.word.of(self.bytes) } else { &[] }
    }

    /// The status of a response.
    pub fn status(self) -> Option<u16> {
        if let Kind::Response(status) = self.spans.kind { Some(status) } else { None }
    }

    /// What a response says in words; empty in a request.
    pub fn comment(self) -> &'a [u8] {
        if self.method().is_some() { &[] } else { self.spans.word.of(self.bytes) }
    }

    /// The transaction id.
    pub fn tid(self) -> &'a [u8] {
        self.spans.tid.of(self.bytes)
    }

    /// The transaction id, to keep.
    pub fn tid_owned(self) -> Tid {
        Tid::parse(self.tid()).expect("read from an ident")
    }

    /// To-Path, whole. An endpoint is reached with exactly one URI (RFC 4975 §7.3).
    pub fn to_path(self) -> &'a [u8] {
        self.spans.to.of(self.bytes)
    }

    /// From-Path, whole.
    pub fn from_path(self) -> &'a [u8] {
        self.spans.from.of(self.bytes)
    }

    /// The text of the first URI of To-Path.
    pub fn to_first(self) -> &'a [u8] {
        first_of(self.to_path())
    }

    /// The text of the first URI of From-Path.
    pub fn from_first(self) -> &'a [u8] {
        first_of(self.from_path())
    }

    /// The first URI of To-Path, read.
    pub fn to_uri(self) -> Result<Uri<'a>, ParseError> {
        Uri::parse(self.to_first())
    }

    /// The first URI of From-Path, read.
    pub fn from_uri(self) -> Result<Uri<'a>, ParseError> {
        Uri::parse(self.from_first())
    }

    /// The id of the message that this is a piece of, or speaks of.
    pub fn message_id(self) -> Option<&'a [u8]> {
        self.spans.message_id.found(self.bytes)
    }

    /// Byte-Range, if it stands there.
    pub fn byte_range(self) -> Option<ByteRange> {
        self.spans.range_line.is_somewhere().then_some(self.spans.range)
    }

    /// Byte-Range; without the header `1-*/*` (RFC 4975 §7.3.1).
    pub fn range(self) -> ByteRange {
        self.spans.range
    }

    /// Whether the sender wants to hear of success; without the header no (RFC 4975 §7.1.1).
    pub fn success_report(self) -> bool {
        self.spans.success_report
    }

    /// What the sender wants to hear of failure.
    pub fn failure_report(self) -> FailureReport {
        self.spans.failure_report
    }

    /// What a REPORT says.
    pub fn report_status(self) -> Option<ReportStatus> {
        self.spans.status
    }

    /// Content-Type as written.
    pub fn content_type(self) -> Option<&'a [u8]> {
        self.spans.content_type.found(self.bytes)
    }

    /// Whether an empty line, and so a body, follows. It may be empty, which is not the same as none (RFC 4975 §7.1).
    pub fn has_body(self) -> bool {
        self.spans.has_body
    }

    /// All behind the paths as it stands, with the empty line before a body: what is passed on octet for octet.
    pub fn kept(self) -> &'a [u8] {
        &self.bytes[usize::from(self.spans.kept)..self.spans.used()]
    }

    /// [`Head::kept`] before and behind the Byte-Range line; without one, nothing and all.
    pub(crate) fn kept_around_range(self) -> (&'a [u8], &'a [u8]) {
        let kept = usize::from(self.spans.kept);
        let line = self.spans.range_line;
        let (start, end) =
            if line.is_somewhere() { (usize::from(line.start), usize::from(line.end)) } else { (kept, kept) };
        (&self.bytes[kept..start], &self.bytes[end..self.spans.used()])
    }

    /// The headers behind the paths, in order, with their values trimmed.
    pub fn headers(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let lines = self.kept().split(|byte| *byte == b'\n');
        lines.filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], trim(&line[colon + 1..])))
        })
    }

    /// The value of the first header of this name, any case.
    pub fn header(self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// What is wrong with it, though it could be framed: a request is to be answered 400 ([`ParseError::reply`]), a
    /// response or REPORT to be ignored; a body that follows is to be swallowed.
    pub fn fault(self) -> Option<ParseError> {
        self.spans.fault
    }
}
