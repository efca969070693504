//! The junction of the data plane: bytes from a socket become a value, the rules say what it is for, and it is relayed,
//! answered, or offered to a user's actor. Runs on whichever shard read the bytes; takes no mailbox and waits for nobody.

mod calls;
mod devices;
mod elsewhere;
pub(crate) mod identity;
pub(crate) mod passing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::limits::MAX_FORWARDS;
use base::{Aor, Now};
use im::routing::{Business, Route, business};
use sip::digest::{Credentials, Verdict};
use sip::{Forward, Layout, Method, Name, ParseError, Reply, Scheme, Uri, Via, View};
use smallvec::SmallVec;

use crate::asker::Asker;
use crate::hop::Hop;
use crate::house::House;
use crate::message::{Callee, Offer, SessionKey};
use crate::metrics::Count;
use crate::reach::{Climb, Reach};
use crate::transactions::{Answer, Parties, SIP_PORT, Served, Slot};
use crate::turn::Turn;

/// What we answer OPTIONS and 405 with (RFC 3261 §20.5).
const ALLOW: &[u8] = b"Allow: REGISTER, MESSAGE, INVITE, ACK, CANCEL, BYE, SUBSCRIBE, OPTIONS, UPDATE, PRACK\r\n";
/// One datagram.
pub fn datagram(house: &Arc<House>, turn: &mut Turn, layout: &mut Layout, bytes: &[u8], from: Hop, now: Now) {
    match sip::parse_datagram(bytes, layout) {
        Ok(()) => message(house, turn, layout.view(bytes), from, now),
        Err(error) => malformed(house, turn, layout.view(bytes), &error, from, now),
    }
}

/// What cannot be read: answered where it can be, dropped and counted where not.
pub fn malformed(house: &Arc<House>, turn: &mut Turn, view: View<'_>, error: &ParseError, from: Hop, now: Now) {
    match error.status() {
        Some((status, reason)) if view.is_request() && view.method() != Method::Ack => {
            let case = Case::of(house, view, from, now);
            case.refuse_unasked(turn, status, reason, b"");
        }
        // A keepalive of CRLF or NUL alone is no garbage (RFC 5626 §4.4.1 asks for it on streams only; many send it).
        _ if view.bytes().iter().all(|byte| b"\r\n\0".contains(byte)) => {}
        _ => turn.counts.add(Count::Garbage),
    }
}

/// One whole message.
pub fn message(house: &Arc<House>, turn: &mut Turn, view: View<'_>, from: Hop, now: Now) {
    if !view.is_request() {
        turn.counts.add(Count::Responses);
        let cleaned = identity::cleaned(house, view, from);
        let view = cleaned.as_ref().map_or(view, sip::Message::view);
        if !calls::respond(turn, view) && !house.transactions.respond(turn, view, now) {
            turn.counts.add(Count::Strays);
        }
        return;
    }
    turn.counts.add(Count::Requests);
    if view.method() == Method::Ack {
        return calls::acknowledge(house, turn, view, from); // an ACK is never answered (RFC 3261 §17.1.1.3)
    }
    let case = Case::of(house, view, from, now);
    if let Err(fault) = view.check_request() {
        return case.refuse_unasked(turn, fault.status, fault.reason, b"");
    }
    if case.came_back(turn) {
        return;
    }
    if let Some(known) = house.transactions.repeat(case.key) {
        return case.repeated(turn, known);
    }
    if case.repeated_invite(turn) {
        return;
    }
    if view.method() == Method::Cancel {
        return case.cancel(turn);
    }
    let target = case.route();
    if let Some((refusal, lines)) = case.fault(&target) {
        turn.counts.add_many(Count::Looped, u64::from(refusal.status == 482));
        return case.refuse_unasked(turn, refusal.status, refusal.reason, &lines);
    }
    match case.identify(turn, &target) {
        Who::Nobody => {}
        Who::Unknown(name) => {
            if let Some(record) = case.begin(turn) {
                turn.offer(name, Offer::Missing { answer: case.answer(record) });
            }
        }
        Who::Perhaps(row, receiver) => {
            if let Some(record) = case.begin(turn) {
                turn.offer(row.aor.clone(), Offer::Perhaps { receiver, answer: case.answer(record) });
            }
        }
        Who::User(row) => {
            if row.climb.contains(Climb::QUEUED) && view.method() != Method::Register {
                turn.offer(row.aor.clone(), Offer::Active);
            }
            if let Some(record) = case.begin(turn) {
                case.decide(turn, record, target, &Sender::User(row));
            }
        }
        Who::Trusted(sender) => {
            if let Some(record) = case.begin(turn) {
                case.decide(turn, record, target, &Sender::Trusted(sender));
            }
        }
        Who::Neighbour(sender) => {
            if let Some(record) = case.begin(turn) {
                case.decide(turn, record, target, &Sender::Neighbour(sender));
            }
        }
    }
}

