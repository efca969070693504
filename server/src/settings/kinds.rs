//! Kinds of values: each says what it takes, and what to write where something else stands.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use base::Aor;
use sip::digest::Algorithm;
use toml::Value;

use super::network::{Network, TrustedPeer};
use super::read::Read;

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

fn fault<T>(value: &Value, is_no: &str, write: &str) -> Read<T> {
    Err(vec![format!("{} is no {is_no} (write {write})", shown(value))])
}

/// A text, maybe empty; control characters are none of it.
pub fn text(value: &Value) -> Read<String> {
    match value.as_str() {
        Some(text) if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => fault(value, "text", "it between quotes, on one line"),
    }
}

/// true or false.
pub fn truth(value: &Value) -> Read<bool> {
    value.as_bool().map_or_else(|| fault(value, "truth value", "true or false"), Ok)
}

/// A whole number of that range.
pub fn number<T: TryFrom<i64> + Into<i128> + Copy>(range: RangeInclusive<T>) -> impl Fn(&Value) -> Read<T> {
    move |value| {
        let (low, high) = ((*range.start()).into(), (*range.end()).into());
        let number = value.as_integer().filter(|number| (low..=high).contains(&i128::from(*number)));
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Ok(number),
            None if value.is_integer() => Err(vec![format!("{value} is out of range (write {low} to {high})")]),
            None => fault(value, "number", &format!("{low} to {high}")),
        }
    }
}

/// Whole seconds of that range.
pub fn seconds(range: RangeInclusive<u32>) -> impl Fn(&Value) -> Read<Duration> {
    let number = number(range);
    move |value| number(value).map(|seconds| Duration::from_secs(seconds.into()))
}

/// A path, not empty.
pub fn path(value: &Value) -> Read<PathBuf> {
    match text(value)? {
        text if text.is_empty() => fault(value, "path", "the name of a file or directory"),
        text => Ok(text.into()),
    }
}

/// A path; empty means none.
pub fn path_or_none(value: &Value) -> Read<Option<PathBuf>> {
    text(value).map(|text| (!text.is_empty()).then(|| text.into()))
}

/// One of these words.
pub fn one_of(words: &'static [&'static str]) -> impl Fn(&Value) -> Read<&'static str> {
    move |value| match words.iter().find(|word| value.as_str() == Some(word)) {
        Some(word) => Ok(*word),
        None => {
            fault(value, "choice here", &words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or "))
        }
    }
}

/// What stands in a list.
pub fn elements(value: &Value) -> Read<Vec<Value>> {
    value.as_array().cloned().map_or_else(|| fault(value, "list", "[…] around it"), Ok)
}

/// An address and a port to listen at.
pub fn address(value: &Value) -> Read<SocketAddr> {
    const WRITE: &str = "host:port with the host's address, such as \"127.0.0.1:5060\" or \"[::1]:5060\"";
    match value.as_str().and_then(|text| text.parse::<SocketAddr>().ok()) {
        Some(address) if address.port() == 0 => fault(value, "socket address that a peer could know", "a port above 0"),
        Some(address) => Ok(address),
        None => fault(value, "socket address", WRITE),
    }
}

/// A name server: an address, with a port where it is not 53.
pub fn name_server(value: &Value) -> Read<SocketAddr> {
    match value.as_str().and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(host) => Ok(SocketAddr::new(host, 53)),
        None => address(value),
    }
}

/// A domain name, in lower case.
pub fn domain(value: &Value) -> Read<String> {
    match value.as_str().and_then(|text| Aor::new("x", text).ok().filter(|_| !text.contains(['[', '_']))) {
        Some(aor) if aor.domain().len() <= 253 && aor.domain().split('.').all(is_label) => Ok(aor.domain().to_owned()),
        _ => fault(value, "domain", "a name such as \"example.com\""),
    }
}

