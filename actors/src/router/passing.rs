//! Passing on what the house knows nothing of (RFC 3261 §16): to a user's devices, or within a dialog along the way that we
//! have recorded. What has one target and is no INVITE takes no mailbox; an INVITE, and what forks, has an actor
//! ([`crate::passage`]).
//!
//! A request from a client leaves to users of ours alone, or along a way that a token of ours names ([`crate::ways`]).

use std::sync::Arc;

use base::Aor;
use im::itinerary::{self, Itinerary, Whose};
use sip::digest::Credentials;
use sip::{Forward, Method, Name, Uri, Via, View};
use smallvec::SmallVec;

use super::{ALLOW, Case, Record, Sender, calls, identity, write_via};
use crate::contact::{self, Contact};
use crate::hop::Hop;
use crate::house::House;
use crate::message::{Destination, Passage, SessionInput};
use crate::metrics::Count;
use crate::reach::{Reach, Way as ReachWay};
use crate::turn::Turn;
use crate::ways::Ways;

pub(super) type Way<'a> = Itinerary<'a, Hop>;

/// What a request's Route fields say. Nothing is asked of requests without any.
pub(super) fn read<'a>(house: &House, request: View<'a>) -> Result<Way<'a>, im::Refusal> {
    itinerary::read(request, |uri| whose(house, uri))
}

fn whose(house: &House, uri: &Uri<'_>) -> Whose<Hop> {
    if !house.names(uri) {
        return Whose::Other;
    }
    match house.ways.hop(uri.user) {
        Some(hop) => Whose::Recorded(hop),
        None if uri.user.is_empty() => Whose::House,
        None if Ways::is_token(uri.user) => Whose::Forged,
        None => Whose::Other,
    }
}

