//! Every kind of child of the tree is killed, and returns; the others do not notice.

use std::cell::RefCell;
use std::time::Duration;

use actix::prelude::*;

use super::*;
use crate::metrics::Count;
use crate::node::State;
use crate::supervise::Fall;
use crate::testing::{Ask, Living, Wire, account, aor, house_over, status};

const ALICE: u16 = 5081;

/// A door without a socket.
struct Door {
    lifeline: Option<Lifeline>,
    said: Rc<RefCell<Vec<&'static str>>>,
}

impl Actor for Door {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.said.borrow_mut().push("opened");
    }
}

impl Handler<Leave> for Door {
    type Result = ();
    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        self.said.borrow_mut().push("closed");
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}

impl Handler<Fall> for Door {
    type Result = ();
    fn handle(&mut self, fall: Fall, _: &mut Self::Context) {
        fall.now();
    }
}

fn door(said: &Rc<RefCell<Vec<&'static str>>>) -> Child {
    let said = said.clone();
    Child::new(Node::new("door", "listener", 0), move |lifeline| {
        Some(Handle::to(Door { lifeline: Some(lifeline), said: said.clone() }.start()))
    })
}

fn restarts(node: &Arc<Node>, path: String, list: &mut Vec<(String, u32)>) {
    list.push((path.clone(), node.restarts()));
    for child in node.children().0 {
        restarts(&child, format!("{path}/{}", child.name), list);
    }
}

async fn works(living: &Living, text: &str) {
    let answer = living.ask(ALICE, &Ask::message("alice", "bob", text), "alice").await;
    assert_eq!(status(&answer), 202, "after {text}");
}

#[actix::test]
async fn each_kind_of_child_returns_after_its_death_and_the_others_live_on() {
    let mut living = Living::with(&["alice", "bob"], |_| {}).await;
    // The same tree with a door in it.
    living.tree.leave();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let said = Rc::new(RefCell::new(Vec::new()));
    let fallen = Rc::new(RefCell::new(false));
    let told = fallen.clone();
    living.tree =
        plant(&living.house, &[Arbiter::current().clone()], vec![door(&said)], move || *told.borrow_mut() = true);
    let node = |path: &[&str]| living.node(path).unwrap_or_else(|| panic!("{path:?}"));
    living.until("it lives", || node(&["shard 0", "users"]).state() == State::Running).await;
    works(&living, "start").await;
    let parts: Vec<String> = node(&["shard 0"]).children().0.iter().map(|part| part.name.clone()).collect();
    assert!(parts.iter().any(|part| part == "transactions") && parts.iter().any(|part| part == "users"), "{parts:?}");
    let mut paths = vec![vec!["store"], vec!["doors", "door"], vec!["doors"], vec!["shard 0"]];
    paths.extend(parts.iter().map(|part| vec!["shard 0", part.as_str()]));
    for path in paths {
        let mut before = Vec::new();
        restarts(&living.tree.node, String::new(), &mut before);
        let victim = node(&path);
        let (deaths, opened) = (victim.restarts(), said.borrow().len());
        living.tree.root.do_send(Fall::at(&path));
        living
            .until("it has fallen and lives again", || {
                victim.restarts() == deaths + 1 && victim.state() == State::Running
            })
            .await;
        let users = node(&["shard 0", "users"]);
        living.until("the users live", || users.state() == State::Running).await;
        works(&living, &path.join("-").replace(' ', "-")).await;
        let mut after = Vec::new();
        restarts(&living.tree.node, String::new(), &mut after);
        let shown = format!("/{}", path.join("/"));
        for (name, count) in &after {
            let was = before.iter().find(|(each, _)| each == name).map_or(0, |(_, count)| *count);
            assert_eq!(*count, was + u32::from(*name == shown), "{name} after the death of {shown}");
        }
        let heard = said.borrow()[opened..].to_vec();
        match &*path {
            ["doors", "door"] => assert_eq!(heard, ["opened"]),
            // An orphan would hold its socket beside its successor.
            ["doors"] => assert_eq!(heard, ["closed", "opened"]),
            _ => assert!(heard.is_empty(), "{path:?}: {heard:?}"),
        }
    }
    assert!(!*fallen.borrow());
    assert_eq!(living.house.metrics.get(Count::Overloaded), 0);

    // One user, and only he.
    living.tree.root.do_send(Fall::at(&["shard 0", "users", aor("bob").as_str()]));
    living.until("he fell", || node(&["shard 0", "users"]).restarts() >= 2).await;
    works(&living, "user").await;

    // Closed first, and never opened again by whoever restarts what falls.
    said.borrow_mut().clear();
    living.tree.close_doors();
    living.until("closed", || *said.borrow() == ["closed"]).await;
    living.tree.root.do_send(Fall::at(&["doors"]));
    works(&living, "doors-closed").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(*said.borrow(), ["closed"]);
    living.tree.leave();
    living.until("all have left", || !living.tree.root.connected()).await;
    assert_eq!(living.node(&["store"]).map(|node| node.state()), Some(State::Stopped));
}

#[actix::test]
async fn when_the_store_has_ended_everything_falls() {
    let house = house_over(storage::Store::in_memory(), |_| {});
    house.store.put_account(account("alice"), true).await.unwrap();
    house.store.close().await.unwrap();
    attach_shard(&house, Box::new(Wire::default()));
    let fallen = Rc::new(RefCell::new(false));
    let told = fallen.clone();
    let tree = plant(&house, &[Arbiter::current().clone()], Vec::new(), move || *told.borrow_mut() = true);
    for _ in 0..3_000 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if *fallen.borrow() {
            break;
        }
    }
    assert!(*fallen.borrow(), "the root gives up");
    assert!(!tree.root.connected());
}
