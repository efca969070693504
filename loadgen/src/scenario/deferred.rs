//! Page messages to receivers who are away: stored, answered 202 (RFC 3428 §7), and delivered when they register.

use crate::crowd::Event;
use crate::scenario::{Flow, RunError, Stand, Until, letter, messages};
use crate::watch::SECOND_NS;

/// Plays it: everybody leaves, everybody is written to, everybody comes.
pub fn run(stand: &mut Stand<'_>) -> Result<(), RunError> {
    let everybody = 0..stand.crowd.size();
    stand.register(everybody.clone(), 0)?;
    let until = Until::Count(messages(stand.plan));
    let flow = Flow { name: "store", unit: "MESSAGE stored", good: &[202], until, at_once: usize::MAX };
    stand.flow(
        &flow,
        |crowd, number, due_ns| {
            let errand = letter(crowd, number);
            crowd.begin(errand, due_ns);
        },
        |_, _, _| {},
    )?;
    // The steady state of delivering: from a tenth of the letters to nine tenths.
    let (owed, patience_ns) = (stand.ledger.owed(), u64::try_from(stand.plan.drain.as_nanos()).unwrap_or(u64::MAX));
    let (mut waiting, mut measured, mut quiet_ns) = (everybody, false, stand.crowd.now_ns());
    let mut came = 0;
    while came < owed - owed / 10 && stand.crowd.now_ns() - quiet_ns < patience_ns {
        while stand.crowd.under_way() < 64
            && let Some(user) = waiting.next()
        {
            let now_ns = stand.crowd.now_ns();
            stand.crowd.register(user, now_ns);
        }
        let before = came;
        stand.turn(stand.crowd.now_ns() + SECOND_NS, |watch, _, event| match event {
            Event::Letter { .. } => {
                came += 1;
                watch.unit(None);
            }
            Event::Done { status, .. } => watch.outcome(*status, &[200]),
        })?;
        if came > before {
            quiet_ns = stand.crowd.now_ns();
        }
        if !measured && came >= owed / 10 {
            measured = true;
            stand.watch.begin(stand.crowd, "deliver", "letter delivered")?;
        }
        stand.watch.tick(stand.crowd, "deliver", came, owed);
    }
    stand.watch.end(stand.crowd)?;
    stand.drain()
}
