//! How many sessions each user holds, so that nobody takes all: a caller from the INVITE on, a callee from the answer on.
//! Who only rings somebody takes nothing from him.

use std::sync::Arc;

use base::limits::SESSIONS_PER_USER_MAX;
use base::{Aor, KeyedHash};
use hashbrown::HashMap;
use parking_lot::Mutex;

const STRIPES: usize = 64;

/// The tally of everybody who holds one.
pub(crate) struct Seats {
    hash: KeyedHash,
    stripes: Box<[Mutex<HashMap<Aor, usize>>]>,
}

/// One session of one user, counted for as long as this lives.
pub struct Seat {
    seats: Arc<Seats>,
    whose: Aor,
}

impl Seats {
    /// Nobody holds any.
    pub(super) fn new(hash: KeyedHash) -> Arc<Self> {
        Arc::new(Self { hash, stripes: (0..STRIPES).map(|_| Mutex::default()).collect() })
    }

    /// One more for a user who calls; nothing when that would be above [`SESSIONS_PER_USER_MAX`].
    pub(super) fn take(self: &Arc<Self>, whose: &Aor) -> Option<Seat> {
        self.has_room(whose).then(|| self.add(whose))
    }

    /// Whether a user may hold one more.
    pub(super) fn has_room(&self, whose: &Aor) -> bool {
        self.stripe(whose).lock().get(whose).is_none_or(|held| *held < SESSIONS_PER_USER_MAX)
    }

    /// One more for a user who has answered: he had room when he was called.
    pub(super) fn add(self: &Arc<Self>, whose: &Aor) -> Seat {
        *self.stripe(whose).lock().entry(whose.clone()).or_default() += 1;
        Seat { seats: self.clone(), whose: whose.clone() }
    }

    fn stripe(&self, whose: &Aor) -> &Mutex<HashMap<Aor, usize>> {
        &self.stripes[self.hash.of(&[whose.as_str().as_bytes()]) as usize % STRIPES]
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut stripe = self.seats.stripe(&self.whose).lock();
        if let Some(held) = stripe.get_mut(&self.whose) {
            *held -= 1;
            if *held == 0 {
                stripe.remove(&self.whose);
            }
        }
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seat({})", self.whose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_holds_so_many_and_again_when_one_has_ended_and_others_have_their_own() {
        let seats = Seats::new(KeyedHash::new([1; 16]));
        let (alice, bob) = (Aor::new("alice", "x.y").unwrap(), Aor::new("bob", "x.y").unwrap());
        let mut held: Vec<Seat> = (0..SESSIONS_PER_USER_MAX).map(|_| seats.take(&alice).unwrap()).collect();
        assert!(seats.take(&alice).is_none() && !seats.has_room(&alice) && seats.has_room(&bob));
        held.push(seats.add(&alice));
        held.pop();
        assert!(seats.take(&alice).is_none());
        held.pop();
        assert!(seats.take(&alice).is_some());
        drop(held);
        assert!(seats.stripes.iter().all(|stripe| stripe.lock().is_empty()), "nobody is remembered");
    }
}
