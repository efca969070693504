//! Whether the values fit together, and with this machine: what no single key can know.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;

use super::network::TrustedPeer;
use super::read::Reader;
use super::sections::Settings;

/// Where the system says which name servers it asks.
const NAME_SERVERS: &str = "/etc/resolv.conf";

/// Notes what does not fit as faults; what an operator should know comes back as notices.
pub fn fit_together(settings: &Settings, reader: &mut Reader) -> Vec<String> {
    domains(settings, reader);
    files(settings, reader);
    addresses(settings, reader);
    name_servers(settings, reader);
    services(settings, reader);
    limits(settings, reader);
    orders(settings, reader);
    if let Err(why) = crate::telemetry::parse_filter(&settings.log) {
        reader
            .fault("log", format!("{:?} is no log filter: {why} (write \"info\" or \"info,net=debug\")", settings.log));
    }
    notices(settings)
}

fn domains(settings: &Settings, reader: &mut Reader) {
    if reader.is_set("domain") && reader.is_set("domains") {
        reader.fault("domains", "`domain` is set too (keep one of them)");
    }
    if settings.domains.is_empty() {
        reader.fault("domains", "is empty (name one domain at least)");
    }
    twice("domains", &settings.domains, |name| format!("{name:?}"), reader);
    let ours = |name: &String| settings.serves(name);
    for (key, names) in
        [("federation.allow", &settings.federation.allow), ("federation.deny", &settings.federation.deny)]
    {
        if let Some(name) = names.iter().find(|name| ours(name)) {
            reader.fault(key, format!("{name:?} is served here, not another domain (take it out)"));
        }
    }
}

fn files(settings: &Settings, reader: &mut Reader) {
    for peer in &settings.auth.trusted_peers {
        if let TrustedPeer::Name(name) = peer {
            let why = format!("{name:?} names a certificate, and nothing in this version speaks TLS (name a network)");
            reader.fault("auth.trusted_peers", why);
        }
    }
    let tls = &settings.tls;
    for (key, file) in [("tls.cert", &tls.cert), ("tls.key", &tls.key), ("tls.ca", &tls.ca)] {
        if let Some(file) = file {
            readable(key, file, reader);
        }
    }
    match (&tls.cert, &tls.key) {
        (Some(_), None) => reader.fault("tls.key", "is missing beside tls.cert (name the file of its private key)"),
        (None, Some(_)) => reader.fault("tls.cert", "is missing beside tls.key (name the file of its certificate)"),
        _ => {}
    }
    let doors = [
        ("sip.tls", !settings.sip.tls.is_empty()),
        ("msrp.tls", !settings.msrp.tls.is_empty()),
        ("http.tls", settings.http.tls),
    ];
    for (key, wanted) in doors {
        if wanted && (tls.cert.is_none() || tls.key.is_none()) {
            reader.fault(key, "needs a certificate (set tls.cert and tls.key)");
        }
    }
    if settings.data_dir.exists() && !settings.data_dir.is_dir() {
        reader.fault("data_dir", format!("{} is no directory (name one, or a new one)", settings.data_dir.display()));
    }
    if settings.token_file().is_dir() {
        reader.fault("admin.token_file", format!("{} is a directory (name a file)", settings.token_file().display()));
    }
}

fn readable(key: &str, file: &Path, reader: &mut Reader) {
    let opened = File::open(file).and_then(|open| open.metadata());
    match opened {
        Ok(what) if what.is_dir() => reader.fault(key, format!("{} is a directory (name a PEM file)", file.display())),
        Ok(_) => {}
        Err(error) => reader.fault(key, format!("{} cannot be read: {error} (name a PEM file)", file.display())),
    }
}

/// No two doors at one address, UDP and TCP apart.
fn addresses(settings: &Settings, reader: &mut Reader) {
    let mut taken = BTreeMap::new();
    for address in &settings.sip.udp {
        take("sip.udp", *address, &mut taken, reader);
    }
    taken.clear();
    let lists = [
        ("sip.tcp", &settings.sip.tcp),
        ("sip.tls", &settings.sip.tls),
        ("msrp.tcp", &settings.msrp.tcp),
        ("msrp.tls", &settings.msrp.tls),
    ];
    for (key, list) in lists {
        for address in list {
            take(key, *address, &mut taken, reader);
        }
    }
    for (key, address) in [("http.listen", settings.http.listen), ("admin.listen", settings.admin.listen)] {
        // A faulty one stands at its preset here, and nobody has asked for that.
        if !reader.is_faulty(key) {
            take(key, address, &mut taken, reader);
        }
    }
}

