//! What the actors and the data plane are told. `server` fills it from the configuration file.

use std::net::IpAddr;
use std::time::Duration;

use base::limits;
use locate::{Families, Speaks};
use sip::digest::Algorithm;

use crate::switch::Place;

/// One SIP listener, as it names itself.
#[derive(Clone, Debug)]
pub struct ListenerName {
    /// `host:port` of our Via headers.
    pub sent_by: String,
    /// Whether its socket is one of IPv6.
    pub is_v6: bool,
}

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address of it.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub bits: u8,
}

impl Network {
    /// Whether an address belongs to it.
    pub fn has(&self, address: IpAddr) -> bool {
        let bits = |ip: IpAddr| match ip.to_canonical() {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
            IpAddr::V6(ip) => (ip.to_bits(), 128),
        };
        let ((own, width), (other, others)) = (bits(self.address), bits(address));
        let counted = u32::from(self.bits).min(width);
        width == others && (counted == 0 || (own ^ other) >> (128 - counted) == 0)
    }
}

/// How other domains and telephone numbers are looked up.
#[derive(Clone, Debug)]
pub struct Dns {
    /// What we can speak outwards, by the families of our listeners.
    pub speaks: Speaks,
    /// The zone of telephone numbers.
    pub enum_suffix: String,
    /// Country code of national numbers; empty: only +… is a number.
    pub country: String,
}

impl Default for Dns {
    fn default() -> Self {
        let v4 = Families { v4: true, v6: false };
        let speaks = Speaks { udp: v4, tcp: v4, tls: Families::NONE };
        Self { speaks, enum_suffix: "e164.arpa".into(), country: String::new() }
    }
}

/// Other domains: with whom we speak, and how.
#[derive(Clone, Debug)]
pub struct Federation {
    /// Domains that we speak with; `*`: all.
    pub allow: Vec<String>,
    /// Domains that we do not speak with; wins.
    pub deny: Vec<String>,
    /// Nothing is said or heard without TLS.
    pub require_tls: bool,
    /// Requests that one of them may send in a second; 0: no limit.
    pub rate: u32,
}

impl Default for Federation {
    fn default() -> Self {
        Self { allow: vec!["*".into()], deny: Vec::new(), require_tls: true, rate: 1_000 }
    }
}

impl Federation {
    /// Whether we speak with a domain.
    pub fn speaks_with(&self, domain: &str) -> bool {
        let has = |names: &[String]| names.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(domain));
        has(&self.allow) && !has(&self.deny)
    }
}

