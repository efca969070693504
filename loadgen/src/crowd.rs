//! The crowd: many user agents in one thread, seen by scenarios as errands that end and letters that arrive.
//!
//! It registers, writes, answers challenges and what it is sent, and repeats what is lost. A scenario begins errands
//! and reads [`Event`]s; it never sees SIP.

use std::hash::Hasher;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sip::digest::{Answer, Challenge, Ha1};
use sip::{Method, Name, Reply, View};

use crate::call::{self, Asking, Call, Calls, Side};
use crate::flight::{Errand, Flight, Flights, Ticket, Timed};
use crate::mmsg::Peer;
use crate::plan::{Identity, Plan};
use crate::users::{self, Login, User};
use crate::wire::{Faults, Link, Listener, Post, Transport, Wire};
use crate::wording::{Numbers, Wording};

/// Challenges that one errand answers: the first, and one more when its nonce was over.
const ANSWERS: u8 = 2;
/// The status of an errand that nobody answered.
pub const NO_ANSWER: u16 = 0;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An errand ended.
    Done {
        /// Which.
        errand: Errand,
        /// How: a final status, or [`NO_ANSWER`].
        status: u16,
        /// When it should have begun.
        due_ns: u64,
        /// When it ended.
        at_ns: u64,
    },
    /// A message arrived at a receiver (and was answered 200).
    Letter {
        /// The number in its body.
        number: u64,
        /// Its identity: Call-ID, CSeq and From tag, hashed (decisions D3).
        identity: u64,
    },
}

/// What the crowd counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Requests sent again because no answer came.
    pub repeated: u64,
    /// Challenges answered.
    pub challenges: u64,
    /// Answers that belong to nothing under way: late or doubled ones.
    pub strays: u64,
    /// Messages that carry no number of this run.
    pub foreign: u64,
}

/// All users, their links and their requests under way.
pub struct Crowd {
    wire: Wire,
    desk: Desk,
}

/// Everything but the sockets.
struct Desk {
    begun: Instant,
    users: Vec<User>,
    flights: Flights,
    wording: Wording,
    server: Server,
    peer: Peer,
    callers: Vec<Link>,
    identity: Identity,
    reuse: bool,
    expires: u32,
    credentials: Vec<u8>,
    dice: Dice,
    events: Vec<Event>,
    counts: Counts,
    message_bytes: usize,
    calls: Calls,
    /// Our address, as descriptions name it.
    ip: String,
}

impl Crowd {
    /// Whether REGISTERs give credentials at once where a nonce is at hand.
    pub fn reuses_nonces(&self) -> bool {
        self.desk.reuse
    }

    /// Sets that; what held before.
    pub fn reuse_nonces(&mut self, reuse: bool) -> bool {
        std::mem::replace(&mut self.desk.reuse, reuse)
    }

