//! The four transaction machines of RFC 3261 §17, with the Accepted states of RFC 6026 and the silence of RFC 4320.
//!
//! ```text
//!           ClientInvite ── INVITE ──> ServerInvite
//!  user of                                           user of
//!  the              request ──> wire ──> request     the
//!  transaction      answer  <── wire <── answer      transaction
//!           ClientNonInvite ─ MESSAGE ─> ServerNonInvite
//! ```
//!
//! Each has four handles: `handle(input, now)`, `poll_output()`, `poll_timeout()`, `handle_timeout(now)`. After each
//! input and each timeout, drain until `None`, then wait for the next, at most until `poll_timeout`. Which transaction
//! a message belongs to (RFC 3261 §17.1.3, §17.2.3) is known before it comes here, and messages are only bytes here:
//! they are sent again, never read. `Ended` is the last output; then the machine is to be dropped.
//!
//! A machine that ends by a timer of zero (D, I, J, K on reliable transports) ends in the same turn.

mod client_invite;
mod client_non_invite;
mod hop;
mod reliable;
mod server_invite;
mod server_non_invite;
#[cfg(test)]
mod world;

pub use client_invite::{Acknowledge, ClientInvite, Input as ClientInviteInput, Output as ClientInviteOutput};
pub use client_non_invite::{ClientNonInvite, Input as ClientNonInviteInput, Output as ClientNonInviteOutput};
pub use hop::{acknowledge, cancel};
pub use reliable::{Output as ReliableOutput, Reliable};
pub use server_invite::{Input as ServerInviteInput, Output as ServerInviteOutput, ServerInvite};
pub use server_non_invite::{Input as ServerNonInviteInput, Output as ServerNonInviteOutput, ServerNonInvite};

use std::time::{Duration, Instant};

/// What all timers are made from (RFC 3261 §17.1.1.1, Table 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// The round trip as one guesses it.
    pub t1: Duration,
    /// The longest pause between two repetitions.
    pub t2: Duration,
    /// How long a message may stay in the network.
    pub t4: Duration,
    /// Timer C: how long an INVITE may ring without a new provisional answer; must be more than 3 minutes
    /// (RFC 3261 §16.6 step 11).
    pub c: Duration,
}

impl Default for Timers {
    /// T1 500 ms, T2 4 s, T4 5 s, C 181 s.
    fn default() -> Self {
        let [t1, t2, t4, c] = [500, 4_000, 5_000, 181_000].map(Duration::from_millis);
        Self { t1, t2, t4, c }
    }
}

impl Timers {
    /// 64*T1: timers B, F, H, J, L and M.
    pub fn timeout(self) -> Duration {
        self.first_pause().saturating_mul(64)
    }

    /// How long it takes a client's timer E to be reset to T2: when a request without an answer must get its 100, and
    /// before which it must not over unreliable transports (RFC 4320 §4.1). 3.5 s with the defaults.
    pub fn trying_after(self) -> Duration {
        let mut pause = self.first_pause();
        let mut passed = pause;
        while self.doubled(pause) < self.longest_pause() {
            pause = self.doubled(pause);
            passed += pause;
        }
        passed
    }

    /// T1, but never nothing: a setting of zero must not make machines spin.
    fn first_pause(self) -> Duration {
        self.t1.max(Duration::from_millis(1))
    }

    fn longest_pause(self) -> Duration {
        self.t2.max(self.first_pause())
    }

    /// MIN(2 * pause, T2): timers E and G.
    fn doubled(self, pause: Duration) -> Duration {
        pause.saturating_mul(2).min(self.longest_pause())
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did what it was for.
    Done,
    /// What it waited for did not come: to a client's user as good as a 408 (RFC 3261 §8.1.3.1).
    Timeout,
    /// The transport could not send: to a client's user as good as a 503 (RFC 3261 §8.1.3.1).
    TransportError,
}

/// A timer that repeats a message: A, E or G.
#[derive(Clone, Copy, Debug)]
struct Repeat {
    at: Instant,
    pause: Duration,
}

impl Repeat {
    fn new(pause: Duration, now: Instant) -> Self {
        Self { at: after(now, pause), pause }
    }

    /// When to wake for it, where there is one, or for the end of what it repeats.
    fn or(repeat: Option<Self>, end: Instant) -> Instant {
        repeat.map_or(end, |repeat| repeat.at.min(end))
    }
}

/// A deadline; no wait is longer than a year, so that no setting overflows a clock.
fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_secs(365 * 24 * 3_600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_table_4_and_timer_e_reaches_t2_after_three_and_a_half_seconds() {
        let timers = Timers::default();
        assert_eq!(timers.timeout(), Duration::from_secs(32));
        // RFC 3261 §17.1.2.2: 500 ms, 1 s, 2 s, then 4 s.
        assert_eq!(timers.trying_after(), Duration::from_millis(3_500));
        assert!(timers.c > Duration::from_secs(180));
    }

    #[test]
    fn settings_of_nothing_and_of_everything_are_borne() {
        for wait in [Duration::ZERO, Duration::MAX] {
            let timers = Timers { t1: wait, t2: wait, t4: wait, c: wait };
            assert!(timers.trying_after() > Duration::ZERO);
            assert!(timers.timeout() >= timers.trying_after());
            assert!(after(Instant::now(), timers.timeout()) > Instant::now());
        }
        let slow = Timers { t1: Duration::from_secs(9), ..Timers::default() };
        assert_eq!(slow.trying_after(), Duration::from_secs(9));
    }
}