/// Settings of the living part of the house.
#[derive(Clone, Debug)]
pub struct Config {
    /// The domains that are ours, lower case; the first is the default.
    pub domains: Vec<String>,
    /// The Digest realm; nothing: the user's own domain.
    pub realm: Option<String>,
    /// Algorithms of the challenges, in this order.
    pub algorithms: Vec<Algorithm>,
    /// How other domains and telephone numbers are looked up.
    pub dns: Dns,
    /// With which other domains we speak.
    pub federation: Federation,
    /// Networks whose requests are not challenged (decisions D7).
    pub trusted: Vec<Network>,
    /// Our UDP listeners, by their number.
    pub udp: Vec<ListenerName>,
    /// How we name ourselves on connections.
    pub tcp: ListenerName,
    /// Where requests of a registered client are to pass, values of Service-Route (RFC 3608); none: anywhere.
    pub service_route: Vec<String>,
    /// Where MSRP is spoken, for the paths that we give; nothing: nowhere.
    pub msrp: Option<Place>,
    /// Actors' shards: arbiters, one a core.
    pub shards: usize,
    /// Largest body of a page message, octets; 413 above.
    pub message_bytes: usize,
    /// Contacts of one user.
    pub bindings_per_user: usize,
    /// Shortest binding, seconds; 423 below.
    pub binding_expiry_s_min: u32,
    /// Longest binding, seconds; more is shortened.
    pub binding_expiry_s_max: u32,
    /// Letters that wait for one user.
    pub letters_per_user: u32,
    /// Their octets together.
    pub letter_bytes_per_user: u64,
    /// How long a letter waits when its sender names no time, and the longest that one may ask for, seconds.
    pub letter_expiry_s: u64,
    /// A receiver who is silent this long counts as away.
    pub silence: Duration,
    /// A session in which nothing is said ends after this; zero: never.
    pub session_idle: Duration,
    /// What is asked for of session timers, and what is taken (RFC 4028).
    pub session_timer: im::session_timer::Policy,
    /// A user's actor with nothing to do leaves after this.
    pub user_idle: Duration,
    /// Requests without credentials that one source may send in a second; 0: no limit.
    pub challenges_per_source: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domains: vec!["example.com".into()],
            realm: None,
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            dns: Dns::default(),
            federation: Federation::default(),
            trusted: Vec::new(),
            udp: vec![ListenerName { sent_by: "127.0.0.1:5060".into(), is_v6: false }],
            tcp: ListenerName { sent_by: "127.0.0.1:5060".into(), is_v6: false },
            service_route: Vec::new(),
            msrp: None,
            shards: 1,
            message_bytes: limits::PAGE_BODY_BYTES_MAX,
            bindings_per_user: limits::BINDINGS_PER_USER_MAX,
            binding_expiry_s_min: 1,
            binding_expiry_s_max: limits::BINDING_EXPIRY_S_MAX,
            letters_per_user: limits::LETTERS_PER_USER_MAX,
            letter_bytes_per_user: limits::LETTER_BYTES_PER_USER_MAX,
            letter_expiry_s: limits::LETTER_EXPIRY_S,
            silence: limits::SILENCE,
            session_idle: limits::SESSION_IDLE,
            session_timer: im::session_timer::Policy::default(),
            user_idle: limits::USER_IDLE,
            challenges_per_source: limits::CHALLENGES_PER_SOURCE_PER_S_MAX,
        }
    }
}

impl Config {
    /// The Digest realm of a domain.
    pub fn realm_of<'a>(&'a self, domain: &'a str) -> &'a str {
        self.realm.as_deref().unwrap_or(domain)
    }

    /// Whether a Digest realm is one of ours.
    pub fn is_own_realm(&self, realm: &str) -> bool {
        match &self.realm {
            Some(own) => own == realm,
            None => self.domains.iter().any(|own| own.eq_ignore_ascii_case(realm)),
        }
    }

    /// Whether a domain is ours.
    pub fn is_ours(&self, domain: &str) -> bool {
        self.domains.iter().any(|own| own == domain)
    }

    /// Whether an address is not challenged.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.has(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_that_is_denied_is_not_spoken_with_even_where_all_are_allowed() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let speaks = |allow: &[&str], deny: &[&str], domain: &str| {
            Federation { allow: names(allow), deny: names(deny), ..Federation::default() }.speaks_with(domain)
        };
        assert!(speaks(&["*"], &["b.example"], "a.example") && !speaks(&["*"], &["b.example"], "B.example"));
        assert!(speaks(&["a.example"], &[], "a.example") && !speaks(&["a.example"], &[], "b.example"));
        assert!(!speaks(&["a.example"], &["*"], "a.example"));
    }

    #[test]
    fn a_network_has_the_addresses_that_share_its_first_bits() {
        let net = |text: &str, bits| Network { address: text.parse().unwrap(), bits };
        let has = |net: Network, text: &str| net.has(text.parse().unwrap());
        assert!(has(net("10.0.0.0", 8), "10.255.3.4") && !has(net("10.0.0.0", 8), "11.0.0.1"));
        assert!(has(net("127.0.0.7", 32), "127.0.0.7") && !has(net("127.0.0.7", 32), "127.0.0.6"));
        assert!(has(net("127.0.0.7", 32), "::ffff:127.0.0.7"), "a mapped address is the address");
        assert!(has(net("2001:db8::", 32), "2001:db8:9::1") && !has(net("2001:db8::", 32), "10.0.0.1"));
        assert!(has(net("0.0.0.0", 0), "9.9.9.9"));
    }
}
