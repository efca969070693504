//! The transactions of page mode, without sockets and actors: a turn, a table and a clock that the test moves.

use std::io::{self, IoSlice};

use super::*;
use crate::outbox::Writer;
use crate::turn::take_dropped;

const SILENCE: Duration = Duration::from_secs(10);

struct World {
    table: Arc<Transactions>,
    turn: Turn,
    now: Now,
}

/// What a turn did: datagrams with the port they go to, and offers.
fn caller() -> Hop {
    Hop::udp(0, "192.0.2.1:5071".parse().unwrap())
}

fn callee() -> Hop {
    Hop::udp(1, "192.0.2.2:5072".parse().unwrap())
}

fn alice() -> Aor {
    Aor::parse("sip:alice@example.com").unwrap()
}

fn bob() -> Aor {
    Aor::parse("sip:bob@example.com").unwrap()
}

/// A MESSAGE as its caller sends it.
fn request(branch: &str) -> String {
    format!(
        "MESSAGE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5071;branch={branch};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=a1\r\nTo: <sip:bob@example.com>\r\nCall-ID: c1@10.0.0.1\r\nCSeq: 7 MESSAGE\r\n\
         Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    )
}

/// The same with our Via on top, as it goes on.
fn relayed(branch: &[u8]) -> String {
    let branch = std::str::from_utf8(branch).unwrap();
    let rest = request("z9hG4bKcaller").replace(";rport", ";rport=5071;received=192.0.2.1");
    rest.replacen("\r\nVia: ", &format!("\r\nVia: SIP/2.0/UDP 127.0.0.1:5060;branch={branch}\r\nVia: "), 1)
}

/// A callee's answer to what was sent to it.
fn response(sent: &str, status: u16) -> String {
    let head: Vec<&str> = sent
        .split("\r\n")
        .filter(|line| ["Via:", "From", "Call", "CSeq"].contains(&&line[..line.len().min(4)]))
        .collect();
    format!(
        "SIP/2.0 {status} Said\r\n{}\r\nTo: <sip:bob@example.com>;tag=b1\r\nX-Odd: yes\r\nContent-Length: 0\r\n\r\n",
        head.join("\r\n")
    )
}

fn view(text: &str, look: impl FnOnce(View<'_>)) {
    let mut layout = Layout::default();
    sip::parse_datagram(text.as_bytes(), &mut layout).unwrap();
    look(layout.view(text.as_bytes()));
}

impl World {
    fn new() -> Self {
        Self::bounded(TRANSACTIONS_MAX)
    }

    fn bounded(bound: usize) -> Self {
        let ids = IdMaker::new([5; 16]);
        let table = Transactions::bounded(&ids, Arc::default(), SILENCE, Now::read, bound);
        Self { table, turn: Turn::default(), now: Now::read() }
    }

    fn served(&mut self, text: &str, from: Hop) -> Served {
        let mut served = None;
        let table = self.table.clone();
        view(text, |request| served = Some(table.serve(table.key(request), from)));
        served.unwrap()
    }

    fn new_slot(&mut self, branch: &str, from: Hop) -> Slot {
        match self.served(&request(branch), from) {
            Served::New(slot) => slot,
            _ => panic!("it is new"),
        }
    }

    /// A request that was relayed to `to`; what was sent there.
    fn relay(&mut self, slot: Slot, to: Hop) -> String {
        let table = self.table.clone();
        let (alice, bob) = (alice(), bob());
        let parties = Parties { sender: &alice, receiver: &bob };
        let mut text = String::new();
        table.relay(&mut self.turn, slot, to, parties, self.now, |out, branch| {
            text = relayed(branch);
            out.extend_from_slice(text.as_bytes());
        });
        text
    }

    fn ask(&mut self, to: Hop, token: u64) -> (Slot, String) {
        let table = self.table.clone();
        let mut text = String::new();
        let slot = table.ask(&mut self.turn, to, &bob(), token, self.now, |out, branch| {
            text = relayed(branch);
            out.extend_from_slice(text.as_bytes());
        });
        (slot.unwrap(), text)
    }

    fn respond(&mut self, text: &str) -> bool {
        let (table, turn, now) = (self.table.clone(), &mut self.turn, self.now);
        let mut fits = false;
        view(text, |response| fits = table.respond(turn, response, now));
        fits
    }

    /// Time goes by in steps of a tick; what left meanwhile, each with its second.
    fn wait(&mut self, seconds: f64) -> Vec<(f64, String)> {
        let mut left = Vec::new();
        let (mut passed, began) = (0.0, self.now);
        while passed < seconds - 0.001 {
            passed += 0.1;
            self.now = began.later(Duration::from_secs_f64(passed));
            self.table.sweep(&mut self.turn, self.now, 0, 1);
            left.extend(self.sent().into_iter().map(|(_, text)| ((passed * 10.0).round() / 10.0, text)));
        }
        left
    }

    /// Datagrams since the last time, with the ports that they go to.
    fn sent(&mut self) -> Vec<(u16, String)> {
        let text = |range: &std::ops::Range<usize>| String::from_utf8(self.turn.arena[range.clone()].to_vec()).unwrap();
        let sent = self.turn.datagrams().iter().map(|each| (each.peer.port(), text(&each.range))).collect();
        self.turn.clear();
        sent
    }

    fn offers(&mut self) -> Vec<(Aor, Offer)> {
        self.turn.take_offers()
    }

    fn one_offer(&mut self) -> Offer {
        let mut offers = self.offers();
        assert_eq!(offers.len(), 1, "{offers:?}");
        assert_eq!(offers[0].0, bob());
        offers.remove(0).1
    }
}

#[test]
fn a_relayed_request_is_answered_and_its_repeats_are_absorbed_or_answered_again() {
    let mut world = World::new();
    let slot = world.new_slot("z9hG4bKcaller", caller());
    assert!(matches!(world.served(&request("z9hG4bKcaller"), caller()), Served::Pending));
    let sent = world.relay(slot, callee());
    assert_eq!(world.sent(), [(5072, sent.clone())]);
    assert!(matches!(world.served(&request("z9hG4bKcaller"), caller()), Served::Pending), "not answered yet");

    assert!(world.respond(&response(&sent, 200)));
    let answer = world.sent();
    assert_eq!(answer.len(), 1);
    assert_eq!(answer[0].0, 5071);
    assert!(answer[0].1.starts_with("SIP/2.0 200 Said\r\n") && answer[0].1.matches("Via:").count() == 1);

    // Octet for octet the same for a repeat, made of the repeat and the delta.
    let Served::Answered(delta) = world.served(&request("z9hG4bKcaller"), caller()) else { panic!("answered") };
    let mut again = Vec::new();
    view(&request("z9hG4bKcaller"), |repeat| delta.write(&mut again, repeat, Some(caller().peer())));
    let (again, first) = (String::from_utf8(again).unwrap(), &answer[0].1);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let via = |text: &str| text.lines().find(|line| line.starts_with("Via")).map(str::to_owned);
    assert!(
        via(&again).unwrap().contains("rport=5071") && via(&again).unwrap().contains("received=192.0.2.1"),
        "{again}"
    );
    let without_via = |text: &str| sorted(&text.replace(&via(text).unwrap(), ""));
    assert_eq!(without_via(&again), without_via(first));

    // Timer J (RFC 3261 §17.2.2), timer K with it.
    assert!(world.respond(&response(&sent, 200)) && world.sent().is_empty(), "a repeated answer is absorbed");
    assert!(world.wait(31.8).is_empty() && world.table.len() == 1);
    assert!(world.wait(0.4).is_empty() && world.table.is_empty());
    assert!(!world.respond(&response(&sent, 200)), "now it is a stray");
    assert!(world.offers().is_empty());
}

#[test]
fn a_branch_that_is_not_ours_or_was_forged_finds_nothing() {
    let mut world = World::new();
    let slot = world.new_slot("z9hG4bKcaller", caller());
    let sent = world.relay(slot, callee());
    world.sent();
    let branch = String::from_utf8(slot.branch().to_vec()).unwrap();
    assert_eq!(Slot::of_branch(branch.as_bytes()), Some(slot));
    let forged = |what: &str| response(&sent.replacen(&branch, what, 1), 200);
    let one_off = Slot { generation: slot.generation ^ 1, ..slot }.branch();
    let far = Slot { index: u32::MAX, ..slot }.branch();
    let other = Slot { stripe: slot.stripe ^ 1, ..slot }.branch();
    for text in [
        String::from_utf8(one_off.to_vec()).unwrap(),
        String::from_utf8(far.to_vec()).unwrap(),
        String::from_utf8(other.to_vec()).unwrap(),
        "z9hG4bKsomething".into(),
        format!("{branch}0"),
        branch.to_uppercase(),
        branch.replacen("z9hG4bKp", "z9hG4bKpff", 1),
    ] {
        assert!(!world.respond(&forged(&text)), "{text}");
    }
    // RFC 3261 §17.1.3: the method of CSeq counts too.
    assert!(!world.respond(&response(&sent, 200).replace("7 MESSAGE", "7 OPTIONS")));
    assert!(world.sent().is_empty() && world.offers().is_empty());
    assert!(world.respond(&response(&sent, 200)));

    // A record that nobody was asked for has no branch that a response could name.
    let quiet = world.new_slot("z9hG4bKother", caller());
    let text = String::from_utf8(quiet.branch().to_vec()).unwrap();
    assert!(!world.respond(&forged(&text)));
}

#[test]
fn a_request_is_repeated_by_timer_e_until_timer_f_and_not_after_its_answer() {
    // RFC 3261 §17.1.2.2: T1, doubling to T2, until 64·T1.
    let mut world = World::new();
    let (_, sent) = world.ask(callee(), 1);
    world.sent();
    let repeats = world.wait(40.0);
    assert!(repeats.iter().all(|(_, text)| *text == sent));
    let at: Vec<f64> = repeats.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]);
    assert!(matches!(world.one_offer(), Offer::Outcome { token: 1, status: 408, response: None }));
    assert!(world.table.is_empty(), "timer F frees it");

    let (_, sent) = world.ask(callee(), 2);
    world.sent();
    assert_eq!(world.wait(2.0).len(), 2);
    assert!(world.respond(&response(&sent, 202)));
    assert!(matches!(world.one_offer(), Offer::Outcome { token: 2, status: 202, response: Some(_) }));
    assert!(world.wait(40.0).is_empty() && world.table.is_empty());
}

