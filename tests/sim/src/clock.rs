//! The clocks of the simulated world: milliseconds since it began, and what the house's two clocks show.
//!
//! While a house lives, its runtime's paused clock is the time: it jumps from timer to timer. Between two lives the world
//! says what time it is. The wall clock may be set back or forth, as an operator would.

use std::cell::Cell;
use std::time::{Duration, Instant};

use base::Now;

/// What the wall clock shows when a world begins: 2027, not on a whole second.
const UNIX_MS: u64 = 1_800_000_000_123;

#[derive(Clone, Copy)]
struct Hands {
    /// World time when this life began, or the world time when nobody lives.
    before_ms: u64,
    /// The runtime's clock at that moment.
    began: Option<tokio::time::Instant>,
    /// How far the wall clock was set forth, or back.
    step_ms: i64,
    /// World time 0, for phones, who outlive houses.
    zero: Option<Instant>,
    /// The last reading within a runtime: outside of it the runtime's clock cannot be read, and stands.
    last_ms: u64,
    /// The latest that the wall clock showed before it was set.
    latest_ms: u64,
}

const NOTHING: Hands = Hands { before_ms: 0, began: None, step_ms: 0, zero: None, last_ms: 0, latest_ms: 0 };

thread_local! {
    static HANDS: Cell<Hands> = const { Cell::new(NOTHING) };
}

/// A new world: time 0, the wall clock as it was made.
pub fn reset() {
    HANDS.set(Hands { zero: Some(Instant::now()), ..NOTHING });
}

/// A life begins; called within its runtime.
pub fn begin_life() {
    let mut hands = HANDS.get();
    (hands.began, hands.last_ms) = (Some(tokio::time::Instant::now()), hands.before_ms);
    HANDS.set(hands);
}

/// A life ends; called within its runtime.
pub fn end_life() {
    let before_ms = world_ms();
    let mut hands = HANDS.get();
    (hands.before_ms, hands.began) = (before_ms, None);
    HANDS.set(hands);
}

/// Time passes while nobody lives.
pub fn pass_to(world_ms: u64) {
    let mut hands = HANDS.get();
    hands.before_ms = hands.before_ms.max(world_ms);
    HANDS.set(hands);
}

/// Milliseconds since the world began.
pub fn world_ms() -> u64 {
    let mut hands = HANDS.get();
    let Some(began) = hands.began else { return hands.before_ms };
    if tokio::runtime::Handle::try_current().is_ok() {
        hands.last_ms = hands.before_ms + u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
        HANDS.set(hands);
    }
    hands.last_ms
}

/// When the runtime's clock shows this world time.
pub fn runtime_at(world_ms: u64) -> tokio::time::Instant {
    let hands = HANDS.get();
    let began = hands.began.unwrap_or_else(tokio::time::Instant::now);
    began + Duration::from_millis(world_ms.saturating_sub(hands.before_ms))
}

/// The latest that the wall clock ever showed.
pub fn latest_unix_ms() -> u64 {
    unix_ms().max(HANDS.get().latest_ms)
}

/// Sets the wall clock forth, or back.
pub fn step(by_ms: i64) {
    let latest_ms = latest_unix_ms();
    let mut hands = HANDS.get();
    hands.latest_ms = latest_ms;
    hands.step_ms += by_ms;
    HANDS.set(hands);
}

/// What the wall clock shows.
pub fn unix_ms() -> u64 {
    (UNIX_MS + world_ms()).saturating_add_signed(HANDS.get().step_ms)
}

/// The house's clock.
pub fn now() -> Now {
    Now { at: runtime_at(world_ms()).into_std(), unix_ms: unix_ms() }
}

/// World time as phones' machines see it.
pub fn instant(world_ms: u64) -> Instant {
    HANDS.get().zero.unwrap_or_else(Instant::now) + Duration::from_millis(world_ms)
}

/// World time of such an instant, rounded up.
pub fn world_ms_of(at: Instant) -> u64 {
    let since = at.saturating_duration_since(instant(0));
    u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The wall clock, as the store asks for it.
pub struct Wall;

impl storage::Clock for Wall {
    fn unix_ms(&self) -> u64 {
        unix_ms()
    }
}
