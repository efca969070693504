//! A user's bindings: REGISTER by the rules of [`im::registrar`], durable before it is answered and before the data plane
//! sees it (decisions D8); and the row that the data plane sees.

use std::sync::Arc;

use actix::prelude::*;
use base::limits::FLOW_TIMER_S;
use base::{Aor, Now};
use im::outbound::Flows;
use im::registrar::{self, Binding, RegisterRequest, Rules, Support, Transport, Way};
use im::watching::Event;
use sip::Name;
use sip::digest::Ha1;
use smallvec::SmallVec;
use storage::bindings::StoredBinding;
use storage::{Account, StoreError};

use super::{Here, UserActor, in_time};
use crate::contact::Contact;
use crate::hop::{ConnId, Hop};
use crate::house::House;
use crate::metrics::Count;
use crate::outbox::Outbox;
use crate::reach::{Climb, Reach, Way as ReachWay};
use crate::transactions::Answer;
use crate::turn;

/// What a REGISTER makes of the bindings, while it is being written.
struct Made {
    number: u64,
    bindings: Arc<[Binding]>,
    bound: bool,
    /// Whether the 200 says that its flow is kept.
    is_flow: bool,
}

impl UserActor {
    pub(super) fn register(&mut self, answer: Answer, now: Now, ctx: &mut Context<Self>) {
        let rules = Rules {
            expiry_s_max: self.house.config.binding_expiry_s_max,
            expiry_s_min: self.house.config.binding_expiry_s_min,
            bindings_max: self.house.config.bindings_per_user,
            ..Rules::default()
        };
        let (aor, house, is_third_party) = (self.aor.clone(), self.house.clone(), self.is_third_party(&answer));
        let Some(here) = self.here() else { return };
        let refuse = |answer: Answer, status, lines: &[u8]| {
            turn::fill_later(|turn| answer.send(turn, now, status, lines));
        };
        match &here.account {
            None if is_third_party => {}
            None => return refuse(answer, 404, b""),
            Some(account) if account.services == "none" => return refuse(answer, 403, b""),
            Some(_) => {}
        }
        let request = RegisterRequest::of(answer.request(), way_of(answer.caller()));
        let registered = request.and_then(|request| {
            let request = if is_third_party { request.by_third_party(&aor) } else { request };
            request.check(&house.routing)?;
            Ok((registrar::register(&here.bindings, &request, &rules, now)?, request.flows))
        });
        let (registered, flows) = match registered {
            Ok(registered) => registered,
            Err(refusal) => {
                let lines = refusal.min_expires.map(|least| format!("Min-Expires: {least}\r\n")).unwrap_or_default();
                return turn::fill_later(|turn| {
                    answer.send_as(turn, now, refusal.status, refusal.reason, lines.as_bytes())
                });
            }
        };
        let is_flow = flows == Flows::Counted { is_known: true };
        if !registered.changed {
            let lines = self.lines_of(is_flow, None, &answer, now);
            return turn::fill_later(|turn| answer.send(turn, now, 200, lines.as_bytes()));
        }
        here.bindings = registered.bindings.into();
        here.registers.0 += 1;
        let made = Made { number: here.registers.0, bindings: here.bindings.clone(), bound: registered.bound, is_flow };
        let stored = self.to_stored(&made.bindings);
        let writing = self.house.store.put_bindings(&self.aor, &stored);
        self.under_way();
        self.when(in_time(writing), ctx, move |outcome, this, ctx| match outcome {
            Ok(outcome) => this.registered(outcome, made, Some(answer), ctx),
            Err(late) => {
                let now = this.house.now();
                turn::fill_later(|turn| answer.overloaded(turn, now));
                this.when(late, ctx, |outcome, this, ctx| this.registered(outcome, made, None, ctx));
            }
        });
    }

