//! Messages and letters on their way to a user's contacts: each a try, around a [`Delivery`].

use std::sync::Arc;

use actix::prelude::*;
use base::{Aor, Now};
use im::deferred::{Head, Outcome};
use im::pager::{Input, Output, Patience, Target};
use im::{Delivery, Device, Entry, EntryId};
use sip::Message;

use super::choice::Chosen;
use super::locating::Reachable;
use super::registration::serves;
use super::{Here, TRIES, UserActor};
use crate::contact::{self, Contact, hop_of};
use crate::hop::Hop;
use crate::house::House;
use crate::message::Wanted;
use crate::metrics::Count;
use crate::router;
use crate::transactions::{Answer, Slot};
use crate::turn;

/// One message on its way.
pub(super) struct Try {
    pub(super) delivery: Delivery,
    what: What,
    contacts: Vec<Chosen>,
    responses: Vec<(u32, Message)>,
}

/// What is on its way.
enum What {
    /// A message whose sender waits.
    Page { entry: Box<Entry>, answer: Answer, device: Option<Device> },
    /// A message of the house.
    Notice(Box<Entry>),
    /// A letter.
    Letter { head: Head, entry: Arc<Entry> },
    /// Decided: the sender knows, or the mailbox has it. This is what it was.
    Done(EntryId, Option<Head>),
}

impl UserActor {
    pub(super) fn page(
        &mut self,
        sender: Aor,
        answer: Answer,
        device: Option<Device>,
        now: Now,
        ctx: &mut Context<Self>,
    ) {
        let expiry_s = self.house.config.letter_expiry_s;
        let Some(here) = self.here() else { return };
        let refuse = |answer: Answer, status, reason: &str| {
            turn::fill_later(|turn| answer.send_as(turn, now, status, reason, b""));
        };
        match &here.account {
            None => return refuse(answer, 404, ""),
            Some(account) if !serves(&account.services, "message") => {
                return refuse(answer, 480, "Takes No Messages");
            }
            Some(_) => {}
        }
        let entry = match Entry::of(answer.request(), &sender, expiry_s, answer.came(now)) {
            Ok(entry) => Box::new(entry),
            Err(error) => {
                let fault = sip::Fault::from(error);
                return refuse(answer, fault.status, fault.reason);
            }
        };
        if here.queued && entry.may_wait && device.is_none() {
            return self.store(entry, Some(answer), false, None, now, ctx);
        }
        self.attempt(What::Page { entry, answer, device }, now, ctx);
    }

    /// A message of the house for this user. Whom nobody knows is not told.
    pub(super) fn notice(&mut self, entry: Entry, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        if here.account.is_none() {
            return;
        }
        if here.queued {
            return self.store(Box::new(entry), None, false, None, now, ctx);
        }
        self.attempt(What::Notice(Box::new(entry)), now, ctx);
    }

    /// The data plane relayed a message, and the contact is away.
    pub(super) fn undelivered(&mut self, sender: &Aor, answer: Answer, status: u16, now: Now, ctx: &mut Context<Self>) {
        let (house, expiry_s) = (self.house.clone(), self.house.config.letter_expiry_s);
        let Some(here) = self.here() else { return };
        let entry = Entry::of(answer.request(), sender, expiry_s, answer.came(now)).ok();
        let Some(entry) = entry.filter(|entry| entry.may_wait) else {
            return refuse_absent(&house, answer, now);
        };
        // The connection that it registered by is gone, but there may be another way (RFC 3261 §18.2.2).
        let lost = |hop: Hop| hop.conn().is_some_and(|conn| house.flows.get(conn).is_none());
        if status == 503 && here.im_bindings(now).iter().any(|binding| lost(hop_of(binding))) {
            self.publish(); // the next one need not try the connection first
            return self.attempt(What::Page { entry: Box::new(entry), answer, device: None }, now, ctx);
        }
        let slot = answer.slot();
        self.store(Box::new(entry), Some(answer), true, Some(slot), now, ctx);
    }

    pub(super) fn took_after_all(&mut self, slot: Slot, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        if let Some(id) = here.late.iter().find(|late| late.slot == Some(slot)).map(|late| late.id) {
            self.take_back(id, now, ctx);
        }
    }

