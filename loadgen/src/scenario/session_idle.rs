//! Sessions in which nothing is said: what one weighs in the server's memory, and what all of them cost while idle.
//!
//! A slope: the first tenth of them is there when memory is read first, and the users of all are registered before.

use crate::scenario::session::{Sessions, register};
use crate::scenario::{RunError, Stand};

/// Plays it.
pub fn run(stand: &mut Stand<'_>) -> Result<(), RunError> {
    let plan = stand.plan;
    let pairs = u32::try_from(plan.pairs).unwrap_or(u32::MAX);
    let first = (pairs / 10).max(1).min(pairs);
    register(stand, pairs)?;
    let mut sessions = Sessions::new(stand)?;
    sessions.set_up(stand, first, Some(0))?;
    sessions.talk_for(stand, plan.hold, "holding")?;
    let before = stand.watch.rss_bytes();
    sessions.set_up(stand, pairs - first, Some(0))?;
    sessions.talk_for(stand, plan.hold, "holding")?;
    let after = stand.watch.rss_bytes();
    if pairs > first {
        let grown = before.zip(after).map(|(before, after)| after as f64 - before as f64);
        stand.watch.memory().bytes_per_session = grown.map(|grown| grown / f64::from(pairs - first));
    }
    stand.watch.begin(stand.crowd, "idle", "session held")?;
    sessions.talk_for(stand, plan.duration, "idle")?;
    (0..pairs).for_each(|_| stand.watch.unit(None));
    stand.watch.end(stand.crowd)?;
    sessions.hang_up(stand)
}
