//! The rules of a REGISTER (RFC 3261 §10.3): the bindings that stand and a request give the bindings that will stand, or
//! a refusal, all or nothing; and which of a user's bindings take instant messages.

use std::net::SocketAddr;

use base::limits::{BINDING_EXPIRY_S_DEFAULT, BINDING_EXPIRY_S_MAX, BINDINGS_PER_USER_MAX, CONTACT_BYTES_MAX};
use base::{Now, scan};
use sip::{HeaderError, Name, NameAddr, Params, Scheme, Uri, View};

use crate::outbound::{self, FlowKey, Flows};
use crate::refusal::Refusal;
use crate::routing::House;

/// RFC 3261 §10.3 step 7: what asks for an hour or more is never too brief.
const HOUR_S: u32 = 3_600;

/// By what a contact is reached. The numbers are written to disk: they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Transport {
    /// UDP.
    Udp = 0,
    /// TCP.
    Tcp = 1,
    /// TLS over TCP.
    Tls = 2,
    /// WebSocket (RFC 7118).
    Ws = 3,
    /// WebSocket over TLS.
    Wss = 4,
}

impl Transport {
    /// From what was written down.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss].into_iter().find(|one| *one as u8 == code)
    }

    /// Whether a connection carries it.
    pub fn is_stream(self) -> bool {
        self != Self::Udp
    }

    /// Whether it is encrypted: what a `sips:` URI asks of every hop (RFC 3261 §26.2.2).
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }
}

/// The way by which a REGISTER came: requests to its contact go back by it, for its NAT may know no other (decisions
/// D5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way {
    /// By what.
    pub transport: Transport,
    /// Number of the listener that heard it.
    pub listener: u8,
    /// Where it came from.
    pub source: SocketAddr,
    /// The connection, by the number that this process gave it; it means nothing to another process.
    pub connection: Option<u64>,
}

/// One contact of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The whole URI, without brackets.
    pub contact: String,
    /// The other parameters of its Contact as written, feature tags among them (RFC 3840 §9), without q and expires:
    /// empty, or a text that begins with a semicolon.
    pub params: String,
    /// Preference in thousandths, 1000 where none was given.
    pub q: u16,
    /// Call-ID of the REGISTER that made or renewed it.
    pub call_id: String,
    /// Number of that REGISTER's CSeq.
    pub cseq: u32,
    /// It ends at this second, since 1970.
    pub expires_unix_s: u64,
    /// By which way it is reached.
    pub way: Way,
    /// Values of Path, topmost first (RFC 3327).
    pub path: Vec<String>,
}

impl Binding {
    /// Whether its time is over.
    pub fn is_over(&self, now: Now) -> bool {
        crate::entry::is_over(self.expires_unix_s, now)
    }

    /// Whole seconds left: never more than was asked for, and not 0 while it stands.
    pub fn left_s(&self, now: Now) -> u64 {
        let left_ms = self.expires_unix_s.saturating_mul(1_000).saturating_sub(now.unix_ms);
        if left_ms == 0 { 0 } else { (left_ms / 1_000).max(1) }
    }

    /// Its Contact value in the 200 (RFC 3261 §10.3 step 8).
    pub fn contact_value(&self, now: Now) -> String {
        let q = if self.q < 1_000 { format!(";q=0.{:03}", self.q) } else { String::new() };
        format!("<{}>{}{q};expires={}", self.contact, self.params, self.left_s(now))
    }

    /// The device, as its `+sip.instance` says it (RFC 5626 §4.1).
    pub fn instance(&self) -> Option<&str> {
        outbound::instance(&self.params)
    }

    /// The device and its flow, where the registration was of a flow (RFC 5626 §6): what is ignored is not kept.
    pub fn flow_key(&self) -> Option<FlowKey<'_>> {
        outbound::flow_key(&self.params)
    }

    /// Whether it lasts no longer than the connection that it was made over: a flow that ends here (RFC 5626 §7). One that
    /// ends at a proxy is the proxy's to watch.
    pub fn dies_with_connection(&self) -> bool {
        self.way.transport.is_stream() && self.is_own_flow()
    }

    /// Whether requests go back by the flow that it was made over, and by no other way (RFC 5626 §7).
    pub fn is_own_flow(&self) -> bool {
        self.path.is_empty() && self.flow_key().is_some()
    }
}

