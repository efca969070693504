//! A session description (RFC 4566, 8866): read strictly, kept whole.
//!
//! `sdp-types` reads the fields; it forgives what is missing, repeated or out of order, so that is looked for first.

use base::limits::{SDP_BYTES_MAX, SDP_MEDIA_MAX};
use sdp_types::{Media, Session};

use crate::error::SdpError;
use crate::media::Message;

/// The letters in the order of RFC 8866 §5; those that may change places stand in one group.
const SESSION_ORDER: [&[u8]; 12] = [b"v", b"o", b"s", b"i", b"u", b"e", b"p", b"c", b"b", b"trz", b"k", b"a"];
const MEDIA_ORDER: [&[u8]; 6] = [b"m", b"i", b"c", b"b", b"k", b"a"];

/// A description that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    session: Session,
    /// The value of `o=` as it stood: equal means that nothing has changed (RFC 4975 §8.4).
    origin: String,
}

impl Description {
    /// Reads a body of type `application/sdp`. Lines end with CRLF; a lone LF is borne (RFC 8866 §5), and so are empty
    /// lines behind the last.
    pub fn parse(text: &[u8]) -> Result<Self, SdpError> {
        if text.len() > SDP_BYTES_MAX {
            return Err(SdpError::TooLong { max: SDP_BYTES_MAX });
        }
        let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1);
        let text = &text[..end];
        check_lines(text)?;
        let session = Session::parse(text)?;
        if session.medias.len() > SDP_MEDIA_MAX {
            return Err(SdpError::TooManyMedia { max: SDP_MEDIA_MAX });
        }
        // RFC 8866 §5.7: an address for all, or one for each that is in use.
        let has_address = |media: &Media| media.port == 0 || !media.connections.is_empty();
        if session.connection.is_none() && !session.medias.iter().all(has_address) {
            return Err(SdpError::Missing { letter: 'c' });
        }
        let origin = lines(text).find_map(|line| line.strip_prefix(b"o=")).unwrap_or_default();
        Ok(Self { session, origin: String::from_utf8_lossy(origin).into_owned() })
    }

    /// The value of `o=`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the `o=` lines are equal: then nothing at all has changed (RFC 4975 §8.4, RFC 3264 §8).
    pub fn same_version(&self, other: &Description) -> bool {
        self.origin == other.origin
    }

    /// How many media lines there are.
    pub fn media_count(&self) -> usize {
        self.session.medias.len()
    }

    /// The MSRP lines that are in use and complete, with their places.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        (0..self.media_count()).filter_map(|index| self.message_at(index).ok())
    }

    /// The media line at a place, as an MSRP line.
    pub fn message_at(&self, index: usize) -> Result<Message<'_>, SdpError> {
        Message::read(&self.session, index)
    }

    /// The whole description again.
    pub fn to_bytes(&self) -> Vec<u8> {
        written(&self.session)
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}

pub(crate) fn written(session: &Session) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    session.write(&mut out).expect("writing to memory does not fail");
    out
}

/// The lines without their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// RFC 8866 §5: known letters, in their order; `v`, `o`, `s` and `t` must be there.
fn check_lines(text: &[u8]) -> Result<(), SdpError> {
    let (mut order, mut reached, mut is_session) = (&SESSION_ORDER[..], 0, true);
    let mut session_letters = Vec::with_capacity(16);
    for (line, content) in lines(text).enumerate().map(|(at, content)| (at + 1, content)) {
        let [letter, b'=', value @ ..] = content else { return Err(SdpError::Line { line }) };
        if value.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return Err(SdpError::Line { line });
        }
        if *letter == b'm' && line > 1 {
            (order, reached, is_session) = (&MEDIA_ORDER[..], 0, false);
        }
        let Some(place) = order.iter().position(|group| group.contains(letter)) else {
            let is_known = SESSION_ORDER.iter().any(|group| group.contains(letter));
            return Err(if is_known { SdpError::Order { line } } else { SdpError::Line { line } });
        };
        if place < reached {
            return Err(SdpError::Order { line });
        }
        reached = place;
        if is_session {
            session_letters.push(*letter);
        }
        check_numbers(*letter, value).then_some(()).ok_or(SdpError::Number { line })?;
    }
    match b"vost".iter().find(|letter| !session_letters.contains(letter)) {
        Some(letter) => Err(SdpError::Missing { letter: char::from(*letter) }),
        None => Ok(()),
    }
}