    fn registered(
        &mut self,
        outcome: Result<(), StoreError>,
        made: Made,
        answer: Option<Answer>,
        ctx: &mut Context<Self>,
    ) {
        let now = self.house.now();
        let Some(here) = self.here() else { return };
        if let Err(error) = outcome {
            tracing::warn!(%error, "Bindings could not be written");
            // What is not durable was never promised; a later REGISTER under way has its own say.
            if here.bindings == made.bindings {
                here.bindings = here.durable.bindings.clone();
            }
            if let Some(answer) = answer {
                turn::fill_later(|turn| answer.overloaded(turn, now));
            }
            return self.done(ctx);
        }
        let lines = answer.as_ref().map(|answer| self.lines_of(made.is_flow, Some(&made.bindings), answer, now));
        let lines = lines.unwrap_or_default();
        let standing = self.bind_to_connections(&made.bindings);
        let guest = guest(&self.house, &self.aor);
        let Some(here) = self.here() else { return };
        if here.account.is_none() && !standing.is_empty() {
            (here.account, here.is_guest) = (Some(guest), true);
        }
        // Two commits may be heard of in another order than they were made in.
        if made.number > here.registers.1 {
            here.registers.1 = made.number;
            here.durable = Durable::of(standing);
        }
        // The answer leaves before the first letter, and both after everybody can see the binding.
        turn::fill_later(|turn| {
            turn.counts.add(Count::Registered);
            if let Some(answer) = answer {
                answer.send(turn, now, 200, lines.as_bytes());
            }
        });
        // The mailbox hears of the binding before new messages can see it (decisions D2).
        let was_bound = self.here().is_some_and(|here| here.bound);
        self.settle_bound(now, ctx);
        if made.bound && was_bound {
            self.mailbox_input(im::deferred::Input::Bound, now, ctx);
        }
        self.publish();
        self.look(Event::Unregistered, now);
        self.done(ctx);
    }

    /// Bindings that last no longer than a connection hear of its end; those whose connection is gone already are over.
    fn bind_to_connections(&mut self, bindings: &Arc<[Binding]>) -> Arc<[Binding]> {
        let (house, aor) = (self.house.clone(), self.aor.clone());
        let Some(here) = self.here() else { return bindings.clone() };
        let is_known = |binding: &Binding| {
            let same = |known: &Binding| known.dies_with_connection() && known.way.connection == binding.way.connection;
            here.durable.iter().any(same)
        };
        let stands = |binding: &&Binding| {
            !binding.dies_with_connection()
                || flow_of(&house, binding).is_some_and(|outbox| is_known(binding) || outbox.binds(&aor))
        };
        if bindings.iter().all(|binding| !binding.dies_with_connection()) {
            return bindings.clone();
        }
        bindings.iter().filter(stands).cloned().collect()
    }

    /// Bindings that were made over a connection which is gone are over (RFC 5626 §7): at once for everybody who asks, and in
    /// the store as soon as it can be; another life would not take them for standing anyhow.
    pub(super) fn flow_lost(&mut self, conn: ConnId, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        let is_lost =
            |binding: &&Binding| binding.dies_with_connection() && binding.way.connection == Some(u64::from(conn.0));
        let lost = here.durable.iter().filter(is_lost).count();
        if lost == 0 && !here.bindings.iter().any(|binding| is_lost(&binding)) {
            return;
        }
        let left = |bindings: &[Binding]| -> Arc<[Binding]> {
            bindings.iter().filter(|binding| !is_lost(binding)).cloned().collect()
        };
        here.bindings = left(&here.bindings);
        here.durable = Durable::of(left(&here.durable));
        turn::fill_later(|turn| turn.counts.add_many(Count::FlowsLost, lost as u64));
        let bindings = here.bindings.clone();
        let writing = self.house.store.put_bindings(&self.aor, &self.to_stored(&bindings));
        self.settle_bound(now, ctx);
        self.publish();
        self.look(Event::Deactivated, now);
        self.under_way();
        self.when(writing, ctx, |written, this, ctx| {
            if let Err(error) = written {
                tracing::warn!(%error, "The end of a flow could not be written");
            }
            this.done(ctx);
        });
    }

    /// Whether a trusted peer says by this REGISTER that the user is to be reached by it.
    fn is_third_party(&self, answer: &Answer) -> bool {
        let config = &self.house.config;
        config.trusts(answer.caller().peer().ip())
            && registrar::is_third_party(answer.request(), |domain| config.is_ours(domain))
    }

    fn to_stored(&self, bindings: &[Binding]) -> Vec<StoredBinding> {
        bindings.iter().map(|binding| to_stored(binding, self.house.life)).collect()
    }

