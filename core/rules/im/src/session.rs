//! A session of two: who is rung, which answer takes it, what the caller is told, and when it is over (RFC 3261 §9, §13
//! to §16.7, as a back-to-back user agent).
//!
//! ```text
//!            contacts           2xx of a branch           BYE, lost, idle,
//!            are known          takes the session         unbound, no ACK
//!  Locating ──────────> Calling ─────────────────> Talking ───────────────> Ending ──────> Over
//!     │                    │                                                  ▲   every branch has ended,
//!     │ absent, CANCEL     │ all refused, 6xx, CANCEL, no answer in time      │   every BYE has left
//!     └────────────────────┴──────────────────────────────────────────────────┘
//! ```
//!
//! A branch is an INVITE to one contact of the callee:
//!
//! ```text
//!  Waiting ── its turn ──> Open ──┬─ 2xx, first of all ──> Won
//!     │                     │     └─ refusal, silence ───> Refused, Failed
//!     │ decided             └─ Cancelled ── 2xx all the same: HangUp (ACK and BYE) ──> Over
//!     └───────────────────────────────────────────────────────────────────────────────> Over
//! ```
//!
//! Exactly one of Accept and Refuse is said to the caller; `Ended` is the last output of all. Bytes, dialogs and media
//! are the shell's: what is said here of a side is meant for the dialog with that side.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use base::limits::{SESSION_BIND_TIME_MAX, SESSION_IDLE, SESSION_LOCATE_TIME_MAX, SESSION_RING_TIME_MAX};

use crate::pager::{Target, is_away, rank};

/// Which leg of a one-to-one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who called.
    Caller = 0,
    /// Who was called.
    Callee = 1,
}

impl Side {
    /// Both, the caller first.
    pub const BOTH: [Self; 2] = [Self::Caller, Self::Callee];

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// First pause between two copies of a 2xx (RFC 3261 §13.3.1.4: T1); 64 times that without ACK is too long.
    pub t1: Duration,
    /// Longest such pause (T2).
    pub t2: Duration,
    /// The callee's contacts must be known by then.
    pub locate: Duration,
    /// It may ring so long in all, above the 3 minutes of RFC 3261 §16.6 step 11; then the caller hears 480.
    pub ring: Duration,
    /// The caller wants it to ring no longer than this; then it hears 487 (RFC 3261 §13.3.1).
    pub expires: Option<Duration>,
    /// Both connections must have come by then (decisions D9).
    pub bind: Duration,
    /// A session in which nothing is said ends after this; zero: never.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            locate: SESSION_LOCATE_TIME_MAX,
            ring: SESSION_RING_TIME_MAX,
            expires: None,
            bind: SESSION_BIND_TIME_MAX,
            idle: SESSION_IDLE,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The callee's contacts.
    Found(Vec<Target>),
    /// There are none: nobody of this name (404), or not to be reached (480).
    Absent(u16),
    /// A branch's provisional response.
    Provisional {
        /// Whose.
        branch: u32,
        /// Its status.
        status: u16,
    },
    /// A branch's first 2xx.
    Accepted {
        /// Whose.
        branch: u32,
        /// Whether its answer can be worked with; if not, it counts as a 488.
        usable: bool,
    },
    /// A branch's refusal, 300 to 699.
    Refused {
        /// Whose.
        branch: u32,
        /// Its status.
        status: u16,
    },
    /// A branch has ended without a final response, or could not be sent.
    Failed {
        /// Whose.
        branch: u32,
    },
    /// The caller's CANCEL.
    Cancelled,
    /// A new offer in a re-INVITE.
    Offered {
        /// Whose.
        side: Side,
        /// The number in its CSeq.
        number: u32,
        /// The status by which the offer itself is refused.
        fault: Option<u16>,
    },
    /// The ACK for a 2xx of ours.
    Acknowledged {
        /// Whose.
        side: Side,
        /// The number in its CSeq.
        number: u32,
    },
    /// A BYE, which the shell answers 200.
    HungUp(Side),
    /// The switch has a connection for this leg of the session that was taken.
    Bound(Side),
    /// It has lost it.
    Lost(Side),
    /// The session timer of either dialog ran out, or its refresh failed (RFC 4028 §10).
    Lapsed,
    /// A reliable provisional response to the caller was never acknowledged (RFC 3262 §3).
    Unheard,
    /// When something was said last.
    Heard(Instant),
    /// The server stops.
    Leave,
}

/// What the caller is told in place of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// This branch's refusal, as it is.
    Relay(u32),
    /// A status of our own.
    Status(u16),
}

