//! Flow tokens (RFC 5626 §5.3): where a dialog's peers were heard from, written into our Record-Route, so that what comes
//! within the dialog finds its way back through a NAT without any state of ours.
//!
//! ```text
//!  token   w + hex(mac ‖ hop under a key stream)        mac = keyed hash of the hop; the stream comes of the mac
//! ```
//! Nobody who does not know the keys makes one or reads one: an address behind a NAT is its owner's secret. A token lives
//! as long as the process: its keys are made at the start, and so are the numbers of connections.

use base::{IdMaker, KeyedHash};
use smallvec::SmallVec;

use crate::hop::Hop;

/// What a token begins with.
const MARK: u8 = b'w';
/// Octets of its keyed hash.
const MAC: usize = 8;

/// Makes tokens, and reads them again.
pub struct Ways {
    mac: KeyedHash,
    stream: KeyedHash,
}

impl Ways {
    /// With keys of its own.
    pub fn new(ids: &IdMaker) -> Self {
        Self { mac: KeyedHash::new(ids.key()), stream: KeyedHash::new(ids.key()) }
    }

    /// The user part of the URI that leads to this hop.
    pub fn token(&self, hop: Hop) -> String {
        let mut octets = hop.octets();
        let mac = self.mac.of(&[&octets]).to_be_bytes();
        self.cover(mac, &mut octets);
        let mut token = String::with_capacity(1 + 2 * (MAC + octets.len()));
        token.push(char::from(MARK));
        for octet in mac.iter().chain(&octets) {
            for digit in [octet >> 4, octet & 15] {
                token.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        token
    }

    /// The hop that a user part leads to, if we have made it.
    pub fn hop(&self, user: &[u8]) -> Option<Hop> {
        let text = user.strip_prefix(&[MARK])?;
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let pairs = text.chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let octets: SmallVec<[u8; 32]> = pairs.collect::<Option<_>>()?;
        let (mac, covered) = octets.split_first_chunk::<MAC>()?;
        let mut octets = SmallVec::from_slice(covered);
        self.cover(*mac, &mut octets);
        (self.mac.of(&[&octets]).to_be_bytes() == *mac).then(|| Hop::of_octets(&octets))?
    }

    /// Whether a user part looks as if we had made it.
    pub fn is_token(user: &[u8]) -> bool {
        let is_hex = |octet: &u8| octet.is_ascii_digit() || (b'a'..=b'f').contains(octet);
        matches!(user, [MARK, text @ ..] if text.len() > 2 * MAC && text.iter().all(is_hex))
    }

    /// Covers, and uncovers.
    fn cover(&self, mac: [u8; MAC], octets: &mut SmallVec<[u8; 24]>) {
        for (number, block) in (0u8..).zip(octets.chunks_mut(8)) {
            let stream = self.stream.of(&[&mac, &[number]]).to_be_bytes();
            block.iter_mut().zip(stream).for_each(|(octet, key)| *octet ^= key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::ConnId;

    fn hops() -> [Hop; 4] {
        let [v4, v6] = ["192.0.2.7:40123", "[2001:db8::7]:5060"].map(|text| text.parse().unwrap());
        [Hop::udp(2, v4), Hop::udp(0, v6), Hop::stream(ConnId(77), v4), Hop::stream(ConnId(1), v6)]
    }

    #[test]
    fn a_token_leads_to_its_hop_and_tells_nobody_else_where_that_is() {
        let ways = Ways::new(&IdMaker::new([1; 16]));
        for hop in hops() {
            let token = ways.token(hop);
            assert_eq!(ways.hop(token.as_bytes()), Some(hop));
            assert!(Ways::is_token(token.as_bytes()));
            // 192.0.2.7 and 2001:db8.
            assert!(!token.contains("c0000207") && !token.contains("20010db8"), "{token}");
            assert_eq!(Ways::new(&IdMaker::new([2; 16])).hop(token.as_bytes()), None, "another house has other keys");
        }
    }

    #[test]
    fn a_token_that_was_touched_leads_nowhere() {
        let ways = Ways::new(&IdMaker::new([1; 16]));
        for hop in hops() {
            let token = ways.token(hop).into_bytes();
            for at in 1..token.len() {
                let mut other = token.clone();
                other[at] = if other[at] == b'0' { b'1' } else { b'0' };
                assert_eq!(ways.hop(&other), None);
                assert_eq!(ways.hop(&token[..at]), None);
            }
        }
        for text in ["", "w", "w0", "alice", "wx00000000000000000000", "W0000000000000000000000"] {
            assert_eq!(ways.hop(text.as_bytes()), None);
        }
        assert!(!Ways::is_token(b"willow") && !Ways::is_token(b"w0123456789abcdef"));
    }
}
