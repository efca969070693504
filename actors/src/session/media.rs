//! The session descriptions of one session: each side sees ours in place of the other's, and we remember what both have
//! said (RFC 3264, RFC 4975 §8, RFC 6135).

use std::sync::Arc;

use im::Side;
use sdp::{Answer, Offer, Origin, Ours, Role, Setup, Spoken};
use sip::{Name, View};

use crate::house::House;
use crate::switch::Pair;

/// Why a body is refused: status, reason phrase, further header lines.
pub(crate) type Fault = (u16, &'static str, &'static [u8]);

const ACCEPT: &[u8] = b"Accept: application/sdp\r\n";

/// Reads the offer of a request. `Ok(None)`: it makes none.
///
/// # Errors
/// 415 for what is no SDP or is encoded (RFC 3261 §8.2.3), 400 for what cannot be read, 488 for what has no MSRP.
pub(crate) fn offer_of(request: View<'_>) -> Result<Option<Offer>, Fault> {
    if request.body().is_empty() {
        return Ok(None);
    }
    if !is_sdp(request) {
        return Err((415, "", ACCEPT));
    }
    if request.values(Name::ContentEncoding).any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Err((415, "", b"Accept-Encoding: identity\r\n"));
    }
    let offer = Offer::read(request.body()).map_err(|error| {
        let (status, reason) = error.status();
        (status, reason, &b""[..])
    })?;
    // RFC 4975 §14: who asks for TLS is not answered in the clear; there is no door for it.
    if offer.message().is_tls() { Err((488, "No MSRP Over TLS Here", b"")) } else { Ok(Some(offer)) }
}

fn is_sdp(message: View<'_>) -> bool {
    message.content_type().is_some_and(|kind| kind.is("application/sdp"))
}

/// The two descriptions of a session.
pub(super) struct Media {
    house: Arc<House>,
    state: State,
}

enum State {
    /// Nobody has taken it: the caller's offer.
    Offered(Box<Offer>),
    Taken(Box<Taken>),
}

/// A session that was taken. A new offer is rare, so what was said is kept as it was written: a tenth of what it is read.
struct Taken {
    pair: Arc<Pair>,
    /// What each side has said last.
    said: [Box<[u8]>; 2],
    spoken: [Spoken; 2],
    roles: [Role; 2],
}

impl Media {
    /// For the caller's offer.
    pub(super) fn new(house: Arc<House>, caller: Offer) -> Self {
        Self { house, state: State::Offered(Box::new(caller)) }
    }

    /// The offer for a contact, over a pair of its own. Nothing once somebody has taken the session.
    pub(super) fn offer(&self, pair: &Pair, spoken: &mut Spoken) -> Option<Vec<u8>> {
        let State::Offered(caller) = &self.state else { return None };
        // RFC 6135 §4.2.2: who can be reached offers both.
        let say = |origin| self.ours(pair, Side::Callee, origin, Setup::ActPass, |ours| caller.for_peer(ours));
        Some(spoken.say(say).to_vec())
    }

    /// Reads the answer in a contact's 2xx; nothing when it cannot be worked with.
    pub(super) fn answer_of(response: View<'_>) -> Option<Answer> {
        if is_sdp(response) { Answer::read(response.body()).ok() } else { None }
    }

    /// The session is taken with this answer: programs the switch, and gives the answer for the caller. Nothing when a
    /// path cannot be programmed.
    pub(super) fn take(&mut self, pair: Arc<Pair>, answer: &Answer, callee: Spoken, id: u64) -> Option<Vec<u8>> {
        let State::Offered(offer) = &self.state else { return None };
        pair.set_their_path(Side::Caller, offer.remote_path()).ok()?;
        pair.set_their_path(Side::Callee, answer.remote_path()).ok()?;
        let roles = [sdp::role_to_answer(offer.setup(), true), sdp::role_from_answer(answer.setup())];
        let mut caller = Spoken::new(id);
        let setup = roles[0].setup();
        let say = |origin| self.ours(&pair, Side::Caller, origin, setup, |ours| offer.answer(answer, ours));
        let body = caller.say(say).to_vec();
        let said = [offer.description().to_bytes().into(), answer.description().to_bytes().into()];
        self.state = State::Taken(Box::new(Taken { pair, said, spoken: [caller, callee], roles }));
        Some(body)
    }