/// Why a side is sent a BYE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The other side has hung up.
    HungUp,
    /// Nothing was said for too long.
    Idle,
    /// A connection did not come in time.
    Unbound,
    /// A connection was lost.
    Lost,
    /// A 2xx of ours was never acknowledged.
    NoAck,
    /// Its session timer ran out (RFC 4028 §10).
    Lapsed,
    /// The session has broken down.
    Broken,
    /// The server stops.
    Leaving,
}

impl Why {
    /// The value of a Reason header (RFC 3326 §2); nothing where the other side's own reason is passed on.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::HungUp => None,
            Self::Idle => Some(r#"SIP;cause=408;text="Session was idle""#),
            Self::Unbound => Some(r#"SIP;cause=480;text="Media connection did not come""#),
            Self::Lost => Some(r#"SIP;cause=480;text="Media connection was lost""#),
            Self::NoAck => Some(r#"SIP;cause=408;text="No ACK""#),
            Self::Lapsed => Some(r#"SIP;cause=408;text="Session Expired""#),
            Self::Broken => Some(r#"SIP;cause=500;text="Server Internal Error""#),
            Self::Leaving => Some(r#"SIP;cause=503;text="Server is stopping""#),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Find out the callee's contacts.
    Locate,
    /// Send the INVITE to this contact.
    Invite(u32),
    /// Tell the caller 180.
    Ring,
    /// Take the INVITE of this branch back.
    Cancel {
        /// Which.
        branch: u32,
        /// Because another one has taken the session (RFC 3326 §2).
        answered: bool,
    },
    /// This branch has the session: acknowledge its 2xx, and answer the caller's INVITE with 200.
    Accept(u32),
    /// Refuse the caller's INVITE.
    Refuse(Refusal),
    /// Acknowledge the 2xx of this branch and send it a BYE: it came too late, or cannot be worked with.
    HangUp(u32),
    /// Send the 2xx with this number again.
    Repeat {
        /// To whom.
        side: Side,
        /// The number in its CSeq.
        number: u32,
    },
    /// Answer the re-INVITE with this number: with 200 its offer holds.
    Answer {
        /// Whose.
        side: Side,
        /// The number in its CSeq.
        number: u32,
        /// The final status.
        status: u16,
    },
    /// Send this side a BYE.
    Bye {
        /// To whom.
        side: Side,
        /// Its reason.
        why: Why,
    },
    /// Nothing more will come.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Open,
    Cancelled,
    Won,
    Refused(u16),
    Failed,
    Over,
}

#[derive(Debug)]
struct Branch {
    target: Target,
    state: State,
}

impl Branch {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Cancelled)
    }
}

#[derive(Debug)]
enum Phase {
    Locating { until: Instant },
    Calling { until: Instant, over: u16, rang: bool },
    Talking(Talk),
    Ending,
    Over,
}

#[derive(Debug)]
struct Talk {
    bound: [bool; 2],
    bind_until: Instant,
    heard: Instant,
}

/// A 2xx of ours that is repeated until its ACK comes.
#[derive(Debug)]
struct Unacked {
    side: Side,
    number: u32,
    again_at: Instant,
    pause: Duration,
    until: Instant,
}

/// What has become of the dialog with one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialog {
    /// There is none, or it has ended.
    None,
    Stands,
    /// It gets a BYE as soon as its ACK has come (RFC 3261 §15).
    Parting(Why),
}

/// The machine of one session.
#[derive(Debug)]
pub struct Session {
    patience: Patience,
    phase: Phase,
    /// The number of the caller's INVITE.
    number: u32,
    branches: Vec<Branch>,
    dialogs: [Dialog; 2],
    unacked: Vec<Unacked>,
    outputs: VecDeque<Output>,
}

impl Session {
    /// For an INVITE with this number in its CSeq that has just come.
    pub fn start(number: u32, patience: Patience, now: Instant) -> Self {
        Self {
            patience,
            phase: Phase::Locating { until: now + patience.locate },
            number,
            branches: Vec::new(),
            dialogs: [Dialog::None; 2],
            unacked: Vec::new(),
            outputs: VecDeque::from([Output::Locate]),
        }
    }

    /// The end of a session whose machine was lost: what it has left open is closed. `owed`: the caller has no final
    /// answer yet; `open`: branches that may still answer; `stands`: sides with a dialog (decisions D20).
    pub fn broken(owed: bool, open: &[u32], stands: [bool; 2], patience: Patience, now: Instant) -> Self {
        let mut session = Self::start(0, patience, now);
        session.outputs.clear();
        session.branches =
            open.iter().map(|id| Branch { target: Target { id: *id, q: 0 }, state: State::Open }).collect();
        session.dialogs = stands.map(|stands| if stands { Dialog::Stands } else { Dialog::None });
        if owed {
            session.outputs.push_back(Output::Refuse(Refusal::Status(500)));
        }
        session.cancel_open(false);
        session.end(Why::Broken, None);
        session
    }

    /// Takes in what happened. What is said of branches that are not open any more is passed over.
    pub fn handle(&mut self, input: Input, now: Instant) {
        if let (Input::Heard(at), Phase::Talking(talk)) = (&input, &mut self.phase) {
            talk.heard = talk.heard.max(*at); // before anybody calls it silent
        }
        self.handle_timeout(now);
        match input {
            Input::Found(targets) => self.handle_found(targets, now),
            Input::Absent(status) => {
                if matches!(self.phase, Phase::Locating { .. }) {
                    self.refuse(Refusal::Status(status));
                }
            }
            Input::Provisional { branch, status } => self.handle_provisional(branch, status),
            Input::Accepted { branch, usable } => self.handle_accepted(branch, usable, now),
            Input::Refused { branch, status } => self.settle_branch(branch, State::Refused(status)),
            Input::Failed { branch } => self.settle_branch(branch, State::Failed),
            Input::Cancelled => self.handle_cancelled(),
            Input::Offered { side, number, fault } => self.handle_offered(side, number, fault, now),
            Input::Acknowledged { side, number } => self.handle_acknowledged(side, number),
            Input::HungUp(side) => self.handle_hung_up(side),
            Input::Bound(side) => {
                if let Phase::Talking(talk) = &mut self.phase {
                    talk.bound[side as usize] = true;
                }
            }
            Input::Lost(_) => {
                if matches!(self.phase, Phase::Talking(_)) {
                    self.end(Why::Lost, None);
                }
            }
            Input::Lapsed => {
                if matches!(self.phase, Phase::Talking(_)) {
                    self.end(Why::Lapsed, None);
                }
            }
            Input::Unheard => {
                if self.is_open() {
                    self.refuse(Refusal::Status(504));
                }
            }
            Input::Heard(_) => {}
            Input::Leave => self.handle_leave(),
        }
    }

    /// What is to be done next; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to give it an [`Input::Heard`], or call [`Session::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Locating { until } | Phase::Calling { until, .. } => Some(*until),
            Phase::Talking(talk) => [self.bind_at(talk), self.idle_at(talk)].into_iter().flatten().min(),
            Phase::Ending | Phase::Over => None,
        };
        self.unacked.iter().map(|each| each.again_at.min(each.until)).chain(phase).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.repeat(now);
        match &self.phase {
            Phase::Locating { until } if *until <= now => self.refuse(Refusal::Status(503)),
            Phase::Calling { until, over, .. } if *until <= now => self.refuse(Refusal::Status(*over)),
            Phase::Talking(talk) if self.bind_at(talk).is_some_and(|at| at <= now) => self.end(Why::Unbound, None),
            Phase::Talking(talk) if self.idle_at(talk).is_some_and(|at| at <= now) => self.end(Why::Idle, None),
            Phase::Locating { .. } | Phase::Calling { .. } | Phase::Talking(_) | Phase::Ending | Phase::Over => {}
        }
    }

    /// Whether the caller has no final answer yet.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Locating { .. } | Phase::Calling { .. })
    }

    /// Whether it was taken, and not ended since.
    pub fn is_talking(&self) -> bool {
        matches!(self.phase, Phase::Talking(_))
    }

    /// Whether `Ended` has been said or waits to be polled.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    fn bind_at(&self, talk: &Talk) -> Option<Instant> {
        (talk.bound != [true; 2]).then_some(talk.bind_until)
    }

