//! INVITEs that a session answers: the caller's, and new offers of both sides, each in a transaction (RFC 3261 §13.3,
//! §14.2, §17.2.1).

use std::time::Instant;

use base::Now;
use base::limits::SESSION_SERVING_MAX;
use bytes::Bytes;
use im::Side;
use im::session::{Input as Move, Refusal};
use sip::transaction::{ServerInvite, ServerInviteInput as Input, ServerInviteOutput as Output};
use sip::{Dialog, Name, Reply};

use super::estate::{Leg, Owed};
use super::media::{Fault, Media, offer_of};
use super::{Entry, SessionActor, words};
use crate::contact::sips_not_allowed;
use crate::hop::Hop;
use crate::metrics::Count;
use crate::transactions::Answer;
use crate::turn;

/// One such INVITE.
pub(super) struct Serving {
    pub(super) machine: ServerInvite,
    /// Its transaction's identity.
    key: u64,
    /// It is found by its key for as long as this lives.
    _entry: Option<Entry>,
    pub(super) side: Side,
    number: u32,
    request: sip::Message,
    hop: Hop,
    /// What it offers, until it is answered; nothing: it makes no offer, or a bad one.
    offer: Option<sdp::Offer>,
    fault: Option<Fault>,
    /// Our 2xx.
    success: Option<Bytes>,
    /// That 2xx makes an offer, and the answer has not come in its ACK.
    pub(super) awaits_answer: bool,
}

impl Serving {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// Our answer, written.
    fn write(&self, status: u16, reason: &str, tag: &str, lines: &[u8], body: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(1_024);
        let reply = Reply { status, reason, to_tag: tag, source: Some(self.hop.peer()), lines, body };
        sip::reply(&mut out, self.request.view(), &reply);
        out.into()
    }
}

impl SessionActor {
    /// Takes over the answer to the caller's INVITE from the transactions of all.
    pub(super) fn answer_for(&mut self, answer: Answer, entry: Entry, now: Now) -> Option<()> {
        let key = self.house.transactions.key(answer.request());
        let (slot, hop, request) = answer.take_back()?;
        self.estate.lock().owed = Some(Owed { request: request.clone(), hop });
        self.begin(Side::Caller, key, Some(entry), request, hop, now);
        self.house.transactions.forget(slot);
        Some(())
    }

    /// The same for an answer that a fallen actor owed.
    pub(super) fn answer_again(&mut self, owed: Owed, now: Now) {
        let key = self.house.transactions.key(owed.request.view());
        let entry = self.house.sessions.enter(key, owed.request.view(), self.key);
        self.begin(Side::Caller, key, entry, owed.request, owed.hop, now);
    }

    fn begin(&mut self, side: Side, key: u64, entry: Option<Entry>, request: sip::Message, hop: Hop, now: Now) {
        let machine = ServerInvite::new(self.timers, hop.is_reliable(), now.at);
        let number = request.view().cseq().map(|cseq| cseq.number).unwrap_or_default();
        let serving = Serving {
            machine,
            key,
            _entry: entry,
            side,
            number,
            request,
            hop,
            offer: None,
            fault: None,
            success: None,
            awaits_answer: false,
        };
        self.serving.push(serving);
    }

    /// Something came for one of them.
    pub(super) fn serve(&mut self, key: u64, input: Input, now: Now) {
        if let Some(each) = self.serving.iter_mut().find(|each| each.key == key) {
            each.machine.handle(input, now.at);
        }
    }

