//! The session timer of one dialog (RFC 4028): who refreshes it and when, what is agreed with the other end, and when the
//! dialog is given up because nobody did.
//!
//! ```text
//!          agreed                          half the interval, where it is ours: refresh
//!   Off ───────────> Runs ────────────────────────────────────────> Asked
//!    ▲               │  ▲      2xx (agreed anew)                      │ │
//!    │ agreed: none  │  └─────────────────────────────────────────────┘ │ 408, 481, no answer
//!    ├───────────────┤        refused: again, if there is time           │
//!    │               └── shortly before the end, nobody has ──> Lapsed <─┘
//! ```

use std::time::{Duration, Instant};

use base::limits::{SESSION_TIMER, SESSION_TIMER_MIN};
use sip::{Role, SessionExpires, View};

/// RFC 4028 §4: an interval is never shorter.
const FLOOR_S: u32 = 90;
/// RFC 4028 §10: the end comes so long before the session expires, or a third of the interval.
const MARGIN: Duration = Duration::from_secs(32);
/// A refused refresh is not tried again when less than twice this is left (RFC 4028 §10: not continuously).
const RETRY_LEAST: Duration = Duration::from_secs(10);

/// Who refreshes, as we see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    /// We do.
    Us,
    /// The other end does.
    Them,
}

/// What holds in a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The session interval, seconds.
    pub interval_s: u32,
    /// Who refreshes.
    pub refresher: Refresher,
}

/// What we want of a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The interval that we ask for, seconds; 0: none.
    pub wanted_s: u32,
    /// The shortest that we take, seconds; never below 90 (RFC 4028 §4).
    pub least_s: u32,
}

impl Policy {
    /// With these settings.
    pub fn new(wanted: Duration, least: Duration) -> Self {
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let least_s = seconds(least).max(FLOOR_S);
        let wanted_s = if wanted.is_zero() { 0 } else { seconds(wanted).max(least_s) };
        Self { wanted_s, least_s }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(SESSION_TIMER, SESSION_TIMER_MIN)
    }
}

/// What a session refresh request (INVITE, UPDATE) asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Its Session-Expires.
    pub expires: Option<SessionExpires>,
    /// Its Min-SE, seconds; 90 where it has none (RFC 4028 §5).
    pub min_s: u32,
    /// Whether its sender knows session timers.
    pub is_supported: bool,
}

impl Asked {
    /// As it stands in the request.
    pub fn by(request: View<'_>) -> Self {
        Self {
            expires: request.session_expires(),
            min_s: request.min_se().unwrap_or_default().max(FLOOR_S),
            is_supported: request.supports("timer"),
        }
    }

    /// What we answer with 2xx, where `current` holds in the dialog already (RFC 4028 §9, Table 2).
    ///
    /// # Errors
    /// The Min-SE of a 422: the interval is too small, and the other end knows what that means.
    pub fn answer(self, policy: Policy, current: Option<Terms>) -> Result<Option<Terms>, u32> {
        let roles = current.map(|terms| terms.refresher);
        match self.expires {
            Some(expires) if self.is_supported && expires.seconds < policy.least_s => Err(policy.least_s),
            // No 422 for who would not know what it says (§8.1), and never an interval below the floor.
            Some(expires) if expires.seconds < FLOOR_S => Ok(None),
            Some(SessionExpires { seconds, refresher }) => {
                let refresher = match (self.is_supported, refresher) {
                    (false, _) | (true, Some(Role::Uas)) => Refresher::Us,
                    (true, Some(Role::Uac)) => Refresher::Them,
                    (true, None) => roles.unwrap_or(Refresher::Them),
                };
                Ok(Some(Terms { interval_s: seconds, refresher }))
            }
            None if self.is_supported => {
                let wanted = current.map_or(policy.wanted_s, |terms| terms.interval_s);
                let refresher = roles.unwrap_or(Refresher::Them);
                Ok((wanted > 0).then(|| Terms { interval_s: wanted.max(self.min_s), refresher }))
            }
            None => Ok(None),
        }
    }
}

