//! The INVITE server transaction (RFC 3261 §17.2.1) with the Accepted state of RFC 6026 §7.1.
//!
//! ```text
//!                     INVITE
//!                        │   no answer for 200 ms: ask for a 100
//!                        V
//!                 ┌────────────┐  1xx: send it
//!  INVITE:     ┌──│ Proceeding │──┐   CANCEL: tell the user
//!  send last   └─>└────────────┘<─┘
//!                  │          │
//!         300-699: │          │ 2xx: send it
//!         send it  V          └────────────┐
//!              ┌───────────┐               V
//!  INVITE,  ┌──│ Completed │         ┌──────────┐  2xx: send it; ACK: to the user
//!  timer G: └─>└───────────┘         │ Accepted │──┐
//!  send it     │        │ ACK        └──────────┘<─┘ INVITE: absorbed
//!              │        V                  │
//!              │  ┌───────────┐            │
//!     timer H  │  │ Confirmed │ ACK,       │ timer L
//!              │  └───────────┘ INVITE:    │
//!              │        │       absorbed   │
//!              │        │ timer I          │
//!              V        V                  V
//!              └─> ┌────────────┐ <────────┘
//!                  │ Terminated │
//!                  └────────────┘
//! ```
//!
//! A transport error is told and changes no state (RFC 6026 §7.1). In Proceeding it waits as long as its user does:
//! who rings must answer some day.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{End, Repeat, Timers, after};

/// RFC 3261 §17.2.1: a 100 must go unless the user answers within this.
const TRYING_AFTER: Duration = Duration::from_millis(200);

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The INVITE came again.
    Request,
    /// The user of the transaction answers, or answers 2xx again.
    Answer {
        /// Its status code.
        status: u16,
        /// The whole of it.
        bytes: Bytes,
    },
    /// An ACK that belongs to this transaction.
    Ack,
    /// A CANCEL for this transaction; it is answered by a transaction of its own.
    Cancel,
    /// The transport could not send what it was given.
    TransportError,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to where the INVITE came from.
    Send(Bytes),
    /// A 100 must go now: answer with it.
    Trying,
    /// The ACK just handed in is the user's: it is for a 2xx.
    Ack,
    /// Tell the user, who answers 487 (RFC 3261 §9.2). Said once.
    Cancelled,
    /// Tell the user: what was sent did not leave.
    Failed,
    /// It is over; [`End::Timeout`] where no ACK came.
    Ended(End),
}

#[derive(Debug)]
enum State {
    Proceeding { last: Option<Bytes>, trying: Option<Instant>, cancelled: bool },
    Completed { answer: Bytes, g: Option<Repeat>, h: Instant },
    Confirmed { i: Instant },
    Accepted { l: Instant },
    Terminated,
}

/// One INVITE, seen from the side that answers it.
#[derive(Debug)]
pub struct ServerInvite {
    timers: Timers,
    reliable: bool,
    state: State,
    outputs: VecDeque<Output>,
}

