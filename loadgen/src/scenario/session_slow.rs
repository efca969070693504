//! One long message to a receiver who reads slowly: the server must hold the sender back, and its memory stay flat.

use std::time::{Duration, Instant};

use crate::scenario::session::{Sessions, register};
use crate::scenario::{RunError, Stand};

/// How often memory is looked at and the progress drawn.
const LOOK: Duration = Duration::from_millis(200);
/// Growth of the server's memory that is still flat: the buffers of one turn, pools.
pub const FLAT_BYTES: f64 = 16.0 * 1_048_576.0;

/// Plays it.
pub fn run(stand: &mut Stand<'_>) -> Result<(), RunError> {
    register(stand, 1)?;
    let mut sessions = Sessions::new(stand)?;
    sessions.callers_only();
    sessions.set_up(stand, 1, Some(1))?;
    sessions.talk.slow_down(0, 1, stand.plan.receive_rate * 1e6);
    stand.watch.sample(stand.crowd.now_ns());
    stand.watch.begin(stand.crowd, "slow", "SEND")?;
    sessions.talk.speak(true);
    let (mut heard, mut since) = (0, Instant::now());
    while !sessions.talk.is_done(0) && since.elapsed() < stand.plan.drain {
        sessions.talk_for(stand, LOOK, "reading slowly")?;
        stand.watch.sample(stand.crowd.now_ns());
        if sessions.talk.octets() > heard {
            (heard, since) = (sessions.talk.octets(), Instant::now());
        }
    }
    stand.watch.end(stand.crowd)?;
    sessions.hang_up(stand)
}
