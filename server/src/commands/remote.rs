//! A running server, as the commands reach it: through its admin port, with the token from its file.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use base::Aor;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use ureq::Agent;
use ureq::http::Response;

use super::failure::Failure;
use crate::accounts::{Change, NewUser, ShownUser};
use crate::admin::Token;
use crate::settings::Settings;

/// How long a server that holds the data may take to open its admin port.
const START_TIME: Duration = Duration::from_secs(5);
/// How long anything but a backup may take.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// How long a backup may take: it copies the whole store.
const BACKUP_TIME: Duration = Duration::from_secs(3_600);

/// The admin port of a running server.
pub struct Remote {
    agent: Agent,
    root: String,
    bearer: String,
    token_file: String,
}

/// A faulty user among many.
#[derive(Debug, Deserialize)]
pub struct Fault {
    /// His place among those that were sent.
    pub index: usize,
    /// What is wrong.
    pub error: String,
}

/// What became of many users.
#[derive(Debug, Deserialize)]
pub struct Added {
    /// How many were taken.
    pub added: usize,
    /// The others.
    pub faults: Vec<Fault>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Remote {
    /// The server that these settings describe; waits a little for one that has just been started.
    pub fn reach(settings: &Settings) -> Result<Self, Failure> {
        let at = reachable(settings.admin.listen);
        let deadline = Instant::now() + START_TIME;
        while let Err(why) = std::net::TcpStream::connect_timeout(&at, Duration::from_secs(2)) {
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "{} is in use, but nothing answers at the admin port {at}: {why} (does [admin] listen name the \
                     port of the server that runs there?)",
                    settings.data_dir.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(5)))
            .build()
            .into();
        let file = settings.token_file();
        let bearer = format!("Bearer {}", Token::read(&file)?.as_str());
        Ok(Self { agent, root: format!("http://{at}"), bearer, token_file: file.display().to_string() })
    }

    /// Makes a user.
    pub fn add(&self, user: &NewUser) -> Result<(), Failure> {
        self.send("POST", "/users", Some(&serde_json::to_string(user)?), ANSWER_TIME).map(drop)
    }

    /// Makes many.
    pub fn add_many(&self, users: &[NewUser]) -> Result<Added, Failure> {
        let answer = self.send("POST", "/users", Some(&serde_json::to_string(users)?), ANSWER_TIME)?;
        Ok(serde_json::from_reader(answer.into_body().into_reader())?)
    }

    /// Changes a user.
    pub fn change(&self, aor: &Aor, change: &Change) -> Result<(), Failure> {
        self.send("PUT", &path(aor), Some(&serde_json::to_string(change)?), ANSWER_TIME).map(drop)
    }

    /// Removes a user.
    pub fn remove(&self, aor: &Aor) -> Result<(), Failure> {
        self.send("DELETE", &path(aor), None, ANSWER_TIME).map(drop)
    }

    /// Gives each user to `each`, one at a time.
    pub fn list(&self, each: impl FnMut(ShownUser)) -> Result<(), Failure> {
        let answer = self.send("GET", "/users", None, BACKUP_TIME)?;
        let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::new(answer.into_body().into_reader()));
        Ok(Each(each).deserialize(&mut json)?)
    }

    /// Has the server copy its store.
    pub fn backup(&self, dir: &Path) -> Result<(), Failure> {
        let body = serde_json::json!({ "dir": dir }).to_string();
        self.send("POST", "/backup", Some(&body), BACKUP_TIME).map(drop)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        within: Duration,
    ) -> Result<Response<ureq::Body>, Failure> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.root))
            .header("Authorization", &self.bearer)
            .header("Content-Type", "application/json");
        let agent = &self.agent;
        let answer = match body {
            Some(body) => agent.run(agent.configure_request(request.body(body)?).timeout_global(Some(within)).build()),
            None => agent.run(agent.configure_request(request.body(())?).timeout_global(Some(within)).build()),
        };
        let answer = answer.map_err(|why| Failure::new(format!("the admin port {} failed: {why}", self.root)))?;
        match answer.status().as_u16() {
            200..=299 => Ok(answer),
            401 => Err(Failure::new(format!(
                "the server at {} does not take the token of {} (do [admin] listen and token_file name one server?)",
                self.root, self.token_file
            ))),
            status => Err(Failure::new(match refused(answer) {
                Some(why) => why,
                None => format!("the admin port {} answered {status} to {method} {path}", self.root),
            })),
        }
    }
}

