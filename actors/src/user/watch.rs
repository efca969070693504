//! Who watches what becomes of a user's contacts (RFC 3680): a subscription is a row of its user's actor, around the machine
//! of [`sip::subscription`].
//!
//! Bound: [`WATCHERS_PER_USER_MAX`] subscriptions, then 503. After a panic they are gone; who refreshes hears 481 and
//! subscribes anew (RFC 6665 §4.1.2.2).

use std::time::Instant;

use base::limits::{
    MAX_FORWARDS, REG_CHANGES_MAX, REG_EXPIRY_S_DEFAULT, REG_EXPIRY_S_MAX, REG_EXPIRY_S_MIN, WATCHERS_PER_USER_MAX,
};
use base::{Now, scan};
use im::registrar::Binding;
use im::watching::{self, Change, Event};
use sip::dialog::Within;
use sip::subscription::{Input, Notice, Output, Reason, Subscription};
use sip::{Dialog, Message, Name, Params, View};

use super::{Here, UserActor};
use crate::contact::way_within;
use crate::hop::Hop;
use crate::house::House;
use crate::metrics::Count;
use crate::router;
use crate::transactions::Answer;
use crate::turn;

/// What tokens of our NOTIFYs have, and those of messages have not.
pub(super) const NOTIFY_TOKEN: u64 = 1 << 63;

/// Everybody who watches one user.
#[derive(Default)]
pub(super) struct Watch {
    watchers: Vec<Watcher>,
    next: u32,
    /// The contacts as they were told last.
    shown: Vec<Binding>,
}

struct Watcher {
    number: u32,
    machine: Subscription,
    dialog: Dialog,
    /// The value of Event, its id included.
    event: String,
    /// Where the subscriber was heard from last.
    hop: Hop,
    /// Of the next document.
    version: u32,
    /// What has changed since the last NOTIFY: each contact once.
    changes: Vec<Change>,
}

impl Watch {
    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// When a subscription or a contact that somebody watches is over.
    pub(super) fn poll_timeout(&self, now: Now) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let ends = self.shown.iter().map(|binding| {
            let left_ms = binding.expires_unix_s.saturating_mul(1_000).saturating_sub(now.unix_ms);
            now.at + std::time::Duration::from_millis(left_ms)
        });
        ends.chain(self.watchers.iter().filter_map(|each| each.machine.poll_timeout())).min()
    }

    fn get(&mut self, number: u32) -> Option<&mut Watcher> {
        self.watchers.iter_mut().find(|each| each.number == number)
    }

    fn numbers(&self) -> Vec<u32> {
        self.watchers.iter().map(|each| each.number).collect()
    }
}

impl UserActor {
    /// A SUBSCRIBE with `Event: reg`, of somebody who may know.
    pub(super) fn watch(&mut self, answer: Answer, now: Now) {
        let house = self.house.clone();
        let Some(here) = self.here() else { return };
        if here.account.is_none() {
            return turn::fill_later(|turn| answer.send(turn, now, 404, b""));
        }
        match here.subscribe(answer.request(), &house, answer.caller(), now) {
            Ok((number, expires_s)) => {
                let lines = accepted(&house, answer.request(), answer.caller(), &self.aor, expires_s);
                turn::fill_later(|turn| {
                    turn.counts.add(Count::RegSubscribed);
                    answer.send(turn, now, 200, lines.as_bytes());
                });
                self.drain_watcher(number, now);
            }
            Err((503, _)) => turn::fill_later(|turn| answer.overloaded(turn, now)),
            Err((status, lines)) => turn::fill_later(|turn| answer.send(turn, now, status, lines.as_bytes())),
        }
    }

    /// Tells who watches what is different now. `gone`: why contacts are there no more whose time is not over.
    pub(super) fn look(&mut self, gone: Event, now: Now) {
        let Some(here) = self.here() else { return };
        if here.watch.is_empty() {
            return;
        }
        let standing = here.standing(now).cloned().collect::<Vec<_>>();
        let changes = watching::changes(&here.watch.shown, &standing, gone, now);
        here.watch.shown = standing;
        if changes.is_empty() {
            return;
        }
        for watcher in &mut here.watch.watchers {
            changes.iter().for_each(|change| watcher.note(change.clone()));
            watcher.machine.handle(Input::Changed, now.at);
        }
        here.watch.numbers().into_iter().for_each(|number| self.drain_watcher(number, now));
    }

    /// The time of some of them may be over.
    pub(super) fn watch_rang(&mut self, now: Now) {
        self.look(Event::Unregistered, now);
        let Some(here) = self.here() else { return };
        here.watch.watchers.iter_mut().for_each(|each| each.machine.handle_timeout(now.at));
        here.watch.numbers().into_iter().for_each(|number| self.drain_watcher(number, now));
    }

