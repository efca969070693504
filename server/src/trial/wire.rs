//! What went over the wire, as a person reads it: first lines, who to whom.

use std::sync::{Arc, Mutex, PoisonError};

use client::{Direction, Tap};

use crate::say;

/// The lines since the last step. Clones share them.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<Vec<String>>>);

impl Wire {
    /// A tap that notes what `who` says and hears.
    pub fn tap(&self, who: &str) -> Tap {
        let (wire, who) = (self.clone(), who.to_owned());
        Arc::new(move |direction, bytes| {
            let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            if first.is_empty() {
                return; // a keepalive
            }
            let arrow = match direction {
                Direction::Out => format!("{who} ──> server"),
                Direction::In => format!("{who} <── server"),
            };
            let line = format!("     {arrow:<18} {} ({} octets)", String::from_utf8_lossy(first), bytes.len());
            wire.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        })
    }

    /// Prints what was noted since the last time.
    pub fn show(&self) {
        for line in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            say::out(line);
        }
    }
}