    /// The pair of the session that was taken.
    pub(super) fn pair(&self) -> Option<&Arc<Pair>> {
        self.taken().map(|taken| &taken.pair)
    }

    /// Opens the connection of a side where it is ours to open. `false`: it cannot be.
    pub(super) fn connect(&self, side: Side) -> bool {
        match self.taken() {
            Some(taken) if taken.roles[side as usize] == Role::Active => {
                taken.pair.connect(side, &self.house.switch, &self.house.flows).is_some()
            }
            _ => true,
        }
    }

    /// What we answer a new offer of a side with, or, when it makes none, what we offer it: as before, over the same
    /// path. `true`: the side has moved, and its connection must be made anew. The other side is not asked.
    pub(super) fn agree(&mut self, side: Side, offer: Option<Offer>) -> Option<(Vec<u8>, bool)> {
        let (taken, at) = (self.taken()?, side as usize);
        let Some(offer) = offer else { return Some((taken.spoken[at].last().to_vec(), false)) };
        let has_moved = !offer.keeps_path_of(&Offer::read(&taken.said[at]).ok()?);
        let role = if has_moved { sdp::role_to_answer(offer.setup(), true) } else { taken.roles[at] };
        let other = self.line(&taken.pair, &Offer::read(&taken.said[side.other() as usize]).ok()?)?;
        if has_moved {
            taken.pair.set_their_path(side, offer.remote_path()).ok()?;
        }
        let mut spoken = taken.spoken[at].clone();
        let say = |origin| self.ours(&taken.pair, side, origin, role.setup(), |ours| offer.answer(&other, ours));
        let body = spoken.say(say).to_vec();
        let taken = self.taken_mut()?;
        taken.spoken[at] = spoken;
        taken.said[at] = offer.description().to_bytes().into();
        taken.roles[at] = role;
        Some((body, has_moved))
    }

    /// The answer that came in an ACK, to an offer that we made because the side made none. `true`: it has moved.
    pub(super) fn hear(&mut self, side: Side, ack: View<'_>) -> bool {
        let Some(taken) = self.taken_mut() else { return false };
        let Some(answer) = Offer::read(ack.body()).ok().filter(|_| is_sdp(ack)) else { return false };
        let said = &mut taken.said[side as usize];
        let has_moved = Offer::read(said).is_ok_and(|before| !answer.keeps_path_of(&before));
        if has_moved && taken.pair.set_their_path(side, answer.remote_path()).is_err() {
            return false;
        }
        *said = answer.description().to_bytes().into();
        has_moved
    }

    fn taken(&self) -> Option<&Taken> {
        match &self.state {
            State::Taken(taken) => Some(taken),
            State::Offered(_) => None,
        }
    }

    fn taken_mut(&mut self) -> Option<&mut Taken> {
        match &mut self.state {
            State::Taken(taken) => Some(taken),
            State::Offered(_) => None,
        }
    }

    /// A description as the other side is told it: one line.
    fn line(&self, pair: &Pair, said: &Offer) -> Option<Answer> {
        let origin = Origin { id: 0, version: 0 };
        let text = self.ours(pair, Side::Callee, origin, Setup::ActPass, |ours| said.for_peer(ours));
        Answer::read(&text).ok()
    }

    fn ours<R>(&self, pair: &Pair, side: Side, origin: Origin, setup: Setup, write: impl FnOnce(&Ours<'_>) -> R) -> R {
        let place = self.house.switch.place();
        let host = place.map_or("", |place| place.host.trim_matches(['[', ']']));
        let port = place.map_or(0, |place| place.port);
        write(&Ours { origin, host, port, path: pair.our_path(side), is_tls: false, setup })
    }
}
