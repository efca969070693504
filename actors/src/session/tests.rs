//! Whole calls through the actors, without sockets: people are addresses, the wire is a list. What is said of timers is
//! proven by the rules' own tests.

mod not_rung;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base::{Aor, IdMaker, Now};
use sip::{Layout, Message, Method, Name};
use storage::Store;
use storage::accounts::Account;

use super::*;
use crate::config::{Config, Network};
use crate::nursery::Nursery;
use crate::router;
use crate::session_nursery::SessionNursery;
use crate::supervise::{Child, Fall, Handle, Intensity, Supervisor};
use crate::switch::Place;
use crate::turn::{Datagram, DatagramSink, ShardOut};

mod extensions;

const ALICE: &str = "127.0.0.1:5071";
const BOB: &str = "127.0.0.1:5072";
const BOBS_OTHER: &str = "127.0.0.1:5073";

#[derive(Clone, Default)]
struct Wire(Rc<RefCell<VecDeque<(SocketAddr, Message)>>>);

impl DatagramSink for Wire {
    fn send(&self, arena: &[u8], datagrams: &[Datagram], _: &mut Vec<usize>) -> u64 {
        for each in datagrams {
            let bytes = arena[each.range.clone()].to_vec();
            self.0
                .borrow_mut()
                .push_back((each.peer, Message::parse(bytes.into()).expect("we write what can be read")));
        }
        0
    }
}