/// One Contact of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The whole URI.
    pub uri: String,
    /// Its parameters without q and expires, as for [`Binding::params`].
    pub params: String,
    /// Preference in thousandths.
    pub q: u16,
    /// Its own expires parameter, seconds.
    pub expires: Option<u32>,
}

/// What the Contact fields of a request say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contacts {
    /// `*`: every binding.
    Star,
    /// These; none when the request only asks (RFC 3261 §10.2.3).
    List(Vec<Contact>),
}

/// A REGISTER as far as its registrar cares: who may send it was decided before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterRequest {
    /// Call-ID.
    pub call_id: String,
    /// Number of CSeq.
    pub cseq: u32,
    /// The Expires field, seconds; nothing when absent or malformed (RFC 3261 §20.19).
    pub expires: Option<u32>,
    /// What is to be bound, or taken away.
    pub contacts: Contacts,
    /// Values of Path.
    pub path: Vec<String>,
    /// Whether its Request-URI is a SIPS URI.
    pub is_sips: bool,
    /// By which way it came.
    pub way: Way,
    /// Whether reg-id counts, and the 200 says so.
    pub flows: Flows,
}

impl RegisterRequest {
    /// From the request. 400 where a Contact is malformed (then nothing is changed), of which the fault is named; 403 for a
    /// device's contact that leads back here (RFC 5627 §5.1); 439 as [`Flows::of`] says.
    pub fn of(request: View<'_>, way: Way) -> Result<Self, Refusal> {
        let malformed = |error: HeaderError| {
            let fault = sip::Fault::from(error);
            Refusal::new(fault.status, fault.reason)
        };
        let mut contacts = match request.contacts().map_err(malformed)? {
            sip::Contacts::Star => Contacts::Star,
            sip::Contacts::List(list) => {
                Contacts::List(list.iter().map(|one| Contact::of(&one)).collect::<Result<_, _>>()?)
            }
        };
        let mut flows = Flows::Ignored;
        if let Contacts::List(list) = &mut contacts {
            let own = request.to().map_err(malformed)?;
            list.iter().try_for_each(|contact| contact.leads_elsewhere(own.uri))?;
            let has_reg_id = list.iter().any(|contact| outbound::flow_key(&contact.params).is_some());
            flows = Flows::of(request, has_reg_id)?;
            for contact in list.iter_mut() {
                // What is passed over is not kept: it would count after a restart.
                if flows == Flows::Ignored || outbound::flow_key(&contact.params).is_none() {
                    contact.params = outbound::without_reg_id(&contact.params);
                }
            }
        }
        Ok(Self {
            call_id: lossy(request.call_id().map_err(malformed)?),
            cseq: request.cseq().map_err(malformed)?.number,
            expires: request.expires(),
            contacts,
            path: request.values(Name::Path).map(lossy).collect(),
            is_sips: request.is_sips(),
            way,
            flows,
        })
    }

    /// Whether what it binds can be reached as it asks to be; what it takes away need not.
    ///
    /// 400: a `sips:` contact without SIPS URIs and encryption all the way to it (RFC 5630 §5.2). 403: a contact, or where
    /// there are some the first proxy on the way to it, that is this house itself. RFC 3261 §10.3 does not speak of it; what
    /// goes there would only come back (§16.3 step 4), and its sender would hear our own challenge.
    pub fn check(&self, house: &House) -> Result<(), Refusal> {
        let Contacts::List(contacts) = &self.contacts else { return Ok(()) };
        let path = || self.path.iter().map(|value| NameAddr::parse(value.as_bytes()).map_or(&[][..], |path| path.uri));
        let is_secure = self.is_sips && self.way.transport.is_secure() && path().all(is_sips);
        let is_here = |uri: &[u8]| Uri::parse(uri).is_ok_and(|uri| house.is_here(&uri));
        for contact in contacts.iter().filter(|contact| contact.expires.or(self.expires) != Some(0)) {
            let uri = contact.uri.as_bytes();
            if is_here(path().next().unwrap_or(uri)) {
                return Err(Refusal::new(403, "Contact Is This Server"));
            }
            if is_sips(uri) && !is_secure {
                return Err(Refusal::new(400, "A SIPS Contact Needs TLS All The Way"));
            }
        }
        Ok(())
    }
}

