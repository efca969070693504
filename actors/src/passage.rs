//! A passage, alive: a request that is passed on to several devices, or an INVITE to any number of them, around the rules of
//! [`im::forking`]. It lives until its transactions have ended; the dialog that comes of it needs no actor: what follows
//! finds its way by our Record-Route ([`crate::router::passing`]).
//!
//! ```text
//!  caller ── INVITE ──> one server transaction ──┐           ┌── client transactions ──> devices
//!         <── 1xx, 2xx … ── answers ─────────────┤  Forking  ├──> CANCEL ──────────────>
//! ```
//!
//! Bound: [`SESSION_MAILBOX_MAX`] inputs, then a response is lost (its sender repeats it). After a panic: this request
//! ends, and no other. An INVITE's [`Estate`] stands outside of it; the nursery starts a second actor over that, which
//! answers 500 and takes back what rings. Any other request's answer becomes 503 by itself.
//!
//! [`Estate`]: crate::session::estate::Estate

mod branches;
mod caller;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use base::Now;
use base::limits::{MAX_BREADTH, SESSION_LOCATE_TIME_MAX, SESSION_MAILBOX_MAX};
use im::forking::{Forking, Input, Kind, Output};
use im::pager::{Patience, Target};
use sip::transaction::{ServerInviteInput, Timers};
use sip::{Method, Name, View};

use crate::alarm::Alarm;
use crate::brood::{Handles, MayLeave, Ties};
use crate::contact::Contact;
use crate::house::House;
use crate::message::{Destination, Offer, Passage, SessionInput, SessionKey, Whereabouts};
use crate::node::{Node, State};
use crate::pace::Pace;
use crate::session::Shared;
use crate::session_nursery::Handed;
use crate::supervise::{Leave, Lifeline};
use crate::turn;

use branches::{Asking, Branch};
use caller::Caller;

/// One passage's actor.
pub(crate) struct PassageActor {
    house: Arc<House>,
    key: SessionKey,
    child: usize,
    lifeline: Option<Lifeline>,
    nursery: Recipient<MayLeave>,
    node: Arc<Node>,
    pace: Pace,
    handled: u64,
    timers: Timers,
    /// From when it is known where to.
    rules: Option<Forking>,
    /// By when it must be.
    locate_by: Option<Instant>,
    /// When the caller of no INVITE is told that it takes long.
    trying_at: Option<Instant>,
    caller: Caller,
    estate: Shared,
    /// A branch is called by its place here.
    contacts: Vec<Contact>,
    branches: Vec<Branch>,
    /// CANCELs under way.
    asking: Vec<Asking>,
    /// Why the caller takes it back (RFC 3326).
    parting: Option<String>,
    alarm: Alarm,
}

/// Starts a passage's actor on this thread.
pub(crate) fn plant(
    house: &Arc<House>,
    key: SessionKey,
    passage: Passage,
    estate: Shared,
    ties: Ties,
) -> Option<Handles<Handed>> {
    let Passage { destination, answer, entry } = passage;
    let now = house.now();
    estate.lock().is_passage = true;
    let caller = match entry {
        Some(entry) => Caller::invite(house, answer, entry, &estate, now)?,
        None => Caller::Other(Some(answer)),
    };
    let mut actor = PassageActor::new(house, key, caller, None, estate, ties);
    // RFC 4320 §4.1; an INVITE's own transaction sees to that by itself.
    actor.trying_at = (!actor.is_invite()).then(|| now.at + actor.timers.trying_after());
    match destination {
        Destination::User(aor, wanted) => {
            actor.locate_by = Some(now.at + SESSION_LOCATE_TIME_MAX);
            turn::fill_later(|turn| turn.offer(aor, Offer::Devices { passage: key, wanted }));
        }
        Destination::Contact(contact) => actor.begin(vec![*contact], now),
    }
    Some(actor.start_here())
}