fn is_label(label: &str) -> bool {
    // RFC 1035 §2.3.1, RFC 1123 §2.1.
    (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
}

/// A domain name, or `*` for all.
pub fn domain_or_all(value: &Value) -> Read<String> {
    if value.as_str() == Some("*") { Ok("*".to_owned()) } else { domain(value) }
}

/// The user part of an address of our own.
pub fn user_part(value: &Value) -> Read<String> {
    match value.as_str().and_then(|text| Aor::new(text, "x").ok()) {
        Some(aor) => Ok(aor.user().to_owned()),
        None => fault(value, "user part of an address", "a word such as \"im-system\""),
    }
}

/// An address of record.
pub fn aor(value: &Value) -> Read<Aor> {
    match value.as_str().map(Aor::parse) {
        Some(Ok(aor)) => Ok(aor),
        Some(Err(why)) => {
            Err(vec![format!("{value} is no address of record: {why} (write \"sip:alice@example.com\")")])
        }
        None => fault(value, "address of record", "\"sip:alice@example.com\""),
    }
}

/// The realm of Digest: what may stand in a quoted string (RFC 3261 §25.1) and needs no escape there.
pub fn realm(value: &Value) -> Read<String> {
    match value.as_str() {
        Some(text) if !text.is_empty() && text.len() <= 128 && text.chars().all(|c| (' '..='~').contains(&c)) => {
            if text.contains(['"', '\\']) {
                fault(value, "realm", "it without quotes and backslashes")
            } else {
                Ok(text.to_owned())
            }
        }
        _ => fault(value, "realm", "1 to 128 printable ASCII characters"),
    }
}

/// An algorithm of Digest.
pub fn algorithm(value: &Value) -> Read<Algorithm> {
    let name = one_of(&["SHA-256", "MD5"])(value)?;
    Ok(if name == "MD5" { Algorithm::Md5 } else { Algorithm::Sha256 })
}

/// A network, or a name that a TLS certificate bears.
pub fn trusted_peer(value: &Value) -> Read<TrustedPeer> {
    let text = value.as_str().unwrap_or_default();
    match Network::parse(text) {
        Ok(network) => Ok(TrustedPeer::Network(network)),
        Err(Some(why)) => Err(vec![format!("{value} is no network: {why}")]),
        Err(None) => match domain(value) {
            Ok(name) => Ok(TrustedPeer::Name(name)),
            Err(_) => fault(value, "network and no name", "\"10.0.0.0/8\", \"fd00::/8\" or \"p.example.net\""),
        },
    }
}

/// The country code of national numbers; empty: none.
pub fn country(value: &Value) -> Read<String> {
    match value.as_str() {
        // E.164 §6.1: one to three digits, none begins with 0.
        Some(text) if text.len() <= 3 && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(text.to_owned())
        }
        _ => fault(value, "country code", "one to three digits without + or 00, such as \"49\""),
    }
}

/// The root of an XCAP server.
pub fn http_root(value: &Value) -> Read<String> {
    match value.as_str() {
        Some(text) if is_http(text) => Ok(text.trim_end_matches('/').to_owned()),
        _ => fault(value, "HTTP address", "\"http://host:port/path\""),
    }
}

fn is_http(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>?#".contains(&byte))
    })
}

/// The root of an XCAP server; empty: none.
pub fn http_root_or_none(value: &Value) -> Read<Option<String>> {
    if value.as_str() == Some("") { Ok(None) } else { http_root(value).map(Some) }
}

/// AUIDs, and where each is served.
pub fn remote_roots(value: &Value) -> Read<BTreeMap<String, String>> {
    let Some(table) = value.as_table() else { return fault(value, "table", "{ AUID = \"http://host:port/path\" }") };
    let (mut read, mut faults) = (BTreeMap::new(), Vec::new());
    for (auid, root) in table {
        match http_root(root) {
            Ok(root) => _ = read.insert(auid.clone(), root),
            Err(reasons) => faults.extend(reasons.into_iter().map(|reason| format!("{auid}: {reason}"))),
        }
    }
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

/// A SIP URI.
pub fn sip_uri(value: &Value) -> Read<String> {
    match value.as_str() {
        Some(text) if is_sip(text) => Ok(text.to_owned()),
        _ => fault(value, "SIP URI", "\"sip:im.example.com;lr\""),
    }
}

/// A SIP URI; empty: none.
pub fn sip_uri_or_none(value: &Value) -> Read<Option<String>> {
    match value.as_str() {
        Some("") => Ok(None),
        Some(text) if is_sip(text) => Ok(Some(text.to_owned())),
        _ => fault(value, "SIP URI", "\"sip:im.example.com;lr\""),
    }
}

fn is_sip(text: &str) -> bool {
    use sip::{Scheme, Uri};
    Uri::parse(text.as_bytes()).is_ok_and(|uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips))
}
