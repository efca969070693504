//! Where a request to a host is sent: RFC 3263 §4 and §5, as a machine that says which questions it wants answered.
//!
//! ```text
//! a number ───────────────────────────────────────────────────────────────────────────────> found
//! a port, or a Via's port ──────────────────────────────────────────> A, AAAA of the host ──> found
//! im:, pres: ──> SRV _im._sip ──┬────────────────────────────────────────────┘ ▲     ▲
//!                               └ none                                         │     │
//! a name ──> NAPTR ──> SRV of each transport that is spoken by both ───────────┘     │
//!              └ none ──> SRV of each transport that we speak ──> none of them ──────┘
//! ```
//! Whatever is asked is asked at once where one answer does not depend on the other. What was answered is kept, and after
//! the last open answer the way is walked again from its beginning: so there is no state but the answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base::limits::{
    DNS_ADDRESSES_MAX, DNS_FAILURE_TTL, DNS_NEGATIVE_TTL_MAX, DNS_QUESTIONS_MAX, DNS_RECORDS_MAX, DNS_TTL_MAX,
};
use hashbrown::HashMap;

use crate::located::{Located, Server};
use crate::place::{Host, Place, Service, Speaks, Transport, is_name};
use crate::question::{Answer, Kind, Naptr, Question, Record, Srv};
use crate::search::{Failure, Outcome, Output, Search};

/// The search for the servers of one place.
#[derive(Debug)]
pub struct NextHop {
    place: Place,
    speaks: Speaks,
    answers: HashMap<Question, Option<Answer>>,
    open: usize,
    outputs: Vec<Output<Located>>,
}

/// Nothing can be said before these are answered.
struct Wanted(Vec<Question>);

type Way<T> = Result<T, Stop>;

enum Stop {
    Wants(Wanted),
    Fails(Failure),
}

/// A service's name in the DNS, and by what it is spoken there.
struct Door {
    rank: u32,
    transport: Transport,
    name: String,
}

/// A host that serves.
struct HostAt {
    rank: u32,
    weight: u16,
    transport: Transport,
    host: String,
    port: u16,
}

impl NextHop {
    /// Begins to look for a place, to be spoken to by one of these transports.
    pub fn start(place: Place, speaks: Speaks) -> Self {
        let mut search = Self { place, speaks, answers: HashMap::new(), open: 0, outputs: Vec::new() };
        search.walk();
        search
    }

    /// Walks as far as the answers lead.
    fn walk(&mut self) {
        match self.locate() {
            Ok(found) => self.end(Ok(found)),
            Err(Stop::Fails(failure)) => self.end(Err(failure)),
            Err(Stop::Wants(Wanted(questions))) => {
                if self.answers.len() + questions.len() > DNS_QUESTIONS_MAX {
                    return self.end(Err(Failure::Unknown));
                }
                for question in questions {
                    if self.answers.insert(question.clone(), None).is_none() {
                        self.open += 1;
                        self.outputs.push(Output::Ask(question));
                    }
                }
            }
        }
    }

    fn end(&mut self, found: Result<Located, Failure>) {
        let mut ttl = if found.is_ok() { DNS_TTL_MAX } else { DNS_NEGATIVE_TTL_MAX };
        for answer in self.answers.values().flatten() {
            ttl = ttl.min(match answer {
                Answer::Records { ttl, .. } | Answer::Nothing { ttl } => *ttl,
                Answer::Unknown => DNS_FAILURE_TTL,
            });
        }
        self.outputs.push(Output::Done(Outcome { found, ttl }));
    }

