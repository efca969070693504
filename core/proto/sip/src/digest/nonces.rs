//! Nonces: texts that need no memory until they are used, and the counts of those in use (decisions D6).
//!
//! A nonce is a stamp and its keyed hash, 32 hex digits. The stamp is the time of issue in milliseconds and a running
//! number below it: it orders nonces by age and none is issued twice. The first use of a nonce takes a slot in a table
//! of fixed size; the count of each use is accepted once, late ones within a window of 64, because several requests of
//! one client may overtake each other (RFC 7616 §3.4: the same nc seen twice is a replay).
//!
//! ```text
//! bucket = hash of the stamp
//! ┌ lock ┬ horizon ┬ slot: stamp, highest count, 64 bits of counts seen ┬ … 16 slots ┐
//! ```
//!
//! A full bucket gives up its oldest nonce, whose stamp becomes its horizon. A nonce without a slot is fresh only when
//! it is younger than the horizon: so what was forgotten is stale for ever, and never counts from the start again.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrayvec::ArrayString;
use base::limits::NONCE_LIFE;
use base::{KeyedHash, Now};
use parking_lot::Mutex;
use subtle::ConstantTimeEq;

/// Slots of a bucket: at half the table's load fewer than one nonce in a hundred loses its slot early.
const SLOTS: usize = 16;
/// Low bits of a stamp: the running number within one millisecond.
const NUMBER_BITS: u32 = 20;
/// Hex digits of a nonce.
const DIGITS: usize = 32;

/// One nonce as text: 32 hex digits, nothing that a quoted string must escape.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce(ArrayString<DIGITS>);

impl Nonce {
    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({})", self.0)
    }
}

/// What is to be thought of a nonce and its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ours, alive, and this count is new.
    Good,
    /// Ours, but too old, or its counts have been forgotten: a new challenge with `stale=true`.
    Stale,
    /// This count was used before, or lies too far behind: a new challenge; a client that is no replay takes it well.
    Replayed,
    /// Not issued here: a new challenge.
    Forged,
}

/// Issues nonces and knows them again. Any thread may ask; memory is fixed.
pub struct Nonces {
    hash: KeyedHash,
    life: Duration,
    /// The last stamp: stamps rise even when the clock is set back.
    last: AtomicU64,
    buckets: Box<[Mutex<Bucket>]>,
}

impl Nonces {
    /// With room for the counts of about `max` nonces, 25 octets each.
    ///
    /// The key must be new at every start: with an old one, counts used before the start would be accepted again.
    pub fn new(hash: KeyedHash, max: usize) -> Self {
        let buckets = (0..max.div_ceil(SLOTS).max(1)).map(|_| Mutex::new(Bucket::default())).collect();
        Self { hash, life: NONCE_LIFE, last: AtomicU64::new(0), buckets }
    }

