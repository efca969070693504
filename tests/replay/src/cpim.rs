//! message/cpim: reading ends, what it says lies within what came, and what we write is read as it was meant.

use body::cpim::{Cpim, Writer, unescape};

/// The target.
///
/// # Panics
/// When a promise is broken.
pub fn run(bytes: &[u8]) {
    if let Ok(message) = Cpim::parse(bytes) {
        look_everywhere(&message);
        assert!(bytes.ends_with(message.content()), "the content is the end of what came");
    }
    let text = String::from_utf8_lossy(bytes);
    let (subject, content) = text.split_once("\n\n").unwrap_or((&text, ""));
    written(subject, content.as_bytes());
}

fn look_everywhere(message: &Cpim<'_>) {
    let _ = (message.from(), message.to().count(), message.date_unix_ms(), message.unknown_requirement(&[]));
    let _ = (message.imdn("Message-ID"), message.content_head(), message.content_type(), message.content_header("a"));
    for header in message.headers() {
        let _ = (header.language(), header.is("", "Subject"));
    }
    if let Some(asked) = body::Asked::of(message) {
        assert!(!asked.message_id.is_empty(), "who wants to hear has an id: {asked:?}");
    }
    let _ = body::imdn::is_notice(message);
}

fn written(subject: &str, content: &[u8]) {
    let bytes = Writer::new()
        .address("From", subject, &format!("im:{subject}"))
        .address("To", "", "im:bob@example.com")
        .text("Subject", subject)
        .content(&[("Content-Type", "text/plain")], content);
    let message = Cpim::parse(&bytes).unwrap_or_else(|fault| panic!("{fault}: {:?}", String::from_utf8_lossy(&bytes)));
    assert_eq!(message.content(), content);
    let read = message.core("Subject").map(|value| unescape(value).into_owned()).unwrap_or_default();
    // White space at the ends of a line means nothing, and is not kept.
    assert_eq!(read.trim(), subject.trim());
    let to: Vec<_> = message.to().map(|address| address.uri.to_owned()).collect();
    assert_eq!(to, ["im:bob@example.com"]);
}

#[cfg(test)]
mod tests {
    use crate::corpus;

    #[test]
    fn the_corpus_breaks_no_promise() {
        corpus::replay(&corpus::of("cpim"), super::run);
    }
}