    fn locate(&self) -> Way<Located> {
        let name = match &self.place.host {
            Host::Address(address) => return self.numeric(*address),
            Host::Name(name) => &**name,
        };
        if let Some(port) = self.place.port {
            // RFC 3263 §4.2, §5: a port was written, so A and AAAA alone.
            return self.servers(vec![self.host_at(name, port)?]);
        }
        if let Some(hosts) = self.im_hosts(name)? {
            return self.servers(hosts);
        }
        let doors = self.doors(name)?;
        match self.through(&doors)? {
            Some(hosts) => self.servers(hosts),
            None => {
                // RFC 3263 §4.1, §4.2: no SRV record, so the host itself, at the transport's own port.
                let transport = match (self.place.transport, doors.first()) {
                    (None, Some(door)) if self.is_by_naptr(name) => door.transport,
                    _ => self.default_transport()?,
                };
                let (host, port) = (name.to_owned(), transport.port());
                self.servers(vec![HostAt { rank: 0, weight: 0, transport, host, port }])
            }
        }
    }

    /// RFC 3263 §4.2: the address that is written, and the port of its transport where none is.
    fn numeric(&self, address: IpAddr) -> Way<Located> {
        let transport = self.default_transport()?;
        if !self.speaks.by(transport).have(address) {
            return Err(Stop::Fails(Failure::Unspoken));
        }
        let address = SocketAddr::new(address, self.place.port.unwrap_or(transport.port()));
        let server = Server { rank: 0, weight: 0, transport, addresses: [address].into_iter().collect() };
        self.located(vec![server])
    }

    fn host_at(&self, name: &str, port: u16) -> Way<HostAt> {
        Ok(HostAt { rank: 0, weight: 0, transport: self.default_transport()?, host: name.to_owned(), port })
    }

