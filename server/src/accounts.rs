//! Subscribers, as an operator makes and changes them: checked here, kept in the store.
//!
//! The admin port and the commands on a stopped server do the same through the same functions. A password is kept as
//! its Digest HA1s only.

use base::Aor;
use base::limits::SECRET_BYTES_MAX;
use serde::{Deserialize, Serialize};
use sip::digest::Ha1;
use storage::{Account, Store, StoreError};

use crate::services::{self, NoService};
use crate::settings::Settings;

/// Aliases of one user: a few telephone numbers and names.
const ALIASES: usize = 32;
/// How often a change is tried that others change in the meantime.
const TRIES: usize = 4;

/// A user to be made: the JSON of `POST /users`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Address of record.
    pub aor: String,
    /// Password, in clear.
    pub password: String,
    /// Further addresses: telephone numbers and addresses of our domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Digest user name; else the user part of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// Services; else all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
    /// Octets of history; else as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_limit: Option<u64>,
}

/// What is to be changed of a user: the JSON of `PUT /users/AOR`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// A new password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Other services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
    /// Another limit of history, octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_limit: Option<u64>,
}

impl Change {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A user as he is shown: without anything secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownUser {
    /// Address of record.
    pub aor: String,
    /// Further addresses.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Digest user name.
    pub login: String,
    /// Services, names or `all` or nothing.
    pub services: Vec<String>,
    /// Octets of history, where they are his own.
    #[serde(default)]
    pub history_limit: Option<u64>,
}

impl From<&Account> for ShownUser {
    fn from(account: &Account) -> Self {
        let services = if account.services == "none" { Vec::new() } else { names(&account.services) };
        Self {
            aor: account.aor.to_string(),
            aliases: account.aliases.iter().map(ToString::to_string).collect(),
            login: login_of(account).to_owned(),
            services,
            history_limit: account.history_limit,
        }
    }
}

fn names(list: &str) -> Vec<String> {
    list.split('+').map(str::to_owned).collect()
}

fn login_of(account: &Account) -> &str {
    account.login.as_deref().unwrap_or_else(|| account.aor.user())
}

/// Why a user is not made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum UserFault {
    /// No address of record.
    #[error("{text:?} is no address of record: {why} (write sip:alice@example.com)")]
    Aor {
        /// What stood there.
        text: String,
        /// Why it is none.
        why: base::aor::AorError,
    },
    /// A telephone number as the main address.
    #[error("{aor} is a telephone number: a user has a sip: address, numbers are its aliases")]
    Number {
        /// The number.
        aor: Aor,
    },
    /// A domain that is not ours.
    #[error("{aor} is of no domain that is served here ({domains}): name one of them, or add it to the configuration")]
    Foreign {
        /// The address.
        aor: Aor,
        /// Our domains.
        domains: String,
    },
    /// The address of a service of ours.
    #[error("{aor} is the address of a service of this server: choose another")]
    Reserved {
        /// The address.
        aor: Aor,
    },
    /// A password that is none.
    #[error("the password is empty, longer than {SECRET_BYTES_MAX} bytes, or has control characters in it")]
    Password,
    /// A login name that is none.
    #[error("{0:?} is no login name: 1 to {SECRET_BYTES_MAX} printable characters without quotes, colon and backslash")]
    Login(String),
    /// Too many aliases.
    #[error("{0} aliases are too many: {ALIASES} at most")]
    Aliases(usize),
    /// A service that is none.
    #[error(transparent)]
    Service(#[from] NoService),
    /// Somebody of that name.
    #[error("{aor} is a user already (change it with `parlour user set` or `parlour user passwd`)")]
    Exists {
        /// The address.
        aor: Aor,
    },
    /// Nobody of that name.
    #[error("there is no user {aor} (`parlour user list` names all there are)")]
    Nobody {
        /// The address.
        aor: Aor,
    },
    /// What the store said.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What makes an address one of ours.
#[derive(Debug, Clone)]
pub struct Rules {
    domains: Vec<String>,
    realm: Option<String>,
    reserved: Vec<String>,
}

impl Rules {
    /// As the configuration says.
    pub fn of(settings: &Settings) -> Self {
        let services = [
            &settings.im.exploder,
            &settings.im.system,
            &settings.rooms.factory,
            &settings.deferred.service,
            &settings.history.service,
        ];
        Self {
            domains: settings.domains.clone(),
            realm: settings.auth.realm.clone(),
            reserved: services.into_iter().cloned().collect(),
        }
    }

    /// The account of a new user.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn account(&self, user: &NewUser) -> Result<Account, UserFault> {
        let aor = parse_aor(&user.aor)?;
        if aor.is_tel() {
            return Err(UserFault::Number { aor });
        }
        self.check_ours(&aor)?;
        let aliases = self.aliases(&aor, &user.aliases)?;
        if let Some(login) = user.login.as_ref().filter(|login| !is_login(login)) {
            return Err(UserFault::Login(login.clone()));
        }
        let login = user.login.clone().filter(|login| login != aor.user());
        let realm = self.realm.clone().unwrap_or_else(|| aor.domain().to_owned());
        let ha1 = ha1(login.as_deref().unwrap_or(aor.user()), &realm, &user.password)?;
        let services = user.services.as_ref().map_or_else(|| Ok("all".to_owned()), |names| services_of(names))?;
        Ok(Account {
            ha1_sha256: ha1.sha256,
            ha1_md5: ha1.md5,
            realm,
            aliases,
            login,
            services,
            history_limit: user.history_limit,
            aor,
        })
    }

    /// Changes an account; a new password is kept for the realm of today.
    ///
    /// # Errors
    /// The first thing that is wrong with the change; then nothing is changed.
    pub fn change(&self, account: &mut Account, change: &Change) -> Result<(), UserFault> {
        let services = change.services.as_ref().map(|names| services_of(names)).transpose()?;
        if let Some(password) = &change.password {
            let realm = self.realm.clone().unwrap_or_else(|| account.aor.domain().to_owned());
            let ha1 = ha1(login_of(account), &realm, password)?;
            (account.ha1_sha256, account.ha1_md5, account.realm) = (ha1.sha256, ha1.md5, realm);
        }
        if let Some(services) = services {
            account.services = services;
        }
        if change.history_limit.is_some() {
            account.history_limit = change.history_limit;
        }
        Ok(())
    }

    fn check_ours(&self, aor: &Aor) -> Result<(), UserFault> {
        if !self.domains.iter().any(|domain| domain == aor.domain()) {
            return Err(UserFault::Foreign { aor: aor.clone(), domains: self.domains.join(", ") });
        }
        if self.reserved.iter().any(|user| user == aor.user()) {
            return Err(UserFault::Reserved { aor: aor.clone() });
        }
        Ok(())
    }

    fn aliases(&self, aor: &Aor, texts: &[String]) -> Result<Vec<Aor>, UserFault> {
        if texts.len() > ALIASES {
            return Err(UserFault::Aliases(texts.len()));
        }
        let mut aliases: Vec<Aor> = Vec::with_capacity(texts.len());
        for text in texts {
            let alias = parse_aor(text)?;
            if !alias.is_tel() {
                self.check_ours(&alias)?;
            }
            if alias != *aor && !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        Ok(aliases)
    }
}

/// An address of record from a text.
///
/// # Errors
/// Why it is none.
pub fn parse_aor(text: &str) -> Result<Aor, UserFault> {
    Aor::parse(text).map_err(|why| UserFault::Aor { text: text.to_owned(), why })
}

fn services_of(names: &[String]) -> Result<String, NoService> {
    services::of_names(names.iter().map(String::as_str))
}

fn is_login(login: &str) -> bool {
    (1..=SECRET_BYTES_MAX).contains(&login.len())
        && !login.chars().any(|c| c.is_control() || c == '"' || c == ':' || c == '\\')
}

fn ha1(login: &str, realm: &str, password: &str) -> Result<Ha1, UserFault> {
    if !(1..=SECRET_BYTES_MAX).contains(&password.len()) || password.chars().any(char::is_control) {
        return Err(UserFault::Password);
    }
    Ok(Ha1::of(login, realm, password))
}

/// Makes a user.
///
/// # Errors
/// What is wrong with it, that it exists, or what the store said.
pub async fn add(store: &Store, rules: &Rules, user: &NewUser) -> Result<Account, UserFault> {
    let account = rules.account(user)?;
    kept(account.clone(), store.put_account(account, true).await)
}

/// Makes many users, many a commit; one outcome for each, in their order.
pub async fn add_many(store: &Store, rules: &Rules, users: &[NewUser]) -> Vec<Result<Account, UserFault>> {
    let read: Vec<_> = users.iter().map(|user| rules.account(user)).collect();
    let good = read.iter().filter_map(|account| account.as_ref().ok().cloned()).collect();
    let verdicts = match store.put_accounts(good, true).await {
        Ok(verdicts) => verdicts,
        Err(why) => vec![Err(why); users.len()],
    };
    let mut verdicts = verdicts.into_iter();
    let mut verdict = || verdicts.next().unwrap_or(Err(StoreError::Closed));
    read.into_iter().map(|read| read.and_then(|account| kept(account, verdict()))).collect()
}

/// What the store said of a new account.
fn kept(account: Account, verdict: Result<(), StoreError>) -> Result<Account, UserFault> {
    match verdict {
        Ok(()) => Ok(account),
        Err(StoreError::Exists { .. }) => Err(UserFault::Exists { aor: account.aor }),
        Err(why) => Err(why.into()),
    }
}

/// Changes a user, who may be named by an alias.
///
/// # Errors
/// What is wrong with the change, that there is nobody, or what the store said.
pub async fn change(store: &Store, rules: &Rules, aor: &Aor, change: &Change) -> Result<Account, UserFault> {
    for _ in 0..TRIES {
        let mut account = find(store, aor).await?;
        rules.change(&mut account, change)?;
        match store.put_account(account.clone(), false).await {
            // Somebody else changed the same user between our reading and our writing.
            Err(StoreError::Conflict { .. }) => {}
            done => return Ok(done.map(|()| account)?),
        }
    }
    Err(UserFault::Store(StoreError::Conflict { found: None }))
}

/// The user of that address or alias.
///
/// # Errors
/// That there is nobody, or what the store said.
pub async fn find(store: &Store, aor: &Aor) -> Result<Account, UserFault> {
    store.account(aor).await?.ok_or_else(|| UserFault::Nobody { aor: aor.clone() })
}

/// Removes a user; an alias alone is none.
///
/// # Errors
/// That there is nobody, or what the store said.
pub async fn remove(store: &Store, aor: &Aor) -> Result<(), UserFault> {
    if store.remove_account(aor).await? { Ok(()) } else { Err(UserFault::Nobody { aor: aor.clone() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(realm: Option<&str>) -> Rules {
        Rules {
            domains: vec!["example.com".to_owned(), "example.org".to_owned()],
            realm: realm.map(str::to_owned),
            reserved: vec!["im-system".to_owned()],
        }
    }

    fn user(aor: &str) -> NewUser {
        NewUser { aor: aor.to_owned(), password: "secret".to_owned(), ..NewUser::default() }
    }

    #[test]
    fn a_password_is_kept_for_the_realm_and_the_login() {
        let own = rules(None).account(&user("sip:bob@EXAMPLE.org")).unwrap();
        assert_eq!(own.ha1_sha256, Ha1::of("bob", "example.org", "secret").sha256);
        assert_eq!((own.realm.as_str(), own.services.as_str()), ("example.org", "all"));
        let with_login = NewUser { login: Some("robert".to_owned()), ..user("sip:bob@example.com") };
        let named = rules(Some("House")).account(&with_login).unwrap();
        assert_eq!(named.ha1_md5, Ha1::of("robert", "House", "secret").md5);
    }

    #[test]
    fn a_new_password_leaves_the_login_and_the_rest() {
        let mut account = rules(None)
            .account(&NewUser {
                login: Some("robert".to_owned()),
                history_limit: Some(7),
                ..user("sip:bob@example.com")
            })
            .unwrap();
        let change = Change { password: Some("other".to_owned()), services: Some(vec![]), history_limit: None };
        rules(None).change(&mut account, &change).unwrap();
        assert_eq!(account.ha1_sha256, Ha1::of("robert", "example.com", "other").sha256);
        assert_eq!((account.services.as_str(), account.history_limit), ("none", Some(7)));
    }

    #[test]
    fn aliases_are_numbers_and_addresses_of_ours_each_once() {
        let aliases = ["tel:+44-20-1", "tel:+44201", "sip:bob@example.com", "sip:robert@example.com"];
        let aliases = aliases.map(str::to_owned).to_vec();
        let account = rules(None).account(&NewUser { aliases, ..user("sip:bob@example.com") }).unwrap();
        let texts: Vec<_> = account.aliases.iter().map(Aor::as_str).collect();
        assert_eq!(texts, ["tel:+44201", "sip:robert@example.com"]);
    }

    #[test]
    fn what_cannot_be_a_user_is_refused_with_the_reason() {
        let with = |change: fn(&mut NewUser)| {
            let mut user = user("sip:bob@example.com");
            change(&mut user);
            user
        };
        for (user, words) in [
            (user("bob"), "no address of record"),
            (user("tel:+44201"), "telephone number"),
            (user("sip:bob@elsewhere.example"), "no domain that is served here (example.com, example.org)"),
            (user("sip:im-system@example.com"), "service of this server"),
            (with(|user| user.password.clear()), "password is empty"),
            (with(|user| user.password = "a\nb".to_owned()), "control characters"),
            (with(|user| user.login = Some("a:b".to_owned())), "no login name"),
            (with(|user| user.aliases = vec!["sip:x@elsewhere.example".to_owned()]), "no domain that is served"),
            (with(|user| user.aliases = vec!["tel:+441".to_owned(); 33]), "too many"),
            (with(|user| user.services = Some(vec!["mesage".to_owned()])), "\"mesage\" is no service"),
        ] {
            let fault = rules(None).account(&user).unwrap_err().to_string();
            assert!(fault.contains(words), "{fault:?} does not say {words:?}");
        }
    }
}
