//! Who may log in, and by which other names.
//!
//! A user is one row in the partition of its address. An alias or a login name is a row in a partition of its own that
//! names the user (D21). The user's row is written first and removed last, and another name counts only when the user's
//! row stands and lists it: whatever a crash leaves behind between two commits names nobody.

use base::{Aor, Partition};
use bytes::Bytes;

use crate::ask::Ask;
use crate::engine::{Batch, Expect, Receipt, Rev, Row};
use crate::error::StoreError;
use crate::families::Family;
use crate::flow::Flow;
use crate::keys::{self, Key};
use crate::record::{Reader, Writer};
use crate::store::Store;

const KIND: &str = "account";
const VERSION: u8 = 1;
/// Accounts that one step of [`Store::put_accounts`] has under way; each asks a few reads and commits at once.
const ACCOUNTS_UNDER_WAY: usize = 256;
/// Letters of a removed account that one commit deletes.
const LETTERS_A_COMMIT: usize = 256;

/// A subscriber. Its password is kept only as Digest HA1, by both hashes.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Address of record: the user's key.
    pub aor: Aor,
    /// HA1 by SHA-256 (RFC 7616 §3.4.2).
    pub ha1_sha256: [u8; 32],
    /// HA1 by MD5, for clients that know no other hash.
    pub ha1_md5: [u8; 16],
    /// The realm that both were made for.
    pub realm: String,
    /// Other addresses of the same user.
    pub aliases: Vec<Aor>,
    /// The user name in Digest; `None`: the user part of the address.
    pub login: Option<String>,
    /// Service profile: `all`, `none`, or names joined by `+`.
    pub services: String,
    /// Octets of stored conversations; `None`: as configured for everybody.
    pub history_limit: Option<u64>,
}

impl std::fmt::Debug for Account {
    /// Without the hashes: they are as good as the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("aor", &self.aor)
            .field("realm", &self.realm)
            .field("aliases", &self.aliases)
            .field("login", &self.login)
            .field("services", &self.services)
            .field("history_limit", &self.history_limit)
            .finish_non_exhaustive()
    }
}

impl Account {
    fn write(&self) -> Bytes {
        let mut record = Writer::new(VERSION);
        record.text(self.aor.as_str()).fixed(&self.ha1_sha256).fixed(&self.ha1_md5).text(&self.realm);
        record.number(self.aliases.len() as u64);
        for alias in &self.aliases {
            record.text(alias.as_str());
        }
        record.maybe_text(self.login.as_deref()).text(&self.services).maybe_number(self.history_limit);
        record.finish()
    }

    fn read(record: &Bytes) -> Result<Self, StoreError> {
        let (_, mut fields) = Reader::open(KIND, VERSION, record)?;
        let aor = aor(&fields.text()?)?;
        let (ha1_sha256, ha1_md5, realm) = (fields.fixed()?, fields.fixed()?, fields.text()?);
        let aliases = (0..fields.number()?).map(|_| self::aor(&fields.text()?)).collect::<Result<_, _>>()?;
        let (login, services, history_limit) = (fields.maybe_text()?, fields.text()?, fields.maybe_number()?);
        Ok(Self { aor, ha1_sha256, ha1_md5, realm, aliases, login, services, history_limit })
    }

    /// Its other names.
    fn names(&self) -> impl Iterator<Item = Name> {
        let aliases = self.aliases.iter().cloned().map(Name::Alias);
        aliases.chain(self.login.iter().map(|login| Name::Login(self.aor.domain().to_owned(), login.clone())))
    }
}

fn aor(text: &str) -> Result<Aor, StoreError> {
    Aor::parse(text).map_err(|_| StoreError::Damaged { kind: KIND, what: "it names no address of record" })
}

/// Another name of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Alias(Aor),
    /// Domain and user name of Digest.
    Login(String, String),
}

impl Name {
    fn key(&self) -> Key {
        match self {
            Self::Alias(aor) => keys::alias(aor),
            Self::Login(domain, name) => keys::login(domain, name),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Alias(aor) => aor.as_str(),
            Self::Login(_, name) => name,
        }
    }

    /// Whether the account lists it.
    fn is_of(&self, account: &Account) -> bool {
        account.names().any(|name| name == *self)
    }
}

/// A user name of Digest as user part of an address: what cannot stand there is escaped (RFC 3261 §25.1).
fn escaped(name: &str) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

impl Store {
    /// The account of an address or of an alias.
    pub fn account(&self, aor: &Aor) -> Ask<Option<Account>> {
        let (store, aor) = (self.clone(), aor.clone());
        let direct = self.account_row(&aor);
        Ask::later(async move {
            match direct.await? {
                Some((_, account)) => Ok(Some(account)),
                None => Ok(store.owner(&Name::Alias(aor)).await?.1),
            }
        })
    }

    /// The account that uses this user name in Digest: as its login, or as the user part of its address.
    pub fn by_login(&self, domain: &str, name: &str) -> Ask<Option<Account>> {
        let (store, login) = (self.clone(), Name::Login(domain.to_owned(), name.to_owned()));
        Ask::later(async move {
            match store.owner(&login).await?.1 {
                Some(account) => Ok(Some(account)),
                None => store.unnamed(&login).await,
            }
        })
    }

