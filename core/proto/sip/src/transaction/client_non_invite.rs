//! The non-INVITE client transaction (RFC 3261 §17.1.2).
//!
//! ```text
//!                 request: send it
//!                        │
//!                        V
//!  timer E:       ┌────────────┐  timer F or transport error: tell the user
//!  send it     ┌──│   Trying   │────────────────────────────────┐
//!  again       └─>└────────────┘                                │
//!                  │         │ 1xx: to the user                 │
//!                  │         V                                  │
//!  timer E:        │  ┌────────────┐  timer F or transport error │
//!  send it      ┌──┼──│ Proceeding │────────────────────────────>│
//!  every T2     └──┼─>└────────────┘──┐ 1xx: to the user         │
//!                  │         │     ^──┘                         │
//!         200-699: │         │ 200-699: to the user             │
//!      to the user V         V                                  │
//!                 ┌────────────┐                                │
//!                 │ Completed  │ responses: absorbed            │
//!                 └────────────┘                                │
//!                        │ timer K                              │
//!                        V                                      │
//!                 ┌────────────┐                                │
//!                 │ Terminated │<───────────────────────────────┘
//!                 └────────────┘
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::{End, Repeat, Timers, after};

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A response that belongs to it.
    Response {
        /// Its status code.
        status: u16,
        /// The whole of it, handed on as it is.
        bytes: Bytes,
    },
    /// The transport could not send what it was given.
    TransportError,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to where the request goes.
    Send(Bytes),
    /// Give this to the user: any number of 1xx, one final.
    Response {
        /// Its status code.
        status: u16,
        /// The whole of it.
        bytes: Bytes,
    },
    /// It is over.
    Ended(End),
}

/// Timers of Trying and Proceeding.
#[derive(Debug)]
struct Waiting {
    e: Option<Repeat>,
    f: Instant,
}

#[derive(Debug)]
enum State {
    Trying(Waiting),
    Proceeding(Waiting),
    Completed { k: Instant },
    Terminated,
}

/// One request other than INVITE and ACK, seen from the side that sends it.
#[derive(Debug)]
pub struct ClientNonInvite {
    timers: Timers,
    reliable: bool,
    /// Empty as soon as it need not be sent again.
    request: Bytes,
    state: State,
    outputs: VecDeque<Output>,
}

impl ClientNonInvite {
    /// Sends `request`, the whole of it, over a reliable transport or not.
    pub fn new(request: Bytes, timers: Timers, reliable: bool, now: Instant) -> Self {
        let e = (!reliable).then(|| Repeat::new(timers.first_pause(), now));
        let state = State::Trying(Waiting { e, f: after(now, timers.timeout()) });
        Self { timers, reliable, outputs: VecDeque::from([Output::Send(request.clone())]), request, state }
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.handle_timeout(now);
        match input {
            Input::Response { status, bytes } => self.handle_response(status, bytes, now),
            Input::TransportError => match self.state {
                // RFC 3261 §17.1.4.
                State::Trying(_) | State::Proceeding(_) => self.end(End::TransportError),
                State::Completed { .. } | State::Terminated => {}
            },
        }
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When it wants to be woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Trying(Waiting { e, f }) | State::Proceeding(Waiting { e, f }) => Some(Repeat::or(*e, *f)),
            State::Completed { k } => Some(*k),
            State::Terminated => None,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let timers = self.timers;
        match &mut self.state {
            State::Trying(waiting) | State::Proceeding(waiting) if waiting.f <= now => self.end(End::Timeout),
            State::Trying(Waiting { e: Some(e), .. }) if e.at <= now => {
                *e = Repeat::new(timers.doubled(e.pause), now);
                self.outputs.push_back(Output::Send(self.request.clone()));
            }
            State::Proceeding(Waiting { e: Some(e), .. }) if e.at <= now => {
                *e = Repeat::new(timers.longest_pause(), now);
                self.outputs.push_back(Output::Send(self.request.clone()));
            }
            State::Completed { k } if *k <= now => self.end(End::Done),
            State::Trying(_) | State::Proceeding(_) | State::Completed { .. } | State::Terminated => {}
        }
    }

