//! Other domains on the data plane: what comes from there to users of ours, and what users of ours send there. Nothing
//! passes from one other domain to another.
//!
//! ```text
//! user of ours ──> policy ──> known? ──yes──> its servers, one after the other ──> passage, session
//!                               └──no──> parked until they are found (decisions D19), then the same
//! ```

use std::sync::Arc;

use base::Aor;
use im::routing::{Business, Route, business};
use locate::{Failure, Host, Located, Number, Place, Plan, Uris};
use sip::{Method, Scheme, Uri};

use super::{Case, Record, Sender, Target, Who, aor_of};
use crate::contact::Contact;
use crate::hop::Hop;
use crate::house::House;
use crate::locator::{Finding, NotFound};
use crate::message::{Callee, Destination};
use crate::metrics::Count;
use crate::turn::{self, Turn};

/// Whether what comes by this hop may be from a user of that domain. Where TLS is a must, the certificate of the connection
/// has to name the domain (RFC 5922 §7.3); as long as nothing here speaks TLS, none does.
fn may_speak_for(house: &House, _hop: Hop, _domain: &str) -> bool {
    !house.config.federation.require_tls
}

/// Where a user of another domain is called.
#[derive(Clone)]
struct Abroad {
    /// The Request-URI there.
    uri: String,
    /// Who it is, where a session is begun.
    aor: Aor,
    place: Place,
}

impl Abroad {
    /// Of a URI of any scheme that has a host.
    fn of(house: &House, uri: &Uri<'_>) -> Result<Self, im::Refusal> {
        let place = Place::of_uri(uri).map_err(|_| im::Refusal::new(404, "No Way To That Domain"))?;
        // RFC 3861 §3: whoever is found by an im: URI is spoken to as a SIP user.
        let uri = match uri.scheme {
            Scheme::Other => locate::place::sip_of_im(uri).unwrap_or_default(),
            Scheme::Sip | Scheme::Sips | Scheme::Tel => String::from_utf8_lossy(uri.text).into_owned(),
        };
        let place = if house.config.federation.require_tls { place.secured() } else { place };
        let aor = aor_of(uri.as_bytes()).ok_or(im::Refusal::new(404, "Nobody By That Name"))?;
        Ok(Self { uri, aor, place })
    }
}