impl Contact {
    fn of(written: &NameAddr<'_>) -> Result<Self, Refusal> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Refusal::new(400, "Malformed Contact"));
        let mut params = String::new();
        for param in written.params.iter() {
            let name = text(param.name)?;
            if name.eq_ignore_ascii_case("q") || name.eq_ignore_ascii_case("expires") {
                continue;
            }
            params.push(';');
            params.push_str(name);
            if let Some(value) = param.value {
                params.push('=');
                params.push_str(text(value)?);
            }
        }
        // RFC 3261 §10.2.1.1: an expires that cannot be read means an hour.
        let expires = written.param("expires").map(|value| seconds(value).unwrap_or(HOUR_S));
        Ok(Self { uri: text(written.uri)?.to_owned(), params, q: written.q().unwrap_or(1_000), expires })
    }
}

impl Contact {
    /// RFC 5627 §5.1: a device's contact is a SIP URI, and neither the user's own address nor a GRUU of it.
    fn leads_elsewhere(&self, own: &[u8]) -> Result<(), Refusal> {
        if self.expires == Some(0) || outbound::instance(&self.params).is_none() {
            return Ok(());
        }
        let Ok(uri) = Uri::parse(self.uri.as_bytes()) else { return Ok(()) };
        if !matches!(uri.scheme, sip::Scheme::Sip | sip::Scheme::Sips) {
            return Err(Refusal::new(403, "Contact Is No SIP URI"));
        }
        let own = Uri::parse(own).ok();
        let leads_back =
            |own: Uri<'_>| uri.same_as(&own) || (uri.param("gr").is_some() && uri.host.eq_ignore_ascii_case(own.host));
        if own.is_some_and(leads_back) {
            return Err(Refusal::new(403, "Contact Leads Back To Its User"));
        }
        Ok(())
    }
}

/// Whether a REGISTER that a trusted peer sent is of the peer's own making, about a user: From is nobody of our domains and
/// nobody is asserted (RFC 3261 §10.2; a S-CSCF tells an application server so who is there, 3GPP TS 24.229 §5.4.1.7).
pub fn is_third_party(request: View<'_>, serves: impl Fn(&str) -> bool) -> bool {
    let from = request.from().ok().and_then(|from| Uri::parse(from.uri).ok()?.aor().ok());
    request.first(Name::PAssertedIdentity).is_none() && from.is_none_or(|from| !from.is_tel() && !serves(from.domain()))
}

impl RegisterRequest {
    /// As a third party means it: the user is reached by the peer, which knows where its devices are. What is bound is the
    /// user's own address with a way over the peer's Contact.
    pub fn by_third_party(mut self, user: &base::Aor) -> Self {
        if let Contacts::List(list) = &mut self.contacts {
            list.truncate(1);
            for contact in list {
                let peer = std::mem::replace(&mut contact.uri, user.as_str().to_owned());
                let is_loose = Uri::parse(peer.as_bytes()).is_ok_and(|uri| uri.param("lr").is_some());
                self.path = vec![format!("<{peer}{}>", if is_loose { "" } else { ";lr" })];
            }
        }
        self
    }
}

/// Digits alone; what does not fit is the largest that does (RFC 3261 §20.19).
fn seconds(value: &[u8]) -> Option<u32> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| scan::decimal(value).and_then(|value| u32::try_from(value).ok()).unwrap_or(u32::MAX))
}

/// What the operator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Seconds where the client names no time.
    pub expiry_default_s: u32,
    /// Longest binding, seconds; more is shortened.
    pub expiry_s_max: u32,
    /// Shortest binding, seconds; less is refused with 423.
    pub expiry_s_min: u32,
    /// Contacts of one user.
    pub bindings_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            expiry_default_s: BINDING_EXPIRY_S_DEFAULT,
            expiry_s_max: BINDING_EXPIRY_S_MAX,
            expiry_s_min: 1,
            bindings_max: BINDINGS_PER_USER_MAX,
        }
    }
}

/// What a REGISTER makes of the bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// All that stand now: what the 200 lists, and what is to be kept before it goes out (decisions D8).
    pub bindings: Vec<Binding>,
    /// Whether there is anything to keep: no request that only asks changes anything.
    pub changed: bool,
    /// Whether a contact was bound or renewed: then the user is here, and letters are handed out.
    pub bound: bool,
}

