//! Descriptions of sessions: reading ends, and what the server writes of them is read again as it was meant.

use base::limits::SDP_BYTES_MAX;
use sdp::{Answer, Content, Description, Offer, Origin, Ours, SdpError, Setup};

const OURS: Ours<'static> = Ours {
    origin: Origin { id: 7, version: 3 },
    host: "192.0.2.1",
    port: 2_855,
    path: "msrp://192.0.2.1:2855/s1;tcp",
    is_tls: false,
    setup: Setup::ActPass,
};

/// The target: an offer, and behind a NUL the answer to it.
///
/// # Panics
/// When a promise is broken.
pub fn run(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let (offer, answer) = (parts.next().unwrap_or_default(), parts.next());
    for text in [offer, answer.unwrap_or(offer)] {
        if let Ok(read) = Description::parse(text) {
            whole(&read);
        }
    }
    let answer = Answer::read(answer.unwrap_or(offer));
    if let Err(fault) = &answer {
        refused(fault);
    }
    match Offer::read(offer) {
        Err(fault) => refused(&fault),
        Ok(offer) => {
            rewritten(&offer);
            if let Ok(answer) = &answer {
                answered(&offer, &offer.answer(answer, &Ours { setup: Setup::Active, ..OURS }));
            }
        }
    }
}

/// What was read is written and read again: the same.
fn whole(read: &Description) {
    let _ = (read.origin(), read.media_count());
    for message in read.messages() {
        let _ = (message.setup(), message.direction(), message.has_cema(), message.chatroom(), message.file_selector());
        let _ = (message.accept_types().iter().count(), message.accept_types().accepts("text/plain"));
        let _ =
            (message.accept_wrapped_types().iter().count(), message.max_size(), message.address(), message.is_tls());
        // Whether it is a path of MSRP URIs is asked where it is programmed into the switch.
        assert!(!message.path().is_empty(), "a line that is taken has a path");
    }
    if let Some(again) = parsed(&read.to_bytes()) {
        assert_eq!((again.media_count(), again.messages().count()), (read.media_count(), read.messages().count()));
    }
}

fn rewritten(offer: &Offer) {
    assert!(offer.is_unchanged_from(offer) && offer.keeps_path_of(offer));
    let _ = (sdp::role_to_answer(offer.setup(), true), sdp::role_from_answer(offer.setup()));
    let written = offer.for_peer(&OURS);
    if parsed(&written).is_some() {
        let theirs = Offer::read(&written).unwrap_or_else(|fault| panic!("{fault}: {}", shown(&written)));
        ours(theirs.message(), Setup::ActPass);
        assert_eq!(theirs.description().media_count(), 1, "the peer sees the line that is taken");
        let types = |offer: &Offer| offer.message().accept_types().iter().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(types(&theirs), types(offer));
        assert_eq!(theirs.message().max_size(), offer.message().max_size());
    }
    let content = Content {
        accept_types: "message/cpim text/plain",
        accept_wrapped_types: "*",
        max_size: Some(9),
        attributes: &["chatroom"],
    };
    answered(offer, &offer.own_answer(&Ours { setup: Setup::Active, ..OURS }, &content));
}

/// An answer of ours: as many lines as were offered, one of them in use, with our path in it.
fn answered(offer: &Offer, written: &[u8]) {
    let Some(read) = parsed(written) else { return };
    assert_eq!(read.media_count(), offer.description().media_count(), "{}", shown(written));
    let lines: Vec<_> = read.messages().collect();
    assert_eq!(lines.len(), 1, "{}", shown(written));
    ours(lines[0], Setup::Active);
}

fn ours(message: sdp::Message<'_>, setup: Setup) {
    assert_eq!((message.path(), message.port(), message.setup()), (OURS.path, OURS.port, Some(setup)));
    assert_eq!(message.address(), Some(OURS.host));
}

/// What we wrote must be readable, or be too large for anybody.
fn parsed(written: &[u8]) -> Option<Description> {
    match Description::parse(written) {
        Ok(read) => Some(read),
        Err(SdpError::TooLong { .. }) if written.len() > SDP_BYTES_MAX => None,
        Err(fault) => panic!("we wrote what cannot be read ({fault}): {}", shown(written)),
    }
}

fn refused(fault: &SdpError) {
    let (status, reason) = fault.status();
    assert!(matches!(status, 400 | 413 | 488) && !reason.is_empty(), "{fault}: {status}");
}

fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use crate::corpus;

    #[test]
    fn the_corpus_breaks_no_promise() {
        corpus::replay(&corpus::of("sdp"), super::run);
    }
}
