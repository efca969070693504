//! Requests of a session's own that are no INVITE: BYE, CANCEL, UPDATE and PRACK, each in a transaction (RFC 3261 §17.1.2).

use std::sync::Arc;
use std::time::Instant;

use base::Now;
use im::Side;
use im::session::Why;
use sip::Method;
use sip::dialog::Within;
use sip::transaction::{ClientNonInvite, ClientNonInviteInput as Input, ClientNonInviteOutput as Output};

use super::estate::Leg;
use super::{SessionActor, words};
use crate::contact::way_within;
use crate::hop::Hop;

/// One such request.
pub(super) struct Asking {
    pub(super) machine: ClientNonInvite,
    pub(super) method: Method,
    /// What its branch ends in.
    pub(super) transaction: u32,
    hop: Hop,
    /// Held while its answer is waited for.
    tie: Arc<()>,
    then: Then,
    /// The response that the machine is given.
    heard: Option<sip::Message>,
}

/// What comes of the final answer, or of none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// The dialog with this side ends.
    Ends(Side),
    /// The session timer of this side goes on, or not (RFC 4028 §7.2, §10).
    Refreshes(Side),
}

impl Asking {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// Whether a session timer goes on by it.
    pub(super) fn refreshes(&self) -> bool {
        matches!(self.then, Then::Refreshes(_))
    }
}

impl SessionActor {
    /// Sends a BYE to a side, whose dialog ends with its answer (RFC 3261 §15.1.1).
    pub(super) fn bye(&mut self, side: Side, why: Why, now: Now) {
        let Some(mut leg) = self.estate.lock().legs[side as usize].take() else { return };
        let reason = why.reason().map(str::to_owned).or_else(|| self.parting.clone());
        let lines = reason.map(|reason| format!("Reason: {reason}\r\n")).unwrap_or_default();
        self.part(&mut leg, &lines, Then::Ends(side), now);
        // It stands until then: their BYE may cross ours.
        self.estate.lock().legs[side as usize] = Some(leg);
    }

    /// Sends a BYE in any dialog.
    pub(super) fn part(&mut self, leg: &mut Leg, lines: &str, then: Then, now: Now) {
        let transaction = self.house.sessions.random();
        let hop = way_within(&self.house, leg.dialog.next_hop(), leg.hop).unwrap_or(leg.hop);
        let via = words::via(&self.house, self.key, transaction, hop);
        let mut bytes = Vec::with_capacity(512);
        let max_forwards = base::limits::MAX_FORWARDS;
        let within = Within { method: "BYE", via: &via, max_forwards, lines: lines.as_bytes(), body: b"" };
        leg.dialog.request(&mut bytes, &within);
        self.ask(Method::Bye, transaction, hop, bytes, then, now);
    }

    pub(super) fn ask(&mut self, method: Method, transaction: u32, hop: Hop, bytes: Vec<u8>, then: Then, now: Now) {
        let machine = ClientNonInvite::new(bytes.into(), self.timers, hop.is_reliable(), now.at);
        self.asking.push(Asking { machine, method, transaction, hop, tie: Arc::default(), then, heard: None });
    }

    /// A response to one of them. `false`: it is of none.
    pub(super) fn replied(&mut self, transaction: u32, method: Method, response: &sip::Message, now: Now) -> bool {
        let its = |each: &&mut Asking| each.transaction == transaction && each.method == method;
        let Some(each) = self.asking.iter_mut().find(its) else { return false };
        let (status, bytes) = (response.view().status(), response.bytes().clone());
        if status >= 200 && each.refreshes() {
            each.heard = Some(response.clone());
        }
        each.machine.handle(Input::Response { status, bytes }, now.at);
        true
    }

    /// Whether something was done.
    pub(super) fn settle_asking(&mut self, now: Now) -> bool {
        let mut was_busy = false;
        for at in (0..self.asking.len()).rev() {
            while let Some(output) = self.asking[at].machine.poll_output() {
                was_busy = true;
                match output {
                    Output::Send(bytes) => {
                        let Asking { hop, transaction, tie, .. } = &self.asking[at];
                        if !self.send(*hop, &bytes, *transaction, tie) {
                            self.asking[at].machine.handle(Input::TransportError, now.at);
                        }
                    }
                    Output::Response { status: ..200, .. } => {}
                    Output::Response { .. } | Output::Ended(_) => {
                        let asking = &mut self.asking[at];
                        let (method, heard) = (asking.method, asking.heard.take());
                        match std::mem::replace(&mut asking.then, Then::Nothing) {
                            Then::Nothing => {}
                            // RFC 3261 §15.1.1: whatever the answer is, or none, the dialog is over.
                            Then::Ends(side) => self.estate.lock().legs[side as usize] = None,
                            Then::Refreshes(side) => {
                                self.refreshed(side, method, heard.as_ref().map(sip::Message::view), now);
                            }
                        }
                    }
                }
            }
            if self.asking[at].machine.is_ended() {
                self.asking.swap_remove(at);
            }
        }
        was_busy
    }
}
