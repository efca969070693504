//! Offer and answer (RFC 3264) between two people and the server in their middle, which puts its own paths in.
//!
//! ```text
//! A ── offer ──> Offer::read ── for_peer(our path towards B) ──> B
//! A <── Offer::answer(answer, our path towards A) ── Answer::read <── answer ── B
//! ```
//!
//! The MSRP line passes octet for octet but for what names an address or a connection. Every other media line is
//! refused with port 0 towards A, and B does not see it.

use std::net::{IpAddr, Ipv6Addr};

use sdp_types::{AddrType, Attribute, Connection, Media, NetType, Session, Time};

use crate::description::{Description, written};
use crate::error::SdpError;
use crate::media::{Message, Setup};

/// Attributes that speak of one leg only. Paths, directions of connections and certificates end at the server; so does
/// `msrp-cema`, for our path and our `c=` name the same place; `connection` is ignored (RFC 6135 §4.4).
const OF_ONE_LEG: [&str; 6] = ["path", "setup", "connection", "fingerprint", "tls-id", "msrp-cema"];
/// Attributes of a description that speak of media lines by name, of which the peer may see another set.
const OF_ONE_DESCRIPTION: [&str; 3] = ["group", "ice-lite", "ice-options"];

/// The side that connects, or the one that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Connects, and sends the first SEND at once (RFC 6135 §4.2.2).
    Active,
    /// Waits; does not know whose a connection is before the first request (RFC 4975 §5.4).
    Passive,
}

impl Role {
    /// What it is called in an answer.
    pub fn setup(self) -> Setup {
        match self {
            Self::Active => Setup::Active,
            Self::Passive => Setup::Passive,
        }
    }
}

/// Our role when we answer an offer with this `a=setup` (RFC 6135 §4.2.2): who can be reached waits, unless the offerer
/// insists on waiting itself (which it must not). Without the attribute the offerer connects (RFC 4975 §8.5).
pub fn role_to_answer(offered: Option<Setup>, is_reachable: bool) -> Role {
    match offered {
        Some(Setup::Passive) => Role::Active,
        Some(Setup::ActPass) if !is_reachable => Role::Active,
        Some(Setup::ActPass | Setup::Active) | None => Role::Passive,
    }
}

/// Our role when our offer has been answered with this `a=setup`. Without it we connect, as the offerer (RFC 4975
/// §8.5); `actpass` is no answer, and leaves it to us in the same way.
pub fn role_from_answer(answered: Option<Setup>) -> Role {
    match answered {
        Some(Setup::Active) => Role::Passive,
        Some(Setup::Passive | Setup::ActPass) | None => Role::Active,
    }
}

/// Who speaks in `o=`: ours for each leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The id of the description, the same as long as the dialog lives.
    pub id: u64,
    /// Rises by one with every change (RFC 3264 §8).
    pub version: u64,
}

/// What we say of ourselves on one leg.
#[derive(Debug, Clone, Copy)]
pub struct Ours<'a> {
    /// For `o=`.
    pub origin: Origin,
    /// Our address or name, without brackets: that of the path (RFC 4975 §8.1).
    pub host: &'a str,
    /// Our port: that of the path.
    pub port: u16,
    /// Our path: one URI.
    pub path: &'a str,
    /// Whether the leg is to be protected; in an answer, what was offered holds.
    pub is_tls: bool,
    /// Who connects: `actpass` in an offer of who can be reached, the role in an answer; always written
    /// (RFC 6135 §4.2.1).
    pub setup: Setup,
}