    /// Contact fields with the time that is left, and the GRUUs of devices where the client knows what they are (RFC 5627
    /// §5.2); Path where it was sent (RFC 3261 §10.3 step 8, RFC 3327 §5.3), what keeps its flow (RFC 5626 §6), where its
    /// requests are to pass (RFC 3608 §6.3), who else it is (RFC 7315 §4.1), Date. Without `bindings` those that stand.
    fn lines_of(&mut self, is_flow: bool, bindings: Option<&[Binding]>, answer: &Answer, now: Now) -> String {
        let (house, aor, is_third_party) = (self.house.clone(), self.aor.clone(), self.is_third_party(answer));
        let Some(here) = self.here() else { return String::new() };
        let request = answer.request();
        let knows_gruus = request.values(Name::Supported).any(|tag| tag.eq_ignore_ascii_case(b"gruu"));
        let owner = here.account.as_ref().map_or(&aor, |account| &account.aor);
        let mut lines = String::new();
        let bindings = bindings.unwrap_or(&here.durable);
        for binding in bindings.iter().filter(|binding| !binding.is_over(now)) {
            lines.push_str("Contact: ");
            match request.values(Name::Contact).next().and_then(sip::NameAddr::parse).filter(|_| is_third_party) {
                // The peer is told its own Contact, not what we make of it.
                Some(sent) if binding.contact == owner.as_str() => {
                    lines.push_str(&format!("<{}>;expires={}", String::from_utf8_lossy(sent.uri), binding.left_s(now)));
                }
                _ => lines.push_str(&binding.contact_value(now)),
            }
            if let (true, Some(device)) = (knows_gruus, binding.instance()) {
                let public = house.gruus.public(owner, device);
                let temporary = house.gruus.temporary(owner, binding, house.ids.next_u64());
                for (name, uri) in [("pub-gruu", public), ("temp-gruu", temporary)] {
                    if let Some(uri) = uri {
                        lines.push_str(&format!(";{name}=\"{uri}\""));
                    }
                }
            }
            lines.push_str("\r\n");
        }
        for path in request.values(Name::Path) {
            lines.push_str(&format!("Path: {}\r\n", String::from_utf8_lossy(path)));
        }
        for route in &house.config.service_route {
            lines.push_str(&format!("Service-Route: {route}\r\n"));
        }
        if let Some(account) = here.account.as_ref().filter(|account| !account.aliases.is_empty()) {
            let all = std::iter::once(&account.aor).chain(&account.aliases);
            let all: Vec<String> = all.map(|aor| format!("<{}>", aor.as_str())).collect();
            lines.push_str(&format!("P-Associated-URI: {}\r\n", all.join(", ")));
        }
        if is_flow {
            lines.push_str("Require: outbound\r\n");
            if answer.caller().is_reliable() {
                lines.push_str(&format!("Flow-Timer: {FLOW_TIMER_S}\r\n"));
            }
        }
        lines.push_str(&format!("Date: {}\r\n", im::entry::sip_date(now.unix_s())));
        lines
    }

    /// Tells the mailbox whether a contact stands that letters can go to.
    pub(super) fn settle_bound(&mut self, now: Now, ctx: &mut Context<Self>) {
        let Some(here) = self.here() else { return };
        let stands = !here.im_bindings(now).is_empty();
        if stands && !here.bound {
            here.bound = true;
            self.mailbox_input(im::deferred::Input::Bound, now, ctx);
        } else if !stands && here.bound {
            here.bound = false;
            // What was found over is over for good, also when the clock is set back.
            let standing = |bindings: &[Binding]| -> Arc<[Binding]> {
                bindings.iter().filter(|binding| !binding.is_over(now)).cloned().collect()
            };
            here.durable = Durable::of(standing(&here.durable));
            here.bindings = standing(&here.bindings);
            self.mailbox_input(im::deferred::Input::Unbound, now, ctx);
        }
    }

    /// Writes the row of `Reach` anew: all that the data plane may know.
    pub(super) fn publish(&mut self) {
        let (house, now) = (self.house.clone(), self.house.now());
        let Some(here) = self.here() else { return };
        if here.is_guest && here.durable.iter().all(|binding| binding.is_over(now)) {
            (here.account, here.is_guest) = (None, false);
            house.reach.remove(&self.aor);
        }
        let Some(here) = self.here() else { return };
        let Some(account) = &here.account else { return };
        let bindings = here.im_bindings(now);
        let way = |binding: &&Binding| {
            let contact = Contact::of(binding);
            let uri = |is_sips| contact.uri(is_sips).map(|uri| uri.as_bytes().into());
            let (plain, sips) = (uri(false)?, uri(true));
            Some(ReachWay { contact: plain, sips, hop: contact.hop, expires_unix_s: binding.expires_unix_s })
        };
        let ways: Box<[ReachWay]> = bindings.iter().filter_map(way).collect();
        // A way that leads nowhere is the actor's to find another for (RFC 3261 §18.2.2).
        let stands = |hop: Hop| hop.conn().is_none_or(|conn| house.flows.get(conn).is_some());
        let is_plain =
            matches!(&bindings[..], [one] if one.path.is_empty() && Contact::of(one).wants(&house).is_none());
        let is_plain = is_plain && ways.iter().all(|way| stands(way.hop));
        let mut climb = Climb::empty();
        climb.set(Climb::SEVERAL, !is_plain);
        climb.set(Climb::QUEUED, here.queued);
        climb.set(Climb::OTHERS, here.standing(now).count() > bindings.len());
        let may_page = serves(&account.services, "message");
        climb.set(Climb::CLOSED, !may_page);
        let row = Arc::new(Reach {
            aor: account.aor.clone(),
            ha1: Ha1 { sha256: account.ha1_sha256, md5: account.ha1_md5 },
            login: account.login.as_deref().unwrap_or(account.aor.user()).into(),
            aliases: account.aliases.clone().into(),
            ways,
            climb,
            may_page,
            may_call: serves(&account.services, "session"),
            may_register: account.services != "none",
        });
        self.house.reach.publish(row.clone());
        self.row = Some(row);
    }
}

