//! INVITEs of a session's own: a branch to each contact of the callee, with a dialog, a path and a description of its own
//! (RFC 3261 §13.2, §17.1.1; decisions D28).

use std::sync::Arc;
use std::time::Instant;

use base::Now;
use base::limits::{FORKS_MAX, MAX_FORWARDS};
use bytes::Bytes;
use im::session::Input as Move;
use sdp::{Answer, Spoken};
use sip::dialog::Within;
use sip::transaction::{self, ClientInvite, ClientInviteInput as Input, ClientInviteOutput as Output, End};
use sip::{Dialog, Method, Name};

use super::asking::Then;
use super::estate::{Leg, Owed, Ringing};
use super::media::Media;
use super::{SessionActor, words};
use crate::contact::{self, way_within};
use crate::hop::Hop;
use crate::message::SessionKey;
use crate::router::identity;
use crate::switch::Pair;

/// One branch.
pub(super) struct Branch {
    pub(super) machine: ClientInvite,
    id: u32,
    /// What our Via's branch ends in.
    pub(super) transaction: u32,
    /// Held while its answer is waited for.
    tie: Arc<()>,
    /// It has said something, a provisional response at least.
    pub(super) was_heard: bool,
    /// Our tag towards this contact.
    pub(super) tag: String,
    invite: sip::Message,
    hop: Hop,
    /// Nothing for one that only waits for its end.
    pair: Option<Arc<Pair>>,
    spoken: Option<Spoken>,
    /// The response that the machine is given.
    heard: Option<sip::Message>,
    /// Its first 2xx, until the rules say what becomes of it.
    first: Option<First>,
    refused: Option<sip::Message>,
    /// Peers whose provisional responses were acknowledged: a fork answers more than once.
    early: Vec<Early>,
    /// ACKs for its 2xxs, by the tag of the 2xx: a fork answers more than once.
    acks: Vec<(Box<str>, Hop, Bytes)>,
    /// Somebody else has taken the session.
    answered_elsewhere: bool,
}

/// A dialog in which a provisional response was acknowledged (RFC 3262 §4).
struct Early {
    dialog: Dialog,
    /// The number in its last RSeq.
    rseq: u32,
    /// The answer to our offer, if it was there already (RFC 3262 §5).
    answer: Option<Answer>,
}

struct First {
    response: sip::Message,
    dialog: Dialog,
    answer: Option<Answer>,
}

/// A branch that has the session.
pub(super) struct Taken {
    pub(super) response: sip::Message,
    pub(super) dialog: Dialog,
    pub(super) hop: Hop,
    pub(super) pair: Arc<Pair>,
    pub(super) answer: Answer,
    pub(super) spoken: Spoken,
}

impl Branch {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }
}

impl SessionActor {
    /// Calls a contact.
    pub(super) fn invite(&mut self, id: u32, now: Now) {
        if self.call(id, now).is_none() {
            self.rules.handle(Move::Failed { branch: id }, now.at);
        }
    }

    fn call(&mut self, id: u32, now: Now) -> Option<()> {
        let is_sips = self.is_sips();
        let contact = self.contacts.get_mut(id as usize)?;
        contact.uri(is_sips)?;
        let hop = contact.find_way(&self.house, now.at)?;
        let contact = contact.clone();
        let uri = contact.uri(is_sips)?;
        let pair = self.house.switch.open(self.key)?;
        self.estate.lock().pairs.push(pair.clone());
        let random = || self.house.sessions.random();
        let (transaction, tag, mut spoken) = (random(), self.key.tag(random()), Spoken::new(random().into()));
        let body = self.media.as_ref()?.offer(&pair, &mut spoken)?;
        let bytes = {
            let estate = self.estate.lock();
            let owed = estate.owed.as_ref()?;
            let via = words::via(&self.house, self.key, transaction, hop);
            self.write_invite(owed, (uri, &contact.routes), hop, &via, &tag, &body)
        };
        let invite = sip::Message::parse(bytes.into()).ok()?;
        let ringing = Ringing { id, invite, hop, transaction };
        self.estate.lock().open.push(ringing.clone());
        self.begin_branch(ringing, tag, Some(pair), Some(spoken), now);
        Some(())
    }

    /// Whether the caller asks for secure ways only.
    fn is_sips(&self) -> bool {
        self.estate.lock().owed.as_ref().is_some_and(|owed| owed.request.view().is_sips())
    }

