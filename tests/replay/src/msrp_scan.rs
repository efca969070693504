//! MSRP framing: a stream says the same however the wire cuts it, little is held back, and a guarded id never ends a body.

use base::limits::{MSRP_HEAD_BYTES_MAX, MSRP_HELD_BACK_BYTES_MAX};
use msrp::{Flag, Scanner, Step, Tid};

/// The ids that chunks would go out under: the first is guarded at each head, the next after each clash.
const OURS: [&str; 3] = ["ours1111", "ours2222", "ours3333"];

/// One frame: its head, its body, and how it ends; nothing: it has not ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frame {
    head: Vec<u8>,
    body: Vec<u8>,
    end: Option<u8>,
}

/// The target. The first octet chooses how the rest is cut, and whether ids of ours are guarded.
///
/// # Panics
/// When a promise is broken.
pub fn run(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    let (piece, is_guarded) = (usize::from(*how) % 64 + 1, *how >= 128);
    let (whole, whole_is_lost) = heard(bytes, bytes.len().max(1), is_guarded);
    let (cut, cut_is_lost) = heard(bytes, piece, is_guarded);
    assert_eq!(whole_is_lost, cut_is_lost, "whether framing is lost, cut into pieces of {piece}");
    assert_eq!(whole, cut, "cut into pieces of {piece}");
    let (plain, _) = heard(bytes, piece, false);
    // A guarded id may hold back what stands at the end, and changes nothing else.
    let ended = |frames: &[Frame]| frames.iter().take_while(|frame| frame.end.is_some()).count();
    assert_eq!(whole[..ended(&whole)], plain[..ended(&plain)], "with and without a guard");
}

/// What stands in a stream, and whether it ends because its framing is lost. Then a frame that has not ended is not told:
/// how much of its body came out before depends on the cuts.
fn heard(bytes: &[u8], piece: usize, is_guarded: bool) -> (Vec<Frame>, bool) {
    let (mut scanner, mut frames) = (Scanner::default(), Vec::<Frame>::new());
    let (mut start, mut end, mut ours, mut part) = (0, 0, 0, Vec::new());
    loop {
        let given = &bytes[start..end];
        let Ok(step) = scanner.scan(given) else {
            frames.pop_if(|frame| frame.end.is_none());
            return (frames, true);
        };
        match step {
            Step::More => {
                let most = if scanner.is_within_chunk() { MSRP_HELD_BACK_BYTES_MAX } else { MSRP_HEAD_BYTES_MAX - 1 };
                assert!(given.len() <= most, "{} octets are held back", given.len());
                if end == bytes.len() {
                    return (frames, false);
                }
                end = (end + piece).min(bytes.len());
            }
            Step::Head(spans) => {
                let head = spans.view(given);
                assert!(spans.used() > 0 && spans.used() <= MSRP_HEAD_BYTES_MAX);
                look_everywhere(head);
                assert_eq!(scanner.open_tid().map(Tid::as_bytes), Some(head.tid()));
                frames.push(Frame { head: given[..spans.used()].to_vec(), ..Frame::default() });
                start += spans.used();
                (ours, part) = (0, Vec::new());
                guard(&mut scanner, ours, is_guarded);
            }
            Step::Body { used } => {
                assert!(used > 0, "a step that takes nothing never ends");
                part.extend_from_slice(&given[..used]);
                if is_guarded {
                    assert!(!ends(&part, OURS[ours % OURS.len()]), "a body ends the chunk that goes out");
                }
                if let Some(frame) = frames.last_mut() {
                    frame.body.extend_from_slice(&given[..used]);
                }
                start += used;
            }
            Step::Clash => {
                assert!(is_guarded, "without a guard nothing clashes");
                ours += 1;
                part.clear();
                guard(&mut scanner, ours, is_guarded);
            }
            Step::End { used, flag } => {
                assert!(used > 0, "a step that takes nothing never ends");
                if let Some(frame) = frames.last_mut() {
                    frame.end = Some(flag.octet());
                }
                assert!(matches!(flag, Flag::Complete | Flag::More | Flag::Aborted) && !scanner.is_within_chunk());
                start += used;
            }
        }
    }
}

fn guard(scanner: &mut Scanner, ours: usize, is_guarded: bool) {
    let tid = Tid::parse(OURS[ours % OURS.len()].as_bytes());
    if let Some(tid) = tid.filter(|_| is_guarded) {
        scanner.guard(&tid);
    }
}

/// Whether an end-line of this id stands in what left as body, at its start or behind a CRLF.
fn ends(part: &[u8], id: &str) -> bool {
    [b'$', b'+', b'#'].iter().any(|flag| {
        let line = [b"-------", id.as_bytes(), &[*flag], b"\r\n"].concat();
        let inner = [b"\r\n", &line[..]].concat();
        part.starts_with(&line) || part.windows(inner.len()).any(|window| window == inner)
    })
}

/// Asks for everything that can be asked for.
fn look_everywhere(head: msrp::Head<'_>) {
    let _ = (head.kind(), head.method(), head.status(), head.method_text(), head.comment(), head.tid_owned());
    let _ = (head.message_id(), head.byte_range(), head.range(), head.success_report(), head.failure_report());
    let _ = (head.report_status(), head.content_type(), head.kept(), head.header("Use-Nickname"), head.fault());
    for uri in [head.to_uri(), head.from_uri()].into_iter().flatten() {
        let _ = (uri.addr(), uri.is_secure());
        assert!(uri.same_as(&uri), "{uri:?}");
    }
    for path in [head.to_path(), head.from_path()] {
        if let Ok(path) = msrp::Path::parse(path) {
            assert!(path.same_as(&path) && path.uris().count() >= 1);
        }
    }
    assert!(head.headers().count() <= head.bytes().len());
}

#[cfg(test)]
mod tests {
    use crate::corpus;

    #[test]
    fn the_corpus_breaks_no_promise() {
        corpus::replay(&corpus::of("msrp_scan"), super::run);
    }
}
