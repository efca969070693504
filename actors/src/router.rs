//! The junction of the data plane: bytes from a socket become a value, the rules say what it is for, and it is relayed,
//! answered, or offered to a user's actor. Runs on whichever shard read the bytes; takes no mailbox and waits for nobody.

use std::sync::Arc;

use base::{Aor, Now};
use im::routing::Route;
use sip::digest::{Credentials, Verdict};
use sip::{Forward, Layout, Method, Name, ParseError, Reply, Uri, View};

use crate::hop::Hop;
use crate::house::House;
use crate::message::Offer;
use crate::metrics::Count;
use crate::reach::Reach;
use crate::transactions::{Answer, Served, Slot};
use crate::turn::Turn;

/// What we answer OPTIONS and 405 with (RFC 3261 §20.5).
const ALLOW: &[u8] = b"Allow: REGISTER, MESSAGE, OPTIONS, ACK, CANCEL\r\n";
/// Fields that a relayed request of a client loses: credentials for us, and what only trusted nodes may say (P2.3.1).
pub(crate) const STRIP_CLIENT: &[Name] = &[
    Name::Authorization,
    Name::ProxyAuthorization,
    Name::Route,
    Name::PAssertedIdentity,
    Name::PChargingVector,
    Name::PChargingFunctionAddresses,
];
/// Fields that a relayed request of a trusted peer loses on its way to a client.
const STRIP_TRUSTED: &[Name] = &[Name::Route, Name::PChargingVector, Name::PChargingFunctionAddresses];

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
            turn.counts.add(Count::Malformed);
            if allowed(house, turn, from, now) {
                reply(house, turn, view, from, status, reason, b"");
            }
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
        if !house.transactions.respond(turn, view, now) {
            turn.counts.add(Count::Strays);
        }
        return;
    }
    turn.counts.add(Count::Requests);
    let method = view.method();
    if method == Method::Ack {
        return; // nothing here waits for one (RFC 3261 §17.1.1.3: an ACK is never answered)
    }
    if let Err(fault) = view.check_request() {
        turn.counts.add(Count::Malformed);
        if allowed(house, turn, from, now) {
            reply(house, turn, view, from, fault.status, fault.reason, b"");
        }
        return;
    }
    let key = house.transactions.key(view);
    match house.transactions.repeat(key) {
        None => {}
        Some(known) => return repeated(house, turn, view, from, known),
    }
    if let Some((status, lines)) = fault_of(house, view, method) {
        turn.counts.add(Count::Malformed);
        if allowed(house, turn, from, now) {
            reply(house, turn, view, from, status, "", &lines);
        }
        return;
    }
    match identify(house, turn, view, from, now) {
        Who::Nobody => {}
        Who::Unknown(name) => {
            if let Some(answer) = open(house, turn, key, view, from) {
                turn.offer(name, Offer::Missing { answer });
            }
        }
        Who::User(row) => {
            if row.climb.contains(crate::reach::Climb::QUEUED) && method != Method::Register {
                turn.offer(row.aor.clone(), Offer::Active);
            }
            decide(house, turn, view, from, now, key, None, &Sender::User(row));
        }
        Who::Trusted(sender) => decide(house, turn, view, from, now, key, None, &Sender::Trusted(sender)),
    }
}

/// The router sees a request again whose sender's row was missing and has been loaded since; or was found not to exist.
pub fn again(house: &Arc<House>, turn: &mut Turn, answer: Answer, now: Now) {
    let Some((slot, caller, request)) = answer.take_back() else { return };
    let view = request.view();
    let key = house.transactions.key(view);
    match identify(house, turn, view, caller, now) {
        Who::Nobody => house.transactions.forget(slot),
        Who::Unknown(_) => {
            house.transactions.forget(slot);
            challenge(house, turn, view, caller, now, false);
        }
        Who::User(row) => decide(house, turn, view, caller, now, key, Some(slot), &Sender::User(row)),
        Who::Trusted(sender) => decide(house, turn, view, caller, now, key, Some(slot), &Sender::Trusted(sender)),
    }
}

/// Who sent a request.
enum Who {
    /// Nobody we know; the answer has left, or none is due.
    Nobody,
    /// Somebody whose row is not there.
    Unknown(Aor),
    /// A user who has shown the password.
    User(Arc<Reach>),
    /// Somebody for whom a trusted peer speaks.
    Trusted(Aor),
}

enum Sender {
    User(Arc<Reach>),
    Trusted(Aor),
}

impl Sender {
    fn aor(&self) -> &Aor {
        match self {
            Self::User(row) => &row.aor,
            Self::Trusted(aor) => aor,
        }
    }

