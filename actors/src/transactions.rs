//! The transactions of page mode: records in locked stripes that any shard may enter, and their timers.
//!
//! One record is both transactions of a relayed request (RFC 3261 §16.6: server towards the caller, client towards the
//! callee), or only one of them: the server's, where an actor answers; the client's, where an actor asks.
//! A response comes to another socket than its request, so nothing here belongs to a thread (`fast-path.md` §1): our
//! branch names stripe, slot and a random generation, and any thread finds the record without hashing.
//!
//! ```text
//!              relay / ask                 final answer               J (32 s; 0 on streams)
//!  Deciding ───────────────> Calling ─────────────────────> Answered ────────────────> free
//!     │                        │ 480, 408, 503, 10 s of silence          ▲
//!     │                        └────────────> Given ─────────────────────┤ the actor answers
//!     └──────────────────────────────────────────────────────────────────┘
//! ```
//! Timers E, F, J and K have constant lengths: a FIFO each, looked at once a batch and by a tick. There is no timer, task
//! or actor per transaction.

mod answer;
mod call;
mod passing;
mod slot;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use base::limits::{STRIPES, TRANSACTIONS_MAX};
use base::{Aor, IdMaker, KeyedHash, Now};
use bytes::Bytes;
use hashbrown::HashMap;
use im::pager::is_away;
use parking_lot::Mutex;
use sip::{Delta, Layout, Message, Method, Name, Reply, View};
use slab::Slab;

pub use answer::Answer;
pub(crate) use answer::Owed;
use call::{Call, Role};
pub use slot::Slot;

use crate::asker::Asker;
use crate::hop::Hop;
use crate::message::{Offer, SessionInput};
use crate::metrics::Count;
use crate::outbox::Flows;
use crate::turn::Turn;

/// Timer E: T1, doubling to T2 (RFC 3261 §17.1.2.2), as the FIFO that the n-th wait stands in.
const E_WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// The same in half seconds.
const E_HALVES: [u8; E_WAITS.len()] = [1, 2, 4, 8];
/// Timer F (64·T1) in half seconds: at 0.5, 1.5, 3.5, 7.5, 11.5 … 31.5 s a request is repeated, ten times in all.
const F_HALVES: u8 = 64;
/// Timer J (64·T1): how long an answered request is remembered, for its repeats. Timer K is shorter and runs with it.
const LINGER: Duration = Duration::from_secs(32);
/// Buffers of sent requests that a stripe keeps for the next ones.
const POOL: usize = 64;
/// The largest buffer that is kept so.
const POOLED_OCTETS: usize = 2_048;
/// The port of a sent-by that names none (RFC 3261 §18.2.2).
pub(crate) const SIP_PORT: u16 = 5060;

/// What a callee that says nothing counts as having said.
const SILENT: u16 = 408;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The router or an actor has the request; nothing was sent.
    Deciding,
    /// Sent to the callee; its answer is relayed, or an actor's.
    Calling,
    /// The callee is away or silent: an actor will answer the caller.
    Given,
    /// The final answer is known.
    Answered,
}

/// One record: 64 octets and the delta of its answer while it lingers.
struct Record {
    generation: u32,
    state: State,
    /// What a repeated request is found by; 0: there is no server's side.
    key: u64,
    caller: Option<Hop>,
    answer: Option<Delta>,
    /// The client's side, for as long as it may still bring something.
    call: Option<Box<Call>>,
}

/// Whose request goes to whom.
#[derive(Clone, Copy, Debug)]
pub struct Parties<'a> {
    /// Who proved to have sent it.
    pub sender: &'a Aor,
    /// Whose actor hears when the callee is away.
    pub receiver: &'a Aor,
}

#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    index: u32,
    generation: u32,
}

#[derive(Default)]
struct Stripe {
    records: Slab<Record>,
    by_key: HashMap<u64, u32>,
    again: [VecDeque<Due>; E_WAITS.len()],
    silence: VecDeque<Due>,
    fail: VecDeque<Due>,
    linger: VecDeque<Due>,
    #[expect(clippy::vec_box, reason = "the boxes go into records and come back: nothing is moved or allocated")]
    pool: Vec<Box<Call>>,
    evicted: u64,
}

/// What is known of a request that came in.
pub enum Served {
    /// It is new: answer it.
    New(Slot),
    /// It is a repeat of one whose answer this is.
    Answered(Delta),
    /// It is a repeat of one that is not answered yet: absorb it.
    Pending,
    /// There is no room: 503.
    Full,
}

