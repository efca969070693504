//! Promise: an INVITE that is passed on to several devices ends once for its caller and for every device, however many
//! datagrams are lost, late or doubled: who has taken it hears the ACK, nobody is left ringing, and no actor stays.

use std::time::Duration;

use actors::config::Network;
use bytes::Bytes;
use sip::transaction::{
    ClientInvite, ClientInviteInput, ClientInviteOutput, ServerInvite, ServerInviteInput, ServerInviteOutput, Timers,
    acknowledge,
};
use sip::{Message, Method, Name};

use crate::clock;
use crate::net::Weather;
use crate::phone_words as words;
use crate::script::seeds;
use crate::world::World;

/// How often people and their devices look at what has come, milliseconds.
const STEP_MS: u64 = 50;

/// A device of the callee's, and what it means to do.
struct Device {
    phone: usize,
    /// How long it rings before it says this; 0: it rings for ever.
    means: (u64, u16),
    ring: Option<Ring>,
}

struct Ring {
    invite: Message,
    branch: String,
    machine: ServerInvite,
    due_ms: u64,
    said: Option<u16>,
    said_ms: Option<u64>,
    /// Its 2xx, until the ACK comes: when it goes again, and the pause.
    success: Option<(Bytes, u64, u64)>,
    acknowledged: bool,
}

/// The caller.
struct Caller {
    phone: usize,
    machine: ClientInvite,
    finals: Vec<u16>,
    /// Tags of the 2xxs that were acknowledged.
    taken_by: Vec<String>,
    acks: u32,
}

#[test]
fn a_fork_ends_once_for_everybody_under_loss() {
    let seeds = seeds(60);
    let played: Vec<_> = seeds.iter().map(|seed| play(*seed)).collect();
    // What all of this is about has happened.
    if seeds.len() > 20 {
        for status in [200, 487, 603] {
            assert!(played.iter().any(|heard| heard.contains(&status)), "nobody heard {status}: {played:?}");
        }
    }
}

/// The final statuses that the caller and the devices have heard and said.
fn play(seed: u64) -> Vec<u16> {
    let mut world = World::new(seed, 2);
    world.config.trusted = vec![Network { address: [198, 51, 100, 0].into(), bits: 24 }];
    world.start();
    let alice = world.phone(0, false);
    let count = 1 + world.dice.below(4);
    let mut devices = Vec::new();
    for _ in 0..count {
        let phone = world.phone(1, false);
        world.phones[phone].q = world.dice.pick(&[1_000, 1_000, 500]);
        let status = world.dice.pick(&[200, 200, 486, 603, 480, 404, 0]);
        devices.push(Device { phone, means: (world.dice.within(100..6_000), status), ring: None });
    }
    for phone in 0..world.phones.len() {
        world.phones[phone].strange = Some(Vec::new());
        world.register(phone, 3_600);
        world.run(500);
    }
    world.weather = if seed.is_multiple_of(3) { Weather::calm() } else { Weather::rough() };
    let mut caller = Caller::call(&mut world, alice);
    let gives_up = world.dice.chance(250).then(|| world.now() + world.dice.within(50..9_000));
    let (begin, mut gave_up) = (world.now(), false);
    // Timer C ends what rings for ever, and then its CANCEL has 32 seconds (RFC 3261 §16.8).
    while world.now() < begin + 1_100_000 {
        if gives_up.is_some_and(|at| at <= world.now()) && !gave_up {
            gave_up = true;
            caller.give_up(&mut world);
        }
        caller.step(&mut world);
        devices.iter_mut().for_each(|device| device.step(&mut world));
        world.run(STEP_MS);
    }
    let told = format!("seed {seed}, {count} devices {:?}, gave up {gave_up}", means(&devices));
    caller.judge(&devices, &told);
    devices.iter().for_each(|device| device.judge(&told));
    let taken_ms = devices.iter().filter(|device| device.said() == Some(200)).filter_map(Device::said_ms).min();
    for device in devices.iter().filter(|_| taken_ms.is_some()) {
        // The CANCEL goes as often as it must, within 64*T1.
        let late = device.said_ms().zip(taken_ms).is_some_and(|(said, taken)| said > taken + 45_000);
        assert!(!late, "{told}: device {} rings on when somebody has answered", device.phone);
    }
    let life = world.life.as_ref().expect("it lives");
    assert_eq!(life.house.sessions.invites(), 0, "{told}: an INVITE is still served");
    assert!(life.house.transactions.is_empty(), "{told}: a record stays");
    caller.finals.into_iter().chain(devices.iter().filter_map(Device::said)).collect()
}

fn means(devices: &[Device]) -> Vec<(u64, u16)> {
    devices.iter().map(|device| device.means).collect()
}

