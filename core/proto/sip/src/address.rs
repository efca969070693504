//! From, To, Contact, Route and their like: `"Name" <uri>;params` (RFC 3261 §20.10, §25.1 `name-addr`), and CSeq.

use base::scan::{commas, decimal, is_token};

use crate::error::UriError;
use crate::headers::Name;
use crate::message::View;
use crate::method::Method;
use crate::params::{Params, skip_quoted, skip_space, skip_while};
use crate::uri::Uri;

/// A URI with a name for people in front and parameters behind, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name as written, quotes and escapes kept; may be empty.
    pub display: &'a [u8],
    /// The URI without angle brackets.
    pub uri: &'a [u8],
    /// The header's parameters, never the URI's (RFC 4475 §3.3.12, §3.3.13).
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// From one value. Refused: open quotes and brackets (RFC 4475 §3.1.2.6), white space within the URI (§3.1.2.14),
    /// a display name that needs quotes and has none (§3.1.2.15), `?` or a comma in a URI without brackets (§3.1.2.13;
    /// RFC 3261 §20), a URI without a scheme.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = base::scan::trim(text);
        let name_end = match text.first()? {
            b'"' => skip_quoted(text, 0)?,
            _ => skip_while(text, 0, |byte| is_display(byte) || matches!(byte, b' ' | b'\t' | b'\r' | b'\n')),
        };
        let open = skip_space(text, name_end);
        if text.get(open) == Some(&b'<') {
            let close = open + memchr::memchr(b'>', &text[open..])?;
            let uri = &text[open + 1..close];
            let params = Params::parse(&text[close + 1..])?;
            return has_scheme(uri).then(|| Self { display: base::scan::trim(&text[..name_end]), uri, params });
        }
        // RFC 3261 §20: without brackets, what follows a semicolon is the header's, not the URI's.
        let end = skip_while(text, 0, |byte| !matches!(byte, b';' | b' ' | b'\t' | b'\r' | b'\n'));
        let uri = &text[..end];
        if uri.iter().any(|byte| matches!(byte, b'?' | b',')) || !has_scheme(uri) {
            return None;
        }
        Some(Self { display: &[], uri, params: Params::parse(&text[end..])? })
    }

    /// The dialog's end (RFC 3261 §19.3).
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }

    /// The value of a parameter, without its quotes; empty for a flag.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params.get(name)
    }

    /// `q` in thousandths, 0 to 1000 (RFC 3261 §25.1 `qvalue`); nothing when it is not there or no such number.
    pub fn q(&self) -> Option<u16> {
        let text = self.params.get("q")?;
        let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
            Some(dot) => (&text[..dot], &text[dot + 1..]),
            None => (text, &[][..]),
        };
        if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let thousandths =
            fraction.iter().chain(b"000").take(3).fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        match (whole, thousandths) {
            (b"0", _) => Some(thousandths),
            (b"1", 0) => Some(1000),
            _ => None,
        }
    }

    /// `expires` in seconds; a value that is no number or does not fit counts as absent (RFC 3261 §10.2.1.1, RFC 4475
    /// §3.1.2.4).
    pub fn expires(&self) -> Option<u32> {
        u32::try_from(decimal(self.params.get("expires")?)?).ok()
    }

    /// The URI, read.
    pub fn parsed_uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri)
    }
}

/// Tokens make a display name without quotes; octets above ASCII are let pass, since so many write their names so.
fn is_display(byte: u8) -> bool {
    is_token(byte) || byte >= 0x80
}

/// RFC 3261 §25.1 `absoluteURI`: a scheme, a colon, something; nothing blank in it.
fn has_scheme(uri: &[u8]) -> bool {
    let scheme = skip_while(uri, 0, |byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    uri.first().is_some_and(u8::is_ascii_alphabetic)
        && uri.get(scheme) == Some(&b':')
        && uri.len() > scheme + 1
        && uri.iter().all(|byte| *byte > b' ' && !matches!(byte, 0x7f | b'<' | b'"'))
}

/// What a Contact says (RFC 3261 §20.10).
#[derive(Debug, Clone, Copy)]
pub enum Contacts<'a> {
    /// `*`: all of them (only with Expires: 0; RFC 3261 §10.2.2).
    Star,
    /// None, one or several, each readable.
    List(ContactList<'a>),
}

/// Contacts that have been read once, so that reading them again cannot fail.
#[derive(Debug, Clone, Copy)]
pub struct ContactList<'a> {
    view: View<'a>,
}

impl<'a> ContactList<'a> {
    /// In the order in which they stand.
    pub fn iter(self) -> impl Iterator<Item = NameAddr<'a>> {
        self.view.values(Name::Contact).filter_map(NameAddr::parse)
    }

    /// How many.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Whether there is none, as in a REGISTER that only asks.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> Contacts<'a> {
    /// Nothing when one is malformed, or when `*` has company.
    pub(crate) fn read(view: View<'a>) -> Option<Self> {
        let (mut stars, mut others) = (0, 0);
        for field in view.fields().iter().filter(|field| field.name == Name::Contact) {
            let value = field.value.of(view.bytes);
            // RFC 4475 §3.1.2.1: an open quote or an empty value makes the whole field unreadable.
            let mut pieces = 0;
            for piece in commas(value) {
                pieces += 1;
                if piece == b"*" {
                    stars += 1;
                } else {
                    NameAddr::parse(piece)?;
                    others += 1;
                }
            }
            if pieces == 0 {
                return None;
            }
        }
        match (stars, others) {
            (0, _) => Some(Self::List(ContactList { view })),
            (1, 0) => Some(Self::Star),
            _ => None,
        }
    }
}

