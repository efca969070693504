//! What a stream can do wrong, and what its sender hears of it.

/// Bytes that are not MSRP as it should be. Every variant is the peer's doing: our own bugs are assertions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The first line does not begin with `MSRP` and a space.
    #[error("no MSRP")]
    NotMsrp,
    /// Neither a method nor a status follows the transaction id.
    #[error("malformed start line")]
    StartLine,
    /// Not 4 to 32 letters, digits, `.`, `-`, `+`, `%`, `=`, the first a letter or a digit.
    #[error("malformed transaction id")]
    TransactionId,
    /// CR or LF without the other, or NUL, within the head.
    #[error("a line that does not end with CRLF, or a NUL")]
    LineEnd,
    /// A line of the head is neither a header field nor this chunk's end-line.
    #[error("malformed header line")]
    HeaderLine,
    /// The head does not end.
    #[error("head is longer than {max} bytes")]
    HeadTooLong {
        /// The ceiling, in bytes.
        max: usize,
    },
    /// To-Path or From-Path is missing: nobody can be answered.
    #[error("paths are missing")]
    NoPaths,
    /// The body of a request that is no SEND is too long (RFC 4975 §7.1).
    #[error("body of a request other than SEND is longer than {max} bytes")]
    BodyTooLong {
        /// The ceiling, in bytes.
        max: usize,
    },
    /// From-Path stands before To-Path (RFC 4975 §9).
    #[error("paths are out of order")]
    PathOrder,
    /// An element of a path is no MSRP URI.
    #[error("malformed MSRP URI")]
    Uri,
    /// A path holds too many URIs.
    #[error("path of more than {max} URIs")]
    PathTooLong {
        /// The ceiling.
        max: usize,
    },
    /// A header field that may stand once stands twice.
    #[error("a header field stands twice")]
    Repeated,
    /// SEND or REPORT without a Message-ID, or with a malformed one.
    #[error("missing or malformed Message-ID")]
    MessageId,
    /// No range, or one that cannot be: start 0, end beyond total, numbers that do not fit.
    #[error("malformed Byte-Range")]
    ByteRange,
    /// Success-Report or Failure-Report with an unknown value.
    #[error("malformed Success-Report or Failure-Report")]
    ReportWish,
    /// REPORT without a Status, or with a malformed one.
    #[error("missing or malformed Status")]
    Status,
    /// A body without Content-Type (RFC 4975 §7.1).
    #[error("body without Content-Type")]
    ContentType,
}

/// What the peer hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// A response with this status, where one is due ([`crate::response_owed`]); the stream goes on.
    Status(u16),
    /// Nothing: where the next frame begins is not known any more, or nobody can be addressed.
    Close,
}

impl ParseError {
    /// What the peer hears. The only place where a parse error becomes a status.
    pub fn reply(&self) -> Reply {
        match self {
            Self::NotMsrp
            | Self::StartLine
            | Self::TransactionId
            | Self::LineEnd
            | Self::HeaderLine
            | Self::HeadTooLong { .. }
            | Self::NoPaths
            | Self::BodyTooLong { .. } => Reply::Close,
            Self::PathOrder
            | Self::Uri
            | Self::PathTooLong { .. }
            | Self::Repeated
            | Self::MessageId
            | Self::ByteRange
            | Self::ReportWish
            | Self::Status
            | Self::ContentType => Reply::Status(400),
        }
    }
}
