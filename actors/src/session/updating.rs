//! What the two people ask within a dialog besides a new INVITE: UPDATE (RFC 3311) in a session and before it is taken, and
//! PRACK for a 180 of ours that had to be heard (RFC 3262).

use base::Now;
use im::Side;
use im::session::Input as Move;
use sip::transaction::{Reliable, ReliableOutput, ServerInviteInput};

use super::media::offer_of;
use super::{SessionActor, refuse, words};
use crate::transactions::Answer;
use crate::turn;

/// RFC 3311 §5.2: from 0 to 10 seconds.
const PENDING: &[u8] = b"Retry-After: 2\r\n";

impl SessionActor {
    /// An UPDATE in a session: it refreshes, and may make an offer.
    pub(super) fn updated(&mut self, side: Side, answer: Answer, now: Now) {
        let request = answer.request();
        if !self.rules.is_talking() {
            return refuse(answer, 481, "", b"", now);
        }
        if let Err(min_s) = self.terms_for(side, request) {
            return refuse(answer, 422, "", format!("Min-SE: {min_s}\r\n").as_bytes(), now);
        }
        let (body, has_moved) = match offer_of(request) {
            Err((status, reason, lines)) => return refuse(answer, status, reason, lines, now),
            Ok(None) => (Vec::new(), false),
            // RFC 3311 §5.2: our own offer has no answer yet.
            Ok(Some(_)) if self.is_offering(side) => return refuse(answer, 491, "", b"", now),
            Ok(offer) => match self.media.as_mut().and_then(|media| media.agree(side, offer)) {
                Some(agreed) => agreed,
                None => return refuse(answer, 488, "", b"", now),
            },
        };
        let hop = answer.caller();
        if let Some(leg) = self.estate.lock().leg_mut(side) {
            leg.dialog.refresh(request);
            leg.hop = hop;
        }
        let mut lines = self.own_lines(Some(hop));
        lines.extend_from_slice(self.agree_with(side, request, now).as_bytes());
        if !body.is_empty() {
            lines.extend_from_slice(words::SDP.as_bytes());
        }
        turn::fill_later(|turn| answer.send_with(turn, now, 200, "", &lines, &body));
        if has_moved {
            self.connect(side, now);
        }
    }

    /// An UPDATE before the session is taken. The caller's offer has no answer yet, and neither has ours to the callee
    /// (RFC 3311 §5.2); without an offer it only moves the target.
    pub(super) fn updated_early(&mut self, side: Side, answer: Answer, now: Now) {
        match (answer.request().body().is_empty(), side) {
            (false, Side::Caller) => refuse(answer, 500, "Offer Is Pending", PENDING, now),
            (false, Side::Callee) => refuse(answer, 491, "", b"", now),
            (true, _) => {
                let lines = self.own_lines(Some(answer.caller()));
                // The callee's 2xx will name its target itself.
                if side == Side::Caller {
                    self.early = Some(sip::Message::copy_of(answer.request()));
                }
                refuse(answer, 200, "", &lines, now);
            }
        }
    }

    /// Whether an offer of ours to this side waits for its answer.
    pub(super) fn is_offering(&self, side: Side) -> bool {
        self.renewals.iter().any(|renewal| renewal.side == side && renewal.is_open)
            || self.serving.iter().any(|serving| serving.side == side && serving.awaits_answer)
    }

    /// A PRACK (RFC 3262 §3).
    pub(super) fn pracked(&mut self, answer: Answer, now: Now) {
        let request = answer.request();
        let Some(rack) = request.rack() else { return refuse(answer, 400, "RAck Is Needed", b"", now) };
        if !request.body().is_empty() {
            // RFC 3262 §5: the INVITE's offer has no answer yet, so there can be no other one.
            return refuse(answer, 488, "", b"", now);
        }
        let status = self.reliable.as_mut().map_or(481, |reliable| reliable.handle_prack(rack));
        refuse(answer, status, "", b"", now);
    }

    /// Sends a provisional response that must be heard.
    pub(super) fn begin_reliable(&mut self, response: bytes::Bytes, rseq: u32, cseq: u32, now: Now) {
        self.reliable = Some(Box::new(Reliable::new(response, rseq, cseq, self.timers, now.at)));
    }

    /// Whether something was done.
    pub(super) fn settle_reliable(&mut self, now: Now) -> bool {
        let Some(output) = self.reliable.as_mut().and_then(|reliable| reliable.poll_output()) else { return false };
        match output {
            ReliableOutput::Send(bytes) => {
                if let Some(serving) = self.serving.first_mut() {
                    serving.machine.handle(ServerInviteInput::Answer { status: 180, bytes }, now.at);
                }
            }
            ReliableOutput::GivenUp => self.rules.handle(Move::Unheard, now.at),
        }
        true
    }
}