    /// A re-INVITE: what it offers is read here; whether it holds, the rules say.
    pub(super) fn offered(&mut self, side: Side, answer: Answer, now: Now) {
        if self.serving.len() >= SESSION_SERVING_MAX {
            return super::refuse(answer, 500, "Too Many INVITEs", b"Retry-After: 10\r\n", now);
        }
        let key = self.house.transactions.key(answer.request());
        let read = match self.terms_for(side, answer.request()) {
            Err(_) => Err((422, "", &b""[..])),
            // RFC 3261 §14.2: an INVITE of ours is under way there.
            Ok(_) if self.is_offering(side) => Err((491, "", &b""[..])),
            Ok(_) => offer_of(answer.request()),
        };
        let Some(entry) = self.house.sessions.enter(key, answer.request(), self.key) else {
            return super::refuse(answer, 482, "Merged Request", b"", now);
        };
        let Some((slot, hop, request)) = answer.take_back() else { return };
        self.begin(side, key, Some(entry), request, hop, now);
        self.house.transactions.forget(slot);
        let Some(serving) = self.serving.last_mut() else { return };
        match read {
            Ok(offer) => serving.offer = offer,
            Err(fault) => serving.fault = Some(fault),
        }
        let (number, fault) = (serving.number, serving.fault.map(|fault| fault.0));
        self.rules.handle(Move::Offered { side, number, fault }, now.at);
    }

    /// The answer to a re-INVITE.
    pub(super) fn reply(&mut self, side: Side, number: u32, status: u16, now: Now) {
        let open = |each: &Serving| each.side == side && each.number == number && each.success.is_none();
        let Some(at) = self.serving.iter().rposition(open) else { return };
        let agreed = match status {
            200 => {
                let offer = self.serving[at].offer.take();
                self.serving[at].awaits_answer = offer.is_none();
                self.media.as_mut().and_then(|media| media.agree(side, offer))
            }
            _ => None,
        };
        let fault = self.serving[at].fault.filter(|fault| fault.0 == status);
        let Some((body, has_moved)) = agreed else {
            let status = if status == 200 { 488 } else { status };
            self.serving[at].awaits_answer = false;
            let least = format!("Min-SE: {}\r\n", self.house.config.session_timer.least_s);
            let (reason, lines) = match (fault, status) {
                (_, 422) => ("", least.as_bytes()),
                (Some((_, reason, lines)), _) => (reason, lines),
                // RFC 3261 §14.2: from 0 to 10 seconds.
                (None, 500) => ("Another INVITE Is Pending", &b"Retry-After: 2\r\n"[..]),
                (None, _) => ("", &b""[..]),
            };
            let bytes = self.serving[at].write(status, reason, &self.tag, lines, b"");
            self.serving[at].machine.handle(Input::Answer { status, bytes }, now.at);
            // The rules have counted on a 2xx: none is repeated.
            return self.rules.handle(Move::Acknowledged { side, number }, now.at);
        };
        if let Some(leg) = self.estate.lock().leg_mut(side) {
            leg.dialog.refresh(self.serving[at].request.view());
            leg.hop = self.serving[at].hop;
        }
        self.succeed(at, &[], &body, now);
        if has_moved {
            self.connect(side, now);
        }
    }

    /// 180, once (the rules see to that).
    pub(super) fn ring(&mut self, now: Now) {
        let mut lines = self.own_lines(self.first_hop());
        let Some(serving) = self.serving.first_mut() else { return };
        words::keep(&mut lines, serving.request.view(), &[Name::RecordRoute]);
        if !serving.request.view().requires("100rel") {
            let bytes = serving.write(180, "", &self.tag, &lines, b"");
            return serving.machine.handle(Input::Answer { status: 180, bytes }, now.at);
        }
        // RFC 3262 §3: from 1 to 2^31 - 1.
        let rseq = (self.house.sessions.random() >> 1).max(1);
        lines.extend_from_slice(format!("Require: 100rel\r\nRSeq: {rseq}\r\n").as_bytes());
        let (bytes, number) = (serving.write(180, "", &self.tag, &lines, b""), serving.number);
        self.begin_reliable(bytes, rseq, number, now);
    }

    fn first_hop(&self) -> Option<Hop> {
        self.serving.first().map(|serving| serving.hop)
    }