    fn is(&self, address: &Aor) -> bool {
        match self {
            Self::User(row) => row.is(address),
            Self::Trusted(aor) => aor == address,
        }
    }
}

/// Faults that are answered before anything is asked of the sender (P1.2.8–10).
fn fault_of(house: &House, view: View<'_>, method: Method) -> Option<(u16, Vec<u8>)> {
    if method == Method::Cancel {
        return Some((481, Vec::new())); // RFC 3261 §9.2: no such transaction; never challenged (§22.1)
    }
    if view.max_forwards().ok().flatten() == Some(0) && method != Method::Register && method != Method::Options {
        return Some((483, Vec::new()));
    }
    let required: Vec<&[u8]> = match route(house, view) {
        Err(refusal) => return Some((refusal.status, Vec::new())),
        // RFC 3261 §8.2.2.3 for what ends here, §16.3 step 5 for what passes.
        Ok(Route::User(_)) => view.values(Name::ProxyRequire).collect(),
        Ok(_) => view.values(Name::Require).chain(view.values(Name::ProxyRequire)).collect(),
    };
    if !required.is_empty() {
        let mut lines = b"Unsupported: ".to_vec();
        lines.extend(required.join(&b", "[..]));
        lines.extend(b"\r\n");
        return Some((420, lines));
    }
    if method == Method::Other {
        return Some((501, ALLOW.to_vec()));
    }
    None
}

fn identify(house: &Arc<House>, turn: &mut Turn, view: View<'_>, from: Hop, now: Now) -> Who {
    if house.config.trusts(from.peer().ip()) {
        // Decisions D7: P-Asserted-Identity, without it From.
        let asserted = view.values(Name::PAssertedIdentity).find_map(|value| aor_of(sip::NameAddr::parse(value)?.uri));
        return match asserted.or_else(|| aor_of(view.from().ok()?.uri)) {
            Some(sender) => Who::Trusted(sender),
            None => {
                reply(house, turn, view, from, 400, "From names no user", b"");
                Who::Nobody
            }
        };
    }
    let fields = [Name::ProxyAuthorization, Name::Authorization];
    let mut shown = fields.into_iter().flat_map(|name| view.values(name)).filter_map(|value| Credentials::parse(value).ok());
    let Some((credentials, domain)) = shown.find_map(|shown| {
        let domain = domain_of(house, &shown, view)?;
        Some((shown, domain))
    }) else {
        challenge(house, turn, view, from, now, false);
        return Who::Nobody;
    };
    let name = credentials.username.as_bytes();
    let Some(name) = House::login(name, &domain) else {
        challenge(house, turn, view, from, now, false);
        return Who::Nobody;
    };
    let Some(row) = house.reach.get_login(&name) else { return Who::Unknown(name) };
    let allowed_algorithm = house.config.algorithms.contains(&credentials.algorithm);
    if !allowed_algorithm || !credentials.verify(&row.ha1, view.method_text()) {
        turn.counts.add(Count::AuthFailed);
        challenge(house, turn, view, from, now, false);
        return Who::Nobody;
    }
    if !same_uri(credentials.uri.as_bytes(), view.request_uri()) {
        // RFC 7616 §3.4.6: what was signed is not what was sent.
        reply(house, turn, view, from, 400, "Digest uri is not the Request-URI", b"");
        return Who::Nobody;
    }
    match house.nonces.check(&credentials.nonce, credentials.nc, now) {
        Verdict::Good => Who::User(row),
        Verdict::Stale => {
            challenge(house, turn, view, from, now, true);
            Who::Nobody
        }
        Verdict::Replayed | Verdict::Forged => {
            turn.counts.add(Count::AuthFailed);
            challenge(house, turn, view, from, now, false);
            Who::Nobody
        }
    }
}

/// The domain of ours that credentials are for; nothing when their realm is not ours.
fn domain_of(house: &House, credentials: &Credentials<'_>, view: View<'_>) -> Option<String> {
    let realm = &*credentials.realm;
    match &house.config.realm {
        None => house.config.domains.iter().find(|own| own.eq_ignore_ascii_case(realm)).cloned(),
        Some(own) if own == realm => {
            let said = aor_of(view.from().ok()?.uri).map(|aor| aor.domain().to_owned());
            said.filter(|domain| house.config.is_ours(domain)).or_else(|| house.config.domains.first().cloned())
        }
        Some(_) => None,
    }
}

fn same_uri(signed: &[u8], sent: &[u8]) -> bool {
    signed == sent || matches!((Uri::parse(signed), Uri::parse(sent)), (Ok(one), Ok(other)) if one.same_as(&other))
}

