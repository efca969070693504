//! Credentials: the value of Authorization and Proxy-Authorization (RFC 7616 §3.4, RFC 3261 §22.4), read and verified.

use std::borrow::Cow;

use super::params::{self, Fault};
use super::{Algorithm, Ha1, Proof, same_hex};

const NAMES: [&str; 12] = [
    "username",
    "username*",
    "realm",
    "nonce",
    "uri",
    "response",
    "algorithm",
    "qop",
    "nc",
    "cnonce",
    "opaque",
    "userhash",
];

/// What a client says of itself. Not yet believed: see [`Credentials::verify`].
///
/// Quotes and escapes are taken off. RFC 8760 §2.6 item 6: `uri` is the caller's to compare with the request.
#[derive(Clone, Debug)]
pub struct Credentials<'a> {
    /// The name, or its hash where [`userhash`](Self::userhash) says so; from `username` or `username*`.
    pub username: Cow<'a, str>,
    /// The name is H(user:realm) in hex (RFC 7616 §3.4.4): see [`Credentials::is_of`].
    pub userhash: bool,
    /// Whose accounts are meant.
    pub realm: Cow<'a, str>,
    /// The nonce that was answered; empty before the first challenge (RFC 8760 §2.7).
    pub nonce: Cow<'a, str>,
    /// The Request-URI as the client wrote it.
    pub uri: Cow<'a, str>,
    /// The proof, hex digits; empty before the first challenge (RFC 8760 §2.7).
    pub response: Cow<'a, str>,
    /// MD5 where none is named.
    pub algorithm: Algorithm,
    /// `auth`, or nothing in the old form of RFC 2069.
    pub qop: Option<Cow<'a, str>>,
    /// How often the nonce was used, this time included; 0 without `qop`, as [`Nonces::check`] takes it.
    ///
    /// [`Nonces::check`]: super::Nonces::check
    pub nc: u32,
    /// The client's own nonce; empty without `qop`.
    pub cnonce: Cow<'a, str>,
    /// The server's text, given back.
    pub opaque: Option<Cow<'a, str>>,
    /// The count as written: the digest covers the case of its digits.
    nc_text: Cow<'a, str>,
}

/// Why credentials are not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Another scheme, which SIP knows none of (RFC 8760 §2.6: Basic must not be accepted).
    #[error("scheme is not Digest")]
    OtherScheme,
    /// An algorithm that was not offered.
    #[error("algorithm is not one of those offered")]
    OtherAlgorithm,
    /// `auth-int` or something unknown, which was not offered.
    #[error("qop is not auth")]
    OtherQop,
    /// No list of `name=value`, or a value that its name does not allow.
    #[error("credentials are not a list of parameters")]
    Malformed,
    /// A parameter stands twice, or `username` and `username*` both stand.
    #[error("{0} stands twice")]
    Twice(&'static str),
    /// A parameter is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// `nc` is not 8 hex digits above zero.
    #[error("nc is not 8 hex digits above zero")]
    BadCount,
}

impl CredentialsError {
    /// Whether to answer 400 (RFC 7616 §3.4: improper or missing parameters). All others are well written, but for
    /// another server than us: they count as none, and a challenge is the answer.
    pub fn is_bad_request(self) -> bool {
        match self {
            Self::OtherScheme | Self::OtherAlgorithm | Self::OtherQop => false,
            Self::Malformed | Self::Twice(_) | Self::Missing(_) | Self::BadCount => true,
        }
    }
}

impl From<Fault> for CredentialsError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::OtherScheme => Self::OtherScheme,
            Fault::Malformed => Self::Malformed,
            Fault::Twice(name) => Self::Twice(name),
        }
    }
}

