//! What is asked for: the options of `parlour-load run`, the same keys in a plan file, and the marks that must hold.
//!
//! An option on the command line wins over the file. [`Options::resolve`] fills the defaults and names every fault at
//! once.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pace::Pace;
use crate::sizes::Sizes;
use crate::wire::Transport;

/// What the crowd does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Digest REGISTERs.
    Register,
    /// Page messages to receivers who are there.
    Pager,
    /// Page messages to receivers who are away and come later.
    Deferred,
    /// The same, while the server is killed with -9.
    Kill,
    /// All of it at once, for long; memory must stay flat.
    Mixed,
    /// Registered users who do nothing; what they weigh.
    Idle,
    /// Sessions of two, and what both say over MSRP.
    Session,
    /// Sessions in which nothing is said; what they weigh.
    SessionIdle,
    /// One long message to a receiver who reads slowly; the server's memory must stay flat.
    SessionSlow,
}

impl Kind {
    /// Whether MSRP is all that it is about.
    pub fn is_session(self) -> bool {
        matches!(self, Self::Session | Self::SessionIdle | Self::SessionSlow)
    }
}

/// How the two ends of a session come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// By INVITE through the SIP server, which names its own paths
    Invite,
    /// The caller connects to the server, which is a blind relay to the callee at `receivers_at`; without SIP
    Direct,
    /// Both ask the server, an MSRP relay, for a URI by AUTH (RFC 4976); without SIP
    Auth,
}

/// Whether SENDs are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FailureReport {
    /// Each by a response
    Yes,
    /// When they fail
    Partial,
    /// Never
    No,
}

impl From<FailureReport> for msrp::FailureReport {
    fn from(wish: FailureReport) -> Self {
        match wish {
            FailureReport::Yes => Self::Yes,
            FailureReport::Partial => Self::Partial,
            FailureReport::No => Self::No,
        }
    }
}

