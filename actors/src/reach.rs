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
        /// There are contacts that take no instant messages: a message does not climb for it, all else does.
        const OTHERS = 1 << 6;
    }
}

/// A contact that takes instant messages.
#[derive(Clone, Debug)]
pub struct Way {
    /// The Request-URI of what goes there and asks for no SIPS.
    pub contact: Box<[u8]>,
    /// The same of what does; nothing where the contact cannot be reached so.
    pub sips: Option<Box<[u8]>>,
    /// Where it is sent.
    pub hop: Hop,
    /// The binding's end.
    pub expires_unix_s: u64,
}

impl Way {
    /// The Request-URI of a request that goes there; nothing where `is_sips`, and there is no secure way.
    pub fn uri(&self, is_sips: bool) -> Option<&[u8]> {
        if is_sips { self.sips.as_deref() } else { Some(&self.contact) }
    }
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
    /// Whether the user may hold sessions.
    pub may_call: bool,
    /// Whether the user may register at all: false when removed or without any service.
    pub may_register: bool,
}

impl Reach {
    /// Whether this address is the user's own.
    pub fn is(&self, address: &Aor) -> bool {
        self.aor == *address || self.aliases.contains(address)
    }

    /// The login as an address, where it is another name than the user part.
    fn other_login(&self) -> Option<Aor> {
        if *self.login == *self.aor.user() {
            return None;
        }
        Aor::new(&self.login, self.aor.domain()).ok()
    }

    /// The one way of an online user, if a message may be relayed where it was read.
    pub fn only_way(&self, unix_s: u64) -> Option<&Way> {
        match &*self.ways {
            [way] if self.climb.difference(Climb::OTHERS).is_empty() && way.expires_unix_s > unix_s => Some(way),
            _ => None,
        }
    }

    /// The one contact of an online user, if what the house knows nothing of may be passed on to it where it was read.
    /// Letters that wait and page messages that are not taken do not matter to it.
    pub fn only_contact(&self, unix_s: u64) -> Option<&Way> {
        match &*self.ways {
            [way] if (Climb::QUEUED | Climb::CLOSED).contains(self.climb) && way.expires_unix_s > unix_s => Some(way),
            _ => None,
        }
    }
}

/// Each a lock of its own, and so small that one of a million users is looked through in a turn (decisions D15).
const STRIPES: usize = 1_024;

type Rows = HashMap<Aor, Arc<Reach>>;

/// All rows, by address and by login.
pub struct ReachTable {
    hash: KeyedHash,
    stripes: Box<[RwLock<Rows>]>,
    /// Logins that differ from the user part: `sip:LOGIN@DOMAIN` to whose they are.
    logins: RwLock<HashMap<Aor, Aor>>,
}

impl ReachTable {
    /// Empty. The hash is keyed because peers choose the addresses.
    pub fn new(hash: KeyedHash) -> Self {
        Self { hash, stripes: (0..STRIPES).map(|_| RwLock::default()).collect(), logins: RwLock::default() }
    }