    fn idle_at(&self, talk: &Talk) -> Option<Instant> {
        (!self.patience.idle.is_zero()).then(|| talk.heard + self.patience.idle)
    }

    fn handle_found(&mut self, targets: Vec<Target>, now: Instant) {
        if !matches!(self.phase, Phase::Locating { .. }) {
            return;
        }
        let (wait, over) = match self.patience.expires {
            Some(expires) if expires < self.patience.ring => (expires, 487),
            _ => (self.patience.ring, 480),
        };
        self.phase = Phase::Calling { until: now + wait, over, rang: false };
        self.branches = targets.into_iter().map(|target| Branch { target, state: State::Waiting }).collect();
        self.go_on();
    }

    fn handle_provisional(&mut self, branch: u32, status: u16) {
        let is_open = self.branches.iter().any(|each| each.target.id == branch && each.state == State::Open);
        if let Phase::Calling { rang: rang @ false, .. } = &mut self.phase
            && is_open
            && status == 180
        {
            *rang = true;
            self.outputs.push_back(Output::Ring);
        }
    }

    fn handle_accepted(&mut self, branch: u32, usable: bool, now: Instant) {
        let Some(each) = self.branches.iter_mut().find(|each| each.target.id == branch && each.is_open()) else {
            return;
        };
        if !matches!(self.phase, Phase::Calling { .. }) {
            // RFC 3261 §13.2.2.4: a 2xx that nobody wants any more is acknowledged and hung up.
            each.state = State::Over;
            self.outputs.push_back(Output::HangUp(branch));
            return self.settle();
        }
        if !usable {
            self.outputs.push_back(Output::HangUp(branch));
            return self.settle_branch(branch, State::Refused(488));
        }
        each.state = State::Won;
        self.outputs.push_back(Output::Accept(branch));
        self.cancel_open(true);
        self.dialogs = [Dialog::Stands; 2];
        self.phase = Phase::Talking(Talk { bound: [false; 2], bind_until: now + self.patience.bind, heard: now });
        self.expect_ack(Side::Caller, self.number, now);
    }

