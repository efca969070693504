//! Addresses of record in their one canonical spelling, so that equal users are equal keys.
//!
//! `sip:` and `sips:` fold into `sip:` (RFC 3261 §10.3 step 5: the registrar's key has no parameters), the host is
//! lower case and without port, escapes of the user part that need not be are undone (RFC 3261 §19.1.4); `tel:`
//! numbers lose their visual separators (RFC 3966 §5.1).

use std::fmt;
use std::sync::Arc;

use crate::limits::AOR_BYTES_MAX;

/// An address of record: `sip:alice@example.com` or `tel:+442079460148`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Aor(Arc<str>);

/// Why a text names no address of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AorError {
    /// Neither `sip:`, `sips:` nor `tel:`.
    #[error("the scheme is neither sip, sips nor tel")]
    Scheme,
    /// No user part, or an octet in it that cannot stand there.
    #[error("the user part is missing or malformed")]
    User,
    /// A control character in the user part, escaped.
    #[error("the user part has a control character")]
    Control,
    /// No host, or an octet in it that cannot stand there.
    #[error("the host is missing or malformed")]
    Host,
    /// Not a telephone number.
    #[error("not a telephone number")]
    Number,
    /// Above [`AOR_BYTES_MAX`].
    #[error("longer than {AOR_BYTES_MAX} bytes")]
    TooLong,
}

impl Aor {
    /// From a user part as it stands in a URI (escaped where it must be) and a host without port.
    pub fn new(user: &str, host: &str) -> Result<Self, AorError> {
        Self::from_bytes(user.as_bytes(), host.as_bytes())
    }

    /// As [`Aor::new`], from octets of the wire.
    pub fn from_bytes(user: &[u8], host: &[u8]) -> Result<Self, AorError> {
        if user.len() + host.len() + 5 > AOR_BYTES_MAX {
            return Err(AorError::TooLong);
        }
        if user.is_empty() {
            return Err(AorError::User);
        }
        let mut text = String::with_capacity(5 + user.len() + host.len());
        text.push_str("sip:");
        canonical_user(user, &mut text)?;
        text.push('@');
        canonical_host(host, &mut text)?;
        Ok(Self(text.into()))
    }

    /// A telephone number: `+44 20 7946-0148` becomes `tel:+442079460148`. Local numbers have no context here.
    pub fn tel(number: &[u8]) -> Result<Self, AorError> {
        if number.len() + 4 > AOR_BYTES_MAX {
            return Err(AorError::TooLong);
        }
        let mut text = String::from("tel:");
        for (at, byte) in number.iter().enumerate() {
            match byte {
                b'+' if at == 0 => text.push('+'),
                b'0'..=b'9' | b'*' | b'#' => text.push(char::from(*byte)),
                b'-' | b'.' | b'(' | b')' | b' ' => {}
                _ => return Err(AorError::Number),
            }
        }
        if text.len() < 6 { Err(AorError::Number) } else { Ok(Self(text.into())) }
    }

    /// A whole text: `sip:alice@example.com`, `sips:`, `tel:`; what comes after the host (port, parameters) is
    /// passed over.
    pub fn parse(text: &str) -> Result<Self, AorError> {
        let (scheme, rest) = text.trim().split_once(':').ok_or(AorError::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "sip" | "sips" => {
                let (user, host) = rest.split_once('@').ok_or(AorError::User)?;
                let user = user.split(':').next().unwrap_or(user);
                let end = if host.starts_with('[') {
                    host.find(']').map_or(host.len(), |at| at + 1)
                } else {
                    host.find([':', ';', '?']).unwrap_or(host.len())
                };
                Self::new(user, &host[..end])
            }
            "tel" => Self::tel(rest.split(';').next().unwrap_or(rest).as_bytes()),
            _ => Err(AorError::Scheme),
        }
    }

    /// The canonical spelling, scheme included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user part, escaped as in the canonical spelling; of a `tel:` the number.
    pub fn user(&self) -> &str {
        let rest = &self.0[4..];
        rest.split_once('@').map_or(rest, |(user, _)| user)
    }

    /// The domain; of a `tel:` nothing.
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, host)| host)
    }

    /// Whether this is a telephone number.
    pub fn is_tel(&self) -> bool {
        self.0.starts_with("tel:")
    }
}

