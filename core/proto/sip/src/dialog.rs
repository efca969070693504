//! Dialogs: what two user agents know of each other between a 2xx and a BYE (RFC 3261 §12).
//!
//! ```text
//!  we answer: of_request(INVITE, our tag) ──┐
//!                                           ├──> Dialog ── request(…), acknowledge(…) ──> bytes for next_hop()
//!  we ask: of_response(INVITE, 2xx) ────────┘      ▲
//!                                                  └────── matches(request)? receive(request): in order, or 500
//! ```
//!
//! A dialog has no state machine: whether it stands is its owner's to know. Early ones are not kept: who is not answered
//! yet has nothing to say but what its INVITE transaction says.

use crate::answer::{Request, request};
use crate::error::{Fault, HeaderError};
use crate::headers::Name;
use crate::message::View;
use crate::method::Method;
use crate::uri::Uri;

/// One end of a dialog: ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    call_id: Box<str>,
    /// The value of From in what we send, tag included.
    local: Box<str>,
    /// The value of To in what we send, tag included where the peer has one.
    remote: Box<str>,
    local_tag: Box<str>,
    /// Empty where the peer has none (RFC 3261 §12.1.1: an RFC 2543 client).
    remote_tag: Box<str>,
    /// The number of our last request.
    local_cseq: u32,
    /// The number of the peer's last one; nothing as long as it has sent none.
    remote_cseq: Option<u32>,
    /// Where the peer wants to be reached: its last Contact.
    target: Box<str>,
    /// Values of Route, in the order in which they are visited.
    routes: Box<[Box<str>]>,
}

/// A request within a dialog, but for what the dialog itself says of it.
#[derive(Debug, Clone, Copy)]
pub struct Within<'a> {
    /// In capitals.
    pub method: &'a str,
    /// The whole value of our Via, branch included.
    pub via: &'a str,
    /// Usually [`base::limits::MAX_FORWARDS`].
    pub max_forwards: u8,
    /// More header lines, each with its CRLF.
    pub lines: &'a [u8],
    /// The body; its type is one of the lines.
    pub body: &'a [u8],
}

impl Dialog {
    /// The answering side's (RFC 3261 §12.1.1): `local_tag` is what our 2xx puts into To.
    ///
    /// # Errors
    /// From, To, Call-ID, CSeq or Contact cannot be read, or there is not exactly one Contact (§8.1.1.8).
    pub fn of_request(invite: View<'_>, local_tag: &str) -> Result<Self, HeaderError> {
        let from = invite.from()?;
        let to = text(invite.first(Name::To).ok_or(HeaderError::Missing(Name::To))?);
        invite.to()?;
        Ok(Self {
            call_id: text(invite.call_id()?),
            local: format!("{to};tag={local_tag}").into(),
            remote: text(invite.first(Name::From).unwrap_or_default()),
            local_tag: local_tag.into(),
            remote_tag: text(from.tag().unwrap_or_default()),
            local_cseq: 0,
            remote_cseq: Some(invite.cseq()?.number),
            target: contact_of(invite)?.ok_or(HeaderError::Missing(Name::Contact))?,
            // In the order in which they stand (§12.1.1).
            routes: record_routes(invite).collect(),
        })
    }

    /// The asking side's (RFC 3261 §12.1.2): `invite` is our request, `response` a 2xx to it, or a provisional response
    /// that is to be acknowledged (RFC 3262 §4). A response without
    /// Contact leaves the Request-URI as the target.
    ///
    /// # Errors
    /// From, To, Call-ID, CSeq or a Contact that is there cannot be read.
    pub fn of_response(invite: View<'_>, response: View<'_>) -> Result<Self, HeaderError> {
        let target = contact_of(response)?.unwrap_or_else(|| text(invite.request_uri()));
        let mut routes: Vec<Box<str>> = record_routes(response).collect();
        routes.reverse(); // §12.1.2
        Ok(Self {
            call_id: text(invite.call_id()?),
            local_tag: text(invite.from()?.tag().unwrap_or_default()),
            local: text(invite.first(Name::From).unwrap_or_default()),
            remote_tag: text(response.to()?.tag().unwrap_or_default()),
            remote: text(response.first(Name::To).unwrap_or_default()),
            local_cseq: invite.cseq()?.number,
            remote_cseq: None,
            target,
            routes: routes.into(),
        })
    }