/// `CSeq: 4711 INVITE` (RFC 3261 §20.16), borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31 in a good request (RFC 3261 §8.1.1.5; [`View::check_request`] sees to it).
    pub number: u32,
    /// The method that is known by this text.
    pub method: Method,
    /// The text.
    pub method_text: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// From the field's value; leading zeros and folds are allowed (RFC 4475 §3.1.1.1).
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let digits = skip_while(value, 0, |byte| byte.is_ascii_digit());
        let start = skip_space(value, digits);
        let method_text = &value[start..];
        if start == digits || method_text.is_empty() || !method_text.iter().all(|byte| is_token(*byte)) {
            return None;
        }
        let number = u32::try_from(decimal(&value[..digits])?).ok()?;
        Some(Self { number, method: Method::from_bytes(method_text), method_text })
    }
}

/// RFC 3261 §25.1 `callid`: words with perhaps one `@`; whatever it is, nothing blank or cut by commas.
pub(crate) fn is_call_id(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String, String)> {
        let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let parsed = NameAddr::parse(text.as_bytes())?;
        Some((text_of(parsed.display), text_of(parsed.uri), text_of(parsed.params.as_bytes())))
    }

    #[test]
    fn names_uris_and_parameters_come_apart() {
        for (text, display, uri, params) in [
            ("sip:a@b", "", "sip:a@b", ""),
            ("sip:a@b;tag=1", "", "sip:a@b", ";tag=1"),
            ("<sip:a@b;lr>;tag=1", "", "sip:a@b;lr", ";tag=1"),
            ("A. Bell <sip:a@b>", "A. Bell", "sip:a@b", ""),
            ("caller<sip:a@b>;tag=323", "caller", "sip:a@b", ";tag=323"),
            ("\"Watson, <T>\" <sip:a@b>", "\"Watson, <T>\"", "sip:a@b", ""),
            ("\"J \\\\\\\"\"  \t<sip:a@b>\r\n ;\r\n tag = 9", "\"J \\\\\\\"\"", "sip:a@b", "\r\n ;\r\n tag = 9"),
            ("Jürgen <tel:+49>", "Jürgen", "tel:+49", ""),
            ("isbn:2983792873", "", "isbn:2983792873", ""),
            ("<sip:a@b?Route=%3Csip:c%3E>", "", "sip:a@b?Route=%3Csip:c%3E", ""),
        ] {
            assert_eq!(read(text), Some((display.into(), uri.into(), params.into())), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "\"Mr. J. User <sip:j.user@example.com>",
            "<sip:a@b",
            "Bell, Alexander <sip:a@b>",
            "\"W\" < sip:a@b >",
            "sip:a@b?Route=%3Csip:c%3E",
            "sip:a@b,c",
            "a@b",
            "<>",
            "<sip:>",
            "sip:a b",
            "<sip:a@b>x",
            "\"Joe\" <sip:a@b>;;;;",
            "\"Joe\"",
            "\"Joe\" sip:a@b",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn q_is_read_in_thousandths() {
        for (text, q) in [
            ("0.33", Some(330)),
            ("1", Some(1000)),
            ("1.000", Some(1000)),
            ("0", Some(0)),
            ("0.", Some(0)),
            ("0.001", Some(1)),
        ] {
            assert_eq!(NameAddr::parse(format!("<sip:a@b>;q={text}").as_bytes()).unwrap().q(), q, "{text}");
        }
        for text in ["1.1", "2", "0.1234", ".5", "", "-1", "0.x"] {
            assert_eq!(NameAddr::parse(format!("<sip:a@b>;q={text}").as_bytes()).unwrap().q(), None, "{text}");
        }
    }

    #[test]
    fn expiry_that_does_not_fit_counts_as_absent() {
        // RFC 4475 §3.1.2.4
        assert_eq!(NameAddr::parse(b"<sip:a@b>;expires=280297596632815").unwrap().expires(), None);
        assert_eq!(NameAddr::parse(b"<sip:a@b>;expires=4294967295").unwrap().expires(), Some(u32::MAX));
    }

    #[test]
    fn cseq_is_a_number_and_a_method() {
        let cseq = CSeq::parse(b"0009\r\n  INVITE").unwrap();
        assert_eq!((cseq.number, cseq.method, cseq.method_text), (9, Method::Invite, &b"INVITE"[..]));
        assert_eq!(CSeq::parse(b"4294967295 X").unwrap().number, u32::MAX);
        for text in [
            "",
            "1",
            "INVITE",
            "1INVITE",
            "4294967296 INVITE",
            "36893488147419103232 REGISTER",
            "-1 A",
            "1 A B",
            "x1 A",
        ] {
            assert_eq!(CSeq::parse(text.as_bytes()), None, "{text}");
        }
    }
}
