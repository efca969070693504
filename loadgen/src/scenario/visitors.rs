//! Short sessions among other load: each is set up when its INVITE is answered, both ends say what they have to say, and
//! its caller ends it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::flight::Errand;
use crate::scenario::session::Sessions;
use crate::scenario::{RunError, Stand};

/// So often sessions have a turn while there are any.
const TURN_NS: u64 = 1_000_000;

/// A session that is held.
struct Held {
    pair: usize,
    due_ns: u64,
    since: Instant,
    is_ending: bool,
}

/// The sessions that are held now.
pub(super) struct Visitors {
    sessions: Sessions,
    /// By call.
    held: BTreeMap<u32, Held>,
    answered: Vec<(u32, u16, u64)>,
    ended: Vec<u32>,
}

impl Visitors {
    pub fn new(stand: &Stand<'_>) -> Result<Self, RunError> {
        let mut sessions = Sessions::new(stand)?;
        sessions.talk.speak(true);
        Ok(Self { sessions, held: BTreeMap::new(), answered: Vec::new(), ended: Vec::new() })
    }

    /// Whether any session is held.
    pub fn is_any(&self) -> bool {
        !(self.held.is_empty() && self.answered.is_empty() && self.ended.is_empty())
    }

    /// An INVITE or a BYE was answered.
    pub fn hear(&mut self, errand: Errand, call: u32, status: u16, due_ns: u64) {
        match errand {
            Errand::Invite { .. } => self.answered.push((call, status, due_ns)),
            _ => self.ended.push(call),
        }
    }

    /// One turn; until when SIP may sleep.
    pub fn turn(&mut self, stand: &mut Stand<'_>, until_ns: u64) -> Result<u64, RunError> {
        for (call, status, due_ns) in std::mem::take(&mut self.answered) {
            if status != 200 {
                stand.crowd.forget(call);
                continue;
            }
            let pair = self.sessions.open(stand, call, Some(stand.plan.session_messages))?;
            self.held.insert(call, Held { pair, due_ns, since: Instant::now(), is_ending: false });
        }
        if !self.held.is_empty() {
            self.sessions.talk_once(Duration::ZERO)?;
        }
        let patience = stand.plan.drain;
        for (call, held) in &mut self.held {
            if !held.is_ending && (self.sessions.talk.is_done(held.pair) || held.since.elapsed() > patience) {
                held.is_ending = true;
                self.sessions.talk.expect_end(held.pair);
                let now_ns = stand.crowd.now_ns();
                stand.crowd.bye(*call, now_ns);
            }
        }
        for call in self.ended.drain(..) {
            stand.crowd.forget(call);
            if let Some(held) = self.held.remove(&call) {
                self.sessions.talk.remove(held.pair);
                stand.watch.unit(Some(stand.crowd.now_ns().saturating_sub(held.due_ns)));
            }
        }
        Ok(if self.held.is_empty() { until_ns } else { until_ns.min(stand.crowd.now_ns() + TURN_NS) })
    }

    /// What was said goes into the report.
    pub fn account(&mut self, stand: &mut Stand<'_>) {
        if stand.plan.session_percent > 0 {
            self.sessions.account(stand);
        }
    }
}