#[test]
fn after_a_provisional_response_repeats_go_on_every_t2() {
    // RFC 3261 §17.1.2.2: in Proceeding timer E is T2. RFC 4320 §4.1: nothing of it is passed on.
    let mut world = World::new();
    let (_, sent) = world.ask(callee(), 1);
    world.sent();
    assert!(world.respond(&response(&sent, 100)) && world.sent().is_empty());
    let at: Vec<f64> = world.wait(40.0).iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]);
    let slot = world.new_slot("z9hG4bKcaller", caller());
    let sent = world.relay(slot, callee());
    world.sent();
    assert!(world.respond(&response(&sent, 183)) && world.sent().is_empty());
    world.offers();
}

#[test]
fn a_silent_receiver_counts_as_away_once_and_may_still_take_the_message() {
    let mut world = World::new();
    let slot = world.new_slot("z9hG4bKcaller", caller());
    let sent = world.relay(slot, callee());
    world.sent();
    world.wait(9.9);
    assert!(world.offers().is_empty());
    world.now = world.now.later(Duration::from_millis(150));
    world.wait(0.1);
    let Offer::Undelivered { sender, answer, status } = world.one_offer() else { panic!("undelivered") };
    assert_eq!((sender, status, answer.slot()), (alice(), 408, slot));
    // As its caller sent it, but for what we know of where it came from.
    assert_eq!(
        answer.request().bytes(),
        relayed(b"x").replacen("Via: SIP/2.0/UDP 127.0.0.1:5060;branch=x\r\n", "", 1).as_bytes()
    );
    let came = answer.came(world.now).unix_ms;
    assert!(world.now.unix_ms - came >= 10_000, "it counts from when it came");

    // The actor stores it; the transaction goes on, and a late 2xx is told once.
    let now = world.now;
    answer.send(&mut world.turn, now, 202, b"");
    let told = world.sent();
    assert!(told[0].1.starts_with("SIP/2.0 202 Accepted\r\n") && told[0].1.contains("rport=5071"), "{}", told[0].1);
    assert!(!world.wait(5.0).is_empty(), "repeats go on");
    assert!(world.respond(&response(&sent, 200)));
    assert!(matches!(world.one_offer(), Offer::TookAfterAll { slot: late } if late == slot));
    assert!(world.respond(&response(&sent, 200)) && world.offers().is_empty(), "once");
    assert!(world.wait(35.0).is_empty() && world.offers().is_empty() && world.table.is_empty());
}

