//! `parlour` as an operator types it: what the commands do, say and end with; a port or a directory that is taken.

use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use client::Transport;
use support::binary::binary;
use support::programs::{self, Finished, Talk};
use support::{Node, Phone};

use crate::house::{PATIENCE, house, password, wait_until};
use crate::person::Person;

#[test]
fn exit_status_is_0_for_done_1_for_failed_and_2_for_misuse() {
    let node = Node::prepared(&[]);
    let version = programs::run(Command::new(binary("parlour")).arg("version"), PATIENCE);
    assert_eq!((code(&version), version.stdout.contains("parlour")), (Some(0), true), "{}", version.stdout);
    assert_eq!(code(&node.run(&["check"])), Some(0));
    assert_eq!(code(&node.run(&["user", "remove", "sip:nobody@example.com"])), Some(1));
    let misuse = node.run(&["dance"]);
    assert_eq!((code(&misuse), misuse.stderr.contains("dance")), (Some(2), true), "{}", misuse.stderr);
}

#[test]
fn check_names_every_fault_with_file_key_and_reason() {
    let node = Node::prepared(&[]);
    let file = node.folder().join("faulty.toml");
    let faulty = "domain = \"not a domain\"\n[sip]\nudp = [\"127.0.0.1\"]\nport = 5060\n[deferred]\nexpiry = \"soon\"\n\
        [storage]\nengine = \"paper\"\n[auth]\nalgorithms = [\"ROT13\"]\n";
    std::fs::write(&file, faulty).expect("the folder takes a file");
    let mut check = Command::new(binary("parlour"));
    let checked = programs::run(check.arg("check").arg("--config").arg(&file), PATIENCE);
    let said = checked.stdout + &checked.stderr;
    assert_eq!(checked.status.and_then(|status| status.code()), Some(1), "{said}");
    for key in ["domain", "sip.udp", "sip.port", "deferred.expiry", "storage.engine", "auth.algorithms"] {
        assert!(said.lines().any(|line| line.contains("faulty.toml") && line.contains(key)), "no {key} in:\n{said}");
    }
    let mut serve = Command::new(binary("parlour"));
    let refused = programs::run(serve.arg("serve").arg("--config").arg(&file), PATIENCE);
    assert_eq!(refused.status.and_then(|status| status.code()), Some(1), "a server does not start on it");
}

#[test]
fn users_are_kept_on_a_stopped_server_and_on_a_running_one() {
    let mut node = Node::prepared(&[]);
    node.add_user("alice", &password("alice"));
    node.start_again();
    node.add_user("bob", &password("bob"));
    let (alice, mut bob) =
        (Person::online(&node, "alice", Transport::Udp), Person::online(&node, "bob", Transport::Udp));
    assert_eq!(alice.writes("bob", "both ways of adding").status, 200);
    bob.hears();
    let listed = node.run(&["user", "list"]).stdout;
    assert!(listed.contains("sip:alice@example.com") && listed.contains("sip:bob@example.com"), "{listed}");
    let changed = with_input(&node, &["user", "passwd", "sip:bob@example.com", "--password-stdin"], "new\n");
    assert_eq!(code(&changed), Some(0), "{}", changed.stderr);
    assert_eq!(Phone::udp(&node, "bob", &password("bob")).register_for(60).status(), Some(401));
    Phone::udp(&node, "bob", "new").register();
    assert_eq!(code(&node.run(&["user", "remove", "sip:bob@example.com"])), Some(0));
    assert_eq!(alice.writes("bob", "gone").status, 404);
}

