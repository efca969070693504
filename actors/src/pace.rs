//! How an actor lets the others of its shard run. actix handles all that waits in a mailbox, and all that an actor says to
//! itself, without a pause: many short turns in a row would be one long one for everybody else (decisions D15).
//!
//! Turns are counted, not timed: the simulated world plays the same story again however fast its machine is.

use actix::fut::wrap_future;
use actix::prelude::*;

/// Turns of some microseconds that may follow each other: half of D15's hundred and more.
pub const TURNS_IN_A_ROW: usize = 8;

/// Turns in a row.
#[derive(Debug, Default)]
pub struct Pace {
    turns: usize,
}

impl Pace {
    /// A turn is over: after enough of them the actor pauses before the next.
    pub fn turned<A>(&mut self, ctx: &mut Context<A>)
    where
        A: Actor<Context = Context<A>>,
    {
        self.turns += 1;
        if self.turns >= TURNS_IN_A_ROW {
            self.turns = 0;
            ctx.wait(pause());
        }
    }
}

/// All other tasks that are ready run, and the sockets are looked at. To be waited for by `ctx.wait`: meanwhile nothing is
/// taken from the actor's mailbox, so that order and bound stand.
pub fn pause<A: Actor>() -> impl ActorFuture<A, Output = ()> {
    wrap_future(tokio::task::yield_now())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    type Heard = Rc<RefCell<Vec<&'static str>>>;

    struct Busy(Pace, Heard);

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Turn;

    impl Actor for Busy {
        type Context = Context<Self>;
    }

    impl Handler<Turn> for Busy {
        type Result = ();
        fn handle(&mut self, _: Turn, ctx: &mut Self::Context) {
            self.1.borrow_mut().push("turn");
            self.0.turned(ctx);
        }
    }

    #[actix::test]
    async fn after_turns_enough_the_others_run_before_the_next() {
        let heard = Heard::default();
        let busy = Busy(Pace::default(), heard.clone()).start();
        (0..TURNS_IN_A_ROW + 1).for_each(|_| busy.do_send(Turn));
        let other = heard.clone();
        actix_rt::spawn(async move { other.borrow_mut().push("another's") });
        for _ in 0..9 {
            tokio::task::yield_now().await;
        }
        let mut turns = vec!["turn"; TURNS_IN_A_ROW];
        turns.extend(["another's", "turn"]);
        assert_eq!(*heard.borrow(), turns);
    }
}
