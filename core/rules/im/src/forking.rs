//! A request on its way to several devices: which are tried when, what is passed back at once, and which of their refusals
//! is the answer (RFC 3261 §16.6, §16.7).
//!
//! ```text
//!  start ──> the highest q that is left, all at once ──┬─ 1xx ──────────────> Pass          INVITE alone
//!              ▲      each answers, fails, is silent   ├─ 2xx ──────────────> Succeed       at once; INVITE: every one,
//!              │                                       │                                    and the others are cancelled
//!              └─ lower q left, no 6xx, no CANCEL ─────┤
//!                                                      └─ all are refusals ─> Refuse (the best), Status, or Abandon
//! ```
//!
//! Of everything but 2xx of an INVITE the caller is told one final answer. A request other than INVITE is never answered
//! 408 (RFC 4320 §4.2): who has nothing else to say says nothing.

use std::collections::VecDeque;
use std::time::Instant;

use base::Now;

use crate::pager::{Patience, Target};

/// What kind of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rings until it is answered, refused or cancelled.
    Invite,
    /// Any other: its sender gives up after 64*T1, so who is silent is not waited for before others are tried.
    Other(Patience),
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A response of a device; of an INVITE also every repeat of a 2xx.
    Answer {
        /// Whose.
        target: u32,
        /// Its status.
        status: u16,
    },
    /// Its transaction has ended without a final response: as good as a 408 (RFC 3261 §16.8, §17.1.2.2).
    Silent {
        /// Whose.
        target: u32,
    },
    /// It could not be sent: as good as a 503 (RFC 3261 §16.9).
    Failed {
        /// Whose.
        target: u32,
    },
    /// The caller takes it back (RFC 3261 §16.10).
    Cancelled,
    /// The house closes.
    Leave,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send it to this device, in a transaction of its own.
    Send(u32),
    /// Pass the provisional response that this device has just given.
    Pass(u32),
    /// Pass the 2xx that this device has just given.
    Succeed(u32),
    /// Take it back from this device.
    Cancel {
        /// Whose.
        target: u32,
        /// Because somebody else has answered.
        answered: bool,
    },
    /// Pass this device's refusal.
    Refuse {
        /// Whose.
        target: u32,
        /// Whose challenges go with it (RFC 3261 §16.7 step 7).
        challenges: Vec<u32>,
    },
    /// Refuse it with a status of our own.
    Status(u16),
    /// Say nothing: the sender has given up.
    Abandon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not tried yet.
    Waiting,
    /// Sent.
    Tried { cancelled: bool },
    /// Sent, and lower ones are not kept waiting for it any more.
    Quiet,
    /// Answered, or as good as answered.
    Final { status: u16, heard: bool },
    /// Never to be tried.
    Over,
}

#[derive(Debug)]
struct Branch {
    target: Target,
    state: State,
}

/// The machine of one request to one user's devices.
#[derive(Debug)]
pub struct Forking {
    kind: Kind,
    branches: Vec<Branch>,
    /// How many may be under way at once.
    breadth: usize,
    /// The preference that is being tried.
    round: u16,
    cancelled: bool,
    decided: bool,
    outputs: VecDeque<Output>,
    round_due: Option<Instant>,
    answer_due: Option<Instant>,
}

impl Forking {
    /// Begins: to these devices, at most `breadth` at once (RFC 5393 §5.3.3: no more than Max-Breadth allows).
    pub fn start(targets: impl IntoIterator<Item = Target>, kind: Kind, breadth: usize, now: Now) -> Self {
        let answer_due = match kind {
            Kind::Invite => None,
            Kind::Other(patience) => Some(now.at + patience.answer_by),
        };
        let waiting = |target| Branch { target, state: State::Waiting };
        let mut branches: Vec<Branch> = targets.into_iter().map(waiting).collect();
        // Of equal refusals the one of the device that was to be tried first is the answer.
        branches.sort_by_key(|branch| std::cmp::Reverse(branch.target.q));
        let mut forking = Self { branches, answer_due, ..Self::blank(kind, breadth) };
        forking.go_on(now.at);
        forking
    }