/// A house with Alice and Bob, on this thread.
struct World {
    house: Arc<House>,
    wire: Wire,
    supervisor: actix::Addr<Supervisor>,
    node: Arc<Node>,
    serial: u32,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let store = Store::in_memory();
        for name in ["alice", "bob", "mute"] {
            let account = Account {
                aor: aor(name),
                ha1_sha256: [0; 32],
                ha1_md5: [0; 16],
                realm: "example.com".into(),
                aliases: Vec::new(),
                login: None,
                services: if name == "mute" { "message" } else { "all" }.into(),
                history_limit: None,
            };
            store.put_account(account, true).await.unwrap();
        }
        let mut config = Config {
            trusted: vec![Network { address: "127.0.0.0".parse().unwrap(), bits: 8 }],
            msrp: Some(Place { host: "127.0.0.1".into(), port: 2855 }),
            ..Config::default()
        };
        change(&mut config);
        let house = House::new(config, store, IdMaker::new([7; 16]), Now::read);
        let wire = Wire::default();
        turn::attach(ShardOut {
            registry: house.registry.clone(),
            transactions: house.transactions.clone(),
            sink: Box::new(wire.clone()),
            metrics: house.metrics.clone(),
        });
        actix_rt::spawn(storage::Desk::attach().run());
        let (users, sessions) = (Node::new("users", "nursery", 8), Node::new("sessions", "nursery", 8));
        let node = sessions.clone();
        let (one, other) = (house.clone(), house.clone());
        let children = vec![
            Child::new(users.clone(), move |lifeline| {
                let planting = one.clone();
                let plant = move |aor, ties| crate::user::plant(&planting, aor, ties);
                let nursery = Nursery::start_here(users.clone(), one.metrics.clone(), lifeline, plant);
                one.registry.register(0, nursery.clone().recipient(), users.clone());
                Some(Handle::to(nursery))
            }),
            Child::new(sessions.clone(), move |lifeline| {
                let nursery = SessionNursery::start_here(other.clone(), 0, sessions.clone(), lifeline);
                other.registry.register_sessions(0, nursery.clone().recipient(), sessions.clone());
                Some(Handle::to(nursery))
            }),
        ];
        let supervisor =
            Supervisor::root(Node::new("root", "supervisor", 0), Intensity::default(), children, || {}).start();
        let mut world = Self { house, wire, supervisor, node, serial: 0 };
        while world.node.state() != State::Running {
            tokio::task::yield_now().await;
        }
        world.register("alice", ALICE, "").await;
        world
    }

    async fn with_bob() -> Self {
        let mut world = Self::new().await;
        world.register("bob", BOB, "").await;
        world
    }

    async fn register(&mut self, who: &str, at: &str, params: &str) {
        self.serial += 1;
        let lines = format!("Contact: <sip:{who}@{at}>{params}\r\nExpires: 600\r\n");
        let (to, call) = (format!("<sip:{who}@example.com>"), format!("r{}", self.serial));
        let from = format!("{to};tag=r");
        self.tell(at, &request("REGISTER", "sip:example.com", (&from, &to, &call, 1), &lines, ""));
        assert_eq!(self.hear(at).await.view().status(), 200);
    }

    /// Somebody at this address says something.
    fn tell(&self, at: &str, text: &str) {
        let from = Hop::udp(0, at.parse().unwrap());
        turn::fill(|turn| {
            router::datagram(&self.house, turn, &mut Layout::default(), text.as_bytes(), from, self.house.now());
        });
        turn::flush();
    }

    /// The next thing that this address hears; 100s are passed over.
    async fn hear(&self, at: &str) -> Message {
        let at: SocketAddr = at.parse().unwrap();
        for _ in 0..200 {
            let found = {
                let mut wire = self.wire.0.borrow_mut();
                let place = wire.iter().position(|(to, message)| *to == at && message.view().status() != 100);
                place.and_then(|place| wire.remove(place))
            };
            if let Some((_, message)) = found {
                return message;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{at} heard nothing");
    }

    async fn hears(&self, at: &str, what: &str) -> Message {
        let heard = self.hear(at).await;
        assert_eq!(start(&heard), what, "{}", text(&heard));
        heard
    }

    async fn quiet(&self, at: &str) {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let at: SocketAddr = at.parse().unwrap();
        assert!(!self.wire.0.borrow().iter().any(|(to, _)| *to == at), "{at} hears something");
    }

    fn call(&mut self, to: &str, body: &str) -> String {
        self.serial += 1;
        let lines = format!("Contact: <sip:alice@{ALICE}>\r\nContent-Type: application/sdp\r\nSubject: lunch\r\n");
        let (uri, call) = (format!("sip:{to}@example.com"), format!("c{}", self.serial));
        let invite =
            request("INVITE", &uri, ("<sip:alice@example.com>;tag=al", &format!("<{uri}>"), &call, 1), &lines, body);
        self.tell(ALICE, &invite);
        invite
    }

    /// Alice and Bob talk: the caller's 200 and the callee's INVITE.
    async fn talk(&mut self) -> (Message, Message) {
        self.call("bob", &offer("alice"));
        let invite = self.hears(BOB, "INVITE").await;
        self.tell(BOB, &response(&invite, 200, BOB, &offer("bob")));
        self.hears(BOB, "ACK").await;
        let answer = self.hears(ALICE, "200").await;
        self.tell(ALICE, &in_dialog("ACK", &answer, 1, "", ""));
        (answer, invite)
    }

    async fn is_empty(&self) {
        for _ in 0..100 {
            if self.house.switch.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} entries stay in the switch", self.house.switch.len());
    }
}

fn aor(name: &str) -> Aor {
    Aor::new(name, "example.com").unwrap()
}

fn start(message: &Message) -> String {
    let view = message.view();
    if view.is_request() { String::from_utf8_lossy(view.method_text()).into_owned() } else { view.status().to_string() }
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.bytes()).into_owned()
}

fn offer(who: &str) -> String {
    format!(
        "v=0\r\no=- {} 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
         a=accept-types:text/plain\r\na=setup:active\r\na=path:msrp://127.0.0.1:9/{who};tcp\r\n",
        who.len()
    )
}