    /// The transport where the DNS is not asked for one (RFC 3263 §4.1): the one that is written, else UDP, and TLS for
    /// what must be secure.
    fn default_transport(&self) -> Way<Transport> {
        let spoken = |transport| self.may_speak(transport).then_some(transport);
        let found = match self.place.transport {
            // What must be secure goes over TLS where a stream was asked for.
            Some(Transport::Tcp) if self.place.secure => spoken(Transport::Tls),
            Some(written) => spoken(written),
            None => [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter().find_map(spoken),
        };
        found.ok_or(Stop::Fails(Failure::Unspoken))
    }

    fn may_speak(&self, transport: Transport) -> bool {
        self.speaks.by(transport).any() && (transport == Transport::Tls || !self.place.secure)
    }

    /// The names that SRV records are asked of, the preferred one first.
    fn doors(&self, name: &str) -> Way<Vec<Door>> {
        let door = |(rank, transport): (usize, Transport)| Door {
            rank: rank as u32,
            transport,
            name: format!("{}.{name}", transport.labels()),
        };
        if self.place.transport.is_some() {
            return Ok(vec![door((0, self.default_transport()?))]);
        }
        let answer = self.ask(name, Kind::Naptr)?;
        let mut rules = naptrs(answer);
        rules.retain(|rule| is_sip(&rule.services));
        if rules.is_empty() {
            // RFC 3263 §4.1: the client may take any that it speaks: what is secure first, then what takes any size.
            let spoken =
                [Transport::Tls, Transport::Tcp, Transport::Udp].into_iter().filter(|one| self.may_speak(*one));
            let doors: Vec<Door> = spoken.enumerate().map(door).collect();
            return if doors.is_empty() { Err(Stop::Fails(Failure::Unspoken)) } else { Ok(doors) };
        }
        rules.sort_by_key(|rule| (rule.order, rule.preference));
        let usable = rules.iter().filter_map(|rule| {
            let transport = Transport::of_services(&rule.services).filter(|one| self.may_speak(*one))?;
            // RFC 3263 §4.1: an empty regular expression, and the SRV's name.
            let is_srv = rule.flags.eq_ignore_ascii_case("s") && rule.regexp.is_empty() && is_name(&rule.replacement);
            is_srv.then(|| (transport, rule.replacement.to_ascii_lowercase()))
        });
        let doors: Vec<Door> =
            usable.enumerate().map(|(rank, (transport, name))| Door { rank: rank as u32, transport, name }).collect();
        // The domain says how it is reached, and that is by nothing that we may speak: no guess is made past it.
        if doors.is_empty() { Err(Stop::Fails(Failure::Unspoken)) } else { Ok(doors) }
    }

    fn is_by_naptr(&self, name: &str) -> bool {
        self.ask(name, Kind::Naptr).is_ok_and(|answer| naptrs(answer).iter().any(|rule| is_sip(&rule.services)))
    }

    /// The hosts behind the doors; nothing where no door has an SRV record.
    fn through(&self, doors: &[Door]) -> Way<Option<Vec<HostAt>>> {
        self.ask_all(doors.iter().map(|door| Question::new(&*door.name, Kind::Srv)))?;
        let (mut hosts, mut is_refused) = (Vec::new(), false);
        for door in doors {
            match srvs(self.ask(&door.name, Kind::Srv)?) {
                Found::Servers(servers) => hosts.extend(servers.into_iter().map(|srv| HostAt {
                    rank: door.rank << 16 | u32::from(srv.priority),
                    weight: srv.weight,
                    transport: door.transport,
                    host: srv.target.to_ascii_lowercase(),
                    port: srv.port,
                })),
                Found::Refusal => is_refused = true,
                Found::Nothing => {}
            }
        }
        hosts.sort_by_key(|host| host.rank);
        hosts.truncate(DNS_RECORDS_MAX);
        match (hosts.is_empty(), is_refused) {
            (false, _) => Ok(Some(hosts)),
            (true, true) => Err(Stop::Fails(Failure::Refused)),
            (true, false) => Ok(None),
        }
    }

    /// RFC 3861 §4, RFC 5509: the SIP servers of an `im:` or `pres:` domain are hosts with a port, spoken to as a SIP URI
    /// with that host and port would be.
    fn im_hosts(&self, name: &str) -> Way<Option<Vec<HostAt>>> {
        let labels = match self.place.service {
            Service::Sip => return Ok(None),
            Service::Im => "_im._sip",
            Service::Pres => "_pres._sip",
        };
        match srvs(self.ask(&format!("{labels}.{name}"), Kind::Srv)?) {
            Found::Nothing => Ok(None),
            Found::Refusal => Err(Stop::Fails(Failure::Refused)),
            Found::Servers(servers) => {
                let transport = self.default_transport()?;
                let host = |srv: Srv| HostAt {
                    rank: srv.priority.into(),
                    weight: srv.weight,
                    transport,
                    host: srv.target.to_ascii_lowercase(),
                    port: srv.port,
                };
                Ok(Some(servers.into_iter().map(host).collect()))
            }
        }
    }

    /// The hosts, with their addresses.
    fn servers(&self, hosts: Vec<HostAt>) -> Way<Located> {
        let wanted = |host: &HostAt| {
            let families = self.speaks.by(host.transport);
            let name = &host.host;
            let one = |is_wanted: bool, kind| is_wanted.then(|| Question::new(&**name, kind));
            [one(families.v6, Kind::Aaaa), one(families.v4, Kind::A)].into_iter().flatten()
        };
        self.ask_all(hosts.iter().flat_map(wanted))?;
        let mut servers = Vec::with_capacity(hosts.len());
        for host in hosts {
            let mut addresses = Vec::new();
            // RFC 6724 §2.1: IPv6 goes first where both are there.
            for question in wanted(&host) {
                if let Answer::Records { records, .. } = self.ask(&question.name, question.kind)? {
                    let mut of_family: Vec<SocketAddr> = records
                        .iter()
                        .filter_map(|record| match record {
                            Record::Address(address) => Some(SocketAddr::new(*address, host.port)),
                            Record::Naptr(_) | Record::Srv(_) => None,
                        })
                        .collect();
                    of_family.sort_unstable();
                    of_family.truncate(DNS_ADDRESSES_MAX);
                    addresses.extend(of_family);
                }
            }
            let HostAt { rank, weight, transport, .. } = host;
            servers.push(Server { rank, weight, transport, addresses: addresses.into() });
        }
        self.located(servers)
    }

    fn located(&self, servers: Vec<Server>) -> Way<Located> {
        let domain: Arc<str> = self.place.host.to_string().into();
        let is_unknown = self.answers.values().any(|answer| *answer == Some(Answer::Unknown));
        let failure = if is_unknown { Failure::Unknown } else { Failure::Nothing };
        Located::of(servers, domain).ok_or(Stop::Fails(failure))
    }

    fn ask(&self, name: &str, kind: Kind) -> Way<&Answer> {
        let question = Question::new(name, kind);
        match self.answers.get(&question) {
            Some(Some(answer)) => Ok(answer),
            _ => Err(Stop::Wants(Wanted(vec![question]))),
        }
    }

    /// Comes back when all of them are answered.
    fn ask_all(&self, questions: impl Iterator<Item = Question>) -> Way<()> {
        let open: Vec<Question> =
            questions.filter(|question| !matches!(self.answers.get(question), Some(Some(_)))).collect();
        if open.is_empty() { Ok(()) } else { Err(Stop::Wants(Wanted(open))) }
    }
}

impl Search for NextHop {
    type Found = Located;

