//! Digest authentication (RFC 7616, RFC 8760): who says that he is who he says.
//!
//! ```text
//! server   Nonces::issue ──> challenge() ──> 401 / 407 ──> wire
//!          wire ──> Credentials::parse ──> Nonces::look ──> verify(Ha1) ──> Nonces::check ──> Good
//! client   wire ──> Challenge::first_known ──> write_answer ──> Authorization / Proxy-Authorization
//! ```
//!
//! `look` costs no account and no memory, so it comes before an account is loaded; `check` counts, so it comes after
//! the password has proved right: else a stranger could use up the counts of another's nonce.

mod challenge;
mod credentials;
mod nonces;
mod params;

pub use challenge::{Answer, Challenge, ChallengeError, answer, challenge};
pub use credentials::{Credentials, CredentialsError};
pub use nonces::{Nonce, Nonces, Verdict};

use arrayvec::ArrayVec;
use md5::Md5;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A digest as text: 32 or 64 hex digits (RFC 8760 §2.2).
type Hex = ArrayVec<u8, 64>;

/// The algorithms that we speak (decisions D6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `SHA-256`: offered first.
    Sha256,
    /// `MD5`: for old clients, and what is meant where nothing is said (RFC 3261 §22.4).
    Md5,
}

impl Algorithm {
    /// As headers write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    /// By its name, in any case; nothing where we do not speak it (`-sess` forms, SHA-512-256, AKA).
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Md5].into_iter().find(|one| name.eq_ignore_ascii_case(one.as_str()))
    }

    /// Hex digits of its digests.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Md5 => 32,
        }
    }

    /// H of the pieces with a colon between them.
    fn hash(self, pieces: &[&[u8]]) -> Hex {
        match self {
            Self::Sha256 => hex(&joined::<Sha256>(pieces).finalize()),
            Self::Md5 => hex(&joined::<Md5>(pieces).finalize()),
        }
    }
}

/// H(user:realm:password) for both algorithms: what an account keeps in place of its password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ha1 {
    /// By SHA-256.
    pub sha256: [u8; 32],
    /// By MD5.
    pub md5: [u8; 16],
}

impl Ha1 {
    /// Of an account (RFC 7616 §3.4.2), its texts in UTF-8.
    pub fn of(user: &str, realm: &str, password: &str) -> Self {
        let pieces = [user.as_bytes(), realm.as_bytes(), password.as_bytes()];
        Self { sha256: joined::<Sha256>(&pieces).finalize().into(), md5: joined::<Md5>(&pieces).finalize().into() }
    }

    fn hex(&self, algorithm: Algorithm) -> Hex {
        match algorithm {
            Algorithm::Sha256 => hex(&self.sha256),
            Algorithm::Md5 => hex(&self.md5),
        }
    }
}

impl std::fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ha1(secret)")
    }
}

/// What both sides hash, texts as they stand on the wire without their quotes (RFC 7616 §3.4.5).
struct Proof<'a> {
    algorithm: Algorithm,
    nonce: &'a str,
    /// nc, cnonce, qop; nothing in the form of RFC 2069, which RFC 3261 §22.4 keeps alive.
    counted: Option<[&'a str; 3]>,
    method: &'a [u8],
    uri: &'a str,
}

impl Proof<'_> {
    /// The `response` (RFC 7616 §3.4.1; without qop RFC 2617 §3.2.2.1).
    fn response(&self, ha1: &Ha1) -> Hex {
        // RFC 7616 §3.4.3: A2 where qop is auth or unspecified.
        let a2 = self.algorithm.hash(&[self.method, self.uri.as_bytes()]);
        let a1 = ha1.hex(self.algorithm);
        match self.counted {
            Some([nc, cnonce, qop]) => self.algorithm.hash(&[
                &a1,
                self.nonce.as_bytes(),
                nc.as_bytes(),
                cnonce.as_bytes(),
                qop.as_bytes(),
                &a2,
            ]),
            None => self.algorithm.hash(&[&a1, self.nonce.as_bytes(), &a2]),
        }
    }
}

/// Whether two digests in hex are one, digits in any case, in a time that does not tell where they differ.
fn same_hex(ours: &Hex, theirs: &[u8]) -> bool {
    let theirs: Option<Hex> = (theirs.len() == ours.len()).then(|| theirs.iter().map(u8::to_ascii_lowercase).collect());
    theirs.is_some_and(|theirs| ours.as_slice().ct_eq(&theirs).into())
}

fn joined<H: Digest>(pieces: &[&[u8]]) -> H {
    let mut hash = H::new();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            hash.update(b":");
        }
        hash.update(piece);
    }
    hash
}

fn hex(bytes: &[u8]) -> Hex {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)]).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_in_lower_case_hex_of_the_algorithms_length() {
        // RFC 8760 §2.6 item 7, RFC 3261 §22.4 item 7: the digests of nothing.
        let nothing = [(Algorithm::Md5, "d41d8cd98f00b204e9800998ecf8427e")]
            .into_iter()
            .chain([(Algorithm::Sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]);
        for (algorithm, text) in nothing {
            assert_eq!(&algorithm.hash(&[b""])[..], text.as_bytes());
            assert_eq!(algorithm.hex_len(), text.len());
        }
    }

    #[test]
    fn an_account_keeps_the_hash_of_name_realm_and_password() {
        // RFC 2617 §3.5's account; H(A1) as every implementation of that example prints it.
        let ha1 = Ha1::of("Mufasa", "testrealm@host.com", "Circle Of Life");
        assert_eq!(&ha1.hex(Algorithm::Md5)[..], b"939e7578ed9e3c518a452acee763bce9");
        assert_eq!(format!("{ha1:?}"), "Ha1(secret)");
    }

    #[test]
    fn algorithms_are_known_in_any_case_and_strangers_are_none() {
        assert_eq!(Algorithm::from_name("sha-256"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::from_name("Md5"), Some(Algorithm::Md5));
        for stranger in ["", "SHA-512-256", "MD5-sess", "SHA-256-sess", "AKAv1-MD5", "SHA256"] {
            assert_eq!(Algorithm::from_name(stranger), None, "{stranger:?}");
        }
    }
}
