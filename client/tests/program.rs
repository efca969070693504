//! The program `parlour-client`, run as a person or a script runs it, against a toy server on loopback.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use sip::digest::Algorithm::Sha256;
use sip::{Message, Method, Name, Reply};

/// Answers every REGISTER with 200 and MESSAGEs by the user part of whom they are for; says once, to the first who
/// registers, what it was given to say.
struct Toy {
    addr: SocketAddr,
    heard: Arc<Mutex<Vec<Message>>>,
}

impl Toy {
    fn start(to_say: &[String], challenges: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let addr = socket.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<Message>>> = Arc::default();
        let (log, mut to_say) = (heard.clone(), to_say.to_vec());
        std::thread::spawn(move || {
            let mut buffer = [0; 65_535];
            while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                let message = Message::parse(Bytes::copy_from_slice(&buffer[..count])).unwrap();
                let view = message.view();
                log.lock().unwrap().push(message.clone());
                if !view.is_request() {
                    continue;
                }
                let mut lines = String::new();
                let status = match view.method() {
                    _ if challenges && view.first(Name::Authorization).is_none() => {
                        lines = support::challenge("WWW-Authenticate", "n", false, &[Sha256]);
                        401
                    }
                    Method::Register => 200,
                    _ => match view.request_uri() {
                        b"sip:nobody@example.com" => 404,
                        b"sip:later@example.com" => 202,
                        _ => 200,
                    },
                };
                let mut out = Vec::new();
                sip::reply(
                    &mut out,
                    view,
                    &Reply { status, to_tag: "toy", lines: lines.as_bytes(), ..Reply::default() },
                );
                socket.send_to(&out, from).unwrap();
                if view.method() == Method::Register && status == 200 {
                    for text in to_say.drain(..) {
                        socket.send_to(text.as_bytes(), from).unwrap();
                    }
                }
            }
        });
        Self { addr, heard }
    }

    fn heard(&self, method: Method) -> Vec<Message> {
        self.heard
            .lock()
            .unwrap()
            .iter()
            .filter(|one| one.view().is_request() && one.view().method() == method)
            .cloned()
            .collect()
    }
}

/// Runs it with these arguments behind address and server.
fn run(server: SocketAddr, arguments: &[&str], input: &str) -> Output {
    run_with(&["--aor", "alice@example.com", "--server", &server.to_string()], arguments, Some("secret"), input)
}

