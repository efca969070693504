//! Session timers of both legs (RFC 4028), each by itself: what is said of them, and refreshes of our own, by UPDATE where
//! the other end takes that, else by an INVITE that offers what was offered before (RFC 4028 §7.4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Now;
use bytes::Bytes;
use im::Side;
use im::session::Input as Move;
use im::session_timer::{self, Asked, Input, Output, Refresher, SessionTimer, Terms};
use sip::dialog::Within;
use sip::transaction::{self, ClientInvite, ClientInviteInput, ClientInviteOutput};
use sip::{Method, Role, View};

use super::asking::Then;
use super::estate::Leg;
use super::{SessionActor, words};
use crate::contact::way_within;
use crate::hop::Hop;

/// One leg's timer.
#[derive(Default)]
pub(super) struct Timing {
    timer: SessionTimer,
    /// The other end has said that it takes UPDATE.
    takes_update: bool,
}

/// An INVITE of ours within a dialog.
pub(super) struct Renewal {
    pub(super) machine: ClientInvite,
    pub(super) side: Side,
    transaction: u32,
    number: u32,
    hop: Hop,
    /// Held while its answer is waited for.
    tie: Arc<()>,
    heard: Option<sip::Message>,
    ack: Option<(Hop, Bytes)>,
    /// It has no final answer yet.
    pub(super) is_open: bool,
}

/// Lines of a 2xx that says what holds now (RFC 4028 §9). `is_supported`: its reader knows timers, and is to look.
pub(super) fn lines_of(terms: Option<Terms>, is_supported: bool) -> String {
    let Some(Terms { interval_s, refresher }) = terms else { return String::new() };
    let role = if refresher == Refresher::Us { Role::Uas } else { Role::Uac };
    let require = if is_supported { "Require: timer\r\n" } else { "" };
    format!("Session-Expires: {interval_s};refresher={}\r\n{require}", role.as_str())
}

impl SessionActor {
    /// What the answer to a session refresh request of a side will say.
    ///
    /// # Errors
    /// The Min-SE of a 422.
    pub(super) fn terms_for(&self, side: Side, request: View<'_>) -> Result<Option<Terms>, u32> {
        let current = self.timings[side as usize].timer.terms();
        Asked::by(request).answer(self.house.config.session_timer, current)
    }

    /// Such a request is answered with 2xx: the timer runs anew. Gives the lines of the answer.
    pub(super) fn agree_with(&mut self, side: Side, request: View<'_>, now: Now) -> String {
        let terms = self.terms_for(side, request).unwrap_or_default();
        let timing = &mut self.timings[side as usize];
        if let Some(min_s) = request.min_se() {
            timing.timer.handle(Input::Least(min_s), now.at);
        }
        timing.takes_update |= request.allows("UPDATE");
        timing.timer.handle(Input::Agreed(terms), now.at);
        lines_of(terms, request.supports("timer"))
    }

    /// The 2xx to a request of ours is there: the timer runs as it says.
    pub(super) fn agreed_by(&mut self, side: Side, response: View<'_>, now: Now) {
        let timing = &mut self.timings[side as usize];
        timing.takes_update |= response.allows("UPDATE");
        timing.timer.handle(Input::Agreed(session_timer::agreed(response)), now.at);
    }

    /// When the next thing is due of what this file does.
    pub(super) fn refreshing_timeout(&self) -> Option<Instant> {
        let is_talking = self.rules.is_talking();
        let timers = self.timings.iter().filter(|_| is_talking).filter_map(|timing| timing.timer.poll_timeout());
        timers.chain(self.renewals.iter().filter_map(|renewal| renewal.machine.poll_timeout())).min()
    }

    /// Does what is due.
    pub(super) fn refreshing_rang(&mut self, now: Now) {
        if self.rules.is_talking() {
            self.timings.iter_mut().for_each(|timing| timing.timer.handle_timeout(now.at));
        }
        self.renewals.iter_mut().for_each(|renewal| renewal.machine.handle_timeout(now.at));
    }

    /// Whether something was done.
    pub(super) fn settle_refreshing(&mut self, now: Now) -> bool {
        let mut was_busy = self.settle_renewals(now);
        for side in Side::BOTH {
            while let Some(output) = self.timings[side as usize].timer.poll_output() {
                was_busy = true;
                match output {
                    Output::Refresh { interval_s, min_s } if self.rules.is_talking() => {
                        let min = min_s.map(|min_s| format!("Min-SE: {min_s}\r\n")).unwrap_or_default();
                        // RFC 4028 §7.4: the role does not change.
                        let lines = format!("Session-Expires: {interval_s};refresher=uac\r\n{min}");
                        if self.refresh(side, &lines, now).is_none() {
                            self.timings[side as usize].timer.handle(Input::Unanswered, now.at);
                        }
                    }
                    Output::Refresh { .. } => {}
                    Output::Lapsed => self.rules.handle(Move::Lapsed, now.at),
                }
            }
        }
        was_busy
    }

