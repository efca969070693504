//! A session of two, alive: a back-to-back user agent around the rules of [`im::session`]. It answers the caller, calls
//! the callee's contacts, and programs the switch; what people say to each other passes it by.
//!
//! ```text
//!  caller ── INVITE ──> serving ──┐                     ┌── calling ── INVITE ──> contacts of the callee
//!         <── BYE ───── asking <──┤   rules (Session)   ├──> asking ── BYE, CANCEL ──>
//!                                 └──> media ── Switch ─┘
//! ```
//!
//! Bound: [`SESSION_MAILBOX_MAX`] inputs, then a request is answered 503 and a response is lost (its sender repeats it).
//! After a panic: this session ends, and no other. What it had open in the world stands in its [`Estate`], outside of it;
//! the nursery starts a second actor over that, which refuses, cancels and hangs up what is open.
//!
//! [`Estate`]: estate::Estate

mod asking;
mod calling;
pub(crate) mod estate;
mod key;
mod media;
mod refreshing;
mod seats;
mod serving;
mod table;
mod updating;
mod words;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use base::limits::{SESSION_FORKS_MAX, SESSION_MAILBOX_MAX};
use base::{Aor, Now};
use im::Side;
use im::pager::Target;
use im::session::{Input, Output, Patience, Session};
use sip::transaction::{Reliable, Timers};
use sip::{Method, Name};

use crate::alarm::Alarm;
use crate::asker::Asker;
use crate::brood::{Handles, MayLeave, Ties};
use crate::contact::Contact;
use crate::hop::Hop;
use crate::house::House;
use crate::message::{Callee, Invite, Offer, SessionInput, SessionKey, SwitchEvent, Whereabouts, Within};
use crate::metrics::Count;
use crate::node::{Node, State};
use crate::pace::Pace;
use crate::session_nursery::Handed;
use crate::supervise::{Leave, Lifeline};
use crate::transactions::Answer;
use crate::turn;

use asking::Asking;
use calling::Branch;
use media::Media;
use refreshing::{Renewal, Timing};
use serving::Serving;

pub(crate) use media::offer_of;
pub use seats::Seat;
pub(crate) use table::Shared;
pub use table::{Entry, Sessions};

/// One session's actor.
pub struct SessionActor {
    house: Arc<House>,
    key: SessionKey,
    child: usize,
    lifeline: Option<Lifeline>,
    nursery: Recipient<MayLeave>,
    node: Arc<Node>,
    pace: Pace,
    handled: u64,
    timers: Timers,
    rules: Session,
    /// What it has open in the world.
    estate: Shared,
    people: [Aor; 2],
    /// Where the callee is called; taken when that is looked for.
    callee: Option<Callee>,
    /// What counts it among theirs until it is over.
    seats: [Option<Seat>; 2],
    /// Our tag towards the caller, which stands in every answer but 100.
    tag: String,
    media: Option<Media>,
    /// The callee's contacts; a branch is called by its place here.
    contacts: Vec<Contact>,
    serving: Vec<Serving>,
    branches: Vec<Branch>,
    asking: Vec<Asking>,
    /// The session timer of each leg.
    timings: [Timing; 2],
    /// INVITEs of ours within a dialog.
    renewals: Vec<Renewal>,
    /// Our 180, where the caller must have heard it.
    reliable: Option<Box<Reliable>>,
    /// The caller's last UPDATE before it was answered.
    early: Option<sip::Message>,
    /// Legs that a connection carries, or that we have called.
    bound: [bool; 2],
    /// The Reason of the BYE or the CANCEL that ends it, for the other side.
    parting: Option<String>,
    alarm: Alarm,
}