/// 401 from the registrar and from ourselves as a user agent, 407 where we are the proxy (P2.2.3); no state is kept.
fn challenge(house: &Arc<House>, turn: &mut Turn, view: View<'_>, from: Hop, now: Now, stale: bool) {
    if !allowed(house, turn, from, now) {
        return;
    }
    turn.counts.add(Count::Challenged);
    let is_proxied = matches!(route(house, view), Ok(Route::User(_)));
    let proxied = is_proxied && view.method() != Method::Register;
    let (status, header) =
        if proxied { (407, Name::ProxyAuthenticate) } else { (401, Name::WwwAuthenticate) };
    let whose = if view.method() == Method::Register { view.to() } else { view.from() };
    let domain = whose.ok().and_then(|whose| aor_of(whose.uri)).map(|aor| aor.domain().to_owned());
    let domain = domain.filter(|domain| house.config.is_ours(domain));
    let domain = domain.as_deref().or(house.config.domains.first().map(String::as_str)).unwrap_or_default();
    let realm = house.config.realm_of(domain);
    let nonce = house.nonces.issue(now);
    let mut lines = Vec::with_capacity(400);
    sip::digest::challenge(&mut lines, header.as_str(), realm, nonce.as_str(), stale, &house.config.algorithms);
    reply(house, turn, view, from, status, "", &lines);
}

/// Whether a source may have one more answer without credentials.
fn allowed(house: &House, turn: &mut Turn, from: Hop, now: Now) -> bool {
    let allowed = house.config.trusts(from.peer().ip()) || house.sources.allows(from.peer().ip(), now);
    if !allowed {
        turn.counts.add(Count::RateLimited);
    }
    allowed
}

#[expect(clippy::too_many_arguments, reason = "the facts of one request, spelled out once")]
fn decide(
    house: &Arc<House>,
    turn: &mut Turn,
    view: View<'_>,
    from: Hop,
    now: Now,
    key: u64,
    slot: Option<Slot>,
    sender: &Sender,
) {
    let refuse = |turn: &mut Turn, status: u16, reason: &str, lines: &[u8]| {
        if let Some(slot) = slot {
            house.transactions.forget(slot);
        }
        reply(house, turn, view, from, status, reason, lines);
    };
    let target = match route(house, view) {
        Ok(target) => target,
        Err(refusal) => return refuse(turn, refusal.status, refusal.reason, b""),
    };
    match (view.method(), target) {
        (Method::Register, Route::Ours) => {
            let Some(to) = view.to().ok().and_then(|to| aor_of(to.uri)) else {
                return refuse(turn, 400, "To names no user", b"");
            };
            if !sender.is(&to) {
                return refuse(turn, 403, "Nobody registers for somebody else", b"");
            }
            let owner = if matches!(sender, Sender::User(_)) { sender.aor().clone() } else { to };
            if let Some(answer) = owed(house, turn, slot, key, view, from) {
                turn.offer(owner, Offer::Register(answer));
            }
        }
        (Method::Register, _) => refuse(turn, 404, "Not a domain of this registrar", b""),
        (Method::Options, Route::Ours) => {
            refuse(turn, 200, "", &[ALLOW, b"Accept: text/plain, message/cpim, */*\r\nSupported: \r\n"].concat());
        }
        (Method::Message, Route::User(receiver)) => page(house, turn, view, from, now, key, slot, sender, receiver),
        (_, Route::Elsewhere(_)) => refuse(turn, 404, "No such domain here", b""),
        (_, _) => refuse(turn, 405, "", ALLOW),
    }
}

