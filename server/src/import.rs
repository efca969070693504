//! Files of users: CSV lines `aor,password[,alias…][,services=LIST][,history-limit=N][,login=NAME]`, `#` comments.
//!
//! A field that holds a comma or a quote stands in quotes, doubled quotes inside (RFC 4180 §2). Every faulty line is
//! named with its number; the others are taken all the same.

use std::io::BufRead;

use base::limits::IMPORT_LINE_BYTES_MAX;

use crate::accounts::NewUser;
use crate::services;

/// Why a line is no user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// Not UTF-8.
    #[error("the line is not UTF-8")]
    NotUtf8,
    /// Longer than any sane line.
    #[error("the line is longer than {IMPORT_LINE_BYTES_MAX} bytes")]
    TooLong,
    /// A quoted field without an end, or with something behind it.
    #[error("a quoted field is not ended, or something stands behind it")]
    Quotes,
    /// One field only.
    #[error("there is no password (write aor,password)")]
    NoPassword,
    /// An option that is none.
    #[error("{0:?} is no option (services=LIST, history-limit=N or login=NAME)")]
    Option(String),
    /// A number that is none.
    #[error("{0:?} is no number of octets")]
    Number(String),
    /// A service that is none.
    #[error(transparent)]
    Service(#[from] services::NoService),
}

/// Reads a file, line by line: each user, or what is wrong with his line, goes to `take` with the line's number.
///
/// # Errors
/// The file cannot be read, which `unreadable` puts into words, or `take` failed.
pub fn read<E>(
    mut file: impl BufRead,
    unreadable: impl Fn(std::io::Error) -> E,
    mut take: impl FnMut(usize, Result<NewUser, LineFault>) -> Result<(), E>,
) -> Result<(), E> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(&unreadable)? == 0 {
            break;
        }
        let user = match std::str::from_utf8(&line) {
            _ if line.len() > IMPORT_LINE_BYTES_MAX => Err(LineFault::TooLong),
            Ok(text) => match parse_line(text) {
                Ok(None) => continue,
                Ok(Some(user)) => Ok(user),
                Err(fault) => Err(fault),
            },
            Err(_) => Err(LineFault::NotUtf8),
        };
        take(number, user)?;
    }
    Ok(())
}

/// One line; nothing where it is empty or a comment.
///
/// # Errors
/// Why it is no user. Whether his address and his services are good is seen when the account is made.
pub fn parse_line(line: &str) -> Result<Option<NewUser>, LineFault> {
    let line = line.trim_end_matches(['\r', '\n']).trim_start_matches('\u{feff}');
    if line.trim().is_empty() || line.trim_start().starts_with('#') {
        return Ok(None);
    }
    let mut fields = fields(line)?.into_iter();
    let aor = fields.next().unwrap_or_default().trim().to_owned();
    let password = fields.next().ok_or(LineFault::NoPassword)?;
    let mut user = NewUser { aor, password, ..NewUser::default() };
    for field in fields {
        let field = field.trim();
        match field.split_once('=') {
            _ if field.is_empty() => {}
            Some(("services", list)) => {
                let list = services::parse(list)?;
                user.services =
                    Some(if list == "none" { Vec::new() } else { list.split('+').map(str::to_owned).collect() });
            }
            Some(("history-limit", number)) => {
                user.history_limit = Some(number.parse().map_err(|_| LineFault::Number(number.to_owned()))?);
            }
            Some(("login", name)) => user.login = Some(name.to_owned()),
            // An alias: a URI, whose scheme stands before any equals sign.
            _ if field.contains(':') => user.aliases.push(field.to_owned()),
            _ => return Err(LineFault::Option(field.to_owned())),
        }
    }
    Ok(Some(user))
}

fn fields(line: &str) -> Result<Vec<String>, LineFault> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                rest.split_once(',').map_or((rest.to_owned(), None), |(field, rest)| (field.to_owned(), Some(rest)))
            }
        };
        fields.push(field);
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(fields),
        }
    }
}

/// What stands before the closing quote, and what behind the comma that follows it.
fn quoted_field(text: &str) -> Result<(String, Option<&str>), LineFault> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"').ok_or(LineFault::Quotes)?;
        field.push_str(before);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if behind.is_empty() => return Ok((field, None)),
            None => return behind.strip_prefix(',').map(|rest| (field, Some(rest))).ok_or(LineFault::Quotes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> NewUser {
        parse_line(line).unwrap().unwrap()
    }

    #[test]
    fn a_line_has_address_password_aliases_and_options() {
        let user = parsed(
            "sip:alice@example.com,secret,tel:+44-20-1,sip:al@example.com,services=xdm+message,history-limit=500,login=al\r\n",
        );
        assert_eq!((user.aor.as_str(), user.password.as_str()), ("sip:alice@example.com", "secret"));
        assert_eq!(user.aliases, ["tel:+44-20-1", "sip:al@example.com"]);
        assert_eq!(user.services.as_deref(), Some(&["message".to_owned(), "xdm".to_owned()][..]));
        assert_eq!((user.history_limit, user.login.as_deref()), (Some(500), Some("al")));
        assert_eq!(parsed("sip:a@b,x").services, None);
        assert_eq!(parsed("sip:a@b,x,services=none").services, Some(vec![]));
    }

    #[test]
    fn comments_and_empty_lines_are_passed_over() {
        for line in ["", "  \n", "# sip:a@b,x", "  # x", "\u{feff}# with a mark", "\r\n"] {
            assert_eq!(parse_line(line), Ok(None), "{line:?}");
        }
    }

    #[test]
    fn a_password_is_taken_as_it_stands() {
        for (line, password) in [
            ("sip:a@b, x y ", " x y "),
            ("sip:a@b,#1", "#1"),
            ("sip:a@b,a=b:c", "a=b:c"),
            ("sip:a@b,\"a,b\"", "a,b"),
            ("sip:a@b,\"say \"\"x\"\"\",tel:+1", "say \"x\""),
            ("sip:a@b,\"\"", ""),
        ] {
            assert_eq!(parsed(line).password, password, "{line}");
        }
    }

    #[test]
    fn a_faulty_line_is_told_why() {
        for (line, fault) in [
            ("this is no user", LineFault::NoPassword),
            ("sip:a@b,\"open", LineFault::Quotes),
            ("sip:a@b,\"x\"y", LineFault::Quotes),
            ("sip:a@b,x,speed=5", LineFault::Option("speed=5".to_owned())),
            ("sip:a@b,x,bob", LineFault::Option("bob".to_owned())),
            ("sip:a@b,x,history-limit=-1", LineFault::Number("-1".to_owned())),
            ("sip:a@b,x,services=fly", LineFault::Service(services::NoService { word: "fly".to_owned() })),
        ] {
            assert_eq!(parse_line(line), Err(fault), "{line}");
        }
    }

    #[test]
    fn lines_are_numbered_as_an_editor_numbers_them() {
        let mut heard = Vec::new();
        let file =
            [b"# two\nsip:a@b,x\n\n\xff\nsip:c@d".as_slice(), &[b'x'; IMPORT_LINE_BYTES_MAX], b"\nsip:e@f,z"].concat();
        let unreadable = |error: std::io::Error| error;
        read(file.as_slice(), unreadable, |line, user| {
            heard.push((line, user.map(|user| user.aor)));
            Ok(())
        })
        .unwrap();
        let wanted = [
            (2, Ok("sip:a@b".to_owned())),
            (4, Err(LineFault::NotUtf8)),
            (5, Err(LineFault::TooLong)),
            (6, Ok("sip:e@f".to_owned())),
        ];
        assert_eq!(heard, wanted);
    }
}