/// What may be asked, on the command line or in a file; what is absent takes its default.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Plan file with the same keys (dashes as underscores) and a [pass] table; options given here win
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub plan: Option<PathBuf>,
    /// What the crowd does
    #[arg(long, value_enum)]
    pub scenario: Option<Kind>,
    /// The SIP server
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// Domain of the users [default: example.com]
    #[arg(long)]
    pub domain: Option<String>,
    /// Transport of all links [default: udp]
    #[arg(long, value_enum)]
    pub transport: Option<Transport>,
    /// Sockets (UDP) or connections (TCP) of the callers, and as many of the receivers [default: 1]; `idle` over TCP has
    /// one a user
    #[arg(long)]
    pub connections: Option<usize>,
    /// Users, numbered from 0 [default: 1000]
    #[arg(long)]
    pub users: Option<usize>,
    /// What stands before the number in a user's name [default: u]
    #[arg(long)]
    pub user_prefix: Option<String>,
    /// Everybody's password [default: secret]
    #[arg(long)]
    pub password: Option<String>,
    /// Users from a file in place of these: CSV lines `aor,password[,…]`, as `parlour user import` reads them
    #[arg(long, value_name = "CSV")]
    pub users_file: Option<PathBuf>,
    /// Answer challenges, and give credentials with the nonce at hand (the default)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", conflicts_with = "trusted")]
    pub auth: Option<bool>,
    /// We are a trusted peer: a challenge is an error
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub trusted: Option<bool>,
    /// `register`: give credentials at once with the nonce at hand, so that a REGISTER is one transaction, not two
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub reuse: Option<bool>,
    /// Register nobody: the server is a blind relay to the receivers' address
    #[arg(long, value_name = "HOST:PORT")]
    pub receivers_at: Option<SocketAddr>,
    /// Units begun a second, by the clock (open loop)
    #[arg(long, value_name = "PER_S", conflicts_with = "in_flight")]
    pub rate: Option<f64>,
    /// Units under way at once (closed loop: saturates) [default: 64]
    #[arg(long, value_name = "N")]
    pub in_flight: Option<usize>,
    /// Seconds of steady state [default: 10]
    #[arg(long, value_name = "S")]
    pub duration: Option<f64>,
    /// Seconds before it that do not count [default: 2]
    #[arg(long, value_name = "S")]
    pub warmup: Option<f64>,
    /// Seconds to wait at the end for what is still owed [default: 40]
    #[arg(long, value_name = "S")]
    pub drain: Option<f64>,
    /// Seconds of doing nothing before memory is read [default: `idle`: 35, until no transaction is kept;
    /// `session-idle`: 45]
    #[arg(long, value_name = "S")]
    pub hold: Option<f64>,
    /// Octets of text in a MESSAGE [default: 270]; of a session's messages one length, or a range in which each doubling
    /// is as likely, e.g. `1..1048576` [default: 300; `session-slow`: 1 GiB]
    #[arg(long, value_name = "N|N..N")]
    pub body_bytes: Option<Sizes>,
    /// Sessions [default: 4; `session-idle`: 9000]. In them `in_flight` counts SENDs of one session [default: 16]
    #[arg(long)]
    pub pairs: Option<usize>,
    /// Octets of body in one SEND: longer messages are sent in chunks [default: 2048; `session-slow`: 65536]
    #[arg(long)]
    pub chunk_bytes: Option<usize>,
    /// What senders want to hear; a SEND with `yes` is under way until it is answered, others until they arrive
    /// [default: yes]
    #[arg(long, value_enum)]
    pub failure_report: Option<FailureReport>,
    /// Only the callers speak, with all of `in_flight`; else both, with half of it each
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub one_way: Option<bool>,
    /// How the two ends of a session come together [default: invite]
    #[arg(long, value_enum)]
    pub route: Option<Route>,
    /// `session-slow`: megabytes (10^6) a second that the receiver reads [default: 50]
    #[arg(long, value_name = "MB_PER_S")]
    pub receive_rate: Option<f64>,
    /// `mixed`: percent of the units that are sessions: set up, some SENDs each way, BYE [default: 0]
    #[arg(long, value_name = "PERCENT")]
    pub session_percent: Option<u32>,
    /// `mixed`: messages that each end of a session says [default: 3]
    #[arg(long, value_name = "N")]
    pub session_messages: Option<u64>,
    /// Octets of a whole MESSAGE, reached by a long User-Agent [default: 600]
    #[arg(long)]
    pub message_bytes: Option<usize>,
    /// `deferred`, `kill`: messages in all [default: 10000]; `idle`: transactions whose memory is read too [default: 0]
    #[arg(long)]
    pub messages: Option<u64>,
    /// `kill`: times the server is killed while messages come in [default: 5]
    #[arg(long)]
    pub kills: Option<u32>,
    /// `kill`: times it is killed while messages go out [default: 0]
    #[arg(long)]
    pub kills_delivering: Option<u32>,
    /// `kill`: how the server is started, and started again: one program with its arguments, as in a shell
    #[arg(long, value_name = "COMMAND")]
    pub start_command: Option<String>,
    /// `mixed`: percent of the units that are REGISTERs [default: 10]
    #[arg(long, value_name = "PERCENT")]
    pub register_percent: Option<u32>,
    /// `mixed`: percent of the units that are messages to users who are away [default: 20]
    #[arg(long, value_name = "PERCENT")]
    pub deferred_percent: Option<u32>,
    /// Seconds of a registration [default: 3600]
    #[arg(long, value_name = "S")]
    pub expires: Option<u32>,
    /// The server's process, for processor time and memory (its children are counted with it)
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Its admin port: what waits in its queues is read there, and its memory
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Core that this process is pinned to
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
    /// Seed of the pairing of users and of the moments of killing [default: 1]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where the report goes as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// A mark that must hold, for exit status 0, e.g. `p99_ms_max=5`; may be repeated (--help names them all)
    #[arg(long = "pass", value_name = "KEY=NUMBER", value_parser = mark, long_help = marks_help())]
    #[serde(skip)]
    pub marks: Vec<(String, f64)>,
    /// The same in a plan file.
    #[arg(skip)]
    pub pass: BTreeMap<String, f64>,
}

