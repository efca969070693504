//! The way to a device: by the connection that it came by, to the address or the host that it names, or back to where it
//! was heard from. The one place that knows of NATs.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use im::registrar::Binding;
use locate::{Host, Located, Place, Target, Targets};

use crate::hop::{ConnId, Hop};
use crate::house::House;

/// A registered contact, as requests are sent to it.
#[derive(Clone, Debug)]
pub struct Contact {
    /// The Request-URI of what goes there and asks for no SIPS.
    uri: String,
    /// The same of what does, where the contact was registered so.
    sips: Option<String>,
    /// Whether its flow is encrypted.
    is_secure: bool,
    /// `Route` lines, from its Path (RFC 3327 §5.4).
    pub routes: String,
    /// Its preference in thousandths.
    pub q: u16,
    /// It is called by the flow that it registered by, and by no other way (RFC 5626 §7).
    pub is_flow: bool,
    /// Where it is sent, or was heard from.
    pub hop: Hop,
    /// Where a connection of our own would lead, when the one that it registered by is gone.
    address: SocketAddr,
    /// What its next hop is called, where that is a name.
    place: Option<Place>,
    /// The servers of that name that are left to be tried, the best one last.
    targets: Targets,
}

impl Contact {
    /// Of a binding.
    pub fn of(binding: &Binding) -> Self {
        let routes = binding.path.iter().map(|path| format!("Route: {path}\r\n")).collect();
        let path = binding.path.first().and_then(|path| sip::NameAddr::parse(path.as_bytes()));
        let path = path.and_then(|path| path.parsed_uri().ok());
        let next = path.or_else(|| sip::Uri::parse(binding.contact.as_bytes()).ok());
        let place = next.and_then(|next| Place::of_uri(&next).ok());
        let place = place.filter(|place| matches!(place.host, Host::Name(_)) && !binding.is_own_flow());
        let mut hop = hop_of(binding);
        let mut address = address_of(binding);
        if let Some(first) = path.and_then(|path| path.addr()) {
            address = first;
            if !hop.is_reliable() {
                hop = Hop::udp(hop.listener(), first);
            }
        }
        let is_secure = binding.way.transport.is_secure();
        let (q, is_flow, targets) = (binding.q, binding.is_own_flow(), Targets::new());
        let (uri, sips) = schemes_of(&binding.contact);
        Self { uri, sips, is_secure, routes, q, is_flow, hop, address, place, targets }
    }

    /// One hop that is known.
    pub fn at(uri: &str, routes: String, hop: Hop) -> Self {
        let (is_secure, address, targets) = (hop.carrier().is_secure(), hop.peer(), Targets::new());
        let (uri, sips) = schemes_of(uri);
        Self { uri, sips, is_secure, routes, q: 0, is_flow: false, hop, address, place: None, targets }
    }

    /// The Request-URI of a request to this contact; `is_sips`: the request asks for SIPS. Nothing where that, or the
    /// contact itself, asks for more security than its flow has (RFC 5630 §5.3): this is where all who send ask.
    pub fn uri(&self, is_sips: bool) -> Option<&str> {
        match &self.sips {
            Some(_) if !self.is_secure => None,
            Some(uri) if is_sips => Some(uri),
            None if is_sips => None,
            _ => Some(&self.uri),
        }
    }

    /// Somebody in another domain, whose servers were found. Nothing where every one of them is this house itself.
    pub fn elsewhere(house: &House, uri: &str, located: &Located, listener: u8, now: Instant) -> Option<Self> {
        let mut targets = house.locator.order(located, house.ids.next_u64(), now);
        targets.retain(|target| !house.is_own_address(target.address));
        targets.reverse();
        let hop = Hop::udp(listener, targets.last()?.address);
        let is_secure = targets.iter().all(|target| target.transport == locate::Transport::Tls);
        Some(Self { targets, is_secure, ..Self::at(uri, String::new(), hop) })
    }