impl<'a> Credentials<'a> {
    /// Reads one header value. Unknown parameters are passed over.
    pub fn parse(value: &'a [u8]) -> Result<Self, CredentialsError> {
        let [plain, extended, realm, nonce, uri, response, algorithm, qop, nc, cnonce, opaque, userhash] =
            params::read(value, &NAMES)?;
        let userhash = userhash.is_some_and(|said| said.eq_ignore_ascii_case("true"));
        let algorithm = match algorithm {
            Some(name) => Algorithm::from_name(&name).ok_or(CredentialsError::OtherAlgorithm)?,
            None => Algorithm::Md5,
        };
        let (nc, nc_text, cnonce) = match &qop {
            // RFC 7616 §3.4: with qop, nc and cnonce are a must; RFC 2617 §3.2.2: without it they mean nothing.
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                let text = need(nc, "nc")?;
                (count(&text)?, text, need(cnonce, "cnonce")?)
            }
            Some(_) => return Err(CredentialsError::OtherQop),
            None => (0, Cow::default(), Cow::default()),
        };
        Ok(Self {
            username: username(plain, extended, userhash)?,
            userhash,
            realm: need(realm, "realm")?,
            nonce: need(nonce, "nonce")?,
            uri: need(uri, "uri")?,
            response: need(response, "response")?,
            algorithm,
            qop,
            nc,
            cnonce,
            opaque,
            nc_text,
        })
    }

    /// Whether they are those of `user`, whose name may be hashed (RFC 7616 §3.4.4). Proves nothing.
    pub fn is_of(&self, user: &str) -> bool {
        if !self.userhash {
            return self.username == user;
        }
        let hashed = self.algorithm.hash(&[user.as_bytes(), self.realm.as_bytes()]);
        same_hex(&hashed, self.username.as_bytes())
    }

    /// Whether the response proves the password behind `ha1`, which must be of this realm. In constant time.
    pub fn verify(&self, ha1: &Ha1, method: &[u8]) -> bool {
        let counted = self.qop.as_deref().map(|qop| [&*self.nc_text, &*self.cnonce, qop]);
        let proof = Proof { algorithm: self.algorithm, nonce: &self.nonce, counted, method, uri: &self.uri };
        same_hex(&proof.response(ha1), self.response.as_bytes())
    }
}

fn need<'a>(value: Option<Cow<'a, str>>, name: &'static str) -> Result<Cow<'a, str>, CredentialsError> {
    value.ok_or(CredentialsError::Missing(name))
}

/// RFC 7616 §3.5: "the nc value MUST be exactly 8 hexadecimal digits"; §3.4: the first is 1.
fn count(text: &str) -> Result<u32, CredentialsError> {
    let is_count = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let count = is_count.then(|| u32::from_str_radix(text, 16).ok()).flatten();
    count.filter(|count| *count > 0).ok_or(CredentialsError::BadCount)
}

fn username<'a>(
    plain: Option<Cow<'a, str>>,
    extended: Option<Cow<'a, str>>,
    userhash: bool,
) -> Result<Cow<'a, str>, CredentialsError> {
    match (plain, extended) {
        // RFC 7616 §3.4: "Sending both … MUST be treated as an error"; username* goes with userhash=false only.
        (Some(_), Some(_)) => Err(CredentialsError::Twice("username")),
        (None, Some(_)) if userhash => Err(CredentialsError::Malformed),
        (None, Some(text)) => extended_value(&text).map(Cow::Owned).ok_or(CredentialsError::Malformed),
        (Some(name), None) => Ok(name),
        (None, None) => Err(CredentialsError::Missing("username")),
    }
}