    /// Writes an account and its other names. With `create_only` an account that exists is [`StoreError::Exists`];
    /// a name that belongs to somebody else is [`StoreError::Taken`], and nothing of the account is written.
    pub fn put_account(&self, account: Account, create_only: bool) -> Ask<()> {
        let all = self.put_accounts(vec![account], create_only);
        Ask::later(async move { all.await?.pop().unwrap_or(Ok(())) })
    }

    /// Writes many accounts, with one verdict each, in their order. Many share one fsync.
    pub fn put_accounts(&self, accounts: Vec<Account>, create_only: bool) -> Ask<Vec<Result<(), StoreError>>> {
        let store = self.clone();
        Ask::later(async move {
            let mut verdicts = Vec::with_capacity(accounts.len());
            let mut accounts = accounts.into_iter().peekable();
            while accounts.peek().is_some() {
                let step = accounts.by_ref().take(ACCOUNTS_UNDER_WAY).collect();
                verdicts.extend(store.put_step(step, create_only).await);
            }
            Ok(verdicts)
        })
    }

    /// Removes an account with its other names, its letters and its bindings; `false`: there was none. A letter that
    /// comes in the meantime may be left behind, it expires.
    pub fn remove_account(&self, aor: &Aor) -> Ask<bool> {
        let (store, aor) = (self.clone(), aor.clone());
        Ask::later(async move {
            let Some((rev, account)) = store.account_row(&aor).await? else { return Ok(false) };
            for name in account.names() {
                store.drop_name(&aor, &name).await?;
            }
            let partition = store.partition(&aor);
            loop {
                let mailbox = keys::mailbox(&aor);
                let rows =
                    store.engine().scan(partition, Family::Spool, mailbox.clone(), mailbox, LETTERS_A_COMMIT).await?;
                if rows.is_empty() {
                    break;
                }
                let mut batch = Batch::new();
                for row in rows {
                    batch.delete(Family::Spool, row.key, Expect::Any);
                }
                store.commit(partition, batch).await?;
            }
            let mut batch = Batch::new();
            batch.delete(Family::Binding, keys::binding(&aor), Expect::Any);
            batch.delete(Family::Account, keys::account(&aor), Expect::Rev(rev));
            store.commit(partition, batch).await?;
            Ok(true)
        })
    }

    /// All accounts, partition by partition.
    pub fn list_accounts(&self) -> Flow<Account> {
        self.load_all(Family::Account).map(|Row { value, .. }| Account::read(&value))
    }

    fn account_row(&self, aor: &Aor) -> Ask<Option<(Rev, Account)>> {
        let row = self.engine().get(self.partition(aor), Family::Account, keys::account(aor));
        row.map(|row| row?.map(|(rev, record)| Ok((rev, Account::read(&record)?))).transpose())
    }

    /// The partition of a name's row.
    fn name_partition(&self, name: &Name) -> Result<Partition, StoreError> {
        match name {
            Name::Alias(aor) => Ok(self.partition(aor)),
            Name::Login(domain, user) => {
                let stand_in = Aor::new(&escaped(&format!("{user}@{domain}")), "login");
                let max = base::limits::AOR_BYTES_MAX;
                stand_in.map(|aor| self.partition(&aor)).map_err(|_| StoreError::TooLarge { bytes: user.len(), max })
            }
        }
    }

    /// The row of a name, and the account that it names, if that account lists it.
    async fn owner(&self, name: &Name) -> Result<(Option<(Rev, Aor)>, Option<Account>), StoreError> {
        let row = self.engine().get(self.name_partition(name)?, Family::Alias, name.key()).await?;
        let Some((rev, record)) = row else { return Ok((None, None)) };
        let (_, mut fields) = Reader::open("alias", VERSION, &record)?;
        let owner = aor(&fields.text()?)?;
        let account = self.account_row(&owner).await?.map(|(_, account)| account);
        Ok((Some((rev, owner)), account.filter(|account| name.is_of(account))))
    }

    /// The account whose user part is this login, and which has no other.
    async fn unnamed(&self, login: &Name) -> Result<Option<Account>, StoreError> {
        let Name::Login(domain, name) = login else { return Ok(None) };
        let Ok(aor) = Aor::new(name, domain).or_else(|_| Aor::new(&escaped(name), domain)) else { return Ok(None) };
        Ok(self.account_row(&aor).await?.map(|(_, account)| account).filter(|account| account.login.is_none()))
    }

