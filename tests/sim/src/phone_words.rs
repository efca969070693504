//! What phones write: requests and answers as text.

use sip::{Name, View};

use crate::reference::{Identity, Kind, Said};

/// The domain of everybody.
pub const DOMAIN: &str = "example.com";
/// Everybody's password.
pub const PASSWORD: &str = "open sesame";

/// The address of record of a user.
pub fn aor(user: usize) -> String {
    format!("sip:u{user}@{DOMAIN}")
}

/// His other address.
pub fn alias(user: usize) -> String {
    format!("tel:+49{:07}", 5_550_000 + user)
}

/// What a person's words look like on the wire: number, sender, receiver; so that nobody's can be mistaken.
pub fn body(said: &Said) -> (String, Vec<u8>) {
    let mut words = format!("#{}# from {} to {}", said.number, said.from, said.to);
    words.extend(std::iter::repeat_n('.', said.padding));
    match said.kind {
        Kind::Page => ("text/plain".into(), words.into_bytes()),
        Kind::Typing => {
            let document = format!(
                "<?xml version=\"1.0\"?><isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\">\
                 <state>active</state><contenttype>text/plain</contenttype><!-- {words} --></isComposing>"
            );
            ("application/im-iscomposing+xml".into(), document.into_bytes())
        }
        Kind::Asking => {
            let envelope = body::cpim::Writer::new()
                .address("From", "", &aor(said.from))
                .address("To", "", &aor(said.to))
                .namespace("imdn", "urn:ietf:params:imdn")
                .raw("imdn.Message-ID", &format!("imdn-{}-", said.number))
                .raw("imdn.Disposition-Notification", "processing, negative-delivery");
            ("message/cpim".into(), envelope.content(&[("Content-Type", "text/plain")], words.as_bytes()))
        }
    }
}

/// Whose words these are.
pub fn number_of(body: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once('#')?;
    rest.split_once("# from ")?.0.parse().ok()
}

/// The numbers of people's words that a text mentions, as `#7`.
pub fn numbers_in(text: &str) -> Vec<usize> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split('#').skip(1).filter_map(|rest| digits(rest).parse().ok()).collect()
}

/// The person's message that a notice of the house is about, and whether it tells of storing.
pub fn notice_of(body: &[u8]) -> Option<(usize, bool)> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<message-id>imdn-")?;
    let number = rest.split_once('-')?.0.parse().ok()?;
    Some((number, text.contains("<stored")))
}

/// Who a request is (decisions D3).
pub fn identity(view: View<'_>) -> Option<Identity> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Identity {
        call_id: text(view.call_id().ok()?),
        cseq: view.cseq().ok()?.number,
        tag: text(view.from().ok()?.tag().unwrap_or_default()),
    })
}

/// The branch of the topmost Via.
pub fn branch(view: View<'_>) -> String {
    let branch =
        view.top_via().ok().and_then(|via| via.branch().map(|branch| String::from_utf8_lossy(branch).into_owned()));
    branch.unwrap_or_default()
}

/// The first challenge of an answer that a phone can meet.
pub fn challenge(view: View<'_>) -> Option<String> {
    let values = view.values(Name::WwwAuthenticate).chain(view.values(Name::ProxyAuthenticate));
    let known = |value: &&[u8]| sip::digest::Challenge::parse(value).is_ok();
    values.into_iter().find(known).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// An answer of a phone's.
pub fn answer(request: View<'_>, status: u16, tag: &str) -> Vec<u8> {
    let mut out = Vec::new();
    sip::reply(&mut out, request, &sip::Reply { status, to_tag: tag, ..sip::Reply::default() });
    out
}