/// The marks, a line each.
fn marks_help() -> String {
    let lines = MARKS.iter().map(|(key, what)| format!("\n  {key}: {what}"));
    format!(
        "A mark that must hold, for exit status 0; may be repeated. The keys, also of [pass] in a plan file:{}",
        lines.collect::<String>()
    )
}

fn mark(text: &str) -> Result<(String, f64), String> {
    let (key, number) = text.split_once('=').ok_or("KEY=NUMBER is wanted")?;
    let number = number.trim().parse().map_err(|_| format!("{number:?} is not a number"))?;
    Ok((key.trim().to_owned(), number))
}

/// How a request is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// By its credentials.
    Auth,
    /// By the address that it comes from.
    Trusted,
}

/// What will be done, with every default filled in.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)] // each field is the option of its name
pub struct Plan {
    pub scenario: Kind,
    pub server: SocketAddr,
    pub domain: String,
    pub transport: Transport,
    pub connections: usize,
    pub users: usize,
    pub user_prefix: String,
    #[serde(skip)]
    pub password: String,
    pub users_file: Option<PathBuf>,
    pub identity: Identity,
    pub reuse: bool,
    pub receivers_at: Option<SocketAddr>,
    pub load: Load,
    #[serde(rename = "duration_s", serialize_with = "seconds")]
    pub duration: Duration,
    #[serde(rename = "warmup_s", serialize_with = "seconds")]
    pub warmup: Duration,
    #[serde(rename = "drain_s", serialize_with = "seconds")]
    pub drain: Duration,
    #[serde(rename = "hold_s", serialize_with = "seconds")]
    pub hold: Duration,
    pub body_bytes: Sizes,
    pub message_bytes: usize,
    pub pairs: usize,
    pub chunk_bytes: usize,
    pub failure_report: FailureReport,
    pub one_way: bool,
    pub route: Route,
    pub receive_rate: f64,
    pub session_percent: u32,
    pub session_messages: u64,
    pub messages: Option<u64>,
    pub kills: u32,
    pub kills_delivering: u32,
    pub start_command: Option<String>,
    pub register_percent: u32,
    pub deferred_percent: u32,
    pub expires: u32,
    pub server_pid: Option<u32>,
    pub admin: Option<String>,
    pub core: Option<usize>,
    pub seed: u64,
    pub pass: BTreeMap<String, f64>,
}

impl Plan {
    /// Whether each user has a connection, opened when he registers.
    pub fn seats_are_taken_later(&self) -> bool {
        self.scenario == Kind::Idle && self.transport == Transport::Tcp
    }
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// Open or closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// Units a second.
    Rate(f64),
    /// Units under way at once.
    InFlight(usize),
}

impl Load {
    /// Arrivals that begin now.
    pub fn pace(self, begin_ns: u64) -> Pace {
        match self {
            Self::Rate(rate) => Pace::open(rate, begin_ns, OPEN_AT_ONCE),
            Self::InFlight(at_once) => Pace::closed(at_once),
        }
    }
}

/// In an open loop, units under way at once: beyond it arrivals wait, and the latency shows it.
const OPEN_AT_ONCE: usize = 200_000;

/// The marks of `[pass]` that are known, with what they say.
pub const MARKS: &[(&str, &str)] = &[
    ("errors_max", "units that ended otherwise than they should, unanswered ones among them (always asked for: 0)"),
    ("missing_max", "accepted messages that never came (always asked for: 0)"),
    ("doubled_max", "messages that came twice under two identities (always asked for: 0)"),
    ("p50_ms_max", "median latency of the first stage, from when a unit was due"),
    ("p99_ms_max", "99th percentile of it"),
    ("p999_ms_max", "99.9th percentile of it"),
    ("rate_percent_min", "units a second, in percent of the rate asked for (asked for with a rate: 95)"),
    ("cpu_us_max", "processor time of the server for a unit of the first stage"),
    ("ns_per_octet_max", "the same for an octet of the bodies of sessions, nanoseconds"),
    ("delivery_cpu_us_max", "processor time of the server for a delivered letter"),
    ("rss_growth_percent_max", "growth of the server's memory over a soak (asked for by mixed: 5)"),
    ("rss_growth_bytes_max", "growth of the server's memory over a run, from its first sample to its greatest"),
    ("queue_growth", "depth of a queue of the server in the last tenth of the run above that in the first (mixed: 64)"),
    ("rss_bytes_per_session_max", "memory of the server for an idle session"),
    ("idle_busy_percent_max", "percent of a core that the server uses while its sessions are idle"),
    ("rss_bytes_per_user_max", "memory of the server for an idle registered user"),
    ("rss_bytes_per_transaction_max", "memory of the server for a kept transaction"),
];

