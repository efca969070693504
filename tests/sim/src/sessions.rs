//! Promise (RFC 4028 §10): a session whose ends do not show that they are there is ended, with a BYE to both, and nothing
//! of it stays.

use actors::config::Network;
use actors::outbox::Outbox;
use actors::switch::Place;
use actors::switch::ingress::Ingress;
use actors::switch::turn::{Read, Turn};
use actors::turn;
use sip::{Message, Name};

use crate::clock;
use crate::world::World;

const CALLER: &str = "10.0.0.1:5060";
const CALLEE: &str = "10.0.0.2:5060";
const SECOND: u64 = 1_000;

/// Two people whom a trusted peer speaks for, and a session between them that is bound.
struct Call {
    world: World,
    /// The caller's 200.
    answer: Message,
    /// The callee's INVITE.
    asked: Message,
    began_ms: u64,
    number: u32,
}

fn offer(who: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\nm=message 9 TCP/MSRP *\r\n\
         a=accept-types:text/plain\r\na=setup:active\r\na=path:msrp://10.0.0.9:9/{who};tcp\r\n"
    )
}

fn request(method: &str, uri: &str, who: (&str, &str, &str, u32), lines: &str, body: &str) -> String {
    let (from, to, call, number) = who;
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP client;branch=z9hG4bK{call}{number}{method};rport\r\nMax-Forwards: 70\r\n\
         From: {from}\r\nTo: {to}\r\nCall-ID: {call}\r\nCSeq: {number} {method}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn text(message: &Message, name: Name) -> String {
    String::from_utf8_lossy(message.view().first(name).unwrap_or_default()).into_owned()
}

impl Call {
    /// `callers`, `callees`: more lines of the INVITE, and of the callee's 200.
    fn begin(callers: &str, callees: &str) -> Self {
        let mut world = World::new(1, 2);
        world.config.trusted = vec![Network { address: "10.0.0.0".parse().expect("an address"), bits: 8 }];
        world.config.msrp = Some(Place { host: "192.0.2.1".into(), port: 2_855 });
        world.start();
        let [caller, callee] = ["<sip:u0@example.com>", "<sip:u1@example.com>"];
        let contact = |who: &str, at: &str| format!("Contact: <sip:{who}@{at}>\r\n");
        let from = format!("{callee};tag=r");
        let lines = format!("{}Expires: 600\r\n", contact("u1", CALLEE));
        tell(&mut world, CALLEE, request("REGISTER", "sip:example.com", (&from, callee, "r", 1), &lines, ""));
        hear(&mut world, "SIP/2.0 200");
        let lines = format!("{}Content-Type: application/sdp\r\n{callers}", contact("u0", CALLER));
        let from = format!("{caller};tag=c");
        let invite = request("INVITE", "sip:u1@example.com", (&from, callee, "c", 1), &lines, &offer("caller"));
        tell(&mut world, CALLER, invite);
        let asked = hear(&mut world, "INVITE ");
        let lines = format!("{}Content-Type: application/sdp\r\n{callees}", contact("u1", CALLEE));
        let accepted = reply(&asked, &lines, &offer("callee"));
        tell(&mut world, CALLEE, accepted);
        hear(&mut world, "ACK ");
        let answer = hear(&mut world, "SIP/2.0 200");
        let mut call = Self { world, answer, asked, began_ms: 0, number: 1 };
        call.say("ACK", 1, "");
        for (message, who) in [(&call.answer, "caller"), (&call.asked, "callee")] {
            bind(&mut call.world, sdp_path(message), format!("msrp://10.0.0.9:9/{who};tcp"));
        }
        call.world.run(10);
        call.began_ms = call.world.now();
        call
    }

    /// The caller says something in its dialog.
    fn say(&mut self, method: &str, number: u32, lines: &str) {
        let sip::Contacts::List(list) = self.answer.view().contacts().expect("a contact") else { panic!("a star") };
        let uri = String::from_utf8_lossy(list.iter().next().expect("a contact").uri).into_owned();
        let (from, to) = (text(&self.answer, Name::From), text(&self.answer, Name::To));
        let said = request(method, &uri, (&from, &to, "c", number), lines, "");
        tell(&mut self.world, CALLER, said);
    }

    fn seconds(&self) -> u64 {
        (self.world.now() - self.began_ms) / SECOND
    }

    /// Both hear a BYE at about this second, for this reason; they answer it, and nothing is left.
    fn ends_at(mut self, second: u64) {
        let byes = [hear(&mut self.world, "BYE "), hear(&mut self.world, "BYE ")];
        assert!((second - 1..=second + 1).contains(&self.seconds()), "after {} s", self.seconds());
        let mut calls: Vec<String> = byes.iter().map(|bye| text(bye, Name::CallId)).collect();
        calls.sort();
        calls.dedup();
        assert_eq!(calls.len(), 2, "each hears it once");
        for bye in byes {
            assert_eq!(text(&bye, Name::Reason), "SIP;cause=408;text=\"Session Expired\"");
            let at = if text(&bye, Name::CallId) == "c" { CALLER } else { CALLEE };
            tell(&mut self.world, at, reply(&bye, "", ""));
        }
        self.world.run(70 * SECOND);
        let life = self.world.life.as_ref().expect("it lives");
        assert!(life.house.switch.is_empty(), "an entry stays in the switch");
        assert_eq!((life.house.switch.bound_legs(), life.house.sessions.invites()), (0, 0));
        let node = life.node("sessions", "nursery").expect("a nursery");
        assert_eq!((node.children().0.len(), node.restarts()), (0, 0));
    }
}

fn tell(world: &mut World, from: &'static str, text: String) {
    let now = world.now();
    world.at_do(now, move |world| world.throw(from.parse().expect("an address"), text.as_bytes()));
    world.run(1);
}

/// The next thing that begins so, within 11 minutes; what came before it is passed over.
fn hear(world: &mut World, start: &str) -> Message {
    let begins = |bytes: &Vec<u8>| bytes.starts_with(start.as_bytes());
    world.run_until(start, 700 * SECOND, |world| world.strangers.iter().any(begins));
    let at = world.strangers.iter().position(begins).expect("it was heard");
    Message::parse(world.strangers.remove(at).into()).expect("we write what can be read")
}

fn reply(request: &Message, lines: &str, body: &str) -> String {
    let mut out = Vec::new();
    let reply = sip::Reply {
        status: 200,
        to_tag: "peer",
        lines: lines.as_bytes(),
        body: body.as_bytes(),
        ..sip::Reply::default()
    };
    sip::reply(&mut out, request.view(), &reply);
    String::from_utf8(out).expect("text")
}

fn sdp_path(message: &Message) -> String {
    let body = String::from_utf8_lossy(message.view().body()).into_owned();
    let line = body.lines().find_map(|line| line.strip_prefix("a=path:")).expect("a path");
    line.to_owned()
}

/// A connection sends an empty SEND to our path.
fn bind(world: &mut World, ours: String, theirs: String) {
    let now = world.now();
    world.at_do(now, move |world| {
        let house = &world.life.as_ref().expect("it lives").house;
        let frame = format!(
            "MSRP bind1234 SEND\r\nTo-Path: {ours}\r\nFrom-Path: {theirs}\r\nMessage-ID: b1\r\nByte-Range: 1-0/0\r\n-------bind1234$\r\n"
        );
        let outbox: std::sync::Arc<Outbox> = house.flows.open(None);
        let mut ingress = Ingress::new(outbox, clock::now().at);
        let (mut read, mut out) = (Read::new(80_000), Turn::default());
        read.room()[..frame.len()].copy_from_slice(frame.as_bytes());
        read.fill(frame.len());
        assert!(ingress.read(&house.switch, &mut out, &mut read, clock::now().at).is_ok());
        std::mem::forget(ingress); // the connection stands until the session ends
        turn::flush();
    });
    world.run(1);
}

const ASKS: &str = "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n";

#[test]
fn a_caller_that_does_not_refresh_is_given_up_with_a_bye_to_both() {
    // 90 seconds less the lesser of 32 and a third.
    Call::begin(ASKS, "").ends_at(60);
}

#[test]
fn a_caller_that_refreshes_is_kept_for_as_long_as_it_does() {
    let mut call = Call::begin(ASKS, "");
    for _ in 0..10 {
        call.world.run(45 * SECOND);
        call.number += 1;
        let number = call.number;
        call.say("UPDATE", number, ASKS);
        let answer = hear(&mut call.world, "SIP/2.0 200");
        assert_eq!(text(&answer, Name::SessionExpires), "90;refresher=uac");
        assert!(!call.world.strangers.iter().any(|bytes| bytes.starts_with(b"BYE ")));
    }
    call.ends_at(450 + 60);
}

/// A callee that is to be refreshed by us, with or without UPDATE.
const REFRESH_ME: &str = "Require: timer\r\nSession-Expires: 90;refresher=uac\r\n";

#[test]
fn a_callee_that_answers_no_refresh_is_given_up_with_a_bye_to_both() {
    for allow in ["Allow: INVITE, BYE, UPDATE\r\n", "Allow: INVITE, BYE\r\n"] {
        Call::begin("", &format!("{REFRESH_ME}{allow}")).ends_at(60);
    }
}

#[test]
fn we_refresh_by_update_where_it_is_taken_and_else_by_the_same_offer() {
    for (allow, method) in [("Allow: INVITE, BYE, UPDATE\r\n", "UPDATE "), ("Allow: INVITE, BYE\r\n", "INVITE ")] {
        let mut call = Call::begin("", &format!("{REFRESH_ME}{allow}"));
        for round in 1..=5u64 {
            let refresh = hear(&mut call.world, method);
            assert!((round * 45 - 1..=round * 45 + 1).contains(&call.seconds()), "after {} s", call.seconds());
            assert_eq!(text(&refresh, Name::SessionExpires), "90;refresher=uac");
            if method == "INVITE " {
                assert_eq!(refresh.view().body(), call.asked.view().body(), "nothing has changed (RFC 4028 §7.4)");
            } else {
                assert!(refresh.view().body().is_empty());
            }
            let body = if method == "INVITE " { offer("callee") } else { String::new() };
            let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
            let accepted = reply(&refresh, &format!("{REFRESH_ME}{kind}"), &body);
            tell(&mut call.world, CALLEE, accepted.clone());
            if method == "INVITE " {
                hear(&mut call.world, "ACK ");
                // RFC 3261 §13.2.2.4: once more for a repeat.
                tell(&mut call.world, CALLEE, accepted);
                hear(&mut call.world, "ACK ");
            }
        }
        call.ends_at(225 + 60);
    }
}

#[test]
fn a_callee_that_knows_no_timers_is_troubled_by_none() {
    let mut call = Call::begin("", "");
    call.world.run(1_000 * SECOND);
    assert!(call.world.strangers.is_empty(), "nobody hears anything");
}
