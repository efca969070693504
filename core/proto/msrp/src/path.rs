//! MSRP URIs and paths (RFC 4975 §6, §9): who is to be reached, and over whom.

use std::borrow::Cow;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base::limits::{MSRP_PATH_URIS_MAX, MSRP_URI_BYTES_MAX};
use base::scan::decimal;

use crate::error::ParseError;

/// Whether the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `msrp`
    Msrp,
    /// `msrps`: TLS (RFC 4975 §6).
    Msrps,
}

impl Scheme {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Msrp => "msrp",
            Self::Msrps => "msrps",
        }
    }
}

/// An MSRP URI, borrowed: `msrp://alice@host:7394/session;tcp;x=y`.
#[derive(Debug, Clone, Copy)]
pub struct Uri<'a> {
    /// The whole text.
    pub text: &'a [u8],
    /// Its scheme.
    pub scheme: Scheme,
    /// Before the `@`; empty without one. Compared by nobody (RFC 4975 §6.1).
    pub user: &'a [u8],
    /// The host as written; an IPv6 address keeps its brackets.
    pub host: &'a [u8],
    /// The port. URIs in SDP always have one (RFC 4975 §8.2).
    pub port: Option<u16>,
    /// The session, compared with case; empty when it names a host only.
    pub session_id: &'a [u8],
    /// `tcp`, `ws`.
    pub transport: &'a [u8],
    /// Behind the transport: empty, or a text that begins with a semicolon.
    pub params: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads a whole text (RFC 4975 §9 `MSRP-URI`). A transport is required: "URIs designating MSRP over TCP MUST
    /// include the tcp transport parameter" (RFC 4975 §6).
    pub fn parse(text: &'a [u8]) -> Result<Self, ParseError> {
        Self::read(text).ok_or(ParseError::Uri)
    }

    fn read(text: &'a [u8]) -> Option<Self> {
        if text.len() > MSRP_URI_BYTES_MAX {
            return None;
        }
        let colon = memchr::memchr(b':', text)?;
        let scheme = [Scheme::Msrp, Scheme::Msrps]
            .into_iter()
            .find(|scheme| text[..colon].eq_ignore_ascii_case(scheme.as_str().as_bytes()))?;
        let rest = text[colon..].strip_prefix(b"://")?;
        // The authority ends at the session or at the transport, whichever stands there (RFC 3986 §3.2).
        let end = memchr::memchr2(b'/', b';', rest)?;
        let (authority, rest) = rest.split_at(end);
        let (path, params) = rest.split_at(memchr::memchr(b';', rest)?);
        let session_id = match path.strip_prefix(b"/") {
            Some(id) if !id.is_empty() && id.iter().copied().all(is_session_octet) => id,
            Some(_) => return None,
            None => path,
        };
        let (transport, params) = transport(params)?;
        let (user, host_port) = match memchr::memchr(b'@', authority) {
            Some(at) if authority[..at].iter().copied().all(is_user_octet) => (&authority[..at], &authority[at + 1..]),
            Some(_) => return None,
            None => (&[][..], authority),
        };
        let (host, port) = host_port_of(host_port)?;
        Some(Self { text, scheme, user, host, port, session_id, transport, params })
    }

    /// RFC 4975 §6.1: scheme, host and transport without case, addresses by value, ports exactly (one without is
    /// never equal to one with), the session with case; user and further parameters do not count.
    pub fn same_as(&self, other: &Uri<'_>) -> bool {
        self.text == other.text
            || (self.scheme == other.scheme
                && self.port == other.port
                && self.session_id == other.session_id
                && self.transport.eq_ignore_ascii_case(other.transport)
                && same_host(self.host, other.host))
    }

    /// Same scheme, host and port: one connection serves both (RFC 4975 §5.4).
    pub fn shares_connection_with(&self, other: &Uri<'_>) -> bool {
        self.scheme == other.scheme
            && self.port == other.port
            && self.transport.eq_ignore_ascii_case(other.transport)
            && same_host(self.host, other.host)
    }

    /// Whether TLS is required.
    pub fn is_secure(&self) -> bool {
        self.scheme == Scheme::Msrps
    }

    /// Where to connect, if the host is an address and a port is given; names are for a resolver (RFC 4975 §6.2).
    pub fn addr(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(address(self.host)?, self.port?))
    }
}

/// `;transport *( ";" parameter )`: the transport, and the rest.
fn transport(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b";")?;
    let end = memchr::memchr(b';', text).unwrap_or(text.len());
    let (transport, params) = text.split_at(end);
    if transport.is_empty() || !transport.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let is_param = |param: &[u8]| {
        let (name, value) = match memchr::memchr(b'=', param) {
            Some(at) => (&param[..at], Some(&param[at + 1..])),
            None => (param, None),
        };
        is_token(name) && value.is_none_or(is_token)
    };
    let good = params.is_empty() || params[1..].split(|byte| *byte == b';').all(is_param);
    good.then_some((transport, params))
}

