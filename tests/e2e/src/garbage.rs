//! What no client would send: it costs a bounded amount, raises a counter, and others are served meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use support::{Node, Peer, Phone};

use crate::house::{PATIENCE, aor, count, house, password, wait_until};

/// Where trouble comes from.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const MIB: u64 = 1 << 20;

#[test]
fn garbage_datagrams_are_dropped_counted_and_not_answered() {
    let node = house(&[], &["alice", "bob"]);
    let mut peer = Peer::udp_from(ELSEWHERE, node.sip());
    let (before, rss) = (count(&node, "parlour_sip_garbage_total"), node.rss_bytes());
    let mut dice = Dice(4_475);
    for round in 0..3_000 {
        let garbage = dice.octets(1 + round % 1_400);
        peer.send(&garbage);
        if round % 100 == 0 {
            serves(&node); // and gives the socket time: what the kernel drops counts for nobody
        }
    }
    peer.send(&dice.octets(60_000));
    wait_until("garbage is counted", || count(&node, "parlour_sip_garbage_total") >= before + 2_000.0);
    assert!(node.rss_bytes() < rss + 64 * MIB, "from {rss} to {}", node.rss_bytes());
    peer.expect_silence(Duration::from_millis(100));
    serves(&node);
}

#[test]
fn keepalives_are_no_garbage() {
    let node = house(&[], &["alice", "bob"]);
    let mut phone = Peer::udp(node.sip());
    for ping in [&b"\r\n\r\n"[..], b"\r\n", b"\0\0\0\0", b""] {
        phone.send(ping);
    }
    let mut stream = Peer::tcp(node.sip());
    stream.send(b"\r\n\r\n\r\n\r\n");
    serves(&node);
    assert_eq!(count(&node, "parlour_sip_garbage_total"), 0.0);
    assert!(!stream.is_closed(Duration::from_millis(300)), "a ping keeps a connection, RFC 5626 §3.5.1");
}

#[test]
fn garbage_on_a_connection_closes_it_and_is_counted() {
    let node = house(&[], &["alice", "bob"]);
    let mut dice = Dice(3_261);
    for octets in [
        dice.octets(100),
        dice.octets(70_000),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
    ] {
        let mut peer = Peer::tcp(node.sip());
        peer.send(&octets);
        peer.send(b"\r\n\r\n");
        assert!(peer.is_closed(PATIENCE), "{:?}… is no SIP", &octets[..10]);
    }
    wait_until("it is counted", || count(&node, "parlour_sip_garbage_total") >= 3.0);
    serves(&node);
}

#[test]
fn garbage_on_the_admin_port_harms_nobody() {
    let node = house(&[], &["alice", "bob"]);
    let mut dice = Dice(9_112);
    let rss = node.rss_bytes();
    for size in [1, 100, 70_000, 2_000_000] {
        let mut peer = Peer::tcp(node.admin());
        peer.send(&dice.octets(size));
        peer.send(b"\r\n\r\n");
        assert!(peer.is_closed(PATIENCE), "{size} octets of garbage");
    }
    assert_eq!(node.get_as_stranger("/healthz").status, 200);
    assert!(node.rss_bytes() < rss + 32 * MIB, "from {rss} to {}", node.rss_bytes());
    serves(&node);
}

#[test]
fn a_head_without_end_is_cut_off_by_its_length() {
    let node = house(&[], &["alice", "bob"]);
    let rss = node.rss_bytes();
    for at in [node.sip(), node.admin()] {
        let mut peer = Peer::tcp(at);
        peer.send(b"OPTIONS sip:example.com SIP/2.0\r\nX-Long: ");
        for _ in 0..256 {
            peer.send(&[b'y'; 32_768]); // 8 MiB; from some point on nobody listens
        }
        assert!(peer.is_closed(PATIENCE), "8 MiB of head to {at}");
    }
    assert!(node.rss_bytes() < rss + 32 * MIB, "from {rss} to {}", node.rss_bytes());
    serves(&node);
}

#[test]
fn a_body_that_never_comes_and_a_length_that_lies_are_bounded() {
    let node = house(&[("limits.silent_connection_seconds", "2"), ("limits.head_seconds", "2")], &["alice", "bob"]);
    for length in ["4294967296", "99999999999999999999", "-1", "70000"] {
        let mut peer = Peer::tcp(node.sip());
        peer.send(&options(&peer, &format!("Content-Length: {length}\r\n")));
        assert!(peer.is_closed(PATIENCE), "Content-Length: {length}");
    }
    // One that is possible and never comes is given up in time.
    let mut peer = Peer::tcp(node.sip());
    peer.send(&options(&peer, "Content-Length: 5000\r\n"));
    assert!(peer.is_closed(PATIENCE), "5,000 octets that never come");
    serves(&node);
}

#[test]
fn many_at_once_who_never_finish_keep_nobody_out() {
    let node = house(&[], &["alice", "bob"]);
    let rss = node.rss_bytes();
    let mut slow: Vec<Peer> = (0..300).map(|_| Peer::tcp(node.sip())).collect();
    for peer in &mut slow {
        peer.send(b"REGISTER sip:exa");
    }
    let admin: Vec<Peer> = (0..30).map(|_| Peer::tcp(node.admin())).collect();
    serves(&node);
    assert_eq!(node.get_as_stranger("/healthz").status, 200);
    assert!(node.rss_bytes() < rss + 64 * MIB, "from {rss} to {}", node.rss_bytes());
    drop((slow, admin));
    wait_until("their connections are let go", || count(&node, "parlour_connections") < 10.0);
}

#[test]
fn a_message_that_comes_octet_by_octet_is_read() {
    let node = house(&[], &["alice"]);
    let mut peer = Peer::tcp(node.sip());
    for octet in options(&peer, "Content-Length: 0\r\n") {
        peer.send(&[octet]);
    }
    assert_eq!(peer.hear(PATIENCE).and_then(|answer| answer.status()), Some(401));
}

/// Two people still write to each other.
fn serves(node: &Node) {
    let (mut alice, mut bob) =
        (Phone::udp(node, "alice", &password("alice")), Phone::tcp(node, "bob", &password("bob")));
    bob.register();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(bob.expect_message().text(), "still here"));
        assert_eq!(alice.message(&aor("bob"), "still here").status(), Some(200));
    });
    assert_eq!(bob.register_for(0).status(), Some(200));
}

fn options(peer: &Peer, lines: &str) -> Vec<u8> {
    let at: SocketAddr = peer.local();
    let via = peer.transport();
    format!(
        "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/{via} {at};branch=z9hG4bKslow{}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=1\r\nTo: <sip:example.com>\r\nCall-ID: slow{}\r\nCSeq: 1 OPTIONS\r\n{lines}\r\n",
        at.port(),
        at.port()
    )
    .into_bytes()
}

/// The same octets in every run, by xorshift.
struct Dice(u64);

impl Dice {
    fn octets(&mut self, count: usize) -> Vec<u8> {
        let mut octet = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_le_bytes()[3]
        };
        (0..count).map(|_| octet()).collect()
    }
}