fn take(world: &mut World, phone: usize) -> Vec<Message> {
    let strange = world.phones[phone].strange.as_mut().map(std::mem::take).unwrap_or_default();
    strange.into_iter().filter_map(|bytes| Message::parse(bytes.into()).ok()).collect()
}

fn post(world: &mut World, phone: usize, bytes: &[u8]) {
    world.phones[phone].out.push(bytes.to_vec());
    world.post(phone);
}

fn text(value: Option<&[u8]>) -> String {
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

fn tag_of(message: &Message) -> String {
    text(message.view().to().ok().and_then(|to| to.tag()))
}

const BRANCH: &str = "z9hG4bKforks";

impl Caller {
    fn call(world: &mut World, phone: usize) -> Self {
        let (me, to, addr) = (words::aor(0), words::aor(1), world.phones[phone].addr);
        let body = "v=0\r\nm=audio 4000 RTP/AVP 0\r\n";
        let invite = format!(
            "INVITE {to} SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch={BRANCH};rport\r\nMax-Forwards: 70\r\nFrom: <{me}>;tag=a\r\n\
             To: <{to}>\r\nCall-ID: fork\r\nCSeq: 1 INVITE\r\nContact: <sip:u0@{addr}>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let now = clock::instant(world.now());
        let machine = ClientInvite::new(invite.into(), acknowledge, Timers::default(), false, now);
        Self { phone, machine, finals: Vec::new(), taken_by: Vec::new(), acks: 0 }
    }

    fn give_up(&mut self, world: &mut World) {
        self.machine.handle(ClientInviteInput::Cancel, clock::instant(world.now()));
    }

    fn step(&mut self, world: &mut World) {
        let now = clock::instant(world.now());
        self.machine.handle_timeout(now);
        for message in take(world, self.phone) {
            let view = message.view();
            let is_invites = view.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
            if view.is_request() || !is_invites {
                continue;
            }
            if (200..300).contains(&view.status()) {
                // Every one, and every repeat of it (RFC 3261 §13.2.2.4).
                self.acknowledge(world, &message);
            }
            let (status, bytes) = (view.status(), message.bytes().clone());
            self.machine.handle(ClientInviteInput::Response { status, bytes }, now);
        }
        while let Some(output) = self.machine.poll_output() {
            match output {
                ClientInviteOutput::Send(bytes) => post(world, self.phone, &bytes),
                ClientInviteOutput::Cancel => {
                    let cancel = sip::transaction::cancel(self.machine.invite(), b"").expect("an INVITE of ours");
                    // What is lost of it is made good by the devices' own patience: it goes three times.
                    (0..3).for_each(|_| post(world, self.phone, &cancel));
                }
                ClientInviteOutput::Response { status, .. } if status >= 300 => self.finals.push(status),
                ClientInviteOutput::Response { .. } | ClientInviteOutput::Ended(_) => {}
            }
        }
    }

    fn acknowledge(&mut self, world: &mut World, success: &Message) {
        let (view, tag) = (success.view(), tag_of(success));
        if !self.taken_by.contains(&tag) {
            self.taken_by.push(tag);
        }
        self.acks += 1;
        let sip::Contacts::List(contacts) = view.contacts().expect("a 2xx names its Contact") else { return };
        let uri = text(contacts.iter().next().map(|contact| contact.uri));
        let mut routes: Vec<String> = view.values(Name::RecordRoute).map(|route| text(Some(route))).collect();
        routes.reverse();
        let (addr, acks) = (world.phones[self.phone].addr, self.acks);
        let ack = format!(
            "ACK {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {addr};branch={BRANCH}ack{acks};rport\r\nMax-Forwards: 70\r\nRoute: {}\r\n\
             From: {}\r\nTo: {}\r\nCall-ID: fork\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
            routes.join(", "),
            text(view.first(Name::From)),
            text(view.first(Name::To)),
        );
        post(world, self.phone, ack.as_bytes());
    }

    fn judge(&self, devices: &[Device], told: &str) {
        let taken = devices.iter().filter(|device| device.said() == Some(200)).count();
        assert_eq!(self.taken_by.len(), taken, "{told}: the caller hears every 2xx");
        assert!(self.finals.len() <= 1, "{told}: {:?}", self.finals);
        assert!(taken > 0 || self.finals.len() == 1, "{told}: the caller hears how it ended");
    }
}

impl Device {
    fn said(&self) -> Option<u16> {
        self.ring.as_ref().and_then(|ring| ring.said)
    }

    fn said_ms(&self) -> Option<u64> {
        self.ring.as_ref().and_then(|ring| ring.said_ms)
    }

    fn step(&mut self, world: &mut World) {
        for message in take(world, self.phone) {
            self.hear(world, message);
        }
        let (now_ms, phone, (_, means)) = (world.now(), self.phone, self.means);
        let Some(ring) = &mut self.ring else { return };
        ring.machine.handle_timeout(clock::instant(now_ms));
        if ring.said.is_none() && means != 0 && ring.due_ms <= now_ms {
            ring.say(phone, means, world);
        }
        // RFC 3261 §13.3.1.4: T1, doubling to T2, until the ACK comes or 64*T1 have passed.
        if let Some((bytes, at, pause)) = ring.success.clone().filter(|(_, at, _)| *at <= now_ms)
            && now_ms < ring.due_ms + 40_000
        {
            ring.machine
                .handle(ServerInviteInput::Answer { status: 200, bytes: bytes.clone() }, clock::instant(now_ms));
            let pause = (pause * 2).min(4_000);
            ring.success = Some((bytes, at + pause, pause));
        }
        let mut cancelled = false;
        while let Some(output) = ring.machine.poll_output() {
            match output {
                ServerInviteOutput::Send(bytes) => post(world, phone, &bytes),
                ServerInviteOutput::Cancelled => cancelled = true,
                _ => {}
            }
        }
        if cancelled && ring.said.is_none() {
            ring.say(phone, 487, world);
        }
    }

    fn hear(&mut self, world: &mut World, message: Message) {
        let now = clock::instant(world.now());
        let (view, branch) = (message.view(), words::branch(message.view()));
        let known = self.ring.as_mut().filter(|ring| ring.branch == branch);
        match (view.method(), known) {
            (Method::Invite, Some(ring)) => ring.machine.handle(ServerInviteInput::Request, now),
            (Method::Invite, None) => {
                assert!(self.ring.is_none(), "a device is asked once, by one branch");
                let machine = ServerInvite::new(Timers::default(), false, now);
                let due_ms = world.now() + self.means.0;
                let mut ring = Ring {
                    branch,
                    machine,
                    due_ms,
                    said: None,
                    said_ms: None,
                    success: None,
                    acknowledged: false,
                    invite: message,
                };
                ring.answer(self.phone, 180, world);
                self.ring = Some(ring);
            }
            (Method::Cancel, Some(ring)) => {
                post(world, self.phone, &words::answer(view, 200, ""));
                ring.machine.handle(ServerInviteInput::Cancel, now);
            }
            (Method::Ack, Some(ring)) => {
                ring.acknowledged = true;
                ring.machine.handle(ServerInviteInput::Ack, now);
            }
            // Of a 2xx: in a transaction of its own.
            (Method::Ack, None) => {
                let own = format!("d{}", self.phone);
                if let Some(ring) = self.ring.as_mut().filter(|_| tag_of(&message) == own) {
                    (ring.acknowledged, ring.success) = (true, None);
                }
            }
            _ => {}
        }
    }

    fn judge(&self, told: &str) {
        let Some(ring) = &self.ring else { return };
        assert!(ring.said.is_some(), "{told}: device {} is left ringing", self.phone);
        assert!(ring.acknowledged, "{told}: device {} said {:?} and heard no ACK", self.phone, ring.said);
    }
}

impl Ring {
    fn say(&mut self, phone: usize, status: u16, world: &mut World) {
        (self.said, self.said_ms) = (Some(status), Some(world.now()));
        let bytes = self.answer(phone, status, world);
        if status == 200 {
            self.due_ms = world.now();
            self.success = Some((bytes, world.now() + 500, 500));
        }
    }

    fn answer(&mut self, phone: usize, status: u16, world: &mut World) -> Bytes {
        let view = self.invite.view();
        let mut lines = format!("Contact: <{}>\r\n", world.phones[phone].contact());
        for route in view.values(Name::RecordRoute) {
            lines.push_str(&format!("Record-Route: {}\r\n", text(Some(route))));
        }
        let tag = format!("d{phone}");
        let reply = sip::Reply { status, to_tag: &tag, lines: lines.as_bytes(), ..sip::Reply::default() };
        let mut out = Vec::new();
        sip::reply(&mut out, view, &reply);
        let bytes = Bytes::from(out);
        let now = clock::instant(world.now());
        self.machine.handle(ServerInviteInput::Answer { status, bytes: bytes.clone() }, now);
        while let Some(output) = self.machine.poll_output() {
            if let ServerInviteOutput::Send(bytes) = output {
                post(world, phone, &bytes);
            }
        }
        bytes
    }
}

#[test]
fn the_patience_of_this_world_is_longer_than_any_ring() {
    // Three rounds of preference, each until timer C and the CANCEL's own time (RFC 3261 §16.6 step 11, §16.8).
    let timers = Timers::default();
    assert!((timers.c + 2 * timers.timeout()) * 3 < Duration::from_millis(1_100_000));
}