/// What is wrong with a plan: every fault at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Faults(pub Vec<String>);

impl Options {
    /// Reads the plan file, if one is named, below these options; fills the defaults.
    ///
    /// # Errors
    /// All faults, each with its key.
    pub fn resolve(self) -> Result<Plan, Faults> {
        let file = match &self.plan {
            Some(path) => read(path)?,
            None => Self::default(),
        };
        self.over(file).check()
    }

    /// These options, and those of `file` where these say nothing.
    fn over(self, file: Self) -> Self {
        macro_rules! first {
            ($($key:ident),*) => { Self {
                plan: self.plan,
                marks: Vec::new(),
                pass: file.pass.into_iter().chain(self.marks).collect(),
                // A loop given here puts the file's other kind aside.
                rate: self.rate.or(if self.in_flight.is_none() { file.rate } else { None }),
                in_flight: self.in_flight.or(if self.rate.is_none() { file.in_flight } else { None }),
                auth: self.auth.or(if self.trusted.is_none() { file.auth } else { None }),
                trusted: self.trusted.or(if self.auth.is_none() { file.trusted } else { None }),
                $($key: self.$key.or(file.$key)),*
            } };
        }
        first!(
            scenario,
            server,
            domain,
            transport,
            connections,
            users,
            user_prefix,
            password,
            users_file,
            reuse,
            receivers_at,
            duration,
            warmup,
            drain,
            hold,
            body_bytes,
            message_bytes,
            pairs,
            chunk_bytes,
            failure_report,
            one_way,
            route,
            receive_rate,
            session_percent,
            session_messages,
            messages,
            kills,
            kills_delivering,
            start_command,
            register_percent,
            deferred_percent,
            expires,
            server_pid,
            admin,
            core,
            seed,
            json
        )
    }

