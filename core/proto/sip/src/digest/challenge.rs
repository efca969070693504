//! Challenges: the server writes them, the client chooses one and answers it (RFC 7616 §3.3, RFC 8760 §2).

use std::borrow::Cow;

use super::params::{self, Fault, push_quoted};
use super::{Algorithm, Ha1, Proof};

/// Appends whole header lines, one an algorithm, the most wanted first (RFC 8760 §2.3).
///
/// `header` is `WWW-Authenticate` or `Proxy-Authenticate`. `stale` is for a request whose response proved right, but
/// for a nonce that is over: its client tries again without asking for a password.
pub fn challenge(out: &mut Vec<u8>, header: &str, realm: &str, nonce: &str, stale: bool, algorithms: &[Algorithm]) {
    for algorithm in algorithms {
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(b": Digest realm=");
        push_quoted(out, realm);
        out.extend_from_slice(b", nonce=");
        push_quoted(out, nonce);
        out.extend_from_slice(b", algorithm=");
        out.extend_from_slice(algorithm.as_str().as_bytes());
        // RFC 8760 §2.6 item 8: a server must always send qop.
        out.extend_from_slice(b", qop=\"auth\"");
        if stale {
            out.extend_from_slice(b", stale=true");
        }
        out.extend_from_slice(b"\r\n");
    }
}

const NAMES: [&str; 6] = ["realm", "nonce", "opaque", "algorithm", "qop", "stale"];

/// A challenge that we can answer, as the client keeps it: its nonce serves for many requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// Whose password is wanted.
    pub realm: Cow<'a, str>,
    /// What is to be hashed with it.
    pub nonce: Cow<'a, str>,
    /// What is to be given back.
    pub opaque: Option<Cow<'a, str>>,
    /// By which hash.
    pub algorithm: Algorithm,
    /// Whether `qop=auth` is offered; without it the answer takes the old form of RFC 2069.
    pub qop: bool,
    /// The last answer was right, only its nonce is over: no new password need be asked for.
    pub stale: bool,
}

/// Why a challenge cannot be answered. RFC 8760 §2.4: such a one is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// Another scheme.
    #[error("scheme is not Digest")]
    OtherScheme,
    /// An algorithm that we do not speak.
    #[error("algorithm is not one of ours")]
    OtherAlgorithm,
    /// Only other kinds of protection than `auth` are offered.
    #[error("qop does not offer auth")]
    OtherQop,
    /// No list of `name=value`, or one twice.
    #[error("challenge is not a list of parameters")]
    Malformed,
    /// A parameter is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// No value could be answered.
    #[error("no challenge")]
    None,
}

impl From<Fault> for ChallengeError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::OtherScheme => Self::OtherScheme,
            Fault::Malformed | Fault::Twice(_) => Self::Malformed,
        }
    }
}

/// Who answers, and for which request.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The name of the account.
    pub user: &'a str,
    /// Its password, hashed for the realm of the challenge.
    pub ha1: &'a Ha1,
    /// The method of the request.
    pub method: &'a [u8],
    /// Its Request-URI.
    pub uri: &'a str,
    /// How often the nonce has been answered, this time included.
    pub nc: u32,
    /// A text of the client's own that nobody guesses.
    pub cnonce: &'a str,
}

