//! The devices' side of a passage: a client transaction each (RFC 3261 §16.6 step 10, §17.1), and the CANCELs.

use std::sync::Arc;
use std::time::Instant;

use base::Now;
use base::limits::MAX_BREADTH;
use im::forking::Input as Move;
use sip::transaction::{
    self, ClientInvite, ClientInviteInput, ClientInviteOutput, ClientNonInvite, ClientNonInviteInput,
    ClientNonInviteOutput, End,
};
use sip::{Message, Method, Name};

use super::{PassageActor, breadth_of, method_of};
use crate::asker::Asker;
use crate::contact::{self, Contact};
use crate::hop::Hop;
use crate::message::SessionKey;
use crate::metrics::Count;
use crate::router::passing::{self, Onward};
use crate::session::{self, estate::Ringing};

/// One device.
pub(super) struct Branch {
    machine: Machine,
    id: u32,
    /// What our Via's branch ends in.
    transaction: u32,
    hop: Hop,
    /// Held while its answer is waited for.
    tie: Arc<()>,
    /// What it has said last.
    heard: Option<Message>,
    /// It has said something, a provisional response at least.
    was_heard: bool,
    /// Until when it may be silent, where there is another server to try.
    patience: Option<Instant>,
    /// Somebody else has answered.
    answered_elsewhere: bool,
}

enum Machine {
    Invite(Box<ClientInvite>),
    Other(Box<ClientNonInvite>),
}

/// A CANCEL under way.
pub(super) struct Asking {
    machine: ClientNonInvite,
    transaction: u32,
    hop: Hop,
    tie: Arc<()>,
}

/// What a transaction of either kind says.
enum Said {
    Send(bytes::Bytes),
    Response(u16),
    Cancel,
    Ended(End),
}

impl Machine {
    fn poll_output(&mut self) -> Option<Said> {
        match self {
            Self::Invite(machine) => machine.poll_output().map(|output| match output {
                ClientInviteOutput::Send(bytes) => Said::Send(bytes),
                ClientInviteOutput::Response { status, .. } => Said::Response(status),
                ClientInviteOutput::Cancel => Said::Cancel,
                ClientInviteOutput::Ended(end) => Said::Ended(end),
            }),
            Self::Other(machine) => machine.poll_output().map(|output| match output {
                ClientNonInviteOutput::Send(bytes) => Said::Send(bytes),
                ClientNonInviteOutput::Response { status, .. } => Said::Response(status),
                ClientNonInviteOutput::Ended(end) => Said::Ended(end),
            }),
        }
    }

    fn failed(&mut self, now: Now) {
        match self {
            Self::Invite(machine) => machine.handle(ClientInviteInput::TransportError, now.at),
            Self::Other(machine) => machine.handle(ClientNonInviteInput::TransportError, now.at),
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Invite(machine) => machine.is_ended(),
            Self::Other(machine) => machine.is_ended(),
        }
    }
}

impl Branch {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = match &self.machine {
            Machine::Invite(machine) => machine.poll_timeout(),
            Machine::Other(machine) => machine.poll_timeout(),
        };
        due.into_iter().chain(self.patience).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        match &mut self.machine {
            Machine::Invite(machine) => machine.handle_timeout(now.at),
            Machine::Other(machine) => machine.handle_timeout(now.at),
        }
    }
}

impl Asking {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        self.machine.handle_timeout(now.at);
    }
}

impl PassageActor {
    /// Sends the request to a device.
    pub(super) fn call(&mut self, target: u32, now: Now) {
        if self.try_call(target, now).is_none()
            && let Some(rules) = &mut self.rules
        {
            rules.handle(Move::Failed { target }, now);
        }
    }

    fn try_call(&mut self, id: u32, now: Now) -> Option<()> {
        let hop = self.contacts.get_mut(id as usize)?.find_way(&self.house, now.at)?;
        let contact = &self.contacts[id as usize];
        let transaction = self.house.sessions.random();
        let (request, from) = (self.caller.request()?, self.caller.hop()?);
        let (uri, routes) = (contact.uri(request.is_sips())?, &contact.routes);
        // RFC 5393 §5.3.3: all branches together have no more than the request had.
        let share = (breadth_of(request) / self.contacts.len().clamp(1, MAX_BREADTH)).max(1);
        let branch = self.key.branch(transaction);
        let mut bytes = Vec::with_capacity(request.bytes().len() + 512);
        let onward = Onward { uri, routes, to: hop, branch: branch.as_bytes(), breadth: Some(share) };
        passing::write(&self.house, &mut bytes, request, from, &onward);
        self.house.metrics.count(Count::Passed);
        let invite = Message::parse(bytes.into()).ok()?;
        let ringing = Ringing { id, invite, hop, transaction };
        if self.is_invite() {
            self.estate.lock().open.push(ringing.clone());
        }
        self.begin_branch(ringing, now);
        Some(())
    }

