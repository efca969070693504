//! A phone: registers, writes, answers; repeats what is not answered, meets challenges, tries again what failed.
//!
//! It keeps to the standards in what it repeats (its client transactions are the machines of [`sip::transaction`]), and
//! does what people's phones do in all else: it is away, busy, silent, or late with its answer.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use bytes::Bytes;
use sip::transaction::{ClientNonInvite, ClientNonInviteInput as Input, ClientNonInviteOutput as Output, Timers};
use sip::{Layout, Method, Name, View};

use crate::clock;
use crate::dice::Dice;
use crate::phone_words as words;
use crate::reference::{Identity, Reference};

/// What a phone does with what it is sent, in thousandths; the rest is taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Says nothing.
    pub silent: u64,
    /// Takes it, and says so late: after 9 to 40 seconds.
    pub late: u64,
    /// 480.
    pub away: u64,
    /// 486, 500, 503, 408 or 430.
    pub busy: u64,
    /// 403, 415 or 603.
    pub refuses: u64,
    /// Says 100 first.
    pub trying: u64,
    /// Of what it has taken already, in another transaction: says 482 in place of 200.
    pub merges: u64,
}

/// What a request of the phone's own is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// REGISTER for so many seconds; 0: to leave.
    Register(u32),
    /// Words of a person, by their number.
    Message(usize),
}

struct Call {
    machine: ClientNonInvite,
    branch: String,
    what: What,
    /// Number of the REGISTER, for the reference.
    entry: usize,
    identity: Identity,
    tries: u32,
    is_over: bool,
}

/// A phone.
pub struct Phone {
    /// Its number in the world.
    pub number: usize,
    /// Whose it is.
    pub user: usize,
    /// Where it is.
    pub addr: SocketAddr,
    /// By TCP: its connection, while there is one.
    pub conn: Option<usize>,
    /// Whether it speaks TCP.
    pub is_tcp: bool,
    /// Whether anything reaches it.
    pub online: bool,
    /// What it does.
    pub manner: Manner,
    /// Takes what it is sent and says so after so many milliseconds, whatever its manner.
    pub late_by: Option<u64>,
    /// Preference among the phones of its user, in thousandths.
    pub q: u16,
    /// Says its user's other address in From.
    pub uses_alias: bool,
    /// Says its host's name in Contact.
    pub is_named: bool,
    /// Tries again, as the same message, what failed or was not answered.
    pub persists: bool,
    /// What is to leave.
    pub out: Vec<Vec<u8>>,
    /// The last final answer that it heard.
    pub last_answer: Vec<u8>,
    /// What it was sent and knows nothing of, if a test takes care of that.
    pub strange: Option<Vec<Vec<u8>>>,
    calls: Vec<Call>,
    later: Vec<(u64, Vec<u8>, Option<Taken>)>,
    again: Vec<(u64, What, Identity, u32)>,
    served: HashMap<String, Option<Vec<u8>>>,
    taken: HashSet<Identity>,
    challenge: Option<(String, u32)>,
    cseq: u32,
    names: u64,
    dice: Dice,
}

struct Taken {
    status: u16,
    branch: String,
}

/// How often a phone tries again, challenges not counted.
const TRIES: u32 = 4;

impl Phone {
    /// Switched on, and nothing done yet.
    pub fn new(number: usize, user: usize, is_tcp: bool, dice: Dice) -> Self {
        let addr = SocketAddr::from(([198, 51, 100, u8::try_from(number + 1).unwrap_or(255)], 5060));
        Self {
            number,
            user,
            addr,
            conn: None,
            is_tcp,
            online: true,
            manner: Manner::default(),
            late_by: None,
            q: 1_000,
            uses_alias: false,
            is_named: false,
            persists: true,
            out: Vec::new(),
            last_answer: Vec::new(),
            strange: None,
            calls: Vec::new(),
            later: Vec::new(),
            again: Vec::new(),
            served: HashMap::new(),
            taken: HashSet::new(),
            challenge: None,
            cseq: 0,
            names: 0,
            dice,
        }
    }

    /// Its Contact.
    pub fn contact(&self) -> String {
        let transport = if self.is_tcp { ";transport=tcp" } else { "" };
        let host = if self.is_named { format!("phone-{}.test", self.number) } else { self.addr.to_string() };
        format!("sip:u{}@{host}{transport}", self.user)
    }

    /// Registers for so many seconds.
    pub fn register(&mut self, expires_s: u32, reference: &mut Reference, now_ms: u64) {
        let identity = Identity { call_id: format!("reg-{}", self.number), cseq: 0, tag: "r".into() };
        self.call(What::Register(expires_s), identity, 0, reference, now_ms);
    }

