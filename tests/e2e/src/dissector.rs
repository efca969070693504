//! An independent dissector reads what the server writes: tshark captures a run with registrations, messages and
//! refusals, and finds nothing malformed and nothing to remark in it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use client::{Answer, Options, Outgoing, Transport};
use support::phone::Wanted;
use support::programs::{self, Talk};
use support::{Node, Peer, Phone};

use crate::house::{PATIENCE, aor, house, password, wait_until};
use crate::person::Person;

/// Where what is wrong on purpose comes from.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

#[test]
fn tshark_finds_nothing_wrong_in_what_the_server_writes() {
    let Some(program) = programs::find("tshark") else { return };
    let node =
        house(&[("deferred.messages_per_user", "2"), ("limits.message_bytes", "9000")], &["alice", "bob", "carol"]);
    let file = node.folder().join("run.pcapng");
    let Some(mut capture) = capture(&program, &node, &file) else { return };
    play(&node);
    end(&node, &mut capture, &file);

    let port = node.sip().port();
    let all = packets(&program, port, &file, "sip");
    let ours = packets(&program, port, &file, &format!("sip && (udp.srcport == {port} || tcp.srcport == {port})"));
    assert!(all.len() > 60 && ours.len() > 30, "{} packets of SIP, {} of them from the server", all.len(), ours.len());
    let kinds: BTreeSet<&str> = ours.iter().map(|packet| packet.split('\t').nth(1).unwrap_or_default()).collect();
    for status in
        ["200", "202", "400", "401", "403", "404", "405", "407", "413", "416", "420", "480", "483", "486", "501", "505"]
    {
        assert!(kinds.contains(status), "no {status} in {kinds:?}: the run was to show it");
    }
    let wrong = packets(&program, port, &file, &format!("_ws.malformed && ip.src != {ELSEWHERE}"));
    assert!(wrong.is_empty(), "malformed: {wrong:#?}");
    // Notes and above ("chat" tells what a packet is). What is odd on purpose is given back as odd as it came, Via and To
    // among it: so answers to those are looked at for malformation alone.
    let to_people = format!("sip && (udp.srcport == {port} || tcp.srcport == {port}) && ip.dst != {ELSEWHERE}");
    let remarked = packets(&program, port, &file, &format!("{to_people} && _ws.expert.severity >= 4194304"));
    assert!(remarked.is_empty(), "remarked: {remarked:#?}");
    let foreign = format!("((udp.srcport == {port}) || (tcp.srcport == {port} && tcp.len > 4)) && !sip && !icmp");
    let foreign = packets(&program, port, &file, &foreign);
    assert!(foreign.is_empty(), "sent by the server and no SIP: {foreign:#?}");
}

/// Everything that makes the server write something.
fn play(node: &Node) {
    for (ours, theirs) in [(Transport::Udp, Transport::Tcp), (Transport::Tcp, Transport::Udp)] {
        let (mut alice, mut bob) = (Person::online(node, "alice", ours), Person::online(node, "bob", theirs));
        for number in 0..5 {
            let asked = Outgoing::text(&format!("Grüße {number}")).with_receipts();
            assert_eq!(alice.says("bob", asked).status, 200);
            bob.hears();
            alice.hears_receipt();
        }
        assert_eq!(alice.writes("bob", &"0123456789".repeat(700)).status, 200);
        bob.hears();
        assert_eq!(alice.writes("carol", "a letter").status, 202);
        alice.unregister();
        bob.unregister();
    }
    let mut carol = Person::online(node, "carol", Transport::Udp);
    carol.hears_texts(2);
    carol.unregister();
    let busy = Options { answer: Answer::Status(486), ..Options::default() };
    let bob = Person::with(node, "bob", Transport::Udp, busy);
    bob.register();
    refusals(node, Phone::udp(node, "alice", &password("alice")));
    refusals(node, Phone::tcp(node, "alice", &password("alice")));
    let mut stranger = Peer::udp_from(ELSEWHERE, node.sip());
    for (_, bytes) in support::torture::all() {
        stranger.send(&bytes);
    }
}

