//! Every key layout, one doc line each. On disk every key begins with its partition (u16 BE), so that one partition is
//! one range of each family; a [`Key`] keeps two octets free for it, and only the engine fills them in.
//!
//! Addresses of record hold no NUL (they are canonical URIs), so a NUL ends one where something follows. Numbers are big
//! endian: the order of octets is the order of numbers.

use std::fmt;

use base::{Aor, Partition};

use crate::families::Family;
use crate::spool::MessageId;

/// Octets in front of every key on disk: the partition.
pub(crate) const PARTITION_WIDTH: usize = 2;
/// Octets of an arrival inside a key.
pub(crate) const ARRIVAL_WIDTH: usize = 8;

/// The key of a record within its partition and family.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key of these octets.
    pub fn of(bytes: &[u8]) -> Self {
        Self::join(&[bytes])
    }

    fn join(pieces: &[&[u8]]) -> Self {
        let mut whole = Vec::with_capacity(PARTITION_WIDTH + pieces.iter().map(|piece| piece.len()).sum::<usize>());
        whole.extend_from_slice(&[0; PARTITION_WIDTH]);
        pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        Self(whole)
    }

    /// The octets, without the partition.
    pub fn bytes(&self) -> &[u8] {
        &self.0[PARTITION_WIDTH..]
    }

    /// The smallest key that is larger than this one.
    #[must_use]
    pub fn next(mut self) -> Self {
        self.0.push(0);
        self
    }

    /// The smallest key that is larger than every key with this one as prefix; `None` when there is none.
    pub fn after_prefix(self) -> Option<Self> {
        after_prefix(self.0).filter(|end| end.len() > PARTITION_WIDTH).map(Self)
    }

    /// The key as it stands on disk.
    pub(crate) fn on_disk(mut self, partition: Partition) -> Vec<u8> {
        self.0[..PARTITION_WIDTH].copy_from_slice(&partition.0.to_be_bytes());
        self.0
    }

    /// The key of a row on disk.
    pub(crate) fn from_disk(row: &[u8]) -> Self {
        Self::of(row.get(PARTITION_WIDTH..).unwrap_or_default())
    }

    /// Writes an arrival over the octets that a layout left free for it.
    pub(crate) fn stamp(&mut self, at: usize, arrival: u64) {
        let at = at + PARTITION_WIDTH;
        if let Some(free) = self.0.get_mut(at..at + ARRIVAL_WIDTH) {
            free.copy_from_slice(&arrival.to_be_bytes());
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes().escape_ascii())
    }
}

/// `account: partition ‖ aor -> Account`
pub fn account(aor: &Aor) -> Key {
    Key::of(aor.as_str().as_bytes())
}

/// `alias: partition of the alias ‖ aor of the alias -> aor of the user`
pub fn alias(aor: &Aor) -> Key {
    Key::of(aor.as_str().as_bytes())
}

/// `alias: partition of (name, domain) ‖ "login:" ‖ domain ‖ NUL ‖ name -> aor of the user`
pub fn login(domain: &str, name: &str) -> Key {
    Key::join(&[b"login:", domain.as_bytes(), b"\0", name.as_bytes()])
}

/// `binding: partition ‖ aor -> [StoredBinding]`
pub fn binding(aor: &Aor) -> Key {
    Key::of(aor.as_str().as_bytes())
}

/// `secret: partition 0 ‖ name -> 32 octets`
pub fn secret(name: &str) -> Key {
    Key::of(name.as_bytes())
}

/// `spool: partition ‖ aor of the recipient ‖ NUL ‖ arrival (u64 BE) ‖ message id -> Letter`
pub fn spool(aor: &Aor, arrival: u64, id: &MessageId) -> Key {
    Key::join(&[aor.as_str().as_bytes(), b"\0", &arrival.to_be_bytes(), id.bytes()])
}

/// All letters of one recipient: the prefix of [`spool`].
pub fn mailbox(aor: &Aor) -> Key {
    Key::join(&[aor.as_str().as_bytes(), b"\0"])
}

/// All letters of one recipient from this arrival on: a prefix of [`spool`] up to the id.
pub fn mailbox_from(aor: &Aor, arrival: u64) -> Key {
    Key::join(&[aor.as_str().as_bytes(), b"\0", &arrival.to_be_bytes()])
}

/// Where the arrival stands in a [`spool`] key.
pub fn spool_arrival_at(aor: &Aor) -> usize {
    aor.as_str().len() + 1
}

/// What a [`spool`] key says: recipient, arrival, id.
pub fn read_spool(key: &Key) -> Option<(&str, u64, &[u8])> {
    let bytes = key.bytes();
    let end = memchr_nul(bytes)?;
    let aor = std::str::from_utf8(&bytes[..end]).ok()?;
    let (arrival, id) = bytes[end + 1..].split_first_chunk::<ARRIVAL_WIDTH>()?;
    Some((aor, u64::from_be_bytes(*arrival), id))
}