    /// The same, its nonces living for `life` in place of [`NONCE_LIFE`].
    #[must_use]
    pub fn with_life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// A new nonce. Costs no memory.
    pub fn issue(&self, now: Now) -> Nonce {
        let clock = now.unix_ms.saturating_mul(1 << NUMBER_BITS);
        let after = |last: u64| clock.max(last.saturating_add(1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        let stamp = after(last.unwrap_or_else(|last| last));
        let mut text = ArrayString::new();
        for digit in super::hex(&stamp.to_be_bytes()).into_iter().chain(super::hex(&self.mark(stamp))) {
            text.push(char::from(digit));
        }
        Nonce(text)
    }

    /// What the text alone says: [`Verdict::Good`], [`Verdict::Stale`] or [`Verdict::Forged`]. Counts nothing.
    pub fn look(&self, nonce: &str, now: Now) -> Verdict {
        match self.stamp(nonce, now) {
            Ok(_) => Verdict::Good,
            Err(verdict) => verdict,
        }
    }

    /// Uses count `nc` of a nonce. To be asked once a request, and only when its response proved right.
    ///
    /// `nc` 0 stands for credentials without qop, that is without a count (RFC 2617 §3.2.2): they use the nonce up.
    pub fn check(&self, nonce: &str, nc: u32, now: Now) -> Verdict {
        match self.stamp(nonce, now) {
            Ok(stamp) => self.bucket(stamp).lock().count(stamp, nc),
            Err(verdict) => verdict,
        }
    }

    fn stamp(&self, nonce: &str, now: Now) -> Result<u64, Verdict> {
        let (stamp, mark) = halves(nonce).ok_or(Verdict::Forged)?;
        if !bool::from(self.mark(stamp).ct_eq(&mark.to_be_bytes())) {
            return Err(Verdict::Forged);
        }
        let age_ms = now.unix_ms.saturating_sub(stamp >> NUMBER_BITS);
        if u128::from(age_ms) > self.life.as_millis() { Err(Verdict::Stale) } else { Ok(stamp) }
    }

    fn mark(&self, stamp: u64) -> [u8; 8] {
        self.hash.of(&[b"nonce", &stamp.to_be_bytes()]).to_be_bytes()
    }

    fn bucket(&self, stamp: u64) -> &Mutex<Bucket> {
        let place = self.hash.of(&[b"bucket", &stamp.to_be_bytes()]) % (self.buckets.len() as u64);
        &self.buckets[usize::try_from(place).unwrap_or(0)]
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").field("life", &self.life).field("buckets", &self.buckets.len()).finish_non_exhaustive()
    }
}

/// Some slots under one lock.
#[derive(Clone, Copy, Default)]
struct Bucket {
    /// The youngest stamp that was forgotten here.
    horizon: u64,
    slots: [Slot; SLOTS],
}

impl Bucket {
    fn count(&mut self, stamp: u64, nc: u32) -> Verdict {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.stamp == stamp) {
            return slot.count(nc);
        }
        // A slot that was never used has stamp 0 and is the oldest of all.
        let Some(oldest) = self.slots.iter_mut().min_by_key(|slot| slot.stamp) else { return Verdict::Stale };
        // Forgotten, or older than all that are in use: then it is itself the one that must go.
        if stamp <= self.horizon || stamp < oldest.stamp {
            return Verdict::Stale;
        }
        self.horizon = self.horizon.max(oldest.stamp);
        *oldest = Slot::first(stamp, nc);
        Verdict::Good
    }
}

/// One nonce in use.
#[derive(Clone, Copy, Default)]
struct Slot {
    stamp: u64,
    /// The highest count used.
    highest: u32,
    /// Bit n: `highest - n` has been used.
    seen: u64,
}

impl Slot {
    fn first(stamp: u64, nc: u32) -> Self {
        match nc {
            0 => Self { stamp, highest: u32::MAX, seen: u64::MAX },
            _ => Self { stamp, highest: nc, seen: 1 },
        }
    }

