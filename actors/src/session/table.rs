//! What all shards know of sessions: who the next one is, and whose an INVITE is that comes again, is cancelled or
//! acknowledged hop by hop. And what each would leave behind, kept outside its actor (decisions D20).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use base::{Aor, IdMaker, KeyedHash};
use hashbrown::HashMap;
use parking_lot::Mutex;
use sip::View;

use super::estate::Estate;
use super::seats::{Seat, Seats};
use crate::message::SessionKey;

/// An estate that the session's actor and its nursery share.
pub(crate) type Shared = Arc<Mutex<Estate>>;

const STRIPES: usize = 64;

/// The shared tables of sessions.
pub struct Sessions {
    shards: Box<[Shard]>,
    next_shard: AtomicUsize,
    ids: IdMaker,
    invites: Arc<Invites>,
    seats: Arc<Seats>,
}

#[derive(Default)]
struct Shard {
    next: AtomicU32,
    estates: Mutex<HashMap<u32, (SessionKey, Shared)>>,
}

/// INVITE transactions that sessions serve, by the identity of the transaction.
struct Invites {
    hash: KeyedHash,
    by_key: Box<[Mutex<HashMap<u64, SessionKey>>]>,
    /// By Call-ID, CSeq and From tag: which of several copies of one INVITE came first (RFC 3261 §8.2.2.2).
    by_identity: Box<[Mutex<HashMap<u64, u64>>]>,
}

/// An INVITE is in the table for as long as this lives.
pub struct Entry {
    invites: Arc<Invites>,
    key: u64,
    identity: u64,
}

impl Sessions {
    /// Empty, for so many shards.
    pub fn new(ids: &IdMaker, shards: usize) -> Self {
        Self {
            shards: (0..shards.max(1)).map(|_| Shard::default()).collect(),
            next_shard: AtomicUsize::new(0),
            ids: IdMaker::new(ids.key()),
            seats: Seats::new(KeyedHash::new(ids.key())),
            invites: Arc::new(Invites {
                hash: KeyedHash::new(ids.key()),
                by_key: (0..STRIPES).map(|_| Mutex::default()).collect(),
                by_identity: (0..STRIPES).map(|_| Mutex::default()).collect(),
            }),
        }
    }

    /// A key for a new session, shard by shard.
    pub fn new_key(&self) -> SessionKey {
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let number = self.shards[shard].next.fetch_add(1, Ordering::Relaxed);
        SessionKey { shard: shard as u8, number, secret: self.random() }
    }

    /// 32 unpredictable bits.
    pub(crate) fn random(&self) -> u32 {
        self.ids.next_u64() as u32
    }

    /// A Call-ID.
    pub(crate) fn token(&self) -> String {
        self.ids.token()
    }

    /// A place for one more session of a caller's; nothing when he has too many.
    pub fn seat(&self, caller: &Aor) -> Option<Seat> {
        self.seats.take(caller)
    }

    /// Whether a callee may take one more.
    pub fn has_room(&self, callee: &Aor) -> bool {
        self.seats.has_room(callee)
    }

    /// A callee has taken one.
    pub(crate) fn taken(&self, callee: &Aor) -> Seat {
        self.seats.add(callee)
    }

    /// Notes whose this INVITE is. Nothing when the same INVITE came by another way before: 482 (RFC 3261 §8.2.2.2).
    pub fn enter(&self, key: u64, invite: View<'_>, session: SessionKey) -> Option<Entry> {
        let invites = &self.invites;
        let identity = invites.identity(invite);
        match stripe(&invites.by_identity, identity).lock().entry(identity) {
            hashbrown::hash_map::Entry::Occupied(first) if *first.get() != key => return None,
            entry => entry.insert(key),
        };
        stripe(&invites.by_key, key).lock().insert(key, session);
        Some(Entry { invites: invites.clone(), key, identity })
    }

    /// Notes whose this INVITE is that is passed on: several copies of one may pass (RFC 3261 §16.5 knows spirals).
    pub fn enter_passing(&self, key: u64, passage: SessionKey) -> Entry {
        stripe(&self.invites.by_key, key).lock().insert(key, passage);
        Entry { invites: self.invites.clone(), key, identity: 0 }
    }

    /// Whose INVITE this is.
    pub fn of_invite(&self, key: u64) -> Option<SessionKey> {
        stripe(&self.invites.by_key, key).lock().get(&key).copied()
    }

