//! An answer kept for as long as its request may be repeated, as no more than what the repeated request does not give:
//! status, reason, To tag, other lines, body. 60 to 120 bytes where the whole answer would be 400.

use std::net::SocketAddr;

use crate::address::NameAddr;
use crate::answer::{Parts, Reply, reason_phrase, write_reply};
use crate::headers::Name;
use crate::message::View;

/// Status (2 octets), then lengths of reason (1), tag (2) and lines (4), then these three and the body.
const PREFIX: usize = 9;

/// What an answer says that the request does not. Written again by [`Delta::write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta(Box<[u8]>);

impl Delta {
    /// From an answer that came by (with or without our own Via).
    pub fn of(response: View<'_>) -> Self {
        let to = response.first(Name::To).and_then(NameAddr::parse);
        let tag = to.and_then(|to| to.tag()).unwrap_or(&[]);
        let kept = || {
            response.fields().iter().filter(|field| {
                !matches!(
                    field.name,
                    Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq | Name::ContentLength
                )
            })
        };
        let lines_bytes = kept().map(|field| field.line.of(response.bytes).len()).sum();
        let lines = kept().map(|field| field.line.of(response.bytes));
        Self::pack(response.status(), response.reason(), tag, lines_bytes, lines, response.body())
    }

    /// From an answer of our own.
    pub fn from_reply(reply: &Reply<'_>) -> Self {
        let lines = std::iter::once(reply.lines);
        Self::pack(reply.status, reply.reason.as_bytes(), reply.to_tag.as_bytes(), reply.lines.len(), lines, reply.body)
    }

    fn pack<'a>(
        status: u16,
        reason: &[u8],
        tag: &[u8],
        lines_bytes: usize,
        lines: impl Iterator<Item = &'a [u8]>,
        body: &[u8],
    ) -> Self {
        let tag = &tag[..tag.len().min(usize::from(u16::MAX))];
        let standard = reason == reason_phrase(status).as_bytes();
        let reason = if standard { &[] } else { &reason[..reason.len().min(usize::from(u8::MAX))] };
        let mut packed = Vec::with_capacity(PREFIX + reason.len() + tag.len() + lines_bytes + body.len());
        packed.extend_from_slice(&status.to_be_bytes());
        packed.push(reason.len() as u8);
        packed.extend_from_slice(&(tag.len() as u16).to_be_bytes());
        packed.extend_from_slice(&(lines_bytes as u32).to_be_bytes());
        packed.extend_from_slice(reason);
        packed.extend_from_slice(tag);
        lines.for_each(|line| packed.extend_from_slice(line));
        packed.extend_from_slice(body);
        Self(packed.into_boxed_slice())
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Octets that it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: the status alone takes two octets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the answer to the request at hand, which is the one of old or its repetition from `source`.
    pub fn write(&self, out: &mut Vec<u8>, request: View<'_>, source: Option<SocketAddr>) {
        let packed = &self.0;
        let tag_bytes = u16::from_be_bytes([packed[3], packed[4]]);
        let lines_bytes = u32::from_be_bytes([packed[5], packed[6], packed[7], packed[8]]);
        let (reason, rest) = packed[PREFIX..].split_at(usize::from(packed[2]));
        let (to_tag, rest) = rest.split_at(usize::from(tag_bytes));
        let (lines, body) = rest.split_at(lines_bytes as usize);
        write_reply(out, request, &Parts { status: self.status(), reason, to_tag, lines, body }, source);
    }
}
