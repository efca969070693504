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

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::limits::{SILENCE, STRIPES, TRANSACTIONS_MAX};
use base::{Aor, IdMaker, KeyedHash, Now};
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use sip::{Delta, Message, Name, Reply, View};
use slab::Slab;

use crate::hop::Hop;
use crate::message::Offer;
use crate::metrics::Count;
use crate::outbox::Flows;
use crate::turn::{self, Turn};

/// Timer E: T1, doubling to T2 (RFC 3261 §17.1.2.2), as the FIFO that the n-th wait stands in.
const E_WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Repeats until timer F (64·T1) ends them: after 0.5, 1.5, 3.5, 7.5, 11.5 … 31.5 s.
const E_REPEATS: u8 = 10;
/// Timer J (64·T1): how long an answered request is remembered, for its repeats. Timer K is shorter and runs with it.
const LINGER: Duration = Duration::from_secs(32);
/// Buffers of sent requests that a stripe keeps for the next ones.
const POOL: usize = 64;

/// Where a record is: what our branch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Which stripe.
    pub stripe: u8,
    /// Which place in it.
    pub index: u32,
    /// Which tenant of that place; random, so that nobody forges an answer.
    pub generation: u32,
}

/// What our branches begin with: the cookie of RFC 3261 §8.1.1.7 and a letter.
const BRANCH: &[u8; 8] = b"z9hG4bKp";

impl Slot {
    /// Our branch for this record, 26 octets.
    pub fn branch(self) -> [u8; 26] {
        let mut text = [0; 26];
        text[..8].copy_from_slice(BRANCH);
        hex(&mut text[8..10], u32::from(self.stripe));
        hex(&mut text[10..18], self.index);
        hex(&mut text[18..26], self.generation);
        text
    }

    /// The record that a branch names, if it is one of ours.
    pub fn of_branch(branch: &[u8]) -> Option<Self> {
        let rest = branch.strip_prefix(BRANCH)?;
        if rest.len() != 18 {
            return None;
        }
        let stripe = u8::try_from(unhex(&rest[..2])?).ok().filter(|stripe| usize::from(*stripe) < STRIPES)?;
        Some(Self { stripe, index: unhex(&rest[2..10])?, generation: unhex(&rest[10..])? })
    }
}