    /// Opens the links of a plan and places the users on them. Nothing is sent yet.
    ///
    /// # Errors
    /// Sockets and connections that cannot be opened; users that cannot be read.
    pub fn gather(plan: &Plan) -> io::Result<Self> {
        let mut users = users::of(plan)?;
        if users.len() < 2 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "at least two users are needed"));
        }
        let mut wire = Wire::new(plan.transport)?;
        let body_bytes = usize::try_from(plan.body_bytes.most).unwrap_or(usize::MAX);
        let mut wording = Wording::new(&plan.domain, plan.transport, body_bytes);
        let server = Server { at: plan.server, from: SocketAddr::new(local_ip(plan.server)?, 0) };
        if let Some(at) = plan.receivers_at {
            // Before the first caller comes: a relay calls the receivers for each.
            wire.listen(at)?;
        }
        let mut open =
            |count: usize| (0..count).map(|_| server.open(&mut wire, &mut wording)).collect::<io::Result<Vec<_>>>();
        let later = plan.seats_are_taken_later();
        let callers = open(if later { 0 } else { plan.connections })?;
        // Towards a blind relay REGISTERs too come from the caller's side.
        let relayed = plan.receivers_at.is_some();
        let seats = if later || relayed { callers.clone() } else { open(plan.connections)? };
        for (at, user) in users.iter_mut().enumerate().filter(|_| !seats.is_empty()) {
            user.link = seats[at % seats.len()];
        }
        let mut desk = Desk {
            begun: Instant::now(),
            users,
            flights: Flights::new(plan.transport == Transport::Tcp),
            wording,
            server,
            peer: Peer::of(plan.server),
            callers,
            identity: plan.identity,
            reuse: plan.reuse,
            expires: plan.expires,
            credentials: Vec::new(),
            dice: Dice::new(plan.seed),
            events: Vec::new(),
            counts: Counts::default(),
            message_bytes: plan.message_bytes,
            calls: Calls::default(),
            ip: server.from.ip().to_string(),
        };
        desk.pad();
        Ok(Self { wire, desk })
    }

    /// Nanoseconds since the crowd was gathered.
    pub fn now_ns(&self) -> u64 {
        self.desk.now_ns()
    }

    /// How many users there are.
    pub fn size(&self) -> u32 {
        u32::try_from(self.desk.users.len()).unwrap_or(u32::MAX)
    }

    /// Errands under way.
    pub fn under_way(&self) -> usize {
        self.desk.flights.under_way()
    }

    /// The seeded dice: who writes to whom, when the server is killed.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.desk.dice
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.desk.counts
    }

    /// What the sockets met.
    pub fn faults(&self) -> Faults {
        self.wire.faults()
    }

    /// Gives some users a link each, where the plan leaves that until they register: a connection that is open weighs
    /// something too. They call by the same link.
    ///
    /// # Errors
    /// Connections that cannot be opened.
    pub fn seat(&mut self, who: std::ops::Range<u32>) -> io::Result<()> {
        let first = self.desk.callers.is_empty();
        for user in who {
            let link = self.desk.server.open(&mut self.wire, &mut self.desk.wording)?;
            self.desk.users[user as usize].link = link;
            self.desk.callers.push(link);
        }
        if first {
            self.desk.pad();
        }
        Ok(())
    }

    /// Begins an errand that was due at some moment.
    pub fn begin(&mut self, errand: Errand, due_ns: u64) {
        let now_ns = self.desk.now_ns();
        self.desk.begin(errand, due_ns, 0, now_ns, self.wire.post());
    }

    /// A REGISTER with the plan's time.
    pub fn register(&mut self, user: u32, due_ns: u64) {
        self.begin(Errand::Register { user, expires: self.desk.expires }, due_ns);
    }

    /// Begins a call between two users; its number.
    pub fn invite(&mut self, from: u32, to: u32, due_ns: u64) -> u32 {
        let call = self.desk.calls.open(from, to);
        self.begin(Errand::Invite { from, call }, due_ns);
        call
    }

    /// Ends it by the caller's BYE.
    pub fn bye(&mut self, call: u32, due_ns: u64) {
        if let Some(from) = self.desk.calls.get(call).map(|call| call.from) {
            self.begin(Errand::Bye { from, call }, due_ns);
        }
    }

    /// The ends of a call that was answered, the caller's first: its own URI, and the server's path.
    pub fn ends(&self, call: u32) -> Option<[(String, String); 2]> {
        let call = self.desk.calls.get(call)?;
        let end = |side, to: &String| (call.uri(side, &self.desk.ip), to.clone());
        Some([end(Side::Caller, &call.caller_to), end(Side::Callee, &call.callee_to)])
    }

    /// Forgets a call that is over.
    pub fn forget(&mut self, call: u32) {
        self.desk.calls.close(call);
    }

    /// BYEs that callees received.
    pub fn byes(&self) -> u64 {
        self.desk.calls.byes
    }

    /// The name of the run, that all texts carry.
    pub fn run(&self) -> [u8; 8] {
        self.desk.wording.run()
    }

    /// One turn of sockets and timers, at most until `until_ns`; sleeps when there is nothing to do. What happened is
    /// appended to `events`.
    ///
    /// # Errors
    /// Those of our own sockets.
    pub fn turn(&mut self, until_ns: u64, events: &mut Vec<Event>) -> io::Result<()> {
        let now_ns = self.desk.now_ns();
        self.desk.fire(now_ns, self.wire.post());
        let wake_ns = self.desk.flights.next_ns().map_or(until_ns, |timer| timer.min(until_ns));
        self.wire.turn(Duration::from_nanos(wake_ns.saturating_sub(now_ns)), &mut self.desk)?;
        events.append(&mut self.desk.events);
        Ok(())
    }
}

