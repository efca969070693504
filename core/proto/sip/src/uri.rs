//! SIP and SIPS URIs (RFC 3261 §19.1), and as much of `tel:` (RFC 3966) as a SIP element needs.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::str::FromStr;

use arrayvec::ArrayString;
use base::aor::{Aor, AorError};
use base::scan::decimal;

use crate::error::UriError;
use crate::params::skip_while;

/// What kind of URI it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other: 416 in a Request-URI (RFC 3261 §16.3).
    Other,
}

/// A URI, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The whole text.
    pub text: &'a [u8],
    /// Its kind.
    pub scheme: Scheme,
    /// The user part as written, without a password; of `tel:` the number; of other schemes all behind the colon.
    pub user: &'a [u8],
    /// What stands between the user's colon and the `@`.
    pub password: Option<&'a [u8]>,
    /// The host as written; an IPv6 address keeps its brackets. Empty for `tel:` and others.
    pub host: &'a [u8],
    /// The port, if one is written.
    pub port: Option<u16>,
    /// The parameters: empty, or a text that begins with a semicolon.
    pub params: &'a [u8],
    /// Behind the question mark.
    pub headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads a whole text. Of unknown schemes only what no URI may hold is looked for.
    pub fn parse(text: &'a [u8]) -> Result<Self, UriError> {
        if text.iter().any(|byte| *byte <= b' ' || matches!(byte, 0x7f | b'<' | b'>' | b'"')) {
            return Err(UriError::Octet);
        }
        let colon = skip_while(text, 0, |byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if text.get(colon) != Some(&b':') || !text[0].is_ascii_alphabetic() || text.len() == colon + 1 {
            return Err(UriError::Scheme);
        }
        let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
        let scheme = if scheme.eq_ignore_ascii_case(b"sip") {
            Scheme::Sip
        } else if scheme.eq_ignore_ascii_case(b"sips") {
            Scheme::Sips
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            Scheme::Tel
        } else {
            Scheme::Other
        };
        let mut uri =
            Self { text, scheme, user: rest, password: None, host: &[], port: None, params: &[], headers: &[] };
        match scheme {
            Scheme::Sip | Scheme::Sips => uri.read_sip(rest)?,
            Scheme::Tel => uri.read_tel(rest)?,
            Scheme::Other => {}
        }
        Ok(uri)
    }

    /// RFC 3261 §25.1 `SIP-URI`, behind the scheme.
    fn read_sip(&mut self, rest: &'a [u8]) -> Result<(), UriError> {
        let mut at = 0;
        self.user = &[];
        // Neither host nor parameters may hold an `@`, the user part may hold nearly all else (RFC 4475 §3.1.1.9).
        if let Some(end) = memchr::memchr(b'@', rest) {
            let (user, password) = split(&rest[..end], b':');
            if user.is_empty() || !is_user(user) || !password.is_none_or(is_user) {
                return Err(UriError::User);
            }
            (self.user, self.password) = (user, password);
            at = end + 1;
        }
        let (host, port, end) = host_port(rest, at)?;
        (self.host, self.port) = (&rest[host], port);
        let (params, headers) = split(&rest[end..], b'?');
        self.headers = headers.unwrap_or(&[]);
        self.read_params(params)?;
        if has_bad_escape(&rest[at..]) { Err(UriError::Escape) } else { Ok(()) }
    }

    /// RFC 3966 §3.
    fn read_tel(&mut self, rest: &'a [u8]) -> Result<(), UriError> {
        let end = skip_while(rest, 0, |byte| byte != b';');
        self.user = &rest[..end];
        let digits = self.user.strip_prefix(b"+").unwrap_or(self.user);
        if digits.is_empty() || !digits.iter().all(|byte| byte.is_ascii_hexdigit() || b"-.()*#".contains(byte)) {
            return Err(UriError::User);
        }
        self.read_params(&rest[end..])
    }

    fn read_params(&mut self, params: &'a [u8]) -> Result<(), UriError> {
        if params.first().is_some_and(|byte| *byte != b';') {
            return Err(UriError::Host);
        }
        self.params = params;
        if self.params().any(|(name, _)| name.is_empty()) || memchr::memchr(b'@', params).is_some() {
            return Err(UriError::Param);
        }
        Ok(())
    }

    /// Names and values as written; a flag has an empty value.
    pub fn params(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.params.split(|byte| *byte == b';').skip(1).map(|param| {
            let (name, value) = split(param, b'=');
            (name, value.unwrap_or(&[]))
        })
    }

    /// The value of a parameter, any case; empty for a flag such as `lr`.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        self.params().find(|(key, _)| same_text(key, name.as_bytes(), Case::Ignored)).map(|(_, value)| value)
    }

    /// The value of `transport`, as written.
    pub fn transport(&self) -> Option<&'a [u8]> {
        self.param("transport")
    }

    /// Whose address this is, in the one canonical spelling (RFC 3261 §10.3 step 5).
    pub fn aor(&self) -> Result<Aor, AorError> {
        match self.scheme {
            Scheme::Sip | Scheme::Sips => Aor::from_bytes(self.user, self.host),
            Scheme::Tel => Aor::tel(self.user),
            Scheme::Other => Err(AorError::Scheme),
        }
    }

    /// Where to send, if the host is an address and no name; the port is 5060, or 5061 for `sips:` and
    /// `transport=tls`, when none is written (RFC 3263 §4.2).
    pub fn addr(&self) -> Option<SocketAddr> {
        let address = numeric(self.host)?;
        let tls = self.scheme == Scheme::Sips || self.transport().is_some_and(|t| t.eq_ignore_ascii_case(b"tls"));
        Some(SocketAddr::new(address, self.port.unwrap_or(if tls { 5061 } else { 5060 })))
    }

    /// Equality of RFC 3261 §19.1.4, which is not transitive. `tel:` numbers are compared without their separators
    /// (RFC 3966 §5), others octet for octet.
    pub fn same_as(&self, other: &Uri<'_>) -> bool {
        // A URI with a doubled parameter is equal to itself, if to nothing else.
        self.text == other.text
            || match (self.scheme, other.scheme) {
                (Scheme::Sip, Scheme::Sip) | (Scheme::Sips, Scheme::Sips) => {
                    same_text(self.user, other.user, Case::Counts)
                        && self.password.is_some() == other.password.is_some()
                        && same_text(self.password.unwrap_or(&[]), other.password.unwrap_or(&[]), Case::Counts)
                        && same_host(self.host, other.host)
                        && self.port == other.port
                        && self.params_match(other)
                        && other.params_match(self)
                        && self.headers_match(other)
                        && other.headers_match(self)
                }
                (Scheme::Tel, Scheme::Tel) => {
                    let digits = |text: &'static [u8]| move |byte: &&u8| !text.contains(byte);
                    let one = self.user.iter().filter(digits(b"-.()")).map(u8::to_ascii_lowercase);
                    let two = other.user.iter().filter(digits(b"-.()")).map(u8::to_ascii_lowercase);
                    one.eq(two) && self.params_match(other) && other.params_match(self)
                }
                (Scheme::Other, Scheme::Other) => self.text == other.text,
                _ => false,
            }
    }

    /// Whether each parameter of ours that counts is matched by theirs.
    fn params_match(&self, other: &Uri<'_>) -> bool {
        self.params().all(|(name, value)| {
            let same_name = |(key, _): &(&[u8], &[u8])| same_text(key, name, Case::Ignored);
            match other.params().find(same_name) {
                Some((_, theirs)) => same_text(value, theirs, Case::Ignored),
                // RFC 3261 §19.1.4: these five never match their absence; `phone-context` says whose number it is
                // (RFC 3966 §5.1.5).
                None => !["user", "ttl", "method", "maddr", "transport", "phone-context", "isub", "ext"]
                    .iter()
                    .take(if self.scheme == Scheme::Tel { 8 } else { 5 })
                    .any(|counts| same_text(name, counts.as_bytes(), Case::Ignored)),
            }
        })
    }

    /// RFC 3261 §19.1.4: header components are never ignored.
    fn headers_match(&self, other: &Uri<'_>) -> bool {
        let headers = |text: &'a [u8]| text.split(|byte| *byte == b'&').filter(|header| !header.is_empty());
        headers(self.headers).all(|header| {
            other.headers.split(|byte| *byte == b'&').any(|theirs| same_text(header, theirs, Case::Ignored))
        })
    }
}