/// Starts one that closes what another has left open.
pub(crate) fn bury(house: &Arc<House>, key: SessionKey, estate: Shared, ties: Ties) -> Handles<Handed> {
    let now = house.now();
    let (owed, open) = {
        let mut left = estate.lock();
        (left.owed.take(), left.open.clone())
    };
    let ids: Vec<u32> = open.iter().map(|each| each.id).collect();
    let caller = owed.map_or(Caller::Other(None), |owed| Caller::again(house, key, owed, now));
    let mut actor = PassageActor::new(house, key, caller, Some(Forking::broken(&ids)), estate, ties);
    for ringing in open {
        actor.begin_branch(ringing, now);
    }
    actor.start_here()
}

impl PassageActor {
    fn new(
        house: &Arc<House>,
        key: SessionKey,
        caller: Caller,
        rules: Option<Forking>,
        estate: Shared,
        ties: Ties,
    ) -> Self {
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
            locate_by: None,
            trying_at: None,
            caller,
            estate,
            contacts: Vec::new(),
            branches: Vec::new(),
            asking: Vec::new(),
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

impl Actor for PassageActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.node.set(State::Running);
        self.go_on(self.house.now(), ctx);
    }
}

impl Handler<Handed> for PassageActor {
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

impl Handler<Leave> for PassageActor {
    type Result = ();