impl Case<'_> {
    /// Who sends from another domain, where From says so. An address is no domain, and `.invalid` is nobody's (RFC 2606 §2).
    pub(super) fn neighbour(&self) -> Option<Aor> {
        if self.view.method() == Method::Register {
            return None;
        }
        let sender = self.view.from().ok().and_then(|from| aor_of(from.uri))?;
        let domain = sender.domain();
        let is_name = matches!(Place::of_host(domain).ok()?.host, Host::Name(_)) && !domain.ends_with(".invalid");
        (is_name && !sender.is_tel() && !self.house.config.is_ours(domain)).then_some(sender)
    }

    /// Whether another domain is heard. Who cannot show to be of it may still be somebody with a password.
    pub(super) fn admit(&self, turn: &mut Turn, sender: Aor, target: &Target) -> Who {
        let (house, domain) = (self.house, sender.domain());
        let (status, reason, lines) = if !house.config.federation.speaks_with(domain) {
            (403, "Domain Not Admitted", "")
        } else if !may_speak_for(house, self.from, domain) {
            self.challenge(turn, target, false);
            return Who::Nobody;
        } else if !house.neighbours.allows_domain(domain, self.now) {
            turn.counts.add(Count::RateLimited);
            (503, "Too Many From That Domain", "Retry-After: 1\r\n")
        } else {
            return Who::Neighbour(sender);
        };
        if self.allowed(turn) {
            self.reply(turn, status, reason, lines.as_bytes());
        }
        Who::Nobody
    }

    /// Whether it is for a number that nobody here is known to have. Strangers have none looked for.
    pub(super) fn is_unknown_number(&self, number: &Aor, sender: &Sender) -> bool {
        number.is_tel()
            && !matches!(sender, Sender::Neighbour(_))
            && self.house.locator.can_ask()
            && self.house.reach.get(number).is_none()
    }

    /// To whoever has a number (RFC 6116). A number that the DNS does not know may be one of ours.
    pub(super) fn call_number(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender, ours: Aor) {
        let (house, plan) = (self.house, self.plan());
        let way = self.way.as_ref().ok().and_then(|way| Uri::parse(way.uri).ok());
        let Some(number) = way.and_then(|uri| Number::of_uri(&uri, plan)) else {
            return self.receive(turn, record, sender, ours);
        };
        match house.locator.known_number(&number, self.now.at) {
            Some(found) => self.called(turn, record, sender, ours, found.map_err(NotFound::Failed)),
            None => self.park(
                record,
                sender,
                house.locator.find_number(number, self.now.at),
                |case, turn, record, sender, found| {
                    case.called(turn, record, sender, ours, found);
                },
            ),
        }
    }

    fn called(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender, ours: Aor, found: Finding<Arc<Uris>>) {
        // Also where the DNS cannot say: numbers of ours need none.
        let Ok(uris) = found else { return self.receive(turn, record, sender, ours) };
        for each in uris.iter() {
            let Ok(uri) = Uri::parse(each.uri.as_bytes()) else { continue };
            match self.route_uri(&uri) {
                // RFC 6116 §5.1: a number that leads to a number leads nowhere.
                Ok(Route::User(receiver)) if !receiver.is_tel() => return self.receive(turn, record, sender, receiver),
                Ok(Route::Elsewhere(_)) => return self.leave_to(turn, record, sender, &uri),
                _ => {}
            }
        }
        self.refuse(turn, record, 404, "No Way To That Number", b"");
    }

    /// To a user of another domain.
    pub(super) fn leave(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender) {
        match self.way.as_ref().ok().map(|way| Uri::parse(way.uri)) {
            Some(Ok(uri)) => self.leave_to(turn, record, sender, &uri),
            _ => self.refuse(turn, record, 400, "Malformed Request-URI", b""),
        }
    }

    fn leave_to(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender, uri: &Uri<'_>) {
        let (house, rest) = (self.house, self.way.as_ref().map(|way| way.rest.len()).unwrap_or_default());
        if let Some(reason) = self.forbids(sender) {
            return self.refuse(turn, record, 403, reason, b"");
        }
        let whose = sender.aor();
        if matches!(sender, Sender::Neighbour(_)) || !(whose.is_tel() || house.config.is_ours(whose.domain())) {
            return self.refuse(turn, record, 403, "Nothing Passes Through", b"");
        }
        if rest > 0 && !matches!(sender, Sender::Trusted(_)) {
            return self.refuse(turn, record, 403, "Not A Way Of Ours", b"");
        }
        if self.view.method() == Method::Message && self.view.body().len() > house.config.message_bytes {
            return self.refuse(turn, record, 413, "", b"");
        }
        let abroad = match Abroad::of(house, uri) {
            Ok(abroad) => abroad,
            Err(refusal) => return self.refuse(turn, record, refusal.status, refusal.reason, b""),
        };
        if !house.config.federation.speaks_with(abroad.aor.domain()) {
            return self.refuse(turn, record, 403, "Domain Not Admitted", b"");
        }
        if house.config.federation.require_tls && !house.locator.speaks().tls.any() {
            return self.refuse(turn, record, 404, "No TLS To Other Domains", b"");
        }
        match house.locator.known(&abroad.place, self.now.at) {
            Some(found) => self.depart(turn, record, sender, abroad, found.map_err(NotFound::Failed)),
            None => {
                let finding = house.locator.find(abroad.place.clone(), self.now.at);
                self.park(record, sender, finding, |case, turn, record, sender, found| {
                    case.depart(turn, record, sender, abroad, found);
                });
            }
        }
    }

    /// Its servers are known, or there are none.
    fn depart(
        &self,
        turn: &mut Turn,
        record: Record<'_>,
        sender: &Sender,
        abroad: Abroad,
        found: Finding<Arc<Located>>,
    ) {
        let located = match found {
            Ok(located) => located,
            Err(why) => return self.not_found(turn, record, why),
        };
        let Abroad { uri, aor, .. } = abroad;
        let Some(contact) = Contact::elsewhere(self.house, &uri, &located, self.from.listener(), self.now.at) else {
            turn.counts.add(Count::Looped);
            return self.refuse(turn, record, 482, "That Domain Leads Back Here", b"");
        };
        let contact = Box::new(contact);
        match business(self.view) {
            Business::Session => self.call(turn, record, sender, aor, Callee::Elsewhere(contact)),
            Business::Page | Business::Registrations | Business::Passage => {
                self.start_passage(turn, record, Destination::Contact(contact));
            }
        }
    }

    fn not_found(&self, turn: &mut Turn, record: Record<'_>, why: NotFound) {
        match why {
            NotFound::Failed(Failure::Nothing | Failure::Refused) => {
                self.refuse(turn, record, 404, "No Such Domain", b"")
            }
            NotFound::Failed(Failure::Unspoken) => self.refuse(turn, record, 404, "No Transport In Common", b""),
            NotFound::Failed(Failure::Unknown) | NotFound::Busy => {
                turn.counts.add(Count::Overloaded);
                self.refuse(turn, record, 503, "Domain Not Located", b"Retry-After: 5\r\n");
            }
        }
    }

    /// Waits for what is looked for; its repeats are absorbed meanwhile. How many wait is the locator's to bound; one that
    /// is dropped is answered 503.
    fn park<T: 'static>(
        &self,
        record: Record<'_>,
        sender: &Sender,
        finding: impl Future<Output = Finding<T>> + 'static,
        then: impl FnOnce(&Case<'_>, &mut Turn, Record<'_>, &Sender, Finding<T>) + 'static,
    ) {
        let (house, sender, answer) = (self.house.clone(), sender.clone(), self.answer(record));
        actix::spawn(async move {
            let found = finding.await;
            let now = answer.came(house.now());
            turn::fill_later(|turn| {
                let Some((slot, caller, request)) = answer.take_back() else { return };
                let record = Record { slot, house: &house, is_kept: false };
                then(&Case::of(&house, request.view(), caller, now), turn, record, &sender, found);
            });
        });
    }

    fn plan(&self) -> Plan<'_> {
        Plan { country: &self.house.config.dns.country, domains: &self.house.config.domains }
    }
}

#[cfg(test)]
#[path = "elsewhere_tests.rs"]
mod tests;
