//! What the data plane may know of a user: written whole by the user's actor, read by every shard.
//!
//! A row stands for every user who is registered or active. Registered idle users are rows, not actors (decisions D18).

use std::sync::Arc;

use base::{Aor, KeyedHash};
use bitflags::bitflags;
use hashbrown::HashMap;
use parking_lot::RwLock;
use sip::digest::Ha1;

use crate::hop::Hop;

bitflags! {
    /// Why a message to this user is offered to the user's actor, and not relayed where it was read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Climb: u8 {
        /// Not exactly one contact takes instant messages: none, or a fork.
        const SEVERAL = 1;
        /// Letters wait: a new message queues behind them (decisions D1).
        const QUEUED = 1 << 1;
        /// The user takes no messages.
        const CLOSED = 1 << 2;
        /// The conversation is kept.
        const RECORD = 1 << 3;
        /// Somebody pays for it.
        const CHARGE = 1 << 4;
        /// A copy goes to the authorities.
        const INTERCEPT = 1 << 5;
    }
}

/// A contact that takes instant messages.
#[derive(Clone, Debug)]
pub struct Way {
    /// The Contact URI as it was registered: the Request-URI of what goes there.
    pub contact: Box<[u8]>,
    /// Where it is sent.
    pub hop: Hop,
    /// The binding's end.
    pub expires_unix_s: u64,
}

/// One user, as the data plane knows it.
#[derive(Debug)]
pub struct Reach {
    /// The address of record.
    pub aor: Aor,
    /// Its Digest secrets.
    pub ha1: Ha1,
    /// The Digest user name: the user part of the address, or the login.
    pub login: Box<str>,
    /// Further addresses that are this user: who may stand in From, and where messages reach it.
    pub aliases: Box<[Aor]>,
    /// The contacts that take instant messages.
    pub ways: Box<[Way]>,
    /// Why a message must climb to the actor; empty: relay it.
    pub climb: Climb,
    /// Whether page mode is in the service profile.
    pub may_page: bool,
    /// Whether the user may register at all: false when removed or without any service.
    pub may_register: bool,
}

impl Reach {
    /// Whether this address is the user's own.
    pub fn is(&self, address: &Aor) -> bool {
        self.aor == *address || self.aliases.contains(address)
    }

    /// The one way of an online user, if a message may be relayed where it was read.
    pub fn only_way(&self, unix_s: u64) -> Option<&Way> {
        match &*self.ways {
            [way] if self.climb.is_empty() && way.expires_unix_s > unix_s => Some(way),
            _ => None,
        }
    }
}

const STRIPES: usize = 64;

/// All rows, by address and by login.
pub struct ReachTable {
    hash: KeyedHash,
    stripes: Box<[RwLock<HashMap<Aor, Arc<Reach>>>]>,
    /// Logins that differ from the user part: `sip:LOGIN@DOMAIN` to whose they are.
    logins: RwLock<HashMap<Aor, Aor>>,
}

impl ReachTable {
    /// Empty. The hash is keyed because peers choose the addresses.
    pub fn new(hash: KeyedHash) -> Self {
        Self { hash, stripes: (0..STRIPES).map(|_| RwLock::default()).collect(), logins: RwLock::default() }
    }

    fn stripe(&self, aor: &Aor) -> &RwLock<HashMap<Aor, Arc<Reach>>> {
        &self.stripes[self.hash.of(&[aor.as_str().as_bytes()]) as usize % STRIPES]
    }

    /// The row of an address, an alias's too.
    pub fn get(&self, aor: &Aor) -> Option<Arc<Reach>> {
        self.stripe(aor).read().get(aor).cloned()
    }

    /// The row of whoever logs in by this name in this domain: `sip:NAME@DOMAIN`.
    pub fn get_login(&self, name: &Aor) -> Option<Arc<Reach>> {
        if let Some(row) = self.get(name)
            && *row.login == *name.user()
            && row.aor == *name
        {
            return Some(row);
        }
        let whose = self.logins.read().get(name).cloned()?;
        self.get(&whose)
    }

    /// Puts a row in place of the one before.
    pub fn publish(&self, row: Arc<Reach>) {
        if let Some(old) = self.get(&row.aor) {
            self.drop_names(&old, Some(&row));
        }
        for alias in &row.aliases {
            self.stripe(alias).write().insert(alias.clone(), row.clone());
        }
        if *row.login != *row.aor.user()
            && let Ok(name) = Aor::new(&row.login, row.aor.domain())
        {
            self.logins.write().insert(name, row.aor.clone());
        }
        self.stripe(&row.aor).write().insert(row.aor.clone(), row);
    }