impl Case<'_> {
    /// A request for a user's devices.
    pub(super) fn pass(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender, receiver: Aor) {
        let house = self.house;
        if let Some(reason) = self.forbids(sender) {
            return self.refuse(turn, record, 403, reason, b"");
        }
        let rest = self.way.as_ref().map(|way| &*way.rest).unwrap_or_default();
        match (rest, sender) {
            ([], _) => {}
            // A trusted peer may say which way it goes.
            ([next, ..], Sender::Trusted(_)) => return self.pass_by(turn, record, sender, next),
            (_, Sender::User(_) | Sender::Neighbour(_)) => {
                return self.refuse(turn, record, 403, "Not A Way Of Ours", b"");
            }
        }
        let row = house.reach.get(&receiver);
        // One whose connection is gone may have another way, which its actor knows.
        let stands = |way: &&ReachWay| way.hop.conn().is_none_or(|conn| house.flows.get(conn).is_some());
        let only = |row: &Arc<Reach>| {
            let way = row.only_contact(self.now.unix_s()).filter(stands)?;
            let uri = String::from_utf8_lossy(way.uri(self.view.is_sips())?);
            Some((row.clone(), Contact::at(&uri, String::new(), way.hop)))
        };
        let wanted = self.wanted();
        let is_for_any = wanted.device.is_none() && !im::preferences::may_exclude(self.view);
        match row.as_ref().filter(|_| is_for_any).and_then(only) {
            Some((row, contact)) if self.view.method() != Method::Invite => {
                self.pass_to(turn, record, &row.aor, &contact);
            }
            _ => {
                let owner = row.map_or(receiver, |row| row.aor.clone());
                self.start_passage(turn, record, Destination::User(owner, Box::new(wanted)));
            }
        }
    }

    /// Why this sender may not have it passed on. Also within a dialog nobody speaks in somebody else's name, and a page
    /// message is one on any way.
    pub(super) fn forbids(&self, sender: &Sender) -> Option<&'static str> {
        let Sender::User(row) = sender else { return None };
        let is_page = self.view.method() == Method::Message;
        if !row.may_register || (is_page && !row.may_page) {
            return Some("Not in the service profile");
        }
        (!calls::says_who_it_is(self.view, row)).then_some("From is somebody else")
    }

    /// By the next hop that a trusted peer has named.
    fn pass_by(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender, next: &[u8]) {
        let hop = sip::NameAddr::parse(next).and_then(|next| {
            let uri = next.parsed_uri().ok().filter(|uri| !contact::asks_for_tls(uri))?;
            let address = uri.addr()?;
            match uri.transport() {
                Some(name) if !name.eq_ignore_ascii_case(b"udp") => self.house.dial(address),
                _ => Some(Hop::udp(self.from.listener(), address)),
            }
        });
        match hop {
            Some(hop) => self.pass_over(turn, record, sender, hop),
            None => self.refuse(turn, record, 502, "Next Hop Not Found", b""),
        }
    }

    /// A request within a dialog that passes through us.
    pub(super) fn pass_along(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender) {
        if let Some(reason) = self.forbids(sender) {
            return self.refuse(turn, record, 403, reason, b"");
        }
        if self.view.method() == Method::Message && self.view.body().len() > self.house.config.message_bytes {
            return self.refuse(turn, record, 413, "", b"");
        }
        let way = self.way.as_ref().ok().and_then(|way| hop_along(self.house, way));
        match way {
            Some(hop) => self.pass_over(turn, record, sender, hop),
            // RFC 5626 §5.3.1.
            None => self.refuse(turn, record, 430, "", b""),
        }
    }

    /// To one hop, with the routes that are left.
    fn pass_over(&self, turn: &mut Turn, record: Record<'_>, sender: &Sender, hop: Hop) {
        let Ok(way) = &self.way else { return };
        let (uri, routes) = itinerary::onward(way.uri, &way.rest);
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let contact = Contact::at(&text(uri), text(&routes), hop);
        if contact.uri(self.view.is_sips()).is_none() {
            return self.refuse_sips(turn, record);
        }
        if self.view.method() == Method::Invite {
            return self.start_passage(turn, record, Destination::Contact(Box::new(contact)));
        }
        self.pass_to(turn, record, sender.aor(), &contact);
    }

    /// No INVITE, to one contact: by a record in the transactions.
    fn pass_to(&self, turn: &mut Turn, record: Record<'_>, party: &Aor, contact: &Contact) {
        let (house, view) = (self.house, self.view);
        let Some(uri) = contact.uri(view.is_sips()) else { return self.refuse_sips(turn, record) };
        turn.counts.add(Count::Passed);
        house.transactions.pass(turn, record.slot, contact.hop, party, self.now, |out, branch| {
            let onward = Onward { uri, routes: &contact.routes, to: contact.hop, branch, breadth: None };
            write(house, out, view, self.from, &onward);
        });
        record.keep();
    }

    /// It would have to go on in clear (RFC 5630 §5.3).
    fn refuse_sips(&self, turn: &mut Turn, record: Record<'_>) {
        self.refuse(turn, record, 480, "", contact::sips_not_allowed(self.house).as_bytes());
    }

    pub(super) fn start_passage(&self, turn: &mut Turn, record: Record<'_>, destination: Destination) {
        let house = self.house;
        let key = house.sessions.new_key();
        let entry = (self.view.method() == Method::Invite).then(|| house.sessions.enter_passing(self.key, key));
        let passage = Passage { destination, answer: self.answer(record), entry };
        turn.session(key, SessionInput::Passage(Box::new(passage)));
    }

    /// RFC 3261 §11.2: what we can do ourselves.
    pub(super) fn options(&self, turn: &mut Turn, record: Record<'_>) {
        let lines = [
            ALLOW,
            b"Accept: text/plain, message/cpim, application/sdp, */*\r\nSupported: path, outbound, gruu, timer\r\n\
            Allow-Events: reg\r\n",
        ]
        .concat();
        self.refuse(turn, record, 200, "", &lines);
    }
}

