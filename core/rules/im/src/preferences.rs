//! What a caller prefers of the devices of whom it calls (RFC 3841): Accept-Contact, Reject-Contact and Request-Disposition,
//! against the feature tags that contacts show (RFC 3840). Who prefers nothing pays nothing.

use base::scan;
use sip::params::unquoted;
use sip::{Name, Params, View};

use crate::registrar::Binding;

/// Feature tags of RFC 3840 §10 that are written without a plus; all others begin with one.
const BASE_TAGS: [&str; 20] = [
    "audio",
    "automata",
    "class",
    "duplex",
    "data",
    "control",
    "mobility",
    "description",
    "events",
    "priority",
    "methods",
    "schemes",
    "application",
    "video",
    "language",
    "type",
    "isfocus",
    "actor",
    "text",
    "extensions",
];

/// The preferences of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preferences {
    accept: Vec<Predicate>,
    reject: Vec<Predicate>,
    /// Whether one at a time is wished (RFC 3841 §9.1 `no-fork`, `sequential`).
    pub one_only: bool,
    /// Whether the next is wished only when one has failed.
    pub sequential: bool,
}

/// One value of Accept-Contact or Reject-Contact.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Predicate {
    terms: Vec<(String, String)>,
    require: bool,
    explicit: bool,
}

/// Whether a request must be looked at with its receiver's contacts in sight, though there is only one: something may be
/// refused to it. An Accept-Contact that requires nothing only puts contacts into an order.
pub fn may_exclude(request: View<'_>) -> bool {
    request.first(Name::RejectContact).is_some()
        || request.values(Name::AcceptContact).any(|value| {
            let params = scan::trim(value).strip_prefix(b"*").and_then(Params::parse);
            params.is_some_and(|params| params.has("require"))
        })
}

impl Preferences {
    /// Of a request; nothing where it has none. What cannot be read is passed over.
    pub fn of(request: View<'_>) -> Option<Self> {
        let names = [Name::AcceptContact, Name::RejectContact, Name::RequestDisposition];
        if names.iter().all(|name| request.first(*name).is_none()) {
            return None;
        }
        let all = |name| request.values(name).filter_map(predicate).collect();
        let wishes = |word: &[u8]| request.values(Name::RequestDisposition).any(|wish| wish.eq_ignore_ascii_case(word));
        Some(Self {
            accept: all(Name::AcceptContact),
            reject: all(Name::RejectContact),
            one_only: wishes(b"no-fork"),
            sequential: wishes(b"sequential"),
        })
    }

    /// The contacts that are left, the best first: their places, each with the preference that it is tried by, in
    /// thousandths. The callee's order counts before the caller's (RFC 3841 §7.2.4).
    pub fn order(&self, bindings: &[&Binding]) -> Vec<(usize, u16)> {
        let scored =
            bindings.iter().enumerate().filter_map(|(at, binding)| Some((at, binding.q, self.score(&binding.params)?)));
        let mut left: Vec<(usize, u16, u32)> = scored.collect();
        left.sort_by_key(|(at, q, score)| (std::cmp::Reverse((*q, *score)), *at));
        left.truncate(if self.one_only { 1 } else { left.len() });
        if !self.sequential {
            return left.into_iter().map(|(at, q, _)| (at, q)).collect();
        }
        // One after the other: each a little below the one before it.
        let steps = (0..left.len() as u16).map(|step| 1_000 - step.min(1_000));
        left.into_iter().zip(steps).map(|((at, ..), q)| (at, q)).collect()
    }

    /// How well a contact fits, in millionths; nothing for one that is not to be called.
    fn score(&self, params: &str) -> Option<u32> {
        let shown = Params::parse(params.as_bytes()).unwrap_or_default();
        let features = || shown.iter().filter(|param| is_feature(param.name));
        // §7.2.3: who shows nothing is immune.
        if features().next().is_none() {
            return Some(1_000_000);
        }
        let shows = |tag: &str| {
            let named = features().find(|param| param.name.eq_ignore_ascii_case(tag.as_bytes()));
            named.map(|param| param.value.map_or(&b"TRUE"[..], unquoted))
        };
        let rejected = |predicate: &Predicate| {
            predicate.terms.iter().all(|(tag, wanted)| shows(tag).is_some_and(|value| meets(wanted.as_bytes(), value)))
        };
        if self.reject.iter().any(|predicate| !predicate.terms.is_empty() && rejected(predicate)) {
            return None;
        }
        let (mut sum, mut count) = (0u32, 0u32);
        for predicate in &self.accept {
            let fits = predicate
                .terms
                .iter()
                .all(|(tag, wanted)| shows(tag).is_none_or(|value| meets(wanted.as_bytes(), value)));
            if !fits && predicate.require {
                return None;
            }
            if !fits {
                continue;
            }
            let all = predicate.terms.len().max(1) as u32;
            let known = predicate.terms.iter().filter(|(tag, _)| shows(tag).is_some()).count() as u32;
            let mut score = if predicate.terms.is_empty() { 1_000_000 } else { known * 1_000_000 / all };
            if score < 1_000_000 && predicate.explicit {
                if predicate.require {
                    return None;
                }
                score = 0;
            }
            sum += score;
            count += 1;
        }
        Some(sum.checked_div(count).unwrap_or_default())
    }
}