fn hex(out: &mut [u8], mut value: u32) {
    for place in out.iter_mut().rev() {
        *place = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

fn unhex(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0u32, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u32::from(digit))
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The router or an actor has the request; nothing was sent.
    Deciding,
    /// Sent to the callee; its answer is relayed.
    Calling,
    /// The callee is away or silent: an actor will answer the caller.
    Given,
    /// The final answer is known.
    Answered,
}

struct Record {
    generation: u32,
    state: State,
    /// The next repeat of the client's side; above [`E_REPEATS`]: no more.
    repeats: u8,
    /// The client's side still waits for a final answer.
    open: bool,
    key: u64,
    caller: Option<Hop>,
    callee: Option<Hop>,
    request: Option<Vec<u8>>,
    answer: Option<Delta>,
    /// For whom the actor speaks who hears of failures and outcomes.
    party: Option<Aor>,
    /// What that actor calls it; nothing for relayed requests.
    token: Option<u64>,
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
    pool: Vec<Vec<u8>>,
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
    bound: usize,
}

impl Transactions {
    /// Empty; `silence` is how long a receiver may be silent before it counts as away (decisions D4).
    pub fn new(ids: &IdMaker, flows: Arc<Flows>, silence: Duration) -> Arc<Self> {
        Arc::new(Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hash: KeyedHash::new(ids.key()),
            ids: IdMaker::new(ids.key()),
            flows,
            silence,
            bound: TRANSACTIONS_MAX / STRIPES,
        })
    }

    /// As [`Transactions::new`] with the default silence.
    pub fn with_defaults(ids: &IdMaker, flows: Arc<Flows>) -> Arc<Self> {
        Self::new(ids, flows, SILENCE)
    }

    /// The connections that answers leave by.
    pub fn flows(&self) -> &Arc<Flows> {
        &self.flows
    }

    /// The identity of a request's server transaction: RFC 3261 §17.2.3, with the comparison of RFC 2543 for branches
    /// without the cookie (P1.2.1, P1.2.2).
    pub fn key(&self, request: View<'_>) -> u64 {
        let Ok(via) = request.top_via() else { return 0 };
        let branch = via.branch().unwrap_or_default();
        let method = request.method_text();
        if branch.len() > 7 && branch.starts_with(b"z9hG4bK") {
            return self.hash.of(&[branch, via.sent_by(), method]) | 1;
        }
        let tag = |value: Option<&'_ [u8]>| value.unwrap_or_default().to_vec();
        let pieces = [tag(request.first(Name::From)), tag(request.first(Name::CallId)), tag(request.first(Name::CSeq))];
        let via = request.first(Name::Via).unwrap_or_default();
        self.hash.of(&[request.request_uri(), &pieces[0], &pieces[1], &pieces[2], via]) | 1
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
        Record {
            generation: self.ids.next_u64() as u32,
            state: State::Deciding,
            repeats: 0,
            open: false,
            key: 0,
            caller: None,
            callee: None,
            request: None,
            answer: None,
            party: None,
            token: None,
        }
    }

    /// The request of `slot` goes on to `callee`: `write` appends it, with our branch, to the turn's arena. `party` hears
    /// when the callee cannot be reached.
    pub fn relay(
        self: &Arc<Self>,
        turn: &mut Turn,
        slot: Slot,
        callee: Hop,
        party: &Aor,
        now: Now,
        write: impl FnOnce(&mut Vec<u8>, &[u8]),
    ) {
        let start = turn.arena.len();
        write(&mut turn.arena, &slot.branch());
        self.call(turn, slot, callee, (party.clone(), None), now, start);
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
        self.call(turn, slot, callee, (party.clone(), Some(token)), now, start);
        Some(slot)
    }

    fn call(self: &Arc<Self>, turn: &mut Turn, slot: Slot, callee: Hop, party: (Aor, Option<u64>), now: Now, start: usize) {
        {
            let mut table = self.stripe(slot);
            let table = &mut *table;
            let Some(record) = table.records.get_mut(slot.index as usize) else { return };
            if record.generation != slot.generation {
                return;
            }
            let mut copy = table.pool.pop().unwrap_or_default();
            copy.extend_from_slice(&turn.arena[start..]);
            record.state = State::Calling;
            record.open = true;
            record.callee = Some(callee);
            record.request = Some(copy);
            (record.party, record.token) = (Some(party.0), party.1);
            if !callee.is_reliable() {
                table.again[0].push_back(Due::new(now.at + E_WAITS[0], slot));
            }
            // What an actor asks it gives up by itself; its transaction goes on to timer F.
            match record.token {
                None => table.silence.push_back(Due::new(now.at + self.silence, slot)),
                Some(_) => table.fail.push_back(Due::new(now.at + LINGER, slot)),
            }
        }
        if let Some(conn) = callee.conn()
            && let Some(outbox) = self.flows.get(conn)
        {
            outbox.awaits(slot, |each| !self.is_open(each));
        }
        if !turn.send(&self.flows, callee, start) {
            self.unreachable(turn, slot);
        }
    }

    fn is_open(&self, slot: Slot) -> bool {
        let table = self.stripe(slot);
        table.records.get(slot.index as usize).is_some_and(|record| record.generation == slot.generation && record.open)
    }

    /// A response came in. `false`: it fits no transaction, and goes nowhere (RFC 6026 §7.3).
    pub fn respond(self: &Arc<Self>, turn: &mut Turn, response: View<'_>, now: Now) -> bool {
        let Some(slot) = response.top_via().ok().and_then(|via| Slot::of_branch(via.branch()?)) else { return false };
        let status = response.status();
        let mut table = self.stripe(slot);
        let table = &mut *table;
        let Some(record) = table.records.get_mut(slot.index as usize) else { return false };
        if record.generation != slot.generation || record.callee.is_none() {
            return false;
        }
        if status < 200 {
            // Proceeding: repeats go on every T2 (RFC 3261 §17.1.2.2); nothing is passed on (RFC 4320 §4.1).
            record.repeats = record.repeats.max(3);
            return true;
        }
        if !record.open {
            return true; // timer K's time: a repeated answer is absorbed
        }
        record.open = false;
        match (record.state, record.token) {
            (State::Calling, None) if is_away(status) => {
                self.climb(turn, record, slot, status);
            }
            (State::Calling, None) => {
                let start = turn.arena.len();
                sip::forward_response(&mut turn.arena, response);
                turn.counts.add(Count::Answered);
                record.answer = Some(Delta::of(response));
                record.party = None;
                if let Some(caller) = record.caller {
                    turn.send(&self.flows, caller, start);
                }
                table.settle(slot.index, now);
            }
            (State::Calling, Some(token)) => {
                if let Some(party) = record.party.take() {
                    turn.offer(party, Offer::Outcome { token, status, response: Some(Message::copy_of(response)) });
                }
                table.settle(slot.index, now);
            }
            (State::Given | State::Answered, _) => {
                if (200..300).contains(&status)
                    && let Some(party) = record.party.take()
                {
                    turn.offer(party, Offer::TookAfterAll { slot });
                }
            }
            (State::Deciding, _) => {}
        }
        true
    }

    /// The callee is away: its user's actor decides what becomes of the message.
    fn climb(self: &Arc<Self>, turn: &mut Turn, record: &mut Record, slot: Slot, status: u16) {
        record.state = State::Given;
        let (Some(party), Some(caller), Some(request)) = (&record.party, record.caller, &record.request) else { return };
        match without_top_via(request) {
            Some(request) => {
                let answer = Answer::new(slot, caller, request, true, self.clone());
                turn.offer(party.clone(), Offer::Undelivered { answer, status });
            }
            None => tracing::error!("A relayed request of ours does not parse"),
        }
    }

    /// A request could not be sent, or its connection was lost.
    pub fn unreachable(self: &Arc<Self>, turn: &mut Turn, slot: Slot) {
        let mut table = self.stripe(slot);
        let Some(record) = table.records.get_mut(slot.index as usize) else { return };
        if record.generation == slot.generation && record.state == State::Calling && record.open {
            record.open = false;
            self.away(turn, record, slot, 503);
        }
    }

    fn away(self: &Arc<Self>, turn: &mut Turn, record: &mut Record, slot: Slot, status: u16) {
        match record.token {
            None => self.climb(turn, record, slot, status),
            Some(token) => {
                record.state = State::Answered;
                if let Some(party) = record.party.clone() {
                    turn.offer(party, Offer::Outcome { token, status, response: None });
                }
            }
        }
    }

    /// Timers that are due, in every stripe that is `share` modulo `shares`: each shard sweeps its own.
    pub fn sweep(self: &Arc<Self>, turn: &mut Turn, now: Now, share: usize, shares: usize) {
        for stripe in (share..STRIPES).step_by(shares.max(1)) {
            let mut table = self.stripes[stripe].lock();
            self.sweep_again(turn, &mut table, stripe as u8, now);
            self.sweep_silence(turn, &mut table, stripe as u8, now);
            while let Some(due) = table.linger.pop_front_if(|due| due.at <= now.at) {
                table.free(due.index, due.generation);
            }
        }
    }

    fn sweep_again(&self, turn: &mut Turn, table: &mut Stripe, stripe: u8, now: Now) {
        for wait in 0..E_WAITS.len() {
            while let Some(due) = table.again[wait].pop_front_if(|due| due.at <= now.at) {
                let Some(record) = table.records.get_mut(due.index as usize) else { continue };
                if record.generation != due.generation || !record.open {
                    continue;
                }
                let (Some(request), Some(callee)) = (&record.request, record.callee) else { continue };
                let start = turn.arena.len();
                turn.arena.extend_from_slice(request);
                turn.send(&self.flows, callee, start);
                turn.counts.add(Count::Resent);
                record.repeats += 1;
                if record.repeats < E_REPEATS {
                    let next = usize::from(record.repeats).min(E_WAITS.len() - 1);
                    let slot = Slot { stripe, index: due.index, generation: due.generation };
                    table.again[next].push_back(Due::new(now.at + E_WAITS[next], slot));
                }
            }
        }
    }

    fn sweep_silence(self: &Arc<Self>, turn: &mut Turn, table: &mut Stripe, stripe: u8, now: Now) {
        let pop = |table: &mut Stripe| {
            let silent = table.silence.pop_front_if(|due| due.at <= now.at);
            silent.or_else(|| table.fail.pop_front_if(|due| due.at <= now.at))
        };
        while let Some(due) = pop(table) {
            let Some(record) = table.records.get_mut(due.index as usize) else { continue };
            if record.generation != due.generation || !record.open || record.state != State::Calling {
                continue;
            }
            turn.counts.add(Count::Silent);
            let slot = Slot { stripe, index: due.index, generation: due.generation };
            self.away(turn, record, slot, 408);
            if record.token.is_some() {
                table.free(due.index, due.generation);
            }
        }
    }

    /// The final answer of `slot` leaves, written by `write`; what a repeat gets is `delta`.
    fn finish(&self, turn: &mut Turn, slot: Slot, caller: Hop, delta: Delta, now: Now, write: impl FnOnce(&mut Vec<u8>)) {
        {
            let mut table = self.stripe(slot);
            let Some(record) = table.records.get_mut(slot.index as usize) else { return };
            if record.generation != slot.generation || record.state == State::Answered {
                return;
            }
            record.answer = Some(delta);
            table.settle(slot.index, now);
        }
        let start = turn.arena.len();
        write(&mut turn.arena);
        turn.send(&self.flows, caller, start);
    }

    /// Forgets a record: its request was answered without state, or never will be.
    pub fn forget(&self, slot: Slot) {
        self.stripe(slot).free(slot.index, slot.generation);
    }

    /// Requests whose final answer is still owed by us, as far as an actor decides it: what a stop waits for.
    pub fn undecided(&self) -> usize {
        let owed = |record: &Record| record.caller.is_some() && matches!(record.state, State::Deciding | State::Given);
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

/// Whether a receiver's answer means that the message may be kept for later (decisions D4; R-309).
pub fn is_away(status: u16) -> bool {
    matches!(status, 480 | 408 | 503)
}

impl Due {
    fn new(at: Instant, slot: Slot) -> Self {
        Self { at, index: slot.index, generation: slot.generation }
    }
}

impl Stripe {
    /// Room for one more; the loser is the oldest answered record. Index and generation.
    fn insert(&mut self, record: Record, bound: usize) -> Option<(u32, u32)> {
        while self.records.len() >= bound {
            let due = self.linger.pop_front()?;
            self.free(due.index, due.generation);
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
            self.recycle(record.request);
        }
    }

    fn recycle(&mut self, request: Option<Vec<u8>>) {
        if let Some(mut buffer) = request
            && self.pool.len() < POOL
            && buffer.capacity() <= 4_096
        {
            buffer.clear();
            self.pool.push(buffer);
        }
    }

    /// The record has its final answer: remembered for its repeats where the transport repeats, else forgotten.
    fn settle(&mut self, index: u32, now: Now) {
        let Some(record) = self.records.get_mut(index as usize) else { return };
        record.state = State::Answered;
        let due = Due { at: now.at + LINGER, index, generation: record.generation };
        let repeats_may_come = |hop: Option<Hop>| hop.is_some_and(|hop| !hop.is_reliable());
        if record.open || repeats_may_come(record.caller) || repeats_may_come(record.callee) {
            if !record.open {
                let request = record.request.take();
                self.recycle(request);
            }
            self.linger.push_back(due);
        } else {
            self.free(due.index, due.generation);
        }
    }
}

/// A request that somebody waits for the answer of, and the way to answer it. Dropped unsent it becomes 503: who waited
/// for a dead actor's answer gets one (decisions D20).
pub struct Answer(Option<Box<Owed>>);

struct Owed {
    slot: Slot,
    caller: Hop,
    request: Message,
    /// Whether `received` and `rport` stand in its Via already.
    via_filled: bool,
    transactions: Arc<Transactions>,
}

impl Answer {
    /// For a request whose record is `slot`.
    pub fn new(slot: Slot, caller: Hop, request: Message, via_filled: bool, transactions: Arc<Transactions>) -> Self {
        Self(Some(Box::new(Owed { slot, caller, request, via_filled, transactions })))
    }

    fn owed(&self) -> &Owed {
        // The box is taken only by what consumes the answer.
        self.0.as_deref().expect("an answer is owed until it is sent")
    }

    /// The request.
    pub fn request(&self) -> View<'_> {
        self.owed().request.view()
    }

    /// Who waits.
    pub fn caller(&self) -> Hop {
        self.owed().caller
    }

    /// The record.
    pub fn slot(&self) -> Slot {
        self.owed().slot
    }

    /// Answers with a reply of ours, by the standard phrase.
    pub fn send(self, turn: &mut Turn, now: Now, status: u16, lines: &[u8]) {
        self.send_as(turn, now, status, "", lines);
    }

    /// Answers with a reply of ours, whose phrase names the fault.
    pub fn send_as(mut self, turn: &mut Turn, now: Now, status: u16, reason: &str, lines: &[u8]) {
        if let Some(owed) = self.0.take() {
            let request = owed.request.view();
            let tag = owed.transactions.tag(owed.transactions.key(request));
            let source = (!owed.via_filled).then(|| owed.caller.peer());
            let reply = Reply { status, reason, to_tag: &tag, source, lines, body: b"" };
            let delta = Delta::from_reply(&reply);
            owed.transactions.finish(turn, owed.slot, owed.caller, delta, now, |out| sip::reply(out, request, &reply));
        }
    }

    /// Answers with a response that a contact gave to a copy of this request, our Via on top of it.
    pub fn forward(mut self, turn: &mut Turn, now: Now, response: View<'_>) {
        if let Some(owed) = self.0.take() {
            let delta = Delta::of(response);
            turn.counts.add(Count::Answered);
            owed.transactions
                .finish(turn, owed.slot, owed.caller, delta, now, |out| sip::forward_response(out, response));
        }
    }

    /// 503: something is full or broken (RFC 3261 §21.5.4).
    pub fn overloaded(self, turn: &mut Turn, now: Now) {
        turn.counts.add(Count::Overloaded);
        self.send(turn, now, 503, b"Retry-After: 5\r\n");
    }

    /// The router sees the request again: the record stays, this answer is spent.
    pub(crate) fn take_back(mut self) -> Option<(Slot, Hop, Message)> {
        self.0.take().map(|owed| (owed.slot, owed.caller, owed.request))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(owed) = self.0.take() {
            turn::dropped(Self(Some(owed)));
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({:?})", self.0.as_ref().map(|owed| owed.slot))
    }
}