    fn stripe(&self, aor: &Aor) -> &RwLock<Rows> {
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

    /// Puts a row in place of the one before. A name that both have is there all the while.
    pub fn publish(&self, row: Arc<Reach>) {
        let old = self.stripe(&row.aor).write().insert(row.aor.clone(), row.clone());
        for alias in &row.aliases {
            self.stripe(alias).write().insert(alias.clone(), row.clone());
        }
        if let Some(name) = row.other_login() {
            self.logins.write().insert(name, row.aor.clone());
        }
        if let Some(old) = old {
            self.drop_names(&old, Some(&row));
        }
    }

    /// Takes a user's row away.
    pub fn remove(&self, aor: &Aor) {
        let old = self.stripe(aor).write().remove(aor);
        if let Some(old) = old {
            self.drop_names(&old, None);
        }
    }

    /// Takes this row away, unless another one has taken its place meanwhile.
    pub fn remove_if(&self, row: &Arc<Reach>) {
        let old = {
            let mut stripe = self.stripe(&row.aor).write();
            if !stripe.get(&row.aor).is_some_and(|now| Arc::ptr_eq(now, row)) {
                return;
            }
            stripe.remove(&row.aor)
        };
        if let Some(old) = old {
            self.drop_names(&old, None);
        }
    }

    /// Names of an old row that a new one does not have; those that are somebody else's by now stay his.
    fn drop_names(&self, old: &Reach, new: Option<&Reach>) {
        for alias in old.aliases.iter().filter(|alias| new.is_none_or(|new| !new.aliases.contains(alias))) {
            let mut stripe = self.stripe(alias).write();
            if stripe.get(alias).is_some_and(|row| row.aor == old.aor && *alias != row.aor) {
                stripe.remove(alias);
            }
        }
        if let Some(name) = old.other_login()
            && new.is_none_or(|new| new.login != old.login)
        {
            let mut logins = self.logins.write();
            if logins.get(&name) == Some(&old.aor) {
                logins.remove(&name);
            }
        }
    }

    /// Removes rows whose last binding is over, in one stripe and at most so many: users who went away without a word. The
    /// actor of an active user puts a row back when it is asked for; without one it is made again from the store. How many.
    pub fn sweep(&self, stripe: usize, unix_s: u64, most: usize) -> usize {
        let is_over = |row: &Reach| !row.ways.is_empty() && row.ways.iter().all(|way| way.expires_unix_s <= unix_s);
        let stripe = &self.stripes[stripe % STRIPES];
        let over: Vec<Arc<Reach>> = stripe.read().values().filter(|row| is_over(row)).take(most).cloned().collect();
        over.iter().for_each(|row| self.remove_if(row));
        over.len()
    }

    /// Stripes for [`ReachTable::sweep`].
    pub const fn stripes() -> usize {
        STRIPES
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
            may_call: true,
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
        let way = Way {
            contact: (*b"sip:a@127.0.0.1").into(),
            sips: None,
            hop: Hop::udp(0, "127.0.0.1:5060".parse().unwrap()),
            expires_unix_s: 100,
        };
        let mut reach = Arc::into_inner(row("sip:alice@example.com", "alice", &[])).unwrap();
        (reach.ways, reach.climb) = (Box::new([way.clone()]), Climb::empty());
        assert!(reach.only_way(99).is_some());
        assert!(reach.only_way(100).is_none(), "expired");
        reach.climb = Climb::QUEUED;
        assert!(reach.only_way(99).is_none(), "letters wait");
        assert!(reach.only_contact(99).is_some() && reach.only_contact(100).is_none());
        reach.climb = Climb::OTHERS;
        assert!(reach.only_way(99).is_some(), "the others take no messages");
        assert!(reach.only_contact(99).is_none(), "but all else");
        (reach.ways, reach.climb) = (Box::new([way.clone(), way]), Climb::empty());
        assert!(reach.only_way(99).is_none(), "a fork");
    }

    #[test]
    fn a_name_that_went_over_to_somebody_else_stays_his() {
        let table = ReachTable::new(KeyedHash::new([1; 16]));
        let (number, login) = (aor("tel:+4912345"), aor("sip:al@example.com"));
        let alice = row("sip:alice@example.com", "al", &["tel:+4912345"]);
        table.publish(alice.clone());
        table.publish(row("sip:bob@example.com", "al", &["tel:+4912345"]));
        table.publish(row("sip:alice@example.com", "alice", &[]));
        assert_eq!(table.get(&number).unwrap().aor, aor("sip:bob@example.com"));
        assert_eq!(table.get_login(&login).unwrap().aor, aor("sip:bob@example.com"));
        table.remove(&aor("sip:alice@example.com"));
        assert_eq!(table.get(&number).unwrap().aor, aor("sip:bob@example.com"));
        table.remove(&aor("sip:bob@example.com"));
        assert!(table.get(&number).is_none() && table.get_login(&login).is_none() && table.is_empty());
    }

    #[test]
    fn an_alias_shows_the_newest_row_and_is_never_missing_while_rows_change() {
        let table = Arc::new(ReachTable::new(KeyedHash::new([1; 16])));
        table.publish(row("sip:alice@example.com", "al", &["tel:+491"]));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let looking = std::thread::spawn({
            let (table, stop) = (table.clone(), stop.clone());
            move || {
                let (alias, login) = (aor("tel:+491"), aor("sip:al@example.com"));
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(table.get(&alias).is_some() && table.get_login(&login).is_some());
                }
            }
        });
        for n in 0..2_000 {
            let extra = format!("tel:+49{}", 100 + n % 7);
            let new = row("sip:alice@example.com", "al", &["tel:+491", &extra]);
            table.publish(new.clone());
            assert!(Arc::ptr_eq(&table.get(&aor("tel:+491")).unwrap(), &new));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        looking.join().unwrap();
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_sweep_takes_no_more_than_it_may_and_the_next_one_the_rest() {
        let table = ReachTable::new(KeyedHash::new([1; 16]));
        let hop = Hop::udp(0, "127.0.0.1:5060".parse().unwrap());
        for n in 0..STRIPES * 20 {
            let mut reach = Arc::into_inner(row(&format!("sip:u{n}@example.com"), &format!("u{n}"), &[])).unwrap();
            reach.ways =
                Box::new([Way { contact: (*b"sip:a@127.0.0.1").into(), sips: None, hop, expires_unix_s: 100 }]);
            table.publish(Arc::new(reach));
        }
        let in_stripe = table.stripes[7].read().len();
        assert!(in_stripe > 8, "{in_stripe}");
        assert_eq!((table.sweep(7, 100, 8), table.stripes[7].read().len()), (8, in_stripe - 8));
        while table.sweep(7, 100, 8) == 8 {}
        assert_eq!((table.stripes[7].read().len(), table.len()), (0, STRIPES * 20 - in_stripe));
    }

    #[test]
    fn a_sweep_takes_who_is_over_and_never_a_row_that_was_renewed_meanwhile() {
        let table = ReachTable::new(KeyedHash::new([1; 16]));
        let way = |expires_unix_s| Way {
            contact: (*b"sip:a@127.0.0.1").into(),
            sips: None,
            hop: Hop::udp(0, "127.0.0.1:5060".parse().unwrap()),
            expires_unix_s,
        };
        let until = |name: &str, expires_unix_s| {
            let mut reach = Arc::into_inner(row(name, "login", &[])).unwrap();
            reach.ways = Box::new([way(expires_unix_s)]);
            Arc::new(reach)
        };
        let (old, new) = (until("sip:alice@example.com", 100), until("sip:alice@example.com", 200));
        table.publish(old.clone());
        table.publish(new);
        table.remove_if(&old);
        assert!(table.get(&aor("sip:alice@example.com")).is_some(), "the old row is not the one that stands");
        table.publish(until("sip:bob@example.com", 150));
        table.publish(row("sip:carol@example.com", "carol", &[]));
        let swept: usize = (0..ReachTable::stripes()).map(|stripe| table.sweep(stripe, 150, 9)).sum();
        assert_eq!(swept, 1);
        assert!(table.get(&aor("sip:bob@example.com")).is_none());
        assert!(
            table.get(&aor("sip:alice@example.com")).is_some() && table.get(&aor("sip:carol@example.com")).is_some()
        );
    }
}
