//! `parlour user …`: the same on a running server and on a stopped one.

use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;

use base::Aor;
use storage::Store;

use super::failure::Failure;
use super::remote::{Added, Fault, Remote};
use super::store::Access;
use super::{Profile, UserCommand};
use crate::accounts::{self, Change, NewUser, Rules, ShownUser, UserFault};
use crate::settings::Settings;
use crate::{import, say};

/// Users of one request: a few commits, and far below what the admin port takes at once.
const USERS_AT_ONCE: usize = 500;

/// Does one of them.
pub fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { aor, password_stdin, alias, login, profile, at } => {
            let Profile { services, history_limit } = profile;
            let (settings, password) = (at.settings()?, password(password_stdin)?);
            let services = services.map(|services| services.0);
            let user = NewUser { aor: aor.to_string(), password, aliases: alias, login, services, history_limit };
            Place::open(&settings)?.add(&user)
        }
        UserCommand::Set { aor, profile: Profile { services, history_limit }, at } => {
            let change = Change { password: None, services: services.map(|services| services.0), history_limit };
            if change.is_empty() {
                return Err(Failure::new(format!("nothing to set of {aor} (give --services or --history-limit)")));
            }
            Place::open(&at.settings()?)?.change(&aor, &change)
        }
        UserCommand::Passwd { aor, password_stdin, at } => {
            let settings = at.settings()?;
            let change = Change { password: Some(password(password_stdin)?), ..Change::default() };
            Place::open(&settings)?.change(&aor, &change)
        }
        UserCommand::Remove { aor, at } => Place::open(&at.settings()?)?.remove(&aor),
        UserCommand::List(at) => Place::open(&at.settings()?)?.list(),
        UserCommand::Import { file, at } => import(&file, &at.settings()?),
    }
}

/// A subscriber's password, from standard input or asked for twice.
fn password(from_stdin: bool) -> Result<String, Failure> {
    if from_stdin {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        let password = line.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(Failure::new("standard input has no password (write it on the first line)"));
        }
        return Ok(password.to_owned());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("there is no terminal to ask for a password (use --password-stdin)"));
    }
    let password = rpassword::prompt_password("Password: ")?;
    if rpassword::prompt_password("Once more: ")? != password {
        return Err(Failure::new("the two passwords differ (nothing was changed)"));
    }
    Ok(password)
}

/// Where users are kept.
struct Place {
    access: Access,
    rules: Rules,
}

impl Place {
    fn open(settings: &Settings) -> Result<Self, Failure> {
        Ok(Self { access: Access::open(settings)?, rules: Rules::of(settings) })
    }

    fn add(&self, user: &NewUser) -> Result<(), Failure> {
        match &self.access {
            Access::Here(store) => closing(store, accounts::add(store, &self.rules, user)).map(drop),
            Access::There(remote) => remote.add(user),
        }
    }

    fn change(&self, aor: &Aor, change: &Change) -> Result<(), Failure> {
        match &self.access {
            Access::Here(store) => closing(store, accounts::change(store, &self.rules, aor, change)).map(drop),
            Access::There(remote) => remote.change(aor, change),
        }
    }

    fn remove(&self, aor: &Aor) -> Result<(), Failure> {
        match &self.access {
            Access::Here(store) => closing(store, accounts::remove(store, aor)),
            Access::There(remote) => remote.remove(aor),
        }
    }

    fn list(&self) -> Result<(), Failure> {
        match &self.access {
            Access::Here(store) => {
                let mut flow = store.list_accounts();
                while let Some(page) = flow.next_page().wait()? {
                    page.iter().for_each(|account| show(&account.into()));
                }
                Ok(store.close().wait()?)
            }
            Access::There(remote) => remote.list(|user| show(&user)),
        }
    }

    fn add_many(&self, users: &[NewUser]) -> Result<Added, Failure> {
        match &self.access {
            Access::Here(store) => {
                let outcomes = block_on(accounts::add_many(store, &self.rules, users))?;
                let faults = outcomes.into_iter().enumerate().filter_map(|(index, outcome)| {
                    outcome.err().map(|fault| Fault { index, error: fault.to_string() })
                });
                let faults: Vec<_> = faults.collect();
                Ok(Added { added: users.len() - faults.len(), faults })
            }
            Access::There(remote) => remote.add_many(users),
        }
    }

    fn close(self) -> Result<(), Failure> {
        match self.access {
            Access::Here(store) => Ok(store.close().wait()?),
            Access::There(Remote { .. }) => Ok(()),
        }
    }
}

/// Does the work, then closes the store, whatever came of the work.
fn closing<T>(store: &Store, work: impl Future<Output = Result<T, UserFault>>) -> Result<T, Failure> {
    let done = block_on(work)?;
    store.close().wait()?;
    Ok(done?)
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(work))
}

/// One line a user: address, then what is out of the ordinary.
fn show(user: &ShownUser) {
    let mut line = user.aor.clone();
    for alias in &user.aliases {
        line.push_str(&format!(" {alias}"));
    }
    let own_login = Aor::parse(&user.aor).is_ok_and(|aor| aor.user() != user.login);
    if own_login {
        line.push_str(&format!(" login={}", user.login));
    }
    if user.services != ["all"] {
        let services = if user.services.is_empty() { "none".to_owned() } else { user.services.join("+") };
        line.push_str(&format!(" services={services}"));
    }
    if let Some(limit) = user.history_limit {
        line.push_str(&format!(" history-limit={limit}"));
    }
    say::out(line);
}

fn import(file: &Path, settings: &Settings) -> Result<(), Failure> {
    let unreadable = |why: std::io::Error| {
        Failure::new(format!("{}: {why} (name a file of lines aor,password, or - for standard input)", file.display()))
    };
    let mut lines: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(unreadable)?))
    };
    // A directory can be opened, and not be read: that is said before the store is taken.
    lines.fill_buf().map_err(unreadable)?;
    let mut import = Import { place: Place::open(settings)?, waiting: Vec::new(), added: 0, faulty: 0 };
    import::read(lines, unreadable, |line, user| {
        match user {
            Ok(user) => import.waiting.push((line, user)),
            Err(fault) => import.fault(file, line, &fault),
        }
        if import.waiting.len() >= USERS_AT_ONCE { import.flush(file) } else { Ok(()) }
    })?;
    import.flush(file)?;
    import.place.close()?;
    say::out(format_args!("{} users added", import.added));
    if import.faulty == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("{}: {} faulty lines, named above; the others were taken", file.display(), import.faulty)))
}

struct Import {
    place: Place,
    /// With the numbers of their lines.
    waiting: Vec<(usize, NewUser)>,
    added: usize,
    faulty: usize,
}

impl Import {
    fn fault(&mut self, file: &Path, line: usize, fault: &dyn std::fmt::Display) {
        self.faulty += 1;
        say::err(format_args!("{}:{line}: {fault}", file.display()));
    }

    fn flush(&mut self, file: &Path) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (lines, users): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().unzip();
        let Added { added, faults } = self.place.add_many(&users)?;
        self.added += added;
        for Fault { index, error } in faults {
            let line = lines.get(index).copied().unwrap_or(0);
            self.fault(file, line, &error);
        }
        Ok(())
    }
}
