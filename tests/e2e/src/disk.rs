//! A full disk: new promises are refused with 503 and Retry-After, old ones are kept, people who are here go on writing,
//! and when there is room again the server finds it by itself.
//!
//! The disk is a small tmpfs of the test's own, so this needs root; without, it is skipped, loudly.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::{Node, Phone, programs};

use crate::house::{add_users, aor, password, wait_until};

const QUIET: Duration = Duration::from_millis(800);

#[test]
fn a_full_disk_refuses_new_promises_and_keeps_the_old_ones() {
    let mut node = Node::prepared(&[("storage.write_buffer_bytes", "2097152")]);
    let Some(disk) = Disk::mount(&node.data(), "48m") else { return };
    node.start_again();
    add_users(&node, &["alice", "bob", "carol", "dave"]);
    let phone = |user: &str| Phone::udp(&node, user, &password(user));
    let (mut alice, mut carol, mut dave) = (phone("alice"), phone("carol"), phone("dave"));
    carol.register();
    let kept: Vec<String> = (0..20).map(|number| format!("before {number}")).collect();
    for text in &kept {
        assert_eq!(alice.message(&aor("bob"), text).status(), Some(202));
    }

    let filler = disk.fill();
    // What the engine has reserved may still take some.
    let mut promised = kept;
    let refusal = (0..5_000).find_map(|number| {
        let text = format!("while it fills {number} {}", "x".repeat(2_000));
        let answer = alice.message(&aor("bob"), &text);
        match answer.status() {
            Some(202) => promised.push(text),
            Some(480) => panic!("the mailbox is full before the disk: {answer}"),
            _ => return Some(answer),
        }
        None
    });
    let refusal = refusal.expect("a full disk is noticed");
    assert_eq!(refusal.status(), Some(503), "{refusal}");
    assert!(refusal.header("retry-after").parse::<u32>().is_ok(), "{refusal}");
    assert_eq!(dave.register_for(600).status(), Some(503), "a binding is a promise too");
    assert_eq!(node.get_as_stranger("/readyz").status, 503, "the store refuses, and who balances load may know");
    assert_eq!(node.get_as_stranger("/healthz").status, 200, "but the server is well");
    assert!(node.metric("parlour_store_full_total").is_some_and(|count| count >= 1.0));
    // A message between people who are here waits for no disk.
    let relayed = relay(&mut alice, &mut carol, "no disk needed");
    assert_eq!(relayed, Some(200));

    drop(filler);
    wait_until("the server finds that there is room again", || {
        let text = format!("after {}", promised.len());
        let is_kept = alice.message(&aor("bob"), &text).status() == Some(202);
        if is_kept {
            promised.push(text);
        }
        is_kept && node.is_ready()
    });
    node.kill();
    node.start_again();
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    bob.register();
    let heard: Vec<String> = promised.iter().map(|_| bob.expect_message().text()).collect();
    assert_eq!(heard, promised, "all that was promised, in order, and nothing that was refused");
    bob.expect_no_message(QUIET);
    node.stop();
    drop(disk);
}

#[test]
fn a_server_that_was_killed_on_a_full_disk_comes_back_with_all_that_it_promised() {
    let mut node = Node::prepared(&[("storage.write_buffer_bytes", "2097152")]);
    let Some(disk) = Disk::mount(&node.data(), "48m") else { return };
    node.start_again();
    add_users(&node, &["alice", "bob"]);
    let mut alice = Phone::udp(&node, "alice", &password("alice"));
    let filler = disk.fill();
    let mut promised = Vec::new();
    for number in 0..5_000 {
        let text = format!("letter {number} {}", "x".repeat(2_000));
        match alice.message(&aor("bob"), &text).status() {
            Some(202) => promised.push(text),
            status => {
                assert_eq!(status, Some(503));
                break;
            }
        }
    }
    node.kill();
    drop(filler);
    node.start_again();
    let mut bob = Phone::udp(&node, "bob", &password("bob"));
    bob.register();
    let heard: Vec<String> = promised.iter().map(|_| bob.expect_message().text()).collect();
    assert_eq!(heard, promised);
    bob.expect_no_message(QUIET);
    node.stop();
    drop(disk);
}

/// Alice writes to carol, who takes it; what alice hears.
fn relay(alice: &mut Phone, carol: &mut Phone, text: &str) -> Option<u16> {
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(carol.expect_message().text(), text));
        alice.message(&aor("carol"), text).status()
    })
}

/// A small file system of our own.
struct Disk(PathBuf);

impl Disk {
    /// Mounted at this folder, which is made; nothing when we may not.
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("the folder takes a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "parlour-e2e"]).arg(at);
        let done = programs::run(&mut mount, Duration::from_secs(10));
        if !done.status.is_some_and(|status| status.success()) {
            programs::not_allowed(&format!("a disk to fill cannot be mounted (it needs root): {}", done.stderr.trim()));
            return None;
        }
        Some(Self(at.to_owned()))
    }

    /// Takes all the room there is, until what this gives is dropped.
    fn fill(&self) -> Filler {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("the disk takes a file");
        let mut piece = vec![b'.'; 1 << 16];
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
        Filler(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status(); // a test that failed may have it open
    }
}

struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // the server may have been given the room already
    }
}
