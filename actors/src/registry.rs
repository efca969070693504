//! Who answers for a key: each shard's nursery, under whatever address it lives now. Actors never import actors; they are
//! found here. The only place that would learn "this key lives on another node".

use actix::Recipient;
use base::Aor;
use base::partition::shard_of;
use parking_lot::RwLock;

use crate::message::{Offer, Offers};

/// Every shard's nursery.
pub struct Registry {
    nurseries: Box<[RwLock<Option<Recipient<Offers>>>]>,
}

impl Registry {
    /// With nobody there yet.
    pub fn new(shards: usize) -> Self {
        Self { nurseries: (0..shards.max(1)).map(|_| RwLock::default()).collect() }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.nurseries.len()
    }

    /// A nursery says where it lives; a new start of it takes the place of the old.
    pub fn register(&self, shard: usize, nursery: Recipient<Offers>) {
        *self.nurseries[shard].write() = Some(nursery);
    }

    /// Hands offers to their shards, one message each. What a full or absent nursery does not take is dropped, and with it
    /// the answers that are owed: they become 503. How many batches were dropped.
    pub fn hand_over(&self, offers: Vec<(Aor, Offer)>) -> usize {
        if offers.is_empty() {
            return 0;
        }
        let mut batches: Vec<Offers> = self.nurseries.iter().map(|_| Offers::default()).collect();
        for (to, offer) in offers {
            batches[shard_of(&to, self.nurseries.len())].0.push((to, offer));
        }
        let mut dropped = 0;
        for (nursery, batch) in self.nurseries.iter().zip(batches) {
            if batch.0.is_empty() {
                continue;
            }
            // The lock is not held while a refused batch is dropped: its answers ask for a turn of their own.
            let nursery = nursery.read().clone();
            let refused = nursery.map(|nursery| nursery.try_send(batch));
            dropped += usize::from(!matches!(refused, Some(Ok(()))));
        }
        dropped
    }

    /// One offer.
    pub fn offer(&self, to: Aor, offer: Offer) -> bool {
        self.hand_over(vec![(to, offer)]) == 0
    }
}
