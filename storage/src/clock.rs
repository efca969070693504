//! The clock of the store: what has expired, and when something arrived. Injected, so that a simulated world can step it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Now;

/// Tells the time of day in milliseconds since 1970-01-01T00:00:00Z.
pub trait Clock: Send + Sync {
    /// The time now; may step back.
    fn unix_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn unix_ms(&self) -> u64 {
        Now::read().unix_ms
    }
}

/// A clock that stands until somebody sets it: for tests and the simulated world. Clones share the hand.
#[derive(Debug, Clone, Default)]
pub struct SetClock(Arc<AtomicU64>);

impl SetClock {
    /// A clock that stands at `unix_ms`.
    pub fn at(unix_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(unix_ms)))
    }

    /// Sets it, forth or back.
    pub fn set(&self, unix_ms: u64) {
        self.0.store(unix_ms, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn unix_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
