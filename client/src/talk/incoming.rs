//! What comes in: chunks become messages, and their sender hears what is owed (RFC 4975 §7.1.2, §7.1.4, §7.3).

use std::time::Instant;

use bytes::Bytes;
use msrp::{ByteRange, FailureReport, Flag, Head, Method, Report, Tid, Uri, Whole, answer_wished, report, response};

use super::{Line, Message, Talk};
use crate::files::{Filed, NOT_KEPT, ReceivedFile};

/// The request that is coming in.
pub(super) struct Chunk {
    tid: Tid,
    /// Where its response goes.
    back: Vec<u8>,
    wish: FailureReport,
    /// What is to be answered, as far as is known.
    verdict: u16,
    message_id: Vec<u8>,
    /// The file that its message goes into.
    file: Option<u64>,
}

impl Talk<'_> {
    pub(super) fn request(&mut self, head: Head<'_>, now: Instant) {
        let is_send = head.method() == Some(Method::Send);
        let (mut verdict, mut file) = (self.verdict(head), None);
        if verdict == 200 && is_send {
            // RFC 4975 §5.4: the first request names the session; from then on we may send too.
            self.line.outbox.bind();
            match self.line.begin(head, now) {
                Ok(begun) => file = begun,
                Err(status) => verdict = status,
            }
        }
        // RFC 4975 §7.2: the response to a SEND goes to the first URI, to others back the whole way.
        let back = if is_send { head.from_first() } else { head.from_path() }.to_vec();
        let message_id = head.message_id().unwrap_or_default().to_vec();
        self.chunk =
            Some(Chunk { tid: head.tid_owned(), back, wish: head.failure_report(), verdict, message_id, file });
    }

    fn verdict(&self, head: Head<'_>) -> u16 {
        if head.fault().is_some() {
            return 400;
        }
        if head.method() != Some(Method::Send) {
            return 501;
        }
        let terms = &self.line.terms;
        let ours = Uri::parse(&terms.ours);
        if !matches!((head.to_uri(), ours), (Ok(to), Ok(ours)) if to.same_as(&ours)) {
            return 481;
        }
        let kind = head.content_type().filter(|_| head.has_body());
        if kind.is_some_and(|kind| !takes(&terms.accept_types, kind)) {
            return 415;
        }
        200
    }

    pub(super) fn body(&mut self, piece: &[u8]) {
        let line = &mut *self.line;
        let Some(chunk) = self.chunk.as_mut().filter(|chunk| chunk.verdict == 200) else { return };
        let at = line.reassembly.elsewhere();
        if let Err(error) = line.reassembly.body(piece) {
            chunk.verdict = error.status();
            line.files.forget(&chunk.message_id);
        } else if let (Some(file), Some(at)) = (chunk.file, at) {
            line.files.write(file, at, piece);
        }
    }

    pub(super) fn end(&mut self, flag: Flag, now: Instant) {
        // None: it was a response or a REPORT.
        let Some(mut chunk) = self.chunk.take() else { return };
        let line = &mut *self.line;
        let mut whole = None;
        if chunk.file.is_some() && line.files.is_broken(&chunk.message_id) {
            line.reassembly.give_up(&chunk.message_id);
            chunk.verdict = NOT_KEPT;
        }
        if chunk.verdict == 200 {
            match line.reassembly.end(flag, now) {
                Ok(done) => whole = done,
                Err(error) => chunk.verdict = error.status(),
            }
        }
        if flag == Flag::Aborted || chunk.verdict != 200 {
            line.files.forget(&chunk.message_id);
        }
        if let Some(status) = answer_wished(chunk.wish, chunk.verdict) {
            self.write(|talk, out| response(out, chunk.tid.as_bytes(), status, &chunk.back, &talk.line.terms.ours));
        }
        match (whole, chunk.file) {
            // Its sender hears of it, and who reads too, when it is on the disk.
            (Some(whole), Some(file)) => self.line.files.finish(file, whole),
            (Some(whole), None) => self.hand_on(whole, None),
            (None, _) => {}
        }
    }

    /// The disk has spoken.
    pub(super) fn filed(&mut self, filed: Filed) {
        match filed {
            Filed::There(whole, file) => self.hand_on(*whole, Some(file)),
            // RFC 4975 §7.1.2: what failed after its 200 is reported.
            Filed::Lost(whole) if whole.failure_report != FailureReport::No => self.report(&whole, NOT_KEPT),
            Filed::Lost(_) | Filed::Broken => {}
        }
    }

    fn hand_on(&mut self, whole: Whole, file: Option<ReceivedFile>) {
        if whole.success_report {
            self.report(&whole, 200);
        }
        if self.line.has_heard(&whole.message_id) {
            // RFC 4975 §5.4: its sender was not sure, and is told; who reads has it.
            return drop(file.map(|file| std::fs::remove_file(file.path)));
        }
        self.line.whole.push_back(message(whole, file));
    }

    fn report(&mut self, whole: &Whole, status: u16) {
        self.write(|talk, out| {
            let told = Report {
                tid: &talk.tids.next(),
                to_path: &whole.from_path,
                from_path: &talk.line.terms.ours,
                message_id: &whole.message_id,
                byte_range: ByteRange::of(1, whole.octets, whole.octets),
                status,
            };
            report(out, &told);
        });
    }
}

impl Line {
    /// A chunk begins: the file that its message goes into, if it goes into one.
    fn begin(&mut self, head: Head<'_>, now: Instant) -> Result<Option<u64>, u16> {
        let taken = if self.files.takes(head) {
            self.reassembly.head_elsewhere(head, now)
        } else {
            self.reassembly.head(head, now)
        };
        let id = head.message_id().unwrap_or_default();
        if let Err(error) = taken {
            self.files.forget(id);
            return Err(error.status());
        }
        if self.reassembly.elsewhere().is_none() {
            return Ok(None);
        }
        if self.files.is_broken(id) {
            self.reassembly.give_up(id);
            return Err(NOT_KEPT);
        }
        Ok(Some(self.files.begin(id, head)))
    }
}

/// What has come whole, as who reads gets it.
pub(super) fn message(whole: Whole, file: Option<ReceivedFile>) -> Message {
    let content_type = String::from_utf8_lossy(&whole.content_type).into_owned();
    Message { content_type, body: Bytes::from(whole.body), file }
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
