//! From octets to a [`Layout`]: one look for line ends, one for names, nothing copied, nothing allocated.
//!
//! Lines end with CRLF and with nothing else: what one element takes for one line and the next for two is a way to
//! smuggle header fields. Folded lines stay one field (RFC 3261 §7.3.1). A line that is no header does not end the
//! reading: the rest is read, so that the fault can be answered.

use base::limits::{SIP_FIELDS_MAX, SIP_HEAD_BYTES_MAX, SIP_MESSAGE_BYTES_MAX};
use base::scan::{decimal, is_token};

use crate::error::{Flaw, ParseError};
use crate::headers::Name;
use crate::message::{Field, Layout, Span};
use crate::method::Method;

/// What stands at the beginning of a stream's octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Head or body is not whole yet: come again with more.
    More,
    /// A double CRLF: a client's keepalive (RFC 5626 §3.5.1), answered with one CRLF.
    Ping {
        /// Octets that it took.
        used: usize,
    },
    /// A lone CRLF, to be passed over (RFC 3261 §7.5); towards a client it is the answer to its ping.
    Skip {
        /// Octets that it took.
        used: usize,
    },
    /// A whole message; the layout holds it.
    Message {
        /// Octets that it took.
        used: usize,
    },
}

/// What is known of a message that is not whole yet, so that no octet of it is looked at over and over. One a
/// connection, [`Default`] at first; when anything but [`Step::More`] comes it is as new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The head's end is not within these first octets.
    searched: usize,
    /// Nothing can be said before so many octets are there.
    needed: usize,
}

/// Reads one datagram. Octets behind Content-Length are no part of the message; a body shorter than Content-Length
/// says is a fault (RFC 3261 §18.3); without Content-Length all is body. CRLFs in front are passed over.
///
/// After an error the layout holds what could be read, so that an answer can be written from it.
pub fn parse_datagram(bytes: &[u8], layout: &mut Layout) -> Result<(), ParseError> {
    let mut start = 0;
    while bytes[start..].starts_with(b"\r\n") {
        start += 2;
    }
    layout.reset(start.min(usize::from(u16::MAX)));
    if bytes.len() > usize::from(u16::MAX) {
        return Err(fail(Flaw::MessageTooLong { bytes: bytes.len(), max: usize::from(u16::MAX) }, layout, bytes));
    }
    if start == bytes.len() {
        return Err(fail(Flaw::Empty, layout, bytes));
    }
    let head = &bytes[..bytes.len().min(start + SIP_HEAD_BYTES_MAX)];
    let Head { end, flaw } = read_head(head, start, layout).map_err(|flaw| fail(flaw, layout, bytes))?;
    let Some(end) = end else {
        let cut = head.len() < bytes.len();
        let flaw = if cut { Flaw::HeadTooLong { max: SIP_HEAD_BYTES_MAX } } else { Flaw::HeadUnfinished };
        return Err(fail(flaw, layout, bytes));
    };
    if let Some(flaw) = flaw {
        return Err(fail(flaw, layout, bytes));
    }
    let have = bytes.len() - end;
    let length = layout.content_length.unwrap_or(have);
    if length > have {
        return Err(fail(Flaw::BodyShort { declared: length, have }, layout, bytes));
    }
    layout.body = Span::new(end, end + length);
    Ok(())
}