impl Listener for Desk {
    fn hear(&mut self, link: Link, from: Peer, message: View<'_>, post: &mut Post) {
        if message.is_request() {
            self.asked(link, from, message, post);
        } else {
            self.answered(message, post);
        }
    }
}

impl Desk {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Gives MESSAGEs the size asked for, as soon as there is a link whose address they carry.
    fn pad(&mut self) {
        if let Some(link) = self.callers.first() {
            let (from, to) = (&self.users[0], &self.users[self.users.len() / 2]);
            self.wording.pad_to(self.message_bytes, from, to, *link);
        }
    }

    fn begin(&mut self, errand: Errand, due_ns: u64, answered: u8, now_ns: u64, post: &mut Post) {
        self.credentials.clear();
        let (link, cseq, number) = match errand {
            Errand::Register { user, .. } => {
                let one = &mut self.users[user as usize];
                one.registers += 1;
                if answered > 0 || self.reuse {
                    one.credentials(b"REGISTER", &format!("sip:{}", self.wording.domain()), &mut self.credentials);
                }
                (one.link, one.registers, u64::from(user))
            }
            Errand::Message { from, to, number } => {
                let uri = self.users[to as usize].aor.clone();
                self.users[from as usize].credentials(b"MESSAGE", uri.as_str(), &mut self.credentials);
                let link = self.callers[from as usize % self.callers.len()];
                // RFC 3261 §22.2: with credentials it is a new request, one higher.
                (link, 1 + u32::from(answered), number)
            }
            Errand::Invite { from, call } | Errand::Bye { from, call } => {
                let Some(call) = self.calls.get(call) else { return };
                // RFC 7616 §3.4: what is signed is the Request-URI.
                let (method, first, uri) = match errand {
                    Errand::Invite { .. } => (&b"INVITE"[..], 1, self.users[call.to as usize].aor.as_str().to_owned()),
                    _ => (&b"BYE"[..], 1 + u32::from(ANSWERS) + 1, call.target().to_owned()),
                };
                self.users[from as usize].credentials(method, &uri, &mut self.credentials);
                (self.callers[from as usize % self.callers.len()], first + u32::from(answered), 0)
            }
        };
        let (wording, users, credentials) = (&self.wording, &self.users, &self.credentials);
        let (calls, ip) = (&self.calls, &self.ip);
        let flight = Flight { errand, due_ns, cseq, answered, link, is_heard: false };
        let text = self.flights.begin(flight, now_ns, |ticket, text| {
            let numbers = Numbers { ticket, cseq, number };
            match errand {
                Errand::Register { user, expires } => {
                    wording.register(text, &users[user as usize], expires, &numbers, credentials);
                }
                Errand::Message { from, to, .. } => {
                    let (from, to) = (&users[from as usize], &users[to as usize]);
                    wording.message(text, from, to, link, &numbers, credentials);
                }
                Errand::Invite { call: at, .. } | Errand::Bye { call: at, .. } => {
                    let Some(call) = calls.get(at) else { return };
                    let (from, to) = (&users[call.from as usize], &users[call.to as usize]);
                    let asking = Asking { wording, from, to, link, ticket, cseq, credentials };
                    match errand {
                        Errand::Invite { .. } => call.invite(text, at, &asking, ip),
                        _ => call.bye(text, at, &asking),
                    }
                }
            }
        });
        post.write(link, self.peer, |out| out.extend_from_slice(text));
    }

