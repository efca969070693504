//! The two clocks, read once a turn and handed down: machines never look at a clock themselves.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks. Deadlines are taken from `at`, dates and what is written down from `unix_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The clock that never steps.
    pub at: Instant,
    /// Milliseconds since 1970-01-01T00:00:00Z; may step when the machine's clock is set.
    pub unix_ms: u64,
}

impl Now {
    /// Reads both clocks. For shells only: machines get the result as an argument.
    pub fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at: Instant::now(), unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The same reading, `by` later on both clocks: how a simulated world moves on.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self { at: self.at + by, unix_ms: self.unix_ms.saturating_add(by_ms) }
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub fn unix_s(self) -> u64 {
        self.unix_ms / 1_000
    }

    /// The wall clock as the standard library writes it.
    pub fn wall(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.unix_ms)
    }
}
