//! Who answers for a key: each shard's nursery, under whatever address it lives now. Actors never import actors; they are
//! found here. The only place that would learn "this key lives on another node".

use std::sync::Arc;

use actix::Recipient;
use actix::prelude::SendError;
use base::Aor;
use base::partition::shard_of;
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::message::{Offer, Offers, SessionInput, SessionInputs, SessionKey};
use crate::node::Node;

/// Offers that a nursery takes in one turn: about its hundred microseconds (decisions D15).
const BATCH: usize = 64;

/// Where a nursery lives now, and its node, which counts the batches that wait for it.
type Place<M> = RwLock<Option<(Recipient<M>, Arc<Node>)>>;

/// Every shard's nursery.
pub struct Registry {
    nurseries: Box<[Place<Offers>]>,
    sessions: Box<[Place<SessionInputs>]>,
}

impl Registry {
    /// With nobody there yet.
    pub fn new(shards: usize) -> Self {
        let shards = shards.max(1);
        Self {
            nurseries: (0..shards).map(|_| RwLock::default()).collect(),
            sessions: (0..shards).map(|_| RwLock::default()).collect(),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.nurseries.len()
    }

    /// A nursery says where it lives; a new start of it takes the place of the old.
    pub fn register(&self, shard: usize, nursery: Recipient<Offers>, node: Arc<Node>) {
        node.emptied();
        *self.nurseries[shard].write() = Some((nursery, node));
    }

    /// Hands offers to their shards, in batches of at most [`BATCH`]. What a full or absent nursery does not take is
    /// dropped, and with it the answers that are owed: they become 503. How many batches were dropped.
    pub fn hand_over(&self, offers: Vec<(Aor, Offer)>) -> usize {
        if offers.is_empty() {
            return 0;
        }
        let mut dropped = 0;
        let mut batches: SmallVec<[Offers; 8]> = self.nurseries.iter().map(|_| Offers::default()).collect();
        for (to, offer) in offers {
            let shard = shard_of(&to, self.nurseries.len());
            batches[shard].0.push((to, offer));
            if batches[shard].0.len() >= BATCH {
                dropped += self.send(shard, std::mem::take(&mut batches[shard]));
            }
        }
        for (shard, batch) in batches.into_iter().enumerate().filter(|(_, batch)| !batch.0.is_empty()) {
            dropped += self.send(shard, batch);
        }
        dropped
    }

    /// 1 if it was dropped.
    fn send(&self, shard: usize, batch: Offers) -> usize {
        usize::from(!matches!(try_send(&self.nurseries[shard], batch), Some(Ok(()))))
    }

    /// A shard's nursery of sessions says where it lives.
    pub fn register_sessions(&self, shard: usize, nursery: Recipient<SessionInputs>, node: Arc<Node>) {
        node.emptied();
        *self.sessions[shard].write() = Some((nursery, node));
    }

    /// Hands inputs to the sessions' shards, one message each. What is not taken is dropped, and with it what is owed.
    pub fn hand_over_sessions(&self, inputs: Vec<(SessionKey, SessionInput)>) {
        if inputs.is_empty() {
            return;
        }
        let mut batches: Vec<SessionInputs> = self.sessions.iter().map(|_| SessionInputs::default()).collect();
        for (to, input) in inputs {
            if let Some(batch) = batches.get_mut(usize::from(to.shard)) {
                batch.0.push((to, input));
            }
        }
        for (nursery, batch) in self.sessions.iter().zip(batches) {
            if !batch.0.is_empty() {
                drop(try_send(nursery, batch));
            }
        }
    }

    /// One offer.
    pub fn offer(&self, to: Aor, offer: Offer) -> bool {
        self.hand_over(vec![(to, offer)]) == 0
    }
}

/// By the one sender that there is: each clone of it would have a place of its own in the mailbox, whatever its bound. What
/// is refused comes back, so that it is dropped when the lock is not held: its answers ask for a turn of their own.
fn try_send<M>(nursery: &Place<M>, batch: M) -> Option<Result<(), SendError<M>>>
where
    M: actix::Message<Result = ()> + Send,
{
    nursery.read().as_ref().map(|(nursery, node)| {
        node.queued();
        nursery.try_send(batch).inspect_err(|_| node.taken())
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use actix::prelude::*;

    use super::*;

    fn node() -> Arc<Node> {
        Node::new("users", "nursery", 0)
    }

    struct Nursery(Rc<RefCell<Vec<usize>>>);

    impl Actor for Nursery {
        type Context = Context<Self>;
    }

    impl Handler<Offers> for Nursery {
        type Result = ();
        fn handle(&mut self, offers: Offers, _: &mut Self::Context) {
            self.0.borrow_mut().push(offers.0.len());
        }
    }

    fn offers(count: usize) -> Vec<(Aor, Offer)> {
        (0..count).map(|n| (Aor::new(&format!("u{n}"), "example.com").unwrap(), Offer::Active)).collect()
    }

    #[actix::test]
    async fn offers_go_to_the_shard_of_their_user_in_batches_that_one_turn_can_take() {
        let registry = Registry::new(2);
        let (one, two) = (Rc::default(), Rc::default());
        registry.register(0, Nursery(Rc::clone(&one)).start().recipient(), node());
        registry.register(1, Nursery(Rc::clone(&two)).start().recipient(), node());
        assert_eq!(registry.hand_over(offers(1_000)), 0);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        for heard in [&one, &two] {
            let heard: std::cell::Ref<'_, Vec<usize>> = heard.borrow();
            assert!(
                heard.iter().all(|count| (1..=BATCH).contains(count)) && heard.iter().sum::<usize>() > 300,
                "{heard:?}"
            );
        }
        assert_eq!(one.borrow().iter().chain(two.borrow().iter()).sum::<usize>(), 1_000);
    }

    #[actix::test]
    async fn what_nobody_takes_is_said_and_a_new_nursery_takes_the_place_of_the_old() {
        let registry = Registry::new(1);
        assert_eq!(registry.hand_over(offers(1)), 1, "nobody is there yet");
        assert_eq!(registry.hand_over(Vec::new()), 0);
        let heard = Rc::default();
        let old = Nursery(Rc::clone(&heard)).start();
        registry.register(0, old.recipient(), node());
        // More batches than an actor's mailbox holds.
        assert!(registry.hand_over(offers(BATCH * 40)) > 0);
        let fresh = Rc::default();
        registry.register(0, Nursery(Rc::clone(&fresh)).start().recipient(), node());
        assert!(registry.offer(Aor::new("u", "example.com").unwrap(), Offer::Active));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert_eq!(*fresh.borrow(), [1]);
    }
}