    /// Whether there is another server to try, should this one fail.
    pub fn has_spare(&self) -> bool {
        self.targets.len() > 1
    }

    /// The host whose servers must be found first (RFC 3263): one that is called by its name, while no connection of its
    /// own stands. A name of ours leads back here, and is none.
    pub fn wants(&self, house: &House) -> Option<&Place> {
        let stands = |hop: Hop| hop.conn().is_some_and(|conn| house.flows.get(conn).is_some());
        let is_ours = |place: &Place| matches!(&place.host, Host::Name(name) if house.config.is_ours(name));
        self.place.as_ref().filter(|place| house.locator.can_ask() && !stands(self.hop) && !is_ours(place))
    }

    /// Its servers were found. Where none of them can be reached from here, it is called where it was heard from.
    pub fn found(&mut self, house: &House, located: &Located, now: Instant) {
        let mut targets = house.locator.order(located, house.ids.next_u64(), now);
        let may = |target: &Target| !self.wants_tls() || target.transport == locate::Transport::Tls;
        targets.retain(|target| may(target) && reachable(Some(target.address), self.address) == target.address);
        targets.reverse();
        self.targets = targets;
    }

    /// The server that it is sent to.
    fn target(&self) -> Option<&Target> {
        self.targets.last()
    }

    /// What it was sent to has failed (RFC 3263 §4.3): that is set aside. `true`: there is another one to try.
    pub fn failed(&mut self, house: &House, pause: Option<Duration>, now: Instant) -> bool {
        if let Some(target) = self.targets.pop() {
            house.locator.failed(&target, pause, now);
        }
        !self.targets.is_empty()
    }

    /// Where it is sent, after those of its servers to which there is no way have been passed over.
    pub fn find_way(&mut self, house: &House, now: Instant) -> Option<Hop> {
        loop {
            let way = self.way(house);
            if way.is_some() || !self.failed(house, None, now) {
                return way;
            }
        }
    }

    /// What it was sent to has answered.
    pub fn worked(&self, house: &House) {
        if let Some(target) = self.target() {
            house.locator.worked(target);
        }
    }

    /// Where it is sent: by the connection while it stands, else to the server that was found, else by a new connection,
    /// unless it can be reached by none. What was registered by an encrypted connection, or asks for one, is called by no
    /// other kind.
    pub fn way(&self, house: &House) -> Option<Hop> {
        match (self.hop.conn(), self.target()) {
            (Some(conn), _) if house.flows.get(conn).is_some() => Some(self.hop),
            (Some(_), _) if self.is_flow => None,
            (_, Some(target)) => house.way_to(target, self.hop.listener()),
            (Some(_), None) if self.wants_tls() => None,
            (Some(_), None) => house.dial(self.address),
            (None, None) => Some(self.hop),
        }
    }

    fn wants_tls(&self) -> bool {
        let uri = sip::Uri::parse(self.uri.as_bytes());
        self.is_secure || self.sips.is_some() || uri.is_ok_and(|uri| asks_for_tls(&uri))
    }
}

/// Whether nobody may be called by this URI but over TLS (RFC 3261 §26.2.2; `transport=tls` is what came before `sips:`).
pub(crate) fn asks_for_tls(uri: &sip::Uri<'_>) -> bool {
    let is_tls = |name: &[u8]| name.eq_ignore_ascii_case(b"tls") || name.eq_ignore_ascii_case(b"wss");
    uri.scheme == sip::Scheme::Sips || uri.transport().is_some_and(is_tls)
}

/// A contact's URI for requests that ask for no SIPS, and for those that do: a SIP request goes to a SIPS contact by its SIP
/// URI (RFC 5630 §5.3).
fn schemes_of(uri: &str) -> (String, Option<String>) {
    match uri.split_at_checked(5) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sips:") => (format!("sip:{rest}"), Some(uri.to_owned())),
        _ => (uri.to_owned(), None),
    }
}

