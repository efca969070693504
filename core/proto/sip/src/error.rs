//! What can be wrong with what a peer sent, and what the peer hears. The only place where a fault becomes a status.

use crate::headers::Name;

/// A message that cannot be read. On a stream the place of the next message is lost with it: answer, then close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{flaw}")]
pub struct ParseError {
    /// What is wrong.
    pub flaw: Flaw,
    /// Whether it was a request (but no ACK) whose head was read so far that it can be answered.
    pub answerable: bool,
}

/// What is wrong with a message as a whole. Every variant is the peer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Nothing but line ends.
    #[error("nothing but line ends")]
    Empty,
    /// The first line is neither a request line nor a status line.
    #[error("neither a SIP request nor a SIP response")]
    NotSip,
    /// A response whose version is not SIP/2.0 or whose status is not three digits from 100 to 699.
    #[error("status line with an impossible version or status")]
    StatusLine,
    /// CR without LF or LF without CR in the head: what we take for one line others take for two.
    #[error("a carriage return or a line feed alone")]
    BareLineEnd,
    /// A line that is no `name: value`.
    #[error("a header line without a name and a colon")]
    HeaderLine,
    /// The datagram ends within its head.
    #[error("the head has no end")]
    HeadUnfinished,
    /// The head does not fit.
    #[error("head is longer than {max} bytes")]
    HeadTooLong {
        /// The ceiling, in bytes.
        max: usize,
    },
    /// Too many header fields.
    #[error("more than {max} header fields")]
    TooManyFields {
        /// The ceiling.
        max: usize,
    },
    /// Content-Length is no number.
    #[error("Content-Length is no number")]
    ContentLength,
    /// Two values of Content-Length that differ.
    #[error("two different values of Content-Length")]
    ContentLengthTwice,
    /// No Content-Length on a stream (RFC 3261 §18.3).
    #[error("no Content-Length on a stream")]
    ContentLengthMissing,
    /// The datagram is shorter than Content-Length says (RFC 3261 §18.3).
    #[error("body of {have} bytes where Content-Length says {declared}")]
    BodyShort {
        /// Bytes that Content-Length announces.
        declared: usize,
        /// Bytes that came.
        have: usize,
    },
    /// Head and announced body together do not fit.
    #[error("message of {bytes} bytes is longer than {max}")]
    MessageTooLong {
        /// Bytes of head and body.
        bytes: usize,
        /// The ceiling, in bytes.
        max: usize,
    },
}

impl ParseError {
    /// The status and the reason phrase to answer with; nothing when it must be dropped in silence (responses, ACK,
    /// what is no SIP).
    pub fn status(&self) -> Option<(u16, &'static str)> {
        if !self.answerable {
            return None;
        }
        match self.flaw {
            Flaw::Empty | Flaw::NotSip | Flaw::StatusLine | Flaw::HeadTooLong { .. } => None,
            Flaw::BareLineEnd => Some((400, "Line Not Ended By CRLF")),
            Flaw::HeaderLine => Some((400, "Malformed Header Line")),
            Flaw::HeadUnfinished => Some((400, "Head Without End")),
            Flaw::TooManyFields { .. } => Some((513, "Too Many Header Fields")),
            Flaw::ContentLength => Some((400, "Malformed Content-Length")),
            Flaw::ContentLengthTwice => Some((400, "Conflicting Content-Length")),
            Flaw::ContentLengthMissing => Some((400, "Missing Content-Length")),
            Flaw::BodyShort { .. } => Some((400, "Body Shorter Than Content-Length")),
            Flaw::MessageTooLong { .. } => Some((413, "Request Entity Too Large")),
        }
    }
}

/// A header field that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not there.
    #[error("no {}", .0.as_str())]
    Missing(Name),
    /// There, but not to be read.
    #[error("malformed {}", .0.as_str())]
    Malformed(Name),
    /// More than once where one value is all there may be.
    #[error("more than one {}", .0.as_str())]
    Repeated(Name),
}

/// A request that is refused as it stands: the status, and a reason phrase that names the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// 400, 414 or 505.
    pub status: u16,
    /// For the status line.
    pub reason: &'static str,
}

impl From<HeaderError> for Fault {
    fn from(error: HeaderError) -> Self {
        let reason = match error {
            HeaderError::Missing(Name::Via) => "Missing Via",
            HeaderError::Missing(Name::From) => "Missing From",
            HeaderError::Missing(Name::To) => "Missing To",
            HeaderError::Missing(Name::CallId) => "Missing Call-ID",
            HeaderError::Missing(Name::CSeq) => "Missing CSeq",
            HeaderError::Missing(_) => "Missing Header Field",
            HeaderError::Malformed(Name::Via) => "Malformed Via",
            HeaderError::Malformed(Name::From) => "Malformed From",
            HeaderError::Malformed(Name::To) => "Malformed To",
            HeaderError::Malformed(Name::CallId) => "Malformed Call-ID",
            HeaderError::Malformed(Name::CSeq) => "Malformed CSeq",
            HeaderError::Malformed(Name::MaxForwards) => "Malformed Max-Forwards",
            HeaderError::Malformed(Name::Contact) => "Malformed Contact",
            HeaderError::Malformed(_) => "Malformed Header Field",
            HeaderError::Repeated(Name::From) => "More Than One From",
            HeaderError::Repeated(Name::To) => "More Than One To",
            HeaderError::Repeated(Name::CallId) => "More Than One Call-ID",
            HeaderError::Repeated(Name::CSeq) => "More Than One CSeq",
            HeaderError::Repeated(Name::MaxForwards) => "More Than One Max-Forwards",
            HeaderError::Repeated(_) => "Repeated Header Field",
        };
        Self { status: 400, reason }
    }
}

/// A text that is no URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No `scheme:` in front.
    #[error("no scheme")]
    Scheme,
    /// An octet that cannot stand in a URI, such as a space.
    #[error("an octet that cannot stand in a URI")]
    Octet,
    /// The user part is empty or malformed.
    #[error("malformed user part")]
    User,
    /// The host is missing or malformed.
    #[error("malformed host")]
    Host,
    /// The port is no number from 0 to 65535.
    #[error("malformed port")]
    Port,
    /// A parameter without a name.
    #[error("malformed parameter")]
    Param,
    /// A percent sign without two hexadecimal digits.
    #[error("malformed escape")]
    Escape,
}