    /// The user is no subscriber any more: who watches is told so.
    pub(super) fn end_watch(&mut self, now: Now) {
        let Some(here) = self.here() else { return };
        here.watch.watchers.iter_mut().for_each(|each| each.machine.handle(Input::Ended(Reason::NoResource), now.at));
        here.watch.numbers().into_iter().for_each(|number| self.drain_watcher(number, now));
    }

    /// A NOTIFY was answered, or was not.
    pub(super) fn notified(&mut self, token: u64, status: u16, response: Option<Message>, now: Now) {
        let number = token as u32;
        let Some(watcher) = self.here().and_then(|here| here.watch.get(number)) else { return };
        let may_retry = response.is_some_and(|response| response.view().first(Name::RetryAfter).is_some());
        watcher.machine.handle(Input::Answered { status, may_retry }, now.at);
        self.drain_watcher(number, now);
    }

    fn drain_watcher(&mut self, number: u32, now: Now) {
        while let Some(watcher) = self.here().and_then(|here| here.watch.get(number)) {
            match watcher.machine.poll_output() {
                Some(Output::Notify(notice)) => self.notify(number, notice, now),
                Some(Output::Over) => {
                    if let Some(here) = self.here() {
                        here.watch.watchers.retain(|each| each.number != number);
                    }
                    return;
                }
                None => return,
            }
        }
    }

    fn notify(&mut self, number: u32, notice: Notice, now: Now) {
        let (house, aor) = (self.house.clone(), self.aor.clone());
        let Some(here) = self.here() else { return };
        let standing = here.standing(now).cloned().collect::<Vec<_>>();
        let Some(watcher) = here.watch.get(number) else { return };
        let body = watcher.document(&house, &aor, notice.is_full, standing, now);
        let sent = way_within(&house, watcher.dialog.next_hop(), watcher.hop).and_then(|hop| {
            let lines = format!(
                "Event: {}\r\nSubscription-State: {}\r\n{}Allow-Events: reg\r\nContent-Type: {}\r\n",
                watcher.event,
                notice.subscription_state(),
                contact_line(&house, &aor, hop),
                body::reginfo::CONTENT_TYPE,
            );
            turn::fill_later(|turn| {
                turn.counts.add(Count::RegNotified);
                house.transactions.ask(turn, hop, &aor, NOTIFY_TOKEN | u64::from(number), now, |out, branch| {
                    let mut via = smallvec::SmallVec::new();
                    router::write_via(&house, &mut via, hop, branch);
                    let via = String::from_utf8_lossy(&via);
                    let (lines, body) = (lines.as_bytes(), body.as_bytes());
                    let within = Within { method: "NOTIFY", via: &via, max_forwards: MAX_FORWARDS, lines, body };
                    watcher.dialog.request(out, &within);
                })
            })
        });
        if sent.is_none() {
            watcher.machine.handle(Input::Answered { status: 503, may_retry: false }, now.at);
        }
    }
}

impl Here {
    /// Begins or goes on. The number of the subscription, and for how many seconds; or the status and lines of the refusal.
    fn subscribe(
        &mut self,
        request: View<'_>,
        house: &House,
        caller: Hop,
        now: Now,
    ) -> Result<(u32, u32), (u16, String)> {
        let expires_s = request.expires().unwrap_or(REG_EXPIRY_S_DEFAULT).min(REG_EXPIRY_S_MAX);
        // RFC 6665 §4.2.1.1: what asks for an hour or more is never too brief, nor what only fetches.
        if (1..REG_EXPIRY_S_MIN).contains(&expires_s) {
            return Err((423, format!("Min-Expires: {REG_EXPIRY_S_MIN}\r\n")));
        }
        if request.to().is_ok_and(|to| to.tag().is_some()) {
            let known = self.watch.watchers.iter_mut().find(|each| each.dialog.matches(request));
            let watcher = known.ok_or((481, String::new()))?;
            watcher.dialog.receive(request).map_err(|fault| (fault.status, String::new()))?;
            watcher.dialog.refresh(request);
            watcher.hop = caller;
            watcher.machine.handle(Input::Refreshed(expires_s), now.at);
            return Ok((watcher.number, expires_s));
        }
        if request.first(Name::Accept).is_some() && !request.values(Name::Accept).any(takes_reginfo) {
            return Err((406, format!("Accept: {}\r\n", body::reginfo::CONTENT_TYPE)));
        }
        if let Some(wanted) = request.first(Name::Require) {
            return Err((420, format!("Unsupported: {}\r\n", String::from_utf8_lossy(wanted))));
        }
        if self.watch.watchers.len() >= WATCHERS_PER_USER_MAX {
            return Err((503, String::new()));
        }
        let tag = house.transactions.tag(house.transactions.key(request));
        let dialog =
            Dialog::of_request(request, &tag).map_err(|error| (sip::Fault::from(error).status, String::new()))?;
        if self.watch.is_empty() {
            self.watch.shown = self.standing(now).cloned().collect();
        }
        self.watch.next = self.watch.next.wrapping_add(1);
        let number = self.watch.next;
        let event = String::from_utf8_lossy(request.first(Name::Event).unwrap_or(b"reg")).replace(['\r', '\n'], " ");
        let machine = Subscription::start(expires_s, now.at);
        let watcher = Watcher { number, machine, dialog, event, hop: caller, version: 0, changes: Vec::new() };
        self.watch.watchers.push(watcher);
        Ok((number, expires_s))
    }
}

