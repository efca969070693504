//! Digest REGISTERs (RFC 3261 §10.2, §22): each is challenged and answered, two transactions; with `reuse` the nonce at
//! hand serves again, one transaction.

use crate::scenario::{Flow, RunError, Stand, Until};

/// Plays it. Users take turns, so that none has two under way.
pub fn run(stand: &mut Stand<'_>) -> Result<(), RunError> {
    let users = stand.crowd.size();
    if stand.plan.receivers_at.is_none() {
        // Each run leaves a contact at ports of its own, and a user may have but a few.
        stand.register(0..users, 0)?;
    }
    let unit = if stand.plan.reuse { "REGISTER" } else { "REGISTER (401, then 200)" };
    let flow = Flow { name: "register", unit, good: &[200], until: Until::Time, at_once: users as usize };
    stand.flow(
        &flow,
        |crowd, number, due_ns| {
            let user = u32::try_from(number % u64::from(users)).unwrap_or(0);
            crowd.register(user, due_ns);
        },
        |_, _, _| {},
    )
}