    /// Offers a letter to all contacts.
    pub(super) fn attempt_letter(&mut self, head: Head, entry: Arc<Entry>, now: Now, ctx: &mut Context<Self>) {
        self.attempt(What::Letter { head, entry }, now, ctx);
    }

    fn attempt(&mut self, what: What, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        if here.tries.len() + here.locating >= TRIES {
            match what {
                What::Page { answer, .. } => return turn::fill_later(|turn| answer.overloaded(turn, now)),
                What::Notice(entry) => return self.store(entry, None, false, None, now, ctx),
                // One at a time, and the mailbox waits for it.
                What::Letter { .. } | What::Done(..) => {}
            }
        }
        let chosen = match here.choose(now, &what.wanted(), Here::im_bindings) {
            Ok(chosen) => chosen,
            Err(status) => {
                if let What::Page { answer, .. } = what {
                    turn::fill_later(|turn| answer.send(turn, now, status, b""));
                }
                return;
            }
        };
        self.locate(chosen, now, ctx, |this, reachable, now, ctx| this.begin(what, reachable, now, ctx));
    }

    fn begin(&mut self, what: What, Reachable(contacts): Reachable, now: Now, ctx: &mut Context<Self>) {
        let patience = Patience::new(self.house.config.silence);
        let Some(here) = self.here() else { return };
        if here.account.is_none() {
            return what.refuse(now); // it was removed while its contacts were looked for
        }
        let targets: Vec<Target> =
            contacts.iter().zip(0..).map(|(each, id)| Target { id, q: each.contact.q }).collect();
        let may_wait = match &what {
            // RFC 5627 §5.3: what is for one device waits for none; a letter would go to all.
            What::Page { entry, device, .. } => entry.may_wait && device.is_none(),
            _ => true,
        };
        let delivery = Delivery::start(targets, may_wait, patience, now);
        here.next_try = here.next_try.wrapping_add(1) & (u32::MAX >> 1);
        let number = here.next_try;
        here.tries.insert(number, Try { delivery, what, contacts, responses: Vec::new() });
        self.drain_try(number, now, ctx);
    }

    /// A request of this actor's has ended.
    pub(super) fn outcome(
        &mut self,
        token: u64,
        status: u16,
        response: Option<Message>,
        now: Now,
        ctx: &mut Context<Self>,
    ) {
        let (number, target) = ((token >> 32) as u32, token as u32);
        let house = self.house.clone();
        let Some(each) = self.here().and_then(|here| here.tries.get_mut(&number)) else { return };
        if let Some(chosen) = each.contacts.get_mut(target as usize)
            && goes_on(&mut chosen.contact, status, response.as_ref(), &house, now)
        {
            return self.send(number, target, now, ctx);
        }
        let Some(each) = self.here().and_then(|here| here.tries.get_mut(&number)) else { return };
        // RFC 5626 §7: another flow of the device, as long as it has said nothing itself.
        if (status == 430 || (status == 503 && response.is_none())) && each.turn_to_spare(target) {
            return self.send(number, target, now, ctx);
        }
        let input = match (&response, status) {
            (None, 408) => Input::Silent { target },
            (None, _) => Input::TransportFailed { target },
            (Some(_), status) => Input::Answer { target, status },
        };
        each.responses.extend(response.map(|response| (target, response)));
        each.delivery.handle(input, now);
        self.drain_try(number, now, ctx);
    }

    pub(super) fn drain_try(&mut self, number: u32, now: Now, ctx: &mut Context<Self>) {
        while let Some(each) = self.here().and_then(|here| here.tries.get_mut(&number)) {
            let Some(output) = each.delivery.poll_output() else {
                if each.delivery.is_over() {
                    self.here().and_then(|here| here.tries.remove(&number));
                }
                return;
            };
            match output {
                Output::Send(target) => self.send(number, target, now, ctx),
                Output::Relay(target) => self.relayed(number, target, now, ctx),
                Output::Store => self.put_by(number, now, ctx),
                Output::Answer(status) => self.answered(number, status, now, ctx),
                Output::TakeBack => {
                    // A letter that was offered again, or a message that was stored after it was tried (decisions D4).
                    match each.what {
                        What::Done(_, Some(head)) => self.mailbox_input(im::deferred::Input::TakenBack(head), now, ctx),
                        What::Done(id, None) => self.take_back(id, now, ctx),
                        What::Page { .. } | What::Notice(_) | What::Letter { .. } => {}
                    }
                }
            }
        }
    }