/// An ACK for a 2xx goes along the way of its dialog, without any state (RFC 3261 §16.11). One that names none goes nowhere.
pub(super) fn acknowledge(house: &House, turn: &mut Turn, ack: View<'_>, from: Hop) {
    let Ok(way) = read(house, ack) else { return };
    let Some(hop) = hop_along(house, &way).filter(|_| ack.max_forwards().ok().flatten() != Some(0)) else { return };
    let (uri, routes) = itinerary::onward(way.uri, &way.rest);
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let contact = Contact::at(&text(uri), text(&routes), hop);
    let Some(uri) = contact.uri(ack.is_sips()) else { return };
    // The same for a repeat.
    let branch = format!("z9hG4bKa{:016x}", house.transactions.key(ack));
    let start = turn.arena.len();
    let onward = Onward { uri, routes: &contact.routes, to: hop, branch: branch.as_bytes(), breadth: None };
    write(house, &mut turn.arena, ack, from, &onward);
    turn.send(&house.flows, hop, start);
}

/// Where the recorded way leads: by its flow; when its connection is gone, by another one to the same host, where the next
/// URI names its port. Nothing else is called, whatever the request says.
fn hop_along(house: &House, way: &Way<'_>) -> Option<Hop> {
    let hop = way.way?;
    match hop.conn() {
        Some(conn) if house.flows.get(conn).is_none() => {
            let next = way.rest.first().map_or(Some(way.uri), |next| Some(sip::NameAddr::parse(next)?.uri))?;
            let address = Uri::parse(next).ok().filter(|uri| !contact::asks_for_tls(uri))?.addr()?;
            house.dial(address).filter(|_| address.ip().to_canonical() == hop.peer().ip())
        }
        _ => Some(hop),
    }
}

/// Where a request goes on, and how.
pub(crate) struct Onward<'a> {
    /// The new Request-URI.
    pub(crate) uri: &'a str,
    /// Its Route lines.
    pub(crate) routes: &'a str,
    /// By which way.
    pub(crate) to: Hop,
    /// Our branch.
    pub(crate) branch: &'a [u8],
    /// Its share of Max-Breadth, where it is shared (RFC 5393 §5.3.3).
    pub(crate) breadth: Option<usize>,
}

/// Writes a request as it is passed on (RFC 3261 §16.6): our Via and, where a dialog may come of it, our Record-Route on
/// top; without its routes so far and without credentials for us; the rest octet for octet.
pub(crate) fn write(house: &House, out: &mut Vec<u8>, view: View<'_>, from: Hop, onward: &Onward<'_>) {
    let Onward { uri, routes, to, branch, breadth } = onward;
    let mut via = SmallVec::new();
    write_via(house, &mut via, *to, branch);
    mark(house, &mut via, view);
    let told = identity::told(house, view, from, *to);
    let mut strip: SmallVec<[Name; 12]> = SmallVec::from_slice(told.strip);
    strip.extend([Name::Route, Name::Authorization, Name::ProxyAuthorization]);
    let mut add = [routes.as_bytes(), &told.add].concat();
    keep_foreign_credentials(house, &mut add, view);
    if let Some(breadth) = breadth {
        strip.push(Name::MaxBreadth);
        add.extend_from_slice(format!("Max-Breadth: {breadth}\r\n").as_bytes());
    }
    let record = if records(view) { record_route(house, from, *to) } else { String::new() };
    let max_forwards = view.max_forwards().ok().flatten().unwrap_or(base::limits::MAX_FORWARDS + 1).saturating_sub(1);
    let how = Forward {
        uri: uri.as_bytes(),
        via: &via,
        max_forwards,
        strip: &strip,
        received: Some(from.peer()),
        add: &add,
        record: record.as_bytes(),
    };
    sip::forward_request(out, view, &how);
}