impl Ours<'_> {
    fn address_type(&self) -> AddrType {
        if self.host.parse::<Ipv6Addr>().is_ok() { AddrType::Ip6 } else { AddrType::Ip4 }
    }

    /// The lines of the description itself: ours but for name, times and what is said of all media together.
    fn session(&self, theirs: &Session, times: &Session) -> Session {
        let attributes = theirs
            .attributes
            .iter()
            .filter(|attribute| !is_one_of(attribute, &OF_ONE_LEG) && !is_one_of(attribute, &OF_ONE_DESCRIPTION));
        Session {
            origin: sdp_types::Origin {
                username: None,
                sess_id: self.origin.id.to_string(),
                sess_version: self.origin.version,
                nettype: NetType::In,
                addrtype: self.address_type(),
                unicast_address: self.host.to_owned(),
            },
            session_name: theirs.session_name.clone(),
            session_description: theirs.session_description.clone(),
            uri: None,
            emails: Vec::new(),
            phones: Vec::new(),
            connection: Some(self.connection()),
            bandwidths: Vec::new(),
            times: times.times.clone(),
            time_zones: times.time_zones.clone(),
            key: None,
            attributes: attributes.cloned().collect(),
            medias: Vec::new(),
        }
    }

    fn connection(&self) -> Connection {
        match self.host.parse::<IpAddr>() {
            Ok(address) => Connection::from_ip_addr(address),
            Err(_) => Connection::new(NetType::In, self.address_type(), self.host),
        }
    }

    /// Their MSRP line with our port, path and role in it, each where theirs stood.
    fn line(&self, theirs: &Media, proto: &str) -> Media {
        let mut attributes = Vec::with_capacity(theirs.attributes.len() + 1);
        let (mut has_path, mut has_setup) = (false, false);
        for attribute in &theirs.attributes {
            if attribute.attribute.eq_ignore_ascii_case("path") && !has_path {
                has_path = true;
                attributes.push(Attribute::with_value("path", self.path));
            } else if attribute.attribute.eq_ignore_ascii_case("setup") && !has_setup {
                has_setup = true;
                attributes.push(Attribute::with_value("setup", self.setup.as_str()));
            } else if !is_one_of(attribute, &OF_ONE_LEG) {
                attributes.push(attribute.clone());
            }
        }
        if !has_setup {
            attributes.push(Attribute::with_value("setup", self.setup.as_str()));
        }
        Media {
            port: self.port,
            num_ports: None,
            proto: proto.to_owned(),
            connections: Vec::new(),
            attributes,
            ..theirs.clone()
        }
    }
}

fn is_one_of(attribute: &Attribute, names: &[&str]) -> bool {
    names.iter().any(|name| attribute.attribute.eq_ignore_ascii_case(name))
}

/// An offer whose first complete MSRP line is the one that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    description: Description,
    index: usize,
}

impl Offer {
    /// Reads an offer. Without an MSRP line that is complete and in use, the error says 488.
    pub fn read(text: &[u8]) -> Result<Self, SdpError> {
        let description = Description::parse(text)?;
        let index = taken_line(&description)?;
        Ok(Self { description, index })
    }

    /// The whole of it.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The line that is taken.
    pub fn message(&self) -> Message<'_> {
        self.description.message_at(self.index).expect("complete when it was read")
    }

    /// The offerer's path.
    pub fn remote_path(&self) -> &str {
        self.message().path()
    }

    /// Who the offerer wants to connect.
    pub fn setup(&self) -> Option<Setup> {
        self.message().setup()
    }

    /// The offer for the peer: the MSRP line alone, with our path, port, address and role.
    pub fn for_peer(&self, ours: &Ours<'_>) -> Vec<u8> {
        let theirs = self.description.session();
        let mut session = ours.session(theirs, theirs);
        session.medias.push(ours.line(self.message().media(), proto_of(ours.is_tls)));
        written(&session)
    }

    /// The answer for the offerer: the peer's MSRP line with our path, port, address and role; every other line that
    /// was offered refused, in its place (RFC 3264 §6).
    pub fn answer(&self, peer: &Answer, ours: &Ours<'_>) -> Vec<u8> {
        let session = ours.session(peer.description.session(), self.description.session());
        self.answered(session, ours.line(peer.message().media(), &self.message().media().proto))
    }

    /// An answer of our own: for rooms, mailboxes and clients.
    pub fn own_answer(&self, ours: &Ours<'_>, content: &Content<'_>) -> Vec<u8> {
        let bare = bare_session(self.description.session().times.clone());
        let line = content.line(ours, &self.message().media().proto);
        self.answered(ours.session(&bare, self.description.session()), line)
    }

    fn answered(&self, mut session: Session, line: Media) -> Vec<u8> {
        let offered = self.description.session().medias.iter();
        session.medias.extend(offered.map(refused));
        session.medias[self.index] = line;
        written(&session)
    }

    /// Whether this is the offer before once more: then the answer before is its answer (RFC 4975 §8.4).
    pub fn is_unchanged_from(&self, before: &Offer) -> bool {
        self.description.same_version(&before.description)
    }

    /// Whether the offerer keeps its path: then its connection and its session stay, whatever else has changed
    /// (RFC 4975 §8.4).
    pub fn keeps_path_of(&self, before: &Offer) -> bool {
        self.remote_path() == before.remote_path()
    }
}

/// The answer to an offer with one media line, which must not have been refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    description: Description,
}

impl Answer {
    /// Reads an answer. When the line was refused with port 0, the error says 488.
    pub fn read(text: &[u8]) -> Result<Self, SdpError> {
        let description = Description::parse(text)?;
        // RFC 3264 §6: as many lines as were offered.
        if description.media_count() != 1 {
            return Err(SdpError::MediaCount { offered: 1, answered: description.media_count() });
        }
        taken_line(&description)?;
        Ok(Self { description })
    }

