//! What a request is for: this house itself, one of its users, one of its services, or somebody elsewhere.

use std::net::SocketAddr;

use base::Aor;
use sip::{Method, Name, Scheme, Uri, View};

use crate::refusal::Refusal;

/// A service of the house that has an address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// A MESSAGE to a list (RFC 5365).
    Exploder,
    /// An ad hoc group (RFC 5366).
    Factory,
    /// Letters that wait.
    Deferred,
    /// Stored conversations.
    History,
    /// From whom the house itself speaks; nobody hears there.
    System,
}

/// What is ours.
#[derive(Debug, Clone, Default)]
pub struct House {
    domains: Vec<String>,
    listeners: Vec<Listener>,
    services: Vec<(Aor, Service)>,
}

/// Where the house listens, as it names itself: a host, in lower case, and a port.
#[derive(Debug, Clone)]
struct Listener {
    host: String,
    port: u16,
    /// The same, where the host is an address and no name.
    address: Option<SocketAddr>,
}

impl Listener {
    /// From `host:port`; `[::1]:5060` keeps its brackets in the host.
    fn of(name: &str) -> Option<Self> {
        let (host, port) = name.rsplit_once(':')?;
        let address = name.parse().ok().map(canonical);
        Some(Self { host: lower(host), port: port.parse().ok()?, address })
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the house itself: its domain or its address, without a user part.
    Ours,
    /// To an address of record of one of our domains, or to a telephone number, whether it is known or not.
    User(Aor),
    /// To one of our services.
    Service(Service),
    /// Within a dialog that passes through the house, along a way that it has recorded (RFC 3261 §16.4).
    Along,
    /// To another domain.
    Elsewhere(String),
}

/// What a request to one of our users is for: a part of the house that answers in the user's name, or the user's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Business {
    /// A page message: relayed, or kept until the user is there.
    Page,
    /// An INVITE for a session that the house itself takes.
    Session,
    /// A subscription to what becomes of the user's contacts (RFC 3680): the house itself is the notifier.
    Registrations,
    /// Whatever the house knows nothing of: passed on as it is (RFC 3261 §16). An event package that the house serves
    /// itself is told apart in [`business`], by Event.
    Passage,
}

/// What this request to a user is for.
pub fn business(request: View<'_>) -> Business {
    match request.method() {
        Method::Message => Business::Page,
        Method::Invite if is_talk_of_others(request) => Business::Passage,
        Method::Invite => Business::Session,
        Method::Subscribe if is_of_registrations(request) => Business::Registrations,
        _ => Business::Passage,
    }
}

/// Whether a SUBSCRIBE is to the `reg` package (RFC 3680 §4.1).
pub fn is_of_registrations(subscribe: View<'_>) -> bool {
    let event = subscribe.first(Name::Event).and_then(|event| event.split(|octet| *octet == b';').next());
    event.is_some_and(|event| event.trim_ascii() == b"reg")
}

/// Whether an INVITE describes a session without any MSRP. Who describes none may want one: he is told what we lack.
fn is_talk_of_others(invite: View<'_>) -> bool {
    let is_sdp = invite.content_type().is_some_and(|kind| kind.is("application/sdp"));
    let mut lines = invite.body().split(|octet| *octet == b'\n');
    let is_media = |line: &[u8]| line.starts_with(b"m=");
    is_sdp
        && lines.clone().any(is_media)
        && !lines.any(|line| line.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"m=message ")))
}