/// RFC 4975 §9 `token`.
fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_octet)
}

pub(crate) fn is_token_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x27 | 0x2a | 0x2b | 0x2d | 0x2e | 0x30..=0x39 | 0x41..=0x5a | 0x5e..=0x7e)
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// RFC 4975 §9 `session-id`.
fn is_session_octet(byte: u8) -> bool {
    is_unreserved(byte) || b"+=/".contains(&byte)
}

/// RFC 3986 §3.2.1 without the colon: no password may stand there (RFC 4975 §6).
fn is_user_octet(byte: u8) -> bool {
    is_unreserved(byte) || b"%!$&'()*+,;=".contains(&byte)
}

fn host_port_of(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let end = match text.first()? {
        b'[' => memchr::memchr(b']', text)? + 1,
        _ => memchr::memchr(b':', text).unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    let is_host = match host.first()? {
        b'[' => address(host).is_some(),
        _ => host.iter().all(|byte| is_unreserved(*byte) || b"%!$&'()*+,=".contains(byte)),
    };
    let port = match rest.strip_prefix(b":") {
        Some(port) => Some(u16::try_from(decimal(port)?).ok()?),
        None if rest.is_empty() => None,
        None => return None,
    };
    is_host.then_some((host, port))
}

/// The address that a host names by value, brackets or not.
fn address(host: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(host).ok()?;
    match text.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// RFC 4975 §6.1 rule 2: addresses by value, names without case, percent-encoded unreserved octets decoded.
fn same_host(one: &[u8], other: &[u8]) -> bool {
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    let (one, other) = (decoded(one), decoded(other));
    one.eq_ignore_ascii_case(&other) || address(&one).is_some_and(|here| address(&other) == Some(here))
}

fn decoded(host: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', host).is_none() {
        return Cow::Borrowed(host);
    }
    let mut out = Vec::with_capacity(host.len());
    let mut at = 0;
    while at < host.len() {
        let octet = (host[at] == b'%').then(|| hex_pair(host.get(at + 1..at + 3)?)).flatten();
        match octet.filter(|octet| is_unreserved(*octet)) {
            Some(octet) => {
                out.push(octet);
                at += 3;
            }
            None => {
                out.push(host[at]);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

/// A path that outlives what it was read from: one URI, or the relays on the way and then the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: Box<[u8]>,
}

impl Path {
    /// Reads a list with one space between (RFC 4975 §9); at most [`MSRP_PATH_URIS_MAX`] URIs.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        for (count, uri) in pieces(text).enumerate() {
            if count == MSRP_PATH_URIS_MAX {
                return Err(ParseError::PathTooLong { max: MSRP_PATH_URIS_MAX });
            }
            Uri::parse(uri)?;
        }
        Ok(Self { text: text.into() })
    }

    /// As it stands in a To-Path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// All URIs, the next hop first.
    pub fn uris(&self) -> impl Iterator<Item = Uri<'_>> {
        pieces(&self.text).filter_map(|uri| Uri::parse(uri).ok())
    }

    /// The text of the next hop.
    pub fn first_bytes(&self) -> &[u8] {
        first_of(&self.text)
    }

    /// The next hop: whom to connect to.
    pub fn first(&self) -> Uri<'_> {
        Uri::parse(self.first_bytes()).expect("checked by Path::parse")
    }

    /// The endpoint itself.
    pub fn last(&self) -> Uri<'_> {
        let last = pieces(&self.text).last().unwrap_or_default();
        Uri::parse(last).expect("checked by Path::parse")
    }

    /// URI for URI by RFC 4975 §6.1.
    pub fn same_as(&self, other: &Path) -> bool {
        let (mut mine, mut theirs) = (self.uris(), other.uris());
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return true,
                (Some(one), Some(two)) if one.same_as(&two) => {}
                _ => return false,
            }
        }
    }
}

fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b' ')
}

/// The first URI of a path: up to the space.
pub(crate) fn first_of(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(b' ', text).unwrap_or(text.len())]
}

