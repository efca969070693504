//! Users who register and do nothing: what they weigh in the server's memory. With `messages`, also what a transaction
//! weighs that is kept for its timer (32 s: RFC 3261 §17.2.2, timer J).
//!
//! Both are slopes: the first tenth is there when memory is read first, so that what a server allocates for its first
//! user is not laid to the charge of the others. Their transactions are still kept then; so those of all others are
//! waited for ([`crate::plan::Plan::hold`]), and the first tenth comes once more before memory is read again: as many
//! are kept both times, and one wait is enough.

use std::time::Duration;

use crate::crowd::Event;
use crate::scenario::{RunError, Stand, letter};

/// How long a server may still be busy with what it has answered.
const SETTLE: Duration = Duration::from_secs(1);

/// Plays it.
pub fn run(stand: &mut Stand<'_>) -> Result<(), RunError> {
    let (size, plan) = (stand.crowd.size(), stand.plan);
    let first = (size / 10).max(1);
    arrive(stand, 0..first)?;
    hold(stand, SETTLE)?;
    let before = stand.watch.rss_bytes();
    arrive(stand, first..size)?;
    hold(stand, plan.hold)?;
    stand.register_afresh(0..first)?;
    hold(stand, SETTLE)?;
    stand.watch.memory().bytes_per_user = slope(before, stand.watch.rss_bytes(), u64::from(size - first));

    if let Some(messages) = plan.messages.filter(|messages| *messages >= 10) {
        let first = messages / 10;
        write(stand, 0, first)?;
        let before = stand.watch.rss_bytes();
        write(stand, first, messages)?;
        stand.watch.memory().bytes_per_transaction = slope(before, stand.watch.rss_bytes(), messages - first);
        stand.drain()?;
    }
    Ok(())
}

/// Some users come and register.
fn arrive(stand: &mut Stand<'_>, who: std::ops::Range<u32>) -> Result<(), RunError> {
    if stand.plan.seats_are_taken_later() {
        stand.crowd.seat(who.clone())?;
    }
    stand.register_afresh(who)
}

/// Octets for each of so many.
fn slope(before: Option<u64>, after: Option<u64>, count: u64) -> Option<f64> {
    Some((after? as f64 - before? as f64) / count.max(1) as f64)
}

/// Does nothing, but listens.
fn hold(stand: &mut Stand<'_>, time: Duration) -> Result<(), RunError> {
    let begun_ns = stand.crowd.now_ns();
    let of_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    loop {
        let past_ns = stand.crowd.now_ns() - begun_ns;
        if past_ns >= of_ns {
            return Ok(());
        }
        stand.turn(begun_ns + of_ns, |_, _, _| {})?;
        stand.watch.tick(stand.crowd, "holding", past_ns, of_ns);
    }
}

/// Messages of some numbers, at the plan's pace.
fn write(stand: &mut Stand<'_>, from: u64, to: u64) -> Result<(), RunError> {
    let mut pace = stand.plan.load.pace(stand.crowd.now_ns());
    let mut number = from;
    while number < to || stand.crowd.under_way() > 0 {
        while number < to
            && let Some(due_ns) = pace.take(stand.crowd.now_ns(), stand.crowd.under_way())
        {
            let errand = letter(stand.crowd, number);
            stand.crowd.begin(errand, due_ns);
            number += 1;
        }
        stand.turn(pace.next_ns().filter(|_| number < to).unwrap_or(u64::MAX), |watch, _, event| {
            if let Event::Done { status, .. } = event {
                watch.outcome(*status, &[200]);
            }
        })?;
        stand.watch.tick(stand.crowd, "writing", number, to);
    }
    Ok(())
}
