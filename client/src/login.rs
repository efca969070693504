//! Answers to challenges (RFC 3261 §22, RFC 7616, RFC 8760): a nonce that was good is used again, with its count
//! going up, so that a request costs one round trip and not two.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base::IdMaker;
use sip::digest::{Algorithm, Answer, Challenge, Ha1};
use sip::{Name, View};

use crate::account::Account;

/// What servers have asked for, and the password to answer with.
pub(crate) struct Login {
    user: String,
    password: String,
    kept: Mutex<Vec<Kept>>,
}

/// A challenge that serves for many requests.
struct Kept {
    header: Name,
    challenge: Challenge<'static>,
    ha1: Ha1,
    nc: u32,
}

/// The credentials of one attempt.
#[derive(Default)]
pub(crate) struct Tried {
    nonces: Vec<(Name, String)>,
}

/// What to do about a 401 or 407.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send the request again: there is a nonce that was not tried.
    TryAgain,
    /// A fresh nonce was answered and the answer not believed.
    Refused {
        /// Whose password was wanted.
        realm: String,
    },
    /// No challenge that can be answered.
    Unknown,
}

impl Login {
    pub(crate) fn new(account: &Account) -> Self {
        Self { user: account.user.clone(), password: account.password.clone(), kept: Mutex::default() }
    }

    /// Appends a credentials line for every challenge that is kept.
    pub(crate) fn write(&self, lines: &mut Vec<u8>, method: &[u8], uri: &str, ids: &IdMaker) -> Tried {
        let mut tried = Tried::default();
        for kept in self.lock().iter_mut() {
            kept.nc = kept.nc.wrapping_add(1);
            lines.extend_from_slice(kept.header.as_str().as_bytes());
            lines.extend_from_slice(b": ");
            let answer = Answer { user: &self.user, ha1: &kept.ha1, method, uri, nc: kept.nc, cnonce: &ids.tag() };
            kept.challenge.write_answer(lines, &answer);
            lines.extend_from_slice(b"\r\n");
            tried.nonces.push((kept.header, kept.challenge.nonce.clone().into_owned()));
        }
        tried
    }

    /// Reads the challenges of a 401 or 407. `fresh`: the credentials that were tried came from a challenge to this
    /// very request, so that a refusal is about the password and not about the age of the nonce.
    pub(crate) fn challenged(&self, response: View<'_>, tried: &Tried, fresh: bool) -> Verdict {
        let (asked, header) = match response.status() {
            407 => (Name::ProxyAuthenticate, Name::ProxyAuthorization),
            _ => (Name::WwwAuthenticate, Name::Authorization),
        };
        let Some(challenge) = preferred(response.values(asked)) else { return Verdict::Unknown };
        let mut all = self.lock();
        let refused = tried.nonces.iter().any(|(name, _)| *name == header) && fresh && !challenge.stale;
        if refused {
            all.retain(|kept| kept.header != header);
            return Verdict::Refused { realm: challenge.realm.into_owned() };
        }
        // Several requests may be challenged at once: the count of a nonce never goes back.
        if !all.iter().any(|kept| kept.header == header && kept.challenge.nonce == challenge.nonce) {
            let ha1 = Ha1::of(&self.user, &challenge.realm, &self.password);
            all.retain(|kept| kept.header != header);
            all.push(Kept { header, challenge: challenge.into_owned(), ha1, nc: 0 });
        }
        Verdict::TryAgain
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 8760 §2.4: the topmost that we know, unless a local policy says otherwise; ours is SHA-256 wherever it is offered.
fn preferred<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Challenge<'a>> {
    let known: Vec<_> = values.filter_map(|value| Challenge::parse(value).ok()).collect();
    let strongest = known.iter().position(|one| one.algorithm == Algorithm::Sha256).unwrap_or(0);
    known.into_iter().nth(strongest)
}

#[cfg(test)]
mod tests {
    use sip::{Layout, parse_datagram};

    use super::*;

    fn login() -> Login {
        let aor = base::Aor::parse("sip:alice@example.com").unwrap();
        let server = ([127, 0, 0, 1], 5060).into();
        Login::new(&Account::new(aor, "secret", server, crate::Transport::Udp))
    }

    fn challenge(login: &Login, lines: &str, tried: &Tried, fresh: bool) -> Verdict {
        let text = format!(
            "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
             Call-ID: 1\r\nCSeq: 1 MESSAGE\r\n{lines}Content-Length: 0\r\n\r\n"
        );
        let mut layout = Layout::default();
        parse_datagram(text.as_bytes(), &mut layout).unwrap();
        login.challenged(layout.view(text.as_bytes()), tried, fresh)
    }

    fn write(login: &Login) -> (String, Tried) {
        let mut lines = Vec::new();
        let tried = login.write(&mut lines, b"MESSAGE", "sip:bob@example.com", &IdMaker::new([1; 16]));
        (String::from_utf8(lines).unwrap(), tried)
    }

    #[test]
    fn sha_256_is_answered_wherever_it_is_offered() {
        let login = login();
        let offered = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=MD5, qop=\"auth\"\r\n\
                       WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"\r\n";
        assert_eq!(challenge(&login, offered, &Tried::default(), false), Verdict::TryAgain);
        assert!(write(&login).0.contains("algorithm=SHA-256"));
    }

    #[test]
    fn the_count_of_a_nonce_goes_up_with_every_use_and_starts_again_with_the_next_nonce() {
        let login = login();
        let offer = |nonce: &str| format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"\r\n");
        challenge(&login, &offer("n"), &Tried::default(), false);
        assert!(write(&login).0.contains("nc=00000001"));
        challenge(&login, &offer("n"), &Tried::default(), false);
        let (lines, tried) = write(&login);
        assert!(lines.contains("nc=00000002"), "{lines}");
        assert_eq!(challenge(&login, &offer("m"), &tried, false), Verdict::TryAgain);
        assert!(write(&login).0.contains("nc=00000001"));
    }

    #[test]
    fn a_fresh_nonce_that_is_refused_means_the_password_and_a_stale_one_does_not() {
        let login = login();
        let offer = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n";
        challenge(&login, offer, &Tried::default(), false);
        let (_, tried) = write(&login);
        let stale = "WWW-Authenticate: Digest realm=\"r\", nonce=\"m\", qop=\"auth\", stale=true\r\n";
        assert_eq!(challenge(&login, stale, &tried, true), Verdict::TryAgain);
        assert_eq!(challenge(&login, offer, &tried, true), Verdict::Refused { realm: "r".to_owned() });
        assert_eq!(write(&login).0, "");
    }

    #[test]
    fn what_cannot_be_answered_is_said_to_be_unknown() {
        let login = login();
        for lines in [
            "",
            "WWW-Authenticate: Basic realm=\"r\"\r\n",
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=AKAv1-MD5\r\n",
        ] {
            assert_eq!(challenge(&login, lines, &Tried::default(), false), Verdict::Unknown, "{lines}");
        }
    }
}
