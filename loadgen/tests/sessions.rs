//! Sessions on loopback: through a toy that passes INVITEs on and switches MSRP, and can be told to do wrong; and
//! through the blind relay. What the generator reports must be what the toy did.
#![allow(clippy::unwrap_used)] // in a test what is not there is a failure

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::KeyedHash;
use loadgen::plan::Options;
use loadgen::report::Report;
use loadgen::{relay, scenario};
use msrp::{FailureReport, Flag, Kind, Method as Msrp, Scanner, Step, TidMaker};
use sip::{Layout, Method, Reply};

/// What the toy does to every tenth chunk.
#[derive(Clone, Copy, PartialEq)]
enum Sin {
    None,
    /// Answers it and passes nothing on.
    Swallows,
    /// Changes an octet.
    Corrupts,
    /// Answers 413.
    Refuses,
    /// Answers 200, passes nothing on, and reports 408.
    Reports,
    /// Closes the connection.
    Closes,
}

/// Starts a toy; where its SIP listens.
fn toy(sin: Sin) -> SocketAddr {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (at, msrp_at) = (socket.local_addr().unwrap(), door.local_addr().unwrap());
    std::thread::spawn(move || proxy(&socket, msrp_at));
    let switch = Arc::new(Switch {
        at: msrp_at,
        sin,
        sends: AtomicU64::new(0),
        legs: Mutex::default(),
        tids: TidMaker::new(KeyedHash::new([7; 16])),
    });
    std::thread::spawn(move || {
        while let Ok((socket, _)) = door.accept() {
            let switch = Arc::clone(&switch);
            std::thread::spawn(move || switch.serve(socket));
        }
    });
    at
}

/// A proxy that puts its own MSRP paths into the descriptions that pass.
fn proxy(socket: &UdpSocket, msrp_at: SocketAddr) {
    let (mut buffer, mut layout, mut bindings) = (vec![0; 65_536], Layout::default(), HashMap::new());
    let (mut out, mut sessions, mut numbers) = (Vec::new(), 0, HashMap::new());
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        sip::parse_datagram(&buffer[..length], &mut layout).unwrap();
        let view = layout.view(&buffer[..length]);
        out.clear();
        let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
        let call_id = view.call_id().unwrap().to_vec();
        if !view.is_request() {
            // Our Via is the first line behind the status.
            let (status, rest) = text.split_once("\r\n").unwrap();
            let (_, rest) = rest.split_once("\r\n").unwrap();
            let popped = format!("{status}\r\n{rest}");
            let path = format!("msrp://{msrp_at}/caller-{};tcp", numbers.get(&call_id).unwrap_or(&0));
            let popped = with_path(&popped, &path);
            let to = popped.split("SIP/2.0/UDP ").nth(1).unwrap().split(';').next().unwrap().to_owned();
            socket.send_to(popped.as_bytes(), to).unwrap();
            continue;
        }
        match view.method() {
            Method::Register => {
                bindings.insert(view.to().unwrap().uri.to_vec(), from);
                let reply = Reply { status: 200, to_tag: "toy", source: Some(from), ..Reply::default() };
                sip::reply(&mut out, view, &reply);
                socket.send_to(&out, from).unwrap();
            }
            Method::Ack => {}
            _ => {
                let uri = view.request_uri();
                let to = bindings.get(uri).copied().unwrap_or_else(|| sip::Uri::parse(uri).unwrap().addr().unwrap());
                let number = *numbers.entry(call_id).or_insert_with(|| {
                    sessions += 1;
                    sessions
                });
                let text = with_path(&text, &format!("msrp://{msrp_at}/callee-{number};tcp"));
                let (start, rest) = text.split_once("\r\n").unwrap();
                let branch = format!("Via: SIP/2.0/UDP {};branch=z9hG4bKtoy{number}", socket.local_addr().unwrap());
                socket.send_to(format!("{start}\r\n{branch}\r\n{rest}").as_bytes(), to).unwrap();
            }
        }
    }
}

/// A message whose description names another path.
fn with_path(text: &str, path: &str) -> String {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return text.to_owned() };
    let lines: Vec<String> = body
        .lines()
        .map(|line| if line.starts_with("a=path:") { format!("a=path:{path}") } else { line.to_owned() })
        .collect();
    let body: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head: Vec<String> = head
        .lines()
        .map(|line| {
            let is_length = line.starts_with("Content-Length:");
            if is_length { format!("Content-Length: {}", body.len()) } else { line.to_owned() }
        })
        .collect();
    format!("{}\r\n\r\n{body}", head.join("\r\n"))
}