/// Reads what stands at the beginning of a stream. `bytes` begins where the last step ended; after [`Step::More`] it
/// must begin with the same octets, and `progress` be the same.
///
/// After an error nobody knows where the next message begins: answer ([`ParseError::status`]; the layout holds what
/// could be read), then close. Content-Length is mandatory (RFC 3261 §18.3).
pub fn parse_stream(bytes: &[u8], progress: &mut Progress, layout: &mut Layout) -> Result<Step, ParseError> {
    if bytes.len() < progress.needed {
        return Ok(Step::More);
    }
    match bytes {
        [b'\r', b'\n', b'\r', b'\n', ..] => return Ok(Step::Ping { used: 4 }),
        // A ping may be under way.
        [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Ok(Step::More),
        [b'\r', b'\n', ..] => return Ok(Step::Skip { used: 2 }),
        [first, ..] if is_token(*first) => {}
        _ => {
            layout.reset(0);
            return Err(fail(Flaw::NotSip, layout, bytes));
        }
    }
    let head = &bytes[..bytes.len().min(SIP_HEAD_BYTES_MAX)];
    if progress.searched > 0 && progress.needed == 0 && !has_head_end(head, progress.searched) {
        if head.len() < SIP_HEAD_BYTES_MAX {
            progress.searched = head.len();
            return Ok(Step::More);
        }
        layout.reset(0);
        return Err(fail(Flaw::HeadTooLong { max: SIP_HEAD_BYTES_MAX }, layout, bytes));
    }
    layout.reset(0);
    let Head { end, flaw } = read_head(head, 0, layout).map_err(|flaw| fail(flaw, layout, bytes))?;
    let Some(end) = end else {
        if head.len() < SIP_HEAD_BYTES_MAX {
            *progress = Progress { searched: head.len(), needed: 0 };
            return Ok(Step::More);
        }
        return Err(fail(Flaw::HeadTooLong { max: SIP_HEAD_BYTES_MAX }, layout, bytes));
    };
    if let Some(flaw) = flaw {
        return Err(fail(flaw, layout, bytes));
    }
    let length = layout.content_length.ok_or_else(|| fail(Flaw::ContentLengthMissing, layout, bytes))?;
    let used = end.saturating_add(length);
    if used > SIP_MESSAGE_BYTES_MAX {
        return Err(fail(Flaw::MessageTooLong { bytes: used, max: SIP_MESSAGE_BYTES_MAX }, layout, bytes));
    }
    if bytes.len() < used {
        *progress = Progress { searched: 0, needed: used };
        return Ok(Step::More);
    }
    layout.body = Span::new(end, used);
    *progress = Progress::default();
    Ok(Step::Message { used })
}

/// Whether an empty line ends behind the first `searched` octets.
fn has_head_end(head: &[u8], searched: usize) -> bool {
    let from = searched.saturating_sub(3);
    memchr::memchr_iter(b'\n', &head[from..]).any(|at| head[..=from + at].ends_with(b"\r\n\r\n"))
}

/// What could be read stays in the layout; as a whole it stands for all octets that came, without a body.
fn fail(flaw: Flaw, layout: &mut Layout, bytes: &[u8]) -> ParseError {
    let end = bytes.len().min(usize::from(u16::MAX));
    layout.body = Span::new(end, end);
    let answerable = layout.is_request && layout.method != Method::Ack && layout.names & Name::Via.bit() != 0;
    ParseError { flaw, answerable }
}

/// A head that was read: where the body begins, if it ends at all, and the first fault that did not end the reading.
struct Head {
    end: Option<usize>,
    flaw: Option<Flaw>,
}

/// Reads start line and header fields from `start` on. The layout's body becomes empty and stands behind the last
/// line that was read.
fn read_head(bytes: &[u8], start: usize, layout: &mut Layout) -> Result<Head, Flaw> {
    let Some((line, mut at)) = line_at(bytes, start)? else {
        return Ok(Head { end: None, flaw: None });
    };
    layout.start = Span::new(start, line);
    layout.body = Span::new(at, at);
    read_start_line(bytes, start, line, layout)?;
    let mut flaw = None;
    loop {
        let Some((mut line, mut next)) = line_at(bytes, at)? else {
            return Ok(Head { end: None, flaw });
        };
        if line == at {
            layout.body = Span::new(next, next);
            return Ok(Head { end: Some(next), flaw });
        }
        // RFC 3261 §7.3.1: a line that begins with white space belongs to the one before.
        while let Some(b' ' | b'\t') = bytes.get(next) {
            match line_at(bytes, next)? {
                Some(longer) => (line, next) = longer,
                None => return Ok(Head { end: None, flaw }),
            }
        }
        if next == bytes.len() {
            // The next octet decides whether this line is whole: without it there is no head's end either.
            return Ok(Head { end: None, flaw });
        }
        if let Err(fault) = read_field(bytes, at, line, next, layout) {
            flaw.get_or_insert(fault);
        }
        layout.body = Span::new(next, next);
        at = next;
    }
}

/// The end of the line that begins at `at`, and the beginning of the next; nothing when its CRLF is not there yet.
#[inline]
fn line_at(bytes: &[u8], at: usize) -> Result<Option<(usize, usize)>, Flaw> {
    let Some(length) = memchr::memchr2(b'\r', b'\n', &bytes[at..]) else {
        return Ok(None);
    };
    let end = at + length;
    match (bytes[end], bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) => Ok(Some((end, end + 2))),
        (b'\r', None) => Ok(None),
        _ => Err(Flaw::BareLineEnd),
    }
}

