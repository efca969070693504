//! The reference model: what people said, what the house answered and sent on, what phones got and answered. It watches
//! the house at its doors and the phones at their screens, and knows nothing of how the house works.
//!
//! What can be seen to be wrong at once is noted as a fault at once; the rest is judged at the end ([`crate::judge`]).

use std::collections::{BTreeMap, HashMap};

use sip::digest::Credentials;
use sip::{Layout, Method, Name, View};

use crate::clock;
use crate::phone::has_credentials;
use crate::phone_words as words;

/// Who a message is (decisions D3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Call-ID.
    pub call_id: String,
    /// Number of CSeq.
    pub cseq: u32,
    /// Tag of From.
    pub tag: String,
}

/// What sort of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Page,
    /// Is composing.
    Typing,
    /// Text whose sender asks to hear of storing and of failure.
    Asking,
}

/// What a person said, and all that became of it.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its number.
    pub number: usize,
    /// The user who said it.
    pub from: usize,
    /// The user who is to hear it.
    pub to: usize,
    /// What sort it is.
    pub kind: Kind,
    /// Its Expires.
    pub expires_s: Option<u32>,
    /// Octets of nothing that stand behind the words.
    pub padding: usize,
    /// When it was said.
    pub said_ms: u64,
    /// As what it was sent: one identity each time that a challenge was met.
    pub attempts: Vec<Identity>,
    /// What its sender heard in the end, of which attempt; nothing: no answer came.
    pub heard: Vec<(u64, Identity, Option<u16>)>,
    /// Its requests as they came into the house.
    pub entered: Vec<Entered>,
    /// Its requests as they left the house.
    pub offers: Vec<Offered>,
}

/// A transaction that came into the house.
#[derive(Clone, Debug)]
pub struct Entered {
    /// When first.
    pub at_ms: u64,
    /// What the wall clock showed.
    pub unix_ms: u64,
    /// In which life.
    pub life: u32,
    /// With credentials.
    pub credentials: bool,
    /// The connection that it came by.
    pub conn: Option<usize>,
    /// When that broke.
    pub broke_ms: Option<u64>,
    /// The house's first final answer.
    pub answer: Option<(u64, u16)>,
}

/// A transaction that left the house.
#[derive(Clone, Debug)]
pub struct Offered {
    /// The house's branch.
    pub branch: String,
    /// To which phone.
    pub to: Option<usize>,
    /// By a connection: then it may have waited for the socket.
    pub by_stream: bool,
    /// When first.
    pub first_ms: u64,
    /// What the wall clock showed then.
    pub unix_ms: u64,
    /// The latest that it had ever shown by then: a letter that was over once is not there again when it is set back.
    pub latest_unix_ms: u64,
    /// In which life.
    pub life: u32,
    /// When a phone first got it.
    pub arrived_ms: Option<u64>,
    /// The phone's final answer, and whose.
    pub answered: Option<(u64, usize, u16)>,
    /// When that answer first came to the house.
    pub returned_ms: Option<u64>,
}

/// A REGISTER of a phone's.
#[derive(Clone, Debug)]
pub struct Registering {
    /// Whose.
    pub phone: usize,
    /// For how long.
    pub expires_s: u32,
    /// When it came into the house.
    pub entered_ms: Option<u64>,
    /// The house's first final answer, and what the wall clock showed.
    pub answer: Option<(u64, u64, u16)>,
    /// In which life.
    pub life: u32,
    /// A life before that one was killed before it answered.
    pub is_orphaned: bool,
}

/// A notice of the house, by who it is.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The message that it is about.
    pub about: usize,
    /// It tells of storing, not of failure.
    pub stored: bool,
    /// Transactions by which it left.
    pub offers: Vec<Offered>,
}

enum Seen {
    Said(usize, usize),
    Register(usize),
}

/// What the disk will be asked for after a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The contact stands until then, by the wall clock, seconds.
    Bound(u64),
    /// It does not stand.
    Gone,
    /// A request was not answered: either may be.
    Unsure,
}

/// The model.
#[derive(Default)]
pub struct Reference {
    /// All that was said.
    pub said: Vec<Said>,
    /// All REGISTERs, in the order in which they were sent.
    pub registers: Vec<Registering>,
    /// All notices.
    pub notices: BTreeMap<Identity, Notice>,
    /// What was seen to be wrong.
    pub faults: Vec<String>,
    /// Which life it is.
    pub life: u32,
    branches: HashMap<String, Seen>,
    answers: HashMap<(u32, String), (u64, u16)>,
    nonces: HashMap<String, String>,
    used: HashMap<String, String>,
    requests: HashMap<String, Identity>,
}

