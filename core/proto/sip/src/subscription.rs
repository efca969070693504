//! One subscription, as its notifier keeps it (RFC 6665 §4.2): when it is told, and when it ends. What it is told is its
//! owner's business: any event package lives by this machine.
//!
//! ```text
//!            SUBSCRIBE                   answered 2xx
//!  Start ─────────────> Telling ──────────────────────> Quiet ── Changed, Refreshed ──> Telling
//!                          │ changed meanwhile: told next ▲ ─┘          (one NOTIFY at a time)
//!                          │
//!                          ├── 481 and its like, silence ──────────────────────────────> Over, without a word
//!  Expires 0, time over, ended by the house ── a last NOTIFY, terminated ──────────────> Over
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A SUBSCRIBE in its dialog was accepted for so many seconds; 0 ends it.
    Refreshed(u32),
    /// What it watches has changed.
    Changed,
    /// Its NOTIFY was answered; 408 and 503 where nothing came or nothing could be sent. `may_retry`: with a Retry-After.
    Answered {
        /// The final status.
        status: u16,
        /// Whether the subscriber asks to be left alone for a while, and no more.
        may_retry: bool,
    },
    /// The house ends it.
    Ended(Reason),
}

/// Why a subscription ends (RFC 6665 §4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its time is over, or its subscriber wanted it so.
    Timeout,
    /// It may be asked for again at once.
    Deactivated,
    /// It may not be asked for again.
    Rejected,
    /// What it watched is no more.
    NoResource,
}

impl Reason {
    /// As Subscription-State has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Deactivated => "deactivated",
            Self::Rejected => "rejected",
            Self::NoResource => "noresource",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send a NOTIFY.
    Notify(Notice),
    /// Forget it.
    Over,
}

/// A NOTIFY to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Everything is to be told, not only what has changed.
    pub is_full: bool,
    /// Seconds that are left, or why it ends.
    pub state: Result<u64, Reason>,
}

impl Notice {
    /// The value of Subscription-State (RFC 6665 §8.2.3).
    pub fn subscription_state(&self) -> String {
        match self.state {
            Ok(left_s) => format!("active;expires={left_s}"),
            Err(reason) => format!("terminated;reason={}", reason.as_str()),
        }
    }
}

/// The machine of one subscription.
#[derive(Debug)]
pub struct Subscription {
    expires_at: Instant,
    /// A NOTIFY is under way.
    telling: bool,
    /// What is to be told next: everything, or what has changed.
    owed: Option<bool>,
    is_over: bool,
    outputs: VecDeque<Output>,
}

impl Subscription {
    /// Begins with a SUBSCRIBE that was accepted for so many seconds; 0 only fetches. All is told at once (RFC 6665
    /// §4.2.1.2).
    pub fn start(expires_s: u32, now: Instant) -> Self {
        let mut subscription =
            Self { expires_at: now, telling: false, owed: None, is_over: false, outputs: VecDeque::new() };
        subscription.handle(Input::Refreshed(expires_s), now);
        subscription
    }

    /// Takes in what happened.
    pub fn handle(&mut self, input: Input, now: Instant) {
        if self.is_over {
            return;
        }
        match input {
            Input::Refreshed(0) => self.end(Reason::Timeout),
            Input::Refreshed(seconds) => {
                self.expires_at = now + Duration::from_secs(seconds.into());
                self.owed = Some(true);
                self.tell(now);
            }
            Input::Changed => {
                self.owed = Some(self.owed.unwrap_or(false));
                self.tell(now);
            }
            Input::Answered { status, may_retry } => {
                self.telling = false;
                if is_lost(status, may_retry) {
                    self.is_over = true;
                    self.outputs.push_back(Output::Over);
                } else {
                    self.tell(now);
                }
            }
            Input::Ended(reason) => self.end(reason),
        }
    }

    /// What is to be done next; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Subscription::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_over).then_some(self.expires_at)
    }

    /// Looks whether its time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_over && self.expires_at <= now {
            self.end(Reason::Timeout);
        }
    }

    /// Whole seconds that are left.
    pub fn left_s(&self, now: Instant) -> u64 {
        self.expires_at.saturating_duration_since(now).as_millis().div_ceil(1_000) as u64
    }

    /// One at a time: who is slow is told once of many changes.
    fn tell(&mut self, now: Instant) {
        if self.telling {
            return;
        }
        if let Some(is_full) = self.owed.take() {
            self.telling = true;
            self.outputs.push_back(Output::Notify(Notice { is_full, state: Ok(self.left_s(now)) }));
        }
    }

    fn end(&mut self, reason: Reason) {
        self.is_over = true;
        self.outputs.push_back(Output::Notify(Notice { is_full: true, state: Err(reason) }));
        self.outputs.push_back(Output::Over);
    }
}

