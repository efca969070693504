//! What is wrong with a session description, and what its sender hears.

/// A description that cannot be used. Every variant is the peer's doing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Too long.
    #[error("description is longer than {max} bytes")]
    TooLong {
        /// The ceiling, in bytes.
        max: usize,
    },
    /// Too many media lines.
    #[error("more than {max} media lines")]
    TooManyMedia {
        /// The ceiling.
        max: usize,
    },
    /// Not `x=value`, or a control character in it, or an unknown letter (RFC 8866 §5).
    #[error("line {line} is no line of a description")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A line stands where RFC 8866 §5 does not have it.
    #[error("line {line} is out of order")]
    Order {
        /// Counted from 1.
        line: usize,
    },
    /// A line that every description has is missing (RFC 8866 §5).
    #[error("no {letter}= line")]
    Missing {
        /// Its letter.
        letter: char,
    },
    /// A number is none.
    #[error("line {line} has a malformed number")]
    Number {
        /// Counted from 1.
        line: usize,
    },
    /// A field of a line cannot be read.
    #[error("{0}")]
    Field(sdp_types::ParserError),
    /// No media line for MSRP, or only refused ones.
    #[error("no MSRP media line")]
    NoMessage,
    /// The MSRP line has no `a=path` with MSRP URIs (RFC 4975 §8).
    #[error("MSRP media line without a path")]
    NoPath,
    /// The MSRP line has no `a=accept-types` (RFC 4975 §8.6).
    #[error("MSRP media line without accept-types")]
    NoAcceptTypes,
    /// The answer has other media lines than the offer (RFC 3264 §6).
    #[error("answer with {answered} media lines to an offer of {offered}")]
    MediaCount {
        /// In the offer.
        offered: usize,
        /// In the answer.
        answered: usize,
    },
}

impl SdpError {
    /// The SIP answer: a text that cannot be read is a bad request; one that can, but has nothing for us, is not
    /// acceptable (RFC 3261 §21.4.26, RFC 4975 §8.6). The only place where such an error becomes a status.
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            Self::TooLong { .. } => (413, "Session Description Too Long"),
            Self::TooManyMedia { .. }
            | Self::Line { .. }
            | Self::Order { .. }
            | Self::Missing { .. }
            | Self::Number { .. }
            | Self::Field(_) => (400, "Malformed Session Description"),
            Self::NoMessage | Self::NoPath | Self::NoAcceptTypes | Self::MediaCount { .. } => {
                (488, "Not Acceptable Here")
            }
        }
    }
}

impl From<sdp_types::ParserError> for SdpError {
    fn from(error: sdp_types::ParserError) -> Self {
        Self::Field(error)
    }
}