impl<'a> Challenge<'a> {
    /// Reads one header value (WWW-Authenticate or Proxy-Authenticate).
    pub fn parse(value: &'a [u8]) -> Result<Self, ChallengeError> {
        let [realm, nonce, opaque, algorithm, qop, stale] = params::read(value, &NAMES)?;
        let algorithm = match algorithm {
            Some(name) => Algorithm::from_name(&name).ok_or(ChallengeError::OtherAlgorithm)?,
            None => Algorithm::Md5,
        };
        let offers_auth = |qop: &str| qop.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth"));
        if qop.as_deref().is_some_and(|qop| !offers_auth(qop)) {
            return Err(ChallengeError::OtherQop);
        }
        Ok(Self {
            realm: realm.ok_or(ChallengeError::Missing("realm"))?,
            nonce: nonce.ok_or(ChallengeError::Missing("nonce"))?,
            opaque,
            algorithm,
            qop: qop.is_some(),
            stale: stale.is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// The topmost of several values that we can answer (RFC 8760 §2.4).
    pub fn first_known(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ChallengeError> {
        let mut first_error = ChallengeError::None;
        for value in values {
            match Self::parse(value) {
                Ok(challenge) => return Ok(challenge),
                Err(error) if first_error == ChallengeError::None => first_error = error,
                Err(_) => {}
            }
        }
        Err(first_error)
    }

    /// The same, with texts of its own: what a client keeps from one request to the next.
    pub fn into_owned(self) -> Challenge<'static> {
        Challenge {
            realm: Cow::Owned(self.realm.into_owned()),
            nonce: Cow::Owned(self.nonce.into_owned()),
            opaque: self.opaque.map(|opaque| Cow::Owned(opaque.into_owned())),
            algorithm: self.algorithm,
            qop: self.qop,
            stale: self.stale,
        }
    }

    /// Appends the value of Authorization or Proxy-Authorization, without name and line end.
    pub fn write_answer(&self, out: &mut Vec<u8>, answer: &Answer<'_>) {
        let nc = format!("{:08x}", answer.nc);
        let proof = Proof {
            algorithm: self.algorithm,
            nonce: &self.nonce,
            counted: self.qop.then_some([&nc, answer.cnonce, "auth"]),
            method: answer.method,
            uri: answer.uri,
        };
        // RFC 7616 §3.4: which values stand in quotes, and which must not.
        let mut quoted = |name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            push_quoted(out, value);
        };
        quoted("Digest username=", answer.user);
        quoted(", realm=", &self.realm);
        quoted(", nonce=", &self.nonce);
        quoted(", uri=", answer.uri);
        if let Some(opaque) = &self.opaque {
            quoted(", opaque=", opaque);
        }
        if self.qop {
            quoted(", cnonce=", answer.cnonce);
        }
        out.extend_from_slice(b", response=\"");
        out.extend_from_slice(&proof.response(answer.ha1));
        out.extend_from_slice(b"\", algorithm=");
        out.extend_from_slice(self.algorithm.as_str().as_bytes());
        if self.qop {
            out.extend_from_slice(b", qop=auth, nc=");
            out.extend_from_slice(nc.as_bytes());
        }
    }
}

/// The value that answers one challenge, from the password itself.
pub fn answer(
    challenge_value: &[u8],
    method: &[u8],
    uri: &str,
    user: &str,
    password: &str,
    nc: u32,
    cnonce: &str,
) -> Result<String, ChallengeError> {
    let challenge = Challenge::parse(challenge_value)?;
    let ha1 = Ha1::of(user, &challenge.realm, password);
    let mut out = Vec::new();
    challenge.write_answer(&mut out, &Answer { user, ha1: &ha1, method, uri, nc, cnonce });
    String::from_utf8(out).map_err(|_| ChallengeError::Malformed)
}

#[cfg(test)]
mod tests {
    use base::{KeyedHash, Now};
    use proptest::prelude::*;

    use super::super::{Credentials, Nonces, Verdict};
    use super::*;

    const BOTH: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Md5];

    fn lines(stale: bool, algorithms: &[Algorithm]) -> String {
        let mut out = Vec::new();
        challenge(&mut out, "WWW-Authenticate", "example.com", "abc", stale, algorithms);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn there_is_a_line_an_algorithm_in_the_order_given() {
        // RFC 8760 §2.3: most preferred at the top. RFC 7616 §3.3: qop quoted, algorithm and stale not.
        assert_eq!(
            lines(false, &BOTH),
            "WWW-Authenticate: Digest realm=\"example.com\", nonce=\"abc\", algorithm=SHA-256, qop=\"auth\"\r\n\
             WWW-Authenticate: Digest realm=\"example.com\", nonce=\"abc\", algorithm=MD5, qop=\"auth\"\r\n"
        );
        assert_eq!(
            lines(true, &BOTH[1..]),
            "WWW-Authenticate: Digest realm=\"example.com\", nonce=\"abc\", algorithm=MD5, qop=\"auth\", stale=true\r\n"
        );
    }

    #[test]
    fn the_client_takes_the_topmost_challenge_that_it_can_answer() {
        // RFC 8760 §2.4.
        let values: [&[u8]; 5] = [
            b"Basic realm=\"x\"",
            b"Digest realm=\"x\", nonce=\"1\", algorithm=SHA-512-256, qop=\"auth\"",
            b"Digest realm=\"x\", nonce=\"2\", algorithm=SHA-256, qop=\"auth-int\"",
            b"Digest realm=\"x\", nonce=\"3\", algorithm=SHA-256, qop=\"auth-int , Auth\", stale=TRUE, domain=\"sip:x\"",
            b"Digest realm=\"x\", nonce=\"4\"",
        ];
        let chosen = Challenge::first_known(values).unwrap();
        assert_eq!((&*chosen.nonce, chosen.algorithm, chosen.qop, chosen.stale), ("3", Algorithm::Sha256, true, true));
        let last = Challenge::first_known(values[4..].iter().copied()).unwrap();
        assert_eq!((&*last.nonce, last.algorithm, last.qop, last.stale), ("4", Algorithm::Md5, false, false));
        assert_eq!(last.clone().into_owned(), last);
        assert_eq!(Challenge::first_known(values[..3].iter().copied()), Err(ChallengeError::OtherScheme));
        assert_eq!(Challenge::first_known([]), Err(ChallengeError::None));
    }

    #[test]
    fn a_challenge_that_cannot_be_answered_says_why() {
        for (value, error) in [
            ("Digest nonce=1", ChallengeError::Missing("realm")),
            ("Digest realm=x", ChallengeError::Missing("nonce")),
            ("Digest realm=x, nonce=1, algorithm=MD5-sess", ChallengeError::OtherAlgorithm),
            ("Digest realm=x, nonce=1, qop=\"auth-int\"", ChallengeError::OtherQop),
            ("Digest realm=x, realm=x, nonce=1", ChallengeError::Malformed),
            ("Digest realm", ChallengeError::Malformed),
        ] {
            assert_eq!(Challenge::parse(value.as_bytes()), Err(error), "{value:?}");
        }
    }

    #[test]
    fn the_clients_answer_is_that_of_rfc_7616() {
        // RFC 7616 §3.9.1.
        let challenge = |algorithm: &str| {
            format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
        };
        let answered = |algorithm: &str| {
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let value = challenge(algorithm);
            answer(value.as_bytes(), b"GET", "/dir/index.html", "Mufasa", "Circle of Life", 1, cnonce).unwrap()
        };
        assert_eq!(
            answered("MD5"),
            "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
             nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", uri=\"/dir/index.html\", \
             opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\", \
             cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", \
             response=\"8ca523f5e9506fed4657c9700eebdbec\", algorithm=MD5, qop=auth, nc=00000001"
        );
        assert!(
            answered("SHA-256").contains("753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            "{}",
            answered("SHA-256")
        );
    }

    #[test]
    fn without_qop_the_answer_has_the_old_form() {
        // RFC 3261 §22.4 item 8: no cnonce where no qop has been sent.
        let value = b"Digest realm=\"biloxi.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
        assert_eq!(
            answer(value, b"INVITE", "sip:bob@biloxi.com", "bob", "zanzibar", 1, "0a4f113b").unwrap(),
            "Digest username=\"bob\", realm=\"biloxi.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
             uri=\"sip:bob@biloxi.com\", response=\"bf57e4e0d0bffc0fbaedce64d59add5e\", algorithm=MD5"
        );
    }

    proptest! {
        /// Whatever the names and texts are, the server believes the client's answer to its challenge, once.
        #[test]
        fn the_server_believes_the_answer_to_its_own_challenge(
            user in "[^\\p{C}]{1,20}", realm in "[^\\p{C}]{1,20}", password in ".{0,20}", uri in "[!-~]{1,30}",
            cnonce in "[!-~]{1,20}", nc in 1u32.., old in any::<bool>(),
        ) {
            let (nonces, now) = (Nonces::new(KeyedHash::new([1; 16]), 16), Now::read());
            let mut wire = Vec::new();
            challenge(&mut wire, "WWW-Authenticate", &realm, nonces.issue(now).as_str(), false, &BOTH);
            let wire = String::from_utf8(wire).unwrap();
            let values: Vec<_> = wire.lines().map(|line| line.split_once(": ").unwrap().1.as_bytes()).collect();
            let chosen = Challenge::first_known(values[usize::from(old)..].iter().copied()).unwrap();
            let ha1 = Ha1::of(&user, &realm, &password);
            let mut value = Vec::new();
            let who = Answer { user: &user, ha1: &ha1, method: b"MESSAGE", uri: &uri, nc, cnonce: &cnonce };
            chosen.write_answer(&mut value, &who);
            let credentials = Credentials::parse(&value).unwrap();
            prop_assert!(credentials.is_of(&user) && credentials.uri == uri && credentials.realm == realm);
            prop_assert!(credentials.verify(&ha1, b"MESSAGE") && !credentials.verify(&ha1, b"INVITE"));
            prop_assert_eq!(nonces.check(&credentials.nonce, credentials.nc, now), Verdict::Good);
            prop_assert_eq!(nonces.check(&credentials.nonce, credentials.nc, now), Verdict::Replayed);
        }

        /// Whatever stands in the header, there is an answer.
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let named = [b"Digest realm=r, nonce=n, ", &bytes[..]].concat();
            for value in [&bytes, &named] {
                if let Ok(challenge) = Challenge::parse(value) {
                    prop_assert_eq!(challenge.clone().into_owned(), challenge);
                }
            }
        }
    }
}
