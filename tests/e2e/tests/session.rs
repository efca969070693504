//! Two clients, one server, one session: INVITE and MSRP through the real binary, and the program at both ends.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail the test")]

use std::process::{Command, Stdio};
use std::time::Duration;

use base::Aor;
use client::{Account, Client, Delivery, Ended, Event, Inbox, Options, Session, SessionOptions, Setup, Transport};
use support::Node;
use tokio::time::timeout;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn two_clients_talk_send_a_picture_and_hang_up() {
    let node = house();
    for transport in [Transport::Udp, Transport::Tcp] {
        for setup in [Setup::ActPass, Setup::Active] {
            let (alice, _) = online(&node, "alice", transport).await;
            let (bob, mut bob_hears) = online(&node, "bob", transport).await;
            let (hers, his) = session(&alice, &bob, &mut bob_hears, setup).await;
            let picture: Vec<u8> = (0..5_000_000_u32).map(|n| (n ^ (n >> 7)) as u8).collect();
            assert_eq!(hers.send_text("Look!").await, Delivery::Delivered);
            let (delivery, text, got) = tokio::join!(hers.send("image/png", picture.clone()), his.recv(), his.recv());
            assert_eq!((delivery, text.unwrap().text()), (Delivery::Delivered, Some("Look!")));
            assert!(got.unwrap().body == picture, "the picture has changed on its way");
            assert_eq!(his.send_text("Nice").await, Delivery::Delivered);
            assert_eq!(hers.recv().await.unwrap().text(), Some("Nice"));
            assert_eq!(his.close().await, Ended::ByUs);
            assert!(matches!(timeout(SOON, hers.ended()).await.unwrap(), Ended::ByPeer(_)));
            alice.close().await.unwrap();
            bob.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn who_is_away_unknown_or_not_willing_is_not_talked_to() {
    let node = house();
    let (alice, _) = online(&node, "alice", Transport::Udp).await;
    let (bob, mut bob_hears) = online(&node, "bob", Transport::Udp).await;
    for (who, status) in [("carol", 480), ("nobody", 404)] {
        let refused = alice.invite(&address(&node, who), SessionOptions::default()).await.unwrap_err();
        assert_eq!(refused.status(), Some(status), "{who}: {refused}");
    }
    let (refused, ()) = tokio::join!(alice.invite(bob.aor(), SessionOptions::default()), async {
        if let Some(Event::Invited(call)) = bob_hears.recv().await {
            call.refuse(486).await;
        }
    });
    assert_eq!(refused.unwrap_err().status(), Some(486));
}

#[test]
fn the_program_holds_a_session_with_itself() {
    let node = house();
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("a.png");
    std::fs::write(&picture, vec![7; 300_000]).unwrap();
    let saved = folder.path().join("saved");
    let mut bob = program(&node, "bob");
    bob.args(["chat", "--wait", "--download-dir"]).arg(&saved).stdin(Stdio::null());
    let bob = bob.stdout(Stdio::piped()).spawn().unwrap();
    let input = folder.path().join("lines");
    let lines = format!("Hello Bob\n{{\"command\":\"send\",\"file\":{:?}}}\n", picture.display().to_string());
    std::fs::write(&input, lines).unwrap();
    // Bob may not be there yet.
    let alice = (0..50)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(200));
            let mut alice = program(&node, "alice");
            alice.args(["chat", "bob"]).stdin(std::fs::File::open(&input).unwrap()).output().unwrap()
        })
        .find(|alice| alice.status.success())
        .expect("alice never reached bob");
    let bob = bob.wait_with_output().unwrap();
    let (hers, his) = (String::from_utf8(alice.stdout).unwrap(), String::from_utf8(bob.stdout).unwrap());
    assert!(bob.status.success(), "{his}");
    for (said, wanted) in [
        (&hers, "\"event\":\"session_started\""),
        (&hers, "\"delivered\":true"),
        (&hers, "\"how\":\"by_us\""),
        (&his, "\"text\":\"Hello Bob\""),
        (&his, "\"content_type\":\"image/png\""),
        (&his, "\"bytes\":300000"),
        (&his, "\"sha256\":\"08f166476de183f7"),
        (&his, "\"how\":\"by_peer\""),
    ] {
        assert!(said.contains(wanted), "{wanted} is not in {said}");
    }
    let files: Vec<_> = std::fs::read_dir(&saved).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files, [saved.join("a.png")]);
    assert_eq!(std::fs::read(&files[0]).unwrap(), vec![7; 300_000]);
}

#[test]
fn an_invitation_is_taken_in_the_middle_of_a_talk() {
    let node = house();
    let bob = program(&node, "bob");
    let mut bob = support::programs::Talk::start(&bob);
    bob.wait_for("registered", SOON);
    let mut alice = program(&node, "alice");
    let mut alice = support::programs::Talk::start(alice.args(["chat", "bob"]));
    bob.wait_for("\"invited\"", SOON);
    bob.say("/accept");
    bob.wait_for("session_started", SOON);
    bob.say("I am here");
    alice.wait_for("I am here", SOON);
    alice.say("/bye");
    bob.wait_for("\"by_peer\"", SOON);
    alice.wait_for("unregistered", SOON);
    // The talk goes on.
    bob.say("/accept");
    bob.wait_for("nobody invites you", SOON);
    bob.say("/quit");
    bob.wait_for("unregistered", SOON);
}

fn house() -> Node {
    let node = Node::start(&[]);
    for user in ["alice", "bob", "carol"] {
        node.add_user(user, &format!("{user}'s password"));
    }
    node
}

fn program(node: &Node, user: &str) -> Command {
    let mut command = Command::new(support::binary::binary("parlour-client"));
    command.args(["--json", "--aor", address(node, user).as_str(), "--server", &node.sip().to_string()]);
    command.env("PARLOUR_PASSWORD", format!("{user}'s password"));
    command
}

fn address(node: &Node, user: &str) -> Aor {
    Aor::new(user, node.domain()).unwrap()
}

async fn online(node: &Node, user: &str, transport: Transport) -> (Client, Inbox) {
    let password = format!("{user}'s password");
    let account = Account::new(address(node, user), &password, node.sip(), transport);
    let (client, inbox) = Client::connect(account, Options::default()).await.unwrap();
    client.register().await.unwrap();
    (client, inbox)
}

async fn session(alice: &Client, bob: &Client, bob_hears: &mut Inbox, setup: Setup) -> (Session, Session) {
    let options = SessionOptions { setup, ..SessionOptions::default() };
    let (hers, his) = tokio::join!(timeout(SOON, alice.invite(bob.aor(), options.clone())), async {
        loop {
            if let Some(Event::Invited(call)) = timeout(SOON, bob_hears.recv()).await.unwrap() {
                return call.accept_with(options.clone()).await;
            }
        }
    });
    (hers.unwrap().unwrap(), his.unwrap())
}
