//! What went over the wire, as a person reads it: first lines, who to whom.

use std::sync::{Arc, Mutex, PoisonError};

use client::{Direction, Tap};

use crate::say;

/// The lines since the last step. Clones share them.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<Vec<Line>>>);

/// One thing that was said, or the same thing said several times.
struct Line {
    arrow: String,
    first: String,
    octets: usize,
    times: usize,
    /// What stands for all of its kind: MSRP chunks of one direction are shown as one line.
    kind: Option<String>,
}

impl Wire {
    /// A tap that notes what `who` says and hears.
    pub fn tap(&self, who: &str) -> Tap {
        let (wire, who) = (self.clone(), who.to_owned());
        Arc::new(move |direction, bytes| {
            let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            if first.is_empty() {
                return; // a keepalive
            }
            let arrow = arrow(&who, direction);
            let first = String::from_utf8_lossy(first).into_owned();
            wire.note(Line { arrow, first, octets: bytes.len(), times: 1, kind: None });
        })
    }

    /// A tap that notes the MSRP that `who` says and hears: the first line of each kind of frame, and how many there were.
    pub fn msrp_tap(&self, who: &str) -> Tap {
        let (wire, who) = (self.clone(), who.to_owned());
        Arc::new(move |direction, bytes| {
            // What comes in comes in pieces: a head, its body, its end-line.
            if !bytes.starts_with(b"MSRP ") {
                return wire.add(&arrow(&who, direction), bytes.len());
            }
            let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let first = String::from_utf8_lossy(first).into_owned();
            let arrow = arrow(&who, direction);
            // `MSRP id SEND`: what it is stands behind the id.
            let kind = first.splitn(3, ' ').nth(2).map(|kind| format!("{arrow} {kind}"));
            wire.note(Line { arrow, first, octets: bytes.len(), times: 1, kind });
        })
    }

    fn note(&self, line: Line) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = lines.iter_mut().find(|before| before.kind.is_some() && before.kind == line.kind);
        match same {
            Some(before) => {
                before.times += 1;
                before.octets += line.octets;
            }
            None => lines.push(line),
        }
    }

    /// More of what a connection is bringing.
    fn add(&self, arrow: &str, octets: usize) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_its = |line: &&mut Line| line.kind.as_deref().is_some_and(|kind| kind.starts_with(arrow));
        if let Some(line) = lines.iter_mut().rev().find(is_its) {
            line.octets += octets;
        }
    }

    /// What was noted is of no interest.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Prints what was noted since the last time.
    pub fn show(&self) {
        for line in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let Line { arrow, first, octets, times, .. } = line;
            match times {
                1 => say::out(format!("     {arrow:<18} {first} ({octets} octets)")),
                _ => say::out(format!("     {arrow:<18} {first} (and {} more, {octets} octets)", times - 1)),
            }
        }
    }
}

fn arrow(who: &str, direction: Direction) -> String {
    match direction {
        Direction::Out => format!("{who} ──> server"),
        Direction::In => format!("{who} <── server"),
    }
}