/// `*;audio;require` (RFC 3841 §9.2).
fn predicate(value: &[u8]) -> Option<Predicate> {
    let params = Params::parse(scan::trim(value).strip_prefix(b"*")?)?;
    let terms = params.iter().filter(|param| is_feature(param.name)).map(|param| {
        let wanted = param.value.map_or(&b"TRUE"[..], unquoted);
        (String::from_utf8_lossy(param.name).into_owned(), String::from_utf8_lossy(wanted).into_owned())
    });
    Some(Predicate { terms: terms.collect(), require: params.has("require"), explicit: params.has("explicit") })
}

/// RFC 3840 §9: a base tag, or what begins with a plus; what says where a contact is, is no feature of it.
fn is_feature(name: &[u8]) -> bool {
    (name.starts_with(b"+") && !name.eq_ignore_ascii_case(b"+sip.instance"))
        || BASE_TAGS.iter().any(|tag| name.eq_ignore_ascii_case(tag.as_bytes()))
}

/// Whether one of the values that are wanted is among those that are shown (RFC 3840 §9, §10): tokens without case, `<text>`
/// with it, `!value` for everything else, numbers by their relation.
fn meets(wanted: &[u8], shown: &[u8]) -> bool {
    let same = |one: &[u8], other: &[u8]| {
        if one.starts_with(b"<") || other.starts_with(b"<") { one == other } else { one.eq_ignore_ascii_case(other) }
    };
    let has = |value: &[u8]| {
        scan::commas(shown).any(|one| match (one.strip_prefix(b"!"), range(value), range(one)) {
            (Some(not), ..) => !same(not, value),
            (None, Some(wanted), Some(shown)) => wanted.0 <= shown.1 && shown.0 <= wanted.1,
            (None, ..) => same(one, value),
        })
    };
    scan::commas(wanted).any(|one| match one.strip_prefix(b"!") {
        Some(not) => !has(not),
        None => has(one),
    })
}