/// The router sees a request again whose sender's row was missing and has been loaded since; or was found not to exist.
pub fn again(house: &Arc<House>, turn: &mut Turn, answer: Answer, now: Now) {
    // As if it were read when it came: its times are reckoned from then.
    let now = answer.came(now);
    let Some((slot, caller, request)) = answer.take_back() else { return };
    let case = Case::of(house, request.view(), caller, now);
    let record = Record { slot, house, is_kept: false };
    let target = case.route();
    match case.identify(turn, &target) {
        // What it heard is the same for a repeat: the record is dropped.
        Who::Nobody => {}
        Who::Unknown(_) => {
            turn.counts.add(Count::AuthFailed);
            case.challenge(turn, &target, false);
        }
        Who::Perhaps(row, receiver) => {
            turn.offer(row.aor.clone(), Offer::Perhaps { receiver, answer: case.answer(record) });
        }
        Who::User(row) => case.decide(turn, record, target, &Sender::User(row)),
        Who::Trusted(sender) => case.decide(turn, record, target, &Sender::Trusted(sender)),
        Who::Neighbour(sender) => case.decide(turn, record, target, &Sender::Neighbour(sender)),
    }
}

/// A page message that was not taken before the start after all: its sender is challenged.
pub(crate) fn challenge(house: &Arc<House>, turn: &mut Turn, answer: Answer, now: Now) {
    let Some((slot, caller, request)) = answer.take_back() else { return };
    house.transactions.forget(slot);
    let case = Case::of(house, request.view(), caller, now);
    case.challenge(turn, &case.route(), true);
}

/// For so long after a start there may be requests under way that were signed before it: twice timer F.
const YOUTH: Duration = Duration::from_secs(64);

/// Who sent a request.
enum Who {
    /// Nobody we know; the answer has left, or none is due.
    Nobody,
    /// Somebody whose row is not there.
    Unknown(Aor),
    /// A user who has shown the password.
    User(Arc<Reach>),
    /// A user who has shown the password with a nonce from before the start, in a page message: that may have been taken
    /// then.
    Perhaps(Arc<Reach>, Aor),
    /// Somebody for whom a trusted peer speaks.
    Trusted(Aor),
    /// Somebody of another domain, for whom that speaks.
    Neighbour(Aor),
}

#[derive(Clone)]
enum Sender {
    User(Arc<Reach>),
    Trusted(Aor),
    Neighbour(Aor),
}

impl Sender {
    fn aor(&self) -> &Aor {
        match self {
            Self::User(row) => &row.aor,
            Self::Trusted(aor) | Self::Neighbour(aor) => aor,
        }
    }

    fn is(&self, address: &Aor) -> bool {
        match self {
            Self::User(row) => row.is(address),
            Self::Trusted(aor) | Self::Neighbour(aor) => aor == address,
        }
    }
}

type Target = Result<Route, im::Refusal>;

/// One request, with the facts that every step asks for.
struct Case<'a> {
    house: &'a Arc<House>,
    view: View<'a>,
    /// Where it came from, and where its answer goes.
    from: Hop,
    now: Now,
    /// Its transaction's identity.
    key: u64,
    /// The session in whose dialog it is.
    session: Option<SessionKey>,
    /// Who of ours writes branches like its own.
    asker: Option<Asker>,
    /// What its routes say.
    way: Result<passing::Way<'a>, im::Refusal>,
}

