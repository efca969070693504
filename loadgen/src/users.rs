//! Who the users are: numbered ones with one password, or those of a file; and the file that a server imports.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use base::Aor;
use sip::digest::{Challenge, Ha1};

use crate::plan::Plan;
use crate::wire::Link;

/// One user, with what a client remembers of the server.
pub struct User {
    /// `sip:u7@example.com`.
    pub aor: Aor,
    /// Nothing: challenges cannot be answered.
    pub password: Option<Box<str>>,
    /// Where this user is reached, and registers from.
    pub link: Link,
    /// The number of the last REGISTER.
    pub registers: u32,
    /// The last challenge: its nonce serves for many requests.
    pub login: Option<Box<Login>>,
}

/// How a user answers challenges.
pub struct Login {
    /// What was asked.
    pub challenge: Challenge<'static>,
    /// H(user:realm:password).
    pub ha1: Ha1,
    /// `Authorization` or `Proxy-Authorization`.
    pub header: &'static str,
    /// How often this nonce was answered.
    pub nc: u32,
}

impl User {
    fn new(aor: Aor, password: Option<&str>) -> Self {
        Self { aor, password: password.map(Into::into), link: 0, registers: 0, login: None }
    }
}

/// The users of a plan.
///
/// # Errors
/// The file cannot be read, or a line of it names no user.
pub fn of(plan: &Plan) -> io::Result<Vec<User>> {
    match &plan.users_file {
        Some(path) => from_file(path),
        None => (0..plan.users)
            .map(|n| {
                let aor = Aor::new(&format!("{}{n}", plan.user_prefix), &plan.domain).map_err(invalid)?;
                Ok(User::new(aor, Some(&plan.password)))
            })
            .collect(),
    }
}

/// The lines `aor,password[,…]` of a file; empty ones and those that begin with `#` are passed over.
fn from_file(path: &Path) -> io::Result<Vec<User>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let remedy = "users_file names lines aor,password: parlour-load users > FILE writes some";
        io::Error::new(error.kind(), format!("{}: {error} ({remedy})", path.display()))
    })?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let mut cells = line.split(',').map(str::trim);
            let aor = Aor::parse(cells.next().unwrap_or_default())
                .map_err(|error| invalid(format!("{}: line {number}: {error}", path.display())))?;
            Ok(User::new(aor, cells.next().filter(|cell| !cell.is_empty())))
        })
        .collect()
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A file of numbered users for `parlour user import`.
pub fn csv(count: usize, prefix: &str, domain: &str, password: &str) -> String {
    let mut text = String::from("# aor,password\n");
    for n in 0..count {
        // Writing to a String does not fail.
        let _ = writeln!(text, "sip:{prefix}{n}@{domain},{password}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_for_the_server_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.csv");
        std::fs::write(&path, csv(3, "u", "test.invalid", "secret") + "\nsip:extra@test.invalid\n").unwrap();
        let users = from_file(&path).unwrap();
        let names: Vec<&str> = users.iter().map(|user| user.aor.as_str()).collect();
        assert_eq!(
            names,
            ["sip:u0@test.invalid", "sip:u1@test.invalid", "sip:u2@test.invalid", "sip:extra@test.invalid"]
        );
        assert_eq!(users[2].password.as_deref(), Some("secret"));
        assert_eq!(users[3].password, None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("none")] {
            let error = from_file(&path).err().unwrap().to_string();
            assert!(error.contains(&path.display().to_string()) && error.contains("parlour-load users"), "{error}");
        }
    }

    #[test]
    fn a_faulty_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.csv");
        std::fs::write(&path, "# users\nsip:a@b.c,x\nnobody,x\n").unwrap();
        let error = from_file(&path).err().unwrap().to_string();
        assert!(error.contains("line 3"), "{error}");
    }
}