    fn handle_cancelled(&mut self) {
        // RFC 3261 §9.2: no effect once there is a final answer.
        if self.is_open() {
            self.refuse(Refusal::Status(487));
        }
    }

    fn handle_offered(&mut self, side: Side, number: u32, fault: Option<u16>, now: Instant) {
        if self.is_over() {
            return; // the shell knows no such dialog any more
        }
        let status = match (&self.phase, self.dialogs[side as usize]) {
            // RFC 3261 §14.2: our own INVITE is under way there.
            (Phase::Locating { .. } | Phase::Calling { .. }, _) if side == Side::Callee => 491,
            // RFC 3261 §14.2: theirs is not answered yet.
            (Phase::Locating { .. } | Phase::Calling { .. }, _) => 500,
            (Phase::Talking(_), Dialog::Stands) => fault.unwrap_or(200),
            (Phase::Talking(_) | Phase::Ending | Phase::Over, _) => 481,
        };
        self.outputs.push_back(Output::Answer { side, number, status });
        if status == 200 {
            self.expect_ack(side, number, now);
        }
    }

    fn handle_acknowledged(&mut self, side: Side, number: u32) {
        let before = self.unacked.len();
        self.unacked.retain(|each| (each.side, each.number) != (side, number));
        if self.unacked.len() < before {
            self.part(side);
            self.settle();
        }
    }

    fn handle_hung_up(&mut self, side: Side) {
        match (&self.phase, side) {
            // RFC 3261 §15: the caller may end an early dialog by BYE; the callee must not.
            (Phase::Locating { .. } | Phase::Calling { .. }, Side::Caller) => self.handle_cancelled(),
            (Phase::Locating { .. } | Phase::Calling { .. }, Side::Callee) => {}
            (Phase::Talking(_), _) => self.end(Why::HungUp, Some(side)),
            (Phase::Ending | Phase::Over, _) => {
                self.forget(side);
                self.settle();
            }
        }
    }

    fn handle_leave(&mut self) {
        // Nobody will be here when their ACKs come.
        self.unacked.clear();
        match self.phase {
            Phase::Locating { .. } | Phase::Calling { .. } => self.refuse(Refusal::Status(503)),
            Phase::Talking(_) => self.end(Why::Leaving, None),
            Phase::Ending | Phase::Over => {}
        }
        Side::BOTH.into_iter().for_each(|side| self.part(side));
        self.settle();
    }

    /// A branch has ended without success.
    fn settle_branch(&mut self, branch: u32, state: State) {
        let Some(each) = self.branches.iter_mut().find(|each| each.target.id == branch && each.is_open()) else {
            return;
        };
        each.state = state;
        match (&self.phase, state) {
            // RFC 3261 §16.7 step 5: a 6xx speaks for all contacts.
            (Phase::Calling { .. }, State::Refused(600..)) => self.refuse(Refusal::Relay(branch)),
            (Phase::Calling { .. }, _) => self.go_on(),
            (Phase::Locating { .. } | Phase::Talking(_) | Phase::Ending | Phase::Over, _) => self.settle(),
        }
    }