/// RFC 3261 §10.3, steps 6 to 8. `current` may hold bindings whose time is over: they count as gone.
///
/// 400: `*` with company or with another time than 0, an older request of the same call (step 7 says that it fails and
/// leaves the status open; 500 is said there of a registrar that fails itself), a contact that is too long. 403: more
/// contacts than a user may have. 423: shorter than the shortest.
pub fn register(
    current: &[Binding],
    request: &RegisterRequest,
    rules: &Rules,
    now: Now,
) -> Result<Registered, Refusal> {
    let standing: Vec<Binding> = current.iter().filter(|binding| !binding.is_over(now)).cloned().collect();
    match &request.contacts {
        Contacts::Star => unbind_all(&standing, request),
        Contacts::List(contacts) if contacts.is_empty() => {
            Ok(Registered { bindings: standing, changed: false, bound: false })
        }
        Contacts::List(contacts) => bind(current, standing, contacts, request, rules, now),
    }
}

/// Step 6.
fn unbind_all(standing: &[Binding], request: &RegisterRequest) -> Result<Registered, Refusal> {
    if request.expires != Some(0) {
        return Err(Refusal::new(400, "Contact * Needs Expires 0"));
    }
    standing.iter().try_for_each(|binding| check_order(binding, request))?;
    Ok(Registered { bindings: Vec::new(), changed: !standing.is_empty(), bound: false })
}

/// Step 7, contact by contact; the first fault leaves everything as it was.
fn bind(
    current: &[Binding],
    mut bindings: Vec<Binding>,
    contacts: &[Contact],
    request: &RegisterRequest,
    rules: &Rules,
    now: Now,
) -> Result<Registered, Refusal> {
    // RFC 5626 §6: a flow is bound alone.
    let is_kept = |contact: &Contact| contact.expires.or(request.expires) != Some(0);
    let kept = || contacts.iter().filter(|contact| is_kept(contact));
    if kept().count() > 1 && kept().any(|contact| outbound::flow_key(&contact.params).is_some()) {
        return Err(Refusal::new(400, "A Flow Is Registered Alone"));
    }
    // Bindings that this request has made or renewed: it may name one of them again.
    let mut own: Vec<String> = Vec::new();
    for contact in contacts {
        let expiry_s = expiry_s(contact, request, rules)?;
        if contact.uri.len() + contact.params.len() > CONTACT_BYTES_MAX {
            return Err(Refusal::new(400, "Contact Too Long"));
        }
        let found = place_of(contact, &bindings);
        if let Some(at) = found {
            if !own.contains(&bindings[at].contact) {
                check_order(&bindings[at], request)?;
            }
            bindings.remove(at);
        }
        if expiry_s > 0 {
            own.push(contact.uri.clone());
            let binding = Binding {
                contact: contact.uri.clone(),
                params: contact.params.clone(),
                q: contact.q,
                call_id: request.call_id.clone(),
                cseq: request.cseq,
                // To the second up: a binding for a second stands for one.
                expires_unix_s: now.unix_ms.div_ceil(1_000).saturating_add(u64::from(expiry_s)),
                way: request.way,
                path: request.path.clone(),
            };
            bindings.insert(found.unwrap_or(bindings.len()), binding);
        }
    }
    if bindings.len() > rules.bindings_max {
        return Err(Refusal::new(403, "Too Many Contacts"));
    }
    let bound = bindings.iter().any(|binding| own.contains(&binding.contact));
    let before = current.iter().filter(|binding| !binding.is_over(now));
    Ok(Registered { changed: !bindings.iter().eq(before), bindings, bound })
}

/// The binding that a contact renews: that of its device and flow; else the one of its URI, which is no other flow's.
fn place_of(contact: &Contact, bindings: &[Binding]) -> Option<usize> {
    let Some(flow) = outbound::flow_key(&contact.params) else {
        return bindings.iter().position(|binding| same_uri(&binding.contact, &contact.uri));
    };
    let same_flow = |binding: &Binding| {
        let known = binding.flow_key();
        known.is_some_and(|known| known.reg_id == flow.reg_id && known.instance.eq_ignore_ascii_case(flow.instance))
    };
    let same_place = |binding: &Binding| binding.flow_key().is_none() && same_uri(&binding.contact, &contact.uri);
    bindings.iter().position(same_flow).or_else(|| bindings.iter().position(same_place))
}