    /// Of a request whose passage has fallen: its devices are told that it is over, its caller that something broke.
    pub fn broken(open: &[u32]) -> Self {
        let tried = |id: &u32| Branch { target: Target { id: *id, q: 0 }, state: State::Tried { cancelled: false } };
        let mut forking = Self { branches: open.iter().map(tried).collect(), ..Self::blank(Kind::Invite, 0) };
        forking.conclude_with(Output::Status(500));
        forking.cancel_all(false);
        forking
    }

    fn blank(kind: Kind, breadth: usize) -> Self {
        Self {
            kind,
            branches: Vec::new(),
            breadth,
            round: 0,
            cancelled: false,
            decided: false,
            outputs: VecDeque::new(),
            round_due: None,
            answer_due: None,
        }
    }

    /// Takes in what happened. What is said of devices that were not tried, or have answered, is passed over.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Answer { status: ..=100, .. } => {}
            Input::Answer { target, status: ..200 } => self.ring(target),
            Input::Answer { target, status: 200..300 } => self.succeed(target),
            Input::Answer { target, status } => self.settle(target, status, true, now.at),
            Input::Silent { target } => self.settle(target, 408, false, now.at),
            Input::Failed { target } => self.settle(target, 503, false, now.at),
            Input::Cancelled => self.give_up(now.at),
            Input::Leave if self.decided => {}
            Input::Leave => {
                self.conclude_with(Output::Status(503));
                self.cancel_all(false);
            }
        }
    }

    /// What is to be done next; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Forking::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.round_due.into_iter().chain(self.answer_due).min();
        due.filter(|_| !self.decided)
    }

    /// Looks at what has become of the time.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.decided {
            return;
        }
        if self.round_due.take_if(|due| *due <= now.at).is_some() && self.waits() {
            for branch in &mut self.branches {
                if matches!(branch.state, State::Tried { .. }) {
                    branch.state = State::Quiet;
                }
            }
            self.go_on(now.at);
        }
        // What is known by now is better than an answer that comes too late (RFC 4320 §2.2).
        if self.answer_due.take_if(|due| *due <= now.at).is_some() && self.best().is_some_and(|best| best.1 != 408) {
            self.conclude();
        }
    }

    /// Whether the caller has his answer.
    pub fn is_decided(&self) -> bool {
        self.decided
    }

    /// Whether nothing can come any more.
    pub fn is_over(&self) -> bool {
        self.decided && !self.branches.iter().any(|branch| branch.is_open())
    }

    fn ring(&mut self, target: u32) {
        // RFC 3261 §16.7 step 5; RFC 4320 §4.1: provisional responses are an INVITE's alone.
        let is_open = self.branches.iter().any(|branch| branch.target.id == target && branch.is_open());
        if is_open && !self.decided && self.kind == Kind::Invite {
            self.outputs.push_back(Output::Pass(target));
        }
    }

    fn succeed(&mut self, target: u32) {
        let is_invite = self.kind == Kind::Invite;
        let Some(branch) = self.branches.iter_mut().find(|branch| branch.target.id == target) else { return };
        let is_repeat = matches!(branch.state, State::Final { status: 200..300, .. });
        if !branch.is_open() && !is_repeat {
            return;
        }
        branch.state = State::Final { status: 200, heard: true };
        // RFC 3261 §16.7 step 5: any 2xx to an INVITE goes on, also after the final answer; RFC 6026 §7.
        if is_invite || !self.decided {
            self.conclude_with(Output::Succeed(target));
        }
        self.cancel_all(true);
    }

    fn settle(&mut self, target: u32, status: u16, heard: bool, now: Instant) {
        let Some(branch) = self.branches.iter_mut().find(|branch| branch.target.id == target && branch.is_open())
        else {
            return;
        };
        branch.state = State::Final { status, heard };
        if self.decided {
            return;
        }
        // RFC 3261 §16.7 step 5: nobody else is tried, and who rings is to stop.
        if status >= 600 {
            self.drop_waiting();
            self.cancel_all(false);
        }
        self.go_on(now);
    }

    fn give_up(&mut self, now: Instant) {
        if self.kind == Kind::Invite && !self.decided {
            self.cancelled = true;
            self.drop_waiting();
            self.cancel_all(false);
            self.go_on(now);
        }
    }

    fn drop_waiting(&mut self) {
        let waiting = self.branches.iter_mut().filter(|branch| branch.state == State::Waiting);
        waiting.for_each(|branch| branch.state = State::Over);
    }

    /// RFC 3261 §16.7 step 10: only an INVITE can be taken back.
    fn cancel_all(&mut self, answered: bool) {
        if self.kind != Kind::Invite {
            return;
        }
        for branch in &mut self.branches {
            if let State::Tried { cancelled: cancelled @ false } = &mut branch.state {
                *cancelled = true;
                self.outputs.push_back(Output::Cancel { target: branch.target.id, answered });
            }
        }
    }

    fn waits(&self) -> bool {
        self.branches.iter().any(|branch| branch.state == State::Waiting)
    }

    /// Tries more devices where there are more, or concludes when every one has answered.
    fn go_on(&mut self, now: Instant) {
        let active = self.branches.iter().filter(|branch| matches!(branch.state, State::Tried { .. })).count();
        let waiting = self.branches.iter().filter(|branch| branch.state == State::Waiting);
        if let Some(q) = waiting.map(|branch| branch.target.q).max() {
            if active == 0 || q == self.round {
                self.try_more(q, self.breadth.saturating_sub(active), now);
            }
        } else if !self.branches.iter().any(|branch| branch.is_open()) {
            self.conclude();
        }
    }

    fn try_more(&mut self, q: u16, room: usize, now: Instant) {
        if self.breadth == 0 {
            // RFC 5393 §5.3.3.
            return self.conclude_with(Output::Status(440));
        }
        let next = self.branches.iter_mut().filter(|branch| branch.state == State::Waiting && branch.target.q == q);
        for branch in next.take(room) {
            branch.state = State::Tried { cancelled: false };
            self.outputs.push_back(Output::Send(branch.target.id));
        }
        self.round = q;
        if let Kind::Other(patience) = self.kind {
            self.round_due = Some(now + patience.silence);
        }
    }

    /// The best refusal so far: its device, its status, and whether the device has said it.
    fn best(&self) -> Option<(u32, u16, bool)> {
        let is_invite = self.kind == Kind::Invite;
        let refusals = self.branches.iter().filter_map(|branch| match branch.state {
            State::Final { status, heard } => Some((branch.target.id, status, heard)),
            _ => None,
        });
        refusals.min_by_key(|(_, status, _)| rank(*status, is_invite))
    }

    fn conclude(&mut self) {
        let output = match self.best() {
            None if self.cancelled => Output::Status(487),
            // Nobody there at all.
            None => Output::Status(480),
            Some((_, 408, _)) if self.cancelled => Output::Status(487),
            Some((_, 408, _)) if self.kind != Kind::Invite => Output::Abandon,
            // RFC 3261 §16.7 step 6: a 503 is that device's alone, not the whole house's.
            Some((_, 503, _)) => Output::Status(500),
            Some((_, status, false)) => Output::Status(status),
            Some((target, status, true)) => Output::Refuse { target, challenges: self.challenges(target, status) },
        };
        self.conclude_with(output);
    }

    fn challenges(&self, best: u32, status: u16) -> Vec<u32> {
        let is_challenge = |state| matches!(state, State::Final { status: 401 | 407, heard: true });
        let others = self.branches.iter().filter(|branch| is_challenge(branch.state) && branch.target.id != best);
        let others = others.map(|branch| branch.target.id);
        if matches!(status, 401 | 407) { others.collect() } else { Vec::new() }
    }

    fn conclude_with(&mut self, output: Output) {
        // RFC 3261 §16.6: who was not tried when the answer is known is not tried.
        self.drop_waiting();
        self.outputs.push_back(output);
        self.decided = true;
    }
}

impl Branch {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Tried { .. } | State::Quiet)
    }
}

/// RFC 3261 §16.7 step 6: the lowest is the best: 6xx, else the lowest class, and of 4xx rather what tells the caller how
/// to do better than that somebody was not there. What may not be said at all (RFC 4320 §4.2) comes last.
fn rank(status: u16, is_invite: bool) -> (u16, u8) {
    match status {
        600.. => (0, 0),
        401 | 407 | 415 | 420 | 484 => (4, 0),
        408 if !is_invite => (7, 0),
        408 | 430 | 480 => (4, 2),
        _ => (status / 100, 1),
    }
}

#[cfg(test)]
#[path = "forking_tests.rs"]
mod tests;