/// RFC 3261 §7.1, §7.2. What is wrong with a request line but leaves it recognisable is said by `check_request`.
fn read_start_line(bytes: &[u8], start: usize, end: usize, layout: &mut Layout) -> Result<(), Flaw> {
    let line = &bytes[start..end];
    if line.get(..4).is_some_and(|first| first.eq_ignore_ascii_case(b"SIP/")) {
        return read_status_line(line, start, layout);
    }
    let trimmed = line.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    let first = memchr::memchr(b' ', line).ok_or(Flaw::NotSip)?;
    let last = memchr::memrchr(b' ', &line[..trimmed]).ok_or(Flaw::NotSip)?;
    let (method, version) = (&line[..first], &line[last + 1..trimmed]);
    let known = Method::from_bytes(method);
    if known == Method::Other && (method.is_empty() || !method.iter().all(|byte| is_token(*byte))) {
        return Err(Flaw::NotSip);
    }
    if last == first || !is_version(version) {
        return Err(Flaw::NotSip);
    }
    let uri = &line[first + 1..last];
    layout.is_request = true;
    layout.method = known;
    layout.word = Span::new(start, start + first);
    layout.uri = Span::new(start + first + 1, start + last);
    layout.version = Span::new(start + last + 1, start + trimmed);
    layout.version_is_good = version.eq_ignore_ascii_case(b"SIP/2.0");
    layout.start_is_good = trimmed == line.len() && !uri.is_empty() && memchr::memchr2(b' ', b'\t', uri).is_none();
    Ok(())
}

/// RFC 3261 §7.1: `SIP/`, digits, a dot, digits.
fn is_version(text: &[u8]) -> bool {
    if text == b"SIP/2.0" {
        return true;
    }
    let number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    text.len() > 4
        && text[..4].eq_ignore_ascii_case(b"SIP/")
        && text[4..]
            .iter()
            .position(|byte| *byte == b'.')
            .is_some_and(|dot| number(&text[4..4 + dot]) && number(&text[5 + dot..]))
}

/// RFC 3261 §7.2. The space behind the status may be missing (RFC 4475 §3.1.1.13); the status has three digits and is
/// below 700 (§3.1.2.19).
fn read_status_line(line: &[u8], start: usize, layout: &mut Layout) -> Result<(), Flaw> {
    let (version, rest) = line.split_at_checked(7).ok_or(Flaw::StatusLine)?;
    let digits = rest.get(1..4).filter(|_| rest[0] == b' ').ok_or(Flaw::StatusLine)?;
    let status = decimal(digits).and_then(|status| u16::try_from(status).ok()).ok_or(Flaw::StatusLine)?;
    if !version.eq_ignore_ascii_case(b"SIP/2.0")
        || !(100..700).contains(&status)
        || rest.get(4).is_some_and(|byte| *byte != b' ')
    {
        return Err(Flaw::StatusLine);
    }
    layout.status = status;
    layout.version = Span::new(start, start + 7);
    layout.version_is_good = true;
    layout.start_is_good = true;
    layout.word = Span::new(start + line.len().min(12), start + line.len());
    Ok(())
}

