//! Parameters behind a header value: `;name=value;flag;text="quoted"` (RFC 3261 §25.1 `generic-param`).

use std::ops::Range;

use base::scan::is_token;

/// All parameters of one value, borrowed from where they stood: empty, or a text that begins with a semicolon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a [u8]);

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name, as written.
    pub name: &'a [u8],
    /// What stands behind `=`, without white space around it; quotes are kept ([`unquoted`]).
    pub value: Option<&'a [u8]>,
}

/// Where one parameter stands in the text that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub name: Range<usize>,
    pub value: Option<Range<usize>>,
    /// Behind it, white space included.
    pub end: usize,
}

impl<'a> Params<'a> {
    /// Reads over all of them; nothing when one is malformed: an empty one (RFC 4475 §3.1.2.1), an open quote.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        while let Some(place) = next(text, at)? {
            at = place.end;
        }
        Some(Self(text))
    }

    /// In the order in which they stand.
    pub fn iter(self) -> impl Iterator<Item = Param<'a>> {
        self.places().map(move |place| Param { name: &self.0[place.name], value: place.value.map(|at| &self.0[at]) })
    }

    pub(crate) fn places(self) -> impl Iterator<Item = Place> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let place = next(self.0, at)??;
            at = place.end;
            Some(place)
        })
    }

    /// The value of the first one of this name, any case; empty for a flag, without its quotes if it has some.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        let found = self.iter().find(|param| param.name.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(found.value.map_or(&[], unquoted))
    }

    /// Whether one has this name, any case.
    pub fn has(self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// As they stand in the message, semicolons and all.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A quoted string without its quotes; escapes inside stay as they are. Anything else unchanged.
pub fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

/// Linear white space, line ends of folds included (the parser saw to it that they are folds).
pub(crate) fn skip_space(text: &[u8], at: usize) -> usize {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    at + text.get(at..).unwrap_or(&[]).iter().take_while(|byte| space(byte)).count()
}

/// Behind the run of octets that `belongs`.
pub(crate) fn skip_while(text: &[u8], at: usize, belongs: impl Fn(u8) -> bool) -> usize {
    at + text.get(at..).unwrap_or(&[]).iter().take_while(|byte| belongs(**byte)).count()
}

/// Behind the quoted string that begins at `at`; nothing when its end is missing. RFC 3261 §25.1 `quoted-string`.
pub(crate) fn skip_quoted(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The parameter at `at`: `Some(None)` at the end, `None` when it is malformed.
fn next(text: &[u8], at: usize) -> Option<Option<Place>> {
    let at = skip_space(text, at);
    match text.get(at) {
        None => return Some(None),
        Some(b';') => {}
        Some(_) => return None,
    }
    let start = skip_space(text, at + 1);
    let name = start..skip_while(text, start, is_token);
    if name.is_empty() {
        return None;
    }
    let mut end = skip_space(text, name.end);
    let mut value = None;
    if text.get(end) == Some(&b'=') {
        let start = skip_space(text, end + 1);
        let stop = if text.get(start) == Some(&b'"') {
            skip_quoted(text, start)?
        } else {
            skip_while(text, start, |byte| !matches!(byte, b';' | b' ' | b'\t' | b'\r' | b'\n' | b'"'))
        };
        value = Some(start..stop);
        end = skip_space(text, stop);
    }
    matches!(text.get(end), None | Some(b';')).then_some(Some(Place { name, value, end }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_with_white_space_quotes_and_folds() {
        let params = Params::parse(b" ; a = 1;Flag;q=\"x;\\\"y\" ;\r\n b=[::1]:5 ").unwrap();
        let all: Vec<_> = params.iter().map(|p| (p.name, p.value)).collect();
        let expected: [(&[u8], Option<&[u8]>); 4] =
            [(b"a", Some(b"1")), (b"Flag", None), (b"q", Some(b"\"x;\\\"y\"")), (b"b", Some(b"[::1]:5"))];
        assert_eq!(all, expected);
        assert_eq!(params.get("A"), Some(&b"1"[..]));
        assert_eq!(params.get("flag"), Some(&b""[..]));
        assert_eq!(params.get("q"), Some(&b"x;\\\"y"[..]));
        assert!(params.has("FLAG") && !params.has("c"));
    }

    #[test]
    fn empty_parameters_and_open_quotes_are_malformed() {
        for text in
            [";", ";;a", ";a;", ";a=\"x", ";a=\"x\\\"", ";a b", "a=1", ";a=1 2", ";=1", ";a=\"b\"c", ";a=b\"c\""]
        {
            assert_eq!(Params::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Params::parse(b"  "), Some(Params(b"  ")));
    }
}
