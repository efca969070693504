//! What only a store on a disk can show: it is found again, held by one, copied, and one fsync serves many.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::sync::Arc;

use base::Partitions;
use storage::engine::rocks::Rocks;
use storage::{Config, Durability, Kept, SetClock, Store, StoreError};
use support::{Place, START_MS, account, aor, ids, letter};

fn open(config: &Config, clock: &SetClock) -> Result<Store, StoreError> {
    let clock = Arc::new(clock.clone());
    Ok(Store::over(Arc::new(Rocks::open(config, clock.clone())?), clock))
}

#[test]
fn what_was_answered_is_found_by_the_next_process_in_its_order() {
    for durability in [Durability::Fsync, Durability::Os] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { durability, ..Config::in_dir(dir.path()) };
        let clock = SetClock::at(START_MS);
        let store = open(&config, &clock).unwrap();
        store.put_account(account("alice"), true).wait().unwrap();
        let arrivals: Vec<_> =
            ["a", "b"].map(|id| store.keep_letter(&aor("alice"), &letter(id)).wait().unwrap()).into();
        drop(store);

        // The clock steps back an hour between the two lives: what comes now still comes later (D2).
        clock.set(START_MS - 3_600_000);
        let store = open(&config, &clock).unwrap();
        assert_eq!(store.account(&aor("alice")).wait().unwrap(), Some(account("alice")));
        assert_eq!(store.keep_letter(&aor("alice"), &letter("a")).wait(), Ok(Kept::Repeat), "{durability:?}");
        let Kept::New { arrival } = store.keep_letter(&aor("alice"), &letter("c")).wait().unwrap() else {
            panic!("repeat")
        };
        assert!(arrivals.iter().all(|kept| matches!(kept, Kept::New { arrival: before } if *before < arrival)));
        assert_eq!(ids(&store.letters(&aor("alice"), 0, 9).wait().unwrap()), ["a", "b", "c"]);
    }
}

#[test]
fn blocks_that_were_read_are_told_as_cache_and_a_closed_store_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SetClock::at(START_MS);
    // Small memtables: what is written lies in files soon, and is read through the cache.
    let config = Config { write_buffer_bytes: 1 << 20, ..Config::in_dir(dir.path()) };
    let store = open(&config, &clock).unwrap();
    for n in 0..3_000 {
        store.keep_letter(&aor("alice"), &letter(&n.to_string())).wait().unwrap();
    }
    store.close().wait().unwrap();
    assert_eq!(store.footprint(), None);
    let store = open(&config, &clock).unwrap();
    let before = store.footprint().unwrap();
    assert_eq!(store.letters(&aor("alice"), 0, 5_000).wait().unwrap().len(), 3_000);
    let after = store.footprint().unwrap();
    assert!(after.block_cache > before.block_cache && after.block_cache <= 2 * config.cache_bytes as u64, "{after:?}");
}

#[test]
fn a_store_is_open_in_one_process_and_free_when_it_is_closed() {
    let place = Place::rocks();
    let dir = place.dir.as_ref().unwrap().path();
    let refused = open(&Config::in_dir(dir), &place.clock).map(drop).unwrap_err();
    let text = format!("data directory {} is in use by process {}", dir.display(), std::process::id());
    assert_eq!(refused.to_string(), text);
    place.store.close().wait().unwrap();
    assert!(open(&Config::in_dir(dir), &place.clock).is_ok());
}

#[test]
fn the_number_of_partitions_is_fixed_when_a_store_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SetClock::at(START_MS);
    let with = |partitions| Config { partitions, ..Config::in_dir(dir.path()) };
    drop(open(&with(Some(8)), &clock).unwrap());
    assert_eq!(open(&with(None), &clock).unwrap().partitions(), Partitions::new(8));
    let refused = open(&with(Some(64)), &clock).map(drop).unwrap_err();
    assert_eq!(refused, StoreError::WrongPartitions { dir: dir.path().into(), found: 8, wanted: 64 });
}

