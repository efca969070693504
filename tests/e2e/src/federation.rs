//! Two servers in two domains, and the name server that knows both (dnsmasq): people of one write to people of the other,
//! and are kept apart where an operator says so.

use std::net::SocketAddr;
use std::time::Duration;

use support::ports::free_port;
use support::{NameServer, Node, Peer, Phone};

use crate::house::{add_users, aor, password};

const THERE: &str = "there.test";

/// `example.com` with Alice, and [`THERE`] with Bob; these settings are the first one's.
fn neighbours(more: &[&str], sets: &[(&str, &str)]) -> Option<(Node, Node, NameServer)> {
    let (mut here, mut there) = (Node::prepared(sets), Node::prepared(&[("domain", "\"there.test\"")]));
    let srv =
        |domain: &str, port: u16| ["udp", "tcp"].map(|by| format!("srv-host=_sip._{by}.{domain},h.test,{port},10,10"));
    let records = [srv("example.com", here.sip().port()), srv(THERE, there.sip().port())].concat();
    let records =
        records.iter().map(String::as_str).chain(more.iter().copied()).chain(["host-record=h.test,127.0.0.1"]);
    let names = NameServer::start(60, &records.collect::<Vec<_>>())?;
    for node in [&mut here, &mut there] {
        node.set("dns.servers", &format!("[\"{}\"]", names.at()));
        node.set("federation.require_tls", "false");
        node.start_again();
    }
    add_users(&here, &["alice"]);
    let bob = serde_json::json!([{ "aor": bob(), "password": password("bob") }]);
    assert_eq!(there.send("POST", "/users", &bob.to_string()).status, 200);
    Some((here, there, names))
}

fn bob() -> String {
    format!("sip:bob@{THERE}")
}

fn phone_there(there: &Node) -> Phone {
    Phone::new(Peer::udp(there.sip()), THERE, "bob", &password("bob"))
}

#[test]
fn people_of_two_domains_write_to_each_other_and_what_must_wait_waits_there() {
    let Some((here, there, _names)) = neighbours(&[], &[]) else { return };
    let mut alice = Phone::tcp(&here, "alice", &password("alice"));
    let mut bob_there = phone_there(&there);
    alice.register();
    let waits = alice.message(&bob(), "for later");
    assert_eq!(waits.status(), Some(202), "{waits}");
    assert_eq!(alice.message("sip:nobody@there.test", "hello?").status(), Some(404));
    bob_there.register();
    let late = bob_there.expect_message();
    assert_eq!(late.text(), "for later");
    for text in ["one", "two"] {
        let answer = std::thread::scope(|scope| {
            let sent = scope.spawn(|| alice.message(&bob(), text));
            let heard = bob_there.expect_message();
            assert_eq!(heard.text(), text);
            sent.join().expect("her thread ends")
        });
        assert_eq!(answer.status(), Some(200), "{answer}");
    }
    let answer = std::thread::scope(|scope| {
        let sent = scope.spawn(|| bob_there.message(&aor("alice"), "and back"));
        assert_eq!(alice.expect_message().text(), "and back");
        sent.join().expect("his thread ends")
    });
    assert_eq!(answer.status(), Some(200), "{answer}");
}

#[test]
fn who_is_denied_neither_hears_nor_is_heard_and_a_dead_server_is_passed_over() {
    let (dead, port) = (free_port(), free_port());
    let first = format!("srv-host=_sip._tcp.two.test,h.test,{dead},10,0");
    let second = format!("srv-host=_sip._udp.two.test,h.test,{port},10,0");
    let rules = [
        "naptr-record=two.test,1,1,s,SIP+D2T,,_sip._tcp.two.test",
        "naptr-record=two.test,2,1,s,SIP+D2U,,_sip._udp.two.test",
    ];
    let records = [&*first, &*second, rules[0], rules[1]];
    let Some((here, there, _names)) = neighbours(&records, &[("federation.deny", "[\"there.test\"]")]) else { return };
    let mut alice = Phone::udp(&here, "alice", &password("alice"));
    alice.register();
    assert_eq!(alice.message(&bob(), "let me out").status(), Some(403));
    assert_eq!(phone_there(&there).message(&aor("alice"), "let me in").status(), Some(403));
    alice.expect_no_message(Duration::from_millis(500));

    let mut server = Peer::udp_at(SocketAddr::from(([127, 0, 0, 1], port)), here.sip());
    let answer = std::thread::scope(|scope| {
        let sent = scope.spawn(|| alice.message("sip:nina@two.test", "by the second"));
        let heard = server.expect_request("MESSAGE");
        assert_eq!(heard.text(), "by the second");
        server.answer(&heard, 200, "OK");
        sent.join().expect("her thread ends")
    });
    assert_eq!(answer.status(), Some(200), "{answer}");
}