/// Every transaction of this process.
pub struct Transactions {
    stripes: Box<[Mutex<Stripe>]>,
    hash: KeyedHash,
    ids: IdMaker,
    flows: Arc<Flows>,
    silence: Duration,
    clock: fn() -> Now,
    bound: usize,
    hurried: AtomicBool,
}

impl Transactions {
    /// Empty; `silence` is how long a receiver may be silent before it counts as away (decisions D4). `clock` is looked
    /// at only for answers that nobody sent.
    pub fn new(ids: &IdMaker, flows: Arc<Flows>, silence: Duration, clock: fn() -> Now) -> Arc<Self> {
        Self::bounded(ids, flows, silence, clock, TRANSACTIONS_MAX)
    }

    fn bounded(ids: &IdMaker, flows: Arc<Flows>, silence: Duration, clock: fn() -> Now, bound: usize) -> Arc<Self> {
        Arc::new(Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hash: KeyedHash::new(ids.key()),
            ids: IdMaker::new(ids.key()),
            flows,
            silence,
            clock,
            bound: bound / STRIPES,
            hurried: AtomicBool::new(false),
        })
    }

    /// The connections that answers leave by.
    pub fn flows(&self) -> &Arc<Flows> {
        &self.flows
    }

    /// The identity of a request's server transaction: RFC 3261 §17.2.3, with the comparison of RFC 2543 for branches
    /// without the cookie.
    pub fn key(&self, request: View<'_>) -> u64 {
        self.key_as(request, request.method_text())
    }

    /// The identity of the transaction of this method that an ACK or a CANCEL is for (RFC 3261 §9.1, §17.2.3).
    pub fn key_as(&self, request: View<'_>, method: &[u8]) -> u64 {
        let Ok(via) = request.top_via() else { return 0 };
        let branch = via.branch().unwrap_or_default();
        if branch.len() > 7 && branch.starts_with(b"z9hG4bK") {
            return self.hash.of(&[branch, via.sent_by(), method]) | 1;
        }
        let field = |name| request.first(name).unwrap_or_default();
        let to_tag = request.to().ok().and_then(|to| to.tag()).unwrap_or_default();
        let (from, call_id, cseq) = (field(Name::From), field(Name::CallId), field(Name::CSeq));
        // What we fill into it ourselves does not count: a request that was relayed comes back with it.
        let via = [via.transport, via.sent_by(), branch];
        self.hash.of(&[request.request_uri(), to_tag, from, call_id, cseq, via[0], via[1], via[2]]) | 1
    }

    /// The To tag of answers that we make: the same for every repeat, also where no state is kept.
    pub fn tag(&self, key: u64) -> String {
        format!("{:016x}", self.hash.of(&[b"tag", &key.to_be_bytes()]))
    }

    /// What is known of a request before anything is done for it.
    pub fn repeat(&self, key: u64) -> Option<Served> {
        let table = self.stripes[(key >> 32) as usize % STRIPES].lock();
        let record = table.records.get(*table.by_key.get(&key)? as usize)?;
        Some(record.answer.as_ref().map_or(Served::Pending, |delta| Served::Answered(delta.clone())))
    }

    /// A request came in.
    pub fn serve(&self, key: u64, caller: Hop) -> Served {
        let stripe = (key >> 32) as usize % STRIPES;
        let mut table = self.stripes[stripe].lock();
        if let Some(index) = table.by_key.get(&key)
            && let Some(record) = table.records.get(*index as usize)
        {
            return match &record.answer {
                Some(delta) => Served::Answered(delta.clone()),
                None => Served::Pending,
            };
        }
        let record = Record { caller: Some(caller), key, ..self.blank() };
        match table.insert(record, self.bound) {
            None => Served::Full,
            Some((index, generation)) => {
                table.by_key.insert(key, index);
                Served::New(Slot { stripe: stripe as u8, index, generation })
            }
        }
    }

    fn blank(&self) -> Record {
        let generation = self.ids.next_u64() as u32;
        Record { generation, state: State::Deciding, key: 0, caller: None, answer: None, call: None }
    }

    /// The request of `slot` goes on to `callee`: `write` appends it, with our branch, to the turn's arena. The receiver's
    /// actor hears when the callee cannot be reached.
    pub fn relay(
        self: &Arc<Self>,
        turn: &mut Turn,
        slot: Slot,
        callee: Hop,
        parties: Parties<'_>,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) {
        let start = turn.arena.len();
        write(&mut turn.arena, &slot.branch());
        let role = Role::Relay { sender: parties.sender.clone(), came_unix_ms: now.unix_ms };
        self.call(turn, slot, callee, (parties.receiver.clone(), role), now, start);
    }

    /// A request of an actor's own: `write` appends it with our branch; `party`'s actor hears the outcome by `token`.
    /// Nothing when there is no room.
    pub fn ask(
        self: &Arc<Self>,
        turn: &mut Turn,
        callee: Hop,
        party: &Aor,
        token: u64,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) -> Option<Slot> {
        let record = self.blank();
        let stripe = record.generation as usize % STRIPES;
        let (index, generation) = self.stripes[stripe].lock().insert(record, self.bound)?;
        let slot = Slot { stripe: stripe as u8, index, generation };
        let start = turn.arena.len();
        write(&mut turn.arena, &slot.branch());
        self.call(turn, slot, callee, (party.clone(), Role::Ask { token }), now, start).then_some(slot)
    }

    /// `false`: the record is gone, and nothing was sent.
    fn call(
        self: &Arc<Self>,
        turn: &mut Turn,
        slot: Slot,
        callee: Hop,
        whose: (Aor, Role),
        now: Now,
        start: usize,
    ) -> bool {
        {
            let mut table = self.stripe(slot);
            let table = &mut *table;
            let Some(record) =
                table.records.get_mut(slot.index as usize).filter(|record| record.generation == slot.generation)
            else {
                turn.arena.truncate(start);
                return false;
            };
            let written = &turn.arena[start..];
            let method = Method::from_bytes(written.split(|octet| *octet == b' ').next().unwrap_or_default());
            // What an actor asks over a connection nobody needs again: the actor has it, and the transport repeats.
            let is_kept = !callee.is_reliable() || matches!(whose.1, Role::Relay { .. } | Role::Pass);
            let kept = if is_kept { written } else { &[] };
            match &whose.1 {
                Role::Relay { .. } => table.silence.push_back(Due::new(now.at + self.silence, slot)),
                // What an actor asks it gives up by itself; its transaction goes on to timer F. So does what is passed on.
                Role::Ask { .. } | Role::Pass => table.fail.push_back(Due::new(now.at + LINGER, slot)),
            }
            let is_passed = matches!(whose.1, Role::Pass);
            record.state = State::Calling;
            let call = record.call.insert(Call::new(table.pool.pop(), callee, kept, method, whose));
            if !callee.is_reliable() {
                table.again[0].push_back(Due::new(now.at + E_WAITS[0], slot));
            } else if is_passed {
                // Nothing is repeated, but the caller is told that it takes long.
                call.halves = E_HALVES[3];
                table.again[3].push_back(Due::new(now.at + E_WAITS[3], slot));
            }
        }
        if !self.send(turn, callee, start, Asker::Page(slot), Weak::new()) {
            self.unreachable(turn, Asker::Page(slot));
        }
        true
    }

    /// Sends the request of ours that stands in the arena from `start` on; its asker hears when it cannot be delivered.
    /// `tie`: whoever holds the other end of it still waits for a session's request. `false`: it has no way at all.
    pub(crate) fn send(self: &Arc<Self>, turn: &mut Turn, hop: Hop, start: usize, asker: Asker, tie: Weak<()>) -> bool {
        if let Some(conn) = hop.conn()
            && let Some(outbox) = self.flows.get(conn)
        {
            outbox.awaits(asker, tie, |each| !self.is_open(each));
        }
        turn.send_request(self, hop, start, asker)
    }

    /// Whether a request of ours may still be answered.
    pub(crate) fn is_open(&self, slot: Slot) -> bool {
        self.stripe(slot).get(slot).is_some_and(|record| record.call.is_some())
    }

    /// A response came in. `false`: it fits no transaction, and goes nowhere (RFC 6026 §7.3).
    pub fn respond(self: &Arc<Self>, turn: &mut Turn, response: View<'_>, now: Now) -> bool {
        let Some(slot) = response.top_via().ok().and_then(|via| Slot::of_branch(via.branch()?)) else { return false };
        let status = response.status();
        let mut table = self.stripe(slot);
        let table = &mut *table;
        let Some(record) = table.get(slot) else { return false };
        let Some(call) = &mut record.call else {
            // Timer K's time: a repeated answer is absorbed. A record that never called had no branch to answer to.
            return record.state != State::Deciding;
        };
        // RFC 3261 §17.1.3: the method counts too.
        if !response.cseq().is_ok_and(|cseq| cseq.method == call.method) {
            return false;
        }
        if status < 200 {
            // Proceeding: repeats go on every T2 (RFC 3261 §17.1.2.2); nothing is passed on (RFC 4320 §4.1).
            call.proceeding = true;
            return true;
        }
        match (record.state, &call.role) {
            (State::Calling, Role::Relay { .. }) if is_away(status) => self.climb(turn, record, slot, status, false),
            (State::Calling, Role::Pass) if matches!(status, 408 | 503) => {
                self.pass_failure(turn, table, slot, status, now);
            }
            (State::Calling, Role::Relay { .. } | Role::Pass) => {
                let start = turn.arena.len();
                sip::forward_response(&mut turn.arena, response);
                turn.counts.add(Count::Answered);
                record.answer = Some(Delta::of(response));
                if let Some(caller) = record.caller {
                    self.send_back(turn, caller, start);
                }
                let call = record.call.take();
                table.recycle(call);
                table.settle(slot, now);
            }
            (State::Calling, Role::Ask { token }) => {
                let response = Some(Message::copy_of(response));
                turn.offer(call.party.clone(), Offer::Outcome { token: *token, status, response });
                let reliable = call.callee.is_reliable();
                let call = record.call.take();
                table.recycle(call);
                if reliable {
                    table.free(slot.index, slot.generation);
                } else {
                    table.linger_on(slot, now);
                }
            }
            (State::Given | State::Answered, _) => {
                // 482: he has it already (decisions D3).
                if matches!(status, 200..300 | 482) {
                    turn.offer(call.party.clone(), Offer::TookAfterAll { slot });
                }
                let call = record.call.take();
                table.recycle(call);
            }
            (State::Deciding, _) => {}
        }
        true
    }

    /// The callee is away: its user's actor decides what becomes of the message. `goes_on`: it may still answer.
    fn climb(self: &Arc<Self>, turn: &mut Turn, record: &mut Record, slot: Slot, status: u16, goes_on: bool) {
        record.state = State::Given;
        let (Some(call), Some(caller)) = (&record.call, record.caller) else { return };
        let Role::Relay { sender, came_unix_ms } = &call.role else { return };
        match without_top_via(&call.request) {
            Some(request) => {
                let answer = Answer::of(slot, caller, request, true, *came_unix_ms, self.clone());
                let sender = sender.clone();
                turn.offer(call.party.clone(), Offer::Undelivered { sender, answer, status });
            }
            None => tracing::error!("A relayed request of ours does not parse"),
        }
        if !goes_on {
            record.call = None;
        }
    }

    /// A request could not be delivered: no connection, no way, or a host that says so (RFC 3261 §18.4). That counts as
    /// 503 from where it was to go (§16.9).
    pub fn unreachable(self: &Arc<Self>, turn: &mut Turn, asker: Asker) {
        let slot = match asker {
            Asker::Page(slot) => slot,
            Asker::Session(key, transaction) => return turn.session(key, SessionInput::Unreachable { transaction }),
        };
        let mut table = self.stripe(slot);
        let Some(record) = table.get(slot).filter(|record| record.state == State::Calling) else { return };
        turn.counts.add(Count::Unreachable);
        if Self::is_passed(record) {
            let now = (self.clock)();
            return self.pass_failure(turn, &mut table, slot, 503, now);
        }
        self.away(turn, record, slot, 503);
        if record.caller.is_none() {
            table.free(slot.index, slot.generation);
        }
    }

    fn away(self: &Arc<Self>, turn: &mut Turn, record: &mut Record, slot: Slot, status: u16) {
        let Some(call) = &record.call else { return };
        match call.role {
            Role::Relay { .. } => self.climb(turn, record, slot, status, status == SILENT),
            Role::Ask { token } => {
                turn.offer(call.party.clone(), Offer::Outcome { token, status, response: None });
            }
            Role::Pass => {}
        }
    }

    /// Timers that are due, in every stripe that is `share` modulo `shares`: each shard sweeps its own.
    pub fn sweep(self: &Arc<Self>, turn: &mut Turn, now: Now, share: usize, shares: usize) {
        for stripe in (share..STRIPES).step_by(shares.max(1)) {
            self.sweep_stripe(turn, now, stripe, usize::MAX);
        }
    }

    /// At most `most` timers of one stripe that are due; how many there were.
    pub fn sweep_stripe(self: &Arc<Self>, turn: &mut Turn, now: Now, stripe: usize, most: usize) -> usize {
        let mut table = self.stripes[stripe % STRIPES].lock();
        let table = &mut *table;
        turn.counts.add_many(Count::Evicted, std::mem::take(&mut table.evicted));
        let stripe = (stripe % STRIPES) as u8;
        for done in 0..most {
            let due = |queue: &mut VecDeque<Due>| queue.pop_front_if(|due| due.at <= now.at);
            if let Some(due) = table.again.iter_mut().find_map(due) {
                self.repeat_request(turn, table, due.slot(stripe), now);
            } else if let Some(due) = self.silent(table, now) {
                self.fall_silent(turn, table, due.slot(stripe), now);
            } else if let Some(due) = due(&mut table.linger) {
                table.free(due.index, due.generation);
            } else {
                return done;
            }
        }
        most
    }

    /// The next whose patience is over. In a hurry nobody who is relayed has any.
    fn silent(&self, table: &mut Stripe, now: Now) -> Option<Due> {
        let hurried = self.hurried.load(Ordering::Relaxed);
        let silent = table.silence.pop_front_if(|due| hurried || due.at <= now.at);
        silent.or_else(|| table.fail.pop_front_if(|due| due.at <= now.at))
    }

    /// The house is about to close: receivers who have not answered yet count as away, so that no sender is left without
    /// an answer.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Timer E.
    fn repeat_request(&self, turn: &mut Turn, table: &mut Stripe, slot: Slot, now: Now) {
        let Some(record) = table.get(slot) else { return };
        let (caller, Some(call)) = (record.caller, record.call.as_mut()) else { return };
        self.tell_trying(turn, caller, call);
        if call.callee.is_reliable() {
            return;
        }
        let start = turn.arena.len();
        turn.arena.extend_from_slice(&call.request);
        turn.send(&self.flows, call.callee, start);
        turn.counts.add(Count::Resent);
        let wait = match (call.proceeding, call.halves) {
            (false, 1) => 1,
            (false, 3) => 2,
            _ => 3,
        };
        call.halves += E_HALVES[wait];
        if call.halves < F_HALVES {
            table.again[wait].push_back(Due::new(now.at + E_WAITS[wait], slot));
        }
    }

    /// Nothing has come for so long that the callee counts as away, or that timer F ends an actor's own request.
    fn fall_silent(self: &Arc<Self>, turn: &mut Turn, table: &mut Stripe, slot: Slot, now: Now) {
        let Some(record) = table.get(slot).filter(|record| record.state == State::Calling) else { return };
        turn.counts.add(Count::Silent);
        if Self::is_passed(record) {
            return self.pass_failure(turn, table, slot, SILENT, now);
        }
        self.away(turn, record, slot, SILENT);
        if record.caller.is_none() {
            table.free(slot.index, slot.generation);
        }
    }

    /// The final answer of `slot` leaves, written by `write`; what a repeat gets is `delta`.
    fn finish(
        &self,
        turn: &mut Turn,
        slot: Slot,
        caller: Hop,
        delta: Delta,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        {
            let mut table = self.stripe(slot);
            let Some(record) = table.get(slot).filter(|record| record.state != State::Answered) else { return };
            record.answer = Some(delta);
            table.settle(slot, now);
        }
        let start = turn.arena.len();
        write(&mut turn.arena);
        self.send_back(turn, caller, start);
    }

    /// The final answer to a request at hand leaves, and is kept for its repeats.
    pub(crate) fn answer(
        &self,
        turn: &mut Turn,
        slot: Slot,
        caller: Hop,
        request: View<'_>,
        reply: &Reply<'_>,
        now: Now,
    ) {
        self.finish(turn, slot, caller, Delta::from_reply(reply), now, |out| sip::reply(out, request, reply));
    }

    /// Sends a response: by the connection that its request came by, or, when that is gone, by one to where the request
    /// came from and the port that its sender named (RFC 3261 §18.2.2).
    pub(crate) fn send_back(&self, turn: &mut Turn, caller: Hop, start: usize) {
        match caller.conn() {
            Some(conn) if self.flows.get(conn).is_none() => {
                let mut layout = Box::<Layout>::default();
                let response = &turn.arena[start..];
                let port = sip::parse_datagram(response, &mut layout).ok().and_then(|()| {
                    let via = layout.view(response).top_via().ok()?;
                    Some(via.port.unwrap_or(SIP_PORT))
                });
                let peer = port.map(|port| SocketAddr::new(caller.peer().ip(), port));
                match peer.and_then(|peer| self.flows.dial(peer)) {
                    Some(hop) => turn.send(&self.flows, hop, start),
                    None => turn.lose(start),
                };
            }
            _ => {
                turn.send(&self.flows, caller, start);
            }
        }
    }

    /// Forgets a record: its request was answered without state, or never will be.
    pub fn forget(&self, slot: Slot) {
        self.stripe(slot).free(slot.index, slot.generation);
    }

    /// Requests whose final answer is still owed to their callers: what a stop waits for. What was passed on is their
    /// receivers' to answer.
    pub fn undecided(&self) -> usize {
        let owed =
            |record: &Record| record.caller.is_some() && record.state != State::Answered && !Self::is_passed(record);
        self.stripes.iter().map(|stripe| stripe.lock().records.iter().filter(|(_, record)| owed(record)).count()).sum()
    }

    /// Records that are kept.
    pub fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.lock().records.len()).sum()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn stripe(&self, slot: Slot) -> parking_lot::MutexGuard<'_, Stripe> {
        self.stripes[usize::from(slot.stripe)].lock()
    }
}

