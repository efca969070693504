//! Transaction ids (RFC 4975 §7.1): read from a start line, or made so that nobody guesses the next one.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use base::KeyedHash;
use base::limits::MSRP_IDENT_BYTES_MAX;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// RFC 4975 §9 `ident`: a letter or digit, then 3 to 31 letters, digits and `. - + % =`.
pub(crate) fn is_ident(text: &[u8]) -> bool {
    (4..=MSRP_IDENT_BYTES_MAX).contains(&text.len())
        && text[0].is_ascii_alphanumeric()
        && text.iter().all(|byte| IDENT_OCTETS[usize::from(*byte)])
}

/// Which octets may stand in an `ident`: a look-up, for every head has two.
const IDENT_OCTETS: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        let octet = at as u8;
        table[at] = octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'+' | b'%' | b'=');
        at += 1;
    }
    table
};

/// A transaction id, kept in place: 4 to 32 octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tid {
    /// Zeros behind the text, so that the derived comparisons hold.
    text: [u8; MSRP_IDENT_BYTES_MAX],
    length: u8,
}

impl Tid {
    /// Nothing when this is no `ident`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        is_ident(text).then(|| Self::of(text))
    }

    /// Of a text that has been checked.
    fn of(text: &[u8]) -> Self {
        let mut tid = Self { text: [0; MSRP_IDENT_BYTES_MAX], length: text.len() as u8 };
        tid.text[..text.len()].copy_from_slice(text);
        tid
    }

    /// As it stands on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.length)]
    }
}

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tid({})", self.as_bytes().escape_ascii())
    }
}

/// Makes transaction ids and Message-IDs. Any thread may ask.
///
/// Each is a keyed hash of a count: 64 bits that who has seen a thousand cannot tell from random (RFC 4975 §7.1 asks
/// for 64 random bits). A sender who could guess the next one could write frames into somebody else's connection.
#[derive(Debug)]
pub struct TidMaker {
    hash: KeyedHash,
    next: AtomicU64,
}

impl TidMaker {
    /// With a key of the caller's; two makers with one key would make the same ids.
    pub fn new(hash: KeyedHash) -> Self {
        Self { hash, next: AtomicU64::new(0) }
    }

    /// The next one: 16 hexadecimal digits.
    #[allow(clippy::should_implement_trait)] // asked through a shared reference, and never out of ids
    pub fn next(&self) -> Tid {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let value = self.hash.of(&[&count.to_be_bytes()]);
        let mut text = [0; 16];
        for (place, digit) in text.iter_mut().enumerate() {
            *digit = HEX[(value >> (60 - 4 * place)) as usize & 15];
        }
        Tid::of(&text)
    }

    /// The next one that does not occur in `body` (RFC 4975 §7.1): for who has the whole body at hand.
    pub fn next_outside(&self, body: &[u8]) -> Tid {
        loop {
            let tid = self.next();
            if memchr::memmem::find(body, tid.as_bytes()).is_none() {
                return tid;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ident_has_4_to_32_octets_and_begins_with_a_letter_or_digit() {
        // RFC 4975 §9.
        for good in ["abcd", "a.-+%=", "0123", &"a".repeat(32)] {
            assert_eq!(Tid::parse(good.as_bytes()).unwrap().as_bytes(), good.as_bytes());
        }
        for bad in ["", "abc", ".abc", "-bcd", "ab d", "ab$d", "ab\u{e4}d", &"a".repeat(33)] {
            assert_eq!(Tid::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn ids_of_one_key_differ_and_another_key_gives_others() {
        let (one, other) = (TidMaker::new(KeyedHash::new([1; 16])), TidMaker::new(KeyedHash::new([2; 16])));
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| one.next()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(!ids.contains(&other.next()));
        assert!(ids.iter().all(|tid| is_ident(tid.as_bytes()) && tid.as_bytes().len() == 16));
    }

    #[test]
    fn an_id_that_occurs_in_the_body_is_passed_over() {
        // RFC 4975 §7.1: the end-line must not be present in the body.
        let key = KeyedHash::new([3; 16]);
        let first = TidMaker::new(key).next();
        let body = [b"x-------", first.as_bytes(), b"$"].concat();
        assert_ne!(TidMaker::new(key).next_outside(&body), first);
        assert_eq!(TidMaker::new(key).next_outside(b"innocent"), first);
    }
}