/// `seen: partition ‖ aor of the recipient ‖ NUL ‖ message id -> nothing but a version`
pub fn seen(aor: &Aor, id: &MessageId) -> Key {
    Key::join(&[aor.as_str().as_bytes(), b"\0", id.bytes()])
}

/// `due: partition ‖ expires (unix seconds, u64 BE) ‖ family ‖ key of the record -> nothing`
pub(crate) fn due_on_disk(family: Family, row: &[u8], expires_unix_s: u64) -> Vec<u8> {
    let (partition, key) = row.split_at(PARTITION_WIDTH.min(row.len()));
    [partition, &expires_unix_s.to_be_bytes(), &[family.number()], key].concat()
}

/// What a row of the due index says: when, which family, and the key of the record on disk.
pub(crate) fn read_due(row: &[u8]) -> Option<(u64, Family, Vec<u8>)> {
    let (partition, rest) = row.split_first_chunk::<PARTITION_WIDTH>()?;
    let (expires, rest) = rest.split_first_chunk::<8>()?;
    let (family, key) = rest.split_first()?;
    Some((u64::from_be_bytes(*expires), Family::from_number(*family)?, [partition.as_slice(), key].concat()))
}

/// The partition of facts about the whole store: no owner hashes into it.
pub(crate) const STORE_PARTITION: Partition = Partition(u16::MAX);

/// `meta: 0xFFFF ‖ "store" -> format, partitions, name of the hash`
pub(crate) fn meta_store() -> Vec<u8> {
    Key::of(b"store").on_disk(STORE_PARTITION)
}

/// `meta: 0xFFFF ‖ "mark" -> last revision (u64 BE) ‖ last arrival (u64 BE)`, written with every group
pub(crate) fn meta_mark() -> Vec<u8> {
    Key::of(b"mark").on_disk(STORE_PARTITION)
}

/// `meta: 0xFFFF ‖ "probe" -> nothing`, written to learn whether the disk takes commits again
pub(crate) fn meta_probe() -> Vec<u8> {
    Key::of(b"probe").on_disk(STORE_PARTITION)
}

/// The smallest octets that are larger than all that begin with `prefix`; `None` when there are none.
pub(crate) fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

fn memchr_nul(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Aor {
        Aor::parse("sip:alice@example.com").unwrap()
    }

    #[test]
    fn every_key_on_disk_begins_with_its_partition() {
        let id = MessageId::of(b"m1");
        for key in [account(&alice()), alias(&alice()), binding(&alice()), spool(&alice(), 9, &id), seen(&alice(), &id)]
        {
            let row = key.clone().on_disk(Partition(0x0102));
            assert_eq!(row[..2], [1, 2]);
            assert_eq!(Key::from_disk(&row), Key::of(key.bytes()));
        }
    }

    #[test]
    fn letters_sort_by_recipient_then_arrival_and_no_recipient_is_a_prefix_of_another() {
        let (short, long) = (Aor::parse("sip:a@x.y").unwrap(), Aor::parse("sip:a@x.yz").unwrap());
        let id = MessageId::of(b"zzz");
        assert!(spool(&short, 1, &id) < spool(&short, 256, &MessageId::of(b"a")));
        assert!(!spool(&long, 1, &id).bytes().starts_with(mailbox(&short).bytes()));
        assert_eq!(read_spool(&spool(&long, 77, &id)), Some((long.as_str(), 77, id.bytes())));
    }

    #[test]
    fn a_stamp_falls_where_the_arrival_stands() {
        let mut key = spool(&alice(), 0, &MessageId::of(b"m"));
        key.stamp(spool_arrival_at(&alice()), 42);
        assert_eq!(key, spool(&alice(), 42, &MessageId::of(b"m")));
    }

    #[test]
    fn a_due_row_names_the_record_it_is_about() {
        let row = spool(&alice(), 5, &MessageId::of(b"m")).on_disk(Partition(3));
        let due = due_on_disk(Family::Spool, &row, 1_000);
        assert_eq!(read_due(&due), Some((1_000, Family::Spool, row.clone())));
        assert!(due < due_on_disk(Family::Spool, &row, 1_001), "in the order of time");
    }

    #[test]
    fn the_end_of_a_prefix_is_beyond_all_keys_with_it() {
        assert_eq!(Key::of(b"ab").after_prefix(), Some(Key::of(b"ac")));
        assert_eq!(Key::of(b"a\xff\xff").after_prefix(), Some(Key::of(b"b")));
        assert_eq!(Key::of(b"").after_prefix(), None);
        assert_eq!(Key::of(b"\xff").after_prefix(), None);
    }
}