    /// Who answers: Contact, Allow and Supported.
    pub(super) fn own_lines(&self, hop: Option<Hop>) -> Vec<u8> {
        let mut lines = Vec::with_capacity(512);
        if let Some(hop) = hop {
            lines.extend_from_slice(words::contact(&self.house, self.key, hop).as_bytes());
        }
        lines.extend_from_slice(words::ALLOW.as_bytes());
        lines.extend_from_slice(words::SUPPORTED.as_bytes());
        lines
    }

    /// A branch has the session: its answer is the caller's, with our path in it.
    pub(super) fn accept(&mut self, branch: u32, now: Now) {
        let Some(taken) = self.taken(branch, now) else { return };
        let id = u64::from(self.house.sessions.random());
        let body =
            self.media.as_mut().and_then(|media| media.take(taken.pair.clone(), &taken.answer, taken.spoken, id));
        let Some(at) = self.serving.iter().position(|each| each.side == Side::Caller) else { return };
        let mut caller = Dialog::of_request(self.serving[at].request.view(), &self.tag).ok();
        if let (Some(caller), Some(early)) = (&mut caller, self.early.take()) {
            // RFC 3311 §5.1: it has moved the target. One out of order has not.
            if caller.receive(early.view()).is_ok() {
                caller.refresh(early.view());
            }
        }
        {
            let [sender, receiver] = self.people.clone();
            let mut estate = self.estate.lock();
            estate.owed = None;
            estate.open.retain(|each| each.id != branch);
            estate.close_all_but(Some(&taken.pair), &self.house.switch);
            estate.legs[Side::Callee as usize] = Some(Leg { dialog: taken.dialog, hop: taken.hop, party: receiver });
            let hop = self.serving[at].hop;
            estate.legs[Side::Caller as usize] = caller.map(|dialog| Leg { dialog, hop, party: sender });
        }
        let mut passed = Vec::with_capacity(256);
        words::pass_on(&mut passed, taken.response.view(), &[]);
        self.agreed_by(Side::Callee, taken.response.view(), now);
        self.contacts = Vec::new();
        self.house.metrics.count(Count::SessionsTaken);
        self.seats[Side::Callee as usize] = Some(self.house.sessions.taken(&self.people[Side::Callee as usize]));
        self.succeed(at, &passed, &body.unwrap_or_default(), now);
        for side in Side::BOTH {
            self.connect(side, now);
            if self.media.as_ref().and_then(Media::pair).is_some_and(|pair| pair.is_bound(side)) {
                self.bound[side as usize] = true;
                self.rules.handle(Move::Bound(side), now.at);
            }
        }
    }

    /// Opens the connection of a side, where it is ours to open.
    pub(super) fn connect(&mut self, side: Side, now: Now) {
        if self.media.as_ref().is_some_and(|media| !media.connect(side)) {
            self.rules.handle(Move::Lost(side), now.at);
        }
    }

    fn succeed(&mut self, at: usize, passed: &[u8], body: &[u8], now: Now) {
        let mut lines = self.own_lines(Some(self.serving[at].hop));
        lines.extend_from_slice(words::SDP.as_bytes());
        let (side, request) = (self.serving[at].side, self.serving[at].request.clone());
        lines.extend_from_slice(self.agree_with(side, request.view(), now).as_bytes());
        words::keep(&mut lines, request.view(), &[Name::RecordRoute]);
        lines.extend_from_slice(passed);
        let bytes = self.serving[at].write(200, "", &self.tag, &lines, body);
        self.hush();
        self.serving[at].success = Some(bytes.clone());
        self.serving[at].machine.handle(Input::Answer { status: 200, bytes }, now.at);
    }

    /// RFC 3261 §13.3.1.4: a 2xx once more.
    pub(super) fn repeat(&mut self, side: Side, number: u32, now: Now) {
        let its = |each: &&mut Serving| each.side == side && each.number == number;
        if let Some(each) = self.serving.iter_mut().filter(|each| each.success.is_some()).find(its)
            && let Some(bytes) = each.success.clone()
        {
            each.machine.handle(Input::Answer { status: 200, bytes }, now.at);
        }
    }

