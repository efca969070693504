//! Whole runs on loopback: against a toy server that registers, relays, keeps letters and can be told to do wrong,
//! and through the blind relay. What the generator reports must be what the toy did.
#![allow(clippy::unwrap_used)] // in a test what is not there is a failure

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use loadgen::gauges::{Gauges, Series};
use loadgen::plan::Options;
use loadgen::report::Report;
use loadgen::{relay, scenario};
use sip::digest::{Algorithm, Credentials, Ha1};
use sip::{Forward, Layout, Method, Name, Reply, View};

/// What the toy does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Sin {
    None,
    /// Forgets each letter of which the number divides by 100.
    Loses,
    /// Gives such a letter out again under another Call-ID.
    Doubles,
    /// Gives such a letter out again as it was.
    Repeats,
    /// Answers every tenth MESSAGE 503.
    Refuses,
    /// Does not hear every tenth request the first time.
    Deaf,
}

struct Toy {
    socket: UdpSocket,
    challenges: bool,
    sin: Sin,
    bindings: HashMap<Vec<u8>, SocketAddr>,
    letters: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    /// Where letters outlive the toy, one behind the other.
    disk: Option<File>,
    seen: HashSet<Vec<u8>>,
    heard: u64,
    out: Vec<u8>,
}

impl Toy {
    fn new(socket: UdpSocket, challenges: bool, sin: Sin) -> Self {
        Self {
            socket,
            challenges,
            sin,
            bindings: HashMap::new(),
            letters: HashMap::new(),
            disk: None,
            seen: HashSet::new(),
            heard: 0,
            out: Vec::new(),
        }
    }

    /// Starts one; where it listens.
    fn start(challenges: bool, sin: Sin) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        std::thread::spawn(move || Self::new(socket, challenges, sin).serve());
        at
    }

    /// One that remembers what an earlier one kept.
    fn with_disk(mut self, path: &Path) -> Self {
        let (mut rest, mut layout) = (&std::fs::read(path).unwrap_or_default()[..], Layout::default());
        let mut progress = sip::Progress::default();
        while let Ok(sip::Step::Message { used }) = sip::parse_stream(rest, &mut progress, &mut layout) {
            let view = layout.view(&rest[..used]);
            self.seen.insert(view.call_id().unwrap().to_vec());
            self.letters.entry(view.request_uri().to_vec()).or_default().push(rest[..used].to_vec());
            rest = &rest[used..];
        }
        self.disk = Some(File::options().append(true).create(true).open(path).unwrap());
        self
    }

    fn serve(&mut self) {
        let (mut buffer, mut layout) = (vec![0; 65_536], Layout::default());
        loop {
            // A peer that has gone is no reason to stop.
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { continue };
            sip::parse_datagram(&buffer[..length], &mut layout).unwrap();
            let view = layout.view(&buffer[..length]);
            self.out.clear();
            if view.is_request() { self.asked(view, from) } else { self.answered(view) }
        }
    }

    fn asked(&mut self, view: View<'_>, from: SocketAddr) {
        self.heard += 1;
        if self.sin == Sin::Deaf && self.heard.is_multiple_of(10) {
            return;
        }
        if self.challenges && !credible(view) {
            let mut lines = Vec::new();
            let both = [Algorithm::Sha256, Algorithm::Md5];
            sip::digest::challenge(&mut lines, "WWW-Authenticate", "example.com", "a nonce", false, &both);
            self.reply(view, from, 401, &lines);
        } else if view.method() == Method::Register {
            self.register(view, from);
        } else if self.sin == Sin::Refuses && self.heard.is_multiple_of(10) {
            self.reply(view, from, 503, b"");
        } else {
            self.message(view, from);
        }
    }

    fn register(&mut self, view: View<'_>, from: SocketAddr) {
        let user = view.to().unwrap().uri.to_vec();
        self.reply(view, from, 200, b"");
        if view.expires() == Some(0) {
            assert_eq!(view.first(Name::Contact), Some(&b"*"[..]));
            self.bindings.remove(&user);
            return;
        }
        self.bindings.insert(user.clone(), from);
        for letter in self.letters.remove(&user).unwrap_or_default() {
            let mut layout = Layout::default();
            sip::parse_datagram(&letter, &mut layout).unwrap();
            self.pass_on(layout.view(&letter), None, from, b"SIP/2.0/UDP toy;branch=z9hG4bKletter");
        }
    }

    fn message(&mut self, view: View<'_>, from: SocketAddr) {
        let user = view.request_uri().to_vec();
        if let Some(to) = self.bindings.get(&user) {
            return self.pass_on(view, Some(from), *to, b"SIP/2.0/UDP toy;branch=z9hG4bKrelayed");
        }
        let letter = view.bytes().to_vec();
        let marked = std::str::from_utf8(view.body()).unwrap().contains("00\r\n");
        if self.seen.insert(view.call_id().unwrap().to_vec()) {
            self.keep(user, letter, marked);
        }
        self.reply(view, from, 202, b"");
    }

    fn keep(&mut self, user: Vec<u8>, letter: Vec<u8>, marked: bool) {
        if let Some(disk) = &mut self.disk {
            disk.write_all(&letter).unwrap();
        }
        let kept = self.letters.entry(user).or_default();
        match self.sin {
            Sin::Loses if marked => {}
            Sin::Repeats if marked => kept.extend([letter.clone(), letter]),
            Sin::Doubles if marked => {
                let other = String::from_utf8(letter.clone()).unwrap().replace("@load", "@else");
                kept.extend([letter, other.into_bytes()]);
            }
            _ => kept.push(letter),
        }
    }

    fn pass_on(&mut self, view: View<'_>, received: Option<SocketAddr>, to: SocketAddr, via: &[u8]) {
        self.out.clear();
        let how =
            Forward { uri: view.request_uri(), via, max_forwards: 69, strip: &[], received, add: b"", record: b"" };
        sip::forward_request(&mut self.out, view, &how);
        self.socket.send_to(&self.out, to).unwrap();
    }

    fn answered(&mut self, view: View<'_>) {
        if view.top_via().unwrap().branch() == Some(b"z9hG4bKrelayed") {
            sip::forward_response(&mut self.out, view);
            let mut layout = Layout::default();
            sip::parse_datagram(&self.out, &mut layout).unwrap();
            let way_back = layout.view(&self.out).top_via().unwrap().rport().flatten().unwrap();
            self.socket.send_to(&self.out, ("127.0.0.1", way_back)).unwrap();
        }
    }

    fn reply(&mut self, view: View<'_>, to: SocketAddr, status: u16, lines: &[u8]) {
        sip::reply(&mut self.out, view, &Reply { status, to_tag: "toy", source: Some(to), lines, ..Reply::default() });
        self.socket.send_to(&self.out, to).unwrap();
    }
}

