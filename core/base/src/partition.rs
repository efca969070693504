//! Partitions: the unit of ownership, order, atomic commit and fsync of what is stored.
//!
//! A record belongs to the partition of its owner's address. The number of partitions and the name of the hash are
//! written into a store when it is made and checked at every start, because no key could be found again by another.

use crate::aor::Aor;

/// The hash that spreads owners over partitions; a store remembers this name.
pub const HASH_NAME: &str = "fnv1a64";

/// How many partitions a new store gets when nobody says otherwise.
pub const PARTITIONS_DEFAULT: u16 = 64;

/// One partition, `0 .. count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub u16);

/// How many there are, and who belongs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions {
    count: u16,
}

impl Partitions {
    /// `count` partitions; none counts as one.
    pub fn new(count: u16) -> Self {
        Self { count: count.max(1) }
    }

    /// How many there are.
    pub fn count(self) -> u16 {
        self.count
    }

    /// The partition of an owner.
    pub fn of(self, owner: &Aor) -> Partition {
        let hash = fnv1a64(owner.as_str().as_bytes());
        Partition(u16::try_from(hash % u64::from(self.count)).unwrap_or(0))
    }

    /// All of them, in order.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.count).map(Partition)
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self::new(PARTITIONS_DEFAULT)
    }
}

/// The shard (core of this node) that owns a key: another hash than the partition's, so that the users of one
/// partition spread over all cores of its owner.
pub fn shard_of(owner: &Aor, shards: usize) -> usize {
    let hash = fnv1a64(owner.as_str().as_bytes()).rotate_left(29).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(hash >> 33).unwrap_or(0) % shards.max(1)
}

/// FNV-1a, 64 bits. Not keyed: it spreads, it does not protect.
fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_stored_owner_never_changes() {
        assert_eq!(fnv1a64(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a64(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_F739_67E8);
    }

    #[test]
    fn owners_spread_over_partitions_and_over_shards_of_one_partition() {
        let partitions = Partitions::new(8);
        let mut seen = [[0u32; 2]; 8];
        for n in 0..4_000 {
            let owner = Aor::new(&format!("u{n}"), "example.com").unwrap();
            seen[usize::from(partitions.of(&owner).0)][shard_of(&owner, 2)] += 1;
        }
        assert!(seen.iter().flatten().all(|count| (150..350).contains(count)), "{seen:?}");
    }
}