#[test]
fn a_backup_of_a_running_store_is_a_store() {
    let place = Place::rocks();
    let elsewhere = tempfile::tempdir().unwrap();
    let (backup, restored) = (elsewhere.path().join("deep/backup"), elsewhere.path().join("data"));
    place.store.put_account(account("alice"), true).wait().unwrap();
    place.store.keep_letter(&aor("alice"), &letter("before")).wait().unwrap();
    place.store.backup(&backup).wait().unwrap();
    place.store.keep_letter(&aor("alice"), &letter("after")).wait().unwrap();

    storage::restore(&backup, &restored).unwrap();
    let store = open(&Config::in_dir(&restored), &place.clock).unwrap();
    assert_eq!(store.account(&aor("alice")).wait().unwrap(), Some(account("alice")));
    assert_eq!(ids(&store.letters(&aor("alice"), 0, 9).wait().unwrap()), ["before"]);
    store.keep_letter(&aor("alice"), &letter("later")).wait().unwrap();
    assert_eq!(ids(&place.store.letters(&aor("alice"), 0, 9).wait().unwrap()), ["before", "after"]);
}

#[test]
fn a_backup_or_a_restore_in_the_wrong_place_is_refused_with_the_reason() {
    let place = Place::rocks();
    let dir = place.dir.as_ref().unwrap().path();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("letter.txt"), "mine").unwrap();
    let relative = place.store.backup("backup").wait().unwrap_err();
    assert_eq!(relative.to_string(), "backup is not an absolute path: a backup needs one");
    let not_empty = place.store.backup(elsewhere.path()).wait().unwrap_err().to_string();
    assert!(not_empty.contains("cannot take a backup: Directory not empty"), "{not_empty}");
    assert!(elsewhere.path().join("letter.txt").exists());

    let no_backup = storage::restore(elsewhere.path(), &elsewhere.path().join("data")).unwrap_err().to_string();
    assert!(no_backup.contains("holds no backup of a store"), "{no_backup}");
    let backup = elsewhere.path().join("backup");
    place.store.backup(&backup).wait().unwrap();
    assert!(matches!(storage::restore(&backup, dir), Err(StoreError::Locked { .. })));
    place.store.close().wait().unwrap();
    let has_one = storage::restore(&backup, dir).unwrap_err().to_string();
    assert!(has_one.contains("has a store already: restore into an empty directory"), "{has_one}");
}

#[test]
fn one_fsync_serves_many_commits() {
    let place = Place::rocks();
    let asked: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let store = place.store.clone();
                scope.spawn(move || {
                    let user = aor(&format!("u{thread}"));
                    let asks: Vec<_> =
                        (0..250).map(|n| store.keep_letter(&user, &letter(&format!("{thread}-{n}")))).collect();
                    asks.into_iter().map(|ask| ask.wait().unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut arrivals: Vec<_> = asked
        .iter()
        .map(|kept| match kept {
            Kept::New { arrival } => *arrival,
            Kept::Repeat => panic!("a repeat"),
        })
        .collect();
    arrivals.sort_unstable();
    arrivals.dedup();
    let metrics = place.store.metrics();
    assert_eq!((arrivals.len(), metrics.commits_total.get(), metrics.records_total.get()), (1_000, 1_000, 2_000));
    assert!(metrics.fsyncs_total.get() < 500, "{} fsyncs for 1000 commits", metrics.fsyncs_total.get());
    assert_eq!(metrics.fsyncs_total.get(), metrics.groups_total.get());
    assert_eq!(metrics.commit_us.count(), 1_000);
}

#[test]
fn a_store_of_a_newer_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SetClock::at(START_MS);
    drop(open(&Config::in_dir(dir.path()), &clock).unwrap());
    let path = dir.path().join("store");
    let names = rocksdb::DB::list_cf(&rocksdb::Options::default(), &path).unwrap();
    let mut db = rocksdb::DB::open_cf(&rocksdb::Options::default(), &path, names).unwrap();
    db.create_cf("holograms", &rocksdb::Options::default()).unwrap();
    drop(db);
    let refused = open(&Config::in_dir(dir.path()), &clock).map(drop).unwrap_err().to_string();
    assert!(refused.contains("has a family `holograms` that this program does not know"), "{refused}");
}
