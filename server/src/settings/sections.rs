//! What the configuration says, section by section, as values that need no further check.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base::{Aor, limits};
use sip::digest::Algorithm;
use storage::Durability;

use super::kinds;
use super::network::TrustedPeer;
use super::read::Reader;

/// The whole configuration. Units and defaults stand in [`super::keys`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// Domains that are served, in lower case, the main one first; at least one.
    pub domains: Vec<String>,
    /// Where the store lies.
    pub data_dir: PathBuf,
    /// Threads that serve; 0: one a core.
    pub shards: usize,
    /// The log filter at start.
    pub log: String,
    /// `[sip]`
    pub sip: Sip,
    /// `[msrp]`
    pub msrp: Msrp,
    /// `[http]`
    pub http: Http,
    /// `[admin]`
    pub admin: Admin,
    /// `[tls]`
    pub tls: Tls,
    /// `[dns]`
    pub dns: Dns,
    /// `[federation]`
    pub federation: Federation,
    /// `[auth]`
    pub auth: Auth,
    /// `[storage]`
    pub storage: Storage,
    /// `[history]`
    pub history: History,
    /// `[im]`
    pub im: Im,
    /// `[xdm]`
    pub xdm: Xdm,
    /// `[ims]`
    pub ims: Ims,
    /// `[limits]`
    pub limits: Limits,
    /// `[rooms]`
    pub rooms: Rooms,
    /// `[deferred]`
    pub deferred: Deferred,
    /// `[charging] enabled`
    pub charging: bool,
    /// `[sigcomp] enabled`
    pub sigcomp: bool,
    /// `[intercept] enabled`
    pub intercept: bool,
    /// `[cluster] enabled`
    pub cluster: bool,
}

/// Where SIP is spoken.
#[derive(Debug, Clone)]
pub struct Sip {
    /// Addresses for UDP.
    pub udp: Vec<SocketAddr>,
    /// Addresses for TCP.
    pub tcp: Vec<SocketAddr>,
    /// Addresses for TLS.
    pub tls: Vec<SocketAddr>,
    /// URIs of Service-Route (RFC 3608), in their order.
    pub service_route: Vec<String>,
}

/// Where MSRP is spoken.
#[derive(Debug, Clone)]
pub struct Msrp {
    /// Addresses for TCP.
    pub tcp: Vec<SocketAddr>,
    /// Addresses for TLS.
    pub tls: Vec<SocketAddr>,
    /// Whether the TLS ones are a relay (RFC 4976).
    pub relay: bool,
}

/// Where HTTP is spoken to clients.
#[derive(Debug, Clone)]
pub struct Http {
    /// The address.
    pub listen: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// The admin port.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The address.
    pub listen: SocketAddr,
    /// Where its token lies, if it was named: see [`Settings::token_file`].
    pub token_file: Option<PathBuf>,
}

/// Files of our certificate.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate and its chain.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// Further roots.
    pub ca: Option<PathBuf>,
}

/// How names are looked up.
#[derive(Debug, Clone)]
pub struct Dns {
    /// Name servers; none: the system's.
    pub servers: Vec<SocketAddr>,
    /// The zone of ENUM.
    pub enum_suffix: String,
    /// Country code of national numbers; empty: none.
    pub country: String,
}

/// Other domains.
#[derive(Debug, Clone)]
pub struct Federation {
    /// Those that we speak with; `*`: all.
    pub allow: Vec<String>,
    /// Those that we do not speak with.
    pub deny: Vec<String>,
    /// Whether TLS is a must.
    pub require_tls: bool,
    /// Requests a second from one of them; 0: no limit.
    pub rate: u32,
}

/// Who is who.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The realm, if it was named: see [`Settings::realm_of`].
    pub realm: Option<String>,
    /// Of the challenges, in this order.
    pub algorithms: Vec<Algorithm>,
    /// Who is not challenged.
    pub trusted_peers: Vec<TrustedPeer>,
}

/// What lasts.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Name of the engine; only `rocksdb` passes the checks.
    pub engine: String,
    /// When an acknowledged message is safe.
    pub durability: Durability,
    /// Partitions that the store must have, if it was said.
    pub partitions: Option<u16>,
    /// Blocks that were read and are kept, octets.
    pub cache_bytes: usize,
    /// Records in memory before they are written in order, octets.
    pub write_buffer_bytes: usize,
}

/// Stored conversations.
#[derive(Debug, Clone)]
pub struct History {
    /// Octets per user; 0: no limit.
    pub limit_bytes: u64,
    /// Percent of it at which the owner is told.
    pub notices: Vec<u8>,
    /// User part of its address.
    pub service: String,
}