/// The field whose lines are `at..next`, the last one ending at `end`.
fn read_field(bytes: &[u8], at: usize, end: usize, next: usize, layout: &mut Layout) -> Result<(), Flaw> {
    let line = &bytes[at..end];
    let colon = memchr::memchr(b':', line).ok_or(Flaw::HeaderLine)?;
    // RFC 3261 §25.1 `HCOLON`: white space may stand before the colon, a line end may not.
    let key = line[..colon].iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    let name = Name::parse(&line[..key]);
    if name == Name::Other && (key == 0 || !line[..key].iter().all(|byte| is_token(*byte))) {
        return Err(Flaw::HeaderLine);
    }
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let value = &line[colon + 1..];
    let before = value.iter().position(|byte| !space(byte)).unwrap_or(value.len());
    let behind = value.iter().rposition(|byte| !space(byte)).map_or(before, |last| last + 1);
    let value = Span::new(at + colon + 1 + before, at + colon + 1 + behind);
    let field = Field { name, line: Span::new(at, next), key: Span::new(at, at + key), value };
    layout.fields.try_push(field).map_err(|_| Flaw::TooManyFields { max: SIP_FIELDS_MAX })?;
    layout.names |= name.bit();
    if name == Name::ContentLength {
        // RFC 4475 §3.1.2.3: `-999` and `five` are no lengths; §3.3.9: two that differ are none either.
        let length =
            decimal(value.of(bytes)).and_then(|length| usize::try_from(length).ok()).ok_or(Flaw::ContentLength)?;
        if layout.content_length.is_some_and(|other| other != length) {
            return Err(Flaw::ContentLengthTwice);
        }
        layout.content_length = Some(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP b\r\nContent-Length: 5\r\n\r\n";

    #[test]
    fn no_octet_of_an_unfinished_message_is_searched_twice() {
        let (mut progress, mut layout) = (Progress::default(), Layout::default());
        for have in 1..HEAD.len() {
            assert_eq!(parse_stream(&HEAD[..have], &mut progress, &mut layout), Ok(Step::More));
            assert_eq!(progress, Progress { searched: have, needed: 0 }, "the end may begin in the last three octets");
        }
        let whole = [HEAD, b"12345rest"].concat();
        for have in HEAD.len()..HEAD.len() + 5 {
            assert_eq!(parse_stream(&whole[..have], &mut progress, &mut layout), Ok(Step::More));
            assert_eq!(progress, Progress { searched: 0, needed: HEAD.len() + 5 }, "a known head is not read again");
        }
        assert_eq!(parse_stream(&whole, &mut progress, &mut layout), Ok(Step::Message { used: HEAD.len() + 5 }));
        assert_eq!(progress, Progress::default());
        assert_eq!(layout.view(&whole).body(), b"12345");
    }

    #[test]
    fn the_start_line_is_recognised_or_refused() {
        let read = |line: &str| {
            let (bytes, mut layout) = ([line.as_bytes(), b"\r\n\r\n"].concat(), Layout::default());
            let end = read_head(&bytes, 0, &mut layout).map(|head| head.end.is_some());
            (end, layout.start_is_good, layout.version_is_good, layout.status)
        };
        for line in ["OPTIONS sip:a SIP/2.0", "OPTIONS sip:a sip/2.0", "!odd%Method' x:y SIP/2.0"] {
            assert_eq!(read(line), (Ok(true), true, true, 0), "{line}");
        }
        for line in
            ["OPTIONS  sip:a  SIP/2.0", "OPTIONS sip:a SIP/2.0  ", "OPTIONS sip:a b SIP/2.0", "OPTIONS  SIP/2.0"]
        {
            assert_eq!(read(line), (Ok(true), false, true, 0), "{line}");
        }
        assert_eq!(read("OPTIONS sip:a SIP/7.0"), (Ok(true), true, false, 0));
        for line in [
            "GET / HTTP/1.1",
            "OPTIONS sip:a",
            "OPTIONS SIP/2.0",
            "OPT(IONS sip:a SIP/2.0",
            " a SIP/2.0",
            "OPTIONS sip:a SIP/2",
            "A b SIP/.0",
            "A b SIP/2.x",
        ] {
            assert_eq!(read(line).0, Err(Flaw::NotSip), "{line}");
        }
        for (line, status) in [("SIP/2.0 200 OK", 200), ("sip/2.0 100 ", 100), ("SIP/2.0 699", 699)] {
            assert_eq!(read(line), (Ok(true), true, true, status), "{line}");
        }
        for line in [
            "SIP/2.0 4294967301 b",
            "SIP/2.0 99 x",
            "SIP/2.0 700 x",
            "SIP/7.0 200 OK",
            "SIP/2.0  200 OK",
            "SIP/2.0",
            "SIP/2.0 20x",
            "SIP/",
        ] {
            assert_eq!(read(line).0, Err(Flaw::StatusLine), "{line}");
        }
    }
}