fn take(key: &'static str, address: SocketAddr, taken: &mut BTreeMap<SocketAddr, &'static str>, reader: &mut Reader) {
    if let Some(other) = taken.insert(address, key) {
        let reason = if other == key {
            format!("{address} stands there twice (take one out)")
        } else {
            format!("{address} is where {other} listens too (give each a port of its own)")
        };
        reader.fault(key, reason);
    }
}

fn name_servers(settings: &Settings, reader: &mut Reader) {
    let servers = &settings.dns.servers;
    for (at, server) in servers.iter().enumerate() {
        if servers[..at].contains(server) {
            reader.fault("dns.servers", format!("{server} stands there twice (take one out)"));
        }
        if server.ip().is_unspecified() || server.ip().is_multicast() {
            reader.fault("dns.servers", format!("{server} is nobody's address (name the host that answers there)"));
        }
    }
}

/// Addresses of our own services are told apart by their user parts.
fn services(settings: &Settings, reader: &mut Reader) {
    let services = [
        ("history.service", &settings.history.service),
        ("im.exploder", &settings.im.exploder),
        ("im.system", &settings.im.system),
        ("rooms.factory", &settings.rooms.factory),
        ("deferred.service", &settings.deferred.service),
    ];
    for (at, (key, user)) in services.iter().enumerate() {
        if let Some((other, _)) = services[..at].iter().find(|(other, taken)| taken == user && !reader.is_faulty(other))
            && !reader.is_faulty(key)
        {
            reader.fault(key, format!("{user:?} is the user part of {other} too (give each one of its own)"));
        }
    }
}

fn limits(settings: &Settings, reader: &mut Reader) {
    let limits = &settings.limits;
    if limits.binding_seconds_min > limits.binding_seconds_max {
        reader.fault("limits.binding_seconds_min", "is above limits.binding_seconds_max (lower it, or raise that)");
    }
    if limits.connections_per_source > limits.connections && reader.is_set("limits.connections_per_source") {
        reader.fault("limits.connections_per_source", "is above limits.connections (lower it, or raise that)");
    }
}

/// Lists whose order means something.
fn orders(settings: &Settings, reader: &mut Reader) {
    let algorithms = &settings.auth.algorithms;
    if algorithms.is_empty() && !reader.is_faulty("auth.algorithms") {
        reader.fault("auth.algorithms", "is empty (name \"SHA-256\", \"MD5\" or both)");
    }
    twice("auth.algorithms", algorithms, |one| format!("{:?}", one.as_str()), reader);
    if !settings.history.notices.is_sorted_by(|left, right| left < right) {
        reader.fault("history.notices", "does not rise (write [80, 95, 100])");
    }
}

fn twice<T: PartialEq>(key: &str, items: &[T], shown: impl Fn(&T) -> String, reader: &mut Reader) {
    for (at, item) in items.iter().enumerate() {
        if items[..at].contains(item) {
            reader.fault(key, format!("{} stands there twice (take one out)", shown(item)));
        }
    }
}

fn notices(settings: &Settings) -> Vec<String> {
    let mut notices = Vec::new();
    if settings.sip.udp.is_empty() && settings.sip.tcp.is_empty() {
        notices.push("[sip] names no address: no client can come in".to_owned());
    }
    let http = settings.http.listen;
    notices.push(format!("http.listen: {http} stays closed: XCAP and WebSocket are not built into this version"));
    if settings.dns.servers.is_empty()
        && let Err(why) = File::open(NAME_SERVERS)
    {
        notices.push(format!(
            "dns.servers is empty, and the system's cannot be read from {NAME_SERVERS}: {why}: other domains and numbers are not found"
        ));
    }
    if settings.tls.cert.is_some() {
        notices.push("[tls] is read and checked, but nothing in this version speaks TLS yet".to_owned());
    }
    if !settings.admin.listen.ip().is_loopback() {
        let admin = settings.admin.listen;
        notices.push(format!("admin.listen: {admin} is no loopback address: see that nobody else can reach it"));
    }
    let files = crate::files::may_open();
    if files < settings.limits.connections + crate::files::OF_OUR_OWN {
        notices.push(format!(
            "limits.connections is {}, but this process may open {files} files (raise `ulimit -n`, or lower the key)",
            settings.limits.connections
        ));
    }
    notices
}