    /// Whether it is a session of this process.
    pub(crate) fn knows(&self, key: SessionKey) -> bool {
        let shard = self.shards.get(usize::from(key.shard));
        shard.is_some_and(|shard| shard.estates.lock().get(&key.number).is_some_and(|(known, _)| *known == key))
    }

    /// INVITEs that are being served.
    pub fn invites(&self) -> usize {
        self.invites.by_key.iter().map(|stripe| stripe.lock().len()).sum()
    }

    /// Keeps what a session would leave behind.
    pub(crate) fn keep(&self, key: SessionKey, estate: Shared) {
        if let Some(shard) = self.shards.get(usize::from(key.shard)) {
            shard.estates.lock().insert(key.number, (key, estate));
        }
    }

    /// A session has ended in good order, or its estate was taken over.
    pub(crate) fn release(&self, key: SessionKey) -> Option<Shared> {
        let shard = self.shards.get(usize::from(key.shard))?;
        Some(shard.estates.lock().remove(&key.number)?.1)
    }

    /// What the sessions of a nursery that fell have left behind.
    pub(crate) fn left_by(&self, shard: usize) -> Vec<(SessionKey, Shared)> {
        self.shards
            .get(shard)
            .map(|shard| shard.estates.lock().drain().map(|(_, left)| left).collect())
            .unwrap_or_default()
    }
}

impl Invites {
    fn identity(&self, invite: View<'_>) -> u64 {
        let call_id = invite.call_id().unwrap_or_default();
        let tag = |address: Option<sip::NameAddr<'_>>| {
            address.and_then(|each| each.tag().map(<[u8]>::to_vec)).unwrap_or_default()
        };
        let (from, to) = (tag(invite.from().ok()), tag(invite.to().ok()));
        let number = invite.cseq().map(|cseq| cseq.number).unwrap_or_default();
        self.hash.of(&[call_id, &from, &to, &number.to_be_bytes()])
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut keys = stripe(&self.invites.by_key, self.key).lock();
        keys.remove(&self.key);
        drop(keys);
        let mut identities = stripe(&self.invites.by_identity, self.identity).lock();
        if identities.get(&self.identity) == Some(&self.key) {
            identities.remove(&self.identity);
        }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({:x})", self.key)
    }
}

fn stripe<T>(stripes: &[T], hash: u64) -> &T {
    &stripes[(hash >> 32) as usize % stripes.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(call_id: &str) -> sip::Message {
        let text = format!(
            "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        );
        sip::Message::parse(text.into()).unwrap()
    }

    #[test]
    fn an_invite_is_found_while_it_is_served_and_a_copy_by_another_way_is_told_apart() {
        let sessions = Sessions::new(&IdMaker::new([5; 16]), 2);
        let (one, two) = (sessions.new_key(), sessions.new_key());
        assert_ne!((one.shard, one.secret), (two.shard, two.secret));
        let entry = sessions.enter(1, invite("x").view(), one);
        assert!(entry.is_some());
        assert_eq!((sessions.of_invite(1), sessions.of_invite(2)), (Some(one), None));
        // RFC 3261 §8.2.2.2: merged.
        assert!(sessions.enter(2, invite("x").view(), two).is_none());
        assert!(sessions.of_invite(2).is_none());
        let other = sessions.enter(2, invite("y").view(), two);
        drop(entry);
        assert_eq!((sessions.of_invite(1), sessions.of_invite(2), sessions.invites()), (None, Some(two), 1));
        assert!(sessions.enter(3, invite("x").view(), one).is_some());
        drop(other);
        assert_eq!(sessions.invites(), 0);
    }

    #[test]
    fn what_a_session_would_leave_behind_is_kept_until_it_is_released() {
        let sessions = Sessions::new(&IdMaker::new([5; 16]), 1);
        let (one, two) = (sessions.new_key(), sessions.new_key());
        sessions.keep(one, Shared::default());
        assert!(sessions.knows(one) && !sessions.knows(two));
        assert!(!sessions.knows(SessionKey { secret: one.secret ^ 1, ..one }));
        sessions.keep(two, Shared::default());
        assert!(sessions.release(one).is_some() && sessions.release(one).is_none());
        let left: Vec<SessionKey> = sessions.left_by(0).into_iter().map(|(key, _)| key).collect();
        assert_eq!((left, sessions.left_by(0).len(), sessions.left_by(9).len()), (vec![two], 0, 0));
    }
}