/// The line by which a sender learns why what asked for SIPS was refused (RFC 5630 §5.3, RFC 3261 §20.43).
pub(crate) fn sips_not_allowed(house: &House) -> String {
    let agent = house.config.domains.first().map_or("localhost", String::as_str);
    format!("Warning: 380 {agent} \"SIPS Not Allowed\"\r\n")
}

/// RFC 3261 §20.33: seconds, and what may stand behind them.
pub(crate) fn retry_after(response: &sip::Message) -> Option<Duration> {
    let value = response.view().first(sip::Name::RetryAfter)?;
    let end = value.iter().position(|octet| !octet.is_ascii_digit()).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok()?.parse().ok().map(Duration::from_secs)
}

/// Where requests to a contact go: over the connection that it registered by, else to the address that its URI names,
/// unless that is one behind a NAT: then to where its REGISTER came from (decisions D5).
pub fn hop_of(binding: &Binding) -> Hop {
    let way = &binding.way;
    // RFC 5626 §7: a flow leads to where its REGISTER came from.
    if binding.is_own_flow() && !way.transport.is_stream() {
        return Hop::udp(way.listener, way.source);
    }
    match way.connection.and_then(|number| u32::try_from(number).ok()) {
        Some(number) if way.transport.is_stream() => Hop::stream(ConnId(number), way.source),
        // A contact that asks for a stream gets one, whatever its REGISTER came by (RFC 3261 §19.1.1).
        _ if way.transport.is_stream() || wants_stream(&binding.contact) => Hop::stream(ConnId(0), address_of(binding)),
        _ => Hop::udp(way.listener, address_of(binding)),
    }
}

fn wants_stream(uri: &str) -> bool {
    let uri = sip::Uri::parse(uri.as_bytes()).ok();
    uri.and_then(|uri| uri.transport()).is_some_and(|name| !name.eq_ignore_ascii_case(b"udp"))
}

/// The address that a contact is called at.
pub fn address_of(binding: &Binding) -> SocketAddr {
    let uri = sip::Uri::parse(binding.contact.as_bytes()).ok();
    reachable(uri.and_then(|uri| uri.addr()), binding.way.source)
}

/// Where a request within a dialog goes whose next hop is `uri` (RFC 3261 §12.2.1.1), and whose peer was heard from
/// `learned`: back by that connection while it leads there, else to the address that the URI names, if it may be called in
/// clear.
pub fn way_within(house: &House, uri: &str, learned: Hop) -> Option<Hop> {
    let named = sip::Uri::parse(uri.as_bytes()).ok();
    let wants_tls = named.is_some_and(|named| asks_for_tls(&named));
    let address = reachable(named.and_then(|named| named.addr()), learned.peer());
    let is_there = address.ip().to_canonical() == learned.peer().ip().to_canonical();
    match learned.conn() {
        Some(conn) if is_there && house.flows.get(conn).is_some() => Some(learned),
        _ if wants_tls => None,
        None if !wants_stream(uri) => Some(Hop::udp(learned.listener(), address)),
        _ => house.dial(address),
    }
}

/// The address that was named, unless it is one behind a NAT, or a name: then where its owner was heard from.
fn reachable(named: Option<SocketAddr>, source: SocketAddr) -> SocketAddr {
    let hidden = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified(),
    };
    let is_hidden = |named: &SocketAddr| named.ip().to_canonical() != source.ip().to_canonical() && hidden(named.ip());
    named.filter(|named| !is_hidden(named)).unwrap_or(source)
}

#[cfg(test)]
mod tests {
    use base::{IdMaker, Now};
    use im::registrar::{Transport, Way};

    use super::*;
    use crate::Config;

    fn house() -> std::sync::Arc<House> {
        House::new(Config::default(), storage::Store::in_memory(), IdMaker::new([1; 16]), Now::read)
    }

