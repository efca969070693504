//! One MESSAGE at a time to one destination (RFC 3428 §8: the next waits for the final response of the last).
//!
//! A place in the line is taken at once, without waiting, so the order of the calls is the order on the wire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The lines of all destinations. Empty ones are forgotten.
#[derive(Clone, Default)]
pub(crate) struct Turns {
    lines: Arc<Mutex<HashMap<String, Ahead>>>,
}

/// Somebody ahead in a line. When that one goes, word comes of whom that one still waited for.
struct Ahead {
    number: u64,
    gone: oneshot::Receiver<Option<Ahead>>,
}

/// A place in a line. Dropping it lets the next one go.
pub(crate) struct Turn {
    turns: Turns,
    destination: String,
    number: u64,
    ahead: Option<Ahead>,
    done: Option<oneshot::Sender<Option<Ahead>>>,
}

impl Turns {
    /// Stands at the end of the line to `destination`.
    pub(crate) fn take(&self, destination: &str) -> Turn {
        let (done, gone) = oneshot::channel();
        let mut lines = self.lock();
        let ahead = lines.remove(destination);
        let number = ahead.as_ref().map_or(0, |ahead| ahead.number.wrapping_add(1));
        lines.insert(destination.to_owned(), Ahead { number, gone });
        Turn { turns: self.clone(), destination: destination.to_owned(), number, ahead, done: Some(done) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Ahead>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Waits until everybody ahead has gone.
    pub(crate) async fn come(&mut self) {
        while let Some(ahead) = &mut self.ahead {
            self.ahead = (&mut ahead.gone).await.unwrap_or(None);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let turns = self.turns.clone();
        let mut lines = turns.lock();
        while let Some(ahead) = &mut self.ahead {
            match ahead.gone.try_recv() {
                Ok(further) => self.ahead = further,
                Err(oneshot::error::TryRecvError::Closed) => self.ahead = None,
                Err(oneshot::error::TryRecvError::Empty) => break,
            }
        }
        if lines.get(&self.destination).is_some_and(|last| last.number == self.number) {
            lines.remove(&self.destination);
            if let Some(ahead) = self.ahead.take() {
                lines.insert(self.destination.clone(), ahead);
            }
        } else if let Some(done) = self.done.take() {
            // Whoever is next may have left too; then nobody waits for this word.
            let _ = done.send(self.ahead.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_waiting(turn: &mut Turn) -> bool {
        tokio::time::timeout(Duration::from_millis(5), turn.come()).await.is_err()
    }

    #[tokio::test]
    async fn who_comes_second_waits_for_the_first_and_other_destinations_do_not() {
        let turns = Turns::default();
        let mut first = turns.take("sip:bob@example.com");
        let mut second = turns.take("sip:bob@example.com");
        let mut other = turns.take("sip:carol@example.com");
        assert!(!is_waiting(&mut first).await);
        assert!(!is_waiting(&mut other).await);
        assert!(is_waiting(&mut second).await);
        drop(first);
        assert!(!is_waiting(&mut second).await);
    }

    #[tokio::test]
    async fn who_gives_up_at_the_end_of_the_line_lets_nobody_pass() {
        let turns = Turns::default();
        let first = turns.take("sip:bob@example.com");
        drop(turns.take("sip:bob@example.com"));
        let mut third = turns.take("sip:bob@example.com");
        assert!(is_waiting(&mut third).await);
        drop(first);
        assert!(!is_waiting(&mut third).await);
    }

    #[tokio::test]
    async fn who_gives_up_in_the_middle_lets_nobody_pass() {
        let turns = Turns::default();
        let first = turns.take("sip:bob@example.com");
        let second = turns.take("sip:bob@example.com");
        let mut third = turns.take("sip:bob@example.com");
        drop(second);
        assert!(is_waiting(&mut third).await);
        drop(first);
        assert!(!is_waiting(&mut third).await);
    }

    #[tokio::test]
    async fn an_empty_line_is_forgotten() {
        let turns = Turns::default();
        let first = turns.take("sip:bob@example.com");
        drop(turns.take("sip:bob@example.com"));
        drop(first);
        assert!(turns.lock().is_empty());
    }
}