/// Starts a session's actor on this thread.
pub(crate) fn plant(
    house: &Arc<House>,
    key: SessionKey,
    invite: Box<Invite>,
    estate: Shared,
    ties: Ties,
) -> Option<Handles<Handed>> {
    let Invite { sender, receiver, answer, entry, offer, callee, seat } = *invite;
    let now = house.now();
    let number = answer.request().cseq().ok()?.number;
    let expires = answer.request().expires().map(|expires| Duration::from_secs(expires.max(1).into()));
    let patience = Patience { idle: house.config.session_idle, expires, ..Patience::default() };
    let rules = Session::start(number, patience, now.at);
    let mut actor = SessionActor::new(house, key, rules, estate, ties);
    actor.people = [sender, receiver];
    actor.callee = Some(callee);
    actor.seats[Side::Caller as usize] = Some(seat);
    actor.media = Some(Media::new(house.clone(), offer));
    actor.answer_for(answer, entry, now)?;
    Some(actor.start_here())
}

/// Starts one that closes what another has left open.
pub(crate) fn bury(house: &Arc<House>, key: SessionKey, estate: Shared, ties: Ties) -> Handles<Handed> {
    let now = house.now();
    let (owed, open, stands) = {
        let mut left = estate.lock();
        left.close_all_but(None, &house.switch);
        let open: Vec<u32> = left.open.iter().map(|each| each.id).collect();
        (left.owed.take(), open, [Side::Caller, Side::Callee].map(|side| left.leg(side).is_some()))
    };
    let rules = Session::broken(owed.is_some(), &open, stands, Patience::default(), now.at);
    let mut actor = SessionActor::new(house, key, rules, estate, ties);
    if let Some(owed) = owed {
        actor.answer_again(owed, now);
    }
    actor.call_again(now);
    actor.start_here()
}

impl SessionActor {
    fn new(house: &Arc<House>, key: SessionKey, rules: Session, estate: Shared, ties: Ties) -> Self {
        let nobody = || Aor::new("anonymous", "anonymous.invalid").expect("a name and a domain");
        Self {
            house: house.clone(),
            key,
            child: ties.child,
            lifeline: Some(ties.lifeline),
            nursery: ties.nursery,
            node: ties.node,
            pace: Pace::default(),
            handled: 0,
            timers: Timers::default(),
            rules,
            estate,
            people: [nobody(), nobody()],
            callee: None,
            seats: [None, None],
            tag: key.tag(house.sessions.random()),
            media: None,
            contacts: Vec::new(),
            serving: Vec::new(),
            branches: Vec::new(),
            asking: Vec::new(),
            timings: Default::default(),
            renewals: Vec::new(),
            reliable: None,
            early: None,
            bound: [false; 2],
            parting: None,
            alarm: Alarm::default(),
        }
    }

    fn start_here(self) -> Handles<Handed> {
        Handles::to(Self::create(|ctx| {
            // Before the first input comes, not when it starts.
            ctx.set_mailbox_capacity(SESSION_MAILBOX_MAX);
            self
        }))
    }
}

/// Sends a request of a session's or a passage's own. `false`: it has no way. When it cannot be delivered all the same,
/// [`SessionInput::Unreachable`] says so, for as long as `tie` is held.
pub(crate) fn send(house: &House, asker: Asker, hop: Hop, bytes: &[u8], tie: &Arc<()>) -> bool {
    turn::fill_later(|turn| {
        let start = turn.arena.len();
        turn.arena.extend_from_slice(bytes);
        house.transactions.send(turn, hop, start, asker, Arc::downgrade(tie))
    })
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.node.set(State::Running);
        self.go_on(self.house.now(), ctx);
    }
}

impl Handler<Handed> for SessionActor {
    type Result = ();

    fn handle(&mut self, Handed(input): Handed, ctx: &mut Self::Context) {
        let (began, now) = (Instant::now(), self.house.now());
        self.handled += 1;
        self.node.taken();
        self.take(input, now);
        self.go_on(now, ctx);
        self.node.turn_took(began.elapsed());
        self.pace.turned(ctx);
    }
}

impl Handler<Leave> for SessionActor {
    type Result = ();