    fn refresh(&mut self, side: Side, timer: &str, now: Now) -> Option<()> {
        let mut estate = self.estate.lock();
        let Leg { dialog, hop, .. } = estate.leg_mut(side)?;
        let hop = way_within(&self.house, dialog.next_hop(), *hop).unwrap_or(*hop);
        let transaction = self.house.sessions.random();
        let via = words::via(&self.house, self.key, transaction, hop);
        let mut lines = words::contact(&self.house, self.key, hop);
        for more in [words::ALLOW, words::SUPPORTED, timer] {
            lines.push_str(more);
        }
        let is_update = self.timings[side as usize].takes_update;
        let body = if is_update { Vec::new() } else { self.media.as_mut()?.agree(side, None)?.0 };
        if !is_update {
            lines.push_str(words::SDP);
        }
        let method = if is_update { "UPDATE" } else { "INVITE" };
        let max_forwards = base::limits::MAX_FORWARDS;
        let within = Within { method, via: &via, max_forwards, lines: lines.as_bytes(), body: &body };
        let mut bytes = Vec::with_capacity(lines.len() + body.len() + 512);
        let number = dialog.request(&mut bytes, &within);
        drop(estate);
        if is_update {
            self.ask(Method::Update, transaction, hop, bytes, Then::Refreshes(side), now);
        } else {
            let reliable = hop.is_reliable();
            let machine = ClientInvite::new(bytes.into(), transaction::acknowledge, self.timers, reliable, now.at);
            let (tie, heard, ack) = (Arc::default(), None, None);
            self.renewals.push(Renewal { machine, side, transaction, number, hop, tie, heard, ack, is_open: true });
        }
        Some(())
    }

    /// What has become of a refresh of ours; no response: nobody answered (RFC 4028 §10).
    pub(super) fn refreshed(&mut self, side: Side, method: Method, response: Option<View<'_>>, now: Now) {
        let Some(response) = response else {
            return self.timings[side as usize].timer.handle(Input::Unanswered, now.at);
        };
        let status = response.status();
        if (200..300).contains(&status) {
            if let Some(leg) = self.estate.lock().leg_mut(side) {
                leg.dialog.refresh(response);
            }
            return self.agreed_by(side, response, now);
        }
        let wait = self.glare_pause(side);
        let timing = &mut self.timings[side as usize];
        let input = match status {
            405 | 501 if method == Method::Update => {
                timing.takes_update = false;
                Input::Unknown
            }
            _ => Input::Refused { status, min_s: response.min_se(), wait },
        };
        timing.timer.handle(input, now.at);
    }

    /// RFC 3261 §14.1: who has made the Call-ID waits 2.1 to 4 seconds, the other up to 2, in steps of 10 ms.
    fn glare_pause(&self, side: Side) -> Duration {
        let dice = u64::from(self.house.sessions.random());
        Duration::from_millis(if side == Side::Callee { 2_100 + 10 * (dice % 191) } else { 10 * (dice % 201) })
    }

    /// A response to one of our INVITEs within a dialog. `false`: it is of none.
    pub(super) fn renewal_answered(&mut self, transaction: u32, response: &sip::Message, now: Now) -> bool {
        let Some(each) = self.renewals.iter_mut().find(|each| each.transaction == transaction) else { return false };
        let (status, bytes) = (response.view().status(), response.bytes().clone());
        each.heard = Some(response.clone());
        each.machine.handle(ClientInviteInput::Response { status, bytes }, now.at);
        true
    }

    fn settle_renewals(&mut self, now: Now) -> bool {
        let mut was_busy = false;
        for at in (0..self.renewals.len()).rev() {
            while let Some(output) = self.renewals[at].machine.poll_output() {
                was_busy = true;
                match output {
                    ClientInviteOutput::Send(bytes) => {
                        let Renewal { hop, transaction, tie, .. } = &self.renewals[at];
                        if !self.send(*hop, &bytes, *transaction, tie) {
                            self.renewals[at].machine.handle(ClientInviteInput::TransportError, now.at);
                        }
                    }
                    ClientInviteOutput::Response { status: ..200, .. } | ClientInviteOutput::Cancel => {}
                    ClientInviteOutput::Response { status, .. } => self.renewed(at, status < 300, now),
                    ClientInviteOutput::Ended(_) => {
                        let renewal = &mut self.renewals[at];
                        if std::mem::take(&mut renewal.is_open) {
                            let side = renewal.side;
                            self.refreshed(side, Method::Invite, None, now);
                        }
                    }
                }
            }
            if self.renewals[at].machine.is_ended() {
                self.renewals.swap_remove(at);
            }
        }
        was_busy
    }

    /// The final answer to an INVITE within a dialog: a refusal leaves all as it was (RFC 6141 §3.1), a 2xx gets its ACK,
    /// and gets it again when it comes again.
    fn renewed(&mut self, at: usize, is_success: bool, now: Now) {
        let renewal = &mut self.renewals[at];
        let Some(response) = renewal.heard.take() else { return };
        let (side, number, hop) = (renewal.side, renewal.number, renewal.hop);
        let is_first = std::mem::take(&mut renewal.is_open);
        if is_success && let Some((hop, ack)) = &self.renewals[at].ack {
            self.send_ack(*hop, ack);
            return;
        }
        if is_first {
            self.refreshed(side, Method::Invite, Some(response.view()), now);
        }
        if !is_success {
            return;
        }
        let mut ack = Vec::with_capacity(512);
        let way = {
            let estate = self.estate.lock();
            let Some(leg) = estate.leg(side) else { return };
            let way = way_within(&self.house, leg.dialog.next_hop(), hop).unwrap_or(hop);
            leg.dialog.acknowledge(
                &mut ack,
                number,
                &words::via(&self.house, self.key, self.house.sessions.random(), way),
            );
            way
        };
        self.send_ack(way, &ack);
        self.renewals[at].ack = Some((way, ack.into()));
        if self.rules.is_talking() && self.media.as_mut().is_some_and(|media| media.hear(side, response.view())) {
            self.connect(side, now);
        }
    }
}