    /// Whether a request of the peer's belongs here: Call-ID and both tags (RFC 3261 §12.2.2).
    pub fn matches(&self, request: View<'_>) -> bool {
        let tag = |tag: Option<&[u8]>, own: &str| tag.unwrap_or_default() == own.as_bytes();
        request.call_id().is_ok_and(|id| id == self.call_id.as_bytes())
            && request.to().is_ok_and(|to| tag(to.tag(), &self.local_tag))
            && request.from().is_ok_and(|from| tag(from.tag(), &self.remote_tag))
    }

    /// Whether a response comes from this peer: a fork answers with other tags (RFC 3261 §13.2.2.4).
    pub fn answers(&self, response: View<'_>) -> bool {
        response.to().is_ok_and(|to| to.tag().unwrap_or_default() == self.remote_tag.as_bytes())
    }

    /// Takes in a request of the peer's that [`Dialog::matches`], ACK and CANCEL excepted: its number must not be lower
    /// than the last one's, gaps are fine (RFC 3261 §12.2.2).
    ///
    /// # Errors
    /// 500 for one that is out of order; nothing has changed then.
    pub fn receive(&mut self, request: View<'_>) -> Result<(), Fault> {
        let number = request.cseq()?.number;
        if self.remote_cseq.is_some_and(|last| number < last) {
            return Err(Fault { status: 500, reason: "CSeq Out Of Order" });
        }
        self.remote_cseq = Some(number);
        Ok(())
    }

    /// Takes the remote target from a re-INVITE that was accepted, or from the 2xx to one of ours; the route set stays
    /// as it is (RFC 3261 §12.2, §12.2.1.2).
    pub fn refresh(&mut self, message: View<'_>) {
        if let Ok(Some(target)) = contact_of(message) {
            self.target = target;
        }
    }

    /// Appends a request of ours under the next number, which it answers (RFC 3261 §12.2.1.1).
    pub fn request(&mut self, out: &mut Vec<u8>, within: &Within<'_>) -> u32 {
        self.local_cseq += 1;
        self.write(out, within, self.local_cseq);
        self.local_cseq
    }

    /// Goes on from an early dialog with the same peer: its numbers are used up (RFC 3261 §12.2.1.1; RFC 3262 §4).
    pub fn continue_from(&mut self, early: &Self) {
        self.local_cseq = self.local_cseq.max(early.local_cseq);
        self.remote_cseq = self.remote_cseq.max(early.remote_cseq);
    }

    /// Appends the ACK for a 2xx to our INVITE of this number: a transaction of its own with a branch of its own
    /// (RFC 3261 §13.2.2.4, §17.1.1.3).
    pub fn acknowledge(&self, out: &mut Vec<u8>, cseq: u32, via: &str) {
        let max_forwards = base::limits::MAX_FORWARDS;
        self.write(out, &Within { method: "ACK", via, max_forwards, lines: b"", body: b"" }, cseq);
    }

    /// The URI whose address a request within this dialog is sent to: the first of the route set, else the target
    /// (RFC 3261 §12.2.1.1, §8.1.2).
    pub fn next_hop(&self) -> &str {
        match self.routes.first() {
            Some(route) => uri_of(route),
            None => &self.target,
        }
    }

    /// The peer's last Contact.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Our tag.
    pub fn local_tag(&self) -> &str {
        &self.local_tag
    }

