//! A shard's clock: ten times a second it looks at the timers of its share of the transaction stripes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use base::limits::STRIPES;

use crate::house::House;
use crate::node::{Node, State};
use crate::pace::pause;
use crate::supervise::{Fall, Leave, Lifeline};
use crate::turn;

const TICK: Duration = Duration::from_millis(100);
/// Timers that one turn deals with (decisions D15): those whose request is sent again cost most, in the system call.
const TIMERS_A_TURN: usize = 16;

/// Sweeps the timers of one shard.
pub struct Sweeper {
    house: Arc<House>,
    shard: usize,
    node: Arc<Node>,
    lifeline: Option<Lifeline>,
}

impl Sweeper {
    /// For shard number `shard`.
    pub fn new(house: Arc<House>, shard: usize, node: Arc<Node>, lifeline: Lifeline) -> Self {
        Self { house, shard, node, lifeline: Some(lifeline) }
    }

    /// Transactions from this stripe on, every so many shards one; what is left when the turn is over follows.
    fn sweep(&mut self, from: usize, ctx: &mut Context<Self>) {
        let (began, now, shards) = (Instant::now(), self.house.now(), self.house.registry.shards());
        let mut stripe = from;
        turn::fill(|turn| {
            let mut left = TIMERS_A_TURN;
            while stripe < STRIPES {
                left -= self.house.transactions.sweep_stripe(turn, now, stripe, left);
                if left == 0 {
                    break;
                }
                stripe += shards;
            }
        });
        turn::flush();
        self.node.turn_took(began.elapsed());
        if stripe < STRIPES {
            ctx.wait(pause().map(move |(), this: &mut Self, ctx| this.sweep(stripe, ctx)));
        }
    }
}

impl Actor for Sweeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.node.set(State::Running);
        ctx.run_interval(TICK, |this, ctx| this.sweep(this.shard, ctx));
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