/// Whether a request has the right credentials.
fn credible(view: View<'_>) -> bool {
    let Some(value) = view.first(Name::Authorization) else { return false };
    let credentials = Credentials::parse(value).unwrap();
    let user = view.from().unwrap().uri.strip_prefix(b"sip:").unwrap().to_vec();
    let user = String::from_utf8(user).unwrap();
    let ha1 = Ha1::of(user.split('@').next().unwrap(), "example.com", "secret");
    assert!(credentials.verify(&ha1, view.method_text()), "wrong credentials");
    true
}

/// Plays a plan, written as a plan file is.
fn played(server: SocketAddr, plan: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    let common = ["users = 20", "warmup = 0.2", "duration = 0.6", "drain = 3", "hold = 0.1"];
    let is_said = |line: &&str| plan.contains(line.split_inclusive('=').next().unwrap());
    let common: String = common.iter().filter(|line| !is_said(line)).map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, format!("server = \"{server}\"\n{common}{plan}")).unwrap();
    scenario::run(&Options { plan: Some(path), ..Options::default() }.resolve().unwrap(), true).unwrap()
}

fn mark(report: &Report, key: &str) -> (Option<f64>, bool) {
    let mark = report.marks.iter().find(|mark| mark.key == key).unwrap();
    (mark.found, mark.holds)
}

#[test]
fn registers_are_two_transactions_each_and_one_with_reuse() {
    let server = Toy::start(true, Sin::None);
    let report = played(server, "scenario = \"register\"\nin_flight = 8");
    assert!(report.passed, "{}", report.text());
    let registers = report.statuses["200"] + 20;
    assert!(registers > 100 && report.counts.challenges == registers, "{}", report.text());
    let report = played(server, "scenario = \"register\"\nin_flight = 8\nreuse = true");
    assert!(report.passed && report.counts.challenges <= 20, "{}", report.text());
}

