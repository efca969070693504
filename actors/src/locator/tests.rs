//! The locator over a table of records: what is asked, what is not asked twice, and who waits.

use std::collections::HashMap;
use std::time::Duration;

use base::limits::{DNS_FAILURE_TTL, DNS_QUESTION_TIME_MAX, LOCATE_FLIGHTS_MAX, LOCATE_WAITERS_MAX};
use locate::{Plan, Service, Transport, Zone};

use super::*;
use crate::node::State;
use crate::supervise::Fall;
use crate::testing::Living;

const TTL: Duration = Duration::from_secs(30);

/// A table that counts what it is asked, and may be slow or silent.
#[derive(Default)]
struct Counting {
    zone: Zone,
    asked: Mutex<HashMap<Question, u32>>,
    pause: Option<Duration>,
}

impl Names for Counting {
    fn ask(&self, question: &Question) -> Asking {
        assert!(question.name != "fall.test", "as the test wants");
        *self.asked.lock().entry(question.clone()).or_default() += 1;
        let (answer, pause) = (self.zone.answer(question), self.pause);
        Box::pin(async move {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            answer
        })
    }
}

impl Counting {
    fn times(&self, name: &str, kind: Kind) -> u32 {
        self.asked.lock().get(&Question::new(name, kind)).copied().unwrap_or_default()
    }
}

fn zone() -> Zone {
    Zone::new(TTL)
        .srv("_sip._udp.one.test", 10, 1, 5070, "h1.test")
        .srv("_sip._udp.one.test", 20, 1, 5080, "h2.test")
        .address("h1.test", "127.0.0.1")
        .address("h2.test", "127.0.0.2")
        .rule("3.2.1.9.4.e164.arpa", (1, 1), "E2U+sip", "!^.*$!sip:bob@one.test!")
}

async fn living(names: Counting) -> (Living, Arc<Counting>) {
    let living = Living::with(&[], |_| {}).await;
    let names = Arc::new(names);
    living.house.locator.introduce(names.clone());
    (living, names)
}

fn place(name: &str) -> Place {
    Place::of_host(name).unwrap()
}

fn counted(living: &Living, name: &str) -> u64 {
    let mut out = String::new();
    living.house.locator.write(&mut out, living.house.now().at);
    let line = out.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{name} in {out}"))
}

#[actix::test]
async fn a_place_is_looked_for_once_and_known_for_its_time() {
    let (living, names) = living(Counting { zone: zone(), ..Counting::default() }).await;
    let (locator, now) = (&living.house.locator, living.house.now().at);
    assert!(locator.known(&place("one.test"), now).is_none());
    let waiting: Vec<_> = (0..50).map(|_| locator.find(place("one.test"), now)).collect();
    for each in futures_util::future::join_all(waiting).await {
        let targets = locator.order(&each.unwrap(), 7, now);
        let shown: Vec<String> = targets.iter().map(|target| target.address.to_string()).collect();
        assert_eq!(shown, ["127.0.0.1:5070", "127.0.0.2:5080"]);
        assert!(targets.iter().all(|target| target.transport == Transport::Udp && &*target.domain == "one.test"));
    }
    assert!(locator.known(&place("one.test"), now).unwrap().is_ok());
    assert!(locator.known(&place("one.test"), now + TTL * 2).is_none(), "its time is over");
    assert_eq!((names.times("_sip._udp.one.test", Kind::Srv), names.times("h1.test", Kind::A)), (1, 1));
    assert_eq!(names.times("h1.test", Kind::Aaaa), 0, "no socket of IPv6 is here");
    assert_eq!(counted(&living, "parlour_dns_cache_misses_total"), 50);
    assert_eq!(counted(&living, "parlour_dns_known"), 1);
}

#[actix::test]
async fn what_is_not_there_is_not_asked_again_before_its_time() {
    let (living, names) = living(Counting { zone: zone(), ..Counting::default() }).await;
    let (locator, now) = (&living.house.locator, living.house.now().at);
    for _ in 0..20 {
        let found = locator.find(place("gone.test"), now).await;
        assert_eq!(found.err(), Some(NotFound::Failed(Failure::Nothing)));
    }
    assert_eq!((names.times("gone.test", Kind::Naptr), names.times("gone.test", Kind::A)), (1, 1));
    assert_eq!(counted(&living, "parlour_dns_cache_hits_total"), 19);
}

#[actix::test]
async fn a_number_leads_to_its_owner_and_is_known_from_then_on() {
    let (living, names) = living(Counting { zone: zone(), ..Counting::default() }).await;
    let (locator, now) = (&living.house.locator, living.house.now().at);
    let number = Number::of_local(b"+49-123", None, Plan { country: "", domains: &[] }).unwrap();
    for _ in 0..3 {
        let found = locator.find_number(number.clone(), now).await.unwrap();
        assert_eq!((found[0].service, &*found[0].uri, found.len()), (Service::Sip, "sip:bob@one.test", 1));
    }
    assert!(locator.known_number(&number, now).is_some());
    assert_eq!(names.times("3.2.1.9.4.e164.arpa", Kind::Naptr), 1);
}

