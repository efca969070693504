//! The house, alive: threads, tables, tree and doors of one running server, put together from its settings and taken
//! apart again in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Arbiter;
use actors::config::{ListenerName, Network};
use actors::message::{Heard, Offer};
use actors::node::Node;
use actors::switch::Place;
use actors::tree::{self, Tree};
use actors::{Config, House};
use base::{Aor, IdMaker, Now};
use locate::{Families, Speaks};
use net::{Dialer, Dns, Doors, Gate, NetError};
use serde_json::{Value, json};
use storage::Store;

use crate::files;
use crate::settings::{Settings, TrustedPeer};
use crate::telemetry::{head, metric, sample};

/// How long requests under way may take to be answered when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a house could not come to life.
#[derive(Debug, thiserror::Error)]
pub enum LivingError {
    /// A door cannot be opened.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The system has no randomness, or a socket cannot be duplicated.
    #[error("cannot start: {0}")]
    System(String),
}

/// A running server, but for its admin port and its store.
pub struct Living {
    house: Arc<House>,
    tree: Tree,
    gate: Arc<Gate>,
    arbiters: Vec<Arbiter>,
}

impl Living {
    /// Brings a house to life over an open store. Runs within an actix system; `fallen` is called when the root of the
    /// tree gives up.
    ///
    /// # Errors
    /// A door that cannot be opened; nothing lives then.
    pub fn start(settings: &Settings, store: Store, fallen: impl FnOnce() + 'static) -> Result<Self, LivingError> {
        let system = |error: &dyn std::fmt::Display| LivingError::System(error.to_string());
        let shards = match settings.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        let doors_config = Arc::new(doors_config(settings));
        let doors = Doors::bind(&doors_config, shards)?;
        let config = house_config(settings, shards, &doors);
        let ids = IdMaker::from_os().map_err(|error| system(&error))?;
        let secret =
            store.secret("gruu", House::fresh_secret(&ids)).map_err(|error| LivingError::System(error.to_string()))?;
        let house = House::keyed(config, store, ids, Now::read, &secret);
        match Dns::new(&settings.dns.servers) {
            Ok(names) => house.locator.introduce(Arc::new(names)),
            // Who is served here is served all the same.
            Err(error) => tracing::warn!(%error, "Other domains and numbers are not found (set dns.servers)"),
        }
        let gate = Gate::new(doors_config.connections, doors_config.connections_per_source);
        let arbiters: Vec<Arbiter> = (0..shards).map(|_| Arbiter::new()).collect();
        for (shard, arbiter) in arbiters.iter().enumerate() {
            let (house, sink) = (house.clone(), doors.sink(shard).map_err(|error| system(&error))?);
            let attached = arbiter.spawn_fn(move || tree::attach_shard(&house, Box::new(sink)));
            if !attached {
                return Err(LivingError::System("a thread ended before it began".into()));
            }
        }
        let dialer = Dialer::new(house.clone(), gate.clone(), doors_config.clone());
        let dialing = dialer.node();
        if let Some(arbiter) = arbiters.first() {
            let dialer = actix::Actor::start_in_arbiter(&arbiter.handle(), move |_| dialer);
            house.introduce(dialer.clone().recipient(), dialing.clone());
            house.introduce_for_legs(dialer.recipient(), dialing.clone());
        }
        let handles: Vec<_> = arbiters.iter().map(Arbiter::handle).collect();
        let listeners = doors.children(&handles, &house, &gate, &doors_config);
        let tree = tree::plant(&house, &handles, listeners, fallen);
        tree.node.adopt(dialing);
        Ok(Self { house, tree, gate, arbiters })
    }

    /// The tables that it lives by.
    pub fn house(&self) -> &Arc<House> {
        &self.house
    }

    /// What shows the tree and the counters, without holding the house itself.
    pub fn view(&self) -> View {
        View { house: self.house.clone(), node: self.tree.node.clone(), gate: self.gate.clone() }
    }

    /// Takes it apart: no new requests, those under way are answered, then all leaves.
    pub async fn stop(self) {
        let Self { house, tree, arbiters, .. } = self;
        tree.close_doors();
        house.transactions.hurry();
        let began = Instant::now();
        while house.transactions.undecided() > 0 && began.elapsed() < DRAIN {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Answers that were decided last are still to leave.
        tokio::time::sleep(Duration::from_millis(50)).await;
        tree.leave();
        tokio::time::sleep(Duration::from_millis(50)).await;
        for arbiter in arbiters {
            arbiter.stop();
            let _ = tokio::task::spawn_blocking(move || arbiter.join()).await;
        }
    }
}

/// What the admin port sees of a living house.
#[derive(Clone)]
pub struct View {
    house: Arc<House>,
    node: Arc<Node>,
    gate: Arc<Gate>,
}

impl View {
    /// The supervision tree: name, kind, state, restarts, mailbox depth and bound, longest turn, children.
    pub fn tree(&self) -> Value {
        // The queue in front of the writer is no actor's mailbox: the store counts it.
        let waiting = self.house.store.queues().commits;
        for store in self.node.children().0.iter().filter(|child| child.kind == "writer") {
            store.set_depth(waiting);
        }
        shown(&self.node)
    }

