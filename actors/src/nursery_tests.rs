//! What a nursery bears: how many users, how much in its mailbox, how long a turn; and who loses past it.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;

use base::Partitions;
use base::limits::{LOADING_WAITERS_MAX, TURN_MAX};
use storage::engine::faulty::Faulty;
use storage::{Store, WallClock};

use super::*;
use crate::config::Network;
use crate::house::House;
use crate::supervise::{Child, Handle, Supervisor};
use crate::testing::{Ask, Living, Wire, account, aor, house_over, status};
use crate::{Config, user};

const ALICE: u16 = 5081;
const BOB: u16 = 5082;

/// Everybody is who he says, so that a message is one datagram.
fn trusting(config: &mut Config) {
    config.trusted = vec![Network { address: IpAddr::from([127, 0, 0, 0]), bits: 8 }];
}

async fn people(store: &Store, names: impl IntoIterator<Item = &str>) {
    for name in names {
        store.put_account(account(name), true).await.unwrap();
    }
}

/// Waits for so many answers at alice's; how often each status was among them.
async fn answers(living: &Living, count: usize) -> Vec<(u16, usize)> {
    let mut heard: Vec<(u16, usize)> = Vec::new();
    for _ in 0..count {
        let status = status(&living.wire.next(ALICE).await);
        match heard.iter_mut().find(|(each, _)| *each == status) {
            Some((_, count)) => *count += 1,
            None => heard.push((status, 1)),
        }
    }
    heard.sort_unstable();
    heard
}

fn write(living: &Living, to: &str, text: &str) {
    living.hear(ALICE, &Ask::message("alice", to, text).text(&living.branch()));
}

#[actix::test]
async fn while_a_user_is_read_so_many_wait_and_one_more_is_told_503() {
    let disk = Faulty::new(1, Partitions::new(4), Arc::new(WallClock)).at_once();
    let store = Store::over(Arc::new(disk.clone()), Arc::new(WallClock));
    people(&store, ["alice", "bob"]).await;
    let living = Living::over(store, trusting).await;

    disk.stall(true);
    for n in 0..=LOADING_WAITERS_MAX {
        write(&living, "bob", &format!("{n}"));
    }
    assert_eq!(answers(&living, 1).await, [(503, 1)], "at once, and nobody else");
    assert!(living.wire.take(ALICE).is_empty());
    disk.stall(false);
    assert_eq!(answers(&living, LOADING_WAITERS_MAX).await, [(202, LOADING_WAITERS_MAX)]);
    assert_eq!(living.house.store.mailbox(&aor("bob")).await.unwrap().count, LOADING_WAITERS_MAX as u64);
}

#[actix::test]
async fn a_full_mailbox_refuses_one_more_batch_and_the_tree_shows_how_full_it_is() {
    let names: Vec<String> = (0..NURSERY_MAILBOX_MAX + 8).map(|n| format!("u{n}")).collect();
    let store = Store::in_memory();
    people(&store, names.iter().map(String::as_str)).await;
    let living = Living::over(store, trusting).await;
    let users = living.node(&["shard 0", "users"]).unwrap();
    assert_eq!((users.depth(), users.bound), (0, NURSERY_MAILBOX_MAX));

    // Nothing of the nursery runs until this test waits: each message is a batch of its own.
    names.iter().for_each(|name| write(&living, name, "hello"));
    let held = users.depth();
    assert_eq!(held, NURSERY_MAILBOX_MAX);
    let refused = names.len() - held;
    assert_eq!(answers(&living, names.len()).await, [(202, held), (503, refused)]);
    assert_eq!(users.depth(), 0);
}

#[actix::test]
async fn with_as_many_users_as_a_shard_may_have_one_more_is_told_503_until_another_leaves() {
    let store = Store::in_memory();
    people(&store, ["bob", "carol", "dora"]).await;
    let living = Living::over(store, |config| {
        trusting(config);
        config.user_idle = Duration::from_millis(300);
    })
    .await;
    // In place of the shard's nursery: one of two users.
    let node = Node::new("few", "nursery", NURSERY_MAILBOX_MAX);
    let shown = node.clone();
    let house = living.house.clone();
    let few = Child::new(node, move |lifeline| {
        let planting = house.clone();
        let plant = move |aor, ties| user::plant(&planting, aor, ties);
        let nursery = Nursery::start_bounded(shown.clone(), house.metrics.clone(), lifeline, plant, 2);
        house.registry.register(0, nursery.clone().recipient(), shown.clone());
        Some(Handle::to(nursery))
    });
    let _root = Supervisor::root(Node::new("root", "supervisor", 0), Intensity::default(), vec![few], || {}).start();
    tokio::time::sleep(Duration::from_millis(20)).await;

    ["bob", "carol"].iter().for_each(|name| write(&living, name, "1"));
    assert_eq!(answers(&living, 2).await, [(202, 2)]);
    write(&living, "dora", "2");
    assert_eq!(answers(&living, 1).await, [(503, 1)], "she would be the third");
    write(&living, "bob", "3");
    assert_eq!(answers(&living, 1).await, [(202, 1)], "who is there is served");
    living.until("they leave", || living.house.metrics.get(Count::Passivated) >= 2).await;
    write(&living, "dora", "4");
    assert_eq!(answers(&living, 1).await, [(202, 1)]);
}