fn refusals(node: &Node, mut alice: Phone) {
    let status = |answer: Option<support::Heard>| answer.and_then(|answer| answer.status());
    let request = |alice: &mut Phone, method: &str, uri: &str, lines: &str, body: &[u8]| {
        status(alice.request(&Wanted { method, uri, to: "sip:bob@example.com", lines, body }))
    };
    let text = "Content-Type: text/plain\r\n";
    assert_eq!(request(&mut alice, "MESSAGE", &aor("bob"), text, b"busy?"), Some(486));
    assert_eq!(request(&mut alice, "MESSAGE", &aor("nobody"), text, b"x"), Some(404));
    assert_eq!(request(&mut alice, "MESSAGE", &aor("bob"), text, &[b'x'; 9_001]), Some(413));
    assert_eq!(request(&mut alice, "OPTIONS", "sip:example.com", "", b""), Some(200));
    assert_eq!(request(&mut alice, "PUBLISH", "sip:example.com", "", b""), Some(405));
    assert_eq!(request(&mut alice, "DANCE", "sip:example.com", "", b""), Some(501));
    assert_eq!(request(&mut alice, "OPTIONS", "sip:example.com", "Require: nothing-known\r\n", b""), Some(420));
    assert_eq!(request(&mut alice, "OPTIONS", "nobody:knows-this", "", b""), Some(416));
    let letters: Vec<_> = (0..3).map(|_| request(&mut alice, "MESSAGE", &aor("carol"), text, b"wait")).collect();
    assert!(letters.contains(&Some(480)), "{letters:?}: the mailbox takes two");
    let to = aor("bob");
    let good = |alice: &mut Phone| {
        let wanted = Wanted { method: "MESSAGE", uri: &to, to: &to, lines: text, body: b"odd" };
        String::from_utf8(alice.signed(&wanted)).expect("text")
    };
    for (status, from, into) in [
        (403, "From: <sip:alice@", "From: <sip:carol@"),
        (483, "Max-Forwards: 70", "Max-Forwards: 0"),
        (400, "CSeq: ", "CSeq: x"),
        (505, "SIP/2.0\r\nVia", "SIP/7.0\r\nVia"),
    ] {
        let odd = good(&mut alice).replacen(from, into, 1);
        alice.peer.send(odd.as_bytes());
        alice.peer.expect_status(status);
    }
    assert!(node.is_ready());
}

/// Starts to capture; nothing when this user may not, which is said loudly.
fn capture(program: &Path, node: &Node, file: &Path) -> Option<Talk> {
    let mut command = Command::new(program);
    let filter = format!("port {}", node.sip().port());
    command.args(["-i", "lo", "-q", "-a", "duration:120", "-f", &filter, "-w"]).arg(file);
    let mut capture = Talk::start(&command);
    let mut denied = false;
    wait_until("tshark captures", || {
        let said = capture.written();
        denied = said.contains("permission") || said.contains("Couldn't run");
        denied || said.contains("Capture started")
    });
    if denied {
        programs::not_allowed("tshark may not capture on lo: run as root, or `dpkg-reconfigure wireshark-common`");
        return None;
    }
    capture.wait_for("File:", PATIENCE);
    Some(capture)
}

/// Ends the capture when its file has the last of what was sent: a request with a name of its own.
fn end(node: &Node, capture: &mut Talk, file: &Path) {
    let mut last = Peer::udp(node.sip());
    let mark = "the-last-of-the-run";
    wait_until("the capture has everything", || {
        last.send(format!("{mark}\r\n\r\n").as_bytes());
        std::thread::sleep(Duration::from_millis(200));
        let bytes = std::fs::read(file).unwrap_or_default();
        bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
    });
    let stop = Command::new("kill").args(["-INT", &capture.pid().to_string()]).status();
    assert!(stop.is_ok_and(|status| status.success()), "tshark can be stopped");
    capture.wait_end(PATIENCE);
}

/// The packets that a display filter lets pass, a line each: number, status, first line, remarks.
fn packets(program: &Path, port: u16, file: &Path, filter: &str) -> Vec<String> {
    let mut command = Command::new(program);
    command.arg("-r").arg(file).args(["-n", "-Y", filter, "-T", "fields"]);
    for kind in ["udp", "tcp"] {
        command.args(["-d", &format!("{kind}.port=={port},sip")]);
    }
    for field in ["frame.number", "sip.Status-Code", "sip.Status-Line", "sip.Request-Line", "_ws.expert.message"] {
        command.args(["-e", field]);
    }
    let read = programs::run(&mut command, Duration::from_secs(60));
    assert!(read.status.is_some_and(|status| status.success()), "tshark -r: {}", read.stderr);
    read.stdout.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}
