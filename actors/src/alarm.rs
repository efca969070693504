//! An actor's one timer: it rings when the first of all that its machines wait for is due.

use std::time::{Duration, Instant};

use actix::prelude::*;

/// The timer, while it is set.
#[derive(Debug, Default)]
pub struct Alarm(Option<(Instant, SpawnHandle)>);

impl Alarm {
    /// Is to ring at `next`, or not at all; `ring` begins with [`Alarm::rang`]. One that is set to ring before stays: who
    /// is rung too early only looks and sets it again, and a busy actor does not move its timer.
    pub fn set<A>(
        &mut self,
        next: Option<Instant>,
        now: Instant,
        ctx: &mut Context<A>,
        ring: fn(&mut A, &mut Context<A>),
    ) where
        A: Actor<Context = Context<A>>,
    {
        if let Some((at, handle)) = self.0 {
            if next.is_some_and(|next| at <= next) && at > now {
                return;
            }
            ctx.cancel_future(handle);
        }
        self.0 = next.map(|next| {
            let wait = next.saturating_duration_since(now).max(Duration::from_millis(1));
            (now + wait, ctx.run_later(wait, ring))
        });
    }

    /// It has rung, and is set no more.
    pub fn rang(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Waiting {
        alarm: Alarm,
        rung: usize,
    }

    #[derive(Message)]
    #[rtype(result = "usize")]
    struct SetTo(Vec<Option<u64>>);

    impl Actor for Waiting {
        type Context = Context<Self>;
    }

    impl Handler<SetTo> for Waiting {
        type Result = usize;

        fn handle(&mut self, SetTo(waits): SetTo, ctx: &mut Context<Self>) -> usize {
            let now = Instant::now();
            for wait in waits {
                let next = wait.map(|ms| now + Duration::from_millis(ms));
                self.alarm.set(next, now, ctx, |this, _| {
                    this.alarm.rang();
                    this.rung += 1;
                });
            }
            self.rung
        }
    }

    #[actix::test]
    async fn it_rings_once_for_the_first_and_not_when_nothing_is_waited_for() {
        for (waits, rings) in [
            (vec![Some(20)], 1),
            (vec![Some(20), Some(40), Some(60_000)], 1),
            (vec![Some(60_000), Some(20)], 1),
            (vec![Some(0)], 1),
            (vec![Some(20), None], 0),
            (vec![None], 0),
        ] {
            let actor = Waiting::default().start();
            assert_eq!(actor.send(SetTo(waits.clone())).await.unwrap(), 0);
            tokio::time::sleep(Duration::from_millis(120)).await;
            assert_eq!(actor.send(SetTo(Vec::new())).await.unwrap(), rings, "{waits:?}");
        }
    }
}