    fn send(&mut self, number: u32, target: u32, now: Now, ctx: &mut Context<Self>) {
        let house = self.house.clone();
        let owner = self.aor.clone();
        let Some(each) = self.here().and_then(|here| here.tries.get_mut(&number)) else { return };
        let Some(Chosen { contact, .. }) = each.contacts.get_mut(target as usize) else { return };
        if each.what.is_stale(now) {
            return each.delivery.handle(Input::TransportFailed { target }, now); // its time ended in an earlier round
        }
        let token = u64::from(number) << 32 | u64::from(target);
        let is_sips = each.what.is_sips();
        let way = contact.uri(is_sips).is_some().then(|| contact.find_way(&house, now.at)).flatten();
        let way = way.and_then(|hop| Some((contact.uri(is_sips)?, hop)));
        let sent = way.and_then(|(uri, hop)| {
            turn::fill_later(|turn| {
                turn.counts.add(Count::Relayed);
                house.transactions.ask(turn, hop, &owner, token, now, |out, branch| {
                    each.what.write(&house, out, (uri, &contact.routes), hop, branch);
                })
            })
        });
        if sent.is_none() {
            if each.turn_to_spare(target) {
                return self.send(number, target, now, ctx);
            }
            each.delivery.handle(Input::TransportFailed { target }, now);
            // Whoever asked for this is draining already, or this was the answer to a flow that was lost.
            self.drain_try(number, now, ctx);
        }
    }

    /// A contact's final answer is the answer.
    fn relayed(&mut self, number: u32, target: u32, now: Now, ctx: &mut Context<Self>) {
        let Some((what, each)) = self.decided(number) else { return };
        let at = each.responses.iter().position(|(whose, _)| *whose == target);
        let response = at.map(|at| each.responses.swap_remove(at).1);
        match (what, response) {
            (What::Page { answer, .. }, Some(response)) => {
                turn::fill_later(|turn| answer.forward(turn, now, response.view()));
            }
            (What::Letter { head, .. }, Some(response)) => {
                let outcome = Outcome::of(response.view().status());
                self.mailbox_input(im::deferred::Input::Outcome { arrival: head.arrival, outcome }, now, ctx);
            }
            // Without its response nothing can be passed on: the answer is dropped, and so 503.
            (_, _) => {}
        }
    }

    fn answered(&mut self, number: u32, status: u16, now: Now, ctx: &mut Context<Self>) {
        let house = self.house.clone();
        match self.decided(number) {
            Some((What::Page { answer, .. }, _)) if status == 480 => refuse_absent(&house, answer, now),
            Some((What::Page { answer, .. }, _)) => turn::fill_later(|turn| answer.send(turn, now, status, b"")),
            Some((What::Letter { head, .. }, _)) => {
                let outcome = Outcome::of(status);
                self.mailbox_input(im::deferred::Input::Outcome { arrival: head.arrival, outcome }, now, ctx);
            }
            Some((What::Notice(_) | What::Done(..), _)) | None => {}
        }
    }

    fn put_by(&mut self, number: u32, now: Now, ctx: &mut Context<Self>) {
        let Some((what, each)) = self.decided(number) else { return };
        let tried = !each.contacts.is_empty();
        match what {
            What::Page { entry, answer, .. } => self.store(entry, Some(answer), tried, None, now, ctx),
            What::Notice(entry) => self.store(entry, None, tried, None, now, ctx),
            What::Letter { head, .. } => {
                let input = im::deferred::Input::Outcome { arrival: head.arrival, outcome: Outcome::Away };
                self.mailbox_input(input, now, ctx);
            }
            What::Done(..) => {}
        }
    }

    /// Takes out what a try was about; from now on it only waits for late answers.
    fn decided(&mut self, number: u32) -> Option<(What, &mut Try)> {
        let each = self.here()?.tries.get_mut(&number)?;
        let head = if let What::Letter { head, .. } = &each.what { Some(*head) } else { None };
        let done = What::Done(each.what.id(), head);
        Some((std::mem::replace(&mut each.what, done), each))
    }
}