/// A new transaction's record. Dropped before somebody answers for it, it is forgotten: also when a turn panics.
struct Record<'a> {
    slot: Slot,
    house: &'a House,
    is_kept: bool,
}

impl Record<'_> {
    fn keep(mut self) -> Slot {
        self.is_kept = true;
        self.slot
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.house.transactions.forget(self.slot);
        }
    }
}

impl<'a> Case<'a> {
    fn of(house: &'a Arc<House>, view: View<'a>, from: Hop, now: Now) -> Self {
        let (key, session) = (house.transactions.key(view), calls::session_of(view));
        let (way, via) = (passing::read(house, view), view.top_via().ok());
        let asker = via.as_ref().and_then(|via| Asker::of_branch(via.branch()?));
        Self { house, view, from: way_back(via.as_ref(), from), now, key, session, asker, way }
    }

    fn route(&self) -> Target {
        if self.session.is_some() {
            return Ok(Route::Ours); // whatever the Request-URI says: it is the Contact that we gave, or should be
        }
        let way = self.way.as_ref().map_err(|refusal| *refusal)?;
        if way.way.is_some() {
            return Ok(Route::Along);
        }
        if let Some(watched) = devices::watched(self.view).filter(|watched| self.house.config.is_ours(watched.domain()))
        {
            return Ok(Route::User(watched));
        }
        let uri = Uri::parse(way.uri).map_err(|_| im::Refusal::new(400, "Malformed Request-URI"))?;
        match self.device()? {
            Some((aor, _)) => Ok(Route::User(aor)),
            None => self.route_uri(&uri),
        }
    }

    fn route_uri(&self, uri: &Uri<'_>) -> Target {
        let (routing, config) = (&self.house.routing, &self.house.config);
        match uri.scheme {
            // However it is written, a number is one address (RFC 3966 §4).
            Scheme::Tel => {
                let plan = locate::Plan { country: &config.dns.country, domains: &config.domains };
                let number = locate::Number::of_uri(uri, plan).and_then(|number| number.aor());
                number.map_or_else(|| routing.route(uri), |aor| Ok(Route::User(aor)))
            }
            // RFC 3861 §3: the SIP user of that name.
            Scheme::Other => match locate::place::sip_of_im(uri) {
                Some(sip) => Uri::parse(sip.as_bytes()).map_or_else(|_| routing.route(uri), |sip| routing.route(&sip)),
                None => routing.route(uri),
            },
            Scheme::Sip | Scheme::Sips => routing.route(uri),
        }
    }

    /// A request of ours that has come back to us, from a contact that leads to this house itself by whatever name: it
    /// goes nowhere, and its asker learns so (RFC 3261 §16.3 step 4; no 482, which would say that its receiver has it).
    fn came_back(&self, turn: &mut Turn) -> bool {
        let house = self.house;
        // Another house of this kind writes branches like ours.
        let is_ours = |asker: &Asker| match asker {
            Asker::Page(slot) => house.transactions.is_open(*slot),
            Asker::Session(key, _) => house.sessions.knows(*key),
        };
        let Some(asker) = self.asker.filter(is_ours) else { return false };
        turn.counts.add(Count::Looped);
        house.transactions.unreachable(turn, asker);
        true
    }

    /// Faults that are answered before anything is asked of the sender (RFC 3261 §8.2, §16.3).
    fn fault(&self, target: &Target) -> Option<(im::Refusal, Vec<u8>)> {
        let method = self.view.method();
        let plain = |status| im::Refusal::new(status, "");
        let target = match target {
            Err(refusal) => return Some((*refusal, Vec::new())),
            Ok(target) => target,
        };
        let is_ours = *target == Route::Ours;
        // RFC 3261 §16.3 step 3: what passes needs a hop; what ends here does not.
        if self.is_at_end() && !is_ours && method != Method::Options {
            return Some((plain(483), Vec::new()));
        }
        if !is_ours && passing::is_looped(self.house, self.view) {
            return Some((plain(482), Vec::new()));
        }
        let unsupported = calls::unsupported(self.view, target);
        if !unsupported.is_empty() {
            let lines = [b"Unsupported: ", &*unsupported.join(&b", "[..]), b"\r\n"].concat();
            return Some((plain(420), lines));
        }
        (method == Method::Other && is_ours).then(|| (plain(501), ALLOW.to_vec()))
    }

