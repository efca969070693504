//! SIP: bytes to values and back (RFC 3261), and the machines of its transactions. No sockets, no clocks, no dice.
//!
//! ```text
//! bytes ── parse_datagram / parse_stream ──> Layout (spans) ── Layout::view ──> View: what everybody reads
//!    View ── forward_request, forward_response, reply, Delta ──> bytes: spliced, the rest octet for octet
//! ```
//!
//! Parsing finds lines and names and nothing else; a value is read when it is asked for ([`View::top_via`],
//! [`View::from`]). What a request must have is asked once, by [`View::check_request`]. Nothing here allocates
//! but [`Message`] and [`Delta`], which outlive the turn.

pub mod address;
pub mod answer;
mod check;
pub mod delta;
pub mod dialog;
pub mod digest;
pub mod error;
pub mod extensions;
pub mod headers;
pub mod message;
pub mod method;
pub mod params;
pub mod parser;
pub mod stun;
pub mod subscription;
pub mod transaction;
pub mod uri;
pub mod via;
pub mod writer;

pub use address::{CSeq, Contacts, NameAddr};
pub use answer::{Reply, Request, reason_phrase, reply, request};
pub use base::mime::MediaType;
pub use delta::Delta;
pub use dialog::Dialog;
pub use error::{Fault, Flaw, HeaderError, ParseError, UriError};
pub use extensions::{RAck, Role, SessionExpires};
pub use headers::Name;
pub use message::{Field, Layout, Message, Span, View};
pub use method::Method;
pub use params::{Param, Params};
pub use parser::{Progress, Step, parse_datagram, parse_stream};
pub use uri::{Scheme, Uri};
pub use via::Via;
pub use writer::{Forward, forward_request, forward_response};