    /// Sends words that a person has said.
    pub fn say(&mut self, number: usize, reference: &mut Reference, now_ms: u64) {
        let call_id = format!("say-{number}-{}", self.name());
        let identity = Identity { call_id, cseq: 0, tag: format!("t{}", self.number) };
        self.call(What::Message(number), identity, 0, reference, now_ms);
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn call(&mut self, what: What, mut identity: Identity, tries: u32, reference: &mut Reference, now_ms: u64) {
        if identity.cseq == 0 {
            self.cseq += 1;
            identity.cseq = self.cseq;
        }
        let name = self.name();
        let branch = format!("z9hG4bK{}x{name}", self.number);
        let request = self.write(&what, &identity, &branch, reference);
        let entry = match what {
            What::Register(expires_s) => reference.registering(self.number, expires_s, &branch, now_ms),
            What::Message(number) => {
                reference.attempting(number, &identity);
                0
            }
        };
        let machine =
            ClientNonInvite::new(Bytes::from(request), Timers::default(), self.is_tcp, clock::instant(now_ms));
        self.calls.push(Call { machine, branch, what, entry, identity, tries, is_over: false });
        self.drain(reference, now_ms);
    }

    fn write(&mut self, what: &What, identity: &Identity, branch: &str, reference: &Reference) -> Vec<u8> {
        let me = words::aor(self.user);
        let from = if self.uses_alias { words::alias(self.user) } else { me.clone() };
        let (method, uri, from, to, lines, body) = match what {
            What::Register(expires_s) => {
                let q = if self.q < 1_000 { format!(";q=0.{:03}", self.q) } else { String::new() };
                let lines = format!("Contact: <{}>;expires={expires_s}{q}\r\n", self.contact());
                ("REGISTER", format!("sip:{}", words::DOMAIN), me.clone(), me, lines, Vec::new())
            }
            What::Message(number) => {
                let said = reference.said(*number);
                let (kind, body) = words::body(said);
                let expires = said.expires_s.map(|expires| format!("Expires: {expires}\r\n")).unwrap_or_default();
                let to = words::aor(said.to);
                ("MESSAGE", to.clone(), from, to, format!("Content-Type: {kind}\r\n{expires}"), body)
            }
        };
        let credentials = self.credentials(method, &uri);
        let (via, addr, length) = (if self.is_tcp { "TCP" } else { "UDP" }, self.addr, body.len());
        let Identity { call_id, cseq, tag } = identity;
        let head = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via} {addr};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: <{from}>;tag={tag}\r\nTo: <{to}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             {credentials}{lines}Content-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), &body].concat()
    }

    fn credentials(&mut self, method: &str, uri: &str) -> String {
        let Some((challenge, count)) = &mut self.challenge else { return String::new() };
        *count += 1;
        let (user, cnonce) = (format!("u{}", self.user), format!("c{}", self.number));
        let value =
            sip::digest::answer(challenge.as_bytes(), method.as_bytes(), uri, &user, words::PASSWORD, *count, &cnonce);
        let header = if method == "REGISTER" { "Authorization" } else { "Proxy-Authorization" };
        value.map(|value| format!("{header}: {value}\r\n")).unwrap_or_default()
    }

    /// What its machines have to say.
    fn drain(&mut self, reference: &mut Reference, now_ms: u64) {
        let mut finals = Vec::new();
        for call in &mut self.calls {
            while let Some(output) = call.machine.poll_output() {
                match output {
                    Output::Send(bytes) => self.out.push(bytes.to_vec()),
                    Output::Response { status: ..200, .. } => {}
                    Output::Response { status, bytes } => {
                        let call = (call.what.clone(), call.identity.clone(), call.tries, call.entry);
                        finals.push((call, Some((status, bytes))));
                    }
                    Output::Ended(sip::transaction::End::Done) => call.is_over = true,
                    Output::Ended(_) => {
                        call.is_over = true;
                        let call = (call.what.clone(), call.identity.clone(), call.tries, call.entry);
                        finals.push((call, None));
                    }
                }
            }
        }
        self.calls.retain(|call| !call.is_over);
        for ((what, identity, tries, entry), answer) in finals {
            self.concluded(what, identity, tries, entry, answer, reference, now_ms);
        }
    }

    fn concluded(
        &mut self,
        what: What,
        identity: Identity,
        tries: u32,
        entry: usize,
        answer: Option<(u16, Bytes)>,
        reference: &mut Reference,
        now_ms: u64,
    ) {
        let status = answer.as_ref().map(|(status, _)| *status);
        self.last_answer = answer.as_ref().map(|(_, bytes)| bytes.to_vec()).unwrap_or_default();
        if let Some((401 | 407, bytes)) = &answer {
            let mut layout = Box::<Layout>::default();
            if sip::parse_datagram(bytes, &mut layout).is_ok() {
                self.challenge = words::challenge(layout.view(bytes)).map(|value| (value, 0));
            }
            if tries < TRIES * 2 {
                // RFC 3261 §22.2: with the next CSeq.
                return self.call(what, Identity { cseq: 0, ..identity }, tries + 1, reference, now_ms);
            }
        }
        match what {
            What::Register(_) => reference.registered(entry, status, now_ms),
            What::Message(number) => reference.heard(number, &identity, status, now_ms),
        }
        if matches!(status, None | Some(503)) && tries < TRIES && self.persists {
            let at_ms = now_ms + self.dice.within(500..6_000);
            let identity = match what {
                What::Register(_) => Identity { cseq: 0, ..identity },
                What::Message(_) => identity,
            };
            self.again.push((at_ms, what, identity, tries + 1));
        }
    }

    /// Something has come.
    pub fn hear(&mut self, view: View<'_>, reference: &mut Reference, now_ms: u64) {
        if view.is_request() {
            return self.asked(view, reference, now_ms);
        }
        let (status, branch) = (view.status(), words::branch(view));
        let bytes = Bytes::copy_from_slice(view.bytes());
        if let Some(call) = self.calls.iter_mut().find(|call| call.branch == branch) {
            call.machine.handle(Input::Response { status, bytes }, clock::instant(now_ms));
            self.drain(reference, now_ms);
        } else if let Some(strange) = &mut self.strange {
            strange.push(view.bytes().to_vec());
        }
    }

    fn asked(&mut self, view: View<'_>, reference: &mut Reference, now_ms: u64) {
        if view.method() != Method::Message {
            return self.strange.iter_mut().for_each(|strange| strange.push(view.bytes().to_vec()));
        }
        let branch = words::branch(view);
        reference.arrived(view, self.number, &branch, now_ms);
        if let Some(answer) = self.served.get(&branch) {
            self.out.extend(answer.clone());
            return;
        }
        let Some(identity) = words::identity(view) else { return };
        let tag = format!("p{}", self.number);
        if self.dice.chance(self.manner.trying) {
            self.out.push(words::answer(view, 100, ""));
        }
        if self.taken.contains(&identity) {
            let status = if self.dice.chance(self.manner.merges) { 482 } else { 200 };
            return self.answer(view, status, &tag, branch, reference, now_ms);
        }
        let Manner { silent, late, away, busy, refuses, .. } = self.manner;
        let thrown = if self.late_by.is_some() { silent } else { self.dice.within(0..1_000) };
        let late = if self.late_by.is_some() { 1_000 } else { late };
        let bounds = [silent, silent + late, silent + late + away, silent + late + away + busy];
        if thrown < bounds[0] {
            self.served.insert(branch, None);
        } else if thrown < bounds[1] {
            let at_ms = now_ms + self.late_by.unwrap_or_else(|| self.dice.within(9_000..40_000));
            self.served.insert(branch.clone(), None);
            self.taken.insert(identity);
            self.later.push((at_ms, words::answer(view, 200, &tag), Some(Taken { status: 200, branch })));
        } else if thrown < bounds[2] {
            self.answer(view, 480, &tag, branch, reference, now_ms);
        } else if thrown < bounds[3] {
            let status = self.dice.pick(&[486, 500, 503, 408, 430]);
            self.answer(view, status, &tag, branch, reference, now_ms);
        } else if thrown < bounds[3] + refuses {
            let status = self.dice.pick(&[403, 415, 603]);
            self.answer(view, status, &tag, branch, reference, now_ms);
        } else {
            self.taken.insert(identity);
            self.answer(view, 200, &tag, branch, reference, now_ms);
        }
    }

    fn answer(
        &mut self,
        view: View<'_>,
        status: u16,
        tag: &str,
        branch: String,
        reference: &mut Reference,
        now_ms: u64,
    ) {
        let answer = words::answer(view, status, tag);
        reference.answered(self.number, &branch, status, now_ms);
        self.out.push(answer.clone());
        self.served.insert(branch, Some(answer));
    }

    /// When it has something to do, in world time.
    pub fn next_ms(&self) -> Option<u64> {
        let machines = self.calls.iter().filter_map(|call| call.machine.poll_timeout()).map(clock::world_ms_of);
        let later = self.later.iter().map(|(at, ..)| *at);
        machines.chain(later).chain(self.again.iter().map(|(at, ..)| *at)).min()
    }

    /// Does what is due.
    pub fn ring(&mut self, reference: &mut Reference, now_ms: u64) {
        for call in &mut self.calls {
            call.machine.handle_timeout(clock::instant(now_ms));
        }
        while let Some(at) = self.later.iter().position(|(at, ..)| *at <= now_ms) {
            let (_, answer, taken) = self.later.remove(at);
            if let Some(Taken { status, branch }) = taken {
                reference.answered(self.number, &branch, status, now_ms);
                self.served.insert(branch, Some(answer.clone()));
            }
            self.out.push(answer);
        }
        while let Some(at) = self.again.iter().position(|(at, ..)| *at <= now_ms) {
            let (_, what, identity, tries) = self.again.remove(at);
            self.call(what, identity, tries, reference, now_ms);
        }
        self.drain(reference, now_ms);
    }

    /// Its connection is gone: what it sent over it will not be answered.
    pub fn cut_off(&mut self, reference: &mut Reference, now_ms: u64) {
        self.conn = None;
        for call in &mut self.calls {
            call.machine.handle(Input::TransportError, clock::instant(now_ms));
        }
        self.drain(reference, now_ms);
    }
}

/// Whether a request shows credentials.
pub fn has_credentials(view: View<'_>) -> bool {
    view.first(Name::Authorization).is_some() || view.first(Name::ProxyAuthorization).is_some()
}
