//! The INVITE client transaction (RFC 3261 §17.1.1) with the Accepted state of RFC 6026 §7.2.
//!
//! ```text
//!                      INVITE: send it
//!                           │
//!                           V
//!  timer A: send it  ┌────────────┐  timer B or transport error: tell the user
//!  again          ┌──│  Calling   │───────────────────────────────────────┐
//!                 └─>└────────────┘──────────────┐ 2xx: to the user       │
//!                     │          │ 1xx:          │                       │
//!                     │          │ to the user   │                       │
//!            300-699: │          V               │                       │
//!          ACK, to    │   ┌────────────┐         │  transport error      │
//!         the user    │   │ Proceeding │─────────┼──────────────────────>│
//!                     │   └────────────┘         │  CANCEL unheard       │
//!                     │    │   ^──┘ │ 2xx        │                       │
//!                     │    │   1xx  └───────────>│                       │
//!                     V    V 300-699             V                       │
//!                  ┌───────────┐           ┌──────────┐                  │
//!  300-699: ACK ┌──│ Completed │           │ Accepted │──┐ 2xx:          │
//!               └─>└───────────┘           └──────────┘<─┘ to the user   │
//!                        │ timer D or            │ timer M             │
//!                        │ transport error       │                       │
//!                        V                       V                       │
//!                        └───> ┌────────────┐ <──┘                       │
//!                              │ Terminated │<───────────────────────────┘
//!                              └────────────┘
//! ```
//!
//! CANCEL (RFC 3261 §9.1) is wished for by the user, or by timer C in Proceeding (§16.8); it leaves only after a
//! provisional answer, and when no final answer comes within 64*T1 of it, there will be none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{End, Repeat, Timers, after};

/// RFC 3261 §17.1.1.2: timer D is at least this, whatever T1 is.
const D_LEAST: Duration = Duration::from_secs(32);

/// Makes the ACK for a refusal from the INVITE and the response (RFC 3261 §17.1.1.3), as
/// [`acknowledge`](super::acknowledge) does; nothing where the response is of no use.
pub type Acknowledge = fn(invite: &[u8], response: &[u8]) -> Option<Bytes>;

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
    /// The user does not want it any more.
    Cancel,
    /// The transport could not send what it was given.
    TransportError,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to where the INVITE goes.
    Send(Bytes),
    /// Give this to the user: any number of 1xx, then one refusal or any number of 2xx, each of which the user itself
    /// acknowledges (RFC 6026 §7.2).
    Response {
        /// Its status code.
        status: u16,
        /// The whole of it.
        bytes: Bytes,
    },
    /// Send a CANCEL now, in a transaction of its own; [`cancel`](super::cancel) makes it from the INVITE. Said once.
    Cancel,
    /// It is over.
    Ended(End),
}

#[derive(Debug)]
enum State {
    Calling {
        a: Option<Repeat>,
        b: Instant,
        c: Instant,
        cancel: bool,
    },
    Proceeding {
        /// Timer C, or where CANCEL has left, when to stop waiting for its effect.
        c: Instant,
        cancelled: bool,
    },
    Completed {
        ack: Option<Bytes>,
        d: Instant,
    },
    Accepted {
        m: Instant,
    },
    Terminated,
}

/// One INVITE, seen from the side that sends it.
#[derive(Debug)]
pub struct ClientInvite {
    timers: Timers,
    reliable: bool,
    acknowledge: Acknowledge,
    /// Empty as soon as neither it nor its ACK need be made again.
    invite: Bytes,
    state: State,
    outputs: VecDeque<Output>,
}