    /// The caller's INVITE is refused: by a contact's own words, or by ours.
    pub(super) fn refuse(&mut self, refusal: Refusal, now: Now) {
        let relayed = match refusal {
            Refusal::Relay(branch) => self.refusal_of(branch),
            Refusal::Status(_) => None,
        };
        let Some(serving) = self.serving.iter_mut().find(|each| each.side == Side::Caller) else { return };
        let (status, bytes) = match (relayed, refusal) {
            (Some(response), _) => {
                let response = response.view();
                let mut lines = Vec::with_capacity(256);
                words::pass_on(&mut lines, response, &[]);
                words::keep(&mut lines, response, &[Name::ContentType]);
                if response.status() < 400 {
                    words::keep(&mut lines, response, &[Name::Contact]); // RFC 3261 §21.3: where to try instead
                }
                let reason = std::str::from_utf8(response.reason()).unwrap_or_default();
                (response.status(), serving.write(response.status(), reason, &self.tag, &lines, response.body()))
            }
            (None, Refusal::Status(status)) => {
                let lines = match status {
                    503 => "Retry-After: 5\r\n".to_owned(),
                    480 if serving.request.view().is_sips() => sips_not_allowed(&self.house),
                    _ => String::new(),
                };
                (status, serving.write(status, "", &self.tag, lines.as_bytes(), b""))
            }
            (None, Refusal::Relay(_)) => (488, serving.write(488, "", &self.tag, b"", b"")),
        };
        serving.machine.handle(Input::Answer { status, bytes }, now.at);
        self.hush();
        self.estate.lock().owed = None;
    }

    /// The final answer has left: what rang before is not repeated any more.
    fn hush(&mut self) {
        if let Some(reliable) = &mut self.reliable {
            reliable.handle_final();
        }
    }

    /// The ACK for a 2xx of ours; it has the answer where the 2xx made the offer (RFC 3261 §13.2.1).
    pub(super) fn acknowledged(&mut self, ack: &sip::Message, now: Now) {
        let view = ack.view();
        let Some(side) = self.estate.lock().side_of(view) else { return };
        let Ok(number) = view.cseq().map(|cseq| cseq.number) else { return };
        self.rules.handle(Move::Acknowledged { side, number }, now.at);
        let asked = |each: &&mut Serving| each.side == side && each.number == number && each.awaits_answer;
        let Some(serving) = self.serving.iter_mut().find(asked) else { return };
        serving.awaits_answer = false;
        if self.media.as_mut().is_some_and(|media| media.hear(side, view)) {
            self.connect(side, now);
        }
    }

    /// Whether something was done.
    pub(super) fn settle_serving(&mut self, now: Now) -> bool {
        let mut was_busy = false;
        for at in (0..self.serving.len()).rev() {
            while let Some(output) = self.serving[at].machine.poll_output() {
                was_busy = true;
                let each = &mut self.serving[at];
                match output {
                    Output::Send(bytes) => {
                        let (hop, transactions) = (each.hop, self.house.transactions.clone());
                        turn::fill_later(|turn| {
                            let start = turn.arena.len();
                            turn.arena.extend_from_slice(&bytes);
                            transactions.send_back(turn, hop, start);
                        });
                    }
                    Output::Trying => {
                        let bytes = each.write(100, "", "", b"", b"");
                        each.machine.handle(Input::Answer { status: 100, bytes }, now.at);
                    }
                    Output::Ack => {
                        let (side, number) = (each.side, each.number);
                        self.rules.handle(Move::Acknowledged { side, number }, now.at);
                    }
                    Output::Cancelled => self.rules.handle(Move::Cancelled, now.at),
                    // A 2xx is repeated by the rules, a refusal by its machine over datagrams.
                    Output::Failed | Output::Ended(_) => {}
                }
            }
            if self.serving[at].machine.is_ended() {
                // In order: the caller's own INVITE is the first.
                self.serving.remove(at);
            }
        }
        was_busy
    }
}