    pub(crate) fn check(self) -> Result<Plan, Faults> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, why: String| faults.push(format!("{key}: {why}"));
        if self.scenario.is_none() {
            fault(
                "scenario",
                "is missing: register, pager, deferred, kill, mixed, idle, session, session-idle or session-slow"
                    .into(),
            );
        }
        let server = match self.server.as_deref().map(|text| (text, text.to_socket_addrs())) {
            None => Err("is missing: HOST:PORT of the SIP server".to_owned()),
            Some((text, Err(error))) => Err(format!("{text:?} is no HOST:PORT ({error})")),
            Some((text, Ok(mut found))) => found.next().ok_or_else(|| format!("{text:?} has no address")),
        };
        let server = server.map_err(|why| fault("server", why)).ok();
        let mut time = |key: &str, given: Option<f64>, default: f64| {
            Duration::try_from_secs_f64(given.unwrap_or(default)).unwrap_or_else(|_| {
                fault(key, format!("{} is no number of seconds", given.unwrap_or_default()));
                Duration::ZERO
            })
        };
        let duration = time("duration", self.duration, 10.0);
        let warmup = time("warmup", self.warmup, 2.0);
        let drain = time("drain", self.drain, 40.0);
        // RFC 3261 §17.2.2: timer J is 32 s. A server may keep as long what came over TCP.
        let hold = time("hold", self.hold, if self.scenario == Some(Kind::Idle) { 35.0 } else { 45.0 });
        let load = match (self.rate, self.in_flight) {
            (Some(_), Some(_)) => {
                fault("rate", "and in_flight are two kinds of loop: give one".into());
                None
            }
            (Some(rate), None) if rate > 0.0 && rate <= 10_000_000.0 => Some(Load::Rate(rate)),
            (Some(rate), None) => {
                fault("rate", format!("{rate} is no number of units a second"));
                None
            }
            (None, in_flight) => {
                let default = if self.scenario.is_some_and(Kind::is_session) { 16 } else { 64 };
                Some(Load::InFlight(in_flight.unwrap_or(default).max(1)))
            }
        };
        let expects = |given: Option<bool>| given.unwrap_or(false);
        if expects(self.auth) && expects(self.trusted) {
            fault("auth", "and trusted exclude each other".into());
        }
        let (connections, users) = (self.connections.unwrap_or(1), self.users.unwrap_or(1_000));
        if connections == 0 {
            fault("connections", "at least one is needed".into());
        }
        if users < 2 && self.users_file.is_none() {
            fault("users", "at least two are needed".into());
        }
        let (register_percent, deferred_percent) =
            (self.register_percent.unwrap_or(10), self.deferred_percent.unwrap_or(20));
        let session_percent = self.session_percent.unwrap_or(0);
        if register_percent.saturating_add(deferred_percent).saturating_add(session_percent) > 100 {
            fault("register_percent", "and deferred_percent and session_percent are more than 100 together".into());
        }
        if self.pairs == Some(0) || self.chunk_bytes == Some(0) {
            fault("pairs", "and chunk_bytes are at least 1".into());
        }
        if self.receive_rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            fault("receive_rate", "is no number of megabytes a second".into());
        }
        if self.rate.is_some() && self.scenario.is_some_and(Kind::is_session) {
            fault("rate", "sessions speak by the window, in_flight, not by the clock".into());
        }
        let is_direct = self.route == Some(Route::Direct);
        if is_direct != (self.receivers_at.is_some() && self.scenario == Some(Kind::Session))
            && (is_direct || self.scenario == Some(Kind::Session))
        {
            fault("route", "direct goes with receivers_at and the scenario session, and they with it".into());
        }
        if self.route.is_some_and(|route| route != Route::Invite) && self.scenario != Some(Kind::Session) {
            fault("route", "without SIP only the scenario session can be played".into());
        }
        if self.scenario == Some(Kind::Kill) {
            if self.start_command.is_none() {
                fault("start_command", "is missing: what is killed must be started by us".into());
            }
            if self.transport == Some(Transport::Tcp) {
                fault("transport", "kill goes over udp: its requests are repeated until the server is back".into());
            }
        }
        if self.receivers_at.is_some()
            && !matches!(self.scenario, None | Some(Kind::Pager | Kind::Register | Kind::Session))
        {
            fault(
                "receivers_at",
                "a blind relay knows no users: only pager, register and session can be played".into(),
            );
        }
        let admin = self.admin.as_deref().map(crate::gauges::place_of);
        let admin = admin.and_then(|place| place.map_err(|why| fault("admin", why)).ok());
        for key in self.pass.keys().filter(|key| !MARKS.iter().any(|(known, _)| known == key)) {
            let known: Vec<&str> = MARKS.iter().map(|(known, _)| *known).collect();
            fault(&format!("pass.{key}"), format!("is not known; known are {}", known.join(", ")));
        }
        match (self.scenario, server, load) {
            (Some(scenario), Some(server), Some(load)) if faults.is_empty() => Ok(Plan {
                scenario,
                server,
                domain: self.domain.unwrap_or_else(|| "example.com".into()),
                transport: self.transport.unwrap_or(Transport::Udp),
                connections,
                users,
                user_prefix: self.user_prefix.unwrap_or_else(|| "u".into()),
                password: self.password.unwrap_or_else(|| "secret".into()),
                users_file: self.users_file,
                identity: if expects(self.trusted) { Identity::Trusted } else { Identity::Auth },
                reuse: expects(self.reuse),
                receivers_at: self.receivers_at,
                load,
                duration,
                warmup,
                drain,
                hold,
                body_bytes: self.body_bytes.unwrap_or(Sizes::fixed(match scenario {
                    Kind::Session | Kind::SessionIdle => 300,
                    Kind::SessionSlow => 1 << 30,
                    _ => 270,
                })),
                message_bytes: self.message_bytes.unwrap_or(600),
                pairs: self.pairs.unwrap_or(if scenario == Kind::SessionIdle { 9_000 } else { 4 }),
                chunk_bytes: self.chunk_bytes.unwrap_or(match scenario {
                    Kind::SessionSlow => 65_536,
                    _ => 2_048,
                }),
                failure_report: self.failure_report.unwrap_or(FailureReport::Yes),
                one_way: expects(self.one_way),
                route: self.route.unwrap_or(Route::Invite),
                receive_rate: self.receive_rate.unwrap_or(50.0),
                session_percent,
                session_messages: self.session_messages.unwrap_or(3),
                messages: self.messages,
                kills: self.kills.unwrap_or(5),
                kills_delivering: self.kills_delivering.unwrap_or(0),
                start_command: self.start_command,
                register_percent,
                deferred_percent,
                expires: self.expires.unwrap_or(3_600),
                server_pid: self.server_pid,
                admin,
                core: self.core,
                seed: self.seed.unwrap_or(1),
                pass: self.pass,
            }),
            _ => Err(Faults(faults)),
        }
    }
}