    /// Takes a user's row away.
    pub fn remove(&self, aor: &Aor) {
        let old = self.stripe(aor).write().remove(aor);
        if let Some(old) = old {
            self.drop_names(&old, None);
        }
    }

    /// Names of an old row that a new one does not have.
    fn drop_names(&self, old: &Reach, new: Option<&Reach>) {
        for alias in old.aliases.iter().filter(|alias| new.is_none_or(|new| !new.aliases.contains(alias))) {
            self.stripe(alias).write().remove(alias);
        }
        if *old.login != *old.aor.user()
            && new.is_none_or(|new| new.login != old.login)
            && let Ok(name) = Aor::new(&old.login, old.aor.domain())
        {
            self.logins.write().remove(&name);
        }
    }

    /// Removes rows whose last binding is over, in one stripe: users who went away without a word. Active users' actors
    /// keep their own rows fresh, so a row that is removed here is made again from the store when it is asked for.
    pub fn sweep(&self, stripe: usize, unix_s: u64) -> usize {
        let is_over = |row: &Reach| !row.ways.is_empty() && row.ways.iter().all(|way| way.expires_unix_s <= unix_s);
        let stripe = &self.stripes[stripe % STRIPES];
        let over: Vec<Aor> = stripe.read().values().filter(|row| is_over(row)).map(|row| row.aor.clone()).collect();
        for aor in &over {
            self.remove(aor);
        }
        over.len()
    }

    /// How many addresses have a row.
    pub fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.read().len()).sum()
    }

    /// Whether nobody has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(aor: &str, login: &str, aliases: &[&str]) -> Arc<Reach> {
        Arc::new(Reach {
            aor: Aor::parse(aor).unwrap(),
            ha1: Ha1::of(login, "example.com", "secret"),
            login: login.into(),
            aliases: aliases.iter().map(|alias| Aor::parse(alias).unwrap()).collect(),
            ways: Box::default(),
            climb: Climb::SEVERAL,
            may_page: true,
            may_register: true,
        })
    }

    fn aor(text: &str) -> Aor {
        Aor::parse(text).unwrap()
    }

    #[test]
    fn a_user_is_found_by_address_alias_and_login_until_the_row_goes() {
        let table = ReachTable::new(KeyedHash::new([1; 16]));
        table.publish(row("sip:alice@example.com", "al", &["tel:+4912345"]));
        assert!(table.get(&aor("sip:alice@example.com")).is_some());
        assert!(table.get(&aor("tel:+4912345")).is_some());
        assert!(table.get_login(&aor("sip:al@example.com")).is_some());
        assert!(table.get_login(&aor("sip:alice@example.com")).is_none(), "she logs in by another name");
        assert!(table.get(&aor("sip:al@example.com")).is_none(), "a login is no address");

        table.publish(row("sip:alice@example.com", "alice", &["tel:+499"]));
        assert!(table.get(&aor("tel:+4912345")).is_none());
        assert!(table.get_login(&aor("sip:al@example.com")).is_none());
        assert!(table.get_login(&aor("sip:alice@example.com")).is_some());

        table.remove(&aor("sip:alice@example.com"));
        assert!(table.is_empty());
    }

    #[test]
    fn only_one_unexpired_contact_without_a_flag_is_relayed_to_at_once() {
        let way = Way { contact: (*b"sip:a@127.0.0.1").into(), hop: Hop::udp(0, "127.0.0.1:5060".parse().unwrap()), expires_unix_s: 100 };
        let mut reach = Arc::into_inner(row("sip:alice@example.com", "alice", &[])).unwrap();
        (reach.ways, reach.climb) = (Box::new([way.clone()]), Climb::empty());
        assert!(reach.only_way(99).is_some());
        assert!(reach.only_way(100).is_none(), "expired");
        reach.climb = Climb::QUEUED;
        assert!(reach.only_way(99).is_none(), "letters wait");
        (reach.ways, reach.climb) = (Box::new([way.clone(), way]), Climb::empty());
        assert!(reach.only_way(99).is_none(), "a fork");
    }
}
