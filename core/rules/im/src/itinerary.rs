//! The way that a request has still to go: what its Route fields say, without what was for us (RFC 3261 §16.4), and as the
//! next hop gets it (§16.6 step 6).

use std::borrow::Cow;

use sip::{Name, NameAddr, Uri, View};

use crate::refusal::Refusal;

/// Whose a URI of a Route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<W> {
    /// Ours, and nothing more.
    House,
    /// A way that we have recorded before.
    Recorded(W),
    /// As if we had recorded it; but we have not.
    Forged,
    /// Somebody else's.
    Other,
}

/// Where a request is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Itinerary<'a, W> {
    /// What is asked for: the Request-URI, or what a strict router before us has put behind the routes.
    pub uri: &'a [u8],
    /// The last one of the ways of ours that stood on top: the one that leads to the other side.
    pub way: Option<W>,
    /// What is left of the routes, each a whole value.
    pub rest: Vec<&'a [u8]>,
}

/// Reads it. `whose` knows our own.
///
/// # Errors
/// 400 for a Route that cannot be read, 403 for a way that nobody here has recorded (RFC 5626 §5.3.1).
pub fn read<'a, W>(request: View<'a>, whose: impl Fn(&Uri<'_>) -> Whose<W>) -> Result<Itinerary<'a, W>, Refusal> {
    let mut itinerary = Itinerary { uri: request.request_uri(), way: None, rest: Vec::new() };
    if request.count(Name::Route) == 0 {
        return Ok(itinerary);
    }
    itinerary.rest = request.values(Name::Route).filter(|value| !value.is_empty()).collect();
    // A strict router before us has put our own URI into the request line, and what is asked for behind all routes.
    if let Ok(asked) = Uri::parse(itinerary.uri)
        && let Whose::Recorded(way) = whose(&asked)
        && let Some(last) = itinerary.rest.pop()
    {
        itinerary.uri = uri_of(last)?;
        itinerary.way = Some(way);
    }
    let mut own = 0;
    for value in &itinerary.rest {
        let uri = Uri::parse(uri_of(value)?).map_err(|_| malformed())?;
        match whose(&uri) {
            Whose::House => {}
            Whose::Recorded(way) => itinerary.way = Some(way),
            Whose::Forged => return Err(Refusal::new(403, "Not A Way Of Ours")),
            Whose::Other => break,
        }
        own += 1;
    }
    itinerary.rest.drain(..own);
    Ok(itinerary)
}

/// The Request-URI and the Route lines of what goes to the next hop: a strict router gets its own URI in the request line,
/// and what is asked for behind all routes.
pub fn onward<'a>(uri: &'a [u8], routes: &[&'a [u8]]) -> (&'a [u8], Vec<u8>) {
    let first = routes.first().and_then(|first| NameAddr::parse(first));
    let is_strict = |first: &NameAddr<'_>| first.parsed_uri().is_ok_and(|uri| uri.param("lr").is_none());
    let (target, routes, last) = match first.filter(is_strict) {
        Some(first) => (first.uri, &routes[1..], Some(Cow::from([b"<", uri, b">"].concat()))),
        None => (uri, routes, None),
    };
    let mut lines = Vec::new();
    for route in routes.iter().copied().chain(last.as_deref()) {
        [b"Route: ", route, b"\r\n"].iter().for_each(|piece| lines.extend_from_slice(piece));
    }
    (target, lines)
}

fn uri_of(value: &[u8]) -> Result<&[u8], Refusal> {
    NameAddr::parse(value).map(|address| address.uri).ok_or_else(malformed)
}

fn malformed() -> Refusal {
    Refusal::new(400, "Malformed Route")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, routes: &str) -> sip::Message {
        let text = format!(
            "BYE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n{routes}From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\n\
             Call-ID: 1\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        );
        sip::Message::parse(text.into()).unwrap()
    }

    /// `us` is the house; `w` and a digit a way that it has recorded, `wx` one that it has not.
    fn whose(uri: &Uri<'_>) -> Whose<u8> {
        match (uri.host, uri.user) {
            (b"us", b"") => Whose::House,
            (b"us", [b'w', digit @ b'0'..=b'9']) => Whose::Recorded(digit - b'0'),
            (b"us", [b'w', ..]) => Whose::Forged,
            _ => Whose::Other,
        }
    }

    fn read_as(uri: &str, routes: &str) -> Result<(String, Option<u8>, Vec<String>), u16> {
        let message = request(uri, routes);
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let read = read(message.view(), whose).map_err(|refusal| refusal.status)?;
        Ok((text(read.uri), read.way, read.rest.iter().map(|value| text(value)).collect()))
    }

    #[test]
    fn what_is_ours_is_taken_off_and_the_last_way_leads_on() {
        // RFC 3261 §16.4; RFC 5658 §6: two of ours where one side differs from the other.
        let away =
            |way, rest: &[&str]| Ok(("sip:b@h".to_owned(), way, rest.iter().map(|one| (*one).to_owned()).collect()));
        for (routes, expected) in [
            ("", away(None, &[])),
            ("Route: <sip:us;lr>\r\n", away(None, &[])),
            ("Route: <sip:w1@us;lr>, <sip:w2@us;lr>\r\n", away(Some(2), &[])),
            ("Route: <sip:w2@us;lr>\r\nRoute: <sip:w1@us;lr>,<sip:p;lr>\r\n", away(Some(1), &["<sip:p;lr>"])),
            ("Route: <sip:p;lr>, <sip:w1@us;lr>\r\n", away(None, &["<sip:p;lr>", "<sip:w1@us;lr>"])),
            ("Route: <sip:wx@us;lr>\r\n", Err(403)),
            ("Route: <sip:w1@us;lr>, <sip:wx@us;lr>\r\n", Err(403)),
            ("Route: nonsense\r\n", Err(400)),
        ] {
            assert_eq!(read_as("sip:b@h", routes), expected, "{routes}");
        }
    }

    #[test]
    fn a_strict_router_before_us_is_understood() {
        let found = read_as("sip:w1@us", "Route: <sip:w2@us>, <sip:b@h>\r\n");
        assert_eq!(found, Ok(("sip:b@h".into(), Some(2), vec![])));
        assert_eq!(read_as("sip:w1@us", "Route: <sip:b@h>\r\n"), Ok(("sip:b@h".into(), Some(1), vec![])));
    }

    #[test]
    fn a_strict_router_behind_us_gets_its_own_uri() {
        // RFC 3261 §16.6 step 6.
        let told = |routes: &[&'static str]| {
            let routes: Vec<&[u8]> = routes.iter().map(|route| route.as_bytes()).collect();
            let (uri, lines) = onward(b"sip:b@h", &routes);
            (String::from_utf8_lossy(uri).into_owned(), String::from_utf8(lines).unwrap())
        };
        assert_eq!(told(&[]), ("sip:b@h".into(), String::new()));
        assert_eq!(
            told(&["<sip:p;lr>", "<sip:q>"]),
            ("sip:b@h".into(), "Route: <sip:p;lr>\r\nRoute: <sip:q>\r\n".into())
        );
        assert_eq!(
            told(&["<sip:p>", "<sip:q;lr>"]),
            ("sip:p".into(), "Route: <sip:q;lr>\r\nRoute: <sip:b@h>\r\n".into())
        );
    }
}