#[test]
fn page_messages_are_relayed_and_every_one_arrives() {
    for (challenges, who) in [(false, "trusted = true"), (true, "auth = true")] {
        let plan = format!("scenario = \"pager\"\nin_flight = 16\nconnections = 2\n{who}");
        let report = played(Toy::start(challenges, Sin::None), &plan);
        assert!(report.passed, "{}", report.text());
        let balance = report.balance.as_ref().unwrap();
        assert!(balance.accepted > 100 && balance.delivered == balance.accepted, "{balance:?}");
        assert_eq!(report.stages.len(), 1);
        assert!(report.stages[0].latency.as_ref().unwrap().p50_ms > 0.0);
        assert_eq!(challenges, report.counts.challenges > 0);
    }
}

#[test]
fn an_open_loop_keeps_its_rate_and_counts_what_it_had_to_repeat() {
    let report = played(
        Toy::start(false, Sin::Deaf),
        "scenario = \"pager\"\nrate = 500\ntrusted = true\n[pass]\nrate_percent_min = 70",
    );
    assert!(report.passed, "{}", report.text());
    assert!(report.counts.repeated > 10, "{}", report.text());
    let (found, holds) = mark(&report, "rate_percent_min");
    assert!(holds && found.unwrap() < 110.0, "{found:?}");
    // Latency is counted from when a message was due: who was repeated waited T1 = 500 ms at least.
    let latency = report.stages[0].latency.as_ref().unwrap();
    assert!(latency.p99_ms > 490.0 && latency.p50_ms < 100.0, "{latency:?}");
}

#[test]
fn errors_fail_the_run_and_marks_can_allow_them() {
    let plan = "scenario = \"pager\"\nin_flight = 4\ntrusted = true\n";
    let report = played(Toy::start(false, Sin::Refuses), plan);
    assert!(!report.passed && report.errors == report.statuses["503"], "{}", report.text());
    let report = played(Toy::start(false, Sin::Refuses), &format!("{plan}[pass]\nerrors_max = 1e9"));
    assert!(report.passed, "{}", report.text());
}

#[test]
fn letters_are_stored_delivered_and_accounted_for() {
    let plan = "scenario = \"deferred\"\nmessages = 2000\nin_flight = 16\ntrusted = true";
    let report = played(Toy::start(false, Sin::None), plan);
    assert!(report.passed, "{}", report.text());
    assert_eq!(report.statuses["202"], 2_000);
    let stages: Vec<_> = report.stages.iter().map(|stage| stage.name).collect();
    assert_eq!(stages, ["store", "deliver"]);
    assert!(report.stages.iter().all(|stage| stage.units >= 500), "{}", report.text());
}

#[test]
fn lost_and_doubled_letters_are_found_and_repeats_forgiven() {
    // 16 of the hexadecimal numbers below 4096 end with two zeros.
    let plan = "scenario = \"deferred\"\nmessages = 4096\nin_flight = 16\ntrusted = true";
    let report = played(Toy::start(false, Sin::Loses), plan);
    assert_eq!((mark(&report, "missing_max"), report.passed), ((Some(16.0), false), false), "{}", report.text());
    let report = played(Toy::start(false, Sin::Doubles), plan);
    assert_eq!((mark(&report, "doubled_max"), report.passed), ((Some(16.0), false), false), "{}", report.text());
    let report = played(Toy::start(false, Sin::Repeats), plan);
    assert!(report.passed && report.balance.as_ref().unwrap().repeats == 16, "{}", report.text());
}

#[test]
#[ignore = "no test: the server that the test below starts and kills"]
fn a_toy_as_a_child() {
    let Ok(at) = std::env::var("TOY_LISTEN") else { return };
    let mut toy = Toy::new(UdpSocket::bind(at).unwrap(), false, Sin::None);
    match std::env::var("TOY_DISK") {
        Ok(path) => toy.with_disk(Path::new(&path)).serve(),
        Err(_) => toy.serve(),
    }
}

