//! A stream: it reads the same however the wire cuts it, and each message reads as a datagram would.

use sip::{Layout, Progress, Step};

/// What stands in a stream, in order. A fault ends it and is not told: whether a head that is not whole is already seen
/// to be faulty depends on how it was cut, but what comes before it does not, and nothing comes behind it.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Ping,
    Message(Vec<u8>),
}

/// The target. The first octet chooses how the rest is cut.
///
/// # Panics
/// When a promise is broken.
pub fn run(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    let piece = usize::from(*how) % 64 + 1;
    let whole = heard(bytes, bytes.len().max(1));
    assert_eq!(whole, heard(bytes, piece), "cut into pieces of {piece}");
    for event in &whole {
        let Event::Message(message) = event else { continue };
        let mut layout = Layout::default();
        let outcome = sip::parse_datagram(message, &mut layout);
        assert!(outcome.is_ok(), "a stream takes it and a datagram does not: {outcome:?}");
        crate::sip_datagram::run(message);
    }
}

fn heard(bytes: &[u8], piece: usize) -> Vec<Event> {
    let (mut events, mut layout, mut progress) = (Vec::new(), Layout::default(), Progress::default());
    let (mut start, mut end) = (0, 0);
    loop {
        match sip::parse_stream(&bytes[start..end], &mut progress, &mut layout) {
            Ok(Step::More) if end == bytes.len() => return events,
            Ok(Step::More) => end = (end + piece).min(bytes.len()),
            Ok(Step::Ping { used }) => {
                events.push(Event::Ping);
                start += advanced(used);
            }
            Ok(Step::Skip { used }) => start += advanced(used),
            Ok(Step::Message { used }) => {
                events.push(Event::Message(bytes[start..start + used].to_vec()));
                start += advanced(used);
            }
            Err(fault) => {
                let _ = fault.status();
                return events;
            }
        }
    }
}

fn advanced(used: usize) -> usize {
    assert!(used > 0, "a step that takes nothing never ends");
    used
}

#[cfg(test)]
mod tests {
    use crate::corpus;

    #[test]
    fn the_corpus_breaks_no_promise() {
        corpus::replay(&corpus::of("sip_stream"), super::run);
    }

    #[test]
    fn the_torture_messages_break_no_promise() {
        let cut = |how: u8| {
            support::torture::all().into_iter().map(move |(name, bytes)| (name, [&[how], &bytes[..]].concat()))
        };
        corpus::replay(&cut(0).chain(cut(40)).collect::<Vec<_>>(), super::run);
    }
}