/// What a 2xx to a request of ours says (RFC 4028 §7.2). Nothing: there is no timer, or not any more; who does not know
/// timers is not troubled by them.
pub fn agreed(response: View<'_>) -> Option<Terms> {
    let SessionExpires { seconds, refresher } = response.session_expires()?;
    let refresher = if refresher == Some(Role::Uas) { Refresher::Them } else { Refresher::Us };
    // What is shorter is against the rules, and would have us refresh all day.
    Some(Terms { interval_s: seconds.max(FLOOR_S), refresher })
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A 2xx to a session refresh request of either end says this; nothing: no timer.
    Agreed(Option<Terms>),
    /// The other end's request has this Min-SE, seconds.
    Least(u32),
    /// Our refresh was refused.
    Refused {
        /// With this status.
        status: u16,
        /// The Min-SE of a 422, seconds.
        min_s: Option<u32>,
        /// How long to wait after a 491 (RFC 3261 §14.1).
        wait: Duration,
    },
    /// The other end does not know the method that our refresh had.
    Unknown,
    /// Nobody has answered our refresh.
    Unanswered,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send a session refresh request, as the refresher.
    Refresh {
        /// Its Session-Expires, seconds.
        interval_s: u32,
        /// Its Min-SE, seconds, where it has one (RFC 4028 §7.4).
        min_s: Option<u32>,
    },
    /// The session expires: BYE.
    Lapsed,
}

#[derive(Debug)]
struct Running {
    terms: Terms,
    /// Nothing: it is not ours, or under way.
    refresh_at: Option<Instant>,
    lapse_at: Instant,
}

/// The machine of one dialog.
#[derive(Debug, Default)]
pub struct SessionTimer {
    running: Option<Running>,
    /// The largest Min-SE that was heard in the dialog; 0: none.
    min_s: u32,
    output: Option<Output>,
}

impl SessionTimer {
    /// What holds.
    pub fn terms(&self) -> Option<Terms> {
        self.running.as_ref().map(|running| running.terms)
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Agreed(terms) => {
                self.output = None;
                self.running = terms.map(|terms| Running::new(terms, now));
            }
            Input::Least(min_s) => self.min_s = self.min_s.max(min_s),
            Input::Refused { status: 408 | 481, .. } | Input::Unanswered => self.lapse(),
            Input::Refused { status, min_s, wait } => self.handle_refused(status, min_s, wait, now),
            Input::Unknown => {
                if let Some(running) = &mut self.running {
                    running.refresh_at = Some(now);
                }
            }
        }
        self.handle_timeout(now);
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.take()
    }

    /// When it wants to be woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        Some(running.refresh_at.map_or(running.lapse_at, |at| at.min(running.lapse_at)))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(running) = &mut self.running else { return };
        if running.lapse_at <= now {
            self.lapse();
        } else if running.refresh_at.is_some_and(|at| at <= now) {
            running.refresh_at = None;
            let interval_s = running.terms.interval_s.max(self.min_s);
            self.output = Some(Output::Refresh { interval_s, min_s: (self.min_s > 0).then_some(self.min_s) });
        }
    }

    fn handle_refused(&mut self, status: u16, min_s: Option<u32>, wait: Duration, now: Instant) {
        let Some(running) = &mut self.running else { return };
        let grown = min_s.filter(|min_s| status == 422 && *min_s > running.terms.interval_s.max(self.min_s));
        let left = running.lapse_at.saturating_duration_since(now);
        running.refresh_at = match (grown, status) {
            // §7.3, §7.4: at once, with what is asked for; when the session expires has not changed (§10).
            (Some(min_s), _) => {
                self.min_s = min_s;
                Some(now)
            }
            (None, 491) => Some(now + wait),
            (None, _) => (left / 2 >= RETRY_LEAST).then(|| now + left / 2),
        };
    }

    fn lapse(&mut self) {
        if self.running.take().is_some() {
            self.output = Some(Output::Lapsed);
        }
    }
}

impl Running {
    fn new(terms: Terms, now: Instant) -> Self {
        let interval = Duration::from_secs(terms.interval_s.into());
        Self {
            terms,
            refresh_at: (terms.refresher == Refresher::Us).then(|| now + interval / 2),
            lapse_at: now + interval - MARGIN.min(interval / 3),
        }
    }
}

#[cfg(test)]
#[path = "session_timer_tests.rs"]
mod tests;
