//! What ties the parts of one life of the house to the world: a bell that says "look here", and a count of everything that
//! the house does to the world outside, so that it can be killed at any step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// One life. Clones are the same.
#[derive(Clone, Default)]
pub struct Bus(Arc<Inner>);

struct Inner {
    bell: Notify,
    steps: AtomicU64,
    kill_at: AtomicU64,
    dead: AtomicBool,
}

impl Default for Inner {
    fn default() -> Self {
        let (steps, kill_at) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Self { bell: Notify::new(), steps, kill_at, dead: AtomicBool::new(false) }
    }
}

impl Bus {
    /// This life ends at that step.
    pub fn kill_at(&self, step: u64) {
        self.0.kill_at.store(step, Ordering::Relaxed);
    }

    /// The house is about to touch the world outside. `false`: it was killed before it could.
    pub fn step(&self) -> bool {
        if self.is_dead() {
            return false;
        }
        let step = self.0.steps.fetch_add(1, Ordering::Relaxed) + 1;
        if step >= self.0.kill_at.load(Ordering::Relaxed) {
            self.kill();
            return false;
        }
        true
    }

    /// How many steps it has taken.
    pub fn steps(&self) -> u64 {
        self.0.steps.load(Ordering::Relaxed)
    }

    /// Ends this life: nothing that it still does has any effect.
    pub fn kill(&self) {
        self.0.dead.store(true, Ordering::Relaxed);
        self.ring();
    }

    /// Whether it has ended.
    pub fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Relaxed)
    }

    /// Something is to be looked at.
    pub fn ring(&self) {
        self.0.bell.notify_one();
    }

    /// Waits until it rings.
    pub async fn rung(&self) {
        self.0.bell.notified().await;
    }
}