    fn handle(&mut self, how: Leave, ctx: &mut Self::Context) {
        match how {
            Leave::Soon if self.is_done() => {}
            // The server stops: nobody is left ringing.
            Leave::Soon => {
                let now = self.house.now();
                match &mut self.rules {
                    Some(rules) => rules.handle(Input::Leave, now),
                    None => self.caller.refuse(&self.house, 503, now),
                }
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

impl PassageActor {
    fn take(&mut self, input: SessionInput, now: Now) {
        match input {
            SessionInput::Repeated { .. } => self.caller.handle(ServerInviteInput::Request, now),
            SessionInput::HopAck { .. } => self.caller.handle(ServerInviteInput::Ack, now),
            SessionInput::Cancel { reason, .. } => {
                self.parting = reason;
                self.caller.handle(ServerInviteInput::Cancel, now);
            }
            SessionInput::Response(response) => self.answered(response, now),
            SessionInput::Unreachable { transaction } => self.unreachable(transaction, now),
            SessionInput::Whereabouts(found) => self.found(found, now),
            // Nobody has a tag of ours: the dialog is the two people's.
            SessionInput::Request(within) => turn::fill_later(|turn| within.answer.send(turn, now, 481, b"")),
            SessionInput::Ack(_) | SessionInput::Switch(_) => {}
            // The one that it was started with; a key is never used twice.
            SessionInput::Invite(_) | SessionInput::Passage(_) => {}
            #[expect(clippy::panic, reason = "it is what the operator's test asks for")]
            SessionInput::Panic => panic!("told to fall"),
        }
    }

    fn found(&mut self, found: Result<Box<Whereabouts>, u16>, now: Now) {
        if self.locate_by.take().is_none() {
            return; // too late, or taken back meanwhile
        }
        match found {
            Ok(mut found) => {
                let is_sips = self.caller.request().is_some_and(View::is_sips);
                found.contacts.retain(|contact| contact.uri(is_sips).is_some());
                self.begin(found.contacts, now);
            }
            Err(status) => self.give_up(status, now),
        }
    }

    /// It is not to be passed on at all.
    fn give_up(&mut self, status: u16, now: Now) {
        self.locate_by = None;
        self.caller.refuse(&self.house, status, now);
    }

    fn begin(&mut self, contacts: Vec<Contact>, now: Now) {
        let kind = match self.caller {
            Caller::Invite(_) => Kind::Invite,
            Caller::Other(_) => Kind::Other(Patience::new(self.house.config.silence)),
        };
        let breadth = self.caller.request().map_or(MAX_BREADTH, breadth_of);
        let targets = contacts.iter().zip(0..).map(|(contact, id)| Target { id, q: contact.q });
        self.rules = Some(Forking::start(targets, kind, breadth, now));
        self.contacts = contacts;
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
            while let Some(output) = self.rules.as_mut().and_then(Forking::poll_output) {
                is_quiet = false;
                self.carry_out(output, now);
            }
            if self.caller.settle(&self.house, now) {
                is_quiet = false;
                match &mut self.rules {
                    Some(rules) => rules.handle(Input::Cancelled, now),
                    // RFC 3261 §16.10: before anybody was called.
                    None => self.give_up(487, now),
                }
            }
            is_quiet &= !self.settle_branches(now);
            is_quiet &= !self.settle_asking(now);
            if is_quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output, now: Now) {
        match output {
            Output::Send(target) => self.call(target, now),
            Output::Pass(target) => self.pass_back(target, now),
            Output::Succeed(target) => {
                self.estate.lock().owed = None;
                self.pass_back(target, now);
            }
            Output::Cancel { target, answered } => self.cancel(target, answered, now),
            Output::Refuse { target, challenges } => {
                self.estate.lock().owed = None;
                match self.refusal(target, &challenges) {
                    Some(response) => self.caller.answer(&self.house, &response, now),
                    None => self.caller.refuse(&self.house, 500, now),
                }
            }
            Output::Status(status) => {
                self.estate.lock().owed = None;
                self.caller.refuse(&self.house, status, now);
            }
            Output::Abandon => self.caller.abandon(&self.house, now),
        }
    }

    /// Whether nothing is to be done any more, and nothing to be remembered for those who repeat themselves.
    fn is_done(&self) -> bool {
        let is_over = self.rules.as_ref().map_or(self.locate_by.is_none(), Forking::is_over);
        is_over && self.caller.is_done() && self.branches.is_empty() && self.asking.is_empty()
    }

    /// One timer for all machines.
    fn arm(&mut self, now: Now, ctx: &mut Context<Self>) {
        let branches = self.branches.iter().filter_map(Branch::poll_timeout);
        let asking = self.asking.iter().filter_map(Asking::poll_timeout);
        // Refused to leave because something was on its way: asked again, unless that comes first.
        let asks_again = self.is_done().then(|| now.at + Duration::from_secs(1));
        let rules = self.rules.as_ref().and_then(Forking::poll_timeout);
        let own = self.caller.poll_timeout().into_iter().chain(rules).chain(self.locate_by);
        let own = own.chain(self.trying_at).chain(asks_again);
        let next = branches.chain(asking).chain(own).min();
        self.alarm.set(next, now.at, ctx, Self::rang);
    }

    fn rang(&mut self, ctx: &mut Context<Self>) {
        self.alarm.rang();
        let (began, now) = (Instant::now(), self.house.now());
        if !self.nursery.connected() {
            return ctx.stop(); // its nursery fell: another actor has its estate
        }
        if self.locate_by.is_some_and(|due| due <= now.at) {
            self.give_up(503, now);
        }
        if let Some(rules) = &mut self.rules {
            rules.handle_timeout(now);
        }
        if self.trying_at.take_if(|at| *at <= now.at).is_some() {
            self.caller.tell_trying(&self.house);
        }
        self.caller.handle_timeout(now);
        self.branches.iter_mut().for_each(|each| each.handle_timeout(now));
        self.look_for_silence(now);
        self.asking.iter_mut().for_each(|each| each.handle_timeout(now));
        self.go_on(now, ctx);
        self.node.turn_took(began.elapsed());
    }

    fn is_invite(&self) -> bool {
        matches!(self.caller, Caller::Invite(_))
    }
}

/// How many branches a request may have at once (RFC 5393 §5.3.3).
fn breadth_of(request: View<'_>) -> usize {
    let said = request.first(Name::MaxBreadth).and_then(base::scan::decimal);
    said.and_then(|said| usize::try_from(said).ok()).unwrap_or(MAX_BREADTH).min(MAX_BREADTH)
}

/// The method of a response.
fn method_of(response: View<'_>) -> Option<Method> {
    response.cseq().ok().map(|cseq| cseq.method)
}

#[cfg(test)]
mod tests;