    /// One step: reads of all, then the users' rows of all, then the names of all.
    async fn put_step(&self, accounts: Vec<Account>, create_only: bool) -> Vec<Result<(), StoreError>> {
        let rows: Vec<_> = accounts.iter().map(|account| self.account_row(&account.aor)).collect();
        let mut plans = Vec::with_capacity(accounts.len());
        for (account, row) in accounts.into_iter().zip(rows) {
            let plan = match row.await {
                Ok(before) => self.plan(account, before, create_only).await,
                Err(why) => Err(why),
            };
            plans.push(plan.map(|plan| (self.commit(self.partition(&plan.account.aor), plan.user_row()), plan)));
        }
        let mut written = Vec::with_capacity(plans.len());
        for plan in plans {
            written.push(match plan {
                Ok((user, plan)) => match user.await {
                    Ok(_) => Ok((self.commit_names(&plan), plan)),
                    Err(StoreError::Conflict { .. }) if create_only => {
                        Err(StoreError::Exists { aor: plan.account.aor.as_str().into() })
                    }
                    Err(why) => Err(why),
                },
                Err(why) => Err(why),
            });
        }
        let mut verdicts = Vec::with_capacity(written.len());
        for plan in written {
            verdicts.push(match plan {
                Ok((names, plan)) => self.finish(names, &plan).await,
                Err(why) => Err(why),
            });
        }
        verdicts
    }

    /// What is to be written, if every name is free.
    async fn plan(
        &self,
        account: Account,
        before: Option<(Rev, Account)>,
        create_only: bool,
    ) -> Result<Plan, StoreError> {
        if create_only && before.is_some() {
            return Err(StoreError::Exists { aor: account.aor.as_str().into() });
        }
        let taken =
            |name: &str, owner: &Account| StoreError::Taken { name: name.into(), owner: owner.aor.as_str().into() };
        let is_other = |owner: &Account| owner.aor != account.aor;
        if before.is_none()
            && let (_, Some(owner)) = self.owner(&Name::Alias(account.aor.clone())).await?
        {
            return Err(taken(account.aor.as_str(), &owner));
        }
        if account.login.is_none() {
            let login = Name::Login(account.aor.domain().to_owned(), account.aor.user().to_owned());
            if let (_, Some(owner)) = self.owner(&login).await?
                && is_other(&owner)
            {
                return Err(taken(login.text(), &owner));
            }
        }
        let mut names = Vec::new();
        for name in account.names() {
            let (row, owner) = self.owner(&name).await?;
            let same_name = match &name {
                Name::Alias(aor) => self.account_row(aor).await?.map(|(_, account)| account),
                Name::Login(..) => self.unnamed(&name).await?,
            };
            if let Some(owner) = owner.into_iter().chain(same_name).find(is_other) {
                return Err(taken(name.text(), &owner));
            }
            match row {
                Some((_, owner)) if owner == account.aor => {}
                Some((rev, _)) => names.push((self.name_partition(&name)?, name, Expect::Rev(rev))),
                None => names.push((self.name_partition(&name)?, name, Expect::Absent)),
            }
        }
        let gone = before.iter().flat_map(|(_, before)| before.names()).filter(|name| !name.is_of(&account)).collect();
        let expect = before.map_or(Expect::Absent, |(rev, _)| Expect::Rev(rev));
        Ok(Plan { account, expect, names, gone })
    }

    fn commit_names(&self, plan: &Plan) -> Vec<Ask<Receipt>> {
        let commit = |(partition, name, expect): &(Partition, Name, Expect)| {
            let mut record = Writer::new(VERSION);
            record.text(plan.account.aor.as_str());
            let mut batch = Batch::new();
            batch.put(Family::Alias, name.key(), record.finish(), *expect, None);
            self.commit(*partition, batch)
        };
        plan.names.iter().map(commit).collect()
    }

    async fn finish(&self, names: Vec<Ask<Receipt>>, plan: &Plan) -> Result<(), StoreError> {
        let mut verdict = Ok(());
        for (ask, (_, name, _)) in names.into_iter().zip(&plan.names) {
            match ask.await {
                Ok(_) => {}
                // Somebody took it at the same time: the user's row lists a name that does not name it back.
                Err(StoreError::Conflict { .. }) => {
                    verdict = Err(StoreError::Taken { name: name.text().into(), owner: "another account".into() });
                }
                Err(why) => verdict = Err(why),
            }
        }
        for name in &plan.gone {
            self.drop_name(&plan.account.aor, name).await?;
        }
        verdict
    }

    /// Removes the row of a name if it is this user's.
    async fn drop_name(&self, aor: &Aor, name: &Name) -> Result<(), StoreError> {
        let (Some((rev, owner)), _) = self.owner(name).await? else { return Ok(()) };
        if owner != *aor {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.delete(Family::Alias, name.key(), Expect::Rev(rev));
        match self.commit(self.name_partition(name)?, batch).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(why) => Err(why),
        }
    }
}

/// An account that may be written.
struct Plan {
    account: Account,
    expect: Expect,
    /// Names whose rows are to be written.
    names: Vec<(Partition, Name, Expect)>,
    /// Names that it had.
    gone: Vec<Name>,
}

impl Plan {
    fn user_row(&self) -> Batch {
        let mut batch = Batch::new();
        batch.put(Family::Account, keys::account(&self.account.aor), self.account.write(), self.expect, None);
        batch
    }
}