    fn fire(&mut self, now_ns: u64, post: &mut Post) {
        let (events, counts, peer) = (&mut self.events, &mut self.counts, self.peer);
        self.flights.fire(now_ns, |timed| match timed {
            Timed::Repeat(text, link) => {
                counts.repeated += 1;
                post.write(link, peer, |out| out.extend_from_slice(text));
            }
            Timed::Over(flight) => events.push(Event::Done {
                errand: flight.errand,
                status: NO_ANSWER,
                due_ns: flight.due_ns,
                at_ns: now_ns,
            }),
        });
    }

    /// A request to one of us: answered 200, whatever it is.
    fn asked(&mut self, link: Link, from: Peer, message: View<'_>, post: &mut Post) {
        let method = message.method();
        if method == Method::Ack {
            return;
        }
        let reply = Reply { status: 200, to_tag: "callee", source: from.address(), ..Reply::default() };
        if method == Method::Invite {
            return self.called(link, from, message, &reply, post);
        }
        self.calls.byes += u64::from(method == Method::Bye);
        post.write(link, from, |out| sip::reply(out, message, &reply));
        if method == Method::Message {
            match self.wording.letter(message.body()) {
                Some(number) => self.events.push(Event::Letter { number, identity: identity(message) }),
                None => self.counts.foreign += 1,
            }
        }
    }

    /// An INVITE to one of us: answered 200 as often as it comes.
    fn called(&mut self, link: Link, from: Peer, message: View<'_>, reply: &Reply<'_>, post: &mut Post) {
        let Some(body) = self.calls.offered(message.body(), &self.wording, &self.ip) else {
            self.counts.foreign += 1;
            let reply = Reply { status: 488, ..*reply };
            return post.write(link, from, |out| sip::reply(out, message, &reply));
        };
        // Whom it is for, says the Request-URI: the contact that was registered. Any user of ours has the same link.
        let mut contact = Vec::new();
        self.wording.contact(&mut contact, &self.users[0], link);
        post.write(link, from, |out| call::accept(out, message, reply, &contact, &body));
    }

    /// A final answer to an INVITE: it is acknowledged, as often as it comes. Whether the session can begin.
    fn acknowledge(&mut self, flight: Option<&Flight>, status: u16, message: View<'_>, post: &mut Post) -> bool {
        let (peer, callers) = (self.peer, self.callers.len());
        if status >= 300 {
            let Some(link) = flight.map(|flight| flight.link).or_else(|| self.callers.first().copied()) else {
                return false;
            };
            post.write(link, peer, |out| call::ack_refusal(out, message));
            return false;
        }
        let known = message.call_id().ok().and_then(|id| self.calls.of_call_id(id, &self.wording));
        let Some(at) = known else { return false };
        let is_fresh = flight.is_some();
        let is_good = !is_fresh || self.calls.established(at, message);
        let Some(call) = self.calls.get(at) else { return false };
        let link = self.callers[call.from as usize % callers];
        let mut ack = call.last_ack().to_vec();
        if let Some(flight) = flight {
            let (from, to) = (&self.users[call.from as usize], &self.users[call.to as usize]);
            let ticket = Ticket { slot: u32::MAX, generation: at };
            let wording = &self.wording;
            call.ack(&mut ack, at, &Asking { wording, from, to, link, ticket, cseq: flight.cseq, credentials: &[] });
            Call::with_ack(&mut self.calls, at, ack.clone());
        }
        post.write(link, peer, |out| out.extend_from_slice(&ack));
        is_good
    }

    fn answered(&mut self, message: View<'_>, post: &mut Post) {
        let status = message.status();
        let Some(ticket) = message.first(Name::Via).and_then(|via| self.wording.ticket(via)) else {
            self.counts.strays += 1;
            return;
        };
        if status < 200 {
            return self.flights.hush(ticket);
        }
        let flight = self.flights.end(ticket);
        let is_invite = message.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
        let is_good = !is_invite || self.acknowledge(flight.as_ref(), status, message, post);
        let Some(Flight { errand, due_ns, answered, .. }) = flight else {
            self.counts.strays += 1;
            return;
        };
        // A description that we cannot read is as good as a refusal.
        let status = if is_good || status >= 300 { status } else { 488 };
        let at_ns = self.now_ns();
        let challenged = matches!(status, 401 | 407) && self.identity == Identity::Auth && answered < ANSWERS;
        if challenged && self.learn(errand, status, message) {
            self.counts.challenges += 1;
            self.begin(errand, due_ns, answered + 1, at_ns, post);
        } else {
            self.events.push(Event::Done { errand, status, due_ns, at_ns });
        }
    }

