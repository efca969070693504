//! The caller's side of a passage: the request that is to be answered, in its server transaction.

use std::sync::Arc;
use std::time::Instant;

use base::Now;
use bytes::Bytes;
use sip::transaction::{ServerInvite, ServerInviteInput as Input, ServerInviteOutput as Output, Timers};
use sip::{Message, Reply, View};

use crate::contact::sips_not_allowed;
use crate::hop::Hop;
use crate::house::House;
use crate::message::SessionKey;
use crate::session::estate::Owed;
use crate::session::{Entry, Shared};
use crate::transactions::Answer;
use crate::turn;

/// Who asked.
pub(super) enum Caller {
    /// An INVITE, in a transaction of the passage's own.
    Invite(Box<Invite>),
    /// Any other request, whose transaction is a record among all others; until it is answered.
    Other(Option<Answer>),
}

pub(super) struct Invite {
    machine: ServerInvite,
    key: u64,
    /// It is found by its key for as long as this lives.
    _entry: Entry,
    request: Message,
    hop: Hop,
}

impl Caller {
    /// Takes over the answer to an INVITE from the transactions of all.
    pub(super) fn invite(house: &Arc<House>, answer: Answer, entry: Entry, estate: &Shared, now: Now) -> Option<Self> {
        let (slot, hop, request) = answer.take_back()?;
        estate.lock().owed = Some(Owed { request: request.clone(), hop });
        house.transactions.forget(slot);
        Some(Self::of(house, entry, request, hop, now))
    }

    /// Takes up the INVITE that a fallen passage owed an answer.
    pub(super) fn again(house: &Arc<House>, passage: SessionKey, owed: Owed, now: Now) -> Self {
        let key = house.transactions.key(owed.request.view());
        let entry = house.sessions.enter_passing(key, passage);
        Self::of(house, entry, owed.request, owed.hop, now)
    }

    fn of(house: &Arc<House>, entry: Entry, request: Message, hop: Hop, now: Now) -> Self {
        let key = house.transactions.key(request.view());
        let machine = ServerInvite::new(Timers::default(), hop.is_reliable(), now.at);
        Self::Invite(Box::new(Invite { machine, key, _entry: entry, request, hop }))
    }

    /// What was asked, until it is answered.
    pub(super) fn request(&self) -> Option<View<'_>> {
        match self {
            Self::Invite(invite) => Some(invite.request.view()),
            Self::Other(answer) => answer.as_ref().map(Answer::request),
        }
    }

    /// Where it came from.
    pub(super) fn hop(&self) -> Option<Hop> {
        match self {
            Self::Invite(invite) => Some(invite.hop),
            Self::Other(answer) => answer.as_ref().map(Answer::caller),
        }
    }

    /// Something came for an INVITE's transaction.
    pub(super) fn handle(&mut self, input: Input, now: Now) {
        if let Self::Invite(invite) = self {
            invite.machine.handle(input, now.at);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Invite(invite) => invite.machine.poll_timeout(),
            Self::Other(_) => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Now) {
        if let Self::Invite(invite) = self {
            invite.machine.handle_timeout(now.at);
        }
    }

    /// A response of a device's, our Via on top of it.
    pub(super) fn answer(&mut self, house: &House, response: &Message, now: Now) {
        let view = response.view();
        match self {
            Self::Invite(invite) => {
                let mut bytes = Vec::with_capacity(view.bytes().len());
                sip::forward_response(&mut bytes, view);
                invite.machine.handle(Input::Answer { status: view.status(), bytes: bytes.into() }, now.at);
                invite.let_go(house, now);
            }
            Self::Other(answer) => {
                if let Some(answer) = answer.take() {
                    turn::fill_later(|turn| answer.forward(turn, now, view));
                }
            }
        }
    }

    /// A final answer of our own.
    pub(super) fn refuse(&mut self, house: &House, status: u16, now: Now) {
        let lines = match status {
            503 => "Retry-After: 5\r\n".to_owned(),
            480 if self.request().is_some_and(View::is_sips) => sips_not_allowed(house),
            _ => String::new(),
        };
        let lines = lines.as_bytes();
        match self {
            Self::Invite(invite) => {
                let bytes = invite.write(house, status, lines);
                invite.machine.handle(Input::Answer { status, bytes }, now.at);
                invite.let_go(house, now);
            }
            Self::Other(answer) => {
                if let Some(answer) = answer.take() {
                    turn::fill_later(|turn| answer.send(turn, now, status, lines));
                }
            }
        }
    }

    /// It takes long (RFC 4320 §4.1).
    pub(super) fn tell_trying(&self, house: &House) {
        if let Self::Other(Some(answer)) = self {
            turn::fill_later(|turn| {
                let start = turn.arena.len();
                let source = Some(answer.caller().peer());
                sip::reply(&mut turn.arena, answer.request(), &Reply { status: 100, source, ..Reply::default() });
                house.transactions.send_back(turn, answer.caller(), start);
            });
        }
    }

    /// There will be none (RFC 4320 §4.2).
    pub(super) fn abandon(&mut self, house: &House, now: Now) {
        if let Self::Other(answer) = self
            && let Some((slot, ..)) = answer.take().and_then(Answer::take_back)
        {
            house.transactions.abandon(slot, now);
        }
    }

    /// Lets out what its transaction has to say. `true`: the caller takes the INVITE back.
    pub(super) fn settle(&mut self, house: &House, now: Now) -> bool {
        match self {
            Self::Invite(invite) => invite.let_go(house, now),
            Self::Other(_) => false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Invite(invite) => invite.machine.is_ended(),
            Self::Other(answer) => answer.is_none(),
        }
    }
}

impl Invite {
    fn write(&self, house: &House, status: u16, lines: &[u8]) -> Bytes {
        let tag = if status == 100 { String::new() } else { house.transactions.tag(self.key) };
        let mut out = Vec::with_capacity(512);
        let reply = Reply { status, to_tag: &tag, source: Some(self.hop.peer()), lines, ..Reply::default() };
        sip::reply(&mut out, self.request.view(), &reply);
        out.into()
    }

    fn let_go(&mut self, house: &House, now: Now) -> bool {
        let mut is_cancelled = false;
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(bytes) => turn::fill_later(|turn| {
                    let start = turn.arena.len();
                    turn.arena.extend_from_slice(&bytes);
                    house.transactions.send_back(turn, self.hop, start);
                }),
                Output::Trying => {
                    let bytes = self.write(house, 100, b"");
                    self.machine.handle(Input::Answer { status: 100, bytes }, now.at);
                }
                Output::Cancelled => is_cancelled = true,
                // The ACK for a 2xx goes its own way, end to end.
                Output::Ack | Output::Failed | Output::Ended(_) => {}
            }
        }
        is_cancelled
    }
}
