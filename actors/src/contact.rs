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
    /// The URI: the Request-URI of what goes there.
    pub uri: String,
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
        let (uri, q, is_flow, targets) = (binding.contact.clone(), binding.q, binding.is_own_flow(), Targets::new());
        Self { uri, routes, q, is_flow, hop, address, place, targets }
    }

    /// One hop that is known.
    pub fn at(uri: String, routes: String, hop: Hop) -> Self {
        Self { uri, routes, q: 0, is_flow: false, hop, address: hop.peer(), place: None, targets: Targets::new() }
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
        targets.retain(|target| reachable(Some(target.address), self.address) == target.address);
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
    /// unless it can be reached by none.
    pub fn way(&self, house: &House) -> Option<Hop> {
        match (self.hop.conn(), self.target()) {
            (Some(conn), _) if house.flows.get(conn).is_some() => Some(self.hop),
            (Some(_), _) if self.is_flow => None,
            (_, Some(target)) => house.way_to(target, self.hop.listener()),
            (Some(_), None) => house.dial(self.address),
            (None, None) => Some(self.hop),
        }
    }
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
/// `learned`: back by that connection while it leads there, else to the address that the URI names.
pub fn way_within(house: &House, uri: &str, learned: Hop) -> Option<Hop> {
    let named = sip::Uri::parse(uri.as_bytes()).ok().and_then(|uri| uri.addr());
    let address = reachable(named, learned.peer());
    let is_there = address.ip().to_canonical() == learned.peer().ip().to_canonical();
    match learned.conn() {
        Some(conn) if is_there && house.flows.get(conn).is_some() => Some(learned),
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

    use super::*;
    use crate::Config;

    #[test]
    fn a_peer_in_a_dialog_is_called_where_it_wants_unless_that_is_behind_a_nat() {
        let house = House::new(Config::default(), storage::Store::in_memory(), IdMaker::new([1; 16]), Now::read);
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
