//! Messages of our own: responses to a request at hand (RFC 3261 §8.2.6), requests from their parts (§8.1.1).

use std::net::SocketAddr;

use crate::headers::Name;
use crate::message::View;
use crate::writer::{decimal, line, write_received};

/// A response to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reply<'a> {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase; empty for the standard one.
    pub reason: &'a str,
    /// Our tag for To, if To has none yet; empty for none (a 100 needs none).
    pub to_tag: &'a str,
    /// Where the request came from: fills `received` and `rport` into the top Via (RFC 3261 §18.2.1, RFC 3581 §4).
    pub source: Option<SocketAddr>,
    /// More header lines, each with its CRLF.
    pub lines: &'a [u8],
    /// The body; its type is one of the lines.
    pub body: &'a [u8],
}

/// Appends the response: every Via, From, To, Call-ID and CSeq as they stand in the request (RFC 3261 §8.2.6.2), in a
/// 100 also Timestamp (§8.2.6.1). What a faulty request lacks, its response lacks too.
pub fn reply(out: &mut Vec<u8>, request: View<'_>, reply: &Reply<'_>) {
    let Reply { status, reason, to_tag, source, lines, body } = *reply;
    let parts = Parts { status, reason: reason.as_bytes(), to_tag: to_tag.as_bytes(), lines, body };
    write_reply(out, request, &parts, source);
}

/// As [`Reply`], from octets of the wire.
pub(crate) struct Parts<'a> {
    pub status: u16,
    pub reason: &'a [u8],
    pub to_tag: &'a [u8],
    pub lines: &'a [u8],
    pub body: &'a [u8],
}

pub(crate) fn write_reply(out: &mut Vec<u8>, request: View<'_>, parts: &Parts<'_>, mut source: Option<SocketAddr>) {
    out.extend_from_slice(b"SIP/2.0 ");
    decimal(out, parts.status.into());
    out.push(b' ');
    let standard = reason_phrase(parts.status).as_bytes();
    out.extend_from_slice(if parts.reason.is_empty() { standard } else { parts.reason });
    out.extend_from_slice(b"\r\n");
    let bytes = request.bytes;
    let mut seen = 0;
    for field in request.fields() {
        let is_new = seen & field.name.bit() == 0;
        match field.name {
            Name::Via => {
                if let Some(source) = source.take() {
                    out.extend_from_slice(&bytes[usize::from(field.line.start)..usize::from(field.value.start)]);
                    write_received(out, field.value.of(bytes), source);
                    out.extend_from_slice(b"\r\n");
                } else {
                    out.extend_from_slice(field.line.of(bytes));
                }
            }
            Name::To if is_new && !parts.to_tag.is_empty() && request.to().is_ok_and(|to| to.tag().is_none()) => {
                out.extend_from_slice(&bytes[usize::from(field.line.start)..usize::from(field.value.end)]);
                out.extend_from_slice(b";tag=");
                out.extend_from_slice(parts.to_tag);
                out.extend_from_slice(b"\r\n");
            }
            Name::From | Name::To | Name::CallId | Name::CSeq if is_new => out.extend_from_slice(field.line.of(bytes)),
            Name::Timestamp if is_new && parts.status == 100 => out.extend_from_slice(field.line.of(bytes)),
            _ => {}
        }
        seen |= field.name.bit();
    }
    out.extend_from_slice(parts.lines);
    line(out, Name::ContentLength, parts.body.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(parts.body);
}

/// A request to be (RFC 3261 §8.1.1).
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// In capitals.
    pub method: &'a str,
    /// The Request-URI.
    pub uri: &'a str,
    /// The whole value of our Via, branch included.
    pub via: &'a str,
    /// The whole value of From, tag included.
    pub from: &'a str,
    /// The whole value of To.
    pub to: &'a str,
    /// The Call-ID.
    pub call_id: &'a str,
    /// Below 2^31.
    pub cseq: u32,
    /// Usually [`base::limits::MAX_FORWARDS`].
    pub max_forwards: u8,
    /// More header lines, each with its CRLF.
    pub lines: &'a [u8],
    /// The body; its type is one of the lines.
    pub body: &'a [u8],
}

/// Appends the request. The fields are written as they are given: who takes them from a stranger looks for line ends.
pub fn request(out: &mut Vec<u8>, request: &Request<'_>) {
    for text in [request.method, " ", request.uri, " SIP/2.0\r\nVia: ", request.via, "\r\n"] {
        out.extend_from_slice(text.as_bytes());
    }
    line(out, Name::MaxForwards, request.max_forwards.into());
    for text in ["From: ", request.from, "\r\nTo: ", request.to, "\r\nCall-ID: ", request.call_id, "\r\nCSeq: "] {
        out.extend_from_slice(text.as_bytes());
    }
    decimal(out, request.cseq.into());
    for text in [" ", request.method, "\r\n"] {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(request.lines);
    line(out, Name::ContentLength, request.body.len() as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(request.body);
}

/// RFC 3261 §21 and the extensions; a word for the class when the status is unknown.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => match status / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Client Error",
            5 => "Server Error",
            _ => "Global Failure",
        },
    }
}