    /// The callee's INVITE: the caller's, as our own.
    fn write_invite(&self, owed: &Owed, to: (&str, &str), hop: Hop, via: &str, tag: &str, body: &[u8]) -> Vec<u8> {
        let wanted_s = self.house.config.session_timer.wanted_s;
        // Who refreshes is theirs to choose (RFC 4028 §7.1).
        let timer = if wanted_s > 0 { format!("Session-Expires: {wanted_s}\r\n") } else { String::new() };
        let request = owed.request.view();
        let (uri, routes) = to;
        let mut lines = routes.as_bytes().to_vec();
        lines.extend_from_slice(words::contact(&self.house, self.key, hop).as_bytes());
        lines.extend_from_slice(words::ALLOW.as_bytes());
        lines.extend_from_slice(words::SUPPORTED.as_bytes());
        lines.extend_from_slice(timer.as_bytes());
        let told = identity::told(&self.house, request, owed.hop, hop);
        words::pass_on(&mut lines, request, told.strip);
        lines.extend_from_slice(&told.add);
        lines.extend_from_slice(words::SDP.as_bytes());
        let mut out = Vec::with_capacity(lines.len() + body.len() + 512);
        sip::request(
            &mut out,
            &sip::Request {
                method: "INVITE",
                uri,
                via,
                from: &words::with_tag(request.from().ok(), tag),
                to: &words::one_line(request.first(Name::To).unwrap_or_default()),
                call_id: &self.house.sessions.token(),
                cseq: 1,
                // A loop over several such servers ends too (RFC 7332 §4).
                max_forwards: request.max_forwards().ok().flatten().unwrap_or(MAX_FORWARDS + 1).saturating_sub(1),
                lines: &lines,
                body,
            },
        );
        out
    }

    fn begin_branch(
        &mut self,
        ringing: Ringing,
        tag: String,
        pair: Option<Arc<Pair>>,
        spoken: Option<Spoken>,
        now: Now,
    ) {
        let Ringing { id, invite, hop, transaction, .. } = ringing;
        let bytes = invite.bytes().clone();
        let machine = ClientInvite::new(bytes, transaction::acknowledge, self.timers, hop.is_reliable(), now.at);
        self.branches.push(Branch {
            machine,
            id,
            transaction,
            tie: Arc::default(),
            was_heard: false,
            tag,
            invite,
            hop,
            pair,
            spoken,
            heard: None,
            first: None,
            refused: None,
            early: Vec::new(),
            acks: Vec::new(),
            answered_elsewhere: false,
        });
    }

    /// Takes up the branches of a fallen actor. Their INVITEs go once more, as repeats, so that what comes of them is
    /// heard.
    pub(super) fn call_again(&mut self, now: Now) {
        let open = self.estate.lock().open.clone();
        for ringing in open {
            let tag = ringing.invite.view().from().ok().and_then(|from| from.tag()).unwrap_or_default();
            let tag = String::from_utf8_lossy(tag).into_owned();
            self.begin_branch(ringing, tag, None, None, now);
        }
    }

    fn branch(&mut self, id: u32) -> Option<&mut Branch> {
        self.branches.iter_mut().find(|branch| branch.id == id)
    }

    /// Takes an INVITE of ours back.
    pub(super) fn cancel(&mut self, id: u32, answered: bool, now: Now) {
        if let Some(branch) = self.branch(id) {
            branch.answered_elsewhere = answered;
            branch.machine.handle(Input::Cancel, now.at);
        }
    }

    /// The 2xx of a branch takes the session: it is acknowledged.
    pub(super) fn taken(&mut self, id: u32, now: Now) -> Option<Taken> {
        let at = self.branches.iter().position(|branch| branch.id == id)?;
        let First { response, dialog, answer } = self.branches[at].first.take()?;
        self.acknowledge(at, &dialog, now);
        let branch = &mut self.branches[at];
        let (pair, spoken, hop) = (branch.pair.clone()?, branch.spoken.take()?, branch.hop);
        Some(Taken { response, dialog, hop, pair, answer: answer?, spoken })
    }

    /// The 2xx of a branch is acknowledged, and hung up at once.
    pub(super) fn hang_up(&mut self, id: u32, now: Now) {
        let Some(at) = self.branches.iter().position(|branch| branch.id == id) else { return };
        if let Some(First { dialog, .. }) = self.branches[at].first.take() {
            self.hang_up_dialog(at, dialog, now);
        }
        self.close_branch(at);
    }

