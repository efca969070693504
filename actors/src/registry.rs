//! Who answers for a key: each shard's nursery, under whatever address it lives now. Actors never import actors; they are
//! found here. The only place that would learn "this key lives on another node".

use actix::Recipient;
use base::Aor;
use base::partition::shard_of;
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::message::{Offer, Offers, SessionInput, SessionInputs, SessionKey};

/// Offers that a nursery takes in one turn: about its hundred microseconds (decisions D15).
const BATCH: usize = 64;

/// Every shard's nursery.
pub struct Registry {
    nurseries: Box<[RwLock<Option<Recipient<Offers>>>]>,
    sessions: Box<[RwLock<Option<Recipient<SessionInputs>>>]>,
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
    pub fn register(&self, shard: usize, nursery: Recipient<Offers>) {
        *self.nurseries[shard].write() = Some(nursery);
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
        // The lock is not held while a refused batch is dropped: its answers ask for a turn of their own.
        let nursery = self.nurseries[shard].read().clone();
        let sent = nursery.map(|nursery| nursery.try_send(batch));
        usize::from(!matches!(sent, Some(Ok(()))))
    }

    /// A shard's nursery of sessions says where it lives.
    pub fn register_sessions(&self, shard: usize, nursery: Recipient<SessionInputs>) {
        *self.sessions[shard].write() = Some(nursery);
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
            if !batch.0.is_empty()
                && let Some(nursery) = nursery.read().clone()
            {
                let _ = nursery.try_send(batch);
            }
        }
    }

    /// One offer.
    pub fn offer(&self, to: Aor, offer: Offer) -> bool {
        self.hand_over(vec![(to, offer)]) == 0
    }
}