/// RFC 3261 §25.1 `user`: unreserved, escaped, user-unreserved; an escape that need not be one is undone.
///
/// The grammar lets `%00` pass (RFC 4475 §3.1.1.4), but nobody of ours is called so: a name ends up in logs, files and
/// terminals, which take control characters (C0, DEL, and C1 in UTF-8) for orders.
fn canonical_user(user: &[u8], text: &mut String) -> Result<(), AorError> {
    let (mut at, mut follows_c2) = (0, false);
    while let Some(&byte) = user.get(at) {
        if byte == b'%' {
            let high = user.get(at + 1).and_then(|b| char::from(*b).to_digit(16)).ok_or(AorError::User)?;
            let low = user.get(at + 2).and_then(|b| char::from(*b).to_digit(16)).ok_or(AorError::User)?;
            let decoded = u8::try_from(high * 16 + low).map_err(|_| AorError::User)?;
            if decoded.is_ascii_control() || (follows_c2 && (0x80..0xa0).contains(&decoded)) {
                return Err(AorError::Control);
            }
            follows_c2 = decoded == 0xc2;
            if is_unreserved(decoded) {
                text.push(char::from(decoded));
            } else {
                text.push('%');
                text.push(char::from(user[at + 1].to_ascii_uppercase()));
                text.push(char::from(user[at + 2].to_ascii_uppercase()));
            }
            at += 3;
        } else if is_unreserved(byte) || b"&=+$,;?/#".contains(&byte) {
            text.push(char::from(byte));
            (at, follows_c2) = (at + 1, false);
        } else {
            return Err(AorError::User);
        }
    }
    Ok(())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte)
}

/// Host names, IPv4 and bracketed IPv6 addresses, lower case.
fn canonical_host(host: &[u8], text: &mut String) -> Result<(), AorError> {
    let host = host.strip_suffix(b".").unwrap_or(host);
    let literal = host.starts_with(b"[") && host.ends_with(b"]") && host.len() > 4;
    let inner = if literal { &host[1..host.len() - 1] } else { host };
    let allowed = |byte: &u8| {
        if literal {
            byte.is_ascii_hexdigit() || b":.".contains(byte)
        } else {
            byte.is_ascii_alphanumeric() || b"-._".contains(byte)
        }
    };
    if inner.is_empty() || !inner.iter().all(allowed) {
        return Err(AorError::Host);
    }
    text.extend(host.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    Ok(())
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_one_user_is_one_key() {
        // RFC 3261 §19.1.4: the host is compared without case, the user with it; escapes are decoded first.
        for same in ["sip:alice@EXAMPLE.com", "SIPS:alice@example.com", "sip:%61lice@example.com:5060;transport=tcp"] {
            assert_eq!(Aor::parse(same).unwrap().as_str(), "sip:alice@example.com", "{same}");
        }
        assert_ne!(Aor::parse("sip:Alice@example.com"), Aor::parse("sip:alice@example.com"));
    }

    #[test]
    fn an_escape_that_must_be_one_stays_one() {
        assert_eq!(Aor::parse("sip:a%40b@x.y").unwrap().as_str(), "sip:a%40b@x.y");
        assert_eq!(Aor::parse("sip:a%c3%a9@x.y").unwrap().as_str(), "sip:a%C3%A9@x.y");
    }

    #[test]
    fn numbers_lose_their_visual_separators() {
        // RFC 3966 §5.1.1
        assert_eq!(Aor::parse("tel:+44-20-7946.0148").unwrap().as_str(), "tel:+442079460148");
        assert_eq!(Aor::parse("tel:+44").unwrap().domain(), "");
    }

    #[test]
    fn what_names_nobody_is_refused_with_the_reason() {
        for (text, why) in [
            ("mailto:a@b.c", AorError::Scheme),
            ("alice", AorError::Scheme),
            ("sip:example.com", AorError::User),
            ("sip:@example.com", AorError::User),
            ("sip:a%4@example.com", AorError::User),
            ("sip:a b@example.com", AorError::User),
            ("sip:%00@example.com", AorError::Control),
            ("sip:a%0d%0Ab@example.com", AorError::Control),
            ("sip:%1b[2J@example.com", AorError::Control),
            ("sip:a%7F@example.com", AorError::Control),
            ("sip:a%c2%9Bb@example.com", AorError::Control),
            ("sip:a@", AorError::Host),
            ("sip:a@b c", AorError::Host),
            ("tel:abc", AorError::Number),
        ] {
            assert_eq!(Aor::parse(text), Err(why), "{text}");
        }
        assert_eq!(Aor::parse(&format!("sip:{}@x", "a".repeat(AOR_BYTES_MAX))), Err(AorError::TooLong));
    }
}