    pub(super) fn begin_branch(&mut self, ringing: Ringing, now: Now) {
        let Ringing { id, invite, hop, transaction } = ringing;
        let bytes = invite.bytes().clone();
        let machine = if invite.view().method() == Method::Invite {
            let machine = ClientInvite::new(bytes, transaction::acknowledge, self.timers, hop.is_reliable(), now.at);
            Machine::Invite(Box::new(machine))
        } else {
            Machine::Other(Box::new(ClientNonInvite::new(bytes, self.timers, hop.is_reliable(), now.at)))
        };
        let tie = Arc::default();
        let (heard, was_heard, answered_elsewhere) = (None, false, false);
        let has_spare = self.contacts.get(id as usize).is_some_and(Contact::has_spare);
        let patience = (has_spare && !self.is_invite()).then(|| now.at + self.house.config.silence);
        let branch = Branch { machine, id, transaction, hop, tie, heard, was_heard, patience, answered_elsewhere };
        self.branches.push(branch);
    }

    /// Takes it back from a device.
    pub(super) fn cancel(&mut self, id: u32, answered: bool, now: Now) {
        if let Some(branch) = self.branches.iter_mut().find(|branch| branch.id == id)
            && let Machine::Invite(machine) = &mut branch.machine
        {
            branch.answered_elsewhere = answered;
            machine.handle(ClientInviteInput::Cancel, now.at);
        }
    }

    /// What a device has just said goes to the caller.
    pub(super) fn pass_back(&mut self, id: u32, now: Now) {
        let branch = self.branches.iter_mut().find(|branch| branch.id == id);
        if let Some(response) = branch.and_then(|branch| branch.heard.take()) {
            self.caller.answer(&self.house, &response, now);
        }
    }

    /// A device's refusal, with the challenges of others.
    pub(super) fn refusal(&mut self, id: u32, challenges: &[u32]) -> Option<Message> {
        let mut lines = Vec::new();
        for branch in self.branches.iter().filter(|branch| challenges.contains(&branch.id)) {
            let view = branch.heard.as_ref()?.view();
            let is_challenge = |name| matches!(name, Name::WwwAuthenticate | Name::ProxyAuthenticate);
            for field in view.fields().iter().filter(|field| is_challenge(field.name)) {
                lines.extend_from_slice(view.at(field.line));
            }
        }
        let response = self.branches.iter_mut().find(|branch| branch.id == id)?.heard.take()?;
        if lines.is_empty() {
            return Some(response);
        }
        let view = response.view();
        let (head, body) = view.bytes().split_at(view.bytes().len() - view.body().len() - 2);
        Message::parse([head, &*lines, body].concat().into()).ok()
    }

    /// A response to a request of ours.
    pub(super) fn answered(&mut self, response: Message, now: Now) {
        let view = response.view();
        let branch = view.top_via().ok().and_then(|via| SessionKey::of_branch(via.branch()?));
        let (Some((_, transaction)), Some(method)) = (branch, method_of(view)) else { return };
        let (status, bytes) = (view.status(), response.bytes().clone());
        if method == Method::Cancel {
            if let Some(each) = self.asking.iter_mut().find(|each| each.transaction == transaction) {
                each.machine.handle(ClientNonInviteInput::Response { status, bytes }, now.at);
            }
            return;
        }
        let Some(branch) = self.branches.iter_mut().find(|branch| branch.transaction == transaction) else { return };
        branch.was_heard = true;
        match &mut branch.machine {
            // RFC 3261 §17.1.3: the method counts too.
            Machine::Invite(_) if method != Method::Invite => {}
            Machine::Invite(machine) => {
                keep(&mut branch.heard, response);
                machine.handle(ClientInviteInput::Response { status, bytes }, now.at);
            }
            Machine::Other(machine) => {
                keep(&mut branch.heard, response);
                machine.handle(ClientNonInviteInput::Response { status, bytes }, now.at);
            }
        }
    }

    /// Servers that were silent for so long make way for the next one of their host (RFC 3263 §4.3): a request that is no
    /// INVITE is over before its timer F is. What they say after all is not heard.
    pub(super) fn look_for_silence(&mut self, now: Now) {
        for at in 0..self.branches.len() {
            let branch = &mut self.branches[at];
            if branch.patience.take_if(|due| *due <= now.at).is_some() && !branch.was_heard {
                self.goes_on(at, now);
            }
        }
    }