impl ClientInvite {
    /// Sends `invite`, the whole of it, over a reliable transport or not; `acknowledge` makes its ACK.
    pub fn new(invite: Bytes, acknowledge: Acknowledge, timers: Timers, reliable: bool, now: Instant) -> Self {
        let state = State::Calling {
            a: (!reliable).then(|| Repeat::new(timers.first_pause(), now)),
            b: after(now, timers.timeout()),
            c: after(now, timers.c),
            cancel: false,
        };
        Self { timers, reliable, acknowledge, outputs: VecDeque::from([Output::Send(invite.clone())]), invite, state }
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        self.handle_timeout(now);
        match input {
            Input::Response { status: status @ 100..=199, bytes } => self.handle_provisional(status, bytes, now),
            Input::Response { status: status @ 200..=299, bytes } => self.handle_success(status, bytes, now),
            Input::Response { status: status @ 300..=699, bytes } => self.handle_refusal(status, bytes, now),
            Input::Response { .. } => {}
            Input::Cancel => self.handle_cancel(now),
            Input::TransportError => match self.state {
                // RFC 3261 §17.1.4, RFC 6026 Figure 5.
                State::Calling { .. } | State::Proceeding { .. } | State::Completed { .. } => {
                    self.end(End::TransportError);
                }
                State::Accepted { .. } | State::Terminated => {}
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
            State::Calling { a, b, .. } => Some(Repeat::or(*a, *b)),
            State::Proceeding { c, .. } => Some(*c),
            State::Completed { d, .. } => Some(*d),
            State::Accepted { m } => Some(*m),
            State::Terminated => None,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Calling { b, .. } if *b <= now => self.end(End::Timeout),
            State::Calling { a: Some(a), .. } if a.at <= now => {
                // RFC 3261 §17.1.1.2: timer A doubles without a cap.
                *a = Repeat::new(a.pause.saturating_mul(2), now);
                self.outputs.push_back(Output::Send(self.invite.clone()));
            }
            State::Proceeding { c, cancelled: false } if *c <= now => self.cancel(now),
            // RFC 3261 §9.1: the cancelled transaction is destroyed.
            State::Proceeding { c, cancelled: true } if *c <= now => self.end(End::Timeout),
            State::Completed { d: end, .. } | State::Accepted { m: end } if *end <= now => self.end(End::Done),
            State::Calling { .. }
            | State::Proceeding { .. }
            | State::Completed { .. }
            | State::Accepted { .. }
            | State::Terminated => {}
        }
    }

    /// The INVITE, of which [`cancel`](super::cancel) makes the CANCEL; empty once a final answer has come.
    pub fn invite(&self) -> &Bytes {
        &self.invite
    }

    /// Whether `Ended` has been said or waits to be polled.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Terminated)
    }

    fn handle_provisional(&mut self, status: u16, bytes: Bytes, now: Instant) {
        match &mut self.state {
            State::Calling { c, cancel, .. } => {
                let (c, cancel) = (*c, *cancel);
                self.state = State::Proceeding { c, cancelled: false };
                self.outputs.push_back(Output::Response { status, bytes });
                // RFC 3261 §9.1: the CANCEL waited for this.
                if cancel {
                    return self.cancel(now);
                }
            }
            State::Proceeding { .. } => self.outputs.push_back(Output::Response { status, bytes }),
            State::Completed { .. } | State::Accepted { .. } | State::Terminated => {}
        }
        // RFC 3261 §16.7 step 2: 101 to 199 reset timer C.
        if let State::Proceeding { c, cancelled: false } = &mut self.state
            && status > 100
        {
            *c = after(now, self.timers.c);
        }
    }

    fn handle_success(&mut self, status: u16, bytes: Bytes, now: Instant) {
        match self.state {
            State::Calling { .. } | State::Proceeding { .. } => {
                self.invite = Bytes::new();
                // RFC 6026 §7.2: timer M is 64*T1 on every transport.
                self.state = State::Accepted { m: after(now, self.timers.timeout()) };
                self.outputs.push_back(Output::Response { status, bytes });
            }
            State::Accepted { .. } => self.outputs.push_back(Output::Response { status, bytes }),
            State::Completed { .. } | State::Terminated => {}
        }
    }

    fn handle_refusal(&mut self, status: u16, bytes: Bytes, now: Instant) {
        match &self.state {
            State::Calling { .. } | State::Proceeding { .. } => {
                let ack = (self.acknowledge)(&self.invite, &bytes);
                self.outputs.extend(ack.clone().map(Output::Send));
                self.outputs.push_back(Output::Response { status, bytes });
                // Timer D: zero on reliable transports.
                if self.reliable {
                    return self.end(End::Done);
                }
                self.invite = Bytes::new();
                self.state = State::Completed { ack, d: after(now, self.timers.timeout().max(D_LEAST)) };
            }
            // RFC 3261 §17.1.1.2: the ACK goes again, the response not to the user.
            State::Completed { ack, .. } => self.outputs.extend(ack.clone().map(Output::Send)),
            State::Accepted { .. } | State::Terminated => {}
        }
    }

