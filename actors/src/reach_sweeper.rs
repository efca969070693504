//! Takes rows out of `Reach` whose last binding is over: a few times a second it looks at some stripes of its shard's share,
//! one a turn, so that a million rows that end together hold up nobody (decisions D15).

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;

use crate::house::House;
use crate::node::{Node, State};
use crate::pace::pause;
use crate::reach::ReachTable;
use crate::supervise::{Fall, Leave, Lifeline};

const TICK: Duration = Duration::from_millis(200);
/// How many stripes a tick: all 1,024 in less than a minute.
const STRIPES_A_TICK: usize = 4;
/// Rows that one turn takes out. Each costs half a microsecond, and the look over a stripe of a million users 25.
const ROWS_A_TURN: usize = 64;

/// Sweeps one shard's share of `Reach`.
pub struct ReachSweeper {
    house: Arc<House>,
    node: Arc<Node>,
    /// The next of its share.
    stripe: usize,
    lifeline: Option<Lifeline>,
}

impl ReachSweeper {
    /// For shard number `shard`.
    pub fn new(house: Arc<House>, shard: usize, node: Arc<Node>, lifeline: Lifeline) -> Self {
        Self { house, node, stripe: shard, lifeline: Some(lifeline) }
    }

    fn sweep(&mut self, left: usize, ctx: &mut Context<Self>) {
        let began = Instant::now();
        let swept = self.house.reach.sweep(self.stripe, self.house.now().unix_s(), ROWS_A_TURN);
        self.node.turn_took(began.elapsed());
        let left = if swept < ROWS_A_TURN {
            self.stripe += self.house.registry.shards();
            if self.stripe >= ReachTable::stripes() {
                self.stripe -= ReachTable::stripes();
            }
            left - 1
        } else {
            left
        };
        if left > 0 {
            ctx.wait(pause().map(move |(), this: &mut Self, ctx| this.sweep(left, ctx)));
        } else {
            self.rest(ctx);
        }
    }

    fn rest(&self, ctx: &mut Context<Self>) {
        ctx.run_later(TICK, |this, ctx| this.sweep(STRIPES_A_TICK, ctx));
    }
}

impl Actor for ReachSweeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.node.set(State::Running);
        self.rest(ctx);
    }
}

impl Handler<Leave> for ReachSweeper {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        if let Some(lifeline) = self.lifeline.take() {
            lifeline.leave();
        }
        ctx.stop();
    }
}

impl Handler<Fall> for ReachSweeper {
    type Result = ();

    fn handle(&mut self, fall: Fall, _: &mut Self::Context) {
        fall.now();
    }
}
