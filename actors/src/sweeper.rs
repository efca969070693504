//! A shard's clock: ten times a second it looks at the timers of its share of the transaction stripes, and now and then
//! at its share of the rows in `Reach`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use crate::house::House;
use crate::node::{Node, State};
use crate::supervise::{Leave, Lifeline};
use crate::turn;

const TICK: Duration = Duration::from_millis(100);
/// One stripe of `Reach` is looked at each so many ticks: all 64 in about a minute.
const REACH_EVERY: usize = 10;

/// Sweeps the timers of one shard.
pub struct Sweeper {
    house: Arc<House>,
    shard: usize,
    ticks: usize,
    node: Arc<Node>,
    lifeline: Option<Lifeline>,
}

impl Sweeper {
    /// For shard number `shard`.
    pub fn new(house: Arc<House>, shard: usize, node: Arc<Node>, lifeline: Lifeline) -> Self {
        Self { house, shard, ticks: 0, node, lifeline: Some(lifeline) }
    }

    fn tick(&mut self) {
        let (began, now) = (Instant::now(), self.house.now());
        let shards = self.house.registry.shards();
        turn::fill(|turn| self.house.transactions.sweep(turn, now, self.shard, shards));
        turn::flush();
        self.ticks += 1;
        if self.ticks.is_multiple_of(REACH_EVERY) {
            let stripe = self.ticks / REACH_EVERY * shards + self.shard;
            self.house.reach.sweep(stripe, now.unix_s());
        }
        self.node.turn_took(began.elapsed());
    }
}

impl Actor for Sweeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.node.set(State::Running);
        ctx.run_interval(TICK, |this, _| this.tick());
    }
}

impl Handler<Leave> for Sweeper {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}
