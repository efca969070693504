//! Why a body is not what its content type says.

/// Every variant is the sender's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The message headers are not followed by a content (RFC 3862 §2).
    #[error("the headers of a message/cpim end without a content")]
    NoContent,
    /// RFC 3862 §2.2: headers are UTF-8.
    #[error("a message/cpim header is not UTF-8")]
    NotUtf8,
    /// RFC 3862 §3.1: no colon, or octets before it that no name may have; folding looks so too.
    #[error("a message/cpim header has no proper name")]
    Name,
    /// RFC 3862 §2.2: a space follows the colon and the parameters.
    #[error("a message/cpim header has no space before its value")]
    NoSpace,
    /// RFC 3862 §2.2: control characters stand escaped or not at all.
    #[error("a message/cpim header holds a control character")]
    Control,
    /// A value that its header does not allow: an address without brackets, a namespace without URI.
    #[error("the value of {0} is malformed")]
    Value(&'static str),
    /// A header that may stand once stands again.
    #[error("{0} stands more than once")]
    Twice(&'static str),
    /// More headers than anybody writes.
    #[error("more than {max} message/cpim headers")]
    TooManyHeaders {
        /// How many are read.
        max: usize,
    },
    /// A line of the content's MIME head is no header.
    #[error("the MIME head of the content is malformed")]
    ContentHead,
    /// Not well-formed XML, or XML with a document type, which is not read (no entity is ever expanded).
    #[error("the XML is not well-formed, or has a document type")]
    Xml,
    /// Well-formed, but not the document that its type promises.
    #[error("the XML has no {0}")]
    Missing(&'static str),
}
