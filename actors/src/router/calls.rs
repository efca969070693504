//! Sessions on the data plane: INVITEs, what comes within their dialogs, and what comes back for them. The session's key
//! stands in our tags and branches, so it is found without a table; only an INVITE's own transaction is looked up.

use std::sync::Arc;

use im::routing::{Business, Route, business};
use im::session_timer::Asked;
use sip::{Dialog, Message, Method, Name, View};

use super::{Case, Record, Sender, aor_of, passing};
use crate::hop::Hop;
use crate::house::House;
use crate::message::{Callee, Invite, SessionInput, SessionKey, Within};
use crate::metrics::Count;
use crate::reach::Reach;
use crate::session;
use crate::turn::Turn;

/// A response to a request of a session's. `false`: it is of none.
pub(super) fn respond(turn: &mut Turn, response: View<'_>) -> bool {
    let branch = response.top_via().ok().and_then(|via| SessionKey::of_branch(via.branch()?));
    let Some((session, _)) = branch else { return false };
    turn.session(session, SessionInput::Response(Message::copy_of(response)));
    true
}

/// An ACK: of an INVITE's own transaction, within a dialog of ours, or along the way of one that passes through us. What fits
/// none is dropped (RFC 3261 §17.1.1.3).
pub(super) fn acknowledge(house: &House, turn: &mut Turn, ack: View<'_>, from: Hop) {
    let key = house.transactions.key_as(ack, b"INVITE");
    if let Some(session) = house.sessions.of_invite(key) {
        turn.session(session, SessionInput::HopAck { key });
    } else if let Some(session) = session_of(ack) {
        turn.session(session, SessionInput::Ack(Message::copy_of(ack)));
    } else {
        passing::acknowledge(house, turn, ack, from);
    }
}

/// The session whose tag stands in To.
pub(super) fn session_of(request: View<'_>) -> Option<SessionKey> {
    SessionKey::of_tag(request.to().ok()?.tag()?)
}

/// Whether the sender of a request is who shows the password (RFC 3325 §9).
pub(super) fn says_who_it_is(view: View<'_>, row: &Reach) -> bool {
    view.from().ok().and_then(|from| aor_of(from.uri)).is_some_and(|from| row.is(&from))
}

