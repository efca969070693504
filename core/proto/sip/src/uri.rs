//! SIP and SIPS URIs (RFC 3261 §19.1), and as much of `tel:` (RFC 3966) as a SIP element needs.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::str::FromStr;

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
        match (self.scheme, other.scheme) {
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
    IpAddr::from_str(std::str::from_utf8(inner).ok()?).ok()
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
