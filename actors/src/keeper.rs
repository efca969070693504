//! The store, as the tree sees it: falls when the store has ended, and looks now and then for letters whose time is over
//! and for people who have letters waiting after a restart.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use storage::spool::Expired;
use storage::{Health, StoreError};

use crate::house::House;
use crate::message::Offer;
use crate::node::{Node, State};
use crate::supervise::{Fall, Leave, Lifeline};

/// How often expired letters are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How many at once; when there were so many, the next look follows at once.
const SWEEP_LETTERS: usize = 256;
/// How many people are woken at once after a start.
const WAKE_AT_ONCE: usize = 64;
/// The pause between two such lots.
const WAKE_PAUSE: Duration = Duration::from_millis(50);

/// Keeps an eye on the store.
pub struct Keeper {
    house: Arc<House>,
    node: Arc<Node>,
    lifeline: Option<Lifeline>,
}

impl Keeper {
    /// Over the house's store.
    pub fn new(house: Arc<House>, node: Arc<Node>, lifeline: Lifeline) -> Self {
        Self { house, node, lifeline: Some(lifeline) }
    }

    /// Whether the store has ended; then this falls, and again after each start, until the root falls too.
    fn falls(&self, ctx: &mut Context<Self>) -> bool {
        let has_ended = matches!(self.house.store.health(), Health::Refusing(StoreError::Closed));
        if has_ended {
            tracing::error!("The store has ended");
            ctx.stop(); // the lifeline tells the root
        }
        has_ended
    }

    fn sweep(&mut self, ctx: &mut Context<Self>) {
        if self.falls(ctx) {
            return;
        }
        let looking = self.house.store.expired_letters(SWEEP_LETTERS);
        ctx.spawn(looking.into_actor(self).map(|expired, this, ctx| this.swept(expired, ctx)));
    }

    fn swept(&mut self, expired: Result<Vec<Expired>, StoreError>, ctx: &mut Context<Self>) {
        let pause = match expired {
            Ok(expired) => {
                let many = expired.len() >= SWEEP_LETTERS;
                let offers = expired.into_iter().map(|each| (each.owner, Offer::Expired(Box::new(each.letter))));
                self.house.registry.hand_over(offers.collect());
                if many { WAKE_PAUSE } else { SWEEP_EVERY }
            }
            Err(error) => {
                tracing::warn!(%error, "Expired letters could not be looked for");
                SWEEP_EVERY
            }
        };
        ctx.run_later(pause, |this, ctx| this.sweep(ctx));
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.falls(ctx) {
            return;
        }
        self.node.set(State::Running);
        ctx.run_later(SWEEP_EVERY, |this, ctx| this.sweep(ctx));
        let house = self.house.clone();
        ctx.spawn(wake_waiting(house).into_actor(self));
    }
}

/// Whoever has letters waiting may have a binding that stands: their actors look, and hand out (decisions D2, D4).
async fn wake_waiting(house: Arc<House>) {
    let mut owners = house.store.mailbox_owners();
    loop {
        match owners.next_page().await {
            Ok(Some(page)) => {
                for lot in page.chunks(WAKE_AT_ONCE) {
                    house.registry.hand_over(lot.iter().map(|owner| (owner.clone(), Offer::Active)).collect());
                    tokio::time::sleep(WAKE_PAUSE).await;
                }
            }
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "People with letters could not be looked for"),
        }
    }
}

impl Handler<Leave> for Keeper {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}

impl Handler<Fall> for Keeper {
    type Result = ();

    fn handle(&mut self, fall: Fall, _: &mut Self::Context) {
        fall.now();
    }
}
