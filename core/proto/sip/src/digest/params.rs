//! The parameters of a challenge or of credentials: `Digest name=value, name="value"` (RFC 3261 §25.1).

use std::borrow::Cow;

use base::limits::SIP_HEAD_BYTES_MAX;
use base::scan::{is_token, trim};

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Another scheme than Digest.
    OtherScheme,
    /// Not a list of parameters.
    Malformed,
    /// A known parameter stands twice.
    Twice(&'static str),
}

/// The values of the parameters `names`, in their order, quotes and escapes taken off; other parameters are passed
/// over.
pub(super) fn read<'a, const N: usize>(
    value: &'a [u8],
    names: &[&'static str; N],
) -> Result<[Option<Cow<'a, str>>; N], Fault> {
    let mut values = [const { None }; N];
    let mut rest = after_scheme(value)?;
    while let Some((name, value)) = next(&mut rest)? {
        let Some(known) = names.iter().position(|known| name.eq_ignore_ascii_case(known)) else { continue };
        // RFC 7235 §2.1: each parameter name occurs once; which of two was meant is not for us to guess.
        if values[known].replace(value).is_some() {
            return Err(Fault::Twice(names[known]));
        }
    }
    Ok(values)
}

fn after_scheme(value: &[u8]) -> Result<&str, Fault> {
    let value = trim(value);
    let end = value.iter().position(|byte| !is_token(*byte)).unwrap_or(value.len());
    if !value[..end].eq_ignore_ascii_case(b"Digest") {
        return Err(Fault::OtherScheme);
    }
    let rest = &value[end..];
    if value.len() > SIP_HEAD_BYTES_MAX || rest.first().is_some_and(|byte| !is_space(*byte)) {
        return Err(Fault::Malformed);
    }
    std::str::from_utf8(rest).map_err(|_| Fault::Malformed)
}

/// One parameter from the front of `rest`, with the comma behind it.
fn next<'a>(rest: &mut &'a str) -> Result<Option<(&'a str, Cow<'a, str>)>, Fault> {
    *rest = rest.trim_start_matches(|c| c == ',' || is_space_char(c));
    if rest.is_empty() {
        return Ok(None);
    }
    let name = token(rest)?;
    let after = skip(name.1).strip_prefix('=').ok_or(Fault::Malformed)?;
    let after = skip(after);
    let (value, after) = match after.strip_prefix('"') {
        Some(text) => quoted(text)?,
        None => token(after).map(|(value, after)| (Cow::Borrowed(value), after))?,
    };
    *rest = skip(after);
    if !rest.is_empty() && !rest.starts_with(',') {
        return Err(Fault::Malformed);
    }
    Ok(Some((name.0, value)))
}

fn token(text: &str) -> Result<(&str, &str), Fault> {
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    if end == 0 { Err(Fault::Malformed) } else { Ok(text.split_at(end)) }
}

/// A quoted string from behind its first quote: what it says, and what follows it.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), Fault> {
    let mut said: Option<String> = None;
    let mut start = 0; // of what is not yet in `said`
    let mut at = 0;
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let tail = &text[start..at];
                let value = match said {
                    Some(said) => Cow::Owned(said + tail),
                    None => Cow::Borrowed(tail),
                };
                return Ok((value, &text[at + 1..]));
            }
            b'\\' => {
                said.get_or_insert_default().push_str(&text[start..at]);
                start = at + 1;
                // RFC 3261 §25.1 quoted-pair: one ASCII character; line ends never.
                if !bytes.get(start).is_some_and(|next| matches!(next, b' '..=b'~' | b'\t')) {
                    return Err(Fault::Malformed);
                }
                at += 2;
            }
            // A line end in here would travel on into whatever is written from the value.
            0..=8 | 10..=31 | 127 => return Err(Fault::Malformed),
            _ => at += 1,
        }
    }
    Err(Fault::Malformed)
}

fn skip(text: &str) -> &str {
    text.trim_start_matches(is_space_char)
}

fn is_space_char(c: char) -> bool {
    u8::try_from(c).is_ok_and(is_space)
}

/// White space, and the line ends of a folded header (RFC 3261 §7.3.1).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Appends `text` as a quoted string.
pub(super) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            // What no quoted string may hold cannot end the line either.
            0..=8 | 10..=31 | 127 => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["a", "b"];

    fn said(value: &str) -> Result<String, Fault> {
        let [a, b] = read(value.as_bytes(), &NAMES)?;
        Ok(format!("{}|{}", a.as_deref().unwrap_or("-"), b.as_deref().unwrap_or("-")))
    }

    #[test]
    fn names_in_any_case_tokens_quotes_escapes_and_folds_are_read() {
        for (value, expected) in [
            ("Digest a=x, b=y", "x|y"),
            ("dIGEST\r\n A = \"x, \\\"y\\\\\" ,\t,B=z ,", "x, \"y\\|z"),
            ("Digest a=\"\"", "|-"),
            ("Digest", "-|-"),
            ("Digest other=\"b=1, a=2\", b=\"J\u{e4}s\u{f8}n\"", "-|J\u{e4}s\u{f8}n"),
        ] {
            assert_eq!(said(value).as_deref(), Ok(expected), "{value:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_parameters_is_refused_by_its_cause() {
        for value in ["Basic YTpi", "", "Digestive a=x", "a=x"] {
            assert_eq!(said(value), Err(Fault::OtherScheme), "{value:?}");
        }
        for value in
            ["Digest a", "Digest =x", "Digest a=", "Digest a=x b=y", "Digest,a=x", "Digest a=\"x", "Digest a=\"x\\"]
        {
            assert_eq!(said(value), Err(Fault::Malformed), "{value:?}");
        }
        for value in ["Digest a=\"x\r\n y\"", "Digest a=\"x\\\n\"", "Digest a=\"x\\\u{e4}\"", "Digest a=\"x\"y"] {
            assert_eq!(said(value), Err(Fault::Malformed), "{value:?}");
        }
        assert_eq!(said("Digest a=x, A=x"), Err(Fault::Twice("a")));
        assert_eq!(read(b"Digest a=\"\xff\"", &NAMES), Err(Fault::Malformed));
    }

    #[test]
    fn a_value_longer_than_any_head_is_refused() {
        let value = format!("Digest a={}", "x".repeat(SIP_HEAD_BYTES_MAX));
        assert_eq!(said(&value), Err(Fault::Malformed));
    }

    #[test]
    fn what_is_written_quoted_reads_the_same() {
        for text in ["", "plain", "a \"b\" \\c", "\u{e4}\u{f8}"] {
            let mut value = b"Digest a=".to_vec();
            push_quoted(&mut value, text);
            assert_eq!(said(std::str::from_utf8(&value).unwrap()), Ok(format!("{text}|-")));
        }
        let mut out = Vec::new();
        push_quoted(&mut out, "a\r\nb");
        assert_eq!(out, b"\"a  b\"");
    }
}