impl Case<'_> {
    /// A CANCEL is answered here, by what is known of its INVITE; never challenged (RFC 3261 §9.2, §22.1).
    pub(super) fn cancel(&self, turn: &mut Turn) {
        let key = self.house.transactions.key_as(self.view, b"INVITE");
        let Some(session) = self.house.sessions.of_invite(key) else {
            return self.refuse_unasked(turn, 481, "", b"");
        };
        let reason =
            self.view.first(Name::Reason).map(|reason| String::from_utf8_lossy(reason).replace(['\r', '\n'], " "));
        turn.session(session, SessionInput::Cancel { key, reason });
        self.reply(turn, 200, "", b"");
    }

    /// An INVITE that a session serves, once more. `false`: it is of none.
    pub(super) fn repeated_invite(&self, turn: &mut Turn) -> bool {
        if self.view.method() != Method::Invite {
            return false;
        }
        let Some(session) = self.house.sessions.of_invite(self.key) else { return false };
        turn.counts.add(Count::Repeats);
        turn.session(session, SessionInput::Repeated { key: self.key });
        true
    }

    /// Within a dialog of ours: the session decides.
    pub(super) fn within(&self, turn: &mut Turn, record: Record<'_>, session: SessionKey, sender: &Sender) {
        let is_vouched = matches!(sender, Sender::Trusted(_));
        let within = Within { sender: sender.aor().clone(), is_vouched, answer: self.answer(record) };
        turn.session(session, SessionInput::Request(Box::new(within)));
    }

    /// An INVITE that a session takes.
    pub(super) fn call(
        &self,
        turn: &mut Turn,
        record: Record<'_>,
        sender: &Sender,
        receiver: base::Aor,
        callee: Callee,
    ) {
        let (house, view): (&Arc<House>, _) = (self.house, self.view);
        if view.to().is_ok_and(|to| to.tag().is_some()) {
            return self.refuse(turn, record, 481, "", b""); // RFC 3261 §12.2.2: of a dialog that is none of ours
        }
        if let Sender::User(row) = sender {
            if !row.may_call {
                return self.refuse(turn, record, 403, "Not in the service profile", b"");
            }
            if !says_who_it_is(view, row) {
                return self.refuse(turn, record, 403, "From is somebody else", b"");
            }
        }
        if let Err(error) = Dialog::of_request(view, "") {
            let fault = sip::Fault::from(error);
            return self.refuse(turn, record, fault.status, fault.reason, b"");
        }
        // RFC 4028 §9.
        if let Err(least_s) = Asked::by(view).answer(house.config.session_timer, None) {
            return self.refuse(turn, record, 422, "", format!("Min-SE: {least_s}\r\n").as_bytes());
        }
        if !view.is_sips() && has_sips_contact(view) && !self.from.carrier().is_secure() {
            // RFC 5630 §5.3: all that we ask him in the dialog would have to go there by TLS.
            return self.refuse(turn, record, 400, "SIPS Contact In A SIP Request", b"");
        }
        let offer = match session::offer_of(view) {
            Ok(Some(offer)) => offer,
            // Who wants us to offer cannot have what we do not know yet: what the callee takes.
            Ok(None) => return self.refuse(turn, record, 488, "An Offer Is Needed", b""),
            Err((status, reason, lines)) => return self.refuse(turn, record, status, reason, lines),
        };
        if house.switch.place().is_none() {
            return self.refuse(turn, record, 488, "MSRP Is Not Spoken Here", b"");
        }
        let receiver = house.reach.get(&receiver).map_or(receiver, |row| row.aor.clone());
        if !house.sessions.has_room(&receiver) {
            turn.counts.add(Count::SessionsRefused);
            return self.refuse(turn, record, 486, "", b""); // RFC 3261 §21.4.24: he can take no more calls
        }
        let Some(seat) = house.sessions.seat(sender.aor()) else {
            turn.counts.add(Count::SessionsRefused);
            // RFC 3261 §21.5.4: for this caller there is nothing left for now.
            return self.refuse(turn, record, 503, "Too Many Sessions", b"Retry-After: 30\r\n");
        };
        let key = house.sessions.new_key();
        let Some(entry) = house.sessions.enter(self.key, view, key) else {
            return self.refuse(turn, record, 482, "Merged Request", b"");
        };
        turn.counts.add(Count::SessionsCalled);
        let (sender, answer) = (sender.aor().clone(), self.answer(record));
        let invite = Invite { sender, receiver, answer, entry, offer, callee, seat };
        turn.session(key, SessionInput::Invite(Box::new(invite)));
    }
}

fn has_sips_contact(view: View<'_>) -> bool {
    let Ok(sip::Contacts::List(list)) = view.contacts() else { return false };
    list.iter().any(|contact| contact.parsed_uri().is_ok_and(|uri| uri.scheme == sip::Scheme::Sips))
}

/// Extensions that a request asks for and that nobody here has: of those that end here all, of those that pass the ones
/// that are asked of proxies (RFC 3261 §8.2.2.3, §16.3 step 5).
pub(super) fn unsupported<'v>(view: View<'v>, target: &Route) -> Vec<&'v [u8]> {
    let method = view.method();
    let is_ours = *target == Route::Ours;
    // A session's two halves are user agents both: the INVITE ends here.
    let is_session = || method == Method::Invite && business(view) == Business::Session;
    let ends_here = is_ours || (matches!(target, Route::User(_)) && is_session());
    let known: &[&str] = match (method, target) {
        (Method::Register, Route::Ours) => &["path", "outbound", "gruu"],
        // Of a session, or within one.
        (Method::Invite, Route::User(_) | Route::Ours) => &["100rel", "timer"],
        (Method::Update, Route::Ours) => &["timer"],
        _ => &[],
    };
    let is_known = |tag: &[u8]| known.iter().any(|known| tag.eq_ignore_ascii_case(known.as_bytes()));
    let asked = view.values(Name::Require).filter(|_| ends_here);
    asked.chain(view.values(Name::ProxyRequire)).filter(|tag| !tag.is_empty() && !is_known(tag)).collect()
}
