//! The locator over a name server of others (dnsmasq), without the rest of the server: what it finds, in which order, and
//! how often it asks.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Arbiter;
use actors::locator::NotFound;
use actors::node::State;
use actors::tree::{self, Tree};
use actors::{Config, House};
use base::limits::LOCATE_TIME_MAX;
use base::{IdMaker, Now};
use locate::{Failure, Families, Number, Place, Plan, Speaks, Transport};
use net::Dns;
use storage::Store;
use support::NameServer;
use support::ports::free_port;

const RECORDS: [&str; 20] = [
    "host-record=h1.test,127.0.0.1",
    "host-record=h2.test,127.0.0.2",
    "host-record=six.test,127.0.0.6,::1",
    "naptr-record=one.test,20,10,s,SIP+D2U,,_sip._udp.one.test",
    "naptr-record=one.test,10,10,s,SIP+D2T,,_sip._tcp.one.test",
    "naptr-record=one.test,5,10,s,SIPS+D2T,,_sips._tcp.one.test",
    "srv-host=_sip._tcp.one.test,h1.test,5070,20,0",
    "srv-host=_sip._tcp.one.test,h2.test,5071,10,0",
    "srv-host=_sip._udp.one.test,h1.test,5072,10,0",
    "srv-host=_sips._tcp.one.test,h1.test,5073,10,0",
    "srv-host=_sip._udp.weighted.test,h1.test,5081,1,60",
    "srv-host=_sip._udp.weighted.test,h1.test,5082,1,30",
    "srv-host=_sip._udp.weighted.test,h1.test,5083,1,10",
    "srv-host=_sip._udp.weighted.test,h1.test,5084,2,99",
    "srv-host=_sip._udp.no.test",
    "srv-host=_im._sip.im.test,h2.test,5090,0,0",
    r"naptr-record=3.2.1.0.4.9.4.e164.arpa,10,20,u,E2U+sip,!^.*$!sip:second@one.test!",
    r"naptr-record=3.2.1.0.4.9.4.e164.arpa,10,10,u,E2U+sip,!^\+49(.*)$!sip:\1@one.test!",
    r"naptr-record=9.e164.arpa,10,10,,,,8.e164.arpa",
    r"naptr-record=8.e164.arpa,10,10,u,E2U+im,!^.*$!im:nine@one.test!",
];

/// A house of which only the locator is of interest, alive on this thread.
struct World {
    house: Arc<House>,
    tree: Tree,
}

impl World {
    async fn new(servers: &[SocketAddr], speaks: Speaks) -> Self {
        let mut config = Config::default();
        config.dns.speaks = speaks;
        let house = House::new(config, Store::in_memory(), IdMaker::new([5; 16]), Now::read);
        house.locator.introduce(Arc::new(Dns::new(servers).unwrap()));
        let tree = tree::plant(&house, &[Arbiter::current().clone()], Vec::new(), || {});
        let lives = || {
            let children = tree.node.children().0;
            children.iter().any(|child| child.name == "locator" && child.state() == State::Running)
        };
        while !lives() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { house, tree }
    }

    async fn find(&self, uri: &str) -> Result<Arc<locate::Located>, NotFound> {
        let place = Place::of_uri(&sip::Uri::parse(uri.as_bytes()).unwrap()).unwrap();
        self.house.locator.find(place, Instant::now()).await
    }

    /// Where a request goes, best first: `tcp 127.0.0.1:5070`.
    async fn leads(&self, uri: &str, seed: u64) -> Vec<String> {
        match self.find(uri).await {
            Err(NotFound::Failed(failure)) => vec![format!("{failure:?}")],
            Err(NotFound::Busy) => vec!["Busy".into()],
            Ok(located) => {
                let targets = self.house.locator.order(&located, seed, Instant::now());
                targets.iter().map(|one| format!("{:?} {}", one.transport, one.address).to_lowercase()).collect()
            }
        }
    }