/// The contact's own time, else the request's, else the default; shortened, never lengthened.
fn expiry_s(contact: &Contact, request: &RegisterRequest, rules: &Rules) -> Result<u32, Refusal> {
    let asked = contact.expires.or(request.expires).unwrap_or(rules.expiry_default_s);
    if asked > 0 && asked < HOUR_S && asked < rules.expiry_s_min {
        return Err(Refusal { min_expires: Some(rules.expiry_s_min), ..Refusal::new(423, "Interval Too Brief") });
    }
    Ok(asked.min(rules.expiry_s_max))
}

/// Requests of one call take effect in the order in which they were made.
fn check_order(binding: &Binding, request: &RegisterRequest) -> Result<(), Refusal> {
    if binding.call_id == request.call_id && binding.cseq >= request.cseq {
        return Err(Refusal::new(400, "CSeq Not Above The Last One Of This Call"));
    }
    Ok(())
}

/// RFC 3261 §19.1.4, but that a contact's SIPS URI takes the place of its SIP URI and the other way round (RFC 5630
/// §5.1.1.1); of what is no URI we know, equality of the text.
fn same_uri(one: &str, other: &str) -> bool {
    fn read(text: &str) -> Option<Uri<'_>> {
        let uri = Uri::parse(text.as_bytes()).ok()?;
        Some(if uri.scheme == Scheme::Sips { Uri { scheme: Scheme::Sip, ..uri } } else { uri })
    }
    one == other || read(one).zip(read(other)).is_some_and(|(one, other)| one.same_as(&other))
}

fn is_sips(uri: &[u8]) -> bool {
    Uri::parse(uri).is_ok_and(|uri| uri.scheme == Scheme::Sips)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How far a contact says that it takes instant messages, or sessions of them (RFC 3840, O4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It shows the tag of the enabler, or the service identifier of its successor.
    Shown,
    /// It does not say, or names the method among its methods: a plain SIP client.
    Plain,
    /// It names its methods, and the one that is wanted is not among them.
    Lacking,
}

impl Support {
    /// From the parameters of a Contact: whether page messages go there.
    pub fn of(params: &str) -> Self {
        Self::of_method(params, b"MESSAGE")
    }

    fn of_method(params: &str, method: &[u8]) -> Self {
        let Some(params) = Params::parse(params.as_bytes()) else { return Self::Plain };
        // RFC 3840 §9: a tag without a value means TRUE.
        let tagged = params.get("+g.oma.sip-im").is_some_and(|value| !value.eq_ignore_ascii_case(b"FALSE"));
        let services = params.get("+g.3gpp.icsi-ref").unwrap_or_default();
        if tagged || scan::commas(services).any(is_messaging_service) {
            return Self::Shown;
        }
        let takes = |methods: &[u8]| scan::commas(methods).any(|one| one.eq_ignore_ascii_case(method));
        if params.get("methods").is_none_or(takes) { Self::Plain } else { Self::Lacking }
    }
}

/// The identifiers of CPM that mean what `+g.oma.sip-im` means (O1), percent-encoded or not.
fn is_messaging_service(identifier: &[u8]) -> bool {
    let plain = String::from_utf8_lossy(identifier).to_ascii_lowercase().replace("%3a", ":");
    let name = plain.strip_prefix("urn:urn-7:3gpp-service.ims.icsi.oma.cpm.");
    matches!(name, Some("msg" | "session"))
}

/// Which of these contacts instant messages go to, as positions: those that show the tag; where none does, those that
/// may take MESSAGE (O4.5).
pub fn im_contacts<'a>(params: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
    best(&params.into_iter().map(Support::of).collect::<Vec<_>>()).collect()
}

/// The same of contacts of which it is known what they say.
pub fn best(support: &[Support]) -> impl Iterator<Item = usize> {
    let wanted = if support.contains(&Support::Shown) { Support::Shown } else { Support::Plain };
    (0..support.len()).filter(move |at| support[*at] == wanted)
}

/// The same for sessions: those that show the tag; where none does, those that may take INVITE (O4.5).
pub fn session_contacts<'a>(params: impl IntoIterator<Item = &'a str>) -> Vec<usize> {
    best(&params.into_iter().map(|params| Support::of_method(params, b"INVITE")).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
#[path = "registrar_tests.rs"]
mod tests;
