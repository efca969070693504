//! What comes in: chunks become messages, and their sender hears what is owed (RFC 4975 §7.1.2, §7.1.4, §7.3).

use std::time::Instant;

use bytes::Bytes;
use msrp::{ByteRange, FailureReport, Flag, Head, Method, Report, Tid, Uri, Whole, answer_wished, report, response};

use super::{Message, Talk};

/// The request that is coming in.
pub(super) struct Chunk {
    tid: Tid,
    /// Where its response goes.
    back: Vec<u8>,
    wish: FailureReport,
    /// What is to be answered, as far as is known.
    verdict: u16,
}

impl Talk<'_> {
    pub(super) fn request(&mut self, head: Head<'_>, now: Instant) {
        let is_send = head.method() == Some(Method::Send);
        let mut verdict = self.verdict(head);
        if verdict == 200 && is_send {
            // RFC 4975 §5.4: the first request names the session; from then on we may send too.
            self.outbox.bind();
            if let Err(error) = self.reassembly.head(head, now) {
                verdict = error.status();
            }
        }
        // RFC 4975 §7.2: the response to a SEND goes to the first URI, to others back the whole way.
        let back = if is_send { head.from_first() } else { head.from_path() };
        self.chunk = Some(Chunk { tid: head.tid_owned(), back: back.to_vec(), wish: head.failure_report(), verdict });
    }

    fn verdict(&self, head: Head<'_>) -> u16 {
        if head.fault().is_some() {
            return 400;
        }
        if head.method() != Some(Method::Send) {
            return 501;
        }
        let ours = Uri::parse(&self.terms.ours);
        if !matches!((head.to_uri(), ours), (Ok(to), Ok(ours)) if to.same_as(&ours)) {
            return 481;
        }
        let kind = head.content_type().filter(|_| head.has_body());
        if kind.is_some_and(|kind| !takes(&self.terms.accept_types, kind)) {
            return 415;
        }
        200
    }

    pub(super) fn body(&mut self, piece: &[u8]) {
        if let Some(chunk) = self.chunk.as_mut().filter(|chunk| chunk.verdict == 200)
            && let Err(error) = self.reassembly.body(piece)
        {
            chunk.verdict = error.status();
        }
    }

    pub(super) fn end(&mut self, flag: Flag, now: Instant) {
        // None: it was a response or a REPORT.
        let Some(mut chunk) = self.chunk.take() else { return };
        let mut whole = None;
        if chunk.verdict == 200 {
            match self.reassembly.end(flag, now) {
                Ok(done) => whole = done,
                Err(error) => chunk.verdict = error.status(),
            }
        }
        if let Some(status) = answer_wished(chunk.wish, chunk.verdict) {
            self.write(|talk, out| response(out, chunk.tid.as_bytes(), status, &chunk.back, &talk.terms.ours));
        }
        if let Some(whole) = whole {
            self.hand_on(whole);
        }
    }

    fn hand_on(&mut self, whole: Whole) {
        let Whole { message_id, content_type, from_path, body, success_report, .. } = whole;
        if success_report {
            let octets = body.len() as u64;
            self.write(|talk, out| {
                let told = Report {
                    tid: &talk.tids.next(),
                    to_path: &from_path,
                    from_path: &talk.terms.ours,
                    message_id: &message_id,
                    byte_range: ByteRange::of(1, octets, octets),
                    status: 200,
                };
                report(out, &told);
            });
        }
        let content_type = String::from_utf8_lossy(&content_type).into_owned();
        self.whole.push(Message { content_type, body: Bytes::from(body) });
    }
}

/// Whether a list of types takes this one: `*`, `type/*` or the type itself, parameters aside (RFC 4975 §8.6).
pub(crate) fn takes(list: &[String], kind: &[u8]) -> bool {
    let bare = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    // RFC 4975 §8.6: containers are taken by everybody.
    let container =
        [&b"multipart/mixed"[..], b"multipart/alternative"].iter().any(|each| bare.eq_ignore_ascii_case(each));
    container
        || list.iter().any(|one| match one.strip_suffix('*') {
            Some(start) => bare.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes())),
            None => bare.eq_ignore_ascii_case(one.as_bytes()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_types_takes_what_it_names() {
        // RFC 4975 §8.6
        for (list, kind, is_taken) in [
            ("*", "image/png", true),
            ("text/*", "Text/HTML", true),
            ("text/plain image/*", "text/plain;charset=utf-8", true),
            ("text/plain image/*", "text/html", false),
            ("text/plain", "multipart/mixed;boundary=x", true),
            ("message/cpim", "text/plain", false),
            ("", "text/plain", false),
        ] {
            let types: Vec<String> = list.split_ascii_whitespace().map(str::to_owned).collect();
            assert_eq!(takes(&types, kind.as_bytes()), is_taken, "{list} {kind}");
        }
    }
}
