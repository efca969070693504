//! What a REGISTER says and what its 200 means (RFC 3261 §10.2, §10.3), and when to come again.

use std::net::SocketAddr;
use std::time::Duration;

use sip::{Contacts, Name, Uri, View};

use crate::account::{Account, Transport};
use crate::pager::lossy;

/// A binding that the registrar has granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Our contact's URI.
    pub contact: String,
    /// How long it lasts from the answer on.
    pub expires: Duration,
}

/// The identity of all our registrations (RFC 3261 §10.2: one Call-ID, CSeq going up) and what stands now.
pub(crate) struct Registrar {
    pub call_id: String,
    pub tag: String,
    pub cseq: u32,
    pub bound: Option<Binding>,
}

/// The URI by which we are reached: the address that the server sees is filled in by the server (RFC 3581).
pub(crate) fn contact_uri(account: &Account, local: SocketAddr) -> String {
    let transport = match account.transport {
        Transport::Udp => "",
        Transport::Tcp => ";transport=tcp",
    };
    format!("sip:{}@{local}{transport}", account.aor.user())
}

/// Contact and Expires of a REGISTER; zero seconds take the binding back (RFC 3261 §10.2.2). A contact that we had
/// before, by an address that is ours no longer, is taken back with it.
pub(crate) fn register_lines(account: &Account, contact: &str, before: Option<&str>, expires: Duration) -> String {
    let seconds = expires.as_secs();
    let features: String = account.features.iter().flat_map(|feature| [";", feature.as_str()]).collect();
    let old = before.filter(|before| *before != contact).map(|before| format!("Contact: <{before}>;expires=0\r\n"));
    format!("Contact: <{contact}>{features};expires={seconds}\r\n{}Expires: {seconds}\r\n", old.unwrap_or_default())
}

/// How long our binding lasts by this 200: our contact's own parameter, else Expires, else what we asked for
/// (RFC 3261 §10.2.4).
pub(crate) fn granted(response: View<'_>, contact: &str, asked: Duration) -> Duration {
    let ours = match response.contacts() {
        Ok(Contacts::List(list)) => Uri::parse(contact.as_bytes()).ok().and_then(|ours| {
            list.iter().find(|one| one.parsed_uri().is_ok_and(|uri| uri.same_as(&ours))).and_then(|one| one.expires())
        }),
        Ok(Contacts::Star) | Err(_) => None,
    };
    ours.or(response.expires()).map_or(asked, |seconds| Duration::from_secs(u64::from(seconds)))
}

/// Whole Route lines for the requests to come (RFC 3608 §5); empty where the registrar names no route.
pub(crate) fn route_lines(response: View<'_>) -> String {
    response.values(Name::ServiceRoute).map(|route| format!("Route: {}\r\n", lossy(route))).collect()
}

/// 423: the least that the registrar grants (RFC 3261 §10.2.8).
pub(crate) fn least(response: View<'_>) -> Option<Duration> {
    let seconds = base::scan::decimal(response.first(Name::MinExpires)?)?;
    (seconds <= u64::from(u32::MAX)).then(|| Duration::from_secs(seconds))
}

/// When to refresh: a minute before the end, or at half the time of short bindings.
pub(crate) fn refresh_after(granted: Duration) -> Duration {
    let minute = Duration::from_secs(60);
    if granted > 2 * minute { granted - minute } else { granted / 2 }.max(Duration::from_millis(500))
}

#[cfg(test)]
mod tests {
    use sip::{Layout, parse_datagram};

    use super::*;

    const CONTACT: &str = "sip:alice@127.0.0.1:5070";

    fn with_response<T>(lines: &str, read: impl FnOnce(View<'_>) -> T) -> T {
        let text = format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
        let mut layout = Layout::default();
        parse_datagram(text.as_bytes(), &mut layout).unwrap();
        read(layout.view(text.as_bytes()))
    }

    #[test]
    fn our_own_contact_among_others_says_how_long_the_binding_lasts() {
        // RFC 3261 §10.2.4
        let lines = "Contact: <sip:alice@10.0.0.1>;expires=10, <sip:alice@127.0.0.1:5070>;expires=90\r\nExpires: 5\r\n";
        let hour = Duration::from_secs(3_600);
        assert_eq!(with_response(lines, |view| granted(view, CONTACT, hour)).as_secs(), 90);
        assert_eq!(with_response("Expires: 5\r\n", |view| granted(view, CONTACT, hour)).as_secs(), 5);
        assert_eq!(with_response("Contact: *\r\n", |view| granted(view, CONTACT, hour)), hour);
        assert_eq!(with_response("Contact: <<\r\n", |view| granted(view, CONTACT, hour)), hour);
    }

    #[test]
    fn a_refresh_comes_before_the_end() {
        for (granted, after_ms) in [(3_600, 3_540_000), (120, 60_000), (60, 30_000), (1, 500), (0, 500)] {
            assert_eq!(refresh_after(Duration::from_secs(granted)), Duration::from_millis(after_ms));
        }
    }

    #[test]
    fn feature_tags_stand_behind_the_contact() {
        // RFC 3840 §9
        let aor = base::Aor::parse("sip:alice@example.com").unwrap();
        let account = Account::new(aor, "", ([127, 0, 0, 1], 5060).into(), Transport::Udp);
        let lines = |before| register_lines(&account, CONTACT, before, Duration::from_secs(60));
        let contact = "Contact: <sip:alice@127.0.0.1:5070>;+g.oma.sip-im;expires=60\r\n";
        assert_eq!(lines(None), format!("{contact}Expires: 60\r\n"));
        assert_eq!(lines(Some(CONTACT)), lines(None));
        assert_eq!(lines(Some("sip:old@x")), format!("{contact}Contact: <sip:old@x>;expires=0\r\nExpires: 60\r\n"));
    }

    #[test]
    fn the_registrars_route_is_ours() {
        // RFC 3608 §5: the order stays.
        let lines = "Service-Route: <sip:a;lr>, <sip:b;lr>\r\n";
        assert_eq!(with_response(lines, route_lines), "Route: <sip:a;lr>\r\nRoute: <sip:b;lr>\r\n");
        assert_eq!(with_response("Min-Expires: 600\r\n", least), Some(Duration::from_secs(600)));
    }
}
