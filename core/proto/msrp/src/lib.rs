//! MSRP: bytes to values and back (RFC 4975), and the rules of its responses and reports. No sockets, no clocks, no dice.
//!
//! ```text
//! bytes ── Scanner::scan ──> Step: Head (spans) / Body (range) / End ── HeadSpans::view ──> Head: what everybody reads
//!    Head ── forward_head, respond, Resume ──> bytes: new start line and paths, the rest octet for octet
//! ```
//!
//! The scanner reads borrowed bytes and answers ranges; a body is never copied here. What an endpoint needs besides,
//! putting a message together and cutting one up, stands in [`reassembly`] and [`chunk`].

pub mod chunk;
pub mod error;
pub mod head;
pub mod path;
pub mod range;
pub mod reassembly;
pub mod report;
pub mod scan;
pub mod session;
pub mod tid;
pub mod writer;

pub use chunk::{Outgoing, Piece, chunks, write_chunk, write_hello};
pub use error::{ParseError, Reply};
pub use head::{FailureReport, Flag, Head, HeadSpans, Kind, Method, ReportStatus};
pub use path::{Path, Scheme, Uri, session_uri};
pub use range::ByteRange;
pub use reassembly::{Limits, Reassembly, ReassemblyError, Whole};
pub use report::{Coverage, SuccessReports, TooScattered};
pub use scan::{Scanner, Step};
pub use session::{
    Awaited, Full, Meaning, Settled, answer_wished, failure_report_owed, is_timed, meaning_of, response_owed,
};
pub use tid::{Tid, TidMaker};
pub use writer::{
    Range, Report, Resume, Send, comment_of, end_line, forward_head, report, request_head, respond, response,
    response_with, send_head,
};
