//! What was promised survives: `kill -9` at random moments, and an orderly stop.
//!
//! A few hundred messages and a handful of kills here; `parlour-load run --scenario kill` does the same with ten
//! thousand, and a small one is played here too, so that the command is known to work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use client::Transport;
use support::binary::binary;
use support::phone::Wanted;
use support::{Node, Peer, Phone, programs};

use crate::house::{aor, house, password, wait_until};
use crate::person::Person;

const MESSAGES: usize = 300;
const KILLS: usize = 4;
const KILLS_DELIVERING: usize = 2;
const QUIET: Duration = Duration::from_millis(800);

#[test]
fn what_was_answered_202_survives_kill_9_at_random_moments() {
    let mut node = house(&[], &["alice", "bob", "carol"]);
    let mut dice = Dice::new();
    let (sip, promised, tried) = (node.sip(), Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for sender in ["alice", "carol"] {
            let (promised, tried) = (&promised, &tried);
            scope.spawn(move || {
                let mut phone = Phone::new(Peer::udp(sip), "example.com", sender, &password(sender));
                // Silence is the server's death, and what became of the message is unknown then: nothing was promised.
                phone.patience = Duration::from_secs(1);
                for number in 0..MESSAGES / 2 {
                    let text = format!("{sender} {number}");
                    if is_kept(&mut phone, &text) {
                        promised.lock().expect("no sender has panicked").insert(text);
                    }
                    tried.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut moments: Vec<usize> = (0..KILLS).map(|_| dice.below(MESSAGES * 9 / 10)).collect();
        moments.sort_unstable();
        for moment in moments {
            while tried.load(Ordering::Relaxed) < moment {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros(dice.below(5_000) as u64));
            node.kill();
            std::thread::sleep(Duration::from_millis(dice.below(200) as u64));
            node.start_again();
        }
    });
    let promised = promised.into_inner().expect("no sender has panicked");
    assert!(promised.len() > MESSAGES / 2, "only {} of {MESSAGES} were promised: nothing was tried", promised.len());
    let heard = collect(&mut node, &mut dice, &promised);
    let missing: Vec<_> = promised.iter().filter(|text| !heard.contains_key(*text)).collect();
    let doubled: Vec<_> = heard.iter().filter(|(_, identities)| identities.len() > 1).collect();
    assert!(missing.is_empty() && doubled.is_empty(), "seed {}: missing {missing:?}, doubled {doubled:?}", dice.seed);
}

#[test]
fn the_kill_scenario_of_parlour_load_passes() {
    let mut node = Node::prepared(&[]);
    let users = node.folder().join("users.csv");
    let load = || std::process::Command::new(binary("parlour-load"));
    let listed = programs::run(load().args(["users", "--count", "20"]), Duration::from_secs(20));
    std::fs::write(&users, listed.stdout).expect("the folder takes a file");
    let imported = node.run(&["user", "import", &users.display().to_string()]);
    assert!(imported.status.is_some_and(|status| status.success()), "{}", imported.stderr);
    let (server, config) = (binary("parlour"), node.config());
    let start = format!("{} serve --config {}", server.display(), config.display());
    let mut command = load();
    command.args(["run", "--scenario", "kill", "--users", "20", "--messages", "200", "--kills", "2", "--quiet"]);
    command.args(["--kills-delivering", "1", "--server", &node.sip().to_string(), "--start-command", &start]);
    let played = programs::run(&mut command, Duration::from_secs(90));
    assert!(played.status.is_some_and(|status| status.success()), "{}\n{}", played.stdout, played.stderr);
    node.start_again(); // it left the data in order
}

#[test]
fn a_binding_by_udp_survives_a_kill_and_a_stop() {
    let mut node = house(&[], &["alice", "bob"]);
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    bob.register();
    for end in [Node::kill as fn(&mut Node), Node::stop] {
        end(&mut node);
        node.start_again();
        let mut alice = Phone::udp(&node, "alice", &password("alice"));
        let to = aor("bob");
        alice.message(&aor("alice"), "to be challenged once");
        let request = alice.signed(&Wanted { method: "MESSAGE", uri: &to, to: &to, lines: "", body: b"" });
        alice.peer.send(&request);
        bob.expect_message();
        alice.peer.expect_status(200);
    }
}

#[test]
fn a_binding_by_tcp_waits_for_its_client_to_connect_again() {
    let mut node = house(&[], &["alice", "bob"]);
    let mut bob = Person::online(&node, "bob", Transport::Tcp);
    node.kill();
    node.start_again();
    let alice = Person::new(&node, "alice", Transport::Udp);
    assert!(matches!(alice.writes("bob", "after the kill").status, 200 | 202), "the library may be back already");
    assert_eq!(bob.hears().text.as_deref(), Some("after the kill"), "the library has registered again by itself");
}

#[test]
fn an_orderly_stop_loses_nothing_and_is_quick() {
    let mut node = house(&[], &["alice", "bob"]);
    let (sip, over) = (node.sip(), AtomicBool::new(false));
    let sent = Mutex::new(Vec::new());
    let took = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut phone = Phone::new(Peer::udp(sip), "example.com", "alice", &password("alice"));
            phone.patience = Duration::from_secs(1);
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let text = format!("letter {number}");
                if is_kept(&mut phone, &text) {
                    sent.lock().expect("nobody panics with it").push(text);
                }
            }
        });
        wait_until("letters are being kept", || sent.lock().expect("nobody panics with it").len() >= 20);
        let began = Instant::now();
        node.stop();
        over.store(true, Ordering::Relaxed);
        began.elapsed()
    });
    assert!(took < Duration::from_secs(5), "the stop took {took:?}");
    node.start_again();
    let mut bob = Person::online(&node, "bob", Transport::Udp);
    let sent = sent.into_inner().expect("nobody panics with it");
    let heard: BTreeSet<String> = bob.hears_texts(sent.len()).into_iter().collect();
    assert!(sent.iter().all(|text| heard.contains(text)), "kept {sent:?}, delivered {heard:?}");
}