impl Try {
    /// Takes the next flow of a device in place of the one that is gone, if there is one.
    fn turn_to_spare(&mut self, target: u32) -> bool {
        let Some(chosen) = self.contacts.get_mut(target as usize) else { return false };
        let next = chosen.spare.pop();
        let is_there = next.is_some();
        chosen.contact = next.unwrap_or_else(|| chosen.contact.clone());
        is_there
    }
}

/// Whether the next server of a contact's host is to be tried, after what the last one made of it (RFC 3263 §4.3). One that
/// was silent has used up the sender's patience.
fn goes_on(contact: &mut Contact, status: u16, response: Option<&Message>, house: &House, now: Now) -> bool {
    match (response, status) {
        (Some(response), 503) => contact.failed(house, contact::retry_after(response), now.at),
        (Some(_), _) => {
            contact.worked(house);
            false
        }
        (None, 408) => {
            contact.failed(house, None, now.at);
            false
        }
        (None, _) => contact.failed(house, None, now.at),
    }
}

impl What {
    /// There is nobody to send it to any more.
    fn refuse(self, now: Now) {
        if let Self::Page { answer, .. } = self {
            turn::fill_later(|turn| answer.send(turn, now, 404, b""));
        }
    }

    /// Which devices it is for. A letter and a message of the house are for all.
    fn wanted(&self) -> Wanted {
        match self {
            Self::Page { answer, device, .. } => {
                Wanted { device: *device, preferences: im::Preferences::of(answer.request()) }
            }
            Self::Notice(_) | Self::Letter { .. } | Self::Done(..) => Wanted::default(),
        }
    }

    fn id(&self) -> EntryId {
        match self {
            Self::Page { entry, .. } | Self::Notice(entry) => entry.id,
            Self::Letter { entry, .. } => entry.id,
            Self::Done(id, _) => *id,
        }
    }

    fn is_stale(&self, now: Now) -> bool {
        match self {
            Self::Page { entry, .. } | Self::Notice(entry) => entry.is_stale(now),
            Self::Letter { entry, .. } => entry.is_stale(now),
            Self::Done(..) => false,
        }
    }

    /// Whether it goes by secure ways only. Letters do not: what does is never kept.
    fn is_sips(&self) -> bool {
        match self {
            Self::Page { answer, .. } => answer.request().is_sips(),
            Self::Notice(_) | Self::Letter { .. } | Self::Done(..) => false,
        }
    }

    fn write(&self, house: &House, out: &mut Vec<u8>, to: (&str, &str), hop: Hop, branch: &[u8]) {
        match self {
            Self::Page { answer, .. } => {
                let (contact, add) = (to.0.as_bytes(), to.1.as_bytes());
                let how = router::Onward { to: hop, contact, branch, add };
                router::forward(house, out, answer.request(), answer.caller(), &how);
            }
            Self::Notice(entry) => write_entry(house, out, entry, to, hop, branch),
            Self::Letter { entry, .. } => write_entry(house, out, entry, to, hop, branch),
            Self::Done(..) => {}
        }
    }
}

/// 480 for a message that cannot wait, and its receiver is not there, or not there by a secure way.
fn refuse_absent(house: &House, answer: Answer, now: Now) {
    let lines = if answer.request().is_sips() { contact::sips_not_allowed(house) } else { String::new() };
    turn::fill_later(|turn| answer.send(turn, now, 480, lines.as_bytes()));
}

/// A letter as a request of ours, with its sender's own From, To, Call-ID, CSeq and Date (decisions D3).
fn write_entry(house: &House, out: &mut Vec<u8>, entry: &Entry, to: (&str, &str), hop: Hop, branch: &[u8]) {
    let mut via = smallvec::SmallVec::new();
    router::write_via(house, &mut via, hop, branch);
    let via = String::from_utf8_lossy(&via);
    let (uri, routes) = to;
    let lines = format!("{routes}{}", entry.request_lines());
    sip::request(
        out,
        &sip::Request {
            method: "MESSAGE",
            uri,
            via: &via,
            from: &entry.from,
            to: &entry.to,
            call_id: &entry.call_id,
            cseq: entry.cseq,
            max_forwards: base::limits::MAX_FORWARDS,
            lines: lines.as_bytes(),
            body: &entry.body,
        },
    );
}

impl Here {
    /// Whether anything is on its way.
    pub(super) fn is_trying(&self) -> bool {
        !self.tries.is_empty()
    }
}
