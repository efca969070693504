//! The DNS, asked at the name servers that are configured, or at the system's: the sockets behind [`actors::locator`].

use std::net::SocketAddr;
use std::time::Duration;

use actors::locator::{Answer, Asking, Kind, Names, Naptr, Question, Record, Srv};
use base::limits::{DNS_CACHE_MAX, DNS_FAILURE_TTL, DNS_NEGATIVE_TTL_MAX, DNS_QUESTION_TIME_MAX, DNS_TTL_MAX};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError as DnsFault};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use crate::error::NetError;

/// Tries of one question, each with its part of the time.
const TRIES: usize = 2;
/// Questions that may be under way to one name server over one connection: more than there are searches.
const UNDER_WAY: usize = 1_024;

/// Asks name servers. Its futures run on the thread that awaits them.
pub struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// At these name servers; none: at the system's, and its file of hosts.
    ///
    /// # Errors
    /// What the system says of its name servers cannot be read.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NetError> {
        let (config, mut options) = if servers.is_empty() {
            read_system_conf().map_err(|source| NetError::Dns { source: source.into() })?
        } else {
            let servers = servers.iter().map(name_server).collect();
            let mut options = ResolverOpts::default();
            options.use_hosts_file = ResolveHosts::Never;
            (ResolverConfig::from_parts(None, Vec::new(), servers), options)
        };
        options.timeout = DNS_QUESTION_TIME_MAX / TRIES as u32;
        options.attempts = TRIES - 1;
        options.cache_size = DNS_CACHE_MAX;
        options.positive_max_ttl = Some(DNS_TTL_MAX);
        options.negative_max_ttl = Some(DNS_NEGATIVE_TTL_MAX);
        options.max_active_requests = UNDER_WAY;
        options.try_tcp_on_error = true;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|source| NetError::Dns { source: source.into() })?;
        Ok(Self { resolver })
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())])
}

impl Names for Dns {
    fn ask(&self, question: &Question) -> Asking {
        let (resolver, kind) = (self.resolver.clone(), question.kind);
        // Whole, so that nobody's search list is gone through.
        let name = Name::from_ascii(format!("{}.", question.name));
        Box::pin(async move {
            match name {
                Ok(name) => answer(resolver.lookup(name, record_type(kind)).await, kind),
                // What cannot be asked is not there.
                Err(_) => Answer::Nothing { ttl: DNS_NEGATIVE_TTL_MAX },
            }
        })
    }
}

fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::Naptr => RecordType::NAPTR,
        Kind::Srv => RecordType::SRV,
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
    }
}

fn answer(outcome: Result<Lookup, DnsFault>, kind: Kind) -> Answer {
    let nothing = |ttl: Option<u32>| {
        // RFC 2308 §5: without an SOA it is not said for how long.
        let ttl = ttl.map_or(DNS_FAILURE_TTL, |seconds| Duration::from_secs(seconds.into()));
        Answer::Nothing { ttl }
    };
    match outcome {
        Ok(found) => {
            let wanted = found.answers().iter().filter(|record| record.record_type() == record_type(kind));
            let records: Vec<Record> = wanted.filter_map(|record| read(&record.data)).collect();
            // Aliases on the way count too.
            let seconds = found.answers().iter().map(|record| record.ttl).min();
            match (records.is_empty(), seconds) {
                (false, Some(seconds)) => Answer::Records { records, ttl: Duration::from_secs(seconds.into()) },
                (_, seconds) => nothing(seconds),
            }
        }
        Err(DnsFault::Dns(DnsError::NoRecordsFound(none))) => nothing(none.negative_ttl),
        Err(fault) => {
            tracing::debug!(%fault, "A name server's fault");
            Answer::Unknown
        }
    }
}

/// Nothing for what nobody could use: a rule that is no text (RFC 6116 §5.2).
fn read(data: &RData) -> Option<Record> {
    let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).ok();
    match data {
        RData::A(address) => Some(Record::Address(address.0.into())),
        RData::AAAA(address) => Some(Record::Address(address.0.into())),
        RData::SRV(srv) => Some(Record::Srv(Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: name_text(&srv.target),
        })),
        RData::NAPTR(naptr) => Some(Record::Naptr(Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: text(&naptr.flags)?,
            services: text(&naptr.services)?,
            regexp: text(&naptr.regexp)?,
            replacement: name_text(&naptr.replacement),
        })),
        _ => None,
    }
}

/// Without its final dot: the root is empty.
fn name_text(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_ascii_lowercase()
}