    /// Whether it may go no further.
    fn is_at_end(&self) -> bool {
        self.view.max_forwards().ok().flatten() == Some(0)
    }

    fn identify(&self, turn: &mut Turn, target: &Target) -> Who {
        let (house, view, now) = (self.house, self.view, self.now);
        if house.config.trusts(self.from.peer().ip()) {
            // Decisions D7: P-Asserted-Identity, without it From.
            let asserted =
                view.values(Name::PAssertedIdentity).find_map(|value| aor_of(sip::NameAddr::parse(value)?.uri));
            let is_about_another = view.method() == Method::Register
                && im::registrar::is_third_party(view, |domain| house.config.is_ours(domain));
            let named = if is_about_another { view.to() } else { view.from() };
            return match asserted.or_else(|| aor_of(named.ok()?.uri)) {
                Some(sender) => Who::Trusted(sender),
                None => {
                    self.reply(turn, 400, "From names no user", b"");
                    Who::Nobody
                }
            };
        }
        let shown = [Name::ProxyAuthorization, Name::Authorization].into_iter().flat_map(|name| view.values(name));
        let mut broken = None;
        let mut shown = shown.filter_map(|value| Credentials::parse(value).map_err(|error| broken = Some(error)).ok());
        let found = shown.find_map(|shown| {
            let domain = self.domain_of(&shown)?;
            Some((House::login(shown.username.as_bytes(), &domain)?, shown))
        });
        let Some((name, credentials)) = found else {
            match broken {
                // RFC 7616 §3.4: what is improper or missing.
                Some(error) if error.is_bad_request() => self.refuse_unasked(turn, 400, "Malformed Credentials", b""),
                _ => {
                    if let Some(sender) = self.neighbour() {
                        return self.admit(turn, sender, target);
                    }
                    self.challenge(turn, target, false);
                }
            }
            return Who::Nobody;
        };
        let Some(row) = house.reach.get_login(&name) else {
            // Nobody makes the store work by guessing: the nonce must be one that we have sent to somebody, or that we
            // may have sent before the start.
            let is_young = now.at.saturating_duration_since(house.started.at) < YOUTH;
            let is_known = match house.nonces.look(&credentials.nonce, now) {
                Verdict::Good => true,
                Verdict::Stale => false,
                Verdict::Forged | Verdict::Replayed => is_young,
            };
            if !is_known {
                self.challenge(turn, target, true);
                return Who::Nobody;
            }
            return if self.allowed(turn) { Who::Unknown(name) } else { Who::Nobody };
        };
        let is_offered = house.config.algorithms.contains(&credentials.algorithm);
        if !is_offered || !credentials.verify(&row.ha1, view.method_text()) {
            turn.counts.add(Count::AuthFailed);
            self.challenge(turn, target, false);
            return Who::Nobody;
        }
        if !self.is_signed(credentials.uri.as_bytes(), target) {
            // RFC 7616 §3.4.6: what was signed is not what was sent.
            self.refuse_unasked(turn, 400, "Digest uri is not the Request-URI", b"");
            return Who::Nobody;
        }
        match house.nonces.check(&credentials.nonce, credentials.nc, now) {
            Verdict::Good => return Who::User(row),
            // The password is right, only the nonce is old, or none of ours any more: so it is after every start (D6).
            Verdict::Stale => self.challenge(turn, target, true),
            Verdict::Forged => {
                if let (Method::Message, Ok(Route::User(receiver))) = (view.method(), target) {
                    return Who::Perhaps(row, receiver.clone());
                }
                self.challenge(turn, target, true);
            }
            Verdict::Replayed => {
                turn.counts.add(Count::AuthFailed);
                self.challenge(turn, target, false);
            }
        }
        Who::Nobody
    }