    fn hang_up_dialog(&mut self, at: usize, dialog: Dialog, now: Now) {
        self.acknowledge(at, &dialog, now);
        let [_, party] = self.people.clone();
        let mut leg = Leg { dialog, hop: self.branches[at].hop, party };
        self.part(&mut leg, "", Then::Nothing, now);
    }

    /// What a branch has open in the world is closed.
    fn close_branch(&mut self, at: usize) {
        let branch = &mut self.branches[at];
        let (id, pair) = (branch.id, branch.pair.take());
        let mut estate = self.estate.lock();
        estate.open.retain(|each| each.id != id);
        if let Some(pair) = pair {
            estate.close(&pair, &self.house.switch);
        }
    }

    /// Sends the ACK for a 2xx, and keeps it for the repeats of the 2xx.
    fn acknowledge(&mut self, at: usize, dialog: &Dialog, _now: Now) {
        let hop = way_within(&self.house, dialog.next_hop(), self.branches[at].hop).unwrap_or(self.branches[at].hop);
        let via = words::via(&self.house, self.key, self.house.sessions.random(), hop);
        let number = self.branches[at].invite.view().cseq().map(|cseq| cseq.number).unwrap_or_default();
        let mut ack = Vec::with_capacity(512);
        dialog.acknowledge(&mut ack, number, &via);
        self.send_ack(hop, &ack);
        self.branches[at].acks.push((dialog.remote_tag().into(), hop, ack.into()));
    }

    /// A branch's refusal in its own words.
    pub(super) fn refusal_of(&mut self, id: u32) -> Option<sip::Message> {
        self.branch(id)?.refused.take()
    }

    /// A response to a request of ours.
    pub(super) fn answered(&mut self, response: sip::Message, now: Now) {
        let view = response.view();
        let branch = view.top_via().ok().and_then(|via| SessionKey::of_branch(via.branch()?));
        let (Some((_, transaction)), Ok(cseq)) = (branch, view.cseq()) else { return };
        let (method, status) = (cseq.method, view.status());
        if method != Method::Invite {
            self.replied(transaction, method, &response, now);
            return;
        }
        if self.renewal_answered(transaction, &response, now) {
            return;
        }
        if let Some(each) = self.branches.iter_mut().find(|each| each.transaction == transaction) {
            let bytes = response.bytes().clone();
            (each.heard, each.was_heard) = (Some(response), true);
            each.machine.handle(Input::Response { status, bytes }, now.at);
        }
    }

    /// Whether something was done.
    pub(super) fn settle_branches(&mut self, now: Now) -> bool {
        let mut was_busy = false;
        for at in 0..self.branches.len() {
            while let Some(output) = self.branches[at].machine.poll_output() {
                was_busy = true;
                let id = self.branches[at].id;
                match output {
                    Output::Send(bytes) => {
                        let Branch { hop, transaction, tie, .. } = &self.branches[at];
                        if !self.send(*hop, &bytes, *transaction, tie) {
                            self.branches[at].machine.handle(Input::TransportError, now.at);
                        }
                    }
                    Output::Response { status: status @ ..200, .. } => {
                        self.progressed(at, now);
                        self.rules.handle(Move::Provisional { branch: id, status }, now.at);
                    }
                    Output::Response { status: 200..300, .. } => self.succeeded(at, now),
                    Output::Response { status, .. } => {
                        self.branches[at].refused = self.branches[at].heard.take();
                        self.close_branch(at);
                        if !self.goes_on(at, status, now) {
                            self.rules.handle(Move::Refused { branch: id, status }, now.at);
                        }
                    }
                    Output::Cancel => self.send_cancel(at, now),
                    Output::Ended(end) => {
                        if end != End::Done {
                            self.close_branch(at);
                        }
                        if end != End::TransportError || !self.goes_on(at, 503, now) {
                            // Passed over where it has answered.
                            self.rules.handle(Move::Failed { branch: id }, now.at);
                        }
                    }
                }
            }
        }
        // A refusal may still be wanted in its own words.
        let is_open = self.rules.is_open();
        self.branches.retain(|branch| !branch.machine.is_ended() || (is_open && branch.refused.is_some()));
        was_busy
    }

    /// Whether the next server of a contact's host is called, after a 503 or a transport that failed (RFC 3263 §4.3).
    fn goes_on(&mut self, at: usize, status: u16, now: Now) -> bool {
        let (house, branch) = (self.house.clone(), &mut self.branches[at]);
        let Some(contact) = self.contacts.get_mut(branch.id as usize) else { return false };
        if status != 503 {
            contact.worked(&house);
            return false;
        }
        let pause = branch.refused.as_ref().and_then(contact::retry_after);
        if !contact.failed(&house, pause, now.at) || !self.rules.is_open() {
            return false;
        }
        branch.refused = None;
        let id = branch.id;
        // It makes way for the one that takes its number.
        branch.id = u32::MAX;
        self.call(id, now).is_some()
    }

