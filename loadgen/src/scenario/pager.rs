//! Page messages to receivers who are there (RFC 3428): each is relayed, and its 200 comes back.

use crate::scenario::{Flow, RunError, Stand, Until, letter};

/// Plays it: everybody registers, then everybody writes to everybody.
pub fn run(stand: &mut Stand<'_>) -> Result<(), RunError> {
    if stand.plan.receivers_at.is_none() {
        stand.register_afresh(0..stand.crowd.size())?;
    }
    let flow = Flow { name: "pager", unit: "MESSAGE relayed", good: &[200], until: Until::Time, at_once: usize::MAX };
    stand.flow(
        &flow,
        |crowd, number, due_ns| {
            let errand = letter(crowd, number);
            crowd.begin(errand, due_ns);
        },
        |_, _, _| {},
    )?;
    stand.drain()
}