/// What the server says about a request that it did not do.
fn refused(answer: Response<ureq::Body>) -> Option<String> {
    let mut text = String::new();
    answer.into_body().into_reader().take(65_536).read_to_string(&mut text).ok()?;
    serde_json::from_str::<Refused>(&text).ok().map(|refused| refused.error)
}

/// An address in a path (RFC 3986 §3.3): all but the unreserved is escaped.
fn path(aor: &Aor) -> String {
    use std::fmt::Write;
    let mut path = String::from("/users/");
    for byte in aor.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

/// Who listens at every address is reached at loopback.
fn reachable(mut at: SocketAddr) -> SocketAddr {
    if at.ip().is_unspecified() {
        at.set_ip(if at.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
    }
    at
}

/// Reads an array without keeping it.
struct Each<F>(F);

impl<'de, F: FnMut(ShownUser)> DeserializeSeed<'de> for Each<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(ShownUser)> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of users")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut users: A) -> Result<(), A::Error> {
        while let Some(user) = users.next_element()? {
            (self.0)(user);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{Port, port};

    fn reach(port: &Port, token_file: &str) -> Result<Remote, Failure> {
        let mut settings = crate::settings::from_text("p.toml", "", std::iter::empty()).unwrap().settings;
        settings.admin.listen = port.at;
        settings.admin.token_file = Some(port.dir.path().join(token_file));
        Remote::reach(&settings)
    }

    #[test]
    fn users_of_a_running_server_are_made_listed_changed_and_removed() {
        let port = port();
        let remote = reach(&port, "admin.token").unwrap();
        let user = |name: &str| NewUser {
            aor: format!("sip:{name}@example.com"),
            password: "x".to_owned(),
            ..NewUser::default()
        };
        let odd = Aor::parse("sip:a%40b+c@example.com").unwrap();
        remote.add(&NewUser { services: Some(vec![]), ..user("a%40b+c") }).unwrap();
        let told = remote.add(&user("a%40b+c")).unwrap_err().to_string();
        assert!(told.contains("is a user already"), "{told}");
        let many = remote.add_many(&[user("d"), NewUser { password: String::new(), ..user("e") }]).unwrap();
        assert_eq!((many.added, many.faults[0].index), (1, 1));
        remote.change(&odd, &Change { history_limit: Some(5), ..Change::default() }).unwrap();
        let mut listed = Vec::new();
        remote.list(|user| listed.push((user.aor, user.services, user.history_limit))).unwrap();
        listed.sort();
        let wanted =
            [(odd.to_string(), vec![], Some(5)), ("sip:d@example.com".to_owned(), vec!["all".to_owned()], None)];
        assert_eq!(listed, wanted);
        remote.remove(&odd).unwrap();
        assert!(remote.remove(&odd).unwrap_err().to_string().contains("there is no user sip:a%40b+c@example.com"));
    }

    #[test]
    fn who_has_another_token_is_told_so() {
        let port = port();
        std::fs::write(port.dir.path().join("other"), "0123456789abcdef").unwrap();
        let told = reach(&port, "other").unwrap().remove(&Aor::parse("tel:+44").unwrap()).unwrap_err().to_string();
        assert!(told.contains("does not take the token of"), "{told}");
        let told = reach(&port, "none").err().unwrap().to_string();
        assert!(told.contains("none") && told.contains("token_file"), "{told}");
    }

    #[test]
    fn an_address_is_one_segment_of_a_path() {
        assert_eq!(path(&Aor::parse("sip:a%40b@x.y").unwrap()), "/users/sip%3Aa%2540b%40x.y");
        assert_eq!(path(&Aor::parse("tel:+44").unwrap()), "/users/tel%3A%2B44");
    }

    #[test]
    fn who_listens_everywhere_is_reached_at_loopback() {
        for (listen, at) in
            [("0.0.0.0:9090", "127.0.0.1:9090"), ("[::]:9090", "[::1]:9090"), ("10.0.0.1:1", "10.0.0.1:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), at.parse().unwrap());
        }
    }
}
