//! Who was promised what, and what came: the account of exactly-once.
//!
//! Each message carries its number in its body, so that it is known again whatever a server made of its head. A
//! message that comes twice with the same identity (Call-ID, CSeq, From tag: decisions D3) is a repeat that any user
//! agent merges (RFC 3261 §8.2.2.2); under another identity a person would read it twice: doubled.

use std::collections::BTreeSet;

use serde::Serialize;

/// Numbers of lost messages that a report names.
const NAMED: usize = 10;

#[derive(Clone, Copy, Default)]
struct Entry {
    accepted: bool,
    /// 0: not yet delivered. Half of the hash: an hour's messages stand here.
    identity: u32,
}

/// The account.
#[derive(Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    accepted: u64,
    delivered: u64,
    kept: u64,
    repeats: u64,
    doubled: BTreeSet<u64>,
}

/// What the account says at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Messages that the server took responsibility for.
    pub accepted: u64,
    /// Messages that came at least once, accepted or not.
    pub delivered: u64,
    /// Accepted messages that never came.
    pub missing: u64,
    /// The first of their numbers.
    pub missing_numbers: Vec<u64>,
    /// Messages that came twice under different identities.
    pub doubled: u64,
    /// Times a message came again under the same identity: merged by every user agent.
    pub repeats: u64,
    /// Messages that came though nobody was told that they would: allowed.
    pub unpromised: u64,
}

impl Ledger {
    fn entry(&mut self, number: u64) -> &mut Entry {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if at >= self.entries.len() {
            self.entries.resize(at + 1, Entry::default());
        }
        &mut self.entries[at]
    }

    /// The server answered message `number` with a 2xx.
    pub fn accept(&mut self, number: u64) {
        let entry = self.entry(number);
        if !std::mem::replace(&mut entry.accepted, true) {
            let came = entry.identity != 0;
            self.accepted += 1;
            self.kept += u64::from(came);
        }
    }

    /// Message `number` came, under an identity. Whether it came for the first time.
    pub fn deliver(&mut self, number: u64, identity: u64) -> bool {
        let identity = u32::try_from(identity & 0xffff_ffff).unwrap_or_default().max(1);
        let entry = self.entry(number);
        match entry.identity {
            0 => {
                entry.identity = identity;
                let promised = entry.accepted;
                self.delivered += 1;
                self.kept += u64::from(promised);
                true
            }
            same if same == identity => {
                self.repeats += 1;
                false
            }
            _ => {
                self.doubled.insert(number);
                false
            }
        }
    }

    /// Messages accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Messages delivered so far, each once.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Accepted messages that have not come yet.
    pub fn owed(&self) -> u64 {
        self.accepted - self.kept
    }

    /// What it comes to.
    pub fn balance(&self) -> Balance {
        let missing = (0..).zip(&self.entries).filter(|(_, entry)| entry.accepted && entry.identity == 0);
        Balance {
            accepted: self.accepted,
            delivered: self.delivered,
            missing: self.owed(),
            missing_numbers: missing.map(|(number, _)| number).take(NAMED).collect(),
            doubled: self.doubled.len() as u64,
            repeats: self.repeats,
            unpromised: self.delivered - self.kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promised_and_came_once_leaves_nothing_open() {
        let mut ledger = Ledger::default();
        for number in 0..100 {
            // A delivery may overtake the answer to the sender.
            if number % 2 == 0 {
                ledger.accept(number);
                assert!(ledger.deliver(number, 7));
            } else {
                assert!(ledger.deliver(number, 7));
                ledger.accept(number);
            }
        }
        assert_eq!(ledger.owed(), 0);
        assert_eq!(ledger.balance(), Balance { accepted: 100, delivered: 100, ..Balance::default() });
    }

    #[test]
    fn missing_doubled_repeated_and_unpromised_are_four_things() {
        let mut ledger = Ledger::default();
        for number in [1, 2, 3] {
            ledger.accept(number);
            ledger.accept(number);
        }
        ledger.deliver(1, 7);
        assert!(!ledger.deliver(1, 7), "a repeat");
        ledger.deliver(2, 7);
        for _ in 0..2 {
            assert!(!ledger.deliver(2, 8), "under another identity");
        }
        ledger.deliver(9, 7);
        let expected = Balance {
            accepted: 3,
            delivered: 3,
            missing: 1,
            missing_numbers: vec![3],
            doubled: 1,
            repeats: 1,
            unpromised: 1,
        };
        assert_eq!(ledger.balance(), expected);
    }
}