    fn count(&mut self, nc: u32) -> Verdict {
        if nc > self.highest {
            self.seen = self.seen.checked_shl(nc - self.highest).unwrap_or(0) | 1;
            self.highest = nc;
            return Verdict::Good;
        }
        // Too far behind to be remembered counts as used.
        let bit = 1u64.checked_shl(self.highest - nc).unwrap_or(0);
        if nc == 0 || bit == 0 || self.seen & bit != 0 {
            return Verdict::Replayed;
        }
        self.seen |= bit;
        Verdict::Good
    }
}

fn halves(nonce: &str) -> Option<(u64, u64)> {
    if nonce.len() != DIGITS || !nonce.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (stamp, mark) = nonce.split_at(DIGITS / 2);
    Some((u64::from_str_radix(stamp, 16).ok()?, u64::from_str_radix(mark, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn start() -> Now {
        Now { at: Instant::now(), unix_ms: 1_700_000_000_000 }
    }

    fn nonces(max: usize) -> Nonces {
        Nonces::new(KeyedHash::new([7; 16]), max)
    }

    fn used(nonces: &Nonces, nonce: &Nonce, counts: &[u32], now: Now) -> Vec<Verdict> {
        counts.iter().map(|nc| nonces.check(nonce.as_str(), *nc, now)).collect()
    }

    #[test]
    fn a_count_is_accepted_once() {
        // RFC 7616 §3.4: "if the same nc value is seen twice, then the request is a replay".
        let (nonces, now) = (nonces(64), start());
        let nonce = nonces.issue(now);
        use Verdict::{Good, Replayed};
        assert_eq!(used(&nonces, &nonce, &[1, 1, 2, 1, 2, 3], now), [Good, Replayed, Good, Replayed, Replayed, Good]);
    }

    #[test]
    fn requests_that_overtake_each_other_pass_within_a_window_of_64() {
        let (nonces, now) = (nonces(64), start());
        let nonce = nonces.issue(now);
        use Verdict::{Good, Replayed};
        assert_eq!(
            used(&nonces, &nonce, &[3, 1, 2, 2, 70, 7, 7, 6, 69], now),
            [Good, Good, Good, Replayed, Good, Good, Replayed, Replayed, Good]
        );
        assert_eq!(used(&nonces, &nonce, &[u32::MAX, u32::MAX, 0, 71], now), [Good, Replayed, Replayed, Replayed]);
    }

    #[test]
    fn credentials_without_a_count_use_the_nonce_up() {
        let (nonces, now) = (nonces(64), start());
        let (old, new) = (nonces.issue(now), nonces.issue(now));
        use Verdict::{Good, Replayed};
        assert_eq!(used(&nonces, &old, &[0, 0, 1, u32::MAX], now), [Good, Replayed, Replayed, Replayed]);
        assert_eq!(used(&nonces, &new, &[1, 0, 2], now), [Good, Replayed, Good]);
    }

    #[test]
    fn a_nonce_serves_for_its_life_and_is_stale_after_it() {
        let (nonces, now) = (nonces(64), start());
        let nonce = nonces.issue(now);
        assert_eq!(nonces.check(nonce.as_str(), 1, now.later(NONCE_LIFE)), Verdict::Good);
        let after = now.later(NONCE_LIFE + Duration::from_millis(1));
        assert_eq!(nonces.check(nonce.as_str(), 2, after), Verdict::Stale);
        assert_eq!(nonces.look(nonce.as_str(), after), Verdict::Stale);
        let short = Nonces::new(KeyedHash::new([7; 16]), 64).with_life(Duration::ZERO);
        let nonce = short.issue(now);
        assert_eq!(short.check(nonce.as_str(), 1, now.later(Duration::from_millis(1))), Verdict::Stale);
    }

    #[test]
    fn what_was_not_issued_here_is_forged() {
        let (nonces, now) = (nonces(64), start());
        let nonce = nonces.issue(now).to_string();
        assert_eq!(nonces.look(&nonce, now), Verdict::Good);
        for at in 0..DIGITS {
            let mut forged = nonce.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(nonces.check(&forged, 1, now), Verdict::Forged, "digit {at}");
        }
        let other = Nonces::new(KeyedHash::new([8; 16]), 64).issue(now).to_string();
        let zeros = "0".repeat(DIGITS);
        for forged in ["", "x", &nonce[1..], &format!("{nonce}0"), &format!("+{}", &nonce[1..]), &other, &zeros] {
            assert_eq!(nonces.check(forged, 1, now), Verdict::Forged, "{forged:?}");
        }
        assert_eq!(nonces.look(&nonce, now), Verdict::Good);
    }

    #[test]
    fn who_was_evicted_is_stale_and_never_counts_from_the_start_again() {
        let (nonces, now) = (nonces(SLOTS), start());
        let all: Vec<_> = (0..SLOTS + 3).map(|_| nonces.issue(now)).collect();
        for nonce in &all {
            assert_eq!(nonces.check(nonce.as_str(), 1, now), Verdict::Good);
        }
        for (at, nonce) in all.iter().enumerate() {
            let (expected, again) =
                if at < 3 { (Verdict::Stale, Verdict::Stale) } else { (Verdict::Replayed, Verdict::Good) };
            assert_eq!(used(&nonces, nonce, &[1, 2], now), [expected, again], "nonce {at}");
        }
    }

    #[test]
    fn a_nonce_first_used_when_all_slots_hold_younger_ones_is_stale_and_evicts_nobody() {
        let (nonces, now) = (nonces(SLOTS), start());
        let late = nonces.issue(now);
        let all: Vec<_> = (0..SLOTS).map(|_| nonces.issue(now)).collect();
        for nonce in &all {
            assert_eq!(nonces.check(nonce.as_str(), 1, now), Verdict::Good);
        }
        assert_eq!(nonces.check(late.as_str(), 1, now), Verdict::Stale);
        for nonce in &all {
            assert_eq!(nonces.check(nonce.as_str(), 2, now), Verdict::Good);
        }
    }

    #[test]
    fn nonces_of_one_moment_differ_and_a_clock_set_back_repeats_none() {
        let (nonces, now) = (nonces(64), start());
        let back = Now { unix_ms: now.unix_ms - 60_000, ..now };
        let issued: HashSet<_> =
            (0..100).map(|n| nonces.issue(if n % 2 == 0 { now } else { back }).to_string()).collect();
        assert_eq!(issued.len(), 100);
        let nonce = nonces.issue(back);
        assert_eq!(used(&nonces, &nonce, &[1, 1], back), [Verdict::Good, Verdict::Replayed]);
    }

    #[test]
    fn a_table_of_the_default_size_keeps_half_its_load_almost_whole() {
        let (nonces, now) = (nonces(base::limits::NONCES_MAX), start());
        let all: Vec<_> = (0..base::limits::NONCES_MAX / 2).map(|_| nonces.issue(now)).collect();
        for nonce in &all {
            nonces.check(nonce.as_str(), 1, now);
        }
        let kept = all.iter().filter(|nonce| nonces.check(nonce.as_str(), 2, now) == Verdict::Good).count();
        assert!(kept * 100 > all.len() * 99, "{kept} of {}", all.len());
    }

    #[test]
    fn many_threads_share_one_nonce_and_each_count_passes_once() {
        let (nonces, now) = (nonces(64), start());
        let nonce = nonces.issue(now);
        let good: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope
                        .spawn(|| (1..=50).filter(|nc| nonces.check(nonce.as_str(), *nc, now) == Verdict::Good).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(good, 50);
    }

    proptest! {
        /// No order of uses, evictions, expiries and clock steps lets one count of one nonce pass twice.
        #[test]
        fn no_count_ever_passes_twice(
            steps in prop::collection::vec((0usize..40, 0u32..80, 0u64..400_000), 1..400),
        ) {
            let (nonces, now) = (nonces(SLOTS), start());
            let mut issued = Vec::new();
            let mut passed = HashSet::new();
            for (which, nc, shift_ms) in steps {
                let now = Now { unix_ms: now.unix_ms + shift_ms, ..now };
                if which >= issued.len() {
                    issued.push(nonces.issue(now));
                }
                let which = which.min(issued.len() - 1);
                if nonces.check(issued[which].as_str(), nc, now) == Verdict::Good {
                    prop_assert!(passed.insert((which, nc)), "nonce {which}, count {nc}");
                }
            }
        }

        /// Whatever stands for a nonce, there is an answer.
        #[test]
        fn garbage_is_forged(text in ".{0,40}") {
            prop_assert_eq!(nonces(16).check(&text, 1, start()), Verdict::Forged);
        }
    }
}
