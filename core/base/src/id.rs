//! Ids that nobody guesses: a keyed hash of a counter, and a maker that is seeded once.
//!
//! Tags, branches, Call-IDs, nonces and session ids all come from here (decisions D11). With a fixed seed the simulated
//! world plays the same ids again.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

/// A hash with a key that strangers do not have (SipHash-1-3): good for ids, tables fed by peers, and nonces.
#[derive(Clone, Copy)]
pub struct KeyedHash {
    key: [u8; 16],
}

impl KeyedHash {
    /// With a key of the caller's.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The hash of several pieces; where one ends and the next begins counts.
    pub fn of(&self, pieces: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        for piece in pieces {
            hasher.write_usize(piece.len());
            hasher.write(piece);
        }
        hasher.finish()
    }
}

impl std::fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHash(secret)")
    }
}

/// Makes ids. Any thread may ask.
#[derive(Debug)]
pub struct IdMaker {
    hash: KeyedHash,
    next: AtomicU64,
}

impl IdMaker {
    /// With a seed: the same seed gives the same ids in the same order.
    pub fn new(seed: [u8; 16]) -> Self {
        Self { hash: KeyedHash::new(seed), next: AtomicU64::new(0) }
    }

    /// With a seed from the operating system. Fails only where it has no source of randomness.
    pub fn from_os() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed)?;
        Ok(Self::new(seed))
    }

    /// 64 unpredictable bits.
    pub fn next_u64(&self) -> u64 {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        self.hash.of(&[&count.to_be_bytes()])
    }

    /// 16 unpredictable octets: a key for another [`KeyedHash`].
    pub fn key(&self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.next_u64().to_be_bytes());
        key[8..].copy_from_slice(&self.next_u64().to_be_bytes());
        key
    }

    /// 16 hex digits: enough for a tag (RFC 3261 §19.3 asks for 32 bits).
    pub fn tag(&self) -> String {
        format!("{:016x}", self.next_u64())
    }

    /// 32 hex digits: for Call-IDs and IMDN Message-IDs (RFC 5438 §6.3 asks for 64 bits).
    pub fn token(&self) -> String {
        format!("{:016x}{:016x}", self.next_u64(), self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let (one, same, other) = (IdMaker::new([7; 16]), IdMaker::new([7; 16]), IdMaker::new([8; 16]));
        let first: Vec<_> = (0..4).map(|_| one.token()).collect();
        assert_eq!(first, (0..4).map(|_| same.token()).collect::<Vec<_>>());
        assert_ne!(first[0], other.token());
        assert_eq!(first.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    }

    #[test]
    fn pieces_do_not_run_into_each_other() {
        let hash = KeyedHash::new([1; 16]);
        assert_ne!(hash.of(&[b"ab", b"c"]), hash.of(&[b"a", b"bc"]));
    }
}
