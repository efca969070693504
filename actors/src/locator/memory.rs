//! What is remembered of searches: each outcome for as long as the DNS says, a bounded number of them.

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use locate::Failure;

/// Outcomes by what was looked for. The loser is the oldest.
pub(super) struct Memory<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// In the order in which they came first.
    order: VecDeque<K>,
    bound: usize,
}

struct Entry<V> {
    found: Result<V, Failure>,
    until: Instant,
}

impl<K: Hash + Eq + Clone, V: Clone> Memory<K, V> {
    pub(super) fn new(bound: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), bound }
    }

    /// What holds still.
    pub(super) fn get(&self, key: &K, now: Instant) -> Option<Result<V, Failure>> {
        self.entries.get(key).filter(|entry| entry.until > now).map(|entry| entry.found.clone())
    }

    /// A search has ended. What may not be believed at all is not remembered (RFC 1035 §3.2.1: a TTL of 0).
    pub(super) fn put(&mut self, key: &K, found: Result<V, Failure>, ttl: Duration, now: Instant) {
        if ttl.is_zero() {
            return;
        }
        let entry = Entry { found, until: now + ttl };
        if self.entries.insert(key.clone(), entry).is_some() {
            return;
        }
        self.order.push_back(key.clone());
        while self.entries.len() > self.bound {
            let Some(oldest) = self.order.pop_front() else { return };
            self.entries.remove(&oldest);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    #[test]
    fn what_was_found_and_what_was_not_hold_for_their_time() {
        let (mut memory, now) = (Memory::new(8), Instant::now());
        memory.put(&"a", Ok(1), TTL, now);
        memory.put(&"b", Err(Failure::Nothing), TTL, now);
        memory.put(&"c", Ok(3), Duration::ZERO, now);
        let last = now + TTL - Duration::from_millis(1);
        assert_eq!((memory.get(&"a", last), memory.get(&"b", last)), (Some(Ok(1)), Some(Err(Failure::Nothing))));
        assert_eq!((memory.get(&"a", now + TTL), memory.get(&"c", now)), (None, None));
        memory.put(&"a", Ok(2), TTL, now + TTL);
        assert_eq!(memory.get(&"a", now + TTL), Some(Ok(2)));
    }

    #[test]
    fn the_oldest_makes_room() {
        let (mut memory, now) = (Memory::new(3), Instant::now());
        for n in 0..5 {
            memory.put(&n, Ok(n), TTL, now);
            memory.put(&n, Ok(n), TTL, now);
        }
        assert_eq!(memory.len(), 3);
        assert_eq!((memory.get(&1, now), memory.get(&2, now)), (None, Some(Ok(2))));
        assert!(memory.order.len() == 3, "and nothing is left of it");
    }
}