/// Appends `scheme://host:port/session;tcp`. An IPv6 address is given without brackets and gets them.
pub fn session_uri(out: &mut Vec<u8>, scheme: Scheme, host: &str, port: u16, session_id: &[u8]) {
    let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
    write!(out, "{}://{open}{host}{close}:{port}/", scheme.as_str()).unwrap_or_default(); // memory does not fail
    out.extend_from_slice(session_id);
    out.extend_from_slice(b";tcp");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let (one, other) = (Uri::parse(one.as_bytes()).unwrap(), Uri::parse(other.as_bytes()).unwrap());
        assert_eq!(one.same_as(&other), other.same_as(&one));
        one.same_as(&other)
    }

    #[test]
    fn a_uri_falls_into_its_parts() {
        let uri = Uri::parse(b"msrps://bob%20x@[2001:db8::1]:8493/si/d+=;tcp;a=b;c").unwrap();
        assert_eq!((uri.scheme, uri.user, uri.host), (Scheme::Msrps, &b"bob%20x"[..], &b"[2001:db8::1]"[..]));
        assert_eq!((uri.port, uri.session_id), (Some(8493), &b"si/d+="[..]));
        assert_eq!((uri.transport, uri.params), (&b"tcp"[..], &b";a=b;c"[..]));
        assert_eq!(uri.addr(), Some("[2001:db8::1]:8493".parse().unwrap()));
        let host = Uri::parse(b"MSRP://relay.example.com;ws").unwrap();
        assert_eq!((host.port, host.session_id, host.addr()), (None, &b""[..], None));
    }

    #[test]
    fn what_the_grammar_does_not_have_is_refused() {
        // RFC 4975 §9; §6: the transport must be there.
        for text in [
            "",
            "msrp:",
            "msrp://",
            "msrp://h:1/s",
            "msrp://h:1/;tcp",
            "msrp://:1/s;tcp",
            "msrp://h:x/s;tcp",
            "msrp://h:65536/s;tcp",
            "msrp://h:/s;tcp",
            "msrp://[::1/s;tcp",
            "msrp://[h]:1/s;tcp",
            "sip:a@b;tcp",
            "msrp://h:1/s;",
            "msrp://h:1/s;t-p",
            "msrp://h:1/s;tcp;",
            "msrp://h:1/s;tcp;=b",
            "msrp://h:1/s;tcp;a=",
            "msrp://u:pw@h:1/s;tcp",
            "msrp://h:1/s s;tcp",
            "msrp://h:1/s%41;tcp",
            "msrp://a@b@h:1/s;tcp",
        ] {
            assert!(Uri::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let long = format!("msrp://h:1/{};tcp", "s".repeat(MSRP_URI_BYTES_MAX));
        assert!(Uri::parse(long.as_bytes()).is_err());
    }

    #[test]
    fn comparison_follows_section_6_1() {
        // Rule 1, 2, 5: without case; the user does not count, further parameters neither.
        assert!(same("msrp://a@Host.Example.com:1/s;tcp", "MSRP://host.example.COM:1/s;TCP;x=y"));
        // Rule 2: addresses by value, encoded unreserved octets decoded.
        assert!(same("msrp://[2001:db8:0:0::1]:1/s;tcp", "msrp://[2001:DB8::1]:1/s;tcp"));
        assert!(same("msrp://host%2Eexample.com:1/s;tcp", "msrp://host.example.com:1/s;tcp"));
        // Rule 3: a port is never equal to none.
        assert!(!same("msrp://h:2855/s;tcp", "msrp://h/s;tcp"));
        assert!(!same("msrp://h:1/s;tcp", "msrp://h:2/s;tcp"));
        // Rule 4: the session with case; none is never equal to one.
        assert!(!same("msrp://h:1/Session;tcp", "msrp://h:1/session;tcp"));
        assert!(!same("msrp://h:1/s;tcp", "msrp://h:1;tcp"));
        // Rules 1 and 5.
        assert!(!same("msrp://h:1/s;tcp", "msrps://h:1/s;tcp"));
        assert!(!same("msrp://h:1/s;tcp", "msrp://h:1/s;ws"));
        assert!(!same("msrp://192.0.2.1:1/s;tcp", "msrp://192.0.2.2:1/s;tcp"));
    }

    #[test]
    fn a_path_names_the_next_hop_first_and_the_endpoint_last() {
        // RFC 4975 §8.2.
        let path = Path::parse(b"msrps://relay.example.com:2855/r;tcp msrp://192.0.2.7:7394/s;tcp").unwrap();
        assert_eq!(path.first().host, b"relay.example.com");
        assert_eq!(path.last().session_id, b"s");
        assert_eq!(path.uris().count(), 2);
        assert!(
            path.same_as(&Path::parse(b"msrps://RELAY.example.com:2855/r;tcp msrp://192.0.2.7:7394/s;tcp").unwrap())
        );
        assert!(!path.same_as(&Path::parse(b"msrps://relay.example.com:2855/r;tcp").unwrap()));
        for bad in ["", " ", "msrp://h:1/s;tcp ", "msrp://h:1/s;tcp  msrp://h:1/s;tcp", "msrp://h:1/s;tcp,x"] {
            assert!(Path::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let many = ["msrp://h:1/s;tcp"; MSRP_PATH_URIS_MAX + 1].join(" ");
        assert_eq!(Path::parse(many.as_bytes()), Err(ParseError::PathTooLong { max: MSRP_PATH_URIS_MAX }));
    }

    #[test]
    fn a_session_uri_reads_back() {
        for (host, wanted) in [("192.0.2.1", "msrp://192.0.2.1:2855/id;tcp"), ("::1", "msrp://[::1]:2855/id;tcp")] {
            let mut out = Vec::new();
            session_uri(&mut out, Scheme::Msrp, host, 2855, b"id");
            assert_eq!(out, wanted.as_bytes());
            assert!(Uri::parse(&out).unwrap().addr().is_some());
        }
    }
}