/// Numbers are digits alone (RFC 8866 §9): ids and versions, times, ports.
fn check_numbers(letter: u8, value: &[u8]) -> bool {
    let mut words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let is_number = |word: &[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    match letter {
        b'o' => words.skip(1).take(2).all(is_number),
        b't' => words.all(is_number),
        b'm' => {
            let port = words.nth(1).unwrap_or_default();
            port.split(|byte| *byte == b'/').all(is_number)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "v=0\r\no=alice 2890844526 2890844527 IN IP4 alice.example.com\r\ns= -\r\n\
        c=IN IP4 alice.example.com\r\nt=0 0\r\nm=message 7394 TCP/MSRP *\r\na=accept-types:text/plain\r\n\
        a=path:msrp://alice.example.com:7394/2s93i9ek2a;tcp\r\n";

    fn fault(from: &str, to: &str) -> SdpError {
        assert!(GOOD.contains(from), "{from:?}");
        Description::parse(GOOD.replacen(from, to, 1).as_bytes()).expect_err(to)
    }

    #[test]
    fn the_example_of_rfc_4975_figure_7_comes_back_octet_for_octet() {
        let description = Description::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(description.to_bytes()).unwrap(), GOOD);
        assert_eq!(description.origin(), "alice 2890844526 2890844527 IN IP4 alice.example.com");
        assert_eq!((description.media_count(), description.messages().count()), (1, 1));
        let bare = Description::parse(GOOD.replace("\r\n", "\n").as_bytes()).unwrap();
        assert_eq!(bare.to_bytes(), description.to_bytes());
        for end in ["", "\r\n", "\r\n\r\n\n"] {
            let text = GOOD.trim_end().to_owned() + end;
            assert_eq!(Description::parse(text.as_bytes()).unwrap(), description);
        }
    }

    #[test]
    fn lines_that_every_description_has_are_missed() {
        // RFC 8866 §5.
        assert_eq!(
            fault("o=alice 2890844526 2890844527 IN IP4 alice.example.com\r\n", ""),
            SdpError::Missing { letter: 'o' }
        );
        assert_eq!(fault("s= -\r\n", ""), SdpError::Missing { letter: 's' });
        assert_eq!(fault("t=0 0\r\n", ""), SdpError::Missing { letter: 't' });
        assert_eq!(fault("c=IN IP4 alice.example.com\r\n", ""), SdpError::Missing { letter: 'c' });
        assert_eq!(fault("v=0\r\n", ""), SdpError::Missing { letter: 'v' });
    }

    #[test]
    fn order_letters_and_numbers_are_held_to() {
        // RFC 8866 §5, §9.
        assert_eq!(fault("s= -\r\n", "t=0 0\r\ns= -\r\n"), SdpError::Order { line: 4 });
        assert_eq!(fault("t=0 0\r\n", "t=0 0\r\nx=1\r\n"), SdpError::Line { line: 6 });
        assert_eq!(fault("a=accept", "t=0 0\r\na=accept"), SdpError::Order { line: 7 });
        assert_eq!(fault("t=0 0\r\n", "t=0 0\r\n\r\n"), SdpError::Line { line: 6 });
        assert_eq!(fault("s= -", "s=\0"), SdpError::Line { line: 3 });
        assert_eq!(fault("s= -", "s=a\rb"), SdpError::Line { line: 3 });
        assert_eq!(fault("2890844527", "+1"), SdpError::Number { line: 2 });
        assert_eq!(fault("2890844526", "x"), SdpError::Number { line: 2 });
        assert_eq!(fault("t=0 0", "t=0 x"), SdpError::Number { line: 5 });
        assert_eq!(fault("7394 TCP", "+9 TCP"), SdpError::Number { line: 6 });
        for (from, to) in [("7394 TCP", "70000 TCP"), ("v=0", "v=1"), ("IN IP4 alice.example.com\r\ns", "IN\r\ns")] {
            assert!(matches!(fault(from, to), SdpError::Field(_)), "{to}");
        }
        assert!(matches!(fault("s= -\r\n", "s= -\r\ns=2\r\n"), SdpError::Field(_)));
    }

    #[test]
    fn too_much_is_refused_by_name() {
        let long = GOOD.replace("s= -", &format!("s={}", "x".repeat(SDP_BYTES_MAX)));
        assert_eq!(Description::parse(long.as_bytes()), Err(SdpError::TooLong { max: SDP_BYTES_MAX }));
        let many = format!("{GOOD}{}", "m=audio 9 RTP/AVP 0\r\n".repeat(SDP_MEDIA_MAX));
        assert_eq!(Description::parse(many.as_bytes()), Err(SdpError::TooManyMedia { max: SDP_MEDIA_MAX }));
        assert_eq!(Description::parse(b""), Err(SdpError::Line { line: 1 }));
    }

    #[test]
    fn each_fault_has_a_status() {
        assert_eq!(SdpError::TooLong { max: 1 }.status().0, 413);
        assert_eq!(SdpError::Line { line: 1 }.status().0, 400);
        assert_eq!(SdpError::NoMessage.status().0, 488);
    }
}