    /// Tells a user's actor, if there is one, that its account was changed, and makes the change hold: until the actor
    /// has read it, the data plane knows nothing of the user. Over when nothing of what was before is in force.
    pub fn account_changed(&self, aor: &Aor) -> impl Future<Output = ()> + use<> {
        let (heard, over) = Heard::new();
        self.house.reach.remove(aor);
        self.house.registry.offer(aor.clone(), Offer::AccountChanged(heard));
        over
    }

    /// Prometheus text.
    pub fn write_metrics(&self, out: &mut String) {
        self.house.metrics.write(out);
        self.house.locator.write(out, self.house.now().at);
        self.gate.write(out);
        let gauge = |out: &mut String, name, help, value: usize| metric(out, name, "gauge", help, value);
        gauge(out, "parlour_transactions", "Transactions kept", self.house.transactions.len());
        gauge(out, "parlour_users_known", "Addresses that the data plane knows", self.house.reach.len());
        gauge(out, "parlour_sessions", "Sessions that the switch leads to", self.house.switch.len());
        gauge(out, "parlour_msrp_legs", "Sides of sessions that a connection carries", self.house.switch.bound_legs());
        let (waiting, fullest) = self.house.flows.waiting();
        gauge(out, "parlour_outbox_bytes", "Octets that wait for connections' sockets", waiting);
        gauge(out, "parlour_outbox_fullest_bytes", "Octets that wait for one connection's socket, at most", fullest);
        self.write_mailboxes(out);
        let restarts = self.node.restarts_below();
        metric(out, "parlour_restarts_total", "counter", "Children of the tree that were started again", restarts);
        self.write_turns(out);
    }

    /// Of whom and by whom: a shard's parts, those who come and go below them, the doors and the dialer.
    fn write_turns(&self, out: &mut String) {
        let parts = parts_of(&self.node);
        let all = parts.iter().flat_map(|(name, part)| {
            let below = (part.kind == "nursery").then(|| (format!("{name} below"), part.turns_below()));
            std::iter::once((name.clone(), part.turns())).chain(below)
        });
        let all: Vec<_> = all.collect();
        head(out, "parlour_longest_turn_seconds", "gauge", "Longest turn of a part of the tree");
        for (part, turns) in &all {
            let us = turns.longest_us();
            let seconds = format_args!("{}.{:06}", us / 1_000_000, us % 1_000_000);
            sample(out, "parlour_longest_turn_seconds", &[("part", part)], seconds);
        }
        head(out, "parlour_long_turns_total", "counter", "Turns of a part of the tree above a hundred microseconds");
        for (part, turns) in &all {
            sample(out, "parlour_long_turns_total", &[("part", part)], turns.long());
        }
    }

