//! Typing notices (RFC 3994): a status that is shown and forgotten, never stored, deferred or counted.

use base::mime::MediaType;

use crate::cpim::Cpim;
use crate::error::ParseError;
use crate::xml;

/// Content type of a typing notice (RFC 3994 §6).
pub const CONTENT_TYPE: &str = "application/im-iscomposing+xml";
/// Its XML namespace.
const NAMESPACE: &str = "urn:ietf:params:xml:ns:im-iscomposing";
/// RFC 3994 §3.3: how long `active` holds where the notice does not say, in seconds.
pub const REFRESH_S: u32 = 120;

/// Whether a body of this content type is a typing notice, plain or in a message/cpim.
pub fn is_typing(kind: &MediaType<'_>, body: &[u8]) -> bool {
    kind.is(CONTENT_TYPE)
        || (kind.is("message/cpim")
            && Cpim::parse(body)
                .is_ok_and(|message| message.content_type().is_some_and(|inner| inner.is(CONTENT_TYPE))))
}

/// What a typing notice says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composing {
    /// Whether somebody is typing; states that RFC 3994 does not know count as idle (§3.4).
    pub active: bool,
    /// For how many seconds that holds without another notice.
    pub refresh_s: u32,
    /// What is being composed: a media type or its first word; empty where not said.
    pub content_type: String,
}

impl Composing {
    /// Reads an application/im-iscomposing+xml.
    pub fn parse(document: &[u8]) -> Result<Self, ParseError> {
        let found = xml::elements(document, NAMESPACE)?;
        let text = |path: &str| found.iter().find(|one| one.path == path).map(|one| one.text.as_str());
        let state = text("isComposing/state").ok_or(ParseError::Missing("state"))?;
        Ok(Self {
            active: state == "active",
            refresh_s: text("isComposing/refresh").and_then(|text| text.parse().ok()).unwrap_or(REFRESH_S),
            content_type: text("isComposing/contenttype").unwrap_or_default().to_owned(),
        })
    }

    /// The document that says this.
    pub fn write(&self) -> Vec<u8> {
        let mut out = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<isComposing xmlns=\"{NAMESPACE}\">");
        xml::push(&mut out, "state", if self.active { "active" } else { "idle" });
        if !self.content_type.is_empty() {
            xml::push(&mut out, "contenttype", &self.content_type);
        }
        // RFC 3994 §3.3: refresh belongs to the active state.
        if self.active {
            xml::push(&mut out, "refresh", &self.refresh_s.to_string());
        }
        out.push_str("</isComposing>\r\n");
        out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 3994 §5
    const ACTIVE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<isComposing xmlns=\"urn:ietf:params:xml:ns:im-iscomposing\"\
        \r\nxmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"\r\nxsi:schemaLocation=\"urn:ietf:params:xml:ns:im-composing\
        \r\niscomposing.xsd\">\r\n<state>active</state>\r\n<contenttype>text/plain</contenttype>\r\n<refresh>90</refresh>\r\n</isComposing>";

    fn is(kind: &str, body: &str) -> bool {
        is_typing(&MediaType::parse(kind.as_bytes()).unwrap(), body.as_bytes())
    }

    #[test]
    fn typing_is_recognised_plain_and_in_an_envelope() {
        assert!(is("Application/IM-isComposing+XML; charset=utf-8", ACTIVE));
        let wrapped = format!("From: <im:a@b>\r\n\r\nContent-type: {CONTENT_TYPE}\r\n\r\n{ACTIVE}");
        assert!(is("message/cpim", &wrapped));
        assert!(!is("text/plain", ACTIVE) && !is("message/cpim", ACTIVE));
        assert!(!is("message/cpim", &wrapped.replace(CONTENT_TYPE, "text/plain")));
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        let read = Composing::parse(ACTIVE.as_bytes()).unwrap();
        assert_eq!(read, Composing { active: true, refresh_s: 90, content_type: "text/plain".into() });
        let idle = ACTIVE.replace("active", "idle").replace("<refresh>90</refresh>", "");
        assert_eq!(Composing::parse(idle.as_bytes()).unwrap().refresh_s, REFRESH_S);
    }

    #[test]
    fn an_unknown_state_counts_as_idle_and_none_is_a_fault() {
        assert!(!Composing::parse(ACTIVE.replace("active", "thinking").as_bytes()).unwrap().active);
        assert_eq!(Composing::parse(ACTIVE.replace("state>", "mood>").as_bytes()), Err(ParseError::Missing("state")));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for active in [true, false] {
            let notice = Composing { active, refresh_s: REFRESH_S, content_type: "a&b".into() };
            assert_eq!(Composing::parse(&notice.write()), Ok(notice));
        }
    }
}