/// `who`: From, To, Call-ID, CSeq.
fn request(method: &str, uri: &str, who: (&str, &str, &str, u32), lines: &str, body: &str) -> String {
    let (from, to, call, number) = who;
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP client;branch=z9hG4bK{call}{number}{method};rport\r\nMax-Forwards: 70\r\n\
         From: {from}\r\nTo: {to}\r\nCall-ID: {call}\r\nCSeq: {number} {method}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A callee's response to one of our requests.
fn response(request: &Message, status: u16, at: &str, body: &str) -> String {
    let lines = if body.is_empty() {
        String::new()
    } else {
        format!("Contact: <sip:bob@{at}>\r\nContent-Type: application/sdp\r\n")
    };
    let mut out = Vec::new();
    let tag = format!("bo{}", at.len() + usize::from(at.ends_with('3')));
    let reply =
        sip::Reply { status, to_tag: &tag, lines: lines.as_bytes(), body: body.as_bytes(), ..sip::Reply::default() };
    sip::reply(&mut out, request.view(), &reply);
    String::from_utf8(out).unwrap()
}

/// A request of the caller's in the dialog that this answer made.
fn in_dialog(method: &str, answer: &Message, number: u32, lines: &str, body: &str) -> String {
    let field = |name| String::from_utf8_lossy(answer.view().first(name).unwrap()).into_owned();
    let target = contact_of(answer);
    request(method, &target, (&field(Name::From), &field(Name::To), &field(Name::CallId), number), lines, body)
}

/// A request of the callee's in the dialog of this INVITE.
fn from_bob(method: &str, invite: &Message, number: u32, lines: &str, body: &str) -> String {
    let field = |name| String::from_utf8_lossy(invite.view().first(name).unwrap()).into_owned();
    let local = format!("{};tag=bo14", field(Name::To));
    request(method, &contact_of(invite), (&local, &field(Name::From), &field(Name::CallId), number), lines, body)
}

fn contact_of(message: &Message) -> String {
    let sip::Contacts::List(list) = message.view().contacts().unwrap() else { panic!("no contact") };
    String::from_utf8_lossy(list.iter().next().unwrap().uri).into_owned()
}

fn path_of(message: &Message) -> String {
    sdp::Offer::read(message.view().body()).unwrap().remote_path().to_owned()
}

#[actix::test]
async fn a_call_is_set_up_and_each_side_is_given_a_path_of_ours() {
    let mut world = World::with_bob().await;
    world.call("bob", &offer("alice"));
    let invite = world.hears(BOB, "INVITE").await;
    let view = invite.view();
    assert_eq!(view.request_uri(), format!("sip:bob@{BOB}").as_bytes());
    assert_eq!(view.first(Name::Subject), Some(&b"lunch"[..]), "what is theirs goes on");
    assert_ne!(view.call_id().unwrap(), b"c2", "the dialog is ours");
    assert_eq!(view.max_forwards(), Ok(Some(69)));
    world.tell(BOB, &response(&invite, 180, BOB, ""));
    let ringing = world.hears(ALICE, "180").await;
    world.tell(BOB, &response(&invite, 180, BOB, ""));
    world.tell(BOB, &response(&invite, 200, BOB, &offer("bob")));
    let ack = world.hears(BOB, "ACK").await;
    assert_eq!(ack.view().request_uri(), format!("sip:bob@{BOB}").as_bytes());
    assert_ne!(ack.view().top_via().unwrap().branch(), invite.view().top_via().unwrap().branch(), "RFC 3261 §13.2.2.4");
    let answer = world.hears(ALICE, "200").await;
    assert_eq!(ringing.view().to().unwrap().tag(), answer.view().to().unwrap().tag());
    let (left, right) = (path_of(&answer), path_of(&invite));
    for path in [&left, &right] {
        assert!(path.starts_with("msrp://127.0.0.1:2855/"), "{path}");
    }
    assert_ne!(left, right);
    assert_eq!(world.house.switch.len(), 1);
    // A 2xx that comes again gets its ACK again.
    world.tell(BOB, &response(&invite, 200, BOB, &offer("bob")));
    world.hears(BOB, "ACK").await;
    world.quiet(BOB).await;
}

#[actix::test]
async fn a_bye_of_either_side_reaches_the_other_and_is_answered() {
    let mut world = World::with_bob().await;
    let (answer, _) = world.talk().await;
    world.tell(ALICE, &in_dialog("BYE", &answer, 2, "Reason: SIP;cause=200;text=\"tired\"\r\n", ""));
    world.hears(ALICE, "200").await;
    let bye = world.hears(BOB, "BYE").await;
    assert_eq!(bye.view().first(Name::Reason), Some(&b"SIP;cause=200;text=\"tired\""[..]));
    world.tell(BOB, &response(&bye, 200, BOB, ""));
    world.is_empty().await;
    // RFC 3261 §15.1.2: it is not known any more.
    world.tell(ALICE, &in_dialog("BYE", &answer, 3, "", ""));
    world.hears(ALICE, "481").await;
    let (_, invite) = world.talk().await;
    world.tell(BOB, &from_bob("BYE", &invite, 1, "", ""));
    world.hears(BOB, "200").await;
    world.hears(ALICE, "BYE").await;
    world.is_empty().await;
}

#[actix::test]
async fn a_refusal_is_the_callers_answer_and_gets_its_ack() {
    let mut world = World::with_bob().await;
    for status in [486, 603] {
        let invite = {
            world.call("bob", &offer("alice"));
            world.hears(BOB, "INVITE").await
        };
        world.tell(BOB, &response(&invite, status, BOB, ""));
        world.hears(BOB, "ACK").await;
        world.hears(ALICE, &status.to_string()).await;
    }
    world.is_empty().await;
}

#[actix::test]
async fn a_call_is_taken_back_and_its_repeats_get_the_same_answer() {
    let mut world = World::with_bob().await;
    let placed = world.call("bob", &offer("alice"));
    let invite = world.hears(BOB, "INVITE").await;
    world.tell(BOB, &response(&invite, 180, BOB, ""));
    world.hears(ALICE, "180").await;
    // RFC 3261 §17.2.1: the latest provisional answer again, and nothing new for the callee.
    world.tell(ALICE, &placed);
    world.hears(ALICE, "180").await;
    let hop = |method: &str| {
        let head = placed.split("Contact:").next().unwrap();
        format!(
            "{}Content-Length: 0\r\n\r\n",
            head.replace("INVITE sip", &format!("{method} sip")).replace("1 INVITE", &format!("1 {method}"))
        )
    };
    world.tell(ALICE, &hop("CANCEL"));
    world.hears(ALICE, "200").await;
    world.hears(ALICE, "487").await;
    let cancel = world.hears(BOB, "CANCEL").await;
    assert_eq!(cancel.view().top_via().unwrap().branch(), invite.view().top_via().unwrap().branch());
    world.tell(BOB, &response(&cancel, 200, BOB, ""));
    world.tell(BOB, &response(&invite, 487, BOB, ""));
    world.hears(BOB, "ACK").await;
    world.tell(ALICE, &hop("ACK"));
    world.is_empty().await;
    world.quiet(ALICE).await;
}

#[actix::test]
async fn who_is_away_or_unknown_or_takes_no_sessions_cannot_be_called() {
    let mut world = World::new().await;
    for (who, status) in [("bob", "480"), ("nobody", "404"), ("mute", "480")] {
        world.call(who, &offer("alice"));
        world.hears(ALICE, status).await;
    }
    world.call("bob", "");
    world.hears(ALICE, "488").await;
    world.is_empty().await;
}

#[actix::test]
async fn all_phones_ring_and_the_first_to_answer_has_the_session() {
    let mut world = World::with_bob().await;
    world.register("bob", BOBS_OTHER, "").await;
    world.call("bob", &offer("alice"));
    let (one, other) = (world.hears(BOB, "INVITE").await, world.hears(BOBS_OTHER, "INVITE").await);
    assert_ne!(path_of(&one), path_of(&other), "each has a path of its own");
    world.tell(BOB, &response(&one, 180, BOB, ""));
    world.tell(BOBS_OTHER, &response(&other, 180, BOBS_OTHER, ""));
    world.tell(BOBS_OTHER, &response(&other, 200, BOBS_OTHER, &offer("bob")));
    world.hears(BOBS_OTHER, "ACK").await;
    let cancel = world.hears(BOB, "CANCEL").await;
    assert!(text(&cancel).contains("Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n"));
    // RFC 3261 §13.2.2.4: too late.
    world.tell(BOB, &response(&one, 200, BOB, &offer("bob")));
    world.hears(BOB, "ACK").await;
    world.hears(BOB, "BYE").await;
    world.hears(ALICE, "180").await;
    world.hears(ALICE, "200").await;
    world.quiet(ALICE).await;
    assert_eq!(world.house.switch.len(), 1);
}

#[actix::test]
async fn a_new_offer_is_answered_with_the_same_path_and_what_does_not_belong_is_refused() {
    let mut world = World::with_bob().await;
    let (answer, invite) = world.talk().await;
    let contact = format!("Contact: <sip:alice@{ALICE}>\r\nContent-Type: application/sdp\r\n");
    world.tell(ALICE, &in_dialog("INVITE", &answer, 2, &contact, &offer("alice")));
    let again = world.hears(ALICE, "200").await;
    assert_eq!(again.view().body(), answer.view().body(), "nothing has changed");
    world.tell(ALICE, &in_dialog("ACK", &again, 2, "", ""));
    let contact = format!("Contact: <sip:bob@{BOB}>\r\nContent-Type: application/sdp\r\n");
    world.tell(BOB, &from_bob("INVITE", &invite, 1, &contact, &offer("bob")));
    let agreed = world.hears(BOB, "200").await;
    assert_eq!(path_of(&agreed), path_of(&invite));
    world.tell(BOB, &from_bob("ACK", &invite, 1, "", ""));
    // RFC 3261 §12.2.2: out of order, another dialog, a method that is none of a session's, a bad offer.
    world.tell(BOB, &from_bob("INFO", &invite, 0, "", ""));
    world.hears(BOB, "500").await;
    world.tell(BOB, &from_bob("BYE", &invite, 5, "", "").replace("tag=bo14", "tag=xx"));
    world.hears(BOB, "481").await;
    world.tell(BOB, &from_bob("INFO", &invite, 6, "", ""));
    world.hears(BOB, "405").await;
    world.tell(BOB, &from_bob("INVITE", &invite, 7, &contact, "v=0\r\n"));
    world.hears(BOB, "400").await;
    assert_eq!(world.house.switch.len(), 1);
}

#[actix::test]
async fn who_asks_for_tls_is_not_answered_in_the_clear() {
    // RFC 4975 §14: there is no door for it.
    let mut world = World::with_bob().await;
    let secret = offer("alice").replace("TCP/MSRP", "TCP/TLS/MSRP").replace("msrp:", "msrps:");
    assert!(secret.contains("m=message") && secret.contains("TCP/TLS/MSRP") && secret.contains("msrps:"));
    world.call("bob", &secret);
    world.hears(ALICE, "488").await;
    world.quiet(BOB).await;
    let (answer, _) = world.talk().await;
    let lines = format!("Contact: <sip:alice@{ALICE}>\r\nContent-Type: application/sdp\r\n");
    world.tell(ALICE, &in_dialog("INVITE", &answer, 2, &lines, &secret));
    world.hears(ALICE, "488").await;
    assert_eq!(world.house.switch.len(), 1, "the session is as it was");
}

#[actix::test]
async fn a_session_serves_only_so_many_invites_at_once() {
    let mut world = World::with_bob().await;
    let (answer, asked) = world.talk().await;
    let lines = format!("Contact: <sip:alice@{ALICE}>\r\nContent-Type: application/sdp\r\n");
    let mut served = 0;
    for number in 2..40 {
        // Never acknowledged: each is remembered for its repeats.
        world.tell(ALICE, &in_dialog("INVITE", &answer, number, &lines, &offer("alice")));
        let cseq = format!("CSeq: {number} INVITE");
        let heard = loop {
            let heard = world.hear(ALICE).await;
            if text(&heard).contains(&cseq) {
                break heard;
            }
        };
        match heard.view().status() {
            200 => served += 1,
            status => assert_eq!((status, text(&heard).contains("Retry-After: 10")), (500, true), "{number}"),
        }
    }
    assert!(served > 0 && served < base::limits::SESSION_SERVING_MAX, "{served}");
    // The session goes on.
    world.tell(BOB, &from_bob("BYE", &asked, 1, "", ""));
    world.hears(BOB, "200").await;
}

#[actix::test]
async fn a_panic_ends_one_session_with_a_bye_to_both() {
    // Decisions D20.
    let mut world = World::with_bob().await;
    let (answer, _) = world.talk().await;
    let (other, _) = world.talk().await;
    assert_eq!(world.house.switch.len(), 2);
    let key = SessionKey::of_tag(answer.view().to().unwrap().tag().unwrap()).unwrap();
    world.supervisor.do_send(Fall::at(&["sessions", &key.number.to_string()]));
    for at in [ALICE, BOB] {
        let bye = world.hears(at, "BYE").await;
        let reason = bye.view().first(Name::Reason).unwrap();
        assert_eq!(reason, &b"SIP;cause=500;text=\"Server Internal Error\""[..]);
        world.tell(at, &response(&bye, 200, at, ""));
    }
    assert_eq!((world.node.restarts(), world.house.switch.len()), (1, 1));
    world.tell(ALICE, &in_dialog("BYE", &other, 2, "", ""));
    world.hears(ALICE, "200").await;
    world.hears(BOB, "BYE").await;
}

#[actix::test]
async fn a_panic_while_it_rings_refuses_the_caller_and_takes_the_call_back() {
    let mut world = World::with_bob().await;
    world.call("bob", &offer("alice"));
    let invite = world.hears(BOB, "INVITE").await;
    world.tell(BOB, &response(&invite, 180, BOB, ""));
    world.hears(ALICE, "180").await;
    let (session, _) = SessionKey::of_branch(invite.view().top_via().unwrap().branch().unwrap()).unwrap();
    turn::fill(|turn| turn.session(session, SessionInput::Panic));
    turn::flush();
    world.hears(ALICE, "500").await;
    let repeat = world.hears(BOB, "INVITE").await;
    assert_eq!(repeat.bytes(), invite.bytes());
    world.tell(BOB, &response(&repeat, 180, BOB, ""));
    world.hears(BOB, "CANCEL").await;
    world.tell(BOB, &response(&repeat, 487, BOB, ""));
    world.hears(BOB, "ACK").await;
    world.is_empty().await;
}

#[actix::test]
async fn a_nursery_that_falls_leaves_no_session_open() {
    let mut world = World::with_bob().await;
    world.talk().await;
    world.supervisor.do_send(Fall::at(&["sessions"]));
    world.hears(ALICE, "BYE").await;
    world.hears(BOB, "BYE").await;
    world.is_empty().await;
    world.talk().await;
}

#[actix::test]
async fn who_does_not_know_a_sessions_secret_speaks_to_nobody() {
    let mut world = World::with_bob().await;
    let (answer, invite) = world.talk().await;
    let tag = String::from_utf8_lossy(answer.view().to().unwrap().tag().unwrap()).into_owned();
    let forged = format!("{}00000000{}", &tag[..11], &tag[19..]);
    world.tell(ALICE, &in_dialog("BYE", &answer, 2, "", "").replace(&tag, &forged));
    world.hears(ALICE, "481").await;
    let branch = String::from_utf8_lossy(invite.view().top_via().unwrap().branch().unwrap()).into_owned();
    let stray =
        response(&invite, 200, BOB, &offer("bob")).replace(&branch, &format!("{}0", &branch[..branch.len() - 1]));
    world.tell(BOB, &stray);
    world.quiet(BOB).await;
    assert_eq!(answer.view().cseq().unwrap().method, Method::Invite);
    assert_eq!(world.house.switch.len(), 1);
}

#[actix::test]
async fn whatever_peers_write_no_session_falls() {
    let mut world = World::with_bob().await;
    let mut dice = 0x9e37_79b9_7f4a_7c15u64;
    let mut roll = move |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    for _ in 0..60 {
        let placed = world.call("bob", &offer("alice"));
        // What the call before has left to say is passed over.
        let invite = loop {
            let heard = world.hear(BOB).await;
            if start(&heard) == "INVITE" {
                break heard;
            }
        };
        let answers = [
            response(&invite, 180, BOB, ""),
            response(&invite, 302, BOB, ""),
            response(&invite, 200, BOB, &offer("bob")),
            from_bob(
                "INVITE",
                &invite,
                1,
                &format!("Contact: <sip:bob@{BOB}>\r\nContent-Type: application/sdp\r\n"),
                &offer("bob"),
            ),
            from_bob("ACK", &invite, 1, "Content-Type: application/sdp\r\n", &offer("bob")),
            from_bob("BYE", &invite, 2, "", ""),
            placed.replace("INVITE", "CANCEL"),
            placed.replace("INVITE", "ACK"),
        ];
        for answer in &answers {
            let mut bytes = answer.clone().into_bytes();
            for _ in 0..roll(3) {
                let at = roll(bytes.len());
                bytes[at] = b"\0 ;<>@:,\"s\r\n0\xff"[roll(14)];
            }
            let from = Hop::udp(0, if roll(4) == 0 { ALICE } else { BOB }.parse().unwrap());
            turn::fill(|turn| {
                router::datagram(&world.house, turn, &mut Layout::default(), &bytes, from, world.house.now());
            });
            turn::flush();
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        world.wire.0.borrow_mut().clear();
        // Whatever state that one is in: the next call begins as if nothing had been.
        assert_eq!(world.node.restarts(), 0);
    }
}