    async fn uris(&self, number: &str) -> Vec<String> {
        let number = Number::of_local(number.as_bytes(), None, Plan { country: "", domains: &[] }).unwrap();
        let found = self.house.locator.find_number(number, Instant::now()).await;
        found.map_or_else(|why| vec![format!("{why:?}")], |uris| uris.iter().map(|one| one.uri.clone()).collect())
    }

    fn counted(&self, name: &str) -> u64 {
        let mut out = String::new();
        self.house.locator.write(&mut out, Instant::now());
        let line = out.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tree.leave();
    }
}

fn clear() -> Speaks {
    Speaks { udp: Families::BOTH, tcp: Families::BOTH, tls: Families::NONE }
}

#[actix::test]
async fn a_domain_is_found_by_naptr_srv_and_addresses() {
    let Some(names) = NameServer::start(60, &RECORDS) else { return };
    let world = World::new(&[names.at()], clear()).await;
    for (uri, wanted) in [
        // RFC 3263 §4.1: NAPTR by order, then SRV by priority; what we do not speak is passed over.
        ("sip:bob@one.test", &["tcp 127.0.0.2:5071", "tcp 127.0.0.1:5070", "udp 127.0.0.1:5072"][..]),
        ("sip:bob@ONE.test;transport=udp", &["udp 127.0.0.1:5072"]),
        ("sips:bob@one.test", &["Unspoken"]),
        ("sip:bob@six.test", &["udp [::1]:5060", "udp 127.0.0.6:5060"]),
        ("sip:bob@six.test:5099;transport=tcp", &["tcp [::1]:5099", "tcp 127.0.0.6:5099"]),
        ("sip:bob@no.test", &["Refused"]),
        ("im:bob@im.test", &["udp 127.0.0.2:5090"]),
        ("sip:bob@gone.test", &["Nothing"]),
        ("sip:bob@127.0.0.1", &["udp 127.0.0.1:5060"]),
    ] {
        assert_eq!(world.leads(uri, 1).await, wanted, "{uri}");
    }
    let tls = World::new(&[names.at()], Speaks { tls: Families::BOTH, ..clear() }).await;
    assert_eq!(tls.leads("sip:bob@one.test", 1).await, ["tls 127.0.0.1:5073"]);
    let v4 = Families { v4: true, v6: false };
    let old = World::new(&[names.at()], Speaks { udp: v4, tcp: v4, tls: Families::NONE }).await;
    assert_eq!(old.leads("sip:bob@six.test", 1).await, ["udp 127.0.0.6:5060"]);
}

#[actix::test]
async fn weights_share_what_comes_and_a_lower_priority_hears_nothing() {
    let Some(names) = NameServer::start(60, &RECORDS) else { return };
    let world = World::new(&[names.at()], clear()).await;
    let mut first: HashMap<String, u32> = HashMap::new();
    let rounds = 4_000;
    for seed in 0..rounds {
        let order = world.leads("sip:bob@weighted.test", seed).await;
        assert_eq!((order.len(), &*order[3]), (4, "udp 127.0.0.1:5084"), "the last resort stays last");
        *first.entry(order[0].clone()).or_default() += 1;
    }
    for (port, share) in [(5081, 0.6), (5082, 0.3), (5083, 0.1)] {
        let seen = f64::from(first[&format!("udp 127.0.0.1:{port}")]) / rounds as f64;
        assert!((seen - share).abs() < 0.03, "{port}: {seen}, wanted {share}");
    }
    assert_eq!(names.times("SRV", "_sip._udp.weighted.test"), 1, "{}", names.log());
}