    fn write_mailboxes(&self, out: &mut String) {
        let (mut depths, mut fullest) = (Vec::new(), Vec::new());
        for (name, part) in parts_of(&self.node) {
            match part.kind {
                "nursery" => fullest.push((name.clone(), part.take_fullest_child())),
                "dialer" => {}
                _ => continue,
            }
            depths.push((name, part.depth()));
        }
        let below = "Most inputs that waited for one actor below since the last scrape";
        for (name, help, samples) in [
            ("parlour_mailbox_depth", "Batches that wait for a nursery, connections for the dialer", depths),
            ("parlour_mailbox_fullest_below", below, fullest),
        ] {
            head(out, name, "gauge", help);
            samples.iter().for_each(|(part, depth)| sample(out, name, &[("part", part)], depth));
        }
    }
}

/// What has turns and is no child of a nursery, as it is named in metrics.
fn parts_of(root: &Node) -> Vec<(String, Arc<Node>)> {
    let mut parts = Vec::new();
    for branch in root.children().0 {
        match branch.kind {
            "supervisor" => {
                // A door names its shard itself.
                let prefix = if branch.name.starts_with("shard") { format!("{} ", branch.name) } else { String::new() };
                parts.extend(branch.children().0.into_iter().map(|part| (format!("{prefix}{}", part.name), part)));
            }
            "dialer" => parts.push((branch.name.clone(), branch)),
            _ => {}
        }
    }
    parts
}

fn shown(node: &Arc<Node>) -> Value {
    let (children, count) = node.children();
    let mut value = json!({
        "name": node.name,
        "kind": node.kind,
        "state": node.state().as_str(),
        "restarts": node.restarts(),
        "mailbox": { "depth": node.depth(), "bound": node.bound },
        "longest_turn_us": node.turns().longest_us(),
        "long_turns": node.turns().long(),
        "children": children.iter().map(shown).collect::<Vec<_>>(),
    });
    if node.kind == "nursery" {
        value["longest_turn_below_us"] = json!(node.turns_below().longest_us());
        value["long_turns_below"] = json!(node.turns_below().long());
    }
    if count > children.len() {
        value["children_not_shown"] = json!(count - children.len());
    }
    value
}

fn doors_config(settings: &Settings) -> net::Config {
    net::Config {
        udp: settings.sip.udp.clone(),
        tcp: settings.sip.tcp.clone(),
        msrp: settings.msrp.tcp.clone(),
        connections: files::room_for(settings.limits.connections, files::may_open()),
        connections_per_source: settings.limits.connections_per_source,
        head_time: settings.limits.head_time,
        silent_time: settings.limits.silent_connection,
        idle_time: settings.limits.idle_connection,
    }
}

fn house_config(settings: &Settings, shards: usize, doors: &Doors) -> Config {
    let (udp, tcp) = (doors.udp_addresses(), doors.tcp_addresses());
    // A listener at every address of the host is named by the domain: its peers find it by that (RFC 3261 §18.1.1).
    let name = |address: &SocketAddr| {
        let host = match settings.domains.first() {
            Some(domain) if address.ip().is_unspecified() => domain.clone(),
            _ if address.is_ipv6() => format!("[{}]", address.ip()),
            _ => address.ip().to_string(),
        };
        (host, address.port())
    };
    let named = |address: &SocketAddr| {
        let (host, port) = name(address);
        ListenerName { sent_by: format!("{host}:{port}"), is_v6: address.is_ipv6() }
    };
    let msrp = doors.msrp_addresses().first().map(|address| {
        let (host, port) = name(address);
        Place { host, port }
    });
    let any = tcp
        .first()
        .or(udp.first())
        .map_or_else(|| ListenerName { sent_by: "localhost:5060".into(), is_v6: false }, named);
    let families = |addresses: &[SocketAddr]| Families {
        v4: addresses.iter().any(SocketAddr::is_ipv4),
        v6: addresses.iter().any(SocketAddr::is_ipv6),
    };
    let dns = actors::config::Dns {
        // RFC 3261 §18.2.1: who sends by a transport listens there too.
        speaks: Speaks { udp: families(&udp), tcp: families(&tcp), tls: Families::NONE },
        enum_suffix: settings.dns.enum_suffix.clone(),
        country: settings.dns.country.clone(),
    };
    let trusted = settings.auth.trusted_peers.iter().filter_map(|peer| match peer {
        TrustedPeer::Network(network) => Some(Network { address: network.address(), bits: network.prefix_bits() }),
        TrustedPeer::Name(_) => None,
    });
    let federation = actors::config::Federation {
        allow: settings.federation.allow.clone(),
        deny: settings.federation.deny.clone(),
        require_tls: settings.federation.require_tls,
        rate: settings.federation.rate,
    };
    Config {
        domains: settings.domains.clone(),
        realm: settings.auth.realm.clone(),
        algorithms: settings.auth.algorithms.clone(),
        dns,
        federation,
        trusted: trusted.collect(),
        udp: udp.iter().map(named).collect(),
        tcp: any,
        service_route: settings.sip.service_route.iter().map(|uri| format!("<{uri}>")).collect(),
        msrp,
        shards,
        message_bytes: settings.limits.message_bytes,
        bindings_per_user: settings.limits.bindings_per_user,
        binding_expiry_s_min: settings.limits.binding_seconds_min,
        binding_expiry_s_max: settings.limits.binding_seconds_max,
        letters_per_user: settings.deferred.messages_per_user,
        letter_bytes_per_user: settings.deferred.bytes_per_user,
        letter_expiry_s: settings.deferred.expiry_s,
        silence: settings.deferred.silence,
        session_idle: settings.im.session_idle,
        session_timer: im::session_timer::Policy::new(settings.im.session_timer, settings.im.session_timer_min),
        challenges_per_source: settings.limits.challenges_per_source,
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use base::{Partition, Partitions};
    use storage::engine::faulty::Faulty;
    use storage::{Batch, Expect, Family, Key, WallClock};

    use super::*;

    fn settings() -> Settings {
        let text = "shards = 1\n[sip]\ntcp = []\n[msrp]\ntcp = []\n";
        let mut settings = crate::settings::from_text("p.toml", text, std::iter::empty()).unwrap().settings;
        // A port that is free; nobody would write 0 into a file.
        settings.sip.udp = vec!["127.0.0.1:0".parse().unwrap()];
        settings
    }

    /// Depth and bound of the mailbox at this path.
    fn mailbox(view: &View, path: &[&str]) -> (u64, u64) {
        let tree = view.tree();
        let find = |part: &Value, name: &str| {
            let mut children = part["children"].as_array().unwrap().iter();
            children.find(|child| child["name"] == name).unwrap_or_else(|| panic!("{name} in {part}")).clone()
        };
        let part = path.iter().fold(tree, |part, name| find(&part, name));
        let number = |what: &str| part["mailbox"][what].as_u64().unwrap();
        (number("depth"), number("bound"))
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..5_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("never: {what}");
    }

    #[actix_web::test]
    async fn the_tree_and_the_metrics_show_what_waits_while_the_disk_and_a_shard_are_held() {
        let disk = Faulty::new(1, Partitions::default(), Arc::new(WallClock)).at_once();
        let store = Store::over(Arc::new(disk.clone()), Arc::new(WallClock));
        let living = Living::start(&settings(), store.clone(), || {}).unwrap();
        let view = living.view();
        until("it lives", || view.tree()["children"][2]["children"][2]["state"] == "running").await;
        let (bound, users) = (base::limits::COMMIT_QUEUE_MAX as u64, &["shard 0", "users"]);
        assert_eq!((mailbox(&view, &["store"]), mailbox(&view, users).0), ((0, bound), 0));

        disk.stall(true);
        let commits: Vec<_> = (0..3u8)
            .map(|n| {
                let mut batch = Batch::new();
                batch.put(Family::Binding, Key::of(&[n]), vec![n], Expect::Any, None);
                store.commit(Partition(0), batch)
            })
            .collect();
        assert_eq!(mailbox(&view, &["store"]), (3, bound));
        disk.stall(false);
        for commit in commits {
            commit.await.unwrap();
        }
        assert_eq!(mailbox(&view, &["store"]), (0, bound));

        // The shard's thread does something else for a while.
        let (go_on, held) = mpsc::channel::<()>();
        let (entered, inside) = mpsc::channel();
        living.arbiters[0].spawn_fn(move || {
            entered.send(()).unwrap();
            held.recv().unwrap();
        });
        inside.recv().unwrap();
        for name in ["alice", "bob", "carol"] {
            assert!(view.house.registry.offer(Aor::new(name, "example.com").unwrap(), Offer::Active));
        }
        assert_eq!(mailbox(&view, users), (3, base::limits::NURSERY_MAILBOX_MAX as u64));
        let mut metrics = String::new();
        view.write_metrics(&mut metrics);
        assert!(metrics.contains("\nparlour_mailbox_depth{part=\"shard 0 users\"} 3\n"), "{metrics}");
        go_on.send(()).unwrap();
        until("it is empty again", || mailbox(&view, users).0 == 0).await;
        living.stop().await;
    }

    #[actix_web::test]
    async fn every_door_and_every_sweeper_has_its_longest_turn_in_the_metrics() {
        let living = Living::start(&settings(), Store::in_memory(), || {}).unwrap();
        let door = living.view().tree()["children"][3]["children"][0]["name"].as_str().unwrap().to_owned();
        let address = door.split(' ').nth(1).unwrap().to_owned();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.send_to(b"what is that?", &address).unwrap();
        let view = living.view();
        let text = || {
            let mut text = String::new();
            view.write_metrics(&mut text);
            text
        };
        let longest = format!("parlour_longest_turn_seconds{{part=\"{door}\"}} ");
        let measured = || text().lines().any(|line| line.strip_prefix(&*longest).is_some_and(|us| us != "0.000000"));
        until("its turn is measured", measured).await;
        for part in ["transactions", "reach", "users", "users below", "sessions", "sessions below"] {
            assert!(text().contains(&format!("parlour_longest_turn_seconds{{part=\"shard 0 {part}\"}} ")), "{part}");
        }
        assert!(text().contains("parlour_long_turns_total{part=\"dialer\"} 0\n"));
        living.stop().await;
    }
}
