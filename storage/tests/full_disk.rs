//! A disk without space, a real one: a small file system that the test mounts for itself in a namespace of its own.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use storage::{Config, Health, Kept, Letter, MessageId, Store, StoreError};
use support::{aor, letter};

/// Names the directory to the inner run of the test, where the small file system is mounted.
const INNER: &str = "PARLOUR_SMALL_DISK";
const NAME: &str = "a_full_disk_refuses_new_letters_keeps_the_old_ones_and_recovers_when_there_is_space";

#[test]
fn a_full_disk_refuses_new_letters_keeps_the_old_ones_and_recovers_when_there_is_space() {
    if let Some(dir) = std::env::var_os(INNER) {
        return on_a_small_disk(&PathBuf::from(dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=32m parlour-test \"$0\" && exec \"$@\"";
    let namespace = ["--user", "--map-root-user", "--mount"];
    let possible =
        Command::new("unshare").args(namespace).args(["sh", "-c", mount]).arg(dir.path()).arg("true").status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: {NAME}: this machine lets no test mount a file system (unshare, mount)");
        assert!(std::env::var_os("CI").is_none(), "a CI machine must be able to run this test");
        return;
    }
    let inner = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", mount])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(INNER, dir.path())
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&inner.stdout), String::from_utf8_lossy(&inner.stderr));
    assert!(inner.status.success(), "{said}\n{complained}");
    assert!(said.contains("1 passed"), "the inner test did not run: {said}");
}

fn on_a_small_disk(dir: &Path) {
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 20 << 20]).unwrap();
    let config = Config::in_dir(dir.join("data"));
    let store = Store::open(&config).unwrap();
    let mut kept = 0;
    let why = loop {
        match store.keep_letter(&aor("alice"), &large_letter(kept)).wait() {
            Ok(_) => kept += 1,
            Err(why) => break why,
        }
        assert!(kept < 10_000, "the disk never became full");
    };
    assert_eq!((&why, store.health()), (&StoreError::Full, Health::Refusing(StoreError::Full)));
    assert!(why.is_passing());
    let in_the_mailbox = || store.letters(&aor("alice"), 0, 100_000).wait().unwrap().len();
    assert_eq!(in_the_mailbox(), kept as usize, "what was promised can be read on the full disk");

    std::fs::remove_file(&ballast).unwrap();
    let patience = Instant::now() + Duration::from_secs(30);
    while store.health() != Health::Serving {
        assert!(Instant::now() < patience, "it does not recover: {:?}", store.health());
        std::thread::sleep(Duration::from_millis(50));
    }
    let again = store.keep_letter(&aor("alice"), &large_letter(1_000_000)).wait();
    assert!(matches!(again, Ok(Kept::New { .. })), "{again:?}");
    drop(store);
    let store = Store::open(&config).unwrap();
    let found = store.letters(&aor("alice"), 0, 100_000).wait().unwrap();
    let numbers: Vec<_> = found.iter().map(|letter| letter.cseq).collect();
    let expected: Vec<_> = (0..kept).chain([1_000_000]).collect();
    assert!(expected.iter().all(|number| numbers.contains(number)), "kept {kept}, found {}", numbers.len());
}

/// 16 kB that no compression makes smaller.
fn large_letter(number: u32) -> Letter {
    let mut state = u64::from(number) + 1;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    Letter {
        id: MessageId::of(&number.to_be_bytes()),
        cseq: number,
        body: noise.take(16_000).collect::<Vec<_>>().into(),
        expires_unix_s: u64::from(u32::MAX),
        ..letter("large")
    }
}
