//! sipp, the tester that everybody's SIP is measured with: it registers with Digest, writes and is written to, by the
//! scenarios in `tests/e2e/sipp/`. Debian's knows MD5 only, so it meets a server that offers nothing else. It ends with 0
//! when every message of every call was the one that its scenario names.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use client::Transport;
use support::Node;
use support::ports::free_port;
use support::programs::{self, Talk};

use crate::house::{house, password};
use crate::person::Person;

const CALLS: usize = 20;
const MD5: [(&str, &str); 1] = [("auth.algorithms", r#"["MD5"]"#)];
const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn sipp_registers_by_udp_and_by_tcp() {
    let Some(program) = programs::find("sipp") else { return };
    let node = house(&MD5, &["carol"]);
    for transport in ["u1", "t1"] {
        let mut sipp = sipp(&program, &node, "register.xml", "example.com", "carol", free_port());
        ended_well(programs::run(sipp.args(["-m", "20", "-r", "50", "-t", transport]), PATIENCE));
    }
    assert!(crate::house::count(&node, "parlour_registrations_total") >= 40.0);
}

#[test]
fn sipp_writes_to_a_person_by_udp_and_by_tcp() {
    let Some(program) = programs::find("sipp") else { return };
    let node = house(&MD5, &["alice", "carol"]);
    let mut alice = Person::online(&node, "alice", Transport::Tcp);
    for transport in ["u1", "t1"] {
        let mut sipp = sipp(&program, &node, "message.xml", "alice@example.com", "carol", free_port());
        sipp.args(["-key", "to", "alice", "-r", "50", "-t", transport]);
        ended_well(programs::run(sipp.args(["-m", &CALLS.to_string()]), PATIENCE));
        let mut texts = alice.hears_texts(CALLS);
        texts.sort_by_key(|text| text.len());
        texts.dedup();
        assert_eq!(texts.len(), CALLS, "each once: {texts:?}");
    }
}

#[test]
fn one_sipp_writes_to_another() {
    let Some(program) = programs::find("sipp") else { return };
    let node = house(&MD5, &["bob", "carol"]);
    let port = free_port();
    ended_well(programs::run(
        sipp(&program, &node, "register.xml", "example.com", "bob", port).args(["-m", "1"]),
        PATIENCE,
    ));
    // The port that was registered is the callee's from now on.
    let mut callee = Talk::start(sipp(&program, &node, "callee.xml", "", "bob", port).args(["-m", &CALLS.to_string()]));
    let mut caller = sipp(&program, &node, "message.xml", "bob@example.com", "carol", free_port());
    caller.args(["-key", "to", "bob", "-r", "50", "-m", &CALLS.to_string()]);
    ended_well(programs::run(&mut caller, PATIENCE));
    let status = callee.wait_end(PATIENCE);
    assert!(status.success(), "the callee ended with {status}:\n{}", callee.written());
}

/// Its files stand in the test's folder; it says nothing on a terminal that is not there.
fn sipp(program: &Path, node: &Node, scenario: &str, signs: &str, user: &str, port: u16) -> Command {
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("sipp").join(scenario);
    let (password, port) = (password(user), port.to_string());
    let mut command = Command::new(program);
    command.arg(node.sip().to_string()).arg("-sf").arg(scenario).current_dir(node.folder());
    command.args(["-i", "127.0.0.1", "-p", &port, "-nostdin", "-timeout", "30s", "-timeout_error"]);
    command.args(["-key", "user", user, "-au", user, "-ap", &password]).env("TERM", "dumb");
    // Without this sipp signs the server's IP address in place of the Request-URI, which we refuse (RFC 7616 §3.4.6).
    command.args(["-auth_uri", signs]);
    command
}

fn ended_well(sipp: programs::Finished) {
    let status = sipp.status.map(|status| status.to_string());
    assert!(sipp.status.is_some_and(|status| status.success()), "{status:?}\n{}\n{}", sipp.stdout, sipp.stderr);
}