/// Whether the answer to a NOTIFY ends its subscription (RFC 6665 §4.2.2, RFC 5057 §5.1): every failure, but one that asks
/// for a pause.
fn is_lost(status: u16, may_retry: bool) -> bool {
    let is_pause = may_retry && matches!(status, 413 | 480 | 486 | 500 | 503 | 600 | 603);
    !is_pause && !matches!(status, 200..300)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Desk(Subscription, Instant);

    impl Desk {
        fn new(expires_s: u32) -> Self {
            let now = Instant::now();
            Self(Subscription::start(expires_s, now), now)
        }

        /// What comes out, as words.
        fn said(&mut self) -> Vec<String> {
            let word = |output| match output {
                Output::Notify(notice) => {
                    format!("{} {}", if notice.is_full { "full" } else { "partial" }, notice.subscription_state())
                }
                Output::Over => "over".to_owned(),
            };
            std::iter::from_fn(|| self.0.poll_output()).map(word).collect()
        }

        fn after(&mut self, input: Input) -> Vec<String> {
            self.0.handle(input, self.1);
            self.said()
        }
    }

    fn answered(status: u16) -> Input {
        Input::Answered { status, may_retry: false }
    }

    #[test]
    fn all_is_told_at_once_then_what_changes_one_notify_at_a_time() {
        let mut desk = Desk::new(600);
        assert_eq!(desk.said(), ["full active;expires=600"]);
        assert!(desk.after(Input::Changed).is_empty() && desk.after(Input::Changed).is_empty(), "one is under way");
        assert_eq!(desk.after(answered(200)), ["partial active;expires=600"]);
        assert!(desk.after(answered(200)).is_empty());
        assert_eq!(desk.after(Input::Changed), ["partial active;expires=600"]);
    }

    #[test]
    fn a_refresh_tells_all_again_and_moves_the_end() {
        let mut desk = Desk::new(600);
        desk.said();
        desk.after(answered(200));
        desk.1 += Duration::from_secs(500);
        assert_eq!(desk.after(Input::Refreshed(300)), ["full active;expires=300"]);
        assert_eq!(desk.0.poll_timeout(), Some(desk.1 + Duration::from_secs(300)));
        desk.after(Input::Changed);
        desk.after(Input::Refreshed(400));
        assert_eq!(desk.after(answered(200)), ["full active;expires=400"], "the larger debt is paid");
    }

    #[test]
    fn it_ends_with_a_last_word_by_time_by_wish_and_by_the_house() {
        let mut fetched = Desk::new(0);
        assert_eq!(fetched.said(), ["full terminated;reason=timeout", "over"]);
        let mut desk = Desk::new(10);
        desk.said();
        assert_eq!(
            desk.after(Input::Refreshed(0)),
            ["full terminated;reason=timeout", "over"],
            "though one is under way"
        );
        assert!(desk.after(Input::Changed).is_empty());
        let mut late = Desk::new(10);
        late.said();
        late.0.handle_timeout(late.1 + Duration::from_secs(9));
        assert!(late.said().is_empty());
        late.0.handle_timeout(late.1 + Duration::from_secs(10));
        assert_eq!(late.said(), ["full terminated;reason=timeout", "over"]);
        assert_eq!(late.0.poll_timeout(), None);
        let mut ended = Desk::new(10);
        ended.said();
        assert_eq!(ended.after(Input::Ended(Reason::NoResource)), ["full terminated;reason=noresource", "over"]);
    }

    #[test]
    fn who_refuses_or_never_answers_is_told_no_more() {
        // RFC 6665 §4.2.2
        for status in [481, 404, 405, 408, 489, 501, 503, 604] {
            let mut desk = Desk::new(600);
            desk.said();
            assert_eq!(desk.after(answered(status)), ["over"], "{status}");
            assert!(desk.after(Input::Changed).is_empty());
        }
        let mut busy = Desk::new(600);
        busy.said();
        assert!(busy.after(Input::Answered { status: 503, may_retry: true }).is_empty());
        assert_eq!(busy.after(Input::Changed), ["partial active;expires=600"]);
    }
}