    fn handle(&mut self, question: &Question, answer: Answer) {
        let Some(open @ None) = self.answers.get_mut(question) else { return };
        *open = Some(bounded(answer));
        self.open -= 1;
        if self.open == 0 {
            self.walk();
        }
    }

    fn poll_output(&mut self) -> Option<Output<Located>> {
        self.outputs.pop()
    }
}

/// What SRV records say.
enum Found {
    Servers(Vec<Srv>),
    /// RFC 2782: a target of `.` alone.
    Refusal,
    Nothing,
}

fn srvs(answer: &Answer) -> Found {
    let Answer::Records { records, .. } = answer else { return Found::Nothing };
    let all = records.iter().filter_map(|record| match record {
        Record::Srv(srv) => Some(srv),
        Record::Naptr(_) | Record::Address(_) => None,
    });
    let usable: Vec<Srv> = all.clone().filter(|srv| is_name(&srv.target)).cloned().collect();
    match (usable.is_empty(), all.clone().next().is_some()) {
        (false, _) => Found::Servers(usable),
        (true, true) => Found::Refusal,
        (true, false) => Found::Nothing,
    }
}

fn naptrs(answer: &Answer) -> Vec<&Naptr> {
    let Answer::Records { records, .. } = answer else { return Vec::new() };
    let naptr = records.iter().filter_map(|record| match record {
        Record::Naptr(naptr) => Some(naptr),
        Record::Srv(_) | Record::Address(_) => None,
    });
    naptr.collect()
}

/// Whether a rule is about SIP at all: a domain has others too.
fn is_sip(services: &str) -> bool {
    let protocol = services.split('+').next().unwrap_or_default();
    protocol.eq_ignore_ascii_case("sip") || protocol.eq_ignore_ascii_case("sips")
}

/// What is kept of an answer, whatever came.
fn bounded(answer: Answer) -> Answer {
    match answer {
        Answer::Records { mut records, ttl } => {
            // The best ones stay.
            records.sort_by_key(|record| match record {
                Record::Naptr(naptr) => (naptr.order, naptr.preference),
                Record::Srv(srv) => (srv.priority, u16::MAX - srv.weight),
                Record::Address(_) => (0, 0),
            });
            records.truncate(DNS_RECORDS_MAX);
            Answer::Records { records, ttl: ttl.min(DNS_TTL_MAX) }
        }
        Answer::Nothing { ttl } => Answer::Nothing { ttl: ttl.min(DNS_NEGATIVE_TTL_MAX) },
        Answer::Unknown => Answer::Unknown,
    }
}

#[cfg(test)]
#[path = "next_hop_tests.rs"]
mod tests;