    /// The peer's tag; empty where it has none.
    pub fn remote_tag(&self) -> &str {
        &self.remote_tag
    }

    /// The Call-ID.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    fn write(&self, out: &mut Vec<u8>, within: &Within<'_>, cseq: u32) {
        // RFC 3261 §12.2.1.1: a strict router stands in the Request-URI, and the target at the end of the route.
        let strict = self.routes.first().filter(|first| !is_loose(first));
        let (uri, visited, last) = match strict {
            Some(first) => (uri_of(first), &self.routes[1..], Some(&*self.target)),
            None => (&*self.target, &self.routes[..], None),
        };
        let mut lines = Vec::with_capacity(within.lines.len() + 128);
        let mut route = |pieces: [&str; 3]| {
            lines.extend_from_slice(b"Route: ");
            pieces.iter().for_each(|piece| lines.extend_from_slice(piece.as_bytes()));
            lines.extend_from_slice(b"\r\n");
        };
        visited.iter().for_each(|each| route([each, "", ""]));
        if let Some(target) = last {
            route(["<", target, ">"]);
        }
        lines.extend_from_slice(within.lines);
        request(
            out,
            &Request {
                method: within.method,
                uri,
                via: within.via,
                from: &self.local,
                to: &self.remote,
                call_id: &self.call_id,
                cseq,
                max_forwards: within.max_forwards,
                lines: &lines,
                body: within.body,
            },
        );
    }
}

/// The Contact of a message that makes a dialog: one, and a URI that can be a Request-URI.
fn contact_of(message: View<'_>) -> Result<Option<Box<str>>, HeaderError> {
    let crate::Contacts::List(list) = message.contacts()? else { return Err(HeaderError::Malformed(Name::Contact)) };
    let mut contacts = list.iter();
    let Some(contact) = contacts.next() else { return Ok(None) };
    if contacts.next().is_some() {
        return Err(HeaderError::Repeated(Name::Contact));
    }
    contact.parsed_uri().map_err(|_| HeaderError::Malformed(Name::Contact))?;
    Ok(Some(plain(&text(contact.uri)).into()))
}

/// Those that can be written as a Route or a Request-URI; a malformed one has no way back anyhow.
fn record_routes(message: View<'_>) -> impl Iterator<Item = Box<str>> {
    let is_route = |value: &&[u8]| crate::NameAddr::parse(value).is_some_and(|route| route.parsed_uri().is_ok());
    message.values(Name::RecordRoute).filter(is_route).map(text)
}

/// The URI of a Route value, as a Request-URI may have it.
fn uri_of(route: &str) -> &str {
    let uri = crate::NameAddr::parse(route.as_bytes()).and_then(|route| std::str::from_utf8(route.uri).ok());
    plain(uri.unwrap_or(route))
}

/// A URI without headers, which a Request-URI must not have (RFC 3261 §12.2.1.1, §19.1.1 Table 1).
fn plain(uri: &str) -> &str {
    let headers = Uri::parse(uri.as_bytes()).map_or(0, |read| read.headers.len());
    // The user part may have a question mark too: only the last one can begin headers.
    let plain = &uri[..uri.len() - headers];
    plain.strip_suffix('?').unwrap_or(plain)
}

/// RFC 3261 §16.12: `lr` in the URI of a loose router.
fn is_loose(route: &str) -> bool {
    Uri::parse(uri_of(route).as_bytes()).is_ok_and(|uri| uri.param("lr").is_some())
}

/// Octets of the wire as text; folds become spaces, since the value is written on one line of ours.
fn text(octets: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(octets);
    if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], " ").into() } else { text.into() }
}

/// Whether a request of this method brings a new remote target (RFC 3261 §12.2; RFC 3311 §5.1).
pub fn refreshes_target(method: Method) -> bool {
    matches!(method, Method::Invite | Method::Update)
}

#[cfg(test)]
#[path = "dialog_tests.rs"]
mod tests;