    /// Begins the next round when this one is done, or concludes when none is left.
    fn go_on(&mut self) {
        if self.branches.iter().any(Branch::is_open) {
            return;
        }
        let waiting = self.branches.iter().filter(|branch| branch.state == State::Waiting);
        match waiting.map(|branch| branch.target.q).max() {
            Some(q) => {
                let round = |branch: &&mut Branch| branch.state == State::Waiting && branch.target.q == q;
                for branch in self.branches.iter_mut().filter(round) {
                    branch.state = State::Open;
                    self.outputs.push_back(Output::Invite(branch.target.id));
                }
            }
            None => self.refuse(best(&self.branches)),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.outputs.push_back(Output::Refuse(refusal));
        self.phase = Phase::Ending;
        self.cancel_open(false);
        self.settle();
    }

    fn cancel_open(&mut self, answered: bool) {
        for branch in &mut self.branches {
            match branch.state {
                State::Waiting => branch.state = State::Over,
                State::Open => {
                    branch.state = State::Cancelled;
                    self.outputs.push_back(Output::Cancel { branch: branch.target.id, answered });
                }
                _ => {}
            }
        }
    }

    /// Ends the talk: a BYE to each side but the one that has hung up itself.
    fn end(&mut self, why: Why, by: Option<Side>) {
        self.phase = Phase::Ending;
        for side in Side::BOTH {
            if by == Some(side) {
                self.forget(side);
            } else if self.dialogs[side as usize] == Dialog::Stands {
                self.dialogs[side as usize] = Dialog::Parting(why);
                self.part(side);
            }
        }
        self.settle();
    }

    /// The BYE of a side that is parting leaves, unless its ACK is still due (RFC 3261 §15).
    fn part(&mut self, side: Side) {
        if let Dialog::Parting(why) = self.dialogs[side as usize]
            && !self.unacked.iter().any(|each| each.side == side)
        {
            self.dialogs[side as usize] = Dialog::None;
            self.outputs.push_back(Output::Bye { side, why });
        }
    }

    fn forget(&mut self, side: Side) {
        self.dialogs[side as usize] = Dialog::None;
        self.unacked.retain(|each| each.side != side);
    }

    fn settle(&mut self) {
        let parting = |dialog: &Dialog| matches!(dialog, Dialog::Parting(_));
        if matches!(self.phase, Phase::Ending)
            && !self.branches.iter().any(Branch::is_open)
            && !self.dialogs.iter().any(parting)
        {
            self.phase = Phase::Over;
            self.outputs.push_back(Output::Ended);
        }
    }

    /// A newer 2xx to the same side takes the place of the one before: who asks anew has heard it (RFC 3261 §14.1).
    fn expect_ack(&mut self, side: Side, number: u32, now: Instant) {
        let (pause, until) = (self.patience.t1, now + self.patience.t1.saturating_mul(64));
        self.unacked.retain(|each| each.side != side);
        self.unacked.push(Unacked { side, number, again_at: now + pause, pause, until });
    }

    /// RFC 3261 §13.3.1.4: a 2xx goes again after T1, doubling up to T2, on every transport; after 64*T1 without an ACK
    /// the session is ended by BYE.
    fn repeat(&mut self, now: Instant) {
        for each in &mut self.unacked {
            if each.again_at <= now && each.until > now {
                each.pause = each.pause.saturating_mul(2).min(self.patience.t2.max(self.patience.t1));
                each.again_at = now + each.pause;
                self.outputs.push_back(Output::Repeat { side: each.side, number: each.number });
            }
        }
        while let Some(at) = self.unacked.iter().position(|each| each.until <= now) {
            let side = self.unacked.swap_remove(at).side;
            if matches!(self.phase, Phase::Talking(_)) {
                self.end(Why::NoAck, None);
            } else {
                self.part(side);
                self.settle();
            }
        }
    }
}

/// RFC 3261 §16.7 step 6, among those that tell the caller something: absence of all is 480, and so is what was meant for
/// us and not for the caller (a challenge, a 422, a 487 that nobody asked for).
fn best(branches: &[Branch]) -> Refusal {
    let useful = |status: u16| !is_away(status) && !matches!(status, 401 | 407 | 422 | 487);
    let refusals = branches.iter().filter_map(|branch| match branch.state {
        State::Refused(status) if useful(status) => Some((rank(status), branch.target.id)),
        _ => None,
    });
    refusals.min_by_key(|(rank, _)| *rank).map_or(Refusal::Status(480), |(_, id)| Refusal::Relay(id))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