#[test]
fn a_silent_receiver_is_asked_no_more_after_timer_f_and_the_record_goes() {
    let mut world = World::new();
    let slot = world.new_slot("z9hG4bKcaller", caller());
    world.relay(slot, callee());
    world.sent();
    let mut repeats = world.wait(10.1);
    let Offer::Undelivered { answer, .. } = world.one_offer() else { panic!("undelivered") };
    let now = world.now;
    answer.send(&mut world.turn, now, 202, b"");
    world.sent();
    repeats.extend(world.wait(60.0));
    assert_eq!(repeats.len(), 10);
    assert!(world.table.is_empty() && world.offers().is_empty());
}

#[test]
fn an_absent_receiver_is_the_actors_to_decide_about_and_any_other_refusal_is_passed_on() {
    for (status, is_away) in
        [(480, true), (408, true), (503, true), (430, true), (404, false), (603, false), (486, false)]
    {
        let mut world = World::new();
        let slot = world.new_slot("z9hG4bKcaller", caller());
        let sent = world.relay(slot, callee());
        world.sent();
        assert!(world.respond(&response(&sent, status)));
        assert_eq!(world.sent().len(), usize::from(!is_away), "{status}");
        if !is_away {
            continue;
        }
        let Offer::Undelivered { answer, status: said, .. } = world.one_offer() else { panic!("undelivered") };
        assert_eq!(said, status);
        assert!(matches!(world.served(&request("z9hG4bKcaller"), caller()), Served::Pending));
        assert!(world.respond(&response(&sent, status)) && world.offers().is_empty(), "a repeat is absorbed");
        assert!(world.wait(3.0).is_empty(), "and it is asked no more");
        let now = world.now;
        answer.send_as(&mut world.turn, now, 480, "Mailbox Full", b"");
        assert!(world.sent()[0].1.starts_with("SIP/2.0 480 Mailbox Full\r\n"));
        assert!(world.wait(33.0).is_empty() && world.table.is_empty());
    }
}