    /// Keeps a challenge; whether it can be answered.
    fn learn(&mut self, errand: Errand, status: u16, message: View<'_>) -> bool {
        let user = &mut self.users[errand.user() as usize];
        let (asked, header) = if status == 401 {
            (Name::WwwAuthenticate, "Authorization")
        } else {
            (Name::ProxyAuthenticate, "Proxy-Authorization")
        };
        let (Some(password), Ok(challenge)) = (&user.password, Challenge::first_known(message.values(asked))) else {
            return false;
        };
        let challenge = challenge.into_owned();
        let known = user.login.as_ref().filter(|login| login.challenge.realm == challenge.realm).map(|login| login.ha1);
        let ha1 = known.unwrap_or_else(|| Ha1::of(user.aor.user(), &challenge.realm, password));
        user.login = Some(Box::new(Login { challenge, ha1, header, nc: 0 }));
        true
    }
}

impl User {
    /// Appends a header line that answers the last challenge once more; nothing before the first one.
    fn credentials(&mut self, method: &[u8], uri: &str, out: &mut Vec<u8>) {
        let Some(login) = self.login.as_mut() else { return };
        login.nc += 1;
        out.extend_from_slice(login.header.as_bytes());
        out.extend_from_slice(b": ");
        // What a chosen-plaintext attacker may do to the generator is of no account: any text serves.
        let answer = Answer { user: self.aor.user(), ha1: &login.ha1, method, uri, nc: login.nc, cnonce: "0a4f113b" };
        login.challenge.write_answer(out, &answer);
        out.extend_from_slice(b"\r\n");
    }
}

/// What tells a repeat from a second message (decisions D3).
fn identity(message: View<'_>) -> u64 {
    let mut hash = std::hash::DefaultHasher::new();
    for name in [Name::CallId, Name::CSeq] {
        hash.write(message.first(name).unwrap_or_default());
        hash.write_u8(0);
    }
    // As cheap as may be: this is done for every message that arrives.
    let from = message.first(Name::From).unwrap_or_default();
    let tag = memchr::memmem::rfind(from, b";tag=").map_or(&[][..], |at| &from[at..]);
    hash.write(tag.split(|byte| *byte == b';').nth(1).unwrap_or_default());
    hash.finish()
}

/// Where links lead.
#[derive(Clone, Copy)]
struct Server {
    at: SocketAddr,
    /// Our address on the way to it.
    from: SocketAddr,
}

impl Server {
    fn open(&self, wire: &mut Wire, wording: &mut Wording) -> io::Result<Link> {
        let link = wire.open(self.at, self.from)?;
        wording.add_link(link, wire.local(link)?);
        Ok(link)
    }
}

/// Our address on the way to a server.
fn local_ip(server: SocketAddr) -> io::Result<IpAddr> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let probe = UdpSocket::bind(any)?;
    probe.connect(server)?;
    Ok(probe.local_addr()?.ip())
}

/// A small seeded generator (SplitMix64): the same seed pairs the same users.
pub struct Dice(u64);

impl Dice {
    /// With a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`, which is at least 1.
    pub fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }

    /// Two different ones of a crowd.
    pub fn pair(&mut self, size: u32) -> (u32, u32) {
        let from = self.below(u64::from(size));
        let to = (from + 1 + self.below(u64::from(size.saturating_sub(1)))) % u64::from(size.max(1));
        (u32::try_from(from).unwrap_or(0), u32::try_from(to).unwrap_or(0))
    }
}
