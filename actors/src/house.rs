//! What every shard shares: the tables, the store, the counters. Made once, behind one `Arc`.

use std::net::SocketAddr;
use std::sync::Arc;

use actix::Recipient;
use base::{Aor, IdMaker, KeyedHash, Now};
use locate::{Target, Transport};
use sip::digest::Nonces;
use sip::{Scheme, Uri};
use storage::Store;

use crate::config::{Config, ListenerName};
use crate::hop::Hop;
use crate::locator::Locator;
use crate::message::{Dial, DialLeg};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::outbox::Flows;
use crate::reach::ReachTable;
use crate::registry::Registry;
use crate::session::Sessions;
use crate::sources::Sources;
use crate::switch::Switch;
use crate::transactions::{SIP_PORT, Transactions};
use crate::ways::Ways;

/// Where the time comes from: [`Now::read`], or a simulated world.
pub type Clock = fn() -> Now;

/// The shared tables of one server.
pub struct House {
    /// Settings.
    pub config: Config,
    /// What is ours.
    pub routing: im::routing::House,
    /// What is known of each user.
    pub reach: ReachTable,
    /// Transactions.
    pub transactions: Arc<Transactions>,
    /// Connections.
    pub flows: Arc<Flows>,
    /// Sessions: whose each INVITE is, and what each would leave behind.
    pub sessions: Sessions,
    /// MSRP's forwarding table.
    pub switch: Switch,
    /// Where dialogs that pass through have come by.
    pub ways: Ways,
    /// What marks a request that has been here before.
    pub loops: KeyedHash,
    /// Nonces and their counts.
    pub nonces: Nonces,
    /// Where other domains are, and whose the numbers.
    pub locator: Locator,
    /// How fast each source asks.
    pub sources: Sources,
    /// How fast each other domain asks.
    pub neighbours: Sources,
    /// What lasts.
    pub store: Store,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Where actors are found.
    pub registry: Arc<Registry>,
    /// Ids that nobody guesses.
    pub ids: IdMaker,
    /// Makes URIs of single devices, and knows them again.
    pub gruus: im::Gruus,
    /// This life of the house: numbers of connections mean nothing to another one.
    pub life: u64,
    /// When it came to life.
    pub started: Now,
    clock: Clock,
}

impl House {
    /// All tables empty, and a key of its own for what it gives away.
    pub fn new(config: Config, store: Store, ids: IdMaker, clock: Clock) -> Arc<Self> {
        let secret = Self::fresh_secret(&ids);
        Self::keyed(config, store, ids, clock, &secret)
    }

    /// 32 octets that nobody guesses.
    pub fn fresh_secret(ids: &IdMaker) -> [u8; 32] {
        let mut secret = [0; 32];
        secret[..16].copy_from_slice(&ids.key());
        secret[16..].copy_from_slice(&ids.key());
        secret
    }

    /// All tables empty. `secret` is the key of what must hold after a start: temporary GRUUs.
    pub fn keyed(config: Config, store: Store, ids: IdMaker, clock: Clock, secret: &[u8; 32]) -> Arc<Self> {
        let flows = Arc::new(Flows::default());
        let hash = |ids: &IdMaker| KeyedHash::new(ids.key());
        Arc::new(Self {
            reach: ReachTable::new(hash(&ids)),
            transactions: Transactions::new(&ids, flows.clone(), config.silence, clock),
            flows,
            sessions: Sessions::new(&ids, config.shards),
            switch: Switch::new(&ids, config.msrp.clone()),
            ways: Ways::new(&ids),
            loops: hash(&ids),
            nonces: Nonces::new(hash(&ids), base::limits::NONCES_MAX),
            locator: Locator::new(config.dns.speaks, &config.dns.enum_suffix),
            sources: Sources::new(hash(&ids), config.challenges_per_source),
            neighbours: Sources::new(hash(&ids), config.federation.rate),
            store,
            metrics: Arc::default(),
            registry: Arc::new(Registry::new(config.shards)),
            gruus: im::Gruus::new(secret),
            life: ids.next_u64(),
            ids,
            started: clock(),
            clock,
            routing: routing_of(&config),
            config,
        })
    }

