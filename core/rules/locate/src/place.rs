//! What is to be located: the host of a URI, with all that the URI says of the way there.

use std::fmt;
use std::net::IpAddr;

use sip::{Scheme, Uri, Via};

/// By what we can send. WebSocket is not here: a server opens none (RFC 7118 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl Transport {
    /// The port where none is written (RFC 3261 §19.1.2).
    pub fn port(self) -> u16 {
        if self == Self::Tls { 5061 } else { 5060 }
    }

    /// The labels before a domain that ask for its servers (RFC 3263 §4.1).
    pub fn labels(self) -> &'static str {
        match self {
            Self::Udp => "_sip._udp",
            Self::Tcp => "_sip._tcp",
            Self::Tls => "_sips._tcp",
        }
    }

    /// Of a NAPTR's services field (RFC 3263 §4.1); those of SCTP and WebSocket (RFC 7118 §6) are none that we speak.
    pub fn of_services(services: &str) -> Option<Self> {
        let known = [("SIP+D2U", Self::Udp), ("SIP+D2T", Self::Tcp), ("SIPS+D2T", Self::Tls)];
        known.into_iter().find(|(name, _)| services.eq_ignore_ascii_case(name)).map(|(_, transport)| transport)
    }
}

/// Whose URI it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// `sip:` and `sips:`.
    Sip,
    /// `im:` (RFC 3860).
    Im,
    /// `pres:` (RFC 3859).
    Pres,
}

/// A host, by name or number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address: nobody is asked.
    Address(IpAddr),
    /// A name in lower case, without its final dot.
    Name(Box<str>),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Why nothing can be located.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Neither `sip:`, `sips:`, `im:` nor `pres:`.
    #[error("no URI of a scheme that has a host")]
    Scheme,
    /// No name that the DNS could know.
    #[error("the host is no domain name")]
    Host,
    /// A transport that we do not speak, or one that contradicts `sips:`.
    #[error("a transport that is not spoken here")]
    Transport,
}

/// What is to be located.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// RFC 3263 §4: the TARGET.
    pub host: Host,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// The transport, if one is written.
    pub transport: Option<Transport>,
    /// Whether only TLS will do.
    pub secure: bool,
    /// Whose URI it is.
    pub service: Service,
}

impl Place {
    /// Of a URI: a Request-URI or a Route.
    pub fn of_uri(uri: &Uri<'_>) -> Result<Self, PlaceError> {
        match uri.scheme {
            Scheme::Sip | Scheme::Sips => {}
            Scheme::Tel => return Err(PlaceError::Scheme),
            Scheme::Other => return Self::of_im(uri.text),
        }
        let secure = uri.scheme == Scheme::Sips;
        // RFC 3263 §4: `maddr` goes before the host.
        let host = match uri.param("maddr") {
            Some(maddr) => host(maddr)?,
            None => match uri.addr() {
                Some(address) => Host::Address(address.ip()),
                None => host(uri.host)?,
            },
        };
        let named =
            |name: &str| uri.transport().is_some_and(|transport| transport.eq_ignore_ascii_case(name.as_bytes()));
        let transport = match uri.transport() {
            None => None,
            Some(_) if named("udp") && !secure => Some(Transport::Udp),
            // RFC 3261 §26.2.2: of `sips:` the transport is TLS over it.
            Some(_) if named("tcp") => Some(if secure { Transport::Tls } else { Transport::Tcp }),
            Some(_) if named("tls") => Some(Transport::Tls),
            Some(_) => return Err(PlaceError::Transport),
        };
        Ok(Self { host, port: uri.port, transport, secure, service: Service::Sip })
    }

    /// `im:user@domain` and `pres:user@domain` (RFC 3861 §3).
    fn of_im(text: &[u8]) -> Result<Self, PlaceError> {
        let (service, rest) = im_rest(text).ok_or(PlaceError::Scheme)?;
        let address = rest.split(|byte| *byte == b'?').next().unwrap_or(rest);
        let at = address.iter().rposition(|byte| *byte == b'@').ok_or(PlaceError::Host)?;
        Ok(Self { host: host(&address[at + 1..])?, port: None, transport: None, secure: false, service })
    }

    /// Where the answer to a request goes when it could not be sent back by the way that the request came: the sent-by
    /// of its topmost Via (RFC 3263 §5).
    pub fn of_via(via: &Via<'_>) -> Result<Self, PlaceError> {
        let named = |name: &str| via.transport.eq_ignore_ascii_case(name.as_bytes());
        let transport = match () {
            () if named("UDP") => Transport::Udp,
            () if named("TCP") => Transport::Tcp,
            () if named("TLS") => Transport::Tls,
            () => return Err(PlaceError::Transport),
        };
        let secure = transport == Transport::Tls;
        Ok(Self { host: host(via.host)?, port: via.port, transport: Some(transport), secure, service: Service::Sip })
    }

    /// A host with nothing said about the way there.
    pub fn of_host(name: &str) -> Result<Self, PlaceError> {
        let host = host(name.as_bytes())?;
        Ok(Self { host, port: None, transport: None, secure: false, service: Service::Sip })
    }

    /// The same place, of which only TLS will do.
    #[must_use]
    pub fn secured(mut self) -> Self {
        self.secure = true;
        self
    }
}

/// The SIP URI of whoever an `im:` or `pres:` URI names (RFC 3861 §3): the same user at the same domain.
pub fn sip_of_im(uri: &Uri<'_>) -> Option<String> {
    let (_, rest) = im_rest(uri.text)?;
    let address = rest.split(|byte| *byte == b'?').next()?;
    let address = std::str::from_utf8(address).ok().filter(|address| address.contains('@'))?;
    Some(format!("sip:{address}"))
}

