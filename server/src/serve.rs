//! `parlour serve`: up in the order of the tree, down again in reverse.
//!
//! ```text
//! log, token ─> ports probed ─> admin port (503) ─> store ─> tree and doors ─> ready (200) ··· signal
//!                                                                                               │
//! 0 <── admin port closed <── store closed <── actors leave, doors closed <── draining (503) <──┘
//! ```

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_rt::signal::unix::{SignalKind, signal};
use base::Aor;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use storage::{Health, Store};
use tokio::sync::mpsc;

use crate::accounts::Rules;
use crate::admin::{self, Admin, Caretaker, Token, Work};
use crate::commands::Failure;
use crate::files;
use crate::living::{Living, View};
use crate::memory;
use crate::settings::{self, Loaded, Settings};
use crate::store_metrics;
use crate::telemetry::{self, Log, Process, Source};

/// Serves until a signal comes.
///
/// # Errors
/// It does not come up, or falls: what, where and what to do.
pub fn run(file: &Path, loaded: Loaded) -> Result<(), Failure> {
    let Loaded { settings, notices } = loaded;
    let log = Log::start(&settings.log)?;
    memory::small_pages();
    for notice in notices {
        tracing::info!("{notice}");
    }
    let (files, wanted) = (files::raise(), settings.limits.connections);
    let room = files::room_for(wanted, files);
    if room < wanted {
        tracing::warn!(
            files,
            wanted,
            room,
            "limits.connections is cut to what this process may open: raise `ulimit -n`"
        );
    }
    let token = Token::read_or_make(&settings.token_file())?;
    probe(&settings)?;
    let listener =
        TcpListener::bind(settings.admin.listen).map_err(|why| taken("admin.listen", settings.admin.listen, &why))?;
    actix_rt::System::new().block_on(serve(file.to_owned(), settings, log, token, listener))
}

async fn serve(
    file: PathBuf,
    settings: Settings,
    log: Arc<Log>,
    token: Token,
    listener: TcpListener,
) -> Result<(), Failure> {
    let mut signals = Signals::listen(file, log.clone())?;
    let house = Arc::new(Keeper::default());
    let metrics = {
        let house = house.clone();
        move |out: &mut String| house.write_metrics(out)
    };
    let sources: Vec<Arc<dyn Source>> =
        vec![Arc::new(Process), Arc::new(metrics), Arc::new(telemetry::write_garbage as fn(&mut String))];
    let admin = Admin { house: house.clone(), log, token, rules: Rules::of(&settings), sources };
    let admin = admin::serve(listener, admin)?;
    let handle = admin.handle();
    let admin = actix_rt::spawn(admin);

    let served = live(&settings, &house, &mut signals).await;
    handle.stop(true).await;
    // The admin port has nothing left to lose: how it ended changes nothing.
    let _ = admin.await;
    served
}

/// Store, tree and doors: up, until a signal comes or the tree falls; then down.
async fn live(settings: &Settings, house: &Keeper, signals: &mut Signals) -> Result<(), Failure> {
    let config = settings.storage_config();
    let opened = actix_rt::task::spawn_blocking(move || Store::open(&config)).await?;
    let store = opened.map_err(|why| Failure::new(format!("{why} (data_dir of the configuration)")))?;
    *house.store.write() = Some(store.clone());

    let (fall, mut fallen) = mpsc::unbounded_channel();
    let started = Living::start(settings, store.clone(), move || {
        let _ = fall.send(());
    });
    let living = match started {
        Ok(living) => living,
        Err(why) => {
            store.close().await?;
            return Err(why.into());
        }
    };
    *house.view.write() = Some(living.view());
    house.enter(Phase::Serving);
    tracing::info!(
        version = crate::version::VERSION,
        commit = crate::version::COMMIT,
        domains = ?settings.domains,
        msrp = ?settings.msrp.tcp,
        udp = ?settings.sip.udp,
        tcp = ?settings.sip.tcp,
        admin = %settings.admin.listen,
        "Serving"
    );

    let end = tokio::select! {
        () = signals.end() => Ok(()),
        _ = fallen.recv() => Err(Failure::new("the supervision tree fell: see the log (the store keeps what was acknowledged)")),
    };
    house.enter(Phase::Draining);
    tracing::info!("Draining");
    living.stop().await;
    *house.store.write() = None;
    store.close().await?;
    tracing::info!("Stopped");
    end
}

/// Where the house is on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Starting,
    Serving,
    Draining,
}

/// What the admin port sees of the house.
#[derive(Default)]
struct Keeper {
    phase: Mutex<Phase>,
    store: RwLock<Option<Store>>,
    view: RwLock<Option<View>>,
}

impl Keeper {
    fn enter(&self, phase: Phase) {
        *self.phase.lock() = phase;
    }

    fn write_metrics(&self, out: &mut String) {
        if let Some(view) = &*self.view.read() {
            view.write_metrics(out);
        }
        if let Some(store) = &*self.store.read() {
            store_metrics::write(store, out);
        }
    }
}

