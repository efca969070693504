//! Contacts that are called by a name, and the name server that knows it (dnsmasq): whom a message goes to, and what
//! becomes of it when a server dies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use support::phone::Wanted;
use support::ports::free_port;
use support::wire::framed;
use support::{Heard, NameServer, Node, Peer, Phone};

use crate::house::{PATIENCE, count, house, password};

/// A house that asks this name server.
fn house_of(names: &NameServer) -> Node {
    let servers = format!("[\"{}\"]", names.at());
    house(&[("dns.servers", &servers), ("dns.country", "\"49\"")], &["alice", "bob"])
}

/// Bob registers a contact from a socket of his own.
fn register(node: &Node, contact: &str) -> Phone {
    let mut bob = Phone::udp(node, "bob", &password("bob"));
    let lines = format!("Contact: <{contact}>;expires=600\r\nAllow: MESSAGE\r\n");
    let to = bob.aor();
    let wanted = Wanted { method: "REGISTER", uri: "sip:example.com", to: &to, lines: &lines, body: b"" };
    let answer = bob.request(&wanted).expect("an answer to REGISTER");
    assert_eq!(answer.status(), Some(200), "{answer}");
    bob
}

#[test]
fn a_contact_that_names_a_host_is_called_where_the_dns_says() {
    let port = free_port();
    let srv = format!("srv-host=_sip._udp.bob.test,h.test,{port},10,10");
    let Some(names) = NameServer::start(60, &["host-record=h.test,127.0.0.1", &srv]) else { return };
    let node = house_of(&names);
    let mut there = Peer::udp_at(SocketAddr::from(([127, 0, 0, 1], port)), node.sip());
    let mut bob = register(&node, "sip:bob@bob.test");
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    for text in ["one", "two", "three"] {
        let alice = std::thread::scope(|scope| {
            let sent = scope.spawn(|| alice.message("sip:bob@example.com", text));
            let heard = there.expect_request("MESSAGE");
            assert_eq!((heard.uri(), &*heard.text()), ("sip:bob@bob.test", text));
            there.answer(&heard, 200, "OK");
            sent.join().expect("her thread ends")
        });
        assert_eq!(alice.status(), Some(200), "{alice}");
    }
    bob.expect_no_message(Duration::from_millis(200));
    assert_eq!((names.times("SRV", "_sip._udp.bob.test"), names.times("A", "h.test")), (1, 1), "{}", names.log());
    assert!(count(&node, "parlour_dns_queries_total") >= 4.0 && count(&node, "parlour_dns_cache_hits_total") >= 2.0);
    assert!(!node.get_as_stranger("/metrics").body.contains(".test"), "no names in what anybody may read");
    let tree = node.json("/tree");
    let children = tree["children"].as_array().expect("the root has children");
    let locator = children.iter().find(|child| child["name"] == "locator").expect("the locator is one of them");
    assert_eq!((locator["state"].as_str(), locator["restarts"].as_u64()), (Some("running"), Some(0)), "{locator}");
}

#[test]
fn when_the_first_server_dies_in_mid_run_no_message_is_lost() {
    let (mut first, mut second) = (Server::listen(), Server::listen());
    let srv = |server: &Server, priority| format!("srv-host=_sip._tcp.two.test,h.test,{},{priority},0", server.port());
    let (one, two) = (srv(&first, 10), srv(&second, 20));
    let Some(names) = NameServer::start(60, &["host-record=h.test,127.0.0.1", &one, &two]) else { return };
    let node = house_of(&names);
    let _bob = register(&node, "sip:bob@two.test;transport=tcp");
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    let mut say = |text: &str, to: &mut Server| {
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| alice.message("sip:bob@example.com", text));
            let heard = to.take();
            assert_eq!(heard.text(), text);
            let answer = sent.join().expect("her thread ends");
            assert_eq!(answer.status(), Some(200), "{answer}");
        });
    };
    say("one", &mut first);
    say("two", &mut first);
    drop(first);
    for text in ["three", "four", "five"] {
        say(text, &mut second);
    }
    assert!(count(&node, "parlour_dns_targets_aside") >= 1.0);
}

/// A SIP server over TCP that takes messages.
struct Server {
    listener: TcpListener,
    stream: Option<TcpStream>,
    read: Vec<u8>,
}

impl Server {
    fn listen() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", free_port())).expect("a free port");
        listener.set_nonblocking(true).expect("a listener need not wait");
        Self { listener, stream: None, read: Vec::new() }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().expect("it is bound").port()
    }

    /// The next MESSAGE, answered with 200.
    fn take(&mut self) -> Heard {
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < end, "nothing has come");
            if let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(false).expect("a stream waits");
                stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a stream has a time-out");
                self.stream = Some(stream);
            }
            let Some(stream) = &mut self.stream else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            let mut part = [0; 4_096];
            let count = stream.read(&mut part).unwrap_or(0);
            self.read.extend_from_slice(&part[..count]);
            let Some((used, heard)) = framed(&self.read) else { continue };
            self.read.drain(..used);
            let Some(heard) = heard else { continue };
            let kept = ["via", "from", "to", "call-id", "cseq"];
            let lines: String = kept
                .iter()
                .flat_map(|name| heard.headers(name).into_iter().map(move |value| format!("{name}: {value}\r\n")))
                .collect();
            let answer = format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("it takes an answer");
            return heard;
        }
    }
}