#[actix::test]
async fn a_registered_user_who_does_nothing_is_a_row_and_no_actor_and_is_written_to_all_the_same() {
    let living = Living::with(&["alice", "bob"], |config| config.user_idle = Duration::from_millis(50)).await;
    assert_eq!((living.register("alice", ALICE).await, living.register("bob", BOB).await), (200, 200));
    let users = living.node(&["shard 0", "users"]).unwrap();
    living.until("both have left", || users.children().1 == 0).await;
    let activated = living.house.metrics.get(Count::Activated);
    assert!(living.house.reach.get(&aor("alice")).is_some() && living.house.reach.get(&aor("bob")).is_some());

    living.send(ALICE, &Ask::message("alice", "bob", "hello"), "alice").await;
    assert!(living.take(BOB, 200).await.ends_with("hello"));
    assert_eq!(status(&living.wire.next(ALICE).await), 200);
    assert_eq!(users.children().1, 0);
    assert_eq!(living.house.metrics.get(Count::Activated), activated, "no actor was started for it");
    assert_eq!(living.house.metrics.get(Count::Relayed), 1);
}

/// A child that notes what it hears.
struct Noting(Rc<RefCell<Vec<String>>>, String, #[expect(dead_code, reason = "held")] Lifeline);

impl Actor for Noting {
    type Context = Context<Self>;
}

impl Handler<Offered> for Noting {
    type Result = ();
    fn handle(&mut self, Offered(offer): Offered, _: &mut Self::Context) {
        let Offer::Outcome { token, .. } = offer else { panic!("{offer:?}") };
        self.0.borrow_mut().push(format!("{} {token}", self.1));
    }
}

impl Handler<Leave> for Noting {
    type Result = ();
    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// A nursery of such children, each of which takes so long to be started.
async fn noting(start: Duration) -> (Arc<House>, Rc<RefCell<Vec<String>>>, Arc<Node>, Addr<Supervisor>) {
    let house = house_over(Store::in_memory(), |_| {});
    crate::tree::attach_shard(&house, Box::new(Wire::default()));
    let (heard, node) = (Rc::new(RefCell::new(Vec::new())), Node::new("users", "nursery", NURSERY_MAILBOX_MAX));
    let (noting, shown, planting) = (heard.clone(), node.clone(), house.clone());
    let child = Child::new(node.clone(), move |lifeline| {
        let noting = noting.clone();
        let plant = move |aor: Aor, ties: Ties| {
            std::thread::sleep(start);
            Handles::to(Noting(noting.clone(), aor.user().to_owned(), ties.lifeline).start())
        };
        let nursery = Nursery::start_here(shown.clone(), planting.metrics.clone(), lifeline, plant);
        planting.registry.register(0, nursery.clone().recipient(), shown.clone());
        Some(Handle::to(nursery))
    });
    let root = Supervisor::root(Node::new("root", "supervisor", 0), Intensity::default(), vec![child], || {}).start();
    while node.state() != State::Running {
        tokio::task::yield_now().await;
    }
    (house, heard, node, root)
}

fn outcome(token: u64) -> Offer {
    Offer::Outcome { token, status: 200, response: None }
}

#[actix::test]
async fn a_batch_of_new_users_is_handed_on_in_slices_in_its_order_and_others_run_in_between() {
    let (house, heard, users, _root) = noting(Duration::ZERO).await;
    let batch: Vec<_> = (0..64).map(|n| (aor(&format!("u{}", n % 32)), outcome(n))).collect();
    house.registry.hand_over(batch);
    house.registry.hand_over(vec![(aor("u0"), outcome(99))]);
    // Another task of the shard, which runs whenever it may.
    let (slices, looking) = (Rc::new(RefCell::new(Vec::new())), users.clone());
    let (seen, stop) = (slices.clone(), Rc::new(Cell::new(false)));
    let stopped = stop.clone();
    actix_rt::spawn(async move {
        while !stopped.get() {
            seen.borrow_mut().push(looking.children().1);
            tokio::task::yield_now().await;
        }
    });
    while heard.borrow().len() < 65 {
        tokio::task::yield_now().await;
    }
    stop.set(true);
    let mut slices = slices.borrow().clone();
    slices.dedup();
    // It is not said who of the two comes first after a pause.
    assert!(slices.len() >= 3 && slices.windows(2).all(|two| two[1] - two[0] <= 16), "{slices:?}");
    let to_first: Vec<String> = heard.borrow().iter().filter(|each| each.starts_with("u0 ")).cloned().collect();
    assert_eq!(to_first, ["u0 0", "u0 32", "u0 99"]);
    assert!(users.take_fullest_child() >= 1);
}

#[actix::test]
async fn a_long_turn_is_recorded_as_what_it_was() {
    let (house, heard, users, _root) = noting(TURN_MAX * 30).await;
    let (longest, long) = (users.turns().longest_us(), users.turns().long());
    house.registry.offer(aor("alice"), outcome(1));
    while heard.borrow().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(longest < 3_000 && users.turns().longest_us() >= 3_000, "{longest} {}", users.turns().longest_us());
    assert_eq!(users.turns().long(), long + 1);
}