impl House {
    /// Of these domains and these listeners, each `host:port` (`[::1]:5060` with its brackets).
    pub fn new<'a>(domains: impl IntoIterator<Item = &'a str>, listeners: impl IntoIterator<Item = &'a str>) -> Self {
        let domains: Vec<String> = domains.into_iter().map(lower).collect();
        let listeners = listeners.into_iter().filter_map(Listener::of).collect();
        let mut house = Self { domains, listeners, services: Vec::new() };
        for domain in house.domains.clone() {
            for (user, service) in [
                ("im-exploder", Service::Exploder),
                ("im-conf-factory", Service::Factory),
                ("im-deferred", Service::Deferred),
                ("im-history", Service::History),
                ("im-system", Service::System),
            ] {
                if let Ok(aor) = Aor::new(user, &domain) {
                    house.services.push((aor, service));
                }
            }
        }
        house
    }

    /// Whether this domain is served here.
    pub fn serves(&self, domain: &str) -> bool {
        has(&self.domains, domain.as_bytes())
    }

    /// The domains, lower case, the first one first.
    pub fn domains(&self) -> &[String] {
        &self.domains
    }

    /// Whether a request to this contact would come to the house itself: one of its listeners, or one of its domains
    /// with no other port. It would be challenged or relayed to the same contact, round and round (RFC 3261 §16.3
    /// step 4).
    pub fn is_here(&self, uri: &Uri<'_>) -> bool {
        let port = uri.port.unwrap_or(if uri.scheme == Scheme::Sips { 5061 } else { 5060 });
        let address = uri.addr().map(canonical);
        let is_there = |each: &Listener| {
            each.port == port && (has([&each.host], uri.host) || address.is_some() && each.address == address)
        };
        // Without a port its name leads to us by SRV (RFC 3263 §4.2).
        let is_domain = has(&self.domains, uri.host);
        let is_ours = |each: &Listener| each.port == port && is_domain;
        is_domain && uri.port.is_none() || self.listeners.iter().any(|each| is_there(each) || is_ours(each))
    }

    /// What a Request-URI names. 416 for a scheme that nobody here knows (RFC 3261 §16.3), 400 for a user part or a
    /// number that can be nobody's.
    pub fn route(&self, uri: &Uri<'_>) -> Result<Route, Refusal> {
        match uri.scheme {
            Scheme::Other => Err(Refusal::new(416, "Unsupported URI Scheme")),
            Scheme::Tel => {
                Aor::tel(uri.user).map(Route::User).map_err(|_| Refusal::new(400, "Malformed Telephone Number"))
            }
            Scheme::Sip | Scheme::Sips => self.route_sip(uri),
        }
    }

    fn route_sip(&self, uri: &Uri<'_>) -> Result<Route, Refusal> {
        let domain = has(&self.domains, uri.host);
        if uri.user.is_empty() && (domain || has(self.listeners.iter().map(|each| &each.host), uri.host)) {
            return Ok(Route::Ours);
        }
        if !domain {
            return Ok(Route::Elsewhere(String::from_utf8_lossy(uri.host).to_ascii_lowercase()));
        }
        let aor = Aor::from_bytes(uri.user, uri.host).map_err(|_| Refusal::new(400, "Malformed User Part"))?;
        let service = self.services.iter().find(|(known, _)| *known == aor).map(|(_, service)| *service);
        Ok(service.map_or(Route::User(aor), Route::Service))
    }
}

impl Route {
    /// The refusal that this route is as long as nobody lives there: services answer what they are asked when they are
    /// built. `None` for what has a home.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Ours | Self::User(_) | Self::Along | Self::Elsewhere(_) => None,
            Self::Service(_) => Some(Refusal::new(404, "Service Not Available Here")),
        }
    }
}

