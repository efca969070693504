//! The disk of the simulated world: what it may lose, and what it may not.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::sync::Arc;

use base::Partitions;
use storage::engine::faulty::Faulty;
use storage::{Ask, Health, Kept, SetClock, Store, StoreError};
use support::{START_MS, aor, ids, letter};

struct World {
    disk: Faulty,
    store: Store,
}

impl World {
    fn new(seed: u64) -> Self {
        Self::over(Faulty::new(seed, Partitions::default(), Arc::new(SetClock::at(START_MS))))
    }

    fn over(disk: Faulty) -> Self {
        Self { store: Store::over(Arc::new(disk.clone()), Arc::new(SetClock::at(START_MS))), disk }
    }

    fn keep(&self, id: &str) -> Ask<Kept> {
        self.store.keep_letter(&aor("alice"), &letter(id))
    }

    fn letters(&self) -> Vec<String> {
        let letters = self.store.letters(&aor("alice"), 0, 1_000);
        self.disk.settle();
        ids(&letters.wait().unwrap())
    }
}

#[test]
fn nothing_is_answered_before_a_step_and_everything_after_enough_of_them() {
    let world = World::new(1);
    world.disk.delay(3);
    let asks: Vec<_> = (0..20).map(|n| world.keep(&n.to_string())).collect();
    assert_eq!((world.disk.waiting(), world.store.queues().commits), (20, 20));
    assert_eq!(world.store.metrics().commits_total.get(), 0);
    world.disk.settle();
    assert!(asks.into_iter().all(|ask| matches!(ask.wait(), Ok(Kept::New { .. }))));
    assert_eq!((world.disk.waiting(), world.letters().len()), (0, 20));
}

#[test]
fn one_commit_alone_can_be_brought_to_its_end() {
    let world = World::new(2);
    let (first, _second) = (world.keep("a"), world.keep("b"));
    assert!(world.disk.complete_one());
    assert!(matches!(first.wait(), Ok(Kept::New { .. })));
    assert_eq!(world.disk.waiting(), 1);
    assert!(world.disk.complete_one());
    assert!(!world.disk.complete_one());
    assert_eq!(world.letters(), ["a", "b"]);
}

#[test]
fn a_crash_at_any_step_keeps_what_was_answered_and_no_half_of_anything() {
    let mut unanswered_but_there = 0;
    for seed in 0..300 {
        let world = World::new(seed);
        world.disk.delay(2);
        world.disk.fail_sometimes(100);
        let asks: Vec<_> = (0..12).map(|n| (n.to_string(), world.keep(&n.to_string()))).collect();
        for _ in 0..seed % 20 {
            world.disk.step();
        }
        let after = World::over(world.disk.crash());
        after.disk.fail_sometimes(0);
        let found = after.letters();
        for (id, ask) in asks {
            let answer = ask.wait();
            let kept = matches!(answer, Ok(Kept::New { .. }));
            assert!(!kept || found.contains(&id), "seed {seed}: letter {id} was answered and is gone");
            unanswered_but_there += usize::from(!kept && found.contains(&id));
            // The letter and its id are one commit: whoever has the one has the other.
            let again = after.keep(&id);
            after.disk.settle();
            assert_eq!(again.wait() == Ok(Kept::Repeat), found.contains(&id), "seed {seed}, letter {id}: {answer:?}");
        }
        assert_eq!(world.keep("late").wait(), Err(StoreError::Closed), "the dead do not answer");
    }
    assert!(unanswered_but_there > 0, "the dice never left anything that was not answered");
}

#[test]
fn one_seed_plays_one_story() {
    let story = |seed| {
        let world = World::new(seed);
        world.disk.delay(3);
        world.disk.fail_sometimes(300);
        let asks: Vec<_> = (0..30).map(|n| world.keep(&n.to_string())).collect();
        let steps = std::iter::from_fn(|| world.disk.step().then_some(())).count();
        (steps, asks.into_iter().map(|ask| ask.wait().is_ok()).collect::<Vec<_>>())
    };
    assert_eq!(story(5), story(5));
    assert_ne!(story(5), story(6));
}

#[test]
fn a_full_disk_refuses_new_letters_keeps_the_old_ones_and_recovers() {
    let world = World::new(3);
    let old = world.keep("old");
    world.disk.settle();
    assert!(old.wait().is_ok());
    world.disk.full(true);
    let refused = world.keep("new");
    world.disk.settle();
    assert_eq!(refused.wait(), Err(StoreError::Full));
    assert_eq!(world.store.health(), Health::Refusing(StoreError::Full));
    assert_eq!(world.letters(), ["old"]);
    world.disk.full(false);
    let again = world.keep("new");
    world.disk.settle();
    assert!(matches!(again.wait(), Ok(Kept::New { .. })));
    assert_eq!((world.store.health(), world.letters()), (Health::Serving, vec!["old".to_owned(), "new".to_owned()]));
}

#[test]
fn a_queue_that_is_full_is_busy_at_once() {
    let world = World::new(4);
    world.disk.bound(2);
    let waiting = [world.keep("a"), world.keep("b")];
    assert_eq!(world.keep("c").wait(), Err(StoreError::Busy { queue: 2 }));
    world.disk.settle();
    assert!(waiting.into_iter().all(|ask| ask.wait().is_ok()));
}

#[test]
fn the_dice_let_a_read_pass_a_write_and_a_write_pass_a_read() {
    // D2, store against register: both orders must be tried.
    let seen = |seed| {
        let world = World::new(seed);
        let kept = world.keep("a");
        let letters = world.store.letters(&aor("alice"), 0, 9);
        world.disk.settle();
        assert!(kept.wait().is_ok());
        letters.wait().unwrap().len()
    };
    let outcomes: std::collections::BTreeSet<_> = (0..50).map(seen).collect();
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [0, 1]);
}
