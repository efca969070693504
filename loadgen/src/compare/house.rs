//! Where the servers of a comparison live: a folder, a program on its core, a configuration for each job.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{DOMAIN, Job, Options, Target};
use crate::interrupt;
use crate::measure;
use crate::plan::{FailureReport, Identity, Kind, Load, Plan, Route};
use crate::ports::{free_port, is_open};
use crate::report::Report;
use crate::scenario;
use crate::sizes::Sizes;
use crate::users;
use crate::wire::Transport;

/// How long a server may take until its port is open, and to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the servers of a comparison live.
pub(super) struct House<'a> {
    options: &'a Options,
    dir: PathBuf,
    /// Removed when this is dropped.
    _folder: TempDir,
}

impl<'a> House<'a> {
    pub(super) fn build(options: &'a Options) -> io::Result<Self> {
        let named = |error: io::Error| {
            let what = format!("--dir {}: {error} (name a directory that can be written to)", options.dir.display());
            io::Error::new(error.kind(), what)
        };
        let folder = tempfile::Builder::new().prefix("parlour-compare-").tempdir_in(&options.dir).map_err(named)?;
        let house = Self { options, dir: folder.path().canonicalize()?, _folder: folder };
        let wanted = options.targets.is_empty() || options.targets.contains(&Target::Parlour);
        if wanted && house.lacks(Target::Parlour).is_none() {
            let csv = house.dir.join("users.csv");
            std::fs::write(&csv, users::csv(options.users, "u", DOMAIN, "secret"))?;
            let config = house.configure(Identity::Auth, free_port()?)?;
            let mut command = Command::new(&options.parlour);
            command.args(["user", "import"]).arg(&csv).arg("--config").arg(&config);
            Server::start(command, &house.dir.join("import.log"))?.await_end("`parlour user import`")?;
        }
        Ok(house)
    }