fn lower(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Hosts are compared without case and without a final dot.
fn has<'a>(known: impl IntoIterator<Item = &'a String>, host: &[u8]) -> bool {
    let host = host.strip_suffix(b".").unwrap_or(host);
    known.into_iter().any(|one| one.as_bytes().eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn house() -> House {
        House::new(["Example.com", "two.example."], ["192.0.2.1:5060", "[::1]:5070", "sip.Example.net:5060"])
    }

    fn route(uri: &str) -> Result<Route, Refusal> {
        house().route(&Uri::parse(uri.as_bytes()).unwrap())
    }

    fn user(aor: &str) -> Result<Route, Refusal> {
        Ok(Route::User(Aor::parse(aor).unwrap()))
    }

    #[test]
    fn without_a_user_part_it_is_for_the_house() {
        for uri in ["sip:example.com", "sips:EXAMPLE.com.:5061;transport=tls", "sip:192.0.2.1:5060", "sip:[::1]"] {
            assert_eq!(route(uri), Ok(Route::Ours), "{uri}");
        }
    }

    #[test]
    fn with_one_of_our_domains_it_is_for_a_user() {
        assert_eq!(route("sip:%61lice@Example.COM:5080;x=y"), user("sip:alice@example.com"));
        assert_eq!(route("sip:alice@two.example"), user("sip:alice@two.example"));
        assert_eq!(route("tel:+44-20-7946-0148"), user("tel:+442079460148"));
    }

    #[test]
    fn services_are_no_users_in_any_of_our_domains() {
        assert_eq!(route("sip:im-exploder@example.com"), Ok(Route::Service(Service::Exploder)));
        assert_eq!(route("sip:im-system@two.example"), Ok(Route::Service(Service::System)));
        assert_eq!(route("sip:im-exploder@example.com").unwrap().refusal().unwrap().status, 404);
    }

    #[test]
    fn all_other_hosts_are_elsewhere() {
        for (uri, host) in [
            ("sip:alice@example.org", "example.org"),
            ("sip:alice@192.0.2.1", "192.0.2.1"),
            ("sip:Other.example", "other.example"),
        ] {
            assert_eq!(route(uri), Ok(Route::Elsewhere(host.into())), "{uri}");
            assert_eq!(route(uri).unwrap().refusal(), None);
        }
    }

    #[test]
    fn a_contact_that_leads_back_to_the_house_is_told_from_others_on_its_host() {
        let is_here = |uri: &str| house().is_here(&Uri::parse(uri.as_bytes()).unwrap());
        for ours in [
            "sip:bob@example.com",
            "sip:bob@TWO.example.;transport=tcp",
            "sips:bob@example.com",
            "sip:example.com:5070",
            "sip:bob@192.0.2.1",
            "sip:bob@192.0.2.1:5060;transport=tcp",
            "sip:bob@[::ffff:192.0.2.1]",
            "sip:bob@[0:0::1]:5070",
            "sip:bob@SIP.example.net",
        ] {
            assert!(is_here(ours), "{ours}");
        }
        for other in [
            "sip:bob@192.0.2.1:5061",
            "sip:bob@[::1]",
            "sip:bob@example.com:40000",
            "sip:bob@sip.example.net:5070",
            "sip:bob@phone.example.com",
            "sip:bob@192.0.2.2",
            "tel:+4420",
            "mailto:bob@example.com",
        ] {
            assert!(!is_here(other), "{other}");
        }
    }

    #[test]
    fn a_user_part_with_a_control_character_is_nobodys() {
        for uri in ["sip:%00@example.com", "sips:a%0d%0ab@example.com", "sip:%1b%5b2J@two.example"] {
            assert_eq!(route(uri).unwrap_err().status, 400, "{uri}");
        }
    }

    #[test]
    fn an_unknown_scheme_is_named_as_the_fault() {
        // RFC 3261 §16.3 step 2
        assert_eq!(route("nobodyKnowsThisScheme:totallyopaquecontent").unwrap_err().status, 416);
        assert_eq!(route("mailto:a@example.com").unwrap_err().status, 416);
    }

    #[test]
    fn what_the_house_knows_nothing_of_is_the_devices_business() {
        let business = |method: &str, kind: &str, body: &str| {
            let text = format!(
                "{method} sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\n\
                 Call-ID: 1\r\nCSeq: 1 {method}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            super::business(sip::Message::parse(text.into()).unwrap().view())
        };
        let (audio, talk) =
            ("v=0\r\nm=audio 4000 RTP/AVP 0\r\n", "v=0\r\nM=MESSAGE 9 TCP/MSRP *\r\nm=audio 4000 RTP/AVP 0\r\n");
        assert_eq!(business("INVITE", "application/sdp", audio), Business::Passage);
        for (kind, body) in
            [("application/sdp", talk), ("application/sdp", ""), ("application/sdp", "v=0"), ("text/plain", audio)]
        {
            assert_eq!(business("INVITE", kind, body), Business::Session, "{kind} {body}");
        }
        assert_eq!(business("MESSAGE", "text/plain", "x"), Business::Page);
        for method in ["SUBSCRIBE", "NOTIFY", "FROBNICATE", "OPTIONS", "REFER"] {
            assert_eq!(business(method, "application/sdp", talk), Business::Passage);
        }
    }

    proptest! {
        #[test]
        fn no_request_uri_makes_it_panic(text in "(sip|sips|tel|x):[ -~]{0,40}") {
            if let Ok(uri) = Uri::parse(text.as_bytes()) {
                let _ = house().route(&uri);
            }
        }
    }
}