/// RFC 5987 §3.2: `UTF-8'language'percent-encoded`; RFC 7616 §4 knows no other charset.
fn extended_value(text: &str) -> Option<String> {
    let mut parts = text.splitn(3, '\'');
    let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    if !charset.eq_ignore_ascii_case("UTF-8") {
        return None;
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        decoded.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
        rest = after;
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 7616 §3.9.1 without what each case gives itself.
    const MUFASA: &str = "username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
        nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
        cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
        opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
    const SHA256: &str = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
    const MD5: &str = "8ca523f5e9506fed4657c9700eebdbec";

    fn parse(text: &str) -> Result<Credentials<'_>, CredentialsError> {
        Credentials::parse(text.as_bytes())
    }

    fn proves(text: &str, user: &str, password: &str, method: &str) -> bool {
        let credentials = parse(text).unwrap();
        credentials.verify(&Ha1::of(user, &credentials.realm, password), method.as_bytes())
    }

    #[test]
    fn the_examples_of_rfc_7616_prove_right() {
        // RFC 7616 §3.9.1, both algorithms, named in any case, hex in any case.
        for (algorithm, response) in
            [("MD5", MD5), ("SHA-256", SHA256), ("sha-256", SHA256), ("md5", MD5), ("MD5", &MD5.to_uppercase())]
        {
            let text = format!("Digest {MUFASA}, algorithm={algorithm}, response=\"{response}\"");
            assert!(proves(&text, "Mufasa", "Circle of Life", "GET"), "{algorithm}");
            assert!(!proves(&text, "Mufasa", "Circle Of Life", "GET"), "{algorithm}, wrong password");
            assert!(!proves(&text, "Mufasa", "Circle of Life", "PUT"), "{algorithm}, other method");
        }
        let credentials = format!("Digest {MUFASA}, response=\"{MD5}\"");
        let credentials = parse(&credentials).unwrap();
        assert_eq!((&*credentials.uri, credentials.nc), ("/dir/index.html", 1));
        assert_eq!(credentials.opaque.as_deref(), Some("FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"));
    }

    #[test]
    fn the_example_of_rfc_2617_proves_right_and_md5_is_meant_where_nothing_is_said() {
        // RFC 2617 §3.5.
        let text = "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
            nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, nc=00000001, \
            cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\", \
            opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        assert!(proves(text, "Mufasa", "Circle Of Life", "GET"));
    }

    #[test]
    fn the_form_without_qop_is_still_understood_and_has_no_count() {
        // RFC 3261 §22.4 item 8; figures worked by hand after RFC 2617 §3.2.2.1.
        let credentials = "Digest username=\"bob\", realm=\"biloxi.com\", \
            nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"sip:bob@biloxi.com\", \
            response=\"bf57e4e0d0bffc0fbaedce64d59add5e\", nc=00000007, cnonce=\"0a4f113b\"";
        assert!(proves(credentials, "bob", "zanzibar", "INVITE"));
        assert_eq!(parse(credentials).unwrap().nc, 0);
    }

    #[test]
    fn a_response_of_the_other_algorithm_or_cut_short_proves_nothing() {
        for response in ["", "8ca5", SHA256, &MD5[1..], &format!("{MD5}0"), &format!("0{}", &MD5[1..])] {
            let text = format!("Digest {MUFASA}, algorithm=MD5, response=\"{response}\"");
            assert!(!proves(&text, "Mufasa", "Circle of Life", "GET"), "{response:?}");
        }
        let text = format!("Digest {MUFASA}, algorithm=SHA-256, response=\"{MD5}\"");
        assert!(!proves(&text, "Mufasa", "Circle of Life", "GET"));
    }

    #[test]
    fn the_case_of_the_count_is_part_of_the_proof() {
        let ha1 = Ha1::of("u", "r", "p");
        for nc in ["0000000a", "0000000A"] {
            let proof = Proof {
                algorithm: Algorithm::Md5,
                nonce: "n",
                counted: Some([nc, "c", "auth"]),
                method: b"GET",
                uri: "/",
            };
            let response = String::from_utf8(proof.response(&ha1).to_vec()).unwrap();
            let text = format!(
                "Digest username=u, realm=r, nonce=n, uri=\"/\", qop=\"auth\", nc={nc}, cnonce=c, response={response}"
            );
            assert!(proves(&text, "u", "p", "GET"), "{nc}");
            assert_eq!(parse(&text).unwrap().nc, 10);
        }
    }

    #[test]
    fn a_hashed_name_is_known_again() {
        let text = |name: &str| format!("Digest {}, userhash=true, response=\"\"", MUFASA.replacen("Mufasa", name, 1));
        let hashed = Algorithm::Md5.hash(&[b"Mufasa", b"http-auth@example.org"]);
        let hashed = text(std::str::from_utf8(&hashed).unwrap());
        let credentials = parse(&hashed).unwrap();
        assert!(credentials.is_of("Mufasa") && !credentials.is_of("Scar"));
        let plain = text("Mufasa");
        assert!(!parse(&plain).unwrap().is_of("Mufasa"));
        assert!(parse(&plain.replace("=true", "=false")).unwrap().is_of("Mufasa"));
    }

    #[test]
    fn an_extended_name_is_decoded() {
        // RFC 7616 §3.9.2 (which has an algorithm that we do not speak).
        let text = |name: &str| format!("Digest username*={name}, realm=r, nonce=n, uri=\"/\", response=\"\"");
        assert_eq!(parse(&text("UTF-8''J%C3%A4s%C3%B8n%20Doe")).unwrap().username, "J\u{e4}s\u{f8}n Doe");
        assert_eq!(parse(&text("utf-8'en'x")).unwrap().username, "x");
        for bad in ["x", "UTF-8'x", "ISO-8859-1''%E4", "UTF-8''%C3", "UTF-8''%C", "UTF-8''%", "UTF-8''%+1"] {
            assert_eq!(parse(&text(bad)).unwrap_err(), CredentialsError::Malformed, "{bad:?}");
        }
        let both = format!("{}, username=x", text("UTF-8''x"));
        assert_eq!(parse(&both).unwrap_err(), CredentialsError::Twice("username"));
        let hashed = format!("{}, userhash=true", text("UTF-8''x"));
        assert_eq!(parse(&hashed).unwrap_err(), CredentialsError::Malformed);
    }

    #[test]
    fn what_is_missing_or_stands_twice_is_named() {
        let whole = format!("Digest {MUFASA}, algorithm=MD5, response=\"{MD5}\"");
        for name in ["username", "realm", "nonce", "uri", "response", "nc", "cnonce"] {
            let without = whole.replacen(&format!(" {name}="), " other=", 1);
            assert_eq!(parse(&without).unwrap_err(), CredentialsError::Missing(name));
            let twice = format!("{whole}, {}=x", name.to_uppercase());
            assert_eq!(parse(&twice).unwrap_err(), CredentialsError::Twice(name));
        }
    }

    #[test]
    fn a_count_is_eight_hex_digits_above_zero() {
        for bad in ["1", "0000001", "000000001", "0000000g", "+0000001", "00000000"] {
            let text = format!("Digest {}, response=\"\"", MUFASA.replacen("00000001", bad, 1));
            assert_eq!(parse(&text).unwrap_err(), CredentialsError::BadCount, "{bad:?}");
        }
    }

    #[test]
    fn credentials_for_somebody_else_count_as_none_and_broken_ones_as_a_fault() {
        let of = |text: &str| parse(text).unwrap_err();
        assert_eq!(of("Basic YTpi"), CredentialsError::OtherScheme);
        assert_eq!(of("Digest algorithm=AKAv1-MD5"), CredentialsError::OtherAlgorithm);
        assert_eq!(of("Digest qop=auth-int"), CredentialsError::OtherQop);
        for error in [CredentialsError::OtherScheme, CredentialsError::OtherAlgorithm, CredentialsError::OtherQop] {
            assert!(!error.is_bad_request(), "{error}");
        }
        for error in [of("Digest"), of("Digest x"), of("Digest nc=1, nc=1"), CredentialsError::BadCount] {
            assert!(error.is_bad_request(), "{error}");
        }
    }

    #[test]
    fn credentials_before_the_first_challenge_can_be_read_and_prove_nothing() {
        // RFC 8760 §2.7: empty values where the client has no challenge yet.
        let text = "Digest username=\"bob\", realm=\"biloxi.com\", nonce=\"\", uri=\"sip:biloxi.com\", response=\"\"";
        assert!(!proves(text, "bob", "zanzibar", "REGISTER"));
    }

    proptest! {
        /// Whatever stands in the header, there is an answer.
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[a-z*=\",\\\\' %\r\n]{0,80}") {
            let named = [b"Digest ", &bytes[..]].concat();
            for value in [bytes, named, format!("Digest {text}").into_bytes(), format!("Digest {MUFASA}, {text}").into_bytes()] {
                if let Ok(credentials) = Credentials::parse(&value) {
                    prop_assert!(!credentials.verify(&Ha1::of("a", "b", "c"), b"MESSAGE"));
                }
            }
        }
    }
}
