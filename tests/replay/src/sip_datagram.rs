//! A datagram: whatever comes, reading ends, and what we write from it can be read again.

use sip::{Contacts, Delta, Forward, Layout, Name, Reply, View};

const URI: &[u8] = b"sip:bob@192.0.2.4";
const VIA: &[u8] = b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK0123456789abcdef";

/// The target.
///
/// # Panics
/// When a promise is broken.
pub fn run(bytes: &[u8]) {
    if sip::stun::is_stun(bytes) {
        return ping(bytes);
    }
    let mut layout = Layout::default();
    let outcome = sip::parse_datagram(bytes, &mut layout);
    let view = layout.view(bytes);
    look_everywhere(view);
    match outcome {
        Ok(()) if view.is_request() => request(view),
        Ok(()) => response(view),
        Err(fault) => {
            if let Some((status, reason)) = fault.status() {
                answered(view, status, reason);
            }
        }
    }
}

/// What is answered can be read as an answer.
fn ping(bytes: &[u8]) {
    if let Some(sip::stun::Stun::Request(request)) = sip::stun::read(bytes) {
        let mut out = Vec::new();
        sip::stun::answer(&mut out, &request, ([192, 0, 2, 1], 5060).into());
        assert!(sip::stun::is_stun(&out) && sip::stun::read(&out) == Some(sip::stun::Stun::Other));
    }
}

/// Asks for everything that can be asked for.
fn look_everywhere(view: View<'_>) {
    let _ = (view.method(), view.method_text(), view.request_uri(), view.status(), view.reason());
    let _ = (view.max_forwards(), view.expires(), view.content_type(), view.call_id(), view.cseq(), view.body());
    for field in view.fields() {
        let name = field.key.of(view.bytes());
        let _ = (view.first(field.name), view.count(field.name), view.values(field.name).count());
        let _ = std::str::from_utf8(name).map(|name| view.other(name));
    }
    if let Ok(via) = view.top_via() {
        let _ = (via.branch(), via.received(), via.received_addr(), via.rport(), via.is_reliable());
        assert!(!via.sent_by().is_empty());
    }
    for address in [view.from(), view.to()].into_iter().flatten() {
        let _ = (address.tag(), address.q(), address.expires());
        if let Ok(uri) = address.parsed_uri() {
            let _ = (uri.aor(), uri.addr(), uri.transport(), uri.params().count());
            // RFC 3261 §19.1.1: a parameter comes once; what breaks that equals nothing, not even itself.
            let mut names: Vec<_> = uri.params().map(|(name, _)| name.to_ascii_lowercase()).collect();
            names.sort();
            assert!(names.windows(2).any(|two| two[0] == two[1]) || uri.same_as(&uri), "{address:?}");
        }
    }
    if let Ok(Contacts::List(contacts)) = view.contacts() {
        assert_eq!(contacts.iter().count(), contacts.len());
    }
    for name in [Name::Authorization, Name::ProxyAuthorization] {
        for value in view.values(name) {
            let _ = sip::digest::Credentials::parse(value);
        }
    }
    for name in [Name::WwwAuthenticate, Name::ProxyAuthenticate] {
        for value in view.values(name) {
            let _ = sip::digest::Challenge::parse(value);
        }
    }
}

fn request(request: View<'_>) {
    if let Err(fault) = request.check_request() {
        answered(request, fault.status, fault.reason);
        return;
    }
    let (mut out, mut layout) = (Vec::new(), Layout::default());
    let add = b"X-Added: yes\r\n";
    let source = "192.0.2.9:5555".parse().ok();
    let strip = [Name::ProxyAuthorization];
    let how = Forward { uri: URI, via: VIA, max_forwards: 69, strip: &strip, received: source, add, record: b"" };
    sip::forward_request(&mut out, request, &how);
    // One octet more of head, and a message at the edge of what we take is over it.
    let Some(forwarded) = parsed(&out, &mut layout) else { return };
    assert_eq!((forwarded.request_uri(), forwarded.method_text()), (URI, request.method_text()));
    assert_eq!(forwarded.count(Name::ProxyAuthorization), 0);
    assert_eq!(forwarded.body(), request.body());
    assert_eq!(forwarded.values(Name::Via).next(), Some(VIA));
    assert_eq!(forwarded.values(Name::Via).count(), request.values(Name::Via).count() + 1);
    assert_eq!(forwarded.max_forwards().ok().flatten(), Some(69));
    assert_eq!(forwarded.other("x-added"), Some(b"yes".as_slice()));
    assert_eq!(forwarded.call_id().ok(), request.call_id().ok());

    // The answer to what was forwarded, without our Via, is the answer to what came: and so the kept one writes it.
    let (mut far, mut near, mut again) = (Vec::new(), Vec::new(), Vec::new());
    let reply = Reply { status: 200, to_tag: "far", lines: b"X-Mine: 1\r\n", body: b"body", ..Reply::default() };
    sip::reply(&mut far, forwarded, &reply);
    let mut far_layout = Layout::default();
    let Some(far) = parsed(&far, &mut far_layout) else { return };
    sip::forward_response(&mut near, far);
    let mut near_layout = Layout::default();
    let Some(near) = parsed(&near, &mut near_layout) else { return };
    Delta::of(near).write(&mut again, request, source);
    let mut again_layout = Layout::default();
    let Some(again) = parsed(&again, &mut again_layout) else { return };
    for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
        assert_eq!(values(near, name), values(again, name), "{name:?}");
    }
    assert_eq!((near.status(), near.body()), (again.status(), again.body()));
    assert_eq!(near.other("x-mine"), again.other("x-mine"));
}

fn response(response: View<'_>) {
    let (mut out, mut layout) = (Vec::new(), Layout::default());
    sip::forward_response(&mut out, response);
    let Some(forwarded) = parsed(&out, &mut layout) else { return };
    assert_eq!((forwarded.status(), forwarded.body()), (response.status(), response.body()));
    if response.top_via().is_ok() {
        assert_eq!(forwarded.values(Name::Via).count(), response.values(Name::Via).count() - 1);
    }
    assert!(Delta::of(response).len() <= response.bytes().len() + 16);
}

/// An answer to a faulty request can be read, and says what it should.
fn answered(request: View<'_>, status: u16, reason: &str) {
    let (mut out, mut layout) = (Vec::new(), Layout::default());
    sip::reply(&mut out, request, &Reply { status, reason, to_tag: "fault", ..Reply::default() });
    if let Some(answer) = parsed(&out, &mut layout) {
        assert_eq!((answer.status(), answer.body()), (status, b"".as_slice()));
    }
}

/// What we wrote must be readable, or be too large for anybody.
fn parsed<'a>(bytes: &'a [u8], layout: &'a mut Layout) -> Option<View<'a>> {
    match sip::parse_datagram(bytes, layout) {
        Ok(()) => Some(layout.view(bytes)),
        Err(fault) => {
            let text = fault.to_string();
            let is_size = ["long", "large", "many"].iter().any(|word| text.contains(word));
            assert!(is_size, "we wrote what cannot be read ({text}): {:?}", String::from_utf8_lossy(bytes));
            None
        }
    }
}

fn values(view: View<'_>, name: Name) -> Vec<Vec<u8>> {
    view.values(name).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use crate::corpus;

    #[test]
    fn the_corpus_breaks_no_promise() {
        corpus::replay(&corpus::of("sip_datagram"), super::run);
    }

    #[test]
    fn the_torture_messages_break_no_promise() {
        corpus::replay(&support::torture::all(), super::run);
    }
}