/// Sessions and page messages.
#[derive(Debug, Clone)]
pub struct Im {
    /// Whether one-to-one sessions run from client to client.
    pub direct: bool,
    /// Whether who is rejected is not told.
    pub polite_block: bool,
    /// Whether page messages may go by a session.
    pub page_to_session: bool,
    /// A session in which nothing is said ends after this; zero: never.
    pub session_idle: Duration,
    /// The session interval that we ask for; zero: none.
    pub session_timer: Duration,
    /// The shortest that we take.
    pub session_timer_min: Duration,
    /// User part of the exploder's address.
    pub exploder: String,
    /// User part of the address of system messages.
    pub system: String,
}

/// Documents.
#[derive(Debug, Clone)]
pub struct Xdm {
    /// How this server's documents are called elsewhere.
    pub root: Option<String>,
    /// Who may read and write every tree.
    pub admins: Vec<Aor>,
    /// AUIDs that are served elsewhere, and where.
    pub remote: BTreeMap<String, String>,
}

/// Application server of an IMS core.
#[derive(Debug, Clone)]
pub struct Ims {
    /// Our Route; none: off.
    pub uri: Option<String>,
    /// Where requests of our own go.
    pub scscf: Option<String>,
}

/// Every ceiling that a peer can hit.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Body of a page message.
    pub message_bytes: usize,
    /// Contacts of one user.
    pub bindings_per_user: usize,
    /// The shortest registration, seconds.
    pub binding_seconds_min: u32,
    /// The longest registration, seconds.
    pub binding_seconds_max: u32,
    /// Connections of all listeners together.
    pub connections: usize,
    /// Connections of one source address.
    pub connections_per_source: usize,
    /// Requests a second without credentials from one source address.
    pub challenges_per_source: u32,
    /// From the beginning of a message to the end of its head.
    pub head_time: Duration,
    /// Until a connection over which nothing whole came is closed.
    pub silent_connection: Duration,
    /// Until a connection without an octet is closed.
    pub idle_connection: Duration,
}

/// Chat rooms.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// User part of the conference factory.
    pub factory: String,
    /// Label before the domain in addresses of an operator's rooms.
    pub host: String,
}

/// Messages that wait for who is away.
#[derive(Debug, Clone)]
pub struct Deferred {
    /// How many may wait for one user.
    pub messages_per_user: u32,
    /// Octets of their bodies together.
    pub bytes_per_user: u64,
    /// How long a message waits whose sender names no time, and the longest, seconds.
    pub expiry_s: u64,
    /// A receiver who is silent this long counts as away.
    pub silence: Duration,
    /// User part of the address that gives out what waits.
    pub service: String,
}

impl Settings {
    /// Reads every key there is, once.
    pub(super) fn read(reader: &mut Reader) -> Self {
        let several = reader.set_list("domains", kinds::domain);
        let domain = reader.get("domain", kinds::domain);
        Self {
            domains: several.unwrap_or_else(|| vec![domain]),
            data_dir: reader.get("data_dir", kinds::path),
            shards: reader.get("shards", kinds::number(0..=1_024_u16)).into(),
            log: reader.get("log", kinds::text),
            sip: Sip {
                udp: reader.list("sip.udp", kinds::address),
                tcp: reader.list("sip.tcp", kinds::address),
                tls: reader.list("sip.tls", kinds::address),
                service_route: reader.list("sip.service_route", kinds::sip_uri),
            },
            msrp: Msrp {
                tcp: reader.list("msrp.tcp", kinds::address),
                tls: reader.list("msrp.tls", kinds::address),
                relay: reader.get("msrp.relay", kinds::truth),
            },
            http: Http { listen: reader.get("http.listen", kinds::address), tls: reader.get("http.tls", kinds::truth) },
            admin: Admin {
                listen: reader.get("admin.listen", kinds::address),
                token_file: reader.set("admin.token_file", kinds::path),
            },
            tls: Tls {
                cert: reader.get("tls.cert", kinds::path_or_none),
                key: reader.get("tls.key", kinds::path_or_none),
                ca: reader.get("tls.ca", kinds::path_or_none),
            },
            dns: Dns {
                servers: reader.list("dns.servers", kinds::name_server),
                enum_suffix: reader.get("dns.enum_suffix", kinds::domain),
                country: reader.get("dns.country", kinds::country),
            },
            federation: Federation {
                allow: reader.list("federation.allow", kinds::domain_or_all),
                deny: reader.list("federation.deny", kinds::domain_or_all),
                require_tls: reader.get("federation.require_tls", kinds::truth),
                rate: reader.get("federation.rate", kinds::number(0..=u32::MAX)),
            },
            auth: Auth {
                realm: reader.set("auth.realm", kinds::realm),
                algorithms: reader.list("auth.algorithms", kinds::algorithm),
                trusted_peers: reader.list("auth.trusted_peers", kinds::trusted_peer),
            },
            storage: Storage::read(reader),
            history: History {
                limit_bytes: reader.get("history.limit", kinds::number(0..=i64::MAX)).unsigned_abs(),
                notices: reader.list("history.notices", kinds::number(1..=100)),
                service: reader.get("history.service", kinds::user_part),
            },
            im: Im {
                direct: reader.get("im.direct", kinds::truth),
                polite_block: reader.get("im.polite_block", kinds::truth),
                page_to_session: reader.get("im.page_to_session", kinds::truth),
                session_idle: reader.get("im.session_idle", kinds::seconds(0..=86_400 * 365)),
                session_timer: reader.get("im.session_timer", kinds::seconds(0..=86_400 * 365)),
                session_timer_min: reader.get("im.session_timer_min", kinds::seconds(90..=86_400)),
                exploder: reader.get("im.exploder", kinds::user_part),
                system: reader.get("im.system", kinds::user_part),
            },
            xdm: Xdm {
                root: reader.get("xdm.root", kinds::http_root_or_none),
                admins: reader.list("xdm.admins", kinds::aor),
                remote: reader.get("xdm.remote", kinds::remote_roots),
            },
            ims: Ims {
                uri: reader.get("ims.uri", kinds::sip_uri_or_none),
                scscf: reader.get("ims.scscf", kinds::sip_uri_or_none),
            },
            limits: Limits::read(reader),
            rooms: Rooms {
                factory: reader.get("rooms.factory", kinds::user_part),
                host: reader.get("rooms.host", kinds::domain),
            },
            deferred: Deferred::read(reader),
            charging: reader.get("charging.enabled", kinds::truth),
            sigcomp: reader.get("sigcomp.enabled", kinds::truth),
            intercept: reader.get("intercept.enabled", kinds::truth),
            cluster: reader.get("cluster.enabled", kinds::truth),
        }
    }
}