    /// Why a target cannot be run here.
    pub(super) fn lacks(&self, target: Target) -> Option<String> {
        match target {
            Target::Relay => None,
            Target::Parlour => (!self.options.parlour.is_file())
                .then(|| format!("Parlour is left out: there is no {}", self.options.parlour.display())),
            Target::KamailioStateless | Target::Kamailio => {
                let found = std::env::var_os("PATH").is_some_and(|path| {
                    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join("kamailio").is_file())
                });
                let script = &self.options.kamailio;
                if !script.is_file() {
                    return Some(format!("Kamailio is left out: there is no {}", script.display()));
                }
                (!found).then(|| "Kamailio is left out: it is not installed".to_owned())
            }
        }
    }

    /// Writes a configuration of our server; where it stands.
    fn configure(&self, identity: Identity, port: u16) -> io::Result<PathBuf> {
        let trusted = if identity == Identity::Trusted { "\"127.0.0.0/8\"" } else { "" };
        let (dir, lines) = (self.dir.display(), &self.options.parlour_config);
        let (msrp, http, admin) = (free_port()?, free_port()?, free_port()?);
        let text = format!(
            "domain = \"{DOMAIN}\"\ndata_dir = \"{dir}/parlour\"\n[sip]\nudp = [\"127.0.0.1:{port}\"]\n\
             tcp = [\"127.0.0.1:{port}\"]\n[msrp]\ntcp = [\"127.0.0.1:{msrp}\"]\n[http]\nlisten = \"127.0.0.1:{http}\"\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n[auth]\ntrusted_peers = [{trusted}]\n[limits]\nchallenges_per_source = 4294967295\n{lines}\n"
        );
        let path = self.dir.join("parlour.toml");
        std::fs::write(&path, text)?;
        Ok(path)
    }

    pub(super) fn play(&self, job: Job, target: Target) -> Result<Report, scenario::RunError> {
        let (port, receivers) = (free_port()?, free_port()?);
        let server = self.start(job, target, port, receivers)?;
        server.await_port(port, job.door(target))?;
        let plan = self.plan(job, target, port, receivers, server.pid());
        scenario::run(&plan, true)
    }

    fn start(&self, job: Job, target: Target, port: u16, receivers: u16) -> io::Result<Server> {
        let core = self.options.server_core.to_string();
        let pinned = |program: &Path| {
            let mut command = Command::new("taskset");
            command.args(["-c", &core]).arg(program);
            command
        };
        let command = match target {
            Target::Relay => {
                let kind = if job.door(target) == Transport::Tcp { "--tcp" } else { "--udp" };
                let mut command = pinned(&std::env::current_exe()?);
                command.args(["relay", kind, "--listen", &format!("127.0.0.1:{port}")]);
                command.args(["--to", &format!("127.0.0.1:{receivers}")]);
                command
            }
            Target::Parlour => {
                let trusted = if job == Job::Register { Identity::Auth } else { Identity::Trusted };
                let mut command = pinned(&self.options.parlour);
                command.arg("serve").arg("--config").arg(self.configure(trusted, port)?);
                command
            }
            Target::KamailioStateless | Target::Kamailio => {
                let (name, workers) = match (job, target) {
                    (Job::Register, _) => ("JOB_REGISTER_MEM", "2"),
                    // SQLite: two workers would lock each other out.
                    (Job::Deferred, _) => ("JOB_MSILO", "1"),
                    _ if job.shape().is_some() => ("JOB_MSRP", "2"),
                    (_, Target::KamailioStateless) => ("JOB_RELAY_STATELESS", "2"),
                    _ => ("JOB_RELAY_STATEFUL", "2"),
                };
                let dir = self.dir.join("kamailio");
                // Letters and nonces of the round before are none of this one's.
                let _ = std::fs::remove_dir_all(&dir);
                std::fs::create_dir_all(&dir)?;
                let mut command = Command::new(&self.options.kamailio);
                command.args([name, &port.to_string()]).arg(&dir).env("CORE", &core).env("WORKERS", workers);
                if job.door(target) == Transport::Tcp {
                    command.env("TCP", "1");
                }
                if job.shape().is_some() {
                    command.env("RDBUF", "16384");
                }
                command
            }
        };
        Server::start(command, &self.dir.join("server.log"))
    }

    fn plan(&self, job: Job, target: Target, port: u16, receivers: u16, pid: u32) -> Plan {
        let options = self.options;
        let here = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let connections = match job {
            Job::PagerTcp64 => 64,
            Job::PagerTcp4 => 4,
            _ => 1,
        };
        let shape = job.shape();
        let scenario = match (job, target) {
            _ if shape.is_some() => Kind::Session,
            (Job::Register, _) => Kind::Register,
            (Job::Deferred, Target::Parlour | Target::Kamailio | Target::KamailioStateless) => Kind::Deferred,
            _ => Kind::Pager,
        };
        Plan {
            scenario,
            server: here(port),
            domain: DOMAIN.into(),
            transport: job.transport(),
            connections,
            users: options.users,
            user_prefix: "u".into(),
            password: "secret".into(),
            users_file: None,
            identity: if job == Job::Register { Identity::Auth } else { Identity::Trusted },
            reuse: false,
            receivers_at: (target == Target::Relay).then(|| here(receivers)),
            load: Load::InFlight(match &shape {
                Some(shape) => shape.in_flight,
                None if job == Job::PagerUdpOne => 1,
                None => options.in_flight,
            }),
            duration: Duration::from_secs_f64(options.seconds.max(0.1)),
            warmup: Duration::from_secs(1),
            drain: Duration::from_secs(40),
            hold: Duration::ZERO,
            body_bytes: Sizes::fixed(shape.as_ref().map_or(270, |shape| shape.body_bytes)),
            message_bytes: 600,
            pairs: shape.as_ref().map_or(1, |shape| shape.pairs),
            chunk_bytes: shape.as_ref().map_or(2_048, |shape| shape.chunk_bytes),
            failure_report: FailureReport::Yes,
            one_way: options.one_way,
            route: match target {
                Target::Relay => Route::Direct,
                Target::Kamailio | Target::KamailioStateless => Route::Auth,
                Target::Parlour => Route::Invite,
            },
            receive_rate: 50.0,
            session_percent: 0,
            session_messages: 0,
            messages: Some(options.letters),
            kills: 0,
            kills_delivering: 0,
            start_command: None,
            register_percent: 0,
            deferred_percent: 0,
            expires: 3_600,
            server_pid: Some(pid),
            admin: None,
            core: Some(options.driver_core),
            seed: 1,
            pass: BTreeMap::new(),
        }
    }
}

/// A program of ours to start and end, with what it started itself.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    fn start(mut command: Command, log: &Path) -> io::Result<Self> {
        let file = std::fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))?;
        Ok(Self { child, log: log.to_owned() })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a port of loopback is open.
    fn await_port(&self, port: u16, transport: Transport) -> io::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            interrupt::check()?;
            if is_open(port, transport)? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let last = self.last_words();
        Err(io::Error::other(format!("the server opened no port {port} within {PATIENCE:?}; its last words: {last:?}")))
    }

    /// Waits until it has ended by itself, and well.
    fn await_end(mut self, name: &str) -> io::Result<()> {
        loop {
            interrupt::check()?;
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    let last = self.last_words();
                    return Err(io::Error::other(format!("{name} ended with {status}; its last words: {last:?}")));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn last_words(&self) -> Vec<String> {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        said.lines().rev().take(4).map(str::to_owned).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let family = measure::descendants(self.pid()).unwrap_or_default();
        let signal = |pid: u32, signal| {
            let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
            pid.map(|pid| rustix::process::kill_process(pid, signal))
        };
        signal(self.pid(), rustix::process::Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            // It had its time; and its children cannot outlive it.
            for pid in family {
                signal(pid, rustix::process::Signal::KILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn an_open_port_is_seen_without_speaking_to_it() {
        let port = free_port().unwrap();
        for transport in [Transport::Udp, Transport::Tcp] {
            assert!(!is_open(port, transport).unwrap());
        }
        let _udp = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        let _tcp = TcpListener::bind(("127.0.0.1", port)).unwrap();
        for transport in [Transport::Udp, Transport::Tcp] {
            assert!(is_open(port, transport).unwrap());
        }
    }
}