#[test]
fn an_import_takes_the_good_lines_and_names_each_faulty_one() {
    let node = house(&[], &[]);
    let file = node.folder().join("users.csv");
    let csv = "# our users\nsip:u1@example.com,one\nsip:u2@elsewhere.example,two\nsip:u3@example.com\n\
        sip:u4@example.com,four,tel:+4930555,services=message\nsip:u1@example.com,again\n";
    std::fs::write(&file, csv).expect("the folder takes a file");
    let imported = node.run(&["user", "import", &file.display().to_string()]);
    let said = imported.stdout.clone() + &imported.stderr;
    assert_eq!(code(&imported), Some(1), "{said}");
    for line in [3, 4, 6] {
        let named = said
            .lines()
            .any(|said| said.contains(&format!("users.csv:{line}")) || said.contains(&format!("line {line}")));
        assert!(named, "line {line} is not named in:\n{said}");
    }
    Phone::udp(&node, "u1", "one").register();
    Phone::udp(&node, "u4", "four").register();
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_what_to_do() {
    let node = Node::prepared(&[]);
    let (folder, missing) = (node.folder().display().to_string(), node.folder().join("none").display().to_string());
    for (words, name, remedy) in [
        (&["user", "import", folder.as_str()][..], &folder, "name a file of lines"),
        (&["user", "import", missing.as_str()], &missing, "name a file of lines"),
    ] {
        let said = node.run(words);
        assert_eq!(code(&said), Some(1), "{words:?}: {}", said.stderr);
        assert!(said.stderr.contains(name.as_str()) && said.stderr.contains(remedy), "{words:?}: {}", said.stderr);
    }
    for name in [&folder, &missing] {
        let said = programs::run(Command::new(binary("parlour")).args(["check", "--config", name]), PATIENCE);
        assert!(said.stderr.contains(name.as_str()) && said.stderr.contains("--config FILE"), "{}", said.stderr);
    }
    assert!(!node.data().exists(), "the store is not made for a file that cannot be read");
}

#[test]
fn a_port_or_a_data_directory_of_another_process_is_refused_by_name() {
    let node = house(&[], &[]);
    let again = node.run(&["serve"]);
    assert_eq!(code(&again), Some(1), "{}", again.stderr);
    assert!(!again.stderr.is_empty(), "it says why");

    let other = Node::prepared(&[]);
    let udp = UdpSocket::bind(other.sip()).expect("a free port");
    refuses(&other, &other.sip().to_string());
    drop(udp);
    let tcp = TcpListener::bind(other.sip()).expect("a free port");
    refuses(&other, &other.sip().to_string());
    drop(tcp);

    // Our own sockets share their UDP port by SO_REUSEPORT; another server of ours must not get in.
    let port = format!("[\"{}\"]", node.sip());
    let third = Node::prepared(&[("sip.udp", &port), ("sip.tcp", "[]")]);
    refuses(&third, &node.sip().to_string());

    let data = format!("{:?}", node.data());
    let fourth = Node::prepared(&[("data_dir", &data)]);
    refuses(&fourth, &node.data().display().to_string());
    assert!(node.is_ready(), "and the first one goes on");
}

#[test]
fn parlour_client_talks_and_listens_for_scripts() {
    let node = house(&[], &["alice", "bob"]);
    let client = |user: &str, words: &[&str]| {
        let mut command = Command::new(binary("parlour-client"));
        command.args(["--json", "--aor", &crate::house::aor(user), "--server", &node.sip().to_string()]);
        command.args(words).env("PARLOUR_PASSWORD", password(user));
        command
    };
    let mut bob = Talk::start(&client("bob", &["listen", "--count", "2", "--for", "30"]));
    bob.wait_for("registered", PATIENCE);
    for (way, text) in [("udp", "Grüße"), ("tcp", "two words")] {
        let sent = programs::run(&mut client("alice", &["message", "bob", text, "--transport", way]), PATIENCE);
        assert_eq!(
            (code(&sent), sent.stdout.contains("\"status\":200")),
            (Some(0), true),
            "{}{}",
            sent.stdout,
            sent.stderr
        );
    }
    assert!(bob.wait_end(PATIENCE).success());
    let heard: Vec<serde_json::Value> =
        bob.written().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let texts: Vec<_> = heard.iter().filter(|event| event["event"] == "received").map(|event| &event["text"]).collect();
    assert_eq!(texts, ["Grüße", "two words"]);
    let refused = programs::run(&mut client("alice", &["message", "nobody", "hi"]), PATIENCE);
    assert_eq!(code(&refused), Some(1), "{}{}", refused.stdout, refused.stderr);
}

fn refuses(node: &Node, named: &str) {
    let began = std::time::Instant::now();
    let refused = node.run(&["serve"]);
    assert_eq!(code(&refused), Some(1), "{}{}", refused.stdout, refused.stderr);
    assert!(
        refused.stderr.contains(named) || refused.stdout.contains(named),
        "{named} is not named: {}",
        refused.stderr
    );
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
}

fn with_input(node: &Node, arguments: &[&str], input: &str) -> Finished {
    let mut command = node.command(arguments);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the binary starts");
    child.stdin.take().expect("its input is piped").write_all(input.as_bytes()).expect("it reads its input");
    wait_until("the command ends", || child.try_wait().expect("a child can be waited for").is_some());
    let output = child.wait_with_output().expect("a child can be waited for");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { status: Some(output.status), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn code(finished: &Finished) -> Option<i32> {
    finished.status.and_then(|status| status.code())
}