    /// Whether what was signed is what was sent. One name of ours is as good as another: some clients sign our address
    /// and ask our domain, or the other way round.
    fn is_signed(&self, signed: &[u8], target: &Target) -> bool {
        let sent = self.view.request_uri();
        if signed == sent {
            return true;
        }
        let (Ok(signed), Ok(sent)) = (Uri::parse(signed), Uri::parse(sent)) else { return false };
        let are_ours = *target == Ok(Route::Ours) && self.house.routing.route(&signed) == Ok(Route::Ours);
        are_ours || signed.same_as(&sent)
    }

    /// The domain of ours that credentials are for; nothing when their realm is not ours.
    fn domain_of(&self, credentials: &Credentials<'_>) -> Option<String> {
        let (house, realm) = (self.house, &*credentials.realm);
        match &house.config.realm {
            None => house.config.domains.iter().find(|own| own.eq_ignore_ascii_case(realm)).cloned(),
            Some(own) if own == realm => {
                let said = aor_of(self.view.from().ok()?.uri).map(|aor| aor.domain().to_owned());
                said.filter(|domain| house.config.is_ours(domain)).or_else(|| house.config.domains.first().cloned())
            }
            Some(_) => None,
        }
    }

    /// 401 from the registrar and from ourselves as a user agent, 407 where we are the proxy (RFC 3261 §22.1); no state is kept.
    fn challenge(&self, turn: &mut Turn, target: &Target, stale: bool) {
        if !self.allowed(turn) {
            return;
        }
        turn.counts.add(Count::Challenged);
        let (house, view) = (self.house, self.view);
        let is_register = view.method() == Method::Register;
        let is_proxied = matches!(target, Ok(Route::User(_) | Route::Along | Route::Elsewhere(_))) && !is_register;
        let (status, header) = if is_proxied { (407, Name::ProxyAuthenticate) } else { (401, Name::WwwAuthenticate) };
        let whose = if is_register { view.to() } else { view.from() };
        let domain = whose.ok().and_then(|whose| aor_of(whose.uri)).map(|aor| aor.domain().to_owned());
        let domain = domain.filter(|domain| house.config.is_ours(domain));
        let domain = domain.as_deref().or(house.config.domains.first().map(String::as_str)).unwrap_or_default();
        let realm = house.config.realm_of(domain);
        let nonce = house.nonces.issue(self.now);
        let mut lines = Vec::with_capacity(400);
        sip::digest::challenge(&mut lines, header.as_str(), realm, nonce.as_str(), stale, &house.config.algorithms);
        self.reply(turn, status, "", &lines);
    }

    /// Whether a source may have one more answer without credentials.
    fn allowed(&self, turn: &mut Turn) -> bool {
        let ip = self.from.peer().ip();
        let allowed = self.house.config.trusts(ip) || self.house.sources.allows(ip, self.now);
        if !allowed {
            turn.counts.add(Count::RateLimited);
        }
        allowed
    }

    /// What becomes of a request whose sender is known.
    fn decide(&self, turn: &mut Turn, record: Record<'_>, target: Target, sender: &Sender) {
        let target = match target {
            Ok(target) => target,
            Err(refusal) => return self.refuse(turn, record, refusal.status, refusal.reason, b""),
        };
        if let Some(session) = self.session {
            return self.within(turn, record, session, sender);
        }
        let away = target.refusal();
        match (self.view.method(), target) {
            (Method::Register, Route::Ours) => {
                let Some(to) = self.view.to().ok().and_then(|to| aor_of(to.uri)) else {
                    return self.refuse(turn, record, 400, "To names no user", b"");
                };
                if !sender.is(&to) {
                    return self.refuse(turn, record, 403, "Nobody registers for somebody else", b"");
                }
                if !to.is_tel() && !self.house.config.is_ours(to.domain()) {
                    return self.refuse(turn, record, 404, "Not a domain of this registrar", b"");
                }
                let owner = if matches!(sender, Sender::User(_)) { sender.aor().clone() } else { to };
                turn.offer(owner, Offer::Register(self.answer(record)));
            }
            (Method::Register, _) => self.refuse(turn, record, 404, "Not a domain of this registrar", b""),
            (Method::Options, Route::Ours) => self.options(turn, record),
            // RFC 3261 §16.3 step 3: it ends here, whoever it is for.
            (Method::Options, Route::User(_) | Route::Along) if self.is_at_end() => self.options(turn, record),
            (_, Route::Along) => self.pass_along(turn, record, sender),
            // RFC 3261 §15.1.2: of a dialog that is none of ours.
            (Method::Bye, Route::User(_)) => self.refuse(turn, record, 481, "", b""),
            (_, Route::User(number)) if self.is_unknown_number(&number, sender) => {
                self.call_number(turn, record, sender, number);
            }
            (_, Route::User(receiver)) => self.receive(turn, record, sender, receiver),
            (_, Route::Elsewhere(_)) => self.leave(turn, record, sender),
            (_, _) => match away {
                Some(refusal) => self.refuse(turn, record, refusal.status, refusal.reason, b""),
                None => self.refuse(turn, record, 405, "", ALLOW),
            },
        }
    }