    fn handle_cancel(&mut self, now: Instant) {
        match &mut self.state {
            // RFC 3261 §9.1: without a provisional answer the CANCEL must not be sent yet.
            State::Calling { cancel, .. } => *cancel = true,
            State::Proceeding { cancelled: false, .. } => self.cancel(now),
            State::Proceeding { cancelled: true, .. }
            | State::Completed { .. }
            | State::Accepted { .. }
            | State::Terminated => {}
        }
    }

    fn cancel(&mut self, now: Instant) {
        self.state = State::Proceeding { c: after(now, self.timers.timeout()), cancelled: true };
        self.outputs.push_back(Output::Cancel);
    }

    fn end(&mut self, end: End) {
        self.invite = Bytes::new();
        self.state = State::Terminated;
        self.outputs.push_back(Output::Ended(end));
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::*;

    fn world(reliable: bool) -> World<ClientInvite> {
        world_with(Timers::default(), reliable)
    }

    fn world_with(timers: Timers, reliable: bool) -> World<ClientInvite> {
        let acknowledge: Acknowledge = |invite, response| {
            assert_eq!(invite, b"INVITE");
            (response != b"699").then(|| [b"ACK ", response].concat().into())
        };
        World::new(|now| ClientInvite::new(Bytes::from_static(b"INVITE"), acknowledge, timers, reliable, now))
    }

    fn response(status: u16) -> Input {
        Input::Response { status, bytes: Bytes::from(status.to_string()) }
    }

    fn told(at_ms: u64, status: u16) -> String {
        format!("{at_ms} Response {{ status: {status}, bytes: {status} }}")
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn timer_a_repeats_the_invite_over_udp_always_doubling_until_timer_b() {
        // RFC 3261 §17.1.1.2: seven requests in 64*T1, without a cap of T2.
        let mut world = world(false);
        world.until(99_000);
        let mut expected: Vec<_> =
            [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500].iter().map(|ms| format!("{ms} Send(INVITE)")).collect();
        expected.push("32000 Ended(Timeout)".to_owned());
        assert_eq!(world.heard(), expected);
    }

    #[test]
    fn over_tcp_the_invite_is_sent_once_and_timer_b_ends_the_wait() {
        // RFC 3261 §17.1.1.2.
        let mut world = world(true);
        world.until(99_000);
        assert_eq!(world.heard(), ["0 Send(INVITE)", "32000 Ended(Timeout)"]);
    }

    #[test]
    fn a_provisional_answer_stops_repetitions_and_timer_b() {
        // RFC 3261 §17.1.1.2.
        let mut world = world(false);
        world.input(100, response(100));
        world.input(200, response(180));
        world.until(180_000);
        assert_eq!(world.heard(), [lines(&["0 Send(INVITE)"]), vec![told(100, 100), told(200, 180)]].concat());
    }

    #[test]
    fn a_refusal_is_acknowledged_and_each_repetition_again_until_timer_d() {
        // RFC 3261 §17.1.1.2, RFC 6026 §8.4: timer D at least 32 s on unreliable transports, the response told once.
        let mut world = world(false);
        world.input(100, response(486));
        world.input(600, response(486));
        world.input(700, response(200));
        world.input(800, response(180));
        world.until(99_000);
        let mut expected = lines(&["0 Send(INVITE)", "100 Send(ACK 486)"]);
        expected.push(told(100, 486));
        expected.extend(lines(&["600 Send(ACK 486)", "32100 Ended(Done)"]));
        assert_eq!(world.heard(), expected);
    }

    #[test]
    fn timer_d_does_not_shrink_with_t1_and_grows_with_it() {
        // RFC 3261 §17.1.1.2: an absolute minimum of 32 s instead of basing timer D on T1.
        for (t1_ms, end) in [(10, "32000 Ended(Done)"), (1_000, "64000 Ended(Done)")] {
            let timers = Timers { t1: Duration::from_millis(t1_ms), ..Timers::default() };
            let mut world = world_with(timers, false);
            world.input(0, response(404));
            world.until(99_000);
            assert_eq!(world.heard().last().map(String::as_str), Some(end));
        }
    }

    #[test]
    fn timer_d_is_zero_on_reliable_transports_and_the_ack_still_goes() {
        // RFC 3261 §17.1.1.2: "even if the transport is reliable".
        let mut world = world(true);
        world.input(50, response(180));
        world.input(100, response(603));
        world.input(200, response(603));
        let mut expected = lines(&["0 Send(INVITE)"]);
        expected.push(told(50, 180));
        expected.push("100 Send(ACK 603)".to_owned());
        expected.push(told(100, 603));
        expected.push("100 Ended(Done)".to_owned());
        assert_eq!(world.heard(), expected);
    }

    #[test]
    fn a_refusal_that_cannot_be_acknowledged_is_told_all_the_same() {
        let mut world = world(false);
        world.input(0, response(699));
        world.input(500, response(699));
        world.until(99_000);
        let expected = [lines(&["0 Send(INVITE)"]), vec![told(0, 699)], lines(&["32000 Ended(Done)"])].concat();
        assert_eq!(world.heard(), expected);
    }

    #[test]
    fn in_accepted_every_2xx_reaches_the_user_until_timer_m() {
        // RFC 6026 §7.2, §8.4: timer M is 64*T1; the machine acknowledges no 2xx; transport errors end nothing here.
        for reliable in [false, true] {
            let mut world = world(reliable);
            world.input(100, response(200));
            world.input(600, response(200));
            world.input(700, response(202));
            world.input(800, response(486));
            world.input(900, response(180));
            world.input(950, Input::TransportError);
            world.until(99_000);
            let mut expected = lines(&["0 Send(INVITE)"]);
            expected.extend([told(100, 200), told(600, 200), told(700, 202)]);
            expected.push("32100 Ended(Done)".to_owned());
            assert_eq!(world.heard(), expected, "reliable: {reliable}");
        }
    }

    #[test]
    fn a_transport_error_ends_calling_proceeding_and_completed() {
        // RFC 3261 §17.1.4, RFC 6026 Figure 5.
        for first in [response(0), response(180), response(486)] {
            let mut world = world(false);
            world.input(10, first.clone());
            world.input(20, Input::TransportError);
            world.input(30, response(200));
            assert_eq!(world.heard().last().map(String::as_str), Some("20 Ended(TransportError)"), "{first:?}");
        }
    }

    #[test]
    fn timer_c_cancels_what_rings_too_long_and_101_to_199_reset_it() {
        // RFC 3261 §16.6 step 11, §16.7 step 2, §16.8.
        let mut world = world(true);
        world.input(1_000, response(183));
        world.input(100_000, response(180));
        world.input(200_000, response(100));
        world.until(999_000);
        let mut expected = lines(&["0 Send(INVITE)"]);
        expected.extend([told(1_000, 183), told(100_000, 180), told(200_000, 100)]);
        // RFC 3261 §9.1: and 64*T1 later the transaction is given up.
        expected.extend(lines(&["281000 Cancel", "313000 Ended(Timeout)"]));
        assert_eq!(world.heard(), expected);
    }

    #[test]
    fn a_cancel_waits_for_a_provisional_answer_and_is_said_once() {
        // RFC 3261 §9.1.
        let mut world = world(true);
        world.input(10, Input::Cancel);
        world.input(20, Input::Cancel);
        world.input(30, response(100));
        world.input(40, Input::Cancel);
        world.input(50, response(487));
        let mut expected = lines(&["0 Send(INVITE)"]);
        expected.push(told(30, 100));
        expected.extend(lines(&["30 Cancel", "50 Send(ACK 487)"]));
        expected.push(told(50, 487));
        expected.push("50 Ended(Done)".to_owned());
        assert_eq!(world.heard(), expected);
    }

    #[test]
    fn a_final_answer_makes_a_waiting_cancel_needless() {
        // RFC 3261 §9.1.
        let mut world = world(false);
        world.input(10, Input::Cancel);
        world.input(20, response(200));
        world.input(30, Input::Cancel);
        assert_eq!(world.heard(), [lines(&["0 Send(INVITE)"]), vec![told(20, 200)]].concat());
    }
}