    /// Whether something was done.
    pub(super) fn settle_branches(&mut self, now: Now) -> bool {
        let mut was_busy = false;
        for at in 0..self.branches.len() {
            while let Some(said) = self.branches[at].machine.poll_output() {
                was_busy = true;
                let (target, hop) = (self.branches[at].id, self.branches[at].hop);
                let happened = match said {
                    Said::Send(bytes) => {
                        let Branch { transaction, tie, .. } = &self.branches[at];
                        if !self.send(hop, &bytes, *transaction, tie) {
                            self.branches[at].machine.failed(now);
                        }
                        continue;
                    }
                    Said::Cancel => {
                        self.send_cancel(at, now);
                        continue;
                    }
                    Said::Response(503) | Said::Ended(End::TransportError) if self.goes_on(at, now) => continue,
                    Said::Response(status) => {
                        self.worked(target, status);
                        Move::Answer { target, status }
                    }
                    Said::Ended(End::Timeout) => Move::Silent { target },
                    // Passed over where it has answered.
                    Said::Ended(End::Done | End::TransportError) => Move::Failed { target },
                };
                if !matches!(happened, Move::Answer { status: ..200, .. }) {
                    self.estate.lock().open.retain(|each| each.id != target);
                }
                if let Some(rules) = &mut self.rules {
                    rules.handle(happened, now);
                    // What it says goes on before the next thing is heard.
                    return true;
                }
            }
        }
        // A refusal may still be wanted in its own words.
        let is_open = self.rules.as_ref().is_some_and(|rules| !rules.is_decided());
        self.branches.retain(|branch| !branch.machine.is_ended() || (is_open && branch.heard.is_some()));
        was_busy
    }

    /// Whether the next server of a contact's host is called, after a 503 or a transport that failed (RFC 3263 §4.3).
    fn goes_on(&mut self, at: usize, now: Now) -> bool {
        let (house, branch) = (self.house.clone(), &mut self.branches[at]);
        let Some(contact) = self.contacts.get_mut(branch.id as usize) else { return false };
        let pause = branch.heard.as_ref().and_then(contact::retry_after);
        let is_open = self.rules.as_ref().is_some_and(|rules| !rules.is_decided());
        if !contact.failed(&house, pause, now.at) || !is_open || branch.answered_elsewhere {
            return false;
        }
        let id = std::mem::replace(&mut branch.id, u32::MAX); // it makes way for the one that takes its number
        self.estate.lock().open.retain(|each| each.id != id);
        if self.try_call(id, now).is_none() {
            self.branches[at].id = id;
            return false;
        }
        self.branches[at].heard = None;
        true
    }

    fn worked(&self, target: u32, status: u16) {
        if status >= 200
            && let Some(contact) = self.contacts.get(target as usize)
        {
            contact.worked(&self.house);
        }
    }

    fn send_cancel(&mut self, at: usize, now: Now) {
        let branch = &self.branches[at];
        let Machine::Invite(machine) = &branch.machine else { return };
        // RFC 3326 §2: why, as we know it or as the caller has said.
        let elsewhere =
            branch.answered_elsewhere.then(|| r#"SIP;cause=200;text="Call completed elsewhere""#.to_owned());
        let reason = elsewhere.or_else(|| self.parting.clone());
        let lines = reason.map(|reason| format!("Reason: {reason}\r\n")).unwrap_or_default();
        let Some(cancel) = transaction::cancel(machine.invite(), lines.as_bytes()) else { return };
        let (transaction, hop) = (branch.transaction, branch.hop);
        let machine = ClientNonInvite::new(cancel, self.timers, hop.is_reliable(), now.at);
        self.asking.push(Asking { machine, transaction, hop, tie: Arc::default() });
    }

    /// Whether something was done.
    pub(super) fn settle_asking(&mut self, now: Now) -> bool {
        let mut was_busy = false;
        for at in (0..self.asking.len()).rev() {
            while let Some(output) = self.asking[at].machine.poll_output() {
                was_busy = true;
                if let ClientNonInviteOutput::Send(bytes) = output {
                    let Asking { transaction, hop, tie, .. } = &self.asking[at];
                    if !self.send(*hop, &bytes, *transaction, tie) {
                        self.asking[at].machine.handle(ClientNonInviteInput::TransportError, now.at);
                    }
                }
            }
            if self.asking[at].machine.is_ended() {
                self.asking.swap_remove(at);
            }
        }
        was_busy
    }

    /// A request of ours could not be delivered (RFC 3261 §18.4). A device that has said something may still answer by
    /// another connection (§18.2.2).
    pub(super) fn unreachable(&mut self, transaction: u32, now: Now) {
        self.house.metrics.count(Count::Unreachable);
        let unheard = |each: &&mut Branch| each.transaction == transaction && !each.was_heard;
        if let Some(branch) = self.branches.iter_mut().find(unheard) {
            branch.machine.failed(now);
        }
        for each in self.asking.iter_mut().filter(|each| each.transaction == transaction) {
            each.machine.handle(ClientNonInviteInput::TransportError, now.at);
        }
    }

    fn send(&self, hop: Hop, bytes: &[u8], transaction: u32, tie: &Arc<()>) -> bool {
        session::send(&self.house, Asker::Session(self.key, transaction), hop, bytes, tie)
    }
}

/// What was heard last, but a final answer that waits to be passed on is not pushed out by a stray one.
fn keep(heard: &mut Option<Message>, response: Message) {
    let is_final = |message: &Message| message.view().status() >= 300;
    if !heard.as_ref().is_some_and(is_final) {
        *heard = Some(response);
    }
}