    /// For one of our users.
    fn receive(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender, receiver: Aor) {
        match business(self.view) {
            Business::Page => self.page(turn, record, sender, receiver),
            Business::Session => {
                let receiver = self.house.reach.get(&receiver).map_or(receiver, |row| row.aor.clone());
                self.call(turn, record, sender, receiver, Callee::Ours(Box::new(self.wanted())));
            }
            Business::Registrations => self.watch(turn, record, sender, receiver),
            Business::Passage => self.pass(turn, record, sender, receiver),
        }
    }

    fn page(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender, receiver: Aor) {
        let (house, view) = (self.house, self.view);
        if let Sender::User(row) = sender {
            if !row.may_page {
                return self.refuse(turn, record, 403, "Not in the service profile", b"");
            }
            // The sender is who shows the password: From must say the same (R-301, RFC 3325 §9).
            if !calls::says_who_it_is(view, row) {
                return self.refuse(turn, record, 403, "From is somebody else", b"");
            }
        }
        if view.body().len() > house.config.message_bytes {
            return self.refuse(turn, record, 413, "", b"");
        }
        let row = house.reach.get(&receiver);
        let device = self.wanted_device();
        let is_for_any = device.is_none() && !im::preferences::may_exclude(view);
        let way = row.as_ref().filter(|_| is_for_any).and_then(|row| {
            let way = row.only_way(self.now.unix_s())?;
            Some((row, way, way.uri(view.is_sips())?))
        });
        match way {
            Some((row, way, uri)) => {
                turn.counts.add(Count::Relayed);
                let parties = Parties { sender: sender.aor(), receiver: &row.aor };
                house.transactions.relay(turn, record.slot, way.hop, parties, self.now, |out, branch| {
                    let onward = Onward { to: way.hop, contact: uri, branch, add: b"" };
                    forward(house, out, view, self.from, &onward);
                });
                record.keep();
            }
            None => {
                let owner = row.as_ref().map_or(receiver, |row| row.aor.clone());
                turn.offer(owner, Offer::Page { sender: sender.aor().clone(), answer: self.answer(record), device });
            }
        }
    }