#[actix::test]
async fn name_servers_that_say_nothing_are_not_waited_for_for_ever() {
    let silent = Counting { pause: Some(Duration::from_secs(3_600)), ..Counting::default() };
    let (living, names) = living(silent).await;
    let (locator, now) = (&living.house.locator, living.house.now().at);
    let began = tokio::time::Instant::now();
    let found = locator.find(place("one.test"), now).await;
    assert_eq!(found.err(), Some(NotFound::Failed(Failure::Unknown)));
    let took = began.elapsed();
    assert!(
        took >= DNS_QUESTION_TIME_MAX && took <= base::limits::LOCATE_TIME_MAX + Duration::from_secs(1),
        "{took:?}"
    );
    let asked: u32 = names.asked.lock().values().sum();
    assert_eq!(counted(&living, "parlour_dns_failures_total"), u64::from(asked));
    // And not asked again at once.
    let now = living.house.now().at;
    assert!(locator.known(&place("one.test"), now).is_some_and(|found| found == Err(Failure::Unknown)));
    assert!(locator.known(&place("one.test"), now + DNS_FAILURE_TTL).is_none());
}

#[actix::test]
async fn more_searches_and_more_who_wait_than_there_is_room_for_are_refused() {
    let slow = Counting { zone: zone(), pause: Some(Duration::from_millis(50)), ..Counting::default() };
    let (living, _) = living(slow).await;
    let (locator, now) = (&living.house.locator, living.house.now().at);
    let many = LOCATE_FLIGHTS_MAX + 10;
    let others = (0..many).map(|n| locator.find(place(&format!("d{n}.test")), now));
    let found = futures_util::future::join_all(others.collect::<Vec<_>>()).await;
    let busy = found.iter().filter(|found| matches!(found, Err(NotFound::Busy))).count();
    assert_eq!(busy, 10);
    let same = (0..LOCATE_WAITERS_MAX + 10).map(|_| locator.find(place("one.test"), now));
    let found = futures_util::future::join_all(same.collect::<Vec<_>>()).await;
    assert_eq!(found.iter().filter(|found| found.is_ok()).count(), LOCATE_WAITERS_MAX);
    assert_eq!(counted(&living, "parlour_dns_refused_total"), 20);
}

#[actix::test]
async fn a_search_that_panics_ends_alone() {
    let (living, _) = living(Counting { zone: zone(), ..Counting::default() }).await;
    let (locator, now) = (&living.house.locator, living.house.now().at);
    let found = locator.find(place("fall.test"), now).await;
    assert_eq!(found.err(), Some(NotFound::Failed(Failure::Unknown)));
    assert!(locator.find(place("one.test"), now).await.is_ok());
    let node = living.node(&["locator"]).unwrap();
    assert_eq!((node.state(), node.restarts(), node.depth()), (State::Running, 0, 0));
}

#[actix::test]
async fn who_waits_when_the_locator_falls_is_told_and_the_next_one_knows_what_was_known() {
    let (living, names) = living(Counting { zone: zone(), ..Counting::default() }).await;
    let (locator, now) = (&living.house.locator, living.house.now().at);
    locator.find(place("one.test"), now).await.unwrap();
    living.tree.root.do_send(Fall::at(&["locator"]));
    let node = living.node(&["locator"]).unwrap();
    living.until("it is started again", || node.restarts() == 1 && node.state() == State::Running).await;
    assert!(locator.known(&place("one.test"), now).is_some_and(|found| found.is_ok()));
    assert!(locator.find(place("h2.test"), now).await.is_ok(), "it looks for others");
    assert_eq!(names.times("_sip._udp.one.test", Kind::Srv), 1);
}

#[actix::test]
async fn without_name_servers_nothing_is_found_and_nobody_waits() {
    let living = Living::with(&[], |_| {}).await;
    let (locator, now) = (&living.house.locator, living.house.now().at);
    assert!(!locator.can_ask());
    assert_eq!(locator.find(place("one.test"), now).await.err(), Some(NotFound::Failed(Failure::Unknown)));
}

#[actix::test]
async fn a_target_that_failed_goes_behind_the_others_for_everybody() {
    let (living, _) = living(Counting { zone: zone(), ..Counting::default() }).await;
    let (locator, now) = (&living.house.locator, living.house.now().at);
    let located = locator.find(place("one.test"), now).await.unwrap();
    let first = |now| locator.order(&located, 1, now)[0].clone();
    let dead = first(now);
    locator.failed(&dead, None, now);
    assert_ne!(first(now), dead);
    assert_eq!(counted(&living, "parlour_dns_targets_aside"), 1);
    locator.worked(&dead);
    assert_eq!((first(now), counted(&living, "parlour_dns_targets_aside")), (dead, 0));
}
