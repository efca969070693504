//! Telephone numbers as the world knows them (E.164), from what people write (RFC 3966).

use std::fmt;

use base::Aor;
use sip::{Scheme, Uri};

/// E.164 §6: no number is longer.
const DIGITS_MOST: usize = 15;

/// How numbers are written here.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The country code of national numbers, which begin with 0; empty: only what begins with `+` is a number.
    pub country: &'a str,
    /// Domains of ours: a local number of theirs is written as here.
    pub domains: &'a [String],
}

/// A number that is valid everywhere: its digits, without the `+`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Number(Box<str>);

impl Number {
    /// Of a `tel:` URI, or of a SIP URI whose user part is said to be a number (RFC 3261 §19.1.1: `user=phone`). Nothing
    /// for what is valid in some place alone: it is an identifier, and no number that could be looked up (RFC 3966
    /// §5.1.5).
    pub fn of_uri(uri: &Uri<'_>, plan: Plan<'_>) -> Option<Self> {
        match uri.scheme {
            Scheme::Tel => Self::of_local(uri.user, uri.param("phone-context"), plan),
            Scheme::Sip | Scheme::Sips => {
                let is_phone = uri.param("user").is_some_and(|user| user.eq_ignore_ascii_case(b"phone"));
                // RFC 3261 §19.1.6: the parameters of a `tel:` are part of the user.
                let user = uri.user.split(|byte| *byte == b';').next().unwrap_or_default();
                if is_phone { Self::of_local(user, None, plan) } else { None }
            }
            Scheme::Other => None,
        }
    }

    /// Of a number as it is written, and the place where it is valid, where one is named.
    pub fn of_local(written: &[u8], context: Option<&[u8]>, plan: Plan<'_>) -> Option<Self> {
        let digits = digits(written)?;
        if let Some(global) = digits.strip_prefix('+') {
            return Self::of_digits(global); // RFC 3966 §5.1.4
        }
        let is_ours = |domain: &str| plan.domains.iter().any(|own| own.eq_ignore_ascii_case(domain));
        let is_here = match context.map(std::str::from_utf8) {
            None => true,
            Some(Ok(context)) => match context.strip_prefix('+') {
                Some(prefix) => prefix == plan.country,
                None => is_ours(context),
            },
            Some(Err(_)) => false,
        };
        if plan.country.is_empty() || !is_here {
            return None;
        }
        // E.123: 00 goes abroad, 0 through the country.
        match (digits.strip_prefix("00"), digits.strip_prefix('0')) {
            (Some(abroad), _) => Self::of_digits(abroad),
            (None, Some(national)) if !national.is_empty() => Self::of_digits(&format!("{}{national}", plan.country)),
            _ => None,
        }
    }

    fn of_digits(digits: &str) -> Option<Self> {
        // E.164: no country code begins with 0.
        let is_number = (1..=DIGITS_MOST).contains(&digits.len()) && !digits.starts_with('0');
        (is_number && digits.bytes().all(|digit| digit.is_ascii_digit())).then(|| Self(digits.into()))
    }

    /// Where its rules are asked for (RFC 6116 §3.2).
    pub fn domain(&self, suffix: &str) -> String {
        let mut name = String::with_capacity(self.0.len() * 2 + suffix.len());
        for digit in self.0.chars().rev() {
            name.push(digit);
            name.push('.');
        }
        name + suffix
    }

    /// Its address of record.
    pub fn aor(&self) -> Option<Aor> {
        Aor::tel(self.to_string().as_bytes()).ok()
    }
}

/// `+442079460148`: the form that rules are applied to (RFC 6116 §3.1).
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Number(+{})", self.0)
    }
}

/// Without visual separators (RFC 3966 §5.1.1); nothing where other signs stand.
fn digits(written: &[u8]) -> Option<String> {
    let mut digits = String::with_capacity(written.len());
    for (at, byte) in written.iter().enumerate() {
        match byte {
            b'+' if at == 0 => digits.push('+'),
            b'0'..=b'9' => digits.push(char::from(*byte)),
            b'-' | b'.' | b'(' | b')' => {}
            _ => return None,
        }
    }
    Some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(uri: &str, country: &str) -> Option<String> {
        let plan = Plan { country, domains: &["example.com".to_owned()] };
        Number::of_uri(&Uri::parse(uri.as_bytes()).unwrap(), plan).map(|number| number.to_string())
    }

    #[test]
    fn what_people_write_becomes_one_number() {
        for (uri, country, wanted) in [
            ("tel:+44-20-7946-0148", "", Some("+442079460148")),
            ("tel:+44(20)7946.0148;ext=7", "49", Some("+442079460148")),
            ("sip:+442079460148@example.com;user=phone", "", Some("+442079460148")),
            ("sip:+44-20-7946-0148;ext=7@gw.example.com;user=phone", "", Some("+442079460148")),
            // `[dns] country`: numbers that begin with 0 are national ones.
            ("tel:040-123456", "49", Some("+4940123456")),
            ("tel:0040-123456", "49", Some("+40123456")),
            ("tel:040123456;phone-context=+49", "49", Some("+4940123456")),
            ("tel:040123456;phone-context=example.COM", "49", Some("+4940123456")),
            ("sip:040123456@example.com;user=phone", "49", Some("+4940123456")),
            // Without a country only +... is a number.
            ("tel:040-123456", "", None),
            ("tel:0040-123456", "", None),
            // RFC 3966 §5.1.5: a context is no prefix.
            ("tel:863-1234;phone-context=+1-914-555", "1", None),
            ("tel:040123456;phone-context=+44", "49", None),
            ("tel:040123456;phone-context=houston.example.com", "49", None),
            ("tel:7042;phone-context=example.com", "49", None),
            ("tel:110", "49", None),
            ("tel:0", "49", None),
            ("tel:*31#", "49", None),
            ("tel:+0401", "", None),
            ("tel:+1234567890123456", "", None),
            ("sip:+442079460148@example.com", "", None),
            ("sip:alice@example.com;user=phone", "49", None),
            ("im:+44@example.com", "49", None),
        ] {
            assert_eq!(number(uri, country).as_deref(), wanted, "{uri} in {country:?}");
        }
    }

    #[test]
    fn its_rules_stand_below_its_digits_in_reverse() {
        // RFC 6116 §3.2.
        let plan = Plan { country: "", domains: &[] };
        let number = Number::of_local(b"+44-20-7946-0148", None, plan).unwrap();
        assert_eq!(number.domain("e164.arpa"), "8.4.1.0.6.4.9.7.0.2.4.4.e164.arpa");
        assert_eq!(number.aor().unwrap().as_str(), "tel:+442079460148");
    }
}