    fn contact(uri: &str, transport: Transport, connection: Option<u64>) -> Contact {
        Contact::of(&Binding {
            contact: uri.into(),
            params: String::new(),
            q: 1_000,
            call_id: "c".into(),
            cseq: 1,
            expires_unix_s: u64::MAX,
            way: Way { transport, listener: 0, source: "198.51.100.7:4000".parse().unwrap(), connection },
            path: Vec::new(),
        })
    }

    #[test]
    fn a_contact_is_asked_for_no_more_security_than_its_flow_has_and_gives_no_less_than_it_wants() {
        // RFC 5630 §5.3
        let (plain, sips) = ("sip:a@203.0.113.9", "sips:a@203.0.113.9");
        for (uri, transport, for_sip, for_sips) in [
            (plain, Transport::Udp, Some(plain), None),
            (plain, Transport::Tls, Some(plain), None),
            (sips, Transport::Udp, None, None),
            (sips, Transport::Tcp, None, None),
            (sips, Transport::Ws, None, None),
            ("SIPS:a@203.0.113.9", Transport::Tls, Some(plain), Some("SIPS:a@203.0.113.9")),
            (sips, Transport::Wss, Some(plain), Some(sips)),
        ] {
            let contact = contact(uri, transport, Some(1));
            assert_eq!((contact.uri(false), contact.uri(true)), (for_sip, for_sips), "{uri} {transport:?}");
        }
    }

    #[test]
    fn what_asks_for_tls_is_never_called_by_a_connection_in_clear() {
        let house = house();
        house.flows.introduce(Box::new(|_, _| true));
        let outbox = house.flows.open(None);
        let stands = Some(u64::from(outbox.id().0));
        for (uri, transport, by_its_own, by_a_new_one) in [
            ("sip:a@203.0.113.9;transport=tcp", Transport::Tcp, true, true),
            ("sip:a@203.0.113.9;transport=ws", Transport::Ws, true, true),
            ("sip:a@203.0.113.9;transport=TLS", Transport::Tcp, true, false),
            ("sip:a@203.0.113.9;transport=wss", Transport::Wss, true, false),
            ("sip:a@203.0.113.9", Transport::Tls, true, false),
            ("sips:a@203.0.113.9", Transport::Tls, true, false),
        ] {
            let way = |connection| contact(uri, transport, connection).way(&house).is_some();
            assert_eq!((way(stands), way(None)), (by_its_own, by_a_new_one), "{uri}");
        }
        assert!(contact("sip:a@203.0.113.9;transport=tls", Transport::Udp, None).way(&house).is_none());
    }

    #[test]
    fn a_peer_in_a_dialog_is_called_where_it_wants_unless_that_is_behind_a_nat() {
        let house = house();
        let heard: SocketAddr = "198.51.100.7:4000".parse().unwrap();
        let udp = Hop::udp(1, heard);
        let to =
            |uri: &str, learned| way_within(&house, uri, learned).map(|hop| (hop.peer().to_string(), hop.listener()));
        let at = |address: &str| Some((address.to_owned(), 1));
        assert_eq!(to("sip:a@203.0.113.9:5070", udp), at("203.0.113.9:5070"));
        assert_eq!(to("sip:a@198.51.100.7", udp), at("198.51.100.7:5060"));
        for hidden in ["sip:a@10.0.0.2:5070", "sip:a@host.invalid", "tel:+49", "not a URI"] {
            assert_eq!(to(hidden, udp), at("198.51.100.7:4000"), "{hidden}");
        }
        // A connection is the way back while it stands.
        let outbox = house.flows.open(None);
        let stream = Hop::stream(outbox.id(), heard);
        assert_eq!(way_within(&house, "sip:a@198.51.100.7:5070;transport=tcp", stream), Some(stream));
        assert_eq!(
            way_within(&house, "sip:a@203.0.113.9;transport=tcp", stream),
            None,
            "nobody opens connections here"
        );
        house.flows.remove(outbox.id());
        assert_eq!(way_within(&house, "sip:a@198.51.100.7:5070;transport=tcp", stream), None);
    }
}