fn read(path: &Path) -> Result<Options, Faults> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Faults(vec![format!("{}: {error} (name a plan, such as those in config/load)", path.display())])
    })?;
    toml::from_str(&text).map_err(|error| Faults(vec![format!("{}: {error}", path.display())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        toml::from_str(text).unwrap()
    }

    fn pager(more: &str) -> Options {
        options(&format!("scenario = \"pager\"\nserver = \"127.0.0.1:5060\"\n{more}"))
    }

    #[test]
    fn two_keys_are_a_plan() {
        let plan = pager("").check().unwrap();
        assert_eq!((plan.users, plan.load, plan.message_bytes), (1_000, Load::InFlight(64), 600));
        assert_eq!((plan.identity, plan.transport, plan.connections), (Identity::Auth, Transport::Udp, 1));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let text = "server = \"nowhere\"\nrate = 1\nin_flight = 2\nconnections = 0\nusers = 1\nduration = -1\n\
            [pass]\np42_ms = 1";
        let Faults(faults) = options(text).check().unwrap_err();
        for key in ["scenario:", "server:", "rate:", "connections:", "users:", "duration:", "pass.p42_ms:"] {
            assert!(faults.iter().any(|fault| fault.starts_with(key)), "{key} in {faults:?}");
        }
    }

    #[test]
    fn an_unknown_key_of_a_file_is_refused() {
        assert!(toml::from_str::<Options>("scenarios = \"pager\"").is_err());
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = pager("users = 10\nrate = 5.0\ntrusted = true\n[pass]\nerrors_max = 3\np99_ms_max = 7");
        let given = Options {
            users: Some(20),
            in_flight: Some(9),
            auth: Some(true),
            marks: vec![("errors_max".into(), 1.0)],
            ..Options::default()
        };
        let plan = given.over(file).check().unwrap();
        assert_eq!((plan.users, plan.load, plan.identity), (20, Load::InFlight(9), Identity::Auth));
        assert_eq!((plan.pass["errors_max"], plan.pass["p99_ms_max"]), (1.0, 7.0));
    }

    #[test]
    fn kill_needs_a_command_and_datagrams() {
        let text = "scenario = \"kill\"\nserver = \"127.0.0.1:5060\"\ntransport = \"tcp\"";
        let Faults(faults) = options(text).check().unwrap_err();
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn the_plans_that_are_delivered_are_plans() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/load");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "toml") {
                let plan = Options { plan: Some(path.clone()), ..Options::default() }.resolve();
                assert!(plan.is_ok(), "{}: {}", path.display(), plan.unwrap_err());
                seen += 1;
            }
        }
        assert!(seen >= 5, "{seen} plans");
    }
}
