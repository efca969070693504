//! Where the password comes from: standard input, the environment, or a prompt that does not show it.

use std::env::{self, VarError};
use std::io::{self, IsTerminal};

use base::Aor;

use super::args::Login;
use super::faults::ProgramError;

/// The environment's name for it.
pub const VARIABLE: &str = "PARLOUR_PASSWORD";

/// Gets it; blocks while a person types, so ask before the network is opened.
pub fn get(login: &Login, aor: &Aor) -> Result<String, ProgramError> {
    if login.password_stdin {
        let mut line = String::new();
        let reading =
            |reason| ProgramError::File { what: "reading the password from standard input".to_owned(), reason };
        if io::stdin().read_line(&mut line).map_err(reading)? == 0 {
            return Err(ProgramError::Usage(
                "--password-stdin: standard input ended before a line with the password".to_owned(),
            ));
        }
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    match env::var(VARIABLE) {
        Ok(password) => return Ok(password),
        Err(VarError::NotUnicode(_)) => return Err(ProgramError::Usage(format!("{VARIABLE} is not UTF-8"))),
        Err(VarError::NotPresent) => {}
    }
    if !io::stdin().is_terminal() {
        return Err(ProgramError::Usage(format!("no password for {aor}: set {VARIABLE}, or use --password-stdin")));
    }
    rpassword::prompt_password(format!("Password of {aor}: "))
        .map_err(|reason| ProgramError::File { what: "asking for the password".to_owned(), reason })
}