/// `#=5`, `#>=5`, `#<=5`, `#5:7` (RFC 3840 §9 `numeric`).
fn range(value: &[u8]) -> Option<(f64, f64)> {
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok().filter(|number| number.is_finite());
    let value = value.strip_prefix(b"#")?;
    if let Some(least) = value.strip_prefix(b">=") {
        return Some((number(least)?, f64::INFINITY));
    }
    if let Some(most) = value.strip_prefix(b"<=") {
        return Some((f64::NEG_INFINITY, number(most)?));
    }
    if let Some(exact) = value.strip_prefix(b"=") {
        return number(exact).map(|number| (number, number));
    }
    let colon = value.iter().position(|octet| *octet == b':')?;
    Some((number(&value[..colon])?, number(&value[colon + 1..])?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registrar::{Transport, Way};

    /// The devices of RFC 3841 §7.2.5, in its order.
    const EXAMPLE: [(&str, u16); 5] = [
        (";audio;video;methods=\"INVITE,BYE\"", 200),
        (";audio=\"FALSE\";methods=\"INVITE\";actor=\"msg-taker\"", 200),
        (";audio;actor=\"msg-taker\";methods=\"INVITE\";video", 300),
        (";audio;methods=\"INVITE,OPTIONS\"", 200),
        ("", 500),
    ];

    fn request(lines: &str) -> sip::Message {
        let text = format!(
            "MESSAGE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\n\
             Call-ID: 1\r\nCSeq: 1 MESSAGE\r\n{lines}Content-Length: 0\r\n\r\n"
        );
        sip::Message::parse(text.into()).unwrap()
    }

    fn order(lines: &str, devices: &[(&str, u16)]) -> Vec<(usize, u16)> {
        let bindings: Vec<Binding> = devices
            .iter()
            .map(|(params, q)| Binding {
                contact: "sip:b@h".into(),
                params: (*params).into(),
                q: *q,
                call_id: "c".into(),
                cseq: 1,
                expires_unix_s: 9,
                way: Way {
                    transport: Transport::Udp,
                    listener: 0,
                    source: ([192, 0, 2, 1], 5060).into(),
                    connection: None,
                },
                path: Vec::new(),
            })
            .collect();
        Preferences::of(request(lines).view()).unwrap().order(&bindings.iter().collect::<Vec<_>>())
    }

    fn places(lines: &str, devices: &[(&str, u16)]) -> Vec<usize> {
        order(lines, devices).into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn the_example_of_the_rfc_comes_out_as_it_says() {
        // RFC 3841 §7.2.5: the second does not show audio and methods both, the third is rejected, the fifth is immune.
        let lines = "Accept-Contact: *;audio;require\r\nAccept-Contact: *;video;explicit\r\n\
            Accept-Contact: *;methods=\"BYE\";class=\"business\";q=1.0\r\nReject-Contact: *;actor=\"msg-taker\";video\r\n";
        assert_eq!(places(lines, &EXAMPLE), [4, 0, 3]);
    }

    #[test]
    fn require_and_explicit_drop_and_alone_each_only_orders() {
        const IM: (&str, u16) = (";+g.oma.sip-im", 1_000);
        const AUDIO: (&str, u16) = (";audio", 1_000);
        for (lines, expected) in [
            ("Accept-Contact: *;+g.oma.sip-im\r\n", vec![1, 0]),
            ("a: *;+g.oma.sip-im;explicit\r\n", vec![1, 0]),
            ("Accept-Contact: *;+g.oma.sip-im;require\r\n", vec![1, 0]),
            ("Accept-Contact: *;+g.oma.sip-im;require;explicit\r\n", vec![1]),
            ("Accept-Contact: *;+g.oma.sip-im=\"FALSE\";require\r\n", vec![0]),
            ("Reject-Contact: *;audio\r\n", vec![1]),
            ("j: *;video\r\n", vec![0, 1]),
            ("Accept-Contact: nonsense\r\n", vec![0, 1]),
        ] {
            assert_eq!(places(lines, &[AUDIO, IM]), expected, "{lines}");
        }
    }

    #[test]
    fn values_are_compared_as_tokens_texts_numbers_and_denials() {
        // RFC 3840 §9
        for (wanted, shown, expected) in [
            ("\"message\"", "\"MESSAGE,INVITE\"", true),
            ("\"INFO\"", "\"MESSAGE,INVITE\"", false),
            ("\"!INFO\"", "\"MESSAGE\"", true),
            ("\"!MESSAGE\"", "\"MESSAGE\"", false),
            ("\"MESSAGE\"", "\"!MESSAGE\"", false),
            ("\"<Text>\"", "\"<Text>\"", true),
            ("\"<text>\"", "\"<Text>\"", false),
            ("\"#>=4\"", "\"#=5\"", true),
            ("\"#<=4\"", "\"#=5\"", false),
            ("\"#4:6\"", "\"#>=6\"", true),
        ] {
            let left =
                places(&format!("Accept-Contact: *;+t={wanted};require\r\n"), &[(&format!(";+t={shown}"), 1_000)]);
            assert_eq!(!left.is_empty(), expected, "{wanted} of {shown}");
        }
    }

    #[test]
    fn a_disposition_says_how_many_at_once() {
        let two = [(";audio", 1_000), (";video", 1_000)];
        assert_eq!(order("Request-Disposition: no-fork\r\n", &two), [(0, 1_000)]);
        assert_eq!(order("d: Sequential, no-recurse\r\n", &two), [(0, 1_000), (1, 999)]);
        assert_eq!(order("Request-Disposition: parallel\r\n", &two), [(0, 1_000), (1, 1_000)]);
    }

    #[test]
    fn who_prefers_nothing_pays_nothing() {
        assert_eq!(Preferences::of(request("").view()), None);
        assert!(!may_exclude(request("Accept-Contact: *;+g.oma.sip-im\r\n").view()));
        assert!(may_exclude(request("Accept-Contact: *;audio, *;+g.oma.sip-im;require\r\n").view()));
        assert!(may_exclude(request("Reject-Contact: *;audio\r\n").view()));
    }
}
