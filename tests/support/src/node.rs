//! One server: the real binary as a child, on free ports, with a data directory of its own.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::binary::binary;
use crate::ports::free_port;
use crate::programs::{self, Finished};

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(30);
const DOMAIN: &str = "example.com";

/// A server and what it stands on. Dropped, it is killed and its files are gone; when the test has failed, its last
/// words are shown.
#[derive(Debug)]
pub struct Node {
    folder: TempDir,
    child: Option<Child>,
    sip: SocketAddr,
    admin: SocketAddr,
    /// Settings as the environment says them.
    sets: Vec<(String, String)>,
}

impl Node {
    /// A server for `example.com` with every default but its ports and these settings: `("auth.algorithms",
    /// r#"["MD5"]"#)`, the value as in TOML. It is ready when this returns.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(sets: &[(&str, &str)]) -> Self {
        let mut node = Self::prepared(sets);
        node.start_again();
        node
    }

    /// The same, not started: for commands on a stopped server.
    ///
    /// # Panics
    /// When the temporary folder takes no file.
    pub fn prepared(sets: &[(&str, &str)]) -> Self {
        let folder = TempDir::with_prefix("parlour-e2e-").expect("a temporary folder");
        let at = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let (sip, admin, msrp, http) = (at(), at(), at(), at());
        let data = folder.path().join("data");
        let config = format!(
            "domain = \"{DOMAIN}\"\ndata_dir = {data:?}\n[sip]\nudp = [\"{sip}\"]\ntcp = [\"{sip}\"]\n\
             [msrp]\ntcp = [\"{msrp}\"]\n[http]\nlisten = \"{http}\"\n[admin]\nlisten = \"{admin}\"\n"
        );
        fs::write(folder.path().join("parlour.toml"), config).expect("the temporary folder takes a file");
        let sets = sets.iter().map(|(key, value)| (as_variable(key), (*value).to_owned())).collect();
        Self { folder, child: None, sip, admin, sets }
    }

    /// One more setting, before it is started.
    pub fn set(&mut self, key: &str, value: &str) {
        self.sets.push((as_variable(key), value.to_owned()));
    }

    /// The domain that it serves.
    pub fn domain(&self) -> &'static str {
        DOMAIN
    }

    /// Where it takes SIP, by UDP and by TCP.
    pub fn sip(&self) -> SocketAddr {
        self.sip
    }

    /// Its admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("parlour.toml")
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for what a test writes beside it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server is running").id()
    }

    /// What it has logged, over all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    // ---- life and death

    /// Starts it on the data that it has, and waits until it is ready.
    ///
    /// # Panics
    /// When it runs already or does not become ready.
    pub fn start_again(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts it and does not wait: for a server that is expected to refuse.
    ///
    /// # Panics
    /// When it runs already.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        let errors = log.try_clone().expect("a file has a second handle");
        let mut command = self.command(&["serve"]);
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.child = Some(child.expect("the binary starts"));
    }

    /// Waits for 200 from `/readyz`.
    ///
    /// # Panics
    /// When it ends, or takes too long.
    pub fn wait_ready(&mut self) {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                panic!("the server ended ({status}):\n{}", self.last_words());
            }
            if self.is_ready() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server was not ready in {PATIENCE:?}:\n{}", self.last_words());
    }

    /// Whether it has ended by itself, and how.
    ///
    /// # Panics
    /// When it was not started.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().expect("the server was started").try_wait().expect("a child can be waited for")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill(); // it may have ended just now
            let _ = child.wait();
        }
    }

    /// SIGTERM: it drains, stops and must end with status 0.
    ///
    /// # Panics
    /// When it does not.
    pub fn stop(&mut self) {
        self.signal("TERM");
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                assert!(status.success(), "the server ended with {status}:\n{}", self.last_words());
                self.child = None;
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server did not stop in {PATIENCE:?}:\n{}", self.last_words());
    }

    /// Any other signal, by name: `HUP`, `STOP`, `CONT`.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &line]).status().expect("there is a shell");
        assert!(status.success(), "{line}: {status}");
    }

    // ---- commands

    /// `parlour ARGS… --config FILE`, with this server's settings.
    ///
    /// # Panics
    /// When the binary is not built.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("parlour"));
        command.args(arguments).arg("--config").arg(self.config()).current_dir(self.folder.path());
        let sets = self.sets.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        command.envs(sets);
        command
    }

    /// Runs such a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        programs::run(&mut self.command(arguments), PATIENCE)
    }

    /// Makes a user: `alice` becomes `sip:alice@example.com`. Works while the server runs and when it does not.
    ///
    /// # Panics
    /// When the command fails.
    pub fn add_user(&self, user: &str, password: &str) {
        let aor = format!("sip:{user}@{DOMAIN}");
        let mut command = self.command(&["user", "add", &aor, "--password-stdin"]);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("the binary starts");
        let mut input = child.stdin.take().expect("its input is piped");
        writeln!(input, "{password}").expect("it reads its input");
        drop(input);
        let output = child.wait_with_output().expect("a child can be waited for");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "parlour user add {aor}: {}\n{said}", output.status);
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// A key as the environment spells it.
fn as_variable(key: &str) -> String {
    format!("PARLOUR__{}", key.to_ascii_uppercase().replace('.', "__"))
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            show(&self.last_words());
        }
    }
}

#[allow(clippy::print_stderr, reason = "who reads a failed test needs what the server said")]
fn show(words: &str) {
    eprintln!("---- the server's last words\n{words}\n----");
}