struct Switch {
    at: SocketAddr,
    sin: Sin,
    sends: AtomicU64,
    /// By session id: the connection, and the client's own URI.
    legs: Mutex<HashMap<String, (TcpStream, Vec<u8>)>>,
    tids: TidMaker,
}

impl Switch {
    /// The other end's id.
    fn peer(&self, id: &str) -> (TcpStream, Vec<u8>, String) {
        let other = match id.split_once('-').unwrap() {
            ("caller", number) => format!("callee-{number}"),
            (_, number) => format!("caller-{number}"),
        };
        loop {
            if let Some((socket, uri)) = self.legs.lock().unwrap().get(&other) {
                return (socket.try_clone().unwrap(), uri.clone(), format!("msrp://{}/{other};tcp", self.at));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Passes whole chunks on, one by one.
    fn serve(&self, mut socket: TcpStream) {
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 65_536]);
        loop {
            let Ok(taken @ 1..) = socket.read(&mut piece) else { return };
            bytes.extend_from_slice(&piece[..taken]);
            while let Some(used) = whole(&bytes) {
                if self.frame(&mut socket, &bytes[..used]).is_none() {
                    return;
                }
                bytes.drain(..used);
            }
        }
    }

    /// One frame; nothing: it is over.
    fn frame(&self, socket: &mut TcpStream, bytes: &[u8]) -> Option<()> {
        let mut scanner = Scanner::default();
        let Step::Head(spans) = scanner.scan(bytes).unwrap() else { panic!("a whole frame begins with its head") };
        let head = spans.view(bytes);
        if head.kind() != Kind::Request(Msrp::Send) {
            return Some(());
        }
        let own = head.to_first().to_vec();
        let id = String::from_utf8(head.to_uri().unwrap().session_id.to_vec()).unwrap();
        let (mut out, mut ahead) = (Vec::new(), Vec::new());
        if !head.has_body() {
            self.legs.lock().unwrap().insert(id, (socket.try_clone().unwrap(), head.from_first().to_vec()));
            msrp::respond(&mut out, head, 200, &own);
            socket.write_all(&out).ok()?;
            return Some(());
        }
        let sins = self.sin != Sin::None && self.sends.fetch_add(1, Ordering::Relaxed) % 10 == 9;
        if sins && self.sin == Sin::Closes {
            let _ = socket.shutdown(std::net::Shutdown::Both);
            return None;
        }
        let (mut peer, uri, from) = self.peer(&id);
        let tid = self.tids.next();
        msrp::forward_head(&mut ahead, head, &tid, &uri, from.as_bytes(), msrp::Range::Kept);
        let mut at = spans.used();
        loop {
            match scanner.scan(&bytes[at..]).unwrap() {
                Step::Body { used } => {
                    ahead.extend_from_slice(&bytes[at..at + used]);
                    at += used;
                }
                Step::End { flag, .. } => {
                    if sins && self.sin == Sin::Corrupts {
                        *ahead.last_mut().unwrap() ^= 1;
                    }
                    msrp::end_line(&mut ahead, &tid, flag, true);
                    break;
                }
                _ => panic!("a whole frame has an end"),
            }
        }
        let status = if sins && self.sin == Sin::Refuses { 413 } else { 200 };
        if status != 200 || head.failure_report() == FailureReport::Yes {
            msrp::respond(&mut out, head, status, &own);
        }
        if sins && self.sin == Sin::Reports {
            let report = msrp::Report {
                tid: &self.tids.next(),
                to_path: head.from_path(),
                from_path: &own,
                message_id: head.message_id().unwrap(),
                byte_range: head.range(),
                status: 408,
            };
            msrp::report(&mut out, &report);
        }
        socket.write_all(&out).ok()?;
        if !sins || self.sin == Sin::Corrupts {
            // A peer that is gone is noticed by the generator.
            let _ = peer.write_all(&ahead);
        }
        Some(())
    }
}

/// The octets of the first frame, if it has come whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let (mut scanner, mut at) = (Scanner::default(), 0);
    loop {
        match scanner.scan(bytes.get(at..).filter(|rest| !rest.is_empty())?).unwrap() {
            Step::More => return None,
            Step::Head(spans) => at += spans.used(),
            Step::Body { used } => at += used,
            Step::Clash => {}
            Step::End { used, flag: Flag::Complete | Flag::More | Flag::Aborted } => return Some(at + used),
        }
    }
}

