//! The non-INVITE server transaction (RFC 3261 §17.2.2), as RFC 4320 and RFC 6026 §8.8 changed it.
//!
//! ```text
//!                 request
//!                    │
//!                    V            100 too early: kept until it may go
//!              ┌──────────┐       no 100 when it must go: ask for it
//!              │  Trying  │──────────────────────────────┐
//!              └──────────┘ 200-699: send it             │
//!                    │                                   │
//!                    │ 100: send it                      │
//!                    V                                   │
//!              ┌────────────┐                            │
//!  request: ┌──│ Proceeding │──┐ 100: send it            │
//!  send 100 └─>└────────────┘<─┘                         │
//!                    │ 200-699: send it                  │
//!                    V                                   │
//!              ┌───────────┐                             │
//!  request: ┌──│ Completed │<────────────────────────────┘
//!  send it  └─>└───────────┘
//!                    │ timer J                 64*T1 without an answer, in Trying and Proceeding:
//!                    V                         nobody waits for one any more
//!              ┌────────────┐                            │
//!              │ Terminated │<───────────────────────────┘
//!              └────────────┘
//! ```
//!
//! RFC 4320 §4.1, §4.2: no provisional answer but 100, and no 408, ever leaves.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::{End, Timers, after};

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The request came again.
    Request,
    /// The user of the transaction answers; `bytes` is the whole response.
    Answer {
        /// Its status code.
        status: u16,
        /// The whole of it.
        bytes: Bytes,
    },
    /// The transport could not send what it was given.
    TransportError,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to where the request came from.
    Send(Bytes),
    /// A 100 must go now: answer with it, or at once with a final status.
    Trying,
    /// Tell the user: what was sent did not leave. The transaction stays, to know the request again.
    Failed,
    /// It is over.
    Ended(End),
}

#[derive(Debug)]
enum State {
    Trying {
        /// When a 100 may and must go; nothing once it was asked for.
        trying: Option<Instant>,
        /// A 100 given before it may go.
        early: Option<Bytes>,
        expires: Instant,
    },
    Proceeding {
        answer: Bytes,
        expires: Instant,
    },
    Completed {
        answer: Bytes,
        j: Instant,
    },
    Terminated,
}

/// One non-INVITE request, seen from the side that answers it.
#[derive(Debug)]
pub struct ServerNonInvite {
    timers: Timers,
    reliable: bool,
    state: State,
    outputs: VecDeque<Output>,
}

impl ServerNonInvite {
    /// For a request that has just come, over a reliable transport or not. The caller passes it to its user.
    pub fn new(timers: Timers, reliable: bool, now: Instant) -> Self {
        let trying = Some(after(now, timers.trying_after()));
        let state = State::Trying { trying, early: None, expires: after(now, timers.timeout()) };
        Self { timers, reliable, state, outputs: VecDeque::new() }
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.handle_timeout(now);
        match input {
            Input::Request => self.handle_request(),
            Input::Answer { status, bytes } => self.handle_answer(status, bytes, now),
            // RFC 3261 §17.2.4 as RFC 6026 §8.8 has it: tell the user, and stay.
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
            State::Trying { trying, expires, .. } => Some(trying.map_or(*expires, |trying| trying.min(*expires))),
            State::Proceeding { expires, .. } => Some(*expires),
            State::Completed { j, .. } => Some(*j),
            State::Terminated => None,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            // RFC 4320 §4.2: who cannot answer before the transaction expires does not answer at all.
            State::Trying { expires, .. } | State::Proceeding { expires, .. } if *expires <= now => {
                self.end(End::Timeout);
            }
            State::Trying { trying, early, expires } if trying.is_some_and(|trying| trying <= now) => {
                *trying = None;
                let (early, expires) = (early.take(), *expires);
                match early {
                    Some(answer) => {
                        self.outputs.push_back(Output::Send(answer.clone()));
                        self.state = State::Proceeding { answer, expires };
                    }
                    // RFC 4320 §4.1: a MUST, without regard to transport.
                    None => self.outputs.push_back(Output::Trying),
                }
            }
            State::Completed { j, .. } if *j <= now => self.end(End::Done),
            State::Trying { .. } | State::Proceeding { .. } | State::Completed { .. } | State::Terminated => {}
        }
    }

