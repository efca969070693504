//! What the two ends of a dialog agree on beyond RFC 3261: option tags (§19.2), session timers (RFC 4028 §4, §5), reliable
//! provisional responses (RFC 3262 §7).

use base::scan::decimal;

use crate::headers::Name;
use crate::message::View;
use crate::params::Params;

/// The two roles in one transaction of a session refresh (RFC 4028 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who has sent the request.
    Uac,
    /// Who answers it.
    Uas,
}

impl Role {
    /// As the `refresher` parameter names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uac => "uac",
            Self::Uas => "uas",
        }
    }
}

/// The value of Session-Expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionExpires {
    /// The session interval, seconds.
    pub seconds: u32,
    /// Who refreshes; nothing where that is left to the other end.
    pub refresher: Option<Role>,
}

/// The value of RAck: which provisional response a PRACK is for (RFC 3262 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RAck<'a> {
    /// The number in its RSeq.
    pub response: u32,
    /// The number in its CSeq.
    pub cseq: u32,
    /// The method in its CSeq, as written.
    pub method: &'a [u8],
}

impl<'a> View<'a> {
    /// Whether an option tag stands in Supported or, which says more, in Require.
    pub fn supports(self, tag: &str) -> bool {
        self.requires(tag) || self.values(Name::Supported).any(|value| value.eq_ignore_ascii_case(tag.as_bytes()))
    }

    /// Whether an option tag stands in Require.
    pub fn requires(self, tag: &str) -> bool {
        self.values(Name::Require).any(|value| value.eq_ignore_ascii_case(tag.as_bytes()))
    }

    /// Whether its sender says that it takes this method (RFC 3261 §20.5).
    pub fn allows(self, method: &str) -> bool {
        self.values(Name::Allow).any(|value| value.eq_ignore_ascii_case(method.as_bytes()))
    }

    /// Session-Expires; one that cannot be read counts as absent (RFC 3261 §8.2: it is needed for nothing else).
    pub fn session_expires(self) -> Option<SessionExpires> {
        let (seconds, params) = delta(self.first(Name::SessionExpires)?)?;
        let refresher = match params.get("refresher") {
            Some(role) if role.eq_ignore_ascii_case(b"uac") => Some(Role::Uac),
            Some(role) if role.eq_ignore_ascii_case(b"uas") => Some(Role::Uas),
            _ => None,
        };
        Some(SessionExpires { seconds, refresher })
    }

    /// Min-SE, seconds; one that cannot be read counts as absent.
    pub fn min_se(self) -> Option<u32> {
        Some(delta(self.first(Name::MinSe)?)?.0)
    }

    /// The number of a provisional response that is to be acknowledged (RFC 3262 §4): it has RSeq and Require: 100rel,
    /// and is no 100.
    pub fn reliable(self) -> Option<u32> {
        if !(101..200).contains(&self.status()) || !self.requires("100rel") {
            return None;
        }
        u32::try_from(decimal(self.first(Name::RSeq)?)?).ok()
    }

    /// RAck; nothing when it is missing or malformed.
    pub fn rack(self) -> Option<RAck<'a>> {
        let mut words = self.first(Name::RAck)?.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut number = || u32::try_from(decimal(words.next()?)?).ok();
        let (response, cseq) = (number()?, number()?);
        let method = words.next()?;
        words.next().is_none().then_some(RAck { response, cseq, method })
    }
}

/// Seconds and what stands behind them. More than fits is as good as for ever.
fn delta(value: &[u8]) -> Option<(u32, Params<'_>)> {
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    let seconds = decimal(value[..end].trim_ascii())?;
    Some((u32::try_from(seconds).unwrap_or(u32::MAX), Params::parse(&value[end..])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn message(start: &str, lines: &str) -> Message {
        let text = format!(
            "{start}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: 1\r\n\
             CSeq: 1 INVITE\r\n{lines}Content-Length: 0\r\n\r\n"
        );
        Message::parse(text.into()).unwrap()
    }

    #[test]
    fn a_session_timer_is_read_in_both_forms_and_a_broken_one_is_none() {
        let read = |lines: &str| message("INVITE sip:b@x SIP/2.0", lines).view().session_expires();
        let timer = |seconds, refresher| Some(SessionExpires { seconds, refresher });
        for (lines, is) in [
            ("Session-Expires: 1800\r\n", timer(1_800, None)),
            ("x: 90;refresher=uac\r\n", timer(90, Some(Role::Uac))),
            ("Session-Expires: 90 ; other ; Refresher = UAS\r\n", timer(90, Some(Role::Uas))),
            ("Session-Expires: 90;refresher=both\r\n", timer(90, None)),
            ("Session-Expires: 99999999999\r\n", timer(u32::MAX, None)),
            ("Session-Expires: soon\r\n", None),
            ("Session-Expires: -1\r\n", None),
            ("Session-Expires: 90;;\r\n", None),
            ("", None),
        ] {
            assert_eq!(read(lines), is, "{lines:?}");
        }
        let min = |lines: &str| message("INVITE sip:b@x SIP/2.0", lines).view().min_se();
        assert_eq!((min("Min-SE: 120;x=y\r\n"), min("Min-SE: x\r\n"), min("")), (Some(120), None, None));
    }

    #[test]
    fn what_is_required_is_supported_too() {
        let message = message("INVITE sip:b@x SIP/2.0", "k: path, Timer\r\nRequire: 100REL\r\nAllow: UPDATE,BYE\r\n");
        let view = message.view();
        assert!(view.supports("timer") && view.supports("100rel") && view.requires("100rel"));
        assert!(!view.requires("timer") && !view.supports("replaces"));
        assert!(view.allows("update") && !view.allows("INVITE"));
    }

    #[test]
    fn only_a_numbered_provisional_response_that_asks_for_it_is_reliable() {
        // RFC 3262 §4: the tag is ignored in a 100.
        let read = |status: &str, lines: &str| message(&format!("SIP/2.0 {status} x"), lines).view().reliable();
        assert_eq!(read("180", "Require: 100rel\r\nRSeq: 988789\r\n"), Some(988_789));
        assert_eq!(read("180", "RSeq: 988789\r\n"), None);
        assert_eq!(read("180", "Require: 100rel\r\n"), None);
        assert_eq!(read("100", "Require: 100rel\r\nRSeq: 1\r\n"), None);
        assert_eq!(read("200", "Require: 100rel\r\nRSeq: 1\r\n"), None);
    }

    #[test]
    fn a_prack_names_its_response() {
        // RFC 3262 §7.2.
        let read = |value: &str| {
            let message = message("PRACK sip:b@x SIP/2.0", &format!("RAck: {value}\r\n"));
            message.view().rack().map(|rack| (rack.response, rack.cseq, rack.method.to_vec()))
        };
        assert_eq!(read("776656 1 INVITE"), Some((776_656, 1, b"INVITE".to_vec())));
        assert_eq!(read(" 776656   1 INVITE"), Some((776_656, 1, b"INVITE".to_vec())));
        for broken in ["776656 1", "x 1 INVITE", "1 1 INVITE more", ""] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}
