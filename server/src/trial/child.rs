//! The server that `parlour try` plays against: this very binary as a child, on free ports, in a temporary directory.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::commands::Failure;

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(20);
/// How long it may take to stop.
const STOP: Duration = Duration::from_secs(15);

/// A running server and its directory; both are gone when this is dropped.
pub struct Child {
    process: std::process::Child,
    dir: TempDir,
    config: PathBuf,
    sip: SocketAddr,
    admin: SocketAddr,
}

impl Child {
    /// Starts it and waits until it is ready.
    pub fn start() -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("parlour-try-").tempdir()?;
        let (sip, msrp, http, admin) = (free()?, free()?, free()?, free()?);
        let config = dir.path().join("parlour.toml");
        let text = format!(
            "domain = \"example.com\"\ndata_dir = {data:?}\nshards = 2\nlog = \"error\"\n[sip]\nudp = [\"{sip}\"]\ntcp = [\"{sip}\"]\n\
             [msrp]\ntcp = [\"{msrp}\"]\n[http]\nlisten = \"{http}\"\n[admin]\nlisten = \"{admin}\"\n",
            data = dir.path().join("data"),
        );
        std::fs::write(&config, text)?;
        let process = spawn(&config)?;
        let mut child = Self { process, dir, config, sip, admin };
        child.wait_ready()?;
        Ok(child)
    }

    /// Where it lives.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where it speaks SIP, by UDP and by TCP.
    pub fn sip(&self) -> SocketAddr {
        self.sip
    }

    /// Its admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The file with the admin port's token.
    pub fn token_file(&self) -> PathBuf {
        self.dir.path().join("data").join("admin.token")
    }

    /// Makes subscribers, as an operator's script would.
    pub fn add_users(&self, users: &[(&str, &str)]) -> Result<(), Failure> {
        let token = std::fs::read_to_string(self.token_file())?;
        let list: Vec<_> = users
            .iter()
            .map(|(name, password)| json!({ "aor": format!("sip:{name}@example.com"), "password": password }))
            .collect();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let answer = agent
            .post(format!("http://{}/users", self.admin))
            .header("Authorization", format!("Bearer {}", token.trim()))
            .header("Content-Type", "application/json")
            .send(serde_json::to_string(&list)?.as_bytes())?;
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let mut body = String::new();
        answer.into_body().as_reader().take(1_000).read_to_string(&mut body)?;
        Err(Failure::new(format!("the users were not made: {status} {body}")))
    }

    /// `kill -9`, then a new start on the same data. The process that was killed.
    pub fn kill_and_restart(&mut self) -> Result<u32, Failure> {
        let pid = self.process.id();
        self.process.kill()?;
        self.process.wait()?;
        self.process = spawn(&self.config)?;
        self.wait_ready()?;
        Ok(pid)
    }

    /// SIGTERM, as an operator stops it.
    pub fn stop(mut self) -> Result<(), Failure> {
        let told = Command::new("kill").arg(self.process.id().to_string()).status()?;
        let began = Instant::now();
        while told.success() && began.elapsed() < STOP {
            if let Some(status) = self.process.try_wait()? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(Failure::new(format!("the server ended with {status}")))
                };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::new(format!("the server did not stop within {} s", STOP.as_secs())))
    }

    fn wait_ready(&mut self) -> Result<(), Failure> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).proxy(None).build().into();
        let began = Instant::now();
        while began.elapsed() < READY {
            if agent.get(format!("http://{}/readyz", self.admin)).call().is_ok() {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                return Err(Failure::new(format!("the server ended with {status}: its own words stand above")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::new(format!("the server was not ready within {} s", READY.as_secs())))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(config: &Path) -> Result<std::process::Child, Failure> {
    let binary = std::env::current_exe()?;
    Ok(Command::new(binary)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?)
}

/// A loopback port that is free for UDP and for TCP.
fn free() -> Result<SocketAddr, Failure> {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        let address = udp.local_addr()?;
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure::new("no port on 127.0.0.1 is free for both UDP and TCP"))
}
