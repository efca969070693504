//! The regexp field of a NAPTR (RFC 3402 §3.2): `!expression!replacement!`, applied to one number.

use base::limits::{ENUM_PROGRAM_BYTES_MAX, SIP_URI_BYTES_MAX};
use regex_lite::{Regex, RegexBuilder};

use crate::ere;

/// A substitution that can be applied.
#[derive(Debug)]
pub struct Substitution {
    expression: Regex,
    replacement: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    /// What a group of the expression has taken: 1 to 9.
    Group(usize),
}

impl Substitution {
    /// Nothing for what is none, which is passed over (RFC 6116 §5.2).
    pub fn parse(field: &str) -> Option<Self> {
        let delimiter = field.chars().next()?;
        // RFC 3402 §3.2: neither a digit nor a flag; and an escape delimits nothing.
        if delimiter.is_ascii_digit() || matches!(delimiter, 'i' | '\\') {
            return None;
        }
        let parts = split(&field[delimiter.len_utf8()..], delimiter);
        let &[expression, replacement, flags] = &parts[..] else { return None };
        if !flags.chars().all(|flag| flag.eq_ignore_ascii_case(&'i')) {
            return None;
        }
        let mut builder = RegexBuilder::new(&ere::translate(expression)?);
        builder.case_insensitive(!flags.is_empty()).dot_matches_new_line(true).size_limit(ENUM_PROGRAM_BYTES_MAX);
        let expression = builder.build().ok()?;
        let replacement = pieces(replacement)?;
        // RFC 3402 §3.2: a group that is not there is an error.
        let is_there = |piece: &Piece| !matches!(piece, Piece::Group(group) if *group >= expression.captures_len());
        replacement.iter().all(is_there).then_some(Self { expression, replacement })
    }

    /// What it makes of a number; nothing where the expression does not match.
    pub fn apply(&self, number: &str) -> Option<String> {
        let found = self.expression.captures(number)?;
        let mut made = String::new();
        for piece in &self.replacement {
            match piece {
                Piece::Text(text) => made.push_str(text),
                Piece::Group(group) => made.push_str(found.get(*group).map_or("", |taken| taken.as_str())),
            }
        }
        (made.len() <= SIP_URI_BYTES_MAX).then_some(made)
    }
}

/// At every delimiter that is not escaped.
fn split(text: &str, delimiter: char) -> Vec<&str> {
    let (mut parts, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (at, sign) in text.char_indices() {
        match sign {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if sign == delimiter => {
                parts.push(&text[start..at]);
                start = at + sign.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn pieces(replacement: &str) -> Option<Vec<Piece>> {
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut signs = replacement.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => match signs.next()? {
                '0' => return None,
                group @ '1'..='9' => {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                    pieces.push(Piece::Group(group as usize - '0' as usize));
                }
                escaped => text.push(escaped),
            },
            _ => text.push(sign),
        }
    }
    pieces.push(Piece::Text(text));
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NUMBER: &str = "+441632960083";

    fn made(field: &str) -> Option<String> {
        Substitution::parse(field)?.apply(NUMBER)
    }

    #[test]
    fn a_number_becomes_what_its_rule_says() {
        for (field, wanted) in [
            // RFC 6116 §4, as it is on the wire.
            (r"!^(\+441632960083)$!sip:\1@example.com!", "sip:+441632960083@example.com"),
            (r"!^.*$!mailto:info@example.com!", "mailto:info@example.com"),
            // RFC 6116 §5.2: another delimiter, a flag that does nothing, many groups.
            (r"/^.*$/sip:a@b/i", "sip:a@b"),
            (r"!^\+44(1632)(960)(083)$!sip:\3\2\1\1@b!", "sip:08396016321632@b"),
            (r"#^(\+)(44|(49))(.*)$#sip:\2.\3.\4@b#", "sip:44..1632960083@b"),
            // The delimiter, escaped, is itself.
            (r"!^\+44.*$!sip:a\!b@c!", "sip:a!b@c"),
            (r"|^\+44.*$|sip:a\|b@c|", "sip:a|b@c"),
            (r"!^.*$!SIP:KeepsCase@b!", "SIP:KeepsCase@b"),
            // An expression that nobody has escaped.
            (r"!^+44.*$!sip:a@b!", "sip:a@b"),
            // What the expression does not reach is not part of what is made.
            (r"!1632!sip:a@b!", "sip:a@b"),
        ] {
            assert_eq!(made(field).as_deref(), Some(wanted), "{field}");
        }
    }

    #[test]
    fn what_does_not_match_or_is_no_substitution_makes_nothing() {
        for field in [
            r"!^\+49.*$!sip:a@b!",
            "",
            "!",
            "!^.*$!sip:a@b",
            "!^.*$!sip:a@b!x!",
            "!^.*$!sip:a@b!x",
            "1^.*$1sip:a@b1",
            "i^.*$isip:a@bi",
            r"\^.*$\sip:a@b\",
            r"!^.*$!sip:\1@b!",
            r"!^(.*)$!sip:\2@b!",
            r"!^(.*)$!sip:\0@b!",
            r"!^(.*$!sip:a@b!",
            r"!((((a{200}){200}){200}){200})!sip:a@b!",
        ] {
            assert_eq!(made(field), None, "{field}");
        }
    }

    #[test]
    fn what_would_grow_past_any_uri_makes_nothing() {
        let field = format!(r"!^(.*)$!sip:{}@b!", r"\1".repeat(120));
        assert!(field.len() <= 255 && made(&field).is_none());
    }

    proptest! {
        /// The field is a stranger's.
        #[test]
        fn any_field_is_borne(field in r"[!/][\[\]()|*+?.^$\\{},0-9a!/:@]{0,60}") {
            if let Some(made) = made(&field) {
                prop_assert!(made.len() <= SIP_URI_BYTES_MAX);
            }
        }
    }
}
