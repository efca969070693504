//! A provisional response that must be heard (RFC 3262 §3): sent again until its PRACK comes. No transaction, but it lives
//! beside one: what it sends goes through the INVITE's server transaction.
//!
//! ```text
//!  response: send it      PRACK that names it: 200
//!       │   ┌──────────────────────────────────────> Heard
//!       V   │                                          ▲
//!   ┌─────────┐  final answer to the INVITE  ┌───────┐ │ PRACK
//!   │ Unheard │ ───────────────────────────> │ Quiet │─┘
//!   └─────────┘                              └───────┘
//!     ▲ │   │ 64*T1: the INVITE is refused (5xx)
//!     └─┘   └──────────────────────────────────────> Given up
//!     T1, doubling without a cap: send it
//! ```
//!
//! A PRACK that names nothing that is still unheard is answered 481.

use std::time::Instant;

use bytes::Bytes;

use super::{Repeat, Timers, after};
use crate::extensions::RAck;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give this to the INVITE's transaction.
    Send(Bytes),
    /// Nobody hears it: the INVITE is to be refused with a 5xx.
    GivenUp,
}

#[derive(Debug)]
enum State {
    Unheard { again: Repeat, until: Instant },
    Quiet,
    Heard,
    GivenUp,
}

/// One such response.
#[derive(Debug)]
pub struct Reliable {
    response: Bytes,
    /// The numbers in its RSeq and its CSeq.
    numbers: (u32, u32),
    state: State,
    output: Option<Output>,
}

impl Reliable {
    /// Sends a response with these numbers in its RSeq and its CSeq.
    pub fn new(response: Bytes, rseq: u32, cseq: u32, timers: Timers, now: Instant) -> Self {
        let state =
            State::Unheard { again: Repeat::new(timers.first_pause(), now), until: after(now, timers.timeout()) };
        Self { output: Some(Output::Send(response.clone())), response, numbers: (rseq, cseq), state }
    }

    /// A PRACK: the status that it is answered with.
    pub fn handle_prack(&mut self, rack: RAck<'_>) -> u16 {
        let is_it = (rack.response, rack.cseq) == self.numbers && rack.method == b"INVITE";
        match self.state {
            State::Unheard { .. } | State::Quiet if is_it => {
                (self.state, self.response, self.output) = (State::Heard, Bytes::new(), None);
                200
            }
            _ => 481,
        }
    }

    /// The INVITE has its final answer: it is not sent again, but its PRACK may still come (RFC 3262 §3).
    pub fn handle_final(&mut self) {
        if let State::Unheard { .. } = self.state {
            (self.state, self.response, self.output) = (State::Quiet, Bytes::new(), None);
        }
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.take()
    }

    /// When it wants to be woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Unheard { again, until } => Some(again.at.min(*until)),
            State::Quiet | State::Heard | State::GivenUp => None,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Unheard { until, .. } if *until <= now => {
                (self.state, self.response, self.output) = (State::GivenUp, Bytes::new(), Some(Output::GivenUp));
            }
            // RFC 3262 §3: unlike a 2xx's, its pauses know no T2.
            State::Unheard { again, .. } if again.at <= now => {
                *again = Repeat::new(again.pause.saturating_mul(2), now);
                self.output = Some(Output::Send(self.response.clone()));
            }
            State::Unheard { .. } | State::Quiet | State::Heard | State::GivenUp => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Play {
        machine: Reliable,
        start: Instant,
    }

    impl Play {
        fn new() -> Self {
            let start = Instant::now();
            Self { machine: Reliable::new(Bytes::from_static(b"180"), 4_711, 7, Timers::default(), start), start }
        }

        /// What is sent, by its milliseconds, and whether it was given up.
        fn until(&mut self, ms: u64) -> (Vec<u64>, bool) {
            let (mut sent, mut given_up, mut now) = (Vec::new(), false, self.start);
            loop {
                match self.machine.poll_output() {
                    Some(Output::Send(bytes)) => {
                        assert_eq!(bytes, "180");
                        sent.push(u64::try_from((now - self.start).as_millis()).unwrap());
                    }
                    Some(Output::GivenUp) => given_up = true,
                    None => {}
                }
                match self.machine.poll_timeout().filter(|due| *due <= self.start + Duration::from_millis(ms)) {
                    Some(due) => now = due,
                    None => return (sent, given_up),
                }
                self.machine.handle_timeout(now);
            }
        }

        fn prack(&mut self, response: u32, cseq: u32, method: &[u8]) -> u16 {
            self.machine.handle_prack(RAck { response, cseq, method })
        }
    }

    #[test]
    fn it_is_repeated_at_t1_doubling_and_given_up_after_64_t1() {
        // RFC 3262 §3.
        let mut play = Play::new();
        assert_eq!(play.until(99_000), (vec![0, 500, 1_500, 3_500, 7_500, 15_500, 31_500], true));
        assert_eq!((play.prack(4_711, 7, b"INVITE"), play.machine.poll_timeout()), (481, None));
    }

    #[test]
    fn only_the_prack_that_names_it_stops_it_and_only_once() {
        let mut play = Play::new();
        assert_eq!(play.until(600).0, [0, 500]);
        for (response, cseq, method) in [(4_712, 7, &b"INVITE"[..]), (4_711, 8, b"INVITE"), (4_711, 7, b"UPDATE")] {
            assert_eq!(play.prack(response, cseq, method), 481);
        }
        assert_eq!((play.prack(4_711, 7, b"INVITE"), play.prack(4_711, 7, b"INVITE")), (200, 481));
        assert_eq!(play.until(99_000), (vec![], false));
    }

    #[test]
    fn after_the_final_answer_it_is_still_and_its_prack_is_still_taken() {
        let mut play = Play::new();
        assert_eq!(play.until(0).0, [0]);
        play.machine.handle_final();
        assert_eq!(play.until(99_000), (vec![], false));
        assert_eq!(play.prack(4_711, 7, b"INVITE"), 200);
    }
}