    /// The whole of it.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The line.
    pub fn message(&self) -> Message<'_> {
        self.description.message_at(0).expect("complete when it was read")
    }

    /// The answerer's path.
    pub fn remote_path(&self) -> &str {
        self.message().path()
    }

    /// Which role the answerer has taken.
    pub fn setup(&self) -> Option<Setup> {
        self.message().setup()
    }
}

/// What we take ourselves, in an offer or answer that is not made of somebody else's.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The list of RFC 4975 §8.6, with a space between.
    pub accept_types: &'a str,
    /// The list of what is taken only within a container; empty: not written.
    pub accept_wrapped_types: &'a str,
    /// Octets of the largest whole message that we want.
    pub max_size: Option<u64>,
    /// Further attributes: `name` or `name:value`.
    pub attributes: &'a [&'a str],
}

impl Content<'_> {
    fn line(&self, ours: &Ours<'_>, proto: &str) -> Media {
        let mut attributes = vec![Attribute::with_value("accept-types", self.accept_types)];
        if !self.accept_wrapped_types.is_empty() {
            attributes.push(Attribute::with_value("accept-wrapped-types", self.accept_wrapped_types));
        }
        attributes.extend(self.max_size.map(|max| Attribute::with_value("max-size", max)));
        attributes.push(Attribute::with_value("path", ours.path));
        attributes.extend(self.attributes.iter().map(|text| match text.split_once(':') {
            Some((name, value)) => Attribute::with_value(name, value),
            None => Attribute::new(text),
        }));
        let bare = Media { attributes, ..media("message", proto, "*") };
        ours.line(&bare, proto)
    }
}

/// An offer of our own, with one MSRP line.
pub fn own_offer(ours: &Ours<'_>, content: &Content<'_>) -> Vec<u8> {
    let bare = bare_session(vec![Time::new(0, 0)]);
    let mut session = ours.session(&bare, &bare);
    session.medias.push(content.line(ours, proto_of(ours.is_tls)));
    written(&session)
}

/// What one side has said on one dialog: its version rises when it says something else, and only then (RFC 3264 §8).
#[derive(Debug, Clone)]
pub struct Spoken {
    origin: Origin,
    last: Vec<u8>,
}

impl Spoken {
    /// Nothing said yet. `id` must be its own for each dialog.
    pub fn new(id: u64) -> Self {
        Self { origin: Origin { id, version: 0 }, last: Vec::new() }
    }

    /// Writes with the version of the last time; if that gives other octets than the last time, with the next.
    pub fn say(&mut self, write: impl Fn(Origin) -> Vec<u8>) -> &[u8] {
        if self.last.is_empty() || write(self.origin) != self.last {
            self.origin.version += 1;
            self.last = write(self.origin);
        }
        &self.last
    }

    /// What was said last; empty at first.
    pub fn last(&self) -> &[u8] {
        &self.last
    }
}

fn taken_line(description: &Description) -> Result<usize, SdpError> {
    let mut first_fault = SdpError::NoMessage;
    for index in 0..description.media_count() {
        match description.message_at(index) {
            Ok(_) => return Ok(index),
            Err(fault) if first_fault == SdpError::NoMessage => first_fault = fault,
            Err(_) => {}
        }
    }
    Err(first_fault)
}

/// RFC 3264 §6: port 0; the formats stay, for one must stand there.
fn refused(offered: &Media) -> Media {
    media(&offered.media, &offered.proto, &offered.fmt)
}

fn media(kind: &str, proto: &str, fmt: &str) -> Media {
    Media {
        media: kind.to_owned(),
        port: 0,
        num_ports: None,
        proto: proto.to_owned(),
        fmt: fmt.to_owned(),
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}

fn bare_session(times: Vec<Time>) -> Session {
    Session {
        origin: sdp_types::Origin::with_ip_addr("0", 0, std::net::Ipv4Addr::UNSPECIFIED),
        session_name: "-".to_owned(),
        session_description: None,
        uri: None,
        emails: Vec::new(),
        phones: Vec::new(),
        connection: None,
        bandwidths: Vec::new(),
        times,
        time_zones: Vec::new(),
        key: None,
        attributes: Vec::new(),
        medias: Vec::new(),
    }
}

fn proto_of(is_tls: bool) -> &'static str {
    if is_tls { "TCP/TLS/MSRP" } else { "TCP/MSRP" }
}