    /// Whether `Ended` has been said or waits to be polled.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Terminated)
    }

    fn handle_request(&mut self) {
        match &self.state {
            // RFC 3261 §17.2.2: in Trying, further repetitions are discarded.
            State::Trying { .. } | State::Terminated => {}
            State::Proceeding { answer, .. } | State::Completed { answer, .. } => {
                self.outputs.push_back(Output::Send(answer.clone()));
            }
        }
    }

    fn handle_answer(&mut self, status: u16, bytes: Bytes, now: Instant) {
        match (&mut self.state, status) {
            // RFC 4320 §4.1: over unreliable transports no 100 before timer E reaches T2.
            (State::Trying { trying: Some(_), early, .. }, 100) if !self.reliable => *early = Some(bytes),
            (State::Trying { expires, .. } | State::Proceeding { expires, .. }, 100) => {
                let expires = *expires;
                self.outputs.push_back(Output::Send(bytes.clone()));
                self.state = State::Proceeding { answer: bytes, expires };
            }
            // RFC 4320 §4.2: never a 408; the client has given up by itself.
            (State::Trying { .. } | State::Proceeding { .. }, 408) => {}
            (State::Trying { .. } | State::Proceeding { .. }, 200..=699) => {
                self.outputs.push_back(Output::Send(bytes.clone()));
                // Timer J: 64*T1, zero on reliable transports.
                if self.reliable {
                    return self.end(End::Done);
                }
                self.state = State::Completed { answer: bytes, j: after(now, self.timers.timeout()) };
            }
            // RFC 4320 §4.1: no other provisional. RFC 3261 §17.2.2: final answers after the first are discarded.
            _ => {}
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

    fn world(reliable: bool) -> World<ServerNonInvite> {
        World::new(|now| ServerNonInvite::new(Timers::default(), reliable, now))
    }

    fn answer(status: u16) -> Input {
        Input::Answer { status, bytes: Bytes::from(status.to_string()) }
    }

    #[test]
    fn a_final_answer_is_repeated_for_each_repetition_until_timer_j() {
        // RFC 3261 §17.2.2; timer J is 64*T1 on unreliable transports.
        let mut world = world(false);
        world.input(100, Input::Request);
        world.input(200, answer(200));
        world.input(700, Input::Request);
        world.input(800, answer(486));
        world.input(32_199, Input::Request);
        world.until(99_000);
        assert_eq!(world.heard(), ["200 Send(200)", "700 Send(200)", "32199 Send(200)", "32200 Ended(Done)"]);
    }

    #[test]
    fn timer_j_is_zero_on_reliable_transports() {
        // RFC 3261 §17.2.2.
        let mut world = world(true);
        world.input(200, answer(404));
        world.input(300, Input::Request);
        assert_eq!(world.heard(), ["200 Send(404)", "200 Ended(Done)"]);
    }

    #[test]
    fn over_udp_a_100_waits_until_timer_e_of_the_client_reaches_t2() {
        // RFC 4320 §4.1.
        let mut world = world(false);
        world.input(0, answer(100));
        world.input(1_000, Input::Request);
        world.input(3_600, Input::Request);
        world.input(4_000, answer(100));
        world.input(5_000, answer(200));
        assert_eq!(world.heard(), ["3500 Send(100)", "3600 Send(100)", "4000 Send(100)", "5000 Send(200)"]);
    }

    #[test]
    fn over_tcp_a_100_may_go_at_any_time() {
        // RFC 4320 §4.1.
        let mut world = world(true);
        world.input(10, answer(100));
        world.input(20, Input::Request);
        world.input(9_000, answer(200));
        assert_eq!(world.heard(), ["10 Send(100)", "20 Send(100)", "9000 Send(200)", "9000 Ended(Done)"]);
    }

    #[test]
    fn a_request_without_an_answer_gets_its_100_on_either_transport() {
        // RFC 4320 §4.1: MUST respond 100 if it has not otherwise responded.
        for reliable in [false, true] {
            let mut world = world(reliable);
            world.until(3_500);
            world.input(3_500, answer(100));
            assert_eq!(world.heard(), ["3500 Trying", "3500 Send(100)"], "reliable: {reliable}");
        }
    }

    #[test]
    fn no_408_and_no_other_provisional_ever_leaves() {
        // RFC 4320 §4.1, §4.2.
        for reliable in [false, true] {
            let mut world = world(reliable);
            for status in [101, 180, 183, 199, 408, 0, 99, 700] {
                world.input(4_000, answer(status));
            }
            world.input(4_000, answer(100));
            world.input(4_000, answer(180));
            world.input(4_000, answer(408));
            assert_eq!(world.heard(), ["3500 Trying", "4000 Send(100)"], "reliable: {reliable}");
        }
    }

    #[test]
    fn what_was_not_answered_in_64_t1_is_never_answered() {
        // RFC 4320 §4.2: no final response at all.
        for reliable in [false, true] {
            let mut world = world(reliable);
            world.input(31_999, Input::Request);
            world.input(32_000, answer(200));
            world.input(32_001, Input::Request);
            assert_eq!(world.heard(), ["3500 Trying", "32000 Ended(Timeout)"], "reliable: {reliable}");
        }
    }

    #[test]
    fn a_transport_error_is_told_and_the_request_is_still_known() {
        // RFC 6026 §8.8: MUST remain in the current state.
        let mut world = world(false);
        world.input(0, answer(200));
        world.input(0, Input::TransportError);
        world.input(500, Input::Request);
        world.until(32_000);
        world.input(32_000, Input::TransportError);
        assert_eq!(world.heard(), ["0 Send(200)", "0 Failed", "500 Send(200)", "32000 Ended(Done)"]);
    }
}