/// A relayed request as its caller sent it: without our Via. `forward_response` takes the top Via off any message.
fn without_top_via(request: &[u8]) -> Option<Message> {
    let request = Message::parse(Bytes::copy_from_slice(request)).ok()?;
    let mut text = Vec::with_capacity(request.bytes().len());
    sip::forward_response(&mut text, request.view());
    Message::parse(text.into()).ok()
}

impl Due {
    fn new(at: Instant, slot: Slot) -> Self {
        Self { at, index: slot.index, generation: slot.generation }
    }

    fn slot(self, stripe: u8) -> Slot {
        Slot { stripe, index: self.index, generation: self.generation }
    }
}

impl Stripe {
    /// The record of a slot, if it is the same tenant's still.
    fn get(&mut self, slot: Slot) -> Option<&mut Record> {
        self.records.get_mut(slot.index as usize).filter(|record| record.generation == slot.generation)
    }

    /// Room for one more; the loser is the oldest answered record. Index and generation.
    fn insert(&mut self, record: Record, bound: usize) -> Option<(u32, u32)> {
        while self.records.len() >= bound {
            let due = self.linger.pop_front()?;
            let before = self.records.len();
            self.free(due.index, due.generation);
            self.evicted += (before - self.records.len()) as u64;
        }
        let generation = record.generation;
        Some((u32::try_from(self.records.insert(record)).ok()?, generation))
    }