impl std::fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.text))
    }
}

/// A host as `[2001:db8::1]`, `2001:db8::1` or `192.0.2.1`, if it is an address.
pub(crate) fn numeric(host: &[u8]) -> Option<IpAddr> {
    let inner = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
    if !inner.first().is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':') {
        return None;
    }
    let text = std::str::from_utf8(inner).ok()?;
    if let Ok(address) = IpAddr::from_str(text) {
        return Some(address);
    }
    // RFC 5118 §4.10: the grammar of RFC 3261 has led people to write one colon too many before an IPv4 part.
    let (before, behind) = text.split_once(":::")?;
    let mut mended = ArrayString::<48>::new();
    for part in [before, "::", behind] {
        mended.try_push_str(part).ok()?;
    }
    IpAddr::from_str(&mended).ok()
}

/// RFC 3261 §25.1 `hostport` at `at`, white space allowed around the colon as in a Via: the host's place, the port,
/// and what is behind them.
pub(crate) fn host_port(text: &[u8], at: usize) -> Result<(Range<usize>, Option<u16>, usize), UriError> {
    let end = if text.get(at) == Some(&b'[') {
        let close = at + memchr::memchr(b']', &text[at..]).ok_or(UriError::Host)? + 1;
        if !matches!(numeric(&text[at..close]), Some(IpAddr::V6(_))) {
            return Err(UriError::Host);
        }
        close
    } else {
        skip_while(text, at, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    if end == at {
        return Err(UriError::Host);
    }
    let colon = crate::params::skip_space(text, end);
    if text.get(colon) != Some(&b':') {
        return Ok((at..end, None, end));
    }
    let digits = crate::params::skip_space(text, colon + 1);
    let stop = skip_while(text, digits, |byte| byte.is_ascii_digit());
    let port = decimal(&text[digits..stop]).and_then(|port| u16::try_from(port).ok()).ok_or(UriError::Port)?;
    Ok((at..end, Some(port), stop))
}

/// Before and behind the first `byte`.
fn split(text: &[u8], byte: u8) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(byte, text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// RFC 3261 §25.1 `user` and `password`; `#` stands unescaped in too many dialled numbers to be refused.
fn is_user(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/#%".contains(byte);
    text.iter().all(allowed) && !has_bad_escape(text)
}

fn has_bad_escape(text: &[u8]) -> bool {
    let hex = |at: usize| text.get(at).is_some_and(u8::is_ascii_hexdigit);
    memchr::memchr_iter(b'%', text).any(|at| !hex(at + 1) || !hex(at + 2))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Counts,
    Ignored,
}

/// RFC 3261 §19.1.4: an escape equals its octet unless that one is reserved. Never decoded twice (RFC 4475 §3.1.1.3).
fn same_text(one: &[u8], two: &[u8], case: Case) -> bool {
    if one == two {
        return true;
    }
    let fold = |unit: u16| match u8::try_from(unit) {
        Ok(byte) if case == Case::Ignored => u16::from(byte.to_ascii_lowercase()),
        _ => unit,
    };
    units(one).map(fold).eq(units(two).map(fold))
}

/// The octets of a text, escapes undone; an escaped reserved octet is another unit (above 255) than itself.
fn units(text: &[u8]) -> impl Iterator<Item = u16> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *text.get(at)?;
        let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        at += 1;
        if byte == b'%'
            && let (Some(high), Some(low)) = (digit(at), digit(at + 1))
        {
            at += 2;
            let decoded = (high * 16 + low) as u8;
            let reserved = b";/?:@&=+$,".contains(&decoded);
            return Some(u16::from(decoded) | if reserved { 0x100 } else { 0 });
        }
        Some(u16::from(byte))
    })
}