/// What is for somebody else's realm is his who asked for it (RFC 3261 §22.3).
fn keep_foreign_credentials(house: &House, out: &mut Vec<u8>, view: View<'_>) {
    for name in [Name::Authorization, Name::ProxyAuthorization] {
        for value in view.values(name) {
            let is_foreign = Credentials::parse(value).is_ok_and(|shown| !house.config.is_own_realm(&shown.realm));
            if is_foreign {
                [name.as_str().as_bytes(), b": ", value, b"\r\n"].iter().for_each(|piece| out.extend_from_slice(piece));
            }
        }
    }
}

/// Whether we stay on the way of the dialog that may come of a request: also NOTIFY makes one, and tells the route anew (RFC
/// 6665 §4.3). Within a dialog the others change no route (RFC 3261 §12.2).
fn records(view: View<'_>) -> bool {
    let is_within = view.to().is_ok_and(|to| to.tag().is_some());
    match view.method() {
        Method::Ack | Method::Bye | Method::Cancel | Method::Register | Method::Message | Method::Options => false,
        Method::Publish | Method::Info | Method::Prack => false,
        Method::Invite | Method::Subscribe | Method::Notify | Method::Refer => true,
        Method::Update | Method::Other => !is_within,
    }
}

/// Our two URIs, the callee's side on top: each leads to its own side, whatever its transport (RFC 5658 §6).
fn record_route(house: &House, from: Hop, to: Hop) -> String {
    let mut lines = String::with_capacity(256);
    for hop in [to, from] {
        let (name, transport) = own_name(house, hop);
        lines.push_str(&format!("Record-Route: <sip:{}@{name}{transport};lr>\r\n", house.ways.token(hop)));
    }
    lines
}

/// How we call ourselves towards a hop, and by which transport.
fn own_name(house: &House, hop: Hop) -> (&str, &'static str) {
    match hop.is_reliable() {
        true => (&house.config.tcp.sent_by, ";transport=tcp"),
        false => (&house.config.udp.get(usize::from(hop.listener())).unwrap_or(&house.config.tcp).sent_by, ""),
    }
}

/// Appends the mark by which we know a request again that comes back unchanged (RFC 3261 §16.6 step 8, RFC 5393 §4.2).
pub(super) fn mark(house: &House, via: &mut SmallVec<[u8; 128]>, view: View<'_>) {
    via.push(b'.');
    via.extend_from_slice(&mark_of(house, view));
}

/// Whether a request has been here before, and nothing that tells where it goes has changed since (RFC 5393 §4.2).
pub(super) fn is_looped(house: &House, view: View<'_>) -> bool {
    let branches = view.values(Name::Via).filter_map(|value| Via::parse(value)?.branch());
    let ours = branches.filter(|branch| branch.starts_with(b"z9hG4bKp") || branch.starts_with(b"z9hG4bKs"));
    let mut marks = ours.filter_map(|branch| branch.rsplit(|octet| *octet == b'.').next()).peekable();
    if marks.peek().is_none() {
        return false;
    }
    let own = mark_of(house, view);
    marks.any(|mark| *mark == own)
}

/// Of all by which a request finds its way, and by which it is told from others; the method does not count, so that CANCEL
/// and ACK have the branch of their INVITE.
fn mark_of(house: &House, view: View<'_>) -> [u8; 16] {
    fn tag<'v>(address: Result<sip::NameAddr<'v>, sip::HeaderError>) -> &'v [u8] {
        address.ok().and_then(|each| each.tag()).unwrap_or_default()
    }
    let number = view.cseq().map(|cseq| cseq.number).unwrap_or_default().to_be_bytes();
    let mut pieces: SmallVec<[&[u8]; 8]> = SmallVec::new();
    pieces.extend([view.request_uri(), tag(view.from()), tag(view.to())]);
    pieces.extend([view.call_id().unwrap_or_default(), &number]);
    pieces.extend(view.values(Name::Route).chain(view.values(Name::ProxyRequire)));
    let hash = house.loops.of(&pieces);
    std::array::from_fn(|at| b"0123456789abcdef"[(hash >> (60 - 4 * at) & 15) as usize])
}