    fn handle(&mut self, how: Leave, ctx: &mut Self::Context) {
        match how {
            Leave::Soon if self.is_done() => {}
            // The server stops: everybody is told, and nobody's answer is waited for.
            Leave::Soon => {
                let now = self.house.now();
                self.rules.handle(Input::Leave, now.at);
                self.settle(now);
            }
            // Its nursery fell; the next one takes care of the estate.
            Leave::AtOnce => return ctx.stop(),
        }
        self.house.sessions.release(self.key);
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}

impl SessionActor {
    fn take(&mut self, input: SessionInput, now: Now) {
        match input {
            SessionInput::Switch(event) => self.switched(event, now),
            // The one that it was started with; a key is never used twice.
            SessionInput::Invite(_) | SessionInput::Passage(_) => {}
            SessionInput::Repeated { key } => self.serve(key, sip::transaction::ServerInviteInput::Request, now),
            SessionInput::Cancel { key, reason } => {
                self.parting = reason;
                self.serve(key, sip::transaction::ServerInviteInput::Cancel, now);
            }
            SessionInput::HopAck { key } => self.serve(key, sip::transaction::ServerInviteInput::Ack, now),
            SessionInput::Ack(ack) => self.acknowledged(&ack, now),
            SessionInput::Request(within) => self.asked(*within, now),
            SessionInput::Response(response) => self.answered(response, now),
            SessionInput::Unreachable { transaction } => self.unreachable(transaction, now),
            SessionInput::Whereabouts(found) => self.found(found, now),
            #[expect(clippy::panic, reason = "it is what the operator's test asks for")]
            SessionInput::Panic => panic!("told to fall"),
        }
    }

    /// What the switch says holds for the pair of the session that was taken: others are asked no more.
    fn switched(&mut self, event: SwitchEvent, now: Now) {
        let (SwitchEvent::Bound(side) | SwitchEvent::Lost(side)) = event;
        let Some(pair) = self.media.as_ref().and_then(Media::pair) else { return };
        let at = side as usize;
        match (pair.is_bound(side), self.bound[at]) {
            (true, false) => {
                self.bound[at] = true;
                self.rules.handle(Input::Bound(side), now.at);
            }
            (false, true) => {
                self.bound[at] = false;
                self.rules.handle(Input::Lost(side), now.at);
            }
            (true, true) | (false, false) => {}
        }
    }

    fn found(&mut self, found: Result<Box<Whereabouts>, u16>, now: Now) {
        let input = match found {
            Ok(found) if self.rules.is_open() && self.contacts.is_empty() => {
                self.people[Side::Callee as usize] = found.aor;
                self.contacts = self.best_of(found.contacts);
                let targets = self.contacts.iter().zip(0..).map(|(contact, id)| Target { id, q: contact.q });
                Input::Found(targets.collect())
            }
            Ok(_) => return,
            Err(status) => Input::Absent(status),
        };
        self.rules.handle(input, now.at);
    }

    /// Those that are rung: not more than [`SESSION_FORKS_MAX`], the preferred ones.
    fn best_of(&self, mut contacts: Vec<Contact>) -> Vec<Contact> {
        let too_many = contacts.len().saturating_sub(SESSION_FORKS_MAX);
        if too_many > 0 {
            contacts.sort_by_key(|contact| std::cmp::Reverse(contact.q));
            contacts.truncate(SESSION_FORKS_MAX);
            (0..too_many).for_each(|_| self.house.metrics.count(Count::ForksCut));
        }
        contacts
    }

    /// A request within one of its dialogs (RFC 3261 §12.2.2).
    fn asked(&mut self, within: Within, now: Now) {
        let Within { sender, is_vouched, answer } = within;
        let request = answer.request();
        let side = self.estate.lock().side_of(request);
        let Some(side) = side else {
            return self.asked_early(answer, (!is_vouched).then_some(&sender), now);
        };
        let verdict = {
            let mut estate = self.estate.lock();
            match estate.leg_mut(side) {
                Some(leg) if !is_vouched && leg.party != sender => Err((403, "Not Your Session")),
                Some(leg) => leg.dialog.receive(request).map_err(|fault| (fault.status, fault.reason)),
                None => Err((481, "")),
            }
        };
        if let Err((status, reason)) = verdict {
            return refuse(answer, status, reason, b"", now);
        }
        match request.method() {
            Method::Bye => {
                self.parting = request.first(Name::Reason).map(words::one_line);
                self.estate.lock().legs[side as usize] = None;
                refuse(answer, 200, "", b"", now);
                self.rules.handle(Input::HungUp(side), now.at);
            }
            Method::Invite => self.offered(side, answer, now),
            Method::Update => self.updated(side, answer, now),
            Method::Prack if side == Side::Caller => self.pracked(answer, now),
            Method::Options => {
                refuse(answer, 200, "", format!("{}Accept: application/sdp\r\n", words::ALLOW).as_bytes(), now);
            }
            _ => refuse(answer, 405, "", words::ALLOW.as_bytes(), now),
        }
    }

