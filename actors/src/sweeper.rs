//! A shard's clock: ten times a second it looks at the timers of its share of the transaction stripes, and now and then
//! at its share of the rows in `Reach`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use base::limits::{STRIPES, TURN_MAX};

use crate::house::House;
use crate::node::{Node, State};
use crate::supervise::{Fall, Leave, Lifeline};
use crate::turn;

const TICK: Duration = Duration::from_millis(100);
/// Each so many ticks some stripes of `Reach` are looked at.
const REACH_EVERY: usize = 2;
/// How many: all 1,024 in less than a minute.
const REACH_STRIPES: usize = 4;
/// Timers of one stripe that are dealt with before the clock is looked at.
const TIMERS: usize = 64;

/// Sweeps the timers of one shard.
pub struct Sweeper {
    house: Arc<House>,
    shard: usize,
    ticks: usize,
    node: Arc<Node>,
    lifeline: Option<Lifeline>,
}

/// Go on with this stripe: a turn was over before all was done (decisions D15).
#[derive(Message)]
#[rtype(result = "()")]
struct GoOn(usize);

impl Sweeper {
    /// For shard number `shard`.
    pub fn new(house: Arc<House>, shard: usize, node: Arc<Node>, lifeline: Lifeline) -> Self {
        Self { house, shard, ticks: 0, node, lifeline: Some(lifeline) }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.sweep(self.shard, ctx);
        self.ticks += 1;
        if self.ticks.is_multiple_of(REACH_EVERY) {
            let unix_s = self.house.now().unix_s();
            let share = self.ticks / REACH_EVERY * self.house.registry.shards() + self.shard;
            for stripe in share * REACH_STRIPES..(share + 1) * REACH_STRIPES {
                self.house.reach.sweep(stripe, unix_s);
            }
        }
    }

    /// Transactions from this stripe on, every so many shards one; what is left when the turn is over follows.
    fn sweep(&mut self, from: usize, ctx: &mut Context<Self>) {
        let (began, now, shards) = (Instant::now(), self.house.now(), self.house.registry.shards());
        let mut stripe = from;
        turn::fill(|turn| {
            while stripe < STRIPES && began.elapsed() < TURN_MAX / 2 {
                if !self.house.transactions.sweep_stripe(turn, now, stripe, TIMERS) {
                    stripe += shards;
                }
            }
        });
        turn::flush();
        self.node.turn_took(began.elapsed());
        if stripe < STRIPES {
            ctx.notify(GoOn(stripe));
        }
    }
}

impl Handler<GoOn> for Sweeper {
    type Result = ();

    fn handle(&mut self, GoOn(stripe): GoOn, ctx: &mut Self::Context) {
        self.sweep(stripe, ctx);
    }
}

impl Actor for Sweeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.node.set(State::Running);
        ctx.run_interval(TICK, |this, ctx| this.tick(ctx));
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

impl Handler<Fall> for Sweeper {
    type Result = ();

    fn handle(&mut self, fall: Fall, _: &mut Self::Context) {
        fall.now();
    }
}