fn run_with(first: &[&str], arguments: &[&str], password: Option<&str>, input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlour-client"));
    command.args(first).args(arguments).env_remove("PARLOUR_PASSWORD");
    if let Some(password) = password {
        command.env("PARLOUR_PASSWORD", password);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended before it read anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn events(output: &Output) -> Vec<Value> {
    out(output).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn register_says_what_was_granted_and_takes_the_binding_back() {
    let toy = Toy::start(&[], true);
    let output = run(toy.addr, &["--json", "--expires", "120", "register"], "");
    assert_eq!(code(&output), 0, "{}", err(&output));
    let events = events(&output);
    assert_eq!(kinds(&events), ["registered", "unregistered"]);
    assert_eq!((&events[0]["aor"], &events[0]["expires"]), (&Value::from("sip:alice@example.com"), &Value::from(120)));
    let last = toy.heard(Method::Register).pop().unwrap();
    assert_eq!(last.view().expires(), Some(0));
    // One challenge in all: the nonce is used again.
    assert_eq!(toy.heard(Method::Register).len(), 3);
}

#[test]
fn register_keep_leaves_the_binding() {
    let toy = Toy::start(&[], false);
    let output = run(toy.addr, &["register", "--keep"], "");
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains("registered as sip:alice@example.com for 3600 s"), "{}", out(&output));
    assert_eq!(toy.heard(Method::Register).len(), 1);
}

#[test]
fn message_says_what_became_of_it_by_words_and_exit_status() {
    let toy = Toy::start(&[], false);
    for (to, expected, words) in [
        ("bob", 0, "delivered (200 OK)"),
        ("sip:later@example.com", 0, "kept by the server"),
        ("nobody@example.com", 1, "404 Not Found; the server knows no such user"),
    ] {
        let output = run(toy.addr, &["message", to, "Hello,", "there"], "");
        assert_eq!(code(&output), expected, "{to}");
        let said = out(&output) + &err(&output);
        assert!(said.contains(words), "{said}");
    }
    let heard = toy.heard(Method::Message);
    assert_eq!(heard.len(), 3);
    assert!(heard.iter().all(|one| one.view().body() == b"Hello, there"));
}

#[test]
fn message_takes_its_text_from_standard_input_and_answers_in_json() {
    let toy = Toy::start(&[], false);
    let output = run(toy.addr, &["message", "nobody", "--json"], "line one\nline two\n");
    assert_eq!(code(&output), 1);
    let events = events(&output);
    assert_eq!(kinds(&events), ["sent", "error"]);
    assert_eq!((&events[0]["status"], &events[0]["to"]), (&Value::from(404), &Value::from("sip:nobody@example.com")));
    let heard = toy.heard(Method::Message);
    assert_eq!(heard[0].view().body(), b"line one\nline two");
    assert_eq!(events[0]["call_id"].as_str().unwrap(), support::header(&heard[0], Name::CallId));
}

#[test]
fn listen_shows_what_comes_and_ends_when_it_has_enough() {
    let line = "Content-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let toy = Toy::start(
        &[support::request("MESSAGE", "1", line, "Hello\u{1b}[2J"), support::request("MESSAGE", "2", line, "two")],
        false,
    );
    let output = run(toy.addr, &["listen", "--json", "--count", "2", "--for", "15"], "");
    assert_eq!(code(&output), 0, "{}", err(&output));
    let events = events(&output);
    assert_eq!(kinds(&events), ["registered", "received", "received", "unregistered"]);
    let first = &events[1];
    assert_eq!(first["from"], "sip:bob@example.com");
    assert_eq!(first["to"], "sip:alice@example.com");
    assert_eq!(first["date"], "1994-11-06T08:49:37Z");
    assert_eq!(first["text"], "Hello\u{1b}[2J");
    assert_eq!(first["call_id"], "call-1");

    let toy = Toy::start(&[support::request("MESSAGE", "1", line, "Hello\u{1b}[2J")], false);
    let began = Instant::now();
    let output = run(toy.addr, &["listen", "--count", "2", "--for", "1"], "");
    assert_eq!(code(&output), 1);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(out(&output).contains("<sip:bob@example.com> (written 1994-11-06 "), "{}", out(&output));
    let shown = out(&output);
    assert!(shown.contains(r"Hello\u{1b}[2J") && !shown.contains('\u{1b}'), "a stranger steers no terminal: {shown}");
    assert!(err(&output).contains("only 1 of 2 messages came within 1 s"), "{}", err(&output));
}

#[test]
fn what_turns_the_direction_of_writing_is_seen_by_a_person_and_passed_to_a_script() {
    let cpim = "From: \u{202e}Boss <sip:bob@example.com>\r\nTo: <sip:alice@example.com>\r\n\r\n\
        Content-Type: text/plain;charset=utf-8\r\n\r\npay \u{2067}now\u{2069}\n00:00:00 <sip:carol@example.com> yes";
    let message = support::request("MESSAGE", "1", "Content-Type: message/cpim\r\n", cpim);
    let toy = Toy::start(std::slice::from_ref(&message), false);
    let output = run(toy.addr, &["listen", "--count", "1", "--for", "15"], "");
    let shown = out(&output);
    assert!(shown.contains(r"pay \u{2067}now\u{2069}"), "{shown}");
    assert!(!shown.contains(['\u{202e}', '\u{2067}', '\u{2069}']), "{shown}");
    assert!(shown.lines().any(|line| line == "    00:00:00 <sip:carol@example.com> yes"), "{shown}");

    let toy = Toy::start(&[message], false);
    let output = run(toy.addr, &["listen", "--json", "--count", "1", "--for", "15"], "");
    let text = events(&output)[1]["text"].as_str().unwrap().to_owned();
    assert_eq!(text, "pay \u{2067}now\u{2069}\n00:00:00 <sip:carol@example.com> yes");
}

#[test]
fn a_talk_follows_lines_and_ends_with_standard_input() {
    let toy = Toy::start(&[support::request("MESSAGE", "1", "Content-Type: text/plain\r\n", "Hi Alice")], false);
    let output = run(toy.addr, &[], "too early\n/to bob\none\ntwo\n/dance\n/message later three\n\n//four\n");
    assert_eq!(code(&output), 0, "{}", err(&output));
    for words in [
        "registered as",
        "what you type now goes to sip:bob@example.com",
        "> sip:bob@example.com: delivered",
        "kept by the server",
        "<sip:bob@example.com> Hi Alice",
        "no longer registered",
    ] {
        assert!(out(&output).contains(words), "{words}: {}", out(&output));
    }
    assert!(
        err(&output).contains("/to sip:name@domain first") && err(&output).contains("there is no /dance"),
        "{}",
        err(&output)
    );
    let to_bob: Vec<_> = toy
        .heard(Method::Message)
        .iter()
        .filter(|one| one.view().request_uri() == b"sip:bob@example.com")
        .map(|one| one.view().body().to_vec())
        .collect();
    assert_eq!(to_bob, [b"one".as_slice(), b"two", b"/four"]);
}

#[test]
fn a_talk_takes_json_commands_and_fails_if_a_message_was_not_accepted() {
    let toy = Toy::start(&[], false);
    let input = "{\"command\":\"message\",\"to\":\"bob\",\"text\":\"one\",\"receipts\":true}\n{\"command\":\"message\",\"to\":\"nobody\",\"text\":\"two\"}\n{nonsense\n{\"command\":\"quit\"}\nnever read\n";
    let output = run(toy.addr, &["--json"], input);
    assert_eq!(code(&output), 1);
    let events = events(&output);
    assert_eq!(kinds(&events).iter().filter(|kind| **kind == "sent").count(), 2);
    assert_eq!((kinds(&events)[0], kinds(&events).last().copied()), ("registered", Some("error")));
    let accepted = events.iter().find(|event| event["status"] == 200).unwrap();
    assert!(accepted["message_id"].as_str().is_some_and(|id| id.len() >= 16), "{accepted}");
    assert!(err(&output).contains("1 of 2 messages were not accepted"), "{}", err(&output));
}

#[test]
fn usage_errors_are_2_and_say_what_to_write() {
    let server = ["--aor", "alice@example.com"];
    for (first, arguments, password, words) in [
        (&server[..], &["register"][..], None, "PARLOUR_PASSWORD"),
        (&server, &["--password-stdin", "register"], None, "ended before a line with the password"),
        (&server, &["message", "sip:@", "x"], Some(""), "sip:name@domain"),
        (&server, &["message", "bob"], Some(""), "no text to send"),
        (&server, &["--transport", "pigeon", "register"], Some(""), "udp"),
        (&server, &["dance"], Some(""), "dance"),
        (&["--aor", "tel:+44123"], &["register"], Some(""), "sip:name@domain"),
        (&["--aor", "nobody"], &["register"], Some(""), "sip:name@domain"),
        (&[], &["register"], Some(""), "--aor"),
    ] {
        let output = run_with(first, arguments, password, "");
        assert_eq!(code(&output), 2, "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(words), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn a_password_from_standard_input_leaves_the_rest_of_it_for_the_talk() {
    let toy = Toy::start(&[], true);
    let first = ["--aor", "alice@example.com", "--server", &toy.addr.to_string()];
    let output = run_with(&first, &["--password-stdin", "--json"], None, "secret\n/message bob Hello\n");
    assert_eq!(code(&output), 0, "{}", err(&output));
    let message = toy.heard(Method::Message).pop().unwrap();
    assert_eq!(message.view().body(), b"Hello");
    assert_eq!(support::proven(&message, Name::Authorization).0, Sha256);
}

#[test]
fn a_server_that_is_not_there_or_silent_is_named() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = run(silent.local_addr().unwrap(), &["--timeout", "1", "register"], "");
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("did not answer by UDP within 1 s"), "{}", err(&output));
    let addr = silent.local_addr().unwrap();
    drop(silent);
    for transport in ["udp", "tcp"] {
        let output = run(addr, &["--transport", transport, "message", "bob", "Hello", "--json"], "");
        assert_eq!(code(&output), 1);
        assert!(
            err(&output).contains(&format!("cannot reach {addr}"))
                && err(&output).contains("is a server running there"),
            "{}",
            err(&output)
        );
        assert_eq!(kinds(&events(&output)).last(), Some(&"error"));
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_to_do() {
    let toy = Toy::start(&[], false);
    let folder = env!("CARGO_MANIFEST_DIR");
    let output = run(toy.addr, &["message", "bob", "Hello", "--wire", folder], "");
    assert_eq!(code(&output), 1);
    let said = err(&output);
    assert!(said.contains(&format!("--wire {folder}")) && said.contains("name a file"), "{said}");
    assert!(toy.heard(Method::Message).is_empty(), "nothing is sent before");
}

#[test]
fn the_wire_can_be_written_to_a_file() {
    let toy = Toy::start(&[], false);
    let path = std::env::temp_dir().join(format!("parlour-client-wire-{}", std::process::id()));
    let output = run(toy.addr, &["message", "bob", "Hello", "--wire", path.to_str().unwrap()], "");
    assert_eq!(code(&output), 0, "{}", err(&output));
    let wire = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(wire.contains(">>> ") && wire.contains("MESSAGE sip:bob@example.com SIP/2.0"), "{wire}");
    assert!(wire.contains("<<< ") && wire.contains("SIP/2.0 200 OK"), "{wire}");
}

#[test]
fn a_person_who_types_nothing_sees_what_comes_and_leaves_by_signal_or_end_of_input() {
    for by_signal in [true, false] {
        let toy = Toy::start(&[support::request("MESSAGE", "1", "Content-Type: text/plain\r\n", "Hi Alice")], false);
        let mut child = Command::new(env!("CARGO_BIN_EXE_parlour-client"))
            .args(["--aor", "alice@example.com", "--server", &toy.addr.to_string()])
            .env("PARLOUR_PASSWORD", "secret")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("<sip:bob@example.com> Hi Alice")), "shown while nothing is typed");
        if by_signal {
            assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        } else {
            drop(child.stdin.take());
        }
        assert!(lines.any(|line| line.contains("no longer registered")));
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(toy.heard(Method::Register).pop().unwrap().view().expires(), Some(0));
    }
}