impl Watcher {
    /// The last word about a contact takes the place of the one before. Of too many the oldest is lost: it is over.
    fn note(&mut self, change: Change) {
        let id = watching::id(&change.binding);
        self.changes.retain(|known| watching::id(&known.binding) != id);
        if self.changes.len() >= REG_CHANGES_MAX {
            self.changes.remove(0);
        }
        self.changes.push(change);
    }

    fn document(&mut self, house: &House, aor: &base::Aor, is_full: bool, standing: Vec<Binding>, now: Now) -> String {
        let is_active = !standing.is_empty();
        let mut told = std::mem::take(&mut self.changes);
        let had_contacts = !told.is_empty();
        if is_full {
            let is_told =
                |binding: &Binding| told.iter().any(|known| watching::id(&known.binding) == watching::id(binding));
            let others: Vec<Binding> = standing.into_iter().filter(|binding| !is_told(binding)).collect();
            told.extend(others.into_iter().map(|binding| Change { binding, event: Event::Registered }));
        }
        let told: Vec<Told> = told.into_iter().map(|change| Told::of(house, aor, change)).collect();
        let contacts: Vec<body::reginfo::Contact<'_>> = told.iter().map(|each| each.contact(now)).collect();
        let version = self.version;
        self.version += 1;
        let aor = aor.as_str();
        body::RegInfo { version, is_full, aor, is_active, had_contacts, contacts: &contacts }.write()
    }
}

/// A contact as it is told, with what must be made for it.
struct Told {
    change: Change,
    id: String,
    params: Vec<(String, String)>,
    public: Option<String>,
    temporary: Option<String>,
}

impl Told {
    fn of(house: &House, aor: &base::Aor, change: Change) -> Self {
        let Change { binding, event } = &change;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let params = Params::parse(binding.params.as_bytes()).unwrap_or_default();
        let params = params
            .iter()
            .map(|param| (text(param.name), text(param.value.map(sip::params::unquoted).unwrap_or_default())))
            .collect();
        let device = binding.instance().filter(|_| event.is_active());
        let public = device.and_then(|device| house.gruus.public(aor, device));
        let temporary = device.and_then(|_| house.gruus.temporary(aor, binding, house.ids.next_u64()));
        Self { id: watching::id(binding), params, public, temporary, change }
    }

    fn contact(&self, now: Now) -> body::reginfo::Contact<'_> {
        let Change { binding, event } = &self.change;
        body::reginfo::Contact {
            id: &self.id,
            uri: &binding.contact,
            is_active: event.is_active(),
            event: event.as_str(),
            expires_s: binding.left_s(now),
            q: binding.q,
            call_id: &binding.call_id,
            cseq: binding.cseq,
            params: &self.params,
            public_gruu: self.public.as_deref(),
            temporary_gruu: self.temporary.as_deref(),
        }
    }
}

fn takes_reginfo(range: &[u8]) -> bool {
    let kind = scan::trim(range.split(|octet| *octet == b';').next().unwrap_or_default());
    [&b"*/*"[..], b"application/*", body::reginfo::CONTENT_TYPE.as_bytes()]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
}

/// The lines of the 200: what is recorded of the way goes back (RFC 3261 §12.1.1), and for how long (RFC 6665 §4.2.1.1).
fn accepted(house: &House, request: View<'_>, caller: Hop, aor: &base::Aor, expires_s: u32) -> String {
    let mut lines = String::new();
    for value in request.values(Name::RecordRoute) {
        lines.push_str(&format!("Record-Route: {}\r\n", String::from_utf8_lossy(value).replace(['\r', '\n'], " ")));
    }
    lines.push_str(&contact_line(house, aor, caller));
    lines.push_str(&format!("Expires: {expires_s}\r\nAllow-Events: reg\r\n"));
    lines
}

/// Where we are called within the dialog.
fn contact_line(house: &House, aor: &base::Aor, hop: Hop) -> String {
    let name = if hop.is_reliable() {
        &house.config.tcp
    } else {
        house.config.udp.get(usize::from(hop.listener())).unwrap_or(&house.config.tcp)
    };
    let transport = if hop.is_reliable() { ";transport=tcp" } else { "" };
    format!("Contact: <sip:{}@{}{transport}>\r\n", aor.user(), name.sent_by)
}