fn im_rest(text: &[u8]) -> Option<(Service, &[u8])> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
    let known = [("im", Service::Im), ("pres", Service::Pres)];
    let found = known.into_iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name.as_bytes()));
    found.map(|(_, service)| (service, rest))
}

/// RFC 1035 §2.3.4: labels of 63 octets, 253 in all; underscores stand in names of hosts too.
fn host(text: &[u8]) -> Result<Host, PlaceError> {
    let text = std::str::from_utf8(text).map_err(|_| PlaceError::Host)?;
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = inner.parse() {
        return Ok(Host::Address(address));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if is_name(name) { Ok(Host::Name(name.to_ascii_lowercase().into())) } else { Err(PlaceError::Host) }
}

/// Whether a text can be asked for.
pub(crate) fn is_name(name: &str) -> bool {
    let is_octet = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_octet);
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Of which families we have sockets for a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// Neither.
    pub const NONE: Self = Self { v4: false, v6: false };
    /// Both.
    pub const BOTH: Self = Self { v4: true, v6: true };

    /// Whether there is any.
    pub fn any(self) -> bool {
        self.v4 || self.v6
    }

    /// Whether an address is of one of them.
    pub fn have(self, address: IpAddr) -> bool {
        if address.to_canonical().is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// What we can speak outwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Speaks {
    /// By UDP.
    pub udp: Families,
    /// By TCP.
    pub tcp: Families,
    /// By TLS.
    pub tls: Families,
}

impl Speaks {
    /// What we can speak by this transport.
    pub fn by(&self, transport: Transport) -> Families {
        match transport {
            Transport::Udp => self.udp,
            Transport::Tcp => self.tcp,
            Transport::Tls => self.tls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, PlaceError> {
        Place::of_uri(&Uri::parse(text.as_bytes()).unwrap())
    }

    fn shown(text: &str) -> String {
        let Place { host, port, transport, secure, service } = place(text).unwrap();
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let transport = transport.map(|transport| format!(" {transport:?}")).unwrap_or_default();
        format!("{service:?} {host}{port}{transport}{}", if secure { " secure" } else { "" })
    }

    #[test]
    fn a_uri_says_where_it_leads_and_how() {
        for (uri, wanted) in [
            ("sip:bob@Example.COM", "Sip example.com"),
            ("sip:bob@example.com.", "Sip example.com"),
            ("sip:example.com:5070;transport=TCP", "Sip example.com:5070 Tcp"),
            ("sip:bob@example.com;transport=tls", "Sip example.com Tls"),
            ("sips:bob@example.com", "Sip example.com secure"),
            ("sips:bob@example.com;transport=tcp", "Sip example.com Tls secure"),
            ("sip:bob@192.0.2.1;transport=udp", "Sip 192.0.2.1 Udp"),
            ("sip:bob@[2001:db8::1]:5070", "Sip 2001:db8::1:5070"),
            // RFC 5118 §4.10: one colon too many.
            ("sip:bob@[2001:db8:::192.0.2.1]", "Sip 2001:db8::c000:201"),
            // RFC 3263 §4: TARGET is the maddr.
            ("sip:bob@example.com;maddr=192.0.2.7", "Sip 192.0.2.7"),
            ("sip:bob@192.0.2.7;maddr=p.example.com", "Sip p.example.com"),
            ("im:fred@Example.com", "Im example.com"),
            ("PRES:fred@example.com?subject=x@y", "Pres example.com"),
        ] {
            assert_eq!(shown(uri), wanted, "{uri}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused_with_the_reason() {
        let long = format!("sip:{}.com", "a".repeat(64));
        for (uri, why) in [
            ("tel:+4940", PlaceError::Scheme),
            ("mailto:a@b.c", PlaceError::Scheme),
            ("sip:bob@example.com;transport=sctp", PlaceError::Transport),
            ("sip:bob@example.com;transport=ws", PlaceError::Transport),
            ("sips:bob@example.com;transport=udp", PlaceError::Transport),
            ("sip:bob@a..b", PlaceError::Host),
            ("sip:bob@example.com;maddr=", PlaceError::Host),
            ("im:fred", PlaceError::Host),
            ("im:fred@exa%20mple", PlaceError::Host),
            (&long, PlaceError::Host),
        ] {
            assert_eq!(place(uri), Err(why), "{uri}");
        }
    }

    #[test]
    fn an_answer_follows_the_topmost_via() {
        let of = |via: &str| Place::of_via(&Via::parse(via.as_bytes()).unwrap());
        let found = of("SIP/2.0/TLS p.example.com;branch=z9hG4bK1").unwrap();
        assert_eq!((found.transport, found.port, found.secure), (Some(Transport::Tls), None, true));
        let found = of("SIP/2.0/UDP [2001:db8::9]:5070;branch=z9hG4bK1").unwrap();
        assert_eq!(found.host, Host::Address("2001:db8::9".parse().unwrap()));
        assert_eq!(of("SIP/2.0/SCTP p;branch=z9hG4bK1"), Err(PlaceError::Transport));
    }

    #[test]
    fn an_im_uri_is_a_sip_user() {
        let of = |uri: &str| sip_of_im(&Uri::parse(uri.as_bytes()).unwrap());
        assert_eq!(of("im:fred@example.com").as_deref(), Some("sip:fred@example.com"));
        assert_eq!(of("pres:fred@example.com?body=x").as_deref(), Some("sip:fred@example.com"));
        assert_eq!((of("im:fred"), of("xmpp:fred@example.com")), (None, None));
    }
}
