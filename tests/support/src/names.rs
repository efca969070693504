//! A name server of others: dnsmasq, on a port of its own, with the records of a test.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports::free_port;
use crate::programs;

const PATIENCE: Duration = Duration::from_secs(20);

/// A name server that speaks for `test` and for `e164.arpa`, and writes down what it is asked. Dropped, it is killed.
#[derive(Debug)]
pub struct NameServer {
    folder: TempDir,
    child: Child,
    at: SocketAddr,
}

impl NameServer {
    /// With these records, a line each as dnsmasq's configuration writes them: `host-record=h.test,127.0.0.1`. All its
    /// answers hold `ttl_s` seconds, that there is none too. Nothing where dnsmasq is not installed.
    ///
    /// # Panics
    /// When it does not answer in time.
    pub fn start(ttl_s: u32, records: &[&str]) -> Option<Self> {
        let program = programs::find("dnsmasq")?;
        let folder = TempDir::with_prefix("parlour-names-").expect("a temporary folder");
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        // Authoritative, so that what it denies has an SOA that says for how long (RFC 2308 §3).
        let config = format!(
            "port={}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nno-daemon\npid-file=\n\
             log-queries\nlog-facility=-\nauth-server=ns.test,127.0.0.1\nauth-zone=test\nauth-zone=e164.arpa\n\
             auth-soa=1,admin.test,60,60,60\nauth-ttl={ttl_s}\n{}\n",
            at.port(),
            records.join("\n")
        );
        let (file, log) = (folder.path().join("dnsmasq.conf"), folder.path().join("log"));
        fs::write(&file, config).expect("the temporary folder takes a file");
        let log = fs::File::create(log).expect("the temporary folder takes a file");
        let mut command = Command::new(&program);
        command.arg(format!("--conf-file={}", file.display())).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|fault| panic!("{}: {fault}", program.display()));
        let mut server = Self { folder, child, at };
        server.wait();
        Some(server)
    }

    /// Where it is asked.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// How often it was asked for this, over all transports: `("NAPTR", "one.test")`.
    pub fn times(&self, kind: &str, name: &str) -> usize {
        let asked = format!("[{kind}] {name} from ");
        self.log().lines().filter(|line| line.contains(&asked)).count()
    }

    /// What it has written down.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends it: from now on nobody answers.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        self.child.wait().expect("a child can be waited for");
    }

    fn wait(&mut self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for a question");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket has a time-out");
        // The SOA of `test`: id, flags, one question.
        let question = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x04test\0\0\x06\0\x01";
        let end = Instant::now() + PATIENCE;
        loop {
            let asked = socket.send_to(question, self.at);
            if asked.is_ok() && socket.recv(&mut [0; 512]).is_ok() {
                return;
            }
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none() && Instant::now() < end, "dnsmasq does not answer:\n{}", self.log());
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            programs::show(&self.log());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_and_remembers_what_it_was_asked() {
        let Some(names) = NameServer::start(5, &["host-record=h.test,127.0.0.1"]) else { return };
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.send_to(b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01h\x04test\0\0\x01\0\x01", names.at()).unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap();
        assert!(answer[..length].windows(4).any(|octets| octets == [127, 0, 0, 1]), "{:?}", &answer[..length]);
        assert_eq!((names.times("A", "h.test"), names.times("AAAA", "h.test")), (1, 0), "{}", names.log());
    }
}