/// Names without case, addresses by what they are: `[::1]` is `[0::1]`.
fn same_host(one: &[u8], two: &[u8]) -> bool {
    one.eq_ignore_ascii_case(two) || (one.starts_with(b"[") && two.starts_with(b"[") && numeric(one) == numeric(two))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_parts_of_a_uri_come_apart() {
        // RFC 3261 §19.1.3
        let all = uri("sip:alice:secretword@atlanta.com:5070;transport=tcp;lr?subject=project%20x&priority=urgent");
        assert_eq!((all.scheme, all.user, all.password), (Scheme::Sip, &b"alice"[..], Some(&b"secretword"[..])));
        assert_eq!((all.host, all.port), (&b"atlanta.com"[..], Some(5070)));
        assert_eq!((all.transport(), all.param("LR"), all.param("ttl")), (Some(&b"tcp"[..]), Some(&b""[..]), None));
        assert_eq!(all.headers, b"subject=project%20x&priority=urgent");
        let number = uri("sips:+1-212-555-1212:1234@gateway.com;user=phone");
        assert_eq!(
            (number.scheme, number.user, number.param("user")),
            (Scheme::Sips, &b"+1-212-555-1212"[..], Some(&b"phone"[..]))
        );
        assert_eq!((uri("sip:atlanta.com").user, uri("sip:atlanta.com").host), (&b""[..], &b"atlanta.com"[..]));
        // RFC 4475 §3.1.1.9: the semicolon belongs to the user part.
        assert_eq!(uri("sip:user;par=u%40example.net@example.com").user, b"user;par=u%40example.net");
        let tel = uri("tel:+358-555-1234567;postd=pp22");
        assert_eq!(
            (tel.scheme, tel.user, tel.param("postd")),
            (Scheme::Tel, &b"+358-555-1234567"[..], Some(&b"pp22"[..]))
        );
        assert_eq!(uri("soap.beep://192.0.2.103:3002").scheme, Scheme::Other);
    }

    #[test]
    fn what_is_no_uri_is_refused_with_the_reason() {
        for (text, why) in [
            ("", UriError::Scheme),
            ("sip", UriError::Scheme),
            ("sip:", UriError::Scheme),
            ("1sip:a@b", UriError::Scheme),
            ("<sip:a@b>", UriError::Octet),
            ("sip:a@b; lr", UriError::Octet),
            ("sip:a@b\r\nVia: x", UriError::Octet),
            ("sip:@b", UriError::User),
            ("sip:a%4@b", UriError::User),
            ("sip:\u{e9}@b", UriError::User),
            ("sip:a[b@c", UriError::User),
            ("sip:a@", UriError::Host),
            ("sip:a@;lr", UriError::Host),
            ("sip:a@[::1", UriError::Host),
            ("sip:a@[1.2.3.4]", UriError::Host),
            ("sip:a@[::1]x", UriError::Host),
            ("sip:2001:db8::10", UriError::Port),
            ("sip:a@b c", UriError::Octet),
            ("sip:a@b:", UriError::Port),
            ("sip:a@b:65536", UriError::Port),
            ("sip:a@b:x", UriError::Port),
            ("sip:a@b;;lr", UriError::Param),
            ("sip:a@b;=1", UriError::Param),
            ("sip:a@b;maddr=c@d", UriError::Param),
            ("sip:a@b;x=%zz", UriError::Escape),
            ("tel:", UriError::Scheme),
            ("tel:alice", UriError::User),
            ("tel:+", UriError::User),
        ] {
            assert_eq!(Uri::parse(text.as_bytes()).map(|uri| uri.scheme), Err(why), "{text:?}");
        }
    }

    #[test]
    fn uris_of_rfc_3261_are_equal_and_unequal_as_it_says() {
        // RFC 3261 §19.1.4, its own examples, and RFC 4475 §3.1.1.3.
        for (one, two) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("sip:cal%6Cer@h;%6C%72;n%61me=v%61lue%25%34%31", "sip:caller@h;lr;name=value%2541"),
            ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
            ("tel:+1-201-555-0123", "tel:+12015550123"),
            ("name:John_Smith", "name:John_Smith"),
        ] {
            assert!(uri(one).same_as(&uri(two)) && uri(two).same_as(&uri(one)), "{one} and {two} are the same");
        }
        for (one, two) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@b", "sips:a@b"),
            ("sip:a@b", "sip:b"),
            ("sip:a:x@b", "sip:a@b"),
            ("sip:a:x@b", "sip:a:X@b"),
            ("sip:a@b;maddr=c", "sip:a@b"),
            ("sip:a@b;user=ip", "sip:a@b"),
            ("sip:a@b;ttl=1", "sip:a@b"),
            // An escaped reserved octet is not the octet: `%3B` is no semicolon.
            ("sip:a%3Bb@c", "sip:a;b@c"),
            ("sip:%00@c", "sip:%00%00@c"),
            ("sip:a@h;name=value%41", "sip:a@h;name=value%2541"),
            ("tel:+1", "tel:1"),
            ("tel:911;phone-context=+1", "tel:911;phone-context=+44"),
            ("tel:911;phone-context=+1", "tel:911"),
            ("name:John", "name:john"),
        ] {
            assert!(!uri(one).same_as(&uri(two)) && !uri(two).same_as(&uri(one)), "{one} and {two} differ");
        }
    }

    #[test]
    fn a_numeric_host_is_an_address_with_a_port() {
        for (text, addr) in [
            ("sip:a@192.0.2.4", Some("192.0.2.4:5060")),
            ("sip:192.0.2.4:5070", Some("192.0.2.4:5070")),
            ("sips:a@192.0.2.4", Some("192.0.2.4:5061")),
            ("sip:a@192.0.2.4;transport=TLS", Some("192.0.2.4:5061")),
            ("sip:a@[2001:db8::10]:5070", Some("[2001:db8::10]:5070")),
            // RFC 5118 §4.3: within the brackets 5070 is no port.
            ("sip:[2001:db8::10:5070]", Some("[2001:db8::10:5070]:5060")),
            // RFC 5118 §4.10: one colon too many is forgiven.
            ("sip:a@[2001:db8:::192.0.2.1]", Some("[2001:db8::c000:201]:5060")),
            ("sip:a@example.com", None),
            ("sip:a@beef", None),
            ("tel:+4420", None),
        ] {
            assert_eq!(uri(text).addr(), addr.map(|addr| addr.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn every_spelling_of_one_user_is_one_address_of_record() {
        for text in ["sip:alice@example.com", "sips:%61lice:pw@EXAMPLE.com:5061;transport=tcp?a=b"] {
            assert_eq!(uri(text).aor().unwrap().as_str(), "sip:alice@example.com");
        }
        assert_eq!(uri("tel:+44-20-7946-0148").aor().unwrap().as_str(), "tel:+442079460148");
        assert_eq!(uri("sip:example.com").aor(), Err(AorError::User));
        assert_eq!(uri("mailto:a@b").aor(), Err(AorError::Scheme));
    }
}