impl Caretaker for Keeper {
    fn ready(&self) -> Result<(), String> {
        match *self.phase.lock() {
            Phase::Starting => return Err("starting".to_owned()),
            Phase::Draining => return Err("draining".to_owned()),
            Phase::Serving => {}
        }
        match self.store.read().as_ref().map(Store::health) {
            Some(Health::Serving) => Ok(()),
            Some(Health::Refusing(why)) => Err(format!("the store refuses: {why}")),
            None => Err("the store is closed".to_owned()),
        }
    }

    fn store(&self) -> Option<Store> {
        self.store.read().clone()
    }

    fn tree(&self) -> Work<Value> {
        let tree = match &*self.view.read() {
            Some(view) => view.tree(),
            None => json!({ "name": "root", "kind": "supervisor", "state": "starting", "restarts": 0, "children": [] }),
        };
        Box::pin(std::future::ready(tree))
    }

    fn account_changed(&self, aor: &Aor) -> Work<()> {
        match &*self.view.read() {
            Some(view) => Box::pin(view.account_changed(aor)),
            None => Box::pin(std::future::ready(())),
        }
    }
}

/// What the operator and the system ask of a process.
struct Signals {
    term: actix_rt::signal::unix::Signal,
    interrupt: actix_rt::signal::unix::Signal,
    hangup: actix_rt::signal::unix::Signal,
    file: PathBuf,
    log: Arc<Log>,
}

impl Signals {
    fn listen(file: PathBuf, log: Arc<Log>) -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            file,
            log,
        })
    }

    /// Comes back when the process is to end.
    async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(&self.file, &self.log),
            }
        }
    }
}

/// SIGHUP: what can be read again without anybody noticing. A file with faults changes nothing, and each is told.
fn reload(file: &Path, log: &Log) {
    match settings::load(file) {
        Ok(loaded) => match log.set_filter(&loaded.settings.log) {
            Ok(()) => {
                tracing::info!(log = loaded.settings.log, "Reloaded: the log filter; all else holds until a restart")
            }
            Err(error) => tracing::error!(%error, "Not reloaded: log"),
        },
        Err(faults) => {
            for fault in faults.0 {
                tracing::error!("Not reloaded: {fault}");
            }
        }
    }
}

/// Our sockets share their ports among each other (`SO_REUSEPORT`), and would with another server of ours: so each is
/// asked for once without sharing.
fn probe(settings: &Settings) -> Result<(), Failure> {
    for address in &settings.sip.udp {
        alone(*address, Type::DGRAM, Protocol::UDP).map_err(|why| taken("sip.udp", *address, &why))?;
    }
    for address in &settings.sip.tcp {
        alone(*address, Type::STREAM, Protocol::TCP).map_err(|why| taken("sip.tcp", *address, &why))?;
    }
    for address in &settings.msrp.tcp {
        alone(*address, Type::STREAM, Protocol::TCP).map_err(|why| taken("msrp.tcp", *address, &why))?;
    }
    Ok(())
}

fn alone(address: SocketAddr, kind: Type, protocol: Protocol) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections that have just ended hold their port for a while; they are in nobody's way.
    socket.set_reuse_address(kind == Type::STREAM)?;
    socket.bind(&address.into())
}

fn taken(key: &str, address: SocketAddr, why: &std::io::Error) -> Failure {
    let what = match why.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process holds it (stop that, or give the key another address)".to_owned()
        }
        _ => format!("{why} (give the key an address of this machine, and a port that this user may open)"),
    };
    Failure::new(format!("{key}: cannot listen on {address}: {what}"))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn settings(udp: SocketAddr, tcp: SocketAddr) -> Settings {
        let text = format!("[sip]\nudp = [\"{udp}\"]\ntcp = [\"{tcp}\"]\n");
        crate::settings::from_text("p.toml", &text, std::iter::empty()).unwrap().settings
    }

    #[test]
    fn a_port_that_another_process_holds_is_named() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let told = probe(&settings(udp_at, tcp_at)).unwrap_err().to_string();
        assert!(told.contains("sip.udp") && told.contains(&udp_at.to_string()), "{told}");
        drop(udp);
        let told = probe(&settings(udp_at, tcp_at)).unwrap_err().to_string();
        assert!(told.contains("sip.tcp") && told.contains("another process"), "{told}");
        drop(tcp);
        assert!(probe(&settings(udp_at, tcp_at)).is_ok());
    }

    #[test]
    fn a_port_that_another_process_shares_is_named_too() {
        let holder = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        holder.set_reuse_port(true).unwrap();
        holder.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let at = holder.local_addr().unwrap().as_socket().unwrap();
        assert!(probe(&settings(at, "127.0.0.1:5071".parse().unwrap())).is_err());
    }

    #[test]
    fn a_house_is_ready_only_between_its_start_and_its_end() {
        let house = Keeper::default();
        assert_eq!(house.ready(), Err("starting".to_owned()));
        *house.store.write() = Some(Store::in_memory());
        house.enter(Phase::Serving);
        assert_eq!(house.ready(), Ok(()));
        house.enter(Phase::Draining);
        assert_eq!(house.ready(), Err("draining".to_owned()));
    }
}