    fn free(&mut self, index: u32, generation: u32) {
        if self.records.get(index as usize).is_some_and(|record| record.generation == generation) {
            let record = self.records.remove(index as usize);
            if record.key != 0 {
                self.by_key.remove(&record.key);
            }
            self.recycle(record.call);
        }
    }

    fn recycle(&mut self, call: Option<Box<Call>>) {
        if let Some(call) = call
            && self.pool.len() < POOL
            && call.request.capacity() <= POOLED_OCTETS
        {
            self.pool.push(call);
        }
    }

    /// The caller has its final answer: remembered for its repeats where the transport repeats, or while the callee may
    /// still answer, else forgotten.
    fn settle(&mut self, slot: Slot, now: Now) {
        let Some(record) = self.get(slot) else { return };
        record.state = State::Answered;
        let is_unreliable = record.caller.is_some_and(|hop| !hop.is_reliable());
        if record.call.is_some() || is_unreliable {
            self.linger_on(slot, now);
        } else {
            self.free(slot.index, slot.generation);
        }
    }

    fn linger_on(&mut self, slot: Slot, now: Now) {
        if let Some(record) = self.get(slot) {
            record.state = State::Answered;
            self.linger.push_back(Due::new(now.at + LINGER, slot));
        }
    }
}

#[cfg(test)]
#[path = "transactions_tests.rs"]
mod tests;