    /// A request that is of no dialog that stands: of one that is not answered yet, or has ended.
    /// `sender`: who must have sent it, where nobody vouches for that.
    fn asked_early(&mut self, answer: Answer, sender: Option<&Aor>, now: Now) {
        let request = answer.request();
        let to_tag = request.to().ok().and_then(|to| to.tag()).unwrap_or_default();
        let side = if to_tag == self.tag.as_bytes() {
            Some(Side::Caller)
        } else {
            self.branches.iter().any(|branch| branch.tag.as_bytes() == to_tag).then_some(Side::Callee)
        };
        if let (Some(side), Some(sender)) = (side, sender)
            && self.rules.is_open()
            && self.people[side as usize] != *sender
        {
            return refuse(answer, 403, "Not Your Session", b"", now);
        }
        match (request.method(), side) {
            // RFC 3261 §15: the caller may end an early dialog so.
            (Method::Bye, Some(Side::Caller)) if self.rules.is_open() => {
                refuse(answer, 200, "", b"", now);
                self.rules.handle(Input::HungUp(Side::Caller), now.at);
            }
            (Method::Invite, Some(side)) if self.rules.is_open() => self.offered(side, answer, now),
            (Method::Update, Some(side)) if self.rules.is_open() => self.updated_early(side, answer, now),
            (Method::Prack, Some(Side::Caller)) => self.pracked(answer, now),
            _ => refuse(answer, 481, "", b"", now),
        }
    }

    /// Does all that is to be done, until nobody has anything more to say; then waits.
    fn go_on(&mut self, now: Now, ctx: &mut Context<Self>) {
        self.settle(now);
        if self.is_done() {
            let _ = self.nursery.try_send(MayLeave { child: self.child, handled: self.handled });
        }
        self.arm(now, ctx);
    }

    fn settle(&mut self, now: Now) {
        loop {
            let mut is_quiet = true;
            while let Some(output) = self.rules.poll_output() {
                is_quiet = false;
                self.carry_out(output, now);
            }
            is_quiet &= !self.settle_serving(now);
            is_quiet &= !self.settle_branches(now);
            is_quiet &= !self.settle_asking(now);
            is_quiet &= !self.settle_refreshing(now);
            is_quiet &= !self.settle_reliable(now);
            if is_quiet {
                break;
            }
        }
        if !self.rules.is_open() && !self.rules.is_talking() {
            self.estate.lock().close_all_but(None, &self.house.switch);
        }
    }

    fn carry_out(&mut self, output: Output, now: Now) {
        match output {
            Output::Locate => {
                let (aor, session) = (self.people[Side::Callee as usize].clone(), self.key);
                match self.callee.take() {
                    Some(Callee::Ours(wanted)) => {
                        turn::fill_later(|turn| turn.offer(aor, Offer::Whereabouts { session, wanted }));
                    }
                    Some(Callee::Elsewhere(contact)) => {
                        self.found(Ok(Box::new(Whereabouts { aor, contacts: vec![*contact] })), now);
                    }
                    None => self.found(Err(480), now),
                }
            }
            Output::Invite(branch) => self.invite(branch, now),
            Output::Ring => self.ring(now),
            Output::Cancel { branch, answered } => self.cancel(branch, answered, now),
            Output::Accept(branch) => self.accept(branch, now),
            Output::Refuse(refusal) => self.refuse(refusal, now),
            Output::HangUp(branch) => self.hang_up(branch, now),
            Output::Repeat { side, number } => self.repeat(side, number, now),
            Output::Answer { side, number, status } => self.reply(side, number, status, now),
            Output::Bye { side, why } => self.bye(side, why, now),
            Output::Ended => {
                self.seats = [None, None];
                self.house.metrics.count(Count::SessionsEnded);
            }
        }
    }

