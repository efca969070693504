//! The admin token: made at the first start, in a file that only its owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// Random octets of a token that we make.
const OCTETS: usize = 32;
/// The shortest token that somebody may write into the file himself.
const SHORTEST: usize = 16;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFault {
    /// The file cannot be read.
    #[error("admin token file {}: {why} (see [admin] token_file)", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The file cannot be made.
    #[error("admin token file {} cannot be made: {why} (see [admin] token_file)", file.display())]
    Unmade {
        /// The file.
        file: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// A token that anybody could guess, or that no header can carry.
    #[error(
        "admin token file {} holds no token of {SHORTEST} printable characters or more (remove it: a new one is made)",
        file.display()
    )]
    Weak {
        /// The file.
        file: PathBuf,
    },
}

/// What opens the admin port. It is never shown.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or holds no token.
    pub fn read(file: &Path) -> Result<Self, TokenFault> {
        let text = fs::read_to_string(file).map_err(|why| TokenFault::Unreadable { file: file.to_owned(), why })?;
        let token = text.trim();
        if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenFault::Weak { file: file.to_owned() });
        }
        Ok(Self(token.to_owned()))
    }

    /// Reads the file; makes it, mode 0600, and its directory where there is none. A file that others can read is
    /// closed to them.
    ///
    /// # Errors
    /// It can be neither read nor made, or holds no token.
    pub fn read_or_make(file: &Path) -> Result<Self, TokenFault> {
        let unmade = |why| TokenFault::Unmade { file: file.to_owned(), why };
        // Empty: a start that was killed between making and writing.
        if fs::metadata(file).map_or(true, |meta| meta.is_file() && meta.len() == 0) {
            make(file).map_err(unmade)?;
        }
        let token = Self::read(file)?;
        let mode = fs::metadata(file).map_err(unmade)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(file = %file.display(), mode = format!("{:o}", mode & 0o777), "Others could read the admin token: closed to them");
            fs::set_permissions(file, PermissionsExt::from_mode(0o600)).map_err(unmade)?;
        }
        Ok(token)
    }

    /// Whether the value of an Authorization header shows it. Takes the same time for every wrong token of its length.
    pub fn opens_for(&self, header: Option<&[u8]>) -> bool {
        let Some((scheme, shown)) = header.and_then(|value| value.split_at_checked(7)) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(shown.trim_ascii().ct_eq(self.0.as_bytes()))
    }

    /// The token itself, for who shows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn make(file: &Path) -> io::Result<()> {
    if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir)?;
    }
    let mut octets = [0; OCTETS];
    getrandom::fill(&mut octets).map_err(io::Error::other)?;
    let mut text: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    text.push('\n');
    let mut open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    open.set_permissions(PermissionsExt::from_mode(0o600))?;
    open.write_all(text.as_bytes())?;
    open.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/admin.token");
        let made = Token::read_or_make(&file).unwrap();
        assert_eq!(made.as_str().len(), OCTETS * 2);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Token::read_or_make(&file).unwrap().as_str(), made.as_str());
    }

    #[test]
    fn a_file_that_others_can_read_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t");
        fs::write(&file, "0123456789abcdef").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        Token::read_or_make(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_weak_token_is_refused_and_an_empty_file_is_filled() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t");
        fs::write(&file, "secret\n").unwrap();
        assert!(matches!(Token::read_or_make(&file), Err(TokenFault::Weak { .. })));
        fs::write(&file, "").unwrap();
        assert!(Token::read_or_make(&file).is_ok());
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token("0123456789abcdef".to_owned());
        for (header, opens) in [
            (Some("Bearer 0123456789abcdef"), true),
            (Some("bearer 0123456789abcdef"), true),
            (Some("Bearer 0123456789abcdeF"), false),
            (Some("Bearer 0123456789abcde"), false),
            (Some("Bearer "), false),
            (Some("Basic 0123456789abcdef"), false),
            (Some("0123456789abcdef"), false),
            (None, false),
        ] {
            assert_eq!(token.opens_for(header.map(str::as_bytes)), opens, "{header:?}");
        }
    }
}