#[actix::test]
async fn what_is_known_is_not_asked_again_before_its_time() {
    let Some(names) = NameServer::start(2, &RECORDS) else { return };
    let world = World::new(&[names.at()], clear()).await;
    for _ in 0..25 {
        assert_eq!(world.leads("sip:bob@gone.test", 1).await, ["Nothing"]);
        assert_eq!(world.leads("sip:bob@one.test", 1).await.len(), 3);
        assert_eq!(world.uris("+49999").await, ["Failed(Nothing)"]);
    }
    let asked = || {
        let soon = |kind, name| names.times(kind, name);
        [
            soon("NAPTR", "gone.test"),
            soon("A", "gone.test"),
            soon("NAPTR", "one.test"),
            soon("NAPTR", "9.9.9.9.4.e164.arpa"),
        ]
    };
    assert_eq!(asked(), [1; 4], "{}", names.log());
    assert!(world.counted("parlour_dns_cache_hits_total") >= 72);
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    assert_eq!(world.leads("sip:bob@gone.test", 1).await, ["Nothing"]);
    assert_eq!(world.leads("sip:bob@one.test", 1).await.len(), 3);
    assert_eq!(world.uris("+49999").await, ["Failed(Nothing)"]);
    assert_eq!(asked(), [2; 4], "{}", names.log());
}

#[actix::test]
async fn a_number_leads_to_the_uri_of_its_best_rule() {
    let Some(names) = NameServer::start(60, &RECORDS) else { return };
    let world = World::new(&[names.at()], clear()).await;
    assert_eq!(world.uris("+49-40-123").await, ["sip:40123@one.test", "sip:second@one.test"]);
    assert_eq!(world.uris("+9").await, ["im:nine@one.test"], "by a rule that leads on");
    assert_eq!(world.uris("+49-40-124").await, ["Failed(Nothing)"]);
}

#[actix::test]
async fn a_name_server_that_is_dead_is_gone_round_and_without_any_nobody_waits_long() {
    let Some(mut names) = NameServer::start(1, &RECORDS) else { return };
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let world = World::new(&[dead, names.at()], clear()).await;
    assert_eq!(world.leads("sip:bob@one.test", 1).await.len(), 3);
    names.stop();
    let began = Instant::now();
    assert_eq!(world.leads("sip:bob@h1.test", 1).await, ["Unknown"]);
    assert!(began.elapsed() < LOCATE_TIME_MAX + Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(world.counted("parlour_dns_failures_total") >= 1);
    // RFC 2308 §7.1: nor does anybody ask again at once.
    let asked = world.counted("parlour_dns_queries_total");
    assert_eq!(world.leads("sip:bob@h1.test", 1).await, ["Unknown"]);
    assert_eq!(world.counted("parlour_dns_queries_total"), asked);
}

#[actix::test]
async fn an_answer_that_fits_no_datagram_comes_by_tcp() {
    let mut records: Vec<String> = (0..60)
        .map(|n| format!("srv-host=_sip._udp.large.test,a-host-with-a-rather-long-name-{n}.test,{},1,1", 5_000 + n))
        .collect();
    records.extend((0..60).map(|n| format!("host-record=a-host-with-a-rather-long-name-{n}.test,127.0.0.1")));
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let Some(names) = NameServer::start(60, &records) else { return };
    let world = World::new(&[names.at()], clear()).await;
    let order = world.leads("sip:bob@large.test", 1).await;
    assert_eq!(order.len(), base::limits::TARGETS_MAX, "{order:?}\n{}", names.log());
}

#[actix::test]
async fn a_target_that_failed_is_passed_over_until_it_works_again() {
    let Some(names) = NameServer::start(60, &RECORDS) else { return };
    let world = World::new(&[names.at()], clear()).await;
    let located = world.find("sip:bob@one.test;transport=tcp").await.unwrap();
    let (locator, now) = (&world.house.locator, Instant::now());
    let first = locator.order(&located, 1, now)[0].clone();
    assert_eq!((first.transport, first.address.port(), &*first.domain), (Transport::Tcp, 5071, "one.test"));
    locator.failed(&first, None, now);
    assert_eq!(world.leads("sip:bob@one.test;transport=tcp", 1).await, ["tcp 127.0.0.1:5070", "tcp 127.0.0.2:5071"]);
    assert_eq!(world.counted("parlour_dns_targets_aside"), 1);
    locator.worked(&first);
    assert_eq!(world.leads("sip:bob@one.test;transport=tcp", 1).await[0], "tcp 127.0.0.2:5071");
    assert!(matches!(world.find("sip:bob@gone.test").await, Err(NotFound::Failed(Failure::Nothing))));
}