/// How long the house remembers its answers for repeats: 64·T1 (RFC 3261 §17.2.2).
const REMEMBERED_MS: u64 = 31_900;

impl Reference {
    /// A person says something.
    pub fn say(&mut self, from: usize, to: usize, kind: Kind, expires_s: Option<u32>, now_ms: u64) -> usize {
        let number = self.said.len();
        let (attempts, heard, entered, offers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (said_ms, padding) = (now_ms, 0);
        self.said.push(Said { number, from, to, kind, expires_s, padding, said_ms, attempts, heard, entered, offers });
        number
    }

    /// What was said.
    pub fn said(&self, number: usize) -> &Said {
        &self.said[number]
    }

    /// A phone sends it, as this.
    pub fn attempting(&mut self, number: usize, identity: &Identity) {
        let attempts = &mut self.said[number].attempts;
        if !attempts.contains(identity) {
            attempts.push(identity.clone());
        }
    }

    /// Its sender hears how that ended.
    pub fn heard(&mut self, number: usize, identity: &Identity, status: Option<u16>, now_ms: u64) {
        self.said[number].heard.push((now_ms, identity.clone(), status));
    }

    /// A phone sends a REGISTER; its number.
    pub fn registering(&mut self, phone: usize, expires_s: u32, branch: &str, _now_ms: u64) -> usize {
        let (entered_ms, answer, life, is_orphaned) = (None, None, 0, false);
        self.registers.push(Registering { phone, expires_s, entered_ms, answer, life, is_orphaned });
        self.branches.insert(branch.to_owned(), Seen::Register(self.registers.len() - 1));
        self.registers.len() - 1
    }

    /// Its phone hears how that ended.
    pub fn registered(&mut self, entry: usize, status: Option<u16>, now_ms: u64) {
        let house = self.registers[entry].answer.map(|(_, _, status)| status);
        if let Some(status) = status
            && house.is_some()
            && status == 200
            && house != Some(200)
        {
            self.fault(now_ms, &format!("REGISTER {entry}: the phone heard {status}, the house said {house:?}"));
        }
    }

    /// A connection broke: what came by it cannot be answered any more.
    pub fn broke(&mut self, conn: usize, now_ms: u64) {
        for entered in self.said.iter_mut().flat_map(|said| &mut said.entered) {
            if entered.conn == Some(conn) {
                entered.broke_ms.get_or_insert(now_ms);
            }
        }
    }

    /// Something came to the house's door, by a connection or as a datagram.
    pub fn entered(&mut self, bytes: &[u8], conn: Option<usize>, now_ms: u64, unix_ms: u64) {
        let mut layout = Box::<Layout>::default();
        if sip::parse_datagram(bytes, &mut layout).is_err() {
            return;
        }
        let view = layout.view(bytes);
        if !view.is_request() {
            return self.returned(view, now_ms);
        }
        let branch = words::branch(view);
        self.note_nonce(view, &branch);
        let life = self.life;
        if view.method() == Method::Register
            && let Some(Seen::Register(entry)) = self.branches.get(&branch)
        {
            let register = &mut self.registers[*entry];
            // After a kill a repeat is a new transaction; what the other life did with it, nobody was told.
            if register.entered_ms.is_none() || register.life != life && register.answer.is_none() {
                register.is_orphaned = register.entered_ms.is_some();
                (register.entered_ms, register.life) = (Some(now_ms), life);
            }
        }
        let Some(number) = words::number_of(view.body()).filter(|_| view.method() == Method::Message) else { return };
        let known = matches!(self.branches.get(&branch), Some(Seen::Said(_, at)) if self.said[number].entered[*at].life == life);
        if !known {
            let entered = &mut self.said[number].entered;
            let credentials = has_credentials(view);
            let (at_ms, broke_ms, answer) = (now_ms, None, None);
            entered.push(Entered { at_ms, unix_ms, life, credentials, conn, broke_ms, answer });
            self.branches.insert(branch, Seen::Said(number, entered.len() - 1));
        }
    }

    /// An answer of a phone's came to the house.
    fn returned(&mut self, view: View<'_>, now_ms: u64) {
        let branch = words::branch(view);
        if view.status() < 200 {
            return;
        }
        for offer in self.all_offers() {
            if offer.branch == branch {
                offer.returned_ms.get_or_insert(now_ms);
            }
        }
    }

    fn all_offers(&mut self) -> impl Iterator<Item = &mut Offered> {
        let said = self.said.iter_mut().flat_map(|said| &mut said.offers);
        said.chain(self.notices.values_mut().flat_map(|notice| &mut notice.offers))
    }

    /// Something left by the house's door, to a phone or to nobody.
    pub fn left(&mut self, bytes: &[u8], to: Option<usize>, by_stream: bool, now_ms: u64, unix_ms: u64) {
        let mut layout = Box::<Layout>::default();
        if let Err(error) = sip::parse_datagram(bytes, &mut layout) {
            if bytes != b"\r\n" {
                self.fault(now_ms, &format!("the house sent what cannot be read ({error}): {}", bytes.escape_ascii()));
            }
            return;
        }
        let view = layout.view(bytes);
        if view.is_request() {
            self.offered(view, to, by_stream, now_ms, unix_ms);
        } else if view.status() >= 200 {
            self.replied(view, now_ms, unix_ms);
        }
    }

    fn replied(&mut self, view: View<'_>, now_ms: u64, unix_ms: u64) {
        let (branch, status) = (words::branch(view), view.status());
        let key = (self.life, branch.clone());
        match self.answers.get(&key).copied() {
            // A challenge is answered without state: its repeat is a new request, which the next moment may refuse.
            Some((_, 401 | 407)) => return,
            Some((at_ms, first)) if first != status && now_ms < at_ms + REMEMBERED_MS => {
                let what = match self.branches.get(&branch) {
                    Some(Seen::Said(number, _)) => format!("#{number}"),
                    Some(Seen::Register(entry)) => format!("REGISTER {entry}"),
                    None => String::new(),
                };
                self.fault(
                    now_ms,
                    &format!("two final answers to {what} {branch}: {first} at {at_ms} ms, then {status}"),
                );
            }
            Some(_) => return,
            None => drop(self.answers.insert(key, (now_ms, status))),
        }
        if status < 300 || matches!(status, 408 | 480 | 486) {
            self.note_use(&branch, now_ms);
        }
        match self.branches.get(&branch) {
            Some(Seen::Said(number, at)) => {
                let entered = &mut self.said[*number].entered[*at];
                entered.answer.get_or_insert((now_ms, status));
                let (number, kind) = (*number, self.said[*number].kind);
                if status == 202 && kind == Kind::Typing {
                    self.fault(now_ms, &format!("typing #{number} was stored"));
                }
            }
            Some(Seen::Register(entry)) => {
                let register = &mut self.registers[*entry];
                register.answer.get_or_insert((now_ms, unix_ms, status));
            }
            None => {}
        }
    }

    fn offered(&mut self, view: View<'_>, to: Option<usize>, by_stream: bool, now_ms: u64, unix_ms: u64) {
        let Some(identity) = words::identity(view) else {
            return self.fault(now_ms, "the house sent a request without identity");
        };
        let branch = words::branch(view);
        if let Some(known) = self.requests.get(&branch) {
            if *known != identity {
                self.fault(now_ms, &format!("branch {branch} carries {identity:?} and {known:?}"));
            }
            return;
        }
        self.requests.insert(branch.clone(), identity.clone());
        let (life, returned_ms) = (self.life, None);
        let (first_ms, arrived_ms, answered) = (now_ms, None, None);
        let latest_unix_ms = clock::latest_unix_ms();
        let offer = Offered {
            branch,
            to,
            by_stream,
            first_ms,
            unix_ms,
            latest_unix_ms,
            life,
            arrived_ms,
            answered,
            returned_ms,
        };
        if let Some((about, stored)) = words::notice_of(view.body()) {
            let notice = self.notices.entry(identity).or_insert(Notice { about, stored, offers: Vec::new() });
            return notice.offers.push(offer);
        }
        let Some(number) = words::number_of(view.body()).filter(|number| *number < self.said.len()) else {
            return self
                .fault(now_ms, &format!("the house sent words that nobody said: {}", view.bytes().escape_ascii()));
        };
        let said = &self.said[number];
        let (_, body) = words::body(said);
        let changed = view.body() != body || !said.attempts.contains(&identity);
        self.said[number].offers.push(offer);
        if changed {
            self.fault(now_ms, &format!("#{number} was sent on as another message: {}", view.bytes().escape_ascii()));
        }
    }

    /// A phone got a MESSAGE.
    pub fn arrived(&mut self, view: View<'_>, phone: usize, branch: &str, now_ms: u64) {
        let _ = phone;
        let branch = branch.to_owned();
        if let Some(offer) = self.all_offers().find(|offer| offer.branch == branch) {
            offer.arrived_ms.get_or_insert(now_ms);
        } else {
            self.fault(now_ms, &format!("a phone got what the house never sent: {}", view.bytes().escape_ascii()));
        }
    }

    /// A phone answers a MESSAGE.
    pub fn answered(&mut self, phone: usize, branch: &str, status: u16, now_ms: u64) {
        if let Some(offer) = self.all_offers().find(|offer| offer.branch == branch) {
            offer.answered.get_or_insert((now_ms, phone, status));
        }
    }

    /// Credentials are good once: by which transaction they came.
    fn note_nonce(&mut self, view: View<'_>, branch: &str) {
        let fields = [Name::Authorization, Name::ProxyAuthorization];
        let shown =
            fields.into_iter().flat_map(|name| view.values(name)).find_map(|value| Credentials::parse(value).ok());
        if let Some(shown) = shown {
            self.nonces.insert(branch.to_owned(), format!("{} {}", shown.nonce, shown.nc));
        }
    }

    fn note_use(&mut self, branch: &str, now_ms: u64) {
        let Some(nonce) = self.nonces.get(branch).cloned() else { return };
        let first = self.used.entry(nonce.clone()).or_insert_with(|| branch.to_owned());
        if first != branch {
            let text = format!("nonce count {nonce} was accepted of {first} and of {branch}");
            self.fault(now_ms, &text);
        }
    }

    /// What was promised about a phone's contact.
    pub fn promise(&self, phone: usize) -> Promise {
        let mut promise = Promise::Gone;
        let mut registers: Vec<&Registering> =
            self.registers.iter().filter(|register| register.phone == phone).collect();
        // In the order in which they took effect, which the network may have changed.
        registers.sort_by_key(|register| register.answer.map_or(register.entered_ms, |(at, ..)| Some(at)));
        for register in &registers {
            match register.answer {
                Some((_, unix_ms, 200)) if register.expires_s > 0 => {
                    promise = Promise::Bound(unix_ms / 1_000 + u64::from(register.expires_s));
                }
                Some((_, _, 200)) => promise = Promise::Gone,
                // Refused for want of credentials: it changed nothing. 503 leaves it open (decisions D22).
                Some((_, _, 503)) => promise = Promise::Unsure,
                Some(_) if register.is_orphaned => promise = Promise::Unsure,
                Some(_) => {}
                None if register.entered_ms.is_some() => promise = Promise::Unsure,
                None => {}
            }
        }
        // Of two that were under way at once, over two connections perhaps, either may have been the last to take effect.
        let last = registers.iter().rev().find(|register| matches!(register.answer, Some((_, _, 200))));
        let overlaps = |other: &&Registering| {
            let answered = other
                .answer
                .is_some_and(|(at, _, status)| status == 200 && Some(at) > last.and_then(|last| last.entered_ms));
            answered && last.is_some_and(|last| other.expires_s != last.expires_s)
        };
        if registers.iter().any(overlaps) {
            return Promise::Unsure;
        }
        promise
    }

    /// As how many messages somebody has taken these words: more than one is twice in effect (decisions D3).
    pub fn taken_as(&self, number: usize) -> usize {
        let taken =
            self.said[number].offers.iter().filter(|offer| offer.answered.is_some_and(|(_, _, status)| status < 300));
        let mut identities: Vec<&Identity> = taken.filter_map(|offer| self.requests.get(&offer.branch)).collect();
        identities.sort_unstable();
        identities.dedup();
        identities.len()
    }

    /// All that became of something that was said, to be read by who looks for a fault.
    pub fn story(&self, number: usize) -> String {
        let Some(said) = self.said.get(number) else { return String::new() };
        let Said { from, to, kind, expires_s, said_ms, .. } = said;
        let mut lines =
            vec![format!("#{number}: {kind:?} from {from} to {to}, Expires {expires_s:?}, said at {said_ms} ms")];
        lines.extend(said.entered.iter().map(|one| format!("  {one:?}")));
        lines.extend(said.offers.iter().map(|one| format!("  {one:?}")));
        let notices = self.notices.values().filter(|notice| notice.about == number);
        lines.extend(notices.map(|notice| format!("  notice, stored: {}: {:?}", notice.stored, notice.offers)));
        lines.extend(said.heard.iter().map(|(at, _, status)| format!("  its sender heard {status:?} at {at} ms")));
        lines.join("\n")
    }

    /// All REGISTERs that changed anything, to be read by who looks for a fault.
    pub fn registers(&self) -> String {
        let asked = self.registers.iter().filter(|one| !matches!(one.answer, Some((_, _, 401))));
        asked.map(|one| format!("  {one:?}\n")).collect()
    }

    /// Notes what is wrong.
    pub fn fault(&mut self, now_ms: u64, text: &str) {
        self.faults.push(format!("at {now_ms} ms in life {}: {text}", self.life));
    }
}