#[test]
fn a_server_that_keeps_its_letters_survives_being_killed_and_one_that_does_not_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    for durable in [true, false] {
        let at = free_address();
        let disk = if durable { format!("TOY_DISK={}/letters", folder.path().display()) } else { String::new() };
        let itself = std::env::current_exe().unwrap();
        // As people write it: variables before the program, or `exec`, since they know that it is to be killed.
        let start = if durable { "" } else { "exec env " };
        let command = format!("{start}TOY_LISTEN={at} {disk} {} --ignored --exact a_toy_as_a_child", itself.display());
        let plan = format!(
            "scenario = \"kill\"\nmessages = 600\nkills = 3\nkills_delivering = 1\nin_flight = 8\n\
             start_command = \"{command}\""
        );
        let report = played(at, &plan);
        assert_eq!((report.passed, report.errors), (durable, 0), "{}", report.text());
        assert_eq!(report.statuses["202"], 600);
        assert!(report.notes.iter().filter(|note| note.starts_with("kill -9")).count() >= 3, "{:?}", report.notes);
        let balance = report.balance.as_ref().unwrap();
        assert_eq!((balance.missing > 0, balance.doubled), (!durable, 0), "{balance:?}");
    }
}

#[test]
fn mixed_load_ends_with_nothing_owed() {
    let plan = "scenario = \"mixed\"\nrate = 2000\nregister_percent = 20\ndeferred_percent = 30";
    let report = played(Toy::start(true, Sin::None), plan);
    assert!(report.passed, "{}", report.text());
    assert!(report.statuses["202"] > 50 && report.statuses["200"] > 100, "{}", report.text());
}

#[test]
fn idle_users_and_kept_transactions_are_weighed() {
    // The toy lives in this process: it is what is weighed.
    let plan = format!("scenario = \"idle\"\ntrusted = true\nmessages = 100\nserver_pid = {}", std::process::id());
    let report = played(Toy::start(false, Sin::None), &plan);
    assert!(report.passed, "{}", report.text());
    assert!(report.memory.bytes_per_user.is_some() && report.memory.bytes_per_transaction.is_some());
}

#[test]
fn users_who_are_many_come_no_faster_than_a_server_takes_strangers_and_are_challenged_once() {
    let begun = std::time::Instant::now();
    let plan = "scenario = \"idle\"\nusers = 2000\nhold = 0\n";
    let report = played(Toy::start(true, Sin::None), plan);
    assert!(begun.elapsed() > std::time::Duration::from_millis(500), "{:?}", begun.elapsed());
    // 2,000 when they take their bindings back, none when they register with the nonces at hand; then the first 200
    // once more, for the second reading.
    assert_eq!(report.counts.challenges, 2_200, "{}", report.text());
}

#[test]
fn the_blind_relay_carries_pager_and_register_over_datagrams() {
    for scenario in ["pager", "register"] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (at, to) = (socket.local_addr().unwrap(), free_address());
        std::thread::spawn(move || relay::udp(&socket, to));
        let report = played(at, &format!("scenario = \"{scenario}\"\nin_flight = 32\nreceivers_at = \"{to}\""));
        assert!(report.passed && report.statuses["200"] > 500, "{}", report.text());
    }
}

#[test]
fn the_blind_relay_carries_pager_over_many_connections() {
    for connections in [4, 64] {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, to) = (door.local_addr().unwrap(), free_address());
        std::thread::spawn(move || relay::tcp(&door, to));
        let plan = format!(
            "scenario = \"pager\"\ntransport = \"tcp\"\nconnections = {connections}\nin_flight = 64\n\
             receivers_at = \"{to}\""
        );
        let report = played(at, &plan);
        assert!(report.passed && report.statuses["200"] > 500, "{}", report.text());
        let balance = report.balance.as_ref().unwrap();
        assert_eq!(balance.delivered, balance.accepted);
    }
}