    fn send_cancel(&mut self, at: usize, now: Now) {
        let branch = &self.branches[at];
        // RFC 3326 §2: why, as we know it or as the caller has said.
        let elsewhere =
            branch.answered_elsewhere.then(|| r#"SIP;cause=200;text="Call completed elsewhere""#.to_owned());
        let reason = elsewhere.or_else(|| self.parting.clone());
        let lines = reason.map(|reason| format!("Reason: {reason}\r\n")).unwrap_or_default();
        let Some(cancel) = transaction::cancel(branch.machine.invite(), lines.as_bytes()) else { return };
        let (transaction, hop) = (branch.transaction, branch.hop);
        self.ask(Method::Cancel, transaction, hop, cancel.into(), Then::Nothing, now);
    }

    /// A provisional response: one that must be heard gets its PRACK, if it is the first of its peer or the next one
    /// (RFC 3262 §4).
    fn progressed(&mut self, at: usize, now: Now) {
        let branch = &mut self.branches[at];
        let Some(response) = branch.heard.take() else { return };
        let view = response.view();
        let Some(rseq) = view.reliable() else { return };
        let place = match branch.early.iter().position(|early| early.dialog.answers(view)) {
            Some(place) if branch.early[place].rseq.checked_add(1) == Some(rseq) => place,
            Some(_) => return, // a repeat, or one before which another is missing
            None if branch.early.len() >= FORKS_MAX => return,
            None => {
                let Ok(dialog) = Dialog::of_response(branch.invite.view(), view) else { return };
                branch.early.push(Early { dialog, rseq, answer: None });
                branch.early.len() - 1
            }
        };
        let number = branch.invite.view().cseq().map(|cseq| cseq.number).unwrap_or_default();
        let early = &mut branch.early[place];
        early.rseq = rseq;
        early.answer = Media::answer_of(view).or(early.answer.take());
        let hop = way_within(&self.house, early.dialog.next_hop(), branch.hop).unwrap_or(branch.hop);
        let transaction = self.house.sessions.random();
        let via = words::via(&self.house, self.key, transaction, hop);
        let lines = format!("RAck: {rseq} {number} INVITE\r\n");
        let mut bytes = Vec::with_capacity(512);
        let within =
            Within { method: "PRACK", via: &via, max_forwards: MAX_FORWARDS, lines: lines.as_bytes(), body: b"" };
        early.dialog.request(&mut bytes, &within);
        self.ask(Method::Prack, transaction, hop, bytes, Then::Nothing, now);
    }

    /// A 2xx: the first one is the rules' to judge; a repeat gets its ACK again; another fork's is hung up.
    fn succeeded(&mut self, at: usize, now: Now) {
        let Some(response) = self.branches[at].heard.take() else { return };
        let branch = &self.branches[at];
        let tag = response.view().to().ok().and_then(|to| to.tag()).unwrap_or_default();
        if let Some((_, hop, ack)) = branch.acks.iter().find(|(acked, ..)| acked.as_bytes() == tag) {
            self.send_ack(*hop, ack);
            return;
        }
        let Ok(mut dialog) = Dialog::of_response(branch.invite.view(), response.view()) else {
            tracing::debug!(session = %self.key.text(), "A 2xx makes no dialog");
            return;
        };
        let early = branch.early.iter().find(|early| early.dialog.answers(response.view()));
        if let Some(early) = early {
            dialog.continue_from(&early.dialog);
        }
        if branch.first.is_some() {
            return; // a repeat, before the first was judged
        }
        if !branch.acks.is_empty() {
            return self.hang_up_dialog(at, dialog, now);
        }
        let id = branch.id;
        let answer = Media::answer_of(response.view()).or_else(|| early.and_then(|early| early.answer.clone()));
        let is_path = |answer: &Answer| msrp::Path::parse(answer.remote_path().as_bytes()).is_ok();
        let usable = answer.as_ref().is_some_and(is_path) && branch.pair.is_some();
        self.branches[at].first = Some(First { response, dialog, answer });
        self.rules.handle(Move::Accepted { branch: id, usable }, now.at);
    }
}