fn played(server: SocketAddr, plan: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    let common =
        format!("server = \"{server}\"\ntrusted = true\nusers = 20\nwarmup = 0.1\nduration = 0.4\ndrain = 1\n");
    // Keys come before the table of marks.
    std::fs::write(&path, common + plan).unwrap();
    let plan = Options { plan: Some(path), ..Options::default() }.resolve().unwrap();
    scenario::run(&plan, true).unwrap()
}

#[test]
fn sessions_are_set_up_by_invite_and_everything_said_arrives() {
    for more in ["", "failure_report = \"partial\"", "failure_report = \"no\"\none_way = true"] {
        let report = played(
            toy(Sin::None),
            &format!("scenario = \"session\"\npairs = 5\nin_flight = 4\nbody_bytes = \"1..100000\"\n{more}"),
        );
        assert!(report.passed, "{}", report.text());
        let tally = report.sessions.as_ref().unwrap();
        assert!(tally.sent > 50 && tally.sent == tally.delivered && tally.sends > tally.sent, "{}", report.text());
        assert_eq!((tally.byes, report.statuses["200"]), (5, 5));
        let stage = &report.stages[0];
        assert!(stage.units > 0 && stage.octets.unwrap() > 0 && stage.latency.is_some(), "{}", report.text());
    }
}

#[test]
fn every_message_ends_in_one_of_delivered_failed_lost_and_missing() {
    let plan = "scenario = \"session\"\npairs = 2\nin_flight = 4\nfailure_report = \"yes\"";
    for sin in [Sin::Swallows, Sin::Corrupts, Sin::Refuses, Sin::Reports, Sin::Closes] {
        let report = played(toy(sin), plan);
        let tally = report.sessions.as_ref().unwrap();
        assert!(!report.passed, "{}", report.text());
        assert_eq!(tally.sent, tally.delivered + tally.failed + tally.lost + tally.missing, "{}", report.text());
        let found = match sin {
            Sin::Swallows => tally.missing,
            Sin::Corrupts => tally.corrupt,
            Sin::Refuses => tally.failed.min(tally.responses[&413]),
            Sin::Reports => tally.failed.min(tally.reports[&408]),
            _ => tally.lost.min(tally.closed),
        };
        assert!(found > 0, "{}", report.text());
    }
}

#[test]
fn idle_sessions_are_weighed_and_a_slow_reader_reads_slowly() {
    let pid = std::process::id();
    let plan = format!("scenario = \"session-idle\"\npairs = 20\nhold = 0.1\nserver_pid = {pid}");
    let report = played(toy(Sin::None), &plan);
    assert!(report.passed && report.memory.bytes_per_session.is_some(), "{}", report.text());
    assert_eq!(report.stages[0].units, 20);
    let plan = "scenario = \"session-slow\"\nbody_bytes = 20000000\nreceive_rate = 20";
    let report = played(toy(Sin::None), plan);
    let (tally, stage) = (report.sessions.as_ref().unwrap(), &report.stages[0]);
    assert!(report.passed && tally.delivered == 1 && tally.octets == 20_000_000, "{}", report.text());
    assert!((0.9..5.0).contains(&stage.seconds), "{}", report.text());
}

#[test]
fn mixed_load_has_sessions_too() {
    let plan = "scenario = \"mixed\"\nrate = 200\nregister_percent = 20\ndeferred_percent = 0\nsession_percent = 80\n\
                session_messages = 3\n[pass]\nerrors_max = 1e9\nmissing_max = 1e9\nrate_percent_min = 0";
    let report = played(toy(Sin::None), plan);
    let tally = report.sessions.as_ref().unwrap();
    assert!(report.passed && tally.sent >= 6 * 20, "{}", report.text());
    assert_eq!((tally.sent, tally.errors(), tally.missing), (tally.delivered, 0, 0), "{}", report.text());
    assert_eq!(tally.sent, 6 * tally.byes, "{}", report.text());
}

#[test]
fn the_blind_relay_carries_sessions_without_sip() {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    // Where no other test speaks: what is free now is free still when the receivers come.
    let (at, to) = (door.local_addr().unwrap(), TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap());
    std::thread::spawn(move || relay::tcp(&door, to));
    let plan = format!(
        "scenario = \"session\"\nroute = \"direct\"\nreceivers_at = \"{to}\"\npairs = 8\nin_flight = 16\n\
         body_bytes = 65536"
    );
    let report = played(at, &plan);
    assert!(report.passed && report.sessions.as_ref().unwrap().delivered > 20, "{}", report.text());
}
