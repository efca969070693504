//! What was found of a place: servers by rank and weight, and the order in which one request tries them.
//!
//! What is remembered is the choice and not its outcome: each request throws its own dice, so that weights hold while an
//! answer is believed (RFC 2782). The dice of one transaction are the same at every repeat: it goes to the same server
//! without anybody keeping which (RFC 3263 §4.4).

use std::net::SocketAddr;
use std::sync::Arc;

use base::limits::TARGETS_MAX;
use smallvec::SmallVec;

use crate::place::Transport;

/// Where a request may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// By what.
    pub transport: Transport,
    /// Where to.
    pub address: SocketAddr,
    /// Whom the certificate must name (RFC 5922 §7.3): the domain that was looked for, whatever the DNS made of it.
    pub domain: Arc<str>,
}

/// The targets of one request, best first.
pub type Targets = SmallVec<[Target; 2]>;

/// One server of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Lower ones first: of a NAPTR, then of an SRV.
    pub(crate) rank: u32,
    /// Its share among those of one rank.
    pub(crate) weight: u16,
    pub(crate) transport: Transport,
    /// In the order of their families; one at least.
    pub(crate) addresses: SmallVec<[SocketAddr; 2]>,
}

impl Server {
    fn key(&self) -> (u32, bool, u16, Transport, &[SocketAddr]) {
        (self.rank, self.weight != 0, self.weight, self.transport, &self.addresses)
    }
}

/// The servers of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// By rank; within one, those without weight first (RFC 2782).
    servers: Box<[Server]>,
    domain: Arc<str>,
}

impl Located {
    /// Nothing where no server has an address. Whoever offers TLS first is never spoken to in clear when that fails
    /// (RFC 3263 §7).
    pub(crate) fn of(mut servers: Vec<Server>, domain: Arc<str>) -> Option<Self> {
        servers.retain(|server| !server.addresses.is_empty());
        // Whatever order the DNS gave: one transaction finds the same server when the answer is asked for again.
        servers.sort_by(|one, two| one.key().cmp(&two.key()));
        if servers.first()?.transport == Transport::Tls {
            servers.retain(|server| server.transport == Transport::Tls);
        }
        Some(Self { servers: servers.into(), domain })
    }

    /// The targets of one request in the order in which it tries them: by priority and weight (RFC 2782), the addresses
    /// of one host one after the other.
    pub fn order(&self, mut dice: Dice) -> Targets {
        let mut targets = Targets::new();
        let mut rest = &self.servers[..];
        while let Some(first) = rest.first() {
            let (group, after) = rest.split_at(rest.iter().take_while(|server| server.rank == first.rank).count());
            rest = after;
            let mut group: SmallVec<[&Server; 8]> = group.iter().collect();
            while !group.is_empty() {
                let server = group.remove(choose(&group, &mut dice));
                self.addresses(server, &mut dice, &mut targets);
            }
        }
        targets.truncate(TARGETS_MAX);
        targets
    }

    /// Several addresses of one family share what comes; the preferred family stays in front.
    fn addresses(&self, server: &Server, dice: &mut Dice, targets: &mut Targets) {
        let mut rest = &server.addresses[..];
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|address| address.is_ipv4() == first.is_ipv4()).count();
            let (family, after) = rest.split_at(count);
            rest = after;
            let start = if count > 1 { dice.up_to(count as u32 - 1) as usize } else { 0 };
            let (before, behind) = family.split_at(start);
            targets.extend(behind.iter().chain(before).map(|address| Target {
                transport: server.transport,
                address: *address,
                domain: self.domain.clone(),
            }));
        }
    }

    /// The transport that is preferred.
    pub fn transport(&self) -> Transport {
        self.servers[0].transport
    }
}

/// RFC 2782, "The format of the SRV RR": the first whose running sum of weights reaches the number that was thrown. A 0 is
/// thrown only where somebody without weight is to have his small chance: so the shares of the others are exact.
fn choose(group: &[&Server], dice: &mut Dice) -> usize {
    let sum: u32 = group.iter().map(|server| u32::from(server.weight)).sum();
    if sum == 0 {
        return dice.up_to(group.len() as u32 - 1) as usize;
    }
    let thrown = if group[0].weight == 0 { dice.up_to(sum) } else { 1 + dice.up_to(sum - 1) };
    let mut running = 0;
    let reached = group.iter().position(|server| {
        running += u32::from(server.weight);
        running >= thrown
    });
    reached.unwrap_or(0)
}

/// Chance that comes in from outside: numbers that follow from a seed (SplitMix64).
#[derive(Debug, Clone, Copy)]
pub struct Dice(u64);