    /// What the clocks show: the machine's, or a simulated world's.
    pub fn now(&self) -> Now {
        (self.clock)()
    }

    /// Introduces who opens connections; once. `node` is told what waits for him.
    pub fn introduce(&self, dial: Recipient<Dial>, node: Arc<Node>) {
        self.flows.introduce(Box::new(move |peer, outbox| try_dial(&dial, Dial { peer, outbox }, &node)));
    }

    /// Introduces who opens connections for sessions; once. `node` is told what waits for him.
    pub fn introduce_for_legs(&self, dial: Recipient<DialLeg>, node: Arc<Node>) {
        self.switch.introduce(Box::new(move |opened, outbox| try_dial(&dial, DialLeg { opened, outbox }, &node)));
    }

    /// Whether a URI's host and port are ours: a domain, or what we call ourselves on the way.
    pub fn names(&self, uri: &Uri<'_>) -> bool {
        if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
            return false;
        }
        let Ok(host) = std::str::from_utf8(uri.host) else { return false };
        let port = uri.port.unwrap_or(SIP_PORT);
        let is_it = |name: &ListenerName| match name.sent_by.rsplit_once(':') {
            Some((own, number)) if !number.ends_with(']') => {
                own.eq_ignore_ascii_case(host) && number == port.to_string()
            }
            _ => name.sent_by.eq_ignore_ascii_case(host) && port == SIP_PORT,
        };
        self.routing.serves(host) || self.config.udp.iter().chain([&self.config.tcp]).any(is_it)
    }

    /// Whether an address is one that we listen at.
    pub fn is_own_address(&self, address: SocketAddr) -> bool {
        let own = self.config.udp.iter().chain([&self.config.tcp]).map(|name| name.sent_by.parse());
        own.filter_map(Result::ok).any(|own: SocketAddr| {
            own.port() == address.port() && own.ip().to_canonical() == address.ip().to_canonical()
        })
    }

    /// A connection to `peer`, the one that stands or one opened now: its hop is good for sending at once.
    pub fn dial(&self, peer: SocketAddr) -> Option<Hop> {
        self.flows.dial(peer)
    }

    /// The way to a server that was located: by a UDP socket of its family, `listener`'s where that is one, or by a
    /// connection. TLS is not among what [`crate::config::Dns`] says that we speak.
    pub fn way_to(&self, target: &Target, listener: u8) -> Option<Hop> {
        match target.transport {
            Transport::Udp => {
                let is_v6 = target.address.ip().to_canonical().is_ipv6();
                let is_one = |number: &usize| self.config.udp.get(*number).is_some_and(|name| name.is_v6 == is_v6);
                let number = [usize::from(listener)].into_iter().chain(0..self.config.udp.len()).find(is_one)?;
                Some(Hop::udp(u8::try_from(number).ok()?, target.address))
            }
            Transport::Tcp => self.dial(target.address),
            Transport::Tls => None,
        }
    }

    /// The canonical address of whoever logs in by `name` in `domain`.
    pub fn login(name: &[u8], domain: &str) -> Option<Aor> {
        let name = std::str::from_utf8(name).ok()?;
        let user = name.strip_prefix("sip:").unwrap_or(name);
        match user.rsplit_once('@') {
            Some((user, host)) => Aor::new(user, host).ok(),
            None => Aor::new(user, domain).ok(),
        }
    }
}

/// `false`: too many wait already, or nobody is there.
fn try_dial<M>(dialer: &Recipient<M>, dial: M, node: &Node) -> bool
where
    M: actix::Message<Result = ()> + Send,
{
    node.queued();
    dialer.try_send(dial).inspect_err(|_| node.taken()).is_ok()
}

/// Our domains, and the addresses that we name ourselves by.
fn routing_of(config: &Config) -> im::routing::House {
    let listeners = config.udp.iter().chain([&config.tcp]).map(|name| name.sent_by.as_str());
    im::routing::House::new(config.domains.iter().map(String::as_str), listeners)
}
