//! Every column family with how it is used; the tuning of RocksDB follows from that and from nothing else.

/// A kind of record. The number is part of the due index on disk: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// `account(aor) -> Account`: who may log in.
    Account = 1,
    /// `alias(aor) -> aor of the user`, `login(domain, name) -> aor of the user`: other names.
    Alias = 2,
    /// `binding(aor) -> [StoredBinding]`: where a user can be reached.
    Binding = 3,
    /// `spool(aor, arrival, id) -> Letter`: what waits for somebody.
    Spool = 4,
    /// `seen(aor, id) -> nothing`: what was taken already.
    Seen = 5,
    /// `due: expires (u64 BE) ‖ family ‖ key -> nothing`: kept by the engine for families with [`Expiry::Due`].
    Due = 6,
    /// Facts of the store itself: format, partitions, hash, high water mark. Only the engine writes it.
    Meta = 7,
    /// `secret(name) -> 32 octets`: keys of the house itself.
    Secret = 8,
}

/// How a family is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Single rows by whole key, many of them asked for that do not exist: bloom filters.
    Lookup,
    /// Rows come at one end of a prefix and soon leave: files that are mostly deletions are rewritten early.
    Queue,
}

/// What happens to a record whose time is over. From then on nobody sees it, whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Its records have no time.
    Never,
    /// It is forgotten when its file is rewritten.
    Forget,
    /// It stands in the due index until somebody who has to act on it removes it.
    Due,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Account, Self::Alias, Self::Binding, Self::Spool, Self::Seen, Self::Due, Self::Meta, Self::Secret];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Alias => "alias",
            Self::Binding => "binding",
            Self::Spool => "spool",
            Self::Seen => "seen",
            Self::Due => "due",
            Self::Meta => "meta",
            Self::Secret => "secret",
        }
    }

    /// How it is used.
    pub fn access(self) -> Access {
        match self {
            Self::Account | Self::Alias | Self::Binding | Self::Seen | Self::Meta | Self::Secret => Access::Lookup,
            Self::Spool | Self::Due => Access::Queue,
        }
    }

    /// What becomes of its expired records.
    pub fn expiry(self) -> Expiry {
        match self {
            Self::Account | Self::Alias | Self::Due | Self::Meta | Self::Secret => Expiry::Never,
            Self::Binding | Self::Seen => Expiry::Forget,
            Self::Spool => Expiry::Due,
        }
    }

    /// The family with this number.
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.number() == number)
    }

    /// Its number in the due index.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// Its place in tables of all families.
    pub(crate) fn index(self) -> usize {
        usize::from(self.number()) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_disk_are_their_own_inverse_and_fill_a_table() {
        for (at, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(Family::from_number(family.number()), Some(family));
            assert_eq!(family.index(), at);
        }
        assert_eq!(Family::from_number(0), None);
    }
}