impl Storage {
    fn read(reader: &mut Reader) -> Self {
        Self {
            engine: reader.get("storage.engine", kinds::one_of(&["rocksdb"])).to_owned(),
            durability: match reader.get("storage.durability", kinds::one_of(&["fsync", "os"])) {
                "os" => Durability::Os,
                _ => Durability::Fsync,
            },
            partitions: reader.set("storage.partitions", kinds::number(1..=4_096)),
            cache_bytes: reader.get("storage.cache_bytes", kinds::number(1_u32 << 20..=1 << 31)) as usize,
            write_buffer_bytes: reader.get("storage.write_buffer_bytes", kinds::number(1_u32 << 20..=1 << 31)) as usize,
        }
    }
}

impl Limits {
    fn read(reader: &mut Reader) -> Self {
        // A message must fit into a datagram with its head.
        let message_bytes_max = (limits::SIP_MESSAGE_BYTES_MAX - limits::SIP_HEAD_BYTES_MAX) as u32;
        let size = |value: u32| value as usize;
        Self {
            message_bytes: size(reader.get("limits.message_bytes", kinds::number(1..=message_bytes_max))),
            bindings_per_user: size(reader.get("limits.bindings_per_user", kinds::number(1..=100))),
            binding_seconds_min: reader.get("limits.binding_seconds_min", kinds::number(1..=3_600)),
            binding_seconds_max: reader.get("limits.binding_seconds_max", kinds::number(60..=u32::MAX)),
            connections: size(reader.get("limits.connections", kinds::number(1..=10_000_000))),
            connections_per_source: size(reader.get("limits.connections_per_source", kinds::number(1..=10_000_000))),
            challenges_per_source: reader.get("limits.challenges_per_source", kinds::number(0..=u32::MAX)),
            head_time: reader.get("limits.head_seconds", kinds::seconds(1..=3_600)),
            silent_connection: reader.get("limits.silent_connection_seconds", kinds::seconds(1..=86_400)),
            idle_connection: reader.get("limits.idle_connection_seconds", kinds::seconds(1..=86_400 * 7)),
        }
    }
}

impl Deferred {
    fn read(reader: &mut Reader) -> Self {
        reader.get("deferred.full", kinds::one_of(&["refuse"]));
        Self {
            messages_per_user: reader.get("deferred.messages_per_user", kinds::number(0..=10_000_000)),
            bytes_per_user: reader.get("deferred.bytes_per_user", kinds::number(0..=i64::MAX)).unsigned_abs(),
            expiry_s: reader.get("deferred.expiry", kinds::number(60..=u32::MAX)).into(),
            // RFC 4320 §2.2: the answer must come before timer F of the sender, 32 s.
            silence: reader.get("deferred.silence_seconds", kinds::seconds(1..=30)),
            service: reader.get("deferred.service", kinds::user_part),
        }
    }
}