    /// Whether nothing is to be done any more, and nothing to be remembered for those who repeat themselves.
    fn is_done(&self) -> bool {
        self.rules.is_over()
            && self.serving.is_empty()
            && self.branches.is_empty()
            && self.asking.is_empty()
            && self.renewals.is_empty()
    }

    /// One timer for all machines.
    fn arm(&mut self, now: Now, ctx: &mut Context<Self>) {
        let serving = self.serving.iter().filter_map(Serving::poll_timeout);
        let branches = self.branches.iter().filter_map(Branch::poll_timeout);
        let asking = self.asking.iter().filter_map(Asking::poll_timeout);
        // Refused to leave because something was on its way: asked again, unless that comes first.
        let asks_again = self.is_done().then(|| now.at + Duration::from_secs(1));
        let reliable = self.reliable.as_ref().and_then(|reliable| reliable.poll_timeout());
        let own = [self.rules.poll_timeout(), self.refreshing_timeout(), reliable, asks_again].into_iter().flatten();
        let next = serving.chain(branches).chain(asking).chain(own).min();
        self.alarm.set(next, now.at, ctx, Self::rang);
    }

    fn rang(&mut self, ctx: &mut Context<Self>) {
        self.alarm.rang();
        let (began, now) = (Instant::now(), self.house.now());
        if !self.nursery.connected() {
            return ctx.stop(); // its nursery fell: another actor has its estate
        }
        if let Some(pair) = self.media.as_ref().and_then(Media::pair) {
            self.rules.handle(Input::Heard(pair.last_heard()), now.at);
        }
        self.rules.handle_timeout(now.at);
        self.serving.iter_mut().for_each(|each| each.machine.handle_timeout(now.at));
        self.branches.iter_mut().for_each(|each| each.machine.handle_timeout(now.at));
        self.asking.iter_mut().for_each(|each| each.machine.handle_timeout(now.at));
        self.refreshing_rang(now);
        if let Some(reliable) = &mut self.reliable {
            reliable.handle_timeout(now.at);
        }
        self.go_on(now, ctx);
        self.node.turn_took(began.elapsed());
    }

    fn send(&self, hop: Hop, bytes: &[u8], transaction: u32, tie: &Arc<()>) -> bool {
        send(&self.house, Asker::Session(self.key, transaction), hop, bytes, tie)
    }

    /// Sends an ACK for a 2xx, of which nobody waits for anything.
    fn send_ack(&self, hop: Hop, bytes: &[u8]) {
        turn::fill_later(|turn| {
            let start = turn.arena.len();
            turn.arena.extend_from_slice(bytes);
            turn.send(&self.house.flows, hop, start);
        });
    }

    /// A request of ours could not be delivered (RFC 3261 §18.4). A phone that has said something may still answer by
    /// another connection (§18.2.2), and a session does not end because its refresh has met a gap.
    fn unreachable(&mut self, transaction: u32, now: Now) {
        self.house.metrics.count(Count::Unreachable);
        let unheard = |each: &&mut Branch| each.transaction == transaction && !each.was_heard;
        if let Some(branch) = self.branches.iter_mut().find(unheard) {
            branch.machine.handle(sip::transaction::ClientInviteInput::TransportError, now.at);
        }
        for each in self.asking.iter_mut().filter(|each| each.transaction == transaction && !each.refreshes()) {
            each.machine.handle(sip::transaction::ClientNonInviteInput::TransportError, now.at);
        }
    }
}

/// Answers a request other than INVITE.
fn refuse(answer: Answer, status: u16, reason: &str, lines: &[u8], now: Now) {
    turn::fill_later(|turn| answer.send_as(turn, now, status, reason, lines));
}

#[cfg(test)]
mod tests;