#[expect(clippy::too_many_arguments, reason = "the facts of one request, spelled out once")]
fn page(
    house: &Arc<House>,
    turn: &mut Turn,
    view: View<'_>,
    from: Hop,
    now: Now,
    key: u64,
    slot: Option<Slot>,
    sender: &Sender,
    receiver: Aor,
) {
    let refuse = |turn: &mut Turn, status: u16, reason: &str, lines: &[u8]| {
        if let Some(slot) = slot {
            house.transactions.forget(slot);
        }
        reply(house, turn, view, from, status, reason, lines);
    };
    if let Sender::User(row) = sender {
        if !row.may_page {
            return refuse(turn, 403, "Not in the service profile", b"");
        }
        // The sender is who shows the password: From must say the same (R-301, RFC 3325 §9).
        if !view.from().ok().and_then(|from| aor_of(from.uri)).is_some_and(|from| row.is(&from)) {
            return refuse(turn, 403, "From is somebody else", b"");
        }
    }
    if view.body().len() > house.config.message_bytes {
        return refuse(turn, 413, "", b"");
    }
    let row = house.reach.get(&receiver);
    let Some(slot) = slot.or_else(|| begin(house, turn, key, view, from)) else { return };
    match row.as_ref().and_then(|row| Some((row, row.only_way(now.unix_s())?))) {
        Some((row, way)) => {
            let strip = if matches!(sender, Sender::User(_)) { STRIP_CLIENT } else { STRIP_TRUSTED };
            turn.counts.add(Count::Relayed);
            house.transactions.relay(turn, slot, way.hop, &row.aor, now, |out, branch| {
                let onward = Onward { to: way.hop, contact: &way.contact, branch, add: b"" };
                forward(house, out, view, from, &onward, strip);
            });
        }
        None => {
            let request = sip::Message::copy_of(view);
            let answer = Answer::new(slot, from, request, false, house.transactions.clone());
            let owner = row.map_or(receiver, |row| row.aor.clone());
            turn.offer(owner, Offer::Page { sender: sender.aor().clone(), answer });
        }
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

/// Writes a request as it goes on to a contact: our Via on top, a hop fewer to go, the rest octet for octet.
pub(crate) fn forward(house: &House, out: &mut Vec<u8>, view: View<'_>, from: Hop, onward: &Onward<'_>, strip: &[Name]) {
    let mut via = arrayvec::ArrayVec::<u8, 160>::new();
    write_via(house, &mut via, onward.to, onward.branch);
    let max_forwards = view.max_forwards().ok().flatten().map_or(base::limits::MAX_FORWARDS, |left| left.saturating_sub(1));
    let how =
        Forward { uri: onward.contact, via: &via, max_forwards, strip, received: Some(from.peer()), add: onward.add };
    sip::forward_request(out, view, &how);
}

/// Our Via for what goes to `to` (RFC 3261 §18.1.1).
pub(crate) fn write_via(house: &House, via: &mut impl Extend<u8>, to: Hop, branch: &[u8]) {
    let name = if to.is_reliable() {
        &house.config.tcp
    } else {
        house.config.udp.get(usize::from(to.listener())).unwrap_or(&house.config.tcp)
    };
    let room = 160 - 8 - 8 - branch.len();
    via.extend(b"SIP/2.0/".iter().chain(to.transport().as_bytes()).chain(b" ").copied());
    via.extend(name.sent_by.bytes().take(room));
    via.extend(b";branch=".iter().chain(branch).copied());
}

/// A record for a request that is answered later; a repeat that slipped in is absorbed.
fn begin(house: &Arc<House>, turn: &mut Turn, key: u64, view: View<'_>, from: Hop) -> Option<Slot> {
    match house.transactions.serve(key, from) {
        Served::New(slot) => Some(slot),
        Served::Full => {
            turn.counts.add(Count::Overloaded);
            reply(house, turn, view, from, 503, "", b"Retry-After: 5\r\n");
            None
        }
        known => {
            repeated(house, turn, view, from, known);
            None
        }
    }
}

fn open(house: &Arc<House>, turn: &mut Turn, key: u64, view: View<'_>, from: Hop) -> Option<Answer> {
    owed(house, turn, None, key, view, from)
}

fn owed(house: &Arc<House>, turn: &mut Turn, slot: Option<Slot>, key: u64, view: View<'_>, from: Hop) -> Option<Answer> {
    let slot = match slot {
        Some(slot) => slot,
        None => begin(house, turn, key, view, from)?,
    };
    Some(Answer::new(slot, from, sip::Message::copy_of(view), false, house.transactions.clone()))
}

fn repeated(house: &House, turn: &mut Turn, view: View<'_>, from: Hop, known: Served) {
    turn.counts.add(Count::Repeats);
    if let Served::Answered(delta) = known {
        let start = turn.arena.len();
        delta.write(&mut turn.arena, view, Some(from.peer()));
        turn.send(&house.flows, from, start);
    }
}

/// An answer of which nothing is kept: a repeat of the request gets the same one.
fn reply(house: &Arc<House>, turn: &mut Turn, view: View<'_>, from: Hop, status: u16, reason: &str, lines: &[u8]) {
    let tag = house.transactions.tag(house.transactions.key(view));
    let reply = Reply { status, reason, to_tag: &tag, source: Some(from.peer()), lines, body: b"" };
    let start = turn.arena.len();
    sip::reply(&mut turn.arena, view, &reply);
    turn.send(&house.flows, from, start);
}

fn route(house: &House, view: View<'_>) -> Result<Route, im::Refusal> {
    let uri = Uri::parse(view.request_uri()).map_err(|_| im::Refusal::new(400, "Malformed Request-URI"))?;
    house.routing.route(&uri)
}

fn aor_of(uri: &[u8]) -> Option<Aor> {
    Uri::parse(uri).ok()?.aor().ok()
}