impl Dice {
    /// With a seed: of a transaction its keyed hash, else whatever nobody guesses.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `most`, all equally likely.
    fn up_to(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * (u128::from(most) + 1)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn server(rank: u32, weight: u16, transport: Transport, addresses: &[&str]) -> Server {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Server { rank, weight, transport, addresses }
    }

    fn located(servers: Vec<Server>) -> Located {
        Located::of(servers, "example.com".into()).unwrap()
    }

    fn order(located: &Located, seed: u64) -> Vec<String> {
        located.order(Dice::new(seed)).iter().map(|target| target.address.to_string()).collect()
    }

    #[test]
    fn a_lower_rank_always_comes_first_and_weights_share_what_comes() {
        let found = located(vec![
            server(20, 0, Transport::Udp, &["192.0.2.3:5060"]),
            server(10, 3, Transport::Udp, &["192.0.2.2:5060"]),
            server(10, 1, Transport::Udp, &["192.0.2.1:5060"]),
        ]);
        let mut first = HashMap::new();
        for seed in 0..10_000 {
            let order = order(&found, seed);
            assert_eq!(order[2], "192.0.2.3:5060");
            *first.entry(order[0].clone()).or_insert(0) += 1;
        }
        let share = f64::from(first["192.0.2.2:5060"]) / 10_000.0;
        assert!((0.73..0.77).contains(&share), "three of four go to the heavier: {share}");
    }

    #[test]
    fn a_server_without_weight_is_hardly_ever_chosen_beside_one_with_it() {
        // RFC 2782: "a very small chance".
        let found = located(vec![
            server(0, 99, Transport::Tcp, &["192.0.2.1:5060"]),
            server(0, 0, Transport::Tcp, &["192.0.2.2:5060"]),
        ]);
        let rare = (0..10_000).filter(|seed| order(&found, *seed)[0] == "192.0.2.2:5060").count();
        assert!((40..250).contains(&rare), "{rare}");
    }

    #[test]
    fn one_transaction_finds_the_same_order_again() {
        let servers = (1..9).map(|n| server(0, n, Transport::Udp, &[&format!("192.0.2.{n}:5060")])).collect();
        let found = located(servers);
        for seed in 0..100 {
            assert_eq!(order(&found, seed), order(&found, seed));
        }
        assert!((0..100).any(|seed| order(&found, seed) != order(&found, 0)));
    }

    #[test]
    fn addresses_of_one_host_share_what_comes_and_the_first_family_stays_first() {
        let found =
            located(vec![server(0, 0, Transport::Tcp, &["[2001:db8::1]:5060", "192.0.2.1:5060", "192.0.2.2:5060"])]);
        let mut second = HashMap::new();
        for seed in 0..1_000 {
            let order = order(&found, seed);
            assert_eq!((order.len(), &*order[0]), (3, "[2001:db8::1]:5060"));
            *second.entry(order[1].clone()).or_insert(0) += 1;
        }
        assert!(second.len() == 2 && second.values().all(|count| *count > 400), "{second:?}");
    }

    #[test]
    fn who_offers_tls_first_is_not_told_in_clear() {
        let tls = || server(1, 0, Transport::Tls, &["192.0.2.1:5061"]);
        let tcp = |rank| server(rank, 0, Transport::Tcp, &["192.0.2.1:5060"]);
        assert_eq!(order(&located(vec![tcp(2), tls()]), 0), ["192.0.2.1:5061"]);
        assert_eq!(order(&located(vec![tls(), tcp(0)]), 0).len(), 2, "who prefers clear is not held to more");
        assert_eq!(located(vec![tls(), tcp(0)]).transport(), Transport::Tcp);
    }

    #[test]
    fn a_place_without_an_address_is_none() {
        assert_eq!(Located::of(vec![server(0, 0, Transport::Udp, &[])], "x".into()), None);
        assert_eq!(Located::of(Vec::new(), "x".into()), None);
    }

    proptest! {
        /// Whatever the weights: each target once, by rank, and no more than are tried.
        #[test]
        fn an_order_is_a_permutation_by_rank(
            servers in prop::collection::vec((0u32..4, any::<u16>(), 1usize..4), 1..12), seed: u64
        ) {
            let servers: Vec<Server> = servers.iter().enumerate().map(|(n, (rank, weight, count))| {
                let addresses = (0..*count).map(|at| SocketAddr::new([10, n as u8, at as u8, *rank as u8].into(), 5060));
                Server { rank: *rank, weight: *weight, transport: Transport::Udp, addresses: addresses.collect() }
            }).collect();
            let all: usize = servers.iter().map(|server| server.addresses.len()).sum();
            let found = located(servers).order(Dice::new(seed));
            prop_assert_eq!(found.len(), all.min(TARGETS_MAX));
            let rank = |target: &Target| match target.address.ip() { std::net::IpAddr::V4(ip) => ip.octets()[3], _ => 9 };
            prop_assert!(found.is_sorted_by_key(rank));
            let distinct: std::collections::HashSet<_> = found.iter().map(|target| target.address).collect();
            prop_assert_eq!(distinct.len(), found.len());
        }
    }
}