#[test]
fn a_report_is_json_with_its_figures_and_verdict() {
    let report = played(Toy::start(false, Sin::None), "scenario = \"pager\"\nin_flight = 4\ntrusted = true");
    let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(json["passed"], true);
    assert_eq!(json["plan"]["scenario"], "pager");
    assert_eq!(json["plan"]["load"]["in_flight"], 4);
    assert!(json["plan"].get("password").is_none(), "a report may be shown around");
    assert_eq!(json["stages"][0]["unit"], "MESSAGE relayed");
    assert!(json["stages"][0]["latency"]["p99_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(json["balance"]["missing"], 0);
    assert_eq!(json["marks"][0]["holds"], true);
}

#[test]
fn a_queue_that_grows_under_a_soak_fails_it() {
    let mut report = played(Toy::start(false, Sin::None), "scenario = \"mixed\"\nrate = 500");
    assert!(report.passed && report.marks.iter().all(|mark| mark.key != "queue_growth"), "{}", report.text());
    let depths = |growth: f64| {
        let values: Vec<_> = (0..100).map(|at| Some(f64::from(at) * growth / 90.0)).collect();
        let name = "parlour_mailbox_depth{part=\"shard 0 users\"}".to_owned();
        let series = vec![Series { name, first: 0.0, last: growth * 1.1, max: growth * 1.1, values }];
        Gauges { at_s: (0..100).map(f64::from).collect(), missed: 0, series }
    };
    for (growth, asked, passes) in [(63.0, None, true), (65.0, None, false), (65.0, Some(70.0), true)] {
        report.plan.pass = asked.map(|limit| ("queue_growth".to_owned(), limit)).into_iter().collect();
        report.gauges = Some(depths(growth));
        report.judge();
        let (found, holds) = mark(&report, "queue_growth");
        assert!((found.unwrap() - growth).abs() < 1e-6, "{found:?}");
        assert_eq!((holds, report.passed), (passes, passes), "{}", report.text());
        assert!(report.text().contains("parlour_mailbox_depth{part=\"shard 0 users\"}"), "{}", report.text());
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["gauges"]["series"][0]["values"].as_array().unwrap().len(), 100);
}

#[test]
fn an_admin_port_that_is_none_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    std::fs::write(&path, "scenario = \"pager\"\nserver = \"127.0.0.1:9\"").unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = |admin: String| Options { plan: Some(path.clone()), admin: Some(admin), ..Options::default() };
    let error = scenario::run(&options(format!("http://{admin}")).resolve().unwrap(), true).unwrap_err().to_string();
    assert!(error.contains(&format!("http://{admin}/metrics")) && error.contains("[admin] listen"), "{error}");
    assert!(options("https://x".to_owned()).resolve().unwrap_err().to_string().starts_with("admin: "));
}

#[test]
fn what_cannot_be_played_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let options = |plan: &str| {
        let path: &Path = &folder.path().join("plan.toml");
        std::fs::write(path, plan).unwrap();
        Options { plan: Some(path.to_owned()), ..Options::default() }.resolve().unwrap()
    };
    let nobody = format!("scenario = \"pager\"\nserver = \"{}\"\ntransport = \"tcp\"", free_address());
    let error = scenario::run(&options(&nobody), true).unwrap_err().to_string();
    assert!(error.starts_with("towards 127.0.0.1:"), "{error}");
    // A trusted peer is not challenged: who is, is none.
    let server = Toy::start(true, Sin::None);
    let challenged = format!("scenario = \"pager\"\nserver = \"{server}\"\ntrusted = true");
    let error = scenario::run(&options(&challenged), true).unwrap_err().to_string();
    assert!(error.starts_with("1000 of 1000 REGISTERs were not answered 200 (the first: 401)"), "{error}");
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = door.local_addr().unwrap();
    std::thread::spawn(move || while door.accept().is_ok() {});
    for scenario in ["pager", "idle"] {
        let closed = format!("scenario = \"{scenario}\"\nserver = \"{at}\"\ntransport = \"tcp\"");
        let error = scenario::run(&options(&closed), true).unwrap_err().to_string();
        assert!(error.starts_with("the server closed"), "{error}");
    }
    let gone = "scenario = \"pager\"\nserver = \"127.0.0.1:9\"\nserver_pid = 4294967294";
    assert!(scenario::run(&options(gone), true).unwrap_err().to_string().contains("no server process"));
    let ended = "scenario = \"kill\"\nserver = \"127.0.0.1:9\"\nstart_command = \"false\"";
    let error = scenario::run(&options(ended), true).unwrap_err().to_string();
    assert!(error.contains("ended by itself"), "{error}");
    for command in ["no-such-server --config x", "exec no-such-server", "cd / && parlour serve"] {
        let error = scenario::run(&options(&ended.replace("false", command)), true).unwrap_err().to_string();
        assert!(error.contains("cannot be started (exit status: 127)") && error.contains("one program"), "{error}");
    }
}

fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