impl ServerInvite {
    /// For an INVITE that has just come, over a reliable transport or not. The caller passes it to its user.
    pub fn new(timers: Timers, reliable: bool, now: Instant) -> Self {
        let state = State::Proceeding { last: None, trying: Some(after(now, TRYING_AFTER)), cancelled: false };
        Self { timers, reliable, state, outputs: VecDeque::new() }
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.handle_timeout(now);
        match input {
            Input::Request => self.handle_request(),
            Input::Answer { status, bytes } => self.handle_answer(status, bytes, now),
            Input::Ack => self.handle_ack(now),
            Input::Cancel => self.handle_cancel(),
            // RFC 6026 §7.1: a transport error alone must not discard the state.
            Input::TransportError if self.is_ended() => {}
            Input::TransportError => self.outputs.push_back(Output::Failed),
        }
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When it wants to be woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Proceeding { trying, .. } => *trying,
            State::Completed { g, h, .. } => Some(Repeat::or(*g, *h)),
            State::Confirmed { i } => Some(*i),
            State::Accepted { l } => Some(*l),
            State::Terminated => None,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Proceeding { trying, .. } if trying.is_some_and(|trying| trying <= now) => {
                *trying = None;
                self.outputs.push_back(Output::Trying);
            }
            // RFC 3261 §17.2.1: the ACK was never received, a failure of the transaction.
            State::Completed { h, .. } if *h <= now => self.end(End::Timeout),
            State::Completed { answer, g: Some(g), .. } if g.at <= now => {
                *g = Repeat::new(self.timers.doubled(g.pause), now);
                self.outputs.push_back(Output::Send(answer.clone()));
            }
            State::Confirmed { i: end } | State::Accepted { l: end } if *end <= now => self.end(End::Done),
            State::Proceeding { .. }
            | State::Completed { .. }
            | State::Confirmed { .. }
            | State::Accepted { .. }
            | State::Terminated => {}
        }
    }

    /// Whether `Ended` has been said or waits to be polled.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Terminated)
    }

    fn handle_request(&mut self) {
        match &self.state {
            State::Proceeding { last: Some(answer), .. } | State::Completed { answer, .. } => {
                self.outputs.push_back(Output::Send(answer.clone()));
            }
            // RFC 6026 §7.1: in Accepted, repetitions are absorbed; the user repeats its 2xx by itself.
            State::Proceeding { last: None, .. }
            | State::Confirmed { .. }
            | State::Accepted { .. }
            | State::Terminated => {}
        }
    }

    fn handle_answer(&mut self, status: u16, bytes: Bytes, now: Instant) {
        match (&mut self.state, status) {
            (State::Proceeding { last, trying, .. }, 100..=199) => {
                *trying = None;
                *last = Some(bytes.clone());
                self.outputs.push_back(Output::Send(bytes));
            }
            (State::Proceeding { .. }, 200..=299) => {
                self.outputs.push_back(Output::Send(bytes));
                // RFC 6026 §8.7: timer L is 64*T1 for all transports.
                self.state = State::Accepted { l: after(now, self.timers.timeout()) };
            }
            (State::Proceeding { .. }, 300..=699) => {
                self.outputs.push_back(Output::Send(bytes.clone()));
                let g = (!self.reliable).then(|| Repeat::new(self.timers.first_pause(), now));
                self.state = State::Completed { answer: bytes, g, h: after(now, self.timers.timeout()) };
            }
            // RFC 6026 §7.1: 2xx repeated by the user passes.
            (State::Accepted { .. }, 200..=299) => self.outputs.push_back(Output::Send(bytes)),
            _ => {}
        }
    }

    fn handle_ack(&mut self, now: Instant) {
        match &self.state {
            // Timer I: T4, zero on reliable transports.
            State::Completed { .. } if self.reliable => self.end(End::Done),
            State::Completed { .. } => self.state = State::Confirmed { i: after(now, self.timers.t4) },
            // RFC 6026 §7.1: passed to the user, not absorbed.
            State::Accepted { .. } => self.outputs.push_back(Output::Ack),
            State::Proceeding { .. } | State::Confirmed { .. } | State::Terminated => {}
        }
    }

    fn handle_cancel(&mut self) {
        // RFC 3261 §9.2: once a final answer has been sent, CANCEL has no effect.
        if let State::Proceeding { cancelled: cancelled @ false, .. } = &mut self.state {
            *cancelled = true;
            self.outputs.push_back(Output::Cancelled);
        }
    }

    fn end(&mut self, end: End) {
        self.state = State::Terminated;
        self.outputs.push_back(Output::Ended(end));
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::*;

    fn world(reliable: bool) -> World<ServerInvite> {
        World::new(|now| ServerInvite::new(Timers::default(), reliable, now))
    }

    fn answer(status: u16) -> Input {
        Input::Answer { status, bytes: Bytes::from(status.to_string()) }
    }

    #[test]
    fn a_100_is_asked_for_when_the_user_is_silent_for_200_ms() {
        // RFC 3261 §17.2.1.
        for reliable in [false, true] {
            let mut silent = world(reliable);
            silent.input(100, Input::Request);
            silent.until(200);
            silent.input(200, answer(100));
            silent.input(500, Input::Request);
            assert_eq!(silent.heard(), ["200 Trying", "200 Send(100)", "500 Send(100)"]);
            let mut quick = world(reliable);
            quick.input(199, answer(180));
            quick.until(99_000);
            assert_eq!(quick.heard(), ["199 Send(180)"]);
        }
    }

    #[test]
    fn a_repetition_gets_the_latest_provisional_answer() {
        // RFC 3261 §17.2.1.
        let mut world = world(false);
        world.input(0, answer(100));
        world.input(10, answer(180));
        world.input(500, Input::Request);
        assert_eq!(world.heard(), ["0 Send(100)", "10 Send(180)", "500 Send(180)"]);
    }

    #[test]
    fn timer_g_repeats_a_refusal_over_udp_doubling_up_to_t2_until_timer_h() {
        // RFC 3261 §17.2.1: T1, MIN(2*T1, T2) …; timer H 64*T1.
        let mut world = world(false);
        world.input(0, answer(486));
        world.until(99_000);
        let sent: Vec<_> = [0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
            .iter()
            .map(|ms| format!("{ms} Send(486)"))
            .chain(["32000 Ended(Timeout)".to_owned()])
            .collect();
        assert_eq!(world.heard(), sent);
    }

    #[test]
    fn over_tcp_a_refusal_is_sent_once_and_timer_h_still_waits_for_the_ack() {
        // RFC 3261 §17.2.1: G is not set on reliable transports, H is for all.
        let mut world = world(true);
        world.input(0, answer(486));
        world.until(99_000);
        assert_eq!(world.heard(), ["0 Send(486)", "32000 Ended(Timeout)"]);
    }

    #[test]
    fn an_ack_stops_repetitions_and_timer_i_absorbs_more_of_them() {
        // RFC 3261 §17.2.1: timer I is T4 on unreliable transports.
        let mut world = world(false);
        world.input(0, answer(486));
        world.input(600, Input::Ack);
        world.input(700, Input::Ack);
        world.input(800, Input::Request);
        world.input(900, answer(200));
        world.until(99_000);
        assert_eq!(world.heard(), ["0 Send(486)", "500 Send(486)", "5600 Ended(Done)"]);
    }

    #[test]
    fn timer_i_is_zero_on_reliable_transports() {
        // RFC 3261 §17.2.1.
        let mut world = world(true);
        world.input(0, answer(486));
        world.input(600, Input::Ack);
        assert_eq!(world.heard(), ["0 Send(486)", "600 Ended(Done)"]);
    }

    #[test]
    fn a_repeated_invite_gets_the_refusal_again() {
        // RFC 3261 §17.2.1.
        let mut world = world(true);
        world.input(0, answer(603));
        world.input(100, Input::Request);
        world.input(200, answer(200));
        assert_eq!(world.heard(), ["0 Send(603)", "100 Send(603)"]);
    }

    #[test]
    fn in_accepted_repetitions_are_absorbed_and_acks_passed_until_timer_l() {
        // RFC 6026 §7.1, §8.7: timer L is 64*T1 for all transports; the machine repeats no 2xx by itself.
        for reliable in [false, true] {
            let mut world = world(reliable);
            world.input(0, answer(200));
            world.input(500, Input::Request);
            world.input(600, answer(200));
            world.input(700, answer(486));
            world.input(750, answer(180));
            world.input(800, Input::Ack);
            world.input(900, Input::Ack);
            world.until(99_000);
            let heard = ["0 Send(200)", "600 Send(200)", "800 Ack", "900 Ack", "32000 Ended(Done)"];
            assert_eq!(world.heard(), heard, "reliable: {reliable}");
        }
    }

    #[test]
    fn a_transport_error_is_told_and_changes_no_state() {
        // RFC 6026 §7.1.
        let mut proceeding = world(false);
        proceeding.input(0, answer(180));
        proceeding.input(10, Input::TransportError);
        proceeding.input(20, Input::Request);
        assert_eq!(proceeding.heard(), ["0 Send(180)", "10 Failed", "20 Send(180)"]);
        let mut completed = world(true);
        completed.input(0, answer(486));
        completed.input(10, Input::TransportError);
        completed.input(20, Input::Request);
        assert_eq!(completed.heard(), ["0 Send(486)", "10 Failed", "20 Send(486)"]);
        let mut accepted = world(true);
        accepted.input(0, answer(200));
        accepted.input(10, Input::TransportError);
        accepted.input(20, Input::Ack);
        assert_eq!(accepted.heard(), ["0 Send(200)", "10 Failed", "20 Ack"]);
    }

    #[test]
    fn a_cancel_is_told_once_and_only_before_the_final_answer() {
        // RFC 3261 §9.2.
        let mut ringing = world(false);
        ringing.input(0, answer(180));
        ringing.input(10, Input::Cancel);
        ringing.input(20, Input::Cancel);
        ringing.input(30, answer(487));
        ringing.input(40, Input::Ack);
        assert_eq!(ringing.heard(), ["0 Send(180)", "10 Cancelled", "30 Send(487)"]);
        let mut accepted = world(false);
        accepted.input(0, answer(200));
        accepted.input(10, Input::Cancel);
        assert_eq!(accepted.heard(), ["0 Send(200)"]);
    }
}