    /// A record for a request that will be answered; a repeat that slipped in is absorbed.
    fn begin(&self, turn: &mut Turn) -> Option<Record<'a>> {
        match self.house.transactions.serve(self.key, self.from) {
            Served::New(slot) => Some(Record { slot, house: self.house, is_kept: false }),
            Served::Full => {
                turn.counts.add(Count::Overloaded);
                self.reply(turn, 503, "", b"Retry-After: 5\r\n");
                None
            }
            known => {
                self.repeated(turn, known);
                None
            }
        }
    }

    /// The request for an actor, and the way back.
    fn answer(&self, record: Record<'_>) -> Answer {
        let request = sip::Message::copy_of(self.view);
        Answer::new(record.keep(), self.from, request, self.now, self.house.transactions.clone())
    }

    fn repeated(&self, turn: &mut Turn, known: Served) {
        turn.counts.add(Count::Repeats);
        if let Served::Answered(delta) = known {
            let start = turn.arena.len();
            delta.write(&mut turn.arena, self.view, Some(self.from.peer()));
            self.house.transactions.send_back(turn, self.from, start);
        }
    }

    /// The final answer to somebody who is known: kept for the repeats of his request, whose credentials are used up.
    fn refuse(&self, turn: &mut Turn, record: Record<'_>, status: u16, reason: &str, lines: &[u8]) {
        let tag = self.house.transactions.tag(self.key);
        let reply = Reply { status, reason, to_tag: &tag, source: Some(self.from.peer()), lines, body: b"" };
        self.house.transactions.answer(turn, record.keep(), self.from, self.view, &reply, self.now);
    }

    /// The answer to a request that is no request, whoever sent it: as many as a source may have.
    fn refuse_unasked(&self, turn: &mut Turn, status: u16, reason: &str, lines: &[u8]) {
        turn.counts.add(Count::Malformed);
        if self.allowed(turn) {
            self.reply(turn, status, reason, lines);
        }
    }

    /// An answer of which nothing is kept: a repeat of the request gets the same one (RFC 3261 §8.2.7).
    fn reply(&self, turn: &mut Turn, status: u16, reason: &str, lines: &[u8]) {
        let tag = self.house.transactions.tag(self.key);
        let reply = Reply { status, reason, to_tag: &tag, source: Some(self.from.peer()), lines, body: b"" };
        let start = turn.arena.len();
        sip::reply(&mut turn.arena, self.view, &reply);
        turn.send(&self.house.flows, self.from, start);
    }
}

/// Where the answer to a request goes (RFC 3261 §18.2.2): back by the connection, or to the address that the datagram
/// came from; with `rport` to the port that it came from (RFC 3581 §4), else to the one that its sender names.
fn way_back(via: Option<&Via<'_>>, from: Hop) -> Hop {
    match via {
        Some(via) if !from.is_reliable() && via.rport().is_none() => {
            let port = via.port.filter(|port| *port != 0).unwrap_or(SIP_PORT);
            Hop::udp(from.listener(), SocketAddr::new(from.peer().ip(), port))
        }
        _ => from,
    }
}

/// Where and how a request goes on.
pub(crate) struct Onward<'a> {
    /// Where to.
    pub(crate) to: Hop,
    /// The new Request-URI.
    pub(crate) contact: &'a [u8],
    /// Our branch.
    pub(crate) branch: &'a [u8],
    /// Lines to add.
    pub(crate) add: &'a [u8],
}

/// Writes a request as it goes on to a contact: our Via on top, a hop fewer to go, without what is not for its receiver,
/// the rest octet for octet.
pub(crate) fn forward(house: &House, out: &mut Vec<u8>, view: View<'_>, from: Hop, onward: &Onward<'_>) {
    let mut via = SmallVec::new();
    write_via(house, &mut via, onward.to, onward.branch);
    passing::mark(house, &mut via, view);
    let max_forwards = view.max_forwards().ok().flatten().unwrap_or(MAX_FORWARDS + 1).saturating_sub(1);
    let mut told = identity::told(house, view, from, onward.to);
    told.add.extend_from_slice(onward.add);
    let how = Forward {
        uri: onward.contact,
        via: &via,
        max_forwards,
        strip: told.strip,
        received: Some(from.peer()),
        add: &told.add,
        record: b"",
    };
    sip::forward_request(out, view, &how);
}

/// Our Via for what goes to `to` (RFC 3261 §18.1.1).
pub(crate) fn write_via(house: &House, via: &mut SmallVec<[u8; 128]>, to: Hop, branch: &[u8]) {
    let name = if to.is_reliable() {
        &house.config.tcp
    } else {
        house.config.udp.get(usize::from(to.listener())).unwrap_or(&house.config.tcp)
    };
    for piece in [b"SIP/2.0/", to.transport().as_bytes(), b" ", name.sent_by.as_bytes(), b";branch=", branch] {
        via.extend_from_slice(piece);
    }
}

fn aor_of(uri: &[u8]) -> Option<Aor> {
    Uri::parse(uri).ok()?.aor().ok()
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