    /// Whether `Ended` has been said or waits to be polled.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Terminated)
    }

    fn handle_response(&mut self, status: u16, bytes: Bytes, now: Instant) {
        let (State::Trying(Waiting { e, f }) | State::Proceeding(Waiting { e, f })) = &self.state else {
            return; // RFC 3261 §17.1.2.2: Completed buffers repetitions.
        };
        match status {
            100..=199 => {
                // Timer E runs on: only its next setting is another, T2 (RFC 3261 §17.1.2.2).
                self.state = State::Proceeding(Waiting { e: *e, f: *f });
                self.outputs.push_back(Output::Response { status, bytes });
            }
            200..=699 => {
                self.outputs.push_back(Output::Response { status, bytes });
                // Timer K: T4, zero on reliable transports.
                if self.reliable {
                    return self.end(End::Done);
                }
                self.request = Bytes::new();
                self.state = State::Completed { k: after(now, self.timers.t4) };
            }
            _ => {}
        }
    }

    fn end(&mut self, end: End) {
        self.request = Bytes::new();
        self.state = State::Terminated;
        self.outputs.push_back(Output::Ended(end));
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::*;

    fn world(reliable: bool) -> World<ClientNonInvite> {
        let request = Bytes::from_static(b"MESSAGE");
        World::new(|now| ClientNonInvite::new(request, Timers::default(), reliable, now))
    }

    fn response(status: u16) -> Input {
        Input::Response { status, bytes: Bytes::from(status.to_string()) }
    }

    fn sent(at_ms: &[u64]) -> Vec<String> {
        at_ms.iter().map(|ms| format!("{ms} Send(MESSAGE)")).collect()
    }

    #[test]
    fn timer_e_repeats_the_request_over_udp_doubling_up_to_t2_until_timer_f() {
        // RFC 3261 §17.1.2.2: intervals of 500 ms, 1 s, 2 s, 4 s, 4 s …; timer F 64*T1.
        let mut world = world(false);
        world.until(99_000);
        let mut expected = sent(&[0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        expected.push("32000 Ended(Timeout)".to_owned());
        assert_eq!(world.heard(), expected);
    }

    #[test]
    fn over_tcp_the_request_is_sent_once_and_timer_f_ends_the_wait() {
        // RFC 3261 §17.1.2.2: F on every transport, E on unreliable ones.
        let mut world = world(true);
        world.until(99_000);
        assert_eq!(world.heard(), ["0 Send(MESSAGE)", "32000 Ended(Timeout)"]);
    }

    #[test]
    fn after_a_provisional_answer_the_request_is_repeated_every_t2() {
        // RFC 3261 §17.1.2.2: in Proceeding timer E is reset to T2; timer F stays.
        let mut world = world(false);
        world.input(600, response(100));
        world.input(700, response(183));
        world.until(99_000);
        let mut expected = sent(&[0, 500]);
        expected.push("600 Response { status: 100, bytes: 100 }".to_owned());
        expected.push("700 Response { status: 183, bytes: 183 }".to_owned());
        expected.extend(sent(&[1_500, 5_500, 9_500, 13_500, 17_500, 21_500, 25_500, 29_500]));
        expected.push("32000 Ended(Timeout)".to_owned());
        assert_eq!(world.heard(), expected);
    }

    #[test]
    fn one_final_answer_reaches_the_user_and_timer_k_absorbs_its_repetitions() {
        // RFC 3261 §17.1.2.2: timer K is T4 on unreliable transports.
        let mut world = world(false);
        world.input(100, response(200));
        world.input(600, response(200));
        world.input(700, response(486));
        world.input(800, response(100));
        world.input(900, Input::TransportError);
        world.until(99_000);
        assert_eq!(world.heard(), ["0 Send(MESSAGE)", "100 Response { status: 200, bytes: 200 }", "5100 Ended(Done)"]);
    }

    #[test]
    fn timer_k_is_zero_on_reliable_transports() {
        // RFC 3261 §17.1.2.2.
        let mut world = world(true);
        world.input(100, response(100));
        world.input(200, response(404));
        world.input(300, response(404));
        assert_eq!(
            world.heard(),
            [
                "0 Send(MESSAGE)",
                "100 Response { status: 100, bytes: 100 }",
                "200 Response { status: 404, bytes: 404 }",
                "200 Ended(Done)"
            ]
        );
    }

    #[test]
    fn a_transport_error_ends_it_at_once() {
        // RFC 3261 §17.1.4.
        for reliable in [false, true] {
            let mut world = world(reliable);
            world.input(10, Input::TransportError);
            world.input(20, response(200));
            assert_eq!(world.heard(), ["0 Send(MESSAGE)", "10 Ended(TransportError)"], "reliable: {reliable}");
        }
    }

    #[test]
    fn a_status_that_is_none_is_passed_over() {
        let mut world = world(true);
        for status in [0, 99, 700, u16::MAX] {
            world.input(10, response(status));
        }
        assert_eq!(world.heard(), ["0 Send(MESSAGE)"]);
    }
}