#[test]
fn silent_connections_and_silent_receivers_do_not_hold_up_a_stop() {
    let mut node = house(&[], &["alice", "bob"]);
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    bob.register();
    let idle: Vec<Peer> = (0..50).map(|_| Peer::tcp(node.sip())).collect();
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    alice.message(&aor("alice"), "to be challenged once");
    let to = aor("bob");
    let request = alice.signed(&Wanted { method: "MESSAGE", uri: &to, to: &to, lines: "", body: b"" });
    alice.peer.send(&request);
    bob.peer.expect_request("MESSAGE"); // and he never answers
    let began = Instant::now();
    node.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "the stop took {:?}", began.elapsed());
    let answer = alice.peer.hear(Duration::from_secs(1)).expect("who waits for an answer gets one");
    assert!(matches!(answer.status(), Some(202 | 408 | 480 | 500 | 503)), "{answer}");
    drop(idle);
}

#[test]
fn sigint_ends_it_with_0_and_sighup_disturbs_nobody() {
    let mut node = house(&[], &["alice", "bob"]);
    let (alice, mut bob) = (Person::new(&node, "alice", Transport::Tcp), Person::online(&node, "bob", Transport::Tcp));
    let pid = node.pid();
    for round in 0..3 {
        node.signal("HUP");
        assert_eq!(alice.writes("bob", &format!("round {round}")).status, 200);
        assert_eq!(bob.hears().text, Some(format!("round {round}")));
    }
    assert_eq!((node.pid(), node.ended()), (pid, None));
    node.signal("INT");
    wait_until("SIGINT ends the server", || node.ended().is_some());
    assert!(node.ended().is_some_and(|status| status.success()), "{:?}", node.ended());
}

/// Sends a text to bob; whether it was answered 202.
fn is_kept(phone: &mut Phone, text: &str) -> bool {
    let to = aor("bob");
    let wanted =
        Wanted { method: "MESSAGE", uri: &to, to: &to, lines: "Content-Type: text/plain\r\n", body: text.as_bytes() };
    match phone.request(&wanted).map(|answer| (answer.status(), answer)) {
        None | Some((Some(503), _)) => false,
        Some((Some(202), _)) => true,
        Some((_, answer)) => panic!("{text}: {answer}"),
    }
}

/// Bob comes back, the server is killed while he hears what waited, and he comes back again: each text with the
/// identities (decision 3) under which it came.
fn collect(node: &mut Node, dice: &mut Dice, promised: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut heard: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut moments: Vec<usize> = (0..KILLS_DELIVERING).map(|_| dice.below(promised.len())).collect();
    moments.sort_unstable_by_key(|moment| std::cmp::Reverse(*moment));
    let mut bob = Phone::new(Peer::udp(node.sip()), "example.com", "bob", &password("bob"));
    bob.register();
    let end = Instant::now() + Duration::from_secs(60);
    let mut is_over = false;
    while !is_over && Instant::now() < end {
        let message = bob.peer.hear_where(QUIET, |heard| heard.method() == Some("MESSAGE"));
        is_over = message.is_none() && promised.iter().all(|text| heard.contains_key(text));
        if let Some(message) = message {
            bob.peer.answer(&message, 200, "OK");
            let tag = message.parameter("from", "tag").unwrap_or_default();
            let identity = format!("{} {} {tag}", message.header("call-id"), message.header("cseq"));
            heard.entry(message.text()).or_default().insert(identity);
        } else if !is_over {
            bob.register(); // as phones do: what waits is tried again
        }
        if moments.last().is_some_and(|moment| heard.len() >= *moment) {
            moments.pop();
            node.kill();
            node.start_again();
            bob.register();
        }
    }
    heard
}

/// Chance enough to choose moments; a failure prints its seed.
struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = since.as_nanos() as u64 | 1;
        Self { seed, state: seed }
    }

    /// Below `end`, by xorshift.
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % end.max(1) as u64) as usize
    }
}