/// A socket that takes all, or nothing.
struct Pipe(bool);

impl Writer for Pipe {
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.0 { Ok(slices.iter().map(|slice| slice.len()).sum()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

fn connect(world: &World, takes: bool) -> Hop {
    let outbox = world.table.flows().open(Some(Box::new(Pipe(takes))));
    Hop::stream(outbox.id(), "192.0.2.2:5073".parse().unwrap())
}

#[test]
fn over_connections_nothing_is_kept_after_the_answer_and_nothing_is_repeated() {
    // RFC 3261 §17.1.2.2, §17.2.2: E is not set, J and K are zero.
    let mut world = World::new();
    let (caller, callee) = (connect(&world, true), connect(&world, true));
    let slot = world.new_slot("z9hG4bKcaller", caller);
    let sent = world.relay(slot, callee);
    assert!(world.wait(5.0).is_empty());
    assert!(world.respond(&response(&sent, 200)));
    assert!(world.table.is_empty());

    let (_, sent) = world.ask(callee, 3);
    assert!(world.wait(5.0).is_empty());
    assert!(world.respond(&response(&sent, 200)));
    assert!(world.table.is_empty() && matches!(world.one_offer(), Offer::Outcome { token: 3, status: 200, .. }));

    // From a connection to a datagram: the callee may repeat its answer.
    let slot = world.new_slot("z9hG4bKmixed", caller);
    let sent = world.relay(slot, self::callee());
    world.sent();
    assert!(world.respond(&response(&sent, 200)));
    assert!(!world.respond(&response(&sent, 200)), "nothing is kept for it: the answer goes nowhere (RFC 6026 §7.3)");
    assert!(world.table.is_empty());
}

#[test]
fn a_lost_connection_ends_what_waits_for_it_at_once() {
    let mut world = World::new();
    let callee = connect(&world, true);
    let slot = world.new_slot("z9hG4bKcaller", caller());
    world.relay(slot, callee);
    let (_, _) = world.ask(callee, 9);
    let outbox = world.table.flows().get(callee.conn().unwrap()).unwrap();
    world.table.flows().remove(outbox.id());
    let awaited = outbox.abandon();
    assert_eq!(awaited.len(), 2);
    for slot in awaited {
        world.table.clone().unreachable(&mut world.turn, slot);
    }
    let mut offers = world.offers();
    assert!(matches!(offers.remove(1).1, Offer::Outcome { token: 9, status: 503, response: None }));
    let Offer::Undelivered { status: 503, answer, .. } = offers.remove(0).1 else { panic!("undelivered") };
    assert_eq!(world.table.len(), 1, "the actor's own is over");
    let now = world.now;
    answer.send(&mut world.turn, now, 202, b"");

    // One that is gone before anything is sent.
    let slot = world.new_slot("z9hG4bKagain", caller());
    world.relay(slot, callee);
    assert!(matches!(world.one_offer(), Offer::Undelivered { status: 503, .. }));
    drop(take_dropped());
    world.ask(callee, 10);
    assert!(matches!(world.one_offer(), Offer::Outcome { token: 10, status: 503, .. }));
    world.sent();
    assert!(world.wait(40.0).is_empty());
}

#[test]
fn the_answer_to_a_connection_that_is_gone_goes_to_where_its_request_came_from() {
    // RFC 3261 §18.2.2: a connection to `received`, and the port of sent-by.
    let mut world = World::new();
    let dialed = Arc::new(Mutex::new(Vec::new()));
    let list = dialed.clone();
    world.table.flows().introduce(Box::new(move |peer, _| {
        list.lock().push(peer);
        true
    }));
    let caller = Hop::stream(crate::hop::ConnId(77), "192.0.2.1:40000".parse().unwrap());
    let slot = world.new_slot("z9hG4bKcaller", caller);
    let sent = world.relay(slot, callee());
    world.sent();
    assert!(world.respond(&response(&sent, 200)));
    assert_eq!(*dialed.lock(), ["192.0.2.1:5071".parse().unwrap()]);
    assert_eq!(world.table.flows().len(), 1, "it waits in the queue of the new connection");
}

#[test]
fn the_oldest_answered_record_gives_way_and_an_open_one_never() {
    let per_stripe = 4;
    let mut world = World::bounded(per_stripe * STRIPES);
    let stripe = |key: u64| (key >> 32) as usize % STRIPES;
    let key = |n: u64| n << 38 | 1; // all in stripe 0
    assert!((0..10).all(|n| stripe(key(n)) == 0));
    let slot = |served| if let Served::New(slot) = served { slot } else { panic!("new") };
    let slots: Vec<Slot> = (0..4).map(|n| slot(world.table.serve(key(n), caller()))).collect();
    assert!(matches!(world.table.serve(key(4), caller()), Served::Full), "nobody has been answered");
    let answer = |world: &mut World, at: usize| {
        let now = world.now;
        view(&request("z9hG4bKx"), |request| {
            let reply = Reply { status: 200, ..Reply::default() };
            world.table.answer(&mut world.turn, slots[at], caller(), request, &reply, now);
        });
    };
    answer(&mut world, 2);
    answer(&mut world, 1);
    let fifth = slot(world.table.serve(key(4), caller()));
    assert_eq!(fifth.index, slots[2].index, "the place of the one that was answered first");
    assert_ne!(fifth.generation, slots[2].generation);
    assert!(matches!(world.table.repeat(key(1)), Some(Served::Answered(_))));
    assert!(world.table.repeat(key(2)).is_none());
    world.wait(0.1);
    let metrics = crate::metrics::Metrics::default();
    metrics.add(&mut world.turn.counts);
    assert_eq!(metrics.get(Count::Evicted), 1);

    // Whoever still holds the old tenant's slot touches nobody.
    answer(&mut world, 2);
    world.table.forget(slots[2]);
    assert!(matches!(world.table.repeat(key(4)), Some(Served::Pending)));
    let (alice, bob) = (alice(), bob());
    let parties = Parties { sender: &alice, receiver: &bob };
    let (table, now) = (world.table.clone(), world.now);
    world.sent();
    table.relay(&mut world.turn, slots[2], callee(), parties, now, |out, _| out.extend_from_slice(b"lost"));
    assert!(world.sent().is_empty() && world.turn.arena.is_empty(), "nothing leaves for a slot that vanished");
}

#[test]
fn an_answer_that_nobody_sends_becomes_503_at_the_next_flush() {
    let mut world = World::new();
    let slot = world.new_slot("z9hG4bKcaller", caller());
    let request = Message::parse(request("z9hG4bKcaller").into_bytes().into()).unwrap();
    drop(Answer::new(slot, caller(), request, world.now, world.table.clone()));
    let lost = take_dropped();
    assert_eq!(lost.len(), 1);
    lost.into_iter().for_each(|answer| answer.lost(&mut world.turn));
    let sent = world.sent();
    assert!(sent[0].1.starts_with("SIP/2.0 503 Service Unavailable\r\n") && sent[0].1.contains("Retry-After: 5\r\n"));
    assert!(take_dropped().is_empty());
    let Served::Answered(delta) = world.served(&self::request("z9hG4bKcaller"), caller()) else { panic!("answered") };
    assert_eq!(delta.status(), 503);
}

#[test]
fn a_request_that_is_forgotten_is_new_again() {
    let mut world = World::new();
    let slot = world.new_slot("z9hG4bKcaller", caller());
    world.table.forget(slot);
    assert!(world.table.is_empty());
    let again = world.new_slot("z9hG4bKcaller", caller());
    assert_ne!(again.generation, slot.generation);
    world.table.forget(slot);
    assert_eq!(world.table.len(), 1, "an old slot forgets nobody else");
}

#[test]
fn requests_without_the_cookie_are_told_apart_by_their_fields_and_found_with_our_via_filled_in() {
    // RFC 3261 §17.2.3, the second half.
    let world = World::new();
    let key = |text: &str| {
        let mut key = 0;
        view(text, |request| key = world.table.key(request));
        key
    };
    let old = request("old");
    assert_eq!(key(&old), key(&old));
    assert_eq!(key(&old), key(&old.replace(";rport", ";rport=5071;received=192.0.2.1")));
    for (from, to) in [
        ("CSeq: 7 ", "CSeq: 8 "),
        ("tag=a1", "tag=a2"),
        ("c1@", "c2@"),
        ("MESSAGE sip:bob", "MESSAGE sip:bo"),
        ("branch=old", "branch=olda"),
        ("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=x"),
    ] {
        assert_ne!(key(&old), key(&old.replacen(from, to, 1)), "{from}");
    }
    // With the cookie only branch, sent-by and method count (RFC 3261 §17.2.3).
    let new = request("z9hG4bKnew");
    assert_eq!(key(&new), key(&new.replace("CSeq: 7 ", "CSeq: 8 ")));
    assert_ne!(key(&new), key(&new.replace("10.0.0.1:5071", "10.0.0.1:5072")));
}

#[test]
fn a_house_that_closes_waits_for_no_receiver() {
    let mut world = World::new();
    let slot = world.new_slot("z9hG4bKcaller", caller());
    world.relay(slot, callee());
    world.sent();
    assert_eq!(world.table.undecided(), 1);
    world.table.hurry();
    world.wait(0.1);
    let Offer::Undelivered { answer, status: 408, .. } = world.one_offer() else { panic!("undelivered") };
    assert_eq!(world.table.undecided(), 1);
    let now = world.now;
    answer.send(&mut world.turn, now, 202, b"");
    assert_eq!(world.table.undecided(), 0);
}

#[test]
fn a_sweep_stops_after_as_many_timers_as_it_may_deal_with() {
    let mut world = World::new();
    for n in 0..100u64 {
        let _ = world.table.serve(n << 38 | 1, caller());
        let (_, _) = world.ask(callee(), n);
    }
    world.sent();
    let later = world.now.later(Duration::from_millis(600));
    let mut repeats = 0;
    for stripe in 0..STRIPES {
        loop {
            let dealt = world.table.sweep_stripe(&mut world.turn, later, stripe, 1);
            let sent = world.sent().len();
            assert!(sent <= 1);
            repeats += sent;
            if dealt == 0 {
                break;
            }
        }
    }
    assert_eq!(repeats, 100);
}

#[test]
fn a_record_that_lingers_is_small() {
    // `fast-path.md` §1: about 120 octets with the answer's delta; the target of the whole is 0.5 KiB.
    assert_eq!(size_of::<Record>(), 64);
    assert_eq!(size_of::<Due>(), 24);
    let mut world = World::new();
    for n in 0..500 {
        let slot = world.new_slot(&format!("z9hG4bK{n}"), caller());
        let sent = world.relay(slot, callee());
        assert!(world.respond(&response(&sent, 200)));
        world.sent();
    }
    let mut octets = 0;
    for stripe in &world.table.stripes {
        let stripe = stripe.lock();
        for (_, record) in &stripe.records {
            assert!(record.call.is_none(), "the request went back to the pool");
            octets += size_of::<Record>()
                + size_of::<Due>()
                + 2 * size_of::<(u64, u32)>()
                + record.answer.as_ref().unwrap().len();
        }
        assert!(stripe.pool.len() <= POOL);
    }
    assert!(octets / 500 <= 200, "{} octets a record", octets / 500);
}

#[test]
fn many_threads_may_ask_and_answer_at_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let table = world.table.clone();
            let now = world.now;
            scope.spawn(move || {
                let mut turn = Turn::default();
                for n in 0..2_000u64 {
                    let key = (thread << 48 | n << 16) * 2 + 1;
                    let Served::New(slot) = table.serve(key, caller()) else { panic!("new") };
                    let (alice, bob) = (alice(), bob());
                    let parties = Parties { sender: &alice, receiver: &bob };
                    let mut sent = String::new();
                    table.relay(&mut turn, slot, callee(), parties, now, |out, branch| {
                        sent = relayed(branch);
                        out.extend_from_slice(sent.as_bytes());
                    });
                    view(&response(&sent, 200), |answer| assert!(table.respond(&mut turn, answer, now)));
                    table.sweep(&mut turn, now, thread as usize, 4);
                    turn.clear();
                }
            });
        }
    });
    assert_eq!(world.table.len(), 8_000);
}