impl Here {
    /// The durable bindings whose time is not over.
    pub(super) fn standing(&self, now: Now) -> impl Iterator<Item = &Binding> {
        self.durable.iter().filter(move |binding| !binding.is_over(now))
    }

    /// The durable bindings that take instant messages and whose time is not over.
    pub(super) fn im_bindings(&self, now: Now) -> Vec<&Binding> {
        let Durable { bindings, support } = &self.durable;
        let standing = || bindings.iter().zip(support).filter(|(binding, _)| !binding.is_over(now));
        let support: SmallVec<[Support; 4]> = standing().map(|(_, support)| *support).collect();
        let standing: SmallVec<[&Binding; 4]> = standing().map(|(binding, _)| binding).collect();
        registrar::best(&support).map(|at| standing[at]).collect()
    }
}

/// Bindings that are durable, with what is asked of them again and again.
pub(super) struct Durable {
    bindings: Arc<[Binding]>,
    /// Whether page messages go there, binding by binding.
    support: Box<[Support]>,
}

impl Durable {
    pub(super) fn of(bindings: Arc<[Binding]>) -> Self {
        Self { support: bindings.iter().map(|binding| Support::of(&binding.params)).collect(), bindings }
    }
}

impl std::ops::Deref for Durable {
    type Target = [Binding];

    fn deref(&self) -> &[Binding] {
        &self.bindings
    }
}

/// Who is no subscriber, but there, as a trusted peer says: with every service, and nobody logs in by that name.
pub(super) fn guest(house: &House, aor: &Aor) -> Account {
    let secret = House::fresh_secret(&house.ids);
    let (ha1_sha256, ha1_md5) = (secret, house.ids.key());
    let realm = house.config.realm_of(aor.domain()).to_owned();
    let services = "all".to_owned();
    Account {
        aor: aor.clone(),
        ha1_sha256,
        ha1_md5,
        realm,
        aliases: Vec::new(),
        login: None,
        services,
        history_limit: None,
    }
}

/// Whether a service is in a profile: `all`, `none`, or names joined by `+`.
pub(super) fn serves(profile: &str, service: &str) -> bool {
    profile == "all" || profile.split('+').any(|each| each == service)
}

fn way_of(caller: Hop) -> Way {
    Way {
        transport: caller.carrier(),
        listener: caller.listener(),
        source: caller.peer(),
        connection: caller.conn().map(|conn| u64::from(conn.0)),
    }
}

fn to_stored(binding: &Binding, life: u64) -> StoredBinding {
    StoredBinding {
        contact: binding.contact.clone(),
        params: binding.params.clone(),
        q: binding.q,
        call_id: binding.call_id.clone(),
        cseq: binding.cseq,
        expires_unix_s: binding.expires_unix_s,
        transport: binding.way.transport as u8,
        source: binding.way.source,
        listener: binding.way.listener,
        path: binding.path.clone(),
        instance: binding.instance().map(str::to_owned),
        connection: binding.way.connection.map(|connection| (life, connection)),
    }
}

/// The connection that a binding was made over, while it stands.
fn flow_of(house: &House, binding: &Binding) -> Option<Arc<Outbox>> {
    let number = binding.way.connection.and_then(|number| u32::try_from(number).ok())?;
    house.flows.get(ConnId(number))
}

/// A binding as it is found again: by another life the connection that it came by is gone, and with it what lasts no longer
/// (RFC 5626 §7).
pub(super) fn from_stored(house: &House, stored: &StoredBinding) -> Option<Binding> {
    let binding = Binding {
        contact: stored.contact.clone(),
        params: stored.params.clone(),
        q: stored.q,
        call_id: stored.call_id.clone(),
        cseq: stored.cseq,
        expires_unix_s: stored.expires_unix_s,
        way: Way {
            transport: Transport::from_code(stored.transport)?,
            listener: stored.listener,
            source: stored.source,
            connection: stored.connection.filter(|(life, _)| *life == house.life).map(|(_, number)| number),
        },
        path: stored.path.clone(),
    };
    let is_over = binding.dies_with_connection() && flow_of(house, &binding).is_none();
    (!is_over).then_some(binding)
}
