//! A message cut into chunks (RFC 4975 §7.1.1), for endpoints.

use base::limits::MSRP_UNCUT_BYTES_MAX;

use crate::head::{FailureReport, Flag};
use crate::range::ByteRange;
use crate::tid::{Tid, TidMaker};
use crate::writer::{Send, end_line, send_head};

/// One chunk of a message that is all there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// What it carries.
    pub range: ByteRange,
    /// Its octets.
    pub body: &'a [u8],
    /// `+`, and `$` for the last.
    pub flag: Flag,
}

/// Cuts a message into pieces of at most `size` octets, and at least 2,048 but for the last (RFC 4975 §7.1.1). A piece
/// of more than 2,048 octets must be interruptible: its range-end is `*`. An empty message is one empty piece.
pub fn chunks(body: &[u8], size: usize) -> impl Iterator<Item = Piece<'_>> {
    let size = size.max(MSRP_UNCUT_BYTES_MAX);
    let total = body.len() as u64;
    let mut at = 0;
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let end = body.len().min(at + size);
        let piece = &body[at..end];
        let mut range = ByteRange::of(at as u64 + 1, piece.len() as u64, total);
        if piece.len() > MSRP_UNCUT_BYTES_MAX {
            range.end = None;
        }
        is_over = end == body.len();
        at = end;
        Some(Piece { range, body: piece, flag: if is_over { Flag::Complete } else { Flag::More } })
    })
}

/// A message of our own, and how it is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The path to the receiver, whole.
    pub to_path: &'a [u8],
    /// Our URI.
    pub from_path: &'a [u8],
    /// Its id: of [`TidMaker::next`], for instance.
    pub message_id: &'a [u8],
    /// Its type.
    pub content_type: &'a [u8],
    /// Further header lines, each with its CRLF.
    pub lines: &'a [u8],
    /// Whether we want to hear of success.
    pub success_report: bool,
    /// What we want to hear of failure.
    pub failure_report: FailureReport,
}

/// Appends one chunk, whole, and returns its transaction id: one that does not occur in the piece (RFC 4975 §7.1).
pub fn write_chunk(out: &mut Vec<u8>, tids: &TidMaker, message: &Outgoing<'_>, piece: &Piece<'_>) -> Tid {
    let tid = tids.next_outside(piece.body);
    let send = Send {
        tid: &tid,
        to_path: message.to_path,
        from_path: message.from_path,
        message_id: message.message_id,
        byte_range: piece.range,
        success_report: message.success_report,
        failure_report: message.failure_report,
        lines: message.lines,
        content_type: Some(message.content_type),
    };
    send_head(out, &send);
    out.extend_from_slice(piece.body);
    end_line(out, &tid, piece.flag, true);
    tid
}

/// Appends the empty SEND that binds a connection to a session (RFC 4975 §5.4), and returns its transaction id.
pub fn write_hello(out: &mut Vec<u8>, tids: &TidMaker, to_path: &[u8], from_path: &[u8]) -> Tid {
    let (tid, message_id) = (tids.next(), tids.next());
    let send = Send {
        tid: &tid,
        to_path,
        from_path,
        message_id: message_id.as_bytes(),
        byte_range: ByteRange::of(1, 0, 0),
        success_report: false,
        failure_report: FailureReport::Yes,
        lines: &[],
        content_type: None,
    };
    send_head(out, &send);
    end_line(out, &tid, Flag::Complete, false);
    tid
}
